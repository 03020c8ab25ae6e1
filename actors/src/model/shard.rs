//! One shard under one lease: what its fetcher does next.
//!
//! The machine answers with at most one job at a time (ask for the checkpoint, ask for a cursor, pull), so order needs
//! no further care. It owns the shard's ledger and pace. Everything ends in one of three ways: told to abandon, told to
//! drain, or SLS does not know the shard any more.

use std::time::{Duration, Instant};

use super::aside::Asides;
use super::bad_body::{BadBodies, BadBody};
use super::cursor::Cursor;
use super::ids::{Generation, Sequence};
use super::ledger::{Ledger, Position};
use super::pull_pace::PullPace;

/// The machine of one shard within one epoch.
#[derive(Debug)]
pub struct ShardMachine {
    stage: Stage,
    stop: Option<Stop>,
    job: Option<Running>,
    rest_until: Option<Instant>,
    ledger: Ledger,
    pace: PullPace,
    bad_bodies: BadBodies,
    asides: Asides,
    memory: Memory,
    resume: Option<Resume>,
    readonly_since: Option<Instant>,
    end_committed: Option<Instant>,
    /// The last answer was empty and reached the shard's end.
    at_end: bool,
    ready: Option<Ready>,
}

/// Where this process has come to in the shard before, by what SLS has confirmed. It goes on there if SLS has no checkpoint
/// any more (the group was made anew, rule L6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resume {
    /// The position.
    pub cursor: Cursor,
    /// Go on there whatever SLS has: it has forgotten what we read, and somebody else may have stored a start position.
    pub instead: bool,
}

/// Where the machine stands.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Stage {
    /// The checkpoint is not known yet.
    NeedCheckpoint,
    /// Nothing was ever committed: reading begins at the oldest log kept.
    NeedBegin,
    /// The cursor `lost` is not valid any more: reading goes on at the oldest log kept, behind a gap record (L7).
    NeedOldest { lost: Cursor },
    /// Reading at `cursor`.
    Reading { cursor: Cursor },
    /// SLS does not know the shard; it ends when its gap record is confirmed (L7), which is entered, or still has to be
    /// from `unnamed` on. Nobody waits for such a shard, so no transfer's deadline ends it.
    Gone { unnamed: Option<Cursor> },
}

/// Why a shard stops; the stronger reason replaces the weaker one, never the reverse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    Requested { deadline: Instant },
    Lost,
}

/// What kind of job is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Running {
    /// One that finds something new.
    Reading,
    /// Setting aside what was pulled before.
    SettingAside,
}

/// How much memory a pull may take.
#[derive(Debug, Clone, Copy)]
struct Memory {
    /// What the shard's answers took lately.
    recent: usize,
    /// All that there is for bodies and raw log groups.
    most: usize,
}

impl Memory {
    /// What to reserve before a pull: somewhat more than lately, because an answer that turns out to be a little larger, with
    /// nothing free, would have to be dropped and pulled again.
    fn to_reserve(self) -> usize {
        (self.recent + self.recent / 8).min(self.most)
    }
}

/// What the fetcher is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Start this job and report its end.
    Start(Job),
    /// Nothing until the next event, or until then.
    Wait(Option<Instant>),
    /// Deliver a gap record under this number, in place of what was given up; then ask again.
    Skip(Generation, Sequence, Gap),
    /// End: nothing more can or may settle.
    End(End),
}

/// A request to SLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Job {
    /// GetCheckPoint.
    Checkpoint,
    /// GetCursor `from=begin`.
    OldestCursor,
    /// PullLogs, after reserving `reserve` bytes.
    Pull {
        /// Where to read.
        cursor: Cursor,
        /// Log groups to ask for.
        count: u32,
        /// Bytes to reserve for body and raw log groups.
        reserve: usize,
    },
    /// PullLogs of a batch once more, for those of its logs that the receiver does not take: into the dead letter.
    SetAside {
        /// The batch.
        sequence: Sequence,
        /// Its first log group.
        from: Cursor,
        /// Its log groups.
        log_groups: u32,
        /// Bytes to reserve for body and raw log groups.
        reserve: usize,
    },
}

/// How a shard ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// As told.
    Stopped,
    /// SLS does not know it any more.
    Gone,
}

/// The headers of an answer to a pull, as far as they decide something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Cursor after the answer.
    pub next: Option<Cursor>,
    /// Log groups in it.
    pub log_groups: u32,
    /// Bytes once decompressed.
    pub raw_bytes: u64,
    /// Bytes that body and raw log groups take together.
    pub memory: usize,
    /// Whether it reaches the shard's present end, where told.
    pub end_of_shard: Option<bool>,
    /// Unix seconds of receipt, where told.
    pub received_s: Option<i64>,
}

