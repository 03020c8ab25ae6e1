//! Credits: what bounds the work in flight. They are taken before the work and come back by drop, whoever listens.
//!
//! A byte credit lives with the buffer it pays for, a batch credit with the ticket, a piece credit with the piece.
//! Waiting is first in, first out, so a large request is not starved by small ones.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A number of equal credits (batches, pieces), or of bytes counted in blocks.
#[derive(Debug, Clone)]
pub struct Credits {
    semaphore: Arc<Semaphore>,
    total: usize,
}

/// Credits taken; they return when this is dropped.
#[derive(Debug)]
pub struct Credit(#[allow(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

impl Credits {
    /// `total` credits, all free.
    pub fn new(total: usize) -> Self {
        Self { semaphore: Arc::new(Semaphore::new(total)), total }
    }

    /// Waits for one credit. Cancel safe: a dropped wait leaves the queue and takes nothing.
    pub async fn take(&self) -> Credit {
        let permit = Arc::clone(&self.semaphore).acquire_owned().await;
        Credit(permit.expect("the semaphore is never closed"))
    }

    /// Takes one credit if one is free.
    pub fn try_take(&self) -> Option<Credit> {
        Arc::clone(&self.semaphore).try_acquire_owned().ok().map(Credit)
    }

    /// Credits that are free now.
    pub fn free(&self) -> usize {
        self.semaphore.available_permits()
    }

    /// Credits in all.
    pub fn total(&self) -> usize {
        self.total
    }
}

/// A share of the byte budget.
#[derive(Debug, Clone)]
pub struct ByteBudget {
    blocks: Arc<Semaphore>,
    total_blocks: u32,
}

/// Bytes taken from a [`ByteBudget`]; they return when this is dropped.
#[derive(Debug)]
pub struct ByteCredit {
    permit: OwnedSemaphorePermit,
}

/// Budgets count in blocks of this many bytes, so that a share of many GiB still fits a semaphore.
pub const BLOCK: usize = 1024;

impl ByteBudget {
    /// A budget of `bytes`, all free.
    pub fn new(bytes: usize) -> Self {
        let total_blocks = u32::try_from(bytes / BLOCK).unwrap_or(u32::MAX).max(1);
        Self { blocks: Arc::new(Semaphore::new(total_blocks as usize)), total_blocks }
    }

    /// Waits for `bytes`. More than the whole budget is clamped to it: an oversized thing goes alone.
    /// Cancel safe: a dropped wait leaves the queue and takes nothing.
    pub async fn reserve(&self, bytes: usize) -> ByteCredit {
        let permit = Arc::clone(&self.blocks).acquire_many_owned(self.blocks_for(bytes)).await;
        ByteCredit { permit: permit.expect("the semaphore is never closed") }
    }

    /// Takes `bytes` if they are free now and nobody waits before us.
    pub fn try_reserve(&self, bytes: usize) -> Option<ByteCredit> {
        let permit = Arc::clone(&self.blocks).try_acquire_many_owned(self.blocks_for(bytes)).ok()?;
        Some(ByteCredit { permit })
    }

    /// Bytes that are free now.
    pub fn free(&self) -> usize {
        self.blocks.available_permits() * BLOCK
    }

    /// Bytes in all.
    pub fn total(&self) -> usize {
        self.total_blocks as usize * BLOCK
    }

    fn blocks_for(&self, bytes: usize) -> u32 {
        u32::try_from(bytes.div_ceil(BLOCK)).unwrap_or(u32::MAX).min(self.total_blocks)
    }
}

impl ByteCredit {
    /// Bytes that this credit pays for.
    pub fn bytes(&self) -> usize {
        self.permit.num_permits() * BLOCK
    }

    /// Gives back what exceeds `bytes`.
    pub fn shrink_to(&mut self, bytes: usize) {
        let surplus = self.permit.num_permits().saturating_sub(bytes.div_ceil(BLOCK));
        drop(self.permit.split(surplus));
    }

    /// Adds `more` to this credit.
    pub fn merge(&mut self, more: ByteCredit) {
        self.permit.merge(more.permit);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bytes_come_back_by_shrinking_and_by_drop() {
        let budget = ByteBudget::new(10 * BLOCK);
        let mut credit = budget.try_reserve(8 * BLOCK).expect("free");
        assert!(budget.try_reserve(4 * BLOCK).is_none());
        credit.shrink_to(2 * BLOCK + 1);
        assert_eq!(credit.bytes(), 3 * BLOCK);
        assert_eq!(budget.free(), 7 * BLOCK);
        drop(credit);
        assert_eq!(budget.free(), budget.total());
    }

    proptest! {
        /// Against a list of what was taken: nothing is lent twice, and nothing is kept back.
        #[test]
        fn m1_what_is_free_and_what_is_taken_are_always_the_whole_budget(
            total in 1..200_usize,
            ops in prop::collection::vec((0..5_u8, 0..300_usize, 0..8_usize), 0..60),
        ) {
            let budget = ByteBudget::new(total * BLOCK);
            let mut taken: Vec<ByteCredit> = Vec::new();
            for (op, size, pick) in ops {
                let bytes = size * BLOCK / 2;
                match op {
                    0 | 1 => {
                        let wanted = bytes.div_ceil(BLOCK).min(total);
                        let free = budget.free();
                        let credit = budget.try_reserve(bytes);
                        prop_assert_eq!(credit.is_some(), wanted * BLOCK <= free);
                        taken.extend(credit);
                    }
                    2 if !taken.is_empty() => {
                        let pick = pick % taken.len();
                        let before = taken[pick].bytes();
                        taken[pick].shrink_to(bytes);
                        prop_assert_eq!(taken[pick].bytes(), before.min(bytes.div_ceil(BLOCK) * BLOCK));
                    }
                    3 if taken.len() > 1 => {
                        let more = taken.swap_remove(pick % taken.len());
                        taken[0].merge(more);
                    }
                    4 if !taken.is_empty() => drop(taken.swap_remove(pick % taken.len())),
                    _ => {}
                }
                let held: usize = taken.iter().map(ByteCredit::bytes).sum();
                prop_assert_eq!(held + budget.free(), budget.total());
            }
        }
    }

    #[test]
    fn more_than_the_whole_budget_goes_alone() {
        let budget = ByteBudget::new(2 * BLOCK);
        let credit = budget.try_reserve(1 << 30).expect("clamped");
        assert_eq!(budget.free(), 0);
        drop(credit);
        assert_eq!(budget.free(), 2 * BLOCK);
    }
}
