//! The actors of sls-syslog.

pub mod config;
pub mod connection;
pub mod coordinator;
pub mod counters;
pub mod credit;
pub mod error;
pub mod event;
pub mod fetcher;
pub mod formatter;
pub mod forwarder;
pub mod io;
#[cfg(feature = "loghub")]
pub mod loghub;
pub mod messages;
pub mod model;
pub mod pipeline;
pub mod placement;
pub mod ports;
#[cfg(feature = "testing")]
pub mod testing;
pub mod ticket;
pub mod trouble;
pub mod watch;
pub mod wire;
