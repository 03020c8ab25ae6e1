//! A piece on its way to the receiver, as the session sees it.

use crate::config::Framing;
use crate::messages::SendBatch;
use crate::model::session::Piece;
use crate::model::session::trial::UNSUSPECTED_BYTES;
use crate::wire::syslog::framing::next_frame;

pub(super) struct QueuedPiece {
    pub(super) batch: SendBatch,
    pub(super) framing: Framing,
}

impl Piece for QueuedPiece {
    fn frames(&self) -> &[u8] {
        &self.batch.frames
    }

    fn is_superseded(&self) -> bool {
        self.batch.is_superseded()
    }

    fn may_be_refused(&self) -> bool {
        self.batch.frames.longest() > UNSUSPECTED_BYTES
    }

    fn frame_end(&self, from: usize) -> usize {
        // What cannot be walked is one frame: it is sent whole or not at all.
        let rest = self.batch.frames.get(from..).unwrap_or_default();
        next_frame(self.framing, rest).map_or(self.batch.frames.len(), |(length, _)| from + length)
    }
}
