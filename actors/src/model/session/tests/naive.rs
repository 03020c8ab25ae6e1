//! The session against a naive model of a receiver.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::model::session::trial::{CUTS, Refusal};

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
    /// How often each message was refused.
    refused: BTreeMap<usize, u32>,
    /// The message that was refused last, and whether a later one was taken.
    refused_now: Option<(usize, bool)>,
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
            refused: BTreeMap::new(),
            refused_now: None,
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
                    self.now = self.session.next_look().unwrap_or(self.now).max(self.now);
                    self.apply(Op::Look { percent: 0 });
                    self.apply(Op::Write { most: usize::MAX, messages: None });
                    self.apply(Op::Cut { by_receiver: true });
                }
            }
            Op::Refuse { took_later } => {
                let Some(wire) = self.wire.as_mut().filter(|_| self.answers) else { return };
                let ends = wire.acked as usize;
                let (mut border, mut next) = (0, None);
                for (number, len) in frames_of(&wire.bytes) {
                    if border >= ends {
                        next = (border + len <= wire.bytes.len()).then_some((number, border + len));
                        break;
                    }
                    border += len;
                }
                let Some((number, end)) = next else { return };
                wire.acked = border as u64;
                self.look();
                self.session.refusal_heard();
                // What was begun, or what goes behind it in its place.
                self.apply(Op::Write { most: usize::MAX, messages: None });
                let Some(wire) = &self.wire else { return };
                let later = whole_messages(&wire.bytes[end..]);
                let took_later = took_later && !later.is_empty();
                if took_later && wire.ready && later == [GAP + number] {
                    self.named.insert(number);
                }
                *self.refused.entry(number).or_default() += 1;
                self.refused_now = Some((number, took_later));
                self.cut(CutBy::Answer { said: String::new(), took_later });
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
        let refused_now = self.refused_now.take();
        self.session.cut(by, self.now);
        let Some(refused) = self.session.refused() else { return };
        let message = message_number(&refused.piece.frames[refused.at..]);
        match refused.how {
            Refusal::Cuts => {
                let (alone, cuts) = self.alone.expect("nothing was ever carried alone");
                assert!(alone == message && cuts >= CUTS, "{message} is given up, but {:?}", self.alone);
            }
            Refusal::Answer(_) => {
                let (now, took_later) = refused_now.expect("given up, but not refused");
                assert_eq!(now, message, "given up in another's place");
                assert!(took_later || self.refused[&message] >= CUTS, "given up, but refused by who refuses all");
            }
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
        let sent = numbers(bytes);
        // What goes in a message's place may go behind it.
        let in_order = |a: usize, b: usize| a % GAP < b % GAP || b == GAP + a;
        assert!(sent.windows(2).all(|w| in_order(w[0], w[1])), "out of order: {sent:?}");
        let sent: Vec<_> = sent.into_iter().map(|number| number % GAP).collect();
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
