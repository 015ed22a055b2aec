//! Everything about one connection: why it is slow, what it listens to, what happened to it.

use std::sync::Arc;

use pulsewire_bus::ChannelId;
use pulsewire_hub::watch::timeline::Entry;
use pulsewire_hub::watch::{Detail, Row, RowKey, Subscribed};
use pulsewire_hub::{Closed, Order, Reported, Role, TcpSample};
use pulsewire_protocol::{ErrorCode, SessionId};
use pulsewire_telemetry::Transport;
use serde_json::{Map, Value, json};

use super::{active, list_of, shown};
use crate::app::App;
use crate::auth::words::word_of_role;
use crate::http::health::iso;
use crate::http::problem::Problem;
use crate::watch::List;

/// One connection or session, also one that is over while its connections are remembered.
pub(super) async fn list(app: &Arc<App>, id: &str) -> Result<List, Problem> {
    let unknown = || Problem::new(ErrorCode::NotFound, "no such connection, or it closed long ago");
    let key: RowKey = id.parse().map_err(|_| unknown())?;
    let found = match key.shard() {
        Some(shard) if shard < app.hub.shards() => app.ask(shard, |reply| Order::Detail(key, reply)).await?,
        Some(_) => return Err(unknown()),
        None => app.readers.rows(&[key]).pop().map(|row| Box::new(reader(row))),
    };
    let (closed, timeline) = match key {
        RowKey::Session(session) => {
            let shard = usize::from(session.shard());
            let happened = app.ask(shard, |reply| Order::Timeline(session, reply)).await?;
            (app.hub.ledger.session(session), happened)
        }
        _ => (Vec::new(), Vec::new()),
    };
    let mut row = match (&found, closed.first(), key) {
        (Some(detail), ..) => present(app, detail),
        (None, Some(last), RowKey::Session(session)) => over(app, session, last),
        _ => return Err(unknown()),
    };
    row.insert("timeline".to_owned(), shown_timeline(app, &timeline));
    let closed = closed.iter().map(|entry| Value::Object(shown::closed(entry))).collect();
    row.insert("closedConnections".to_owned(), closed);
    Ok(list_of(vec![row], 1, 1))
}

/// A reader over HTTP has no session: what it reads is in its row.
fn reader(row: Row) -> Detail {
    Detail { row, expires_at_ms: None, role: Role::User, resumable: false, subscriptions: Vec::new() }
}

fn present(app: &App, detail: &Detail) -> Map<String, Value> {
    let Detail { row, expires_at_ms, role, resumable, subscriptions } = detail;
    let mut fields = active::with_rates(app, std::slice::from_ref(row)).pop().unwrap_or_default();
    fields.extend(shown::fields(json!({
        "tokenExpiresAt": expires_at_ms.map(iso),
        "role": word_of_role(*role),
        "compression": false,
        "resumable": resumable,
        "latencySplit": latency_split(row),
        "network": row.tcp.as_ref().map(network),
        "clientReport": row.info.report.map(said),
        "subscriptionList": subscriptions.iter().map(subscription).collect::<Vec<_>>(),
    })));
    fields
}

/// A session that is over, as its last connection left it.
fn over(app: &App, session: SessionId, last: &Closed) -> Map<String, Value> {
    let mut fields = shown::closed(last);
    fields.extend(shown::fields(json!({
        "id": session.to_string(),
        "node": &*app.node,
        "transport": Transport::WebSocket.as_str(),
        "state": "closed",
        "reconnections": last.reconnections,
    })));
    fields
}

/// Where the time goes between an event and the client's program.
fn latency_split(row: &Row) -> Value {
    let tcp = row.tcp.unwrap_or_default();
    let waiting = u64::from(tcp.unsent_bytes) + u64::from(tcp.unacked_bytes);
    let rate = tcp.delivery_bytes_per_second.filter(|rate| *rate > 0);
    let kernel_ms = rate.map(|rate| round(waiting as f64 / rate as f64 * 1_000.0));
    let network_us = row.tcp.map_or(row.info.tcp_rtt_us, |tcp| tcp.rtt_us);
    let ping_us = row.info.heartbeat_rtt_ns / 1_000;
    let known = |us: u64| (us > 0).then_some(us);
    let client_us = known(ping_us).map(|us| us.saturating_sub(u64::from(network_us)));
    json!({
        "queueMs": row.queued_for_ns.map_or(0.0, shown::ms),
        "kernelMs": if waiting == 0 && row.tcp.is_some() { Some(0.0) } else { kernel_ms },
        "networkMs": known(network_us.into()).map(|us| us as f64 / 1_000.0),
        "clientMs": client_us.map(|us| us as f64 / 1_000.0),
    })
}

fn network(tcp: &TcpSample) -> Value {
    let ms = |us: u64| us as f64 / 1_000.0;
    json!({
        "rttMs": ms(tcp.rtt_us.into()),
        "rttVariationMs": ms(tcp.rtt_variance_us.into()),
        "retransmits": tcp.retransmits,
        "lost": tcp.lost,
        "deliveryBytesPerSecond": tcp.delivery_bytes_per_second,
        "receiveWindowLimitedMs": tcp.receive_window_limited_us.map(ms),
        "sendBufferLimitedMs": tcp.send_buffer_limited_us.map(ms),
        "busyMs": tcp.busy_us.map(ms),
    })
}

/// What a client said of itself; `null` where it said nothing.
fn said(Reported { report, at_ms }: Reported) -> Value {
    json!({
        "reportedAt": iso(at_ms),
        "queuedMessages": report.queued,
        "slowestHandlerMs": report.handler_us.map(|us| shown::ms(u64::from(us) * 1_000)),
        "gapsHealed": report.gaps_healed,
        "visible": report.visible,
    })
}

fn subscription(subscribed: &Subscribed) -> Value {
    let Subscribed { channel, position, feeding, filter, interval } = subscribed;
    let head = position.map(|_| channel.head().0);
    json!({
        "id": channel.name.as_str(),
        "channel": channel.name.as_str(),
        "kind": channel.kind.as_str(),
        "position": position,
        "head": head,
        "behind": head.zip(*position).map(|(head, position)| head.saturating_sub(position)),
        "feeding": feeding.as_str(),
        "filter": (!filter.is_empty()).then(|| filter.to_string()),
        "interval": interval.map(pulsewire_protocol::Interval::name),
    })
}

fn shown_timeline(app: &App, timeline: &[Entry]) -> Value {
    let mut wanted: Vec<ChannelId> = timeline.iter().filter_map(|entry| entry.note.channel).collect();
    wanted.sort_unstable();
    wanted.dedup();
    let mut names = std::collections::HashMap::new();
    if !wanted.is_empty() {
        for channel in app.bus.all_channels() {
            if wanted.binary_search(&channel.id).is_ok() {
                names.insert(channel.id, channel);
            }
        }
    }
    let shown = |entry: &Entry| {
        let channel = entry.note.channel.and_then(|id| names.get(&id)).map(|channel| channel.name.as_str());
        json!({
            "id": entry.id,
            "at": iso(entry.at_ms),
            "lane": entry.note.what.lane().as_str(),
            "kind": entry.note.what.as_str(),
            "text": entry.note.text(channel),
            "value": entry.note.shown_value(),
            "channel": channel,
        })
    };
    timeline.iter().map(shown).collect()
}

/// Milliseconds with microseconds behind the point.
fn round(ms: f64) -> f64 {
    (ms * 1_000.0).round() / 1_000.0
}
