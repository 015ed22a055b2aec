//! Who listens to what.
//!
//! A *feed* is a channel as some of this shard's subscribers want it: its shape, tags and interval.
//! All that live subscribers of a feed know of their position is the feed's own cursor, so a
//! publication moves one number and not ten thousand. A subscriber that is not live (it catches up,
//! lags, or lost values to conflation) keeps a number of its own and is stepped over.

use std::sync::Arc;

use pulsewire_bus::{Body, Bus, Channel, Publication};
use pulsewire_protocol::{Attend, Interval, MetricSet, Shape};

/// A set of tags that must all be equal.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct TagFilter(Box<[(Box<str>, Box<str>)]>);

impl TagFilter {
    pub(crate) fn new(mut tags: Vec<(Box<str>, Box<str>)>) -> Self {
        tags.sort();
        Self(tags.into())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether an event passes.
    pub(crate) fn passes(&self, publication: &Publication) -> bool {
        let Body::Event(accepted) = &publication.body else { return true };
        self.0.iter().all(|(key, value)| accepted.event.tags.get(key) == Some(&**value))
    }

    /// The samples that pass; `None` if there is none.
    fn apply(&self, set: &MetricSet) -> Option<MetricSet> {
        let passes = |sample: &&pulsewire_protocol::Sample| {
            self.0.iter().all(|(key, value)| sample.tags.get(key) == Some(&**value))
        };
        let samples: Vec<_> = set.samples.iter().filter(passes).cloned().collect();
        (!samples.is_empty()).then(|| MetricSet {
            channel: set.channel.clone(),
            timestamp_ms: set.timestamp_ms,
            samples,
        })
    }
}

/// How a feed's subscribers want their channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct View {
    pub(crate) shape: Shape,
    pub(crate) tags: TagFilter,
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
    /// The newest values, for those who come late or lost some.
    pub(crate) latest: Option<Update>,
    /// The window that is open, in whole intervals since 1970, and its newest values.
    window: i64,
    /// When the values were accepted with which the feed began: what is older, or they themselves, may
    /// still be on their way here.
    seeded: Option<Arc<Publication>>,
    held: Option<(Update, u64)>,
}

/// Values to be sent to a feed's listeners.
#[derive(Clone)]
pub(crate) enum Update {
    /// A publication as it is.
    Whole(Arc<Publication>),
    /// Some of its values.
    Some(Arc<MetricSet>),
}

impl Feed {
    pub(crate) fn new(channel: Arc<Channel>, view: View, cursor: u64) -> Self {
        Self {
            channel,
            view,
            listeners: Vec::new(),
            cursor,
            told: cursor,
            latest: None,
            window: i64::MIN,
            seeded: None,
            held: None,
        }
    }

    /// Takes the newest values the bus has, so that the first subscriber need not wait for the next ones.
    pub(crate) fn seed(&mut self, bus: &Bus) {
        if self.view.interval.is_none()
            && let Some(publication) = bus.latest(&self.channel)
            && let Body::Metrics(set) = &publication.body
        {
            let _ = self.values(&publication, set);
            self.seeded = Some(publication);
        }
    }

    /// What a set of values means for this feed: the update to send, with the time of its acceptance.
    ///
    /// With an interval, the newest values of a window are sent when the first of the next window
    /// comes; windows are aligned to the clock.
    pub(crate) fn values(
        &mut self,
        publication: &Arc<Publication>,
        set: &MetricSet,
    ) -> Option<(Update, u64)> {
        if let Some(seeded) = &self.seeded {
            if publication.accepted_ns < seeded.accepted_ns || Arc::ptr_eq(publication, seeded) {
                return None;
            }
            self.seeded = None;
        }
        let update = if self.view.tags.is_empty() {
            Update::Whole(publication.clone())
        } else {
            Update::Some(Arc::new(self.view.tags.apply(set)?))
        };
        let Some(interval) = self.view.interval else {
            self.latest = Some(update.clone());
            return Some((update, publication.accepted_ns));
        };
        let interval_ms = i64::try_from(interval.duration().as_millis()).unwrap_or(i64::MAX);
        let window = set.timestamp_ms.div_euclid(interval_ms);
        let set_back = self.window.saturating_sub(window) > STRAGGLER_MS / interval_ms + 1;
        let is_next = window > self.window || set_back;
        let complete = if is_next { self.held.take() } else { None };
        if is_next {
            self.window = window;
        }
        self.held = Some((update, publication.accepted_ns));
        let (update, _) = complete?;
        self.latest = Some(update.clone());
        Some((update, publication.accepted_ns))
    }
}

/// Values that are older than the newest by more than this are no stragglers: whoever dated the newest had a clock that
/// was wrong, or that was set back since. Nobody waits until that time comes again.
const STRAGGLER_MS: i64 = 60_000;

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
    pub(crate) view: View,
    pub(crate) msgpack: bool,
    /// What it wanted of the channel's presence.
    pub(crate) attend: Attend,
    /// Whether it was being sent the keyed state, which then begins anew.
    pub(crate) state: bool,
    pub(crate) next: u64,
    pub(crate) critical_until: u64,
}
