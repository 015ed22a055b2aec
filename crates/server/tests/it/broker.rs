//! What goes wrong between nodes: brokers that die, fall silent, forget, refuse, or take over from each other.
//!
//! Real nodes, a real PostgreSQL, and real Redis servers in every form: alone, with a user of few rights, behind TLS,
//! behind Sentinel, as a cluster. Whatever the broker does, no event of a log channel is lost, repeated or out of order.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use pulsewire_loadtest::proxy::{Fault, Proxy};
use serde_json::{Value, json};

use crate::child::Folder;
use crate::cluster::Cluster;
use crate::database::Database;
use crate::harness::Socket;
use crate::redis::Redis;
use crate::tls::Authority;

/// How long anything may take here: a way that is closed is found in seven seconds, and a failover takes some.
const PATIENCE: Duration = Duration::from_secs(45);

#[track_caller]
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "waited in vain: {what}");
        std::thread::yield_now();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).unwrap().port()
}

/// A Redis with options of its own; `None` if these tests are to be left out.
struct Server {
    port: u16,
    options: Vec<String>,
    child: Option<Child>,
    folder: Folder,
}

impl Server {
    fn start(options: &[&str]) -> Option<Self> {
        // Says whether tests with Redis are to be left out.
        Redis::start()?;
        Some(Self::at(free_port(), options))
    }

    fn at(port: u16, options: &[&str]) -> Self {
        let options = options.iter().map(|&option| option.to_owned()).collect();
        let mut server = Self { port, options, child: None, folder: Folder::new() };
        server.start_again();
        server
    }

