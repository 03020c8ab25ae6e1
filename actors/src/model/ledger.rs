//! What was pulled of one shard and not yet committed, in order.
//!
//! Every reply that moves the cursor is an entry, from the cursor it was pulled with to the cursor after it. An entry is
//! pending, settled or failed; a position may be committed only when everything before it is settled (I1). When an
//! entry failed, nothing after it counts any more: once all tickets have come home, reading goes back to the first
//! entry that is not settled, with the next generation.

use std::collections::VecDeque;

use super::cursor::Cursor;
use super::ids::{Generation, Sequence};

/// The ledger of one shard within one epoch.
#[derive(Debug)]
pub struct Ledger {
    generation: Generation,
    next: Sequence,
    /// Ascending by sequence, without holes.
    entries: VecDeque<Entry>,
    pending: usize,
    /// The lowest sequence that has failed.
    failed: Option<Sequence>,
}

#[derive(Debug)]
struct Entry {
    sequence: Sequence,
    from: Cursor,
    to: Cursor,
    log_groups: u32,
    received_s: Option<i64>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Pending,
    Settled,
    Failed,
}

/// A position before which everything is settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// The next log group to read.
    pub cursor: Cursor,
    /// Unix seconds at which SLS received the last settled group, where told.
    pub received_s: Option<i64>,
}

impl Default for Ledger {
    fn default() -> Self {
        Self { generation: Generation(0), next: Sequence(0), entries: VecDeque::new(), pending: 0, failed: None }
    }
}

impl Ledger {
    /// The current attempt.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// Enters a batch that has a ticket, and says its sequence. A gap record stands for no log groups.
    pub fn enter(&mut self, from: Cursor, to: Cursor, log_groups: u32, received_s: Option<i64>) -> Sequence {
        self.pending += 1;
        self.push(Entry { sequence: self.next, from, to, log_groups, received_s, state: State::Pending })
    }

    /// Enters a reply without logs whose cursor moved (rule O3): settled at once, counted in its turn.
    pub fn enter_settled(&mut self, from: Cursor, to: Cursor, received_s: Option<i64>) {
        self.push(Entry { sequence: self.next, from, to, log_groups: 0, received_s, state: State::Settled });
    }

    /// Records how a ticket ended; one of an older generation, or a second one for the same batch, changes nothing.
    pub fn settle(&mut self, generation: Generation, sequence: Sequence, delivered: bool) {
        if generation != self.generation {
            return;
        }
        let Some(entry) = self.place(sequence).and_then(|at| self.entries.get_mut(at)) else { return };
        if entry.state != State::Pending {
            return;
        }
        entry.state = if delivered { State::Settled } else { State::Failed };
        self.pending -= 1;
        if !delivered {
            self.failed = Some(self.failed.map_or(sequence, |lowest| lowest.min(sequence)));
        }
    }

    /// How many log groups a batch of this generation holds, if its ticket is pending.
    pub fn pending_groups(&self, sequence: Sequence) -> Option<u32> {
        let entry = self.entries.get(self.place(sequence)?)?;
        (entry.state == State::Pending).then_some(entry.log_groups)
    }

    /// From where to where a batch of this generation goes, if it has not been removed.
    pub fn span(&self, sequence: Sequence) -> Option<(&Cursor, &Cursor)> {
        let entry = self.entries.get(self.place(sequence)?)?;
        Some((&entry.from, &entry.to))
    }

    /// Removes the settled entries at the front and says the position after them, if there were any.
    pub fn advance(&mut self) -> Option<Position> {
        let mut position = None;
        while self.entries.front().is_some_and(|entry| entry.state == State::Settled) {
            position = self.entries.pop_front().map(|e| Position { cursor: e.to, received_s: e.received_s });
        }
        position
    }

    /// Whether an entry has failed, so that nothing may be pulled until [`Ledger::rewind`].
    pub fn has_failed(&self) -> bool {
        self.failed.is_some()
    }

    /// The first batch that has failed: what lies behind it is pulled again with it.
    pub fn first_failed(&self) -> Option<Sequence> {
        self.failed
    }

    /// Tickets of this generation that have not come home.
    pub fn pending(&self) -> usize {
        self.pending
    }

    /// Whether everything that was pulled is settled and handed out by [`Ledger::advance`].
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The first sequence that is not settled: what a stop with a deadline fails.
    pub fn first_unsettled(&self) -> Sequence {
        self.entries.iter().find(|e| e.state != State::Settled).map_or(self.next, |e| e.sequence)
    }

