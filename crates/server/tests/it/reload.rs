//! Row G5 of the fault catalogue: new settings for a running server, good and bad, with SIGHUP.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;

use pulsewire::app::hub_settings;
use pulsewire::auth::Role;
use pulsewire::reload;
use pulsewire::settings::{Settings, diff, keys};
use serde_json::{Value, json};

use crate::child::{Folder, Process, pulsewire, run};
use crate::harness::{self, Server, Socket, handshake, until};
use crate::support::World;

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
        let quiet = ["--set", "collector.enabled=false", "--set", "derive.enabled=false"];
        let process = Process::serve(command, &[&["-c", file.to_str().unwrap()], &quiet[..]].concat());
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

/// What only a restart can change is said by name, every key of it, and the rest of the file is put in force.
#[test]
fn a_reload_says_what_it_cannot_change() {
    let server = Running::start("");
    let mut file = Sections::default();
    let values: HashMap<_, _> = other_values().into_iter().collect();
    // Flags of this process say these, and a flag is stronger than the file.
    let by_flag = ["server.listen", "collector.enabled", "derive.enabled"];
    let kept: Vec<_> = keys().filter(|key| !key.reloadable && !by_flag.contains(&key.path)).collect();
    for key in &kept {
        file.set(key.path, values[key.path]);
    }
    file.set("limits.connections_per_user", "1");
    let namespace = "[[namespace]]\nname = \"chat\"\npattern = \"chat:*\"\n";
    server.reload(&format!("{}{namespace}", file.text()), "ok");
    let (status, _socket) = server.knock();
    assert_eq!((status, server.knock().0), (101, 503));
    // Asked again it is said again: what runs has not changed.
    server.reload(&format!("{}{namespace}", file.text()), "ok");
    let Running { mut process, .. } = server;
    process.signal("TERM");
    let (_, _, err) = process.wait();
    let lines: Vec<_> = err.lines().filter(|line| line.contains("needs a restart")).collect();
    for path in kept.iter().map(|key| key.path).chain(["namespace"]) {
        let named = lines.iter().filter(|line| line.contains(&format!("\"key\":\"{path}\""))).count();
        assert_eq!(named, 2, "{path}: {lines:#?}");
    }
    assert!(!lines.iter().any(|line| line.contains("connections_per_user")), "{lines:?}");
}

/// Lines of a settings file, by their sections.
#[derive(Default)]
struct Sections(BTreeMap<String, String>);

impl Sections {
    fn set(&mut self, path: &str, value: &str) {
        let (section, name) = path.split_once('.').unwrap();
        let bare =
            value.parse::<i64>().is_ok() || ["true", "false"].contains(&value) || value.starts_with('{');
        let list = keys().any(|key| key.path == path && key.kind == "list of texts");
        let value = match (bare, list) {
            (true, _) => value.to_owned(),
            (false, true) => format!("[{value:?}]"),
            (false, false) => format!("{value:?}"),
        };
        let lines = self.0.entry(section.to_owned()).or_default();
        writeln!(lines, "{name} = {value}").unwrap();
    }

    fn text(&self) -> String {
        self.0.iter().map(|(section, lines)| format!("[{section}]\n{lines}")).collect()
    }
}

