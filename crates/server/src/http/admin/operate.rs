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
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};

use super::guard::{Actor, JsonBody, Viewer};
use crate::app::App;
use crate::cluster::which::Which;
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
    /// Which node: its id or its name; the one that is asked, if nothing is said.
    node: Option<String>,
}

/// What one node asks another.
#[derive(Debug, Serialize, Deserialize)]
struct Draining {
    drain: bool,
    who: String,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Drained {
    /// Whether the node stops already, so that nothing was changed.
    stopping: bool,
    connections: usize,
    within_ms: Option<u64>,
}

/// `POST /api/admin/drain`: has a node send clients elsewhere and let nobody new in, until it is asked to take them
/// again. `node` names another node than the one that is asked.
///
/// A server that is stopping goes on to stop.
pub async fn drain(
    State(app): State<Arc<App>>,
    actor: Actor,
    JsonBody(Drain { drain, node }): JsonBody<Drain>,
) -> Result<Json<Value>, Problem> {
    let which = if node.is_some() { app.which_nodes(node.as_deref())? } else { Which::Own };
    let who = actor.who.sub.to_string();
    let drained = match &which {
        Which::One(node) => {
            let asked = Draining { drain, who };
            let answers = app.ask_nodes::<Drained>(&which, "drain", &asked).await.answers;
            answers.into_iter().next().map(|(_, drained)| drained).ok_or_else(|| {
                let detail = format!(
                    "node {node} has not answered; it may still do it: look at /api/admin/nodes, then ask again"
                );
                Problem::new(ErrorCode::Overloaded, detail)
            })?
        }
        Which::Own | Which::All => drain_own(&app, drain, &who),
    };
    if drained.stopping {
        return Err(Problem::new(ErrorCode::Draining, "the server is stopping"));
    }
    let Drained { connections, within_ms, .. } = drained;
    let mut target = if drain { "begin" } else { "end" }.to_owned();
    let mut answer = json!({ "draining": drain, "connections": connections, "withinMs": within_ms });
    if node.is_some() || app.cluster.is_some() {
        let id = if let Which::One(id) = &which { id } else { &*app.node };
        answer["node"] = id.into();
        target = format!("{target}, node {id}");
    }
    actor.done(&app, "drain", &target, &format!("{connections} connections")).await;
    Ok(Json(answer))
}

/// Does what another node asks.
pub(crate) fn drain_here(app: &Arc<App>, body: &RawValue) -> Option<Box<RawValue>> {
    let Draining { drain, who } = serde_json::from_str(body.get()).ok()?;
    to_raw_value(&drain_own(app, drain, &who)).ok()
}

fn drain_own(app: &Arc<App>, drain: bool, who: &str) -> Drained {
    let connections = app.hub.admission.connections();
    if app.stopping.load(Ordering::Relaxed) {
        return Drained { stopping: true, connections, within_ms: None };
    }
    let changed = app.draining.swap(drain, Ordering::Relaxed) != drain;
    let mut within_ms = None;
    if drain && changed {
        let per_second = app.live.load().settings.limits.handshakes_per_second;
        let plan = drain_plan(DRAIN_WITHIN, connections, per_second, app.other_nodes());
        within_ms = Some(plan.within_ms);
        app.hub.drain(plan);
        app.readers.drain(Some(plan));
        let text = format!("{who} sends clients elsewhere: {connections} connections");
        events::note(app, Kind::Draining, Some(Severity::Warning), text, Some("/cluster".to_owned()));
    } else if changed {
        app.hub.undrain();
        app.readers.drain(None);
        let text = format!("{who} takes clients in again");
        events::note(app, Kind::Undrained, None, text, Some("/cluster".to_owned()));
    }
    Drained { stopping: false, connections, within_ms }
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
