//! The rules, what was found of each, and what becomes of it: those that fire first.

use std::cmp::Reverse;
use std::sync::Arc;

use pulsewire_edge::clock;

use super::{List, Query};
use crate::app::App;
use crate::http::problem::Problem;
use crate::thresholds::{State, alert};

/// `alerts`.
pub(super) async fn list(app: &Arc<App>, _: &Query, _: Option<&[String]>) -> Result<List, Problem> {
    let live = app.live.load();
    let now_ms = clock::now().wall_ms;
    let judge = app.judge.lock();
    let mut found: Vec<_> = judge.all().collect();
    found.sort_by_key(|(_, found)| match found.state {
        State::Firing(severity) => (0, Reverse(severity as u8)),
        State::Pending(severity) => (1, Reverse(severity as u8)),
        State::Inactive => (2, Reverse(0)),
    });
    let thresholds = &live.settings.thresholds;
    let rows: Vec<_> = found.iter().map(|(rule, found)| alert(rule, found, thresholds, now_ms)).collect();
    Ok(List { meta: serde_json::Map::new(), total: rows.len(), matched: rows.len(), rows })
}
