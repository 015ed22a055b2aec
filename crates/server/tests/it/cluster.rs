//! Several nodes: one database, a real Redis between them, and what goes from one to another.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::child::{Folder, Process, pulsewire, run};
use crate::database::Database;
use crate::harness::{PATIENCE, Socket, bearer, handshake, until};
use crate::redis::Redis;

const SECRET: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

/// Nodes that share a database and a Redis, and tokens they all take.
pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Process>,
    pub(crate) token: String,
    pub(crate) folder: Folder,
    pub(crate) settings: String,
    /// Added to the environment of nodes that start from now on.
    pub(crate) environment: Vec<(String, String)>,
}

impl Cluster {
    /// Starts nodes; `more` is added to their settings.
    pub(crate) fn start(database: &str, broker: &str, nodes: usize, more: &str) -> Self {
        let mut cluster = Self::prepared(database, &format!("url = \"{broker}\""), more);
        cluster.add(nodes);
        cluster
    }

    /// A cluster without nodes; `section` is what its settings say in `[cluster]`.
    pub(crate) fn prepared(database: &str, section: &str, more: &str) -> Self {
        let settings = format!(
            "[store]\nurl = \"{database}\"\n[cluster]\n{section}\n[collector]\nenabled = false\n\
             [limits]\nconnections_per_address = 0\nconnections_per_user = 0\nhandshakes_per_minute = 0\n\
             [[namespace]]\nname = \"cursor\"\npattern = \"cursor:*\"\nkind = \"ephemeral\"\n{more}"
        );
        let folder = Folder::new();
        let mut cluster =
            Self { nodes: Vec::new(), token: String::new(), folder, settings, environment: Vec::new() };
        let created = run(cluster.command().args(["token", "create", "--sub", "ann", "--role", "admin"]));
        cluster.token = created.out.trim().to_owned();
        cluster
    }

    /// Starts so many nodes.
    pub(crate) fn add(&mut self, nodes: usize) {
        for _ in 0..nodes {
            let node = self.another();
            self.nodes.push(node);
        }
    }

    /// A token of somebody who may do everything and operates nothing.
    pub(crate) fn token_of(&self, sub: &str) -> String {
        let created = run(self.command().args(["token", "create", "--sub", sub]));
        created.out.trim().to_owned()
    }

    fn command(&self) -> std::process::Command {
        let mut command = pulsewire();
        command.env("JWT_SECRET_KEY", SECRET).current_dir(self.folder.path());
        command.envs(self.environment.iter().cloned());
        command
    }

    /// One more node, or one in another's place.
    pub(crate) fn another(&self) -> Process {
        let file = self.folder.write("pulsewire.toml", &self.settings);
        Process::serve(self.command(), &["-c", file.to_str().unwrap()])
    }

    /// A node with settings of its own, its address among them.
    pub(crate) fn with_settings(&self, name: &str, settings: &str) -> Process {
        let file = self.folder.write(&format!("{name}.toml"), settings);
        Process::serve_as_told(self.command(), &["-c", file.to_str().unwrap()])
    }

    pub(crate) fn headers(&self) -> String {
        bearer(&self.token)
    }

    /// The nodes that a node knows of, itself included.
    pub(crate) fn known(&self, node: usize) -> Vec<Value> {
        let answer = self.nodes[node].http("GET", "/api/admin/nodes", &self.headers(), "");
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["rows"].as_array().unwrap_or_else(|| panic!("{}", answer.text())).clone()
    }

    /// Waits until every node knows of all.
    pub(crate) fn assemble(&self) {
        until("all nodes know of each other", || {
            (0..self.nodes.len()).all(|node| self.known(node).len() == self.nodes.len())
        });
    }

    pub(crate) fn publish(&self, node: usize, event: &Value) -> Value {
        let answer = self.nodes[node].http("POST", "/api/publish", &self.headers(), &event.to_string());
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    }

