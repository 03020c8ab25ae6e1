//! The fault proxy: stands between forwarders and their receiver, passes bytes on, and does to a connection what the
//! plan says.
//!
//! It is the receiver's TCP as far as a forwarder can tell: what its kernel acknowledges counts as delivered at level
//! `tcp_acked`. So a gentle proxy passes on every byte that it was sent, whatever it does to the connection: it
//! half-closes and reads to the end. A rough one throws away what lies unread, and says how much that can be.
//!
//! Each forwarder has a line of its own (a port). A line serves one connection after the other and begins with the next
//! only when the receiver has read the last one to its end: otherwise the receiver, which reads connections side by
//! side, would see what was sent later first.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use futures_util::FutureExt;
use socket2::{Domain, SockRef, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{Instant, sleep, timeout};

use super::plan::Fault;

/// What may become of bytes that were acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manners {
    /// All are passed on.
    Gentle,
    /// Those that lie unread when a connection dies are thrown away.
    Rough,
}

/// How a proxy behaves.
#[derive(Debug, Clone, Copy)]
pub struct Behaviour {
    pub manners: Manners,
    /// The receiver answers messages (RELP): one-way loss concerns the answers.
    pub answers: bool,
    /// How long a silence lasts: longer than the forwarders' patience.
    pub silence: Duration,
    /// Whether a line serves all its connections at once, for a sender that opens several.
    pub side_by_side: bool,
}

/// A proxy that runs; ended by drop.
pub struct Proxy {
    /// The lines, one for each forwarder.
    pub lines: Vec<SocketAddr>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    receiver: SocketAddr,
    behaviour: Behaviour,
    lines: Vec<Line>,
    stop: Notify,
    /// What must not happen.
    troubles: Mutex<Vec<String>>,
}

/// One line.
#[derive(Default)]
struct Line {
    /// What waits for a connection to strike.
    armed: Mutex<VecDeque<Stroke>>,
    /// What waits for the next connection.
    next_accept: Mutex<VecDeque<Welcome>>,
    wake: Notify,
    /// Strokes that are not over.
    open: AtomicU64,
    accepted: AtomicU64,
    refused: AtomicU64,
    forwarded: AtomicU64,
    lossy_bytes: AtomicU64,
}

/// A fault of a connection on its way.
#[derive(Debug, Clone, Copy)]
struct Stroke {
    fault: Fault,
    /// Bytes to pass on before.
    left: u64,
}

/// What a new connection meets.
#[derive(Debug, Clone, Copy)]
enum Welcome {
    Silence,
    End,
}

/// Small, so that little lies unread; the kernel doubles it.
const RECEIVE_BUFFER: usize = 16 << 10;
const CHUNK: usize = 16 << 10;
/// How long a half-open connection lies unread, and a one-way loss that heals lasts: shorter than anybody's patience.
const UNREAD: Duration = Duration::from_millis(700);
const SLOW_FOR: Duration = Duration::from_millis(800);
const SLOW_BYTES: usize = 1024;
const SLOW_PAUSE: Duration = Duration::from_millis(10);
/// Within which everybody ends a connection whose other side was closed.
const TO_THE_END: Duration = Duration::from_secs(30);

