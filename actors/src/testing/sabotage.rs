//! What a plan does to the outside of forwarders beyond faults of single calls: thefts at chosen moments, panics where no
//! call to SLS is made, processes that stand still.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use tokio::task::LocalSet;
use tokio::time::{Instant, Sleep, sleep_until};

use super::faults::{Moment, PLANNED_PANIC, Place};
use super::hub::InMemoryHub;
use super::invariants::Checker;
use super::layers::{Answer, HubLayer, Over, TransportLayer};
use crate::config::Framing;
use crate::loghub::{GroupSettings, Hub};
use crate::model::cursor::Cursor;
use crate::model::ids::ShardId;
use crate::ports::{Dial, DialError, LogHub, Look, PullReply, Transport};
use crate::wire::syslog::framing::next_frame;

// ---- thefts ------------------------------------------------------------------------------------------------------

/// Somebody who takes all shards of a group; a clone is the same one.
#[derive(Debug, Clone)]
pub(super) struct Thief {
    group: &'static str,
    until: Rc<Cell<Option<Instant>>>,
    waits: Rc<Cell<Option<(Moment, Duration)>>>,
}

/// The name under which it holds shards.
const NAME: &str = "thief";

impl Thief {
    pub(super) fn of(group: &'static str) -> Self {
        Self { group, until: Rc::default(), waits: Rc::default() }
    }

    /// Steals when the moment comes, and keeps what it has stolen for so long.
    pub(super) fn wait_for(&self, moment: Moment, lasting: Duration, hub: &InMemoryHub) {
        self.waits.set(Some((moment, lasting)));
        self.notice(Moment::Now, hub);
    }

    /// Gives up.
    pub(super) fn leave(&self) {
        self.until.set(None);
        self.waits.set(None);
    }

    /// The moment has come.
    fn notice(&self, moment: Moment, hub: &InMemoryHub) {
        if let Some((wanted, lasting)) = self.waits.get()
            && wanted == moment
        {
            self.waits.set(None);
            self.steal(hub, lasting);
        }
    }

    /// The group is made anew with the same checkpoints, and the thief is first to hold its shards.
    fn steal(&self, hub: &InMemoryHub, lasting: Duration) {
        hub.with(|hub, now| {
            let Ok(checkpoints) = hub.get_checkpoints(InMemoryHub::AT, self.group, None, now) else { return };
            let Some(settings) = settings_of(hub, self.group) else { return };
            let stolen = hub.delete_group(InMemoryHub::AT, self.group, now).is_ok()
                && hub.create_group(InMemoryHub::AT, self.group, settings, now).is_ok();
            for view in checkpoints.iter().filter(|view| stolen && !view.checkpoint.is_empty()) {
                let checkpoint = &view.checkpoint;
                // A shard may have gone meanwhile.
                let _ = hub.update_checkpoint(InMemoryHub::AT, self.group, NAME, view.shard, checkpoint, true, now);
            }
        });
        self.until.set((!lasting.is_zero()).then(|| Instant::now() + lasting));
        self.keep_alive(hub);
    }

    /// Sends its heartbeat while it wants to keep what it has.
    pub(super) fn keep_alive(&self, hub: &InMemoryHub) {
        if self.until.get().is_none_or(|until| Instant::now() >= until) {
            return self.until.set(None);
        }
        hub.with(|hub, now| {
            let state = hub.logstore_state(InMemoryHub::AT).ok();
            let group = state.as_ref().and_then(|state| state.groups.get(self.group));
            let shards = group.map(|group| group.shards.as_slice()).unwrap_or_default();
            let held: Vec<ShardId> =
                shards.iter().filter(|s| s.owner.as_deref() == Some(NAME)).map(|s| s.shard).collect();
            // The group may have been deleted.
            let _ = hub.heartbeat(InMemoryHub::AT, self.group, NAME, &held, now);
        });
    }
}

/// A group's settings, if there is one.
pub(super) fn settings_of(hub: &Hub, group: &str) -> Option<GroupSettings> {
    let groups = hub.list_groups(InMemoryHub::AT).ok()?;
    groups.into_iter().find(|(name, _)| name == group).map(|(_, settings)| settings)
}

/// A client whose calls a thief waits for.
pub(super) struct Burgled {
    pub(super) below: Rc<dyn LogHub>,
    pub(super) hub: InMemoryHub,
    pub(super) thief: Thief,
}

impl HubLayer for Burgled {
    fn below(&self) -> &Rc<dyn LogHub> {
        &self.below
    }

    fn pull_logs(&self, shard: ShardId, cursor: &Cursor, count: u32) -> Answer<PullReply> {
        let request = self.below.pull_logs(shard, cursor, count);
        let (hub, thief) = (self.hub.clone(), self.thief.clone());
        Box::pin(async move {
            let reply = request.await?;
            thief.notice(Moment::NextPull, &hub);
            Ok(reply)
        })
    }

