//! One shard: a key range, log groups in the order of their receipt, and the cursors that count them.

use std::collections::VecDeque;

use bytes::Bytes;

use super::block::{Block, entry_len, push_entry};
use super::{Limits, Refusal, UnixMicros};
use crate::model::ids::ShardId;
use crate::wire::sls::body::compress;
use crate::wire::sls::reply::Compression;

/// A shard as ListShards tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardView {
    /// Its number.
    pub shard: ShardId,
    /// Whether it was split or merged and receives nothing any more.
    pub readonly: bool,
    /// First key of its range.
    pub begin_key: u128,
    /// Key after its range; the topmost key stands for the end of the key space, which the last shard includes.
    pub end_key: u128,
    /// When it appeared.
    pub created: UnixMicros,
}

/// GetCursor's `from`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// The oldest log group kept.
    Begin,
    /// After the newest log group.
    End,
    /// The first log group received at or after this second.
    UnixSeconds(i64),
}

/// What a pull asks for.
#[derive(Debug, Clone, Copy)]
pub struct Pull<'a> {
    /// First log group.
    pub cursor: &'a str,
    /// Stop before this one.
    pub end_cursor: Option<&'a str>,
    /// At most so many log groups, 1 to 1000.
    pub count: u32,
    /// Wanted compression.
    pub compression: Compression,
}

/// What a pull gets.
#[derive(Debug, Clone)]
pub struct PullAnswer {
    /// Number of log groups in the body.
    pub count: u32,
    /// Cursor after the last of them.
    pub next_cursor: String,
    /// Number of the last of them (`x-log-read-last-cursor`).
    pub last_number: Option<u64>,
    /// Size of the uncompressed body.
    pub raw_size: u64,
    /// One `LogGroupList`, compressed as asked; empty without log groups.
    pub body: Bytes,
    /// Unix seconds of the last group's receipt; now, if there is none.
    pub cursor_time_s: i64,
    /// Whether the answer reaches the present end of the shard.
    pub end_of_shard: bool,
}

/// Writes a cursor: base64 of the decimal number.
pub fn encode_cursor(number: u64) -> String {
    data_encoding::BASE64.encode(number.to_string().as_bytes())
}

/// Reads a cursor, with or without padding.
pub fn decode_cursor(cursor: &str) -> Option<u64> {
    if cursor.len() > 64 {
        return None;
    }
    let digits = data_encoding::BASE64_NOPAD.decode(cursor.trim_end_matches('=').as_bytes()).ok()?;
    let plain = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(&digits).ok().filter(|_| plain)?.parse().ok()
}

#[derive(Debug)]
pub(super) struct Shard {
    pub id: ShardId,
    pub begin_key: u128,
    pub end_key: u128,
    pub created: UnixMicros,
    pub readonly_since: Option<UnixMicros>,
    pub parents: Vec<ShardId>,
    entries: VecDeque<Entry>,
    /// Cursor number of the oldest log group kept.
    oldest: u64,
    /// Cursor number after the newest one.
    next: u64,
    held_bytes: u64,
    newest_received: UnixMicros,
    cache: VecDeque<Cached>,
    cached_bytes: usize,
    pub totals: Totals,
}

/// What a shard ever received.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Totals {
    pub groups: u64,
    pub logs: u64,
    pub raw_bytes: u64,
}

#[derive(Debug)]
struct Entry {
    first: u64,
    received: UnixMicros,
    data: Data,
}

#[derive(Debug)]
enum Data {
    Group(Bytes),
    Block(Block),
}

impl Entry {
    fn end(&self) -> u64 {
        self.first + self.groups()
    }

    fn groups(&self) -> u64 {
        match &self.data {
            Data::Group(_) => 1,
            Data::Block(block) => block.groups(),
        }
    }

    fn held(&self) -> u64 {
        match &self.data {
            Data::Group(group) => group.len() as u64,
            Data::Block(block) => block.lz4().len() as u64,
        }
    }
}

#[derive(Debug)]
struct Cached {
    first: u64,
    groups: u64,
    raw_size: u64,
    body: Bytes,
}

