//! The ticket: one per batch, travels with it, settles once.
//!
//! A ticket is delivered or failed. Dropped unsettled it counts as failed, so every forgotten branch, a panic
//! included, is a replay and never a loss.
//!
//! A batch may leave its formatter in several pieces, of which the last carries the ticket and each other one a
//! [`PieceGuard`]. The batch is delivered when all of them are confirmed, in whatever order, and fails when one of them is
//! dropped.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use actix::Recipient;

use crate::credit::Credit;
use crate::messages::{BatchSettled, Outcome, RefusedLog};
use crate::model::ids::{Epoch, Generation, Sequence, ShardId};

pub use crate::model::bad_body::BadBody;

/// The lowest failed sequence of one generation of a shard, shared by all its tickets and pieces (rule O1).
///
/// Formatter and connection drop whatever lies at or above it, so nothing overtakes a failed batch.
#[derive(Debug, Clone)]
pub struct FailedFrom(Arc<AtomicU64>);

impl FailedFrom {
    /// Nothing has failed.
    pub fn none() -> Self {
        Self(Arc::new(AtomicU64::new(u64::MAX)))
    }

    /// Records that `sequence` failed, and with it everything after it.
    pub fn lower_to(&self, sequence: Sequence) {
        self.0.fetch_min(sequence.0, Ordering::AcqRel);
    }

    /// Whether both are the cell of the same generation of the same shard.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Whether `sequence` lies at or above the lowest failed one.
    pub fn covers(&self, sequence: Sequence) -> bool {
        sequence.0 >= self.0.load(Ordering::Acquire)
    }
}

/// What travels with a batch and reports its end, once (I4).
#[derive(Debug)]
pub struct Ticket {
    /// The shard it belongs to.
    pub shard: ShardId,
    /// The lease under which it was pulled.
    pub epoch: Epoch,
    /// The attempt to which it belongs.
    pub generation: Generation,
    /// Its place in the shard's order.
    pub sequence: Sequence,
    failed_from: FailedFrom,
    report_to: Option<Recipient<BatchSettled>>,
    pieces: Pieces,
    _credit: Option<Credit>,
}

/// What a ticket and the guards of its batch have in common.
#[derive(Debug, Clone, Default)]
struct Pieces(Arc<Mutex<Open>>);

#[derive(Debug, Default)]
struct Open {
    /// Guards that live.
    guarded: usize,
    /// The ticket, once delivered while guards lived: it settles with the last of them.
    delivered: Option<(Ticket, Outcome)>,
}

