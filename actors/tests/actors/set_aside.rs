//! C4: a receiver that ends every connection on which it is sent a long message.

use std::collections::BTreeSet;
use std::time::Duration;

use sls_syslog_actors::messages::{CloseConnection, Outcome, RefusedLog};
use sls_syslog_actors::model::ids::Sequence;
use sls_syslog_actors::testing::receiver::{Behaviour, Ending};
use sls_syslog_actors::testing::runtime::run;
use sls_syslog_actors::ticket::{FailReason, FailedFrom};
use tokio::time::{Instant, sleep};

use crate::connection::{PROBATION, Rig, TIMEOUT};
use crate::tools::*;

const TOO_LONG: usize = 100_000;

/// As syslog-ng with its 64 KiB.
fn strict() -> Behaviour {
    Behaviour { longest: Some(64 << 10), ..Behaviour::healthy() }
}

fn strict_rig() -> Rig {
    let rig = Rig::new();
    rig.receiver.behave(strict());
    rig
}

/// Batch and place of the messages that were read, without repetitions and gap records.
fn first_deliveries(rig: &Rig) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let messages = rig.receiver.messages().into_iter().map(|message| String::from_utf8(message).expect("text"));
    let places = messages.filter(|text| !text.contains(" gap ")).map(|text| {
        let words: Vec<_> = text.split(' ').collect();
        format!("{}.{}", words[2], words[4])
    });
    places.filter(|place| seen.insert(place.clone())).collect()
}

async fn delivered_except(rig: &mut Rig, sequence: u64) -> Vec<RefusedLog> {
    let settled = rig.settled.next().await;
    assert_eq!(settled.sequence, Sequence(sequence), "{settled:?}");
    match settled.outcome {
        Outcome::Delivered { refused, .. } => refused,
        Outcome::Failed(why) => panic!("failed: {why:?}"),
    }
}

#[test]
fn c4_a_message_that_ends_every_connection_is_named_by_a_gap_record_and_all_behind_it_arrives() {
    run(async {
        let mut rig = strict_rig();
        rig.send_pieces(&[&[200, 200], &[200, TOO_LONG, 200], &[200]]);
        rig.send_pieces(&[&[200]]);
        let began = Instant::now();
        let refused = delivered_except(&mut rig, 0).await;
        assert!(began.elapsed() < Duration::from_secs(60), "took {:?}", began.elapsed());
        let reason = "log 3 of the batch is set aside: the receiver ended the connection 3 times when it was sent this \
                      message of 100024 bytes alone";
        assert_eq!(refused, [RefusedLog { log: 3, reason: reason.to_owned() }]);
        assert_eq!(delivered_except(&mut rig, 1).await, []);
        let messages: Vec<_> =
            rig.receiver.messages().into_iter().map(|m| String::from_utf8(m).expect("text")).collect();
        let gaps: Vec<_> = messages.iter().filter(|text| text.contains(" gap ")).collect();
        assert_eq!(gaps.len(), 1, "{gaps:?}");
        let payload = format!("||project=project||logstore=logstore||shard={SHARD}||from=c0||to=c0||reason={reason}");
        assert!(gaps[0].starts_with("<11>1 ") && gaps[0].ends_with(&payload), "{}", gaps[0]);
        assert_eq!(first_deliveries(&rig), ["0.0", "0.1", "0.2", "0.4", "0.5", "1.0"]);
        let counters = rig.counters.snapshot();
        assert_eq!((counters.messages_refused, counters.gaps), (1, 1));
        rig.close().await;
    });
}

#[test]
fn c4_several_such_messages_each_have_their_gap_record_in_their_place() {
    run(async {
        let mut rig = strict_rig();
        rig.send_pieces(&[&[TOO_LONG, 200, TOO_LONG], &[TOO_LONG]]);
        rig.send_pieces(&[&[200, TOO_LONG]]);
        let logs = |refused: Vec<RefusedLog>| refused.into_iter().map(|log| log.log).collect::<Vec<_>>();
        assert_eq!(logs(delivered_except(&mut rig, 0).await), [0, 2, 3]);
        assert_eq!(logs(delivered_except(&mut rig, 1).await), [1]);
        assert_eq!(rig.counters.snapshot().messages_refused, 4);
        rig.close().await;
    });
}

/// The receiver reads the long message, or the one of 3 KB that is too long for another, before anything that came with
/// it in one go counts as confirmed, and the first of these is beyond suspicion.
#[test]
fn c4_a_message_behind_short_ones_in_one_go_is_named_and_all_else_arrives() {
    let mut short = vec![300; 60];
    short[40] = 3_000;
    for (longest, sizes, place) in [
        (16 << 10, &[200, 200, 20_000, 200, 200][..], 2),
        (16 << 10, &[200, 9_000, 200, 12_000, 20_000, 200, 200], 4),
        (2 << 10, &short, 40),
    ] {
        for confirm_after_connect in [PROBATION, Duration::ZERO] {
            run(async {
                let mut rig = Rig::confirming_after(confirm_after_connect);
                let reads = Some((64 << 10, Duration::from_millis(1)));
                rig.receiver.behave(Behaviour { longest: Some(longest), reads, ..Behaviour::healthy() });
                rig.send_pieces(&[sizes]);
                rig.send_pieces(&[&[200]]);
                let began = Instant::now();
                let refused = delivered_except(&mut rig, 0).await;
                assert_eq!(refused.iter().map(|log| log.log).collect::<Vec<_>>(), [place]);
                assert!(began.elapsed() < Duration::from_secs(90), "took {:?}", began.elapsed());
                assert_eq!(delivered_except(&mut rig, 1).await, []);
                let expected = (0..sizes.len() as u64).filter(|n| *n != place).map(|n| format!("0.{n}"));
                let expected: Vec<_> = expected.chain(["1.0".to_owned()]).collect();
                assert_eq!(first_deliveries(&rig), expected);
                rig.close().await;
            });
        }
    }
}

