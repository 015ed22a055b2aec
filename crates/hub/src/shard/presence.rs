//! Who of this shard takes part in the presence of channels.
//!
//! A table of its own beside the feeds: a connection that wants nothing of presence costs nothing here, and
//! an event on its way to subscribers meets none of it. The members themselves stand in the node's one table
//! ([`Presence`](crate::Presence)); here stands who is to be told. A watcher either knows the version that was
//! told last, or waits for a notice that says who is there. One whose outbox is not empty is told nothing
//! until it is, and then who is there: it has at most what it had when it stopped reading.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use pulsewire_bus::{Channel, Now, PresenceRules};
use pulsewire_protocol::{
    Ack, Answer, Attend, ChannelName, Encoding, ErrorAnswer, ErrorCode, Frame, RequestId, SessionId,
};
use pulsewire_telemetry::{MessageType, PresenceDrop, Sent};
use serde_json::value::RawValue;
use slab::Slab;

use super::Shard;
use super::queue::{Class, Item, ItemRef, Source};
use super::slot::{Flags, Phase};
use crate::presence::{Notice, Parting, Placed};
use crate::{Action, Net, Principal};

/// Requests of one watcher for who is there that may wait for their answer.
const ASKED_MAX: usize = 16;

/// What a watcher knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Knows {
    /// The version that was told last.
    Current,
    /// Nothing that counts: it is told who is there by a notice with this serial or a later one.
    Nothing { from: u64 },
    /// It reads too slowly: when its outbox has drained it is told who is there.
    Behind,
}

/// One connection that watches a channel.
#[derive(Debug)]
struct Watcher {
    /// Whether it is a member, too.
    attend: Attend,
    /// Whether it shows no sign of life, and is a member no more until it does.
    silent: bool,
    knows: Knows,
    /// Requests that the next notice of who is there answers.
    asked: Vec<RequestId>,
}

/// A channel and its watchers here, by slot.
#[derive(Debug)]
struct Watched {
    channel: ChannelName,
    rules: PresenceRules,
    /// The version of the last notice.
    version: u64,
    watchers: BTreeMap<u32, Watcher>,
}

/// The channels that are watched here.
#[derive(Debug, Default)]
pub(super) struct Attending {
    watched: Slab<Watched>,
    by_channel: HashMap<ChannelName, u32>,
}

impl Attending {
    pub(super) fn is_empty(&self) -> bool {
        self.watched.is_empty()
    }

    /// Bytes of the table, roughly.
    pub(super) fn bytes(&self) -> usize {
        let watched = |(_, watched): (usize, &Watched)| watched.watchers.len() * size_of::<(u32, Watcher)>();
        self.watched.capacity() * size_of::<Watched>() + self.watched.iter().map(watched).sum::<usize>()
    }

    fn find(&mut self, channel: &str) -> Option<(u32, &mut Watched)> {
        let index = *self.by_channel.get(channel)?;
        Some((index, &mut self.watched[index as usize]))
    }
}

impl<N: Net> Shard<N> {
    fn member(&self, slot: u32) -> Option<(Arc<Principal>, SessionId)> {
        let session = self.slots.get(slot as usize)?.session.as_ref()?;
        Some((session.principal.clone(), session.id))
    }

    fn presence_rules(&self, channel: &ChannelName) -> Option<PresenceRules> {
        self.bus.namespace(channel)?.presence
    }

    /// Makes a session a member of a channel. Says whether it was none before.
    pub(super) fn join_as_member(
        &mut self,
        slot: u32,
        channel: &Channel,
        now: Now,
    ) -> Result<bool, (ErrorCode, String)> {
        let Some((principal, session)) = self.member(slot) else { return Ok(false) };
        let Some(rules) = self.presence_rules(&channel.name) else { return Ok(false) };
        self.presence.join(&channel.name, rules, (&principal.sub, session), now).map_err(|_| {
            self.metrics.presence_dropped(PresenceDrop::MembersMax, 1);
            let detail = format!("`{}` has {} members already", channel.name, rules.members_max);
            (ErrorCode::LimitExceeded, detail)
        })
    }

    /// Takes a session out of the members of a channel, if it is one.
    pub(super) fn part_as_member(&mut self, slot: u32, channel: &ChannelName, how: Parting, now: Now) {
        if let Some((principal, session)) = self.member(slot) {
            self.presence.part(channel, (&principal.sub, session), how, now);
        }
    }

