//! The transition table of a shard in a group, one test per row, and the rules around it.

use super::*;

const SECOND: i64 = 1_000_000;

struct Bed {
    group: Group,
    facts: Facts,
    now: UnixMicros,
}

impl Bed {
    fn new(shards: u32, order: bool) -> Self {
        let facts = (0..shards).map(|id| (ShardId(id), fact(&[]))).collect();
        let group = Group::new(GroupSettings { timeout_s: 30, order }).unwrap();
        Self { group, facts, now: UnixMicros(1_700_000_000 * SECOND) }
    }

    fn beat(&mut self, consumer: &str, held: &[u32]) -> Vec<u32> {
        self.try_beat(consumer, held).unwrap()
    }

    fn try_beat(&mut self, consumer: &str, held: &[u32]) -> Result<Vec<u32>, Refusal> {
        let held: Vec<_> = held.iter().map(|id| ShardId(*id)).collect();
        let owned = self.group.heartbeat(consumer, &held, &self.facts, 1000, self.now)?;
        Ok(owned.into_iter().map(|id| id.0).collect())
    }

    fn commit(&mut self, consumer: &str, shard: u32, number: u64, force: bool) -> Result<(), &'static str> {
        let cursor = super::super::encode_cursor(number);
        let result = self.group.commit(consumer, ShardId(shard), &cursor, force, &self.facts, self.now);
        result.map_err(|refusal| refusal.code)
    }

    fn pass(&mut self, seconds: i64) {
        self.now.0 += seconds * SECOND;
    }

    fn readonly(&mut self, shard: u32) {
        self.facts.get_mut(&ShardId(shard)).unwrap().readonly = true;
    }

    fn child(&mut self, id: u32, parents: &[u32]) {
        self.facts.insert(ShardId(id), fact(parents));
    }

    /// All states in the order of the shards, such as `AANT`.
    fn states(&self) -> String {
        self.group.state(&self.facts).shards.iter().map(|shard| shard.state).collect()
    }

    fn owner(&self, shard: u32) -> Option<String> {
        self.group.state(&self.facts).shards.iter().find(|s| s.shard.0 == shard).and_then(|s| s.owner.clone())
    }
}

const END: u64 = 1_000;

fn fact(parents: &[u32]) -> ShardFact {
    ShardFact { readonly: false, end: END, parents: parents.iter().map(|id| ShardId(*id)).collect() }
}

#[test]
fn a_lone_consumer_gets_every_free_shard_at_its_first_heartbeat() {
    let mut bed = Bed::new(4, false);
    assert_eq!(bed.beat("a", &[]), [0, 1, 2, 3]);
    assert_eq!(bed.states(), "AAAA");
}

#[test]
fn new_shard_waits_for_its_parents_only_in_an_ordered_group() {
    for (order, states) in [(true, "AWW"), (false, "AAA")] {
        let mut bed = Bed::new(1, order);
        bed.beat("a", &[]);
        bed.readonly(0);
        bed.child(1, &[0]);
        bed.child(2, &[0]);
        bed.beat("a", &[0]);
        assert_eq!(bed.states(), states, "order {order}");
    }
}

#[test]
fn waiting_shard_comes_free_when_all_its_ancestors_are_over() {
    let mut bed = Bed::new(2, true);
    bed.beat("a", &[]);
    bed.readonly(0);
    bed.readonly(1);
    bed.child(2, &[0, 1]);
    assert_eq!(bed.beat("a", &[0, 1]), [0, 1]);
    bed.commit("a", 0, END, false).unwrap();
    assert_eq!(bed.beat("a", &[0, 1]), [1], "one parent of a merge is not enough");
    assert_eq!(bed.states(), "OAW");
    bed.commit("a", 1, END, false).unwrap();
    assert_eq!(bed.beat("a", &[1]), [2]);
    assert_eq!(bed.states(), "OOA");
}

