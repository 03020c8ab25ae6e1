//! The receiving half: sockets, TLS and message borders; RELP in a file of its own. What is done with a message is the sink's business.
//!
//! Everything runs on one thread of its own. All that a peer can make us hold is bounded: connections, bytes of a
//! message, bytes of all messages begun, time without traffic, time for a handshake.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustls::ServerConfig;
use sls_syslog_actors::config::Framing;
use sls_syslog_actors::wire::syslog::framing::Deframer;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Notify;
use tokio::task::{LocalSet, spawn_local};
use tokio_rustls::TlsAcceptor;

use super::relp::RelpFaults;

/// What to listen on, and how much to take.
#[derive(Clone)]
pub struct Options {
    /// Address and port; port 0 takes a free one.
    pub listen: SocketAddr,
    /// How messages come.
    pub transport: Transport,
    /// Refuses any other framing; `None` takes that of each connection's first byte.
    pub framing: Option<Framing>,
    /// RELP in the stream instead of a framing.
    pub relp: Option<RelpFaults>,
    /// What a peer can make us hold.
    pub limits: Limits,
}

/// How messages come.
#[derive(Clone)]
pub enum Transport {
    /// One in each datagram.
    Udp,
    /// In a stream.
    Tcp,
    /// In a stream inside TLS.
    Tls(Arc<ServerConfig>),
}

/// What a peer can make us hold.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at once; one more is closed as soon as it is accepted.
    pub connections: usize,
    /// Longest message, in bytes; a longer one ends its connection.
    pub message_bytes: usize,
    /// Bytes of unfinished messages, over all connections; who exceeds it is closed.
    pub memory_bytes: usize,
    /// A connection that says nothing for so long is closed; zero switches the limit off.
    pub idle: Duration,
    /// Time for a TLS handshake.
    pub handshake: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 256,
            message_bytes: 16 << 20,
            memory_bytes: 256 << 20,
            idle: Duration::from_secs(3600),
            handshake: Duration::from_secs(10),
        }
    }
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It was taken.
    Yes,
    /// It was taken, and the receiver ends: it was the last one wanted.
    AsLast,
    /// It was not taken, and the receiver ends.
    No,
}

/// Takes what was received, on the receiver's thread.
pub trait Sink: Send + 'static {
    /// One message without its framing.
    fn message(&mut self, from: SocketAddr, message: &[u8]) -> Taken;
    /// A connection that had to be closed, or was cut within a message.
    fn trouble(&mut self, from: SocketAddr, what: &str);
    /// There is nothing more to read at the moment: time to flush.
    fn pause(&mut self) {}
    /// The sender is about to be told that all messages so far are taken. `Break` tells it nothing and ends the receiver.
    fn settle(&mut self) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

/// Totals since the start.
#[derive(Debug, Default)]
pub struct Totals {
    /// Messages given to the sink.
    pub messages: AtomicU64,
    /// Their bytes, without framing.
    pub message_bytes: AtomicU64,
    /// Bytes read, framing included, TLS not.
    pub bytes: AtomicU64,
    /// Connections accepted.
    pub connections: AtomicU64,
    /// Connections open now.
    pub open: AtomicU64,
    /// Connections closed because there were too many.
    pub refused: AtomicU64,
    /// Connections that ended by an error: framing, limits, TLS, cut.
    pub troubles: AtomicU64,
}

/// A receiver that runs; dropping it ends it.
pub struct Running {
    address: SocketAddr,
    totals: Arc<Totals>,
    stop: Arc<Notify>,
    cut: Arc<Notify>,
    killed: Arc<AtomicBool>,
    ended: Arc<Notify>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its totals, which go on counting.
    pub fn totals(&self) -> &Arc<Totals> {
        &self.totals
    }

    /// Resolves when the sink has ended it.
    pub async fn ended(&self) {
        self.ended.notified().await;
    }

    /// Closes all connections where they are, without a word; new ones are taken.
    pub fn cut(&self) {
        self.cut.notify_waiters();
    }

    /// Ends it as a process ends that is killed: nobody is told, and what was not read yet is gone.
    pub fn kill(mut self) {
        self.killed.store(true, Ordering::Relaxed);
        self.end();
    }

