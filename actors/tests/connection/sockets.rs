//! The connection against real sockets and receivers that behave, misbehave and die.

use std::time::Duration;

use crate::rig::*;
use sls_syslog_actors::config::Protocol;
use sls_syslog_actors::messages::{Outcome, ReceiverState};
use sls_syslog_actors::model::ids::Sequence;
use sls_syslog_actors::ticket::FailReason;
use sls_syslog_actors::wire::syslog::framing::Deframer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

async fn listen() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let port = listener.local_addr().expect("address").port();
    (listener, port)
}

async fn accept(listener: &TcpListener) -> TcpStream {
    soon("a connection", listener.accept()).await.expect("accept").0
}

async fn read_exactly(stream: &mut TcpStream, bytes: usize) -> Vec<u8> {
    let mut buffer = vec![0; bytes];
    soon("bytes", stream.read_exact(&mut buffer)).await.expect("read");
    buffer
}

fn reset(stream: TcpStream) {
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("linger");
}

/// A receiver that reads everything confirms everything, in order, and the polite end loses nothing.
#[test]
fn what_is_read_is_delivered_in_order_and_the_close_is_polite() {
    run(async {
        let (listener, port) = listen().await;
        let received = actix_rt::spawn(async move {
            let mut stream = accept(&listener).await;
            let mut all = Vec::new();
            stream.read_to_end(&mut all).await.expect("a polite end");
            all
        });
        let mut rig = Rig::new(&config(Protocol::Tcp, port));
        let mut expected = Vec::new();
        for batch in 0..100 {
            let messages = numbered(batch * 100, 100, 300);
            rig.send(&messages).await;
            expected.extend(messages);
        }
        assert_eq!(rig.state().await, ReceiverState::Ready);
        rig.delivered(0..100).await;
        let counters = rig.counters.snapshot();
        rig.close(PATIENCE).await;
        let received = soon("all bytes", received).await.expect("receiver");
        assert!(received == counted(&expected));
        assert_eq!(counters.bytes_confirmed, received.len() as u64);
        assert_eq!(counters.bytes_sent, received.len() as u64);
        assert_eq!((counters.connections_opened, counters.connections_cut, counters.messages_resent), (1, 0, 0));
    });
}

/// A batch larger than any socket buffer is cut by a reset half-way; the next connection goes on at a message border
/// that leaves nothing out.
#[test]
fn after_a_reset_the_unconfirmed_tail_is_sent_again_from_a_message_border() {
    run(async {
        let (listener, port) = listen().await;
        let mut rig = Rig::new(&config(Protocol::Tcp, port));
        let messages = numbered(0, 40_000, 300);
        rig.send(&messages).await;
        let mut stream = accept(&listener).await;
        let first = uncounted(&read_exactly(&mut stream, 5_000_000).await);
        // A reset throws away what the receiver's kernel has acknowledged and the receiver has not read: that much, and
        // no more, may be confirmed and missing.
        let unread_at_most = socket2::SockRef::from(&stream).recv_buffer_size().expect("a size") / messages[0].len();
        reset(stream);
        let mut stream = accept(&listener).await;
        let mut rest = Vec::new();
        while uncounted(&rest).last() != messages.last() {
            let mut chunk = vec![0; 1 << 20];
            let n = soon("the rest", stream.read(&mut chunk)).await.expect("read");
            assert!(n > 0, "closed before all was sent");
            rest.extend(&chunk[..n]);
        }
        let rest = uncounted(&rest);
        let begins_at = number(&rest[0]);
        assert!(begins_at > 0, "what was confirmed is not sent again");
        let known = first.len() + unread_at_most;
        assert!(begins_at <= known, "messages {known}..{begins_at} are missing");
        assert!(rest[..] == messages[begins_at..]);
        rig.delivered(0..1).await;
        assert!(rig.counters.snapshot().messages_resent > 0);
        assert_eq!(rig.counters.snapshot().bytes_confirmed, counted(&messages).len() as u64);
        rig.close(Duration::ZERO).await;
    });
}

#[test]
fn a_receiver_that_closes_every_connection_early_confirms_nothing_and_is_told_of_the_key() {
    run(async {
        let (listener, port) = listen().await;
        let mut settings = config(Protocol::Tcp, port);
        settings.confirm_after_connect = PATIENCE;
        let mut rig = Rig::new(&settings);
        rig.send(&numbered(0, 10, 300)).await;
        let receiver = actix_rt::spawn(async move {
            loop {
                let mut stream = accept(&listener).await;
                read_exactly(&mut stream, 100).await;
            }
        });
        let why = rig.down_with("destination.confirm_after_connect").await;
        assert!(why.contains("has closed 3 connections in a row"), "{why}");
        rig.nothing_settled();
        receiver.abort();
        rig.close(Duration::ZERO).await;
    });
}

