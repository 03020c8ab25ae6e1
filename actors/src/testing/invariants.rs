//! Checks of the promises I1 to I10 by somebody who sees only what crosses the process's border: what is asked of SLS
//! and answered, and what the receiver acknowledges and reads.
//!
//! Violations are collected, not thrown: a panic in the middle of an actor would be one more fault.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::{DefaultHasher, Hasher};
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::dead_letter::KeptLog;
use super::receiver::Sighting;
use crate::counters::CountersSnapshot;
use crate::loghub::decode_cursor;
use crate::model::cursor::Cursor;
use crate::model::ids::ShardId;
use crate::wire::dead_letter::Text;
use crate::wire::sls::error::SlsError;
use crate::wire::syslog::parse::{Message, parse, split_key_values};

/// What the checker has to know of the settings.
pub struct Terms {
    /// The group's timeout at the moment, if there is a group.
    pub group_timeout: Box<dyn Fn() -> Option<Duration>>,
    /// Time between heartbeats.
    pub heartbeat_interval: Duration,
    /// The receiver takes no message longer than this, so that gaps are to be expected for logs about as long (rule C4).
    pub longest: Option<usize>,
    /// Whether the receiver ends connections or refuses messages for other reasons, for which a long one may be blamed.
    pub receiver_misleads: bool,
    /// Whether SLS forgets logs, so that gaps are to be expected.
    pub logs_expire: bool,
    /// Whether the receiver loses what it has acknowledged, which no sender can know at this level of confirmation.
    pub receiver_loses: bool,
}

/// Looks on; a clone is the same one.
#[derive(Clone)]
pub struct Checker(Rc<RefCell<Inner>>);

struct Inner {
    terms: Terms,
    /// The group's timeouts of late, each with when it was last seen: a change is noticed within a minute (rule L2).
    timeouts: Vec<(Duration, Instant)>,
    began: Instant,
    logs: Vec<Log>,
    shards: BTreeMap<ShardId, ShardLogs>,
    consumers: BTreeMap<String, Consumer>,
    gaps: u64,
    duplicates: u64,
    violations: Vec<String>,
    trace: DefaultHasher,
    story: Option<Vec<String>>,
}

struct Log {
    shard: ShardId,
    number: u64,
    length: usize,
    confirmed: bool,
    read: u32,
    /// A gap record has named it.
    named: bool,
    /// The dead letter has it.
    kept: bool,
    /// The connection on which the receiver has answered that it does not take it, and may have taken what was on its
    /// way behind it.
    refused_on: Option<usize>,
}

impl Log {
    /// Whether the receiver has it, or has been told that it gets it no more.
    fn is_delivered(&self) -> bool {
        self.read > 0 || self.confirmed || self.named
    }

    /// Whether a checkpoint may pass it: what is set aside has to be in the dead letter before.
    fn is_settled(&self) -> bool {
        self.read > 0 || self.confirmed || self.named && self.kept
    }
}

/// What is known of the logs of one shard.
#[derive(Default)]
struct ShardLogs {
    /// Cursor number of the first log group.
    first: u64,
    /// The logs of each log group, by cursor number from `first` on.
    groups: Vec<Range<usize>>,
    /// Everything below this cursor number is settled.
    settled: u64,
    /// Log groups below this one are not kept any more.
    oldest: u64,
    /// What gap records have named; without end if SLS has forgotten the shard.
    gaps: Vec<(u64, Option<u64>)>,
    /// The furthest commit that was answered since the group was made.
    acknowledged: Option<u64>,
}

/// What one consumer has asked and learnt.
#[derive(Default)]
struct Consumer {
    heartbeat_sent: Option<Instant>,
    /// Its process stands still until then.
    frozen_until: Option<Instant>,
    /// A connection to the receiver has stood open for rule C2's time.
    receiver_stood_open: bool,
    /// Commits that it waits for, with when they were sent.
    committing: Vec<(ShardId, Instant)>,
    /// Shards of which it has learnt, at its start, that they have a checkpoint.
    committed_before: BTreeSet<ShardId>,
    /// When the last answered heartbeat was sent.
    confirmed_at: Option<Instant>,
    listed: BTreeSet<ShardId>,
    owned: BTreeSet<ShardId>,
    epochs: BTreeMap<ShardId, Epoch>,
    acquisitions: u64,
    /// The last commits that were confirmed to it; where it goes on if SLS has none (rule L6).
    resumes: BTreeMap<ShardId, u64>,
}

