//! Who may use an HTTP endpoint.
//!
//! The same credentials and the same verifier as for WebSocket, in front of every path that needs
//! one; failed attempts are counted by address and answered 429 beyond the budget. Only a token whose
//! key is not known yet waits, for a fetch of the key set.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::FromRequestParts;
use http::request::Parts;
use http::{HeaderMap, Uri};
use pulsewire_edge::clock;
use pulsewire_hub::{Action, Principal};
use pulsewire_protocol::ErrorCode;
use pulsewire_telemetry::RateScope;

use super::forwarded;
use super::problem::Problem;
use crate::app::App;
use crate::auth::{Refusal, extract};
use crate::pace::Turn;

/// The other end of a connection, as the accept loop saw it.
#[derive(Clone)]
pub struct Remote {
    peer: SocketAddr,
    app: Arc<App>,
}

impl Remote {
    /// The end of a connection to this server.
    #[must_use]
    pub fn new(peer: SocketAddr, app: Arc<App>) -> Self {
        Self { peer, app }
    }

    /// The address that a request with these headers comes from: the other end's, or the one that a trusted proxy
    /// there names.
    #[must_use]
    pub fn client(&self, headers: &HeaderMap) -> SocketAddr {
        let live = self.app.live.load();
        forwarded::client(self.peer, headers, &live.settings.server.trusted_proxies)
    }
}

/// Who sends a request: from where, and what it says of itself.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The client's address.
    pub remote: SocketAddr,
    /// The request's headers.
    pub headers: HeaderMap,
    uri: Uri,
}

impl Caller {
    /// What follows the `?`.
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        self.uri.query()
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let Some(remote) = parts.extensions.get::<Remote>() else {
            return Err(Problem::new(ErrorCode::Internal, "the connection has no address"));
        };
        Ok(Self {
            remote: remote.client(&parts.headers),
            headers: parts.headers.clone(),
            uri: parts.uri.clone(),
        })
    }
}

/// Which credentials a path takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// Tokens only.
    Tokens,
    /// Tokens and tickets: what opens a session or reads a channel.
    TokensAndTickets,
    /// Tokens and API keys.
    TokensAndKeys,
}

/// Lets a new connection or event stream in at the pace of `limits.handshakes_per_second`, when it has its turn. Ask
/// before anything is spent.
///
/// # Errors
///
/// `overloaded`, with the time to come back at; whoever answers it counts it.
pub async fn pace(app: &App) -> Result<(), Problem> {
    let per_second = app.live.load().settings.limits.handshakes_per_second;
    match app.pace.take(per_second, clock::now().mono_ms()) {
        Turn::Now => Ok(()),
        Turn::In(wait_ms) => {
            tokio::time::sleep(Duration::from_millis(wait_ms)).await;
            Ok(())
        }
        Turn::Later(wait_ms) => {
            let detail = "too many come at once; each is told another time to come back";
            let retry_after_ms = Some(wait_ms);
            Err(Problem { retry_after_ms, ..Problem::new(ErrorCode::Overloaded, detail) })
        }
    }
}

