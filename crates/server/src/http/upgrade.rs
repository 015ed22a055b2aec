//! From an HTTP request to a connection of a shard.
//!
//! Everything that can be refused is refused before the upgrade, with a status and a reason: that is
//! the cheapest moment. After it the bare socket is taken back from hyper and given to a shard, with
//! whatever the client has sent behind its request.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Extension, Request, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, header};
use hyper_util::rt::TokioIo;
use pulsewire_edge::handshake::{self, Upgrade};
use pulsewire_edge::{Carrier, SocketOptions, clock};
use pulsewire_hub::{Arrival, Failed, FailedStage, Principal, Refused};
use pulsewire_protocol::{Encoding, ErrorCode, Heartbeat, SessionId};
use pulsewire_telemetry::{ConnectionError, HandshakeOutcome, RateScope, RejectReason, RejectStage};

use super::access::{self, Caller, Takes};
use super::problem::Problem;
use crate::app::App;
use crate::patient::Patient;

/// How much longer than a shard the kernel waits for a peer that takes nothing.
const KERNEL_PATIENCE: std::time::Duration = std::time::Duration::from_secs(5);
/// The longest `User-Agent` that is kept, in bytes.
const USER_AGENT_BYTES_MAX: usize = 256;
/// The longest text of a refusal that is kept, in characters.
const TEXT_CHARS_MAX: usize = 256;

/// `GET /ws` and its aliases.
pub async fn websocket(
    State(app): State<Arc<App>>,
    caller: Caller,
    Extension(agents): Extension<Arc<crate::agents::Agents>>,
    request: Request,
) -> Response {
    let began_ns = clock::now().mono_ns;
    let (head, body) = request.into_parts();
    let prepared = prepare(&app, &caller, &agents, &head).await;
    let request = Request::from_parts(head, body);
    match prepared {
        Ok((upgrade, arrival)) => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            *response.headers_mut() = upgrade.response_headers();
            tokio::spawn(finish(app, request, arrival, began_ns));
            response
        }
        Err(refusal) => {
            let shared = app.telemetry.shared();
            shared.rejected(RejectStage::Handshake, refusal.reason);
            // Thousands who come back at once would push everybody else's refusals out, and are no failures: they are counted.
            if refusal.reason != RejectReason::HandshakeRate {
                write_down(&app, &caller, &agents, request.uri().path(), &refusal);
                let (why, from) = (refusal.reason.as_str(), caller.remote.ip());
                app.write_error("rejected", why, Some(from), None, "a WebSocket handshake was refused");
            }
            shared.handshake(HandshakeOutcome::Rejected, clock::now().since_ns(began_ns));
            let mut response = refusal.response;
            // S17: nothing that follows a refused upgrade is ever answered.
            response.headers_mut().insert(header::CONNECTION, http::HeaderValue::from_static("close"));
            response
        }
    }
}

struct RefusedUpgrade {
    reason: RejectReason,
    /// What was wrong in this case.
    detail: String,
    response: Response,
}

impl RefusedUpgrade {
    fn new(reason: RejectReason, problem: Problem) -> Self {
        let detail = problem.code.message_with(&problem.detail);
        Self { reason, detail, response: problem.into_response() }
    }
}

/// Keeps a refusal for operators who look for it.
fn write_down(
    app: &App,
    caller: &Caller,
    agents: &crate::agents::Agents,
    path: &str,
    refusal: &RefusedUpgrade,
) {
    let text = |text: &str| text.chars().take(TEXT_CHARS_MAX).collect::<String>().into_boxed_str();
    let origin = caller.headers.get(header::ORIGIN).and_then(|origin| origin.to_str().ok());
    app.hub.ledger.write_failed(Failed {
        number: 0,
        at_ms: clock::now().wall_ms,
        remote: caller.remote,
        user_agent: agents.intern(user_agent(&caller.headers)),
        origin: origin.map(text),
        path: Some(text(path)),
        stage: FailedStage::Handshake,
        reason: refusal.reason.as_str(),
        status: Some(refusal.response.status().as_u16()),
        detail: text(&refusal.detail),
    });
}