/// One acquisition of a shard, from the question for its checkpoint on.
#[derive(Default)]
struct Epoch {
    positions: HashSet<u64>,
    committed: Option<u64>,
    /// Which acquisition by this consumer it is.
    number: u64,
    /// SLS had no checkpoint: what it does not hold any more lies before the beginning.
    begins: bool,
    lost: bool,
}

/// Violations that are told; the rest follows from these.
const MOST_VIOLATIONS: usize = 10;
/// Timers have a grain, and a lease that expires is noticed with the next one.
const GRAIN: Duration = Duration::from_millis(20);

impl Checker {
    /// Nothing has happened yet.
    pub fn new(terms: Terms) -> Self {
        Self(Rc::new(RefCell::new(Inner {
            terms,
            timeouts: Vec::new(),
            began: Instant::now(),
            logs: Vec::new(),
            shards: BTreeMap::new(),
            consumers: BTreeMap::new(),
            gaps: 0,
            duplicates: 0,
            violations: Vec::new(),
            trace: DefaultHasher::new(),
            story: None,
        })))
    }

    /// Keeps a line for everything that happens.
    pub fn keep_story(&self) {
        self.0.borrow_mut().story.get_or_insert_default();
    }

    /// Everything that happened, if it was kept.
    pub fn story(&self) -> Vec<String> {
        self.0.borrow().story.clone().unwrap_or_default()
    }

    /// Adds to the story.
    pub fn note(&self, what: &str) {
        self.0.borrow_mut().note(|| what.to_owned());
    }

    /// A number that is the same whenever the same things happened at the same times.
    pub fn trace(&self) -> u64 {
        self.0.borrow().trace.finish()
    }

    /// What was violated so far.
    pub fn violations(&self) -> Vec<String> {
        self.0.borrow().violations.clone()
    }

    /// Something is wrong.
    pub fn violated(&self, what: String) {
        self.0.borrow_mut().violated(what);
    }

    // ---- what is produced --------------------------------------------------------------------------------------

    /// The contents of log `id`: its id and a text of so many bytes.
    pub fn log_contents(&self, id: usize, length: usize) -> (String, String) {
        (id.to_string(), text_of(id, length))
    }

    /// SLS has taken a log group: its shard and cursor, and the lengths of the texts of its logs, whose ids follow
    /// those of all logs before.
    pub fn produced(&self, shard: ShardId, cursor: &str, lengths: &[usize]) {
        let inner = &mut *self.0.borrow_mut();
        let Some(number) = decode_cursor(cursor) else {
            return inner.violated(format!("the hub made the cursor {cursor:?}"));
        };
        let begin = inner.logs.len();
        for length in lengths {
            inner.logs.push(Log {
                shard,
                number,
                length: *length,
                confirmed: false,
                read: 0,
                named: false,
                kept: false,
                refused_on: None,
            });
        }
        let logs = begin..inner.logs.len();
        let shard = inner.shards.entry(shard).or_default();
        if shard.groups.is_empty() {
            (shard.first, shard.settled) = (number, number);
        }
        shard.groups.push(logs);
    }

    /// The shards to which something was written.
    pub fn shards(&self) -> Vec<ShardId> {
        self.0.borrow().shards.keys().copied().collect()
    }

    /// SLS keeps nothing of the shard before this cursor.
    pub fn forgotten(&self, shard: ShardId, oldest: &str) {
        if let (Some(shard), Some(oldest)) = (self.0.borrow_mut().shards.get_mut(&shard), decode_cursor(oldest)) {
            shard.oldest = shard.oldest.max(oldest);
        }
    }

    /// SLS has forgotten the shard.
    pub fn shard_gone(&self, shard: ShardId) {
        if let Some(shard) = self.0.borrow_mut().shards.get_mut(&shard) {
            shard.oldest = u64::MAX;
        }
    }

    // ---- what the receiver sees --------------------------------------------------------------------------------

