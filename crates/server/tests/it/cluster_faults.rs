//! Three nodes behind HAProxy, with a PostgreSQL and a Redis of their own, and everything that goes wrong.
//!
//! Publishers and readers come in by HAProxy, to whatever node it chooses; what they sent and were told is judged by
//! the history checker. Faults come one after the other, each for as long as publishers need for some hundred
//! events, a few times over or as often as `PULSEWIRE_CLUSTER_ROUNDS` says.

use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use pulsewire_loadtest::check::finding::Report;
use pulsewire_loadtest::proxy::{Fault, Proxy};
use pulsewire_loadtest::report::Figure;
use serde_json::Value;

use crate::child::Folder;
use crate::cluster::Cluster;
use crate::database::Database;
use crate::harness::until;
use crate::proof::{self, Proof};
use crate::recorded::{CHANNEL, History, Place};
use crate::redis::Redis;

const NODES: usize = 3;
const PUBLISHERS: usize = 6;
const READERS: usize = 6;
/// Events between two changes of the world.
const EVENTS: u64 = 300;
/// How long clients wait for a sign of life: longer than a heartbeat, and than the balancer takes to see a dead node.
const PATIENCE: Duration = Duration::from_secs(8);
/// Leaves out what needs a balancer, where none can be installed.
const WITHOUT: &str = "PULSEWIRE_WITHOUT_PROXIES";
const MORE: &str = "[heartbeat]\ninterval = \"3s\"\ntimeout = \"3s\"\n\
    [[namespace]]\nname = \"run\"\npattern = \"run:*\"\nhistory_max = 1000000\n";

/// Everything, and the ways between the parts.
struct World {
    cluster: Cluster,
    databases: [Database; 2],
    redis: Redis,
    /// Each node's way to the database.
    to_database: Vec<Proxy>,
    /// Each node's way to Redis.
    to_redis: Vec<Proxy>,
    balancer: Balancer,
    schema: String,
    /// Each node's.
    settings: Vec<String>,
}

struct Balancer {
    process: Child,
    address: SocketAddr,
    _folder: Folder,
}

impl Drop for Balancer {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port()
}

impl Balancer {
    fn start(nodes: &[String]) -> Self {
        let (folder, port) = (Folder::new(), free_port());
        let servers: String =
            nodes.iter().enumerate().map(|(n, node)| format!("    server node{n} {node}\n")).collect();
        let text = format!(
            "global\n    maxconn 2000\ndefaults\n    mode http\n    timeout connect 2s\n    timeout client 60s\n    \
             timeout server 20s\n    timeout tunnel 60s\n    timeout queue 2s\n    retries 2\n    option redispatch 1\n\
             frontend public\n    bind 127.0.0.1:{port}\n    default_backend nodes\n\
             backend nodes\n    balance roundrobin\n    option httpchk\n    \
             http-check send meth GET uri /readyz ver HTTP/1.1 hdr Host readiness\n    http-check expect status 200\n    \
             default-server check inter 300ms fall 2 rise 1\n{servers}"
        );
        let config = folder.write("haproxy.cfg", &text);
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "haproxy", "-db", "-f"]).arg(config);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().expect("setpriv starts");
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let mut balancer = Self { process, address, _folder: folder };
        until("haproxy answers", || {
            assert!(
                balancer.process.try_wait().unwrap().is_none(),
                "HAProxy does not start. Install it with: sudo apt-get update && sudo apt-get install -y haproxy; or \
                 leave these tests out with {WITHOUT}=1"
            );
            std::net::TcpStream::connect(address).is_ok()
        });
        balancer
    }
}

impl World {
    fn start() -> Option<Self> {
        if std::env::var_os(WITHOUT).is_some_and(|value| value != "0") {
            eprintln!("LEFT OUT: {WITHOUT} is set");
            return None;
        }
        let database = Database::start(&["synchronous_commit = on"])?;
        let redis = Redis::start()?;
        let schema = "cluster".to_owned();
        let proxies = |target: SocketAddr| -> Vec<Proxy> {
            (0..NODES).map(|_| Proxy::start(target).unwrap()).collect()
        };
        let to_database = proxies(database.address());
        let to_redis = proxies(SocketAddr::from(([127, 0, 0, 1], redis.port)));
        let through = |url: &str, from: u16, proxy: &Proxy| {
            url.replace(&format!(":{from}"), &format!(":{}", proxy.address.port()))
        };
        let addresses: Vec<String> = (0..NODES).map(|_| format!("127.0.0.1:{}", free_port())).collect();
        let settings: Vec<String> = (0..NODES)
            .map(|node| {
                let database = through(&database.url(&schema), database.address().port(), &to_database[node]);
                let broker = through(&redis.url(), redis.port, &to_redis[node]);
                let section = format!("url = \"{broker}\"");
                let settings = Cluster::prepared(&database, &section, MORE).settings;
                format!("[server]\nlisten = \"{}\"\n{settings}", addresses[node])
            })
            .collect();
        let mut cluster = Cluster::prepared(&database.url(&schema), "", MORE);
        for (node, settings) in settings.iter().enumerate() {
            let node = cluster.with_settings(&node.to_string(), settings);
            cluster.nodes.push(node);
        }
        cluster.assemble();
        let standby = database.standby();
        let balancer = Balancer::start(&addresses);
        let databases = [database, standby];
        Some(Self { cluster, databases, redis, to_database, to_redis, balancer, schema, settings })
    }

