//! Which shards this process holds, since when, and until when it may act on that.
//!
//! SLS tells by its answers to heartbeats which shards are ours; it has no fencing token. So the table is careful with
//! time: a lease counts from the moment the last answered heartbeat was *sent* and ends well before the group's timeout
//! (rule L2). A shard that an answer omits is still ours until we stop listing it: it is drained first (rule L1).

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::ids::{Epoch, ShardId};
use super::restart::Restarts;

/// All leases of one consumer.
#[derive(Debug)]
pub struct LeaseTable {
    wanted_interval: Duration,
    group_timeout: Duration,
    drain_timeout: Duration,
    leases: BTreeMap<ShardId, Lease>,
    /// Before this no lease has anything to do by itself; later than that perhaps neither.
    timed_from: Option<Instant>,
    /// Shards that SLS did not know any more although it named them as ours, with when that was.
    gone: BTreeMap<ShardId, Instant>,
    last_epoch: u64,
    /// When the last heartbeat that was answered had been sent.
    confirmed_at: Option<Instant>,
    sent_at: Option<Instant>,
    due: Instant,
    /// A shard was given back while a heartbeat that lists it was under way.
    again_soon: bool,
    stopping: bool,
}

#[derive(Debug)]
struct Lease {
    epoch: Epoch,
    state: State,
    /// Of fetchers of this acquisition that ended by a panic.
    restarts: Restarts,
}

/// What is true of one lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Ours; its fetcher runs.
    Held,
    /// Ours; its fetcher ended by a panic and is started again at that moment.
    Restarting { at: Instant },
    /// Ours until we stop listing it; its fetcher settles what it has pulled.
    Draining { deadline: Instant },
    /// Ours until we stop listing it; its fetcher has ended, its last commit is under way.
    Closing { deadline: Instant },
    /// Not ours any more; its fetcher has not ended yet. If it is handed to us again meanwhile, it is started after that.
    Abandoned { reacquired: bool },
}

/// What the Coordinator is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Start a fetcher.
    Start(ShardId, Epoch),
    /// Tell the fetcher to drain: what is unsettled then is failed.
    Drain(ShardId, Epoch, Instant),
    /// Tell the fetcher that the lease is lost.
    Abandon(ShardId, Epoch),
    /// Commit what is settled now, then [`LeaseTable::released`].
    Flush(ShardId, Epoch),
    /// The lease has ended, lost or given back.
    Released {
        /// Which.
        shard: ShardId,
        /// Its epoch.
        epoch: Epoch,
        /// Lost rather than given back.
        lost: bool,
    },
}

/// The part of a drain's time in which batches may settle; the rest is for the last commit.
const FOR_SETTLING: f64 = 0.8;
/// A group's timeout is in whole seconds; a shorter one than this is not believed.
const SHORTEST_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a shard that does not exist is not asked for again although heartbeats name it.
const ASK_AGAIN: Duration = Duration::from_secs(600);
/// First and longest pause before a fetcher that panicked is started again.
const RESTART: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(60));

impl LeaseTable {
    /// Nothing held; the first heartbeat is due at once.
    pub fn new(now: Instant, wanted_interval: Duration, group_timeout: Duration, drain_timeout: Duration) -> Self {
        Self {
            wanted_interval,
            group_timeout,
            drain_timeout,
            leases: BTreeMap::new(),
            timed_from: None,
            gone: BTreeMap::new(),
            last_epoch: 0,
            confirmed_at: None,
            sent_at: None,
            due: now,
            again_soon: false,
            stopping: false,
        }
    }

    /// The group's timeout was read (again). A shorter one counts at once, also for the heartbeat that is due next.
    pub fn set_group_timeout(&mut self, timeout: Duration) {
        self.group_timeout = timeout.max(SHORTEST_TIMEOUT);
        if let Some(at) = self.confirmed_at {
            self.due = self.due.min(at + self.interval());
        }
    }

