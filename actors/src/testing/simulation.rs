//! A whole group of forwarders, SLS and a receiver under a plan of faults, in virtual time on one thread.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use slog::Logger;
use tokio::task::{JoinHandle, LocalSet};
use tokio::time::{Instant, sleep, sleep_until};

use super::faults::{PLANNED_PANIC, Plan, SlsFault, What};
use super::hub::{Fault, InMemoryHub, Operation};
use super::invariants::{BodyMemory, Checker, Terms};
use super::local_ports::{LocalPorts, Outside};
use super::receiver::{Behaviour, Receiver};
use super::runtime::VirtualTime;
use super::watched_hub::WatchedHub;
use crate::config::{Credentials, DestinationConfig, ForwarderConfig, LimitsConfig, Protocol, SourceConfig};
use crate::forwarder::{Ended, Forwarder, ForwarderHandle};
use crate::loghub::{GroupSettings, Limits, Route, SplitAt};
use crate::model::ids::ShardId;
use crate::placement::Placement;
use crate::ports::{Dial, DialError, LogHub, Transport};
use crate::wire::sls::proto;

/// How a simulation went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// What was violated; nothing if all is well.
    pub violations: Vec<String>,
    /// The same for every run of the same plan.
    pub trace: u64,
    /// Logs produced.
    pub logs: usize,
    /// Messages that were read more than once.
    pub duplicates: u64,
    /// Gap records that were read.
    pub gaps: u64,
    /// Virtual time that it took until all was delivered and committed.
    pub took: Duration,
    /// Everything that happened, if it was asked for.
    pub story: Vec<String>,
}

/// Makes a client of SLS into another.
pub type MutateHub = Rc<dyn Fn(Rc<dyn LogHub>) -> Rc<dyn LogHub>>;
/// Makes a connection into another.
pub type MutateTransport = Rc<dyn Fn(Box<dyn Transport>) -> Box<dyn Transport>>;

/// Breaks a forwarder's settings.
pub type MutateConfig = Rc<dyn Fn(&mut ForwarderConfig)>;

/// Breaks something, to see that the checks notice it.
#[derive(Clone, Default)]
pub struct Mutation {
    /// Made of each client of SLS.
    pub log_hub: Option<MutateHub>,
    /// Made of each connection.
    pub transport: Option<MutateTransport>,
    /// Done to the settings of each forwarder, behind the checker's back.
    pub config: Option<MutateConfig>,
}

/// Runs simulations.
#[derive(Clone, Default)]
pub struct Simulation {
    mutation: Mutation,
    with_story: bool,
    log: Option<Logger>,
}

/// The consumer group of all forwarders.
const GROUP: &str = "group";
/// From the end of all faults, everything is delivered and committed within this time (I8): the longest pauses are a
/// minute (a fetcher that panicked again and again), and shards may have to change hands before and after them.
const RECOVERY: Duration = Duration::from_secs(300);
/// A forwarder that is told to stop ends within its `drain_timeout` and this.
const CLOSE: Duration = Duration::from_secs(15);
/// A forwarder asks for its Coordinator's clients first, one of them for heartbeats, then for those of its workers.
const CLIENTS_OF_COORDINATOR: usize = 2;
/// How often it is looked after what happens by itself.
const GLANCE: Duration = Duration::from_millis(200);

impl Simulation {
    /// Every forwarder gets broken ports.
    #[must_use]
    pub fn mutated(mut self, mutation: Mutation) -> Self {
        self.mutation = mutation;
        self
    }

    /// The report tells everything that happened.
    #[must_use]
    pub fn with_story(mut self) -> Self {
        self.with_story = true;
        self
    }

    /// Forwarders log to this.
    #[must_use]
    pub fn logging(mut self, log: Logger) -> Self {
        self.log = Some(log);
        self
    }

    /// Runs a plan to its end.
    ///
    /// # Panics
    /// If an actor panics without having been told to, or is left running.
    pub fn run(&self, plan: &Plan) -> Report {
        VirtualTime::default().expect_panics(PLANNED_PANIC).run(self.play(plan))
    }

