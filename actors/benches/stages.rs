//! What each stage of the hot path costs on one core: decompress, walk, render, find frames, keep the accounts.
//!
//! `cargo bench -p sls-syslog-actors --bench stages [part of a name]` prints times. MB are 10⁶ bytes of raw log groups;
//! the best of many short rounds counts, because other work on the machine only ever makes a round slower.
//!
//! `cargo bench -p sls-syslog-actors --bench stages -- --count` counts instructions instead, with callgrind (valgrind),
//! and fails if a stage takes more than it is allowed. A count is the same on an idle and on a busy machine; it changes
//! with the code, the compiler and what valgrind offers of the processor. A change that makes a stage faster lowers its
//! limit here.

use std::hint::black_box;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use prost::Message as _;
use sls_syslog_actors::config::{DestinationConfig, Framing, Protocol};
use sls_syslog_actors::loghub::Block;
use sls_syslog_actors::loghub::generate::{Generator, Kind};
use sls_syslog_actors::model::cursor::Cursor;
use sls_syslog_actors::testing::seams::{Ledger, Piece, Session, SessionTimes, TrialTimes};
use sls_syslog_actors::wire::format::{Position, RenderSettings, Renderer};
use sls_syslog_actors::wire::sls::body::decompress;
use sls_syslog_actors::wire::sls::log_group::{Group, next_group, next_log, read_log};
use sls_syslog_actors::wire::sls::proto::LogGroupList;
use sls_syslog_actors::wire::sls::reply::Compression;
use sls_syslog_actors::wire::syslog::framing::next_frame;

/// Size of a body, as SLS hands them out under load.
const BODY: usize = 2_000_000;
/// Size of a piece, as by default.
const PIECE: usize = 4 << 20;
/// How much more than its limit a stage may take before the count fails: compilers differ a little.
const TOLERANCE: f64 = 1.10;
/// Names the stage that this process is to run once, for callgrind.
const CHILD: &str = "SLS_SYSLOG_BENCH_STAGE";

/// One stage with one kind of work.
struct Stage {
    name: &'static str,
    /// Instructions allowed for one unit.
    limit: f64,
    unit: Unit,
    prepare: fn() -> Box<dyn FnMut() -> u64>,
}

/// What a round counts.
#[derive(Clone, Copy)]
enum Unit {
    /// Bytes of raw log groups.
    RawByte,
    /// Batches or pieces.
    Batch,
}

const STAGES: &[Stage] = &[
    Stage { name: "decompress web", limit: 1.4, unit: Unit::RawByte, prepare: || decompressing(Kind::Web) },
    Stage { name: "walk web", limit: 2.11, unit: Unit::RawByte, prepare: || walking(Kind::Web) },
    Stage { name: "walk tiny", limit: 4.75, unit: Unit::RawByte, prepare: || walking(Kind::Tiny) },
    Stage { name: "render web, LF", limit: 5.96, unit: Unit::RawByte, prepare: || rendering(Kind::Web, Framing::Lf) },
    Stage {
        name: "render web, octet counting",
        limit: 6.1,
        unit: Unit::RawByte,
        prepare: || rendering(Kind::Web, Framing::OctetCounting),
    },
    Stage {
        name: "render audit, octet counting",
        limit: 4.45,
        unit: Unit::RawByte,
        prepare: || rendering(Kind::Audit, Framing::OctetCounting),
    },
    Stage {
        name: "render tiny, octet counting",
        limit: 16.74,
        unit: Unit::RawByte,
        prepare: || rendering(Kind::Tiny, Framing::OctetCounting),
    },
    Stage {
        name: "render nasty, octet counting",
        limit: 5.21,
        unit: Unit::RawByte,
        prepare: || rendering(Kind::Nasty, Framing::OctetCounting),
    },
    Stage { name: "render web of two kinds in turns", limit: 6.26, unit: Unit::RawByte, prepare: rendering_mixed },
    Stage { name: "find frames web, LF", limit: 0.4, unit: Unit::RawByte, prepare: || finding_frames(Framing::Lf) },
    Stage {
        name: "find frames web, octet counting",
        limit: 0.51,
        unit: Unit::RawByte,
        prepare: || finding_frames(Framing::OctetCounting),
    },
    Stage { name: "ledger, 128 batches in flight", limit: 234.0, unit: Unit::Batch, prepare: keeping_a_ledger },
    Stage { name: "session, 64 pieces in flight", limit: 736.0, unit: Unit::Batch, prepare: confirming_pieces },
];

