use super::*;

fn cursor(n: u64) -> Cursor {
    Cursor::new(&format!("c{n}")).expect("printable")
}

fn resume(at: u64, instead: bool) -> Resume {
    Resume { cursor: cursor(at), instead }
}

fn machine() -> ShardMachine {
    ShardMachine::new(PullPace::new(Duration::from_secs(1), 1000, Instant::now()), 64 << 20, None)
}

fn reading(at: u64, now: Instant) -> ShardMachine {
    let mut shard = machine();
    assert_eq!(shard.next(now), Next::Start(Job::Checkpoint));
    shard.checkpoint(Some(cursor(at)));
    assert!(matches!(shard.next(now), Next::Start(Job::Pull { .. })));
    shard
}

fn answer(next: u64, log_groups: u32) -> Answer {
    Answer {
        next: Some(cursor(next)),
        log_groups,
        raw_bytes: u64::from(log_groups) * 1000,
        memory: log_groups as usize * 1200,
        end_of_shard: Some(log_groups == 0),
        received_s: None,
    }
}

fn deliver(shard: &mut ShardMachine, now: Instant, next: u64) -> (Generation, Sequence) {
    match shard.answered(now, now, &answer(next, 1000), true, 0.0) {
        Verdict::Deliver(generation, sequence) => (generation, sequence),
        other => panic!("not delivered: {other:?}"),
    }
}

#[test]
fn without_a_checkpoint_reading_begins_at_the_oldest_log() {
    let (now, mut shard) = (Instant::now(), machine());
    assert_eq!(shard.next(now), Next::Start(Job::Checkpoint));
    assert_eq!(shard.next(now), Next::Wait(None), "one job at a time");
    shard.checkpoint(None);
    assert_eq!(shard.next(now), Next::Start(Job::OldestCursor));
    assert_eq!(shard.oldest_cursor(now, cursor(5), 0.0), Verdict::Drop);
    assert!(matches!(shard.next(now), Next::Start(Job::Pull { cursor: c, count: 1000, .. }) if c == cursor(5)));
}

#[test]
fn a_group_made_anew_goes_on_from_our_own_position() {
    let now = Instant::now();
    let mut shard =
        ShardMachine::new(PullPace::new(Duration::from_secs(1), 10, Instant::now()), 1 << 20, Some(resume(9, false)));
    shard.next(now);
    shard.checkpoint(None);
    assert!(matches!(shard.next(now), Next::Start(Job::Pull { cursor: c, .. }) if c == cursor(9)));
    // Else a shard without new logs would stay without checkpoint, and the next process would begin at its oldest.
    let ready = shard.take_ready().expect("the new group has to learn it");
    assert_eq!((ready.position.cursor, ready.even_if_unchanged), (cursor(9), true));
}

/// A process that came after the deletion took the group for a new one, whose start is the end of what is there.
#[test]
fn l6_somebody_elses_start_position_takes_nothing_from_us() {
    let now = Instant::now();
    for (instead, at) in [(false, 100), (true, 50)] {
        let pace = PullPace::new(Duration::from_secs(1), 10, Instant::now());
        let mut shard = ShardMachine::new(pace, 1 << 20, Some(resume(50, instead)));
        shard.next(now);
        shard.checkpoint(Some(cursor(100)));
        assert!(matches!(shard.next(now), Next::Start(Job::Pull { cursor: c, .. }) if c == cursor(at)));
        assert_eq!(shard.take_ready().map(|ready| ready.position.cursor), instead.then(|| cursor(50)));
    }
}

#[test]
fn i1_positions_follow_the_settled_prefix() {
    let now = Instant::now();
    let mut shard = reading(0, now);
    let a = deliver(&mut shard, now, 1);
    assert!(matches!(shard.next(now), Next::Start(Job::Pull { .. })), "full answers are pulled back to back");
    let b = deliver(&mut shard, now, 2);
    shard.settled(now, b.0, b.1, true, 0.0);
    assert_eq!(shard.take_ready(), None);
    shard.settled(now, a.0, a.1, true, 0.0);
    assert_eq!(shard.take_ready().expect("both settled").position.cursor, cursor(2));
}

