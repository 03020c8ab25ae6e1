//! The connection over RELP: receivers that answer late, out of order, with refusals, or not at all.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::time::Duration;

use crate::rig::*;
use sls_syslog_actors::config::{DestinationConfig, Protocol};
use sls_syslog_actors::messages::{Outcome, ReceiverState};
use sls_syslog_actors::wire::syslog::relp::{FrameReader, write_frame};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const OFFERS: &[u8] = b"200 OK\nrelp_version=0\nrelp_software=script\ncommands=syslog";

struct Receiver {
    listener: TcpListener,
    port: u16,
}

impl Receiver {
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let port = listener.local_addr().expect("address").port();
        Self { listener, port }
    }

    fn config(&self) -> DestinationConfig {
        config(Protocol::Relp, self.port)
    }

    async fn accept(&self) -> Session {
        let stream = soon("a connection", self.listener.accept()).await.expect("accept").0;
        Session { stream, reader: FrameReader::new(16 << 20) }
    }

    /// A session that is open.
    async fn session(&self) -> Session {
        let mut session = self.accept().await;
        let (number, command, _) = session.frame().await.expect("open");
        assert_eq!((number, command.as_str()), (1, "open"));
        session.answer(1, OFFERS).await;
        session
    }
}

struct Session {
    stream: TcpStream,
    reader: FrameReader,
}

impl Session {
    /// The next frame: number, command, data. Nothing at the end.
    async fn frame(&mut self) -> Option<(u32, String, Vec<u8>)> {
        loop {
            if let Some(frame) = self.reader.next().expect("well-formed frames") {
                let command = std::str::from_utf8(frame.command).expect("letters").to_owned();
                return Some((frame.number, command, frame.data.to_vec()));
            }
            let mut chunk = vec![0; 1 << 16];
            let n = soon("a frame", self.stream.read(&mut chunk)).await.unwrap_or(0);
            if n == 0 {
                return None;
            }
            self.reader.push(&chunk[..n]);
        }
    }

    /// The next messages, with their numbers.
    async fn messages(&mut self, count: usize) -> Vec<(u32, Vec<u8>)> {
        let mut messages = Vec::new();
        for _ in 0..count {
            let (number, command, data) = self.frame().await.expect("a message");
            assert_eq!(command, "syslog");
            messages.push((number, data));
        }
        messages
    }

    async fn answer(&mut self, number: u32, data: &[u8]) {
        self.say(number, "rsp", data).await;
    }

    async fn say(&mut self, number: u32, command: &str, data: &[u8]) {
        let mut out = Vec::new();
        write_frame(&mut out, number, command, data);
        self.stream.write_all(&out).await.expect("write");
    }

    async fn confirm(&mut self, messages: &[(u32, Vec<u8>)]) {
        for (number, _) in messages {
            self.answer(*number, b"200 OK").await;
        }
    }

    /// Answers what comes as `judge` says, until the connection ends; what it took.
    async fn judge(&mut self, mut judge: impl FnMut(&[u8]) -> bool) -> Vec<Vec<u8>> {
        let mut taken = Vec::new();
        while let Some((number, command, data)) = self.frame().await {
            match command.as_str() {
                "close" => self.answer(number, b"").await,
                _ if judge(&data) => {
                    self.answer(number, b"200 OK").await;
                    taken.push(data);
                }
                _ => self.answer(number, b"500 not this one").await,
            }
        }
        taken
    }

    /// Answers everything until the session is closed politely; what came.
    async fn serve(mut self) -> Vec<Vec<u8>> {
        let mut messages = Vec::new();
        while let Some((number, command, data)) = self.frame().await {
            if command == "close" {
                self.answer(number, b"").await;
                assert!(self.frame().await.is_none(), "nothing follows close");
                return messages;
            }
            messages.push(data);
            self.answer(number, b"200 OK").await;
        }
        panic!("the connection ended without close");
    }
}

