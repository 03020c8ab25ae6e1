//! The forwarder as a whole: built from settings, started, watched through a handle.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use actix::{Addr, Recipient};
use futures_util::future::select_all;
use slog::{Logger, info, o, warn};
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use crate::config::ForwarderConfig;
use crate::connection::shared_pace;
use crate::coordinator::{Coordinator, CoordinatorParts};
use crate::counters::{Counters, CountersSnapshot};
use crate::error::ForwarderError;
use crate::event::{Code, ForwarderEvent};
use crate::io::dead_letter::file::{FileError, LetterFile};
use crate::io::system_ports::SystemPorts;
use crate::messages::{BeginJoining, FormatBatch, ForwarderStatus, GetStatus, SendBatch, StopForwarder, WorkerHandle};
use crate::pipeline::{ClosePipeline, CoordinatorHandle, OwnOutput, Pipeline, PipelineParts};
use crate::placement::Placement;
use crate::ports::WorkerPorts;
use crate::trouble::{EventSink, ShardTroubles, send};
use crate::watch::ActorName;
use crate::wire::format::Format;

/// A forwarder that is to be started.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use sls_syslog_actors::config::{Credentials, DestinationConfig, ForwarderConfig, Protocol, SourceConfig};
/// use sls_syslog_actors::forwarder::Forwarder;
///
/// let credentials = Credentials::new("id", "secret");
/// let source = SourceConfig::new("cn-hangzhou.log.aliyuncs.com", "project", "logstore", "group", credentials)?;
/// let destination = DestinationConfig::new("siem.example.com", Protocol::Tls);
/// let forwarder = Forwarder::builder(ForwarderConfig::new(source, destination)).start()?;
/// forwarder.stop().await?;
/// # Ok(()) }
/// ```
pub struct Forwarder;

/// What a [`Forwarder`] is started with.
pub struct ForwarderBuilder {
    config: ForwarderConfig,
    log: Logger,
    events: EventSink,
    own_output: Option<OwnOutput>,
    format: Option<Arc<dyn Format>>,
    outside: Option<(Arc<dyn WorkerPorts>, Placement)>,
}

/// A running forwarder. Clones reach the same one; dropping all of them does not stop it.
#[derive(Clone)]
pub struct ForwarderHandle {
    coordinator: Addr<Coordinator>,
    counters: Arc<Counters>,
    drain_timeout: Duration,
    ended: watch::Receiver<Option<Ended>>,
}

/// How a forwarder ended.
pub type Ended = Result<CountersSnapshot, ForwarderError>;

/// Time that closing connections may take after everything has settled (rule C5).
const CLOSE_LIMIT: Duration = Duration::from_secs(10);

impl Forwarder {
    /// Begins with settings, which [`ForwarderBuilder::start`] checks.
    pub fn builder(config: ForwarderConfig) -> ForwarderBuilder {
        ForwarderBuilder {
            config,
            log: Logger::root(slog::Discard, o!()),
            events: None,
            own_output: None,
            format: None,
            outside: None,
        }
    }
}

impl ForwarderBuilder {
    /// Where log records go; nowhere by default.
    #[must_use]
    pub fn logger(mut self, log: Logger) -> Self {
        self.log = log;
        self
    }

    /// Who is told what happens.
    #[must_use]
    pub fn events(mut self, events: Recipient<ForwarderEvent>) -> Self {
        self.events = Some(events);
        self
    }

    /// Hands pieces of frames to the application instead of sending them.
    ///
    /// Each piece is confirmed ([`SendBatch::confirmed`]) when its messages are where they belong, in any order and as late
    /// as need be; a piece that is dropped, by mistake or by a panic too, fails its batch, which is pulled again. The
    /// recipient's mailbox has to hold `mailbox.connection` messages per worker: it is what bounds the unconfirmed pieces, and
    /// with them memory. An output whose actor has ended is told once, as `receiver-down`; stop the forwarder then.
    /// `tests/actors/own_output.rs` shows each of these.
    #[must_use]
    pub fn deliver_to(mut self, output: Recipient<SendBatch>) -> Self {
        self.own_output = Some(OwnOutput::Pieces(output));
        self
    }

    /// Hands batches to the application as they were pulled: nothing is rendered, and no connection is opened.
    ///
    /// A batch is delivered, failed or dropped with its ticket ([`Ticket`](crate::ticket::Ticket)), in any order and as late
    /// as need be. The recipient's mailbox has to hold `mailbox.formatter` messages per worker. For the rest it is as with
    /// [`deliver_to`](Self::deliver_to); of the two the last one counts. `examples/own_output.rs` keeps logs this way.
    #[must_use]
    pub fn deliver_batches_to(mut self, output: Recipient<FormatBatch>) -> Self {
        self.own_output = Some(OwnOutput::Batches(output));
        self
    }

    /// Lets the application say what messages carry, in place of key=value. `examples/own_format.rs` sends JSON.
    #[must_use]
    pub fn format(mut self, format: Arc<dyn Format>) -> Self {
        self.format = Some(format);
        self
    }

