//! Our side of a RELP session, whatever the receiver says: what is sent is the caller's messages, numbered and whole,
//! and nothing counts as confirmed before the receiver has had it and has answered 200 to it and to all before it.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use arbitrary::{Result, Unstructured};
use sls_syslog_actors::ports::Transport;
use sls_syslog_actors::testing::seams::open_relp;
use sls_syslog_actors::wire::syslog::relp::{read_frame, write_frame};

use super::stream::{Stream, pieces};

/// What a receiver says to `open` so that we send.
const OFFERS: &[u8] = b"200 OK\nrelp_version=0\nrelp_software=receiver,1.0\ncommands=syslog";
const PLACE: &str = "siem.example.com:2514";

/// Runs it.
pub fn run(data: &[u8]) {
    // Too few bytes are as good as none.
    let _ = with(&mut Unstructured::new(data));
}

fn with(u: &mut Unstructured<'_>) -> Result<()> {
    let stream = Stream::default();
    let is_polite = u.ratio(7, 8)?;
    let mut answer = Vec::new();
    if is_polite {
        write_frame(&mut answer, 1, "rsp", OFFERS);
    } else {
        let count = u.int_in_range(0..=200)?.min(u.len());
        answer.extend_from_slice(u.bytes(count)?);
    }
    {
        let mut state = stream.0.borrow_mut();
        state.incoming = pieces(&answer, &[u.int_in_range(1..=100)?]);
        (state.ends, state.room) = (!is_polite, usize::MAX);
    }
    // A refusal is waited upon for a moment, which never passes here.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let _entered = runtime.as_ref().expect("a runtime without a thread").enter();
    let mut cx = Context::from_waker(Waker::noop());
    let transport = match pin!(open_relp(stream.clone(), PLACE, u.int_in_range(1..=8)?)).poll(&mut cx) {
        Poll::Ready(Ok(transport)) => transport,
        Poll::Ready(Err(error)) => {
            assert!(!is_polite, "{error}");
            super::assert_printable(&error.to_string(), 600);
            return Ok(());
        }
        Poll::Pending => panic!("it waits for more than there is"),
    };
    {
        let mut state = stream.0.borrow_mut();
        (state.ends, state.room) = (false, 0);
        (state.written, state.read) = (Vec::new(), Vec::new());
    }
    let mut session = Session { transport, stream, frames: Vec::new(), messages: Vec::new(), taken: 0, confirmed: 0 };
    for _ in 0..u.int_in_range(1..=12)? {
        let count = u.int_in_range(0..=40)?;
        session.add(vec![b'm'; count]);
    }
    while !u.is_empty() && session.step(u, &mut cx)? {
        session.check();
    }
    Ok(())
}

struct Session {
    transport: Box<dyn Transport>,
    stream: Stream,
    /// All that the caller has to send, octet-counted.
    frames: Vec<u8>,
    /// Each message, with its end in `frames`.
    messages: Vec<(Vec<u8>, u64)>,
    /// Bytes of `frames` that were taken.
    taken: usize,
    confirmed: u64,
}

impl Session {
    fn add(&mut self, message: Vec<u8>) {
        self.frames.extend_from_slice(format!("{} ", message.len()).as_bytes());
        self.frames.extend_from_slice(&message);
        self.messages.push((message, self.frames.len() as u64));
    }

