//! Who is in one channel, and what its watchers have not been told yet.
//!
//! A member is a user with one entry for each session. What changes is not written down as a list of
//! changes: for every user that was touched, the room keeps what the watchers know, and compares when it
//! tells. So whatever happens between two tellings costs the watchers one line a user, a user who left and
//! came back costs them nothing, and no list grows.
//!
//! An entry whose connection broke stays until its time is up, or its session is back, or another session
//! of the user takes its place. Nothing but a join makes an entry, so nobody is brought back to life by
//! what is still on its way.
//!
//! Where presence is shared between nodes, a member may also be counted by others ([`elsewhere`]): what is
//! shown of a user is made from what every node says of it, in the same way on each of them.

mod elsewhere;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pulsewire_bus::{Now, PresenceRules};
use pulsewire_protocol::{Member, SessionId};
use serde_json::value::RawValue;
use smallvec::SmallVec;

use elsewhere::Others;
pub(super) use elsewhere::{Overfull, Row};

/// Entries of one user whose connection broke; beyond that the one that would go first goes at once.
const AWAY_MAX: usize = 64;

/// The room is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full;

/// What became of a cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Placed {
    /// Watchers will be told.
    Fresh,
    /// It replaces one of which they have not been told.
    Replaced,
    /// The session is no member.
    NotThere,
}

/// What has changed since the watchers were told last; each value is the new one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Changes {
    /// Users who were not there.
    pub joined: Vec<Member>,
    /// Users who are not there any more.
    pub left: Vec<Arc<str>>,
    /// Counts of sessions that changed.
    pub sessions: Vec<(Arc<str>, u32)>,
    /// Cursors that changed, and that went.
    pub cursors: Vec<(Arc<str>, Option<Arc<RawValue>>)>,
}

impl Changes {
    /// Whether nothing has changed.
    pub(super) fn is_empty(&self) -> bool {
        self.joined.is_empty() && self.left.is_empty() && self.sessions.is_empty() && self.cursors.is_empty()
    }
}

struct Entry {
    session: SessionId,
    /// When it ends, if its connection broke; monotonic nanoseconds.
    until_ns: Option<u64>,
}

struct Present {
    since_ms: i64,
    entries: SmallVec<[Entry; 1]>,
    cursor: Option<(SessionId, Arc<RawValue>)>,
    /// When the cursor was last put somewhere or taken away, by the clock of [`Room::place`]; 0 if never.
    placed_ms: i64,
}

// One for each member, beside its user id.
const _: () = assert!(size_of::<Present>() <= 112);

impl Present {
    fn shown(&self, user: &Arc<str>) -> Member {
        Member {
            user: user.clone(),
            sessions: u32::try_from(self.entries.len()).unwrap_or(u32::MAX),
            since_ms: self.since_ms,
            cursor: self.cursor.as_ref().map(|(_, cursor)| cursor.clone()),
        }
    }
}

/// The members of one channel.
pub(super) struct Room {
    pub(super) rules: PresenceRules,
    members: BTreeMap<Arc<str>, Present>,
    /// What watchers know of the users that were touched since; `None`: that they are not there.
    before: BTreeMap<Arc<str>, Option<Member>>,
    /// Entries without a connection, by the time at which they end.
    away: BTreeSet<(u64, Arc<str>, SessionId)>,
    /// What other nodes say, where presence is shared with some.
    others: Option<Box<Others>>,
}

impl Room {
    pub(super) fn new(rules: PresenceRules) -> Self {
        Self { rules, members: BTreeMap::new(), before: BTreeMap::new(), away: BTreeSet::new(), others: None }
    }

    /// How many users are there, on whatever node.
    pub(super) fn len(&self) -> usize {
        self.members.len() + self.others.as_ref().map_or(0, |others| others.only())
    }

    /// How many users are there with a session of this node.
    pub(super) fn len_here(&self) -> usize {
        self.members.len()
    }

    /// Everybody who is there, on whatever node, by user.
    pub(super) fn members(&self) -> Vec<Member> {
        let Some(others) = self.others.as_ref().filter(|others| !others.is_empty()) else {
            return self.members.iter().map(|(user, present)| present.shown(user)).collect();
        };
        let only = others.users().filter(|user| !self.members.contains_key(*user));
        let mut users: Vec<&Arc<str>> = self.members.keys().chain(only).collect();
        users.sort_unstable();
        users.into_iter().filter_map(|user| self.shown(user)).collect()
    }

    /// Whether somebody was touched of whom the watchers may have to be told.
    pub(super) fn is_touched(&self) -> bool {
        !self.before.is_empty()
    }

