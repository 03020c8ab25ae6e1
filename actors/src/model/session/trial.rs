//! A message that may be the reason why the receiver ends connections, and how that is found out (rule C4).
//!
//! After a cut the first unconfirmed message is suspected if it is long, or if it was found to be the only one for which
//! the connection can have ended: the next connection carries it alone. Cuts of such connections count against it; after
//! [`CUTS`] of them something else goes in its place, alone too, and once that is confirmed the message is passed over.
//! Each such connection first stands open and silent for longer than the last one lived: a receiver that ends connections
//! for their age does so then, which clears the message.
//!
//! A receiver that answers says so itself, but a full disk refuses everything. A message that it refused goes alone too,
//! so that nothing overtakes it when there is room again. Once a later one was taken in the session in which it was
//! refused, or it was refused [`CUTS`] times, what is to go in its place goes behind it when it is refused once more. If
//! that is taken, in the same session, the message is passed over.

use std::time::Duration;

/// A message no longer than this, with its frame, is not suspected of having caused a cut before it was found alone.
pub const UNSUSPECTED_BYTES: usize = 8 * 1024;
/// Cuts of connections that carried nothing but a message, or refusals of it, after which something else goes in its
/// place.
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
    /// It said this.
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
    /// The message goes alone. So many cuts, and so many refusals, count against it.
    Alone { place: Place, cuts: u32, refusals: u32 },
    /// The receiver does not take the message; what goes in its place has to be handed over.
    Refused { place: Place, how: Refusal },
    /// `frame` goes in the message's place, alone, or `behind` it as soon as it is refused once more; `at` bytes of the
    /// frame are written, and it was counted as a message.
    Substitute { place: Place, frame: Vec<u8>, at: usize, counted: bool, behind: bool },
}

impl Trial {
    /// Whether the connection carries one message and nothing else, and that only once it has stood open.
    pub(super) fn is_alone(&self) -> bool {
        !matches!(self, Self::None)
    }

    /// What follows from the end of a connection that was or was not `proven`, which is to have stood open as long as it
    /// has to. The first message is the only one for which it can have ended, if `is_found`.
    pub(super) fn after_cut(self, by: CutBy, first: Option<First>, is_found: bool, proven: bool) -> Self {
        let Some(First { place, carried, unanswered }) = first else { return Self::None };
        let anew = Self::Alone { place, cuts: 0, refusals: 0 };
        let (cuts, refusals) = match self {
            Self::Alone { place: suspect, cuts, refusals } if suspect == place => (cuts, refusals),
            _ => (0, 0),
        };
        match (self, by) {
            // What was to name it has not arrived for certain: the message has its chance again.
            (Self::Substitute { place: suspect, .. }, _) if suspect == place => anew,
            // Before it is proven, what was answered does not count, and the first one here is another.
            (_, CutBy::Answer { said, took_later }) if unanswered && proven => {
                if took_later || refusals + 1 >= CUTS {
                    Self::Refused { place, how: Refusal::Answer(said) }
                } else {
                    Self::Alone { place, cuts, refusals: refusals + 1 }
                }
            }
            (_, CutBy::Answer { .. }) => anew,
            // It was silent: connections end for other reasons.
            (Self::Alone { .. }, CutBy::Receiver) if !carried => Self::None,
            (Self::Alone { place: suspect, .. }, by) if suspect == place => {
                let cuts = cuts + u32::from(carried && proven && by == CutBy::Receiver);
                if cuts < CUTS {
                    Self::Alone { place, cuts, refusals }
                } else {
                    Self::Refused { place, how: Refusal::Cuts }
                }
            }
            (refused @ Self::Refused { place: suspect, .. }, _) if suspect == place => refused,
            _ if carried && (is_found || place.len > UNSUSPECTED_BYTES) => anew,
            _ => Self::None,
        }
    }
}
