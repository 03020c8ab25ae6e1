//! Fills the shards with made-up logs: a backlog at once, then so many each second.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use sls_syslog_actors::loghub::generate::{Generator, Kind};
use sls_syslog_actors::loghub::{Refusal, Route};
use sls_syslog_actors::model::ids::ShardId;

use super::serve::Service;

/// What to make.
#[derive(Debug, Clone)]
pub struct Feed {
    /// Kind of logs.
    pub kind: Kind,
    /// Seed of the generator.
    pub seed: u64,
    /// Logs in each log group.
    pub logs_per_group: u32,
    /// What is made before the feed's start returns.
    pub backlog: Option<Amount>,
    /// Uncompressed size of its blocks, each of which is one pull's body.
    pub body_bytes: usize,
    /// Logs each second from then on, over all shards.
    pub rate: Option<u64>,
    /// Ends the rate after so many logs.
    pub total: Option<u64>,
}

/// So many logs, or so many bytes before compression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Amount {
    /// Logs.
    Logs(u64),
    /// Bytes.
    Bytes(u64),
}

impl FromStr for Amount {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (digits, unit) = text.split_at(at);
        let number: u64 = digits.parse().map_err(|_| format!("{text:?} does not begin with a number"))?;
        let unit = match unit.to_ascii_lowercase().as_str() {
            "" => return Ok(Self::Logs(number)),
            "b" => 1,
            "kb" => 1000,
            "mb" => 1_000_000,
            "gb" => 1_000_000_000,
            "kib" => 1 << 10,
            "mib" => 1 << 20,
            "gib" => 1 << 30,
            other => return Err(format!("{other:?} is none of B, kB, MB, GB, KiB, MiB, GiB")),
        };
        number.checked_mul(unit).map(Self::Bytes).ok_or_else(|| format!("{text:?} is too much"))
    }
}

/// Uncompressed size of a prepared block, unless told otherwise.
pub const BLOCK_BYTES: usize = 2_000_000;
/// How often the rate is served.
const TICK: Duration = Duration::from_millis(100);

/// Makes logs for the shards of one logstore; a stream for each shard, numbered from 0.
pub(super) struct Feeder {
    service: Arc<Service>,
    feed: Feed,
    generator: Generator,
    next: BTreeMap<ShardId, u64>,
    /// Where the next round over the shards begins.
    turn: usize,
}

impl Feeder {
    pub fn new(service: Arc<Service>, feed: Feed) -> Self {
        let generator = Generator::new(feed.kind, feed.seed);
        Self { service, feed, generator, next: BTreeMap::new(), turn: 0 }
    }

    /// Makes the backlog, the same for each shard to within a block.
    pub fn backlog(&mut self) -> Result<(), Refusal> {
        let Some(amount) = self.feed.backlog else { return Ok(()) };
        let (mut logs, mut bytes) = match amount {
            Amount::Logs(logs) => (logs, u64::MAX),
            Amount::Bytes(bytes) => (u64::MAX, bytes),
        };
        let per_round = self.shards()?.len().max(1) as u64;
        // Small backlogs are spread evenly too.
        let most = if logs == u64::MAX { u64::MAX } else { logs.div_ceil(per_round) };
        while logs > 0 && bytes > 0 {
            let shards = self.shards()?;
            if shards.is_empty() {
                return Err(Refusal::new(400, "LogStoreWithoutShard", "the logstore has no shard".into()));
            }
            for shard in shards {
                if logs == 0 || bytes == 0 {
                    break;
                }
                let share = usize::try_from(bytes.div_ceil(per_round)).unwrap_or(usize::MAX);
                let size = self.feed.body_bytes.min(share);
                let (made, raw) = self.block(shard, logs.min(most), size)?;
                logs -= made.min(logs);
                bytes -= raw.min(bytes);
            }
        }
        Ok(())
    }

