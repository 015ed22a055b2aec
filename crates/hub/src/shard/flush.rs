//! From the lists to the network: one write for each connection. What is not taken goes to `backlog.rs`.
//!
//! What was joined for one connection is kept for the next: subscribers of the same channels wait for
//! the same items, so the second of them costs a comparison and a system call.

use pulsewire_bus::Now;
use pulsewire_protocol::Frame;

use super::Shard;
use super::queue::{Chain, ItemRef, Queue};
use super::slot::{NONE, Phase};
use crate::{Net, Write};
use pulsewire_telemetry::{Direction, DropCause, Layer, ShardMetrics};

/// The most that is joined for one write; what is longer goes in several.
pub(super) const JOIN_BYTES_MAX: usize = 256 * 1024;

/// What was joined last.
#[derive(Default)]
pub(super) struct Scratch {
    items: Vec<ItemRef>,
    /// Where each item ends in `bytes`, and how many messages there are up to there.
    ends: Vec<(usize, u32)>,
    pub(super) bytes: Vec<u8>,
    /// The frame that went out alone last, and how many connections took it whole since it was counted.
    single: Option<Single>,
}

struct Single {
    item: ItemRef,
    frame: Frame,
    messages: u32,
    taken: u32,
}

impl Scratch {
    fn clear(&mut self) {
        debug_assert!(
            self.single.as_ref().is_none_or(|single| single.taken == 0),
            "counted before it is forgotten"
        );
        self.single = None;
        self.items.clear();
        self.ends.clear();
        self.bytes.clear();
    }

    /// Counts the deliveries of the frame that went out alone.
    fn count_single(&mut self, queue: &mut Queue, metrics: &ShardMetrics) {
        let Some(single) = &mut self.single else { return };
        let taken = std::mem::take(&mut single.taken);
        if taken > 0 {
            queue.handed_many(single.item, taken);
            metrics.write_calls(u64::from(taken));
            metrics.bytes(Direction::Sent, Layer::Wire, u64::from(taken) * single.frame.len() as u64);
        }
    }

    /// The frame of `item`, to go out alone: the one it was before, as long as it stays the same.
    #[inline]
    fn single(&mut self, item: ItemRef, queue: &mut Queue, metrics: &ShardMetrics) -> &mut Single {
        if self.single.as_ref().is_none_or(|single| single.item != item) {
            self.count_single(queue, metrics);
            self.single = None;
        }
        self.single.get_or_insert_with(|| {
            let messages = queue.item(item).messages();
            Single { item, frame: queue.frame(item).clone(), messages, taken: 0 }
        })
    }

    fn truncate(&mut self, items: usize) {
        self.items.truncate(items);
        self.ends.truncate(items);
        self.bytes.truncate(self.ends.last().map_or(0, |(end, _)| *end));
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.bytes.capacity()
    }
}

impl<N: Net> Shard<N> {
    /// Writes to at most `connections` of those that have something waiting. Returns whether more wait.
    ///
    /// Call [`Shard::account`] after it with a fresh time.
    pub fn flush(&mut self, connections: usize, now: Now) -> bool {
        if !self.deferred.is_empty() {
            self.run_deferred(now);
        }
        if self.attentive {
            return self.flush_attentively(connections, now);
        }
        let mut last = NONE;
        for _ in 0..connections {
            let Some(slot) = self.queue.next_touched() else { break };
            if self.flush_single(slot, now) {
                last = slot;
            } else {
                self.flush_slot(slot, now);
            }
        }
        if last != NONE {
            self.probe_single(last, now);
        }
        self.count_single();
        self.queue.has_touched()
    }

