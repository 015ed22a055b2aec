//! What operators do about upstreams: declaring them, taking them back, ending what is idle, the candidate.
//!
//! What the settings declare is theirs: the API neither replaces it nor takes it back. What the API declares is kept in
//! the data folder before it is answered.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use http::{StatusCode, Uri};
use pulsewire_protocol::ErrorCode;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value, json};

use super::act::with_missing;
use super::guard::{Actor, JsonBody, Viewer};
use crate::app::App;
use crate::http::problem::Problem;
use crate::settings::upstream;
use crate::upstreams::{CanaryInfo, UpstreamInfo, declared};
use crate::watch::Query;

/// The longest that a stream can be asked to have been idle, milliseconds: a week.
const IDLE_MS_MAX: usize = 7 * 24 * 3_600_000;

/// `PUT /api/admin/upstreams/{name}`: declares an upstream, or gives one that was declared so other settings.
///
/// 201 if there was none of this name, else 200; 409 if the settings declare it.
pub async fn declare(
    State(app): State<Arc<App>>,
    actor: Actor,
    Path(name): Path<String>,
    JsonBody(given): JsonBody<Map<String, Value>>,
) -> Result<(StatusCode, Json<UpstreamInfo>), Problem> {
    let live = app.live.load_full();
    not_of_settings(&app, &name)?;
    let declared = upstream::of_json(&name, &given, &live.settings).map_err(|problems| {
        let problems = problems.iter().map(|problem| problem.to_string().replace("\n    ", "; "));
        Problem::new(ErrorCode::BadRequest, problems.collect::<Vec<_>>().join(". "))
    })?;
    // It waits for the disk.
    let (putting, declared) = (app.clone(), Arc::new(declared));
    let put = tokio::task::spawn_blocking(move || putting.upstreams.put(declared, &live.settings)).await;
    let new = put.map_err(|error| Problem::new(ErrorCode::Internal, error.to_string()))?.map_err(unkept)?;
    actor.done(&app, "declare_upstream", &name, if new { "new" } else { "other settings" }).await;
    let gone = || Problem::new(ErrorCode::Conflict, "somebody else has taken it back");
    let info = shown(&app, &name).ok_or_else(gone)?;
    Ok((if new { StatusCode::CREATED } else { StatusCode::OK }, Json(info)))
}

/// `DELETE /api/admin/upstreams/{name}`: takes an upstream back that was declared by the API, and closes its streams.
pub async fn remove(
    State(app): State<Arc<App>>,
    actor: Actor,
    Path(name): Path<String>,
) -> Result<StatusCode, Problem> {
    not_of_settings(&app, &name)?;
    let (removing, asked) = (app.clone(), name.clone());
    let removed = tokio::task::spawn_blocking(move || removing.upstreams.remove(&asked)).await;
    let removed = removed.map_err(|error| Problem::new(ErrorCode::Internal, error.to_string()))?;
    if !removed.map_err(unkept)? {
        return Err(Problem::new(ErrorCode::NotFound, "no upstream of this name was declared by the API"));
    }
    actor.done(&app, "remove_upstream", &name, "").await;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /api/admin/upstreams/{name}/restart`: has its streams, or the stream with this id, connect anew at once.
pub async fn restart(
    State(app): State<Arc<App>>,
    actor: Actor,
    Path(name): Path<String>,
) -> Result<Json<Value>, Problem> {
    let unknown = || Problem::new(ErrorCode::NotFound, "there is no upstream and no stream of this name");
    let restarted = app.upstreams.restart(&name).ok_or_else(unknown)?;
    actor.done(&app, "restart_upstream", &name, &format!("{restarted} streams")).await;
    Ok(Json(json!({ "restarted": restarted })))
}

/// `POST /api/admin/upstreams/cleanup?idle_ms=`: closes every stream that nobody has listened to for so long (row
/// 002-32).
pub async fn cleanup(State(app): State<Arc<App>>, actor: Actor, uri: Uri) -> Result<Json<Value>, Problem> {
    let query = Query::of_url(None, uri.query())?;
    query.allow(&["idle_ms", "node"])?;
    let idle_ms = query.count("idle_ms", 0..=IDLE_MS_MAX, 0)?;
    let which = app.which_nodes(query.text("node"))?;
    let here = if which.includes_own() { app.upstreams.cleanup(idle_ms as u64) } else { 0 };
    let others = app.ask_nodes::<usize>(&which, "cleanup_upstreams", &idle_ms).await;
    let closed = here + others.answers.iter().map(|(_, closed)| closed).sum::<usize>();
    let target = format!("idle for {idle_ms} ms");
    actor.done(&app, "cleanup_upstreams", &target, &format!("{closed} streams closed")).await;
    Ok(Json(with_missing(json!({ "closed": closed }), others.missing)))
}

/// Does what another node asks.
pub(crate) fn cleanup_here(app: &App, body: &RawValue) -> Option<Box<RawValue>> {
    to_raw_value(&app.upstreams.cleanup(serde_json::from_str(body.get()).ok()?)).ok()
}

/// `GET /api/admin/canary`: how the candidate does.
pub async fn canary(State(app): State<Arc<App>>, _: Viewer) -> Json<CanaryInfo> {
    Json(app.upstreams.canary())
}

/// `POST /api/admin/canary/rollback`: takes the candidate back; its streams go on with the stable settings.
pub async fn roll_back(State(app): State<Arc<App>>, actor: Actor) -> Result<Json<Value>, Problem> {
    let none = "there is no candidate: `features.upstream_manager` is false, or it was taken back already";
    let why = format!("{} asked for it", actor.who.sub);
    let streams = app.upstreams.roll_back(&why).ok_or_else(|| Problem::new(ErrorCode::Conflict, none))?;
    actor.done(&app, "roll_back_canary", "", &format!("{streams} streams")).await;
    Ok(Json(json!({ "streams": streams })))
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn unkept(error: declared::Error) -> Problem {
    let code = match error {
        declared::Error::Full | declared::Error::TooLarge => ErrorCode::LimitExceeded,
        declared::Error::Broken { .. } | declared::Error::Disk { .. } => ErrorCode::Internal,
    };
    Problem::new(code, error.to_string())
}

/// An upstream as operators see it.
fn shown(app: &App, name: &str) -> Option<UpstreamInfo> {
    app.upstreams.declared().into_iter().find(|info| &*info.name == name)
}

fn not_of_settings(app: &App, name: &str) -> Result<(), Problem> {
    if app.live.load().settings.upstreams.iter().any(|declared| declared.name() == name) {
        let what = format!("`{name}` is declared in the settings; change it there and reload");
        return Err(Problem::new(ErrorCode::Conflict, what));
    }
    Ok(())
}
