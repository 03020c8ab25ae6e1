//! The Coordinator: heartbeats, owns the leases, and is the only one who commits.
//!
//! It takes no decisions of its own: `LeaseTable` says what the answers to heartbeats mean, `CommitTable` which
//! checkpoint is due; the actor carries out what they answer. Everything that waits for SLS is a future of the context,
//! so a request that hangs delays nothing else (rule L3).

mod forgotten;
mod housekeeping;
mod join;
mod summary;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use actix::{
    Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, MessageResult, Recipient, SpawnHandle,
    WrapFuture,
};
use slog::{Logger, debug, info, o, warn};
use tokio::sync::oneshot;

use self::housekeeping::{Housekeeping, Omitted};
use self::join::{Joined, Membership, join};
use self::summary::Summary;
use crate::clock::now;
use crate::config::{Confirmation, ForwarderConfig};
use crate::counters::Counters;
use crate::error::ForwarderError;
use crate::event::{Code, ForwarderEvent};
use crate::messages::{
    ActorEnded, BeginJoining, CheckpointReady, ControlShard, FetcherStarted, ForwarderStatus, GetStatus,
    OpenConnection, Phase, ReceiverChanged, ReceiverState, ShardCaughtUp, ShardCommand, ShardEnd, ShardEnded,
    StartShard, StopForwarder, Unconfirmed, WorkerHandle,
};
use crate::model::commit::{CommitTable, Order};
use crate::model::ids::{Epoch, ShardId};
use crate::model::lease::{Decision, LeaseTable};
use crate::model::routing::Routing;
use crate::model::shard::Resume;
use crate::ports::LogHub;
use crate::trouble::{EventSink, Troubles, code_of, seconds, send, sentence, tell_panic};
use crate::watch::ActorName;
use crate::wire::sls::error::{ErrorClass, SlsError};
use crate::wire::sls::reply::ConsumerGroup;

/// Heartbeats, owns the leases, commits.
///
/// - **arbiter**: alone on its own, so that nothing can delay a heartbeat
/// - **mailbox**: control messages only; bounded by shards and settled batches, `mailbox.coordinator`
/// - **in**: `BeginJoining`, `FetcherStarted`, `CheckpointReady`, `ShardEnded`, `ReceiverChanged`, `ActorEnded`, `StopForwarder`, `GetStatus`
/// - **out**: `StartShard` to workers, `ControlShard` to fetchers, events to the application
/// - **timers**: one, at the next moment at which a table has something to do
/// - **watched by**: the forwarder's assembly; it is not restarted, because a process without it must fall silent
pub struct Coordinator {
    config: Arc<ForwarderConfig>,
    hub: Rc<dyn LogHub>,
    heartbeats: Rc<dyn LogHub>,
    level: Confirmation,
    workers: Vec<WorkerHandle>,
    routing: Routing,
    leases: LeaseTable,
    commits: CommitTable,
    fetchers: BTreeMap<ShardId, Fetcher>,
    receivers: BTreeMap<(usize, usize), ReceiverState>,
    phase: Phase,
    /// The group is being created anew.
    rejoining: bool,
    /// Shards that we held when SLS forgot us.
    forgotten: BTreeSet<ShardId>,
    /// Shards that we held when the group was deleted, and have not lost to others since.
    made_anew: BTreeSet<ShardId>,
    /// How old the backlog is, is being asked.
    asking_oldest: bool,
    stop_deadline: Option<Instant>,
    housekeeping: Housekeeping,
    summary: Summary,
    troubles: Troubles,
    /// Of commits, which heartbeats that are answered do not end.
    commit_troubles: Troubles,
    counters: Arc<Counters>,
    events: EventSink,
    log: Logger,
    beats: Arc<AtomicU64>,
    ended: Option<oneshot::Sender<Result<(), ForwarderError>>>,
    timer: Option<SpawnHandle>,
}

