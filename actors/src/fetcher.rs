//! The ShardFetcher: moves bodies and cursors of one shard. It reads an answer's headers, never its body.
//!
//! What it does next is the word of `ShardMachine`; the actor runs one request at a time, takes the credits for it
//! first, hands bodies to the formatter, and passes on what may be committed.

mod pull;
mod set_aside;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use actix::{
    Actor, ActorContext, ActorFutureExt, Addr, AsyncContext, Context, Handler, Recipient, SpawnHandle, WrapFuture,
};
use futures_util::future::LocalBoxFuture;
use slog::{Logger, debug, error, info, o, warn};

use crate::clock::now;
use crate::config::SourceConfig;
use crate::counters::Counters;
use crate::credit::{ByteBudget, Credit, Credits};
use crate::event::{Code, ForwarderEvent};
use crate::messages::{
    BatchContent, BatchSettled, CheckpointReady, ControlShard, FormatBatch, Outcome, PulledBody, RefusedLog,
    ShardCaughtUp, ShardCommand, ShardEnd, ShardEnded, Unconfirmed, UseFormatter,
};
use crate::model::cursor::{Cursor, StartPosition};
use crate::model::ids::{Epoch, Generation, Sequence, ShardId};
use crate::model::pull_pace::PullPace;
use crate::model::shard::{Answer, End, Gap, Job, Next, Resume, ShardMachine, Verdict};
use crate::ports::{DeadLetter, LogHub};
use crate::ticket::{FailReason, FailedFrom, Ticket};
use crate::trouble::{EventSink, ShardTrouble, ShardTroubles, Troubles, code_of, send, sentence};
use crate::watch::ExitGuard;
use crate::wire::sls::error::{ErrorClass, SlsError};
use crate::wire::syslog::gap::GapRecord;

use pull::{AskError, Asked, Asking, Pull, Pulled, memory_of};
use set_aside::{Refusals, SetAside, SettingAside};

/// Reads one shard under one lease.
///
/// - **arbiter**: its worker's; a shard never changes it
/// - **mailbox**: `mailbox.fetcher`, control messages and settlements; those are bounded by the batch credits
/// - **in**: `ControlShard`, `BatchSettled`, `UseFormatter`
/// - **out**: `FormatBatch`, `CheckpointReady`, `ShardEnded`
/// - **timers**: one, for the next pull or the end of a drain
/// - **watched by**: the Coordinator
/// - **a restart loses** nothing: it begins at the checkpoint again, under a new epoch
pub struct ShardFetcher {
    shard: ShardId,
    epoch: Epoch,
    mailbox: usize,
    source: Arc<SourceConfig>,
    hub: Rc<dyn LogHub>,
    machine: ShardMachine,
    failed_from: FailedFrom,
    generation: Generation,
    batches: Credits,
    budget: ByteBudget,
    formatter: Recipient<FormatBatch>,
    checkpoint_ready: Recipient<CheckpointReady>,
    caught_up: Recipient<ShardCaughtUp>,
    is_caught_up: bool,
    shard_ended: Recipient<ShardEnded>,
    /// Our own address, for tickets; known once started.
    report_to: Option<Recipient<BatchSettled>>,
    /// The job under way, with its number.
    job: Option<(u64, SpawnHandle)>,
    jobs: u64,
    timer: Option<SpawnHandle>,
    /// Of this shard alone.
    troubles: Troubles,
    /// Of all shards that this process reads.
    sls_troubles: ShardTrouble,
    counters: Arc<Counters>,
    events: EventSink,
    gaps: Vec<(Sequence, Gap)>,
    /// Tickets that have not come home.
    out: BTreeSet<Sequence>,
    /// Of bodies that were handed on in this generation.
    unconfirmed: BTreeMap<Sequence, Unconfirmed>,
    dead_letter: Option<Rc<dyn DeadLetter>>,
    /// Of the batches that wait to be set aside.
    refusals: BTreeMap<Sequence, Refusals>,
    unix_seconds: Rc<dyn Fn() -> i64>,
    jitter: fastrand::Rng,
    log: Logger,
    _guard: ExitGuard,
}

