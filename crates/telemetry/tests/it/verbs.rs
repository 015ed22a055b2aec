//! What each verb moves, and nothing else.

use std::collections::BTreeMap;

use pulsewire_telemetry::{
    AuthFailure, Broker, BrokerDrop, BrokerItem, CanaryVerdict, Closed, Codec, ConnectionError, Current,
    Direction, DisconnectReason, DropCause, EventTypeId, Format, GapReason, HandshakeOutcome, HookOutcome,
    Initiator, Layer, MemoryClass, MemoryPart, MessageError, MessageType, Options, PresenceDrop,
    PresenceEvent, Proof, PublishOutcome, PublishSource, RateScope, ReadSource, ReconnectOutcome,
    RejectReason, RejectStage, RepairSource, ShardMetrics, SharedMetrics, SlowAction, StoreFailure,
    Telemetry, Transport, UpstreamError, UpstreamMessage, UpstreamTrack, Upstreams, Visibility, numbers,
    render,
};

fn seen(telemetry: &Telemetry, now: &Current) -> BTreeMap<String, f64> {
    let mut seen = numbers(telemetry, now);
    seen.retain(|name, _| !name.starts_with("process_") && !name.starts_with("pulsewire_process"));
    seen
}

/// Series that differ, each as `name{labels} value`, `websocket_` written as `w_`, `pulsewire_` as `p_`, `orchestrator_` as `o_`.
fn moved(before: &BTreeMap<String, f64>, after: &BTreeMap<String, f64>) -> String {
    let changed = after.iter().filter(|(name, value)| before.get(*name) != Some(value));
    let lines: Vec<String> = changed.map(|(name, value)| format!("{name} {value}")).collect();
    let short = |line: &String| {
        let line = line.replacen("orchestrator_websocket_", "o_", 1).replace('"', "");
        match (line.strip_prefix("websocket_"), line.strip_prefix("pulsewire_")) {
            (Some(rest), _) => format!("w_{rest}"),
            (_, Some(rest)) => format!("p_{rest}"),
            _ => line,
        }
    };
    lines.iter().map(short).collect::<Vec<_>>().join(" | ")
}

fn check(verb: impl FnOnce(&ShardMetrics), expected: &str) {
    let telemetry = Telemetry::new(Options::default());
    let now = Current::default();
    let before = seen(&telemetry, &now);
    verb(&telemetry.shard());
    assert_eq!(moved(&before, &seen(&telemetry, &now)), expected);
}

/// `agent:status`, the first of document 000's names.
const AGENT: EventTypeId = EventTypeId(1);

#[test]
fn connections_open_and_close() {
    check(ShardMetrics::connection_opened, "o_connections_total 1 | w_connections_total{status=opened} 1");
    check(
        |m| {
            m.connection_closed(&Closed {
                code: 4004,
                reason: DisconnectReason::SlowConsumer,
                initiator: Initiator::Server,
                lasted_ns: 2_500_000_000,
            });
        },
        "o_disconnections_total 1 | p_disconnects_total{reason=slow_consumer,initiator=server} 1 | \
         w_closes_total{code=4004,initiator=server} 1 | w_connection_duration_seconds_count 1 | \
         w_connection_duration_seconds_sum 2.5 | w_connections_total{status=closed} 1 | w_disconnections_total 1",
    );
    check(
        |m| m.connection_failed(ConnectionError::Tls),
        "p_connection_errors_total{kind=tls} 1 | w_connections_total{status=failed} 1",
    );
    check(|m| m.connection_errored(ConnectionError::Reset), "p_connection_errors_total{kind=reset} 1");
    check(
        |m| m.rejected(RejectStage::Handshake, RejectReason::Origin),
        "p_accept_rejected_total{cause=origin} 1 | w_connections_total{status=failed} 1 | \
         w_rejected_total{stage=handshake,reason=origin} 1",
    );
    check(
        |m| m.handshake(HandshakeOutcome::Accepted, 2_000_000),
        "p_handshake_seconds_count{outcome=accepted} 1 | p_handshake_seconds_sum{outcome=accepted} 0.002",
    );
    check(
        |m| m.reconnected(ReconnectOutcome::Replayed),
        "o_reconnections_total 1 | p_reconnections_total{outcome=replayed} 1 | w_reconnections_total 1",
    );
    check(ShardMetrics::fell_back_to_http, "o_fallback_http_total 1");
}

