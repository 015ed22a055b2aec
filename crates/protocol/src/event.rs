//! What an application says: events, checked once where they enter.
//!
//! The payload is kept as the bytes the publisher wrote. Nothing after this file parses it, so a payload
//! costs what it weighs (`docs/protocol.md` R40–R46).

mod read;
mod tags;

use std::fmt;

use serde_json::value::RawValue;

use crate::channel::ChannelName;
use crate::code::ErrorCode;

pub use tags::Tags;

pub(crate) use read::{MESSAGE, RawEvent, present, read_items};
pub(crate) use tags::tags_of;

use read::{checked, read_batch, read_one, read_one_for};

/// The type of an event, such as `GRAFT`: 1 to 64 bytes of `A-Z a-z 0-9 _ : . - /`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventType(Box<str>);

impl EventType {
    /// The longest type in bytes.
    pub const LEN_BYTES_MAX: usize = 64;

    /// Checks `text` and keeps a copy; `None` if it breaks the grammar.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::is_valid(text).then(|| Self(text.into()))
    }

    pub(crate) fn is_valid(text: &str) -> bool {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_:.-/".contains(&byte);
        (1..=Self::LEN_BYTES_MAX).contains(&text.len()) && text.bytes().all(allowed)
    }

    /// The text of the type.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The publisher's name for an event, its idempotency key: 1 to 64 bytes of printable ASCII.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct MessageId(Box<str>);

impl MessageId {
    /// The longest id in bytes.
    pub const LEN_BYTES_MAX: usize = 64;

    /// Checks `text` and keeps a copy; `None` if it breaks the grammar.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let fits = (1..=Self::LEN_BYTES_MAX).contains(&text.len());
        (fits && text.bytes().all(|byte| (b' '..=b'~').contains(&byte))).then(|| Self(text.into()))
    }

    /// The text of the id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

macro_rules! shows_its_text {
    ($($name:ident)*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    )*};
}
shows_its_text!(EventType MessageId);

/// One event, as its publisher gave it and as the rules allow it.
#[derive(Debug, Clone)]
pub struct Event {
    /// Where it goes.
    pub channel: ChannelName,
    /// What kind of event it is, for the application.
    pub event_type: EventType,
    /// The payload: any JSON, nested at most 32 deep together with its envelope; `null` if absent.
    pub data: Box<RawValue>,
    /// The idempotency key; the bus makes one if absent.
    pub id: Option<MessageId>,
    /// The key whose value this event replaces, 1 to 128 bytes.
    pub key: Option<Box<str>>,
    /// Labels for filters.
    pub tags: Tags,
    /// Whether late joiners must get it; the channel's namespace decides when absent.
    pub critical: Option<bool>,
    /// When it happened for the publisher, in milliseconds since 1970; the time of acceptance when absent.
    pub timestamp_ms: Option<i64>,
}

/// Why a publish request was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{detail}", .index.map(|index| format!("event {index}: ")).unwrap_or_default())]
pub struct EventError {
    /// Which event of a batch is wrong, from 0; `None` when the whole request is.
    pub index: Option<usize>,
    /// The code the client gets.
    pub code: ErrorCode,
    /// What is wrong, for the developer of the client.
    pub detail: String,
}

impl EventError {
    pub(crate) fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        Self { index: None, code, detail: detail.into() }
    }
}

impl Event {
    /// The longest `key` in bytes.
    pub const KEY_BYTES_MAX: usize = 128;

    /// An event with a channel, a type and a payload, and nothing else.
    #[must_use]
    pub fn new(channel: ChannelName, event_type: EventType, data: Box<RawValue>) -> Self {
        let tags = Tags::default();
        Self { channel, event_type, data, id: None, key: None, tags, critical: None, timestamp_ms: None }
    }

    /// Reads one event object.
    ///
    /// # Errors
    ///
    /// [`EventError`] with the code and detail for the client.
    pub fn parse_one(json: &[u8]) -> Result<Self, EventError> {
        read_one(checked(json)?, None)
    }

    /// Like [`parse_one`](Self::parse_one); an object that names no channel is for `channel`.
    ///
    /// # Errors
    ///
    /// As [`parse_one`](Self::parse_one).
    pub fn parse_one_for(channel: Option<&ChannelName>, json: &[u8]) -> Result<Self, EventError> {
        read_one_for(checked(json)?, channel)
    }

    /// Reads one event object or an array of 1 to `limit` of them.
    ///
    /// # Errors
    ///
    /// [`EventError`] for the first event that is wrong; `limit_exceeded` for more than `limit`.
    pub fn parse_batch(json: &[u8], limit: usize) -> Result<Vec<Self>, EventError> {
        read_batch(checked(json)?, None, limit)
    }

    /// Like [`parse_batch`](Self::parse_batch) for a request whose path names the channel: `channel` may be
    /// left out of the objects and must not differ.
    ///
    /// # Errors
    ///
    /// As [`parse_batch`](Self::parse_batch).
    pub fn parse_batch_in(channel: &ChannelName, json: &[u8], limit: usize) -> Result<Vec<Self>, EventError> {
        read_batch(checked(json)?, Some(channel), limit)
    }
}
