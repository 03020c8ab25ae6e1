//! The checks can fail: deliberate defects, put into ports, that they have to notice.
//!
//! A defect replaces what lies round the actors, so that a forwarder behaves to the outside as if it broke the rule.
//!
//! | rule | defect | noticed as |
//! |---|---|---|
//! | C1 | [`receiver::c1_what_was_only_written_counts_as_acknowledged`] | I1 |
//! | C1, RELP | [`receiver::c1_a_message_counts_as_taken_before_it_is_answered`] | I1 |
//! | C2 | [`receiver::c2_a_connection_confirms_before_it_has_stood_open`] | I1 |
//! | C3 | [`receiver::c3_a_new_connection_goes_on_behind_what_was_written_to_the_old_one`] | I1, I8 |
//! | C4 | [`receiver::c4_a_message_is_set_aside_and_not_named`] | I1, I8 |
//! | C4, dead letter | [`receiver::c4_a_batch_is_committed_before_what_was_set_aside_of_it_is_kept`] | I1 |
//! | O1 | [`order::o1_later_batches_are_sent_although_one_has_failed`] | I10 |
//! | O2 | [`order::o2_a_body_that_was_cut_is_taken_for_a_whole_one`] | I9 |
//! | O3 | [`order::o3_an_answer_without_cursor_is_taken_for_an_empty_one`] | I1, I10 |
//! | L1 | [`leases::l1_a_shard_in_transfer_is_left_out_before_its_last_commit`] | I3 |
//! | L2 | [`leases::l2_a_heartbeat_that_is_not_answered_keeps_leases_alive`] | I3 |
//! | L3 | [`leases::l3_heartbeats_wait_for_commits`] | L3 |
//! | L4 | [`leases::l4_an_existing_group_is_believed_to_have_a_longer_timeout`] | L3, I3 |
//! | L5 | [`leases::l5_an_unchanged_end_is_not_committed_again`] | I8 |
//! | L6 | [`leases::l6_a_start_position_is_committed_over_a_checkpoint`] | L6 |
//! | L6, once more | [`leases::l6_a_deleted_group_is_taken_for_a_lost_lease`] | I8 |
//! | L7 | [`leases::l7_an_expired_shard_is_taken_for_one_in_transfer`] | I9 |
//! | L7 | [`leases::l7_expired_logs_are_passed_over_in_silence`] | I9 |
//! | L8 | [`leases::l8_shards_are_asked_for_before_a_receiver_is_there`] | L8 |
//! | M1 | [`memory::m1_bodies_outlive_their_credit`] | I5 |
//! | M2 | [`memory::m2_more_is_pulled_than_is_paid_for`] | I5 |
//! | M3 | [`memory::m3_pieces_are_larger_than_they_may_be`] | M3 |
//!
//! The invariants that no rule above is noticed by, and those that others are noticed by too, have defects of their own:
//! I1, I2, I3 and I7 in [`leases`], I4 and I6 in [`memory`], I8 and I10 in [`order`].

mod leases;
mod memory;
mod order;
mod receiver;

use std::collections::BTreeSet;
use std::rc::Rc;

use sls_syslog_actors::config::Confirmation;
use sls_syslog_actors::loghub::{decode_cursor, encode_cursor};
use sls_syslog_actors::model::cursor::Cursor;
use sls_syslog_actors::model::ids::ShardId;
use sls_syslog_actors::ports::{Dial, LogHub, PullReply};
use sls_syslog_actors::testing::dead_letter::KeepFault;
use sls_syslog_actors::testing::faults::{How, Moment, Place, Plan, What};
use sls_syslog_actors::testing::hub::{AnswerFault, BodyFault};
use sls_syslog_actors::testing::layers::{Answer, HubLayer, Layered};
use sls_syslog_actors::testing::receiver::{Answers, Dialing, Ending};
use sls_syslog_actors::testing::simulation::{Mutation, Simulation};

use super::failure;

/// Seeds among which a defect has to show.
const SEEDS: u64 = 150;

/// Runs plans with a defect until a check of one of `invariants` notices it, and not without the defect.
fn is_noticed(invariants: &[&str], mutation: &Mutation, plan_of: impl Fn(u64) -> Plan) {
    let simulation = Simulation::default().mutated(mutation.clone());
    for seed in 0..SEEDS {
        let plan = plan_of(seed);
        let violations = simulation.run(&plan).violations;
        let by = |invariant: &&str| violations.iter().any(|what| what.starts_with(&format!("{invariant}:")));
        if invariants.iter().any(by) {
            let report = Simulation::default().run(&plan);
            return assert_eq!(report.violations, Vec::<String>::new(), "without the defect, in {plan}");
        }
    }
    panic!("nobody noticed the defect as {invariants:?} in {SEEDS} seeds");
}

