//! One consumer group: who lives, who owns which shard, and the checkpoints.
//!
//! A shard is in one of five states: *waiting* for its ancestors (order only), *free*, *allocated* to one consumer, *in
//! transfer* (held by one, promised to another) or *over* (read-only, and its end was committed). A heartbeat's answer
//! lists exactly the caller's allocated shards; a holder learns from the omission that it has to give a shard up, and
//! gives it up by no longer listing it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::shard::decode_cursor;
use super::state::{GroupShardState, GroupState};
use super::{Refusal, UnixMicros};
use crate::model::ids::ShardId;

/// A group's settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupSettings {
    /// Seconds without heartbeat after which a consumer is removed.
    pub timeout_s: u32,
    /// Whether parents are consumed before their children.
    pub order: bool,
}

/// One shard's checkpoint, as GetCheckPoint tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointView {
    /// The shard.
    pub shard: ShardId,
    /// As it was committed; empty if never.
    pub checkpoint: String,
    /// When it was committed; zero if never.
    pub updated: UnixMicros,
    /// Who holds or last held the shard; empty if nobody.
    pub consumer: String,
}

/// How often a consumer committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct CommitCounts {
    /// Commits that were taken.
    pub accepted: u64,
    /// Commits that were refused.
    pub refused: u64,
    /// Commits that were taken and moved a checkpoint back.
    pub backwards: u64,
}

/// What a group has to know of a shard.
#[derive(Debug, Clone)]
pub(super) struct ShardFact {
    pub readonly: bool,
    pub end: u64,
    pub parents: Vec<ShardId>,
}

pub(super) type Facts = BTreeMap<ShardId, ShardFact>;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Allocation {
    Waiting,
    Free,
    Allocated { holder: String },
    Transfer { holder: String, receiver: String },
    Over,
}

impl Allocation {
    fn holder(&self) -> Option<&str> {
        match self {
            Self::Allocated { holder } | Self::Transfer { holder, .. } => Some(holder),
            Self::Waiting | Self::Free | Self::Over => None,
        }
    }
}

#[derive(Debug)]
struct Slot {
    allocation: Allocation,
    checkpoint: String,
    updated: UnixMicros,
    consumer: String,
}

#[derive(Debug)]
pub(super) struct Group {
    settings: GroupSettings,
    /// Last heartbeat of each living consumer.
    consumers: BTreeMap<String, UnixMicros>,
    slots: BTreeMap<ShardId, Slot>,
    commits: BTreeMap<String, CommitCounts>,
    heartbeats: u64,
    /// Longest time between two heartbeats of each consumer, in milliseconds, also of those who are gone.
    longest_gaps_ms: BTreeMap<String, u64>,
    expired_holders: u64,
}

/// Longest consumer name that is believed.
const CONSUMER_NAME_LEN: usize = 1024;
/// Consumers whose commits are counted; a group that sees more names than this counts the rest together.
const COUNTED_CONSUMERS: usize = 4096;

pub(super) fn bad_settings() -> Refusal {
    Refusal::new(400, "JsonInfoInvalid", "consumerGroup or timeout is of error format".into())
}

impl Group {
    pub fn new(settings: GroupSettings) -> Result<Self, Refusal> {
        if settings.timeout_s == 0 {
            return Err(bad_settings());
        }
        Ok(Self {
            settings,
            consumers: BTreeMap::new(),
            slots: BTreeMap::new(),
            commits: BTreeMap::new(),
            heartbeats: 0,
            longest_gaps_ms: BTreeMap::new(),
            expired_holders: 0,
        })
    }

    pub fn settings(&self) -> GroupSettings {
        self.settings
    }

    pub fn update(&mut self, timeout_s: Option<u32>, order: Option<bool>) -> Result<(), Refusal> {
        if timeout_s == Some(0) {
            return Err(bad_settings());
        }
        self.settings.timeout_s = timeout_s.unwrap_or(self.settings.timeout_s);
        self.settings.order = order.unwrap_or(self.settings.order);
        Ok(())
    }

