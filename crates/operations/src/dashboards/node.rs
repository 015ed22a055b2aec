//! The process and its machine: shards, runtime, memory, files, store, kernel, TLS, and what the server thinks of itself.

use super::board::{Board, Row, Tracks, closed, open};
use super::panel::{
    ANY, BLUE, GREEN, ORANGE, P50, P95, P99, RED, YELLOW, heat, levels, lines, number, rows, shares, states,
};
use crate::Pack;

pub(super) fn board(pack: &Pack) -> Board {
    Board {
        uid: "pulsewire-node",
        title: "Node and Runtime",
        description: "The process and its machine: CPU, memory, files, threads, store, kernel, TLS, scrapes.",
        tracks: Tracks::Together,
        rows: vec![
            now(),
            busy(pack),
            memory(),
            machine(pack),
            store(),
            cluster(),
            kernel(),
            security(),
            operators(),
            scrapes(),
        ],
    }
}

fn now() -> Row {
    open(
        "Now",
        vec![
            states(
                "Servers",
                "short",
                "Whether Prometheus reaches each server, and whether it sends its clients away. Unreachable: is the process \
                 there, and does its address answer?",
            )
            .size(16, 5)
            .query("{{instance}}", "up{@} + (websocket_draining{@} or up{@} * 0)")
            .word("0", "unreachable", RED)
            .word("1", "up", GREEN)
            .word("2", "draining", ORANGE)
            .alerts(&[
                "PulsewireTargetDown",
                "PulsewireNoTargets",
                "PulsewireMetricsMissing",
                "PulsewireDrainingTooLong",
            ]),
            rows("Versions", "short", "Version and revision of each server.")
                .size(8, 5)
                .query("", "max by (instance, version, revision) (pulsewire_build_info{@})"),
            states(
                "The Server's Own Rules",
                "short",
                "Rules by which the server judges itself and that fire, as in its own dashboard: the same limits, the same \
                 moment, also when no rules are loaded in Prometheus.",
            )
            .size(16, 5)
            .query("{{alert}} {{instance}}", r#"max by (alert, instance) (pulsewire_alert_firing{@,severity="warning"}) + 2 * max by (alert, instance) (pulsewire_alert_firing{@,severity="critical"})"#)
            .word("0", "as it should be", GREEN)
            .word("1", "warning", ORANGE)
            .word("2", "critical", RED)
            .word("3", "critical", RED)
            .look("/")
            .alerts(&["PulsewireAlert", "PulsewireShardStuck"]),
            number("Uptime", "dtdurations", "Since the youngest of these processes started. Short, and nobody deployed: it ended, the log says why.")
                .base(BLUE)
                .query("uptime", "time() - max(process_start_time_seconds{@})"),
            number("Store", "short", "Whether a store fails: events of log channels are refused then.")
                .bands(ANY)
                .query("failing", "max(websocket_store_degraded{@})")
                .word("0", "works", GREEN)
                .word("1", "fails", RED)
                .alerts(&["PulsewireStoreDegraded"]),
        ],
    )
}

fn busy(pack: &Pack) -> Row {
    open(
        "CPU and Threads",
        vec![
            lines("CPU of the Process", "short", "Cores that the process uses, user and system. As many as the machine has: add a server.")
                .query("{{instance}}", "sum by (instance) (rate(process_cpu_seconds_total{@}[@]))"),
            lines("CPU of Connections", "percent", "CPU time of the threads that carry connections, as a share of all cores.")
                .bands([(70.0, ORANGE), (90.0, RED)])
                .query("{{instance}}", "sum by (instance) (websocket_cpu_usage_percent{@})"),
            lines(
                "Loop Lag",
                "s",
                "How late shards and the runtime answer, at 95 %. High while CPU is not: something blocks, or the machine \
                 pauses us (steal, cgroup throttling).",
            )
            .bands(levels(pack.limits.lag, 1e-3))
            .query("{{loop}}", "histogram_quantile(0.95, sum by (le, loop) (rate(pulsewire_loop_lag_seconds_bucket{@}[@])))")
            .alerts(&["PulsewireLoopLagHigh", "PulsewireLoopLagCritical"]),
            lines("Tokio Tasks", "short", "Tasks alive on the runtime that serves HTTP, handshakes and hooks, and those that wait for a thread.")
                .query("alive, {{instance}}", "sum by (instance) (pulsewire_tokio_tasks{@})")
                .query("waiting, {{instance}}", "sum by (instance) (pulsewire_tokio_queue_tasks{@})"),
            lines("Threads", "short", "Threads of the process. It is a constant and some for what blocks.")
                .query("{{instance}}", "sum by (instance) (process_threads{@})"),
            lines("Channels and Sessions", "short", "Channels with an audience or a log, and sessions that wait to be resumed.")
                .query("channels", "sum(pulsewire_channels{@})")
                .query("sessions away", "sum(pulsewire_sessions_detached{@})"),
        ],
    )
}

fn memory() -> Row {
    open(
        "Memory",
        vec![
            lines(
                "Memory of the Process",
                "bytes",
                "Resident, what the allocator has given out, and what connections are attributed. Resident far above the \
                 heap: fragmentation; heap above what is attributed and growing: `pulsewire report`, then report it.",
            )
            .query("resident", "sum(process_resident_memory_bytes{@})")
            .query("heap", "sum(pulsewire_heap_allocated_bytes{@})")
            .query("connections", "sum(websocket_memory_usage_bytes{@})")
            .query("kernel, for sockets", "sum(pulsewire_kernel_socket_bytes{@})"),
            lines("Memory by Use", "bytes", "Memory by what it is used for, as attributed by its owners. Outboxes grow: slow readers.")
                .stacked()
                .query("{{class}}", "sum by (class) (pulsewire_memory_bytes{@})"),
            lines("Resident Memory by Server", "bytes", "Resident memory of each process. One alone grows: its clients differ, or it leaks.")
                .query("{{instance}}", "sum by (instance) (process_resident_memory_bytes{@})"),
        ],
    )
}

fn machine(pack: &Pack) -> Row {
    open(
        "Files",
        vec![
            lines(
                "File Descriptors",
                "short",
                "Open file descriptors, and those allowed. At the limit nobody new is let in: raise `LimitNOFILE`.",
            )
            .query("open, {{instance}}", "sum by (instance) (process_open_fds{@})")
            .limit("allowed", "min(process_max_fds{@})"),
            lines("File Descriptors Used", "percentunit", "Open, of those allowed. At 1 nobody new is let in.")
                .bands(shares(pack.limits.files))
                .query("{{instance}}", "sum by (instance) (process_open_fds{@}) / sum by (instance) (process_max_fds{@})")
                .alerts(&["PulsewireOpenFilesHigh", "PulsewireOpenFilesCritical"]),
            lines("Virtual Memory", "bytes", "Address space. It says little; a jump says that something was mapped.")
                .query("{{instance}}", "sum by (instance) (process_virtual_memory_bytes{@})"),
        ],
    )
}

fn store() -> Row {
    closed(
        "Store",
        vec![
            lines(
                "Commit",
                "s",
                "From the acceptance of a publish request to its store's answer. Over 0.1 s publishers feel it: is the disk or \
                 the database busy?",
            )
            .bands([(0.1, ORANGE), (0.5, RED)])
            .percentiles("websocket_store_commit_seconds", &[P50, P95, P99]),
            heat("Events in a Commit", "short", "How many events were kept in one transaction: it grows under load, as it should.")
                .query("{{le}}", "sum by (le) (increase(pulsewire_store_batch_events_bucket{@}[@]))"),
            lines("Store Queue and Reads", "short", "Events that wait to be kept, and pages of history that are read or wait. Queue grows: the store is slower than publishers.")
                .query("events waiting", "sum(pulsewire_store_queue_events{@})")
                .query("reads", "sum(pulsewire_history_reads_active{@})")
                .query("reads waiting", "sum(pulsewire_history_reads_waiting{@})"),
            lines(
                "Store Errors",
                "cpm",
                "Times in a minute that a store did not do what it was asked, and stored events that could not be read. \
                 `full`: the disk; `unreachable`: the database; `corrupt`: restore from a backup.",
            )
            .bands(ANY)
            .query("{{kind}}", "sum by (kind) (rate(websocket_store_errors_total{@}[@])) * 60")
            .query("events unreadable", "sum(rate(pulsewire_store_corrupt_events_total{@}[@])) * 60"),
        ],
    )
}

fn cluster() -> Row {
    closed(
        "Between Nodes",
        vec![
            states("Broker", "short", "Whether each server reaches the broker between nodes. Lost: Redis, or the way to it; the log says why.")
                .query("{{instance}}", "max by (instance) (pulsewire_broker_connected{@}) and max by (instance) (websocket_bus_connected{@})")
                .word("0", "lost", RED)
                .word("1", "reached", GREEN)
                .alerts(&["PulsewireBrokerLost"]),
            lines("Other Nodes", "short", "Nodes that each server hears, and those that fell silent without saying goodbye. Missing: is it there, and does it reach the broker?")
                .query("{{state}}, {{instance}}", "max by (state, instance) (pulsewire_cluster_nodes{@})")
                .alerts(&["PulsewireNodeMissing"]),
            lines("Lag of the Broker", "s", "The way of a message to the broker and back, at 50 and 99 %.")
                .bands([(0.25, RED)])
                .percentiles("pulsewire_broker_lag_seconds", &[P50, P99])
                .alerts(&["PulsewireBrokerLagging"]),
            lines("Messages between Nodes", "cps", "What nodes say to each other in a second, by kind. Received far above what this node's clients listen to: PostgreSQL as the broker.")
                .query("{{kind}}, {{direction}}", "sum by (kind, direction) (rate(pulsewire_broker_messages_total{@}[@]))")
                .query("{{result}}, all kinds", "sum by (result) (rate(websocket_bus_messages_total{@}[@]))"),
            lines("Presence between Nodes", "short", "Users in channels that each server tells the others of, and that it keeps of others.")
                .query("{{of}}, {{instance}}", "max by (of, instance) (pulsewire_presence_rows{@})")
                .query("{{what}} a second", "sum by (what) (rate(pulsewire_presence_shared_total{@}[@]))"),
            lines("Bytes between Nodes", "Bps", "Bytes in a second to the broker and from it.")
                .query("{{direction}}", "sum by (direction) (rate(pulsewire_broker_bytes_total{@}[@]))"),
            lines(
                "Lost between Nodes",
                "cps",
                "What did not go between nodes, by reason, and hints that went without their events. Log channels read it from \
                 the store; the rest is lost for other nodes.",
            )
            .query("{{reason}}", "sum by (reason) (rate(pulsewire_broker_dropped_total{@}[@]))")
            .query("without events", "sum(rate(pulsewire_broker_shortened_total{@}[@]))"),
            lines("Queue to the Broker", "bytes", "Bytes that wait for the broker. It grows: the broker is too slow.")
                .query("{{instance}}", "max by (instance) (pulsewire_broker_queue_bytes{@})"),
            lines("Topics", "short", "Channels to be heard of through the broker, and those that are. Apart for long: the broker does not confirm.")
                .query("{{state}}, {{instance}}", "max by (state, instance) (pulsewire_broker_topics{@})"),
            lines("Broker Reached Again", "cpm", "Times in a minute that the broker was reached after it was lost. Again and again: it closes slow readers (client-output-buffer-limit pubsub).")
                .query("{{instance}}", "sum by (instance) (rate(pulsewire_broker_reconnects_total{@}[@])) * 60"),
            lines("Clocks", "s", "By how much the clock of another node differs at most. Tokens are judged by each node's own.")
                .bands([(1.0, ORANGE), (5.0, RED)])
                .query("{{instance}}", "max by (instance) (websocket_clock_skew_seconds{@})"),
        ],
    )
}

fn kernel() -> Row {
    closed(
        "Kernel",
        vec![
            lines("TCP Round Trip", "s", "TCP's own round trip, sampled: the network alone, without our queues and their code.")
                .percentiles("pulsewire_tcp_rtt_seconds", &[P50, P95]),
            lines("Retransmissions", "cps", "TCP segments sent again in a second, as samples see it: loss on the way.")
                .query("{{instance}}", "sum by (instance) (rate(pulsewire_tcp_retransmits_total{@}[@]))"),
            lines("Bytes in the Kernel", "bytes", "What a connection's kernel queue holds unsent and in flight, at the chosen quantile of the samples.")
                .query("unsent", "histogram_quantile($quantile, sum by (le) (rate(pulsewire_tcp_unsent_bytes_bucket{@}[@])))")
                .query("in flight", "histogram_quantile($quantile, sum by (le) (rate(pulsewire_tcp_unacked_bytes_bucket{@}[@])))"),
        ],
    )
}

fn security() -> Row {
    closed(
        "TLS, Keys, Settings",
        vec![
            lines(
                "Certificate",
                "dtdurations",
                "Until the certificate in force ends. Below two weeks: why was it not renewed? The file is read anew by itself \
                 when it changes. Empty without TLS.",
            )
            .base(RED)
            .bands([(604_800.0, ORANGE), (1_209_600.0, GREEN)])
            .negative()
            .query("{{instance}}", "min by (instance) (pulsewire_tls_certificate_expiry_timestamp_seconds{@} - time())")
            .alerts(&["PulsewireCertificateExpiring", "PulsewireCertificateExpiresNow"]),
            lines("TLS Handshakes", "cpm", "Handshakes in a minute. `failed`: clients without TLS, or that do not trust us; `timed_out`: scanners.")
                .stacked()
                .query("{{result}}", "sum by (result) (rate(pulsewire_tls_handshakes_total{@}[@])) * 60"),
            lines("Reloads", "cpm", "Reloads of settings and of certificate files in a minute. After a failed one the old ones stay in force: the log says why.")
                .query("settings {{outcome}}", "sum by (outcome) (rate(pulsewire_config_reloads_total{@}[@])) * 60")
                .query("certificate {{outcome}}", "sum by (outcome) (rate(pulsewire_tls_reloads_total{@}[@])) * 60")
                .alerts(&["PulsewireReloadFailed"]),
            lines("Key Set", "cpm", "Fetches of the key set of `auth.jwks_url` in a minute; after a failed one the known keys stay in force.")
                .query("{{outcome}}", "sum by (outcome) (rate(pulsewire_jwks_fetches_total{@}[@])) * 60"),
            lines("Authentications", "cpm", "Authentications in a minute, by outcome. Reasons are in WebSocket Connections.")
                .stacked()
                .query("{{outcome}}", "sum by (outcome) (rate(pulsewire_auth_total{@}[@])) * 60"),
        ],
    )
}

fn operators() -> Row {
    closed(
        "Operators",
        vec![
            lines("Watches", "short", "Queries that operators watch, each answered once a second, and those refused in an hour (`watch.queries_max`).")
                .query("watched", "sum(pulsewire_watches{@})")
                .query("refused in an hour", "sum(increase(pulsewire_watches_refused_total{@}[1h]))"),
            lines("Answers to Watches", "s", "From the question to the message, at 95 %: what looking costs.")
                .query("p95", "histogram_quantile(0.95, sum by (le) (rate(pulsewire_watch_seconds_bucket{@}[@])))"),
            lines("Self-Check", "short", "By how much a count differs from the table that it counts. Anything but 0 is a bug of ours: please report it.")
                .bands(ANY)
                .query("{{what}}", "max by (what) (abs(pulsewire_selfcheck_mismatch{@}))"),
        ],
    )
}

fn scrapes() -> Row {
    closed(
        "Scrapes",
        vec![
            lines("Scrape Duration", "s", "How long Prometheus waits for a server's metrics. Over a second: the machine is busy, or there are very many series.")
                .bands([(1.0, ORANGE), (5.0, RED)])
                .query("{{instance}}", "max by (instance) (scrape_duration_seconds{@})")
                .alerts(&["PulsewireScrapeSlow"]),
            lines("Series of a Server", "short", "Samples in a scrape: about 2,000 are usual. Over 10,000: event types or pushed metrics with ids in their names.")
                .bands([(5_000.0, YELLOW), (10_000.0, RED)])
                .query("{{instance}}", "max by (instance) (scrape_samples_scraped{@})")
                .query("names refused in a second", "sum(rate(websocket_metrics_series_dropped_total{@}[@]))")
                .alerts(&["PulsewireCardinalityHigh", "PulsewireSeriesDropped"]),
        ],
    )
}
