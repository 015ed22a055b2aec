//! The metrics over HTTP: one renderer for every path that a scraper or a script may know.
//!
//! Scrapes never cost more than one rendering of each form a second, however many ask: whoever comes
//! while one is under way waits for it, whoever comes within a second gets the same page. A node that
//! is not well still answers 200 with what it last knew, because metrics that vanish when they are
//! needed help nobody. Only `/api/ws/metrics`, which is about upstreams, says 503: to everybody while
//! their manager does not work, and to `HEAD` also while the node is not ready. The page comes all the same.

mod custom;
mod figures;
mod flight;
mod scrapes;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use pulsewire_protocol::ErrorCode;
use pulsewire_telemetry::{Exposition, Format, negotiate};

use super::access::{self, Caller};
use super::health::Verdict;
use super::problem::Problem;
use crate::app::App;
use crate::auth::extract;

pub use custom::custom;
pub use scrapes::{Scrapes, Surveyed};

use scrapes::Form;

/// `GET /metrics`, `/api/metrics`, `/actuator/prometheus`: the exposition in the form that `Accept` asks for.
pub async fn page(State(app): State<Arc<App>>, caller: Caller) -> Result<Response, Problem> {
    allowed(&app, &caller).await?;
    Ok(rendered(&app, form_of(negotiate(accept(&caller.headers)))).await)
}

/// `GET /api/ws/metrics`: JSON, unless `format` or `Accept` asks for the exposition. 503, with the page, while the
/// manager of upstreams does not work.
pub async fn ws_metrics(State(app): State<Arc<App>>, caller: Caller) -> Result<Response, Problem> {
    allowed(&app, &caller).await?;
    let form = ws_form(caller.query(), accept(&caller.headers))?;
    let mut response = rendered(&app, form).await;
    if !app.upstreams.is_well() {
        unavailable(&mut response);
    }
    Ok(response)
}

/// `HEAD /api/ws/metrics`: 200 while the node is well, 503 while it is draining, a shard does not answer, or the manager
/// of upstreams does not work.
pub async fn ws_health(State(app): State<Arc<App>>) -> Response {
    let surveyed = app.scrapes.survey(&app).await;
    let verdict = Verdict::of(&app, &surveyed);
    let headers = [(header::CONTENT_TYPE, Form::Json.content_type()), (header::CACHE_CONTROL, "no-store")];
    let mut response = headers.into_response();
    if !verdict.is_ready() || !verdict.has_upstreams() {
        unavailable(&mut response);
    }
    response
}

/// Makes an answer one that says 503, and that asking again soon is worth while.
fn unavailable(response: &mut Response) {
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
}

/// Whether somebody may read figures: everybody, or whoever has the scrapers' token or looks on.
///
/// # Errors
///
/// 401 if `metrics.token` is set and the request carries neither.
pub async fn allowed(app: &App, caller: &Caller) -> Result<(), Problem> {
    let live = app.live.load_full();
    let Some(token) = &live.settings.metrics.token else { return Ok(()) };
    // A scraper with the right token is never limited, whatever else its address does.
    let carried = extract(&caller.headers, caller.query(), &live.settings.auth);
    if carried.is_ok_and(|credential| credential.is_some_and(|it| token.matches(&it.text))) {
        return Ok(());
    }
    access::viewer(app, caller).await.map(|_| ())
}

async fn rendered(app: &App, form: Form) -> Response {
    let page = app.scrapes.page(app, form).await;
    let headers = [(header::CONTENT_TYPE, form.content_type()), (header::CACHE_CONTROL, "no-store")];
    (headers, Body::from(page)).into_response()
}

fn accept(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::ACCEPT).and_then(|value| value.to_str().ok())
}

const fn form_of(exposition: Exposition) -> Form {
    match exposition {
        Exposition::Text(Format::Text004) => Form::Text,
        Exposition::Text(Format::OpenMetrics) => Form::OpenMetrics,
        Exposition::Protobuf => Form::Protobuf,
    }
}

/// `format` decides; without it JSON, unless `Accept` names a form of the exposition.
fn ws_form(query: Option<&str>, accept: Option<&str>) -> Result<Form, Problem> {
    let pairs = query.unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    match pairs.filter(|(name, _)| *name == "format").map(|(_, value)| value).next() {
        Some("json") => Ok(Form::Json),
        Some("prometheus") => Ok(form_of(negotiate(accept))),
        Some("openmetrics") => Ok(Form::OpenMetrics),
        Some(_) => {
            Err(Problem::new(ErrorCode::BadRequest, "`format` is `json`, `prometheus` or `openmetrics`"))
        }
        None if names_exposition(accept) => Ok(form_of(negotiate(accept))),
        None => Ok(Form::Json),
    }
}

/// Whether `Accept` names the exposition and JSON does not come before it.
fn names_exposition(accept: Option<&str>) -> bool {
    let ranges = accept.unwrap_or_default().split(',');
    let mut media =
        ranges.map(|range| range.split(';').next().unwrap_or_default().trim().to_ascii_lowercase());
    media.find_map(|media| match media.as_str() {
        "application/openmetrics-text" | "text/plain" | "application/vnd.google.protobuf" => Some(true),
        "application/json" | "text/html" => Some(false),
        _ => None,
    }) == Some(true)
}

impl Form {
    const fn content_type(self) -> &'static str {
        match self {
            Self::Text => Exposition::Text(Format::Text004).content_type(),
            Self::OpenMetrics => Exposition::Text(Format::OpenMetrics).content_type(),
            Self::Protobuf => Exposition::Protobuf.content_type(),
            Self::Json => "application/json",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_of_ws_metrics_is_json_unless_somebody_asks_for_the_exposition() {
        let check = |query, accept, expected| {
            assert_eq!(ws_form(query, accept), Ok(expected), "{query:?} {accept:?}");
        };
        let prometheus =
            "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1";
        check(None, None, Form::Json);
        check(None, Some("*/*"), Form::Json);
        check(None, Some("text/html,application/xhtml+xml,*/*;q=0.8"), Form::Json);
        check(None, Some("application/json, text/plain, */*"), Form::Json);
        check(None, Some("text/plain"), Form::Text);
        check(None, Some(prometheus), Form::OpenMetrics);
        check(Some("format=json"), Some(prometheus), Form::Json);
        check(Some("format=prometheus"), Some(prometheus), Form::OpenMetrics);
        check(Some("format=prometheus"), Some("*/*"), Form::Text);
        check(Some("a=b&format=openmetrics"), None, Form::OpenMetrics);
    }

    #[test]
    fn what_is_unavailable_keeps_its_page_and_says_when_to_ask_again() {
        let mut response =
            (StatusCode::OK, [(header::CONTENT_TYPE, "application/json")], "{}").into_response();
        unavailable(&mut response);
        assert_eq!(
            (response.status(), &response.headers()[header::RETRY_AFTER]),
            (StatusCode::SERVICE_UNAVAILABLE, &HeaderValue::from_static("1"))
        );
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/json");
    }

    #[test]
    fn an_unknown_form_is_refused() {
        assert_eq!(ws_form(Some("format=xml"), None).unwrap_err().code, ErrorCode::BadRequest);
    }
}
