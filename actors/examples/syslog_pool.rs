//! A Formatter and a pool of SyslogConnections behind an actor of one's own: the logs are the host's, SLS plays no part.
//!
//! The `Host` has one batch of each stream on its way and sends it again until it is delivered: so nothing is lost, and each
//! stream keeps its order. The receiver reads TCP in this process; the example ends when every message has arrived.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use prost::Message as _;
use slog::{Logger, o};
use sls_syslog_actors::config::{DestinationConfig, Protocol};
use sls_syslog_actors::connection::{ConnectionParts, GapFacts, SyslogConnection};
use sls_syslog_actors::counters::Counters;
use sls_syslog_actors::credit::{ByteBudget, Credits};
use sls_syslog_actors::formatter::{ConnectionHandle, Formatter, FormatterParts};
use sls_syslog_actors::io::dial::Destination;
use sls_syslog_actors::messages::*;
use sls_syslog_actors::model::{cursor::Cursor, ids::*};
use sls_syslog_actors::ticket::{FailedFrom, Ticket};
use sls_syslog_actors::watch::{ActorName, ExitGuard};
use sls_syslog_actors::wire::format::RenderSettings;
use sls_syslog_actors::wire::sls::proto::{Content, Log, LogGroup, LogGroupList};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpListener;

const STREAMS: u32 = 8;
const BATCHES: u64 = 25;
const LOGS: u64 = 50;

/// Makes batches, and watches those who send them.
struct Host {
    formatter: Recipient<FormatBatch>,
    bodies: ByteBudget,
    connections: Vec<Addr<SyslogConnection>>,
    streams_left: u32,
}

impl Host {
    fn new(destination: &DestinationConfig, myself: &Addr<Self>) -> Self {
        let (receiver, counters) = (Destination::new(destination).expect("no files"), Arc::new(Counters::default()));
        let log = Logger::root(slog::Discard, o!());
        let dial = receiver.dialer(Arc::clone(&counters), log.clone());
        // As many pieces may be unconfirmed as a connection's mailbox holds, and as many batches as the formatter's.
        let (pieces, batches) = (16, STREAMS as usize);
        let connection = |index| ConnectionParts {
            worker: 0,
            index,
            dial: Rc::clone(&dial),
            level: receiver.level(),
            mailbox: pieces,
            pace: None,
            gap_facts: GapFacts { project: "none".into(), logstore: "none".into(), unix_seconds: Rc::new(|| 0) },
            receiver_changed: myself.clone().recipient(),
            counters: Arc::clone(&counters),
            logger: log.clone(),
            seed: index as u64,
            guard: ExitGuard::new(ActorName::SyslogConnection { worker: 0, index }, myself.clone().recipient()),
        };
        let pool =
            (0..destination.connections).map(|index| SyslogConnection::new(destination, connection(index)).launch());
        let connections: Vec<_> = pool.collect();
        let handle = |to: &Addr<_>| ConnectionHandle { send: to.clone().recipient(), credits: Credits::new(pieces) };
        let formatter = Formatter::new(FormatterParts {
            mailbox: batches,
            piece_bytes: 1 << 20,
            settings: RenderSettings::from(destination),
            connections: connections.iter().map(handle).collect(),
            budget: ByteBudget::new(16 << 20),
            counters,
            log,
            guard: ExitGuard::new(ActorName::Formatter { worker: 0 }, myself.clone().recipient()),
        });
        let (formatter, bodies) = (formatter.launch().recipient(), ByteBudget::new(16 << 20));
        Self { formatter, bodies, connections, streams_left: STREAMS }
    }

    fn send(&mut self, stream: u32, batch: u64, ctx: &mut Context<Self>) {
        let field = |key: &'static str, value: u64| Content { key: key.into(), value: value.to_string().into() };
        let contents = |n| vec![field("stream", stream.into()), field("n", batch * LOGS + n)];
        let log = |n| Log { time: 1_795_478_400, contents: contents(n), time_ns: None };
        let group = LogGroup { logs: (0..LOGS).map(log).collect(), ..LogGroup::default() };
        let bytes = LogGroupList { log_groups: vec![group] }.encode_to_vec();
        let credit = self.bodies.try_reserve(bytes.len()).expect("room for a batch of each stream");
        // A stream is a shard to the library: what has the same number goes the same way.
        let numbers = (ShardId(stream), Epoch(1), Generation(0), Sequence(batch));
        let ticket = Ticket::new(numbers, FailedFrom::none(), ctx.address().recipient(), None);
        let content = BatchContent::Body(PulledBody::of_list(bytes.into(), 1, credit));
        // What is not taken is dropped with its ticket, and comes back as failed.
        let from = Cursor::new("none").expect("a text");
        let _ = self.formatter.try_send(FormatBatch { from, content, ticket });
    }
}

impl Actor for Host {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        (0..STREAMS).for_each(|stream| self.send(stream, 0, ctx));
    }
}

impl Handler<BatchSettled> for Host {
    type Result = ();

    fn handle(&mut self, BatchSettled { shard, sequence, outcome, .. }: BatchSettled, ctx: &mut Context<Self>) {
        match outcome {
            Outcome::Delivered { .. } if sequence.0 + 1 < BATCHES => self.send(shard.0, sequence.0 + 1, ctx),
            Outcome::Delivered { .. } => self.streams_left -= 1,
            Outcome::Failed(_) => {
                ctx.run_later(Duration::from_millis(200), move |host, ctx| host.send(shard.0, sequence.0, ctx));
            }
        }
        if self.streams_left == 0 {
            let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
            self.connections.drain(..).for_each(|connection| connection.do_send(CloseConnection { deadline }));
        }
    }
}

impl Handler<ReceiverChanged> for Host {
    type Result = ();

    fn handle(&mut self, changed: ReceiverChanged, _: &mut Context<Self>) {
        println!("connection {}: {:?}", changed.index, changed.state);
    }
}

impl Handler<ActorEnded> for Host {
    type Result = ();

    fn handle(&mut self, ended: ActorEnded, _: &mut Context<Self>) {
        // Whoever wants to go on starts all of them anew: what they held has failed by itself.
        assert!(!ended.panicked, "the {} ended by a panic", ended.actor);
    }
}

/// Keeps each message, one a line, of each connection.
async fn receive(listener: TcpListener, messages: Rc<RefCell<BTreeSet<String>>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (messages, mut lines) = (Rc::clone(&messages), BufReader::new(stream).lines());
        actix_rt::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                messages.borrow_mut().insert(line);
            }
        });
    }
}

#[actix_rt::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (listener, messages) = (TcpListener::bind("127.0.0.1:0").await?, Rc::default());
    let mut destination = DestinationConfig::new("127.0.0.1", Protocol::Tcp);
    destination.port = listener.local_addr()?.port();
    destination.connections = 2;
    destination.confirm_after_connect = Duration::from_millis(100);
    actix_rt::spawn(receive(listener, Rc::clone(&messages)));
    let host = Host::create(|ctx| Host::new(&destination, &ctx.address()));

    let all = u64::from(STREAMS) * BATCHES * LOGS;
    tokio::time::timeout(Duration::from_secs(60), async {
        while (messages.borrow().len() as u64) < all {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await?;
    assert!(host.connected(), "the host's actor has panicked");
    println!("{all} messages arrived over {} connections", destination.connections);
    Ok(())
}
