//! What the application's answer means for the client.

use bytes::BytesMut;
use pulsewire_protocol::ErrorCode;
use reqwest::{Response, StatusCode, header};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::outbound::{self, BodyError};

use super::{ANSWER_BYTES_MAX, HookError, unavailable};

/// The application accepted the event.
#[derive(Debug)]
pub struct HookAnswer {
    /// Its answer to the client; `None` when it had nothing to say.
    pub data: Option<Box<RawValue>>,
    /// The HTTP status, 200 to 299.
    pub status: u16,
}

/// The application refused the event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The `code` of the answer where it is one of ours, else the one closest to the status.
    pub code: ErrorCode,
    /// The application's `message` or `detail`, at most 512 characters; empty without one.
    pub message: String,
    /// The HTTP status, 400 to 499.
    pub status: u16,
    /// From `Retry-After`, where it is a number of seconds; at most an hour.
    pub retry_after_ms: Option<u64>,
}

const MESSAGE_CHARS_MAX: usize = 512;
const RETRY_AFTER_SECONDS_MAX: u64 = 3600;

/// Reads the whole answer and decides.
pub(super) async fn read(response: Response) -> Result<HookAnswer, HookError> {
    let status = response.status();
    if !status.is_success() && !status.is_client_error() {
        return Err(HookError::Unavailable(format!("hook answered {status}").into()));
    }
    let retry_after_ms = retry_after_ms(&response);
    let body = read_body(response).await?;
    if status.is_success() {
        Ok(HookAnswer { data: data(&body)?, status: status.as_u16() })
    } else {
        Err(HookError::Refused(refusal(status, retry_after_ms, &body)))
    }
}

async fn read_body(response: Response) -> Result<BytesMut, HookError> {
    outbound::body(response, ANSWER_BYTES_MAX).await.map_err(|error| match error {
        BodyError::TooLarge { .. } => HookError::TooLarge,
        BodyError::Broken(error) => unavailable(error),
    })
}

fn data(body: &[u8]) -> Result<Option<Box<RawValue>>, HookError> {
    if body.trim_ascii().is_empty() {
        return Ok(None);
    }
    serde_json::from_slice(body).map(Some).map_err(|error| HookError::Unavailable(error.into()))
}

fn refusal(status: StatusCode, retry_after_ms: Option<u64>, body: &[u8]) -> Refusal {
    /// Our own error shape, and RFC 9457's `detail`.
    #[derive(Deserialize, Default)]
    struct Said {
        #[serde(default)]
        code: Option<String>,
        #[serde(default)]
        message: Option<String>,
        #[serde(default)]
        detail: Option<String>,
    }
    let said: Said = serde_json::from_slice(body).unwrap_or_default();
    let message = said.message.or(said.detail).unwrap_or_default();
    Refusal {
        code: said.code.and_then(|name| ErrorCode::from_name(&name)).unwrap_or_else(|| code_of(status)),
        message: message.chars().filter(|char| !char.is_control()).take(MESSAGE_CHARS_MAX).collect(),
        status: status.as_u16(),
        retry_after_ms,
    }
}

/// A bare 401 is about our call, not about the client's token, so it does not end a session.
fn code_of(status: StatusCode) -> ErrorCode {
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => ErrorCode::Forbidden,
        StatusCode::NOT_FOUND | StatusCode::GONE => ErrorCode::NotFound,
        StatusCode::PAYLOAD_TOO_LARGE => ErrorCode::TooLarge,
        StatusCode::TOO_MANY_REQUESTS => ErrorCode::RateLimited,
        _ => ErrorCode::BadRequest,
    }
}

fn retry_after_ms(response: &Response) -> Option<u64> {
    let seconds: u64 = response.headers().get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(seconds.min(RETRY_AFTER_SECONDS_MAX) * 1000)
}
