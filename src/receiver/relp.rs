//! RELP's receiving end: every message is answered, once the sink has it for good.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sls_syslog_actors::wire::syslog::relp::{
    FrameReader, MAX_NUMBER, Offers, VERSION, write_frame, write_head, write_offers,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::serve::{Held, READ_BYTES, Server, Taken};

const SOFTWARE: &str = concat!("sls-syslog-receiver,", env!("CARGO_PKG_VERSION"));
/// How long the other end may take to close after we did; otherwise it might never read our last answers.
const LINGER: Duration = Duration::from_secs(1);

/// What a test wants to go wrong.
#[derive(Debug, Clone, Copy, Default)]
pub struct RelpFaults {
    /// Answers 500 to this message, counted from 1 over all sessions, once.
    pub refuse: Option<u64>,
    /// Answers 500 to the first so many messages.
    pub refuse_first: u64,
    /// Answers 500 to each message of more bytes than this.
    pub refuse_longer: Option<usize>,
    /// Ends each session after so many messages.
    pub serverclose_after: Option<u64>,
}

impl RelpFaults {
    /// The option for which the `count`-th message is refused.
    fn refuses(&self, count: u64, message: &[u8]) -> Option<&'static str> {
        if self.refuse == Some(count) {
            Some("--relp-refuse")
        } else if count <= self.refuse_first {
            Some("--relp-refuse-first")
        } else if self.refuse_longer.is_some_and(|longest| message.len() > longest) {
            Some("--relp-refuse-longer")
        } else {
            None
        }
    }
}

/// One session.
struct Session {
    reader: FrameReader,
    opened: bool,
    /// The number that the client's next frame has to have: strictly one after the other.
    expected: u32,
    messages: u64,
    /// Frames to send.
    out: Vec<u8>,
}

/// How a session goes on.
enum Next {
    Read,
    /// The client has closed it.
    Closed,
    /// We close it.
    ServerClose,
}

impl Server {
    /// Serves one session to its end.
    pub(super) async fn relp(
        &self,
        stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
        from: SocketAddr,
        faults: RelpFaults,
    ) -> Result<(), String> {
        let reader = FrameReader::new(self.options.limits.message_bytes);
        let mut session = Session { reader, opened: false, expected: 1, messages: 0, out: Vec::new() };
        let mut buffer = vec![0; READ_BYTES];
        let mut held = Held::new(self);
        loop {
            let next = tokio::select! {
                read = self.within_idle(stream.read(&mut buffer)) => {
                    let n = read?.map_err(|e| format!("cannot read: {e}"))?;
                    if n == 0 {
                        let whole = session.reader.pending().is_empty();
                        return whole.then_some(()).ok_or_else(|| "the stream ends within a frame".to_owned());
                    }
                    self.totals.bytes.fetch_add(n as u64, Ordering::Relaxed);
                    session.reader.push(&buffer[..n]);
                    self.take_frames(&mut session, from, faults)
                }
                () = self.stopping() => Ok(Next::ServerClose),
            };
            held.set(session.reader.pending().len())?;
            if let Ok(Next::ServerClose) = next {
                write_frame(&mut session.out, 0, "serverclose", b"");
            }
            // Also before an error ends it: what was taken was taken.
            let write = async {
                stream.write_all(&session.out).await?;
                stream.flush().await
            };
            self.within_idle(write).await?.map_err(|e| format!("cannot answer: {e}"))?;
            session.out.clear();
            if let Next::Read = next? {
                continue;
            }
            let linger = async {
                let _ = stream.shutdown().await;
                while stream.read(&mut buffer).await.is_ok_and(|n| n > 0) {}
            };
            let _ = tokio::time::timeout(LINGER, linger).await;
            return Ok(());
        }
    }

    /// Takes all whole frames and prepares their answers; an answer stands only when the sink has its message for good.
    fn take_frames(&self, session: &mut Session, from: SocketAddr, faults: RelpFaults) -> Result<Next, String> {
        let before = session.messages;
        let next = self.take_each(session, from, faults);
        if session.messages > before && self.sink.borrow_mut().settle().is_break() {
            session.out.clear();
            self.broken.notify_one();
        }
        next
    }

