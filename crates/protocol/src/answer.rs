//! What the server says to a client, and how it is written.
//!
//! Every message is written as JSON by hand, in a fixed key order, and transcoded for MessagePack
//! connections, so the two encodings cannot differ. Document 004's frames come out byte for byte as it shows
//! them; what extends them stands behind. A publication is encoded once per encoding and shared.

use std::borrow::Cow;

use serde_json::value::RawValue;

use crate::channel::ChannelName;
use crate::code::{CloseCode, ErrorCode};
use crate::event::Event;
use crate::frame::{Encoding, Frame};
use crate::json::{self, Object};
use crate::metric::push_tags;
use crate::position::{Epoch, Position, Sequence};
use crate::request::RequestId;
use crate::session_id::SessionId;

/// One message to a client. Fields are written in the order they have here.
#[derive(Debug)]
#[expect(missing_docs, reason = "the fields are named as docs/protocol.md explains them")]
pub enum Answer<'a> {
    /// First message on every connection (document 004).
    Welcome { client_id: SessionId, timestamp_ms: i64 },
    /// Answer to `connect`.
    Connected(Connected<'a>),
    /// Answer to `refresh`.
    Refreshed { expires_at_ms: Option<i64> },
    /// Answer to `subscribe`: where live delivery starts, for channels that have positions.
    Subscribed { channels: &'a [ChannelName], positions: &'a [(ChannelName, Position)] },
    /// Answer to `unsubscribe`.
    Unsubscribed { channels: &'a [ChannelName] },
    /// Answer to `publish` and to client events.
    Ack(Ack<'a>),
    /// A refusal, or bad news without a request.
    Error(ErrorAnswer<'a>),
    /// Heartbeat as a message (document 004).
    Ping { timestamp_ms: i64 },
    /// Answer to a client's `ping`: its own timestamp, in whatever unit it has.
    Pong { timestamp: Option<f64> },
    /// Publications `from..=to` are gone for this subscriber.
    Gap { channel: &'a ChannelName, from: Sequence, to: Sequence, reason: GapReason },
    /// The channel's history was replaced; what was seen before no longer counts.
    Reset { channel: &'a ChannelName, epoch: &'a Epoch, sequence: Sequence },
    /// So many ephemeral publications did not fit.
    Dropped { channel: &'a ChannelName, count: u64 },
    /// So many metric updates were merged into newer ones.
    Conflated { channel: &'a ChannelName, count: u64 },
    /// The subscriber's position moved past publications its filter skips.
    Pos { channel: &'a ChannelName, sequence: Sequence },
    /// Replay is complete up to here; what follows is live.
    ReplayEnd { channel: &'a ChannelName, sequence: Sequence },
    /// Answer to `get_history`.
    History(History<'a>),
    /// Come back after `retry_ms`; the connection will be closed with `code`.
    Reconnect { retry_ms: u32, code: CloseCode },
    /// Send `refresh` before the token runs out.
    TokenExpiring { expires_in_ms: u64 },
}

/// A session that a connection now speaks for.
#[derive(Debug, Clone)]
pub struct Connected<'a> {
    /// Name it in the next `connect` to resume.
    pub session: SessionId,
    /// Whether the session existed before.
    pub resumed: bool,
    /// The token's `sub`.
    pub user: &'a str,
    /// When the token runs out, in milliseconds since 1970.
    pub expires_at_ms: Option<i64>,
    /// How often the server sends a heartbeat.
    pub heartbeat_ms: u32,
    /// The server's incarnation: when it changes, sessions and in-memory history are new.
    pub epoch: Option<&'a str>,
}

/// What became of a request that changes something.
#[derive(Debug)]
pub enum Ack<'a> {
    /// The results of `publish`, in the order of its events. One result is written into the message itself
    /// (a single refusal as an `error` message), several as `results`.
    Published(&'a [Result<Published, Refused>]),
    /// The answer of the application's hook to a client event; `null` on the wire if nested deeper than
    /// [`DEPTH_MAX`](crate::DEPTH_MAX).
    Data(&'a RawValue),
    /// Done, and nothing to say about it.
    Done,
}

/// An accepted event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// Where it went.
    pub channel: ChannelName,
    /// Its place, on channels that keep one.
    pub position: Option<Position>,
    /// Whether it had been accepted before under the same id.
    pub duplicate: bool,
    /// How many sessions of this node it was meant for.
    pub matched: u64,
}

/// An event that was not accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Why.
    pub code: ErrorCode,
    /// What is wrong in this case; may be empty.
    pub detail: String,
}

/// A refusal and what the client can do about it.
#[derive(Debug, Clone)]
pub struct ErrorAnswer<'a> {
    /// Why.
    pub code: ErrorCode,
    /// What is wrong in this case; may be empty.
    pub detail: Cow<'a, str>,
    /// The channel it is about, in a request about several.
    pub channel: Option<Cow<'a, str>>,
    /// When to try again.
    pub retry_after_ms: Option<u32>,
}

impl ErrorAnswer<'_> {
    /// A refusal without details.
    #[must_use]
    pub fn new(code: ErrorCode) -> Self {
        Self { code, detail: Cow::Borrowed(""), channel: None, retry_after_ms: None }
    }

    /// The object without the request's id, as it also stands in HTTP answers.
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

/// Why publications are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GapReason {
    /// Retention removed them.
    Trimmed,
    /// The store could not read them.
    Corrupt,
}

impl GapReason {
    /// The name on the wire and in metric labels.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Trimmed => "trimmed",
            Self::Corrupt => "corrupt",
        }
    }
}

/// A page of what a channel said earlier.
#[derive(Debug, Clone)]
pub struct History<'a> {
    /// The channel that was asked for.
    pub channel: &'a ChannelName,
    /// The epoch its sequences count in, on channels that have one.
    pub epoch: Option<&'a Epoch>,
    /// Complete JSON messages, oldest first: payloads of frames that [`encode_event`] or `encode_grouped`
    /// made.
    pub events: &'a [&'a [u8]],
    /// Ask again from here for the next page; absent on the last.
    pub next_sequence: Option<Sequence>,
}

/// An accepted event and its place in its channel.
#[derive(Debug, Clone, Copy)]
pub struct Publication<'a> {
    /// What was published.
    pub event: &'a Event,
    /// Its place; none on ephemeral channels.
    pub sequence: Option<Sequence>,
    /// The sequence this subscriber got before, when that is not `sequence - 1`.
    pub previous: Option<Sequence>,
    /// When it was accepted, in milliseconds since 1970.
    pub timestamp_ms: i64,
    /// Who published it; none for the server and for API keys.
    pub user: Option<&'a str>,
}

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
            Self::Conflated { .. } => "conflated",
            Self::Pos { .. } => "pos",
            Self::ReplayEnd { .. } => "replay_end",
            Self::History(_) => "history",
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
            Self::Dropped { channel, count } | Self::Conflated { channel, count } => {
                object.text("channel", channel.as_str());
                object.shown("count", count);
            }
            Self::Pos { channel, sequence } | Self::ReplayEnd { channel, sequence } => {
                object.text("channel", channel.as_str());
                object.shown("sequence", sequence);
            }
            Self::History(history) => write_history(history, object),
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
    if let Some(epoch) = connected.epoch {
        object.text("epoch", epoch);
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

fn write_history(history: &History<'_>, object: &mut Object<'_>) {
    object.text("channel", history.channel.as_str());
    if let Some(epoch) = history.epoch {
        object.text("epoch", epoch.as_str());
    }
    json::push_list(object.key("events"), history.events.iter(), |out, event| out.extend_from_slice(event));
    object.flag("has_more", history.next_sequence.is_some());
    if let Some(next_sequence) = history.next_sequence {
        object.shown("next_sequence", next_sequence);
    }
}

/// Document 004's control frames carry float seconds.
fn seconds(timestamp_ms: i64) -> f64 {
    timestamp_ms as f64 / 1000.0
}