/// What the Coordinator is given.
pub struct CoordinatorParts {
    /// All settings.
    pub config: Arc<ForwarderConfig>,
    /// For everything but heartbeats.
    pub hub: Rc<dyn LogHub>,
    /// For heartbeats alone (rule L3).
    pub heartbeats: Rc<dyn LogHub>,
    /// The level at which connections really confirm.
    pub level: Confirmation,
    /// Totals.
    pub counters: Arc<Counters>,
    /// Where events go.
    pub events: EventSink,
    /// Logger.
    pub log: Logger,
    /// Bumped once a second at least, as a sign of life (rule L9).
    pub beats: Arc<AtomicU64>,
    /// Resolved when nothing is held any more, or when the start failed; dropped by a panic.
    pub ended: oneshot::Sender<Result<(), ForwarderError>>,
}

/// One fetcher, from `StartShard` to `ShardEnded`.
struct Fetcher {
    epoch: Epoch,
    worker: usize,
    control: Option<Recipient<ControlShard>>,
    /// Commands given before it was known how to reach it.
    early: Vec<ShardCommand>,
}

/// How long one commit may take before the newest position is committed instead (rule L3).
const COMMIT_LIMIT: Duration = Duration::from_secs(10);
/// Pause before a failed commit is sent again.
const COMMIT_RETRY: Duration = Duration::from_secs(1);

impl Coordinator {
    /// Puts it together; nothing happens before it is started.
    pub fn new(parts: CoordinatorParts) -> Self {
        let source = &parts.config.source;
        let timeout = Duration::from_secs(source.group_timeout_s.into());
        let log = parts.log.new(o!("actor" => "coordinator"));
        Self {
            leases: LeaseTable::new(now(), source.heartbeat_interval, timeout, source.drain_timeout),
            commits: CommitTable::new(source.commit_interval),
            level: parts.level,
            workers: Vec::new(),
            routing: Routing::new(1),
            housekeeping: Housekeeping::new(now()),
            summary: Summary::new(now(), parts.config.summary_interval),
            troubles: Troubles::new(log.clone(), parts.events.clone()),
            commit_troubles: Troubles::new(log.clone(), parts.events.clone()),
            config: parts.config,
            hub: parts.hub,
            heartbeats: parts.heartbeats,
            fetchers: BTreeMap::new(),
            receivers: BTreeMap::new(),
            phase: Phase::Joining,
            rejoining: false,
            forgotten: BTreeSet::new(),
            made_anew: BTreeSet::new(),
            asking_oldest: false,
            stop_deadline: None,
            counters: parts.counters,
            events: parts.events,
            log,
            beats: parts.beats,
            ended: Some(parts.ended),
            timer: None,
        }
    }

    fn joined(&mut self, outcome: Result<Joined, ForwarderError>, ctx: &mut Context<Self>) {
        if self.phase != Phase::Joining {
            return;
        }
        let joined = match outcome {
            Ok(joined) => joined,
            Err(refused) => return self.end(Err(refused), ctx),
        };
        self.group_timeout_is(joined.group_timeout);
        self.summary.ttl_days = joined.ttl_days;
        self.phase = Phase::AwaitingReceiver;
        if self.receivers.values().any(|state| *state == ReceiverState::Ready) {
            self.receiver_is_ready();
        } else if let Some(worker) = self.workers.first() {
            worker.open.do_send(OpenConnection); // actix fact 3: one message
        }
        self.work(ctx);
    }

    fn receiver_is_ready(&mut self) {
        if self.phase == Phase::AwaitingReceiver {
            self.phase = Phase::Member;
        }
    }

    fn group_timeout_is(&mut self, timeout: Duration) {
        let before = self.leases.interval();
        self.leases.set_group_timeout(timeout);
        self.summary.group_timeout = timeout;
        let interval = self.leases.interval();
        if interval != before && interval < self.config.source.heartbeat_interval {
            info!(self.log, "heartbeats are sent more often than set: at most half of the group's timeout";
                "interval_s" => seconds(interval), "timeout_s" => timeout.as_secs());
        }
    }

