//! The forwarders of a simulation: processes that are started, stopped, killed and looked after.

use std::cell::Cell;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::Addr;
use slog::{Logger, o};
use tokio::task::{JoinHandle, LocalSet};
use tokio::time::Instant;

use super::{CLOSE, GROUP, World};
use crate::config::{
    Confirmation, Credentials, DestinationConfig, ForwarderConfig, LimitsConfig, Protocol, SourceConfig,
};
use crate::connection::{ConnectionParts, GapFacts, SyslogConnection};
use crate::forwarder::{Ended, Forwarder, ForwarderHandle};
use crate::messages::CloseConnection;
use crate::placement::Placement;
use crate::ports::{DeadLetter, Dial, LogHub};
use crate::testing::body_memory::BodyMemory;
use crate::testing::faults::{Place, Plan};
use crate::testing::hub::InMemoryHub;
use crate::testing::layers::Layered;
use crate::testing::local_ports::{LocalPorts, Outside};
use crate::testing::probe::probe;
use crate::testing::sabotage::{Burgled, Frozen, Process, TroubledDialer};
use crate::testing::watched_hub::WatchedHub;
use crate::watch::{ActorName, ExitGuard};

/// The place of one forwarder, which may run, or not.
pub(super) struct Seat {
    pub(super) name: String,
    pub(super) starts: u64,
    pub(super) running: Option<Running>,
}

pub(super) struct Running {
    pub(super) handle: ForwarderHandle,
    /// The task set that stands for the process.
    pub(super) process: JoinHandle<()>,
    pub(super) frozen: Frozen,
    pub(super) memory: BodyMemory,
    pub(super) stop_by: Option<Instant>,
}
/// A forwarder asks for its Coordinator's clients first, one of them for heartbeats, then for those of its workers.
const CLIENTS_OF_COORDINATOR: usize = 2;
/// Largest piece of several messages.
const PIECE_BYTES: usize = 64 << 10;

impl World {
    pub(super) async fn start(&mut self, index: usize) {
        if self.forwarders[index].running.is_some() {
            return;
        }
        let memory = BodyMemory::default();
        let seat = &mut self.forwarders[index];
        seat.starts += 1;
        let (seed, name) = (self.plan.seed ^ (index as u64) << 32 ^ seat.starts << 40, seat.name.clone());
        let config = config(&self.plan, &name);
        let outside = self.outside(&name, &memory);
        let output = self.mutation.output.clone().map(|make| {
            self.checker.receiver_stood_open(&name);
            (make, (outside.dialer)(Arc::default()), config.clone())
        });
        let workers = self.plan.settings.workers;
        let mut builder =
            Forwarder::builder(config).outside(LocalPorts::new(seed, outside), Placement::Here { workers });
        if let Some(log) = &self.log {
            builder = builder.logger(log.clone());
        }
        let tasks = LocalSet::new();
        let starting = async {
            let Some((make, dial, config)) = output else { return builder.start() };
            let connection = connection_of_output(&config.destination, dial, seed);
            let handle = builder.deliver_to(make(connection.clone().recipient())).start()?;
            let until_ended = handle.clone();
            tokio::task::spawn_local(async move {
                drop(until_ended.ended().await);
                connection.do_send(CloseConnection { deadline: Instant::now() + CLOSE });
            });
            Ok(handle)
        };
        match tasks.run_until(starting).await {
            Ok(handle) => {
                let frozen = Frozen::default();
                let process = tokio::task::spawn_local(Process::new(tasks, frozen.clone()));
                self.forwarders[index].running = Some(Running { handle, process, frozen, memory, stop_by: None });
            }
            Err(error) => self.checker.violated(format!("{name} does not start: {error}")),
        }
    }

