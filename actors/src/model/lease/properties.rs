//! Against a naive model: what a bystander remembers of decisions, heartbeats and fetchers, without any state machine.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

const INTERVAL: Duration = Duration::from_secs(20);
const DRAIN: Duration = Duration::from_secs(25);
const SHARDS: u32 = 3;

#[derive(Debug, Clone)]
enum Op {
    Wait(u64),
    Beat,
    /// The heartbeat under way is answered with these shards, if there is one.
    Answer(BTreeSet<u32>),
    FailBeat,
    GroupTimeout(u64),
    LoseAll,
    /// What is said of a shard is about its present lease, or about an older one.
    Lose(u32, bool),
    FetcherEnds(u32, bool),
    FetcherPanics(u32, bool),
    Committed(u32, bool),
    Stop,
}

fn op() -> impl Strategy<Value = Op> {
    let shard = || 0..SHARDS;
    let present = || prop::bool::weighted(0.85);
    prop_oneof![
        6 => (1..8_000_u64).prop_map(Op::Wait),
        1 => (8_000..60_000_u64).prop_map(Op::Wait),
        6 => Just(Op::Beat),
        8 => prop::collection::btree_set(shard(), 0..=SHARDS as usize).prop_map(Op::Answer),
        2 => Just(Op::FailBeat),
        1 => (2..90_u64).prop_map(Op::GroupTimeout),
        1 => Just(Op::LoseAll),
        2 => (shard(), present()).prop_map(|(shard, present)| Op::Lose(shard, present)),
        5 => (shard(), present()).prop_map(|(shard, present)| Op::FetcherEnds(shard, present)),
        2 => (shard(), present()).prop_map(|(shard, present)| Op::FetcherPanics(shard, present)),
        4 => (shard(), present()).prop_map(|(shard, present)| Op::Committed(shard, present)),
        1 => Just(Op::Stop),
    ]
}

/// A lease as a bystander sees it, from its start to its release.
#[derive(Debug, Clone)]
struct Seen {
    epoch: Epoch,
    /// Its fetcher has not ended.
    runs: bool,
    /// It was told to stop, or had ended, and the last commit is wanted.
    flushing: bool,
    drained: bool,
    released: bool,
    /// When at the latest it is not listed any more.
    release_by: Option<Instant>,
}

struct Naive {
    table: LeaseTable,
    now: Instant,
    timeout: Duration,
    beat_sent: Option<Instant>,
    confirmed_at: Option<Instant>,
    leases: BTreeMap<u32, Vec<Seen>>,
    newest: u64,
    stopping: bool,
}

impl Naive {
    fn new() -> Self {
        let now = Instant::now();
        let timeout = 2 * INTERVAL;
        Self {
            table: LeaseTable::new(now, INTERVAL, timeout, DRAIN),
            now,
            timeout,
            beat_sent: None,
            confirmed_at: None,
            leases: BTreeMap::new(),
            newest: 0,
            stopping: false,
        }
    }

    fn present(&self, shard: u32) -> Option<&Seen> {
        self.leases.get(&shard).and_then(|leases| leases.last())
    }

    fn present_mut(&mut self, shard: u32) -> Option<&mut Seen> {
        self.leases.get_mut(&shard).and_then(|leases| leases.last_mut())
    }

    /// Of the present lease, or of one that never was or is over.
    fn epoch(&self, shard: u32, present: bool) -> Epoch {
        let newest = self.present(shard).map_or(Epoch(0), |seen| seen.epoch);
        if present { newest } else { Epoch(newest.0.saturating_sub(1)) }
    }

