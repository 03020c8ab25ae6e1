//! Adapters to the outside: HTTP client, sockets, TLS. Assembly builds them inside the arbiter that uses them.

pub mod dial;
pub mod tcp;
pub mod tcp_info;
pub mod udp;