    fn outside(&self, name: &str, memory: &BodyMemory) -> Outside {
        let (hub, checker, memory) = (self.hub.clone(), self.checker.clone(), memory.clone());
        let (consumer, thief, mutation) = (Rc::<str>::from(name), self.thief.clone(), self.mutation.clone());
        let name = Rc::clone(&consumer);
        let (clients, mutated_hub) = (Cell::new(0), mutation.log_hub.clone());
        let log_hub = move || {
            let client = Burgled { below: hub.client(GROUP, &name), hub: hub.clone(), thief: thief.clone() };
            let watched = WatchedHub::new(Rc::new(Layered(client)), &name, memory.clone(), checker.clone());
            let number = clients.get();
            clients.set(number + 1);
            let of_coordinator = number < CLIENTS_OF_COORDINATOR;
            let watched = Layered(if of_coordinator { watched.of_coordinator() } else { watched });
            let watched: Rc<dyn LogHub> = Rc::new(watched);
            match &mutated_hub {
                Some(mutate) => mutate(watched, &name),
                None => watched,
            }
        };
        let (receiver, panics, checker) = (self.receiver.clone(), self.panics.clone(), self.checker.clone());
        let settings = self.plan.settings;
        let framing = config(&self.plan, &consumer).destination.framing;
        let dialer = move |_| {
            panics.come_to(Place::Preparing);
            let dialer: Rc<dyn Dial> = Rc::new(TroubledDialer {
                below: receiver.dialer(),
                panics: panics.clone(),
                checker: checker.clone(),
                consumer: Rc::clone(&consumer),
                ready_after: match settings.confirmation {
                    // A session of RELP counts from its `open` on.
                    Confirmation::AppAcked => Duration::ZERO,
                    _ => settings.confirm_after_connect,
                },
                piece_bytes: PIECE_BYTES,
                framing,
            });
            match &mutation.dialer {
                Some(mutate) => mutate(dialer),
                None => dialer,
            }
        };
        let (clock, jump_s) = (self.hub.clone(), Rc::clone(&self.clock_jump_s));
        let dead_letter: Rc<dyn DeadLetter> = Rc::new(self.dead_letter.clone());
        let dead_letter = match &self.mutation.dead_letter {
            Some(mutate) => mutate(dead_letter),
            None => dead_letter,
        };
        Outside {
            log_hub: Box::new(log_hub),
            dialer: Box::new(dialer),
            dead_letter: Some(dead_letter),
            unix_seconds: Box::new(move || clock.now().seconds() + jump_s.get()),
            level: self.plan.settings.confirmation,
        }
    }

    pub(super) fn stop(&mut self, index: usize) {
        let Some(running) = &mut self.forwarders[index].running else { return };
        running.handle.begin_stop();
        let stop_by = Instant::now() + self.plan.settings.drain_timeout + CLOSE;
        running.stop_by.get_or_insert(stop_by);
    }

    pub(super) fn crash(&mut self, index: usize) {
        let Some(running) = self.forwarders[index].running.take() else { return };
        running.process.abort();
        self.ended(index, &running, None);
    }

    /// Notices forwarders that have ended, and those that should have.
    pub(super) fn look_after_forwarders(&mut self) {
        let stop_limit = self.plan.settings.drain_timeout + CLOSE;
        for index in 0..self.forwarders.len() {
            let Some(running) = &mut self.forwarders[index].running else { continue };
            if let Some(ended) = now_or_never(running.handle.ended()) {
                let Some(running) = self.forwarders[index].running.take() else { continue };
                self.ended(index, &running, Some(ended));
            } else if running.stop_by.is_some_and(|by| {
                let thawed = running.frozen.until().map(|until| until + stop_limit);
                Instant::now() > thawed.map_or(by, |thawed| thawed.max(by))
            }) {
                running.stop_by = None;
                let name = &self.forwarders[index].name;
                self.checker.violated(format!("{name} was told to stop and goes on"));
            }
        }
    }

    fn ended(&self, index: usize, running: &Running, how: Option<Ended>) {
        let name = &self.forwarders[index].name;
        self.checker.note(&format!("{name} has ended: {how:?}"));
        // Nothing took a shard away, so each ticket has had its fetcher to come home to.
        let kept_all = matches!(how, Some(Ok(_))) && self.plan.is_calm();
        self.checker.check_counters(&running.handle.counters(), kept_all);
        let limits = config(&self.plan, name).limits;
        self.checker.check_memory(&running.memory, limits.bytes_in_flight / 2);
        self.checker.consumer_ended(name);
    }
}

/// The connection that an application's own output may use; nobody looks after it.
fn connection_of_output(config: &DestinationConfig, dial: Rc<dyn Dial>, seed: u64) -> Addr<SyslogConnection> {
    let (receiver_changed, _) = probe();
    let (watcher, _) = probe();
    let parts = ConnectionParts {
        worker: 0,
        index: 0,
        dial,
        level: config.confirmation,
        mailbox: 1 << 20,
        pace: None,
        gap_facts: GapFacts {
            project: InMemoryHub::PROJECT.to_owned(),
            logstore: InMemoryHub::LOGSTORE.to_owned(),
            unix_seconds: Rc::new(|| InMemoryHub::START_UNIX_S),
        },
        receiver_changed,
        counters: Arc::default(),
        logger: Logger::root(slog::Discard, o!()),
        seed,
        guard: ExitGuard::new(ActorName::SyslogConnection { worker: 0, index: 0 }, watcher),
    };
    SyslogConnection::new(config, parts).launch()
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
    let protocol = if settings.confirmation == Confirmation::AppAcked { Protocol::Relp } else { Protocol::Tcp };
    let mut destination = DestinationConfig::new("127.0.0.1", protocol);
    destination.relp_window = settings.relp_window;
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
        piece_bytes: PIECE_BYTES,
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
