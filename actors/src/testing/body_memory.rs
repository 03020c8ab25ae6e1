//! How much a forwarder holds of bodies.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

/// Counts the bodies that a forwarder holds, each with the raw log groups that it stands for.
#[derive(Debug, Clone, Default)]
pub struct BodyMemory(Arc<Held>);

#[derive(Debug, Default)]
struct Held {
    now: AtomicUsize,
    most: AtomicUsize,
    largest: AtomicUsize,
}

/// A body that is counted while anybody holds it.
struct HeldBody {
    bytes: Bytes,
    size: usize,
    held: Arc<Held>,
}

impl BodyMemory {
    /// Counts `bytes`, and what they become once decompressed, until they are dropped.
    pub fn hold(&self, bytes: Bytes, raw_size: usize) -> Bytes {
        let size = bytes.len() + raw_size;
        let now = self.0.now.fetch_add(size, Ordering::Relaxed) + size;
        self.0.most.fetch_max(now, Ordering::Relaxed);
        self.0.largest.fetch_max(size, Ordering::Relaxed);
        Bytes::from_owner(HeldBody { bytes, size, held: Arc::clone(&self.0) })
    }

    /// The most that was ever held at once, and the largest body of all.
    pub fn peak(&self) -> (usize, usize) {
        (self.0.most.load(Ordering::Relaxed), self.0.largest.load(Ordering::Relaxed))
    }

    /// Bytes held now.
    pub fn held(&self) -> usize {
        self.0.now.load(Ordering::Relaxed)
    }
}

impl AsRef<[u8]> for HeldBody {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for HeldBody {
    fn drop(&mut self) {
        self.held.now.fetch_sub(self.size, Ordering::Relaxed);
    }
}
