//! What operators see of each other and of the node, and how they send its clients elsewhere.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use http::Uri;
use pulsewire_edge::clock;
use pulsewire_protocol::ErrorCode;
use pulsewire_telemetry::{Alert, Severity};
use serde::Deserialize;
use serde_json::{Value, json};

use super::guard::{Actor, JsonBody, Viewer};
use crate::app::App;
use crate::events::{self, EVENTS_MAX, Kind};
use crate::http::health::iso;
use crate::http::problem::Problem;
use crate::serve::drain_plan;
use crate::watch::Query;

/// How long clients may take to leave when an operator sends them away.
const DRAIN_WITHIN: Duration = Duration::from_secs(30);
/// The longest silence: a week.
const SILENCE_MINUTES_MAX: u32 = 7 * 24 * 60;

/// `GET /api/admin/events?limit=`: the newest notable events, newest first.
pub async fn events(State(app): State<Arc<App>>, _: Viewer, uri: Uri) -> Result<Json<Value>, Problem> {
    let query = Query::of_url(None, uri.query())?;
    query.allow(&["limit"])?;
    let (events, total) = app.events.newest(query.count("limit", 1..=EVENTS_MAX, 100)?);
    let rows: Vec<_> = events.iter().map(|event| event.shown()).collect();
    Ok(Json(json!({ "total": total, "rows": rows })))
}

/// `GET /api/admin/audit?limit=&offset=`: who did what, newest first.
pub async fn audit(State(app): State<Arc<App>>, _: Viewer, uri: Uri) -> Result<Json<Value>, Problem> {
    let query = Query::of_url(None, uri.query())?;
    query.allow(&["limit", "offset"])?;
    let (limit, offset) = (query.count("limit", 1..=1_000, 100)?, query.count("offset", 0..=1_000, 0)?);
    let (entries, total) = app.audit.page(offset, limit);
    let rows: Vec<_> = entries.iter().map(|entry| entry.shown()).collect();
    Ok(Json(json!({ "total": total, "rows": rows })))
}

/// The body of `drain`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drain {
    drain: bool,
}

/// `POST /api/admin/drain`: sends clients elsewhere and lets nobody new in, until it is asked to take them again.
///
/// A server that is stopping goes on to stop.
pub async fn drain(
    State(app): State<Arc<App>>,
    actor: Actor,
    JsonBody(Drain { drain }): JsonBody<Drain>,
) -> Result<Json<Value>, Problem> {
    if app.stopping.load(Ordering::Relaxed) {
        return Err(Problem::new(ErrorCode::Draining, "the server is stopping"));
    }
    let connections = app.hub.admission.connections();
    let changed = app.draining.swap(drain, Ordering::Relaxed) != drain;
    let mut within_ms = None;
    if drain && changed {
        let per_second = app.live.load().settings.limits.handshakes_per_second;
        let plan = drain_plan(DRAIN_WITHIN, connections, per_second);
        within_ms = Some(plan.within_ms);
        app.hub.drain(plan);
        app.readers.drain(Some(plan));
        let text = format!("{} sends clients elsewhere: {connections} connections", actor.who.sub);
        events::note(&app, Kind::Draining, Some(Severity::Warning), text, Some("/cluster".to_owned()));
    } else if changed {
        app.hub.undrain();
        app.readers.drain(None);
        let text = format!("{} takes clients in again", actor.who.sub);
        events::note(&app, Kind::Undrained, None, text, Some("/cluster".to_owned()));
    }
    let target = if drain { "begin" } else { "end" };
    actor.done(&app, "drain", target, &format!("{connections} connections")).await;
    Ok(Json(json!({ "draining": drain, "connections": connections, "withinMs": within_ms })))
}

/// The body of `silence`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Silence {
    minutes: u32,
}

/// `POST /api/admin/alerts/{id}/silence`: tells nobody of a rule for so many minutes; 0 ends that.
pub async fn silence(
    State(app): State<Arc<App>>,
    actor: Actor,
    Path(id): Path<String>,
    JsonBody(Silence { minutes }): JsonBody<Silence>,
) -> Result<Json<Value>, Problem> {
    let alert = Alert::ALL.iter().copied().find(|alert| alert.as_str() == id).ok_or_else(|| {
        let detail = format!("there is no such alert; there are {}", Alert::NAMES.join(", "));
        Problem::new(ErrorCode::NotFound, detail)
    })?;
    if minutes > SILENCE_MINUTES_MAX {
        let detail = format!("`minutes` is a number from 0 to {SILENCE_MINUTES_MAX}");
        return Err(Problem::new(ErrorCode::BadRequest, detail));
    }
    let until_ms = (minutes > 0).then(|| clock::now().wall_ms + i64::from(minutes) * 60_000);
    app.judge.lock().silence(alert, until_ms);
    actor.done(&app, "silence", alert.as_str(), &format!("{minutes} minutes")).await;
    Ok(Json(json!({ "id": alert.as_str(), "silencedUntil": until_ms.map(iso) })))
}
