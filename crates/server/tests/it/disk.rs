//! What a real disk does to a real server: no room, and a sync that fails.
//!
//! The server is a process of its own. Its disk is a small `tmpfs` in a mount namespace of that process, so nothing is
//! left mounted however a test ends; a sync fails because `strace` says so in the kernel's place.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::child::{Folder, Process, pulsewire};
use crate::harness::{Answer, Socket, handshake, http, until};

const SETTINGS: &str = "[[namespace]]\nname = \"run\"\npattern = \"run:*\"\nhistory_max = 100000\n";

/// Says loudly what cannot be tested here. Where CI runs it is a failure: what quietly does not run proves nothing.
fn left_out(row: &str, why: &str) {
    let said = format!("LEFT OUT: row {row}: {why}");
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{said}");
    eprintln!("{said}");
}

/// A server of its own, and what its first administrator needs.
struct Node {
    process: Process,
    headers: String,
}

impl Node {
    /// Starts it on a data folder, which is found at `seen` from here.
    fn start(command: Command, folder: &Folder, data: &Path, seen: impl FnOnce(u32) -> PathBuf) -> Self {
        let file = folder.write("pulsewire.toml", SETTINGS);
        let arguments = ["--dev", "-c", file.to_str().unwrap(), "--data", data.to_str().unwrap()];
        let process = Process::serve(command, &arguments);
        let written = std::fs::read_to_string(seen(process.pid()).join("dev.json")).unwrap();
        let written: Value = serde_json::from_str(&written).unwrap();
        let headers = format!("Authorization: Bearer {}\r\n", written["token"].as_str().unwrap());
        Self { process, headers }
    }

    fn try_publish(&self, event: &Value) -> Answer {
        self.process.http("POST", "/api/publish", &self.headers, &event.to_string())
    }

    /// A socket that listens to these channels.
    fn listening(&self, channels: &Value) -> Socket {
        let mut socket = self.process.connect();
        socket.send(handshake("/ws", &self.headers).as_bytes());
        assert_eq!(socket.head().status, 101);
        assert_eq!(socket.json()["type"], "welcome");
        assert_eq!(socket.ask(&json!({"type": "subscribe", "channels": channels}))["type"], "subscribed");
        socket
    }
}

/// What a file keeps of `run:1`: ids and sequences, in order.
fn kept(file: &Path) -> Vec<(String, u64)> {
    let file = Connection::open(file).unwrap();
    let rows = "SELECT coalesce(events.id, ''), sequence FROM events JOIN channels ON channels.id = channel
                WHERE name = 'run:1' ORDER BY sequence";
    let mut statement = file.prepare(rows).unwrap();
    let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get::<_, i64>(1)?.cast_unsigned()));
    statement.query_map([], row).unwrap().map(Result::unwrap).collect()
}

/// That a history has no hole and nothing twice, and all that was acknowledged in its place.
#[track_caller]
fn assert_whole(kept: &[(String, u64)], acknowledged: &BTreeMap<String, u64>) {
    let sequences: Vec<u64> = kept.iter().map(|(_, sequence)| *sequence).collect();
    assert_eq!(sequences, (1..=kept.len() as u64).collect::<Vec<_>>(), "no hole");
    let places: BTreeMap<&str, u64> = kept.iter().map(|(id, sequence)| (id.as_str(), *sequence)).collect();
    assert_eq!(places.len(), kept.len(), "nothing stands twice");
    for (id, sequence) in acknowledged {
        assert_eq!(places.get(id.as_str()), Some(sequence), "{id} was acknowledged");
    }
}

/// Runs what follows with a `tmpfs` of 3 MiB at `$0`, a third of which something else takes.
const ON_A_SMALL_DISK: &str =
    "mount -t tmpfs -o size=3m pulsewire \"$0\" && head -c 1048576 /dev/zero > \"$0/ballast\" && exec \"$@\"";

/// A namespace of mounts with the small disk in it, and whatever is to run there.
fn on_a_small_disk(disk: &Path) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", ON_A_SMALL_DISK]).arg(disk);
    command
}

