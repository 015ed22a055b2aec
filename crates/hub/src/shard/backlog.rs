//! What the kernel would not take, and what becomes of it.
//!
//! It waits in the connection's outbox, bounded in bytes. At the bound each class of frame has its own
//! answer: `log` subscriptions fall back to reading, `ephemeral` ones drop the oldest, `metrics` ones keep
//! the newest; answers get as much room again, and then the connection is closed as too slow. Whoever takes
//! nothing for `slow_after` is closed, too.

use pulsewire_bus::Now;
use smallvec::SmallVec;

use super::feed::Feeding;
use super::flush::JOIN_BYTES_MAX;
use super::outbox::Outbox;
use super::queue::{Chain, Class, ItemRef};
use super::slot::{Flags, NONE, Phase};
use super::{Shard, closing};
use crate::watch::STUCK_NS;
use crate::watch::timeline::{Happening, Note};
use crate::{Net, Write};
use pulsewire_telemetry::{Direction, DropCause, Layer, MemoryPart, SlowAction};

impl<N: Net> Shard<N> {
    /// Keeps what the kernel did not take: `taken` bytes of the chain's frames were written.
    pub(super) fn enqueue(&mut self, index: u32, chain: Chain, mut taken: usize, now: Now) {
        let chain = self.queue.expand(chain);
        let mut node = chain.first;
        loop {
            let (item, next) = self.queue.step(node);
            let len = self.queue.frame(item).len();
            if taken >= len {
                taken -= len;
                let slot = &mut self.slots[index as usize];
                slot.messages_sent += 1;
                slot.bytes_sent += len as u64;
                self.queue.handed(item);
            } else if taken > 0 {
                let outbox = self.outbox(index, now);
                outbox.push(item, len);
                outbox.written = taken;
                outbox.bytes -= taken;
                self.slots[index as usize].bytes_sent += taken as u64;
                taken = 0;
            } else {
                self.keep(index, item, len, now);
            }
            if node == chain.last {
                break;
            }
            node = next;
        }
        self.queue.recycle(chain);
        let bytes_max = self.settings.limits.outbox_bytes_max;
        let outbox = self.slots[index as usize].outbox.as_ref();
        // Answers may take as much again: they were asked for. Beyond that the client reads nothing.
        if outbox.is_some_and(|outbox| outbox.bytes > 2 * bytes_max && outbox.answer_bytes > bytes_max) {
            self.metrics.memory_limited(MemoryPart::Outbox);
            self.close_because(index, closing::Cause::Slow, now);
        }
    }

    pub(super) fn outbox(&mut self, index: u32, now: Now) -> &mut Outbox {
        let slot = &mut self.slots[index as usize];
        if !slot.flags.has(Flags::WATCHED) {
            slot.flags.set(Flags::WATCHED);
            self.watched.push(slot.key(index));
        }
        slot.outbox.get_or_insert_with(|| {
            Box::new(Outbox { since_ns: now.mono_ns, progress_ns: now.mono_ns, ..Outbox::default() })
        })
    }

    /// Puts one frame in the outbox, or does what its class wants when the outbox is full.
    fn keep(&mut self, index: u32, item: ItemRef, len: usize, now: Now) {
        let bytes_max = self.settings.limits.outbox_bytes_max;
        let class = self.queue.item(item).class;
        let feed = match class {
            Class::Presence { watched } => {
                self.keep_presence(index, item, len, watched, now);
                return;
            }
            Class::Answer => None,
            Class::Log { feed, .. } | Class::Ephemeral { feed } | Class::Metrics { feed } => Some(feed),
        };
        let outbox = self.outbox(index, now);
        let fits = outbox.entries.is_empty() || outbox.bytes + len <= bytes_max;
        let Some(feed) = feed else {
            outbox.answer_bytes += len;
            outbox.push(item, len);
            return;
        };
        // Once a subscription has fallen back, what was linked to it before must not overtake it.
        let position = self.subscription(index, feed);
        let behind = position.is_none_or(|subscription| {
            let session = self.slots[index as usize].session.as_ref().expect("it subscribes");
            matches!(session.subscriptions[subscription].feeding, Feeding::Lagging | Feeding::Stale)
        });
        if fits && (!behind || matches!(class, Class::Ephemeral { .. })) {
            self.outbox(index, now).push(item, len);
            return;
        }
        if !fits {
            self.metrics.memory_limited(MemoryPart::Outbox);
        }
        match (class, position) {
            (Class::Ephemeral { .. }, _) => self.drop_oldest(index, item, len, bytes_max, now),
            (Class::Log { sequence, .. }, Some(subscription)) => {
                self.queue.forget(item);
                let session = self.slots[index as usize].session.as_ref().expect("it subscribes");
                if !behind {
                    self.note_lagging(index, feed, now);
                    self.metrics.slow(SlowAction::Lag);
                    self.fall_back(index, subscription, sequence, Feeding::Lagging);
                } else if sequence < session.subscriptions[subscription].next {
                    // It fell back for another reason while this one was waiting.
                    self.fall_back(index, subscription, sequence, Feeding::Lagging);
                }
            }
            (Class::Metrics { .. }, Some(subscription)) => {
                // The newest values, sent again after a wait, were counted when they came.
                let fresh = self.queue.item(item).accepted_ns > 0;
                self.queue.forget(item);
                if fresh {
                    self.metrics.conflated(1);
                }
                if !behind {
                    self.note_lagging(index, feed, now);
                    self.metrics.slow(SlowAction::Conflate);
                    self.fall_back(index, subscription, 0, Feeding::Stale);
                }
                let session = self.slots[index as usize].session.as_mut().expect("it subscribes");
                session.subscriptions[subscription].missed += u32::from(fresh);
            }
            _ => self.queue.forget(item),
        }
    }