    /// When the first entry without a connection ends.
    pub(super) fn expires_ns(&self) -> Option<u64> {
        self.away.first().map(|(until_ns, ..)| *until_ns)
    }

    /// Keeps what the watchers know of a user, unless that is kept already.
    fn touch(&mut self, user: &Arc<str>) {
        if !self.before.contains_key(user) {
            let known = self.shown(user);
            self.before.insert(user.clone(), known);
        }
    }

    /// A session of a user is there. Says whether its entry is new.
    pub(super) fn join(&mut self, user: &str, session: SessionId, now: Now) -> Result<bool, Full> {
        let Some((known, _)) = self.members.get_key_value(user) else {
            return self.enter(user, session, now).map(|()| true);
        };
        let user = known.clone();
        self.touch_shared(&user);
        let present = self.members.get_mut(&user).expect("it was found");
        if let Some(entry) = present.entries.iter_mut().find(|entry| entry.session == session) {
            if let Some(until_ns) = entry.until_ns.take() {
                self.note(&user);
                self.away.remove(&(until_ns, user, session));
            }
            return Ok(false);
        }
        let oldest = present.entries.iter().filter(|entry| entry.until_ns.is_some());
        let replaced = oldest.min_by_key(|entry| entry.until_ns).map(|entry| entry.session);
        self.touch(&user);
        self.note(&user);
        let present = self.members.get_mut(&user).expect("it was found");
        present.entries.push(Entry { session, until_ns: None });
        if let Some(replaced) = replaced {
            // The user is back with another session: nobody else has to know.
            self.remove(&user, replaced);
        }
        Ok(true)
    }

    /// The first session of a user on this node.
    fn enter(&mut self, user: &str, session: SessionId, now: Now) -> Result<(), Full> {
        let elsewhere = self.others.as_ref().and_then(|others| others.find(user));
        if elsewhere.is_none() && self.len() >= self.rules.members_max {
            return Err(Full);
        }
        let is_elsewhere = elsewhere.is_some();
        let user: Arc<str> = elsewhere.unwrap_or_else(|| user.into());
        self.touch(&user);
        // Whoever was never told to be gone was there all the time.
        let told = self.before.get(&user).and_then(Option::as_ref).map(|known| known.since_ms);
        let shown = if is_elsewhere { self.shown(&user).map(|shown| shown.since_ms) } else { None };
        let since_ms = [told, shown].into_iter().flatten().min().unwrap_or(now.wall_ms);
        let entries = SmallVec::from_buf([Entry { session, until_ns: None }]);
        if let Some(others) = &mut self.others {
            others.here(is_elsewhere);
        }
        self.note(&user);
        self.members.insert(user, Present { since_ms, entries, cursor: None, placed_ms: 0 });
        Ok(())
    }

    /// A session has gone for good.
    pub(super) fn leave(&mut self, user: &str, session: SessionId) {
        let Some((user, present)) = self.members.get_key_value(user) else { return };
        if present.entries.iter().any(|entry| entry.session == session) {
            let user = user.clone();
            self.touch(&user);
            self.remove(&user, session);
        }
    }

    /// A session's connection broke: its entry stays for the grace.
    pub(super) fn part(&mut self, user: &str, session: SessionId, now: Now) {
        let Some((user, _)) = self.members.get_key_value(user) else { return };
        let user = user.clone();
        let until_ns = now.mono_ns.saturating_add(self.grace_ns());
        self.touch_shared(&user);
        let present = self.members.get_mut(&user).expect("it was found");
        let Some(entry) = present.entries.iter_mut().find(|entry| entry.session == session) else { return };
        if let Some(earlier) = entry.until_ns.replace(until_ns) {
            self.away.remove(&(earlier, user.clone(), session));
        }
        self.away.insert((until_ns, user.clone(), session));
        let away = present.entries.iter().filter(|entry| entry.until_ns.is_some());
        let first = away.clone().min_by_key(|entry| entry.until_ns).map(|entry| entry.session);
        let first = first.filter(|_| away.count() > AWAY_MAX);
        self.note(&user);
        if let Some(first) = first {
            self.leave(&user, first);
        }
    }

    /// How long an entry without a connection stays.
    fn grace_ns(&self) -> u64 {
        let linger_ms = self.others.as_ref().map_or(0, |others| others.linger_ms);
        self.rules.grace_ms.saturating_add(linger_ms).saturating_mul(1_000_000)
    }