    async fn play(&self, plan: &Plan) -> Report {
        let mut world = World::new(plan, self);
        world.follow(plan).await;
        let took = world.recover().await;
        world.end().await;
        let (logs, duplicates, gaps) = world.checker.totals();
        Report {
            violations: world.checker.violations(),
            trace: world.checker.trace(),
            logs,
            duplicates,
            gaps,
            took,
            story: world.checker.story(),
        }
    }
}

struct World {
    plan: Plan,
    mutation: Mutation,
    log: Option<Logger>,
    began: Instant,
    hub: InMemoryHub,
    receiver: Receiver,
    checker: Checker,
    rng: fastrand::Rng,
    sls_faults: Rc<RefCell<Vec<(Instant, SlsFault)>>>,
    receiver_heals_at: Option<Instant>,
    thief: Option<Instant>,
    dial_panics: Rc<Cell<u32>>,
    forwarders: Vec<Seat>,
}

/// The place of one forwarder, which may run, or not.
struct Seat {
    name: String,
    starts: u64,
    running: Option<Running>,
}

struct Running {
    handle: ForwarderHandle,
    /// The task set that stands for the process.
    process: JoinHandle<()>,
    memory: BodyMemory,
    stop_by: Option<Instant>,
}

impl World {
    fn new(plan: &Plan, simulation: &Simulation) -> Self {
        let settings = &plan.settings;
        let limits = Limits { retention: plan.retention, pull_bytes: plan.pull_bytes, ..Limits::default() };
        let hub = InMemoryHub::with_limits(plan.shards, limits);
        let receiver =
            Receiver::new(plan.seed, settings.confirmation, settings.confirm_after_connect, settings.timeout);
        let checker = Checker::new(Terms {
            group_timeout: Duration::from_secs(SourceConfig::group_timeout_for(settings.heartbeat_interval).into()),
            heartbeat_interval: settings.heartbeat_interval,
            logs_expire: plan.retention.is_some(),
            receiver_loses: plan.receiver_loses(),
        });
        if simulation.with_story {
            checker.keep_story();
        }
        let seen = checker.clone();
        receiver.watched_by(move |sighting, message| seen.sighted(sighting, message));
        let sls_faults: Rc<RefCell<Vec<(Instant, SlsFault)>>> = Rc::default();
        let faults = Rc::clone(&sls_faults);
        let mut rng = fastrand::Rng::with_seed(plan.seed ^ 0x5157);
        hub.on_call(move |consumer, operation| fault_of(&faults.borrow(), &mut rng, consumer, operation));
        let seat = |index| Seat { name: format!("consumer-{index}"), starts: 0, running: None };
        Self {
            plan: plan.clone(),
            mutation: simulation.mutation.clone(),
            log: simulation.log.clone(),
            began: Instant::now(),
            hub,
            receiver,
            checker,
            rng: fastrand::Rng::with_seed(plan.seed ^ 0xF011),
            sls_faults,
            receiver_heals_at: None,
            thief: None,
            dial_panics: Rc::default(),
            forwarders: (0..plan.forwarders).map(seat).collect(),
        }
    }

    /// Carries out the plan.
    async fn follow(&mut self, plan: &Plan) {
        for index in 0..plan.forwarders {
            self.start(index).await;
        }
        for step in &plan.steps {
            self.pass_until(self.began + step.at).await;
            self.checker.note(&format!("---- {:?}", step.what));
            self.apply(&step.what).await;
        }
        self.pass_until(self.began + plan.heals_at).await;
    }

    /// Lets time pass; looks after what has to happen meanwhile.
    async fn pass_until(&mut self, until: Instant) {
        loop {
            self.keep_thief_alive();
            self.note_forgotten();
            self.look_after_forwarders();
            let now = Instant::now();
            if self.receiver_heals_at.is_some_and(|at| now >= at) {
                self.receiver_heals_at = None;
                self.receiver.behave(Behaviour::healthy());
            }
            if now >= until {
                return;
            }
            sleep_until((now + GLANCE).min(until)).await;
        }
    }

