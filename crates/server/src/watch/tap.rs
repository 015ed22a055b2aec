//! `$sys.tap:SESSION`: what one connection is sent and says, to whoever listens.
//!
//! A tap is open while its channel has listeners. Payloads are on a channel of their own, `…/payload`, which only
//! operators may listen to; here is only decided what is shown. Who listens is written to the audit log before the
//! first message is told.

use std::collections::HashSet;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pulsewire_bus::Channel;
use pulsewire_edge::clock;
use pulsewire_hub::watch::RowKey;
use pulsewire_hub::watch::tap::{TapEvent, Tapped};
use pulsewire_hub::{Order, Principal, Role};
use pulsewire_protocol::transcode::msgpack_to_json;
use pulsewire_protocol::{ChannelName, Encoding, ErrorCode, SessionId};
use pulsewire_telemetry::Direction;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::connections::Tapping;
use super::watcher::{LOOK, refuse};
use super::{channels, query, tell_on};
use crate::app::App;
use crate::audit::{self, Act, Outcome};
use crate::http::health::iso;
use crate::http::problem::Problem;

/// Bytes of a payload that are shown.
const PAYLOAD_BYTES_MAX: usize = 2_048;

/// What is tapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wanted {
    session: SessionId,
    payload: bool,
}

impl Wanted {
    /// Reads what stands behind `$sys.tap:`.
    pub(super) fn parse(text: &str) -> Result<Self, Problem> {
        let (session, payload) = match text.strip_suffix("/payload") {
            Some(session) => (session, true),
            None => (text, false),
        };
        let session = SessionId::parse(session).map_err(|_| {
            query::wrong("a tap is of a session: `$sys.tap:SESSION` or `$sys.tap:SESSION/payload`")
        })?;
        Ok(Self { session, payload })
    }
}

/// A tap that is served; it is closed when this is dropped.
pub(super) struct Served(JoinHandle<()>);

