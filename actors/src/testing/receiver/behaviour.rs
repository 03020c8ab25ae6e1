//! What a simulated receiver does at the moment.

use std::time::Duration;

/// How a receiver behaves at the moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Behaviour {
    /// Whether connections are accepted.
    pub dialing: Dialing,
    /// Time that connecting takes.
    pub dial_takes: Duration,
    /// Bytes that the peer's TCP holds for its application.
    pub buffer: usize,
    /// Time from the writing of bytes to their acknowledgement.
    pub acknowledges_after: Duration,
    /// The application reads so many bytes, then rests so long; `None` if it does not read at all.
    pub reads: Option<(usize, Duration)>,
    /// What the application answers, and after how long; with RELP alone.
    pub answers: (Answers, Duration),
    /// Each new connection is closed this long after it opened, nothing read: a refusal that comes late, as that of a
    /// TLS 1.3 client certificate.
    pub refuses_after: Option<Duration>,
    /// The application takes no message longer than this. It ends a connection that was opened meanwhile, what it has
    /// not read unread, when it reads of one; with RELP it answers so.
    pub longest: Option<usize>,
}

impl Behaviour {
    /// A receiver as one wishes it.
    pub fn healthy() -> Self {
        Self {
            dialing: Dialing::Accept,
            dial_takes: Duration::from_millis(1),
            buffer: 256 << 10,
            acknowledges_after: Duration::from_millis(1),
            reads: Some((64 << 10, Duration::from_millis(1))),
            answers: (Answers::Take, Duration::from_millis(1)),
            refuses_after: None,
            longest: None,
        }
    }
}

/// What a RELP receiver says to messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answers {
    /// It takes them.
    Take,
    /// It refuses all of them, as if its disk were full.
    Refuse,
    /// It takes them, and does not say so.
    Silence,
    /// It takes them, and answers what is no RELP.
    Rubbish,
    /// It takes them, and ends the session.
    End,
}

/// What becomes of an attempt to connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialing {
    /// It succeeds.
    Accept,
    /// It is refused.
    Refuse,
    /// Nothing answers; the attempt fails when its time is over.
    Silence,
}

/// How the peer ends its connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Politely: the application has read all that came until now.
    Fin,
    /// With a reset; what is in flight or unread is lost.
    Reset,
}
