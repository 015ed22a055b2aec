//! The client against a scripted server: what it says, what it hands on, and when it comes back.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod connection;
mod machine;
mod metrics;
mod publishes;
mod resuming;
mod server;
mod tokens;

use std::time::Duration;

use pulsewire_client::{
    Backoff, Client, Deliveries, Delivery, Endpoint, Http, NewEvent, Options, PublishError, Reason, Start,
    State, Trust,
};
use serde_json::value::RawValue;

use server::{Peer, Server};

fn options(server: &Server) -> Options {
    let mut options = Options::new(Endpoint::parse(&server.url()).unwrap());
    options.token = "secret".to_owned().into();
    options.channels = vec![("run:1".to_owned(), Start::Live)];
    options.backoff = Backoff { min: Duration::ZERO, max: Duration::ZERO, factor: 1.0 };
    options
}

fn event(data: &str) -> NewEvent {
    NewEvent {
        channel: "run:1".to_owned(),
        event_type: "T".to_owned(),
        data: RawValue::from_string(data.to_owned()).unwrap(),
        id: None,
        key: None,
        tags: Default::default(),
        critical: None,
    }
}

/// Everything delivered until `done` events came, in short words.
async fn heard(deliveries: &mut Deliveries, done: usize) -> Vec<String> {
    let (mut words, mut events) = (Vec::new(), 0);
    while events < done {
        match deliveries.next().await.expect("the client ended early") {
            Delivery::Event(event) => {
                events += 1;
                let replayed = if event.replayed { " replayed" } else { "" };
                words.push(format!("{}{replayed}", event.sequence.unwrap_or_default()));
            }
            Delivery::Gap { from, to, reason, .. } => words.push(format!("gap {from}-{to} {reason}")),
            Delivery::Reset { position, .. } => words.push(format!("reset {}", position.epoch)),
            Delivery::State { to: State::Waiting, reason: Some(reason), .. } => {
                words.push(reason.to_string());
            }
            _ => {}
        }
    }
    words
}

