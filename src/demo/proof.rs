//! The demo's proof: three accounts of the same logs, held against each other.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::chaos::Tally;
use crate::loghub::serve::Service;
use crate::receiver::check::Verdict;

/// What the embedded LogHub knows.
pub(super) struct Source {
    pub(super) service: Arc<Service>,
    pub(super) group: String,
}

impl Source {
    /// Logs that the shards hold.
    pub(super) fn produced(&self) -> u64 {
        self.service.with_logstore(|hub, at, _| {
            let state = hub.state();
            state.projects[at.project][at.logstore].shards.iter().map(|shard| shard.logs).sum()
        })
    }

    /// Shards that there are.
    pub(super) fn shards(&self) -> u32 {
        let shards =
            self.service.with_logstore(|hub, at, now| hub.list_shards(at, now).map_or(0, |shards| shards.len()));
        u32::try_from(shards).unwrap_or(u32::MAX)
    }

    /// Shards that somebody in the group holds.
    pub(super) fn shards_held(&self) -> usize {
        self.service.with_logstore(|hub, at, _| {
            let Ok(state) = hub.logstore_state(at) else { return 0 };
            let group = state.groups.get(&self.group);
            group.map_or(0, |group| group.shards.iter().filter(|shard| shard.owner.is_some()).count())
        })
    }

    /// Whether the group's checkpoint of every shard is at the shard's end.
    pub(super) fn checkpoints_at_end(&self) -> bool {
        self.service.with_logstore(|hub, at, _| {
            let state = hub.state();
            let group = state.projects[at.project][at.logstore].groups.get(&self.group);
            group.is_some_and(|group| group.shards.iter().all(|shard| shard.at_end && shard.updated_us > 0))
        })
    }
}

/// What happened, by all accounts.
#[derive(Debug)]
pub(super) struct Proof {
    pub(super) produced: u64,
    pub(super) verdict: Verdict,
    pub(super) checkpoints_at_end: bool,
    pub(super) shards: u32,
    pub(super) commits: u64,
    pub(super) raw_bytes: u64,
    pub(super) took: Duration,
    pub(super) gave_up: bool,
    /// What was done to the forwarder meanwhile.
    pub(super) tally: Option<Tally>,
}

impl Proof {
    /// Logs that were produced and never came.
    fn missing(&self) -> u64 {
        self.produced.saturating_sub(self.verdict.unique)
    }

    /// Whether everything that was produced came, whole and in order, and the checkpoints say so.
    pub(super) fn holds(&self) -> bool {
        let whole = self.missing() == 0 && self.verdict.holds() && self.checkpoints_at_end;
        // What a gap record names is missing all the same; nothing here is a reason for one.
        let chaos = self.tally.as_ref().is_none_or(|tally| tally.is_complete() && self.verdict.gap_records == 0);
        !self.gave_up && whole && chaos
    }
}

impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = &self.verdict;
        let malformed: u64 = verdict.malformed.values().sum();
        if let Some(tally) = &self.tally {
            writeln!(f, "{tally}")?;
        }
        writeln!(f, "proof")?;
        writeln!(f, "  produced     {:>9}  by LogHub's own count", self.produced)?;
        writeln!(f, "  delivered    {:>9}  different logs that the receiver has read", verdict.unique)?;
        writeln!(f, "  duplicates   {:>9}", verdict.duplicates)?;
        writeln!(f, "  missing      {:>9}", self.missing())?;
        writeln!(f, "  out of order {:>9}  within their shard", verdict.out_of_order)?;
        writeln!(f, "  malformed    {:>9}  not RFC 5424", malformed)?;
        let checkpoints = if self.checkpoints_at_end { "at the end of every shard" } else { "NOT at the end" };
        writeln!(f, "  checkpoints  {checkpoints} ({} shards, {} commits)", self.shards, self.commits)?;
        let seconds = self.took.as_secs_f64();
        writeln!(f, "  {} MB of raw log in {seconds:.1} s", self.raw_bytes / 1_000_000)?;
        let word = match (self.holds(), self.gave_up) {
            (true, _) => "it holds: everything that was produced has been delivered",
            (false, true) => "IT DOES NOT HOLD: the time was over before everything was delivered",
            (false, false) => "IT DOES NOT HOLD",
        };
        write!(f, "{word}")
    }
}
