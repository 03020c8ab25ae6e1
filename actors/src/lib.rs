//! The actors of sls-syslog.

pub mod config;
pub mod connection;
pub mod counters;
pub mod credit;
pub mod event;
pub mod io;
#[cfg(feature = "loghub")]
pub mod loghub;
pub mod messages;
pub mod model;
pub mod ports;
#[cfg(feature = "testing")]
pub mod testing;
pub mod ticket;
pub mod watch;
pub mod wire;