    /// Replaces SLS, receiver, clock and threads: for simulations.
    #[must_use]
    pub fn outside(mut self, ports: Arc<dyn WorkerPorts>, placement: Placement) -> Self {
        self.outside = Some((ports, placement));
        self
    }

    /// Starts the forwarder. It goes on by itself, on threads of its own, until it is stopped or cannot go on.
    ///
    /// # Errors
    ///
    /// Settings that do not work, files that cannot be read, threads that cannot be started. What SLS refuses shows as
    /// the forwarder's end.
    ///
    /// # Panics
    ///
    /// If no actix System runs on this thread.
    pub fn start(self) -> Result<ForwarderHandle, ForwarderError> {
        self.config.validate().map_err(|error| ForwarderError::Settings(error.to_string()))?;
        let (ports, placement) = match self.outside {
            Some(outside) => outside,
            None => {
                let ports: Arc<dyn WorkerPorts> = Arc::new(SystemPorts::new(&self.config)?);
                (ports, Placement::threads(self.config.limits.workers)?)
            }
        };
        let config = Arc::new(self.config);
        let log = self.log.new(o!("consumer" => config.source.consumer_name.clone()));
        let counters = Arc::new(Counters::default());
        // An application that sends itself knows best what it waits for before it settles.
        let level = if self.own_output.is_some() { config.destination.confirmation } else { ports.level() };
        if level != config.destination.confirmation {
            warn!(log, "this system does not tell what the receiver's TCP has acknowledged; confirming less";
                "confirmation" => level.as_str(), "configured" => config.destination.confirmation.as_str());
        }
        info!(log, "starting"; "confirmation" => level.as_str(), "workers" => placement.workers(),
            "batches_in_flight" => config.mailbox.formatter, "pieces_per_connection" => config.mailbox.connection,
            "bytes_in_flight" => config.limits.bytes_in_flight,
            "dead_letter" => config.dead_letter.path.as_ref().map_or("off".to_owned(), |path| path.display().to_string()));

        look_at_dead_letter(&config, &log);
        let (coordinator_ended, ended) = oneshot::channel();
        let coordinator_beats = Arc::new(AtomicU64::new(0));
        let coordinator = placement.on_coordinator({
            let (config, ports, log) = (Arc::clone(&config), Arc::clone(&ports), log.clone());
            let (counters, events) = (Arc::clone(&counters), self.events.clone());
            let beats = Arc::clone(&coordinator_beats);
            move |_| {
                let (hub, heartbeats) = (ports.log_hub(), ports.log_hub());
                let ended = coordinator_ended;
                Coordinator::new(CoordinatorParts {
                    config,
                    hub,
                    heartbeats,
                    level,
                    counters,
                    events,
                    log,
                    beats,
                    ended,
                })
            }
        });
        let handle = CoordinatorHandle {
            fetcher_started: coordinator.clone().recipient(),
            checkpoint_ready: coordinator.clone().recipient(),
            caught_up: coordinator.clone().recipient(),
            shard_ended: coordinator.clone().recipient(),
            receiver_changed: coordinator.clone().recipient(),
            actor_ended: coordinator.clone().recipient(),
        };
        let pace = shared_pace(&config.destination);
        let troubles = ShardTroubles::new(log.clone(), self.events.clone());
        let (mut pipelines, mut workers, mut workers_ended) = (Vec::new(), Vec::new(), Vec::new());
        for worker in 0..placement.workers() {
            let (worker_ended, ended) = oneshot::channel();
            workers_ended.push(ended);
            let beats = Arc::new(AtomicU64::new(0));
            let parts = PipelineParts {
                worker,
                config: Arc::clone(&config),
                ports: Arc::clone(&ports),
                own_output: self.own_output.clone(),
                format: self.format.clone(),
                pace: pace.clone(),
                counters: Arc::clone(&counters),
                events: self.events.clone(),
                troubles: troubles.clone(),
                coordinator: handle.clone(),
                log: log.clone(),
                beats: Arc::clone(&beats),
                coordinator_beats: Arc::clone(&coordinator_beats),
                ended: worker_ended,
            };
            let pipeline = placement.on_worker(worker, move |_| Pipeline::new(parts));
            workers.push(WorkerHandle {
                start: pipeline.clone().recipient(),
                open: pipeline.clone().recipient(),
                beats,
            });
            pipelines.push(pipeline);
        }
        coordinator.do_send(BeginJoining { workers });

        let (tell_ended, watch_ended) = watch::channel(None);
        let running = Running {
            coordinator: coordinator.clone(),
            coordinator_ended: ended,
            pipelines,
            workers_ended,
            placement,
            counters: Arc::clone(&counters),
            events: self.events,
            log,
        };
        actix_rt::spawn(async move {
            let ended = running.until_ended().await;
            tell_ended.send_replace(Some(ended));
        });
        let drain_timeout = config.source.drain_timeout;
        Ok(ForwarderHandle { coordinator, counters, drain_timeout, ended: watch_ended })
    }
}

