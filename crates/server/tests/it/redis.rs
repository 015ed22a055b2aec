//! Samples from a real Redis to a WebSocket.
//!
//! The Redis server is the test's own, on a free port, and ends with the thread that started it. It keeps what it has
//! in memory, or in a file where a test kills it and wants it back.

use std::io::{BufRead, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use pulsewire::auth::Role;
use serde_json::{Value, json};

use crate::child::Folder;
use crate::harness::{PATIENCE, Server, Socket, until};

/// Leaves out what needs Redis, where it cannot be installed.
const WITHOUT: &str = "PULSEWIRE_WITHOUT_REDIS";

pub(crate) struct Redis {
    pub(crate) port: u16,
    child: Option<Child>,
    /// Where it keeps what it has, if it does.
    folder: Option<Folder>,
}

impl Redis {
    /// A server; `None` if these tests are to be left out.
    ///
    /// # Panics
    ///
    /// If Redis is not installed.
    pub(crate) fn start() -> Option<Self> {
        Self::start_in(None)
    }

    /// A server that has what it had when it is killed and started again.
    pub(crate) fn kept() -> Option<Self> {
        Self::start_in(Some(Folder::new()))
    }

    fn start_in(folder: Option<Folder>) -> Option<Self> {
        if std::env::var_os(WITHOUT).is_some_and(|value| value != "0") {
            eprintln!("LEFT OUT: {WITHOUT} is set");
            return None;
        }
        let port =
            TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port();
        let mut redis = Self { port, child: None, folder };
        redis.start_again();
        Some(redis)
    }

    pub(crate) fn start_again(&mut self) {
        let options = "--bind 127.0.0.1 --save '' --requirepass geheim --port";
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "redis-server"]).args(options.replace('\'', "").split(' '));
        command
            .arg(self.port.to_string())
            .args(["--appendonly", if self.folder.is_some() { "yes" } else { "no" }]);
        if let Some(folder) = &self.folder {
            command.arg("--dir").arg(folder.path());
        }
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        self.child = Some(child.expect("setpriv starts"));
        until("Redis answers", || {
            let ended = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten());
            assert!(
                ended.is_none(),
                "Redis does not start. Install it with: sudo apt-get update && sudo apt-get install -y \
                 redis-server; or leave these tests out with {WITHOUT}=1"
            );
            self.try_ask(&["PING"]) == Some(json!("PONG"))
        });
    }

    pub(crate) fn kill(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        child.kill().and_then(|()| child.wait()).expect("it ends");
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://:geheim@127.0.0.1:{}", self.port)
    }

    /// Publishes as document 004's collector does; returns how many subscribers Redis gave it to.
    pub(crate) fn publish(&self, channel: &str, payload: &str) -> u64 {
        self.ask(&["PUBLISH", channel, payload]).as_u64().expect("a number")
    }

    /// What it answers to a command: texts, numbers, lists, and `{"error": …}`.
    pub(crate) fn ask(&self, words: &[&str]) -> Value {
        self.try_ask(words).expect("Redis answers")
    }

    /// The same; `None` if it does not answer.
    pub(crate) fn try_ask(&self, words: &[&str]) -> Option<Value> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        let command = |words: &[&str]| {
            let words = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len()));
            format!("*{}\r\n{}", words.clone().count(), words.collect::<String>())
        };
        let both = command(&["AUTH", "geheim"]) + &command(words);
        stream.write_all(both.as_bytes()).ok()?;
        let mut input = BufReader::new(stream);
        // While it loads its file it refuses even the password.
        (answer(&mut input)? == json!("OK")).then_some(())?;
        answer(&mut input)
    }
}

