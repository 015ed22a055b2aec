//! Document 003's endpoints of a run: polling, when WebSocket does not get through, and replay.
//!
//! A run is the channel `run:{runId}`. Critical events outlive the others (C21), so what is told of a time whose
//! ordinary events are gone is the critical ones, with the range that is not complete any more. `afterSequence`
//! is exclusive, `fromSequence` inclusive (C22); times are Unix milliseconds (C23).

use std::sync::Arc;

use axum::extract::{Extension, Path, State};
use axum::response::Response;
use pulsewire_bus::{Body, Only, Publication, ReadLimit};
use pulsewire_hub::Action;
use pulsewire_protocol::{ErrorCode, GapReason, Sequence};
use serde_json::{Map, Value, json};

use super::access::Caller;
use super::problem::Problem;
use super::read::{self, Reader, asked};
use crate::app::App;
use crate::presence;
use crate::reading::readers::Peer;
use crate::reading::{self, Cursor, Filter, Start, Step, Told};

/// Pages of critical events that one request reads at most.
const CRITICAL_PAGES_MAX: usize = 32;
/// Critical events of such a page.
const CRITICAL_PAGE: usize = 1_000;

/// `GET /api/runs/{runId}/collaboration/poll?afterSequence=`: what came since, and who is there.
pub async fn poll(
    State(app): State<Arc<App>>,
    caller: Caller,
    Extension(agents): Extension<Arc<crate::agents::Agents>>,
    Path(run_id): Path<String>,
) -> Result<Response, Problem> {
    let name = read::channel_name(&format!("run:{run_id}"))?;
    let actions = [Action::Subscribe, Action::History];
    let principal = read::admit(&app, &caller, &name, &actions).await?;
    let asked = asked::Asked::parse(caller.query(), "afterSequence")?;
    let peer = Peer::of(&caller, &agents);
    let reader = Reader { peer, principal, asked, name };
    read::note_fallback(&app, &reader);
    let start = reader.asked.after.clone().unwrap_or(Start::After(Sequence::ZERO));
    let before = start.sequence();
    let (mut cursor, mut step, reset) = read::poll_from(&app, &reader, &start).await?;
    // Only what this page lacks is looked for: a filter has nothing to do with it.
    let older = if reset { Vec::new() } else { outlived(&app, &cursor, before, &step).await? };
    take_older(&mut cursor, &mut step, older, reader.asked.limit);
    let present = if reader.principal.may(Action::Presence, &reader.name) {
        presence::snapshot(&app, &reader.name)
    } else {
        presence::Snapshot::default()
    };
    let mut members = members(&cursor, &step, reset);
    members.insert("activeUsers".into(), present.active_users.into());
    members.insert("cursorPositions".into(), json!(present.cursor_positions));
    members.insert("nextSequence".into(), cursor.after.0.into());
    members.insert("retryAfterMs".into(), read::retry_after_ms(&app, &step).into());
    Ok(answer(&app, &run_id, &step, members, polled))
}

/// `GET /api/runs/{runId}/collaboration/replay?fromSequence=&limit=100`: what was kept from a sequence on.
pub async fn replay(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(run_id): Path<String>,
) -> Result<Response, Problem> {
    let name = read::channel_name(&format!("run:{run_id}"))?;
    read::admit(&app, &caller, &name, &[Action::History]).await?;
    let start = match asked::parameter(caller.query(), "fromSequence")? {
        Some(text) => before(&asked::start(&text)?),
        None => Start::After(Sequence::ZERO),
    };
    let limit = asked::limit(caller.query())?;
    let channel = reading::open_log(&app, &name, start.sequence()).await?;
    let (mut cursor, reset) = Cursor::begin(channel, &start, Filter::default());
    let after = cursor.after;
    let bytes = app.live.load().settings.reading.page_bytes_max;
    let mut step = cursor.step(&app, ReadLimit { publications: limit, bytes }).await?;
    let older = outlived(&app, &cursor, after, &step).await?;
    let begins = step.gap.filter(|gap| gap.reason == GapReason::Trimmed).map_or(after, |gap| gap.to);
    let total = older.len() as u64 + step.head.0.saturating_sub(begins.0);
    take_older(&mut cursor, &mut step, older, limit);
    let mut members = members(&cursor, &step, reset);
    members.insert("totalEvents".into(), total.into());
    members.insert("nextSequence".into(), cursor.after.next().0.into());
    Ok(answer(&app, &run_id, &step, members, replayed))
}

