//! How sessions and connections are shown.
//!
//! Names and times are document 003's. What was not measured is `null`, not zero.

use pulsewire_hub::{Closed, ConnectionInfo, Reported};
use pulsewire_protocol::Encoding;
use pulsewire_telemetry::Transport;
use serde_json::{Value, json};

use super::{iso, runs};

/// A member of a run.
pub(super) fn brief(info: &ConnectionInfo) -> Value {
    json!({
        "sessionId": info.session.map(|session| session.to_string()),
        "userId": named(&info.user),
        "connectedAt": iso(info.connected_at_ms),
        "disconnectedAt": info.disconnected_at_ms.map(iso),
        "state": state(info),
        "transport": info.transport.as_str(),
        "remoteAddress": info.remote.to_string(),
        "userAgent": &*info.user_agent,
    })
}

/// A session that is connected or waits for its client.
pub(super) fn present(info: &ConnectionInfo) -> Value {
    let average_ns = (info.latency_count > 0).then(|| info.latency_sum_ns / u64::from(info.latency_count));
    json!({
        "sessionId": info.session.map(|session| session.to_string()),
        "userId": named(&info.user),
        "runId": runs(info).next(),
        "connectedAt": iso(info.connected_at_ms),
        "disconnectedAt": info.disconnected_at_ms.map(iso),
        "reconnectionCount": info.reconnections,
        "messagesSent": info.messages_sent,
        "messagesReceived": info.messages_received,
        "messageFailures": info.messages_failed,
        "averageLatencyMs": average_ns.map(ms),
        "maxLatencyMs": average_ns.map(|_| ms(info.latency_max_ns)),
        "messageDeliveryRate": delivery_rate(info.messages_sent, info.messages_failed),
        "lastActivity": iso(info.last_activity_ms),
        "state": state(info),
        "transport": info.transport.as_str(),
        "remoteAddress": info.remote.to_string(),
        "userAgent": &*info.user_agent,
        "encoding": encoding(info.encoding),
        "channelCount": info.channels.len(),
        "heartbeatRttMs": measured(info.heartbeat_rtt_ns).map(ms),
        "tcpRttMs": measured(u64::from(info.tcp_rtt_us) * 1_000).map(ms),
        "tcpRetransmits": info.tcp_retransmits,
        "queuedBytes": info.queued_bytes,
        "bytesSent": info.bytes_sent,
        "bytesReceived": info.bytes_received,
        "clientReport": info.report.map(said),
    })
}

/// What a client said of itself; `null` where it said nothing.
fn said(Reported { report, at_ms }: Reported) -> Value {
    json!({
        "reportedAt": iso(at_ms),
        "queuedMessages": report.queued,
        "slowestHandlerMs": report.handler_us.map(|us| ms(u64::from(us) * 1_000)),
        "gapsHealed": report.gaps_healed,
        "visible": report.visible,
    })
}

/// A session that is over, as its last connection left it.
pub(super) fn closed(entry: &Closed) -> Value {
    json!({
        "sessionId": entry.session.map(|session| session.to_string()),
        "userId": named(&entry.user),
        "runId": entry.run,
        "connectedAt": iso(entry.connected_at_ms),
        "disconnectedAt": iso(entry.closed_at_ms),
        "reconnectionCount": entry.reconnections,
        "messagesSent": entry.messages_sent,
        "messagesReceived": entry.messages_received,
        "messageFailures": entry.messages_failed,
        "averageLatencyMs": null,
        "maxLatencyMs": null,
        "messageDeliveryRate": delivery_rate(entry.messages_sent, entry.messages_failed),
        "lastActivity": iso(entry.closed_at_ms),
        "state": "closed",
        "remoteAddress": entry.remote.to_string(),
        "userAgent": &*entry.user_agent,
        "bytesSent": entry.bytes_sent,
        "bytesReceived": entry.bytes_received,
    })
}

/// A connection that closed: why, by whom, how long, how much.
pub(crate) fn ledger(entry: &Closed) -> Value {
    json!({
        "sessionId": entry.session.map(|session| session.to_string()),
        "userId": named(&entry.user),
        "runId": entry.run,
        "remoteAddress": entry.remote.to_string(),
        "userAgent": &*entry.user_agent,
        "connectedAt": iso(entry.connected_at_ms),
        "disconnectedAt": iso(entry.closed_at_ms),
        "durationMs": ms(entry.lasted_ns),
        "code": entry.code,
        "reason": entry.reason.as_str(),
        "initiator": entry.initiator.as_str(),
        "messagesSent": entry.messages_sent,
        "messagesReceived": entry.messages_received,
        "messageFailures": entry.messages_failed,
        "bytesSent": entry.bytes_sent,
        "bytesReceived": entry.bytes_received,
        "reconnectionCount": entry.reconnections,
    })
}

/// The anonymous have no name.
fn named(user: &str) -> Option<&str> {
    (!user.is_empty()).then_some(user)
}

fn state(info: &ConnectionInfo) -> &'static str {
    match (info.disconnected_at_ms, info.session) {
        (Some(_), _) => "detached",
        (None, None) if info.transport == Transport::WebSocket => "authenticating",
        (None, _) => "connected",
    }
}

fn encoding(encoding: Encoding) -> &'static str {
    match encoding {
        Encoding::Json => "json",
        Encoding::MsgPack => "msgpack",
    }
}

/// Messages that the kernel took, of those that were meant for the client (ruling C20); `null` if none was.
fn delivery_rate(sent: u64, failed: u64) -> Option<f64> {
    let attempted = sent + failed;
    (attempted > 0).then(|| sent as f64 / attempted as f64)
}

