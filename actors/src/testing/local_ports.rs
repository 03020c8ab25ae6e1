//! The outside of a forwarder that lives on the test's own thread.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use slog::Logger;

use crate::config::Confirmation;
use crate::counters::Counters;
use crate::ports::{DeadLetter, Dial, LogHub, WorkerPorts};

/// Makes the outside's parts.
pub struct Outside {
    /// A client of SLS.
    pub log_hub: Box<dyn Fn() -> Rc<dyn LogHub>>,
    /// A dialer of the receiver.
    pub dialer: Box<dyn Fn(Arc<Counters>) -> Rc<dyn Dial>>,
    /// Where logs are kept that the receiver does not take, if anywhere.
    pub dead_letter: Option<Rc<dyn DeadLetter>>,
    /// Wall clock, in unix seconds.
    pub unix_seconds: Box<dyn Fn() -> i64>,
    /// The level at which connections confirm.
    pub level: Confirmation,
}

thread_local! {
    static OUTSIDES: RefCell<HashMap<u64, Rc<Outside>>> = RefCell::new(HashMap::new());
}

static NEXT: AtomicU64 = AtomicU64::new(0);

/// Stands for an [`Outside`], which never leaves the thread where it was made: a port may cross threads, what it makes
/// may not.
#[derive(Debug)]
pub struct LocalPorts {
    key: u64,
    seeds: AtomicU64,
}

impl LocalPorts {
    /// Ports to `outside`, with seeds that follow from `seed`. To be used on this thread only.
    pub fn new(seed: u64, outside: Outside) -> Arc<Self> {
        let key = NEXT.fetch_add(1, Ordering::Relaxed);
        OUTSIDES.with_borrow_mut(|outsides| outsides.insert(key, Rc::new(outside)));
        Arc::new(Self { key, seeds: AtomicU64::new(seed) })
    }

    fn outside(&self) -> Rc<Outside> {
        OUTSIDES
            .with_borrow(|outsides| outsides.get(&self.key).map(Rc::clone))
            .expect("used on the thread it was made on")
    }
}

impl Drop for LocalPorts {
    fn drop(&mut self) {
        // Taken out first: what the outside holds may drop ports of its own.
        let outside = OUTSIDES.try_with(|outsides| outsides.borrow_mut().remove(&self.key));
        drop(outside);
    }
}

impl WorkerPorts for LocalPorts {
    fn log_hub(&self) -> Rc<dyn LogHub> {
        (self.outside().log_hub)()
    }

    fn dialer(&self, counters: Arc<Counters>, _: Logger) -> Rc<dyn Dial> {
        (self.outside().dialer)(counters)
    }

    fn dead_letter(&self, _: Logger) -> Option<Rc<dyn DeadLetter>> {
        self.outside().dead_letter.clone()
    }

    fn level(&self) -> Confirmation {
        self.outside().level
    }

    fn unix_seconds(&self) -> i64 {
        (self.outside().unix_seconds)()
    }

    fn seed(&self) -> u64 {
        self.seeds.fetch_add(1, Ordering::Relaxed)
    }
}
