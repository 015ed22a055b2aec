//! Joining and leaving feeds, and the one way to catch up.
//!
//! Late join, resume, lag and repair are the same loop: read a page from `next` on, send it, go live
//! when the page ends at the feed's cursor. What the page cannot hold any more is a `gap` with its
//! exact range. A subscriber that lags owns no buffer, only the number from which it will read.

use std::sync::Arc;

use pulsewire_bus::{
    Accepted, Channel, ChannelKind, Keyed, Now, Only, Opened, Page, Query, ReadLimit, StateSlice,
};
use pulsewire_protocol::{
    Answer, Attend, ChannelName, Encoding, ErrorCode, Frame, GapReason, Position, Publication, Replay,
    RequestId, Sequence, Shape, State, encode_event,
};
use pulsewire_telemetry::{GapReason as GapMetric, InitialStage, MessageType, ReconnectOutcome, Sent};

use super::Shard;
use super::feed::{Feed, Feeding, Listener, Parked, Subscription, TagFilter, View};
use super::queue::{Class, Item, Source};
use super::slot::{Flags, Phase};
use crate::command::{BackendRequest, Wish, WishedChannel, Work};
use crate::presence::Parting;
use crate::{Action, ConnKey, Net};

/// Why a wish cannot be granted, or not yet.
enum Unready {
    /// It is refused.
    Refused(ErrorCode, String),
    /// These channels must be brought to hand first.
    NotAtHand(Vec<(ChannelName, Sequence)>),
}

/// A wish for one channel that has been checked.
struct Checked {
    channel: Arc<Channel>,
    view: View,
    replay: Replay,
    state: bool,
    attend: Attend,
}

impl<N: Net> Shard<N> {
    /// The index of a slot's subscription to a feed.
    pub(super) fn subscription(&self, slot: u32, feed: u32) -> Option<usize> {
        let session = self.slots.get(slot as usize)?.session.as_ref()?;
        session.subscriptions.iter().position(|subscription| subscription.feed == feed)
    }

    fn subscription_mut(&mut self, slot: u32, subscription: usize) -> &mut Subscription {
        let session = self.slots[slot as usize].session.as_mut().expect("only sessions subscribe");
        &mut session.subscriptions[subscription]
    }

    /// Subscribes to everything a wish names, or to nothing and says why.
    ///
    /// Channels that are not at hand are asked for first; `opened` are those that were.
    pub(super) fn subscribe(
        &mut self,
        slot: u32,
        wish: Wish,
        id: Option<RequestId>,
        opened: &[Arc<Channel>],
        now: Now,
    ) {
        let msgpack = wish.compression || self.slots[slot as usize].encoding() == Encoding::MsgPack;
        // What waits is written or held back first: a subscription that goes on says where it really stands.
        let key = self.slots[slot as usize].key(slot);
        self.flush_slot(slot, now);
        if self.find(key).is_none() {
            return;
        }
        let checked = match self.check_wish(slot, &wish, opened) {
            Ok(checked) => checked,
            Err(Unready::Refused(code, detail)) => {
                self.refuse_with(slot, code, detail, id.as_ref(), now);
                return;
            }
            Err(Unready::NotAtHand(names)) => {
                // What the client says next may concern these channels: it waits, too.
                self.slots[slot as usize].flags.set(Flags::OPENING);
                let (names, wish) = (names, Box::new(wish));
                if !self.ask(key, slot, Work::Open { names, wish, id }, now)
                    && let Some(slot) = self.slots.get_mut(slot as usize)
                {
                    slot.flags.clear(Flags::OPENING);
                }
                return;
            }
        };
        if let Err((code, detail)) = self.join_presence(slot, &checked, now) {
            self.refuse_with(slot, code, detail, id.as_ref(), now);
            return;
        }
        let id = id.as_ref();
        let channels: Vec<ChannelName> = checked.iter().map(|wish| wish.channel.name.clone()).collect();
        let mut joined = Vec::with_capacity(checked.len());
        let mut positions = Vec::new();
        for wish in checked {
            let (feed, fresh) = self.join_feed(slot, wish.channel.clone(), wish.view.clone(), msgpack);
            // Asked for again without a place to begin at, a subscription goes on as it is.
            let begins = fresh || wish.state || !matches!(wish.replay, Replay::Live);
            if wish.channel.kind == ChannelKind::Log {
                let position = self.begin(slot, feed, &wish.replay, begins);
                if wish.state {
                    self.begin_state(slot, feed);
                }
                positions.push((wish.channel.name.clone(), position));
            }
            joined.push((feed, wish, begins));
        }
        let answer = Answer::Subscribed { channels: &channels, positions: &positions };
        let frame = answer.encode(id, self.slots[slot as usize].encoding());
        let replays = joined.iter().any(|(feed, ..)| {
            self.subscription(slot, *feed)
                .is_some_and(|index| self.subscription_mut(slot, index).feeding == Feeding::Reading)
        });
        self.send(slot, frame, MessageType::Subscribed, if replays { 0 } else { now.mono_ns });
        for (feed, wish, begins) in joined {
            if begins {
                self.start(slot, feed, &wish, msgpack, now);
            }
            self.attend(slot, &wish.channel, wish.attend, now);
        }
    }

