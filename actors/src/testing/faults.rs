//! What goes wrong when: a plan that follows from its seed alone.

use std::fmt;
use std::time::Duration;

use super::hub::{BodyFault, Fault, InMemoryHub, Operation};
use super::receiver::{Behaviour, Dialing, Ending};
use crate::config::Confirmation;
use crate::model::cursor::StartPosition;

/// A whole scenario.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The seed that it follows from.
    pub seed: u64,
    /// Shards at the beginning.
    pub shards: u32,
    /// Forwarders that share the group.
    pub forwarders: usize,
    /// How they are set up.
    pub settings: Settings,
    /// How long SLS keeps logs; for ever if none.
    pub retention: Option<Duration>,
    /// A pull stops adding log groups once its uncompressed size passes this.
    pub pull_bytes: u64,
    /// What happens, in order of time.
    pub steps: Vec<Step>,
    /// From here on all is well.
    pub heals_at: Duration,
}

/// What varies from plan to plan in the settings of forwarders.
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "the names are those of the settings")]
pub struct Settings {
    pub workers: usize,
    pub connections: usize,
    pub formatter_mailbox: usize,
    pub connection_mailbox: usize,
    pub confirmation: Confirmation,
    pub confirm_after_connect: Duration,
    pub timeout: Duration,
    pub heartbeat_interval: Duration,
    pub commit_interval: Duration,
    pub drain_timeout: Duration,
    pub max_log_groups: u32,
    pub in_order: bool,
    pub start: StartPosition,
    pub messages_per_second: Option<u32>,
}

/// Something that happens.
#[derive(Debug, Clone)]
pub struct Step {
    /// When, from the beginning.
    pub at: Duration,
    /// What.
    pub what: What,
}

/// What happens.
#[derive(Debug, Clone)]
pub enum What {
    /// Log groups are written, each with so many logs, whose texts have up to so many bytes.
    Put {
        /// Log groups.
        groups: u32,
        /// Logs in each.
        logs: u32,
        /// Longest text.
        length: usize,
    },
    /// SLS misbehaves.
    Sls(SlsFault),
    /// The receiver behaves like this for a while.
    Receiver(Behaviour, Duration),
    /// The receiver ends its connections.
    EndConnections(Ending),
    /// SLS gives all shards to somebody else for a while without telling; checkpoints stay.
    Theft(Duration),
    /// The group is deleted.
    DeleteGroup,
    /// A shard is split.
    Split(u32),
    /// Two shards are merged.
    Merge(u32),
    /// A forwarder is told to stop.
    Stop(usize),
    /// A forwarder's process is killed.
    Crash(usize),
    /// A forwarder is started, if it does not run.
    Start(usize),
    /// The next attempt to connect causes a panic.
    PanicWhileDialing,
}

/// SLS misbehaves towards some calls of some consumers.
#[derive(Debug, Clone)]
pub struct SlsFault {
    /// Towards this forwarder; towards all if none.
    pub forwarder: Option<usize>,
    /// Which calls.
    pub calls: Calls,
    /// How.
    pub how: How,
    /// How many calls of a hundred.
    pub percent: u8,
    /// For how long.
    pub lasting: Duration,
}

/// Which calls are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "they speak for themselves")]
pub enum Calls {
    All,
    Heartbeats,
    Commits,
    Pulls,
    Checkpoints,
    Others,
}

/// How a call goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// The connection fails before SLS sees the request.
    Cut,
    /// SLS acts, but its answer is lost.
    LoseAnswer,
    /// The request takes this long to arrive.
    Late(Duration),
    /// The answer takes this long to arrive.
    LateAnswer(Duration),
    /// SLS refuses with this status and code.
    Refuse(u16, &'static str),
    /// The body of a pull is spoilt.
    Body(BodyFault),
    /// The client panics.
    Panic,
}

/// Part of the message of every panic that a plan causes.
pub const PLANNED_PANIC: &str = "a planned panic";

impl Calls {
    /// Whether this call is concerned.
    pub fn concerns(self, operation: &Operation) -> bool {
        let kind = match operation {
            Operation::Heartbeat { .. } => Self::Heartbeats,
            Operation::UpdateCheckpoint { .. } => Self::Commits,
            Operation::PullLogs { .. } => Self::Pulls,
            Operation::GetCheckpoint { .. } | Operation::GetCursor { .. } => Self::Checkpoints,
            _ => Self::Others,
        };
        self == Self::All || self == kind
    }
}