    /// Does what is due and arms the timer for what comes next.
    fn work(&mut self, ctx: &mut Context<Self>) {
        let at = now();
        self.beats.fetch_add(1, Ordering::Relaxed);
        let decisions = self.leases.tick(at);
        self.carry_out(decisions, ctx);
        self.drain_omitted(|omitted| at >= omitted.decide_by());
        if matches!(self.phase, Phase::Member | Phase::Stopping) {
            self.heartbeat(at, ctx);
            self.commit(at, ctx);
            self.list_shards(at, ctx);
            self.read_group(at, ctx);
        }
        self.write_summary(at, ctx);
        if let Some(worker) = self.hung_worker(at) {
            return self.end(Err(ForwarderError::WorkerHung { worker }), ctx);
        }
        if self.phase == Phase::Stopping && (self.leases.is_empty() || self.stop_deadline.is_some_and(|d| at >= d)) {
            if !self.leases.is_empty() {
                warn!(self.log, "the time to stop is over; what is not committed will be sent again";
                    "shards" => self.leases.held().count());
            }
            return self.end(Ok(()), ctx);
        }
        self.arm(at, ctx);
    }

    fn arm(&mut self, at: Instant, ctx: &mut Context<Self>) {
        if let Some(timer) = self.timer.take() {
            ctx.cancel_future(timer);
        }
        let member = matches!(self.phase, Phase::Member | Phase::Stopping);
        let of_member = [
            self.leases.next_event(),
            self.commits.next_event(),
            (!self.housekeeping.listing).then_some(self.housekeeping.list_shards_at),
            (!self.housekeeping.reading_group).then_some(self.housekeeping.read_group_at),
            self.stop_deadline,
            self.housekeeping.omitted.iter().map(Omitted::decide_by).min(),
        ];
        let due = of_member
            .into_iter()
            .flatten()
            .filter(|_| member)
            .chain([self.summary.due(), self.housekeeping.watch_at])
            .min();
        let wait = due.map_or(Duration::from_secs(1), |due| due.saturating_duration_since(at));
        // A floor, so that something due that cannot be done yet never burns a core (actix fact 16).
        self.timer = Some(ctx.run_later(wait.max(Duration::from_millis(5)), |act, ctx| {
            act.timer = None;
            act.work(ctx);
        }));
    }

    // ---- heartbeats and leases -------------------------------------------------------------------------------

    fn heartbeat(&mut self, at: Instant, ctx: &mut Context<Self>) {
        let Some(held) = self.leases.begin_heartbeat(at) else { return };
        let limit = self.leases.heartbeat_limit();
        let request = tokio::time::timeout(limit, self.heartbeats.heartbeat(&held));
        ctx.spawn(request.into_actor(self).map(move |outcome, act, ctx| {
            let outcome = outcome
                .unwrap_or_else(|_| Err(SlsError::transport(format!("a heartbeat was not answered within {limit:?}"))));
            act.heartbeat_ended(outcome, ctx);
        }));
    }

    fn heartbeat_ended(&mut self, outcome: Result<Vec<ShardId>, SlsError>, ctx: &mut Context<Self>) {
        let at = now();
        match outcome {
            Ok(owned) => {
                if self.counters.heartbeats.get() == 0 {
                    info!(self.log, "joined the consumer group"; "shards" => owned.len());
                    let consumer = self.config.source.consumer_name.clone();
                    send(&self.events, ForwarderEvent::Joined { consumer });
                }
                self.counters.heartbeats.add(1);
                for code in [Code::SlsDown, Code::SlsRefused, Code::ClockSkew, Code::Quota, Code::LeaseLost] {
                    self.troubles.recovered(at, code);
                }
                let decisions = self.leases.heartbeat_answered(at, &owned);
                self.carry_out(decisions, ctx);
                // What others hold, they may have moved.
                self.made_anew.retain(|shard| owned.contains(shard));
            }
            Err(error) => {
                self.leases.heartbeat_failed(at);
                if self.counters.heartbeats.get() == 0 && join::ends_the_start(&error) {
                    return self.end(Err(join::refused(&error)), ctx);
                }
                self.troubles.report(at, code_of(&error), &format!("heartbeat: {}", sentence(&error)));
                if error.class() == ErrorClass::LeaseLost {
                    self.forgotten(ctx);
                } else if error.code_is("ConsumerGroupNotExist") {
                    self.rejoin(ctx);
                }
            }
        }
        self.work(ctx);
    }