    async fn apply(&mut self, what: &What) {
        let now = Instant::now();
        match what {
            What::Put { groups, logs, length } => self.put(*groups, *logs, *length),
            What::Sls(fault) => self.sls_faults.borrow_mut().push((now + fault.lasting, fault.clone())),
            What::Receiver(behaviour, lasting) => {
                self.receiver.behave(behaviour.clone());
                self.receiver_heals_at = Some(now + *lasting);
            }
            What::EndConnections(ending) => self.receiver.end_connections(*ending),
            What::Theft(lasting) => self.steal(now + *lasting),
            What::DeleteGroup => {
                self.checker.group_deleted();
                // There may be none yet.
                let _ = self.hub.with(|hub, now| hub.delete_group(InMemoryHub::AT, GROUP, now));
            }
            What::Split(pick) => {
                if let Some(shard) = self.writable(*pick) {
                    let _ = self.hub.with(|hub, now| hub.split_shard(InMemoryHub::AT, shard, SplitAt::Parts(2), now));
                }
            }
            What::Merge(pick) => {
                if let Some(shard) = self.writable(*pick) {
                    // The last one has no neighbour.
                    let _ = self.hub.with(|hub, now| hub.merge_shards(InMemoryHub::AT, shard, now));
                }
            }
            What::Stop(index) => self.stop(*index),
            What::Crash(index) => self.crash(*index),
            What::Start(index) => self.start(*index).await,
            What::PanicWhileDialing => self.dial_panics.set(self.dial_panics.get() + 1),
        }
    }

    // ---- SLS ---------------------------------------------------------------------------------------------------

