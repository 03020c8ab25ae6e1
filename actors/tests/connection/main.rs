//! The sending half: one connection between a scripted formatter and receivers that behave, misbehave and die.

mod relp;
mod rig;
mod simulated;
mod sockets;
mod tls;
