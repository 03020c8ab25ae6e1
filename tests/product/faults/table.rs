//! The table at the end of a run, as Markdown.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::lane::{Asked, Outcome};

/// What was done to whom, and what came of it.
pub fn of(outcomes: &[Outcome]) -> String {
    let mut text = String::from(
        "| way | faults | logs | missing | at most | duplicates | at most | late, behind a loss |\n|---|---|---|---|---|---|---|---|\n",
    );
    let mut kinds: BTreeMap<_, u64> = BTreeMap::new();
    let (mut all, mut took) = (0, 0.0_f64);
    for outcome in outcomes {
        let verdict = &outcome.verdict;
        let faults: u64 = outcome.struck.values().sum();
        took = took.max(outcome.took.as_secs_f64());
        let judged = outcome.lane.asked == Asked::Promise;
        if judged {
            all += faults;
            outcome.struck.iter().for_each(|(kind, times)| *kinds.entry(*kind).or_default() += times);
        }
        let bound = |bound: u64| if judged { bound.to_string() } else { "-".to_owned() };
        let _ = writeln!(
            text,
            "| {} | {faults} | {} | {} | {} | {} | {} | {} |",
            outcome.lane.name,
            outcome.logs,
            verdict.missing,
            bound(verdict.missing_bound),
            verdict.duplicates,
            bound(verdict.duplicates_bound),
            if judged { verdict.late.to_string() } else { "-".to_owned() },
        );
    }
    let told: Vec<String> = kinds.iter().map(|(kind, times)| format!("{} {times}", kind.name())).collect();
    let _ = write!(text, "\n{all} faults: {}.\nThe longest lane took {took:.0} s.", told.join(", "));
    text
}
