//! `demo --chaos`: the same logs on the same way, RELP inside TLS, while everything around the forwarder breaks and its
//! own actors panic. At its end stands the same proof.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fastrand::Rng;
use slog::Logger;
use sls_syslog_actors::config::ForwarderConfig;
use sls_syslog_actors::counters::CountersSnapshot;
use sls_syslog_actors::error::ForwarderError;
use sls_syslog_actors::forwarder::{Ended, Forwarder, ForwarderHandle};
use sls_syslog_actors::io::system_ports::SystemPorts;
use sls_syslog_actors::loghub::SplitAt;
use sls_syslog_actors::placement::Placement;

use super::outside::{self, Connections, DemoPorts, Traps, Victim};
use super::proof::Source;
use super::view::View;
use super::{Judge, serve_receiver, verdict};
use crate::loghub::fault::{FaultArg, FaultKind};
use crate::loghub::serve as loghub;
use crate::receiver::serve as receiver;

/// What is made to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Cut,
    Kill,
    Steal,
    Split,
    Spoil,
    Panic,
}

impl Kind {
    const ALL: [Self; 6] = [Self::Cut, Self::Kill, Self::Steal, Self::Split, Self::Spoil, Self::Panic];

    fn name(self) -> &'static str {
        match self {
            Self::Cut => "connections cut",
            Self::Kill => "receivers killed",
            Self::Steal => "leases stolen",
            Self::Split => "shards split",
            Self::Spoil => "answers spoilt",
            Self::Panic => "actors panicked",
        }
    }

    /// The word for one of them, in the lines that tell what happens.
    fn word(self) -> &'static str {
        match self {
            Self::Cut => "cut",
            Self::Kill => "killed",
            Self::Steal => "stolen",
            Self::Split => "split",
            Self::Spoil => "spoilt",
            Self::Panic => "panic",
        }
    }
}

/// A step of the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Cut,
    Kill,
    Steal,
    Split,
    Spoil(FaultKind),
    Panic(Victim),
}

/// Pause between two faults, in milliseconds.
const PAUSE: std::ops::Range<u64> = 300..900;
/// How long a killed receiver is away, in milliseconds.
const AWAY: std::ops::Range<u64> = 200..1500;
/// How long a fault may take to happen, once it was prepared.
const PATIENCE: Duration = Duration::from_secs(10);
/// Time between two questions to the forwarder.
const LOOK: Duration = Duration::from_millis(200);
/// Time between two lines of how it goes.
const LINE: Duration = Duration::from_secs(2);
/// Answers of LogHub that are spoilt.
const SPOILT: [FaultKind; 6] = [
    FaultKind::CutBody,
    FaultKind::CorruptLz4,
    FaultKind::WrongCount,
    FaultKind::Busy,
    FaultKind::HeartbeatBusy,
    FaultKind::CommitBusy,
];
/// Who takes leases away, and is never heard of again.
pub(super) const THIEF: &str = "thief";

/// What was done, and what it took to stand it.
#[derive(Debug, Default)]
pub(super) struct Tally {
    seed: u64,
    faults: BTreeMap<Kind, u64>,
    /// By the actor's name.
    panics: Vec<(&'static str, u64)>,
    /// Of all forwarders, one after the other.
    pub(super) totals: Totals,
}

/// Counters of several forwarders together.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Totals {
    pub(super) commits: u64,
    pub(super) raw_bytes: u64,
    resent: u64,
    pulled_again: u64,
    cut: u64,
    panics: u64,
    restarts: u64,
}

impl Totals {
    fn add(&mut self, counters: &CountersSnapshot) {
        self.commits += counters.commits;
        self.raw_bytes += counters.raw_bytes;
        self.resent += counters.messages_resent;
        self.pulled_again += counters.batches_failed;
        self.cut += counters.connections_cut;
        self.panics += counters.panics;
    }
}

