//! Says what needs a human once, clearly, and again with growing pauses while it lasts.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use actix::Recipient;
use slog::Logger;

use crate::event::{Code, ForwarderEvent};
use crate::wire::sls::error::{ErrorClass, SlsError};

/// Where events go, if the embedding application wants them.
pub type EventSink = Option<Recipient<ForwarderEvent>>;

/// The troubles that one actor knows of.
#[derive(Debug)]
pub struct Troubles {
    log: Logger,
    events: EventSink,
    open: HashMap<Code, Open>,
}

#[derive(Debug)]
struct Open {
    since: Instant,
    again_at: Instant,
    pause: Duration,
    untold: u64,
}

/// First and longest pause between two mentions of the same trouble.
const PAUSE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(600));

impl Troubles {
    /// None yet.
    pub fn new(log: Logger, events: EventSink) -> Self {
        Self { log, events, open: HashMap::new() }
    }

    /// Something is wrong; nothing is lost by it.
    pub fn report(&mut self, now: Instant, code: Code, what: &str) {
        let open = self.open.entry(code).or_insert(Open { since: now, again_at: now, pause: PAUSE.0, untold: 0 });
        if now < open.again_at {
            open.untold += 1;
            return;
        }
        slog::warn!(self.log, "{}", what; "code" => code.as_str(), "repeats" => open.untold);
        open.again_at = now + open.pause;
        open.pause = (open.pause * 2).min(PAUSE.1);
        open.untold = 0;
        send(&self.events, ForwarderEvent::Trouble { code, what: what.to_owned() });
    }

    /// What `code` was about works again.
    pub fn recovered(&mut self, now: Instant, code: Code) {
        let Some(open) = self.open.remove(&code) else { return };
        let lasted = now.saturating_duration_since(open.since);
        slog::info!(self.log, "{} is over", code; "code" => code.as_str(), "lasted_s" => seconds(lasted));
        send(&self.events, ForwarderEvent::Recovered { code });
    }
}

/// Tells the embedding application.
pub fn send(events: &EventSink, event: ForwarderEvent) {
    if let Some(events) = events {
        // actix fact 3: always enqueued, dropped if the application's actor is gone. Events are rare by construction.
        events.do_send(event);
    }
}

/// What SLS refused and what to do about it, in one sentence.
pub fn sentence(error: &SlsError) -> String {
    match error.remedy() {
        Some(remedy) => format!("{error}: {remedy}"),
        None => error.to_string(),
    }
}

/// The code under which a failed request to SLS is told.
pub fn code_of(error: &SlsError) -> Code {
    match error.class() {
        _ if error.is_clock() => Code::ClockSkew,
        ErrorClass::SlowDown(_) => Code::Quota,
        ErrorClass::Fatal => Code::SlsRefused,
        _ => Code::SlsDown,
    }
}

/// A duration as log lines carry it: seconds, to a tenth.
pub fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 10.0).round() / 10.0
}
