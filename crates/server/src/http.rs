//! The HTTP surface: which path is answered by whom.

pub mod access;
pub mod admin;
pub mod body;
pub mod collaboration;
mod forwarded;
pub mod health;
pub mod metrics;
pub mod origin;
pub mod presence;
pub mod problem;
pub mod publish;
pub mod read;
pub mod samples;
pub mod sse;
pub mod ui;
pub mod upgrade;
pub mod watch;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{ConnectInfo, DefaultBodyLimit, Request};
use axum::routing::{any, get, options, post, put};
use axum::{Extension, Router};
use pulsewire_protocol::ErrorCode;

use crate::app::App;
use problem::Problem;

/// The routes of the public address.
pub fn router(app: &Arc<App>) -> Router {
    routes(app, ui::router())
}

fn routes(app: &Arc<App>, pages: Router<Arc<App>>) -> Router {
    let body_bytes_max = app.live.load().settings.limits.http_body_bytes_max;
    Router::new()
        .route("/ws", any(upgrade::websocket))
        .route("/ws/metrics", any(upgrade::websocket))
        .route("/ws/collaboration/{run_id}", any(upgrade::websocket))
        .route("/api/metrics/custom", post(metrics::custom))
        .route("/api/v1/write", post(samples::remote_write::write))
        .route("/v1/metrics", post(samples::otlp::metrics))
        .merge(page_router(app))
        .merge(operator_router())
        .merge(pages)
        .fallback(|| async { Problem::from(ErrorCode::NotFound) })
        .method_not_allowed_fallback(|| async { Problem::from(ErrorCode::MethodNotAllowed) })
        .layer(DefaultBodyLimit::max(body_bytes_max))
        .with_state(app.clone())
}

/// The routes of the public address, and behind them those of a program that embeds the server. The program's pages
/// are its own: the dashboard is at the internal address only.
pub fn router_with(app: &Arc<App>, routes: Router) -> Router {
    let known = |Extension(remote): Extension<access::Remote>, mut request: Request| async move {
        let client = remote.client(request.headers());
        request.extensions_mut().insert(ConnectInfo::<SocketAddr>(client));
        request
    };
    self::routes(app, Router::new()).fallback_service(routes.layer(axum::middleware::map_request(known)))
}

/// The routes of the internal address: what operators and their tools need.
pub fn internal_router(app: &Arc<App>) -> Router {
    operator_router()
        .merge(ui::router())
        .fallback(|| async { Problem::from(ErrorCode::NotFound) })
        .method_not_allowed_fallback(|| async { Problem::from(ErrorCode::MethodNotAllowed) })
        .with_state(app.clone())
}

/// What web pages use, of whatever origin is allowed.
fn page_router(app: &Arc<App>) -> Router<Arc<App>> {
    let asked = || options(origin::preflight);
    Router::new()
        .route("/api/publish", asked().post(publish::publish))
        .route("/api/metrics/samples", asked().post(samples::publish))
        .route("/api/channels/{channel}/events", asked().get(read::events).post(publish::publish_to))
        .route("/api/channels/{channel}/history", asked().get(read::history))
        .route("/api/channels/{channel}/poll", asked().get(read::poll))
        .route("/api/channels/{channel}/sse", asked().get(sse::stream))
        .route("/api/channels/{channel}/state", asked().get(read::state))
        .route("/api/channels/{channel}/presence", asked().get(presence::page))
        .route("/api/runs/{run_id}/collaboration/poll", asked().get(collaboration::poll))
        .route("/api/runs/{run_id}/collaboration/replay", asked().get(collaboration::replay))
        .route_layer(axum::middleware::from_fn_with_state(app.clone(), origin::cross_origin))
}

fn operator_router() -> Router<Arc<App>> {
    Router::new()
        .route("/metrics", get(metrics::page))
        .route("/api/metrics", get(metrics::page))
        .route("/actuator/prometheus", get(metrics::page))
        .route("/api/ws/metrics", get(metrics::ws_metrics).head(metrics::ws_health))
        .route("/health/websocket", get(health::websocket))
        .route("/livez", get(health::live))
        .route("/readyz", get(health::ready))
        .route("/api/stats", get(health::stats))
        .route("/api/admin/websocket/connections", get(admin::connections))
        .route("/api/admin/websocket/connections/{run_id}", get(admin::run_connections))
        .route("/api/admin/websocket/metrics", get(admin::session_metrics))
        .route("/api/admin/websocket/metrics/{session_id}", get(admin::one_session))
        .route("/api/admin/websocket/cleanup-stale", post(admin::cleanup_stale))
        .route("/api/admin/websocket/closed", get(admin::closed))
        .route("/api/admin/websocket/disconnect", post(admin::disconnect))
        .route("/api/admin/websocket/users", get(admin::users))
        .route("/api/admin/figures", get(admin::figures))
        .route("/api/admin/history", get(admin::history))
        .route("/api/admin/events", get(admin::events))
        .route("/api/admin/audit", get(admin::audit))
        .route("/api/admin/drain", post(admin::drain))
        .route("/api/admin/alerts/{id}/silence", post(admin::silence))
        .route("/api/admin/heap", get(admin::heap))
        .route("/api/admin/revocations", post(admin::revoke))
        .route("/api/admin/blocks", post(admin::block))
        .route("/api/admin/upstreams/{name}", put(admin::declare).delete(admin::remove))
        .route("/api/admin/upstreams/{name}/restart", post(admin::restart))
        .route("/api/admin/upstreams/cleanup", post(admin::cleanup))
        .route("/api/admin/canary", get(admin::canary))
        .route("/api/admin/canary/rollback", post(admin::roll_back))
        .merge(watch::router())
}