    fn update_checkpoint(&self, shard: ShardId, cursor: &Cursor, force: bool) -> Answer<()> {
        self.thief.notice(Moment::NextCommit, &self.hub);
        self.below.update_checkpoint(shard, cursor, force)
    }
}

// ---- panics and connections --------------------------------------------------------------------------------------

/// Panics that wait for somebody; a clone holds the same ones.
#[derive(Debug, Clone, Default)]
pub(super) struct Panics(Rc<RefCell<Vec<Place>>>);

impl Panics {
    /// One more.
    pub(super) fn add(&self, place: Place) {
        self.0.borrow_mut().push(place);
    }

    /// None any more.
    pub(super) fn clear(&self) {
        self.0.borrow_mut().clear();
    }

    /// Somebody is there.
    pub(super) fn come_to(&self, place: Place) {
        let waiting = &mut *self.0.borrow_mut();
        let found = waiting.iter().position(|other| *other == place).map(|at| waiting.swap_remove(at));
        assert!(found.is_none(), "{PLANNED_PANIC}: {place:?}");
    }
}

/// A way to the receiver on which panics wait, and somebody looks on.
pub(super) struct TroubledDialer {
    pub(super) below: Rc<dyn Dial>,
    pub(super) panics: Panics,
    pub(super) checker: Checker,
    pub(super) consumer: Rc<str>,
    /// When a connection counts as ready (rule C2).
    pub(super) ready_after: Duration,
    /// Longest slice of more than one message (rule M3).
    pub(super) piece_bytes: usize,
    pub(super) framing: Framing,
}

impl Dial for TroubledDialer {
    fn dial(&self) -> LocalBoxFuture<'static, Result<Box<dyn Transport>, DialError>> {
        self.panics.come_to(Place::Dialing);
        let dialing = self.below.dial();
        let (panics, checker, consumer) = (self.panics.clone(), self.checker.clone(), Rc::clone(&self.consumer));
        let (ready_after, piece_bytes, framing) = (self.ready_after, self.piece_bytes, self.framing);
        Box::pin(async move {
            let below = dialing.await?;
            let ready_at = Instant::now() + ready_after;
            let watched = Watched { panics, checker, consumer, ready_at, piece_bytes, framing };
            Ok(Box::new(Over::new(below, watched)) as Box<dyn Transport>)
        })
    }
}

struct Watched {
    panics: Panics,
    checker: Checker,
    consumer: Rc<str>,
    ready_at: Instant,
    piece_bytes: usize,
    framing: Framing,
}

impl TransportLayer for Watched {
    fn poll_write(
        &mut self,
        below: &mut dyn Transport,
        cx: &mut Context<'_>,
        frames: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.panics.come_to(Place::Writing);
        if frames.len() > self.piece_bytes
            && next_frame(self.framing, frames).is_some_and(|(first, _)| first < frames.len())
        {
            let what = format!("M3: {} writes {} bytes of several messages at once", self.consumer, frames.len());
            self.checker.violated(what);
        }
        below.poll_write(cx, frames)
    }

    fn look(&mut self, below: &mut dyn Transport) -> io::Result<Look> {
        let look = below.look()?;
        if look.open && Instant::now() >= self.ready_at {
            self.checker.receiver_stood_open(&self.consumer);
        }
        Ok(look)
    }
}

// ---- processes ---------------------------------------------------------------------------------------------------

/// Until when a process stands still; a clone is the same one.
#[derive(Debug, Clone, Default)]
pub(super) struct Frozen(Rc<Cell<Option<Instant>>>);

impl Frozen {
    pub(super) fn freeze_until(&self, until: Instant) {
        self.0.set(self.0.get().max(Some(until)));
    }

    pub(super) fn until(&self) -> Option<Instant> {
        self.0.get()
    }
}

/// The task set that stands for a process, and may stand still.
pub(super) struct Process {
    tasks: LocalSet,
    frozen: Frozen,
    thaw: Option<Pin<Box<Sleep>>>,
}

impl Process {
    pub(super) fn new(tasks: LocalSet, frozen: Frozen) -> Self {
        Self { tasks, frozen, thaw: None }
    }
}

impl Future for Process {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        while let Some(until) = self.frozen.until().filter(|until| Instant::now() < *until) {
            let thaw = self.thaw.get_or_insert_with(|| Box::pin(sleep_until(until)));
            if thaw.deadline() != until {
                thaw.as_mut().reset(until);
            }
            if thaw.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
        self.thaw = None;
        Pin::new(&mut self.tasks).poll(cx)
    }
}