    /// Makes a session a member of the channels where it wants to be one: of all of them, or of none.
    fn join_presence(&mut self, slot: u32, wishes: &[Checked], now: Now) -> Result<(), (ErrorCode, String)> {
        let mut joined = Vec::new();
        for wish in wishes.iter().filter(|wish| wish.attend == Attend::Join) {
            match self.join_as_member(slot, &wish.channel, now) {
                Ok(true) => joined.push(wish.channel.name.clone()),
                Ok(false) => {}
                Err(full) => {
                    joined.iter().for_each(|name| self.part_as_member(slot, name, Parting::Left, now));
                    return Err(full);
                }
            }
        }
        Ok(())
    }

    /// Channels that were asked for are at hand, or cannot be had.
    pub(super) fn opened_channels(
        &mut self,
        conn: ConnKey,
        wish: Wish,
        id: Option<RequestId>,
        outcome: Opened,
        now: Now,
    ) {
        let Some(slot) = self.find(conn) else {
            self.stashes.remove(&conn);
            return;
        };
        self.slots[slot as usize].flags.clear(Flags::OPENING);
        if self.slots[slot as usize].phase == Phase::Open {
            match outcome {
                Ok(opened) => self.subscribe(slot, wish, id, &opened, now),
                Err((code, name)) => {
                    self.refuse_with(slot, code, format!("`{name}`"), id.as_ref(), now);
                }
            }
        }
        self.unstash(conn, now);
    }

    fn check_wish(
        &mut self,
        slot: u32,
        wish: &Wish,
        opened: &[Arc<Channel>],
    ) -> Result<Vec<Checked>, Unready> {
        self.check_names(slot, wish, opened).map_err(|unready| match unready {
            // Nothing is looked up for a wish that would be refused anyway.
            Unready::NotAtHand(mut names) => {
                names.sort_unstable();
                names.dedup();
                Unready::NotAtHand(names)
            }
            refused @ Unready::Refused(..) => refused,
        })
    }

