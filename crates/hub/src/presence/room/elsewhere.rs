//! What other nodes say of a room, and how a user whom several count is shown.
//!
//! Every node that counts a user has one row of it, and what is shown is made from the rows alone, so nodes that
//! know the same rows show the same, in whatever order they heard of them:
//!
//! - *sessions*: as many as are connected, on all nodes together; but never fewer than one node alone counts with
//!   those that may be back. So one who breaks on one node and comes back on another is one session before, while
//!   and after the first node waits for it, and nobody is told anything;
//! - *since*: the oldest that any node knows. A node that counts the user takes it over, so it outlives the others;
//! - *cursor*: the newest, by the time at which it was placed and then by the name of the node. To take a cursor
//!   away is placing as well, so it does not uncover an older one.
//!
//! A row of a node that is silent, or that has said goodbye, is *doubted*: its sessions count as such that may be
//! back.

use std::collections::BTreeMap;
use std::sync::Arc;

use pulsewire_protocol::Member;
use serde_json::value::RawValue;
use smallvec::SmallVec;

use super::{Present, Room};

/// Not taken: the room has twice as many members as it may, or its channel keeps no presence here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::presence) struct Overfull;

/// What one node says of a user in a channel.
#[derive(Debug, Clone)]
pub(in crate::presence) struct Row {
    /// Sessions that are connected.
    pub(in crate::presence) live: u32,
    /// Sessions whose connection broke, and that may be back.
    pub(in crate::presence) away: u32,
    /// Since when, in milliseconds since 1970.
    pub(in crate::presence) since_ms: i64,
    /// When a cursor was placed or taken away; 0 if none was. [`Room::place`] says by which clock.
    pub(in crate::presence) placed_ms: i64,
    /// The cursor, if there is one.
    pub(in crate::presence) cursor: Option<Arc<RawValue>>,
}

struct Held {
    node: Arc<str>,
    row: Row,
    doubted: bool,
}

/// What other nodes say of one room.
pub(super) struct Others {
    /// This node.
    node: Arc<str>,
    /// How much longer than the grace an entry without a connection stays, in milliseconds: until others must have
    /// been heard who say that the user is back there.
    pub(super) linger_ms: u64,
    rows: BTreeMap<Arc<str>, SmallVec<[Held; 1]>>,
    /// Users of `rows` who are here as well.
    both: usize,
    /// Users of whom this node says something else since [`Room::take_changed`].
    changed: Vec<Arc<str>>,
}

impl Others {
    /// How many users are there who are not here.
    pub(super) fn only(&self) -> usize {
        self.rows.len() - self.both
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The users whom others count.
    pub(super) fn users(&self) -> impl Iterator<Item = &Arc<str>> {
        self.rows.keys()
    }

    /// The user, if another node counts it.
    pub(super) fn find(&self, user: &str) -> Option<Arc<str>> {
        self.rows.get_key_value(user).map(|(user, _)| user.clone())
    }

    /// When the newest cursor of a user was placed on another node; 0 if none was.
    pub(super) fn placed_ms(&self, user: &str) -> i64 {
        let rows = self.rows.get(user).into_iter().flatten();
        rows.map(|held| held.row.placed_ms).max().unwrap_or(0)
    }

    /// A user has its first session here.
    pub(super) fn here(&mut self, is_elsewhere: bool) {
        self.both += usize::from(is_elsewhere);
    }

    /// A user has no session here any more.
    pub(super) fn not_here(&mut self, user: &str) {
        self.both -= usize::from(self.rows.contains_key(user));
    }
}

impl Present {
    fn row(&self) -> Row {
        let away = self.entries.iter().filter(|entry| entry.until_ns.is_some()).count();
        let count = |sessions: usize| u32::try_from(sessions).unwrap_or(u32::MAX);
        Row {
            live: count(self.entries.len() - away),
            away: count(away),
            since_ms: self.since_ms,
            placed_ms: self.placed_ms,
            cursor: self.cursor.as_ref().map(|(_, cursor)| cursor.clone()),
        }
    }
}

impl Room {
    /// From now on others are told of this room, and heard.
    pub(in crate::presence) fn share(&mut self, node: Arc<str>, linger_ms: u64) {
        let changed = self.members.keys().cloned().collect();
        let others = Others { node, linger_ms, rows: BTreeMap::new(), both: 0, changed };
        self.others.get_or_insert(Box::new(others));
    }

    /// Touches a user whom others count as well: then it shows whether its sessions here are connected.
    pub(super) fn touch_shared(&mut self, user: &Arc<str>) {
        if self.others.as_ref().is_some_and(|others| others.rows.contains_key(user)) {
            self.touch(user);
        }
    }

