//! From the lists to the network: one write for each connection, and what happens when it is not taken.
//!
//! What was joined for one connection is kept for the next: subscribers of the same channels wait for
//! the same items, so the second of them costs a comparison and a system call.

use pulsewire_bus::Now;
use pulsewire_protocol::Frame;

use super::feed::Feeding;
use super::outbox::Outbox;
use super::queue::{Chain, Class, ItemRef};
use super::slot::{Flags, NONE, Phase};
use super::{Shard, closing};
use crate::{Net, Write};
use pulsewire_telemetry::{Direction, DropCause, Layer, SlowAction};
use smallvec::SmallVec;

/// The most that is joined for one write; what is longer goes in several.
const JOIN_BYTES_MAX: usize = 256 * 1024;

/// What was joined last.
#[derive(Default)]
pub(super) struct Scratch {
    items: Vec<ItemRef>,
    /// Where each item ends in `bytes`, and how many messages there are up to there.
    ends: Vec<(usize, u32)>,
    bytes: Vec<u8>,
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

    /// Counts the deliveries of the frame that went out alone.
    fn count_single(&mut self) {
        let Some(single) = &mut self.scratch.single else { return };
        let taken = std::mem::take(&mut single.taken);
        if taken > 0 {
            self.queue.handed_many(single.item, taken);
            self.metrics.write_calls(u64::from(taken));
            self.metrics.bytes(Direction::Sent, Layer::Wire, u64::from(taken) * single.frame.len() as u64);
        }
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
        if self.scratch.single.as_ref().is_none_or(|single| single.item != item) {
            self.count_single();
            let messages = self.queue.item(item).messages();
            let frame = self.queue.frame(item).clone();
            self.scratch.single = Some(Single { item, frame, messages, taken: 0 });
        }
        let (Some(single), Some(slot)) = (&mut self.scratch.single, self.slots.get_mut(index as usize))
        else {
            return false;
        };
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
    fn clear_scratch(&mut self) {
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
    fn forget(&mut self, chain: Chain, index: u32) {
        let chain = self.queue.expand(chain);
        let mut node = chain.first;
        let mut failed = 0;
        loop {
            let (item, next) = self.queue.step(node);
            failed += u32::from(self.queue.item(item).class != Class::Answer);
            self.queue.forget(item);
            if node == chain.last {
                break;
            }
            node = next;
        }
        self.queue.recycle(chain);
        self.failed(index, failed);
    }

    fn failed(&mut self, index: u32, count: u32) {
        if count > 0 {
            self.metrics.message_failed(u64::from(count));
            self.metrics.dropped(DropCause::Closed, u64::from(count));
            if let Some(session) = self.slots.get_mut(index as usize).and_then(|slot| slot.session.as_mut()) {
                session.counters.messages_failed += count;
            }
        }
    }

    /// Keeps what the kernel did not take: `taken` bytes of the chain's frames were written.
    fn enqueue(&mut self, index: u32, chain: Chain, mut taken: usize, now: Now) {
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
            self.close_because(index, closing::Cause::Slow, now);
        }
    }

    fn outbox(&mut self, index: u32, now: Now) -> &mut Outbox {
        let slot = &mut self.slots[index as usize];
        if !slot.flags.has(Flags::WATCHED) {
            slot.flags.set(Flags::WATCHED);
            self.watched.push(slot.key(index));
        }
        slot.outbox.get_or_insert_with(|| Box::new(Outbox { progress_ns: now.mono_ns, ..Outbox::default() }))
    }

    /// Puts one frame in the outbox, or does what its class wants when the outbox is full.
    fn keep(&mut self, index: u32, item: ItemRef, len: usize, now: Now) {
        let bytes_max = self.settings.limits.outbox_bytes_max;
        let class = self.queue.item(item).class;
        let feed = match class {
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
        match (class, position) {
            (Class::Ephemeral { .. }, _) => self.drop_oldest(index, item, len, bytes_max, now),
            (Class::Log { sequence, .. }, Some(subscription)) => {
                self.queue.forget(item);
                let session = self.slots[index as usize].session.as_ref().expect("it subscribes");
                if !behind {
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
                    self.metrics.slow(SlowAction::Conflate);
                    self.fall_back(index, subscription, 0, Feeding::Stale);
                }
                let session = self.slots[index as usize].session.as_mut().expect("it subscribes");
                session.subscriptions[subscription].missed += u32::from(fresh);
            }
            _ => self.queue.forget(item),
        }
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
                self.drained(index);
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
        while let Some(&(item, len)) = outbox.entries.front() {
            let left = len as usize - outbox.written;
            if taken < left {
                outbox.written += taken;
                break;
            }
            taken -= left;
            outbox.written = 0;
            outbox.entries.pop_front();
            slot.messages_sent += 1;
            self.queue.handed(item);
        }
    }

    /// Everything that waited was taken: whoever was held back goes on.
    fn drained(&mut self, index: u32) {
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
            self.catch_up(index);
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
                return false;
            };
            if slot.phase == Phase::Open && now.since_ns(outbox.progress_ns) >= slow_ns {
                self.close_because(key.slot, closing::Cause::Slow, now);
                return false;
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
            failed += u32::from(self.queue.item(item).class != Class::Answer);
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
