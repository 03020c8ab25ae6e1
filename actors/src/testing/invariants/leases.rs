//! What consumers ask of SLS and learn from it: their leases, positions and commits.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use tokio::time::Instant;

use super::{Checker, Inner, ShardLogs};
use crate::loghub::decode_cursor;
use crate::model::cursor::Cursor;
use crate::model::ids::ShardId;
use crate::wire::sls::error::SlsError;

/// What one consumer has asked and learnt.
#[derive(Default)]
pub(super) struct Consumer {
    pub(super) heartbeat_sent: Option<Instant>,
    /// Its process stands still until then.
    pub(super) frozen_until: Option<Instant>,
    /// A connection to the receiver has stood open for rule C2's time.
    pub(super) receiver_stood_open: bool,
    /// Commits that it waits for, with when they were sent.
    pub(super) committing: Vec<(ShardId, Instant)>,
    /// Shards of which it has learnt, at its start, that they have a checkpoint.
    pub(super) committed_before: BTreeSet<ShardId>,
    /// When the last answered heartbeat was sent.
    pub(super) confirmed_at: Option<Instant>,
    pub(super) listed: BTreeSet<ShardId>,
    pub(super) owned: BTreeSet<ShardId>,
    pub(super) epochs: BTreeMap<ShardId, Epoch>,
    pub(super) acquisitions: u64,
    /// The last commits that were confirmed to it; where it goes on if SLS has none (rule L6).
    pub(super) resumes: BTreeMap<ShardId, u64>,
    /// Shards that it held when it learnt that the group had been deleted.
    pub(super) deleted: BTreeSet<ShardId>,
}

/// One acquisition of a shard, from the question for its checkpoint on.
#[derive(Default)]
pub(super) struct Epoch {
    pub(super) positions: HashSet<u64>,
    pub(super) committed: Option<u64>,
    /// Which acquisition by this consumer it is.
    pub(super) number: u64,
    /// SLS had no checkpoint: what it does not hold any more lies before the beginning.
    pub(super) begins: bool,
    pub(super) lost: bool,
}
/// Commits that a consumer may have in flight (rule L3).
const MOST_COMMITS: usize = 16;
/// A commit that takes longer is not waited for any more (rule L3).
const COMMIT_GIVEN_UP: Duration = Duration::from_secs(10);
/// How long after it was seen last a group's timeout may still be believed in: it is read once a minute, in its turn.
const CHANGE_NOTICED: Duration = Duration::from_secs(90);
/// The least that a heartbeat may take (rule L2).
const HEARTBEAT_LIMIT: Duration = Duration::from_millis(250);
/// Timers have a grain, and a lease that expires is noticed with the next one.
const GRAIN: Duration = Duration::from_millis(20);

impl Checker {
    /// A consumer sends a heartbeat: L3 and L8 are about this moment.
    pub fn heartbeat_sent(&self, name: &str, held: &[ShardId]) -> Instant {
        let inner = &mut *self.0.borrow_mut();
        inner.note(|| format!("{name}: heartbeat {held:?}"));
        let now = Instant::now();
        let patience = inner.heartbeat_patience();
        let consumer = inner.consumer(name);
        let late =
            consumer.heartbeat_sent.is_some_and(|at| now > at.max(consumer.frozen_until.unwrap_or(at)) + patience);
        let early = !consumer.receiver_stood_open;
        consumer.heartbeat_sent = Some(now);
        consumer.listed = held.iter().copied().collect();
        if late {
            inner.violated(format!("L3: a heartbeat of {name} was delayed"));
        }
        if early {
            inner.violated(format!("L8: {name} asks for shards before the receiver's connection has stood open"));
        }
        now
    }

    /// A connection of the consumer to its receiver has stood open for rule C2's time.
    pub fn receiver_stood_open(&self, consumer: &str) {
        self.0.borrow_mut().consumer(consumer).receiver_stood_open = true;
    }

    /// The consumer's process does nothing until then.
    pub fn stands_still(&self, consumer: &str, until: Instant) {
        let inner = &mut *self.0.borrow_mut();
        let consumer = inner.consumer(consumer);
        consumer.frozen_until = consumer.frozen_until.max(Some(until));
    }

