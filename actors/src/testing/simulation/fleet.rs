//! Many forwarders that share one group, of which some are killed, others join, and shards are split: whether the group
//! spreads the work as it should, and what SLS is asked meanwhile.
//!
//! It is the same world as under a plan of faults, with the same checks, but nothing else goes wrong, and a request to
//! SLS takes some milliseconds. All forwarders start in the same instant, which is worse than real machines manage.

use std::collections::HashSet;
use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

use super::traffic::{PER_MINUTE, PER_SHARD, Requests, Traffic};
use super::{GROUP, Simulation, World};
use crate::config::Confirmation;
use crate::loghub::SplitAt;
use crate::model::cursor::StartPosition;
use crate::model::ids::ShardId;
use crate::testing::faults::{Plan, Settings};
use crate::testing::hub::InMemoryHub;
use crate::testing::runtime::VirtualTime;
use crate::wire::sls::reply::Compression;

/// How many.
#[derive(Debug, Clone, Copy)]
pub struct Fleet {
    /// Shards, a tenth of which is split later.
    pub shards: u32,
    /// Forwarders, a tenth of which is killed while as many join.
    pub forwarders: usize,
    /// What all else follows from.
    pub seed: u64,
}

/// How it went.
#[derive(Debug, Clone)]
pub struct FleetReport {
    /// What was violated; nothing if all is well.
    pub violations: Vec<String>,
    /// Logs produced, messages that were read more than once.
    pub logs: (usize, u64),
    /// What happened, and how long it took until every shard was owned and read by somebody, for good.
    pub owned_after: Vec<(&'static str, Duration)>,
    /// What SLS was asked.
    pub requests: Requests,
}

/// Time between heartbeats, as by default; the group's timeout is twice as long.
const HEARTBEAT: Duration = Duration::from_secs(20);
/// Every shard has to be owned again within the group's timeout and two heartbeats.
pub const OWNED_WITHIN: Duration = Duration::from_secs(4 * HEARTBEAT.as_secs());
/// How long it is looked on after each event, so that nothing happens later either.
const LOOK_ON: Duration = Duration::from_secs(OWNED_WITHIN.as_secs() + 10);

impl Fleet {
    /// Starts the forwarders, kills some while others join, splits shards, and stops it all.
    ///
    /// # Panics
    /// If an actor panics, or is left running.
    pub fn run(self) -> FleetReport {
        VirtualTime::default().run(self.play())
    }

    async fn play(self) -> FleetReport {
        let world = World::new(&self.plan(), &Simulation::default());
        let traffic = Traffic::of(&world.hub);
        let mut story = Story { world, traffic, groups_per_second: self.shards.div_ceil(10), owned_after: Vec::new() };
        story.world.put(self.shards, 1, LENGTH);
        for index in 0..self.forwarders {
            story.world.start(index).await;
        }
        story.look_on("all start at once").await;
        story.kill_and_join(self.forwarders).await;
        story.look_on("a tenth is killed, as many join").await;
        story.split(self.shards / 10);
        story.look_on("a tenth of the shards is split").await;
        let Story { mut world, traffic, owned_after, .. } = story;
        world.recover().await;
        world.end().await;
        let requests = traffic.requests();
        check(&world, &owned_after, &requests);
        let (logs, duplicates, _) = world.checker.totals();
        FleetReport { violations: world.checker.violations(), logs: (logs, duplicates), owned_after, requests }
    }

    fn plan(self) -> Plan {
        Plan {
            seed: self.seed,
            shards: self.shards,
            forwarders: self.forwarders + self.forwarders / 10,
            settings: Settings {
                workers: 1,
                connections: 1,
                formatter_mailbox: 128,
                connection_mailbox: 64,
                confirmation: Confirmation::TcpAcked,
                confirm_after_connect: Duration::from_secs(1),
                timeout: Duration::from_secs(120),
                heartbeat_interval: HEARTBEAT,
                commit_interval: Duration::from_secs(3),
                drain_timeout: Duration::from_secs(25),
                max_log_groups: 1000,
                in_order: false,
                start: StartPosition::Begin,
                messages_per_second: None,
                relp_window: 1024,
            },
            retention: None,
            existing_group: None,
            longest: None,
            pull_bytes: 4 << 20,
            compression: Compression::Lz4,
            steps: Vec::new(),
            heals_at: Duration::ZERO,
        }
    }
}

/// How often it is looked whether every shard is owned, and logs are written.
const GLANCE: Duration = Duration::from_secs(1);
/// Longest text of a log.
const LENGTH: usize = 100;

struct Story {
    world: World,
    traffic: Traffic,
    groups_per_second: u32,
    owned_after: Vec<(&'static str, Duration)>,
}

impl Story {
    /// Logs are written while time passes, and it is noted when every shard was owned.
    async fn look_on(&mut self, after: &'static str) {
        let began = Instant::now();
        let mut owned = Duration::ZERO;
        while began.elapsed() < LOOK_ON {
            self.world.put(self.groups_per_second, 1, LENGTH);
            self.world.pass_until(Instant::now() + GLANCE).await;
            if !self.is_owned() {
                owned = began.elapsed() + GLANCE;
            }
        }
        self.owned_after.push((after, owned));
    }