    /// Lets a subscriber watch a channel's presence, or watch it no more. Whoever wants to be a member is one.
    pub(super) fn attend(&mut self, slot: u32, channel: &Channel, attend: Attend, now: Now) {
        if attend == Attend::No {
            self.unattend(slot, &channel.name, Parting::Left, now);
            return;
        }
        let Some(rules) = self.presence_rules(&channel.name) else { return };
        let from = self.presence.watch(&channel.name, rules, self.index);
        let index = match self.attending.by_channel.get(&channel.name) {
            Some(index) => *index,
            None => {
                let watched =
                    Watched { channel: channel.name.clone(), rules, version: 0, watchers: BTreeMap::new() };
                let index = u32::try_from(self.attending.watched.insert(watched));
                let index = index.expect("fewer than 2^32 channels are watched");
                self.attending.by_channel.insert(channel.name.clone(), index);
                index
            }
        };
        self.slots[slot as usize].flags.set(Flags::ATTENDS);
        let watcher = Watcher { attend, silent: false, knows: Knows::Nothing { from }, asked: Vec::new() };
        let before = self.attending.watched[index as usize].watchers.insert(slot, watcher);
        if let Some(mut before) = before {
            if before.attend == Attend::Join && attend == Attend::Watch {
                self.part_as_member(slot, &channel.name, Parting::Left, now);
            }
            // What it asked for is answered with what it gets now.
            let watched = &mut self.attending.watched[index as usize];
            if let Some(watcher) = watched.watchers.get_mut(&slot) {
                watcher.asked = std::mem::take(&mut before.asked);
            }
        }
    }

    /// A session that was resumed takes part again, where it still may.
    pub(super) fn attend_again(&mut self, slot: u32, channel: &Channel, attend: Attend, now: Now) {
        let Some((principal, _)) = self.member(slot) else { return };
        if attend == Attend::No || !principal.may(Action::Presence, &channel.name) {
            return;
        }
        if attend == Attend::Join
            && let Err((code, detail)) = self.join_as_member(slot, channel, now)
        {
            let channel = Some(channel.name.as_str().into());
            let error = ErrorAnswer { detail: detail.into(), channel, ..ErrorAnswer::new(code) };
            self.answer(slot, &Answer::Error(error), None);
            return;
        }
        self.attend(slot, channel, attend, now);
    }

    /// Ends a subscriber's part in a channel's presence. What it asked and was not told is refused.
    pub(super) fn unattend(&mut self, slot: u32, channel: &ChannelName, how: Parting, now: Now) {
        let Some(watcher) = self.remove_watcher(slot, channel, how, now) else { return };
        for id in watcher.asked {
            self.answer(slot, &Answer::Error(ErrorAnswer::new(ErrorCode::NotSubscribed)), Some(&id));
        }
    }

    /// Ends the part of a connection that ends itself. Returns what it was.
    pub(super) fn leave_presence(
        &mut self,
        slot: u32,
        channel: &ChannelName,
        how: Parting,
        now: Now,
    ) -> Attend {
        self.remove_watcher(slot, channel, how, now).map_or(Attend::No, |watcher| watcher.attend)
    }

    fn remove_watcher(
        &mut self,
        slot: u32,
        channel: &ChannelName,
        how: Parting,
        now: Now,
    ) -> Option<Watcher> {
        if !self.slots[slot as usize].flags.has(Flags::ATTENDS) {
            return None;
        }
        let (index, watched) = self.attending.find(channel.as_str())?;
        let watcher = watched.watchers.remove(&slot)?;
        if watched.watchers.is_empty() {
            self.attending.watched.remove(index as usize);
            self.attending.by_channel.remove(channel);
            self.presence.unwatch(channel, self.index);
        }
        if watcher.attend == Attend::Join {
            self.part_as_member(slot, channel, how, now);
        }
        Some(watcher)
    }

    /// A session that waits to be resumed ends: it is a member nowhere any more.
    pub(super) fn parked_leave(&mut self, slot: u32, now: Now) {
        let Some(session) = self.slots.get(slot as usize).and_then(|slot| slot.session.as_ref()) else {
            return;
        };
        let Some(detached) = &session.detached else { return };
        let who = (&*session.principal.sub, session.id);
        for parked in detached.parked.iter().filter(|parked| parked.attend == Attend::Join) {
            self.presence.part(&parked.channel.name, who, Parting::Left, now);
        }
    }

