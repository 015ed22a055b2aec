//! From a publication to the lists of everyone who is to have it.
//!
//! For a live listener this touches its listener entry, its head and one node of the arena, and nothing
//! else: no lock, no allocation, no formatting, no look at the session.

use std::sync::Arc;

use pulsewire_bus::{Body, ChannelKind, Now, Publication};
use pulsewire_protocol::{Answer, ChannelName, Encoding, Sequence};
use pulsewire_telemetry::{MessageType, Sent};

use super::Shard;
use super::feed::{Feeding, Listener};
use super::queue::{Class, Item, ItemRef, Source};
use crate::Net;

/// Events that go out as one delivery at most, so that what a slow reader misses stays small.
const BUNDLE_MAX: usize = 64;
/// Bytes of a delivery at most: a quarter of the default outbox.
const BUNDLE_BYTES_MAX: usize = 16 * 1024;
/// What a frame adds to its event's payload, roughly.
const ENVELOPE_BYTES: usize = 160;

impl<N: Net> Shard<N> {
    /// Queues a publication for everyone in this shard who listens to its channel.
    pub fn publish(&mut self, publication: &Arc<Publication>, now: Now) {
        self.publish_all(std::slice::from_ref(publication), now);
    }

    /// Queues publications of one channel, in order, for everyone in this shard who listens to it.
    pub fn publish_all(&mut self, publications: &[Arc<Publication>], now: Now) {
        let Some(first) = publications.first() else { return };
        let Some(feeds) = self.feeds_by_channel.get(&first.channel.id) else { return };
        let feeds = feeds.clone();
        let matched: usize = feeds.iter().map(|feed| self.feeds[*feed as usize].listeners.len()).sum();
        for publication in publications {
            debug_assert_eq!(publication.channel.id, first.channel.id, "one channel at a time");
            self.metrics.fanout_started(now.since_ns(publication.accepted_ns), matched as u64);
            if publication.sequence.0 > 0 {
                self.receipts.note(publication);
            }
        }
        for feed in feeds {
            let mut rest = publications;
            while !rest.is_empty() {
                let together = self.together(feed, rest);
                if together > 1 {
                    self.bundle(feed, &rest[..together]);
                } else {
                    self.one(feed, &rest[0], now);
                }
                rest = &rest[together..];
            }
        }
    }

    /// How many of the publications, from the first on, can be one delivery: events that follow one another,
    /// for a feed whose listeners are all live.
    fn together(&self, index: u32, publications: &[Arc<Publication>]) -> usize {
        let feed = &self.feeds[index as usize];
        if publications.len() == 1
            || !feed.view.filter.is_empty()
            || !feed.listeners.iter().all(|listener| listener.is_live())
        {
            return 1;
        }
        let mut bytes = 0;
        let fits = |(place, publication): &(usize, &Arc<Publication>)| {
            let Body::Event(accepted) = &publication.body else { return false };
            bytes += accepted.event.data.get().len() + ENVELOPE_BYTES;
            let follows = feed.channel.kind != ChannelKind::Log
                || publication.sequence.0 == feed.cursor + 1 + *place as u64;
            follows && bytes <= BUNDLE_BYTES_MAX
        };
        publications.iter().enumerate().take(BUNDLE_MAX).take_while(fits).count().max(1)
    }

    fn bundle(&mut self, index: u32, publications: &[Arc<Publication>]) {
        if let Some(last) = publications.last().filter(|last| last.sequence.0 > 0) {
            let feed = &mut self.feeds[index as usize];
            feed.cursor = last.sequence.0;
            feed.told = last.sequence.0;
        }
        self.spread(index, Item::bundle(index, publications));
    }

    fn one(&mut self, feed: u32, publication: &Arc<Publication>, now: Now) {
        match &publication.body {
            Body::Event(_) => self.event(feed, publication),
            Body::Metrics(set) => {
                let feed_of = &mut self.feeds[feed as usize];
                feed_of.cursor = set.number;
                if let Some(update) = feed_of.update(publication) {
                    self.said(feed, &update, now);
                    let item = self.values_item(feed, update, publication.accepted_ns);
                    self.spread(feed, item);
                }
            }
        }
    }

    fn event(&mut self, index: u32, publication: &Arc<Publication>) {
        let feed = &mut self.feeds[index as usize];
        let sequence = publication.sequence.0;
        if feed.channel.kind == ChannelKind::Log {
            if sequence <= feed.cursor {
                return;
            }
            if sequence > feed.cursor + 1 {
                // I3: something was lost between the bus and here. Nobody is given a hole: all read.
                self.repair(index, sequence);
                return;
            }
            feed.cursor = sequence;
        }
        if feed.passes(publication) {
            let previous = std::mem::replace(&mut feed.told, sequence);
            let item = match feed.channel.kind {
                ChannelKind::Log => Item::event_after(index, publication, Sequence(previous)),
                _ => Item::event(index, publication),
            };
            self.spread(index, item);
        } else if feed.channel.kind == ChannelKind::Log && !self.behind.contains(&index) {
            self.behind.push(index);
        }
    }

    /// Tells listeners whose filter has skipped events how far they are, so that they do not fall out of what
    /// the channel keeps. Called once a second.
    pub(super) fn tell_positions(&mut self) {
        for index in std::mem::take(&mut self.behind) {
            let Some(feed) = self.feeds.get_mut(index as usize).filter(|feed| feed.told < feed.cursor) else {
                continue;
            };
            feed.told = feed.cursor;
            self.awaken(index);
            let feed = &self.feeds[index as usize];
            let (name, sequence) = (feed.channel.name.clone(), Sequence(feed.cursor));
            for encoding in [Encoding::Json, Encoding::MsgPack] {
                let item = self.pos_item(index, &name, sequence, encoding);
                self.spread_encoded(index, item, encoding == Encoding::MsgPack);
            }
        }
    }

