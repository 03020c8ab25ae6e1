//! A token bucket for messages a second (rule U11): it makes the sender wait and never drops.

use std::time::{Duration, Instant};

/// Messages that may be sent now, and when the next may be.
#[derive(Debug)]
pub struct TokenBucket {
    per_message: Duration,
    burst: u32,
    /// When the bucket would be full; a message taken moves it on by `per_message`.
    full_at: Instant,
}

impl TokenBucket {
    /// `rate` messages a second (at least 1), in bursts of 10 ms' worth: more would overrun a receiver's socket buffer.
    pub fn new(rate: u32, now: Instant) -> Self {
        let rate = rate.max(1);
        Self { per_message: Duration::from_secs(1) / rate, burst: (rate / 100).max(1), full_at: now }
    }

    /// Messages that may be sent now.
    pub fn available(&self, now: Instant) -> u32 {
        let owed = self.full_at.saturating_duration_since(now).as_nanos();
        let used = owed.div_ceil(self.per_message.as_nanos().max(1));
        self.burst.saturating_sub(u32::try_from(used).unwrap_or(u32::MAX))
    }

    /// Takes `messages`, which may be more than are available: later ones wait longer.
    pub fn take(&mut self, messages: u32, now: Instant) {
        self.full_at = self.full_at.max(now) + self.per_message * messages;
    }

    /// When at least one message may be sent: `now` or later.
    pub fn next_at(&self, now: Instant) -> Instant {
        let room = self.per_message * (self.burst - 1);
        self.full_at.checked_sub(room).unwrap_or(now).max(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends whenever it may for `seconds`; returns how many went out.
    fn drive(rate: u32, seconds: u64) -> u64 {
        let start = Instant::now();
        let (mut now, mut bucket, mut sent) = (start, TokenBucket::new(rate, start), 0);
        while now < start + Duration::from_secs(seconds) {
            let n = bucket.available(now);
            if n == 0 {
                let next = bucket.next_at(now);
                assert!(next > now, "waits for a moment that has come");
                now = next;
            } else {
                bucket.take(n, now);
                sent += u64::from(n);
            }
        }
        sent
    }

    #[test]
    fn the_rate_is_kept_and_reached() {
        for rate in [1, 3, 99, 1_000, 10_000, 250_000] {
            let sent = drive(rate, 10);
            let wanted = u64::from(rate) * 10;
            let burst = u64::from((rate / 100).max(1));
            assert!(sent <= wanted + burst, "{sent} sent at {rate} a second");
            assert!(sent + burst + wanted / 100 >= wanted, "only {sent} sent at {rate} a second");
        }
    }

    #[test]
    fn an_idle_bucket_holds_one_burst_and_no_more() {
        let start = Instant::now();
        let bucket = TokenBucket::new(10_000, start);
        assert_eq!(bucket.available(start + Duration::from_secs(3600)), 100);
    }

    #[test]
    fn a_debt_is_waited_for() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(10, start);
        bucket.take(21, start);
        assert_eq!(bucket.available(start + Duration::from_secs(2)), 0);
        assert_eq!(bucket.next_at(start), start + Duration::from_millis(2_100));
        assert_eq!(bucket.available(start + Duration::from_millis(2_100)), 1);
    }
}
