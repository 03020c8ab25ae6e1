//! Which arbiter runs what: the Coordinator alone on one, each worker on its own; or everything here, for simulations.

use actix::{Actor, Addr, Arbiter, ArbiterHandle, Context};

use tokio::sync::oneshot;

use crate::error::ForwarderError;

/// Where the actors of one forwarder run.
#[derive(Debug)]
pub enum Placement {
    /// Threads of their own.
    Threads {
        /// Heartbeats.
        coordinator: Arbiter,
        /// Everything else.
        workers: Vec<Arbiter>,
    },
    /// The thread that starts the forwarder; for tests with virtual time, which is per thread.
    Here {
        /// How many workers share it.
        workers: usize,
    },
}

impl Placement {
    /// Starts `workers` threads and one for the Coordinator.
    ///
    /// # Errors
    /// [`ForwarderError::Thread`]: the system gives no more threads.
    ///
    /// # Panics
    ///
    /// If no actix System runs on this thread.
    pub fn threads(workers: usize) -> Result<Self, ForwarderError> {
        let start = || Arbiter::try_new().map_err(|error| ForwarderError::Thread(error.to_string()));
        Ok(Self::Threads { coordinator: start()?, workers: (0..workers).map(|_| start()).collect::<Result<_, _>>()? })
    }

    /// How many workers there are.
    pub fn workers(&self) -> usize {
        match self {
            Self::Threads { workers, .. } => workers.len(),
            Self::Here { workers } => *workers,
        }
    }

    /// Starts an actor where the Coordinator lives. `build` runs there.
    pub(crate) fn on_coordinator<A>(&self, build: impl FnOnce(&mut Context<A>) -> A + Send + 'static) -> Addr<A>
    where
        A: Actor<Context = Context<A>>,
    {
        match self {
            Self::Threads { coordinator, .. } => A::start_in_arbiter(&coordinator.handle(), build),
            Self::Here { .. } => A::create(build),
        }
    }

    /// Starts an actor on a worker. `build` runs there.
    pub(crate) fn on_worker<A>(
        &self,
        worker: usize,
        build: impl FnOnce(&mut Context<A>) -> A + Send + 'static,
    ) -> Addr<A>
    where
        A: Actor<Context = Context<A>>,
    {
        match self {
            Self::Threads { workers, .. } => A::start_in_arbiter(&workers[worker].handle(), build),
            Self::Here { .. } => A::create(build),
        }
    }

    /// Ends the threads without waiting for them: one of them hangs.
    pub(crate) fn abandon(self) {
        let Self::Threads { coordinator, workers } = self else { return };
        for arbiter in workers.into_iter().chain([coordinator]) {
            arbiter.stop();
        }
    }

    /// Ends the threads, once their actors have ended, and waits for them.
    pub(crate) async fn end(self) {
        let Self::Threads { coordinator, workers } = self else { return };
        for arbiter in workers.into_iter().chain([coordinator]) {
            let handle: ArbiterHandle = arbiter.handle();
            handle.stop();
            // actix fact 18: joining blocks, and an arbiter is not stopped by drop. A thread of its own waits, because
            // a runtime that ends waits for its blocking tasks, and this one may never be done.
            let (joined, done) = oneshot::channel();
            std::thread::spawn(move || {
                let _ = arbiter.join();
                let _ = joined.send(());
            });
            let _ = done.await;
        }
    }
}
