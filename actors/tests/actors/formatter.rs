//! The Formatter between tickets of the test and probes in place of connections.

use std::sync::Arc;

use actix::prelude::*;
use bytes::Bytes;
use prost::Message as _;
use sls_syslog_actors::config::{DestinationConfig, Framing, Protocol};
use sls_syslog_actors::counters::Counters;
use sls_syslog_actors::credit::{BLOCK, ByteBudget, Credits};
use sls_syslog_actors::formatter::{ConnectionHandle, Formatter, FormatterParts};
use sls_syslog_actors::loghub::Block;
use sls_syslog_actors::messages::*;
use sls_syslog_actors::model::cursor::Cursor;
use sls_syslog_actors::model::ids::{Epoch, Generation, Sequence, ShardId};
use sls_syslog_actors::testing::hub::corrupted;
use sls_syslog_actors::testing::probe::{Probed, jammed, probe};
use sls_syslog_actors::testing::runtime::run;
use sls_syslog_actors::ticket::{FailReason, FailedFrom, Ticket};
use sls_syslog_actors::watch::{ActorName, ExitGuard};
use sls_syslog_actors::wire::format::RenderSettings;
use sls_syslog_actors::wire::sls::body::{compress, decompress};
use sls_syslog_actors::wire::sls::proto;
use sls_syslog_actors::wire::sls::reply::Compression;
use sls_syslog_actors::wire::syslog::framing::next_frame;

use crate::tools::*;

struct Rig {
    formatter: Addr<Formatter>,
    connections: Vec<Probed<SendBatch>>,
    pieces: Credits,
    budget: ByteBudget,
    bodies: ByteBudget,
    counters: Arc<Counters>,
    settled: Probed<BatchSettled>,
    report_to: Recipient<BatchSettled>,
    guard: Probed<ActorEnded>,
    failed_from: FailedFrom,
    next: u64,
}

impl Rig {
    fn new() -> Self {
        Self::with(1, 8, 4 << 20)
    }

    fn with(connections: usize, places: usize, budget: usize) -> Self {
        let (addresses, probed): (Vec<_>, Vec<_>) = (0..connections).map(|_| probe()).unzip();
        Self::to(addresses, probed, places, budget)
    }

    fn to(
        addresses: Vec<Recipient<SendBatch>>,
        connections: Vec<Probed<SendBatch>>,
        places: usize,
        budget: usize,
    ) -> Self {
        let destination = DestinationConfig::new("127.0.0.1", Protocol::Tcp);
        let (watcher, guard) = probe();
        let (report_to, settled) = probe();
        let (pieces, budget) = (Credits::new(places), ByteBudget::new(budget));
        let counters = Arc::new(Counters::default());
        let handle = |send| ConnectionHandle { send, credits: pieces.clone() };
        let parts = FormatterParts {
            mailbox: 16,
            piece_bytes: 64 << 10,
            settings: RenderSettings::from(&destination),
            connections: addresses.into_iter().map(handle).collect(),
            budget: budget.clone(),
            counters: Arc::clone(&counters),
            log: no_log(),
            guard: ExitGuard::new(ActorName::Formatter { worker: 0 }, watcher),
        };
        let formatter = Formatter::new(parts).start();
        let bodies = ByteBudget::new(64 << 20);
        let failed_from = FailedFrom::none();
        Self {
            formatter,
            connections,
            pieces,
            budget,
            bodies,
            counters,
            settled,
            report_to,
            guard,
            failed_from,
            next: 0,
        }
    }

    fn batch(&mut self, shard: ShardId, content: BatchContent) -> FormatBatch {
        let numbers = (shard, Epoch(1), Generation(0), Sequence(self.next));
        self.next += 1;
        let ticket = Ticket::new(numbers, self.failed_from.clone(), self.report_to.clone(), None);
        FormatBatch { from: Cursor::new("c0").expect("printable"), content, ticket }
    }

