//! Which checkpoint is sent when: per shard the newest settled position, one at a time, never backwards.
//!
//! The table sees positions in ledger order only, because a shard's fetcher is their only source and an epoch begins
//! with a clean slot (I2). Whether a commit may be sent at all is the lease table's word (I3), asked at the last moment.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::cursor::Cursor;
use super::ids::{Epoch, ShardId};

/// At most this many commits are in flight (rule L3).
pub const MAX_IN_FLIGHT: usize = 16;

/// The commits of one consumer.
#[derive(Debug)]
pub struct CommitTable {
    interval: Duration,
    slots: BTreeMap<ShardId, Slot>,
    /// Last position that SLS confirmed, kept when the lease ends (rule L6).
    confirmed: BTreeMap<ShardId, Cursor>,
    /// Shards with a commit under way, be it of a lease that has ended.
    in_flight: BTreeSet<ShardId>,
    /// Shards with something to commit and none under way, by when that is due: in turn, so that none waits for ever
    /// where all together have more to commit than can be in flight.
    waiting: BTreeSet<(Instant, ShardId)>,
}

#[derive(Debug)]
struct Slot {
    epoch: Epoch,
    wanted: Option<Wanted>,
    /// The commit under way is of this lease.
    in_flight: bool,
    committed: Option<Cursor>,
    /// The last commit failed, which SLS may have stored nevertheless.
    in_doubt: bool,
    not_before: Instant,
    /// Its place among those that wait.
    waits_for: Option<Instant>,
}

#[derive(Debug)]
struct Wanted {
    cursor: Cursor,
    even_if_unchanged: bool,
}

/// A commit to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// The shard.
    pub shard: ShardId,
    /// The lease under which the position was reached.
    pub epoch: Epoch,
    /// The position.
    pub cursor: Cursor,
    /// It is committed already under this lease, and is committed once more (rule L5).
    pub repeated: bool,
}

impl CommitTable {
    /// A table that commits each shard at most once per `interval`.
    pub fn new(interval: Duration) -> Self {
        Self {
            interval,
            slots: BTreeMap::new(),
            confirmed: BTreeMap::new(),
            in_flight: BTreeSet::new(),
            waiting: BTreeSet::new(),
        }
    }

    /// A lease begins: a clean slot. A commit of an earlier epoch that is still in flight changes nothing here, but the
    /// first one of the new epoch waits for its end: it could overtake it on its way to SLS.
    pub fn begin(&mut self, now: Instant, shard: ShardId, epoch: Epoch) {
        self.end(shard);
        let not_before = now + self.interval;
        let slot = Slot {
            epoch,
            wanted: None,
            in_flight: false,
            committed: None,
            in_doubt: false,
            not_before,
            waits_for: None,
        };
        self.slots.insert(shard, slot);
    }

    /// Everything before `cursor` is settled. A position of another epoch is ignored.
    pub fn ready(&mut self, shard: ShardId, epoch: Epoch, cursor: Cursor, even_if_unchanged: bool) {
        if let Some(slot) = self.slots.get_mut(&shard).filter(|slot| slot.epoch == epoch) {
            slot.wanted = Some(Wanted { cursor, even_if_unchanged });
            slot.forget_unchanged();
            self.queue(shard);
        }
    }

    /// The shard is to be released: its newest position is due at once.
    pub fn flush(&mut self, now: Instant, shard: ShardId) {
        if let Some(slot) = self.slots.get_mut(&shard) {
            slot.not_before = slot.not_before.min(now);
            self.queue(shard);
        }
    }

    /// Whether nothing is left to commit for this lease.
    pub fn is_done(&self, shard: ShardId, epoch: Epoch) -> bool {
        let open = |slot: &Slot| slot.epoch == epoch && (slot.wanted.is_some() || slot.in_flight);
        !self.slots.get(&shard).is_some_and(open)
    }

    /// The next commit to send, if one is due and allowed.
    pub fn next(&mut self, now: Instant, may_commit: impl Fn(ShardId, Epoch) -> bool) -> Option<Order> {
        if self.in_flight.len() >= MAX_IN_FLIGHT {
            return None;
        }
        let allowed = |shard: &ShardId| self.slots.get(shard).is_some_and(|slot| may_commit(*shard, slot.epoch));
        let due = self.waiting.iter().take_while(|(at, _)| *at <= now);
        let shard = due.map(|(_, shard)| *shard).find(allowed)?;
        let slot = self.slots.get_mut(&shard)?;
        let cursor = slot.wanted.take()?.cursor;
        self.in_flight.insert(shard);
        slot.in_flight = true;
        slot.not_before = now + self.interval;
        let order = Order { shard, epoch: slot.epoch, repeated: slot.committed.as_ref() == Some(&cursor), cursor };
        self.queue(shard);
        Some(order)
    }

