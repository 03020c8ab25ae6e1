//! A dead letter in memory, with faults.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use tokio::time::sleep;

use super::faults::PLANNED_PANIC;
use crate::model::ids::ShardId;
use crate::ports::{DeadLetter, KeepError, Letter};
use crate::wire::dead_letter::SetAsideLog;

/// What goes wrong with one attempt to keep logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeepFault {
    /// There is no room.
    Full,
    /// It cannot be written.
    Unwritable,
    /// It takes so long.
    Slow(Duration),
    /// It keeps the logs, but fails to say so.
    KeptButFailed,
    /// Whoever asks it panics.
    Panic,
}

/// A log that was kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptLog {
    /// The shard.
    pub shard: ShardId,
    /// Cursor of the batch.
    pub from: String,
    /// Place in the batch.
    pub place: u64,
    /// Why the receiver does not take it.
    pub reason: String,
    /// The log.
    pub log: SetAsideLog,
}

/// A dead letter in memory; a clone is the same one.
#[derive(Clone, Default)]
pub struct InMemoryDeadLetter(Rc<RefCell<Inner>>);

/// Called with each log that was kept.
type Witness = Box<dyn FnMut(&KeptLog)>;

#[derive(Default)]
struct Inner {
    kept: Vec<KeptLog>,
    witness: Option<Witness>,
    attempts: usize,
    /// For the next attempts.
    faults: VecDeque<KeepFault>,
    /// For all attempts, when there is none for the next.
    lasting: Option<KeepFault>,
}

impl InMemoryDeadLetter {
    /// Adds a fault for one attempt, after those that are planned already.
    pub fn fail_next(&self, fault: KeepFault) {
        self.0.borrow_mut().faults.push_back(fault);
    }

    /// Every attempt fails so from now on; `None` heals.
    pub fn fail_all(&self, fault: Option<KeepFault>) {
        self.0.borrow_mut().lasting = fault;
    }

    /// Who learns of every log that is kept, at the moment when it is.
    pub fn watched_by(&self, witness: impl FnMut(&KeptLog) + 'static) {
        self.0.borrow_mut().witness = Some(Box::new(witness));
    }

    /// No fault any more, also none that was planned.
    pub fn heal(&self) {
        let inner = &mut *self.0.borrow_mut();
        inner.faults.clear();
        inner.lasting = None;
    }

    /// What was kept, in order; repetitions included.
    pub fn kept(&self) -> Vec<KeptLog> {
        self.0.borrow().kept.clone()
    }

    /// How often something was to be kept.
    pub fn attempts(&self) -> usize {
        self.0.borrow().attempts
    }
}

impl fmt::Debug for InMemoryDeadLetter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("InMemoryDeadLetter").field(&self.0.borrow().kept).finish()
    }
}

impl DeadLetter for InMemoryDeadLetter {
    fn keep(&self, letter: Letter) -> LocalBoxFuture<'static, Result<u64, KeepError>> {
        let inner = Rc::clone(&self.0);
        let fault = {
            let mut inner = inner.borrow_mut();
            inner.attempts += 1;
            inner.faults.pop_front().or_else(|| inner.lasting.clone())
        };
        assert!(fault != Some(KeepFault::Panic), "{PLANNED_PANIC} in the dead letter");
        Box::pin(async move {
            match &fault {
                Some(KeepFault::Full) => return Err(KeepError::Full("full, for a test".into())),
                Some(KeepFault::Unwritable) => return Err(KeepError::Unwritable("unwritable, for a test".into())),
                Some(KeepFault::Slow(time)) => sleep(*time).await,
                Some(KeepFault::KeptButFailed | KeepFault::Panic) | None => {}
            }
            let (taken, found) = letter.take()?;
            let (shard, from) = (letter.shard, letter.from.to_string());
            let inner = &mut *inner.borrow_mut();
            for (refused, taken) in taken {
                let reason = refused.reason.clone();
                let kept = KeptLog { shard, from: from.clone(), place: refused.log, reason, log: taken.log };
                if let Some(witness) = &mut inner.witness {
                    witness(&kept);
                }
                inner.kept.push(kept);
            }
            match fault {
                Some(KeepFault::KeptButFailed) => Err(KeepError::Unwritable("kept, for a test".into())),
                _ => Ok(found),
            }
        })
    }
}
