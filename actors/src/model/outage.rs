//! When to speak of something that is broken: at once, again with growing pauses, and once when it is over.

use std::time::{Duration, Instant};

/// First pause between two reports of one outage.
const FIRST_PAUSE: Duration = Duration::from_secs(10);
/// Longest pause between two reports of one outage.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// One thing that can be broken.
#[derive(Debug, Default)]
pub struct Outage {
    current: Option<Current>,
}

#[derive(Debug)]
struct Current {
    since: Instant,
    say_at: Instant,
    pause: Duration,
    failures: u64,
}

/// What to say of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Say {
    /// How long it has lasted.
    pub lasting: Duration,
    /// Failures so far, this one included.
    pub failures: u64,
}

impl Outage {
    /// Notes a failure; answers whether it should be reported now.
    pub fn failed(&mut self, now: Instant) -> Option<Say> {
        let outage = self.current.get_or_insert(Current { since: now, say_at: now, pause: FIRST_PAUSE, failures: 0 });
        outage.failures += 1;
        (now >= outage.say_at).then(|| {
            outage.say_at = now + outage.pause;
            outage.pause = (outage.pause * 2).min(LONGEST_PAUSE);
            Say { lasting: now.saturating_duration_since(outage.since), failures: outage.failures }
        })
    }

    /// Notes that it works; answers how long it did not, if it was broken.
    pub fn works(&mut self, now: Instant) -> Option<Say> {
        self.current.take().map(|o| Say { lasting: now.saturating_duration_since(o.since), failures: o.failures })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_said_at_once_then_with_growing_pauses_and_its_end_once() {
        let start = Instant::now();
        let mut outage = Outage::default();
        let said: Vec<u64> = (0..7200).filter(|s| outage.failed(start + Duration::from_secs(*s)).is_some()).collect();
        assert_eq!(said[..6], [0, 10, 30, 70, 150, 310]);
        assert!(said.windows(2).skip(7).all(|w| w[1] - w[0] == 600), "{said:?}");
        let end = outage.works(start + Duration::from_secs(7200)).expect("was broken");
        assert_eq!(end, Say { lasting: Duration::from_secs(7200), failures: 7200 });
        assert_eq!(outage.works(start), None);
    }
}
