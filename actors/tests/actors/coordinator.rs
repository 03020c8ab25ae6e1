//! The Coordinator between a simulated SLS and probes in place of workers and fetchers.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use actix::prelude::*;
use sls_syslog_actors::config::{Confirmation, DestinationConfig, ForwarderConfig, Protocol};
use sls_syslog_actors::coordinator::{Coordinator, CoordinatorParts};
use sls_syslog_actors::counters::Counters;
use sls_syslog_actors::error::ForwarderError;
use sls_syslog_actors::event::ForwarderEvent;
use sls_syslog_actors::loghub::{GroupSettings, Limits, SplitAt, encode_cursor};
use sls_syslog_actors::messages::*;
use sls_syslog_actors::model::cursor::{Cursor, StartPosition};
use sls_syslog_actors::model::ids::{Epoch, ShardId};
use sls_syslog_actors::testing::hub::{Fault, InMemoryHub, Operation};
use sls_syslog_actors::testing::probe::{Probed, probe};
use sls_syslog_actors::testing::runtime::run;
use sls_syslog_actors::watch::ActorName;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use crate::tools::*;

/// What the hub was asked, and when, from the beginning.
type Calls = Rc<RefCell<Vec<(Duration, Operation)>>>;
/// What goes wrong with a call; set by tests, nothing by default.
type Wrong = Rc<RefCell<Box<dyn FnMut(&Operation) -> Fault>>>;

struct Rig {
    hub: InMemoryHub,
    coordinator: Addr<Coordinator>,
    starts: Probed<StartShard>,
    opens: Probed<OpenConnection>,
    events: Probed<ForwarderEvent>,
    /// Whether the worker's thread shows that it lives.
    beating: Rc<Cell<bool>>,
    ended: oneshot::Receiver<Result<(), ForwarderError>>,
    counters: Arc<Counters>,
    calls: Calls,
    wrong: Wrong,
}

/// What stands for a fetcher.
struct Fetcher {
    shard: ShardId,
    epoch: Epoch,
    commands: Probed<ControlShard>,
}

const HEARTBEAT: Duration = Duration::from_secs(10);
const TIMEOUT: Duration = Duration::from_secs(20);

impl Rig {
    /// A Coordinator that has joined, if SLS lets it, and waits for the receiver.
    async fn joining(shards: u32, wrong: impl FnMut(&Operation) -> Fault + 'static) -> Self {
        Self::joining_hub(InMemoryHub::new(shards), wrong).await
    }

    async fn joining_hub(hub: InMemoryHub, wrong: impl FnMut(&Operation) -> Fault + 'static) -> Self {
        let (calls, wrong) = (Calls::default(), Wrong::new(RefCell::new(Box::new(wrong))));
        let (seen, faults, began) = (Rc::clone(&calls), Rc::clone(&wrong), Instant::now());
        hub.on_call(move |_, operation| {
            seen.borrow_mut().push((began.elapsed(), operation.clone()));
            faults.borrow_mut()(operation)
        });
        let mut source = source();
        source.heartbeat_interval = HEARTBEAT;
        source.group_timeout_s = TIMEOUT.as_secs() as u32;
        let config = ForwarderConfig::new(source, DestinationConfig::new("127.0.0.1", Protocol::Tcp));
        let (coordinator_ended, ended) = oneshot::channel();
        let (tell, events) = probe();
        let counters = Arc::new(Counters::default());
        let coordinator = Coordinator::new(CoordinatorParts {
            config: Arc::new(config),
            hub: hub.client("group", "me"),
            heartbeats: hub.client("group", "me"),
            level: Confirmation::TcpAcked,
            counters: Arc::clone(&counters),
            events: Some(tell),
            log: no_log(),
            beats: Arc::default(),
            ended: coordinator_ended,
        })
        .start();
        let (start, starts) = probe();
        let (open, opens) = probe();
        let beats = Arc::new(AtomicU64::new(0));
        let (beating, beat) = (Rc::new(Cell::new(true)), Arc::downgrade(&beats));
        let go_on = Rc::clone(&beating);
        actix_rt::spawn(async move {
            while let Some(beats) = beat.upgrade() {
                beats.fetch_add(u64::from(go_on.get()), Ordering::Relaxed);
                drop(beats);
                tokio::time::sleep(seconds(1)).await;
            }
        });
        coordinator.do_send(BeginJoining { workers: vec![WorkerHandle { start, open, beats }] });
        settle().await;
        Self { hub, coordinator, starts, opens, events, beating, ended, counters, calls, wrong }
    }

