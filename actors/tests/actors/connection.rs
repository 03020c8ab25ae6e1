//! SyslogConnection between pieces of the test and a simulated receiver.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use sls_syslog_actors::config::{Confirmation, DestinationConfig, Protocol};
use sls_syslog_actors::connection::{ConnectionParts, GapFacts, SyslogConnection};
use sls_syslog_actors::counters::Counters;
use sls_syslog_actors::credit::Credits;
use sls_syslog_actors::messages::*;
use sls_syslog_actors::model::cursor::Cursor;
use sls_syslog_actors::model::ids::{Epoch, Generation, Sequence};
use sls_syslog_actors::testing::probe::{Probed, probe};
use sls_syslog_actors::testing::receiver::{Behaviour, Dialing, Ending, Receiver};
use sls_syslog_actors::testing::runtime::run;
use sls_syslog_actors::ticket::{FailReason, FailedFrom, PieceGuard, Ticket};
use sls_syslog_actors::watch::{ActorName, ExitGuard};
use tokio::time::Instant;

use crate::tools::*;

pub const PROBATION: Duration = Duration::from_secs(1);
pub const TIMEOUT: Duration = Duration::from_secs(20);

pub struct Rig {
    pub connection: Addr<SyslogConnection>,
    pub receiver: Receiver,
    places: Credits,
    pub counters: Arc<Counters>,
    pub states: Probed<ReceiverChanged>,
    pub settled: Probed<BatchSettled>,
    report_to: Recipient<BatchSettled>,
    pub guard: Probed<ActorEnded>,
    pub failed_from: FailedFrom,
    pub next: u64,
}

impl Rig {
    pub fn new() -> Self {
        Self::confirming_after(PROBATION)
    }

    pub fn confirming_after(confirm_after_connect: Duration) -> Self {
        let receiver = Receiver::new(1, Confirmation::TcpAcked, confirm_after_connect, TIMEOUT);
        let mut config = DestinationConfig::new("127.0.0.1", Protocol::Tcp);
        (config.timeout, config.confirm_after_connect) = (TIMEOUT, confirm_after_connect);
        let (receiver_changed, states) = probe();
        let (watcher, guard) = probe();
        let (report_to, settled) = probe();
        let counters = Arc::new(Counters::default());
        let parts = ConnectionParts {
            worker: 0,
            index: 0,
            dial: receiver.dialer(),
            level: Confirmation::TcpAcked,
            mailbox: 16,
            pace: None,
            gap_facts: GapFacts {
                project: "project".to_owned(),
                logstore: "logstore".to_owned(),
                unix_seconds: Rc::new(|| 1_700_000_000),
            },
            receiver_changed,
            counters: Arc::clone(&counters),
            logger: no_log(),
            seed: 1,
            guard: ExitGuard::new(ActorName::SyslogConnection { worker: 0, index: 0 }, watcher),
        };
        Self {
            connection: SyslogConnection::new(&config, parts).launch(),
            receiver,
            places: Credits::new(16),
            counters,
            states,
            settled,
            report_to,
            guard,
            failed_from: FailedFrom::none(),
            next: 0,
        }
    }

    /// Sends a batch of one piece with so many messages, each of about so many bytes.
    fn send(&mut self, messages: usize, size: usize) -> Sequence {
        self.send_pieces(&[&vec![size; messages]])
    }

    /// Sends a batch of these pieces, each with messages of about these sizes.
    pub fn send_pieces(&mut self, pieces: &[&[usize]]) -> Sequence {
        let sequence = Sequence(self.next);
        self.next += 1;
        let numbers = (SHARD, Epoch(1), Generation(0), sequence);
        let ticket = Ticket::new(numbers, self.failed_from.clone(), self.report_to.clone(), None);
        let mut ticket = Some(ticket);
        let mut sent = 0;
        for (index, sizes) in pieces.iter().enumerate() {
            let message = |(n, size): (usize, &usize)| {
                format!("<14>1 batch {} message {} {}\n", sequence.0, sent + n, ".".repeat(*size))
            };
            let frames: String = sizes.iter().enumerate().map(message).collect();
            let first_log = sent as u64;
            sent += sizes.len();
            let is_last = index + 1 == pieces.len();
            let piece = SendBatch {
                shard: SHARD,
                frames: Frames::new(frames.into_bytes(), None, None),
                messages: sizes.len() as u32,
                failed_from: self.failed_from.clone(),
                sequence,
                from: Cursor::new("c0").expect("printable"),
                first_log,
                last: ticket.take_if(|_| is_last).map(|ticket| (ticket, sent as u64)),
                guard: PieceGuard::none(),
                credit: self.places.try_take().expect("a place"),
            };
            self.connection.try_send(piece).expect("room for as many pieces as there are places");
        }
        sequence
    }

