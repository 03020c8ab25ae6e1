//! One lane of the run: a LogHub, several senders that share its group, a proxy and a receiver; a plan of faults is
//! carried out, logs are put throughout, and at the end the judge has its say.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::judge::{Round, Verdict, judge};
use super::kept::{Keeper, Who};
use super::network::{Loss, Network};
use super::plan::{Fault, Kind, Salvo, plan};
use super::proxy::{Behaviour, Manners, Proxy};
use crate::forwarder::Forwarder;
use crate::harness::{PATIENCE, Process, for_a_while};
use crate::hub::{GROUP, Hub, numbered_group};
use crate::sample::sample;

/// Shards of each lane.
pub const SHARDS: u32 = 4;
/// Processes that share a group.
pub const SENDERS: usize = 3;
/// How long a sender waits for its receiver before it gives a connection up.
const SENDERS_PATIENCE: Duration = Duration::from_millis(1500);
/// Longer than that.
const SILENCE: Duration = Duration::from_millis(2300);
/// Logs of each shard in a burst, and in each group of it.
const BURST: (u64, u64) = (150, 15);
/// How often things are looked at; at each look a few more logs are put.
const LOOK: Duration = Duration::from_millis(60);
const TRICKLE: u64 = 2;
/// What a receiver of ours may hold of what it has read: its read buffer, and its file's.
const RECEIVERS_OWN: u64 = (256 + 64) << 10;
/// What a pair of sockets between proxy and receiver may hold: what Linux begins with, doubled for both.
const SOCKETS: u64 = 512 << 10;

/// Who sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sender {
    /// `sls-syslog run`.
    Forwarder,
    /// The help page's sample, which is measured and not judged.
    Sample,
}

/// What stands between senders and receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ways {
    /// The proxy, with these manners.
    Proxy(Manners),
    /// A network of its own.
    Network,
}

/// What is asked of a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// That the promise holds.
    Promise,
    /// That the judge finds losses: what would otherwise hold because nobody looked.
    Losses,
    /// Nothing; it is measured.
    Nothing,
}

/// What a lane is made of.
#[derive(Debug, Clone)]
pub struct Lane {
    /// Its row in the table.
    pub name: &'static str,
    pub sender: Sender,
    pub asked: Asked,
    pub who: Who,
    pub protocol: &'static str,
    pub way: Ways,
    pub kinds: Vec<Kind>,
    pub settings: Vec<(&'static str, &'static str)>,
    pub seed: u64,
    pub faults: usize,
}

/// What came of it.
#[derive(Debug, Clone)]
pub struct Outcome {
    pub lane: Lane,
    pub struck: BTreeMap<Kind, u64>,
    pub logs: u64,
    pub verdict: Verdict,
    pub took: Duration,
}

/// What is running.
enum Running {
    Forwarder(Forwarder),
    Sample(Process),
}

impl Running {
    fn process(&mut self) -> &mut Process {
        match self {
            Self::Forwarder(forwarder) => &mut forwarder.process,
            Self::Sample(process) => process,
        }
    }
}

/// What stands between senders and receiver.
enum Way {
    Proxy(Proxy),
    Network(Network),
}

struct Run {
    lane: Lane,
    hub: Hub,
    way: Way,
    keeper: Keeper,
    senders: Vec<Running>,
    names: Vec<String>,
    started: usize,
    /// Logs put into each shard.
    produced: Vec<u64>,
    /// For each shard, the logs before each of its groups, and all.
    borders: Vec<Vec<u64>>,
    /// The number of each shard's first group.
    first_group: Vec<u64>,
    rounds: Vec<Round>,
    struck: BTreeMap<Kind, u64>,
    /// Bytes that a receiver which was killed in this round may have had and not kept.
    died_with_the_receiver: u64,
}