    fn check_names(
        &mut self,
        slot: u32,
        wish: &Wish,
        opened: &[Arc<Channel>],
    ) -> Result<Vec<Checked>, Unready> {
        let session = self.slots[slot as usize].session.as_ref().expect("only sessions subscribe");
        let limit = self.settings.limits.subscriptions_per_session;
        let tags = TagFilter::new(wish.tags.clone());
        let refused = |code: ErrorCode, detail: String| Err(Unready::Refused(code, detail));
        let mut missing = Vec::new();
        let mut checked: Vec<Checked> = Vec::with_capacity(wish.channels.len());
        if session.subscriptions.len() + wish.channels.len() > limit.saturating_mul(2) {
            return refused(ErrorCode::LimitExceeded, format!("more than {limit} subscriptions"));
        }
        for WishedChannel { name, replay, state, attend } in &wish.channels {
            let name = match ChannelName::parse(name) {
                Ok(name) => name,
                Err(error) => return refused(ErrorCode::InvalidChannel, error.to_string()),
            };
            let Some(namespace) = self.bus.namespace(&name) else {
                return refused(ErrorCode::UnknownChannel, String::new());
            };
            let kind = namespace.kind;
            let open_to_all = namespace.anonymous && session.principal.is_anonymous();
            let may = |action| open_to_all || session.principal.may(action, &name);
            let reads = *state || !matches!(replay, Replay::Live);
            if !may(Action::Subscribe) || (reads && !may(Action::History)) {
                return refused(ErrorCode::Forbidden, format!("your token does not allow to read `{name}`"));
            }
            if *attend != Attend::No {
                if namespace.presence.is_none() {
                    return refused(ErrorCode::Unsupported, format!("`{name}` has no presence"));
                }
                if !session.principal.may(Action::Presence, &name) {
                    let detail = format!("your token does not allow to see who is in `{name}`");
                    return refused(ErrorCode::Forbidden, detail);
                }
                if *attend == Attend::Join && session.principal.is_anonymous() {
                    let detail = "only users are members; without a token `\"presence\":\"watch\"` may do";
                    return refused(ErrorCode::Forbidden, detail.to_owned());
                }
            }
            let metrics = kind == ChannelKind::Metrics;
            if !metrics && wish.interval.is_some() {
                let detail = format!("`{name}` is not a metric channel: `aggregation_interval` is for those");
                return refused(ErrorCode::Unsupported, detail);
            }
            if *state && (kind != ChannelKind::Log || namespace.state_max == 0) {
                return refused(ErrorCode::Unsupported, format!("`{name}` keeps no state"));
            }
            if reads && kind != ChannelKind::Log {
                return refused(ErrorCode::Unsupported, format!("`{name}` keeps no events to replay"));
            }
            let seen = match replay {
                Replay::Since(position) => position.sequence,
                _ => Sequence::ZERO,
            };
            let at_hand = match opened.iter().find(|channel| channel.name == name) {
                // It may have been replaced since it was brought to hand.
                Some(channel) => Ok(Some(newest(channel).unwrap_or_else(|| channel.clone()))),
                None => self.bus.at_hand(&name, seen),
            };
            let channel = match at_hand {
                Ok(Some(channel)) => channel,
                Ok(None) => {
                    missing.push((name, seen));
                    continue;
                }
                Err(code) => return refused(code, format!("`{name}`")),
            };
            let replay = replay.clone();
            if checked.iter().any(|known| known.channel.id == channel.id) {
                continue;
            }
            let default =
                if tags.is_empty() && wish.interval.is_none() { Shape::Grouped } else { Shape::Points };
            let shape = if metrics { wish.shape.unwrap_or(default) } else { Shape::Grouped };
            let interval = wish.interval.filter(|interval| metrics && interval.duration().as_secs() > 1);
            let view = View { shape, tags: tags.clone(), interval };
            checked.push(Checked { channel, view, replay, state: *state, attend: *attend });
        }
        let session = self.slots[slot as usize].session.as_ref().expect("only sessions subscribe");
        let known = |wish: &Checked| {
            session
                .subscriptions
                .iter()
                .any(|known| self.feeds[known.feed as usize].channel.id == wish.channel.id)
        };
        let fresh = checked.iter().filter(|wish| !known(wish)).count();
        if session.subscriptions.len() + fresh > limit {
            return refused(
                ErrorCode::LimitExceeded,
                format!("more than {limit} subscriptions in a session"),
            );
        }
        if !missing.is_empty() {
            return Err(Unready::NotAtHand(missing));
        }
        Ok(checked)
    }

