//! Document 001's dashboard: who is connected, how fast messages are, what fails.

mod health;

use super::board::{Board, Row, Tracks, closed, open};
use super::panel::{
    ANY, BLUE, Bands, ORANGE, P50, P95, P99, Panel, RED, bars, dial, latency_milliseconds, levels, lines,
    number, shares,
};
use crate::Pack;
use health::health;

/// Document 001's budget for a connection's memory, and what is critical, where the settings judge neither.
const MEMORY_TARGET_BYTES: f64 = 2_000.0;
const MEMORY_CRITICAL_BYTES: f64 = 10_000.0;

pub(super) fn board(pack: &Pack) -> Board {
    Board {
        uid: "pulsewire-connections",
        title: "WebSocket Connections",
        description: "Connections of clients: how many, how fast, how long, and what fails.",
        tracks: Tracks::Together,
        rows: vec![overview(pack), health(pack), performance(pack), subscriptions(), errors()],
    }
}

/// Shares of the limit of connections, where that is how the settings judge them.
fn of_the_limit(pack: &Pack) -> Bands {
    let shares = pack.limits.connections.filter(|levels| levels.of_maximum);
    shares
        .map(|levels| vec![(levels.warning / 100.0, ORANGE), (levels.critical / 100.0, RED)])
        .unwrap_or_default()
}

fn memory_budget(pack: &Pack) -> Panel {
    let (target, critical) = pack
        .limits
        .memory
        .map_or((MEMORY_TARGET_BYTES, MEMORY_CRITICAL_BYTES), |levels| (levels.target, levels.critical));
    let connections = "sum(websocket_active_connections{@})";
    lines(
        "Memory Budget",
        "decbytes",
        "What connections use, and what they may: the target (2 kB each, so that 500 use 1 MB) and the critical value (10 kB) \
         for those that are open, and the target for as many as the limit allows. Above the budget: see Memory per \
         Connection.",
    )
    .query("used", "sum(websocket_memory_usage_bytes{@})")
    .query("budget", format!("{connections} * {target}"))
    .limit("critical", format!("{connections} * {critical}"))
    .query("budget at the limit", format!("sum(websocket_connections_limit{{@}}) * {target}"))
}

fn overview(pack: &Pack) -> Row {
    open(
        "Now",
        vec![
            number("Connections", "short", "Live client connections, over every transport.")
                .base(BLUE)
                .query("connections", "sum(websocket_active_connections{@})"),
            dial(
                "Connection Limit Used",
                "Live connections, of those that the servers allow; beyond 1 new ones are refused with 503. Over 0.8: look \
                 who they are, then raise `server.max_connections` or add a server.",
            )
            .bands(of_the_limit(pack))
            .query("used", "max(websocket_active_connections{@} / (websocket_connections_limit{@} > 0))")
            .look("/connections?group=user")
            .alerts(&["HighWebSocketConnections", "CriticalWebSocketConnections"]),
            number(
                "Latency p95",
                "ms",
                "95 of 100 messages reach their client within this, from acceptance to receipt. Bands: to 50 ms as it \
                 should be, 100 ms a warning, 500 ms critical.",
            )
            .bands(latency_milliseconds(pack))
            .query(
                "p95",
                "histogram_quantile(0.95, sum by (le) (rate(websocket_message_latency_milliseconds_bucket{@}[@])))",
            )
            .look("/connections?sort=-latency"),
            number(
                "Heartbeats Unanswered",
                "percentunit",
                "Pings without an answer in time, of those sent. Over 1 %: networks or sleeping clients; over 5 %: a proxy \
                 that cuts idle connections is likely.",
            )
            .bands(shares(pack.limits.heartbeats))
            .query(
                "unanswered",
                "sum(rate(websocket_heartbeat_timeouts_total{@}[@])) / (sum(rate(websocket_heartbeats_sent_total{@}[@])) > 0)",
            )
            .look("/connections?tab=closed&filter=reason:heartbeat_timeout"),
            number(
                "Authentication Failed",
                "percentunit",
                "Failed authentications, of all attempts to connect. Over 5 %: tokens that have ended, a key that was \
                 changed, or somebody who tries.",
            )
            .bands(shares(pack.limits.auth))
            .query(
                "failed",
                r#"sum(rate(websocket_auth_failures_total{@}[@])) / (sum(rate(websocket_connections_total{@,status=~"opened|failed"}[@])) > 0)"#,
            )
            .look("/errors"),
            number(
                "Memory per Connection",
                "decbytes",
                "Memory that our accounting attributes to a connection, on average; the kernel's is not in it. Over 5 kB: \
                 bytes wait for slow readers, or connections have many subscriptions.",
            )
            .bands(levels(pack.limits.memory, 1.0))
            .query(
                "average",
                "sum(websocket_memory_usage_bytes{@}) / (sum(websocket_active_connections{@}) > 0)",
            )
            .look("/connections?sort=-queue"),
        ],
    )
}