    fn put(&mut self, groups: u32, logs: u32, length: usize) {
        for _ in 0..groups {
            let key = self.rng.u128(..);
            let (mut lengths, mut group) = (Vec::new(), proto::LogGroup::default());
            let first: usize = self.checker.totals().0;
            for index in 0..logs as usize {
                let length = self.rng.usize(1..=length);
                let (id, text) = self.checker.log_contents(first + index, length);
                lengths.push(length);
                let content = |key: &'static str, value: String| proto::Content {
                    key: Bytes::from_static(key.as_bytes()),
                    value: value.into(),
                };
                group.logs.push(proto::Log {
                    time: InMemoryHub::START_UNIX_S as u32,
                    contents: vec![content("id", id), content("text", text)],
                    time_ns: None,
                });
            }
            let bytes = Bytes::from(group.encode_to_vec());
            match self.hub.with(|hub, now| hub.put(InMemoryHub::AT, Route::Key(key), bytes, now)) {
                Ok((shard, cursor)) => self.checker.produced(shard, &cursor, &lengths),
                Err(refusal) => self.checker.violated(format!("the hub refuses a log group: {refusal:?}")),
            }
        }
    }

    fn writable(&self, pick: u32) -> Option<ShardId> {
        let shards = self.hub.with(|hub, now| hub.list_shards(InMemoryHub::AT, now)).ok()?;
        let writable: Vec<_> = shards.iter().filter(|shard| !shard.readonly).map(|shard| shard.shard).collect();
        // Not too many, so that a run stays short.
        (shards.len() < 12).then(|| writable[pick as usize % writable.len()])
    }

    /// The group is made anew with the same checkpoints, and somebody else is first to hold its shards.
    fn steal(&mut self, until: Instant) {
        self.hub.with(|hub, now| {
            let Ok(checkpoints) = hub.get_checkpoints(InMemoryHub::AT, GROUP, None, now) else { return };
            let Some((_, settings)) = groups(hub) else { return };
            let stolen = hub.delete_group(InMemoryHub::AT, GROUP, now).is_ok()
                && hub.create_group(InMemoryHub::AT, GROUP, settings, now).is_ok();
            for view in checkpoints.iter().filter(|view| stolen && !view.checkpoint.is_empty()) {
                let checkpoint = &view.checkpoint;
                // A shard may have gone meanwhile.
                let _ = hub.update_checkpoint(InMemoryHub::AT, GROUP, "thief", view.shard, checkpoint, true, now);
            }
        });
        self.thief = Some(until);
        self.keep_thief_alive();
    }

    fn keep_thief_alive(&mut self) {
        let Some(until) = self.thief else { return };
        if Instant::now() >= until {
            self.thief = None;
            return;
        }
        self.hub.with(|hub, now| {
            let held: Vec<ShardId> = hub
                .logstore_state(InMemoryHub::AT)
                .ok()
                .and_then(|state| state.groups.get(GROUP).cloned())
                .map(|group| {
                    group.shards.iter().filter(|s| s.owner.as_deref() == Some("thief")).map(|s| s.shard).collect()
                })
                .unwrap_or_default();
            // The group may have been deleted.
            let _ = hub.heartbeat(InMemoryHub::AT, GROUP, "thief", &held, now);
        });
    }

    /// Tells the checker what SLS has forgotten.
    fn note_forgotten(&self) {
        if self.plan.retention.is_none() {
            return;
        }
        let known = self.checker.shards();
        let state = self
            .hub
            .with(|hub, now| hub.list_shards(InMemoryHub::AT, now).and_then(|_| hub.logstore_state(InMemoryHub::AT)));
        let Ok(state) = state else { return };
        for shard in known {
            match state.shards.iter().find(|state| state.shard == shard) {
                Some(state) => self.checker.forgotten(shard, &state.begin_cursor),
                None => self.checker.shard_gone(shard),
            }
        }
    }

    /// Whether the group's checkpoints are at the end of every shard that has one to be committed.
    fn is_committed(&self) -> bool {
        let Ok(state) = self.hub.with(|hub, _| hub.logstore_state(InMemoryHub::AT)) else { return false };
        let Some(group) = state.groups.get(GROUP) else { return false };
        state.shards.iter().all(|shard| {
            let committed = group.shards.iter().find(|s| s.shard == shard.shard).is_some_and(|s| s.at_end);
            let committed =
                committed || (!shard.readonly && self.checker.was_committed(shard.shard, &shard.end_cursor));
            let is_empty = shard.begin_cursor == shard.end_cursor;
            committed || (is_empty && !shard.readonly)
        })
    }

    // ---- forwarders --------------------------------------------------------------------------------------------

    async fn start(&mut self, index: usize) {
        if self.forwarders[index].running.is_some() {
            return;
        }
        let memory = BodyMemory::default();
        let seat = &mut self.forwarders[index];
        seat.starts += 1;
        let (seed, name) = (self.plan.seed ^ (index as u64) << 32 ^ seat.starts << 40, seat.name.clone());
        let mut config = config(&self.plan, &name);
        if let Some(mutate) = &self.mutation.config {
            mutate(&mut config);
        }
        let ports = LocalPorts::new(seed, self.outside(&name, &memory));
        let workers = self.plan.settings.workers;
        let mut builder = Forwarder::builder(config).outside(ports, Placement::Here { workers });
        if let Some(log) = &self.log {
            builder = builder.logger(log.clone());
        }
        let process = LocalSet::new();
        match process.run_until(async { builder.start() }).await {
            Ok(handle) => {
                let process = tokio::task::spawn_local(process);
                self.forwarders[index].running = Some(Running { handle, process, memory, stop_by: None });
            }
            Err(error) => self.checker.violated(format!("{name} does not start: {error}")),
        }
    }

    fn outside(&self, name: &str, memory: &BodyMemory) -> Outside {
        let (hub, checker, memory) = (self.hub.clone(), self.checker.clone(), memory.clone());
        let (name, mutation) = (name.to_owned(), self.mutation.clone());
        let clients = Cell::new(0);
        let log_hub = move || {
            let client = hub.client(GROUP, &name);
            let watched = WatchedHub::new(client, &name, memory.clone(), checker.clone());
            let number = clients.get();
            clients.set(number + 1);
            let of_coordinator = number < CLIENTS_OF_COORDINATOR;
            let watched: Rc<dyn LogHub> = Rc::new(if of_coordinator { watched.of_coordinator() } else { watched });
            match &mutation.log_hub {
                Some(mutate) => mutate(watched),
                None => watched,
            }
        };
        let (receiver, panics, mutate) =
            (self.receiver.clone(), Rc::clone(&self.dial_panics), self.mutation.transport.clone());
        let dialer = move |_| {
            let dialer: Rc<dyn Dial> = Rc::new(TroubledDialer {
                inner: receiver.dialer(),
                panics: Rc::clone(&panics),
                mutate: mutate.clone(),
            });
            dialer
        };
        let clock = self.hub.clone();
        Outside {
            log_hub: Box::new(log_hub),
            dialer: Box::new(dialer),
            unix_seconds: Box::new(move || clock.now().seconds()),
            level: self.plan.settings.confirmation,
        }
    }

    fn stop(&mut self, index: usize) {
        let Some(running) = &mut self.forwarders[index].running else { return };
        running.handle.begin_stop();
        let stop_by = Instant::now() + self.plan.settings.drain_timeout + CLOSE;
        running.stop_by.get_or_insert(stop_by);
    }

    fn crash(&mut self, index: usize) {
        let Some(running) = self.forwarders[index].running.take() else { return };
        running.process.abort();
        self.ended(index, &running, None);
    }

    /// Notices forwarders that have ended, and those that should have.
    fn look_after_forwarders(&mut self) {
        for index in 0..self.forwarders.len() {
            let Some(running) = &mut self.forwarders[index].running else { continue };
            if let Some(ended) = now_or_never(running.handle.ended()) {
                let Some(running) = self.forwarders[index].running.take() else { continue };
                self.ended(index, &running, Some(ended));
            } else if running.stop_by.is_some_and(|by| Instant::now() > by) {
                running.stop_by = None;
                let name = &self.forwarders[index].name;
                self.checker.violated(format!("{name} was told to stop and goes on"));
            }
        }
    }

    fn ended(&self, index: usize, running: &Running, how: Option<Ended>) {
        let name = &self.forwarders[index].name;
        self.checker.note(&format!("{name} has ended: {how:?}"));
        self.checker.check_counters(&running.handle.counters(), running.memory.bodies());
        let limits = config(&self.plan, name).limits;
        self.checker.check_memory(&running.memory, limits.bytes_in_flight / 2);
        self.checker.consumer_ended(name);
    }

    // ---- the end -----------------------------------------------------------------------------------------------

    /// All is well from now on: everything has to be delivered and committed. Answers how long that took.
    async fn recover(&mut self) -> Duration {
        self.checker.note("---- all is well");
        self.sls_faults.borrow_mut().clear();
        self.receiver.behave(Behaviour::healthy());
        self.receiver_heals_at = None;
        self.thief = None;
        self.dial_panics.set(0);
        let began = Instant::now();
        while began.elapsed() < RECOVERY {
            self.pass_until(Instant::now() + GLANCE).await;
            for index in 0..self.forwarders.len() {
                self.start(index).await;
            }
            if self.checker.is_complete() && self.is_committed() {
                return began.elapsed();
            }
        }
        self.checker.check_complete();
        if !self.is_committed() {
            let group = self.hub.with(|hub, _| hub.logstore_state(InMemoryHub::AT));
            self.checker.violated(format!("I8: checkpoints are not at the end although all is well: {group:?}"));
        }
        began.elapsed()
    }

    /// Everybody stops, politely.
    async fn end(&mut self) {
        self.checker.check_complete();
        for index in 0..self.forwarders.len() {
            self.stop(index);
        }
        let until = Instant::now() + self.plan.settings.drain_timeout + 2 * CLOSE;
        while self.forwarders.iter().any(|seat| seat.running.is_some()) && Instant::now() < until {
            self.pass_until(Instant::now() + GLANCE).await;
        }
        for index in 0..self.forwarders.len() {
            self.crash(index);
        }
        self.receiver.end_connections(super::receiver::Ending::Fin);
        for what in self.receiver.broken() {
            self.checker.violated(format!("the receiver cannot read a stream: {what}"));
        }
        // Requests that nobody waits for any more run to their end.
        sleep(Duration::from_secs(1)).await;
    }
}