    /// Writes down that this node has something else to say of a user.
    pub(super) fn note(&mut self, user: &Arc<str>) {
        if let Some(others) = &mut self.others
            && others.changed.last() != Some(user)
        {
            others.changed.push(user.clone());
        }
    }

    /// The users of whom this node has something else to say since this was asked last.
    pub(in crate::presence) fn take_changed(&mut self) -> Vec<Arc<str>> {
        self.others.as_mut().map(|others| std::mem::take(&mut others.changed)).unwrap_or_default()
    }

    /// What this node says of a user; none if the user has no session here.
    pub(in crate::presence) fn own_row(&self, user: &str) -> Option<Row> {
        self.members.get(user).map(Present::row)
    }

    /// What is shown of a user, from what every node says; none if the user is nowhere.
    pub(super) fn shown(&self, user: &Arc<str>) -> Option<Member> {
        let present = self.members.get(user);
        let others = self.others.as_ref();
        let Some((others, rows)) = others.and_then(|others| Some((others, others.rows.get(user)?))) else {
            return present.map(|present| present.shown(user));
        };
        let own = present.map(Present::row);
        let own = own.as_ref().map(|row| (&others.node, row, false));
        let all = rows.iter().map(|held| (&held.node, &held.row, held.doubted));
        let mut member = Member { user: user.clone(), sessions: 0, since_ms: i64::MAX, cursor: None };
        let (mut most, mut newest) = (0, None);
        for (node, row, doubted) in own.into_iter().chain(all) {
            let live = if doubted { 0 } else { row.live };
            member.sessions = member.sessions.saturating_add(live);
            most = most.max(row.live.saturating_add(row.away));
            member.since_ms = member.since_ms.min(row.since_ms);
            if row.placed_ms > 0 && newest < Some((row.placed_ms, node)) {
                newest = Some((row.placed_ms, node));
                member.cursor.clone_from(&row.cursor);
            }
        }
        member.sessions = member.sessions.max(most);
        Some(member)
    }

    /// Another node says something of a user, or, without a row, that it does not count it any more. Somebody who
    /// would be beyond twice the limit of members is not taken.
    pub(in crate::presence) fn hear_of(
        &mut self,
        node: &Arc<str>,
        user: &str,
        row: Option<Row>,
    ) -> Result<(), Overfull> {
        let full = self.len() >= self.rules.members_max.saturating_mul(2);
        let Some(others) = &self.others else { return Ok(()) };
        let known = others.rows.get_key_value(user).map(|(user, _)| user.clone());
        let here = self.members.get_key_value(user).map(|(user, _)| user.clone());
        let (is_elsewhere, is_here) = (known.is_some(), here.is_some());
        let Some(row) = row else {
            if let Some(user) = known {
                self.touch(&user);
                self.drop_row(node, &user);
                self.forget(&user);
            }
            return Ok(());
        };
        if full && !is_elsewhere && !is_here {
            return Err(Overfull);
        }
        let user = here.or(known).unwrap_or_else(|| user.into());
        self.touch(&user);
        if let Some(present) = self.members.get_mut(&user)
            && row.since_ms < present.since_ms
        {
            present.since_ms = row.since_ms;
            self.note(&user);
        }
        let others = self.others.as_mut().expect("it was looked at");
        others.both += usize::from(is_here && !is_elsewhere);
        let rows = others.rows.entry(user).or_default();
        let held = Held { node: node.clone(), row, doubted: false };
        match rows.iter_mut().find(|held| held.node == *node) {
            Some(known) => *known = held,
            None => rows.push(held),
        }
        Ok(())
    }

    fn drop_row(&mut self, node: &Arc<str>, user: &Arc<str>) {
        let Some(others) = &mut self.others else { return };
        let Some(rows) = others.rows.get_mut(user) else { return };
        rows.retain(|held| held.node != *node);
        if rows.is_empty() {
            others.rows.remove(user);
            others.both -= usize::from(self.members.contains_key(user));
        }
    }

    /// What another node says of a user is doubted from now on, or believed again. Returns how long it stays if it
    /// is never believed again, in nanoseconds.
    pub(in crate::presence) fn doubt(&mut self, node: &Arc<str>, user: &Arc<str>, doubted: bool) -> u64 {
        self.touch(user);
        let rows = self.others.as_mut().and_then(|others| others.rows.get_mut(user));
        if let Some(held) = rows.into_iter().flatten().find(|held| held.node == *node) {
            held.doubted = doubted;
        }
        self.grace_ns()
    }
}
