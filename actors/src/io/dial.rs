//! Opens connections to the destination: name look-up at each attempt, every address in turn, one limit for all of it.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use crate::config::{Confirmation, DestinationConfig, Protocol};
use crate::counters::Counters;
use crate::io::probe::{Probe, Seen};
use crate::io::relp::{RelpTransport, Wire};
use crate::io::tcp::TcpTransport;
use crate::io::tls::TlsSetup;
use crate::io::udp::UdpTransport;
use crate::io::{relp, tcp, tcp_info};
use crate::ports::{Dial, DialError, Transport};

/// A destination made ready: certificates read, the level of confirmation settled. Crosses threads; each worker makes
/// its own [`Dial`] of it.
#[derive(Clone)]
pub struct Destination {
    config: Arc<DestinationConfig>,
    level: Confirmation,
    way: Way,
}

/// The transport, with what it needs.
#[derive(Clone)]
enum Way {
    Udp,
    Tcp,
    Tls(TlsSetup),
    Relp(Option<TlsSetup>),
}

impl Destination {
    /// Settles the level and reads certificates and keys.
    ///
    /// # Errors
    /// A file that cannot be read or holds no certificate or key.
    pub fn new(config: &DestinationConfig) -> Result<Self, DialError> {
        let way = match config.protocol {
            Protocol::Udp => Way::Udp,
            Protocol::Tcp => Way::Tcp,
            Protocol::Tls => Way::Tls(TlsSetup::new(config)?),
            Protocol::Relp => Way::Relp(None),
            Protocol::RelpTls => Way::Relp(Some(TlsSetup::new(config)?)),
        };
        Ok(Self { config: Arc::new(config.clone()), level: level_for(config), way })
    }

    /// The level at which connections really confirm: below the configured one where the system cannot tell what is
    /// acknowledged, which has to be said at start.
    pub fn level(&self) -> Confirmation {
        self.level
    }

    /// A dialer for one worker.
    pub fn dialer(&self, counters: Arc<Counters>, logger: slog::Logger) -> Rc<dyn Dial> {
        Rc::new(Dialer { destination: self.clone(), counters, logger })
    }

    /// One attempt as a [`Dial`] makes it, with all that it has found on its way; for people who set a forwarder up.
    pub async fn probe(&self, counters: Arc<Counters>, logger: slog::Logger) -> Probe {
        let mut seen = Seen::default();
        let outcome = self.open(counters, logger, &mut seen).await;
        seen.into_probe(outcome)
    }

    async fn open(
        &self,
        counters: Arc<Counters>,
        logger: slog::Logger,
        seen: &mut Seen,
    ) -> Result<Box<dyn Transport>, DialError> {
        let config = &self.config;
        let deadline = Instant::now() + config.timeout;
        Ok(match &self.way {
            Way::Udp => {
                let socket = try_all(config, deadline, seen, UdpTransport::connect).await?;
                Box::new(UdpTransport::new(socket, counters, logger))
            }
            Way::Tls(tls) => {
                let stream = connect_tcp(config, deadline, seen).await?;
                let handshake = tls.handshake(stream, place(config), self.level, seen);
                Box::new(in_time(config, deadline, handshake).await?)
            }
            Way::Relp(None) => {
                let stream = connect_tcp(config, deadline, seen).await?;
                Box::new(open_relp(config, deadline, stream).await?)
            }
            Way::Relp(Some(tls)) => {
                let stream = connect_tcp(config, deadline, seen).await?;
                let handshake = tls.connect(stream, place(config), self.level, seen);
                let stream = in_time(config, deadline, handshake).await?;
                Box::new(open_relp(config, deadline, stream).await?)
            }
            Way::Tcp => Box::new(TcpTransport::new(connect_tcp(config, deadline, seen).await?, self.level)?),
        })
    }
}

/// The strongest level that the transport and this system can tell, up to the configured one.
fn level_for(config: &DestinationConfig) -> Confirmation {
    match config.protocol {
        Protocol::Udp => Confirmation::Sent,
        Protocol::Relp | Protocol::RelpTls => Confirmation::AppAcked,
        Protocol::Tcp | Protocol::Tls => match config.confirmation {
            Confirmation::TcpAcked if tcp_info::counts_acknowledged_bytes() => Confirmation::TcpAcked,
            _ => Confirmation::Written,
        },
    }
}

