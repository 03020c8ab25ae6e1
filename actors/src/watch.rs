//! Exit guards: how somebody learns that an actor has ended, and whether it panicked.
//!
//! A panic ends only the actor that it happens in, quietly (actix fact 13). A guard is a field of the actor; when the
//! actor's value is dropped, by a clean stop or by unwinding, it tells the one who watches.
//!
//! # What becomes of a panic
//!
//! Each is counted (`panics`), told with the actor's name under the code `panic`, and answered like this:
//!
//! | Where | Who learns of it | What follows | What it costs |
//! |---|---|---|---|
//! | unpacking or rendering a body | the formatter itself, which goes on | the body counts as bad: after three times it is pulled log group by log group, after three more over a minute a gap record takes the group's place (rule O2) | the logs of one log group, named |
//! | [`ShardFetcher`](crate::fetcher) | the Coordinator | started again under a new epoch after 0.5 s, doubling up to 60 s; a shard that is draining is given up with what is settled | repeats |
//! | [`Formatter`](crate::formatter), [`SyslogConnection`](crate::connection) | their pipeline | all of their generation are replaced after 0.2 s, doubling up to 30 s; fetchers pull again what it held | repeats |
//! | pipeline: its worker's formatter, connections and fetchers | the assembly | the forwarder ends with an error, at once and without last commits; the process exits with 5 | repeats; others take the shards after the group's timeout |
//! | [`Coordinator`](crate::coordinator) | the assembly | the same, and silence: nobody else may heartbeat | the same |
//!
//! Pauses shrink again: each longest pause that the restarted part lives takes back one doubling. A worker that stands still without a panic is the watchdog's business: after half a minute the forwarder ends.

use actix::Recipient;

use crate::messages::ActorEnded;

/// Held by an actor; reports its end by drop.
#[derive(Debug)]
pub struct ExitGuard {
    actor: ActorName,
    watcher: Recipient<ActorEnded>,
}

/// Which actor has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ActorName {
    /// The Coordinator.
    Coordinator,
    /// A worker's pipeline.
    Pipeline {
        /// The worker.
        worker: usize,
    },
    /// The fetcher of a shard.
    ShardFetcher {
        /// Its shard.
        shard: crate::model::ids::ShardId,
        /// Its lease.
        epoch: crate::model::ids::Epoch,
    },
    /// A worker's formatter.
    Formatter {
        /// The worker.
        worker: usize,
    },
    /// One of a worker's connections.
    SyslogConnection {
        /// The worker.
        worker: usize,
        /// Its place in the pool.
        index: usize,
    },
}

impl std::fmt::Display for ActorName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Coordinator => f.write_str("coordinator"),
            Self::Pipeline { worker } => write!(f, "pipeline {worker}"),
            Self::ShardFetcher { shard, epoch } => write!(f, "shard-fetcher {shard} (epoch {epoch})"),
            Self::Formatter { worker } => write!(f, "formatter {worker}"),
            Self::SyslogConnection { worker, index } => write!(f, "syslog-connection {worker}.{index}"),
        }
    }
}

impl ExitGuard {
    /// A guard that tells `watcher` when it is dropped.
    pub fn new(actor: ActorName, watcher: Recipient<ActorEnded>) -> Self {
        Self { actor, watcher }
    }
}

impl Drop for ExitGuard {
    fn drop(&mut self) {
        // actix fact 13: this may run while unwinding, so nothing here may panic.
        self.watcher.do_send(ActorEnded { actor: self.actor.clone(), panicked: std::thread::panicking() });
    }
}