/// What to do with an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Format the body under this number.
    Deliver(Generation, Sequence),
    /// Deliver a gap record under this number, in place of what lies between the cursors.
    Gap(Generation, Sequence, Gap),
    /// Drop it: nothing in it, or it belongs to a failed generation, or there was no room for it.
    Drop,
    /// Drop it: it makes no sense (rule O3), for this reason.
    Odd(&'static str),
}

/// What a gap record has to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// First position that is missing.
    pub from: Cursor,
    /// Position after the last that is missing; the same where it is unknown.
    pub to: Cursor,
    /// Why.
    pub reason: &'static str,
}

impl Gap {
    /// Everything from there on, of a shard that does not exist any more.
    fn to_the_end(from: Cursor) -> Self {
        Self { to: from.clone(), from, reason: "the shard does not exist any more" }
    }
}

/// A position to commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ready {
    /// The position.
    pub position: Position,
    /// Commit it even if it equals the last commit (rule L5).
    pub even_if_unchanged: bool,
}

/// Largest raw size of one answer, in bytes; a single log group beyond it is a gap (rule M2).
pub const MAX_RAW_BYTES: u64 = 64 << 20;
/// What the first pull of a shard reserves, in bytes.
const FIRST_RESERVE: usize = 256 << 10;
/// How often the end of a read-only shard is committed again while SLS lists it (rule L5).
const END_COMMIT_EVERY: Duration = Duration::from_secs(600);

impl ShardMachine {
    /// A shard whose checkpoint is not known yet. `memory` is the worker's share for bodies, in bytes.
    pub fn new(pace: PullPace, memory: usize, resume: Option<Resume>) -> Self {
        Self {
            stage: Stage::NeedCheckpoint,
            stop: None,
            job: None,
            rest_until: None,
            ledger: Ledger::default(),
            pace,
            bad_bodies: BadBodies::default(),
            asides: Asides::default(),
            memory: Memory { recent: FIRST_RESERVE.min(memory), most: memory },
            resume,
            readonly_since: None,
            end_committed: None,
            at_end: false,
            ready: None,
        }
    }

    /// What to do now.
    pub fn next(&mut self, now: Instant) -> Next {
        match self.stop {
            Some(Stop::Lost) => return Next::End(End::Stopped),
            Some(Stop::Requested { deadline }) => {
                let nothing_can_settle =
                    self.ledger.is_empty() || self.ledger.has_failed() && self.ledger.pending() == 0;
                if nothing_can_settle || now >= deadline {
                    return Next::End(End::Stopped);
                }
                return match self.next_aside(now) {
                    Some(Next::Wait(until)) => Next::Wait(Some(until.map_or(deadline, |until| until.min(deadline)))),
                    Some(next) => next,
                    None => Next::Wait(Some(deadline)),
                };
            }
            None => {}
        }
        if self.job.is_some() {
            return Next::Wait(None);
        }
        if let Some(next) = self.next_aside(now) {
            return next;
        }
        if self.ledger.has_failed() {
            match (self.ledger.rewind(), &mut self.stage) {
                (Some(cursor), Stage::Gone { unnamed }) => *unnamed = Some(cursor),
                (Some(cursor), stage) => *stage = Stage::Reading { cursor },
                (None, _) => return Next::Wait(None),
            }
        }
        if let Some(until) = self.rest_until.filter(|until| *until > now) {
            return Next::Wait(Some(until));
        }
        self.rest_until = None;
        let job = match &mut self.stage {
            Stage::NeedCheckpoint => Job::Checkpoint,
            Stage::NeedBegin | Stage::NeedOldest { .. } => Job::OldestCursor,
            Stage::Reading { cursor } => {
                let cursor = cursor.clone();
                if let Some(to) = self.bad_bodies.given_up(&cursor).cloned() {
                    self.stage = Stage::Reading { cursor: to.clone() };
                    let reason = "a log group cannot be read: the same bytes fail again and again";
                    return self.skip(Gap { from: cursor, to, reason });
                }
                let count = if self.bad_bodies.one_by_one() { 1 } else { self.pace.count() };
                Job::Pull { cursor, count, reserve: self.memory.to_reserve() }
            }
            Stage::Gone { unnamed } => {
                return match unnamed.take() {
                    Some(from) => self.skip(Gap::to_the_end(from)),
                    None if self.ledger.is_empty() => Next::End(End::Gone),
                    None => Next::Wait(None),
                };
            }
        };
        self.job = Some(Running::Reading);
        Next::Start(job)
    }