#[test]
fn what_is_answered_is_delivered_in_order_and_the_close_is_polite() {
    run(async {
        let receiver = Receiver::new().await;
        let mut rig = Rig::new(&receiver.config());
        let received = actix_rt::spawn(async move { receiver.session().await.serve().await });
        let mut expected = Vec::new();
        for batch in 0..50 {
            let messages = numbered(batch * 100, 100, 300);
            rig.send(&messages).await;
            expected.extend(messages);
        }
        // Longer than the slices in which a connection writes.
        let long = numbered(5000, 1, 3 << 20);
        rig.send(&long).await;
        expected.extend(long);
        assert_eq!(rig.state().await, ReceiverState::Ready);
        rig.delivered(0..51).await;
        let counters = rig.counters.snapshot();
        rig.close(PATIENCE).await;
        assert!(soon("all messages", received).await.expect("receiver") == expected);
        assert_eq!(counters.bytes_confirmed, counted(&expected).len() as u64);
        assert_eq!((counters.connections_opened, counters.connections_cut, counters.messages_resent), (1, 0, 0));
    });
}

/// A receiver that answers message by message, and whose system holds the second answer back until the first is
/// acknowledged: with acknowledgements 40 ms late, as they are where nothing goes the other way, this takes 15 s and more.
#[cfg(target_os = "linux")]
#[test]
fn answers_are_acknowledged_at_once() {
    run(async {
        let receiver = Receiver::new().await;
        let mut rig = Rig::new(&receiver.config());
        let received = actix_rt::spawn(async move { receiver.session().await.serve().await.len() });
        let begin = std::time::Instant::now();
        for batch in 0..50 {
            rig.send(&numbered(batch * 1_000, 1_000, 100)).await;
        }
        rig.delivered(0..50).await;
        assert!(begin.elapsed() < Duration::from_secs(8), "took {:?}", begin.elapsed());
        rig.close(PATIENCE).await;
        assert_eq!(soon("all messages", received).await.expect("receiver"), 50_000);
    });
}

/// At most so many messages are out as the window allows, and nothing is confirmed before its answer.
#[test]
fn nothing_is_confirmed_before_its_answer_and_the_window_holds() {
    run(async {
        let receiver = Receiver::new().await;
        let settings = DestinationConfig { relp_window: 10, ..receiver.config() };
        let mut rig = Rig::new(&settings);
        rig.send(&numbered(0, 5, 100)).await;
        rig.send(&numbered(5, 20, 100)).await;
        let mut session = receiver.session().await;
        let first = session.messages(10).await;
        let more = tokio::time::timeout(Duration::from_millis(200), session.stream.read_u8()).await;
        assert!(more.is_err(), "the window is 10");
        rig.nothing_settled();
        session.confirm(&first[1..]).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        rig.nothing_settled();
        session.confirm(&first[..1]).await;
        rig.delivered(0..1).await;
        let second = session.messages(10).await;
        session.confirm(&second).await;
        let third = session.messages(5).await;
        rig.nothing_settled();
        session.confirm(&third).await;
        rig.delivered(1..2).await;
        let all: Vec<_> = [first, second, third].concat().into_iter().map(|(_, data)| data).collect();
        assert!(all == numbered(0, 25, 100));
        rig.close(Duration::ZERO).await;
    });
}

/// A session that was sent the messages 0 to 9, and has answered 0 to 4, and 6 before its turn.
async fn half_answered(receiver: &Receiver, rig: &mut Rig) -> Session {
    rig.send(&numbered(0, 10, 100)).await;
    let mut session = receiver.session().await;
    let messages = session.messages(10).await;
    session.confirm(&messages[..5]).await;
    session.confirm(&messages[6..7]).await;
    session
}

/// What the next session begins with, after one that was half answered was ended in this way.
async fn after(end: impl AsyncFnOnce(&mut Session)) -> (usize, String) {
    let receiver = Receiver::new().await;
    let mut rig = Rig::new(&receiver.config());
    let mut session = half_answered(&receiver, &mut rig).await;
    // The answers and the end may be read in one go.
    end(&mut session).await;
    let why = rig.down_with("").await;
    rig.nothing_settled();
    let mut session = receiver.session().await;
    let messages = session.messages(1).await;
    assert_eq!(messages[0].0, 2, "a new session counts anew");
    let begins_at = number(&messages[0].1);
    session.confirm(&messages).await;
    let rest = session.messages(10 - begins_at - 1).await;
    session.confirm(&rest).await;
    rig.delivered(0..1).await;
    assert_eq!(rig.counters.snapshot().messages_resent, 10 - begins_at as u64);
    rig.close(Duration::ZERO).await;
    (begins_at, why)
}

