//! What answers, failures and time do to leases: the transition table first, then single promises.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn ids(shards: &[u32]) -> Vec<ShardId> {
    shards.iter().map(|shard| ShardId(*shard)).collect()
}

/// A table whose first heartbeat, sent at `now`, was answered with `shards`.
fn holding(now: Instant, shards: &[u32]) -> (LeaseTable, Vec<Decision>) {
    let mut table = LeaseTable::new(now, 20 * SECOND, 40 * SECOND, 25 * SECOND);
    assert_eq!(table.begin_heartbeat(now), Some(vec![]));
    let decisions = table.heartbeat_answered(now, &ids(shards));
    (table, decisions)
}

fn beat(table: &mut LeaseTable, now: Instant, owned: &[u32]) -> (Vec<ShardId>, Vec<Decision>) {
    let listed = table.begin_heartbeat(now).expect("due");
    let decisions = table.heartbeat_answered(now, &ids(owned));
    (listed, decisions)
}

/// What each event does to a lease in each state. `-` means that nothing happens.
const TRANSITIONS: [(&str, [&str; 8]); 6] = [
    // answer names it, answer omits it, fetcher ended, fetcher panicked, committed, lost, stop, time is over
    (
        "held",
        [
            "-",
            "drain: draining",
            "flush: closing",
            "restarting",
            "-",
            "abandon release: abandoned",
            "drain: draining",
            "-",
        ],
    ),
    ("restarting", ["-", "flush: closing", "-", "-", "-", "release: none", "flush: closing", "start: held"]),
    ("draining", ["-", "-", "flush: closing", "flush: closing", "-", "abandon release: abandoned", "-", "-"]),
    ("closing", ["-", "-", "-", "-", "release: none", "release: none", "-", "release: none"]),
    ("abandoned", ["reacquired", "-", "none", "none", "-", "-", "-", "-"]),
    ("reacquired", ["-", "abandoned", "start: held", "start: held", "-", "abandoned", "-", "-"]),
];

fn table_in(state: &str, now: Instant) -> LeaseTable {
    let (mut table, _) = holding(now, &[1]);
    let (shard, epoch) = (ShardId(1), Epoch(1));
    match state {
        "held" => {}
        "restarting" => drop(table.fetcher_lost(now, shard, epoch)),
        "draining" => drop(table.leases.get_mut(&shard).map(|lease| lease.drain(shard, now, now + 25 * SECOND))),
        "closing" => drop(table.fetcher_ended(now, shard, epoch)),
        "abandoned" => drop(table.lose(shard, epoch)),
        "reacquired" => {
            table.lose(shard, epoch);
            beat(&mut table, now + 20 * SECOND, &[1]);
        }
        _ => panic!("no state {state}"),
    }
    table
}

fn state_of(table: &LeaseTable) -> &'static str {
    match table.leases.get(&ShardId(1)).map(|lease| lease.state) {
        None => "none",
        Some(State::Held) => "held",
        Some(State::Restarting { .. }) => "restarting",
        Some(State::Draining { .. }) => "draining",
        Some(State::Closing { .. }) => "closing",
        Some(State::Abandoned { reacquired: false }) => "abandoned",
        Some(State::Abandoned { reacquired: true }) => "reacquired",
    }
}

#[test]
fn every_event_in_every_state_does_what_the_table_says() {
    for (state, row) in TRANSITIONS {
        for (event, expected) in row.into_iter().enumerate() {
            let start = Instant::now();
            let mut table = table_in(state, start);
            assert_eq!(state_of(&table), state);
            // Within the lease's age, and beyond the pause before a restart and the time for a drain.
            let now = start + 30 * SECOND;
            let (shard, epoch) = (ShardId(1), Epoch(1));
            let decisions = match event {
                0 => beat(&mut table, now + 10 * SECOND, &[1]).1,
                1 => beat(&mut table, now + 10 * SECOND, &[]).1,
                2 => table.fetcher_ended(now, shard, epoch),
                3 => table.fetcher_lost(now, shard, epoch),
                4 => table.released(shard, epoch),
                5 => table.lose(shard, epoch),
                6 => table.stop(now, now + 25 * SECOND),
                _ => table.tick(now),
            };
            let did: Vec<&str> = decisions
                .iter()
                .map(|decision| match decision {
                    Decision::Start(..) => "start",
                    Decision::Drain(..) => "drain",
                    Decision::Abandon(..) => "abandon",
                    Decision::Flush(..) => "flush",
                    Decision::Released { .. } => "release",
                })
                .collect();
            let found = match (did.is_empty(), state_of(&table)) {
                (true, after) if after == state => "-".to_owned(),
                (true, after) => after.to_owned(),
                (false, after) => format!("{}: {after}", did.join(" ")),
            };
            assert_eq!(found, expected, "event {event} in state {state}");
        }
    }
}

