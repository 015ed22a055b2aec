//! Reading channels over HTTP: history, polls and keyed state.
//!
//! Everything here is one cursor loop ([`crate::reading`]) with different ends: a page of history is one step, a
//! poll is a step that may wait for something to come, an event stream ([`super::sse`]) goes on. The same
//! credentials, origins and grants hold as on WebSocket (row S33).

pub mod asked;
mod page;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Extension, Path, State};
use axum::response::{IntoResponse as _, Response};
use http::header;
use pulsewire_bus::{Channel, ChannelKind, ReadLimit};
use pulsewire_edge::clock;
use pulsewire_hub::watch::timeline::{Happening, Note};
use pulsewire_hub::{Action, Order, Principal};
use pulsewire_protocol::{ChannelName, CloseCode, Encoding, ErrorCode, Sequence, SessionId};
use pulsewire_telemetry::{AuthFailure, Transport};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::access::{self, Caller, Takes};
use super::origin;
use super::problem::Problem;
use super::upgrade::user_agent;
use crate::agents::Agents;
use crate::app::App;
use crate::reading::readers::{Guest, Peer, Woken};
use crate::reading::{self, Cursor, Start, Step};
use asked::Asked;

pub use page::{gap_value, join, json_response, reset_value, respond};

/// Steps that one request may take through a history of which its filter wants nothing.
const STEPS_MAX: usize = 8;

impl Peer {
    /// Who sent a request, as it says itself.
    pub(super) fn of(caller: &Caller, agents: &Agents) -> Self {
        Self { remote: caller.remote, agent: agents.intern(user_agent(&caller.headers)) }
    }
}

/// What a request is about, and who asks.
pub struct Reader {
    /// From where, and with what.
    pub peer: Peer,
    /// Who asks.
    pub principal: Arc<Principal>,
    /// What is asked for.
    pub asked: Asked,
    /// The channel.
    pub name: ChannelName,
}

/// Lets somebody in who may do all of `actions` with a channel.
///
/// # Errors
///
/// 403 for an address that is shut out, a page that may not connect, or too few grants; 401 without a good token;
/// 404 for a name that no namespace matches; 503 while the server is going away.
pub async fn admit(
    app: &App,
    caller: &Caller,
    name: &ChannelName,
    actions: &[Action],
) -> Result<Arc<Principal>, Problem> {
    let live = app.live.load_full();
    if app.blocks.is_blocked(caller.remote.ip(), clock::now().wall_ms) {
        return Err(Problem::new(ErrorCode::Forbidden, "an operator has shut your address out for a time"));
    }
    if !origin::permits(&live.origins, &caller.headers) {
        app.telemetry.shared().auth_failed(AuthFailure::Origin);
        return Err(Problem::new(ErrorCode::OriginRefused, "this page may not read here"));
    }
    let principal = if live.settings.auth.required {
        access::required(app, caller, Takes::TokensAndTickets).await?
    } else {
        let bearer = access::bearer(app, caller, Takes::TokensAndTickets).await?;
        bearer.unwrap_or_else(|| Arc::new(Principal::anonymous(Arc::default())))
    };
    let namespace = app.bus.namespace(name);
    let open_to_all = principal.is_anonymous() && namespace.is_some_and(|namespace| namespace.anonymous);
    if !open_to_all && actions.iter().any(|action| !principal.may(*action, name)) {
        app.telemetry.shared().auth_failed(AuthFailure::Forbidden);
        return Err(Problem::new(
            ErrorCode::Forbidden,
            format!("your token does not allow to read `{name}`"),
        ));
    }
    if app.is_draining() {
        return Err(ErrorCode::Draining.into());
    }
    if namespace.is_none() {
        return Err(ErrorCode::UnknownChannel.into());
    }
    Ok(principal)
}

/// A channel's name out of a path.
///
/// # Errors
///
/// `invalid_channel`.
pub fn channel_name(text: &str) -> Result<ChannelName, Problem> {
    ChannelName::parse(text).map_err(|error| Problem::new(ErrorCode::InvalidChannel, error.to_string()))
}

/// `GET /api/channels/{channel}/events`: a page of history.
pub async fn events(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(channel): Path<String>,
) -> Result<Response, Problem> {
    let name = channel_name(&channel)?;
    admit(&app, &caller, &name, &[Action::History]).await?;
    let asked = Asked::parse(caller.query(), "after")?;
    let start = asked.after.clone().unwrap_or(Start::After(Sequence::ZERO));
    let channel = open_log(&app, &name, start.sequence()).await?;
    let (mut cursor, reset) = Cursor::begin(channel, &start, asked.filter.clone());
    let step = if reset { nothing(&cursor) } else { look(&app, &mut cursor, asked.limit).await? };
    Ok(respond(&app, &cursor, &step, reset, None))
}