    /// Starts a node in another's place.
    fn replace(&mut self, node: usize) {
        self.cluster.nodes[node] = self.cluster.with_settings(&node.to_string(), &self.settings[node]);
    }

    fn place(&self) -> Place {
        let (address, token) = (self.balancer.address, self.cluster.token.clone());
        Place { address, token, balanced: Some(PATIENCE) }
    }

    /// Waits until a node is ready and hears the others.
    fn is_well(&self, node: usize) {
        until("the node is ready", || {
            let ready = self.cluster.nodes[node].http("GET", "/readyz", "", "");
            ready.status == 200 && self.cluster.known(node)[0]["brokerState"] == "ok"
        });
    }

    /// What the database holds in the end: sequence, id and data of each event.
    fn rows(&self, database: &Database) -> Vec<(u64, String, Value)> {
        let sql = format!(
            "SELECT json_build_array(sequence, e.id, e.data) FROM {schema}.events e JOIN {schema}.channels c ON c.id = e.channel \
             WHERE c.name = '{CHANNEL}' ORDER BY sequence",
            schema = self.schema
        );
        let row = |line: &str| {
            let (sequence, id, data): (u64, String, Value) = serde_json::from_str(line).unwrap();
            let data = match data {
                Value::String(text) => serde_json::from_str(&text).unwrap(),
                data => data,
            };
            (sequence, id, data)
        };
        database.sql(&sql).lines().map(row).collect()
    }
}

/// Something that goes wrong, and is mended.
#[derive(Debug, Clone, Copy)]
enum Trouble {
    /// Row R1: a node dies, and another takes its place.
    Kill,
    /// A node stands still, and goes on.
    Pause,
    /// Row B2: a node does not reach Redis, and is not told so.
    BlackHole,
    /// Row B8: connections to Redis are reset, again and again.
    Resets,
    /// Redis answers late.
    SlowRedis,
    /// Row B1: Redis is killed and started again, without what it held.
    RedisKilled,
    /// A node does not reach the database.
    DatabaseCut,
    /// Row D13: the database is started again.
    DatabaseRestarted,
    /// Row U4: a node goes in order, and a new one comes.
    Rolled,
}

const TROUBLES: [Trouble; 9] = [
    Trouble::Kill,
    Trouble::Pause,
    Trouble::BlackHole,
    Trouble::Resets,
    Trouble::SlowRedis,
    Trouble::RedisKilled,
    Trouble::DatabaseCut,
    Trouble::DatabaseRestarted,
    Trouble::Rolled,
];

impl World {
    fn meets(&mut self, trouble: Trouble, node: usize, history: &History) {
        let begun = Instant::now();
        match trouble {
            Trouble::Kill => {
                self.cluster.nodes[node].signal("KILL");
                self.cluster.nodes[node].wait();
                history.goes_on(EVENTS);
                self.replace(node);
            }
            Trouble::Pause => {
                self.cluster.nodes[node].signal("STOP");
                history.goes_on(EVENTS);
                self.cluster.nodes[node].signal("CONT");
            }
            Trouble::BlackHole => {
                self.to_redis[node].apply(Fault::BlackHole);
                until("the node knows", || self.cluster.known(node)[0]["brokerState"] == "degraded");
                history.goes_on(EVENTS);
                self.to_redis[node].apply(Fault::Pass);
                self.to_redis[node].apply(Fault::Reset);
            }
            Trouble::Resets => {
                for _ in 0..5 {
                    self.to_redis.iter().for_each(|proxy| proxy.apply(Fault::Reset));
                    history.goes_on(EVENTS / 5);
                }
            }
            Trouble::SlowRedis => {
                self.to_redis[node].apply(Fault::Slow { ms: 150 });
                history.goes_on(EVENTS);
                self.to_redis[node].apply(Fault::Pass);
            }
            Trouble::RedisKilled => {
                self.redis.kill();
                history.goes_on(EVENTS);
                self.redis.start_again();
            }
            Trouble::DatabaseCut => {
                self.to_database[node].apply(Fault::Refuse);
                history.goes_on(EVENTS);
                self.to_database[node].apply(Fault::Pass);
            }
            Trouble::DatabaseRestarted => {
                self.databases[0].stop("immediate");
                self.databases[0].start_again();
            }
            Trouble::Rolled => {
                for node in 0..NODES {
                    self.cluster.nodes[node].signal("TERM");
                    let (status, _, log) = self.cluster.nodes[node].wait();
                    assert!(status.success(), "{log}");
                    history.goes_on(EVENTS / 3);
                    self.replace(node);
                    self.is_well(node);
                }
            }
        }
        (0..NODES).for_each(|node| self.is_well(node));
        history.goes_on(EVENTS);
        eprintln!("{trouble:?} at node {node}: {:.1} s", begun.elapsed().as_secs_f64());
    }