#[test]
fn an_answer_starts_what_is_new_and_drains_what_it_omits() {
    let now = Instant::now();
    let (mut table, started) = holding(now, &[1, 2]);
    assert_eq!(started, [Decision::Start(ShardId(1), Epoch(1)), Decision::Start(ShardId(2), Epoch(2))]);
    let later = now + 20 * SECOND;
    let (listed, decisions) = beat(&mut table, later, &[2, 3]);
    assert_eq!(listed, ids(&[1, 2]));
    assert_eq!(
        decisions,
        [Decision::Start(ShardId(3), Epoch(3)), Decision::Drain(ShardId(1), Epoch(1), later + 20 * SECOND)]
    );
}

#[test]
fn l1_a_shard_in_transfer_is_listed_until_its_last_commit_and_then_left_out_soon() {
    let now = Instant::now();
    let (mut table, _) = holding(now, &[1]);
    let t = now + 20 * SECOND;
    beat(&mut table, t, &[]);
    assert_eq!(table.fetcher_ended(t, ShardId(1), Epoch(1)), [Decision::Flush(ShardId(1), Epoch(1))]);
    assert!(table.may_commit(t, ShardId(1), Epoch(1)));
    let t = t + 20 * SECOND;
    assert_eq!(beat(&mut table, t, &[]).0, ids(&[1]));
    let released = Decision::Released { shard: ShardId(1), epoch: Epoch(1), lost: false };
    assert_eq!(table.released(ShardId(1), Epoch(1)), [released]);
    assert!(!table.may_commit(t, ShardId(1), Epoch(1)));
    assert_eq!(table.begin_heartbeat(t + SECOND), Some(vec![]), "without waiting for the interval");
}

/// A rebalance takes shard after shard: each that was given back used to cause a heartbeat with all the others.
#[test]
fn shards_that_are_given_back_one_after_another_share_a_heartbeat() {
    let now = Instant::now();
    let shards: Vec<u32> = (0..1000).collect();
    let (mut table, _) = holding(now, &shards);
    let t = now + 20 * SECOND;
    beat(&mut table, t, &[]);
    let mut heartbeats = 0;
    for shard in shards {
        let at = t + Duration::from_millis(shard.into());
        table.fetcher_ended(at, ShardId(shard), Epoch(u64::from(shard) + 1));
        table.released(ShardId(shard), Epoch(u64::from(shard) + 1));
        if table.begin_heartbeat(at).is_some() {
            heartbeats += 1;
            table.heartbeat_answered(at, &[]);
        }
    }
    assert_eq!(heartbeats, 0);
    assert_eq!(table.begin_heartbeat(t + SECOND), Some(vec![]));
}

#[test]
fn l1_a_stuck_last_commit_does_not_hold_the_shard_beyond_the_deadline() {
    let now = Instant::now();
    let (mut table, _) = holding(now, &[1]);
    let t = now + 20 * SECOND;
    beat(&mut table, t, &[]);
    table.fetcher_ended(t, ShardId(1), Epoch(1));
    assert_eq!(table.tick(t + 24 * SECOND), []);
    beat(&mut table, t + 20 * SECOND, &[]);
    assert!(matches!(table.tick(t + 25 * SECOND)[..], [Decision::Released { lost: false, .. }]));
}

#[test]
fn l2_a_lease_counts_from_the_sending_and_ends_before_the_groups_timeout() {
    let now = Instant::now();
    let mut table = LeaseTable::new(now, 20 * SECOND, 40 * SECOND, 25 * SECOND);
    table.begin_heartbeat(now);
    table.heartbeat_answered(now + 4 * SECOND, &ids(&[1]));
    assert!(table.may_commit(now + 35 * SECOND, ShardId(1), Epoch(1)));
    assert!(!table.may_commit(now + 36 * SECOND, ShardId(1), Epoch(1)), "I3");
    let lost = Decision::Released { shard: ShardId(1), epoch: Epoch(1), lost: true };
    assert_eq!(table.tick(now + 36 * SECOND), [Decision::Abandon(ShardId(1), Epoch(1)), lost]);
}

#[test]
fn l2_a_failed_heartbeat_is_repeated_soon_and_one_is_in_flight_at_a_time() {
    let now = Instant::now();
    let (mut table, _) = holding(now, &[1]);
    let t = now + 20 * SECOND;
    assert!(table.begin_heartbeat(t).is_some());
    assert!(table.begin_heartbeat(t + 60 * SECOND).is_none());
    table.heartbeat_failed(t + 5 * SECOND);
    assert!(table.begin_heartbeat(t + 5 * SECOND).is_none());
    assert!(table.begin_heartbeat(t + 6 * SECOND).is_some());
    assert_eq!(table.heartbeat_limit(), 5 * SECOND);
}

#[test]
fn a_lost_shard_is_not_listed_and_starts_again_only_when_its_old_fetcher_has_ended() {
    let now = Instant::now();
    let (mut table, _) = holding(now, &[1]);
    let lost = Decision::Released { shard: ShardId(1), epoch: Epoch(1), lost: true };
    assert_eq!(table.lose_all(), [Decision::Abandon(ShardId(1), Epoch(1)), lost]);
    let t = now + 20 * SECOND;
    let (listed, decisions) = beat(&mut table, t, &[1]);
    assert_eq!((listed, decisions), (vec![], vec![]));
    assert!(!table.may_commit(t, ShardId(1), Epoch(1)), "I3: the epoch is stale");
    assert_eq!(table.fetcher_ended(t, ShardId(1), Epoch(1)), [Decision::Start(ShardId(1), Epoch(2))]);
    assert!(table.may_commit(t, ShardId(1), Epoch(2)));
    assert!(!table.may_commit(t, ShardId(1), Epoch(1)));
}

