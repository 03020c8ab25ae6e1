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
//!   [`trial`]), wherever in the stream it lies: what made a connection end that confirmed nothing is sent again in
//!   parts, until one message of it is found alone;
//! - each piece is settled once, and those that are confirmed in the order in which they came.
//!
//! Sockets, sleeping and saying are left to the one who holds it. Message borders are found by walking frames, and only
//! where a border matters: on probation, after a cut, when a begun piece is superseded, and when messages are paced.

mod borders;
mod link;
mod suspicion;
pub mod trial;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use borders::{Room, border_at_or_after, border_at_or_before, first_long, messages_begun, next_border};
use link::Link;
use suspicion::Careful;
pub use suspicion::Refused;
use trial::{CutBy, First, Place, Trial, TrialTimes};

/// What a connection on probation may carry at most, one longer message excepted (rule C2).
pub const PROBATION_BYTES: usize = 64 * 1024;

/// Whole frames that are sent and confirmed together.
pub trait Piece {
    /// The frames.
    fn frames(&self) -> &[u8];
    /// Whether it must not be sent any more (rule O1); once true it stays true.
    fn is_superseded(&self) -> bool;
    /// Where the frame ends that begins at `from`, an offset into [`Piece::frames`].
    fn frame_end(&self, from: usize) -> usize;
    /// Whether it holds a message for which a receiver is likely to end the connection: one of more than
    /// `trial::UNSUSPECTED_BYTES`. May say so of one that does not.
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
    /// How long the last connection lived that the receiver ended when it was sent nothing but the message on trial.
    lived: Duration,
    careful: Option<Careful>,
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
    /// The length of a message that will be sent alone now, and the cuts, or after an answer the refusals, that count
    /// against it.
    pub suspect: Option<(usize, u32)>,
    /// What went behind a refused message was taken: the message is passed over.
    pub passed_over: bool,
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
            lived: Duration::ZERO,
            careful: None,
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
        let silence = self.times.trials.filter(|_| self.trial.is_alone()).map(|trials| {
            // A receiver that ends connections when they reach some age does so in this silence, and blames no message.
            trials.silence.max(self.lived * 3 / 2)
        });
        self.link = Some(Link::new(now, silence.unwrap_or(self.times.confirm_after_connect), self.times.first_look));
    }

    /// What to write next, of at most `max_messages` messages that were not counted before (`None`: no limit). Nothing
    /// when all is written, or when probation, a trial or the limit forbid more.
    pub fn next_write(&mut self, max_messages: Option<u32>) -> Option<Write<'_>> {
        self.end_trial_without_message();
        let link = self.link.as_mut()?;
        if self.trial.is_alone() && !link.ready {
            return None;
        }
        if link.confirmed == link.wire {
            link.part_from = link.wire;
        }
        let mut alone = None;
        match &mut self.trial {
            Trial::None => {}
            Trial::Refused { .. } => return None,
            Trial::Substitute { frame, at, counted, behind, .. } if !*behind || link.refused => {
                if *at == frame.len() || (!*counted && max_messages == Some(0)) {
                    return None;
                }
                let counts = max_messages.is_some() && !std::mem::replace(counted, max_messages.is_some());
                return Some(Write { bytes: &frame[*at..], messages: u32::from(counts) });
            }
            Trial::Alone { place, .. } | Trial::Substitute { place, .. } => {
                let end = place.at + place.len;
                // Nothing follows it before it is confirmed.
                if self.written > 0 || self.slots.front().is_none_or(|slot| slot.at >= end) {
                    return None;
                }
                alone = Some(end);
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
        if link.refused {
            // It takes no more than it has begun (rule C4): what follows could only arrive before what was refused.
            slot.stop = slot.stop.min(border_at_or_after(piece, slot.start, slot.at, slot.end));
        } else if slot.at == slot.stop {
            let room = match (self.careful, link.ready) {
                _ if alone.is_some() => None,
                (Some(careful), _) => Some(Room::new(careful.part.min(PROBATION_BYTES), link.part(), true)),
                (None, false) => Some(Room::new(PROBATION_BYTES, link.part(), false)),
                (None, true) => None,
            };
            let mut stop = alone.unwrap_or(slot.end).min(slot.end);
            if let Some(room) = room {
                stop = room.stop(piece, slot.at, slot.end);
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
        if let Trial::Substitute { frame, at, behind, .. } = &mut self.trial
            && (!*behind || link.refused)
        {
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
        self.link.as_ref()?.next_look(self.times.timeout)
    }

    /// A look found the connection open, with the first `acknowledged` bytes acknowledged.
    pub fn looked(&mut self, acknowledged: u64, now: Instant) -> Looked {
        self.end_trial_without_message();
        let (free, linger) = self.what_lingers();
        let Some(link) = self.link.as_mut() else { return Looked::default() };
        let mut looked =
            Looked { became_ready: link.looked(acknowledged, self.times.first_look, now), ..Looked::default() };
        let before = link.confirmed;
        if link.ready && link.confirm(free, linger, now) {
            let more = link.confirmed - before;
            looked.confirmed_more = true;
            looked.passed_over = self.confirm_trial();
            looked.bytes_confirmed = self.release();
            self.done_with(more);
        }
        looked
    }

    /// Whether the connection has made no progress for the whole time-out; to be asked after a look.
    pub fn is_stuck(&self, now: Instant) -> bool {
        self.link
            .as_ref()
            .is_some_and(|l| l.is_waiting() && now.saturating_duration_since(l.progress_at) >= self.times.timeout)
    }

    /// The connection has ended: what is not confirmed goes back to be sent again, from a message border.
    pub fn cut(&mut self, by: CutBy, now: Instant) -> Cut {
        let Some(link) = self.link.take() else { return Cut::default() };
        let is_answer = matches!(by, CutBy::Answer { .. });
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
            self.judge(by, first, &link, &mut cut, now);
        }
        if let Trial::Alone { place, cuts, refusals } = &self.trial {
            cut.suspect = Some((place.len, if is_answer { *refusals } else { *cuts }));
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

#[cfg(test)]
mod tests;