/// On probation no more than 64 KiB go out, however much waits.
#[test]
fn a_new_connection_carries_little_until_it_has_stood_open() {
    run(async {
        let (listener, port) = listen().await;
        let mut settings = config(Protocol::Tcp, port);
        settings.confirm_after_connect = Duration::from_millis(300);
        let mut rig = Rig::new(&settings);
        let messages = numbered(0, 1_000, 300);
        rig.send(&messages).await;
        let opened = std::time::Instant::now();
        let mut stream = accept(&listener).await;
        let total = counted(&messages).len();
        let mut received: Vec<u8> = Vec::new();
        while received.len() < total {
            let mut chunk = vec![0; 1 << 20];
            let n = soon("more", stream.read(&mut chunk)).await.expect("read");
            assert!(n > 0);
            received.extend(&chunk[..n]);
            if opened.elapsed() < Duration::from_millis(200) {
                assert!(received.len() <= 64 * 1024, "{} bytes on probation", received.len());
            }
        }
        rig.delivered(0..1).await;
        assert!(opened.elapsed() >= Duration::from_millis(300));
        rig.close(Duration::ZERO).await;
    });
}

#[test]
fn a_receiver_that_never_reads_is_given_up_after_the_time_out_and_credits_bound_what_is_held() {
    run(async {
        let (listener, port) = listen().await;
        let mut settings = config(Protocol::Tcp, port);
        settings.timeout = Duration::from_millis(400);
        let mut rig = Rig::new(&settings);
        for batch in 0..64 {
            rig.send(&numbered(batch * 1_000, 1_000, 300)).await;
        }
        let stream = accept(&listener).await;
        let why = rig.down_with("destination.timeout").await;
        assert!(why.contains("400ms"), "{why}");
        assert!(rig.credits.free() < 64, "pieces were given up");
        drop(stream);
        let receiver = actix_rt::spawn(async move {
            let mut stream = accept(&listener).await;
            let mut all = Vec::new();
            stream.read_to_end(&mut all).await.expect("a polite end");
        });
        rig.delivered(0..64).await;
        assert_eq!(rig.credits.free(), 64);
        rig.close(PATIENCE).await;
        soon("the receiver", receiver).await.expect("receiver");
    });
}

/// The receiver closes its half and goes on reading: whatever it acknowledges afterwards is not confirmed.
#[test]
fn after_a_half_close_nothing_is_confirmed_on_that_connection() {
    run(async {
        let (listener, port) = listen().await;
        let mut rig = Rig::new(&config(Protocol::Tcp, port));
        rig.open();
        let mut first = accept(&listener).await;
        assert_eq!(rig.state().await, ReceiverState::Ready);
        first.shutdown().await.expect("half-close");
        assert_eq!(rig.state().await, ReceiverState::Idle);
        let messages = numbered(0, 10, 300);
        rig.send(&messages).await;
        let mut second = accept(&listener).await;
        assert!(read_exactly(&mut second, counted(&messages).len()).await == counted(&messages));
        rig.delivered(0..1).await;
        assert_eq!(soon("the end", first.read(&mut [0; 10])).await.expect("read"), 0);
        rig.close(Duration::ZERO).await;
    });
}