#[test]
fn o1_a_failed_batch_stops_pulling_until_all_tickets_are_home_then_rewinds() {
    let now = Instant::now();
    let mut shard = reading(0, now);
    let a = deliver(&mut shard, now, 1);
    shard.next(now);
    let b = deliver(&mut shard, now, 2);
    assert!(matches!(shard.next(now), Next::Start(_)));
    shard.settled(now, a.0, a.1, false, 0.0);
    assert_eq!(shard.next(now), Next::Wait(None), "a pull is under way");
    assert_eq!(shard.answered(now, now, &answer(3, 1000), true, 0.0), Verdict::Drop, "of the old generation");
    assert_eq!(shard.next(now), Next::Wait(None), "a ticket is out");
    shard.settled(now, b.0, b.1, true, 0.0);
    let Next::Wait(Some(until)) = shard.next(now) else { panic!("rests after a failure") };
    assert!(matches!(shard.next(until), Next::Start(Job::Pull { cursor: c, .. }) if c == cursor(0)));
    let again = deliver(&mut shard, until, 1);
    assert_eq!((again.0, again.1 > b.1), (Generation(1), true));
}

#[test]
fn o3_log_groups_without_a_new_cursor_are_an_error_not_a_loop() {
    let now = Instant::now();
    let mut shard = reading(0, now);
    assert!(matches!(shard.answered(now, now, &answer(0, 5), true, 0.0), Verdict::Odd(_)));
    assert!(matches!(shard.next(now), Next::Wait(Some(_))));
}

#[test]
fn o3_an_empty_answer_with_a_moved_cursor_counts_in_its_turn() {
    let now = Instant::now();
    let mut shard = reading(0, now);
    let a = deliver(&mut shard, now, 1);
    shard.next(now);
    assert_eq!(shard.answered(now, now, &answer(7, 0), false, 0.0), Verdict::Drop);
    assert_eq!(shard.take_ready(), None);
    shard.settled(now, a.0, a.1, true, 0.0);
    assert_eq!(shard.take_ready().expect("all settled").position.cursor, cursor(7));
}

#[test]
fn l5_the_end_of_a_read_only_shard_is_committed_once_and_again_after_ten_minutes() {
    let start = Instant::now();
    let mut shard = reading(4, start);
    let empty = answer(4, 0);
    // Nothing is known of the shard's state: an empty answer commits nothing.
    shard.answered(start, start, &empty, false, 0.0);
    assert_eq!(shard.take_ready(), None);
    let listed = start + Duration::from_secs(5);
    shard.note_readonly(listed);
    let mut pull = |sent: Instant| {
        assert!(matches!(shard.next(sent), Next::Start(Job::Pull { .. })));
        shard.answered(sent, sent, &empty, false, 0.0);
        shard.take_ready()
    };
    assert_eq!(pull(start + Duration::from_secs(4)), None, "sent before the listing");
    let ready = pull(listed + Duration::from_secs(1)).expect("at its end");
    assert_eq!((ready.position.cursor, ready.even_if_unchanged), (cursor(4), true));
    assert_eq!(pull(listed + Duration::from_secs(9)), None);
    assert!(pull(listed + Duration::from_secs(602)).is_some());
}

#[test]
fn l7_an_expired_cursor_goes_on_at_the_oldest_log_behind_a_gap_record() {
    let now = Instant::now();
    let mut shard = reading(1, now);
    shard.cursor_invalid(now, 0.0);
    assert_eq!(shard.next(now), Next::Start(Job::OldestCursor));
    let Verdict::Gap(generation, sequence, gap) = shard.oldest_cursor(now, cursor(8), 0.0) else { panic!("no gap") };
    assert_eq!((gap.from, gap.to), (cursor(1), cursor(8)));
    assert_eq!(shard.take_ready(), None, "not before the gap record is confirmed");
    shard.settled(now, generation, sequence, true, 0.0);
    assert_eq!(shard.take_ready().expect("confirmed").position.cursor, cursor(8));
}

