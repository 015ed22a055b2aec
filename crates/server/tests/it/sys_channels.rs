//! The `$sys` channels: what operators watch.

use pulsewire::auth::Role;
use pulsewire::watch;
use serde_json::{Value, json};

use crate::harness::{Server, Socket, bearer, until};
use crate::reading::Stream;

/// How often an answer was made.
const MADE: &str = "pulsewire_watch_seconds_count";

/// Subscribes; returns the answer.
fn subscribe(socket: &mut Socket, channel: &str) -> Value {
    socket.ask(&json!({ "type": "subscribe", "channels": [channel] }))
}

/// A socket of a role that listens to a channel.
fn watching(server: &Server, role: Role, channel: &str) -> Socket {
    let mut socket = server.welcomed_as("ops", role);
    assert_eq!(subscribe(&mut socket, channel)["type"], "subscribed");
    socket
}

/// The next event of a type on a channel, passing over others.
fn next_of(socket: &mut Socket, channel: &str, event_type: &str) -> Value {
    loop {
        let message = socket.json();
        if message["channel"] == channel && message["event"] == event_type {
            return message["data"].clone();
        }
    }
}

fn next(socket: &mut Socket, event_type: &str) -> Value {
    next_of(socket, "$sys.channels", event_type)
}

fn listener(server: &Server, channel: &str) -> Socket {
    let mut socket = server.welcomed("ann");
    assert_eq!(subscribe(&mut socket, channel)["type"], "subscribed");
    socket
}

#[test]
fn a_viewer_is_told_a_page_and_then_what_changed() {
    let server = Server::start("");
    let _ann = listener(&server, "run:1");
    let mut viewer = watching(&server, Role::Viewer, "$sys.channels");
    let page = next(&mut viewer, "page");
    assert_eq!((&page["revision"], &page["total"], &page["matched"]), (&json!(1), &json!(1), &json!(1)));
    assert_eq!((&page["rows"][0]["id"], &page["rows"][0]["subscribers"]), (&json!("run:1"), &json!(1)));
    server.publish(&json!({"channel": "run:1", "type": "note", "data": 1}));
    let changes = next(&mut viewer, "changes");
    assert_eq!((&changes["base"], &changes["revision"]), (&json!(1), &json!(2)));
    let row = &changes["rows"][0];
    assert_eq!((&row["id"], &row["head"], &row["published"]), (&json!("run:1"), &json!(1), &json!(1)));
    assert_eq!(row.get("kind"), None, "what has not changed is not told: {row}");
    let next = watch::apply(&page, &changes).expect("they follow the page");
    assert_eq!((&next["rows"][0]["head"], &next["rows"][0]["kind"]), (&json!(1), &json!("log")));
}

#[test]
fn upstreams_are_told_with_how_many_there_are_and_how_the_candidate_does() {
    let server = Server::start("");
    let mut viewer = watching(&server, Role::Viewer, "$sys.upstreams:sort=-errors+limit=9");
    let page = next_of(&mut viewer, "$sys.upstreams:sort=-errors+limit=9", "page");
    assert_eq!((&page["total"], &page["rows"], &page["declared"]), (&json!(0), &json!([]), &json!([])));
    assert_eq!((&page["totals"]["active"], &page["declaredTotal"]), (&json!(0), &json!(0)));
    assert!(page["canary"]["tracks"]["stable"]["streams"] == 0, "{page}");
    let get = |query: &str, role| {
        let headers = bearer(&server.token("ops", role));
        server.http("GET", &format!("/api/admin/upstreams{query}"), &headers, "")
    };
    assert_eq!(get("?upstream=quotes&filter=state:live", Role::Viewer).json()["revision"], 0);
    let refused = get("?filter=state:dead", Role::Viewer);
    assert_eq!((refused.status, &refused.json()["code"]), (400, &json!("bad_request")));
    assert_eq!(get("?group=track", Role::Viewer).status, 400);
    assert_eq!(get("", Role::User).status, 401);
}

