//! A RELP session with the receiver: messages go out numbered, as many unanswered ones as the window allows, and a
//! message is confirmed when it and all before it were answered with 200.
//!
//! A refusal, any other answer, is told by the next look, and does not end the session before it is known what the receiver
//! makes of the messages behind it (rule C4): nothing is wrong with a receiver that takes one of these, and one whose disk
//! is full takes none.
//!
//! Whoever writes to the transport frames with octet counting, as for UDP; the frames on the wire are made here, in one
//! buffer that is written at once.

use std::collections::VecDeque;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

use crate::ports::{DialError, Look, MessageRefused, Renewal, Transport};
use crate::wire::syslog::framing::octet_count;
use crate::wire::syslog::relp::{
    Answer, FrameReader, MAX_NUMBER, Offers, VERSION, write_frame, write_head, write_offers,
};
use crate::wire::text::escape_foreign;

/// Longest answer that is read (rule M4).
const MAX_ANSWER: usize = 4096;
/// Bytes of frames that wait for the socket.
const OUT_BYTES: usize = 256 << 10;
/// What is read at once: some hundred answers.
const SCRATCH: usize = 8192;
/// Reads in one go before others get their turn.
const READS: usize = 16;
/// Bytes shown of what a peer says.
const SHOWN: usize = 120;
/// How long a message may be refused, and all others answered, before the session ends: time for one more to be written
/// behind it.
const AFTER_REFUSAL: Duration = Duration::from_millis(500);
/// Our name towards the receiver.
const SOFTWARE: &str = concat!("sls-syslog,", env!("CARGO_PKG_VERSION"));

/// What a session runs over.
pub(crate) trait Wire: AsyncRead + AsyncWrite + Unpin {
    /// Has the system acknowledge what was read without waiting for something to send.
    fn acknowledge_now(&self);
}

impl Wire for TcpStream {
    fn acknowledge_now(&self) {
        // Slower without, and no less right.
        #[cfg(target_os = "linux")]
        let _ = SockRef::from(self).set_tcp_quickack(true);
    }
}

/// Opens a session on a new connection to `place`, the receiver as it is shown.
pub(crate) async fn open<S>(mut stream: S, place: &str, window: usize) -> Result<RelpTransport<S>, DialError>
where
    S: Wire,
{
    let mut out = Vec::new();
    write_frame(&mut out, 1, "open", write_offers(SOFTWARE).as_bytes());
    let sent = async {
        stream.write_all(&out).await?;
        stream.flush().await
    };
    sent.await.map_err(|error| broken(place, &error))?;
    let mut reader = FrameReader::new(MAX_ANSWER);
    let mut scratch = [0; MAX_ANSWER];
    loop {
        match stream.read(&mut scratch).await {
            Ok(0) => return Err(ended(place, &"it closed the connection")),
            Ok(n) => reader.push(&scratch[..n]),
            Err(error) => return Err(broken(place, &error)),
        }
        let said = shown(reader.pending());
        match reader.next() {
            Ok(None) => {}
            Ok(Some(frame)) => match (frame.number, frame.command) {
                (1, b"rsp") => {
                    judge(place, frame.data)?;
                    return Ok(RelpTransport::new(stream, reader, window));
                }
                (0, b"serverclose") => {
                    return Err(DialError(format!("{place} takes no RELP sessions at the moment (serverclose)")));
                }
                _ => return Err(no_relp(place, &said)),
            },
            Err(_) => return Err(no_relp(place, &said)),
        }
    }
}