    /// SLS told the checkpoint; `None` if nothing was ever committed.
    pub fn checkpoint(&mut self, checkpoint: Option<Cursor>) {
        self.job = None;
        let ours =
            self.resume.take().filter(|resume| checkpoint.is_none() || resume.instead).map(|resume| resume.cursor);
        if let Some(cursor) = ours.clone().filter(|ours| checkpoint.as_ref() != Some(ours)) {
            // The group made anew has to learn it, or the next process begins elsewhere.
            self.ready = Some(Ready { position: Position { cursor, received_s: None }, even_if_unchanged: true });
        }
        self.stage = match ours.or(checkpoint) {
            Some(cursor) => Stage::Reading { cursor },
            None => Stage::NeedBegin,
        };
    }

    /// SLS told the cursor of the oldest log kept. Answers with the gap to deliver, if this was a jump.
    pub fn oldest_cursor(&mut self, now: Instant, oldest: Cursor, jitter: f64) -> Verdict {
        self.job = None;
        let stage = std::mem::replace(&mut self.stage, Stage::Reading { cursor: oldest.clone() });
        let Stage::NeedOldest { lost } = stage else { return Verdict::Drop };
        if lost == oldest {
            self.rest_after_failure(now, jitter);
            return Verdict::Odd("the cursor of the oldest log is refused as invalid");
        }
        let reason = "the logs were not kept long enough: the checkpoint is older than the oldest log";
        self.enter_gap(Gap { from: lost, to: oldest, reason })
    }

    /// An answer to a pull came. `sent_at` is when it was asked for; `has_body` is false if there was no room for it.
    pub fn answered(
        &mut self,
        now: Instant,
        sent_at: Instant,
        answer: &Answer,
        has_body: bool,
        jitter: f64,
    ) -> Verdict {
        self.job = None;
        self.at_end = answer.log_groups == 0 && answer.end_of_shard != Some(false);
        let Stage::Reading { cursor } = &self.stage else { return Verdict::Drop };
        let cursor = cursor.clone();
        if self.ledger.has_failed() {
            return Verdict::Drop;
        }
        let next = answer.next.clone().unwrap_or_else(|| cursor.clone());
        if answer.log_groups > 0 && next == cursor {
            self.rest_after_failure(now, jitter);
            return Verdict::Odd("an answer with log groups did not move the cursor");
        }
        if answer.log_groups > 0 && answer.raw_bytes > MAX_RAW_BYTES {
            if answer.log_groups > 1 {
                self.pace.halve();
                return Verdict::Drop;
            }
            self.stage = Stage::Reading { cursor: next.clone() };
            return self.enter_gap(Gap { from: cursor, to: next, reason: "a log group is larger than 64 MiB" });
        }
        if answer.log_groups > 0 && !has_body {
            self.make_room(answer);
            return Verdict::Drop;
        }
        let rest = self.pace.answered(answer.log_groups, answer.raw_bytes, answer.end_of_shard, jitter);
        let until = if answer.log_groups == 0 { self.pace.last_tick(now, rest) } else { now + rest };
        self.rest(until);
        self.memory.recent =
            answer.memory.max(self.memory.recent / 8 * 7).clamp(FIRST_RESERVE.min(self.memory.most), self.memory.most);
        if answer.log_groups == 0 {
            self.empty_answer(now, sent_at, cursor, next, answer.received_s);
            return Verdict::Drop;
        }
        self.end_committed = None;
        self.stage = Stage::Reading { cursor: next.clone() };
        let sequence = self.ledger.enter(cursor, next, answer.log_groups, answer.received_s);
        Verdict::Deliver(self.ledger.generation(), sequence)
    }

    /// The shard's share of its project's reads, as the time from one to the next.
    pub fn rest_at_least(&mut self, fair: Duration) {
        self.pace.rest_at_least(fair);
    }

    /// The job failed in a way that a repeat may mend.
    pub fn failed(&mut self, now: Instant, jitter: f64) {
        self.job = None;
        self.rest_after_failure(now, jitter);
    }

    /// The body came short or did not come whole (rule O2): ask for less, later.
    pub fn body_cut(&mut self, now: Instant, jitter: f64) {
        self.pace.halve();
        self.failed(now, jitter);
    }

    /// A quota was hit.
    pub fn slowed_down(&mut self, now: Instant, at_least: Duration, jitter: f64) {
        self.job = None;
        let rest = self.pace.slowed_down(at_least, jitter);
        self.rest(now + rest);
    }

