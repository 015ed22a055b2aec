//! Answers as JSON, key by key.

use std::borrow::Cow;

use super::{
    Ack, Answer, Connected, ErrorAnswer, History, Member, Presence, PresenceChange, Publication, Published,
    Refused, SeriesPage, State,
};
use crate::channel::ChannelName;
use crate::frame::{Encoding, Frame};
use crate::json::{self, Object};
use crate::metric::{push_tags, rfc3339};
use crate::position::Position;
use crate::request::RequestId;

/// Encodes a publication, once for all who receive it in this encoding.
#[must_use]
pub fn encode_event(publication: &Publication<'_>, encoding: Encoding) -> Frame {
    Frame::build(encoding, |out| write_event(publication, out))
}

fn write_event(publication: &Publication<'_>, out: &mut Vec<u8>) {
    let event = publication.event;
    out.reserve(160 + event.data.get().len());
    let mut object = Object::open(out);
    object.text("type", "event");
    object.text("channel", event.channel.as_str());
    if let Some(sequence) = publication.sequence {
        object.shown("sequence", sequence);
    }
    if let Some(previous) = publication.previous {
        object.shown("previous", previous);
    }
    object.text("event", event.event_type.as_str());
    object.payload("data", &event.data);
    object.shown("timestamp", publication.timestamp_ms);
    if let Some(id) = &event.id {
        object.text("id", id.as_str());
    }
    if let Some(user) = publication.user {
        object.text("user", user);
    }
    if let Some(key) = &event.key {
        object.text("key", key);
    }
    if !event.tags.is_empty() {
        push_tags(object.key("tags"), &event.tags);
    }
    if event.critical == Some(true) {
        object.flag("critical", true);
    }
    object.close();
}

impl Answer<'_> {
    /// Encodes the message, echoing the request's `id` if it had one.
    #[must_use]
    pub fn encode(&self, id: Option<&RequestId>, encoding: Encoding) -> Frame {
        Frame::build(encoding, |out| self.write(out, id.map(RequestId::as_json)))
    }

    /// The value of `type`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Welcome { .. } => "welcome",
            Self::Connected(_) => "connected",
            Self::Refreshed { .. } => "refreshed",
            Self::Subscribed { .. } => "subscribed",
            Self::Unsubscribed { .. } => "unsubscribed",
            Self::Ack(Ack::Published([Err(_)])) | Self::Error(_) => "error",
            Self::Ack(_) => "ack",
            Self::Ping { .. } => "ping",
            Self::Pong { .. } => "pong",
            Self::Gap { .. } => "gap",
            Self::Reset { .. } => "reset",
            Self::Dropped { .. } => "dropped",
            Self::Stale { .. } => "stale",
            Self::Pos { .. } => "pos",
            Self::ReplayEnd { .. } => "replay_end",
            Self::State(_) => "state",
            Self::History(_) | Self::Series(_) => "history",
            Self::Presence(_) => "presence",
            Self::Reconnect { .. } => "reconnect",
            Self::TokenExpiring { .. } => "token_expiring",
        }
    }

    fn write(&self, out: &mut Vec<u8>, id: Option<&str>) {
        match self {
            Self::Error(error) => return error.write(out, id),
            Self::Ack(Ack::Published([Err(refused)])) => {
                let detail = Cow::Borrowed(refused.detail.as_str());
                return ErrorAnswer { detail, ..ErrorAnswer::new(refused.code) }.write(out, id);
            }
            _ => {}
        }
        let mut object = Object::message(out, self.name(), id);
        self.write_fields(&mut object);
        object.close();
    }

    fn write_fields(&self, object: &mut Object<'_>) {
        match self {
            Self::Welcome { client_id, timestamp_ms } => {
                object.text("client_id", &client_id.to_string());
                object.float("timestamp", seconds(*timestamp_ms));
            }
            Self::Connected(connected) => write_connected(connected, object),
            Self::Refreshed { expires_at_ms } => {
                if let Some(expires_at_ms) = expires_at_ms {
                    object.shown("expires_at", expires_at_ms);
                }
            }
            Self::Subscribed { channels, positions } => {
                object.texts("channels", channels.iter().map(ChannelName::as_str));
                if !positions.is_empty() {
                    write_positions(positions, object.key("positions"));
                }
            }
            Self::Unsubscribed { channels } => {
                object.texts("channels", channels.iter().map(ChannelName::as_str));
            }
            Self::Ack(ack) => write_ack(ack, object),
            Self::Error(_) => unreachable!("errors are written whole, see write()"),
            Self::Ping { timestamp_ms } => object.float("timestamp", seconds(*timestamp_ms)),
            Self::Pong { timestamp } => {
                if let Some(timestamp) = timestamp {
                    object.float("timestamp", *timestamp);
                }
            }
            Self::Gap { channel, from, to, reason } => {
                object.text("channel", channel.as_str());
                object.shown("from", from);
                object.shown("to", to);
                object.text("reason", reason.name());
            }
            Self::Reset { channel, epoch, sequence } => {
                object.text("channel", channel.as_str());
                object.text("epoch", epoch.as_str());
                object.shown("sequence", sequence);
            }
            Self::Dropped { channel, count } => {
                object.text("channel", channel.as_str());
                object.shown("count", count);
            }
            Self::Stale { channel, since_ms } => {
                object.text("channel", channel.as_str());
                object.shown("since", since_ms);
            }
            Self::Pos { channel, sequence } | Self::ReplayEnd { channel, sequence } => {
                object.text("channel", channel.as_str());
                object.shown("sequence", sequence);
            }
            Self::State(state) => write_state(state, object),
            Self::History(history) => write_history(history, object),
            Self::Series(page) => write_series(page, object),
            Self::Presence(presence) => write_presence(presence, object),
            Self::Reconnect { retry_ms, code } => {
                object.shown("retry_ms", retry_ms);
                object.text("reason", code.name());
                object.shown("code", code.code());
            }
            Self::TokenExpiring { expires_in_ms } => object.shown("expires_in_ms", expires_in_ms),
        }
    }
}

