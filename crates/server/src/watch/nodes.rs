//! The nodes: this one, and those it hears of.

use std::sync::Arc;

use pulsewire_edge::clock;
use pulsewire_telemetry::Process;
use serde_json::{Map, Value, json};

use super::{List, Query, Row};
use crate::app::App;
use crate::figures::{FIGURES, index_of, shown};
use crate::http::health::iso;
use crate::http::problem::Problem;

/// `nodes`.
pub(super) async fn list(app: &Arc<App>, _: &Query, _: Option<&[String]>) -> Result<List, Problem> {
    let mut rows = vec![row(app).await];
    if let Some(cluster) = &app.cluster {
        let others = cluster.nodes.lock().others(clock::now());
        rows.extend(others.into_values().map(|other| {
            let mut row = other.row;
            row.insert("state".to_owned(), if other.missing { "missing" } else { "present" }.into());
            row.insert("silentMs".to_owned(), (other.silent_ns / 1_000_000).into());
            row.insert("clockSkewMs".to_owned(), other.skew_ms.into());
            row
        }));
    }
    Ok(List { meta: Map::new(), total: rows.len(), matched: rows.len(), rows })
}

/// What this node shows of itself.
pub(crate) async fn row(app: &App) -> Row {
    let surveyed = app.scrapes.survey(app).await;
    let process = tokio::task::spawn_blocking(Process::read).await.unwrap_or_default();
    let now_ms = clock::now().wall_ms;
    let newest = app.figures.lock().newest(now_ms);
    let figure = |id: &str| index_of(id).map_or(Value::Null, |index| shown(newest[index]));
    let stores = app.bus.stores();
    let broker = app.cluster.as_ref().map(|cluster| cluster.status());
    let row = json!({
        "id": &*app.node,
        "name": &*app.node_name,
        "state": "present",
        "silentMs": 0,
        "version": env!("CARGO_PKG_VERSION"),
        "startedAt": iso(app.started_at_ms),
        "uptimeSeconds": now_ms.saturating_sub(app.started_at_ms).max(0) / 1_000,
        "draining": surveyed.current.draining,
        "connections": surveyed.current.active_connections(),
        "connectionsMax": surveyed.current.connections_hard_limit,
        "cpuPercent": figure("cpu.process"),
        "rssBytes": process.resident_bytes,
        "openFiles": process.fds_open,
        "openFilesMax": process.fds_max,
        "shards": app.bus.shards(),
        "storeState": store_state(stores.len(), stores.iter().any(|store| store.degraded.is_some())),
        "storeLatencyMs": figure("store.commit.p95"),
        "brokerState": broker.as_ref().map_or("none", |broker| if broker.connected { "ok" } else { "degraded" }),
        "brokerLagMs": broker.as_ref().filter(|broker| broker.connected).map(|broker| broker.lag_us as f64 / 1_000.0),
        "clockSkewMs": 0,
    });
    match row {
        Value::Object(row) => row,
        _ => Row::new(),
    }
}

const fn store_state(stores: usize, degraded: bool) -> &'static str {
    match (stores, degraded) {
        (0, _) => "none",
        (_, true) => "degraded",
        (_, false) => "ok",
    }
}

const _: () = assert!(!FIGURES.is_empty());
