//! The clock, as machines take it: tokio's, so that it stands still and jumps with virtual time.

use std::time::Instant;

/// The monotonic time now.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
