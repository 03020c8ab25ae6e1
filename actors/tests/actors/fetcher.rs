//! The ShardFetcher between a simulated SLS and probes in place of Formatter and Coordinator.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use sls_syslog_actors::counters::Counters;
use sls_syslog_actors::credit::{ByteBudget, Credits};
use sls_syslog_actors::event::ForwarderEvent;
use sls_syslog_actors::fetcher::{FetcherParts, ShardFetcher};
use sls_syslog_actors::loghub::{GroupSettings, Limits};
use sls_syslog_actors::messages::*;
use sls_syslog_actors::model::ids::{Epoch, Generation, Sequence};
use sls_syslog_actors::ports::{DeadLetter, LogHub};
use sls_syslog_actors::testing::dead_letter::InMemoryDeadLetter;
use sls_syslog_actors::testing::hub::{BodyFault, Fault, InMemoryHub, Operation};
use sls_syslog_actors::testing::probe::{Probed, jammed, probe};
use sls_syslog_actors::testing::runtime::{VirtualTime, run};
use sls_syslog_actors::ticket::{BadBody, FailReason, Ticket};
use sls_syslog_actors::trouble::ShardTroubles;
use sls_syslog_actors::watch::{ActorName, ExitGuard};
use tokio::time::Instant;

use crate::tools::*;

pub const EPOCH: Epoch = Epoch(7);

pub struct Rig {
    pub hub: InMemoryHub,
    pub fetcher: Addr<ShardFetcher>,
    pub batches: Credits,
    pub budget: ByteBudget,
    pub counters: Arc<Counters>,
    pub formatter: Probed<FormatBatch>,
    pub ready: Probed<CheckpointReady>,
    pub ended: Probed<ShardEnded>,
    pub guard: Probed<ActorEnded>,
    pub events: Probed<ForwarderEvent>,
}

/// Lies over a client of SLS.
pub type Layer = Box<dyn FnOnce(Rc<dyn LogHub>) -> Rc<dyn LogHub>>;

/// What differs from test to test.
pub struct Setup {
    pub max_log_groups: u32,
    pub batches: usize,
    pub formatter: Option<Recipient<FormatBatch>>,
    pub dead_letter: Option<InMemoryDeadLetter>,
    /// Lies over the client of SLS.
    pub layer: Option<Layer>,
}

impl Default for Setup {
    fn default() -> Self {
        Self { max_log_groups: 1, batches: 8, formatter: None, dead_letter: None, layer: None }
    }
}

impl Rig {
    /// A fetcher of a shard of a hub on which the group exists.
    pub fn new(hub: &InMemoryHub, setup: Setup) -> Self {
        let group = GroupSettings { timeout_s: 3600, order: false };
        let created = hub.with(|hub, now| hub.create_group(InMemoryHub::AT, "group", group, now));
        created.expect("a new group");
        let mut source = source();
        source.max_log_groups = setup.max_log_groups;
        let (formatter, formatted) = probe();
        let (checkpoint_ready, ready) = probe();
        let (caught_up, _) = probe();
        let (shard_ended, ended) = probe();
        let (watcher, guard) = probe();
        let (told, events) = probe();
        let (batches, budget) = (Credits::new(setup.batches), ByteBudget::new(8 << 20));
        let counters = Arc::new(Counters::default());
        let parts = FetcherParts {
            shard: SHARD,
            epoch: EPOCH,
            resume: None,
            mailbox: 16,
            source: Arc::new(source),
            hub: match setup.layer {
                Some(layer) => layer(hub.client("group", "me")),
                None => hub.client("group", "me"),
            },
            batches: batches.clone(),
            budget: budget.clone(),
            dead_letter: setup.dead_letter.map(|dead_letter| Rc::new(dead_letter) as Rc<dyn DeadLetter>),
            formatter: setup.formatter.unwrap_or(formatter),
            checkpoint_ready,
            caught_up,
            shard_ended,
            counters: Arc::clone(&counters),
            troubles: ShardTroubles::new(no_log(), Some(told.clone())),
            events: Some(told),
            unix_seconds: unix_seconds(),
            first_tick: std::time::Instant::now(),
            seed: 1,
            log: no_log(),
            guard: ExitGuard::new(ActorName::ShardFetcher { shard: SHARD, epoch: EPOCH }, watcher),
        };
        let fetcher = ShardFetcher::new(parts).start();
        Self { hub: hub.clone(), fetcher, batches, budget, counters, formatter: formatted, ready, ended, guard, events }
    }

