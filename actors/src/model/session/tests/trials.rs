//! Messages that a receiver does not take (rule C4), and what lingers because it may be such a one.

use super::*;
use crate::model::session::trial::{CUTS, First, Refusal};

const LONG: usize = 20_000;

/// Opens a connection that is silent for as long as a trial asks, and writes all that then may be written.
fn connect_in_silence(session: &mut Session<TestPiece>, now: &mut Instant) -> Vec<usize> {
    session.opened(*now);
    let ready = session.next_look().expect("a time for which it is silent");
    assert!(ready >= *now + SILENCE);
    *now = ready - LOOK;
    session.looked(0, *now);
    assert!(session.next_write(None).is_none(), "not silent");
    *now += LOOK;
    assert!(session.looked(0, *now).became_ready);
    numbers(&write_all(session, *now))
}

/// A session of these pieces, whose first connection ended after message 0 was confirmed; message 1 is long.
fn suspicious(pieces: &[&[usize]]) -> (Session<TestPiece>, Rc<Cell<u64>>, Instant) {
    let (mut session, failed_from) = session_of(pieces);
    let mut now = Instant::now();
    session.opened(now);
    now += PROBATION;
    session.looked(0, now);
    write_all(&mut session, now);
    assert!(session.looked(100, now).confirmed_more);
    assert_eq!(session.cut(CutBy::Receiver, now).suspect, Some((LONG, 0)));
    (session, failed_from, now)
}

/// The same with three cuts of connections that carried message 1 alone.
fn refused(pieces: &[&[usize]]) -> (Session<TestPiece>, Rc<Cell<u64>>, Instant) {
    let (mut session, failed_from, mut now) = suspicious(pieces);
    for cuts in 1..=CUTS {
        assert!(session.refused().is_none());
        assert_eq!(connect_in_silence(&mut session, &mut now), [1]);
        session.looked(LONG as u64 / 2, now);
        let suspect = (cuts < CUTS).then_some((LONG, cuts));
        assert_eq!(session.cut(CutBy::Receiver, now).suspect, suspect);
    }
    (session, failed_from, now)
}

const GAP: usize = 77;

fn substitute(session: &mut Session<TestPiece>) {
    let refused = session.refused().expect("a refused message");
    assert_eq!((refused.at, refused.len), (100, LONG));
    session.substitute(frame(GAP, 50));
    assert!(session.refused().is_none());
}

#[test]
fn after_three_cuts_of_connections_that_carried_it_alone_something_else_goes_in_its_place() {
    let (mut session, _, mut now) = refused(&[&[100, LONG, 100], &[100]]);
    assert_eq!(session.refused().map(|refused| refused.how), Some(&Refusal::Cuts));
    substitute(&mut session);
    assert_eq!(connect_in_silence(&mut session, &mut now), [GAP]);
    assert!(!session.looked(50, now).passed_over, "it may not have been read yet");
    assert_eq!(session.next_look(), Some(now + TRIAL_LINGER));
    now += TRIAL_LINGER;
    assert!(session.looked(50, now).passed_over);
    assert!(!session.is_on_trial());
    assert_eq!(numbers(&write_all(&mut session, now)), [2, 3]);
    now += LINGER;
    session.looked(250, now);
    session.looked(250, now + LINGER);
    assert_eq!(settled(&mut session), [(0, Settled::Confirmed), (1, Settled::Confirmed)]);
    assert!(session.is_empty());
}

#[test]
fn a_piece_whose_last_message_is_passed_over_settles_with_that() {
    let (mut session, _, mut now) = refused(&[&[100, LONG]]);
    substitute(&mut session);
    connect_in_silence(&mut session, &mut now);
    session.looked(50, now);
    assert!(session.looked(50, now + TRIAL_LINGER).passed_over);
    assert_eq!(settled(&mut session), [(0, Settled::Confirmed)]);
}

/// After another cut, the next messages are sent from behind the one that was passed over.
#[test]
fn what_was_passed_over_is_not_sent_again() {
    let (mut session, _, mut now) = refused(&[&[100, LONG, 100]]);
    substitute(&mut session);
    connect_in_silence(&mut session, &mut now);
    session.looked(50, now);
    now += TRIAL_LINGER;
    session.looked(50, now);
    let cut = session.cut(CutBy::Receiver, now);
    assert_eq!((cut.suspect, cut.bytes_unconfirmed), (None, 0));
    session.opened(now);
    assert_eq!(numbers(&write_all(&mut session, now)), [2]);
}

