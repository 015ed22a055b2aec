//! What a channel said earlier: the question, and the pages that answer it.

use std::collections::BTreeMap;

use pulsewire_protocol::{Interval, Position, Sequence, Shape};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::message::{self, Event, Incoming, ServerError, WirePosition};
use crate::metric::{self, Metric};

/// The most questions of one client that wait for an answer.
pub const QUESTIONS_WAITING_MAX: usize = 100;

/// A question about a channel's past (`get_history`). What is left out is decided by the server (R27, R27a).
#[derive(Debug, Clone, Default, Serialize)]
pub struct Question {
    /// The channel.
    pub channel: String,
    /// From this moment on, in milliseconds since 1970.
    #[serde(rename = "start_time", skip_serializing_if = "Option::is_none")]
    pub start_ms: Option<i64>,
    /// Up to this moment, included.
    #[serde(rename = "end_time", skip_serializing_if = "Option::is_none")]
    pub end_ms: Option<i64>,
    /// After this position; of channels that keep events only.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "wire_position")]
    pub since: Option<Position>,
    /// So many events or points at most; the server has a limit of its own, 1,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// How long the windows of a metric channel are; the server chooses when absent.
    #[serde(
        rename = "aggregation_interval",
        skip_serializing_if = "Option::is_none",
        serialize_with = "interval"
    )]
    pub interval: Option<Interval>,
    /// The shape of a metric channel's answer; points when absent.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "shape")]
    pub shape: Option<Shape>,
    /// Only series with all of these tags.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// Only series that pass this filter (R25).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter: Option<Box<RawValue>>,
}

pub(crate) fn interval<S: serde::Serializer>(interval: &Option<Interval>, out: S) -> Result<S::Ok, S::Error> {
    interval.map(Interval::name).serialize(out)
}

pub(crate) fn shape<S: serde::Serializer>(shape: &Option<Shape>, out: S) -> Result<S::Ok, S::Error> {
    shape.map(Shape::name).serialize(out)
}

fn wire_position<S: serde::Serializer>(position: &Option<Position>, out: S) -> Result<S::Ok, S::Error> {
    position.as_ref().map(WirePosition::of).serialize(out)
}

/// What a channel said earlier, or a part of it.
#[derive(Debug, Clone)]
pub enum Past {
    /// What the series of a metric channel did.
    Series(SeriesPage),
    /// The events of a channel that keeps events.
    Events(EventPage),
}

/// Windows of a metric channel.
#[derive(Debug, Clone)]
pub struct SeriesPage {
    /// The channel.
    pub channel: String,
    /// How long the windows are: `1s`, `5s`, `10s`, `1m`, `5m` or `1h`.
    pub resolution: String,
    /// The windows, by their time.
    pub metrics: Vec<Metric>,
    /// More follows from this moment on, in milliseconds since 1970; none if this is the end.
    pub next_ms: Option<i64>,
    /// The message as it came.
    pub frame: String,
}

/// A page of a channel's events.
#[derive(Debug, Clone)]
pub struct EventPage {
    /// The channel.
    pub channel: String,
    /// The events, oldest first.
    pub events: Vec<Event>,
    /// Events that are gone before the first of these: the first and the last, both included.
    pub gap: Option<(Sequence, Sequence)>,
    /// The position asked for belongs to another history; what there is lies behind this.
    pub reset: Option<Position>,
    /// Ask again for what follows this position; none if this is the end.
    pub next: Option<Position>,
    /// The message as it came.
    pub frame: String,
}

/// Why a question has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HistoryError {
    /// The server refused it.
    #[error("{0}")]
    Refused(ServerError),
    /// [`QUESTIONS_WAITING_MAX`] are waiting already.
    #[error("more than {QUESTIONS_WAITING_MAX} questions wait for an answer")]
    QueueFull,
    /// The client is closed.
    #[error("the client is closed")]
    Closed,
}

#[derive(Deserialize)]
struct Wire<'a> {
    channel: String,
    #[serde(default)]
    resolution: Option<String>,
    #[serde(default)]
    epoch: Option<String>,
    #[serde(borrow)]
    events: Vec<&'a RawValue>,
    #[serde(default)]
    gap: Option<WireGap>,
    #[serde(default)]
    reset: Option<WirePosition>,
    #[serde(default)]
    next_sequence: Option<u64>,
    #[serde(default)]
    next_time: Option<String>,
}