    fn group(&self) -> ConsumerGroup {
        let source = &self.config.source;
        ConsumerGroup { name: source.consumer_group.clone(), timeout_s: source.group_timeout_s, order: source.in_order }
    }

    fn lose_all(&mut self, ctx: &mut Context<Self>) {
        let decisions = self.leases.lose_all();
        self.carry_out(decisions, ctx);
    }

    fn carry_out(&mut self, decisions: Vec<Decision>, ctx: &mut Context<Self>) {
        for decision in decisions {
            match decision {
                Decision::Start(shard, epoch) => self.start_fetcher(shard, epoch),
                Decision::Drain(shard, epoch, deadline) => {
                    if self.phase == Phase::Member {
                        self.omitted(shard, epoch, deadline);
                    } else {
                        self.command(shard, epoch, ShardCommand::Drain { deadline: deadline.into() });
                    }
                }
                Decision::Abandon(shard, epoch) => self.command(shard, epoch, ShardCommand::Abandon),
                Decision::Flush(shard, epoch) => {
                    self.commits.flush(now(), shard);
                    self.release_if_committed(shard, epoch, ctx);
                }
                Decision::Released { shard, epoch, lost } => self.released(shard, epoch, lost),
            }
        }
    }

    fn start_fetcher(&mut self, shard: ShardId, epoch: Epoch) {
        let worker = self.routing.assign();
        self.commits.begin(now(), shard, epoch);
        self.summary.forget(shard);
        if self.fetchers.is_empty() {
            // How many shards there are says how often each may be read.
            self.housekeeping.list_shards_at = now();
        }
        let fair = self.housekeeping.fair_rest;
        let early = if fair.is_zero() { Vec::new() } else { vec![ShardCommand::RestAtLeast(fair)] };
        self.fetchers.insert(shard, Fetcher { epoch, worker, control: None, early });
        info!(self.log, "acquired a shard"; "shard" => shard.0, "epoch" => epoch.0, "worker" => worker);
        send(&self.events, ForwarderEvent::ShardAcquired { shard });
        let instead = self.made_anew.remove(&shard);
        let resume = self.commits.last_confirmed(shard).map(|cursor| Resume { cursor: cursor.clone(), instead });
        // actix fact 3: one per acquisition.
        self.workers[worker].start.do_send(StartShard { shard, epoch, resume });
    }

    fn command(&mut self, shard: ShardId, epoch: Epoch, command: ShardCommand) {
        let Some(fetcher) = self.fetchers.get_mut(&shard).filter(|fetcher| fetcher.epoch == epoch) else { return };
        match &fetcher.control {
            // actix fact 3: a handful per lease.
            Some(control) => control.do_send(ControlShard { epoch, command }),
            None => fetcher.early.push(command),
        }
    }

    fn released(&mut self, shard: ShardId, epoch: Epoch, lost: bool) {
        self.commits.end(shard);
        if lost {
            let what = format!("the lease of shard {shard} is lost; whoever holds it goes on from its last checkpoint");
            self.troubles.report(now(), Code::LeaseLost, &what);
        }
        info!(self.log, "released a shard"; "shard" => shard.0, "epoch" => epoch.0, "lost" => lost);
        send(&self.events, ForwarderEvent::ShardReleased { shard, lost });
    }

