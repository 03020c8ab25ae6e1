//! One logstore: its shards with split and merge, the routing of puts, and its consumer groups.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::block::count_logs;
use super::group::{Facts, Group, GroupSettings, ShardFact};
use super::shard::{Shard, ShardView, encode_cursor};
use super::state::{LogstoreState, ShardState};
use super::{Limits, Refusal, UnixMicros};
use crate::model::ids::ShardId;

/// Which shard a put goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// Any shard that can be written, in turn.
    Balanced,
    /// The shard whose range holds this key.
    Key(u128),
    /// This one.
    Shard(ShardId),
}

/// Where a shard is split.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SplitAt {
    /// In two, the second one beginning at this key.
    Key(u128),
    /// Into so many equal parts.
    Parts(u32),
}

#[derive(Debug)]
pub(super) struct Logstore {
    created: UnixMicros,
    shards: BTreeMap<ShardId, Shard>,
    next_shard: u32,
    turn: usize,
    groups: BTreeMap<String, Group>,
    /// What groups have to know of the shards, as it was when one was last asked something.
    facts: Facts,
}

impl Logstore {
    pub fn new(shards: u32, now: UnixMicros) -> Self {
        let mut logstore = Self {
            created: now,
            shards: BTreeMap::new(),
            next_shard: 0,
            turn: 0,
            groups: BTreeMap::new(),
            facts: Facts::new(),
        };
        for (begin, end) in divide(0, u128::MAX, shards) {
            logstore.add_shard(begin, end, Vec::new(), now);
        }
        logstore
    }

    pub fn created(&self) -> UnixMicros {
        self.created
    }

    pub fn shards(&self) -> Vec<ShardView> {
        self.shards.values().map(Shard::view).collect()
    }

    pub fn shard(&self, id: ShardId) -> Result<&Shard, Refusal> {
        self.shards.get(&id).ok_or_else(|| Refusal::no_shard(id))
    }

    pub fn shard_mut(&mut self, id: ShardId) -> Result<&mut Shard, Refusal> {
        self.shards.get_mut(&id).ok_or_else(|| Refusal::no_shard(id))
    }

    /// Forgets what is too old; what is too much is forgotten by whoever adds to it.
    pub fn forget(&mut self, limits: &Limits, now: UnixMicros) {
        if limits.retention.is_none() {
            return;
        }
        for shard in self.shards.values_mut() {
            shard.forget(limits, now);
        }
        self.shards.retain(|_, shard| !shard.gone(limits, now));
    }

    pub fn put(
        &mut self,
        route: Route,
        group: Bytes,
        limits: &Limits,
        now: UnixMicros,
    ) -> Result<(ShardId, String), Refusal> {
        if group.len() > limits.put_bytes {
            let message = format!("body size {} must little than {}", group.len(), limits.put_bytes);
            return Err(Refusal::new(413, "PostBodyTooLarge", message));
        }
        let logs = count_logs(&group)
            .ok_or_else(|| Refusal::new(400, "PostBodyInvalid", "protobuffer content cannot be parsed".into()))?;
        let shard = self.route(route)?;
        let number = shard.append_group(group, logs, now)?;
        shard.forget(limits, now);
        Ok((shard.id, encode_cursor(number)))
    }

    fn route(&mut self, route: Route) -> Result<&mut Shard, Refusal> {
        let no_shard = || Refusal::new(400, "LogStoreWithoutShard", "the logstore has no shard".into());
        match route {
            Route::Shard(id) => self.shard_mut(id),
            Route::Key(key) => {
                self.shards.values_mut().find(|shard| !shard.readonly() && shard.covers(key)).ok_or_else(no_shard)
            }
            Route::Balanced => {
                let open = self.shards.values().filter(|shard| !shard.readonly()).count().max(1);
                let turn = self.turn % open;
                self.turn = turn + 1;
                self.shards.values_mut().filter(|shard| !shard.readonly()).nth(turn).ok_or_else(no_shard)
            }
        }
    }

    pub fn split(
        &mut self,
        id: ShardId,
        at: SplitAt,
        limits: &Limits,
        now: UnixMicros,
    ) -> Result<Vec<ShardView>, Refusal> {
        let shard = self.writable(id)?;
        let (begin, end) = (shard.begin_key, shard.end_key);
        let ranges = match at {
            SplitAt::Key(key) if begin < key && key < end => vec![(begin, key), (key, end)],
            SplitAt::Parts(parts) if parts >= 2 && u128::from(parts) < end - begin => divide(begin, end, parts),
            _ => return Err(Refusal::parameter("invalid mid hash".into())),
        };
        self.room(ranges.len(), limits)?;
        self.shard_mut(id)?.readonly_since = Some(now);
        let mut views = vec![self.shard(id)?.view()];
        for (begin, end) in ranges {
            views.push(self.add_shard(begin, end, vec![id], now));
        }
        Ok(views)
    }

