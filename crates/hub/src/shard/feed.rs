//! Who listens to what.
//!
//! A *feed* is a channel as some of this shard's subscribers want it: its shape, tags and interval.
//! All that live subscribers of a feed know of their position is the feed's own cursor, so a
//! publication moves one number and not ten thousand. A subscriber that is not live (it catches up,
//! lags, or lost values to conflation) keeps a number of its own and is stepped over.

use std::collections::VecDeque;
use std::sync::Arc;

use pulsewire_bus::{Body, Bus, Channel, Publication};
use pulsewire_protocol::{Attend, Epoch, Event, Filter, Interval, MetricSet, Series, Shape};

/// How a feed's subscribers want their channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct View {
    pub(crate) shape: Shape,
    pub(crate) filter: Filter,
    pub(crate) interval: Option<Interval>,
}

/// A subscriber in a feed: its slot, its subscription there, and whether it is live.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Listener {
    pub(crate) slot: u32,
    bits: u32,
}

impl Listener {
    const LIVE: u32 = 1 << 31;
    const MSGPACK: u32 = 1 << 30;

    pub(crate) fn new(slot: u32, subscription: usize, live: bool, msgpack: bool) -> Self {
        let mut listener = Self { slot, bits: if msgpack { Self::MSGPACK } else { 0 } };
        listener.set_subscription(subscription);
        listener.set_live(live);
        listener
    }

    pub(crate) fn is_live(self) -> bool {
        self.bits & Self::LIVE != 0
    }

    pub(crate) fn is_msgpack(self) -> bool {
        self.bits & Self::MSGPACK != 0
    }

    pub(crate) fn subscription(self) -> usize {
        (self.bits & (Self::MSGPACK - 1)) as usize
    }

    pub(crate) fn set_subscription(&mut self, subscription: usize) {
        debug_assert!(subscription < Self::MSGPACK as usize, "bounded by subscriptions_per_session");
        self.bits = self.bits & (Self::LIVE | Self::MSGPACK) | subscription as u32;
    }

    pub(crate) fn set_msgpack(&mut self, msgpack: bool) {
        if msgpack { self.bits |= Self::MSGPACK } else { self.bits &= !Self::MSGPACK }
    }

    pub(crate) fn set_live(&mut self, live: bool) {
        if live { self.bits |= Self::LIVE } else { self.bits &= !Self::LIVE }
    }
}

/// A channel as some subscribers want it.
pub(crate) struct Feed {
    pub(crate) channel: Arc<Channel>,
    pub(crate) view: View,
    pub(crate) listeners: Vec<Listener>,
    /// The newest sequence of which the live listeners have been told.
    pub(crate) cursor: u64,
    /// The newest sequence that its live listeners were sent or told of; less than the cursor when a filter
    /// has skipped what came since.
    pub(crate) told: u64,
    /// What of the newest values passes the filter, for those who come late or lost some, and of which it was made.
    newest: Option<(Arc<Publication>, Option<Arc<Publication>>)>,
    /// When its channel last said something for it, Unix milliseconds; until then, when the feed began.
    pub(crate) said_ms: i64,
    /// Whether its listeners were told that the channel says nothing any more.
    pub(crate) stale: bool,
    /// How many listeners are being sent what was before.
    pub(crate) catching_up: u32,
    /// What came meanwhile, oldest first.
    pub(crate) recent: VecDeque<Arc<Publication>>,
    /// Which series pass the filter, by their numbers.
    passing: Vec<Option<(Arc<Series>, bool)>>,
}

impl Feed {
    pub(crate) fn new(channel: Arc<Channel>, view: View, cursor: u64, said_ms: i64) -> Self {
        Self {
            channel,
            view,
            listeners: Vec::new(),
            cursor,
            told: cursor,
            newest: None,
            said_ms,
            stale: false,
            catching_up: 0,
            recent: VecDeque::new(),
            passing: Vec::new(),
        }
    }

