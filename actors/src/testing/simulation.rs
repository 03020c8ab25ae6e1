//! A whole group of forwarders, SLS and a receiver under a plan of faults, in virtual time on one thread.

pub mod fleet;
mod forwarders;
mod traffic;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use actix::Recipient;
use bytes::Bytes;
use prost::Message as _;
use slog::Logger;
use tokio::time::{Instant, sleep, sleep_until};

use super::dead_letter::{InMemoryDeadLetter, KeepFault};
use super::faults::{PLANNED_PANIC, Plan, SlsFault, What};
use super::hub::{Fault, InMemoryHub, Operation};
use super::invariants::{Checker, Terms};
use super::receiver::{Behaviour, Receiver};
use super::runtime::VirtualTime;
use super::sabotage::{Panics, Thief, settings_of};
use crate::loghub::{GroupSettings, Limits, Route, SplitAt};
use crate::messages::SendBatch;
use crate::model::ids::ShardId;
use crate::ports::{DeadLetter, Dial, LogHub};
use crate::wire::sls::proto;

use forwarders::Seat;
pub use forwarders::config;

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

/// Makes a client of SLS, of the consumer of this name, into another.
pub type MutateHub = Rc<dyn Fn(Rc<dyn LogHub>, &str) -> Rc<dyn LogHub>>;
/// Makes a way to the receiver into another.
pub type MutateDialer = Rc<dyn Fn(Rc<dyn Dial>) -> Rc<dyn Dial>>;

/// Makes a dead letter into another.
pub type MutateDeadLetter = Rc<dyn Fn(Rc<dyn DeadLetter>) -> Rc<dyn DeadLetter>>;

/// Makes an output of an application's own that sends on what it gets by a connection.
pub type MakeOutput = Rc<dyn Fn(Recipient<SendBatch>) -> Recipient<SendBatch>>;

/// Breaks something, to see that the checks notice it.
#[derive(Clone, Default)]
pub struct Mutation {
    /// Made of each client of SLS.
    pub log_hub: Option<MutateHub>,
    /// Made of each way to the receiver.
    pub dialer: Option<MutateDialer>,
    /// Made of each forwarder's dead letter.
    pub dead_letter: Option<MutateDeadLetter>,
    /// Takes pieces in place of a forwarder's own connections.
    pub output: Option<MakeOutput>,
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
    /// Of all forwarders, as processes of one machine share it.
    dead_letter: InMemoryDeadLetter,
    dead_letter_heals_at: Option<Instant>,
    checker: Checker,
    rng: fastrand::Rng,
    sls_faults: Rc<RefCell<Vec<(Instant, SlsFault)>>>,
    receiver_heals_at: Option<Instant>,
    thief: Thief,
    panics: Panics,
    clock_jump_s: Rc<Cell<i64>>,
    forwarders: Vec<Seat>,
}

