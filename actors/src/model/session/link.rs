//! What is true of one open connection: what it was given, what of it counts, and when to look next.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Longest pause between two looks while something is unconfirmed.
pub(super) const LONGEST_LOOK_PAUSE: Duration = Duration::from_millis(50);

/// The connection that is open.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) opened_at: Instant,
    /// How long it has to stand open before it confirms anything.
    probation: Duration,
    /// It has done so.
    pub(super) ready: bool,
    /// Bytes given to it.
    pub(super) wire: u64,
    /// Those that had been given to it, and were confirmed, when the last part began.
    pub(super) part_from: u64,
    /// Bytes that the last look found acknowledged.
    pub(super) seen: u64,
    /// Bytes that count as confirmed: none before it is `ready`, and later at most `seen`.
    pub(super) confirmed: u64,
    /// Bytes that looks found acknowledged, and when they count if it is open still; a few, in order.
    lingering: VecDeque<(u64, Instant)>,
    /// The last write was refused.
    pub(super) blocked: bool,
    /// The receiver has answered that it does not take the first message that is not confirmed.
    pub(super) refused: bool,
    /// When the last byte was acknowledged, or waiting began.
    pub(super) progress_at: Instant,
    pub(super) look_at: Option<Instant>,
    pub(super) look_pause: Duration,
}

impl Link {
    pub(super) fn new(now: Instant, probation: Duration, look_pause: Duration) -> Self {
        Self {
            opened_at: now,
            probation,
            ready: false,
            wire: 0,
            part_from: 0,
            seen: 0,
            confirmed: 0,
            lingering: VecDeque::new(),
            blocked: false,
            refused: false,
            progress_at: now,
            look_at: None,
            look_pause,
        }
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.blocked || self.wire > self.seen
    }

    /// Bytes given to it of the present part.
    pub(super) fn part(&self) -> usize {
        usize::try_from(self.wire - self.part_from).unwrap_or(usize::MAX)
    }

    /// When to look next, if nothing happens before.
    pub(super) fn next_look(&self, timeout: Duration) -> Option<Instant> {
        let probation_end = (!self.ready).then(|| self.opened_at + self.probation);
        let unseen = (self.wire > self.seen).then_some(self.look_at).flatten();
        let give_up = self.is_waiting().then(|| self.progress_at + timeout);
        let counts = self.lingering.front().map(|(_, at)| *at);
        [probation_end, unseen, give_up, counts].into_iter().flatten().min()
    }

    /// A look found it open, with the first `acknowledged` bytes acknowledged; answers whether it became ready.
    pub(super) fn looked(&mut self, acknowledged: u64, first_look: Duration, now: Instant) -> bool {
        let acknowledged = acknowledged.min(self.wire);
        if acknowledged > self.seen {
            self.seen = acknowledged;
            self.progress_at = now;
            self.look_pause = first_look;
        } else {
            self.look_pause = (self.look_pause.max(Duration::from_millis(1)) * 3 / 2).min(LONGEST_LOOK_PAUSE);
        }
        self.look_at = (self.wire > self.seen).then(|| now + self.look_pause);
        let becomes_ready = !self.ready && now.saturating_duration_since(self.opened_at) >= self.probation;
        self.ready |= becomes_ready;
        becomes_ready
    }

    /// Counts what was acknowledged: up to `free` at once, and beyond it what has been so for the time `linger`. Answers
    /// whether more counts than before.
    pub(super) fn confirm(&mut self, free: u64, linger: Duration, now: Instant) -> bool {
        let before = self.confirmed;
        let free = if linger.is_zero() { u64::MAX } else { free };
        self.confirmed = self.confirmed.max(self.seen.min(free));
        while let Some((bytes, _)) = self.lingering.front().copied().filter(|(_, at)| now >= *at) {
            self.confirmed = self.confirmed.max(bytes);
            self.lingering.pop_front();
        }
        if self.seen == self.confirmed {
            self.lingering.clear();
        } else if self.lingering.back().is_none_or(|(bytes, _)| *bytes < self.seen) {
            // What was found within an eighth of the time counts together, with the last of it.
            let counts = now + linger;
            if self.lingering.iter().nth_back(1).is_some_and(|(_, at)| *at + linger / 8 > counts) {
                self.lingering.pop_back();
            }
            self.lingering.push_back((self.seen, counts));
        }
        self.confirmed > before
    }
}
