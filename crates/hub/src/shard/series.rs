//! Subscriptions to metric channels: the newest values, the past before them, and word that nothing comes any more.

use std::sync::Arc;

use pulsewire_bus::{Body, Bus, ChannelKind, Now, Publication, Resolution, SeriesQuery};
use pulsewire_protocol::{
    Ack, Answer, ChannelName, Encoding, ErrorCode, GetHistory, Interval, RequestId, SampleBatch, Shape,
};
use pulsewire_telemetry::{MessageType, Sent};

use super::Shard;
use super::feed::Feeding;
use super::inbound::history_channel;
use super::queue::{Class, Item, Source};
use crate::command::{SeriesAnswer, Work};
use crate::{ConnKey, Net, Principal};

/// What is kept of a feed for those who are being sent what was before, in sets.
const RECENT_MAX: usize = 256;
/// Windows of one series that a client is taken to want of its past, if it does not say how long they are.
const FITS: usize = 1_000;
/// What a point takes in a `history` message, in bytes.
const POINT_BYTES: usize = 320;
/// How far back `get_history` begins if it does not say, milliseconds.
const PAST_DEFAULT_MS: i64 = 3_600_000;
/// How many intervals a metric channel may say nothing before its listeners are told.
const STALE_INTERVALS: i64 = 3;

impl<N: Net> Shard<N> {
    /// A metric channel has said something for a feed.
    pub(super) fn said(&mut self, feed: u32, update: &Arc<Publication>, now: Now) {
        let feed = &mut self.feeds[feed as usize];
        feed.said_ms = now.wall_ms;
        feed.stale = false;
        if feed.catching_up > 0 {
            if feed.recent.len() == RECENT_MAX {
                feed.recent.pop_front();
            }
            feed.recent.push_back(update.clone());
        }
    }

    /// Tells the listeners of metric channels that have said nothing for three intervals. Called once a second.
    pub(super) fn tell_stale(&mut self, now: Now) {
        let mut stale = Vec::new();
        for (index, feed) in &mut self.feeds {
            if feed.channel.kind != ChannelKind::Metrics || feed.stale {
                continue;
            }
            let interval_ms = match feed.view.interval {
                Some(interval) => span_ms(interval),
                None => {
                    self.bus.namespace(&feed.channel.name).map_or(5_000, |namespace| namespace.interval_ms)
                }
            };
            if now.wall_ms - feed.said_ms > STALE_INTERVALS * interval_ms {
                feed.stale = true;
                stale.push((index as u32, feed.channel.name.clone(), feed.said_ms));
            }
        }
        for (index, channel, since_ms) in stale {
            let answer = Answer::Stale { channel: &channel, since_ms };
            for encoding in [Encoding::Json, Encoding::MsgPack] {
                let source = Source::Ready(answer.encode(None, encoding));
                let sent = Sent::Message(MessageType::named(answer.name()));
                let item = Item::new(source, Class::Answer, sent, self.metric_type, 0);
                let told = self.spread_encoded(index, item, encoding == Encoding::MsgPack);
                self.metrics.stale(u64::from(told));
            }
        }
    }

    /// Sends a subscription to a metric channel the newest value of every series, then whatever comes.
    pub(super) fn send_newest(&mut self, slot: u32, index: usize, initial_ns: u64) {
        let entry = *self.subscription_mut(slot, index);
        let feed = &mut self.feeds[entry.feed as usize];
        let msgpack = feed.listeners[entry.listener as usize].is_msgpack();
        let (update, number) = feed.newest(&self.bus);
        // What is still on its way here may be older than these.
        self.go_live(slot, index, number + 1);
        if let Some(update) = update {
            let mut item = self.values_item(entry.feed, update, 0);
            item.initial_ns = initial_ns;
            self.send_item(slot, item, msgpack);
        }
    }

    /// Has what a metric channel did in the last so many milliseconds sent before anything else of a subscription.
    pub(super) fn begin_past(&mut self, slot: u32, index: usize, past_ms: u64, now: Now) {
        let feed = self.subscription_mut(slot, index).feed;
        let from_ms = now.wall_ms.saturating_sub_unsigned(past_ms).max(0);
        let resolution = self.feeds[feed as usize].view.interval.map(Resolution::from);
        if self.pasts.insert((slot, feed), (from_ms, resolution)).is_none() {
            self.feeds[feed as usize].catching_up += 1;
        }
        self.fall_back(slot, index, 0, Feeding::Reading);
        self.read_on(slot, index);
    }

