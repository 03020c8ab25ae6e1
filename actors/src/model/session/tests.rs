//! The session against examples, and against a naive model of a receiver.

mod trials;

use std::cell::Cell;
use std::collections::BTreeSet;
use std::rc::Rc;

use proptest::prelude::*;

use super::trial::{CUTS, Refusal, UNSUSPECTED_BYTES};
use super::*;

const PROBATION: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(2);
const LINGER: Duration = Duration::from_millis(200);
const SILENCE: Duration = Duration::from_millis(1_200);
const TRIAL_LINGER: Duration = Duration::from_millis(700);

/// A piece of frames `[u32 length of the frame][u32 message number][fill]`.
#[derive(Debug)]
struct TestPiece {
    id: usize,
    frames: Vec<u8>,
    sequence: u64,
    failed_from: Rc<Cell<u64>>,
}

impl Piece for TestPiece {
    fn frames(&self) -> &[u8] {
        &self.frames
    }

    fn is_superseded(&self) -> bool {
        self.sequence >= self.failed_from.get()
    }

    fn frame_end(&self, from: usize) -> usize {
        from + frame_len(&self.frames[from..])
    }

    fn may_be_refused(&self) -> bool {
        let mut rest = &self.frames[..];
        while !rest.is_empty() {
            let (frame, behind) = rest.split_at(frame_len(rest));
            if frame.len() > UNSUSPECTED_BYTES {
                return true;
            }
            rest = behind;
        }
        false
    }
}

fn frame_len(bytes: &[u8]) -> usize {
    u32::from_le_bytes(bytes[..4].try_into().expect("four bytes")) as usize
}

fn message_number(bytes: &[u8]) -> usize {
    u32::from_le_bytes(bytes[4..8].try_into().expect("four bytes")) as usize
}

fn frame(number: usize, len: usize) -> Vec<u8> {
    let len = len.max(8);
    let mut frame = Vec::with_capacity(len);
    frame.extend((len as u32).to_le_bytes());
    frame.extend((number as u32).to_le_bytes());
    frame.resize(len, b'.');
    frame
}

fn times() -> SessionTimes {
    SessionTimes {
        confirm_after_connect: PROBATION,
        timeout: TIMEOUT,
        first_look: LOOK,
        linger: LINGER,
        trials: Some(TrialTimes { silence: SILENCE, linger: TRIAL_LINGER }),
    }
}

/// A session with a piece per slice of frame lengths, messages numbered through.
fn session_of(pieces: &[&[usize]]) -> (Session<TestPiece>, Rc<Cell<u64>>) {
    let mut session = Session::new(times());
    let failed_from = Rc::new(Cell::new(u64::MAX));
    let mut number = 0;
    for (id, lens) in pieces.iter().enumerate() {
        let mut frames = Vec::new();
        for len in *lens {
            frames.extend(frame(number, *len));
            number += 1;
        }
        session.push(TestPiece { id, frames, sequence: id as u64, failed_from: Rc::clone(&failed_from) });
    }
    (session, failed_from)
}

/// Writes all that the session offers; returns it.
fn write_all(session: &mut Session<TestPiece>, now: Instant) -> Vec<u8> {
    let mut wire = Vec::new();
    while let Some(write) = session.next_write(None) {
        let bytes = write.bytes.to_vec();
        session.wrote(bytes.len(), now);
        wire.extend(bytes);
    }
    wire
}

fn numbers(mut wire: &[u8]) -> Vec<usize> {
    let mut numbers = Vec::new();
    while wire.len() >= 8 {
        numbers.push(message_number(wire));
        wire = &wire[frame_len(wire).min(wire.len())..];
    }
    numbers
}

fn settled(session: &mut Session<TestPiece>) -> Vec<(usize, Settled)> {
    std::iter::from_fn(|| session.next_settled()).map(|(piece, how)| (piece.id, how)).collect()
}

