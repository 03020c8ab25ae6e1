//! The whole actor system under plans of faults, each of which follows from its seed.
//!
//! `SLS_SYSLOG_SEEDS=2000` runs so many seeds, `SLS_SYSLOG_SEED=17` runs one and tells all that happened.

mod mutations;
mod scale;

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use sls_syslog_actors::testing::faults::Plan;
use sls_syslog_actors::testing::simulation::{Report, Simulation};

/// Seeds of a plain `cargo test`.
const SEEDS: u64 = 200;
/// Real time that a single seed may take; one that hangs would otherwise hide which it is.
const LONGEST: Duration = Duration::from_secs(120);

fn number_from_env(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name}={value} is not a number")))
}

/// Runs one plan; what went wrong, if anything did.
fn failure(simulation: &Simulation, plan: &Plan) -> Option<String> {
    let panic_text = |panic: Box<dyn std::any::Any + Send>| {
        let text = panic.downcast_ref::<String>().cloned();
        text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
    };
    let report = catch_unwind(AssertUnwindSafe(|| simulation.run(plan)));
    let (violations, story) = match report {
        Ok(Report { violations, .. }) if violations.is_empty() => return None,
        Ok(Report { violations, story, .. }) => (violations.join("\n  "), story),
        Err(panic) => (panic_text(panic), Vec::new()),
    };
    Some(format!("{}\n  {violations}\nin {plan}\n  again with SLS_SYSLOG_SEED={}\n", story.join("\n"), plan.seed))
}

/// Every plan keeps the promises I1 to I10.
#[test]
fn the_promises_hold_whatever_goes_wrong() {
    if let Some(seed) = number_from_env("SLS_SYSLOG_SEED") {
        let plan = Plan::from_seed(seed);
        println!("{plan}");
        if let Some(failure) = failure(&Simulation::default().with_story(), &plan) {
            panic!("{failure}");
        }
        return;
    }
    let seeds = number_from_env("SLS_SYSLOG_SEEDS").unwrap_or(SEEDS);
    let first = number_from_env("SLS_SYSLOG_FIRST_SEED").unwrap_or(0);
    let next = AtomicU64::new(first);
    let under_way = Mutex::new(BTreeSet::new());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let (done, results) = mpsc::channel();
    let failures = std::thread::scope(|scope| {
        for _ in 0..threads {
            let (done, next, under_way) = (done.clone(), &next, &under_way);
            scope.spawn(move || {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + seeds {
                        break;
                    }
                    under_way.lock().unwrap().insert(seed);
                    let failure = failure(&Simulation::default(), &Plan::from_seed(seed));
                    under_way.lock().unwrap().remove(&seed);
                    // The receiver counts to the last seed.
                    done.send(failure).unwrap();
                }
            });
        }
        let mut failures = Vec::new();
        for _ in 0..seeds {
            match results.recv_timeout(LONGEST) {
                Ok(failure) => failures.extend(failure),
                Err(_) => {
                    println!("a seed does not end, one of {:?}", under_way.lock().unwrap());
                    std::process::exit(1);
                }
            }
        }
        failures
    });
    assert!(failures.is_empty(), "{} of {seeds} seeds failed:\n{}", failures.len(), failures.join("\n"));
}