    /// Listeners who had read further than the feed was are live when it has come to where they are. Events that they
    /// want do that by themselves; after those that a filter skipped it takes the notice of how far it is.
    fn awaken(&mut self, index: u32) {
        let feed = &mut self.feeds[index as usize];
        for listener in feed.listeners.iter_mut().filter(|listener| !listener.is_live()) {
            let slot = &mut self.slots[listener.slot as usize];
            let session = slot.session.as_mut().expect("only sessions listen");
            let subscription = &mut session.subscriptions[listener.subscription()];
            if subscription.feeding == Feeding::Skipping && subscription.next <= feed.cursor + 1 {
                subscription.feeding = Feeding::Live;
                listener.set_live(true);
            }
        }
    }

    /// A notice of how far a subscription is. What follows it is read again if it cannot be sent.
    pub(super) fn pos_item(
        &self,
        feed: u32,
        name: &ChannelName,
        sequence: Sequence,
        encoding: Encoding,
    ) -> Item {
        let answer = Answer::Pos { channel: name, sequence };
        let class = Class::Log { feed, sequence: sequence.0 + 1 };
        let sent = Sent::Message(MessageType::named(answer.name()));
        Item::new(Source::Ready(answer.encode(None, encoding)), class, sent, self.metric_type, 0)
    }

    /// Queues an item for the live listeners of one encoding.
    /// Returns how many there are.
    pub(super) fn spread_encoded(&mut self, index: u32, item: Item, msgpack: bool) -> u32 {
        let item = self.queue.insert(item);
        let mut receivers = 0;
        let wanted = |listener: &&Listener| listener.is_live() && listener.is_msgpack() == msgpack;
        for listener in self.feeds[index as usize].listeners.iter().filter(wanted) {
            let slot = &mut self.slots[listener.slot as usize];
            self.queue.link(listener.slot, slot, ItemRef::new(item, msgpack));
            receivers += 1;
        }
        self.queue.seal(item, receivers);
        receivers
    }

    pub(super) fn values_item(&self, feed: u32, update: Arc<Publication>, accepted_ns: u64) -> Item {
        let shape = self.feeds[feed as usize].view.shape;
        Item::new(
            Source::Publication(update, shape),
            Class::Metrics { feed },
            Sent::Message(MessageType::Metric),
            self.metric_type,
            accepted_ns,
        )
    }

    /// Queues an item for a feed's live listeners, and steps over the others.
    fn spread(&mut self, index: u32, item: Item) {
        let class = item.class;
        let item = self.queue.insert(item);
        let mut receivers = 0;
        let mut others = 0;
        for listener in &self.feeds[index as usize].listeners {
            if listener.is_live() {
                let slot = &mut self.slots[listener.slot as usize];
                self.queue.link(listener.slot, slot, ItemRef::new(item, listener.is_msgpack()));
                receivers += 1;
            } else {
                others += 1;
            }
        }
        if others > 0 {
            receivers += self.step_over(index, item, class);
        }
        self.queue.seal(item, receivers);
    }

    /// Deals with the listeners that are not live. Returns how many got the item after all.
    fn step_over(&mut self, index: u32, item: u32, class: Class) -> u32 {
        let mut receivers = 0;
        let filtered = !self.feeds[index as usize].view.filter.is_empty();
        let cursor = self.feeds[index as usize].cursor;
        for listener in &mut self.feeds[index as usize].listeners {
            if listener.is_live() {
                continue;
            }
            let slot = &mut self.slots[listener.slot as usize];
            let session = slot.session.as_mut().expect("only sessions listen");
            let subscription = &mut session.subscriptions[listener.subscription()];
            match (subscription.feeding, class) {
                (Feeding::Skipping, Class::Log { sequence, .. }) if sequence >= subscription.next => {
                    assert!(sequence == subscription.next || filtered, "I5: live subscriptions have no hole");
                    subscription.feeding = Feeding::Live;
                    listener.set_live(true);
                    self.queue.link(listener.slot, slot, ItemRef::new(item, listener.is_msgpack()));
                    receivers += 1;
                }
                (Feeding::Skipping, Class::Metrics { .. }) if subscription.next <= cursor => {
                    subscription.feeding = Feeding::Live;
                    listener.set_live(true);
                    self.queue.link(listener.slot, slot, ItemRef::new(item, listener.is_msgpack()));
                    receivers += 1;
                }
                (Feeding::Stale, _) => {
                    subscription.missed += 1;
                    self.metrics.conflated(1);
                }
                _ => {}
            }
        }
        receivers
    }

    /// Lets every listener of a feed that waits for publications that were lost on the way catch up by reading.
    fn repair(&mut self, index: u32, sequence: u64) {
        let feed = &mut self.feeds[index as usize];
        let next = feed.cursor + 1;
        feed.cursor = sequence;
        let listeners = feed.listeners.clone();
        for listener in listeners {
            let session = self.slots[listener.slot as usize].session.as_ref().expect("only sessions listen");
            let subscription = session.subscriptions[listener.subscription()];
            let next = match subscription.feeding {
                Feeding::Live => next,
                Feeding::Skipping if subscription.next <= sequence => subscription.next,
                _ => continue,
            };
            self.fall_back(listener.slot, listener.subscription(), next, Feeding::Lagging);
            self.read_on(listener.slot, listener.subscription());
        }
    }
}
