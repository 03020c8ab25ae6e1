//! Decisions as plain structs: events and times in, answers out.
//!
//! Nothing here knows actix, a clock, a logger or a source of randomness that it was not given; "now" is always an
//! argument. The shells hold one machine each and carry out what it answers.

pub(crate) mod aside;
pub(crate) mod backoff;
pub(crate) mod bad_body;
pub(crate) mod commit;
pub mod cursor;
pub mod ids;
pub(crate) mod lease;
pub(crate) mod ledger;
pub(crate) mod outage;
pub(crate) mod pacing;
pub(crate) mod pull_pace;
pub(crate) mod restart;
pub(crate) mod routing;
pub(crate) mod session;
pub(crate) mod shard;
pub(crate) mod watchdog;