/// For every key a value other than its default, which goes together with the defaults of the others.
fn other_values() -> Vec<(&'static str, &'static str)> {
    vec![
        ("server.listen", "127.0.0.1:1"),
        ("server.internal_listen", "127.0.0.1:2"),
        ("server.data_dir", "./elsewhere"),
        ("server.workers", "3"),
        ("server.shards", "3"),
        ("server.shutdown_deadline", "7s"),
        ("server.allowed_hosts", "ops.example"),
        ("server.trusted_proxies", "10.0.0.0/8"),
        ("tls.certificate_file", "certificate.pem"),
        ("tls.key_file", "key.pem"),
        ("store.url", "sqlite:another.db"),
        ("store.queue_max", "9"),
        ("store.busy_timeout", "9s"),
        ("store.bytes_max", "9MiB"),
        ("store.readers", "9"),
        ("store.synchronous_replication", "true"),
        ("store.required_for_ready", "true"),
        ("log.format", "json"),
        ("log.level", "debug"),
        ("auth.secret", "3b7d1c0a59e84f26b1d7c3e5f9a0482c6d5e"),
        ("auth.algorithm", "HS512"),
        ("auth.public_key_file", "public.pem"),
        ("auth.private_key_file", "private.pem"),
        ("auth.jwks_file", "keys.json"),
        ("auth.jwks_url", "http://127.0.0.1:1/keys"),
        ("auth.jwks_refresh", "20m"),
        ("auth.jwks_timeout", "6s"),
        ("auth.jwks_bytes_max", "2KiB"),
        ("auth.jwks_allow_private", "false"),
        ("auth.issuer", "login"),
        ("auth.audience", "pulsewire"),
        ("auth.leeway", "6s"),
        ("auth.required", "false"),
        ("auth.timeout", "6s"),
        ("auth.token_in_query", "false"),
        ("auth.cookie", "session"),
        ("auth.default_grants", "run:*=subscribe"),
        ("auth.api_keys", API_KEYS),
        ("auth.api_keys_file", "api-keys.toml"),
        ("auth.attempts_per_minute", "61"),
        ("origins.allowed", "https://app.example"),
        ("origins.allow_missing", "false"),
        ("heartbeat.interval", "20s"),
        ("heartbeat.timeout", "6s"),
        ("session.resume_window", "3m"),
        ("session.detached_max", "9"),
        ("session.ticket_ttl", "1m"),
        ("session.retry_max", "9s"),
        ("limits.connections_max", "20000"),
        ("limits.connections_soft", "7"),
        ("limits.connections_per_address", "9"),
        ("limits.handshakes_per_minute", "9"),
        ("limits.handshakes_per_second", "9"),
        ("limits.connections_per_user", "9"),
        ("limits.subscriptions_per_session", "9"),
        ("limits.message_bytes_max", "128KiB"),
        ("limits.fragments_max", "9"),
        ("limits.control_frames_per_second", "9"),
        ("limits.messages_per_minute", "9"),
        ("limits.rate_direction", "both"),
        ("limits.errors_per_minute", "9"),
        ("limits.outbox_bytes_max", "128KiB"),
        ("limits.connection_memory", "1MiB"),
        ("limits.slow_after", "9s"),
        ("limits.connection_age_max", "9h"),
        ("limits.kernel_unsent_bytes", "128KiB"),
        ("limits.handshake_timeout", "9s"),
        ("limits.header_bytes_max", "32KiB"),
        ("limits.headers_max", "9"),
        ("limits.http_body_bytes_max", "2MiB"),
        ("limits.publish_batch_max", "9"),
        ("limits.channels_max", "9"),
        ("limits.inbox_max", "99"),
        ("reading.wait_max", "9s"),
        ("reading.poll_interval", "9s"),
        ("reading.heartbeat", "9s"),
        ("reading.readers_max", "9"),
        ("reading.page_bytes_max", "2MiB"),
        ("reading.reads_max", "9"),
        ("reading.tail_bytes_max", "512KiB"),
        ("reading.fallbacks_max", "9"),
        ("hook.url", "http://127.0.0.1:1/hook"),
        ("hook.secret", "another"),
        ("hook.timeout", "9s"),
        ("hook.events", "paint"),
        ("hook.channel", "run:events"),
        ("hook.allow_private", "false"),
        ("hook.in_flight_max", "9"),
        ("collector.enabled", "true"),
        ("collector.interval", "9s"),
        ("collector.tags", "{ region = \"eu\" }"),
        ("series.per_channel_max", "9"),
        ("series.lateness", "9s"),
        ("series.future_max", "9s"),
        ("series.idle_after", "9m"),
        ("series.history_1s", "9m"),
        ("series.history_10s", "9m"),
        ("series.history_1m", "9m"),
        ("series.history_1h", "9m"),
        ("series.keep_interval", "9s"),
        ("series.waiting_bytes_max", "9MiB"),
        ("series.reads_max", "9"),
        ("series.points_max", "9"),
        ("ingest.batch_max", "9"),
        ("ingest.decompressed_bytes_max", "1MiB"),
        ("ingest.otlp_channel", "otel.metrics"),
        ("ingest.remote_write_channel", "prometheus.metrics"),
        ("ingest.resource_attributes", "host.name"),
        ("derive.enabled", "true"),
        ("derive.interval", "9s"),
        ("derive.window", "9m"),
        ("derive.tasks_max", "9"),
        ("derive.task_idle_max", "9h"),
        ("derive.pending", "step:made"),
        ("derive.running", "step:begun"),
        ("derive.completed", "step:done"),
        ("derive.failed", "step:lost"),
        ("derive.calls", "model:call"),
        ("derive.calls_completed", "model:answered"),
        ("derive.calls_failed", "model:failed"),
        ("derive.errors", "model:error"),
        ("cluster.broker", "none"),
        ("cluster.url", "redis://127.0.0.1:1"),
        ("cluster.key", "8c1fa9de0d5c4f5b9a46ee3f9b1c6c7d"),
        ("cluster.prefix", "other:"),
        ("cluster.node_name", "left"),
        ("cluster.queue_bytes_max", "9MiB"),
        ("cluster.silent_after", "9s"),
        ("redis.url", "redis://127.0.0.1:1"),
        ("redis.patterns", "numbers:*"),
        ("redis.events", "events:*"),
        ("redis.streams", "orders=run:orders"),
        ("redis.group", "another"),
        ("redis.consumer", "node-9"),
        ("redis.claim_after", "9s"),
        ("redis.in_flight_max", "9"),
        ("redis.refused_max", "9"),
        ("upstreams.streams_max", "9"),
        ("upstreams.retries_per_second", "9"),
        ("upstreams.allow_private", "true"),
        ("upstreams.message_bytes_max", "9KiB"),
        ("features.upstream_manager", "true"),
        ("canary.share", "0.5"),
        ("canary.ratio", "9"),
        ("canary.window", "9m"),
        ("canary.streams_min", "9"),
        ("canary.rollback", "true"),
        ("watch.queries_max", "9"),
        ("watch.timeline_events", "9"),
        ("dashboard.enabled", "false"),
        ("dashboard.folder", "./dist"),
        ("metrics.compat", "false"),
        ("metrics.alias_prefix", "gateway"),
        ("metrics.event_types_max", "9"),
        ("metrics.token", "a-token-for-scrapers"),
        ("metrics.projects_max", "9"),
        ("thresholds.profile", "seed-001"),
        ("thresholds.hold", "9s"),
        ("thresholds.connections", "7 8 9"),
        ("thresholds.latency", "7ms 8ms 9ms"),
        ("thresholds.duration", "9m 8m 7m"),
        ("thresholds.memory", "7KB 8KB 9KB"),
        ("thresholds.heartbeats", "7% 8% 9%"),
        ("thresholds.auth", "7% 8% 9%"),
        ("thresholds.fallback", "7% 8% 9%"),
        ("thresholds.reconnects", "7% 8% 9%"),
        ("thresholds.failures", "7% 8% 9%"),
        ("thresholds.drops", "7% 8% 9%"),
        ("thresholds.slow", "7 8 9"),
        ("thresholds.queue", "7 8 9"),
        ("thresholds.files", "off"),
        ("thresholds.lag", "7ms 8ms 9ms"),
    ]
}