/// `GET /api/channels/{channel}/history`: what a metric channel's series did.
pub async fn history(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(channel): Path<String>,
) -> Result<Response, Problem> {
    let name = channel_name(&channel)?;
    admit(&app, &caller, &name, &[Action::History]).await?;
    if app.bus.namespace(&name).is_some_and(|namespace| namespace.kind != ChannelKind::Metrics) {
        let detail =
            format!("`{name}` is not a metric channel: read its events at /api/channels/{name}/events");
        return Err(Problem::new(ErrorCode::Unsupported, detail));
    }
    let points_max = app.live.load().settings.series.points_max;
    let (query, shape) = Asked::parse_series(caller.query(), clock::now().wall_ms, points_max)?;
    let history = reading::series::read(&app, &name, &query).await?;
    let frame = history.encode(&name, &query, shape, None, Encoding::Json);
    Ok(([(header::CONTENT_TYPE, "application/json")], frame.payload_bytes()).into_response())
}

/// `GET /api/channels/{channel}/poll`: what came since, or, with `wait`, what comes next.
pub async fn poll(
    State(app): State<Arc<App>>,
    caller: Caller,
    Extension(agents): Extension<Arc<Agents>>,
    Path(channel): Path<String>,
) -> Result<Response, Problem> {
    let name = channel_name(&channel)?;
    let principal = admit(&app, &caller, &name, &[Action::Subscribe]).await?;
    let asked = Asked::parse(caller.query(), "after")?;
    let peer = Peer::of(&caller, &agents);
    let reader = Reader { peer, principal, asked, name };
    if reader.asked.after.is_some() {
        may_look_back(&app, &reader)?;
    }
    note_fallback(&app, &reader);
    let start = reader.asked.after.clone().unwrap_or(Start::Now);
    let (cursor, step, reset) = poll_from(&app, &reader, &start).await?;
    let retry_after_ms = retry_after_ms(&app, &step);
    Ok(respond(&app, &cursor, &step, reset, Some(retry_after_ms)))
}

/// Beginning in the past needs the grant to read history, too.
///
/// # Errors
///
/// 403.
pub fn may_look_back(app: &App, reader: &Reader) -> Result<(), Problem> {
    let Reader { principal, name, .. } = reader;
    if principal.is_anonymous() || principal.may(Action::History, name) {
        return Ok(());
    }
    app.telemetry.shared().auth_failed(AuthFailure::Forbidden);
    let detail = format!("your token does not allow to read the history of `{name}`; leave the position out");
    Err(Problem::new(ErrorCode::Forbidden, detail))
}

/// Counts a session that fell back, the first time it says so.
pub fn note_fallback(app: &App, reader: &Reader) {
    if let Some(session) = &reader.asked.fallback
        && app.readers.fallbacks.note(&reader.principal.sub, session)
    {
        app.telemetry.shared().fell_back_to_http();
        note(app, reader, Note::of(Happening::FellBack));
    }
}

/// Writes down what happened in the timeline of the session that a client says it had, if it is its own.
pub fn note(app: &App, reader: &Reader, note: Note) {
    let named = reader.asked.fallback.as_deref().and_then(|name| SessionId::parse(name).ok());
    let Some(session) = named.filter(|session| usize::from(session.shard()) < app.hub.shards()) else {
        return;
    };
    let user = reader.principal.sub.clone();
    app.hub.order(usize::from(session.shard()), Order::Noted { user, session, note });
}

/// How long a client should wait before it asks again: not at all when there is more.
#[must_use]
pub fn retry_after_ms(app: &App, step: &Step) -> u64 {
    if step.has_more() { 0 } else { u64::try_from(pause(app).as_millis()).unwrap_or(u64::MAX) }
}

/// How many readers there may be: as many as are set, and half of the HTTP connections at most, so that streams
/// leave room for requests, scrapes and handshakes.
#[must_use]
pub fn readers_max(app: &App) -> usize {
    let live = app.live.load();
    live.settings.reading.readers_max.min(live.share.http_max / 2)
}

/// The pause that clients are told to make; longer when there are many of them (003-36).
#[must_use]
pub fn pause(app: &App) -> Duration {
    let live = app.live.load();
    let crowded = app.hub.admission.connections() >= live.share.connections_soft;
    live.settings.reading.poll_interval * if crowded { 5 } else { 1 }
}

