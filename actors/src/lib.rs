//! Consumes SLS (LogHub) shards through a consumer group and delivers them over syslog, with proof.
//!
//! This is the library behind the `sls-syslog` process: all of its actors, for embedding them in an application of
//! one's own. It starts no System, sets no logger, catches no signal, reads no environment, and opens no file but those
//! that its settings name.
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
//! [`coordinator`], [`fetcher`], [`formatter`] and [`connection`] are the four actors: thin shells over the plain
//! machines of [`model`], which take every decision. They know each other's [`messages`], not each other. [`wire`] turns
//! bytes into bytes, [`io`] owns sockets and HTTP behind the traits of [`ports`].
//!
//! # Embedding
//!
//! [`Forwarder::builder`](forwarder::Forwarder::builder) takes a [`config::ForwarderConfig`] and gives a
//! [`ForwarderHandle`](forwarder::ForwarderHandle) to watch and stop it. Several forwarders may run in one System.
//! `examples/embed.rs` puts one into an actix-web application.
//!
//! # What may be relied on
//!
//! A log that SLS still holds is delivered at least once, in order within its shard, or it is in the dead letter
//! ([`config::DeadLetterConfig`], off unless a path is given), or a gap record names it. A checkpoint never passes a log
//! for which none of these holds. A batch travels with its
//! [`ticket`](ticket::Ticket), which settles once, delivered or failed, and fails by being dropped: so a panic or a
//! forgotten branch is a repetition, never a loss. A slow receiver costs latency only: work in flight is bounded by
//! [`credit`], counted in batches, pieces and bytes.
//!
//! When a batch counts as delivered is [`config::Confirmation`]'s word. `tcp_acked` means that the peer's TCP has
//! acknowledged every byte and the connection was found open afterwards; what a receiver loses that dies with
//! acknowledged bytes unread, or what a balancer acknowledges for it, is not covered by that. `app_acked` (RELP) means
//! that the receiver's application has answered every message.

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