/// It ends each connection when it has been open for some time, whatever it carries.
#[test]
fn c4_a_receiver_that_ends_each_connection_at_some_age_has_nothing_set_aside() {
    run(async {
        let mut rig = Rig::new();
        rig.receiver.behave(Behaviour { acknowledges_after: seconds(10), ..Behaviour::healthy() });
        rig.send_pieces(&[&[50_000, 200, 3_000]]);
        for age in [1_100, 1_500, 2_000, 4_000].map(Duration::from_millis) {
            for _ in 0..20 {
                let opened = rig.receiver.connections_opened();
                while rig.receiver.connections_opened() == opened {
                    sleep(Duration::from_millis(10)).await;
                }
                sleep(age).await;
                rig.receiver.end_connections(Ending::Reset);
            }
        }
        assert_eq!(rig.counters.snapshot().messages_refused, 0);
        rig.receiver.behave(Behaviour::healthy());
        assert_eq!(delivered_except(&mut rig, 0).await, []);
        rig.close().await;
    });
}

/// It is down again and again, but has nothing against the message.
#[test]
fn c4_a_long_message_that_others_cuts_hit_is_delivered() {
    run(async {
        let mut rig = Rig::new();
        rig.receiver.behave(Behaviour { refuses_after: Some(PROBATION / 2), ..Behaviour::healthy() });
        rig.send_pieces(&[&[200, 50_000, 200]]);
        rig.settled.nothing_for(seconds(200)).await;
        // Connections stand open now, and end while the message is under way.
        rig.receiver.behave(Behaviour { reads: None, buffer: 1_000, ..Behaviour::healthy() });
        for _ in 0..2 {
            let opened = rig.receiver.connections_opened();
            while rig.receiver.connections_opened() == opened {
                sleep(Duration::from_millis(100)).await;
            }
            sleep(2 * PROBATION).await;
            rig.receiver.end_connections(Ending::Reset);
        }
        rig.receiver.behave(Behaviour::healthy());
        assert_eq!(delivered_except(&mut rig, 0).await, []);
        assert_eq!(rig.counters.snapshot().messages_refused, 0);
        rig.close().await;
    });
}

/// A receiver that hangs takes nothing; that is no reason to give any message up.
#[test]
fn c4_time_outs_are_not_held_against_a_message() {
    run(async {
        let mut rig = Rig::new();
        rig.receiver.behave(Behaviour { reads: None, buffer: 10_000, ..Behaviour::healthy() });
        rig.send_pieces(&[&[50_000, 200]]);
        rig.settled.nothing_for(10 * TIMEOUT).await;
        assert!(rig.counters.snapshot().connections_cut > 4);
        rig.receiver.behave(Behaviour::healthy());
        assert_eq!(delivered_except(&mut rig, 0).await, []);
        rig.close().await;
    });
}

/// O1: the batch fails while its message is on trial; what was set aside of it is not told of the next attempt.
#[test]
fn o1_a_batch_that_is_superseded_while_a_message_is_on_trial_makes_way() {
    run(async {
        let mut rig = strict_rig();
        rig.send_pieces(&[&[TOO_LONG, 200], &[200, TOO_LONG], &[200]]);
        while rig.counters.snapshot().messages_refused == 0 {
            sleep(Duration::from_millis(100)).await;
        }
        sleep(3 * PROBATION).await;
        rig.failed_from.lower_to(Sequence(0));
        assert_eq!(rig.failed().await, (Sequence(0), FailReason::Superseded));
        (rig.failed_from, rig.next) = (FailedFrom::none(), 0);
        rig.send_pieces(&[&[200]]);
        assert_eq!(delivered_except(&mut rig, 0).await, []);
        rig.close().await;
    });
}

#[test]
fn a_close_does_not_wait_for_the_end_of_a_trial_beyond_its_deadline() {
    run(async {
        let mut rig = strict_rig();
        rig.send_pieces(&[&[TOO_LONG]]);
        let deadline = Instant::now() + seconds(3);
        rig.connection.do_send(CloseConnection { deadline });
        assert_eq!(rig.failed().await, (Sequence(0), FailReason::Dropped));
        assert_eq!(Instant::now(), deadline);
        assert!(!rig.guard.next().await.panicked);
    });
}

#[test]
fn a_close_waits_for_the_end_of_a_trial_within_its_deadline() {
    run(async {
        let mut rig = strict_rig();
        rig.send_pieces(&[&[200, TOO_LONG, 200]]);
        rig.connection.do_send(CloseConnection { deadline: Instant::now() + seconds(60) });
        assert_eq!(delivered_except(&mut rig, 0).await.len(), 1);
        assert!(!rig.guard.next().await.panicked);
    });
}
