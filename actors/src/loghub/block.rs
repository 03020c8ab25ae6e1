//! Log groups as bytes: lists of them, compressed once, and the check of what is put.

use bytes::{Buf, Bytes};
use prost::encoding::{WireType, decode_key, decode_varint, encode_varint, encoded_len_varint};

use crate::wire::sls::body::compress;
use crate::wire::sls::reply::Compression;

/// Many log groups, encoded as one `LogGroupList` and compressed when they were made.
///
/// A pull that asks for the whole block gets the same buffer; the uncompressed bytes are not kept.
#[derive(Debug, Clone)]
pub struct Block {
    /// Where each group's entry ends in the uncompressed list.
    ends: Box<[u32]>,
    logs: u64,
    lz4: Bytes,
}

impl Block {
    /// Compresses these log groups; `None` if there are none, if one is not a log group, or beyond 1 GiB.
    pub fn new<'a>(groups: impl IntoIterator<Item = &'a [u8]>) -> Option<Self> {
        let mut list = Vec::new();
        let mut ends = Vec::new();
        let mut logs = 0;
        for group in groups {
            logs += u64::from(count_logs(group)?);
            push_entry(&mut list, group);
            if list.len() > 1 << 30 {
                return None;
            }
            ends.push(u32::try_from(list.len()).ok()?);
        }
        (!ends.is_empty()).then(|| Self { lz4: compress(&list, Compression::Lz4).into(), ends: ends.into(), logs })
    }

    /// Number of log groups.
    pub fn groups(&self) -> u64 {
        self.ends.len() as u64
    }

    /// Number of logs.
    pub fn logs(&self) -> u64 {
        self.logs
    }

    /// Size of the uncompressed list.
    pub fn raw_size(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0).into()
    }

    /// The compressed list; a clone shares the buffer.
    pub fn lz4(&self) -> &Bytes {
        &self.lz4
    }

    /// The uncompressed entries of at most `count` groups from the one at `skip`, as many as begin below `soft_cap`
    /// bytes, and how many they are.
    pub(super) fn slice(&self, skip: u64, count: u64, soft_cap: u64) -> Option<(Vec<u8>, u64)> {
        let skip = usize::try_from(skip).ok()?;
        let begin = if skip == 0 { 0 } else { *self.ends.get(skip - 1)? };
        let rest = self.ends.get(skip..)?;
        let below = 1 + rest.iter().take_while(|end| u64::from(**end - begin) <= soft_cap).count();
        let taken = below.min(rest.len()).min(usize::try_from(count).unwrap_or(usize::MAX));
        let end = *rest.get(taken.checked_sub(1)?)?;
        let list = lz4::block::decompress(&self.lz4, Some(i32::try_from(self.raw_size()).ok()?)).ok()?;
        Some((list.get(begin as usize..end as usize)?.to_vec(), taken as u64))
    }
}

/// Appends `group` to a `LogGroupList`.
pub(super) fn push_entry(list: &mut Vec<u8>, group: &[u8]) {
    list.push(0x0a);
    encode_varint(group.len() as u64, list);
    list.extend_from_slice(group);
}

/// Size of a group's entry in a `LogGroupList`.
pub(super) fn entry_len(group: usize) -> u64 {
    (1 + encoded_len_varint(group as u64) + group) as u64
}

/// Counts the logs of an encoded `LogGroup`; `None` if it is not one: broken framing, a log without its time, or a
/// field or tag without key and value.
pub fn count_logs(group: &[u8]) -> Option<u32> {
    let mut logs = 0;
    for_each_field(group, |tag, value| match (tag, value) {
        (1, Field::Bytes(log)) => {
            logs += 1;
            check_log(log)
        }
        (6, Field::Bytes(pair)) => check_pair(pair),
        (1..=6, Field::Bytes(_)) => Some(()),
        (1..=6, Field::Other) => None,
        _ => Some(()),
    })?;
    Some(logs)
}

fn check_log(log: &[u8]) -> Option<()> {
    let mut timed = false;
    for_each_field(log, |tag, value| match (tag, value) {
        (1, Field::Other) => {
            timed = true;
            Some(())
        }
        (1, Field::Bytes(_)) | (2, Field::Other) => None,
        (2, Field::Bytes(pair)) => check_pair(pair),
        _ => Some(()),
    })?;
    timed.then_some(())
}

fn check_pair(pair: &[u8]) -> Option<()> {
    let mut seen = [false; 2];
    for_each_field(pair, |tag, value| match (tag, value) {
        (1 | 2, Field::Bytes(_)) => {
            seen[tag as usize - 1] = true;
            Some(())
        }
        (1 | 2, Field::Other) => None,
        _ => Some(()),
    })?;
    (seen == [true; 2]).then_some(())
}

enum Field<'a> {
    Bytes(&'a [u8]),
    Other,
}

fn for_each_field(mut message: &[u8], mut visit: impl FnMut(u32, Field<'_>) -> Option<()>) -> Option<()> {
    while !message.is_empty() {
        let (tag, wire) = decode_key(&mut message).ok()?;
        let length = match wire {
            WireType::Varint => {
                decode_varint(&mut message).ok()?;
                visit(tag, Field::Other)?;
                continue;
            }
            WireType::ThirtyTwoBit => 4,
            WireType::SixtyFourBit => 8,
            WireType::LengthDelimited => usize::try_from(decode_varint(&mut message).ok()?).ok()?,
            WireType::StartGroup | WireType::EndGroup => return None,
        };
        let value = message.get(..length)?;
        visit(tag, if wire == WireType::LengthDelimited { Field::Bytes(value) } else { Field::Other })?;
        message.advance(length);
    }
    Some(())
}
