//! Where messages begin and end in a piece: borders are found by walking its frames.

use super::Piece;
use super::trial::UNSUSPECTED_BYTES;

/// The border after the one at `from`; always further on, so that no walk can stand still.
pub(super) fn next_border(piece: &impl Piece, from: usize, end: usize) -> usize {
    let border = piece.frame_end(from);
    if border > from && border <= end { border } else { end }
}

/// Where the first message begins, at the border `from` or behind it, that is likely to be refused.
pub(super) fn first_long(piece: &impl Piece, from: usize, end: usize) -> Option<usize> {
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
pub(super) fn border_at_or_before(piece: &impl Piece, from: usize, at: usize, end: usize) -> usize {
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
pub(super) fn border_at_or_after(piece: &impl Piece, from: usize, at: usize, end: usize) -> usize {
    let mut border = from;
    while border < at {
        border = next_border(piece, border, end);
    }
    border
}

/// Messages that begin before `at`, walking from the border `from`.
pub(super) fn messages_begun(piece: &impl Piece, from: usize, at: usize, end: usize) -> u64 {
    let (mut border, mut count) = (from, 0);
    while border < at {
        border = next_border(piece, border, end);
        count += 1;
    }
    count
}

/// What may still be sent before something is confirmed: so many bytes, or one longer message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    bytes: usize,
    /// Nothing was sent yet.
    whole: bool,
    /// It ends before a message that is likely to be refused, unless it begins with it.
    before_long: bool,
}

impl Room {
    /// What is left of `most` bytes when `used` were sent.
    pub(super) fn new(most: usize, used: usize, before_long: bool) -> Self {
        Self { bytes: most.saturating_sub(used), whole: used == 0, before_long }
    }

    /// How far it reaches in a piece from the border `at` on.
    pub(super) fn stop(self, piece: &impl Piece, at: usize, end: usize) -> usize {
        let most = at.saturating_add(self.bytes);
        if end <= most && !(self.before_long && piece.may_be_refused()) {
            return end;
        }
        let mut border = at;
        while border < end {
            let next = next_border(piece, border, end);
            let is_first = self.whole && border == at;
            if !is_first && (next > most || self.before_long && next - border > UNSUSPECTED_BYTES) {
                break;
            }
            border = next;
        }
        border
    }
}
