//! Document 002's JSON: the figures people look for by name, and every series beside them.
//!
//! `jq .metrics.activeConnections` and `grep retry_count` find what document 002 means by them: streams to other servers.
//! Those of clients stand beside them, with `client` in their names. A figure without a source is left out rather than
//! shown as zero.

use std::collections::BTreeMap;

use pulsewire_edge::clock;
use pulsewire_telemetry::{Current, numbers};
use serde_json::{Map, Value, json};

use super::Surveyed;
use crate::app::App;
use crate::http::health::{Verdict, iso};

/// The whole answer.
pub(super) fn page(app: &App, surveyed: &Surveyed) -> Value {
    let series = numbers(&app.telemetry, &surveyed.current);
    let metrics = figures(&surveyed.current, &series);
    let series: Map<String, Value> = series.into_iter().map(|(name, value)| (name, plain(value))).collect();
    json!({
        "status": Verdict::of(app, surveyed).status(),
        "timestamp": iso(clock::now().wall_ms),
        "metrics": metrics,
        "prometheus": series,
    })
}

/// The figures by name: what is from the survey, what happened from the series.
fn figures(current: &Current, series: &BTreeMap<String, f64>) -> Map<String, Value> {
    let mut figures = Map::new();
    let mut add = |name: &str, value: u64| {
        figures.insert(name.into(), value.into());
    };
    let upstreams = &current.upstreams;
    add("activeConnections", upstreams.active);
    add("activeConnectionsLimit", upstreams.limit);
    add("activeConnectionsHwm", upstreams.high_water);
    add("activeConnectionsHwmToday", upstreams.high_water_today);
    add("streamsUncleaned", upstreams.uncleaned);
    add("clientConnections", current.active_connections());
    add("clientConnectionsLimit", current.connections_hard_limit);
    add("clientConnectionsSoftLimit", current.connections_soft_limit);
    add("detachedSessions", current.sessions_detached);
    add("activeSubscriptions", current.subscriptions);
    add("channels", current.channels);
    add("queuedBytes", current.outbound_queue_bytes.sum());
    add("memoryBytes", current.memory_bytes.iter().sum());
    for (name, family, label) in SUMS {
        let of = |series: &str| {
            let rest = series.strip_prefix(family);
            rest.is_some_and(|labels| {
                (labels.is_empty() || labels.starts_with('{')) && labels.contains(label)
            })
        };
        let mut found = series.iter().filter(|(name, _)| of(name)).map(|(_, value)| *value).peekable();
        if found.peek().is_some() {
            figures.insert((*name).into(), plain(found.sum()));
        }
    }
    figures
}

/// Figures that are sums of a family's series, or of those that have a label.
const SUMS: &[(&str, &str, &str)] = &[
    ("connectAttempts", "ws_manager_connect_attempts_total", ""),
    ("retryCount", "ws_manager_retry_count_total", ""),
    ("streamCreations", "ws_manager_stream_creations_total", ""),
    ("streamCleanups", "ws_manager_stream_cleanups_total", ""),
    ("streamErrors", "ws_manager_stream_errors_total", ""),
    ("clientConnectionsOpened", "websocket_connections_total", r#"status="opened""#),
    ("clientConnectionsClosed", "websocket_connections_total", r#"status="closed""#),
    ("clientConnectionsFailed", "websocket_connections_total", r#"status="failed""#),
    ("reconnections", "pulsewire_reconnections_total", ""),
    ("authFailures", "websocket_auth_failures_total", ""),
    ("messagesReceived", "websocket_messages_total", r#"direction="received""#),
    ("messagesSent", "websocket_messages_total", r#"direction="sent""#),
    ("messagesDropped", "pulsewire_dropped_total", ""),
    ("messageErrors", "websocket_message_errors_total", ""),
    ("eventsEmitted", "websocket_events_emitted_total", ""),
    ("eventsReceived", "websocket_events_received_total", ""),
    ("eventErrors", "websocket_event_errors_total", ""),
    ("heartbeatsSent", "websocket_heartbeats_sent_total", ""),
    ("heartbeatTimeouts", "websocket_heartbeat_timeouts_total", ""),
    ("bytesReceived", "pulsewire_bytes_total", r#"direction="received""#),
    ("bytesSent", "pulsewire_bytes_total", r#"direction="sent""#),
    ("cpuPercent", "websocket_cpu_usage_percent", ""),
];

/// A whole number without `.0`, as JavaScript writes it.
fn plain(value: f64) -> Value {
    // 2^53: above it not every whole number is a float, so the float is shown.
    let whole = value.fract() == 0.0 && value.abs() <= 9_007_199_254_740_992.0;
    if whole { json!(value as i64) } else { json!(value) }
}

#[cfg(test)]
mod tests {
    use pulsewire_telemetry::{Codec, Options, Telemetry, Transport, UpstreamTrack};

    use super::*;

    #[test]
    fn figures_are_sums_over_the_series_they_name() {
        let telemetry = Telemetry::new(Options::default());
        let shard = telemetry.shard();
        shard.connection_opened();
        shard.connection_opened();
        let mut current = Current::default();
        current.connection(Transport::WebSocket, Codec::Json, 3, 70, 5);
        current.subscriptions = 3;
        (current.upstreams.active, current.upstreams.high_water) = (2, 4);
        shard.upstream_attempt(UpstreamTrack::Stable, false);
        shard.upstream_attempt(UpstreamTrack::Canary, true);
        let figures = figures(&current, &numbers(&telemetry, &current));
        assert_eq!((&figures["activeConnections"], &figures["activeConnectionsHwm"]), (&json!(2), &json!(4)));
        assert_eq!((&figures["connectAttempts"], &figures["retryCount"]), (&json!(2), &json!(1)));
        assert_eq!(figures["clientConnections"], 1);
        assert_eq!(figures["activeSubscriptions"], 3);
        assert_eq!(figures["queuedBytes"], 70);
        assert_eq!(figures["clientConnectionsOpened"], 2);
        assert_eq!(figures["clientConnectionsClosed"], 0);
    }

    #[test]
    fn every_sum_has_a_source() {
        let telemetry = Telemetry::new(Options::default());
        let figures = figures(&Current::default(), &numbers(&telemetry, &Current::default()));
        for (name, family, _) in SUMS {
            assert!(figures.contains_key(*name), "{name} comes from {family}");
        }
    }

    #[test]
    fn whole_numbers_have_no_fraction() {
        assert_eq!(plain(3.0).to_string(), "3");
        assert_eq!(plain(0.5).to_string(), "0.5");
        assert_eq!(plain(1e300).to_string(), "1e+300");
    }
}
