//! The figures and what they did.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use http::Uri;
use pulsewire_edge::clock;
use pulsewire_protocol::ErrorCode;
use serde_json::{Map, Value, json};

use super::Viewer;
use crate::app::App;
use crate::figures::{FIGURES, Window, index_of, shown};
use crate::http::health::iso;
use crate::http::problem::Problem;
use crate::settings::duration_from_text;
use crate::watch::Query;

/// The range of a history that names none.
const RANGE_DEFAULT: Duration = Duration::from_secs(15 * 60);
/// The longest range: a week.
const RANGE_MAX: Duration = Duration::from_secs(7 * 24 * 3_600);
/// The shortest.
const RANGE_MIN: Duration = Duration::from_secs(60);

/// `GET /api/admin/figures`: every figure with its title, its unit and what it is.
pub async fn figures(_: Viewer, uri: Uri) -> Result<Json<Value>, Problem> {
    Query::of_url(None, uri.query())?.allow(&[])?;
    Ok(Json(json!({ "figures": FIGURES })))
}

/// `GET /api/admin/history?figures=&range=`: what figures did, in the shortest steps that are kept so long.
pub async fn history(State(app): State<Arc<App>>, _: Viewer, uri: Uri) -> Result<Json<Value>, Problem> {
    let query = Query::of_url(None, uri.query())?;
    query.allow(&["figures", "range"])?;
    let (chosen, range) = (chosen(query.text("figures"))?, range(query.text("range"))?);
    let (window, began_ms) = {
        let history = app.figures.lock();
        (history.window(&chosen, range, clock::now().wall_ms), history.began_ms())
    };
    Ok(Json(answer(&chosen, window, began_ms)))
}

fn answer(chosen: &[usize], window: Window, began_ms: Option<i64>) -> Value {
    let values = |values: Vec<Option<f32>>| values.into_iter().map(shown).collect::<Vec<_>>();
    let ids = chosen.iter().map(|&index| FIGURES[index].id.to_owned());
    let figures: Map<String, Value> =
        ids.zip(window.values.into_iter().map(|of| Value::from(values(of)))).collect();
    json!({
        "fromMs": window.from_ms,
        "stepSeconds": window.step.as_secs(),
        "recordingSince": began_ms.map(iso),
        "figures": figures,
    })
}

/// The figures that are named; all if none are.
fn chosen(text: Option<&str>) -> Result<Vec<usize>, Problem> {
    let Some(text) = text else { return Ok((0..FIGURES.len()).collect()) };
    let place = |id: &str| {
        index_of(id).ok_or_else(|| {
            let detail = format!("`{id}` is no figure; GET /api/admin/figures lists them");
            Problem::new(ErrorCode::BadRequest, detail)
        })
    };
    text.split(',').map(place).collect()
}

fn range(text: Option<&str>) -> Result<Duration, Problem> {
    let Some(text) = text else { return Ok(RANGE_DEFAULT) };
    duration_from_text(text).filter(|range| (RANGE_MIN..=RANGE_MAX).contains(range)).ok_or_else(|| {
        let detail = format!("`range` is a time from 1m to 7d, such as 15m or 6h, not `{text}`");
        Problem::new(ErrorCode::BadRequest, detail)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_and_ranges_are_checked() {
        assert_eq!(chosen(None).unwrap().len(), FIGURES.len());
        let two = chosen(Some("latency.p95,connections.active")).unwrap();
        assert_eq!(
            two.iter().map(|&at| FIGURES[at].id).collect::<Vec<_>>(),
            ["latency.p95", "connections.active"]
        );
        let refused = chosen(Some("latency.p95,latncy")).unwrap_err();
        assert!(refused.detail.starts_with("`latncy` is no figure"), "{}", refused.detail);
        assert_eq!(range(None), Ok(RANGE_DEFAULT));
        assert_eq!(range(Some("7d")), Ok(RANGE_MAX));
        for wrong in ["8d", "59s", "0s", "15", "all"] {
            assert_eq!(range(Some(wrong)).unwrap_err().code, ErrorCode::BadRequest, "{wrong}");
        }
    }

    #[test]
    fn values_have_the_digits_that_were_measured() {
        let text = |value| shown(value).to_string();
        assert_eq!(
            (text(None), text(Some(4_812.0)), text(Some(3.2))),
            ("null".into(), "4812".into(), "3.2".into())
        );
        let window =
            Window { from_ms: 5_000, step: Duration::from_secs(1), values: vec![vec![Some(0.1), None]] };
        let said = answer(&[0], window, Some(0));
        assert_eq!(said["figures"][FIGURES[0].id], json!([0.1, null]));
        assert_eq!((&said["fromMs"], &said["stepSeconds"]), (&json!(5_000), &json!(1)));
    }
}
