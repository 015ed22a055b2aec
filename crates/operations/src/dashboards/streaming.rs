//! Document 004's dashboard: samples that come in, windows that are closed, values that go out.

use super::board::{Board, Row, Tracks, closed, open};
use super::panel::{ANY, BLUE, ORANGE, P50, P99, RED, heat, lines, number};
use crate::Pack;

/// 004: delivery within 10 ms, end to end within 100 ms.
const DELIVERY: [(f64, &str); 2] = [(10.0, ORANGE), (100.0, RED)];

pub(super) fn board(_: &Pack) -> Board {
    Board {
        uid: "pulsewire-streaming",
        title: "Metrics Streaming",
        description: "Metric channels: samples in, windows, values out, and what was refused.",
        tracks: Tracks::Together,
        rows: vec![out(), samples(), windows(), sources()],
    }
}

fn out() -> Row {
    open(
        "Delivery",
        vec![
            number("Values Sent", "cps", "Messages with values sent to clients in a second. Document 004 asks for 10,000 and more.").tall()
                .base(BLUE)
                .query("sent", r#"sum(rate(websocket_messages_total{@,direction="sent",type="metric"}[@]))"#),
            number("Series", "short", "Series of metric channels at hand. Near the limit new ones are refused: see Refused Samples.").tall()
                .base(BLUE)
                .query("series", "sum(pulsewire_metric_series{@})"),
            lines(
                "Delivery",
                "ms",
                "Values, from acceptance to the kernel, at 50, 95 and 99 %. The objective is 10 ms: above it, is the machine \
                 busy (Node and Runtime), or is fan-out large (Events and Delivery)?",
            )
            .bands(DELIVERY)
            .query("p50", delivery(0.5, "event_latency"))
            .query("p95", delivery(0.95, "event_latency"))
            .query("p99", delivery(0.99, "event_latency"))
            .alerts(&["MetricsStreamDeliverySlow"]),
            lines(
                "End to End",
                "ms",
                "Values, from acceptance to their receipt by the client, at 95 and 99 %. The objective is 100 ms: above it \
                 with Delivery below, it is the network.",
            )
            .bands([(100.0, RED)])
            .query("p95", delivery(0.95, "message_latency"))
            .query("p99", delivery(0.99, "message_latency"))
            .look("/connections?sort=-latency"),
            lines(
                "Subscriptions Told of Silence",
                "cpm",
                "Subscriptions in a minute that were told that their channel has said nothing for three intervals. A step: a \
                 collector stopped.",
            )
            .query("told", "sum(rate(pulsewire_metric_stale_total{@}[@])) * 60"),
        ],
    )
}

/// A quantile of a latency of values: their type is `metric`, as that of events is theirs.
fn delivery(quantile: f64, clock: &str) -> String {
    format!(
        r#"histogram_quantile({quantile}, sum by (le) (rate(websocket_{clock}_milliseconds_bucket{{@,event_type="metric"}}[@])))"#
    )
}

fn samples() -> Row {
    open(
        "Samples",
        vec![
            lines("Samples Accepted", "cps", "Samples accepted in a second, by where they came from. One that stops: its sender did.")
                .stacked()
                .query("{{source}}", "sum by (source) (rate(pulsewire_samples_total{@}[@]))"),
            lines(
                "Refused Samples",
                "cps",
                "Samples refused in a second. `series_max`: more series than allowed, often a tag with ids in it; `future`: \
                 a clock is wrong; `overloaded`: add a server; all others: what is sent.",
            )
            .stacked()
            .bands(ANY)
            .query("{{reason}}", "sum by (reason) (rate(pulsewire_samples_refused_total{@}[@]))")
            .look("/errors"),
            lines(
                "Late and Out of Order",
                "cps",
                "Samples that came when a window of theirs had closed, and those older than the newest of their series. Late \
                 ones are missing in roll-ups: senders should not batch for longer than a window.",
            )
            .query("late", "sum(rate(pulsewire_samples_late_total{@}[@]))")
            .query("out of order", "sum(rate(pulsewire_samples_out_of_order_total{@}[@]))"),
        ],
    )
}

fn windows() -> Row {
    open(
        "Windows and Roll-Ups",
        vec![
            lines("Windows Closed", "cps", "Windows of a second that closed, one for each series: what roll-ups cost.")
                .query("{{instance}}", "sum by (instance) (rate(pulsewire_metric_windows_total{@}[@]))"),
            lines(
                "Chunks of Roll-Ups",
                "cps",
                "Chunks that were to be kept. `failed` and `given_up`: the store, history will have holes; `left_out`: there \
                 was too much.",
            )
            .stacked()
            .query("{{outcome}}", "sum by (outcome) (rate(pulsewire_metric_chunks_total{@}[@]))"),
            lines(
                "Series by Server",
                "short",
                "Series of metric channels at hand, by server. It grows without end: a tag with ids in it.",
            )
            .query("{{instance}}", "sum by (instance) (pulsewire_metric_series{@})"),
            lines(
                "Label Values Refused",
                "cps",
                "Names of event types and pushed metrics that found their set full and became `other`, in a second.",
            )
            .query("{{metric}}", "sum by (metric) (rate(pulsewire_series_dropped_total{@}[@]))"),
        ],
    )
}

fn sources() -> Row {
    closed(
        "Sources",
        vec![
            heat("Rounds of the Host Collector", "s", "How long each round took. The objective is 50 ms.")
                .query("{{le}}", "sum by (le) (increase(pulsewire_collector_seconds_bucket{@}[@]))"),
            lines("Host Collector", "s", "Rounds of the collector, at 50 and 99 %. Over 50 ms: the host is busy, or has very many devices.")
                .bands([(0.05, RED)])
                .percentiles("pulsewire_collector_seconds", &[P50, P99]),
            lines(
                "Redis",
                "short",
                "Whether what is published in Redis is read now, and how often reading began in an hour. 0: look at the log, \
                 and at Redis; `redis.url` is not set: always 0.",
            )
            .query("connected, {{instance}}", "max by (instance) (pulsewire_redis_connected{@})")
            .query("streams connected, {{instance}}", "max by (instance) (pulsewire_redis_streams_connected{@})")
            .query("connects in an hour", "sum(increase(pulsewire_redis_connects_total{@}[1h]))")
            .alerts(&["PulsewireRedisDisconnected"]),
            lines(
                "Redis Streams",
                "cps",
                "Entries acknowledged in a second, those taken over from a server that died, and attempts that are made \
                 again because the store does not take them.",
            )
            .query("acknowledged", "sum(rate(pulsewire_redis_acknowledged_total{@}[@]))")
            .query("claimed", "sum(rate(pulsewire_redis_claimed_total{@}[@]))")
            .query("retries", "sum(rate(pulsewire_redis_retries_total{@}[@]))"),
            lines(
                "Redis Streams: Waiting",
                "short",
                "Entries that no server has been given (lag), and those that one has and has not acknowledged (pending). Lag \
                 that grows: add servers; pending that stays: the store does not take them.",
            )
            .query("lag", "max(pulsewire_redis_stream_lag_entries{@})")
            .query("pending", "max(pulsewire_redis_stream_pending_entries{@})"),
            lines(
                "Redis: Refused Events",
                "cps",
                "Messages and entries that were to be events and were refused for good, in a second. Entries stand in the \
                 stream KEY:refused with the reason.",
            )
            .stacked()
            .bands(ANY)
            .query("{{reason}}", "sum by (reason) (rate(pulsewire_redis_refused_total{@}[@]))"),
            lines(
                "Tasks Forgotten",
                "cpm",
                "Tasks that numbers are derived about and that were forgotten before they ended: executions and agents are \
                 counted too low.",
            )
            .query("forgotten", "sum(rate(pulsewire_derived_tasks_forgotten_total{@}[@])) * 60"),
        ],
    )
}
