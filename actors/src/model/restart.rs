//! When something that ended by a panic is started again: later each time, sooner again after it has lived well.

use std::time::{Duration, Instant};

/// The pauses of one thing that is restarted.
#[derive(Debug, Clone)]
pub struct Restarts {
    first: Duration,
    longest: Duration,
    /// Panics that still count.
    panics: u32,
    /// When it was last started again.
    started_at: Option<Instant>,
}

impl Restarts {
    /// Pauses that double from `first` to `longest`. Each `longest` that it lives takes back one doubling.
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest: longest.max(first), panics: 0, started_at: None }
    }

    /// It has panicked: the pause before it is started again.
    pub fn panicked(&mut self, now: Instant) -> Duration {
        let lived = self.started_at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        let forgiven = lived.as_nanos() / self.longest.as_nanos().max(1);
        self.panics = self.panics.saturating_sub(u32::try_from(forgiven).unwrap_or(u32::MAX));
        let pause = self.first.saturating_mul(1_u32.checked_shl(self.panics).unwrap_or(u32::MAX)).min(self.longest);
        // Beyond the longest pause nothing doubles any more, so nothing has to be taken back either.
        if pause < self.longest {
            self.panics += 1;
        }
        self.started_at = Some(now + pause);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_millis(500);
    const LONGEST: Duration = Duration::from_secs(60);

    #[test]
    fn pauses_double_while_it_panics_again_and_again() {
        let (mut restarts, mut now) = (Restarts::new(FIRST, LONGEST), Instant::now());
        let mut pauses = Vec::new();
        for _ in 0..1000 {
            let pause = restarts.panicked(now);
            pauses.push(pause.as_millis());
            now += pause + Duration::from_millis(10);
        }
        assert_eq!(pauses[..9], [500, 1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]);
        assert_eq!(pauses.last(), Some(&60_000));
    }

    #[test]
    fn a_healthy_time_takes_the_pauses_back_step_by_step() {
        let (mut restarts, mut now) = (Restarts::new(FIRST, LONGEST), Instant::now());
        for _ in 0..100 {
            now += restarts.panicked(now);
        }
        // Two longest pauses of health: two doublings less.
        now += 2 * LONGEST;
        let pause = restarts.panicked(now);
        assert_eq!(pause, FIRST * 32, "{pause:?}");
        now += pause + 20 * LONGEST;
        assert_eq!(restarts.panicked(now), FIRST);
    }

    #[test]
    fn a_panic_from_time_to_time_never_costs_the_longest_pause() {
        let (mut restarts, mut now) = (Restarts::new(FIRST, LONGEST), Instant::now());
        for _ in 0..1000 {
            let pause = restarts.panicked(now);
            assert!(pause <= 2 * FIRST, "{pause:?}");
            now += pause + LONGEST;
        }
    }
}