#[test]
fn a_message_that_is_confirmed_alone_ends_its_trial_and_the_connection_goes_on() {
    let (mut session, _, mut now) = suspicious(&[&[100, LONG, 100], &[100]]);
    assert_eq!(connect_in_silence(&mut session, &mut now), [1]);
    session.looked(LONG as u64, now);
    assert!(write_all(&mut session, now).is_empty(), "not alone");
    now += TRIAL_LINGER;
    assert!(session.looked(LONG as u64, now).confirmed_more);
    assert!(!session.is_on_trial());
    assert_eq!(numbers(&write_all(&mut session, now)), [2, 3]);
}

#[test]
fn cuts_count_only_when_the_receiver_ends_a_proven_connection_that_carried_the_message() {
    let (mut session, _, mut now) = suspicious(&[&[100, LONG, 100]]);
    for _ in 0..10 {
        assert_eq!(connect_in_silence(&mut session, &mut now), [1]);
        assert_eq!(session.cut(CutBy::Other, now).suspect, Some((LONG, 0)), "nobody's doing");
        session.opened(now);
        now += SILENCE / 2;
        session.looked(0, now);
        assert_eq!(session.cut(CutBy::Receiver, now).suspect, None, "it was silent");
        session.opened(now);
        assert_eq!(numbers(&write_all(&mut session, now))[0], 1);
        assert_eq!(session.cut(CutBy::Receiver, now).suspect, Some((LONG, 0)), "it was not silent");
    }
    connect_in_silence(&mut session, &mut now);
    assert_eq!(session.cut(CutBy::Receiver, now).suspect, Some((LONG, 1)));
}

/// It ends connections for their age. Nothing is set aside, although nothing is ever acknowledged.
#[test]
fn a_receiver_that_ends_each_connection_at_some_age_has_no_message_set_aside() {
    for age in [1_000, 1_300, 2_000, 5_000].map(Duration::from_millis) {
        let (mut session, _, mut now) = suspicious(&[&[100, LONG, 100]]);
        for _ in 0..100 {
            session.opened(now);
            let opened_at = now;
            while let Some(look) = session.next_look().filter(|look| *look < opened_at + age) {
                now = look;
                session.looked(0, now);
                write_all(&mut session, now);
            }
            now = opened_at + age;
            session.cut(CutBy::Receiver, now);
            assert!(session.refused().is_none(), "after {age:?}");
        }
    }
}

/// Lets a receiver that ends the connection as soon as message `bad` has come, before anything else of what came with it
/// was looked at, have the session; answers which message was given up, and after how many connections.
fn given_up(session: &mut Session<TestPiece>, bad: usize) -> (usize, usize) {
    let mut now = Instant::now();
    for connections in 1..100 {
        session.opened(now);
        let mut sent = Vec::new();
        loop {
            sent.extend(write_all(session, now));
            if numbers(&sent).contains(&bad) {
                break;
            }
            now = session.next_look().expect("it is not all settled");
            session.looked(sent.len() as u64, now);
        }
        session.cut(CutBy::Receiver, now);
        if let Some(refused) = session.refused() {
            return (message_number(&refused.piece.frames[refused.at..]), connections);
        }
    }
    panic!("message {bad} was sent again and again");
}

/// Nothing that comes in one go with what it does not take is confirmed: that is found all the same.
#[test]
fn a_message_is_found_that_ends_the_connection_before_anything_is_confirmed() {
    // What it is likely to refuse is found at once: cut, cut behind what lies before it, and then alone.
    for bad in [0, 7, 30] {
        let mut lens = [1_000; 31];
        lens[bad] = LONG;
        let (mut session, _) = session_of(&[&lens[..10], &lens[10..]]);
        let (found, connections) = given_up(&mut session, bad);
        assert!((found, connections) == (bad, 5) || (found, connections) == (0, 4), "{found} {connections}");
    }
    for bad in [0, 1, 7, 29, 30] {
        let lens = [3_000, 40, 800, 1_000, 2_000].repeat(10);
        let (mut session, _) = session_of(&[&lens[..3], &lens[3..20], &lens[20..]]);
        let (found, connections) = given_up(&mut session, bad);
        assert_eq!(found, bad);
        assert!(connections <= 12, "{connections}");
    }
}