async fn greet(server: &Server, position: u64) -> Peer {
    let mut peer = server.accept().await;
    let hello = peer.read_text().await;
    assert!(hello.contains(r#""type":"connect""#), "{hello}");
    peer.hello = hello;
    peer.text(r#"{"type":"welcome","client_id":"S1","timestamp":1.0}"#).await;
    peer.text(r#"{"type":"connected","id":"1","session":"S1"}"#).await;
    let subscribed = format!(
        r#"{{"type":"subscribed","channels":["run:1"],"positions":{{"run:1":{{"epoch":"e","sequence":{position}}}}}}}"#
    );
    peer.text(&subscribed).await;
    peer
}

fn publication(sequence: u64) -> String {
    format!(
        r#"{{"type":"event","channel":"run:1","sequence":{sequence},"event":"T","data":{sequence},"timestamp":1}}"#
    )
}

#[tokio::test]
async fn events_arrive_once_and_the_token_travels_in_its_header() {
    let server = Server::start().await;
    let (_client, mut deliveries) = Client::start(options(&server));
    let mut peer = greet(&server, 4).await;
    assert!(peer.request.contains("\r\nAuthorization: Bearer secret\r\n"));
    for sequence in [5, 5, 6, 4, 7] {
        peer.text(&publication(sequence)).await;
    }
    assert_eq!(heard(&mut deliveries, 3).await, ["5", "6", "7"]);
}

#[tokio::test]
async fn a_lost_connection_resumes_session_and_position() {
    let server = Server::start().await;
    let (_client, mut deliveries) = Client::start(options(&server));
    let mut peer = greet(&server, 4).await;
    peer.text(&publication(5)).await;
    assert_eq!(heard(&mut deliveries, 1).await, ["5"]);
    drop(peer);
    let mut peer = greet(&server, 7).await;
    assert!(peer.hello.contains(r#""session":"S1""#), "{}", peer.hello);
    assert!(peer.hello.contains(r#""since":{"epoch":"e","sequence":5}"#), "{}", peer.hello);
    for sequence in [6, 7] {
        peer.text(&publication(sequence)).await;
    }
    peer.text(r#"{"type":"replay_end","channel":"run:1","sequence":7}"#).await;
    peer.text(&publication(8)).await;
    assert_eq!(heard(&mut deliveries, 3).await, ["connection lost (1006)", "6 replayed", "7 replayed", "8"]);
}

#[tokio::test]
async fn a_hole_is_asked_for_again_before_it_is_told() {
    let server = Server::start().await;
    let (_client, mut deliveries) = Client::start(options(&server));
    let mut peer = greet(&server, 4).await;
    peer.text(&publication(7)).await;
    assert!(peer.read_text().await.contains(r#""type":"unsubscribe""#));
    let asked = peer.read_text().await;
    assert!(asked.contains(r#""since":{"epoch":"e","sequence":4}"#), "{asked}");
    peer.text(&publication(8)).await;
    peer.text(
        r#"{"type":"subscribed","channels":["run:1"],"positions":{"run:1":{"epoch":"e","sequence":8}}}"#,
    )
    .await;
    for sequence in [7, 8] {
        peer.text(&publication(sequence)).await;
    }
    assert_eq!(heard(&mut deliveries, 2).await, ["gap 5-6 missed", "7", "8"]);
}

#[tokio::test]
async fn announced_gaps_and_resets_are_handed_on() {
    let server = Server::start().await;
    let (_client, mut deliveries) = Client::start(options(&server));
    let mut peer = greet(&server, 4).await;
    peer.text(r#"{"type":"gap","channel":"run:1","from":5,"to":9,"reason":"trimmed"}"#).await;
    peer.text(&publication(10)).await;
    peer.text(r#"{"type":"reset","channel":"run:1","epoch":"f","sequence":0}"#).await;
    peer.text(&publication(1)).await;
    assert_eq!(heard(&mut deliveries, 2).await, ["gap 5-9 trimmed", "10", "reset f", "1"]);
}

#[tokio::test]
async fn pings_of_both_kinds_are_answered() {
    let server = Server::start().await;
    let (_client, _deliveries) = Client::start(options(&server));
    let mut peer = greet(&server, 4).await;
    peer.frame(9, b"nonce").await;
    assert_eq!(peer.read().await, (10, b"nonce".to_vec()));
    peer.text(r#"{"type":"ping","timestamp":1699459200.5}"#).await;
    assert_eq!(peer.read_text().await, r#"{"type":"pong","timestamp":1699459200.5}"#);
}

#[tokio::test]
async fn a_publish_without_answer_is_sent_again_with_the_same_id() {
    let server = Server::start().await;
    let (client, _deliveries) = Client::start(options(&server));
    let publishing = tokio::spawn(async move { client.publish(event("1")).await });
    let mut peer = greet(&server, 0).await;
    let first = peer.read_text().await;
    drop(peer);
    let mut peer = greet(&server, 0).await;
    assert_eq!(peer.read_text().await, first);
    assert!(first.contains(r#""id":""#), "{first}");
    let request = serde_json::from_str::<serde_json::Value>(&first).unwrap()["id"].to_string();
    peer.text(&format!(
        r#"{{"type":"ack","id":{request},"results":[{{"sequence":1,"epoch":"e","duplicate":true}}]}}"#
    ))
    .await;
    let ack = publishing.await.unwrap().unwrap();
    assert_eq!((ack.sequence, ack.duplicate), (Some(1), true));
}

#[tokio::test]
async fn a_refused_publish_says_why() {
    let server = Server::start().await;
    let (client, _deliveries) = Client::start(options(&server));
    let publishing = tokio::spawn(async move { client.publish(event("1")).await });
    let mut peer = greet(&server, 0).await;
    let request =
        serde_json::from_str::<serde_json::Value>(&peer.read_text().await).unwrap()["id"].to_string();
    peer.text(&format!(
        r#"{{"type":"error","id":{request},"code":"forbidden","message":"Forbidden","retryable":false}}"#
    ))
    .await;
    let Err(PublishError::Rejected(error)) = publishing.await.unwrap() else { panic!("not refused") };
    assert_eq!((error.code.as_str(), error.retryable), ("forbidden", false));
}

#[tokio::test]
async fn a_terminal_close_ends_the_client_and_its_publishes() {
    let server = Server::start().await;
    let (client, mut deliveries) = Client::start(options(&server));
    let mut peer = greet(&server, 0).await;
    let publishing = tokio::spawn(async move { client.publish(event("1")).await });
    peer.read_text().await;
    peer.frame(8, &[&4501_u16.to_be_bytes()[..], b"invalid_token"].concat()).await;
    let mut last = None;
    while let Some(delivery) = deliveries.next().await {
        if let Delivery::State { to: State::Closed, reason, .. } = delivery {
            last = reason;
        }
    }
    assert!(last.as_ref().is_some_and(Reason::is_unauthorized), "{last:?}");
    assert_eq!(publishing.await.unwrap(), Err(PublishError::Closed));
}

#[tokio::test]
async fn the_wait_after_a_drain_is_the_servers() {
    let server = Server::start().await;
    let (_client, mut deliveries) = Client::start(options(&server));
    let mut peer = greet(&server, 0).await;
    peer.text(r#"{"type":"reconnect","retry_ms":123456,"reason":"draining","code":4001}"#).await;
    peer.frame(8, &4001_u16.to_be_bytes()).await;
    loop {
        if let Delivery::State { to: State::Waiting, retry_in, .. } = deliveries.next().await.unwrap() {
            break assert_eq!(retry_in, Some(Duration::from_millis(123_456)));
        }
    }
}

#[tokio::test]
async fn a_refused_token_ends_the_client_and_a_full_server_does_not() {
    for (answer, end) in [("401 Unauthorized", true), ("503 Full\r\nRetry-After: 77", false)] {
        let server = Server::start().await;
        let (_client, mut deliveries) = Client::start(options(&server));
        server.refuse(answer).await;
        let outcome = loop {
            match deliveries.next().await {
                Some(Delivery::State { to: State::Waiting, retry_in, .. }) => break retry_in,
                Some(Delivery::State { to: State::Closed, .. }) | None => break None,
                Some(_) => {}
            }
        };
        assert_eq!(outcome, (!end).then_some(Duration::from_secs(77)), "{answer}");
    }
}

#[tokio::test]
async fn a_mute_server_is_given_up_after_five_seconds() {
    let server = Server::start().await;
    let (_client, mut deliveries) = Client::start(options(&server));
    let _mute = server.accept().await;
    tokio::time::pause();
    let reason = loop {
        if let Delivery::State { to: State::Waiting, reason, .. } = deliveries.next().await.unwrap() {
            break reason;
        }
    };
    assert_eq!(reason, Some(Reason::Timeout));
}

#[tokio::test]
async fn a_server_that_falls_silent_is_probed_and_then_left() {
    let server = Server::start().await;
    let (_client, mut deliveries) = Client::start(options(&server));
    let mut peer = greet(&server, 0).await;
    let mut states = Vec::new();
    while states.last() != Some(&State::Live) {
        if let Delivery::State { to, .. } = deliveries.next().await.unwrap() {
            states.push(to);
        }
    }
    tokio::time::pause();
    while !matches!(states.last(), Some(State::Waiting)) {
        if let Delivery::State { to, .. } = deliveries.next().await.unwrap() {
            states.push(to);
        }
    }
    assert_eq!(states[states.len() - 2], State::Probing);
    // It has measured the round trip in vain before.
    assert!(peer.read_text().await.starts_with(r#"{"type":"ping","id":""#));
    assert_eq!(peer.read().await, (9, b"probe".to_vec()));
}

#[tokio::test]
async fn closing_says_goodbye() {
    let server = Server::start().await;
    let (client, mut deliveries) = Client::start(options(&server));
    let mut peer = greet(&server, 0).await;
    let closing = tokio::spawn(async move { client.close().await });
    assert_eq!(peer.read().await, (8, 1000_u16.to_be_bytes().to_vec()));
    peer.frame(8, &1000_u16.to_be_bytes()).await;
    while deliveries.next().await.is_some() {}
    closing.await.unwrap();
}

#[tokio::test]
async fn an_http_connection_is_kept_and_replaced_when_it_is_gone() {
    let server = Server::start().await;
    let mut http = Http::new(Endpoint::parse(&server.url()).unwrap(), Trust::default(), Some("t".to_owned()));
    let asking = tokio::spawn(async move {
        let mut statuses = Vec::new();
        for _ in 0..3 {
            statuses.push(http.request("POST", "/api/publish", b"[]").await.unwrap().status);
        }
        statuses
    });
    let first = server.answer_http(2, "200 OK").await;
    drop(first);
    server.answer_http(1, "201 Created").await;
    assert_eq!(asking.await.unwrap(), [200, 200, 201]);
}

#[tokio::test]
async fn a_cursor_waits_for_the_subscription_and_presence_is_told_as_differences() {
    let server = Server::start().await;
    let mut options = options(&server);
    options.narrow.presence = pulsewire_client::Attend::Join;
    let (client, mut deliveries) = Client::start(options);
    let cursor = |json: &str| RawValue::from_string(json.to_owned()).unwrap();
    client.place_cursor("run:1", cursor("1")).await.unwrap();
    client.place_cursor("run:1", cursor("2")).await.unwrap();
    let mut peer = greet(&server, 0).await;
    assert!(peer.hello.contains(r#"{"channel":"run:1","presence":true}"#), "{}", peer.hello);
    assert_eq!(peer.read_text().await, r#"{"type":"presence","channel":"run:1","cursor":2}"#);
    let told = |version, change: &str| {
        format!(r#"{{"type":"presence","channel":"run:1","node":"n","version":{version},{change}}}"#)
    };
    let ada = r#"{"user":"ada","sessions":1,"since":1}"#;
    peer.text(&told(1, &format!(r#""members":[{ada}]"#))).await;
    peer.text(&told(3, r#""left":["ada"]"#)).await;
    assert_eq!(peer.read_text().await, r#"{"type":"presence","channel":"run:1"}"#);
    peer.text(&told(3, r#""members":[]"#)).await;
    let mut heard = Vec::new();
    while heard.len() < 2 {
        if let Delivery::Presence(update) = deliveries.next().await.unwrap() {
            heard.push((update.first, update.joined.len(), update.left.len()));
        }
    }
    assert_eq!(heard, [(true, 1, 0), (false, 0, 1)]);
}