#[test]
fn nothing_is_confirmed_before_the_connection_has_stood_open() {
    let (mut session, _) = session_of(&[&[100; 3]]);
    let start = Instant::now();
    session.opened(start);
    assert_eq!(write_all(&mut session, start).len(), 300);
    session.looked(300, start + PROBATION - Duration::from_millis(1));
    assert_eq!(settled(&mut session), []);
    assert!(session.is_look_due(start + PROBATION));
    let looked = session.looked(300, start + PROBATION);
    let expected = Looked { became_ready: true, confirmed_more: true, bytes_confirmed: 300, passed_over: false };
    assert_eq!(looked, expected);
    assert_eq!(settled(&mut session), [(0, Settled::Confirmed)]);
    assert!(session.is_empty());
}

#[test]
fn a_cut_on_probation_confirms_nothing_although_all_was_acknowledged() {
    let (mut session, _) = session_of(&[&[100; 3]]);
    let start = Instant::now();
    session.opened(start);
    write_all(&mut session, start);
    session.looked(300, start + PROBATION / 2);
    let cut = session.cut(CutBy::Receiver);
    assert!(cut.on_probation);
    assert_eq!((cut.bytes_unconfirmed, cut.messages_unconfirmed, cut.bytes_confirmed), (300, 3, 0));
    session.opened(start + PROBATION);
    assert_eq!(numbers(&write_all(&mut session, start + PROBATION)), [0, 1, 2]);
}

#[test]
fn probation_carries_64_kib_cut_at_a_border_or_one_longer_message() {
    let start = Instant::now();
    for (pieces, first) in [
        (&[&[30_000, 30_000, 30_000][..]][..], 60_000),
        (&[&[30_000][..], &[30_000][..], &[30_000][..]][..], 60_000),
        (&[&[100_000, 8][..]][..], 100_000),
        (&[&[8, 100_000][..]][..], 8),
        (&[&[PROBATION_BYTES, 8][..]][..], PROBATION_BYTES),
    ] {
        let (mut session, _) = session_of(pieces);
        session.opened(start);
        let wire = write_all(&mut session, start);
        assert_eq!(wire.len(), first, "{pieces:?}");
        assert!(session.looked(first as u64, start + PROBATION).became_ready);
        let all: usize = pieces.iter().flat_map(|p| p.iter()).sum();
        assert_eq!(write_all(&mut session, start + PROBATION).len(), all - first, "{pieces:?}");
    }
}

#[test]
fn after_a_cut_the_first_message_not_wholly_covered_is_sent_again() {
    let (mut session, _) = session_of(&[&[100; 3], &[100; 3]]);
    let start = Instant::now();
    session.opened(start);
    session.looked(0, start + PROBATION);
    assert_eq!(write_all(&mut session, start + PROBATION).len(), 600);
    session.looked(450, start + PROBATION);
    assert_eq!(settled(&mut session), [(0, Settled::Confirmed)]);
    let cut = session.cut(CutBy::Receiver);
    assert_eq!((cut.bytes_confirmed, cut.bytes_unconfirmed, cut.messages_unconfirmed), (100, 200, 2));
    assert!(!cut.on_probation);
    let later = start + 2 * PROBATION;
    session.opened(later);
    assert_eq!(numbers(&write_all(&mut session, later)), [4, 5]);
    session.looked(200, later + PROBATION);
    assert_eq!(settled(&mut session), [(1, Settled::Confirmed)]);
}

#[test]
fn a_piece_that_is_superseded_half_way_ends_at_a_message_border_and_later_ones_are_not_begun() {
    let (mut session, failed_from) = session_of(&[&[100; 3], &[100; 3], &[100; 3]]);
    let start = Instant::now();
    session.opened(start);
    session.looked(0, start + PROBATION);
    let mut wire = Vec::new();
    for bytes in [300, 150] {
        wire.extend(&session.next_write(None).expect("more").bytes[..bytes]);
        session.wrote(bytes, start + PROBATION);
    }
    failed_from.set(1);
    session.sweep();
    assert_eq!(settled(&mut session), [(2, Settled::Superseded)]);
    wire.extend(write_all(&mut session, start + PROBATION));
    assert_eq!((numbers(&wire), wire.len()), (vec![0, 1, 2, 3, 4], 500));
    session.sweep();
    assert_eq!(settled(&mut session), [(1, Settled::Superseded)]);
    session.looked(500, start + PROBATION);
    assert_eq!(settled(&mut session), [(0, Settled::Confirmed)]);
    assert!(session.is_empty());
}

