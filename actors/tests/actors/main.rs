//! One actor at a time: its neighbours are probes, SLS and the receiver are simulated, time is virtual.

mod connection;
mod coordinator;
mod fetcher;
mod formatter;
mod tools;
