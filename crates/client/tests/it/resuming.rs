//! What is asked for after a break, and what the application hears of it.

use pulsewire_client::{Client, Start};

use crate::server::{Peer, Server};
use crate::{heard, options};

/// Greets, and says that the subscription begins there.
async fn greet(server: &Server, epoch: &str, position: u64) -> Peer {
    let mut peer = server.accept().await;
    peer.hello = peer.read_text().await;
    peer.text(r#"{"type":"connected","id":"1","session":"S1"}"#).await;
    peer.text(&format!(
        r#"{{"type":"subscribed","channels":["run:1"],"positions":{{"run:1":{{"epoch":"{epoch}","sequence":{position}}}}}}}"#
    ))
    .await;
    peer
}

fn critical(sequence: u64, previous: u64) -> String {
    format!(
        r#"{{"type":"event","channel":"run:1","sequence":{sequence},"event":"T","data":1,"timestamp":1,"critical":true,"previous":{previous}}}"#
    )
}

#[tokio::test]
async fn a_broken_critical_replay_is_asked_for_again_in_the_same_way() {
    let server = Server::start().await;
    let mut options = options(&server);
    options.channels = vec![("run:1".to_owned(), Start::Critical)];
    let (_client, mut deliveries) = Client::start(options);
    let asked = r#"{"channel":"run:1","replay":"critical"}"#;
    let mut peer = greet(&server, "e", 0).await;
    assert!(peer.hello.contains(asked), "{}", peer.hello);
    peer.text(&critical(3, 0)).await;
    peer.text(&critical(9, 3)).await;
    assert_eq!(heard(&mut deliveries, 2).await, ["3 replayed", "9 replayed"]);
    drop(peer);
    // By position it would be sent ordinary events, and miss critical ones that ordinary ones no longer reach.
    let mut peer = greet(&server, "e", 0).await;
    assert!(peer.hello.contains(asked), "{}", peer.hello);
    peer.text(r#"{"type":"gap","channel":"run:1","from":1,"to":2,"reason":"trimmed"}"#).await;
    for (sequence, previous) in [(3, 2), (9, 3), (14, 9)] {
        peer.text(&critical(sequence, previous)).await;
    }
    peer.text(r#"{"type":"replay_end","channel":"run:1","sequence":20}"#).await;
    peer.text(r#"{"type":"event","channel":"run:1","sequence":21,"event":"T","data":1,"timestamp":1}"#).await;
    assert_eq!(heard(&mut deliveries, 2).await, ["connection lost (1006)", "14 replayed", "21"]);
    drop(peer);
    let peer = greet(&server, "e", 21).await;
    assert!(peer.hello.contains(r#""since":{"epoch":"e","sequence":21}"#), "{}", peer.hello);
}

#[tokio::test]
async fn another_history_is_told_once_even_if_the_connection_breaks_before_the_server_says_it() {
    let server = Server::start().await;
    let (_client, mut deliveries) = Client::start(options(&server));
    let mut peer = greet(&server, "e", 7).await;
    peer.text(&crate::publication(8)).await;
    assert_eq!(heard(&mut deliveries, 1).await, ["8"]);
    drop(peer);
    // The server would say `reset` next.
    drop(greet(&server, "f", 20).await);
    let mut peer = greet(&server, "f", 20).await;
    assert!(peer.hello.contains(r#""since":{"epoch":"f","sequence":20}"#), "{}", peer.hello);
    peer.text(&crate::publication(21)).await;
    let lost = "connection lost (1006)";
    assert_eq!(heard(&mut deliveries, 1).await, [lost, "reset f", lost, "21 replayed"]);
    drop(peer);
    let mut peer = greet(&server, "g", 5).await;
    peer.text(r#"{"type":"reset","channel":"run:1","epoch":"g","sequence":5}"#).await;
    peer.text(&crate::publication(6)).await;
    assert_eq!(heard(&mut deliveries, 1).await, [lost, "reset g", "6 replayed"]);
}