#[test]
fn the_same_comes_over_http_and_belongs_to_no_watch() {
    let server = Server::start("");
    let _ann = listener(&server, "run:1");
    let get = |query: &str| {
        let headers = bearer(&server.token("ops", Role::Viewer));
        server.http("GET", &format!("/api/admin/channels{query}"), &headers, "")
    };
    let page = get("").json();
    assert_eq!(
        (&page["revision"], &page["total"], &page["rows"][0]["id"]),
        (&json!(0), &json!(1), &json!("run:1"))
    );
    assert_eq!(get("?limit=1&offset=1").json()["rows"], json!([]));
    for wrong in ["?limit=201", "?limit=1&limit=2", "?colour=red", "?limit"] {
        let answer = get(wrong);
        assert_eq!((answer.status, &answer.json()["code"]), (400, &json!("bad_request")), "{wrong}");
    }
}

#[test]
fn whoever_may_not_look_on_is_told_nothing_on_any_way() {
    let server = Server::start("");
    for role in [Role::User, Role::Publisher] {
        let mut socket = server.welcomed_as("eve", role);
        for channel in ["$sys.channels", "$sys.events", "$sys.tap:01J", "$sys.nothing"] {
            assert_eq!(subscribe(&mut socket, channel)["code"], "forbidden", "{role:?} {channel}");
        }
        let headers = bearer(&server.token("eve", role));
        for way in ["sse", "poll", "events", "history", "state"] {
            let answer = server.http("GET", &format!("/api/channels/$sys.channels/{way}"), &headers, "");
            assert_eq!(answer.status, 403, "{role:?} {way}: {}", answer.text());
        }
        assert_eq!(server.http("GET", "/api/admin/channels", &headers, "").status, 401, "{role:?}");
    }
    let mut viewer = server.welcomed_as("ops", Role::Viewer);
    assert_eq!(
        subscribe(&mut viewer, "$sys.tap:01J/payload")["code"],
        "forbidden",
        "payloads are for operators"
    );
}

/// Whoever looks on or operates says nothing, whatever the grants are: an operator's browser is no publisher.
#[test]
fn who_looks_on_or_operates_publishes_nowhere() {
    let server = Server::start("");
    let event = json!({"channel": "run:1", "type": "note", "data": 1});
    for (role, publishes) in [(Role::Viewer, false), (Role::Operator, false), (Role::Admin, true)] {
        let headers = format!("{}Content-Type: application/json\r\n", bearer(&server.token("ops", role)));
        let status = server.http("POST", "/api/publish", &headers, &event.to_string()).status;
        assert_eq!(status, if publishes { 200 } else { 401 }, "{role:?}");
        let mut socket = server.welcomed_as("ops", role);
        let answer =
            socket.ask(&json!({"type": "publish", "id": 1, "channel": "run:1", "event": "note", "data": 1}));
        assert_eq!(answer["code"] == "forbidden", !publishes, "{role:?}: {answer}");
        assert_eq!(
            subscribe(&mut socket, "run:1")["type"],
            "subscribed",
            "{role:?} reads where its grants say"
        );
    }
}

#[test]
fn nobody_publishes_there() {
    let server = Server::start("");
    for role in [Role::Publisher, Role::Viewer, Role::Operator, Role::Admin] {
        let headers = format!("{}Content-Type: application/json\r\n", bearer(&server.token("app", role)));
        let event = json!({"channel": "$sys.channels", "type": "page", "data": 1}).to_string();
        let status = server.http("POST", "/api/publish", &headers, &event).status;
        assert!(matches!(status, 401 | 403), "{role:?}: {status}");
    }
}