    /// How many connections have something waiting to be written.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.queue.touched()
    }

    fn count_single(&mut self) {
        self.scratch.count_single(&mut self.queue, &self.metrics);
    }

    /// Writes to a connection that waits for one item, as most do. Returns whether it was such a one.
    #[inline]
    fn flush_single(&mut self, index: u32, now: Now) -> bool {
        let Some(slot) = self.slots.get_mut(index as usize) else { return true };
        if slot.first != slot.last || slot.first == NONE || slot.outbox.is_some() || slot.phase != Phase::Open
        {
            return false;
        }
        let node = slot.first;
        let (item, _) = self.queue.step(node);
        let single = self.scratch.single(item, &mut self.queue, &self.metrics);
        let len = single.frame.len();
        let result = self.net.write(slot.key(index), single.frame.bytes());
        let chain = Chain { first: node, last: node };
        (slot.first, slot.last) = (NONE, NONE);
        if result == Write::Wrote(len) {
            single.taken += 1;
            slot.messages_sent += u64::from(single.messages);
            slot.bytes_sent += len as u64;
            self.queue.recycle(chain);
        } else {
            let messages = single.messages;
            self.metrics.write_calls(1);
            self.written(index, chain, messages, len, result, now);
        }
        true
    }

    /// Watches the last delivery of the frame that went out alone, now and then.
    fn probe_single(&mut self, index: u32, now: Now) {
        let Some(single) = self.scratch.single.as_ref().filter(|single| single.taken > 0) else { return };
        let item = self.queue.item(single.item);
        if item.accepted_ns > 0
            && self.probes.wanted(now)
            && let Some(slot) = self.slots.get(index as usize)
        {
            let (key, accepted_ns, event_type) = (slot.key(index), item.accepted_ns, item.event_type);
            self.probe(key, accepted_ns, event_type, now);
        }
    }

    /// Forgets what was joined, after counting it.
    pub(super) fn clear_scratch(&mut self) {
        self.count_single();
        self.scratch.clear();
    }

    /// Counts what was handed to the kernel since the last call.
    pub fn account(&mut self, now: Now) {
        self.count_single();
        if self.queue.account(now.mono_ns, &self.metrics) {
            self.scratch.clear();
        }
        if self.scratch.bytes.capacity() > JOIN_BYTES_MAX && !self.queue.has_touched() {
            self.scratch = Scratch::default();
        }
    }

    pub(super) fn flush_slot(&mut self, index: u32, now: Now) {
        if self.attentive {
            self.flush_slot_attentively(index, now);
        } else {
            self.write_slot(index, now);
        }
    }

    #[inline]
    pub(super) fn write_slot(&mut self, index: u32, now: Now) {
        let Some(slot) = self.slots.get_mut(index as usize) else { return };
        if slot.first == NONE {
            return;
        }
        let chain = self.queue.take(slot);
        if slot.phase == Phase::Gone {
            self.forget(chain, 0);
            return;
        }
        if slot.outbox.is_some() {
            self.enqueue(index, chain, 0, now);
            return;
        }
        let key = slot.key(index);
        let mut rest = chain;
        loop {
            let (count, last) = self.join(rest.first);
            let (total, messages) = self.scratch.ends[count - 1];
            let part = Chain { first: rest.first, last };
            let after = self.queue.step(last).1;
            let result = self.net.write(key, &self.scratch.bytes[..total]);
            self.metrics.write_calls(1);
            let whole = result == Write::Wrote(total);
            if after == NONE || !whole {
                let last = if whole { part.last } else { rest.last };
                self.written(index, Chain { first: rest.first, last }, messages, total, result, now);
                return;
            }
            let slot = &mut self.slots[index as usize];
            slot.messages_sent += u64::from(messages);
            slot.bytes_sent += total as u64;
            self.metrics.bytes(Direction::Sent, Layer::Wire, total as u64);
            self.handed(part);
            rest.first = after;
        }
    }

    /// Joins the frames from a node on. Returns how many it were and the last of them.
    fn join(&mut self, first: u32) -> (usize, u32) {
        let mut count = 0;
        let mut node = first;
        let mut matching = true;
        loop {
            let (item, next) = self.queue.step(node);
            if !(matching && self.scratch.items.get(count) == Some(&item)) {
                if matching {
                    self.scratch.truncate(count);
                    matching = false;
                }
                self.scratch.bytes.extend_from_slice(self.queue.frame(item).bytes());
                self.scratch.items.push(item);
                let before = self.scratch.ends.last().map_or(0, |(_, messages)| *messages);
                let messages = before + self.queue.item(item).messages();
                self.scratch.ends.push((self.scratch.bytes.len(), messages));
            }
            count += 1;
            if next == NONE || self.scratch.ends[count - 1].0 >= JOIN_BYTES_MAX {
                return (count, node);
            }
            node = next;
        }
    }

    /// A write was tried for so many messages of `total` bytes at the front of the chain.
    fn written(&mut self, index: u32, chain: Chain, messages: u32, total: usize, result: Write, now: Now) {
        if let Write::Wrote(taken) = result {
            self.metrics.bytes(Direction::Sent, Layer::Wire, taken as u64);
        }
        match result {
            Write::Wrote(taken) if taken == total => {
                let slot = &mut self.slots[index as usize];
                slot.messages_sent += u64::from(messages);
                slot.bytes_sent += total as u64;
                let closing = slot.phase == Phase::Closing;
                if self.probes.wanted(now) {
                    let item = self.queue.item(self.queue.step(chain.last).0);
                    let (accepted_ns, event_type) = (item.accepted_ns, item.event_type);
                    if accepted_ns > 0 {
                        let key = self.slots[index as usize].key(index);
                        self.probe(key, accepted_ns, event_type, now);
                    }
                }
                self.handed(chain);
                if closing {
                    self.net.shutdown(self.slots[index as usize].key(index));
                }
            }
            Write::Wrote(taken) => self.enqueue(index, chain, taken, now),
            Write::Blocked => self.enqueue(index, chain, 0, now),
            Write::Failed => {
                // Back on the list: what was not delivered decides from where the session goes on.
                let slot = &mut self.slots[index as usize];
                (slot.first, slot.last) = (chain.first, chain.last);
                self.lost(index, now);
            }
        }
    }

    fn handed(&mut self, chain: Chain) {
        let mut node = chain.first;
        loop {
            let (item, next) = self.queue.step(node);
            self.queue.handed(item);
            if node == chain.last {
                break;
            }
            node = next;
        }
        self.queue.recycle(chain);
    }

    /// Lets go of deliveries to a connection that is gone.
    pub(super) fn forget(&mut self, chain: Chain, index: u32) {
        let chain = self.queue.expand(chain);
        let mut node = chain.first;
        let mut failed = 0;
        loop {
            let (item, next) = self.queue.step(node);
            failed += u32::from(self.queue.item(item).class.counts());
            self.queue.forget(item);
            if node == chain.last {
                break;
            }
            node = next;
        }
        self.queue.recycle(chain);
        self.failed(index, failed);
    }

    pub(super) fn failed(&mut self, index: u32, count: u32) {
        if count > 0 {
            self.metrics.message_failed(u64::from(count));
            self.metrics.dropped(DropCause::Closed, u64::from(count));
            if let Some(session) = self.slots.get_mut(index as usize).and_then(|slot| slot.session.as_mut()) {
                session.counters.messages_failed += count;
            }
        }
    }
}
