//! How long a shard rests between two pulls, and how many log groups it asks for.
//!
//! Back to back while behind, short rests while a little comes, growing ones up to the ceiling while nothing does;
//! quota refusals and failures rest longer, each shard by itself. SLS bounds the reads of a whole project, so the more
//! shards there are, the longer each rests between answers that bring little.

use std::time::{Duration, Instant};

/// The pace of one shard.
#[derive(Debug)]
pub struct PullPace {
    ceiling: Duration,
    /// The first of the ticks that a worker's shards share.
    first_tick: Instant,
    /// The shard's share of its project's reads, as the time from one to the next.
    fair: Duration,
    max_count: u32,
    count: u32,
    rest: Duration,
    failures: u32,
}

/// A raw answer of this size counts as full, as the official libraries see it.
const FULL_RAW_BYTES: u64 = 4 << 20;
/// The first rest after an empty answer, and the longest after a partial one.
const SHORT_REST: Duration = Duration::from_millis(100);
/// Reads in a second that all shards of a logstore share: half of what SLS allows a project.
const READS_PER_SECOND: u32 = 5_000;
/// A share of more than a shard's own quota, which is 100 reads in a second, is none.
const SHORTEST_SHARE: Duration = Duration::from_millis(10);
/// First and longest rest after a failure that a repeat may mend.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));
/// The longest time between two ticks, in milliseconds.
const LONGEST_TICK_MS: u64 = 256;
/// Longest rest after a quota refusal.
const QUOTA_MAX: Duration = Duration::from_secs(10);

impl PullPace {
    /// A pace that never rests longer than `ceiling` while all is well, asking for `max_count` log groups. `first_tick` is
    /// the same for all shards of a worker.
    pub fn new(ceiling: Duration, max_count: u32, first_tick: Instant) -> Self {
        let (fair, rest) = (Duration::ZERO, Duration::ZERO);
        Self { ceiling, first_tick, fair, max_count, count: max_count, rest, failures: 0 }
    }

    /// How long a shard rests at least after an answer that is not full of bytes, where a logstore has so many.
    pub fn fair_rest(shards: usize) -> Duration {
        let share = Duration::from_secs(1) * u32::try_from(shards).unwrap_or(u32::MAX) / READS_PER_SECOND;
        if share < SHORTEST_SHARE { Duration::ZERO } else { share }
    }

    /// Rests at least so long after answers that are not full of bytes, but never longer than the ceiling.
    pub fn rest_at_least(&mut self, fair: Duration) {
        self.fair = fair.min(self.ceiling);
    }

    /// Log groups to ask for now.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// An answer came: how long to rest before the next pull. `jitter` is in 0..1: shards that were acquired at once would
    /// ask in the same instant for ever.
    pub fn answered(&mut self, log_groups: u32, raw_bytes: u64, end_of_shard: Option<bool>, jitter: f64) -> Duration {
        let short = SHORT_REST.min(self.ceiling);
        if log_groups == 0 {
            self.failures = 0;
            self.rest = (self.rest * 2).max(short).max(self.fair).min(self.ceiling);
            return self.rest.mul_f64(1.0 - jitter.clamp(0.0, 1.0) / 8.0);
        }
        self.rest = Duration::ZERO;
        let full = log_groups >= self.count || raw_bytes >= FULL_RAW_BYTES || end_of_shard == Some(false);
        if self.failures == 0 {
            self.count = (self.count * 2).min(self.max_count);
        }
        if raw_bytes >= FULL_RAW_BYTES {
            // The quota of bytes is used up long before that of reads.
            return Duration::ZERO;
        }
        if full {
            return self.fair;
        }
        let filled = (f64::from(log_groups) / f64::from(self.max_count)).max(raw_bytes as f64 / FULL_RAW_BYTES as f64);
        short.mul_f64(1.0 - filled.min(1.0)).max(self.fair)
    }

    /// The last tick before the end of a rest that begins now. A worker that wakes up once for many shards that have nothing
    /// does with much less than one that wakes up for each; ticks cut a rest by an eighth at most.
    pub fn last_tick(&self, now: Instant, rest: Duration) -> Instant {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let until = millis((now + rest).saturating_duration_since(self.first_tick));
        let tick = match millis(rest) / 8 {
            0 => 1,
            eighth => (1 << eighth.ilog2()).min(LONGEST_TICK_MS),
        };
        self.first_tick + Duration::from_millis(until / tick * tick)
    }

    /// A batch was delivered. Only this ends a row of failures: a body that cannot be used comes with a good answer each
    /// time, and would be pulled without growing rests for ever.
    pub fn delivered(&mut self) {
        self.failures = 0;
    }

    /// Something failed that a repeat may mend. `jitter` is in 0..1.
    pub fn failed(&mut self, jitter: f64) -> Duration {
        self.grow(RETRY.0, RETRY.1, jitter)
    }

    /// A quota was hit; rest at least `at_least`. `jitter` is in 0..1.
    pub fn slowed_down(&mut self, at_least: Duration, jitter: f64) -> Duration {
        self.grow(at_least, QUOTA_MAX.max(at_least), jitter)
    }

    /// The answer was too large, cut short or unreadable: ask for half as much (rules O2, M2).
    pub fn halve(&mut self) {
        self.count = (self.count / 2).max(1);
    }

    /// Ask for just this many next (a reply that was dropped for want of memory is pulled again as it was).
    pub fn ask_for(&mut self, count: u32) {
        self.count = count.clamp(1, self.max_count);
    }