    /// Whether every shard that is not read to its end is held and read by somebody who lives.
    fn is_owned(&self) -> bool {
        let Ok(state) = self.world.hub.with(|hub, _| hub.logstore_state(InMemoryHub::AT)) else { return false };
        let Some(group) = state.groups.get(GROUP) else { return false };
        let running = self.world.forwarders.iter().filter(|seat| seat.running.is_some());
        let alive: HashSet<&str> = running.map(|seat| seat.name.as_str()).collect();
        let is_read = |owner: &str, shard| alive.contains(owner) && self.traffic.reads(owner, shard);
        state.shards.len() == group.shards.len()
            && group.shards.iter().all(|shard| match (shard.state, &shard.owner) {
                ('O', _) => true,
                ('A', Some(owner)) => is_read(owner, shard.shard),
                _ => false,
            })
    }

    async fn kill_and_join(&mut self, forwarders: usize) {
        for index in forwarders..self.world.forwarders.len() {
            self.world.start(index).await;
        }
        for index in 0..forwarders / 10 {
            self.world.crash(10 * index);
        }
        // Nobody begins again in the place of one that was killed.
        self.world.forwarders.retain(|seat| seat.running.is_some());
    }

    fn split(&mut self, shards: u32) {
        self.world.hub.with(|hub, now| {
            for shard in (0..shards).map(|number| ShardId(10 * number)) {
                let split = hub.split_shard(InMemoryHub::AT, shard, SplitAt::Parts(2), now);
                if let Err(refusal) = split {
                    self.world.checker.violated(format!("the hub does not split shard {shard}: {refusal}"));
                }
            }
        });
    }
}

/// What the checker does not see, since it is about all of them.
fn check(world: &World, owned_after: &[(&'static str, Duration)], requests: &Requests) {
    for (after, owned) in owned_after.iter().filter(|(_, owned)| *owned > OWNED_WITHIN) {
        world.checker.violated(format!("{after}: it takes {owned:?} until every shard is owned"));
    }
    let state = world.hub.with(|hub, _| hub.logstore_state(InMemoryHub::AT));
    let commits = state.map(|mut state| state.groups.remove(GROUP).map(|group| group.commits)).ok().flatten();
    for (consumer, counts) in commits.unwrap_or_default() {
        if counts.backwards > 0 {
            world.checker.violated(format!("I2: commits of {consumer} have moved checkpoints back: {counts:?}"));
        }
    }
    let stale = world.checker.stale_commits();
    if stale > 0 {
        world.checker.violated(format!("I3: SLS had to refuse {stale} commits of shards that others held"));
    }
    let (minute, second) = requests.reads;
    if minute > PER_MINUTE || second > PER_MINUTE / 60 {
        world.checker.violated(format!("the project's quota is exceeded: {requests}"));
    }
    if requests.worst_second_of_a_shard > PER_SHARD {
        world.checker.violated(format!("a shard's quota is exceeded: {requests}"));
    }
}

impl fmt::Display for FleetReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (logs, duplicates) = self.logs;
        writeln!(f, "{logs} logs, {duplicates} messages read more than once")?;
        for (after, owned) in &self.owned_after {
            writeln!(f, "{after}: every shard owned and read after {:.1} s", owned.as_secs_f64())?;
        }
        writeln!(f, "{:<20} {:>9} {:>14} {:>22}", "requests", "in all", "worst second", "worst second of one")?;
        write!(f, "{}", self.requests)
    }
}
