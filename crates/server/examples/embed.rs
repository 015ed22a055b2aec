//! A shop with Pulsewire inside: one program, one port.
//!
//! `cargo run -p pulsewire --example embed`, then open <http://127.0.0.1:8000>: the page shows this machine's
//! figures and every order. `curl -X POST http://127.0.0.1:8000/orders` places one.

use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::response::Html;
use axum::routing::{get, post};
use pulsewire::{
    Action, Actions, ChannelPattern, Collector, CollectorOptions, Handle, NewToken, Role, Server,
};

const PAGE: &str = r#"<!doctype html><title>Shop</title><h1>Shop</h1><pre id="log"></pre><script>
const ws = new WebSocket(`ws://${location.host}/ws/metrics?heartbeat=frame&token={token}`);
const say = (message) => ws.send(JSON.stringify(message));
ws.onopen = () => say({ type: "subscribe", data: { channels: ["system.metrics", "project:shop"] } });
ws.onmessage = ({ data }) => document.getElementById("log").prepend(data + "\n");
</script>"#;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let (server, mut collector) = start("127.0.0.1:8000").await?;
    tokio::signal::ctrl_c().await?;
    collector.stop().await;
    server.stop(Duration::from_secs(10)).await;
    Ok(())
}

/// The server with the shop's routes, and a collector that reads this machine every other second.
pub(crate) async fn start(listen: &str) -> anyhow::Result<(Server, Collector)> {
    let server = Server::builder()
        .listen(listen)
        .jwt_secret("for this example alone: make one with openssl rand -hex 32")
        .setting("store.url", "memory")
        .setting("collector.enabled", false)
        .routes(|server| {
            let routes = Router::new().route("/", get(page)).route("/orders", post(order));
            routes.with_state(server.clone())
        })
        .start()
        .await?;
    let options = CollectorOptions { interval: Duration::from_secs(2), ..CollectorOptions::default() };
    let mut collector = Collector::new(&server, options);
    collector.start()?;
    Ok((server, collector))
}

/// The shop knows its visitors; Pulsewire knows them by the token that the shop gives them.
async fn page(State(server): State<Handle>) -> Result<Html<String>, String> {
    let channels =
        ["system.metrics", "project:shop"].into_iter().filter_map(|it| ChannelPattern::parse(it).ok());
    let token = NewToken {
        sub: "visitor".to_owned(),
        role: Role::User,
        ttl: Duration::from_secs(3_600),
        channels: channels.collect(),
        actions: Actions::NONE.with(Action::Subscribe),
    };
    let token = server.token(&token).map_err(|error| error.to_string())?;
    Ok(Html(PAGE.replace("{token}", &token)))
}

async fn order(State(server): State<Handle>) -> Result<String, String> {
    let order = serde_json::json!({ "item": "a lamp", "price": 40 });
    let receipt = server.publish("project:shop", "order_placed", &order).await;
    let screens = receipt.map_err(|refusal| refusal.detail)?.matched;
    Ok(format!("the order is on {screens} screens\n"))
}