    /// A commit ended. A failed one is sent again, unless a newer position has come meanwhile.
    pub fn ended(&mut self, now: Instant, order: &Order, stored: bool, retry_after: Duration) {
        self.in_flight.remove(&order.shard);
        if stored {
            self.confirmed.insert(order.shard, order.cursor.clone());
        }
        if let Some(slot) = self.slots.get_mut(&order.shard).filter(|slot| slot.epoch == order.epoch) {
            slot.ended(now, order, stored, retry_after);
        }
        // Also of a later lease, which has waited for this end.
        self.queue(order.shard);
    }

    /// The lease has ended.
    pub fn end(&mut self, shard: ShardId) {
        if let Some(at) = self.slots.remove(&shard).and_then(|slot| slot.waits_for) {
            self.waiting.remove(&(at, shard));
        }
    }

    /// The last position of the shard that SLS confirmed to this process.
    pub fn last_confirmed(&self, shard: ShardId) -> Option<&Cursor> {
        self.confirmed.get(&shard)
    }

    /// SLS may have forgotten the positions of these shards: the last that it confirmed of each, lowest shard last. They
    /// count as commits under way until [`CommitTable::ended_again`]; of a shard of which one is, nothing is told.
    pub fn begin_again(&mut self, shards: BTreeSet<ShardId>) -> Vec<(ShardId, Cursor)> {
        let confirmed = |shard: ShardId| Some((shard, self.confirmed.get(&shard)?.clone()));
        let again = shards.into_iter().rev().filter_map(confirmed).filter(|(shard, _)| self.in_flight.insert(*shard));
        let again: Vec<_> = again.collect();
        again.iter().for_each(|(shard, _)| self.queue(*shard));
        again
    }

    /// They are stored, or will not be.
    pub fn ended_again(&mut self, shards: &[ShardId]) {
        for shard in shards {
            self.in_flight.remove(shard);
            self.queue(*shard);
        }
    }

    /// What SLS has to answer for the shard's checkpoint, if nothing is under way that could change it.
    pub fn stored(&self, shard: ShardId) -> Option<(Epoch, &Cursor)> {
        let slot = self.slots.get(&shard).filter(|slot| !self.in_flight.contains(&shard) && !slot.in_doubt)?;
        slot.committed.as_ref().map(|cursor| (slot.epoch, cursor))
    }

    /// The next moment at which [`CommitTable::next`] may have something.
    pub fn next_event(&self) -> Option<Instant> {
        let (at, _) = self.waiting.first().filter(|_| self.in_flight.len() < MAX_IN_FLIGHT)?;
        Some(*at)
    }

    /// The shard's slot or what is in flight has changed: so may its place among those that wait.
    fn queue(&mut self, shard: ShardId) {
        let Some(slot) = self.slots.get_mut(&shard) else { return };
        let waits = slot.wanted.is_some() && !self.in_flight.contains(&shard);
        let waits_for = waits.then_some(slot.not_before);
        let before = std::mem::replace(&mut slot.waits_for, waits_for);
        if before != waits_for {
            before.map(|at| self.waiting.remove(&(at, shard)));
            waits_for.map(|at| self.waiting.insert((at, shard)));
        }
    }
}

impl Slot {
    fn ended(&mut self, now: Instant, order: &Order, stored: bool, retry_after: Duration) {
        self.in_flight = false;
        self.in_doubt = !stored;
        if stored {
            self.committed = Some(order.cursor.clone());
            self.forget_unchanged();
        } else {
            self.not_before = now + retry_after;
            self.wanted.get_or_insert_with(|| Wanted { cursor: order.cursor.clone(), even_if_unchanged: true });
        }
    }

    /// What is committed already is not wanted, and nobody waits for it.
    fn forget_unchanged(&mut self) {
        let committed = self.committed.as_ref();
        self.wanted = self.wanted.take().filter(|w| w.even_if_unchanged || committed != Some(&w.cursor));
    }
}