    pub fn command(&self, command: ShardCommand) {
        self.fetcher.do_send(ControlShard { epoch: EPOCH, command });
    }

    /// The next batch's ticket; what it was made of is dropped, as a formatter does once it has rendered it.
    pub async fn ticket(&mut self) -> Ticket {
        self.formatter.next().await.ticket
    }

    pub async fn abandon(mut self) {
        self.command(ShardCommand::Abandon);
        self.ended.next().await;
        assert!(!self.guard.next().await.panicked);
        while self.formatter.try_next().is_some() {}
        assert_eq!(self.budget.free(), self.budget.total(), "bytes have not come back");
    }
}

pub fn hub_with(groups: usize) -> (InMemoryHub, Vec<String>) {
    let hub = InMemoryHub::new(1);
    let cursors = put(&hub, groups);
    (hub, cursors)
}

/// A formatter that forgets a batch: what lies behind it does not count, and is pulled again with it.
#[test]
fn a_dropped_ticket_replays_the_batch() {
    run(async {
        let (hub, cursors) = hub_with(3);
        let mut rig = Rig::new(&hub, Setup::default());
        let (a, b, c) = (rig.ticket().await, rig.ticket().await, rig.ticket().await);
        assert_eq!([a.sequence, b.sequence, c.sequence], [Sequence(0), Sequence(1), Sequence(2)]);
        a.delivered(1);
        assert_eq!(rig.ready.next().await.cursor.as_str(), cursors[1]);
        drop(b);
        assert!(c.is_superseded(), "O1: whatever lies behind a failed batch is dropped");
        rig.formatter.nothing_for(seconds(30)).await;
        c.delivered(1);
        let (b, c) = (rig.ticket().await, rig.ticket().await);
        assert_eq!((b.generation, c.generation), (Generation(1), Generation(1)));
        assert!(b.sequence > Sequence(2), "numbers are never used again");
        c.delivered(1);
        rig.ready.nothing_for(seconds(5)).await;
        b.delivered(1);
        let ready = rig.ready.next().await;
        assert_eq!((ready.cursor.as_str(), ready.epoch), (cursors[3].as_str(), EPOCH));
        assert_eq!(rig.counters.snapshot().batches_failed, 2, "the second one, and what lay behind it");
        rig.abandon().await;
    });
}

#[test]
fn a_short_body_is_pulled_again_and_half_as_much_is_asked_for() {
    run(async {
        let (hub, cursors) = hub_with(8);
        let asked = Rc::new(RefCell::new(Vec::new()));
        let counts = Rc::clone(&asked);
        hub.on_call(move |_, operation| {
            let Operation::PullLogs { cursor, count, .. } = operation else { return Fault::default() };
            counts.borrow_mut().push((cursor.as_str().to_owned(), *count));
            if counts.borrow().len() <= 2 { Fault::body(BodyFault::CutAt(3)) } else { Fault::default() }
        });
        let mut rig = Rig::new(&hub, Setup { max_log_groups: 8, ..Setup::default() });
        let began = Instant::now();
        let BatchContent::Body(body) = rig.formatter.next().await.content else { panic!("not a body") };
        assert_eq!(body.log_groups, 2);
        let first = cursors[0].clone();
        assert_eq!(asked.borrow()[..3], [(first.clone(), 8), (first.clone(), 4), (first, 2)]);
        assert!(began.elapsed() >= Duration::from_millis(600), "not without pauses");
        drop(body);
        rig.abandon().await;
    });
}

