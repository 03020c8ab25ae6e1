//! What becomes of a panic in each actor: the table in `watch.rs`, row by row, on a whole forwarder.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use sls_syslog_actors::error::ForwarderError;
use sls_syslog_actors::event::{Code, ForwarderEvent};
use sls_syslog_actors::forwarder::Ended;
use sls_syslog_actors::testing::hub::{BodyFault, Fault, InMemoryHub, Operation};
use sls_syslog_actors::testing::receiver::{Behaviour, Ending};
use sls_syslog_actors::testing::runtime::VirtualTime;
use tokio::time::{Instant, timeout};

use crate::tools::*;
use crate::whole::{PLANNED, Whole, group};

/// Runs a scenario in which panics are planned. What is left running in the end fails it.
fn run<T>(scenario: impl Future<Output = T>) -> T {
    VirtualTime::default().expect_panics(PLANNED).run(scenario)
}

/// Calls of one kind panic while this is set.
fn panics_in(hub: &InMemoryHub, concerns: fn(&Operation) -> bool) -> Rc<Cell<bool>> {
    let on = Rc::new(Cell::new(false));
    let is_on = Rc::clone(&on);
    hub.on_call(move |_, operation| {
        assert!(!(is_on.get() && concerns(operation)), "{PLANNED} in a client of SLS");
        Fault::default()
    });
    on
}

fn is_pull(operation: &Operation) -> bool {
    matches!(operation, Operation::PullLogs { .. })
}

fn is_heartbeat(operation: &Operation) -> bool {
    matches!(operation, Operation::Heartbeat { .. })
}

/// It has ended because of a panic in this actor, said so, and counted it.
async fn ended_by(whole: &mut Whole, actor: &str, panics: u64) {
    let ended: Ended = timeout(seconds(60), whole.handle.ended()).await.expect("it ends");
    match ended {
        Err(ForwarderError::Panicked { actor: who }) => assert_eq!(who, actor),
        other => panic!("{other:?}"),
    }
    assert_eq!(whole.handle.counters().panics, panics);
    assert!(whole.handle.status().await.is_none(), "nobody is left to answer");
    loop {
        match whole.events.next().await {
            ForwarderEvent::Trouble { code: Code::Panic, what } if what.contains(actor) => break,
            ForwarderEvent::Ended => panic!("no event names the {actor}"),
            _ => {}
        }
    }
    while whole.events.next().await != ForwarderEvent::Ended {}
}

#[test]
fn a_panic_in_the_coordinator_ends_the_forwarder() {
    run(async {
        let hub = InMemoryHub::new(2);
        let on = panics_in(&hub, is_heartbeat);
        put(&hub, 5);
        let mut whole = Whole::start(&hub, "me", |_| ());
        whole.delivered(5).await;
        on.set(true);
        ended_by(&mut whole, "coordinator", 1).await;
        let heartbeats = group(&hub).heartbeats;
        tokio::time::sleep(seconds(60)).await;
        assert_eq!(group(&hub).heartbeats, heartbeats, "it is silent, so that others may take its shards");
    });
}

#[test]
fn a_panic_in_the_coordinator_while_it_stops_ends_the_forwarder_with_an_error() {
    run(async {
        let hub = InMemoryHub::new(1);
        let on = panics_in(&hub, is_heartbeat);
        let mut whole = Whole::start(&hub, "me", |_| ());
        put(&hub, 1);
        whole.delivered(1).await;
        // What it pulls now stays unconfirmed, so that the drain lasts.
        whole.receiver.behave(Behaviour { reads: None, buffer: 0, ..Behaviour::healthy() });
        put(&hub, 5);
        tokio::time::sleep(seconds(3)).await;
        whole.handle.begin_stop();
        settle().await;
        on.set(true);
        ended_by(&mut whole, "coordinator", 1).await;
    });
}

/// The connection's panic makes the pipeline replace it, and that is where the pipeline's own panic is planned.
#[test]
fn a_panic_in_a_pipeline_ends_the_forwarder() {
    run(async {
        let hub = InMemoryHub::new(2);
        put(&hub, 5);
        let mut whole = Whole::start(&hub, "me", |_| ());
        whole.delivered(5).await;
        whole.wrong.dialers.set(true);
        whole.wrong.dialing.set(true);
        whole.receiver.end_connections(Ending::Reset);
        put(&hub, 1);
        ended_by(&mut whole, "pipeline 0", 2).await;
    });
}

/// A pipeline that cannot even start.
#[test]
fn a_panic_in_a_pipeline_at_the_start_ends_the_forwarder() {
    run(async {
        let hub = InMemoryHub::new(1);
        let mut whole = Whole::start(&hub, "me", |_| ());
        whole.wrong.dialers.set(true);
        ended_by(&mut whole, "pipeline 0", 1).await;
    });
}

/// Pauses between the moments at which something was tried.
fn pauses(moments: &[f64]) -> Vec<f64> {
    moments.windows(2).map(|pair| pair[1] - pair[0]).collect()
}