async fn prepare(
    app: &App,
    caller: &Caller,
    agents: &crate::agents::Agents,
    request: &http::request::Parts,
) -> Result<(Upgrade, Arrival), Box<RefusedUpgrade>> {
    let live = app.live.load_full();
    let (headers, remote) = (&caller.headers, caller.remote);
    let upgrade =
        handshake::validate(&request.method, request.version, headers, &live.origins).map_err(|refusal| {
            let code = match refusal.reject_reason() {
                RejectReason::Origin => ErrorCode::OriginRefused,
                _ => ErrorCode::BadRequest,
            };
            if refusal.reject_reason() == RejectReason::Origin {
                app.telemetry.shared().auth_failed(pulsewire_telemetry::AuthFailure::Origin);
            }
            let problem = Problem::new(code, refusal.to_string());
            let mut refused = RefusedUpgrade::new(refusal.reject_reason(), problem);
            *refused.response.status_mut() = refusal.status();
            refused.response.headers_mut().extend(refusal.response_headers());
            Box::new(refused)
        })?;
    let refuse = |reason, problem| Box::new(RefusedUpgrade::new(reason, problem));
    if app.blocks.is_blocked(remote.ip(), clock::now().wall_ms) {
        let problem = Problem::new(ErrorCode::Forbidden, "an operator has shut your address out for a time");
        return Err(refuse(RejectReason::Forbidden, problem));
    }
    if app.is_draining() {
        // They come elsewhere, or here when it is over: not all of them each second until then.
        let per_second = live.settings.limits.handshakes_per_second;
        let retry_after_ms = Some(app.pace.turn_away(per_second, clock::now().mono_ms()));
        let problem = Problem { retry_after_ms, ..ErrorCode::Draining.into() };
        return Err(refuse(RejectReason::Draining, problem));
    }
    access::pace(app).await.map_err(|problem| refuse(RejectReason::HandshakeRate, problem))?;
    let per_minute = live.settings.limits.handshakes_per_minute;
    app.handshakes.take(remote.ip(), per_minute, clock::now()).map_err(|too_many| {
        app.telemetry.shared().rate_limited(RateScope::Address);
        let detail = "too many new connections from your address within a minute";
        let retry_after_ms = Some(too_many.retry_after_ms);
        let problem = Problem { retry_after_ms, ..Problem::new(ErrorCode::RateLimited, detail) };
        refuse(RejectReason::RateLimit, problem)
    })?;
    let bearer = access::bearer(app, caller, Takes::TokensAndTickets).await;
    let principal = bearer.map_err(|problem| {
        let reason = match problem.code {
            ErrorCode::RateLimited => RejectReason::RateLimit,
            _ => RejectReason::Unauthorized,
        };
        refuse(reason, problem)
    })?;
    let principal = match principal {
        None if !live.settings.auth.required => Some(Arc::new(Principal::anonymous(Arc::default()))),
        principal => principal,
    };
    let wanted = wanted(caller.query());
    app.hub.admission.connect(remote.ip()).map_err(|refused| {
        let (reason, detail) = match refused {
            Refused::Address => (RejectReason::AddressLimit, "too many connections from your address"),
            Refused::Node | Refused::User => {
                (RejectReason::ConnectionLimit, "the server has all the connections it takes")
            }
        };
        refuse(reason, Problem::new(ErrorCode::Overloaded, detail))
    })?;
    if let Some(principal) = &principal
        && app.hub.admission.enter(&principal.sub).is_err()
    {
        app.hub.admission.disconnect(remote.ip());
        let problem = Problem::new(ErrorCode::Overloaded, "you have too many connections; close one of them");
        return Err(refuse(RejectReason::UserLimit, problem));
    }
    let path = request.uri.path();
    let encoding = upgrade.encoding.or(wanted.encoding).unwrap_or(Encoding::Json);
    let heartbeat =
        wanted.heartbeat.unwrap_or(if path == "/ws/metrics" { Heartbeat::Message } else { Heartbeat::Frame });
    let arrival = Arrival {
        remote,
        user_agent: agents.intern(user_agent(headers)),
        encoding,
        encoding_strict: upgrade.encoding.is_some(),
        heartbeat,
        principal,
        session: wanted.session,
        accepted_ns: clock::now().mono_ns,
    };
    Ok((upgrade, arrival))
}