    /// SLS refused the cursor; whether it was one to read at. Any other request is repeated after a rest.
    pub fn cursor_invalid(&mut self, now: Instant, jitter: f64) -> bool {
        self.job = None;
        let Stage::Reading { cursor } = &self.stage else {
            self.rest_after_failure(now, jitter);
            return false;
        };
        if !self.ledger.has_failed() {
            self.stage = Stage::NeedOldest { lost: cursor.clone() };
        }
        true
    }

    /// SLS does not know the shard (any more). Answers with the gap to deliver, unless it was read to its end or the gap
    /// begins at a batch that has failed, which is found once all tickets are home.
    pub fn shard_gone(&mut self) -> Verdict {
        if matches!(self.stage, Stage::Gone { .. }) {
            return Verdict::Drop;
        }
        self.end_reading_job();
        self.stop = self.stop.filter(|stop| *stop == Stop::Lost);
        let at = match std::mem::replace(&mut self.stage, Stage::Gone { unnamed: None }) {
            Stage::Reading { cursor } | Stage::NeedOldest { lost: cursor } => cursor,
            Stage::NeedCheckpoint | Stage::NeedBegin | Stage::Gone { .. } => return Verdict::Drop,
        };
        if self.end_committed.is_some() || self.ledger.has_failed() {
            return Verdict::Drop;
        }
        self.enter_gap(Gap::to_the_end(at))
    }

    /// A ticket came home.
    pub fn settled(&mut self, now: Instant, generation: Generation, sequence: Sequence, delivered: bool, jitter: f64) {
        let had_failed = self.ledger.has_failed();
        self.ledger.settle(generation, sequence, delivered);
        if delivered {
            self.pace.delivered();
            self.bad_bodies.delivered();
        }
        if let Some(failed) = self.ledger.first_failed() {
            for behind in self.asides.take_behind(failed) {
                self.ledger.settle(self.ledger.generation(), behind, false);
            }
        }
        if self.ledger.has_failed() && !had_failed {
            self.rest_after_failure(now, jitter);
        }
        if let Some(position) = self.ledger.advance() {
            self.ready = Some(Ready { position, even_if_unchanged: false });
        }
    }

    /// A ticket came home whose batch is delivered but for logs that the receiver does not take. Whether the batch is to
    /// be set aside, which is the next job; else it is settled, or of an attempt that does not count any more.
    pub fn refused(&mut self, now: Instant, generation: Generation, sequence: Sequence, jitter: f64) -> bool {
        let waits = generation == self.ledger.generation()
            && self.ledger.first_failed().is_none_or(|failed| sequence < failed)
            && self.ledger.pending_groups(sequence).is_some_and(|log_groups| log_groups > 0);
        if waits {
            self.asides.push(sequence);
        } else {
            self.settled(now, generation, sequence, true, jitter);
        }
        waits
    }

    /// The batch's refused logs are in the dead letter, or cannot be had any more; or, if not `kept`, the batch is not
    /// what it was and has to be pulled again.
    pub fn set_aside(&mut self, now: Instant, sequence: Sequence, kept: bool, jitter: f64) {
        self.job = None;
        if self.asides.done(sequence) {
            self.settled(now, self.ledger.generation(), sequence, kept, jitter);
        }
    }

    /// The batch's refused logs could not be set aside: again later, and nothing else before.
    pub fn not_set_aside(&mut self, now: Instant, jitter: f64) {
        self.job = None;
        self.asides.failed(now, jitter);
    }

    /// The batch's body could not be read when it was to be set aside; whether it is given up, which is for
    /// [`ShardMachine::set_aside`] to say, or tried again.
    pub fn aside_unreadable(&mut self, now: Instant) -> bool {
        self.asides.unreadable(now)
    }

    /// ListShards, sent at `listed_at`, said that the shard is read-only.
    pub fn note_readonly(&mut self, listed_at: Instant) {
        self.readonly_since.get_or_insert(listed_at);
    }

    /// A requested stop: settle until the deadline. A shard that does not exist any more ends by itself; whoever ends the
    /// process before that abandons it.
    pub fn drain(&mut self, deadline: Instant) {
        if self.stop != Some(Stop::Lost) && !matches!(self.stage, Stage::Gone { .. }) {
            self.stop = Some(Stop::Requested { deadline });
            self.end_reading_job();
        }
    }

    /// The lease is lost: end at once.
    pub fn abandon(&mut self) {
        self.stop = Some(Stop::Lost);
        self.job = None;
    }

