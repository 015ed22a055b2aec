//! Who is in the channels, put together from what the server tells.
//!
//! The server tells who is there, then what changes, each with the node that counts and a version. A change that
//! does not follow the last one means that something is missing: the client asks who is there and goes on with the
//! answer. The application hears of differences only, whichever way they came (`docs/protocol.md` R54 to R59).

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

/// A user who is in a channel.
#[derive(Debug, Clone, Deserialize)]
pub struct Member {
    /// Who it is.
    pub user: String,
    /// With how many sessions.
    pub sessions: u32,
    /// Since when, in milliseconds since 1970.
    #[serde(rename = "since")]
    pub since_ms: i64,
    /// Where it points, as its client wrote it.
    #[serde(default)]
    pub cursor: Option<Box<RawValue>>,
}

impl PartialEq for Member {
    fn eq(&self, other: &Self) -> bool {
        let cursor = |member: &Self| member.cursor.as_ref().map(|cursor| cursor.get().to_owned());
        (&self.user, self.sessions, self.since_ms) == (&other.user, other.sessions, other.since_ms)
            && cursor(self) == cursor(other)
    }
}

/// How a channel's members differ from what was known before.
#[derive(Debug, Clone, PartialEq)]
pub struct PresenceUpdate {
    /// The channel.
    pub channel: String,
    /// It is the first of its channel: those who joined were there already.
    pub first: bool,
    /// Who is new.
    pub joined: Vec<Member>,
    /// Who has gone, as last known.
    pub left: Vec<Member>,
    /// Whose cursor or number of sessions is another one.
    pub changed: Vec<Member>,
    /// The frame as it came.
    pub frame: String,
}

/// A `presence` message.
#[derive(Debug, Deserialize)]
pub(crate) struct Told {
    channel: String,
    node: String,
    version: u64,
    #[serde(default)]
    members: Option<Vec<Member>>,
    #[serde(default)]
    joined: Vec<Member>,
    #[serde(default)]
    left: Vec<String>,
    #[serde(default)]
    sessions: BTreeMap<String, u32>,
    #[serde(default)]
    cursors: BTreeMap<String, Option<Box<RawValue>>>,
}

/// What to do about a message.
#[derive(Debug, PartialEq)]
pub(crate) enum Heard {
    /// Tell the application.
    Update(PresenceUpdate),
    /// Something is missing: ask who is in this channel.
    Ask(String),
    /// Nothing.
    Nothing,
}

#[derive(Debug, Default)]
struct Roster {
    /// The node that tells and its version; none until the first snapshot of a connection.
    known: Option<(String, u64)>,
    told: bool,
    asked: bool,
    members: BTreeMap<String, Member>,
}

/// The members of all channels.
#[derive(Debug, Default)]
pub(crate) struct Rosters(BTreeMap<String, Roster>);

impl Rosters {
    /// A new connection begins: the server tells who is there again.
    pub(crate) fn reconnecting(&mut self) {
        for roster in self.0.values_mut() {
            (roster.known, roster.asked) = (None, false);
        }
    }