/// The bearer of the credential in a request; `None` if it has none.
///
/// # Errors
///
/// 401 for a credential that is refused, 429 for an address with too many failures.
pub async fn bearer(app: &App, caller: &Caller, takes: Takes) -> Result<Option<Arc<Principal>>, Problem> {
    let live = app.live.load_full();
    let (now, remote) = (clock::now(), caller.remote.ip());
    let per_minute = live.settings.auth.attempts_per_minute;
    let outcome = match extract(&caller.headers, caller.query(), &live.settings.auth) {
        Ok(None) => return Ok(None),
        Ok(Some(credential)) => {
            app.attempts.check(remote, per_minute, now).map_err(|too_many| {
                app.telemetry.shared().rate_limited(RateScope::Address);
                let retry_after_ms = Some(too_many.retry_after_ms);
                let detail = "too many failed attempts from this address";
                Problem { retry_after_ms, ..Problem::new(ErrorCode::RateLimited, detail) }
            })?;
            let verify = || match takes {
                Takes::Tokens => live.authenticator.token(&credential.text, now.wall_ms),
                Takes::TokensAndTickets => live.authenticator.token_or_ticket(&credential.text, now.wall_ms),
                Takes::TokensAndKeys => live.authenticator.token_or_key(&credential.text, now.wall_ms),
            };
            match verify() {
                Err(refusal) if live.authenticator.may_learn_key(&refusal) => {
                    live.authenticator.look_for_key(&credential.text, now.wall_ms).await;
                    verify()
                }
                outcome => outcome,
            }
        }
        Err(refusal) => Err(refusal),
    };
    match outcome {
        Ok(principal) => {
            app.telemetry.shared().auth_succeeded();
            Ok(Some(Arc::new(principal)))
        }
        Err(refusal) => {
            if refusal.is_an_attempt() {
                app.attempts.failed(remote, per_minute, now);
            }
            app.auth_failed(refusal.reason(), Some(remote), None, &refusal.to_string());
            Err(refused(&refusal))
        }
    }
}

/// The bearer of the credential in a request, which must have one.
///
/// # Errors
///
/// As [`bearer`], and 401 without a credential.
pub async fn required(app: &App, caller: &Caller, takes: Takes) -> Result<Arc<Principal>, Problem> {
    bearer(app, caller, takes).await?.ok_or_else(|| {
        let text = Refusal::Missing.to_string();
        app.auth_failed(Refusal::Missing.reason(), Some(caller.remote.ip()), None, &text);
        refused(&Refusal::Missing)
    })
}

/// Who looks on: with the role viewer, operator or admin.
///
/// # Errors
///
/// 401 as [`required`], and `wrong_credential` for another role.
pub async fn viewer(app: &App, caller: &Caller) -> Result<Arc<Principal>, Problem> {
    let principal = required(app, caller, Takes::Tokens).await?;
    if principal.role.views() {
        Ok(principal)
    } else {
        Err(wrong_credential(app, &principal, "this needs a token with the role viewer, operator or admin"))
    }
}

/// Whether somebody acts: has the role operator or admin.
///
/// # Errors
///
/// `wrong_credential` for another role.
pub fn operates(app: &App, who: &Principal) -> Result<(), Problem> {
    if who.role.operates() {
        Ok(())
    } else {
        Err(wrong_credential(app, who, "this needs a token with the role operator or admin"))
    }
}

/// The publisher who asks: an application, or anybody who may publish somewhere.
///
/// # Errors
///
/// 401 as [`required`], and `wrong_credential` for a credential that publishes nowhere. Whether it may
/// publish to a certain channel is another question, answered 403.
pub async fn publisher(app: &App, caller: &Caller) -> Result<Arc<Principal>, Problem> {
    let principal = required(app, caller, Takes::TokensAndKeys).await?;
    let publishes = principal.grants.iter().any(|grant| grant.actions.contains(Action::Publish));
    if principal.role.is_application() || (principal.role.may_publish() && publishes) {
        Ok(principal)
    } else {
        Err(wrong_credential(app, &principal, "this needs an API key or a token that may publish"))
    }
}

/// The application or admin who asks.
///
/// # Errors
///
/// 401 as [`required`], and `wrong_credential` for another role.
pub async fn application(app: &App, caller: &Caller) -> Result<Arc<Principal>, Problem> {
    let principal = required(app, caller, Takes::TokensAndKeys).await?;
    if principal.role.is_application() {
        Ok(principal)
    } else {
        Err(wrong_credential(
            app,
            &principal,
            "this needs an API key or a token with the role publisher or admin",
        ))
    }
}

/// Row A19: the bearer is who they say, and this is no place for what they bear.
fn wrong_credential(app: &App, who: &Principal, detail: &str) -> Problem {
    app.auth_failed(pulsewire_telemetry::AuthFailure::Forbidden, None, Some(&who.sub), detail);
    Problem::new(ErrorCode::WrongCredential, detail)
}

fn refused(refusal: &Refusal) -> Problem {
    Problem::new(refusal.code(), refusal.to_string())
}
