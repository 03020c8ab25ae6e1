//! What the Coordinator looks at from time to time: read-only shards, the group's settings, its own name, the workers.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use actix::{ActorFutureExt, AsyncContext, Context, WrapFuture};
use slog::debug;

use super::Coordinator;
use crate::clock::now;
use crate::event::Code;
use crate::messages::ShardCommand;
use crate::model::ids::{Epoch, ShardId};
use crate::model::pull_pace::PullPace;
use crate::model::watchdog::Watchdog;
use crate::wire::sls::reply::ShardInfo;

/// What is looked at from time to time.
pub(super) struct Housekeeping {
    pub(super) list_shards_at: Instant,
    pub(super) listing: bool,
    /// What each shard's reads leave to those of all the others.
    pub(super) fair_rest: Duration,
    /// Shards that answers to heartbeats omit.
    pub(super) omitted: Vec<Omitted>,
    pub(super) read_group_at: Instant,
    pub(super) reading_group: bool,
    pub(super) watch_at: Instant,
    pub(super) watchdog: Watchdog,
}

/// A shard that an answer to a heartbeat omits: in transfer to somebody else, which is drained, or expired, for which
/// nobody waits. ListShards tells which.
pub(super) struct Omitted {
    shard: ShardId,
    epoch: Epoch,
    since: Instant,
    /// When a drain has to be over.
    deadline: Instant,
}

impl Omitted {
    /// Until when it may take to learn that; then the shard is drained like one in transfer.
    pub(super) fn decide_by(&self) -> Instant {
        self.since + self.deadline.saturating_duration_since(self.since) / 4
    }
}

/// How often the group's settings are read again (rule L2), and a checkpoint is looked at (rule U9).
const READ_GROUP_EVERY: Duration = Duration::from_secs(60);
/// Time between two looks at the workers (rule L9).
const WATCH_EVERY: Duration = Duration::from_secs(1);
/// When a consumer without shards looks again whether it has some to list, and when ListShards is tried again while
/// somebody waits for its answer.
const LIST_SHARDS_SOON: Duration = Duration::from_secs(1);

impl Housekeeping {
    /// Everything is due for the first time.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            list_shards_at: now,
            listing: false,
            fair_rest: Duration::ZERO,
            omitted: Vec::new(),
            read_group_at: now + READ_GROUP_EVERY,
            reading_group: false,
            watch_at: now + WATCH_EVERY,
            watchdog: Watchdog::default(),
        }
    }
}

impl Coordinator {
    /// Looks for shards that have become read-only (rule L5). Without the right to list, they are just polled.
    pub(super) fn list_shards(&mut self, at: Instant, ctx: &mut Context<Self>) {
        if self.housekeeping.listing || at < self.housekeeping.list_shards_at {
            return;
        }
        if self.leases.is_empty() {
            self.housekeeping.list_shards_at = at + LIST_SHARDS_SOON;
            return;
        }
        self.housekeeping.listing = true;
        self.housekeeping.list_shards_at = at + self.leases.interval();
        let request = self.hub.list_shards();
        ctx.spawn(request.into_actor(self).map(move |outcome, act, ctx| {
            act.housekeeping.listing = false;
            match outcome {
                Ok(shards) => act.shards_listed(&shards, at),
                Err(error) => {
                    debug!(act.log, "cannot list the shards: {}", error);
                    if error.is_denied_action() {
                        act.drain_omitted(|_| true);
                    } else if !act.housekeeping.omitted.is_empty() {
                        act.housekeeping.list_shards_at = now() + LIST_SHARDS_SOON;
                    }
                }
            }
            act.work(ctx);
        }));
    }

    /// An answer to a heartbeat omits a shard: see first whether it still exists (I9).
    pub(super) fn omitted(&mut self, shard: ShardId, epoch: Epoch, deadline: Instant) {
        let since = now();
        self.housekeeping.omitted.push(Omitted { shard, epoch, since, deadline });
        self.housekeeping.list_shards_at = since;
    }

    /// Drains omitted shards, as in transfer.
    pub(super) fn drain_omitted(&mut self, which: impl Fn(&Omitted) -> bool) {
        let (to_drain, others) = std::mem::take(&mut self.housekeeping.omitted).into_iter().partition(which);
        self.housekeeping.omitted = others;
        for Omitted { shard, epoch, deadline, .. } in to_drain {
            self.command(shard, epoch, ShardCommand::Drain { deadline: deadline.into() });
        }
    }

