//! Tokens: who is asked for one, when, and what a refusal leads to.

use std::sync::{Arc, Mutex};

use pulsewire_client::{
    Backoff, Client, Deliveries, Delivery, Ending, Options, Reason, State, Status, TokenError, TokenProvider,
    TokenReason,
};

use crate::server::Server;
use crate::{greet, options};

/// A callback that gives `t1`, `t2` and so on, and what it was asked for.
fn counting(server: &Server) -> (Options, Arc<Mutex<Vec<TokenReason>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let mut options = options(server);
    let told = asked.clone();
    options.token = TokenProvider::callback(move |reason| {
        let count = {
            let mut told = told.lock().unwrap();
            told.push(reason);
            told.len()
        };
        async move { Ok(Some(format!("t{count}"))) }
    });
    (options, asked)
}

async fn until(deliveries: &mut Deliveries, state: State) -> Option<Reason> {
    loop {
        match deliveries.next().await.expect("the client ended early") {
            Delivery::State { to, reason, .. } if to == state => return reason,
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_refused_token_is_replaced_twice_and_then_it_ends() {
    let server = Server::start().await;
    let (options, asked) = counting(&server);
    let (client, mut deliveries) = Client::start(options);
    server.refuse("401 Unauthorized").await;
    let mut peer = server.accept().await;
    assert!(peer.request.contains("\r\nAuthorization: Bearer t2\r\n"), "{}", peer.request);
    peer.read_text().await;
    peer.frame(8, &4501_u16.to_be_bytes()).await;
    server.refuse("401 Unauthorized").await;
    let reason = until(&mut deliveries, State::Closed).await;
    assert!(reason.is_some_and(|reason| reason.is_unauthorized()));
    assert_eq!(*asked.lock().unwrap(), [TokenReason::Initial, TokenReason::Rejected, TokenReason::Rejected]);
    let mut health = client.health();
    let ended = health.wait_for(|health| health.status == Status::Disconnected).await.unwrap().clone();
    assert_eq!(ended.ending, Some(Ending::Unauthorized));

    // Another token revives it.
    client.set_token(Some("fresh".to_owned())).await;
    let mut peer = greet(&server, 0).await;
    assert!(peer.request.contains("\r\nAuthorization: Bearer fresh\r\n"), "{}", peer.request);
    until(&mut deliveries, State::Live).await;

    // When that is refused, too, the callback is asked again.
    peer.frame(8, &4501_u16.to_be_bytes()).await;
    let peer = greet(&server, 0).await;
    assert!(peer.request.contains("\r\nAuthorization: Bearer t4\r\n"), "{}", peer.request);
    assert_eq!(asked.lock().unwrap().last(), Some(&TokenReason::Rejected));
}

#[tokio::test]
async fn a_fixed_token_that_is_refused_ends_it() {
    let server = Server::start().await;
    let (client, mut deliveries) = Client::start(options(&server));
    server.refuse("401 Unauthorized").await;
    assert_eq!(until(&mut deliveries, State::Closed).await, Some(Reason::Refused(401)));
    client.set_token(Some("other".to_owned())).await;
    let peer = greet(&server, 0).await;
    assert!(peer.request.contains("\r\nAuthorization: Bearer other\r\n"), "{}", peer.request);
}

/// K12.
#[tokio::test]
async fn a_callback_that_fails_is_asked_once_an_attempt_and_one_that_says_nobody_ends_it() {
    let server = Server::start().await;
    let mut options = options(&server);
    let calls = Arc::new(Mutex::new(0));
    let counted = calls.clone();
    options.token = TokenProvider::callback(move |_| {
        let call = {
            let mut calls = counted.lock().unwrap();
            *calls += 1;
            *calls
        };
        async move {
            match call {
                1..=3 => Err(TokenError::Failed("no service".to_owned())),
                _ => Err(TokenError::Unauthorized("logged out".to_owned())),
            }
        }
    });
    let (_client, mut deliveries) = Client::start(options);
    for attempt in 1..=3 {
        let reason = until(&mut deliveries, State::Waiting).await;
        assert_eq!(reason, Some(Reason::Token("no service".to_owned())), "{attempt}");
    }
    let reason = until(&mut deliveries, State::Closed).await;
    assert_eq!(reason, Some(Reason::Unauthorized("logged out".to_owned())));
    assert_eq!(*calls.lock().unwrap(), 4);
}

/// K12.
#[tokio::test]
async fn a_callback_that_hangs_is_given_up_after_ten_seconds() {
    tokio::time::pause();
    let mut options = Options::new(pulsewire_client::Endpoint::parse("ws://127.0.0.1:9").unwrap());
    options.backoff = Backoff::default();
    options.token = TokenProvider::callback(|_| std::future::pending());
    let begun = tokio::time::Instant::now();
    let (_client, mut deliveries) = Client::start(options);
    assert_eq!(until(&mut deliveries, State::Waiting).await, Some(Reason::Timeout));
    assert_eq!(begun.elapsed().as_secs(), 10);
}

#[tokio::test]
async fn a_token_that_runs_out_is_renewed_on_the_connection() {
    let server = Server::start().await;
    let (options, asked) = counting(&server);
    let (_client, _deliveries) = Client::start(options);
    let mut peer = greet(&server, 0).await;
    peer.text(r#"{"type":"token_expiring","expires_in_ms":60000}"#).await;
    let refresh = peer.read_text().await;
    assert!(refresh.starts_with(r#"{"type":"refresh","id":""#), "{refresh}");
    assert!(refresh.ends_with(r#""data":{"token":"t2"}}"#), "{refresh}");
    // The new one runs out soon, too: after 75 to 85 % of what is left the next is asked for.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    peer.text(&format!(r#"{{"type":"refreshed","id":"3","expires_at":{}}}"#, now + 200)).await;
    let refresh = peer.read_text().await;
    assert!(refresh.ends_with(r#""data":{"token":"t3"}}"#), "{refresh}");
    let expected = [TokenReason::Initial, TokenReason::Expiring, TokenReason::Expiring];
    assert_eq!(*asked.lock().unwrap(), expected);
}

#[tokio::test]
async fn another_token_goes_out_at_once_on_a_connection_that_lives() {
    let server = Server::start().await;
    let (client, mut deliveries) = Client::start(options(&server));
    let mut peer = greet(&server, 0).await;
    until(&mut deliveries, State::Live).await;
    client.set_token(Some("next".to_owned())).await;
    let refresh = peer.read_text().await;
    assert!(refresh.ends_with(r#""data":{"token":"next"}}"#), "{refresh}");
    peer.text(r#"{"type":"token_expiring","expires_in_ms":60000}"#).await;
    peer.text(r#"{"type":"ping"}"#).await;
    assert_eq!(peer.read_text().await, r#"{"type":"pong"}"#, "a fixed token cannot be renewed");
    drop(peer);
    let peer = greet(&server, 0).await;
    assert!(peer.request.contains("\r\nAuthorization: Bearer next\r\n"), "{}", peer.request);
}

#[tokio::test]
async fn logging_out_says_goodbye_and_fails_what_waits() {
    let server = Server::start().await;
    let (client, mut deliveries) = Client::start(options(&server));
    let mut peer = greet(&server, 0).await;
    until(&mut deliveries, State::Live).await;
    let publisher = client.clone();
    let publishing = tokio::spawn(async move { publisher.publish(crate::event("1")).await });
    peer.read_text().await;
    let logout = client.clone();
    let logout = tokio::spawn(async move { logout.set_token(None).await });
    assert_eq!(peer.read().await, (8, 1000_u16.to_be_bytes().to_vec()));
    peer.frame(8, &1000_u16.to_be_bytes()).await;
    logout.await.unwrap();
    assert_eq!(publishing.await.unwrap().unwrap_err().code(), "disconnected");
    assert_eq!(until(&mut deliveries, State::Closed).await, Some(Reason::Client));
}

/// Welcomes the client with a ticket for so long.
async fn welcome_with_ticket(server: &Server, ticket: &str, lasts_ms: u64) -> crate::server::Peer {
    let mut peer = server.accept().await;
    peer.read_text().await;
    let welcome = r#"{"type":"connected","session":"s1","resumed":false,"user":"ada","heartbeat_ms":30000"#;
    peer.text(&format!(r#"{welcome},"ticket":"{ticket}","ticket_ms":{lasts_ms}}}"#)).await;
    peer
}

fn shows(peer: &crate::server::Peer, credential: &str) {
    let line = format!("\r\nAuthorization: Bearer {credential}\r\n");
    assert!(peer.request.contains(&line), "{credential}: {}", peer.request);
}

#[tokio::test]
async fn a_ticket_spares_the_callback_until_it_is_refused_and_then_the_callback_is_asked_once() {
    let server = Server::start().await;
    let (options, asked) = counting(&server);
    let (_client, mut deliveries) = Client::start(options);
    shows(&welcome_with_ticket(&server, "pwt1.one", 300_000).await, "t1");
    until(&mut deliveries, State::Waiting).await;
    shows(&welcome_with_ticket(&server, "pwt1.two", 300_000).await, "pwt1.one");
    assert_eq!(asked.lock().unwrap().len(), 1);
    until(&mut deliveries, State::Waiting).await;
    server.refuse("401 Unauthorized").await;
    shows(&welcome_with_ticket(&server, "pwt1.three", 300_000).await, "t2");
    until(&mut deliveries, State::Live).await;
    assert_eq!(*asked.lock().unwrap(), [TokenReason::Initial, TokenReason::Initial]);
}

#[tokio::test]
async fn a_fixed_token_outlives_a_refused_ticket() {
    let server = Server::start().await;
    let mut options = options(&server);
    options.token = TokenProvider::Fixed("fixed".to_owned());
    let (_client, mut deliveries) = Client::start(options);
    shows(&welcome_with_ticket(&server, "pwt1.one", 300_000).await, "fixed");
    until(&mut deliveries, State::Waiting).await;
    // Closed before the welcome is refused as well.
    let mut peer = server.accept().await;
    shows(&peer, "pwt1.one");
    peer.read_text().await;
    peer.frame(8, &4501_u16.to_be_bytes()).await;
    shows(&welcome_with_ticket(&server, "pwt1.two", 300_000).await, "fixed");
}

#[tokio::test]
async fn a_ticket_that_has_ended_or_whose_token_was_replaced_is_not_shown() {
    let server = Server::start().await;
    let (options, asked) = counting(&server);
    let (client, mut deliveries) = Client::start(options);
    shows(&welcome_with_ticket(&server, "pwt1.one", 0).await, "t1");
    until(&mut deliveries, State::Waiting).await;
    let peer = welcome_with_ticket(&server, "pwt1.two", 300_000).await;
    shows(&peer, "t2");
    until(&mut deliveries, State::Live).await;
    client.set_token(Some("mine".to_owned())).await;
    let mut peer = peer;
    let refresh = peer.read_text().await;
    assert!(refresh.ends_with(r#""data":{"token":"mine"}}"#), "{refresh}");
    drop(peer);
    until(&mut deliveries, State::Waiting).await;
    let mut peer = welcome_with_ticket(&server, "pwt1.three", 300_000).await;
    shows(&peer, "mine");
    until(&mut deliveries, State::Live).await;
    // What ends a connection that lives is about the token that the ticket was made of.
    peer.frame(8, &4501_u16.to_be_bytes()).await;
    shows(&welcome_with_ticket(&server, "pwt1.four", 300_000).await, "t3");
    assert_eq!(asked.lock().unwrap().last(), Some(&TokenReason::Rejected));
}

#[tokio::test]
async fn a_ticket_that_would_break_its_header_is_not_kept() {
    let server = Server::start().await;
    let (options, _asked) = counting(&server);
    let (_client, mut deliveries) = Client::start(options);
    welcome_with_ticket(&server, r"pwt1.one\r\nX: y", 300_000).await;
    until(&mut deliveries, State::Waiting).await;
    shows(&welcome_with_ticket(&server, "pwt1.two", 300_000).await, "t2");
}