    /// A client of a node that is subscribed to these channels.
    pub(crate) fn subscriber(&self, node: usize, channels: &Value) -> Socket {
        let mut socket = self.nodes[node].connect();
        socket.send(handshake("/ws", &self.headers()).as_bytes());
        assert_eq!(socket.head().status, 101);
        assert_eq!(socket.json()["type"], "welcome");
        let answer = socket.ask(&json!({"type": "subscribe", "channels": channels}));
        assert_eq!(answer["type"], "subscribed", "{answer}");
        socket
    }
}

/// Asks Redis one thing; every line of the answer.
pub(crate) fn ask_redis(redis: &Redis, words: &[&str], lines: usize) -> Vec<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", redis.port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let command = |words: &[&str]| {
        let words = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len()));
        format!("*{}\r\n{}", words.clone().count(), words.collect::<String>())
    };
    stream.write_all((command(&["AUTH", "geheim"]) + &command(words)).as_bytes()).unwrap();
    BufReader::new(stream).lines().skip(1).take(lines).map(Result::unwrap).collect()
}

/// How many nodes hear a channel.
fn hearers(redis: &Redis, channel: &str) -> u64 {
    let topic = format!("pulsewire:channel:{channel}");
    let lines = ask_redis(redis, &["PUBSUB", "NUMSUB", &topic], 4);
    lines.last().unwrap().trim_start_matches(':').parse().unwrap()
}

#[test]
fn what_is_published_at_one_node_reaches_the_subscribers_of_the_others() {
    let Some(database) = Database::shared() else { return };
    let Some(redis) = Redis::start() else { return };
    let cluster = Cluster::start(&database.fresh_url(), &redis.url(), 3, "");
    cluster.assemble();
    let mut there = cluster.subscriber(1, &json!(["run:1", "cursor:1"]));
    assert_eq!((hearers(&redis, "run:1"), hearers(&redis, "cursor:1")), (1, 1), "only who listens hears");
    assert_eq!(hearers(&redis, "run:2"), 0);
    for n in 1..=3 {
        cluster.publish(0, &json!({"channel": "run:1", "type": "note", "data": n}));
        let message = there.json();
        assert_eq!((&message["data"], &message["sequence"]), (&json!(n), &json!(n)), "{message}");
        cluster.publish(2, &json!({"channel": "cursor:1", "type": "cursor", "data": {"x": n}}));
        assert_eq!(there.json()["data"], json!({"x": n}));
    }
}

/// A user's session on one node, and somebody on another who watches.
#[test]
fn who_is_in_a_channel_is_known_on_every_node() {
    let Some(database) = Database::shared() else { return };
    let Some(redis) = Redis::start() else { return };
    let mut cluster = Cluster::start(&database.fresh_url(), &redis.url(), 2, "");
    cluster.assemble();
    let mut watcher = cluster.subscriber(1, &json!([{"channel": "run:1", "presence": "watch"}]));
    let mut told = watcher.json();
    assert_eq!(told["type"], "presence", "{told}");
    let member = cluster.subscriber(0, &json!([{"channel": "run:1", "presence": true}]));
    while told["joined"].as_array().is_none_or(Vec::is_empty) {
        told = watcher.json();
    }
    assert_eq!(told["joined"][0]["user"], "ann", "{told}");
    let there = |node: usize| {
        let answer = cluster.nodes[node].http("GET", "/api/channels/run:1/presence", &cluster.headers(), "");
        answer.json()["members"].as_array().unwrap().len()
    };
    assert_eq!((there(0), there(1)), (1, 1));
    // Its node goes in order, and its client does not come back.
    cluster.nodes[0].signal("TERM");
    drop(member);
    while told["left"].as_array().is_none_or(Vec::is_empty) {
        told = watcher.json();
    }
    assert_eq!(told["left"], json!(["ann"]));
    cluster.nodes[0].wait();
}