impl Lane {
    /// Runs it to its end; nothing where its receiver is not installed.
    pub fn run(self) -> Option<Outcome> {
        let begin = Instant::now();
        let (way, keeper) = match self.way {
            Ways::Proxy(manners) => {
                let keeper = Keeper::start(self.who, self.protocol, None)?;
                let behaviour = Behaviour {
                    manners,
                    answers: self.protocol.starts_with("relp"),
                    silence: SILENCE,
                    side_by_side: self.sender == Sender::Sample,
                };
                (Way::Proxy(Proxy::start(keeper.address, SENDERS, behaviour)), keeper)
            }
            Ways::Network => match Network::start() {
                Ok(network) => {
                    let keeper = Keeper::start(self.who, self.protocol, Some(&network))?;
                    (Way::Network(network), keeper)
                }
                Err(why) => {
                    println!("skipped: {}: this machine permits no network of our own ({why})", self.name);
                    return None;
                }
            },
        };
        let hub = Hub::start(SHARDS);
        let shards = hub.logstore()["shards"].as_array().unwrap().clone();
        let first_group = shards.iter().map(|shard| group_number(&shard["begin_cursor"]).unwrap()).collect();
        let salvos = plan(self.seed, &self.kinds, self.faults, SENDERS);
        let mut run = Run {
            lane: self,
            hub,
            way,
            keeper,
            senders: Vec::new(),
            names: vec![String::new(); SENDERS],
            started: 0,
            produced: vec![0; SHARDS as usize],
            borders: vec![vec![0]; SHARDS as usize],
            first_group,
            rounds: Vec::new(),
            struck: BTreeMap::new(),
            died_with_the_receiver: 0,
        };
        run.begin_round();
        for line in 0..SENDERS {
            let sender = run.start(line);
            run.senders.push(sender);
        }
        run.put(20, 10);
        run.wait_for_owners();
        run.wait_until_committed();
        for salvo in &salvos {
            run.carry_out(salvo);
        }
        Some(run.finish(begin))
    }
}

impl Run {
    fn start(&mut self, line: usize) -> Running {
        let name = format!("{}-{}", ["a", "b", "c"][line], self.started);
        self.started += 1;
        self.names[line] = name.clone();
        let to = match &self.way {
            Way::Proxy(proxy) => proxy.lines[line],
            Way::Network(_) => self.keeper.address,
        };
        if self.lane.sender == Sender::Sample {
            let python = std::env::var_os("SLS_SYSLOG_TEST_PYTHON").expect("a lane of the sample has Python");
            let patience = SENDERS_PATIENCE.as_secs_f64().to_string();
            let settings = [("timeout", patience.as_str()), ("hostname", "sample")];
            return Running::Sample(sample(&name, python.as_ref(), &self.hub, to, &settings, "UTC"));
        }
        let path = |file: &str| self.keeper.folder().join(file).to_str().unwrap().to_owned();
        let (ca, cert, key) = (path("ca.pem"), path("client.pem"), path("client-key.pem"));
        let patience = format!("{}ms", SENDERS_PATIENCE.as_millis());
        let mut settings = vec![("destination.timeout", patience.as_str()), ("limits.workers", "1")];
        if self.lane.protocol.ends_with("tls") {
            settings.extend([
                ("destination.cert_path", ca.as_str()),
                ("destination.tls.client_cert", cert.as_str()),
                ("destination.tls.client_key", key.as_str()),
            ]);
        }
        settings.extend(&self.lane.settings);
        Running::Forwarder(Forwarder::start_named(&name, &self.hub, to, self.lane.protocol, &settings))
    }

    /// Puts so many logs into each shard.
    fn put(&mut self, logs: u64, per_group: u64) {
        let mut left = logs;
        while left > 0 {
            let now = left.min(per_group);
            for shard in 0..SHARDS {
                let from = self.produced[shard as usize];
                self.hub.put(shard, &numbered_group(shard, from..from + now));
                self.produced[shard as usize] += now;
                self.borders[shard as usize].push(from + now);
            }
            left -= now;
        }
    }

