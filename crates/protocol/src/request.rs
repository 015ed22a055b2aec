//! What a client may say, and the one parser for it.
//!
//! A message is read into one flat struct of untouched values, then a `match` on `type` reads the few it
//! needs: the `id` survives a wrong neighbour, so every refusal can be matched to its request, and a payload
//! is never parsed. Document 004 nests fields under `data`; both nestings are the same message (R21). Depth
//! and UTF-8 are checked on the bytes, before any parser runs.

mod read;
mod report;

use std::borrow::Cow;

use serde_json::value::RawValue;

use crate::code::ErrorCode;
use crate::event::Event;
use crate::json;
use crate::metric::{Filter, Interval, SampleBatch, Shape};
use crate::position::{Position, Sequence};
use crate::session_id::SessionId;
use crate::transcode::{TranscodeError, msgpack_to_json};

pub use report::ClientReport;

/// The `id` of a request: the JSON string or number as the client wrote it, echoed verbatim in the answer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RequestId(Box<str>);

impl RequestId {
    /// The longest id in bytes, quotes and escapes included.
    pub const LEN_BYTES_MAX: usize = 128;

    /// Keeps a JSON string or number; `None` for any other JSON, or one that is too long.
    #[must_use]
    pub fn from_raw(raw: &RawValue) -> Option<Self> {
        let json = raw.get();
        let starts_well = matches!(json.as_bytes().first(), Some(b'"' | b'-' | b'0'..=b'9'));
        (starts_well && json.len() <= Self::LEN_BYTES_MAX).then(|| Self(json.into()))
    }

    /// The id as JSON.
    #[must_use]
    pub fn as_json(&self) -> &str {
        &self.0
    }
}

/// A message from a client.
#[derive(Debug)]
pub struct Request<'a> {
    /// Echoed in the answer.
    pub id: Option<RequestId>,
    /// What is asked.
    pub kind: Kind<'a>,
}

/// What a client asks.
#[derive(Debug)]
#[expect(missing_docs, reason = "the fields are named as docs/protocol.md explains them")]
pub enum Kind<'a> {
    /// Authenticate, resume and subscribe in one message.
    Connect(Connect<'a>),
    /// Replace the token before it runs out.
    Refresh { token: Cow<'a, str> },
    /// Listen to channels.
    Subscribe(Subscribe<'a>),
    /// Stop listening.
    Unsubscribe { channels: Vec<Cow<'a, str>> },
    /// Publish events, in order; one is a list of one.
    Publish(Vec<Event>),
    /// Samples of metric channels, and those that were refused alone.
    Samples(SampleBatch),
    /// Read what a channel said earlier.
    GetHistory(GetHistory<'a>),
    /// Is the server there? Answered by `pong`.
    Ping { timestamp: Option<f64>, report: Option<ClientReport> },
    /// Answer to the server's `ping` message.
    Pong { timestamp: Option<f64>, report: Option<ClientReport> },
    /// The application has handled this channel up to here.
    Receipt { channel: Cow<'a, str>, sequence: Sequence },
    /// Set or clear one's cursor, or without one: who is there?
    Presence { channel: Cow<'a, str>, cursor: Option<&'a RawValue> },
    /// Any other `type`: for the application's hook, if the settings allow it.
    ClientEvent { event_type: Cow<'a, str>, channel: Option<Cow<'a, str>>, data: &'a RawValue },
}

/// The first message, when the token was not in the handshake or a session is to be resumed.
#[derive(Debug, Default)]
pub struct Connect<'a> {
    /// The JWT; not needed when the handshake carried one.
    pub token: Option<Cow<'a, str>>,
    /// The session to resume.
    pub session: Option<SessionId>,
    /// Subscriptions to make at once.
    pub subscribe: Option<Subscribe<'a>>,
    /// How the client wants its heartbeat; the endpoint decides when absent.
    pub heartbeat: Option<Heartbeat>,
}

/// How the server checks that a client is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Heartbeat {
    /// RFC 6455 ping frames, which every WebSocket library answers by itself.
    Frame,
    /// Document 004's `ping` messages, answered by `pong` messages.
    Message,
}

/// Channels to listen to, and how.
#[derive(Debug, Default)]
pub struct Subscribe<'a> {
    /// What to listen to; never empty.
    pub channels: Vec<Wanted<'a>>,
    /// Only publications, and series of metric channels, that pass.
    pub filter: Filter,
    /// How far metric channels are rolled up.
    pub interval: Option<Interval>,
    /// Deliver these channels as MessagePack in binary frames (document 004's `compression`).
    pub compression: bool,
    /// How metric channels are shaped.
    pub shape: Option<Shape>,
}

/// One channel to listen to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted<'a> {
    /// Not yet checked, so that one wrong name can be refused by name.
    pub channel: Cow<'a, str>,
    /// What to send before going live.
    pub replay: Replay,
    /// Whether to send the channel's keyed state before that.
    pub state: bool,
    /// Whether to take part in the channel's presence.
    pub attend: Attend,
}

/// What a subscriber wants of a channel's presence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Attend {
    /// Nothing.
    #[default]
    No,
    /// To see who is there.
    Watch,
    /// To see, and to be seen.
    Join,
}

/// What a subscriber gets before live publications.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Replay {
    /// Nothing.
    Live,
    /// The last so many; more than the channel keeps means all.
    Last(u32),
    /// Everything after a position, or the exact gap.
    Since(Position),
    /// All critical publications that are kept.
    Critical,
    /// What a metric channel's series did in so many milliseconds before now.
    Past(u64),
}

