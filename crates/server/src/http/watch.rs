//! What can be watched, asked for once.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::{Uri, header};
use pulsewire_edge::clock;
use pulsewire_protocol::ErrorCode;
use serde_json::Value;

use super::admin::Viewer;
use super::health::iso;
use super::problem::Problem;
use crate::app::App;
use crate::watch::{self, Produce, Query, WATCHABLES, Watchable};

/// A route for each watchable.
pub(super) fn router() -> Router<Arc<App>> {
    let route = |router: Router<Arc<App>>, watchable: &'static Watchable| {
        let handler = move |State(app): State<Arc<App>>, _: Viewer, id: Option<Path<String>>, uri: Uri| async move {
            answer(&app, watchable, id.map(|Path(id)| id), &uri).await
        };
        router.route(watchable.path, get(handler))
    };
    WATCHABLES.iter().fold(Router::new(), route)
}

/// The document, or the list as a page that belongs to no watch.
async fn answer(
    app: &Arc<App>,
    watchable: &Watchable,
    id: Option<String>,
    uri: &Uri,
) -> Result<Response, Problem> {
    let query = Query::of_url(id.as_deref(), uri.query())?;
    query.allow(watchable.parameters)?;
    let answer = match watchable.produce {
        Produce::Document(produce) => produce(app, &query).await?,
        Produce::List(produce) => {
            let list = produce(app, &query, None).await?;
            if watchable.has_subject() {
                list.rows.into_iter().next().map(Value::Object).ok_or(ErrorCode::NotFound)?
            } else {
                watch::page(&list, 0, &iso(clock::now().wall_ms))
            }
        }
    };
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(answer)).into_response())
}
