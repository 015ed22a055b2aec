//! What operators see and do, on several nodes.

use std::time::Instant;

use serde_json::{Value, json};

use crate::child::{Folder, Process, pulsewire, run};
use crate::cluster::Cluster;
use crate::database::Database;
use crate::harness::{Answer, Socket, bearer, handshake, until};
use crate::redis::Redis;

const REVOKE: &str = "/api/admin/revocations";
const BLOCKS: &str = "/api/admin/blocks";
const DISCONNECT: &str = "/api/admin/websocket/disconnect";

fn post(node: &Process, headers: &str, path: &str, body: &Value) -> Answer {
    let headers = format!("{headers}Content-Type: application/json\r\n");
    node.http("POST", path, &headers, &body.to_string())
}

/// A connection with a token, welcomed.
fn welcomed(node: &Process, token: &str) -> Socket {
    let mut socket = node.connect();
    socket.send(handshake("/ws", &bearer(token)).as_bytes());
    assert_eq!(socket.head().status, 101);
    assert_eq!(socket.json()["type"], "welcome");
    socket
}

/// Has a node stand still.
fn stop(node: &Process) {
    node.signal("STOP");
    let state = || std::fs::read_to_string(format!("/proc/{}/stat", node.pid())).unwrap();
    until("it stands still", || {
        state().rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T'))
    });
}

/// What a knock with this token is answered.
fn knock(node: &Process, token: &str) -> u16 {
    let mut socket = node.connect();
    socket.send(handshake("/ws", &bearer(token)).as_bytes());
    socket.head().status
}

/// Row A11 on three nodes: every connection ends, and the token is refused everywhere, also where the others cannot
/// tell of it and on nodes that start afterwards.
#[test]
fn a_revoked_user_is_out_on_every_node_whatever_carries_the_word() {
    let Some(database) = Database::shared() else { return };
    let Some(mut redis) = Redis::start() else { return };
    let mut cluster = Cluster::start(&database.fresh_url(), &redis.url(), 3, "");
    cluster.assemble();
    let headers = cluster.headers();
    let (eve, bob) = (cluster.token_of("eve"), cluster.token_of("bob"));
    let mut eves: Vec<_> = cluster.nodes.iter().map(|node| welcomed(node, &eve)).collect();
    let mut bobs: Vec<_> = cluster.nodes.iter().map(|node| welcomed(node, &bob)).collect();
    let answer = post(&cluster.nodes[0], &headers, REVOKE, &json!({"user": "eve"}));
    assert_eq!(answer.json(), json!({"revoked": true, "closed": 3, "missing_nodes": []}));
    for (node, eve_there) in cluster.nodes.iter().zip(&mut eves) {
        assert_eq!(knock(node, &eve), 401);
        assert_eq!(eve_there.closed_with(), 4506);
    }
    // Others are untouched.
    for bob_there in &mut bobs {
        assert_eq!(bob_there.ask(&json!({"type": "ping", "timestamp": 1}))["type"], "pong");
    }
    let poll = cluster.nodes[1].http("GET", "/api/channels/run:1/history", &bearer(&eve), "");
    assert_eq!(poll.status, 401, "also over HTTP");
    // Without Redis the others find out by the store.
    redis.kill();
    let answer = post(&cluster.nodes[2], &headers, REVOKE, &json!({"user": "bob"})).json();
    assert_eq!(answer["revoked"], true, "{answer}");
    for (node, bob_there) in cluster.nodes.iter().zip(&mut bobs) {
        assert_eq!(bob_there.closed_with(), 4506);
        assert_eq!(knock(node, &bob), 401);
    }
    // Who starts afterwards knows both from its first moment.
    let late = cluster.another();
    assert_eq!((knock(&late, &eve), knock(&late, &bob)), (401, 401));
    cluster.nodes.push(late);
}

