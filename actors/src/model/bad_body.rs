//! What becomes of whole bodies that fail by themselves (rule O2): they cannot be decompressed, walked or rendered.
//!
//! Three failures at one position, and its log groups are pulled one by one, so that the good ones get through. A single
//! log group whose same bytes fail three times, over a minute at least, is given up: its gap record is sent in its place.
//! The minute is for whatever lies between SLS and us and corrupts for a while, always in the same way.

use std::time::{Duration, Instant};

use super::cursor::Cursor;

/// The position of one shard at which bodies fail.
#[derive(Debug, Default)]
pub struct BadBodies {
    spot: Option<Spot>,
    /// Log groups that are still to be pulled alone.
    singles: u32,
    given_up: Option<GivenUp>,
}

#[derive(Debug)]
struct Spot {
    from: Cursor,
    failures: u32,
    since: Instant,
    /// Of a single log group, the digest of its bytes: other bytes are another failure.
    alone: Option<u64>,
}

#[derive(Debug)]
struct GivenUp {
    from: Cursor,
    to: Cursor,
}

/// A body that failed, as the formatter saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadBody {
    /// Log groups that it was to hold.
    pub log_groups: u32,
    /// Digest of its bytes as they came.
    pub digest: u64,
}

/// Failures after which something else is tried.
pub(super) const ENOUGH: u32 = 3;
/// A log group is not given up sooner than this after its first failure.
pub const GIVE_UP_AFTER: Duration = Duration::from_secs(60);

impl BadBodies {
    /// A body that was pulled at `from`, with the next position `to`, failed.
    pub fn failed(&mut self, now: Instant, from: &Cursor, to: &Cursor, body: BadBody) {
        let alone = (body.log_groups == 1).then_some(body.digest);
        let (failures, since) = match &self.spot {
            Some(spot) if spot.from == *from && spot.alone == alone => (spot.failures + 1, spot.since),
            _ => (1, now),
        };
        self.spot = Some(Spot { from: from.clone(), failures, since, alone });
        if failures < ENOUGH {
            return;
        }
        match alone {
            Some(_) if now.saturating_duration_since(since) < GIVE_UP_AFTER => return,
            Some(_) => self.given_up = Some(GivenUp { from: from.clone(), to: to.clone() }),
            None => self.singles = body.log_groups,
        }
        self.spot = None;
    }

    /// Whether log groups are pulled one by one now.
    pub fn one_by_one(&self) -> bool {
        self.singles > 0
    }

    /// A batch was delivered.
    pub fn delivered(&mut self) {
        self.singles = self.singles.saturating_sub(1);
    }

    /// Where to go on if the log group at `at` was given up.
    pub fn given_up(&self, at: &Cursor) -> Option<&Cursor> {
        self.given_up.as_ref().filter(|given_up| given_up.from == *at).map(|given_up| &given_up.to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cursor(n: u32) -> Cursor {
        Cursor::new(&format!("c{n}")).expect("printable")
    }

    fn fail(bodies: &mut BadBodies, from: u32, log_groups: u32, digest: u64) {
        fail_at(bodies, Instant::now(), from, log_groups, digest);
    }

    fn fail_at(bodies: &mut BadBodies, now: Instant, from: u32, log_groups: u32, digest: u64) {
        bodies.failed(now, &cursor(from), &cursor(from + log_groups), BadBody { log_groups, digest });
    }

    #[test]
    fn o2_after_three_failures_at_one_position_log_groups_are_pulled_one_by_one() {
        let mut bodies = BadBodies::default();
        fail(&mut bodies, 0, 100, 1);
        fail(&mut bodies, 0, 50, 2);
        assert!(!bodies.one_by_one());
        fail(&mut bodies, 0, 25, 3);
        assert!(bodies.one_by_one());
        (0..25).for_each(|_| bodies.delivered());
        assert!(!bodies.one_by_one());
    }

    #[test]
    fn o2_failures_elsewhere_begin_anew() {
        let mut bodies = BadBodies::default();
        fail(&mut bodies, 0, 100, 1);
        fail(&mut bodies, 0, 100, 1);
        fail(&mut bodies, 7, 100, 1);
        fail(&mut bodies, 0, 100, 1);
        assert!(!bodies.one_by_one());
    }

    #[test]
    fn o2_only_the_same_bytes_failing_three_times_alone_are_given_up() {
        let (mut bodies, now) = (BadBodies::default(), Instant::now());
        let minute = now + GIVE_UP_AFTER;
        for (at, digest) in [(now, 1), (minute, 2), (minute, 3), (minute + GIVE_UP_AFTER, 3)] {
            fail_at(&mut bodies, at, 4, 1, digest);
        }
        assert_eq!(bodies.given_up(&cursor(4)), None, "a path that corrupts is not a bad log group");
        fail_at(&mut bodies, minute + GIVE_UP_AFTER, 4, 1, 3);
        assert_eq!(bodies.given_up(&cursor(4)), Some(&cursor(5)));
        assert_eq!(bodies.given_up(&cursor(5)), None);
    }

    #[test]
    fn o2_a_path_that_corrupts_for_less_than_a_minute_costs_no_log() {
        let (mut bodies, now) = (BadBodies::default(), Instant::now());
        for second in 0..60 {
            fail_at(&mut bodies, now + Duration::from_secs(second), 4, 1, 3);
        }
        assert_eq!(bodies.given_up(&cursor(4)), None);
    }
}
