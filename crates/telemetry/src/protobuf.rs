//! The exposition in Prometheus's protobuf form: length-delimited `io.prometheus.client.MetricFamily` messages.
//!
//! Written by hand, because the messages are few and flat: a field is its number and wire type, then a varint, eight
//! bytes, or a length and the bytes. Numbers follow `metrics.proto` of `prometheus/client_model`.

use crate::catalog::{Kind, Point, Value};
use crate::current::Current;
use crate::registry::Telemetry;
use crate::render::{exposed_name, shown, split};
use crate::view::View;

/// `MetricType`.
mod kind {
    pub(super) const COUNTER: u64 = 0;
    pub(super) const GAUGE: u64 = 1;
    pub(super) const HISTOGRAM: u64 = 4;
    pub(super) const GAUGE_HISTOGRAM: u64 = 5;
}

/// The whole exposition. A gauge whose name ends in `_total` is left out, as in OpenMetrics (C11).
#[must_use]
pub fn render_protobuf(telemetry: &Telemetry, current: &Current) -> Vec<u8> {
    let view = View::new(telemetry, current);
    let mut page = Vec::with_capacity(128 * 1024);
    for family in shown(telemetry, false) {
        let name = exposed_name(family, &telemetry.options.alias_prefix);
        let kind = match family.kind {
            Kind::Counter => kind::COUNTER,
            Kind::Gauge | Kind::Info => kind::GAUGE,
            Kind::Histogram => kind::HISTOGRAM,
            Kind::GaugeHistogram => kind::GAUGE_HISTOGRAM,
        };
        let bounds = family.bounds();
        let mut message = head(&name, family.help, kind, family.unit());
        for point in family.points(&view) {
            let mut metric = Message::default();
            for (label, value) in family.labels.iter().zip(&point.labels) {
                metric.label(label.name, value);
            }
            match &point.value {
                Value::Number(number) => metric.number(kind, *number, point.created_ms),
                Value::Histogram(slots) => {
                    let (counts, sum) = split(slots, family);
                    metric.histogram(kind, counts, sum, &bounds, &point);
                }
            }
            message.message(4, &metric);
        }
        message.delimited(&mut page);
    }
    for (name, family) in telemetry.custom().families() {
        let kind = if family.counter { kind::COUNTER } else { kind::GAUGE };
        let mut message = head(&name, crate::render::CUSTOM_HELP, kind, None);
        for (labels, series) in &family.series {
            let mut metric = Message::default();
            for (name, value) in labels {
                metric.label(name, value);
            }
            metric.number(kind, series.value, series.created_ms);
            message.message(4, &metric);
        }
        message.delimited(&mut page);
    }
    page
}

fn head(name: &str, help: &str, kind: u64, unit: Option<&str>) -> Message {
    let mut message = Message::default();
    message.bytes(1, name.as_bytes());
    message.bytes(2, help.as_bytes());
    message.varint(3, kind);
    if let Some(unit) = unit {
        message.bytes(5, unit.as_bytes());
    }
    message
}

/// A message while it is written.
#[derive(Debug, Default)]
struct Message(Vec<u8>);

impl Message {
    fn raw(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn varint(&mut self, field: u64, value: u64) {
        self.raw(field << 3);
        self.raw(value);
    }

    fn double(&mut self, field: u64, value: f64) {
        self.raw(field << 3 | 1);
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.raw(field << 3 | 2);
        self.raw(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn message(&mut self, field: u64, message: &Message) {
        self.bytes(field, &message.0);
    }

    fn delimited(&self, page: &mut Vec<u8>) {
        let mut length = Message::default();
        length.raw(self.0.len() as u64);
        page.extend_from_slice(&length.0);
        page.extend_from_slice(&self.0);
    }

    /// `LabelPair`.
    fn label(&mut self, name: &str, value: &str) {
        let mut pair = Message::default();
        pair.bytes(1, name.as_bytes());
        pair.bytes(2, value.as_bytes());
        self.message(1, &pair);
    }

    /// `Counter` or `Gauge`.
    fn number(&mut self, kind: u64, number: f64, created_ms: u64) {
        let mut value = Message::default();
        value.double(1, number);
        if kind == kind::COUNTER {
            value.message(3, &timestamp(created_ms));
        }
        self.message(if kind == kind::COUNTER { 3 } else { 2 }, &value);
    }

    /// `Histogram`; the bucket of everything is its count, and not written again.
    fn histogram(&mut self, kind: u64, counts: &[u64], sum: f64, bounds: &[f64], point: &Point<'_>) {
        let mut histogram = Message::default();
        histogram.varint(1, counts.iter().sum());
        histogram.double(2, sum);
        let mut seen = 0;
        for (count, bound) in counts.iter().zip(bounds) {
            seen += count;
            let mut bucket = Message::default();
            bucket.varint(1, seen);
            bucket.double(2, *bound);
            histogram.message(3, &bucket);
        }
        if kind == kind::HISTOGRAM {
            histogram.message(15, &timestamp(point.created_ms));
        }
        self.message(7, &histogram);
    }
}

/// `google.protobuf.Timestamp`.
fn timestamp(unix_ms: u64) -> Message {
    let mut timestamp = Message::default();
    timestamp.varint(1, unix_ms / 1_000);
    timestamp.varint(2, unix_ms % 1_000 * 1_000_000);
    timestamp
}
