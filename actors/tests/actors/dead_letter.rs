//! The ShardFetcher and the logs that the receiver does not take: into the dead letter, or nothing is committed.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use sls_syslog_actors::event::{Code, ForwarderEvent};
use sls_syslog_actors::loghub::{Limits, Route};
use sls_syslog_actors::messages::*;
use sls_syslog_actors::model::cursor::Cursor;
use sls_syslog_actors::model::ids::ShardId;
use sls_syslog_actors::ports::{LogHub, PullReply};
use sls_syslog_actors::testing::dead_letter::{InMemoryDeadLetter, KeepFault};
use sls_syslog_actors::testing::hub::{BodyFault, Fault, InMemoryHub, Operation};
use sls_syslog_actors::testing::layers::{Answer, HubLayer, Layered};
use sls_syslog_actors::testing::runtime::run;
use sls_syslog_actors::ticket::{FailReason, Ticket};
use sls_syslog_actors::wire::dead_letter::Text;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::fetcher::{Layer, Rig, Setup};
use crate::tools::*;

/// Three log groups of two logs each, numbered from 0; answers the cursors before each and after the last.
fn hub() -> (InMemoryHub, Vec<String>) {
    let hub = InMemoryHub::new(1);
    let mut cursors: Vec<String> = (0..3)
        .map(|n| {
            let put = hub.with(|hub, now| hub.put(InMemoryHub::AT, Route::Shard(SHARD), log_group(2 * n, 2), now));
            put.expect("the hub takes a log group").1
        })
        .collect();
    cursors.extend(put(&hub, 0));
    (hub, cursors)
}

fn rig(hub: &InMemoryHub, max_log_groups: u32) -> (Rig, InMemoryDeadLetter) {
    let dead_letter = InMemoryDeadLetter::default();
    let setup = Setup { max_log_groups, dead_letter: Some(dead_letter.clone()), ..Setup::default() };
    (Rig::new(hub, setup), dead_letter)
}

fn refuse(ticket: Ticket, logs: u64, refused: &[u64]) {
    let reason = |log: &u64| format!("log {log} is not taken");
    ticket.delivered_except(logs, refused.iter().map(|log| RefusedLog { log: *log, reason: reason(log) }).collect());
}

/// Place and number of each log that was kept.
fn kept(dead_letter: &InMemoryDeadLetter) -> Vec<(u64, String)> {
    let number = |text: &Text| match text {
        Text::Utf8(text) => text.clone(),
        Text::Other { .. } => panic!("not text"),
    };
    dead_letter.kept().iter().map(|kept| (kept.place, number(&kept.log.contents[0].1))).collect()
}

async fn set_aside_event(rig: &mut Rig) -> (Vec<u64>, bool) {
    loop {
        if let ForwarderEvent::SetAside { logs, kept, .. } = rig.events.next().await {
            return (logs, kept);
        }
    }
}

async fn trouble(rig: &mut Rig, wanted: Code) {
    loop {
        if matches!(rig.events.next().await, ForwarderEvent::Trouble { code, .. } if code == wanted) {
            return;
        }
    }
}

#[test]
fn refused_logs_are_in_the_dead_letter_before_their_batch_is_committed() {
    run(async {
        let (hub, cursors) = hub();
        let (mut rig, dead_letter) = rig(&hub, 3);
        refuse(rig.ticket().await, 6, &[1, 4]);
        let ready = rig.ready.next().await;
        assert_eq!(ready.cursor.as_str(), cursors[3]);
        assert_eq!(kept(&dead_letter), [(1, "1".to_owned()), (4, "4".to_owned())]);
        let first = &dead_letter.kept()[0];
        assert_eq!(
            (first.from.as_str(), first.reason.as_str(), first.shard),
            (&*cursors[0], "log 1 is not taken", SHARD)
        );
        assert_eq!(set_aside_event(&mut rig).await, (vec![1, 4], true));
        let counters = rig.counters.snapshot();
        assert_eq!((counters.logs_delivered, counters.logs_set_aside, counters.batches_failed), (4, 2, 0));
        rig.abandon().await;
    });
}

