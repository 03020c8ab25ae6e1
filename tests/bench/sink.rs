//! A receiver inside the bench: counts messages, notes when probes arrive, and plays dead when it is told to.

use std::collections::BTreeMap;
use std::io::Read;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use memchr::memmem::Finder;

use crate::harness::for_a_while;
use crate::hub::{Hub, group, log};
use crate::rig::until;

/// Takes messages framed by line feeds, on any number of connections, for as long as the bench runs.
pub struct Sink {
    /// Where it listens.
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    messages: AtomicU64,
    dead: AtomicBool,
    probes: AtomicU32,
    arrived: Mutex<BTreeMap<u32, Instant>>,
}

/// In front of a probe's number, which has [`DIGITS`] digits.
const MARK: &[u8] = b"||probe=";
const DIGITS: usize = 8;
/// Large enough for the connection not to be what is measured.
const BUFFER: usize = 512 << 10;

impl Sink {
    /// Listens on a free port of this address.
    pub fn start(ip: impl Into<IpAddr>) -> Self {
        let listener = TcpListener::bind((ip.into(), 0)).expect("a free port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared::default());
        let ours = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = ours.clone();
                std::thread::spawn(move || shared.read(stream));
            }
        });
        Self { address, shared }
    }

    /// Messages that have arrived so far.
    pub fn messages(&self) -> u64 {
        self.shared.messages.load(Ordering::Relaxed)
    }

    /// From now on it reads nothing, or reads again.
    pub fn play_dead(&self, dead: bool) {
        self.shared.dead.store(dead, Ordering::Relaxed);
    }

    /// When a probe has arrived.
    pub fn arrival(&self, probe: u32) -> Option<Instant> {
        self.shared.arrived.lock().unwrap_or_else(PoisonError::into_inner).get(&probe).copied()
    }
}

impl Shared {
    fn read(&self, mut stream: TcpStream) {
        let (mut buffer, mut kept) = (vec![0; BUFFER], 0);
        let finder = Finder::new(MARK);
        // One byte less than a probe: what is whole has been found.
        let overlap = MARK.len() + DIGITS - 1;
        loop {
            while self.dead.load(Ordering::Relaxed) {
                for_a_while(Duration::from_millis(20));
            }
            let Ok(length @ 1..) = stream.read(&mut buffer[kept..]) else { return };
            let fresh = &buffer[kept..kept + length];
            self.messages.fetch_add(memchr::memchr_iter(b'\n', fresh).count() as u64, Ordering::Relaxed);
            let all = &buffer[..kept + length];
            for at in finder.find_iter(all) {
                let number = all.get(at + MARK.len()..at + MARK.len() + DIGITS);
                if let Some(number) = number.and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok()) {
                    let mut arrived = self.arrived.lock().unwrap_or_else(PoisonError::into_inner);
                    arrived.entry(number).or_insert_with(Instant::now);
                }
            }
            let end = kept + length;
            kept = overlap.min(end);
            buffer.copy_within(end - kept..end, 0);
        }
    }
}

/// Numbered logs that are put one by one, and when.
#[derive(Default)]
pub struct Probes(Vec<(u32, Instant)>);

impl Probes {
    /// Puts one into a shard, on its way to this sink.
    pub fn put(&mut self, hub: &Hub, shard: u32, sink: &Sink) {
        let number = sink.shared.probes.fetch_add(1, Ordering::Relaxed);
        let text = format!("{number:0DIGITS$}");
        self.0.push((number, Instant::now()));
        hub.put(shard, &group(vec![log(&[("probe", text.as_bytes())])]));
    }

    /// Waits until all have arrived; how long each took, ascending.
    pub fn latencies(&self, sink: &Sink) -> Latencies {
        let mut times: Vec<Duration> = self
            .0
            .iter()
            .map(|(number, put)| until("a probe", || sink.arrival(*number)).saturating_duration_since(*put))
            .collect();
        times.sort_unstable();
        Latencies(times)
    }
}

/// Times, ascending.
pub struct Latencies(Vec<Duration>);

impl Latencies {
    /// The time that so many percent do not exceed, in milliseconds.
    pub fn percentile_ms(&self, percent: usize) -> f64 {
        let last = self.0.len().checked_sub(1).expect("at least one probe");
        self.0[(self.0.len() * percent).div_ceil(100).saturating_sub(1).min(last)].as_secs_f64() * 1e3
    }
}