/// The checkpoint's logs have expired: a gap record goes in their place, and nothing is committed before it is
/// confirmed.
#[test]
fn an_expired_checkpoint_is_answered_with_a_gap_record() {
    run(async {
        let hub = InMemoryHub::with_limits(1, Limits { retention: Some(seconds(60)), ..Limits::default() });
        let old = put(&hub, 3);
        let mut rig = Rig::new(&hub, Setup { batches: 1, ..Setup::default() });
        let a = rig.ticket().await;
        tokio::time::sleep(seconds(100)).await;
        let new = put(&hub, 1);
        a.delivered(1);
        assert_eq!(rig.ready.next().await.cursor.as_str(), old[1]);
        let batch = rig.formatter.next().await;
        let BatchContent::Gap(gap) = &batch.content else { panic!("not a gap: {batch:?}") };
        assert_eq!((&gap.from, &gap.to, gap.shard), (&old[1], &new[0], SHARD));
        assert_eq!(rig.batches.free(), 0, "I6: a gap record takes a place in the formatter's mailbox like any batch");
        rig.ready.nothing_for(seconds(30)).await;
        assert_eq!(rig.counters.snapshot().gaps, 0);
        batch.ticket.delivered(1);
        assert_eq!(rig.ready.next().await.cursor.as_str(), new[0]);
        assert_eq!(rig.counters.snapshot().gaps, 1);
        loop {
            if let ForwarderEvent::Gap { from, to, .. } = rig.events.next().await {
                assert_eq!((from, to), (old[1].clone(), new[0].clone()));
                break;
            }
        }
        rig.ticket().await.delivered(1);
        assert_eq!(rig.ready.next().await.cursor.as_str(), new[1]);
        rig.abandon().await;
    });
}

/// A gap record that is lost on its way is made again.
#[test]
fn a_dropped_gap_record_comes_again() {
    run(async {
        let hub = InMemoryHub::with_limits(1, Limits { retention: Some(seconds(60)), ..Limits::default() });
        put(&hub, 2);
        let mut rig = Rig::new(&hub, Setup { batches: 1, ..Setup::default() });
        let a = rig.ticket().await;
        tokio::time::sleep(seconds(100)).await;
        put(&hub, 1);
        a.delivered(1);
        for _ in 0..3 {
            let batch = rig.formatter.next().await;
            assert!(matches!(batch.content, BatchContent::Gap(_)), "{batch:?}");
        }
        assert_eq!(rig.counters.snapshot().gaps, 0);
        rig.abandon().await;
    });
}

#[test]
fn no_more_batches_are_in_flight_than_there_are_credits() {
    run(async {
        let (hub, _) = hub_with(5);
        let mut rig = Rig::new(&hub, Setup { batches: 2, ..Setup::default() });
        let (a, b) = (rig.ticket().await, rig.ticket().await);
        rig.formatter.nothing_for(seconds(60)).await;
        b.delivered(1);
        let c = rig.ticket().await;
        rig.formatter.nothing_for(seconds(60)).await;
        drop((a, c));
        rig.abandon().await;
    });
}

/// Lost: no wait and no commit, and what is on its way is not sent any more.
#[test]
fn a_lost_shard_ends_at_once_and_commits_nothing() {
    run(async {
        let (hub, _) = hub_with(2);
        let mut rig = Rig::new(&hub, Setup::default());
        let (a, b) = (rig.ticket().await, rig.ticket().await);
        rig.command(ShardCommand::Abandon);
        let ended = rig.ended.next().await;
        assert_eq!((ended.shard, ended.epoch, ended.how), (SHARD, EPOCH, ShardEnd::Stopped));
        assert!(a.is_superseded() && b.is_superseded());
        a.delivered(1);
        b.delivered(1);
        settle().await;
        assert!(rig.ready.try_next().is_none());
        assert!(!rig.guard.next().await.panicked);
    });
}

#[test]
fn a_requested_stop_waits_for_what_was_pulled_and_pulls_nothing_more() {
    run(async {
        let (hub, cursors) = hub_with(1);
        let mut rig = Rig::new(&hub, Setup::default());
        let a = rig.ticket().await;
        rig.command(ShardCommand::Drain { deadline: Instant::now() + seconds(25) });
        put(&hub, 1);
        rig.formatter.nothing_for(seconds(20)).await;
        assert!(rig.ended.try_next().is_none());
        a.delivered(1);
        assert_eq!(rig.ended.next().await.how, ShardEnd::Stopped);
        assert_eq!(rig.ready.try_next().expect("came before the end").cursor.as_str(), cursors[1]);
    });
}

#[test]
fn a_requested_stop_fails_at_its_deadline_what_is_not_settled() {
    run(async {
        let (hub, cursors) = hub_with(3);
        let mut rig = Rig::new(&hub, Setup::default());
        let (a, b, c) = (rig.ticket().await, rig.ticket().await, rig.ticket().await);
        let deadline = Instant::now() + seconds(25);
        rig.command(ShardCommand::Drain { deadline });
        a.delivered(1);
        rig.ended.next().await;
        assert_eq!(Instant::now(), deadline);
        assert!(b.is_superseded() && c.is_superseded(), "O1: its pieces are not sent any more");
        assert_eq!(rig.ready.next().await.cursor.as_str(), cursors[1]);
        b.delivered(1);
        settle().await;
        assert!(rig.ready.try_next().is_none());
    });
}