    /// Ends what a new token no longer allows, and says so.
    pub(super) fn enforce_presence(&mut self, slot: u32, principal: &Principal, now: Now) {
        if !self.slots.get(slot as usize).is_some_and(|slot| slot.flags.has(Flags::ATTENDS)) {
            return;
        }
        let attends = |watched: &&Watched| watched.watchers.contains_key(&slot);
        let watched = self.attending.watched.iter().map(|(_, watched)| watched).filter(attends);
        let lost: Vec<ChannelName> = watched
            .map(|watched| watched.channel.clone())
            .filter(|channel| !principal.may(Action::Presence, channel))
            .collect();
        for channel in lost {
            self.unattend(slot, &channel, Parting::Left, now);
            let detail = "your token does not allow any more to see who is there".into();
            let channel = Some(channel.as_str().into());
            let error = ErrorAnswer { detail, channel, ..ErrorAnswer::new(ErrorCode::Forbidden) };
            self.answer(slot, &Answer::Error(error), None);
        }
    }

    /// A client puts its cursor somewhere, or asks who is there.
    pub(super) fn presence_request(
        &mut self,
        slot: u32,
        channel: &str,
        cursor: Option<&RawValue>,
        id: Option<RequestId>,
        now: Now,
    ) {
        let found = self.attending.find(channel);
        let found = found.and_then(|(_, watched)| Some((watched.rules, watched.watchers.get_mut(&slot)?)));
        let Some((rules, watcher)) = found else {
            let shown: String = channel.chars().take(64).collect();
            let detail = format!("not subscribed to the presence of `{}`", shown.escape_debug());
            self.refuse_with(slot, ErrorCode::NotSubscribed, detail, id.as_ref(), now);
            return;
        };
        let Some(cursor) = cursor else {
            if watcher.asked.len() >= ASKED_MAX {
                self.refuse(slot, &ErrorAnswer::new(ErrorCode::RateLimited), id.as_ref(), now);
                return;
            }
            watcher.asked.extend(id);
            self.presence_renews(slot, channel);
            return;
        };
        if watcher.attend != Attend::Join {
            let detail =
                format!("you watch `{channel}` and are no member: subscribe with `\"presence\":true`");
            self.refuse_with(slot, ErrorCode::Forbidden, detail, id.as_ref(), now);
            return;
        }
        if cursor.get().len() > rules.cursor_bytes_max {
            self.metrics.presence_dropped(PresenceDrop::CursorBytesMax, 1);
            let detail = format!("a cursor has at most {} bytes", rules.cursor_bytes_max);
            self.refuse_with(slot, ErrorCode::TooLarge, detail, id.as_ref(), now);
            return;
        }
        self.place_cursor(slot, channel, cursor, now);
        if id.is_some() {
            self.answer(slot, &Answer::Ack(Ack::Done), id.as_ref());
        }
    }

    fn place_cursor(&mut self, slot: u32, channel: &str, cursor: &RawValue, now: Now) {
        let Some((principal, session)) = self.member(slot) else { return };
        let Some((_, watched)) = self.attending.find(channel) else { return };
        let (name, rules) = (watched.channel.clone(), watched.rules);
        let who = (&*principal.sub, session);
        let cursor = (cursor.get() != "null").then(|| Arc::from(cursor.to_owned()));
        match self.presence.place(&name, who, cursor.clone(), now) {
            Placed::Fresh => {}
            Placed::Replaced => self.metrics.presence_dropped(PresenceDrop::Conflated, 1),
            // It showed no sign of life for too long, and does now.
            Placed::NotThere => {
                if self.presence.join(&name, rules, who, now).is_ok() {
                    self.heard(slot, &name);
                    self.presence.place(&name, who, cursor, now);
                }
            }
        }
    }

    fn heard(&mut self, slot: u32, channel: &ChannelName) {
        if let Some((_, watched)) = self.attending.find(channel.as_str())
            && let Some(watcher) = watched.watchers.get_mut(&slot)
        {
            watcher.silent = false;
        }
    }

