//! What metric channels say: points, grouped documents, and the figures of windows.
//!
//! Metric data has no message `type` (R1, R26): a point's `type` is its series' kind, a document has none, or a
//! series of that name. Both shapes are read into the same numbers, so an application need not care which it gets.

use std::collections::BTreeMap;

use pulsewire_protocol::{Figures, MetricKind, Number, Reading};
use serde::Deserialize;
use serde_json::Value;

/// A message of a metric channel.
#[derive(Debug, Clone, PartialEq)]
pub struct Metric {
    /// Its channel.
    pub channel: String,
    /// When it was measured, or when its window began; in milliseconds since 1970.
    pub timestamp_ms: i64,
    /// How long its window is, such as `5s`; none for values as they were accepted.
    pub interval: Option<String>,
    /// What the series have in common: host, environment.
    pub tags: BTreeMap<String, String>,
    /// The numbers: one, or those of one moment and one set of tags.
    pub content: Content,
}

/// The two shapes of metric data.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// One series (`"shape":"points"`).
    Point {
        /// Dotted name, such as `cpu.percent`.
        name: String,
        /// What kind of number it is.
        kind: MetricKind,
        /// Of a window the mean of a gauge and the last value of anything else. Not a number if it is not finite.
        value: Number,
        /// Of a window, its figures.
        figures: Option<Figures>,
    },
    /// Several series (`"shape":"grouped"`), in the order of their dotted names. A series that is also the prefix of
    /// another (`cpu` beside `cpu.percent`) is called `cpu.value`, as in the document.
    Document(Vec<(String, Reading)>),
}

impl Metric {
    /// Every series in it with what it says.
    pub fn readings(&self) -> impl Iterator<Item = (&str, Reading)> {
        let (one, many) = match &self.content {
            Content::Point { name, value, figures, .. } => {
                let reading = figures.map_or(Reading::Value(*value), Reading::Figures);
                (Some((name.as_str(), reading)), &[][..])
            }
            Content::Document(readings) => (None, readings.as_slice()),
        };
        one.into_iter().chain(many.iter().map(|(name, reading)| (name.as_str(), *reading)))
    }
}

#[derive(Deserialize)]
struct Wire {
    channel: String,
    timestamp: String,
    #[serde(default)]
    tags: BTreeMap<String, String>,
    #[serde(default)]
    interval: Option<String>,
    #[serde(flatten)]
    rest: serde_json::Map<String, Value>,
}

/// Reads a point or a document; `None` if it is something else.
pub(crate) fn read(text: &str) -> Option<Metric> {
    let Wire { channel, timestamp, tags, interval, rest } = serde_json::from_str(text).ok()?;
    let timestamp_ms = timestamp.parse::<jiff::Timestamp>().ok()?.as_millisecond();
    let content = match rest.get("type") {
        Some(Value::String(kind)) => {
            let Value::String(name) = rest.get("name")? else { return None };
            let kind = [MetricKind::Gauge, MetricKind::Counter, MetricKind::Histogram]
                .into_iter()
                .find(|known| known.name() == kind)?;
            let value = number(rest.get("value")?)?;
            Content::Point { name: name.clone(), kind, value, figures: figures(&rest) }
        }
        _ => {
            let mut readings = Vec::new();
            flatten("", &rest, interval.is_some(), &mut readings)?;
            Content::Document(readings)
        }
    };
    Some(Metric { channel, timestamp_ms, interval, tags, content })
}

/// The leaves of a document under their dotted names. In a window every leaf is an object of figures, and only such
/// an object has a number as its member `last`.
fn flatten(
    prefix: &str,
    members: &serde_json::Map<String, Value>,
    of_window: bool,
    readings: &mut Vec<(String, Reading)>,
) -> Option<()> {
    for (name, value) in members {
        let name = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        match value {
            Value::Object(inner) => match figures(inner).filter(|_| of_window) {
                Some(figures) => readings.push((name, Reading::Figures(figures))),
                None => flatten(&name, inner, of_window, readings)?,
            },
            value => readings.push((name, Reading::Value(number(value)?))),
        }
    }
    Some(())
}

/// A number; what is not finite is written as `null`.
fn number(value: &Value) -> Option<Number> {
    match value {
        Value::Null => Some(Number::Float(f64::NAN)),
        Value::Number(number) => Some(match number.as_i64() {
            Some(whole) => Number::Whole(whole),
            None => Number::Float(number.as_f64()?),
        }),
        _ => None,
    }
}