    /// A subscription is not sent any more of what was before, if it was.
    pub(super) fn caught_up(&mut self, slot: u32, feed: u32) {
        if self.pasts.remove(&(slot, feed)).is_some() {
            let feed = &mut self.feeds[feed as usize];
            feed.catching_up -= 1;
            if feed.catching_up == 0 {
                feed.recent.clear();
            }
        }
    }

    pub(super) fn past_work(
        &self,
        slot: u32,
        feed: u32,
        (from_ms, resolution): (i64, Option<Resolution>),
        read: u32,
    ) -> Work {
        let feed = &self.feeds[feed as usize];
        let query = SeriesQuery {
            from_ms,
            to_ms: i64::MAX,
            resolution,
            fits: FITS,
            filter: feed.view.filter.clone(),
            points_max: self.points_max(),
            // Whoever wants windows is sent those that are open when they close.
            open: feed.view.interval.is_none(),
        };
        let encoding = self.slots[slot as usize].encoding();
        let (channel, shape) = (feed.channel.name.clone(), feed.view.shape);
        Work::Series { id: None, channel, query, shape, encoding, read: Some(read) }
    }

    /// A part of what was before has been read for a subscription, or cannot be.
    pub(super) fn past(
        &mut self,
        conn: ConnKey,
        read: u32,
        outcome: Result<SeriesAnswer, (ErrorCode, String)>,
        now: Now,
    ) {
        let Some((slot, index)) = self.reading(conn, read) else { return };
        let feed = self.subscription_mut(slot, index).feed;
        let answer = match outcome {
            Ok(answer) => answer,
            Err((ErrorCode::HistoryUnavailable, _)) => {
                // There is nothing to wait for.
                self.caught_up(slot, feed);
                self.send_newest(slot, index, 0);
                return;
            }
            Err(_) => {
                self.unreadable(slot, index);
                return;
            }
        };
        self.send(slot, answer.frame, MessageType::named("history"), 0);
        // Send it now: whether it fits decides whether to go on.
        self.flush_slot(slot, now);
        let Some(index) = self.find(conn).and_then(|slot| self.subscription(slot, feed)) else { return };
        self.subscription_mut(slot, index).read = 0;
        match answer.next_ms {
            Some(next_ms) => {
                self.pasts.insert((slot, feed), (next_ms, Some(answer.resolution)));
                if self.slots[slot as usize].outbox.is_some() {
                    self.fall_back(slot, index, 0, Feeding::Lagging);
                } else {
                    self.read_on(slot, index);
                }
            }
            None => self.join_present(slot, index, answer.number),
        }
    }

    /// What was before is sent: what came meanwhile follows, then whatever comes.
    fn join_present(&mut self, slot: u32, index: usize, number: u64) {
        let feed = self.subscription_mut(slot, index).feed;
        let entry = &self.feeds[feed as usize];
        let full = entry.recent.len() == RECENT_MAX;
        if full && entry.recent.front().is_some_and(|oldest| number_of(oldest) > number + 1) {
            // More came than is kept here: the newest of it all will do.
            self.caught_up(slot, feed);
            self.metrics.conflated(1);
            let channel = self.feeds[feed as usize].channel.name.clone();
            self.answer(slot, &Answer::Dropped { channel: &channel, count: 1 }, None);
            self.send_newest(slot, index, 0);
            return;
        }
        let missed: Vec<_> =
            entry.recent.iter().filter(|publication| number_of(publication) > number).cloned().collect();
        let next = entry.cursor.max(number) + 1;
        let listener = self.subscription_mut(slot, index).listener;
        let msgpack = self.feeds[feed as usize].listeners[listener as usize].is_msgpack();
        self.caught_up(slot, feed);
        self.go_live(slot, index, next);
        for publication in missed {
            let item = self.values_item(feed, publication, 0);
            self.send_item(slot, item, msgpack);
        }
    }

