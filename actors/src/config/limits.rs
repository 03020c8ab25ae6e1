//! `[mailbox]` and `[limits]`: the depth of the pipeline, memory and threads.

use super::error::{ConfigError, check_range};
use super::text::render_size;

/// Mailbox capacities, in messages. They are the depth of the pipeline: see each field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MailboxConfig {
    /// Control messages of the Coordinator.
    pub coordinator: usize,
    /// Control messages and settlements of each ShardFetcher.
    pub fetcher: usize,
    /// Batches in flight per worker.
    pub formatter: usize,
    /// Unconfirmed pieces per connection.
    pub connection: usize,
}

/// Memory and threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitsConfig {
    /// Bytes of bodies, raw log groups and frames held at once, over all workers.
    pub bytes_in_flight: usize,
    /// Worker threads.
    pub workers: usize,
    /// Largest frame buffer ("piece"), in bytes; one longer message goes alone.
    pub piece_bytes: usize,
}

/// What a worker needs of the byte budget: half of it holds bodies, half pieces.
pub const MIN_BYTES_PER_WORKER: usize = 16 << 20;

const MIN_PIECE: usize = 64 << 10;
const MAX_PIECE: usize = 4 << 20;
const MAX_MAILBOX: usize = 1 << 20;
const MAX_WORKERS: usize = 64;

impl Default for MailboxConfig {
    fn default() -> Self {
        Self { coordinator: 512, fetcher: 256, formatter: 128, connection: 64 }
    }
}

impl MailboxConfig {
    pub(super) fn check(&self, problems: &mut Vec<ConfigError>) {
        let sizes = [
            ("mailbox.coordinator", self.coordinator),
            ("mailbox.fetcher", self.fetcher),
            ("mailbox.formatter", self.formatter),
            ("mailbox.connection", self.connection),
        ];
        for (key, size) in sizes {
            if size == 0 {
                problems.push(ConfigError::new(key, "0 lets nothing be in flight; set it to 1 or more"));
            } else {
                check_range(problems, key, size, 1, MAX_MAILBOX);
            }
        }
        // All batches of a worker may belong to one shard, and each of them reports its end to the shard's fetcher.
        if self.fetcher < self.formatter {
            problems.push(ConfigError::new(
                "mailbox.fetcher",
                format!(
                    "{} cannot hold the settlements of the {} batches that mailbox.formatter lets be in flight; \
                     raise mailbox.fetcher to {} or lower mailbox.formatter to {}",
                    self.fetcher,
                    self.formatter,
                    self.formatter,
                    self.fetcher.max(1)
                ),
            ));
        }
    }
}

impl Default for LimitsConfig {
    /// One worker per core but one, at least 1 and at most 4.
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self { bytes_in_flight: 128 << 20, workers: cores.saturating_sub(1).clamp(1, 4), piece_bytes: MAX_PIECE }
    }
}

impl LimitsConfig {
    /// A worker's share of the byte budget.
    pub fn bytes_per_worker(&self) -> usize {
        self.bytes_in_flight / self.workers.max(1)
    }

    pub(super) fn check(&self, problems: &mut Vec<ConfigError>) {
        check_range(problems, "limits.workers", self.workers, 1, MAX_WORKERS);
        if !(MIN_PIECE..=MAX_PIECE).contains(&self.piece_bytes) {
            problems.push(ConfigError::new(
                "limits.piece_bytes",
                format!(
                    "{} is not between {} and {}",
                    render_size(self.piece_bytes),
                    render_size(MIN_PIECE),
                    render_size(MAX_PIECE)
                ),
            ));
        }
        if (1..=MAX_WORKERS).contains(&self.workers) && self.bytes_per_worker() < MIN_BYTES_PER_WORKER {
            let enough = render_size(self.workers * MIN_BYTES_PER_WORKER);
            let fewer = match self.bytes_in_flight / MIN_BYTES_PER_WORKER {
                0 => String::new(),
                workers => format!(" or lower limits.workers to {workers}"),
            };
            problems.push(ConfigError::new(
                "limits.bytes_in_flight",
                format!(
                    "{} for {} worker(s) is less than the {} that each needs; raise limits.bytes_in_flight to {enough}{fewer}",
                    render_size(self.bytes_in_flight),
                    self.workers,
                    render_size(MIN_BYTES_PER_WORKER),
                ),
            ));
        }
    }
}