    fn take_each(&self, session: &mut Session, from: SocketAddr, faults: RelpFaults) -> Result<Next, String> {
        let mut sink = self.sink.borrow_mut();
        loop {
            let Some(frame) = session.reader.next().map_err(|e| e.to_string())? else { return Ok(Next::Read) };
            if frame.number != session.expected {
                return Err(format!("transaction number {} where {} is due", frame.number, session.expected));
            }
            session.expected = if frame.number == MAX_NUMBER { 1 } else { frame.number + 1 };
            let out = &mut session.out;
            match (frame.command, session.opened) {
                (b"open", false) => {
                    let offers = Offers::parse(frame.data);
                    // A newer client speaks ours too; what it says of itself is its business.
                    if offers.version.is_none() || !offers.syslog {
                        write_frame(out, frame.number, "rsp", b"500 needs relp_version and commands=syslog");
                        return Err(format!("opens with other offers than version {VERSION} and syslog"));
                    }
                    session.opened = true;
                    let answer = format!("200 OK\n{}", write_offers(SOFTWARE));
                    write_frame(out, frame.number, "rsp", answer.as_bytes());
                }
                (b"syslog", true) => {
                    let count = self.relp_messages.get() + 1;
                    self.relp_messages.set(count);
                    if let Some(option) = faults.refuses(count, frame.data) {
                        write_frame(out, frame.number, "rsp", format!("500 refused, as {option} asks").as_bytes());
                        continue;
                    }
                    session.messages += 1;
                    self.totals.messages.fetch_add(1, Ordering::Relaxed);
                    self.totals.message_bytes.fetch_add(frame.data.len() as u64, Ordering::Relaxed);
                    let taken = sink.message(from, frame.data);
                    if taken != Taken::No {
                        write_head(out, frame.number, "rsp", 6);
                        out.extend_from_slice(b"200 OK\n");
                    }
                    if taken != Taken::Yes {
                        self.broken.notify_one();
                        return Ok(Next::Read);
                    }
                    if faults.serverclose_after == Some(session.messages) {
                        return Ok(Next::ServerClose);
                    }
                }
                (b"close", true) => {
                    write_frame(out, frame.number, "rsp", b"");
                    return Ok(Next::Closed);
                }
                (command, opened) => {
                    let command = String::from_utf8_lossy(command);
                    return Err(match opened {
                        true => format!("command {command}, which is unknown or not due"),
                        false => format!("begins with {command} instead of open"),
                    });
                }
            }
        }
    }