    /// Its answer arrives while the consumer waits for it.
    pub fn heartbeat_answered(&self, name: &str, sent_at: Instant, answer: &Result<Vec<ShardId>, SlsError>) {
        let inner = &mut *self.0.borrow_mut();
        inner.note(|| format!("{name}: heartbeat answered {answer:?}"));
        let now = Instant::now();
        let limit = inner.lease_limit();
        let consumer = inner.consumer(name);
        match answer {
            Ok(owned) => {
                if consumer.confirmed_at.is_some_and(|at| now > at + limit + GRAIN) {
                    consumer.lose_all();
                }
                consumer.confirmed_at = Some(sent_at);
                consumer.owned = owned.iter().copied().collect();
            }
            Err(error) if error.code_is("ConsumerGroupNotExist") => {
                let held = consumer.epochs.iter().filter(|(_, epoch)| !epoch.lost).map(|(shard, _)| *shard);
                consumer.deleted.extend(held);
                consumer.lose_all();
            }
            Err(error) if is_loss_of_all(error) => consumer.lose_all(),
            Err(_) => {}
        }
    }

    /// A consumer asks for a checkpoint, with which it begins to read a shard.
    pub fn epoch_begins(&self, consumer: &str, shard: ShardId) {
        let inner = &mut *self.0.borrow_mut();
        inner.note(|| format!("{consumer}: asks for the checkpoint of {shard}"));
        let consumer = inner.consumer(consumer);
        consumer.acquisitions += 1;
        consumer.epochs.insert(shard, Epoch { number: consumer.acquisitions, ..Epoch::default() });
    }

    /// A consumer has learnt, or reads on at, this position.
    pub fn position_told(&self, consumer: &str, shard: ShardId, cursor: &Cursor) {
        let inner = &mut *self.0.borrow_mut();
        inner.note(|| format!("{consumer}: shard {shard} at {}", decode_cursor(cursor.as_str()).unwrap_or(0)));
        let epoch = inner.consumer(consumer).epochs.entry(shard).or_default();
        epoch.positions.extend(decode_cursor(cursor.as_str()));
    }

    /// A consumer that does not read the shard, but may have to commit the group's start position, has learnt its
    /// checkpoint (rule L6).
    pub fn checkpoint_seen(&self, name: &str, shard: ShardId, checkpoint: Option<&Cursor>) {
        let inner = &mut *self.0.borrow_mut();
        let seen = &mut inner.consumer(name).committed_before;
        if checkpoint.is_some() {
            seen.insert(shard);
        } else {
            seen.remove(&shard);
        }
    }

    /// A consumer has learnt the shard's checkpoint.
    pub fn checkpoint_told(&self, name: &str, shard: ShardId, checkpoint: Option<&Cursor>) {
        if let Some(cursor) = checkpoint {
            self.position_told(name, shard, cursor);
        }
        let inner = &mut *self.0.borrow_mut();
        let consumer = inner.consumer(name);
        let resume = consumer.resumes.get(&shard).copied();
        let resume = resume.filter(|_| checkpoint.is_none() || consumer.deleted.contains(&shard));
        if let Some(epoch) = consumer.epochs.get_mut(&shard) {
            epoch.positions.extend(resume);
            epoch.begins = checkpoint.is_none();
        }
        if checkpoint.is_none() {
            inner.note(|| format!("{name}: shard {shard} has no checkpoint"));
        }
    }

    /// A consumer has learnt the cursor of the shard's oldest log.
    pub fn oldest_told(&self, name: &str, shard: ShardId, oldest: &Cursor) {
        let inner = &mut *self.0.borrow_mut();
        let begins = inner.consumer(name).epochs.get(&shard).is_some_and(|epoch| epoch.begins);
        let (Some(logs), Some(oldest)) = (inner.shards.get_mut(&shard), decode_cursor(oldest.as_str())) else { return };
        logs.oldest = logs.oldest.max(oldest);
        if begins {
            logs.gaps.push((0, Some(oldest)));
        }
    }

