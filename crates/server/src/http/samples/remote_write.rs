//! `POST /api/v1/write`: Prometheus remote write 1.0.
//!
//! A sender repeats what is answered 5xx for ever and drops what is answered 4xx. So what is refused for good is
//! never answered 5xx, and a request of which anything was taken is answered 204.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, header};
use pulsewire_protocol::{ErrorCode, SampleFault};
use pulsewire_sources::remote_write::{self, RemoteWriteError, RemoteWriteOptions};
use pulsewire_telemetry::SampleSource;

use super::{authorise, channel_or, count, otlp::media_type, sender, take_intake};
use crate::app::App;
use crate::http::access::Caller;
use crate::http::body::Whole;
use crate::http::problem::Problem;

/// Takes a `prometheus.WriteRequest`. Answers 204 when at least one sample was taken or there was nothing to take.
///
/// # Errors
///
/// The [`Problem`] that the answer is; 415 for version 2, after which senders fall back to version 1.
pub async fn write(
    State(app): State<Arc<App>>,
    caller: Caller,
    Whole(body): Whole,
) -> Result<Response, Problem> {
    let principal = sender(&app, &caller).await?;
    check_media_type(&caller.headers)?;
    let ingest = app.live.load().settings.ingest.clone();
    let channel = channel_or(&caller, &ingest.remote_write_channel)?;
    authorise(&app, &principal, &channel)?;
    let options =
        RemoteWriteOptions { count_max: ingest.batch_max, bytes_max: ingest.decompressed_bytes_max };
    let intake = remote_write::read(&body, options).map_err(|error| {
        count(&app, SampleFault::Malformed, 1);
        let code = match error {
            RemoteWriteError::TooLarge { .. } => ErrorCode::TooLarge,
            RemoteWriteError::Malformed(_) => ErrorCode::BadRequest,
        };
        Problem::new(code, error.to_string())
    })?;
    let taken = take_intake(&app, &principal, SampleSource::RemoteWrite, &channel, intake)?;
    if taken.accepted == 0 && taken.refused > 0 {
        let detail = format!("all {} samples were refused, the first: {}", taken.refused, taken.first);
        return Err(Problem::new(ErrorCode::BadRequest, detail));
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn check_media_type(headers: &HeaderMap) -> Result<(), Problem> {
    let wrong = |detail: &str| Err(Problem::new(ErrorCode::UnsupportedMediaType, detail));
    if media_type(headers) != Some("application/x-protobuf") {
        return wrong("send application/x-protobuf");
    }
    let parameters =
        headers.get(header::CONTENT_TYPE).and_then(|text| text.to_str().ok()).unwrap_or_default();
    let proto = parameters.split(';').find_map(|parameter| parameter.trim().strip_prefix("proto="));
    if proto.is_some_and(|proto| proto.trim_matches('"') != "prometheus.WriteRequest") {
        return wrong("only remote write 1.0 is taken, `proto=prometheus.WriteRequest`");
    }
    match headers.get(header::CONTENT_ENCODING) {
        Some(encoding) if encoding == "snappy" => Ok(()),
        _ => wrong("send the body with `Content-Encoding: snappy`"),
    }
}