fn main() -> ExitCode {
    if let Ok(name) = std::env::var(CHILD) {
        let stage = STAGES.iter().find(|stage| stage.name == name).expect("a stage of that name");
        let mut round = (stage.prepare)();
        // Buffers have their sizes, and caches their content, from the second round on.
        round();
        println!("{}", counted(&mut *round));
        return ExitCode::SUCCESS;
    }
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let counting = arguments.iter().any(|argument| argument == "--count");
    let wanted = arguments.iter().find(|argument| !argument.starts_with('-')).map_or("", String::as_str);
    let mut code = ExitCode::SUCCESS;
    for stage in STAGES.iter().filter(|stage| stage.name.contains(wanted)) {
        if !counting {
            time(stage);
        } else if !is_within_limit(stage) {
            code = ExitCode::FAILURE;
        }
    }
    code
}

/// The round that callgrind counts, by this function's name.
#[inline(never)]
fn counted(round: &mut dyn FnMut() -> u64) -> u64 {
    round()
}

fn time(stage: &Stage) {
    let mut round = (stage.prepare)();
    let (mut best, mut units) = (Duration::MAX, 0);
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(1) {
        let begin = Instant::now();
        units = round();
        best = best.min(begin.elapsed());
    }
    let each = best.as_secs_f64() / units as f64;
    match stage.unit {
        Unit::RawByte => println!("{:34} {:7.0} MB/s  {:7.3} ns a byte", stage.name, 1e-6 / each, each * 1e9),
        Unit::Batch => println!("{:34} {:7.0} ns a batch", stage.name, each * 1e9),
    }
}

fn is_within_limit(stage: &Stage) -> bool {
    let program = std::env::current_exe().expect("the path of this program");
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--toggle-collect=*counted*"])
        .arg(program)
        .env(CHILD, stage.name)
        .output()
        .expect("valgrind, which Debian has as a package");
    let said = String::from_utf8_lossy(&output.stderr);
    let count: Option<f64> = said
        .lines()
        .find_map(|line| line.split_once("Collected : "))
        .and_then(|(_, count)| count.split_whitespace().next()?.parse().ok());
    let units: Option<f64> = String::from_utf8_lossy(&output.stdout).trim().parse().ok();
    let (Some(count), Some(units)) = (count.filter(|count| *count > 0.0), units) else {
        panic!("callgrind counted nothing for {}: {said}", stage.name);
    };
    let each = count / units;
    let unit = match stage.unit {
        Unit::RawByte => "a raw byte",
        Unit::Batch => "a batch",
    };
    let is_within = each <= stage.limit * TOLERANCE;
    let verdict = match each / stage.limit {
        _ if !is_within => "TOO MANY",
        ratio if ratio < 1.0 / TOLERANCE => "ok; the limit can be lowered",
        _ => "ok",
    };
    println!("{:34} {each:8.3} instructions {unit}, limit {:8.3}: {verdict}", stage.name, stage.limit);
    is_within
}

// ---- the stages ------------------------------------------------------------------------------------------------------

fn decompressing(kind: Kind) -> Box<dyn FnMut() -> u64> {
    let block = block(kind);
    let mut buffer = Vec::new();
    Box::new(move || {
        let raw = decompress(black_box(block.lz4()), Compression::Lz4, block.raw_size(), &mut buffer);
        black_box(raw.expect("a whole body")).len() as u64
    })
}

fn walking(kind: Kind) -> Box<dyn FnMut() -> u64> {
    let raw = raw(kind);
    Box::new(move || {
        let (mut at, mut group, mut bytes) = (0, Group::default(), 0);
        while let Some(range) = next_group(&raw, at).expect("a group") {
            at = range.end;
            group.read(&raw, range.clone()).expect("a group");
            let mut log_at = range.start;
            while let Some(log) = next_log(&raw, log_at, range.end).expect("a log") {
                log_at = log.end;
                let time = read_log(&raw, log, |pair| bytes += pair.key.len() + pair.value.len()).expect("a log");
                black_box(time);
            }
        }
        black_box(bytes);
        raw.len() as u64
    })
}

fn rendering(kind: Kind, framing: Framing) -> Box<dyn FnMut() -> u64> {
    rendering_raw(raw(kind), framing)
}

