//! What an application says: events, checked once where they enter.
//!
//! The payload is kept as the bytes the publisher wrote. Nothing after this file parses it, so a payload
//! costs what it weighs (`docs/protocol.md` R40–R46).

use std::fmt;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::channel::ChannelName;
use crate::code::ErrorCode;
use crate::json;

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

/// Labels that subscriptions filter by: at most 16, keys unique and sorted, each part at most 64 bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tags(Box<[(Box<str>, Box<str>)]>);

impl Tags {
    /// The most tags of one event or filter.
    pub const COUNT_MAX: usize = 16;
    /// The longest key or value in bytes.
    pub const LEN_BYTES_MAX: usize = 64;

    /// Sorts and checks the pairs; `None` when there are too many, too long, empty or repeated keys.
    #[must_use]
    pub fn new<'t>(pairs: impl IntoIterator<Item = (&'t str, &'t str)>) -> Option<Self> {
        let mut tags = Vec::new();
        for (key, value) in pairs {
            let fits =
                !key.is_empty() && key.len() <= Self::LEN_BYTES_MAX && value.len() <= Self::LEN_BYTES_MAX;
            if !fits || tags.len() == Self::COUNT_MAX {
                return None;
            }
            tags.push((key.into(), value.into()));
        }
        tags.sort_unstable();
        let repeated = tags.windows(2).any(|pair: &[(Box<str>, Box<str>)]| pair[0].0 == pair[1].0);
        (!repeated).then(|| Self(tags.into()))
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The pairs, sorted by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (&**key, &**value))
    }

    /// The value of `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.binary_search_by(|(name, _)| (**name).cmp(key)).ok().map(|at| &*self.0[at].1)
    }

    /// Whether every pair of `wanted` is here with the same value (document 004: equality, all must hold).
    #[must_use]
    pub fn contains_all(&self, wanted: &Self) -> bool {
        wanted.iter().all(|(key, value)| self.get(key) == Some(value))
    }
}

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

/// The members of an event object, untouched, so that a wrong one can be named.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawEvent<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    pub(crate) channel: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "type", deserialize_with = "present")]
    pub(crate) event_type: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    pub(crate) data: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    pub(crate) id: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    pub(crate) key: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    pub(crate) tags: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    pub(crate) critical: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    pub(crate) timestamp: Option<&'a RawValue>,
}