fn held<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Proxy {
    /// Listens on so many lines.
    pub fn start(receiver: SocketAddr, lines: usize, behaviour: Behaviour) -> Self {
        let listeners: Vec<_> = (0..lines).map(|_| listen().expect("a port for the proxy")).collect();
        let addresses = listeners.iter().map(|listener| listener.local_addr().unwrap()).collect();
        let shared = Arc::new(Shared {
            receiver,
            behaviour,
            lines: (0..lines).map(|_| Line::default()).collect(),
            stop: Notify::new(),
            troubles: Mutex::default(),
        });
        let ours = shared.clone();
        let work = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            LocalSet::new().block_on(&runtime, async {
                for (index, listener) in listeners.into_iter().enumerate() {
                    spawn_local(serve(ours.clone(), index, TcpListener::from_std(listener).unwrap()));
                }
                ours.stop.notified().await;
            });
        };
        let thread = std::thread::Builder::new().name("fault proxy".into()).spawn(work).unwrap();
        Self { lines: addresses, shared, thread: Some(thread) }
    }

    /// Does this to the line's connection, or to the next one if it has none.
    pub fn strike(&self, line: usize, fault: Fault) {
        let left = match fault {
            Fault::CutMidFrame { after }
            | Fault::HalfOpen { after }
            | Fault::BlackHole { after }
            | Fault::OneWayLoss { after }
            | Fault::SlowReader { after }
            | Fault::Reset { after }
            | Fault::TlsStall { after } => after,
            Fault::AcceptThenDie { .. } => 1,
            other => panic!("{other:?} is nothing that a proxy does"),
        };
        let line = &self.shared.lines[line];
        line.open.fetch_add(1, Ordering::SeqCst);
        held(&line.armed).push_back(Stroke { fault, left });
        line.wake.notify_one();
    }

    /// Whether all that was asked for has been done.
    pub fn is_done(&self) -> bool {
        self.shared.lines.iter().all(|line| line.open.load(Ordering::SeqCst) == 0)
    }

    /// Connections accepted so far.
    pub fn accepted(&self) -> u64 {
        self.sum(|line| &line.accepted)
    }

    /// Connections that ended at once so far, because the receiver was down.
    pub fn refused(&self) -> u64 {
        self.sum(|line| &line.refused)
    }

    /// Bytes passed on to the receiver so far.
    pub fn forwarded(&self) -> u64 {
        self.sum(|line| &line.forwarded)
    }

    /// Bytes passed on so far on one line.
    pub fn forwarded_on(&self, line: usize) -> u64 {
        self.shared.lines[line].forwarded.load(Ordering::SeqCst)
    }

    /// What may have been thrown away so far.
    pub fn lossy_bytes(&self) -> u64 {
        self.sum(|line| &line.lossy_bytes)
    }

    /// What must not have happened.
    pub fn troubles(&self) -> Vec<String> {
        held(&self.shared.troubles).clone()
    }

    fn sum(&self, of: impl Fn(&Line) -> &AtomicU64) -> u64 {
        self.shared.lines.iter().map(|line| of(line).load(Ordering::SeqCst)).sum()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.stop.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn listen() -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
    socket.listen(64)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

async fn serve(shared: Arc<Shared>, index: usize, listener: TcpListener) {
    let one = Rc::new((shared, index));
    loop {
        let Ok((client, _)) = listener.accept().await else { continue };
        let line = &one.0.lines[index];
        line.accepted.fetch_add(1, Ordering::SeqCst);
        let welcome = held(&line.next_accept).pop_front();
        let connection = one.clone();
        let work = async move {
            let served = Connection { shared: &connection.0, line: &connection.0.lines[connection.1] };
            served.run(client, welcome).await;
        };
        if one.0.behaviour.side_by_side {
            spawn_local(work);
        } else {
            work.await;
        }
    }
}

struct Connection<'a> {
    shared: &'a Shared,
    line: &'a Line,
}

/// What a stroke leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum After {
    /// The connection goes on.
    GoesOn,
    /// It is over, and all that was sent has been passed on.
    Over,
    /// It is to end with a reset.
    Dying,
}

/// The four ends of two connections.
struct Ends<'a> {
    from_client: ReadHalf<'a>,
    to_client: WriteHalf<'a>,
    from_receiver: ReadHalf<'a>,
    to_receiver: WriteHalf<'a>,
}