#[test]
fn a_slow_receiver_is_not_given_up_while_it_reads() {
    run(async {
        let (listener, port) = listen().await;
        let mut settings = config(Protocol::Tcp, port);
        settings.timeout = Duration::from_millis(1_000);
        let mut rig = Rig::new(&settings);
        let messages = numbered(0, 30_000, 300);
        let total = counted(&messages).len();
        rig.send(&messages).await;
        let mut stream = accept(&listener).await;
        let started = std::time::Instant::now();
        let mut received = 0;
        while received < total {
            let mut chunk = vec![0; 256 << 10];
            let n = soon("more", stream.read(&mut chunk)).await.expect("still open");
            assert!(n > 0, "given up");
            received += n;
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
        assert!(started.elapsed() > Duration::from_millis(1_000), "not slow enough to tell");
        rig.delivered(0..1).await;
        assert_eq!(rig.counters.snapshot().connections_cut, 0);
        rig.close(Duration::ZERO).await;
    });
}

#[test]
fn a_receiver_that_is_down_at_first_is_said_to_be_and_gets_everything_later() {
    run(async {
        let (listener, port) = listen().await;
        drop(listener);
        let mut rig = Rig::new(&config(Protocol::Tcp, port));
        let messages = numbered(0, 10, 300);
        rig.send(&messages).await;
        let why = rig.down_with("refuses connections").await;
        assert!(why.contains(&format!("127.0.0.1:{port}")) && why.contains("destination.port"), "{why}");
        let listener = TcpListener::bind(("127.0.0.1", port)).await.expect("bind");
        let mut stream = accept(&listener).await;
        assert!(read_exactly(&mut stream, counted(&messages).len()).await == counted(&messages));
        rig.delivered(0..1).await;
        rig.close(Duration::ZERO).await;
    });
}

#[test]
fn a_name_that_does_not_resolve_names_the_key() {
    run(async {
        let mut settings = config(Protocol::Tcp, 1);
        settings.host = "no-such-host.invalid".to_owned();
        let mut rig = Rig::new(&settings);
        rig.open();
        rig.down_with("destination.host").await;
        rig.close(Duration::ZERO).await;
    });
}

#[test]
fn superseded_batches_fail_at_once_while_the_receiver_is_down() {
    run(async {
        let (listener, port) = listen().await;
        drop(listener);
        let mut rig = Rig::new(&config(Protocol::Tcp, port));
        for batch in 0..3 {
            rig.send(&numbered(batch, 1, 100)).await;
        }
        rig.down_with("refuses").await;
        rig.failed_from.lower_to(Sequence(1));
        for expected in 1..3 {
            assert_eq!(rig.settled().await, (expected, Outcome::Failed(FailReason::Superseded)));
        }
        assert_eq!(rig.credits.free(), 63);
        rig.close(Duration::ZERO).await;
    });
}

#[test]
fn closing_fails_what_is_unsent_at_the_deadline() {
    run(async {
        let (listener, port) = listen().await;
        let mut rig = Rig::new(&config(Protocol::Tcp, port));
        rig.send(&numbered(0, 100_000, 300)).await;
        let _stream = accept(&listener).await;
        let credits = rig.credits.clone();
        rig.nothing_settled();
        rig.close(Duration::from_millis(50)).await;
        assert_eq!(credits.free(), 64);
    });
}

#[test]
fn each_message_is_a_datagram_without_its_count() {
    run(async {
        let receiver = UdpSocket::bind("127.0.0.1:0").await.expect("bind");
        let mut rig = Rig::new(&config(Protocol::Udp, receiver.local_addr().expect("address").port()));
        let messages = numbered(0, 50, 300);
        rig.send(&messages).await;
        rig.delivered(0..1).await;
        for message in &messages {
            let mut buffer = [0; 2048];
            let n = soon("a datagram", receiver.recv(&mut buffer)).await.expect("receive");
            assert_eq!(&buffer[..n], &message[..]);
        }
        rig.close(PATIENCE).await;
    });
}

#[test]
fn refused_datagrams_are_counted_and_sending_goes_on() {
    run(async {
        let receiver = UdpSocket::bind("127.0.0.1:0").await.expect("bind");
        let port = receiver.local_addr().expect("address").port();
        drop(receiver);
        let mut rig = Rig::new(&config(Protocol::Udp, port));
        rig.send(&numbered(0, 3, 100)).await;
        rig.delivered(0..1).await;
        let counters = std::sync::Arc::clone(&rig.counters);
        until("a refusal", || counters.snapshot().datagrams_refused > 0).await;
        let receiver = UdpSocket::bind(("127.0.0.1", port)).await.expect("bind");
        let messages = numbered(3, 1, 100);
        rig.send(&messages).await;
        rig.delivered(1..2).await;
        let mut buffer = [0; 2048];
        let n = soon("a datagram", receiver.recv(&mut buffer)).await.expect("receive");
        assert_eq!(&buffer[..n], &messages[0][..]);
        rig.close(PATIENCE).await;
    });
}

#[test]
fn a_pace_makes_messages_wait_and_drops_none() {
    run(async {
        let receiver = UdpSocket::bind("127.0.0.1:0").await.expect("bind");
        let mut settings = config(Protocol::Udp, receiver.local_addr().expect("address").port());
        settings.max_messages_per_second = Some(200);
        let mut rig = Rig::new(&settings);
        let started = std::time::Instant::now();
        rig.send(&numbered(0, 100, 100)).await;
        rig.delivered(0..1).await;
        assert!(started.elapsed() >= Duration::from_millis(480), "{:?}", started.elapsed());
        for expected in 0..100 {
            let mut buffer = [0; 2048];
            let n = soon("a datagram", receiver.recv(&mut buffer)).await.expect("receive");
            assert_eq!(number(&buffer[..n]), expected);
        }
        rig.close(PATIENCE).await;
    });
}

/// As syslog-ng does above its 64 KiB: reads no further and closes.
async fn serve_up_to(listener: TcpListener, longest: usize, received: std::rc::Rc<std::cell::RefCell<Vec<Vec<u8>>>>) {
    loop {
        let (mut stream, _) = listener.accept().await.expect("accept");
        let mut deframer = Deframer::new(longest);
        let mut chunk = vec![0; 16 << 10];
        'connection: loop {
            match stream.read(&mut chunk).await {
                Ok(n) if n > 0 => deframer.push(&chunk[..n]),
                _ => break,
            }
            loop {
                match deframer.next() {
                    Ok(Some(message)) => received.borrow_mut().push(message.to_vec()),
                    Ok(None) => break,
                    Err(_) => break 'connection,
                }
            }
        }
    }
}