    /// A fetcher ended, as told (`how`) or by a panic.
    fn fetcher_ended(&mut self, shard: ShardId, epoch: Epoch, how: Option<ShardEnd>, ctx: &mut Context<Self>) {
        if self.fetchers.get(&shard).is_none_or(|fetcher| fetcher.epoch != epoch) {
            return;
        }
        if let Some(fetcher) = self.fetchers.remove(&shard) {
            self.routing.release(fetcher.worker);
        }
        if how == Some(ShardEnd::ShardGone) {
            // Rule L7: SLS takes no commit for a shard that it does not know.
            self.commits.end(shard);
            self.leases.shard_gone(now(), shard);
        }
        let decisions = match how {
            Some(_) => self.leases.fetcher_ended(now(), shard, epoch),
            None => self.leases.fetcher_lost(now(), shard, epoch),
        };
        self.carry_out(decisions, ctx);
        self.work(ctx);
    }

    // ---- commits ---------------------------------------------------------------------------------------------

    fn commit(&mut self, at: Instant, ctx: &mut Context<Self>) {
        let leases = &self.leases;
        while let Some(order) = self.commits.next(at, |shard, epoch| leases.may_commit(at, shard, epoch)) {
            let request =
                tokio::time::timeout(COMMIT_LIMIT, self.hub.update_checkpoint(order.shard, &order.cursor, false));
            ctx.spawn(request.into_actor(self).map(move |outcome, act, ctx| {
                let outcome = outcome.unwrap_or_else(|_| Err(SlsError::transport("a commit was not answered in time")));
                act.commit_ended(&order, outcome, ctx);
            }));
        }
    }

    fn commit_ended(&mut self, order: &Order, outcome: Result<(), SlsError>, ctx: &mut Context<Self>) {
        let at = now();
        let is_ours = self.leases.may_commit(at, order.shard, order.epoch);
        self.commits.ended(at, order, outcome.is_ok(), COMMIT_RETRY);
        match outcome {
            Ok(()) => {
                self.counters.commits.add(1);
                self.summary.committed(at);
                for code in [Code::SlsDown, Code::SlsRefused, Code::ClockSkew, Code::Quota] {
                    self.commit_troubles.recovered(at, code);
                }
                debug!(self.log, "committed"; "shard" => order.shard.0, "epoch" => order.epoch.0, "cursor" => %order.cursor);
            }
            Err(error) if error.code_is("ConsumerNotMatch") => {
                let mut decisions = self.leases.lose(order.shard, order.epoch);
                // SLS counts a read-only shard as finished, held by nobody, once its end is committed: what it refuses
                // then is only that the end is committed once more (rule L5), and nothing is lost.
                for decision in &mut decisions {
                    if let Decision::Released { lost, .. } = decision {
                        *lost = !order.repeated;
                    }
                }
                self.carry_out(decisions, ctx);
            }
            // Of a commit under a former lease it says nothing about the leases of now.
            Err(error) if error.class() == ErrorClass::LeaseLost => {
                if is_ours {
                    self.lose_all(ctx);
                }
            }
            Err(error) => {
                let what = format!("cannot commit shard {}: {}", order.shard, sentence(&error));
                self.commit_troubles.report(at, code_of(&error), &what);
            }
        }
        self.release_if_committed(order.shard, order.epoch, ctx);
        self.work(ctx);
    }

    fn release_if_committed(&mut self, shard: ShardId, epoch: Epoch, ctx: &mut Context<Self>) {
        if self.commits.is_done(shard, epoch) {
            let decisions = self.leases.released(shard, epoch);
            self.carry_out(decisions, ctx);
        }
    }

    fn write_summary(&mut self, at: Instant, ctx: &mut Context<Self>) {
        if self.summary.due() <= at {
            if self.phase != Phase::AwaitingReceiver {
                self.summary.oldest_s = None;
            } else if !std::mem::replace(&mut self.asking_oldest, true) {
                let request = join::oldest_uncommitted(Rc::clone(&self.hub));
                ctx.spawn(request.into_actor(self).map(|outcome, act, _| {
                    act.asking_oldest = false;
                    act.summary.oldest_s = outcome.ok().flatten();
                }));
            }
            self.summary.is_member = self.leases.confirmed_at().is_some();
            let status = self.status();
            self.summary.write(at, &self.log, &status);
        }
    }