    /// Publishes and reads while something happens, and lets everybody read to the end.
    fn watch(&mut self, history: &History, happens: impl FnOnce(&mut Self, &History)) {
        history.whereabouts.set(Some(self.place()));
        std::thread::scope(|scope| {
            let _ending = history.ending();
            let readers: Vec<_> =
                (0..READERS).map(|n| scope.spawn(move || history.follow(&format!("r{n}")))).collect();
            let publishers: Vec<_> = (0..PUBLISHERS)
                .map(|n| scope.spawn(move || history.publish(&format!("p{n}"), n % 2 == 0)))
                .collect();
            history.goes_on(EVENTS);
            happens(self, history);
            history.end();
            publishers.into_iter().for_each(|publisher| publisher.join().unwrap());
            history.publish_last();
            readers.into_iter().for_each(|reader| reader.join().unwrap());
        });
    }
}

/// Rows B1, B2, B8, D13, M1, R1, R6 and U4 on three real nodes: whatever was acknowledged reaches every reader once and in one
/// order, wherever it comes back.
#[test]
fn nothing_is_lost_or_repeated_whatever_happens_to_nodes_redis_and_database() {
    let Some(mut world) = World::start() else { return };
    let rounds = proof::rounds("PULSEWIRE_CLUSTER_ROUNDS", 1);
    let (history, begun) = (History::new(), Instant::now());
    world.watch(&history, |world, history| {
        for round in 0..rounds {
            for (n, trouble) in TROUBLES.into_iter().enumerate() {
                world.meets(trouble, (round as usize + n) % NODES, history);
            }
        }
    });
    history.holds(world.rows(&world.databases[0]));
    let report = history.is_clean();
    prove(&report, rounds, begun.elapsed());
}

fn prove(report: &Report, rounds: u64, took: Duration) {
    let totals = report.totals;
    let found: u64 = report.counts.values().sum();
    let figure = |what: &str, value: f64, unit| Figure::new(format!("cluster_{what}"), value, unit);
    let figures = vec![
        figure("troubles", (rounds * TROUBLES.len() as u64) as f64, "faults").note(
            "in turn: a node killed, a node stopped for a while, a node cut off from Redis without a word, connections to \
             Redis reset, Redis slow, Redis killed, a node cut off from the database, the database restarted, all \
             nodes replaced one after the other",
        ),
        figure("acknowledged", totals.acknowledged as f64, "events"),
        figure("anomalies", found as f64, "events").at_most(0.0).note(
            "lost, phantom, duplicate, forked, out of order, skipped, stale, by the history checker",
        ),
        figure("unknown", totals.unknown as f64, "events").note(format!(
            "left by impatient publishers; {} of them are kept, once",
            totals.unknown_delivered
        )),
        figure("delivered", totals.delivered as f64, "events")
            .note(format!("to {READERS} readers through HAProxy, and to whoever reads the store at the end")),
        figure("took_s", took.as_secs_f64(), "s"),
    ];
    let about = "Three nodes behind HAProxy, one PostgreSQL, one Redis, and everything that goes wrong.";
    Proof { name: "cluster", about, figures }.write();
}

/// Row D9: the database's second instance takes over, which may not have the newest events: every reader is told, and
/// from then on all read one history.
#[test]
fn when_a_second_database_takes_over_every_reader_is_told_that_history_began_anew() {
    let Some(mut world) = World::start() else { return };
    let history = History::new();
    world.watch(&history, |world, history| {
        world.databases[0].stop("immediate");
        world
            .to_database
            .iter()
            .for_each(|proxy| proxy.apply(Fault::Target { to: world.databases[1].address() }));
        world.databases[1].promote();
        (0..NODES).for_each(|node| world.is_well(node));
        history.goes_on(2 * EVENTS);
    });
    let report = history.judge();
    let totals = report.totals;
    assert_eq!(totals.epochs, 2, "{totals:?}");
    assert!(totals.resets >= READERS as u64, "{totals:?}");
}
