//! What is waiting to be written, for all connections of the shard.
//!
//! An *item* is a frame to be, held once however many are to receive it. A *node* is one delivery of
//! an item; the nodes of a connection form a list in one arena, so queueing a delivery writes eight
//! bytes and allocates nothing. A connection with nodes stands in `touched` until it is flushed;
//! what is published in the meantime joins its list and goes out in the same write.

use std::sync::Arc;

use pulsewire_bus::{Publication, Variant};
use pulsewire_protocol::{Encoding, Frame, Sequence, Shape};
use pulsewire_telemetry::{EventTypeId, InitialStage, Sent, ShardMetrics};
use slab::Slab;

use super::slot::{NONE, Slot};

/// What an item is, and so what happens to it when its reader is too slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// An answer or notice to one client: never dropped, the connection is closed instead.
    Answer,
    /// An event of a `log` feed with its sequence: the subscription falls back to reading.
    Log { feed: u32, sequence: u64 },
    /// An event of an `ephemeral` feed: the oldest is dropped and counted.
    Ephemeral { feed: u32 },
    /// Values of a `metrics` feed: the newest replace the older.
    Metrics { feed: u32 },
    /// Who came or went in a channel: a reader who lags gets the newest state instead.
    Presence { watched: u32 },
}

impl Class {
    /// Whether the client counts on it: what is made up for in another way does not count as failed.
    pub(crate) fn counts(self) -> bool {
        !matches!(self, Self::Answer | Self::Presence { .. })
    }
}

/// Where an item's frame comes from.
pub(crate) enum Source {
    Publication(Arc<Publication>, Shape),
    /// Events of one feed that were published together: one frame after the other, one delivery. Whoever
    /// does not take it whole is given its events one by one ([`Queue::expand`]).
    Bundle(Box<[Arc<Publication>]>),
    /// An event for readers of whom the one before it was not sent: it names the one that was.
    After(Arc<Publication>, Sequence),
    Ready(Frame),
}

/// A frame to be.
pub(crate) struct Item {
    source: Source,
    frames: [Option<Frame>; 2],
    pub(crate) class: Class,
    /// What it counts as when it was sent.
    sent: Sent,
    /// The event's type; of no meaning for answers.
    pub(crate) event_type: EventTypeId,
    /// When the event was accepted; 0 for answers.
    pub(crate) accepted_ns: u64,
    /// When the subscription began that this item completes; 0 if none.
    pub(crate) initial_ns: u64,
    /// When its last page was there.
    pub(crate) fetched_ns: u64,
    /// Deliveries still waiting, and how many there were when they were last counted.
    pub(crate) remaining: u32,
    counted: u32,
}

impl Item {
    pub(crate) fn new(
        source: Source,
        class: Class,
        sent: Sent,
        event_type: EventTypeId,
        accepted_ns: u64,
    ) -> Self {
        let frames = [None, None];
        Self {
            source,
            frames,
            class,
            sent,
            event_type,
            accepted_ns,
            initial_ns: 0,
            fetched_ns: 0,
            remaining: 0,
            counted: 0,
        }
    }

    /// Events of one feed, in order.
    pub(crate) fn event(feed: u32, publication: &Arc<Publication>) -> Self {
        let sent = Sent::Event(publication.event_type);
        let class = event_class(feed, publication);
        let source = Source::Publication(publication.clone(), Shape::Grouped);
        Self::new(source, class, sent, publication.event_type, publication.accepted_ns)
    }

    /// An event behind another than the one before it.
    pub(crate) fn event_after(feed: u32, publication: &Arc<Publication>, previous: Sequence) -> Self {
        let mut item = Self::event(feed, publication);
        if previous.0 + 1 != publication.sequence.0 {
            item.source = Source::After(publication.clone(), previous);
        }
        item
    }

    /// Events of one feed that were published together. There must be one at least.
    pub(crate) fn bundle(feed: u32, publications: &[Arc<Publication>]) -> Self {
        let first = &publications[0];
        let source = Source::Bundle(publications.into());
        let sent = Sent::Event(first.event_type);
        Self::new(source, event_class(feed, first), sent, first.event_type, first.accepted_ns)
    }

    /// What it counts as when it was sent.
    pub(crate) fn sent(&self) -> Sent {
        self.sent
    }

    /// How many messages it is.
    pub(crate) fn messages(&self) -> u32 {
        match &self.source {
            Source::Bundle(publications) => publications.len() as u32,
            _ => 1,
        }
    }

    /// The frame in an encoding, made on first need.
    fn frame(&mut self, encoding: u32) -> &Frame {
        let source = &self.source;
        self.frames[encoding as usize].get_or_insert_with(|| {
            let encoding = if encoding == 0 { Encoding::Json } else { Encoding::MsgPack };
            match source {
                Source::Publication(publication, shape) => {
                    publication.frame(Variant { shape: *shape, encoding }).clone()
                }
                Source::Bundle(publications) => {
                    let variant = Variant { shape: Shape::Grouped, encoding };
                    Frame::concat(publications.iter().map(|publication| publication.frame(variant)))
                }
                Source::After(publication, previous) => publication.frame_after(*previous, encoding),
                Source::Ready(frame) => frame.clone(),
            }
        })
    }
}