    /// A session puts its user's cursor somewhere, or takes it away. It is newer than every cursor of the user
    /// that this node has seen, whatever the clocks of their nodes say.
    pub(super) fn place(
        &mut self,
        user: &str,
        session: SessionId,
        cursor: Option<Arc<RawValue>>,
        now: Now,
    ) -> Placed {
        let Some((known, present)) = self.members.get_key_value(user) else { return Placed::NotThere };
        if !present.entries.iter().any(|entry| entry.session == session) {
            return Placed::NotThere;
        }
        let user = known.clone();
        let text = |cursor: Option<&Arc<RawValue>>| cursor.map(|cursor| cursor.get().to_owned());
        let told = self.before.get(&user).map(|known| {
            let known = known.as_ref().and_then(|known| known.cursor.as_ref());
            text(known) == text(self.shown(&user).and_then(|shown| shown.cursor).as_ref())
        });
        let elsewhere_ms = self.others.as_ref().map_or(0, |others| others.placed_ms(&user));
        let newest_ms = present.placed_ms.max(elsewhere_ms);
        self.touch(&user);
        self.note(&user);
        let present = self.members.get_mut(&user).expect("it was found");
        present.placed_ms = now.wall_ms.max(newest_ms.saturating_add(1));
        present.cursor = cursor.map(|cursor| (session, cursor));
        if told == Some(false) { Placed::Replaced } else { Placed::Fresh }
    }

    /// Takes an entry out, its cursor with it, and the member if it was the last. The user must be touched.
    fn remove(&mut self, user: &Arc<str>, session: SessionId) {
        self.note(user);
        let Some(present) = self.members.get_mut(user) else { return };
        let Some(at) = present.entries.iter().position(|entry| entry.session == session) else { return };
        let entry = present.entries.remove(at);
        if present.cursor.as_ref().is_some_and(|(of, _)| *of == session) {
            present.cursor = None;
            present.placed_ms = 0;
        }
        if let Some(until_ns) = entry.until_ns {
            self.away.remove(&(until_ns, user.clone(), session));
        }
        if present.entries.is_empty() {
            self.members.remove(user);
            if let Some(others) = &mut self.others {
                others.not_here(user);
            }
            self.forget(user);
        }
    }

    /// Keeps nothing of a user who is not there and of whom nobody has heard: there is nothing to tell.
    fn forget(&mut self, user: &Arc<str>) {
        if self.before.get(user).is_some_and(Option::is_none) && self.shown(user).is_none() {
            self.before.remove(user);
        }
    }

    /// Ends the entries whose time is up.
    pub(super) fn expire(&mut self, now: Now) {
        while let Some((until_ns, user, session)) = self.away.first().cloned() {
            if until_ns > now.mono_ns {
                return;
            }
            self.touch(&user);
            self.remove(&user, session);
        }
    }