    pub fn heartbeat(
        &mut self,
        consumer: &str,
        held: &[ShardId],
        facts: &Facts,
        most_consumers: usize,
        now: UnixMicros,
    ) -> Result<Vec<ShardId>, Refusal> {
        self.expire(now);
        if !self.consumers.contains_key(consumer) {
            if !held.is_empty() {
                return Err(Refusal::new(
                    400,
                    "NotExistConsumerWithBody",
                    "non-exist consumer with non-empty body of heartbeat message".into(),
                ));
            }
            if consumer.is_empty() || consumer.len() > CONSUMER_NAME_LEN || self.consumers.len() >= most_consumers {
                return Err(Refusal::parameter("consumer name is invalid or the group has too many consumers".into()));
            }
        }
        self.heartbeats += 1;
        if let Some(last) = self.consumers.insert(consumer.to_owned(), now) {
            let gap = now.since(last).as_millis() as u64;
            if self.longest_gaps_ms.len() < COUNTED_CONSUMERS || self.longest_gaps_ms.contains_key(consumer) {
                let longest = self.longest_gaps_ms.entry(consumer.to_owned()).or_default();
                *longest = gap.max(*longest);
            }
        }
        self.refresh(facts);
        self.hand_over(consumer, held);
        self.balance();
        let owned = |(id, slot): (&ShardId, &Slot)| {
            matches!(&slot.allocation, Allocation::Allocated { holder } if holder == consumer).then_some(*id)
        };
        Ok(self.slots.iter().filter_map(owned).collect())
    }

    pub fn checkpoints(&mut self, shard: Option<ShardId>, facts: &Facts) -> Vec<CheckpointView> {
        self.refresh(facts);
        let view = |(id, slot): (&ShardId, &Slot)| CheckpointView {
            shard: *id,
            checkpoint: slot.checkpoint.clone(),
            updated: slot.updated,
            consumer: slot.consumer.clone(),
        };
        match shard {
            Some(shard) => self.slots.get_key_value(&shard).map(view).into_iter().collect(),
            None => self.slots.iter().map(view).collect(),
        }
    }

    pub fn commit(
        &mut self,
        consumer: &str,
        shard: ShardId,
        checkpoint: &str,
        force: bool,
        facts: &Facts,
        now: UnixMicros,
    ) -> Result<(), Refusal> {
        self.expire(now);
        self.refresh(facts);
        let result = self.take_commit(consumer, shard, checkpoint, force, facts, now);
        let name = if self.commits.len() < COUNTED_CONSUMERS || self.commits.contains_key(consumer) {
            consumer
        } else {
            "(others)"
        };
        let counts = self.commits.entry(name.to_owned()).or_default();
        match result {
            Ok(backwards) => {
                counts.accepted += 1;
                counts.backwards += u64::from(backwards);
                Ok(())
            }
            Err(refusal) => {
                counts.refused += 1;
                Err(refusal)
            }
        }
    }

    /// Stores a checkpoint; answers whether it moved back.
    fn take_commit(
        &mut self,
        consumer: &str,
        shard: ShardId,
        checkpoint: &str,
        force: bool,
        facts: &Facts,
        now: UnixMicros,
    ) -> Result<bool, Refusal> {
        let encoded = checkpoint.trim_end_matches('=');
        if checkpoint.len() > 1024 || data_encoding::BASE64_NOPAD.decode(encoded.as_bytes()).is_err() {
            let message = "shard checkpoint not encoded by base64".into();
            return Err(Refusal::new(400, "InvalidShardCheckPoint", message));
        }
        if !force && !self.consumers.contains_key(consumer) {
            return Err(Refusal::new(404, "ConsumerNotExist", "consumer not exist in the consumer group".into()));
        }
        let missing = || Refusal::new(404, "ShardNotExist", "shard not exist".into());
        let (slot, fact) = self.slots.get_mut(&shard).zip(facts.get(&shard)).ok_or_else(missing)?;
        if !force && slot.allocation.holder() != Some(consumer) {
            return Err(Refusal::new(400, "ConsumerNotMatch", "consumer doesn't match".into()));
        }
        let (old, new) = (decode_cursor(&slot.checkpoint), decode_cursor(checkpoint));
        slot.checkpoint = checkpoint.to_owned();
        slot.updated = now;
        let at_end = fact.readonly && new == Some(fact.end);
        match &slot.allocation {
            Allocation::Allocated { .. } if at_end => slot.allocation = Allocation::Over,
            Allocation::Over if !at_end => slot.allocation = Allocation::Free,
            _ => {}
        }
        Ok(old.is_some() && new < old)
    }