/// Nothing is confirmed on connections that carry little in some other way.
#[test]
fn a_session_is_careful_no_longer_when_what_had_ended_connections_is_confirmed() {
    let (mut session, _) = session_of(&[&[1_000; 40], &[1_000; 200]]);
    let mut now = Instant::now();
    for _ in 0..4 {
        session.opened(now);
        write_all(&mut session, now);
        session.cut(CutBy::Receiver, now);
    }
    session.opened(now);
    let (mut sent, mut parts) = (write_all(&mut session, now).len(), 0);
    assert!(sent <= 4_000, "{sent}");
    while sent < 240_000 {
        now = session.next_look().expect("more to confirm");
        session.looked(sent as u64, now);
        let more = write_all(&mut session, now).len();
        parts += u32::from(more > 0);
        sent += more;
    }
    assert!(parts <= 5, "{parts}");
}

#[test]
fn where_no_receiver_can_end_a_connection_nothing_is_suspected() {
    let (mut session, _) = session_of(&[&[LONG, 100]]);
    session.times.trials = None;
    let mut now = Instant::now();
    for _ in 0..10 {
        session.opened(now);
        now += PROBATION;
        session.looked(0, now);
        assert_eq!(numbers(&write_all(&mut session, now)), [0, 1]);
        assert_eq!(session.cut(CutBy::Receiver, now).suspect, None);
    }
}

#[test]
fn a_message_whose_gap_record_is_not_confirmed_returns_and_counts_from_zero() {
    let (mut session, _, mut now) = refused(&[&[100, LONG, 100]]);
    substitute(&mut session);
    assert_eq!(connect_in_silence(&mut session, &mut now), [GAP]);
    session.looked(50, now);
    assert_eq!(session.cut(CutBy::Receiver, now).suspect, Some((LONG, 0)));
    assert_eq!(connect_in_silence(&mut session, &mut now), [1]);
    assert!(session.refused().is_none());
}

/// O1: the gap record is on its way when its message must not be sent any more. It ends at its border.
#[test]
fn a_gap_record_that_is_superseded_half_way_is_written_to_its_end_and_passes_nothing_over() {
    let (mut session, failed_from, mut now) = refused(&[&[100, LONG, 100], &[100]]);
    substitute(&mut session);
    session.opened(now);
    now += SILENCE;
    session.looked(0, now);
    let mut wire = session.next_write(None).expect("the gap record").bytes[..20].to_vec();
    session.wrote(20, now);
    failed_from.set(0);
    session.sweep();
    assert_eq!(settled(&mut session), [(0, Settled::Superseded), (1, Settled::Superseded)]);
    failed_from.set(u64::MAX);
    let frames = frame(9, 100);
    session.push(TestPiece { id: 2, frames, sequence: 2, failed_from });
    wire.extend(write_all(&mut session, now));
    assert_eq!(numbers(&wire), [GAP, 9]);
    assert!(!session.looked(150, now).passed_over);
    assert_eq!(settled(&mut session), [(2, Settled::Confirmed)]);
}

#[test]
fn a_message_that_is_superseded_while_alone_makes_way() {
    let (mut session, failed_from, mut now) = suspicious(&[&[100], &[LONG, 100], &[100]]);
    assert_eq!(settled(&mut session), [(0, Settled::Confirmed)]);
    assert_eq!(connect_in_silence(&mut session, &mut now), [1]);
    failed_from.set(1);
    session.sweep();
    assert_eq!(settled(&mut session), [(1, Settled::Superseded), (2, Settled::Superseded)]);
    failed_from.set(u64::MAX);
    session.push(TestPiece { id: 3, frames: frame(9, 100), sequence: 3, failed_from });
    assert_eq!(numbers(&write_all(&mut session, now)), [9]);
}

// ---- Receivers that answer -----------------------------------------------------------------------------------------

fn answered(took_later: bool) -> CutBy {
    CutBy::Answer { said: "500 \"no\"".to_owned(), took_later }
}

