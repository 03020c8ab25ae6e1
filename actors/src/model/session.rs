//! What a connection to the receiver has written, what is confirmed, and what has to be sent again.
//!
//! A [`Session`] outlives its connections: it holds the pieces in the order in which they came and answers what to
//! write next, when to look at the connection, when to give it up, and which pieces are done. It promises:
//!
//! - nothing counts as confirmed that a look at an open connection did not cover, nor before the connection has stood
//!   open for the probation time (rules C1 and C2);
//! - after a cut, everything that is not confirmed goes out again, in order, from a message border (rule C3);
//! - a piece that is superseded is not begun any more, and one that is begun ends at a message border (rule O1);
//! - each piece is settled once, and those that are confirmed in the order in which they came.
//!
//! Sockets, sleeping and saying are left to the one who holds it. Message borders are found by walking frames, and only
//! where a border matters: on probation, after a cut, when a begun piece is superseded, and when messages are paced.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

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
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Session<P> {
    times: SessionTimes,
    slots: VecDeque<Slot<P>>,
    /// Slots from the front that are written to their end on this connection.
    written: usize,
    link: Option<Link>,
    settled: VecDeque<(P, Settled)>,
}

/// One piece, or what is left of it for the accounts when it was superseded after it had been written.
#[derive(Debug)]
struct Slot<P> {
    piece: Option<P>,
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
    /// It has stood open for the probation time and may confirm.
    ready: bool,
    /// Bytes given to it.
    wire: u64,
    /// Bytes that the last look found acknowledged.
    seen: u64,
    /// Bytes that count as confirmed: `seen` once `ready`, else none.
    confirmed: u64,
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
}

impl<P: Piece> Session<P> {
    /// A session without connection and pieces.
    pub fn new(times: SessionTimes) -> Self {
        Self { times, slots: VecDeque::new(), written: 0, link: None, settled: VecDeque::new() }
    }

    /// Takes a piece, to be sent after all that came before.
    pub fn push(&mut self, piece: P) {
        let end = piece.frames().len();
        self.slots.push_back(Slot { piece: Some(piece), start: 0, at: 0, stop: 0, end, wire_from: 0 });
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
        self.link = Some(Link {
            opened_at: now,
            ready: false,
            wire: 0,
            seen: 0,
            confirmed: 0,
            blocked: false,
            progress_at: now,
            look_at: None,
            look_pause: self.times.first_look,
        });
    }

    /// What to write next, of at most `max_messages` messages that were not counted before (`None`: no limit). Nothing
    /// when all is written, or when probation or the limit forbid more.
    pub fn next_write(&mut self, max_messages: Option<u32>) -> Option<Write<'_>> {
        let link = self.link.as_ref()?;
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
            let mut stop = slot.end;
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
        let (Some(slot), Some(link)) = (self.slots.get_mut(self.written), self.link.as_mut()) else { return };
        debug_assert!(slot.at + bytes <= slot.stop, "more was taken than was offered");
        if link.blocked || !link.is_waiting() {
            link.progress_at = now;
        }
        link.blocked = false;
        slot.at += bytes;
        link.wire += bytes as u64;
        if slot.at == slot.end {
            self.written += 1;
        }
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

    /// Whether it is time to look at the connection.
    pub fn is_look_due(&self, now: Instant) -> bool {
        self.next_look().is_some_and(|at| now >= at)
    }

    /// When to look next, if nothing happens before.
    pub fn next_look(&self) -> Option<Instant> {
        let link = self.link.as_ref()?;
        let probation_end = (!link.ready).then(|| link.opened_at + self.times.confirm_after_connect);
        let unseen = (link.wire > link.seen).then_some(link.look_at).flatten();
        let give_up = link.is_waiting().then(|| link.progress_at + self.times.timeout);
        [probation_end, unseen, give_up].into_iter().flatten().min()
    }

    /// A look found the connection open, with the first `acknowledged` bytes acknowledged.
    pub fn looked(&mut self, acknowledged: u64, now: Instant) -> Looked {
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
        if !link.ready && now.saturating_duration_since(link.opened_at) >= self.times.confirm_after_connect {
            link.ready = true;
            looked.became_ready = true;
        }
        if link.ready && link.seen > link.confirmed {
            link.confirmed = link.seen;
            looked.confirmed_more = true;
            looked.bytes_confirmed = self.release();
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
    pub fn cut(&mut self) -> Cut {
        let Some(link) = self.link.take() else { return Cut::default() };
        let mut cut = Cut { on_probation: !link.ready, ..Cut::default() };
        let begun = (self.written + 1).min(self.slots.len());
        for slot in self.slots.iter_mut().take(begun) {
            let Some(piece) = slot.piece.take_if(|p| p.is_superseded()) else { continue };
            self.settled.push_back((piece, Settled::Superseded));
        }
        self.written = 0;
        self.slots.retain(|slot| slot.piece.is_some());
        for slot in self.slots.iter_mut() {
            let Some(piece) = slot.piece.as_ref() else { continue };
            if slot.at > slot.start {
                let covered = usize::try_from(link.confirmed.saturating_sub(slot.wire_from)).unwrap_or(usize::MAX);
                let covered = slot.start.saturating_add(covered).min(slot.at);
                let border = border_at_or_before(piece, slot.start, covered, slot.end);
                cut.bytes_confirmed += (border - slot.start) as u64;
                cut.bytes_unconfirmed += (slot.at - border) as u64;
                cut.messages_unconfirmed += messages_begun(piece, border, slot.at, slot.end);
                slot.start = border;
            }
            (slot.at, slot.stop, slot.wire_from) = (slot.start, slot.start, 0);
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

/// The border after the one at `from`; always further on, so that no walk can stand still.
fn next_border(piece: &impl Piece, from: usize, end: usize) -> usize {
    let border = piece.frame_end(from);
    if border > from && border <= end { border } else { end }
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