fn write_connected(connected: &Connected<'_>, object: &mut Object<'_>) {
    object.text("session", &connected.session.to_string());
    object.flag("resumed", connected.resumed);
    object.text("user", connected.user);
    if let Some(expires_at_ms) = connected.expires_at_ms {
        object.shown("expires_at", expires_at_ms);
    }
    object.shown("heartbeat_ms", connected.heartbeat_ms);
    if let Some(retry_max_ms) = connected.retry_max_ms {
        object.shown("retry_max_ms", retry_max_ms);
    }
    if let Some(epoch) = connected.epoch {
        object.text("epoch", epoch);
    }
    if let Some((ticket, lasts_ms)) = connected.ticket {
        object.text("ticket", ticket);
        object.shown("ticket_ms", lasts_ms);
    }
}

fn write_positions(positions: &[(ChannelName, Position)], out: &mut Vec<u8>) {
    let mut object = Object::open(out);
    for (channel, position) in positions {
        let mut inner = Object::open(object.key(channel.as_str()));
        inner.text("epoch", position.epoch.as_str());
        inner.shown("sequence", position.sequence);
        inner.close();
    }
    object.close();
}

fn write_ack(ack: &Ack<'_>, object: &mut Object<'_>) {
    match ack {
        Ack::Published([Ok(published)]) => write_published(published, object),
        Ack::Published(results) => {
            json::push_list(object.key("results"), results.iter(), |out, result| {
                let mut object = Object::open(out);
                match result {
                    Ok(published) => write_published(published, &mut object),
                    Err(refused) => write_refused(refused, object.key("error")),
                }
                object.close();
            });
        }
        Ack::Data(data) => object.payload("data", data),
        Ack::Samples { accepted, refused } => {
            object.shown("accepted", accepted);
            json::push_list(object.key("refused"), refused.iter(), |out, (index, code, detail)| {
                let mut inner = Object::open(out);
                inner.shown("index", index);
                inner.text("code", code.name());
                inner.text("detail", detail);
                inner.close();
            });
        }
        Ack::Done => {}
    }
}

fn write_published(published: &Published, object: &mut Object<'_>) {
    object.text("channel", published.channel.as_str());
    if let Some(position) = &published.position {
        object.shown("sequence", position.sequence);
        object.text("epoch", position.epoch.as_str());
    }
    object.flag("duplicate", published.duplicate);
    object.shown("matched", published.matched);
}

fn write_refused(refused: &Refused, out: &mut Vec<u8>) {
    let mut object = Object::open(out);
    object.text("code", refused.code.name());
    object.text("message", &refused.code.message_with(&refused.detail));
    object.close();
}