/// A session of three short messages at a receiver that answers: what it answers counts at once. Message 1 was refused.
fn answering(took_later: bool) -> (Session<TestPiece>, Instant) {
    let (mut session, _) = session_of(&[&[100, 100, 100]]);
    session.times.linger = Duration::ZERO;
    session.times.trials = Some(TrialTimes { silence: SILENCE, linger: Duration::ZERO });
    let mut now = Instant::now();
    session.opened(now);
    now += SILENCE;
    session.looked(0, now);
    assert_eq!(numbers(&write_all(&mut session, now)), [0, 1, 2]);
    session.looked(100, now);
    session.cut(answered(took_later), now);
    (session, now)
}

/// Sends message 1 alone, and has it refused; what follows behind it.
fn refuse_again(session: &mut Session<TestPiece>, now: &mut Instant) -> Vec<usize> {
    assert_eq!(connect_in_silence(session, now), [1]);
    session.refusal_heard();
    numbers(&write_all(session, *now))
}

#[test]
fn a_message_refused_while_a_later_one_is_taken_is_passed_over_when_its_gap_record_is_taken_too() {
    let (mut session, mut now) = answering(true);
    let refused = session.refused().expect("refused");
    assert_eq!((refused.at, refused.how), (100, &Refusal::Answer("500 \"no\"".to_owned())));
    session.substitute(frame(GAP, 50));
    assert_eq!(refuse_again(&mut session, &mut now), [GAP]);
    assert!(session.cut(answered(true), now).passed_over);
    session.opened(now);
    assert_eq!(numbers(&write_all(&mut session, now)), [2]);
}

/// The disk may have been full, and have had room for the next.
#[test]
fn a_message_refused_once_and_then_taken_is_not_passed_over() {
    let (mut session, mut now) = answering(true);
    session.substitute(frame(GAP, 50));
    assert_eq!(connect_in_silence(&mut session, &mut now), [1]);
    assert!(!session.looked(100, now).passed_over);
    assert_eq!(numbers(&write_all(&mut session, now)), [2]);
    session.looked(200, now);
    assert_eq!(settled(&mut session), [(0, Settled::Confirmed)]);
}

/// Nothing else may ever be sent behind it: it may be the only piece for which there is a credit, or the last log.
#[test]
fn a_message_refused_again_and_again_with_nothing_behind_it_is_passed_over_when_its_gap_record_is_taken() {
    let (mut session, mut now) = answering(false);
    for _ in 0..2 {
        assert!(session.refused().is_none());
        assert!(refuse_again(&mut session, &mut now).is_empty());
        session.cut(answered(false), now);
    }
    session.refused().expect("refused");
    session.substitute(frame(GAP, 50));
    assert_eq!(refuse_again(&mut session, &mut now), [GAP]);
    assert!(session.cut(answered(true), now).passed_over);
}

#[test]
fn a_receiver_that_takes_nothing_has_nothing_passed_over_and_gets_all_in_order_later() {
    let (mut session, mut now) = answering(false);
    let mut gap_records = 0;
    for _ in 0..20 {
        let has_gap_record = session.refused().is_some();
        session.substitute(frame(GAP, 50));
        let behind = refuse_again(&mut session, &mut now);
        assert_eq!(!behind.is_empty(), has_gap_record);
        gap_records += behind.len();
        assert!(!session.cut(answered(false), now).passed_over);
    }
    assert!(gap_records > 2);
    assert_eq!(connect_in_silence(&mut session, &mut now), [1]);
    session.looked(100, now);
    assert_eq!(numbers(&write_all(&mut session, now)), [2]);
}

/// What follows could only be taken before it.
#[test]
fn nothing_is_begun_behind_a_message_that_was_refused() {
    let (mut session, _) = session_of(&[&[100, 100, 100], &[100]]);
    session.times.linger = Duration::ZERO;
    let now = Instant::now() + PROBATION;
    session.opened(now - PROBATION);
    session.looked(0, now);
    let mut wire = session.next_write(None).expect("all").bytes[..150].to_vec();
    session.wrote(150, now);
    session.refusal_heard();
    wire.extend(write_all(&mut session, now));
    assert_eq!((numbers(&wire), wire.len()), (vec![0, 1], 200), "what is begun is finished");
}

