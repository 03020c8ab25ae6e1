//! Consumes SLS (LogHub) shards through a consumer group and delivers them over syslog, with proof.
//!
//! This is the library behind the `sls-syslog` process: all of its actors, for embedding them in an actix application of
//! one's own. It starts no System, sets no logger, catches no signal, reads no environment, and opens no file but those
//! that its settings name.
//!
//! # Quick start
//!
//! [`Forwarder::builder`](forwarder::Forwarder::builder) takes a [`config::ForwarderConfig`] and gives a
//! [`ForwarderHandle`](forwarder::ForwarderHandle) to watch and stop it. This one begins, and ends when it is asked to:
//!
//! ```
//! use sls_syslog_actors::config::{Credentials, DestinationConfig, ForwarderConfig, Protocol, SourceConfig};
//! use sls_syslog_actors::forwarder::Forwarder;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let key = Credentials::new("access-key-id", "access-key-secret");
//! let source = SourceConfig::new("localhost:1", "project", "logstore", "group", key)?;
//! let mut destination = DestinationConfig::new("127.0.0.1", Protocol::Tcp);
//! destination.port = 5140;
//!
//! actix_rt::System::new().block_on(async {
//!     let forwarder = Forwarder::builder(ForwarderConfig::new(source, destination)).start()?;
//!     // It goes on by itself, on threads of its own, until it is stopped or cannot go on.
//!     let totals = forwarder.stop().await?;
//!     println!("{} logs delivered", totals.logs_delivered);
//! #   assert_eq!(totals.logs_delivered, 0);
//!     Ok(())
//! })
//! # }
//! ```
//!
//! # The flow
//!
//! ```text
//!  LogHub <--heartbeat-- Coordinator --starts, drains--> ShardFetcher --pull--> LogHub
//!                            ^                               |   ^
//!                            | CheckpointReady               |   | BatchSettled (by the ticket)
//!                            +-------------------------------+   |
//!                                       FormatBatch + ticket |   |
//!                                                            v   |
//!                                                        Formatter
//!                                               SendBatch + ticket |
//!                                                            v
//!                                                    SyslogConnection (pool)  --frames--> SIEM
//! ```
//!
//! Fetchers move bytes and cursors, formatters turn bytes into frames, connections write frames, and the Coordinator alone
//! commits. The four know each other's [`messages`], not each other.
//!
//! # The manual
//!
//! - [`manual::delivery`]: what is promised, and when a log counts as delivered
//! - [`manual::back_pressure`]: what bounds memory, and which numbers to turn
//! - [`manual::shutdown`]: how it ends, asked to or not
//! - [`manual::embedding`]: a forwarder, or single actors, in an application of one's own
//!
//! # The modules
//!
//! | | |
//! |---|---|
//! | [`forwarder`] | the whole, built from settings and watched through a handle |
//! | [`config`] | the settings, checked |
//! | [`event`], [`error`], [`counters`] | what an application is told |
//! | [`coordinator`], [`fetcher`], [`formatter`], [`connection`] | the four actors |
//! | [`messages`], [`ticket`], [`credit`], [`watch`], [`trouble`] | what actors say to each other, and what bounds and watches them |
//! | [`placement`] | which thread runs what |
//! | [`ports`], [`io`] | what actors need of the outside as traits, and as it really is: HTTP, sockets, TLS |
//! | [`wire`] | functions of bytes: the LogHub protocol, syslog, formats |
//! | [`model`] | shards, cursors and other numbers |
//! | `loghub` | feature `loghub`: SLS in memory |
//! | `testing` | feature `testing`: what tests of an application use, on virtual time |

mod clock;
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
pub mod manual;
pub mod messages;
pub mod model;
mod pipeline;
pub mod placement;
pub mod ports;
#[cfg(feature = "testing")]
pub mod testing;
pub mod ticket;
pub mod trouble;
pub mod watch;
pub mod wire;
