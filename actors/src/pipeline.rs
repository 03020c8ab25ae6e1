//! One worker: a formatter, its connections, the fetchers of its shards, and what they share.
//!
//! Formatter and connections are one generation: when one of them ends by a panic, all are replaced together, and the
//! fetchers go on with the new formatter. What the old ones held fails by drop and is pulled again.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use actix::{Actor, ActorContext, Addr, AsyncContext, Context, Handler, Message, Recipient};
use slog::{Logger, debug, error, info, o};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::clock::now;
use crate::config::{ForwarderConfig, SourceConfig};
use crate::connection::{ConnectionParts, GapFacts, SharedPace, SyslogConnection};
use crate::counters::Counters;
use crate::credit::{ByteBudget, Credits};
use crate::error::ForwarderError;
use crate::event::Code;
use crate::fetcher::{FetcherParts, ShardFetcher};
use crate::formatter::{ConnectionHandle, Formatter, FormatterParts};
use crate::messages::{
    ActorEnded, CheckpointReady, CloseConnection, ControlShard, EndFormatter, FetcherStarted, FormatBatch,
    OpenConnection, ReceiverChanged, ReceiverState, SendBatch, ShardCaughtUp, ShardCommand, ShardEnded, StartShard,
    UseFormatter,
};
use crate::model::ids::{Epoch, ShardId};
use crate::model::restart::Restarts;
use crate::model::watchdog::Watchdog;
use crate::ports::{DeadLetter, LogHub, WorkerPorts};
use crate::trouble::{EventSink, ShardTroubles, seconds, tell_panic};
use crate::watch::{ActorName, ExitGuard};
use crate::wire::format::{Format, RenderSettings};

/// What a worker is made of. Crosses to the worker's arbiter.
pub struct PipelineParts {
    /// Its number.
    pub worker: usize,
    /// All settings.
    pub config: Arc<ForwarderConfig>,
    /// The outside.
    pub ports: Arc<dyn WorkerPorts>,
    /// The application's output, if it has one.
    pub own_output: Option<OwnOutput>,
    /// What writes payloads in place of key=value.
    pub format: Option<Arc<dyn Format>>,
    /// The process's pace, if there is a limit.
    pub pace: Option<SharedPace>,
    /// Totals.
    pub counters: Arc<Counters>,
    /// Where events go.
    pub events: EventSink,
    /// What is wrong between SLS and the process's shards.
    pub troubles: ShardTroubles,
    /// How to reach the Coordinator.
    pub coordinator: CoordinatorHandle,
    /// Logger.
    pub log: Logger,
    /// Bumped once a second, as a sign of life (rule L9).
    pub beats: Arc<AtomicU64>,
    /// The Coordinator's sign of life.
    pub coordinator_beats: Arc<AtomicU64>,
    /// Resolved when everything of this worker has ended, or cannot go on; dropped by a panic.
    pub ended: oneshot::Sender<Result<(), ForwarderError>>,
}

/// An application's output in place of actors of ours. Like any connection it is reached by one handle per producer.
#[derive(Debug, Clone)]
pub enum OwnOutput {
    /// In place of the connections.
    Pieces(Recipient<SendBatch>),
    /// In place of formatter and connections.
    Batches(Recipient<FormatBatch>),
}

impl OwnOutput {
    fn has_ended(&self) -> bool {
        match self {
            Self::Pieces(output) => !output.connected(),
            Self::Batches(output) => !output.connected(),
        }
    }
}

/// What a worker tells the Coordinator.
#[derive(Debug, Clone)]
pub struct CoordinatorHandle {
    /// A fetcher runs.
    pub fetcher_started: Recipient<FetcherStarted>,
    /// A position may be committed.
    pub checkpoint_ready: Recipient<CheckpointReady>,
    /// A shard is read to its end.
    pub caught_up: Recipient<ShardCaughtUp>,
    /// A fetcher has ended.
    pub shard_ended: Recipient<ShardEnded>,
    /// What is known of the receiver.
    pub receiver_changed: Recipient<ReceiverChanged>,
    /// A fetcher's value is gone.
    pub actor_ended: Recipient<ActorEnded>,
}

