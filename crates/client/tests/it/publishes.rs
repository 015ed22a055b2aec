//! Publishes: what goes out when, and what the application is told.

use std::time::Duration;

use pulsewire_client::{Ack, Client, Overflow, PublishError, QueueOptions};

use crate::server::{Peer, Server};
use crate::{event, greet, options};

/// Reads a publish and gives the id of its request, as JSON, and its data.
async fn publish(peer: &mut Peer) -> (String, String, String) {
    let text = peer.read_text().await;
    let frame: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(frame["type"], "publish", "{text}");
    (frame["id"].to_string(), frame["data"].to_string(), text)
}

async fn ack(peer: &mut Peer, id: &str, sequence: u64) {
    let duplicate = false;
    peer.text(&format!(
        r#"{{"type":"ack","id":{id},"channel":"run:1","sequence":{sequence},"epoch":"e","duplicate":{duplicate}}}"#
    ))
    .await;
}

async fn later(peer: &mut Peer, id: &str) {
    peer.text(&format!(
        r#"{{"type":"error","id":{id},"code":"overloaded","message":"Overloaded","retryable":true,"retry_after_ms":1}}"#
    ))
    .await;
}

fn publishing(client: &Client, data: u32) -> tokio::task::JoinHandle<Result<Ack, PublishError>> {
    let client = client.clone();
    tokio::spawn(async move { client.publish(event(&data.to_string())).await })
}

/// K2.
#[tokio::test]
async fn later_is_waited_for_and_the_same_is_sent_again_three_times_at_most() {
    let server = Server::start().await;
    let (client, _deliveries) = Client::start(options(&server));
    let mut peer = greet(&server, 0).await;
    for (refusals, accepted) in [(2, true), (4, false)] {
        let publishing = publishing(&client, 1);
        let mut first = None;
        for _ in 0..refusals {
            let (id, _, text) = publish(&mut peer).await;
            assert_eq!(
                *first.get_or_insert_with(|| text.clone()),
                text,
                "the same frame, and so the same id"
            );
            later(&mut peer, &id).await;
        }
        if accepted {
            let (id, ..) = publish(&mut peer).await;
            ack(&mut peer, &id, 7).await;
        }
        let outcome = publishing.await.unwrap();
        match outcome {
            Ok(ack) => assert_eq!((accepted, ack.sequence), (true, Some(7))),
            Err(error) => assert_eq!((accepted, error.code()), (false, "retries_exhausted")),
        }
    }
    let health = client.health();
    assert_eq!(health.borrow().delivery_rate, 0.5);
}

#[tokio::test]
async fn a_missing_answer_makes_the_connection_prove_itself_before_the_same_is_sent_again() {
    let server = Server::start().await;
    let mut options = options(&server);
    options.timeouts.ack = Duration::from_millis(20);
    let (client, _deliveries) = Client::start(options);
    let mut peer = greet(&server, 0).await;
    let publishing = publishing(&client, 1);
    let (_, _, first) = publish(&mut peer).await;
    assert_eq!(peer.read().await, (9, b"probe".to_vec()));
    peer.frame(10, b"probe").await;
    let (id, _, second) = publish(&mut peer).await;
    assert_eq!(first, second);
    ack(&mut peer, &id, 3).await;
    assert_eq!(publishing.await.unwrap().unwrap().sequence, Some(3));
}

#[tokio::test]
async fn sixteen_are_on_their_way_and_go_out_again_in_order_after_a_reconnect() {
    let server = Server::start().await;
    let (client, _deliveries) = Client::start(options(&server));
    let mut health = client.health();
    let mut waiting = Vec::new();
    for number in 0..20 {
        waiting.push(publishing(&client, number));
        health.wait_for(|health| health.queued == number as usize + 1).await.unwrap();
    }
    let mut peer = greet(&server, 0).await;
    for number in 0..16 {
        assert_eq!(publish(&mut peer).await.1, number.to_string());
    }
    // Answered before anything else of the queue: nothing but the sixteen was sent.
    peer.text(r#"{"type":"ping"}"#).await;
    assert_eq!(peer.read_text().await, r#"{"type":"pong"}"#);
    drop(peer);
    let mut peer = greet(&server, 0).await;
    for number in 0..20 {
        let (id, data, _) = publish(&mut peer).await;
        assert_eq!(data, number.to_string());
        ack(&mut peer, &id, number + 1).await;
    }
    for (number, publishing) in waiting.into_iter().enumerate() {
        assert_eq!(publishing.await.unwrap().unwrap().sequence, Some(number as u64 + 1));
    }
    health.wait_for(|health| health.queued == 0 && health.reconnections == 1).await.unwrap();
    assert_eq!(health.borrow().delivery_rate, 1.0);
}

#[tokio::test]
async fn a_full_queue_refuses_the_new_or_gives_up_the_oldest() {
    for (overflow, refused) in [(Overflow::Reject, 2), (Overflow::DropOldest, 0)] {
        let server = Server::start().await;
        let mut options = options(&server);
        options.queue = QueueOptions { messages_max: 2, overflow, ..QueueOptions::default() };
        let (client, _deliveries) = Client::start(options);
        let mut health = client.health();
        let mut waiting = Vec::new();
        for number in 0..2 {
            waiting.push(publishing(&client, number));
            health.wait_for(|health| health.queued == number as usize + 1).await.unwrap();
        }
        waiting.push(publishing(&client, 2));
        let full = waiting.remove(refused).await.unwrap();
        assert_eq!(full, Err(PublishError::QueueFull));
        let mut peer = greet(&server, 0).await;
        let left: Vec<u32> = (0..3).filter(|number| *number != refused as u32).collect();
        for number in left {
            let (id, data, _) = publish(&mut peer).await;
            assert_eq!(data, number.to_string());
            ack(&mut peer, &id, 1).await;
        }
        for publishing in waiting {
            publishing.await.unwrap().unwrap();
        }
    }
}
