//! Probes: actors that stand in for an actor's neighbours and hand what they get to the test.

use std::time::Duration;

use actix::prelude::*;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

/// Time, virtual or not, that a test waits for a message.
const PATIENCE: Duration = Duration::from_secs(600);

/// Hands every message that it gets to the test; ends when nobody can reach it any more.
#[derive(Debug)]
struct Probe<M>(mpsc::UnboundedSender<M>);

impl<M: Message<Result = ()> + Send + Unpin + 'static> Actor for Probe<M> {
    type Context = Context<Self>;
}

impl<M: Message<Result = ()> + Send + Unpin + 'static> Handler<M> for Probe<M> {
    type Result = ();

    fn handle(&mut self, message: M, _: &mut Self::Context) {
        // The test may have seen enough.
        let _ = self.0.send(message);
    }
}

/// The test's end of a probe.
#[derive(Debug)]
pub struct Probed<M>(mpsc::UnboundedReceiver<M>);

/// An actor for messages of one kind, and what it gets.
pub fn probe<M: Message<Result = ()> + Send + Unpin + 'static>() -> (Recipient<M>, Probed<M>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let address = Probe::create(|ctx: &mut Context<Probe<M>>| {
        ctx.set_mailbox_capacity(1 << 16);
        Probe(sender)
    });
    (address.recipient(), Probed(receiver))
}

impl<M: std::fmt::Debug> Probed<M> {
    /// The next message.
    ///
    /// # Panics
    /// If none comes for ten minutes, or nobody can send one any more.
    pub async fn next(&mut self) -> M {
        let kind = std::any::type_name::<M>();
        let message = timeout(PATIENCE, self.0.recv()).await;
        message.unwrap_or_else(|_| panic!("no {kind} came")).unwrap_or_else(|| panic!("nobody can send a {kind}"))
    }

    /// A message that has come already.
    pub fn try_next(&mut self) -> Option<M> {
        self.0.try_recv().ok()
    }

    /// Lets `time` pass, in which nothing must come.
    ///
    /// # Panics
    /// If something comes.
    pub async fn nothing_for(&mut self, time: Duration) {
        if let Ok(Some(message)) = timeout(time, self.0.recv()).await {
            panic!("nothing was to come, but {message:?} did");
        }
    }
}

/// An actor that takes no message out of its mailbox.
#[derive(Debug)]
struct Jammed(Option<oneshot::Receiver<()>>);

impl Actor for Jammed {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        // actix fact 9: this freezes the mailbox, which is what a jam is.
        if let Some(end) = self.0.take() {
            ctx.wait(end.into_actor(self).map(|_, _, ctx| ctx.stop()));
        }
    }
}

impl<M: Message<Result = ()> + Send + 'static> Handler<M> for Jammed {
    type Result = ();

    fn handle(&mut self, _: M, _: &mut Self::Context) {}
}

/// Ends a jammed actor when it is dropped.
#[derive(Debug)]
pub struct Jam(#[expect(dead_code, reason = "held for its drop")] oneshot::Sender<()>);

/// An actor that never takes a message out of its mailbox, which holds `capacity` of them.
pub fn jammed<M: Message<Result = ()> + Send + 'static>(capacity: usize) -> (Recipient<M>, Jam) {
    let (jam, end) = oneshot::channel();
    let address = Jammed::create(|ctx: &mut Context<Jammed>| {
        ctx.set_mailbox_capacity(capacity);
        Jammed(Some(end))
    });
    (address.recipient(), Jam(jam))
}
