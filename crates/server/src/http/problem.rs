//! Refusals over HTTP: problem details (RFC 9457) with the code that WebSocket clients get too.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use pulsewire_protocol::ErrorCode;
use serde_json::json;

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The code, the same as on WebSocket.
    pub code: ErrorCode,
    /// What is wrong in this case; may be empty.
    pub detail: String,
    /// Which item of a batch is meant.
    pub index: Option<usize>,
    /// When to try again, in milliseconds.
    pub retry_after_ms: Option<u64>,
}

impl Problem {
    /// A refusal with its detail.
    pub fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        let retry_after_ms = (code.http_status() == 503 || code.http_status() == 429).then_some(1_000);
        Self { code, detail: detail.into(), index: None, retry_after_ms }
    }
}

impl From<ErrorCode> for Problem {
    fn from(code: ErrorCode) -> Self {
        Self::new(code, "")
    }
}

impl From<crate::app::Stalled> for Problem {
    fn from(stalled: crate::app::Stalled) -> Self {
        Self::new(ErrorCode::Overloaded, stalled.to_string())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status =
            StatusCode::from_u16(self.code.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut body = json!({
            "type": format!("urn:pulsewire:error:{}", self.code.name()),
            "title": self.code.message(),
            "status": status.as_u16(),
            "code": self.code.name(),
            "message": self.code.message_with(&self.detail),
            "help": self.code.help(),
            "retryable": self.code.retryable(),
        });
        if !self.detail.is_empty() {
            body["detail"] = self.detail.into();
        }
        if let Some(index) = self.index {
            body["index"] = index.into();
        }
        if let Some(retry_after_ms) = self.retry_after_ms {
            body["retry_after_ms"] = retry_after_ms.into();
        }
        let mut response = (status, Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(retry_after_ms) = self.retry_after_ms {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(retry_after_ms.div_ceil(1_000)));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
