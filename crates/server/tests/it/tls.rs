//! Rows G8 and X1 of the fault catalogue, and everything else about `https://` and `wss://`.
//!
//! The peer is rustls's own buffered client; the server uses the unbuffered one. Each test has an authority of its own.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;

use pulsewire::auth::Role;
use pulsewire_client::{
    Client, Delivery, Endpoint, Http, NewEvent, Options, Reason, RequestError, Start, State, Trust,
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion};
use serde_json::{Value, json};

use crate::child::{Folder, Process, pulsewire, run};
use crate::harness::{Server, Socket, frame, handshake, until};

/// A certificate and its key, as PEM.
pub(crate) struct Issued {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

/// Who vouches for the test's servers.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Its own certificate, for whoever trusts it.
    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    pub(crate) fn issue_until(&self, name: &str, year: i32) -> Issued {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_before = date_time_ymd(2019, 1, 1);
        params.not_after = date_time_ymd(year, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Issued { certificate: certificate.pem(), key: key.serialize_pem() }
    }

    pub(crate) fn issue(&self) -> Issued {
        self.issue_until("localhost", 2100)
    }

    pub(crate) fn client(
        &self,
        name: &str,
        versions: &[&'static SupportedProtocolVersion],
        alpn: &[&str],
    ) -> ClientConnection {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        ClientConnection::new(Arc::new(config), name.to_owned().try_into().unwrap()).unwrap()
    }
}

/// A server with a certificate for `localhost`.
pub(crate) struct Secure {
    pub(crate) server: Server,
    authority: Authority,
    folder: Folder,
}

pub(crate) const ALL: &[&SupportedProtocolVersion] = rustls::ALL_VERSIONS;

impl Secure {
    pub(crate) fn start(toml: &str) -> Self {
        Self::start_with(toml, Authority::issue)
    }

    fn start_with(toml: &str, issue: impl FnOnce(&Authority) -> Issued) -> Self {
        let (authority, folder) = (Authority::new(), Folder::new());
        put(&folder, &issue(&authority));
        folder.write("ca.pem", &authority.pem());
        let server = Server::start(&format!("{}{toml}", section(folder.path())));
        Self { server, authority, folder }
    }

    fn try_connect(&self) -> io::Result<Socket> {
        let tls = self.authority.client("localhost", ALL, &["http/1.1"]);
        Socket::connect(self.server.address).secure(tls)
    }

    pub(crate) fn connect(&self) -> Socket {
        self.try_connect().unwrap()
    }

    /// A request for a WebSocket of a user.
    fn knock(&self, sub: &str) -> String {
        handshake("/ws", &format!("Authorization: Bearer {}\r\n", self.server.token(sub, Role::User)))
    }

    fn welcome(&self, mut socket: Socket, sub: &str) -> Socket {
        socket.send(self.knock(sub).as_bytes());
        assert_eq!(socket.head().status, 101);
        assert_eq!(socket.json()["type"], "welcome");
        socket
    }

    fn welcomed(&self, sub: &str) -> Socket {
        self.welcome(self.connect(), sub)
    }

    fn endpoint(&self, host: &str) -> Endpoint {
        Endpoint::parse(&format!("wss://{host}:{}", self.server.address.port())).unwrap()
    }

    fn trust(&self) -> Trust {
        Trust::File(self.folder.path().join("ca.pem"))
    }

    /// Publishes over `https://`; returns the answer.
    pub(crate) fn publish(&self, event: &Value) {
        let token = self.server.token("app", Role::Publisher);
        let mut http = Http::new(self.endpoint("localhost"), self.trust(), Some(token));
        let answer = self.server.block_on(http.request("POST", "/api/publish", event.to_string().as_bytes()));
        assert_eq!(answer.unwrap().status, 200);
    }

    fn handshakes(&self, result: &str) -> f64 {
        self.server.metric(&format!("pulsewire_tls_handshakes_total{{result=\"{result}\"}}"))
    }

    fn wait_reloads(&self, outcome: &str, count: f64) {
        self.server.wait_metric(&format!("pulsewire_tls_reloads_total{{outcome=\"{outcome}\"}}"), count);
    }

    /// Why a client of ours does not get in.
    fn refusal(&self, host: &str, trust: Trust) -> Option<Reason> {
        let mut options = Options::new(self.endpoint(host));
        options.trust = trust;
        options.token = self.server.token("ann", Role::User).into();
        self.server.block_on(async {
            let (_client, mut deliveries) = Client::start(options);
            while let Some(delivery) = deliveries.next().await {
                match delivery {
                    Delivery::State { to: State::Live, .. } => return None,
                    Delivery::State { to: State::Waiting | State::Closed, reason, .. } => {
                        return reason;
                    }
                    _ => {}
                }
            }
            None
        })
    }
}

fn put(folder: &Folder, issued: &Issued) {
    folder.write("certificate.pem", &issued.certificate);
    folder.write("key.pem", &issued.key);
}

fn section(folder: &Path) -> String {
    let file = |name: &str| folder.join(name).display().to_string();
    let (certificate, key) = (file("certificate.pem"), file("key.pem"));
    format!("[tls]\ncertificate_file = \"{certificate}\"\nkey_file = \"{key}\"\n")
}

fn subscribe(socket: &mut Socket, channel: &str) {
    assert_eq!(socket.ask(&json!({"type": "subscribe", "channels": [channel]}))["type"], "subscribed");
}

/// Talks in both versions: over HTTP, over the socket, in both directions.
#[test]
fn events_travel_over_https_and_wss_in_both_versions_of_tls() {
    let secure = Secure::start("");
    for (number, version) in [(1_u64, &rustls::version::TLS12), (2, &rustls::version::TLS13)] {
        let tls = secure.authority.client("localhost", &[version], &["http/1.1", "h2"]);
        let mut socket = Socket::connect(secure.server.address).secure(tls).unwrap();
        assert_eq!(socket.tls().alpn_protocol(), Some(&b"http/1.1"[..]));
        socket = secure.welcome(socket, "ann");
        let channel = format!("run:{number}");
        subscribe(&mut socket, &channel);
        secure.publish(&json!({"channel": channel, "type": "note", "data": "over https"}));
        assert_eq!(socket.json()["data"], "over https");
        socket.frame(0x88, &1000_u16.to_be_bytes());
        assert_eq!(socket.closed_with(), 1000, "and the end is said by TLS too");
    }
    assert!(secure.handshakes("completed") >= 4.0);
    assert_eq!(secure.handshakes("failed"), 0.0);
    // An HTTP/2 client that takes nothing else is told so.
    let tls = secure.authority.client("localhost", ALL, &["h2"]);
    let refused = Socket::connect(secure.server.address).secure(tls).map(|_| ()).unwrap_err();
    assert!(refused.to_string().contains("NoApplicationProtocol"), "{refused}");
}

/// What is decrypted, and what is not yet, goes with the socket to the shard.
#[test]
fn frames_right_behind_the_handshake_are_not_lost() {
    let secure = Secure::start("");
    let say = |number: u64| frame(0x81, json!({"type": "ping", "timestamp": number}).to_string().as_bytes());
    for cut in 0..12 {
        let mut socket = secure.connect();
        // The request and some frames in one record, then more records and half a record.
        let mut first = secure.knock("ann").into_bytes();
        first.extend(say(1));
        let mut sealed = Vec::new();
        for plain in [first, say(2), say(3), say(4)] {
            socket.tls().writer().write_all(&plain).unwrap();
            while socket.tls().wants_write() {
                socket.tls().write_tls(&mut sealed).unwrap();
            }
        }
        let rest = sealed.split_off(sealed.len() - cut * 13);
        let mut tcp = socket.stream();
        tcp.write_all(&sealed).unwrap();
        assert_eq!(socket.head().status, 101);
        assert_eq!(socket.json()["type"], "welcome");
        let mut tcp = socket.stream();
        tcp.write_all(&rest).unwrap();
        for number in 1..=4 {
            assert_eq!(socket.json()["timestamp"].as_f64(), Some(number as f64), "cut {cut}");
        }
    }
}

/// Records larger than a read, records in crumbs, and new keys in between.
#[test]
fn large_messages_and_new_keys_pass_in_both_directions() {
    let secure = Secure::start(
        "[limits]\nmessage_bytes_max = \"1MiB\"\nhttp_body_bytes_max = \"4MiB\"\noutbox_bytes_max = \"8MiB\"\n",
    );
    let mut socket = secure.welcomed("ann");
    subscribe(&mut socket, "run:1");
    let text = "0123456789abcdef".repeat(12_000);
    for round in 1..=4_u64 {
        secure.publish(&json!({"channel": "run:1", "type": "note", "data": [round, text]}));
        assert_eq!(socket.json()["data"], json!([round, text]));
        // As much in the other direction: the answer shows that it was understood.
        let answer = socket.ask(&json!({"type": "ping", "timestamp": round, "pad": text}));
        assert_eq!(
            (answer["type"].as_str(), answer["timestamp"].as_f64()),
            (Some("pong"), Some(round as f64))
        );
        socket.tls().refresh_traffic_keys().unwrap();
    }
    let ping = frame(0x81, json!({"type": "ping", "timestamp": 9}).to_string().as_bytes());
    socket.tls().writer().write_all(&ping).unwrap();
    let mut sealed = Vec::new();
    socket.tls().write_tls(&mut sealed).unwrap();
    for byte in sealed {
        let mut tcp = socket.stream();
        tcp.write_all(&[byte]).unwrap();
    }
    assert_eq!(socket.json()["timestamp"].as_f64(), Some(9.0));
}

/// Row L4 with TLS: what a stalled reader costs is its outbox and a record.
#[test]
fn a_reader_that_reads_nothing_is_bounded_and_closed_as_slow() {
    let secure = Secure::start(
        "[limits]\noutbox_bytes_max = \"16KiB\"\nkernel_unsent_bytes = \"4KiB\"\nslow_after = \"1s\"\n",
    );
    let server = &secure.server;
    let tls = secure.authority.client("localhost", ALL, &[]);
    let small = Socket::connect_small(server.address).secure(tls).unwrap();
    let mut slow = secure.welcome(small, "slow");
    subscribe(&mut slow, "upstream:1");
    let mut fast = secure.welcomed("fast");
    subscribe(&mut fast, "upstream:1");
    let held = || server.metric("pulsewire_memory_bytes{class=\"read_buffers\"}");
    let before = held();
    let pad = "x".repeat(450);
    for number in 0..1_000 {
        secure.publish(&json!({"channel": "upstream:1", "type": "note", "data": {"n": number, "pad": pad}}));
        assert_eq!(fast.json()["data"]["n"], number, "nobody else is slowed");
        if number % 50 == 0 {
            assert!(server.metric("websocket_outbound_queue_bytes") <= 16_384.0);
            assert!(held() - before <= 20_000.0, "more than a record waits sealed");
        }
    }
    server.wait_metric("websocket_closes_total{code=\"4004\",initiator=\"server\"}", 1.0);
    // It is not read now either: the close frame waits a second for a reader, and then the connection is cut.
    server.wait_metric("websocket_active_connections", 1.0);
    until("what it held is given back", || held() <= before);
    drop(slow);
}

/// A connection with TLS moves to the shard of its session like any other.
#[test]
fn a_session_is_resumed_over_tls_whichever_shard_it_lives_in() {
    let secure = Secure::start("");
    let token = secure.server.token("ann", Role::User);
    let mut session = Value::Null;
    for round in 0..8_u64 {
        let mut socket = secure.connect();
        socket.send(handshake("/ws", "").as_bytes());
        assert_eq!(socket.head().status, 101);
        let mut connect = json!({"type": "connect", "id": round, "token": token});
        if round == 0 {
            connect["subscribe"] = json!(["run:1"]);
        } else {
            connect["session"] = session.clone();
        }
        let connected = socket.ask(&connect);
        assert_eq!((&connected["type"], &connected["resumed"]), (&json!("connected"), &json!(round > 0)));
        session = connected["session"].clone();
        assert_eq!(socket.json()["type"], "subscribed");
        secure.publish(&json!({"channel": "run:1", "type": "note", "data": round}));
        until("the event comes", || socket.json()["data"] == json!(round));
        socket.reset();
        secure.server.wait_metric("websocket_active_connections", 0.0);
    }
}

/// Row G8: a new certificate is picked up without a restart, and nobody notices who is there.
#[test]
fn a_certificate_replaced_on_disk_serves_new_connections_and_drops_none() {
    let secure = Secure::start("");
    let mut old = secure.welcomed("ann");
    subscribe(&mut old, "run:1");
    let shown = |socket: &mut Socket| socket.tls().peer_certificates().unwrap()[0].clone();
    let first = shown(&mut old);
    put(&secure.folder, &secure.authority.issue_until("localhost", 2090));
    secure.wait_reloads("ok", 1.0);
    let mut new = secure.welcomed("bob");
    assert_ne!(shown(&mut new), first);
    assert_eq!(secure.server.metric("pulsewire_tls_certificate_expiry_timestamp_seconds"), 3_786_912_000.0);
    secure.publish(&json!({"channel": "run:1", "type": "note", "data": "still here"}));
    assert_eq!(old.json()["data"], "still here");
    assert_eq!(secure.server.metric("websocket_disconnections_total"), 0.0);
}

/// Row G8: what cannot be used changes nothing, is counted once for each change, and can be mended.
#[test]
fn a_pair_that_cannot_be_used_leaves_the_old_one_in_force() {
    let secure = Secure::start("");
    let expiry = secure.server.metric("pulsewire_tls_certificate_expiry_timestamp_seconds");
    let good = secure.authority.issue();
    let wrong = [
        ("key.pem", good.key.as_str()),
        ("certificate.pem", "-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n"),
        ("certificate.pem", ""),
    ];
    for (number, (file, text)) in wrong.into_iter().enumerate() {
        secure.folder.write(file, text);
        secure.wait_reloads("failed", number as f64 + 1.0);
        let mut socket = secure.welcomed("ann");
        assert_eq!(socket.ask(&json!({"type": "ping", "timestamp": 1}))["type"], "pong");
    }
    std::fs::remove_file(secure.folder.path().join("certificate.pem")).unwrap();
    secure.wait_reloads("failed", 4.0);
    assert_eq!(secure.server.metric("pulsewire_tls_certificate_expiry_timestamp_seconds"), expiry);
    put(&secure.folder, &good);
    secure.wait_reloads("ok", 1.0);
    secure.welcomed("ann");
    assert_eq!(secure.server.metric("pulsewire_tls_reloads_total{outcome=\"failed\"}"), 4.0, "once each");
}

/// Row G8: an expired certificate is shown by metric and health, and clients refuse it.
#[test]
fn an_expired_certificate_is_served_and_told_and_refused_by_clients() {
    let secure = Secure::start_with("", |authority| authority.issue_until("localhost", 2020));
    assert_eq!(secure.server.metric("pulsewire_tls_certificate_expiry_timestamp_seconds"), 1_577_836_800.0);
    let refused = secure.try_connect().map(|_| ()).unwrap_err();
    assert!(refused.to_string().contains("expired"), "{refused}");
    let reason = secure.refusal("localhost", secure.trust()).unwrap();
    assert!(matches!(&reason, Reason::Tls(why) if why.contains("expired")), "{reason:?}");
    until("both refusals are counted", || secure.handshakes("failed") == 2.0);
    // Whoever looks anyway is told.
    let app = secure.server.app();
    assert!(app.tls.in_force().unwrap().has_expired(pulsewire_edge::clock::now().wall_ms));
}

/// Row X1: a handshake that does not come to its end is cut, and nobody waits for it.
#[test]
fn stalled_tls_handshakes_are_cut_at_their_deadline_while_others_get_in() {
    const STALLED: usize = 50;
    let secure = Secure::start("[limits]\nhandshake_timeout = \"1s\"\n");
    let mut hello = Vec::new();
    secure.authority.client("localhost", ALL, &[]).write_tls(&mut hello).unwrap();
    let stalled: Vec<_> = (0..STALLED)
        .map(|number| {
            let mut socket = Socket::connect(secure.server.address);
            // Some say nothing, some half a hello, some all of it and then nothing.
            socket.send(&hello[..[0, hello.len() / 2, hello.len()][number % 3]]);
            socket
        })
        .collect();
    let mut good = secure.welcomed("ann");
    assert_eq!(good.ask(&json!({"type": "ping", "timestamp": 1}))["type"], "pong");
    for mut socket in stalled {
        socket.rest();
    }
    until("all are counted", || secure.handshakes("timed_out") == STALLED as f64);
    let series = "websocket_rejected_total{stage=\"accept\",reason=\"timeout\"}";
    assert_eq!(secure.server.metric(series), STALLED as f64);
    assert_eq!(good.ask(&json!({"type": "ping", "timestamp": 2}))["type"], "pong");
}

/// Whoever forgets the `s` is told, whoever only looks is not counted, and nonsense is refused.
#[test]
fn what_is_no_tls_is_closed_cleanly_and_counted() {
    let secure = Secure::start("");
    let plain = secure.server.get("/livez");
    assert_eq!(plain.status, 400);
    assert!(plain.text().contains("https://"), "{}", plain.text());
    let mut nonsense = Socket::connect(secure.server.address);
    nonsense.send(&[0x16, 3, 1, 0, 4, 1, 0, 0, 0]);
    assert_eq!(nonsense.rest().first(), Some(&0x15), "an alert");
    until("both are counted", || secure.handshakes("failed") == 2.0);
    assert_eq!(secure.server.metric("pulsewire_connection_errors_total{kind=\"tls\"}"), 2.0);
    let mut silent = Socket::connect(secure.server.address);
    silent.half_close();
    silent.rest();
    assert_eq!(secure.handshakes("failed"), 2.0);
    secure.welcomed("ann");
}

/// The client believes the authorities it was given, and the name in the URL, and nothing else.
#[test]
fn the_client_refuses_a_wrong_name_and_an_unknown_authority() {
    let secure = Secure::start("");
    assert_eq!(secure.refusal("localhost", secure.trust()), None);
    let why = |host: &str, trust: Trust| match secure.refusal(host, trust) {
        Some(Reason::Tls(why)) => why,
        other => panic!("{other:?}"),
    };
    let wrong = why("127.0.0.1", secure.trust());
    assert!(wrong.contains("not valid for name"), "{wrong}");
    let other = secure.folder.write("other.pem", &Authority::new().pem());
    let unknown = why("localhost", Trust::File(other));
    assert!(unknown.contains("UnknownIssuer") || unknown.contains("invalid peer certificate"), "{unknown}");
    let missing = why("localhost", Trust::File(secure.folder.path().join("nobody.pem")));
    assert!(missing.contains("nobody.pem"), "{missing}");
    let mut http = Http::new(secure.endpoint("127.0.0.1"), secure.trust(), None);
    let refused = secure.server.block_on(http.request("GET", "/livez", b"")).unwrap_err();
    assert!(matches!(refused, RequestError::Tls { .. }), "{refused}");
}

/// The client resumes over TLS as it does without.
#[test]
fn the_client_subscribes_and_publishes_over_wss() {
    let secure = Secure::start("");
    let mut options = Options::new(secure.endpoint("localhost"));
    options.trust = secure.trust();
    options.token = secure.server.token("ann", Role::Publisher).into();
    options.channels.push(("run:1".to_owned(), Start::Live));
    let event = NewEvent {
        channel: "run:1".to_owned(),
        event_type: "note".to_owned(),
        data: serde_json::value::to_raw_value(&7).unwrap(),
        id: None,
        key: None,
        tags: BTreeMap::new(),
        critical: None,
    };
    let data = secure.server.block_on(async {
        let (client, mut deliveries) = Client::start(options);
        while let Some(delivery) = deliveries.next().await {
            if matches!(delivery, Delivery::Subscribed { .. }) {
                break;
            }
        }
        client.publish(event).await.unwrap();
        loop {
            if let Delivery::Event(event) = deliveries.next().await.unwrap() {
                break event.data.to_string();
            }
        }
    });
    assert_eq!(data, "7");
}

/// The tools, the settings and a reload, in a process of its own.
#[test]
fn the_tools_speak_tls_and_a_reload_changes_the_files() {
    const SECRET: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    let (authority, folder) = (Authority::new(), Folder::new());
    put(&folder, &authority.issue());
    let ca = folder.write("ca.pem", &authority.pem());
    let command = || {
        let mut command = pulsewire();
        command.env("JWT_SECRET_KEY", SECRET).current_dir(folder.path());
        command
    };
    let file = folder.write("pulsewire.toml", &section(folder.path()));
    let file = file.to_str().unwrap();
    let mut server = Process::serve(command(), &["-c", file, "--set", "collector.enabled=false"]);
    let token = run(command().args(["token", "create", "--sub", "ann", "--role", "admin"])).out;
    let url = format!("https://localhost:{}", server.address.port());
    let mut connect = ["--url", &url, "--token", token.trim(), "--ca-file", ca.to_str().unwrap()];
    for more in [&["publish", "run:1", "note", "1"][..], &["publish", "run:1", "note", "2", "--ws"]] {
        let ended = run(command().args(more).args(connect));
        assert_eq!(ended.code, Some(0), "{}", ended.err);
    }
    let tail = ["tail", "run:1", "--last", "2", "--limit", "2", "--raw"];
    let ended = run(command().args(tail).args(connect));
    assert_eq!((ended.code, ended.out.lines().count()), (Some(0), 2), "{}", ended.err);
    connect[5] = "nobody.pem";
    let ended = run(command().args(tail).args(connect));
    assert_eq!(ended.code, Some(1), "{}", ended.err);
    assert!(ended.err.contains("no secure connection") && ended.err.contains("--ca-file"), "{}", ended.err);

    // A file with one half of a pair is no setting.
    folder.write("pulsewire.toml", "[tls]\nkey_file = \"key.pem\"\n");
    let ended = run(command().args(["config", "check", "-c", file]));
    assert_eq!(ended.code, Some(2));
    assert!(ended.err.contains("`tls.key_file`: set without `tls.certificate_file`"), "{}", ended.err);
    // A reload may end TLS, as it may begin it.
    folder.write("pulsewire.toml", "");
    server.signal("HUP");
    until("it answers in clear text", || server.http("GET", "/livez", "", "").status == 200);
    server.signal("TERM");
    assert!(server.wait().0.success());
}

/// A pair that does not fit keeps the server from starting, and says which file is wrong.
#[test]
fn a_wrong_pair_is_named_before_the_start() {
    let (authority, folder) = (Authority::new(), Folder::new());
    let (one, other) = (authority.issue(), authority.issue());
    put(&folder, &Issued { certificate: one.certificate, key: other.key });
    let file = folder.write("pulsewire.toml", &section(folder.path()));
    let mut command = pulsewire();
    command.env("JWT_SECRET_KEY", "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08");
    let ended = run(command.args(["config", "check", "-c", file.to_str().unwrap()]));
    assert_eq!(ended.code, Some(2));
    assert!(ended.err.contains("`tls.key_file`") && ended.err.contains("not the key"), "{}", ended.err);
}