    /// Logs of each shard that its checkpoint has passed.
    fn committed(&self) -> Vec<u64> {
        let group = self.hub.logstore()["groups"][GROUP].clone();
        let mut committed = vec![0; SHARDS as usize];
        for shard in group["shards"].as_array().into_iter().flatten() {
            let index = shard["shard"].as_u64().unwrap() as usize;
            if let Some(number) = group_number(&shard["checkpoint"]) {
                committed[index] = self.borders[index][(number - self.first_group[index]) as usize];
            }
        }
        committed
    }

    /// Waits for a condition while logs go on being put. A sample that never gets there is let be after a while.
    fn wait(&mut self, what: &str, done: impl FnMut(&mut Self) -> Result<(), String>) {
        self.wait_at_most(SAMPLES_TIME, what, done);
    }

    fn wait_at_most(&mut self, sample: Duration, what: &str, mut done: impl FnMut(&mut Self) -> Result<(), String>) {
        let begin = Instant::now();
        let patience = if self.lane.sender == Sender::Sample { sample } else { PATIENCE };
        while let Err(state) = done(self) {
            if begin.elapsed() > patience {
                if self.lane.sender == Sender::Sample {
                    return;
                }
                panic!("{}: {what}: not within {patience:?}; last: {state}", self.title());
            }
            for line in 0..self.senders.len() {
                if !self.senders[line].process().runs() {
                    assert!(self.lane.sender == Sender::Sample, "{}: a forwarder has ended by itself", self.title());
                    // Whoever watches over it starts it again.
                    self.senders[line] = self.start(line);
                }
            }
            self.put(TRICKLE, TRICKLE);
            for_a_while(LOOK);
        }
    }

    fn proxy(&self) -> &Proxy {
        match &self.way {
            Way::Proxy(proxy) => proxy,
            Way::Network(_) => panic!("{}: no proxy here", self.title()),
        }
    }

    /// Connections opened so far; without a proxy those that the receiver has kept something of, which are all that can
    /// have repeated anything.
    fn opened(&self) -> u64 {
        match &self.way {
            Way::Proxy(proxy) => proxy.accepted(),
            Way::Network(_) => self.keeper.connections.len() as u64,
        }
    }

    /// Bytes that were thrown away so far, at most.
    fn lossy_bytes(&self) -> u64 {
        match &self.way {
            Way::Proxy(proxy) => proxy.lossy_bytes(),
            Way::Network(_) => 0,
        }
    }

    fn title(&self) -> String {
        format!("{}, seed {}, round {}", self.lane.name, self.lane.seed, self.rounds.len())
    }

    /// Waits until each sender holds a shard, and nobody else does.
    fn wait_for_owners(&mut self) {
        self.wait("all shards among the living", |run| {
            let owners = run.hub.owners();
            let held: usize = owners.values().sum();
            let all = held == SHARDS as usize && owners.len() == SENDERS;
            (all && run.names.iter().all(|name| owners.contains_key(name))).then_some(()).ok_or(format!("{owners:?}"))
        });
    }

    /// Waits until the checkpoints have passed all that is put by now.
    fn wait_until_committed(&mut self) {
        let produced = self.produced.clone();
        // The sample commits every few seconds, and then not what comes last.
        self.wait_at_most(SAMPLES_TIME / 3, "checkpoints at what was put", |run| {
            let committed = run.committed();
            let all = committed.iter().zip(&produced).all(|(committed, produced)| committed >= produced);
            all.then_some(()).ok_or(format!("{committed:?} of {produced:?}"))
        });
    }

    fn round(&self) -> usize {
        self.rounds.len().saturating_sub(1)
    }

    /// What is found in the file from now on belongs to a new round.
    fn begin_round(&mut self) {
        self.keeper.collect(self.round());
        self.end_round();
        // Counted from here on, as is what opens and what is lost.
        let (committed, connections, lossy_bytes) = (self.committed(), self.opened(), self.lossy_bytes());
        self.rounds.push(Round { committed, connections, lossy_bytes, takeovers: 0 });
    }

