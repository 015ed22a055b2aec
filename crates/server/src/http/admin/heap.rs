//! The allocator's figures and the memory's history.

use std::sync::Arc;

use axum::Json;
use axum::extract::{RawQuery, State};
use pulsewire_edge::clock;
use pulsewire_protocol::ErrorCode;
use pulsewire_telemetry::Buckets;
use serde_json::{Map, Value, json};

use super::Viewer;
use crate::app::App;
use crate::http::health::iso;
use crate::http::problem::Problem;
use crate::memory::{self, HISTOGRAMS, Sample};
use crate::settings::duration_from_text;

/// `GET /api/admin/heap`: what the allocator has given out, by size, and a sample for each minute of the last day.
///
/// `?since=1h` shows the samples of the last hour only. The last sample is of now. Bounds of the samples' histograms
/// are in `bounds`, in milliseconds.
pub async fn heap(
    State(app): State<Arc<App>>,
    _: Viewer,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, Problem> {
    let now_ms = clock::now().wall_ms;
    let since_ms = since(query.as_deref())?.map_or(0, |span| now_ms.saturating_sub(span));
    let surveyed = app.scrapes.survey(&app).await;
    let now = Sample::of(&app.telemetry, &surveyed.current, now_ms);
    let bounds: Map<String, Value> = HISTOGRAMS
        .into_iter()
        .filter_map(|name| {
            Some((name.to_owned(), Buckets::of(&app.telemetry, &surveyed.current, name)?.bounds.into()))
        })
        .collect();
    let mut samples = app.memory.since(since_ms);
    let heap = now.heap;
    samples.push(Arc::new(now));
    Ok(Json(json!({
        "timestamp": iso(now_ms),
        "startedAt": iso(app.started_at_ms),
        "heap": heap,
        "sizeClasses": memory::size_classes(),
        "intervalSeconds": memory::INTERVAL.as_secs(),
        "bounds": bounds,
        "samples": samples.iter().map(|sample| json!(**sample)).collect::<Vec<_>>(),
    })))
}

/// The span that `since` names, in milliseconds.
fn since(query: Option<&str>) -> Result<Option<i64>, Problem> {
    let mut pairs = query.unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    let Some((_, text)) = pairs.find(|(name, _)| *name == "since") else { return Ok(None) };
    let span = duration_from_text(text)
        .ok_or_else(|| Problem::new(ErrorCode::BadRequest, "`since` is a time such as 30m or 12h"))?;
    Ok(Some(i64::try_from(span.as_millis()).unwrap_or(i64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_is_a_span() {
        assert_eq!(since(None), Ok(None));
        assert_eq!(since(Some("a=b")), Ok(None));
        assert_eq!(since(Some("since=1h")), Ok(Some(3_600_000)));
        assert_eq!(since(Some("since=yesterday")).unwrap_err().code, ErrorCode::BadRequest);
    }
}