    /// Serves the rate until it is told to stop or the total is reached.
    pub fn run(mut self, stop: &Receiver<()>) {
        let Some(rate) = self.feed.rate.filter(|rate| *rate > 0) else { return };
        let total = self.feed.total.unwrap_or(u64::MAX);
        let (started, mut made) = (Instant::now(), 0);
        while made < total {
            match stop.recv_timeout(TICK) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
            }
            // By the time that passed, not by ticks: a late tick catches up.
            let due = (started.elapsed().as_millis() * u128::from(rate) / 1000).min(total.into()) as u64;
            while made < due {
                match self.round(due - made) {
                    Ok(0) | Err(_) => break,
                    Ok(round) => made += round,
                }
            }
        }
    }

    /// Spreads up to `logs` over the shards, a log group or a block each.
    fn round(&mut self, logs: u64) -> Result<u64, Refusal> {
        let shards = self.shards()?;
        let share = logs.div_ceil(shards.len().max(1) as u64);
        let mut made = 0;
        for at in 0..shards.len() {
            let shard = shards[(self.turn + at) % shards.len()];
            let now = share.min(logs - made);
            if now == 0 {
                break;
            }
            made += if now > u64::from(self.feed.logs_per_group) * 8 {
                self.block(shard, now, self.feed.body_bytes)?.0
            } else {
                self.groups(shard, now)?
            };
        }
        self.turn = self.turn.wrapping_add(1);
        Ok(made)
    }

    /// Single log groups, which a pull later joins.
    fn groups(&mut self, shard: ShardId, logs: u64) -> Result<u64, Refusal> {
        let mut made = 0;
        while made < logs {
            let now = (logs - made).min(self.feed.logs_per_group.max(1).into());
            let first = self.next.get(&shard).copied().unwrap_or(0);
            let mut group = Vec::new();
            self.generator.group(&mut group, &stream(self.feed.kind, shard), first, now as u32, self.service.unix_s());
            let group = Bytes::from(group);
            self.service.with_logstore(|hub, at, time| hub.put(at, Route::Shard(shard), group, time))?;
            self.next.insert(shard, first + now);
            made += now;
        }
        Ok(made)
    }

    /// One block of at most so many logs and about so many bytes; answers how many and how much it was.
    fn block(&mut self, shard: ShardId, logs: u64, bytes: usize) -> Result<(u64, u64), Refusal> {
        let first = self.next.get(&shard).copied().unwrap_or(0);
        let broken = || Refusal::new(500, "InternalServerError", "the generator made no block".into());
        let unix_s = self.service.unix_s();
        let (block, made) = self
            .generator
            .block(&stream(self.feed.kind, shard), first, logs, self.feed.logs_per_group, bytes, unix_s)
            .ok_or_else(broken)?;
        let raw = block.raw_size();
        self.service.with_logstore(|hub, at, time| hub.append_block(at, shard, block, time))?;
        self.next.insert(shard, first + made);
        Ok((made, raw))
    }

    fn shards(&self) -> Result<Vec<ShardId>, Refusal> {
        let views = self.service.with_logstore(|hub, at, time| hub.list_shards(at, time))?;
        Ok(views.into_iter().filter(|view| !view.readonly).map(|view| view.shard).collect())
    }
}

/// Feeds of different kinds may share a shard, so the kind is part of a stream's name.
fn stream(kind: Kind, shard: ShardId) -> String {
    format!("{kind:?}-{shard}").to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_logs_or_bytes() {
        assert_eq!("10000".parse(), Ok(Amount::Logs(10_000)));
        assert_eq!("500MB".parse(), Ok(Amount::Bytes(500_000_000)));
        assert_eq!("2GiB".parse(), Ok(Amount::Bytes(2 << 30)));
        for bad in ["", "MB", "5 bananas", "99999999999999999999", "18446744073709551615GB"] {
            assert!(bad.parse::<Amount>().is_err(), "{bad:?}");
        }
    }
}
