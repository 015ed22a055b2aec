//! The channels of a node, as operators see them.

use pulsewire::auth::Role;
use serde_json::{Value, json};

use crate::harness::{Answer, Server, Socket, bearer, until};

fn ask(server: &Server, path: &str) -> Answer {
    server.http("GET", &format!("/api/admin/channels{path}"), &bearer(&server.token("ops", Role::Viewer)), "")
}

fn get(server: &Server, path: &str) -> Value {
    let answer = ask(server, path);
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    answer.json()
}

fn ids(server: &Server, query: &str) -> Vec<String> {
    let list = get(server, query);
    list["rows"].as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect()
}

fn subscribed(server: &Server, user: &str, message: &Value) -> Socket {
    let mut socket = server.welcomed(user);
    assert_eq!(socket.ask(message)["type"], "subscribed");
    socket
}

fn world(server: &Server) -> Vec<Socket> {
    let listen = |user: &str, channels: &[&str]| {
        subscribed(server, user, &json!({ "type": "subscribe", "channels": channels }))
    };
    vec![
        listen("ann", &["run:1", "run:2", "upstream:a"]),
        listen("bob", &["run:1", "project:7"]),
        listen("cyd", &["run:1"]),
        // Another view of the same channel counts as well.
        subscribed(server, "dan", &json!({"type": "subscribe", "channels": ["run:2"], "filter": {"a": "b"}})),
    ]
}

#[test]
fn channels_are_filtered_and_put_in_order() {
    let server = Server::start("");
    let _clients = world(&server);
    server.publish(&json!({"channel": "project:7", "type": "note", "data": 1}));
    assert_eq!(
        ids(&server, ""),
        ["run:1", "run:2", "project:7", "upstream:a"],
        "most subscribers, then names"
    );
    for (query, expected) in [
        ("?sort=name", &["project:7", "run:1", "run:2", "upstream:a"][..]),
        ("?sort=-head&limit=1", &["project:7"]),
        ("?sort=name&offset=1&limit=2", &["run:1", "run:2"]),
        ("?filter=prefix:run", &["run:1", "run:2"]),
        ("?filter=channel:run:*%20subscribers%3E2", &["run:1"]),
        ("?filter=-kind:log", &["upstream:a"]),
        ("?filter=namespace:project", &["project:7"]),
        ("?filter=stream", &["upstream:a"]),
        ("?filter=head%3E=1", &["project:7"]),
        ("?filter=nothing", &[]),
    ] {
        assert_eq!(ids(&server, query), expected, "{query}");
    }
    let list = get(&server, "?filter=prefix:run&limit=1");
    assert_eq!((&list["total"], &list["matched"]), (&json!(4), &json!(2)));
    for wrong in ["?filter=colour:red", "?sort=size", "?group=name", "?filter=kind:loud", "?filter=rate%3Ex"]
    {
        let answer = ask(&server, wrong);
        assert_eq!((answer.status, &answer.json()["code"]), (400, &json!("bad_request")), "{wrong}");
    }
}

#[test]
fn channels_are_counted_in_groups() {
    let server = Server::start("");
    let _clients = world(&server);
    let groups = get(&server, "?group=prefix");
    let shown: Vec<_> = groups["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            (
                row["id"].as_str().unwrap(),
                row["channels"].as_u64().unwrap(),
                row["subscribers"].as_u64().unwrap(),
            )
        })
        .collect();
    assert_eq!(shown, [("run", 2, 5), ("project", 1, 1), ("upstream", 1, 1)]);
    assert_eq!(ids(&server, "?group=kind&sort=name"), ["ephemeral", "log"]);
}

