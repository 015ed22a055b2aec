//! Upstream streams: a real server that reads real feeds, good ones and bad ones (document 002, faults W1 to W8).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use pulsewire::auth::Role;
use pulsewire::settings::Settings;
use pulsewire::upstreams::{Config, StreamInfo};
use pulsewire_loadtest::report::Figure;
use pulsewire_sources::upstream::canary::Rules;
use pulsewire_sources::upstream::{ChannelTemplate, Template, Upstream};
use serde_json::{Value, json};

use crate::feed::{Behaviour, Feed};
use crate::harness::{SECRET, Server, Socket, bearer, until};
use crate::proof::{self, Proof};
use crate::tls::Authority;

/// A stream whose messages are `{"s":KEY,"n":NUMBER}`, with waits that a test does not notice.
fn declared(name: &str, url: &str, rest: &str) -> String {
    format!(
        "[[upstream]]\nname = \"{name}\"\nurls = [{url}]\nallow_private = true\nretry_min = \"10ms\"\nretry_max = \"20ms\"\n{rest}\n"
    )
}

fn quoted(url: &str) -> String {
    format!("\"{url}\"")
}

/// What most tests declare: keys share a connection.
fn keyed(feed: &Feed, rest: &str) -> String {
    let always = "channel = \"upstream:t:{key}\"\nroute = \"{/s}\"\n";
    declared("t", &quoted(&feed.url("/ws")), &format!("{always}{rest}"))
}

fn subscribe(socket: &mut Socket, channel: &str) {
    socket.say(&json!({"type": "subscribe", "channels": [channel]}));
    assert_eq!(socket.json()["type"], "subscribed");
}

/// The next event of a type.
fn next(socket: &mut Socket, event: &str) -> Value {
    loop {
        let said = socket.json();
        if said["event"] == event {
            return said;
        }
    }
}

/// Waits until subscribers are told that a stream is in this state; what was told then.
fn told(socket: &mut Socket, state: &str) -> Value {
    loop {
        let said = next(socket, "upstream");
        if said["data"]["state"] == state {
            return said["data"].clone();
        }
    }
}