/// Starts and replaces the actors of one worker.
///
/// - **arbiter**: its worker's
/// - **mailbox**: control messages only
/// - **in**: `StartShard`, `OpenConnection`, `ActorEnded`, `ClosePipeline`
/// - **out**: `FetcherStarted`, `UseFormatter`, `OpenConnection`, `CloseConnection`, `EndFormatter`
/// - **timers**: one a second, as a sign of life, with a look at the Coordinator's; one before a generation is replaced
/// - **watched by**: the assembly, which ends the forwarder if it panics
pub struct Pipeline {
    worker: usize,
    config: Arc<ForwarderConfig>,
    source: Arc<SourceConfig>,
    ports: Arc<dyn WorkerPorts>,
    own_output: Option<OwnOutput>,
    /// It was said that the application's output has ended.
    output_has_ended: bool,
    format: Option<Arc<dyn Format>>,
    pace: Option<SharedPace>,
    counters: Arc<Counters>,
    events: EventSink,
    troubles: ShardTroubles,
    coordinator: CoordinatorHandle,
    hub: Rc<dyn LogHub>,
    dead_letter: Option<Rc<dyn DeadLetter>>,
    batches: Credits,
    bodies: ByteBudget,
    pieces: ByteBudget,
    chain: Option<Chain>,
    /// The shards of this worker pull at ticks from here on.
    first_tick: std::time::Instant,
    /// Actors of the present generation that have not ended.
    alive: usize,
    restarts: Restarts,
    /// A connection was asked for before there was anything to send; each new generation opens one (rule L8).
    open_wanted: bool,
    fetchers: BTreeMap<ShardId, Fetcher>,
    closing: bool,
    beats: Arc<AtomicU64>,
    coordinator_beats: Arc<AtomicU64>,
    watchdog: Watchdog,
    log: Logger,
    ended: Option<oneshot::Sender<Result<(), ForwarderError>>>,
}

/// How a fetcher is reached.
struct Fetcher {
    epoch: Epoch,
    formatter: Recipient<UseFormatter>,
    control: Recipient<ControlShard>,
}

/// One generation of formatter and connections. They end with this value, also when the pipeline panics: a connection
/// never ends by itself.
struct Chain {
    /// None if the application takes batches itself.
    formatter: Option<Addr<Formatter>>,
    /// Where fetchers hand their batches.
    batches: Recipient<FormatBatch>,
    connections: Vec<Addr<SyslogConnection>>,
    /// Until when they may still confirm what they hold; not at all unless told.
    deadline: Option<Instant>,
}

impl Drop for Chain {
    fn drop(&mut self) {
        // actix facts 3 and 13: always enqueued; this may run while unwinding, so nothing here may panic.
        if let Some(formatter) = &self.formatter {
            formatter.do_send(EndFormatter);
        }
        let deadline = self.deadline.unwrap_or_else(Instant::now);
        for connection in &self.connections {
            connection.do_send(CloseConnection { deadline });
        }
    }
}

/// Assembly → pipeline: no shard is read any more; close the connections by the deadline and end.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct ClosePipeline {
    /// When what is left is dropped.
    pub deadline: Instant,
}

/// Time between two signs of life.
const BEAT: Duration = Duration::from_secs(1);
/// First and longest pause before a generation is replaced.
const REPLACE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));

impl Pipeline {
    /// Puts it together, on the worker's arbiter.
    pub fn new(parts: PipelineParts) -> Self {
        let share = parts.config.limits.bytes_in_flight / parts.config.limits.workers.max(1);
        let log = parts.log.new(o!("worker" => parts.worker));
        Self {
            hub: parts.ports.log_hub(),
            dead_letter: parts.ports.dead_letter(log.clone()),
            source: Arc::new(parts.config.source.clone()),
            batches: Credits::new(parts.config.mailbox.formatter),
            // Rule M2: half for bodies and raw log groups, half for pieces.
            bodies: ByteBudget::new(share / 2),
            pieces: ByteBudget::new(share / 2),
            worker: parts.worker,
            config: parts.config,
            ports: parts.ports,
            own_output: parts.own_output,
            output_has_ended: false,
            format: parts.format,
            pace: parts.pace,
            counters: parts.counters,
            events: parts.events,
            troubles: parts.troubles,
            coordinator: parts.coordinator,
            chain: None,
            first_tick: now(),
            alive: 0,
            restarts: Restarts::new(REPLACE.0, REPLACE.1),
            open_wanted: false,
            fetchers: BTreeMap::new(),
            closing: false,
            beats: parts.beats,
            coordinator_beats: parts.coordinator_beats,
            watchdog: Watchdog::default(),
            log,
            ended: Some(parts.ended),
        }
    }

