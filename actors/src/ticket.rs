//! The ticket: one per batch, travels with it, settles once.
//!
//! A ticket is delivered or failed. Dropped unsettled it counts as failed, so every forgotten branch, a panic
//! included, is a replay and never a loss.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use actix::Recipient;

use crate::credit::Credit;
use crate::messages::{BatchSettled, Outcome, RefusedLog};
use crate::model::bad_body::BadBody;
use crate::model::ids::{Epoch, Generation, Sequence, ShardId};

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
    _credit: Option<Credit>,
}

impl Ticket {
    /// A ticket that reports to `report_to` and returns `credit` when it ends.
    pub fn new(
        (shard, epoch, generation, sequence): (ShardId, Epoch, Generation, Sequence),
        failed_from: FailedFrom,
        report_to: Recipient<BatchSettled>,
        credit: Option<Credit>,
    ) -> Self {
        Self { shard, epoch, generation, sequence, failed_from, report_to: Some(report_to), _credit: credit }
    }

    /// Every log of the batch is confirmed, or named by a confirmed gap record.
    pub fn delivered(self, logs: u64) {
        self.delivered_except(logs, Vec::new());
    }

    /// As [`Ticket::delivered`], but the receiver does not take these logs; a confirmed gap record names each.
    pub fn delivered_except(mut self, logs: u64, refused: Vec<RefusedLog>) {
        self.settle(Outcome::Delivered { logs, refused });
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
pub struct PieceGuard(Option<(FailedFrom, Sequence)>);

impl PieceGuard {
    /// Guards a piece of the batch to which `ticket` belongs.
    pub fn of(ticket: &Ticket) -> Self {
        Self(Some((ticket.failed_from.clone(), ticket.sequence)))
    }

    /// For the piece that holds the ticket itself.
    pub fn none() -> Self {
        Self(None)
    }

    /// The piece is confirmed.
    pub fn confirmed(mut self) {
        self.0 = None;
    }
}

impl Drop for PieceGuard {
    fn drop(&mut self) {
        if let Some((failed_from, sequence)) = &self.0 {
            failed_from.lower_to(*sequence);
        }
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