    /// Takes a client's samples: whether it may publish to their channels is found out for each.
    pub(super) fn samples(
        &mut self,
        key: ConnKey,
        index: u32,
        batch: SampleBatch,
        id: Option<RequestId>,
        now: Now,
    ) {
        let Some(session) = &self.slots[index as usize].session else { return };
        let (principal, batch) = (session.principal.clone(), Box::new(batch));
        self.ask(key, index, Work::Samples { id, principal, batch }, now);
    }

    /// A client's samples were dealt with.
    pub(super) fn sampled(
        &mut self,
        conn: ConnKey,
        id: Option<&RequestId>,
        accepted: usize,
        refused: &[(usize, ErrorCode, String)],
    ) {
        if let Some(index) = self.find(conn) {
            self.answer(index, &Answer::Ack(Ack::Samples { accepted, refused }), id);
        }
    }

    /// Points of one `history` message: answers of half an outbox find room.
    fn points_max(&self) -> usize {
        (self.settings.limits.outbox_bytes_max / 2 / POINT_BYTES).max(1)
    }

    /// Asks for what a metric channel's series did, for `get_history`.
    pub(super) fn series_history(
        &mut self,
        key: ConnKey,
        index: u32,
        history: &GetHistory<'_>,
        id: Option<RequestId>,
        now: Now,
    ) {
        let Some(session) = &self.slots[index as usize].session else { return };
        let (channel, query) =
            match series_wish(&self.bus, &session.principal, history, self.points_max(), now) {
                Ok(wish) => wish,
                Err((code, detail)) => return self.refuse_with(index, code, detail, id.as_ref(), now),
            };
        let shape = history.shape.unwrap_or(Shape::Points);
        let encoding = self.slots[index as usize].encoding();
        self.ask(key, index, Work::Series { id, channel, query, shape, encoding, read: None }, now);
    }

    /// What series did was read for a client, or cannot be.
    pub(super) fn series_read(
        &mut self,
        conn: ConnKey,
        id: Option<&RequestId>,
        outcome: Result<SeriesAnswer, (ErrorCode, String)>,
        now: Now,
    ) {
        let Some(index) = self.find(conn) else { return };
        match outcome {
            Ok(answer) => self.send(index, answer.frame, MessageType::named("history"), 0),
            Err((code, detail)) => self.refuse_with(index, code, detail, id, now),
        }
    }
}

/// Checks what a client asks of a metric channel's past.
fn series_wish(
    bus: &Bus,
    principal: &Principal,
    history: &GetHistory<'_>,
    points_max: usize,
    now: Now,
) -> Result<(ChannelName, SeriesQuery), (ErrorCode, String)> {
    let (name, _) = history_channel(bus, principal, &history.channel)?;
    if history.since.is_some() {
        let detail = format!("`{name}` numbers nothing: use `start_time`");
        return Err((ErrorCode::Unsupported, detail));
    }
    let to_ms = history.end_ms.unwrap_or(now.wall_ms).min(now.wall_ms);
    let from_ms = history.start_ms.unwrap_or(to_ms - PAST_DEFAULT_MS).max(0);
    if from_ms > to_ms {
        return Err((ErrorCode::BadRequest, "`start_time` is after `end_time`".to_owned()));
    }
    let points_max = match history.limit {
        Some(0) => return Err((ErrorCode::BadRequest, "`limit` is at least 1".to_owned())),
        Some(limit) => usize::try_from(limit).unwrap_or(points_max).min(points_max),
        None => points_max,
    };
    let resolution = match &history.resolution {
        Some(name) => Some(Resolution::from_name(name).ok_or_else(|| {
            (ErrorCode::BadRequest, "`resolution` is not 1s, 5s, 10s, 1m, 5m or 1h".to_owned())
        })?),
        None => history.interval.map(Resolution::from),
    };
    let filter = history.filter.clone();
    Ok((name, SeriesQuery { from_ms, to_ms, resolution, fits: FITS, filter, points_max, open: true }))
}

fn number_of(publication: &Publication) -> u64 {
    match &publication.body {
        Body::Metrics(set) => set.number,
        Body::Event(_) => 0,
    }
}

fn span_ms(interval: Interval) -> i64 {
    i64::try_from(interval.duration().as_millis()).unwrap_or(i64::MAX)
}
