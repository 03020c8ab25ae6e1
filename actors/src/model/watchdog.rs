//! Whether every worker still lives: each bumps a counter from a timer of its own (rule L9). The Coordinator looks at the
//! workers in this way, and each worker at the Coordinator.
//!
//! Time is counted in the watchdog's own ticks, so a machine that was suspended as a whole accuses nobody. A receiver
//! that is down is not silence: a worker that waits still bumps its counter.

/// Ticks, of a second each, after which a silent worker is given up.
pub const SILENT_TICKS: u32 = 30;

/// What is known of each worker.
#[derive(Debug, Default)]
pub struct Watchdog {
    workers: Vec<Seen>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Seen {
    beats: u64,
    silent: u32,
}

impl Watchdog {
    /// One tick, with every worker's counter: the worker to give up, if there is one.
    pub fn tick(&mut self, beats: impl IntoIterator<Item = u64>) -> Option<usize> {
        let mut hung = None;
        for (worker, beats) in beats.into_iter().enumerate() {
            if self.workers.len() == worker {
                self.workers.push(Seen::default());
            }
            let seen = &mut self.workers[worker];
            *seen =
                if seen.beats == beats { Seen { beats, silent: seen.silent + 1 } } else { Seen { beats, silent: 0 } };
            if seen.silent >= SILENT_TICKS {
                hung = hung.or(Some(worker));
            }
        }
        hung
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn l9_only_silence_of_thirty_ticks_in_a_row_gives_a_worker_up() {
        let mut watchdog = Watchdog::default();
        for tick in 0..100 {
            // Worker 0 bumps its counter every 29 ticks: slow, but alive.
            assert_eq!(watchdog.tick([1 + tick / 29, 1 + tick]), None, "tick {tick}");
        }
        let first = (0..).find(|_| watchdog.tick([50, 200]).is_some());
        assert_eq!(first, Some(30), "one tick to see the last beat, thirty of silence");
        assert_eq!(watchdog.tick([51, 200]), Some(1));
    }
}