#[test]
fn l7_a_shard_that_is_gone_ends_when_its_gap_record_is_confirmed() {
    let now = Instant::now();
    let mut shard = reading(1, now);
    let Verdict::Gap(generation, sequence, _) = shard.shard_gone() else { panic!("no gap") };
    assert_eq!(shard.next(now), Next::Wait(None));
    shard.settled(now, generation, sequence, true, 0.0);
    assert_eq!(shard.next(now), Next::End(End::Gone));
}

#[test]
fn a_drain_ends_with_the_last_ticket_or_at_the_deadline() {
    let now = Instant::now();
    let deadline = now + Duration::from_secs(25);
    let mut shard = reading(0, now);
    let a = deliver(&mut shard, now, 1);
    shard.drain(deadline);
    assert_eq!(shard.next(now), Next::Wait(Some(deadline)));
    assert_eq!(shard.next(deadline), Next::End(End::Stopped));
    shard.settled(now, a.0, a.1, true, 0.0);
    assert_eq!(shard.next(now), Next::End(End::Stopped));
    assert!(shard.take_ready().is_some(), "a requested stop commits");
}

#[test]
fn lost_is_stronger_than_requested_and_commits_nothing() {
    let now = Instant::now();
    let mut shard = reading(0, now);
    let a = deliver(&mut shard, now, 1);
    shard.abandon();
    shard.drain(now + Duration::from_secs(25));
    shard.settled(now, a.0, a.1, true, 0.0);
    assert_eq!(shard.take_ready(), None);
    assert_eq!(shard.next(now), Next::End(End::Stopped));
}

#[test]
fn m2_an_answer_without_room_is_asked_for_again_as_it_was_or_in_halves() {
    let now = Instant::now();
    let mut shard = reading(0, now);
    let mut large = answer(1, 40);
    large.memory = 30 << 20;
    assert_eq!(shard.answered(now, now, &large, false, 0.0), Verdict::Drop);
    let Next::Start(Job::Pull { count, reserve, .. }) = shard.next(now) else { panic!("pulls again") };
    assert!(count == 40 && reserve > 30 << 20, "{count} log groups, {reserve} bytes: the next may be a little larger");
    large.memory = 100 << 20;
    shard.answered(now, now, &large, false, 0.0);
    assert!(matches!(shard.next(now), Next::Start(Job::Pull { count: 20, .. })));
}

#[test]
fn m2_one_log_group_beyond_the_largest_size_is_a_gap() {
    let now = Instant::now();
    let mut shard = reading(0, now);
    let mut huge = answer(1, 1);
    huge.raw_bytes = MAX_RAW_BYTES + 1;
    assert!(matches!(shard.answered(now, now, &huge, false, 0.0), Verdict::Gap(..)));
    assert!(matches!(shard.next(now), Next::Start(Job::Pull { cursor: c, .. }) if c == cursor(1)));
}

#[test]
fn l7_a_refused_oldest_cursor_is_an_error_and_no_flood_of_gaps() {
    let now = Instant::now();
    let mut shard = reading(1, now);
    shard.cursor_invalid(now, 0.0);
    assert_eq!(shard.next(now), Next::Start(Job::OldestCursor));
    assert!(matches!(shard.oldest_cursor(now, cursor(8), 0.0), Verdict::Gap(..)));
    assert!(matches!(shard.next(now), Next::Start(Job::Pull { .. })));
    shard.cursor_invalid(now, 0.0);
    assert_eq!(shard.next(now), Next::Start(Job::OldestCursor));
    assert!(matches!(shard.oldest_cursor(now, cursor(8), 0.0), Verdict::Odd(_)));
    assert!(matches!(shard.next(now), Next::Wait(Some(until)) if until > now));
}