    fn shards_listed(&mut self, shards: &[ShardInfo], listed_at: Instant) {
        let fair_rest = PullPace::fair_rest(shards.len());
        if fair_rest != self.housekeeping.fair_rest {
            self.housekeeping.fair_rest = fair_rest;
            let fetchers: Vec<_> = self.fetchers.iter().map(|(shard, fetcher)| (*shard, fetcher.epoch)).collect();
            for (shard, epoch) in fetchers {
                self.command(shard, epoch, ShardCommand::RestAtLeast(fair_rest));
            }
        }
        // A logstore has at least one shard: an empty list is no reason to believe that one is gone.
        let listed: BTreeSet<ShardId> = shards.iter().map(|info| info.shard).collect();
        let exists = |shard| listed.is_empty() || listed.contains(&shard);
        let is_gone = |omitted: &mut Omitted| omitted.since <= listed_at && !exists(omitted.shard);
        for Omitted { shard, epoch, .. } in self.housekeeping.omitted.extract_if(.., is_gone).collect::<Vec<_>>() {
            self.command(shard, epoch, ShardCommand::NoteExpired);
        }
        self.drain_omitted(|omitted| omitted.since <= listed_at);
        for info in shards.iter().filter(|info| info.readonly) {
            if let Some(epoch) = self.fetchers.get(&info.shard).map(|fetcher| fetcher.epoch) {
                self.command(info.shard, epoch, ShardCommand::NoteReadonly { listed_at: listed_at.into() });
            }
        }
    }

    pub(super) fn read_group(&mut self, at: Instant, ctx: &mut Context<Self>) {
        if self.housekeeping.reading_group || at < self.housekeeping.read_group_at {
            return;
        }
        self.housekeeping.reading_group = true;
        self.housekeeping.read_group_at = at + READ_GROUP_EVERY;
        self.check_name(ctx);
        let request = self.hub.list_consumer_groups();
        ctx.spawn(request.into_actor(self).map(|outcome, act, _| {
            act.housekeeping.reading_group = false;
            let name = &act.config.source.consumer_group;
            match outcome.map(|groups| groups.into_iter().find(|group| group.name == *name)) {
                Ok(Some(group)) => act.group_timeout_is(Duration::from_secs(group.timeout_s.into())),
                Ok(None) => {}
                Err(error) => debug!(act.log, "cannot read the group's settings: {}", error),
            }
        }));
    }

    /// U9: a checkpoint that somebody else moved although we hold the shard means that two processes share our name.
    /// One shard at a time is enough, since they would share all.
    fn check_name(&mut self, ctx: &mut Context<Self>) {
        let stored =
            |(shard, _): &(ShardId, Epoch)| self.commits.stored(*shard).map(|(epoch, at)| (*shard, epoch, at.clone()));
        let Some((shard, epoch, ours)) = self.leases.held().find_map(|held| stored(&held)) else { return };
        let request = self.hub.get_checkpoint(shard);
        ctx.spawn(request.into_actor(self).map(move |outcome, act, _| {
            let Ok(found) = outcome else { return };
            let unchanged = act.commits.stored(shard) == Some((epoch, &ours));
            if unchanged && found.cursor.as_ref() != Some(&ours) {
                let what = format!(
                    "the checkpoint of shard {shard} was moved by somebody else while we hold it: another process \
                     consumes as {:?}; give each a source.consumer_name of its own",
                    act.config.source.consumer_name
                );
                act.troubles.report(now(), Code::ConsumerNameShared, &what);
            }
        }));
    }

    /// L9: heartbeats must not outlive a worker that hangs, because only silence makes SLS free the shards it holds.
    pub(super) fn hung_worker(&mut self, at: Instant) -> Option<usize> {
        if at < self.housekeeping.watch_at {
            return None;
        }
        self.housekeeping.watch_at = at + WATCH_EVERY;
        let beats = self.workers.iter().map(|worker| worker.beats.load(Ordering::Relaxed));
        self.housekeeping.watchdog.tick(beats)
    }
}
