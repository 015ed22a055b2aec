//! Who is in a channel, over HTTP: what a subscriber's snapshot says, for those who only look.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, header};
use pulsewire_hub::{Action, PresenceSnapshot};
use pulsewire_protocol::{ChannelName, ErrorCode, Member};
use serde::Serialize;
use serde_json::value::RawValue;

use super::access::Caller;
use super::problem::Problem;
use super::read;
use crate::app::App;

/// `GET /api/channels/{channel}/presence`: everybody who is there, and the version a subscriber would see.
pub async fn page(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(channel): Path<String>,
) -> Result<Response, Problem> {
    let channel = read::channel_name(&channel)?;
    let actions = [Action::Presence];
    let principal = read::admit(&app, &caller, &channel, &actions).await?;
    if !principal.may(Action::Presence, &channel) {
        // What is open to everybody is the channel, not who is there.
        let detail = format!("without a token it is not shown who is in `{channel}`");
        return Err(Problem::new(ErrorCode::Forbidden, detail));
    }
    if app.bus.namespace(&channel).is_none_or(|namespace| namespace.presence.is_none()) {
        return Err(Problem::new(ErrorCode::Unsupported, format!("`{channel}` has no presence")));
    }
    let snapshot = app.hub.presence.snapshot(&channel);
    let mut answer = Json(Shown::of(&channel, &snapshot)).into_response();
    answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(answer)
}

/// The body of the answer.
#[derive(Serialize)]
struct Shown<'a> {
    channel: &'a str,
    node: &'a str,
    version: u64,
    members: Vec<ShownMember<'a>>,
}

#[derive(Serialize)]
struct ShownMember<'a> {
    user: &'a str,
    sessions: u32,
    since: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<&'a RawValue>,
}

impl<'a> Shown<'a> {
    fn of(channel: &'a ChannelName, snapshot: &'a PresenceSnapshot) -> Self {
        let member = |member: &'a Member| ShownMember {
            user: &member.user,
            sessions: member.sessions,
            since: member.since_ms,
            cursor: member.cursor.as_deref(),
        };
        Self {
            channel: channel.as_str(),
            node: &snapshot.node,
            version: snapshot.version,
            members: snapshot.members.iter().map(member).collect(),
        }
    }
}
