//! The declarations.

use super::data::Data;
use super::{Buckets, Family, Kind, Label, Values};
use crate::labels::{
    Alert, AuthFailure, AuthOutcome, BrokerDrop, BrokerItem, BusMessage, CLOSE_CODE_NAMES, CanaryVerdict,
    ChunkOutcome, Codec, ConnectionError, Direction, DisconnectReason, DropCause, GapReason,
    HandshakeOutcome, HookOutcome, InitialStage, Initiator, KeyFetch, Layer, Loop, MemoryClass, MemoryPart,
    MessageError, NodeState, PresenceDrop, PresenceEvent, PresenceOf, PresenceShared, Proof, PublishOutcome,
    PublishSource, RateScope, ReadSource, ReconnectOutcome, RedisRefusal, RejectReason, RejectStage,
    ReloadOutcome, RepairSource, SampleRefusal, SampleSource, SelfCheck, SeriesSet, Severity, SlowAction,
    Stage, Status, StoreFailure, TlsResult, TopicState, Transport, UpstreamError, UpstreamMessage,
    UpstreamState, UpstreamTrack, Visibility,
};
use crate::layout as at;
use crate::layout::histogram;

const NO_BUCKETS: Buckets = Buckets { recorded: &[], bound_scale: 1.0, sum_scale: 1.0 };

/// Bounds in nanoseconds, sum in microseconds, shown in milliseconds.
const fn millis(recorded: &'static [u64]) -> Buckets {
    Buckets { recorded, bound_scale: 1e6, sum_scale: 1e3 }
}

/// Bounds in nanoseconds, sum in microseconds, shown in seconds.
const fn seconds(recorded: &'static [u64]) -> Buckets {
    Buckets { recorded, bound_scale: 1e9, sum_scale: 1e6 }
}

/// Bounds and sum in milliseconds, shown in seconds.
const fn long_seconds(recorded: &'static [u64]) -> Buckets {
    Buckets { recorded, bound_scale: 1e3, sum_scale: 1e3 }
}

/// Counts or bytes as they are.
const fn plain(recorded: &'static [u64]) -> Buckets {
    Buckets { recorded, bound_scale: 1.0, sum_scale: 1.0 }
}

