//! How a session finds the message that the receiver does not take, and passes it over (rule C4).

use std::time::{Duration, Instant};

use super::link::Link;
use super::trial::{CutBy, First, Refusal, Trial};
use super::{Cut, PROBATION_BYTES, Piece, Session};

/// A connection has ended for what it carried, as far as can be seen, with nothing confirmed. What it carried goes out
/// again in parts, each when the one before it is confirmed, and a part ends before a message that is likely to be
/// refused.
#[derive(Debug, Clone, Copy)]
pub(super) struct Careful {
    /// Bytes from the first unconfirmed one on among which the reason lies.
    pub(super) bytes: u64,
    /// Bytes of a part, one longer message excepted.
    pub(super) part: usize,
}

/// Into so many parts is divided what ended a connection that sent in parts already.
const PARTS: u64 = 4;

/// A message that the receiver does not take.
#[derive(Debug)]
pub struct Refused<'a, P> {
    /// Its piece.
    pub piece: &'a P,
    /// Where its frame begins in the piece's frames.
    pub at: usize,
    /// Length of the frame.
    pub len: usize,
    /// How the receiver shows it.
    pub how: &'a Refusal,
}

impl<P: Piece> Session<P> {
    /// So many bytes, from the first one that was not confirmed on, gave no reason to end a connection.
    pub(super) fn done_with(&mut self, bytes: u64) {
        if let Some(careful) = &mut self.careful {
            careful.bytes = careful.bytes.saturating_sub(bytes);
        }
        self.careful.take_if(|careful| careful.bytes == 0);
    }

    /// Which bytes of the connection count as soon as they are acknowledged, and how long the others have to stay so.
    pub(super) fn what_lingers(&self) -> (u64, Duration) {
        if let Some(trials) = self.times.trials {
            if self.trial.is_alone() {
                return (0, trials.linger);
            }
            if self.careful.is_some() {
                // A short message may be the reason too.
                return (0, if self.times.linger.is_zero() { trials.linger } else { self.times.linger });
            }
        }
        let is_any_long = self.slots.front().is_some_and(|front| self.last_long >= Some(front.id));
        if self.times.linger.is_zero() || !is_any_long {
            return (u64::MAX, Duration::ZERO);
        }
        let mut begun = self.slots.iter().enumerate().take_while(|(i, s)| *i < self.written || s.at > s.start);
        let first = begun.find_map(|(_, slot)| Some(slot.wire_from + (slot.long_at? - slot.start) as u64));
        (first.unwrap_or(u64::MAX), self.times.linger)
    }

    /// Ends a trial whose message, or what goes in its place, is confirmed; answers whether the message was passed over.
    pub(super) fn confirm_trial(&mut self) -> bool {
        let confirmed = self.link.as_ref().map_or(0, |link| link.confirmed);
        match &self.trial {
            Trial::None | Trial::Refused { .. } => false,
            // The message is the first thing that the connection carries.
            Trial::Alone { place, .. } | Trial::Substitute { place, behind: true, .. } => {
                if confirmed >= place.len as u64 {
                    self.trial = Trial::None;
                }
                false
            }
            Trial::Substitute { frame, .. } => confirmed >= frame.len() as u64 && self.pass_over(),
        }
    }

    /// What goes in a message's place has arrived: the message is done with. Answers whether it still was to be sent.
    fn pass_over(&mut self) -> bool {
        let Trial::Substitute { place, .. } = std::mem::replace(&mut self.trial, Trial::None) else { return false };
        let Some(slot) = self.slots.front_mut().filter(|slot| slot.holds(place)) else { return false };
        slot.begin_at(slot.start + place.len);
        (slot.at, slot.stop) = (slot.start, slot.start);
        self.done_with(place.len as u64);
        true
    }

    /// Ends a trial whose message must not be sent any more (rule O1): it may have been settled otherwise. What is begun
    /// of what goes in its place has to be written to its end.
    pub(super) fn end_trial_without_message(&mut self) {
        let (place, unfinished) = match &self.trial {
            Trial::None => return,
            Trial::Alone { place, .. } | Trial::Refused { place, .. } => (place, false),
            Trial::Substitute { place, frame, at, .. } => (place, *at > 0 && *at < frame.len()),
        };
        if !unfinished && self.slots.front().is_none_or(|slot| !slot.holds(*place)) {
            self.trial = Trial::None;
        }
    }

    /// The message in whose place something else has to go: asked for after a cut, answered with
    /// [`Session::substitute`].
    pub fn refused(&self) -> Option<Refused<'_, P>> {
        let Trial::Refused { place, how } = &self.trial else { return None };
        let slot = self.slots.front().filter(|slot| slot.holds(*place))?;
        Some(Refused { piece: slot.piece.as_ref()?, at: place.at, len: place.len, how })
    }

    /// Whether it is open whether a message is the reason why connections end.
    pub fn is_on_trial(&self) -> bool {
        self.trial.is_alone()
    }

    /// Takes the frame that goes in the place of the message that is refused.
    pub fn substitute(&mut self, frame: Vec<u8>) {
        if let Trial::Refused { place, how } = &self.trial {
            let behind = matches!(how, Refusal::Answer(_));
            self.trial = Trial::Substitute { place: *place, frame, at: 0, counted: false, behind };
        }
    }

    /// What follows from a cut for the messages that may have been its reason.
    pub(super) fn judge(&mut self, by: CutBy, first: Option<First>, link: &Link, cut: &mut Cut, now: Instant) {
        let was_alone = self.trial.is_alone();
        let is_held_against_it = by == CutBy::Receiver && first.is_some_and(|first| first.carried);
        if let (Trial::Substitute { place, frame, at, behind: true, .. }, Some(first)) = (&self.trial, first)
            && (*place, true) == (first.place, first.unanswered)
            && *at == frame.len()
            && matches!(by, CutBy::Answer { took_later: true, .. })
        {
            // Nothing else was behind it.
            (cut.passed_over, self.lived) = (self.pass_over(), Duration::ZERO);
            return;
        }
        let mut is_found = false;
        if first.is_none() {
            self.careful = None;
        } else if is_held_against_it && !was_alone {
            is_found = self.careful.is_some() && cut.messages_unconfirmed == 1;
            let bytes = cut.bytes_unconfirmed;
            self.careful = match self.careful {
                Some(_) => Some(Careful { bytes, part: usize::try_from(bytes / PARTS).unwrap_or(usize::MAX) }),
                None if link.confirmed == 0 => Some(Careful { bytes, part: PROBATION_BYTES }),
                None => None,
            };
        }
        self.trial = std::mem::replace(&mut self.trial, Trial::None).after_cut(by, first, is_found, link.ready);
        self.lived = match self.trial {
            Trial::Alone { .. } if was_alone && is_held_against_it => now.saturating_duration_since(link.opened_at),
            Trial::Alone { .. } if was_alone => self.lived,
            _ => Duration::ZERO,
        };
    }

    /// The receiver has answered that it does not take the first message that is not confirmed.
    pub fn refusal_heard(&mut self) {
        if let Some(link) = self.link.as_mut() {
            link.refused = true;
        }
    }
}