impl World {
    fn new(plan: &Plan, simulation: &Simulation) -> Self {
        let settings = &plan.settings;
        let default = Limits::default();
        let limits = Limits {
            retention: plan.retention,
            pull_bytes: plan.pull_bytes,
            shards_per_logstore: default.shards_per_logstore.max(2 * plan.shards as usize),
            ..default
        };
        let hub = InMemoryHub::with_limits(plan.shards, limits);
        hub.compress_with(plan.compression);
        let receiver =
            Receiver::new(plan.seed, settings.confirmation, settings.confirm_after_connect, settings.timeout);
        if let Some((timeout_s, order)) = plan.existing_group {
            let settings = GroupSettings { timeout_s, order };
            let created = hub.with(|hub, now| hub.create_group(InMemoryHub::AT, GROUP, settings, now));
            created.expect("a group in a new logstore");
        }
        let group = hub.clone();
        let group_timeout = move || {
            let settings = group.with(|hub, _| settings_of(hub, GROUP))?;
            Some(Duration::from_secs(settings.timeout_s.into()))
        };
        receiver.window(settings.relp_window);
        receiver.behave(Behaviour { longest: plan.longest, ..Behaviour::healthy() });
        let checker = Checker::new(Terms {
            group_timeout: Box::new(group_timeout),
            heartbeat_interval: settings.heartbeat_interval,
            longest: plan.longest,
            receiver_misleads: plan.receiver_misleads(),
            logs_expire: plan.retention.is_some(),
            receiver_loses: plan.receiver_loses(),
        });
        if simulation.with_story {
            checker.keep_story();
        }
        let seen = checker.clone();
        receiver.watched_by(move |sighting, connection, message| seen.sighted(sighting, connection, message));
        let (dead_letter, seen) = (InMemoryDeadLetter::default(), checker.clone());
        dead_letter.watched_by(move |kept| seen.kept(kept));
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
            dead_letter,
            dead_letter_heals_at: None,
            checker,
            rng: fastrand::Rng::with_seed(plan.seed ^ 0xF011),
            sls_faults,
            receiver_heals_at: None,
            thief: Thief::of(GROUP),
            panics: Panics::default(),
            clock_jump_s: Rc::default(),
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
            self.thief.keep_alive(&self.hub);
            self.note_forgotten();
            self.look_after_forwarders();
            let now = Instant::now();
            if self.receiver_heals_at.is_some_and(|at| now >= at) {
                self.receiver_heals_at = None;
                self.receiver.behave(Behaviour { longest: self.plan.longest, ..Behaviour::healthy() });
            }
            if self.dead_letter_heals_at.is_some_and(|at| now >= at) {
                self.dead_letter_heals_at = None;
                self.dead_letter.fail_all(None);
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
                self.receiver.behave(Behaviour { longest: self.plan.longest, ..behaviour.clone() });
                self.receiver_heals_at = Some(now + *lasting);
            }
            What::EndConnections(ending) => self.receiver.end_connections(*ending),
            What::Theft(moment, lasting) => self.thief.wait_for(*moment, *lasting, &self.hub),
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
            What::StopDuringStart(index, after) => {
                self.crash(*index);
                self.start(*index).await;
                self.pass_until(now + *after).await;
                self.stop(*index);
            }
            What::Freeze(index, lasting) => {
                if let Some(running) = &self.forwarders[*index].running {
                    running.frozen.freeze_until(now + *lasting);
                    self.checker.stands_still(&self.forwarders[*index].name, now + *lasting);
                }
            }
            What::ClockJump(seconds) => self.clock_jump_s.set(self.clock_jump_s.get() + seconds),
            What::Panic(place) => self.panics.add(*place),
            What::DeadLetter(KeepFault::Panic, _) => self.dead_letter.fail_next(KeepFault::Panic),
            What::DeadLetter(fault, lasting) => {
                self.dead_letter.fail_all(Some(fault.clone()));
                self.dead_letter_heals_at = Some(now + *lasting);
            }
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
            let of_group = group.shards.binary_search_by_key(&shard.shard, |of_group| of_group.shard);
            let committed = of_group.is_ok_and(|at| group.shards[at].at_end);
            let committed =
                committed || (!shard.readonly && self.checker.was_committed(shard.shard, &shard.end_cursor));
            let is_empty = shard.begin_cursor == shard.end_cursor;
            committed || (is_empty && !shard.readonly)
        })
    }

    // ---- the end -----------------------------------------------------------------------------------------------

    /// All is well from now on: everything has to be delivered and committed. Answers how long that took.
    async fn recover(&mut self) -> Duration {
        self.checker.note("---- all is well");
        self.sls_faults.borrow_mut().clear();
        self.receiver.behave(Behaviour { longest: self.plan.longest, ..Behaviour::healthy() });
        self.receiver_heals_at = None;
        self.thief.leave();
        self.panics.clear();
        self.dead_letter.heal();
        let began = Instant::now();
        // One after another, each within a minute (rule C4).
        let longest = RECOVERY + self.checker.refusable() as u32 * Duration::from_secs(60);
        while began.elapsed() < longest {
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
