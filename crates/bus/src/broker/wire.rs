//! An envelope in bytes.
//!
//! JSON text behind a version and a seal: `1 SEAL {…}`. The payloads of events stay the bytes that their publishers
//! wrote. The seal is an HMAC-SHA256 over the text, cut to 16 bytes: whoever may write to the broker and has not the
//! nodes' key can say nothing (S28). Whatever comes in is checked like input from anybody; an item of a kind
//! that this version does not know is counted and passed over, so that nodes of two versions can work together.

use std::borrow::Cow;
use std::sync::Arc;

use hmac::{Hmac, KeyInit as _, Mac as _};
use pulsewire_protocol::{
    ChannelName, Epoch, Event, EventType, MessageId, MetricKind, Number, Sample, Sequence, Tags,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::Sha256;

use super::{Hint, Item};
use crate::store::Accepted;

/// What several items together may take, bytes; an item that is larger goes alone, or without its events.
pub const PARCEL_BYTES: usize = 256 * 1024;
/// The largest envelope that is read, bytes.
pub const ENVELOPE_BYTES_MAX: usize = 4 << 20;
/// Bytes of the seal, of the 32 of an HMAC-SHA256.
const SEAL_BYTES: usize = 16;
/// The beginning of every envelope: the version of its form.
const VERSION: &str = "1 ";

/// What the nodes of a cluster share, so that they believe each other.
#[derive(Clone)]
pub struct Key(Hmac<Sha256>);

impl Key {
    /// Makes the key of a secret.
    ///
    /// # Panics
    ///
    /// Never: HMAC takes keys of every length.
    #[must_use]
    pub fn new(secret: &[u8]) -> Self {
        Self(Hmac::new_from_slice(secret).expect("HMAC takes keys of every length"))
    }

    /// What [`Envelope::open`] takes, made of the text of an envelope, whatever it says: for tests of what comes in.
    #[must_use]
    pub fn sealed(&self, text: &str) -> String {
        format!("{VERSION}{} {text}", self.seal(text))
    }

    fn seal(&self, text: &str) -> String {
        let sealed = self.0.clone().chain_update(text).finalize().into_bytes();
        hex(&sealed[..SEAL_BYTES])
    }

    fn holds(&self, seal: &str, text: &str) -> bool {
        let Some(seal) = unhex(seal) else { return false };
        // In constant time.
        self.0.clone().chain_update(text).verify_truncated_left(&seal).is_ok()
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(…)")
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn unhex(text: &str) -> Option<[u8; SEAL_BYTES]> {
    let mut bytes = [0; SEAL_BYTES];
    if text.len() != 2 * SEAL_BYTES || !text.is_ascii() {
        return None;
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(bytes)
}

/// What a node says at once.
#[derive(Debug, Clone)]
pub struct Envelope {
    /// The node's name, another one after each of its starts.
    pub from: Box<str>,
    /// When it was sent by its sender's clock, Unix milliseconds.
    pub sent_ms: i64,
    /// What it says, in order.
    pub items: Vec<Item>,
    /// Items that this version cannot read.
    pub unread: usize,
}

/// Why an envelope is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Larger than [`ENVELOPE_BYTES_MAX`].
    #[error("the envelope is larger than {ENVELOPE_BYTES_MAX} bytes")]
    TooLarge,
    /// Of a form that this version does not know.
    #[error("the envelope has a form that this version does not know")]
    Version,
    /// Sealed with another key: its sender has another `cluster.key`, or is none of the nodes.
    #[error("the envelope was sealed with another key: nodes need the same `cluster.key`")]
    Seal,
    /// Not what an envelope holds.
    #[error("the envelope cannot be read")]
    Malformed,
}

impl Envelope {
    /// An envelope of items.
    #[must_use]
    pub fn new(from: &str, sent_ms: i64, items: Vec<Item>) -> Self {
        Self { from: from.into(), sent_ms, items, unread: 0 }
    }

    /// Seals it.
    #[must_use]
    pub fn seal(&self, key: &Key) -> String {
        let items = self.items.iter().map(Written::of).collect();
        let written = Outside { from: Cow::Borrowed(&self.from), at: self.sent_ms, items };
        // Texts, numbers and JSON that was read before: all of that can be written.
        let text = serde_json::to_string(&written).unwrap_or_default();
        key.sealed(&text)
    }

    /// Opens what was sealed with the same key.
    ///
    /// # Errors
    ///
    /// Why it is not believed.
    pub fn open(bytes: &[u8], key: &Key) -> Result<Self, OpenError> {
        if bytes.len() > ENVELOPE_BYTES_MAX {
            return Err(OpenError::TooLarge);
        }
        let text = std::str::from_utf8(bytes).map_err(|_| OpenError::Malformed)?;
        let rest = text.strip_prefix(VERSION).ok_or(OpenError::Version)?;
        let (seal, text) = rest.split_once(' ').ok_or(OpenError::Malformed)?;
        if !key.holds(seal, text) {
            return Err(OpenError::Seal);
        }
        let outside: Outside<'_, &RawValue> = serde_json::from_str(text).map_err(|_| OpenError::Malformed)?;
        let all = outside.items.len();
        let items: Vec<Item> = outside.items.into_iter().filter_map(read).collect();
        let unread = all - items.len();
        Ok(Self { from: outside.from.into(), sent_ms: outside.at, items, unread })
    }
}

#[derive(Serialize, Deserialize)]
struct Outside<'e, I> {
    #[serde(borrow)]
    from: Cow<'e, str>,
    at: i64,
    items: Vec<I>,
}

/// An item as it is written.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Written<'e> {
    Committed {
        #[serde(borrow)]
        channel: Cow<'e, str>,
        #[serde(borrow)]
        epoch: Cow<'e, str>,
        head: u64,
        #[serde(borrow, default)]
        events: Vec<WrittenEvent<'e>>,
    },
    Passed {
        #[serde(borrow)]
        channel: Cow<'e, str>,
        #[serde(borrow)]
        events: Vec<WrittenEvent<'e>>,
    },
    Samples {
        #[serde(borrow)]
        channel: Cow<'e, str>,
        #[serde(borrow)]
        samples: Vec<WrittenSample<'e>>,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        recalled: bool,
    },
    Other {
        #[serde(borrow)]
        kind: Cow<'e, str>,
        #[serde(borrow)]
        body: &'e RawValue,
    },
}

#[derive(Serialize, Deserialize)]
struct WrittenEvent<'e> {
    /// Its sequence; 0 if its channel numbers nothing.
    #[serde(rename = "s", default, skip_serializing_if = "is_zero")]
    sequence: u64,
    #[serde(rename = "t", borrow)]
    event_type: Cow<'e, str>,
    #[serde(rename = "d", borrow)]
    data: &'e RawValue,
    #[serde(rename = "i", borrow, default, skip_serializing_if = "Option::is_none")]
    id: Option<Cow<'e, str>>,
    #[serde(rename = "k", borrow, default, skip_serializing_if = "Option::is_none")]
    key: Option<Cow<'e, str>>,
    #[serde(rename = "g", borrow, default, skip_serializing_if = "Vec::is_empty")]
    tags: Vec<(Cow<'e, str>, Cow<'e, str>)>,
    #[serde(rename = "c", default, skip_serializing_if = "Option::is_none")]
    critical: Option<bool>,
    #[serde(rename = "u", borrow, default, skip_serializing_if = "Option::is_none")]
    user: Option<Cow<'e, str>>,
    #[serde(rename = "m")]
    timestamp_ms: i64,
}