impl Shard {
    pub fn new(id: ShardId, begin_key: u128, end_key: u128, parents: Vec<ShardId>, created: UnixMicros) -> Self {
        // Cursor number of the first log group. It differs from shard to shard, so that a mix-up is an error:
        // nanoseconds, as on the service, and a thousand seconds from shard to shard.
        let base = (created.0.max(1) as u64).wrapping_mul(1000).wrapping_add(u64::from(id.0) * 1_000_000_000_000);
        Self {
            id,
            begin_key,
            end_key,
            created,
            readonly_since: None,
            parents,
            entries: VecDeque::new(),
            oldest: base,
            next: base,
            held_bytes: 0,
            newest_received: created,
            cache: VecDeque::new(),
            cached_bytes: 0,
            totals: Totals::default(),
        }
    }

    pub fn view(&self) -> ShardView {
        ShardView {
            shard: self.id,
            readonly: self.readonly(),
            begin_key: self.begin_key,
            end_key: self.end_key,
            created: self.created,
        }
    }

    pub fn readonly(&self) -> bool {
        self.readonly_since.is_some()
    }

    /// Cursor number of the oldest log group kept.
    pub fn oldest_number(&self) -> u64 {
        self.oldest
    }

    /// Cursor number after the newest log group.
    pub fn end_number(&self) -> u64 {
        self.next
    }

    pub fn covers(&self, key: u128) -> bool {
        self.begin_key <= key && (key < self.end_key || self.end_key == u128::MAX)
    }

    pub fn append_group(&mut self, group: Bytes, logs: u32, now: UnixMicros) -> Result<u64, Refusal> {
        let raw = entry_len(group.len());
        self.append(Data::Group(group), logs.into(), raw, now)
    }

    pub fn append_block(&mut self, block: Block, now: UnixMicros) -> Result<u64, Refusal> {
        let (logs, raw) = (block.logs(), block.raw_size());
        self.append(Data::Block(block), logs, raw, now)
    }

    fn append(&mut self, data: Data, logs: u64, raw_bytes: u64, now: UnixMicros) -> Result<u64, Refusal> {
        if self.readonly() {
            return Err(Refusal::parameter(format!("shard {} is readonly", self.id)));
        }
        // Times of receipt must ascend, or a search for one finds nothing.
        self.newest_received = self.newest_received.max(now);
        let entry = Entry { first: self.next, received: self.newest_received, data };
        let first = self.next;
        self.next = entry.end();
        self.held_bytes += entry.held();
        self.totals.groups += entry.groups();
        self.totals.logs += logs;
        self.totals.raw_bytes += raw_bytes;
        self.entries.push_back(entry);
        Ok(first)
    }

    /// Forgets what is older than the retention time or beyond the bytes to keep.
    pub fn forget(&mut self, limits: &Limits, now: UnixMicros) {
        while let Some(entry) = self.entries.front() {
            let old = limits.retention.is_some_and(|keep| now.since(entry.received) > keep);
            if !old && self.held_bytes <= limits.shard_bytes {
                break;
            }
            self.held_bytes -= entry.held();
            self.oldest = entry.end();
            self.entries.pop_front();
        }
        while self.cache.front().is_some_and(|cached| cached.first < self.oldest) {
            self.uncache_oldest();
        }
    }

    /// Whether a read-only shard's data has passed the retention time.
    pub fn gone(&self, limits: &Limits, now: UnixMicros) -> bool {
        let passed = |since| limits.retention.is_some_and(|keep| now.since(since) > keep);
        self.entries.is_empty() && self.readonly_since.is_some_and(passed)
    }

    pub fn cursor(&self, from: From) -> String {
        encode_cursor(match from {
            From::Begin => self.oldest,
            From::End => self.next,
            From::UnixSeconds(seconds) => {
                let at = self.entries.partition_point(|entry| entry.received.seconds() < seconds);
                self.entries.get(at).map_or(self.next, |entry| entry.first)
            }
        })
    }

    pub fn cursor_time(&self, cursor: &str, now: UnixMicros) -> Result<i64, Refusal> {
        let number = self.position(cursor)?;
        Ok(self.entry_at(number).map_or(now.seconds(), |(_, entry)| entry.received.seconds()))
    }