/// What is kept on a disk of another namespace, which SQLite would look for in this one; nobody writes there.
fn kept_on(disk: &Path, folder: &Folder) -> Vec<(String, u64)> {
    for name in ["pulsewire.db", "pulsewire.db-wal"] {
        std::fs::copy(disk.join(name), folder.path().join(name)).unwrap();
    }
    let kept = kept(&folder.path().join("pulsewire.db"));
    std::fs::remove_file(folder.path().join("pulsewire.db")).unwrap();
    kept
}

/// Row D3, on a file system that is really full.
#[test]
fn a_full_disk_refuses_and_recovers_without_a_restart() {
    let folder = Folder::new();
    let disk = folder.path().join("disk");
    std::fs::create_dir(&disk).unwrap();
    let tried = on_a_small_disk(&disk).arg("true").stderr(Stdio::inherit()).status();
    if !tried.is_ok_and(|status| status.success()) {
        let bound = "durable::a_full_store_refuses_and_recovers_without_a_restart";
        return left_out(
            "D3",
            &format!("nothing can be mounted here; only store.bytes_max is tried, by {bound}"),
        );
    }
    let mut command = on_a_small_disk(&disk);
    command.arg(pulsewire().get_program()).env_clear().env("PATH", std::env::var_os("PATH").unwrap());
    let seen = |pid: u32| PathBuf::from(format!("/proc/{pid}/root{}", disk.display()));
    let node = Node::start(command, &folder, &disk, seen);
    let seen = seen(node.process.pid());
    let mut socket = node.listening(&json!(["run:1", "upstream:x"]));

    let mut acknowledged = BTreeMap::new();
    let mut fill = |id: String, size: usize| {
        let event = json!({"channel": "run:1", "type": "note", "data": "x".repeat(size), "id": id});
        let answer = node.try_publish(&event);
        if answer.status == 200 {
            let sequence = answer.json()["sequence"].as_u64().unwrap();
            assert!(acknowledged.insert(id, sequence).is_none());
        }
        answer
    };
    let refused = (0..1_000).map(|n| fill(format!("large{n}"), 20_000)).find(|answer| answer.status != 200);
    let refused = refused.expect("a disk of 3 MiB is full before 20 MB were written");
    let problem = refused.json();
    assert_eq!(refused.status, 503, "{problem}");
    assert_eq!((&problem["code"], &problem["retryable"]), (&json!("store_unavailable"), &json!(true)));
    assert!(refused.headers.contains_key("retry-after"));
    // Small events, and the server's own attempts, find room until there is none for anybody.
    let mut n = 0;
    let mut refusals_in_a_row = 0;
    until("there is no room for anything", || {
        n += 1;
        let refused = fill(format!("small{n}"), 1).status == 503;
        refusals_in_a_row = if refused { refusals_in_a_row + 1 } else { 0 };
        refusals_in_a_row > 20 && node.process.metric("websocket_store_degraded") == 1.0
    });
    assert!(node.process.metric("websocket_store_errors_total{kind=\"full\"}") >= 1.0);
    let tick = node.try_publish(&json!({"channel": "upstream:x", "type": "tick", "data": 1}));
    assert_eq!(tick.status, 200, "what keeps nothing goes on");
    // Who listens is told what is kept, and the tick wherever it comes.
    let (mut ticks, mut last) = (0, 0);
    while ticks < 1 || last < acknowledged.len() as u64 {
        let event = socket.json();
        match event["sequence"].as_u64() {
            None => ticks += 1,
            Some(sequence) => {
                assert_eq!(sequence, last + 1, "{event}");
                last = sequence;
            }
        }
    }
    assert_whole(&kept_on(&seen, &folder), &acknowledged);

    std::fs::remove_file(seen.join("ballast")).unwrap();
    // Nobody publishes: the server finds out by itself.
    until("the store works again", || node.process.metric("websocket_store_degraded") == 0.0);
    let after = json!({"channel": "run:1", "type": "note", "data": "y".repeat(20_000), "id": "after"});
    let after = node.try_publish(&after);
    assert_eq!(after.status, 200, "{}", after.text());
    acknowledged.insert("after".to_owned(), after.json()["sequence"].as_u64().unwrap());
    assert_eq!(socket.json()["sequence"], acknowledged["after"], "the next place");
    let kept = kept_on(&seen, &folder);
    assert_whole(&kept, &acknowledged);
    assert_eq!(kept.len(), acknowledged.len(), "what was refused is not there");
}