/// The exclusive bound of an inclusive one.
fn before(start: &Start) -> Start {
    let less = |sequence: &Sequence| Sequence(sequence.0.saturating_sub(1));
    match start {
        Start::Now => Start::Now,
        Start::After(sequence) => Start::After(less(sequence)),
        Start::At(position) => {
            let mut position = position.clone();
            position.sequence = less(&position.sequence);
            Start::At(position)
        }
    }
}

/// The critical events behind `after` that a step's gap still has, if retention made it.
async fn outlived(
    app: &App,
    cursor: &Cursor,
    after: Sequence,
    step: &Step,
) -> Result<Vec<Arc<Publication>>, ErrorCode> {
    let Some(gap) = step.gap.filter(|gap| gap.reason == GapReason::Trimmed) else { return Ok(Vec::new()) };
    let filter = Filter { only: Only::Critical, passing: cursor.filter.passing.clone() };
    let mut critical = Cursor { channel: cursor.channel.clone(), after, told: after, filter };
    let mut found = Vec::new();
    for _ in 0..CRITICAL_PAGES_MAX {
        let bytes = app.live.load().settings.reading.page_bytes_max;
        let page = critical.step(app, ReadLimit { publications: CRITICAL_PAGE, bytes }).await?;
        let within = page.events.into_iter().map(|told| told.publication);
        found.extend(within.filter(|publication| publication.sequence <= gap.to));
        if page.through >= gap.to || page.through >= page.head {
            break;
        }
    }
    Ok(found)
}

/// Puts older events before those of a step and keeps as many as were asked for; the cursor stands behind them.
fn take_older(cursor: &mut Cursor, step: &mut Step, older: Vec<Arc<Publication>>, limit: usize) {
    if older.is_empty() {
        return;
    }
    let told = |publication| Told { publication, previous: None };
    step.events.splice(0..0, older.into_iter().map(told));
    if step.events.len() > limit {
        step.events.truncate(limit);
        step.through = step.events.last().map_or(step.through, |last| last.publication.sequence);
        cursor.after = step.through;
    }
}

/// What both answers say of what is not there.
fn members(cursor: &Cursor, step: &Step, reset: bool) -> Map<String, Value> {
    let mut members = Map::new();
    members.insert("hasMore".into(), step.has_more().into());
    members.insert("epoch".into(), cursor.channel.epoch.as_str().into());
    if let Some(gap) = step.gap {
        members.insert("truncated".into(), true.into());
        members.insert("gap".into(), read::gap_value(gap));
    }
    if reset {
        members.insert("reset".into(), read::reset_value(cursor));
    }
    members
}

fn answer(
    app: &App,
    run_id: &str,
    step: &Step,
    members: Map<String, Value>,
    event: fn(&Told) -> Option<Vec<u8>>,
) -> Response {
    let mut events = Vec::with_capacity(step.events.len());
    for told in &step.events {
        let Some(bytes) = event(told) else { continue };
        app.telemetry.shared().message_sent(told.publication.event_type, 1, bytes.len() as u64);
        events.push(bytes);
    }
    let events: Vec<&[u8]> = events.iter().map(Vec::as_slice).collect();
    read::json_response(read::join(&json!({ "runId": run_id }), "events", &events, &Value::Object(members)))
}

/// An event as the replay shows it (003-42).
fn replayed(told: &Told) -> Option<Vec<u8>> {
    let Body::Event(accepted) = &told.publication.body else { return None };
    let text = |text: &str| Value::from(text).to_string();
    let user = accepted.user.as_deref().map_or_else(|| "null".to_owned(), text);
    let event = format!(
        r#"{{"eventType":{},"userId":{user},"timestamp":{},"sequenceNumber":{},"data":{},"isCritical":{}}}"#,
        text(accepted.event.event_type.as_str()),
        accepted.timestamp_ms,
        told.publication.sequence,
        accepted.event.data.get(),
        accepted.is_critical(),
    );
    Some(event.into_bytes())
}

/// An event as a poll shows it: the WebSocket's own (003-38), and the members that the replay gives other names.
fn polled(told: &Told) -> Option<Vec<u8>> {
    let Body::Event(accepted) = &told.publication.body else { return None };
    let names = json!({
        "eventType": accepted.event.event_type.as_str(),
        "userId": accepted.user.as_deref(),
        "sequenceNumber": told.publication.sequence.0,
        "isCritical": accepted.is_critical(),
    });
    let frame = told.frame();
    let mut event = frame.payload().to_vec();
    event.pop();
    event.push(b',');
    event.extend_from_slice(&names.to_string().as_bytes()[1..]);
    Some(event)
}