#[test]
fn superseded_pieces_come_back_while_the_receiver_is_down() {
    let (mut session, failed_from) = session_of(&[&[100; 3], &[], &[100]]);
    failed_from.set(0);
    session.sweep();
    assert_eq!(settled(&mut session), [0, 1, 2].map(|id| (id, Settled::Superseded)));
}

#[test]
fn an_empty_piece_settles_in_its_turn_and_needs_no_connection_when_it_is_first() {
    let (mut session, _) = session_of(&[&[], &[100], &[]]);
    assert_eq!(settled(&mut session), [(0, Settled::Confirmed)]);
    let start = Instant::now();
    session.opened(start);
    session.looked(0, start + PROBATION);
    write_all(&mut session, start + PROBATION);
    assert_eq!(settled(&mut session), []);
    session.looked(100, start + PROBATION);
    assert_eq!(settled(&mut session), [(1, Settled::Confirmed), (2, Settled::Confirmed)]);
}

#[test]
fn the_time_out_runs_only_while_bytes_are_unacknowledged_and_restarts_with_each() {
    let (mut session, _) = session_of(&[&[100; 3]]);
    let start = Instant::now();
    session.opened(start);
    session.looked(0, start + PROBATION);
    assert!(!session.is_stuck(start + 10 * TIMEOUT), "nothing was written");
    let sent = start + 10 * TIMEOUT;
    write_all(&mut session, sent);
    assert!(!session.is_stuck(sent + TIMEOUT - LOOK));
    assert!(session.is_stuck(sent + TIMEOUT));
    session.looked(1, sent + TIMEOUT - LOOK);
    assert!(!session.is_stuck(sent + TIMEOUT));
    assert!(session.is_stuck(sent + 2 * TIMEOUT - LOOK));
    session.looked(300, sent + 2 * TIMEOUT - LOOK);
    assert!(!session.is_stuck(sent + 20 * TIMEOUT));
}

#[test]
fn looks_are_frequent_while_bytes_are_acknowledged_and_rare_while_they_are_not() {
    let (mut session, _) = session_of(&[&[100; 3]]);
    let start = Instant::now();
    session.opened(start);
    session.looked(0, start + PROBATION);
    assert_eq!(session.next_look(), None, "nothing is unconfirmed");
    let mut now = start + PROBATION;
    write_all(&mut session, now);
    let mut looks = 0;
    while now < start + PROBATION + Duration::from_secs(10) {
        let next = session.next_look().expect("something is unconfirmed");
        assert!(next > now && next - now <= LONGEST_LOOK_PAUSE);
        now = next;
        session.looked(0, now);
        looks += 1;
    }
    assert!(looks < 220, "{looks} looks in ten seconds");
    session.looked(100, now);
    assert_eq!(session.next_look(), Some(now + LOOK));
}

#[test]
fn a_limit_of_messages_is_kept_however_little_the_socket_takes() {
    let (mut session, _) = session_of(&[&[100; 10]]);
    let start = Instant::now();
    session.opened(start);
    assert!(session.next_write(Some(0)).is_none());
    let write = session.next_write(Some(3)).expect("may write");
    assert_eq!((write.bytes.len(), write.messages), (300, 3));
    session.wrote(150, start);
    let write = session.next_write(Some(7)).expect("begun ones may be finished");
    assert_eq!((write.bytes.len(), write.messages), (150, 0));
    session.wrote(150, start);
    assert_eq!(session.next_write(Some(2)).map(|w| (w.bytes.len(), w.messages)), Some((200, 2)));
}

// ---- Against a naive model -----------------------------------------------------------------------------------

#[derive(Debug, Clone)]
enum Op {
    Push {
        shard: usize,
        frames: Vec<usize>,
    },
    Write {
        most: usize,
        messages: Option<u32>,
    },
    Wait(u64),
    Look {
        percent: u64,
    },
    Cut {
        by_receiver: bool,
    },
    Open,
    /// Connections that are silent long enough, and that the receiver ends when something was written.
    Trials(usize),
    /// The receiver answers that it does not take the next message.
    Refuse {
        took_later: bool,
    },
    Supersede {
        shard: usize,
        newest: u64,
    },
    Sweep,
}

