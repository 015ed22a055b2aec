//! Samples in JSON: the one reader of what applications send, over HTTP and over a socket.
//!
//! An item is a point of document 004 (`name`, `value` and what belongs to them) or a grouped document (no
//! `name`; every number in it is a sample, and dots join the names). A wrong item, or a wrong member of a grouped
//! document, is refused alone. Whatever is read counts against one bound, so tiny items cannot cost many times
//! their bytes.

use std::borrow::Cow;
use std::collections::HashMap;

use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::{ChannelSamples, MetricKind, Number, Sample, SampleBatch, SampleError, SampleFault};
use crate::channel::ChannelName;
use crate::code::ErrorCode;
use crate::event::{Tags, tags_of};
use crate::json::{self, ItemsError, text_of};

/// The most parts of a grouped document's name, and so how deep its numbers may lie.
const PARTS_MAX: usize = 8;
/// Members of an item that need not be samples: those of a point, and some that do not belong there, so that such
/// an item is refused alone.
const OTHER_MEMBERS_MAX: usize = 64;
/// The last moment that samples can have: the end of the year 9999, milliseconds since 1970.
const TIMESTAMP_MS_MAX: i64 = 253_402_300_799_999;
/// How much of a text from outside is repeated in a refusal, in characters.
const REPEATED_MAX: usize = 64;

/// Reads a body of samples: one item, a list of items, or an object with a list of items as `samples` and
/// perhaps their `channel`. With `channel`, items need not name one and must not name another.
///
/// # Errors
///
/// [`SampleError`] without an index when the body is none of these or has more than `count_max` samples: then
/// nothing was read.
pub fn read_samples(
    json: &[u8],
    channel: Option<&ChannelName>,
    count_max: usize,
) -> Result<SampleBatch, SampleError> {
    let malformed = |detail: String| SampleError::new(SampleFault::Malformed, detail);
    let text = std::str::from_utf8(json).map_err(|_| malformed("body is not UTF-8".into()))?;
    if !json::is_shallow(json) {
        return Err(malformed(format!("nested deeper than {} levels", json::DEPTH_MAX)));
    }
    let text = text.trim_ascii();
    if text.starts_with('[') {
        return read_items(text, channel, count_max);
    }
    let members = json::members(text, count_max.saturating_add(OTHER_MEMBERS_MAX));
    let members = members.map_err(|error| match (error, serde_json::from_str::<IgnoredAny>(text)) {
        (ItemsError::TooMany, _) => too_many(count_max),
        (ItemsError::Other, Err(error)) => malformed(error.to_string()),
        (ItemsError::Other, Ok(_)) => malformed("body is not an object or a list of objects".into()),
    })?;
    let list = members.iter().find(|(key, value)| key == "samples" && value.get().starts_with('['));
    let Some((_, list)) = list else {
        let mut reader = Reader::new(channel, count_max);
        reader.item(0, &members)?;
        return Ok(reader.batch);
    };
    let mut named = None;
    for (key, value) in &members {
        match &**key {
            "samples" if std::ptr::eq(*value, *list) => {}
            "channel" if named.is_none() => named = Some(*value),
            key => {
                return Err(malformed(format!("`{}` does not belong beside `samples`", repeated(key))));
            }
        }
    }
    let named = named.map(|named| channel_of(named, channel)).transpose()?;
    read_items(list.get(), named.as_ref().or(channel), count_max)
}

/// Reads a list of items.
///
/// # Errors
///
/// As [`read_samples`].
pub(crate) fn read_items(
    json: &str,
    channel: Option<&ChannelName>,
    count_max: usize,
) -> Result<SampleBatch, SampleError> {
    let malformed = |detail: String| SampleError::new(SampleFault::Malformed, detail);
    let items = json::items(json, count_max).map_err(|error| match error {
        ItemsError::TooMany => too_many(count_max),
        ItemsError::Other => match serde_json::from_str::<IgnoredAny>(json) {
            Err(error) => malformed(error.to_string()),
            Ok(_) => malformed("not a list of samples".into()),
        },
    })?;
    if items.is_empty() {
        return Err(malformed("there are no samples".into()));
    }
    let mut reader = Reader::new(channel, count_max);
    for (index, item) in items.into_iter().enumerate() {
        match json::members(item.get(), reader.left.saturating_add(OTHER_MEMBERS_MAX)) {
            Ok(members) => reader.item(index, &members)?,
            Err(ItemsError::TooMany) => return Err(too_many(count_max)),
            Err(ItemsError::Other) => {
                reader.spend()?;
                reader.refuse(index, SampleError::new(SampleFault::Malformed, "a sample is an object"));
            }
        }
    }
    Ok(reader.batch)
}

fn too_many(count_max: usize) -> SampleError {
    SampleError::new(SampleFault::BatchMax, format!("more than {count_max} samples"))
}

type Members<'m, 'j> = &'m [(Cow<'j, str>, &'j RawValue)];

