//! A page as JSON.
//!
//! Events are the messages that WebSocket clients get, byte for byte, so they are joined and not built anew.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, header};
use pulsewire_bus::StatePart;
use pulsewire_protocol::{ChannelName, Gap};
use serde_json::{Map, Value, json};

use crate::app::App;
use crate::reading::{Cursor, Step};

/// The answer to a reader: the events and where it stands, with what it has to know of what is not there.
pub fn respond(
    app: &App,
    cursor: &Cursor,
    step: &Step,
    reset: bool,
    retry_after_ms: Option<u64>,
) -> Response {
    let mut members = Map::new();
    // What is served may be older than what the store still has; then nothing was missed.
    let first = step.events.first().map_or(step.through.0, |told| told.publication.sequence.0 - 1);
    members.insert("nextSequence".into(), cursor.after.0.into());
    members.insert("hasMore".into(), step.has_more().into());
    members.insert("floor".into(), cursor.channel.floor().0.min(first).into());
    members.insert("head".into(), step.head.0.max(cursor.channel.head().0).into());
    if let Some(gap) = step.gap {
        members.insert("gap".into(), gap_value(gap));
    }
    if reset {
        members.insert("reset".into(), reset_value(cursor));
    }
    if let Some(retry_after_ms) = retry_after_ms {
        members.insert("retryAfterMs".into(), retry_after_ms.into());
    }
    let frames: Vec<_> = step.events.iter().map(|told| (told.publication.event_type, told.frame())).collect();
    let shared = app.telemetry.shared();
    for (event_type, frame) in &frames {
        shared.message_sent(*event_type, 1, frame.payload().len() as u64);
    }
    let head = json!({ "channel": cursor.channel.name.as_str(), "epoch": cursor.channel.epoch.as_str() });
    let events: Vec<&[u8]> = frames.iter().map(|(_, frame)| frame.payload()).collect();
    json_response(join(&head, "events", &events, &Value::Object(members)))
}

/// A gap as JSON.
#[must_use]
pub fn gap_value(gap: Gap) -> Value {
    json!({ "from": gap.from.0, "to": gap.to.0, "reason": gap.reason.name() })
}

/// A reset as JSON: what was known no longer counts; reading goes on behind this.
#[must_use]
pub fn reset_value(cursor: &Cursor) -> Value {
    json!({ "epoch": cursor.channel.epoch.as_str(), "sequence": cursor.after.0 })
}

/// The members of an object, a list of values that are JSON already, and more members.
#[must_use]
pub fn join(head: &Value, list: &str, values: &[&[u8]], tail: &Value) -> Vec<u8> {
    let len: usize = values.iter().map(|value| value.len() + 1).sum();
    let mut out = Vec::with_capacity(len + 512);
    let head = json_bytes(head);
    out.extend_from_slice(&head[..head.len() - 1]);
    out.extend_from_slice(format!(",\"{list}\":[").as_bytes());
    for (index, value) in values.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(value);
    }
    out.push(b']');
    let tail = json_bytes(tail);
    if tail.len() > 2 {
        out.push(b',');
        out.extend_from_slice(&tail[1..]);
    } else {
        out.push(b'}');
    }
    out
}

/// A value as JSON text.
#[must_use]
fn json_bytes(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

/// An answer that nobody keeps.
#[must_use]
pub fn json_response(body: Vec<u8>) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (headers, body).into_response()
}

/// A page of keyed state: the event that set each key.
#[must_use]
pub(super) fn state(name: &ChannelName, part: &StatePart) -> Response {
    let events = part.events();
    let values: Vec<&[u8]> = events.iter().map(pulsewire_protocol::Frame::payload).collect();
    let mut members = json!({ "hasMore": part.behind.is_some(), "head": part.extent.head.0 });
    if let Some(key) = &part.behind {
        members["nextKey"] = key.as_ref().into();
    }
    let head = json!({ "channel": name.as_str(), "epoch": part.extent.epoch.as_str() });
    json_response(join(&head, "values", &values, &members))
}