fn of_hub<L: HubLayer + 'static>(mutate: impl Fn(Rc<dyn LogHub>) -> L + 'static) -> Mutation {
    Mutation { log_hub: Some(Rc::new(move |below, _| Rc::new(Layered(mutate(below))))), ..Mutation::default() }
}

/// Makes something else of each answer to a pull at a cursor.
struct Pulls<F> {
    below: Rc<dyn LogHub>,
    change: F,
}

impl<F: Fn(PullReply, &Cursor) -> PullReply + Copy + 'static> HubLayer for Pulls<F> {
    fn below(&self) -> &Rc<dyn LogHub> {
        &self.below
    }

    fn pull_logs(&self, shard: ShardId, cursor: &Cursor, count: u32) -> Answer<PullReply> {
        let request = self.below.pull_logs(shard, cursor, count);
        let (change, cursor) = (self.change, cursor.clone());
        Box::pin(async move { Ok(change(request.await?, &cursor)) })
    }
}

fn of_pulls(change: impl Fn(PullReply, &Cursor) -> PullReply + Copy + 'static) -> Mutation {
    of_hub(move |below| Pulls { below, change })
}

fn of_dialer<D: Dial + 'static>(mutate: impl Fn(Rc<dyn Dial>) -> D + 'static) -> Mutation {
    Mutation { dialer: Some(Rc::new(move |below| Rc::new(mutate(below)))), ..Mutation::default() }
}

/// The position behind the next log group.
fn later(cursor: &Cursor) -> Cursor {
    let number = decode_cursor(cursor.as_str()).expect("a cursor of the hub");
    Cursor::new(&encode_cursor(number + 1)).expect("printable")
}

/// Without a defect nothing is noticed, also not in plans made for the defects above.
#[test]
fn nothing_is_noticed_where_nothing_is_wrong() {
    for seed in 0..20 {
        let plan = Plan::healthy(seed);
        let report = Simulation::default().run(&plan);
        assert_eq!((report.violations, report.gaps), (Vec::new(), 0), "{plan}");
        assert_eq!(report.duplicates, if plan.forwarders == 1 { 0 } else { report.duplicates }, "{plan}");
    }
}

