//! Defects towards the receiver: what counts as confirmed, and what is sent again.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use sls_syslog_actors::config::Confirmation;
use sls_syslog_actors::ports::{DeadLetter, Dial, DialError, KeepError, Letter, Look, Transport};
use sls_syslog_actors::testing::dead_letter::KeepFault;
use sls_syslog_actors::testing::faults::{Plan, Step, What};
use sls_syslog_actors::testing::layers::{Over, TransportLayer};
use sls_syslog_actors::testing::receiver::{Behaviour, Ending};
use sls_syslog_actors::testing::simulation::{MutateDeadLetter, Mutation, Simulation};

use super::{is_noticed, of_dialer};

/// A dialer whose connections get a layer.
pub(super) struct Remade<L> {
    pub(super) below: Rc<dyn Dial>,
    pub(super) layer: Rc<dyn Fn() -> L>,
}

impl<L: TransportLayer + 'static> Dial for Remade<L> {
    fn dial(&self) -> LocalBoxFuture<'static, Result<Box<dyn Transport>, DialError>> {
        let (dialing, layer) = (self.below.dial(), Rc::clone(&self.layer));
        Box::pin(async move { Ok(Box::new(Over::new(dialing.await?, layer())) as Box<dyn Transport>) })
    }
}

pub(super) fn of_transport<L: TransportLayer + 'static>(layer: impl Fn() -> L + 'static) -> Mutation {
    let layer: Rc<dyn Fn() -> L> = Rc::new(layer);
    of_dialer(move |below| Remade { below, layer: Rc::clone(&layer) })
}

/// A plan at this level, which excuses nothing that a lesser one would.
fn at_level(seed: u64, level: Confirmation) -> Plan {
    let mut plan = Plan::from_seed(seed);
    plan.settings.confirmation = level;
    plan
}

/// Reports every byte that was written as acknowledged.
struct OverReports {
    written: u64,
}

impl TransportLayer for OverReports {
    fn poll_write(
        &mut self,
        below: &mut dyn Transport,
        cx: &mut Context<'_>,
        frames: &[u8],
    ) -> Poll<io::Result<usize>> {
        let taken = below.poll_write(cx, frames);
        if let Poll::Ready(Ok(bytes)) = taken {
            self.written += bytes as u64;
        }
        taken
    }

    fn look(&mut self, below: &mut dyn Transport) -> io::Result<Look> {
        let look = below.look()?;
        Ok(Look { confirmed: self.written, ..look })
    }
}

#[test]
fn c1_what_was_only_written_counts_as_acknowledged() {
    is_noticed(&["I1"], &of_transport(|| OverReports { written: 0 }), |seed| at_level(seed, Confirmation::TcpAcked));
}

#[test]
fn c1_a_message_counts_as_taken_before_it_is_answered() {
    is_noticed(&["I1"], &of_transport(|| OverReports { written: 0 }), |seed| {
        let mut plan = at_level(seed, Confirmation::AppAcked);
        plan.settings.confirm_after_connect = Duration::ZERO;
        plan
    });
}

/// A dialer that connects at the first write: what has stood open until then was no connection.
struct Late {
    below: Rc<dyn Dial>,
}

impl Dial for Late {
    fn dial(&self) -> LocalBoxFuture<'static, Result<Box<dyn Transport>, DialError>> {
        let late = LateTransport { dialing: Some(self.below.dial()), below: None };
        Box::pin(async move { Ok(Box::new(late) as Box<dyn Transport>) })
    }
}

struct LateTransport {
    dialing: Option<LocalBoxFuture<'static, Result<Box<dyn Transport>, DialError>>>,
    below: Option<Box<dyn Transport>>,
}

impl Transport for LateTransport {
    fn poll_write(&mut self, cx: &mut Context<'_>, frames: &[u8]) -> Poll<io::Result<usize>> {
        if let Some(dialing) = &mut self.dialing {
            let dialed = ready!(dialing.as_mut().poll(cx));
            self.dialing = None;
            self.below = Some(dialed.map_err(io::Error::other)?);
        }
        self.below.as_mut().expect("dialed").poll_write(cx, frames)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.below.as_mut().map_or(Poll::Ready(Ok(())), |below| below.poll_flush(cx))
    }

    fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.below.as_mut().map_or(Poll::Pending, |below| below.poll_closed(cx))
    }

    fn look(&mut self) -> io::Result<Look> {
        self.below.as_mut().map_or(Ok(Look { confirmed: 0, open: true, refused: false }), |below| below.look())
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.below.as_mut().map_or(Poll::Ready(Ok(())), |below| below.poll_shutdown(cx))
    }
}

#[test]
fn c2_a_connection_confirms_before_it_has_stood_open() {
    is_noticed(&["I1"], &of_dialer(|below| Late { below }), |seed| {
        let mut plan = Plan::healthy(seed);
        plan.settings.confirmation = Confirmation::TcpAcked;
        plan.settings.confirm_after_connect = Duration::from_secs(1);
        plan.settings.timeout = Duration::from_secs(8);
        plan.settings.commit_interval = Duration::from_millis(20);
        // It takes what comes, and refuses the connection then.
        let refuses = Behaviour { refuses_after: Some(Duration::from_millis(500)), ..Behaviour::healthy() };
        plan.steps.insert(0, Step { at: Duration::ZERO, what: What::Receiver(refuses, plan.heals_at) });
        plan
    });
}

/// Swallows what the connection before it had been given and had not confirmed: sent once is as good as sent.
struct GoesOn {
    /// Of the bytes that come, so many are still to be swallowed.
    swallow: u64,
    swallowed: u64,
    /// Whole messages given to the connection below, in bytes, and what came behind them.
    whole: u64,
    begun: u64,
    confirmed: u64,
    /// For the next connection.
    left: Rc<Cell<u64>>,
}

impl TransportLayer for GoesOn {
    fn poll_write(
        &mut self,
        below: &mut dyn Transport,
        cx: &mut Context<'_>,
        frames: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.swallow > 0 {
            let taken = self.swallow.min(frames.len() as u64);
            self.swallow -= taken;
            self.swallowed += taken;
            return Poll::Ready(Ok(taken as usize));
        }
        let taken = below.poll_write(cx, frames);
        if let Poll::Ready(Ok(bytes)) = taken {
            self.begun += bytes as u64;
            // Newlines end messages here.
            if let Some(last) = frames[..bytes].iter().rposition(|byte| *byte == b'\n') {
                let behind = (bytes - last - 1) as u64;
                self.whole += self.begun - behind;
                self.begun = behind;
            }
        }
        taken
    }

    fn look(&mut self, below: &mut dyn Transport) -> io::Result<Look> {
        let look = below.look()?;
        if look.open {
            self.confirmed = look.confirmed;
        }
        Ok(Look { confirmed: self.swallowed + look.confirmed, ..look })
    }
}

impl Drop for GoesOn {
    fn drop(&mut self) {
        self.left.set(self.swallow + self.whole.saturating_sub(self.confirmed));
    }
}

#[test]
fn c3_a_new_connection_goes_on_behind_what_was_written_to_the_old_one() {
    let left: Rc<Cell<u64>> = Rc::default();
    let mutation = of_transport(move || GoesOn {
        swallow: left.take(),
        swallowed: 0,
        whole: 0,
        begun: 0,
        confirmed: 0,
        left: Rc::clone(&left),
    });
    is_noticed(&["I1", "I8"], &mutation, |seed| {
        let mut plan = Plan::healthy(seed);
        plan.forwarders = 1;
        plan.settings.confirmation = Confirmation::TcpAcked;
        plan.settings.confirm_after_connect = Duration::ZERO;
        (plan.settings.workers, plan.settings.connections) = (1, 1);
        let cuts = (1..200).map(|n| Step { at: plan.heals_at * n / 200, what: What::EndConnections(Ending::Reset) });
        plan.steps.extend(cuts.collect::<Vec<_>>());
        plan.steps.sort_by_key(|step| step.at);
        plan
    });
}

/// Keeps to itself the gap record that goes in place of a message.
struct NamesNothing {
    swallowed: u64,
}