impl Tally {
    /// Whether every kind of fault happened, and every actor panicked: otherwise nothing was shown.
    pub(super) fn is_complete(&self) -> bool {
        Kind::ALL.iter().all(|kind| self.faults.contains_key(kind)) && self.panics.iter().all(|(_, count)| *count > 0)
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "faults (--seed {})", self.seed)?;
        for kind in Kind::ALL {
            writeln!(f, "  {:<18} {:>7}", kind.name(), self.faults.get(&kind).copied().unwrap_or(0))?;
        }
        for (name, count) in &self.panics {
            writeln!(f, "    {name:<16} {count:>7}")?;
        }
        let totals = &self.totals;
        writeln!(f, "what they cost")?;
        writeln!(f, "  messages resent  {:>9}  on another connection, after a cut", totals.resent)?;
        writeln!(f, "  batches repeated {:>9}  pulled and rendered once more", totals.pulled_again)?;
        writeln!(f, "  connections lost {:>9}", totals.cut)?;
        writeln!(f, "  panics recovered {:>9}  in place", totals.panics)?;
        writeln!(f, "  forwarders begun {:>9}  after the panic of a Coordinator", totals.restarts)
    }
}

/// All that takes part.
pub(super) struct Stage<'a> {
    hub: &'a loghub::Running,
    source: &'a Source,
    config: ForwarderConfig,
    log: Logger,
    siem: Siem<'a>,
    traps: Arc<Traps>,
    connections: Arc<Connections>,
    view: &'a View,
    forwarder: ForwarderHandle,
    random: Rng,
    begin: Instant,
    deadline: Instant,
    next_look: Instant,
    next_line: Instant,
    tally: Tally,
}

/// A receiver that may be away.
struct Siem<'a> {
    address: SocketAddr,
    certs: &'a Path,
    judge: Judge,
    running: Option<receiver::Running>,
    back_at: Instant,
}

impl Siem<'_> {
    /// Comes back when it is time to, on the same port and with the same certificate.
    fn look_after(&mut self) -> Result<(), String> {
        if self.running.is_none() && Instant::now() >= self.back_at {
            // Somebody else may have the port for a moment: as the near end of a connection.
            self.running = serve_receiver(self.certs, self.judge.clone(), self.address).ok();
        }
        Ok(())
    }
}

impl<'a> Stage<'a> {
    /// Takes over a receiver that runs, and starts the first forwarder.
    #[expect(clippy::too_many_arguments, reason = "all that takes part")]
    pub(super) fn begin(
        seed: u64,
        hub: &'a loghub::Running,
        source: &'a Source,
        siem: receiver::Running,
        certs: &'a Path,
        judge: Judge,
        connections: Arc<Connections>,
        mut config: ForwarderConfig,
        log: &Logger,
        view: &'a View,
        deadline: Instant,
    ) -> Result<Self, String> {
        outside::expect_planned_panics();
        // Short enough that what a thief or a dead forwarder holds is free again while one watches.
        config.source.heartbeat_interval = Duration::from_millis(500);
        config.source.group_timeout_s = 2;
        config.destination.reconnect = (Duration::from_millis(50), Duration::from_secs(1));
        // While one is being replaced, the other goes on.
        config.limits.workers = 2;
        let traps = Arc::new(Traps::default());
        let log = outside::log(log.clone(), Arc::clone(&traps));
        let begin = Instant::now();
        let siem = Siem { address: siem.address(), certs, judge, running: Some(siem), back_at: begin };
        let forwarder = start(&mut config, &traps, &connections, &log)?;
        Ok(Self {
            hub,
            source,
            config,
            log,
            siem,
            traps,
            connections,
            view,
            forwarder,
            random: Rng::with_seed(seed),
            begin,
            deadline,
            next_look: begin,
            next_line: begin,
            tally: Tally { seed, ..Tally::default() },
        })
    }

