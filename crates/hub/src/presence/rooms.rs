//! All rooms of a node: which are to be told, and when.
//!
//! Every call says what happened; [`Rooms::settle`] gives the next room whose time has come. A room that
//! nobody is in and nobody watches is forgotten.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use pulsewire_bus::{Now, PresenceRules};
use pulsewire_protocol::{ChannelName, Member};
use slab::Slab;

use super::room::{Changes, Overfull, Room, Row};

/// What is to be told of one channel.
pub(super) struct Telling {
    pub(super) channel: ChannelName,
    /// Tells this from tellings that were on their way before.
    pub(super) serial: u64,
    pub(super) version: u64,
    /// What has changed since the version before, if anything has.
    pub(super) changes: Option<Changes>,
    /// Everybody, if a shard has asked for it.
    pub(super) everybody: Option<Vec<Member>>,
    /// The shards with watchers.
    pub(super) shards: Vec<usize>,
}

struct Entry {
    channel: ChannelName,
    room: Room,
    version: u64,
    told_ns: Option<u64>,
    /// Shards with watchers, and whether they want to hear of everybody.
    shards: BTreeMap<usize, bool>,
    /// Under which it stands in the timetable.
    due_ns: Option<u64>,
}

impl Entry {
    fn tells_ns(&self) -> Option<u64> {
        let waits = self.room.is_touched() || self.shards.values().any(|wants| *wants);
        let interval_ns = self.room.rules.interval_ms.saturating_mul(1_000_000);
        waits.then(|| self.told_ns.map_or(0, |told_ns| told_ns.saturating_add(interval_ns)))
    }

    fn wanted_ns(&self) -> Option<u64> {
        [self.tells_ns(), self.room.expires_ns()].into_iter().flatten().min()
    }
}

/// The rooms of a node.
#[derive(Default)]
pub(super) struct Rooms {
    entries: Slab<Entry>,
    by_channel: HashMap<ChannelName, usize>,
    timetable: BTreeSet<(u64, usize)>,
    serial: u64,
    /// This node and how long entries linger, where presence is shared with others.
    shared: Option<(Arc<str>, u64)>,
    /// Of whom this node has something else to say to others since [`Rooms::take_changed`].
    changed: Vec<(ChannelName, Arc<str>)>,
}

impl Rooms {
    /// Does something in a room, which is made if it is not there and rules are given.
    pub(super) fn with<T>(
        &mut self,
        channel: &ChannelName,
        rules: Option<PresenceRules>,
        then: impl FnOnce(&mut Room) -> T,
    ) -> Option<T> {
        let index = match (self.by_channel.get(channel), rules) {
            (Some(index), _) => *index,
            (None, Some(rules)) => self.make(channel, rules),
            (None, None) => return None,
        };
        let result = then(&mut self.entries[index].room);
        self.collect(index);
        self.plan(index);
        Some(result)
    }

    /// Takes over of whom a room has something else to say to others.
    fn collect(&mut self, index: usize) {
        let entry = &mut self.entries[index];
        let changed = entry.room.take_changed();
        self.changed.extend(changed.into_iter().map(|user| (entry.channel.clone(), user)));
    }

    /// From now on other nodes are told of all rooms, and heard. Entries whose connection broke stay `linger_ms`
    /// longer.
    pub(super) fn share(&mut self, node: &Arc<str>, linger_ms: u64) {
        self.shared = Some((node.clone(), linger_ms));
        let all: Vec<usize> = self.entries.iter().map(|(index, _)| index).collect();
        for index in all {
            self.entries[index].room.share(node.clone(), linger_ms);
            self.collect(index);
        }
    }

    /// Of whom this node has something else to say to others since this was asked last.
    pub(super) fn take_changed(&mut self) -> Vec<(ChannelName, Arc<str>)> {
        std::mem::take(&mut self.changed)
    }

    /// What this node says of a user; none if the user has no session here.
    pub(super) fn own_row(&self, channel: &ChannelName, user: &str) -> Option<Row> {
        self.entries[*self.by_channel.get(channel)?].room.own_row(user)
    }

    /// Another node says something of a user. `rules` are those of a room that has to be made.
    pub(super) fn hear_of(
        &mut self,
        channel: &ChannelName,
        rules: impl FnOnce() -> Option<PresenceRules>,
        node: &Arc<str>,
        user: &str,
        row: Option<Row>,
    ) -> Result<(), Overfull> {
        let known = self.by_channel.contains_key(channel) || row.is_none();
        let rules = if known { None } else { Some(rules().ok_or(Overfull)?) };
        self.with(channel, rules, |room| room.hear_of(node, user, row)).unwrap_or(Ok(()))
    }

