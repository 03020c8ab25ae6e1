//! Checks of the promises I1 to I10 by somebody who sees only what crosses the process's border: what is asked of SLS
//! and answered, and what the receiver acknowledges and reads.
//!
//! Violations are collected, not thrown: a panic in the middle of an actor would be one more fault.

mod leases;
mod logs;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher};
use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;

use super::body_memory::BodyMemory;
use crate::counters::CountersSnapshot;
use crate::loghub::decode_cursor;
use crate::model::ids::ShardId;

pub use leases::Committing;
use leases::Consumer;
use logs::{HEADER, Log, ShardLogs, text_of};

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
    stale_commits: u64,
    violations: Vec<String>,
    trace: DefaultHasher,
    story: Option<Vec<String>>,
}

/// Violations that are told; the rest follows from these.
const MOST_VIOLATIONS: usize = 10;
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
            stale_commits: 0,
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
        let inner = &mut *self.0.borrow_mut();
        let Some(logs) = inner.shards.get_mut(&shard).filter(|logs| logs.oldest < u64::MAX) else { return };
        logs.oldest = u64::MAX;
        let reads = |(name, consumer): (&String, &Consumer)| {
            let epoch = consumer.epochs.get(&shard).filter(|epoch| !epoch.lost && !epoch.positions.is_empty())?;
            consumer.owned.contains(&shard).then(|| (name.clone(), epoch.number))
        };
        logs.last_reader = inner.consumers.iter().find_map(reads);
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
        if counters.settled_twice > 0 {
            inner.violated(format!("I4: {} tickets have settled twice", counters.settled_twice));
        }
        let (issued, settled) = (counters.batches, counters.batches_delivered + counters.batches_failed);
        if settled > issued || kept_all && settled < issued {
            inner.violated(format!("I4: {settled} tickets have settled, of {issued}"));
        }
    }

    /// I5: bodies and raw log groups held at once.
    pub fn check_memory(&self, memory: &BodyMemory, budget: usize) {
        let (most, largest) = memory.peak();
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

    /// Commits that SLS refused because somebody else held the shard.
    pub fn stale_commits(&self) -> u64 {
        self.0.borrow().stale_commits
    }

    /// Logs produced, messages read more than once, gap records seen.
    pub fn totals(&self) -> (usize, u64, u64) {
        let inner = self.0.borrow();
        (inner.logs.len(), inner.duplicates, inner.gaps)
    }
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
}
