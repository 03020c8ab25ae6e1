//! Why an open connection ended, whom that is held against, and how it is said.

use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::model::session::Cut;
use crate::model::session::trial::{CUTS, CutBy};
use crate::ports::{MessageRefused, Renewal, Transport};

/// Why an open connection ended.
pub(super) enum Ended {
    /// FIN or `close_notify`.
    Closed,
    /// No progress for the whole time-out.
    Stuck,
    /// Anything else.
    Failed(io::Error),
}

/// Reads what the peer says; an error if the connection has ended.
pub(super) fn poll_open(transport: &mut dyn Transport, cx: &mut Context<'_>) -> Result<(), Ended> {
    match transport.poll_closed(cx) {
        Poll::Pending => Ok(()),
        Poll::Ready(Ok(())) => Err(Ended::Closed),
        Poll::Ready(Err(error)) => Err(Ended::Failed(error)),
    }
}

impl Ended {
    /// Whether the peer closed, politely or not, without giving a reason.
    pub(super) fn is_close(&self) -> bool {
        match self {
            Self::Closed => true,
            Self::Stuck => false,
            Self::Failed(error) => matches!(
                error.kind(),
                io::ErrorKind::ConnectionReset
                    | io::ErrorKind::BrokenPipe
                    | io::ErrorKind::ConnectionAborted
                    | io::ErrorKind::UnexpectedEof
            ),
        }
    }

    /// Who ended it, as far as a message may be the reason.
    pub(super) fn blame(&self) -> CutBy {
        match self {
            Self::Closed => CutBy::Receiver,
            Self::Stuck => CutBy::Other,
            Self::Failed(error) => match error.get_ref().and_then(|inner| inner.downcast_ref::<MessageRefused>()) {
                Some(MessageRefused { said, took_later }) => {
                    CutBy::Answer { said: said.clone(), took_later: *took_later }
                }
                None if self.is_renewal() => CutBy::Other,
                None => match error.kind() {
                    io::ErrorKind::TimedOut
                    | io::ErrorKind::HostUnreachable
                    | io::ErrorKind::NetworkUnreachable
                    | io::ErrorKind::NetworkDown => CutBy::Other,
                    _ => CutBy::Receiver,
                },
            },
        }
    }

    /// Whether the receiver refused a message and took a later one.
    pub(super) fn took_later(&self) -> bool {
        matches!(self.blame(), CutBy::Answer { took_later: true, .. })
    }

    /// Whether nothing is wrong.
    pub(super) fn is_renewal(&self) -> bool {
        matches!(self, Self::Failed(error) if error.get_ref().is_some_and(|inner| inner.is::<Renewal>()))
    }

    pub(super) fn to_sentence(&self, timeout: Duration) -> String {
        let stuck = || format!("the receiver has acknowledged nothing for {timeout:?} (destination.timeout)");
        match self {
            Self::Closed => "the receiver closed the connection".to_owned(),
            Self::Stuck => stuck(),
            Self::Failed(error) => match error.kind() {
                io::ErrorKind::TimedOut => stuck(),
                io::ErrorKind::ConnectionReset => "the receiver reset the connection".to_owned(),
                io::ErrorKind::BrokenPipe => "the receiver closed the connection while it was written to".to_owned(),
                _ => error.to_string(),
            },
        }
    }

    /// The same, with what follows for a message that may be the reason, or that a gap record is to name.
    pub(super) fn and_next(&self, cut: &Cut, is_refused: bool, timeout: Duration) -> String {
        let why = self.to_sentence(timeout);
        let is_answer = matches!(self.blame(), CutBy::Answer { .. });
        match cut.suspect {
            Some((bytes, cuts)) if is_answer => format!(
                "{why}; next it is sent nothing but this one of {bytes} bytes, and once it has refused it {CUTS} times \
                 ({cuts} so far) a gap record behind it"
            ),
            Some((bytes, cuts)) => format!(
                "{why}; next it is sent nothing but one message of {bytes} bytes, which is set aside after {CUTS} such \
                 cuts ({cuts} so far)"
            ),
            None if is_refused && is_answer => {
                format!("{why}; if it refuses it again and takes a gap record behind it, the message is set aside")
            }
            None if is_refused => {
                format!("{why}, {CUTS} times when it was sent one message alone; next a gap record goes in its place")
            }
            None => why,
        }
    }
}
