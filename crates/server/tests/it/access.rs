//! Row by row through §5.2 of the fault catalogue: who gets in, over real connections.
//!
//! What makes a token good is proven without a server in `auth`; here are the carriers, the answers,
//! the counters, and what happens to a connection whose token ends.

use std::fmt::Write as _;
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use pulsewire::auth::{Actions, KeyId, Role, api_key};
use pulsewire_edge::clock;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, PublicKeyData as _};
use serde_json::{Value, json};

use crate::child::Folder;
use crate::harness::{Answer, SECRET, Server, bearer, handshake};

/// Tries a handshake; returns the answer to it.
fn knock(server: &Server, path: &str, headers: &str) -> Answer {
    let mut socket = server.connect();
    socket.send(handshake(path, headers).as_bytes());
    let mut answer = socket.head();
    if answer.status != 101 {
        answer.body = socket.rest();
    }
    answer
}

/// A token of any header and claims, signed with any bytes under HS256.
fn hs256(header: &Value, claims: &Value, key: &[u8]) -> String {
    let message = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(header.to_string()),
        URL_SAFE_NO_PAD.encode(claims.to_string())
    );
    let signature =
        crypto::sign(message.as_bytes(), &EncodingKey::from_secret(key), Algorithm::HS256).unwrap();
    format!("{message}.{signature}")
}

fn claims() -> Value {
    json!({"sub": "ann", "exp": clock::now().wall_ms / 1_000 + 3_600})
}

fn failures(server: &Server, reason: &str) -> f64 {
    server.metric(&format!("websocket_auth_failures_total{{reason=\"{reason}\"}}"))
}

/// Puts a token into a path and headers.
type Put = fn(&str) -> (String, String);

/// Row A1: every carrier, every kind of wrong token, every count.
#[test]
fn a_wrong_token_is_refused_by_every_carrier_and_counted_by_its_reason() {
    let server = Server::start("[auth]\ncookie = \"pw\"\nattempts_per_minute = 0");
    let carriers: [(&str, Put); 4] = [
        ("header", |token| ("/ws".into(), bearer(token))),
        ("subprotocol", |token| {
            ("/ws".into(), format!("Sec-WebSocket-Protocol: pulsewire.json, bearer.{token}\r\n"))
        }),
        ("query", |token| (format!("/ws?token={token}"), String::new())),
        ("cookie", |token| ("/ws".into(), format!("Cookie: other=1; pw={token}\r\n"))),
    ];
    let good = server.token("ann", Role::User);
    let tokens = [
        ("garbage".to_owned(), "invalid_token"),
        (
            hs256(&json!({"alg": "HS256"}), &claims(), b"another key of more than thirty-two bytes"),
            "invalid_token",
        ),
        (server.expired_token("ann"), "expired_token"),
    ];
    for (carrier, put) in carriers {
        for (token, reason) in &tokens {
            let before = failures(&server, reason);
            let (path, headers) = put(token);
            let answer = knock(&server, &path, &headers);
            assert_eq!(answer.status, 401, "{carrier} {reason}");
            assert_eq!(answer.headers["www-authenticate"], "Bearer");
            assert_eq!(answer.json()["message"], "Invalid authentication token", "{carrier} {reason}");
            assert_eq!(failures(&server, reason), before + 1.0, "{carrier} {reason}");
        }
        let (path, headers) = put(&good);
        assert_eq!(knock(&server, &path, &headers).status, 101, "{carrier}");
        // The same token twice is one token; two tokens are refused.
        assert_eq!(knock(&server, &path, &format!("{headers}{}", bearer(&good))).status, 101, "{carrier}");
        let other = server.token("bob", Role::User);
        let doubled = knock(&server, &format!("/ws?token={other}"), &put(&good).1);
        assert_eq!(doubled.status, if carrier == "query" { 101 } else { 401 }, "{carrier}");
    }

    for (token, code, close, reason) in [
        (json!(null), "unauthorized", 4501, "missing_token"),
        (json!("garbage"), "invalid_token", 4501, "invalid_token"),
        (json!(tokens[1].0), "invalid_token", 4501, "invalid_token"),
        (json!(tokens[2].0), "token_expired", 4002, "expired_token"),
    ] {
        let before = failures(&server, reason);
        let mut socket = server.open("/ws", "");
        let mut connect = json!({"type": "connect", "id": 1});
        if !token.is_null() {
            connect["token"] = token;
        }
        let answer = socket.ask(&connect);
        assert_eq!((&answer["code"], &answer["id"]), (&json!(code), &json!(1)), "{answer}");
        assert_eq!(answer["message"], "Invalid authentication token");
        assert_eq!(socket.closed_with(), close, "{reason}");
        assert_eq!(failures(&server, reason), before + 1.0, "{reason}");
    }
    let missing = server.http("POST", "/api/publish", "", "{}");
    assert_eq!((missing.status, &missing.json()["code"]), (401, &json!("unauthorized")));
    assert_eq!(failures(&server, "missing_token"), 2.0);
}

