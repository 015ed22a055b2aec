//! Publishing over HTTP: one event or a batch, with an API key or a token.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, header};
use pulsewire_bus::{Publisher, Receipt, Refusal, Reply};
use pulsewire_edge::clock;
use pulsewire_hub::{Action, Principal, Role};
use pulsewire_protocol::{ChannelName, ErrorCode, Event, EventError};
use pulsewire_telemetry::{PublishOutcome, PublishSource};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::access::{self, Caller};
use super::body::Whole;
use super::problem::Problem;
use crate::app::App;

/// `POST /api/publish`: an event, or an array of events, each naming its channel.
pub async fn publish(State(app): State<Arc<App>>, caller: Caller, Whole(body): Whole) -> Response {
    let parse = |limit| Event::parse_batch(&body, limit);
    respond(&app, &caller, is_batch(&body), parse).await
}

/// `POST /api/channels/{channel}/events`: the same for one channel.
pub async fn publish_to(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(channel): Path<String>,
    Whole(body): Whole,
) -> Response {
    let channel = match ChannelName::parse(&channel) {
        Ok(channel) => channel,
        Err(error) => return Problem::new(ErrorCode::InvalidChannel, error.to_string()).into_response(),
    };
    let parse = |limit| Event::parse_batch_in(&channel, &body, limit);
    respond(&app, &caller, is_batch(&body), parse).await
}

async fn respond(
    app: &App,
    caller: &Caller,
    batch: bool,
    parse: impl FnOnce(usize) -> Result<Vec<Event>, EventError>,
) -> Response {
    let blocked = app.blocks.is_blocked(caller.remote.ip(), clock::now().wall_ms);
    let accepted = if blocked {
        Err(Problem::new(ErrorCode::Forbidden, "an operator has shut your address out for a time"))
    } else {
        access::publisher(app, caller).await
    };
    let accepted = match accepted {
        Ok(principal) => accept(app, &caller.headers, &principal, parse).await,
        Err(problem) => Err(problem),
    };
    match accepted {
        Ok(receipts) => {
            let mut results: Vec<Value> = receipts.iter().map(shown).collect();
            let body = if batch { json!({ "results": results }) } else { results.swap_remove(0) };
            Json(body).into_response()
        }
        Err(problem) => {
            count_refused(app, PublishSource::Http, problem.code);
            problem.into_response()
        }
    }
}

async fn accept(
    app: &App,
    headers: &HeaderMap,
    principal: &Principal,
    parse: impl FnOnce(usize) -> Result<Vec<Event>, EventError>,
) -> Result<Vec<Receipt>, Problem> {
    if let Some(encoding) = headers.get(header::CONTENT_ENCODING)
        && encoding != "identity"
    {
        return Err(Problem::new(ErrorCode::UnsupportedMediaType, "compressed bodies are not accepted"));
    }
    if app.is_draining() {
        return Err(ErrorCode::Draining.into());
    }
    let limit = app.live.load().settings.limits.publish_batch_max;
    let events = parse(limit)
        .map_err(|error| Problem { index: error.index, ..Problem::new(error.code, error.detail) })?;
    if events.is_empty() {
        return Err(Problem::new(ErrorCode::BadRequest, "an empty batch"));
    }
    authorise(principal, &events)?;
    submit(app, publisher(principal, 0), PublishSource::Http, events).await.map_err(refused)
}

/// Publishes events and waits for what becomes of them; counts what was accepted.
///
/// # Errors
///
/// As [`Bus::publish`](pulsewire_bus::Bus::publish); not counted, for its caller may refuse more than the bus does.
///
/// # Cancel safety
///
/// Dropping the future does not take back what was published: whoever asked may have gone.
pub async fn submit(
    app: &App,
    publisher: Publisher<'_>,
    source: PublishSource,
    events: Vec<Event>,
) -> Result<Vec<Receipt>, Refusal> {
    let (reply, answer) = oneshot::channel();
    app.bus.publish(clock::now(), publisher, events, Box::new(|outcome| drop(reply.send(outcome))));
    let unknown = |_| Refusal {
        index: None,
        code: ErrorCode::OutcomeUnknown,
        detail: String::new(),
        retry_after_ms: None,
    };
    let receipts = answer.await.map_err(unknown)??;
    for receipt in &receipts {
        let outcome = if receipt.duplicate { PublishOutcome::Duplicate } else { PublishOutcome::Accepted };
        app.telemetry.shared().publish(source, outcome);
    }
    Ok(receipts)
}

/// Counts a request that was refused.
pub fn count_refused(app: &App, source: PublishSource, code: ErrorCode) {
    let rejected = code.http_status() < 500;
    let outcome = if rejected { PublishOutcome::Rejected } else { PublishOutcome::Failed };
    app.telemetry.shared().publish(source, outcome);
}

fn authorise(principal: &Principal, events: &[Event]) -> Result<(), Problem> {
    match events.iter().position(|event| !principal.may(Action::Publish, &event.channel)) {
        None => Ok(()),
        Some(index) => {
            let detail = format!("this credential does not allow to publish to `{}`", events[index].channel);
            Err(Problem { index: Some(index), ..Problem::new(ErrorCode::Forbidden, detail) })
        }
    }
}

fn refused(refusal: Refusal) -> Problem {
    let retry_after_ms = refusal.retry_after_ms.map(u64::from);
    Problem { index: refusal.index, retry_after_ms, ..Problem::new(refusal.code, refusal.detail) }
}

/// Publishes in the name of a principal.
pub fn publish_as(
    app: &App,
    principal: &Principal,
    begun_ns: u64,
    events: Vec<Event>,
    reply: Reply<Result<Vec<Receipt>, Refusal>>,
) {
    app.bus.publish(clock::now(), publisher(principal, begun_ns), events, reply);
}

/// A principal who publishes. People are shown to subscribers; applications are not.
fn publisher(principal: &Principal, begun_ns: u64) -> Publisher<'_> {
    let user = (principal.role != Role::Publisher && !principal.is_anonymous()).then_some(&*principal.sub);
    Publisher { named_by: principal.named_by, principal: &principal.sub, user, begun_ns }
}

fn shown(receipt: &Receipt) -> Value {
    let mut shown = json!({
        "channel": receipt.channel.as_str(),
        "duplicate": receipt.duplicate,
        "matched": receipt.matched,
    });
    if let (Some(sequence), Some(epoch)) = (receipt.sequence, &receipt.epoch) {
        shown["sequence"] = sequence.0.into();
        shown["epoch"] = epoch.as_str().into();
    }
    shown
}

fn is_batch(body: &[u8]) -> bool {
    body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[')
}
