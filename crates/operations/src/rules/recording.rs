//! What dashboards and other rules read, so that it is added up once.

use super::query::{JOB, rate};
use super::{File, Group, Rule, record};
use crate::Pack;

pub(super) fn file(_: &Pack) -> File {
    let rules = [counts(), rates(), ratios()].into_iter().flatten().collect();
    File {
        name: "recording",
        about: "Recording rules: what dashboards and other rules read. Names are level:metric:operation.",
        groups: vec![Group { name: "websocket-recording", interval: "30s", rules }],
    }
}

fn counts() -> Vec<Rule> {
    vec![record(
        "job:websocket_active_connections:sum",
        "",
        format!("sum by ({JOB}) (websocket_active_connections)"),
    )]
}

fn rates() -> Vec<Rule> {
    let sums = [
        ("websocket_connections_opened", "websocket_connections_total{status=\"opened\"}"),
        ("websocket_connections_closed", "websocket_connections_total{status=\"closed\"}"),
        ("websocket_connections_failed", "websocket_connections_total{status=\"failed\"}"),
        ("websocket_events_emitted", "websocket_events_emitted_total"),
        ("websocket_events_received", "websocket_events_received_total"),
        ("websocket_event_errors", "websocket_event_errors_total"),
        ("websocket_messages_sent", "websocket_messages_total{direction=\"sent\"}"),
        ("websocket_messages_received", "websocket_messages_total{direction=\"received\"}"),
        ("websocket_messages_dropped", "websocket_messages_dropped_total"),
    ];
    let buckets = [
        "websocket_event_latency_milliseconds_bucket",
        "websocket_message_latency_milliseconds_bucket",
        "websocket_connection_duration_seconds_bucket",
    ];
    let sums = sums.into_iter().map(|(name, series)| record(format!("job:{name}:rate5m"), "", rate(series)));
    let buckets = buckets.into_iter().map(|series| {
        let expr = format!("sum by ({JOB}, le) (rate({series}[5m]))");
        record(format!("job:{series}:rate5m"), "", expr)
    });
    sums.chain(buckets).collect()
}

/// Messages of the protocol itself; the others are events, under their event types.
const PROTOCOL: &str = "metric|ping|pong|welcome|connected|subscribed|unsubscribed|ack|error|gap|reset|dropped|reconnect|history|presence";

fn ratios() -> Vec<Rule> {
    let events = rate(&format!("websocket_messages_total{{direction=\"sent\",type!~\"{PROTOCOL}\"}}"));
    vec![
        record(
            "job:websocket_mean_session_seconds:estimate5m",
            "Little's law: it sees the connections that are open, too, which the histogram of durations does not.",
            "job:websocket_active_connections:sum\n/ (job:websocket_connections_closed:rate5m > 0)"
                .to_owned(),
        ),
        record(
            "job:websocket_memory_per_connection_bytes:ratio",
            "Document 001's question after a leak.",
            format!(
                "sum by ({JOB}) (websocket_memory_usage_bytes)\n/ (job:websocket_active_connections:sum > 0)"
            ),
        ),
        record(
            "job:websocket_fanout:ratio_rate5m",
            "Events sent for each publication accepted: the former count once a recipient, the latter once.",
            format!("{events}\n/ (job:websocket_events_emitted:rate5m > 0)"),
        ),
    ]
}