impl Connection<'_> {
    async fn run(&self, mut client: TcpStream, welcome: Option<Welcome>) {
        let rough = self.shared.behaviour.manners == Manners::Rough;
        match welcome {
            Some(Welcome::Silence) => {
                // Nobody has confirmed anything without a handshake, so nothing is lost with it.
                sleep(self.shared.behaviour.silence).await;
                reset(&client);
                self.over();
                return;
            }
            Some(Welcome::End) if rough => {
                self.throw_away(&client);
                self.over();
                return;
            }
            Some(Welcome::End) | None => {}
        }
        let Ok(mut receiver) = TcpStream::connect(self.shared.receiver).await else {
            // As the receiver's system would, a little late. What lies unread may have been acknowledged.
            let mut unread = vec![0; CHUNK * 4];
            let n = client.peek(&mut unread).now_or_never().and_then(Result::ok).unwrap_or(0);
            self.line.lossy_bytes.fetch_add(n as u64, Ordering::SeqCst);
            self.line.refused.fetch_add(1, Ordering::SeqCst);
            reset(&client);
            if self.shared.behaviour.manners == Manners::Gentle {
                self.trouble("the receiver takes no connection");
            }
            return;
        };
        let _ = client.set_nodelay(true);
        let _ = receiver.set_nodelay(true);
        let dying = {
            let (from_client, to_client) = client.split();
            let (from_receiver, to_receiver) = receiver.split();
            let mut ends = Ends { from_client, to_client, from_receiver, to_receiver };
            match welcome {
                Some(_) => {
                    self.read_to_the_end(&mut ends).await;
                    self.over();
                    false
                }
                None => self.pass_on(&mut ends).await,
            }
        };
        if dying {
            self.throw_away(&client);
        }
    }

    /// Passes bytes on until somebody ends or a stroke does; answers whether the client's side is to end with a reset.
    async fn pass_on(&self, ends: &mut Ends<'_>) -> bool {
        let (mut up, mut down) = (vec![0; CHUNK], vec![0; CHUNK]);
        let mut stroke: Option<Stroke> = None;
        loop {
            if stroke.is_none() {
                stroke = held(&self.line.armed).pop_front();
            }
            if let Some(due) = stroke.filter(|stroke| stroke.left == 0) {
                stroke = None;
                match self.strike(due.fault, ends).await {
                    After::GoesOn => continue,
                    After::Over => return false,
                    After::Dying => return true,
                }
            }
            let most = stroke.map_or(CHUNK as u64, |stroke| stroke.left.min(CHUNK as u64)) as usize;
            tokio::select! {
                () = self.line.wake.notified(), if stroke.is_none() => {}
                read = ends.from_client.read(&mut up[..most]) => {
                    let n = read.unwrap_or(0);
                    if n > 0 && self.forward(ends, &up[..n]).await {
                        if let Some(stroke) = stroke.as_mut() {
                            stroke.left -= n as u64;
                        }
                        continue;
                    }
                    self.put_back(stroke);
                    self.wait_for_the_receivers_end(ends).await;
                    // Bytes that the receiver did not take are gone.
                    return n > 0;
                }
                read = ends.from_receiver.read(&mut down) => {
                    let n = read.unwrap_or(0);
                    if n > 0 {
                        // A client that has gone shows when it is read from.
                        let _ = ends.to_client.write_all(&down[..n]).await;
                        continue;
                    }
                    self.put_back(stroke);
                    return self.the_receiver_has_ended(ends).await;
                }
            }
        }
    }

    /// It was killed, or has been told that no more comes; answers whether the client's side is to end with a reset.
    async fn the_receiver_has_ended(&self, ends: &mut Ends<'_>) -> bool {
        if self.shared.behaviour.manners == Manners::Rough {
            return true;
        }
        let _ = ends.to_client.shutdown().await;
        let mut up = vec![0; CHUNK];
        let left = timeout(TO_THE_END, ends.from_client.read(&mut up)).await;
        if !matches!(left, Ok(Ok(0) | Err(_))) {
            self.trouble("the receiver ended a connection that was not at its end");
        }
        false
    }

    /// The connection has ended before it could be struck: the next one will be.
    fn put_back(&self, stroke: Option<Stroke>) {
        if let Some(stroke) = stroke {
            held(&self.line.armed).push_front(stroke);
            self.line.wake.notify_one();
        }
    }

    async fn forward(&self, ends: &mut Ends<'_>, bytes: &[u8]) -> bool {
        let taken = ends.to_receiver.write_all(bytes).await.is_ok();
        if taken {
            self.line.forwarded.fetch_add(bytes.len() as u64, Ordering::SeqCst);
        } else if self.shared.behaviour.manners == Manners::Gentle {
            self.trouble("the receiver took no more");
        }
        taken
    }

    async fn strike(&self, fault: Fault, ends: &mut Ends<'_>) -> After {
        let Behaviour { manners, answers, silence, .. } = self.shared.behaviour;
        let gentle = manners == Manners::Gentle;
        let after = match fault {
            Fault::HalfOpen { .. } if gentle => {
                let _ = ends.to_client.shutdown().await;
                sleep(UNREAD).await;
                self.read_to_the_end(ends).await;
                After::Over
            }
            Fault::BlackHole { .. } if gentle => {
                sleep(silence).await;
                self.read_to_the_end(ends).await;
                After::Over
            }
            Fault::HalfOpen { .. } | Fault::BlackHole { .. } => {
                // The receiver's side is gone at once, or when the hole closes.
                if matches!(fault, Fault::BlackHole { .. }) {
                    sleep(silence).await;
                    self.wait_for_the_receivers_end(ends).await;
                } else {
                    self.wait_for_the_receivers_end(ends).await;
                    sleep(silence).await;
                }
                After::Dying
            }
            Fault::OneWayLoss { .. } if answers => {
                let _ = timeout(silence, self.pass_on_without_answers(ends)).await;
                self.wait_for_the_receivers_end(ends).await;
                After::Dying
            }
            Fault::OneWayLoss { .. } => {
                sleep(UNREAD).await;
                After::GoesOn
            }
            Fault::SlowReader { .. } => self.read_slowly(ends).await,
            Fault::Reset { .. } => {
                self.wait_for_the_receivers_end(ends).await;
                After::Dying
            }
            Fault::TlsStall { .. } => {
                self.read_to_the_end(ends).await;
                held(&self.line.next_accept).push_back(Welcome::Silence);
                self.line.open.fetch_add(1, Ordering::SeqCst);
                After::Over
            }
            Fault::AcceptThenDie { times } => {
                self.read_to_the_end(ends).await;
                held(&self.line.next_accept).extend((0..times).map(|_| Welcome::End));
                self.line.open.fetch_add(u64::from(times), Ordering::SeqCst);
                After::Over
            }
            _ => {
                self.read_to_the_end(ends).await;
                After::Over
            }
        };
        self.over();
        after
    }

    async fn pass_on_without_answers(&self, ends: &mut Ends<'_>) {
        let (mut up, mut down) = (vec![0; CHUNK], vec![0; CHUNK]);
        let (mut client_open, mut receiver_open) = (true, true);
        while client_open || receiver_open {
            tokio::select! {
                read = ends.from_client.read(&mut up), if client_open => {
                    let n = read.unwrap_or(0);
                    client_open = n > 0 && self.forward(ends, &up[..n]).await;
                }
                read = ends.from_receiver.read(&mut down), if receiver_open => receiver_open = read.is_ok_and(|n| n > 0),
            }
        }
    }

    async fn read_slowly(&self, ends: &mut Ends<'_>) -> After {
        let (mut up, mut down) = (vec![0; SLOW_BYTES], vec![0; CHUNK]);
        let until = Instant::now() + SLOW_FOR;
        while Instant::now() < until {
            tokio::select! {
                read = ends.from_client.read(&mut up) => match read {
                    Ok(n) if n > 0 && self.forward(ends, &up[..n]).await => sleep(SLOW_PAUSE).await,
                    // It shows again to whoever reads next.
                    _ => return After::GoesOn,
                },
                read = ends.from_receiver.read(&mut down) => match read {
                    Ok(n) if n > 0 => drop(ends.to_client.write_all(&down[..n]).await),
                    _ => return After::GoesOn,
                },
                () = tokio::time::sleep_until(until) => {}
            }
        }
        After::GoesOn
    }

    /// Half-closes, passes on all that still comes, and waits until the receiver has read it.
    async fn read_to_the_end(&self, ends: &mut Ends<'_>) {
        let _ = ends.to_client.shutdown().await;
        let (mut up, mut down) = (vec![0; CHUNK], vec![0; CHUNK]);
        let all = async {
            let mut receiver_open = true;
            loop {
                tokio::select! {
                    read = ends.from_client.read(&mut up) => {
                        let n = read.unwrap_or(0);
                        if n == 0 || !self.forward(ends, &up[..n]).await {
                            return;
                        }
                    }
                    read = ends.from_receiver.read(&mut down), if receiver_open => {
                        receiver_open = read.is_ok_and(|n| n > 0);
                    }
                }
            }
        };
        if timeout(TO_THE_END, all).await.is_err() {
            self.trouble("a forwarder did not end a connection whose other side was closed");
        }
        self.wait_for_the_receivers_end(ends).await;
    }

    /// Lets the receiver read what it was sent, and waits until it has.
    async fn wait_for_the_receivers_end(&self, ends: &mut Ends<'_>) {
        let _ = ends.to_receiver.shutdown().await;
        let mut down = vec![0; CHUNK];
        let end = async { while ends.from_receiver.read(&mut down).await.is_ok_and(|n| n > 0) {} };
        if timeout(TO_THE_END, end).await.is_err() {
            self.trouble("the receiver did not end a connection that was closed");
        }
    }

    /// Ends a client's connection with a reset, and what lies unread with it.
    fn throw_away(&self, client: &TcpStream) {
        let unread = SockRef::from(client).recv_buffer_size().unwrap_or(0);
        self.line.lossy_bytes.fetch_add(unread as u64, Ordering::SeqCst);
        reset(client);
    }

    fn over(&self) {
        self.line.open.fetch_sub(1, Ordering::SeqCst);
    }

    fn trouble(&self, what: &str) {
        held(&self.shared.troubles).push(what.to_owned());
    }
}

/// From now on its end is a reset.
fn reset(client: &TcpStream) {
    let _ = SockRef::from(client).set_linger(Some(Duration::ZERO));
}