/// Every pull panics for an hour. Heartbeats go on, restarts become rare; when it works again nothing is missing, and
/// after a healthy time a panic costs half a second again.
#[test]
fn a_fetcher_that_panics_for_ever_is_started_again_ever_later_and_recovers() {
    run(async {
        let hub = InMemoryHub::new(1);
        let (on, pulls) = (Rc::new(Cell::new(false)), Rc::new(RefCell::new(Vec::new())));
        let (is_on, seen, began) = (Rc::clone(&on), Rc::clone(&pulls), Instant::now());
        hub.on_call(move |_, operation| {
            if is_pull(operation) && is_on.get() {
                seen.borrow_mut().push(began.elapsed().as_secs_f64());
                panic!("{PLANNED} in a client of SLS");
            }
            Fault::default()
        });
        let whole = Whole::start(&hub, "me", |_| ());
        put(&hub, 3);
        whole.delivered(3).await;
        on.set(true);
        put(&hub, 3);
        tokio::time::sleep(seconds(3600)).await;
        let waited = pauses(&pulls.borrow());
        assert!(waited[..6].windows(2).all(|pair| pair[1] > 1.5 * pair[0]), "they grow: {waited:?}");
        assert!(waited.len() < 80 && waited.iter().all(|pause| *pause < 65.0), "and are bounded: {waited:?}");
        let state = group(&hub);
        assert!(state.longest_gaps_ms["me"] < 2100 && state.expired_holders == 0, "{state:?}");
        let panics = whole.handle.counters().panics;
        assert_eq!(panics as usize, pulls.borrow().len());
        assert_eq!(whole.lines.with("ERRO the shard-fetcher 0").len() as u64, panics, "each is told with its name");

        on.set(false);
        whole.delivered(6).await;
        tokio::time::sleep(seconds(3600)).await;
        on.set(true);
        put(&hub, 1);
        while whole.handle.counters().panics == panics {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        on.set(false);
        let again = Instant::now();
        whole.delivered(7).await;
        assert!(again.elapsed() < seconds(3), "{:?}", again.elapsed());
        whole.stop().await;
    });
}

#[test]
fn a_connection_that_panics_for_ever_is_replaced_ever_later_and_recovers() {
    run(async {
        let hub = InMemoryHub::new(2);
        let whole = Whole::start(&hub, "me", |_| ());
        put(&hub, 3);
        whole.delivered(3).await;
        whole.wrong.dialing.set(true);
        whole.wrong.dialed.borrow_mut().clear();
        whole.receiver.end_connections(Ending::Reset);
        put(&hub, 3);
        tokio::time::sleep(seconds(3600)).await;
        let waited = pauses(&whole.wrong.dialed.borrow());
        assert!(waited[..5].windows(2).all(|pair| pair[1] > 1.5 * pair[0]), "they grow: {waited:?}");
        assert!(waited.len() < 150 && waited.iter().all(|pause| *pause < 35.0), "and are bounded: {waited:?}");
        let state = group(&hub);
        assert!(state.longest_gaps_ms["me"] < 2100 && state.expired_holders == 0, "{state:?}");
        let panics = whole.handle.counters().panics;
        assert_eq!(panics as usize, whole.wrong.dialed.borrow().len());
        assert_eq!(whole.lines.with("ERRO the syslog-connection 0.0").len() as u64, panics);

        whole.wrong.dialing.set(false);
        whole.delivered(6).await;
        tokio::time::sleep(seconds(3600)).await;
        whole.wrong.dialing.set(true);
        whole.receiver.end_connections(Ending::Reset);
        put(&hub, 1);
        while whole.handle.counters().panics == panics {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        whole.wrong.dialing.set(false);
        let again = Instant::now();
        whole.delivered(7).await;
        assert!(again.elapsed() < seconds(3), "{:?}", again.elapsed());
        whole.stop().await;
    });
}

/// Not while it renders, which is caught, but where nothing is: when it lets go of a body.
#[test]
fn a_panic_in_a_formatter_costs_repeats_and_nothing_else() {
    run(async {
        let hub = InMemoryHub::new(1);
        let poisoned = Rc::new(Cell::new(0));
        let left = Rc::clone(&poisoned);
        hub.on_call(move |_, operation| match left.get() {
            0 => Fault::default(),
            _ if !is_pull(operation) => Fault::default(),
            n => {
                left.set(n - 1);
                Fault::body(BodyFault::PanicWhenDropped)
            }
        });
        // One body at a time: a second one dropped while the first one's panic unwinds would end the process.
        let whole = Whole::start(&hub, "me", |config| config.mailbox.formatter = 1);
        put(&hub, 2);
        whole.delivered(2).await;
        poisoned.set(1);
        for _ in 0..10 {
            put(&hub, 1);
        }
        whole.delivered(12).await;
        let counters = whole.handle.counters();
        assert_eq!((counters.panics, counters.gaps), (1, 0));
        assert_eq!(whole.lines.with("ERRO the formatter 0 ended by a panic").len(), 1);
        whole.stop().await;
    });
}

/// A drain does not wait for what a panic has failed: it says what SLS still holds, and ends.
#[test]
fn a_panic_during_a_drain_ends_it_with_what_is_left_in_sls() {
    run(async {
        let hub = InMemoryHub::new(1);
        let whole = Whole::start(&hub, "me", |_| ());
        put(&hub, 2);
        whole.delivered(2).await;
        whole.receiver.behave(Behaviour { reads: None, buffer: 0, ..Behaviour::healthy() });
        let group_bytes = log_group(0, 1).len() as u64;
        put(&hub, 5);
        tokio::time::sleep(seconds(3)).await;
        whole.handle.begin_stop();
        settle().await;
        let began = Instant::now();
        whole.wrong.dialing.set(true);
        whole.receiver.end_connections(Ending::Reset);
        let ended = timeout(seconds(30), whole.handle.ended()).await.expect("it ends").expect("it ends well");
        assert!(began.elapsed() < seconds(10), "{:?}", began.elapsed());
        let lines = whole.lines.with("");
        assert_eq!((ended.panics, ended.logs_delivered, ended.log_groups_left), (1, 2, 5), "{lines:#?}");
        assert!(ended.raw_bytes_left >= 5 * group_bytes, "{ended:?}");
        assert_eq!(whole.lines.with("stays in SLS").len(), 1);
    });
}
