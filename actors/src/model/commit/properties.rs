//! Against a naive model: lists of what was ready, sent and stored.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const INTERVAL: Duration = Duration::from_secs(3);
const RETRY: Duration = Duration::from_secs(1);
const SHARDS: u32 = 20;

#[derive(Debug, Clone)]
enum Op {
    Wait(u64),
    Begin(u32),
    End(u32),
    /// A position that moved on by so much, perhaps of an older lease.
    Ready(u32, u64, bool, bool),
    Flush(u32),
    /// All that is due is sent; the lease table forbids shards above this one.
    Send(u32),
    /// One of those in flight ends, counted round their number.
    Ended(usize, bool),
}

fn op() -> impl Strategy<Value = Op> {
    let shard = || prop_oneof![3 => 0..3_u32, 1 => 0..SHARDS];
    prop_oneof![
        4 => (1..4_000_u64).prop_map(Op::Wait),
        2 => shard().prop_map(Op::Begin),
        1 => shard().prop_map(Op::End),
        12 => (shard(), 0..3_u64, prop::bool::weighted(0.1), prop::bool::weighted(0.1))
            .prop_map(|(shard, by, stale, even)| Op::Ready(shard, by, stale, even)),
        2 => shard().prop_map(Op::Flush),
        6 => prop_oneof![4 => Just(SHARDS), 1 => shard()].prop_map(Op::Send),
        6 => (0..16_usize, prop::bool::weighted(0.7)).prop_map(|(pick, ok)| Op::Ended(pick, ok)),
    ]
}

/// One lease.
#[derive(Debug, Default)]
struct Seen {
    epoch: u64,
    /// The last position that was ready, and whether it is wanted although it may be committed already.
    ready: Option<u64>,
    even: bool,
    sent: Vec<u64>,
    stored: Option<u64>,
}

struct Naive {
    table: CommitTable,
    now: Instant,
    epochs: u64,
    leases: BTreeMap<u32, Seen>,
    in_flight: Vec<Order>,
    last_stored: BTreeMap<u32, u64>,
}

fn cursor(n: u64) -> Cursor {
    Cursor::new(&format!("c{n}")).expect("printable")
}

fn number(cursor: &Cursor) -> u64 {
    cursor.as_str()[1..].parse().expect("a number")
}

impl Naive {
    fn apply(&mut self, op: &Op) {
        match op {
            Op::Wait(ms) => self.now += Duration::from_millis(*ms),
            Op::Begin(shard) => {
                self.epochs += 1;
                self.table.begin(self.now, ShardId(*shard), Epoch(self.epochs));
                self.leases.insert(*shard, Seen { epoch: self.epochs, ..Seen::default() });
            }
            Op::End(shard) => {
                self.table.end(ShardId(*shard));
                self.leases.remove(shard);
            }
            Op::Ready(shard, by, stale, even) => {
                let Some(seen) = self.leases.get_mut(shard) else { return };
                let position = seen.ready.unwrap_or(0) + by;
                let epoch = Epoch(if *stale { seen.epoch - 1 } else { seen.epoch });
                if !stale {
                    (seen.ready, seen.even) = (Some(position), *even);
                }
                self.table.ready(ShardId(*shard), epoch, cursor(position), *even);
            }
            Op::Flush(shard) => self.table.flush(self.now, ShardId(*shard)),
            Op::Send(allowed) => {
                while let Some(order) = self.table.next(self.now, |shard, _| shard.0 < *allowed) {
                    assert!(order.shard.0 < *allowed, "I3: it was forbidden");
                    self.sent(order);
                }
            }
            Op::Ended(pick, stored) => {
                if self.in_flight.is_empty() {
                    return;
                }
                let order = self.in_flight.swap_remove(pick % self.in_flight.len());
                self.table.ended(self.now, &order, *stored, RETRY);
                if !stored {
                    return;
                }
                let position = number(&order.cursor);
                self.last_stored.insert(order.shard.0, position);
                if let Some(seen) = self.leases.get_mut(&order.shard.0).filter(|seen| seen.epoch == order.epoch.0) {
                    seen.stored = Some(position);
                }
            }
        }
        self.check();
    }

    fn sent(&mut self, order: Order) {
        let seen = self.leases.get_mut(&order.shard.0).expect("a lease");
        assert_eq!(order.epoch.0, seen.epoch, "I3: of a lease that is over");
        let position = number(&order.cursor);
        assert_eq!(Some(position), seen.ready, "the newest position is sent");
        assert!(seen.sent.last().is_none_or(|last| *last <= position), "I2: backwards");
        assert!(self.in_flight.iter().all(|other| other.shard != order.shard), "L3: one per shard");
        seen.sent.push(position);
        self.in_flight.push(order);
        assert!(self.in_flight.len() <= MAX_IN_FLIGHT, "L3");
    }

    fn check(&self) {
        for shard in 0..SHARDS {
            let last = self.table.last_confirmed(ShardId(shard)).map(number);
            assert_eq!(last, self.last_stored.get(&shard).copied(), "L6: where the next lease would go on");
            if let Some((epoch, stored)) = self.table.stored(ShardId(shard)) {
                let seen = self.leases.get(&shard).expect("a lease");
                assert_eq!((epoch.0, Some(number(stored))), (seen.epoch, seen.stored), "U9: nobody is accused wrongly");
            }
        }
    }

    /// All commits succeed from now on: what was ready is stored.
    fn finish(&mut self) {
        for _ in 0..10 {
            while !self.in_flight.is_empty() {
                self.apply(&Op::Ended(0, true));
            }
            self.apply(&Op::Wait(4_000));
            self.apply(&Op::Send(SHARDS));
        }
        for (shard, seen) in &self.leases {
            assert_eq!(seen.stored, seen.ready, "shard {shard}");
            assert!(self.table.is_done(ShardId(*shard), Epoch(seen.epoch)), "a release waits for nothing");
        }
        assert_eq!(self.table.next_event(), None);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn no_history_commits_backwards_or_under_a_stale_lease_or_forgets_a_position(
        ops in prop::collection::vec(op(), 0..150),
    ) {
        let mut naive = Naive {
            table: CommitTable::new(INTERVAL),
            now: Instant::now(),
            epochs: 1,
            leases: BTreeMap::new(),
            in_flight: Vec::new(),
            last_stored: BTreeMap::new(),
        };
        for op in &ops {
            naive.apply(op);
        }
        naive.finish();
    }
}
