//! One channel: its row, who reads it, and who is in it.

use std::cmp::Reverse;
use std::sync::Arc;

use pulsewire_bus::{Channel, Passed};
use pulsewire_edge::clock;
use pulsewire_hub::Order;
use pulsewire_hub::watch::{Feeding, READERS_MAX, Reader, Readership};
use pulsewire_protocol::{ChannelName, ErrorCode};
use serde_json::{Map, Value, json};

use super::{Seen, find};
use crate::app::{App, Stalled};
use crate::http::problem::Problem;
use crate::watch::{List, Query};

/// `GET /api/admin/channels/{channel}`: a list of one row.
pub(in crate::watch) async fn one(app: &Arc<App>, query: &Query) -> Result<List, Problem> {
    let name = ChannelName::parse(query.subject.as_deref().unwrap_or_default())
        .map_err(|error| Problem::new(ErrorCode::InvalidChannel, error.to_string()))?;
    let unknown = || Problem::new(ErrorCode::NotFound, "nobody has used this channel here, or not for long");
    let channel = find(app, &name).ok_or_else(unknown)?;
    let Passed { publications, bytes, .. } = channel.passed();
    let rates = app.channel_rates.of([(channel.id, [publications, bytes])].into_iter(), clock::now());
    let rates = rates.first().copied().unwrap_or_default();
    let mut row = Seen { app, channel: &channel, rates }.row();
    row.insert("readers".to_owned(), readers(app, &channel).await?.into());
    row.insert("members".to_owned(), members(app, &name));
    Ok(List { meta: Map::new(), total: 1, matched: 1, rows: vec![row] })
}

/// The sessions that listen, those furthest behind first; a slice of a shard at a time.
pub(in crate::watch) async fn listeners(app: &Arc<App>, channel: &Channel) -> Result<Vec<Reader>, Stalled> {
    let mut found: Vec<Reader> = Vec::new();
    for shard in 0..app.hub.shards() {
        let (mut next, channel) = (Some(0), channel.id);
        while let Some(from) = next {
            let Readership { next: then, readers } =
                app.ask(shard, |reply| Order::Readership { channel, from, reply }).await?;
            found.extend(readers);
            found.sort_by_key(|reader| (Reverse(reader.behind), reader.session));
            // Whoever moved between two slices was seen twice.
            found.dedup_by_key(|reader| reader.session);
            found.truncate(READERS_MAX);
            next = then;
        }
    }
    Ok(found)
}

async fn readers(app: &Arc<App>, channel: &Channel) -> Result<Vec<Value>, Stalled> {
    let mut shown: Vec<Value> = listeners(app, channel).await?.iter().map(of_session).collect();
    let over_http = app.readers.list();
    let here = over_http.iter().filter(|info| info.channels.contains(&channel.name));
    shown.extend(here.take(READERS_MAX - shown.len()).map(|info| {
        let user = Some(&*info.user).filter(|user| !user.is_empty());
        json!({ "id": null, "userId": user, "transport": info.transport.as_str(), "position": null, "behind": null, "feeding": Feeding::Live.as_str() })
    }));
    Ok(shown)
}

fn of_session(reader: &Reader) -> Value {
    json!({
        "id": reader.session.to_string(),
        "userId": Some(&*reader.user).filter(|user| !user.is_empty()),
        "transport": "websocket",
        "position": reader.position,
        "behind": reader.behind,
        "feeding": reader.feeding.as_str(),
    })
}

/// Who is in the channel, each with its newest cursor.
fn members(app: &App, channel: &ChannelName) -> Value {
    let members = app.hub.presence.snapshot(channel).members;
    let shown = members.into_iter().map(|member| {
        let cursor = member.cursor.and_then(|cursor| serde_json::from_str::<Value>(cursor.get()).ok());
        json!({ "userId": &*member.user, "cursor": cursor })
    });
    shown.take(READERS_MAX).collect()
}
