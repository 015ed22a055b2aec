//! The connection: when it comes back, what is said of it, and the way besides WebSocket.

use std::sync::{Arc, Mutex};

use pulsewire_client::{Backoff, Client, Delivery, Fallback, FallbackHost, Running, Start, State, Status};

use crate::server::Server;
use crate::{greet, heard, options, publication};

#[tokio::test]
async fn reconnect_does_not_wait_for_what_the_server_advised_and_revives_who_was_sent_away() {
    let server = Server::start().await;
    let (client, _deliveries) = Client::start(options(&server));
    let mut health = client.health();
    let mut peer = greet(&server, 0).await;
    peer.text(r#"{"type":"reconnect","retry_ms":3600000,"reason":"draining","code":4001}"#).await;
    peer.frame(8, &4001_u16.to_be_bytes()).await;
    let waiting = health.wait_for(|health| health.next_retry_at.is_some()).await.unwrap().clone();
    assert_eq!((waiting.status, waiting.reconnections), (Status::Reconnecting, 0));
    assert!(waiting.last_error.unwrap().to_string().contains("4001"));
    client.reconnect().await;
    let mut peer = greet(&server, 0).await;
    health.wait_for(|health| health.reconnections == 1 && health.next_retry_at.is_none()).await.unwrap();
    peer.frame(8, &4506_u16.to_be_bytes()).await;
    health.wait_for(|health| health.status == Status::Disconnected).await.unwrap();
    client.reconnect().await;
    let _peer = greet(&server, 0).await;
    health.wait_for(|health| health.status == Status::Connected).await.unwrap();
}

#[tokio::test]
async fn the_round_trip_is_measured_every_fifteen_seconds() {
    let server = Server::start().await;
    let (client, _deliveries) = Client::start(options(&server));
    let mut health = client.health();
    let mut peer = greet(&server, 0).await;
    health.wait_for(|health| health.status == Status::Connected).await.unwrap();
    let begun = tokio::time::Instant::now();
    tokio::time::pause();
    let ping = peer.read_text().await;
    let waited = begun.elapsed();
    tokio::time::resume();
    // It counts from when the client was connected, which is a little before this test knows of it.
    assert!((10..=15).contains(&waited.as_secs()), "{waited:?}");
    let asked: serde_json::Value = serde_json::from_str(&ping).unwrap();
    assert_eq!(asked["type"], "ping", "{ping}");
    peer.text(r#"{"type":"pong","id":"another"}"#).await;
    peer.text(&format!(r#"{{"type":"pong","id":{}}}"#, asked["id"])).await;
    let health = health.wait_for(|health| health.latency.is_some()).await.unwrap();
    assert!(health.latency == health.latency_p50 && health.latency == health.latency_p99, "{health:?}");
}

#[tokio::test]
async fn a_server_that_stops_reading_does_not_keep_the_client_from_noticing() {
    let server = Server::start().await;
    let mut options = options(&server);
    options.queue.bytes_max = 64 << 20;
    let (client, mut deliveries) = Client::start(options);
    let _mute = greet(&server, 0).await;
    // More than the kernel buffers: it can only be written if somebody reads.
    for _ in 0..16 {
        let client = client.clone();
        let data = format!("\"{}\"", "x".repeat(2 << 20));
        tokio::spawn(async move { client.publish(crate::event(&data)).await });
    }
    client.health().wait_for(|health| health.queued == 16).await.unwrap();
    tokio::time::pause();
    loop {
        if let Delivery::State { to: State::Waiting, .. } = deliveries.next().await.unwrap() {
            break;
        }
    }
}

/// Hands on what it is given and says how it went.
#[derive(Debug)]
struct Scripted {
    /// What it was given to begin with.
    begun: Arc<Mutex<Vec<(String, Start)>>>,
    messages: Vec<String>,
}

impl Fallback for Scripted {
    fn run(&self, host: FallbackHost) -> Running {
        self.begun.lock().unwrap().clone_from(&host.channels);
        let messages = self.messages.clone();
        Box::pin(async move {
            host.succeeded().await;
            for message in messages {
                host.deliver(message).await;
            }
            std::future::pending::<()>().await;
        })
    }
}

#[tokio::test]
async fn a_fallback_is_tried_after_five_failures_and_left_when_websocket_works() {
    let server = Server::start().await;
    let begun = Arc::new(Mutex::new(Vec::new()));
    let mut options = options(&server);
    options.backoff = Backoff { min: std::time::Duration::ZERO, max: std::time::Duration::ZERO, factor: 1.0 };
    options.fallback =
        Some(Arc::new(Scripted { begun: begun.clone(), messages: vec![publication(8), publication(9)] }));
    let (client, mut deliveries) = Client::start(options);
    let mut peer = greet(&server, 7).await;
    peer.text(&publication(8)).await;
    assert_eq!(heard(&mut deliveries, 1).await, ["8"]);
    drop(peer);
    for _ in 0..4 {
        server.refuse("503 Full").await;
    }
    client.health().wait_for(|health| health.status == Status::Polling).await.unwrap();
    let (channel, start) = begun.lock().unwrap()[0].clone();
    assert!(
        channel == "run:1" && matches!(&start, Start::Since(position) if position.sequence.0 == 8),
        "{start:?}"
    );
    let mut events = Vec::new();
    while events.is_empty() {
        if let Delivery::Event(event) = deliveries.next().await.unwrap() {
            events.push(event.sequence.unwrap().0);
        }
    }
    assert_eq!(events, [9], "what was known already is dropped");
    client.reconnect().await;
    let peer = greet(&server, 9).await;
    assert!(peer.hello.contains(r#""since":{"epoch":"e","sequence":9}"#), "{}", peer.hello);
    client.health().wait_for(|health| health.status == Status::Connected).await.unwrap();
}