#[test]
fn o2_a_log_group_that_fails_by_itself_is_given_up_and_the_good_ones_get_through() {
    let mut now = Instant::now();
    let mut shard = reading(0, now);
    // Log groups 0 to 2, of which the one at 1 is bad; SLS answers as many as asked for.
    let (mut at, mut asked, mut delivered, mut gaps) = (0, 3, Vec::new(), Vec::new());
    for _ in 0..100 {
        let groups = u64::from(asked).min(3 - at);
        let Verdict::Deliver(generation, sequence) =
            shard.answered(now, now, &answer(at + groups, groups as u32), true, 0.0)
        else {
            panic!("not delivered")
        };
        let bad = (at..at + groups).contains(&1);
        if bad {
            shard.body_bad(now, generation, sequence, BadBody { log_groups: groups as u32, digest: at * 10 + groups });
        } else {
            delivered.extend(at..at + groups);
        }
        shard.settled(now, generation, sequence, !bad, 0.0);
        loop {
            match shard.next(now) {
                Next::Wait(Some(until)) => now = until,
                Next::Skip(generation, sequence, gap) => {
                    gaps.push((gap.from, gap.to));
                    shard.settled(now, generation, sequence, true, 0.0);
                }
                Next::Start(Job::Pull { cursor: from, count, .. }) => {
                    (at, asked) = ((0..).find(|n| cursor(*n) == from).expect("a known cursor"), count);
                    break;
                }
                other => panic!("{other:?}"),
            }
        }
        if at == 3 {
            break;
        }
    }
    assert_eq!((delivered, gaps), (vec![0, 2], vec![(cursor(1), cursor(2))]));
    assert_eq!(shard.take_ready().expect("all settled").position.cursor, cursor(3));
}

#[test]
fn i9_a_shard_that_expires_while_it_is_drained_unread_leaves_a_gap_record() {
    let now = Instant::now();
    let mut shard = reading(1, now);
    let a = deliver(&mut shard, now, 2);
    shard.drain(now + Duration::from_secs(20));
    let Verdict::Gap(generation, sequence, gap) = shard.shard_gone() else { panic!("no gap") };
    assert_eq!(gap.from, cursor(2), "what was pulled is still sent");
    shard.settled(now, a.0, a.1, true, 0.0);
    assert_eq!(shard.next(now), Next::Wait(None), "until the gap record is confirmed");
    shard.settled(now, generation, sequence, true, 0.0);
    assert_eq!(shard.next(now), Next::End(End::Gone));
}

/// The receiver was down for longer than a transfer may take. What had been read failed at the deadline, and with it the
/// gap record.
#[test]
fn i9_a_shard_that_expired_ends_with_its_gap_record_however_long_that_takes() {
    let now = Instant::now();
    let mut shard = reading(1, now);
    let a = deliver(&mut shard, now, 2);
    let Verdict::Gap(generation, sequence, _) = shard.shard_gone() else { panic!("no gap") };
    // Answers to heartbeats omit it, as they omit a shard in transfer.
    shard.drain(now + Duration::from_secs(20));
    let mut now = now + Duration::from_secs(3600);
    assert_eq!(shard.next(now), Next::Wait(None), "nobody waits for it");
    shard.settled(now, a.0, a.1, false, 0.0);
    assert_eq!(shard.next(now), Next::Wait(None), "a ticket is out");
    shard.settled(now, generation, sequence, false, 0.0);
    for _ in 0..3 {
        let Next::Wait(Some(until)) = shard.next(now) else { panic!("rests after a failure") };
        let Next::Skip(generation, sequence, gap) = shard.next(until) else { panic!("no gap") };
        assert_eq!((&gap.from, &gap.to), (&cursor(1), &cursor(1)), "what was pulled cannot be pulled again");
        assert_eq!(shard.next(until), Next::Wait(None));
        shard.settled(until, generation, sequence, false, 0.0);
        now = until;
    }
    let Next::Wait(Some(until)) = shard.next(now) else { panic!("rests after a failure") };
    let Next::Skip(generation, sequence, _) = shard.next(until) else { panic!("no gap") };
    shard.settled(until, generation, sequence, true, 0.0);
    assert_eq!(shard.next(until), Next::End(End::Gone));
}