/// A dead letter that cannot be used matters only once a log is to be set aside; until then there is time to mend it.
fn look_at_dead_letter(config: &ForwarderConfig, log: &Logger) {
    let Some(file) = LetterFile::new(&config.dead_letter) else { return };
    if let Err(error) = file.check() {
        let code = match &error {
            FileError::NoRoom { .. } | FileError::NoSpace { .. } => Code::DeadLetterFull,
            _ => Code::DeadLetterUnwritable,
        };
        warn!(log, "{}; a log that the receiver does not take would hold up its shard", error; "code" => code.as_str());
    }
}

impl ForwarderHandle {
    /// Drains, commits, closes and ends, within the configured `drain_timeout`; resolves when all of it is done.
    /// Cancel safe: the stop goes on.
    pub async fn stop(&self) -> Ended {
        self.begin_stop();
        self.ended().await
    }

    /// Asks for a stop without waiting for it.
    pub fn begin_stop(&self) {
        self.coordinator.do_send(StopForwarder { within: self.drain_timeout });
    }

    /// What it is doing; `None` once it has ended.
    pub async fn status(&self) -> Option<ForwarderStatus> {
        self.coordinator.send(GetStatus).await.ok()
    }

    /// Totals since the start, also after the end.
    pub fn counters(&self) -> CountersSnapshot {
        self.counters.snapshot()
    }

    /// Resolves when the forwarder has ended: stopped, or unable to go on. Cancel safe.
    pub async fn ended(&self) -> Ended {
        let mut ended = self.ended.clone();
        let outcome = ended.wait_for(Option::is_some).await.ok().and_then(|outcome| outcome.clone());
        outcome.unwrap_or_else(|| Err(ForwarderError::Panicked { actor: "forwarder's watcher".to_owned() }))
    }
}

/// All that has to end, in order.
struct Running {
    coordinator: Addr<Coordinator>,
    coordinator_ended: oneshot::Receiver<Result<(), ForwarderError>>,
    pipelines: Vec<Addr<Pipeline>>,
    workers_ended: Vec<oneshot::Receiver<Result<(), ForwarderError>>>,
    placement: Placement,
    counters: Arc<Counters>,
    events: EventSink,
    log: Logger,
}

impl Running {
    /// The Coordinator ends when everything is settled and committed; then connections are closed, then threads end.
    async fn until_ended(mut self) -> Ended {
        let mut workers_ended = std::mem::take(&mut self.workers_ended);
        let (mut outcome, gone) = tokio::select! {
            outcome = &mut self.coordinator_ended => {
                (outcome.unwrap_or_else(|_| Err(self.panicked(&ActorName::Coordinator))), None)
            }
            (outcome, worker, _) = select_all(&mut workers_ended) => {
                (outcome.unwrap_or_else(|_| Err(self.panicked(&ActorName::Pipeline { worker }))), Some(worker))
            }
        };
        if gone.is_some() {
            // Nobody is left to replace what ends there: the shards go to others.
            self.coordinator.do_send(StopForwarder { within: Duration::ZERO });
        }
        if let Err(hung @ (ForwarderError::WorkerHung { .. } | ForwarderError::CoordinatorHung)) = &outcome {
            // Its thread cannot be joined. What it is told now it does when it ever goes on: to end.
            self.tell(hung);
            self.close_pipelines(Instant::now());
            self.placement.abandon();
            send(&self.events, ForwarderEvent::Ended);
            return outcome.map(|()| self.counters.snapshot());
        }
        let deadline = Instant::now() + CLOSE_LIMIT;
        self.close_pipelines(deadline);
        // The end of one that is gone was told; to wait for it once more would be a panic.
        for (worker, ended) in workers_ended.into_iter().enumerate().filter(|(worker, _)| Some(*worker) != gone) {
            // The time for closing, and a little for the end itself; an arbiter that hangs is left behind.
            match tokio::time::timeout_at(deadline + Duration::from_secs(2), ended).await {
                Ok(Ok(ended)) => outcome = outcome.and(ended),
                Ok(Err(_)) => {
                    let panicked = self.panicked(&ActorName::Pipeline { worker });
                    outcome = outcome.and(Err(panicked));
                }
                Err(_) => warn!(self.log, "a worker does not end"),
            }
        }
        if tokio::time::timeout(Duration::from_secs(5), self.placement.end()).await.is_err() {
            warn!(self.log, "a worker's thread does not end and is left behind");
        }
        send(&self.events, ForwarderEvent::Ended);
        outcome.map(|()| self.counters.snapshot())
    }

    fn close_pipelines(&self, deadline: Instant) {
        self.pipelines.iter().for_each(|pipeline| pipeline.do_send(ClosePipeline { deadline }));
    }

    /// An actor that nobody can replace has ended by a panic. Whoever holds the handle is told, and says it.
    fn panicked(&self, actor: &ActorName) -> ForwarderError {
        self.counters.panics.add(1);
        let error = ForwarderError::Panicked { actor: actor.to_string() };
        self.tell(&error);
        error
    }

    fn tell(&self, error: &ForwarderError) {
        if let Some(code) = error.code() {
            send(&self.events, ForwarderEvent::Trouble { code, what: error.to_string() });
        }
    }
}