impl Served {
    pub(super) fn begin(app: &Arc<App>, channel: Arc<Channel>, wanted: Wanted) -> Self {
        Self(tokio::spawn(serve(app.clone(), channel, wanted)))
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Tells what is tapped until nobody listens. One that cannot be opened, or has ended, is tried again when somebody
/// joins.
async fn serve(app: Arc<App>, channel: Arc<Channel>, wanted: Wanted) {
    let (mut heard_by, mut joined, mut tapping) = (HashSet::new(), 0, None);
    let mut looks = tokio::time::interval(LOOK);
    loop {
        if joined != channel.joined() {
            joined = channel.joined();
            note(&app, &channel, wanted, &mut heard_by).await;
            if tapping.is_none() {
                tapping =
                    app.tap(wanted.session).await.map_err(|problem| said(&app, &channel, &problem)).ok();
            }
        }
        tokio::select! {
            event = next(&mut tapping) => match event {
                Some(event) => tell(&app, &channel, &event, wanted.payload),
                None => {
                    tapping = None;
                    said(&app, &channel, &Problem::new(ErrorCode::NotFound, "the session has ended"));
                }
            },
            _ = looks.tick() => {}
        }
    }
}

async fn next(tapping: &mut Option<Tapping>) -> Option<TapEvent> {
    match tapping {
        Some(tapping) => tapping.next().await,
        None => std::future::pending().await,
    }
}

fn said(app: &App, channel: &Arc<Channel>, problem: &Problem) {
    refuse(app, channel, problem, clock::now());
}

fn tell(app: &App, channel: &Arc<Channel>, event: &TapEvent, payload: bool) {
    match event {
        TapEvent::Message(message) => tell_on(app, channel, "tap", &shown(message, payload)),
        TapEvent::Skipped(messages) => tell_on(app, channel, "skipped", &json!({ "messages": messages })),
        TapEvent::Ended => true,
    };
}

fn shown(message: &Tapped, payload: bool) -> Value {
    json!({
        "at": iso(message.at_ms),
        "direction": match message.direction {
            Direction::Sent => "out",
            Direction::Received => "in",
        },
        "kind": message.kind,
        "channel": message.channel.as_ref().map(ChannelName::as_str),
        "sequence": message.sequence.map(|sequence| sequence.0),
        "bytes": message.bytes,
        "latencyMs": message.latency_ns.map(|ns| (ns as f64 / 1e4).round() / 100.0),
        "payload": payload.then(|| text(&message.payload, message.encoding)).flatten(),
    })
}

/// A message as text, cut off; `None` if it is not shown because it carries a token.
fn text(payload: &[u8], encoding: Encoding) -> Option<String> {
    if payload.is_empty() {
        return None;
    }
    let mut json = Vec::new();
    let text = match encoding {
        Encoding::Json => payload,
        Encoding::MsgPack if msgpack_to_json(payload, &mut json).is_ok() => &json,
        Encoding::MsgPack => return Some(STANDARD.encode(&payload[..payload.len().min(PAYLOAD_BYTES_MAX)])),
    };
    let cut = &text[..text.len().min(PAYLOAD_BYTES_MAX)];
    // A letter that was cut through is left out.
    let whole = cut.utf8_chunks().next().map_or("", |chunk| chunk.valid());
    Some(whole.to_owned())
}

/// Writes down who has begun to listen; who left and comes back is written down again.
async fn note(app: &Arc<App>, channel: &Channel, wanted: Wanted, heard_by: &mut HashSet<String>) {
    let target = format!("session {}", wanted.session);
    let action = if wanted.payload { "tap_payload" } else { "tap" };
    let before = std::mem::take(heard_by);
    for (key, who, from) in listeners(app, channel, wanted.payload).await {
        if !before.contains(&key) {
            let (outcome, detail) = (Outcome::Done, "");
            audit::write(app, Act { who: &who, from, action, target: &target, outcome, detail }).await;
        }
        heard_by.insert(key);
    }
}

type Listener = (String, Principal, std::net::IpAddr);

/// Who listens to a tap. An event stream does not say its role: it has the least that may listen.
async fn listeners(app: &Arc<App>, channel: &Channel, payload: bool) -> Vec<Listener> {
    let named = |sub: &str, role| Principal { sub: sub.into(), role, ..Principal::anonymous(Arc::default()) };
    let mut found = Vec::new();
    for reader in channels::listeners(app, channel).await.unwrap_or_default() {
        let key = RowKey::Session(reader.session);
        let asked = app.ask(usize::from(reader.session.shard()), |reply| Order::Detail(key, reply)).await;
        if let Ok(Some(detail)) = asked {
            let who = named(&reader.user, detail.role);
            found.push((reader.session.to_string(), who, detail.row.info.remote.ip()));
        }
    }
    let least = if payload { Role::Operator } else { Role::Viewer };
    let streams = app.readers.list().into_iter().filter(|info| info.channels.contains(&channel.name));
    found.extend(streams.map(|info| (info.remote.to_string(), named(&info.user, least), info.remote.ip())));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tap_names_a_session_and_whether_payloads_are_wanted() {
        let session = SessionId::new(1, 2, 3, 4);
        assert_eq!(Wanted::parse(&session.to_string()), Ok(Wanted { session, payload: false }));
        assert_eq!(Wanted::parse(&format!("{session}/payload")), Ok(Wanted { session, payload: true }));
        for wrong in [
            "",
            "x",
            &format!("{session}/"),
            &format!("{session}/payload/payload"),
            &format!("{session}/head"),
        ] {
            assert_eq!(Wanted::parse(wrong).unwrap_err().code, ErrorCode::BadRequest, "{wrong}");
        }
    }

    #[test]
    fn a_payload_is_cut_between_letters_and_told_as_json() {
        assert_eq!(text(b"", Encoding::Json), None);
        assert_eq!(text(br#"{"a":1}"#, Encoding::Json).as_deref(), Some(r#"{"a":1}"#));
        let long = format!("{}\u{e9}", "x".repeat(PAYLOAD_BYTES_MAX - 1));
        assert_eq!(text(long.as_bytes(), Encoding::Json), Some("x".repeat(PAYLOAD_BYTES_MAX - 1)));
        assert_eq!(text(&[0x81, 0xa1, b'a', 1], Encoding::MsgPack).as_deref(), Some(r#"{"a":1}"#));
        assert_eq!(text(&[0xc1], Encoding::MsgPack).as_deref(), Some("wQ=="));
    }
}