/// What a fetcher is made of.
pub struct FetcherParts {
    /// The shard.
    pub shard: ShardId,
    /// The lease.
    pub epoch: Epoch,
    /// Where to begin if SLS has forgotten the checkpoint.
    pub resume: Option<Resume>,
    /// Mailbox capacity.
    pub mailbox: usize,
    /// The source's settings.
    pub source: Arc<SourceConfig>,
    /// The worker's client.
    pub hub: Rc<dyn LogHub>,
    /// The worker's batch credits.
    pub batches: Credits,
    /// The worker's share for bodies and raw log groups.
    pub budget: ByteBudget,
    /// Where logs are kept that the receiver does not take; without one a gap record is all that tells of them.
    pub dead_letter: Option<Rc<dyn DeadLetter>>,
    /// The worker's formatter.
    pub formatter: Recipient<FormatBatch>,
    /// The Coordinator.
    pub checkpoint_ready: Recipient<CheckpointReady>,
    /// The Coordinator.
    pub caught_up: Recipient<ShardCaughtUp>,
    /// The Coordinator.
    pub shard_ended: Recipient<ShardEnded>,
    /// Totals.
    pub counters: Arc<Counters>,
    /// Where events go.
    pub events: EventSink,
    /// What is wrong between SLS and this process's shards.
    pub troubles: ShardTroubles,
    /// Wall clock.
    pub unix_seconds: Rc<dyn Fn() -> i64>,
    /// When the worker began: its shards pull at ticks from here on, together.
    pub first_tick: Instant,
    /// Seed of the jitter.
    pub seed: u64,
    /// Logger.
    pub log: Logger,
    /// Reports the actor's end.
    pub guard: ExitGuard,
}

/// How a job ended.
enum JobOutcome {
    Checkpoint(Result<Option<Cursor>, SlsError>),
    /// With the credit for the gap record that it may ask for.
    Oldest(Result<Cursor, SlsError>, Credit),
    Pulled(Pulled),
    SetAside(Sequence, SetAside),
}

impl ShardFetcher {
    /// Puts it together; nothing happens before it is started.
    pub fn new(parts: FetcherParts) -> Self {
        let log = parts.log.new(o!("actor" => "shard-fetcher", "shard" => parts.shard.0, "epoch" => parts.epoch.0));
        let pace = PullPace::new(parts.source.data_fetch_interval, parts.source.max_log_groups, parts.first_tick);
        Self {
            shard: parts.shard,
            epoch: parts.epoch,
            mailbox: parts.mailbox,
            source: parts.source,
            hub: parts.hub,
            machine: ShardMachine::new(pace, parts.budget.total(), parts.resume),
            failed_from: FailedFrom::none(),
            generation: Generation(0),
            batches: parts.batches,
            budget: parts.budget,
            formatter: parts.formatter,
            checkpoint_ready: parts.checkpoint_ready,
            caught_up: parts.caught_up,
            is_caught_up: false,
            shard_ended: parts.shard_ended,
            report_to: None,
            job: None,
            jobs: 0,
            timer: None,
            troubles: Troubles::new(log.clone(), parts.events.clone()),
            sls_troubles: parts.troubles.of(parts.shard),
            counters: parts.counters,
            events: parts.events,
            gaps: Vec::new(),
            out: BTreeSet::new(),
            unconfirmed: BTreeMap::new(),
            dead_letter: parts.dead_letter,
            refusals: BTreeMap::new(),
            unix_seconds: parts.unix_seconds,
            jitter: fastrand::Rng::with_seed(parts.seed),
            log,
            _guard: parts.guard,
        }
    }

    /// Starts it on this arbiter, with its mailbox as large as set from the first message on (actix fact 6).
    pub fn launch(self) -> Addr<Self> {
        Self::create(|ctx| {
            ctx.set_mailbox_capacity(self.mailbox);
            self
        })
    }