fn measured(ns: u64) -> Option<u64> {
    (ns > 0).then_some(ns)
}

/// Milliseconds with microseconds behind the point.
fn ms(ns: u64) -> f64 {
    (ns / 1_000) as f64 / 1_000.0
}

#[cfg(test)]
mod tests {
    use pulsewire_protocol::{ChannelName, ClientReport, SessionId};
    use pulsewire_telemetry::{DisconnectReason, Initiator};

    use super::*;

    /// Document 003's names, in its order.
    const DOCUMENT_003: [&str; 13] = [
        "sessionId",
        "userId",
        "runId",
        "connectedAt",
        "disconnectedAt",
        "reconnectionCount",
        "messagesSent",
        "messagesReceived",
        "messageFailures",
        "averageLatencyMs",
        "maxLatencyMs",
        "messageDeliveryRate",
        "lastActivity",
    ];

    fn info() -> ConnectionInfo {
        ConnectionInfo {
            transport: Transport::WebSocket,
            session: Some(SessionId::new(1, 0, 0, 1)),
            user: "user-456".into(),
            channels: ["workspace", "run:42"].map(|name| ChannelName::parse(name).unwrap()).into(),
            remote: "127.0.0.1:5000".parse().unwrap(),
            user_agent: "tests".into(),
            encoding: Encoding::Json,
            connected_at_ms: 1_705_314_600_000,
            disconnected_at_ms: None,
            last_activity_ms: 1_705_316_400_000,
            reconnections: 2,
            messages_sent: 147,
            messages_received: 75,
            messages_failed: 3,
            bytes_sent: 5_000,
            bytes_received: 700,
            queued_bytes: 10,
            heartbeat_rtt_ns: 0,
            latency_sum_ns: 90_400_000,
            latency_count: 2,
            latency_max_ns: 120_000_000,
            tcp_rtt_us: 250,
            tcp_retransmits: 0,
            report: None,
        }
    }

    fn entry() -> Closed {
        Closed {
            number: 1,
            session: Some(SessionId::new(1, 0, 0, 1)),
            user: "user-456".into(),
            run: Some("42".into()),
            remote: "127.0.0.1:5000".parse().unwrap(),
            user_agent: "tests".into(),
            connected_at_ms: 1_705_314_600_000,
            closed_at_ms: 1_705_314_601_500,
            lasted_ns: 1_500_000_000,
            code: 4004,
            reason: DisconnectReason::SlowConsumer,
            initiator: Initiator::Server,
            bytes_sent: 5_000,
            bytes_received: 700,
            messages_sent: 0,
            messages_received: 1,
            messages_failed: 0,
            reconnections: 0,
        }
    }

    #[test]
    fn a_session_is_shown_as_document_003_shows_it() {
        let shown = present(&info());
        let expected = json!({
            "sessionId": info().session.unwrap().to_string(),
            "userId": "user-456",
            "runId": "42",
            "connectedAt": "2024-01-15T10:30:00.000Z",
            "disconnectedAt": null,
            "reconnectionCount": 2,
            "messagesSent": 147,
            "messagesReceived": 75,
            "messageFailures": 3,
            "averageLatencyMs": 45.2,
            "maxLatencyMs": 120.0,
            "messageDeliveryRate": 0.98,
            "lastActivity": "2024-01-15T11:00:00.000Z",
        });
        for name in DOCUMENT_003 {
            assert_eq!(shown[name], expected[name], "{name}");
        }
        assert_eq!((&shown["state"], &shown["tcpRttMs"]), (&json!("connected"), &json!(0.25)));
    }

    #[test]
    fn every_record_has_every_name_of_document_003() {
        for shown in [present(&info()), closed(&entry())] {
            for name in DOCUMENT_003 {
                assert!(shown.get(name).is_some(), "{name}");
            }
        }
    }

    #[test]
    fn what_was_not_measured_is_null() {
        let new = ConnectionInfo {
            latency_count: 0,
            latency_sum_ns: 0,
            messages_sent: 0,
            messages_failed: 0,
            user: "".into(),
            session: None,
            ..info()
        };
        let shown = present(&new);
        for name in [
            "averageLatencyMs",
            "maxLatencyMs",
            "messageDeliveryRate",
            "heartbeatRttMs",
            "userId",
            "sessionId",
        ] {
            assert!(shown[name].is_null(), "{name}");
        }
        assert_eq!(shown["state"], "authenticating");
    }

    #[test]
    fn what_a_client_said_of_itself_is_shown_and_what_it_did_not_say_is_null() {
        let report = ClientReport { queued: Some(3), handler_us: Some(12_500), ..ClientReport::default() };
        let reported = Reported { report, at_ms: 1_705_314_600_000 };
        let shown = present(&ConnectionInfo { report: Some(reported), ..info() });
        let expected = json!({
            "reportedAt": "2024-01-15T10:30:00.000Z",
            "queuedMessages": 3,
            "slowestHandlerMs": 12.5,
            "gapsHealed": null,
            "visible": null,
        });
        assert_eq!(shown["clientReport"], expected);
        assert!(present(&info())["clientReport"].is_null());
    }

    #[test]
    fn a_closed_connection_says_why_by_whom_and_how_long() {
        let shown = ledger(&entry());
        assert_eq!(shown["code"], 4004);
        assert_eq!(shown["reason"], "slow_consumer");
        assert_eq!(shown["initiator"], "server");
        assert_eq!(shown["durationMs"], 1_500.0);
        assert_eq!(shown["disconnectedAt"], "2024-01-15T10:30:01.500Z");
    }
}
