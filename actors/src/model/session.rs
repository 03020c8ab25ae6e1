//! What a connection to the receiver has written, what is confirmed, and what has to be sent again.
//!
//! A [`Session`] outlives its connections: it holds the pieces in the order in which they came and answers what to
//! write next, when to look at the connection, when to give it up, and which pieces are done. It promises:
//!
//! - nothing counts as confirmed that a look at an open connection did not cover, nor before the connection has stood
//!   open for the probation time (rules C1 and C2);
//! - after a cut, everything that is not confirmed goes out again, in order, from a message border (rule C3);
//! - a piece that is superseded is not begun any more, and one that is begun ends at a message border (rule O1);
//! - a message that the receiver does not take is passed over once what goes in its place is confirmed (rule C4, in
//!   [`trial`]);
//! - each piece is settled once, and those that are confirmed in the order in which they came.
//!
//! Sockets, sleeping and saying are left to the one who holds it. Message borders are found by walking frames, and only
//! where a border matters: on probation, after a cut, when a begun piece is superseded, and when messages are paced.

pub mod trial;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use trial::{CutBy, First, Place, Refusal, Trial, TrialTimes, UNSUSPECTED_BYTES};

/// What a connection on probation may carry at most, one longer message excepted (rule C2).
pub const PROBATION_BYTES: usize = 64 * 1024;
/// Longest pause between two looks while something is unconfirmed.
const LONGEST_LOOK_PAUSE: Duration = Duration::from_millis(50);

/// Whole frames that are sent and confirmed together.
pub trait Piece {
    /// The frames.
    fn frames(&self) -> &[u8];
    /// Whether it must not be sent any more (rule O1); once true it stays true.
    fn is_superseded(&self) -> bool;
    /// Where the frame ends that begins at `from`, an offset into [`Piece::frames`].
    fn frame_end(&self, from: usize) -> usize;
    /// Whether it holds a message for which a receiver might end the connection: one of more than
    /// [`trial::UNSUSPECTED_BYTES`]. May say so of one that does not.
    fn may_be_refused(&self) -> bool;
}

/// How a piece ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// The receiver has confirmed all of it, and all that came before it.
    Confirmed,
    /// It was dropped, or its confirmation no longer matters.
    Superseded,
}

/// The times that govern a session.
#[derive(Debug, Clone, Copy)]
pub struct SessionTimes {
    /// How long a connection has to stand open before it confirms anything.
    pub confirm_after_connect: Duration,
    /// How long bytes may stay unacknowledged, or a write refused, without progress.
    pub timeout: Duration,
    /// How long after a write the first look is taken: zero where the look costs nothing and waits for nobody.
    pub first_look: Duration,
    /// How long a connection has to stay open behind the acknowledgement of a message that may be refused, and of what
    /// follows it, before that counts: a receiver's system acknowledges what the receiver has yet to read, and what it
    /// ends the connection for takes the rest along. Zero where the receiver itself answers.
    pub linger: Duration,
    /// Times of trials; none where no receiver can end the connection.
    pub trials: Option<TrialTimes>,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Session<P> {
    times: SessionTimes,
    slots: VecDeque<Slot<P>>,
    /// Slots from the front that are written to their end on this connection.
    written: usize,
    link: Option<Link>,
    trial: Trial,
    /// The next slot's id.
    next_id: u64,
    /// The last slot that held a message that may be refused.
    last_long: Option<u64>,
    settled: VecDeque<(P, Settled)>,
}

/// One piece, or what is left of it for the accounts when it was superseded after it had been written.
#[derive(Debug)]
struct Slot<P> {
    id: u64,
    piece: Option<P>,
    /// Where its first unconfirmed message begins that may be refused.
    long_at: Option<usize>,
    /// Confirmed by earlier connections: this one begins here.
    start: usize,
    /// Given to this connection.
    at: usize,
    /// May be given to this connection without asking again; a message border, `at <= stop <= end`.
    stop: usize,
    /// Where the piece ends: its length, or less if it was superseded half-way.
    end: usize,
    /// Bytes given to this connection before `start`; means something once the slot is begun or passed over.
    wire_from: u64,
}

/// What is true of the connection that is open.
#[derive(Debug)]
struct Link {
    opened_at: Instant,
    /// How long it has to stand open before it confirms anything.
    probation: Duration,
    /// It has done so.
    ready: bool,
    /// Bytes given to it.
    wire: u64,
    /// Bytes that the last look found acknowledged.
    seen: u64,
    /// Bytes that count as confirmed: none before it is `ready`, and later at most `seen`.
    confirmed: u64,
    /// Bytes that a look found acknowledged, and when they count if it is open still.
    lingering: Option<(u64, Instant)>,
    /// The last write was refused.
    blocked: bool,
    /// When the last byte was acknowledged, or waiting began.
    progress_at: Instant,
    look_at: Option<Instant>,
    look_pause: Duration,
}

impl Link {
    fn is_waiting(&self) -> bool {
        self.blocked || self.wire > self.seen
    }

