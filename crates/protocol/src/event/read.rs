//! From untouched values to checked events.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Event, EventError, EventType, MessageId, Tags, tags_of};
use crate::channel::ChannelName;
use crate::code::ErrorCode;
use crate::json::{self, ItemsError};

type Text<'a> = Cow<'a, str>;

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

/// What two of the members are called.
pub(crate) struct Names {
    pub(crate) event_type: &'static str,
    pub(crate) id: &'static str,
}

/// In an event object.
const OBJECT: Names = Names { event_type: "type", id: "id" };

/// In a `publish` message with one event, where `type` and `id` are the message's own.
pub(crate) const MESSAGE: Names = Names { event_type: "event", id: "message_id" };

/// Keeps `null` apart from "absent", which `Option` alone would not.
pub(crate) fn present<'de, D>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error>
where
    D: serde::Deserializer<'de>,
{
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// UTF-8 and depth, before any parser runs.
pub(super) fn checked(json: &[u8]) -> Result<&str, EventError> {
    let text = std::str::from_utf8(json).map_err(|_| bad("body is not UTF-8"))?;
    if !json::is_shallow(json) {
        return Err(bad(format!("nested deeper than {} levels", json::DEPTH_MAX)));
    }
    Ok(text)
}

pub(super) fn read_batch(
    json: &str,
    channel: Option<&ChannelName>,
    limit: usize,
) -> Result<Vec<Event>, EventError> {
    if !json.trim_start().starts_with('[') {
        return Ok(vec![read_one(json, channel)?]);
    }
    read_items(json, channel, limit)
}

pub(crate) fn read_items(
    json: &str,
    channel: Option<&ChannelName>,
    limit: usize,
) -> Result<Vec<Event>, EventError> {
    let items = json::items(json, limit).map_err(|error| match error {
        ItemsError::Other => bad("batch is not a JSON list of events"),
        ItemsError::TooMany => {
            EventError::new(ErrorCode::LimitExceeded, format!("batch has more than {limit} events"))
        }
    })?;
    if items.is_empty() {
        return Err(bad("batch has no events"));
    }
    let read = |(index, item): (usize, &&RawValue)| {
        read_one(item.get(), channel).map_err(|error| EventError { index: Some(index), ..error })
    };
    items.iter().enumerate().map(read).collect()
}

pub(super) fn read_one(json: &str, channel: Option<&ChannelName>) -> Result<Event, EventError> {
    raw_of(json)?.check(channel, &OBJECT)
}

/// The channel is for an event that names none.
pub(super) fn read_one_for(json: &str, channel: Option<&ChannelName>) -> Result<Event, EventError> {
    let raw = raw_of(json)?;
    raw.check(channel.filter(|_| raw.channel.is_none()), &OBJECT)
}

fn raw_of(json: &str) -> Result<RawEvent<'_>, EventError> {
    if !json.trim_start().starts_with('{') {
        return Err(bad("event is not an object"));
    }
    serde_json::from_str(json).map_err(|error| bad(error.to_string()))
}

impl RawEvent<'_> {
    /// `names` are those of the message the members stood in, for the texts of refusals.
    pub(crate) fn check(&self, channel: Option<&ChannelName>, names: &Names) -> Result<Event, EventError> {
        let Names { event_type: type_name, id: id_name } = names;
        let event_type = text(self.event_type, type_name)?;
        let event_type = event_type.ok_or_else(|| bad(format!("`{type_name}` is missing")))?;
        let event_type = EventType::parse(&event_type)
            .ok_or_else(|| bad(format!("`{type_name}` is not 1 to 64 bytes of A-Z a-z 0-9 _ : . - /")))?;
        let data = self.data.unwrap_or(RawValue::NULL).to_owned();
        let mut event = Event::new(self.channel(channel)?, event_type, data);
        if let Some(id) = text(self.id, id_name)? {
            let wrong = || bad(format!("`{id_name}` is not 1 to 64 printable ASCII characters"));
            event.id = Some(MessageId::parse(&id).ok_or_else(wrong)?);
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