    pub fn state(&self, facts: &Facts) -> GroupState {
        let shard = |(id, slot): (&ShardId, &Slot)| GroupShardState {
            shard: *id,
            state: match slot.allocation {
                Allocation::Waiting => 'W',
                Allocation::Free => 'N',
                Allocation::Allocated { .. } => 'A',
                Allocation::Transfer { .. } => 'T',
                Allocation::Over => 'O',
            },
            owner: slot.allocation.holder().map(str::to_owned),
            receiver: match &slot.allocation {
                Allocation::Transfer { receiver, .. } => Some(receiver.clone()),
                _ => None,
            },
            checkpoint: slot.checkpoint.clone(),
            at_end: facts.get(id).is_some_and(|fact| decode_cursor(&slot.checkpoint) == Some(fact.end)),
            updated_us: slot.updated.0,
        };
        GroupState {
            timeout_s: self.settings.timeout_s,
            order: self.settings.order,
            consumers: self.consumers.keys().cloned().collect(),
            shards: self.slots.iter().map(shard).collect(),
            commits: self.commits.clone(),
            heartbeats: self.heartbeats,
            longest_gaps_ms: self.longest_gaps_ms.clone(),
            expired_holders: self.expired_holders,
        }
    }

    /// Removes consumers whose last heartbeat is older than the timeout, and frees what they held.
    fn expire(&mut self, now: UnixMicros) {
        let timeout = Duration::from_secs(self.settings.timeout_s.into());
        let holds = |slots: &BTreeMap<ShardId, Slot>, name: &str| {
            slots.values().any(|slot| slot.allocation.holder() == Some(name))
        };
        let (slots, expired, before) = (&self.slots, &mut self.expired_holders, self.consumers.len());
        self.consumers.retain(|name, last| {
            let lives = now.since(*last) <= timeout;
            *expired += u64::from(!lives && holds(slots, name));
            lives
        });
        if self.consumers.len() == before {
            return;
        }
        let lives = |name: &String| self.consumers.contains_key(name);
        for slot in self.slots.values_mut() {
            match &slot.allocation {
                Allocation::Allocated { holder } | Allocation::Transfer { holder, .. } if !lives(holder) => {
                    slot.allocation = Allocation::Free;
                }
                Allocation::Transfer { holder, receiver } if !lives(receiver) => {
                    slot.allocation = Allocation::Allocated { holder: holder.clone() };
                }
                _ => {}
            }
        }
    }

    /// Takes up new shards, forgets those that are gone, and frees those whose ancestors are over.
    pub fn refresh(&mut self, facts: &Facts) {
        if !same_shards(&self.slots, facts) {
            self.slots.retain(|id, _| facts.contains_key(id));
            for id in facts.keys() {
                self.slots.entry(*id).or_insert_with(|| Slot {
                    allocation: Allocation::Waiting,
                    checkpoint: String::new(),
                    updated: UnixMicros(0),
                    consumer: String::new(),
                });
            }
        }
        if !self.slots.values().any(|slot| slot.allocation == Allocation::Waiting) {
            return;
        }
        let over: BTreeSet<ShardId> =
            self.slots.iter().filter(|(_, slot)| slot.allocation == Allocation::Over).map(|(id, _)| *id).collect();
        for (id, slot) in &mut self.slots {
            if slot.allocation == Allocation::Waiting && (!self.settings.order || ancestors_over(*id, facts, &over)) {
                slot.allocation = Allocation::Free;
            }
        }
    }