#[test]
fn authentication_and_limits() {
    check(ShardMetrics::auth_succeeded, "p_auth_total{outcome=success} 1");
    check(
        |m| m.auth_failed(AuthFailure::ExpiredToken),
        "p_auth_total{outcome=failure} 1 | w_auth_failures_total{reason=expired_token} 1",
    );
    check(
        |m| m.rate_limited(RateScope::User),
        "p_ratelimited_total{scope=user} 1 | w_rate_limited_total{scope=user} 1",
    );
}

#[test]
fn messages_and_events() {
    check(
        |m| m.message_received(MessageType::Subscribe),
        "o_messages_in_total 1 | p_frames_total{direction=received} 1 | \
         w_messages_total{direction=received,type=subscribe} 1",
    );
    check(
        |m| m.event_received(AGENT),
        "o_messages_in_total 1 | p_frames_total{direction=received} 1 | \
         w_events_received_total{event_type=agent:status} 1 | w_messages_total{direction=received,type=agent:status} 1",
    );
    check(|m| m.event_failed(AGENT), "w_event_errors_total{event_type=agent:status} 1");
    check(
        |m| m.message_sent(AGENT, 3, 300),
        "o_messages_out_total 3 | p_bytes_total{direction=sent,layer=payload} 300 | p_frames_total{direction=sent} 3 | \
         w_messages_total{direction=sent,type=agent:status} 3",
    );
    check(
        |m| m.message_sent(MessageType::Welcome, 1, 80),
        "o_messages_out_total 1 | p_bytes_total{direction=sent,layer=payload} 80 | p_frames_total{direction=sent} 1 | \
         w_messages_total{direction=sent,type=welcome} 1",
    );
    check(|m| m.message_error(MessageError::ParseError), "w_message_errors_total{error_type=parse_error} 1");
    check(|m| m.message_failed(2), "o_message_failures_total 2");
    check(|m| m.extra_frames(Direction::Received, 2), "p_frames_total{direction=received} 2");
    check(|m| m.bytes(Direction::Received, Layer::Wire, 9), "p_bytes_total{direction=received,layer=wire} 9");
    check(|metrics| metrics.write_calls(3), "p_write_calls_total 3");
}

#[test]
fn publication_and_delivery() {
    check(|m| m.event_emitted(AGENT, 2), "w_events_emitted_total{event_type=agent:status} 2");
    check(
        |m| m.publish(PublishSource::Http, PublishOutcome::Duplicate),
        "p_publish_total{source=http,outcome=duplicate} 1",
    );
    check(
        |m| m.fanout_started(1_000_000, 7),
        "p_fanout_size_count 1 | p_fanout_size_sum 7 | p_stage_seconds_count{stage=fanout} 1 | \
         p_stage_seconds_sum{stage=fanout} 0.001",
    );
    check(
        |m| m.stage_queue(1_000_000, 2),
        "p_stage_seconds_count{stage=queue} 2 | p_stage_seconds_sum{stage=queue} 0.002",
    );
    check(
        |m| m.delivered(AGENT, 4_000_000, 2),
        "p_delivery_seconds_count{proof=handoff} 2 | p_delivery_seconds_sum{proof=handoff} 0.008 | \
         p_stage_seconds_count{stage=kernel} 2 | p_stage_seconds_sum{stage=kernel} 0.008 | \
         w_event_latency_milliseconds_count{event_type=agent:status} 2 | \
         w_event_latency_milliseconds_sum{event_type=agent:status} 8",
    );
    check(
        |m| m.receipt(AGENT, 4_000_000, Proof::TcpAck),
        "p_delivery_seconds_count{proof=tcp_ack} 1 | \
         p_delivery_seconds_sum{proof=tcp_ack} 0.004 | w_message_latency_milliseconds_count{event_type=agent:status} 1 | \
         w_message_latency_milliseconds_sum{event_type=agent:status} 4",
    );
    check(
        |m| m.initial_state_sent(3_000_000),
        "w_initial_state_latency_milliseconds_count 1 | w_initial_state_latency_milliseconds_sum 3",
    );
    check(
        |m| {
            m.store_batch(3);
            m.store_kept(2_000_000);
        },
        "p_store_batch_events_count 1 | p_store_batch_events_sum 3 | w_store_commit_seconds_count 1 | \
         w_store_commit_seconds_sum 0.002",
    );
    check(|m| m.store_failed(StoreFailure::Full), "w_store_errors_total{kind=full} 1");
    check(|m| m.repaired(RepairSource::HeadCheck), "w_gap_repairs_total{source=head_check} 1");
    check(|m| m.read_from(ReadSource::Ring), "p_history_reads_total{source=ring} 1");
    check(
        |m| m.dropped(DropCause::QueueFull, 4),
        "p_dropped_total{cause=queue_full} 4 | w_messages_dropped_total{reason=queue_full} 4",
    );
    check(|m| m.conflated(5), "p_conflated_total 5");
    check(
        |m| m.slow(SlowAction::Close),
        "p_slow_events_total{action=close} 1 | w_slow_consumer_total{action=close} 1",
    );
    check(|m| m.gap(GapReason::Trimmed), "p_gaps_total{reason=trimmed} 1");
}