    fn status(&self) -> ForwarderStatus {
        ForwarderStatus {
            phase: self.phase,
            shards: self.leases.held().map(|(shard, _)| shard).collect(),
            confirmation: self.level,
            receiver: self.receiver(),
            lag_s: self.summary.lag_s(self.leases.held().map(|(shard, _)| shard)),
            counters: self.counters.snapshot(),
        }
    }

    /// The receiver as the worst-off connection sees it: down if one is down, ready if one is ready.
    fn receiver(&self) -> ReceiverState {
        let down = self.receivers.values().find(|state| matches!(state, ReceiverState::Down { .. }));
        let ready = self.receivers.values().find(|state| **state == ReceiverState::Ready);
        down.or(ready).cloned().unwrap_or(ReceiverState::Idle)
    }

    // ---- the end ---------------------------------------------------------------------------------------------

    fn stop(&mut self, within: Duration, ctx: &mut Context<Self>) {
        match self.phase {
            Phase::Joining | Phase::AwaitingReceiver => self.end(Ok(()), ctx),
            Phase::Member => {
                self.phase = Phase::Stopping;
                let deadline = now() + within;
                self.stop_deadline = Some(deadline);
                info!(self.log, "stopping: draining what was pulled"; "shards" => self.leases.held().count(),
                    "within_s" => seconds(within));
                self.drain_omitted(|_| true);
                let decisions = self.leases.stop(now(), deadline);
                self.carry_out(decisions, ctx);
                self.work(ctx);
            }
            Phase::Stopping | Phase::Ended => {}
        }
    }

    /// A shard is given up although not all that was pulled of it is confirmed.
    fn left_behind(&mut self, ended: &ShardEnded) {
        let Unconfirmed { log_groups, raw_bytes } = ended.unconfirmed;
        if log_groups == 0 || !self.leases.held().any(|held| held == (ended.shard, ended.epoch)) {
            return;
        }
        warn!(self.log, "the time to drain a shard is over; what was pulled and is not confirmed stays in SLS";
            "shard" => ended.shard.0, "epoch" => ended.epoch.0, "log_groups" => log_groups, "raw_bytes" => raw_bytes);
        if self.phase == Phase::Stopping {
            self.counters.log_groups_left.add(log_groups);
            self.counters.raw_bytes_left.add(raw_bytes);
        }
    }

    fn end(&mut self, outcome: Result<(), ForwarderError>, ctx: &mut Context<Self>) {
        self.phase = Phase::Ended;
        // Nobody renews their leases any more: what is left must not read and send on.
        let left: Vec<(ShardId, Epoch)> =
            self.fetchers.iter().map(|(shard, fetcher)| (*shard, fetcher.epoch)).collect();
        for (shard, epoch) in left {
            self.command(shard, epoch, ShardCommand::Abandon);
        }
        match &outcome {
            Ok(()) => info!(self.log, "left the consumer group"; "commits" => self.counters.commits.get()),
            // Whoever holds the handle is told, and says it once.
            Err(why) => debug!(self.log, "cannot go on: {}", why),
        }
        if let Some(ended) = self.ended.take() {
            // The assembly may have given up waiting.
            let _ = ended.send(outcome);
        }
        ctx.stop();
    }
}

impl Actor for Coordinator {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.set_mailbox_capacity(self.config.mailbox.coordinator);
        self.arm(now(), ctx);
    }
}

impl Handler<BeginJoining> for Coordinator {
    type Result = ();

    fn handle(&mut self, begin: BeginJoining, ctx: &mut Context<Self>) {
        self.routing = Routing::new(begin.workers.len());
        self.workers = begin.workers;
        let membership = Membership {
            group: self.group(),
            manage_group: self.config.source.manage_group,
            start: self.config.source.cursor_start_time,
        };
        let joining = join(Rc::clone(&self.hub), membership, self.log.clone(), self.events.clone());
        ctx.spawn(joining.into_actor(self).map(|outcome, act, ctx| act.joined(outcome, ctx)));
    }
}