    /// Makes a slot a listener of a feed; one that listens to the channel already is kept or moved. Returns
    /// the feed, and whether the subscription is new to it.
    fn join_feed(&mut self, slot: u32, channel: Arc<Channel>, view: View, msgpack: bool) -> (u32, bool) {
        let session = self.slots[slot as usize].session.as_ref().expect("only sessions subscribe");
        let present = session
            .subscriptions
            .iter()
            .position(|known| self.feeds[known.feed as usize].channel.id == channel.id);
        if let Some(index) = present {
            let known = session.subscriptions[index];
            let feed = &mut self.feeds[known.feed as usize];
            if feed.view == view {
                feed.listeners[known.listener as usize].set_msgpack(msgpack);
                return (known.feed, false);
            }
            self.withdraw(slot, known.feed);
            self.leave_feed(slot, index);
        }
        channel.listen(self.index);
        let feed = self.feed(channel, view);
        let listeners = &mut self.feeds[feed as usize].listeners;
        let session = self.slots[slot as usize].session.as_mut().expect("only sessions subscribe");
        let subscription = session.subscriptions.len();
        let listener = u32::try_from(listeners.len()).expect("fewer than 2^24 listeners in a shard");
        if listeners.len() == listeners.capacity() && listeners.len() >= 1_024 {
            listeners.reserve_exact(listeners.len() / 8);
        }
        listeners.push(Listener::new(slot, subscription, true, msgpack));
        session.subscriptions.push(Subscription {
            feed,
            listener,
            next: 0,
            read: 0,
            missed: 0,
            began_ms: 0,
            feeding: Feeding::Live,
            critical: false,
            placed: false,
        });
        (feed, true)
    }

    /// The feed of a channel in this view, made if there is none. The channel must count a listener already.
    fn feed(&mut self, channel: Arc<Channel>, view: View) -> u32 {
        let known = self.feeds_by_channel.entry(channel.id).or_default();
        if let Some(feed) = known.iter().find(|feed| self.feeds[**feed as usize].view == view) {
            return *feed;
        }
        let id = channel.id;
        let cursor = channel.position().sequence.0;
        let mut feed = Feed::new(channel, view, cursor);
        feed.seed(&self.bus);
        let index = u32::try_from(self.feeds.insert(feed)).expect("fewer than 2^32 feeds");
        self.feeds_by_channel.entry(id).or_default().push(index);
        index
    }

    /// Decides where a subscription to a `log` feed begins, unless it goes on as it is, and says it.
    fn begin(&mut self, slot: u32, feed: u32, replay: &Replay, begins: bool) -> Position {
        let subscription = self.subscription(slot, feed).expect("it has joined");
        let Feed { channel, cursor, .. } = &self.feeds[feed as usize];
        let (epoch, cursor) = (channel.epoch.clone(), *cursor);
        if !begins {
            let known = self.subscription_mut(slot, subscription);
            let after = if known.feeding == Feeding::Live { cursor } else { known.next - 1 };
            return Position { epoch, sequence: Sequence(after) };
        }
        let after = match replay {
            Replay::Since(position) if position.epoch == epoch && position.sequence <= channel.head() => {
                position.sequence.0
            }
            Replay::Last(count) => cursor.saturating_sub(u64::from(*count)),
            Replay::Critical => 0,
            _ => cursor,
        };
        let entry = self.subscription_mut(slot, subscription);
        entry.began_ms = 0;
        entry.critical = matches!(replay, Replay::Critical);
        entry.placed = true;
        if after == cursor {
            self.go_live(slot, subscription, cursor + 1);
        } else {
            self.fall_back(slot, subscription, after + 1, Feeding::Reading);
        }
        Position { epoch, sequence: Sequence(after) }
    }

    /// Has the channel's keyed state sent before anything else of a subscription that begins.
    fn begin_state(&mut self, slot: u32, feed: u32) {
        let Some(index) = self.subscription(slot, feed) else { return };
        let entry = *self.subscription_mut(slot, index);
        let next =
            if entry.feeding == Feeding::Live { self.feeds[feed as usize].cursor + 1 } else { entry.next };
        self.fall_back(slot, index, next, Feeding::Reading);
        self.states.insert((slot, feed), None);
    }