#[derive(Deserialize)]
struct WireGap {
    from: u64,
    to: u64,
}

/// Reads a `history` message; `None` if a part of it cannot be what it should.
pub(crate) fn read(text: &str) -> Option<Past> {
    let wire: Wire<'_> = serde_json::from_str(text).ok()?;
    let (channel, frame) = (wire.channel, text.to_owned());
    if let Some(resolution) = wire.resolution {
        let metrics = wire.events.iter().map(|event| metric::read(event.get())).collect::<Option<_>>()?;
        let next_ms = match wire.next_time {
            Some(time) => Some(time.parse::<jiff::Timestamp>().ok()?.as_millisecond()),
            None => None,
        };
        return Some(Past::Series(SeriesPage { channel, resolution, metrics, next_ms, frame }));
    }
    let event = |event: &&RawValue| match message::read(event.get())? {
        Incoming::Event { event, .. } => Some(Event { replayed: true, ..event }),
        _ => None,
    };
    let next = match (wire.epoch, wire.next_sequence) {
        (Some(epoch), Some(sequence)) => Some(WirePosition { epoch, sequence }.check()?),
        _ => None,
    };
    Some(Past::Events(EventPage {
        channel,
        events: wire.events.iter().map(event).collect::<Option<_>>()?,
        gap: wire.gap.map(|WireGap { from, to }| (Sequence(from), Sequence(to))),
        reset: match wire.reset {
            Some(position) => Some(position.check()?),
            None => None,
        },
        next,
        frame,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_of_a_metric_channel_is_read_with_its_windows() {
        let text = r#"{"type":"history","channel":"a.metrics","resolution":"10s","start_time":"2025-11-08T00:00:00Z","end_time":"2025-11-08T01:00:00Z","events":[{"channel":"a.metrics","name":"x","type":"counter","value":3,"timestamp":"2025-11-08T00:00:00Z","tags":{}}],"has_more":true,"next_time":"2025-11-08T00:20:00Z"}"#;
        let Some(Past::Series(page)) = read(text) else { panic!("not read") };
        assert_eq!((page.channel.as_str(), page.resolution.as_str()), ("a.metrics", "10s"));
        assert_eq!((page.metrics.len(), page.next_ms), (1, Some(1_762_561_200_000)));
        let last =
            text.replace(r#""has_more":true,"next_time":"2025-11-08T00:20:00Z""#, r#""has_more":false"#);
        let Some(Past::Series(page)) = read(&last) else { panic!("not read") };
        assert_eq!(page.next_ms, None);
        let strange = text.replace(r#""value":3"#, r#""value":"x""#);
        assert!(read(&strange).is_none(), "{strange}");
    }

    #[test]
    fn a_page_of_events_is_read_with_what_is_gone_and_where_it_goes_on() {
        let text = r#"{"type":"history","id":"5","channel":"run:42","epoch":"e7","events":[{"type":"event","channel":"run:42","sequence":100,"event":"note","data":1,"timestamp":1}],"gap":{"from":1,"to":99,"reason":"trimmed"},"has_more":true,"next_sequence":100}"#;
        let Some(Past::Events(page)) = read(text) else { panic!("not read") };
        assert_eq!((page.events[0].sequence, page.events[0].replayed), (Some(Sequence(100)), true));
        assert_eq!(page.gap, Some((Sequence(1), Sequence(99))));
        let next = page.next.unwrap();
        assert_eq!((next.epoch.as_str(), next.sequence, page.reset), ("e7", Sequence(100), None));
    }

    #[test]
    fn a_question_is_written_with_what_is_asked_and_nothing_else() {
        let question = Question {
            channel: "a.metrics".to_owned(),
            start_ms: Some(7),
            interval: Some(Interval::M5),
            shape: Some(Shape::Grouped),
            filter: Some(RawValue::from_string(r#"{"host":{"prefix":"w"}}"#.to_owned()).unwrap()),
            ..Question::default()
        };
        assert_eq!(
            serde_json::to_string(&question).unwrap(),
            r#"{"channel":"a.metrics","start_time":7,"aggregation_interval":"5m","shape":"grouped","filter":{"host":{"prefix":"w"}}}"#
        );
    }
}