/// Row R6: the session goes with its client, with its filter, its position and what it had subscribed to.
#[test]
fn a_session_goes_on_at_another_node() {
    let Some(database) = Database::shared() else { return };
    let Some(redis) = Redis::start() else { return };
    let cluster = Cluster::start(&database.fresh_url(), &redis.url(), 2, "");
    cluster.assemble();
    let mut here = cluster.nodes[0].connect();
    here.send(handshake("/ws", &cluster.headers()).as_bytes());
    assert_eq!(here.head().status, 101);
    let session = here.json()["client_id"].clone();
    let wish = json!({"type": "subscribe", "channels": ["run:1", "run:2"], "tags": {"a": "b"}});
    assert_eq!(here.ask(&wish)["type"], "subscribed");
    let event = |tags: Value, n: u64| json!({"channel": "run:1", "type": "note", "data": n, "tags": tags});
    cluster.publish(1, &event(json!({"a": "b"}), 1));
    assert_eq!(here.json()["data"], 1);
    here.reset();
    cluster.publish(1, &event(json!({"a": "c"}), 2));
    cluster.publish(0, &event(json!({"a": "b"}), 3));
    let mut there = cluster.nodes[1].connect();
    let path = format!("/ws?session={}", session.as_str().unwrap());
    there.send(handshake(&path, &cluster.headers()).as_bytes());
    assert_eq!(there.head().status, 101);
    let connected = there.json();
    assert_eq!(
        (&connected["type"], &connected["resumed"]),
        (&json!("connected"), &json!(true)),
        "{connected}"
    );
    assert_ne!(connected["session"], session, "its new node is in its name");
    let subscribed = there.json();
    assert_eq!(subscribed["channels"], json!(["run:1", "run:2"]), "{subscribed}");
    let mut missed = there.json();
    while missed["type"] == "replay_end" {
        missed = there.json();
    }
    assert_eq!((&missed["data"], &missed["sequence"]), (&json!(3), &json!(3)), "{missed}");
    // The node it came from has it no more.
    let path = format!("/ws?session={}", session.as_str().unwrap());
    let mut again = cluster.nodes[0].connect();
    again.send(handshake(&path, &cluster.headers()).as_bytes());
    assert_eq!(again.head().status, 101);
    assert_eq!(again.json()["type"], "welcome");
}

/// Row M7 in small: samples that are sent to different nodes reach a subscriber of a third, which is told first
/// what there was before it came.
#[test]
fn samples_of_all_nodes_are_seen_on_each() {
    let Some(database) = Database::shared() else { return };
    let Some(redis) = Redis::start() else { return };
    let cluster = Cluster::start(&database.fresh_url(), &redis.url(), 3, "");
    cluster.assemble();
    let send = |node: usize, value: u64| {
        let sample = json!({"channel": "load.metrics", "name": "queue.length", "type": "gauge", "value": value, "tags": {"of": node.to_string()}});
        let body = json!([sample]).to_string();
        let answer = cluster.nodes[node].http("POST", "/api/metrics/samples", &cluster.headers(), &body);
        assert_eq!(answer.status, 200, "{}", answer.text());
    };
    send(0, 1);
    send(1, 2);
    let mut socket = cluster.nodes[2].connect();
    socket.send(handshake("/ws", &cluster.headers()).as_bytes());
    assert_eq!(socket.head().status, 101);
    socket.json();
    let wish = json!({"type": "subscribe", "channels": ["load.metrics"], "shape": "points"});
    assert_eq!(socket.ask(&wish)["type"], "subscribed");
    let mut next = || {
        let message = socket.json();
        (
            message["tags"]["of"].as_str().unwrap_or_default().to_owned(),
            message["value"].as_u64().unwrap_or(0),
        )
    };
    let mut before = [next(), next()];
    before.sort();
    assert_eq!(before, [("0".to_owned(), 1), ("1".to_owned(), 2)]);
    for n in 3..6 {
        let node = n as usize % 2;
        send(node, n);
        assert_eq!(next(), (node.to_string(), n));
    }
}