#[derive(Serialize, Deserialize)]
struct WrittenSample<'e> {
    #[serde(rename = "n", borrow)]
    name: Cow<'e, str>,
    #[serde(rename = "k", borrow)]
    kind: Cow<'e, str>,
    #[serde(rename = "w", default, skip_serializing_if = "Option::is_none")]
    whole: Option<i64>,
    #[serde(rename = "f", default, skip_serializing_if = "Option::is_none")]
    float: Option<f64>,
    #[serde(rename = "g", borrow, default, skip_serializing_if = "Vec::is_empty")]
    tags: Vec<(Cow<'e, str>, Cow<'e, str>)>,
    #[serde(rename = "m", default, skip_serializing_if = "Option::is_none")]
    timestamp_ms: Option<i64>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl<'e> Written<'e> {
    fn of(item: &'e Item) -> Self {
        match item {
            Item::Committed(Hint { channel, epoch, events, head }) => Self::Committed {
                channel: channel.as_str().into(),
                epoch: epoch.as_str().into(),
                head: head.0,
                events: events.iter().map(|(at, accepted)| WrittenEvent::of(at.0, accepted)).collect(),
            },
            Item::Passed { channel, events } => Self::Passed {
                channel: channel.as_str().into(),
                events: events.iter().map(|accepted| WrittenEvent::of(0, accepted)).collect(),
            },
            Item::Samples { channel, samples, recalled } => Self::Samples {
                channel: channel.as_str().into(),
                samples: samples.iter().map(WrittenSample::of).collect(),
                recalled: *recalled,
            },
            Item::Other { kind, body } => Self::Other { kind: (&**kind).into(), body },
        }
    }
}

