//! The summary line: what happened since the last one, and what there is to know while nothing does (rule U8).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use slog::{KV, Logger, Record, Serializer, info};

use crate::counters::CountersSnapshot;
use crate::messages::{ForwarderStatus, Phase, ReceiverState};
use crate::model::ids::ShardId;

/// Writes the line when it is due and remembers what it needs for the next.
#[derive(Debug)]
pub(super) struct Summary {
    interval: Duration,
    due: Instant,
    before: CountersSnapshot,
    at: Instant,
    received_s: BTreeMap<ShardId, i64>,
    any_settled: bool,
    last_commit: Option<Instant>,
    headline: String,
    /// Days for which SLS keeps logs, where told.
    pub(super) ttl_days: Option<u32>,
    /// When SLS received the oldest log that is not committed, while we wait for the receiver.
    pub(super) oldest_s: Option<i64>,
    /// A heartbeat was answered, and the leases that came with it have not run out.
    pub(super) is_member: bool,
    /// The group's timeout.
    pub(super) group_timeout: Duration,
}

/// How often the line comes while nothing moves.
const IDLE_INTERVAL: Duration = Duration::from_secs(60);

impl Summary {
    pub(super) fn new(now: Instant, interval: Duration) -> Self {
        Self {
            interval,
            due: now + interval,
            before: CountersSnapshot::default(),
            at: now,
            received_s: BTreeMap::new(),
            any_settled: false,
            last_commit: None,
            headline: String::new(),
            ttl_days: None,
            oldest_s: None,
            is_member: false,
            group_timeout: Duration::ZERO,
        }
    }

    pub(super) fn due(&self) -> Instant {
        self.due
    }

    pub(super) fn committed(&mut self, at: Instant) {
        self.last_commit = Some(at);
    }

    /// Everything up to what SLS received at that second is settled. Says whether this is the first time with a batch.
    pub(super) fn settled(&mut self, shard: ShardId, received_s: Option<i64>, delivered: bool) -> bool {
        if let Some(received_s) = received_s {
            self.received_s.insert(shard, received_s);
        }
        delivered && !std::mem::replace(&mut self.any_settled, true)
    }

    /// The shard is read to its end, or read by somebody else: it lags behind nothing.
    pub(super) fn forget(&mut self, shard: ShardId) {
        self.received_s.remove(&shard);
    }

    /// The worst lag over these shards, in seconds; none while all of them are read to their end.
    pub(super) fn lag_s(&self, shards: impl Iterator<Item = ShardId>) -> Option<i64> {
        let oldest = shards.filter_map(|shard| self.received_s.get(&shard)).min()?;
        Some(age_s(*oldest))
    }

    pub(super) fn write(&mut self, now: Instant, log: &Logger, status: &ForwarderStatus) {
        let (new, old) = (status.counters, self.before);
        let idle = new.raw_bytes == old.raw_bytes && new.logs_delivered == old.logs_delivered;
        self.due = now + self.interval;
        let headline = self.headline_of(status);
        if idle && headline == self.headline && now < self.at + IDLE_INTERVAL {
            return;
        }
        let seconds = now.saturating_duration_since(self.at).as_secs_f64().max(0.001);
        let rate = (new.logs_delivered - old.logs_delivered) as f64 / seconds;
        info!(log, "{}", headline;
            "shards" => status.shards.len(),
            "logs" => new.logs_delivered - old.logs_delivered,
            "logs_per_s" => rate.round() as u64,
            "mb_in" => (new.raw_bytes - old.raw_bytes) / 1_000_000,
            "mb_confirmed" => (new.bytes_confirmed - old.bytes_confirmed) / 1_000_000,
            "resent" => new.messages_resent - old.messages_resent,
            "altered" => new.messages_altered - old.messages_altered,
            "truncated" => new.messages_truncated - old.messages_truncated,
            "gaps" => new.gaps - old.gaps,
            IfAny("cut", new.connections_cut - old.connections_cut),
            IfAny("refused", new.messages_refused - old.messages_refused),
            IfAny("set_aside", new.logs_set_aside - old.logs_set_aside),
            "confirmation" => status.confirmation.as_str(),
            IfKnown("panics", (new.panics > 0).then_some(new.panics as i64)),
            IfKnown("lag_s", status.lag_s),
            IfKnown("last_commit_s", self.last_commit.map(|at| now.saturating_duration_since(at).as_secs() as i64)),
            IfKnown("oldest_age_s", self.oldest_s.map(age_s)),
            IfKnown("retention_left_s", self.retention_left_s()),
        );
        self.before = new;
        self.at = now;
        self.headline = headline;
    }

    /// How long until SLS drops the oldest log that is not committed.
    fn retention_left_s(&self) -> Option<i64> {
        Some(i64::from(self.ttl_days?) * 86_400 - age_s(self.oldest_s?))
    }

    /// What the line says in words: what is going on, or why nothing is.
    fn headline_of(&self, status: &ForwarderStatus) -> String {
        match (&status.phase, &status.receiver) {
            (Phase::Joining, _) => "waiting for SLS: not a member of the group yet".to_owned(),
            (Phase::AwaitingReceiver, ReceiverState::Down { why }) => {
                format!("waiting for the receiver before any shard is asked for: {why}")
            }
            (Phase::AwaitingReceiver, _) => "waiting for the receiver before any shard is asked for".to_owned(),
            (Phase::Stopping, _) => "stopping".to_owned(),
            (Phase::Ended, _) => "ended".to_owned(),
            (Phase::Member, ReceiverState::Down { why }) => format!("the receiver is down: {why}"),
            (Phase::Member, _) if !self.is_member => {
                "waiting for SLS to answer a heartbeat: no shard is held".to_owned()
            }
            (Phase::Member, _) if status.shards.is_empty() => format!(
                "standby: other consumers of the group hold all shards; a shard comes here when its holder gives it \
                 back, or {} s after its holder has fallen silent",
                self.group_timeout.as_secs()
            ),
            (Phase::Member, _) => "forwarding".to_owned(),
        }
    }
}

/// A count that the line carries only where it is not 0.
struct IfAny(&'static str, u64);

impl KV for IfAny {
    fn serialize(&self, _: &Record<'_>, serializer: &mut dyn Serializer) -> slog::Result {
        if self.1 == 0 { Ok(()) } else { serializer.emit_u64(self.0, self.1) }
    }
}

/// A number that the line carries only where there is one.
struct IfKnown(&'static str, Option<i64>);

impl KV for IfKnown {
    fn serialize(&self, _: &Record<'_>, serializer: &mut dyn Serializer) -> slog::Result {
        self.1.map_or(Ok(()), |number| serializer.emit_i64(self.0, number))
    }
}

fn age_s(unix_s: i64) -> i64 {
    (chrono::Utc::now().timestamp() - unix_s).max(0)
}