#[test]
fn an_address_is_shut_out_and_let_in_again_on_every_node() {
    let Some(database) = Database::shared() else { return };
    let Some(redis) = Redis::start() else { return };
    let mut cluster = Cluster::start(&database.fresh_url(), &redis.url(), 2, "");
    cluster.assemble();
    let headers = cluster.headers();
    let from = std::net::Ipv4Addr::new(127, 0, 0, 9);
    let knock = |node: &Process| {
        let mut socket = Socket::connect_from(from, node.address);
        socket.send(handshake("/ws", &headers).as_bytes());
        socket.head().status
    };
    assert_eq!((knock(&cluster.nodes[0]), knock(&cluster.nodes[1])), (101, 101));
    let answer = post(&cluster.nodes[0], &headers, BLOCKS, &json!({"address": from})).json();
    assert_eq!((&answer["blocked"], &answer["missing_nodes"]), (&json!(true), &json!([])), "{answer}");
    assert_eq!((knock(&cluster.nodes[0]), knock(&cluster.nodes[1])), (403, 403));
    let late = cluster.another();
    assert_eq!(knock(&late), 403);
    let answer = post(&cluster.nodes[1], &headers, BLOCKS, &json!({"address": from, "for_ms": 0})).json();
    assert_eq!(answer["unblocked"], true, "{answer}");
    until("the late one has heard of it", || knock(&late) == 101);
    assert_eq!((knock(&cluster.nodes[0]), knock(&cluster.nodes[1])), (101, 101));
    cluster.nodes.push(late);
    assert_eq!(knock(&cluster.another()), 101);
}

#[test]
fn a_session_is_ended_on_whatever_node_it_is() {
    let Some(database) = Database::shared() else { return };
    let Some(redis) = Redis::start() else { return };
    let cluster = Cluster::start(&database.fresh_url(), &redis.url(), 3, "");
    cluster.assemble();
    let token = cluster.token_of("cyd");
    let mut there = welcomed(&cluster.nodes[2], &token);
    let answer = post(&cluster.nodes[0], &cluster.headers(), DISCONNECT, &json!({"user": "cyd"}));
    assert_eq!(answer.json(), json!({"closed": 1, "missing_nodes": []}));
    assert_eq!(there.closed_with(), 1013);
    // A node that says nothing is named, and the answer does not wait for it any longer than a moment.
    stop(&cluster.nodes[1]);
    let began = Instant::now();
    let answer = post(&cluster.nodes[0], &cluster.headers(), DISCONNECT, &json!({"user": "cyd"})).json();
    assert_eq!(answer["missing_nodes"].as_array().unwrap().len(), 1, "{answer} after {:?}", began.elapsed());
    cluster.nodes[1].signal("CONT");
}

/// One node alone: what was decided outlives it.
#[test]
fn a_restart_forgets_no_revocation() {
    let folder = Folder::new();
    let command = || {
        let mut command = pulsewire();
        command.env("JWT_SECRET_KEY", "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08");
        command.current_dir(folder.path());
        command
    };
    let token = |sub: &str| {
        run(command().args(["token", "create", "--sub", sub, "--role", "admin"])).out.trim().to_owned()
    };
    let (ops, eve) = (token("ops"), token("eve"));
    let data = folder.path().join("data");
    let file = folder.write("pulsewire.toml", &format!("[server]\ndata_dir = \"{}\"\n", data.display()));
    let serve = || Process::serve(command(), &["-c", file.to_str().unwrap()]);
    let mut first = serve();
    assert_eq!(knock(&first, &eve), 101);
    let answer = post(&first, &bearer(&ops), REVOKE, &json!({"user": "eve"}));
    assert_eq!(answer.json()["revoked"], true, "{}", answer.text());
    assert_eq!(answer.json().get("missing_nodes"), None, "alone nobody can be missing");
    assert_eq!(knock(&first, &eve), 401);
    first.signal("KILL");
    first.wait();
    let second = serve();
    assert_eq!(knock(&second, &eve), 401);
    assert_eq!(knock(&second, &ops), 101, "others are untouched");
}

fn get(node: &Process, headers: &str, path: &str) -> Value {
    let answer = node.http("GET", path, headers, "");
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    answer.json()
}

/// The ids of the nodes, in the order in which they were started.
fn ids(cluster: &Cluster) -> Vec<String> {
    let own = |node| cluster.known(node)[0]["id"].as_str().unwrap().to_owned();
    (0..cluster.nodes.len()).map(own).collect()
}

