//! Joining and leaving feeds.

use std::sync::Arc;

use pulsewire_bus::{Channel, ChannelKind, Now, Opened};
use pulsewire_protocol::{
    Answer, Attend, ChannelName, Encoding, ErrorCode, Position, Replay, RequestId, Sequence,
};
use pulsewire_telemetry::{MessageType, ReconnectOutcome};

use super::Shard;
use super::cursor::{began_ms, newest};
use super::feed::{Feed, Feeding, Listener, Parked, Subscription, View};
use super::slot::{Flags, Phase};
use super::wish::{Checked, Unready};
use crate::command::{Wish, Work};
use crate::presence::Parting;
use crate::watch::timeline::Happening;
use crate::{ConnKey, Net};

impl<N: Net> Shard<N> {
    /// The index of a slot's subscription to a feed.
    pub(super) fn subscription(&self, slot: u32, feed: u32) -> Option<usize> {
        let session = self.slots.get(slot as usize)?.session.as_ref()?;
        session.subscriptions.iter().position(|subscription| subscription.feed == feed)
    }

    pub(super) fn subscription_mut(&mut self, slot: u32, subscription: usize) -> &mut Subscription {
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
        let checked = self.check_wish(slot, &wish, opened);
        if let Ok(checked) = &checked {
            self.follow(slot, checked, now);
            if self.find(key).is_none() {
                return;
            }
        }
        let checked = match checked {
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
            let (feed, fresh) = self.join_feed(slot, wish.channel.clone(), wish.view.clone(), msgpack, now);
            // Asked for again without a place to begin at, a subscription goes on as it is.
            let begins = fresh || wish.state || !matches!(wish.replay, Replay::Live);
            if wish.channel.kind == ChannelKind::Log {
                let position = self.begin(slot, feed, &wish.replay, begins);
                if wish.state || (wish.keyed && fresh && matches!(wish.replay, Replay::Live)) {
                    self.begin_state(slot, feed);
                }
                positions.push((wish.channel.name.clone(), position));
            }
            joined.push((feed, wish, begins));
        }
        let answer = Answer::Subscribed { channels: &channels, positions: &positions };
        let frame = answer.encode(id, self.slots[slot as usize].encoding());
        let fresh: Vec<_> =
            joined.iter().filter(|(.., begins)| *begins).map(|(_, wish, _)| wish.channel.id).collect();
        self.note_channels(slot, Happening::Subscribed, &fresh, now);
        let replays = joined.iter().any(|(feed, ..)| {
            self.subscription(slot, *feed)
                .is_some_and(|index| self.subscription_mut(slot, index).feeding == Feeding::Reading)
        });
        self.send(slot, frame, MessageType::Subscribed, if replays { 0 } else { now.mono_ns });
        for (feed, wish, begins) in joined {
            if begins {
                self.start(slot, feed, &wish, now);
            }
            self.attend(slot, &wish.channel, wish.attend, now);
        }
    }

    /// Goes on with the channels that a wish found where the session still listens to those before them: the shard
    /// need not have taken from its inbox yet that they were replaced, and nobody may listen twice.
    fn follow(&mut self, slot: u32, wishes: &[Checked], now: Now) {
        let session = self.slots[slot as usize].session.as_ref().expect("only sessions subscribe");
        let listens = session.subscriptions.iter().map(|known| &self.feeds[known.feed as usize].channel);
        let replaced = listens.filter(|old| {
            let by = |wish: &Checked| wish.channel.id != old.id && wish.channel.name == old.name;
            wishes.iter().any(by)
        });
        for old in replaced.cloned().collect::<Vec<_>>() {
            self.replaced(&old, now);
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

    /// Makes a slot a listener of a feed; one that listens to the channel already is kept or moved. Returns
    /// the feed, and whether the subscription is new to it.
    fn join_feed(
        &mut self,
        slot: u32,
        channel: Arc<Channel>,
        view: View,
        msgpack: bool,
        now: Now,
    ) -> (u32, bool) {
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
        let feed = self.feed(channel, view, now);
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
            critical_until: 0,
            placed: false,
        });
        (feed, true)
    }

    /// The feed of a channel in this view, made if there is none. The channel must count a listener already.
    fn feed(&mut self, channel: Arc<Channel>, view: View, now: Now) -> u32 {
        let known = self.feeds_by_channel.entry(channel.id).or_default();
        if let Some(feed) = known.iter().find(|feed| self.feeds[**feed as usize].view == view) {
            return *feed;
        }
        let id = channel.id;
        let cursor = channel.position().sequence.0;
        if let Some(interval) = view.interval {
            channel.want(interval);
        }
        let feed = Feed::new(channel, view, cursor, now.wall_ms);
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
        // What it wanted before, and of which it has had a part, it wants no longer.
        self.states.remove(&(slot, feed));
        let entry = self.subscription_mut(slot, subscription);
        entry.began_ms = 0;
        entry.critical_until = if matches!(replay, Replay::Critical) { cursor } else { 0 };
        entry.placed = true;
        if after == cursor {
            self.go_live(slot, subscription, cursor + 1);
        } else {
            self.fall_back(slot, subscription, after + 1, Feeding::Reading);
        }
        Position { epoch, sequence: Sequence(after) }
    }

    /// Has the channel's keyed state sent before anything else of a subscription that begins.
    pub(super) fn begin_state(&mut self, slot: u32, feed: u32) {
        let Some(index) = self.subscription(slot, feed) else { return };
        let entry = *self.subscription_mut(slot, index);
        let next =
            if entry.feeding == Feeding::Live { self.feeds[feed as usize].cursor + 1 } else { entry.next };
        self.fall_back(slot, index, next, Feeding::Reading);
        self.states.insert((slot, feed), None);
    }

