//! What an entry of a Redis stream says: an event, or samples of a metric channel.
//!
//! An entry is an event as JSON in its field `event`, or an event whose members are fields, or samples as JSON in its
//! field `samples`. An event without an `id` is given one that is made of the entry's, so that an entry that comes
//! twice is found to be one event.

use std::borrow::Cow;

use pulsewire_protocol::{ChannelName, ErrorCode, Event, MessageId, Sample, read_samples};
use serde_json::value::RawValue;

use super::{MESSAGE_BYTES_MAX, SAMPLES_MAX};

/// A Redis stream whose entries are events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamSource {
    /// The key of the stream.
    pub key: String,
    /// The channel of entries that name none.
    pub channel: Option<ChannelName>,
}

impl StreamSource {
    /// Reads `KEY` or `KEY=CHANNEL`, as settings have it. The last `=` counts: a key may hold one.
    ///
    /// # Errors
    ///
    /// What is wrong, for a person.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (key, channel) = match text.rsplit_once('=') {
            None => (text, None),
            Some((key, channel)) => {
                let channel = ChannelName::parse(channel)
                    .map_err(|error| format!("what follows `=` is no channel: {error}"))?;
                (key, Some(channel))
            }
        };
        if key.is_empty() {
            return Err("the key of a stream is missing".to_owned());
        }
        Ok(Self { key: key.to_owned(), channel })
    }

    /// The key of the stream where refused entries go.
    #[must_use]
    pub fn refused_key(&self) -> String {
        format!("{}:refused", self.key)
    }
}

/// The fields of an entry, in their order.
pub type Fields = Vec<(Vec<u8>, Vec<u8>)>;

/// What an entry is.
#[derive(Debug, Clone)]
pub enum Content {
    /// An event, with an id.
    Event(Box<Event>),
    /// Samples of a metric channel.
    Samples {
        /// The channel.
        channel: ChannelName,
        /// The samples.
        samples: Vec<Sample>,
    },
}

/// Why an entry is refused for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryRefusal {
    /// The code, as publishers over HTTP get it.
    pub code: ErrorCode,
    /// What is wrong, for a person.
    pub detail: String,
}

impl EntryRefusal {
    fn malformed(detail: impl Into<String>) -> Self {
        Self { code: ErrorCode::BadRequest, detail: detail.into() }
    }
}

/// What the names of the fields begin with that [`refused_fields`] puts in front of an entry. They say nothing about
/// the event, so that a refused entry can be added again as it is.
const REFUSED: &str = "refused_";

/// Fields that are texts …
const TEXTS: [&str; 4] = ["channel", "type", "id", "key"];
/// … and fields that are JSON.
const VALUES: [&str; 4] = ["data", "tags", "critical", "timestamp"];

/// Reads an entry.
///
/// # Errors
///
/// Why it is refused for good.
pub fn read_entry(source: &StreamSource, id: &str, fields: &Fields) -> Result<Content, EntryRefusal> {
    let bytes: usize = fields.iter().map(|(name, value)| name.len() + value.len()).sum();
    if bytes > MESSAGE_BYTES_MAX {
        let detail = format!("an entry of {bytes} bytes, more than {MESSAGE_BYTES_MAX}");
        return Err(EntryRefusal { code: ErrorCode::TooLarge, detail });
    }
    let mut said = Vec::with_capacity(fields.len());
    for (name, value) in fields {
        let name =
            std::str::from_utf8(name).map_err(|_| EntryRefusal::malformed("a field's name is no text"))?;
        if name.starts_with(REFUSED) {
            continue;
        }
        if said.iter().any(|(known, _)| *known == name) {
            return Err(EntryRefusal::malformed(format!("the field `{name}` comes twice")));
        }
        said.push((name, &**value));
    }
    let field = |wanted: &str| said.iter().find(|(name, _)| *name == wanted).map(|(_, value)| *value);
    if let Some(samples) = field("samples") {
        only(&said, &["samples", "channel"])?;
        return samples_of(source, field("channel"), samples);
    }
    let mut event = match field("event") {
        Some(event) => {
            only(&said, &["event"])?;
            event_of(source, event)?
        }
        None => event_of(source, object(&said)?.as_bytes())?,
    };
    if event.id.is_none() {
        event.id = Some(message_id(&source.key, id));
    }
    Ok(Content::Event(Box::new(event)))
}