const API_KEYS: &str = "[{ id = 'ci', sha256 = '0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f', publish = ['run:*'] }]";

/// Every key, one by one: a running server works under the new value, or keeps the old one whole.
#[test]
fn every_key_is_taken_over_or_keeps_its_old_value() {
    let server = Server::start("[server]\ndata_dir = \"./data\"\n");
    let app = server.app();
    let pair = |kind| rcgen::KeyPair::generate_for(kind).unwrap();
    let elliptic = pair(&rcgen::PKCS_ECDSA_P256_SHA256);
    let certificate =
        rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap().self_signed(&elliptic).unwrap();
    let keys_json =
        format!(r#"{{"keys":[{{"kty":"oct","kid":"k","alg":"HS256","k":"{}"}}]}}"#, "A".repeat(43));
    let folder = Folder::new();
    let file = |name: &str, text: &str| folder.write(name, text).display().to_string();
    let files: HashMap<_, _> = [
        ("auth.public_key_file", file("public.pem", &elliptic.public_key_pem())),
        ("auth.private_key_file", file("private.pem", &elliptic.serialize_pem())),
        ("auth.jwks_file", file("keys.json", &keys_json)),
        ("auth.api_keys_file", file("api-keys.toml", "")),
        ("tls.certificate_file", file("certificate.pem", &certificate.pem())),
        ("tls.key_file", file("key.pem", &elliptic.serialize_pem())),
    ]
    .into();
    let base = || {
        let world = World::empty().set("server.listen=127.0.0.1:0").set("server.shards=2");
        world
            .set(&format!("auth.secret={}", harness::SECRET))
            .set("collector.enabled=false")
            .set("derive.enabled=false")
            .set("store.url=memory")
    };
    let apply = |world: &World| {
        let mut sources = world.sources();
        sources.read = Box::new(|path| std::fs::read_to_string(path));
        server.block_on(async { reload::apply(app, &sources).unwrap_or_else(|failure| panic!("{failure}")) })
    };
    let shown = |path: &str| app.live.load().settings.to_json()[path]["value"].clone();

    let table = other_values();
    let named: Vec<_> = table.iter().map(|(path, _)| *path).collect();
    let all: Vec<_> = keys().map(|key| key.path).collect();
    assert_eq!(named, all, "every key is in the table");
    for ((path, value), key) in table.into_iter().zip(keys()) {
        apply(&base());
        assert_eq!(apply(&base()), [], "before {path}");
        let value = files.get(path).map_or(value, String::as_str);
        let value = if path == "collector.tags" { "region=eu" } else { value };
        // Keys of a public algorithm only go together; what comes along is known to the table too.
        let (mut world, along) = match path {
            "auth.public_key_file" | "auth.private_key_file" => {
                let world = World::empty().set("server.listen=127.0.0.1:0").set("server.shards=2");
                let world = world
                    .set("collector.enabled=false")
                    .set("derive.enabled=false")
                    .set("store.url=memory")
                    .set("auth.algorithm=ES256");
                let public = &files["auth.public_key_file"];
                (world.set(&format!("auth.public_key_file={public}")), 3)
            }
            // One of the three follows from the others.
            "limits.connection_memory" => (base(), 2),
            "limits.message_bytes_max" | "limits.outbox_bytes_max" => (base(), 1),
            "tls.certificate_file" | "tls.key_file" => {
                let of = |key: &str| format!("{key}={}", files[key]);
                (base().set(&of("tls.certificate_file")).set(&of("tls.key_file")), 1)
            }
            // Nothing can be read from a Redis that is none.
            "redis.events" | "redis.streams" => (base().set("redis.url=redis://127.0.0.1:1"), 1),
            _ => (base(), 0),
        };
        world = world.set(&format!("{path}={value}"));
        let (old, before) = (shown(path), app.live.load().settings.clone());
        let wanted = wanted(&world, path);
        let changes = apply(&world);
        let change = changes.iter().find(|change| change.path == path);
        assert_eq!(change.map(|it| it.reloadable), Some(key.reloadable), "{path}: {changes:?}");
        assert!(changes.len() <= 1 + along, "{path}: {changes:?}");
        if key.reloadable {
            if !key.secret && path != "auth.api_keys" {
                assert_ne!(shown(path), old, "{path} is in force");
            }
            assert_eq!(diff_of(&app.live.load().settings, &wanted, path), None, "{path} is in force");
        } else {
            let live = app.live.load();
            assert_eq!(diff_of(&live.settings, &before, path), None, "{path} stays");
            assert_eq!(hub_settings(&live.settings), hub_settings(&before), "{path} stays in every part");
        }
    }
}

/// The settings of a world with the files of this machine.
fn wanted(world: &World, path: &str) -> Settings {
    let mut sources = world.sources();
    sources.read = Box::new(|path| std::fs::read_to_string(path));
    Settings::load(&sources).unwrap_or_else(|problems| panic!("{path}: {problems:?}"))
}

/// Whether two settings differ in a key.
fn diff_of(one: &Settings, two: &Settings, path: &str) -> Option<&'static str> {
    diff(one, two).into_iter().map(|change| change.path).find(|changed| *changed == path)
}

