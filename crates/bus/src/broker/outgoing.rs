//! What waits to be said to other nodes.
//!
//! Whoever publishes puts it here and goes on; whoever carries it takes everything that waits, joined by topic, so
//! that a slow broker makes larger parcels and not a longer queue. The queue is bounded in bytes. When it is full,
//! committed events go without their content (whoever listens reads it from the store), and everything else is
//! dropped and counted: it may be lost anyway. The same holds for what is too large for a message of the broker.

use std::collections::{HashMap, VecDeque};

use parking_lot::Mutex;
use pulsewire_telemetry::BrokerItem;

use super::wire::{ENVELOPE_BYTES_MAX, Envelope, Key, PARCEL_BYTES};
use super::{Hint, Item, Topic};

/// How the queue is bounded, and what the broker takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutgoingOptions {
    /// Bytes that may wait, roughly. Default 16 MiB; an eighth more for what goes without content.
    pub bytes_max: usize,
    /// What several items together may take, bytes, roughly. Default 256 KiB.
    pub parcel_bytes: usize,
    /// The largest envelope that the broker takes, bytes. Default 4 MiB, which is the largest that is read.
    pub envelope_bytes_max: usize,
    /// Whether each channel has a topic of its own. Else what is said of channels goes to all, in one order. Default yes.
    pub has_topics: bool,
}

impl Default for OutgoingOptions {
    fn default() -> Self {
        Self {
            bytes_max: 16 << 20,
            parcel_bytes: PARCEL_BYTES,
            envelope_bytes_max: ENVELOPE_BYTES_MAX,
            has_topics: true,
        }
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
    /// How many items it holds, indexed by [`BrokerItem`].
    pub items: [u64; BrokerItem::COUNT],
}

/// What was taken from the queue.
#[derive(Debug, Default)]
pub struct Taken {
    /// What goes, those of a topic in order.
    pub parcels: Vec<Parcel>,
    /// Items that were too large to go at all.
    pub too_large: u64,
    /// Hints that were too large and go without their events.
    pub shortened: u64,
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

    /// Throws away what waits, because nobody can be told. Returns how many items that were.
    pub fn clear(&self) -> u64 {
        let mut queue = self.queue.lock();
        queue.bytes = 0;
        std::mem::take(&mut queue.waiting).len() as u64
    }

    /// Takes everything that waits, in parcels: one for each topic unless that is too large, those of a topic in
    /// order. The clock's time goes with them, Unix milliseconds.
    pub fn take(&self, now_ms: i64) -> Taken {
        let waiting = {
            let mut queue = self.queue.lock();
            queue.bytes = 0;
            std::mem::take(&mut queue.waiting)
        };
        let mut places: HashMap<Topic, usize> = HashMap::new();
        let mut topics: Vec<(Topic, Vec<Item>)> = Vec::new();
        for (topic, item) in waiting {
            let topic = match topic {
                Topic::Channel(_) if !self.options.has_topics => Topic::All,
                topic => topic,
            };
            let place = *places.entry(topic.clone()).or_insert_with(|| {
                topics.push((topic, Vec::new()));
                topics.len() - 1
            });
            self.join(&mut topics[place].1, item);
        }
        let mut taken = Taken { parcels: Vec::with_capacity(topics.len()), ..Taken::default() };
        for (topic, items) in topics {
            let (mut parcel, mut bytes) = (Vec::new(), 0);
            for item in items {
                if !parcel.is_empty() && bytes + item.bytes() > self.options.parcel_bytes {
                    self.seal(&topic, std::mem::take(&mut parcel), now_ms, &mut taken);
                    bytes = 0;
                }
                bytes += item.bytes();
                parcel.push(item);
            }
            self.seal(&topic, parcel, now_ms, &mut taken);
        }
        taken
    }

    /// Seals items, in several parcels if one is too large for the broker.
    fn seal(&self, topic: &Topic, mut items: Vec<Item>, now_ms: i64, taken: &mut Taken) {
        if items.is_empty() {
            return;
        }
        let mut counts = [0; BrokerItem::COUNT];
        items.iter().for_each(|item| counts[item.kind() as usize] += 1);
        let envelope = Envelope::new(&self.from, now_ms, items);
        let text = envelope.seal(&self.key);
        if text.len() <= self.options.envelope_bytes_max {
            taken.parcels.push(Parcel { topic: topic.clone(), text, items: counts });
            return;
        }
        items = envelope.items;
        let half = items.len() / 2;
        let more = match items.pop() {
            Some(last) if half > 0 => {
                items.push(last);
                items.split_off(half)
            }
            Some(item) => match halves(item) {
                Ok((first, second)) => {
                    items.push(first);
                    vec![second]
                }
                Err(Item::Committed(hint)) if !hint.events.is_empty() => {
                    taken.shortened += 1;
                    items.push(Item::Committed(hint.without_events()));
                    Vec::new()
                }
                Err(_) => {
                    taken.too_large += 1;
                    return;
                }
            },
            None => return,
        };
        self.seal(topic, items, now_ms, taken);
        self.seal(topic, more, now_ms, taken);
    }

