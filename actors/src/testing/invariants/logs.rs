//! What was produced, and what became of it at the receiver and in the dead letter.

use std::hash::Hasher;
use std::ops::Range;

use super::{Checker, Inner};
use crate::loghub::decode_cursor;
use crate::model::ids::ShardId;
use crate::testing::dead_letter::KeptLog;
use crate::testing::receiver::Sighting;
use crate::wire::dead_letter::Text;
use crate::wire::syslog::parse::{Message, parse, split_key_values};

pub(super) struct Log {
    pub(super) shard: ShardId,
    pub(super) number: u64,
    pub(super) length: usize,
    pub(super) confirmed: bool,
    pub(super) read: u32,
    /// A gap record has named it.
    pub(super) named: bool,
    /// The dead letter has it.
    pub(super) kept: bool,
    /// The connection on which the receiver has answered that it does not take it, and may have taken what was on its
    /// way behind it.
    pub(super) refused_on: Option<usize>,
}

impl Log {
    /// Whether the receiver has it, or has been told that it gets it no more.
    pub(super) fn is_delivered(&self) -> bool {
        self.read > 0 || self.confirmed || self.named
    }

    /// Whether a checkpoint may pass it: what is set aside has to be in the dead letter before.
    pub(super) fn is_settled(&self) -> bool {
        self.read > 0 || self.confirmed || self.named && self.kept
    }
}

/// What is known of the logs of one shard.
#[derive(Default)]
pub(super) struct ShardLogs {
    /// Cursor number of the first log group.
    pub(super) first: u64,
    /// The logs of each log group, by cursor number from `first` on.
    pub(super) groups: Vec<Range<usize>>,
    /// Everything below this cursor number is settled.
    pub(super) settled: u64,
    /// Log groups below this one are not kept any more; all, if SLS has forgotten the shard.
    pub(super) oldest: u64,
    /// Who held and read the shard when SLS forgot it, and its acquisition: it can tell what is missing.
    pub(super) last_reader: Option<(String, u64)>,
    /// What gap records have named; without end if SLS has forgotten the shard.
    pub(super) gaps: Vec<(u64, Option<u64>)>,
    /// The furthest commit that was answered since the group was made.
    pub(super) acknowledged: Option<u64>,
}

impl ShardLogs {
    pub(super) fn end(&self) -> u64 {
        self.first + self.groups.len() as u64
    }
}
/// What a message has beside the text of its log, at most.
pub(super) const HEADER: usize = 300;

impl Checker {
    /// The receiver has acknowledged or read a message.
    pub fn sighted(&self, sighting: Sighting, connection: usize, message: &[u8]) {
        let inner = &mut *self.0.borrow_mut();
        inner.trace.write(message);
        inner.note(|| format!("{sighting:?}: {}", String::from_utf8_lossy(&message[..message.len().min(120)])));
        match read_message(message) {
            Ok(Content::Log { id, text }) => inner.log_sighted(sighting, connection, id, text),
            // A gap record that is refused names nothing.
            Ok(Content::SetAside { .. } | Content::Gap { .. }) if sighting == Sighting::Refused => {}
            Ok(Content::SetAside { shard, from, place }) => inner.set_aside(sighting, shard, from, place),
            Ok(Content::Gap { shard, from, to }) => inner.gap_sighted(sighting, shard, from, to),
            Err(what) => {
                let shown = String::from_utf8_lossy(&message[..message.len().min(200)]).into_owned();
                inner.violated(format!("{what}: {shown}"));
            }
        }
    }

    /// The dead letter has kept a log.
    pub fn kept(&self, kept: &KeptLog) {
        let inner = &mut *self.0.borrow_mut();
        inner.note(|| format!("kept: log {} from {} of shard {}", kept.place, kept.from, kept.shard));
        let found = decode_cursor(&kept.from).and_then(|from| inner.log_at(kept.shard, from, kept.place as usize));
        let text = |text: &str| Text::Utf8(text.to_owned());
        let id = kept.log.contents.iter().find(|(key, _)| *key == text("id")).map(|(_, id)| id);
        match found {
            Some(log) if id == Some(&text(&log.to_string())) => inner.logs[log].kept = true,
            _ => inner.violated(format!("C4: the dead letter keeps another log than {found:?}: {kept:?}")),
        }
    }
}

impl Inner {
    /// The first position of the shard that is not settled; `None` if nothing was ever written to it.
    pub(super) fn settled(&mut self, shard: ShardId) -> Option<u64> {
        let lives = |(name, number): &(String, u64)| {
            let epoch = self.consumers.get(name).and_then(|consumer| consumer.epochs.get(&shard));
            epoch.is_some_and(|epoch| epoch.number == *number && !epoch.lost)
        };
        let can_tell = self.shards.get(&shard)?.last_reader.as_ref().is_some_and(lives);
        let shard = self.shards.get_mut(&shard)?;
        if shard.oldest == u64::MAX && !can_tell {
            // SLS has forgotten it while nobody held it, or whoever held it has lost it since, or has ended.
            shard.settled = shard.end();
        }
        while shard.settled < shard.end() {
            let number = shard.settled;
            let group = shard.groups[(number - shard.first) as usize].clone();
            let named = shard.gaps.iter().any(|(from, to)| *from <= number && to.is_none_or(|to| number < to));
            if !named && !self.logs[group].iter().all(Log::is_settled) {
                break;
            }
            shard.settled += 1;
        }
        Some(shard.settled)
    }

