//! Document 002's dashboard: streams that the server opens to others, and a canary beside the stable servers.

use super::board::{Board, Row, Tracks, closed, open};
use super::panel::{BLUE, ORANGE, RED, lines, number, rows, shares, states};
use crate::Pack;

pub(super) fn board(pack: &Pack) -> Board {
    Board {
        uid: "pulsewire-upstreams",
        title: "Upstreams and Canary",
        description: "Streams to upstreams (WSManager), and a canary compared with the stable servers.",
        tracks: Tracks::Apart,
        rows: vec![upstreams(), messages(), candidate(), canary(), canary_clients(pack), which()],
    }
}

fn upstreams() -> Row {
    open(
        "WSManager",
        vec![
            lines(
                "Active Connections",
                "short",
                "Streams to upstreams that there are, connected or still trying, with the number from which it is a leak: 100, or most of what is allowed. Grows without end: see Stream \
                 Lifecycle; `pulsewire upstreams cleanup` closes idle ones.",
            )
            .query("{{instance}}", r#"sum by (instance) (ws_manager_active_connections{@,track=~"$track"})"#)
            .limit(
                "a leak",
                r#"min(0.8 * (ws_manager_connections_limit{@,track=~"$track"} > 0)) or max(ws_manager_active_connections{@,track=~"$track"}) * 0 + 100"#,
            )
            .alerts(&["WSManagerConnectionLeak"]),
            lines(
                "Retry Rate",
                "cps",
                "Attempts to open a stream again, in a second. Over 0.5: an upstream is away or refuses; Error Analysis says \
                 how.",
            )
            .bands([(0.5, RED)])
            .query("{{instance}}", r#"sum by (instance) (rate(ws_manager_retry_count_total{@,track=~"$track"}[@]))"#)
            .alerts(&["WSManagerHighRetryRate"]),
            lines(
                "Stream Lifecycle",
                "cps",
                "Streams created and cleaned up in a second. They should lie on each other; created above cleaned up for \
                 long is a leak.",
            )
            .query("created", r#"sum(rate(ws_manager_stream_creations_total{@,track=~"$track"}[@]))"#)
            .query("cleaned up", r#"sum(rate(ws_manager_stream_cleanups_total{@,track=~"$track"}[@]))"#),
            lines(
                "High Water Mark",
                "short",
                "The most streams that there were at once, since the server started and since midnight UTC.",
            )
            .query("since start, {{instance}}", r#"max by (instance) (ws_manager_active_connections_hwm{@,track=~"$track"})"#)
            .query("window, {{instance}}", r#"max by (instance) (ws_manager_active_connections_hwm_window{@,track=~"$track"})"#),
            lines(
                "Streams Not Cleaned Up",
                "short",
                "Streams that have ended and of which something is left: what cleanup owes. 20 and more for a quarter of an \
                 hour is a bug: keep the log, and report it.",
            )
            .bands([(20.0, RED)])
            .query("{{instance}}", r#"sum by (instance) (ws_manager_streams_uncleaned{@,track=~"$track"})"#)
            .alerts(&["WSManagerCleanupLag"]),
            lines(
                "Error Analysis",
                "cpm",
                "Errors of streams in a minute, by kind, beside attempts and retries. `resolve`: names; `connect` and \
                 `timeout`: the network; `tls`: certificates; `handshake`: the upstream refuses; `closed`: it ends them.",
            )
            .query("{{kind}}", r#"sum by (kind) (rate(ws_manager_stream_errors_total{@,track=~"$track"}[@])) * 60"#)
            .query("attempts", r#"sum(rate(ws_manager_connect_attempts_total{@,track=~"$track"}[@])) * 60"#)
            .query("retries", r#"sum(rate(ws_manager_retry_count_total{@,track=~"$track"}[@])) * 60"#),
            states(
                "Health Status",
                "short",
                "Whether Prometheus reaches each server, and whether it sends its clients away. Unreachable for a minute: is \
                 the process there (`systemctl status`, `kubectl get pods`), and does `curl -I …/api/ws/metrics` answer?",
            )
            .query(
                "{{instance}}",
                r#"up{@,track=~"$track"} + (websocket_draining{@,track=~"$track"} or up{@,track=~"$track"} * 0)"#,
            )
            .word("0", "unreachable", RED)
            .word("1", "up", "green")
            .word("2", "draining", ORANGE)
            .alerts(&["WSManagerServiceDown"]),
        ],
    )
}

fn messages() -> Row {
    open(
        "Streams and Messages",
        vec![
            lines(
                "Streams by State",
                "short",
                "Where streams are. `waiting`: for the next attempt; `circuit`: attempts at its upstream keep failing, and one \
                 is made each half minute; `failed`: given up, until `pulsewire upstreams restart`.",
            )
            .stacked()
            .query("{{state}}", r#"sum by (state) (ws_manager_streams{@,track=~"$track"})"#)
            .alerts(&["WSManagerStreamsFailed", "WSManagerCircuitOpen"]),
            lines(
                "Upstream Messages",
                "cps",
                "Messages of upstreams in a second, by what became of them. `duplicate`: the other link was first; `unmapped`: \
                 no event, such as an answer or a heartbeat, or a format that has changed; `dropped`: more than are taken; \
                 `refused`: the channel did not take them.",
            )
            .query("{{result}}", r#"sum by (result) (rate(ws_manager_messages_total{@,track=~"$track"}[@]))"#),
            lines("Upstream Traffic", "Bps", "Bytes of the payloads of upstreams' messages in a second.")
                .query("{{instance}}", r#"sum by (instance) (rate(ws_manager_received_bytes_total{@,track=~"$track"}[@]))"#),
            lines(
                "Missing and Refused",
                "cpm",
                "In a minute: numbers of upstreams' sequences that never came, on any link; and streams that somebody wanted \
                 and that were not created because there are as many as there may be (`upstreams.streams_max`).",
            )
            .query("messages missing", r#"sum(rate(ws_manager_missing_messages_total{@,track=~"$track"}[@])) * 60"#)
            .query("streams refused", r#"sum(rate(ws_manager_refused_total{@,track=~"$track"}[@])) * 60"#),
            lines(
                "Fail-Overs and Circuits",
                "cpm",
                "In a minute: links of a stream that took over from another; and circuits that opened, each after failures in \
                 a row, so that an upstream is left alone for a while.",
            )
            .query("fail-overs", r#"sum(rate(ws_manager_failovers_total{@,track=~"$track"}[@])) * 60"#)
            .query("circuits opened", r#"sum(rate(ws_manager_circuit_opened_total{@,track=~"$track"}[@])) * 60"#),
        ],
    )
}

/// What one server compares; [`canary`] is what Prometheus compares over servers.
fn candidate() -> Row {
    open(
        "Candidate Settings against Stable: Within Servers",
        vec![
            states(
                "Verdict",
                "short",
                "What each server thinks of the settings that it tries on a share of its streams (`pulsewire upstreams canary` \
                 says why). `insufficient`: too few streams to say. `suspect`: worse, but not for long. `fail`: take it back; \
                 with `canary.rollback` the server does so itself.",
            )
            .query(
                "{{instance}}",
                r#"sum by (instance) (ws_manager_canary_verdict{@,track=~"$track",verdict="off"}) * 0
+ sum by (instance) (ws_manager_canary_verdict{@,track=~"$track",verdict="insufficient"})
+ 2 * sum by (instance) (ws_manager_canary_verdict{@,track=~"$track",verdict="pass"})
+ 3 * sum by (instance) (ws_manager_canary_verdict{@,track=~"$track",verdict="suspect"})
+ 4 * sum by (instance) (ws_manager_canary_verdict{@,track=~"$track",verdict="fail"})
+ 5 * sum by (instance) (ws_manager_canary_verdict{@,track=~"$track",verdict="rolled_back"})"#,
            )
            .word("0", "off", "transparent")
            .word("1", "insufficient", BLUE)
            .word("2", "pass", "green")
            .word("3", "suspect", ORANGE)
            .word("4", "fail", RED)
            .word("5", "rolled back", RED)
            .alerts(&["WSManagerCanaryVerdict"]),
            lines("Streams by Settings", "short", "Streams on the settings that everybody has, and on the candidate's.")
                .query("{{settings}}", r#"sum by (settings) (ws_manager_track_streams{@,track=~"$track"})"#),
            lines(
                "Failed Attempts by Settings",
                "percentunit",
                "Errors of streams, of the attempts to open one. The candidate is worse above 1.5 times stable, if several of \
                 its streams show it and chance would hardly make it.",
            )
            .query(
                "{{settings}}",
                r#"sum by (settings) (rate(ws_manager_track_errors_total{@,track=~"$track"}[@])) / (sum by (settings) (rate(ws_manager_track_attempts_total{@,track=~"$track"}[@])) > 0)"#,
            ),
            lines(
                "Retries per Stream by Settings",
                "cps",
                "Retries in a second for each stream, so that the candidate's tenth compares with the rest.",
            )
            .query(
                "{{settings}}",
                r#"sum by (settings) (rate(ws_manager_track_retries_total{@,track=~"$track"}[@])) / clamp_min(sum by (settings) (avg_over_time(ws_manager_track_streams{@,track=~"$track"}[@])), 1)"#,
            ),
        ],
    )
}

fn canary() -> Row {
    open(
        "Canary against Stable: Upstreams",
        vec![
            lines(
                "Failed Attempts by Track",
                "percentunit",
                "Errors of streams, of the attempts to open one. Above 5 % for 3 minutes the canary is rolled back.",
            )
            .bands([(0.05, RED)])
            .query(
                "{{track}}",
                r#"sum by (track) (rate(ws_manager_stream_errors_total{@,track!=""}[@])) / (sum by (track) (rate(ws_manager_connect_attempts_total{@,track!=""}[@])) > 0)"#,
            )
            .alerts(&["WSManagerCanaryErrorRateHigher", "WSManagerCanaryRollback"]),
            lines(
                "Retries per Stream by Track",
                "cps",
                "Retries in a second for each open stream, so that tracks of unequal size compare. The canary above the \
                 dashed line, 1.5 times stable, is worse.",
            )
            .query(
                "{{track}}",
                r#"sum by (track) (rate(ws_manager_retry_count_total{@,track!=""}[@])) / clamp_min(sum by (track) (avg_over_time(ws_manager_active_connections{@,track!=""}[@])), 1)"#,
            )
            .limit(
                "1.5 × stable",
                r#"1.5 * clamp_min(sum(rate(ws_manager_retry_count_total{@,track="stable"}[@])) / clamp_min(sum(avg_over_time(ws_manager_active_connections{@,track="stable"}[@])), 1), 0.01)"#,
            )
            .alerts(&["WSManagerCanaryRetryDegraded"]),
            lines("Servers by Track", "short", "Servers that Prometheus reaches. No canary: nothing is compared, and that is a failure.")
                .query("{{track}}", r#"sum by (track) (up{@,track!=""})"#),
        ],
    )
}

fn canary_clients(pack: &Pack) -> Row {
    open(
        "Canary against Stable: Clients",
        vec![
            lines(
                "Failed Connections by Track",
                "percentunit",
                "Attempts of clients that failed, of all. Sockets stay where they are: a canary sees those that come anew.",
            )
            .bands([(0.05, RED)])
            .query(
                "{{track}}",
                r#"sum by (track) (rate(websocket_connections_total{@,track!="",status="failed"}[@])) / (sum by (track) (rate(websocket_connections_total{@,track!="",status=~"opened|failed"}[@])) > 0)"#,
            ),
            lines("Latency by Track", "ms", "From acceptance to the kernel, at the chosen quantile.")
                .bands(super::panel::latency_milliseconds(pack))
                .query(
                    "{{track}}",
                    r#"histogram_quantile($quantile, sum by (le, track) (rate(websocket_event_latency_milliseconds_bucket{@,track!=""}[@])))"#,
                ),
            lines("Discarded by Track", "percentunit", "Messages discarded, of all, by the servers of each track.")
                .bands(shares(pack.limits.drops))
                .query(
                    "{{track}}",
                    r#"sum by (track) (rate(websocket_messages_dropped_total{@,track!=""}[@])) / (sum by (track) (rate(websocket_messages_total{@,track!=""}[@])) > 0)"#,
                ),
            number("Clients of the Canary", "percentunit", "Live connections on canary servers, of all: its weight as it really is.").tall()
                .base(BLUE)
                .query(
                    "weight",
                    r#"sum(websocket_active_connections{@,track="canary"}) / (sum(websocket_active_connections{@,track!=""}) > 0)"#,
                ),
        ],
    )
}

fn which() -> Row {
    closed(
        "Which Is Which",
        vec![
            rows("Versions", "short", "Version and revision of each server, and its track.")
                .size(24, 8)
                .query("", r#"max by (track, job, instance, version, revision) (pulsewire_build_info{@,track=~"$track"})"#),
        ],
    )
}
