//! How every store fills what one read returns: up to its limit, and what cannot be read counts too.

use std::sync::Arc;

use pulsewire_protocol::Sequence;

use super::{Chunk, Chunks, Extent, Keyed, Only, Query, ReadLimit, StateSlice, StoredPage};
use crate::Accepted;

/// How much was taken of what one read may return.
struct Room {
    limit: ReadLimit,
    taken: usize,
    bytes: usize,
}

impl Room {
    fn new(limit: ReadLimit) -> Self {
        Self { limit, taken: 0, bytes: 0 }
    }

    fn is_full(&self) -> bool {
        self.taken >= self.limit.publications || self.bytes > self.limit.bytes
    }

    fn take(&mut self, accepted: Option<&Arc<Accepted>>) {
        self.taken += 1;
        self.bytes += accepted.map_or(0, |accepted| accepted.bytes());
    }
}

/// A page that is being filled.
pub(super) struct PageFilling {
    page: StoredPage,
    last: Sequence,
    room: Room,
}

impl PageFilling {
    pub(super) fn new(extent: Extent, query: &Query) -> Self {
        let last = match query.only {
            Only::All => query.after.max(extent.floor),
            Only::Critical => query.after,
        };
        let page = StoredPage { events: Vec::new(), corrupt: Vec::new(), through: extent.head, extent };
        Self { page, last, room: Room::new(query.limit) }
    }

    /// What follows this sequence is wanted next.
    pub(super) fn last(&self) -> Sequence {
        self.last
    }

    /// Takes the event that is kept next; `None` if it cannot be read. Returns whether there was room for it.
    pub(super) fn take(&mut self, sequence: Sequence, accepted: Option<Arc<Accepted>>) -> bool {
        if self.room.is_full() {
            self.stop();
            return false;
        }
        self.room.take(accepted.as_ref());
        self.last = sequence;
        match accepted {
            Some(accepted) => self.page.events.push((sequence, accepted)),
            None => self.page.corrupt.push(sequence),
        }
        true
    }

    /// There is more, for which there is no room.
    pub(super) fn stop(&mut self) {
        self.page.through = self.last;
    }

    pub(super) fn finish(self) -> StoredPage {
        self.page
    }
}

/// A part of the keyed state that is being filled.
pub(super) struct StateFilling {
    slice: StateSlice,
    last: Option<Box<str>>,
    room: Room,
}

impl StateFilling {
    pub(super) fn new(extent: Extent, limit: ReadLimit) -> Self {
        let slice = StateSlice { values: Vec::new(), corrupt: Vec::new(), behind: None, extent };
        Self { slice, last: None, room: Room::new(limit) }
    }

    /// Takes the value of the next key, if that can be read; `None` if the value cannot. Returns whether there was room
    /// for it.
    pub(super) fn take(
        &mut self,
        key: Option<&str>,
        sequence: Sequence,
        accepted: Option<Arc<Accepted>>,
    ) -> bool {
        if self.room.is_full() {
            self.stop();
            return false;
        }
        self.room.take(accepted.as_ref());
        self.last = key.map(Into::into).or_else(|| self.last.take());
        match accepted {
            Some(accepted) => self.slice.values.push(Keyed { sequence, accepted }),
            None => self.slice.corrupt.push(sequence),
        }
        true
    }

    /// There is more, for which there is no room.
    pub(super) fn stop(&mut self) {
        self.slice.behind = self.last.take();
    }

    pub(super) fn finish(self) -> StateSlice {
        self.slice
    }
}

/// Chunks that are being filled.
pub(super) struct ChunksFilling {
    chunks: Chunks,
    bytes: usize,
    bytes_max: usize,
}

impl ChunksFilling {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { chunks: Chunks::default(), bytes: 0, bytes_max }
    }

    /// For how many bytes of windows there is room.
    pub(super) fn room(&self) -> usize {
        self.bytes_max.saturating_sub(self.bytes)
    }

    /// Takes the chunk that is kept next; `None` if it cannot be read, which takes no room, so that a damaged one
    /// never ends a page that has nothing else. Returns whether there was room.
    pub(super) fn take(&mut self, chunk: Option<Chunk>) -> bool {
        if self.bytes > self.bytes_max {
            self.chunks.more = true;
            return false;
        }
        match chunk {
            Some(chunk) => {
                self.bytes += chunk.windows.len();
                self.chunks.chunks.push(chunk);
            }
            None => self.chunks.corrupt += 1,
        }
        true
    }

    pub(super) fn finish(self) -> Chunks {
        self.chunks
    }
}
