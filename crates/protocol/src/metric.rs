//! Metric data in the two shapes of document 004.
//!
//! *Points* is one flat frame per sample; *grouped* is one document per channel in which the dots of a
//! sample's name nest (`cpu.percent` becomes `"cpu":{"percent":…}`). Times are RFC 3339 in UTC here, because
//! document 004 says so; everywhere else the protocol has whole milliseconds (R8).

use std::borrow::Cow;
use std::time::Duration;

use crate::channel::ChannelName;
use crate::event::Tags;
use crate::frame::{Encoding, Frame};
use crate::json::{self, Object};

/// What kind of number a sample is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MetricKind {
    /// Goes up and down.
    Gauge,
    /// Only goes up, until its process restarts.
    Counter,
    /// A figure of a distribution, such as a percentile.
    Histogram,
}

impl MetricKind {
    /// The value of `type` in a point.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Gauge => "gauge",
            Self::Counter => "counter",
            Self::Histogram => "histogram",
        }
    }
}

/// A value that keeps whether it is whole: document 004 writes `8` cores but `50.0` percent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Number {
    /// Written with a fraction; `null` when not finite.
    Float(f64),
    /// Written without one.
    Whole(i64),
}

impl Number {
    /// The value as a float, exact below 2^53.
    #[must_use]
    pub fn as_f64(self) -> f64 {
        match self {
            Self::Float(value) => value,
            Self::Whole(value) => value as f64,
        }
    }

    fn push(self, out: &mut Vec<u8>) {
        match self {
            Self::Float(value) => json::push_float(out, value),
            Self::Whole(value) => json::push_shown(out, value),
        }
    }
}

impl From<f64> for Number {
    fn from(value: f64) -> Self {
        Self::Float(value)
    }
}

impl From<i64> for Number {
    fn from(value: i64) -> Self {
        Self::Whole(value)
    }
}

impl From<u64> for Number {
    /// Values above `i64::MAX` become floats.
    fn from(value: u64) -> Self {
        i64::try_from(value).map_or(Self::Float(value as f64), Self::Whole)
    }
}

/// One measured value.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Dotted name, such as `cpu.percent`.
    pub name: Cow<'static, str>,
    /// What kind of number it is.
    pub kind: MetricKind,
    /// The value.
    pub value: Number,
    /// Labels, such as host and environment.
    pub tags: Tags,
}

/// What a metric channel says at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricSet {
    /// The channel, such as `system.metrics`.
    pub channel: ChannelName,
    /// When the values were taken, in milliseconds since 1970.
    pub timestamp_ms: i64,
    /// The values, in the order they are written.
    pub samples: Vec<Sample>,
}

/// How a subscriber wants metric data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Shape {
    /// One document per channel and moment.
    Grouped,
    /// One frame per sample.
    Points,
}

impl Shape {
    /// The value of `shape` in a subscription.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Grouped => "grouped",
            Self::Points => "points",
        }
    }

    /// The shape with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Grouped, Self::Points].into_iter().find(|shape| shape.name() == name)
    }
}

/// The intervals that metric channels are rolled up over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Interval {
    S1,
    S5,
    M1,
    M5,
    H1,
}

impl Interval {
    /// Every interval, shortest first.
    pub const ALL: &[Self] = &[Self::S1, Self::S5, Self::M1, Self::M5, Self::H1];

    /// The value of `aggregation_interval`: `1s`, `5s`, `1m`, `5m`, `1h`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::S1 => "1s",
            Self::S5 => "5s",
            Self::M1 => "1m",
            Self::M5 => "5m",
            Self::H1 => "1h",
        }
    }

    /// How long it lasts.
    #[must_use]
    pub fn duration(self) -> Duration {
        Duration::from_secs(match self {
            Self::S1 => 1,
            Self::S5 => 5,
            Self::M1 => 60,
            Self::M5 => 300,
            Self::H1 => 3600,
        })
    }

    /// The interval with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|interval| interval.name() == name)
    }
}

/// Encodes the whole set as one document. Of samples with the same name the last counts; a name that is also
/// the prefix of another (`cpu` beside `cpu.percent`) becomes that object's member `value`. Samples named
/// `channel` or `timestamp` would take the place of the document's own members and are left out.
#[must_use]
pub fn encode_grouped(set: &MetricSet, encoding: Encoding) -> Frame {
    Frame::build(encoding, |out| {
        let mut root = Group::default();
        for sample in &set.samples {
            if !matches!(sample.name.split('.').next(), Some("channel" | "timestamp")) {
                root.insert(&sample.name, sample.value);
            }
        }
        let mut object = Object::open(out);
        object.text("channel", set.channel.as_str());
        object.text("timestamp", &rfc3339(set.timestamp_ms));
        root.write_members(&mut object);
        object.close();
    })
}

/// Encodes each sample as its own frame.
#[must_use]
pub fn encode_points(set: &MetricSet, encoding: Encoding) -> Vec<Frame> {
    let timestamp = rfc3339(set.timestamp_ms);
    let point = |sample: &Sample| {
        Frame::build(encoding, |out| {
            let mut object = Object::open(out);
            object.text("channel", set.channel.as_str());
            object.text("name", &sample.name);
            object.text("type", sample.kind.name());
            sample.value.push(object.key("value"));
            object.text("timestamp", &timestamp);
            push_tags(object.key("tags"), &sample.tags);
            object.close();
        })
    };
    set.samples.iter().map(point).collect()
}

pub(crate) fn push_tags(out: &mut Vec<u8>, tags: &Tags) {
    let mut object = Object::open(out);
    for (key, value) in tags.iter() {
        object.text(key, value);
    }
    object.close();
}

/// UTC with `Z`; times that no calendar holds are moved to the nearest that one does.
fn rfc3339(timestamp_ms: i64) -> String {
    let bounds = (jiff::Timestamp::MIN.as_millisecond(), jiff::Timestamp::MAX.as_millisecond());
    let timestamp = jiff::Timestamp::from_millisecond(timestamp_ms.clamp(bounds.0, bounds.1));
    timestamp.expect("clamped into the calendar").to_string()
}

#[derive(Default)]
struct Group<'n> {
    value: Option<Number>,
    members: Vec<(&'n str, Group<'n>)>,
}

impl<'n> Group<'n> {
    /// Nests at most 8 deep; the rest of a longer name stays one word, so depth is bounded by construction.
    fn insert(&mut self, name: &'n str, value: Number) {
        let mut group = self;
        for part in name.splitn(8, '.') {
            let at = group.members.iter().position(|(known, _)| *known == part).unwrap_or_else(|| {
                group.members.push((part, Group::default()));
                group.members.len() - 1
            });
            group = &mut group.members[at].1;
        }
        group.value = Some(value);
    }

    fn write_members(&self, object: &mut Object<'_>) {
        for (name, group) in &self.members {
            match group.value {
                Some(value) if group.members.is_empty() => value.push(object.key(name)),
                value => {
                    let mut inner = Object::open(object.key(name));
                    let named_value = group.members.iter().any(|(name, _)| *name == "value");
                    if let Some(value) = value.filter(|_| !named_value) {
                        value.push(inner.key("value"));
                    }
                    group.write_members(&mut inner);
                    inner.close();
                }
            }
        }
    }
}