    pub async fn delivered(&mut self, sequence: Sequence) {
        let settled = self.settled.next().await;
        assert_eq!(settled.sequence, sequence, "{settled:?}");
        assert!(matches!(settled.outcome, Outcome::Delivered { .. }), "{settled:?}");
    }

    pub async fn failed(&mut self) -> (Sequence, FailReason) {
        let settled = self.settled.next().await;
        let Outcome::Failed(why) = settled.outcome else { panic!("delivered: {settled:?}") };
        (settled.sequence, why)
    }

    /// Batch and message number of everything that was read, in order.
    fn read(&self) -> Vec<(u64, usize)> {
        let number = |message: Vec<u8>| {
            let text = String::from_utf8(message).expect("text");
            let words: Vec<&str> = text.split(' ').collect();
            (words[2].parse().expect("a batch"), words[4].parse().expect("a message"))
        };
        self.receiver.messages().into_iter().map(number).collect()
    }

    pub async fn close(mut self) {
        self.connection.do_send(CloseConnection { deadline: Instant::now() + seconds(30) });
        assert!(!self.guard.next().await.panicked);
        assert_eq!(self.places.free(), self.places.total(), "places have not come back");
        assert_eq!(self.receiver.broken(), Vec::<String>::new());
    }
}

#[test]
fn what_the_receiver_acknowledges_is_delivered_in_order_and_places_come_back() {
    run(async {
        let mut rig = Rig::new();
        let began = Instant::now();
        for _ in 0..5 {
            rig.send(10, 200);
        }
        for sequence in 0..5 {
            rig.delivered(Sequence(sequence)).await;
        }
        assert!(began.elapsed() >= PROBATION, "C2: nothing is confirmed before the connection has stood open");
        assert_eq!(rig.states.next().await.state, ReceiverState::Ready);
        let expected: Vec<_> = (0..5).flat_map(|batch| (0..10).map(move |message| (batch, message))).collect();
        assert_eq!(rig.read(), expected);
        assert_eq!(rig.counters.snapshot().messages_resent, 0);
        rig.close().await;
    });
}

/// The receiver reads nothing: what does not fit its buffer stays unconfirmed, and nothing is lost when it goes on.
#[test]
fn a_receiver_that_stops_reading_stops_the_confirmations() {
    run(async {
        let mut rig = Rig::new();
        rig.send(1, 10);
        rig.delivered(Sequence(0)).await;
        rig.receiver.behave(Behaviour { reads: None, buffer: 1000, ..Behaviour::healthy() });
        rig.send(100, 200);
        rig.settled.nothing_for(TIMEOUT / 2).await;
        rig.receiver.behave(Behaviour::healthy());
        rig.delivered(Sequence(1)).await;
        assert_eq!(rig.read().len(), 101);
        assert_eq!(rig.counters.snapshot().connections_cut, 0, "it was slow, not dead");
        rig.close().await;
    });
}

/// It never goes on: the connection is given up when nothing was acknowledged for the whole time-out.
#[test]
fn a_receiver_that_acknowledges_nothing_is_given_up_after_the_time_out() {
    run(async {
        let mut rig = Rig::new();
        rig.send(1, 10);
        rig.delivered(Sequence(0)).await;
        rig.states.next().await;
        rig.receiver.behave(Behaviour { reads: None, buffer: 0, ..Behaviour::healthy() });
        let began = Instant::now();
        rig.send(10, 200);
        let ReceiverState::Down { why } = rig.states.next().await.state else { panic!("not down") };
        assert!(why.contains("destination.timeout"), "{why}");
        assert!((TIMEOUT..TIMEOUT + seconds(1)).contains(&began.elapsed()), "{:?}", began.elapsed());
        rig.receiver.behave(Behaviour::healthy());
        rig.delivered(Sequence(1)).await;
        rig.close().await;
    });
}

