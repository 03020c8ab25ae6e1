//! What tests use: scripted peers, probes, fault plans, virtual time. Nothing in production imports it.
//!
//! [`runtime`] runs a scenario on one thread under virtual time. [`hub`] is SLS and [`receiver`] the SIEM;
//! [`local_ports`] hands both to a forwarder. [`watched_hub`] and [`invariants`] look on and check the promises,
//! [`faults`] says what goes wrong when, [`layers`] put something over a port, and [`simulation`] puts it all together, reproducible by its seed.
//! [`probe`] stands in for the neighbours of a single actor, and [`seams`] lead into what is private.

pub mod body_memory;
pub mod dead_letter;
pub mod faults;
pub mod hub;
pub mod invariants;
pub mod layers;
pub mod local_ports;
pub mod probe;
pub mod receiver;
pub mod runtime;
mod sabotage;
pub mod seams;
pub mod simulation;
pub mod watched_hub;