    /// A whole body failed by itself (rule O2): ask for half as much, for one log group at a time, or give one up. To be
    /// told before its ticket is [`ShardMachine::settled`].
    pub fn body_bad(&mut self, now: Instant, generation: Generation, sequence: Sequence, body: BadBody) {
        if generation == self.ledger.generation()
            && let Some((from, to)) = self.ledger.span(sequence)
        {
            self.bad_bodies.failed(now, from, to, body);
            self.pace.halve();
        }
    }

    /// The first log group of a batch that is not settled.
    pub fn begin_of(&self, sequence: Sequence) -> Option<&Cursor> {
        self.ledger.span(sequence).map(|(from, _)| from)
    }

    /// The current attempt.
    pub fn generation(&self) -> Generation {
        self.ledger.generation()
    }

    /// Whether everything that the shard holds is settled.
    pub fn is_caught_up(&self) -> bool {
        self.at_end && self.ledger.is_empty()
    }

    /// Whether a job is under way; one that is not any more, since it was told to stop, is to be dropped.
    pub fn has_job(&self) -> bool {
        self.job.is_some()
    }

    /// The position to commit, if there is a new one. Nothing once the lease is lost.
    pub fn take_ready(&mut self) -> Option<Ready> {
        self.ready.take().filter(|_| self.stop != Some(Stop::Lost))
    }

    /// What is failed when the shard ends before everything settled.
    pub fn first_unsettled(&self) -> Sequence {
        self.ledger.first_unsettled()
    }

    /// Setting aside goes on while the shard drains, also when SLS does not list it any more.
    fn end_reading_job(&mut self) {
        self.job = self.job.filter(|job| *job == Running::SettingAside);
    }

    /// What there is to set aside: the job, which is begun, or how long it rests.
    fn next_aside(&mut self, now: Instant) -> Option<Next> {
        let (sequence, rest_until) = self.asides.next(now)?;
        if rest_until.is_some() || self.job.is_some() {
            return Some(Next::Wait(rest_until));
        }
        let from = self.begin_of(sequence)?.clone();
        let log_groups = self.ledger.pending_groups(sequence)?;
        self.job = Some(Running::SettingAside);
        Some(Next::Start(Job::SetAside { sequence, from, log_groups, reserve: self.memory.to_reserve() }))
    }

    fn empty_answer(&mut self, now: Instant, sent_at: Instant, cursor: Cursor, next: Cursor, received_s: Option<i64>) {
        if next != cursor {
            self.stage = Stage::Reading { cursor: next.clone() };
            self.ledger.enter_settled(cursor, next, received_s);
            if let Some(position) = self.ledger.advance() {
                self.ready = Some(Ready { position, even_if_unchanged: false });
            }
            return;
        }
        let at_end = self.readonly_since.is_some_and(|since| sent_at >= since) && self.ledger.is_empty();
        let due = self.end_committed.is_none_or(|at| now.saturating_duration_since(at) >= END_COMMIT_EVERY);
        if at_end && due {
            self.end_committed = Some(now);
            self.ready = Some(Ready { position: Position { cursor, received_s }, even_if_unchanged: true });
        }
    }

    /// There was no room for an answer (rule M2): reserve its size in turn and pull the same groups, or fewer.
    fn make_room(&mut self, answer: &Answer) {
        if answer.memory > self.memory.most && answer.log_groups > 1 {
            self.pace.ask_for(answer.log_groups / 2);
        } else {
            self.memory.recent = answer.memory.min(self.memory.most);
            self.pace.ask_for(answer.log_groups);
        }
    }

    fn skip(&mut self, gap: Gap) -> Next {
        let (generation, sequence, gap) = self.enter(gap);
        Next::Skip(generation, sequence, gap)
    }

    fn enter_gap(&mut self, gap: Gap) -> Verdict {
        let (generation, sequence, gap) = self.enter(gap);
        Verdict::Gap(generation, sequence, gap)
    }

    fn enter(&mut self, gap: Gap) -> (Generation, Sequence, Gap) {
        let sequence = self.ledger.enter(gap.from.clone(), gap.to.clone(), 0, None);
        (self.ledger.generation(), sequence, gap)
    }

    fn rest_after_failure(&mut self, now: Instant, jitter: f64) {
        let rest = self.pace.failed(jitter);
        self.rest(now + rest);
    }

    fn rest(&mut self, until: Instant) {
        self.rest_until = Some(self.rest_until.map_or(until, |before| before.max(until)));
    }
}

#[cfg(test)]
mod tests;