    /// Passes on what may be committed, then does what the machine says.
    fn work(&mut self, ctx: &mut Context<Self>) {
        if let Some(ready) = self.machine.take_ready() {
            // actix fact 3: at most one per settled batch.
            self.checkpoint_ready.do_send(CheckpointReady {
                shard: self.shard,
                epoch: self.epoch,
                cursor: ready.position.cursor,
                received_s: ready.position.received_s,
                even_if_unchanged: ready.even_if_unchanged,
            });
        }
        let caught_up = self.machine.is_caught_up();
        if caught_up && !self.is_caught_up {
            self.caught_up.do_send(ShardCaughtUp { shard: self.shard }); // actix fact 3: once per such moment
        }
        self.is_caught_up = caught_up;
        if let Some(timer) = self.timer.take() {
            ctx.cancel_future(timer);
        }
        if !self.machine.has_job()
            && let Some((_, job)) = self.job.take()
        {
            ctx.cancel_future(job);
        }
        match self.machine.next(now()) {
            Next::Start(job) => self.start(job, ctx),
            Next::Wait(None) => {}
            Next::Wait(Some(until)) => {
                let wait = until.saturating_duration_since(now());
                self.timer = Some(ctx.run_later(wait, |act, ctx| {
                    act.timer = None;
                    act.work(ctx);
                }));
            }
            Next::Skip(generation, sequence, gap) => {
                self.deliver_gap(generation, sequence, gap, None);
                self.work(ctx);
            }
            Next::End(end) => self.end(end, ctx),
        }
    }

    fn end(&mut self, end: End, ctx: &mut Context<Self>) {
        // What is unsettled is failed: formatter and connection drop it, and its credits return (rules L1, O1).
        self.failed_from.lower_to(self.machine.first_unsettled());
        let how = match end {
            End::Stopped => ShardEnd::Stopped,
            End::Gone => ShardEnd::ShardGone,
        };
        let mut unconfirmed = Unconfirmed::default();
        self.unconfirmed.values().for_each(|batch| unconfirmed += *batch);
        self.shard_ended.do_send(ShardEnded { shard: self.shard, epoch: self.epoch, how, unconfirmed });
        ctx.stop();
    }

    // ---- jobs ------------------------------------------------------------------------------------------------

