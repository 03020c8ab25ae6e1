//! A forwarder whose host sends the messages itself, and makes the mistakes that a host can make: nothing is lost by them.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use actix::prelude::*;
use sls_syslog_actors::config::{Confirmation, DestinationConfig, ForwarderConfig, Framing, Protocol, SourceConfig};
use sls_syslog_actors::event::{Code, ForwarderEvent};
use sls_syslog_actors::forwarder::{Forwarder, ForwarderHandle};
use sls_syslog_actors::loghub::Route;
use sls_syslog_actors::messages::SendBatch;
use sls_syslog_actors::placement::Placement;
use sls_syslog_actors::testing::hub::InMemoryHub;
use sls_syslog_actors::testing::local_ports::{LocalPorts, Outside};
use sls_syslog_actors::testing::probe::{Probed, probe};
use sls_syslog_actors::testing::runtime::{VirtualTime, run};
use sls_syslog_actors::wire::syslog::framing::next_frame;

use crate::tools::*;
use crate::whole::{PLANNED, group};

/// Logs, in groups that make more than one piece each.
const LOGS: usize = 60_000;
const LOGS_PER_GROUP: usize = 3000;

/// How often each log was kept.
type Kept = Rc<RefCell<BTreeMap<usize, u32>>>;
/// What is done with the nth piece. Whoever does not drop it confirms it.
type Deed = Box<dyn FnMut(usize, SendBatch, &mut Output, &mut Context<Output>)>;

/// The host's output: keeps what it confirms.
struct Output {
    kept: Kept,
    pieces: usize,
    /// Pieces that are confirmed later.
    held: Vec<SendBatch>,
    deed: Option<Deed>,
}

impl Output {
    fn keep(&self, piece: SendBatch) {
        let mut rest = &piece.frames[..];
        while let Some((length, message)) = next_frame(Framing::Lf, rest) {
            let text = std::str::from_utf8(&rest[message]).expect("text");
            let number = text.rsplit_once("n=").and_then(|(_, number)| number.parse().ok()).expect("a number");
            *self.kept.borrow_mut().entry(number).or_default() += 1;
            rest = &rest[length..];
        }
        piece.confirmed();
    }
}

impl Actor for Output {
    type Context = Context<Self>;
}

impl Handler<SendBatch> for Output {
    type Result = ();

    fn handle(&mut self, piece: SendBatch, ctx: &mut Context<Self>) {
        self.pieces += 1;
        match self.deed.take() {
            None => self.keep(piece),
            Some(mut deed) => {
                deed(self.pieces, piece, self, ctx);
                self.deed = Some(deed);
            }
        }
    }
}

struct Host {
    hub: InMemoryHub,
    forwarder: ForwarderHandle,
    events: Probed<ForwarderEvent>,
    kept: Kept,
}

impl Host {
    fn start(deed: impl FnMut(usize, SendBatch, &mut Output, &mut Context<Output>) + 'static) -> Self {
        let hub = InMemoryHub::new(1);
        for first in (0..LOGS).step_by(LOGS_PER_GROUP) {
            hub.with(|hub, now| hub.put(InMemoryHub::AT, Route::Shard(SHARD), log_group(first, LOGS_PER_GROUP), now))
                .expect("the hub takes a log group");
        }
        Self::go_on(hub, Kept::default(), deed)
    }

    fn go_on(
        hub: InMemoryHub,
        kept: Kept,
        deed: impl FnMut(usize, SendBatch, &mut Output, &mut Context<Output>) + 'static,
    ) -> Self {
        let mut source = source();
        source.heartbeat_interval = seconds(2);
        source.max_log_groups = 2;
        source.group_timeout_s = SourceConfig::group_timeout_for(source.heartbeat_interval);
        let mut config = ForwarderConfig::new(source, DestinationConfig::new("nowhere", Protocol::Tcp));
        config.limits.workers = 1;
        config.limits.piece_bytes = 64 << 10;
        let mailbox = config.mailbox.connection;
        let (at_sls, group) = (hub.clone(), config.source.consumer_group.clone());
        let outside = Outside {
            log_hub: Box::new(move || at_sls.client(&group, "me")),
            dialer: Box::new(|_| unreachable!("nobody connects to anything")),
            dead_letter: None,
            unix_seconds: Box::new(|| InMemoryHub::START_UNIX_S),
            level: Confirmation::TcpAcked,
        };
        let output = Output::create(|ctx| {
            ctx.set_mailbox_capacity(mailbox);
            Output { kept: Rc::clone(&kept), pieces: 0, held: Vec::new(), deed: Some(Box::new(deed)) }
        });
        let (told, events) = probe();
        let forwarder = Forwarder::builder(config)
            .events(told)
            .deliver_to(output.recipient())
            .outside(LocalPorts::new(1, outside), Placement::Here { workers: 1 })
            .start()
            .expect("settings that work");
        Self { hub, forwarder, events, kept }
    }

