//! One PullLogs with the memory that it takes (rule M2).

use std::rc::Rc;
use std::time::Instant;

use bytes::Bytes;

use super::{JobOutcome, now};
use crate::credit::{ByteBudget, ByteCredit, Credit, Credits};
use crate::model::cursor::Cursor;
use crate::model::ids::ShardId;
use crate::ports::LogHub;
use crate::wire::sls::body::MAX_RAW_SIZE;
use crate::wire::sls::error::SlsError;
use crate::wire::sls::reply::PullHead;

/// What is needed to ask for log groups.
#[derive(Clone)]
pub(super) struct Asking {
    pub(super) hub: Rc<dyn LogHub>,
    pub(super) shard: ShardId,
    /// The worker's share for bodies and raw log groups.
    pub(super) budget: ByteBudget,
}

/// An answer: its headers, and the body with what pays for it. There is none if the answer is empty, if it is larger than
/// anything that is ever held, or if there was no room for it.
pub(super) type Asked = (PullHead, Option<(Bytes, ByteCredit)>);

/// Why there is no usable answer.
pub(super) enum AskError {
    /// SLS refused, or was not reached.
    Refused(SlsError),
    /// The body did not come whole.
    Cut(SlsError),
}

impl Asking {
    /// Asks, and reads the body if there is room for it beside or within `credit`.
    pub(super) async fn ask(&self, cursor: &Cursor, count: u32, mut credit: ByteCredit) -> Result<Asked, AskError> {
        let reply = self.hub.pull_logs(self.shard, cursor, count).await.map_err(AskError::Refused)?;
        let head = reply.head;
        if head.count == 0 || head.raw_size > MAX_RAW_SIZE {
            return Ok((head, None));
        }
        let needed = memory_of(&head);
        if needed > self.budget.total() && head.count > 1 {
            // Fewer at once: only a single log group may exceed what there is (rule M2).
            return Ok((head, None));
        }
        if needed > credit.bytes() && credit.bytes() < self.budget.total() {
            match self.budget.try_reserve((needed - credit.bytes()).min(self.budget.total() - credit.bytes())) {
                Some(more) => credit.merge(more),
                None => return Ok((head, None)),
            }
        }
        // Without a declared length: what LZ4 makes of bytes that it cannot compress.
        let limit = head.body_size.unwrap_or(head.raw_size + head.raw_size / 255 + 16);
        let limit = usize::try_from(limit.min(2 * MAX_RAW_SIZE)).unwrap_or(usize::MAX);
        credit.shrink_to(needed);
        let bytes = reply.body.read(limit).await.map_err(AskError::Cut)?;
        Ok((head, Some((bytes, credit))))
    }
}

/// What an answer takes: its body, and the raw log groups once it is decompressed.
pub(super) fn memory_of(head: &PullHead) -> usize {
    usize::try_from(head.body_size.unwrap_or(head.raw_size).saturating_add(head.raw_size)).unwrap_or(usize::MAX)
}

/// A pull that is to become a batch.
pub(super) struct Pull {
    pub(super) asking: Asking,
    pub(super) cursor: Cursor,
    pub(super) count: u32,
    pub(super) reserve: usize,
    pub(super) batches: Credits,
}

/// How a pull ended.
pub(super) struct Pulled {
    pub(super) sent_at: Instant,
    pub(super) asked: Result<Asked, AskError>,
    /// For the batch, or for the gap record that a refusal may ask for.
    pub(super) batch: Credit,
}

impl Pull {
    /// Takes the credits, then asks.
    pub(super) async fn run(self) -> JobOutcome {
        let batch = self.batches.take().await;
        let credit = self.asking.budget.reserve(self.reserve).await;
        let sent_at = now();
        let asked = self.asking.ask(&self.cursor, self.count, credit).await;
        JobOutcome::Pulled(Pulled { sent_at, asked, batch })
    }
}