#[test]
fn a_command_for_another_lease_changes_nothing() {
    run(async {
        let (hub, _) = hub_with(1);
        let mut rig = Rig::new(&hub, Setup::default());
        let a = rig.ticket().await;
        rig.fetcher.do_send(ControlShard { epoch: Epoch(6), command: ShardCommand::Abandon });
        rig.ended.nothing_for(seconds(10)).await;
        a.delivered(1);
        rig.ready.next().await;
        rig.abandon().await;
    });
}

/// A settlement of an older attempt, or a second one for the same batch, changes nothing.
#[test]
fn i4_a_second_settlement_changes_nothing() {
    run(async {
        let (hub, cursors) = hub_with(2);
        let mut rig = Rig::new(&hub, Setup::default());
        let (a, b) = (rig.ticket().await, rig.ticket().await);
        let outcome = Outcome::Delivered { logs: 1, refused: Vec::new() };
        let forged =
            BatchSettled { shard: SHARD, epoch: EPOCH, generation: b.generation, sequence: b.sequence, outcome };
        b.failed(FailReason::Dropped);
        settle().await;
        rig.fetcher.do_send(forged.clone());
        a.delivered(1);
        assert_eq!(rig.ready.next().await.cursor.as_str(), cursors[1]);
        let b = rig.ticket().await;
        rig.fetcher.do_send(forged);
        rig.ready.nothing_for(seconds(10)).await;
        assert_eq!(rig.counters.snapshot().settled_twice, 2);
        b.delivered(1);
        assert_eq!(rig.ready.next().await.cursor.as_str(), cursors[2]);
        let counters = rig.counters.snapshot();
        assert_eq!(counters.batches, counters.batches_delivered + counters.batches_failed, "each once");
        rig.abandon().await;
    });
}

/// SLS refuses the cursor of a request that has none. It is repeated, but not as fast as it is refused.
#[test]
fn a_refused_cursor_that_nobody_sent_is_no_flood_of_requests() {
    for concerns in
        [(|operation| matches!(operation, Operation::GetCheckpoint { .. })) as fn(&Operation) -> bool, |operation| {
            matches!(operation, Operation::GetCursor { .. })
        }]
    {
        run(async move {
            let (hub, _) = hub_with(1);
            let asked = Rc::new(RefCell::new(0));
            let count = Rc::clone(&asked);
            hub.on_call(move |_, operation| {
                if !concerns(operation) {
                    return Fault::default();
                }
                *count.borrow_mut() += 1;
                assert!(*count.borrow() < 1000, "a flood");
                Fault::refused(400, "InvalidCursor", "for a test")
            });
            let mut rig = Rig::new(&hub, Setup::default());
            tokio::time::sleep(seconds(600)).await;
            assert!((10..1000).contains(&*asked.borrow()), "{} in ten minutes", asked.borrow());
            loop {
                if let ForwarderEvent::Trouble { .. } = rig.events.next().await {
                    break;
                }
            }
            hub.heal();
            rig.ticket().await.delivered(1);
            rig.ready.next().await;
            rig.abandon().await;
        });
    }
}

/// A formatter whose mailbox is full cannot be: but if it were, the batch would be pulled again, and be counted.
#[test]
fn a_full_formatter_fails_the_ticket() {
    run(async {
        let (hub, _) = hub_with(6);
        let (formatter, jam) = jammed(1);
        let mut rig = Rig::new(&hub, Setup { formatter: Some(formatter), ..Setup::default() });
        tokio::time::sleep(seconds(5)).await;
        let counters = rig.counters.snapshot();
        assert!(counters.full_mailboxes > 0 && counters.batches_failed > 0, "{counters:?}");
        assert!(rig.ready.try_next().is_none());
        let (formatter, mut formatted) = probe::<FormatBatch>();
        rig.fetcher.do_send(UseFormatter(formatter));
        drop(jam);
        let batch = formatted.next().await;
        assert!(batch.ticket.generation > Generation(0));
        drop((batch, formatted));
        rig.abandon().await;
    });
}

