//! `POST /v1/metrics`: OTLP/HTTP, answered in the encoding of the request.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use pulsewire_protocol::{ErrorCode, SampleFault};
use pulsewire_sources::otlp::{self, GrpcCode, OtlpEncoding, OtlpOptions};
use pulsewire_telemetry::SampleSource;

use super::{authorise, channel_or, count, sender, take_intake, unpack};
use crate::app::App;
use crate::http::access::Caller;
use crate::http::body::Whole;
use crate::http::problem::Problem;

/// Takes an `ExportMetricsServiceRequest`. What is refused is said in `partial_success`; senders must not send it again.
pub async fn metrics(State(app): State<Arc<App>>, caller: Caller, body: Result<Whole, Problem>) -> Response {
    let Some(encoding) = encoding(&caller.headers) else {
        let detail = "send application/x-protobuf or application/json";
        return Problem::new(ErrorCode::UnsupportedMediaType, detail).into_response();
    };
    match export(&app, &caller, encoding, body).await {
        Ok(body) => answer(encoding, StatusCode::OK, body),
        Err(problem) => refusal(encoding, &problem),
    }
}

async fn export(
    app: &App,
    caller: &Caller,
    encoding: OtlpEncoding,
    body: Result<Whole, Problem>,
) -> Result<Vec<u8>, Problem> {
    let principal = sender(app, caller).await?;
    let Whole(body) = body?;
    let ingest = app.live.load().settings.ingest.clone();
    let channel = channel_or(caller, &ingest.otlp_channel)?;
    authorise(app, &principal, &channel)?;
    let malformed = |problem| {
        count(app, SampleFault::Malformed, 1);
        problem
    };
    let body = unpack::plain(&caller.headers, &body, ingest.decompressed_bytes_max).map_err(malformed)?;
    let options =
        OtlpOptions { resource_attributes: ingest.resource_attributes, count_max: ingest.batch_max };
    let intake = otlp::read(&body, encoding, &options)
        .map_err(|error| malformed(Problem::new(ErrorCode::BadRequest, error.to_string())))?;
    let taken = take_intake(app, &principal, SampleSource::Otlp, &channel, intake)?;
    let message = match taken.refused {
        0 => String::new(),
        refused => format!("{refused} data points were refused, the first: {}", taken.first),
    };
    Ok(otlp::accepted(encoding, taken.refused, &message))
}

fn encoding(headers: &HeaderMap) -> Option<OtlpEncoding> {
    match media_type(headers)? {
        "application/x-protobuf" => Some(OtlpEncoding::Protobuf),
        "application/json" => Some(OtlpEncoding::Json),
        _ => None,
    }
}

/// What the body is, without parameters.
pub(super) fn media_type(headers: &HeaderMap) -> Option<&str> {
    let text = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    Some(text.split(';').next().unwrap_or_default().trim())
}

fn answer(encoding: OtlpEncoding, status: StatusCode, body: Vec<u8>) -> Response {
    let media_type = match encoding {
        OtlpEncoding::Protobuf => "application/x-protobuf",
        OtlpEncoding::Json => "application/json",
    };
    (status, [(header::CONTENT_TYPE, media_type)], body).into_response()
}

/// A refusal as OTLP says it: senders try again after 429, 502, 503 and 504, and after nothing else.
fn refusal(encoding: OtlpEncoding, problem: &Problem) -> Response {
    let again = problem.code.retryable();
    let status = match (problem.code.http_status(), again) {
        (status @ (429 | 502 | 503 | 504), true) => status,
        (_, true) => 503,
        (429 | 500.., false) => 400,
        (status, false) => status,
    };
    let code = match status {
        401 => GrpcCode::Unauthenticated,
        403 => GrpcCode::PermissionDenied,
        413 | 429 => GrpcCode::ResourceExhausted,
        502..=504 => GrpcCode::Unavailable,
        400..=499 => GrpcCode::InvalidArgument,
        _ => GrpcCode::Unknown,
    };
    let message = problem.code.message_with(&problem.detail);
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = answer(encoding, status, otlp::refused(encoding, code, &message));
    let headers = response.headers_mut();
    if again {
        let seconds = problem.retry_after_ms.unwrap_or(1_000).div_ceil(1_000);
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn senders_come_back_exactly_when_it_may_help() {
        for code in ErrorCode::ALL {
            let response = refusal(OtlpEncoding::Protobuf, &(*code).into());
            let comes_back = matches!(response.status().as_u16(), 429 | 502 | 503 | 504);
            assert_eq!(comes_back, code.retryable(), "{code}");
            assert_eq!(response.headers().contains_key(header::RETRY_AFTER), code.retryable(), "{code}");
            assert!(response.status().is_client_error() || comes_back, "{code}");
        }
    }
}