/// Rows A2, A4, A7 and A8: headers and claims that are refused whatever the signature.
#[test]
fn a_token_with_an_odd_header_or_claim_is_refused() {
    let server = Server::start("[auth]\nattempts_per_minute = 0");
    let header = |name: &str, value: Value| {
        let mut header = json!({"alg": "HS256"});
        header[name] = value;
        hs256(&header, &claims(), SECRET.as_bytes())
    };
    let claim = |name: &str, value: Value| {
        let mut claims = claims();
        claims[name] = value;
        hs256(&json!({"alg": "HS256"}), &claims, SECRET.as_bytes())
    };
    let unsigned = |alg: Value| {
        let token = header("alg", alg);
        format!("{}.", token.rsplit_once('.').unwrap().0)
    };
    let good = header("typ", json!("JWT"));
    let now = clock::now().wall_ms / 1_000;
    let mut refused: Vec<(String, String)> = Vec::new();
    for alg in ["none", "NONE", "nOnE", "", "HS384", "RS256"] {
        refused.push((format!("A2 alg {alg}"), header("alg", json!(alg))));
        refused.push((format!("A2 alg {alg} unsigned"), unsigned(json!(alg))));
    }
    refused.push(("A2 no alg".into(), hs256(&json!({}), &claims(), SECRET.as_bytes())));
    refused.push(("A2 empty signature".into(), unsigned(json!("HS256"))));
    for kid in ["../../dev/null", "' OR 1=1", "http://localhost/keys"] {
        refused.push((format!("A4 kid {kid}"), header("kid", json!(kid))));
    }
    refused.push(("A4 kid of 9 KiB".into(), header("kid", json!("k".repeat(9_000)))));
    for (name, value) in [
        ("exp", json!("soon")),
        ("exp", json!(-1)),
        ("exp", json!(1e300)),
        ("exp", json!(null)),
        ("sub", json!("")),
        ("sub", json!({"a": 1})),
        ("sub", json!("x".repeat(300))),
        ("nbf", json!(now + 3_600)),
        ("aud", json!("somebody else")),
    ] {
        refused.push((
            format!("A7 {name} {}", value.to_string().chars().take(20).collect::<String>()),
            claim(name, value),
        ));
    }
    refused.push(("A8 crit".into(), header("crit", json!(["x"]))));
    refused.push(("A8 b64".into(), header("b64", json!(false))));
    refused.push(("A8 jwk".into(), header("jwk", json!({"kty": "oct", "k": "AAAA"}))));
    refused.push(("A8 four parts".into(), format!("{good}.AAAA")));
    refused.push(("A8 five parts, as encrypted".into(), format!("{good}.AAAA.AAAA")));
    for (name, token) in refused {
        let answer = server.http("POST", "/api/publish", &bearer(&token), "{}");
        assert_eq!(answer.status, 401, "{name}: {}", answer.text());
        // A query has no limit of its own but that of the head.
        assert_eq!(knock(&server, &format!("/ws?token={token}"), "").status, 401, "{name}");
    }
    assert_eq!(knock(&server, "/ws", &bearer(&good)).status, 101);
    // Row A4: 1 MiB does not even arrive.
    let huge = knock(&server, "/ws", &bearer(&header("kid", json!("k".repeat(1 << 20)))));
    assert_eq!(huge.status, 431);
}

/// Row A3: the public key is no shared secret.
#[test]
fn a_token_signed_with_the_public_key_as_a_secret_is_refused() {
    for (name, algorithm) in [("RS256", &PKCS_RSA_SHA256), ("ES256", &PKCS_ECDSA_P256_SHA256)] {
        let pair = KeyPair::generate_for(algorithm).unwrap();
        let folder = Folder::new();
        let key = folder.write("public.pem", &pair.public_key_pem());
        let server = Server::start(&format!("[auth]\nalgorithm = \"{name}\"\npublic_key_file = {key:?}"));
        for bytes in [pair.public_key_pem().into_bytes(), pair.subject_public_key_info()] {
            for alg in ["HS256", name] {
                let token = hs256(&json!({"alg": alg}), &claims(), &bytes);
                assert_eq!(knock(&server, "/ws", &bearer(&token)).status, 401, "{name} as {alg}");
            }
        }
    }
}

