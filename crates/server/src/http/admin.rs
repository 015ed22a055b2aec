//! What operators see and do: document 003's admin endpoints, and ending connections.
//!
//! Every path needs a token with a role that looks on ([`Viewer`]) or, where something changes, that operates
//! ([`Actor`] stands in front), and a host name that is this server's. Lists are pages; figures come from the shards at the moment of
//! the request, and of all nodes unless one is named (`parts.rs`). Whatever changes something is logged with who did it.

mod act;
mod figures;
mod guard;
mod heap;
mod operate;
mod paging;
mod parts;
pub(crate) mod record;
mod upstreams;

use std::collections::HashSet;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue};
use pulsewire_hub::{Closed, ConnectionInfo};
use pulsewire_protocol::{ChannelName, ErrorCode, SessionId};
use serde_json::{Value, json};

use super::health::iso;
use super::problem::Problem;
use crate::app::App;

use act::with_missing;
use parts::List;

pub(crate) use act::forget_stale;
pub use act::{block, cleanup_stale, disconnect, revoke};
pub use figures::{figures, history};
pub use guard::{Actor, JsonBody, Viewer};
pub use heap::heap;
pub(crate) use operate::drain_here;
pub use operate::{audit, drain, events, silence};
pub use paging::{Paging, Sort};
pub(crate) use parts::answer as answer_list;
pub(crate) use upstreams::cleanup_here;
pub use upstreams::{canary, cleanup, declare, remove, restart, roll_back};

/// `GET /api/admin/websocket/connections`: how many connections there are, and in which runs.
///
/// A connection counts in every run whose channel (`run:{id}`) it listens to. Runs are paged by name.
pub async fn connections(
    State(app): State<Arc<App>>,
    _: Viewer,
    paging: Paging,
) -> Result<Json<Value>, Problem> {
    let (part, missing) = parts::of_nodes(&app, List::Runs, &paging).await?;
    let page =
        paging.of(part.rows).map(|row| (row[0].as_str().unwrap_or_default().to_owned(), row[1].clone()));
    let answer = json!({
        "totalRuns": part.total,
        "totalConnections": part.live,
        "detachedSessions": part.detached,
        "connectionsByRun": page.collect::<serde_json::Map<String, Value>>(),
    });
    Ok(Json(with_missing(paging.described(answer, part.total), missing)))
}

/// `GET /api/admin/websocket/connections/{run_id}`: who is in a run.
///
/// `connections` holds the live connections first, then sessions that wait for their client
/// (`"state": "detached"`); `connectionCount` and `activeUsers` are about the live ones.
pub async fn run_connections(
    State(app): State<Arc<App>>,
    _: Viewer,
    Path(run_id): Path<String>,
    paging: Paging,
) -> Result<Json<Value>, Problem> {
    let channel = ChannelName::parse(&format!("run:{run_id}"))
        .map_err(|error| Problem::new(ErrorCode::InvalidChannel, error.to_string()))?;
    let (part, missing) = parts::of_nodes(&app, List::Run(channel.as_str().into()), &paging).await?;
    let answer = json!({
        "runId": run_id,
        "connectionCount": part.live,
        "connections": paging.of(part.rows).collect::<Vec<_>>(),
        "activeUsers": part.users,
    });
    Ok(Json(with_missing(paging.described(answer, part.total), missing)))
}

/// `GET /api/admin/websocket/metrics`: every session that is known, one record each.
///
/// Connected sessions come first, then those that wait for their client, then those that closed,
/// each newest first; with `?sort=queuedBytes` those for whom most is waiting come first (001-101). The answer is
/// document 003's bare array; the page is described by the headers `X-Total-Count` and `Link`, and nodes that have
/// not answered by `X-Missing-Nodes`, separated by commas.
pub async fn session_metrics(
    State(app): State<Arc<App>>,
    _: Viewer,
    paging: Paging,
) -> Result<Response, Problem> {
    let (part, missing) = parts::of_nodes(&app, List::Sessions(paging.sort.into()), &paging).await?;
    let mut headers = paging.headers(part.total);
    if let Some(missing) = missing.and_then(|missing| HeaderValue::try_from(missing.join(",")).ok()) {
        headers.insert(HeaderName::from_static("x-missing-nodes"), missing);
    }
    let page: Vec<Value> = paging.of(part.rows).collect();
    Ok((headers, Json(page)).into_response())
}

/// `GET /api/admin/websocket/metrics/{session_id}`: one session, and its connections that closed.
pub async fn one_session(
    State(app): State<Arc<App>>,
    _: Viewer,
    Path(session_id): Path<String>,
    paging: Paging,
) -> Result<Json<Value>, Problem> {
    let (part, missing) = parts::of_nodes(&app, List::Session(session_id.into()), &paging).await?;
    match part.rows.into_iter().next() {
        Some(shown) => Ok(Json(with_missing(shown, missing))),
        None => Err(Problem::new(ErrorCode::NotFound, unknown_session(missing.as_deref()))),
    }
}

fn unknown_session(missing: Option<&[Box<str>]>) -> String {
    let unknown = "no such session, or it closed long ago";
    match missing {
        None | Some([]) => unknown.to_owned(),
        Some(missing) => {
            format!("{unknown}, or it is at a node that has not answered: {}", missing.join(", "))
        }
    }
}

/// `GET /api/admin/websocket/users`: who has how many connections and subscriptions, the most subscribed first.
pub async fn users(State(app): State<Arc<App>>, _: Viewer, paging: Paging) -> Result<Json<Value>, Problem> {
    let (part, missing) = parts::of_nodes(&app, List::Users, &paging).await?;
    let answer = json!({ "users": paging.of(part.rows).collect::<Vec<_>>() });
    Ok(Json(with_missing(paging.described(answer, part.total), missing)))
}

/// `GET /api/admin/websocket/closed`: the connections that closed, newest first, with the reason.
pub async fn closed(State(app): State<Arc<App>>, _: Viewer, paging: Paging) -> Result<Json<Value>, Problem> {
    let (part, missing) = parts::of_nodes(&app, List::Closed, &paging).await?;
    let answer = json!({ "closed": paging.of(part.rows).collect::<Vec<_>>() });
    Ok(Json(with_missing(paging.described(answer, part.total), missing)))
}

/// The runs whose channel a connection listens to.
fn runs(info: &ConnectionInfo) -> impl Iterator<Item = &str> {
    info.channels.iter().filter(|name| name.prefix() == Some("run")).map(ChannelName::key)
}

/// The last connection of each session that is neither connected nor waiting; newest first.
fn last_of_each<'c>(closed: &'c [Closed], present: &[ConnectionInfo]) -> Vec<&'c Closed> {
    let mut seen: HashSet<SessionId> = present.iter().filter_map(|info| info.session).collect();
    closed.iter().filter(|entry| entry.session.is_some_and(|session| seen.insert(session))).collect()
}
