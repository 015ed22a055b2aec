//! Document 003's dashboard: runs that people share, and clients that queue, fall back and come back.

use super::board::{Board, Row, Tracks, closed, open};
use super::panel::{BLUE, P50, P95, P99, RED, YELLOW, bars, latency_seconds, levels, lines, number, shares};
use crate::Pack;

pub(super) fn board(pack: &Pack) -> Board {
    Board {
        uid: "pulsewire-collaboration",
        title: "Collaboration",
        description: "What document 003 asks for: connections, latency, reconnections, fallback, and what clients report.",
        tracks: Tracks::Together,
        rows: vec![connections(pack), delivery(pack), clients(pack), presence()],
    }
}

fn connections(pack: &Pack) -> Row {
    open(
        "Connections",
        vec![
            lines(
                "Active Connections over Time",
                "short",
                "Live client connections. Which run has how many: the server's own dashboard, or \
                 `GET /api/admin/websocket/connections`.",
            )
            .query("{{instance}}", "sum by (instance) (orchestrator_websocket_active_connections{@})")
            .look("/connections"),
            lines(
                "Connection and Disconnection Rates",
                "cpm",
                "Connections established and ended in a minute. Alike and high: clients come back in a loop.",
            )
            .query("connections/min", "sum(rate(orchestrator_websocket_connections_total{@}[@])) * 60")
            .query("disconnections/min", "sum(rate(orchestrator_websocket_disconnections_total{@}[@])) * 60")
            .look("/connections?tab=closed"),
            lines(
                "Reconnection Frequency",
                "cpm",
                "Clients that came back to their session in a minute. Over 10: a proxy cuts connections, or networks are \
                 bad; the close codes in WebSocket Connections tell which.",
            )
            .bands([(10.0, RED)])
            .query("reconnections/min", "sum(rate(orchestrator_websocket_reconnections_total{@}[@])) * 60")
            .look("/connections?sort=-reconnects")
            .alerts(&["CollaborationHighReconnectionRate"]),
            lines(
                "HTTP Fallback Rate",
                "percentunit",
                "Sessions that fell back to HTTP, of those that began. Over 1 %: WebSockets do not come through somewhere; \
                 `pulsewire doctor --url` from that network says where they stop.",
            )
            .bands(shares(pack.limits.fallback))
            .query(
                "fallback",
                "sum(rate(orchestrator_websocket_fallback_http_total{@}[@])) / (sum(rate(orchestrator_websocket_connections_total{@}[@])) + sum(rate(orchestrator_websocket_fallback_http_total{@}[@])) > 0)",
            )
            .look("/connections?filter=-transport:websocket")
            .alerts(&["CollaborationHttpFallback"]),
            lines(
                "Sessions",
                "short",
                "Sessions without a connection that can still be resumed, beside the connections. Many: a network is away, \
                 and all of them will come back at once.",
            )
            .query("connected", "sum(orchestrator_websocket_active_connections{@})")
            .query("away, can resume", "sum(pulsewire_sessions_detached{@})"),
            lines(
                "Reconnections of Connections Opened",
                "percentunit",
                "Reconnections, of the connections opened. Near 1 and sessions below a minute: a loop. High alone: clients \
                 that are where networks are bad.",
            )
            .bands(shares(pack.limits.reconnects))
            .query(
                "share",
                r#"sum(rate(orchestrator_websocket_reconnections_total{@}[@])) / (sum(rate(websocket_connections_total{@,status="opened"}[@])) > 0)"#,
            )
            .look("/connections?sort=-reconnects"),
        ],
    )
}