fn figures(members: &serde_json::Map<String, Value>) -> Option<Figures> {
    let float = |name| number(members.get(name)?).map(Number::as_f64);
    Some(Figures {
        last: number(members.get("last")?)?,
        min: float("min")?,
        max: float("max")?,
        sum: float("sum")?,
        count: members.get("count")?.as_u64().filter(|count| *count > 0)?,
        p50: float("p50")?,
        p95: float("p95")?,
        p99: float("p99")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIGURES: &str = r#""last":75.5,"min":24.5,"max":75.5,"sum":250.0,"count":5,"avg":50.0,"p50":50.0,"p95":75.5,"p99":75.5"#;

    fn numbers(text: &str) -> Vec<(String, f64)> {
        let metric = read(text).unwrap_or_else(|| panic!("not read: {text}"));
        let number = |reading| match reading {
            Reading::Value(value) => value.as_f64(),
            Reading::Figures(figures) => figures.avg(),
        };
        metric.readings().map(|(name, reading)| (name.to_owned(), number(reading))).collect()
    }

    fn named(pairs: &[(&str, f64)]) -> Vec<(String, f64)> {
        pairs.iter().map(|(name, number)| ((*name).to_owned(), *number)).collect()
    }

    #[test]
    fn a_point_is_read_with_its_kind_tags_and_figures() {
        let text = format!(
            r#"{{"channel":"system.metrics","name":"cpu.percent","type":"gauge","value":50.0,"timestamp":"2025-11-08T12:00:00Z","tags":{{"host":"server1"}},"interval":"5s",{FIGURES}}}"#
        );
        let metric = read(&text).unwrap();
        assert_eq!((metric.channel.as_str(), metric.timestamp_ms), ("system.metrics", 1_762_603_200_000));
        assert_eq!((metric.interval.as_deref(), metric.tags["host"].as_str()), (Some("5s"), "server1"));
        let Content::Point { name, kind, value, figures: Some(figures) } = metric.content else {
            panic!("{metric:?}")
        };
        assert_eq!((name.as_str(), kind, value), ("cpu.percent", MetricKind::Gauge, Number::Float(50.0)));
        assert_eq!((figures.last, figures.count, figures.avg()), (Number::Float(75.5), 5, 50.0));
        assert_eq!((figures.min, figures.max, figures.p50, figures.p95), (24.5, 75.5, 50.0, 75.5));
    }

    #[test]
    fn a_document_is_read_as_its_series_under_their_dotted_names() {
        let text = r#"{"channel":"system.metrics","timestamp":"2025-11-08T12:00:00Z","cpu":{"percent":45.2,"count":8},"load":{"value":1,"one":0.5},"success_rate":95.0,"tags":{"env":"p"}}"#;
        assert_eq!(
            numbers(text),
            named(&[
                ("cpu.count", 8.0),
                ("cpu.percent", 45.2),
                ("load.one", 0.5),
                ("load.value", 1.0),
                ("success_rate", 95.0)
            ])
        );
        let metric = read(text).unwrap();
        assert_eq!(metric.tags["env"], "p");
        let Content::Document(readings) = metric.content else { panic!("a point") };
        assert_eq!(readings[0].1, Reading::Value(Number::Whole(8)), "8 cores, not 8.0");
    }

    #[test]
    fn a_window_of_a_document_has_figures_even_of_series_that_are_called_like_figures() {
        let text = format!(
            r#"{{"channel":"a.metrics","timestamp":"2025-11-08T12:00:00Z","cpu":{{"percent":{{{FIGURES}}}}},"calls":{{"last":{{{FIGURES}}},"count":{{{FIGURES}}}}},"interval":"1m"}}"#
        );
        assert_eq!(
            numbers(&text),
            named(&[("calls.count", 50.0), ("calls.last", 50.0), ("cpu.percent", 50.0)])
        );
        assert_eq!(read(&text).unwrap().interval.as_deref(), Some("1m"));
    }

    #[test]
    fn a_series_may_be_called_type_and_a_value_may_be_no_number() {
        let text = r#"{"channel":"a.metrics","timestamp":"2025-11-08T12:00:00Z","type":{"x":1},"lost":null}"#;
        let read = numbers(text);
        assert!(read[0].0 == "lost" && read[0].1.is_nan(), "{read:?}");
        assert_eq!(read[1], ("type.x".to_owned(), 1.0));
    }

    #[test]
    fn what_is_no_metric_data_is_not_taken_for_it() {
        for text in [
            r#"{"type":"event","channel":"run:1","event":"T","timestamp":1}"#,
            r#"{"channel":"a.metrics","timestamp":"2026"}"#,
            r#"{"channel":"a.metrics","timestamp":"2025-11-08T12:00:00Z","cpu":"high"}"#,
            r#"{"channel":"a.metrics","timestamp":"2025-11-08T12:00:00Z","type":"sketch","name":"a","value":1}"#,
            "[]",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