/// Row A9: what becomes of a connection whose token ends.
#[test]
fn a_token_that_ends_is_announced_and_a_refresh_in_time_keeps_the_connection() {
    let server = Server::start("");
    let second = Duration::from_secs(2);
    let short = |sub: &str| server.token_for(sub, Role::User, second, &["*"], Actions::ALL);
    let open = || {
        let mut socket = server.open("/ws", &bearer(&short("ann")));
        assert_eq!(socket.json()["type"], "welcome");
        let notice = socket.json();
        assert_eq!(notice["type"], "token_expiring");
        assert!(notice["expires_in_ms"].as_u64().unwrap() <= 2_000, "{notice}");
        socket
    };
    let refresh = |token: &str| json!({"type": "refresh", "id": 1, "token": token});

    let mut kept = open();
    assert_eq!(kept.ask(&json!({"type": "subscribe", "channels": ["run:1"]}))["type"], "subscribed");
    let refreshed = kept.ask(&refresh(&server.token("ann", Role::User)));
    assert_eq!((&refreshed["type"], &refreshed["id"]), (&json!("refreshed"), &json!(1)), "(b)");

    let mut stranger = open();
    assert_eq!(stranger.ask(&refresh(&server.token("bob", Role::User)))["code"], "invalid_token", "(c)");
    assert_eq!(stranger.closed_with(), 4501, "(c)");

    let mut late = open();
    assert_eq!(late.ask(&refresh(&server.expired_token("ann")))["code"], "token_expired", "(d)");
    assert_eq!(late.ask(&json!({"type": "ping", "timestamp": 1}))["type"], "pong", "(d) and goes on");

    let mut ended = open();
    for socket in [&mut ended, &mut late] {
        assert_eq!(socket.json()["code"], "token_expired", "(a)");
        assert_eq!(socket.closed_with(), 4002, "(a)");
    }
    server.publish(&json!({"channel": "run:1", "type": "note"}));
    assert_eq!(kept.json()["sequence"], 1, "(b) has lost nothing");
    assert_eq!(failures(&server, "expired_token"), 3.0, "one refresh and two ends");
}

/// R18 and threat S8: a new token may allow less.
#[test]
fn a_refresh_that_allows_less_ends_what_it_no_longer_allows() {
    let server = Server::start("");
    let hour = Duration::from_secs(3_600);
    let mut socket = server.welcomed("ann");
    assert_eq!(
        socket.ask(&json!({"type": "subscribe", "channels": ["run:1", "run:2"]}))["type"],
        "subscribed"
    );
    let less = server.token_for("ann", Role::User, hour, &["run:2"], Actions::ALL);
    assert_eq!(socket.ask(&json!({"type": "refresh", "token": less}))["type"], "refreshed");
    assert_eq!(socket.json(), json!({"type": "unsubscribed", "channels": ["run:1"]}));
    server.publish(&json!([{"channel": "run:1", "type": "note"}, {"channel": "run:2", "type": "note"}]));
    assert_eq!(socket.json()["channel"], "run:2");
    assert_eq!(socket.ask(&json!({"type": "subscribe", "channels": ["run:1"]}))["code"], "forbidden");
}