    /// Has a watcher told who is there as soon as the channel may be told of again.
    fn presence_renews(&mut self, slot: u32, channel: &str) {
        let Some((_, watched)) = self.attending.find(channel) else { return };
        let (name, rules) = (watched.channel.clone(), watched.rules);
        let from = self.presence.watch(&name, rules, self.index);
        if let Some((_, watched)) = self.attending.find(channel)
            && let Some(watcher) = watched.watchers.get_mut(&slot)
            && watcher.knows != Knows::Behind
        {
            watcher.knows = Knows::Nothing { from };
        }
    }

    /// Tells the watchers of a channel what a notice has for each.
    pub(super) fn presence_told(&mut self, notice: &Arc<Notice>) {
        let Some(index) = self.attending.by_channel.get(&notice.channel).copied() else { return };
        let watched = &mut self.attending.watched[index as usize];
        // A notice before this one that did not find room here has told somebody else more.
        let follows = watched.version + u64::from(notice.has_changes()) == notice.version;
        watched.version = notice.version;
        let mut spread = Spread { watched: index, items: [const { None }; 4] };
        let mut asked: Vec<(u32, Vec<RequestId>)> = Vec::new();
        for (slot, watcher) in &mut watched.watchers {
            let place = &mut self.slots[*slot as usize];
            let encoding = place.encoding();
            match watcher.knows {
                Knows::Current if follows && place.outbox.is_none() => {
                    if let Some(frame) = notice.changes(encoding) {
                        spread.link(*slot, place, &mut self.queue, frame, false, self.metric_type);
                    }
                }
                Knows::Current if follows && !notice.has_changes() => {}
                Knows::Current if place.outbox.is_some() => {
                    // What it has not read yet is enough: it will be told who is there when it has.
                    watcher.knows = Knows::Behind;
                    place.flags.set(Flags::HELD_BACK);
                    self.metrics.presence_dropped(PresenceDrop::Lagging, 1);
                }
                Knows::Current => {
                    if let Some(frame) = notice.everybody(encoding) {
                        spread.link(*slot, place, &mut self.queue, frame, true, self.metric_type);
                    } else {
                        watcher.knows = Knows::Nothing { from: 0 };
                    }
                }
                Knows::Nothing { from } if notice.serial >= from => {
                    let Some(frame) = notice.everybody(encoding) else { continue };
                    watcher.knows = Knows::Current;
                    if watcher.asked.is_empty() {
                        spread.link(*slot, place, &mut self.queue, frame, true, self.metric_type);
                    } else {
                        asked.push((*slot, std::mem::take(&mut watcher.asked)));
                    }
                }
                Knows::Behind if notice.has_changes() => {
                    self.metrics.presence_dropped(PresenceDrop::Lagging, 1);
                }
                Knows::Nothing { .. } | Knows::Behind => {}
            }
        }
        spread.seal(&mut self.queue);
        for (slot, ids) in asked {
            let encoding = self.slots[slot as usize].encoding();
            for frame in ids.iter().filter_map(|id| notice.answer(id, encoding)) {
                self.send(slot, frame, MessageType::Presence, 0);
            }
        }
        let watched = &self.attending.watched[index as usize];
        let waits = |watcher: &Watcher| watcher.knows == Knows::Nothing { from: 0 };
        if watched.watchers.values().any(waits) {
            let (channel, rules) = (watched.channel.clone(), watched.rules);
            self.presence.watch(&channel, rules, self.index);
        }
    }

    /// Puts a telling into an outbox, if it has room and its reader is not behind already.
    pub(super) fn keep_presence(&mut self, slot: u32, item: ItemRef, len: usize, watched: u32, now: Now) {
        let bytes_max = self.settings.limits.outbox_bytes_max;
        let watcher = self.attending.watched.get_mut(watched as usize);
        let watcher = watcher.and_then(|watched| watched.watchers.get_mut(&slot));
        let behind = watcher.as_ref().is_none_or(|watcher| watcher.knows == Knows::Behind);
        let outbox = self.slots[slot as usize].outbox.as_ref();
        let fits = outbox.is_none_or(|outbox| outbox.entries.is_empty() || outbox.bytes + len <= bytes_max);
        if fits && !behind {
            self.outbox(slot, now).push(item, len);
            return;
        }
        if let Some(watcher) = watcher {
            watcher.knows = Knows::Behind;
        }
        self.queue.forget(item);
        self.metrics.presence_dropped(PresenceDrop::Lagging, 1);
        self.slots[slot as usize].flags.set(Flags::HELD_BACK);
    }