/// Makes a process's syncs fail for as long as it lives.
struct FailingSync(Child);

impl FailingSync {
    /// `which` says which syncs of each thread, as `strace` counts them; empty means all.
    fn of(process: &Process, which: &str) -> Result<Self, String> {
        let inject = format!("inject=fsync,fdatasync:error=EIO{which}");
        let mut command = Command::new("strace");
        command.args(["-f", "-o", "/dev/null", "-e", "trace=fsync,fdatasync", "-e", &inject]);
        command.args(["-p", &process.pid().to_string()]);
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("strace: {error}"))?;
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let said = lines.next().and_then(Result::ok).unwrap_or_default();
        // It goes on saying what becomes of the threads.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        if said.contains(" attached") {
            return Ok(Self(child));
        }
        let _ = child.kill();
        let _ = child.wait();
        Err(format!("strace may not: {said}"))
    }
}

impl Drop for FailingSync {
    fn drop(&mut self) {
        // Asked to end it lets go of the process first; killed, it does that too, but says so to nobody.
        let pid = self.0.id().to_string();
        let _ = Command::new("/bin/sh").args(["-c", &format!("kill -TERM {pid}")]).status();
        let _ = self.0.wait();
    }
}

/// Publishes one event after another, each until it is acknowledged, and writes down where it stands.
#[derive(Default)]
struct Publishers {
    acknowledged: Mutex<BTreeMap<String, u64>>,
    /// Answers that were no acknowledgement.
    told_unknown: AtomicUsize,
    done: AtomicBool,
}

impl Publishers {
    /// Ends when it is told to, or when the server is gone; returns the id whose outcome it never heard.
    fn run(&self, address: SocketAddr, headers: &str, name: &str) -> Option<String> {
        for n in 0.. {
            let id = format!("{name}.{n}");
            let event = json!({"channel": "run:1", "type": "note", "data": n, "id": id}).to_string();
            loop {
                let sent = || http(address, "POST", "/api/publish", headers, &event);
                let Ok(answer) = std::panic::catch_unwind(sent) else { return Some(id) };
                let body = answer.json();
                if answer.status == 200 {
                    let sequence = body["sequence"].as_u64().unwrap();
                    assert!(self.acknowledged.lock().unwrap().insert(id.clone(), sequence).is_none());
                    break;
                }
                assert_eq!(answer.status, 503, "{body}");
                assert_eq!(body["retryable"], true, "{body}");
                match body["code"].as_str().unwrap() {
                    "outcome_unknown" => drop(self.told_unknown.fetch_add(1, Ordering::SeqCst)),
                    code => assert_eq!(code, "store_unavailable"),
                }
                if self.done.load(Ordering::SeqCst) {
                    return Some(id);
                }
            }
            if self.done.load(Ordering::SeqCst) {
                return None;
            }
        }
        None
    }

    fn count(&self) -> usize {
        self.acknowledged.lock().unwrap().len()
    }

    fn wait_for_more(&self) {
        let before = self.count();
        until("more is acknowledged", || self.count() >= before + 20);
    }
}

/// Ends the publishers with the scope they run in, also when that fails.
struct Ends<'a>(&'a Publishers);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.done.store(true, Ordering::SeqCst);
    }
}

fn on_this_disk(folder: &Folder) -> Node {
    let data = folder.path().join("data");
    Node::start(pulsewire(), folder, &data, |_| data.clone())
}