/// A question about a channel's past. Bounds that are absent are open.
#[derive(Debug, Default)]
pub struct GetHistory<'a> {
    /// The channel; not yet checked.
    pub channel: Cow<'a, str>,
    /// Only publications after this position.
    pub since: Option<Position>,
    /// Only from this time on (document 004's `start_time`), in milliseconds since 1970.
    pub start_ms: Option<i64>,
    /// Only before or at this time (document 004's `end_time`), in milliseconds since 1970.
    pub end_ms: Option<i64>,
    /// At most so many; the server has a limit of its own.
    pub limit: Option<u32>,
    /// How far metric channels are rolled up.
    pub interval: Option<Interval>,
    /// How metric channels are shaped.
    pub shape: Option<Shape>,
    /// Only series of metric channels that pass.
    pub filter: Filter,
    /// How long the windows of a metric channel are that an earlier answer had; not yet checked.
    pub resolution: Option<Cow<'a, str>>,
}

/// Why a message was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {detail}")]
pub struct RequestError {
    /// The id of the request, if it could be read.
    pub id: Option<RequestId>,
    /// The code the client gets.
    pub code: ErrorCode,
    /// What is wrong, for the developer of the client.
    pub detail: String,
}

impl RequestError {
    fn bad(detail: impl Into<String>) -> Self {
        Self { id: None, code: ErrorCode::BadRequest, detail: detail.into() }
    }
}

/// Reads one JSON message.
///
/// # Errors
///
/// [`RequestError`]; `bad_request` unless a more precise code fits. The connection lives on.
pub fn parse(json: &[u8]) -> Result<Request<'_>, RequestError> {
    parse_text(std::str::from_utf8(json).map_err(|_| RequestError::bad("message is not UTF-8"))?)
}

/// [`parse`] for a message whose UTF-8 has been checked, as the frame codec does.
///
/// # Errors
///
/// As [`parse`].
pub fn parse_text(json: &str) -> Result<Request<'_>, RequestError> {
    if !json::is_shallow(json.as_bytes()) {
        return Err(RequestError::bad(format!("message nests deeper than {} levels", json::DEPTH_MAX)));
    }
    read::request(json)
}

/// Reads one MessagePack message by way of JSON, so that there is one parser. `scratch` holds the JSON while
/// the request is in use; keep it for the next message, and shrink it when it has grown too large for that.
///
/// # Errors
///
/// As [`parse`]; `too_large` when the JSON would pass [`crate::transcode::output_bytes_max`].
pub fn request_from_msgpack<'s>(
    msgpack: &[u8],
    scratch: &'s mut Vec<u8>,
) -> Result<Request<'s>, RequestError> {
    msgpack_to_json(msgpack, scratch).map_err(|error| {
        let code = match error {
            TranscodeError::TooLarge { .. } => ErrorCode::TooLarge,
            _ => ErrorCode::BadRequest,
        };
        RequestError { id: None, code, detail: error.to_string() }
    })?;
    parse(scratch)
}