impl<'e> WrittenEvent<'e> {
    fn of(sequence: u64, accepted: &'e Accepted) -> Self {
        let Accepted { event, user, timestamp_ms } = accepted;
        Self {
            sequence,
            event_type: event.event_type.as_str().into(),
            data: &event.data,
            id: event.id.as_ref().map(|id| id.as_str().into()),
            key: event.key.as_deref().map(Into::into),
            tags: pairs(&event.tags),
            critical: event.critical,
            user: user.as_deref().map(Into::into),
            timestamp_ms: *timestamp_ms,
        }
    }

    fn read(self, channel: &ChannelName) -> Option<(Sequence, Arc<Accepted>)> {
        let id = match self.id {
            Some(id) => Some(MessageId::parse(&id)?),
            None => None,
        };
        let event = Event {
            channel: channel.clone(),
            event_type: EventType::parse(&self.event_type)?,
            data: self.data.to_owned(),
            id,
            key: self.key.map(Into::into),
            tags: tags(&self.tags)?,
            critical: self.critical,
            timestamp_ms: None,
        };
        let user = self.user.map(Into::into);
        Some((Sequence(self.sequence), Arc::new(Accepted { event, user, timestamp_ms: self.timestamp_ms })))
    }
}

impl<'e> WrittenSample<'e> {
    fn of(sample: &'e Sample) -> Self {
        let (whole, float) = match sample.value {
            Number::Whole(value) => (Some(value), None),
            Number::Float(value) => (None, Some(value)),
        };
        Self {
            name: (&*sample.name).into(),
            kind: sample.kind.name().into(),
            whole,
            float,
            tags: pairs(&sample.tags),
            timestamp_ms: sample.timestamp_ms,
        }
    }

    fn read(self) -> Option<Sample> {
        Some(Sample {
            name: Cow::Owned(self.name.into_owned()),
            kind: MetricKind::from_name(&self.kind)?,
            value: self.whole.map(Number::Whole).or(self.float.map(Number::Float))?,
            tags: tags(&self.tags)?,
            timestamp_ms: self.timestamp_ms,
        })
    }
}

fn pairs(tags: &Tags) -> Vec<(Cow<'_, str>, Cow<'_, str>)> {
    tags.iter().map(|(key, value)| (key.into(), value.into())).collect()
}

fn tags(pairs: &[(Cow<'_, str>, Cow<'_, str>)]) -> Option<Tags> {
    Tags::new(pairs.iter().map(|(key, value)| (&**key, &**value)))
}