    /// A member of the group, with the fetchers of all its shards.
    async fn member(shards: u32) -> (Self, Vec<Fetcher>) {
        let mut rig = Self::joining(shards, |_| Fault::default()).await;
        rig.receiver_is_ready();
        let mut fetchers = Vec::new();
        for _ in 0..shards {
            fetchers.push(rig.fetcher().await);
        }
        (rig, fetchers)
    }

    fn receiver_is_ready(&self) {
        self.coordinator.do_send(ReceiverChanged { worker: 0, index: 0, state: ReceiverState::Ready });
    }

    /// The next fetcher that is to be started.
    async fn fetcher(&mut self) -> Fetcher {
        let StartShard { shard, epoch, .. } = self.starts.next().await;
        let (control, commands) = probe();
        self.coordinator.do_send(FetcherStarted { shard, epoch, control });
        Fetcher { shard, epoch, commands }
    }

    fn ready(&self, fetcher: &Fetcher, position: u64) {
        self.coordinator.do_send(CheckpointReady {
            shard: fetcher.shard,
            epoch: fetcher.epoch,
            cursor: cursor(position),
            received_s: None,
            even_if_unchanged: false,
        });
    }

    fn ends(&self, fetcher: &Fetcher) {
        let (shard, epoch, how) = (fetcher.shard, fetcher.epoch, ShardEnd::Stopped);
        let unconfirmed = Unconfirmed::default();
        self.coordinator.do_send(ShardEnded { shard, epoch, how, unconfirmed });
    }

    fn goes_wrong(&self, wrong: impl FnMut(&Operation) -> Fault + 'static) {
        *self.wrong.borrow_mut() = Box::new(wrong);
    }

    /// The commits that were sent for a shard.
    fn commits(&self, of: ShardId) -> Vec<Cursor> {
        let commit = |(_, operation): &(Duration, Operation)| match operation {
            Operation::UpdateCheckpoint { shard, cursor, .. } if *shard == of => Some(cursor.clone()),
            _ => None,
        };
        self.calls.borrow().iter().filter_map(commit).collect()
    }

    fn heartbeats(&self) -> Vec<(Duration, Vec<ShardId>)> {
        let heartbeat = |(at, operation): &(Duration, Operation)| match operation {
            Operation::Heartbeat { held } => Some((*at, held.clone())),
            _ => None,
        };
        self.calls.borrow().iter().filter_map(heartbeat).collect()
    }

    async fn status(&self) -> ForwarderStatus {
        self.coordinator.send(GetStatus).await.expect("it lives")
    }

    /// Stops, with every fetcher doing what it is told.
    async fn stop(self, fetchers: Vec<Fetcher>) {
        self.coordinator.do_send(StopForwarder { within: seconds(25) });
        settle().await;
        for fetcher in &fetchers {
            self.ends(fetcher);
        }
        let ended = timeout(seconds(60), self.ended).await.expect("it ends");
        assert!(ended.expect("it says how").is_ok());
    }
}

impl Fetcher {
    async fn command(&mut self) -> ShardCommand {
        let ControlShard { epoch, command } = self.commands.next().await;
        assert_eq!(epoch, self.epoch);
        command
    }
}

fn cursor(position: u64) -> Cursor {
    Cursor::new(&encode_cursor(position)).expect("printable")
}

fn is_heartbeat(operation: &Operation) -> bool {
    matches!(operation, Operation::Heartbeat { .. })
}

fn is_commit(operation: &Operation) -> bool {
    matches!(operation, Operation::UpdateCheckpoint { .. })
}

