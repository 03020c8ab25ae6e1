//! Setting aside what the receiver does not take: the batch is pulled once more and its refused logs are kept.

use std::rc::Rc;
use std::sync::Arc;

use super::JobOutcome;
use super::pull::{AskError, Asking, memory_of};
use crate::event::Code;
use crate::messages::{PulledBody, RefusedLog};
use crate::model::cursor::Cursor;
use crate::model::ids::Sequence;
use crate::ports::{DeadLetter, KeepError, Letter};
use crate::trouble::{code_of, sentence};
use crate::wire::sls::body::MAX_RAW_SIZE;
use crate::wire::sls::error::{ErrorClass, SlsError};

/// A batch that is delivered but for some logs.
#[derive(Clone)]
pub(super) struct Refusals {
    /// The batch's first log group.
    pub(super) from: Cursor,
    /// Logs of the whole batch.
    pub(super) logs: u64,
    /// Those that the receiver does not take.
    pub(super) refused: Arc<[RefusedLog]>,
}

/// The job.
pub(super) struct SettingAside {
    pub(super) asking: Asking,
    pub(super) dead_letter: Rc<dyn DeadLetter>,
    pub(super) sequence: Sequence,
    /// The batch's first log group.
    pub(super) from: Cursor,
    pub(super) log_groups: u32,
    pub(super) reserve: usize,
    pub(super) refusals: Refusals,
}

/// How it ended.
pub(super) enum SetAside {
    /// The logs are kept.
    Kept,
    /// SLS does not have them any more.
    Expired(SlsError),
    /// The batch is not what it was when it was sent.
    OtherLogs(String),
    /// A body cannot be read.
    Unreadable(String),
    /// To be tried again.
    Failed(Code, String),
}

impl SettingAside {
    pub(super) async fn run(self) -> JobOutcome {
        let sequence = self.sequence;
        JobOutcome::SetAside(sequence, self.keep_all().await)
    }

    /// Pulls what is left of the batch, in one answer if SLS gives it so again, and keeps what is wanted of each.
    async fn keep_all(self) -> SetAside {
        let (mut at, mut left, mut first_log) = (self.from.clone(), self.log_groups, 0);
        let (mut count, mut reserve) = (left, self.reserve);
        while left > 0 {
            let credit = self.asking.budget.reserve(reserve).await;
            let (head, body) = match self.asking.ask(&at, count.min(left), credit).await {
                Ok(asked) => asked,
                Err(AskError::Refused(error)) => return refused(error),
                Err(AskError::Cut(error)) => return SetAside::Failed(Code::BadBody, error.to_string()),
            };
            let Some(next) = head.next_cursor.clone().filter(|next| *next != at) else {
                return odd("an answer did not move the cursor");
            };
            if head.count == 0 {
                at = next;
                continue;
            }
            if head.count > left || head.raw_size > MAX_RAW_SIZE {
                return odd("the log groups of a batch to be set aside are not answered as before");
            }
            let Some((bytes, credit)) = body else {
                if memory_of(&head) > self.asking.budget.total() && head.count > 1 {
                    count = head.count / 2;
                } else {
                    reserve = memory_of(&head).min(self.asking.budget.total());
                }
                continue;
            };
            let first_group = u64::from(self.log_groups - left);
            left -= head.count;
            let letter = Letter {
                shard: self.asking.shard,
                from: self.from.clone(),
                body: PulledBody::new(&head, bytes, credit),
                first_group,
                first_log,
                logs: self.refusals.logs,
                last: left == 0,
                refused: Arc::clone(&self.refusals.refused),
            };
            match self.dead_letter.keep(letter).await {
                Ok(logs) => first_log += logs,
                Err(KeepError::OtherLogs(what)) => return SetAside::OtherLogs(what),
                Err(KeepError::Full(what)) => return SetAside::Failed(Code::DeadLetterFull, what),
                Err(KeepError::Unwritable(what)) => return SetAside::Failed(Code::DeadLetterUnwritable, what),
                Err(KeepError::BadBody(what)) => return SetAside::Unreadable(what),
            }
            at = next;
        }
        SetAside::Kept
    }
}

fn odd(what: &str) -> SetAside {
    SetAside::Failed(Code::BadBody, what.to_owned())
}

fn refused(error: SlsError) -> SetAside {
    match error.class() {
        ErrorClass::InvalidCursor | ErrorClass::ShardGone => SetAside::Expired(error),
        _ => SetAside::Failed(code_of(&error), sentence(&error)),
    }
}