    /// What another node says of a user is doubted, or believed again. Returns how long it stays if it is never
    /// believed again, in nanoseconds.
    pub(super) fn doubt(
        &mut self,
        channel: &ChannelName,
        node: &Arc<str>,
        user: &Arc<str>,
        doubted: bool,
    ) -> u64 {
        self.with(channel, None, |room| room.doubt(node, user, doubted)).unwrap_or(0)
    }

    fn make(&mut self, channel: &ChannelName, rules: PresenceRules) -> usize {
        let mut room = Room::new(rules);
        if let Some((node, linger_ms)) = &self.shared {
            room.share(node.clone(), *linger_ms);
        }
        let index = self.entries.insert(Entry {
            channel: channel.clone(),
            room,
            version: 0,
            told_ns: None,
            shards: BTreeMap::new(),
            due_ns: None,
        });
        self.by_channel.insert(channel.clone(), index);
        index
    }

    /// A shard watches a channel and wants to hear of everybody. Returns the serial of the telling that will
    /// say it, at the earliest: what is on its way already may not know of what came before this call.
    pub(super) fn watch(&mut self, channel: &ChannelName, rules: PresenceRules, shard: usize) -> u64 {
        let index = match self.by_channel.get(channel) {
            Some(index) => *index,
            None => self.make(channel, rules),
        };
        self.entries[index].shards.insert(shard, true);
        self.plan(index);
        self.serial + 1
    }

    /// A shard has no watchers any more.
    pub(super) fn unwatch(&mut self, channel: &ChannelName, shard: usize) {
        if let Some(index) = self.by_channel.get(channel).copied() {
            self.entries[index].shards.remove(&shard);
            self.plan(index);
        }
    }

    /// A shard that watches could not be told: it hears of everybody as soon as it can.
    pub(super) fn missed(&mut self, channel: &ChannelName, shard: usize) {
        if let Some(index) = self.by_channel.get(channel).copied()
            && let Some(wants) = self.entries[index].shards.get_mut(&shard)
        {
            *wants = true;
            self.plan(index);
        }
    }

    /// Puts a room where it belongs in the timetable, or forgets it.
    fn plan(&mut self, index: usize) {
        let entry = &mut self.entries[index];
        let wanted_ns =
            if entry.shards.is_empty() && entry.room.len() == 0 { None } else { entry.wanted_ns() };
        if wanted_ns != entry.due_ns {
            if let Some(due_ns) = entry.due_ns {
                self.timetable.remove(&(due_ns, index));
            }
            if let Some(wanted_ns) = wanted_ns {
                self.timetable.insert((wanted_ns, index));
            }
            entry.due_ns = wanted_ns;
        }
        if entry.shards.is_empty() && entry.room.len() == 0 {
            let entry = self.entries.remove(index);
            self.by_channel.remove(&entry.channel);
        }
    }

    /// When the next room wants to be looked at; in the past if one waits.
    pub(super) fn due_ns(&self) -> Option<u64> {
        self.timetable.first().map(|(due_ns, _)| *due_ns)
    }

    /// Looks at the next room whose time has come. Outer `None`: there is none.
    pub(super) fn settle(&mut self, now: Now) -> Option<Option<Telling>> {
        let (due_ns, index) = self.timetable.first().copied()?;
        if due_ns > now.mono_ns {
            return None;
        }
        let entry = &mut self.entries[index];
        entry.room.expire(now);
        let telling = entry.tells_ns().is_some_and(|tells_ns| tells_ns <= now.mono_ns).then(|| {
            self.serial += 1;
            entry.told_ns = Some(now.mono_ns);
            let changes = Some(entry.room.tell()).filter(|changes| !changes.is_empty());
            entry.version += u64::from(changes.is_some());
            let wants = entry.shards.values().any(|wants| *wants);
            entry.shards.values_mut().for_each(|wants| *wants = false);
            Telling {
                channel: entry.channel.clone(),
                serial: self.serial,
                version: entry.version,
                changes,
                everybody: wants.then(|| entry.room.members()),
                shards: entry.shards.keys().copied().collect(),
            }
        });
        self.collect(index);
        self.plan(index);
        Some(telling)
    }

    /// Who is in a channel, and the version that was told last.
    pub(super) fn look(&self, channel: &ChannelName) -> (u64, Vec<Member>) {
        self.by_channel.get(channel).map_or((0, Vec::new()), |index| {
            let entry = &self.entries[*index];
            (entry.version, entry.room.members())
        })
    }

    /// How many users are in a channel.
    pub(super) fn present(&self, channel: &ChannelName) -> usize {
        self.by_channel.get(channel).map_or(0, |index| self.entries[*index].room.len())
    }