impl How {
    /// What the hub is told.
    ///
    /// # Panics
    /// If the plan says so.
    pub fn to_fault(self) -> Fault {
        match self {
            Self::Cut => Fault::transport("the connection was cut"),
            Self::LoseAnswer => Fault::lost_answer("the connection was cut before the answer"),
            Self::Late(delay_before) => Fault { delay_before, ..Fault::default() },
            Self::LateAnswer(delay_after) => Fault { delay_after, ..Fault::default() },
            Self::Refuse(status, code) => Fault::refused(status, code, "as planned"),
            Self::Body(fault) => Fault::body(fault),
            Self::Panic => panic!("{PLANNED_PANIC} in a client of SLS"),
        }
    }
}

impl Plan {
    /// A plan in which nothing goes wrong.
    pub fn healthy(seed: u64) -> Self {
        let mut plan = Self::from_seed(seed);
        plan.steps.retain(|step| matches!(step.what, What::Put { .. }));
        plan.retention = None;
        plan.settings.start = StartPosition::Begin;
        plan
    }

    /// The plan of a seed.
    pub fn from_seed(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let rng = &mut rng;
        let forwarders = *pick(rng, &[1, 1, 1, 2, 2, 3]);
        let settings = Settings::draw(rng);
        let heals_at = Duration::from_secs(rng.u64(5..60));
        let mut steps = Vec::new();
        // Seldom so much that the budget of bytes is used up: it takes its time.
        let is_heavy = rng.u8(..50) == 0;
        let length = if is_heavy { 150_000 } else { *pick(rng, &[20, 200, 200, 2_000, 20_000]) };
        for _ in 0..rng.u32(1..8) {
            let (groups, logs) = (rng.u32(1..12), rng.u32(1..4));
            steps.push(Step { at: moment(rng, heals_at), what: What::Put { groups, logs, length } });
        }
        // The first logs are there before anybody comes.
        steps.push(Step { at: Duration::ZERO, what: What::Put { groups: rng.u32(1..20), logs: 2, length } });
        for _ in 0..rng.u32(1..10) {
            // Starts are short, and much can go wrong in them.
            let end = if rng.u8(..6) == 0 { Duration::from_secs(2) } else { heals_at };
            steps.push(Step { at: moment(rng, end), what: What::draw(rng, forwarders) });
        }
        steps.sort_by_key(|step| step.at);
        let pull_bytes = if is_heavy { 4 << 20 } else { *pick(rng, &[1 << 10, 64 << 10]) };
        let retention = (rng.u8(..8) == 0).then(|| Duration::from_secs(rng.u64(10..60)));
        Self { seed, shards: rng.u32(1..5), forwarders, settings, retention, pull_bytes, steps, heals_at }
    }

    /// Whether the receiver may lose what it has acknowledged.
    pub fn receiver_loses(&self) -> bool {
        self.settings.confirmation == Confirmation::Written
            || self.steps.iter().any(|step| match &step.what {
                What::EndConnections(ending) => *ending == Ending::Reset,
                What::Receiver(behaviour, _) => behaviour.refuses_after.is_some(),
                _ => false,
            })
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "seed {}: {} shards, {} forwarders, retention {:?}",
            self.seed, self.shards, self.forwarders, self.retention
        )?;
        writeln!(f, "  {:?}", self.settings)?;
        for step in &self.steps {
            writeln!(f, "  {:>7.3} {:?}", step.at.as_secs_f64(), step.what)?;
        }
        write!(f, "  {:>7.3} all is well again", self.heals_at.as_secs_f64())
    }
}

fn pick<'a, T>(rng: &mut fastrand::Rng, from: &'a [T]) -> &'a T {
    &from[rng.usize(..from.len())]
}

fn moment(rng: &mut fastrand::Rng, end: Duration) -> Duration {
    Duration::from_millis(rng.u64(..end.as_millis() as u64))
}

fn millis(rng: &mut fastrand::Rng, from: u64, to: u64) -> Duration {
    Duration::from_millis(rng.u64(from..to))
}

impl Settings {
    fn draw(rng: &mut fastrand::Rng) -> Self {
        let confirmation = *pick(rng, &[Confirmation::TcpAcked, Confirmation::TcpAcked, Confirmation::Written]);
        Self {
            workers: rng.usize(1..3),
            connections: rng.usize(1..3),
            formatter_mailbox: rng.usize(1..10),
            connection_mailbox: rng.usize(1..6),
            confirmation,
            confirm_after_connect: match rng.u8(..3) {
                0 => Duration::ZERO,
                1 => millis(rng, 100, 1000),
                _ => Duration::from_secs(1),
            },
            timeout: millis(rng, 1500, 8000),
            heartbeat_interval: millis(rng, 400, 4000),
            commit_interval: millis(rng, 50, 3000),
            drain_timeout: millis(rng, 500, 8000),
            max_log_groups: *pick(rng, &[1, 3, 10, 1000]),
            in_order: rng.bool(),
            start: match rng.u8(..8) {
                0 => StartPosition::End,
                1 => StartPosition::UnixSeconds(InMemoryHub::START_UNIX_S + rng.i64(-10..40)),
                _ => StartPosition::Begin,
            },
            messages_per_second: (rng.u8(..8) == 0).then(|| rng.u32(50..5000)),
        }
    }
}

