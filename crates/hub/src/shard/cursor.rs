//! The one way to catch up.
//!
//! Late join, resume, lag and repair are the same loop: read a page from `next` on, send it, go live
//! when the page ends at the feed's cursor. What the page cannot hold any more is a `gap` with its
//! exact range. A subscriber that lags owns no buffer, only the number from which it will read.

use std::sync::Arc;

use pulsewire_bus::{Channel, Mutant, Now, Only, Page, Query, ReadLimit, StatePart};
use pulsewire_protocol::{Answer, Encoding, ErrorCode, GapReason, Sequence};
use pulsewire_telemetry::{GapReason as GapMetric, InitialStage, MessageType, Sent};

use super::Shard;
use super::feed::{Feeding, Subscription};
use super::queue::{Class, Item, Source};
use super::slot::{Flags, NONE, Phase};
use crate::command::{BackendRequest, Work};
use crate::watch::timeline::Happening;
use crate::{ConnKey, Net};

impl<N: Net> Shard<N> {
    /// A part of the state was read for a subscription, or could not be.
    pub(super) fn state(
        &mut self,
        conn: ConnKey,
        read: u32,
        state: Result<Arc<StatePart>, ErrorCode>,
        now: Now,
    ) {
        let Some((slot, index)) = self.reading(conn, read) else { return };
        let entry = *self.subscription_mut(slot, index);
        let Ok(state) = state else {
            self.unreadable(slot, index);
            return;
        };
        let channel = self.feeds[entry.feed as usize].channel.clone();
        let encoding = self.slots[slot as usize].encoding();
        let frame = self.timed_encoding(|_| state.frame(encoding).clone());
        self.send(slot, frame, MessageType::named("state"), 0);
        match &state.behind {
            Some(key) => self.states.insert((slot, entry.feed), Some(key.clone())),
            None => {
                if self.is_keyed(&channel) {
                    // Only now does it stand here: had it broken off before, it would have to be sent all of it again.
                    self.send_pos(slot, entry.feed, Sequence(entry.next - 1));
                }
                self.states.remove(&(slot, entry.feed))
            }
        };
        // Send it now: whether it fits decides whether to go on.
        self.flush_slot(slot, now);
        let Some(index) = self.find(conn).and_then(|slot| self.subscription(slot, entry.feed)) else {
            return;
        };
        self.subscription_mut(slot, index).read = 0;
        if self.slots[slot as usize].outbox.is_some() {
            self.fall_back(slot, index, entry.next, Feeding::Lagging);
        } else {
            self.read_on(slot, index);
        }
    }

    /// The subscription that a read was made for, if it still waits for it.
    pub(super) fn reading(&self, conn: ConnKey, read: u32) -> Option<(u32, usize)> {
        let slot = self.find(conn)?;
        let session = self.slots[slot as usize].session.as_ref()?;
        let index = session.subscriptions.iter().position(|entry| entry.read == read)?;
        Some((slot, index))
    }

    /// The store cannot be read now: the reader waits where it is, and is served when it can.
    pub(super) fn unreadable(&mut self, slot: u32, index: usize) {
        let next = self.subscription_mut(slot, index).next;
        self.fall_back(slot, index, next, Feeding::Lagging);
        self.retry_later(slot);
    }

    pub(super) fn go_live(&mut self, slot: u32, subscription: usize, next: u64) {
        let Subscription { feed, listener, .. } = *self.subscription_mut(slot, subscription);
        let feed = &mut self.feeds[feed as usize];
        let live = next <= feed.cursor + 1;
        feed.listeners[listener as usize].set_live(live);
        let subscription = self.subscription_mut(slot, subscription);
        subscription.feeding = if live { Feeding::Live } else { Feeding::Skipping };
        subscription.placed = false;
        subscription.next = next;
        // A page that is under way belongs to what was before.
        subscription.read = 0;
    }

    /// Makes a subscription one that is not live: it will read, or be told, from `next` on.
    pub(super) fn fall_back(&mut self, slot: u32, subscription: usize, next: u64, feeding: Feeding) {
        let entry = self.subscription_mut(slot, subscription);
        entry.feeding = feeding;
        entry.next = next;
        entry.read = 0;
        let (feed, listener) = (entry.feed, entry.listener);
        self.feeds[feed as usize].listeners[listener as usize].set_live(false);
        self.slots[slot as usize].flags.set(Flags::HELD_BACK);
    }