    /// One thing that happens; whether the session goes on.
    fn step(&mut self, u: &mut Unstructured<'_>, cx: &mut Context<'_>) -> Result<bool> {
        let outcome = match u.int_in_range(0..=7)? {
            0 | 1 => {
                let rest = &self.frames[self.taken..];
                // The caller hands over whole frames, or what is left of one; the last may be cut anywhere.
                let offered = if u.ratio(3, 4)? { rest.len() } else { u.int_in_range(0..=rest.len())? };
                let offered = &rest[..offered];
                match self.transport.poll_write(cx, offered) {
                    Poll::Ready(Ok(taken)) => {
                        assert!((1..=offered.len()).contains(&taken) || offered.is_empty());
                        self.taken += taken;
                        Poll::Pending
                    }
                    // A count that is cut off cannot be read.
                    Poll::Ready(Err(_)) if offered.len() < rest.len() => return Ok(false),
                    Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                    Poll::Pending => Poll::Pending,
                }
            }
            2 => match self.transport.poll_flush(cx) {
                Poll::Ready(Ok(())) => Poll::Pending,
                other => other,
            },
            3 => {
                self.stream.0.borrow_mut().room += u.int_in_range(0..=400)?;
                Poll::Pending
            }
            4 | 5 => {
                let said = self.answers(u)?;
                let said = pieces(&said, &[u.int_in_range(1..=60)?]);
                self.stream.0.borrow_mut().incoming.extend(said);
                self.transport.poll_closed(cx)
            }
            6 if u.ratio(1, 8)? => {
                self.stream.0.borrow_mut().ends = true;
                self.transport.poll_closed(cx)
            }
            7 if u.ratio(1, 8)? => {
                let _ = self.transport.poll_shutdown(cx);
                Poll::Pending
            }
            _ => self.transport.poll_closed(cx),
        };
        if let Poll::Ready(Err(error)) = &outcome {
            super::assert_printable(&error.to_string(), 600);
        }
        let goes_on = outcome.is_pending();
        if !goes_on {
            self.check();
        }
        Ok(goes_on)
    }

    /// What a receiver may say: answers that are due, and anything else.
    fn answers(&self, u: &mut Unstructured<'_>) -> Result<Vec<u8>> {
        let mut said = Vec::new();
        for _ in 0..u.int_in_range(1..=4)? {
            let number = u.int_in_range(2..=self.messages.len() as u32 + 2)?;
            match u.int_in_range(0..=15)? {
                0..=11 => write_frame(&mut said, number, "rsp", b"200 OK"),
                12 => write_frame(&mut said, number, "rsp", b"500 no"),
                13 => write_frame(&mut said, 0, "serverclose", b""),
                14 => write_frame(&mut said, number, "rsp", b""),
                _ => {
                    let count = u.int_in_range(0..=30)?.min(u.len());
                    said.extend_from_slice(u.bytes(count)?);
                }
            }
        }
        Ok(said)
    }

    fn check(&mut self) {
        // The handshake's frame is written once more by nobody.
        let state = self.stream.0.borrow();
        let (mut rest, mut whole) = (&state.written[..], 0);
        while let Ok(Some((length, frame))) = read_frame(rest, 1000) {
            assert_eq!(frame.number as usize, whole + 2, "numbers follow each other");
            match frame.command {
                b"syslog" => assert_eq!(frame.data, self.messages[whole].0),
                other => assert_eq!(other, b"close"),
            }
            whole += usize::from(frame.command == b"syslog");
            rest = &rest[length..];
        }
        let answered = answered(&state.read);
        let confirmed = (0..whole).take_while(|index| answered.contains(&(*index as u32 + 2))).count();
        let most = confirmed.checked_sub(1).map_or(0, |last| self.messages[last].1);
        drop(state);
        let look = self.transport.look().expect("no system is asked");
        assert!(look.confirmed <= most, "{} confirmed, where {most} can be", look.confirmed);
        assert!(look.confirmed >= self.confirmed, "taken back");
        assert!(look.confirmed <= self.taken as u64);
        self.confirmed = look.confirmed;
    }
}

/// The numbers that were answered with 200, in all that was read.
fn answered(read: &[u8]) -> BTreeSet<u32> {
    let (mut rest, mut numbers) = (read, BTreeSet::new());
    while let Ok(Some((length, frame))) = read_frame(rest, 4096) {
        if frame.command == b"rsp" && frame.data.starts_with(b"200 ") {
            numbers.insert(frame.number);
        }
        rest = &rest[length..];
    }
    numbers
}