    /// Takes a message. Only channels that are wanted have one.
    pub(crate) fn hear(&mut self, told: Told, frame: String) -> Heard {
        let roster = self.0.entry(told.channel.clone()).or_default();
        let before = roster.members.clone();
        if let Some(members) = told.members {
            roster.members = members.into_iter().map(|member| (member.user.clone(), member)).collect();
            roster.asked = false;
        } else {
            let follows = roster
                .known
                .as_ref()
                .is_some_and(|(node, version)| *node == told.node && version + 1 == told.version);
            if !follows {
                // What is known already, or what comes while the answer is on its way.
                let old = roster
                    .known
                    .as_ref()
                    .is_some_and(|(node, version)| *node == told.node && told.version <= *version);
                return match old || std::mem::replace(&mut roster.asked, true) {
                    true => Heard::Nothing,
                    false => Heard::Ask(told.channel),
                };
            }
            for user in &told.left {
                roster.members.remove(user);
            }
            roster.members.extend(told.joined.into_iter().map(|member| (member.user.clone(), member)));
            for (user, sessions) in told.sessions {
                if let Some(member) = roster.members.get_mut(&user) {
                    member.sessions = sessions;
                }
            }
            for (user, cursor) in told.cursors {
                if let Some(member) = roster.members.get_mut(&user) {
                    member.cursor = cursor;
                }
            }
        }
        roster.known = Some((told.node, told.version));
        let first = !std::mem::replace(&mut roster.told, true);
        let now = &roster.members;
        let update = PresenceUpdate {
            channel: told.channel,
            first,
            joined: now.values().filter(|member| !before.contains_key(&member.user)).cloned().collect(),
            left: before.values().filter(|member| !now.contains_key(&member.user)).cloned().collect(),
            changed: now
                .values()
                .filter(|member| before.get(&member.user).is_some_and(|known| known != *member))
                .cloned()
                .collect(),
            frame,
        };
        let nothing = update.joined.is_empty() && update.left.is_empty() && update.changed.is_empty();
        if nothing && !first { Heard::Nothing } else { Heard::Update(update) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Messages without their common head, and what the application hears of each.
    fn check(dialogue: &[(&str, &str)]) {
        let mut rosters = Rosters::default();
        for (told, expected) in dialogue {
            if *told == "reconnecting" {
                rosters.reconnecting();
                continue;
            }
            let told = format!(r#"{{"type":"presence","channel":"run:1",{told}}}"#);
            let heard = rosters.hear(serde_json::from_str(&told).unwrap(), String::new());
            let users = |members: &[Member]| {
                members.iter().map(|member| member.user.as_str()).collect::<Vec<_>>().join(",")
            };
            let heard = match &heard {
                Heard::Update(update) => {
                    let first = if update.first { "first " } else { "" };
                    let [joined, left, changed] =
                        [&update.joined, &update.left, &update.changed].map(|members| users(members));
                    format!("{first}+{joined} -{left} ~{changed}")
                }
                Heard::Ask(channel) => format!("ask {channel}"),
                Heard::Nothing => String::new(),
            };
            assert_eq!(heard, *expected, "after {told}");
        }
    }

    const ADA: &str = r#"{"user":"ada","sessions":1,"since":1}"#;
    const BOB: &str = r#"{"user":"bob","sessions":1,"since":1}"#;

    #[test]
    fn changes_are_applied_to_who_was_there() {
        check(&[
            (&format!(r#""node":"n","version":1,"members":[{ADA}]"#), "first +ada - ~"),
            (&format!(r#""node":"n","version":2,"joined":[{BOB}],"cursors":{{"ada":1}}"#), "+bob - ~ada"),
            (r#""node":"n","version":3,"left":["ada"],"sessions":{"bob":2}"#, "+ -ada ~bob"),
            (r#""node":"n","version":3,"left":["bob"]"#, ""),
        ]);
    }

    #[test]
    fn a_version_that_is_missing_is_asked_for_once_and_the_answer_tells_the_difference() {
        check(&[
            (&format!(r#""node":"n","version":1,"members":[{ADA}]"#), "first +ada - ~"),
            (r#""node":"n","version":3,"left":["bob"]"#, "ask run:1"),
            (r#""node":"n","version":4,"left":["cyd"]"#, ""),
            (&format!(r#""node":"n","version":4,"members":[{BOB}]"#), "+bob -ada ~"),
            (r#""node":"n","version":5,"left":["bob"]"#, "+ -bob ~"),
        ]);
    }

    #[test]
    fn another_node_begins_anew_and_the_application_hears_of_differences_only() {
        check(&[
            (&format!(r#""node":"n","version":9,"members":[{ADA},{BOB}]"#), "first +ada,bob - ~"),
            ("reconnecting", ""),
            (&format!(r#""node":"m","version":1,"members":[{ADA},{BOB}]"#), ""),
            (r#""node":"n","version":10,"left":["bob"]"#, "ask run:1"),
        ]);
    }
}
