//! Sessions that go on at another node.
//!
//! A session's id says which node made it. A client that comes back elsewhere asks there with its id, and that node
//! asks the one that made it, if it is still there; it gives the session up, and the client goes on where it was.

use std::sync::Arc;
use std::time::Duration;

use pulsewire_edge::clock;
use pulsewire_hub::{ConnKey, ConnectWish, Fetched, Moved, Order, Principal};
use pulsewire_protocol::SessionId;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::sync::oneshot;

use super::tag;
use crate::app::App;

/// How long a client waits for its session: longer than a node needs to answer, shorter than anybody minds.
const PATIENCE: Duration = Duration::from_millis(500);

#[derive(Serialize, Deserialize)]
struct Wanted<'a> {
    session: &'a str,
    user: std::borrow::Cow<'a, str>,
}

/// Looks for a session on the node that made it, and tells the shard.
pub fn fetch(
    app: &Arc<App>,
    shard: usize,
    conn: ConnKey,
    session: SessionId,
    principal: Arc<Principal>,
    wish: ConnectWish,
) {
    let app = app.clone();
    tokio::spawn(async move {
        let moved = look(&app, session, &principal.sub).await;
        let fetched = Fetched { principal, wish, moved };
        app.hub.order(shard, Order::Fetched(conn, Box::new(fetched)));
    });
}

async fn look(
    app: &Arc<App>,
    session: SessionId,
    user: &str,
) -> Option<(Moved, Vec<Arc<pulsewire_bus::Channel>>)> {
    let cluster = app.cluster.as_ref()?;
    let nodes: Vec<Box<str>> =
        cluster.nodes.lock().present().into_iter().filter(|node| tag(node) == session.node()).collect();
    if nodes.is_empty() {
        return None;
    }
    let wanted = Wanted { session: &session.to_string(), user: user.into() };
    let answers = cluster.ask("session", &wanted, Some(&nodes), PATIENCE).await;
    let found = |body: &RawValue| serde_json::from_str::<Option<Moved>>(body.get()).ok().flatten();
    let moved = answers.answers.values().find_map(|body| found(body))?;
    let (reply, opened) = oneshot::channel();
    app.bus.open(clock::now(), moved.channels(), Box::new(|opened| drop(reply.send(opened))));
    let channels = opened.await.ok()?.ok()?;
    Some((moved, channels))
}

/// Another node wants a session: its client is there.
pub(super) async fn give_up(app: &Arc<App>, body: &RawValue) -> Option<Box<RawValue>> {
    let Wanted { session, user } = serde_json::from_str(body.get()).ok()?;
    let session = SessionId::parse(session).ok()?;
    let shard = usize::from(session.shard());
    let user: Box<str> = user.into();
    let moved = if shard < app.bus.shards() {
        app.ask(shard, |reply| Order::GiveUp { session, user, reply }).await.ok()?
    } else {
        None
    };
    serde_json::value::to_raw_value(&moved).ok()
}
