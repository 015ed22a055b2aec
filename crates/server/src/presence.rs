//! Who is in a channel, as HTTP answers show it.
//!
//! This is the one place where reading over HTTP asks for presence. No table of members exists yet, so every
//! channel is shown without any.

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
pub fn snapshot(_app: &App, _channel: &ChannelName) -> Snapshot {
    Snapshot::default()
}