/// Row A11 on one node.
#[test]
fn a_revoked_user_is_disconnected_and_stays_out() {
    let server = Server::start("");
    let now = clock::now().wall_ms;
    let token = |sub: &str| {
        server.token_at(sub, Role::User, Duration::from_secs(3_600), &["*"], Actions::ALL, now - 5_000)
    };
    let (eve, ann) = (token("eve"), token("ann"));
    let mut sockets: Vec<_> = (0..4).map(|_| server.open("/ws", &bearer(&eve))).collect();
    for socket in &mut sockets {
        assert_eq!(socket.json()["type"], "welcome");
    }
    let mut other = server.open("/ws", &bearer(&ann));
    let headers = format!("{}Content-Type: application/json\r\n", bearer(&server.token("root", Role::Admin)));
    let answer = server.http("POST", "/api/admin/revocations", &headers, r#"{"user":"eve"}"#);
    assert_eq!((answer.status, &answer.json()["closed"]), (200, &json!(4)), "{}", answer.text());
    for socket in &mut sockets {
        assert_eq!(socket.closed_with(), 4506);
    }
    assert_eq!(knock(&server, "/ws", &bearer(&eve)).status, 401);
    let mut again = server.open("/ws", "");
    assert_eq!(again.ask(&json!({"type": "connect", "token": eve}))["code"], "invalid_token");
    assert_eq!(again.closed_with(), 4501);
    assert_eq!(other.json()["type"], "welcome");
    assert_eq!(other.ask(&json!({"type": "ping", "timestamp": 1}))["type"], "pong", "others are untouched");
    assert_eq!(server.metric("websocket_closes_total{code=\"4506\",initiator=\"server\"}"), 4.0);
}

/// A token may be taken back between its check and the moment its connection is there.
#[test]
fn a_token_that_is_taken_back_while_it_logs_in_opens_nothing_that_stays() {
    let server = Server::start("[auth]\nattempts_per_minute = 0");
    let issued = clock::now().wall_ms - 5_000;
    let headers = format!("{}Content-Type: application/json\r\n", bearer(&server.token("root", Role::Admin)));
    let mut ended = 0;
    for round in 0..30 {
        let user = format!("eve{round}");
        let hour = Duration::from_secs(3_600);
        let token = server.token_at(&user, Role::User, hour, &["*"], Actions::ALL, issued);
        let begin = |_| {
            let mut socket = server.connect();
            socket.send(handshake("/ws", &bearer(&token)).as_bytes());
            socket
        };
        let sockets: Vec<_> = (0..16).map(begin).collect();
        let mut said = server.open("/ws", "");
        said.say(&json!({"type": "connect", "token": token}));
        let body = json!({ "user": user }).to_string();
        assert_eq!(server.http("POST", "/api/admin/revocations", &headers, &body).status, 200);
        for mut socket in sockets {
            match socket.head().status {
                101 => {
                    assert_eq!(socket.closed_with(), 4506, "round {round}");
                    ended += 1;
                }
                status => assert_eq!(status, 401, "round {round}"),
            }
        }
        assert!([4506, 4501].contains(&said.closed_with()), "round {round}");
    }
    assert!(ended > 0, "some came before");
}

/// Row A12: only exactly the pages that are allowed.
#[test]
fn only_the_allowed_origins_may_connect() {
    let rejected = "websocket_rejected_total{stage=\"handshake\",reason=\"origin\"}";
    let table = [
        ("https://app.example", true),
        ("HTTPS://APP.EXAMPLE", false),
        ("https://app.example:443", false),
        ("https://app.example.evil", false),
        ("https://evilapp.example", false),
        ("https://sub.app.example", false),
        ("http://app.example", false),
        ("https://app.example:8443", false),
        ("https://app.example/", false),
        ("https://app.example@evil", false),
        ("null", false),
        ("", false),
        ("file://", false),
    ];
    let server = Server::start("[origins]\nallowed = [\"https://app.example\"]");
    let mut refused = 0.0;
    for (origin, allowed) in table {
        let answer = knock(&server, "/ws", &format!("Origin: {origin}\r\n"));
        refused += f64::from(u8::from(!allowed));
        assert_eq!(answer.status, if allowed { 101 } else { 403 }, "{origin}");
        assert_eq!(server.metric(rejected), refused, "{origin}");
        if !allowed {
            assert_eq!(answer.json()["code"], "origin_refused", "{origin}");
        }
    }
    let own = format!("Origin: http://{}\r\n", server.address);
    assert_eq!(knock(&server, "/ws", &own).status, 101, "its own");
    assert_eq!(knock(&server, "/ws", &format!("{own}{own}")).status, 403, "two are none");
    assert_eq!(knock(&server, "/ws", "").status, 101, "programs have none");
    let strict = Server::start("[origins]\nallowed = [\"https://app.example\"]\nallow_missing = false");
    assert_eq!(knock(&strict, "/ws", "").status, 403);
    assert_eq!(failures(&server, "origin"), refused + 1.0);
}

/// An API key and the settings that let it publish to `run:*`.
fn key() -> (String, String) {
    let (secret, hash) = api_key::generate(&KeyId::parse("ci").unwrap()).unwrap();
    let settings = format!("[[auth.api_keys]]\nid = \"ci\"\nsha256 = \"{hash}\"\npublish = [\"run:*\"]\n");
    (secret.expose().to_owned(), settings)
}

/// Rows A15 and A19: what each bearer gets from each endpoint. 401: nobody, or a credential that is not made
/// for this endpoint; 403: the right kind of credential, but not for this channel.
#[test]
fn every_endpoint_answers_every_bearer_as_documented() {
    let (key, settings) = key();
    let server = Server::start(&settings);
    let event = r#"{"channel":"run:1","type":"note"}"#;
    let sample = r#"{"name":"a","type":"gauge","value":1}"#;
    let revocation = r#"{"user":"nobody"}"#;
    let session = "01HF6ZQ8G00000000000000000";
    let one_session = format!("/api/admin/websocket/metrics/{session}");
    let upgrade = handshake("", "").split_once("\r\n").unwrap().1.replace("Host: localhost\r\n", "");
    let upgrade = upgrade.trim_end().to_owned() + "\r\n";
    // Method, path, body; and the statuses of: nobody, a user, a publisher, an admin, an API key.
    let table: [(&str, &str, &str, [u16; 5]); 26] = [
        ("GET", "/ws", "", [101, 101, 101, 101, 401]),
        ("GET", "/ws/metrics", "", [101, 101, 101, 101, 401]),
        ("GET", "/ws/collaboration/r1", "", [101, 101, 101, 101, 401]),
        ("POST", "/api/publish", event, [401, 401, 200, 200, 200]),
        ("POST", "/api/channels/run:1/events", r#"{"type":"note"}"#, [401, 401, 200, 200, 200]),
        ("POST", "/api/metrics/custom", sample, [401, 401, 200, 200, 200]),
        ("GET", "/metrics", "", [200; 5]),
        ("GET", "/api/metrics", "", [200; 5]),
        ("GET", "/actuator/prometheus", "", [200; 5]),
        ("GET", "/api/ws/metrics", "", [200; 5]),
        ("HEAD", "/api/ws/metrics", "", [200; 5]),
        ("GET", "/api/stats", "", [200; 5]),
        ("GET", "/health/websocket", "", [200; 5]),
        ("GET", "/livez", "", [200; 5]),
        ("GET", "/readyz", "", [200; 5]),
        ("GET", "/api/admin/websocket/connections", "", [401, 401, 401, 200, 401]),
        ("GET", "/api/admin/websocket/connections/r1", "", [401, 401, 401, 200, 401]),
        ("GET", "/api/admin/websocket/metrics", "", [401, 401, 401, 200, 401]),
        ("GET", &one_session, "", [401, 401, 401, 404, 401]),
        ("POST", "/api/admin/websocket/cleanup-stale", "{}", [401, 401, 401, 200, 401]),
        ("GET", "/api/admin/websocket/closed", "", [401, 401, 401, 200, 401]),
        ("POST", "/api/admin/websocket/disconnect", revocation, [401, 401, 401, 200, 401]),
        ("POST", "/api/admin/revocations", revocation, [401, 401, 401, 200, 401]),
        ("GET", "/api/admin/websocket/users", "", [401, 401, 401, 200, 401]),
        ("POST", "/api/admin/blocks", r#"{"address":"192.0.2.1"}"#, [401, 401, 401, 200, 401]),
        ("GET", "/nothing", "", [404; 5]),
    ];
    let bearers = [
        String::new(),
        bearer(&server.token_for("ann", Role::User, Duration::from_secs(600), &["*"], readers())),
        bearer(&server.token("app", Role::Publisher)),
        bearer(&server.token("root", Role::Admin)),
        bearer(&key),
    ];
    for (method, path, body, expected) in table {
        let found: Vec<u16> = bearers
            .iter()
            .map(|bearer| {
                let mut socket = server.connect();
                let headers = if path.starts_with("/ws") {
                    upgrade.clone()
                } else {
                    format!(
                        "Connection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n",
                        body.len()
                    )
                };
                let host = server.address;
                socket.send(
                    format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n{bearer}{headers}\r\n{body}")
                        .as_bytes(),
                );
                socket.head().status
            })
            .collect();
        assert_eq!(found, expected, "{method} {path}: nobody, user, publisher, admin, API key");
    }
}

/// What a token without `caps` gives a user.
fn readers() -> Actions {
    [pulsewire::auth::Action::Subscribe, pulsewire::auth::Action::History]
        .into_iter()
        .fold(Actions::NONE, Actions::with)
}

/// Row A15 for messages: what a connection without a right is told, whether the channel exists or not.
#[test]
fn a_channel_that_is_not_allowed_looks_the_same_whether_it_exists_or_not() {
    let server = Server::start("");
    server.publish(&json!({"channel": "run:secret", "type": "note"}));
    let hour = Duration::from_secs(3_600);
    let token = server.token_for("ann", Role::User, hour, &["run:mine"], Actions::ALL);
    let mut socket = server.open("/ws", &bearer(&token));
    assert_eq!(socket.json()["type"], "welcome");
    let mut answers = Vec::new();
    for name in ["run:secret", "run:absent"] {
        for message in [
            json!({"type": "subscribe", "channels": [name]}),
            json!({"type": "subscribe", "channels": [{"channel": name, "last": 1}]}),
            json!({"type": "publish", "channel": name, "event": "note"}),
            json!({"type": "get_history", "channel": name}),
        ] {
            let answer = socket.ask(&message);
            assert_eq!(answer["code"], "forbidden", "{message}");
            answers.push(answer.to_string().replace(name, "it"));
        }
    }
    let (secret, absent) = answers.split_at(4);
    assert_eq!(secret, absent);
    assert_eq!(server.metric("pulsewire_channels"), 0.0, "asking brings no channel to hand");
}

/// Row A19: a key for some channels, and a client's token where it has no business.
#[test]
fn credentials_do_only_what_they_are_for() {
    let (key, settings) = key();
    let server = Server::start(&settings);
    let event = |channel: &str| format!(r#"{{"channel":"{channel}","type":"note"}}"#);
    let publish = |credential: &str, channel: &str| {
        server.http("POST", "/api/publish", &bearer(credential), &event(channel))
    };
    assert_eq!(publish(&key, "run:1").status, 200);
    let refused = publish(&key, "project:1");
    assert_eq!((refused.status, &refused.json()["code"]), (403, &json!("forbidden")));
    let batch = format!("[{},{}]", event("run:1"), event("project:1"));
    let refused = server.http("POST", "/api/publish", &bearer(&key), &batch);
    assert_eq!((refused.status, &refused.json()["index"]), (403, &json!(1)));
    assert_eq!(publish(&key[..key.len() - 1], "run:1").status, 401);
    assert_eq!(publish(&format!("{key}0"), "run:1").status, 401);
    let hour = Duration::from_secs(3_600);
    let reader = server.token_for("ann", Role::User, hour, &["*"], readers());
    let publisher = server.token_for("app", Role::Publisher, hour, &["run:*"], Actions::ALL);
    let writer = server.token_for("bob", Role::User, hour, &["run:2"], Actions::ALL);
    let muted = server.token_for("app", Role::Publisher, hour, &["run:*"], readers());
    // A token that publishes nowhere is of the wrong kind; one that publishes elsewhere may not here.
    let before = failures(&server, "forbidden");
    let event_path = "/api/channels/run:1/events";
    let one_value = r#"{"name":"a","type":"gauge","value":1}"#;
    for (credential, method, path, body, status, code) in [
        (&reader, "POST", "/api/publish", &*event("run:1"), 401, "wrong_credential"),
        (&reader, "POST", event_path, r#"{"type":"note"}"#, 401, "wrong_credential"),
        (&reader, "POST", "/api/publish", "not even JSON", 401, "wrong_credential"),
        (&reader, "POST", "/api/metrics/custom", one_value, 401, "wrong_credential"),
        (&writer, "POST", "/api/metrics/custom", one_value, 401, "wrong_credential"),
        (&reader, "GET", "/api/admin/websocket/connections", "", 401, "wrong_credential"),
        (&publisher, "GET", "/api/admin/websocket/connections", "", 401, "wrong_credential"),
        (&publisher, "POST", "/api/admin/revocations", "{}", 401, "wrong_credential"),
        (&key, "GET", "/api/admin/websocket/connections", "", 401, "wrong_credential"),
        (&key, "GET", "/ws", "", 401, "wrong_credential"),
        (&writer, "POST", "/api/publish", &*event("run:1"), 403, "forbidden"),
        (&muted, "POST", "/api/publish", &*event("run:1"), 403, "forbidden"),
        (&publisher, "POST", "/api/publish", &*event("project:1"), 403, "forbidden"),
        (&publisher, "POST", "/api/publish", &*event("$sys.connections"), 403, "forbidden"),
    ] {
        let answer = if path == "/ws" {
            knock(&server, path, &bearer(credential))
        } else {
            server.http(method, path, &bearer(credential), body)
        };
        assert_eq!(
            (answer.status, &answer.json()["code"]),
            (status, &json!(code)),
            "{path} {}",
            answer.text()
        );
        assert_eq!(answer.headers.contains_key("www-authenticate"), status == 401, "{path}");
    }
    assert_eq!(failures(&server, "forbidden"), before + 8.0, "who is known but wrong here is counted");
    assert_eq!(publish(&writer, "run:2").status, 200);
    let mut socket = server.open("/ws", &bearer(&reader));
    assert_eq!(socket.json()["type"], "welcome");
    assert_eq!(
        socket.ask(&json!({"type": "publish", "channel": "run:1", "event": "note"}))["code"],
        "forbidden"
    );
}

/// Row A22 and threat S26: whoever may make tokens cannot use up the message ids of an API key.
#[test]
fn a_token_that_reads_like_an_api_keys_name_shares_no_message_ids_with_it() {
    let (key, settings) = key();
    let server = Server::start(&settings);
    let squatter = server.token("key:ci", Role::Publisher);
    let publish = |credential: &str, by: &str| {
        let event = json!({"channel": "run:1", "type": "note", "id": "m-1", "data": by});
        let answer = server.http("POST", "/api/publish", &bearer(credential), &event.to_string());
        let body = answer.json();
        (answer.status, body["sequence"].clone(), body["duplicate"].clone())
    };
    assert_eq!(publish(&squatter, "squatter"), (200, json!(1), json!(false)));
    assert_eq!(publish(&key, "victim"), (200, json!(2), json!(false)), "published, not a conflict");
    assert_eq!(publish(&key, "victim"), (200, json!(2), json!(true)));
    // The socket goes the same way.
    let mut socket = server.open("/ws", &bearer(&squatter));
    assert_eq!(socket.json()["type"], "welcome");
    let message = json!({"type": "publish", "channel": "run:1", "event": "note", "message_id": "m-1", "data": "squatter"});
    let ack = socket.ask(&message);
    assert_eq!((&ack["sequence"], &ack["duplicate"]), (&json!(1), &json!(true)), "{ack}");
}

/// Row A17: what a secret must never be seen in.
#[test]
fn a_token_is_seen_in_no_log_no_metric_and_no_answer() {
    let canary = "c4nary7f3a9bd2e6";
    let seen = watch_logs(canary);
    let server = Server::start("[auth]\ncookie = \"pw\"\nattempts_per_minute = 0");
    let good = server.token(&format!("user-{canary}"), Role::Publisher);
    // The whole of a good token is as secret as a wrong one.
    let secrets = [canary.to_owned(), format!("a.{canary}.b"), good];
    let mut answers = String::new();
    for secret in &secrets {
        for (path, headers) in [
            (format!("/ws?token={secret}"), String::new()),
            (format!("/ws?%74oken={secret}&token={secret}"), String::new()),
            ("/ws".to_owned(), bearer(secret)),
            ("/ws".to_owned(), format!("Authorization: Basic {secret}\r\n")),
            ("/ws".to_owned(), format!("Cookie: pw={secret}\r\n")),
            ("/ws".to_owned(), format!("Sec-WebSocket-Protocol: bearer.{secret}\r\n")),
            (format!("/ws?token={secret}"), "Sec-WebSocket-Version: 12\r\n".to_owned()),
        ] {
            let answer = knock(&server, &path, &headers);
            let _ = write!(answers, "{:?} {}", answer.headers, answer.text());
        }
        let absent = server.http("GET", &format!("/nothing?token={secret}"), &bearer(secret), "");
        let _ = write!(answers, "{:?} {}", absent.headers, absent.text());
        for path in ["/api/publish", "/api/admin/websocket/connections", "/metrics", "/api/metrics/custom"] {
            for body in [format!("{{\"token\":\"{secret}\"}}"), secret.clone()] {
                let answer = server.http("POST", &format!("{path}?token={secret}"), "", &body);
                let _ = write!(answers, "{:?}", answer.headers);
                // An answer about the body may quote what is wrong in it, never the credential.
                let _ = write!(answers, "{}", answer.json()["message"]);
            }
        }
        let mut socket = server.open("/ws", "");
        socket.say(&json!({"type": "connect", "token": secret}));
        let frame = socket.message();
        if frame.json()["type"] == "error" {
            let _ = write!(answers, "{}", frame.json());
        }
    }
    let signature = secrets[2].rsplit_once('.').unwrap().1;
    for text in [answers, server.page(), seen.lock().unwrap().concat()] {
        assert!(!text.contains(canary) && !text.contains(signature), "{text}");
    }
}

/// Keeps every log record of this process that has a word in it.
fn watch_logs(word: &'static str) -> &'static Mutex<Vec<String>> {
    static SEEN: OnceLock<Mutex<Vec<String>>> = OnceLock::new();
    let seen = SEEN.get_or_init(Mutex::default);
    tracing::subscriber::set_global_default(Watcher { word, seen }).expect("this test alone looks at logs");
    tracing::error!(word, "the watcher watches");
    assert_eq!(std::mem::take(&mut *seen.lock().unwrap()).len(), 1);
    seen
}

struct Watcher {
    word: &'static str,
    seen: &'static Mutex<Vec<String>>,
}

struct Text(String);

impl tracing::field::Visit for Text {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        let _ = write!(self.0, " {field}={value:?}");
    }
}

impl tracing::Subscriber for Watcher {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, attributes: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        let mut text = Text(attributes.metadata().name().to_owned());
        attributes.record(&mut text);
        self.keep(text);
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, values: &tracing::span::Record<'_>) {
        let mut text = Text(String::new());
        values.record(&mut text);
        self.keep(text);
    }

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut text = Text(event.metadata().target().to_owned());
        event.record(&mut text);
        self.keep(text);
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

impl Watcher {
    fn keep(&self, text: Text) {
        if text.0.contains(self.word) {
            self.seen.lock().unwrap().push(text.0);
        }
    }
}

/// Row A18: who fails too often is not even looked at.
#[test]
fn an_address_that_fails_too_often_is_told_to_wait() {
    let server = Server::start("[auth]\nattempts_per_minute = 5");
    let good = server.token("ann", Role::User);
    let publish = |credential: &str| server.http("POST", "/api/publish", &bearer(credential), "{}");
    for attempt in 0..5 {
        let answer = match attempt {
            0 => publish("garbage"),
            1 => publish("pw_ci_wrong"),
            2 => knock(&server, "/ws?token=garbage", ""),
            3 => knock(&server, "/ws", &bearer("garbage")),
            _ => knock(&server, "/ws", "Authorization: Basic x\r\n"),
        };
        assert_eq!(answer.status, 401, "attempt {attempt}");
    }
    for answer in [publish("garbage"), publish(&good), knock(&server, "/ws", &bearer(&good))] {
        assert_eq!((answer.status, &answer.json()["code"]), (429, &json!("rate_limited")));
        assert!(answer.headers["retry-after"].parse::<u64>().unwrap() >= 1);
    }
    let mut socket = server.open("/ws", "");
    assert_eq!(socket.ask(&json!({"type": "connect", "token": good}))["code"], "rate_limited");
    assert_eq!(server.metric("websocket_rate_limited_total{scope=\"address\"}"), 4.0);
    assert_eq!(server.get("/livez").status, 200, "who shows no credential is served");
}

/// Row A18, counted: of a flood from one address exactly the budget is looked at, whatever is guessed and
/// wherever; tokens and API keys draw on the same budget.
#[test]
fn of_a_flood_of_wrong_credentials_exactly_the_budget_is_looked_at() {
    const BUDGET: usize = 5;
    let (key, settings) = key();
    let wrong_key = |number: usize| {
        // From nothing right to all but the last character.
        let right = number % key.len();
        format!("pw_{}{}", &key[3..right.max(3)], "0".repeat(key.len() - right.max(3)))
    };
    let wrong_token = |number: usize| hs256(&json!({"alg": "HS256"}), &claims(), &[number as u8; 40]);
    let paths = ["/api/publish", "/api/metrics/custom", "/api/channels/run:1/events"];
    type Guess<'a> = &'a dyn Fn(usize) -> String;
    let mixed =
        |number: usize| if number.is_multiple_of(2) { wrong_key(number) } else { wrong_token(number) };
    let floods: [(&str, Guess<'_>); 3] =
        [("API keys", &wrong_key), ("tokens", &wrong_token), ("both", &mixed)];
    for (what, guess) in floods {
        let server = Server::start(&format!("[auth]\nattempts_per_minute = {BUDGET}\n{settings}"));
        let mut statuses = Vec::new();
        for number in 0..200 {
            let path = paths[number % paths.len()];
            statuses.push(server.http("POST", path, &bearer(&guess(number)), "{}").status);
        }
        let (looked_at, waved_off) = statuses.split_at(BUDGET);
        assert!(looked_at.iter().all(|status| *status == 401), "{what}: {looked_at:?}");
        assert!(waved_off.iter().all(|status| *status == 429), "{what}: {waved_off:?}");
        assert_eq!(failures(&server, "invalid_token"), BUDGET as f64, "{what}");
        let limited = server.metric("websocket_rate_limited_total{scope=\"address\"}");
        assert_eq!(limited, (200 - BUDGET) as f64, "{what}");
        // Nothing is looked at any more, on no path: the right credentials get the same answer.
        let token = server.token("root", Role::Admin);
        for (method, path) in [("POST", "/api/publish"), ("GET", "/api/admin/websocket/users")] {
            assert_eq!(server.http(method, path, &bearer(&token), "{}").status, 429, "{what}: {path}");
        }
        assert_eq!(server.http("POST", "/api/publish", &bearer(&key), "{}").status, 429, "{what}");
        assert_eq!(knock(&server, "/ws", &bearer(&token)).status, 429, "{what}");
    }
}

/// A known bearer in the wrong place has guessed nothing.
#[test]
fn a_credential_of_the_wrong_kind_costs_no_attempt() {
    let server = Server::start("[auth]\nattempts_per_minute = 2");
    let reader = server.token_for("ann", Role::User, Duration::from_secs(60), &["*"], readers());
    for _ in 0..10 {
        assert_eq!(server.http("POST", "/api/publish", &bearer(&reader), "{}").status, 401);
    }
    assert_eq!(knock(&server, "/ws", &bearer(&reader)).status, 101);
}

/// Row A20: a connection that does not say who it is.
#[test]
fn a_connection_without_a_token_is_held_to_little_and_for_a_short_time() {
    let server = Server::start("[auth]\ntimeout = \"300ms\"");
    let mut silent = server.open("/ws", "");
    assert_eq!(silent.closed_with(), 4505);
    assert_eq!(server.metric("websocket_closes_total{code=\"4505\",initiator=\"server\"}"), 1.0);
    assert_eq!(failures(&server, "missing_token"), 1.0);

    let patient = Server::start("");
    let mut early = patient.open("/ws", "");
    for request in [
        json!({"type": "subscribe", "id": 1, "channels": ["run:1"]}),
        json!({"type": "publish", "id": 1, "channel": "run:1", "event": "note"}),
    ] {
        let answer = early.ask(&request);
        assert_eq!((&answer["code"], &answer["id"]), (&json!("unauthorized"), &json!(1)));
    }
    let connected = early.ask(&json!({"type": "connect", "token": patient.token("ann", Role::User)}));
    assert_eq!(connected["type"], "connected", "it may still say who it is");
    assert_eq!(patient.metric("websocket_active_subscriptions"), 0.0);

    let mut large = patient.open("/ws", "");
    large.say(&json!({"type": "connect", "token": "x".repeat(9 * 1024)}));
    assert_eq!(large.closed_with(), 1009);

    let mut stubborn = patient.open("/ws", "");
    for _ in 0..60 {
        stubborn.text(r#"{"type":"subscribe","channels":["run:1"]}"#);
    }
    assert_eq!(stubborn.closed_with(), 4509);
    // What is sent right behind `connect` waits for it.
    let mut eager = patient.open("/ws", "");
    eager.say(&json!({"type": "connect", "token": patient.token("ann", Role::User)}));
    eager.say(&json!({"type": "subscribe", "id": 2, "channels": ["run:1"]}));
    assert_eq!(eager.json()["type"], "connected");
    assert_eq!(eager.json()["id"], 2);
}