impl What {
    fn draw(rng: &mut fastrand::Rng, forwarders: usize) -> Self {
        let forwarder = rng.usize(..forwarders);
        match rng.u8(..24) {
            0..8 => Self::Sls(SlsFault::draw(rng, forwarders)),
            8..13 => Self::Receiver(misbehaviour(rng), millis(rng, 200, 15_000)),
            13 | 14 => Self::EndConnections(*pick(rng, &[Ending::Fin, Ending::Reset])),
            15 => Self::Theft(millis(rng, 500, 10_000)),
            16 => Self::DeleteGroup,
            17 => Self::Split(rng.u32(..8)),
            18 => Self::Merge(rng.u32(..8)),
            19 => Self::Stop(forwarder),
            20 => Self::Crash(forwarder),
            21 | 22 => Self::Start(forwarder),
            _ => Self::PanicWhileDialing,
        }
    }
}

impl SlsFault {
    fn draw(rng: &mut fastrand::Rng, forwarders: usize) -> Self {
        let calls = *pick(
            rng,
            &[
                Calls::All,
                Calls::Heartbeats,
                Calls::Commits,
                Calls::Pulls,
                Calls::Pulls,
                Calls::Checkpoints,
                Calls::Others,
            ],
        );
        let how = match (calls, rng.u8(..10)) {
            (_, 0) => How::Cut,
            (_, 1) => How::LoseAnswer,
            (_, 2) => How::Late(millis(rng, 50, 15_000)),
            (_, 3) => How::LateAnswer(millis(rng, 50, 15_000)),
            (_, 4) => How::Refuse(500, "InternalServerError"),
            (Calls::Heartbeats, 5 | 6) => How::Refuse(400, "NotExistConsumerWithBody"),
            (Calls::Heartbeats, 7) => How::Refuse(404, "ConsumerNotExist"),
            (Calls::Commits, 5 | 6) => How::Refuse(400, "ConsumerNotMatch"),
            (Calls::Commits, 7) => How::Refuse(404, "ConsumerNotExist"),
            (Calls::Pulls, 5..9) => How::Body(spoilt_body(rng)),
            (_, 8) => How::Refuse(403, "ReadQuotaExceed"),
            (Calls::Pulls | Calls::Checkpoints | Calls::Heartbeats | Calls::Commits, 9) => How::Panic,
            _ => How::Refuse(503, "ServerBusy"),
        };
        let forwarder = rng.bool().then(|| rng.usize(..forwarders));
        Self { forwarder, calls, how, percent: *pick(rng, &[100, 100, 60, 20]), lasting: millis(rng, 100, 20_000) }
    }
}

fn spoilt_body(rng: &mut fastrand::Rng) -> BodyFault {
    match rng.u8(..6) {
        0 => BodyFault::CutAt(rng.usize(..40)),
        1 => BodyFault::Corrupt,
        2 => BodyFault::RawSize(rng.u64(1..5000)),
        3 => BodyFault::Count(rng.u32(1..50)),
        4 => *pick(rng, &[BodyFault::NoCursor, BodyFault::SameCursor]),
        _ => BodyFault::Slow(millis(rng, 50, 8000)),
    }
}

fn misbehaviour(rng: &mut fastrand::Rng) -> Behaviour {
    let healthy = Behaviour::healthy();
    match rng.u8(..8) {
        0 => Behaviour { reads: Some((rng.usize(1..4000), millis(rng, 5, 200))), buffer: 4096, ..healthy },
        1 => Behaviour { reads: None, buffer: rng.usize(1000..100_000), ..healthy },
        2 => Behaviour { acknowledges_after: millis(rng, 10, 3000), ..healthy },
        3 => Behaviour { dialing: Dialing::Refuse, ..healthy },
        4 => Behaviour { dialing: Dialing::Silence, ..healthy },
        5 => Behaviour { dial_takes: millis(rng, 10, 3000), ..healthy },
        6 => Behaviour { refuses_after: Some(millis(rng, 1, 1500)), ..healthy },
        _ => Behaviour {
            buffer: 1000,
            reads: Some((500, millis(rng, 1, 50))),
            acknowledges_after: millis(rng, 1, 50),
            ..healthy
        },
    }
}