    /// Shards that the caller was to give up and lists no longer go to those they were promised to.
    fn hand_over(&mut self, caller: &str, held: &[ShardId]) {
        let held: BTreeSet<&ShardId> = held.iter().collect();
        for (id, slot) in &mut self.slots {
            if let Allocation::Transfer { holder, receiver } = &slot.allocation
                && holder == caller
                && !held.contains(id)
            {
                let holder = receiver.clone();
                slot.consumer.clone_from(&holder);
                slot.allocation = Allocation::Allocated { holder };
            }
        }
    }

    /// Gives free shards to those with the fewest, then evens out until no two differ by more than one.
    fn balance(&mut self) {
        let mut load: BTreeMap<String, usize> = self.consumers.keys().map(|name| (name.clone(), 0)).collect();
        for slot in self.slots.values() {
            if let Allocation::Allocated { holder: owner } | Allocation::Transfer { receiver: owner, .. } =
                &slot.allocation
                && let Some(count) = load.get_mut(owner)
            {
                *count += 1;
            }
        }
        for slot in self.slots.values_mut() {
            if slot.allocation == Allocation::Free
                && let Some((name, count)) = fewest(&mut load)
            {
                *count += 1;
                slot.consumer.clone_from(name);
                slot.allocation = Allocation::Allocated { holder: name.clone() };
            }
        }
        while let Some((giver, receiver, id)) = self.next_move(&load) {
            *load.entry(giver.clone()).or_default() -= 1;
            *load.entry(receiver.clone()).or_default() += 1;
            if let Some(slot) = self.slots.get_mut(&id) {
                slot.allocation = Allocation::Transfer { holder: giver, receiver };
            }
        }
    }

    /// The next shard to promise to another: an allocated one of the largest that has any, if the smallest has at
    /// least two fewer.
    fn next_move(&self, load: &BTreeMap<String, usize>) -> Option<(String, String, ShardId)> {
        let (receiver, least) = load.iter().min_by_key(|(_, count)| **count)?;
        let allocated = |name: &str| {
            let of = |slot: &Slot| matches!(&slot.allocation, Allocation::Allocated { holder } if holder == name);
            self.slots.iter().rev().find(|(_, slot)| of(slot)).map(|(id, _)| *id)
        };
        let mut givers: Vec<_> = load.iter().filter(|(_, count)| **count > least + 1).collect();
        givers.sort_by_key(|(name, count)| (std::cmp::Reverse(**count), name.as_str()));
        givers.iter().find_map(|(name, _)| Some(((*name).clone(), receiver.clone(), allocated(name)?)))
    }
}

/// Whether two maps are about the same shards, of which one has been told of all that there ever were: a number is given
/// once, and the highest last.
pub(super) fn same_shards<A, B>(one: &BTreeMap<ShardId, A>, other: &BTreeMap<ShardId, B>) -> bool {
    one.len() == other.len() && one.keys().next_back() == other.keys().next_back()
}

fn fewest(load: &mut BTreeMap<String, usize>) -> Option<(&String, &mut usize)> {
    // The first of equals, which is the first by name.
    load.iter_mut().min_by_key(|(_, count)| **count)
}

/// Whether all ancestors are over; one that the retention time removed is.
fn ancestors_over(id: ShardId, facts: &Facts, over: &BTreeSet<ShardId>) -> bool {
    let mut open: Vec<ShardId> = facts.get(&id).map(|fact| fact.parents.clone()).unwrap_or_default();
    let mut seen = BTreeSet::new();
    while let Some(ancestor) = open.pop() {
        let Some(fact) = facts.get(&ancestor).filter(|_| seen.insert(ancestor)) else { continue };
        if !over.contains(&ancestor) {
            return false;
        }
        open.extend(&fact.parents);
    }
    true
}

#[cfg(test)]
#[path = "group_tests.rs"]
mod tests;
