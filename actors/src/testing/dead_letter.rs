//! A dead letter in memory, with faults.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use tokio::time::sleep;

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
#[derive(Debug, Clone, Default)]
pub struct InMemoryDeadLetter(Rc<RefCell<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    kept: Vec<KeptLog>,
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

    /// What was kept, in order; repetitions included.
    pub fn kept(&self) -> Vec<KeptLog> {
        self.0.borrow().kept.clone()
    }

    /// How often something was to be kept.
    pub fn attempts(&self) -> usize {
        self.0.borrow().attempts
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
        Box::pin(async move {
            match &fault {
                Some(KeepFault::Full) => return Err(KeepError::Full("full, for a test".into())),
                Some(KeepFault::Unwritable) => return Err(KeepError::Unwritable("unwritable, for a test".into())),
                Some(KeepFault::Slow(time)) => sleep(*time).await,
                Some(KeepFault::KeptButFailed) | None => {}
            }
            let (taken, found) = letter.take()?;
            let (shard, from) = (letter.shard, letter.from.to_string());
            inner.borrow_mut().kept.extend(taken.into_iter().map(|(refused, taken)| KeptLog {
                shard,
                from: from.clone(),
                place: refused.log,
                reason: refused.reason.clone(),
                log: taken.log,
            }));
            match fault {
                Some(KeepFault::KeptButFailed) => Err(KeepError::Unwritable("kept, for a test".into())),
                _ => Ok(found),
            }
        })
    }
}