    /// Begins the next generation once all tickets of a failed one have come home, and says where to read on.
    /// What was delivered behind the failed batch is pulled again.
    pub fn rewind(&mut self) -> Option<Cursor> {
        if self.failed.is_none() || self.pending > 0 {
            return None;
        }
        debug_assert!(self.entries.front().is_none_or(|e| e.state != State::Settled), "advance comes before rewind");
        let from = self.entries.iter().find(|e| e.state != State::Settled).map(|e| e.from.clone());
        self.entries.clear();
        self.failed = None;
        self.generation = Generation(self.generation.0 + 1);
        from
    }

    /// Where the entry of a sequence lies, if it has not been removed or is still to come.
    fn place(&self, sequence: Sequence) -> Option<usize> {
        let first = self.entries.front()?.sequence;
        usize::try_from(sequence.0.checked_sub(first.0)?).ok()
    }

    fn push(&mut self, entry: Entry) -> Sequence {
        let sequence = entry.sequence;
        self.next = Sequence(sequence.0 + 1);
        self.entries.push_back(entry);
        sequence
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cursor(n: u64) -> Cursor {
        Cursor::new(&format!("c{n}")).expect("printable")
    }

    fn position(n: u64) -> Option<Position> {
        Some(Position { cursor: cursor(n), received_s: None })
    }

    #[test]
    fn i1_a_position_waits_for_everything_before_it() {
        let mut ledger = Ledger::default();
        let a = ledger.enter(cursor(0), cursor(1), 1, None);
        let b = ledger.enter(cursor(1), cursor(2), 1, None);
        ledger.enter_settled(cursor(2), cursor(3), None);
        let g = ledger.generation();
        ledger.settle(g, b, true);
        assert_eq!(ledger.advance(), None);
        ledger.settle(g, a, true);
        assert_eq!(ledger.advance(), position(3));
        assert!(ledger.is_empty());
    }

    #[test]
    fn a_failed_batch_is_read_again_once_all_tickets_are_home() {
        let mut ledger = Ledger::default();
        let g = ledger.generation();
        let a = ledger.enter(cursor(0), cursor(1), 1, None);
        let b = ledger.enter(cursor(1), cursor(2), 1, None);
        let c = ledger.enter(cursor(2), cursor(3), 1, None);
        ledger.settle(g, b, false);
        assert_eq!((ledger.has_failed(), ledger.rewind()), (true, None));
        ledger.settle(g, c, true);
        ledger.settle(g, a, true);
        assert_eq!(ledger.advance(), position(1));
        assert_eq!(ledger.rewind(), Some(cursor(1)));
        assert_eq!(ledger.generation(), Generation(1));
        // The old generation's settlements change nothing, and sequences are not reused.
        let again = ledger.enter(cursor(1), cursor(2), 1, None);
        assert!(again > c);
        ledger.settle(g, b, true);
        assert_eq!(ledger.advance(), None);
        ledger.settle(ledger.generation(), again, true);
        assert_eq!(ledger.advance(), position(2));
    }

    proptest! {
        /// Against a naive model: a list of everything ever entered in this generation with its state.
        #[test]
        fn i1_no_position_passes_an_unsettled_batch(
            steps in prop::collection::vec((0u8..4, any::<prop::sample::Index>()), 1..80)
        ) {
            let mut ledger = Ledger::default();
            let mut model: Vec<(Sequence, u64, Option<bool>)> = Vec::new();
            let (mut read, mut committed) = (0u64, 0u64);
            for (step, pick) in steps {
                match step {
                    0 if !ledger.has_failed() => {
                        let sequence = ledger.enter(cursor(read), cursor(read + 1), 1, None);
                        read += 1;
                        model.push((sequence, read, None));
                    }
                    1 | 2 => {
                        let open: Vec<usize> =
                            (0..model.len()).filter(|at| model[*at].2.is_none()).collect();
                        if !open.is_empty() {
                            let at = *pick.get(&open);
                            model[at].2 = Some(step == 1);
                            ledger.settle(ledger.generation(), model[at].0, step == 1);
                        }
                    }
                    _ => {
                        if let Some(from) = ledger.rewind() {
                            let first = model.iter().find(|m| m.2 != Some(true)).expect("something failed").1 - 1;
                            prop_assert_eq!(from, cursor(first));
                            read = first;
                            model.clear();
                        }
                    }
                }
                if let Some(at) = ledger.advance() {
                    let settled = model.iter().take_while(|m| m.2 == Some(true)).count();
                    prop_assert!(settled > 0);
                    prop_assert_eq!(at.cursor, cursor(model[settled - 1].1));
                    prop_assert!(model[settled - 1].1 > committed, "I2: never backwards");
                    committed = model[settled - 1].1;
                    model.drain(..settled);
                }
            }
        }
    }
}