    /// Whether a channel is values by key rather than a history.
    pub(super) fn is_keyed(&self, channel: &Channel) -> bool {
        self.bus.namespace(&channel.name).is_some_and(|namespace| namespace.keyed)
    }

    /// Sends what comes before the live events.
    fn start(&mut self, slot: u32, feed: u32, wish: &Checked, now: Now) {
        let Some(subscription) = self.subscription(slot, feed) else { return };
        match wish.channel.kind {
            ChannelKind::Log => {
                let reset = matches!(&wish.replay, Replay::Since(position)
                    if position.epoch != wish.channel.epoch || position.sequence > wish.channel.head());
                if reset {
                    let Checked { channel, .. } = wish;
                    let sequence = Sequence(self.feeds[feed as usize].cursor);
                    let answer = Answer::Reset { channel: &channel.name, epoch: &channel.epoch, sequence };
                    self.answer(slot, &answer, None);
                    self.note_feed(slot, Happening::Reset, feed, sequence.0, now);
                    if wish.keyed {
                        self.begin_state(slot, feed);
                    }
                }
                if self.subscription_mut(slot, subscription).feeding == Feeding::Reading {
                    let entry = self.subscription_mut(slot, subscription);
                    entry.began_ms = began_ms(now);
                    let next = entry.next;
                    self.note_feed(slot, Happening::Replaying, feed, next, now);
                    self.read_on(slot, subscription);
                } else if !matches!(wish.replay, Replay::Live) && !reset {
                    // It asked for the past and has it all: what comes from now on is live.
                    let sequence = Sequence(self.feeds[feed as usize].cursor);
                    self.answer(slot, &Answer::ReplayEnd { channel: &wish.channel.name, sequence }, None);
                }
            }
            ChannelKind::Metrics => match wish.replay {
                Replay::Past(past_ms) => self.begin_past(slot, subscription, past_ms, now),
                _ => self.send_newest(slot, subscription, now.mono_ns),
            },
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
        let mut left = Vec::new();
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
                    let Channel { id, name, .. } = &*self.feeds[feed as usize].channel;
                    let (id, name) = (*id, name.clone());
                    left.push(id);
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
        self.note_channels(slot, Happening::Unsubscribed, &left, now);
        if !channels.is_empty() || unknown.is_none() {
            self.answer(slot, &Answer::Unsubscribed { channels: &channels }, id);
        }
    }

    /// Takes a slot's subscription out of its feed, and the feed out of the shard if it was the last.
    fn leave_feed(&mut self, slot: u32, subscription: usize) {
        let session = self.slots[slot as usize].session.as_mut().expect("only sessions subscribe");
        let left = session.subscriptions.swap_remove(subscription);
        self.states.remove(&(slot, left.feed));
        self.caught_up(slot, left.feed);
        let session = self.slots[slot as usize].session.as_mut().expect("only sessions subscribe");
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
            if let Some(interval) = feed.view.interval {
                feed.channel.unwant(interval);
            }
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
            let critical_until = subscription.critical_until;
            let (channel, view) = (feed.channel.clone(), feed.view.clone());
            let msgpack = feed.listeners[subscription.listener as usize].is_msgpack();
            let (last, subscription_feed) = (session.subscriptions.len() - 1, subscription.feed);
            let attend = self.leave_presence(slot, &channel.name, how, now);
            let state = self.states.contains_key(&(slot, subscription_feed));
            let epoch = channel.epoch.clone();
            parked.push(Parked { channel, epoch, view, msgpack, attend, state, next, critical_until });
            self.leave_feed(slot, last);
        }
    }

    /// Puts a resumed session back into its feeds, from where it left them. Says where that was.
    pub(super) fn rejoin(&mut self, slot: u32, parked: Vec<Parked>, now: Now) {
        let mut channels = Vec::new();
        let mut positions = Vec::new();
        let mut outcome = ReconnectOutcome::Resumed;
        let mut joined = Vec::new();
        for Parked { channel, epoch, view, msgpack, attend, state, next, critical_until } in parked {
            let channel = newest(&channel).unwrap_or(channel);
            let (feed, _) = self.join_feed(slot, channel.clone(), view.clone(), msgpack, now);
            let mut replay = Replay::Live;
            channels.push(channel.name.clone());
            if channel.kind == ChannelKind::Log {
                let position = Position { epoch: epoch.clone(), sequence: Sequence(next.saturating_sub(1)) };
                replay = Replay::Since(position);
                let same = epoch == channel.epoch;
                let position = self.begin(slot, feed, &replay, true);
                if let Some(index) = self.subscription(slot, feed).filter(|_| same) {
                    self.subscription_mut(slot, index).critical_until = critical_until;
                }
                if position.sequence.0 < self.feeds[feed as usize].cursor {
                    outcome = ReconnectOutcome::Replayed;
                }
                if state {
                    self.begin_state(slot, feed);
                }
                positions.push((channel.name.clone(), position));
            }
            let keyed = self.is_keyed(&channel);
            joined.push((feed, Checked { channel, view, replay, state, keyed, attend }));
        }
        self.count_resumed(outcome);
        if channels.is_empty() {
            return;
        }
        self.answer(slot, &Answer::Subscribed { channels: &channels, positions: &positions }, None);
        for (feed, wish) in joined {
            self.start(slot, feed, &wish, now);
            self.attend_again(slot, &wish.channel, wish.attend, now);
        }
    }
}
