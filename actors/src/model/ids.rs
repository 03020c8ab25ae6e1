//! The numbers that say which shard, which lease, which attempt and which batch something is about.

use std::fmt;

/// A shard of the logstore, by the number that SLS gave it; never reused within a logstore.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct ShardId(pub u32);

/// One acquisition of a shard's lease by this process; a shard lost and regained has another epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

/// One attempt at reading a shard within an epoch; each rewind begins the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub u32);

/// A batch of a shard, counted from 0 within an epoch; never reused, also not after a rewind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sequence(pub u64);

macro_rules! display_as_number {
    ($($name:ident),*) => {
        $(impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        })*
    };
}
display_as_number!(ShardId, Epoch, Generation, Sequence);