    /// A connection's outbox has drained: it is told who is where it watches, if it missed something.
    pub(super) fn presence_catches_up(&mut self, slot: u32) {
        if !self.slots[slot as usize].flags.has(Flags::ATTENDS) {
            return;
        }
        let mut behind = Vec::new();
        for (_, watched) in &mut self.attending.watched {
            if let Some(watcher) = watched.watchers.get_mut(&slot)
                && watcher.knows == Knows::Behind
            {
                watcher.knows = Knows::Nothing { from: 0 };
                behind.push(watched.channel.clone());
            }
        }
        for channel in behind {
            self.presence_renews(slot, channel.as_str());
        }
    }

    /// Looks for members that show no sign of life: asks them, and in the end counts them as gone. Called once
    /// a second.
    pub(super) fn check_members(&mut self, now: Now) {
        let mut pings = Vec::new();
        for (_, watched) in &mut self.attending.watched {
            let rules = watched.rules;
            let ttl_ns = rules.ttl_ms.saturating_mul(1_000_000);
            let members = watched.watchers.iter_mut().filter(|(_, watcher)| watcher.attend == Attend::Join);
            for (slot, watcher) in members {
                let place = &self.slots[*slot as usize];
                let Some(session) = &place.session else { continue };
                let taken_ns = place.outbox.as_ref().map_or(0, |outbox| outbox.progress_ns);
                let heard_ns = session.counters.activity_ns.max(taken_ns).max(session.peer.connected_ns);
                let quiet_ns = now.since_ns(heard_ns);
                let who = (&*session.principal.sub, session.id);
                if quiet_ns >= ttl_ns {
                    if !std::mem::replace(&mut watcher.silent, true) {
                        self.presence.part(&watched.channel, who, Parting::Left, now);
                    }
                } else if watcher.silent {
                    watcher.silent = self.presence.join(&watched.channel, rules, who, now).is_err();
                }
                let asked = place.flags.has(Flags::AWAITING_PONG) || place.outbox.is_some();
                if quiet_ns >= ttl_ns / 2 && !asked && place.phase == Phase::Open {
                    pings.push(*slot);
                }
            }
        }
        pings.sort_unstable();
        pings.dedup();
        for slot in pings {
            self.ping_now(slot, now);
        }
    }

    /// Checks that whoever watches is subscribed; for tests and the self-check.
    pub(super) fn audit_presence(&self) {
        assert_eq!(self.attending.watched.len(), self.attending.by_channel.len(), "each channel stands once");
        for (_, watched) in &self.attending.watched {
            assert!(!watched.watchers.is_empty(), "a channel without watchers is gone");
            for slot in watched.watchers.keys() {
                let place = &self.slots[*slot as usize];
                assert_eq!(place.phase, Phase::Open, "only open connections watch");
                assert!(place.flags.has(Flags::ATTENDS), "whoever watches is known to");
                let session = place.session.as_ref().expect("only sessions watch");
                let subscribed = session
                    .subscriptions
                    .iter()
                    .any(|known| self.feeds[known.feed as usize].channel.name == watched.channel);
                assert!(subscribed, "whoever watches is subscribed");
            }
        }
    }
}

/// The items of one notice, each made when the first needs it: what changed and who is there, in both encodings.
struct Spread {
    watched: u32,
    items: [Option<(u32, u32)>; 4],
}

impl Spread {
    fn link(
        &mut self,
        index: u32,
        slot: &mut super::slot::Slot,
        queue: &mut super::queue::Queue,
        frame: Frame,
        everybody: bool,
        event_type: pulsewire_telemetry::EventTypeId,
    ) {
        let msgpack = slot.encoding() == Encoding::MsgPack;
        let place = usize::from(everybody) * 2 + usize::from(msgpack);
        let (item, receivers) = self.items[place].get_or_insert_with(|| {
            let class = Class::Presence { watched: self.watched };
            let sent = Sent::Message(MessageType::Presence);
            (queue.insert(Item::new(Source::Ready(frame), class, sent, event_type, 0)), 0)
        });
        queue.link(index, slot, ItemRef::new(*item, msgpack));
        *receivers += 1;
    }

    fn seal(self, queue: &mut super::queue::Queue) {
        for (item, receivers) in self.items.into_iter().flatten() {
            queue.seal(item, receivers);
        }
    }
}