    fn apply(&mut self, op: &Op) {
        let before = self.now;
        match op {
            Op::Wait(ms) => {
                self.now += Duration::from_millis(*ms);
                self.tick();
            }
            Op::Beat => {
                // As the Coordinator does: what time has changed comes first.
                self.tick();
                let begun = self.table.begin_heartbeat(self.now);
                let Some(listed) = begun else {
                    let next = self.table.next_event();
                    let waits = self.beat_sent.is_some() || next.is_some_and(|at| at > before);
                    return assert!(waits, "no heartbeat, although {next:?} has come");
                };
                assert_eq!(self.beat_sent, None, "L2: one heartbeat is in flight at a time");
                self.beat_sent = Some(self.now);
                let ours: Vec<u32> = (0..SHARDS).filter(|s| self.present(*s).is_some_and(|l| !l.released)).collect();
                assert_eq!(listed.iter().map(|shard| shard.0).collect::<Vec<_>>(), ours, "what is ours is listed");
            }
            Op::Answer(owned) => {
                let Some(sent_at) = self.beat_sent.take() else { return };
                self.confirmed_at = Some(sent_at);
                let shards: Vec<ShardId> = owned.iter().copied().map(ShardId).collect();
                let decisions = self.table.heartbeat_answered(self.now, &shards);
                for decision in &decisions {
                    match decision {
                        Decision::Start(shard, _) => {
                            assert!(owned.contains(&shard.0) && !self.stopping, "{shard} is started, but not ours");
                        }
                        Decision::Drain(shard, ..) | Decision::Flush(shard, _) => {
                            assert!(!owned.contains(&shard.0), "L1: {shard} is stopped, but ours");
                        }
                        Decision::Abandon(..) | Decision::Released { .. } => {
                            panic!("L1: an answer takes nothing away at once: {decision:?}")
                        }
                    }
                }
                self.took(&decisions, false);
            }
            Op::FailBeat => {
                if self.beat_sent.take().is_some() {
                    self.table.heartbeat_failed(self.now);
                    let next = self.table.next_event().expect("the next heartbeat");
                    assert!(next <= self.now + INTERVAL / 20, "L2: it is repeated soon");
                }
            }
            Op::GroupTimeout(seconds) => {
                self.timeout = Duration::from_secs(*seconds);
                self.table.set_group_timeout(self.timeout);
                assert!(self.table.interval() <= self.timeout / 2, "L4");
                assert!(self.table.lease_age_limit() < self.timeout, "L2");
            }
            Op::LoseAll => {
                self.confirmed_at = None;
                let decisions = self.table.lose_all();
                self.took(&decisions, true);
                assert_eq!(self.table.held().count(), 0);
            }
            Op::Lose(shard, present) => {
                let epoch = self.epoch(*shard, *present);
                let decisions = self.table.lose(ShardId(*shard), epoch);
                assert!(*present || decisions.is_empty(), "an older lease is lost, not this one");
                self.took(&decisions, true);
                assert!(!*present || !self.table.may_commit(self.now, ShardId(*shard), epoch), "I3");
            }
            Op::FetcherEnds(shard, present) | Op::FetcherPanics(shard, present) => {
                let epoch = self.epoch(*shard, *present);
                if *present && !self.present(*shard).is_some_and(|seen| seen.runs) {
                    return;
                }
                if *present && let Some(seen) = self.present_mut(*shard) {
                    seen.runs = false;
                }
                let decisions = match op {
                    Op::FetcherEnds(..) => self.table.fetcher_ended(self.now, ShardId(*shard), epoch),
                    _ => self.table.fetcher_lost(self.now, ShardId(*shard), epoch),
                };
                assert!(*present || decisions.is_empty(), "an older fetcher has ended, not this one");
                self.took(&decisions, false);
                // As the Coordinator does.
                self.tick();
            }
            Op::Committed(shard, present) => {
                let epoch = self.epoch(*shard, *present);
                let flushing = self.present(*shard).is_some_and(|seen| seen.flushing && !seen.released);
                let decisions = self.table.released(ShardId(*shard), epoch);
                assert_eq!(!decisions.is_empty(), *present && flushing, "only what waits for it is given back");
                self.took(&decisions, false);
            }
            Op::Stop => {
                self.stopping = true;
                let decisions = self.table.stop(self.now, self.now + DRAIN);
                self.took(&decisions, false);
            }
        }
        self.check();
    }