    /// Time between heartbeats: the setting, but at most half of the group's timeout (rule L4).
    pub fn interval(&self) -> Duration {
        self.wanted_interval.min(self.group_timeout / 2)
    }

    /// How soon a heartbeat follows another one that failed (rule L2), or that listed what has been given back since: the
    /// shards that are given back within this time share it.
    fn soon(&self) -> Duration {
        self.interval() / 20
    }

    /// How long one heartbeat may take (rule L2).
    pub fn heartbeat_limit(&self) -> Duration {
        (self.interval() / 4).max(Duration::from_millis(250))
    }

    /// How long after it was sent an answered heartbeat keeps leases alive, by our own clock (rule L2).
    ///
    /// Linux stops the monotonic clock while a machine is suspended, so after that leases count as fresh until the next
    /// heartbeat is refused. Commits sent meanwhile are refused too, since they are not forced and somebody else holds
    /// the shards; what is sent meanwhile is sent twice.
    pub fn lease_age_limit(&self) -> Duration {
        self.group_timeout.mul_f64(0.9)
    }

    /// Begins a heartbeat if one is due and none is under way: the shards to list.
    pub fn begin_heartbeat(&mut self, now: Instant) -> Option<Vec<ShardId>> {
        if self.sent_at.is_some() || now < self.due {
            return None;
        }
        self.sent_at = Some(now);
        let listed = |lease: &Lease| !matches!(lease.state, State::Abandoned { .. });
        Some(self.leases.iter().filter(|(_, lease)| listed(lease)).map(|(shard, _)| *shard).collect())
    }

    /// The heartbeat was answered in time, with the shards that are ours from now on.
    pub fn heartbeat_answered(&mut self, now: Instant, owned: &[ShardId]) -> Vec<Decision> {
        let Some(sent_at) = self.sent_at.take() else { return Vec::new() };
        self.confirmed_at = Some(sent_at);
        let again_soon = std::mem::take(&mut self.again_soon);
        self.due = (sent_at + if again_soon { self.soon() } else { self.interval() }).max(now);
        let mut decisions = Vec::new();
        let owned: BTreeSet<ShardId> = owned.iter().copied().collect();
        self.gone.retain(|shard, at| owned.contains(shard) && now.saturating_duration_since(*at) < ASK_AGAIN);
        for shard in &owned {
            match self.leases.get_mut(shard) {
                None if self.gone.contains_key(shard) => {}
                None if !self.stopping => decisions.push(self.start(*shard, None)),
                Some(Lease { state: State::Abandoned { reacquired }, .. }) => *reacquired = !self.stopping,
                _ => {}
            }
        }
        let deadline = now + self.drain_timeout;
        for (shard, lease) in &mut self.leases {
            if owned.contains(shard) {
                continue;
            }
            match &mut lease.state {
                State::Held | State::Restarting { .. } => decisions.push(lease.drain(*shard, now, deadline)),
                State::Abandoned { reacquired } => *reacquired = false,
                State::Draining { .. } | State::Closing { .. } => {}
            }
        }
        if !decisions.is_empty() {
            self.timed_at(deadline);
        }
        decisions
    }

    /// The heartbeat failed or came too late; it is repeated soon.
    pub fn heartbeat_failed(&mut self, now: Instant) {
        self.sent_at = None;
        self.due = now + self.soon();
    }

    /// SLS does not know us as a consumer any more, or our own clock says that it may not: everything is lost.
    pub fn lose_all(&mut self) -> Vec<Decision> {
        self.confirmed_at = None;
        let shards: Vec<ShardId> = self.leases.keys().copied().collect();
        shards.into_iter().flat_map(|shard| self.lose_current(shard)).collect()
    }

    /// SLS says that another consumer holds the shard.
    pub fn lose(&mut self, shard: ShardId, epoch: Epoch) -> Vec<Decision> {
        match self.leases.get(&shard) {
            Some(lease) if lease.epoch == epoch => self.lose_current(shard),
            _ => Vec::new(),
        }
    }