    /// The first log that was confirmed and that the receiver's application has not read.
    pub(super) fn first_unread(&self) -> Option<usize> {
        self.logs.iter().position(|log| log.confirmed && log.read == 0)
    }

    fn log_sighted(&mut self, sighting: Sighting, connection: usize, id: usize, text: &[u8]) {
        let Some(log) = self.logs.get_mut(id) else { return self.violated(format!("log {id} was never produced")) };
        if text != text_of(id, log.length).as_bytes() {
            return self.violated(format!("log {id} was altered"));
        }
        match sighting {
            Sighting::Confirmed => return log.confirmed = true,
            Sighting::Refused => return log.refused_on = Some(connection),
            Sighting::Read => log.read += 1,
        }
        let (shard, number) = (log.shard, log.number);
        if log.read > 1 {
            self.duplicates += 1;
            return;
        }
        // I10: a first delivery finds everything before it delivered, but for the earlier logs of its own group, and for
        // what the receiver has refused on this connection: it may take what was on its way behind that.
        let Some(settled) = self.settled(shard) else { return };
        let logs = &self.shards[&shard];
        let passed = settled.min(number) - logs.first..number - logs.first;
        let groups = logs.groups.get(passed.start as usize..passed.end as usize).unwrap_or_default();
        let own = logs.groups[passed.end as usize].start..id;
        let mut before = groups.iter().cloned().chain([own]).flatten();
        let excused = |log: &Log| log.is_delivered() || log.refused_on == Some(connection);
        let overtakes = !before.all(|id| excused(&self.logs[id]));
        if overtakes {
            self.violated(format!("I10: log {id} (shard {shard}, {number}) overtakes log group {settled}"));
        }
    }

    /// The log at this place of a batch that begins at `from`.
    fn log_at(&self, shard: ShardId, from: u64, place: usize) -> Option<usize> {
        let logs = self.shards.get(&shard)?;
        let first = usize::try_from(from.checked_sub(logs.first)?).ok()?;
        logs.groups.get(first..)?.iter().cloned().flatten().nth(place)
    }

    /// A gap record names the log at this place of a batch that begins at `from`.
    fn set_aside(&mut self, sighting: Sighting, shard: ShardId, from: u64, place: usize) {
        if sighting == Sighting::Read {
            self.gaps += 1;
        }
        let named = self.log_at(shard, from, place);
        let Some(log) = named.and_then(|id| self.logs.get_mut(id)) else {
            return self
                .violated(format!("C4: log {place} from {from} of shard {shard} is set aside, which is not there"));
        };
        log.named = true;
        let length = log.length;
        let is_taken = self.terms.longest.is_none_or(|longest| length + HEADER < longest);
        if is_taken && !self.terms.receiver_misleads {
            self.violated(format!("C4: log {named:?} of {length} bytes is set aside, which the receiver takes"));
        }
    }

    fn gap_sighted(&mut self, sighting: Sighting, shard: ShardId, from: u64, to: u64) {
        if sighting == Sighting::Read {
            self.gaps += 1;
        }
        if !self.terms.logs_expire {
            self.violated(format!("I9: a gap record for shard {shard}, {from} to {to}, although nothing is missing"));
        }
        let Some(logs) = self.shards.get_mut(&shard) else { return };
        let (oldest, gone) = (logs.oldest, logs.oldest == u64::MAX);
        let range = if gone && from == to { (from, None) } else { (from, Some(to)) };
        if !logs.gaps.contains(&range) {
            logs.gaps.push(range);
        }
        if to > oldest {
            self.violated(format!(
                "I9: a gap record names {from} to {to} of shard {shard}, but SLS still holds {oldest}"
            ));
        }
    }
}

/// What a message of ours says.
enum Content<'a> {
    Log { id: usize, text: &'a [u8] },
    SetAside { shard: ShardId, from: u64, place: usize },
    Gap { shard: ShardId, from: u64, to: u64 },
}

fn read_message(message: &[u8]) -> Result<Content<'_>, String> {
    let Message { msgid, msg, .. } = parse(message).map_err(|error| error.to_string())?;
    let fields = split_key_values(msg.unwrap_or_default(), b"||").ok_or("a payload that is not key=value")?;
    let field = |key: &str| fields.iter().find(|(name, _)| *name == key.as_bytes()).map(|(_, value)| *value);
    let text = |key: &str| field(key).and_then(|value| std::str::from_utf8(value).ok());
    if msgid == Some("gap") {
        let shard = text("shard").and_then(|shard| shard.parse().ok()).map(ShardId).ok_or("a gap without shard")?;
        let from = text("from").and_then(decode_cursor).ok_or("a gap without beginning")?;
        let words: Vec<&str> = text("reason").unwrap_or_default().split(' ').take(7).collect();
        if let ["log", place, "of", "the", "batch", "is", "set"] = words[..] {
            let place = place.parse().map_err(|_| "a gap for a log without place")?;
            return Ok(Content::SetAside { shard, from, place });
        }
        let to = text("to").and_then(decode_cursor).ok_or("a gap without end")?;
        return Ok(Content::Gap { shard, from, to });
    }
    let id = text("id").and_then(|id| id.parse().ok()).ok_or("a log without id")?;
    Ok(Content::Log { id, text: field("text").ok_or("a log without text")? })
}

/// The text of a log: differs from log to log, compresses well.
pub(super) fn text_of(id: usize, length: usize) -> String {
    let word = format!("log-{id}.");
    word.chars().cycle().take(length).collect()
}