    /// Ends it and waits until the sink is dropped; connections that are open are closed.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.stop.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

/// Listens and gives what comes to `sink`; returns once the address is bound.
pub fn serve(options: Options, sink: Box<dyn Sink>) -> io::Result<Running> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let socket = {
        let _in_runtime = runtime.enter();
        Socket::bind(&options)?
    };
    let (totals, stop, ended) = (Arc::new(Totals::default()), Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (cut, killed) = (Arc::new(Notify::new()), Arc::new(AtomicBool::new(false)));
    let address = socket.address()?;
    let (counted, until, tell) = (totals.clone(), stop.clone(), ended.clone());
    let (cuts, is_killed) = (cut.clone(), killed.clone());
    let work = move || {
        let server = Rc::new(Server { cut: cuts, ..Server::new(options, counted, sink) });
        LocalSet::new().block_on(&runtime, async {
            tokio::select! {
                () = until.notified() => {}
                () = server.broken.notified() => {}
                () = Server::listen(&server, socket) => {}
            }
            if server.options.relp.is_some() && !is_killed.load(Ordering::Relaxed) {
                let _ = tokio::time::timeout(FAREWELL, server.say_farewell()).await;
            }
        });
        server.sink.borrow_mut().pause();
        drop(server);
        tell.notify_one();
    };
    let thread = std::thread::Builder::new().name("receiver".into()).spawn(work)?;
    Ok(Running { address, totals, stop, cut, killed, ended, thread: Some(thread) })
}

/// Serves one peer on a stream that is open already, without TLS, to its end; the error says why it had to be closed.
#[allow(dead_code, reason = "for who has no socket: the process always has one")]
pub async fn converse(
    options: Options,
    sink: Box<dyn Sink>,
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    from: SocketAddr,
) -> Result<(), String> {
    Server::new(options, Arc::default(), sink).speak(stream, from).await
}

enum Socket {
    Stream(TcpListener),
    Datagram(UdpSocket),
}

impl Socket {
    fn bind(options: &Options) -> io::Result<Self> {
        if let Transport::Udp = options.transport {
            let socket = std::net::UdpSocket::bind(options.listen)?;
            // The kernel drops what does not fit; it may grant less than asked.
            let _ = socket2::SockRef::from(&socket).set_recv_buffer_size(8 << 20);
            socket.set_nonblocking(true)?;
            return UdpSocket::from_std(socket).map(Self::Datagram);
        }
        let listener = std::net::TcpListener::bind(options.listen)?;
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener).map(Self::Stream)
    }

    fn address(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Stream(listener) => listener.local_addr(),
            Self::Datagram(socket) => socket.local_addr(),
        }
    }
}

pub(super) struct Server {
    pub(super) options: Options,
    pub(super) totals: Arc<Totals>,
    pub(super) sink: RefCell<Box<dyn Sink>>,
    /// Bytes of messages begun, over all connections.
    held: Cell<usize>,
    /// The sink has had enough.
    pub(super) broken: Notify,
    /// Messages over RELP, those refused included.
    pub(super) relp_messages: Cell<u64>,
    /// RELP sessions have to end, politely.
    pub(super) is_stopping: Cell<bool>,
    pub(super) stopping: Notify,
    /// A connection has ended.
    closed: Notify,
    /// All connections have to end, at once.
    cut: Arc<Notify>,
}

/// Read at once from a stream.
pub(super) const READ_BYTES: usize = 256 << 10;
/// Time for all RELP sessions together to hear that the receiver ends.
const FAREWELL: Duration = Duration::from_secs(2);
/// Reads, or datagrams, that one peer has before the others get their turn.
const READS_PER_TURN: usize = 64;

impl Server {
    fn new(options: Options, totals: Arc<Totals>, sink: Box<dyn Sink>) -> Self {
        Self {
            options,
            totals,
            sink: RefCell::new(sink),
            held: Cell::new(0),
            broken: Notify::new(),
            relp_messages: Cell::new(0),
            is_stopping: Cell::new(false),
            stopping: Notify::new(),
            closed: Notify::new(),
            cut: Arc::default(),
        }
    }

    async fn listen(self: &Rc<Self>, socket: Socket) {
        match socket {
            Socket::Stream(listener) => self.accept(listener).await,
            Socket::Datagram(socket) => self.datagrams(socket).await,
        }
    }

    async fn accept(self: &Rc<Self>, listener: TcpListener) {
        loop {
            let (stream, from) = match listener.accept().await {
                Ok(accepted) => accepted,
                // No descriptors left, or the peer is gone already.
                Err(_) => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    continue;
                }
            };
            if self.totals.open.load(Ordering::Relaxed) >= self.options.limits.connections as u64 {
                self.totals.refused.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            self.totals.connections.fetch_add(1, Ordering::Relaxed);
            self.totals.open.fetch_add(1, Ordering::Relaxed);
            let server = self.clone();
            spawn_local(async move {
                let outcome = tokio::select! {
                    outcome = server.connection(stream, from) => outcome,
                    () = server.cut.notified() => Err("cut, as told".to_owned()),
                };
                if let Err(what) = outcome {
                    server.totals.troubles.fetch_add(1, Ordering::Relaxed);
                    server.sink.borrow_mut().trouble(from, &what);
                }
                server.sink.borrow_mut().pause();
                server.totals.open.fetch_sub(1, Ordering::Relaxed);
                server.closed.notify_one();
            });
        }
    }

    async fn connection(&self, mut stream: TcpStream, from: SocketAddr) -> Result<(), String> {
        match &self.options.transport {
            Transport::Tls(config) => {
                let accept = TlsAcceptor::from(config.clone()).accept(stream);
                let mut stream = tokio::time::timeout(self.options.limits.handshake, accept)
                    .await
                    .map_err(|_| "no TLS handshake in time".to_owned())?
                    .map_err(|e| format!("TLS handshake failed: {e}"))?;
                let outcome = self.speak(&mut stream, from).await;
                let _ = tokio::time::timeout(self.options.limits.handshake, stream.shutdown()).await;
                outcome
            }
            _ => self.speak(&mut stream, from).await,
        }
    }

