//! What an upstream's message means: which channel it is for, and as what event.
//!
//! The payload is handed on as the bytes that came, whole or the part that a pointer names. What cannot be an event is
//! said to be none, with a reason; a message never reaches a channel that its upstream does not feed.

use std::borrow::Cow;
use std::fmt;

use pulsewire_protocol::{Event, EventType, MessageId, is_shallow, transcode};
use serde::de::{Deserialize, Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use super::spec::Upstream;
use super::template::{Pointer, Template, scalar};

/// The type of the events that say how an upstream is; none of its messages can have it.
pub const STATUS_TYPE: &str = "upstream";
/// The type of a message that says nothing else.
const TYPE: &str = "message";
/// The most events that one message can be.
const EACH_MAX: usize = 1_000;

/// How messages are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Codec {
    /// JSON.
    #[default]
    Json,
    /// MessagePack.
    MessagePack,
    /// Text that is no JSON: it becomes a JSON string.
    Text,
}

/// What messages mean.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Mapping {
    /// How they are written.
    pub codec: Codec,
    /// An array whose elements are the messages, if one message holds several.
    pub each: Option<Pointer>,
    /// What has to stand where, for a message to be one; others are passed over.
    pub only: Vec<(Pointer, Box<str>)>,
    /// The key that a message is for, where several share a connection.
    pub route: Option<Template>,
    /// The payload; the whole message if not set.
    pub data: Option<Pointer>,
    /// The event's type; `message` if not set.
    pub event_type: Option<Template>,
    /// The event's key: what it replaces.
    pub event_key: Option<Template>,
    /// The event's message id.
    pub id: Option<Template>,
    /// When it happened: RFC 3339, or a number of seconds, milliseconds, microseconds or nanoseconds.
    pub time: Option<Pointer>,
    /// A number that grows by one with each message of a key.
    pub sequence: Option<Pointer>,
    /// The first of the numbers that a message stands for, where `sequence` is the last.
    pub sequence_first: Option<Pointer>,
}

/// A message, read.
#[derive(Debug)]
pub struct Mapped {
    /// The key it is for; empty if the upstream has no keys.
    pub key: Box<str>,
    /// The first and the last of its numbers, if messages are numbered.
    pub sequence: Option<(u64, u64)>,
    /// The event.
    pub event: Event,
}

/// Why a message is no event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unmapped {
    /// It cannot be read in its upstream's codec, or is nested too deeply.
    Malformed,
    /// It is none of those that are wanted, or names no key: an answer, a heartbeat.
    PassedOver,
    /// Something in it cannot be what it is mapped to.
    Unusable(&'static str),
}

impl Mapping {
    /// Reads a message of a stream that has all keys; each element of it is an event or is none.
    pub fn read(&self, upstream: &Upstream, message: &[u8], take: &mut dyn FnMut(Result<Mapped, Unmapped>)) {
        self.read_for(upstream, "", message, take);
    }

    /// Reads a message of a stream that has `own` to itself, empty if it has all: everything is for that key then,
    /// whatever a message names.
    pub fn read_for(
        &self,
        upstream: &Upstream,
        own: &str,
        message: &[u8],
        take: &mut dyn FnMut(Result<Mapped, Unmapped>),
    ) {
        let mut json = Vec::new();
        let text = match self.codec {
            Codec::Json => std::str::from_utf8(message).ok().map(Cow::Borrowed),
            Codec::Text => {
                std::str::from_utf8(message).ok().map(|text| Cow::Owned(Value::from(text).to_string()))
            }
            Codec::MessagePack => {
                let unpacked = transcode::msgpack_to_json(message, &mut json).ok();
                unpacked.and_then(|()| std::str::from_utf8(&json).ok().map(Cow::Borrowed))
            }
        };
        // What is deeper could not be handed on: readers' parsers go as deep as a message does.
        let text = text.filter(|text| is_shallow(text.as_bytes()));
        let document = text.as_ref().and_then(|text| serde_json::from_str::<&RawValue>(text).ok());
        let Some(document) = document else { return take(Err(Unmapped::Malformed)) };
        let Some(each) = &self.each else { return take(self.one(upstream, own, document)) };
        match each.find(document).and_then(|array| serde_json::from_str::<Elements<'_>>(array.get()).ok()) {
            Some(Elements(None)) => take(Err(Unmapped::Unusable("each"))),
            Some(Elements(Some(elements))) => {
                elements.iter().for_each(|element| take(self.one(upstream, own, element)));
            }
            None => take(Err(Unmapped::PassedOver)),
        }
    }