/// Whether the answer to our `open` lets us send.
fn judge(place: &str, data: &[u8]) -> Result<(), DialError> {
    let Ok(answer) = Answer::parse(data) else { return Err(no_relp(place, &shown(data))) };
    if answer.code != 200 {
        return Err(DialError(format!("{place} refused the RELP session: {} {}", answer.code, shown(answer.text))));
    }
    let offers = Offers::parse(answer.data);
    match offers.version {
        Some(VERSION) => {}
        Some(version) => {
            return Err(DialError(format!(
                "{place} speaks version {version} of RELP alone, and this program version {VERSION}"
            )));
        }
        None => return Err(DialError(format!("{place} names no version of RELP in its answer to open"))),
    }
    if offers.syslog {
        Ok(())
    } else {
        Err(DialError(format!("{place} speaks RELP, but does not offer to take syslog messages")))
    }
}

/// An error of the socket, or a sentence of the TLS layer, such as that our certificate was refused.
fn broken(place: &str, error: &io::Error) -> DialError {
    if error.get_ref().is_some() { DialError(error.to_string()) } else { ended(place, error) }
}

fn ended(place: &str, why: &dyn std::fmt::Display) -> DialError {
    DialError(format!(
        "{place} opened no RELP session: {why}; it may not speak RELP on this port (destination.port), or only with or \
         without TLS (destination.protocol: relp+tls or relp)"
    ))
}

fn no_relp(place: &str, said: &str) -> DialError {
    DialError(format!(
        "{place} does not speak RELP on this port: it said \"{said}\" (destination.port, destination.protocol)",
    ))
}

fn shown(bytes: &[u8]) -> String {
    let first = &bytes[..bytes.len().min(SHOWN)];
    escape_foreign(&String::from_utf8_lossy(first), SHOWN)
}

/// An open session.
#[derive(Debug)]
pub struct RelpTransport<S> {
    stream: S,
    reader: FrameReader,
    window: Window,
    /// Frames on their way to the stream, which has taken those before `out_at`.
    out: Vec<u8>,
    out_at: usize,
    /// Bytes of frames taken from the caller.
    taken: u64,
    /// Bytes of the message begun that the caller has not given yet.
    left: usize,
    /// Runs while everything is answered and the first message is refused; begins anew when another one follows.
    refused: Option<Pin<Box<Sleep>>>,
    closing: Closing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Closing {
    No,
    /// `close` was sent with this number.
    Asked(u32),
    Answered,
}

impl<S> RelpTransport<S> {
    fn new(stream: S, reader: FrameReader, window: usize) -> Self {
        Self {
            stream,
            reader,
            window: Window::new(window),
            out: Vec::new(),
            out_at: 0,
            taken: 0,
            left: 0,
            refused: None,
            closing: Closing::No,
        }
    }

    /// Makes RELP frames of octet-counted ones until `frames` ends, or the window or the buffer is full; answers how
    /// many bytes of `frames` were taken.
    fn encode(&mut self, frames: &[u8]) -> io::Result<usize> {
        let mut at = 0;
        while at < frames.len() && self.out.len() < OUT_BYTES {
            if self.left == 0 {
                if !self.window.has_room() {
                    break;
                }
                let Some((head, length)) = octet_count(&frames[at..]).filter(|(_, len)| *len <= MAX_NUMBER as usize)
                else {
                    // The caller's slice may end within a count.
                    if at > 0 {
                        break;
                    }
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "not an octet-counted frame"));
                };
                at += head;
                self.left = length;
                self.refused = None;
                let number = self.window.begin(self.taken + (at + length) as u64);
                write_head(&mut self.out, number, "syslog", length);
            }
            let n = self.left.min(frames.len() - at).min(OUT_BYTES.saturating_sub(self.out.len()));
            self.out.extend_from_slice(&frames[at..at + n]);
            at += n;
            self.left -= n;
            if self.left == 0 {
                self.out.push(b'\n');
                self.window.finish((self.out.len() - self.out_at) as u64);
            }
        }
        self.taken += at as u64;
        Ok(at)
    }

    /// Hears what the receiver says; answers whether it was the answer to `close`.
    fn hear(&mut self) -> io::Result<bool> {
        let mut closed = false;
        loop {
            let frame = match self.reader.next() {
                Ok(Some(frame)) => frame,
                Ok(None) => return Ok(closed),
                Err(error) => return Err(malformed(&error)),
            };
            match (frame.command, frame.number) {
                (b"rsp", number) if self.closing == Closing::Asked(number) => {
                    self.closing = Closing::Answered;
                    closed = true;
                }
                (b"rsp", number) => self.window.answered(number, frame.data)?,
                (b"serverclose", 0) => {
                    let why = "the receiver ended the RELP session (serverclose)";
                    return Err(io::Error::new(io::ErrorKind::ConnectionAborted, why));
                }
                (command, _) => {
                    return Err(malformed(&format!("a frame that only clients send: {}", shown(command))));
                }
            }
        }
    }
}

