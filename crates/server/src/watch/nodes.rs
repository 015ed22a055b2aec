//! The nodes: this one.

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
    let surveyed = app.scrapes.survey(app).await;
    let process = tokio::task::spawn_blocking(Process::read).await.unwrap_or_default();
    let now_ms = clock::now().wall_ms;
    let newest = app.figures.lock().newest(now_ms);
    let figure = |id: &str| index_of(id).map_or(Value::Null, |index| shown(newest[index]));
    let stores = app.bus.stores();
    let row = json!({
        "id": &*app.node,
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
        "brokerLagMs": null,
        "clockSkewMs": null,
    });
    let rows = if let Value::Object(row) = row { vec![row] } else { Vec::<Row>::new() };
    Ok(List { meta: Map::new(), total: rows.len(), matched: rows.len(), rows })
}

const fn store_state(stores: usize, degraded: bool) -> &'static str {
    match (stores, degraded) {
        (0, _) => "none",
        (_, true) => "degraded",
        (_, false) => "ok",
    }
}

const _: () = assert!(!FIGURES.is_empty());