fn event_class(feed: u32, publication: &Publication) -> Class {
    match publication.sequence.0 {
        0 => Class::Ephemeral { feed },
        sequence => Class::Log { feed, sequence },
    }
}

/// An item in an encoding: the item's index shifted left by one, and a bit for MessagePack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ItemRef(u32);

impl ItemRef {
    pub(crate) fn new(item: u32, msgpack: bool) -> Self {
        Self(item << 1 | u32::from(msgpack))
    }

    pub(crate) fn item(self) -> usize {
        (self.0 >> 1) as usize
    }

    pub(crate) fn is_msgpack(self) -> bool {
        self.0 & 1 != 0
    }
}

#[derive(Clone, Copy)]
struct Node {
    item: ItemRef,
    next: u32,
}

const _: () = assert!(size_of::<Node>() == 8, "a delivery that waits costs eight bytes");

/// The arena, the items, and who has something to be written.
pub(crate) struct Queue {
    items: Slab<Item>,
    nodes: Vec<Node>,
    free: u32,
    /// Connections with something waiting, from `turn` on.
    touched: Vec<u32>,
    turn: usize,
    /// Items that many wait for: counted while they are being delivered, not only at their end.
    wide: Vec<u32>,
    done: Vec<u32>,
}

/// From how many receivers on an item is counted while it is being delivered.
const WIDE: u32 = 32;

impl Queue {
    pub(crate) fn new() -> Self {
        Self {
            items: Slab::new(),
            nodes: Vec::new(),
            free: NONE,
            touched: Vec::new(),
            turn: 0,
            wide: Vec::new(),
            done: Vec::new(),
        }
    }

    pub(crate) fn insert(&mut self, item: Item) -> u32 {
        u32::try_from(self.items.insert(item)).expect("fewer than 2^31 items wait at a time")
    }

    pub(crate) fn item(&self, reference: ItemRef) -> &Item {
        &self.items[reference.item()]
    }

    /// Says that an item has got all its receivers.
    pub(crate) fn seal(&mut self, item: u32, receivers: u32) {
        let entry = &mut self.items[item as usize];
        entry.remaining += receivers;
        entry.counted += receivers;
        if entry.remaining == 0 {
            self.done.push(item);
        } else if entry.remaining >= WIDE {
            self.wide.push(item);
        }
    }

    /// Queues a delivery. The receiver is counted by [`Queue::seal`], once for all.
    #[inline]
    pub(crate) fn link(&mut self, slot_index: u32, slot: &mut Slot, item: ItemRef) {
        let index = self.node(item);
        if slot.last == NONE {
            slot.first = index;
            self.touched.push(slot_index);
        } else {
            self.nodes[slot.last as usize].next = index;
        }
        slot.last = index;
    }

    #[inline]
    fn node(&mut self, item: ItemRef) -> u32 {
        let node = Node { item, next: NONE };
        let index = self.free;
        if index == NONE {
            self.nodes.push(node);
            return (self.nodes.len() - 1) as u32;
        }
        self.free = std::mem::replace(&mut self.nodes[index as usize], node).next;
        index
    }

    /// The same list with every bundle replaced by its events, one by one.
    pub(crate) fn expand(&mut self, chain: Chain) -> Chain {
        let mut references = Vec::new();
        let mut bundles = false;
        let mut node = chain.first;
        loop {
            let (reference, next) = self.step(node);
            bundles |= matches!(self.item(reference).source, Source::Bundle(_));
            references.push(reference);
            if node == chain.last {
                break;
            }
            node = next;
        }
        if !bundles {
            return chain;
        }
        self.recycle(chain);
        let mut expanded = Chain { first: NONE, last: NONE };
        for reference in references {
            let item = self.item(reference);
            let (Source::Bundle(publications), Class::Log { feed, .. } | Class::Ephemeral { feed }) =
                (&item.source, item.class)
            else {
                self.append(&mut expanded, reference);
                continue;
            };
            let events: Vec<Item> =
                publications.iter().map(|publication| Item::event(feed, publication)).collect();
            for event in events {
                let item = self.insert(event);
                self.append(&mut expanded, ItemRef::new(item, reference.0 & 1 == 1));
                self.seal(item, 1);
            }
            self.forget(reference);
        }
        expanded
    }

    pub(crate) fn append(&mut self, chain: &mut Chain, reference: ItemRef) {
        let index = self.node(reference);
        if chain.last == NONE {
            chain.first = index;
        } else {
            self.nodes[chain.last as usize].next = index;
        }
        chain.last = index;
    }