#[test]
fn nothing_is_made_while_nobody_listens() {
    let server = Server::start("");
    let mut idle = server.welcomed_as("ops", Role::Viewer);
    assert_eq!(subscribe(&mut idle, "run:1")["type"], "subscribed");
    let mut viewer = watching(&server, Role::Viewer, "$sys.channels");
    next(&mut viewer, "page");
    server.wait_metric("pulsewire_watches", 1.0);
    until("it is counted", || server.metric(MADE) >= 1.0);
    viewer.say(&json!({"type": "unsubscribe", "channels": ["$sys.channels"]}));
    server.wait_metric("pulsewire_watches", 0.0);
    let made = server.metric(MADE);
    // Another watch, until it is put in order again, which takes seconds.
    let began = std::time::Instant::now();
    let mut other = watching(&server, Role::Viewer, "$sys.channels:limit=1");
    next_of(&mut other, "$sys.channels:limit=1", "page");
    next_of(&mut other, "$sys.channels:limit=1", "page");
    // A session that only lost its connection may come back to its channels.
    other.say(&json!({"type": "unsubscribe", "channels": ["$sys.channels:limit=1"]}));
    server.wait_metric("pulsewire_watches", 0.0);
    let of_the_other = server.metric(MADE) - made;
    let seconds = began.elapsed().as_secs_f64();
    let once_a_second = 2.0..=2.0 + 1.1 * seconds;
    assert!(once_a_second.contains(&of_the_other), "two were answered: {of_the_other} in {seconds} s");
    until("they are forgotten", || {
        server.app().bus.system_channels();
        server.app().bus.all_channels().iter().all(|channel| !channel.name.as_str().starts_with("$sys."))
    });
}

#[test]
fn who_joins_is_told_a_page_at_once_and_shares_the_watch() {
    let server = Server::start("");
    let mut first = watching(&server, Role::Viewer, "$sys.channels");
    let page = next(&mut first, "page");
    let mut second = watching(&server, Role::Admin, "$sys.channels");
    let joined = next(&mut second, "page");
    assert!(joined["revision"].as_u64() > page["revision"].as_u64(), "{joined}");
    assert_eq!(next(&mut first, "page")["revision"], joined["revision"], "everybody has the same page");
    assert_eq!(server.metric("pulsewire_watches"), 1.0);
}

#[test]
fn a_query_that_is_not_understood_says_what_would_be() {
    let server = Server::start("");
    let mut viewer = server.welcomed_as("ops", Role::Viewer);
    for (channel, words) in [
        ("$sys.channels:limit=0", "`limit` is a number from 1 to 200"),
        ("$sys.channels:colour=red", "unknown parameter `colour`; there are"),
        ("$sys.channels:limit", "expected `name=value`"),
        ("$sys.nothing", "there is no `$sys.nothing`; there are"),
    ] {
        assert_eq!(subscribe(&mut viewer, channel)["type"], "subscribed");
        let error = next_of(&mut viewer, channel, "error");
        assert_eq!(error["code"], "bad_request", "{channel}");
        assert!(error["message"].as_str().unwrap().contains(words), "{channel}: {error}");
    }
}

#[test]
fn queries_are_limited_and_a_place_that_becomes_free_is_given_on() {
    let server = Server::start("[watch]\nqueries_max = 1\n");
    let mut first = watching(&server, Role::Viewer, "$sys.channels");
    next(&mut first, "page");
    let mut second = watching(&server, Role::Viewer, "$sys.channels:limit=1");
    let error = next_of(&mut second, "$sys.channels:limit=1", "error");
    assert_eq!(error["code"], "limit_exceeded");
    assert_eq!(server.metric("pulsewire_watches_refused_total"), 1.0, "it is said once");
    let tap = "$sys.tap:01J00000000000000000000000";
    let mut tapping = watching(&server, Role::Viewer, tap);
    assert_eq!(next_of(&mut tapping, tap, "error")["code"], "limit_exceeded");
    let mut third = watching(&server, Role::Viewer, "$sys.channels");
    next(&mut third, "page");
    drop((first, third));
    next_of(&mut second, "$sys.channels:limit=1", "page");
}

#[test]
fn a_watch_can_be_followed_as_an_event_stream() {
    let server = Server::start("");
    let _ann = listener(&server, "run:1");
    let headers = bearer(&server.token("ops", Role::Operator));
    let mut stream = Stream::open(&server, "/api/channels/$sys.channels:limit=5/sse", &headers);
    assert_eq!(stream.block().event, "subscribed");
    let block = stream.block();
    assert_eq!(block.event, "event");
    let message = block.json();
    assert_eq!((&message["event"], &message["data"]["rows"][0]["id"]), (&json!("page"), &json!("run:1")));
    let poll = server.http("GET", "/api/channels/$sys.channels/poll", &headers, "");
    assert_eq!(poll.json()["code"], "history_unavailable", "ask the endpoint: {}", poll.text());
}