/// The formatter has ended by a panic, and a new one takes its place.
#[test]
fn a_formatter_that_is_gone_fails_the_ticket_and_its_successor_gets_the_batch() {
    run(async {
        let (hub, cursors) = hub_with(1);
        let (formatter, jam) = jammed::<FormatBatch>(1);
        drop(jam);
        settle().await;
        assert!(!formatter.connected());
        let mut rig = Rig::new(&hub, Setup { formatter: Some(formatter), ..Setup::default() });
        tokio::time::sleep(seconds(5)).await;
        let counters = rig.counters.snapshot();
        assert!(counters.batches_failed > 1 && counters.full_mailboxes == 0, "{counters:?}");
        let (formatter, mut formatted) = probe::<FormatBatch>();
        rig.fetcher.do_send(UseFormatter(formatter));
        formatted.next().await.ticket.delivered(1);
        assert_eq!(rig.ready.next().await.cursor.as_str(), cursors[1]);
        rig.abandon().await;
    });
}

/// A whole body that the formatter could not use is asked for again, in halves.
#[test]
fn a_bad_body_is_pulled_again_with_fewer_log_groups() {
    run(async {
        let (hub, _) = hub_with(8);
        let mut rig = Rig::new(&hub, Setup { max_log_groups: 8, batches: 1, ..Setup::default() });
        let mut groups = Vec::new();
        for _ in 0..4 {
            let batch = rig.formatter.next().await;
            let BatchContent::Body(body) = batch.content else { panic!("not a body") };
            groups.push(body.log_groups);
            batch
                .ticket
                .failed(FailReason::BadBody { why: "for a test".into(), body: BadBody { log_groups: 2, digest: 1 } });
        }
        assert_eq!(groups, [8, 4, 2, 1]);
        rig.abandon().await;
    });
}

#[test]
fn o3_an_answer_that_does_not_move_the_cursor_is_an_error_and_not_a_loop() {
    run(async {
        let (hub, cursors) = hub_with(1);
        let pulls = Rc::new(RefCell::new(0));
        let count = Rc::clone(&pulls);
        hub.on_call(move |_, operation| match operation {
            Operation::PullLogs { .. } => {
                *count.borrow_mut() += 1;
                Fault::body(if *count.borrow() % 2 == 0 { BodyFault::NoCursor } else { BodyFault::SameCursor })
            }
            _ => Fault::default(),
        });
        let mut rig = Rig::new(&hub, Setup::default());
        rig.formatter.nothing_for(seconds(60)).await;
        assert!((2..20).contains(&*pulls.borrow()), "{} pulls in a minute", pulls.borrow());
        rig.hub.heal();
        rig.ticket().await.delivered(1);
        assert_eq!(rig.ready.next().await.cursor.as_str(), cursors[1]);
        rig.abandon().await;
    });
}

/// A read-only shard that was read to its end is committed once more even if nothing changed, so that its children are
/// handed out.
#[test]
fn l5_the_end_of_a_read_only_shard_is_committed_although_nothing_was_read() {
    run(async {
        let hub = InMemoryHub::new(1);
        let mut rig = Rig::new(&hub, Setup::default());
        rig.ready.nothing_for(seconds(30)).await;
        rig.command(ShardCommand::NoteReadonly { listed_at: Instant::now() });
        assert!(rig.ready.next().await.even_if_unchanged);
        rig.ready.nothing_for(seconds(500)).await;
        assert!(rig.ready.next().await.even_if_unchanged, "again after ten minutes");
        rig.abandon().await;
    });
}

/// Whoever watches learns of a panic.
#[test]
fn a_panic_is_told_by_the_exit_guard() {
    VirtualTime::default().expect_panics("for a test").run(async {
        let (hub, _) = hub_with(1);
        hub.on_call(|_, operation| match operation {
            Operation::PullLogs { .. } => panic!("for a test"),
            _ => Fault::default(),
        });
        let mut rig = Rig::new(&hub, Setup::default());
        let ended = rig.guard.next().await;
        assert!(ended.panicked);
        assert_eq!(ended.actor, ActorName::ShardFetcher { shard: SHARD, epoch: EPOCH });
        assert!(rig.ended.try_next().is_none());
        assert_eq!((rig.batches.free(), rig.budget.free()), (8, rig.budget.total()), "credits come back by drop");
    });
}