fn groups(hub: &crate::loghub::Hub) -> Option<(String, GroupSettings)> {
    hub.list_groups(InMemoryHub::AT).ok()?.into_iter().find(|(name, _)| name == GROUP)
}

fn fault_of(faults: &[(Instant, SlsFault)], rng: &mut fastrand::Rng, consumer: &str, operation: &Operation) -> Fault {
    let now = Instant::now();
    let concerns = |fault: &SlsFault| {
        fault.calls.concerns(operation)
            && fault.forwarder.is_none_or(|index| consumer.strip_prefix("consumer-") == Some(&index.to_string()))
    };
    let active = faults.iter().filter(|(until, fault)| now < *until && concerns(fault));
    for (_, fault) in active {
        if rng.u8(..100) < fault.percent {
            return fault.how.to_fault();
        }
    }
    Fault::default()
}

/// The settings of a forwarder under a plan.
pub fn config(plan: &Plan, consumer: &str) -> ForwarderConfig {
    let settings = &plan.settings;
    let mut source = SourceConfig::new(
        "http://127.0.0.1:1",
        InMemoryHub::PROJECT,
        InMemoryHub::LOGSTORE,
        GROUP,
        Credentials::new("id", "secret"),
    )
    .expect("an endpoint");
    source.consumer_name = consumer.to_owned();
    source.heartbeat_interval = settings.heartbeat_interval;
    source.group_timeout_s = SourceConfig::group_timeout_for(settings.heartbeat_interval);
    source.commit_interval = settings.commit_interval;
    source.drain_timeout = settings.drain_timeout;
    source.max_log_groups = settings.max_log_groups;
    source.in_order = settings.in_order;
    source.cursor_start_time = settings.start;
    let mut destination = DestinationConfig::new("127.0.0.1", Protocol::Tcp);
    destination.hostname = "simulated".to_owned();
    destination.confirmation = settings.confirmation;
    destination.confirm_after_connect = settings.confirm_after_connect;
    destination.timeout = settings.timeout;
    destination.connections = settings.connections;
    destination.max_messages_per_second = settings.messages_per_second;
    destination.reconnect = (Duration::from_millis(50), Duration::from_secs(5));
    let mut config = ForwarderConfig::new(source, destination);
    config.limits = LimitsConfig {
        workers: settings.workers,
        bytes_in_flight: settings.workers * (16 << 20),
        piece_bytes: 64 << 10,
    };
    config.mailbox.formatter = settings.formatter_mailbox;
    config.mailbox.connection = settings.connection_mailbox;
    config
}

fn now_or_never<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = std::pin::pin!(future);
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    match future.as_mut().poll(&mut cx) {
        std::task::Poll::Ready(value) => Some(value),
        std::task::Poll::Pending => None,
    }
}

/// A dialer that panics when the plan says so, and whose connections may be mutated.
struct TroubledDialer {
    inner: Rc<dyn Dial>,
    panics: Rc<Cell<u32>>,
    mutate: Option<MutateTransport>,
}

impl Dial for TroubledDialer {
    fn dial(&self) -> futures_util::future::LocalBoxFuture<'static, Result<Box<dyn Transport>, DialError>> {
        if let Some(left) = self.panics.get().checked_sub(1) {
            self.panics.set(left);
            panic!("{PLANNED_PANIC} while dialing");
        }
        let (dialing, mutate) = (self.inner.dial(), self.mutate.clone());
        Box::pin(async move {
            let transport = dialing.await?;
            Ok(match mutate {
                Some(mutate) => mutate(transport),
                None => transport,
            })
        })
    }
}