/// What is answered before the connection has stood open does not count (C2), so it is not known which was refused.
#[test]
fn answers_on_probation_have_nothing_passed_over() {
    let (mut session, mut now) = answering(false);
    for _ in 0..10 {
        session.opened(now);
        write_all(&mut session, now);
        session.looked(100, now);
        session.cut(answered(true), now);
        assert!(session.refused().is_none());
        now += SILENCE;
    }
}

/// A superseded message was the refused one; the next one is not to blame.
#[test]
fn another_message_is_not_blamed_for_one_that_was_superseded() {
    let (mut session, failed_from) = session_of(&[&[100], &[100]]);
    session.times.linger = Duration::ZERO;
    let mut now = Instant::now();
    for _ in 0..3 {
        session.opened(now);
        now += SILENCE;
        session.looked(0, now);
        write_all(&mut session, now);
        // The first piece is one of another generation.
        failed_from.set(0);
        session.sweep();
        failed_from.set(u64::MAX);
        session.cut(answered(true), now);
        assert!(session.refused().is_none());
        session.push(TestPiece { id: 9, frames: frame(9, 100), sequence: 0, failed_from: Rc::clone(&failed_from) });
        session.push(TestPiece { id: 10, frames: frame(10, 100), sequence: 1, failed_from: Rc::clone(&failed_from) });
    }
}

#[test]
fn answers_restart_the_time_out_whatever_they_are_of() {
    let (mut session, _) = session_of(&[&[100, 100, 100]]);
    let mut now = Instant::now();
    session.opened(now);
    now += PROBATION;
    session.looked(0, now);
    write_all(&mut session, now);
    now += TIMEOUT - LOOK;
    session.answered(now);
    assert!(!session.is_stuck(now + TIMEOUT - LOOK));
    assert!(session.is_stuck(now + TIMEOUT));
}

// ---- What lingers --------------------------------------------------------------------------------------------------

/// A receiver's system acknowledges what the receiver may end the connection for, and what lies behind it.
#[test]
fn a_long_message_and_what_follows_it_count_once_the_connection_has_stayed_open_behind_them() {
    let (mut session, _) = session_of(&[&[100], &[100, LONG], &[100]]);
    let mut now = Instant::now();
    session.opened(now);
    now += PROBATION;
    session.looked(0, now);
    write_all(&mut session, now);
    let all = LONG as u64 + 300;
    assert!(session.looked(all, now).confirmed_more);
    assert_eq!(settled(&mut session), [(0, Settled::Confirmed)], "what lies before it does not wait");
    assert_eq!(session.next_look(), Some(now + LINGER));
    assert!(!session.looked(all, now + LINGER - LOOK).confirmed_more);
    assert!(!session.is_stuck(now + 10 * TIMEOUT), "it was acknowledged");
    session.looked(all, now + LINGER);
    assert_eq!(settled(&mut session), [(1, Settled::Confirmed), (2, Settled::Confirmed)]);
}

/// A full pipeline of long messages would otherwise move in steps of twice the time, and half as fast.
#[test]
fn what_is_acknowledged_later_counts_as_much_later() {
    let (mut session, _) = session_of(&[&[LONG][..]; 30]);
    let mut now = Instant::now();
    session.opened(now);
    now += PROBATION;
    session.looked(0, now);
    write_all(&mut session, now);
    let (begin, mut counted) = (now, 0);
    for step in 0..60 {
        now = begin + step * LINGER / 20;
        session.looked(LONG as u64 * u64::from(step + 1).min(30), now);
        counted += settled(&mut session).len();
        // As many as were acknowledged the time and an eighth before, and none too early.
        let before = |time: Duration| (now - begin).checked_sub(time).map_or(0, |since| 1 + since.as_millis() / 10);
        let (least, most) = (before(LINGER + LINGER / 8).min(30), before(LINGER).min(30));
        assert!((least..=most).contains(&(counted as u128)), "step {step}: {counted}, not {least} to {most}");
    }
    assert_eq!((counted, session.next_look()), (30, None));
}

