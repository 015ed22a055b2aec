//! What operators see and do: document 003's admin endpoints, and ending connections.
//!
//! Every path needs a token with a role that looks on ([`Viewer`]) or, where something changes, that operates
//! ([`Actor`] stands in front), and a host name that is this server's. Lists are pages; figures come from the shards at the moment of
//! the request. Whatever changes something is logged with who did it.

mod act;
mod figures;
mod guard;
mod heap;
mod operate;
mod paging;
pub(crate) mod record;
mod upstreams;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use pulsewire_hub::{Closed, ConnectionInfo};
use pulsewire_protocol::{ChannelName, ErrorCode, SessionId};
use serde_json::{Value, json};

use super::health::iso;
use super::problem::Problem;
use crate::app::App;

pub use act::{block, cleanup_stale, disconnect, revoke};
pub use figures::{figures, history};
pub use guard::{Actor, JsonBody, Viewer};
pub use heap::heap;
pub use operate::{audit, drain, events, silence};
pub use paging::{Paging, Sort};
pub use upstreams::{canary, cleanup, declare, remove, restart, roll_back};

/// `GET /api/admin/websocket/connections`: how many connections there are, and in which runs.
///
/// A connection counts in every run whose channel (`run:{id}`) it listens to. Runs are paged by name.
pub async fn connections(
    State(app): State<Arc<App>>,
    _: Viewer,
    paging: Paging,
) -> Result<Json<Value>, Problem> {
    let all = app.connections().await?;
    let live = || all.iter().filter(|info| info.disconnected_at_ms.is_none());
    let mut by_run = BTreeMap::<&str, u64>::new();
    for run in live().flat_map(runs) {
        *by_run.entry(run).or_default() += 1;
    }
    let total = by_run.len();
    let page: serde_json::Map<String, Value> =
        paging.of(by_run).map(|(run, count)| (run.to_owned(), count.into())).collect();
    let answer = json!({
        "totalRuns": total,
        "totalConnections": live().count(),
        "detachedSessions": all.len() - live().count(),
        "connectionsByRun": page,
    });
    Ok(Json(paging.described(answer, total)))
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
    let mut found = app.connections().await?;
    found.retain(|info| info.channels.contains(&channel));
    found.sort_by_key(|info| (info.disconnected_at_ms.is_some(), info.connected_at_ms, info.session));
    let live = || found.iter().filter(|info| info.disconnected_at_ms.is_none());
    let users: BTreeSet<&str> = live().map(|info| &*info.user).filter(|user| !user.is_empty()).collect();
    let answer = json!({
        "runId": run_id,
        "connectionCount": live().count(),
        "connections": paging.of(&found).map(record::brief).collect::<Vec<_>>(),
        "activeUsers": users,
    });
    Ok(Json(paging.described(answer, found.len())))
}

/// `GET /api/admin/websocket/metrics`: every session that is known, one record each.
///
/// Connected sessions come first, then those that wait for their client, then those that closed,
/// each newest first; with `?sort=queuedBytes` those for whom most is waiting come first (001-101). The answer is document 003's bare array; the page is described by the headers
/// `X-Total-Count` and `Link`.
pub async fn session_metrics(
    State(app): State<Arc<App>>,
    _: Viewer,
    paging: Paging,
) -> Result<Response, Problem> {
    let mut present = app.connections().await?;
    present.sort_by_key(|info| {
        let queued_bytes = if paging.sort == Sort::QueuedBytes { info.queued_bytes } else { 0 };
        let newest = Reverse((info.connected_at_ms, info.session));
        (Reverse(queued_bytes), info.disconnected_at_ms.is_some(), newest)
    });
    let (closed, _) = app.hub.ledger.page(0, usize::MAX);
    let closed = last_of_each(&closed, &present);
    let total = present.len() + closed.len();
    let records = present.iter().map(record::present).chain(closed.into_iter().map(record::closed));
    let page: Vec<Value> = paging.of(records).collect();
    Ok((paging.headers(total), Json(page)).into_response())
}

/// `GET /api/admin/websocket/metrics/{session_id}`: one session, and its connections that closed.
pub async fn one_session(
    State(app): State<Arc<App>>,
    _: Viewer,
    Path(session_id): Path<String>,
) -> Result<Json<Value>, Problem> {
    let unknown = || Problem::new(ErrorCode::NotFound, "no such session, or it closed long ago");
    let session = SessionId::parse(&session_id).map_err(|_| unknown())?;
    let present = app.connections().await?.into_iter().find(|info| info.session == Some(session));
    let closed = app.hub.ledger.session(session);
    let mut shown = match (&present, closed.first()) {
        (Some(info), _) => record::present(info),
        (None, Some(last)) => record::closed(last),
        (None, None) => return Err(unknown()),
    };
    shown["closedConnections"] = closed.iter().map(record::ledger).collect();
    Ok(Json(shown))
}

/// `GET /api/admin/websocket/users`: who has how many connections and subscriptions, the most subscribed first.
pub async fn users(State(app): State<Arc<App>>, _: Viewer, paging: Paging) -> Result<Json<Value>, Problem> {
    let all = app.connections().await?;
    let mut by_user = BTreeMap::<&str, (usize, usize)>::new();
    for info in all.iter().filter(|info| info.disconnected_at_ms.is_none() && !info.user.is_empty()) {
        let (connections, subscriptions) = by_user.entry(&info.user).or_default();
        *connections += 1;
        *subscriptions += info.channels.len();
    }
    let mut users: Vec<_> = by_user.into_iter().collect();
    users.sort_by_key(|(user, (_, subscriptions))| (Reverse(*subscriptions), *user));
    let total = users.len();
    let shown = |(user, (connections, subscriptions))| json!({ "userId": user, "connections": connections, "subscriptions": subscriptions });
    let answer = json!({ "users": paging.of(users).map(shown).collect::<Vec<_>>() });
    Ok(Json(paging.described(answer, total)))
}

/// `GET /api/admin/websocket/closed`: the connections that closed, newest first, with the reason.
pub async fn closed(State(app): State<Arc<App>>, _: Viewer, paging: Paging) -> Json<Value> {
    let (page, total) = app.hub.ledger.page(paging.offset, paging.limit);
    let answer = json!({ "closed": page.iter().map(record::ledger).collect::<Vec<_>>() });
    Json(paging.described(answer, total))
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
