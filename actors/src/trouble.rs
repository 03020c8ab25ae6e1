//! Says what needs a human once, clearly, and again with growing pauses while it lasts.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use actix::Recipient;
use slog::Logger;

use crate::counters::Counters;
use crate::event::{Code, ForwarderEvent};
use crate::model::ids::ShardId;
use crate::watch::ActorName;
use crate::wire::sls::error::{ErrorClass, SlsError};

/// Where events go, if the embedding application wants them.
pub type EventSink = Option<Recipient<ForwarderEvent>>;

/// The troubles that one actor knows of.
#[derive(Debug)]
pub(crate) struct Troubles {
    log: Logger,
    events: EventSink,
    open: HashMap<Code, Open>,
}

#[derive(Debug)]
struct Open {
    since: Instant,
    said_at: Instant,
    again_at: Instant,
    pause: Duration,
    untold: u64,
}

/// First and longest pause between two mentions of the same trouble.
const PAUSE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(600));
/// Pause before the next mention of one that has spread.
const PAUSE_IF_WORSE: Duration = Duration::from_secs(5);

impl Troubles {
    /// None yet.
    pub fn new(log: Logger, events: EventSink) -> Self {
        Self { log, events, open: HashMap::new() }
    }

    /// Something is wrong; nothing is lost by it. Answers whether it was said.
    pub fn report(&mut self, now: Instant, code: Code, what: &str) -> bool {
        let first = Open { since: now, said_at: now, again_at: now, pause: PAUSE.0, untold: 0 };
        let open = self.open.entry(code).or_insert(first);
        if now < open.again_at {
            open.untold += 1;
            return false;
        }
        slog::warn!(self.log, "{}", what; "code" => code.as_str(), "repeats" => open.untold);
        open.said_at = now;
        open.again_at = now + open.pause;
        open.pause = (open.pause * 2).min(PAUSE.1);
        open.untold = 0;
        send(&self.events, ForwarderEvent::Trouble { code, what: what.to_owned() });
        true
    }

    /// It has spread since it was said: the next report need not wait as long.
    fn is_worse(&mut self, code: Code) {
        if let Some(open) = self.open.get_mut(&code) {
            open.again_at = open.again_at.min(open.said_at + PAUSE_IF_WORSE);
        }
    }

    /// What `code` was about works again.
    pub fn recovered(&mut self, now: Instant, code: Code) {
        let Some(open) = self.open.remove(&code) else { return };
        let lasted = now.saturating_duration_since(open.since);
        slog::info!(self.log, "{} is over", code; "code" => code.as_str(), "lasted_s" => seconds(lasted));
        send(&self.events, ForwarderEvent::Recovered { code });
    }
}

/// What is wrong between SLS and the shards of one process, with one voice for all of them: an outage is one sentence,
/// not as many as there are shards.
#[derive(Debug, Clone)]
pub struct ShardTroubles(Arc<Mutex<Shared>>);

#[derive(Debug)]
struct Shared {
    troubles: Troubles,
    concerned: HashMap<Code, Concerned>,
}

#[derive(Debug, Default)]
struct Concerned {
    shards: BTreeSet<ShardId>,
    /// How many had been concerned when it was said last.
    said: usize,
}

/// The voice of one shard's fetcher. A shard that is not read any more, because this was dropped, is not concerned.
#[derive(Debug)]
pub(crate) struct ShardTrouble {
    shard: ShardId,
    all: ShardTroubles,
}

impl ShardTroubles {
    /// None yet.
    pub fn new(log: Logger, events: EventSink) -> Self {
        Self(Arc::new(Mutex::new(Shared { troubles: Troubles::new(log, events), concerned: HashMap::new() })))
    }

