//! Several nodes behind one database.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::child::{Folder, Process, pulsewire, run};
use crate::database::Database;
use crate::harness::{Socket, handshake, series_of, until};

const SECRET: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
const CHANNELS: usize = 10;

/// Nodes that share a database, and a token they all take.
struct Cluster {
    nodes: Vec<Process>,
    headers: String,
    _folder: Folder,
}

impl Cluster {
    fn start(database: &Database, nodes: usize) -> Self {
        let folder = Folder::new();
        let settings = format!(
            "[store]\nurl = \"{}\"\n[collector]\nenabled = false\n\
             [limits]\nconnections_per_address = 0\nconnections_per_user = 0\n\
             # Its clients read one after the other: nobody answers pings meanwhile.\n\
             [heartbeat]\ninterval = \"1h\"\n",
            database.fresh_url()
        );
        let file = folder.write("pulsewire.toml", &settings);
        let command = || {
            let mut command = pulsewire();
            command.env("JWT_SECRET_KEY", SECRET).current_dir(folder.path());
            command
        };
        let nodes = (0..nodes).map(|_| Process::serve(command(), &["-c", file.to_str().unwrap()])).collect();
        let created = run(command().args(["token", "create", "--sub", "ann", "--role", "admin"]));
        let headers = format!("Authorization: Bearer {}\r\n", created.out.trim());
        Self { nodes, headers, _folder: folder }
    }

    /// Publishes so many events to each channel by a node, in one request.
    fn publish(&self, node: usize, each: usize) {
        let event = |n: usize| json!({"channel": format!("run:{}", n % CHANNELS), "type": "note", "data": n});
        let events: Vec<Value> = (0..each * CHANNELS).map(event).collect();
        let body = json!(events).to_string();
        let answer = self.nodes[node].http("POST", "/api/publish", &self.headers, &body);
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    /// Pages that a node has read from the store until now. The page of figures may be a second old: one that differs
    /// from it is newer than the question.
    fn reads(&self, node: usize) -> f64 {
        let page = || self.nodes[node].http("GET", "/metrics", "", "").text();
        let (old, mut new) = (page(), String::new());
        until("a new page", || {
            new = page();
            new != old
        });
        series_of(&new, "pulsewire_history_reads_total{source=\"store\"}").unwrap()
    }
}

/// A client of one channel, and what it has had.
struct Reader {
    channel: String,
    socket: Socket,
    position: Value,
}

impl Reader {
    fn join(cluster: &Cluster, node: usize, channel: String, since: Option<&Value>) -> Self {
        let mut socket = cluster.nodes[node].connect();
        socket.send(handshake("/ws", &cluster.headers).as_bytes());
        assert_eq!(socket.head().status, 101);
        assert_eq!(socket.json()["type"], "welcome");
        let wish = since.map_or_else(|| json!(channel), |since| json!({"channel": channel, "since": since}));
        let mut answer = socket.ask(&json!({"type": "subscribe", "channels": [wish]}));
        assert_eq!(answer["type"], "subscribed", "{answer}");
        let position = since.cloned().unwrap_or_else(|| answer["positions"][&channel].take());
        Self { channel, socket, position }
    }

    /// Reads up to a sequence: each event once, in order, of the same history.
    fn read_to(&mut self, last: u64) {
        let sequence = |position: &Value| position["sequence"].as_u64().unwrap();
        while sequence(&self.position) < last {
            let message = self.socket.json();
            match message["type"].as_str().unwrap() {
                "event" => {
                    assert_eq!(sequence(&message), sequence(&self.position) + 1, "{message}");
                    self.position["sequence"] = message["sequence"].clone();
                }
                "replay_end" | "pos" | "ping" => {}
                _ => panic!("{}: {message}", self.channel),
            }
        }
    }
}

/// Row R1 in small: three nodes, three hundred clients, and the node of a hundred of them dies.
#[test]
fn when_a_node_dies_its_clients_go_on_at_the_others_and_nobody_misses_or_repeats_anything() {
    const CLIENTS: usize = 300;
    const MISSED: usize = 300;
    let Some(database) = Database::shared() else { return };
    let mut cluster = Cluster::start(database, 3);
    let channel = |number: usize| format!("run:{}", number / 3 % CHANNELS);
    let mut readers: Vec<Reader> =
        (0..CLIENTS).map(|number| Reader::join(&cluster, number % 3, channel(number), None)).collect();
    cluster.publish(0, 5);
    cluster.publish(1, 5);
    readers.iter_mut().for_each(|reader| reader.read_to(10));

    cluster.nodes[0].signal("KILL");
    cluster.nodes[0].wait();
    // More than a node holds in memory.
    (0..MISSED / 50).for_each(|_| cluster.publish(1, 50));
    let last = 10 + MISSED as u64;
    // Those who stayed are up to date before the others come: what follows is read for these alone.
    readers.iter_mut().enumerate().filter(|(at, _)| at % 3 != 0).for_each(|(_, reader)| reader.read_to(last));
    let before = [1, 2].map(|node| cluster.reads(node));
    for number in (0..CLIENTS).step_by(3) {
        let Reader { channel, position, .. } = &readers[number];
        readers[number] = Reader::join(&cluster, 1 + number / 3 % 2, channel.clone(), Some(position));
    }
    readers.iter_mut().for_each(|reader| reader.read_to(last));
    let reads: Vec<f64> =
        [1, 2].iter().zip(before).map(|(node, before)| cluster.reads(*node) - before).collect();
    eprintln!("{} clients came back; pages read from the store: {reads:?}", CLIENTS / 3);
    let sum: f64 = reads.iter().sum();
    assert!(sum > 0.0 && sum <= 3.0 * CHANNELS as f64, "{reads:?}");

    cluster.publish(2, 5);
    readers.iter_mut().for_each(|reader| reader.read_to(last + 5));
    let mut ends = BTreeMap::<&str, Vec<&Value>>::new();
    for reader in &mut readers {
        assert_eq!(reader.socket.flush(b"end"), Vec::<Value>::new(), "nothing comes behind the last");
    }
    for reader in &readers {
        ends.entry(&reader.channel).or_default().push(&reader.position);
    }
    assert_eq!(ends.len(), CHANNELS);
    assert!(
        ends.values().all(|ends| ends.iter().all(|end| *end == ends[0])),
        "one history for all: {ends:?}"
    );
}