    fn beat(&mut self, ctx: &mut Context<Self>) {
        self.beats.fetch_add(1, Ordering::Relaxed);
        let has_ended = self.own_output.as_ref().is_some_and(OwnOutput::has_ended);
        if has_ended && !std::mem::replace(&mut self.output_has_ended, true) {
            // Whoever started it can start another, and a forwarder to feed it; this one has nobody to deliver to.
            let why = "the application's output has ended; nothing is delivered any more".to_owned();
            error!(self.log, "{}", why; "code" => Code::ReceiverDown.as_str());
            self.output_is(ReceiverState::Down { why });
        }
        let coordinator = self.coordinator_beats.load(Ordering::Relaxed);
        if !self.closing && self.watchdog.tick([coordinator]).is_some() {
            // Whoever holds the shards by now reads them: what we hold of them is not sent any more.
            self.tell_ended(Err(ForwarderError::CoordinatorHung));
            self.close(Instant::now());
            self.end_if_empty(ctx);
        }
        ctx.run_later(BEAT, Self::beat);
    }

    /// Says how the application's own output does.
    fn output_is(&self, state: ReceiverState) {
        // actix fact 3: one when it is there, one when it has gone.
        self.coordinator.receiver_changed.do_send(ReceiverChanged { worker: self.worker, index: 0, state });
    }

    /// No shard is read any more, and the connections end by the deadline.
    fn close(&mut self, deadline: Instant) {
        self.closing = true;
        // None is left unless the Coordinator has ended by a panic or hangs; then nobody else tells them that the lease
        // is lost.
        for Fetcher { epoch, control, .. } in self.fetchers.values() {
            control.do_send(ControlShard { epoch: *epoch, command: ShardCommand::Abandon });
        }
        self.end_chain(deadline);
    }

    fn tell_ended(&mut self, outcome: Result<(), ForwarderError>) {
        if let Some(ended) = self.ended.take() {
            // The assembly may have given up waiting.
            let _ = ended.send(outcome);
        }
    }

    fn guard(&mut self, actor: ActorName, ctx: &mut Context<Self>) -> ExitGuard {
        self.alive += 1;
        ExitGuard::new(actor, ctx.address().recipient())
    }

    fn start_chain(&mut self, ctx: &mut Context<Self>) {
        let (connections, handles) = match self.own_output.clone() {
            Some(OwnOutput::Batches(batches)) => {
                self.chain = Some(Chain { formatter: None, batches, connections: Vec::new(), deadline: None });
                return;
            }
            Some(OwnOutput::Pieces(send)) => (Vec::new(), vec![self.handle_of(send)]),
            None => {
                let connections = self.start_connections(ctx);
                let handles = connections.iter().map(|addr| self.handle_of(addr.clone().recipient())).collect();
                (connections, handles)
            }
        };
        let formatter = self.start_formatter(handles, ctx);
        let batches: Recipient<FormatBatch> = formatter.clone().recipient();
        self.fetchers.retain(|_, fetcher| fetcher.formatter.connected());
        for fetcher in self.fetchers.values() {
            fetcher.formatter.do_send(UseFormatter(batches.clone()));
        }
        if self.open_wanted
            && let Some(connection) = connections.first()
        {
            connection.do_send(OpenConnection); // actix fact 3: one per generation
        }
        self.chain = Some(Chain { formatter: Some(formatter), batches, connections, deadline: None });
    }

    fn handle_of(&self, send: Recipient<SendBatch>) -> ConnectionHandle {
        ConnectionHandle { send, credits: Credits::new(self.config.mailbox.connection) }
    }

    fn start_connections(&mut self, ctx: &mut Context<Self>) -> Vec<Addr<SyslogConnection>> {
        let worker = self.worker;
        let dial = self.ports.dialer(Arc::clone(&self.counters), self.log.clone());
        let mut connections = Vec::new();
        for index in 0..self.config.destination.connections {
            let guard = self.guard(ActorName::SyslogConnection { worker, index }, ctx);
            let ports = Arc::clone(&self.ports);
            let parts = ConnectionParts {
                worker,
                index,
                dial: Rc::clone(&dial),
                level: self.ports.level(),
                mailbox: self.config.mailbox.connection,
                pace: self.pace.clone(),
                gap_facts: GapFacts {
                    project: self.source.project.clone(),
                    logstore: self.source.logstore.clone(),
                    unix_seconds: Rc::new(move || ports.unix_seconds()),
                },
                receiver_changed: self.coordinator.receiver_changed.clone(),
                counters: Arc::clone(&self.counters),
                logger: self.log.clone(),
                seed: self.ports.seed(),
                guard,
            };
            connections.push(SyslogConnection::new(&self.config.destination, parts).launch());
        }
        connections
    }