fn only(said: &[(&str, &[u8])], allowed: &[&str]) -> Result<(), EntryRefusal> {
    match said.iter().find(|(name, _)| !allowed.contains(name)) {
        None => Ok(()),
        Some((name, _)) => {
            let detail = format!("the field `{name}` cannot stand beside `{}`", allowed[0]);
            Err(EntryRefusal::malformed(detail))
        }
    }
}

fn event_of(source: &StreamSource, json: &[u8]) -> Result<Event, EntryRefusal> {
    Event::parse_one_for(source.channel.as_ref(), json)
        .map_err(|error| EntryRefusal { code: error.code, detail: error.detail })
}

/// The members of an event that are fields, as the object they would be.
fn object(said: &[(&str, &[u8])]) -> Result<String, EntryRefusal> {
    let mut object = String::from("{");
    for (name, value) in said {
        let not = |what: &str| EntryRefusal::malformed(format!("`{name}` is not {what}"));
        let text = std::str::from_utf8(value).map_err(|_| not("UTF-8"))?;
        let written: Cow<'_, str> = if TEXTS.contains(name) {
            serde_json::to_string(text).expect("a text is JSON").into()
        } else if VALUES.contains(name) {
            // A value that ends the object and begins another is no JSON by itself.
            let value = serde_json::from_str::<&RawValue>(text);
            value.map_err(|_| not("JSON; a text needs its quotation marks"))?.get().into()
        } else {
            let detail = format!(
                "the field `{name}` is not known: use `event`, `samples`, or {}",
                [TEXTS, VALUES].concat().join(", ")
            );
            return Err(EntryRefusal::malformed(detail));
        };
        let comma = if object.len() > 1 { "," } else { "" };
        object.push_str(&format!("{comma}\"{name}\":{written}"));
    }
    object.push('}');
    Ok(object)
}

fn samples_of(
    source: &StreamSource,
    channel: Option<&[u8]>,
    samples: &[u8],
) -> Result<Content, EntryRefusal> {
    let invalid = |detail: String| EntryRefusal { code: ErrorCode::InvalidChannel, detail };
    let named = channel.map(|name| std::str::from_utf8(name).map_err(|_| invalid("no text".to_owned())));
    let named = named.transpose()?.map(ChannelName::parse).transpose();
    let named = named.map_err(|error| invalid(error.to_string()))?;
    let wanted = named.as_ref().or(source.channel.as_ref());
    let batch = read_samples(samples, wanted, SAMPLES_MAX)
        .map_err(|error| EntryRefusal { code: error.code, detail: error.detail })?;
    let mut channels = batch.channels.into_iter();
    match (channels.next(), channels.next(), batch.refused.into_iter().next()) {
        (Some(_), Some(_), _) => {
            Err(EntryRefusal::malformed("its samples are for several channels; make an entry for each"))
        }
        (Some(of), None, None) => Ok(Content::Samples { channel: of.channel, samples: of.samples }),
        // Half an entry could neither be acknowledged nor refused.
        (_, None, Some(wrong)) => {
            let detail = format!("sample {}: {}", wrong.index.unwrap_or(0), wrong.detail);
            Err(EntryRefusal { code: wrong.code, detail })
        }
        (None, ..) => Err(EntryRefusal::malformed("it has no samples")),
    }
}

/// The message id of an entry's event: `redis:KEY:ENTRY`. A key that does not fit, or is no printable ASCII, is
/// replaced by 16 hex digits that stand for it.
fn message_id(key: &str, entry: &str) -> MessageId {
    let short = || {
        let id = format!("redis:{:016x}:{entry}", digest(key));
        MessageId::parse(&id).expect("an entry's id is two numbers of 20 digits at most")
    };
    MessageId::parse(&format!("redis:{key}:{entry}")).unwrap_or_else(short)
}