#[test]
fn a_dead_letter_that_takes_nothing_holds_the_checkpoint_and_reading_until_it_does() {
    run(async {
        for (fault, code) in
            [(KeepFault::Full, Code::DeadLetterFull), (KeepFault::Unwritable, Code::DeadLetterUnwritable)]
        {
            let (hub, cursors) = hub();
            let dead_letter = InMemoryDeadLetter::default();
            let setup = Setup { batches: 1, dead_letter: Some(dead_letter.clone()), ..Setup::default() };
            let mut rig = Rig::new(&hub, setup);
            dead_letter.fail_all(Some(fault));
            refuse(rig.ticket().await, 2, &[0]);
            // One more has been waiting for its turn.
            rig.ticket().await.delivered(2);
            trouble(&mut rig, code).await;
            rig.ready.nothing_for(seconds(3600)).await;
            assert!(rig.formatter.try_next().is_none(), "nothing more is read");
            assert!((60..200).contains(&dead_letter.attempts()), "{} attempts in an hour", dead_letter.attempts());
            assert_eq!(rig.counters.snapshot().logs_set_aside, 0);
            dead_letter.fail_all(None);
            assert_eq!(rig.ready.next().await.cursor.as_str(), cursors[2]);
            assert_eq!(kept(&dead_letter), [(0, "0".to_owned())]);
            rig.ticket().await.delivered(2);
            assert_eq!(rig.ready.next().await.cursor.as_str(), cursors[3]);
            loop {
                if rig.events.next().await == (ForwarderEvent::Recovered { code }) {
                    break;
                }
            }
            rig.abandon().await;
        }
    });
}

/// SLS answers with less than before: the batch is put together from several answers.
#[test]
fn a_batch_that_comes_back_in_parts_is_looked_through_to_its_end() {
    run(async {
        let (hub, cursors) = hub();
        let (mut rig, dead_letter) = rig(&hub, 3);
        let ticket = rig.ticket().await;
        hub.on_call(|_, operation| match operation {
            Operation::PullLogs { .. } => Fault::body(BodyFault::Fewer(1)),
            _ => Fault::default(),
        });
        refuse(ticket, 6, &[0, 3, 5]);
        assert_eq!(rig.ready.next().await.cursor.as_str(), cursors[3]);
        assert_eq!(kept(&dead_letter), [(0, "0".to_owned()), (3, "3".to_owned()), (5, "5".to_owned())]);
        rig.abandon().await;
    });
}

#[test]
fn m1_setting_aside_waits_for_the_memory_that_it_takes() {
    run(async {
        let (hub, _) = hub();
        let (mut rig, dead_letter) = rig(&hub, 3);
        let ticket = rig.ticket().await;
        let all = rig.budget.reserve(rig.budget.total()).await;
        refuse(ticket, 6, &[0]);
        rig.ready.nothing_for(seconds(100)).await;
        assert_eq!(dead_letter.attempts(), 0);
        drop(all);
        rig.ready.next().await;
        assert_eq!(dead_letter.kept().len(), 1);
        rig.abandon().await;
    });
}

#[test]
fn faults_while_setting_aside_lose_nothing() {
    run(async {
        let (hub, cursors) = hub();
        let (mut rig, dead_letter) = rig(&hub, 3);
        let ticket = rig.ticket().await;
        let pulls = Rc::new(RefCell::new(0));
        hub.on_call(move |_, operation| {
            let Operation::PullLogs { .. } = operation else { return Fault::default() };
            *pulls.borrow_mut() += 1;
            match *pulls.borrow() {
                1 => Fault::transport("for a test"),
                2 => Fault::refused(500, "InternalServerError", "for a test"),
                3 => Fault::body(BodyFault::CutAt(3)),
                4 => Fault::body(BodyFault::Corrupt),
                5 => Fault::body(BodyFault::NoCursor),
                6 => Fault::refused(403, "ReadQuotaExceed", "for a test"),
                _ => Fault::default(),
            }
        });
        dead_letter.fail_next(KeepFault::KeptButFailed);
        dead_letter.fail_next(KeepFault::Slow(seconds(100)));
        refuse(ticket, 6, &[2]);
        assert_eq!(rig.ready.next().await.cursor.as_str(), cursors[3]);
        let places = kept(&dead_letter);
        assert!(!places.is_empty() && places.iter().all(|kept| *kept == (2, "2".to_owned())), "{places:?}");
        assert_eq!(rig.counters.snapshot().logs_set_aside, 1, "counted once");
        rig.abandon().await;
    });
}

#[test]
fn logs_that_sls_has_forgotten_are_named_by_their_gap_records_alone() {
    run(async {
        let hub = InMemoryHub::with_limits(1, Limits { retention: Some(seconds(60)), ..Limits::default() });
        let old = put(&hub, 1);
        let (mut rig, dead_letter) = rig(&hub, 1);
        dead_letter.fail_all(Some(KeepFault::Full));
        refuse(rig.ticket().await, 1, &[0]);
        rig.ready.nothing_for(seconds(50)).await;
        assert_eq!(rig.ready.next().await.cursor.as_str(), old[1]);
        assert_eq!(set_aside_event(&mut rig).await, (vec![0], false));
        assert!(dead_letter.kept().is_empty());
        assert_eq!(rig.counters.snapshot().logs_set_aside, 1);
        rig.abandon().await;
    });
}