/// 003: every list is of all nodes, whichever is asked, and names those that do not answer.
#[test]
fn lists_are_of_all_nodes_and_name_the_node_that_stands_still() {
    let Some(database) = Database::shared() else { return };
    let Some(redis) = Redis::start() else { return };
    let cluster = Cluster::start(&database.fresh_url(), &redis.url(), 3, "");
    cluster.assemble();
    let headers = cluster.headers();
    let nodes = ids(&cluster);
    let (ann, bob) = (cluster.token_of("ann"), cluster.token_of("bob"));
    let mut sockets = Vec::new();
    for (node, token) in [(0, &ann), (1, &ann), (2, &bob)] {
        let mut socket = welcomed(&cluster.nodes[node], token);
        let answer = socket.ask(&json!({"type": "subscribe", "channels": ["run:7", format!("run:{node}")]}));
        assert_eq!(answer["type"], "subscribed", "{answer}");
        sockets.push(socket);
    }
    for asked in &cluster.nodes {
        let runs = get(asked, &headers, "/api/admin/websocket/connections");
        assert_eq!(
            (&runs["totalConnections"], &runs["totalRuns"], &runs["connectionsByRun"]["7"]),
            (&json!(3), &json!(4), &json!(3)),
            "{runs}"
        );
        assert_eq!(runs["missing_nodes"], json!([]));
        let members = get(asked, &headers, "/api/admin/websocket/connections/7?limit=2");
        assert_eq!(
            (&members["connectionCount"], &members["total"], &members["activeUsers"]),
            (&json!(3), &json!(3), &json!(["ann", "bob"])),
            "{members}"
        );
        assert_eq!(members["connections"].as_array().unwrap().len(), 2);
        let users = get(asked, &headers, "/api/admin/websocket/users");
        let expected = json!([
            {"userId": "ann", "connections": 2, "subscriptions": 4},
            {"userId": "bob", "connections": 1, "subscriptions": 2}
        ]);
        assert_eq!(users["users"], expected);
        let sessions = asked.http("GET", "/api/admin/websocket/metrics", &headers, "");
        assert_eq!(sessions.json().as_array().unwrap().len(), 3);
        let rows = get(asked, &headers, "/api/admin/connections?sort=-user");
        let shown = |name: &str| -> Vec<String> {
            let rows = rows["rows"].as_array().unwrap().iter();
            rows.map(|row| row[name].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(
            (shown("userId"), &rows["total"]),
            (["bob", "ann", "ann"].map(str::to_owned).to_vec(), &json!(3))
        );
        let (mut found, mut expected) = (shown("node"), nodes.clone());
        found.sort();
        expected.sort();
        assert_eq!(found, expected);
        assert_eq!((&rows["tabs"]["active"], &rows["missing_nodes"]), (&json!(3), &json!([])));
        let groups = get(asked, &headers, "/api/admin/connections?group=user");
        let shown: Vec<_> =
            groups["rows"].as_array().unwrap().iter().map(|row| [&row["id"], &row["connections"]]).collect();
        assert_eq!(json!(shown), json!([["ann", 2], ["bob", 1]]));
        // Everything about one, whoever is asked.
        for row in rows["rows"].as_array().unwrap() {
            let session = row["id"].as_str().unwrap();
            let one = get(asked, &headers, &format!("/api/admin/connections/{session}"));
            assert_eq!((&one["node"], &one["state"]), (&row["node"], &row["state"]), "{one}");
            let one = get(asked, &headers, &format!("/api/admin/websocket/metrics/{session}"));
            assert_eq!((&one["sessionId"], &one["state"]), (&json!(session), &json!("connected")));
        }
    }
    let of_one = format!("/api/admin/websocket/users?node={}", nodes[2]);
    assert_eq!(get(&cluster.nodes[0], &headers, &of_one)["total"], 1);
    assert_eq!(get(&cluster.nodes[0], &headers, "/api/admin/connections?node=self")["total"], 1);
    let unknown = cluster.nodes[0].http("GET", "/api/admin/websocket/users?node=nobody", &headers, "");
    assert!(unknown.status == 404 && unknown.text().contains(&nodes[1]), "{}", unknown.text());
    let far = cluster.nodes[0].http("GET", "/api/admin/websocket/users?offset=2000", &headers, "");
    assert_eq!(far.status, 400, "{}", far.text());
    until("the figures are those of all", || {
        let stats = get(&cluster.nodes[1], &headers, "/api/stats");
        let counts = ["nodes", "nodes_missing", "connected_clients", "total_subscriptions"];
        counts.map(|name| stats["cluster"][name].clone()) == [json!(3), json!(0), json!(3), json!(6)]
    });
    // One stands still: the others answer without it, and say so.
    stop(&cluster.nodes[1]);
    let lists = [
        "websocket/connections",
        "websocket/connections/7",
        "websocket/users",
        "websocket/closed",
        "connections",
    ];
    for list in lists {
        let answer = get(&cluster.nodes[0], &headers, &format!("/api/admin/{list}"));
        assert_eq!(answer["missing_nodes"], json!([nodes[1]]), "{list}: {answer}");
    }
    assert_eq!(get(&cluster.nodes[0], &headers, "/api/admin/websocket/users")["users"][0]["connections"], 1);
    until("it is counted as missing", || {
        let stats = get(&cluster.nodes[0], &headers, "/api/stats");
        stats["cluster"]["nodes_missing"] == 1 && stats["cluster"]["connected_clients"] == 2
    });
    cluster.nodes[1].signal("CONT");
    until("it is back", || {
        get(&cluster.nodes[0], &headers, "/api/admin/websocket/users")["missing_nodes"] == json!([])
    });
}

/// Any node can be told to have any other send its clients elsewhere.
#[test]
fn a_node_is_drained_by_way_of_another() {
    let Some(database) = Database::shared() else { return };
    let Some(redis) = Redis::start() else { return };
    let cluster = Cluster::start(&database.fresh_url(), &redis.url(), 2, "");
    cluster.assemble();
    let nodes = ids(&cluster);
    let mut there = welcomed(&cluster.nodes[1], &cluster.token_of("dan"));
    let url = format!("http://{}", cluster.nodes[0].address);
    let drain = |words: &[&str]| {
        let mut command = pulsewire();
        command.arg("drain").args(words).args(["--yes", "-o", "json", "--url", &url]);
        run(command.args(["--token", &cluster.token]))
    };
    let ready = |node: &Process| node.http("GET", "/readyz", "", "").status;
    let done = drain(&[&nodes[1]]);
    assert_eq!(done.code, Some(0), "{}", done.err);
    let answer: Value = serde_json::from_str(&done.out).unwrap();
    assert_eq!((&answer["draining"], &answer["node"]), (&json!(true), &json!(nodes[1])), "{answer}");
    until("it is not ready any more", || ready(&cluster.nodes[1]) == 503);
    assert_eq!(ready(&cluster.nodes[0]), 200);
    until("its client is sent away", || {
        let message = there.json();
        message["type"] == "reconnect" || message["code"] == 1012
    });
    let done = drain(&[&nodes[1], "--off"]);
    assert_eq!(done.code, Some(0), "{}", done.err);
    until("it is ready again", || ready(&cluster.nodes[1]) == 200);
    let unknown = drain(&["nobody"]);
    assert!(unknown.code != Some(0) && unknown.err.contains(&nodes[0]), "{}", unknown.err);
}

/// Rows T12 and G4: a broker that is away is said, and takes no node out.
#[test]
fn a_node_without_its_broker_is_degraded_and_serves() {
    let Some(database) = Database::shared() else { return };
    let Some(mut redis) = Redis::start() else { return };
    redis.kill();
    let cluster = Cluster::start(&database.fresh_url(), &redis.url(), 1, "");
    let node = &cluster.nodes[0];
    // A loss of a few seconds would be a connection that is made anew.
    until("it says so", || node.http("GET", "/readyz", "", "").json()["status"] == "degraded");
    let ready = node.http("GET", "/readyz", "", "");
    let said = ready.json();
    assert_eq!((ready.status, &said["status"]), (200, &json!("degraded")), "{said}");
    assert_eq!(said["broker"]["degraded"], true, "{said}");
    assert!(said["broker"]["since"].is_string() && said["broker"]["impact"].is_string(), "{said}");
    let health = node.http("GET", "/health/websocket", "", "");
    assert_eq!((health.status, &health.json()["status"]), (200, &json!("degraded")));
    cluster.publish(0, &json!({"channel": "run:1", "type": "note", "data": 1}));
    redis.start_again();
    until("it is well again", || node.http("GET", "/readyz", "", "").json()["status"] == "ready");
}
