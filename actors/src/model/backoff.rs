//! Growing pauses between attempts, with jitter, so that many processes do not return to a receiver in step.

use std::time::Duration;

/// Pauses that double from `min` to `max`; each is drawn from the upper half of its step.
#[derive(Debug)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    failures: u32,
    jitter: fastrand::Rng,
}

impl Backoff {
    /// Pauses from `min` to `max` (raised to `min` if it is smaller), with jitter drawn from `seed`.
    pub fn new(min: Duration, max: Duration, seed: u64) -> Self {
        Self { min, max: max.max(min), failures: 0, jitter: fastrand::Rng::with_seed(seed) }
    }

    /// The pause after one more failure.
    pub fn next_pause(&mut self) -> Duration {
        let step = self.min.saturating_mul(1_u32.checked_shl(self.failures).unwrap_or(u32::MAX)).min(self.max);
        self.failures = self.failures.saturating_add(1);
        (step / 2) + (step / 2).mul_f64(self.jitter.f64())
    }

    /// Begins again with the shortest pause.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIN: Duration = Duration::from_millis(100);
    const MAX: Duration = Duration::from_secs(30);

    #[test]
    fn pauses_double_with_jitter_up_to_the_longest() {
        let mut backoff = Backoff::new(MIN, MAX, 7);
        let mut step = MIN;
        for _ in 0..100 {
            let pause = backoff.next_pause();
            assert!(pause >= step / 2 && pause <= step, "{pause:?} is not in the upper half of {step:?}");
            step = (step * 2).min(MAX);
        }
        assert_eq!(step, MAX);
    }

    #[test]
    fn reset_begins_with_the_shortest_pause_again() {
        let mut backoff = Backoff::new(MIN, MAX, 7);
        for _ in 0..20 {
            backoff.next_pause();
        }
        backoff.reset();
        assert_eq!(backoff.failures, 0);
        assert!(backoff.next_pause() <= MIN);
    }

    #[test]
    fn two_processes_do_not_return_in_step() {
        let (mut one, mut other) = (Backoff::new(MIN, MAX, 1), Backoff::new(MIN, MAX, 2));
        assert!((0..10).any(|_| one.next_pause() != other.next_pause()));
    }
}
