//! Exit guards: how somebody learns that an actor has ended, and whether it panicked.
//!
//! A panic ends only the actor that it happens in, quietly (actix fact 13). A guard is a field of the actor; when the
//! actor's value is dropped, by a clean stop or by unwinding, it tells the one who watches.

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