    /// Adds an item behind others of its topic: what follows what was committed before, of the same history, goes with
    /// it, as far as it fits a parcel.
    fn join(&self, items: &mut Vec<Item>, item: Item) {
        let more_bytes = item.bytes();
        let Item::Committed(next) = item else {
            items.push(item);
            return;
        };
        if let Some(last_item) = items.last_mut() {
            let fits = last_item.bytes() + more_bytes <= self.options.parcel_bytes;
            if let Item::Committed(last) = last_item
                && last.channel == next.channel
                && last.epoch == next.epoch
                && last.events.is_empty() == next.events.is_empty()
            {
                let Some((first, _)) = next.events.first() else {
                    // Where it stands at last says both.
                    last.head = last.head.max(next.head);
                    return;
                };
                if fits && last.head < *first {
                    last.events.extend(next.events);
                    last.head = next.head;
                    return;
                }
            }
        }
        items.push(Item::Committed(next));
    }
}

/// Two items that say what one said; the item itself if it says only one thing.
fn halves(item: Item) -> Result<(Item, Item), Item> {
    match item {
        Item::Committed(Hint { channel, epoch, mut events, head }) if events.len() > 1 => {
            let later = events.split_off(events.len() / 2);
            let first = Hint::new(channel.clone(), epoch.clone(), events);
            Ok((Item::Committed(first), Item::Committed(Hint { channel, epoch, events: later, head })))
        }
        Item::Passed { channel, mut events } if events.len() > 1 => {
            let later = events.split_off(events.len() / 2);
            Ok((Item::Passed { channel: channel.clone(), events }, Item::Passed { channel, events: later }))
        }
        Item::Samples { channel, mut samples, recalled } if samples.len() > 1 => {
            let later = samples.split_off(samples.len() / 2);
            Ok((
                Item::Samples { channel: channel.clone(), samples, recalled },
                Item::Samples { channel, samples: later, recalled },
            ))
        }
        item => Err(item),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use pulsewire_protocol::{ChannelName, Epoch, Event, EventType, Sequence};
    use serde_json::value::RawValue;

    use super::*;
    use crate::store::Accepted;

    fn queue(options: OutgoingOptions) -> Outgoing {
        Outgoing::new("node", key(), options)
    }

    fn key() -> Key {
        Key::new(b"secret")
    }

    fn name(channel: &str) -> ChannelName {
        ChannelName::parse(channel).expect("a name")
    }

    fn accepted(channel: &str, bytes: usize) -> Arc<Accepted> {
        let data = RawValue::from_string(format!("\"{}\"", "x".repeat(bytes))).expect("JSON");
        let event = Event::new(name(channel), EventType::parse("note").expect("a type"), data);
        Arc::new(Accepted { event, user: None, timestamp_ms: 7 })
    }

    fn committed(channel: &str, sequences: std::ops::RangeInclusive<u64>, bytes: usize) -> Item {
        let events = sequences.map(|at| (Sequence(at), accepted(channel, bytes))).collect();
        Item::Committed(Hint::new(name(channel), Epoch::parse("e").expect("an epoch"), events))
    }

    fn other(bytes: usize) -> Item {
        let body = RawValue::from_string(format!("\"{}\"", "x".repeat(bytes))).expect("JSON");
        Item::Other { kind: "note".into(), body }
    }

    fn to(channel: &str) -> Topic {
        Topic::Channel(name(channel))
    }

    /// What comes out, as other nodes read it: topic, then of each item its sequences or its kind.
    fn said(queue: &Outgoing) -> (Vec<String>, u64, u64) {
        let taken = queue.take(0);
        let mut said = Vec::new();
        for Parcel { topic, text, items } in &taken.parcels {
            assert!(text.len() <= queue.options.envelope_bytes_max, "{} bytes", text.len());
            let opened = Envelope::open(text.as_bytes(), &key()).expect("it holds");
            assert_eq!(opened.items.len() as u64, items.iter().sum::<u64>());
            let shown: Vec<String> = opened.items.iter().map(shown).collect();
            let topic = match topic {
                Topic::Channel(name) => name.to_string(),
                Topic::All => "all".to_owned(),
                Topic::Node(node) => format!("@{node}"),
            };
            said.push(format!("{topic}: {}", shown.join(" ")));
        }
        (said, taken.too_large, taken.shortened)
    }

    fn shown(item: &Item) -> String {
        match item {
            Item::Committed(hint) => {
                let sequences: Vec<String> = hint.events.iter().map(|(at, _)| at.0.to_string()).collect();
                format!("{}<{}", sequences.join(","), hint.head.0)
            }
            other => other.kind().to_string(),
        }
    }

    #[test]
    fn what_waits_goes_in_one_parcel_for_each_topic_in_order() {
        let queue = queue(OutgoingOptions::default());
        for (topic, item) in [
            (to("run:1"), committed("run:1", 1..=2, 1)),
            (to("run:2"), committed("run:2", 7..=7, 1)),
            (to("run:1"), committed("run:1", 3..=3, 1)),
            (Topic::All, other(1)),
            (to("run:1"), committed("run:1", 2..=2, 1)),
            (Topic::Node("n".into()), other(1)),
        ] {
            assert_eq!(queue.push(topic, item), Overflow::None);
        }
        let (said, ..) = said(&queue);
        assert_eq!(said, ["run:1: 1,2,3<3 2<2", "run:2: 7<7", "all: other", "@n: other"]);
        assert!(queue.is_empty() && queue.bytes() == 0);
    }

    #[test]
    fn a_broker_without_topics_is_told_everything_in_one_order() {
        let options = OutgoingOptions { has_topics: false, ..OutgoingOptions::default() };
        let queue = queue(options);
        queue.push(to("run:1"), committed("run:1", 1..=1, 1));
        queue.push(Topic::All, other(1));
        queue.push(to("run:2"), committed("run:2", 1..=1, 1));
        queue.push(Topic::Node("n".into()), other(1));
        assert_eq!(said(&queue).0, ["all: 1<1 other 1<1", "@n: other"]);
    }

    #[test]
    fn of_another_history_nothing_is_joined() {
        let queue = queue(OutgoingOptions::default());
        queue.push(to("run:1"), committed("run:1", 1..=1, 1));
        let Item::Committed(hint) = committed("run:1", 2..=2, 1) else { panic!("it is one") };
        let hint = Hint { epoch: Epoch::parse("f").expect("an epoch"), ..hint };
        queue.push(to("run:1"), Item::Committed(hint));
        assert_eq!(said(&queue).0, ["run:1: 1<1 2<2"]);
    }

    #[test]
    fn a_full_queue_keeps_where_channels_stand_and_drops_the_rest() {
        let options = OutgoingOptions { bytes_max: 20_000, ..OutgoingOptions::default() };
        let queue = queue(options);
        assert_eq!(queue.push(to("run:1"), committed("run:1", 1..=1, 19_000)), Overflow::None);
        assert_eq!(queue.push(to("run:1"), committed("run:1", 2..=2, 5_000)), Overflow::Shortened);
        assert_eq!(queue.push(Topic::All, other(5_000)), Overflow::Dropped);
        assert_eq!(queue.push(to("run:1"), committed("run:1", 3..=3, 5_000)), Overflow::Shortened);
        let mut pushed = 0;
        while queue.push(to("run:2"), committed("run:2", 1..=1, 5_000)) != Overflow::Dropped {
            pushed += 1;
        }
        assert!(
            queue.bytes() <= 22_500,
            "an eighth more for what goes without content, not {}",
            queue.bytes()
        );
        assert!(pushed > 0);
        assert_eq!(said(&queue).0, ["run:1: 1<1 <3", "run:2: <1"], "where a channel stands is said once");
        assert_eq!(queue.push(Topic::All, other(5_000)), Overflow::None, "there is room again");
        assert_eq!((queue.clear(), queue.bytes()), (1, 0));
    }

    #[test]
    fn what_is_larger_than_a_parcel_goes_in_several() {
        let options = OutgoingOptions { parcel_bytes: 4_000, ..OutgoingOptions::default() };
        let queue = queue(options);
        for at in 1..=6 {
            queue.push(to("run:1"), committed("run:1", at..=at, 1_000));
        }
        let (said, too_large, shortened) = said(&queue);
        let all =
            said.iter().flat_map(|parcel| parcel.split([' ', ',', '<'])).filter(|word| !word.is_empty());
        let all: Vec<&str> = all.filter(|word| *word != "run:1:").collect();
        let mut events = all.clone();
        events.dedup();
        assert_eq!((events.join(""), too_large, shortened), ("123456".to_owned(), 0, 0), "{said:?}");
        assert!((2..=4).contains(&said.len()), "{said:?}");
    }

    /// PostgreSQL takes no notification of 8,000 bytes.
    #[test]
    fn what_is_too_large_for_the_broker_is_cut_shortened_or_dropped() {
        let options = OutgoingOptions {
            parcel_bytes: 7_000,
            envelope_bytes_max: 7_900,
            has_topics: false,
            ..OutgoingOptions::default()
        };
        let queue = queue(options);
        queue.push(to("run:1"), committed("run:1", 1..=4, 3_000));
        queue.push(to("run:1"), committed("run:1", 5..=5, 9_000));
        queue.push(Topic::All, other(9_000));
        let channel = name("cursor:1");
        queue.push(to("cursor:1"), Item::Passed { channel, events: vec![accepted("cursor:1", 9_000)] });
        queue.push(to("run:1"), committed("run:1", 6..=6, 10));
        let (said, too_large, shortened) = said(&queue);
        assert_eq!(said, ["all: 1,2<2", "all: 3,4<4", "all: <5", "all: 6<6"]);
        assert_eq!((too_large, shortened), (2, 1));
    }
}