    pub fn pull(&mut self, pull: &Pull<'_>, limits: &Limits, now: UnixMicros) -> Result<PullAnswer, Refusal> {
        if !(1..=1000).contains(&pull.count) {
            return Err(Refusal::parameter("ParameterCount should be in [0-1000]".into()));
        }
        let first = self.position(pull.cursor)?;
        let end = match pull.end_cursor {
            Some(cursor) => decode_cursor(cursor).ok_or_else(|| Refusal::cursor(cursor))?.min(self.next),
            None => self.next,
        };
        let wanted = end.saturating_sub(first).min(pull.count.into());
        let Some((at, entry)) = self.entry_at(first).filter(|_| wanted > 0) else {
            return Ok(PullAnswer {
                count: 0,
                next_cursor: encode_cursor(first),
                last_number: None,
                raw_size: 0,
                body: Bytes::new(),
                cursor_time_s: now.seconds(),
                end_of_shard: first == self.next,
            });
        };
        let (groups, raw_size, body) = match &entry.data {
            Data::Block(block)
                if first == entry.first
                    && wanted >= block.groups()
                    && pull.compression == Compression::Lz4
                    && block.raw_size() <= limits.pull_bytes =>
            {
                (block.groups(), block.raw_size(), block.lz4().clone())
            }
            Data::Block(block) => {
                let (raw, groups) = block
                    .slice(first - entry.first, wanted, limits.pull_bytes)
                    .ok_or_else(|| Refusal::new(500, "InternalServerError", "a stored block is broken".into()))?;
                let (raw_size, body) = encode(raw, pull.compression);
                (groups, raw_size, body)
            }
            Data::Group(_) => self.pull_groups(at, wanted, pull.compression, limits),
        };
        let received = self.entry_at(first + groups - 1).map_or(now, |(_, entry)| entry.received);
        Ok(PullAnswer {
            count: groups as u32,
            next_cursor: encode_cursor(first + groups),
            last_number: Some(first + groups - 1),
            raw_size,
            body,
            cursor_time_s: received.seconds(),
            end_of_shard: first + groups == self.next,
        })
    }

    /// Collects single groups from the entry at `at` on, up to the next block.
    fn pull_groups(&mut self, at: usize, wanted: u64, compression: Compression, limits: &Limits) -> (u64, u64, Bytes) {
        let (mut groups, mut raw_size) = (0, 0);
        for entry in self.entries.range(at..).take(wanted as usize) {
            let Data::Group(group) = &entry.data else { break };
            if groups > 0 && raw_size > limits.pull_bytes {
                break;
            }
            groups += 1;
            raw_size += entry_len(group.len());
        }
        let first = self.entries[at].first;
        let same =
            |cached: &&Cached| cached.first == first && cached.groups == groups && compression == Compression::Lz4;
        if let Some(cached) = self.cache.iter().rev().find(same) {
            return (groups, cached.raw_size, cached.body.clone());
        }
        let mut raw = Vec::with_capacity(raw_size as usize);
        for entry in self.entries.range(at..at + groups as usize) {
            if let Data::Group(group) = &entry.data {
                push_entry(&mut raw, group);
            }
        }
        let (raw_size, body) = encode(raw, compression);
        if compression == Compression::Lz4 && body.len() <= limits.cached_bytes {
            self.cached_bytes += body.len();
            self.cache.push_back(Cached { first, groups, raw_size, body: body.clone() });
            while self.cached_bytes > limits.cached_bytes {
                self.uncache_oldest();
            }
        }
        (groups, raw_size, body)
    }

    fn uncache_oldest(&mut self) {
        if let Some(cached) = self.cache.pop_front() {
            self.cached_bytes -= cached.body.len();
        }
    }

    /// A cursor's number, if it lies in what is kept or at the end.
    fn position(&self, cursor: &str) -> Result<u64, Refusal> {
        decode_cursor(cursor)
            .filter(|number| (self.oldest..=self.next).contains(number))
            .ok_or_else(|| Refusal::cursor(cursor))
    }

    fn entry_at(&self, number: u64) -> Option<(usize, &Entry)> {
        let at = self.entries.partition_point(|entry| entry.end() <= number);
        Some((at, self.entries.get(at)?))
    }
}

fn encode(raw: Vec<u8>, compression: Compression) -> (u64, Bytes) {
    (raw.len() as u64, compress(&raw, compression).into())
}
