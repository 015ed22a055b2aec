//! What waits to be said to other nodes.
//!
//! Whoever publishes puts it here and goes on; whoever carries it takes everything that waits, joined by topic, so
//! that a slow broker makes larger parcels and not a longer queue. The queue is bounded in bytes. When it is full,
//! committed events go without their content (whoever listens reads it from the store), and everything else is
//! dropped and counted: it may be lost anyway.

use std::collections::{HashMap, VecDeque};

use parking_lot::Mutex;

use super::wire::{ENVELOPE_BYTES_MAX, Envelope, Key, PARCEL_BYTES};
use super::{Hint, Item, Topic};

/// How the queue is bounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutgoingOptions {
    /// Bytes that may wait, roughly. Default 16 MiB; an eighth more for what goes without content.
    pub bytes_max: usize,
}

impl Default for OutgoingOptions {
    fn default() -> Self {
        Self { bytes_max: 16 << 20 }
    }
}

/// What became of something that was to be said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overflow {
    /// It waits.
    None,
    /// It waits without its content.
    Shortened,
    /// It is dropped.
    Dropped,
}

/// An envelope for a topic.
#[derive(Debug, Clone)]
pub struct Parcel {
    /// To whom.
    pub topic: Topic,
    /// The sealed envelope.
    pub text: String,
    /// How many items it holds.
    pub items: usize,
}

/// The queue.
#[derive(Debug)]
pub struct Outgoing {
    from: Box<str>,
    key: Key,
    options: OutgoingOptions,
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<(Topic, Item)>,
    bytes: usize,
}

impl Outgoing {
    /// An empty queue of a node.
    #[must_use]
    pub fn new(from: &str, key: Key, options: OutgoingOptions) -> Self {
        Self { from: from.into(), key, options, queue: Mutex::default() }
    }

    /// Puts something into the queue.
    pub fn push(&self, topic: Topic, item: Item) -> Overflow {
        let mut queue = self.queue.lock();
        let bytes = item.bytes();
        if queue.bytes + bytes <= self.options.bytes_max {
            queue.bytes += bytes;
            queue.waiting.push_back((topic, item));
            return Overflow::None;
        }
        let Item::Committed(hint) = item else { return Overflow::Dropped };
        let item = Item::Committed(hint.without_events());
        let bytes = item.bytes();
        if queue.bytes + bytes > self.options.bytes_max + self.options.bytes_max / 8 {
            return Overflow::Dropped;
        }
        queue.bytes += bytes;
        queue.waiting.push_back((topic, item));
        Overflow::Shortened
    }

    /// The bytes that wait, roughly.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.queue.lock().bytes
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queue.lock().waiting.is_empty()
    }

    /// Takes everything that waits, in parcels: one for each topic unless that is too large, those of a topic in
    /// order. The clock's time goes with them, Unix milliseconds. Returns the parcels and how many items were too large to go at all.
    pub fn take(&self, now_ms: i64) -> (Vec<Parcel>, usize) {
        let waiting = {
            let mut queue = self.queue.lock();
            queue.bytes = 0;
            std::mem::take(&mut queue.waiting)
        };
        let mut places: HashMap<Topic, usize> = HashMap::new();
        let mut topics: Vec<(Topic, Vec<Item>)> = Vec::new();
        for (topic, item) in waiting {
            let place = *places.entry(topic.clone()).or_insert_with(|| {
                topics.push((topic, Vec::new()));
                topics.len() - 1
            });
            join(&mut topics[place].1, item);
        }
        let (mut parcels, mut dropped) = (Vec::with_capacity(topics.len()), 0);
        for (topic, items) in topics {
            let (mut parcel, mut bytes) = (Vec::new(), 0);
            for item in items {
                let item = fitting(item);
                if item.bytes() > ENVELOPE_BYTES_MAX / 2 {
                    dropped += 1;
                    continue;
                }
                if !parcel.is_empty() && bytes + item.bytes() > PARCEL_BYTES {
                    parcels.push(self.parcel(&topic, std::mem::take(&mut parcel), now_ms));
                    bytes = 0;
                }
                bytes += item.bytes();
                parcel.push(item);
            }
            if !parcel.is_empty() {
                parcels.push(self.parcel(&topic, parcel, now_ms));
            }
        }
        (parcels, dropped)
    }

    fn parcel(&self, topic: &Topic, items: Vec<Item>, now_ms: i64) -> Parcel {
        let count = items.len();
        let text = Envelope::new(&self.from, now_ms, items).seal(&self.key);
        Parcel { topic: topic.clone(), text, items: count }
    }
}

/// Adds an item behind others of its topic: what follows what was committed before, of the same history, goes with it.
fn join(items: &mut Vec<Item>, item: Item) {
    if let (Some(Item::Committed(last)), Item::Committed(next)) = (items.last_mut(), &item)
        && last.channel == next.channel
        && last.epoch == next.epoch
    {
        let follows = last.head < next.events.first().map_or(next.head, |(sequence, _)| *sequence);
        let both_told = !last.events.is_empty() && !next.events.is_empty();
        if follows && both_told {
            let Item::Committed(Hint { mut events, head, .. }) = item else { return };
            last.events.append(&mut events);
            last.head = head;
            return;
        }
    }
    items.push(item);
}

/// What is too large for a parcel goes without its events: whoever listens reads them.
fn fitting(item: Item) -> Item {
    match item {
        Item::Committed(hint) if Item::Committed(hint.clone()).bytes() > PARCEL_BYTES => {
            Item::Committed(hint.without_events())
        }
        item => item,
    }
}
