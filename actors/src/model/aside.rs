//! Batches of which the receiver does not take some logs: these are set aside before anything more is pulled.
//!
//! Such a batch is delivered but for the logs that its gap records name. It stays unsettled until they are in the dead
//! letter, in its turn; a dead letter that does not take them is asked again with growing pauses, for ever. Only a body
//! that cannot be read is given up, as one that cannot be rendered (rule O2): its gap records are confirmed already.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::bad_body::{ENOUGH, GIVE_UP_AFTER};
use super::ids::Sequence;

/// The batches of one shard that wait to be set aside, of one generation.
#[derive(Debug, Default)]
pub struct Asides {
    /// In the order in which they were reported.
    waiting: VecDeque<Sequence>,
    rest_until: Option<Instant>,
    failures: u32,
    /// How often the body could not be read, and since when.
    unread: Option<(u32, Instant)>,
}

/// First and longest pause after the dead letter did not take a log.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

impl Asides {
    /// A batch came home that has to be set aside.
    pub fn push(&mut self, sequence: Sequence) {
        self.waiting.push_back(sequence);
    }

    /// The batch to set aside, and when; none if nothing waits.
    pub fn next(&self, now: Instant) -> Option<(Sequence, Option<Instant>)> {
        let sequence = self.waiting.front()?;
        Some((*sequence, self.rest_until.filter(|until| *until > now)))
    }

    /// The batch is settled, or will be pulled again; whether it waited.
    pub fn done(&mut self, sequence: Sequence) -> bool {
        (self.failures, self.rest_until, self.unread) = (0, None, None);
        let before = self.waiting.len();
        self.waiting.retain(|waiting| *waiting != sequence);
        self.waiting.len() < before
    }

    /// It did not work; again later. `jitter` is in 0..1.
    pub fn failed(&mut self, now: Instant, jitter: f64) {
        let rest = RETRY.0.saturating_mul(1 << self.failures.min(16)).min(RETRY.1);
        self.failures = self.failures.saturating_add(1);
        self.rest_until = Some(now + rest.mul_f64(1.0 + jitter.clamp(0.0, 1.0) / 4.0));
    }

    /// The body of the batch in hand could not be read; whether that is so often and for so long that it is given up.
    pub fn unreadable(&mut self, now: Instant) -> bool {
        let (failures, since) = self.unread.map_or((1, now), |(failures, since)| (failures + 1, since));
        self.unread = Some((failures, since));
        failures >= ENOUGH && now.saturating_duration_since(since) >= GIVE_UP_AFTER
    }

    /// A batch has failed, and what lies behind it is pulled again: takes out those that are part of it.
    pub fn take_behind(&mut self, failed: Sequence) -> Vec<Sequence> {
        let behind = self.waiting.iter().copied().filter(|sequence| *sequence > failed).collect();
        self.waiting.retain(|sequence| *sequence < failed);
        behind
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_minute_and_never_end() {
        let (mut asides, mut now) = (Asides::default(), Instant::now());
        asides.push(Sequence(3));
        let mut pauses = Vec::new();
        for _ in 0..20 {
            assert_eq!(asides.next(now), Some((Sequence(3), None)));
            asides.failed(now, 0.0);
            let Some((_, Some(until))) = asides.next(now) else { panic!("no pause") };
            pauses.push((until - now).as_secs());
            now = until;
        }
        assert_eq!((&pauses[..7], pauses[19]), (&[1, 2, 4, 8, 16, 32, 60][..], 60));
        assert!(asides.done(Sequence(3)));
        assert_eq!(asides.next(now), None);
    }

    #[test]
    fn a_body_is_given_up_that_cannot_be_read_three_times_and_for_a_minute() {
        let (mut asides, start) = (Asides::default(), Instant::now());
        let at = |second| start + Duration::from_secs(second);
        asides.push(Sequence(3));
        assert_eq!([0, 1, 3, 59, 60].map(|second| asides.unreadable(at(second))), [false, false, false, false, true]);
        asides.done(Sequence(3));
        assert_eq!(
            [70, 200, 201].map(|second| asides.unreadable(at(second))),
            [false, false, true],
            "of another batch"
        );
    }

    #[test]
    fn o1_only_what_lies_behind_a_failed_batch_is_taken_out() {
        let mut asides = Asides::default();
        for n in [1, 5, 3] {
            asides.push(Sequence(n));
        }
        assert_eq!(asides.take_behind(Sequence(2)), [Sequence(5), Sequence(3)]);
        assert_eq!(asides.next(Instant::now()), Some((Sequence(1), None)));
        assert!(!asides.done(Sequence(5)));
    }
}