    /// Makes differences of what the round began with.
    fn end_round(&mut self) {
        let may_lose = self.may_lose();
        let (accepted, lossy_bytes) = (self.opened(), self.lossy_bytes());
        let Some(round) = self.rounds.last_mut() else { return };
        round.connections = accepted - round.connections;
        let lost = lossy_bytes - round.lossy_bytes + std::mem::take(&mut self.died_with_the_receiver);
        round.lossy_bytes = if may_lose { lost } else { 0 };
    }

    /// Whether bytes that were thrown away excuse a loss: over RELP nothing does.
    fn may_lose(&self) -> bool {
        !self.lane.protocol.starts_with("relp")
    }

    fn carry_out(&mut self, salvo: &Salvo) {
        self.begin_round();
        let [only @ (target, _, fault)] = salvo.as_slice() else { return self.strike(salvo) };
        match *fault {
            Fault::KillForwarder { after } => {
                self.burst_until(Some(*target), after);
                self.senders[*target].process().kill();
                self.senders[*target] = self.start(*target);
                // The others take over, and give back.
                self.takeovers(2);
                self.wait_for_owners();
            }
            Fault::HangForwarder { after } => self.hang(*target, after),
            Fault::KillReceiver { after } => {
                let before = self.proxy().forwarded();
                self.burst_until(None, after);
                self.keeper.kill();
                // All else had been kept when the round began. The proxy counts its own buffers.
                let on_its_way = self.proxy().forwarded() - before;
                self.died_with_the_receiver = on_its_way.min(RECEIVERS_OWN + SENDERS as u64 * SOCKETS);
                let refused = self.proxy().refused();
                self.wait("everybody refused", |run| {
                    let times = run.proxy().refused() - refused;
                    (times >= SENDERS as u64).then_some(()).ok_or_else(|| format!("{times} times"))
                });
                self.keeper.restart(self.round());
            }
            Fault::Partition { loss } => self.part(loss),
            _ => return self.strike(std::slice::from_ref(only)),
        }
        self.count(salvo);
        self.wait_until_committed();
    }

    fn strike(&mut self, salvo: &[(usize, Kind, Fault)]) {
        for (target, _, fault) in salvo {
            self.proxy().strike(*target, *fault);
        }
        self.put(BURST.0, BURST.1);
        self.wait(&format!("{salvo:?} carried out"), |run| {
            run.proxy().is_done().then_some(()).ok_or_else(|| "not yet".to_owned())
        });
        self.count(salvo);
        self.wait_until_committed();
    }

    /// Puts a burst and waits until so many bytes of it have passed the proxy.
    fn burst_until(&mut self, line: Option<usize>, after: u64) {
        let passed = |run: &Self| line.map_or_else(|| run.proxy().forwarded(), |line| run.proxy().forwarded_on(line));
        let before = passed(self);
        self.put(BURST.0, BURST.1);
        self.wait("the burst at the proxy", |run| {
            let now = passed(run) - before;
            (now >= after).then_some(()).ok_or_else(|| format!("{now} of {after} bytes"))
        });
    }

    /// Stops a sender until others have its shards and have caught up, as if its machine had frozen; then it goes on.
    fn hang(&mut self, target: usize, after: u64) {
        self.burst_until(Some(target), after);
        self.senders[target].process().signal("STOP");
        self.takeovers(3);
        let (name, produced) = (self.names[target].clone(), self.produced.clone());
        self.wait("the others at what the frozen one had", |run| {
            let (owners, committed) = (run.hub.owners(), run.committed());
            let caught_up = committed.iter().zip(&produced).all(|(committed, produced)| committed >= produced);
            (caught_up && !owners.contains_key(&name)).then_some(()).ok_or_else(|| format!("{owners:?}, {committed:?}"))
        });
        self.senders[target].process().signal("CONT");
        self.wait_for_owners();
    }