    fn start(&mut self, job: Job, ctx: &mut Context<Self>) {
        let hub = Rc::clone(&self.hub);
        let shard = self.shard;
        let asking = || Asking { hub: Rc::clone(&self.hub), shard, budget: self.budget.clone() };
        let running: LocalBoxFuture<'static, JobOutcome> = match job {
            Job::Checkpoint => {
                let batches = self.batches.clone();
                Box::pin(async move {
                    // Whoever acquires thousands of shards at once must not ask, and connect, thousands of times at once.
                    let _turn = batches.take().await;
                    JobOutcome::Checkpoint(hub.get_checkpoint(shard).await.map(|checkpoint| checkpoint.cursor))
                })
            }
            Job::OldestCursor => {
                let batches = self.batches.clone();
                Box::pin(async move {
                    let batch = batches.take().await;
                    JobOutcome::Oldest(hub.get_cursor(shard, StartPosition::Begin).await, batch)
                })
            }
            Job::Pull { cursor, count, reserve } => {
                let batches = self.batches.clone();
                Box::pin(Pull { asking: asking(), cursor, count, reserve, batches }.run())
            }
            Job::SetAside { sequence, from, log_groups, reserve } => {
                match (self.refusals.get(&sequence).cloned(), self.dead_letter.clone()) {
                    (Some(refusals), Some(dead_letter)) => {
                        let asking = asking();
                        Box::pin(
                            SettingAside { asking, dead_letter, sequence, from, log_groups, reserve, refusals }.run(),
                        )
                    }
                    // The machine is told of a batch only with both; without them it is pulled again.
                    _ => {
                        let nothing = SetAside::OtherLogs("nothing is known of a batch to be set aside".to_owned());
                        Box::pin(async move { JobOutcome::SetAside(sequence, nothing) })
                    }
                }
            }
        };
        self.jobs += 1;
        let number = self.jobs;
        let running = ctx.spawn(running.into_actor(self).map(move |outcome, act, ctx| {
            // actix fact 23: one that was cancelled by a message may still come to its end.
            if act.job.take_if(|(current, _)| *current == number).is_some() {
                act.job_ended(outcome);
                act.work(ctx);
            }
        }));
        self.job = Some((number, running));
    }

    fn job_ended(&mut self, outcome: JobOutcome) {
        let (verdict, batch) = match outcome {
            JobOutcome::Checkpoint(Ok(checkpoint)) => {
                debug!(self.log, "the checkpoint is known"; "cursor" => checkpoint.as_ref().map(Cursor::as_str));
                self.machine.checkpoint(checkpoint);
                return;
            }
            JobOutcome::Oldest(Ok(cursor), batch) => {
                (self.machine.oldest_cursor(now(), cursor, self.jitter.f64()), Some(batch))
            }
            JobOutcome::Pulled(Pulled { sent_at, asked: Ok(asked), batch }) => {
                return self.pulled(sent_at, asked, batch);
            }
            JobOutcome::SetAside(sequence, how) => return self.set_aside(sequence, how),
            // Before anything was read there is no gap to tell of.
            JobOutcome::Checkpoint(Err(error)) => (self.refused(&error), None),
            JobOutcome::Oldest(Err(error), batch)
            | JobOutcome::Pulled(Pulled { asked: Err(AskError::Refused(error)), batch, .. }) => {
                (self.refused(&error), Some(batch))
            }
            JobOutcome::Pulled(Pulled { asked: Err(AskError::Cut(error)), .. }) => {
                self.troubles.report(now(), Code::BadBody, &format!("shard {}: {error}; pulled again", self.shard));
                self.machine.body_cut(now(), self.jitter.f64());
                return;
            }
        };
        self.generation_may_have_changed();
        match verdict {
            Verdict::Gap(generation, sequence, gap) => self.deliver_gap(generation, sequence, gap, batch),
            Verdict::Odd(what) => self.odd(what),
            Verdict::Deliver(..) | Verdict::Drop => {}
        }
    }

    fn refused(&mut self, error: &SlsError) -> Verdict {
        let at = now();
        match error.class() {
            ErrorClass::InvalidCursor => {
                if self.machine.cursor_invalid(at, self.jitter.f64()) {
                    return Verdict::Drop;
                }
            }
            ErrorClass::ShardGone => return self.machine.shard_gone(),
            ErrorClass::SlowDown(at_least) => {
                self.counters.quota_refusals.add(1);
                self.machine.slowed_down(at, at_least, self.jitter.f64());
            }
            ErrorClass::Retry | ErrorClass::Fatal | ErrorClass::LeaseLost => {
                self.machine.failed(at, self.jitter.f64());
            }
        }
        self.sls_troubles.report(at, code_of(error), &sentence(error));
        Verdict::Drop
    }

    fn pulled(&mut self, sent_at: Instant, (head, body): Asked, batch: Credit) {
        let at = now();
        self.counters.pulls.add(1);
        self.sls_troubles.recovered(at, &[Code::SlsDown, Code::SlsRefused, Code::ClockSkew, Code::Quota]);
        let answer = Answer {
            next: head.next_cursor.clone(),
            log_groups: head.count,
            raw_bytes: head.raw_size,
            memory: memory_of(&head),
            end_of_shard: head.end_of_shard,
            received_s: head.cursor_time_s,
        };
        match self.machine.answered(at, sent_at, &answer, body.is_some(), self.jitter.f64()) {
            Verdict::Deliver(generation, sequence) => {
                let Some((bytes, credit)) = body else { return };
                self.generation_may_have_changed();
                self.counters.raw_bytes.add(head.raw_size);
                self.counters.body_bytes.add(bytes.len() as u64);
                let batch_is = Unconfirmed { log_groups: head.count.into(), raw_bytes: head.raw_size };
                self.unconfirmed.insert(sequence, batch_is);
                let content = BatchContent::Body(PulledBody::new(&head, bytes, credit));
                self.deliver(generation, sequence, content, Some(batch));
            }
            Verdict::Gap(generation, sequence, gap) => self.deliver_gap(generation, sequence, gap, Some(batch)),
            Verdict::Drop => {}
            Verdict::Odd(what) => self.odd(what),
        }
    }

    fn odd(&mut self, what: &str) {
        self.troubles.report(now(), Code::BadBody, &format!("shard {}: {what}; pulled again", self.shard));
    }

    // ---- batches ---------------------------------------------------------------------------------------------

    /// A rewind begins a generation, whose tickets share a new cell.
    fn generation_may_have_changed(&mut self) {
        if self.generation != self.machine.generation() {
            self.generation = self.machine.generation();
            self.failed_from = FailedFrom::none();
            // All of it is pulled again.
            self.unconfirmed.clear();
            self.refusals.clear();
        }
    }

    fn deliver(&mut self, generation: Generation, sequence: Sequence, content: BatchContent, batch: Option<Credit>) {
        let Some(report_to) = self.report_to.clone() else { return };
        let Some(from) = self.machine.begin_of(sequence).cloned() else { return };
        let numbers = (self.shard, self.epoch, generation, sequence);
        let ticket = Ticket::new(numbers, self.failed_from.clone(), report_to, batch);
        self.counters.batches.add(1);
        self.out.insert(sequence);
        // Never full: each batch has a credit, and there are as many as the mailbox holds (I6). Anything else drops the
        // ticket, so the batch fails and is pulled again.
        if let Err(actix::prelude::SendError::Full(_)) = self.formatter.try_send(FormatBatch { from, content, ticket })
        {
            self.counters.full_mailboxes.add(1);
        }
    }

    /// Sends a gap record in place of what is missing (I9).
    fn deliver_gap(&mut self, generation: Generation, sequence: Sequence, gap: Gap, batch: Option<Credit>) {
        self.generation_may_have_changed();
        warn!(self.log, "logs are missing; a gap record is sent in their place: {}", gap.reason;
            "code" => Code::Gap.as_str(), "from" => %gap.from, "to" => %gap.to);
        let record = GapRecord {
            project: self.source.project.clone(),
            logstore: self.source.logstore.clone(),
            shard: self.shard,
            from: gap.from.to_string(),
            to: gap.to.to_string(),
            reason: gap.reason.to_owned(),
            noticed_s: (self.unix_seconds)(),
        };
        self.gaps.push((sequence, gap));
        self.deliver(generation, sequence, BatchContent::Gap(Box::new(record)), batch);
    }

    fn settled(&mut self, settled: &BatchSettled) {
        if !self.out.remove(&settled.sequence) {
            // I4: numbers are never used again, so this is a defect, and changes nothing.
            return self.counters.settled_twice.add(1);
        }
        match &settled.outcome {
            Outcome::Delivered { logs, refused } => {
                if refused.is_empty() {
                    self.unconfirmed.remove(&settled.sequence);
                }
                self.counters.batches_delivered.add(1);
                self.counters.logs_delivered.add(logs.saturating_sub(refused.len() as u64));
                self.troubles.recovered(now(), Code::BadBody);
            }
            Outcome::Failed(why) => {
                self.counters.batches_failed.add(1);
                if let FailReason::BadBody { why, body } = why {
                    let what = format!("shard {}: a body cannot be used: {why}; pulled again", self.shard);
                    self.troubles.report(now(), Code::BadBody, &what);
                    self.machine.body_bad(now(), settled.generation, settled.sequence, *body);
                }
                debug!(self.log, "a batch failed and is pulled again: {:?}", why; "seq" => settled.sequence.0);
            }
        }
        if let Some(at) = self.gaps.iter().position(|(sequence, _)| *sequence == settled.sequence) {
            let (_, gap) = self.gaps.swap_remove(at);
            if matches!(settled.outcome, Outcome::Delivered { .. }) {
                self.gap_confirmed(gap);
            }
        }
        let delivered = match &settled.outcome {
            Outcome::Delivered { logs, refused } if !refused.is_empty() => {
                return self.delivered_except(settled, *logs, refused);
            }
            outcome => matches!(outcome, Outcome::Delivered { .. }),
        };
        self.machine.settled(now(), settled.generation, settled.sequence, delivered, self.jitter.f64());
    }

    // ---- what the receiver does not take ---------------------------------------------------------------------

    fn delivered_except(&mut self, settled: &BatchSettled, logs: u64, refused: &[RefusedLog]) {
        let BatchSettled { generation, sequence, .. } = *settled;
        let from = self.machine.begin_of(sequence).cloned().filter(|_| generation == self.machine.generation());
        let Some(from) = from else {
            return self.machine.settled(now(), generation, sequence, true, self.jitter.f64());
        };
        let refusals = Refusals { from, logs, refused: refused.into() };
        if self.dead_letter.is_none() {
            self.tell_set_aside(&refusals, false);
            self.unconfirmed.remove(&sequence);
            self.machine.settled(now(), generation, sequence, true, self.jitter.f64());
        } else if self.machine.refused(now(), generation, sequence, self.jitter.f64()) {
            self.refusals.insert(sequence, refusals);
        }
    }

    fn set_aside(&mut self, sequence: Sequence, how: SetAside) {
        let (at, jitter) = (now(), self.jitter.f64());
        let kept = match &how {
            SetAside::Kept => true,
            SetAside::Expired(error) => {
                warn!(self.log, "SLS does not have the logs any more that the receiver does not take: {}", error);
                false
            }
            SetAside::Unreadable(what) if self.machine.aside_unreadable(at) => {
                warn!(self.log, "the logs that the receiver does not take cannot be read: {}", what);
                false
            }
            SetAside::Unreadable(what) => return self.not_set_aside(Code::BadBody, what),
            SetAside::OtherLogs(what) => {
                let what = format!("shard {}: {what}; pulled again", self.shard);
                self.troubles.report(at, Code::BadBody, &what);
                self.refusals.remove(&sequence);
                return self.machine.set_aside(at, sequence, false, jitter);
            }
            SetAside::Failed(code, what) => return self.not_set_aside(*code, what),
        };
        self.sls_troubles.recovered(at, &[Code::DeadLetterFull, Code::DeadLetterUnwritable, Code::BadBody]);
        if let Some(refusals) = self.refusals.remove(&sequence) {
            self.tell_set_aside(&refusals, kept);
        }
        self.unconfirmed.remove(&sequence);
        self.machine.set_aside(at, sequence, true, jitter);
    }

    fn not_set_aside(&mut self, code: Code, what: &str) {
        let what = format!("logs cannot be set aside, and nothing more is read before: {what}");
        self.sls_troubles.report(now(), code, &what);
        self.machine.not_set_aside(now(), self.jitter.f64());
    }

    fn tell_set_aside(&self, refusals: &Refusals, kept: bool) {
        let logs: Vec<u64> = refusals.refused.iter().map(|refused| refused.log).collect();
        let reason = refusals.refused.first().map(|refused| refused.reason.clone()).unwrap_or_default();
        self.counters.logs_set_aside.add(logs.len() as u64);
        let place = if kept { "they are in the dead letter" } else { "their gap records are all that is left of them" };
        error!(self.log, "the receiver does not take logs; {}: {}", place, reason;
            "code" => Code::SetAside.as_str(), "logs" => logs.len(), "from" => %refusals.from);
        let from = refusals.from.to_string();
        send(&self.events, ForwarderEvent::SetAside { shard: self.shard, from, logs, kept, reason });
    }

    fn gap_confirmed(&mut self, gap: Gap) {
        self.counters.gaps.add(1);
        error!(self.log, "logs are missing: {}", gap.reason; "code" => Code::Gap.as_str(), "from" => %gap.from, "to" => %gap.to);
        let (from, to) = (gap.from.to_string(), gap.to.to_string());
        send(&self.events, ForwarderEvent::Gap { shard: self.shard, from, to, reason: gap.reason.to_owned() });
    }
}