    fn start_again(&mut self) {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "redis-server"]);
        if self.options.first().is_some_and(|first| first.starts_with('/')) {
            command.args(&self.options);
        } else {
            command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--port"]);
            command.arg(self.port.to_string()).args(&self.options);
        }
        let child = command.current_dir(self.folder.path()).stdin(Stdio::null()).stdout(Stdio::null());
        self.child = Some(child.spawn().unwrap());
        eventually("Redis answers", || {
            let ended = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten());
            assert!(ended.is_none(), "Redis does not start");
            TcpStream::connect(("127.0.0.1", self.port)).is_ok()
        });
    }

    fn kill(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        child.kill().and_then(|()| child.wait()).unwrap();
    }

    fn signal(&self, name: &str) {
        let id = self.child.as_ref().unwrap().id();
        assert!(
            Command::new("/bin/sh").args(["-c", &format!("kill -{name} {id}")]).status().unwrap().success()
        );
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// What `redis-cli` says to a command.
    fn ask(&self, words: &[&str]) -> String {
        let output =
            Command::new("redis-cli").args(["-p", &self.port.to_string()]).args(words).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Publishes to one channel through several nodes, and checks at another that everything comes once and in order.
struct Run<'c> {
    cluster: &'c Cluster,
    socket: Socket,
    channel: &'static str,
    said: u64,
    heard: u64,
}

impl<'c> Run<'c> {
    fn new(cluster: &'c Cluster, node: usize, channel: &'static str) -> Self {
        let socket = cluster.subscriber(node, &json!([channel]));
        Self { cluster, socket, channel, said: 0, heard: 0 }
    }

    fn say(&mut self, node: usize) {
        self.say_much(node, 1, 0);
    }

    /// So many events of so many bytes in one request.
    fn say_much(&mut self, node: usize, count: u64, bytes: usize) {
        let events: Vec<Value> = (1..=count)
            .map(|n| json!({"channel": self.channel, "type": "note", "data": [self.said + n, "x".repeat(bytes)]}))
            .collect();
        self.cluster.publish(node, &Value::Array(events));
        self.said += count;
    }

    /// Everything that was said comes.
    #[track_caller]
    fn hear(&mut self) {
        while self.heard < self.said {
            let message = self.socket.json();
            self.heard += 1;
            let (sequence, said) = (&message["sequence"], &message["data"][0]);
            assert_eq!((sequence, said), (&json!(self.heard), &json!(self.heard)), "{message}");
        }
    }
}

fn metric(cluster: &Cluster, node: usize, series: &str) -> f64 {
    cluster.nodes[node].metric(series)
}

#[track_caller]
fn wait_all(cluster: &Cluster, series: &str, holds: impl Fn(f64) -> bool) {
    eventually(series, || (0..cluster.nodes.len()).all(|node| holds(metric(cluster, node, series))));
}

#[track_caller]
fn wait_connected(cluster: &Cluster) {
    wait_all(cluster, "pulsewire_broker_connected", |connected| connected == 1.0);
}

/// Waits until events of a channel that keeps nothing come from one node to a subscriber of another.
#[track_caller]
fn passes(cluster: &Cluster, from: usize, to: usize, channel: &'static str) {
    let mut socket = cluster.subscriber(to, &json!([channel]));
    // The subscriber has been answered, so the topic is heard, or was waited for in vain.
    cluster.publish(from, &json!({"channel": channel, "type": "cursor", "data": "passed"}));
    assert_eq!(socket.json()["data"], "passed");
}

/// Row B1.
#[test]
fn a_redis_that_is_killed_and_started_again_costs_no_event_of_a_log() {
    let Some(database) = Database::shared() else { return };
    let Some(mut redis) = Server::start(&[]) else { return };
    let cluster = Cluster::start(&database.fresh_url(), &redis.url(), 3, "");
    cluster.assemble();
    let mut run = Run::new(&cluster, 1, "run:1");
    run.say(0);
    run.hear();
    redis.kill();
    for node in [0, 2, 1, 0] {
        run.say(node);
    }
    run.hear();
    wait_all(&cluster, "websocket_bus_connected", |connected| connected == 0.0);
    let ready = cluster.nodes[0].http("GET", "/readyz", "", "");
    assert_eq!((ready.status, &ready.json()["broker"]["degraded"]), (200, &json!(true)), "{}", ready.text());
    eventually("health names the broker", || {
        let health = cluster.nodes[0].http("GET", "/health/websocket", "", "").text();
        health.contains("the broker is not reached") && health.contains("degraded")
    });
    run.say(2);
    run.hear();
    redis.start_again();
    wait_connected(&cluster);
    wait_all(&cluster, "pulsewire_broker_reconnects_total", |count| count >= 1.0);
    cluster.assemble();
    eventually("the channel is heard again", || {
        !redis.ask(&["PUBSUB", "CHANNELS", "*channel:run:1"]).is_empty()
    });
    for node in [0, 2] {
        run.say(node);
    }
    run.hear();
    passes(&cluster, 0, 2, "cursor:1");
}

/// Row B2: no packet comes or goes, and nobody is told.
#[test]
fn a_node_that_is_cut_off_from_redis_without_a_word_notices_and_hears_nothing_twice() {
    let Some(database) = Database::shared() else { return };
    let Some(redis) = Server::start(&[]) else { return };
    let proxy = Proxy::start(SocketAddr::from(([127, 0, 0, 1], redis.port))).unwrap();
    let mut cluster = Cluster::prepared(&database.fresh_url(), &format!("url = \"{}\"", redis.url()), "");
    cluster.add(2);
    cluster.settings = cluster.settings.replace(&redis.port.to_string(), &proxy.address.port().to_string());
    cluster.add(1);
    cluster.assemble();
    let mut run = Run::new(&cluster, 2, "run:1");
    run.say(0);
    run.hear();
    proxy.apply(Fault::BlackHole);
    let from = Instant::now();
    run.say(0);
    run.say(2);
    run.hear();
    eventually("the node notices", || metric(&cluster, 2, "pulsewire_broker_connected") == 0.0);
    eprintln!("noticed after {:?}", from.elapsed());
    assert_eq!(metric(&cluster, 0, "pulsewire_broker_connected"), 1.0, "the others reach it");
    eventually("the others miss it", || {
        metric(&cluster, 0, "pulsewire_cluster_nodes{state=\"missing\"}") == 1.0
    });
    run.say(1);
    run.hear();
    proxy.apply(Fault::Pass);
    proxy.reset();
    wait_connected(&cluster);
    wait_all(&cluster, "pulsewire_cluster_nodes{state=\"present\"}", |present| present == 2.0);
    run.say(0);
    run.say(2);
    run.hear();
    passes(&cluster, 2, 0, "cursor:1");
}

/// Row B8: subscribers of Redis are thrown out again and again, in the middle of everything.
#[test]
fn connections_that_are_killed_again_and_again_and_buffers_that_overflow_lose_no_event() {
    let Some(database) = Database::shared() else { return };
    let Some(redis) = Server::start(&[]) else { return };
    let cluster = Cluster::start(&database.fresh_url(), &redis.url(), 2, "");
    cluster.assemble();
    let mut run = Run::new(&cluster, 1, "run:1");
    for round in 0..12 {
        run.say(0);
        redis.ask(&["CLIENT", "KILL", "TYPE", if round % 3 == 0 { "normal" } else { "pubsub" }]);
        run.say_much(0, 5, 10);
        run.hear();
    }
    eventually("it was reached again", || metric(&cluster, 1, "pulsewire_broker_reconnects_total") >= 1.0);
    wait_connected(&cluster);
    assert_eq!(redis.ask(&["CONFIG", "SET", "client-output-buffer-limit", "pubsub 20000 0 0"]), "OK");
    for _ in 0..3 {
        run.say_much(0, 20, 20_000);
        run.hear();
    }
    redis.ask(&["CONFIG", "SET", "client-output-buffer-limit", "pubsub 0 0 0"]);
    wait_connected(&cluster);
    run.say(0);
    run.hear();
}

/// Row B7: after a failover, what is said at the old server is heard only there.
#[test]
fn a_redis_that_becomes_a_replica_is_left_until_it_is_a_primary_again() {
    let Some(database) = Database::shared() else { return };
    let Some(redis) = Server::start(&[]) else { return };
    let Some(other) = Server::start(&[]) else { return };
    let cluster = Cluster::start(&database.fresh_url(), &redis.url(), 2, "");
    cluster.assemble();
    let mut run = Run::new(&cluster, 1, "run:1");
    redis.ask(&["REPLICAOF", "127.0.0.1", &other.port.to_string()]);
    wait_all(&cluster, "pulsewire_broker_connected", |connected| connected == 0.0);
    run.say(0);
    run.hear();
    redis.ask(&["REPLICAOF", "NO", "ONE"]);
    wait_connected(&cluster);
    run.say(0);
    run.hear();
    passes(&cluster, 0, 1, "cursor:1");
}

/// Row G4, and a password that is wrong.
#[test]
fn nodes_serve_without_their_redis_and_find_it_when_it_comes() {
    let Some(database) = Database::shared() else { return };
    let Some(redis) = Server::start(&["--requirepass", "right"]) else { return };
    let proxy = Proxy::start(SocketAddr::from(([127, 0, 0, 1], 1))).unwrap();
    let wrong = format!("redis://:wrong@127.0.0.1:{}", redis.port);
    let cluster = Cluster::start(&database.fresh_url(), &wrong, 2, "");
    let mut run = Run::new(&cluster, 1, "run:1");
    run.say(0);
    run.hear();
    assert_eq!(metric(&cluster, 0, "pulsewire_broker_connected"), 0.0);
    assert_eq!(metric(&cluster, 0, "pulsewire_broker_reconnects_total"), 0.0);
    drop(cluster);
    let absent = format!("redis://:right@{}", proxy.address);
    let cluster = Cluster::start(&database.fresh_url(), &absent, 2, "");
    let mut run = Run::new(&cluster, 1, "run:1");
    run.say(0);
    run.hear();
    proxy.apply(Fault::Target { to: SocketAddr::from(([127, 0, 0, 1], redis.port)) });
    wait_connected(&cluster);
    cluster.assemble();
    passes(&cluster, 0, 1, "cursor:1");
}

/// Row B10.
#[test]
fn what_somebody_else_says_through_the_broker_is_refused_and_counted() {
    let Some(database) = Database::shared() else { return };
    let Some(redis) = Server::start(&[]) else { return };
    let cluster = Cluster::start(&database.fresh_url(), &redis.url(), 2, "");
    cluster.assemble();
    let forged = r#"1 00000000000000000000000000000000 {"from":"a","at":1,"items":[]}"#;
    for said in ["nonsense", forged, "9 later"] {
        assert_eq!(redis.ask(&["PUBLISH", "pulsewire:all", said]), "2");
    }
    for (reason, count) in [("refused", 1.0), ("unread", 2.0)] {
        let series = format!("pulsewire_broker_dropped_total{{reason=\"{reason}\"}}");
        wait_all(&cluster, &series, |refused| refused == count);
    }
    assert_eq!(metric(&cluster, 0, "websocket_bus_messages_total{result=\"refused\"}"), 1.0);
    passes(&cluster, 0, 1, "cursor:1");
}

#[test]
fn a_user_who_may_only_publish_and_subscribe_to_our_channels_is_enough() {
    let Some(database) = Database::shared() else { return };
    let (folder, port) = (Folder::new(), free_port());
    let settings = format!(
        "port {port}\nbind 127.0.0.1\nsave \"\"\nuser default off\n\
         user gate on >pass resetchannels &pw:* -@all +publish +subscribe +unsubscribe\n"
    );
    let file = folder.write("redis.conf", &settings);
    if Redis::start().is_none() {
        return;
    }
    let redis = Server::at(port, &[file.to_str().unwrap()]);
    let section = format!("url = \"redis://gate:pass@127.0.0.1:{}\"\nprefix = \"pw:\"", redis.port);
    let mut cluster = Cluster::prepared(&database.fresh_url(), &section, "");
    cluster.add(2);
    cluster.assemble();
    passes(&cluster, 0, 1, "cursor:1");
    let mut run = Run::new(&cluster, 0, "run:1");
    run.say(1);
    run.hear();
    wait_all(&cluster, "pulsewire_broker_lag_seconds_count", |count| count >= 2.0);
}

#[test]
fn nodes_speak_to_redis_over_tls_and_to_nobody_else() {
    let Some(database) = Database::shared() else { return };
    let (authority, folder) = (Authority::new(), Folder::new());
    let issued = authority.issue();
    let certificate = folder.write("certificate.pem", &issued.certificate);
    let key = folder.write("key.pem", &issued.key);
    let trusted = folder.write("authority.pem", &authority.pem());
    let port = free_port().to_string();
    let files = [certificate.to_str().unwrap(), key.to_str().unwrap(), trusted.to_str().unwrap()];
    let options = ["--tls-port", &port, "--tls-cert-file", files[0], "--tls-key-file", files[1]];
    let more = ["--tls-ca-cert-file", files[2], "--tls-auth-clients", "no"];
    let Some(_redis) = Server::start(&[options.as_slice(), &more].concat()) else { return };
    let section = format!("url = \"rediss://localhost:{port}\"");
    let mut cluster = Cluster::prepared(&database.fresh_url(), &section, "");
    cluster.add(1);
    let log = || cluster.nodes[0].http("GET", "/readyz", "", "").json()["broker"]["degraded"] == json!(true);
    eventually("a certificate of nobody is refused", log);
    cluster.nodes.clear();
    cluster.environment.push(("SSL_CERT_FILE".to_owned(), files[2].to_owned()));
    cluster.add(2);
    cluster.assemble();
    passes(&cluster, 0, 1, "cursor:1");
}

/// Row B11.
#[test]
fn when_sentinel_makes_another_server_the_primary_the_nodes_follow() {
    let Some(database) = Database::shared() else { return };
    let Some(mut primary) = Server::start(&[]) else { return };
    let replica = Server::at(
        free_port(),
        &["--replicaof", &format!("127.0.0.1 {}", primary.port), "--repl-diskless-sync-delay", "0"],
    );
    let (port, folder) = (free_port(), Folder::new());
    let settings = format!(
        "port {port}\nbind 127.0.0.1\nsentinel monitor main 127.0.0.1 {} 1\nsentinel down-after-milliseconds main 1000\n\
         sentinel failover-timeout main 4000\n",
        primary.port
    );
    eventually("the replica is one", || {
        replica.ask(&["INFO", "replication"]).contains("master_link_status:up")
    });
    let file = folder.write("sentinel.conf", &settings);
    let sentinel = Server::at(port, &[file.to_str().unwrap(), "--sentinel"]);
    eventually("the sentinel knows the replica", || {
        sentinel.ask(&["SENTINEL", "REPLICAS", "main"]).contains(&replica.port.to_string())
    });
    let url = format!("redis+sentinel://127.0.0.1:1,127.0.0.1:{port}/main");
    let cluster = Cluster::start(&database.fresh_url(), &url, 2, "");
    cluster.assemble();
    let mut run = Run::new(&cluster, 1, "run:1");
    run.say(0);
    run.hear();
    primary.kill();
    run.say(0);
    run.hear();
    eventually("the replica takes over", || replica.ask(&["ROLE"]).starts_with("master"));
    wait_all(&cluster, "pulsewire_broker_reconnects_total", |count| count >= 1.0);
    wait_connected(&cluster);
    run.say(0);
    run.hear();
    cluster.assemble();
    passes(&cluster, 1, 0, "cursor:1");
}

/// Sharded pub/sub: no shard is a single point that fails without a word.
#[test]
fn a_cluster_of_redis_carries_everything_and_a_shard_that_is_lost_is_noticed() {
    let Some(database) = Database::shared() else { return };
    let options = ["--cluster-enabled", "yes", "--cluster-node-timeout", "3000"];
    let Some(first) = Server::start(&options) else { return };
    let mut shards = vec![first];
    shards.extend((0..2).map(|_| Server::at(free_port(), &options)));
    let addresses: Vec<String> = shards.iter().map(|shard| format!("127.0.0.1:{}", shard.port)).collect();
    let mut create = Command::new("redis-cli");
    create.args(["--cluster", "create"]).args(&addresses).args(["--cluster-replicas", "0", "--cluster-yes"]);
    let created = create.output().unwrap();
    assert!(created.status.success(), "{}", String::from_utf8_lossy(&created.stdout));
    eventually("the shards know each other", || {
        shards.iter().all(|shard| shard.ask(&["CLUSTER", "INFO"]).contains("cluster_state:ok"))
    });
    let url = format!("redis+cluster://{},{}", addresses[0], addresses[1]);
    let cluster = Cluster::start(&database.fresh_url(), &url, 2, "");
    cluster.assemble();
    let channels: Vec<String> = (1..=9).map(|n| format!("cursor:{n}")).collect();
    let mut socket = cluster.subscriber(1, &json!(channels));
    for channel in &channels {
        cluster.publish(0, &json!({"channel": channel, "type": "cursor", "data": channel}));
        assert_eq!(socket.json()["data"], json!(channel));
    }
    let heard = |shard: &Server| shard.ask(&["PUBSUB", "SHARDCHANNELS"]).lines().count();
    assert!(
        shards.iter().all(|shard| heard(shard) > 0),
        "{:?}",
        shards.iter().map(heard).collect::<Vec<_>>()
    );
    let mut run = Run::new(&cluster, 1, "run:1");
    // One that says nothing is worse than one that is gone: its connections stay.
    shards[2].signal("STOP");
    run.say(0);
    run.hear();
    wait_all(&cluster, "pulsewire_broker_connected", |connected| connected == 0.0);
    run.say(0);
    run.hear();
    shards[2].signal("CONT");
    wait_connected(&cluster);
    cluster.assemble();
    run.say(0);
    run.hear();
    for channel in &channels {
        cluster.publish(0, &json!({"channel": channel, "type": "cursor", "data": channel}));
        assert_eq!(socket.json()["data"], json!(channel));
    }
    shards[1].kill();
    wait_all(&cluster, "pulsewire_broker_connected", |connected| connected == 0.0);
    run.say(0);
    run.hear();
    shards[1].start_again();
    wait_connected(&cluster);
    run.say(0);
    run.hear();
}

/// Nodes that share only a database.
#[test]
fn nodes_without_redis_hear_each_other_through_postgres() {
    let Some(database) = Database::shared() else { return };
    let url = database.fresh_url();
    let mut cluster = Cluster::prepared(&url, "", "");
    cluster.add(1);
    wait_connected(&cluster);
    for n in 1..=20 {
        cluster.publish(0, &json!({"channel": "run:9", "type": "note", "data": n}));
    }
    let committed = "pulsewire_broker_messages_total{direction=\"sent\",kind=\"committed\"}";
    assert_eq!(metric(&cluster, 0, committed), 0.0, "nobody else is there");
    cluster.add(2);
    cluster.assemble();
    let mut run = Run::new(&cluster, 1, "run:1");
    for node in [0, 2, 1] {
        run.say(node);
    }
    run.say_much(0, 40, 500);
    // Larger than a notification: it is read from the store.
    run.say_much(2, 2, 20_000);
    run.say(0);
    run.hear();
    assert!(metric(&cluster, 2, "pulsewire_broker_shortened_total") >= 1.0);
    passes(&cluster, 2, 0, "cursor:1");
    let large = json!({"channel": "cursor:1", "type": "cursor", "data": "x".repeat(9_000)});
    cluster.publish(0, &large);
    eventually("what does not fit is counted", || {
        metric(&cluster, 0, "pulsewire_broker_dropped_total{reason=\"too_large\"}") == 1.0
    });
    // Its connections are thrown out: all of it is made anew.
    database.sql("select pg_terminate_backend(pid) from pg_stat_activity where query ilike '%listen%' and pid <> pg_backend_pid()");
    run.say(0);
    run.hear();
    wait_all(&cluster, "pulsewire_broker_reconnects_total", |count| count >= 1.0);
    wait_connected(&cluster);
    run.say(0);
    run.hear();
    passes(&cluster, 1, 0, "cursor:2");
    // Another schema is another cluster, in the same database.
    let mut other = Cluster::prepared(&database.fresh_url(), "", "");
    other.add(1);
    wait_connected(&other);
    assert_eq!(other.known(0).len(), 1);
}

#[test]
fn a_node_that_is_to_have_no_broker_shows_none() {
    let Some(database) = Database::shared() else { return };
    let mut cluster = Cluster::prepared(&database.fresh_url(), "broker = \"none\"", "");
    cluster.add(1);
    let page = cluster.nodes[0].http("GET", "/metrics", "", "").text();
    assert!(!page.contains("\npulsewire_broker_connected "), "there is no broker");
    assert_eq!(cluster.nodes[0].http("GET", "/readyz", "", "").json()["broker"], Value::Null);
}