    /// What the watchers have to be told; from now on they know it.
    pub(super) fn tell(&mut self) -> Changes {
        let mut changes = Changes::default();
        for (user, known) in std::mem::take(&mut self.before) {
            let present = self.shown(&user);
            match (known, present) {
                (None, None) => {}
                (None, Some(present)) => changes.joined.push(present),
                (Some(_), None) => changes.left.push(user),
                (Some(known), Some(present)) => {
                    if known.sessions != present.sessions {
                        changes.sessions.push((user.clone(), present.sessions));
                    }
                    let text = |member: &Member| member.cursor.as_ref().map(|cursor| cursor.get().to_owned());
                    if text(&known) != text(&present) {
                        changes.cursors.push((user, present.cursor));
                    }
                }
            }
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RULES: PresenceRules =
        PresenceRules { grace_ms: 5, ttl_ms: 15, members_max: 3, cursor_bytes_max: 16, interval_ms: 1 };

    fn at(ms: u64) -> Now {
        Now { mono_ns: ms * 1_000_000, wall_ms: 1_000 + i64::try_from(ms).expect("a small time") }
    }

    fn session(number: u8) -> SessionId {
        SessionId::new(1, 0, u32::from(number), 0)
    }

    fn cursor(text: &str) -> Option<Arc<RawValue>> {
        Some(RawValue::from_string(text.to_owned()).expect("JSON").into())
    }

    /// What somebody who was told everything knows.
    #[derive(Default)]
    struct Watcher(BTreeMap<Arc<str>, Member>);

    impl Watcher {
        fn hear(&mut self, changes: Changes) {
            for user in changes.left {
                assert!(self.0.remove(&user).is_some(), "{user} was there");
            }
            for member in changes.joined {
                assert!(self.0.insert(member.user.clone(), member).is_none(), "somebody new");
            }
            for (user, sessions) in changes.sessions {
                self.0.get_mut(&user).expect("is there").sessions = sessions;
            }
            for (user, cursor) in changes.cursors {
                self.0.get_mut(&user).expect("is there").cursor = cursor;
            }
        }
    }

    /// A script such as `join a1 | tell | leave a1 | tell`, and what each `tell` says.
    fn check(script: &str, expected: &[&str]) {
        let mut room = Room::new(RULES);
        let mut told = Vec::new();
        let mut now = at(0);
        for step in script.split(" | ") {
            let mut words = step.split(' ');
            let (verb, who) = (words.next().expect("a verb"), words.next().unwrap_or("a0"));
            let user = &who[..1];
            let session = session(who[1..].parse().unwrap_or(0));
            match verb {
                "join" => room.join(user, session, now).map_or_else(|Full| told.push("full".into()), drop),
                "leave" => room.leave(user, session),
                "part" => room.part(user, session, now),
                "place" => drop(room.place(user, session, words.next().and_then(cursor), now)),
                "wait" => {
                    now = at(now.mono_ns / 1_000_000 + who.parse::<u64>().expect("milliseconds"));
                    room.expire(now);
                }
                "tell" => told.push(shown(&room.tell())),
                _ => panic!("{verb}"),
            }
        }
        assert_eq!(told, expected, "{script}");
    }

    fn shown(changes: &Changes) -> String {
        let cursor = |cursor: &Option<Arc<RawValue>>| {
            cursor.as_ref().map_or_else(|| "-".to_owned(), |cursor| cursor.get().to_owned())
        };
        let joined = changes.joined.iter().map(|member| format!("+{}{}", member.user, member.sessions));
        let left = changes.left.iter().map(|user| format!("-{user}"));
        let sessions = changes.sessions.iter().map(|(user, count)| format!("{user}={count}"));
        let cursors = changes.cursors.iter().map(|(user, at)| format!("{user}@{}", cursor(at)));
        joined.chain(left).chain(sessions).chain(cursors).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn several_sessions_of_a_user_are_one_member() {
        check("join a1 | join a2 | tell | leave a1 | tell | leave a2 | tell", &["+a2", "a=1", "-a"]);
    }

    #[test]
    fn a_member_who_breaks_and_comes_back_within_the_grace_is_no_news() {
        check("join a1 | tell | part a1 | wait 4 | tell | join a1 | wait 9 | tell", &["+a1", "", ""]);
    }

    #[test]
    fn another_session_of_the_user_takes_the_place_of_the_broken_one() {
        check("join a1 | tell | part a1 | join a2 | tell | wait 9 | tell", &["+a1", "", ""]);
        check("join a1 | tell | part a1 | join a2 | join a1 | tell", &["+a1", "a=2"]);
    }

    #[test]
    fn a_member_whose_grace_is_over_has_left_and_stays_away() {
        check("join a1 | tell | part a1 | wait 5 | tell | part a1 | leave a1 | tell", &["+a1", "-a", ""]);
    }

    #[test]
    fn what_comes_and_goes_between_two_tellings_is_not_told() {
        check("join a1 | leave a1 | tell | join a1 | tell | leave a1 | join a2 | tell", &["", "+a1", ""]);
    }

    #[test]
    fn a_cursor_goes_with_the_session_that_placed_it_last() {
        check("join a1 | join a2 | place a1 1 | place a2 2 | tell | leave a1 | tell", &["+a2", "a=1"]);
        check("join a1 | join a2 | tell | place a1 1 | tell | leave a1 | tell", &["+a2", "a@1", "a=1 a@-"]);
        check("join a1 | tell | place a1 1 | place a1 2 | tell | place a1 | tell", &["+a1", "a@2", "a@-"]);
    }

    #[test]
    fn a_full_room_takes_nobody_but_who_is_there_already() {
        check("join a1 | join b1 | join c1 | join d1 | join a2 | tell", &["full", "+a2 +b1 +c1"]);
        check("join a1 | join b1 | join c1 | leave b1 | join d1 | tell", &["+a1 +c1 +d1"]);
    }

    #[test]
    fn a_cursor_that_was_not_told_before_it_was_replaced_is_counted() {
        let mut room = Room::new(RULES);
        assert_eq!(room.place("a", session(1), cursor("1"), at(0)), Placed::NotThere);
        room.join("a", session(1), at(0)).expect("there is room");
        room.tell();
        assert_eq!(room.place("a", session(1), cursor("1"), at(0)), Placed::Fresh);
        assert_eq!(room.place("a", session(1), cursor("2"), at(0)), Placed::Replaced);
        assert_eq!(room.place("a", session(2), cursor("2"), at(0)), Placed::NotThere);
    }

    #[test]
    fn a_user_whose_connections_keep_breaking_holds_a_bounded_number_of_entries() {
        let mut room = Room::new(RULES);
        for number in 0..200 {
            // Joined first: a session that comes to a broken one takes its place.
            room.join("a", session(number), at(0)).expect("there is room");
        }
        for number in 0..200 {
            room.part("a", session(number), at(u64::from(number)));
        }
        assert_eq!(room.members()[0].sessions as usize, AWAY_MAX);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Join(u8, u8),
        Leave(u8, u8),
        Part(u8, u8),
        Place(u8, u8, Option<u8>),
        Wait(u64),
        Tell,
    }

    fn step() -> impl Strategy<Value = Step> {
        let who = (0..5_u8, 0..3_u8);
        prop_oneof![
            3 => who.clone().prop_map(|(user, session)| Step::Join(user, session)),
            2 => who.clone().prop_map(|(user, session)| Step::Leave(user, session)),
            2 => who.clone().prop_map(|(user, session)| Step::Part(user, session)),
            2 => (who, proptest::option::of(0..3_u8)).prop_map(|((user, session), at)| Step::Place(user, session, at)),
            2 => (0..4_u64).prop_map(Step::Wait),
            2 => Just(Step::Tell),
        ]
    }

    proptest! {
        #[test]
        fn whoever_heard_every_change_knows_who_is_there(steps in proptest::collection::vec(step(), 0..200)) {
            let mut room = Room::new(RULES);
            let mut watcher = Watcher::default();
            // The model: entries by user and session with the time at which they end.
            let mut model: BTreeMap<(String, u8), Option<u64>> = BTreeMap::new();
            let mut ms = 0;
            let (mut joins, mut leaves) = (0_usize, 0_usize);
            for step in steps {
                match step {
                    Step::Join(user, number) => {
                        let (user, id) = (format!("u{user}"), session(number));
                        let users: BTreeSet<&String> = model.keys().map(|(user, _)| user).collect();
                        let full = users.len() >= RULES.members_max && !users.contains(&user);
                        prop_assert_eq!(room.join(&user, id, at(ms)).is_err(), full);
                        if !full && !model.contains_key(&(user.clone(), number)) {
                            let away = model.iter().filter(|((of, _), until)| *of == user && until.is_some());
                            if let Some(oldest) = away.min_by_key(|((_, session), until)| (**until, *session)).map(|(key, _)| key.clone()) {
                                // Of two that broke at the same time either may go.
                                let ends = model[&oldest];
                                let ties = model.iter().filter(|((of, _), until)| *of == user && **until == ends).count();
                                if ties > 1 { return Ok(()); }
                                model.remove(&oldest);
                            }
                        }
                        if !full { model.insert((user, number), None); }
                    }
                    Step::Leave(user, number) => {
                        room.leave(&format!("u{user}"), session(number));
                        model.remove(&(format!("u{user}"), number));
                    }
                    Step::Part(user, number) => {
                        room.part(&format!("u{user}"), session(number), at(ms));
                        if let Some(until) = model.get_mut(&(format!("u{user}"), number)) {
                            *until = Some(ms + RULES.grace_ms);
                        }
                    }
                    Step::Place(user, number, to) => {
                        let to = to.and_then(|to| cursor(&to.to_string()));
                        let placed = room.place(&format!("u{user}"), session(number), to, at(ms));
                        let there = model.contains_key(&(format!("u{user}"), number));
                        prop_assert_eq!(placed != Placed::NotThere, there);
                    }
                    Step::Wait(more) => {
                        ms += more;
                        room.expire(at(ms));
                        model.retain(|_, until| until.is_none_or(|until| until > ms));
                    }
                    Step::Tell => {
                        let changes = room.tell();
                        joins += changes.joined.len();
                        leaves += changes.left.len();
                        watcher.hear(changes);
                        let heard: Vec<Member> = watcher.0.values().cloned().collect();
                        prop_assert_eq!(&heard, &room.members());
                        prop_assert_eq!(joins - leaves, heard.len());
                    }
                }
                let entries: usize = room.members().iter().map(|member| member.sessions as usize).sum();
                prop_assert_eq!(entries, model.len());
                prop_assert!(room.before.len() <= 2 * RULES.members_max);
            }
        }
    }
}