impl Actor for ShardFetcher {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.report_to = Some(ctx.address().recipient());
        info!(self.log, "reading the shard");
        self.work(ctx);
    }
}

impl Handler<ControlShard> for ShardFetcher {
    type Result = ();

    fn handle(&mut self, control: ControlShard, ctx: &mut Context<Self>) {
        if control.epoch != self.epoch {
            return;
        }
        match control.command {
            ShardCommand::NoteReadonly { listed_at } => self.machine.note_readonly(listed_at.into_std()),
            ShardCommand::RestAtLeast(fair) => self.machine.rest_at_least(fair),
            ShardCommand::Drain { deadline } => self.machine.drain(deadline.into_std()),
            ShardCommand::NoteExpired => {
                if let Verdict::Gap(generation, sequence, gap) = self.machine.shard_gone() {
                    self.deliver_gap(generation, sequence, gap, None);
                }
            }
            ShardCommand::Abandon => self.machine.abandon(),
        }
        self.work(ctx);
    }
}

impl Handler<BatchSettled> for ShardFetcher {
    type Result = ();

    fn handle(&mut self, settled: BatchSettled, ctx: &mut Context<Self>) {
        self.settled(&settled);
        self.work(ctx);
    }
}

impl Handler<UseFormatter> for ShardFetcher {
    type Result = ();

    fn handle(&mut self, formatter: UseFormatter, _: &mut Context<Self>) {
        self.formatter = formatter.0;
    }
}