struct Dialer {
    destination: Destination,
    counters: Arc<Counters>,
    logger: slog::Logger,
}

impl Dial for Dialer {
    fn dial(&self) -> LocalBoxFuture<'static, Result<Box<dyn Transport>, DialError>> {
        let destination = self.destination.clone();
        let (counters, logger) = (Arc::clone(&self.counters), self.logger.clone());
        async move { destination.open(counters, logger, &mut Seen::default()).await }.boxed_local()
    }
}

/// A TLS handshake within what is left of the time.
async fn in_time<T>(
    config: &DestinationConfig,
    deadline: Instant,
    handshake: impl Future<Output = Result<T, DialError>>,
) -> Result<T, DialError> {
    timeout_at(deadline, handshake).await.map_err(|_| {
        DialError(format!(
            "{} did not finish the TLS handshake within {:?} (destination.timeout): it may not speak TLS on this port \
             (destination.port, destination.protocol)",
            place(config),
            config.timeout
        ))
    })?
}

/// RELP's own handshake, the same.
async fn open_relp<S: Wire>(
    config: &DestinationConfig,
    deadline: Instant,
    stream: S,
) -> Result<RelpTransport<S>, DialError> {
    let place = place(config);
    timeout_at(deadline, relp::open(stream, &place, config.relp_window)).await.map_err(|_| {
        DialError(format!(
            "{place} opened no RELP session within {:?} (destination.timeout): it may not speak RELP on this port \
             (destination.port, destination.protocol)",
            config.timeout
        ))
    })?
}

/// The destination as it is shown.
fn place(config: &DestinationConfig) -> String {
    format!("{}:{}", config.host, config.port)
}

async fn connect_tcp(config: &DestinationConfig, deadline: Instant, seen: &mut Seen) -> Result<TcpStream, DialError> {
    try_all(config, deadline, seen, |address| tcp::connect(address, config.timeout)).await
}

/// Looks the host up and tries its addresses in turn; each gets an even share of the time that is left, so that one
/// that does not answer leaves time for the others.
async fn try_all<T, F>(
    config: &DestinationConfig,
    deadline: Instant,
    seen: &mut Seen,
    connect: impl Fn(SocketAddr) -> F,
) -> Result<T, DialError>
where
    F: Future<Output = io::Result<T>>,
{
    let (host, port) = (config.host.as_str(), config.port);
    let addresses: Vec<SocketAddr> = match timeout_at(deadline, tokio::net::lookup_host((host, port))).await {
        Ok(Ok(addresses)) => addresses.collect(),
        Ok(Err(error)) => return Err(DialError(format!("cannot look up {host} (destination.host): {error}"))),
        Err(_) => {
            return Err(DialError(format!(
                "looking up {host} took longer than {:?} (destination.timeout)",
                config.timeout
            )));
        }
    };
    seen.addresses.clone_from(&addresses);
    let mut last = DialError(format!("{host} (destination.host) has no address"));
    for (index, address) in addresses.iter().enumerate() {
        let left = deadline.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(addresses.len() - index).unwrap_or(u32::MAX);
        let place = Place { host, address: *address };
        last = match timeout_at(Instant::now() + share, connect(*address)).await {
            Ok(Ok(connected)) => {
                seen.connected = Some(*address);
                return Ok(connected);
            }
            Ok(Err(error)) => DialError(refused(&place, &error)),
            Err(_) => DialError(format!("{place} did not answer within {share:?} (destination.timeout)")),
        };
    }
    Err(last)
}

/// One sentence for a connect that failed.
fn refused(place: &Place<'_>, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            format!("{place} refuses connections: nothing listens there, or a firewall says so (destination.port)")
        }
        _ => format!("cannot connect to {place}: {error}"),
    }
}

/// A host and the address tried, shown once if they are the same.
struct Place<'a> {
    host: &'a str,
    address: SocketAddr,
}

impl std::fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.host.parse::<std::net::IpAddr>() {
            Ok(_) => write!(f, "{}", self.address),
            Err(_) => write!(f, "{}:{} ({})", self.host, self.address.port(), self.address.ip()),
        }
    }
}
