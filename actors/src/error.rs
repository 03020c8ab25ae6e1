//! How a forwarder can fail as a whole.

use crate::event::Code;

/// Why a forwarder did not start, or ended although nobody asked it to.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ForwarderError {
    /// The settings contradict each other or name something that cannot be used.
    #[error("{0}")]
    Settings(String),
    /// SLS refused what only a human can correct, before the first heartbeat was answered (keys, rights, names, quota).
    #[error("{what}")]
    Refused {
        /// Stable code.
        code: Code,
        /// One sentence with the remedy.
        what: String,
    },
    /// An actor that cannot be replaced ended by a panic.
    #[error("the {actor} ended by a panic; shards go to other consumers when the group's timeout has passed")]
    Panicked {
        /// Which.
        actor: String,
    },
    /// A worker has done nothing for half a minute, not even tick (rule L9).
    #[error("worker {worker} hangs; heartbeats have stopped, so that its shards go to other consumers")]
    WorkerHung {
        /// Which.
        worker: usize,
    },
    /// The Coordinator has done nothing for half a minute: nobody renews the leases any more (rule L9).
    #[error(
        "the coordinator hangs; heartbeats have stopped, so its shards go to other consumers and are not read any more"
    )]
    CoordinatorHung,
    /// A worker thread could not be started.
    #[error("cannot start a worker thread: {0}")]
    Thread(String),
}

impl ForwarderError {
    /// The stable code under which it is told, where it has one.
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            Self::Panicked { .. } => Some(Code::Panic),
            Self::WorkerHung { .. } | Self::CoordinatorHung => Some(Code::WorkerHung),
            Self::Settings(_) | Self::Thread(_) => None,
        }
    }
}