    pub fn merge(&mut self, id: ShardId, limits: &Limits, now: UnixMicros) -> Result<Vec<ShardView>, Refusal> {
        let left = self.writable(id)?;
        let (begin, border) = (left.begin_key, left.end_key);
        let right = self
            .shards
            .values()
            .find(|shard| !shard.readonly() && shard.begin_key == border)
            .ok_or_else(|| Refusal::parameter("can not merge the last shard".into()))?;
        let (right, end) = (right.id, right.end_key);
        self.room(1, limits)?;
        for parent in [id, right] {
            self.shard_mut(parent)?.readonly_since = Some(now);
        }
        let merged = self.add_shard(begin, end, vec![id, right], now);
        Ok(vec![merged, self.shard(id)?.view(), self.shard(right)?.view()])
    }

    fn writable(&self, id: ShardId) -> Result<&Shard, Refusal> {
        let writable = self.shards.get(&id).filter(|shard| !shard.readonly());
        writable.ok_or_else(|| Refusal::parameter("invalid shard id".into()))
    }

    fn room(&self, more: usize, limits: &Limits) -> Result<(), Refusal> {
        if self.shards.len() + more > limits.shards_per_logstore {
            return Err(Refusal::new(403, "ShardQuotaExceed", "shard count quota exceed".into()));
        }
        Ok(())
    }

    fn add_shard(&mut self, begin: u128, end: u128, parents: Vec<ShardId>, now: UnixMicros) -> ShardView {
        let id = ShardId(self.next_shard);
        self.next_shard += 1;
        let shard = Shard::new(id, begin, end, parents, now);
        let view = shard.view();
        self.shards.insert(id, shard);
        view
    }

    pub fn create_group(&mut self, name: &str, settings: GroupSettings, limits: &Limits) -> Result<(), Refusal> {
        let named = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        if !(2..=100).contains(&name.len()) || !name.bytes().all(named) {
            return Err(super::group::bad_settings());
        }
        if self.groups.contains_key(name) {
            return Err(Refusal::new(400, "ConsumerGroupAlreadyExist", "consumer group already exist".into()));
        }
        let group = Group::new(settings)?;
        if self.groups.len() >= limits.groups_per_logstore {
            let message = format!("consumer group count exceeds the quota of {}", limits.groups_per_logstore);
            return Err(Refusal::new(403, "ConsumerGroupQuotaExceed", message));
        }
        self.groups.insert(name.to_owned(), group);
        // The states begin at the group's birth, so that shards that come later find their parents judged.
        let (group, facts) = self.group(name)?;
        group.refresh(facts);
        Ok(())
    }

    pub fn groups(&self) -> Vec<(String, GroupSettings)> {
        self.groups.iter().map(|(name, group)| (name.clone(), group.settings())).collect()
    }

    pub fn delete_group(&mut self, name: &str) -> Result<(), Refusal> {
        self.groups.remove(name).map(|_| ()).ok_or_else(Refusal::no_group)
    }

    pub fn group(&mut self, name: &str) -> Result<(&mut Group, &Facts), Refusal> {
        if super::group::same_shards(&self.facts, &self.shards) {
            for (fact, shard) in self.facts.values_mut().zip(self.shards.values()) {
                (fact.readonly, fact.end) = (shard.readonly(), shard.end_number());
            }
        } else {
            self.facts = self.facts();
        }
        Ok((self.groups.get_mut(name).ok_or_else(Refusal::no_group)?, &self.facts))
    }

    fn facts(&self) -> Facts {
        let fact = |shard: &Shard| ShardFact {
            readonly: shard.readonly(),
            end: shard.end_number(),
            parents: shard.parents.clone(),
        };
        self.shards.iter().map(|(id, shard)| (*id, fact(shard))).collect()
    }

    pub fn state(&self) -> LogstoreState {
        let shard = |shard: &Shard| ShardState {
            shard: shard.id,
            readonly: shard.readonly(),
            parents: shard.parents.clone(),
            begin_cursor: encode_cursor(shard.oldest_number()),
            end_cursor: encode_cursor(shard.end_number()),
            groups: shard.totals.groups,
            logs: shard.totals.logs,
            raw_bytes: shard.totals.raw_bytes,
        };
        let facts = self.facts();
        LogstoreState {
            shards: self.shards.values().map(shard).collect(),
            groups: self.groups.iter().map(|(name, group)| (name.clone(), group.state(&facts))).collect(),
        }
    }
}

/// Divides the keys from `begin` to `end` into equal ranges; the topmost key stands for the end of the key space.
fn divide(begin: u128, end: u128, parts: u32) -> Vec<(u128, u128)> {
    let parts = u128::from(parts.max(1));
    // The whole space has 2^128 keys, one more than fits: it is its last key plus one.
    let width = end - begin;
    let extra = u128::from(end == u128::MAX);
    let (whole, rest) = (width / parts, width % parts + extra);
    let border = |i: u128| if i == parts { end } else { begin + whole * i + rest * i / parts };
    (0..parts).map(|i| (border(i), border(i + 1))).collect()
}
