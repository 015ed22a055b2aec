//! What went wrong, by kind: what happened last comes first.

use std::cmp::Reverse;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::{List, Query, Row};
use crate::app::App;
use crate::errors::{Errors, Kind, Seen};
use crate::http::health::iso;
use crate::http::problem::Problem;
use crate::thresholds::{Judge, rounded};

/// `errors`.
pub(super) async fn list(app: &Arc<App>, _: &Query, _: Option<&[String]>) -> Result<List, Problem> {
    let totals = app.telemetry.snapshot();
    let (judge, errors) = (app.judge.lock(), app.errors.lock());
    let mut seen: Vec<_> = errors.seen().collect();
    seen.sort_by_key(|(_, seen)| Reverse(seen.last_ms));
    let rows: Vec<_> = seen
        .into_iter()
        .map(|(kind, seen)| row(&errors, kind, seen, totals.count(kind.counter), per_minute(&judge, kind)))
        .collect();
    Ok(List { meta: Map::new(), total: rows.len(), matched: rows.len(), rows })
}

fn row(errors: &Errors, kind: &Kind, seen: Seen, count: u64, per_minute: Option<f64>) -> Row {
    let newest = errors.newest(kind);
    let sample = newest.as_ref().map(|(sample, _)| {
        json!({
            "at": iso(sample.at_ms),
            "sessionId": sample.session,
            "userId": sample.user,
            "address": sample.address.map(|address| address.to_string()),
            "text": sample.text,
        })
    });
    let row = json!({
        "id": format!("{}/{}", kind.group, kind.kind),
        "group": kind.group,
        "kind": kind.kind,
        "count": count,
        "perMinute": per_minute.map(rounded),
        "firstAt": iso(seen.first_ms),
        "lastAt": iso(seen.last_ms),
        "connections": newest.map(|(_, concerned)| concerned),
        "sample": sample,
        "help": kind.help,
    });
    if let Value::Object(row) = row { row } else { Row::new() }
}

/// How often it happened in the last minute; `None` before anything was looked at.
fn per_minute(judge: &Judge, kind: &Kind) -> Option<f64> {
    let (before, last) = judge.since(60)?;
    let seconds = last.at.since_ns(before.at.mono_ns) as f64 / 1e9;
    let count = last.totals.count_since(&before.totals, kind.counter) as f64;
    (seconds > 0.0).then(|| count / seconds * 60.0)
}