/// Keeps `null` apart from "absent", which `Option` alone would not.
pub(crate) fn present<'de, D>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error>
where
    D: serde::Deserializer<'de>,
{
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// UTF-8 and depth, before any parser runs.
fn checked(json: &[u8]) -> Result<&str, EventError> {
    let text = std::str::from_utf8(json).map_err(|_| bad("body is not UTF-8"))?;
    if !json::is_shallow(json) {
        return Err(bad(format!("nested deeper than {} levels", json::DEPTH_MAX)));
    }
    Ok(text)
}

fn read_batch(json: &str, channel: Option<&ChannelName>, limit: usize) -> Result<Vec<Event>, EventError> {
    if !json.trim_start().starts_with('[') {
        return Ok(vec![read_one(json, channel)?]);
    }
    let items: Vec<&RawValue> = serde_json::from_str(json).map_err(|error| bad(error.to_string()))?;
    read_items(&items, channel, limit)
}

pub(crate) fn read_items(
    items: &[&RawValue],
    channel: Option<&ChannelName>,
    limit: usize,
) -> Result<Vec<Event>, EventError> {
    if items.is_empty() {
        return Err(bad("batch has no events"));
    }
    if items.len() > limit {
        let detail = format!("batch has {} events, more than {limit}", items.len());
        return Err(EventError::new(ErrorCode::LimitExceeded, detail));
    }
    let read = |(index, item): (usize, &&RawValue)| {
        read_one(item.get(), channel).map_err(|error| EventError { index: Some(index), ..error })
    };
    items.iter().enumerate().map(read).collect()
}

fn read_one(json: &str, channel: Option<&ChannelName>) -> Result<Event, EventError> {
    if !json.trim_start().starts_with('{') {
        return Err(bad("event is not an object"));
    }
    let raw: RawEvent<'_> = serde_json::from_str(json).map_err(|error| bad(error.to_string()))?;
    raw.check(channel)
}

impl RawEvent<'_> {
    /// For a `publish` message with one event, where `type` and `id` are the message's own.
    pub(crate) fn check_message(&self) -> Result<Event, EventError> {
        self.check(None).map_err(|error| {
            let detail = error.detail.replace("`type`", "`event`").replace("`id`", "`message_id`");
            EventError { detail, ..error }
        })
    }

    fn check(&self, channel: Option<&ChannelName>) -> Result<Event, EventError> {
        let event_type = text(self.event_type, "type")?.ok_or_else(|| bad("`type` is missing"))?;
        let event_type = EventType::parse(&event_type)
            .ok_or_else(|| bad("`type` is not 1 to 64 bytes of A-Z a-z 0-9 _ : . - /"))?;
        let mut event =
            Event::new(self.channel(channel)?, event_type, self.data.unwrap_or(RawValue::NULL).to_owned());
        if let Some(id) = text(self.id, "id")? {
            let id =
                MessageId::parse(&id).ok_or_else(|| bad("`id` is not 1 to 64 printable ASCII characters"))?;
            event.id = Some(id);
        }
        if let Some(key) = text(self.key, "key")? {
            if !(1..=Event::KEY_BYTES_MAX).contains(&key.len()) {
                return Err(bad(format!("`key` is not 1 to {} bytes", Event::KEY_BYTES_MAX)));
            }
            event.key = Some(key.into());
        }
        if let Some(tags) = self.tags {
            event.tags = tags_of(tags)
                .and_then(|pairs| Tags::new(pairs.iter().map(|(key, value)| (&**key, &**value))))
                .ok_or_else(|| bad("`tags` is not an object of at most 16 texts of at most 64 bytes"))?;
        }
        event.critical = typed(self.critical, "critical", "true or false")?;
        event.timestamp_ms = typed(self.timestamp, "timestamp", "milliseconds since 1970")?;
        Ok(event)
    }

    fn channel(&self, wanted: Option<&ChannelName>) -> Result<ChannelName, EventError> {
        let named = text(self.channel, "channel")?;
        let named = named.map(|name| ChannelName::parse(&name)).transpose();
        let named = named.map_err(|error| EventError::new(ErrorCode::InvalidChannel, error.to_string()))?;
        match (named, wanted) {
            (Some(named), Some(wanted)) if named != *wanted => {
                Err(bad("`channel` is not the channel of the path"))
            }
            (Some(named), _) => Ok(named),
            (None, Some(wanted)) => Ok(wanted.clone()),
            (None, None) => Err(bad("`channel` is missing")),
        }
    }
}

type Text<'a> = std::borrow::Cow<'a, str>;

/// The pairs of an object of texts, in the order written; `None` if it is anything else or repeats a key.
pub(crate) fn tags_of(raw: &RawValue) -> Option<Vec<(Text<'_>, Text<'_>)>> {
    struct Pairs;
    impl<'de> serde::de::Visitor<'de> for Pairs {
        type Value = Vec<(&'de RawValue, &'de RawValue)>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut pairs = Vec::new();
            while let Some(pair) = map.next_entry()? {
                pairs.push(pair);
                if pairs.len() > Tags::COUNT_MAX {
                    return Err(serde::de::Error::custom("too many tags"));
                }
            }
            Ok(pairs)
        }
    }
    let mut deserializer = serde_json::Deserializer::from_str(raw.get());
    let pairs = serde::Deserializer::deserialize_map(&mut deserializer, Pairs).ok()?;
    let pairs: Option<Vec<_>> =
        pairs.into_iter().map(|(key, value)| Some((json::text_of(key)?, json::text_of(value)?))).collect();
    pairs.filter(|pairs| (1..pairs.len()).all(|at| pairs[..at].iter().all(|(key, _)| *key != pairs[at].0)))
}

fn text<'a>(raw: Option<&'a RawValue>, name: &str) -> Result<Option<Text<'a>>, EventError> {
    raw.map(|raw| json::text_of(raw).ok_or_else(|| bad(format!("`{name}` is not a text")))).transpose()
}

fn typed<'a, T: Deserialize<'a>>(
    raw: Option<&'a RawValue>,
    name: &str,
    wanted: &str,
) -> Result<Option<T>, EventError> {
    let Some(raw) = raw else { return Ok(None) };
    serde_json::from_str(raw.get()).map(Some).map_err(|_| bad(format!("`{name}` is not {wanted}")))
}

fn bad(detail: impl Into<String>) -> EventError {
    EventError::new(ErrorCode::BadRequest, detail)
}