    /// Asks for the next page of a subscription.
    pub(super) fn read_on(&mut self, slot: u32, subscription: usize) {
        self.reads = self.reads.wrapping_add(1).max(1);
        let read = self.reads;
        let entry = self.subscription_mut(slot, subscription);
        entry.feeding = Feeding::Reading;
        entry.read = read;
        let Subscription { feed, next, critical_until, .. } = *entry;
        if let Some(past) = self.pasts.get(&(slot, feed)) {
            let work = self.past_work(slot, feed, *past, read);
            self.ask_to_read(slot, subscription, work);
            return;
        }
        let only = if next <= critical_until { Only::Critical } else { Only::All };
        let channel = self.feeds[feed as usize].channel.clone();
        let limit = ReadLimit {
            publications: self.settings.limits.page_events,
            bytes: self.settings.limits.outbox_bytes_max / 2,
        };
        let work = match self.states.get(&(slot, feed)) {
            Some(after) => Work::State { channel, after: after.clone(), limit, read },
            None => Work::Read { channel, query: Query { after: Sequence(next - 1), only, limit }, read },
        };
        self.ask_to_read(slot, subscription, work);
    }

    fn ask_to_read(&mut self, slot: u32, subscription: usize, work: Work) {
        let request = BackendRequest { shard: self.index, conn: self.slots[slot as usize].key(slot), work };
        if self.backend.request(Box::new(request)).is_err() {
            // Too much is being read: try again at the next tick.
            let entry = self.subscription_mut(slot, subscription);
            entry.feeding = Feeding::Lagging;
            entry.read = 0;
            let place = &mut self.slots[slot as usize];
            place.flags.set(Flags::HELD_BACK);
            if !place.flags.has(Flags::RETRIES) {
                place.flags.set(Flags::RETRIES);
                self.retries.push(place.key(slot));
            }
        }
    }

    /// A page was read for a subscription, or could not be.
    pub(super) fn page(&mut self, conn: ConnKey, read: u32, page: Result<Arc<Page>, ErrorCode>, now: Now) {
        let Some((slot, index)) = self.reading(conn, read) else { return };
        let Subscription { feed, began_ms, .. } = *self.subscription_mut(slot, index);
        let Ok(page) = page else {
            self.unreadable(slot, index);
            return;
        };
        let channel = self.feeds[feed as usize].channel.clone();
        if began_ms > 0 && self.subscription_mut(slot, index).placed {
            let fetch_ns = now.mono_ns.saturating_sub(began_ns(began_ms, now));
            self.metrics.initial_stage(InitialStage::Fetch, fetch_ns);
        }
        let entry = self.subscription_mut(slot, index);
        if entry.next <= page.floor.0 && entry.next > entry.critical_until && self.is_keyed(&channel) {
            // What is gone does not matter once it has the values.
            self.subscription_mut(slot, index).next = page.floor.0 + 1;
            self.states.insert((slot, feed), None);
            self.read_on(slot, index);
            return;
        }
        self.send_page(slot, index, &page, now);
        if began_ms > 0 {
            self.timed_encoding(|shard| shard.encode(slot));
        }
        // Send it now: whether it fits decides whether to go on.
        self.flush_slot(slot, now);
        let Some(index) = self.find(conn).and_then(|slot| self.subscription(slot, feed)) else { return };
        let entry = *self.subscription_mut(slot, index);
        if entry.feeding == Feeding::Lagging {
            return;
        }
        let cursor = self.feeds[feed as usize].cursor;
        let cut_short = page.through == page.head && self.bus.is(Mutant::EndWithThePage);
        if entry.next > cursor || cut_short {
            self.go_live(slot, index, entry.next);
            let sequence = Sequence(entry.next - 1);
            let what = if began_ms > 0 { Happening::Recovered } else { Happening::CaughtUp };
            self.note_feed(slot, what, feed, sequence.0, now);
            if began_ms > 0 {
                self.subscription_mut(slot, index).began_ms = 0;
                let frame = Answer::ReplayEnd { channel: &channel.name, sequence }
                    .encode(None, self.slots[slot as usize].encoding());
                let sent = Sent::Message(MessageType::Other);
                let mut item = Item::new(Source::Ready(frame), Class::Answer, sent, self.metric_type, 0);
                (item.initial_ns, item.fetched_ns) = (began_ns(began_ms, now), now.mono_ns);
                self.send_item(slot, item, false);
            } else if entry.critical_until > 0 || !self.feeds[feed as usize].view.filter.is_empty() {
                self.send_pos(slot, feed, sequence);
            }
        } else if self.slots[slot as usize].outbox.is_some() {
            self.fall_back(slot, index, entry.next, Feeding::Lagging);
        } else {
            self.read_on(slot, index);
        }
    }

    /// Encodes what waits for a connection, which would else be done when it is written.
    fn encode(&mut self, slot: u32) {
        let mut node = self.slots[slot as usize].first;
        while node != NONE {
            let (item, next) = self.queue.step(node);
            self.queue.frame(item);
            node = next;
        }
    }

