//! `connections`: who is connected, who was, and who did not get in.
//!
//! Shards rank their own connections a slice at a time; what they find is merged here, and rows are asked for of the
//! chosen page only; in a cluster, each node does that for its own (`wide.rs`). With ids, nothing is ranked: a watch refreshes the rows it shows.

mod active;
pub(super) mod asked;
mod ended;
mod one;
mod shown;
mod tap;
mod wide;

use std::sync::Arc;

use pulsewire_edge::clock;
use pulsewire_hub::watch::{RowKey, RowKeyError};
use pulsewire_hub::{Closed, Failed};
use serde_json::{Map, Value, json};

use super::{List, Producing, Query};
use crate::app::App;
use crate::cluster::which::Which;
use crate::http::problem::Problem;
pub use active::Counted;
pub(crate) use active::Found;
use asked::{Asked, Tab};
pub use tap::Tapping;
pub(crate) use wide::{answer, answer_one};

/// The parameters of the list.
pub const PARAMETERS: &[&str] = &["tab", "filter", "sort", "limit", "offset", "group", "window", "node"];

/// `GET /api/admin/connections`: a page of a tab, or its groups, of all nodes or one. With ids, those rows again.
pub fn list<'a>(app: &'a Arc<App>, query: &'a Query, ids: Option<&'a [String]>) -> Producing<'a, List> {
    Box::pin(async move {
        let asked = Asked::read(query)?;
        let which = app.which_nodes(query.text("node"))?;
        if app.cluster.is_some() && which != Which::Own {
            return wide::list(app, &which, &asked, query, ids).await;
        }
        let mut list = local(app, &asked, query, ids).await?;
        wide::alone(&mut list, app);
        Ok(list)
    })
}

/// The same, of this node.
async fn local(
    app: &Arc<App>,
    asked: &Asked,
    query: &Query,
    ids: Option<&[String]>,
) -> Result<List, Problem> {
    let since_ms = asked.window_ms.map(|window_ms| clock::now().wall_ms.saturating_sub(window_ms));
    let ledger = &app.hub.ledger;
    let mut list = match &asked.tab {
        Tab::Active(order) => active::list(app, asked, order, query, ids).await?,
        Tab::Closed(order) => ended::list::<_, Closed>(ledger, asked, order, since_ms, ids)?,
        Tab::Failed(order) => ended::list::<_, Failed>(ledger, asked, order, since_ms, ids)?,
    };
    list.meta.insert("tabs".to_owned(), tabs(app));
    Ok(list)
}

/// `GET /api/admin/connections/{id}`: everything about one, as a list of one row.
pub fn one<'a>(app: &'a Arc<App>, query: &'a Query, _: Option<&'a [String]>) -> Producing<'a, List> {
    Box::pin(async move { wide::one(app, query.subject.as_deref().unwrap_or_default()).await })
}

/// How many there are in each tab.
fn tabs(app: &App) -> Value {
    let (closed, failed) = app.hub.ledger.count();
    json!({ "active": app.hub.admission.connections(), "closed": closed, "failed": failed })
}

/// A list whose rows are all there are.
fn list_of(rows: Vec<Map<String, Value>>, total: usize, matched: usize) -> List {
    List { meta: Map::new(), total, matched, rows }
}

/// Reads an id of a row.
fn key(id: &str) -> Result<RowKey, Problem> {
    id.parse().map_err(|error: RowKeyError| super::query::wrong(error.to_string()))
}
