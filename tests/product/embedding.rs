//! The library in somebody else's process: two forwarders in one System, an output of one's own, a worker that hangs.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Context, Handler};
use sls_syslog_actors::config::{Credentials, DestinationConfig, ForwarderConfig, Framing, Protocol, SourceConfig};
use sls_syslog_actors::error::ForwarderError;
use sls_syslog_actors::event::{Code, ForwarderEvent};
use sls_syslog_actors::forwarder::{Forwarder, ForwarderHandle};
use sls_syslog_actors::io::system_ports::SystemPorts;
use sls_syslog_actors::messages::SendBatch;
use sls_syslog_actors::placement::Placement;
use sls_syslog_actors::wire::syslog::framing::next_frame;

use crate::harness::{Receiver, SECRET, for_a_while};
use crate::hub::{ENDPOINT, Hub, KEY_ID, LOGSTORE, PROJECT};

const LOGS_PER_SHARD: u64 = 500;

fn config(hub: &Hub, group: &str, port: u16) -> ForwarderConfig {
    let key = Credentials::new(KEY_ID, SECRET);
    let endpoint = format!("http://{ENDPOINT}");
    let mut source = SourceConfig::new(&endpoint, PROJECT, LOGSTORE, group, key).expect("an endpoint");
    source.connect = Some(hub.address);
    source.heartbeat_interval = Duration::from_millis(500);
    source.commit_interval = Duration::from_millis(200);
    let mut destination = DestinationConfig::new("127.0.0.1", Protocol::Tcp);
    destination.port = port;
    destination.confirm_after_connect = Duration::from_millis(100);
    let mut config = ForwarderConfig::new(source, destination);
    config.limits.workers = 1;
    config
}

async fn until_delivered(forwarder: &ForwarderHandle, logs: u64) {
    while forwarder.counters().logs_delivered < logs {
        tokio::select! {
            ended = forwarder.ended() => panic!("the forwarder ended: {ended:?}"),
            () = tokio::time::sleep(Duration::from_millis(20)) => {}
        }
    }
}

#[test]
fn two_forwarders_live_in_one_system_and_end_without_it() {
    let hub = Hub::start(2);
    hub.put_numbered(0..LOGS_PER_SHARD, 50);
    let (one, two) = (Receiver::start(&["--mode", "check"]), Receiver::start(&["--mode", "check"]));
    actix_rt::System::new().block_on(async {
        let started = [("one", &one), ("two", &two)].map(|(group, receiver)| {
            Forwarder::builder(config(&hub, group, receiver.address.port())).start().expect("it starts")
        });
        for forwarder in &started {
            tokio::time::timeout(Duration::from_secs(60), until_delivered(forwarder, 2 * LOGS_PER_SHARD))
                .await
                .expect("delivered in time");
        }
        for forwarder in &started {
            let totals = forwarder.stop().await.expect("it ends well");
            assert_eq!((totals.full_mailboxes, totals.gaps), (0, 0));
            assert!(forwarder.status().await.is_none(), "nothing answers after the end");
        }
        // The host's own System still works.
        actix_rt::spawn(async {}).await.expect("the System runs on");
    });
    for receiver in [one, two] {
        let verdict = receiver.finish();
        assert_eq!((&verdict["unique"], &verdict["missing"]), (&(2 * LOGS_PER_SHARD).into(), &0.into()), "{verdict}");
    }
}

/// Keeps messages; a batch is delivered when its last piece is confirmed.
struct OwnOutput {
    messages: Rc<RefCell<Vec<Vec<u8>>>>,
}

impl Actor for OwnOutput {
    type Context = Context<Self>;
}

impl Handler<SendBatch> for OwnOutput {
    type Result = ();

    fn handle(&mut self, piece: SendBatch, _: &mut Context<Self>) {
        let mut rest = &piece.frames[..];
        while let Some((length, message)) = next_frame(Framing::Lf, rest) {
            self.messages.borrow_mut().push(rest[message].to_vec());
            rest = &rest[length..];
        }
        piece.confirmed();
    }
}