/// New values that do not go together with old ones that stay change nothing at all.
#[test]
fn a_reload_whose_new_values_need_a_restart_of_others_is_refused() {
    let server = Server::start("");
    let apply = |file: &str| {
        let secret = format!("auth.secret={SECRET}");
        let sources = World::empty()
            .set(&secret)
            .set("store.url=memory")
            .set("server.listen=127.0.0.1:0")
            .toml(file)
            .sources();
        server.block_on(async { reload::apply(server.app(), &sources) })
    };
    let chat = "[[namespace]]\nname = \"chat\"\npattern = \"chat\"\n";
    let refused = apply(&format!("[hook]\nchannel = \"chat\"\n[auth]\nrequired = false\n{chat}"));
    assert!(matches!(refused, Err(reload::Failure::Settings(_))), "{refused:?}");
    let live = server.app().live.load();
    assert!(live.settings.auth.required && live.settings.hook.channel == "workspace");
}

/// Keys that were once said to need a restart, on a server that runs: the next handshake and the next
/// heartbeat go by the new value.
#[test]
fn handshakes_and_heartbeats_go_by_the_new_values() {
    let server = Server::start("");
    let apply = |sets: &[&str]| {
        let world = World::empty().set("server.listen=127.0.0.1:0").set("server.shards=2");
        let world = world
            .set("collector.enabled=false")
            .set("derive.enabled=false")
            .set("store.url=memory")
            .set(&format!("auth.secret={}", harness::SECRET));
        let world = sets.iter().fold(world, |world, set| world.set(set));
        server.block_on(async { reload::apply(server.app(), &world.sources()).unwrap() });
    };
    let knock = |path: &str, headers: &str| {
        let mut socket = server.connect();
        socket.send(handshake(path, headers).as_bytes());
        socket.head().status
    };
    let token = server.token("ann", Role::User);
    let in_query = format!("/ws?token={token}");
    let bearer = format!("Authorization: Bearer {token}\r\n");
    let in_cookie = format!("Cookie: session={token}\r\n");
    let large = format!("X-Padding: {}\r\n", "x".repeat(20 * 1024));
    let many = "X-More: 1\r\n".repeat(70);
    let other_host = |server: &Server| {
        let mut socket = server.connect();
        let admin = server.token("root", Role::Admin);
        let path = "/api/admin/websocket/users";
        socket.send(
            format!("GET {path} HTTP/1.1\r\nHost: ops.example\r\nAuthorization: Bearer {admin}\r\n\r\n")
                .as_bytes(),
        );
        socket.head().status
    };
    let mut quiet = server.open("/ws", "");

    assert_eq!(
        (knock(&in_query, ""), knock("/ws", &bearer), knock("/ws", &large), knock("/ws", &many)),
        (101, 101, 431, 431)
    );
    assert_eq!(other_host(&server), 403);
    apply(&[
        "auth.token_in_query=false",
        "auth.cookie=session",
        "limits.header_bytes_max=64KiB",
        "limits.headers_max=100",
        "server.allowed_hosts=ops.example",
    ]);
    assert_eq!(
        (knock(&in_query, ""), knock("/ws", &bearer), knock("/ws", &large), knock("/ws", &many)),
        (401, 101, 101, 101)
    );
    assert_eq!(knock("/ws", &format!("{in_cookie}{bearer}")), 101);
    assert_eq!(knock("/ws", "Cookie: session=nonsense\r\n"), 401, "the cookie is looked at");
    assert_eq!(other_host(&server), 200);

    for (set, status) in [
        ("auth.issuer=login", 401),
        ("auth.audience=pulsewire", 401),
        ("auth.algorithm=HS512", 401),
        ("auth.secret=3b7d1c0a59e84f26b1d7c3e5f9a0482c6d5e", 401),
        ("auth.leeway=6s", 101),
    ] {
        apply(&[set]);
        assert_eq!(knock("/ws", &bearer), status, "{set}");
    }

    apply(&["auth.required=false", "heartbeat.interval=1s", "heartbeat.timeout=500ms"]);
    let mut anonymous = server.open("/ws", "");
    assert_eq!(anonymous.json()["type"], "welcome", "no token is needed any more");
    // It answers no ping; under the old interval none would come within this test's patience.
    assert_eq!(anonymous.closed_with(), 4003);
    apply(&[]);
    assert_eq!(quiet.closed_with(), 4505, "who came before was held to the rule it came under");
}