    /// Hands over a body of so many groups of so many logs; `spoil` has the last word on it.
    fn format(&mut self, (groups, logs): (usize, usize), spoil: impl FnOnce(&mut PulledBody)) {
        let groups: Vec<Bytes> = (0..groups).map(|group| log_group(group * logs, logs)).collect();
        let block = Block::new(groups.iter().map(|group| &group[..])).expect("log groups");
        let credit = self.bodies.try_reserve(block.raw_size() as usize + block.lz4().len()).expect("room");
        let mut body = PulledBody {
            bytes: block.lz4().clone(),
            compression: Compression::Lz4,
            raw_size: block.raw_size(),
            log_groups: groups.len() as u32,
            credit,
        };
        spoil(&mut body);
        let batch = self.batch(SHARD, BatchContent::Body(body));
        self.formatter.try_send(batch).expect("room");
    }

    async fn piece(&mut self) -> SendBatch {
        self.connections[0].next().await
    }

    async fn failed(&mut self) -> (Sequence, FailReason) {
        let settled = self.settled.next().await;
        match settled.outcome {
            Outcome::Failed(why) => (settled.sequence, why),
            Outcome::Delivered { .. } => panic!("delivered: {settled:?}"),
        }
    }

    async fn end(mut self) {
        self.formatter.do_send(EndFormatter);
        assert!(!self.guard.next().await.panicked);
        assert_eq!(self.budget.free(), self.budget.total(), "bytes of pieces have not come back");
        assert_eq!(self.bodies.free(), self.bodies.total(), "bytes of bodies have not come back");
        assert_eq!(self.pieces.free(), self.pieces.total(), "places have not come back");
    }
}

/// The ticket of a batch's last piece, whose bytes and place go back.
fn last_of(piece: SendBatch) -> (Ticket, u64) {
    piece.last.expect("the last piece carries the ticket")
}

/// The values of field `n` in a piece, in order.
fn numbers(piece: &SendBatch) -> Vec<usize> {
    let (mut rest, mut numbers) = (&piece.frames[..], Vec::new());
    while let Some((length, message)) = next_frame(Framing::Lf, rest) {
        let text = std::str::from_utf8(&rest[message]).expect("text");
        numbers.push(text.rsplit_once("n=").expect("a field").1.parse().expect("a number"));
        rest = &rest[length..];
    }
    assert_eq!(numbers.len(), piece.messages as usize);
    numbers
}

#[test]
fn a_batch_becomes_frames_and_its_ticket_travels_with_them() {
    run(async {
        let mut rig = Rig::new();
        rig.format((3, 4), |_| ());
        let piece = rig.piece().await;
        assert_eq!(numbers(&piece), (0..12).collect::<Vec<_>>());
        assert_eq!(rig.bodies.free(), rig.bodies.total(), "M1: the body is paid for until it is rendered");
        let (ticket, logs) = last_of(piece);
        assert_eq!(logs, 12);
        assert!(rig.settled.try_next().is_none());
        ticket.delivered(logs);
        assert_eq!(rig.settled.next().await.outcome, Outcome::Delivered { logs: 12, refused: Vec::new() });
        rig.end().await;
    });
}

/// Log groups without logs: nothing to send, but the batch has its turn.
#[test]
fn o3_a_batch_that_renders_to_nothing_settles_in_its_turn() {
    run(async {
        let mut rig = Rig::new();
        rig.format((1, 1), |_| ());
        rig.format((2, 0), |_| ());
        let (first, empty) = (rig.piece().await, rig.piece().await);
        assert_eq!((first.sequence, empty.sequence), (Sequence(0), Sequence(1)));
        assert_eq!((empty.messages, empty.frames.len()), (0, 0));
        let (ticket, logs) = last_of(empty);
        ticket.delivered(logs);
        assert_eq!(rig.settled.next().await.outcome, Outcome::Delivered { logs: 0, refused: Vec::new() });
        drop(first);
        rig.failed().await;
        rig.end().await;
    });
}