/// It expires while a batch that has failed waits to be pulled again.
#[test]
fn i9_a_gap_begins_where_the_failed_batch_did() {
    let now = Instant::now();
    let mut shard = reading(1, now);
    let a = deliver(&mut shard, now, 2);
    shard.next(now);
    let b = deliver(&mut shard, now, 3);
    shard.settled(now, a.0, a.1, false, 0.0);
    assert_eq!(shard.shard_gone(), Verdict::Drop, "a ticket is out");
    shard.settled(now, b.0, b.1, true, 0.0);
    let Next::Wait(Some(until)) = shard.next(now) else { panic!("rests after a failure") };
    assert!(matches!(shard.next(until), Next::Skip(_, _, gap) if gap.from == cursor(1)));
}

fn set_aside_job(next: Next) -> Sequence {
    match next {
        Next::Start(Job::SetAside { sequence, .. }) => sequence,
        other => panic!("nothing is set aside: {other:?}"),
    }
}

#[test]
fn a_batch_with_refused_logs_is_set_aside_before_anything_more_is_pulled() {
    let now = Instant::now();
    let mut shard = reading(0, now);
    let a = deliver(&mut shard, now, 1);
    shard.next(now);
    assert!(shard.refused(now, a.0, a.1, 0.0));
    assert_eq!(shard.next(now), Next::Wait(None), "a pull is under way");
    let b = deliver(&mut shard, now, 2);
    let (sequence, reserve) = (a.1, 1000 * 1200 / 8 * 9);
    let job = Job::SetAside { sequence, from: cursor(0), log_groups: 1000, reserve };
    assert_eq!(shard.next(now), Next::Start(job));
    assert_eq!(shard.next(now), Next::Wait(None), "one job at a time");
    shard.settled(now, b.0, b.1, true, 0.0);
    assert_eq!(shard.take_ready(), None, "I1: what is not in the dead letter is not settled");
    shard.set_aside(now, sequence, true, 0.0);
    assert_eq!(shard.take_ready().expect("all settled").position.cursor, cursor(2));
    assert!(matches!(shard.next(now), Next::Start(Job::Pull { cursor: c, .. }) if c == cursor(2)));
}

#[test]
fn a_dead_letter_that_does_not_take_it_holds_the_checkpoint_and_is_asked_for_ever() {
    let start = Instant::now();
    let mut shard = reading(0, start);
    let a = deliver(&mut shard, start, 1);
    shard.refused(start, a.0, a.1, 0.0);
    let mut now = start;
    for _ in 0..100 {
        let sequence = set_aside_job(shard.next(now));
        shard.not_set_aside(now, 0.0);
        assert_eq!((sequence, shard.take_ready()), (a.1, None));
        let Next::Wait(Some(until)) = shard.next(now) else { panic!("no pause") };
        assert!(until > now && until <= now + Duration::from_secs(60));
        now = until;
    }
    assert!(now > start + Duration::from_secs(3600));
    let sequence = set_aside_job(shard.next(now));
    shard.set_aside(now, sequence, true, 0.0);
    assert_eq!(shard.take_ready().expect("settled").position.cursor, cursor(1));
}

#[test]
fn o1_what_lies_behind_a_failed_batch_is_pulled_again_and_not_set_aside() {
    let now = Instant::now();
    let mut shard = reading(0, now);
    let a = deliver(&mut shard, now, 1);
    shard.next(now);
    let b = deliver(&mut shard, now, 2);
    assert!(shard.refused(now, b.0, b.1, 0.0));
    assert_eq!(set_aside_job(shard.next(now)), b.1);
    shard.settled(now, a.0, a.1, false, 0.0);
    assert_eq!(shard.next(now), Next::Wait(None), "the job is under way");
    shard.set_aside(now, b.1, true, 0.0);
    let Next::Wait(Some(until)) = shard.next(now) else { panic!("rests after a failure") };
    assert!(matches!(shard.next(until), Next::Start(Job::Pull { cursor: c, .. }) if c == cursor(0)));
    assert_eq!(shard.take_ready(), None);
    assert!(!shard.refused(until, b.0, b.1, 0.0), "of an attempt that does not count any more");
}