/// Row A4: the file of keys is read again with the settings, though nothing in them has changed.
#[test]
fn a_reload_reads_the_file_of_keys_again() {
    let folder = Folder::new();
    let set = |kid: &str| {
        let key = base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, harness::SECRET);
        format!(r#"{{"keys":[{{"kty":"oct","kid":"{kid}","alg":"HS256","k":"{key}"}}]}}"#)
    };
    let file = folder.write("keys.json", &set("one"));
    let server = Server::start(&format!("[auth]\njwks_file = {file:?}\n"));
    let token = |kid: &str| {
        let header = jsonwebtoken::Header { kid: Some(kid.to_owned()), ..Default::default() };
        let claims = json!({"sub": "ann", "exp": 4_000_000_000_u64});
        let key = jsonwebtoken::EncodingKey::from_secret(harness::SECRET.as_bytes());
        jsonwebtoken::encode(&header, &claims, &key).unwrap()
    };
    let knock = |kid: &str| {
        let mut socket = server.connect();
        socket.send(handshake(&format!("/ws?token={}", token(kid)), "").as_bytes());
        socket.head().status
    };
    assert_eq!((knock("one"), knock("two")), (101, 401));
    folder.write("keys.json", &set("two"));
    let world = World::empty().set(&format!("auth.secret={}", harness::SECRET));
    let mut sources = world.set(&format!("auth.jwks_file={}", file.display())).sources();
    sources.read = Box::new(|path| std::fs::read_to_string(path));
    server.block_on(async { reload::apply(server.app(), &sources).unwrap() });
    assert_eq!((knock("one"), knock("two")), (401, 101));
}