fn performance(pack: &Pack) -> Row {
    open(
        "Performance",
        vec![
            lines(
                "Message Latency (p95)",
                "ms",
                "From the acceptance of a publication to its receipt by a client, over all types of events. Bands: 50, 100 \
                 and 500 ms. Over them: is it the queue, the CPU or the network? Events and Delivery shows the stages.",
            )
            .bands(latency_milliseconds(pack))
            .query(
                "p95",
                "histogram_quantile(0.95, sum by (le) (rate(websocket_message_latency_milliseconds_bucket{@}[@])))",
            )
            .look("/connections?sort=-latency")
            .alerts(&["HighWebSocketLatency", "CriticalWebSocketLatency"]),
            lines(
                "Message Latency",
                "ms",
                "The same latency at the median, 95 % and 99 %. Far apart: some readers are slow; all together: the server \
                 or its machine is.",
            )
            .bands(latency_milliseconds(pack))
            .query(
                "p50",
                "histogram_quantile(0.5, sum by (le) (rate(websocket_message_latency_milliseconds_bucket{@}[@])))",
            )
            .query(
                "p95",
                "histogram_quantile(0.95, sum by (le) (rate(websocket_message_latency_milliseconds_bucket{@}[@])))",
            )
            .query(
                "p99",
                "histogram_quantile(0.99, sum by (le) (rate(websocket_message_latency_milliseconds_bucket{@}[@])))",
            )
            .look("/connections?sort=-latency"),
            lines(
                "Message Throughput",
                "cps",
                "Messages received from clients and sent to them in a second, one for each recipient.",
            )
            .query("{{direction}}", "sum by (direction) (rate(websocket_messages_total{@}[@]))"),
            lines(
                "Heartbeat Latency",
                "ms",
                "From a ping to its pong. It is the network and the client, not the server: compare with Loop Lag in Node \
                 and Runtime before blaming either.",
            )
            .percentiles("websocket_heartbeat_latency_milliseconds", &[P50, P95, P99]),
            lines(
                "CPU",
                "percent",
                "CPU time of the threads that carry connections, as a share of all cores. Near 100: add a server.",
            )
            .bands([(70.0, ORANGE), (90.0, RED)])
            .query("{{instance}}", "sum by (instance) (websocket_cpu_usage_percent{@})"),
            lines(
                "Memory",
                "bytes",
                "What is attributed to connections, and what the process has in all. The first grows with connections and \
                 waiting bytes; the second alone grows: see Node and Runtime.",
            )
            .query("connections", "sum(websocket_memory_usage_bytes{@})")
            .query("process", "sum(process_resident_memory_bytes{@})"),
            lines(
                "Memory per Connection over Time",
                "decbytes",
                "Attributed memory divided by connections. Grows while connections do not: something is not let go of, or \
                 readers are slow.",
            )
            .bands(levels(pack.limits.memory, 1.0))
            .query(
                "{{instance}}",
                "sum by (instance) (websocket_memory_usage_bytes{@}) / (sum by (instance) (websocket_active_connections{@}) > 0)",
            )
            .look("/connections?sort=-queue")
            .alerts(&["HighMemoryPerConnection", "CriticalMemoryPerConnection"]),
            memory_budget(pack),
        ],
    )
}

