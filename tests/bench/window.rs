//! A forwarder that catches up with a backlog, measured over a window in the middle: neither its start nor its end counts.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::harness::for_a_while;
use crate::rig::{Forwarder, Settings, Source, until};
use crate::sink::Sink;

/// The forwarder, on its way.
pub struct CatchUp<'a> {
    /// The process.
    pub forwarder: Forwarder,
    sink: &'a Sink,
    /// What the sink had before.
    before: u64,
    logs: f64,
    mb_per_log: f64,
}

/// What happened in the window.
pub struct Window {
    /// MB of raw log groups that arrived.
    pub raw_mb: f64,
    /// Messages that arrived.
    pub messages: f64,
    /// CPU of the forwarder.
    pub cpu_s: f64,
    /// How long it was.
    pub seconds: f64,
}

/// Messages after which a connection is beyond its first second, in which it carries almost nothing.
const WARM: f64 = 2_000.0;
/// Of the backlog, when the window closes early.
const NEARLY_ALL: f64 = 0.9;
/// How often the window is looked at.
const PAUSE: Duration = Duration::from_millis(20);

impl<'a> CatchUp<'a> {
    /// Starts it in this group; `to` leads to the sink.
    pub fn start(source: &Source, group: &str, sink: &'a Sink, to: SocketAddr, settings: Settings) -> Self {
        let ((logs, mb), before) = (source.taken(), sink.messages());
        let forwarder = Forwarder::join(source, group, "forwarder", to, settings);
        Self { forwarder, sink, before, logs, mb_per_log: mb / logs }
    }

    /// Waits until it is at its work.
    pub fn warm_up(&self) {
        let enough = WARM.min(self.logs / 20.0);
        until("a warm connection", || self.forwarder.alive(|| (self.arrived() > enough).then_some(())));
    }

    /// Measures for so long, at most until the backlog is nearly delivered; `meanwhile` is called every 20 ms.
    pub fn watch(&self, time: Duration, mut meanwhile: impl FnMut()) -> Window {
        let (begin, cpu, arrived) = (Instant::now(), self.forwarder.used().cpu_s, self.arrived());
        while begin.elapsed() < time && self.arrived() < self.logs * NEARLY_ALL {
            meanwhile();
            for_a_while(PAUSE);
        }
        let (seconds, messages) = (begin.elapsed().as_secs_f64(), self.arrived() - arrived);
        let cpu_s = self.forwarder.used().cpu_s - cpu;
        assert!(seconds > 0.1, "the backlog is too small for this machine");
        Window { raw_mb: messages * self.mb_per_log, messages, cpu_s, seconds }
    }

    fn arrived(&self) -> f64 {
        (self.sink.messages() - self.before) as f64
    }
}