    /// The receiver has acknowledged or read a message.
    pub fn sighted(&self, sighting: Sighting, connection: usize, message: &[u8]) {
        let inner = &mut *self.0.borrow_mut();
        inner.trace.write(message);
        inner.note(|| format!("{sighting:?}: {}", String::from_utf8_lossy(&message[..message.len().min(120)])));
        match read_message(message) {
            Ok(Content::Log { id, text }) => inner.log_sighted(sighting, connection, id, text),
            // A gap record that is refused names nothing.
            Ok(Content::SetAside { .. } | Content::Gap { .. }) if sighting == Sighting::Refused => {}
            Ok(Content::SetAside { shard, from, place }) => inner.set_aside(sighting, shard, from, place),
            Ok(Content::Gap { shard, from, to }) => inner.gap_sighted(sighting, shard, from, to),
            Err(what) => {
                let shown = String::from_utf8_lossy(&message[..message.len().min(200)]).into_owned();
                inner.violated(format!("{what}: {shown}"));
            }
        }
    }

    /// The dead letter has kept a log.
    pub fn kept(&self, kept: &KeptLog) {
        let inner = &mut *self.0.borrow_mut();
        inner.note(|| format!("kept: log {} from {} of shard {}", kept.place, kept.from, kept.shard));
        let found = decode_cursor(&kept.from).and_then(|from| inner.log_at(kept.shard, from, kept.place as usize));
        let text = |text: &str| Text::Utf8(text.to_owned());
        let id = kept.log.contents.iter().find(|(key, _)| *key == text("id")).map(|(_, id)| id);
        match found {
            Some(log) if id == Some(&text(&log.to_string())) => inner.logs[log].kept = true,
            _ => inner.violated(format!("C4: the dead letter keeps another log than {found:?}: {kept:?}")),
        }
    }

