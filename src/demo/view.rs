//! Where the demo tells what happens: in lines, or in a picture that is drawn anew ten times a second.
//!
//! The picture's facts are those of all three parties: what LogHub holds and has been committed to, what the forwarder
//! says of itself, and what the receiver has read.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Write};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sls_syslog_actors::loghub::decode_cursor;
use sls_syslog_actors::loghub::state::{GroupState, ShardState};
use sls_syslog_actors::messages::ForwarderStatus;

use super::SharedChecker;
use super::chaos::THIEF;
use super::outside::Connections;
use super::picture::{Holder, Scene, ShardRow};
use super::proof::Source;
use super::screen::Held;

/// Lines or a picture.
pub(super) enum View {
    /// A line for each thing that happens, and for how it goes now and then.
    Lines,
    /// What there is to draw.
    Picture(Box<RefCell<Told>>),
}

/// What the picture is made of.
pub(super) struct Told {
    begin: Instant,
    held: Held,
    wanted: u64,
    way: String,
    parties: Option<Parties>,
    status: Option<ForwarderStatus>,
    faults: Vec<(&'static str, u64)>,
    events: VecDeque<String>,
    rates: VecDeque<u64>,
    lags: VecDeque<u64>,
    sampled: (Instant, u64),
}

/// Whom the picture asks by itself.
struct Parties {
    source: Rc<Source>,
    checker: SharedChecker,
    connections: Arc<Connections>,
}

/// Events and samples that are kept; no terminal shows more.
const KEPT: usize = 400;
/// Time between two columns of the plots.
const SAMPLE: Duration = Duration::from_millis(250);

impl View {
    /// A picture of a run that is about to begin.
    pub(super) fn picture(wanted: u64, held: Held) -> Self {
        let begin = Instant::now();
        Self::Picture(Box::new(RefCell::new(Told {
            begin,
            held,
            wanted,
            way: String::new(),
            parties: None,
            status: None,
            faults: Vec::new(),
            events: VecDeque::new(),
            rates: VecDeque::new(),
            lags: VecDeque::new(),
            sampled: (begin, 0),
        })))
    }

    /// Names the parties, and from whom the picture learns how it goes.
    pub(super) fn begin(
        &self,
        (hub, way, siem): (String, &str, String),
        source: &Rc<Source>,
        checker: &SharedChecker,
        connections: &Arc<Connections>,
    ) {
        match self {
            Self::Lines => {
                say(format_args!("LogHub   {hub}  ({} shards)", source.shards()));
                say(format_args!("receiver {siem} over {way}, client certificate asked for"));
            }
            Self::Picture(told) => {
                let mut told = told.borrow_mut();
                told.way = format!("LogHub {hub} -> {way} -> receiver {siem}");
                told.parties = Some(Parties {
                    source: Rc::clone(source),
                    checker: Arc::clone(checker),
                    connections: Arc::clone(connections),
                });
            }
        }
    }

    /// Tells something that happened.
    pub(super) fn event(&self, what: fmt::Arguments<'_>) {
        match self {
            Self::Lines => say(what),
            Self::Picture(told) => push(&mut told.borrow_mut().events, what.to_string()),
        }
    }

    /// Tells how it goes, which the picture shows anyway.
    pub(super) fn progress(&self, how: fmt::Arguments<'_>) {
        if matches!(self, Self::Lines) {
            say(how);
        }
    }

    /// Counts something that was done to the forwarder, by its name.
    pub(super) fn count_fault(&self, name: &'static str) {
        let Self::Picture(told) = self else { return };
        let faults = &mut told.borrow_mut().faults;
        match faults.iter_mut().find(|(known, _)| *known == name) {
            Some((_, count)) => *count += 1,
            None => faults.push((name, 1)),
        }
    }

    /// What the forwarder says of itself.
    pub(super) fn status(&self, status: ForwarderStatus) {
        if let Self::Picture(told) = self {
            told.borrow_mut().status = Some(status);
        }
    }
}

impl Told {
    /// What is to be drawn now.
    pub(super) fn scene(&mut self) -> Scene {
        let mut scene = Scene {
            way: self.way.clone(),
            elapsed: self.begin.elapsed(),
            wanted: self.wanted,
            status: self.status.clone(),
            faults: self.faults.clone(),
            events: self.events.iter().cloned().collect(),
            log: self.held.last(),
            ..Scene::default()
        };
        if let Some(parties) = &self.parties {
            let verdict = super::verdict(&parties.checker);
            let produced = parties.source.produced();
            (scene.delivered, scene.duplicates) = (verdict.unique, verdict.duplicates);
            scene.wanted = self.wanted.max(produced);
            scene.waiting = produced.saturating_sub(verdict.unique);
            scene.shards = parties.source.shard_rows();
            scene.connections = parties.connections.open();
            self.sample(scene.delivered, scene.waiting);
        }
        scene.rates = self.rates.iter().copied().collect();
        scene.lags = self.lags.iter().copied().collect();
        scene
    }

    fn sample(&mut self, delivered: u64, waiting: u64) {
        let (at, before) = self.sampled;
        let passed = at.elapsed();
        if passed >= SAMPLE {
            let rate = delivered.saturating_sub(before) as f64 / passed.as_secs_f64();
            push(&mut self.rates, rate as u64);
            push(&mut self.lags, waiting);
            self.sampled = (Instant::now(), delivered);
        }
    }
}

impl Source {
    /// The shards, those first that are not read to their end for good.
    fn shard_rows(&self) -> Vec<ShardRow> {
        let mut rows = self.service.with_logstore(|hub, at, _| {
            let Ok(state) = hub.logstore_state(at) else { return Vec::new() };
            let group = state.groups.get(&self.group);
            state.shards.iter().map(|shard| row(shard, group)).collect()
        });
        rows.sort_by_key(|row| (row.holder == Holder::Over, row.shard));
        rows
    }
}

fn row(shard: &ShardState, group: Option<&GroupState>) -> ShardRow {
    let seen = group.and_then(|group| group.shards.iter().find(|seen| seen.shard == shard.shard));
    let holder = match seen {
        Some(seen) if seen.state == 'O' => Holder::Over,
        Some(seen) if seen.owner.as_deref() == Some(THIEF) => Holder::Thief,
        Some(seen) if seen.owner.is_some() => Holder::Forwarder,
        _ => Holder::Nobody,
    };
    let end = decode_cursor(&shard.end_cursor).unwrap_or(0);
    let behind = match seen.and_then(|seen| decode_cursor(&seen.checkpoint)) {
        Some(checkpoint) => end.saturating_sub(checkpoint),
        None => shard.groups,
    };
    ShardRow { shard: shard.shard.0, holder, groups: shard.groups, behind }
}

fn push<T>(kept: &mut VecDeque<T>, new: T) {
    if kept.len() == KEPT {
        kept.pop_front();
    }
    kept.push_back(new);
}

/// Prints a line. Whoever reads may have gone (`demo | head`): that does not change what is proven.
pub(super) fn say(line: fmt::Arguments<'_>) {
    let _ = writeln!(io::stdout(), "{line}");
}