    /// Counts what was acknowledged: up to `free` at once, and beyond it what has been so for the time `linger`. Answers
    /// whether more counts than before.
    fn confirm(&mut self, free: u64, linger: Duration, now: Instant) -> bool {
        let before = self.confirmed;
        let free = if linger.is_zero() { u64::MAX } else { free };
        self.confirmed = self.confirmed.max(self.seen.min(free));
        if let Some((bytes, _)) = self.lingering.take_if(|(_, at)| now >= *at) {
            self.confirmed = self.confirmed.max(bytes);
        }
        if self.seen == self.confirmed {
            self.lingering = None;
        } else if self.lingering.is_none() {
            self.lingering = Some((self.seen, now + linger));
        }
        self.confirmed > before
    }
}

/// What to write now.
#[derive(Debug)]
pub struct Write<'a> {
    /// Bytes to give to the connection.
    pub bytes: &'a [u8],
    /// Messages that begin in `bytes` and were not counted before; 0 when messages were not limited.
    pub messages: u32,
}

/// What a look changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Looked {
    /// The connection has now stood open long enough.
    pub became_ready: bool,
    /// Something was acknowledged that counts: the receiver works.
    pub confirmed_more: bool,
    /// What went in the place of a refused message is confirmed: the message is passed over.
    pub passed_over: bool,
    /// Bytes of frames that are done with.
    pub bytes_confirmed: u64,
}

/// What a cut means.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cut {
    /// The connection had not stood open for the probation time.
    pub on_probation: bool,
    /// Bytes of frames that will be sent again.
    pub bytes_unconfirmed: u64,
    /// Messages that will be sent again.
    pub messages_unconfirmed: u64,
    /// Bytes of frames that are done with, which no earlier answer has counted.
    pub bytes_confirmed: u64,
    /// The length of a message that will be sent alone now, and the cuts that count against it.
    pub suspect: Option<(usize, u32)>,
}

/// A message that the receiver does not take.
#[derive(Debug)]
pub struct Refused<'a, P> {
    /// Its piece.
    pub piece: &'a P,
    /// Where its frame begins in the piece's frames.
    pub at: usize,
    /// Length of the frame.
    pub len: usize,
    /// How the receiver shows it.
    pub how: &'a Refusal,
}

impl<P: Piece> Session<P> {
    /// A session without connection and pieces.
    pub fn new(times: SessionTimes) -> Self {
        Self {
            times,
            slots: VecDeque::new(),
            written: 0,
            link: None,
            trial: Trial::None,
            next_id: 0,
            last_long: None,
            settled: VecDeque::new(),
        }
    }

    /// Takes a piece, to be sent after all that came before.
    pub fn push(&mut self, piece: P) {
        let (id, end) = (self.next_id, piece.frames().len());
        let long_at = piece.may_be_refused().then(|| first_long(&piece, 0, end)).flatten();
        self.next_id += 1;
        if long_at.is_some() {
            self.last_long = Some(id);
        }
        self.slots.push_back(Slot { id, piece: Some(piece), long_at, start: 0, at: 0, stop: 0, end, wire_from: 0 });
        self.release();
    }

