//! The promises of the product, on the real binary: an embedded LogHub, forwarders, and receivers, real ones where
//! `tests/run` has installed them.

mod chaos;
mod check;
mod clients;
mod dead_letter;
mod delivery;
mod embedding;
mod examples;
mod faults;
mod forwarder;
mod harness;
mod hub;
mod leases;
mod log_file;
mod origin;
mod outage;
mod peers;
mod picture;
mod readme;
mod refusals;
mod relp;
mod rfc3164;
mod sample;
mod set_aside;
mod settings;
mod snapshot;
mod status;
mod takeover;
mod terminal;

#[path = "../../src/certs.rs"]
#[allow(dead_code, reason = "the process uses more of it than the tests")]
mod certs;
