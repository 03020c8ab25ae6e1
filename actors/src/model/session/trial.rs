//! A message that may be the reason why the receiver ends connections, and how that is found out (rule C4).
//!
//! After a cut the first unconfirmed message, if it is long, is suspected: the next connection carries it alone. Cuts of
//! such connections count against it; after [`CUTS`] of them something else goes in its place, alone too, and once that
//! is confirmed the message is passed over.
//!
//! A receiver that answers has a shorter way to say so: in two sessions, one after the other, it does not take the
//! message and takes a later one. Once is not enough, for a disk that was full may have room again just then.

use std::time::Duration;

/// A message no longer than this, with its frame, is never suspected of having caused a cut.
pub const UNSUSPECTED_BYTES: usize = 8 * 1024;
/// Cuts of connections that carried nothing but a message, after which something else goes in its place.
pub const CUTS: u32 = 3;

/// The times of connections that carry one message alone.
#[derive(Debug, Clone, Copy)]
pub struct TrialTimes {
    /// How long such a connection has to stand open and silent first.
    pub silence: Duration,
    /// How long it has to stand open behind the acknowledgement before that counts.
    pub linger: Duration,
}

/// Who ended a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CutBy {
    /// The receiver, politely or not.
    Receiver,
    /// We, because the receiver answered that it does not take the first unconfirmed message.
    Answer {
        /// What it said, safe to be shown.
        said: String,
        /// Whether it took a later message in the same session: it is this one that it does not take.
        took_later: bool,
    },
    /// Nobody that a message could be blamed for: a time-out, the network, we.
    Other,
}

/// How a receiver shows that it does not take a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// It ended every connection that carried nothing but this message.
    Cuts,
    /// It said this, and took a later one.
    Answer(String),
}

/// A message: its piece, and where in it its frame lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) slot: u64,
    pub(super) at: usize,
    pub(super) len: usize,
}

/// The first message that is not confirmed when a connection ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct First {
    pub(super) place: Place,
    /// Whether any of it was written.
    pub(super) carried: bool,
    /// Whether it was also the first of this connection that was not acknowledged; others may have been superseded.
    pub(super) unanswered: bool,
}

/// What the present connection, or the next one, is about.
#[derive(Debug)]
pub(super) enum Trial {
    /// Nothing is suspected.
    None,
    /// The receiver refused a message, and perhaps all of them: nothing is written before the connection has stood open,
    /// so that the message can be followed by others at once. `suspect` was refused while a later one was taken.
    Quiet { suspect: Option<Place> },
    /// The message goes alone. So many cuts count against it.
    Alone { place: Place, cuts: u32 },
    /// The receiver does not take the message; what goes in its place has to be handed over.
    Refused { place: Place, how: Refusal },
    /// `frame` goes in the message's place, alone; `at` bytes of it are written, and it was counted as a message.
    Substitute { place: Place, frame: Vec<u8>, at: usize, counted: bool },
}

impl Trial {
    /// Whether nothing may be written before the connection has stood open.
    pub(super) fn begins_silent(&self) -> bool {
        !matches!(self, Self::None)
    }

    /// Whether the connection carries one message and nothing else.
    pub(super) fn is_alone(&self) -> bool {
        matches!(self, Self::Alone { .. } | Self::Refused { .. } | Self::Substitute { .. })
    }

    /// What follows from the end of a connection that was or was not `proven`, which is to have stood open as long as it
    /// has to.
    pub(super) fn after_cut(self, by: CutBy, first: Option<First>, proven: bool) -> Self {
        let Some(First { place, carried, unanswered }) = first else { return Self::None };
        match (self, by) {
            // Before it is proven, what was answered does not count, and the first one here is another.
            (trial, CutBy::Answer { said, took_later: true }) if unanswered && proven => match trial {
                Self::Quiet { suspect } if suspect == Some(place) => {
                    Self::Refused { place, how: Refusal::Answer(said) }
                }
                _ => Self::Quiet { suspect: Some(place) },
            },
            (_, CutBy::Answer { .. }) => Self::Quiet { suspect: None },
            // What was to name it has not arrived for certain: the message has its chance again.
            (Self::Substitute { place: suspect, .. }, _) if suspect == place => Self::Alone { place, cuts: 0 },
            (Self::Alone { place: suspect, cuts }, by) if suspect == place => {
                let cuts = cuts + u32::from(carried && proven && by == CutBy::Receiver);
                if cuts < CUTS { Self::Alone { place, cuts } } else { Self::Refused { place, how: Refusal::Cuts } }
            }
            (refused @ Self::Refused { place: suspect, .. }, _) if suspect == place => refused,
            _ if carried && place.len > UNSUSPECTED_BYTES => Self::Alone { place, cuts: 0 },
            (quiet @ Self::Quiet { .. }, _) if !carried => quiet,
            _ => Self::None,
        }
    }
}