const fn label(name: &'static str, values: &'static [&'static str]) -> Label {
    Label { name, values: Values::Closed(values) }
}

const EVENT_TYPE: &[Label] = &[Label { name: "event_type", values: Values::EventTypes }];

const fn counter(
    name: &'static str,
    source: &'static str,
    labels: &'static [Label],
    data: Data,
    help: &'static str,
) -> Family {
    Family { name, kind: Kind::Counter, help, labels, buckets: NO_BUCKETS, source, data }
}

const fn gauge(
    name: &'static str,
    source: &'static str,
    labels: &'static [Label],
    data: Data,
    help: &'static str,
) -> Family {
    Family { name, kind: Kind::Gauge, help, labels, buckets: NO_BUCKETS, source, data }
}

const fn spread(
    name: &'static str,
    source: &'static str,
    labels: &'static [Label],
    buckets: Buckets,
    data: Data,
    help: &'static str,
) -> Family {
    let kind = if matches!(data, Data::Spread(_)) { Kind::GaugeHistogram } else { Kind::Histogram };
    Family { name, kind, help, labels, buckets, source, data }
}

/// Every family, in the order of the exposition.
pub(crate) const FAMILIES: &[Family] = &[
    // --- connections ---
    gauge(
        "websocket_active_connections",
        "000 001",
        &[],
        Data::Number(|v| v.current.active_connections() as f64),
        "Live client connections over every transport.",
    ),
    counter(
        "websocket_connections_total",
        "000 001",
        &[label("status", Status::NAMES)],
        Data::Counters(at::CONNECTIONS),
        "Connections established, ended, and attempts that failed or were refused.",
    ),
    counter(
        "websocket_disconnections_total",
        "000",
        &[],
        Data::Counters(at::CONNECTIONS + Status::Closed as usize),
        "Connections that ended.",
    ),
    spread(
        "websocket_connection_duration_seconds",
        "000 001",
        &[],
        long_seconds(&at::DURATION_MS.upper),
        Data::Histograms(at::DURATION),
        "How long ended connections had lasted.",
    ),
    counter(
        "websocket_auth_failures_total",
        "001",
        &[label("reason", AuthFailure::NAMES)],
        Data::Counters(at::AUTH_FAILURES),
        "Failed authentications.",
    ),
    counter(
        "websocket_reconnections_total",
        "001",
        &[],
        Data::Number(|v| v.sum(at::RECONNECTIONS, ReconnectOutcome::COUNT)),
        "Clients that came back to a session.",
    ),
    // --- subscriptions ---
    gauge(
        "websocket_subscriptions_total",
        "001",
        &[],
        Data::Number(|v| v.current.subscriptions as f64),
        "Present subscriptions; a gauge in spite of its name, and not shown in OpenMetrics: use websocket_active_subscriptions.",
    ),
    gauge(
        "websocket_active_subscriptions",
        "own",
        &[],
        Data::Number(|v| v.current.subscriptions as f64),
        "Present subscriptions.",
    ),
    gauge(
        "websocket_subscriptions_by_project",
        "001",
        &[Label { name: "project_id", values: Values::Projects }],
        Data::Projects,
        "Present subscriptions to the channels of the projects that have the most.",
    ),
    spread(
        "websocket_subscriptions_per_connection",
        "001",
        &[],
        plain(&at::SUBSCRIPTIONS.upper),
        Data::Spread(|v| v.current.subscriptions_per_connection.clone()),
        "Live connections by their number of subscriptions now; each is counted once.",
    ),
    // --- events and messages ---
    counter(
        "websocket_events_emitted_total",
        "000",
        EVENT_TYPE,
        Data::TypeCounter(at::EMITTED),
        "Publications accepted, once each however many receive them.",
    ),
    counter(
        "websocket_events_received_total",
        "000",
        EVENT_TYPE,
        Data::TypeCounter(at::RECEIVED),
        "Events sent by clients.",
    ),
    counter(
        "websocket_event_errors_total",
        "000",
        EVENT_TYPE,
        Data::TypeCounter(at::ERRORS),
        "Events of clients whose handling failed.",
    ),
    spread(
        "websocket_event_latency_milliseconds",
        "000",
        EVENT_TYPE,
        millis(&at::LATENCY_NS.upper),
        Data::TypeHistogram(at::EVENT_LATENCY),
        "From the acceptance of a publication to its last byte being handed to the kernel, for each recipient.",
    ),
    spread(
        "websocket_initial_state_latency_milliseconds",
        "000",
        &[],
        millis(&at::INITIAL_STATE_NS.upper),
        Data::Histograms(at::INITIAL_STATE),
        "From an accepted request to the last byte of the initial state being handed to the kernel.",
    ),
    counter(
        "websocket_messages_total",
        "001",
        &[label("direction", Direction::NAMES), Label { name: "type", values: Values::MessageTypes }],
        Data::Messages,
        "Messages received from and sent to clients, once for each recipient.",
    ),
    spread(
        "websocket_message_latency_milliseconds",
        "001",
        EVENT_TYPE,
        millis(&at::LATENCY_NS.upper),
        Data::TypeHistogram(at::MESSAGE_LATENCY),
        "From the acceptance of a publication to its receipt by a client (sampled: the client's receipt, else TCP's acknowledgement).",
    ),
    counter(
        "websocket_message_errors_total",
        "001",
        &[label("error_type", MessageError::NAMES)],
        Data::Counters(at::MESSAGE_ERRORS),
        "Messages that could not be read, used or written.",
    ),
    counter(
        "websocket_messages_dropped_total",
        "own",
        &[label("reason", DropCause::NAMES)],
        Data::Counters(at::DROPPED),
        "Messages discarded instead of delivered or handled.",
    ),
    // --- heartbeat ---
    counter(
        "websocket_heartbeats_sent_total",
        "001",
        &[],
        Data::Counters(at::HEARTBEATS_SENT),
        "Pings sent.",
    ),
    spread(
        "websocket_heartbeat_rtt_milliseconds",
        "000",
        &[],
        millis(&at::HEARTBEAT_NS.upper),
        Data::Histograms(at::HEARTBEAT_RTT),
        "From a ping to its pong.",
    ),
    spread(
        "websocket_heartbeat_latency_milliseconds",
        "001",
        &[],
        millis(&at::HEARTBEAT_NS.upper),
        Data::Histograms(at::HEARTBEAT_RTT),
        "The same as websocket_heartbeat_rtt_milliseconds.",
    ),
    counter(
        "websocket_heartbeat_timeouts_total",
        "001",
        &[],
        Data::Counters(at::HEARTBEAT_TIMEOUTS),
        "Pings that were not answered in time.",
    ),
    // --- resources ---
    gauge(
        "websocket_memory_usage_bytes",
        "001",
        &[],
        Data::Number(|v| {
            let classes = MemoryClass::ALL.iter().filter(|class| class.belongs_to_connections());
            classes.map(|&class| v.current.memory_bytes[class as usize]).sum::<u64>() as f64
        }),
        "Memory attributed to connections: structures, subscriptions, queued frames, read buffers. Kernel memory is not in it.",
    ),
    gauge(
        "websocket_cpu_usage_percent",
        "001",
        &[],
        Data::Number(|v| v.cpu_percent),
        "CPU time of the connection threads since the last scrape, as a share of all cores.",
    ),
    // --- collaboration runs (document 003): aliases ---
    gauge(
        "orchestrator_websocket_active_connections",
        "003",
        &[],
        Data::Number(|v| v.current.active_connections() as f64),
        "Live client connections.",
    ),
    counter(
        "orchestrator_websocket_connections_total",
        "003",
        &[],
        Data::Counters(at::CONNECTIONS + Status::Opened as usize),
        "Connections established.",
    ),
    counter(
        "orchestrator_websocket_disconnections_total",
        "003",
        &[],
        Data::Counters(at::CONNECTIONS + Status::Closed as usize),
        "Connections that ended.",
    ),
    counter(
        "orchestrator_websocket_reconnections_total",
        "003",
        &[],
        Data::Number(|v| v.sum(at::RECONNECTIONS, ReconnectOutcome::COUNT)),
        "Clients that came back to a session.",
    ),
    counter(
        "orchestrator_websocket_messages_in_total",
        "003",
        &[],
        Data::Number(|v| v.messages(Direction::Received)),
        "Messages received from clients.",
    ),
    counter(
        "orchestrator_websocket_messages_out_total",
        "003",
        &[],
        Data::Number(|v| v.messages(Direction::Sent)),
        "Messages sent to clients.",
    ),
    counter(
        "orchestrator_websocket_message_failures_total",
        "003",
        &[],
        Data::Counters(at::MESSAGE_FAILURES),
        "Messages that did not reach a live subscriber.",
    ),
    spread(
        "orchestrator_websocket_message_latency",
        "003",
        &[],
        seconds(&at::LATENCY_NS.upper),
        Data::Histograms(at::ROUND_TRIP),
        "Seconds from a client's publishing to a subscriber's receipt: from the server's reading of the publish message to its reading of the receipt, plus the publisher's last heartbeat round trip. Only publications over a WebSocket whose heartbeat was answered before, and subscribers that send receipts.",
    ),
    counter(
        "orchestrator_websocket_fallback_http_total",
        "003",
        &[],
        Data::Counters(at::FALLBACK_HTTP),
        "Sessions that fell back to HTTP.",
    ),
    // --- connections, own ---
    gauge(
        "pulsewire_connections",
        "own",
        &[label("transport", Transport::NAMES), label("codec", Codec::NAMES)],
        Data::Connections,
        "Live client connections by transport and codec.",
    ),
    gauge(
        "pulsewire_connections_limit",
        "own",
        &[],
        Data::Number(|v| v.current.connections_hard_limit as f64),
        "Connections the node allows.",
    ),
    gauge(
        "websocket_connections_limit",
        "own",
        &[],
        Data::Number(|v| v.current.connections_hard_limit as f64),
        "Connections the node allows.",
    ),
    gauge(
        "websocket_connections_soft_limit",
        "own",
        &[],
        Data::Number(|v| v.current.connections_soft_limit as f64),
        "Connections at which the node warns.",
    ),
    gauge(
        "websocket_connections_hard_limit",
        "own",
        &[],
        Data::Number(|v| v.current.connections_hard_limit as f64),
        "Connections the node allows.",
    ),
    gauge(
        "websocket_draining",
        "own",
        &[],
        Data::Number(|v| f64::from(u8::from(v.current.draining))),
        "1 while the node sends its clients away.",
    ),
    gauge(
        "pulsewire_sessions_detached",
        "own",
        &[],
        Data::Number(|v| v.current.sessions_detached as f64),
        "Sessions without a connection that can still be resumed.",
    ),
    gauge(
        "pulsewire_channels",
        "own",
        &[],
        Data::Number(|v| v.current.channels as f64),
        "Channels with an audience or a log.",
    ),
    spread(
        "pulsewire_connection_age_seconds",
        "own",
        &[],
        long_seconds(&at::DURATION_MS.upper),
        Data::Spread(|v| v.current.connection_age_ms.clone()),
        "Live connections by their age now.",
    ),
    counter(
        "pulsewire_disconnects_total",
        "own",
        &[label("reason", DisconnectReason::NAMES), label("initiator", Initiator::NAMES)],
        Data::Counters(at::DISCONNECTS),
        "Connections that ended, by why and by whom.",
    ),
    counter(
        "websocket_closes_total",
        "own",
        &[label("code", &CLOSE_CODE_NAMES), label("initiator", Initiator::NAMES)],
        Data::Counters(at::CLOSES),
        "Connections that ended, by close code (1005: none given, 1006: no Close frame).",
    ),
    counter(
        "pulsewire_connection_errors_total",
        "own",
        &[label("kind", ConnectionError::NAMES)],
        Data::Counters(at::CONNECTION_ERRORS),
        "Errors of connection attempts and live connections.",
    ),
    spread(
        "pulsewire_handshake_seconds",
        "own",
        &[label("outcome", HandshakeOutcome::NAMES)],
        seconds(&at::LATENCY_NS.upper),
        Data::Histograms(at::HANDSHAKE),
        "From an accepted TCP connection to the end of its handshake.",
    ),
    gauge(
        "pulsewire_handshakes_waiting",
        "own",
        &[],
        Data::Number(|v| v.current.handshakes_waiting as f64),
        "New connections that were told to come back later (`limits.handshakes_per_second`) and have not had their turn.",
    ),
    counter(
        "websocket_rejected_total",
        "own",
        &[label("stage", RejectStage::NAMES), label("reason", RejectReason::NAMES)],
        Data::Counters(at::REJECTED),
        "Connection attempts refused.",
    ),
    counter(
        "pulsewire_accept_rejected_total",
        "own",
        &[label("cause", RejectReason::NAMES)],
        Data::Each(|v, at| {
            (0..RejectStage::COUNT)
                .map(|stage| v.sum(at::REJECTED + stage * RejectReason::COUNT + at, 1))
                .sum()
        }),
        "Connection attempts refused, over all stages.",
    ),
    counter(
        "pulsewire_reconnections_total",
        "own",
        &[label("outcome", ReconnectOutcome::NAMES)],
        Data::Counters(at::RECONNECTIONS),
        "Clients that came back: session resumed, missed events replayed, or state reset.",
    ),
    counter(
        "pulsewire_gaps_total",
        "own",
        &[label("reason", GapReason::NAMES)],
        Data::Counters(at::GAPS),
        "Times a reader was told that events are missing.",
    ),
    // --- publish and delivery, own ---
    counter(
        "pulsewire_publish_total",
        "own",
        &[label("source", PublishSource::NAMES), label("outcome", PublishOutcome::NAMES)],
        Data::Counters(at::PUBLISH),
        "Publish requests answered.",
    ),
    spread(
        "pulsewire_stage_seconds",
        "own",
        &[label("stage", Stage::NAMES)],
        seconds(&at::LATENCY_NS.upper),
        Data::EachHistogram(|v, at| {
            let len = histogram(&at::LATENCY_NS);
            match Stage::ALL[at] {
                Stage::Fanout => v.totals.fixed[at::STAGE_FANOUT..at::STAGE_FANOUT + len].to_vec(),
                Stage::Queue => v.totals.fixed[at::STAGE_QUEUE..at::STAGE_QUEUE + len].to_vec(),
                Stage::Kernel => v.merged_rows(at::EVENT_LATENCY, len),
            }
        }),
        "From the acceptance of a publication to its reaching a stage: fan-out begun, outbox, kernel.",
    ),
    spread(
        "pulsewire_delivery_seconds",
        "own",
        &[label("proof", Proof::NAMES)],
        seconds(&at::LATENCY_NS.upper),
        Data::EachHistogram(|v, at| {
            let len = histogram(&at::LATENCY_NS);
            match Proof::ALL[at] {
                Proof::Handoff => v.merged_rows(at::EVENT_LATENCY, len),
                Proof::TcpAck => v.totals.fixed[at::RECEIPT_TCP..at::RECEIPT_TCP + len].to_vec(),
                Proof::AppAck => v.totals.fixed[at::RECEIPT_APP..at::RECEIPT_APP + len].to_vec(),
            }
        }),
        "From the acceptance of a publication to its delivery, by what shows the delivery.",
    ),
    spread(
        "pulsewire_fanout_size",
        "own",
        &[],
        plain(&at::FANOUT.upper),
        Data::Histograms(at::FANOUT_SIZE),
        "Subscribers a publication matched, on each shard that has any.",
    ),
    counter(
        "pulsewire_frames_total",
        "own",
        &[label("direction", Direction::NAMES)],
        Data::Each(|v, at| v.messages(Direction::ALL[at]) + v.sum(at::EXTRA_FRAMES + at, 1)),
        "WebSocket frames: messages, their fragments, control frames.",
    ),
    counter(
        "pulsewire_bytes_total",
        "own",
        &[label("direction", Direction::NAMES), label("layer", Layer::NAMES)],
        Data::Counters(at::BYTES),
        "Bytes exchanged with clients: message payloads, and everything on the socket.",
    ),
    counter(
        "pulsewire_write_calls_total",
        "own",
        &[],
        Data::Counters(at::WRITE_CALLS),
        "Write system calls to client sockets.",
    ),
    spread(
        "pulsewire_outbound_queue_bytes",
        "own",
        &[],
        plain(&at::QUEUE_BYTES.upper),
        Data::Spread(|v| v.current.outbound_queue_bytes.clone()),
        "Live connections by the bytes waiting in their outbox now.",
    ),
    gauge(
        "websocket_outbound_queue_bytes",
        "own",
        &[],
        Data::Number(|v| v.current.outbound_queue_bytes.sum() as f64),
        "Bytes waiting in all outboxes.",
    ),
    counter(
        "websocket_slow_consumer_total",
        "own",
        &[label("action", SlowAction::NAMES)],
        Data::Counters(at::SLOW),
        "What was done about readers that could not keep up.",
    ),
    counter(
        "pulsewire_connection_memory_limited_total",
        "own",
        &[label("part", MemoryPart::NAMES)],
        Data::Counters(at::MEMORY_LIMITED),
        "Times a connection's buffer was full: its message (closed with 1009), what waits for its token (1009), its outbox (as its channel's kind says, else 4004).",
    ),
    counter(
        "pulsewire_slow_events_total",
        "own",
        &[label("action", SlowAction::NAMES)],
        Data::Counters(at::SLOW),
        "The same as websocket_slow_consumer_total.",
    ),
    spread(
        "pulsewire_initial_state_stage_seconds",
        "own",
        &[label("stage", InitialStage::NAMES)],
        seconds(&at::LATENCY_NS.upper),
        Data::Histograms(at::INITIAL_STAGE),
        "Sending an initial state: until its first page was read, encoding each page or part, and from the last page to the kernel, its encoding included.",
    ),
    gauge(
        "pulsewire_tokio_tasks",
        "own",
        &[],
        Data::Number(|v| v.current.tokio_tasks as f64),
        "Tasks alive on the runtime that serves HTTP, handshakes and hooks.",
    ),
    gauge(
        "pulsewire_tokio_queue_tasks",
        "own",
        &[],
        Data::Number(|v| v.current.tokio_queue as f64),
        "Tasks that wait in the runtime's shared queue.",
    ),
    spread(
        "pulsewire_loop_lag_seconds",
        "own",
        &[label("loop", Loop::NAMES)],
        seconds(&at::LATENCY_NS.upper),
        Data::Histograms(at::LOOP_LAG),
        "Once a second: how long the slowest shard took to count what it has, and how late the runtime woke.",
    ),
    gauge(
        "pulsewire_alert_firing",
        "own",
        &[label("alert", Alert::NAMES), label("severity", Severity::NAMES)],
        Data::Each(|v, at| {
            let severity = v.current.alerts[at / Severity::COUNT];
            f64::from(u8::from(severity == Some(Severity::ALL[at % Severity::COUNT])))
        }),
        "1 while a rule of the server's own fires with this severity; see operate/thresholds.md.",
    ),
    // --- keeping, own ---
    spread(
        "websocket_store_commit_seconds",
        "own",
        &[],
        seconds(&at::LATENCY_NS.upper),
        Data::Histograms(at::STORE_COMMIT),
        "From the acceptance of a publish request to its store's answer.",
    ),
    spread(
        "pulsewire_store_batch_events",
        "own",
        &[],
        plain(&at::BATCH.upper),
        Data::Histograms(at::STORE_BATCH),
        "Events that were kept in one commit.",
    ),
    counter(
        "websocket_store_errors_total",
        "own",
        &[label("kind", StoreFailure::NAMES)],
        Data::Counters(at::STORE_ERRORS),
        "Times a store did not do what it was asked.",
    ),
    gauge(
        "websocket_store_degraded",
        "own",
        &[],
        Data::Number(|v| f64::from(u8::from(v.current.store_degraded))),
        "1 while a store fails: events of log channels are refused.",
    ),
    gauge(
        "pulsewire_store_queue_events",
        "own",
        &[],
        Data::Number(|v| v.current.store_queue_events as f64),
        "Events that wait to be kept.",
    ),
    counter(
        "pulsewire_history_reads_total",
        "own",
        &[label("source", ReadSource::NAMES)],
        Data::Counters(at::STORE_READS),
        "Pages of history and parts of keyed state, by where they came from.",
    ),
    gauge(
        "pulsewire_history_reads_active",
        "own",
        &[],
        Data::Number(|v| v.current.history_reads_active as f64),
        "Pages of history that are being read over HTTP; at most reading.reads_max.",
    ),
    gauge(
        "pulsewire_history_reads_waiting",
        "own",
        &[],
        Data::Number(|v| v.current.history_reads_waiting as f64),
        "Pages of history that wait for their turn to be read over HTTP.",
    ),
    counter(
        "pulsewire_store_corrupt_events_total",
        "own",
        &[],
        Data::Counters(at::STORE_CORRUPT),
        "Stored events that could not be read; readers are told a gap.",
    ),
    counter(
        "websocket_gap_repairs_total",
        "own",
        &[label("source", RepairSource::NAMES)],
        Data::Counters(at::REPAIRS),
        "Times this node read publications that it had not heard of, by how it found out.",
    ),
    counter(
        "pulsewire_repeated_publications_total",
        "own",
        &[],
        Data::Counters(at::REPEATED),
        "Publications that were heard a second time and not passed on again.",
    ),
    counter(
        "websocket_position_ahead_total",
        "own",
        &[],
        Data::Counters(at::POSITION_AHEAD),
        "Times a store stood behind what it had acknowledged; readers are told a reset.",
    ),
    counter(
        "pulsewire_channel_resets_total",
        "own",
        &[],
        Data::Counters(at::CHANNEL_RESETS),
        "Channels whose history was found to be another one; readers are told a reset.",
    ),
    counter(
        "pulsewire_dropped_total",
        "own",
        &[label("cause", DropCause::NAMES)],
        Data::Counters(at::DROPPED),
        "Messages discarded instead of delivered or handled.",
    ),
    counter(
        "pulsewire_conflated_total",
        "own",
        &[],
        Data::Counters(at::CONFLATED),
        "Messages replaced by newer ones before they were sent.",
    ),
    // --- presence, own ---
    gauge(
        "pulsewire_presence_members",
        "own",
        &[],
        Data::Number(|v| v.current.presence_members as f64),
        "Users present in channels; a user in two channels counts twice.",
    ),
    gauge(
        "pulsewire_presence_channels",
        "own",
        &[],
        Data::Number(|v| v.current.presence_channels as f64),
        "Channels with somebody present.",
    ),
    counter(
        "pulsewire_presence_events_total",
        "own",
        &[label("event", PresenceEvent::NAMES)],
        Data::Counters(at::PRESENCE),
        "Changes of presence as they were told, once for each channel whatever the number of its watchers.",
    ),
    counter(
        "pulsewire_presence_dropped_total",
        "own",
        &[label("cause", PresenceDrop::NAMES)],
        Data::Counters(at::PRESENCE_DROPPED),
        "Members and cursors refused, cursors replaced before they were told, and changes not sent to lagging readers.",
    ),
    // --- what clients say of themselves, own ---
    counter(
        "pulsewire_client_reports_total",
        "own",
        &[label("visibility", Visibility::NAMES)],
        Data::Counters(at::CLIENT_REPORTS),
        "Reports that clients sent of themselves, by whether their page could be seen.",
    ),
    gauge(
        "pulsewire_client_reported_queued_messages",
        "own",
        &[],
        Data::Number(|v| v.current.client_queued_messages as f64),
        "Messages that wait in the queues of live clients, as each said in its last report.",
    ),
    spread(
        "pulsewire_client_reported_queue_depth",
        "own",
        &[],
        plain(&at::CLIENT_QUEUE.upper),
        Data::Histograms(at::CLIENT_QUEUED),
        "Messages that waited in a client's queue when it reported. Document 003 warns above 50: all reports without those of the bucket 50.",
    ),
    spread(
        "pulsewire_client_reported_handler_seconds",
        "own",
        &[],
        seconds(&at::LATENCY_NS.upper),
        Data::Histograms(at::CLIENT_HANDLER),
        "The slowest run of an application's handler in a client since its report before.",
    ),
    counter(
        "pulsewire_client_reported_gaps_healed_total",
        "own",
        &[],
        Data::Counters(at::CLIENT_GAPS_HEALED),
        "Holes in channels that clients noticed and repaired by themselves.",
    ),
    // --- network, own ---
    spread(
        "pulsewire_heartbeat_rtt_seconds",
        "own",
        &[],
        seconds(&at::HEARTBEAT_NS.upper),
        Data::Histograms(at::HEARTBEAT_RTT),
        "From a ping to its pong.",
    ),
    gauge(
        "pulsewire_kernel_unsent_bytes",
        "own",
        &[],
        Data::Number(|v| v.current.kernel_unsent_bytes as f64),
        "Bytes the kernel has accepted and not sent, at each connection's last sample.",
    ),
    gauge(
        "pulsewire_kernel_unacked_bytes",
        "own",
        &[],
        Data::Number(|v| v.current.kernel_unacked_bytes as f64),
        "Bytes sent and not acknowledged, at each connection's last sample.",
    ),
    gauge(
        "pulsewire_selfcheck_mismatch",
        "own",
        &[label("what", SelfCheck::NAMES)],
        Data::Each(|v, at| v.current.selfcheck_mismatch[at] as f64),
        "By how much a count differs from the table it counts, such as orphaned subscriptions; anything but 0 is a bug.",
    ),
    gauge(
        "pulsewire_heap_allocated_bytes",
        "own",
        &[],
        Data::Number(|v| v.current.heap_allocated_bytes as f64),
        "Bytes the allocator has given out, by its own accounting.",
    ),
    gauge(
        "pulsewire_kernel_socket_bytes",
        "own",
        &[],
        Data::Number(|v| v.current.kernel_socket_bytes as f64),
        "Kernel memory of client sockets, estimated from samples.",
    ),
    spread(
        "pulsewire_tcp_unsent_bytes",
        "own",
        &[],
        plain(&at::QUEUE_BYTES.upper),
        Data::Histograms(at::TCP_UNSENT),
        "Samples of the bytes a connection's kernel queue holds unsent.",
    ),
    spread(
        "pulsewire_tcp_unacked_bytes",
        "own",
        &[],
        plain(&at::QUEUE_BYTES.upper),
        Data::Histograms(at::TCP_UNACKED),
        "Samples of the bytes a connection has in flight.",
    ),
    spread(
        "pulsewire_tcp_rtt_seconds",
        "own",
        &[],
        seconds(&at::TCP_RTT_NS.upper),
        Data::Histograms(at::TCP_RTT),
        "Samples of TCP's smoothed round trip.",
    ),
    counter(
        "pulsewire_tcp_retransmits_total",
        "own",
        &[],
        Data::Counters(at::TCP_RETRANSMITS),
        "TCP segments sent again, as seen by samples.",
    ),
    // --- authentication, limits, hooks, own ---
    counter(
        "pulsewire_auth_total",
        "own",
        &[label("outcome", AuthOutcome::NAMES)],
        Data::Each(|v, at| match AuthOutcome::ALL[at] {
            AuthOutcome::Success => v.sum(at::AUTH_SUCCEEDED, 1),
            AuthOutcome::Failure => v.sum(at::AUTH_FAILURES, AuthFailure::COUNT),
        }),
        "Authentications.",
    ),
    counter(
        "websocket_rate_limited_total",
        "own",
        &[label("scope", RateScope::NAMES)],
        Data::Counters(at::RATE_LIMITED),
        "Refusals by a rate limit.",
    ),
    counter(
        "pulsewire_ratelimited_total",
        "own",
        &[label("scope", RateScope::NAMES)],
        Data::Counters(at::RATE_LIMITED),
        "The same as websocket_rate_limited_total.",
    ),
    counter(
        "pulsewire_config_reloads_total",
        "own",
        &[label("outcome", ReloadOutcome::NAMES)],
        Data::Counters(at::RELOADS),
        "Reloads of the settings; after a failed one the old settings stay in force.",
    ),
    counter(
        "pulsewire_jwks_fetches_total",
        "own",
        &[label("outcome", KeyFetch::NAMES)],
        Data::Counters(at::KEY_FETCHES),
        "Fetches of the key set of auth.jwks_url; after a failed one the known keys stay in force.",
    ),
    // --- TLS, own ---
    counter(
        "pulsewire_tls_handshakes_total",
        "own",
        &[label("result", TlsResult::NAMES)],
        Data::Counters(at::TLS_HANDSHAKES),
        "TLS handshakes of the main address; what comes after them is counted as any other connection.",
    ),
    counter(
        "pulsewire_tls_reloads_total",
        "own",
        &[label("outcome", ReloadOutcome::NAMES)],
        Data::Counters(at::TLS_RELOADS),
        "Certificate files that had changed on disk, apart from reloads of the settings; after a failed one the old certificate stays in force.",
    ),
    gauge(
        "pulsewire_tls_certificate_expiry_timestamp_seconds",
        "own",
        &[],
        Data::Option(|v| v.current.tls_certificate_expiry_seconds.map(|seconds| seconds as f64)),
        "When the certificate in force expires, Unix time; absent without TLS.",
    ),
    spread(
        "pulsewire_hook_seconds",
        "own",
        &[label("outcome", HookOutcome::NAMES)],
        seconds(&at::LATENCY_NS.upper),
        Data::Histograms(at::HOOK),
        "Calls of the HTTP hook for client events.",
    ),
    spread(
        "pulsewire_collector_seconds",
        "own",
        &[],
        seconds(&at::LATENCY_NS.upper),
        Data::Histograms(at::COLLECTOR),
        "Rounds of the host collector.",
    ),
    gauge(
        "pulsewire_watches",
        "own",
        &[],
        Data::Number(|v| v.current.watches as f64),
        "Queries that operators watch on `$sys` channels, and that are answered once a second.",
    ),
    spread(
        "pulsewire_watch_seconds",
        "own",
        &[],
        seconds(&at::LATENCY_NS.upper),
        Data::Histograms(at::WATCH),
        "Answers to watched queries, from the question to the message.",
    ),
    counter(
        "pulsewire_watches_refused_total",
        "own",
        &[],
        Data::Counters(at::WATCH_REFUSED),
        "Watches that were refused because of `watch.queries_max`.",
    ),
    // --- metric channels, own ---
    counter(
        "pulsewire_samples_total",
        "own",
        &[label("source", SampleSource::NAMES)],
        Data::Counters(at::SAMPLES),
        "Samples of metric channels that were accepted.",
    ),
    counter(
        "pulsewire_samples_refused_total",
        "own",
        &[label("reason", SampleRefusal::NAMES)],
        Data::Counters(at::SAMPLES_REFUSED),
        "Samples of metric channels that were refused.",
    ),
    counter(
        "pulsewire_samples_late_total",
        "own",
        &[],
        Data::Counters(at::SAMPLES_LATE),
        "Samples that came when a window of theirs had closed, once for each length of window that lacks them.",
    ),
    counter(
        "pulsewire_samples_out_of_order_total",
        "own",
        &[],
        Data::Counters(at::SAMPLES_OUT_OF_ORDER),
        "Samples older than the newest of their series: not sent live, but in their window if that was open.",
    ),
    counter(
        "pulsewire_metric_windows_total",
        "own",
        &[],
        Data::Counters(at::WINDOWS_CLOSED),
        "Windows of a second that closed, one for each series.",
    ),
    counter(
        "pulsewire_metric_chunks_total",
        "own",
        &[label("outcome", ChunkOutcome::NAMES)],
        Data::Counters(at::CHUNKS),
        "Chunks of roll-ups that were to be kept.",
    ),
    counter(
        "pulsewire_metric_stale_total",
        "own",
        &[],
        Data::Counters(at::STALE),
        "Subscriptions that were told that a metric channel has said nothing for three intervals.",
    ),
    counter(
        "pulsewire_derived_tasks_forgotten_total",
        "own",
        &[],
        Data::Counters(at::DERIVED_FORGOTTEN),
        "Tasks that numbers are derived about and that were forgotten before they ended.",
    ),
    counter(
        "pulsewire_redis_connects_total",
        "own",
        &[],
        Data::Counters(at::REDIS_CONNECTS),
        "Times that reading what is published in Redis began; more than one means it was lost in between.",
    ),
    counter(
        "pulsewire_redis_acknowledged_total",
        "own",
        &[],
        Data::Counters(at::REDIS_ACKNOWLEDGED),
        "Entries of Redis streams that were acknowledged: their events are kept, or they were refused for good.",
    ),
    counter(
        "pulsewire_redis_claimed_total",
        "own",
        &[],
        Data::Counters(at::REDIS_CLAIMED),
        "Entries of Redis streams that were taken over from a consumer that did not acknowledge them.",
    ),
    counter(
        "pulsewire_redis_retries_total",
        "own",
        &[],
        Data::Counters(at::REDIS_RETRIED),
        "Times that what was read from Redis streams could not be kept and was to be tried again.",
    ),
    counter(
        "pulsewire_redis_refused_total",
        "own",
        &[label("reason", RedisRefusal::NAMES)],
        Data::Counters(at::REDIS_REFUSED),
        "Messages and entries of Redis that were to be events and were refused for good; `lost` are published messages that could not be kept at once.",
    ),
    gauge(
        "pulsewire_redis_streams_connected",
        "own",
        &[],
        Data::Option(|v| v.current.redis_streams_connected.map(|connected| f64::from(u8::from(connected)))),
        "Whether Redis streams are read now.",
    ),
    gauge(
        "pulsewire_redis_stream_lag_entries",
        "own",
        &[],
        Data::Option(|v| v.current.redis_stream_lag.map(|entries| entries as f64)),
        "Entries of Redis streams that no consumer of the group has been given yet; absent where Redis does not know.",
    ),
    gauge(
        "pulsewire_redis_stream_pending_entries",
        "own",
        &[],
        Data::Option(|v| v.current.redis_stream_pending.map(|entries| entries as f64)),
        "Entries of Redis streams that consumers of the group have been given and have not acknowledged.",
    ),
    gauge(
        "pulsewire_redis_connected",
        "own",
        &[],
        Data::Option(|v| v.current.redis_connected.map(|connected| f64::from(u8::from(connected)))),
        "Whether what is published in Redis is read now.",
    ),
    // --- the broker between nodes ---
    gauge(
        "pulsewire_broker_connected",
        "own",
        &[],
        Data::Option(|v| v.current.broker.as_ref().map(|broker| f64::from(u8::from(broker.connected)))),
        "Whether the broker between nodes is reached; absent without one.",
    ),
    gauge(
        "websocket_bus_connected",
        "own",
        &[],
        Data::Option(|v| v.current.broker.as_ref().map(|broker| f64::from(u8::from(broker.connected)))),
        "The same as pulsewire_broker_connected, under the name beside websocket_store_degraded.",
    ),
    spread(
        "pulsewire_broker_lag_seconds",
        "own",
        &[],
        seconds(&at::LATENCY_NS.upper),
        Data::Histograms(at::BROKER_LAG),
        "How long a message of this node took to the broker and back, about once a second.",
    ),
    counter(
        "pulsewire_broker_reconnects_total",
        "own",
        &[],
        Data::Counters(at::BROKER_RECONNECTS),
        "Times the broker was reached again after it was lost.",
    ),
    counter(
        "pulsewire_broker_dropped_total",
        "own",
        &[label("reason", BrokerDrop::NAMES)],
        Data::Counters(at::BROKER_DROPPED),
        "What was to go between nodes and did not: the queue was full, the broker was away, too large, read too slowly, \
         of another key, of another version, or too many questions. Log channels find it in the store.",
    ),
    counter(
        "pulsewire_broker_shortened_total",
        "own",
        &[],
        Data::Counters(at::BROKER_SHORTENED),
        "Hints of committed events that went without their content because the queue was full or they were too large: \
         whoever listens reads the store.",
    ),
    counter(
        "pulsewire_broker_messages_total",
        "own",
        &[label("direction", Direction::NAMES), label("kind", BrokerItem::NAMES)],
        Data::Counters(at::BROKER_MESSAGES),
        "What nodes said to each other through the broker, by kind; several go in one message of the broker.",
    ),
    counter(
        "websocket_bus_messages_total",
        "own",
        &[label("result", BusMessage::NAMES)],
        Data::Each(|v, at| {
            let direction = |direction: Direction| {
                v.sum(at::BROKER_MESSAGES + direction as usize * BrokerItem::COUNT, BrokerItem::COUNT)
            };
            let refused = v.sum(at::BROKER_DROPPED + BrokerDrop::Refused as usize, 1);
            match BusMessage::ALL[at] {
                BusMessage::Sent => direction(Direction::Sent),
                BusMessage::Received => direction(Direction::Received),
                BusMessage::Dropped => v.sum(at::BROKER_DROPPED, BrokerDrop::COUNT) - refused,
                BusMessage::Refused => refused,
            }
        }),
        "What became of what nodes say to each other: pulsewire_broker_messages_total and pulsewire_broker_dropped_total in one.",
    ),
    counter(
        "pulsewire_broker_bytes_total",
        "own",
        &[label("direction", Direction::NAMES)],
        Data::Counters(at::BROKER_BYTES),
        "Bytes of sealed envelopes that went to the broker and came from it.",
    ),
    gauge(
        "pulsewire_broker_queue_bytes",
        "own",
        &[],
        Data::Option(|v| v.current.broker.as_ref().map(|broker| broker.queued_bytes as f64)),
        "Bytes that wait for the broker, roughly; bounded by cluster.queue_bytes_max.",
    ),
    gauge(
        "pulsewire_broker_topics",
        "own",
        &[label("state", TopicState::NAMES)],
        Data::Each(|v, at| v.current.broker.as_ref().map_or(0.0, |broker| broker.topics[at] as f64)),
        "Channels that somebody here listens to and that are to be heard of through the broker, and those that are.",
    ),
    gauge(
        "pulsewire_cluster_nodes",
        "own",
        &[label("state", NodeState::NAMES)],
        Data::Each(|v, at| v.current.broker.as_ref().map_or(0.0, |broker| broker.nodes[at] as f64)),
        "Other nodes that are there, and that have fallen silent without saying goodbye in the last ten minutes.",
    ),
    gauge(
        "pulsewire_presence_rows",
        "own",
        &[label("of", PresenceOf::NAMES)],
        Data::Each(|v, at| v.current.broker.as_ref().map_or(0.0, |broker| broker.presence_rows[at] as f64)),
        "Rows of presence that nodes share: a user in a channel, once for each node. Those of others are 200,000 at most.",
    ),
    counter(
        "pulsewire_presence_shared_total",
        "own",
        &[label("what", PresenceShared::NAMES)],
        Data::Each(|v, at| v.current.broker.as_ref().map_or(0.0, |broker| broker.presence_shared[at] as f64)),
        "Sharing presence between nodes: what was missed and asked for, what others missed and were served, tellings that \
         did not follow what was known, rows refused because there are too many, and nodes whose rows went because they were silent.",
    ),
    gauge(
        "websocket_clock_skew_seconds",
        "own",
        &[],
        Data::Option(|v| v.current.broker.as_ref().map(|broker| broker.clock_skew_ms as f64 / 1e3)),
        "By how much the clock of another node differs from this one's at most; the way of a message is in it.",
    ),
    gauge(
        "pulsewire_metric_series",
        "own",
        &[],
        Data::Number(|v| v.current.metric_series as f64),
        "Series of metric channels at hand.",
    ),
    // --- upstream streams (document 002) ---
    gauge(
        "ws_manager_active_connections",
        "002",
        &[],
        Data::Number(|v| v.current.upstreams.active as f64),
        "Upstream streams there are now: those that have not ended, whether connected or still trying (ws_manager_streams says which).",
    ),
    gauge(
        "ws_manager_active_connections_hwm",
        "002",
        &[],
        Data::Number(|v| v.current.upstreams.high_water as f64),
        "The most upstream streams there were at a time since the start, connected or trying.",
    ),
    gauge(
        "ws_manager_active_connections_hwm_window",
        "own",
        &[],
        Data::Number(|v| v.current.upstreams.high_water_today as f64),
        "The most upstream streams there were at a time since midnight UTC, connected or trying.",
    ),
    gauge(
        "ws_manager_connections_limit",
        "own",
        &[],
        Data::Number(|v| v.current.upstreams.limit as f64),
        "Upstream streams the node allows, with those that have ended and of which something is left.",
    ),
    gauge(
        "ws_manager_streams_uncleaned",
        "own",
        &[],
        Data::Number(|v| v.current.upstreams.uncleaned as f64),
        "Upstream streams that have ended and of which something is left. Those created less those cleaned up are these and the active ones.",
    ),
    counter(
        "ws_manager_stream_creations_total",
        "002",
        &[],
        Data::Number(|v| v.current.upstreams.created as f64),
        "Upstream streams created.",
    ),
    counter(
        "ws_manager_stream_cleanups_total",
        "002",
        &[],
        Data::Number(|v| v.current.upstreams.cleaned as f64),
        "Upstream streams that ended and of which nothing is left.",
    ),
    counter(
        "ws_manager_connect_attempts_total",
        "own",
        &[],
        Data::Number(|v| v.sum(at::UPSTREAM_ATTEMPTS, UpstreamTrack::COUNT)),
        "Attempts to connect an upstream stream.",
    ),
    counter(
        "ws_manager_retry_count_total",
        "002",
        &[],
        Data::Number(|v| v.sum(at::UPSTREAM_RETRIES, UpstreamTrack::COUNT)),
        "Attempts to connect an upstream stream once more.",
    ),
    counter(
        "ws_manager_stream_errors_total",
        "own",
        &[label("kind", UpstreamError::NAMES)],
        Data::Each(|v, kind| {
            let of = |track| v.sum(at::UPSTREAM_ERRORS + track * UpstreamError::COUNT + kind, 1);
            (0..UpstreamTrack::COUNT).map(of).sum()
        }),
        "Upstream streams, and attempts at them, that failed.",
    ),
    gauge(
        "ws_manager_streams",
        "own",
        &[label("state", UpstreamState::NAMES)],
        Data::Each(|v, state| v.current.upstreams.by_state[state] as f64),
        "Upstream streams by where they are; together, ws_manager_active_connections.",
    ),
    counter(
        "ws_manager_messages_total",
        "own",
        &[label("result", UpstreamMessage::NAMES)],
        Data::Counters(at::UPSTREAM_MESSAGES),
        "Messages of upstreams by what became of them.",
    ),
    counter(
        "ws_manager_received_bytes_total",
        "own",
        &[],
        Data::Counters(at::UPSTREAM_BYTES),
        "Bytes of the payloads of upstreams' messages.",
    ),
    counter(
        "ws_manager_missing_messages_total",
        "own",
        &[],
        Data::Counters(at::UPSTREAM_MISSING),
        "Messages of upstreams that never came: numbers of their sequences that were passed over.",
    ),
    counter(
        "ws_manager_failovers_total",
        "own",
        &[],
        Data::Counters(at::UPSTREAM_FAILOVERS),
        "Times that another link of an upstream stream took over.",
    ),
    counter(
        "ws_manager_circuit_opened_total",
        "own",
        &[],
        Data::Counters(at::UPSTREAM_CIRCUITS),
        "Times that an upstream's circuit opened, so that it is left alone for a while.",
    ),
    counter(
        "ws_manager_refused_total",
        "own",
        &[],
        Data::Counters(at::UPSTREAM_REFUSED),
        "Upstream streams that were wanted and not created, because there were ws_manager_connections_limit.",
    ),
    // The label is not called `track`: scrapes put that on every series of a server, as which release it runs, and
    // Prometheus would rename ours to `exported_track`.
    gauge(
        "ws_manager_track_streams",
        "own",
        &[label("settings", UpstreamTrack::NAMES)],
        Data::Each(|v, track| v.current.upstreams.by_track[track] as f64),
        "Upstream streams by the settings they run on (not the label track, which scrapes give to whole servers).",
    ),
    counter(
        "ws_manager_track_attempts_total",
        "own",
        &[label("settings", UpstreamTrack::NAMES)],
        Data::Counters(at::UPSTREAM_ATTEMPTS),
        "Attempts to connect an upstream stream, by the settings it runs on.",
    ),
    counter(
        "ws_manager_track_retries_total",
        "own",
        &[label("settings", UpstreamTrack::NAMES)],
        Data::Counters(at::UPSTREAM_RETRIES),
        "Attempts to connect an upstream stream once more, by the settings it runs on.",
    ),
    counter(
        "ws_manager_track_errors_total",
        "own",
        &[label("settings", UpstreamTrack::NAMES)],
        Data::Each(|v, track| {
            v.sum(at::UPSTREAM_ERRORS + track * UpstreamError::COUNT, UpstreamError::COUNT)
        }),
        "Upstream streams, and attempts at them, that failed, by the settings they run on.",
    ),
    gauge(
        "ws_manager_canary_verdict",
        "own",
        &[label("verdict", CanaryVerdict::NAMES)],
        Data::Each(|v, verdict| f64::from(u8::from(v.current.upstreams.verdict as usize == verdict))),
        "1 for what the server thinks of the candidate's settings, 0 for everything else.",
    ),
    // --- telemetry and process ---
    counter(
        "pulsewire_series_dropped_total",
        "own",
        &[label("metric", SeriesSet::NAMES)],
        Data::Each(|v, at| v.series_dropped[at] as f64),
        "Label values refused because their set was full.",
    ),
    counter(
        "websocket_metrics_series_dropped_total",
        "own",
        &[],
        Data::Number(|v| v.series_dropped.iter().sum::<u64>() as f64),
        "Label values refused because their set was full, over all sets.",
    ),
    gauge(
        "pulsewire_memory_bytes",
        "own",
        &[label("class", MemoryClass::NAMES)],
        Data::Each(|v, at| v.current.memory_bytes[at] as f64),
        "Memory by what it is used for, as attributed by its owners.",
    ),
    gauge(
        "pulsewire_process_rss_bytes",
        "own",
        &[],
        Data::Number(|v| v.process.resident_bytes as f64),
        "Resident memory of the process.",
    ),
    counter(
        "process_cpu_seconds_total",
        "000",
        &[],
        Data::Number(|v| v.process.cpu_seconds),
        "User and system CPU time of the process.",
    ),
    gauge(
        "process_resident_memory_bytes",
        "000",
        &[],
        Data::Number(|v| v.process.resident_bytes as f64),
        "Resident memory of the process.",
    ),
    gauge(
        "process_virtual_memory_bytes",
        "000",
        &[],
        Data::Number(|v| v.process.virtual_bytes as f64),
        "Virtual memory of the process.",
    ),
    gauge(
        "process_open_fds",
        "000",
        &[],
        Data::Number(|v| v.process.fds_open as f64),
        "Open file descriptors.",
    ),
    gauge(
        "process_max_fds",
        "000",
        &[],
        Data::Number(|v| v.process.fds_max as f64),
        "File descriptors allowed.",
    ),
    gauge(
        "process_threads",
        "own",
        &[],
        Data::Number(|v| v.process.threads as f64),
        "Threads of the process.",
    ),
    gauge(
        "process_start_time_seconds",
        "000",
        &[],
        Data::Number(|v| v.process.start_seconds),
        "When the process started, Unix time.",
    ),
    Family {
        name: "pulsewire_build_info",
        kind: Kind::Info,
        help: "Version and revision of the binary.",
        labels: &[
            Label { name: "version", values: Values::Constant },
            Label { name: "revision", values: Values::Constant },
        ],
        buckets: NO_BUCKETS,
        source: "own",
        data: Data::Build,
    },
];