    /// Takes the time that it takes to encode a part of an initial state (000-38).
    fn timed_encoding<T>(&mut self, encode: impl FnOnce(&mut Self) -> T) -> T {
        let began_ns = self.net.stopwatch_ns();
        let encoded = encode(self);
        let took_ns = self.net.stopwatch_ns().saturating_sub(began_ns);
        self.metrics.initial_stage(InitialStage::Serialize, took_ns);
        encoded
    }

    /// Sends what a page holds for a subscription, with what is gone between, and moves the subscription on.
    fn send_page(&mut self, slot: u32, index: usize, page: &Page, now: Now) {
        let Subscription { feed, mut next, critical_until, placed, .. } = *self.subscription_mut(slot, index);
        let entry = self.subscription_mut(slot, index);
        (entry.read, entry.placed) = (0, false);
        let entry = &self.feeds[feed as usize];
        let critical = next <= critical_until;
        // Behind what was skipped, the first event would seem to follow a hole.
        let filtered = critical_until > 0 || !entry.view.filter.is_empty();
        let listener = self.subscription_mut(slot, index).listener;
        let msgpack = self.feeds[feed as usize].listeners[listener as usize].is_msgpack();
        if filtered && !placed && next > 1 {
            // It has read on: what was skipped before does not count as missed.
            self.send_pos(slot, feed, Sequence(next - 1));
        }
        let mut told = next - 1;
        let floor = if critical { page.critical_floor.0 } else { page.floor.0 };
        if next <= floor && self.bus.is(Mutant::TrimSilently) {
            next = floor + 1;
        } else if next <= floor {
            self.send_gap(slot, feed, next, floor, GapReason::Trimmed, now);
            (next, told) = (floor + 1, floor);
        }
        // What follows the critical events is read again, with everything between.
        let through = if critical { page.through.0.min(critical_until) } else { page.through.0 };
        let wanted = next..=if critical { critical_until } else { u64::MAX };
        let mut corrupt =
            page.corrupt.iter().map(|sequence| sequence.0).filter(|gone| wanted.contains(gone)).peekable();
        for publication in
            page.publications.iter().filter(|publication| wanted.contains(&publication.sequence.0))
        {
            let sequence = publication.sequence.0;
            while let Some(gone) = corrupt.next_if(|gone| *gone < sequence) {
                self.send_gap(slot, feed, gone, gone, GapReason::Corrupt, now);
                (next, told) = (gone + 1, gone);
            }
            if !critical && sequence > next {
                // The bus names what a store lacks, so this is a fault of ours: one reader is told, nobody else is harmed.
                debug_assert!(false, "I4: a page has no hole");
                self.send_gap(slot, feed, next, sequence - 1, GapReason::Corrupt, now);
                told = sequence - 1;
            }
            next = sequence + 1;
            if !self.feeds[feed as usize].passes(publication) {
                continue;
            }
            let mut item = Item::event_after(feed, publication, Sequence(told));
            item.accepted_ns = 0;
            self.send_item(slot, item, msgpack);
            told = sequence;
        }
        for gone in corrupt {
            self.send_gap(slot, feed, gone, gone, GapReason::Corrupt, now);
        }
        let next = next.max(through + 1);
        self.subscription_mut(slot, index).next = next;
    }

    fn send_gap(&mut self, slot: u32, feed: u32, from: u64, to: u64, reason: GapReason, now: Now) {
        self.note_feed(slot, Happening::Gap, feed, to - from + 1, now);
        let channel = self.feeds[feed as usize].channel.clone();
        let answer = Answer::Gap { channel: &channel.name, from: Sequence(from), to: Sequence(to), reason };
        let frame = answer.encode(None, self.slots[slot as usize].encoding());
        // It stands for the events that are gone: held back with the others, and read again like them.
        let class = Class::Log { feed, sequence: from };
        let sent = Sent::Message(MessageType::named(answer.name()));
        self.send_item(slot, Item::new(Source::Ready(frame), class, sent, self.metric_type, 0), false);
        self.metrics.gap(match reason {
            GapReason::Trimmed => GapMetric::Trimmed,
            GapReason::Corrupt => GapMetric::Corrupt,
        });
    }

    pub(super) fn send_pos(&mut self, slot: u32, feed: u32, sequence: Sequence) {
        let name = self.feeds[feed as usize].channel.name.clone();
        let encoding = self.slots[slot as usize].encoding();
        let item = self.pos_item(feed, &name, sequence, encoding);
        self.send_item(slot, item, encoding == Encoding::MsgPack);
    }

