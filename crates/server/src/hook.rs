//! The HTTP hook: the application answers the events its clients send.
//!
//! One `POST` for one client event, and its answer is the client's `ack` or `error`. A call is
//! bounded on every side: in time, in the bytes of the answer, in calls at once. It follows no
//! redirect and is never repeated, because only the client knows whether the event may happen
//! twice; its request id is in the body for the application to recognise a repetition.
//!
//! Where it is posted to comes from the settings only, never from a request ([`outbound`]).
//!
//! The application checks `Pulsewire-Signature: t=<unix seconds>,v1=<hex>`: the HMAC-SHA256 of
//! `<t>.<body>` under the shared secret, and refuses times more than five minutes away.

mod answer;
mod request;

use std::{fmt, time::Duration};

use hmac::{Hmac, KeyInit};
use pulsewire_protocol::{ErrorCode, RequestId, SessionId};
use pulsewire_telemetry::HookOutcome;
use reqwest::{Client, Url};
use serde_json::value::RawValue;
use sha2::Sha256;
use tokio::{sync::Semaphore, time};

pub use self::answer::{HookAnswer, Refusal};
use crate::outbound::{self, UrlError};
use crate::settings::Secret;

/// Bytes of an answer's body at most; a longer one is [`HookError::TooLarge`].
pub const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// How the hook is called.
#[derive(Debug, Clone)]
pub struct HookOptions {
    /// Where to post, `http` or `https`.
    pub url: String,
    /// The key of the signature; without one calls are not signed.
    pub secret: Option<Secret>,
    /// From the start of a call to the last byte of its answer.
    pub timeout: Duration,
    /// Calls at the same time; one more is [`HookError::Busy`].
    pub in_flight_max: usize,
    /// Whether the address may be loopback, private or link-local.
    pub allow_private: bool,
}

/// Why the options cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HookOptionsError {
    /// The URL cannot be called.
    #[error("hook url cannot be used")]
    Url(#[from] UrlError),
    /// The HTTP client cannot be made, for instance for want of root certificates.
    #[error("hook client cannot be made")]
    Client(#[source] reqwest::Error),
}

/// What a client sent and the application shall answer.
#[derive(Debug, Clone, Copy)]
pub struct ClientEvent<'a> {
    /// For instance `task_assign`.
    pub event_type: &'a str,
    /// The session the event came from.
    pub session: SessionId,
    /// Who that is: the token's `sub`; `None` where nobody signed in.
    pub user: Option<&'a str>,
    /// The channel the event names.
    pub channel: Option<&'a str>,
    /// Its payload, passed on untouched.
    pub data: &'a RawValue,
    /// The client's id of its request.
    pub id: Option<&'a RequestId>,
    /// When the event was received, in Unix milliseconds; also the time of the signature.
    pub timestamp_ms: i64,
}

/// Why a call has no answer for the client.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    /// No complete answer in time; the application may have acted.
    #[error("hook did not answer within {after:?}")]
    Timeout {
        /// The time it had.
        after: Duration,
    },
    /// The application refused the event: a 4xx status.
    #[error("hook refused with {}: {}", .0.status, .0.message)]
    Refused(Refusal),
    /// Not reached, a status that is neither 2xx nor 4xx, or an answer that is not JSON.
    #[error("hook failed")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The answer is longer than [`ANSWER_BYTES_MAX`]; the application has acted.
    #[error("hook answered more than {ANSWER_BYTES_MAX} bytes")]
    TooLarge,
    /// As many calls as allowed are under way; nothing was sent.
    #[error("{in_flight_max} hook calls are under way")]
    Busy {
        /// The limit.
        in_flight_max: usize,
    },
}

impl HookError {
    /// What the client is told.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Timeout { .. } => ErrorCode::HookTimeout,
            Self::Refused(refusal) => refusal.code,
            Self::Unavailable(_) | Self::TooLarge => ErrorCode::HookFailed,
            Self::Busy { .. } => ErrorCode::Overloaded,
        }
    }

    /// The detail of the client's error: the application's own words, nothing of ours.
    #[must_use]
    pub fn detail(&self) -> &str {
        match self {
            Self::Refused(refusal) => &refusal.message,
            _ => "",
        }
    }

    /// What is counted.
    #[must_use]
    pub fn outcome(&self) -> HookOutcome {
        match self {
            Self::Timeout { .. } => HookOutcome::TimedOut,
            Self::Refused(_) => HookOutcome::Refused,
            Self::Unavailable(_) | Self::TooLarge | Self::Busy { .. } => HookOutcome::Failed,
        }
    }
}

/// Calls the application. One for the process; shared by reference.
pub struct Hook {
    client: Client,
    url: Url,
    key: Option<Hmac<Sha256>>,
    timeout: Duration,
    in_flight: Semaphore,
    in_flight_max: usize,
}

impl Hook {
    /// Checks the options and makes the client; connects to nothing yet.
    ///
    /// # Errors
    ///
    /// [`HookOptionsError`] says which option cannot be used.
    pub fn new(options: &HookOptions) -> Result<Self, HookOptionsError> {
        let url = outbound::url(&options.url, options.allow_private)?;
        let key = options.secret.as_ref().map(|secret| {
            Hmac::new_from_slice(secret.expose().as_bytes()).expect("HMAC takes keys of every length")
        });
        Ok(Self {
            client: outbound::client(
                &url,
                options.allow_private,
                options.in_flight_max.min(IDLE_CONNECTIONS_MAX),
            )
            .build()
            .map_err(HookOptionsError::Client)?,
            url,
            key,
            timeout: options.timeout,
            in_flight: Semaphore::new(options.in_flight_max.min(Semaphore::MAX_PERMITS)),
            in_flight_max: options.in_flight_max,
        })
    }

    /// Posts `event` and waits for the application's answer.
    ///
    /// # Errors
    ///
    /// [`HookError`]; its [`code`](HookError::code) is what the client is answered.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives the call up and frees its place; the application may have acted.
    pub async fn call(&self, event: ClientEvent<'_>) -> Result<HookAnswer, HookError> {
        let Ok(_place) = self.in_flight.try_acquire() else {
            return Err(HookError::Busy { in_flight_max: self.in_flight_max });
        };
        let exchange = async {
            let response = request::build(self, event).send().await.map_err(unavailable)?;
            answer::read(response).await
        };
        match time::timeout(self.timeout, exchange).await {
            Ok(result) => result,
            Err(_) => Err(HookError::Timeout { after: self.timeout }),
        }
    }

    /// Calls under way now.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight_max.saturating_sub(self.in_flight.available_permits())
    }
}

impl fmt::Debug for Hook {
    /// Without the URL, which may hold a password, and without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hook").field("in_flight", &self.in_flight()).finish_non_exhaustive()
    }
}

/// Connections kept for the next call: enough for a steady stream of calls, few to hold open.
const IDLE_CONNECTIONS_MAX: usize = 32;

/// A failure without the URL, which may hold a password.
fn unavailable(error: reqwest::Error) -> HookError {
    HookError::Unavailable(error.without_url().into())
}

#[cfg(test)]
mod tests;