#[test]
fn o1_what_lies_before_a_failed_batch_is_set_aside_before_the_rewind() {
    let now = Instant::now();
    let mut shard = reading(0, now);
    let a = deliver(&mut shard, now, 1);
    shard.next(now);
    let b = deliver(&mut shard, now, 2);
    shard.refused(now, a.0, a.1, 0.0);
    shard.settled(now, b.0, b.1, false, 0.0);
    let sequence = set_aside_job(shard.next(now));
    shard.set_aside(now, sequence, true, 0.0);
    assert_eq!(shard.take_ready().expect("settled").position.cursor, cursor(1));
    let Next::Wait(Some(until)) = shard.next(now) else { panic!("rests after a failure") };
    assert!(matches!(shard.next(until), Next::Start(Job::Pull { cursor: c, .. }) if c == cursor(1)));
}

#[test]
fn a_batch_that_is_not_what_it_was_is_pulled_again() {
    let now = Instant::now();
    let mut shard = reading(0, now);
    let a = deliver(&mut shard, now, 1);
    shard.refused(now, a.0, a.1, 0.0);
    let sequence = set_aside_job(shard.next(now));
    shard.set_aside(now, sequence, false, 0.0);
    let Next::Wait(Some(until)) = shard.next(now) else { panic!("rests after a failure") };
    assert!(matches!(shard.next(until), Next::Start(Job::Pull { cursor: c, .. }) if c == cursor(0)));
}

#[test]
fn a_refused_gap_record_has_no_logs_to_set_aside() {
    let now = Instant::now();
    let mut shard = reading(1, now);
    shard.cursor_invalid(now, 0.0);
    shard.next(now);
    let Verdict::Gap(generation, sequence, _) = shard.oldest_cursor(now, cursor(8), 0.0) else { panic!("no gap") };
    assert!(!shard.refused(now, generation, sequence, 0.0));
    assert_eq!(shard.take_ready().expect("settled").position.cursor, cursor(8));
}

#[test]
fn a_drain_goes_on_setting_aside_until_its_deadline() {
    let now = Instant::now();
    let deadline = now + Duration::from_secs(25);
    let mut shard = reading(0, now);
    let a = deliver(&mut shard, now, 1);
    shard.next(now);
    shard.refused(now, a.0, a.1, 0.0);
    shard.drain(deadline);
    assert!(!shard.has_job(), "the pull is dropped");
    let sequence = set_aside_job(shard.next(now));
    assert_eq!(shard.next(now), Next::Wait(Some(deadline)));
    shard.drain(deadline);
    assert!(shard.has_job(), "this job is not dropped");
    shard.not_set_aside(now, 0.0);
    let Next::Wait(Some(until)) = shard.next(now) else { panic!("no pause") };
    assert!(until < deadline);
    assert_eq!(set_aside_job(shard.next(until)), sequence);
    assert!(matches!(shard.next(deadline), Next::End(_)), "L1: with nothing committed");
    assert_eq!((shard.take_ready(), shard.first_unsettled()), (None, sequence));
}

#[test]
fn a_shard_that_expired_goes_on_setting_aside_without_a_deadline() {
    let now = Instant::now();
    let mut shard = reading(0, now);
    let a = deliver(&mut shard, now, 1);
    shard.refused(now, a.0, a.1, 0.0);
    let sequence = set_aside_job(shard.next(now));
    let Verdict::Gap(..) = shard.shard_gone() else { panic!("no gap") };
    assert!(shard.has_job(), "this job is not dropped");
    shard.drain(now + Duration::from_secs(25));
    shard.not_set_aside(now, 0.0);
    assert_eq!(set_aside_job(shard.next(now + Duration::from_secs(3600))), sequence);
}

#[test]
fn a_lost_shard_sets_nothing_aside_any_more() {
    let now = Instant::now();
    let mut shard = reading(0, now);
    let a = deliver(&mut shard, now, 1);
    shard.refused(now, a.0, a.1, 0.0);
    set_aside_job(shard.next(now));
    shard.abandon();
    assert!(!shard.has_job());
    assert_eq!(shard.next(now), Next::End(End::Stopped));
    shard.set_aside(now, a.1, true, 0.0);
    assert_eq!(shard.take_ready(), None);
}
