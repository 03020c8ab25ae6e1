//! Adapters to the outside: HTTP client, sockets, TLS. Assembly builds them inside the arbiter that uses them.

pub mod certificate;
pub mod dead_letter;
pub mod dial;
pub mod files;
mod http_tls;
pub mod log_hub;
pub mod pem;
mod pin;
pub mod probe;
pub(crate) mod relp;
pub mod system_ports;
mod tcp;
mod tcp_info;
mod tls;
mod udp;