/// Logs of which every other one lacks a field.
fn rendering_mixed() -> Box<dyn FnMut() -> u64> {
    let mut list = LogGroupList::decode(&raw(Kind::Web)[..]).expect("log groups");
    let logs = list.log_groups.iter_mut().flat_map(|group| &mut group.logs);
    logs.step_by(2).for_each(|log| drop(log.contents.remove(3)));
    rendering_raw(list.encode_to_vec(), Framing::OctetCounting)
}

fn rendering_raw(raw: Vec<u8>, framing: Framing) -> Box<dyn FnMut() -> u64> {
    let (mut renderer, mut out) = (Renderer::new(settings(framing)), Vec::with_capacity(PIECE));
    Box::new(move || {
        let mut position = Position::default();
        loop {
            out.clear();
            let rendered = renderer.render(black_box(&raw), &mut position, &mut out, PIECE).expect("log groups");
            black_box(&out);
            if rendered.done {
                return raw.len() as u64;
            }
        }
    })
}

/// What a cut costs: the messages of a piece are found to begin again at a border.
fn finding_frames(framing: Framing) -> Box<dyn FnMut() -> u64> {
    let (raw, mut out) = (raw(Kind::Web), Vec::new());
    let whole = Renderer::new(settings(framing)).render(&raw, &mut Position::default(), &mut out, 1 << 30);
    assert!(whole.expect("log groups").done);
    Box::new(move || {
        let mut at = 0;
        while let Some((end, message)) = next_frame(framing, black_box(&out[at..])) {
            black_box(message);
            at += end;
        }
        assert_eq!(at, out.len());
        raw.len() as u64
    })
}

fn keeping_a_ledger() -> Box<dyn FnMut() -> u64> {
    let cursors: Vec<Cursor> = (0..=1024).filter_map(|n| Cursor::new(&format!("MTcwMDAwMDAwMDAw{n}=="))).collect();
    Box::new(move || {
        let mut ledger = Ledger::default();
        let mut flying = std::collections::VecDeque::new();
        for step in cursors.windows(2) {
            flying.push_back(ledger.enter(step[0].clone(), step[1].clone(), 1, Some(1_700_000_000)));
            if flying.len() == 128
                && let Some(oldest) = flying.pop_front()
            {
                ledger.settle(ledger.generation(), oldest, true);
                black_box(ledger.advance());
            }
        }
        cursors.len() as u64 - 1
    })
}

struct Whole(std::rc::Rc<[u8]>);

impl Piece for Whole {
    fn frames(&self) -> &[u8] {
        &self.0
    }

    fn is_superseded(&self) -> bool {
        false
    }

    fn frame_end(&self, _: usize) -> usize {
        self.0.len()
    }

    fn may_be_refused(&self) -> bool {
        false
    }
}

fn confirming_pieces() -> Box<dyn FnMut() -> u64> {
    let second = Duration::from_secs(1);
    let frames: std::rc::Rc<[u8]> = vec![b'x'; 64 << 10].into();
    Box::new(move || {
        let times = SessionTimes {
            confirm_after_connect: Duration::ZERO,
            timeout: 120 * second,
            first_look: second,
            linger: second / 5,
            trials: Some(TrialTimes { silence: second, linger: second }),
        };
        let mut session = Session::new(times);
        let mut now = Instant::now();
        session.opened(now);
        session.looked(0, now);
        let mut wire = 0;
        for n in 0..1024_u64 {
            session.push(Whole(frames.clone()));
            now += Duration::from_micros(100);
            while let Some(bytes) = session.next_write(None).map(|write| write.bytes.len()) {
                session.wrote(bytes, now);
                wire += bytes as u64;
            }
            if n >= 64 {
                black_box(session.looked(wire - 64 * frames.len() as u64, now));
                black_box(session.next_settled());
            }
        }
        1024
    })
}

// ---- the work --------------------------------------------------------------------------------------------------------

fn block(kind: Kind) -> Block {
    let mut generator = Generator::new(kind, 1);
    let (block, _) = generator.block("bench-0", 0, u64::MAX, 64, BODY, 1_764_000_000).expect("log groups");
    block
}

fn raw(kind: Kind) -> Vec<u8> {
    let block = block(kind);
    let mut raw = Vec::new();
    decompress(block.lz4(), Compression::Lz4, block.raw_size(), &mut raw).expect("a whole body").to_vec()
}

fn settings(framing: Framing) -> RenderSettings {
    let mut destination = DestinationConfig::new("siem.example.com", Protocol::Tcp);
    destination.framing = framing;
    destination.hostname = "collector-1.example.com".to_owned();
    RenderSettings::from(&destination)
}