    /// Carries out the plan, one fault after the other.
    pub(super) async fn play(&mut self) -> Result<(), String> {
        // Nothing can be taken from somebody who has nothing.
        self.wait_for(Self::is_delivering).await?;
        for step in plan(&mut self.random) {
            let pause = Duration::from_millis(self.random.u64(PAUSE));
            self.pass(pause).await?;
            if Instant::now() >= self.deadline {
                return Ok(());
            }
            self.make(step).await?;
        }
        Ok(())
    }

    /// Waits until so many logs are made; whether it came to that before the deadline.
    pub(super) async fn until_produced(&mut self, logs: u64) -> Result<bool, String> {
        while self.source.produced() < logs {
            if Instant::now() >= self.deadline {
                return Ok(false);
            }
            self.glance().await?;
        }
        Ok(true)
    }

    /// Waits until all that was made is delivered and committed; whether it came to that before the deadline.
    pub(super) async fn until_delivered(&mut self) -> Result<bool, String> {
        while verdict(&self.siem.judge.checker).unique < self.source.produced() || !self.source.checkpoints_at_end() {
            if Instant::now() >= self.deadline {
                return Ok(false);
            }
            self.glance().await?;
        }
        Ok(true)
    }

    /// Ends everything, politely.
    pub(super) async fn end(mut self) -> Result<Tally, String> {
        let ended = self.forwarder.stop().await.map_err(|error| error.to_string())?;
        self.tally.totals.add(&ended);
        self.tally.panics = Victim::ALL.map(|victim| (victim.name(), self.traps.sprung(victim))).to_vec();
        if let Some(running) = self.siem.running.take() {
            running.stop();
        }
        Ok(self.tally)
    }

    // ---- time ------------------------------------------------------------------------------------------------------

    async fn pass(&mut self, time: Duration) -> Result<(), String> {
        let until = Instant::now() + time;
        while Instant::now() < until {
            self.glance().await?;
        }
        Ok(())
    }

    /// Whether something came to pass within the time that it may take.
    async fn wait_for(&mut self, happened: impl Fn(&Self) -> bool) -> Result<bool, String> {
        let until = (Instant::now() + PATIENCE).min(self.deadline);
        while !happened(self) {
            if Instant::now() >= until {
                return Ok(false);
            }
            self.glance().await?;
        }
        Ok(true)
    }

    /// A moment, in which receiver and forwarder are looked after as a service manager would.
    async fn glance(&mut self) -> Result<(), String> {
        if let Ok(ended) = tokio::time::timeout(Duration::from_millis(50), self.forwarder.ended()).await {
            self.begin_again(ended)?;
        }
        self.siem.look_after()?;
        let now = Instant::now();
        if now >= self.next_look {
            self.next_look = now + LOOK;
            let status = self.forwarder.status().await;
            let shards = status.as_ref().map_or(0, |status| status.shards.len());
            if let Some(status) = status {
                self.view.status(status);
            }
            if now >= self.next_line {
                self.next_line = now + LINE;
                let verdict = verdict(&self.siem.judge.checker);
                let counts = format!("{} delivered, {} twice or more", verdict.unique, verdict.duplicates);
                self.view.progress(format_args!("{:>6.1} s          {counts}; {shards} shards held", self.seconds()));
            }
        }
        Ok(())
    }

    /// A process whose Coordinator panicked ends, and is started again.
    fn begin_again(&mut self, ended: Ended) -> Result<(), String> {
        match ended {
            Err(ForwarderError::Panicked { actor }) => {
                self.tally.totals.add(&self.forwarder.counters());
                self.tally.totals.restarts += 1;
                self.tell("", format_args!("the forwarder ended with its {actor}; another one begins"));
                self.forwarder = start(&mut self.config, &self.traps, &self.connections, &self.log)?;
                Ok(())
            }
            Err(error) => Err(error.to_string()),
            Ok(_) => Err("the forwarder ended".to_owned()),
        }
    }