    async fn speak(&self, stream: &mut (impl AsyncRead + AsyncWrite + Unpin), from: SocketAddr) -> Result<(), String> {
        match self.options.relp {
            Some(faults) => self.relp(stream, from, faults).await,
            None => self.messages(stream, from).await,
        }
    }

    /// Tells RELP sessions to end, and waits until they have.
    async fn say_farewell(&self) {
        self.is_stopping.set(true);
        self.stopping.notify_waiters();
        while self.totals.open.load(Ordering::Relaxed) > 0 {
            self.closed.notified().await;
        }
    }

    /// Reads a stream to its end.
    async fn messages(&self, stream: &mut (impl AsyncRead + Unpin), from: SocketAddr) -> Result<(), String> {
        let longest = self.options.limits.message_bytes;
        let mut deframer = match self.options.framing {
            Some(framing) => Deframer::expecting(framing, longest),
            None => Deframer::new(longest),
        };
        let mut buffer = vec![0; READ_BYTES];
        let mut read_total = 0_u64;
        let mut held = Held::new(self);
        let mut reads = 0;
        loop {
            let n = self.within_idle(stream.read(&mut buffer)).await?.map_err(|e| format!("cannot read: {e}"))?;
            if n == 0 {
                return deframer.end().map_err(|e| e.to_string());
            }
            read_total += n as u64;
            self.totals.bytes.fetch_add(n as u64, Ordering::Relaxed);
            deframer.push(&buffer[..n]);
            self.take_messages(&mut deframer, from)?;
            held.set(usize::try_from(read_total - deframer.position()).unwrap_or(usize::MAX))?;
            reads += 1;
            if n < READ_BYTES || reads % READS_PER_TURN == 0 {
                self.sink.borrow_mut().pause();
                tokio::task::yield_now().await;
            }
        }
    }

    fn take_messages(&self, deframer: &mut Deframer, from: SocketAddr) -> Result<(), String> {
        let mut sink = self.sink.borrow_mut();
        let (mut messages, mut bytes) = (0_u64, 0_u64);
        let outcome = loop {
            match deframer.next() {
                Ok(Some(message)) => {
                    messages += 1;
                    bytes += message.len() as u64;
                    if sink.message(from, message) != Taken::Yes {
                        self.broken.notify_one();
                        break Ok(());
                    }
                }
                Ok(None) => break Ok(()),
                Err(e) => break Err(e.to_string()),
            }
        };
        self.totals.messages.fetch_add(messages, Ordering::Relaxed);
        self.totals.message_bytes.fetch_add(bytes, Ordering::Relaxed);
        match (outcome, self.options.framing, deframer.framing()) {
            (Ok(()), Some(wanted), Some(spoken)) if wanted != spoken => Err(format!("speaks {spoken:?} framing")),
            (outcome, ..) => outcome,
        }
    }

    pub(super) async fn within_idle<T>(&self, work: impl Future<Output = T>) -> Result<T, String> {
        match self.options.limits.idle {
            Duration::ZERO => Ok(work.await),
            idle => tokio::time::timeout(idle, work).await.map_err(|_| format!("silent for {} s", idle.as_secs())),
        }
    }

    async fn datagrams(&self, socket: UdpSocket) {
        let mut buffer = vec![0; 65_536];
        loop {
            if socket.readable().await.is_err() {
                continue;
            }
            for _ in 0..READS_PER_TURN * 16 {
                // A datagram that was refused by its receiver's port shows as an error of the next read; not ours.
                let Ok((n, from)) = socket.try_recv_from(&mut buffer) else { break };
                self.totals.bytes.fetch_add(n as u64, Ordering::Relaxed);
                self.totals.messages.fetch_add(1, Ordering::Relaxed);
                self.totals.message_bytes.fetch_add(n as u64, Ordering::Relaxed);
                if self.sink.borrow_mut().message(from, &buffer[..n]) != Taken::Yes {
                    self.broken.notify_one();
                    return;
                }
            }
            self.sink.borrow_mut().pause();
            tokio::task::yield_now().await;
        }
    }
}

/// One connection's part of the memory of all.
pub(super) struct Held<'a> {
    server: &'a Server,
    bytes: usize,
}

impl<'a> Held<'a> {
    /// Nothing yet.
    pub(super) fn new(server: &'a Server) -> Self {
        Self { server, bytes: 0 }
    }

    pub(super) fn set(&mut self, bytes: usize) -> Result<(), String> {
        let held = &self.server.held;
        held.set(held.get() - self.bytes + bytes);
        self.bytes = bytes;
        if held.get() > self.server.options.limits.memory_bytes {
            return Err("all connections together hold too much of unfinished messages".to_owned());
        }
        Ok(())
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.server.held.set(self.server.held.get() - self.bytes);
    }
}
