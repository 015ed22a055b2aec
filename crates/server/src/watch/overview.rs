//! The first thing an operator looks at: is anything wrong, since when, and how much is there.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use pulsewire_edge::clock;
use serde_json::{Map, Value, json};

use super::Query;
use crate::app::App;
use crate::figures::FIGURES;
use crate::http::health::{Verdict, iso};
use crate::http::problem::Problem;
use crate::thresholds::{RULES, State, rounded, tile};

/// How many rules are tiles: document 001's table.
const TILES: usize = 6;

/// `overview`.
pub(super) async fn document(app: &Arc<App>, _: &Query) -> Result<Value, Problem> {
    let surveyed = app.scrapes.survey(app).await;
    let now_ms = clock::now().wall_ms;
    let verdict = Verdict::of(app, &surveyed);
    let (live, current) = (app.live.load(), &surveyed.current);
    let (tiles, firing, alerts, critical) = judged(app, now_ms);
    let errors = app.errors.lock().seen().filter(|(_, seen)| now_ms - seen.last_ms < 300_000).count();
    Ok(json!({
        "at": iso(now_ms),
        "node": {
            "id": &*app.node,
            "version": env!("CARGO_PKG_VERSION"),
            "startedAt": iso(app.started_at_ms),
            "uptimeSeconds": now_ms.saturating_sub(app.started_at_ms).max(0) / 1_000,
            "dev": live.settings.dev,
            "cluster": null,
        },
        "status": verdict.status(),
        "reasons": verdict.reasons(),
        "draining": app.draining.load(Ordering::Relaxed),
        "tiles": tiles,
        "figures": figures(app, now_ms),
        "counts": {
            "connections": current.active_connections(),
            "detached": current.sessions_detached,
            "channels": current.channels,
            "alerts": alerts,
            "critical": critical,
            "upstreams": app.upstreams.totals().active,
            "errors": errors,
            "series": current.metric_series,
        },
        "firing": firing,
    }))
}

/// The tiles, the rules that fire, how many they are and how many of them critically.
fn judged(app: &App, now_ms: i64) -> (Vec<Value>, Vec<Value>, usize, usize) {
    let judge = app.judge.lock();
    let tiles = judge.all().take(TILES).map(|(rule, found)| tile(rule, found)).collect();
    let mut firing = Vec::new();
    let mut critical = 0;
    for (rule, found) in judge.all() {
        let State::Firing(severity) = found.state else { continue };
        critical += usize::from(severity == pulsewire_telemetry::Severity::Critical);
        firing.push(json!({
            "id": rule.alert.as_str(),
            "title": rule.title,
            "severity": severity.as_str(),
            "value": found.value.map(rounded),
            "limit": found.limit().map(rounded),
            "unit": rule.unit,
            "since": iso(found.state_since_ms),
            "forSeconds": now_ms.saturating_sub(found.state_since_ms).max(0) / 1_000,
            "silenced": found.is_silenced(now_ms),
            "link": rule.link,
        }));
    }
    let alerts = firing.len();
    (tiles, firing, alerts, critical)
}

/// Every figure over the last second that was recorded.
fn figures(app: &App, now_ms: i64) -> Map<String, Value> {
    let newest = app.figures.lock().newest(now_ms);
    let ids = FIGURES.iter().map(|figure| figure.id.to_owned());
    ids.zip(newest.into_iter().map(crate::figures::shown)).collect()
}

const _: () = assert!(TILES <= RULES.len());
