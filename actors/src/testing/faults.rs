//! What goes wrong when: a plan that follows from its seed alone.

use std::fmt;
use std::time::Duration;

use super::dead_letter::KeepFault;
use super::hub::{AnswerFault, BodyFault, Fault, InMemoryHub, Operation};
use super::receiver::{Answers, Behaviour, Dialing, Ending};
use crate::config::Confirmation;
use crate::model::cursor::StartPosition;
use crate::wire::sls::reply::Compression;

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
    /// Settings of a group that is there before anybody comes: timeout in seconds, and order.
    pub existing_group: Option<(u32, bool)>,
    /// The receiver never takes a longer message (rule C4).
    pub longest: Option<usize>,
    /// A pull stops adding log groups once its uncompressed size passes this.
    pub pull_bytes: u64,
    /// How SLS compresses what is pulled.
    pub compression: Compression,
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
    pub relp_window: usize,
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
    /// SLS gives all shards to somebody else for a while without telling; checkpoints stay. After no time at all they
    /// are free again, and whoever lost them regains them.
    Theft(Moment, Duration),
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
    /// A forwarder's process ends, another begins in its place, and is told to stop after this time.
    StopDuringStart(usize, Duration),
    /// A forwarder's process stands still for so long, as one that is stopped, or a virtual machine that is paused and
    /// whose clock goes on: the clock has jumped when it goes on.
    Freeze(usize, Duration),
    /// The wall clock of all forwarders jumps by so many seconds.
    ClockJump(i64),
    /// The next time that somebody is there, a panic.
    Panic(Place),
    /// The dead letter fails so for a while; a panic, once.
    DeadLetter(KeepFault, Duration),
}

/// When shards are stolen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// At once.
    Now,
    /// When the next commit arrives at SLS, which it therefore refuses.
    NextCommit,
    /// When the answer to the next pull has been made.
    NextPull,
}

/// Where a panic is caused that no call to SLS can cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A connection connects.
    Dialing,
    /// A connection writes, with pieces in hand.
    Writing,
    /// A worker prepares its connections.
    Preparing,
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
    /// SLS acts, and its answer is spoilt, where it is one in JSON.
    Answer(AnswerFault),
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
            Self::Answer(fault) => Fault::answer(fault),
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
        (plan.existing_group, plan.longest) = (None, None);
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
        // Few messages are too long for such a receiver: each takes its time.
        let answers = matches!(settings.confirmation, Confirmation::TcpAcked | Confirmation::AppAcked);
        let limited = !is_heavy && answers && rng.u8(..12) == 0;
        let longest = limited.then(|| *pick(rng, &[70_000, 20_000, 3_000]));
        let length = if is_heavy {
            150_000
        } else if let Some(longest) = longest {
            longest + longest / 20
        } else {
            *pick(rng, &[20, 200, 200, 2_000, 20_000])
        };
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
        for _ in 0..if longest.is_some() { rng.u32(..4) } else { 0 } {
            let what = What::DeadLetter(keep_fault(rng), millis(rng, 100, 30_000));
            steps.push(Step { at: moment(rng, heals_at), what });
        }
        steps.sort_by_key(|step| step.at);
        let pull_bytes = if is_heavy { 4 << 20 } else { *pick(rng, &[1 << 10, 64 << 10]) };
        let retention = (longest.is_none() && rng.u8(..8) == 0).then(|| Duration::from_secs(rng.u64(10..60)));
        let existing_group = (rng.u8(..8) == 0).then(|| (rng.u32(1..12), rng.bool()));
        Self {
            seed,
            shards: rng.u32(1..5),
            forwarders,
            settings,
            retention,
            existing_group,
            longest,
            pull_bytes,
            compression: if seed.is_multiple_of(2) { Compression::Lz4 } else { Compression::Zstd },
            steps,
            heals_at,
        }
    }

    /// Whether nothing goes wrong, and no shard ever changes hands.
    pub fn is_calm(&self) -> bool {
        self.forwarders == 1
            && self.retention.is_none()
            && self.steps.iter().all(|s| matches!(s.what, What::Put { .. }))
    }

    /// Whether connections end, or messages are refused, for reasons that a long message may be blamed for.
    pub fn receiver_misleads(&self) -> bool {
        self.steps.iter().any(|step| matches!(step.what, What::Receiver(..) | What::EndConnections(_)))
    }

    /// Whether the receiver may lose what counts as confirmed.
    pub fn receiver_loses(&self) -> bool {
        match self.settings.confirmation {
            Confirmation::AppAcked => false,
            Confirmation::Written | Confirmation::Sent => true,
            Confirmation::TcpAcked if self.longest.is_some() => true,
            Confirmation::TcpAcked => self.steps.iter().any(|step| match &step.what {
                What::EndConnections(ending) => *ending == Ending::Reset,
                What::Receiver(behaviour, _) => behaviour.refuses_after.is_some() || behaviour.longest.is_some(),
                _ => false,
            }),
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "seed {}: {} shards, {} forwarders, retention {:?}, existing group {:?}, longest message {:?}",
            self.seed, self.shards, self.forwarders, self.retention, self.existing_group, self.longest
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
        let confirmation = match rng.u8(..10) {
            0..5 => Confirmation::TcpAcked,
            5..7 => Confirmation::Written,
            _ => Confirmation::AppAcked,
        };
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
            relp_window: rng.usize(1..200),
            messages_per_second: (rng.u8(..8) == 0).then(|| rng.u32(50..5000)),
        }
    }
}