/// One answer of the protocol of Redis.
fn answer(input: &mut impl BufRead) -> Option<Value> {
    let mut line = String::new();
    input.read_line(&mut line).ok()?;
    let (kind, rest) = line.trim_end().split_at_checked(1)?;
    let count = || rest.parse::<i64>().ok();
    Some(match kind {
        "+" => json!(rest),
        "-" => json!({ "error": rest }),
        ":" => json!(count()?),
        "$" => match usize::try_from(count()?) {
            Err(_) => Value::Null,
            Ok(length) => {
                let mut text = vec![0; length + 2];
                input.read_exact(&mut text).ok()?;
                json!(String::from_utf8(text[..length].to_vec()).ok()?)
            }
        },
        "*" => match count()? {
            ..0 => Value::Null,
            items => (0..items).map(|_| answer(input)).collect::<Option<Vec<_>>>()?.into(),
        },
        _ => return None,
    })
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

fn subscribed(server: &Server, shape: &str) -> Socket {
    let headers = format!("Authorization: Bearer {}\r\n", server.token("ada", Role::User));
    let mut socket = server.open("/ws/metrics", &headers);
    assert_eq!(socket.json()["type"], "welcome");
    socket.say(&json!({ "type": "subscribe", "data": { "channels": ["system.metrics"], "shape": shape } }));
    assert_eq!(socket.json()["type"], "subscribed");
    socket
}

fn wait_connected(server: &Server, times: f64) {
    server.wait_metric("pulsewire_redis_connects_total", times);
    server.wait_metric("pulsewire_redis_connected", 1.0);
}

fn point(value: f64) -> String {
    json!({ "channel": "system.metrics", "name": "cpu.percent", "type": "gauge", "value": value,
            "tags": { "host": "server1" } })
    .to_string()
}

#[test]
fn samples_published_in_redis_come_to_subscribers_also_after_redis_was_killed() {
    let Some(mut redis) = Redis::start() else { return };
    let server = Server::start(&format!("[redis]\nurl = \"{}\"", redis.url()));
    wait_connected(&server, 1.0);
    let mut socket = subscribed(&server, "points");
    let mut said = || {
        let said = socket.json();
        (said["name"].clone(), said["value"].clone(), said["tags"]["host"].clone())
    };
    assert_eq!(redis.publish("system.metrics", &point(75.5)), 1);
    assert_eq!(said(), (json!("cpu.percent"), json!(75.5), json!("server1")));

    redis.kill();
    server.wait_metric("pulsewire_redis_connected", 0.0);
    redis.start_again();
    wait_connected(&server, 2.0);
    assert_eq!(redis.publish("system.metrics", &point(80.0)), 1);
    assert_eq!(said(), (json!("cpu.percent"), json!(80.0), json!("server1")));
    assert_eq!(server.metric("pulsewire_samples_total{source=\"redis\"}"), 2.0);
}

#[test]
fn what_redis_brings_that_is_no_sample_is_refused_and_counted() {
    let Some(redis) = Redis::start() else { return };
    let server =
        Server::start(&format!("[redis]\nurl = \"{}\"\npatterns = [\"*.metrics\", \"run:*\"]", redis.url()));
    wait_connected(&server, 1.0);
    let refused = |reason: &str, count: f64| {
        server.wait_metric(&format!("pulsewire_samples_refused_total{{reason=\"{reason}\"}}"), count);
    };
    assert_eq!(redis.publish("numbers", &point(1.0)), 0, "nobody asked for it");
    redis.publish("run:1", &point(1.0));
    refused("channel", 1.0);
    redis.publish("system.metrics", "{\"name\":");
    refused("malformed", 1.0);
    redis.publish("system.metrics", &format!("{}{}", " ".repeat(1 << 20), point(1.0)));
    refused("batch_max", 1.0);
    redis.publish("agent.metrics", &point(1.0));
    refused("channel", 2.0);
    // A wrong item is refused alone, and the connection has held.
    let mut socket = subscribed(&server, "grouped");
    let grouped = json!({ "channel": "system.metrics", "cpu": { "percent": 45.2, "count": 8 } });
    redis.publish("system.metrics", &json!([{ "name": "no value" }, grouped]).to_string());
    let mut said = socket.json();
    said.as_object_mut().and_then(|said| said.remove("timestamp")).expect("a time");
    assert_eq!(said, json!({ "channel": "system.metrics", "cpu": { "percent": 45.2, "count": 8 } }));
    assert_eq!(server.metric("pulsewire_samples_total{source=\"redis\"}"), 2.0);
    assert_eq!(server.metric("pulsewire_redis_connects_total"), 1.0);
}

#[test]
fn a_server_starts_and_serves_without_its_redis() {
    let server = Server::start("[redis]\nurl = \"redis://127.0.0.1:1\"");
    assert_eq!(server.get("/readyz").json()["status"], Value::from("ready"));
    assert_eq!(server.metric("pulsewire_redis_connected"), 0.0);
    assert_eq!(server.metric("pulsewire_redis_connects_total"), 0.0);
    let without = Server::start("");
    assert!(!without.page().contains("\npulsewire_redis_connected "), "nobody asked for Redis");
}