    fn grow(&mut self, first: Duration, longest: Duration, jitter: f64) -> Duration {
        let rest = first.saturating_mul(1 << self.failures.min(16)).min(longest);
        self.failures = self.failures.saturating_add(1);
        // At least the first rest, so that a quota's own minimum is kept; the jitter adds up to a quarter.
        rest.mul_f64(1.0 + jitter.clamp(0.0, 1.0) / 4.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace() -> PullPace {
        PullPace::new(Duration::from_secs(1), 1000, Instant::now())
    }

    #[test]
    fn behind_means_back_to_back() {
        assert_eq!(pace().answered(1000, 500_000, None, 0.0), Duration::ZERO);
        assert_eq!(pace().answered(10, 4 << 20, None, 0.0), Duration::ZERO);
        assert_eq!(pace().answered(10, 1000, Some(false), 0.0), Duration::ZERO);
    }

    #[test]
    fn idle_rests_grow_to_the_ceiling_and_end_with_the_first_log() {
        let mut pace = pace();
        let rests: Vec<u128> = (0..6).map(|_| pace.answered(0, 0, Some(true), 0.0).as_millis()).collect();
        assert_eq!(rests, [100, 200, 400, 800, 1000, 1000]);
        assert!(pace.answered(1, 100, Some(true), 0.0) <= SHORT_REST);
        assert_eq!(pace.answered(0, 0, Some(true), 0.0), SHORT_REST);
    }

    /// Two thousand shards that a little comes to used to be read twenty thousand times a second; SLS allows ten.
    #[test]
    fn the_shards_of_a_large_logstore_stay_within_the_quota_of_their_project() {
        let (few_groups, many_small_groups, nothing) = ((1, 500), (1000, 100_000), (0, 0));
        for shards in [500, 2000, 4000] {
            let mut pace = pace();
            pace.rest_at_least(PullPace::fair_rest(shards));
            for (log_groups, raw_bytes) in [few_groups, many_small_groups, nothing] {
                let rest = pace.answered(log_groups, raw_bytes, None, 0.0).as_secs_f64();
                assert!(shards as f64 / rest <= 5_000.1, "{shards} shards rest {rest} s after {log_groups} log groups");
            }
            assert_eq!(pace.answered(1000, 4 << 20, None, 0.0), Duration::ZERO, "full of bytes");
        }
        let mut pace = pace();
        pace.rest_at_least(PullPace::fair_rest(1_000_000));
        assert_eq!(pace.answered(1, 500, None, 0.0), Duration::from_secs(1), "the ceiling is the user's word");
        assert_eq!(PullPace::fair_rest(40), Duration::ZERO);
    }

    #[test]
    fn shards_that_find_nothing_at_once_do_not_ask_again_at_once() {
        let mut pace = pace();
        let second = Duration::from_secs(1);
        for _ in 0..6 {
            pace.answered(0, 0, Some(true), 0.0);
        }
        assert_eq!(pace.answered(0, 0, Some(true), 1.0), second.mul_f64(0.875));
    }

    #[test]
    fn shards_that_rest_wake_up_together_and_not_late() {
        let (pace, start) = (pace(), Instant::now());
        for (rest_ms, most) in [(1000, 9), (5000, 3)] {
            let rest = Duration::from_millis(rest_ms);
            let ticks: std::collections::BTreeSet<Instant> = (0..500)
                .map(|millis| {
                    let now = start + Duration::from_millis(millis);
                    let tick = pace.last_tick(now, rest);
                    assert!(tick <= now + rest && tick > now + rest.mul_f64(0.87), "{rest_ms} ms, {millis} ms late");
                    tick
                })
                .collect();
            assert!(ticks.len() <= most, "{} times in half a second", ticks.len());
        }
        // Hardly any rest is not worth it.
        let short = Duration::from_millis(7);
        assert!(pace.last_tick(start + short, short) > start + 2 * short - Duration::from_millis(1));
    }

    #[test]
    fn quota_refusals_rest_at_least_as_long_as_asked_and_grow_to_ten_seconds() {
        let mut pace = pace();
        let second = Duration::from_secs(1);
        assert_eq!(pace.slowed_down(second, 0.0), second);
        assert_eq!(pace.slowed_down(second, 0.0), 2 * second);
        let late = (0..9).map(|_| pace.slowed_down(second, 1.0)).last().expect("nine");
        assert_eq!(late, QUOTA_MAX.mul_f64(1.25));
    }

    #[test]
    fn a_halved_count_recovers_with_good_answers() {
        let mut pace = pace();
        pace.halve();
        pace.halve();
        assert_eq!(pace.count(), 250);
        pace.answered(250, 1000, None, 0.0);
        assert_eq!(pace.count(), 500);
        for _ in 0..20 {
            pace.halve();
        }
        assert_eq!(pace.count(), 1);
    }

    #[test]
    fn o2_answers_whose_bodies_fail_are_asked_for_ever_later_and_smaller_until_one_is_delivered() {
        let mut pace = pace();
        let mut rests = Vec::new();
        for _ in 0..4 {
            pace.answered(1000, 1000, None, 0.0);
            pace.halve();
            rests.push(pace.failed(0.0).as_millis());
        }
        assert_eq!((rests, pace.count()), (vec![200, 400, 800, 1600], 62));
        pace.delivered();
        pace.answered(62, 1000, None, 0.0);
        assert_eq!((pace.count(), pace.failed(0.0)), (124, RETRY.0));
    }
}
