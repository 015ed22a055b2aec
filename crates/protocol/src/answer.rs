//! What the server says to a client, and how it is written.
//!
//! Every message is written as JSON by hand, in a fixed key order, and transcoded for MessagePack
//! connections, so the two encodings cannot differ. Document 004's frames come out byte for byte as it shows
//! them; what extends them stands behind. A publication is encoded once per encoding and shared.

mod write;

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::value::RawValue;

use crate::channel::ChannelName;
use crate::code::{CloseCode, ErrorCode};
use crate::event::Event;
use crate::position::{Epoch, Position, Sequence};
use crate::session_id::SessionId;

pub use write::encode_event;

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
    /// So many publications of an ephemeral channel did not fit, or updates of a metric channel: of that the newest
    /// values follow.
    Dropped { channel: &'a ChannelName, count: u64 },
    /// A metric channel has said nothing since `since_ms`, for three intervals at least.
    Stale { channel: &'a ChannelName, since_ms: i64 },
    /// The subscriber's position moved past publications its filter skips.
    Pos { channel: &'a ChannelName, sequence: Sequence },
    /// Replay is complete up to here; what follows is live.
    ReplayEnd { channel: &'a ChannelName, sequence: Sequence },
    /// A part of the channel's keyed state, for a subscriber that asked for it.
    State(State<'a>),
    /// Answer to `get_history`.
    History(History<'a>),
    /// Answer to `get_history` of a metric channel, and the past that a subscriber asked for.
    Series(SeriesPage<'a>),
    /// Who is there, or what has changed about it.
    Presence(Presence<'a>),
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
    /// The longest that the client should wait between attempts to come back, where that is not
    /// [`BACKOFF_MAX_MS`](crate::client::BACKOFF_MAX_MS).
    pub retry_max_ms: Option<u32>,
    /// The server's incarnation: when it changes, sessions and in-memory history are new.
    pub epoch: Option<&'a str>,
    /// What the client may show instead of its token when it comes back, and how long it lasts in milliseconds.
    pub ticket: Option<(&'a str, u64)>,
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
    /// How many samples were accepted, and which were not: place in the request, code, and what is wrong.
    Samples {
        /// How many were accepted.
        accepted: usize,
        /// The others.
        refused: &'a [(usize, ErrorCode, String)],
    },
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

/// A part of a channel's keyed state.
#[derive(Debug, Clone)]
pub struct State<'a> {
    /// The channel.
    pub channel: &'a ChannelName,
    /// The epoch its sequences count in.
    pub epoch: &'a Epoch,
    /// The newest sequence when the part was read: values may be newer than the subscription's position.
    pub sequence: Sequence,
    /// Complete JSON messages, in the order of their keys: payloads of frames that [`encode_event`] made.
    pub values: &'a [&'a [u8]],
    /// Whether further parts follow.
    pub more: bool,
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
    /// What is gone before the first of the events.
    pub gap: Option<Gap>,
    /// The position asked for belongs to another history or lies ahead; what can be read lies behind this.
    pub reset: Option<Sequence>,
    /// Ask again for what follows this for the next page; absent on the last.
    pub next_sequence: Option<Sequence>,
}

/// What the series of a metric channel did earlier.
#[derive(Debug, Clone)]
pub struct SeriesPage<'a> {
    /// The channel that was asked for.
    pub channel: &'a ChannelName,
    /// How long the windows are: `1s`, `5s`, `10s`, `1m`, `5m` or `1h`.
    pub resolution: &'a str,
    /// The beginning of what was asked for, in milliseconds since 1970.
    pub start_ms: i64,
    /// Its end.
    pub end_ms: i64,
    /// Complete JSON messages, by their time: payloads of frames that `encode_points` or `encode_grouped` made.
    pub events: &'a [&'a [u8]],
    /// Where the answer was cut because it would have been too long: ask again from this moment on.
    pub next_ms: Option<i64>,
}

/// Publications that are gone, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// The first.
    pub from: Sequence,
    /// The last.
    pub to: Sequence,
    /// Why.
    pub reason: GapReason,
}

/// Who is in a channel, as the node that tells it knows.
#[derive(Debug, Clone, Copy)]
pub struct Presence<'a> {
    /// The channel.
    pub channel: &'a ChannelName,
    /// The node that counts the versions, and its incarnation.
    pub node: &'a str,
    /// Grows by one with every change that is told.
    pub version: u64,
    /// What is told.
    pub change: PresenceChange<'a>,
}

/// What is told of a channel's presence.
#[derive(Debug, Clone, Copy)]
pub enum PresenceChange<'a> {
    /// Everybody who is there.
    Snapshot(&'a [Member]),
    /// What has changed since the version before. Each part is left out when it is empty; each value is the
    /// new one, whatever it was before.
    Diff {
        /// Users who were not there before.
        joined: &'a [Member],
        /// Users who are not there any more.
        left: &'a [Arc<str>],
        /// New counts of sessions, of users who were there before.
        sessions: &'a [(Arc<str>, u32)],
        /// New cursors of users who were there before; none for a cursor that is gone.
        cursors: &'a [(Arc<str>, Option<Arc<RawValue>>)],
    },
}

/// A user who is in a channel, with however many sessions.
#[derive(Debug, Clone)]
pub struct Member {
    /// The token's `sub`.
    pub user: Arc<str>,
    /// In how many sessions.
    pub sessions: u32,
    /// Since when, in milliseconds since 1970.
    pub since_ms: i64,
    /// The newest cursor, as its session wrote it.
    pub cursor: Option<Arc<RawValue>>,
}

impl PartialEq for Member {
    fn eq(&self, other: &Self) -> bool {
        let cursor = |member: &Self| member.cursor.as_ref().map(|cursor| cursor.get().to_owned());
        (&self.user, self.sessions, self.since_ms) == (&other.user, other.sessions, other.since_ms)
            && cursor(self) == cursor(other)
    }
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