fn write_state(state: &State<'_>, object: &mut Object<'_>) {
    object.text("channel", state.channel.as_str());
    object.text("epoch", state.epoch.as_str());
    object.shown("sequence", state.sequence);
    json::push_list(object.key("values"), state.values.iter(), |out, value| out.extend_from_slice(value));
    object.flag("more", state.more);
}

fn write_history(history: &History<'_>, object: &mut Object<'_>) {
    object.text("channel", history.channel.as_str());
    if let Some(epoch) = history.epoch {
        object.text("epoch", epoch.as_str());
    }
    json::push_list(object.key("events"), history.events.iter(), |out, event| out.extend_from_slice(event));
    if let Some(gap) = history.gap {
        let mut inner = Object::open(object.key("gap"));
        inner.shown("from", gap.from);
        inner.shown("to", gap.to);
        inner.text("reason", gap.reason.name());
        inner.close();
    }
    if let (Some(sequence), Some(epoch)) = (history.reset, history.epoch) {
        let mut inner = Object::open(object.key("reset"));
        inner.text("epoch", epoch.as_str());
        inner.shown("sequence", sequence);
        inner.close();
    }
    object.flag("has_more", history.next_sequence.is_some());
    if let Some(next_sequence) = history.next_sequence {
        object.shown("next_sequence", next_sequence);
    }
}

fn write_series(page: &SeriesPage<'_>, object: &mut Object<'_>) {
    object.text("channel", page.channel.as_str());
    object.text("resolution", page.resolution);
    object.text("start_time", &rfc3339(page.start_ms));
    object.text("end_time", &rfc3339(page.end_ms));
    json::push_list(object.key("events"), page.events.iter(), |out, event| out.extend_from_slice(event));
    object.flag("has_more", page.next_ms.is_some());
    if let Some(next_ms) = page.next_ms {
        object.text("next_time", &rfc3339(next_ms));
    }
}

fn write_presence(presence: &Presence<'_>, object: &mut Object<'_>) {
    object.text("channel", presence.channel.as_str());
    object.text("node", presence.node);
    object.shown("version", presence.version);
    match presence.change {
        PresenceChange::Snapshot(members) => write_members(members, object.key("members")),
        PresenceChange::Diff { joined, left, sessions, cursors } => {
            if !joined.is_empty() {
                write_members(joined, object.key("joined"));
            }
            if !left.is_empty() {
                object.texts("left", left.iter().map(|user| &**user));
            }
            if !sessions.is_empty() {
                let mut inner = Object::open(object.key("sessions"));
                sessions.iter().for_each(|(user, count)| inner.shown(user, count));
                inner.close();
            }
            if !cursors.is_empty() {
                let mut inner = Object::open(object.key("cursors"));
                for (user, cursor) in cursors {
                    match cursor {
                        Some(cursor) => inner.payload(user, cursor),
                        None => inner.raw(user, b"null"),
                    }
                }
                inner.close();
            }
        }
    }
}

fn write_members(members: &[Member], out: &mut Vec<u8>) {
    json::push_list(out, members.iter(), |out, member| {
        let mut object = Object::open(out);
        object.text("user", &member.user);
        object.shown("sessions", member.sessions);
        object.shown("since", member.since_ms);
        if let Some(cursor) = &member.cursor {
            object.payload("cursor", cursor);
        }
        object.close();
    });
}

/// Document 004's control frames carry float seconds.
fn seconds(timestamp_ms: i64) -> f64 {
    timestamp_ms as f64 / 1000.0
}

impl ErrorAnswer<'_> {
    /// Document 004's members first, the request's id last.
    fn write(&self, out: &mut Vec<u8>, id: Option<&str>) {
        let mut object = Object::open(out);
        object.text("type", "error");
        object.text("message", &self.code.message_with(&self.detail));
        object.text("code", self.code.name());
        object.text("help", self.code.help());
        object.flag("retryable", self.code.retryable());
        if let Some(retry_after_ms) = self.retry_after_ms {
            object.shown("retry_after_ms", retry_after_ms);
        }
        if let Some(channel) = &self.channel {
            object.text("channel", channel);
        }
        if let Some(id) = id {
            object.raw("id", id.as_bytes());
        }
        object.close();
    }
}