#[test]
fn after_a_cut_all_that_is_unanswered_is_sent_again_and_nothing_else() {
    run(async {
        let (begins_at, why) = after(async |session| session.stream.shutdown().await.expect("shutdown")).await;
        assert_eq!((begins_at, why.as_str()), (5, "the receiver closed the connection"));
        // Half an answer is none.
        let (begins_at, why) = after(async |session| {
            session.stream.write_all(b"7 rsp 6 200 O").await.expect("write");
            session.stream.shutdown().await.expect("shutdown");
        })
        .await;
        assert_eq!((begins_at, why.as_str()), (5, "the receiver closed the connection"));
    });
}

#[test]
fn after_serverclose_all_that_is_unanswered_is_sent_again_and_nothing_else() {
    run(async {
        let (begins_at, why) = after(async |session| session.say(0, "serverclose", b"").await).await;
        assert_eq!((begins_at, why.as_str()), (5, "the receiver ended the RELP session (serverclose)"));
    });
}

/// In order, and nothing behind it: otherwise a receiver that has room again would take that first.
#[test]
fn after_a_refusal_the_message_goes_alone_and_all_that_is_unanswered_follows() {
    run(async {
        let receiver = Receiver::new().await;
        let mut rig = Rig::new(&receiver.config());
        let mut session = half_answered(&receiver, &mut rig).await;
        session.answer(7, b"500 disk full").await;
        assert!(session.frame().await.is_none(), "a later one was taken");
        let mut session = receiver.session().await;
        let messages = session.messages(1).await;
        assert_eq!((messages[0].0, number(&messages[0].1)), (2, 5));
        let nothing = tokio::time::timeout(Duration::from_millis(300), session.stream.peek(&mut [0])).await;
        assert!(nothing.is_err(), "something follows");
        session.confirm(&messages).await;
        let rest = session.messages(4).await;
        assert_eq!(rest.iter().map(|(_, message)| number(message)).collect::<Vec<_>>(), [6, 7, 8, 9]);
        session.confirm(&rest).await;
        rig.delivered(0..1).await;
        assert_eq!(rig.counters.snapshot().messages_refused, 0);
        rig.close(Duration::ZERO).await;
    });
}

/// Serves sessions as `judge` says; what was taken.
async fn taken_by(receiver: &Receiver, mut judge: impl FnMut(&[u8]) -> bool, taken: &RefCell<Vec<Vec<u8>>>) {
    loop {
        let messages = receiver.session().await.judge(&mut judge).await;
        taken.borrow_mut().extend(messages);
    }
}

/// What was taken, without repetitions: numbers, and nothing for a gap record.
fn first_taken(taken: &[Vec<u8>]) -> Vec<Option<usize>> {
    let mut seen = BTreeSet::new();
    let number_of = |message: &Vec<u8>| message.starts_with(b"<14>").then(|| number(message));
    taken.iter().map(number_of).filter(|number| seen.insert(*number)).collect()
}