    fn note_lagging(&mut self, index: u32, feed: u32, now: Now) {
        let waiting = self.slots[index as usize].outbox.as_ref().map_or(0, |outbox| outbox.bytes as u64);
        self.note_feed(index, Happening::Lagging, feed, waiting, now);
    }

    /// Makes room for an ephemeral frame by dropping older ones of the same kind.
    fn drop_oldest(&mut self, index: u32, item: ItemRef, len: usize, bytes_max: usize, now: Now) {
        let mut dropped = Vec::new();
        loop {
            let slot = &mut self.slots[index as usize];
            let Some(outbox) = &mut slot.outbox else { break };
            if outbox.entries.is_empty() || outbox.bytes + len <= bytes_max {
                break;
            }
            let queue = &self.queue;
            match outbox.remove_first(|item| matches!(queue.item(item).class, Class::Ephemeral { .. })) {
                Some(oldest) => dropped.push(oldest),
                None => {
                    dropped.push(item);
                    break;
                }
            }
        }
        if !dropped.contains(&item) {
            self.outbox(index, now).push(item, len);
        }
        if !self.slots[index as usize].flags.has(Flags::HELD_BACK) && !dropped.is_empty() {
            self.metrics.slow(SlowAction::Drop);
        }
        for item in dropped {
            if let Class::Ephemeral { feed } = self.queue.item(item).class
                && let Some(subscription) = self.subscription(index, feed)
            {
                let slot = &mut self.slots[index as usize];
                slot.flags.set(Flags::HELD_BACK);
                let session = slot.session.as_mut().expect("it subscribes");
                session.subscriptions[subscription].missed += 1;
                session.counters.messages_failed += 1;
            }
            self.queue.forget(item);
            self.metrics.dropped(DropCause::QueueFull, 1);
            self.metrics.message_failed(1);
        }
    }

    /// The network takes more of a connection's bytes.
    pub fn writable(&mut self, key: crate::ConnKey, now: Now) {
        let Some(index) = self.find_any(key) else { return };
        loop {
            if self.slots[index as usize].outbox.is_none() {
                return;
            }
            let Some(total) = self.load(index) else {
                self.drained(index, now);
                return;
            };
            let result = self.net.write(key, &self.scratch.bytes[..total]);
            self.metrics.write_calls(1);
            let taken = match result {
                Write::Wrote(taken) => taken,
                Write::Blocked => 0,
                Write::Failed => {
                    self.lost(index, now);
                    return;
                }
            };
            self.clear_scratch();
            if taken > 0 {
                self.metrics.bytes(Direction::Sent, Layer::Wire, taken as u64);
                self.took(index, taken, now);
            }
            if taken < total {
                return;
            }
        }
    }

    /// Joins what an outbox holds, up to a bound. `None` if it is empty.
    fn load(&mut self, index: u32) -> Option<usize> {
        self.clear_scratch();
        let outbox = self.slots[index as usize].outbox.as_ref()?;
        let mut skip = outbox.written;
        for (item, _) in &outbox.entries {
            let frame = self.queue.frame(*item).bytes();
            self.scratch.bytes.extend_from_slice(&frame[skip..]);
            skip = 0;
            if self.scratch.bytes.len() >= JOIN_BYTES_MAX {
                break;
            }
        }
        (!self.scratch.bytes.is_empty()).then_some(self.scratch.bytes.len())
    }

    /// The kernel took so many bytes from an outbox.
    fn took(&mut self, index: u32, mut taken: usize, now: Now) {
        let slot = &mut self.slots[index as usize];
        let Some(outbox) = &mut slot.outbox else { return };
        outbox.progress_ns = now.mono_ns;
        outbox.bytes -= taken;
        slot.bytes_sent += taken as u64;
        loop {
            let slot = &mut self.slots[index as usize];
            let Some(outbox) = &mut slot.outbox else { return };
            let Some(&(item, len)) = outbox.entries.front() else { return };
            let left = len as usize - outbox.written;
            if taken < left {
                outbox.written += taken;
                break;
            }
            taken -= left;
            outbox.written = 0;
            outbox.entries.pop_front();
            slot.messages_sent += 1;
            if self.attentive {
                self.tap_taken(index, item, now);
            }
            self.queue.handed(item);
        }
    }