    fn start_formatter(&mut self, connections: Vec<ConnectionHandle>, ctx: &mut Context<Self>) -> Addr<Formatter> {
        let guard = self.guard(ActorName::Formatter { worker: self.worker }, ctx);
        Formatter::new(FormatterParts {
            mailbox: self.config.mailbox.formatter,
            piece_bytes: self.config.limits.piece_bytes.min(self.pieces.total()),
            settings: RenderSettings {
                format: self.format.clone(),
                ..RenderSettings::new(
                    &self.config.destination,
                    &self.config.source.project,
                    &self.config.source.logstore,
                )
            },
            connections,
            budget: self.pieces.clone(),
            counters: Arc::clone(&self.counters),
            log: self.log.clone(),
            guard,
        })
        .launch()
    }

    /// Ends what is left of the present generation.
    fn end_chain(&mut self, deadline: Instant) {
        if let Some(mut chain) = self.chain.take() {
            chain.deadline = Some(deadline);
        }
    }

    fn end_if_empty(&mut self, ctx: &mut Context<Self>) {
        if self.closing && self.alive == 0 {
            debug!(self.log, "the worker has ended");
            self.tell_ended(Ok(()));
            ctx.stop();
        }
    }
}

impl Actor for Pipeline {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.beat(ctx);
        self.start_chain(ctx);
    }
}

impl Handler<StartShard> for Pipeline {
    type Result = ();

    fn handle(&mut self, start: StartShard, _: &mut Context<Self>) {
        let StartShard { shard, epoch, resume } = start;
        let actor = ActorName::ShardFetcher { shard, epoch };
        let formatter = match &self.chain {
            Some(chain) => chain.batches.clone(),
            // Between two generations: the guard tells the Coordinator, which starts the shard again later.
            None => return drop(ExitGuard::new(actor, self.coordinator.actor_ended.clone())),
        };
        let ports = Arc::clone(&self.ports);
        let fetcher = ShardFetcher::new(FetcherParts {
            shard,
            epoch,
            resume,
            mailbox: self.config.mailbox.fetcher,
            source: Arc::clone(&self.source),
            hub: Rc::clone(&self.hub),
            batches: self.batches.clone(),
            budget: self.bodies.clone(),
            dead_letter: self.dead_letter.clone(),
            formatter,
            checkpoint_ready: self.coordinator.checkpoint_ready.clone(),
            caught_up: self.coordinator.caught_up.clone(),
            shard_ended: self.coordinator.shard_ended.clone(),
            counters: Arc::clone(&self.counters),
            events: self.events.clone(),
            troubles: self.troubles.clone(),
            unix_seconds: Rc::new(move || ports.unix_seconds()),
            first_tick: self.first_tick,
            seed: self.ports.seed(),
            log: self.log.clone(),
            guard: ExitGuard::new(actor, self.coordinator.actor_ended.clone()),
        })
        .launch();
        let control = fetcher.clone().recipient();
        self.fetchers.insert(shard, Fetcher { epoch, formatter: fetcher.recipient(), control: control.clone() });
        self.coordinator.fetcher_started.do_send(FetcherStarted { shard, epoch, control });
    }
}

impl Handler<OpenConnection> for Pipeline {
    type Result = ();

    fn handle(&mut self, open: OpenConnection, _: &mut Context<Self>) {
        self.open_wanted = true;
        if self.own_output.is_some() {
            // What it is connected to is its own business.
            self.output_is(ReceiverState::Ready);
        } else if let Some(connection) = self.chain.as_ref().and_then(|chain| chain.connections.first()) {
            connection.do_send(open);
        }
    }
}

impl Handler<ActorEnded> for Pipeline {
    type Result = ();

    fn handle(&mut self, ended: ActorEnded, ctx: &mut Context<Self>) {
        self.alive -= 1;
        if ended.panicked {
            // Here, because the Coordinator may have ended by now.
            tell_panic(&ended.actor, &self.counters, &self.log, &self.events);
        }
        if self.closing {
            return self.end_if_empty(ctx);
        }
        // One of a generation has ended: the others follow, then the next generation starts.
        self.end_chain(Instant::now());
        if self.alive == 0 {
            let pause = self.restarts.panicked(now());
            info!(self.log, "replacing formatter and connections"; "pause_s" => seconds(pause));
            ctx.run_later(pause, |act, ctx| {
                if !act.closing {
                    act.start_chain(ctx);
                }
            });
        }
    }
}

impl Handler<ClosePipeline> for Pipeline {
    type Result = ();

    fn handle(&mut self, close: ClosePipeline, ctx: &mut Context<Self>) {
        self.close(close.deadline);
        self.end_if_empty(ctx);
    }
}
