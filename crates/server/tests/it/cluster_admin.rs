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