fn subscriptions() -> Row {
    closed(
        "Subscriptions",
        vec![
            number("Subscriptions", "short", "Present subscriptions of all clients.").tall()
                .base(BLUE)
                .query("subscriptions", "sum(websocket_active_subscriptions{@})"),
            number(
                "Subscriptions per Connection, Average",
                "short",
                "Subscriptions divided by connections. Grows without end: a client subscribes anew and does not unsubscribe.",
            ).tall()
            .base(BLUE)
            .query(
                "average",
                "sum(websocket_active_subscriptions{@}) / (sum(websocket_active_connections{@}) > 0)",
            ),
            lines("Subscriptions over Time", "short", "Present subscriptions of each server.")
                .query("{{instance}}", "sum by (instance) (websocket_active_subscriptions{@})"),
            lines(
                "Subscriptions by Project",
                "short",
                "Subscriptions to the channels of the projects that have the most; `__other__` is all the rest. Exact \
                 numbers of every project are in the server's own dashboard.",
            )
            .query("{{project_id}}", "sum by (project_id) (websocket_subscriptions_by_project{@})")
            .look("/channels"),
            bars("Subscriptions by Project, Now", "short", "The same as bars: the ten projects with the most.")
                .base(BLUE)
                .of_series()
                .query("{{project_id}}", "topk(10, sum by (project_id) (websocket_subscriptions_by_project{@}))")
                .look("/channels"),
            bars(
                "Subscriptions per Connection",
                "short",
                "Live connections by how many subscriptions each has now; every connection is counted once. A bar is those \
                 with up to so many and more than the bar before.",
            )
            .base(BLUE)
            .query("{{le}}", "sum by (le) (websocket_subscriptions_per_connection_bucket{@})")
            .look("/connections?sort=-subscriptions"),
        ],
    )
}

fn errors() -> Row {
    closed(
        "Errors",
        vec![
            lines(
                "Authentication Failures",
                "cpm",
                "Failed authentications in a minute, by reason. `expired_token`: clients do not refresh; `invalid_token`: \
                 another key, or somebody who tries; `origin`: a page that `origins.allowed` does not name.",
            )
            .stacked()
            .query("{{reason}}", "sum by (reason) (rate(websocket_auth_failures_total{@}[@])) * 60")
            .look("/errors")
            .alerts(&["HighAuthenticationFailures", "CriticalAuthenticationFailures"]),
            lines(
                "Message Errors",
                "cpm",
                "Messages in a minute that could not be read (`parse_error`), used (`validation_error`) or written \
                 (`send_error`). One kind rises after a release: that client sends what the protocol does not know.",
            )
            .stacked()
            .query("{{error_type}}", "sum by (error_type) (rate(websocket_message_errors_total{@}[@])) * 60")
            .look("/errors")
            .alerts(&["HighMessageErrors"]),
            lines(
                "Heartbeat Timeouts",
                "cpm",
                "Pings in a minute without an answer in time; those connections are closed. Many at once: a network or a \
                 proxy went away; a few always: phones that sleep.",
            )
            .query("timeouts/min", "sum(rate(websocket_heartbeat_timeouts_total{@}[@])) * 60")
            .look("/connections?tab=closed&filter=reason:heartbeat_timeout")
            .alerts(&["HighHeartbeatTimeouts", "CriticalHeartbeatTimeouts"]),
            lines(
                "Connection Errors",
                "cpm",
                "Errors of attempts and of live connections in a minute, by kind. `reset` and `timeout`: the network; \
                 `tls`: certificates; `accept`: out of file descriptors; `internal`: a bug of ours, please report it.",
            )
            .stacked()
            .query("{{kind}}", "sum by (kind) (rate(pulsewire_connection_errors_total{@}[@])) * 60")
            .look("/errors"),
            lines(
                "Refused by a Rate Limit",
                "cpm",
                "Refusals in a minute, by what was limited. `scrape`: Prometheus asks too often; `publish`: raise \
                 `limits.*` or slow the publisher down.",
            )
            .stacked()
            .query("{{scope}}", "sum by (scope) (rate(websocket_rate_limited_total{@}[@])) * 60"),
            lines(
                "Self-Check",
                "short",
                "By how much a count differs from the table that it counts, such as subscriptions that belong to nobody. \
                 Anything but 0 is a bug of ours: please report it with the log.",
            )
            .bands(ANY)
            .query("{{what}}", "max by (what) (abs(pulsewire_selfcheck_mismatch{@}))")
            .alerts(&["PulsewireSelfCheckMismatch"]),
        ],
    )
}
