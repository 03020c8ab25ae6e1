//! What SLS is asked, counted by operation, second, consumer and shard, against what the service allows.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;

use crate::model::ids::ShardId;
use crate::testing::hub::{Fault, InMemoryHub, Operation};

/// Requests of one kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Figures {
    /// In all.
    pub total: u64,
    /// In the worst second, of all consumers together.
    pub worst_second: u32,
    /// In the worst second of one consumer.
    pub worst_second_of_one: u32,
}

/// What was asked, and what of it the service limits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Requests {
    /// By operation.
    pub operations: Vec<(&'static str, Figures)>,
    /// All operations together.
    pub all: Figures,
    /// Reads in the worst minute and the worst second; the service allows a project [`PER_MINUTE`].
    pub reads: (u32, u32),
    /// Pulls in the worst second of one shard; the service allows [`PER_SHARD`].
    pub worst_second_of_a_shard: u32,
    /// Most shards that one heartbeat listed.
    pub longest_heartbeat: usize,
}

/// Reads in a minute that the service allows a project.
pub const PER_MINUTE: u32 = 600_000;
/// Reads in a second that the service allows a shard.
pub const PER_SHARD: u32 = 100;
/// Time that a request takes to SLS, and the answer back.
const ONE_WAY: Duration = Duration::from_millis(3);

const OPERATIONS: [&str; 11] = [
    "GetLogStore",
    "ListShards",
    "GetCursor",
    "GetCursorTime",
    "PullLogs",
    "CreateConsumerGroup",
    "ListConsumerGroup",
    "UpdateConsumerGroup",
    "HeartBeat",
    "GetCheckPoint",
    "UpdateCheckPoint",
];

/// Those that read logs.
const READS: Range<usize> = 2..5;

fn place_of(operation: &Operation) -> usize {
    match operation {
        Operation::GetLogStore => 0,
        Operation::ListShards => 1,
        Operation::GetCursor { .. } => 2,
        Operation::GetCursorTime { .. } => 3,
        Operation::PullLogs { .. } => 4,
        Operation::CreateConsumerGroup => 5,
        Operation::ListConsumerGroups => 6,
        Operation::UpdateConsumerGroup => 7,
        Operation::Heartbeat { .. } => 8,
        Operation::GetCheckpoint { .. } => 9,
        Operation::UpdateCheckpoint { .. } => 10,
    }
}

/// Counts; a clone counts together with it.
#[derive(Clone)]
pub(super) struct Traffic(Rc<RefCell<Counts>>);

struct Counts {
    began: Instant,
    seconds: Vec<[u32; OPERATIONS.len()]>,
    consumers: HashMap<String, [InSecond; OPERATIONS.len() + 1]>,
    shards: HashMap<ShardId, InSecond>,
    readers: HashMap<ShardId, Rc<str>>,
    longest_heartbeat: usize,
}

/// Requests in the second that is going on, and in the worst one.
#[derive(Debug, Clone, Copy, Default)]
struct InSecond {
    second: usize,
    now: u32,
    most: u32,
}

impl InSecond {
    fn add(&mut self, second: usize) {
        if second != self.second {
            (self.second, self.now) = (second, 0);
        }
        self.now += 1;
        self.most = self.most.max(self.now);
    }
}

impl Traffic {
    /// Counts all calls of the hub from now on, each of which takes its time.
    pub(super) fn of(hub: &InMemoryHub) -> Self {
        let traffic = Self(Rc::new(RefCell::new(Counts {
            began: Instant::now(),
            seconds: Vec::new(),
            consumers: HashMap::new(),
            shards: HashMap::new(),
            readers: HashMap::new(),
            longest_heartbeat: 0,
        })));
        let counting = traffic.clone();
        hub.on_call(move |consumer, operation| {
            counting.0.borrow_mut().count(consumer, operation);
            Fault { delay_before: ONE_WAY, delay_after: ONE_WAY, ..Fault::default() }
        });
        traffic
    }

    /// Who pulled the shard last.
    pub(super) fn reads(&self, consumer: &str, shard: ShardId) -> bool {
        self.0.borrow().readers.get(&shard).is_some_and(|reader| **reader == *consumer)
    }

    pub(super) fn requests(&self) -> Requests {
        let counts = self.0.borrow();
        let figures = |at: usize| Figures {
            total: counts.seconds.iter().map(|second| u64::from(second[at])).sum(),
            worst_second: counts.seconds.iter().map(|second| second[at]).max().unwrap_or_default(),
            worst_second_of_one: counts.worst_of_one(at),
        };
        let sums: Vec<u32> = counts.seconds.iter().map(|second| second.iter().sum()).collect();
        let reads: Vec<u32> = counts.seconds.iter().map(|second| second[READS].iter().sum()).collect();
        let minute = |at: usize| reads[at..(at + 60).min(reads.len())].iter().sum();
        Requests {
            operations: OPERATIONS.iter().enumerate().map(|(at, name)| (*name, figures(at))).collect(),
            all: Figures {
                total: sums.iter().map(|sum| u64::from(*sum)).sum(),
                worst_second: sums.iter().copied().max().unwrap_or_default(),
                worst_second_of_one: counts.worst_of_one(OPERATIONS.len()),
            },
            reads: (
                (0..reads.len()).map(minute).max().unwrap_or_default(),
                reads.iter().copied().max().unwrap_or_default(),
            ),
            worst_second_of_a_shard: counts.shards.values().map(|shard| shard.most).max().unwrap_or_default(),
            longest_heartbeat: counts.longest_heartbeat,
        }
    }
}

impl Counts {
    fn count(&mut self, consumer: &str, operation: &Operation) {
        let second = self.began.elapsed().as_secs() as usize;
        let place = place_of(operation);
        if self.seconds.len() <= second {
            self.seconds.resize(second + 1, [0; OPERATIONS.len()]);
        }
        self.seconds[second][place] += 1;
        if !self.consumers.contains_key(consumer) {
            self.consumers.insert(consumer.to_owned(), Default::default());
        }
        if let Some(counts) = self.consumers.get_mut(consumer) {
            counts[place].add(second);
            counts[OPERATIONS.len()].add(second);
        }
        match operation {
            Operation::PullLogs { shard, .. } => {
                self.shards.entry(*shard).or_default().add(second);
                if self.readers.get(shard).is_none_or(|reader| **reader != *consumer) {
                    self.readers.insert(*shard, consumer.into());
                }
            }
            Operation::Heartbeat { held } => self.longest_heartbeat = self.longest_heartbeat.max(held.len()),
            _ => {}
        }
    }

    fn worst_of_one(&self, at: usize) -> u32 {
        self.consumers.values().map(|counts| counts[at].most).max().unwrap_or_default()
    }
}

impl fmt::Display for Requests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = |name: &str, figures: &Figures| {
            let Figures { total, worst_second, worst_second_of_one } = figures;
            writeln!(f, "{name:<20} {total:>9} {worst_second:>14} {worst_second_of_one:>22}")
        };
        for (name, figures) in self.operations.iter().filter(|(_, figures)| figures.total > 0) {
            line(name, figures)?;
        }
        line("all", &self.all)?;
        let (minute, second) = self.reads;
        writeln!(f, "reads: {minute} in the worst minute of {PER_MINUTE}, {second} in the worst second")?;
        writeln!(f, "worst second of a shard: {} of {PER_SHARD} pulls", self.worst_second_of_a_shard)?;
        write!(f, "longest heartbeat: {} shards", self.longest_heartbeat)
    }
}