struct Reader<'w> {
    wanted: Option<&'w ChannelName>,
    count_max: usize,
    /// How many samples and refusals may still come.
    left: usize,
    batch: SampleBatch,
    places: HashMap<ChannelName, usize>,
}

impl<'w> Reader<'w> {
    fn new(wanted: Option<&'w ChannelName>, count_max: usize) -> Self {
        let batch = SampleBatch::default();
        Self { wanted, count_max, left: count_max, batch, places: HashMap::new() }
    }

    fn spend(&mut self) -> Result<(), SampleError> {
        self.left = self.left.checked_sub(1).ok_or_else(|| too_many(self.count_max))?;
        Ok(())
    }

    fn refuse(&mut self, index: usize, error: SampleError) {
        self.batch.refused.push(SampleError { index: Some(index), ..error });
    }

    /// Reads one item. The error is that there are too many.
    fn item(&mut self, index: usize, members: Members<'_, '_>) -> Result<(), SampleError> {
        let common = match Common::read(members, self.wanted) {
            Ok(common) => common,
            Err(error) => {
                self.spend()?;
                self.refuse(index, error);
                return Ok(());
            }
        };
        let place = self.place(&common.channel);
        if members.iter().any(|(key, _)| key == "name") {
            self.spend()?;
            match common.point(members) {
                Ok(sample) => self.keep(place, index, sample),
                Err(error) => self.refuse(index, error),
            }
            return Ok(());
        }
        if let Some((_, kind)) = members.iter().find(|(key, _)| key == "type")
            && text_of(kind).is_some()
        {
            self.spend()?;
            self.refuse(index, SampleError::new(SampleFault::Name, "`name` is missing"));
            return Ok(());
        }
        let mut name = String::new();
        for (key, value) in members {
            if !matches!(&**key, "channel" | "timestamp" | "tags") {
                self.member(&common, place, index, &mut name, key, value, 1)?;
            }
        }
        Ok(())
    }

    /// Reads a member of a grouped document and what nests in it. `name` is the name so far.
    #[expect(clippy::too_many_arguments, reason = "one walk, and what it carries down")]
    fn member(
        &mut self,
        common: &Common,
        place: usize,
        index: usize,
        name: &mut String,
        key: &str,
        value: &RawValue,
        parts: usize,
    ) -> Result<(), SampleError> {
        let before = name.len();
        if before > 0 {
            name.push('.');
        }
        // A name that is too long stays too long; how long it is does not matter.
        name.extend(key.chars().take(Sample::NAME_BYTES_MAX + 1));
        let outcome = if !Sample::is_name(name) {
            Err(SampleError::new(SampleFault::Name, format!("`{}` {}", repeated(name), wrong_name())))
        } else if parts > PARTS_MAX {
            let detail = format!("`{}` lies deeper than {PARTS_MAX} levels", repeated(name));
            Err(SampleError::new(SampleFault::Name, detail))
        } else {
            number(value).ok_or_else(|| {
                let detail = format!("`{}` is not a finite number", repeated(name));
                SampleError::new(SampleFault::Value, detail)
            })
        };
        let nested = value.get().starts_with('{');
        match outcome {
            Err(error) if error.fault == SampleFault::Value && nested => {
                let limit = self.left.saturating_add(1);
                let members = json::members(value.get(), limit).map_err(|_| too_many(self.count_max))?;
                if members.is_empty() {
                    self.spend()?;
                }
                for (key, value) in members {
                    self.member(common, place, index, name, &key, value, parts + 1)?;
                }
            }
            Err(error) => {
                self.spend()?;
                self.refuse(index, error);
            }
            Ok(value) => {
                self.spend()?;
                let sample = common.sample(name.clone(), MetricKind::Gauge, value);
                self.keep(place, index, sample);
            }
        }
        name.truncate(before);
        Ok(())
    }

    fn place(&mut self, channel: &ChannelName) -> usize {
        if let Some(place) = self.places.get(channel) {
            return *place;
        }
        let place = self.batch.channels.len();
        self.places.insert(channel.clone(), place);
        let channel = channel.clone();
        self.batch.channels.push(ChannelSamples { channel, samples: Vec::new(), indexes: Vec::new() });
        place
    }

    fn keep(&mut self, place: usize, index: usize, sample: Sample) {
        let channel = &mut self.batch.channels[place];
        channel.samples.push(sample);
        channel.indexes.push(index);
    }
}

/// What an item says of all its samples.
struct Common {
    channel: ChannelName,
    timestamp_ms: Option<i64>,
    tags: Tags,
}