#[test]
fn grandchild_waits_for_the_grandparent_too() {
    let mut bed = Bed::new(1, true);
    bed.beat("a", &[]);
    bed.readonly(0);
    bed.child(1, &[0]);
    bed.readonly(1);
    bed.child(2, &[1]);
    bed.beat("a", &[0]);
    assert_eq!(bed.states(), "AWW");
    bed.commit("a", 0, END, false).unwrap();
    bed.beat("a", &[]);
    assert_eq!(bed.states(), "OAW");
    // A forced commit reopens the grandparent: finishing the parent is then not enough.
    bed.commit("", 0, 1, true).unwrap();
    bed.commit("a", 1, END, false).unwrap();
    bed.beat("a", &[]);
    assert_eq!(bed.states(), "AOW");
}

#[test]
fn silent_consumers_shards_come_free_after_the_timeout_and_not_before() {
    let mut bed = Bed::new(2, false);
    bed.beat("a", &[]);
    bed.pass(30);
    bed.beat("b", &[]);
    assert_eq!(bed.states(), "AT", "exactly the timeout is not older than it");
    bed.pass(1);
    assert_eq!(bed.beat("b", &[]), [0, 1]);
}

#[test]
fn too_many_shards_of_one_are_promised_until_two_differ_by_at_most_one() {
    let mut bed = Bed::new(5, false);
    bed.beat("a", &[]);
    assert_eq!(bed.beat("b", &[]), [] as [u32; 0], "what is promised is not handed out yet");
    assert_eq!(bed.states(), "AAATT");
    assert_eq!(bed.beat("a", &[0, 1, 2, 3, 4]), [0, 1, 2], "the holder learns by the omission");
    assert_eq!(bed.states(), "AAATT", "it still lists them, so it still holds them");
    assert_eq!(bed.beat("b", &[]), [] as [u32; 0]);
    assert_eq!(bed.beat("a", &[0, 1, 2, 4]), [0, 1, 2]);
    assert_eq!(bed.states(), "AAAAT");
    assert_eq!(bed.beat("b", &[]), [3], "handed out at the receiver's own heartbeat");
    bed.beat("a", &[0, 1, 2]);
    assert_eq!(bed.beat("b", &[3]), [3, 4]);
    assert_eq!(bed.states(), "AAAAA");
}

#[test]
fn free_shards_go_to_the_one_with_the_fewest_ties_by_name() {
    let mut bed = Bed::new(2, false);
    bed.beat("b", &[]);
    bed.beat("a", &[]);
    bed.beat("b", &[0]);
    assert_eq!((bed.owner(0).as_deref(), bed.owner(1).as_deref()), (Some("b"), Some("a")));
    bed.child(2, &[]);
    assert_eq!(bed.beat("b", &[0]), [0], "a and b have one each: a comes first by name");
    assert_eq!(bed.beat("a", &[1]), [1, 2]);
}

#[test]
fn transfer_ends_with_the_receiver_when_the_holder_expires_and_it_is_the_only_one_left() {
    let mut bed = Bed::new(2, false);
    bed.beat("a", &[]);
    bed.pass(20);
    bed.beat("b", &[]);
    assert_eq!(bed.states(), "AT");
    bed.pass(20);
    // The holder expired: in transfer and allocated shards alike become free, and the caller gets them.
    assert_eq!(bed.beat("b", &[]), [0, 1]);
}

#[test]
fn holder_keeps_a_shard_in_transfer_when_the_receiver_expires() {
    let mut bed = Bed::new(2, false);
    bed.beat("a", &[]);
    bed.beat("b", &[]);
    assert_eq!(bed.states(), "AT");
    bed.pass(29);
    bed.beat("a", &[0, 1]);
    bed.pass(2);
    assert_eq!(bed.beat("a", &[0, 1]), [0, 1]);
    assert_eq!(bed.states(), "AA");
}