    /// A part of the state was read for a subscription, or could not be.
    pub(super) fn state(&mut self, conn: ConnKey, read: u32, state: Result<StateSlice, ErrorCode>, now: Now) {
        let Some((slot, index)) = self.reading(conn, read) else { return };
        let entry = *self.subscription_mut(slot, index);
        let Ok(state) = state else {
            self.unreadable(slot, index);
            return;
        };
        let channel = self.feeds[entry.feed as usize].channel.clone();
        let frames: Vec<Frame> = state.values.iter().map(keyed_frame).collect();
        let values: Vec<&[u8]> = frames.iter().map(Frame::payload).collect();
        let (epoch, sequence) = (&channel.epoch, state.extent.head);
        let part = State { channel: &channel.name, epoch, sequence, values: &values, more: state.more };
        self.answer(slot, &Answer::State(part), None);
        match state.values.last().and_then(|last| last.accepted.event.key.clone()).filter(|_| state.more) {
            Some(key) => self.states.insert((slot, entry.feed), Some(key)),
            None => self.states.remove(&(slot, entry.feed)),
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
    fn reading(&self, conn: ConnKey, read: u32) -> Option<(u32, usize)> {
        let slot = self.find(conn)?;
        let session = self.slots[slot as usize].session.as_ref()?;
        let index = session.subscriptions.iter().position(|entry| entry.read == read)?;
        Some((slot, index))
    }

    /// The store cannot be read now: the reader waits where it is, and is served when it can.
    fn unreadable(&mut self, slot: u32, index: usize) {
        let next = self.subscription_mut(slot, index).next;
        self.fall_back(slot, index, next, Feeding::Lagging);
        self.retry_later(slot);
    }

    /// Sends what comes before the live events.
    fn start(&mut self, slot: u32, feed: u32, wish: &Checked, msgpack: bool, now: Now) {
        let Some(subscription) = self.subscription(slot, feed) else { return };
        match wish.channel.kind {
            ChannelKind::Log => {
                if let Replay::Since(position) = &wish.replay {
                    let head = wish.channel.head();
                    if position.epoch != wish.channel.epoch || position.sequence > head {
                        let Checked { channel, .. } = wish;
                        let sequence = Sequence(self.feeds[feed as usize].cursor);
                        let answer =
                            Answer::Reset { channel: &channel.name, epoch: &channel.epoch, sequence };
                        self.answer(slot, &answer, None);
                    }
                }
                if self.subscription_mut(slot, subscription).feeding == Feeding::Reading {
                    self.subscription_mut(slot, subscription).began_ms = began_ms(now);
                    self.read_on(slot, subscription);
                }
            }
            ChannelKind::Metrics => {
                if let Some(update) = self.feeds[feed as usize].latest.clone() {
                    let mut item = self.values_item(feed, update, wish.view.shape, 0);
                    item.initial_ns = now.mono_ns;
                    self.send_item(slot, item, msgpack);
                }
            }
            ChannelKind::Ephemeral => {}
        }
    }

    /// Leaves channels by name.
    pub(super) fn unsubscribe(&mut self, slot: u32, names: &[Box<str>], id: Option<&RequestId>, now: Now) {
        let key = self.slots[slot as usize].key(slot);
        self.flush_slot(slot, now);
        if self.find(key).is_none() {
            return;
        }
        let mut channels = Vec::with_capacity(names.len());
        let mut unknown = None;
        for name in names {
            let session = self.slots[slot as usize].session.as_ref().expect("only sessions subscribe");
            let index = session
                .subscriptions
                .iter()
                .position(|known| self.feeds[known.feed as usize].channel.name.as_str() == &**name);
            match index {
                Some(index) => {
                    let feed = session.subscriptions[index].feed;
                    let name = self.feeds[feed as usize].channel.name.clone();
                    self.withdraw(slot, feed);
                    self.leave_feed(slot, index);
                    self.unattend(slot, &name, Parting::Left, now);
                    channels.push(name);
                }
                None => unknown = Some(name),
            }
        }
        if let Some(name) = unknown {
            self.refuse_with(slot, ErrorCode::NotSubscribed, format!("not subscribed to `{name}`"), id, now);
        }
        if !channels.is_empty() || unknown.is_none() {
            self.answer(slot, &Answer::Unsubscribed { channels: &channels }, id);
        }
    }

    /// Takes a slot's subscription out of its feed, and the feed out of the shard if it was the last.
    fn leave_feed(&mut self, slot: u32, subscription: usize) {
        let session = self.slots[slot as usize].session.as_mut().expect("only sessions subscribe");
        let left = session.subscriptions.swap_remove(subscription);
        self.states.remove(&(slot, left.feed));
        if let Some(moved) = session.subscriptions.get(subscription) {
            let (feed, listener) = (moved.feed, moved.listener);
            self.feeds[feed as usize].listeners[listener as usize].set_subscription(subscription);
        }
        let feed = &mut self.feeds[left.feed as usize];
        feed.listeners.swap_remove(left.listener as usize);
        feed.channel.unlisten(self.index);
        if let Some(moved) = feed.listeners.get(left.listener as usize).copied() {
            let session = self.slots[moved.slot as usize].session.as_mut().expect("only sessions listen");
            session.subscriptions[moved.subscription()].listener = left.listener;
        } else if feed.listeners.is_empty() {
            let feed = self.feeds.remove(left.feed as usize);
            // Its number may be given to another.
            self.behind.retain(|behind| *behind != left.feed);
            if let Some(feeds) = self.feeds_by_channel.get_mut(&feed.channel.id) {
                feeds.retain(|known| *known != left.feed);
                if feeds.is_empty() {
                    self.feeds_by_channel.remove(&feed.channel.id);
                }
            }
        } else if feed.listeners.capacity() > 64 && feed.listeners.len() < feed.listeners.capacity() / 4 {
            feed.listeners.shrink_to(feed.listeners.len() * 2);
        }
    }

    /// Takes a session out of every feed; says what it would have received next.
    pub(super) fn leave_all(&mut self, slot: u32, how: Parting, now: Now) -> Vec<Parked> {
        let mut parked = Vec::new();
        loop {
            let Some(session) = &self.slots[slot as usize].session else { return parked };
            let Some(subscription) = session.subscriptions.last() else {
                parked.reverse();
                return parked;
            };
            let feed = &self.feeds[subscription.feed as usize];
            let next = match subscription.feeding {
                Feeding::Live => feed.cursor + 1,
                _ => subscription.next,
            };
            let (channel, view) = (feed.channel.clone(), feed.view.clone());
            let msgpack = feed.listeners[subscription.listener as usize].is_msgpack();
            let last = session.subscriptions.len() - 1;
            let attend = self.leave_presence(slot, &channel.name, how, now);
            parked.push(Parked { channel, view, msgpack, attend, next });
            self.leave_feed(slot, last);
        }
    }

    /// Puts a resumed session back into its feeds, from where it left them. Says where that was.
    pub(super) fn rejoin(&mut self, slot: u32, parked: Vec<Parked>, now: Now) {
        let mut channels = Vec::new();
        let mut positions = Vec::new();
        let mut outcome = ReconnectOutcome::Resumed;
        let mut joined = Vec::new();
        for Parked { channel, view, msgpack, attend, next } in parked {
            let epoch = channel.epoch.clone();
            let channel = newest(&channel).unwrap_or(channel);
            let (feed, _) = self.join_feed(slot, channel.clone(), view.clone(), msgpack);
            let mut replay = Replay::Live;
            channels.push(channel.name.clone());
            if channel.kind == ChannelKind::Log {
                let position = Position { epoch, sequence: Sequence(next.saturating_sub(1)) };
                replay = Replay::Since(position);
                let position = self.begin(slot, feed, &replay, true);
                if position.sequence.0 < self.feeds[feed as usize].cursor {
                    outcome = ReconnectOutcome::Replayed;
                }
                positions.push((channel.name.clone(), position));
            }
            joined.push((feed, Checked { channel, view, replay, state: false, attend }, msgpack));
        }
        self.count_resumed(outcome);
        if channels.is_empty() {
            return;
        }
        self.answer(slot, &Answer::Subscribed { channels: &channels, positions: &positions }, None);
        for (feed, wish, msgpack) in joined {
            self.start(slot, feed, &wish, msgpack, now);
            self.attend_again(slot, &wish.channel, wish.attend, now);
        }
    }

    fn go_live(&mut self, slot: u32, subscription: usize, next: u64) {
        let Subscription { feed, listener, .. } = *self.subscription_mut(slot, subscription);
        let feed = &mut self.feeds[feed as usize];
        let live = next <= feed.cursor + 1;
        feed.listeners[listener as usize].set_live(live);
        let subscription = self.subscription_mut(slot, subscription);
        subscription.feeding = if live { Feeding::Live } else { Feeding::Skipping };
        subscription.critical = false;
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
        let (feed, next) = (entry.feed, entry.next);
        let only = if entry.critical { Only::Critical } else { Only::All };
        let channel = self.feeds[feed as usize].channel.clone();
        let limit = ReadLimit {
            publications: self.settings.limits.page_events,
            bytes: self.settings.limits.outbox_bytes_max / 2,
        };
        let work = match self.states.get(&(slot, feed)) {
            Some(after) => Work::State { channel, after: after.clone(), limit, read },
            None => Work::Read { channel, query: Query { after: Sequence(next - 1), only, limit }, read },
        };
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
        self.send_page(slot, index, &page);
        // Send it now: whether it fits decides whether to go on.
        self.flush_slot(slot, now);
        let Some(index) = self.find(conn).and_then(|slot| self.subscription(slot, feed)) else { return };
        let entry = *self.subscription_mut(slot, index);
        if entry.feeding == Feeding::Lagging {
            return;
        }
        if entry.next > self.feeds[feed as usize].cursor {
            self.go_live(slot, index, entry.next);
            let sequence = Sequence(entry.next - 1);
            if began_ms > 0 {
                self.subscription_mut(slot, index).began_ms = 0;
                let frame = Answer::ReplayEnd { channel: &channel.name, sequence }
                    .encode(None, self.slots[slot as usize].encoding());
                let sent = Sent::Message(MessageType::Other);
                let mut item = Item::new(Source::Ready(frame), Class::Answer, sent, self.metric_type, 0);
                (item.initial_ns, item.fetched_ns) = (began_ns(began_ms, now), now.mono_ns);
                self.send_item(slot, item, false);
            } else if !self.feeds[feed as usize].view.tags.is_empty() {
                self.send_pos(slot, feed, sequence);
            }
        } else if self.slots[slot as usize].outbox.is_some() {
            self.fall_back(slot, index, entry.next, Feeding::Lagging);
        } else {
            self.read_on(slot, index);
        }
    }

    /// Sends what a page holds for a subscription, with what is gone between, and moves the subscription on.
    fn send_page(&mut self, slot: u32, index: usize, page: &Page) {
        let Subscription { feed, mut next, critical, placed, .. } = *self.subscription_mut(slot, index);
        let entry = self.subscription_mut(slot, index);
        (entry.read, entry.placed) = (0, false);
        let entry = &self.feeds[feed as usize];
        let filtered = critical || !entry.view.tags.is_empty();
        let (tags, listener) = (entry.view.tags.clone(), self.subscription_mut(slot, index).listener);
        let msgpack = self.feeds[feed as usize].listeners[listener as usize].is_msgpack();
        if filtered && !placed && next > 1 {
            // It has read on: what was skipped before does not count as missed.
            self.send_pos(slot, feed, Sequence(next - 1));
        }
        let mut told = next - 1;
        let floor = if critical { page.critical_floor.0 } else { page.floor.0 };
        if next <= floor {
            self.send_gap(slot, feed, next, floor, GapReason::Trimmed);
            (next, told) = (floor + 1, floor);
        }
        let first = next;
        let mut corrupt =
            page.corrupt.iter().map(|sequence| sequence.0).filter(|gone| *gone >= first).peekable();
        for publication in page.publications.iter().filter(|publication| publication.sequence.0 >= first) {
            let sequence = publication.sequence.0;
            while let Some(gone) = corrupt.next_if(|gone| *gone < sequence) {
                self.send_gap(slot, feed, gone, gone, GapReason::Corrupt);
                (next, told) = (gone + 1, gone);
            }
            assert!(critical || sequence == next, "I4: a page has no hole");
            next = sequence + 1;
            if !tags.passes(publication) {
                continue;
            }
            let mut item = Item::event_after(feed, publication, Sequence(told));
            item.accepted_ns = 0;
            self.send_item(slot, item, msgpack);
            told = sequence;
        }
        for gone in corrupt {
            self.send_gap(slot, feed, gone, gone, GapReason::Corrupt);
        }
        let next = next.max(page.through.0 + 1);
        self.subscription_mut(slot, index).next = next;
    }

    fn send_gap(&mut self, slot: u32, feed: u32, from: u64, to: u64, reason: GapReason) {
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

    fn send_pos(&mut self, slot: u32, feed: u32, sequence: Sequence) {
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
                self.subscription_mut(listener.slot, subscription).began_ms = 0;
                self.go_live(listener.slot, subscription, cursor + 1);
                let sequence = Sequence(cursor);
                let answer = Answer::Reset { channel: &new.name, epoch: &new.epoch, sequence };
                self.answer(listener.slot, &answer, None);
            }
        }
    }

    /// A connection's outbox has drained: everyone who was held back goes on.
    pub(super) fn catch_up(&mut self, slot: u32) {
        self.presence_catches_up(slot);
        let Some(session) = &self.slots[slot as usize].session else { return };
        for index in 0..session.subscriptions.len() {
            let entry = *self.subscription_mut(slot, index);
            let name = self.feeds[entry.feed as usize].channel.name.clone();
            match entry.feeding {
                Feeding::Lagging => self.read_on(slot, index),
                Feeding::Stale => {
                    let feed = &mut self.feeds[entry.feed as usize];
                    let listener = &mut feed.listeners[entry.listener as usize];
                    listener.set_live(true);
                    let msgpack = listener.is_msgpack();
                    let (latest, shape) = (feed.latest.clone(), feed.view.shape);
                    let subscription = self.subscription_mut(slot, index);
                    subscription.feeding = Feeding::Live;
                    let count = u64::from(std::mem::take(&mut subscription.missed));
                    if count > 0 {
                        self.answer(slot, &Answer::Conflated { channel: &name, count }, None);
                    }
                    if let Some(update) = latest {
                        let item = self.values_item(entry.feed, update, shape, 0);
                        self.send_item(slot, item, msgpack);
                    }
                }
                Feeding::Live if entry.missed > 0 => {
                    let count = u64::from(std::mem::take(&mut self.subscription_mut(slot, index).missed));
                    self.answer(slot, &Answer::Dropped { channel: &name, count }, None);
                }
                _ => {}
            }
        }
    }

    /// Tries reads again for which there was no room.
    pub(super) fn retry_reads(&mut self) {
        for key in std::mem::take(&mut self.retries) {
            let Some(slot) = self.find(key) else { continue };
            let place = &mut self.slots[slot as usize];
            place.flags.clear(Flags::RETRIES);
            if place.phase == Phase::Open && place.outbox.is_none() {
                self.catch_up(slot);
            }
        }
    }
}

/// The event that set a key's value, as it was sent.
fn keyed_frame(keyed: &Keyed) -> Frame {
    let Accepted { event, user, timestamp_ms } = &*keyed.accepted;
    let publication = Publication {
        event,
        sequence: Some(keyed.sequence),
        previous: None,
        timestamp_ms: *timestamp_ms,
        user: user.as_deref(),
    };
    encode_event(&publication, Encoding::Json)
}

/// The channel that has a channel's name now, if another has taken it.
fn newest(old: &Arc<Channel>) -> Option<Arc<Channel>> {
    let mut channel = old.successor()?;
    while let Some(next) = channel.successor() {
        channel = next;
    }
    Some(channel.clone())
}

/// The moment a subscription began, in whole milliseconds, never 0. It wraps after 49 days of uptime.
#[expect(clippy::cast_possible_truncation, reason = "only the difference to a later moment is used")]
fn began_ms(now: Now) -> u32 {
    ((now.mono_ns / 1_000_000) as u32).max(1)
}

/// The monotonic time of such a moment, which is less than 49 days ago.
fn began_ns(began_ms: u32, now: Now) -> u64 {
    let passed_ms = self::began_ms(now).wrapping_sub(began_ms);
    now.mono_ns.saturating_sub(u64::from(passed_ms) * 1_000_000)
}