/// The plans really contain what they are to contain: a generator that stopped to do so would prove nothing.
#[test]
fn the_plans_of_many_seeds_contain_every_fault() {
    let plans: Vec<Plan> = (0..2000).map(Plan::from_seed).collect();
    let steps: Vec<&What> = plans.iter().flat_map(|plan| &plan.steps).map(|step| &step.what).collect();
    let has = |what: &str, is: &dyn Fn(&What) -> bool| {
        assert!(steps.iter().any(|step| is(step)), "no plan has {what}");
    };
    let fails = |what: &str, how: &dyn Fn(How) -> bool| {
        has(what, &|step| matches!(step, What::Sls(fault) if how(fault.how)));
    };
    fails("a request that is lost", &|how| how == How::Cut);
    fails("a lost answer", &|how| how == How::LoseAnswer);
    fails("a late request", &|how| matches!(how, How::Late(_)));
    fails("a late answer", &|how| matches!(how, How::LateAnswer(_)));
    fails("an empty answer", &|how| how == How::Answer(AnswerFault::Empty));
    fails("an answer cut short", &|how| matches!(how, How::Answer(AnswerFault::CutAt(_))));
    fails("a garbled answer", &|how| matches!(how, How::Answer(AnswerFault::GarbledFrom(_))));
    for status in [403, 500, 503] {
        fails("a refusal", &|how| matches!(how, How::Refuse(s, _) if s == status));
    }
    fails("a cut body", &|how| matches!(how, How::Body(BodyFault::CutAt(_))));
    fails("a short body", &|how| matches!(how, How::Body(BodyFault::Short(_))));
    fails("a corrupt body", &|how| how == How::Body(BodyFault::Corrupt));
    fails("a slow body", &|how| matches!(how, How::Body(BodyFault::Slow(_))));
    fails("an answer without cursor", &|how| how == How::Body(BodyFault::NoCursor));
    fails("a panic of the Coordinator or a fetcher", &|how| how == How::Panic);
    fails("a panic of the Formatter", &|how| how == How::Body(BodyFault::PanicWhenDropped));
    for place in [Place::Dialing, Place::Writing, Place::Preparing] {
        has("a panic of a connection or a worker", &|what| matches!(what, What::Panic(p) if *p == place));
    }
    for moment in [Moment::Now, Moment::NextCommit, Moment::NextPull] {
        has("a theft", &|what| matches!(what, What::Theft(m, _) if *m == moment));
    }
    has("shards that are lost and regained", &|what| matches!(what, What::Theft(_, lasting) if lasting.is_zero()));
    has("a deleted group", &|what| matches!(what, What::DeleteGroup));
    has("a split", &|what| matches!(what, What::Split(_)));
    has("a merge", &|what| matches!(what, What::Merge(_)));
    has("a crash", &|what| matches!(what, What::Crash(_)));
    has("a stop", &|what| matches!(what, What::Stop(_)));
    has("a stop during a start", &|what| matches!(what, What::StopDuringStart(..)));
    has("a process that stands still", &|what| matches!(what, What::Freeze(..)));
    has("a clock that jumps", &|what| matches!(what, What::ClockJump(_)));
    has("a FIN", &|what| matches!(what, What::EndConnections(Ending::Fin)));
    has("a reset", &|what| matches!(what, What::EndConnections(Ending::Reset)));
    has("a late refusal", &|what| matches!(what, What::Receiver(behaviour, _) if behaviour.refuses_after.is_some()));
    has("a receiver that stops reading", &|what| matches!(what, What::Receiver(b, _) if b.reads.is_none()));
    has("a receiver that is not there", &|what| matches!(what, What::Receiver(b, _) if b.dialing == Dialing::Refuse));
    has("a receiver that is silent", &|what| matches!(what, What::Receiver(b, _) if b.dialing == Dialing::Silence));
    for answers in [Answers::Refuse, Answers::Silence, Answers::Rubbish, Answers::End] {
        has("a RELP receiver that misbehaves", &|what| matches!(what, What::Receiver(b, _) if b.answers.0 == answers));
    }
    let settings = |what: &str, is: &dyn Fn(&Plan) -> bool| assert!(plans.iter().any(is), "no plan has {what}");
    for level in [Confirmation::Written, Confirmation::TcpAcked, Confirmation::AppAcked] {
        settings("every level of confirmation", &|plan| plan.settings.confirmation == level);
    }
    for level in [Confirmation::TcpAcked, Confirmation::AppAcked] {
        for longest in [70_000, 20_000, 3_000] {
            settings("a receiver that does not take long messages", &|plan| {
                plan.longest == Some(longest) && plan.settings.confirmation == level
            });
        }
    }
    for fault in [KeepFault::Full, KeepFault::Unwritable, KeepFault::KeptButFailed, KeepFault::Panic] {
        has("a dead letter that fails", &|what| matches!(what, What::DeadLetter(f, _) if *f == fault));
    }
    has("a slow dead letter", &|what| matches!(what, What::DeadLetter(KeepFault::Slow(_), _)));
    settings("several forwarders", &|plan| plan.forwarders > 2);
    settings("a group that is there before", &|plan| plan.existing_group.is_some());
    settings("logs that expire", &|plan| plan.retention.is_some());
    settings("a split after which nothing is written", &|plan| {
        let last = |is: fn(&What) -> bool| plan.steps.iter().filter(|step| is(&step.what)).map(|step| step.at).max();
        plan.settings.in_order
            && last(|what| matches!(what, What::Split(_))) > last(|what| matches!(what, What::Put { .. }))
    });
}

/// A seed tells the same story each time, or it would be of no use.
#[test]
fn a_seed_is_a_reproduction() {
    let mut traces = BTreeSet::new();
    for seed in 0..30 {
        let plan = Plan::from_seed(seed);
        let (one, other) = (Simulation::default().run(&plan), Simulation::default().run(&plan));
        assert_eq!(one, other, "{plan}");
        traces.insert(one.trace);
    }
    assert_eq!(traces.len(), 30, "the trace does not tell one run from another");
}

/// What a failing run prints is enough to make it fail again in the same way.
#[test]
fn a_run_that_fails_prints_its_seed_and_fails_again() {
    let simulation = Simulation::default().with_story().mutated(leases::broken(leases::Defect::CommitsAhead));
    let failing = |seed| failure(&simulation, &Plan::from_seed(seed));
    let (seed, printed) = (0..SEEDS).find_map(|seed| failing(seed).map(|text| (seed, text))).expect("one that fails");
    assert!(printed.contains(&format!("again with SLS_SYSLOG_SEED={seed}\n")), "{printed}");
    assert_eq!(failing(seed), Some(printed));
}