    /// The voice of a shard.
    pub(crate) fn of(&self, shard: ShardId) -> ShardTrouble {
        ShardTrouble { shard, all: self.clone() }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ShardTrouble {
    /// Something is wrong; nothing is lost by it.
    pub fn report(&self, now: Instant, code: Code, what: &str) {
        let shared = &mut *self.all.lock();
        let concerned = shared.concerned.entry(code).or_default();
        concerned.shards.insert(self.shard);
        let (shard, shards) = (self.shard, concerned.shards.len());
        if shards >= 2 * concerned.said {
            shared.troubles.is_worse(code);
        }
        let what = if shards == 1 {
            format!("shard {shard}: {what}")
        } else {
            format!("{shards} shards, {shard} among them: {what}")
        };
        if shared.troubles.report(now, code, &what) {
            concerned.said = shards;
        }
    }

    /// What these codes were about works again for this shard; it is over when it does for all.
    pub fn recovered(&self, now: Instant, codes: &[Code]) {
        let shared = &mut *self.all.lock();
        if shared.concerned.is_empty() {
            return;
        }
        for code in codes {
            let Some(concerned) = shared.concerned.get_mut(code) else { continue };
            concerned.shards.remove(&self.shard);
            if concerned.shards.is_empty() {
                shared.concerned.remove(code);
                shared.troubles.recovered(now, *code);
            }
        }
    }
}

impl Drop for ShardTrouble {
    fn drop(&mut self) {
        // That nobody is concerned any more does not mean that it works again: the next shard that succeeds says so.
        for concerned in self.all.lock().concerned.values_mut() {
            concerned.shards.remove(&self.shard);
        }
    }
}

/// Tells the embedding application.
pub(crate) fn send(events: &EventSink, event: ForwarderEvent) {
    if let Some(events) = events {
        // actix fact 3: always enqueued, dropped if the application's actor is gone. Events are rare by construction.
        events.do_send(event);
    }
}

/// An actor that is started again has ended by a panic: counted, and told each time, however often. Panics are defects, and
/// restarts with growing pauses bound them.
pub(crate) fn tell_panic(actor: &ActorName, counters: &Counters, log: &Logger, events: &EventSink) {
    counters.panics.add(1);
    let what = format!("the {actor} ended by a panic; what it held is read again");
    slog::error!(log, "{}", what; "code" => Code::Panic.as_str());
    send(events, ForwarderEvent::Trouble { code: Code::Panic, what });
}

/// What SLS refused and what to do about it, in one sentence.
pub fn sentence(error: &SlsError) -> String {
    match error.remedy() {
        Some(remedy) => format!("{error}: {remedy}"),
        None => error.to_string(),
    }
}

/// The code under which a failed request to SLS is told.
pub(crate) fn code_of(error: &SlsError) -> Code {
    match error.class() {
        _ if error.is_clock() => Code::ClockSkew,
        ErrorClass::SlowDown(_) => Code::Quota,
        ErrorClass::Fatal => Code::SlsRefused,
        _ => Code::SlsDown,
    }
}

/// A duration as log lines carry it: seconds, to a tenth.
pub(crate) fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::probe::probe;
    use crate::testing::runtime::run;

    #[test]
    fn an_outage_of_two_hundred_shards_is_told_with_one_voice() {
        run(async {
            let (sink, mut told) = probe::<ForwarderEvent>();
            let all = ShardTroubles::new(Logger::root(slog::Discard, slog::o!()), Some(sink));
            let (start, shards) = (Instant::now(), (0..200).map(|n| all.of(ShardId(n))).collect::<Vec<_>>());
            for second in 0..100 {
                shards.iter().for_each(|shard| {
                    shard.report(start + Duration::from_secs(second), Code::SlsDown, "no route");
                });
            }
            let at = start + Duration::from_secs(100);
            let (last, others) = shards.split_last().expect("many");
            others.iter().for_each(|shard| shard.recovered(at, &[Code::Quota, Code::SlsDown]));
            tokio::task::yield_now().await;
            let texts: Vec<String> = std::iter::from_fn(|| told.try_next())
                .map(|event| match event {
                    ForwarderEvent::Trouble { what, .. } => what,
                    other => panic!("{other:?}"),
                })
                .collect();
            assert_eq!(texts.len(), 3, "at once, when it had spread, and after a pause: {texts:?}");
            assert_eq!(texts[0], "shard 0: no route");
            assert!(texts[1].starts_with("200 shards, "), "{texts:?}");
            last.recovered(at, &[Code::SlsDown]);
            assert_eq!(told.next().await, ForwarderEvent::Recovered { code: Code::SlsDown });
        });
    }

    #[test]
    fn a_shard_that_is_not_read_any_more_does_not_keep_an_outage_open() {
        run(async {
            let (sink, mut told) = probe::<ForwarderEvent>();
            let all = ShardTroubles::new(Logger::root(slog::Discard, slog::o!()), Some(sink));
            let (now, one, other) = (Instant::now(), all.of(ShardId(1)), all.of(ShardId(2)));
            one.report(now, Code::SlsDown, "no route");
            assert!(matches!(told.next().await, ForwarderEvent::Trouble { .. }));
            drop(one);
            tokio::task::yield_now().await;
            assert_eq!(told.try_next(), None, "nothing works again yet");
            other.recovered(now, &[Code::SlsDown]);
            assert_eq!(told.next().await, ForwarderEvent::Recovered { code: Code::SlsDown });
        });
    }
}