#[test]
fn what_happens_is_told_to_those_who_listen() {
    let server = Server::start("");
    watch::tell(server.app(), "$sys.events", "started", &json!({"text": "nobody hears"}));
    let mut viewer = watching(&server, Role::Viewer, "$sys.events");
    watch::tell(server.app(), "$sys.events", "draining", &json!({"text": "going away"}));
    let told = viewer.json();
    assert_eq!((&told["event"], &told["data"]["text"]), (&json!("draining"), &json!("going away")));
}

/// The session of a socket that was welcomed.
fn session(server: &Server, user: &str) -> (Socket, String) {
    let mut socket = server.open("/ws", &bearer(&server.token(user, Role::User)));
    let session = socket.json()["client_id"].as_str().unwrap().to_owned();
    (socket, session)
}

/// The actions of the audit log, newest first: who, what, whom.
fn audited(server: &Server) -> Vec<[String; 3]> {
    let headers = bearer(&server.token("auditor", Role::Viewer));
    let page = server.http("GET", "/api/admin/audit", &headers, "").json();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let rows = page["rows"].as_array().unwrap().iter();
    rows.map(|row| [text(&row["who"]), text(&row["action"]), text(&row["target"])]).collect()
}

#[test]
fn a_tap_shows_what_one_connection_is_sent_and_payloads_to_operators_only() {
    let server = Server::start("");
    let (mut ann, session) = session(&server, "ann");
    assert_eq!(subscribe(&mut ann, "run:1")["type"], "subscribed");
    let (hidden, shown) = (format!("$sys.tap:{session}"), format!("$sys.tap:{session}/payload"));
    let mut viewer = watching(&server, Role::Viewer, &hidden);
    let mut operator = watching(&server, Role::Operator, &shown);
    // Whoever listens is written down before anything is told.
    until("both are open", || audited(&server).len() == 2);
    let target = format!("session {session}");
    assert!(audited(&server).contains(&["ops".to_owned(), "tap".to_owned(), target.clone()]));
    assert!(audited(&server).contains(&["ops".to_owned(), "tap_payload".to_owned(), target]));
    // A tap is open a moment after it was written down, so something is said until both have heard it.
    let heard = |socket: &mut Socket, channel: &str| loop {
        let told = next_of(socket, channel, "tap");
        if told["direction"] == "out" && told["channel"] == "run:1" {
            return told;
        }
    };
    let (told, shown) = std::thread::scope(|scope| {
        let viewer = scope.spawn(|| heard(&mut viewer, &hidden));
        let operator = scope.spawn(|| heard(&mut operator, &shown));
        while !(viewer.is_finished() && operator.is_finished()) {
            server.publish(&json!({"channel": "run:1", "type": "note", "data": "secret"}));
            // It is read, so that it never lags.
            ann.json();
        }
        (viewer.join().unwrap(), operator.join().unwrap())
    });
    assert_eq!((&told["kind"], &told["payload"]), (&json!("event"), &Value::Null), "{told}");
    assert!(told["sequence"].as_u64() > Some(0) && told["bytes"].as_u64() > Some(0), "{told}");
    assert!(shown["payload"].as_str().unwrap().contains("secret"), "{told}");
    // What holds a ticket is for nobody but its client.
    assert!(ann.ask(&json!({"type": "connect"}))["ticket"].is_string());
    let channel = format!("$sys.tap:{session}/payload");
    let told = loop {
        let told = next_of(&mut operator, &channel, "tap");
        if told["kind"] == "connected" {
            break told;
        }
    };
    assert_eq!(told["payload"], Value::Null, "{told}");
    drop((viewer, operator));
    let mut late = watching(&server, Role::Viewer, "$sys.tap:nobody");
    assert_eq!(next_of(&mut late, "$sys.tap:nobody", "error")["code"], "bad_request");
    let gone = "$sys.tap:01J00000000000000000000000";
    let mut late = watching(&server, Role::Viewer, gone);
    let error = next_of(&mut late, gone, "error");
    assert!(["not_found", "bad_request"].contains(&error["code"].as_str().unwrap()), "{error}");
}