    fn is_delivering(&self) -> bool {
        verdict(&self.siem.judge.checker).unique > 0
    }

    fn tell(&self, fault: &str, what: fmt::Arguments<'_>) {
        self.view.event(format_args!("{:>6.1} s  {fault:<7} {what}", self.seconds()));
    }

    fn seconds(&self) -> f64 {
        self.begin.elapsed().as_secs_f64()
    }

    // ---- faults ----------------------------------------------------------------------------------------------------

    async fn make(&mut self, step: Step) -> Result<(), String> {
        let happened = match step {
            Step::Cut => self.cut().await?,
            Step::Kill => self.kill().await?,
            Step::Steal => self.steal().await?,
            Step::Split => self.split(),
            Step::Spoil(kind) => {
                self.hub.service().faults().add(FaultArg { kind, count: 1 });
                self.tell(Kind::Spoil.word(), format_args!("an answer of LogHub: {}", name_of(kind)));
                Some(Kind::Spoil)
            }
            Step::Panic(victim) => self.panic(victim).await?,
        };
        if let Some(kind) = happened {
            *self.tally.faults.entry(kind).or_default() += 1;
            self.view.count_fault(kind.word());
        }
        Ok(())
    }

    async fn cut(&mut self) -> Result<Option<Kind>, String> {
        self.wait_for(|stage| stage.open_connections() > 0).await?;
        let open = self.open_connections();
        let Some(running) = self.siem.running.as_ref().filter(|_| open > 0) else { return Ok(None) };
        running.cut();
        self.tell(Kind::Cut.word(), format_args!("{open} connections of the receiver, wherever they were"));
        Ok(Some(Kind::Cut))
    }

    fn open_connections(&self) -> u64 {
        let totals = self.siem.running.as_ref().map(receiver::Running::totals);
        totals.map_or(0, |totals| totals.open.load(std::sync::atomic::Ordering::Relaxed))
    }

    async fn kill(&mut self) -> Result<Option<Kind>, String> {
        self.wait_for(|stage| stage.open_connections() > 0).await?;
        let Some(running) = self.siem.running.take() else { return Ok(None) };
        running.kill();
        let away = Duration::from_millis(self.random.u64(AWAY));
        self.siem.back_at = Instant::now() + away;
        self.tell(Kind::Kill.word(), format_args!("the receiver; it is back in {:.1} s", away.as_secs_f64()));
        Ok(Some(Kind::Kill))
    }

    /// The group is made anew with the same checkpoints, and somebody else is the first to ask for its shards.
    async fn steal(&mut self) -> Result<Option<Kind>, String> {
        let holds = |stage: &Self| stage.source.shards_held() > 0;
        self.wait_for(holds).await?;
        let group = self.source.group.clone();
        let stolen = self.hub.service().with_logstore(|hub, at, now| {
            let checkpoints = hub.get_checkpoints(at, &group, None, now).ok()?;
            let (_, settings) = hub.list_groups(at).ok()?.into_iter().find(|(name, _)| *name == group)?;
            hub.delete_group(at, &group, now).ok()?;
            hub.create_group(at, &group, settings, now).ok()?;
            for view in checkpoints.iter().filter(|view| !view.checkpoint.is_empty()) {
                hub.update_checkpoint(at, &group, THIEF, view.shard, &view.checkpoint, true, now).ok()?;
            }
            hub.heartbeat(at, &group, THIEF, &[], now).ok()
        });
        let Some(stolen) = stolen.filter(|stolen| !stolen.is_empty()) else { return Ok(None) };
        self.tell(
            Kind::Steal.word(),
            format_args!("the leases of {} shards, by a consumer that falls silent", stolen.len()),
        );
        Ok(Some(Kind::Steal))
    }