    /// What time alone changes: leases that are too old, fetchers that are to start again, flushes that took too long.
    pub fn tick(&mut self, now: Instant) -> Vec<Decision> {
        if self.confirmed_at.is_some_and(|at| now >= at + self.lease_age_limit()) {
            return self.lose_all();
        }
        if self.timed_from.is_none_or(|from| now < from) {
            return Vec::new();
        }
        let mut decisions = Vec::new();
        self.timed_from = None;
        let shards: Vec<ShardId> = self.leases.keys().copied().collect();
        for shard in shards {
            let Some(lease) = self.leases.get_mut(&shard) else { continue };
            match lease.state {
                State::Restarting { at } if now >= at => {
                    let restarts = lease.restarts.clone();
                    decisions.push(self.start(shard, Some(restarts)));
                }
                State::Closing { deadline } if now >= deadline => {
                    decisions.extend(self.released(shard, self.leases[&shard].epoch));
                }
                State::Restarting { at } | State::Closing { deadline: at } => self.timed_at(at),
                _ => {}
            }
        }
        decisions
    }

    /// The next moment at which [`LeaseTable::tick`] or [`LeaseTable::begin_heartbeat`] has something to do.
    pub fn next_event(&self) -> Option<Instant> {
        let heartbeat = self.sent_at.is_none().then_some(self.due);
        let expiry = self.confirmed_at.filter(|_| !self.leases.is_empty()).map(|at| at + self.lease_age_limit());
        [self.timed_from, heartbeat, expiry].into_iter().flatten().min()
    }

    /// A fetcher ended as told, or because SLS does not know its shard any more.
    pub fn fetcher_ended(&mut self, now: Instant, shard: ShardId, epoch: Epoch) -> Vec<Decision> {
        let Some(lease) = self.leases.get_mut(&shard).filter(|lease| lease.epoch == epoch) else { return Vec::new() };
        match lease.state {
            State::Draining { deadline } => {
                lease.state = State::Closing { deadline };
                self.timed_at(deadline);
                vec![Decision::Flush(shard, epoch)]
            }
            State::Held => {
                let deadline = now + self.drain_timeout;
                lease.state = State::Closing { deadline };
                self.timed_at(deadline);
                vec![Decision::Flush(shard, epoch)]
            }
            State::Abandoned { reacquired } => {
                self.leases.remove(&shard);
                if reacquired && !self.stopping { vec![self.start(shard, None)] } else { Vec::new() }
            }
            State::Restarting { .. } | State::Closing { .. } => Vec::new(),
        }
    }

    /// SLS does not know the shard: it is not started again while answers go on naming it, for a while.
    pub fn shard_gone(&mut self, now: Instant, shard: ShardId) {
        self.gone.insert(shard, now);
    }

    /// A fetcher is gone without having said why: a panic. While the lease is held it is started again, ever later.
    pub fn fetcher_lost(&mut self, now: Instant, shard: ShardId, epoch: Epoch) -> Vec<Decision> {
        let Some(lease) = self.leases.get_mut(&shard).filter(|lease| lease.epoch == epoch) else { return Vec::new() };
        match lease.state {
            State::Held => {
                let at = now + lease.restarts.panicked(now);
                lease.state = State::Restarting { at };
                self.timed_at(at);
                Vec::new()
            }
            State::Draining { .. } | State::Abandoned { .. } => self.fetcher_ended(now, shard, epoch),
            State::Restarting { .. } | State::Closing { .. } => Vec::new(),
        }
    }