/// In windows of every size: the message may be the last that fits.
#[test]
fn a_message_that_is_refused_while_later_ones_are_taken_is_named_by_a_gap_record() {
    for window in [1, 2, 128] {
        run(async {
            let receiver = Receiver::new().await;
            let settings = DestinationConfig { relp_window: window, ..receiver.config() };
            let mut rig = Rig::new(&settings);
            let taken = RefCell::default();
            let work = async {
                rig.send(&numbered(0, 10, 100)).await;
                rig.send(&numbered(10, 10, 100_000)).await;
                rig.send(&numbered(20, 10, 100)).await;
                rig.delivered(0..1).await;
                let (_, outcome) = rig.settled().await;
                let Outcome::Delivered { refused, .. } = outcome else { panic!("{outcome:?}") };
                assert_eq!(refused.len(), 1);
                assert_eq!(refused[0].log, 5);
                let why = "the receiver answered 500 \"not this one\" to this message of 100023 bytes, and took this \
                           record behind it";
                assert!(refused[0].reason.ends_with(why), "{}", refused[0].reason);
                rig.delivered(2..3).await;
                assert_eq!(rig.counters.snapshot().messages_refused, 1);
                rig.close(PATIENCE).await;
            };
            let poison = |message: &[u8]| !message.starts_with(b"<14>") || number(message) != 15;
            tokio::select! {
                () = taken_by(&receiver, poison, &taken) => {}
                () = work => {}
            }
            // What the last session took is told when it has ended.
            let expected = (0..30).filter(|n| *n != 15).map(Some);
            let found: Vec<_> = first_taken(&taken.borrow()).into_iter().flatten().collect();
            assert!(expected.take(found.len()).eq(found.into_iter().map(Some)));
        });
    }
}

/// All that may be in flight is refused, and nothing follows.
#[test]
fn messages_that_are_refused_with_nothing_behind_them_are_named_by_gap_records() {
    run(async {
        let receiver = Receiver::new().await;
        let mut rig = Rig::new(&receiver.config());
        let taken = RefCell::default();
        let work = async {
            rig.send(&numbered(0, 3, 100)).await;
            let (_, outcome) = rig.settled().await;
            let Outcome::Delivered { refused, .. } = outcome else { panic!("{outcome:?}") };
            assert_eq!(refused.iter().map(|log| log.log).collect::<Vec<_>>(), [1, 2]);
            rig.close(PATIENCE).await;
        };
        let poison = |message: &[u8]| !message.starts_with(b"<14>") || number(message) == 0;
        tokio::select! {
            () = taken_by(&receiver, poison, &taken) => {}
            () = work => {}
        }
    });
}

#[test]
fn a_receiver_that_refuses_everything_for_a_while_has_nothing_set_aside_and_gets_all_in_order() {
    run(async {
        let receiver = Receiver::new().await;
        let mut rig = Rig::new(&DestinationConfig { relp_window: 16, ..receiver.config() });
        let mut heard = 0;
        let full = move |_: &[u8]| {
            heard += 1;
            heard > 21
        };
        let taken = RefCell::default();
        let work = async {
            for batch in 0..10 {
                rig.send(&numbered(batch * 10, 10, 20_000)).await;
            }
            rig.down_with("the receiver refused a message, answering 500 \"not this one\"; it will").await;
            for batch in 0..10 {
                assert_eq!(rig.settled().await, (batch, Outcome::Delivered { logs: 10, refused: Vec::new() }));
            }
            assert_eq!(rig.counters.snapshot().messages_refused, 0);
            rig.close(PATIENCE).await;
        };
        tokio::select! {
            () = taken_by(&receiver, full, &taken) => {}
            () = work => {}
        }
        let found = first_taken(&taken.borrow());
        assert!(found.iter().copied().eq((0..found.len()).map(Some)), "{found:?}");
    });
}

/// C3: messages behind one that is not answered are; the time-out starts again with each.
#[test]
fn a_receiver_that_answers_in_another_order_is_not_given_up() {
    run(async {
        let receiver = Receiver::new().await;
        let settings = DestinationConfig { timeout: Duration::from_millis(1_000), ..receiver.config() };
        let mut rig = Rig::new(&settings);
        rig.send(&numbered(0, 6, 100)).await;
        let mut session = receiver.session().await;
        let messages = session.messages(6).await;
        for message in messages.iter().rev() {
            tokio::time::sleep(Duration::from_millis(400)).await;
            rig.nothing_settled();
            session.confirm(std::slice::from_ref(message)).await;
        }
        rig.delivered(0..1).await;
        assert_eq!(rig.counters.snapshot().connections_cut, 0);
        rig.close(Duration::ZERO).await;
    });
}

