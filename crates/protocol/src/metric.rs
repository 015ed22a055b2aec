//! Numbers of metric channels: samples as applications send them, series, points and roll-ups.
//!
//! A *sample* is one measured value on its way in. Samples with the same name and tags are one *series*; a
//! *point* is what a series says at one moment, and with an interval the figures of one window.

mod batch;
mod filter;
mod read;
mod write;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use crate::channel::ChannelName;
use crate::event::Tags;
use crate::json;

pub use batch::{ChannelSamples, SampleBatch, SampleError, SampleFault};
pub use filter::{Filter, FilterError};
pub(crate) use read::read_items;
pub use read::read_samples;
pub use write::{encode_grouped, encode_points};
pub(crate) use write::{push_tags, rfc3339};

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

    /// The kind with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Gauge, Self::Counter, Self::Histogram].into_iter().find(|kind| kind.name() == name)
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

    pub(crate) fn push(self, out: &mut Vec<u8>) {
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

/// One measured value, as it comes in.
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
    /// When it was measured, in milliseconds since 1970; the time of acceptance when absent.
    pub timestamp_ms: Option<i64>,
}

impl Sample {
    /// The longest name in bytes.
    pub const NAME_BYTES_MAX: usize = 128;

    /// Whether a text can be a sample's name: 1 to 128 bytes of `A-Z a-z 0-9 _ : . - /`.
    #[must_use]
    pub fn is_name(text: &str) -> bool {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_:.-/".contains(&byte);
        (1..=Self::NAME_BYTES_MAX).contains(&text.len()) && text.bytes().all(allowed)
    }
}

/// What samples with the same name and tags in one channel have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Series {
    /// Its number: within its channel, for as long as the process runs, no other series has it at the same time.
    pub id: u32,
    /// Dotted name, such as `cpu.percent`.
    pub name: Cow<'static, str>,
    /// What kind of number it is.
    pub kind: MetricKind,
    /// Labels, such as host and environment.
    pub tags: Tags,
}

/// What a series did within one window.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figures {
    /// The newest value.
    pub last: Number,
    /// The smallest value.
    pub min: f64,
    /// The largest value.
    pub max: f64,
    /// All values together.
    pub sum: f64,
    /// How many values there were; at least 1.
    pub count: u64,
    /// The median, within the sketch's error.
    pub p50: f64,
    /// The 95th percentile, likewise.
    pub p95: f64,
    /// The 99th percentile, likewise.
    pub p99: f64,
}

impl Figures {
    /// The mean.
    #[must_use]
    pub fn avg(&self) -> f64 {
        self.sum / self.count as f64
    }
}

/// What a point says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Reading {
    /// One value.
    Value(Number),
    /// The figures of one window.
    Figures(Figures),
}

/// What a series says at one moment, or of one window.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// Of which series.
    pub series: Arc<Series>,
    /// When it was measured, or when its window began; in milliseconds since 1970.
    pub timestamp_ms: i64,
    /// What it says.
    pub reading: Reading,
}

/// What a metric channel says at once.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricSet {
    /// The channel, such as `system.metrics`.
    pub channel: ChannelName,
    /// Its place among everything that the channel has said in this process, from 1: what is newer has a larger one.
    pub number: u64,
    /// How long the windows are that its points are of; none for single values.
    pub interval: Option<Interval>,
    /// The points, in the order they are written. Of a set that is written grouped, points of one moment and
    /// one set of tags must stand together.
    pub points: Vec<Point>,
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