    /// Drops what is superseded: pieces not begun and pieces written whole at once; one that is begun ends at the next
    /// message border.
    pub fn sweep(&mut self) {
        let mut index = 0;
        while index < self.slots.len() {
            let slot = &mut self.slots[index];
            let Some(piece) = slot.piece.as_ref().filter(|p| p.is_superseded()) else {
                index += 1;
                continue;
            };
            if index == self.written && slot.at > slot.start {
                // Half on the wire: the receiver must not see half a message.
                let border = border_at_or_after(piece, slot.start, slot.at, slot.end);
                (slot.end, slot.stop) = (border, border);
                if slot.at < slot.end {
                    index += 1;
                    continue;
                }
                self.written += 1;
            }
            self.settled.extend(slot.piece.take().map(|p| (p, Settled::Superseded)));
            if index < self.written {
                index += 1;
            } else {
                self.slots.remove(index);
            }
        }
        self.release();
    }

    /// A connection has opened.
    pub fn opened(&mut self, now: Instant) {
        debug_assert!(self.link.is_none() && self.written == 0, "the old connection was not given up");
        self.end_trial_without_message();
        let silence = self.times.trials.filter(|_| self.trial.begins_silent()).map(|trials| trials.silence);
        self.link = Some(Link {
            opened_at: now,
            probation: silence.unwrap_or(self.times.confirm_after_connect),
            ready: false,
            wire: 0,
            seen: 0,
            confirmed: 0,
            lingering: None,
            blocked: false,
            progress_at: now,
            look_at: None,
            look_pause: self.times.first_look,
        });
    }