#[test]
fn readonly_shard_is_over_by_the_commit_of_its_end_and_by_nothing_else() {
    let mut bed = Bed::new(1, false);
    bed.beat("a", &[]);
    bed.commit("a", 0, END, false).unwrap();
    assert_eq!(bed.states(), "A", "not read-only");
    bed.readonly(0);
    assert_eq!(bed.beat("a", &[0]), [0], "an old commit of the same cursor does not end it");
    bed.commit("a", 0, END - 1, false).unwrap();
    assert_eq!(bed.states(), "A");
    bed.commit("a", 0, END, false).unwrap();
    assert_eq!(bed.states(), "O");
    assert_eq!(bed.beat("a", &[0]), [] as [u32; 0]);
}

#[test]
fn forced_commit_before_the_end_reopens_a_shard_that_is_over() {
    let mut bed = Bed::new(1, false);
    bed.beat("a", &[]);
    bed.readonly(0);
    bed.commit("a", 0, END, false).unwrap();
    bed.commit("", 0, END, true).unwrap();
    assert_eq!(bed.states(), "O");
    bed.commit("", 0, END - 1, true).unwrap();
    assert_eq!(bed.states(), "N");
    assert_eq!(bed.beat("a", &[]), [0]);
}

#[test]
fn over_and_waiting_shards_are_not_counted_when_balancing() {
    let mut bed = Bed::new(2, true);
    bed.beat("a", &[]);
    bed.readonly(0);
    bed.commit("a", 0, END, false).unwrap();
    bed.child(2, &[1]);
    bed.beat("b", &[]);
    assert_eq!(bed.states(), "OAW", "a has one that counts, b none: they differ by one");
}

#[test]
fn shard_that_its_holder_does_not_list_stays_with_it() {
    let mut bed = Bed::new(1, false);
    bed.beat("a", &[]);
    assert_eq!(bed.beat("a", &[]), [0]);
    assert_eq!(bed.states(), "A");
}

#[test]
fn unknown_or_expired_consumer_with_shards_is_refused_and_joins_anew_without() {
    let mut bed = Bed::new(1, false);
    assert_eq!(bed.try_beat("a", &[0]).unwrap_err().code, "NotExistConsumerWithBody");
    assert_eq!(bed.beat("a", &[]), [0]);
    bed.pass(31);
    assert_eq!(bed.try_beat("a", &[0]).unwrap_err().code, "NotExistConsumerWithBody");
    assert_eq!(bed.states(), "N", "its lease is gone");
    assert_eq!(bed.beat("a", &[]), [0]);
}

#[test]
fn unforced_commit_needs_a_living_holder() {
    let mut bed = Bed::new(2, false);
    assert_eq!(bed.commit("a", 0, 5, false), Err("ConsumerNotExist"));
    bed.beat("a", &[]);
    bed.beat("b", &[]);
    assert_eq!(bed.states(), "AT");
    assert_eq!(bed.commit("b", 1, 5, false), Err("ConsumerNotMatch"), "promised is not held");
    assert_eq!(bed.commit("a", 1, 5, false), Ok(()), "in transfer is still held");
    bed.beat("a", &[0]);
    assert_eq!(bed.commit("a", 1, 6, false), Err("ConsumerNotMatch"), "given up");
    assert_eq!(bed.commit("a", 7, 6, false), Err("ShardNotExist"));
    bed.pass(31);
    assert_eq!(bed.commit("a", 0, 6, false), Err("ConsumerNotExist"), "expired");
    assert_eq!(bed.commit("a", 0, 6, true), Ok(()), "forced commits are not checked");
    let counts = bed.group.state(&bed.facts).commits["a"];
    assert_eq!(counts, CommitCounts { accepted: 2, refused: 4, backwards: 0 });
}

#[test]
fn commit_that_moves_back_is_taken_and_counted() {
    let mut bed = Bed::new(1, false);
    bed.beat("a", &[]);
    bed.commit("a", 0, 9, false).unwrap();
    bed.commit("a", 0, 4, false).unwrap();
    assert_eq!(bed.group.state(&bed.facts).commits["a"].backwards, 1);
}