fn read(item: &RawValue) -> Option<Item> {
    Some(match serde_json::from_str(item.get()).ok()? {
        Written::Committed { channel, epoch, head, events } => {
            let channel = ChannelName::parse(&channel).ok()?;
            let events: Option<Vec<_>> = events.into_iter().map(|event| event.read(&channel)).collect();
            let events = events?;
            let in_order = events.windows(2).all(|two| two[0].0 < two[1].0);
            if !in_order || events.iter().any(|(at, _)| *at == Sequence::ZERO || at.0 > head) {
                return None;
            }
            let (epoch, head) = (Epoch::parse(&epoch).ok()?, Sequence(head));
            Item::Committed(Hint { channel, epoch, events, head })
        }
        Written::Passed { channel, events } => {
            let channel = ChannelName::parse(&channel).ok()?;
            let events: Option<Vec<_>> =
                events.into_iter().map(|event| Some(event.read(&channel)?.1)).collect();
            Item::Passed { channel, events: events? }
        }
        Written::Samples { channel, samples, recalled } => {
            let samples: Option<Vec<_>> = samples.into_iter().map(WrittenSample::read).collect();
            Item::Samples { channel: ChannelName::parse(&channel).ok()?, samples: samples?, recalled }
        }
        Written::Other { kind, body } => Item::Other { kind: kind.into(), body: body.to_owned() },
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn event(data: &str, id: Option<&str>) -> Arc<Accepted> {
        let event = Event {
            channel: ChannelName::parse("run:1").expect("a name"),
            event_type: EventType::parse("note").expect("a type"),
            data: RawValue::from_string(data.to_owned()).expect("JSON"),
            id: id.and_then(MessageId::parse),
            key: Some("k\"1".into()),
            tags: Tags::new([("a", "é"), ("b", "\n")]).expect("tags"),
            critical: Some(true),
            timestamp_ms: None,
        };
        Arc::new(Accepted { event, user: Some("ann".into()), timestamp_ms: 7 })
    }

    fn every_item() -> Vec<Item> {
        let channel = ChannelName::parse("run:1").expect("a name");
        let epoch = Epoch::parse("e1").expect("an epoch");
        let events = vec![
            (Sequence(3), event("{ \"x\" : [1.0] }", Some("id\"1"))),
            (Sequence(5), event("null", None)),
        ];
        let sample = |value| Sample {
            name: "cpu.percent".into(),
            kind: MetricKind::from_name("gauge").expect("a kind"),
            value,
            tags: Tags::new([("host", "a")]).expect("tags"),
            timestamp_ms: Some(9),
        };
        let hint = Hint::new(channel.clone(), epoch, events);
        vec![
            Item::Committed(hint.clone()),
            Item::Committed(hint.without_events()),
            Item::Passed { channel: channel.clone(), events: vec![event("\"\\u0000\"", None)] },
            Item::Samples {
                channel: channel.clone(),
                samples: vec![sample(Number::Whole(-3)), sample(Number::Float(0.25))],
                recalled: false,
            },
            Item::Samples { channel, samples: Vec::new(), recalled: true },
            Item::Other {
                kind: "beat".into(),
                body: RawValue::from_string("[1, 2]".to_owned()).expect("JSON"),
            },
        ]
    }

    #[test]
    fn what_was_sealed_is_opened_as_it_was() {
        let key = Key::new(b"secret");
        let sealed = Envelope::new("node", 42, every_item()).seal(&key);
        let opened = Envelope::open(sealed.as_bytes(), &key).expect("it holds");
        assert_eq!((&*opened.from, opened.sent_ms, opened.unread), ("node", 42, 0));
        // Every field is in the text of the debug form.
        assert_eq!(format!("{:?}", opened.items), format!("{:?}", every_item()));
    }

    /// Row B10: whoever has not the key can say nothing.
    #[test]
    fn what_another_key_sealed_or_somebody_changed_is_refused() {
        let key = Key::new(b"secret");
        let sealed = Envelope::new("node", 42, every_item()).seal(&key);
        let refused = |text: &str| Envelope::open(text.as_bytes(), &key).expect_err("it does not hold");
        assert_eq!(
            refused(&Envelope::new("node", 42, every_item()).seal(&Key::new(b"other"))),
            OpenError::Seal
        );
        assert_eq!(refused(&sealed.replace("\"head\":5", "\"head\":6")), OpenError::Seal);
        assert_eq!(refused(&sealed.replacen("1 ", "2 ", 1)), OpenError::Version);
        assert_eq!(refused(&sealed[2..]), OpenError::Version);
        assert_eq!(refused("1 00"), OpenError::Malformed);
        assert_eq!(refused(&" ".repeat(ENVELOPE_BYTES_MAX + 1)), OpenError::TooLarge);
    }

    #[test]
    fn items_that_this_version_does_not_know_or_believe_are_counted_and_passed_over() {
        let key = Key::new(b"secret");
        let good = r#"{"other":{"kind":"beat","body":1,"more":2}}"#;
        let unread = [
            r#"{"later":{}}"#,
            r#"{"other":{"kind":"beat"}}"#,
            r#"{"committed":{"channel":"run:1","epoch":"e","head":1,"events":[{"s":2,"t":"a","d":1,"m":1}]}}"#,
            r#"{"committed":{"channel":"run:1","epoch":"e","head":3,"events":[{"s":2,"t":"a","d":1,"m":1},{"s":2,"t":"a","d":1,"m":1}]}}"#,
            r#"{"passed":{"channel":"no name","events":[]}}"#,
            r#"{"samples":{"channel":"a.metrics","samples":[{"n":"a","k":"gauge"}]}}"#,
        ];
        let text = format!(r#"{{"from":"n","at":1,"items":[{good},{}],"later":true}}"#, unread.join(","));
        let sealed = key.sealed(&text);
        let opened = Envelope::open(sealed.as_bytes(), &key).expect("it holds");
        assert_eq!((opened.items.len(), opened.unread), (1, unread.len()));
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), text in ".*") {
            let key = Key::new(b"secret");
            let _ = Envelope::open(&bytes, &key);
            let sealed = key.sealed(&text);
            let _ = Envelope::open(sealed.as_bytes(), &key);
        }
    }
}