    /// What to write next, of at most `max_messages` messages that were not counted before (`None`: no limit). Nothing
    /// when all is written, or when probation, a trial or the limit forbid more.
    pub fn next_write(&mut self, max_messages: Option<u32>) -> Option<Write<'_>> {
        self.end_trial_without_message();
        let link = self.link.as_ref()?;
        if self.trial.begins_silent() && !link.ready {
            return None;
        }
        let mut alone = None;
        match &mut self.trial {
            Trial::None | Trial::Quiet { .. } => {}
            Trial::Refused { .. } => return None,
            Trial::Alone { place, .. } => {
                let end = place.at + place.len;
                // Nothing follows it before it is confirmed.
                if self.written > 0 || self.slots.front().is_none_or(|slot| slot.at >= end) {
                    return None;
                }
                alone = Some(end);
            }
            Trial::Substitute { frame, at, counted, .. } => {
                if *at == frame.len() || (!*counted && max_messages == Some(0)) {
                    return None;
                }
                let counts = max_messages.is_some() && !std::mem::replace(counted, max_messages.is_some());
                return Some(Write { bytes: &frame[*at..], messages: u32::from(counts) });
            }
        }
        loop {
            let slot = self.slots.get_mut(self.written)?;
            if slot.at == slot.start {
                slot.wire_from = link.wire;
            }
            if slot.at < slot.end {
                break;
            }
            self.written += 1;
        }
        let slot = self.slots.get_mut(self.written)?;
        let piece = slot.piece.as_ref()?;
        let mut messages = 0;
        if slot.at == slot.stop {
            let mut stop = alone.unwrap_or(slot.end).min(slot.end);
            if !link.ready {
                stop = probation_stop(piece, slot.at, slot.end, link.wire);
            }
            if let Some(most) = max_messages {
                let limit = stop;
                stop = slot.at;
                while stop < limit && messages < most {
                    stop = next_border(piece, stop, slot.end);
                    messages += 1;
                }
            }
            slot.stop = stop;
        }
        if slot.at == slot.stop {
            return None;
        }
        Some(Write { bytes: &piece.frames()[slot.at..slot.stop], messages })
    }

    /// The connection took `bytes` of what [`Session::next_write`] answered.
    pub fn wrote(&mut self, bytes: usize, now: Instant) {
        let Some(link) = self.link.as_mut() else { return };
        if let Trial::Substitute { frame, at, .. } = &mut self.trial {
            debug_assert!(*at + bytes <= frame.len(), "more was taken than was offered");
            *at += bytes;
        } else {
            let Some(slot) = self.slots.get_mut(self.written) else { return };
            debug_assert!(slot.at + bytes <= slot.stop, "more was taken than was offered");
            slot.at += bytes;
            if slot.at == slot.end {
                self.written += 1;
            }
        }
        if link.blocked || !link.is_waiting() {
            link.progress_at = now;
        }
        link.blocked = false;
        link.wire += bytes as u64;
        link.look_pause = self.times.first_look;
        let look_at = now + link.look_pause;
        link.look_at = Some(link.look_at.map_or(look_at, |at| at.min(look_at)));
    }

    /// The connection refused to take more for now.
    pub fn write_refused(&mut self, now: Instant) {
        let Some(link) = self.link.as_mut() else { return };
        if !link.is_waiting() {
            link.progress_at = now;
        }
        link.blocked = true;
    }

    /// The receiver has answered something, if not what confirms the next bytes: it is not stuck (rule C3).
    pub fn answered(&mut self, now: Instant) {
        if let Some(link) = self.link.as_mut() {
            link.progress_at = now;
        }
    }

    /// Whether it is time to look at the connection.
    pub fn is_look_due(&self, now: Instant) -> bool {
        self.next_look().is_some_and(|at| now >= at)
    }

    /// When to look next, if nothing happens before.
    pub fn next_look(&self) -> Option<Instant> {
        let link = self.link.as_ref()?;
        let probation_end = (!link.ready).then(|| link.opened_at + link.probation);
        let unseen = (link.wire > link.seen).then_some(link.look_at).flatten();
        let give_up = link.is_waiting().then(|| link.progress_at + self.times.timeout);
        let counts = link.lingering.map(|(_, at)| at);
        [probation_end, unseen, give_up, counts].into_iter().flatten().min()
    }

    /// A look found the connection open, with the first `acknowledged` bytes acknowledged.
    pub fn looked(&mut self, acknowledged: u64, now: Instant) -> Looked {
        self.end_trial_without_message();
        let (free, linger) = self.what_lingers();
        let Some(link) = self.link.as_mut() else { return Looked::default() };
        let mut looked = Looked::default();
        let acknowledged = acknowledged.min(link.wire);
        if acknowledged > link.seen {
            link.seen = acknowledged;
            link.progress_at = now;
            link.look_pause = self.times.first_look;
        } else {
            link.look_pause = (link.look_pause.max(Duration::from_millis(1)) * 3 / 2).min(LONGEST_LOOK_PAUSE);
        }
        link.look_at = (link.wire > link.seen).then(|| now + link.look_pause);
        if !link.ready && now.saturating_duration_since(link.opened_at) >= link.probation {
            link.ready = true;
            looked.became_ready = true;
        }
        if link.ready && link.confirm(free, linger, now) {
            looked.confirmed_more = true;
            looked.passed_over = self.confirm_trial();
            looked.bytes_confirmed = self.release();
        }
        looked
    }

    /// Which bytes of the connection count as soon as they are acknowledged, and how long the others have to stay so.
    fn what_lingers(&self) -> (u64, Duration) {
        let trial = self.times.trials.filter(|_| self.trial.is_alone());
        if let Some(trial) = trial {
            return (0, trial.linger);
        }
        let is_any_long = self.slots.front().is_some_and(|front| self.last_long >= Some(front.id));
        if self.times.linger.is_zero() || !is_any_long {
            return (u64::MAX, Duration::ZERO);
        }
        let mut begun = self.slots.iter().enumerate().take_while(|(i, s)| *i < self.written || s.at > s.start);
        let first = begun.find_map(|(_, slot)| Some(slot.wire_from + (slot.long_at? - slot.start) as u64));
        (first.unwrap_or(u64::MAX), self.times.linger)
    }

    /// Ends a trial whose message, or what goes in its place, is confirmed; answers whether the message was passed over.
    fn confirm_trial(&mut self) -> bool {
        let confirmed = self.link.as_ref().map_or(0, |link| link.confirmed);
        match &self.trial {
            Trial::None | Trial::Refused { .. } => false,
            // What is tried is the first thing that the connection carries.
            Trial::Quiet { suspect: Some(place) } | Trial::Alone { place, .. } => {
                if confirmed >= place.len as u64 {
                    self.trial = Trial::None;
                }
                false
            }
            Trial::Quiet { suspect: None } => {
                self.trial = Trial::None;
                false
            }
            Trial::Substitute { frame, place, .. } => {
                if confirmed < frame.len() as u64 {
                    return false;
                }
                let place = *place;
                self.trial = Trial::None;
                let Some(slot) = self.slots.front_mut().filter(|slot| slot.holds(place)) else { return false };
                slot.begin_at(slot.start + place.len);
                (slot.at, slot.stop) = (slot.start, slot.start);
                true
            }
        }
    }

    /// Ends a trial whose message must not be sent any more (rule O1): it may have been settled otherwise. What is begun
    /// of what goes in its place has to be written to its end.
    fn end_trial_without_message(&mut self) {
        let (place, unfinished) = match &self.trial {
            Trial::None | Trial::Quiet { suspect: None } => return,
            Trial::Quiet { suspect: Some(place) } | Trial::Alone { place, .. } | Trial::Refused { place, .. } => {
                (place, false)
            }
            Trial::Substitute { place, frame, at, .. } => (place, *at > 0 && *at < frame.len()),
        };
        if !unfinished && self.slots.front().is_none_or(|slot| !slot.holds(*place)) {
            self.trial = Trial::None;
        }
    }

    /// The message in whose place something else has to go: asked for after a cut, answered with
    /// [`Session::substitute`].
    pub fn refused(&self) -> Option<Refused<'_, P>> {
        let Trial::Refused { place, how } = &self.trial else { return None };
        let slot = self.slots.front().filter(|slot| slot.holds(*place))?;
        Some(Refused { piece: slot.piece.as_ref()?, at: place.at, len: place.len, how })
    }

    /// Whether it is open whether a message is the reason why connections end.
    pub fn is_on_trial(&self) -> bool {
        self.trial.begins_silent()
    }

    /// Takes the frame that goes in the place of the message that is refused.
    pub fn substitute(&mut self, frame: Vec<u8>) {
        if let Trial::Refused { place, .. } = self.trial {
            self.trial = Trial::Substitute { place, frame, at: 0, counted: false };
        }
    }

    /// Whether the connection has made no progress for the whole time-out; to be asked after a look.
    pub fn is_stuck(&self, now: Instant) -> bool {
        self.link
            .as_ref()
            .is_some_and(|l| l.is_waiting() && now.saturating_duration_since(l.progress_at) >= self.times.timeout)
    }

    /// The connection has ended: what is not confirmed goes back to be sent again, from a message border.
    pub fn cut(&mut self, by: CutBy) -> Cut {
        let Some(link) = self.link.take() else { return Cut::default() };
        let mut cut = Cut { on_probation: !link.ready, ..Cut::default() };
        let begun = (self.written + 1).min(self.slots.len());
        for slot in self.slots.iter_mut().take(begun) {
            let Some(piece) = slot.piece.take_if(|p| p.is_superseded()) else { continue };
            self.settled.push_back((piece, Settled::Superseded));
        }
        self.written = 0;
        self.slots.retain(|slot| slot.piece.is_some());
        let mut first = None;
        for slot in self.slots.iter_mut() {
            let (mut carried, mut unanswered) = (false, false);
            let Some(piece) = slot.piece.as_ref() else { continue };
            if slot.at > slot.start {
                let covered = usize::try_from(link.confirmed.saturating_sub(slot.wire_from)).unwrap_or(usize::MAX);
                let covered = slot.start.saturating_add(covered).min(slot.at);
                let border = border_at_or_before(piece, slot.start, covered, slot.end);
                cut.bytes_confirmed += (border - slot.start) as u64;
                cut.bytes_unconfirmed += (slot.at - border) as u64;
                cut.messages_unconfirmed += messages_begun(piece, border, slot.at, slot.end);
                carried = slot.at > border;
                unanswered = slot.wire_from + (border - slot.start) as u64 == link.confirmed;
                slot.begin_at(border);
            }
            (slot.at, slot.stop, slot.wire_from) = (slot.start, slot.start, 0);
            if first.is_none()
                && slot.start < slot.end
                && let Some(piece) = slot.piece.as_ref()
            {
                let len = next_border(piece, slot.start, slot.end) - slot.start;
                first = Some(First { place: Place { slot: slot.id, at: slot.start, len }, carried, unanswered });
            }
        }
        if self.times.trials.is_some() {
            self.trial = std::mem::replace(&mut self.trial, Trial::None).after_cut(by, first, link.ready);
        }
        if let Trial::Alone { place, cuts } = &self.trial {
            cut.suspect = Some((place.len, *cuts));
        }
        self.release();
        cut
    }

    /// The next piece that is done with.
    pub fn next_settled(&mut self) -> Option<(P, Settled)> {
        self.settled.pop_front()
    }

    /// Whether no piece is held, settled ones aside.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Whether there is something to send that this connection, or the next one, has not been given.
    pub fn has_unsent(&self) -> bool {
        self.slots.iter().skip(self.written).any(|slot| slot.at < slot.end)
    }

    /// Whether the open connection, if there is one, has stood open for the probation time.
    pub fn is_ready(&self) -> bool {
        self.link.as_ref().is_some_and(|l| l.ready)
    }

    /// Pieces held, and bytes of them that are not confirmed.
    pub fn backlog(&self) -> (usize, u64) {
        (self.slots.len(), self.slots.iter().map(|s| (s.end - s.start) as u64).sum())
    }

    /// Settles pieces from the front while they have nothing left to confirm; answers how many bytes were confirmed.
    fn release(&mut self) -> u64 {
        let confirmed = self.link.as_ref().map_or(0, |l| l.confirmed);
        let mut bytes = 0;
        while let Some(front) = self.slots.front() {
            let size = (front.end - front.start) as u64;
            let is_confirmed = self.written > 0 && front.wire_from + size <= confirmed;
            if size > 0 && !is_confirmed {
                break;
            }
            let Some(slot) = self.slots.pop_front() else { break };
            self.written = self.written.saturating_sub(1);
            let Some(piece) = slot.piece else { continue };
            bytes += size;
            let how = if piece.is_superseded() { Settled::Superseded } else { Settled::Confirmed };
            self.settled.push_back((piece, how));
        }
        bytes
    }
}