    /// A consumer sends a commit: I1, I2, I3, I7 and L3 are about this moment. It waits for the answer until it drops
    /// what this answers.
    pub fn commit_sent(&self, name: &str, shard: ShardId, cursor: &Cursor, force: bool) -> Committing {
        self.check_commit(name, shard, cursor, force);
        let inner = &mut *self.0.borrow_mut();
        let now = Instant::now();
        let committing = &mut inner.consumer(name).committing;
        let waited_for = |(_, at): &&(ShardId, Instant)| now < *at + COMMIT_GIVEN_UP;
        let is_second = committing.iter().filter(waited_for).any(|(other, _)| *other == shard);
        let is_too_many = committing.iter().filter(waited_for).count() >= MOST_COMMITS;
        committing.push((shard, now));
        if is_second || is_too_many {
            inner.violated(format!("L3: {name} has too many commits in flight, one of them of shard {shard}"));
        }
        Committing {
            checker: self.clone(),
            consumer: name.to_owned(),
            commit: (shard, now),
            // Where a group begins is nowhere that its consumers have come to.
            position: decode_cursor(cursor.as_str()).filter(|_| !force),
            epoch: inner.consumer(name).epochs.get(&shard).map(|epoch| epoch.number),
        }
    }

    fn check_commit(&self, name: &str, shard: ShardId, cursor: &Cursor, force: bool) {
        let inner = &mut *self.0.borrow_mut();
        let now = Instant::now();
        let Some(number) = decode_cursor(cursor.as_str()) else {
            return inner.violated(format!("I1: {name} commits {cursor}, which is no cursor of shard {shard}"));
        };
        inner.note(|| format!("{name}: commits shard {shard} at {number}{}", if force { ", forced" } else { "" }));
        // Without having to hold the shard: what SLS has confirmed before and may have forgotten.
        let is_again = inner.consumer(name).resumes.get(&shard) == Some(&number);
        if force && !is_again {
            return inner.forced(name, shard, number);
        }
        let settled = inner.settled(shard);
        if settled.is_some_and(|settled| number > settled) {
            let what = format!("I1: {name} commits shard {shard} at {number}, but {settled:?} is not settled");
            inner.violated(what);
        }
        if force {
            return;
        }
        let (limit, patience) = (inner.lease_limit(), inner.heartbeat_patience());
        let consumer = inner.consumer(name);
        let mut violations = Vec::new();
        if consumer.confirmed_at.is_none_or(|at| now >= at + limit) {
            violations.push(format!("I3: {name} commits shard {shard} with a lease that is too old"));
        }
        if !consumer.listed.contains(&shard) && !consumer.owned.contains(&shard) {
            violations.push(format!("I3: {name} commits shard {shard}, which it does not hold"));
        }
        if consumer.heartbeat_sent.is_none_or(|at| now > at + patience) {
            violations.push(format!("I7: {name} commits shard {shard}, but its heartbeats have ended"));
        }
        match consumer.epochs.get_mut(&shard) {
            None => violations.push(format!("I3: {name} commits shard {shard}, which it has not read")),
            Some(epoch) => {
                if epoch.lost {
                    violations.push(format!("I3: {name} commits shard {shard} under a lease that it knows to be lost"));
                }
                if !epoch.positions.contains(&number) {
                    violations.push(format!("I3: {name} commits shard {shard} at {number}, read under an older lease"));
                }
                if epoch.committed.is_some_and(|committed| number < committed) {
                    violations.push(format!("I2: {name} commits shard {shard} backwards, at {number}"));
                }
                epoch.committed = Some(number);
            }
        }
        violations.into_iter().for_each(|what| inner.violated(what));
    }