    /// Has a connection's reads tried again in about a second.
    fn retry_later(&mut self, slot: u32) {
        let place = &mut self.slots[slot as usize];
        if !place.flags.has(Flags::RETRIES) {
            place.flags.set(Flags::RETRIES);
            self.retries_later.push(place.key(slot));
        }
    }

    /// A channel's history was found to be another one: its listeners go on with its successor, and are told.
    pub(super) fn replaced(&mut self, old: &Arc<Channel>, now: Now) {
        let Some(new) = newest(old) else { return };
        let feeds = self.feeds_by_channel.remove(&old.id).unwrap_or_default();
        for index in feeds {
            let listeners = self.feeds[index as usize].listeners.clone();
            for _ in &listeners {
                new.listen(self.index);
                old.unlisten(self.index);
            }
            let cursor = new.position().sequence.0;
            let feed = &mut self.feeds[index as usize];
            feed.channel = new.clone();
            (feed.cursor, feed.told) = (cursor, cursor);
            self.feeds_by_channel.entry(new.id).or_default().push(index);
            for listener in listeners {
                let key = self.slots[listener.slot as usize].key(listener.slot);
                self.flush_slot(listener.slot, now);
                if self.find(key).is_none() {
                    continue;
                }
                let Some(subscription) = self.subscription(listener.slot, index) else { continue };
                // What still waits has places in a history that is none any more.
                self.withdraw_log(listener.slot, index);
                let entry = self.subscription_mut(listener.slot, subscription);
                (entry.began_ms, entry.critical_until) = (0, 0);
                self.go_live(listener.slot, subscription, cursor + 1);
                let sequence = Sequence(cursor);
                let answer = Answer::Reset { channel: &new.name, epoch: &new.epoch, sequence };
                self.answer(listener.slot, &answer, None);
                self.note_feed(listener.slot, Happening::Reset, index, cursor, now);
                // A state of which some part was to come yet comes anew, too.
                let broken_off = self.states.remove(&(listener.slot, index)).is_some();
                if broken_off || self.is_keyed(&new) {
                    self.begin_state(listener.slot, index);
                    self.read_on(listener.slot, subscription);
                }
            }
        }
    }

    /// A connection's outbox has drained: everyone who was held back goes on.
    pub(super) fn catch_up(&mut self, slot: u32, now: Now) {
        self.presence_catches_up(slot);
        let Some(session) = &self.slots[slot as usize].session else { return };
        for index in 0..session.subscriptions.len() {
            let entry = *self.subscription_mut(slot, index);
            let name = self.feeds[entry.feed as usize].channel.name.clone();
            match entry.feeding {
                Feeding::Lagging => self.read_on(slot, index),
                Feeding::Stale => {
                    let count = u64::from(std::mem::take(&mut self.subscription_mut(slot, index).missed));
                    if count > 0 {
                        self.answer(slot, &Answer::Dropped { channel: &name, count }, None);
                        self.note_feed(slot, Happening::Dropped, entry.feed, count, now);
                    }
                    self.send_newest(slot, index, 0);
                }
                Feeding::Live if entry.missed > 0 => {
                    let count = u64::from(std::mem::take(&mut self.subscription_mut(slot, index).missed));
                    self.answer(slot, &Answer::Dropped { channel: &name, count }, None);
                    self.note_feed(slot, Happening::Dropped, entry.feed, count, now);
                }
                _ => {}
            }
        }
    }

    /// Tries reads again for which there was no room.
    pub(super) fn retry_reads(&mut self, now: Now) {
        for key in std::mem::take(&mut self.retries) {
            let Some(slot) = self.find(key) else { continue };
            let place = &mut self.slots[slot as usize];
            place.flags.clear(Flags::RETRIES);
            if place.phase == Phase::Open && place.outbox.is_none() {
                self.catch_up(slot, now);
            }
        }
    }
}

/// The moment a subscription began, in whole milliseconds, never 0. It wraps after 49 days of uptime.
#[expect(clippy::cast_possible_truncation, reason = "only the difference to a later moment is used")]
pub(super) fn began_ms(now: Now) -> u32 {
    ((now.mono_ns / 1_000_000) as u32).max(1)
}

/// The monotonic time of such a moment, which is less than 49 days ago.
fn began_ns(began_ms: u32, now: Now) -> u64 {
    let passed_ms = self::began_ms(now).wrapping_sub(began_ms);
    now.mono_ns.saturating_sub(u64::from(passed_ms) * 1_000_000)
}

/// The channel that has a channel's name now, if another has taken it.
pub(super) fn newest(old: &Arc<Channel>) -> Option<Arc<Channel>> {
    let mut channel = old.successor()?;
    while let Some(next) = channel.successor() {
        channel = next;
    }
    Some(channel.clone())
}