    /// Waits until the checkpoint is at the end; then every log has to be there.
    async fn ends_with_everything(self) -> BTreeMap<usize, u32> {
        let at_end = || group(&self.hub).shards.iter().all(|shard| shard.at_end);
        loop {
            tokio::time::sleep(seconds(1)).await;
            if at_end() {
                break;
            }
        }
        let totals = self.forwarder.stop().await.expect("it ends well");
        assert_eq!((totals.gaps, totals.full_mailboxes), (0, 0));
        let kept = self.kept.borrow().clone();
        assert_eq!(kept.len(), LOGS, "the checkpoint has passed logs that are nowhere");
        kept
    }
}

#[test]
fn pieces_that_are_confirmed_at_once_are_all_kept_once() {
    run(async {
        let kept = Host::start(|_, piece, output, _| output.keep(piece)).ends_with_everything().await;
        assert!(kept.values().all(|times| *times == 1));
    });
}

#[test]
fn a_dropped_piece_is_pulled_again_wherever_in_its_batch_it_was() {
    run(async {
        let host = Host::start(
            |nth, piece, output, _| {
                if nth <= 60 && nth % 7 == 0 { drop(piece) } else { output.keep(piece) }
            },
        );
        let kept = host.ends_with_everything().await;
        assert!(kept.values().any(|times| *times > 1), "what was confirmed of a failed batch comes again");
    });
}

#[test]
fn pieces_may_be_confirmed_late_and_backwards_and_nothing_counts_before_the_last() {
    run(async {
        let host = Host::start(|_, piece, output, ctx| {
            output.held.push(piece);
            if output.held.len() == 1 {
                ctx.run_later(seconds(90), |output, _| {
                    while let Some(piece) = output.held.pop() {
                        output.keep(piece);
                    }
                });
            }
        });
        tokio::time::sleep(seconds(80)).await;
        assert_eq!(host.forwarder.counters().logs_delivered, 0);
        let kept = host.ends_with_everything().await;
        assert!(kept.values().all(|times| *times == 1));
    });
}

/// The last piece, with the ticket, is confirmed at once; what came before it in its batch is thrown away much later.
#[test]
fn a_piece_that_is_dropped_after_the_last_of_its_batch_was_confirmed_fails_it_all_the_same() {
    run(async {
        let host = Host::start(|nth, piece, output, ctx| {
            if nth > 40 || piece.last.is_some() {
                return output.keep(piece);
            }
            output.held.push(piece);
            if output.held.len() == 1 {
                ctx.run_later(seconds(30), |output, _| output.held.clear());
            }
        });
        host.ends_with_everything().await;
    });
}

/// A panic in the host's output takes the pieces in its mailbox with it. None of them counts, and the host is told that
/// nobody takes messages any more; what it starts then gets everything from the checkpoint on.
#[test]
fn an_output_that_panics_is_told_and_what_it_held_is_pulled_again_by_the_next() {
    VirtualTime::default().expect_panics(PLANNED).run(async {
        let mut first = Host::start(|nth, piece, output, _| {
            assert!(nth < 30, "{PLANNED} in the host's output");
            output.keep(piece);
        });
        loop {
            if let ForwarderEvent::Trouble { code: Code::ReceiverDown, what } = first.events.next().await {
                assert!(what.contains("the application's output has ended"), "{what}");
                break;
            }
        }
        let delivered = first.forwarder.counters().logs_delivered as usize;
        first.forwarder.stop().await.expect("it ends well");
        let kept = first.kept.borrow().len();
        assert!(delivered <= kept && kept < LOGS, "{delivered} logs count as delivered, and {kept} were kept");
        Host::go_on(first.hub, first.kept, |_, piece, output, _| output.keep(piece)).ends_with_everything().await;
    });
}