impl TransportLayer for NamesNothing {
    fn poll_write(
        &mut self,
        below: &mut dyn Transport,
        cx: &mut Context<'_>,
        frames: &[u8],
    ) -> Poll<io::Result<usize>> {
        let text = String::from_utf8_lossy(frames);
        if text.contains(" gap ") && text.contains("of the batch is set aside") {
            self.swallowed += frames.len() as u64;
            return Poll::Ready(Ok(frames.len()));
        }
        below.poll_write(cx, frames)
    }

    fn look(&mut self, below: &mut dyn Transport) -> io::Result<Look> {
        let look = below.look()?;
        Ok(Look { confirmed: look.confirmed + self.swallowed, ..look })
    }
}

/// Where a long message may be the reason for a cut, and where a receiver may answer that it is none.
const LEVELS: [Confirmation; 2] = [Confirmation::TcpAcked, Confirmation::AppAcked];

/// A receiver that takes no message of more than 70 000, 20 000 or 3 000 bytes.
fn short_messages_only(seed: u64) -> Plan {
    let mut plan = Plan::healthy(seed);
    let longest = [70_000, 20_000, 3_000][seed as usize % 3];
    plan.longest = Some(longest);
    plan.settings.confirmation = LEVELS[seed as usize / 3 % 2];
    plan.settings.confirm_after_connect = Duration::from_secs(1);
    plan.settings.timeout = Duration::from_secs(8);
    let what = What::Put { groups: 12, logs: 3, length: longest + longest / 10 };
    plan.steps = vec![Step { at: Duration::ZERO, what }];
    plan
}

#[test]
fn c4_a_message_is_set_aside_and_not_named() {
    is_noticed(&["I1", "I8"], &of_transport(|| NamesNothing { swallowed: 0 }), short_messages_only);
}

/// Says at once that it has kept what it is to keep.
struct KeepsLater(Rc<dyn DeadLetter>);

impl DeadLetter for KeepsLater {
    fn keep(&self, letter: Letter) -> LocalBoxFuture<'static, Result<u64, KeepError>> {
        let below = Rc::clone(&self.0);
        Box::pin(async move {
            let logs = letter.take()?.1;
            tokio::task::spawn_local(async move {
                tokio::time::sleep(Duration::from_secs(2)).await;
                drop(below.keep(letter).await);
            });
            Ok(logs)
        })
    }
}

#[test]
fn c4_a_batch_is_committed_before_what_was_set_aside_of_it_is_kept() {
    let dead_letter: MutateDeadLetter = Rc::new(|below| Rc::new(KeepsLater(below)));
    is_noticed(&["I1"], &Mutation { dead_letter: Some(dead_letter), ..Mutation::default() }, |seed| {
        let mut plan = short_messages_only(seed);
        plan.settings.commit_interval = Duration::from_millis(50);
        plan
    });
}

/// A dead letter that takes nothing holds the checkpoint, and no log is lost or forgotten over it.
#[test]
fn what_the_dead_letter_does_not_take_holds_the_checkpoint_until_it_does() {
    let faults = [
        KeepFault::Full,
        KeepFault::Unwritable,
        KeepFault::Slow(Duration::from_secs(20)),
        KeepFault::KeptButFailed,
        KeepFault::Panic,
    ];
    for (seed, fault) in faults.into_iter().cycle().take(15).enumerate() {
        let mut plan = short_messages_only(seed as u64);
        plan.heals_at = Duration::from_secs(90);
        plan.steps.push(Step { at: Duration::ZERO, what: What::DeadLetter(fault, Duration::from_secs(60)) });
        assert_eq!(Simulation::default().run(&plan).violations, Vec::<String>::new(), "{plan}");
    }
}

/// The receiver's limit wedges nothing: what it does not take is named, and all the rest arrives.
#[test]
fn what_the_receiver_does_not_take_is_named_and_all_else_arrives() {
    let reports = (0..24).map(|seed| Simulation::default().run(&short_messages_only(seed)));
    let gaps: u64 = reports
        .map(|report| {
            assert_eq!(report.violations, Vec::<String>::new());
            report.gaps
        })
        .sum();
    assert!(gaps > 0, "no message was too long");
}
