//! Who is connected, for how long, and why no longer.

use crate::dashboards::board::{Row, open};
use crate::dashboards::panel::{BLUE, Bands, GREEN, ORANGE, Panel, RED, YELLOW, bars, heat, lines};
use crate::{Levels, Pack};

pub(super) fn health(pack: &Pack) -> Row {
    open(
        "Connection Health",
        vec![
            numbers_of_connections(
                lines(
                "Active Connections",
                "short",
                "Live client connections of each server, with the limits that its settings give. A step down: a proxy or a \
                 server went away. Beyond the soft limit: review within the hour; at the hard limit clients are refused.",
            )
            .query("{{instance}}", "sum by (instance) (websocket_active_connections{@})")
            .limit("soft limit", "min(websocket_connections_soft_limit{@} > 0)")
            .limit("hard limit", "min(websocket_connections_hard_limit{@} > 0)")
            .look("/connections?group=user")
            .alerts(&["HighWebSocketConnections", "CriticalWebSocketConnections", "WebSocketConnectionsLost"]),
                pack,
            ),
            lines(
                "Connection Rate",
                "cpm",
                "Connections opened and closed in a minute. Both high and alike: clients come and go (see Reconnections); \
                 closed alone: many leave at once.",
            )
            .query("opened/min", r#"sum(rate(websocket_connections_total{@,status="opened"}[@])) * 60"#)
            .query("closed/min", r#"sum(rate(websocket_connections_total{@,status="closed"}[@])) * 60"#)
            .look("/connections?tab=closed")
            .alerts(&["WebSocketConnectionDrop"]),
            lines(
                "Failed Connections",
                "cpm",
                "Attempts in a minute that failed, and why those were refused that we refused. `unauthorized`: tokens; \
                 `origin`: pages of others; limits: raise them or find who it is; `overloaded`: add a server; \
                 `handshake_rate`: many come back at once, and those who wait to be let in, at the pace of \
                 `limits.handshakes_per_second`.",
            )
            .query("failed/min", r#"sum(rate(websocket_connections_total{@,status="failed"}[@])) * 60"#)
            .query("{{reason}}", "sum by (reason) (rate(websocket_rejected_total{@}[@])) * 60 > 0")
            .query("waiting", "sum(pulsewire_handshakes_waiting{@}) > 0")
            .look("/connections?tab=failed"),
            heat(
                "Connection Duration",
                "s",
                "How long the connections had lasted that ended: each column an interval, each cell a bucket. A dark line at \
                 the heartbeat or at 60 s: a proxy cuts idle connections.",
            )
            .query("{{le}}", "sum by (le) (increase(websocket_connection_duration_seconds_bucket{@}[@]))")
            .look("/connections?tab=closed"),
            lines(
                "Connection Duration, Quantiles",
                "s",
                "Of the connections that ended: average and quantiles. It does not see those that are still open: compare \
                 Mean Session.",
            )
            .logarithmic()
            .query(
                "average",
                "sum(rate(websocket_connection_duration_seconds_sum{@}[@])) / sum(rate(websocket_connection_duration_seconds_count{@}[@]))",
            )
            .query(
                "p50",
                "histogram_quantile(0.5, sum by (le) (rate(websocket_connection_duration_seconds_bucket{@}[@])))",
            )
            .query(
                "p95",
                "histogram_quantile(0.95, sum by (le) (rate(websocket_connection_duration_seconds_bucket{@}[@])))",
            )
            .query(
                "p99",
                "histogram_quantile(0.99, sum by (le) (rate(websocket_connection_duration_seconds_bucket{@}[@])))",
            )
            .alerts(&["ShortWebSocketSessions", "CriticalShortWebSocketSessions"]),
            lines(
                "Mean Session",
                "s",
                "How long a connection lasts on average, open ones included: connections divided by how many end in a \
                 second. Below a minute: clients reconnect in a loop; their close codes say why.",
            )
            .logarithmic()
            .base(RED)
            .bands(less_is_worse(pack.limits.duration))
            .query(
                "mean session",
                r#"sum(websocket_active_connections{@}) / (sum(rate(websocket_connections_total{@,status="closed"}[@])) > 0)"#,
            )
            .look("/connections?tab=closed")
            .alerts(&["HighConnectionChurn", "CriticalConnectionChurn"]),
            bars(
                "Connection Age",
                "short",
                "Live connections by how long they have been open: a bar is those up to its age and older than the one \
                 before. All young: everybody has just reconnected.",
            )
            .base(BLUE)
            .query("{{le}} s", "sum by (le) (pulsewire_connection_age_seconds_bucket{@})"),
            lines(
                "Reconnections",
                "cpm",
                "Clients that came back in a minute: `resumed` missed nothing, `replayed` was sent what it missed, `reset` \
                 began anew. As many as are opened: a loop.",
            )
            .stacked()
            .query("{{outcome}}", "sum by (outcome) (rate(pulsewire_reconnections_total{@}[@])) * 60")
            .query("all", "sum(rate(websocket_reconnections_total{@}[@])) * 60")
            .look("/connections?sort=-reconnects")
            .alerts(&["WebSocketReconnectLoop"]),
            lines(
                "Why Connections End",
                "cpm",
                "Connections that ended in a minute, by reason and by who ended them. `network` is a peer that vanished; \
                 `slow_consumer` did not read; `drain` is a server that goes away.",
            )
            .stacked()
            .query("{{reason}} ({{initiator}})", "sum by (reason, initiator) (rate(pulsewire_disconnects_total{@}[@])) * 60 > 0")
            .look("/connections?tab=closed"),
            lines(
                "Close Codes",
                "cpm",
                "Connections that ended in a minute, by the close code: 1000 and 1001 are goodbyes, 1006 none at all, 4004 \
                 a slow consumer. All of them are in docs/codes.md.",
            )
            .stacked()
            .query("{{code}}", "sum by (code) (rate(websocket_closes_total{@}[@])) * 60 > 0")
            .look("/connections?tab=closed"),
            lines(
                "Transports",
                "short",
                "Live connections by how they are carried and encoded. Many that poll: WebSockets do not come through.",
            )
            .stacked()
            .query("{{transport}} {{codec}}", "sum by (transport, codec) (pulsewire_connections{@})")
            .look("/connections?filter=-transport:websocket"),
            lines(
                "Handshake",
                "s",
                "From an accepted TCP connection to the end of its handshake, by outcome, at the chosen quantile. Slow and \
                 accepted: the key set or the machine; `timed_out`: clients that say nothing.",
            )
            .query(
                "{{outcome}}",
                "histogram_quantile($quantile, sum by (le, outcome) (rate(pulsewire_handshake_seconds_bucket{@}[@])))",
            ),
        ],
    )
}

/// Bands of a limit where less is worse.
fn less_is_worse(limit: Option<Levels>) -> Bands {
    let bands =
        |levels: Levels| vec![(levels.critical, ORANGE), (levels.warning, YELLOW), (levels.target, GREEN)];
    limit.map(bands).unwrap_or_default()
}

/// Lines at the numbers of connections from which the settings warn, where they judge them by number.
fn numbers_of_connections(panel: Panel, pack: &Pack) -> Panel {
    match pack.limits.connections.filter(|levels| !levels.of_maximum) {
        None => panel,
        Some(levels) => {
            let line = |value| format!("max(websocket_active_connections{{@}}) * 0 + {value}");
            panel.limit("warning", line(levels.warning)).limit("critical", line(levels.critical))
        }
    }
}