#[test]
fn garbage_a_huge_answer_and_lies_end_the_session_and_confirm_nothing_more() {
    run(async {
        for said in [
            &b"HTTP/1.1 400 Bad Request\r\n"[..],
            b"7 rsp 100000000 200 OK",
            b"7 rsp 6 200 OKx",
            b"2 rsp 6 200 OK\n",
            b"12 rsp 6 200 OK\n",
            b"7 rsp 2 OK\n",
        ] {
            let (begins_at, why) = after(async |session| session.stream.write_all(said).await.expect("write")).await;
            assert_eq!(begins_at, 5, "{why}");
            assert!(why.starts_with("what the receiver says is not RELP: "), "{why}");
        }
    });
}

/// The time-out runs while nothing is answered, and starts again with each message that is.
#[test]
fn a_receiver_that_stalls_is_given_up_and_a_slow_one_is_not() {
    run(async {
        let receiver = Receiver::new().await;
        let settings = DestinationConfig { timeout: Duration::from_millis(600), ..receiver.config() };
        let mut rig = Rig::new(&settings);
        rig.send(&numbered(0, 5, 100)).await;
        let mut session = receiver.session().await;
        let messages = session.messages(5).await;
        for message in &messages {
            tokio::time::sleep(Duration::from_millis(300)).await;
            session.confirm(std::slice::from_ref(message)).await;
        }
        rig.delivered(0..1).await;
        assert_eq!(rig.counters.snapshot().connections_cut, 0);
        rig.send(&numbered(5, 5, 100)).await;
        session.messages(5).await;
        rig.down_with("the receiver has acknowledged nothing for 600ms (destination.timeout)").await;
        let mut session = receiver.session().await;
        assert_eq!(number(&session.messages(1).await[0].1), 5);
        rig.close(Duration::ZERO).await;
    });
}

#[test]
fn a_receiver_that_answers_no_open_is_given_up_with_a_sentence() {
    run(async {
        let receiver = Receiver::new().await;
        let settings = DestinationConfig { timeout: Duration::from_millis(200), ..receiver.config() };
        let mut rig = Rig::new(&settings);
        rig.open();
        let _silent = receiver.accept().await;
        let why = rig.down_with("opened no RELP session within").await;
        assert!(why.contains("(destination.timeout)") && why.contains("destination.protocol"), "{why}");
        rig.close(Duration::ZERO).await;
    });
}

/// What is answered counts, also in a session that ends long before other protocols' connections would count.
#[test]
fn sessions_that_end_at_once_deliver_what_they_have_answered() {
    run(async {
        let receiver = Receiver::new().await;
        let settings = DestinationConfig { confirm_after_connect: Duration::from_secs(60), ..receiver.config() };
        let mut rig = Rig::new(&settings);
        rig.send(&numbered(0, 20, 100)).await;
        let mut read = Vec::new();
        for _ in 0..4 {
            let mut session = receiver.session().await;
            let messages = session.messages(5).await;
            session.confirm(&messages).await;
            read.extend(messages.into_iter().map(|(_, message)| message));
            // Its end, not a reset, which could destroy the answers.
            session.stream.shutdown().await.expect("shutdown");
            while session.frame().await.is_some() {}
        }
        rig.delivered(0..1).await;
        assert_eq!(read, numbered(0, 20, 100), "each session goes on where the one before had answered");
        rig.close(Duration::ZERO).await;
    });
}

/// The end of a closing connection does not wait for ever.
#[test]
fn a_close_that_is_not_answered_ends_at_its_deadline() {
    run(async {
        let receiver = Receiver::new().await;
        let mut rig = Rig::new(&receiver.config());
        rig.send(&numbered(0, 1, 100)).await;
        let mut session = receiver.session().await;
        let messages = session.messages(1).await;
        session.confirm(&messages).await;
        rig.delivered(0..1).await;
        let closing = actix_rt::spawn(rig.close(Duration::from_millis(300)));
        assert_eq!(session.frame().await.expect("close"), (3, "close".to_owned(), Vec::new()));
        soon("the end", closing).await.expect("no panic");
        assert!(session.frame().await.is_none());
    });
}