/// Otherwise the short ones would hide it for ever: they are what is first unconfirmed.
#[test]
fn what_lies_before_a_long_message_in_its_piece_counts_at_once() {
    let (mut session, _) = session_of(&[&[100, 100, LONG, 100, LONG, 100]]);
    let mut now = Instant::now();
    for (confirmed_at_once, suspected) in [(200, true), (0, false), (100, true)] {
        session.opened(now);
        now += if session.is_on_trial() { SILENCE } else { PROBATION };
        session.looked(0, now);
        write_all(&mut session, now);
        if confirmed_at_once == 0 {
            // The first long one is taken when it comes alone.
            session.looked(LONG as u64, now);
            now += TRIAL_LINGER;
            session.looked(LONG as u64, now);
            write_all(&mut session, now);
        }
        session.looked(u64::MAX, now);
        let cut = session.cut(CutBy::Receiver, now);
        assert_eq!((cut.bytes_confirmed % LONG as u64, cut.suspect.is_some()), (confirmed_at_once, suspected));
    }
}

// ---- The table -----------------------------------------------------------------------------------------------------

/// Every state with every way in which a connection ends.
#[test]
fn the_transitions_of_a_trial() {
    let place = Place { slot: 1, at: 0, len: LONG };
    let other = Place { slot: 2, at: 0, len: LONG };
    let first = |place, carried| Some(First { place, carried, unanswered: carried });
    let show = |trial: &Trial| match trial {
        Trial::None => "none".to_owned(),
        Trial::Alone { place, cuts, refusals } => format!("alone {} {cuts}.{refusals}", place.slot),
        Trial::Refused { place, .. } => format!("refused {}", place.slot),
        Trial::Substitute { place, .. } => format!("substitute {}", place.slot),
    };
    let substitute = |place, behind| Trial::Substitute { place, frame: Vec::new(), at: 0, counted: false, behind };
    let states: [&dyn Fn(Place) -> Trial; 6] = [
        &|_| Trial::None,
        &|place| Trial::Alone { place, cuts: 0, refusals: 0 },
        &|place| Trial::Alone { place, cuts: CUTS - 1, refusals: CUTS - 1 },
        &|place| Trial::Refused { place, how: Refusal::Cuts },
        &|place| substitute(place, false),
        &|place| substitute(place, true),
    ];
    // Per state: cut by the receiver, in silence, by nobody, by two kinds of answer; by the receiver behind progress.
    let expected = [
        ["alone 1 0.0", "none", "alone 1 0.0", "alone 1 0.1", "refused 1", "alone 2 0.0"],
        ["alone 1 1.0", "none", "alone 1 0.0", "alone 1 0.1", "refused 1", "alone 2 0.0"],
        ["refused 1", "none", "alone 1 2.2", "refused 1", "refused 1", "alone 2 0.0"],
        ["refused 1", "refused 1", "refused 1", "alone 1 0.1", "refused 1", "alone 2 0.0"],
        ["alone 1 0.0", "alone 1 0.0", "alone 1 0.0", "alone 1 0.0", "alone 1 0.0", "alone 2 0.0"],
        ["alone 1 0.0", "alone 1 0.0", "alone 1 0.0", "alone 1 0.0", "alone 1 0.0", "alone 2 0.0"],
    ];
    for (state, expected) in states.iter().zip(expected) {
        let found = [
            state(place).after_cut(CutBy::Receiver, first(place, true), false, true),
            state(place).after_cut(CutBy::Receiver, first(place, false), false, false),
            state(place).after_cut(CutBy::Other, first(place, true), false, true),
            state(place).after_cut(answered(false), first(place, true), false, true),
            state(place).after_cut(answered(true), first(place, true), false, true),
            state(place).after_cut(CutBy::Receiver, first(other, true), false, true),
        ];
        assert_eq!(found.each_ref().map(show), expected, "{:?}", state(place));
        assert_eq!(show(&state(place).after_cut(CutBy::Receiver, None, false, true)), "none");
    }
    // A short message has to be found first.
    let short = Place { slot: 3, at: 0, len: UNSUSPECTED_BYTES };
    for (is_found, expected) in [(false, "none"), (true, "alone 3 0.0")] {
        let trial = Trial::None.after_cut(CutBy::Receiver, first(short, true), is_found, true);
        assert_eq!(show(&trial), expected);
    }
}
