//! The in-memory LogHub: shards, logs, consumer groups and quotas as one plain machine.
//!
//! [`Hub`] answers what the service would answer, refusals included, and knows neither HTTP nor a clock: every call is
//! told the time. The embedded server puts a socket in front of it, simulations call it directly, so the two cannot
//! disagree. Log groups are stored as the bytes that were received. What nothing published fixes is decided in
//! favour of the strict reading: a checkpoint of a read-only shard counts as its end only when it is committed then.

mod block;
pub mod generate;
mod group;
mod logstore;
mod refusal;
mod shard;
pub mod state;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

pub use block::{Block, count_logs};
pub use group::{CheckpointView, CommitCounts, GroupSettings};
pub use logstore::{Route, SplitAt};
pub use refusal::Refusal;
pub use shard::{From, Pull, PullAnswer, ShardView, decode_cursor, encode_cursor};

use crate::model::ids::ShardId;
use group::Group;
use logstore::Logstore;

/// Microseconds since 1970; the caller's clock, which must not go backwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct UnixMicros(pub i64);

impl UnixMicros {
    /// Whole seconds since 1970.
    pub fn seconds(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// Time since `earlier`, zero if that is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

/// What the service limits; the defaults are the service's where it publishes them.
#[derive(Debug, Clone)]
pub struct Limits {
    /// A pull stops adding log groups once its uncompressed size passes this; it always carries one.
    pub pull_bytes: u64,
    /// Longest log group, uncompressed.
    pub put_bytes: usize,
    /// Consumer groups per logstore.
    pub groups_per_logstore: usize,
    /// Shards per logstore, read-only ones included.
    pub shards_per_logstore: usize,
    /// Logstores per project.
    pub logstores_per_project: usize,
    /// Consumers per group.
    pub consumers_per_group: usize,
    /// Log groups older than this are forgotten.
    pub retention: Option<Duration>,
    /// A shard that holds more bytes than this forgets its oldest log groups.
    pub shard_bytes: u64,
    /// Compressed answers that a shard keeps for the next who asks the same.
    pub cached_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            pull_bytes: 4 << 20,
            put_bytes: 10 << 20,
            groups_per_logstore: 30,
            shards_per_logstore: 256,
            logstores_per_project: 200,
            consumers_per_group: 1024,
            retention: None,
            shard_bytes: 8 << 30,
            cached_bytes: 32 << 20,
        }
    }
}

/// A logstore, by project and name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct At<'a> {
    /// Project.
    pub project: &'a str,
    /// Logstore.
    pub logstore: &'a str,
}

/// The whole service.
#[derive(Debug, Default)]
pub struct Hub {
    projects: BTreeMap<String, BTreeMap<String, Logstore>>,
    limits: Limits,
}

impl Hub {
    /// An empty service with these limits.
    pub fn new(limits: Limits) -> Self {
        Self { projects: BTreeMap::new(), limits }
    }

    /// Creates a project; does nothing if it exists.
    pub fn create_project(&mut self, project: &str) {
        self.projects.entry(project.to_owned()).or_default();
    }

    /// GetProject: whether it exists.
    pub fn get_project(&self, project: &str) -> Result<(), Refusal> {
        self.project(project).map(|_| ())
    }

    /// CreateLogStore with shards that divide the key space evenly.
    pub fn create_logstore(&mut self, at: At<'_>, shards: u32, now: UnixMicros) -> Result<(), Refusal> {
        let limits = &self.limits;
        let project = self.projects.get_mut(at.project).ok_or_else(|| Refusal::no_project(at.project))?;
        if project.contains_key(at.logstore) {
            return Err(Refusal::new(400, "LogStoreAlreadyExist", format!("logstore {} already exists", at.logstore)));
        }
        if !valid_logstore_name(at.logstore) {
            return Err(Refusal::parameter(format!("logstore name {} is invalid", at.logstore)));
        }
        if shards == 0 || shards as usize > limits.shards_per_logstore {
            return Err(Refusal::parameter(format!("shardCount should be in [1-{}]", limits.shards_per_logstore)));
        }
        if project.len() >= limits.logstores_per_project {
            return Err(Refusal::new(403, "LogStoreQuotaExceed", "logstore count quota exceed".into()));
        }
        project.insert(at.logstore.to_owned(), Logstore::new(shards, now));
        Ok(())
    }