    /// The answer to a commit arrives while the consumer waits for it. Of a commit under a former lease it says nothing
    /// about the leases of now.
    pub fn commit_answered(&self, commit: &Committing, answer: &Result<(), SlsError>) {
        let inner = &mut *self.0.borrow_mut();
        let (name, shard) = (&commit.consumer, commit.commit.0);
        inner.note(|| format!("{name}: commit of shard {shard} answered {answer:?}"));
        let consumer = inner.consumers.entry(name.clone()).or_default();
        let is_of_now = consumer.epochs.get(&shard).map(|epoch| epoch.number) == commit.epoch;
        match answer {
            Ok(()) => {
                consumer.resumes.extend(commit.position.map(|position| (shard, position)));
                if let Some(logs) = inner.shards.get_mut(&shard) {
                    logs.acknowledged = logs.acknowledged.max(commit.position);
                }
            }
            Err(_) if !is_of_now => {}
            Err(error) if error.code_is("ConsumerNotMatch") => {
                // Of a finished shard SLS refuses also that its end is committed once more.
                let acknowledged = inner.shards.get(&shard).and_then(|logs| logs.acknowledged);
                inner.stale_commits += u64::from(acknowledged.is_none() || acknowledged != commit.position);
                if let Some(epoch) = consumer.epochs.get_mut(&shard) {
                    epoch.lost = true;
                }
            }
            Err(error) if is_loss_of_all(error) => consumer.lose_all(),
            Err(_) => {}
        }
    }

    /// A consumer's process has ended; another may begin under its name.
    pub fn consumer_ended(&self, consumer: &str) {
        self.0.borrow_mut().consumers.remove(consumer);
    }
}

fn is_loss_of_all(error: &SlsError) -> bool {
    error.code_is("NotExistConsumerWithBody") || error.code_is("ConsumerNotExist")
}

impl Inner {
    pub(super) fn consumer(&mut self, name: &str) -> &mut Consumer {
        if !self.consumers.contains_key(name) {
            self.consumers.insert(name.to_owned(), Consumer::default());
        }
        self.consumers.entry(name.to_owned()).or_default()
    }

    /// The longest timeout of the group that a consumer may still believe in.
    fn group_timeout(&mut self) -> Duration {
        let now = Instant::now();
        if let Some(timeout) = (self.terms.group_timeout)() {
            self.timeouts.retain(|(other, seen)| *other != timeout && now < *seen + CHANGE_NOTICED);
            self.timeouts.push((timeout, now));
        }
        self.timeouts.iter().map(|(timeout, _)| *timeout).max().unwrap_or_default()
    }

    fn lease_limit(&mut self) -> Duration {
        self.group_timeout().mul_f64(0.9)
    }

    /// The longest time between two heartbeats, with one that is not answered (rules L2 and L4).
    fn heartbeat_patience(&mut self) -> Duration {
        let interval = self.terms.heartbeat_interval.min(self.group_timeout() / 2);
        interval.mul_f64(1.3).max(interval / 20 + HEARTBEAT_LIMIT) + GRAIN
    }

    /// A group's birth: what lies before the start position is not wanted (rule L6), unless somebody who reads the shard
    /// knows that this is not its first birth.
    fn forced(&mut self, name: &str, shard: ShardId, number: u64) {
        let consumer = self.consumer(name);
        if consumer.resumes.contains_key(&shard) || consumer.committed_before.contains(&shard) {
            self.violated(format!("L6: {name} forces the checkpoint of shard {shard}, which has one"));
        }
        let knows = |consumer: &Consumer| {
            let resume = consumer.resumes.get(&shard).copied();
            resume.filter(|_| consumer.deleted.contains(&shard))
        };
        let unwanted = self.consumers.values().filter_map(knows).fold(number, u64::min);
        // Nothing may have been written to it yet.
        let logs = self.shards.entry(shard).or_insert_with(|| ShardLogs {
            first: number,
            settled: number,
            ..ShardLogs::default()
        });
        logs.gaps.push((0, Some(unwanted)));
    }
}

impl Consumer {
    fn lose_all(&mut self) {
        for epoch in self.epochs.values_mut() {
            epoch.lost = true;
        }
        self.owned.clear();
    }
}

/// A commit whose answer somebody waits for, until this is dropped.
pub struct Committing {
    checker: Checker,
    consumer: String,
    commit: (ShardId, Instant),
    position: Option<u64>,
    /// The acquisition under which it was sent.
    epoch: Option<u64>,
}

impl Drop for Committing {
    fn drop(&mut self) {
        // Not while somebody looks, which is when a simulation ends by a panic.
        let Ok(mut inner) = self.checker.0.try_borrow_mut() else { return };
        let Some(consumer) = inner.consumers.get_mut(&self.consumer) else { return };
        if let Some(at) = consumer.committing.iter().position(|commit| *commit == self.commit) {
            consumer.committing.swap_remove(at);
        }
    }
}