    /// Resolves when the receiver is about to end.
    async fn stopping(&self) {
        if !self.is_stopping.get() {
            self.stopping.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::ops::ControlFlow;
    use std::sync::{Arc, Mutex};

    use super::super::serve::{Limits, Options, Running, Sink, Taken, Transport, serve};
    use super::*;

    /// Keeps what it is given; what was settled is what a sender may be told of.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<(Vec<Vec<u8>>, usize)>>);

    impl Sink for Kept {
        fn message(&mut self, _: SocketAddr, message: &[u8]) -> Taken {
            let kept = &mut self.0.lock().unwrap().0;
            if kept.last().is_some_and(|last| last == b"last") {
                return Taken::No;
            }
            kept.push(message.to_vec());
            if message == b"last" { Taken::AsLast } else { Taken::Yes }
        }

        fn trouble(&mut self, _: SocketAddr, what: &str) {
            self.0.lock().unwrap().0.push(what.as_bytes().to_vec());
        }

        fn settle(&mut self) -> ControlFlow<()> {
            let mut kept = self.0.lock().unwrap();
            kept.1 = kept.0.len();
            if kept.0.iter().any(|m| m == b"full") { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        }
    }

    fn start(faults: RelpFaults) -> (Running, Kept, TcpStream) {
        let kept = Kept::default();
        let options = Options {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            transport: Transport::Tcp,
            framing: None,
            relp: Some(faults),
            limits: Limits { message_bytes: 1000, ..Limits::default() },
        };
        let running = serve(options, Box::new(kept.clone())).unwrap();
        let client = TcpStream::connect(running.address()).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        (running, kept, client)
    }

    const OPEN: &str = "1 open 49 relp_version=0\nrelp_software=test\ncommands=syslog\n";

    fn opened() -> String {
        let offers = format!("200 OK\n{}", write_offers(SOFTWARE));
        format!("1 rsp {} {offers}\n", offers.len())
    }

    /// All that the receiver says until it closes.
    fn rest(mut client: TcpStream) -> String {
        let mut said = String::new();
        client.read_to_string(&mut said).unwrap();
        said
    }

    #[test]
    fn messages_are_answered_by_number_and_close_is_the_end() {
        let (running, kept, mut client) = start(RelpFaults::default());
        writeln!(client, "{OPEN}2 syslog 3 a\nb\n3 syslog 1 c\n4 close 0").unwrap();
        assert_eq!(rest(client), opened() + "2 rsp 6 200 OK\n3 rsp 6 200 OK\n4 rsp 0\n");
        let kept = kept.0.lock().unwrap();
        assert_eq!((kept.0.as_slice(), kept.1), (&[b"a\nb".to_vec(), b"c".to_vec()][..], 2));
        drop(running);
    }

    #[test]
    fn what_is_out_of_turn_ends_the_session_after_the_answers_that_are_due() {
        for (wrong, trouble) in [
            ("4 syslog 1 b\n", "transaction number 4 where 3 is due"),
            ("2 syslog 1 b\n", "transaction number 2 where 3 is due"),
            ("3 open 0\n", "command open, which is unknown or not due"),
            ("3 syslog 1001 b", "a frame of 1001 bytes, where at most 1000 are allowed"),
            ("3 syslog 1 bb\n", "a frame does not end where its length says"),
        ] {
            let (running, kept, mut client) = start(RelpFaults::default());
            write!(client, "{OPEN}2 syslog 1 a\n{wrong}").unwrap();
            assert_eq!(rest(client), opened() + "2 rsp 6 200 OK\n", "{wrong}");
            running.stop();
            assert_eq!(kept.0.lock().unwrap().0, [b"a".to_vec(), trouble.as_bytes().to_vec()]);
        }
        let (running, kept, mut client) = start(RelpFaults::default());
        writeln!(client, "1 syslog 1 a").unwrap();
        assert_eq!(rest(client), "");
        running.stop();
        assert_eq!(kept.0.lock().unwrap().0, [b"begins with syslog instead of open".to_vec()]);
    }

    #[test]
    fn faults_come_as_asked_for() {
        let faults = RelpFaults { refuse: Some(2), serverclose_after: Some(2), ..RelpFaults::default() };
        let (running, kept, mut client) = start(faults);
        writeln!(client, "{OPEN}2 syslog 1 a\n3 syslog 1 b\n4 syslog 1 c\n5 syslog 1 d").unwrap();
        let refused = "3 rsp 34 500 refused, as --relp-refuse asks\n";
        assert_eq!(rest(client), opened() + "2 rsp 6 200 OK\n" + refused + "4 rsp 6 200 OK\n0 serverclose 0\n");
        assert_eq!(kept.0.lock().unwrap().0, [b"a".to_vec(), b"c".to_vec()]);
        running.stop();
    }

    #[test]
    fn long_messages_are_refused_and_the_first_ones_whatever_they_are() {
        let faults = RelpFaults { refuse_first: 2, refuse_longer: Some(3), ..RelpFaults::default() };
        let (running, kept, mut client) = start(faults);
        writeln!(client, "{OPEN}2 syslog 1 a\n3 syslog 1 b\n4 syslog 3 ccc\n5 syslog 4 dddd\n6 close 0").unwrap();
        let first = |n: u32| format!("{n} rsp 40 500 refused, as --relp-refuse-first asks\n");
        let long = "5 rsp 41 500 refused, as --relp-refuse-longer asks\n";
        assert_eq!(rest(client), opened() + &first(2) + &first(3) + "4 rsp 6 200 OK\n" + long + "6 rsp 0\n");
        assert_eq!(kept.0.lock().unwrap().0, [b"ccc".to_vec()]);
        running.stop();
    }

    #[test]
    fn the_last_message_that_is_wanted_is_answered_and_none_behind_it() {
        let (running, kept, mut client) = start(RelpFaults::default());
        writeln!(client, "{OPEN}2 syslog 1 a\n3 syslog 4 last\n4 syslog 1 b").unwrap();
        assert_eq!(rest(client), opened() + "2 rsp 6 200 OK\n3 rsp 6 200 OK\n0 serverclose 0\n");
        assert_eq!(kept.0.lock().unwrap().0, [b"a".to_vec(), b"last".to_vec()]);
        running.stop();
    }

    #[test]
    fn nothing_is_answered_that_the_sink_could_not_keep() {
        let (running, _, mut client) = start(RelpFaults::default());
        write!(client, "{OPEN}").unwrap();
        let mut said = vec![0; opened().len()];
        client.read_exact(&mut said).unwrap();
        writeln!(client, "2 syslog 4 full").unwrap();
        assert_eq!(rest(client), "0 serverclose 0\n");
        running.stop();
    }

    #[test]
    fn sessions_are_told_when_the_receiver_ends() {
        let (running, _, mut client) = start(RelpFaults::default());
        writeln!(client, "{OPEN}2 syslog 1 a").unwrap();
        let mut said = vec![0; opened().len() + "2 rsp 6 200 OK\n".len()];
        client.read_exact(&mut said).unwrap();
        let told = std::thread::spawn(move || rest(client));
        running.stop();
        assert_eq!(told.join().unwrap(), "0 serverclose 0\n");
    }
}