    /// Takes the next connection that has something to be written.
    #[inline]
    pub(crate) fn next_touched(&mut self) -> Option<u32> {
        /// Entries that were taken and may still stand in front, before they are cleared away.
        const SPENT_MAX: usize = 65_536;
        let Some(slot) = self.touched.get(self.turn).copied() else {
            self.touched.clear();
            self.turn = 0;
            return None;
        };
        self.turn += 1;
        if self.turn >= SPENT_MAX {
            self.touched.drain(..self.turn);
            self.turn = 0;
        }
        Some(slot)
    }

    pub(crate) fn touched(&self) -> usize {
        self.touched.len() - self.turn
    }

    pub(crate) fn has_touched(&self) -> bool {
        self.turn < self.touched.len()
    }

    /// Takes a connection's list, leaving it empty.
    pub(crate) fn take(&self, slot: &mut Slot) -> Chain {
        let chain = Chain { first: slot.first, last: slot.last };
        slot.first = NONE;
        slot.last = NONE;
        chain
    }

    /// Gives the nodes of a list back to the arena. Their items keep their counts.
    pub(crate) fn recycle(&mut self, chain: Chain) {
        if chain.first != NONE {
            self.nodes[chain.last as usize].next = self.free;
            self.free = chain.first;
        }
    }

    /// The item of a node, and the node after it.
    pub(crate) fn step(&self, node: u32) -> (ItemRef, u32) {
        let Node { item, next } = self.nodes[node as usize];
        (item, next)
    }

    pub(crate) fn frame(&mut self, reference: ItemRef) -> &Frame {
        self.items[reference.item()].frame(reference.0 & 1)
    }

    /// One delivery of an item was handed to the kernel.
    pub(crate) fn handed(&mut self, reference: ItemRef) {
        let item = &mut self.items[reference.item()];
        item.remaining -= 1;
        if item.remaining == 0 {
            self.done.push(reference.0 >> 1);
        }
    }

    /// So many deliveries of an item were handed to the kernel.
    pub(crate) fn handed_many(&mut self, reference: ItemRef, count: u32) {
        let item = &mut self.items[reference.item()];
        item.remaining -= count;
        if item.remaining == 0 {
            self.done.push(reference.0 >> 1);
        }
    }

    /// One delivery of an item will not happen.
    pub(crate) fn forget(&mut self, reference: ItemRef) {
        let item = &mut self.items[reference.item()];
        item.remaining -= 1;
        item.counted -= 1;
        if item.remaining == 0 {
            self.done.push(reference.0 >> 1);
        }
    }

    /// Counts what was handed over since the last call, and lets go of what is complete.
    ///
    /// Returns whether any item was let go: its number may be given to another.
    pub(crate) fn account(&mut self, now_ns: u64, metrics: &ShardMetrics) -> bool {
        let mut wide = std::mem::take(&mut self.wide);
        wide.retain(|index| {
            let Some(item) = self.items.get_mut(*index as usize) else { return false };
            count(item, now_ns, metrics);
            item.remaining > 0
        });
        self.wide = wide;
        let released = !self.done.is_empty();
        while let Some(index) = self.done.pop() {
            count(&mut self.items[index as usize], now_ns, metrics);
            self.items.remove(index as usize);
        }
        if self.items.is_empty() {
            self.settle();
        }
        released
    }

    /// Gives memory of a burst back once nothing waits.
    fn settle(&mut self) {
        const KEEP: usize = 4_096;
        if self.nodes.len() > KEEP && !self.has_touched() {
            self.touched = Vec::new();
            self.turn = 0;
            self.nodes = Vec::new();
            self.free = NONE;
            self.items.shrink_to_fit();
        }
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Bytes of the arena itself.
    pub(crate) fn bytes(&self) -> usize {
        self.nodes.capacity() * size_of::<Node>() + self.items.capacity() * size_of::<Item>()
    }
}

/// Counts the deliveries of an item since it was last counted.
fn count(item: &mut Item, now_ns: u64, metrics: &ShardMetrics) {
    let handed = item.counted - item.remaining;
    if handed == 0 {
        return;
    }
    item.counted = item.remaining;
    let handed = u64::from(handed);
    if let Source::Bundle(publications) = &item.source {
        for publication in publications {
            let bytes = publication.encoded_bytes() as u64;
            metrics.message_sent(publication.event_type, handed, bytes * handed);
            let latency_ns = now_ns.saturating_sub(publication.accepted_ns);
            metrics.delivered(publication.event_type, latency_ns, handed);
        }
        return;
    }
    let bytes: usize = item.frames.iter().flatten().map(Frame::len).max().unwrap_or(0);
    metrics.message_sent(item.sent, handed, bytes as u64 * handed);
    if item.accepted_ns > 0 {
        metrics.delivered(item.event_type, now_ns.saturating_sub(item.accepted_ns), handed);
    }
    if item.initial_ns > 0 {
        metrics.initial_state_sent(now_ns.saturating_sub(item.initial_ns));
        if item.fetched_ns > 0 {
            metrics.initial_stage(InitialStage::Send, now_ns.saturating_sub(item.fetched_ns));
        }
    }
}

/// A connection's list, taken off it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Chain {
    pub(crate) first: u32,
    pub(crate) last: u32,
}