    /// DeleteLogStore.
    pub fn delete_logstore(&mut self, at: At<'_>) -> Result<(), Refusal> {
        let project = self.projects.get_mut(at.project).ok_or_else(|| Refusal::no_project(at.project))?;
        project.remove(at.logstore).map(|_| ()).ok_or_else(|| Refusal::no_logstore(at.logstore))
    }

    /// ListLogStores: all names that contain `name`, ascending.
    pub fn list_logstores(&self, project: &str, name: &str) -> Result<Vec<String>, Refusal> {
        Ok(self.project(project)?.keys().filter(|key| key.contains(name)).cloned().collect())
    }

    /// GetLogStore: when it was created and how many shards it lists.
    pub fn get_logstore(&self, at: At<'_>) -> Result<(UnixMicros, usize), Refusal> {
        let logstore = self.logstore(at)?;
        Ok((logstore.created(), logstore.shards().len()))
    }

    /// Days that GetLogStore says logs are kept; 3650 stands for "for ever", as on the service.
    pub fn ttl_days(&self) -> u32 {
        let days = |retention: Duration| u32::try_from(retention.as_secs().div_ceil(86_400)).unwrap_or(3650).max(1);
        self.limits.retention.map_or(3650, days)
    }

    /// ListShards, ascending.
    pub fn list_shards(&mut self, at: At<'_>, now: UnixMicros) -> Result<Vec<ShardView>, Refusal> {
        Ok(self.aged(at, now)?.0.shards())
    }

    /// SplitShard: the parent, then its children.
    pub fn split_shard(
        &mut self,
        at: At<'_>,
        shard: ShardId,
        split: SplitAt,
        now: UnixMicros,
    ) -> Result<Vec<ShardView>, Refusal> {
        let (logstore, limits) = self.aged(at, now)?;
        logstore.split(shard, split, limits, now)
    }

    /// MergeShards: the new shard, the given one, its right neighbour.
    pub fn merge_shards(&mut self, at: At<'_>, shard: ShardId, now: UnixMicros) -> Result<Vec<ShardView>, Refusal> {
        let (logstore, limits) = self.aged(at, now)?;
        logstore.merge(shard, limits, now)
    }

    /// GetCursor, by the time of receipt.
    pub fn get_cursor(&mut self, at: At<'_>, shard: ShardId, from: From, now: UnixMicros) -> Result<String, Refusal> {
        Ok(self.aged(at, now)?.0.shard(shard)?.cursor(from))
    }

    /// GetCursorTime, in unix seconds; the end position answers the current time.
    pub fn get_cursor_time(
        &mut self,
        at: At<'_>,
        shard: ShardId,
        cursor: &str,
        now: UnixMicros,
    ) -> Result<i64, Refusal> {
        self.aged(at, now)?.0.shard(shard)?.cursor_time(cursor, now)
    }

    /// PullLogs.
    pub fn pull(
        &mut self,
        at: At<'_>,
        shard: ShardId,
        pull: &Pull<'_>,
        now: UnixMicros,
    ) -> Result<PullAnswer, Refusal> {
        let (logstore, limits) = self.aged(at, now)?;
        logstore.shard_mut(shard)?.pull(pull, limits, now)
    }

    /// PutLogs: one `LogGroup`, stored as these bytes; answers the shard and the cursor that it got.
    pub fn put(
        &mut self,
        at: At<'_>,
        route: Route,
        group: Bytes,
        now: UnixMicros,
    ) -> Result<(ShardId, String), Refusal> {
        let (logstore, limits) = self.aged(at, now)?;
        logstore.put(route, group, limits, now)
    }

    /// Appends many log groups at once, compressed beforehand; refused for a read-only shard.
    pub fn append_block(&mut self, at: At<'_>, shard: ShardId, block: Block, now: UnixMicros) -> Result<(), Refusal> {
        let (logstore, limits) = self.aged(at, now)?;
        let shard = logstore.shard_mut(shard)?;
        shard.append_block(block, now)?;
        shard.forget(limits, now);
        Ok(())
    }

    /// CreateConsumerGroup.
    pub fn create_group(
        &mut self,
        at: At<'_>,
        name: &str,
        settings: GroupSettings,
        now: UnixMicros,
    ) -> Result<(), Refusal> {
        let (logstore, limits) = self.aged(at, now)?;
        logstore.create_group(name, settings, limits)
    }

