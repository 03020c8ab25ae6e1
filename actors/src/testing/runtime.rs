//! Virtual time: a scenario with all its actors on one thread, whose clock jumps whenever nobody has anything to do.
//!
//! Actors need no `System` for it. A panic in an actor ends only that actor, quietly (actix facts 13 and 22); here it
//! fails the scenario unless it was announced. So does whatever still runs when the scenario is over.

use std::cell::RefCell;
use std::future::Future;
use std::panic::PanicHookInfo;
use std::sync::Once;
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::task::LocalSet;
use tokio::time::timeout;

/// Virtual time that a scenario may take, unless told otherwise.
const LONGEST_SCENARIO: Duration = Duration::from_secs(24 * 3600);
/// Virtual time that actors have to end after the scenario.
const LONGEST_END: Duration = Duration::from_secs(120);

/// Runs scenarios.
#[derive(Debug, Clone)]
pub struct VirtualTime {
    expected: Vec<String>,
    longest: Duration,
}

impl Default for VirtualTime {
    fn default() -> Self {
        Self { expected: Vec::new(), longest: LONGEST_SCENARIO }
    }
}

/// Runs a scenario in which no actor panics; see [`VirtualTime::run`].
///
/// # Panics
/// As [`VirtualTime::run`].
pub fn run<T>(scenario: impl Future<Output = T>) -> T {
    VirtualTime::default().run(scenario)
}

impl VirtualTime {
    /// Panics whose message contains `text` are part of the scenario.
    #[must_use]
    pub fn expect_panics(mut self, text: &str) -> Self {
        self.expected.push(text.to_owned());
        self
    }

    /// Virtual time after which the scenario counts as stalled.
    #[must_use]
    pub fn within(mut self, longest: Duration) -> Self {
        self.longest = longest;
        self
    }

    /// Runs a scenario to its end, then waits until every actor and task has ended.
    ///
    /// # Panics
    /// If the scenario panics or stalls, if any actor or task panicked unannounced, or if one is left running.
    pub fn run<T>(self, scenario: impl Future<Output = T>) -> T {
        let watch = PanicWatch::begin(self.expected);
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
        let local = LocalSet::new();
        let longest = self.longest;
        let (outcome, ended) = runtime.block_on(async move {
            let outcome = local.run_until(timeout(longest, scenario)).await;
            let ended = timeout(LONGEST_END, local).await;
            (outcome, ended)
        });
        drop(runtime);
        let unexpected = watch.unexpected();
        assert!(unexpected.is_empty(), "panics in actors or tasks: {unexpected:#?}");
        let outcome =
            outcome.unwrap_or_else(|_| panic!("the scenario has not ended after {longest:?} of virtual time"));
        assert!(ended.is_ok(), "an actor or task is left running {LONGEST_END:?} after the scenario");
        outcome
    }
}

struct Watched {
    expected: Vec<String>,
    unexpected: Vec<String>,
}

thread_local! {
    static WATCHED: RefCell<Option<Watched>> = const { RefCell::new(None) };
}

/// Records panics of this thread while it lives.
struct PanicWatch;

impl PanicWatch {
    fn begin(expected: Vec<String>) -> Self {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let before = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |info| {
                if !noted_as_expected(info) {
                    before(info);
                }
            }));
        });
        let before = WATCHED.replace(Some(Watched { expected, unexpected: Vec::new() }));
        assert!(before.is_none(), "a scenario within a scenario");
        Self
    }

    fn unexpected(&self) -> Vec<String> {
        WATCHED.with_borrow(|watched| watched.as_ref().map_or_else(Vec::new, |watched| watched.unexpected.clone()))
    }
}

impl Drop for PanicWatch {
    fn drop(&mut self) {
        WATCHED.set(None);
    }
}

/// Called by whichever thread panics; only those that run a scenario take note.
fn noted_as_expected(info: &PanicHookInfo<'_>) -> bool {
    let payload = info.payload();
    let text = payload.downcast_ref::<String>().map(String::as_str).or_else(|| payload.downcast_ref().copied());
    let message = text.unwrap_or("a panic without text");
    WATCHED
        .try_with(|watched| {
            let Ok(mut watched) = watched.try_borrow_mut() else { return false };
            let Some(watched) = watched.as_mut() else { return false };
            let expected = watched.expected.iter().any(|text| message.contains(text));
            if !expected {
                let place = info.location().map_or_else(String::new, ToString::to_string);
                watched.unexpected.push(format!("{message} ({place})"));
            }
            expected
        })
        .unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::time::Instant;

    use super::*;

    fn fails(scenario: impl Future<Output = ()>) -> String {
        let panic = catch_unwind(AssertUnwindSafe(|| run(scenario))).expect_err("the scenario fails");
        let text = panic.downcast_ref::<String>().cloned();
        text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).expect("a text")
    }

    #[test]
    fn hours_pass_at_once() {
        let real = Instant::now();
        let virtually = run(async {
            let begin = tokio::time::Instant::now();
            tokio::time::sleep(Duration::from_secs(7200)).await;
            begin.elapsed()
        });
        assert_eq!(virtually, Duration::from_secs(7200));
        assert!(real.elapsed() < Duration::from_secs(60));
    }

    #[test]
    fn a_panic_in_a_task_fails_the_scenario_unless_it_was_announced() {
        let panicking = || async {
            drop(tokio::task::spawn_local(async { panic!("as planned: {}", 1) }));
            tokio::task::yield_now().await;
        };
        assert!(fails(panicking()).contains("as planned: 1"));
        VirtualTime::default().expect_panics("as planned").run(panicking());
    }

    #[test]
    fn what_is_left_running_fails_the_scenario() {
        let text = fails(async { drop(tokio::task::spawn_local(std::future::pending::<()>())) });
        assert!(text.contains("left running"), "{text}");
    }

    #[test]
    fn a_scenario_that_waits_for_ever_fails() {
        let text = fails(std::future::pending());
        assert!(text.contains("has not ended"), "{text}");
    }
}
