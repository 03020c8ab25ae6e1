//! What anybody sends to our receiver over TCP: octet counting, LF, NUL, or none of them. Whatever the pieces in which it arrives,
//! the same messages come out, and a plain reader of the whole finds the same.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arbitrary::{Result, Unstructured};
use sls_syslog_actors::config::Framing;

use super::stream::{Stream, pieces};
use crate::receiver::relp::RelpFaults;
use crate::receiver::serve::{Limits, Options, Sink, Taken, Transport, converse};

/// Runs it.
pub fn run(data: &[u8]) {
    // Too few bytes are as good as none.
    let _ = with(&mut Unstructured::new(data));
}

fn with(u: &mut Unstructured<'_>) -> Result<()> {
    let max = u.int_in_range(1..=200)?;
    let wanted = *u.choose(&[None, Some(Framing::Lf), Some(Framing::Nul), Some(Framing::OctetCounting)])?;
    let lengths = [u.int_in_range(1..=40)?, u.int_in_range(1..=40)?];
    let bytes = u.bytes(u.len())?;
    let (messages, outcome) = read(bytes, max, wanted);
    for lengths in [&[][..], &lengths, &[1]] {
        let heard = converse_over(bytes, lengths, max, wanted, None);
        let counts = bytes.first().is_some_and(|first| matches!(first, b'1'..=b'9'));
        let begun = counts || bytes.first() == Some(&b'<');
        if begun && wanted.is_some_and(|wanted| counts != (wanted == Framing::OctetCounting)) {
            assert!(heard.outcome.is_err(), "another framing than the one wanted");
            continue;
        }
        assert_eq!(heard.messages, messages, "in pieces of {lengths:?}");
        assert_eq!(heard.outcome.is_ok(), outcome, "{:?}", heard.outcome);
        assert!(heard.said.is_empty());
    }
    Ok(())
}

/// The messages of a stream, and whether it ends as it should.
fn read(bytes: &[u8], max: usize, wanted: Option<Framing>) -> (Vec<Vec<u8>>, bool) {
    let (mut rest, mut messages) = (bytes, Vec::new());
    // The first one of them that comes is the one.
    let end = match wanted {
        Some(Framing::Nul) => Some(0),
        Some(_) => Some(b'\n'),
        None => bytes.iter().copied().find(|b| matches!(b, b'\n' | 0)),
    };
    let counts = bytes.first().is_some_and(|b| *b != b'<');
    while let Some(first) = rest.first() {
        let (start, length) = if counts {
            let Some(space) = rest.iter().position(|b| *b == b' ').filter(|at| *at <= 10) else {
                return (messages, false);
            };
            let length = std::str::from_utf8(&rest[..space]).ok().and_then(|digits| digits.parse::<usize>().ok());
            let Some(length) = length.filter(|_| matches!(first, b'1'..=b'9')) else { return (messages, false) };
            (space + 1, length)
        } else {
            let Some(end) = rest.iter().position(|b| Some(*b) == end).filter(|_| *first == b'<') else {
                return (messages, false);
            };
            (0, end)
        };
        let Some(message) = rest.get(start..start.saturating_add(length)).filter(|_| length <= max) else {
            return (messages, false);
        };
        messages.push(message.to_vec());
        rest = &rest[start + length + usize::from(!counts)..];
    }
    (messages, true)
}

/// What became of a conversation.
pub(super) struct Heard {
    pub(super) messages: Vec<Vec<u8>>,
    /// Settled after so many of them, each time.
    pub(super) settled: Vec<usize>,
    pub(super) said: Vec<u8>,
    pub(super) outcome: std::result::Result<(), String>,
}

/// Gives the receiver bytes in pieces of these lengths, and then the end of the stream.
pub(super) fn converse_over(
    bytes: &[u8],
    lengths: &[usize],
    max: usize,
    framing: Option<Framing>,
    relp: Option<RelpFaults>,
) -> Heard {
    thread_local! {
        static RUNTIME: RefCell<tokio::runtime::Runtime> = RefCell::new(
            tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime without a thread"),
        );
    }
    let limits = Limits { message_bytes: max, idle: Duration::ZERO, ..Limits::default() };
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let options = Options { listen, transport: Transport::Tcp, framing, relp, limits };
    let kept = Kept::default();
    let mut stream = Stream::default();
    {
        let mut state = stream.0.borrow_mut();
        (state.incoming, state.ends, state.room) = (pieces(bytes, lengths), true, usize::MAX);
    }
    let conversation = converse(options, Box::new(kept.clone()), &mut stream, listen);
    let outcome = RUNTIME.with_borrow_mut(|runtime| runtime.block_on(conversation));
    if let Err(what) = &outcome {
        super::assert_printable(what, 300);
    }
    let Messages { messages, settled } = std::mem::take(&mut *kept.0.lock().expect("nobody panicked"));
    let said = std::mem::take(&mut stream.0.borrow_mut().written);
    Heard { messages, settled, said, outcome }
}

/// What a sink was given.
#[derive(Default)]
struct Messages {
    messages: Vec<Vec<u8>>,
    /// How many had come each time when the sender was to be told.
    settled: Vec<usize>,
}

#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Messages>>);

impl Sink for Kept {
    fn message(&mut self, _: SocketAddr, message: &[u8]) -> Taken {
        self.0.lock().expect("nobody panicked").messages.push(message.to_vec());
        Taken::Yes
    }

    fn trouble(&mut self, _: SocketAddr, _: &str) {}

    fn settle(&mut self) -> ControlFlow<()> {
        let mut kept = self.0.lock().expect("nobody panicked");
        let count = kept.messages.len();
        kept.settled.push(count);
        ControlFlow::Continue(())
    }
}