/// M3: pieces are bounded, in order, and only the last one carries the ticket.
#[test]
fn m3_a_large_batch_goes_in_pieces_of_bounded_size() {
    run(async {
        let mut rig = Rig::with(1, 3, 4 << 20);
        rig.format((10, 1000), |_| ());
        let mut seen = Vec::new();
        let mut pieces = 0;
        loop {
            let piece = rig.piece().await;
            pieces += 1;
            assert!(piece.frames.len() <= 64 << 10);
            seen.extend(numbers(&piece));
            let logs = piece.last.as_ref().map(|(_, logs)| *logs);
            piece.confirmed();
            if let Some(logs) = logs {
                assert_eq!(logs, 10_000);
                break;
            }
        }
        assert!(pieces > 5);
        assert!(seen.into_iter().eq(0..10_000));
        assert!(matches!(rig.settled.next().await.outcome, Outcome::Delivered { logs: 10_000, .. }));
        rig.end().await;
    });
}

/// An application's output forgets a piece in the middle of a batch, and confirms the last one.
#[test]
fn a_piece_that_is_dropped_fails_its_batch_although_its_ticket_is_delivered() {
    run(async {
        let mut rig = Rig::with(1, 64, 8 << 20);
        rig.format((4, 1000), |_| ());
        let mut pieces = vec![rig.piece().await];
        while pieces.last().is_some_and(|piece| piece.last.is_none()) {
            pieces.push(rig.piece().await);
        }
        assert!(pieces.len() > 2);
        let last = pieces.pop().expect("a last one");
        drop(pieces.remove(1));
        pieces.into_iter().for_each(SendBatch::confirmed);
        last.confirmed();
        assert_eq!(rig.failed().await, (Sequence(0), FailReason::Superseded));
        rig.end().await;
    });
}

#[test]
fn i5_a_piece_is_rendered_only_when_its_bytes_are_free() {
    run(async {
        let mut rig = Rig::with(1, 8, 2 * (64 << 10));
        rig.format((10, 1000), |_| ());
        let (first, second) = (rig.piece().await, rig.piece().await);
        rig.connections[0].nothing_for(seconds(60)).await;
        first.confirmed();
        let third = rig.piece().await;
        rig.connections[0].nothing_for(seconds(60)).await;
        rig.failed_from.lower_to(Sequence(0));
        drop((second, third));
        assert_eq!(rig.failed().await, (Sequence(0), FailReason::Superseded));
        rig.end().await;
    });
}

/// Hands over a log group with one log of so many bytes.
fn format_long(rig: &mut Rig, length: usize) {
    let content = proto::Content { key: "k".into(), value: "v".repeat(length).into() };
    let log = proto::Log { time: 1, contents: vec![content], time_ns: None };
    let group = proto::LogGroup { logs: vec![log], ..Default::default() };
    let raw: Bytes = proto::LogGroupList { log_groups: vec![group] }.encode_to_vec().into();
    rig.format((1, 1), |body| {
        (body.raw_size, body.bytes, body.compression) = (raw.len() as u64, raw, Compression::None);
    });
}

/// Messages that are longer than a piece once made buffers grow for which nobody had paid.
#[test]
fn i5_a_message_longer_than_a_piece_is_paid_for_before_the_next_is_rendered() {
    run(async {
        let mut rig = Rig::with(1, 8, 1 << 20);
        let taken = |rig: &Rig| rig.budget.total() - rig.budget.free();
        for _ in 0..2 {
            format_long(&mut rig, 600_000);
        }
        let first = rig.piece().await;
        assert!(first.frames.len() > 600_000 && taken(&rig) >= first.frames.len(), "{}", taken(&rig));
        rig.connections[0].nothing_for(seconds(60)).await;
        first.confirmed();
        let second = rig.piece().await;
        assert!(taken(&rig) >= second.frames.len(), "{}", taken(&rig));
        // Longer than all that there is: it goes alone.
        format_long(&mut rig, 3_000_000);
        rig.connections[0].nothing_for(seconds(60)).await;
        second.confirmed();
        let third = rig.piece().await;
        assert_eq!((third.frames.len() > 3_000_000, rig.budget.free()), (true, 0));
        format_long(&mut rig, 10);
        rig.connections[0].nothing_for(seconds(60)).await;
        third.confirmed();
        rig.piece().await.confirmed();
        for _ in 0..4 {
            assert!(matches!(rig.settled.next().await.outcome, Outcome::Delivered { logs: 1, .. }));
        }
        rig.end().await;
    });
}