    fn one(&self, upstream: &Upstream, own: &str, message: &RawValue) -> Result<Mapped, Unmapped> {
        let stands = |(pointer, wanted): &(Pointer, Box<str>)| {
            let found = pointer.find(message);
            found.is_some_and(|found| scalar(found).map_or(found.get() == &**wanted, |text| text == **wanted))
        };
        if !self.only.iter().all(stands) {
            return Err(Unmapped::PassedOver);
        }
        let key = match &self.route {
            _ if !own.is_empty() || !upstream.channel.has_key() => Cow::Borrowed(own),
            Some(route) => route.read("", message).ok_or(Unmapped::PassedOver)?,
            None => Cow::Borrowed(""),
        };
        let read = |template: &Option<Template>, what| match template {
            Some(template) => match template.read(&key, message) {
                Some(text) => Ok(Some(text.into_owned())),
                None => Err(Unmapped::Unusable(what)),
            },
            None => Ok(None),
        };
        let event_type = read(&self.event_type, "type")?;
        let event_type = event_type.as_deref().unwrap_or(TYPE);
        let event_type = EventType::parse(event_type)
            .filter(|_| event_type != STATUS_TYPE)
            .ok_or(Unmapped::Unusable("type"))?;
        let data = match &self.data {
            Some(pointer) => pointer.find(message).ok_or(Unmapped::Unusable("data"))?,
            None => message,
        };
        let number = |pointer: &Option<Pointer>| match pointer {
            Some(pointer) => {
                pointer.find(message).and_then(whole).ok_or(Unmapped::Unusable("sequence")).map(Some)
            }
            None => Ok(None),
        };
        let sequence = number(&self.sequence)?;
        let first = number(&self.sequence_first)?;
        let sequence = sequence.map(|last| (first.unwrap_or(last).min(last), last));
        let channel = upstream.channel.name(&key).ok_or(Unmapped::Unusable("route"))?;
        let mut event = Event::new(channel, event_type, data.to_owned());
        event.id = match read(&self.id, "id")? {
            Some(id) => Some(MessageId::parse(&id).ok_or(Unmapped::Unusable("id"))?),
            None => None,
        };
        event.key = match read(&self.event_key, "key")? {
            Some(key) if (1..=Event::KEY_BYTES_MAX).contains(&key.len()) => Some(key.into()),
            Some(_) => return Err(Unmapped::Unusable("key")),
            None => None,
        };
        event.timestamp_ms = match &self.time {
            Some(pointer) => {
                Some(pointer.find(message).and_then(moment_ms).ok_or(Unmapped::Unusable("time"))?)
            }
            None => None,
        };
        Ok(Mapped { key: key.into(), sequence, event })
    }
}

/// The elements of an array, each as the bytes that it is written in; none if there are too many of them.
struct Elements<'d>(Option<Vec<&'d RawValue>>);

impl<'de> Deserialize<'de> for Elements<'de> {
    fn deserialize<D: Deserializer<'de>>(array: D) -> Result<Self, D::Error> {
        array.deserialize_seq(ElementsVisitor)
    }
}

struct ElementsVisitor;

impl<'de> Visitor<'de> for ElementsVisitor {
    type Value = Elements<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Self::Value, A::Error> {
        let mut elements = Vec::new();
        while let Some(element) = array.next_element()? {
            if elements.len() == EACH_MAX {
                while array.next_element::<IgnoredAny>()?.is_some() {}
                return Ok(Elements(None));
            }
            elements.push(element);
        }
        Ok(Elements(Some(elements)))
    }
}

/// A whole number, also one that is written as a text.
fn whole(value: &RawValue) -> Option<u64> {
    scalar(value)?.parse().ok()
}

/// A moment as Unix milliseconds. Numbers are told apart by their size: seconds until the year 5138. One that no
/// calendar has is none.
fn moment_ms(value: &RawValue) -> Option<i64> {
    let text = scalar(value)?;
    let Ok(number) = text.parse::<f64>() else {
        return Some(text.parse::<jiff::Timestamp>().ok()?.as_millisecond());
    };
    let ms = match number.abs() {
        seconds if seconds < 1e11 => number * 1e3,
        ms if ms < 1e14 => number,
        us if us < 1e17 => number / 1e3,
        _ => number / 1e6,
    };
    let ms = ms.is_finite().then_some(ms as i64)?;
    jiff::Timestamp::from_millisecond(ms).is_ok().then_some(ms)
}

#[cfg(test)]
mod tests;