#[test]
fn checkpoint_that_is_not_base64_is_refused() {
    let mut bed = Bed::new(1, false);
    bed.beat("a", &[]);
    let refusal = bed.group.commit("a", ShardId(0), "not base64!", false, &bed.facts, bed.now).unwrap_err();
    assert_eq!((refusal.status, refusal.code), (400, "InvalidShardCheckPoint"));
    assert_eq!(bed.group.checkpoints(Some(ShardId(0)), &bed.facts)[0].checkpoint, "");
}

#[test]
fn every_existing_shard_has_a_checkpoint_entry_and_a_missing_one_has_none() {
    let mut bed = Bed::new(2, false);
    let all = bed.group.checkpoints(None, &bed.facts);
    assert_eq!(all.iter().map(|c| (c.shard.0, c.checkpoint.as_str())).collect::<Vec<_>>(), [(0, ""), (1, "")]);
    assert!(bed.group.checkpoints(Some(ShardId(9)), &bed.facts).is_empty());
    bed.beat("a", &[]);
    bed.commit("a", 1, 7, false).unwrap();
    let one = &bed.group.checkpoints(Some(ShardId(1)), &bed.facts)[0];
    assert_eq!((one.consumer.as_str(), one.updated), ("a", bed.now));
}

/// Whatever joins, leaves, is silent or slow: two living consumers never own one shard, and in the end all is even.
#[test]
fn any_sequence_of_heartbeats_keeps_one_owner_and_ends_even() {
    for seed in 0..200 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut bed = Bed::new(random.u32(1..12), false);
        let names = ["a", "b", "c", "d"];
        // What each consumer believes to hold; it gives up what an answer omits, sometimes one heartbeat later.
        let mut held: BTreeMap<&str, (Vec<u32>, UnixMicros)> = BTreeMap::new();
        for _ in 0..300 {
            bed.pass(random.i64(0..8));
            let name = names[random.usize(..names.len())];
            let (mine, last) = held.get(name).cloned().unwrap_or_default();
            let mine = if bed.now.since(last) > Duration::from_secs(30) { Vec::new() } else { mine };
            let mut next = bed.beat(name, &mine);
            next.extend(mine.iter().filter(|_| random.bool()));
            next.sort_unstable();
            next.dedup();
            held.insert(name, (next, bed.now));
            let living = held.iter().filter(|(_, (_, last))| bed.now.since(*last) <= Duration::from_secs(30));
            let mut seen = BTreeSet::new();
            for shard in living.flat_map(|(_, (shards, _))| shards) {
                assert!(seen.insert(*shard), "seed {seed}: shard {shard} is held twice");
            }
        }
        for _ in 0..4 {
            for name in names {
                let mine = held.get(name).map(|(mine, _)| mine.clone()).unwrap_or_default();
                let mine = bed.try_beat(name, &mine).unwrap_or_else(|_| bed.beat(name, &[]));
                held.insert(name, (mine, bed.now));
            }
        }
        let counts: Vec<usize> = held.values().map(|(mine, _)| mine.len()).collect();
        assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1, "seed {seed}: {counts:?}");
        assert_eq!(counts.iter().sum::<usize>(), bed.facts.len(), "seed {seed}");
    }
}

#[test]
fn the_longest_silence_of_each_consumer_is_kept_and_holders_that_were_removed_for_it_are_counted() {
    let mut bed = Bed::new(1, false);
    bed.beat("one", &[]);
    bed.beat("two", &[]);
    for pause in [3, 20, 5] {
        bed.pass(pause);
        bed.beat("one", &[0]);
        bed.beat("two", &[]);
    }
    let state = bed.group.state(&bed.facts);
    assert_eq!((state.longest_gaps_ms["one"], state.expired_holders), (20_000, 0));
    bed.pass(31);
    bed.beat("three", &[]);
    let state = bed.group.state(&bed.facts);
    assert_eq!(state.consumers, ["three"]);
    assert_eq!(state.expired_holders, 1, "the other held nothing");
}
