//! A whole forwarder between a simulated SLS and a simulated receiver, in virtual time.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use slog::{Drain, KV, Logger, OwnedKVList, Record};
use sls_syslog_actors::config::{Confirmation, DestinationConfig, ForwarderConfig, Protocol, SourceConfig};
use sls_syslog_actors::event::ForwarderEvent;
use sls_syslog_actors::forwarder::{Forwarder, ForwarderHandle};
use sls_syslog_actors::loghub::state::{GroupState, LogstoreState};
use sls_syslog_actors::placement::Placement;
use sls_syslog_actors::ports::{Dial, DialError, Transport};
use sls_syslog_actors::testing::hub::InMemoryHub;
use sls_syslog_actors::testing::local_ports::{LocalPorts, Outside};
use sls_syslog_actors::testing::probe::{Probed, probe};
use sls_syslog_actors::testing::receiver::Receiver;
use tokio::time::Instant;

use crate::tools::*;

/// Part of the message of every panic that a test causes.
pub const PLANNED: &str = "a planned panic";

const CONFIRM_AFTER: Duration = Duration::from_millis(100);
const TIMEOUT: Duration = Duration::from_secs(20);

/// What goes wrong at the receiver's side, as long as it is set.
#[derive(Clone, Default)]
pub struct Wrong {
    /// Each attempt to connect panics: in a connection.
    pub dialing: Rc<Cell<bool>>,
    /// Asking for a dialer panics: in a pipeline.
    pub dialers: Rc<Cell<bool>>,
    /// When somebody asked for a connection, in seconds from the beginning.
    pub dialed: Rc<std::cell::RefCell<Vec<f64>>>,
}

/// A forwarder and what it tells.
pub struct Whole {
    pub handle: ForwarderHandle,
    pub receiver: Receiver,
    pub events: Probed<ForwarderEvent>,
    pub lines: Lines,
    pub wrong: Wrong,
}

impl Whole {
    /// Starts one as `consumer` of a hub; `tune` has the last word on its settings.
    pub fn start(hub: &InMemoryHub, consumer: &str, tune: impl FnOnce(&mut ForwarderConfig)) -> Self {
        let mut source = source();
        source.consumer_name = consumer.into();
        source.heartbeat_interval = seconds(2);
        source.group_timeout_s = SourceConfig::group_timeout_for(source.heartbeat_interval);
        source.drain_timeout = seconds(10);
        let mut destination = DestinationConfig::new("127.0.0.1", Protocol::Tcp);
        (destination.confirm_after_connect, destination.timeout) = (CONFIRM_AFTER, TIMEOUT);
        let mut config = ForwarderConfig::new(source, destination);
        config.limits.workers = 1;
        tune(&mut config);
        let receiver = Receiver::new(1, Confirmation::TcpAcked, CONFIRM_AFTER, TIMEOUT);
        let wrong = Wrong::default();
        let (at_sls, name, group) = (hub.clone(), consumer.to_owned(), config.source.consumer_group.clone());
        let (at_receiver, fails, began) = (receiver.clone(), wrong.clone(), Instant::now());
        let outside = Outside {
            log_hub: Box::new(move || at_sls.client(&group, &name)),
            dialer: Box::new(move |_| {
                assert!(!fails.dialers.get(), "{PLANNED} in a pipeline");
                Rc::new(Dialer { inner: at_receiver.dialer(), wrong: fails.clone(), began })
            }),
            dead_letter: None,
            unix_seconds: Box::new(|| InMemoryHub::START_UNIX_S),
            level: Confirmation::TcpAcked,
        };
        let (told, events) = probe();
        let lines = Lines::default();
        let handle = Forwarder::builder(config)
            .logger(Logger::root(lines.clone().ignore_res(), slog::o!()))
            .events(told)
            .outside(LocalPorts::new(1, outside), Placement::Here { workers: 1 })
            .start()
            .expect("settings that work");
        Self { handle, receiver, events, lines, wrong }
    }

    /// Lets virtual time pass until so many logs are delivered.
    pub async fn delivered(&self, logs: u64) {
        while self.handle.counters().logs_delivered < logs {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    pub async fn stop(self) {
        self.handle.stop().await.expect("it ends well");
    }
}

struct Dialer {
    inner: Rc<dyn Dial>,
    wrong: Wrong,
    began: Instant,
}

impl Dial for Dialer {
    fn dial(&self) -> futures_util::future::LocalBoxFuture<'static, Result<Box<dyn Transport>, DialError>> {
        self.wrong.dialed.borrow_mut().push(self.began.elapsed().as_secs_f64());
        assert!(!self.wrong.dialing.get(), "{PLANNED} in a connection");
        self.inner.dial()
    }
}

/// The lines of a log, each with its message and its keys.
#[derive(Clone, Default)]
pub struct Lines(Arc<Mutex<Vec<String>>>);

impl Lines {
    /// The lines that hold `text`.
    pub fn with(&self, text: &str) -> Vec<String> {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().filter(|line| line.contains(text)).cloned().collect()
    }
}

impl Drain for Lines {
    type Ok = ();
    type Err = slog::Never;

    fn log(&self, record: &Record<'_>, _: &OwnedKVList) -> Result<(), slog::Never> {
        struct Keys(String);
        impl slog::Serializer for Keys {
            fn emit_arguments(&mut self, key: slog::Key, value: &std::fmt::Arguments<'_>) -> slog::Result {
                self.0 += &format!(" {key}={value}");
                Ok(())
            }
        }
        let mut line = Keys(format!("{} {}", record.level().as_short_str(), record.msg()));
        // Nothing above fails.
        let _ = record.kv().serialize(record, &mut line);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(line.0);
        Ok(())
    }
}

/// The logstore of a hub.
pub fn logstore(hub: &InMemoryHub) -> LogstoreState {
    hub.with(|hub, _| hub.logstore_state(InMemoryHub::AT)).expect("it exists")
}

/// The consumer group of a hub.
pub fn group(hub: &InMemoryHub) -> GroupState {
    logstore(hub).groups["group"].clone()
}