/// A body that the formatter could read and the dead letter cannot would hold its shard for ever.
#[test]
fn a_body_that_cannot_be_read_again_is_named_by_its_gap_records_alone() {
    run(async {
        let (hub, cursors) = hub();
        let (mut rig, dead_letter) = rig(&hub, 3);
        let ticket = rig.ticket().await;
        hub.on_call(|_, operation| match operation {
            Operation::PullLogs { .. } => Fault::body(BodyFault::Corrupt),
            _ => Fault::default(),
        });
        refuse(ticket, 6, &[1]);
        trouble(&mut rig, Code::BadBody).await;
        rig.ready.nothing_for(seconds(55)).await;
        assert_eq!(rig.ready.next().await.cursor.as_str(), cursors[3]);
        assert_eq!(set_aside_event(&mut rig).await, (vec![1], false));
        assert!(dead_letter.kept().is_empty());
        assert_eq!(rig.counters.snapshot().logs_set_aside, 1);
        rig.abandon().await;
    });
}

/// Waits with each answer to a pull until it is let through, and may make one of them empty.
struct Gate {
    below: Rc<dyn LogHub>,
    turns: Rc<Semaphore>,
    pulls: Cell<u32>,
    empty: u32,
}

impl HubLayer for Gate {
    fn below(&self) -> &Rc<dyn LogHub> {
        &self.below
    }

    fn pull_logs(&self, shard: ShardId, cursor: &Cursor, count: u32) -> Answer<PullReply> {
        let (request, turns) = (self.below.pull_logs(shard, cursor, count), Rc::clone(&self.turns));
        self.pulls.set(self.pulls.get() + 1);
        let is_empty = self.pulls.get() == self.empty;
        let empty = is_empty.then(|| Cursor::new(cursor.as_str().trim_end_matches('=')));
        Box::pin(async move {
            let mut reply = request.await?;
            turns.acquire().await.expect("never closed").forget();
            if let Some(next) = empty {
                // The same place by another name: SLS has moved the cursor, and the log groups lie behind it.
                (reply.head.count, reply.head.raw_size, reply.head.next_cursor) = (0, 0, next);
            }
            Ok(reply)
        })
    }
}

fn gated(hub: &InMemoryHub, empty: u32) -> (Rig, InMemoryDeadLetter, Rc<Semaphore>) {
    let (dead_letter, turns) = (InMemoryDeadLetter::default(), Rc::new(Semaphore::new(1)));
    let open = Rc::clone(&turns);
    let layer: Layer = Box::new(move |below| Rc::new(Layered(Gate { below, turns: open, pulls: Cell::new(0), empty })));
    let setup =
        Setup { max_log_groups: 1, layer: Some(layer), dead_letter: Some(dead_letter.clone()), ..Setup::default() };
    (Rig::new(hub, setup), dead_letter, turns)
}

/// O3: SLS may answer with nothing but a new cursor, also when it is asked for what it has given before.
#[test]
fn o3_an_empty_answer_with_a_moved_cursor_is_looked_behind() {
    run(async {
        let (hub, cursors) = hub();
        // The second one is under way when the first one's batch comes home.
        let (mut rig, dead_letter, turns) = gated(&hub, 3);
        refuse(rig.ticket().await, 2, &[1]);
        settle().await;
        turns.add_permits(100);
        assert_eq!(rig.ready.next().await.cursor.as_str(), cursors[1]);
        assert_eq!(kept(&dead_letter), [(1, "1".to_owned())]);
        rig.abandon().await;
    });
}

/// The answer to a pull comes in the moment in which the shard is to be drained and has something to set aside: a pull
/// that is dropped, and no reason to set aside twice.
#[test]
fn a_pull_that_ends_when_it_is_dropped_starts_nothing() {
    run(async {
        let (hub, cursors) = hub();
        let (mut rig, dead_letter, turns) = gated(&hub, 0);
        refuse(rig.ticket().await, 2, &[1]);
        settle().await;
        assert_eq!(dead_letter.attempts(), 0, "a pull is under way");
        dead_letter.fail_next(KeepFault::Slow(seconds(5)));
        rig.command(ShardCommand::Drain { deadline: Instant::now() + seconds(25) });
        turns.add_permits(1);
        settle().await;
        turns.add_permits(100);
        assert_eq!(rig.ended.next().await.how, ShardEnd::Stopped);
        assert_eq!(rig.ready.next().await.cursor.as_str(), cursors[1]);
        assert_eq!((dead_letter.attempts(), kept(&dead_letter)), (1, vec![(1, "1".to_owned())]));
        assert!(rig.formatter.try_next().is_none(), "what came too late is not sent");
    });
}