fn op() -> impl Strategy<Value = Op> {
    let frame_len = prop_oneof![8 => 8..300_usize, 1 => 20_000..40_000_usize, 1 => 60_000..80_000_usize];
    prop_oneof![
        4 => (0..2_usize, prop::collection::vec(frame_len, 0..6)).prop_map(|(shard, frames)| Op::Push { shard, frames }),
        8 => (prop_oneof![1..500_usize, Just(usize::MAX)], prop::option::weighted(0.2, 0..4_u32))
            .prop_map(|(most, messages)| Op::Write { most, messages }),
        3 => (1..1500_u64).prop_map(Op::Wait),
        5 => (0..=100_u64).prop_map(|percent| Op::Look { percent }),
        1 => any::<bool>().prop_map(|by_receiver| Op::Cut { by_receiver }),
        1 => (1..6_usize).prop_map(Op::Trials),
        1 => any::<bool>().prop_map(|took_later| Op::Refuse { took_later }),
        3 => Just(Op::Open),
        1 => (0..2_usize, 0..4_u64).prop_map(|(shard, newest)| Op::Supersede { shard, newest }),
        2 => Just(Op::Sweep),
    ]
}

/// Everything that happened, kept in the plainest way.
struct Naive {
    session: Session<TestPiece>,
    now: Instant,
    /// The receiver answers: only such a one can refuse a message, and what it takes counts at once.
    answers: bool,
    /// Per piece, its messages' numbers; per message, its piece.
    pieces: Vec<Vec<usize>>,
    piece_of: Vec<usize>,
    cells: [Rc<Cell<u64>>; 2],
    next_sequence: u64,
    superseded: Vec<(Rc<Cell<u64>>, u64)>,
    wire: Option<Wire>,
    /// Messages that a look at an open, proven connection covered.
    covered: BTreeSet<usize>,
    /// Messages in whose place such a look covered something else.
    named: BTreeSet<usize>,
    /// The message that connections have carried alone, and how many of them the receiver has ended.
    alone: Option<(usize, u32)>,
    /// The message that was refused last while a later one was taken.
    refused: Option<usize>,
    settled: Vec<(usize, Settled)>,
}

struct Wire {
    bytes: Vec<u8>,
    acked: u64,
    opened_at: Instant,
    /// How long it was silent.
    silent_for: Duration,
    ready: bool,
}

/// What goes in the place of a message has its number and this.
const GAP: usize = 1_000_000;

impl Naive {
    fn new(answers: bool) -> Self {
        let cell = || Rc::new(Cell::new(u64::MAX));
        let mut times = times();
        if answers {
            times.linger = Duration::ZERO;
            times.trials = Some(TrialTimes { silence: SILENCE, linger: Duration::ZERO });
        }
        Self {
            session: Session::new(times),
            now: Instant::now(),
            answers,
            pieces: Vec::new(),
            piece_of: Vec::new(),
            cells: [cell(), cell()],
            next_sequence: 0,
            superseded: Vec::new(),
            wire: None,
            covered: BTreeSet::new(),
            named: BTreeSet::new(),
            alone: None,
            refused: None,
            settled: Vec::new(),
        }
    }