impl Pieces {
    fn lock(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticket {
    /// A ticket that reports to `report_to` and returns `credit` when it ends.
    pub fn new(
        (shard, epoch, generation, sequence): (ShardId, Epoch, Generation, Sequence),
        failed_from: FailedFrom,
        report_to: Recipient<BatchSettled>,
        credit: Option<Credit>,
    ) -> Self {
        Self {
            shard,
            epoch,
            generation,
            sequence,
            failed_from,
            report_to: Some(report_to),
            pieces: Pieces::default(),
            _credit: credit,
        }
    }

    /// Every log of the batch is confirmed, or named by a confirmed gap record. While pieces of the batch are unconfirmed
    /// it waits for them.
    pub fn delivered(self, logs: u64) {
        self.delivered_except(logs, Vec::new());
    }

    /// As [`Ticket::delivered`], but the receiver does not take these logs; a confirmed gap record names each.
    pub fn delivered_except(mut self, logs: u64, refused: Vec<RefusedLog>) {
        let outcome = Outcome::Delivered { logs, refused };
        let pieces = self.pieces.clone();
        let mut open = pieces.lock();
        if open.guarded > 0 {
            open.delivered = Some((self, outcome));
            return;
        }
        drop(open);
        self.settle(outcome);
    }

    /// The batch has to be pulled again.
    pub fn failed(mut self, why: FailReason) {
        self.settle(Outcome::Failed(why));
    }

    /// Whether an earlier batch (or this one) has failed, so that this one must not be sent.
    pub fn is_superseded(&self) -> bool {
        self.failed_from.covers(self.sequence)
    }

    /// The cell that this ticket shares with its generation, for the pieces of the batch.
    pub fn failed_from(&self) -> &FailedFrom {
        &self.failed_from
    }

    fn settle(&mut self, outcome: Outcome) {
        let Some(report_to) = self.report_to.take() else { return };
        // A piece of the batch was dropped (see `PieceGuard`), or an earlier batch failed: it is pulled again anyway.
        let outcome = if self.is_superseded() && matches!(outcome, Outcome::Delivered { .. }) {
            Outcome::Failed(FailReason::Superseded)
        } else {
            outcome
        };
        if let Outcome::Failed(_) = outcome {
            self.failed_from.lower_to(self.sequence);
        }
        // actix fact 3: always enqueued. Bounded by the batch credits, because a ticket settles once.
        report_to.do_send(BatchSettled {
            shard: self.shard,
            epoch: self.epoch,
            generation: self.generation,
            sequence: self.sequence,
            outcome,
        });
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.settle(Outcome::Failed(FailReason::Dropped));
    }
}

/// Held by each piece of a batch but the last, which holds the ticket. A piece that is dropped unconfirmed fails its
/// batch, whatever becomes of the ticket: nobody can lose the middle of a batch by forgetting it.
#[derive(Debug)]
pub struct PieceGuard(Option<Guarded>);

#[derive(Debug)]
struct Guarded {
    failed_from: FailedFrom,
    sequence: Sequence,
    pieces: Pieces,
}

impl PieceGuard {
    /// Guards a piece of the batch to which `ticket` belongs.
    pub fn of(ticket: &Ticket) -> Self {
        ticket.pieces.lock().guarded += 1;
        Self(Some(Guarded {
            failed_from: ticket.failed_from.clone(),
            sequence: ticket.sequence,
            pieces: ticket.pieces.clone(),
        }))
    }

    /// For the piece that holds the ticket itself.
    pub fn none() -> Self {
        Self(None)
    }

    /// The piece is confirmed.
    pub fn confirmed(mut self) {
        self.end(true);
    }

    fn end(&mut self, is_confirmed: bool) {
        let Some(Guarded { failed_from, sequence, pieces }) = self.0.take() else { return };
        if !is_confirmed {
            failed_from.lower_to(sequence);
        }
        let mut open = pieces.lock();
        open.guarded -= 1;
        let waiting = if open.guarded == 0 || !is_confirmed { open.delivered.take() } else { None };
        drop(open);
        if let Some((mut ticket, outcome)) = waiting {
            ticket.settle(outcome);
        }
    }
}

impl Drop for PieceGuard {
    fn drop(&mut self) {
        self.end(false);
    }
}

/// Why a batch ended without being delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FailReason {
    /// The ticket was dropped: an actor ended with it in hand.
    Dropped,
    /// An earlier batch of the generation failed, or the shard was told to stop.
    Superseded,
    /// The whole body failed by itself (rule O2): decompression, size, walking, or a panic caught round its rendering.
    BadBody {
        /// What is wrong with it.
        why: String,
        /// Which body it was.
        body: BadBody,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::probe::{Probed, probe};
    use crate::testing::runtime::run;

    fn ticket() -> (Ticket, Probed<BatchSettled>) {
        let (report_to, settled) = probe();
        let numbers = (ShardId(0), Epoch(1), Generation(0), Sequence(7));
        (Ticket::new(numbers, FailedFrom::none(), report_to, None), settled)
    }

    /// Ends the pieces of one batch in this order, and says how it settled. The last piece, which holds the ticket, is number
    /// 2; those in `dropped` are not confirmed.
    fn settled(order: [usize; 3], dropped: &[usize]) -> Outcome {
        let mut outcome = None;
        run(async {
            let (ticket, mut settled) = ticket();
            let failed_from = ticket.failed_from().clone();
            let mut guards = [0, 1].map(|_| Some(PieceGuard::of(&ticket)));
            let mut ticket = Some(ticket);
            for (at, piece) in order.into_iter().enumerate() {
                let is_dropped = dropped.contains(&piece);
                match guards.get_mut(piece).map(|guard| guard.take().expect("each once")) {
                    Some(guard) if is_dropped => drop(guard),
                    Some(guard) => guard.confirmed(),
                    None => {
                        let ticket = ticket.take().expect("once");
                        if is_dropped { drop(ticket) } else { ticket.delivered(3) }
                    }
                }
                tokio::task::yield_now().await;
                if let Some(settled) = settled.try_next() {
                    assert!(outcome.replace(settled.outcome).is_none(), "I4: {order:?} {dropped:?}");
                    assert!(at == 2 || !dropped.is_empty(), "before all were confirmed: {order:?}");
                }
            }
            assert_eq!(failed_from.covers(Sequence(7)), !dropped.is_empty());
        });
        outcome.expect("it settles")
    }

    #[test]
    fn i4_a_batch_is_delivered_with_the_last_of_its_pieces_whichever_that_is_and_fails_with_any_of_them() {
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            assert_eq!(settled(order, &[]), Outcome::Delivered { logs: 3, refused: Vec::new() }, "{order:?}");
            for dropped in [&[0][..], &[1], &[2], &[0, 1], &[0, 2], &[0, 1, 2]] {
                assert!(matches!(settled(order, dropped), Outcome::Failed(_)), "{order:?} {dropped:?}");
            }
        }
    }
}