    /// The last commit of a closing shard is done, or given up: it is not listed any more.
    pub fn released(&mut self, shard: ShardId, epoch: Epoch) -> Vec<Decision> {
        let closing = |lease: &&Lease| lease.epoch == epoch && matches!(lease.state, State::Closing { .. });
        if self.leases.get(&shard).filter(closing).is_none() {
            return Vec::new();
        }
        self.leases.remove(&shard);
        // A heartbeat soon, so that whoever waits for the shard gets it; one that is under way still lists it.
        self.due = self.confirmed_at.map_or(self.due, |at| self.due.min(at + self.soon()));
        self.again_soon = self.sent_at.is_some();
        vec![Decision::Released { shard, epoch, lost: false }]
    }

    /// Take no new leases, drain all that are held and commit, until `deadline`.
    pub fn stop(&mut self, now: Instant, deadline: Instant) -> Vec<Decision> {
        self.stopping = true;
        self.timed_at(deadline);
        let held = |lease: &Lease| matches!(lease.state, State::Held | State::Restarting { .. });
        let held = self.leases.iter_mut().filter(|(_, lease)| held(lease));
        held.map(|(shard, lease)| lease.drain(*shard, now, deadline)).collect()
    }

    /// I3: whether a commit for this shard may be sent now under this epoch.
    pub fn may_commit(&self, now: Instant, shard: ShardId, epoch: Epoch) -> bool {
        let ours = |lease: &Lease| lease.epoch == epoch && !matches!(lease.state, State::Abandoned { .. });
        let fresh = self.confirmed_at.is_some_and(|at| now < at + self.lease_age_limit());
        fresh && self.leases.get(&shard).is_some_and(ours)
    }

    /// Whether nothing is held and no fetcher is ending.
    pub fn is_empty(&self) -> bool {
        self.leases.is_empty()
    }

    /// The shards that are ours, ascending.
    pub fn held(&self) -> impl Iterator<Item = (ShardId, Epoch)> + '_ {
        let ours = |lease: &Lease| !matches!(lease.state, State::Abandoned { .. });
        self.leases.iter().filter(move |(_, lease)| ours(lease)).map(|(shard, lease)| (*shard, lease.epoch))
    }

    /// When the last answered heartbeat was sent.
    pub fn confirmed_at(&self) -> Option<Instant> {
        self.confirmed_at
    }

    /// A lease has something to do at this moment.
    fn timed_at(&mut self, at: Instant) {
        self.timed_from = Some(self.timed_from.map_or(at, |from| from.min(at)));
    }

    fn start(&mut self, shard: ShardId, restarts: Option<Restarts>) -> Decision {
        let restarts = restarts.unwrap_or_else(|| Restarts::new(RESTART.0, RESTART.1));
        self.last_epoch += 1;
        let epoch = Epoch(self.last_epoch);
        self.leases.insert(shard, Lease { epoch, state: State::Held, restarts });
        Decision::Start(shard, epoch)
    }

    fn lose_current(&mut self, shard: ShardId) -> Vec<Decision> {
        let Some(lease) = self.leases.get_mut(&shard) else { return Vec::new() };
        let epoch = lease.epoch;
        let released = Decision::Released { shard, epoch, lost: true };
        match lease.state {
            State::Held | State::Draining { .. } => {
                lease.state = State::Abandoned { reacquired: false };
                vec![Decision::Abandon(shard, epoch), released]
            }
            State::Restarting { .. } | State::Closing { .. } => {
                self.leases.remove(&shard);
                vec![released]
            }
            State::Abandoned { .. } => {
                lease.state = State::Abandoned { reacquired: false };
                Vec::new()
            }
        }
    }
}

impl Lease {
    /// A requested stop, over at `deadline`: what settles in time, and the last commit needs some of it too (rule L1).
    fn drain(&mut self, shard: ShardId, now: Instant, deadline: Instant) -> Decision {
        if self.state == State::Held {
            self.state = State::Draining { deadline };
            let left = deadline.saturating_duration_since(now);
            return Decision::Drain(shard, self.epoch, now + left.mul_f64(FOR_SETTLING));
        }
        // No fetcher runs.
        self.state = State::Closing { deadline };
        Decision::Flush(shard, self.epoch)
    }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
