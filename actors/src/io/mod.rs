//! Adapters to the outside: HTTP client, sockets, TLS. Assembly builds them inside the arbiter that uses them.

pub mod dial;
mod http_tls;
pub mod log_hub;
pub mod system_ports;
pub mod tcp;
pub mod tcp_info;
pub mod udp;