impl Handler<FetcherStarted> for Coordinator {
    type Result = ();

    fn handle(&mut self, started: FetcherStarted, _: &mut Context<Self>) {
        let Some(fetcher) = self.fetchers.get_mut(&started.shard).filter(|f| f.epoch == started.epoch) else { return };
        for command in fetcher.early.drain(..) {
            started.control.do_send(ControlShard { epoch: started.epoch, command });
        }
        fetcher.control = Some(started.control);
    }
}

impl Handler<CheckpointReady> for Coordinator {
    type Result = ();

    fn handle(&mut self, ready: CheckpointReady, ctx: &mut Context<Self>) {
        let delivered = self.counters.batches_delivered.get() > 0;
        if self.summary.settled(ready.shard, ready.received_s, delivered) {
            let what = if self.level == Confirmation::Sent { "handed to the kernel" } else { "confirmed" };
            info!(self.log, "the first batch is {}", what; "shard" => ready.shard.0, "confirmation" => self.level.as_str());
        }
        let was_waiting = self.commits.next_event();
        self.commits.ready(ready.shard, ready.epoch, ready.cursor, ready.even_if_unchanged);
        // The timer is armed anew only when this position is due before anything else that waits. While a commit is in
        // flight its end does so: positions come much more often.
        if self.commits.next_event().is_some_and(|due| was_waiting.is_none_or(|waiting| due < waiting)) {
            self.work(ctx);
        }
    }
}

impl Handler<ShardCaughtUp> for Coordinator {
    type Result = ();

    fn handle(&mut self, caught_up: ShardCaughtUp, _: &mut Context<Self>) {
        self.summary.forget(caught_up.shard);
    }
}

impl Handler<ShardEnded> for Coordinator {
    type Result = ();

    fn handle(&mut self, ended: ShardEnded, ctx: &mut Context<Self>) {
        debug!(self.log, "a fetcher ended"; "shard" => ended.shard.0, "epoch" => ended.epoch.0, "how" => ?ended.how);
        self.left_behind(&ended);
        self.fetcher_ended(ended.shard, ended.epoch, Some(ended.how), ctx);
    }
}

impl Handler<ActorEnded> for Coordinator {
    type Result = ();

    fn handle(&mut self, ended: ActorEnded, ctx: &mut Context<Self>) {
        if ended.panicked {
            tell_panic(&ended.actor, &self.counters, &self.log, &self.events);
        }
        if let ActorName::ShardFetcher { shard, epoch } = ended.actor {
            self.fetcher_ended(shard, epoch, None, ctx);
        }
    }
}

impl Handler<ReceiverChanged> for Coordinator {
    type Result = ();

    fn handle(&mut self, changed: ReceiverChanged, ctx: &mut Context<Self>) {
        // The connection has logged it already.
        let code = Code::ReceiverDown;
        match (&changed.state, self.receiver()) {
            (ReceiverState::Down { why }, ReceiverState::Idle | ReceiverState::Ready) => {
                send(&self.events, ForwarderEvent::Trouble { code, what: why.clone() });
            }
            (ReceiverState::Ready, ReceiverState::Down { .. }) => {
                send(&self.events, ForwarderEvent::Recovered { code })
            }
            _ => {}
        }
        let ready = changed.state == ReceiverState::Ready;
        self.receivers.insert((changed.worker, changed.index), changed.state);
        if ready && self.phase == Phase::AwaitingReceiver {
            self.receiver_is_ready();
            self.work(ctx);
        }
    }
}

impl Handler<StopForwarder> for Coordinator {
    type Result = ();

    fn handle(&mut self, stop: StopForwarder, ctx: &mut Context<Self>) {
        self.stop(stop.within, ctx);
    }
}

impl Handler<GetStatus> for Coordinator {
    type Result = MessageResult<GetStatus>;

    fn handle(&mut self, _: GetStatus, _: &mut Context<Self>) -> Self::Result {
        MessageResult(self.status())
    }
}
