//! Decisions as plain structs: events and times in, answers out.
//!
//! Nothing here knows actix, a clock, a logger or a source of randomness that it was not given; "now" is always an
//! argument. The shells hold one machine each and carry out what it answers.

pub mod aside;
pub mod backoff;
pub mod bad_body;
pub mod commit;
pub mod cursor;
pub mod ids;
pub mod lease;
pub mod ledger;
pub mod outage;
pub mod pacing;
pub mod pull_pace;
pub mod restart;
pub mod routing;
pub mod session;
pub mod shard;
pub mod watchdog;