/// Waits for the answer to be sent, takes the socket back and gives it to a shard.
async fn finish(app: Arc<App>, request: Request, arrival: Arrival, began_ns: u64) {
    let carrier = take_over(&app, request).await;
    let shared = app.telemetry.shared();
    let took_ns = clock::now().since_ns(began_ns);
    match carrier {
        Ok(carrier) => {
            shared.handshake(HandshakeOutcome::Accepted, took_ns);
            let (address, principal) = (arrival.remote.ip(), arrival.principal.clone());
            app.edge.attach(carrier, arrival);
            app.end_if_shut_out(address, principal.as_deref());
        }
        Err(error) => {
            // P24: the client may go away in the middle of its own handshake.
            tracing::debug!(%error, "a connection was lost during its handshake");
            shared.handshake(HandshakeOutcome::Failed, took_ns);
            shared.connection_failed(ConnectionError::Handshake);
            app.hub.admission.disconnect(arrival.remote.ip());
            if let Some(principal) = arrival.principal {
                app.hub.admission.leave(&principal.sub);
            }
        }
    }
}

async fn take_over(app: &App, request: Request) -> anyhow::Result<Carrier> {
    let upgraded = hyper::upgrade::on(request).await?;
    let parts = upgraded
        .downcast::<TokioIo<Patient>>()
        .map_err(|_| anyhow::anyhow!("the connection is none that this server accepted"))?;
    let limits = &app.live.load().settings.limits;
    let options = SocketOptions {
        unsent_bytes_max: u32::try_from(limits.kernel_unsent_bytes).unwrap_or(u32::MAX),
        // Row L4: the shard is the one to give up a reader, with a code; the kernel only ends what it left.
        user_timeout: limits.slow_after + KERNEL_PATIENCE,
    };
    // The read buffer must not be kept: even empty it pins hyper's block for the life of the connection.
    let early = bytes::Bytes::copy_from_slice(&parts.read_buf);
    let (stream, tls, decrypted) = parts.io.into_inner().into_inner().into_parts();
    let early = if decrypted.is_empty() { early } else { [early, decrypted].concat().into() };
    Ok(Carrier::new(stream.into_std()?, tls, early, options)?)
}

#[derive(Default)]
struct Wanted {
    encoding: Option<Encoding>,
    heartbeat: Option<Heartbeat>,
    session: Option<SessionId>,
}

/// What the query asks for beside the token. Unknown parameters are nobody's harm.
fn wanted(query: Option<&str>) -> Wanted {
    let mut wanted = Wanted::default();
    for pair in query.unwrap_or_default().split('&') {
        match pair.split_once('=') {
            Some(("format", format)) => wanted.encoding = Encoding::from_name(format),
            Some(("heartbeat", "message")) => wanted.heartbeat = Some(Heartbeat::Message),
            Some(("heartbeat", "frame")) => wanted.heartbeat = Some(Heartbeat::Frame),
            Some(("session", session)) => wanted.session = SessionId::parse(session).ok(),
            _ => {}
        }
    }
    wanted
}

pub(super) fn user_agent(headers: &HeaderMap) -> &str {
    let agent = headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut end = agent.len().min(USER_AGENT_BYTES_MAX);
    while !agent.is_char_boundary(end) {
        end -= 1;
    }
    &agent[..end]
}