/// FNV-1a: stays the same over versions, and operators choose the few keys there are.
fn digest(key: &str) -> u64 {
    key.bytes().fold(0xcbf2_9ce4_8422_2325, |digest, byte| {
        (digest ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// The fields of a refused entry, as they go to [`StreamSource::refused_key`]: what it was, why it was refused, and its
/// own fields, but for those of one that is too large.
#[must_use]
pub fn refused_fields(id: &str, refusal: &EntryRefusal, fields: &Fields) -> Fields {
    let said = |name: &str, value: &str| (format!("{REFUSED}{name}").into_bytes(), value.as_bytes().to_vec());
    let mut written =
        vec![said("id", id), said("code", refusal.code.name()), said("reason", &refusal.detail)];
    if refusal.code != ErrorCode::TooLarge {
        let own = fields.iter().filter(|(name, _)| !name.starts_with(REFUSED.as_bytes()));
        written.extend(own.cloned());
    }
    written
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fields(text: &[(&str, &str)]) -> Fields {
        text.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec())).collect()
    }

    fn read(source: &str, said: &[(&str, &str)]) -> String {
        let source = StreamSource::parse(source).unwrap();
        match read_entry(&source, "1700000000000-7", &fields(said)) {
            Err(refusal) => format!("{}: {}", refusal.code.name(), refusal.detail),
            Ok(Content::Event(event)) => format!(
                "{} {} {} {} key={} tags={:?} critical={:?} at={:?}",
                event.channel,
                event.event_type.as_str(),
                event.id.as_ref().unwrap().as_str(),
                event.data.get(),
                event.key.as_deref().unwrap_or_default(),
                event.tags.get("env"),
                event.critical,
                event.timestamp_ms,
            ),
            Ok(Content::Samples { channel, samples }) => {
                let samples: Vec<String> = samples
                    .iter()
                    .map(|sample| format!("{}={}", sample.name, sample.value.as_f64()))
                    .collect();
                format!("{channel} {}", samples.join(" "))
            }
        }
    }

    #[test]
    fn an_entry_is_an_event_as_json_or_as_fields() {
        let made = "redis:orders:1700000000000-7";
        let end = "key= tags=None critical=None at=None";
        assert_eq!(
            read("orders", &[("event", r#"{"channel":"run:1","type":"note","data":{"a":1}}"#)]),
            format!("run:1 note {made} {{\"a\":1}} {end}")
        );
        assert_eq!(
            read("orders=run:2", &[("event", r#"{"type":"note","id":"mine"}"#)]),
            format!("run:2 note mine null {end}")
        );
        assert_eq!(
            read("orders=run:2", &[("event", r#"{"channel":"run:1","type":"note"}"#)]),
            format!("run:1 note {made} null {end}"),
            "what it names itself counts"
        );
        assert_eq!(
            read(
                "orders=run:2",
                &[
                    ("type", "note"),
                    ("data", r#" "it's \"quoted\"" "#),
                    ("key", "k\"1"),
                    ("tags", r#"{"env":"prod"}"#),
                    ("critical", "true"),
                    ("timestamp", "1700000000123"),
                    ("refused_reason", "of last time")
                ]
            ),
            format!(
                "run:2 note {made} \"it's \\\"quoted\\\"\" key=k\"1 tags=Some(\"prod\") critical=Some(true) \
                 at=Some(1700000000123)"
            )
        );
    }

    #[test]
    fn what_is_no_event_is_refused_and_told_why() {
        let bad = |said: &[(&str, &str)]| read("orders", said);
        assert_eq!(bad(&[]), "bad_request: `type` is missing");
        assert_eq!(bad(&[("type", "note")]), "bad_request: `channel` is missing");
        assert_eq!(
            bad(&[("channel", "run:1"), ("type", "note"), ("data", "hello")]),
            "bad_request: `data` is not JSON; a text needs its quotation marks"
        );
        let smuggled = r#"1,"channel":"run:2""#;
        assert!(bad(&[("channel", "run:1"), ("type", "note"), ("data", smuggled)]).contains("is not JSON"));
        assert!(bad(&[("chanel", "run:1"), ("type", "note")]).contains("`chanel` is not known"));
        assert_eq!(bad(&[("type", "a"), ("type", "b")]), "bad_request: the field `type` comes twice");
        assert_eq!(
            bad(&[("event", "{}"), ("type", "b")]),
            "bad_request: the field `type` cannot stand beside `event`"
        );
        assert!(bad(&[("event", "[]")]).contains("not an object"));
        assert!(bad(&[("channel", "a b"), ("type", "b")]).starts_with("invalid_channel"));
        let large = "x".repeat(MESSAGE_BYTES_MAX);
        assert!(bad(&[("event", &large)]).starts_with("too_large"));
    }

    #[test]
    fn an_entry_with_samples_is_for_one_metric_channel() {
        let one = r#"{"name":"cpu","value":1.5}"#;
        assert_eq!(read("numbers=a.metrics", &[("samples", one)]), "a.metrics cpu=1.5");
        assert_eq!(
            read("numbers=a.metrics", &[("samples", one), ("channel", "b.metrics")]),
            "b.metrics cpu=1.5"
        );
        let named = r#"[{"channel":"c.metrics","name":"cpu","value":1},{"channel":"c.metrics","name":"mem","value":2}]"#;
        assert_eq!(read("numbers", &[("samples", named)]), "c.metrics cpu=1 mem=2");
        let two = r#"[{"channel":"c.metrics","name":"cpu","value":1},{"channel":"d.metrics","name":"mem","value":2}]"#;
        assert!(read("numbers", &[("samples", two)]).contains("several channels"));
        assert!(read("numbers", &[("samples", "[]")]).contains("no samples"));
        let half = read("numbers=a.metrics", &[("samples", r#"[{"name":"cpu","value":1},{"name":"cpu"}]"#)]);
        assert!(half.starts_with("bad_request: sample 1"), "{half}");
    }

    #[test]
    fn a_stream_is_a_key_and_perhaps_a_channel() {
        assert_eq!(StreamSource::parse("a=b=run:1").unwrap().key, "a=b");
        assert_eq!(StreamSource::parse("a").unwrap().refused_key(), "a:refused");
        for wrong in ["", "=run:1", "a=", "a=run 1"] {
            assert!(StreamSource::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_refused_entry_can_be_added_again_as_it_is() {
        let refusal = EntryRefusal { code: ErrorCode::UnknownChannel, detail: "no such channel".to_owned() };
        let own = fields(&[("channel", "run:1"), ("type", "note")]);
        let once = refused_fields("5-0", &refusal, &own);
        assert_eq!(
            once[..3],
            fields(&[
                ("refused_id", "5-0"),
                ("refused_code", "unknown_channel"),
                ("refused_reason", "no such channel")
            ])
        );
        assert_eq!(once[3..], own);
        assert_eq!(
            refused_fields("5-0", &refusal, &once),
            once,
            "a second refusal takes the place of the first"
        );
        assert!(read_entry(&StreamSource::parse("a").unwrap(), "6-0", &once).is_ok());
        let large = EntryRefusal { code: ErrorCode::TooLarge, detail: String::new() };
        assert_eq!(refused_fields("5-0", &large, &own).len(), 3);
    }

    proptest! {
        /// Whatever the key and the entry are, the id is one, the same each time, and another entry's is another.
        #[test]
        fn entries_have_ids_of_their_own(key in ".{1,80}", ms in any::<u64>(), other in any::<u64>(), n in any::<u64>()) {
            let id = |ms: u64| message_id(&key, &format!("{ms}-{n}"));
            prop_assert_eq!(id(ms), id(ms));
            prop_assert_eq!(id(ms) == id(other), ms == other);
        }

        #[test]
        fn no_fields_make_a_panic(
            said in prop::collection::vec(("(event|samples|channel|type|data|tags|critical|[a-z]{1,5})", prop::collection::vec(any::<u8>(), 0..40)), 0..6),
        ) {
            let fields: Fields = said.into_iter().map(|(name, value)| (name.into_bytes(), value)).collect();
            let _ = read_entry(&StreamSource::parse("a=run:1").unwrap(), "1-0", &fields);
        }
    }
}