#[test]
fn a_row_says_what_was_published_and_how_much_a_second() {
    let server = Server::start("");
    let _clients = world(&server);
    server.publish(&json!([
        {"channel": "run:1", "type": "note", "data": "12345678"},
        {"channel": "run:1", "type": "FLAG", "data": 1},
    ]));
    let row = get(&server, "?limit=1")["rows"][0].clone();
    let expected = json!({
        "id": "run:1", "channel": "run:1", "namespace": "run", "kind": "log", "subscribers": 3,
        "publishedPerSecond": null, "bytesPerSecond": null, "published": 2, "publishedBytes": 11,
        "criticalShare": 0.5, "head": 2, "epoch": row["epoch"], "floor": 0, "present": 0, "series": null,
    });
    assert_eq!(row, expected, "a first look knows no rates");
    until("a rate is known", || {
        server.publish(&json!({"channel": "run:1", "type": "note", "data": 1}));
        get(&server, "?limit=1")["rows"][0]["publishedPerSecond"].as_f64().is_some_and(|rate| rate > 0.0)
    });
    server.publish_values("system.metrics", 1_700_000_000_000, &[("cpu.percent", 1.0), ("load.one", 1.0)]);
    let row = get(&server, "?filter=kind:metrics")["rows"][0].clone();
    assert_eq!(
        (&row["id"], &row["series"], &row["head"]),
        (&json!("system.metrics"), &json!(2), &Value::Null)
    );
}

#[test]
fn one_channel_shows_who_reads_it_and_who_is_there() {
    let server = Server::start("");
    let _clients = world(&server);
    let mut member = server.welcomed("eve");
    let channels = json!([{"channel": "run:1", "presence": true}]);
    assert_eq!(member.ask(&json!({"type": "subscribe", "channels": channels}))["type"], "subscribed");
    server.publish(&json!({"channel": "run:1", "type": "note", "data": 1}));
    until("everybody has it", || {
        let readers = get(&server, "/run:1")["readers"].clone();
        let readers = readers.as_array().unwrap();
        readers.len() == 4 && readers.iter().all(|reader| reader["position"] == 1 && reader["behind"] == 0)
    });
    let shown = get(&server, "/run:1");
    assert_eq!((&shown["id"], &shown["head"], &shown["present"]), (&json!("run:1"), &json!(1), &json!(1)));
    assert_eq!(shown["members"], json!([{"userId": "eve", "cursor": null}]));
    let mut users: Vec<_> =
        shown["readers"].as_array().unwrap().iter().map(|one| one["userId"].as_str().unwrap()).collect();
    users.sort_unstable();
    assert_eq!(users, ["ann", "bob", "cyd", "eve"]);
    assert_eq!(shown["readers"][0]["feeding"], "live");
    for (path, status) in
        [("/run:404", 404), ("/$sys.overview", 404), ("/a%20b", 400), ("/run:1?limit=1", 400)]
    {
        assert_eq!(ask(&server, path).status, status, "{path}");
    }
}

#[test]
fn who_is_furthest_behind_comes_first() {
    let server = Server::start(
        "[limits]\noutbox_bytes_max = \"4KiB\"\nkernel_unsent_bytes = \"4KiB\"\nslow_after = \"1m\"\n",
    );
    let _fast = subscribed(&server, "fast", &json!({"type": "subscribe", "channels": ["project:1"]}));
    let mut slow = Socket::connect_small(server.address);
    let token = server.token("slow", Role::User);
    slow.send(crate::harness::handshake("/ws", &bearer(&token)).as_bytes());
    assert_eq!(slow.head().status, 101);
    assert_eq!(slow.json()["type"], "welcome");
    assert_eq!(slow.ask(&json!({"type": "subscribe", "channels": ["run:1"]}))["type"], "subscribed");
    let mut fast = subscribed(&server, "fast", &json!({"type": "subscribe", "channels": ["run:1"]}));
    let pad = "x".repeat(20_000);
    for n in 1..=100 {
        server.publish(&json!({"channel": "run:1", "type": "note", "data": {"n": n, "pad": pad}}));
        assert_eq!(fast.json()["data"]["n"], n);
    }
    until("the slow one is behind", || {
        let first = get(&server, "/run:1")["readers"][0].clone();
        first["userId"] == "slow" && first["behind"].as_u64() > Some(0) && first["feeding"] != "live"
    });
    let readers = get(&server, "/run:1")["readers"].clone();
    assert_eq!((&readers[1]["userId"], &readers[1]["behind"]), (&json!("fast"), &json!(0)), "{readers}");
}