#[test]
fn a_panicked_fetcher_is_started_again_under_a_new_epoch_while_the_lease_lasts() {
    let now = Instant::now();
    let (mut table, _) = holding(now, &[1]);
    assert_eq!(table.fetcher_lost(now, ShardId(1), Epoch(1)), []);
    assert_eq!(table.tick(now), []);
    assert_eq!(table.tick(now + SECOND), [Decision::Start(ShardId(1), Epoch(2))]);
    table.fetcher_lost(now, ShardId(1), Epoch(2));
    assert_eq!(table.tick(now + SECOND / 2), [], "ever later");
    assert_eq!(table.tick(now + SECOND), [Decision::Start(ShardId(1), Epoch(3))]);
}

#[test]
fn a_stop_takes_no_new_leases_and_drains_what_is_held() {
    let now = Instant::now();
    let (mut table, _) = holding(now, &[1]);
    let settle_by = now + 20 * SECOND;
    assert_eq!(table.stop(now, now + 25 * SECOND), [Decision::Drain(ShardId(1), Epoch(1), settle_by)]);
    let (listed, decisions) = beat(&mut table, now + 20 * SECOND, &[1, 2]);
    assert_eq!((listed, decisions), (ids(&[1]), vec![]));
    table.fetcher_ended(now, ShardId(1), Epoch(1));
    table.released(ShardId(1), Epoch(1));
    assert!(table.is_empty());
}

#[test]
fn l4_the_interval_is_at_most_half_of_the_groups_timeout() {
    let mut table = LeaseTable::new(Instant::now(), 20 * SECOND, 40 * SECOND, SECOND);
    table.set_group_timeout(10 * SECOND);
    assert_eq!(table.interval(), 5 * SECOND);
}

#[test]
fn l1_what_settles_at_the_last_moment_still_has_time_to_be_committed() {
    let now = Instant::now();
    let (mut table, _) = holding(now, &[1]);
    let [Decision::Drain(shard, epoch, settle_by)] = table.stop(now, now + 25 * SECOND)[..] else {
        panic!("it is drained")
    };
    assert_eq!(table.fetcher_ended(settle_by, shard, epoch), [Decision::Flush(shard, epoch)]);
    assert_eq!(table.tick(settle_by + 4 * SECOND), [], "its commit is under way");
    assert!(table.may_commit(settle_by + 4 * SECOND, shard, epoch));
}

#[test]
fn a_shard_whose_fetcher_is_to_start_again_is_given_back_without_waiting_for_the_deadline() {
    let now = Instant::now();
    for stopped in [false, true] {
        let (mut table, _) = holding(now, &[1]);
        let t = now + 20 * SECOND;
        table.fetcher_lost(t, ShardId(1), Epoch(1));
        let decisions = if stopped { table.stop(t, t + 25 * SECOND) } else { beat(&mut table, t, &[]).1 };
        assert_eq!(decisions, [Decision::Flush(ShardId(1), Epoch(1))]);
    }
}

#[test]
fn a_shard_given_back_during_a_heartbeat_is_left_out_of_another_one_soon() {
    let now = Instant::now();
    let (mut table, _) = holding(now, &[1]);
    let t = now + 20 * SECOND;
    beat(&mut table, t, &[]);
    let t = t + 20 * SECOND;
    assert_eq!(table.begin_heartbeat(t), Some(ids(&[1])));
    table.fetcher_ended(t, ShardId(1), Epoch(1));
    table.released(ShardId(1), Epoch(1));
    table.heartbeat_answered(t + SECOND, &[]);
    assert_eq!(table.begin_heartbeat(t + SECOND), Some(vec![]), "or whoever gets it waits for an interval more");
}

#[test]
fn l2_a_group_timeout_that_was_shortened_costs_no_lease() {
    let now = Instant::now();
    let (mut table, _) = holding(now, &[1]);
    table.set_group_timeout(6 * SECOND);
    assert!(table.begin_heartbeat(now + 3 * SECOND).is_some());
    table.set_group_timeout(Duration::ZERO);
    assert!(table.interval() > Duration::ZERO, "heartbeats without pause");
}

#[test]
fn l7_a_shard_that_does_not_exist_is_not_started_again_by_each_answer_that_names_it() {
    let now = Instant::now();
    let (mut table, _) = holding(now, &[1]);
    table.shard_gone(now, ShardId(1));
    table.fetcher_ended(now, ShardId(1), Epoch(1));
    table.released(ShardId(1), Epoch(1));
    assert_eq!(beat(&mut table, now + 20 * SECOND, &[1]).1, []);
    let much_later = now + ASK_AGAIN + SECOND;
    assert_eq!(beat(&mut table, much_later, &[1]).1, [Decision::Start(ShardId(1), Epoch(2))]);
}