#[test]
fn i6_a_piece_is_rendered_only_when_its_place_is_free() {
    run(async {
        let mut rig = Rig::with(1, 2, 4 << 20);
        rig.format((10, 1000), |_| ());
        let (first, second) = (rig.piece().await, rig.piece().await);
        rig.connections[0].nothing_for(seconds(60)).await;
        second.confirmed();
        let third = rig.piece().await;
        rig.connections[0].nothing_for(seconds(60)).await;
        rig.failed_from.lower_to(Sequence(0));
        drop((first, third));
        assert_eq!(rig.failed().await, (Sequence(0), FailReason::Superseded));
        rig.end().await;
    });
}

#[test]
fn o1_superseded_batches_are_not_rendered() {
    run(async {
        let mut rig = Rig::new();
        let places = rig.pieces.clone();
        let taken: Vec<_> = std::iter::from_fn(|| places.try_take()).collect();
        for _ in 0..3 {
            rig.format((1, 1), |_| ());
        }
        settle().await;
        rig.failed_from.lower_to(Sequence(1));
        drop(taken);
        let piece = rig.piece().await;
        assert_eq!(piece.sequence, Sequence(0), "what lies before the failed batch is sent");
        assert_eq!(rig.failed().await, (Sequence(1), FailReason::Superseded));
        assert_eq!(rig.failed().await, (Sequence(2), FailReason::Superseded));
        assert!(rig.connections[0].try_next().is_none());
        drop(piece);
        rig.failed().await;
        rig.end().await;
    });
}

/// The same log groups, as SLS answers them when another compression is asked for.
fn recompress(body: &mut PulledBody, compression: Compression) {
    let mut raw = Vec::new();
    let raw = decompress(&body.bytes, body.compression, body.raw_size, &mut raw).expect("a whole body");
    (body.bytes, body.compression) = (compress(raw, compression).into(), compression);
}

/// Each of these bodies is refused as a whole, before anything of a log that is not there is confirmed; the next batch
/// is rendered as if nothing had happened.
#[test]
fn o2_a_bad_body_fails_by_itself() {
    run(async {
        let mut rig = Rig::new();
        let codecs = [Compression::Lz4, Compression::Zstd, Compression::Deflate];
        for (compression, spoil) in codecs.iter().flat_map(|codec| (0..6).map(|spoil| (*codec, spoil))) {
            rig.failed_from = FailedFrom::none();
            let spoil_it = |body: &mut PulledBody| match spoil {
                0 => body.raw_size += 1,
                1 => body.raw_size -= 1,
                2 => body.log_groups = 1,
                3 => body.log_groups = 3,
                4 => body.bytes = corrupted(&body.bytes),
                _ => {
                    let raw = Bytes::from_static(b"\x0a\x05\x0a\x03zzz");
                    (body.raw_size, body.bytes, body.compression) = (raw.len() as u64, raw, Compression::None);
                }
            };
            rig.format((2, 2), |body| {
                recompress(body, compression);
                spoil_it(body);
            });
            let (_, why) = rig.failed().await;
            assert!(matches!(why, FailReason::BadBody { .. }), "{compression:?} spoilt {spoil}: {why:?}");
        }
        assert!(rig.connections[0].try_next().is_none(), "nothing of a bad body is sent");
        for compression in codecs {
            rig.failed_from = FailedFrom::none();
            rig.format((2, 2), |body| recompress(body, compression));
            assert_eq!(numbers(&rig.piece().await), [0, 1, 2, 3], "{compression:?}");
            rig.failed().await;
        }
        rig.end().await;
    });
}

