//! Row G5 of the fault catalogue: new settings for a running server, good and bad, with SIGHUP.

use serde_json::{Value, json};

use crate::child::{Folder, Process, pulsewire, run};
use crate::harness::{Socket, handshake, until};

const SECRET: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

struct Running {
    process: Process,
    folder: Folder,
    token: String,
}

impl Running {
    fn start(settings: &str) -> Self {
        let folder = Folder::new();
        let file = folder.write("pulsewire.toml", settings);
        let mut command = pulsewire();
        command.env("JWT_SECRET_KEY", SECRET).current_dir(folder.path());
        let process =
            Process::serve(command, &["-c", file.to_str().unwrap(), "--set", "collector.enabled=false"]);
        let mut create = pulsewire();
        create.env("JWT_SECRET_KEY", SECRET).current_dir(folder.path());
        let token =
            run(create.args(["token", "create", "--sub", "ann", "--role", "admin"])).out.trim().to_owned();
        Self { process, folder, token }
    }

    /// Writes other settings and waits until the server has read them.
    fn reload(&self, settings: &str, outcome: &str) {
        let series = format!("pulsewire_config_reloads_total{{outcome=\"{outcome}\"}}");
        let before = self.process.metric(&series);
        self.folder.write("pulsewire.toml", settings);
        self.process.signal("HUP");
        until(&series, || self.process.metric(&series) == before + 1.0);
    }

    fn knock(&self) -> (u16, Socket) {
        let mut socket = self.process.connect();
        socket.send(handshake(&format!("/ws?token={}", self.token), "").as_bytes());
        let status = socket.head().status;
        if status == 101 {
            assert_eq!(socket.json()["type"], "welcome");
        }
        (status, socket)
    }
}

fn subscribe(socket: &mut Socket, names: &[&str]) -> Value {
    socket.ask(&json!({"type": "subscribe", "channels": names}))
}

#[test]
fn a_reload_with_a_mistake_changes_nothing_and_is_counted() {
    let good = "[limits]\nconnections_per_user = 2\n";
    let server = Running::start(good);
    let (_, mut socket) = server.knock();
    for wrong in [
        "[limits]\nconnections_per_user = 9\nconnections_per_usr = 1\n",
        "[limits]\nconnections_per_user = \"many\"\n",
        "[limits",
        // The bound is good and must not be put in force on the way to the mistake.
        "[limits]\nconnections_per_user = 9\n[origins]\nallowed = [\"no origin\"]\n",
    ] {
        server.reload(wrong, "failed");
    }
    assert_eq!(subscribe(&mut socket, &["run:1"])["type"], "subscribed", "nobody was disconnected");
    let second = server.knock();
    assert_eq!((second.0, server.knock().0), (101, 503), "the old bound is in force");
    assert_eq!(server.process.metric("pulsewire_config_reloads_total{outcome=\"ok\"}"), 0.0);
    until("both are still there", || server.process.metric("websocket_active_connections") == 2.0);
    let Running { mut process, .. } = server;
    process.signal("TERM");
    let (_, _, err) = process.wait();
    for part in
        ["limits.connections_per_usr", "the settings were not reloaded", "pulsewire.toml", "origins.allowed"]
    {
        assert!(err.contains(part), "`{part}` is not in the log: {err}");
    }
}

#[test]
fn a_reload_puts_limits_in_force_without_a_reconnect() {
    let server = Running::start("[limits]\nconnections_per_user = 1\nsubscriptions_per_session = 1\n");
    let (_, mut socket) = server.knock();
    assert_eq!(subscribe(&mut socket, &["run:1"])["type"], "subscribed");
    assert_eq!(subscribe(&mut socket, &["run:2"])["code"], "limit_exceeded");
    assert_eq!(server.knock().0, 503);

    let more =
        "[limits]\nconnections_per_user = 2\nsubscriptions_per_session = 2\n[hook]\nevents = [\"paint\"]\n";
    server.reload(&format!("{more}[log]\nlevel = \"debug\"\n"), "ok");
    assert_eq!(subscribe(&mut socket, &["run:2"])["type"], "subscribed");
    assert_eq!(subscribe(&mut socket, &["run:3"])["code"], "limit_exceeded");
    assert_eq!(socket.ask(&json!({"type": "paint"}))["type"], "ack");
    assert_eq!(socket.ask(&json!({"type": "task_assign"}))["code"], "unknown_event");
    let (status, second) = server.knock();
    assert_eq!(status, 101);
    assert_eq!(server.knock().0, 503);
    drop(second);

    // Fewer is allowed too: those who are in stay.
    server.reload("[limits]\nconnections_per_user = 1\nsubscriptions_per_session = 1\n", "ok");
    assert_eq!(socket.ask(&json!({"type": "ping", "timestamp": 1}))["type"], "pong");
    until("both are still there", || server.process.metric("websocket_active_subscriptions") == 2.0);
}

/// What only a restart can change is said, and the rest of the file is put in force.
#[test]
fn a_reload_says_what_it_cannot_change() {
    let server = Running::start("");
    server.reload("[limits]\nmessage_bytes_max = \"128KiB\"\nconnections_per_user = 1\n", "ok");
    let (status, _socket) = server.knock();
    assert_eq!((status, server.knock().0), (101, 503));
    let Running { mut process, .. } = server;
    process.signal("TERM");
    let (_, _, err) = process.wait();
    let line = err.lines().find(|line| line.contains("only a restart puts in force")).unwrap_or_default();
    assert!(line.contains("limits.message_bytes_max"), "{err}");
    assert!(!line.contains("connections_per_user"), "{err}");
}
