//! What document 004 says of errors, variables and limits, in its own words.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

use pulsewire::auth::{NewToken, Signer};
use pulsewire::{Actions, ChannelPattern, Role};
use pulsewire_edge::clock;
use serde_json::{Value, json};

use crate::child::{Folder, Process, pulsewire};
use crate::harness::{Server, Socket, handshake};
use crate::support::{SECRET, World};

fn subscribe(channels: &Value) -> Value {
    json!({ "type": "subscribe", "data": { "channels": channels } })
}

#[track_caller]
fn check(answer: &Value, message: &str) {
    assert_eq!((&answer["type"], &answer["message"]), (&json!("error"), &json!(message)), "{answer}");
}

/// Rows 004-20 and 004-52 to 004-55: the texts are exact, the codes come beside them.
#[test]
fn the_errors_have_the_documents_words() {
    let server = Server::start("[limits]\nmessages_per_minute = 5");
    let mut stranger = server.open("/ws/metrics", "");
    check(&stranger.ask(&json!({ "type": "connect", "token": "no token" })), "Invalid authentication token");
    let bearer = format!("Authorization: Bearer {}\r\n", server.token("ann", Role::User));
    let mut socket = server.open("/ws/metrics", &bearer);
    assert_eq!(socket.json()["type"], "welcome");
    check(&socket.ask(&subscribe(&json!(["nobody"]))), "Invalid subscription: unknown channel");
    let tags: serde_json::Map<String, Value> = (0..17).map(|tag| (format!("t{tag}"), json!("x"))).collect();
    let filtered = json!({ "type": "subscribe", "data": { "channels": ["system.metrics"], "tags": tags } });
    let refused = socket.ask(&filtered);
    let message = refused["message"].as_str().unwrap_or_default();
    assert!(message.starts_with("Subscription error: ") && message.len() > 20, "{refused}");
    for _ in 0..3 {
        assert_eq!(socket.ask(&json!({ "type": "ping", "timestamp": 1 }))["type"], "pong");
    }
    check(&socket.ask(&json!({ "type": "ping", "timestamp": 1 })), "Rate limit exceeded");
}

/// Row 004-50: a token without an end, or without a subject, is none.
#[test]
fn a_token_must_have_a_subject_and_an_end() {
    let server = Server::start("");
    let sign = |claims: Value| {
        let key = jsonwebtoken::EncodingKey::from_secret(crate::harness::SECRET.as_bytes());
        jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).unwrap()
    };
    let end = clock::now().wall_ms / 1_000 + 600;
    for (claims, status) in [
        (json!({ "sub": "ann", "exp": end }), 101),
        (json!({ "sub": "ann" }), 401),
        (json!({ "exp": end }), 401),
    ] {
        let mut socket = server.connect();
        socket.send(handshake(&format!("/ws/metrics?token={}", sign(claims.clone())), "").as_bytes());
        assert_eq!(socket.head().status, status, "{claims}");
    }
}

/// Rows 004-62 to 004-64 and 004-66 to 004-68: each variable is in force in a running server.
#[test]
fn the_variables_are_in_force() {
    let folder = Folder::new();
    let file = folder.write("key", SECRET).display().to_string();
    let world = World::empty().env("JWT_SECRET_KEY", SECRET).env("JWT_ALGORITHM", "HS512");
    let read = |path: &Path| std::fs::read_to_string(path);
    let token = NewToken {
        sub: "ann".to_owned(),
        role: Role::User,
        ttl: Duration::from_secs(600),
        channels: vec![ChannelPattern::parse("*").unwrap()],
        actions: Actions::ALL,
    };
    let token = Signer::new(&world.settings(), &read).unwrap().sign(&token, clock::now().wall_ms).unwrap();
    for (name, value) in [("JWT_SECRET_KEY", SECRET), ("JWT_SECRET_KEY_FILE", &file)] {
        // An address of this test's own, so that nobody takes the port meanwhile.
        let free = TcpListener::bind("127.0.0.9:0").unwrap().local_addr().unwrap();
        let mut command = pulsewire();
        command.envs([
            ("WS_HOST", "127.0.0.9"),
            ("WS_PORT", &free.port().to_string()),
            ("WS_HEARTBEAT_INTERVAL", "1"),
            ("PULSEWIRE_HEARTBEAT_TIMEOUT", "1s"),
            ("JWT_ALGORITHM", "HS512"),
            ("RATE_LIMIT_MAX_MESSAGES_PER_MINUTE", "2"),
            ("PULSEWIRE_STORE_URL", "memory"),
            ("PULSEWIRE_COLLECTOR_ENABLED", "false"),
            (name, value),
        ]);
        let process = Process::serve_as_told(command, &[]);
        assert_eq!(process.address, free);
        check_variables(process.address, &token);
    }
}

fn check_variables(address: SocketAddr, token: &str) {
    let mut socket = Socket::connect(address);
    socket.send(handshake(&format!("/ws/metrics?token={token}"), "").as_bytes());
    assert_eq!(socket.head().status, 101, "the key and the algorithm");
    assert_eq!(socket.json()["type"], "welcome");
    let mut answers = Vec::new();
    for timestamp in 0..3 {
        socket.say(&json!({ "type": "ping", "timestamp": timestamp }));
        // A heartbeat may come between.
        answers.extend(std::iter::repeat_with(|| socket.json()).find(|answer| answer["type"] != "ping"));
    }
    assert_eq!((&answers[0]["type"], &answers[1]["type"]), (&json!("pong"), &json!("pong")));
    check(&answers[2], "Rate limit exceeded");
    // The default would be thirty seconds, which is more than this waits.
    let mut socket = Socket::connect(address);
    socket.send(handshake(&format!("/ws/metrics?token={token}"), "").as_bytes());
    assert_eq!((socket.head().status, &socket.json()["type"]), (101, &json!("welcome")));
    assert_eq!(socket.json()["type"], "ping");
}
