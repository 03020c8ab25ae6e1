//! Messages that the receiver does not take (rule C4): the gap record that goes in their place, and their places in
//! their batch, kept until its ticket settles.

use std::rc::Rc;

use crate::config::Framing;
use crate::messages::{RefusedLog, SendBatch};
use crate::model::ids::Sequence;
use crate::model::session::Refused;
use crate::model::session::trial::{CUTS, Refusal};
use crate::ticket::FailedFrom;
use crate::wire::format::{RenderSettings, Renderer};
use crate::wire::syslog::framing::next_frame;
use crate::wire::syslog::gap::GapRecord;

use super::queued::QueuedPiece;

/// What a gap record says that a connection does not know by itself.
#[derive(Clone)]
pub struct GapFacts {
    /// Project.
    pub project: String,
    /// Logstore.
    pub logstore: String,
    /// Wall clock, in unix seconds.
    pub unix_seconds: Rc<dyn Fn() -> i64>,
}

/// What was set aside of batches that have not settled.
pub(super) struct SetAside {
    facts: GapFacts,
    settings: RenderSettings,
    /// The message in whose place a gap record goes at present.
    pending: Option<Entry>,
    /// Those whose gap records are confirmed.
    entries: Vec<Entry>,
}

struct Entry {
    failed_from: FailedFrom,
    sequence: Sequence,
    reason: String,
    /// The log's place in its batch; none if the message stood for no log.
    log: Option<u64>,
}

impl SetAside {
    pub(super) fn new(facts: GapFacts, settings: RenderSettings) -> Self {
        Self { facts, settings, pending: None, entries: Vec::new() }
    }

    /// The frame of the gap record that goes in place of a message.
    pub(super) fn gap_record(&mut self, refused: &Refused<'_, QueuedPiece>) -> Vec<u8> {
        let batch = &refused.piece.batch;
        let place = batch.first_log + messages_before(&batch.frames, self.settings.framing, refused.at);
        // The last piece of a batch knows how many logs it stands for: a gap record stands for none that is here.
        let is_log = batch.last.as_ref().is_none_or(|(_, logs)| place < *logs);
        let frame = batch.frames.get(refused.at..).unwrap_or_default();
        let bytes = next_frame(self.settings.framing, frame).map_or(refused.len, |(_, message)| message.len());
        let what = if is_log { format!("log {place} of the batch") } else { "a gap record".to_owned() };
        let why = match refused.how {
            Refusal::Cuts => format!(
                "the receiver ended the connection {CUTS} times when it was sent this message of {bytes} bytes alone"
            ),
            Refusal::Answer(said) => {
                format!("the receiver answered {said} to this message of {bytes} bytes, and took this record behind it")
            }
        };
        let reason = format!("{what} is set aside: {why}");
        let mut frame = Vec::new();
        Renderer::new(self.settings.clone()).gap(
            &GapRecord {
                project: self.facts.project.clone(),
                logstore: self.facts.logstore.clone(),
                shard: batch.shard,
                from: batch.from.to_string(),
                to: batch.from.to_string(),
                reason: reason.clone(),
                noticed_s: (self.facts.unix_seconds)(),
            },
            &mut frame,
        );
        self.pending = Some(Entry {
            failed_from: batch.failed_from.clone(),
            sequence: batch.sequence,
            reason,
            log: is_log.then_some(place),
        });
        frame
    }

    /// The gap record did not arrive for certain.
    pub(super) fn give_up(&mut self) {
        self.pending = None;
    }

    /// The gap record is confirmed; what it says.
    pub(super) fn confirmed(&mut self) -> Option<&str> {
        self.entries.push(self.pending.take()?);
        self.entries.last().map(|entry| entry.reason.as_str())
    }

    /// Logs of a batch that were set aside, when its last piece has ended.
    pub(super) fn take(&mut self, batch: &SendBatch) -> Vec<RefusedLog> {
        let mut refused = Vec::new();
        // The last piece of a batch that failed may never come.
        self.entries.retain_mut(|entry| {
            let is_its = entry.sequence == batch.sequence && entry.failed_from.is_same(&batch.failed_from);
            if is_its && let Some(log) = entry.log {
                refused.push(RefusedLog { log, reason: std::mem::take(&mut entry.reason) });
            }
            !is_its && !entry.failed_from.covers(entry.sequence)
        });
        refused
    }
}

fn messages_before(mut frames: &[u8], framing: Framing, at: usize) -> u64 {
    let (mut passed, mut messages) = (0, 0);
    while passed < at
        && let Some((length, _)) = next_frame(framing, frames)
    {
        passed += length;
        messages += 1;
        frames = frames.get(length..).unwrap_or_default();
    }
    messages
}
