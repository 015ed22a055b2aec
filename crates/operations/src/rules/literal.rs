//! The documents' rules to the letter: ruling C10.

use super::{Alert, File, Group, Rule, Severity, alert, record};
use crate::Pack;

/// Name, query, hold, severity, summary, description.
type Written = (&'static str, &'static str, &'static str, Severity, &'static str, &'static str);

use Severity::{Critical, Warning};

const DOCUMENT_000: [Written; 4] = [
    (
        "WebSocketHighErrorRate",
        "sum(rate(websocket_event_errors_total[5m])) > 0.1",
        "2m",
        Warning,
        "High WebSocket error rate detected",
        "WebSocket events are failing at {{ $value }} errors/sec",
    ),
    (
        "WebSocketHighLatency",
        "histogram_quantile(0.95, sum(rate(websocket_event_latency_milliseconds_bucket[5m])) by (le)) > 500",
        "5m",
        Warning,
        "WebSocket event latency degraded",
        "P95 event latency is {{ $value }}ms (threshold: 500ms)",
    ),
    (
        "WebSocketConnectionDrop",
        "rate(websocket_disconnections_total[1m]) > rate(websocket_connections_total[1m]) * 1.5",
        "3m",
        Critical,
        "WebSocket connections dropping rapidly",
        "Disconnection rate exceeds connection rate by 50%",
    ),
    (
        "WebSocketSlowInitialState",
        "histogram_quantile(0.90, sum(rate(websocket_initial_state_latency_milliseconds_bucket[5m])) by (le)) > 1000",
        "5m",
        Warning,
        "WebSocket initial state send is slow",
        "P90 initial state latency is {{ $value }}ms (threshold: 1000ms)",
    ),
];

const DOCUMENT_001: [Written; 7] = [
    (
        "HighWebSocketConnections",
        "websocket_active_connections > 500",
        "5m",
        Warning,
        "High number of WebSocket connections",
        "{{ $value }} active connections (threshold: 500)",
    ),
    (
        "CriticalWebSocketConnections",
        "websocket_active_connections > 1000",
        "2m",
        Critical,
        "Critical number of WebSocket connections",
        "{{ $value }} active connections (threshold: 1000)",
    ),
    (
        "HighWebSocketLatency",
        "histogram_quantile(0.95, rate(websocket_message_latency_milliseconds_bucket[5m])) > 100",
        "5m",
        Warning,
        "High WebSocket message latency",
        "p95 latency: {{ $value }}ms (threshold: 100ms)",
    ),
    (
        "CriticalWebSocketLatency",
        "histogram_quantile(0.95, rate(websocket_message_latency_milliseconds_bucket[5m])) > 500",
        "2m",
        Critical,
        "Critical WebSocket message latency",
        "p95 latency: {{ $value }}ms (threshold: 500ms)",
    ),
    (
        "HighHeartbeatTimeouts",
        "rate(websocket_heartbeat_timeouts_total[5m]) > 0.01",
        "5m",
        Warning,
        "High rate of heartbeat timeouts",
        "{{ $value }} timeouts/sec (threshold: 0.01/sec = 1% of connections)",
    ),
    (
        "HighAuthenticationFailures",
        "rate(websocket_auth_failures_total[5m]) > 0.05",
        "5m",
        Warning,
        "High rate of authentication failures",
        "{{ $value }} failures/sec",
    ),
    (
        "HighConnectionChurn",
        "rate(websocket_connections_total{status=\"closed\"}[5m]) > 1",
        "10m",
        Warning,
        "High connection churn rate",
        "{{ $value }} disconnections/sec - possible reconnection loop",
    ),
];

/// In the document's words, with the shortest query that says the same.
const DOCUMENT_002: [Written; 6] = [
    (
        "WSManagerServiceDown",
        "up{job=\"cryptrade-ws-metrics\"} == 0",
        "1m",
        Critical,
        "Metrics endpoint unreachable for 1 minute",
        "",
    ),
    (
        "WSManagerConnectionLeak",
        "ws_manager_active_connections > 100",
        "5m",
        Critical,
        "> 100 active connections for 5 minutes",
        "",
    ),
    (
        "WSManagerHighRetryRate",
        "ws_manager_retry_count_total > 0.5",
        "2m",
        Warning,
        "> 0.5 retries/second for 2 minutes",
        "",
    ),
    (
        "WSManagerCleanupLag",
        "ws_manager_stream_creations_total - ws_manager_stream_cleanups_total >= 20",
        "15m",
        Warning,
        "20+ uncleaned streams for 15 minutes",
        "",
    ),
    (
        "WSManagerCanaryRetryDegraded",
        "rate(ws_manager_retry_count_total{env=\"staging\"}[5m]) / rate(ws_manager_retry_count_total{env=\"production\"}[5m]) > 1.5",
        "3m",
        Warning,
        "> 1.5x retry rate increase",
        "",
    ),
    (
        "WSManagerCanaryRetryDegradedTotals",
        "sum(rate(ws_manager_retry_count_total{env=\"staging\"}[5m])) / sum(rate(ws_manager_retry_count_total{env=\"production\"}[5m])) > 1.5",
        "3m",
        Warning,
        "> 1.5x retry rate increase",
        "",
    ),
];

const DOCUMENT_003: [Written; 4] = [
    (
        "CollaborationHighReconnectionRate",
        "rate(orchestrator_websocket_reconnections_total[5m]) * 60 > 10",
        "5m",
        Warning,
        "High reconnection rates (> 10/min)",
        "",
    ),
    (
        "CollaborationHighLatency",
        "histogram_quantile(0.95, rate(orchestrator_websocket_message_latency_bucket[5m])) > 500",
        "5m",
        Warning,
        "Latency spikes (p95 > 500ms indicates issues)",
        "",
    ),
    (
        "CollaborationHttpFallback",
        "rate(orchestrator_websocket_fallback_http_total[5m]) / rate(orchestrator_websocket_connections_total[5m]) > 0.01",
        "5m",
        Warning,
        "Fallback rate (> 1% indicates infrastructure problems)",
        "",
    ),
    (
        "CollaborationMessageFailures",
        "rate(orchestrator_websocket_message_failures_total[5m]) / rate(orchestrator_websocket_messages_out_total[5m]) > 0.001",
        "5m",
        Warning,
        "Message failures (> 0.1% suggests network issues)",
        "",
    ),
];

pub(super) fn file() -> File {
    let troubleshooting = vec![
        record(
            "document001:connections_opened_per_closed:ratio",
            "\"Clients reconnect too quickly\" if over 1.5.",
            "rate(websocket_connections_total{status=\"opened\"}[5m]) / rate(websocket_connections_total{status=\"closed\"}[5m])".to_owned(),
        ),
        record("document001:memory_per_connection", "", "websocket_memory_usage_bytes / websocket_active_connections".to_owned()),
        record(
            "document001:short_sessions:p50",
            "",
            "histogram_quantile(0.50, rate(websocket_connection_duration_seconds_bucket[5m]))".to_owned(),
        ),
    ];
    let group = |name, rules| Group { name, interval: "30s", rules };
    File {
        name: "seed-literal",
        about: "The rules of documents 000 to 003 to the letter, for comparison. Do not load them: most never fire, or \
                fire on healthy servers, as seed-defects.test.yml proves for each. Documents 002 and 003 give words, not \
                queries; theirs are the literal reading.",
        groups: vec![
            group("document-000", rules(&DOCUMENT_000, "")),
            group("websocket_alerts", rules(&DOCUMENT_001, "websocket")),
            group("document-001-troubleshooting", troubleshooting),
            group("document-002", rules(&DOCUMENT_002, "")),
            group("document-003", rules(&DOCUMENT_003, "")),
        ],
    }
}

fn rules(written: &[Written], component: &'static str) -> Vec<Rule> {
    let rule = |&(name, expr, hold, severity, summary, description): &Written| {
        let alert = Alert {
            expr: expr.to_owned(),
            hold,
            component,
            summary: summary.to_owned(),
            description: description.to_owned(),
            runbook_url: String::new(),
            ..alert(&Pack::default(), name, severity, "")
        };
        alert.into()
    };
    written.iter().map(rule).collect()
}