#[test]
fn presence() {
    check(|m| m.presence_told(PresenceEvent::Left, 3), "p_presence_events_total{event=left} 3");
    check(|m| m.presence_dropped(PresenceDrop::Conflated, 2), "p_presence_dropped_total{cause=conflated} 2");
}

#[test]
fn what_clients_say_of_themselves() {
    check(
        |m| m.client_reported(Visibility::Hidden, Some(51), Some(12_500_000), 2),
        "p_client_reported_gaps_healed_total 2 | p_client_reported_handler_seconds_count 1 | \
         p_client_reported_handler_seconds_sum 0.0125 | p_client_reported_queue_depth_count 1 | \
         p_client_reported_queue_depth_sum 51 | p_client_reports_total{visibility=hidden} 1",
    );
    check(
        |m| m.client_reported(Visibility::Unknown, None, None, 0),
        "p_client_reports_total{visibility=unknown} 1",
    );
}

/// Row 003-71: "more than 50 waiting" can be asked for.
#[test]
fn a_queue_of_more_than_50_is_beyond_the_bucket_of_50() {
    let telemetry = Telemetry::new(Options::default());
    for queued in [0, 50, 51] {
        telemetry.shared().client_reported(Visibility::Visible, Some(queued), None, 0);
    }
    let page = render(&telemetry, &Current::default(), Format::Text004);
    for line in ["bucket{le=\"50\"} 2", "bucket{le=\"+Inf\"} 3"] {
        assert!(page.contains(&format!("\npulsewire_client_reported_queue_depth_{line}\n")), "{line}");
    }
}

#[test]
fn heartbeat_kernel_hooks_and_collector() {
    check(ShardMetrics::heartbeat_sent, "w_heartbeats_sent_total 1");
    check(
        |m| m.heartbeat_answered(20_000_000),
        "p_heartbeat_rtt_seconds_count 1 | p_heartbeat_rtt_seconds_sum 0.02 | w_heartbeat_latency_milliseconds_count 1 | \
         w_heartbeat_latency_milliseconds_sum 20 | w_heartbeat_rtt_milliseconds_count 1 | \
         w_heartbeat_rtt_milliseconds_sum 20",
    );
    check(|m| m.round_trip(250_000_000), "o_message_latency_count 1 | o_message_latency_sum 0.25");
    check(|m| m.memory_limited(MemoryPart::Outbox), "p_connection_memory_limited_total{part=outbox} 1");
    check(ShardMetrics::heartbeat_timed_out, "w_heartbeat_timeouts_total 1");
    check(
        |m| m.tcp_sample(1_000_000, 2, 300, 40),
        "p_tcp_retransmits_total 2 | p_tcp_rtt_seconds_count 1 | p_tcp_rtt_seconds_sum 0.001 | \
         p_tcp_unacked_bytes_count 1 | p_tcp_unacked_bytes_sum 40 | p_tcp_unsent_bytes_count 1 | \
         p_tcp_unsent_bytes_sum 300",
    );
    check(
        |m| m.hook(HookOutcome::TimedOut, 5_000_000_000),
        "p_hook_seconds_count{outcome=timed_out} 1 | p_hook_seconds_sum{outcome=timed_out} 5",
    );
    check(|m| m.collector(2_000_000), "p_collector_seconds_count 1 | p_collector_seconds_sum 0.002");
}

