//! Web pages of other origins: which may use what pages use over HTTP, and how their browsers are told.
//!
//! A browser lets a page of another origin read an answer only if the answer names that origin, and asks (`OPTIONS`) before a
//! request that a form could not send: one with an `Authorization` header or a JSON body. Refusals say it too, or the page
//! could not tell a 429 from a broken network.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use pulsewire_edge::handshake::OriginPolicy;
use pulsewire_protocol::ErrorCode;
use pulsewire_telemetry::AuthFailure;

use super::problem::Problem;
use crate::app::App;

/// Whether a page may read here. Browsers send no `Origin` with a `GET` of the same origin, but say that it is one.
pub fn permits(origins: &OriginPolicy, headers: &HeaderMap) -> bool {
    let own = headers.get(header::ORIGIN).is_none() && is_own(headers);
    own || origins.permits(headers)
}

/// Whether the browser says that the page is the server's own; no page can make it say so.
fn is_own(headers: &HeaderMap) -> bool {
    headers.get("sec-fetch-site").is_some_and(|site| site.as_bytes() == b"same-origin")
}

/// Tells browsers that pages of the allowed origins may use these paths, and answers their question before. What a page of
/// another origin wants to change is refused: its browser would send it, with its cookies, and only hide the answer.
pub async fn cross_origin(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let live = app.live.load_full();
    let origin = request.headers().get(header::ORIGIN).cloned();
    let permitted = live.origins.permits(request.headers());
    let asks = request.method() == Method::OPTIONS;
    let changes = request.method() == Method::POST;
    let mut response = if changes && origin.is_some() && !permitted && !is_own(request.headers()) {
        app.telemetry.shared().auth_failed(AuthFailure::Origin);
        Problem::new(ErrorCode::OriginRefused, "this page may not publish here").into_response()
    } else {
        next.run(request).await
    };
    let headers = response.headers_mut();
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
    let Some(origin) = origin.filter(|_| permitted) else { return response };
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("Retry-After"));
    if !live.settings.auth.cookie.is_empty() {
        headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    }
    if asks {
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST"));
        let allowed = HeaderValue::from_static("authorization, content-type, last-event-id");
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, allowed);
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    }
    response
}

/// The answer to a browser's question before a request of another origin; [`cross_origin`] completes it.
pub async fn preflight() -> StatusCode {
    StatusCode::NO_CONTENT
}