    /// Channels with somebody in them, and how many there are in all.
    pub(super) fn count(&self) -> (usize, usize) {
        let members = self.entries.iter().map(|(_, entry)| entry.room.len());
        members.filter(|members| *members > 0).fold((0, 0), |(rooms, all), here| (rooms + 1, all + here))
    }

    /// Channels with somebody of this node in them, and how many of this node there are in all.
    pub(super) fn count_here(&self) -> (usize, usize) {
        let members = self.entries.iter().map(|(_, entry)| entry.room.len_here());
        members.filter(|members| *members > 0).fold((0, 0), |(rooms, all), here| (rooms + 1, all + here))
    }

    /// Whether there is nothing at all.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use pulsewire_protocol::SessionId;

    use super::*;

    const RULES: PresenceRules =
        PresenceRules { grace_ms: 5, ttl_ms: 15, members_max: 3, cursor_bytes_max: 16, interval_ms: 10 };

    fn at(ms: u64) -> Now {
        Now { mono_ns: ms * 1_000_000, wall_ms: 0 }
    }

    fn channel() -> ChannelName {
        ChannelName::parse("run:1").expect("a name")
    }

    fn join(rooms: &mut Rooms, user: &str, now: Now) {
        let session = SessionId::new(1, 0, u32::from(user.as_bytes()[0]), 0);
        rooms
            .with(&channel(), Some(RULES), |room| room.join(user, session, now))
            .expect("made")
            .expect("not full");
    }

    fn leave(rooms: &mut Rooms, user: &str) {
        let session = SessionId::new(1, 0, u32::from(user.as_bytes()[0]), 0);
        rooms.with(&channel(), None, |room| room.leave(user, session));
    }

    /// Version, users who joined and left, users in all; for each telling that is due.
    fn told(rooms: &mut Rooms, now: Now) -> Vec<(u64, usize, usize, Option<usize>)> {
        let mut all = Vec::new();
        while let Some(telling) = rooms.settle(now) {
            let Some(Telling { version, changes, everybody, .. }) = telling else { continue };
            let changes = changes.unwrap_or_default();
            all.push((version, changes.joined.len(), changes.left.len(), everybody.map(|all| all.len())));
        }
        all
    }

    #[test]
    fn the_first_change_is_told_at_once_and_those_after_it_together() {
        let mut rooms = Rooms::default();
        join(&mut rooms, "a", at(1));
        rooms.watch(&channel(), RULES, 0);
        assert_eq!(told(&mut rooms, at(1)), [(1, 1, 0, Some(1))]);
        join(&mut rooms, "b", at(2));
        join(&mut rooms, "c", at(3));
        leave(&mut rooms, "a");
        assert_eq!(told(&mut rooms, at(10)), []);
        assert_eq!(rooms.due_ns(), Some(11_000_000));
        assert_eq!(told(&mut rooms, at(11)), [(2, 2, 1, None)]);
        assert_eq!(rooms.due_ns(), None);
    }

    #[test]
    fn a_snapshot_that_is_asked_for_costs_no_version() {
        let mut rooms = Rooms::default();
        join(&mut rooms, "a", at(1));
        let first = rooms.watch(&channel(), RULES, 0);
        told(&mut rooms, at(1));
        let second = rooms.watch(&channel(), RULES, 0);
        assert!(second > first);
        assert_eq!(told(&mut rooms, at(50)), [(1, 0, 0, Some(1))]);
    }

    #[test]
    fn a_room_without_members_and_watchers_is_forgotten() {
        let mut rooms = Rooms::default();
        rooms.watch(&channel(), RULES, 0);
        join(&mut rooms, "a", at(1));
        assert_eq!(rooms.count(), (1, 1));
        rooms.unwatch(&channel(), 0);
        rooms.with(&channel(), None, |room| room.part("a", SessionId::new(1, 0, 97, 0), at(1)));
        assert_eq!(rooms.due_ns(), Some(0));
        told(&mut rooms, at(6));
        assert!(rooms.is_empty() && rooms.due_ns().is_none());
    }

    #[test]
    fn a_shard_that_could_not_be_told_hears_of_everybody_later() {
        let mut rooms = Rooms::default();
        rooms.watch(&channel(), RULES, 0);
        join(&mut rooms, "a", at(1));
        told(&mut rooms, at(1));
        rooms.missed(&channel(), 0);
        assert_eq!(told(&mut rooms, at(2)), []);
        assert_eq!(told(&mut rooms, at(11)), [(1, 0, 0, Some(1))]);
    }
}
