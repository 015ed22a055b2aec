//! `POST /api/metrics/custom`: values that an application measures itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use pulsewire_protocol::ErrorCode;
use pulsewire_telemetry::{CustomError, CustomMetrics};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::app::App;
use crate::http::access::{self, Caller};
use crate::http::body::Whole;
use crate::http::problem::Problem;

/// One value.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Push {
    name: String,
    r#type: Kind,
    value: f64,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    /// The value replaces the last one.
    Gauge,
    /// The value is added.
    Counter,
}

/// `POST /api/metrics/custom`: `{"name", "type": "gauge" | "counter", "value", "labels"?}`, or an array of them.
///
/// A gauge is set to the value, a counter grows by it. A body that is not of this shape changes nothing.
/// Values that are refused one by one (a reserved name, no room) are named in `rejected`; if all are,
/// the answer is the first one's problem.
pub async fn custom(
    State(app): State<Arc<App>>,
    caller: Caller,
    Whole(body): Whole,
) -> Result<Json<Value>, Problem> {
    access::application(&app, &caller).await?;
    let pushes = parse(&body, app.live.load().settings.limits.publish_batch_max)?;
    record(app.telemetry.custom(), &pushes).map(Json)
}

fn parse(body: &[u8], batch_max: usize) -> Result<Vec<Push>, Problem> {
    let wrong = |index, error: &serde_json::Error| Problem {
        index,
        ..Problem::new(ErrorCode::BadRequest, error.to_string())
    };
    if body.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'[') {
        return serde_json::from_slice(body).map(|push| vec![push]).map_err(|error| wrong(None, &error));
    }
    let items: Vec<&RawValue> = serde_json::from_slice(body).map_err(|error| wrong(None, &error))?;
    if items.is_empty() {
        return Err(Problem::new(ErrorCode::BadRequest, "an empty batch"));
    }
    if items.len() > batch_max {
        let detail = format!("{} values, more than {batch_max}", items.len());
        return Err(Problem::new(ErrorCode::TooLarge, detail));
    }
    let item = |(index, item): (usize, &&RawValue)| {
        serde_json::from_str(item.get()).map_err(|error| wrong(Some(index), &error))
    };
    items.iter().enumerate().map(item).collect()
}

fn record(metrics: &CustomMetrics, pushes: &[Push]) -> Result<Value, Problem> {
    let mut rejected = Vec::new();
    for (index, push) in pushes.iter().enumerate() {
        let labels: Vec<_> =
            push.labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let recorded = match push.r#type {
            Kind::Gauge => metrics.gauge(&push.name, &labels, push.value),
            Kind::Counter => metrics.counter(&push.name, &labels, push.value),
        };
        if let Err(error) = recorded {
            rejected.push((index, error));
        }
    }
    match rejected.first() {
        Some((index, error)) if rejected.len() == pushes.len() => {
            let index = (pushes.len() > 1).then_some(*index);
            Err(Problem { index, ..Problem::new(code_of(error), error.to_string()) })
        }
        _ => {
            let accepted = pushes.len() - rejected.len();
            let shown = |(index, error): &(usize, CustomError)| json!({ "index": index, "code": code_of(error).name(), "message": error.to_string() });
            Ok(json!({ "accepted": accepted, "rejected": rejected.iter().map(shown).collect::<Vec<_>>() }))
        }
    }
}

fn code_of(error: &CustomError) -> ErrorCode {
    if *error == CustomError::Full { ErrorCode::LimitExceeded } else { ErrorCode::BadRequest }
}

#[cfg(test)]
mod tests {
    use pulsewire_telemetry::{Current, Format, Options, Telemetry, render};

    use super::*;

    fn push(telemetry: &Telemetry, body: &str) -> Result<Value, Problem> {
        record(telemetry.custom(), &parse(body.as_bytes(), 100)?)
    }

    #[test]
    fn pushed_gauges_are_set_and_pushed_counters_grow() {
        let telemetry = Telemetry::new(Options::default());
        let one = r#"{"name":"active_tasks","type":"gauge","value":3,"labels":{"agent":"a"}}"#;
        assert_eq!(push(&telemetry, one).unwrap(), json!({ "accepted": 1, "rejected": [] }));
        let two = r#"[{"name":"jobs_total","type":"counter","value":2},{"name":"jobs_total","type":"counter","value":0.5}]"#;
        assert_eq!(push(&telemetry, two).unwrap()["accepted"], 2);
        let page = render(&telemetry, &Current::default(), Format::Text004);
        assert!(page.contains("active_tasks{agent=\"a\"} 3\n"));
        assert!(page.contains("jobs_total 2.5\n"));
    }

    #[test]
    fn a_body_of_another_shape_changes_nothing_and_names_the_item() {
        let telemetry = Telemetry::new(Options::default());
        for (body, index, detail) in [
            ("", None, "EOF"),
            ("[]", None, "an empty batch"),
            (r#"{"name":"a","type":"histogram","value":1}"#, None, "unknown variant `histogram`"),
            (r#"[{"name":"a","type":"gauge","value":1},{"name":"a"}]"#, Some(1), "missing field"),
            (r#"{"name":"a","type":"gauge","value":1,"unit":"s"}"#, None, "unknown field `unit`"),
        ] {
            let problem = push(&telemetry, body).unwrap_err();
            assert_eq!((problem.code, problem.index), (ErrorCode::BadRequest, index), "{body}");
            assert!(problem.detail.contains(detail), "{body}: {}", problem.detail);
        }
        assert!(!render(&telemetry, &Current::default(), Format::Text004).contains("\na 1\n"));
    }

    #[test]
    fn a_value_that_is_refused_is_named_and_the_others_are_taken() {
        let telemetry = Telemetry::new(Options::default());
        let body =
            r#"[{"name":"websocket_x","type":"gauge","value":1},{"name":"mine","type":"gauge","value":1}]"#;
        let answer = push(&telemetry, body).unwrap();
        assert_eq!(answer["accepted"], 1);
        assert_eq!(answer["rejected"][0]["index"], 0);
        assert_eq!(answer["rejected"][0]["code"], "bad_request");
        let alone = push(&telemetry, r#"{"name":"websocket_x","type":"gauge","value":1}"#).unwrap_err();
        assert_eq!((alone.code, alone.index), (ErrorCode::BadRequest, None));
    }

    #[test]
    fn a_batch_is_bounded() {
        let body = format!("[{}]", vec![r#"{"name":"a","type":"gauge","value":1}"#; 101].join(","));
        let telemetry = Telemetry::new(Options::default());
        assert_eq!(push(&telemetry, &body).unwrap_err().code, ErrorCode::TooLarge);
    }
}