#[test]
fn present_quantities_are_what_their_owners_say() {
    let telemetry = Telemetry::new(Options::default());
    let before = seen(&telemetry, &Current::default());
    let mut shard = Current { subscriptions: 5, sessions_detached: 1, channels: 2, ..Current::default() };
    shard.connection(Transport::WebSocket, Codec::MsgPack, 2, 700, 1_500);
    shard.memory_bytes[MemoryClass::Sessions as usize] = 300;
    shard.memory_bytes[MemoryClass::Channels as usize] = 9_000;
    shard.subscriptions_by_project.push(("apollo".into(), 3));
    shard.client_queued_messages = 4;
    (shard.kernel_unsent_bytes, shard.kernel_unacked_bytes, shard.kernel_socket_bytes) = (11, 12, 13);
    let mut now = Current {
        connections_soft_limit: 8,
        connections_hard_limit: 9,
        draining: true,
        ..Current::default()
    };
    now.merge(&shard);
    now.merge(&shard);
    assert_eq!(
        moved(&before, &seen(&telemetry, &now)),
        "o_active_connections 2 | p_channels 2 | p_client_reported_queued_messages 8 | p_connection_age_seconds_count 2 | p_connection_age_seconds_sum 3 | \
         p_connections_limit 9 | p_connections{transport=websocket,codec=msgpack} 2 | p_kernel_socket_bytes 26 | \
         p_kernel_unacked_bytes 24 | p_kernel_unsent_bytes 22 | p_memory_bytes{class=channels} 18000 | \
         p_memory_bytes{class=sessions} 600 | p_outbound_queue_bytes_count 2 | p_outbound_queue_bytes_sum 1400 | \
         p_sessions_detached 2 | w_active_connections 2 | w_active_subscriptions 10 | w_connections_hard_limit 9 | \
         w_connections_limit 9 | w_connections_soft_limit 8 | w_draining 1 | w_memory_usage_bytes 600 | \
         w_outbound_queue_bytes 1400 | w_subscriptions_by_project{project_id=apollo} 6 | \
         w_subscriptions_per_connection_count 2 | w_subscriptions_per_connection_sum 4 | w_subscriptions_total 10"
    );
}

#[test]
fn an_event_type_named_like_a_protocol_message_shares_its_series() {
    let telemetry = Telemetry::new(Options::default());
    let ping = telemetry.event_types().intern("ping");
    telemetry.shared().message_sent(ping, 2, 0);
    telemetry.shared().message_sent(MessageType::Ping, 3, 0);
    let seen = seen(&telemetry, &Current::default());
    assert_eq!(seen["websocket_messages_total{direction=\"sent\",type=\"ping\"}"], 5.0);
    assert_eq!(seen["orchestrator_websocket_messages_out_total"], 5.0);
}

#[test]
fn upstream_streams() {
    let check = |verb: fn(&SharedMetrics), expected: &str| {
        let telemetry = Telemetry::new(Options::default());
        let now = Current::default();
        let before = seen(&telemetry, &now);
        verb(telemetry.shared());
        assert_eq!(moved(&before, &seen(&telemetry, &now)), expected);
    };
    check(
        |m| m.upstream_attempt(UpstreamTrack::Stable, false),
        "ws_manager_connect_attempts_total 1 | ws_manager_track_attempts_total{settings=stable} 1",
    );
    check(
        |m| {
            m.upstream_attempt(UpstreamTrack::Canary, true);
            m.upstream_attempt(UpstreamTrack::Stable, true);
        },
        "ws_manager_connect_attempts_total 2 | ws_manager_retry_count_total 2 | \
         ws_manager_track_attempts_total{settings=canary} 1 | ws_manager_track_attempts_total{settings=stable} 1 | \
         ws_manager_track_retries_total{settings=canary} 1 | ws_manager_track_retries_total{settings=stable} 1",
    );
    // The same kind on both tracks is one series; the last kind and the first are not each other's.
    check(
        |m| {
            m.upstream_failed(UpstreamTrack::Stable, UpstreamError::Closed);
            m.upstream_failed(UpstreamTrack::Canary, UpstreamError::Closed);
            m.upstream_failed(UpstreamTrack::Canary, UpstreamError::Resolve);
        },
        "ws_manager_stream_errors_total{kind=closed} 2 | ws_manager_stream_errors_total{kind=resolve} 1 | \
         ws_manager_track_errors_total{settings=canary} 2 | ws_manager_track_errors_total{settings=stable} 1",
    );
    check(
        |m| m.upstream_messages(UpstreamMessage::Unmapped, 3),
        "ws_manager_messages_total{result=unmapped} 3",
    );
    check(|m| m.upstream_received(120), "ws_manager_received_bytes_total 120");
    check(|m| m.upstream_missing(4), "ws_manager_missing_messages_total 4");
    check(SharedMetrics::upstream_failover, "ws_manager_failovers_total 1");
    check(SharedMetrics::upstream_circuit_opened, "ws_manager_circuit_opened_total 1");
    check(SharedMetrics::upstream_refused, "ws_manager_refused_total 1");
}