#[cfg(test)]
mod properties;

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(3);
    const RETRY: Duration = Duration::from_secs(1);

    fn cursor(n: u32) -> Cursor {
        Cursor::new(&format!("c{n}")).expect("printable")
    }

    fn table(now: Instant, shards: u32) -> CommitTable {
        let mut table = CommitTable::new(INTERVAL);
        for shard in 0..shards {
            table.begin(now, ShardId(shard), Epoch(1));
        }
        table
    }

    fn next(table: &mut CommitTable, now: Instant) -> Option<Order> {
        table.next(now, |_, _| true)
    }

    #[test]
    fn i2_the_newest_position_is_sent_once_per_interval_one_at_a_time() {
        let now = Instant::now();
        let mut table = table(now, 1);
        table.ready(ShardId(0), Epoch(1), cursor(1), false);
        assert_eq!(next(&mut table, now), None);
        table.ready(ShardId(0), Epoch(1), cursor(2), false);
        let first = next(&mut table, now + INTERVAL).expect("due");
        assert_eq!(first.cursor, cursor(2));
        table.ready(ShardId(0), Epoch(1), cursor(3), false);
        assert_eq!(next(&mut table, now + 3 * INTERVAL), None, "one is in flight");
        table.ended(now + 3 * INTERVAL, &first, true, RETRY);
        assert_eq!(next(&mut table, now + 3 * INTERVAL).map(|o| o.cursor), Some(cursor(3)));
    }

    #[test]
    fn l3_sixteen_commits_are_in_flight_and_a_timed_out_one_is_sent_again_with_the_newest_position() {
        let now = Instant::now();
        let mut table = table(now, 20);
        for shard in 0..20 {
            table.ready(ShardId(shard), Epoch(1), cursor(1), false);
        }
        let due = now + INTERVAL;
        let orders: Vec<Order> = std::iter::from_fn(|| next(&mut table, due)).collect();
        assert_eq!(orders.len(), MAX_IN_FLIGHT);
        table.ended(due, &orders[0], false, RETRY);
        let next_order = next(&mut table, due).expect("a place is free");
        assert_eq!(next_order.shard, ShardId(16));
        table.ended(due, &next_order, true, RETRY);
        table.ready(ShardId(0), Epoch(1), cursor(9), false);
        let mut later = Vec::new();
        while let Some(order) = next(&mut table, due + RETRY) {
            table.ended(due + RETRY, &order, true, RETRY);
            later.push((order.shard, order.cursor));
        }
        let waiting = (17..20).map(|shard| (ShardId(shard), cursor(1)));
        assert_eq!(later, waiting.chain([(ShardId(0), cursor(9))]).collect::<Vec<_>>());
    }

    /// The shards with the lowest numbers used to come first, again and again, and the others never.
    #[test]
    fn l3_shards_commit_in_turn_where_all_have_more_to_commit_than_sixteen_in_flight_can_carry() {
        let mut now = Instant::now();
        let mut table = table(now, 100);
        let mut committed = std::collections::BTreeMap::new();
        for n in 0..50 {
            now += INTERVAL;
            for shard in 0..100 {
                table.ready(ShardId(shard), Epoch(1), cursor(n), false);
            }
            for order in std::iter::from_fn(|| next(&mut table, now)).collect::<Vec<_>>() {
                table.ended(now, &order, true, RETRY);
                *committed.entry(order.shard).or_insert(0) += 1;
            }
        }
        let (fewest, most) = (committed.values().min(), committed.values().max());
        assert_eq!(committed.len(), 100, "{committed:?}");
        assert!(most <= fewest.map(|fewest| fewest + 2).as_ref(), "{committed:?}");
    }

    #[test]
    fn i3_a_position_of_a_stale_epoch_is_never_sent() {
        let now = Instant::now();
        let mut table = table(now, 1);
        table.ready(ShardId(0), Epoch(1), cursor(5), false);
        table.begin(now, ShardId(0), Epoch(2));
        table.ready(ShardId(0), Epoch(1), cursor(6), false);
        assert_eq!(next(&mut table, now + INTERVAL), None);
        table.ready(ShardId(0), Epoch(2), cursor(1), false);
        assert_eq!(table.next(now + INTERVAL, |_, epoch| epoch == Epoch(1)), None);
        assert_eq!(table.next(now + INTERVAL, |_, epoch| epoch == Epoch(2)).map(|o| o.epoch), Some(Epoch(2)));
    }

    #[test]
    fn l3_a_regained_shard_waits_for_the_commit_of_its_former_lease() {
        let now = Instant::now();
        let mut table = table(now, 1);
        table.ready(ShardId(0), Epoch(1), cursor(5), false);
        let former = next(&mut table, now + INTERVAL).expect("due");
        table.begin(now + INTERVAL, ShardId(0), Epoch(2));
        table.ready(ShardId(0), Epoch(2), cursor(6), false);
        let t = now + 2 * INTERVAL;
        assert_eq!((next(&mut table, t), table.next_event()), (None, None), "it would overtake the former one");
        table.ended(t, &former, true, RETRY);
        assert_eq!(next(&mut table, t).map(|order| order.cursor), Some(cursor(6)));
    }

    #[test]
    fn l6_positions_that_sls_forgot_are_stored_again_before_anything_newer() {
        let now = Instant::now();
        let mut table = table(now, 3);
        for (shard, n) in [(0, 4), (2, 6)] {
            table.ready(ShardId(shard), Epoch(1), cursor(n), false);
            let order = next(&mut table, now + INTERVAL).expect("due");
            table.ended(now + INTERVAL, &order, true, RETRY);
        }
        let shards = [0, 1, 2].map(ShardId);
        let again = table.begin_again(BTreeSet::from(shards));
        assert_eq!(again, [(ShardId(2), cursor(6)), (ShardId(0), cursor(4))], "the lowest marks a group as born");
        assert_eq!(table.begin_again(BTreeSet::from(shards)), [], "they are under way");
        let t = now + 2 * INTERVAL;
        table.begin(now, ShardId(0), Epoch(2));
        table.ready(ShardId(0), Epoch(2), cursor(5), false);
        assert_eq!(next(&mut table, t), None, "it would be overtaken");
        table.ended_again(&shards);
        assert_eq!(next(&mut table, t).map(|order| order.cursor), Some(cursor(5)));
    }

    #[test]
    fn l5_an_unchanged_position_is_sent_only_when_asked_for() {
        let now = Instant::now();
        let mut table = table(now, 1);
        table.ready(ShardId(0), Epoch(1), cursor(1), false);
        let order = next(&mut table, now + INTERVAL).expect("due");
        table.ended(now + INTERVAL, &order, true, RETRY);
        table.ready(ShardId(0), Epoch(1), cursor(1), false);
        assert_eq!(next(&mut table, now + 9 * INTERVAL), None);
        table.ready(ShardId(0), Epoch(1), cursor(1), true);
        assert!(next(&mut table, now + 9 * INTERVAL).is_some());
    }

    #[test]
    fn a_release_flushes_without_waiting_for_the_interval() {
        let now = Instant::now();
        let mut table = table(now, 1);
        table.ready(ShardId(0), Epoch(1), cursor(1), false);
        table.flush(now, ShardId(0));
        let order = next(&mut table, now).expect("flushed");
        assert!(!table.is_done(ShardId(0), Epoch(1)));
        assert_eq!(table.stored(ShardId(0)), None, "it may change any moment");
        table.ended(now, &order, true, RETRY);
        assert!(table.is_done(ShardId(0), Epoch(1)));
        assert_eq!(table.stored(ShardId(0)), Some((Epoch(1), &cursor(1))));
        table.end(ShardId(0));
        assert_eq!(table.last_confirmed(ShardId(0)), Some(&cursor(1)));
    }

    #[test]
    fn a_release_does_not_wait_for_a_position_that_is_committed_already() {
        let now = Instant::now();
        let mut table = table(now, 1);
        table.ready(ShardId(0), Epoch(1), cursor(1), false);
        let order = next(&mut table, now + INTERVAL).expect("due");
        table.ready(ShardId(0), Epoch(1), cursor(1), false);
        table.ended(now + INTERVAL, &order, true, RETRY);
        assert!(table.is_done(ShardId(0), Epoch(1)), "the same position came while it was being committed");
        table.ready(ShardId(0), Epoch(1), cursor(1), false);
        assert!(table.is_done(ShardId(0), Epoch(1)));
    }

    #[test]
    fn u9_a_commit_that_failed_may_have_been_stored_and_accuses_nobody() {
        let now = Instant::now();
        let mut table = table(now, 1);
        for (n, stored) in [(1, true), (2, false)] {
            table.ready(ShardId(0), Epoch(1), cursor(n), false);
            let order = next(&mut table, now + n * INTERVAL).expect("due");
            table.ended(now + n * INTERVAL, &order, stored, RETRY);
        }
        assert_eq!(table.stored(ShardId(0)), None);
    }
}
