//! What the kernel would not take yet, for one reader.
//!
//! It exists only while something waits. It is bounded in bytes, because a thousand small frames and
//! one large one cost the same memory; what happens at the bound depends on the class of the frame
//! (see `backlog.rs`). The first entry may have been written in part and is then never dropped.

use std::collections::VecDeque;

use super::queue::ItemRef;

#[derive(Debug, Default)]
pub(crate) struct Outbox {
    /// Items in order, each with the bytes of its frame.
    pub(crate) entries: VecDeque<(ItemRef, u32)>,
    /// Sum of the entries' bytes, less what was written of the first.
    pub(crate) bytes: usize,
    /// How much of the first entry was written.
    pub(crate) written: usize,
    /// When something began to wait.
    pub(crate) since_ns: u64,
    /// When the kernel last took something.
    pub(crate) progress_ns: u64,
    /// Bytes of answers among the entries.
    pub(crate) answer_bytes: usize,
}

impl Outbox {
    pub(crate) fn push(&mut self, item: ItemRef, bytes: usize) {
        self.bytes += bytes;
        self.entries.push_back((item, u32::try_from(bytes).expect("a frame is smaller than 4 GiB")));
    }

    /// Keeps only what `which` wants kept, and what has begun to be written.
    pub(crate) fn retain(&mut self, mut which: impl FnMut(ItemRef) -> bool) {
        let mut begun = self.written > 0;
        let mut removed = 0;
        self.entries.retain(|(item, bytes)| {
            let keep = std::mem::take(&mut begun) || which(*item);
            removed += if keep { 0 } else { *bytes as usize };
            keep
        });
        self.bytes -= removed;
    }

    /// Removes the oldest entry that has not begun to be written and that `which` wants removed.
    pub(crate) fn remove_first(&mut self, which: impl Fn(ItemRef) -> bool) -> Option<ItemRef> {
        let begun = usize::from(self.written > 0);
        let index = (begun..self.entries.len()).find(|index| which(self.entries[*index].0))?;
        let (item, bytes) = self.entries.remove(index)?;
        self.bytes -= bytes as usize;
        Some(item)
    }
}