    fn is_superseded(&self, piece: usize) -> bool {
        let (cell, sequence) = &self.superseded[piece];
        *sequence >= cell.get()
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Push { shard, frames } => {
                let id = self.pieces.len();
                let (mut bytes, mut messages) = (Vec::new(), Vec::new());
                for len in frames {
                    let number = self.piece_of.len();
                    bytes.extend(frame(number, len));
                    messages.push(number);
                    self.piece_of.push(id);
                }
                self.pieces.push(messages);
                let (sequence, failed_from) = (self.next_sequence, Rc::clone(&self.cells[shard]));
                self.next_sequence += 1;
                self.superseded.push((Rc::clone(&failed_from), sequence));
                self.session.push(TestPiece { id, frames: bytes, sequence, failed_from });
            }
            Op::Write { most, messages } => {
                let Some(wire) = self.wire.as_mut() else {
                    assert!(self.session.next_write(messages).is_none(), "writes without a connection");
                    return;
                };
                let Some(write) = self.session.next_write(messages) else { return };
                assert!(!write.bytes.is_empty());
                let taken = write.bytes.len().min(most);
                if wire.bytes.is_empty() {
                    wire.silent_for = self.now - wire.opened_at;
                }
                wire.bytes.extend(&write.bytes[..taken]);
                self.session.wrote(taken, self.now);
                if !wire.ready {
                    let one = wire.bytes.get(..4).map_or(0, |_| frame_len(&wire.bytes));
                    assert!(wire.bytes.len() <= PROBATION_BYTES.max(one), "too much on probation");
                }
            }
            Op::Wait(ms) => self.now += Duration::from_millis(ms),
            Op::Look { percent } => {
                let Some(wire) = self.wire.as_mut() else { return };
                wire.acked = wire.acked.max(wire.bytes.len() as u64 * percent / 100);
                self.look();
            }
            Op::Cut { by_receiver } => self.cut(if by_receiver { CutBy::Receiver } else { CutBy::Other }),
            Op::Trials(count) => {
                for _ in 0..count {
                    self.apply(Op::Open);
                    self.apply(Op::Wait(SILENCE.as_millis() as u64));
                    self.apply(Op::Look { percent: 0 });
                    self.apply(Op::Write { most: usize::MAX, messages: None });
                    self.apply(Op::Cut { by_receiver: true });
                }
            }
            Op::Refuse { took_later } => {
                let Some(wire) = self.wire.as_mut().filter(|_| self.answers) else { return };
                let ends: u64 = wire.acked;
                let (mut border, mut next) = (0, None);
                for (number, len) in frames_of(&wire.bytes) {
                    if border >= ends {
                        next = Some(number);
                        break;
                    }
                    border += len as u64;
                }
                let Some(number) = next else { return };
                wire.acked = border;
                self.look();
                self.cut(CutBy::Answer { said: String::new(), took_later });
                self.refused = took_later.then_some(number);
            }
            Op::Open => {
                if self.wire.is_none() {
                    self.session.opened(self.now);
                    let (opened_at, silent_for) = (self.now, Duration::ZERO);
                    self.wire = Some(Wire { bytes: Vec::new(), acked: 0, opened_at, silent_for, ready: false });
                }
            }
            Op::Supersede { shard, newest } => {
                let from = self.next_sequence.saturating_sub(newest);
                self.cells[shard].set(self.cells[shard].get().min(from));
                // What comes next is the next generation.
                self.cells[shard] = Rc::new(Cell::new(u64::MAX));
            }
            Op::Sweep => self.session.sweep(),
        }
        while let Some((piece, how)) = self.session.next_settled() {
            self.check_settled(piece.id, how);
        }
    }

    fn look(&mut self) {
        let Some(wire) = self.wire.as_mut() else { return };
        wire.ready |= self.now - wire.opened_at >= PROBATION;
        if wire.ready {
            for message in whole_messages(&wire.bytes[..wire.acked as usize]) {
                match message.checked_sub(GAP) {
                    Some(named) => self.named.insert(named),
                    None => self.covered.insert(message),
                };
            }
        }
        self.session.looked(wire.acked, self.now);
    }

    fn cut(&mut self, by: CutBy) {
        let Some(wire) = self.wire.take() else { return };
        self.check_wire(&wire.bytes);
        let carried: Vec<_> = frames_of(&wire.bytes).collect();
        let counts = by == CutBy::Receiver && wire.silent_for >= SILENCE;
        self.alone = match (carried.as_slice(), self.alone) {
            ([], before) => before,
            ([(one, _)], Some((message, cuts))) if *one == message => Some((*one, cuts + u32::from(counts))),
            ([(one, _)], _) => Some((*one, u32::from(counts))),
            _ => None,
        };
        let refused_now = match by {
            CutBy::Answer { took_later: true, .. } => self.refused,
            _ => None,
        };
        self.session.cut(by);
        let Some(refused) = self.session.refused() else { return };
        let message = message_number(&refused.piece.frames[refused.at..]);
        match refused.how {
            Refusal::Cuts => {
                let (alone, cuts) = self.alone.expect("nothing was ever carried alone");
                assert!(alone == message && cuts >= CUTS, "{message} is given up, but {:?}", self.alone);
            }
            Refusal::Answer(_) => assert_eq!(refused_now, Some(message), "given up, but refused less than twice"),
        }
        self.session.substitute(frame(GAP + message, 60));
    }

    fn check_settled(&mut self, piece: usize, how: Settled) {
        assert!(self.settled.iter().all(|(id, _)| *id != piece), "piece {piece} was settled twice");
        match how {
            Settled::Superseded => assert!(self.is_superseded(piece), "piece {piece} was dropped without cause"),
            Settled::Confirmed => {
                let is_missing = |m: &&usize| !self.covered.contains(m) && !self.named.contains(m);
                let missing: Vec<_> = self.pieces[piece].iter().filter(is_missing).collect();
                assert!(missing.is_empty(), "piece {piece} is confirmed, but nobody saw {missing:?}");
                let earlier_open = (0..piece)
                    .find(|id| !self.is_superseded(*id) && self.settled.iter().all(|(settled, _)| settled != id));
                assert_eq!(earlier_open, None, "piece {piece} was confirmed before an earlier one");
            }
        }
        self.settled.push((piece, how));
    }

    /// One connection's bytes: whole messages (the last may be cut), ascending, and none is left out that is neither
    /// covered nor superseded.
    fn check_wire(&self, bytes: &[u8]) {
        let sent: Vec<_> = numbers(bytes).into_iter().map(|number| number % GAP).collect();
        assert!(sent.windows(2).all(|w| w[0] < w[1]), "out of order: {sent:?}");
        let Some(last) = sent.last() else { return };
        let sent: BTreeSet<_> = sent.iter().copied().collect();
        for message in 0..*last {
            let is_done = self.covered.contains(&message) || self.named.contains(&message);
            let excused = is_done || self.is_superseded(self.piece_of[message]);
            assert!(excused || sent.contains(&message), "message {message} was left out: {sent:?}");
        }
    }

    fn finish(&mut self) {
        self.apply(Op::Sweep);
        self.apply(Op::Open);
        for _ in 0..10_000 {
            if self.settled.len() == self.pieces.len() {
                break;
            }
            self.apply(Op::Wait(700));
            self.apply(Op::Look { percent: 100 });
            self.apply(Op::Write { most: usize::MAX, messages: None });
            self.apply(Op::Sweep);
        }
        assert_eq!(self.settled.len(), self.pieces.len(), "not all pieces were settled");
        if let Some(wire) = self.wire.take() {
            self.check_wire(&wire.bytes);
        }
    }
}

/// Number and length of the frames that begin in `bytes`.
fn frames_of(mut bytes: &[u8]) -> impl Iterator<Item = (usize, usize)> {
    std::iter::from_fn(move || {
        let frame = (bytes.len() >= 8).then(|| (message_number(bytes), frame_len(bytes)))?;
        bytes = &bytes[frame.1.min(bytes.len())..];
        Some(frame)
    })
}

fn whole_messages(mut bytes: &[u8]) -> Vec<usize> {
    let mut messages = Vec::new();
    while bytes.len() >= 8 && frame_len(bytes) <= bytes.len() {
        messages.push(message_number(bytes));
        bytes = &bytes[frame_len(bytes)..];
    }
    messages
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Whatever is written, looked at, cut and superseded: nothing is confirmed that was not covered, nothing is left
    /// out, order is kept, and every piece is settled once.
    #[test]
    fn no_history_confirms_what_was_not_covered_or_leaves_a_message_out(
        ops in prop::collection::vec(op(), 0..80),
        answers: bool,
    ) {
        let mut naive = Naive::new(answers);
        for op in ops {
            naive.apply(op);
        }
        naive.finish();
    }
}
