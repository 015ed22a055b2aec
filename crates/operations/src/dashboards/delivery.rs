//! Document 000's dashboard, and what became of an event: its stages, its recipients, its losses.

mod readers;

use pulsewire_telemetry::MessageType;

use super::board::{Board, Row, Tracks, open};
use super::panel::{
    GREEN, ORANGE, Panel, RED, heat, latency_milliseconds, latency_seconds, lines, number, shares,
};
use crate::Pack;
use readers::{initial_state, readers};

/// Times the rate at which the budget of a 30-day objective would just last: over 1 it will not, over 14.4 it is gone in two days.
const BURN: [(f64, &str); 3] = [(1.0, ORANGE), (6.0, ORANGE), (14.4, RED)];

pub(super) fn board(pack: &Pack) -> Board {
    Board {
        uid: "pulsewire-delivery",
        title: "Events and Delivery",
        description: "Events: how many, to how many, how fast, and what did not arrive.",
        tracks: Tracks::Together,
        rows: vec![events(pack), stages(pack), losses(pack), objective(), readers(), initial_state()],
    }
}

fn events(pack: &Pack) -> Row {
    open(
        "Events",
        vec![
            lines(
                "Active Connections",
                "short",
                "Live client connections of all servers together: who could receive an event.",
            )
            .query("connections", "sum(websocket_active_connections{@})")
            .look("/connections"),
            lines(
                "Connection Rate",
                "cpm",
                "Connections established in a minute. A peak with a peak of Disconnections: everybody came back after a cut.",
            )
            .query("established/min", r#"sum(rate(websocket_connections_total{@,status="opened"}[@])) * 60"#)
            .query("ended/min", "sum(rate(websocket_disconnections_total{@}[@])) * 60")
            .look("/connections?tab=closed")
            .alerts(&["WebSocketConnectionDrop"]),
            lines(
                "Event Throughput",
                "cps",
                "Events accepted in a second, by type, however many receive them. A type that stops: its publisher did.",
            )
            .stacked()
            .query("{{event_type}}", "sum by (event_type) (rate(websocket_events_emitted_total{@}[@])) > 0")
            .look("/channels"),
            lines(
                "P95 Event Latency",
                "ms",
                "From the acceptance of an event to its last byte being handed to the kernel, 95 % of its recipients, by \
                 type. One type alone: its events are large, or its channel has slow readers.",
            )
            .bands(latency_milliseconds(pack))
            .query(
                "{{event_type}}",
                "histogram_quantile(0.95, sum by (le, event_type) (rate(websocket_event_latency_milliseconds_bucket{@}[@])))",
            )
            .look("/connections?sort=-latency")
            .alerts(&["WebSocketHighLatency"]),
            lines(
                "Error Rate",
                "cps",
                "Events of clients whose handling failed, in a second, by type: a hook that refused or did not answer, or a \
                 payload that is not what it should be. The log has each with its reason.",
            )
            .query("{{event_type}}", "sum by (event_type) (rate(websocket_event_errors_total{@}[@]))")
            .look("/errors")
            .alerts(&["WebSocketHighErrorRate", "WebSocketEventsFailing"]),
            lines(
                "Average Connection Duration",
                "s",
                "How long the connections had lasted, on average, that ended. Open ones are not in it: WebSocket Connections \
                 has the mean over all.",
            )
            .query(
                "average",
                "sum(rate(websocket_connection_duration_seconds_sum{@}[@])) / (sum(rate(websocket_connection_duration_seconds_count{@}[@])) > 0)",
            ),
            lines(
                "Events Received",
                "cps",
                "Events that clients sent in a second, by type. All of them at once many times more: a client in a loop.",
            )
            .stacked()
            .query("{{event_type}}", "sum by (event_type) (rate(websocket_events_received_total{@}[@])) > 0"),
            lines(
                "Publish Requests",
                "cps",
                "Publish requests answered in a second, by where they came from and how. `failed`: the store; `rejected`: \
                 the request; `unknown`: the store has not said, ask again with the same id.",
            )
            .stacked()
            .query("{{source}} {{outcome}}", "sum by (source, outcome) (rate(pulsewire_publish_total{@}[@])) > 0"),
            fan_out_factor(),
        ],
    )
}

/// C6: messages to recipients, of events accepted.
fn fan_out_factor() -> Panel {
    let protocol = MessageType::NAMES.iter().filter(|name| !matches!(**name, "event" | "metric"));
    let protocol = protocol.copied().collect::<Vec<_>>().join("|");
    lines(
        "Fan-Out Factor",
        "short",
        "Messages sent to recipients for each event accepted: how many listen, on average. It multiplies everything: 10 \
         times more here is 10 times the CPU and the bandwidth for the same events.",
    )
    .query(
        "recipients per event",
        format!(
            r#"sum(rate(websocket_messages_total{{@,direction="sent",type!~"{protocol}"}}[@])) / (sum(rate(websocket_events_emitted_total{{@}}[@])) > 0)"#
        ),
    )
}

fn stages(pack: &Pack) -> Row {
    open(
        "Stages",
        vec![
            lines(
                "Stages of an Event",
                "s",
                "From acceptance until fan-out began, the outbox, the kernel, at the chosen quantile. `fanout` high: shards \
                 are busy; `queue` to `kernel` far apart: readers are slow.",
            )
            .bands(latency_seconds(pack))
            .query(
                "{{stage}}",
                "histogram_quantile($quantile, sum by (le, stage) (rate(pulsewire_stage_seconds_bucket{@}[@])))",
            ),
            lines(
                "Delivery by Proof",
                "s",
                "From acceptance to delivery, at the chosen quantile, by what shows it: handed to the kernel, acknowledged \
                 by TCP, or by the client. The difference is the network and the client.",
            )
            .bands(latency_seconds(pack))
            .query(
                "{{proof}}",
                "histogram_quantile($quantile, sum by (le, proof) (rate(pulsewire_delivery_seconds_bucket{@}[@])))",
            ),
            lines(
                "Latency to the Client by Type",
                "ms",
                "From acceptance to receipt by a client, at the chosen quantile, by type of event.",
            )
            .bands(latency_milliseconds(pack))
            .query(
                "{{event_type}}",
                "histogram_quantile($quantile, sum by (le, event_type) (rate(websocket_message_latency_milliseconds_bucket{@}[@])))",
            )
            .look("/connections?sort=-latency"),
            heat(
                "Recipients of an Event",
                "short",
                "How many subscribers an event matched, on each shard that has any; each column an interval.",
            )
            .query("{{le}}", "sum by (le) (increase(pulsewire_fanout_size_bucket{@}[@]))"),
            heat(
                "Event Latency",
                "ms",
                "All latencies, not only a quantile: two bands are two kinds of readers, one rising band is the server.",
            )
            .query("{{le}}", "sum by (le) (increase(websocket_event_latency_milliseconds_bucket{@}[@]))"),
            lines(
                "Hook for Client Events",
                "s",
                "Calls of the HTTP hook at the chosen quantile, by outcome. Slow: clients wait for it, nobody else.",
            )
            .query(
                "{{outcome}}",
                "histogram_quantile($quantile, sum by (le, outcome) (rate(pulsewire_hook_seconds_bucket{@}[@])))",
            ),
        ],
    )
}

fn losses(pack: &Pack) -> Row {
    open(
        "What Did Not Arrive",
        vec![
            number(
                "Discarded",
                "percentunit",
                "Messages discarded, of all that were to be delivered. Over 1 %: slow readers of channels without a log, or \
                 clients beyond their rate.",
            ).tall()
            .bands(shares(pack.limits.drops))
            .query(
                "discarded",
                "sum(rate(websocket_messages_dropped_total{@}[@])) / (sum(rate(websocket_messages_total{@}[@])) + sum(rate(websocket_messages_dropped_total{@}[@])) > 0)",
            )
            .look("/errors"),
            number(
                "Slow Readers Closed",
                "short",
                "Readers that were closed in the time shown because they took nothing. They may resume, and those of logs \
                 miss nothing.",
            ).tall()
            .bands([(1.0, ORANGE), (50.0, RED)])
            .query("closed", r#"sum(increase(websocket_slow_consumer_total{@,action="close"}[@]))"#)
            .look("/connections?tab=closed&filter=code:4004")
            .alerts(&["WebSocketSlowReadersClosed"]),
            lines(
                "Discarded by Cause",
                "cps",
                "Messages discarded in a second. `slow_consumer` and `queue_full`: readers; `rate_limit`: publishers; \
                 `expired`: too old when its turn came; `closed`: its reader went away.",
            )
            .stacked()
            .query("{{reason}}", "sum by (reason) (rate(websocket_messages_dropped_total{@}[@]))")
            .look("/errors")
            .alerts(&["WebSocketMessagesDropped"]),
            lines(
                "Slow Readers",
                "cps",
                "What was done about readers that could not keep up, in a second: fell back to reading from the log, lost \
                 their oldest events, got only the newest values, or were closed. Full buffers are of a message, of \
                 what waits for a token, or of the outbox.",
            )
            .stacked()
            .query("{{action}}", "sum by (action) (rate(websocket_slow_consumer_total{@}[@]))")
            .query("buffer full: {{part}}", "sum by (part) (rate(pulsewire_connection_memory_limited_total{@}[@]))")
            .look("/connections?sort=-queue"),
            lines(
                "Gaps and Repairs",
                "cps",
                "How often readers were told that events are missing, by why, and how often this node read events it had \
                 not heard of. `trimmed`: they came back after retention; `corrupt`: look at the store now.",
            )
            .query("told: {{reason}}", "sum by (reason) (rate(pulsewire_gaps_total{@}[@]))")
            .query("repaired: {{source}}", "sum by (source) (rate(websocket_gap_repairs_total{@}[@]))")
            .query("position ahead", "sum(rate(websocket_position_ahead_total{@}[@]))")
            .query("channel resets", "sum(rate(pulsewire_channel_resets_total{@}[@]))"),
            lines(
                "Joined and Repeated",
                "cps",
                "Messages replaced by newer ones before they were sent, and publications that came twice and were passed on \
                 once. Both are as it should be.",
            )
            .query("replaced by newer", "sum(rate(pulsewire_conflated_total{@}[@]))")
            .query("came twice", "sum(rate(pulsewire_repeated_publications_total{@}[@]))"),
        ],
    )
}

fn objective() -> Row {
    open(
        "Objectives: 99.9 % within 500 ms, 99 % within 10 ms, 99.9 % Let In",
        vec![
            number(
                "Within 500 ms",
                "percentunit",
                "Deliveries handed to the kernel within 500 ms, of all. The objective is 99.9 %.",
            ).tall()
            .base(RED)
            .bands([(0.99, ORANGE), (0.999, GREEN)])
            .query(
                "within",
                r#"sum(rate(websocket_event_latency_milliseconds_bucket{@,le=~"500(\\.0)?"}[@])) / (sum(rate(websocket_event_latency_milliseconds_count{@}[@])) > 0)"#,
            ),
            number(
                "Budget Left, 3 Days",
                "percentunit",
                "What is left of the 0.1 % of deliveries that may be late, by the last 3 days. Below 0 it is spent: no risky \
                 change until it recovers. Needs the recording rules.",
            ).tall()
            .base(RED)
            .bands([(0.0, ORANGE), (0.5, GREEN)])
            .negative()
            .query("left", "1 - avg(job:slo_delivery_errors:ratio_rate3d{#}) / 0.001"),
            lines(
                "Burn Rate",
                "short",
                "How many times faster than allowed late deliveries use the budget of 30 days up, over windows of 5 minutes \
                 to 3 days. 14.4 over an hour pages; 1 over 3 days is a ticket. Needs the recording rules.",
            )
            .size(16, 8)
            .bands(BURN)
            .query("5m", "max(job:slo_delivery_errors:ratio_rate5m{#}) / 0.001")
            .query("1h", "max(job:slo_delivery_errors:ratio_rate1h{#}) / 0.001")
            .query("6h", "max(job:slo_delivery_errors:ratio_rate6h{#}) / 0.001")
            .query("1d", "max(job:slo_delivery_errors:ratio_rate1d{#}) / 0.001")
            .query("3d", "max(job:slo_delivery_errors:ratio_rate3d{#}) / 0.001")
            .alerts(&["WebSocketDeliveryBudgetBurn"]),
            lines(
                "Burn Rate: 99 % within 10 ms",
                "short",
                "The same for document 004's target, which is 10 ms to the kernel: how many times faster than allowed its 1 % is \
                 used up. Above 1 while the one above is not: something is a little late, nobody notices yet.",
            )
            .bands(BURN)
            .query("1h", "max(job:slo_fast_delivery_errors:ratio_rate1h{#}) / 0.01")
            .query("6h", "max(job:slo_fast_delivery_errors:ratio_rate6h{#}) / 0.01")
            .query("3d", "max(job:slo_fast_delivery_errors:ratio_rate3d{#}) / 0.01")
            .alerts(&["WebSocketFastDeliveryBudgetBurn"]),
            lines(
                "Burn Rate: Availability",
                "short",
                "The same for what the server turned away: connections over its limits and publications that failed, of 99.9 %. \
                 Above 1: see Failed Connections and Publish Requests.",
            )
            .bands(BURN)
            .query("1h", "max(job:slo_availability_errors:ratio_rate1h{#}) / 0.001")
            .query("6h", "max(job:slo_availability_errors:ratio_rate6h{#}) / 0.001")
            .query("3d", "max(job:slo_availability_errors:ratio_rate3d{#}) / 0.001")
            .alerts(&["WebSocketAvailabilityBudgetBurn"]),
        ],
    )
}
