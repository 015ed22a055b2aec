//! Metric data in the two shapes of document 004.
//!
//! *Points* is one flat frame per point; *grouped* is one document per moment and set of tags, in which the dots
//! of a name nest (`cpu.percent` becomes `"cpu":{"percent":…}`). Document 004's members come first, byte for
//! byte as it shows them; what extends them stands behind. Times are RFC 3339 in UTC here, because document 004
//! says so; everywhere else the protocol has whole milliseconds (R8).

use super::{Figures, Interval, MetricKind, MetricSet, Point, Reading, Series};
use crate::channel::ChannelName;
use crate::event::Tags;
use crate::frame::{Encoding, Frame};
use crate::json::Object;

/// Encodes a set as documents: one for each run of points of one moment and one set of tags. Of points with the
/// same name the last counts; a name that is also the prefix of another (`cpu` beside `cpu.percent`) becomes that
/// object's member `value`. Series named `channel`, `timestamp`, `interval` or `tags` would take the place of the
/// document's own members and are left out.
#[must_use]
pub fn encode_grouped(set: &MetricSet, encoding: Encoding) -> Vec<Frame> {
    let together = |a: &Point, b: &Point| a.timestamp_ms == b.timestamp_ms && a.series.tags == b.series.tags;
    let document = |points: &[Point]| {
        Frame::build(encoding, |out| {
            let mut root = Group::default();
            for point in points {
                let Series { name, .. } = &*point.series;
                let first = name.split('.').next();
                if !matches!(first, Some("channel" | "timestamp" | "interval" | "tags")) {
                    root.insert(name, &point.reading);
                }
            }
            let mut object = Object::open(out);
            object.text("channel", set.channel.as_str());
            object.text("timestamp", &rfc3339(points[0].timestamp_ms));
            root.write_members(&mut object);
            if let Some(interval) = set.interval {
                object.text("interval", interval.name());
            }
            if !points[0].series.tags.is_empty() {
                push_tags(object.key("tags"), &points[0].series.tags);
            }
            object.close();
        })
    };
    set.points.chunk_by(together).map(document).collect()
}

/// Encodes each point as its own frame. The `value` of a window is the mean of a gauge and the last value of
/// anything else.
#[must_use]
pub fn encode_points(set: &MetricSet, encoding: Encoding) -> Vec<Frame> {
    let mut moment = (i64::MIN, String::new());
    let mut frames = Vec::with_capacity(set.points.len());
    for point in &set.points {
        if moment.0 != point.timestamp_ms || moment.1.is_empty() {
            moment = (point.timestamp_ms, rfc3339(point.timestamp_ms));
        }
        frames.push(Frame::build(encoding, |out| {
            push_point(out, &set.channel, set.interval, point, &moment.1);
        }));
    }
    frames
}

fn push_point(
    out: &mut Vec<u8>,
    channel: &ChannelName,
    interval: Option<Interval>,
    point: &Point,
    timestamp: &str,
) {
    let Series { name, kind, tags, .. } = &*point.series;
    let mut object = Object::open(out);
    object.text("channel", channel.as_str());
    object.text("name", name);
    object.text("type", kind.name());
    match &point.reading {
        Reading::Value(value) => value.push(object.key("value")),
        Reading::Figures(figures) if *kind == MetricKind::Gauge => object.float("value", figures.avg()),
        Reading::Figures(figures) => figures.last.push(object.key("value")),
    }
    object.text("timestamp", timestamp);
    push_tags(object.key("tags"), tags);
    if let Reading::Figures(figures) = &point.reading {
        if let Some(interval) = interval {
            object.text("interval", interval.name());
        }
        push_figures(&mut object, figures);
    }
    object.close();
}

fn push_figures(object: &mut Object<'_>, figures: &Figures) {
    figures.last.push(object.key("last"));
    object.float("min", figures.min);
    object.float("max", figures.max);
    object.float("sum", figures.sum);
    object.shown("count", figures.count);
    object.float("avg", figures.avg());
    object.float("p50", figures.p50);
    object.float("p95", figures.p95);
    object.float("p99", figures.p99);
}

pub(crate) fn push_tags(out: &mut Vec<u8>, tags: &Tags) {
    let mut object = Object::open(out);
    for (key, value) in tags.iter() {
        object.text(key, value);
    }
    object.close();
}

/// UTC with `Z`; times that no calendar holds are moved to the nearest that one does.
pub(crate) fn rfc3339(timestamp_ms: i64) -> String {
    let bounds = (jiff::Timestamp::MIN.as_millisecond(), jiff::Timestamp::MAX.as_millisecond());
    let timestamp = jiff::Timestamp::from_millisecond(timestamp_ms.clamp(bounds.0, bounds.1));
    timestamp.expect("clamped into the calendar").to_string()
}

#[derive(Default)]
struct Group<'n> {
    reading: Option<&'n Reading>,
    members: Vec<(&'n str, Group<'n>)>,
}

impl<'n> Group<'n> {
    /// Nests at most 8 deep; the rest of a longer name stays one word, so depth is bounded by construction.
    fn insert(&mut self, name: &'n str, reading: &'n Reading) {
        let mut group = self;
        for part in name.splitn(8, '.') {
            let at = group.members.iter().position(|(known, _)| *known == part).unwrap_or_else(|| {
                group.members.push((part, Group::default()));
                group.members.len() - 1
            });
            group = &mut group.members[at].1;
        }
        group.reading = Some(reading);
    }

    fn write_members(&self, object: &mut Object<'_>) {
        for (name, group) in &self.members {
            match group.reading {
                Some(reading) if group.members.is_empty() => push_reading(object.key(name), reading),
                reading => {
                    let mut inner = Object::open(object.key(name));
                    let named_value = group.members.iter().any(|(name, _)| *name == "value");
                    if let Some(reading) = reading.filter(|_| !named_value) {
                        push_reading(inner.key("value"), reading);
                    }
                    group.write_members(&mut inner);
                    inner.close();
                }
            }
        }
    }
}

/// A number, or an object of figures.
fn push_reading(out: &mut Vec<u8>, reading: &Reading) {
    match reading {
        Reading::Value(value) => value.push(out),
        Reading::Figures(figures) => {
            let mut object = Object::open(out);
            push_figures(&mut object, figures);
            object.close();
        }
    }
}