/// L8: nobody who cannot deliver takes shards from those who can.
#[test]
fn l8_no_shard_is_asked_for_before_the_receiver_has_stood_open() {
    run(async {
        let mut rig = Rig::joining(2, |_| Fault::default()).await;
        rig.opens.next().await;
        tokio::time::sleep(seconds(100)).await;
        assert_eq!(rig.heartbeats(), []);
        assert_eq!(rig.status().await.phase, Phase::AwaitingReceiver);
        let down = ReceiverState::Down { why: "for a test".into() };
        rig.coordinator.do_send(ReceiverChanged { worker: 0, index: 0, state: down });
        tokio::time::sleep(seconds(100)).await;
        assert_eq!(rig.heartbeats(), []);
        rig.receiver_is_ready();
        let fetchers = vec![rig.fetcher().await, rig.fetcher().await];
        assert_eq!(rig.heartbeats()[0].1, []);
        assert_eq!(rig.status().await.phase, Phase::Member);
        rig.stop(fetchers).await;
    });
}

#[test]
fn l10_what_only_a_human_can_correct_ends_the_start() {
    run(async {
        let rig = Rig::joining(1, |_| Fault::refused(401, "SignatureNotMatch", "for a test")).await;
        let ended = timeout(seconds(5), rig.ended).await.expect("it ends").expect("it says how");
        assert!(matches!(ended, Err(ForwarderError::Refused { .. })), "{ended:?}");
    });
}

/// L10: once a member, no answer of SLS ends it.
#[test]
fn l10_a_member_goes_on_whatever_is_refused() {
    run(async {
        let (rig, mut fetchers) = Rig::member(1).await;
        rig.goes_wrong(|_| Fault::refused(401, "Unauthorized", "for a test"));
        tokio::time::sleep(seconds(3600)).await;
        assert_eq!(fetchers[0].command().await, ShardCommand::Abandon);
        rig.ends(&fetchers[0]);
        rig.goes_wrong(|_| Fault::default());
        let mut rig = rig;
        let fetcher = rig.fetcher().await;
        assert!(fetcher.epoch > fetchers[0].epoch);
        rig.stop(vec![fetcher]).await;
    });
}

#[test]
fn a_refused_commit_abandons_that_shard_alone() {
    run(async {
        let (rig, mut fetchers) = Rig::member(2).await;
        let lost = fetchers[0].shard;
        rig.goes_wrong(move |operation| match operation {
            Operation::UpdateCheckpoint { shard, .. } if *shard == lost => {
                Fault::refused(400, "ConsumerNotMatch", "for a test")
            }
            _ => Fault::default(),
        });
        rig.ready(&fetchers[0], 5);
        rig.ready(&fetchers[1], 6);
        assert_eq!(fetchers[0].command().await, ShardCommand::Abandon);
        rig.ready(&fetchers[0], 7);
        rig.ready(&fetchers[1], 8);
        tokio::time::sleep(seconds(5)).await;
        assert_eq!(rig.commits(fetchers[0].shard), [cursor(5)], "I3: nothing more under a lost lease");
        assert_eq!(rig.commits(fetchers[1].shard), [cursor(6), cursor(8)]);
        assert!(fetchers[1].commands.try_next().is_none(), "the other shard goes on");
        rig.stop(fetchers).await;
    });
}

#[test]
fn i3_a_position_of_an_older_lease_is_never_committed() {
    run(async {
        let (mut rig, mut fetchers) = Rig::member(1).await;
        let refused = Rc::new(RefCell::new(false));
        let once = Rc::clone(&refused);
        rig.goes_wrong(move |operation| {
            if is_heartbeat(operation) && !once.replace(true) {
                return Fault::refused(400, "NotExistConsumerWithBody", "for a test");
            }
            Fault::default()
        });
        assert_eq!(fetchers[0].command().await, ShardCommand::Abandon);
        // SLS hands the shard to us again at once, but nobody starts before the old fetcher has ended.
        rig.starts.nothing_for(seconds(30)).await;
        rig.ready(&fetchers[0], 5);
        rig.ends(&fetchers[0]);
        let regained = rig.fetcher().await;
        assert!(regained.epoch > fetchers[0].epoch);
        rig.ready(&fetchers[0], 6);
        tokio::time::sleep(seconds(30)).await;
        assert_eq!(rig.commits(SHARD), []);
        rig.ready(&regained, 7);
        tokio::time::sleep(seconds(30)).await;
        assert_eq!(rig.commits(SHARD), [cursor(7)]);
        rig.stop(vec![regained]).await;
    });
}