    fn split(&mut self) -> Option<Kind> {
        let (random, service) = (&mut self.random, self.hub.service());
        let (shard, children) = service.with_logstore(|hub, at, now| {
            let shards = hub.list_shards(at, now).ok()?;
            let writable: Vec<_> = shards.iter().filter(|shard| !shard.readonly).map(|shard| shard.shard).collect();
            let shard = *writable.get(random.usize(0..writable.len().max(1)))?;
            let children = hub.split_shard(at, shard, SplitAt::Parts(2), now).ok()?;
            Some((shard, children.len().saturating_sub(1)))
        })?;
        self.tell(Kind::Split.word(), format_args!("shard {shard} into {children}"));
        Some(Kind::Split)
    }

    async fn panic(&mut self, victim: Victim) -> Result<Option<Kind>, String> {
        let before = self.traps.sprung(victim);
        self.traps.set(victim);
        if victim == Victim::Formatter {
            self.hub.service().faults().add(FaultArg { kind: FaultKind::CorruptLz4, count: 1 });
        }
        let happened = self.wait_for(|stage| stage.traps.sprung(victim) > before).await?;
        self.traps.clear(victim);
        if !happened && self.traps.sprung(victim) == before {
            self.tell("", format_args!("no {} came by to panic", victim.name()));
            return Ok(None);
        }
        self.tell(Kind::Panic.word(), format_args!("{} {}", victim.name(), victim.doing()));
        Ok(Some(Kind::Panic))
    }
}

/// Every fault often enough, in an order that follows from the seed.
fn plan(random: &mut Rng) -> Vec<Step> {
    let mut plan = vec![Step::Cut; 6];
    plan.extend([Step::Kill; 4]);
    plan.extend([Step::Steal; 2]);
    plan.extend([Step::Split; 2]);
    plan.extend(SPOILT.map(Step::Spoil));
    plan.extend(Victim::ALL.map(Step::Panic));
    plan.extend([Victim::ShardFetcher, Victim::Formatter, Victim::SyslogConnection].map(Step::Panic));
    random.shuffle(&mut plan);
    plan
}

fn name_of(kind: FaultKind) -> String {
    clap::ValueEnum::to_possible_value(&kind).map_or_else(String::new, |value| value.get_name().to_owned())
}

/// A forwarder as the process would start it, but for what is watched and the traps. Each has a name of its own.
pub(super) fn start(
    config: &mut ForwarderConfig,
    traps: &Arc<Traps>,
    connections: &Arc<Connections>,
    log: &Logger,
) -> Result<ForwarderHandle, String> {
    let source = &mut config.source;
    source.consumer_name = sls_syslog_actors::config::SourceConfig::unique_consumer_name(&source.consumer_group);
    let inner = SystemPorts::new(config).map_err(|error| error.to_string())?;
    let ports = Arc::new(DemoPorts { inner, traps: Arc::clone(traps), connections: Arc::clone(connections) });
    let placement = Placement::threads(config.limits.workers).map_err(|error| error.to_string())?;
    let builder = Forwarder::builder(config.clone()).logger(log.clone()).outside(ports, placement);
    builder.start().map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_makes_the_same_plan_again_with_every_actor_in_it() {
        let made = |seed| plan(&mut Rng::with_seed(seed));
        assert_eq!(made(3), made(3));
        assert_ne!(made(3), made(4));
        for victim in Victim::ALL {
            assert!(made(5).contains(&Step::Panic(victim)), "{victim:?}");
        }
    }

    #[test]
    fn nothing_is_shown_by_a_run_that_left_a_fault_out() {
        let mut tally = Tally { panics: Victim::ALL.map(|victim| (victim.name(), 1)).to_vec(), ..Tally::default() };
        tally.faults = Kind::ALL.map(|kind| (kind, 1)).into();
        assert!(tally.is_complete());
        tally.panics[2].1 = 0;
        assert!(!tally.is_complete());
        tally.panics[2].1 = 1;
        tally.faults.remove(&Kind::Steal);
        assert!(!tally.is_complete());
    }
}