/// What the look before the reset covered is not sent again; everything else is.
#[test]
fn after_a_reset_exactly_what_was_not_confirmed_is_sent_again() {
    run(async {
        let mut rig = Rig::new();
        rig.send(1, 10);
        rig.delivered(Sequence(0)).await;
        rig.receiver.behave(Behaviour { reads: None, buffer: 5000, ..Behaviour::healthy() });
        rig.send(100, 200);
        tokio::time::sleep(seconds(1)).await;
        rig.receiver.end_connections(Ending::Reset);
        rig.receiver.behave(Behaviour::healthy());
        rig.delivered(Sequence(1)).await;
        let read = rig.read();
        let first_again = read[1].1;
        // The buffer took 5000 bytes, which is 20 messages and a half. They were acknowledged, and died unread.
        assert!((15..25).contains(&first_again), "{first_again}");
        assert_eq!(read[1..].len(), 100 - first_again);
        assert!(rig.counters.snapshot().messages_resent > 0);
        rig.close().await;
    });
}

/// A refusal that comes late, as that of a client certificate with TLS 1.3: whole batches were acknowledged before.
#[test]
fn c2_a_receiver_that_refuses_late_confirms_nothing() {
    run(async {
        let mut rig = Rig::new();
        let refuses_after = Some(Duration::from_millis(5));
        rig.receiver.behave(Behaviour { refuses_after, acknowledges_after: Duration::ZERO, ..Behaviour::healthy() });
        rig.send(10, 200);
        rig.settled.nothing_for(seconds(120)).await;
        assert!(rig.receiver.connections_opened() > 3);
        assert_eq!(rig.counters.snapshot().bytes_confirmed, 0);
        rig.receiver.behave(Behaviour::healthy());
        rig.delivered(Sequence(0)).await;
        assert_eq!(rig.read().len(), 10);
        rig.close().await;
    });
}

#[test]
fn a_receiver_that_cannot_be_reached_costs_time_and_nothing_else() {
    run(async {
        let mut rig = Rig::new();
        for dialing in [Dialing::Refuse, Dialing::Silence] {
            rig.receiver.behave(Behaviour { dialing, ..Behaviour::healthy() });
            let sequence = rig.send(3, 10);
            rig.settled.nothing_for(seconds(200)).await;
            rig.receiver.behave(Behaviour::healthy());
            rig.delivered(sequence).await;
            rig.receiver.end_connections(Ending::Fin);
            settle().await;
        }
        assert_eq!(rig.read().len(), 6);
        rig.close().await;
    });
}

/// O1: a batch before them has failed, so these must not be seen before it.
#[test]
fn o1_superseded_batches_are_not_sent_although_the_receiver_is_down() {
    run(async {
        let mut rig = Rig::new();
        rig.receiver.behave(Behaviour { dialing: Dialing::Refuse, ..Behaviour::healthy() });
        for _ in 0..3 {
            rig.send(3, 10);
        }
        settle().await;
        rig.failed_from.lower_to(Sequence(1));
        assert_eq!(rig.failed().await, (Sequence(1), FailReason::Superseded));
        assert_eq!(rig.failed().await, (Sequence(2), FailReason::Superseded));
        assert_eq!(rig.places.free(), 15, "their places come back while nothing can be sent");
        rig.receiver.behave(Behaviour::healthy());
        rig.delivered(Sequence(0)).await;
        assert_eq!(rig.read(), [(0, 0), (0, 1), (0, 2)]);
        rig.close().await;
    });
}

#[test]
fn at_the_deadline_of_a_close_what_is_not_confirmed_fails() {
    run(async {
        let mut rig = Rig::new();
        rig.receiver.behave(Behaviour { dialing: Dialing::Refuse, ..Behaviour::healthy() });
        rig.send(3, 10);
        let deadline = Instant::now() + seconds(7);
        rig.connection.do_send(CloseConnection { deadline });
        assert_eq!(rig.failed().await, (Sequence(0), FailReason::Dropped));
        assert_eq!(Instant::now(), deadline);
        assert!(!rig.guard.next().await.panicked);
        assert_eq!(rig.places.free(), 16);
    });
}

/// The last bytes are confirmed before the end, and the receiver reads all of them.
#[test]
fn c5_a_polite_close_delivers_what_was_sent() {
    run(async {
        let mut rig = Rig::new();
        rig.receiver.behave(Behaviour {
            reads: Some((100, Duration::from_millis(10))),
            buffer: 2000,
            ..Behaviour::healthy()
        });
        rig.send(50, 200);
        rig.connection.do_send(CloseConnection { deadline: Instant::now() + seconds(60) });
        rig.delivered(Sequence(0)).await;
        rig.guard.next().await;
        tokio::time::sleep(seconds(10)).await;
        assert_eq!(rig.read().len(), 50);
        assert_eq!(rig.receiver.broken(), Vec::<String>::new());
    });
}