    /// Packets are lost in the middle of a burst, for longer than senders are patient.
    fn part(&mut self, loss: Loss) {
        self.put(BURST.0 / 2, BURST.1);
        self.network().lose(loss);
        self.put(BURST.0 / 2, BURST.1);
        let until = Instant::now() + SILENCE;
        self.wait("the end of the partition", |_| match until.checked_duration_since(Instant::now()) {
            None | Some(Duration::ZERO) => Ok(()),
            Some(left) => Err(format!("{left:?} left")),
        });
        self.network().heal();
    }

    fn network(&self) -> &Network {
        match &self.way {
            Way::Network(network) => network,
            Way::Proxy(_) => panic!("{}: no network here", self.title()),
        }
    }

    fn takeovers(&mut self, times: u64) {
        self.rounds.last_mut().expect("a round has begun").takeovers += times;
    }

    fn count(&mut self, salvo: &[(usize, Kind, Fault)]) {
        for (_, kind, _) in salvo {
            *self.struck.entry(*kind).or_default() += 1;
        }
    }
}

impl Run {
    /// A last burst when all is well, the polite end of everybody, and the verdict.
    fn finish(mut self, begin: Instant) -> Outcome {
        self.begin_round();
        self.put(BURST.0, BURST.1);
        self.wait_until_committed();
        self.wait_until_kept();
        let mut broken = Vec::new();
        for sender in self.senders.drain(..) {
            match sender {
                Running::Forwarder(forwarder) => {
                    let output = forwarder.stop();
                    if output.contains("panicked") {
                        broken.push("a forwarder panicked".to_owned());
                    }
                }
                Running::Sample(mut process) => drop(process.stop()),
            }
        }
        self.keeper.collect(self.round());
        self.end_round();
        if let Way::Proxy(proxy) = &self.way {
            broken.extend(proxy.troubles());
        }
        broken.extend(
            self.keeper
                .strangers
                .first()
                .map(|line| format!("{} messages that are no whole log, first {line}", self.keeper.strangers.len())),
        );
        let mut verdict = judge(&self.produced, &self.rounds, &self.keeper.deliveries, self.keeper.shortest);
        verdict.broken.extend(broken);
        let mut logs = self.produced.iter().sum();
        if self.lane.asked == Asked::Nothing {
            // What it has not come to yet is late, and only what a checkpoint has passed is lost.
            let committed = self.committed();
            logs = committed.iter().sum();
            verdict.missing = self.keeper.missing_below(&committed);
        }
        let struck = std::mem::take(&mut self.struck);
        Outcome { lane: self.lane, struck, logs, verdict, took: begin.elapsed() }
    }

    /// Waits, without putting more, until the last log of each shard is in the receiver's file, and, where nothing may
    /// be missing, all of them. The judge tells what is not.
    fn wait_until_kept(&mut self) {
        let begin = Instant::now();
        let patience = if self.lane.sender == Sender::Sample { SAMPLES_TIME } else { KEPT_WITHIN };
        let strict = self.lane.asked == Asked::Promise && self.rounds.iter().all(|round| round.lossy_bytes == 0);
        while begin.elapsed() < patience {
            self.keeper.collect(self.round());
            let mut unique: Vec<BTreeSet<u64>> = vec![BTreeSet::new(); SHARDS as usize];
            for delivery in &self.keeper.deliveries {
                unique[delivery.stream].insert(delivery.number);
            }
            let all = unique.iter().zip(&self.produced).all(|(seen, produced)| {
                seen.last() == Some(&(produced - 1)) && (!strict || seen.len() as u64 == *produced)
            });
            if all && self.committed() == self.produced {
                return;
            }
            for_a_while(LOOK);
        }
    }
}

/// How long a receiver may take to write what it has read.
const KEPT_WITHIN: Duration = Duration::from_secs(20);
/// How long a sample may take for what a forwarder has to do.
const SAMPLES_TIME: Duration = Duration::from_secs(6);

/// The number of a log group that a cursor names.
fn group_number(cursor: &serde_json::Value) -> Option<u64> {
    let digits = data_encoding::BASE64.decode(cursor.as_str()?.as_bytes()).ok()?;
    std::str::from_utf8(&digits).ok()?.parse().ok()
}