fn stream(server: &Server) -> StreamInfo {
    let mut all = server.app().upstreams.streams();
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

fn configure(server: &Server, config: Config) {
    server.app().upstreams.configure(config, Vec::new());
}

/// What was created less what was cleaned is what is there, in every scrape.
#[track_caller]
fn adds_up(server: &Server) {
    let page = server.page();
    let value = |series: &str| crate::harness::series_of(&page, series).unwrap();
    let there = value("ws_manager_active_connections") + value("ws_manager_streams_uncleaned");
    let made = value("ws_manager_stream_creations_total") - value("ws_manager_stream_cleanups_total");
    assert_eq!(made, there);
}

#[test]
fn one_connection_serves_all_who_listen_and_ends_when_the_last_has_gone() {
    let feed = Feed::start();
    let server = Server::start(&keyed(
        &feed,
        "idle = \"100ms\"\nheaders = [\"X-Api-Key: k1\"]\nsubprotocol = \"feed.v1\"\ngreeting = ['{\"op\":\"hello\"}']\n\
         subscribe = '{\"op\":\"sub\",\"keys\":{keys},\"id\":{n}}'\nunsubscribe = '{\"op\":\"unsub\",\"key\":\"{key}\"}'\n\
         type = \"trade\"\n",
    ));
    assert_eq!(feed.accepted(), 0, "nobody listens");
    let (mut ada, mut bob) = (server.welcomed("ada"), server.welcomed("bob"));
    subscribe(&mut ada, "upstream:t:BTC");
    feed.wait_heard("BTC is asked for", |message| message["op"] == "sub");
    subscribe(&mut bob, "upstream:t:BTC");
    subscribe(&mut bob, "upstream:t:ETH");
    let (_, second) = feed.wait_heard("ETH is asked for", |message| message["keys"] == json!(["ETH"]));
    assert_eq!(second, json!({"op": "sub", "keys": ["ETH"], "id": 3}));
    let connection = feed.connection(1);
    assert_eq!((connection.path.as_str(), feed.accepted()), ("/ws", 1));
    assert_eq!(connection.headers["x-api-key"], "k1");
    assert_eq!(connection.headers["sec-websocket-protocol"], "feed.v1");
    assert_eq!(connection.json()[0], json!({"op": "hello"}));
    assert_eq!(connection.json()[1], json!({"op": "sub", "keys": ["BTC"], "id": 2}));

    feed.send(r#"{"s":"BTC","p":1.10}"#);
    for socket in [&mut ada, &mut bob] {
        let event = next(socket, "trade");
        assert_eq!(
            (&event["channel"], &event["data"]),
            (&json!("upstream:t:BTC"), &json!({"s": "BTC", "p": 1.10}))
        );
    }
    feed.send(r#"{"s":"ETH","p":2}"#);
    assert_eq!(next(&mut bob, "trade")["channel"], "upstream:t:ETH");
    adds_up(&server);
    assert_eq!(server.metric("ws_manager_active_connections"), 1.0);
    assert_eq!(server.metric("ws_manager_streams{state=\"live\"}"), 1.0);

    drop(bob);
    feed.wait_heard("ETH is asked for no more", |message| *message == json!({"op": "unsub", "key": "ETH"}));
    drop(ada);
    let ended = feed.wait_ended(1);
    assert_eq!(ended.closed_with, Some(1000));
    server.wait_metric("ws_manager_stream_cleanups_total", 1.0);
    adds_up(&server);
    assert_eq!(server.metric("ws_manager_active_connections"), 0.0);
    assert_eq!(server.metric("ws_manager_active_connections_hwm"), 1.0);
    assert_eq!(server.metric("ws_manager_messages_total{result=\"published\"}"), 2.0);
}

#[test]
fn subscribers_are_told_how_it_is_and_keys_are_asked_for_again() {
    let feed = Feed::start();
    let server = Server::start(&keyed(&feed, "subscribe = '{\"op\":\"sub\",\"keys\":{keys}}'\n"));
    let mut ada = server.welcomed("ada");
    subscribe(&mut ada, "upstream:t:BTC");
    assert_eq!(told(&mut ada, "live"), json!({"upstream": "t", "state": "live"}));
    let mut late = server.welcomed("late");
    subscribe(&mut late, "upstream:t:BTC");
    assert_eq!(next(&mut late, "upstream")["data"]["state"], "live", "who comes late is told, too");
    feed.wait_heard("BTC is asked for", |message| message["op"] == "sub");
    feed.close(1, 1001, "restarting");
    let down = told(&mut ada, "down");
    assert_eq!(down["kind"], "closed");
    assert!(down["retry_ms"].as_u64().unwrap() <= 20, "{down}");
    told(&mut ada, "live");
    feed.wait("it is asked for again", |all| {
        (all.get(1)?.json().first()? == &json!({"op": "sub", "keys": ["BTC"]})).then_some(())
    });
    feed.send(r#"{"s":"BTC"}"#);
    assert_eq!(next(&mut ada, "message")["data"], json!({"s": "BTC"}));
    assert_eq!(server.metric("ws_manager_retry_count_total"), 1.0);
    assert_eq!(server.metric("ws_manager_stream_errors_total{kind=\"closed\"}"), 1.0);
    let error = stream(&server).last_error.unwrap();
    assert_eq!((error.kind, error.text.as_str()), ("closed", "closed with 1001 restarting"));
}

/// W1, W4: each way to fail is counted as what it is, tried again, and over when the feed is well.
#[test]
fn whatever_a_feed_does_it_is_tried_again_and_counted() {
    let cases: [(&str, &str, Behaviour); 14] = [
        ("a status", "handshake", Behaviour::Status(503, "")),
        (
            "a redirect, which is not followed",
            "handshake",
            Behaviour::Status(301, "Location: ws://127.0.0.1:1/\r\n"),
        ),
        ("no answer to the handshake", "timeout", Behaviour::Unanswered),
        ("a head without end", "handshake", Behaviour::EndlessHead),
        ("the answer to another handshake", "handshake", Behaviour::WrongAccept),
        ("a subprotocol that nobody asked for", "handshake", Behaviour::Subprotocol(Some("other"))),
        ("the end at once", "closed", Behaviour::CloseAtOnce),
        ("half open", "timeout", Behaviour::HalfOpen),
        ("deaf", "timeout", Behaviour::Deaf),
        ("mute", "timeout", Behaviour::Mute),
        ("garbage", "protocol", Behaviour::garbage(7)),
        ("a frame of a terabyte", "protocol", Behaviour::giant_frame()),
        ("a message without end", "protocol", Behaviour::endless_message()),
        ("a masked frame", "protocol", Behaviour::masked()),
    ];
    for (what, kind, behaviour) in cases {
        let feed = Feed::start();
        feed.script(1, behaviour);
        let rest = "connect_timeout = \"200ms\"\nping_interval = \"100ms\"\nsilence = \"300ms\"\nmessage_bytes_max = \"64KiB\"\n";
        let server = Server::start(&keyed(&feed, rest));
        let mut ada = server.welcomed("ada");
        subscribe(&mut ada, "upstream:t:BTC");
        feed.wait_accepted(2);
        until(what, || {
            feed.send(r#"{"s":"BTC"}"#);
            server.metric("ws_manager_messages_total{result=\"published\"}") > 0.0
        });
        next(&mut ada, "message");
        let page = server.page();
        let value = |series: &str| crate::harness::series_of(&page, series).unwrap();
        assert!(
            value(&format!("ws_manager_stream_errors_total{{kind=\"{kind}\"}}")) >= 1.0,
            "{what}: {page}"
        );
        let attempts = value("ws_manager_connect_attempts_total");
        assert_eq!(
            attempts - value("ws_manager_retry_count_total"),
            1.0,
            "{what}: each attempt but the first is a retry"
        );
        assert_eq!(server.http("HEAD", "/api/ws/metrics", "", "").status, 200, "{what}");
    }
}

#[test]
fn an_upstream_that_is_not_there_is_tried_less_and_less_often_and_then_by_one() {
    let mut feed = Feed::start();
    feed.refuse();
    let server = Server::start(&keyed(&feed, "circuit_failures = 5\ncircuit_open = \"1s\"\n"));
    let mut ada = server.welcomed("ada");
    subscribe(&mut ada, "upstream:t:BTC");
    assert_eq!(told(&mut ada, "down")["kind"], "connect");
    server.wait_metric("ws_manager_circuit_opened_total", 1.0);
    until("its circuit is seen to be open", || stream(&server).state == "circuit");
    assert_eq!(server.metric("ws_manager_connect_attempts_total"), 5.0);
    assert_eq!(server.metric("ws_manager_retry_count_total"), 4.0);
    let info = server.app().upstreams.declared().remove(0);
    assert!(info.circuit_open_ms.is_some_and(|ms| ms <= 1_000), "{info:?}");
    feed.listen();
    told(&mut ada, "live");
    assert_eq!(server.metric("ws_manager_connect_attempts_total"), 6.0, "one tried");
}

#[test]
fn a_name_that_leads_nowhere_and_an_address_that_is_not_public_are_refused() {
    let feed = Feed::start();
    let port = feed.address.port();
    let server = Server::start("");
    // The settings would refuse this one by its name; another name may lead to loopback without saying so.
    let named = |name: &str, url: &str| {
        let (url, channel) =
            (Template::parse(url).unwrap(), ChannelTemplate::parse(&format!("upstream:{name}")).unwrap());
        (Arc::new(Upstream::new(name, vec![url], channel)), None)
    };
    let nowhere = named("nowhere", "ws://feed.invalid/ws");
    let private = named("private", &format!("ws://localhost:{port}/ws"));
    configure(&server, Config { declared: vec![nowhere, private], ..Config::of(&Settings::default()) });
    let mut ada = server.welcomed("ada");
    for name in ["nowhere", "private"] {
        subscribe(&mut ada, &format!("upstream:{name}"));
        let down =
            std::iter::repeat_with(|| told(&mut ada, "down")).find(|down| down["upstream"] == name).unwrap();
        assert_eq!(down["kind"], "resolve");
    }
    let errors: Vec<_> =
        server.app().upstreams.streams().into_iter().filter_map(|stream| stream.last_error).collect();
    assert!(errors.iter().any(|error| error.text.contains("public address")), "{errors:?}");
    assert_eq!(feed.accepted(), 0);
}

/// W7.
#[test]
fn only_a_certificate_that_is_good_is_believed() {
    let issuer = Authority::new();
    let folder = crate::child::Folder::new();
    let authority = folder.path().join("ca.pem");
    std::fs::write(&authority, issuer.pem()).unwrap();
    let trusted = format!("ca_file = \"{}\"\n", authority.display());
    let other = Authority::new();
    for (what, issued, rest, good) in [
        ("one of an authority that is trusted", issuer.issue(), trusted.as_str(), true),
        ("one of an authority that nobody knows", other.issue(), trusted.as_str(), false),
        ("one of an authority that this machine does not know", issuer.issue(), "", false),
        ("one of another host", issuer.issue_until("elsewhere.example", 2100), trusted.as_str(), false),
        ("one that has expired", issuer.issue_until("localhost", 2001), trusted.as_str(), false),
    ] {
        let feed = Feed::start_tls(&issued);
        let url = quoted(&feed.url("/ws").replace("127.0.0.1", "localhost"));
        let server = Server::start(&declared("t", &url, &format!("channel = \"upstream:t\"\n{rest}")));
        let mut ada = server.welcomed("ada");
        subscribe(&mut ada, "upstream:t");
        if good {
            told(&mut ada, "live");
            feed.wait_open(1);
            feed.send("{}");
            next(&mut ada, "message");
        } else {
            assert_eq!(told(&mut ada, "down")["kind"], "tls", "{what}");
            assert_eq!(feed.open(), 0, "{what}");
        }
    }
}

/// W8.
#[test]
fn one_that_failed_too_often_waits_to_be_restarted() {
    let mut feed = Feed::start();
    feed.refuse();
    let server = Server::start(&keyed(&feed, "attempts_max = 3\ncircuit_failures = 0\n"));
    let operator = bearer(&server.token("op", Role::Operator));
    let mut ada = server.welcomed("ada");
    subscribe(&mut ada, "upstream:t:BTC");
    assert_eq!(told(&mut ada, "failed")["kind"], "connect");
    server.wait_metric("ws_manager_streams{state=\"failed\"}", 1.0);
    feed.listen();
    let answer = server.http("POST", "/api/admin/upstreams/t/restart", &operator, "");
    assert_eq!((answer.status, answer.json()), (200, json!({"restarted": 1})));
    let mut states = vec![];
    while states.last() != Some(&json!("live")) {
        states.push(next(&mut ada, "upstream")["data"]["state"].clone());
    }
    assert!(!states.contains(&json!("failed")), "it was told once: {states:?}");
    assert_eq!(server.metric("ws_manager_connect_attempts_total"), 4.0);
}

/// W8: what is taken back while it waits to be tried again leaves nothing behind.
#[test]
fn a_declaration_that_is_taken_back_leaves_no_stream_and_no_timer() {
    let mut feed = Feed::start();
    feed.refuse();
    let server = Server::start("[upstreams]\nallow_private = true\n");
    let operator = bearer(&server.token("op", Role::Operator)) + "Content-Type: application/json\r\n";
    let body =
        json!({"urls": [feed.url("/ws")], "channel": "upstream:t", "retry_min": "10m", "retry_max": "10m"});
    let put = server.http("PUT", "/api/admin/upstreams/t", &operator, &body.to_string());
    assert_eq!(put.status, 201, "{}", put.text());
    assert_eq!(put.json()["declaredBy"], "api");
    let mut ada = server.welcomed("ada");
    subscribe(&mut ada, "upstream:t");
    told(&mut ada, "down");
    let tasks = server.block_on(async { tokio::runtime::Handle::current().metrics().num_alive_tasks() });
    assert_eq!(server.http("DELETE", "/api/admin/upstreams/t", &operator, "").status, 204);
    server.wait_metric("ws_manager_stream_cleanups_total", 1.0);
    let left = server.block_on(async { tokio::runtime::Handle::current().metrics().num_alive_tasks() });
    assert!(left < tasks, "{left} of {tasks} tasks");
    assert_eq!(server.app().upstreams.streams().len(), 0);
    assert_eq!(server.http("DELETE", "/api/admin/upstreams/t", &operator, "").status, 404);
    adds_up(&server);
}

#[test]
fn two_feeds_make_one_channel_and_one_of_them_may_go() {
    let (one, mut two) = (Feed::start(), Feed::start());
    // The first is live first, so it is the one that leads.
    two.refuse();
    let urls = format!("{}, {}", quoted(&one.url("/ws")), quoted(&two.url("/ws")));
    let server = Server::start(&declared("t", &urls, "channel = \"upstream:t\"\nsequence = \"/n\"\n"));
    let mut ada = server.welcomed("ada");
    subscribe(&mut ada, "upstream:t");
    told(&mut ada, "live");
    two.listen();
    until("both are seen to be live", || stream(&server).links.iter().all(|link| link.state == "live"));
    one.wait_open(1);
    two.wait_open(1);
    // What one of them lost the other has, and what both have comes once.
    let said = [(&one, 1), (&two, 1), (&one, 3), (&two, 2), (&two, 3), (&two, 4)];
    for (sent, (feed, number)) in said.into_iter().enumerate() {
        feed.send(&json!({"n": number}).to_string());
        until("it was taken", || stream(&server).messages == sent as u64 + 1);
    }
    let numbers: Vec<u64> =
        (0..4).map(|_| next(&mut ada, "message")["data"]["n"].as_u64().unwrap()).collect();
    assert_eq!(numbers, [1, 2, 3, 4]);
    server.wait_metric("ws_manager_messages_total{result=\"duplicate\"}", 2.0);
    one.cut_all();
    told(&mut ada, "failover");
    assert_eq!(server.metric("ws_manager_failovers_total"), 1.0);
    two.send(r#"{"n":5}"#);
    assert_eq!(next(&mut ada, "message")["data"]["n"], 5);
    one.wait_accepted(2);
    assert_eq!(server.metric("ws_manager_missing_messages_total"), 0.0);
}

#[test]
fn numbers_that_never_come_are_told() {
    let feed = Feed::start();
    feed.otherwise(Behaviour::numbered("BTC", &[1, 2, 5, 5, 6]));
    let server = Server::start(&keyed(&feed, "sequence = \"/n\"\n"));
    let mut ada = server.welcomed("ada");
    subscribe(&mut ada, "upstream:t:BTC");
    let mut said = Vec::new();
    while said.last() != Some(&json!(6)) {
        let event = ada.json();
        match event["event"].as_str() {
            Some("message") => said.push(event["data"]["n"].clone()),
            Some("upstream") if event["data"]["state"] == "gap" => {
                said.push(json!([event["data"]["from"], event["data"]["to"]]));
            }
            _ => {}
        }
    }
    assert_eq!(said, [json!(1), json!(2), json!([3, 4]), json!(5), json!(6)]);
    assert_eq!(server.metric("ws_manager_missing_messages_total"), 2.0);
    assert_eq!(server.metric("ws_manager_messages_total{result=\"duplicate\"}"), 1.0);
}

#[test]
fn too_many_messages_are_dropped_and_told_or_wait() {
    let texts: Vec<String> = (0..200).map(|number| format!(r#"{{"s":"BTC","n":{number}}}"#)).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    for (overflow, all) in [("drop", false), ("wait", true)] {
        let feed = Feed::start();
        feed.script(1, Behaviour::says(&texts));
        let rest = format!("messages_per_second = 100\noverflow = \"{overflow}\"\n");
        let server = Server::start(&keyed(&feed, &rest));
        let mut ada = server.welcomed("ada");
        subscribe(&mut ada, "upstream:t:BTC");
        if all {
            for number in 0..200 {
                assert_eq!(next(&mut ada, "message")["data"]["n"], number);
            }
            assert_eq!(stream(&server).dropped, 0);
        } else {
            let dropped = told(&mut ada, "dropped")["dropped"].as_u64().unwrap();
            assert!((1..=100).contains(&dropped), "{dropped}");
            until("all were counted", || {
                let stream = stream(&server);
                stream.published + stream.dropped == 200
            });
        }
    }
}

/// Whatever a message says, it comes to a channel of its upstream that somebody listens to, or to none.
#[test]
fn a_hostile_feed_reaches_no_other_channel() {
    let feed = Feed::start();
    let server = Server::start(&keyed(&feed, ""));
    let mut ada = server.welcomed_as("ada", Role::Admin);
    subscribe(&mut ada, "upstream:t:BTC");
    for other in ["upstream:t:ETH2", "upstream:other", "run:1"] {
        let mut socket = server.welcomed("bob");
        subscribe(&mut socket, other);
        drop(socket);
    }
    feed.wait_open(1);
    let hostile = [
        r#"{"s":"../run:1"}"#,
        r#"{"s":""}"#,
        r#"{"s":"BTC","channel":"run:1"}"#,
        r#"{"s":"BTC:x"}"#,
        r#"{"s":null}"#,
        r#"["BTC"]"#,
        "no json",
        "\u{0}",
    ];
    for text in hostile {
        feed.send(text);
    }
    feed.send(&format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000)));
    feed.send(r#"{"s":"BTC","n":1}"#);
    assert_eq!(
        next(&mut ada, "message")["data"],
        json!({"s": "BTC", "channel": "run:1"}),
        "it is data and no more"
    );
    assert_eq!(next(&mut ada, "message")["data"]["n"], 1);
    assert_eq!(server.metric("ws_manager_messages_total{result=\"unmapped\"}"), 8.0);
    assert_eq!(server.metric("ws_manager_messages_total{result=\"published\"}"), 2.0);
}

/// Where only the server publishes, nobody can say what the feed did not.
#[test]
fn a_channel_that_only_the_server_writes_has_what_the_feed_says_and_nothing_else() {
    let feed = Feed::start();
    let namespace = "[[namespace]]\nname = \"feeds\"\npattern = \"upstream:*\"\nkind = \"ephemeral\"\npublish = \"server\"\n";
    let server = Server::start(&format!("{}{namespace}", keyed(&feed, "")));
    let mut ada = server.welcomed_as("ada", Role::Admin);
    subscribe(&mut ada, "upstream:t:BTC");
    told(&mut ada, "live");
    let answer = ada.ask(
        &json!({"type": "publish", "id": 1, "channel": "upstream:t:BTC", "event": "message", "data": 0}),
    );
    assert_eq!(answer["code"], "forbidden", "{answer}");
    feed.wait_open(1);
    feed.send(r#"{"s":"BTC"}"#);
    assert_eq!(next(&mut ada, "message")["data"], json!({"s": "BTC"}));
}

#[test]
fn idle_streams_are_closed_when_an_operator_says_so() {
    let feed = Feed::start();
    let server = Server::start(&keyed(&feed, "idle = \"1h\"\n"));
    let (operator, viewer) =
        (bearer(&server.token("op", Role::Operator)), bearer(&server.token("eve", Role::Viewer)));
    let mut ada = server.welcomed("ada");
    subscribe(&mut ada, "upstream:t:BTC");
    feed.wait_open(1);
    let cleanup = |headers: &str, query: &str| {
        server.http("POST", &format!("/api/admin/upstreams/cleanup{query}"), headers, "")
    };
    assert_eq!(cleanup(&operator, "").json(), json!({"closed": 0}), "somebody listens");
    drop(ada);
    until("it is idle", || stream(&server).idle_ms.is_some());
    assert_eq!(cleanup(&viewer, "").status, 401, "it takes an operator");
    assert_eq!(cleanup(&operator, "?idle_ms=600000").json(), json!({"closed": 0}));
    assert_eq!(cleanup(&operator, "?idle_ms=0").json(), json!({"closed": 1}));
    feed.wait_ended(1);
    server.wait_metric("ws_manager_stream_cleanups_total", 1.0);
}

#[test]
fn each_key_has_its_own_connection_where_the_url_names_it() {
    let feed = Feed::start();
    let url = quoted(&feed.url("/ws/{key}?k={key}"));
    let server = Server::start(&declared("t", &url, "channel = \"upstream:t:{key}\"\n"));
    let mut ada = server.welcomed("ada");
    for key in ["BTC", "ETH"] {
        subscribe(&mut ada, &format!("upstream:t:{key}"));
        told(&mut ada, "live");
    }
    feed.wait_open(2);
    let paths: Vec<String> = feed.connections().into_iter().map(|connection| connection.path).collect();
    assert_eq!(paths, ["/ws/BTC?k=BTC", "/ws/ETH?k=ETH"]);
    feed.send_to(2, r#"{"p":1}"#);
    assert_eq!(next(&mut ada, "message")["channel"], "upstream:t:ETH");
    feed.send_to(1, r#"{"p":2}"#);
    assert_eq!(next(&mut ada, "message")["channel"], "upstream:t:BTC");
    assert_eq!(server.metric("ws_manager_active_connections"), 2.0);
}

/// W5, the short form: `cargo xtask proofs` runs it with ten thousand.
#[test]
fn streams_come_and_go_and_nothing_of_them_stays() {
    let count = proof::rounds("PULSEWIRE_UPSTREAMS", 1_000) as usize / 100 * 100;
    let feed = Feed::start();
    // One in ten fails at first.
    for number in (1..=count).step_by(10) {
        feed.script(number, Behaviour::CloseAtOnce);
    }
    let url = quoted(&feed.url("/ws/{key}"));
    let declared = declared("t", &url, "channel = \"upstream:t:{key}\"\nidle = \"0s\"\n");
    let server = Server::start(&declared);
    let mut ada = server.welcomed("ada");
    let files = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let tasks = || server.block_on(async { tokio::runtime::Handle::current().metrics().num_alive_tasks() });
    let before = (files(), tasks());
    let mut high = 0.0_f64;
    let mut resident = 0;
    for round in 0..count / 100 {
        if round == 1 {
            resident = resident_bytes();
        }
        let channels: Vec<String> = (0..100).map(|key| format!("upstream:t:{round}-{key}")).collect();
        ada.say(&json!({"type": "subscribe", "channels": channels}));
        server.wait_metric("ws_manager_streams{state=\"live\"}", 100.0);
        adds_up(&server);
        high = high.max(server.metric("ws_manager_active_connections"));
        ada.say(&json!({"type": "unsubscribe", "channels": channels}));
        // Who reads nothing is let go.
        ada.flush(b"read");
        until("they are gone", || {
            adds_up(&server);
            server.metric("ws_manager_active_connections") == 0.0
        });
    }
    assert_eq!(server.metric("ws_manager_stream_creations_total"), count as f64);
    server.wait_metric("ws_manager_stream_cleanups_total", count as f64);
    assert_eq!(server.metric("ws_manager_active_connections_hwm"), high);
    // The other side of each connection is in this process, too.
    until("descriptors and tasks are given back", || files() <= before.0 + 2 && tasks() <= before.1 + 2);
    assert_eq!(server.metric("ws_manager_streams_uncleaned"), 0.0);
    if proof::wanted() {
        let figure =
            |what: &str, value: f64, unit: &str| Figure::new(format!("upstreams_{what}"), value, unit);
        let left =
            [files().saturating_sub(before.0), tasks().saturating_sub(before.1)].map(|left| left as f64);
        let grown = (resident_bytes() - resident) as f64 / 1_048_576.0;
        let about = "Row W5: streams to another server are created, used and closed, a hundred at a time; one connection in \
                     ten ends at once and is tried again. In every scrape what was created less what was cleaned is what is \
                     there.";
        let figures = vec![
            figure("created", count as f64, "streams"),
            figure("cleaned", server.metric("ws_manager_stream_cleanups_total"), "streams").at_least(count as f64),
            figure("retries", server.metric("ws_manager_retry_count_total"), "attempts"),
            figure("left_descriptors", left[0], "descriptors").at_most(2.0),
            figure("left_tasks", left[1], "tasks").at_most(2.0),
            figure("grown", grown, "MiB").at_most(32.0).note(
                "resident since the first hundred, of the server and of the other side, which keeps what it saw of each",
            ),
        ];
        Proof { name: "upstreams", about, figures }.write();
    }
}

/// What this process has in memory.
fn resident_bytes() -> i64 {
    i64::try_from(pulsewire_telemetry::Process::read().resident_bytes).unwrap()
}

fn upstream(name: &str, url: &str) -> Upstream {
    let url = Template::parse(url).unwrap();
    let mut upstream = Upstream::new(name, vec![url], ChannelTemplate::parse("upstream:c:{key}").unwrap());
    upstream.allow_private = true;
    (upstream.retry.min_ms, upstream.retry.max_ms) = (20, 100);
    upstream.retry.circuit_failures = 0;
    upstream
}

/// A candidate that refuses is taken back by the server itself; one that is as good as stable stays. Within which time,
/// and over many seeds, is simulated beside what decides it (`upstream::canary`).
#[test]
fn a_candidate_that_is_worse_is_taken_back_and_one_that_is_not_is_not() {
    for (worse, verdict) in [(true, "rolled_back"), (false, "pass")] {
        let (feed, mut candidate) = (Feed::start(), Feed::start());
        let server = Server::start("");
        if worse {
            candidate.refuse();
        }
        let config = Config {
            streams_max: 1_000,
            retries_per_second: 0,
            message_bytes_max: 1 << 20,
            allow_private: true,
            candidate: Some(0.2),
            // Ten times as fast as the least that can be set.
            rules: Rules { window_ms: 1_000, ..Rules::default() },
            rollback: true,
            declared: vec![(
                Arc::new(upstream("c", &feed.url("/ws/{key}"))),
                Some(Arc::new(upstream("c", &candidate.url("/ws/{key}")))),
            )],
        };
        configure(&server, config);
        let mut ada = server.welcomed("ada");
        let channels: Vec<String> = (0..60).map(|key| format!("upstream:c:{key}")).collect();
        ada.say(&json!({"type": "subscribe", "channels": channels}));
        let tracks = || -> (usize, BTreeSet<String>) {
            let streams = server.app().upstreams.streams();
            let canary = streams.iter().filter(|stream| stream.track == "canary");
            (streams.len(), canary.map(|stream| stream.key.to_string()).collect())
        };
        until("all are there", || tracks().0 == 60);
        let (_, canaries) = tracks();
        assert!((4..=24).contains(&canaries.len()), "a fifth of 60: {canaries:?}");
        until(verdict, || server.app().upstreams.canary().verdict == verdict);
        if worse {
            assert_eq!(server.metric("ws_manager_canary_verdict{verdict=\"rolled_back\"}"), 1.0);
            server.wait_metric("ws_manager_streams{state=\"live\"}", 60.0);
            assert_eq!(tracks().1, BTreeSet::new());
            let info = server.app().upstreams.canary();
            assert!(info.rolled_back_why.is_some_and(|why| why.contains("error rate")), "{:?}", info.tracks);
            assert_eq!(feed.open(), 60);
        } else {
            server.wait_metric("ws_manager_streams{state=\"live\"}", 60.0);
            assert_eq!(tracks().1, canaries, "the same are the candidate's");
            let rolled_back = server.app().upstreams.roll_back("a test wants it").unwrap();
            assert_eq!(rolled_back, canaries.len());
            feed.wait_open(60);
        }
    }
}

/// 002-31.
#[test]
fn each_retry_is_in_the_log_as_document_002_looks_for_it() {
    let mut feed = Feed::start();
    feed.refuse();
    let folder = crate::child::Folder::new();
    let text = format!("[log]\nformat = \"json\"\n{}", keyed(&feed, "always = true\nkeys = [\"BTC\"]\n"));
    let settings = folder.write("pulsewire.toml", &text);
    let data = folder.path().join("data");
    let (data, secret) = (format!("server.data_dir={}", data.display()), format!("auth.secret={SECRET}"));
    let flags = ["-c", settings.to_str().unwrap(), "--set", &data, "--set", &secret];
    let mut server = crate::child::Process::serve(crate::child::pulsewire(), &flags);
    until("it tries again", || server.metric("ws_manager_retry_count_total") > 0.0);
    server.signal("TERM");
    let (status, _, log) = server.wait();
    assert!(status.success(), "{log}");
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let retries: Vec<Value> =
        lines.filter(|line| line.to_string().contains("WSManager: a stream failed")).collect();
    let line = retries.first().unwrap_or_else(|| panic!("{log}")).to_string();
    assert!(line.contains("retry is in"), "{line}");
    for field in
        [r#""component":"WSManager""#, r#""event":"retry""#, r#""upstream":"t""#, r#""kind":"connect""#]
    {
        assert!(line.contains(field), "{field}: {line}");
    }
}

#[test]
fn streams_end_with_the_server() {
    let feed = Feed::start();
    let mut server = Server::start(&keyed(&feed, ""));
    let mut ada = server.welcomed("ada");
    subscribe(&mut ada, "upstream:t:BTC");
    feed.wait_open(1);
    server.stop(Duration::from_secs(1));
    assert_eq!(feed.wait_ended(1).closed_with, Some(1000));
}