    /// ListConsumerGroup, by name.
    pub fn list_groups(&self, at: At<'_>) -> Result<Vec<(String, GroupSettings)>, Refusal> {
        Ok(self.logstore(at)?.groups())
    }

    /// UpdateConsumerGroup; what is `None` stays.
    pub fn update_group(
        &mut self,
        at: At<'_>,
        name: &str,
        timeout_s: Option<u32>,
        order: Option<bool>,
        now: UnixMicros,
    ) -> Result<(), Refusal> {
        self.group(at, name, now)?.0.update(timeout_s, order)
    }

    /// DeleteConsumerGroup, with its checkpoints and consumers.
    pub fn delete_group(&mut self, at: At<'_>, name: &str, now: UnixMicros) -> Result<(), Refusal> {
        self.aged(at, now)?.0.delete_group(name)
    }

    /// HeartBeat of a consumer that holds these shards; answers those it owns from now on, ascending.
    pub fn heartbeat(
        &mut self,
        at: At<'_>,
        group: &str,
        consumer: &str,
        held: &[ShardId],
        now: UnixMicros,
    ) -> Result<Vec<ShardId>, Refusal> {
        let consumers = self.limits.consumers_per_group;
        let (group, facts) = self.group(at, group, now)?;
        group.heartbeat(consumer, held, facts, consumers, now)
    }

    /// GetCheckPoint of one shard (nothing if it does not exist) or of all.
    pub fn get_checkpoints(
        &mut self,
        at: At<'_>,
        group: &str,
        shard: Option<ShardId>,
        now: UnixMicros,
    ) -> Result<Vec<CheckpointView>, Refusal> {
        let (group, facts) = self.group(at, group, now)?;
        Ok(group.checkpoints(shard, facts))
    }

    /// UpdateCheckPoint; unless forced, the consumer must be alive and hold the shard.
    #[expect(clippy::too_many_arguments, reason = "the request has that many parts")]
    pub fn update_checkpoint(
        &mut self,
        at: At<'_>,
        group: &str,
        consumer: &str,
        shard: ShardId,
        checkpoint: &str,
        force: bool,
        now: UnixMicros,
    ) -> Result<(), Refusal> {
        let (group, facts) = self.group(at, group, now)?;
        group.commit(consumer, shard, checkpoint, force, facts, now)
    }

    /// What the service holds, for proofs and tests.
    pub fn state(&self) -> state::HubState {
        let logstores = |stores: &BTreeMap<String, Logstore>| {
            stores.iter().map(|(name, store)| (name.clone(), store.state())).collect()
        };
        state::HubState { projects: self.projects.iter().map(|(name, p)| (name.clone(), logstores(p))).collect() }
    }

    /// What one logstore holds.
    pub fn logstore_state(&self, at: At<'_>) -> Result<state::LogstoreState, Refusal> {
        Ok(self.logstore(at)?.state())
    }

    fn project(&self, project: &str) -> Result<&BTreeMap<String, Logstore>, Refusal> {
        self.projects.get(project).ok_or_else(|| Refusal::no_project(project))
    }

    fn logstore(&self, at: At<'_>) -> Result<&Logstore, Refusal> {
        self.project(at.project)?.get(at.logstore).ok_or_else(|| Refusal::no_logstore(at.logstore))
    }

    /// The logstore, after it has forgotten what is too old.
    fn aged(&mut self, at: At<'_>, now: UnixMicros) -> Result<(&mut Logstore, &Limits), Refusal> {
        let project = self.projects.get_mut(at.project).ok_or_else(|| Refusal::no_project(at.project))?;
        let logstore = project.get_mut(at.logstore).ok_or_else(|| Refusal::no_logstore(at.logstore))?;
        logstore.forget(&self.limits, now);
        Ok((logstore, &self.limits))
    }

    fn group(&mut self, at: At<'_>, name: &str, now: UnixMicros) -> Result<(&mut Group, &group::Facts), Refusal> {
        self.aged(at, now)?.0.group(name)
    }
}

fn valid_logstore_name(name: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    (2..=63).contains(&name.len()) && name.bytes().all(inner)
}

#[cfg(test)]
mod tests;
