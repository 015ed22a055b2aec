//! How connections, sessions, closed ones and groups are shown: the one place that makes JSON of them.

use std::cmp::Reverse;

use pulsewire_hub::watch::filter::Field;
use pulsewire_hub::watch::{Group, Groups, Row, Sort};
use pulsewire_hub::{Closed, ConnectionInfo, Failed};
use pulsewire_protocol::ChannelName;
use serde_json::{Map, Value, json};

use super::asked::Asked;
use super::list_of;
use crate::http::admin::record;
use crate::http::health::iso;
use crate::watch::{List, PerSecond};

/// A row of the connections that are there.
pub(super) fn row(row: &Row, node: &str, rates: PerSecond) -> Map<String, Value> {
    let Row { info, tcp, .. } = row;
    let average_ns = (info.latency_count > 0).then(|| info.latency_sum_ns / u64::from(info.latency_count));
    fields(json!({
        "id": row.key.to_string(),
        "sessionId": info.session.map(|session| session.to_string()),
        "userId": named(&info.user),
        "runId": key_of(info, "run"),
        "projectId": key_of(info, "project"),
        "node": node,
        "transport": info.transport.as_str(),
        "encoding": info.encoding.name(),
        "state": row.state.as_str(),
        "score": row.diagnosis.score,
        "cause": row.diagnosis.cause.as_str(),
        "causeText": row.cause_text,
        "rttMs": measured(info.heartbeat_rtt_ns).map(ms),
        "tcpRttMs": measured(u64::from(tcp.map_or(info.tcp_rtt_us, |tcp| tcp.rtt_us)) * 1_000).map(ms),
        "latencyMs": average_ns.map(ms),
        "latencyMaxMs": average_ns.map(|_| ms(info.latency_max_ns)),
        "deliveryRate": delivery_rate(info),
        "queuedBytes": info.queued_bytes,
        "queuedForMs": row.queued_for_ns.map(ms),
        "kernelUnsentBytes": tcp.map(|tcp| tcp.unsent_bytes),
        "kernelUnackedBytes": tcp.map(|tcp| tcp.unacked_bytes),
        "reconnections": info.reconnections,
        "heartbeatsMissed": row.heartbeats_missed,
        "subscriptions": info.channels.len(),
        "messageFailures": info.messages_failed,
        "messagesSent": info.messages_sent,
        "messagesReceived": info.messages_received,
        "bytesSent": info.bytes_sent,
        "bytesReceived": info.bytes_received,
        "outPerSecond": rates[0],
        "inPerSecond": rates[1],
        "connectedAt": iso(info.connected_at_ms),
        "disconnectedAt": info.disconnected_at_ms.map(iso),
        "lastActivityAt": iso(info.last_activity_ms),
        "remoteAddress": info.remote.to_string(),
        "userAgent": &*info.user_agent,
        "clientVersion": pulsewire_hub::client_version(&info.user_agent),
    }))
}

/// A connection that closed.
pub(super) fn closed(entry: &Closed) -> Map<String, Value> {
    let mut shown = fields(record::ledger(entry));
    shown.insert("id".to_owned(), entry.number.to_string().into());
    shown.insert("clientVersion".to_owned(), pulsewire_hub::client_version(&entry.user_agent).into());
    shown
}

/// An attempt to connect that failed.
pub(super) fn failed(entry: &Failed) -> Map<String, Value> {
    fields(json!({
        "id": entry.number.to_string(),
        "at": iso(entry.at_ms),
        "remoteAddress": entry.remote.to_string(),
        "userAgent": &*entry.user_agent,
        "origin": entry.origin,
        "path": entry.path,
        "stage": entry.stage.as_str(),
        "reason": entry.reason,
        "status": entry.status,
        "detail": entry.detail,
    }))
}

/// A page of groups: those with the most connections first, unless another of their figures was asked for.
pub(super) fn groups<F: Field>(
    groups: Groups,
    asked: &Asked,
    sort: Option<Sort<F>>,
    total: usize,
    matched: usize,
) -> List {
    let left_out = groups.left_out;
    let count = groups.by_name.len();
    let mut all: Vec<_> = groups.by_name.into_iter().collect();
    let figure = |group: &Group| match sort.map(|sort| sort.by.name()) {
        Some("queue") => group.queued_bytes,
        Some("rtt") => group.rtt_ns,
        Some("latency") => group.latency_max_ns,
        Some("reconnects") => group.reconnections,
        Some("failures") => group.failures,
        // The worst first.
        Some("score") => 100 - u64::from(group.worst_score.unwrap_or(100)),
        _ => group.connections,
    };
    all.sort_unstable_by(|(one, first), (another, second)| {
        (Reverse(figure(first)), one).cmp(&(Reverse(figure(second)), another))
    });
    let rows = asked.page(all).map(|(name, of)| group(&name, &of)).collect();
    let mut list = list_of(rows, total, matched);
    list.meta.insert("groups".to_owned(), count.into());
    list.meta.insert("leftOut".to_owned(), left_out.into());
    list
}

fn group(name: &str, group: &Group) -> Map<String, Value> {
    fields(json!({
        "id": name,
        "connections": group.connections,
        "subscriptions": group.subscriptions,
        "queuedBytes": group.queued_bytes,
        "rttMs": measured(group.rtt_ns).map(ms),
        "latencyMaxMs": measured(group.latency_max_ns).map(ms),
        "reconnections": group.reconnections,
        "messageFailures": group.failures,
        "worstScore": group.worst_score,
    }))
}

/// The fields of an object.
pub(super) fn fields(object: Value) -> Map<String, Value> {
    match object {
        Value::Object(fields) => fields,
        other => Map::from_iter([("value".to_owned(), other)]),
    }
}

/// The part behind a prefix of the first channel that has it.
fn key_of<'i>(info: &'i ConnectionInfo, prefix: &str) -> Option<&'i str> {
    info.channels.iter().find(|name| name.prefix() == Some(prefix)).map(ChannelName::key)
}

/// The anonymous have no name.
pub(super) fn named(user: &str) -> Option<&str> {
    (!user.is_empty()).then_some(user)
}

/// Messages that the kernel took, of those that were meant for the client; `null` if none was.
fn delivery_rate(info: &ConnectionInfo) -> Option<f64> {
    let attempted = info.messages_sent + info.messages_failed;
    (attempted > 0).then(|| info.messages_sent as f64 / attempted as f64)
}

fn measured(ns: u64) -> Option<u64> {
    (ns > 0).then_some(ns)
}

/// Milliseconds with microseconds behind the point.
pub(super) fn ms(ns: u64) -> f64 {
    (ns / 1_000) as f64 / 1_000.0
}
