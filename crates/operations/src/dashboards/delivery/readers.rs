//! What waits for readers, and what they are sent first.

use crate::dashboards::board::{Row, closed};
use crate::dashboards::panel::{BLUE, ORANGE, RED, bars, lines};

pub(super) fn readers() -> Row {
    closed(
        "Readers",
        vec![
            lines(
                "Bytes Waiting",
                "bytes",
                "Bytes in all outboxes, and those that the kernel has taken and not sent or not seen acknowledged. Ours \
                 grow: readers are slow or away.",
            )
            .query("outboxes", "sum(websocket_outbound_queue_bytes{@})")
            .query("kernel, unsent", "sum(pulsewire_kernel_unsent_bytes{@})")
            .query("kernel, not acknowledged", "sum(pulsewire_kernel_unacked_bytes{@})")
            .look("/connections?sort=-queue"),
            bars(
                "Connections by Bytes Waiting",
                "short",
                "Live connections by how much waits for each now. A few in the high bars: one reader each; many: the \
                 network.",
            )
            .base(BLUE)
            .query("{{le}} B", "sum by (le) (pulsewire_outbound_queue_bytes_bucket{@})")
            .look("/connections?sort=-queue"),
            lines(
                "Bytes Waiting at a Connection",
                "bytes",
                "The chosen quantile over the live connections of this moment, from the same buckets.",
            )
            .query("waiting", "histogram_quantile($quantile, sum by (le) (pulsewire_outbound_queue_bytes_bucket{@}))"),
            lines(
                "Bytes",
                "Bps",
                "Bytes exchanged with clients in a second: message payloads, and everything on the socket. Far apart: small \
                 messages, or TLS.",
            )
            .query("{{direction}}, {{layer}}", "sum by (direction, layer) (rate(pulsewire_bytes_total{@}[@]))"),
            lines("Frames and Writes", "cps", "WebSocket frames and write system calls in a second: many frames in a write is good.")
                .query("frames {{direction}}", "sum by (direction) (rate(pulsewire_frames_total{@}[@]))")
                .query("write calls", "sum(rate(pulsewire_write_calls_total{@}[@]))"),
            lines(
                "Events in a Write",
                "short",
                "Frames sent for each write system call. Grows under load: that is what keeps the CPU down.",
            )
            .query(
                "frames per write",
                r#"sum(rate(pulsewire_frames_total{@,direction="sent"}[@])) / (sum(rate(pulsewire_write_calls_total{@}[@])) > 0)"#,
            ),
        ],
    )
}

pub(super) fn initial_state() -> Row {
    closed(
        "Initial State and History",
        vec![
            lines(
                "Initial State",
                "ms",
                "From an accepted request to the last byte of the initial state being handed to the kernel. Over a second \
                 at 90 %: large histories, or a slow store (see its stages).",
            )
            .bands([(500.0, ORANGE), (1000.0, RED)])
            .query("p50", "histogram_quantile(0.5, sum by (le) (rate(websocket_initial_state_latency_milliseconds_bucket{@}[@])))")
            .query("p90", "histogram_quantile(0.9, sum by (le) (rate(websocket_initial_state_latency_milliseconds_bucket{@}[@])))")
            .query("p99", "histogram_quantile(0.99, sum by (le) (rate(websocket_initial_state_latency_milliseconds_bucket{@}[@])))")
            .alerts(&["WebSocketSlowInitialState"]),
            lines(
                "Stages of an Initial State",
                "s",
                "Reading its first page, encoding its parts, and sending, at the chosen quantile. `fetch`: the store; \
                 `serialize`: large events; `send`: the client.",
            )
            .query(
                "{{stage}}",
                "histogram_quantile($quantile, sum by (le, stage) (rate(pulsewire_initial_state_stage_seconds_bucket{@}[@])))",
            ),
            lines(
                "Pages of History",
                "cps",
                "Pages read in a second by where they came from; `store` alone high: raise the ring or the cache.",
            )
            .stacked()
            .query("{{source}}", "sum by (source) (rate(pulsewire_history_reads_total{@}[@]))"),
        ],
    )
}
