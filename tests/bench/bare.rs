//! The path of a log without what keeps the promise: pull, decompress, render, write, one task a shard on one thread. No
//! actors, bounds of memory, checkpoints or confirmation.
//!
//! What the forwarder reaches of its rate, measured beside it, is what the promise leaves; and that figure is the same on a
//! machine that is slow today. It is made of the forwarder's own client, renderer and sockets, so it says nothing of how good
//! those are: `cargo bench -p sls-syslog-actors` does.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use chrono::Utc;
use slog::Logger;
use sls_syslog_actors::config::{Credentials, DestinationConfig, Framing, Protocol, Signature, SourceConfig};
use sls_syslog_actors::io::dial::Destination;
use sls_syslog_actors::io::log_hub::{SlsClient, SlsSetup};
use sls_syslog_actors::model::cursor::StartPosition;
use sls_syslog_actors::model::ids::ShardId;
use sls_syslog_actors::ports::{LogHub, Transport};
use sls_syslog_actors::wire::format::{Position, RenderSettings, Renderer};
use sls_syslog_actors::wire::sls::body::decompress;
use tokio::sync::Mutex;

use crate::harness::{Folder, Process, SECRET};
use crate::hub::{ENDPOINT, KEY_ID, LOGSTORE, PROJECT};
use crate::rig::{Source, Used, delivered, receiver, until};

/// What the bench is started with in a process of its own, for this.
pub const PART: &str = "bare";
/// As by default.
const LOG_GROUPS: u32 = 1000;
const PIECE: usize = 4 << 20;

/// Has a process deliver all that the source has, by TCP or TLS; MB per CPU-second.
pub fn run_through(source: &Source, protocol: &str) -> f64 {
    let certs = Folder::new(PART);
    let (receiver, _) = receiver(protocol, certs.path());
    let mut command = Command::new(std::env::current_exe().expect("a path"));
    let (hub, to) = (source.hub.address.to_string(), receiver.address.to_string());
    command.args([PART, protocol, &hub, &to, &source.logstore().shards.len().to_string()]).arg(certs.path());
    let process = Process::start(PART, &mut command);
    let line = until("the end of the bare path", || process.stdout().first().cloned());
    let cpu_s: f64 = line.parse().unwrap_or_else(|_| panic!("{line}"));
    delivered(source, receiver).0 / cpu_s
}

/// The process that was started so.
pub fn work(arguments: &[&str]) {
    let [protocol, hub, to, shards, certs] = arguments else { panic!("five arguments, not {arguments:?}") };
    let (hub, to): (SocketAddr, SocketAddr) = (hub.parse().expect("an address"), to.parse().expect("an address"));
    let shards: u32 = shards.parse().expect("a number");
    actix_rt::System::new().block_on(deliver(protocol, hub, to, shards, Path::new(certs)));
    println!("{}", Used::of(std::process::id()).cpu_s);
}

async fn deliver(protocol: &str, hub: SocketAddr, to: SocketAddr, shards: u32, certs: &Path) {
    let key = Credentials::new(KEY_ID, SECRET);
    let mut source =
        SourceConfig::new(&format!("http://{ENDPOINT}"), PROJECT, LOGSTORE, "bare", key).expect("settings of a source");
    source.connect = Some(hub);
    source.signature = Signature::V4 { region: "cn-hangzhou".into() };
    let client = SlsClient::new(Arc::new(SlsSetup::new(&source).expect("a client")), Utc::now);

    let is_tls = protocol == "tls";
    let mut destination =
        DestinationConfig::new(to.ip().to_string(), if is_tls { Protocol::Tls } else { Protocol::Tcp });
    (destination.port, destination.framing) = (to.port(), Framing::OctetCounting);
    (destination.hostname, destination.tag) = ("forwarder-1".into(), "sls".into());
    destination.tls.ca_path = is_tls.then(|| certs.join("ca.pem"));
    destination.tls.client = is_tls.then(|| (certs.join("client.pem"), certs.join("client-key.pem")));
    let dialer = Destination::new(&destination).expect("a destination");
    let dialer = dialer.dialer(Arc::default(), Logger::root(slog::Discard, slog::o!()));
    let connection = Mutex::new(dialer.dial().await.expect("a receiver"));

    let all = (0..shards).map(|shard| {
        let renderer = Renderer::new(RenderSettings::from(&destination));
        deliver_shard(&client, ShardId(shard), renderer, &connection)
    });
    futures_util::future::join_all(all).await;
    let mut connection = connection.into_inner();
    poll_fn(|cx| connection.poll_shutdown(cx)).await.expect("an end");
    poll_fn(|cx| connection.poll_closed(cx)).await.expect("a receiver that has read all");
}

async fn deliver_shard(
    client: &SlsClient,
    shard: ShardId,
    mut renderer: Renderer,
    connection: &Mutex<Box<dyn Transport>>,
) {
    let mut cursor = client.get_cursor(shard, StartPosition::Begin).await.expect("a cursor");
    let (mut buffer, mut frames) = (Vec::new(), Vec::with_capacity(PIECE));
    loop {
        let reply = client.pull_logs(shard, &cursor, LOG_GROUPS).await.expect("log groups");
        if reply.head.count == 0 {
            return;
        }
        cursor = reply.head.next_cursor.expect("a cursor");
        let body = reply.body.read(usize::MAX).await.expect("a body");
        let raw = decompress(&body, reply.head.compression, reply.head.raw_size, &mut buffer).expect("a body");
        let mut position = Position::default();
        loop {
            frames.clear();
            let done = renderer.render(raw, &mut position, &mut frames, PIECE).expect("log groups").done;
            let mut connection = connection.lock().await;
            let mut written = 0;
            while written < frames.len() {
                written += poll_fn(|cx| connection.poll_write(cx, &frames[written..])).await.expect("a receiver");
            }
            if done {
                break;
            }
        }
    }
}
