//! The session against examples.

mod naive;
mod trials;

use std::cell::Cell;
use std::rc::Rc;

use super::link::LONGEST_LOOK_PAUSE;
use super::trial::UNSUSPECTED_BYTES;
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
    let cut = session.cut(CutBy::Receiver, start + PROBATION / 2);
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
    let cut = session.cut(CutBy::Receiver, start + PROBATION);
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
