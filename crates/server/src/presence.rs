//! Who is in a channel, in the shape that document 003's answers have it.

use std::collections::BTreeMap;

use pulsewire_protocol::ChannelName;
use serde_json::Value;

use crate::app::App;

/// The members of a channel at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Snapshot {
    /// The users, each once.
    pub active_users: Vec<String>,
    /// The newest cursor of each user that has one.
    pub cursor_positions: BTreeMap<String, Value>,
}

/// Who is in a channel now.
#[must_use]
pub fn snapshot(app: &App, channel: &ChannelName) -> Snapshot {
    let mut shown = Snapshot::default();
    for member in app.hub.presence.snapshot(channel).members {
        // A cursor is the JSON that its client wrote, so it reads.
        if let Some(cursor) = member.cursor.and_then(|cursor| serde_json::from_str(cursor.get()).ok()) {
            shown.cursor_positions.insert(member.user.to_string(), cursor);
        }
        shown.active_users.push(member.user.to_string());
    }
    shown
}