/// A poll: looks, and waits for something to come if there is nothing and the client wants to.
///
/// # Errors
///
/// As the store's reads and [`crate::reading::Readers::sit`]; 401 if the client is sent away while it waits.
pub async fn poll_from(
    app: &Arc<App>,
    reader: &Reader,
    start: &Start,
) -> Result<(Cursor, Step, bool), Problem> {
    let channel = open_log(app, &reader.name, start.sequence()).await?;
    let (mut cursor, reset) = Cursor::begin(channel, start, reader.asked.filter.clone());
    let mut step = if reset { nothing(&cursor) } else { look(app, &mut cursor, reader.asked.limit).await? };
    let wait = reader.asked.wait.min(app.live.load().settings.reading.wait_max);
    if reset || !step.is_empty() || wait.is_zero() {
        return Ok((cursor, step, reset));
    }
    let until = Instant::now() + wait;
    let guest = Guest {
        transport: Transport::Polling,
        principal: &reader.principal,
        peer: &reader.peer,
        readers_max: readers_max(app),
    };
    let mut seat = app.readers.sit(&cursor.channel, &guest, &app.hub.admission, &app.telemetry)?;
    app.end_if_shut_out(reader.peer.remote.ip(), Some(&reader.principal));
    loop {
        seat.look();
        if cursor.follow() {
            step = nothing(&cursor);
            return Ok((cursor, step, true));
        }
        step = look(app, &mut cursor, reader.asked.limit).await?;
        if !step.is_empty() {
            return Ok((cursor, step, false));
        }
        match tokio::time::timeout_at(until, seat.woken()).await {
            Ok(Woken::Moved) => {}
            Ok(Woken::Kicked(code)) => return Err(sent_away(code)),
            Ok(Woken::Drained(_)) | Err(_) => return Ok((cursor, step, false)),
        }
    }
}

fn sent_away(code: CloseCode) -> Problem {
    match code {
        CloseCode::Revoked => ErrorCode::InvalidToken.into(),
        _ => Problem::new(ErrorCode::Overloaded, code.help()),
    }
}

/// A step that tells nothing.
fn nothing(cursor: &Cursor) -> Step {
    Step { through: cursor.after, head: cursor.after, ..Step::default() }
}

/// Steps on until there is something to tell, or nothing more to read, or the client should ask again.
async fn look(app: &App, cursor: &mut Cursor, limit: usize) -> Result<Step, Problem> {
    let bytes = app.live.load().settings.reading.page_bytes_max;
    let mut step = nothing(cursor);
    for _ in 0..STEPS_MAX {
        step = cursor.step(app, ReadLimit { publications: limit, bytes }).await?;
        if !step.is_empty() || !step.has_more() {
            break;
        }
    }
    Ok(step)
}

async fn open_log(app: &App, name: &ChannelName, at_least: Sequence) -> Result<Arc<Channel>, Problem> {
    let kept_nowhere = |kind| match kind {
        ChannelKind::Metrics => "a metric channel keeps no events; read it by `sse` or WebSocket",
        _ => "this channel keeps no events; read it by `sse` or WebSocket",
    };
    match app.bus.namespace(name).map(|namespace| namespace.kind) {
        Some(kind) if kind != ChannelKind::Log => {
            Err(Problem::new(ErrorCode::HistoryUnavailable, kept_nowhere(kind)))
        }
        _ => Ok(reading::open_log(app, name, at_least).await?),
    }
}

/// `GET /api/channels/{channel}/state`: a page of the channel's keyed state, in the order of the keys.
pub async fn state(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(channel): Path<String>,
) -> Result<Response, Problem> {
    let name = channel_name(&channel)?;
    admit(&app, &caller, &name, &[Action::History]).await?;
    let asked = Asked::parse_state(caller.query())?;
    if app.bus.namespace(&name).is_some_and(|it| it.kind != ChannelKind::Log || it.state_max == 0) {
        return Err(Problem::new(ErrorCode::Unsupported, format!("`{name}` keeps no keyed state")));
    }
    let channel = open_log(&app, &name, Sequence::ZERO).await?;
    let bytes = app.live.load().settings.reading.page_bytes_max;
    let limit = ReadLimit { publications: asked.limit, bytes };
    let (reply, answer) = oneshot::channel();
    // Whoever asked may have gone.
    let reply = Box::new(|slice| drop(reply.send(slice)));
    app.bus.state(clock::now(), &channel, asked.after_key, limit, reply);
    let part = answer.await.map_err(|_| Problem::from(ErrorCode::StoreUnavailable))??;
    Ok(page::state(&name, &part))
}