/// The reset takes along all that came with it in one go: nothing of that is confirmed, and the first is too short to be
/// suspected at once.
#[test]
fn a_message_behind_short_ones_in_one_go_is_set_aside_and_all_else_arrives() {
    for (limit, size) in [(16 << 10, 20_000), (2 << 10, 3_000)] {
        run(async {
            let (listener, port) = listen().await;
            let received = std::rc::Rc::default();
            actix_rt::spawn(serve_up_to(listener, limit, std::rc::Rc::clone(&received)));
            let mut settings = config(Protocol::Tcp, port);
            settings.confirm_after_connect = Duration::from_secs(1);
            let mut rig = Rig::new(&settings);
            let mut messages = numbered(0, 60, 300);
            messages[40].resize(size, b'x');
            rig.send(&messages).await;
            let (_, outcome) = rig.settled().await;
            let Outcome::Delivered { refused, .. } = outcome else { panic!("{outcome:?}") };
            assert_eq!(refused.iter().map(|log| log.log).collect::<Vec<_>>(), [40]);
            let mut seen = std::collections::BTreeSet::new();
            let mut first: Vec<_> =
                received.take().iter().filter(|m| m.starts_with(b"<14>1 message")).map(|m| number(m)).collect();
            first.retain(|number| seen.insert(*number));
            assert!(first.into_iter().eq((0..60).filter(|n| *n != 40)), "missing, or out of order");
            rig.close(Duration::ZERO).await;
        });
    }
}

#[test]
fn a_message_that_ends_every_connection_is_set_aside_and_all_behind_it_arrives() {
    run(async {
        let (listener, port) = listen().await;
        let received = std::rc::Rc::default();
        actix_rt::spawn(serve_up_to(listener, 64 << 10, std::rc::Rc::clone(&received)));
        let mut settings = config(Protocol::Tcp, port);
        settings.confirm_after_connect = Duration::from_secs(1);
        let mut rig = Rig::new(&settings);
        let mut messages = numbered(0, 10_000, 300);
        messages[5_000].resize(100_000, b'x');
        for batch in messages.chunks(2_000) {
            rig.send(batch).await;
        }
        rig.delivered(0..2).await;
        let (_, outcome) = rig.settled().await;
        let Outcome::Delivered { refused, .. } = outcome else { panic!("{outcome:?}") };
        assert_eq!(refused.iter().map(|log| log.log).collect::<Vec<_>>(), [1_000]);
        rig.delivered(3..5).await;
        let received = received.take();
        let mut first: Vec<_> =
            received.iter().filter(|m| m.starts_with(b"<14>1 message")).map(|m| number(m)).collect();
        let mut seen = std::collections::BTreeSet::new();
        first.retain(|number| seen.insert(*number));
        assert!(first.into_iter().eq((0..10_000).filter(|n| *n != 5_000)), "missing, or out of order");
        assert_eq!(received.iter().filter(|m| m.starts_with(b"<11>1 ")).count(), 1, "gap records");
        rig.close(Duration::ZERO).await;
    });
}