impl<S: Wire> RelpTransport<S> {
    /// Ends the session if it is known what to make of a refusal of the first message that is not confirmed.
    fn poll_refused(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let Some(said) = self.window.refusal() else { return Poll::Pending };
        let took_later = self.window.taken > 0;
        if !took_later {
            if self.window.due > 0 {
                return Poll::Pending;
            }
            let wait = self.refused.get_or_insert_with(|| Box::pin(sleep(AFTER_REFUSAL)));
            ready!(wait.as_mut().poll(cx));
        }
        Poll::Ready(io::Error::other(MessageRefused { said: said.to_owned(), took_later }))
    }

    /// Gives the stream all that waits for it.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.out_at < self.out.len() {
            let n = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.out[self.out_at..]))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.out_at += n;
            self.window.sent += n as u64;
        }
        self.out.clear();
        self.out_at = 0;
        Poll::Ready(Ok(()))
    }
}

impl<S: Wire> Transport for RelpTransport<S> {
    fn poll_write(&mut self, cx: &mut Context<'_>, frames: &[u8]) -> Poll<io::Result<usize>> {
        if self.out.len() >= OUT_BYTES {
            ready!(self.poll_drain(cx))?;
        }
        match self.encode(frames)? {
            // The window is full, and the next answer wakes whoever polls for the end. What it waits for has to go out.
            0 if self.window.is_used_up() => Poll::Ready(Err(io::Error::other(Renewal(
                "the RELP session has used up its transaction numbers; a new one begins",
            )))),
            0 => {
                ready!(self.poll_flush(cx))?;
                Poll::Pending
            }
            taken => Poll::Ready(Ok(taken)),
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut scratch = [MaybeUninit::uninit(); SCRATCH];
        let mut heard = false;
        for _ in 0..READS {
            let mut buffer = ReadBuf::uninit(&mut scratch);
            let Poll::Ready(read) = Pin::new(&mut self.stream).poll_read(cx, &mut buffer) else {
                // A receiver that sends each answer by itself has the next ones wait for our acknowledgement (Nagle), and
                // we may have nothing to send with it.
                if heard && !self.window.messages.is_empty() {
                    self.stream.acknowledge_now();
                }
                return self.poll_refused(cx).map(Err);
            };
            read?;
            if buffer.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            heard = true;
            self.reader.push(buffer.filled());
            if self.hear()? {
                // It is `poll_shutdown` that waits for it.
                cx.waker().wake_by_ref();
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn look(&mut self) -> io::Result<Look> {
        Ok(Look { confirmed: self.window.confirmed, open: true, refused: self.window.refusal().is_some() })
    }

    fn answers(&self) -> u64 {
        self.window.answers
    }

    /// Sends `close`, and ends the stream once it is answered.
    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.closing == Closing::No && self.left == 0 {
            write_frame(&mut self.out, self.window.next, "close", b"");
            self.closing = Closing::Asked(self.window.next);
        }
        if let Closing::Asked(_) = self.closing {
            ready!(self.poll_flush(cx))?;
            return Poll::Pending;
        }
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// The messages that were sent and not answered, or not before an earlier one was.
#[derive(Debug)]
struct Window {
    size: usize,
    /// It was full, and is not refilled before half of it was answered: receivers that answer message by message would
    /// otherwise be sent to message by message.
    full: bool,
    messages: VecDeque<Message>,
    /// How many of them are not answered.
    due: usize,
    /// How many of them are answered with 200.
    taken: usize,
    /// Messages ever answered.
    answers: u64,
    /// The number of the next message, or of `close`.
    next: u32,
    /// Bytes of RELP frames that the stream has taken since the session is open.
    sent: u64,
    /// Bytes of the caller's frames up to the first message that is not answered.
    confirmed: u64,
}

#[derive(Debug)]
struct Message {
    /// Its end in the caller's bytes.
    end: u64,
    /// Its end in the bytes of the RELP frames; nothing is known of it before it was made whole.
    sent_at: u64,
    answer: Verdict,
}

/// What the receiver has said of a message.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// Nothing yet.
    Due,
    /// It has it.
    Taken,
    /// It does not take it; its words, escaped and cut.
    Refused(Box<str>),
}

impl Window {
    fn new(size: usize) -> Self {
        let messages = VecDeque::new();
        Self { size, full: false, messages, due: 0, taken: 0, answers: 0, next: 2, sent: 0, confirmed: 0 }
    }

    fn has_room(&mut self) -> bool {
        let most = if self.full { self.size / 2 } else { self.size - 1 };
        // Something has to follow a refused message, or it would never be known what is wrong with it.
        self.full = self.messages.len() - usize::from(self.refusal().is_some()) > most;
        // The last number is for `close`.
        !self.full && self.next < MAX_NUMBER
    }

    /// The words with which the first message was refused, if it was.
    fn refusal(&self) -> Option<&str> {
        match &self.messages.front()?.answer {
            Verdict::Refused(said) => Some(said),
            Verdict::Due | Verdict::Taken => None,
        }
    }

    /// Whether no message can follow on this session.
    fn is_used_up(&self) -> bool {
        self.next >= MAX_NUMBER && self.messages.is_empty()
    }

    /// The number for a message that ends there in the caller's bytes.
    fn begin(&mut self, end: u64) -> u32 {
        self.messages.push_back(Message { end, sent_at: u64::MAX, answer: Verdict::Due });
        self.due += 1;
        self.next += 1;
        self.next - 1
    }

    /// The message begun last is whole, and the last of `waiting` bytes that the stream has to take.
    fn finish(&mut self, waiting: u64) {
        if let Some(message) = self.messages.back_mut() {
            message.sent_at = self.sent + waiting;
        }
    }

    /// Takes the answer to one message. Only what cannot be wrong counts: an answer to a message that the receiver has
    /// not got, or a second one, ends the session.
    fn answered(&mut self, number: u32, data: &[u8]) -> io::Result<()> {
        let answer = Answer::parse(data).map_err(|error| malformed(&error))?;
        // Their number is bounded by the window, and so fits.
        let first = self.next - self.messages.len() as u32;
        let message = number.checked_sub(first).and_then(|index| self.messages.get_mut(index as usize));
        let Some(message) = message.filter(|m| m.sent_at <= self.sent && m.answer == Verdict::Due) else {
            return Err(malformed(&format!("an answer to number {number}, for which none is due")));
        };
        self.due -= 1;
        self.answers += 1;
        if answer.code == 200 {
            message.answer = Verdict::Taken;
            self.taken += 1;
        } else {
            message.answer = Verdict::Refused(format!("{} \"{}\"", answer.code, shown(answer.text)).into());
        }
        while let Some(message) = self.messages.front().filter(|message| message.answer == Verdict::Taken) {
            self.confirmed = message.end;
            self.messages.pop_front();
            self.taken -= 1;
        }
        Ok(())
    }
}

fn malformed(what: &dyn std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("what the receiver says is not RELP: {what}"))
}

#[cfg(test)]
mod tests;