#[test]
fn without_a_dead_letter_the_batch_is_settled_at_once_and_said_so() {
    run(async {
        let (hub, cursors) = hub();
        let mut rig = Rig::new(&hub, Setup { max_log_groups: 3, ..Setup::default() });
        refuse(rig.ticket().await, 6, &[3]);
        assert_eq!(rig.ready.next().await.cursor.as_str(), cursors[3]);
        assert_eq!(set_aside_event(&mut rig).await, (vec![3], false));
        rig.abandon().await;
    });
}

#[test]
fn a_batch_behind_a_failed_one_is_pulled_again_and_not_committed() {
    run(async {
        let (hub, cursors) = hub();
        let (mut rig, dead_letter) = rig(&hub, 1);
        dead_letter.fail_all(Some(KeepFault::Full));
        let (a, b) = (rig.ticket().await, rig.ticket().await);
        let c = rig.ticket().await;
        refuse(b, 2, &[0]);
        c.delivered(2);
        rig.ready.nothing_for(seconds(10)).await;
        a.failed(FailReason::Dropped);
        dead_letter.fail_all(None);
        let (a, b) = (rig.ticket().await, rig.ticket().await);
        assert!(rig.ready.try_next().is_none());
        a.delivered(2);
        assert_eq!(rig.ready.next().await.cursor.as_str(), cursors[1]);
        b.delivered(2);
        assert_eq!(rig.ready.next().await.cursor.as_str(), cursors[2]);
        rig.abandon().await;
    });
}

#[test]
fn a_batch_of_other_logs_than_were_sent_is_pulled_again() {
    run(async {
        let (hub, cursors) = hub();
        let (mut rig, dead_letter) = rig(&hub, 3);
        refuse(rig.ticket().await, 7, &[6]);
        let again = rig.ticket().await;
        assert!(rig.ready.try_next().is_none() && dead_letter.kept().is_empty());
        again.delivered(6);
        assert_eq!(rig.ready.next().await.cursor.as_str(), cursors[3]);
        rig.abandon().await;
    });
}

#[test]
fn a_drain_goes_on_setting_aside_and_commits_what_it_has_kept() {
    run(async {
        let (hub, cursors) = hub();
        let (mut rig, dead_letter) = rig(&hub, 3);
        dead_letter.fail_all(Some(KeepFault::Unwritable));
        refuse(rig.ticket().await, 6, &[3]);
        trouble(&mut rig, Code::DeadLetterUnwritable).await;
        rig.command(ShardCommand::Drain { deadline: Instant::now() + seconds(25) });
        rig.ended.nothing_for(seconds(10)).await;
        dead_letter.fail_all(None);
        assert_eq!(rig.ended.next().await.how, ShardEnd::Stopped);
        assert_eq!(rig.ready.try_next().expect("came before the end").cursor.as_str(), cursors[3]);
        assert_eq!(dead_letter.kept().len(), 1);
    });
}

#[test]
fn a_drain_ends_at_its_deadline_without_commit_when_the_dead_letter_takes_nothing() {
    run(async {
        let (hub, _) = hub();
        let (mut rig, dead_letter) = rig(&hub, 3);
        dead_letter.fail_all(Some(KeepFault::Full));
        refuse(rig.ticket().await, 6, &[3]);
        let deadline = Instant::now() + seconds(25);
        rig.command(ShardCommand::Drain { deadline });
        rig.ended.next().await;
        assert_eq!(Instant::now(), deadline);
        assert!(rig.ready.try_next().is_none() && dead_letter.kept().is_empty());
        assert_eq!(rig.budget.free(), rig.budget.total());
    });
}

/// A disk that does not answer holds the shard, and the lease is lost meanwhile.
#[test]
fn a_lost_shard_does_not_wait_for_the_dead_letter() {
    run(async {
        let (hub, _) = hub();
        let (mut rig, dead_letter) = rig(&hub, 3);
        dead_letter.fail_next(KeepFault::Slow(seconds(1000)));
        refuse(rig.ticket().await, 6, &[3]);
        rig.ready.nothing_for(seconds(10)).await;
        assert_eq!(dead_letter.attempts(), 1);
        rig.abandon().await;
    });
}