fn delivery(pack: &Pack) -> Row {
    open(
        "Messages",
        vec![
            lines("Message Throughput", "cps", "Messages received from clients and sent to them in a second.")
                .query("received", "sum(rate(orchestrator_websocket_messages_in_total{@}[@]))")
                .query("sent", "sum(rate(orchestrator_websocket_messages_out_total{@}[@]))"),
            lines(
                "Latency Percentiles",
                "s",
                "Round trip: from a client's publishing to another's receipt. Only what clients publish over a WebSocket and \
                 others acknowledge; for everything else see Events and Delivery.",
            )
            .bands(latency_seconds(pack))
            .percentiles("orchestrator_websocket_message_latency", &[P50, P95, P99])
            .look("/connections?sort=-latency")
            .alerts(&["CollaborationHighLatency"]),
            lines(
                "Message Failures",
                "percentunit",
                "Messages that did not reach a live subscriber, of all sent. Over 0.1 %: slow readers; who they are is in \
                 the server's own dashboard.",
            )
            .bands(shares(pack.limits.failures))
            .query(
                "failed",
                "sum(rate(orchestrator_websocket_message_failures_total{@}[@])) / (sum(rate(orchestrator_websocket_messages_out_total{@}[@])) + sum(rate(orchestrator_websocket_message_failures_total{@}[@])) > 0)",
            )
            .look("/connections?sort=-failures")
            .alerts(&["CollaborationMessageFailures"]),
        ],
    )
}

fn clients(pack: &Pack) -> Row {
    open(
        "What Clients Report",
        vec![
            number(
                "Queued in Clients",
                "short",
                "Messages that wait in the queues of live clients, as each said in its last report. It falls when they are \
                 connected again; if not, publishing is refused.",
            ).tall()
            .base(BLUE)
            .query("queued", "sum(pulsewire_client_reported_queued_messages{@})")
            .look("/connections?filter=cause:client_busy"),
            number(
                "Reports with over 50 Queued",
                "percentunit",
                "Reports of clients in which more than 50 messages waited, of all reports.",
            ).tall()
            .bands([(0.01, YELLOW), (0.05, RED)])
            .query(
                "over 50",
                r#"1 - sum(rate(pulsewire_client_reported_queue_depth_bucket{@,le=~"50(\\.0)?"}[@])) / (sum(rate(pulsewire_client_reported_queue_depth_count{@}[@])) > 0)"#,
            ),
            lines(
                "Queue in a Client",
                "short",
                "How many messages waited in a client when it reported. Over 50: clients are offline for long, or handlers \
                 are slow.",
            )
            .bands(levels(pack.limits.queue, 1.0))
            .percentiles("pulsewire_client_reported_queue_depth", &[P50, P95])
            .look("/connections?filter=cause:client_busy")
            .alerts(&["CollaborationClientQueueLong"]),
            lines(
                "Slowest Handler of a Client",
                "s",
                "The slowest run of an application's handler since a client's report before. Over 0.05 s pages stutter, and \
                 their latency is not the server's.",
            )
            .percentiles("pulsewire_client_reported_handler_seconds", &[P50, P95]),
            lines(
                "Reports and Gaps Healed",
                "cpm",
                "Reports of clients in a minute by whether their page could be seen, and holes that clients noticed and \
                 repaired. Gaps: compare Gaps and Repairs in Events and Delivery.",
            )
            .query("report, {{visibility}}", "sum by (visibility) (rate(pulsewire_client_reports_total{@}[@])) * 60")
            .query("gaps healed", "sum(rate(pulsewire_client_reported_gaps_healed_total{@}[@])) * 60"),
        ],
    )
}

fn presence() -> Row {
    closed(
        "Presence",
        vec![
            lines("Who Is There", "short", "Users present in channels, and channels with somebody; a user in two counts twice.")
                .query("users", "sum(pulsewire_presence_members{@})")
                .query("channels", "sum(pulsewire_presence_channels{@})"),
            lines("Presence Changes", "cps", "Changes as they were told, in a second, once for each channel.")
                .stacked()
                .query("{{event}}", "sum by (event) (rate(pulsewire_presence_events_total{@}[@]))"),
            lines(
                "Presence Not Told",
                "cps",
                "Members and cursors refused, cursors replaced before they were told, and changes not sent to lagging \
                 readers. `conflated` is as it should be; `members_max`: raise the limit or split the channel.",
            )
            .stacked()
            .query("{{cause}}", "sum by (cause) (rate(pulsewire_presence_dropped_total{@}[@]))"),
            bars("Connections by Transport", "short", "Live connections by how they are carried, now.")
                .base(BLUE)
                .of_series()
                .query("{{transport}}", "sum by (transport) (pulsewire_connections{@})")
                .look("/connections?filter=-transport:websocket"),
        ],
    )
}