/// Row D4, one failure: the server asks for the same batch again, and publishers see nothing of it.
#[test]
fn a_sync_that_fails_once_is_tried_again_and_nobody_is_told() {
    let folder = Folder::new();
    let node = on_this_disk(&folder);
    let mut socket = node.listening(&json!(["run:1"]));
    let event = |n: usize| json!({"channel": "run:1", "type": "note", "data": n, "id": format!("m{n}")});
    assert_eq!(node.try_publish(&event(1)).json()["sequence"], 1);
    // The first sync of each thread; the writer's is that of the next commit.
    let failing = match FailingSync::of(&node.process, ":when=1") {
        Ok(failing) => failing,
        Err(why) => return left_out("D4", &why),
    };
    let answer = node.try_publish(&event(2));
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json()["sequence"], 2);
    drop(failing);
    assert_eq!(node.process.metric("websocket_store_errors_total{kind=\"io\"}"), 1.0);
    assert_eq!(node.process.metric("websocket_store_degraded"), 0.0);
    assert_eq!(node.try_publish(&event(3)).json()["sequence"], 3);
    let told: Vec<u64> = (0..3).map(|_| socket.json()["sequence"].as_u64().unwrap()).collect();
    assert_eq!(told, [1, 2, 3]);
}

/// Row D4: nothing is acknowledged while syncs fail, nothing that was is lost, and nothing stands twice, also when the
/// process is killed before they work again.
#[test]
fn while_syncs_fail_outcomes_are_unknown_and_each_event_is_kept_once() {
    let folder = Folder::new();
    let mut node = on_this_disk(&folder);
    let publishers = Publishers::default();
    let mut socket = node.listening(&json!(["upstream:x"]));
    let mut why_not = None;
    let (address, headers) = (node.process.address, node.headers.clone());
    let unheard: Vec<String> = std::thread::scope(|scope| {
        let (publishers, headers) = (&publishers, &headers);
        let threads = ["a", "b", "c"].map(|name| scope.spawn(move || publishers.run(address, headers, name)));
        let _ends = Ends(publishers);
        publishers.wait_for_more();
        for round in 0..2 {
            let failing = match FailingSync::of(&node.process, "") {
                Ok(failing) => failing,
                Err(why) => {
                    why_not = Some(why);
                    break;
                }
            };
            until("the store is known to fail", || node.process.metric("websocket_store_degraded") == 1.0);
            let before = publishers.count();
            let tick = json!({"channel": "upstream:x", "type": "tick", "data": round});
            assert_eq!(node.try_publish(&tick).status, 200, "what keeps nothing goes on");
            assert_eq!(socket.json()["data"], round);
            // The same batch is asked for again and again before anybody is told.
            let told = publishers.told_unknown.load(Ordering::SeqCst);
            until("publishers are told", || publishers.told_unknown.load(Ordering::SeqCst) > told);
            assert!(node.process.metric("websocket_store_errors_total{kind=\"io\"}") >= 2.0);
            assert_eq!(publishers.count(), before, "nothing is acknowledged meanwhile");
            if round == 1 {
                node.process.signal("KILL");
                node.process.wait();
            }
            drop(failing);
            if round == 0 {
                publishers.wait_for_more();
                until("the store works again", || node.process.metric("websocket_store_degraded") == 0.0);
            }
        }
        publishers.done.store(true, Ordering::SeqCst);
        threads.into_iter().filter_map(|thread| thread.join().unwrap()).collect()
    });
    if let Some(why) = why_not {
        return left_out("D4", &why);
    }
    assert_eq!(unheard.len(), 3, "each publisher waited for an answer when the process was killed");
    drop(node);
    let node = on_this_disk(&folder);
    let mut acknowledged = publishers.acknowledged.into_inner().unwrap();
    let file = folder.path().join("data/pulsewire.db");
    assert_whole(&kept(&file), &acknowledged);
    for id in unheard {
        let n: u64 = id.split_once('.').unwrap().1.parse().unwrap();
        let answer = node.try_publish(&json!({"channel": "run:1", "type": "note", "data": n, "id": id}));
        assert_eq!(answer.status, 200, "{}", answer.text());
        acknowledged.insert(id, answer.json()["sequence"].as_u64().unwrap());
    }
    let kept = kept(&file);
    assert_whole(&kept, &acknowledged);
    assert_eq!(kept.len(), acknowledged.len(), "and nothing that nobody published");
}
