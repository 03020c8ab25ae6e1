//! What one attempt to reach the receiver found on its way, for people who set a forwarder up.

use std::net::SocketAddr;

use rustls::{CipherSuite, ProtocolVersion};

use crate::io::certificate::Facts;
use crate::ports::{DialError, Transport};

/// One attempt, as [`Destination::probe`](super::dial::Destination::probe) makes it: each step as far as it came.
#[non_exhaustive]
pub struct Probe {
    /// What the host name resolved to.
    pub addresses: Vec<SocketAddr>,
    /// The one of them that took the connection; for UDP the one that datagrams would go to.
    pub connected: Option<SocketAddr>,
    /// The receiver's certificates as it showed them, its own first, also where they were refused.
    pub chain: Vec<Facts>,
    /// Version and cipher suite of TLS, once its handshake is complete.
    pub tls: Option<String>,
    /// The open connection, or why there is none. With TLS 1.3 a refused client certificate only shows a moment later,
    /// in [`Transport::poll_closed`].
    pub outcome: Result<Box<dyn Transport>, DialError>,
}

/// What is noted down while a connection opens.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) connected: Option<SocketAddr>,
    /// In DER.
    pub(super) chain: Vec<Vec<u8>>,
    pub(super) version: Option<ProtocolVersion>,
    pub(super) cipher_suite: Option<CipherSuite>,
}

impl Seen {
    pub(super) fn into_probe(self, outcome: Result<Box<dyn Transport>, DialError>) -> Probe {
        let tls = self.version.zip(self.cipher_suite).map(|(version, suite)| format!("{version:?} {suite:?}"));
        let chain = self.chain.iter().map(|der| Facts::of(der)).collect();
        Probe { addresses: self.addresses, connected: self.connected, chain, tls, outcome }
    }
}