impl<P: Piece> Slot<P> {
    /// All before this border is done with.
    fn begin_at(&mut self, border: usize) {
        self.start = border;
        if self.long_at.is_some_and(|at| at < border) {
            self.long_at = self.piece.as_ref().and_then(|piece| first_long(piece, border, self.end));
        }
    }

    /// Whether the message there is its first unconfirmed one, and may be sent as far as is known.
    fn holds(&self, place: Place) -> bool {
        self.id == place.slot && self.start == place.at && self.piece.is_some()
    }
}

/// The border after the one at `from`; always further on, so that no walk can stand still.
fn next_border(piece: &impl Piece, from: usize, end: usize) -> usize {
    let border = piece.frame_end(from);
    if border > from && border <= end { border } else { end }
}

/// Where the first message begins, at the border `from` or behind it, that may be refused.
fn first_long(piece: &impl Piece, from: usize, end: usize) -> Option<usize> {
    let mut border = from;
    while border < end {
        let next = next_border(piece, border, end);
        if next - border > UNSUSPECTED_BYTES {
            return Some(border);
        }
        border = next;
    }
    None
}

/// The last border at or before `at`, walking from the border `from`.
fn border_at_or_before(piece: &impl Piece, from: usize, at: usize, end: usize) -> usize {
    let mut border = from;
    while border < at {
        let next = next_border(piece, border, end);
        if next > at {
            break;
        }
        border = next;
    }
    border
}

/// The first border at or after `at`, walking from the border `from`.
fn border_at_or_after(piece: &impl Piece, from: usize, at: usize, end: usize) -> usize {
    let mut border = from;
    while border < at {
        border = next_border(piece, border, end);
    }
    border
}

/// Messages that begin before `at`, walking from the border `from`.
fn messages_begun(piece: &impl Piece, from: usize, at: usize, end: usize) -> u64 {
    let (mut border, mut count) = (from, 0);
    while border < at {
        border = next_border(piece, border, end);
        count += 1;
    }
    count
}

/// How far a connection on probation may go in a piece, of which `wire` bytes of earlier ones were given to it.
fn probation_stop(piece: &impl Piece, at: usize, end: usize, wire: u64) -> usize {
    let used = usize::try_from(wire).unwrap_or(usize::MAX);
    let most = at.saturating_add(PROBATION_BYTES.saturating_sub(used));
    if end <= most {
        return end;
    }
    match border_at_or_before(piece, at, most, end) {
        stop if stop == at && wire == 0 => next_border(piece, at, end),
        stop => stop,
    }
}

#[cfg(test)]
mod tests;
