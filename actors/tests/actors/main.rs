//! One actor at a time: its neighbours are probes, SLS and the receiver are simulated, time is virtual. And all of them
//! together where it is about their end.

mod birth;
mod connection;
mod coordinator;
mod dead_letter;
mod fetcher;
mod formatter;
mod own_output;
mod panics;
mod set_aside;
mod tools;
mod whole;
