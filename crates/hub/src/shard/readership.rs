//! Who listens to one channel, and how far behind they are: for operators.

use pulsewire_bus::{Channel, ChannelId, ChannelKind};

use super::Shard;
use super::feed::{Feed, Feeding, Listener};
use crate::Net;
use crate::watch::{Candidate, Place, READERS_MAX, Reader, Readership, SLICE_LISTENERS, Top};

impl<N: Net> Shard<N> {
    /// Those of a channel's listeners that are furthest behind, of a slice of them that begins with the `from`th.
    pub(super) fn readership(&self, channel: ChannelId, from: usize) -> Readership {
        let feeds: &[u32] = self.feeds_by_channel.get(&channel).map_or(&[], |feeds| feeds);
        let Some(first) = feeds.first() else { return Readership::default() };
        let head = head_of(&self.feeds[*first as usize].channel);
        let listeners = feeds.iter().flat_map(|index| {
            let feed = &self.feeds[*index as usize];
            feed.listeners.iter().map(move |listener| (*index, feed, *listener))
        });
        let mut top = Top::new(READERS_MAX);
        let mut seen = 0;
        for (index, feed, listener) in listeners.skip(from).take(SLICE_LISTENERS) {
            seen += 1;
            let behind = self.behind(feed, listener, head);
            top.see(Candidate { place: Place::Number(-(behind as f64)), key: (listener.slot, index) });
        }
        let readers =
            top.into_sorted().into_iter().filter_map(|found| self.reader(found.key, head)).collect();
        Readership { next: (seen == SLICE_LISTENERS).then_some(from + seen), readers }
    }

    /// How many events of the channel a listener has not been sent; 0 where nothing is numbered.
    fn behind(&self, feed: &Feed, listener: Listener, head: u64) -> u64 {
        if listener.is_live() {
            return head.saturating_sub(feed.cursor);
        }
        let session = self.slots[listener.slot as usize].session.as_ref().expect("only sessions listen");
        let subscription = &session.subscriptions[listener.subscription()];
        match subscription.feeding {
            Feeding::Stale => 0,
            _ => (head + 1).saturating_sub(subscription.next),
        }
    }

    fn reader(&self, (slot, feed): (u32, u32), head: u64) -> Option<Reader> {
        let session = self.slots.get(slot as usize)?.session.as_deref()?;
        let subscription = session.subscriptions.iter().find(|subscription| subscription.feed == feed)?;
        let subscribed = self.subscribed(subscription);
        Some(Reader {
            session: session.id,
            user: session.principal.sub.clone(),
            behind: subscribed.position.map(|at| head.saturating_sub(at)),
            position: subscribed.position,
            feeding: subscribed.feeding,
        })
    }
}

fn head_of(channel: &Channel) -> u64 {
    if channel.kind == ChannelKind::Log { channel.head().0 } else { 0 }
}