/// L2: heartbeats are lost on their way. The lease ends by our own clock, before SLS may give the shard away.
#[test]
fn l2_without_answers_the_lease_ends_before_the_groups_timeout() {
    run(async {
        let (rig, mut fetchers) = Rig::member(1).await;
        tokio::time::sleep(HEARTBEAT / 2).await;
        rig.goes_wrong(|operation| if is_heartbeat(operation) { Fault::transport("lost") } else { Fault::default() });
        let began = Instant::now();
        assert_eq!(fetchers[0].command().await, ShardCommand::Abandon);
        let age = began.elapsed() + HEARTBEAT / 2;
        assert!((TIMEOUT / 10 * 8..TIMEOUT).contains(&age), "{age:?}");
        rig.ready(&fetchers[0], 5);
        tokio::time::sleep(seconds(30)).await;
        assert_eq!(rig.commits(SHARD), [], "I3");
        rig.stop(fetchers).await;
    });
}

/// L2: an answer that comes too late is discarded, and the heartbeat is repeated.
#[test]
fn l2_a_late_answer_to_a_heartbeat_counts_for_nothing() {
    run(async {
        let (rig, mut fetchers) = Rig::member(1).await;
        rig.goes_wrong(|operation| match operation {
            Operation::Heartbeat { .. } => Fault { delay_after: HEARTBEAT / 3, ..Fault::default() },
            _ => Fault::default(),
        });
        assert_eq!(fetchers[0].command().await, ShardCommand::Abandon, "although each was answered in the end");
        rig.stop(fetchers).await;
    });
}

/// L3: a checkpoint endpoint that hangs costs no lease.
#[test]
fn l3_heartbeats_go_on_while_commits_hang() {
    run(async {
        let (rig, mut fetchers) = Rig::member(3).await;
        rig.goes_wrong(|operation| match is_commit(operation) {
            true => Fault { delay_before: seconds(60), ..Fault::default() },
            false => Fault::default(),
        });
        for fetcher in &fetchers {
            rig.ready(fetcher, 5);
        }
        tokio::time::sleep(seconds(120)).await;
        let times: Vec<_> = rig.heartbeats().into_iter().map(|(at, _)| at).collect();
        assert!(times.windows(2).all(|pair| pair[1] - pair[0] <= HEARTBEAT + Duration::from_millis(20)), "{times:?}");
        assert!(fetchers.iter_mut().all(|fetcher| fetcher.commands.try_next().is_none()));
        assert_eq!(rig.status().await.shards.len(), 3);
        rig.goes_wrong(|_| Fault::default());
        rig.stop(fetchers).await;
    });
}

/// I7: the last commit is answered before the last heartbeat is sent, however long draining takes.
#[test]
fn i7_heartbeats_outlive_the_last_commit() {
    run(async {
        let (rig, mut fetchers) = Rig::member(1).await;
        rig.coordinator.do_send(StopForwarder { within: seconds(60) });
        let ShardCommand::Drain { deadline } = fetchers[0].command().await else { panic!("not told to drain") };
        assert!(deadline < Instant::now() + seconds(60), "L1: the last commit needs some of the time");
        tokio::time::sleep(seconds(35)).await;
        rig.ready(&fetchers[0], 5);
        rig.goes_wrong(|operation| match is_commit(operation) {
            true => Fault { delay_after: seconds(5), ..Fault::default() },
            false => Fault::default(),
        });
        rig.ends(&fetchers[0]);
        let (calls, commits) = (Rc::clone(&rig.calls), rig.counters.clone());
        let ended = timeout(seconds(60), rig.ended).await.expect("it ends");
        assert!(ended.expect("it says how").is_ok());
        assert_eq!(commits.snapshot().commits, 1);
        let calls = calls.borrow();
        let committed = calls.iter().rfind(|(_, operation)| is_commit(operation)).expect("committed").0;
        let heartbeats: Vec<_> =
            calls.iter().filter(|(_, operation)| is_heartbeat(operation)).map(|(at, _)| *at).collect();
        let before = heartbeats.iter().rfind(|at| **at <= committed).expect("a heartbeat");
        assert!(committed - *before <= HEARTBEAT, "no heartbeat for {:?} before the last commit", committed - *before);
        drop(fetchers);
    });
}