#[test]
fn an_application_sends_itself_and_its_settlements_move_the_checkpoints() {
    let hub = Hub::start(2);
    hub.put_numbered(0..LOGS_PER_SHARD, 50);
    let messages = Rc::new(RefCell::new(Vec::new()));
    actix_rt::System::new().block_on(async {
        let output = OwnOutput { messages: Rc::clone(&messages) }.start();
        let forwarder = Forwarder::builder(config(&hub, "own-output", 514))
            .deliver_to(output.recipient())
            .start()
            .expect("it starts");
        tokio::time::timeout(Duration::from_secs(60), until_delivered(&forwarder, 2 * LOGS_PER_SHARD))
            .await
            .expect("delivered in time");
        forwarder.stop().await.expect("it ends well");
    });
    assert_eq!(messages.borrow().len() as u64, 2 * LOGS_PER_SHARD);
    let group = hub.logstore()["groups"]["own-output"].clone();
    let shards = group["shards"].as_array().expect("shards");
    assert!(shards.iter().all(|shard| shard["at_end"] == true), "{group}");
}

/// Keeps what it is told.
struct Listener(Rc<RefCell<Vec<ForwarderEvent>>>);

impl Actor for Listener {
    type Context = Context<Self>;
}

impl Handler<ForwarderEvent> for Listener {
    type Result = ();

    fn handle(&mut self, event: ForwarderEvent, _: &mut Context<Self>) {
        self.0.borrow_mut().push(event);
    }
}

/// L9 for an application: its forwarder's worker stands still. The handle ends with the error, the heartbeats end, and the
/// application goes on. (What blocks here stands for any code that never returns to the worker's thread.)
#[test]
fn l9_a_worker_that_hangs_ends_the_handle_and_the_heartbeats_and_nothing_else() {
    let hub = Hub::start(1);
    hub.put_numbered(0..LOGS_PER_SHARD, 50);
    let receiver = Receiver::start(&["--mode", "check"]);
    let (release, hold) = std::sync::mpsc::channel::<()>();
    let told = Rc::new(RefCell::new(Vec::new()));
    actix_rt::System::new().block_on(async {
        let config = config(&hub, "hanging", receiver.address.port());
        let ports = Arc::new(SystemPorts::new(&config).expect("settings that work"));
        let placement = Placement::threads(1).expect("threads");
        let Placement::Threads { workers, .. } = &placement else { unreachable!("threads were asked for") };
        let worker = workers[0].handle();
        let forwarder = Forwarder::builder(config)
            .events(Listener(Rc::clone(&told)).start().recipient())
            .outside(ports, placement)
            .start()
            .expect("starts");
        tokio::time::timeout(Duration::from_secs(60), until_delivered(&forwarder, LOGS_PER_SHARD))
            .await
            .expect("delivered in time");
        worker.spawn_fn(move || assert!(hold.recv().is_err(), "released by drop"));
        let ended = tokio::time::timeout(Duration::from_secs(55), forwarder.ended()).await.expect("it ends");
        assert!(matches!(ended, Err(ForwarderError::WorkerHung { worker: 0 })), "{ended:?}");
        assert!(forwarder.status().await.is_none(), "nothing answers after the end");
        actix_rt::spawn(async {}).await.expect("the System runs on");
        let told = told.borrow();
        assert!(told.iter().any(|event| matches!(event, ForwarderEvent::Trouble { code: Code::WorkerHung, .. })));
        assert_eq!(told.last(), Some(&ForwarderEvent::Ended));
    });
    let heartbeats = || hub.logstore()["groups"]["hanging"]["heartbeats"].as_u64();
    let silent = heartbeats();
    for_a_while(Duration::from_secs(3));
    assert_eq!(heartbeats(), silent, "somebody else may have its shards");
    drop(release);
    assert_eq!(receiver.finish()["missing"], 0);
}
