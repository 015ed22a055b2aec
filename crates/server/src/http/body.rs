//! A request's body, read whole: bounded in bytes by the router and in time here.
//!
//! Rows X1 and X9: a body that does not end, or comes byte by byte, holds nobody longer than the
//! handshake would.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use http::StatusCode;
use pulsewire_protocol::ErrorCode;

use super::problem::Problem;
use crate::app::App;

/// The bytes of a body: at most `limits.http_body_bytes_max`, within `limits.handshake_timeout`.
///
/// Larger is refused with 413, slower with 408; both close the connection.
#[derive(Debug, Clone)]
pub struct Whole(pub Bytes);

impl FromRequest<Arc<App>> for Whole {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Problem> {
        let deadline = app.live.load().settings.limits.handshake_timeout;
        let read = tokio::time::timeout(deadline, Bytes::from_request(request, app));
        let slow = |_| Problem::new(ErrorCode::Timeout, format!("the body took longer than {deadline:?}"));
        read.await.map_err(slow)?.map(Self).map_err(|refused| {
            let code = match refused.status() {
                StatusCode::PAYLOAD_TOO_LARGE => ErrorCode::TooLarge,
                _ => ErrorCode::BadRequest,
            };
            Problem::new(code, refused.body_text())
        })
    }
}