#[test]
fn upstream_streams_that_there_are() {
    let telemetry = Telemetry::new(Options::default());
    let upstreams = Upstreams {
        active: 15,
        high_water: 19,
        high_water_today: 17,
        limit: 100,
        uncleaned: 2,
        created: 40,
        cleaned: 23,
        by_state: [1, 2, 3, 4, 5],
        by_track: [13, 2],
        verdict: CanaryVerdict::RolledBack,
    };
    let now = seen(&telemetry, &Current { upstreams, ..Current::default() });
    assert_eq!(
        moved(&seen(&telemetry, &Current::default()), &now),
        "ws_manager_active_connections 15 | ws_manager_active_connections_hwm 19 | \
         ws_manager_active_connections_hwm_window 17 | ws_manager_canary_verdict{verdict=off} 0 | \
         ws_manager_canary_verdict{verdict=rolled_back} 1 | ws_manager_connections_limit 100 | \
         ws_manager_stream_cleanups_total 23 | ws_manager_stream_creations_total 40 | \
         ws_manager_streams_uncleaned 2 | ws_manager_streams{state=circuit} 4 | \
         ws_manager_streams{state=connecting} 1 | ws_manager_streams{state=failed} 5 | \
         ws_manager_streams{state=live} 2 | ws_manager_streams{state=waiting} 3 | \
         ws_manager_track_streams{settings=canary} 2 | ws_manager_track_streams{settings=stable} 13",
    );
}

#[test]
fn what_goes_between_nodes_is_counted_and_summed_up() {
    let telemetry = Telemetry::new(Options::default());
    let before = seen(&telemetry, &Current::default());
    let shared = telemetry.shared();
    shared.broker_items(Direction::Sent, BrokerItem::Committed, 3);
    shared.broker_items(Direction::Received, BrokerItem::Other, 2);
    shared.broker_bytes(Direction::Sent, 700);
    shared.broker_dropped(BrokerDrop::QueueFull, 4);
    shared.broker_dropped(BrokerDrop::Refused, 1);
    shared.broker_shortened();
    shared.broker_reconnected();
    let broker = Broker {
        connected: true,
        queued_bytes: 9,
        topics: [3, 2],
        nodes: [1, 0],
        clock_skew_ms: 1_500,
        presence_rows: [4, 5],
        presence_shared: [1, 2, 3, 4, 5],
    };
    let now = Current { broker: Some(broker), ..Current::default() };
    assert_eq!(
        moved(&before, &seen(&telemetry, &now)),
        "p_broker_bytes_total{direction=sent} 700 | p_broker_connected 1 | \
         p_broker_dropped_total{reason=queue_full} 4 | p_broker_dropped_total{reason=refused} 1 | \
         p_broker_messages_total{direction=received,kind=other} 2 | \
         p_broker_messages_total{direction=sent,kind=committed} 3 | p_broker_queue_bytes 9 | \
         p_broker_reconnects_total 1 | p_broker_shortened_total 1 | p_broker_topics{state=heard} 2 | \
         p_broker_topics{state=wanted} 3 | p_cluster_nodes{state=present} 1 | p_presence_rows{of=others} 5 | p_presence_rows{of=own} 4 | \
         p_presence_shared_total{what=asked} 1 | p_presence_shared_total{what=lost} 5 | p_presence_shared_total{what=missed} 3 | \
         p_presence_shared_total{what=refused} 4 | p_presence_shared_total{what=served} 2 | w_bus_connected 1 | \
         w_bus_messages_total{result=dropped} 4 | w_bus_messages_total{result=received} 2 | \
         w_bus_messages_total{result=refused} 1 | w_bus_messages_total{result=sent} 3 | \
         w_clock_skew_seconds 1.5"
    );
}