    /// Everything that waited was taken: whoever was held back goes on.
    fn drained(&mut self, index: u32, now: Now) {
        let slot = &mut self.slots[index as usize];
        slot.outbox = None;
        if slot.phase == Phase::Closing {
            // The close frame may still be in the list: whoever writes it says that it was the last.
            if slot.first == NONE {
                let key = slot.key(index);
                self.net.shutdown(key);
            }
            return;
        }
        if slot.flags.has(Flags::HELD_BACK) {
            slot.flags.clear(Flags::HELD_BACK);
            self.catch_up(index, now);
        }
    }

    /// Closes readers that take nothing for too long. Called once a second.
    pub(super) fn check_progress(&mut self, now: Now) {
        let slow_ns = self.settings.limits.slow_after_ms * 1_000_000;
        let mut watched = std::mem::take(&mut self.watched);
        watched.retain(|key| {
            let Some(slot) = self.slots.get_mut(key.slot as usize).filter(|slot| slot.stamp == key.stamp)
            else {
                return false;
            };
            let Some(outbox) = &slot.outbox else {
                slot.flags.clear(Flags::WATCHED);
                slot.flags.clear(Flags::SLOW_NOTED);
                return false;
            };
            let (stuck_ns, waiting) = (now.since_ns(outbox.progress_ns), outbox.bytes as u64);
            if slot.phase == Phase::Open && stuck_ns >= slow_ns {
                self.close_because(key.slot, closing::Cause::Slow, now);
                return false;
            }
            if stuck_ns < STUCK_NS {
                slot.flags.clear(Flags::SLOW_NOTED);
            } else if !slot.flags.has(Flags::SLOW_NOTED) {
                slot.flags.set(Flags::SLOW_NOTED);
                self.note(key.slot, Note::of(Happening::Slow).value(waiting), now);
            }
            true
        });
        // Closing one may have begun to watch another; nothing is watched twice.
        watched.append(&mut self.watched);
        self.watched = watched;
    }

    /// Takes back what waits for a connection of a feed that is no `log`: the subscription ends, and what is
    /// dropped later must not be counted for another that was given the feed's number. Its list must have
    /// been flushed. Events of a `log` stay: notices among them tell how far they go.
    pub(super) fn withdraw(&mut self, index: u32, feed: u32) {
        let mut forgotten = Vec::new();
        let queue = &self.queue;
        if let Some(outbox) = &mut self.slots[index as usize].outbox {
            outbox.retain(|item| {
                let class = queue.item(item).class;
                let taken = class == (Class::Ephemeral { feed }) || class == (Class::Metrics { feed });
                if taken {
                    forgotten.push(item);
                }
                !taken
            });
        }
        for item in forgotten {
            self.queue.forget(item);
        }
    }

    /// Takes back the events of a `log` feed that wait for a connection. Its list must have been flushed.
    pub(super) fn withdraw_log(&mut self, index: u32, feed: u32) {
        let mut forgotten = Vec::new();
        let queue = &self.queue;
        if let Some(outbox) = &mut self.slots[index as usize].outbox {
            outbox.retain(|item| {
                let taken = matches!(queue.item(item).class, Class::Log { feed: of, .. } if of == feed);
                if taken {
                    forgotten.push(item);
                }
                !taken
            });
        }
        for item in forgotten {
            self.queue.forget(item);
        }
    }

    /// The first sequence of each `log` feed that waits for a connection and has not begun to be written.
    pub(super) fn undelivered(&self, index: u32) -> SmallVec<[(u32, u64); 1]> {
        let mut first = SmallVec::new();
        let mut see = |item: ItemRef| {
            if let Class::Log { feed, sequence } = self.queue.item(item).class
                && !first.iter().any(|(known, _)| *known == feed)
            {
                first.push((feed, sequence));
            }
        };
        let slot = &self.slots[index as usize];
        if let Some(outbox) = &slot.outbox {
            outbox.entries.iter().for_each(|(item, _)| see(*item));
        }
        let mut node = slot.first;
        while node != NONE {
            let (item, next) = self.queue.step(node);
            see(item);
            node = next;
        }
        first
    }

    /// Drops everything that waits for a connection but the rest of a frame that has begun.
    pub(super) fn discard(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        if slot.first != NONE {
            let chain = self.queue.take(slot);
            self.forget(chain, index);
        }
        let Some(outbox) = &mut self.slots[index as usize].outbox else { return };
        let keep = usize::from(outbox.written > 0);
        let dropped: Vec<_> = outbox.entries.drain(keep..).collect();
        outbox.bytes = outbox.entries.front().map_or(0, |(_, len)| *len as usize - outbox.written);
        let mut failed = 0;
        for (item, _) in dropped {
            failed += u32::from(self.queue.item(item).class.counts());
            self.queue.forget(item);
        }
        self.failed(index, failed);
    }

    /// Drops everything that waits for a connection.
    pub(super) fn discard_all(&mut self, index: u32) {
        self.discard(index);
        if let Some(outbox) = self.slots[index as usize].outbox.take() {
            for (item, _) in outbox.entries {
                self.queue.forget(item);
            }
        }
    }
}