/// L1: a shard that the answer omits is still ours. It is drained, its last position is committed, and only then is it
/// left out of the list, at once.
#[test]
fn l1_a_shard_in_transfer_is_drained_committed_and_then_given_up() {
    run(async {
        let (rig, mut fetchers) = Rig::member(2).await;
        let other = rig.hub.client("group", "other");
        assert_eq!(other.heartbeat(&[]).await.expect("answered"), [], "one of ours is promised to it");
        let given = fetchers.pop().expect("two shards");
        let mut given = given;
        assert!(matches!(given.command().await, ShardCommand::Drain { .. }));
        tokio::time::sleep(seconds(1)).await;
        rig.ready(&given, 5);
        rig.ends(&given);
        tokio::time::sleep(seconds(2)).await;
        assert_eq!(rig.commits(given.shard), [cursor(5)]);
        let (at, held) = rig.heartbeats().last().cloned().expect("a heartbeat");
        assert_eq!(held, [fetchers[0].shard], "without waiting for the interval: {at:?}");
        assert_eq!(other.heartbeat(&[]).await.expect("answered"), [given.shard]);
        rig.stop(fetchers).await;
    });
}

/// L1: what keeps us from learning whether a shard that an answer omits still exists delays a transfer by a part of its
/// time at most.
#[test]
fn l1_a_shard_is_drained_in_time_although_the_shards_cannot_be_listed() {
    for (lists, at_most) in [
        (Fault { delay_before: seconds(100), ..Fault::default() }, 5),
        (Fault::transport("lost"), 5),
        (Fault::refused(401, "Unauthorized", "denied by sts or ram, action: log:ListShards, resource: x"), 0),
    ] {
        run(async move {
            let (rig, mut fetchers) = Rig::member(2).await;
            rig.goes_wrong(move |operation| match operation {
                Operation::ListShards => lists.clone(),
                _ => Fault::default(),
            });
            rig.hub.client("group", "other").heartbeat(&[]).await.expect("answered");
            let beats = rig.heartbeats().len();
            while rig.heartbeats().len() == beats {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            let omitted = Instant::now();
            let ShardCommand::Drain { deadline } = fetchers[1].command().await else { panic!("not told to drain") };
            assert!(omitted.elapsed() <= seconds(at_most) + Duration::from_millis(20), "{:?}", omitted.elapsed());
            assert!(deadline <= omitted + seconds(20), "the whole takes no longer");
            rig.stop(fetchers).await;
        });
    }
}

/// I9: a shard that answers omit because it has expired looks like one in transfer, but nobody waits for it: it has the
/// time that its gap record needs.
#[test]
fn i9_a_shard_that_expired_is_given_no_deadline() {
    run(async {
        let limits = Limits { retention: Some(seconds(60)), ..Limits::default() };
        let mut rig = Rig::joining_hub(InMemoryHub::with_limits(1, limits), |_| Fault::default()).await;
        rig.receiver_is_ready();
        let mut fetcher = rig.fetcher().await;
        rig.hub.with(|hub, now| hub.split_shard(InMemoryHub::AT, SHARD, SplitAt::Parts(2), now)).expect("split");
        let mut children = vec![rig.fetcher().await, rig.fetcher().await];
        let told = loop {
            match fetcher.command().await {
                ShardCommand::NoteReadonly { .. } => {}
                told => break told,
            }
        };
        assert_eq!(told, ShardCommand::NoteExpired);
        fetcher.commands.nothing_for(seconds(3600)).await;
        assert!(rig.heartbeats().last().is_some_and(|(_, held)| held.contains(&SHARD)), "it is still ours");
        children.push(fetcher);
        rig.stop(children).await;
    });
}

/// Once its end is committed, SLS counts a read-only shard as finished and refuses rule L5's repetition of that commit:
/// that used to be told as a lost lease.
#[test]
fn l5_the_end_of_a_finished_shard_is_committed_once_more_and_nothing_is_lost() {
    run(async {
        let (mut rig, mut fetchers) = Rig::member(2).await;
        let epoch = fetchers[0].epoch;
        let split = rig.hub.with(|hub, now| hub.split_shard(InMemoryHub::AT, ShardId(0), SplitAt::Parts(2), now));
        split.expect("split");
        let end = rig.hub.client("group", "me").get_cursor(ShardId(0), StartPosition::End).await.expect("a cursor");
        let ready = |even_if_unchanged| CheckpointReady {
            shard: ShardId(0),
            epoch,
            cursor: end.clone(),
            received_s: None,
            even_if_unchanged,
        };
        rig.coordinator.do_send(ready(false));
        tokio::time::sleep(seconds(4)).await;
        rig.coordinator.do_send(ready(true));
        tokio::time::sleep(seconds(4)).await;
        assert_eq!(rig.commits(ShardId(0)), [end.clone(), end.clone()]);
        loop {
            match fetchers[0].command().await {
                ShardCommand::Abandon => break,
                other => assert!(matches!(other, ShardCommand::NoteReadonly { .. }), "{other:?}"),
            }
        }
        let mut told = Vec::new();
        while let Some(event) = rig.events.try_next() {
            told.push(event);
        }
        rig.ends(&fetchers[0]);
        assert!(told.contains(&ForwarderEvent::ShardReleased { shard: ShardId(0), lost: false }), "{told:?}");
        rig.stop(fetchers.split_off(1)).await;
    });
}

/// The more shards share their project's quota, the longer each rests; one that is acquired later is told too.
#[test]
fn every_fetcher_is_told_what_its_reads_leave_to_those_of_others() {
    run(async {
        let (mut rig, mut fetchers) = Rig::member(100).await;
        for fetcher in &mut fetchers {
            let command = fetcher.command().await;
            assert!(matches!(command, ShardCommand::RestAtLeast(rest) if rest.as_millis() == 20), "{command:?}");
        }
        let split = rig.hub.with(|hub, now| hub.split_shard(InMemoryHub::AT, ShardId(0), SplitAt::Parts(2), now));
        split.expect("split");
        for _ in 0..2 {
            let mut child = rig.fetcher().await;
            let command = child.command().await;
            assert!(matches!(command, ShardCommand::RestAtLeast(rest) if rest.as_millis() == 20), "{command:?}");
            fetchers.push(child);
        }
        rig.stop(fetchers).await;
    });
}

#[test]
fn a_fetcher_that_panicked_is_started_again_ever_later() {
    run(async {
        let (mut rig, mut fetchers) = Rig::member(1).await;
        let mut fetcher = fetchers.pop().expect("one");
        let mut pauses = Vec::new();
        for _ in 0..4 {
            let actor = ActorName::ShardFetcher { shard: fetcher.shard, epoch: fetcher.epoch };
            let began = Instant::now();
            rig.coordinator.do_send(ActorEnded { actor, panicked: true });
            let next = rig.fetcher().await;
            assert!(next.epoch > fetcher.epoch);
            fetcher = next;
            pauses.push(began.elapsed());
        }
        assert!(pauses.windows(2).all(|pair| pair[1] > pair[0] * 3 / 2), "{pauses:?}");
        assert_eq!(rig.counters.snapshot().panics, 4);
        rig.stop(vec![fetcher]).await;
    });
}

/// Somebody deletes the group: it is made anew, and what was read goes on from where it was committed.
#[test]
fn l6_a_group_made_anew_goes_on_from_our_own_position() {
    run(async {
        let (mut rig, mut fetchers) = Rig::member(1).await;
        rig.ready(&fetchers[0], 5);
        tokio::time::sleep(seconds(5)).await;
        assert_eq!(rig.commits(SHARD), [cursor(5)]);
        rig.hub.with(|hub, now| hub.delete_group(InMemoryHub::AT, "group", now)).expect("there is one");
        assert_eq!(fetchers[0].command().await, ShardCommand::Abandon);
        rig.ends(&fetchers[0]);
        let StartShard { resume, epoch, shard } = rig.starts.next().await;
        assert_eq!(resume.map(|resume| (resume.cursor, resume.instead)), Some((cursor(5), true)));
        let groups = rig.hub.with(|hub, _| hub.list_groups(InMemoryHub::AT)).expect("listed");
        assert_eq!(groups[0].1, GroupSettings { timeout_s: TIMEOUT.as_secs() as u32, order: false });
        let (control, commands) = probe();
        rig.coordinator.do_send(FetcherStarted { shard, epoch, control });
        rig.stop(vec![Fetcher { shard, epoch, commands }]).await;
    });
}

/// L6: the group is made anew by us or by somebody else. SLS knows our positions again before a fetcher has read anything,
/// so that nobody takes the group for an unborn one.
#[test]
fn l6_positions_that_were_deleted_with_the_group_are_stored_again_at_once() {
    for made_by_another in [false, true] {
        run(async move {
            let (mut rig, fetchers) = Rig::member(3).await;
            rig.ready(&fetchers[0], 5);
            rig.ready(&fetchers[2], 7);
            tokio::time::sleep(seconds(5)).await;
            let settings = GroupSettings { timeout_s: TIMEOUT.as_secs() as u32, order: false };
            rig.hub.with(|hub, now| {
                hub.delete_group(InMemoryHub::AT, "group", now).expect("there is one");
                if made_by_another {
                    hub.create_group(InMemoryHub::AT, "group", settings, now).expect("made anew");
                }
            });
            tokio::time::sleep(HEARTBEAT + seconds(1)).await;
            let other = rig.hub.client("group", "other");
            let stored = async |shard| other.get_checkpoint(ShardId(shard)).await.expect("answered").cursor;
            assert_eq!([stored(0).await, stored(1).await, stored(2).await], [Some(cursor(5)), None, Some(cursor(7))]);
            let forced = |(_, operation): &(Duration, Operation)| match operation {
                Operation::UpdateCheckpoint { shard, force: true, .. } => Some(shard.0),
                _ => None,
            };
            assert_eq!(rig.calls.borrow().iter().filter_map(forced).collect::<Vec<_>>(), [2, 0], "the lowest last");
            for fetcher in &fetchers {
                rig.ends(fetcher);
            }
            let regained = vec![rig.fetcher().await, rig.fetcher().await, rig.fetcher().await];
            rig.stop(regained).await;
        });
    }
}

/// L9: a worker that hangs would hold its shards for ever, because the heartbeats go on; so they end.
#[test]
fn l9_a_worker_that_hangs_ends_the_heartbeats() {
    run(async {
        let (rig, fetchers) = Rig::member(1).await;
        tokio::time::sleep(seconds(300)).await;
        rig.beating.set(false);
        let began = Instant::now();
        let ended = timeout(seconds(60), rig.ended).await.expect("it ends").expect("it says how");
        assert!(ended.is_err(), "{ended:?}");
        assert!((seconds(29)..seconds(40)).contains(&began.elapsed()), "{:?}", began.elapsed());
        let sent = rig.calls.borrow().len();
        tokio::time::sleep(seconds(60)).await;
        assert_eq!(rig.calls.borrow().len(), sent, "it is silent");
        drop(fetchers);
    });
}

/// A command that is given before it is known how to reach the fetcher is not lost.
#[test]
fn a_command_for_a_fetcher_that_is_still_starting_reaches_it() {
    run(async {
        let mut rig = Rig::joining(1, |_| Fault::default()).await;
        rig.receiver_is_ready();
        let StartShard { shard, epoch, .. } = rig.starts.next().await;
        rig.coordinator.do_send(StopForwarder { within: seconds(25) });
        settle().await;
        let (control, commands) = probe();
        rig.coordinator.do_send(FetcherStarted { shard, epoch, control });
        let mut fetcher = Fetcher { shard, epoch, commands };
        assert!(matches!(fetcher.command().await, ShardCommand::Drain { .. }));
        rig.stop(vec![fetcher]).await;
    });
}

/// It is told to stop while SLS does not answer its start, and twice.
#[test]
fn a_stop_during_the_start_ends_at_once() {
    run(async {
        let rig = Rig::joining(1, |_| Fault { delay_before: seconds(500), ..Fault::default() }).await;
        rig.coordinator.do_send(StopForwarder { within: seconds(25) });
        rig.coordinator.do_send(StopForwarder { within: seconds(25) });
        let ended = timeout(seconds(1), rig.ended).await.expect("at once");
        assert!(ended.expect("it says how").is_ok());
    });
}