impl What {
    fn draw(rng: &mut fastrand::Rng, forwarders: usize) -> Self {
        let forwarder = rng.usize(..forwarders);
        match rng.u8(..31) {
            0..9 => Self::Sls(SlsFault::draw(rng, forwarders)),
            9..14 => Self::Receiver(misbehaviour(rng), millis(rng, 200, 15_000)),
            14 | 15 => Self::EndConnections(*pick(rng, &[Ending::Fin, Ending::Reset])),
            16 | 17 => {
                let moment = *pick(rng, &[Moment::Now, Moment::NextCommit, Moment::NextPull]);
                let lasting = if rng.bool() { Duration::ZERO } else { millis(rng, 500, 10_000) };
                Self::Theft(moment, lasting)
            }
            18 => Self::DeleteGroup,
            19 => Self::Split(rng.u32(..8)),
            20 => Self::Merge(rng.u32(..8)),
            21 => Self::Stop(forwarder),
            22 => Self::Crash(forwarder),
            23 | 24 => Self::Start(forwarder),
            25 => Self::StopDuringStart(forwarder, millis(rng, 0, 3000)),
            26 | 27 => Self::Freeze(forwarder, millis(rng, 50, 20_000)),
            28 => Self::ClockJump(rng.i64(-90_000..90_000)),
            _ => Self::Panic(*pick(rng, &[Place::Dialing, Place::Writing, Place::Preparing])),
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
        let how = match (calls, rng.u8(..14)) {
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
            (Calls::Pulls, 10..) => How::Body(spoilt_body(rng)),
            (_, 10) => How::Answer(AnswerFault::Empty),
            (_, 11) => How::Answer(AnswerFault::CutAt(rng.usize(..1000))),
            (_, 12) => How::Answer(AnswerFault::GarbledFrom(rng.usize(..1000))),
            (_, 13) => How::Refuse(403, "Unauthorized"),
            _ => How::Refuse(503, "ServerBusy"),
        };
        let forwarder = rng.bool().then(|| rng.usize(..forwarders));
        Self { forwarder, calls, how, percent: *pick(rng, &[100, 100, 60, 20]), lasting: millis(rng, 100, 20_000) }
    }
}

fn spoilt_body(rng: &mut fastrand::Rng) -> BodyFault {
    match rng.u8(..9) {
        0 => BodyFault::CutAt(rng.usize(..40)),
        6 => BodyFault::CutAt(rng.usize(..4000)),
        7 => BodyFault::Short(rng.usize(1..400)),
        8 => BodyFault::PanicWhenDropped,
        1 => BodyFault::Corrupt,
        2 => BodyFault::RawSize(rng.u64(1..5000)),
        3 => BodyFault::Count(rng.u32(1..50)),
        4 => *pick(rng, &[BodyFault::NoCursor, BodyFault::SameCursor]),
        _ => BodyFault::Slow(millis(rng, 50, 8000)),
    }
}

fn keep_fault(rng: &mut fastrand::Rng) -> KeepFault {
    match rng.u8(..5) {
        0 => KeepFault::Full,
        1 => KeepFault::Unwritable,
        2 => KeepFault::KeptButFailed,
        3 => KeepFault::Panic,
        _ => KeepFault::Slow(millis(rng, 50, 20_000)),
    }
}

fn misbehaviour(rng: &mut fastrand::Rng) -> Behaviour {
    let healthy = Behaviour::healthy();
    match rng.u8(..10) {
        8 | 9 => {
            let answers =
                *pick(rng, &[Answers::Take, Answers::Refuse, Answers::Silence, Answers::Rubbish, Answers::End]);
            Behaviour { answers: (answers, millis(rng, 0, 2000)), ..healthy }
        }
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