    fn tick(&mut self) {
        let is_over = self.confirmed_at.is_some_and(|at| self.now >= at + self.timeout.mul_f64(0.9));
        let decisions = self.table.tick(self.now);
        self.took(&decisions, is_over);
        if is_over {
            self.confirmed_at = None;
            assert_eq!(self.table.held().count(), 0, "L2: a lease is older than it may be");
        }
    }

    /// Notes decisions; `may_lose` if something has happened that loses leases.
    fn took(&mut self, decisions: &[Decision], may_lose: bool) {
        let now = self.now;
        for decision in decisions {
            match *decision {
                Decision::Start(shard, epoch) => {
                    assert!(epoch.0 > self.newest, "an epoch is used twice");
                    self.newest = epoch.0;
                    let leases = self.leases.entry(shard.0).or_default();
                    assert!(leases.iter().all(|seen| !seen.runs), "two fetchers of {shard} at once");
                    let fresh =
                        Seen { epoch, runs: true, flushing: false, drained: false, released: false, release_by: None };
                    leases.push(fresh);
                }
                Decision::Drain(shard, epoch, settle_by) => {
                    let seen = self.present_mut(shard.0).expect("it was started");
                    assert!(seen.epoch == epoch && seen.runs && !seen.drained, "{decision:?} of {seen:?}");
                    assert!(
                        settle_by >= now && settle_by <= now + DRAIN.mul_f64(0.81),
                        "L1: the commit needs time too"
                    );
                    seen.drained = true;
                    seen.release_by = Some(now + DRAIN);
                }
                Decision::Abandon(shard, epoch) => {
                    assert!(may_lose, "{decision:?} although nothing is lost");
                    let seen = self.present(shard.0).expect("it was started");
                    assert!(seen.epoch == epoch && seen.runs, "{decision:?} of {seen:?}");
                }
                Decision::Flush(shard, epoch) => {
                    let seen = self.present_mut(shard.0).expect("it was started");
                    assert!(seen.epoch == epoch && !seen.runs && !seen.flushing, "{decision:?} of {seen:?}");
                    seen.flushing = true;
                    seen.release_by.get_or_insert(now + DRAIN);
                }
                Decision::Released { shard, epoch, lost } => {
                    assert!(!lost || may_lose, "{decision:?} although nothing is lost");
                    let seen = self.present_mut(shard.0).expect("it was started");
                    assert!(seen.epoch == epoch && !seen.released, "{decision:?} of {seen:?}");
                    assert!(lost || seen.flushing, "L1: given back before its last commit");
                    seen.released = true;
                }
            }
        }
    }

    fn check(&self) {
        let fresh = self.confirmed_at.is_some_and(|at| self.now < at + self.timeout.mul_f64(0.9));
        for (shard, leases) in &self.leases {
            for seen in leases {
                let present = seen.epoch == self.epoch(*shard, true) && !seen.released;
                let may = self.table.may_commit(self.now, ShardId(*shard), seen.epoch);
                assert_eq!(may, present && fresh, "I3: {seen:?}");
            }
            let Some(seen) = leases.last() else { continue };
            let overdue = seen.flushing && !seen.released && seen.release_by.is_some_and(|by| self.now > by);
            assert!(!overdue, "L1: {seen:?} is held beyond its time");
        }
    }

    /// Everything ends politely: nothing may be left.
    fn finish(&mut self) {
        self.apply(&Op::Stop);
        for shard in 0..SHARDS {
            self.apply(&Op::FetcherEnds(shard, true));
            self.apply(&Op::Committed(shard, true));
        }
        assert!(self.table.is_empty(), "{:?}", self.table);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn no_history_commits_under_a_stale_lease_or_reads_a_shard_twice_at_once(
        ops in prop::collection::vec(op(), 0..120),
    ) {
        let mut naive = Naive::new();
        for op in &ops {
            naive.apply(op);
        }
        naive.finish();
    }
}