impl Common {
    fn read(members: Members<'_, '_>, wanted: Option<&ChannelName>) -> Result<Self, SampleError> {
        let one = |name: &str| {
            let mut found = members.iter().filter(|(key, _)| key == name);
            let first = found.next().map(|(_, value)| *value);
            match found.next() {
                None => Ok(first),
                Some(_) => Err(SampleError::new(SampleFault::Malformed, format!("`{name}` stands twice"))),
            }
        };
        let channel = match (one("channel")?, wanted) {
            (Some(named), wanted) => channel_of(named, wanted)?,
            (None, Some(wanted)) => wanted.clone(),
            (None, None) => return Err(SampleError::new(SampleFault::Channel, "`channel` is missing")),
        };
        let timestamp_ms = one("timestamp")?.map(moment).transpose()?;
        let tags = one("tags")?.map(tags).transpose()?.unwrap_or_default();
        Ok(Self { channel, timestamp_ms, tags })
    }

    fn sample(&self, name: String, kind: MetricKind, value: Number) -> Sample {
        let (tags, timestamp_ms) = (self.tags.clone(), self.timestamp_ms);
        Sample { name: name.into(), kind, value, tags, timestamp_ms }
    }

    fn point(&self, members: Members<'_, '_>) -> Result<Sample, SampleError> {
        let (mut name, mut kind, mut value) = (None, None, None);
        for (key, raw) in members {
            let twice = match &**key {
                "name" => name.replace(*raw).is_some(),
                "type" => kind.replace(*raw).is_some(),
                "value" => value.replace(*raw).is_some(),
                "channel" | "timestamp" | "tags" => false,
                key => {
                    let detail = format!("`{}` is not a member of a sample", repeated(key));
                    return Err(SampleError::new(SampleFault::Malformed, detail));
                }
            };
            if twice {
                return Err(SampleError::new(SampleFault::Malformed, format!("`{key}` stands twice")));
            }
        }
        let name = name
            .and_then(text_of)
            .filter(|name| Sample::is_name(name))
            .ok_or_else(|| SampleError::new(SampleFault::Name, format!("`name` {}", wrong_name())))?;
        let kind = match kind.map(text_of) {
            None => MetricKind::Gauge,
            Some(kind) => kind.and_then(|kind| MetricKind::from_name(&kind)).ok_or_else(|| {
                SampleError::new(SampleFault::Malformed, "`type` is not gauge, counter or histogram")
            })?,
        };
        let value = value.ok_or_else(|| SampleError::new(SampleFault::Value, "`value` is missing"))?;
        let value = number(value)
            .ok_or_else(|| SampleError::new(SampleFault::Value, "`value` is not a finite number"))?;
        Ok(self.sample(name.into_owned(), kind, value))
    }
}

fn channel_of(named: &RawValue, wanted: Option<&ChannelName>) -> Result<ChannelName, SampleError> {
    let fault = |code, detail: String| SampleError { code, ..SampleError::new(SampleFault::Channel, detail) };
    let name =
        text_of(named).ok_or_else(|| fault(ErrorCode::BadRequest, "`channel` is not a text".into()))?;
    let name = match wanted {
        Some(wanted) if wanted.as_str() == name => return Ok(wanted.clone()),
        Some(wanted) => {
            return Err(fault(ErrorCode::BadRequest, format!("`channel` is not `{wanted}`")));
        }
        None => name,
    };
    ChannelName::parse(&name).map_err(|error| fault(ErrorCode::InvalidChannel, error.to_string()))
}

fn moment(raw: &RawValue) -> Result<i64, SampleError> {
    json::moment_ms(raw).filter(|moment| (0..=TIMESTAMP_MS_MAX).contains(moment)).ok_or_else(|| {
        let detail = "`timestamp` is not an RFC 3339 time or milliseconds since 1970";
        SampleError::new(SampleFault::Malformed, detail)
    })
}

fn tags(raw: &RawValue) -> Result<Tags, SampleError> {
    let pairs = tags_of(raw);
    let tags = pairs.and_then(|pairs| Tags::new(pairs.iter().map(|(key, value)| (&**key, &**value))));
    tags.ok_or_else(|| {
        let (count, bytes) = (Tags::COUNT_MAX, Tags::LEN_BYTES_MAX);
        let detail = format!("`tags` is not an object of at most {count} texts of at most {bytes} bytes");
        SampleError::new(SampleFault::Tags, detail)
    })
}

/// A finite number, whole where it is written so.
fn number(raw: &RawValue) -> Option<Number> {
    let text = raw.get();
    if !text.starts_with(|first: char| first == '-' || first.is_ascii_digit()) {
        return None;
    }
    match text.parse() {
        Ok(whole) => Some(Number::Whole(whole)),
        Err(_) => text.parse().ok().filter(|value: &f64| value.is_finite()).map(Number::Float),
    }
}

fn wrong_name() -> String {
    format!("is not 1 to {} bytes of A-Z a-z 0-9 _ : . - /", Sample::NAME_BYTES_MAX)
}

/// The beginning of a text, for a refusal.
fn repeated(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(REPEATED_MAX) {
        None => text.into(),
        Some((end, _)) => format!("{}…", &text[..end]).into(),
    }
}