#[test]
fn a_gap_record_is_a_message_of_its_own() {
    run(async {
        let mut rig = Rig::new();
        let gap = sls_syslog_actors::wire::syslog::gap::GapRecord {
            project: "project".into(),
            logstore: "logstore".into(),
            shard: SHARD,
            from: "a".into(),
            to: "b".into(),
            reason: "for a test".into(),
            noticed_s: 1_700_000_000,
        };
        let batch = rig.batch(SHARD, BatchContent::Gap(Box::new(gap)));
        rig.formatter.try_send(batch).expect("room");
        let piece = rig.piece().await;
        assert_eq!(piece.messages, 1);
        assert!(std::str::from_utf8(&piece.frames).expect("text").contains(" gap - ||project=project||"));
        assert!(piece.last.is_some());
        drop(piece);
        rig.failed().await;
        rig.end().await;
    });
}

/// A connection that is gone takes the ticket to the grave.
#[test]
fn a_connection_that_is_gone_fails_the_ticket() {
    run(async {
        let (connection, jam) = jammed::<SendBatch>(1);
        drop(jam);
        settle().await;
        let mut rig = Rig::to(vec![connection], Vec::new(), 8, 4 << 20);
        rig.format((1, 1), |_| ());
        assert_eq!(rig.failed().await, (Sequence(0), FailReason::Dropped));
        assert_eq!(rig.counters.snapshot().full_mailboxes, 0);
        rig.end().await;
    });
}

/// It cannot be full, because each piece has a credit; here there are more credits than places.
#[test]
fn a_connection_whose_mailbox_is_full_fails_the_ticket_and_is_counted() {
    run(async {
        let (connection, jam) = jammed::<SendBatch>(1);
        let mut rig = Rig::to(vec![connection], Vec::new(), 8, 4 << 20);
        for _ in 0..5 {
            rig.format((1, 1), |_| ());
        }
        let (_, why) = rig.failed().await;
        assert_eq!(why, FailReason::Dropped);
        assert!(rig.counters.snapshot().full_mailboxes > 0);
        drop(jam);
        tokio::time::sleep(seconds(1)).await;
        rig.end().await;
    });
}

#[test]
fn the_end_fails_every_ticket_in_hand() {
    run(async {
        let mut rig = Rig::new();
        let places = rig.pieces.clone();
        let taken: Vec<_> = std::iter::from_fn(|| places.try_take()).collect();
        for _ in 0..3 {
            rig.format((1, 1), |_| ());
        }
        settle().await;
        rig.formatter.do_send(EndFormatter);
        let mut failed = Vec::new();
        for _ in 0..3 {
            failed.push(rig.failed().await.0);
        }
        failed.sort();
        assert_eq!(failed, [Sequence(0), Sequence(1), Sequence(2)]);
        drop(taken);
        rig.end().await;
    });
}

#[test]
fn a_shard_always_goes_to_the_same_connection() {
    run(async {
        let mut rig = Rig::with(3, 64, 4 << 20);
        for round in 0..12 {
            let group = log_group(0, 1);
            let block = Block::new([&group[..]]).expect("a log group");
            let body = PulledBody {
                bytes: block.lz4().clone(),
                compression: Compression::Lz4,
                raw_size: block.raw_size(),
                log_groups: 1,
                credit: rig.bodies.try_reserve(BLOCK).expect("room"),
            };
            let batch = rig.batch(ShardId(round % 4), BatchContent::Body(body));
            rig.formatter.try_send(batch).expect("room");
            settle().await;
        }
        let mut seen: Vec<Vec<u32>> = Vec::new();
        for connection in &mut rig.connections {
            let mut shards = Vec::new();
            while let Some(piece) = connection.try_next() {
                shards.push(piece.shard.0);
            }
            seen.push(shards);
        }
        assert_eq!(seen, [vec![0, 3, 0, 3, 0, 3], vec![1, 1, 1], vec![2, 2, 2]]);
        rig.end().await;
    });
}
