//! A session against a scripted receiver at the other end of a pipe.

mod window;

use std::task::Waker;

use tokio::io::{DuplexStream, duplex};

use super::*;

const OPENED: &[u8] =
    b"1 rsp 93 200 OK\nrelp_version=0\nrelp_software=librelp,1.11.0,http://librelp.adiscon.com\ncommands=syslog\n";

fn now<T>(poll: Poll<T>) -> Option<T> {
    match poll {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

impl Wire for DuplexStream {
    fn acknowledge_now(&self) {}
}

struct Session {
    relp: RelpTransport<DuplexStream>,
    peer: DuplexStream,
}

impl Session {
    fn new(window: usize) -> Self {
        let (near, peer) = duplex(1 << 20);
        Self { relp: RelpTransport::new(near, FrameReader::new(MAX_ANSWER), window), peer }
    }

    /// Gives octet-counted frames; answers how many bytes were taken, if any.
    fn write(&mut self, frames: &[u8]) -> Option<io::Result<usize>> {
        let mut cx = Context::from_waker(Waker::noop());
        let taken = now(self.relp.poll_write(&mut cx, frames));
        assert!(now(self.relp.poll_flush(&mut cx)).is_some(), "the pipe has room");
        taken
    }

    /// What has reached the receiver.
    fn sent(&mut self) -> String {
        let mut scratch = vec![0; 1 << 20];
        let mut buffer = ReadBuf::new(&mut scratch);
        let mut cx = Context::from_waker(Waker::noop());
        let _ = Pin::new(&mut self.peer).poll_read(&mut cx, &mut buffer);
        String::from_utf8(buffer.filled().to_vec()).unwrap()
    }

    /// The receiver says this; what follows for the connection, if it ends.
    fn hear(&mut self, said: &[u8]) -> Option<io::Result<()>> {
        let mut cx = Context::from_waker(Waker::noop());
        assert!(matches!(Pin::new(&mut self.peer).poll_write(&mut cx, said), Poll::Ready(Ok(n)) if n == said.len()));
        now(self.relp.poll_closed(&mut cx))
    }

    /// What follows for the connection now, if it ends.
    fn end(&mut self) -> Option<io::Result<()>> {
        now(self.relp.poll_closed(&mut Context::from_waker(Waker::noop())))
    }

    fn confirmed(&mut self) -> u64 {
        self.relp.look().unwrap().confirmed
    }
}

/// Runs a test that needs a clock, which moves as the test says.
fn with_clock(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(test);
}

fn refusal(end: Option<io::Result<()>>) -> MessageRefused {
    let error = end.expect("an end").unwrap_err();
    error.get_ref().and_then(|inner| inner.downcast_ref()).cloned().unwrap_or_else(|| panic!("{error}"))
}

/// Five bytes each: `3 abc`.
const FIVE: &[u8] = b"3 aaa3 bbb3 ccc3 ddd3 eee";

#[test]
fn messages_are_numbered_from_two_and_confirmed_in_the_order_in_which_they_were_sent() {
    let mut session = Session::new(128);
    assert_eq!(session.write(FIVE).unwrap().unwrap(), 25);
    assert_eq!(session.sent(), "2 syslog 3 aaa\n3 syslog 3 bbb\n4 syslog 3 ccc\n5 syslog 3 ddd\n6 syslog 3 eee\n");
    assert_eq!(session.confirmed(), 0);
    for (answer, confirmed) in [
        ("3 rsp 6 200 OK\n", 0),
        ("4 rsp 6 200 OK\n", 0),
        ("2 rsp 6 200 OK\n", 15),
        ("6 rsp 4 200 \n", 15),
        ("5 rsp 6 200 OK\n", 25),
    ] {
        assert!(session.hear(answer.as_bytes()).is_none());
        assert_eq!(session.confirmed(), confirmed, "{answer}");
    }
}

#[test]
fn the_window_bounds_what_is_unanswered_and_opens_again_by_half() {
    let mut session = Session::new(4);
    assert_eq!(session.write(FIVE).unwrap().unwrap(), 20);
    assert!(session.write(&FIVE[20..]).is_none());
    assert!(session.hear(b"2 rsp 6 200 OK\n").is_none());
    assert!(session.write(&FIVE[20..]).is_none(), "not message by message");
    // Answers out of order free nothing before the first is there.
    assert!(session.hear(b"4 rsp 6 200 OK\n5 rsp 6 200 OK\n").is_none());
    assert!(session.write(&FIVE[20..]).is_none());
    assert!(session.hear(b"3 rsp 6 200 OK\n").is_none());
    assert_eq!(session.write(&FIVE[20..]).unwrap().unwrap(), 5);
    assert_eq!(session.confirmed(), 20);
}

/// The caller may cut its slices anywhere, and a message may be longer than any buffer.
#[test]
fn frames_are_the_same_however_the_caller_cuts_its_slices() {
    let long = "x".repeat(600_000);
    let frames = format!("3 aaa600000 {long}0 2 \n\n");
    let expected = format!("2 syslog 3 aaa\n3 syslog 600000 {long}\n4 syslog 0\n5 syslog 2 \n\n\n");
    for step in [1, 7, 9, 1000, 300_000, frames.len()] {
        let mut session = Session::new(128);
        let (mut at, mut end) = (0, step);
        while at < frames.len() {
            match session.write(&frames.as_bytes()[at..end.min(frames.len())]) {
                Some(Ok(taken)) => at += taken,
                // A slice that ends within a count, where the first frame begins.
                Some(Err(_)) => {}
                None => panic!("the window is not full"),
            }
            end = end.max(at) + step;
        }
        assert!(session.sent() == expected, "in steps of {step}");
        assert!(session.hear(b"2 rsp 6 200 OK\n3 rsp 6 200 OK\n4 rsp 6 200 OK\n5 rsp 6 200 OK\n").is_none());
        assert_eq!(session.confirmed(), frames.len() as u64);
    }
}

#[test]
fn answers_that_cannot_be_true_end_the_session_and_confirm_nothing() {
    for lie in [
        "1 rsp 6 200 OK\n",
        "0 rsp 6 200 OK\n",
        "3 rsp 6 200 OK\n",
        "999999999 rsp 6 200 OK\n",
        "2 rsp 6 200OK!\n",
        "2 rsp 0\n",
        "2 syslog 1 x\n",
        "1 serverclose 0\n",
        "2 rsp 5000 ",
        "HTTP/1.1 400 Bad Request",
    ] {
        let mut session = Session::new(128);
        session.write(b"3 aaa").unwrap().unwrap();
        let error = session.hear(lie.as_bytes()).expect("an end").unwrap_err();
        assert!(error.to_string().starts_with("what the receiver says is not RELP: "), "{lie}: {error}");
        assert_eq!(session.confirmed(), 0);
    }
    let mut session = Session::new(128);
    session.write(b"3 aaa3 bbb").unwrap().unwrap();
    assert!(session.hear(b"3 rsp 6 200 OK\n").is_none());
    let error = session.hear(b"3 rsp 6 200 OK\n").expect("an end").unwrap_err();
    assert!(error.to_string().contains("an answer to number 3, for which none is due"), "{error}");
}

/// A message of which half is still here cannot have been taken by anybody.
#[test]
fn an_answer_to_half_a_message_is_not_believed() {
    let mut session = Session::new(128);
    assert_eq!(session.write(b"3 aaa6 bb").unwrap().unwrap(), 9);
    assert!(session.hear(b"2 rsp 6 200 OK\n").is_none());
    assert!(session.hear(b"3 rsp 6 200 OK\n").expect("an end").is_err());
    assert_eq!(session.confirmed(), 5);
}

#[test]
fn a_refusal_is_told_in_the_receivers_words_escaped_and_cut() {
    let mut session = Session::new(128);
    session.write(b"3 aaa3 bbb3 ccc").unwrap().unwrap();
    let text = format!("500 \u{1b}[31m{}", "no ".repeat(500));
    let said = format!("2 rsp 6 200 OK\n3 rsp {} {text}\n4 rsp 6 200 OK\n", text.len());
    let refused = refusal(session.hear(said.as_bytes()));
    assert!(refused.took_later);
    let error = refused.to_string();
    assert!(error.starts_with("the receiver refused a message, answering 500 "), "{error}");
    assert!(error.contains("[31mno no") && !error.contains('\u{1b}') && error.len() < 400, "{error}");
    assert_eq!(session.confirmed(), 5, "what was answered before stays answered");
}

#[test]
fn a_refusal_ends_the_session_once_a_later_message_is_taken_and_all_earlier_ones_are() {
    for (answers, confirmed) in [
        (&["2 rsp 6 500 no", "3 rsp 6 200 OK"][..], 0),
        (&["3 rsp 6 200 OK", "2 rsp 6 500 no"], 0),
        (&["3 rsp 6 500 no", "2 rsp 6 500 no", "5 rsp 6 200 OK"], 0),
        (&["3 rsp 6 500 no", "4 rsp 6 200 OK", "2 rsp 6 200 OK"], 5),
        (&["2 rsp 6 200 OK", "3 rsp 6 200 OK", "4 rsp 6 500 no", "6 rsp 6 200 OK"], 10),
    ] {
        let mut session = Session::new(128);
        session.write(FIVE).unwrap().unwrap();
        let (last, before) = answers.split_last().unwrap();
        for answer in before {
            assert!(session.hear(format!("{answer}\n").as_bytes()).is_none(), "{answers:?}");
        }
        let refused = refusal(session.hear(format!("{last}\n").as_bytes()));
        assert_eq!(refused, MessageRefused { said: "500 \"no\"".to_owned(), took_later: true });
        assert_eq!(session.confirmed(), confirmed);
    }
}

/// A full disk: all that is sent is refused. It ends the session when nothing else may be heard of it.
#[test]
fn a_refusal_of_everything_ends_the_session_after_a_while_and_blames_no_message() {
    with_clock(async {
        let mut session = Session::new(128);
        session.write(&FIVE[..10]).unwrap().unwrap();
        assert!(session.hear(b"2 rsp 6 500 no\n").is_none());
        tokio::time::advance(10 * AFTER_REFUSAL).await;
        assert!(session.end().is_none(), "the other one is not answered");
        assert!(session.hear(b"3 rsp 6 500 no\n").is_none());
        tokio::time::advance(AFTER_REFUSAL - Duration::from_millis(1)).await;
        assert!(session.end().is_none());
        // One more, which starts the time anew.
        assert_eq!(session.write(&FIVE[10..15]).unwrap().unwrap(), 5);
        tokio::time::advance(Duration::from_millis(2)).await;
        assert!(session.hear(b"4 rsp 6 500 no\n").is_none());
        tokio::time::advance(AFTER_REFUSAL - Duration::from_millis(1)).await;
        assert!(session.end().is_none());
        tokio::time::advance(Duration::from_millis(2)).await;
        assert!(!refusal(session.end()).took_later);
        assert_eq!(session.confirmed(), 0);
    });
}

/// Otherwise it could never be told from a full disk.
#[test]
fn one_message_may_follow_a_refused_one_however_small_the_window() {
    with_clock(async {
        let mut session = Session::new(1);
        assert_eq!(session.write(FIVE).unwrap().unwrap(), 5);
        assert!(session.write(&FIVE[5..]).is_none());
        assert!(session.hear(b"2 rsp 6 500 no\n").is_none());
        assert_eq!(session.write(&FIVE[5..]).unwrap().unwrap(), 5);
        assert!(session.write(&FIVE[10..]).is_none());
        assert!(session.hear(b"3 rsp 6 500 no\n").is_none());
        assert!(session.write(&FIVE[10..]).is_none(), "not one after the other, for ever");
    });
}

#[test]
fn every_answer_counts_as_a_sign_of_life() {
    let mut session = Session::new(128);
    session.write(FIVE).unwrap().unwrap();
    for (answers, answer) in ["4 rsp 6 200 OK\n", "3 rsp 6 500 no\n", "6 rsp 6 200 OK\n"].into_iter().enumerate() {
        assert_eq!(session.relp.answers(), answers as u64);
        assert!(session.hear(answer.as_bytes()).is_none());
    }
    assert_eq!(session.relp.answers(), 3);
}

#[test]
fn a_session_ends_before_its_numbers_do_and_only_when_all_is_answered() {
    let mut session = Session::new(128);
    session.relp.window.next = MAX_NUMBER - 2;
    assert_eq!(session.write(FIVE).unwrap().unwrap(), 10);
    assert!(session.write(&FIVE[10..]).is_none());
    assert!(session.hear(b"999999997 rsp 6 200 OK\n").is_none());
    assert!(session.write(&FIVE[10..]).is_none());
    assert!(session.hear(b"999999998 rsp 6 200 OK\n").is_none());
    let error = session.write(&FIVE[10..]).unwrap().unwrap_err();
    assert!(error.get_ref().unwrap().is::<Renewal>());
    assert_eq!(session.confirmed(), 10);
}

#[test]
fn the_end_is_announced_and_waits_for_its_answer() {
    let mut session = Session::new(128);
    session.write(b"3 aaa").unwrap().unwrap();
    assert!(session.hear(b"2 rsp 6 200 OK\n").is_none());
    let mut cx = Context::from_waker(Waker::noop());
    for _ in 0..2 {
        assert!(session.relp.poll_shutdown(&mut cx).is_pending());
    }
    assert_eq!(session.sent(), "2 syslog 3 aaa\n3 close 0\n");
    assert!(session.hear(b"3 rsp 0\n").is_none());
    assert!(matches!(session.relp.poll_shutdown(&mut cx), Poll::Ready(Ok(()))));
}

/// What a receiver answers to `open`, and what is said of it; nothing where the session opens.
#[actix_rt::test]
async fn each_wrong_answer_to_open_has_its_sentence() {
    let offers = |offers: &str| {
        let mut out = Vec::new();
        write_frame(&mut out, 1, "rsp", format!("200 OK\n{offers}").as_bytes());
        out
    };
    let refused = b"1 rsp 26 500 no more \x1b[31m sessions\n".to_vec();
    let huge = b"1 rsp 99999 200 OK".to_vec();
    for (answer, sentence) in [
        (OPENED.to_vec(), ""),
        (
            b"220 mail.example.com ESMTP\r\n".to_vec(),
            r#"siem:2514 does not speak RELP on this port: it said "220 mail"#,
        ),
        (vec![0x15, 3, 3, 0, 2, 2, 40], "siem:2514 does not speak RELP on this port"),
        (huge, "siem:2514 does not speak RELP on this port"),
        (b"2 rsp 6 200 OK\n".to_vec(), "siem:2514 does not speak RELP on this port"),
        (b"1 rsp 2 OK\n".to_vec(), "siem:2514 does not speak RELP on this port"),
        (refused, "siem:2514 refused the RELP session: 500 no more \\u{1b}[31m sessions"),
        (b"0 serverclose 0\n".to_vec(), "siem:2514 takes no RELP sessions at the moment (serverclose)"),
        (b"".to_vec(), "siem:2514 opened no RELP session: it closed the connection"),
        (b"1 rsp 93 200 O".to_vec(), "siem:2514 opened no RELP session: it closed the connection"),
        (offers("commands=syslog"), "siem:2514 names no version of RELP"),
        (offers("relp_version=1\ncommands=syslog"), "siem:2514 speaks version 1 of RELP alone"),
        (offers("relp_version=0\ncommands=eventlog"), "siem:2514 speaks RELP, but does not offer to take syslog"),
    ] {
        let (near, mut peer) = duplex(8192);
        peer.write_all(&answer).await.unwrap();
        let mut said = vec![0; 100];
        let (opened, ()) = tokio::join!(open(near, "siem:2514", 128), async {
            let n = peer.read(&mut said).await.unwrap();
            said.truncate(n);
            peer.shutdown().await.unwrap();
        });
        let version = env!("CARGO_PKG_VERSION");
        let offers = format!("relp_version=0\nrelp_software=sls-syslog,{version}\ncommands=syslog");
        assert_eq!(String::from_utf8(said).unwrap(), format!("1 open {} {offers}\n", offers.len()));
        match opened {
            Ok(_) => assert_eq!(sentence, ""),
            Err(DialError(why)) => assert!(!sentence.is_empty() && why.starts_with(sentence), "{why}"),
        }
    }
}