    /// Whether an event passes the filter.
    pub(crate) fn passes(&self, publication: &Publication) -> bool {
        let Body::Event(accepted) = &publication.body else { return true };
        let Event { event_type, tags, .. } = &accepted.event;
        self.view.filter.passes(event_type.as_str(), tags)
    }

    /// What of a metric channel's values this feed's listeners are sent; `None` if there is nothing for them.
    pub(crate) fn update(&mut self, publication: &Arc<Publication>) -> Option<Arc<Publication>> {
        let Body::Metrics(set) = &publication.body else { return None };
        if set.interval != self.view.interval {
            return None;
        }
        if self.view.filter.is_empty() {
            return Some(publication.clone());
        }
        let points: Vec<_> = set.points.iter().filter(|point| self.wants(&point.series)).cloned().collect();
        if points.is_empty() {
            return None;
        }
        let set = MetricSet { channel: set.channel.clone(), points, ..*set };
        let Publication { channel, accepted_ns, event_type, .. } = &**publication;
        Some(Arc::new(Publication::values(channel.clone(), set, *accepted_ns, *event_type)))
    }

    /// Looked up once for each series, not once for each point.
    fn wants(&mut self, series: &Arc<Series>) -> bool {
        let id = series.id as usize;
        match self.passing.get(id) {
            Some(Some((known, passes))) if Arc::ptr_eq(known, series) => *passes,
            _ => {
                if id >= self.passing.len() {
                    self.passing.resize(id + 1, None);
                }
                let passes = self.view.filter.passes(&series.name, &series.tags);
                self.passing[id] = Some((series.clone(), passes));
                passes
            }
        }
    }

    /// The newest value of every series that passes, and the number of the newest set that it holds; nothing and 0
    /// before the first.
    pub(crate) fn newest(&mut self, bus: &Bus) -> (Option<Arc<Publication>>, u64) {
        let Some(whole) = bus.newest(&self.channel, self.view.interval) else { return (None, 0) };
        let number = match &whole.body {
            Body::Metrics(set) => set.number,
            Body::Event(_) => 0,
        };
        match &self.newest {
            Some((known, update)) if Arc::ptr_eq(known, &whole) => (update.clone(), number),
            _ => {
                let update = self.update(&whole);
                self.newest = Some((whole, update.clone()));
                (update, number)
            }
        }
    }
}

/// How a subscription gets its events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Feeding {
    /// Whatever the feed gets; its position is the feed's cursor.
    Live,
    /// A page is being read from `next` on.
    Reading,
    /// What is below `next` it has already; live from there on.
    Skipping,
    /// Its outbox was full: it will read from `next` on when that has drained.
    Lagging,
    /// It missed values: it gets the newest when its outbox has drained.
    Stale,
}

/// A session's interest in a feed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subscription {
    pub(crate) feed: u32,
    /// Its index among the feed's listeners.
    pub(crate) listener: u32,
    /// The next sequence it must be given, unless it is live.
    pub(crate) next: u64,
    /// The read that is under way.
    pub(crate) read: u32,
    /// Events dropped, or values conflated, of which it has not been told.
    pub(crate) missed: u32,
    /// When its subscription began, until its initial state is sent; in milliseconds, 0 if it is sent.
    pub(crate) began_ms: u32,
    pub(crate) feeding: Feeding,
    /// Up to here it wants critical events only; 0 if it wants all. What came after it had subscribed is read whole.
    pub(crate) critical_until: u64,
    /// It was told that it stands right before `next`, and has been sent nothing since.
    pub(crate) placed: bool,
}

const _: () = assert!(size_of::<Subscription>() <= 40, "a subscription: part of the 600 bytes of design §9");

/// A subscription of a session that has no connection.
pub(crate) struct Parked {
    pub(crate) channel: Arc<Channel>,
    /// The history in which `next` counts.
    pub(crate) epoch: Epoch,
    pub(crate) view: View,
    pub(crate) msgpack: bool,
    /// What it wanted of the channel's presence.
    pub(crate) attend: Attend,
    /// Whether it was being sent the keyed state, which then begins anew.
    pub(crate) state: bool,
    pub(crate) next: u64,
    pub(crate) critical_until: u64,
}
