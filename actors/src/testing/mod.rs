//! What tests use: scripted peers, probes, fault plans, virtual time. Nothing in production imports it.

pub mod hub;