    // ---- what SLS is asked -------------------------------------------------------------------------------------

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
            Err(error) if is_loss_of_all(error) || error.code_is("ConsumerGroupNotExist") => consumer.lose_all(),
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
            return self.position_told(name, shard, cursor);
        }
        let inner = &mut *self.0.borrow_mut();
        inner.note(|| format!("{name}: shard {shard} has no checkpoint"));
        let consumer = inner.consumer(name);
        let resume = consumer.resumes.get(&shard).copied();
        if let Some(epoch) = consumer.epochs.get_mut(&shard) {
            epoch.positions.extend(resume);
            epoch.begins = true;
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
        inner.note(|| format!("{name}: commits shard {shard} at {number}"));
        if force {
            return inner.forced(name, shard, number);
        }
        let settled = inner.settled(shard);
        if settled.is_some_and(|settled| number > settled) {
            let what = format!("I1: {name} commits shard {shard} at {number}, but {settled:?} is not settled");
            inner.violated(what);
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
        let consumer = inner.consumer(name);
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

    // ---- the end -----------------------------------------------------------------------------------------------

    /// Whether everything that was produced is settled, and read unless it was lost behind the receiver's TCP.
    pub fn is_complete(&self) -> bool {
        let inner = &mut *self.0.borrow_mut();
        let shards: Vec<ShardId> = inner.shards.keys().copied().collect();
        shards.into_iter().all(|shard| inner.settled(shard) == inner.shards.get(&shard).map(ShardLogs::end))
            && (inner.terms.receiver_loses || inner.first_unread().is_none())
    }

    /// Whether everything before this position of the shard is settled.
    pub fn is_settled(&self, shard: ShardId, cursor: &str) -> bool {
        let number = decode_cursor(cursor);
        self.0.borrow_mut().settled(shard).is_none_or(|settled| number.is_some_and(|number| number <= settled))
    }

    /// Whether the last position of the shard was committed and answered, even if a commit that came later than its
    /// successor has moved the checkpoint back: SLS has no fencing, which costs duplicates.
    pub fn was_committed(&self, shard: ShardId, end: &str) -> bool {
        let acknowledged = self.0.borrow().shards.get(&shard).and_then(|logs| logs.acknowledged);
        acknowledged.is_some() && acknowledged == decode_cursor(end)
    }

    /// Somebody has deleted the group, and its checkpoints with it.
    pub fn group_deleted(&self) {
        for logs in self.0.borrow_mut().shards.values_mut() {
            logs.acknowledged = None;
        }
    }

    /// I8 and I9: what was produced and is neither delivered, nor lost behind the receiver's TCP, nor named by a gap.
    pub fn check_complete(&self) {
        let inner = &mut *self.0.borrow_mut();
        let shards: Vec<ShardId> = inner.shards.keys().copied().collect();
        for shard in shards {
            let (settled, logs) = (inner.settled(shard), &inner.shards[&shard]);
            let Some(missing) = settled.filter(|settled| *settled < logs.end()) else { continue };
            let what = if missing < logs.oldest {
                format!("I9: log group {missing} of shard {shard} was skipped, and no gap record names it")
            } else {
                format!("I8: log group {missing} of shard {shard} was not delivered although all is well again")
            };
            inner.violated(what);
        }
        if !inner.terms.receiver_loses
            && let Some(log) = inner.first_unread()
        {
            inner.violated(format!("I8: log {log} was confirmed, but nobody has read it, and nothing was lost"));
        }
    }

    /// I4, I6: what a forwarder's own counters must say once it has ended. Tickets whose fetcher has ended before them
    /// are not counted as settled, unless `kept_all` says that there are none.
    pub fn check_counters(&self, counters: &CountersSnapshot, kept_all: bool) {
        let inner = &mut *self.0.borrow_mut();
        if counters.full_mailboxes > 0 {
            inner.violated(format!("I6: {} data messages found a full mailbox", counters.full_mailboxes));
        }
        let (issued, settled) = (counters.batches, counters.batches_delivered + counters.batches_failed);
        if settled > issued || kept_all && settled < issued {
            inner.violated(format!("I4: {settled} tickets have settled, of {issued}"));
        }
    }

    /// I5: bodies and raw log groups held at once.
    pub fn check_memory(&self, memory: &BodyMemory, budget: usize) {
        let (most, largest) = (memory.0.most.load(Ordering::Relaxed), memory.0.largest.load(Ordering::Relaxed));
        if most > budget.max(largest) {
            self.0.borrow_mut().violated(format!("I5: {most} bytes of bodies were held, of {budget}"));
        }
    }

    /// Logs that the receiver may refuse.
    pub fn refusable(&self) -> usize {
        let inner = self.0.borrow();
        let Some(longest) = inner.terms.longest else { return 0 };
        inner.logs.iter().filter(|log| log.length + HEADER >= longest).count()
    }

    /// Logs produced, messages read more than once, gap records seen.
    pub fn totals(&self) -> (usize, u64, u64) {
        let inner = self.0.borrow();
        (inner.logs.len(), inner.duplicates, inner.gaps)
    }
}

/// Commits that a consumer may have in flight (rule L3).
const MOST_COMMITS: usize = 16;
/// A commit that takes longer is not waited for any more (rule L3).
const COMMIT_GIVEN_UP: Duration = Duration::from_secs(10);
/// How long after it was seen last a group's timeout may still be believed in: it is read once a minute, in its turn.
const CHANGE_NOTICED: Duration = Duration::from_secs(90);
/// What a message has beside the text of its log, at most.
const HEADER: usize = 300;
/// The least that a heartbeat may take (rule L2).
const HEARTBEAT_LIMIT: Duration = Duration::from_millis(250);

fn is_loss_of_all(error: &SlsError) -> bool {
    error.code_is("NotExistConsumerWithBody") || error.code_is("ConsumerNotExist")
}

impl Inner {
    fn violated(&mut self, what: String) {
        let at = self.began.elapsed();
        self.note(|| format!("VIOLATION {what}"));
        if self.violations.len() < MOST_VIOLATIONS {
            self.violations.push(format!("{what} (after {at:?})"));
        }
    }

    fn note(&mut self, line: impl FnOnce() -> String) {
        self.trace.write_u128(self.began.elapsed().as_micros());
        if let Some(story) = &mut self.story {
            story.push(format!("{:>9.3} {}", self.began.elapsed().as_secs_f64(), line()));
        }
    }

    fn consumer(&mut self, name: &str) -> &mut Consumer {
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

    /// A group's birth: what lies before the start position is not wanted (rule L6).
    fn forced(&mut self, name: &str, shard: ShardId, number: u64) {
        let consumer = self.consumer(name);
        if consumer.resumes.contains_key(&shard) || consumer.committed_before.contains(&shard) {
            self.violated(format!("L6: {name} forces the checkpoint of shard {shard}, which has one"));
        }
        // Nothing may have been written to it yet.
        let logs = self.shards.entry(shard).or_insert_with(|| ShardLogs {
            first: number,
            settled: number,
            ..ShardLogs::default()
        });
        logs.gaps.push((0, Some(number)));
    }

    /// The first position of the shard that is not settled; `None` if nothing was ever written to it.
    fn settled(&mut self, shard: ShardId) -> Option<u64> {
        let reads = |consumer: &Consumer| {
            let holds = consumer.owned.contains(&shard) || consumer.listed.contains(&shard);
            holds && consumer.epochs.get(&shard).is_some_and(|epoch| !epoch.lost)
        };
        let is_read = self.consumers.values().any(reads);
        let shard = self.shards.get_mut(&shard)?;
        if shard.oldest == u64::MAX && !is_read {
            // SLS has forgotten it while nobody held it, so there is nobody who can know.
            shard.settled = shard.end();
        }
        while shard.settled < shard.end() {
            let number = shard.settled;
            let group = shard.groups[(number - shard.first) as usize].clone();
            let named = shard.gaps.iter().any(|(from, to)| *from <= number && to.is_none_or(|to| number < to));
            if !named && !self.logs[group].iter().all(Log::is_settled) {
                break;
            }
            shard.settled += 1;
        }
        Some(shard.settled)
    }

    /// The first log that was confirmed and that the receiver's application has not read.
    fn first_unread(&self) -> Option<usize> {
        self.logs.iter().position(|log| log.confirmed && log.read == 0)
    }

    fn log_sighted(&mut self, sighting: Sighting, connection: usize, id: usize, text: &[u8]) {
        let Some(log) = self.logs.get_mut(id) else { return self.violated(format!("log {id} was never produced")) };
        if text != text_of(id, log.length).as_bytes() {
            return self.violated(format!("log {id} was altered"));
        }
        match sighting {
            Sighting::Confirmed => return log.confirmed = true,
            Sighting::Refused => return log.refused_on = Some(connection),
            Sighting::Read => log.read += 1,
        }
        let (shard, number) = (log.shard, log.number);
        if log.read > 1 {
            self.duplicates += 1;
            return;
        }
        // I10: a first delivery finds everything before it delivered, but for the earlier logs of its own group, and for
        // what the receiver has refused on this connection: it may take what was on its way behind that.
        let Some(settled) = self.settled(shard) else { return };
        let logs = &self.shards[&shard];
        let passed = settled.min(number) - logs.first..number - logs.first;
        let groups = logs.groups.get(passed.start as usize..passed.end as usize).unwrap_or_default();
        let own = logs.groups[passed.end as usize].start..id;
        let mut before = groups.iter().cloned().chain([own]).flatten();
        let excused = |log: &Log| log.is_delivered() || log.refused_on == Some(connection);
        let overtakes = !before.all(|id| excused(&self.logs[id]));
        if overtakes {
            self.violated(format!("I10: log {id} (shard {shard}, {number}) overtakes log group {settled}"));
        }
    }

    /// The log at this place of a batch that begins at `from`.
    fn log_at(&self, shard: ShardId, from: u64, place: usize) -> Option<usize> {
        let logs = self.shards.get(&shard)?;
        let first = usize::try_from(from.checked_sub(logs.first)?).ok()?;
        logs.groups.get(first..)?.iter().cloned().flatten().nth(place)
    }

    /// A gap record names the log at this place of a batch that begins at `from`.
    fn set_aside(&mut self, sighting: Sighting, shard: ShardId, from: u64, place: usize) {
        if sighting == Sighting::Read {
            self.gaps += 1;
        }
        let named = self.log_at(shard, from, place);
        let Some(log) = named.and_then(|id| self.logs.get_mut(id)) else {
            return self
                .violated(format!("C4: log {place} from {from} of shard {shard} is set aside, which is not there"));
        };
        log.named = true;
        let length = log.length;
        let is_taken = self.terms.longest.is_none_or(|longest| length + HEADER < longest);
        if is_taken && !self.terms.receiver_misleads {
            self.violated(format!("C4: log {named:?} of {length} bytes is set aside, which the receiver takes"));
        }
    }

    fn gap_sighted(&mut self, sighting: Sighting, shard: ShardId, from: u64, to: u64) {
        if sighting == Sighting::Read {
            self.gaps += 1;
        }
        if !self.terms.logs_expire {
            self.violated(format!("I9: a gap record for shard {shard}, {from} to {to}, although nothing is missing"));
        }
        let Some(logs) = self.shards.get_mut(&shard) else { return };
        let (oldest, gone) = (logs.oldest, logs.oldest == u64::MAX);
        let range = if gone && from == to { (from, None) } else { (from, Some(to)) };
        if !logs.gaps.contains(&range) {
            logs.gaps.push(range);
        }
        if to > oldest {
            self.violated(format!(
                "I9: a gap record names {from} to {to} of shard {shard}, but SLS still holds {oldest}"
            ));
        }
    }
}

impl ShardLogs {
    fn end(&self) -> u64 {
        self.first + self.groups.len() as u64
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

/// What a message of ours says.
enum Content<'a> {
    Log { id: usize, text: &'a [u8] },
    SetAside { shard: ShardId, from: u64, place: usize },
    Gap { shard: ShardId, from: u64, to: u64 },
}

fn read_message(message: &[u8]) -> Result<Content<'_>, String> {
    let Message { msgid, msg, .. } = parse(message).map_err(|error| error.to_string())?;
    let fields = split_key_values(msg.unwrap_or_default(), b"||").ok_or("a payload that is not key=value")?;
    let field = |key: &str| fields.iter().find(|(name, _)| *name == key.as_bytes()).map(|(_, value)| *value);
    let text = |key: &str| field(key).and_then(|value| std::str::from_utf8(value).ok());
    if msgid == Some("gap") {
        let shard = text("shard").and_then(|shard| shard.parse().ok()).map(ShardId).ok_or("a gap without shard")?;
        let from = text("from").and_then(decode_cursor).ok_or("a gap without beginning")?;
        let words: Vec<&str> = text("reason").unwrap_or_default().split(' ').take(7).collect();
        if let ["log", place, "of", "the", "batch", "is", "set"] = words[..] {
            let place = place.parse().map_err(|_| "a gap for a log without place")?;
            return Ok(Content::SetAside { shard, from, place });
        }
        let to = text("to").and_then(decode_cursor).ok_or("a gap without end")?;
        return Ok(Content::Gap { shard, from, to });
    }
    let id = text("id").and_then(|id| id.parse().ok()).ok_or("a log without id")?;
    Ok(Content::Log { id, text: field("text").ok_or("a log without text")? })
}

/// The text of a log: differs from log to log, compresses well.
fn text_of(id: usize, length: usize) -> String {
    let word = format!("log-{id}.");
    word.chars().cycle().take(length).collect()
}

/// Counts the bodies that a forwarder holds, each with the raw log groups that it stands for.
#[derive(Debug, Clone, Default)]
pub struct BodyMemory(Arc<Held>);

#[derive(Debug, Default)]
struct Held {
    now: AtomicUsize,
    most: AtomicUsize,
    largest: AtomicUsize,
}

/// A body that is counted while anybody holds it.
struct HeldBody {
    bytes: Bytes,
    size: usize,
    held: Arc<Held>,
}

impl BodyMemory {
    /// Counts `bytes`, and what they become once decompressed, until they are dropped.
    pub fn hold(&self, bytes: Bytes, raw_size: usize) -> Bytes {
        let size = bytes.len() + raw_size;
        let now = self.0.now.fetch_add(size, Ordering::Relaxed) + size;
        self.0.most.fetch_max(now, Ordering::Relaxed);
        self.0.largest.fetch_max(size, Ordering::Relaxed);
        Bytes::from_owner(HeldBody { bytes, size, held: Arc::clone(&self.0) })
    }

    /// Bytes held now.
    pub fn held(&self) -> usize {
        self.0.now.load(Ordering::Relaxed)
    }
}

impl AsRef<[u8]> for HeldBody {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for HeldBody {
    fn drop(&mut self) {
        self.held.now.fetch_sub(self.size, Ordering::Relaxed);
    }
}
