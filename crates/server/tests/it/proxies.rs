//! The proxies of `deploy/proxies`, started with the files that are shipped, in front of two real servers.
//!
//! Of the files only names, addresses and paths are replaced, and how often and how long nodes are looked at or left out.
//! Every time-out stays: that one with too little patience is found is shown in `terminal/doctor.rs`. Envoy is not to
//! be had here, so its file is read only (`deploy/checks`).

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use pulsewire::auth::Role;
use serde_json::{Value, json};

use crate::child::Folder;
use crate::harness::{Answer, Server, Socket, bearer, handshake, until};
use crate::reading::Stream;
use crate::tls::{ALL, Authority};

/// Leaves out what needs proxies, where they cannot be installed.
const WITHOUT: &str = "PULSEWIRE_WITHOUT_PROXIES";
/// Where clients connect from; the proxies connect from 127.0.0.1.
const CLIENT: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const SETTINGS: &str =
    "[server]\ntrusted_proxies = [\"127.0.0.1\"]\n[heartbeat]\ninterval = \"2s\"\ntimeout = \"2s\"\n";

/// A proxy in front of two servers.
struct Site {
    process: Child,
    address: SocketAddr,
    authority: Authority,
    nodes: [Server; 2],
    _folder: Folder,
}

/// What a file's names are replaced with.
struct Places {
    folder: PathBuf,
    nodes: [String; 2],
    public: u16,
    plain: u16,
}

impl Site {
    /// Starts a proxy; `None` if these tests are to be left out. `replace` says what in the file is replaced.
    ///
    /// # Panics
    ///
    /// If the proxy is not installed, or does not start.
    fn start(
        file: &str,
        program: &str,
        package: &str,
        replace: impl Fn(&Places) -> Vec<(&'static str, String)>,
        arguments: impl Fn(&Path) -> Vec<String>,
    ) -> Option<Self> {
        if std::env::var_os(WITHOUT).is_some_and(|value| value != "0") {
            eprintln!("LEFT OUT: {WITHOUT} is set");
            return None;
        }
        let (folder, authority) = (Folder::new(), Authority::new());
        let issued = authority.issue();
        folder.write("fullchain.pem", &issued.certificate);
        folder.write("privkey.pem", &issued.key);
        folder.write("both.pem", &format!("{}{}", issued.certificate, issued.key));
        let nodes = [Server::start(SETTINGS), Server::start(SETTINGS)];
        let [public, plain] = free_ports();
        let addresses = [&nodes[0], &nodes[1]].map(|node| node.address.to_string());
        let places = Places { folder: folder.path().to_path_buf(), nodes: addresses, public, plain };
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/proxies").join(file);
        let mut text = std::fs::read_to_string(shipped).unwrap();
        for (from, to) in replace(&places) {
            assert!(text.contains(from), "{file} has no `{from}` any more");
            text = text.replace(from, &to);
        }
        let config = folder.write(file, &text);
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", program]).args(arguments(&config));
        command.env("HOME", folder.path()).env("XDG_DATA_HOME", folder.path());
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let process = command.spawn().expect("setpriv starts");
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, public));
        let mut site = Self { process, address, authority, nodes, _folder: folder };
        until(&format!("{program} answers"), || {
            assert!(
                site.process.try_wait().unwrap().is_none(),
                "{program} does not start. Install it with: sudo apt-get update && sudo apt-get install -y \
                 {package}; or leave these tests out with {WITHOUT}=1. It said: {}",
                std::fs::read_to_string(places.folder.join("log")).unwrap()
            );
            std::net::TcpStream::connect(address).is_ok()
        });
        Some(site)
    }

    /// A connection of a client with the proxy.
    fn connect(&self) -> Socket {
        let tls = self.authority.client("localhost", ALL, &["http/1.1"]);
        Socket::connect_from(CLIENT, self.address).secure(tls).expect("the proxy speaks TLS")
    }

    fn get(&self, path: &str, headers: &str) -> Answer {
        let mut socket = self.connect();
        socket.send(
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n")
                .as_bytes(),
        );
        socket.try_answer().expect("an answer")
    }

    fn token(&self, sub: &str) -> String {
        self.nodes[0].token(sub, Role::User)
    }

    /// What a request for a WebSocket is answered, and the connection.
    fn knock(&self, sub: &str) -> (u16, Socket) {
        let mut socket = self.connect();
        // What a client says of its own address is nobody's business.
        let headers = format!("{}X-Forwarded-For: 203.0.113.9\r\n", bearer(&self.token(sub)));
        socket.send(handshake("/ws", &headers).as_bytes());
        (socket.head().status, socket)
    }

    fn welcomed(&self, sub: &str) -> Socket {
        let (status, mut socket) = self.knock(sub);
        assert_eq!(status, 101);
        assert_eq!(socket.json()["type"], "welcome");
        socket
    }

    /// Publishes on both nodes, which share nothing here.
    fn publish(&self, channel: &str) {
        for node in &self.nodes {
            node.publish(&json!({"channel": channel, "type": "note", "data": {"n": 1}}));
        }
    }

    /// Connections as a node's admin API lists them.
    fn listed(node: &Server) -> Vec<Value> {
        let token = bearer(&node.token("ops", Role::Viewer));
        let answer = node.http("GET", "/api/admin/connections", &token, "").json();
        answer["rows"].as_array().expect("rows").clone()
    }

    fn addresses(&self, sub: &str) -> Vec<String> {
        let rows = self.nodes.iter().flat_map(Self::listed);
        let of_user = rows.filter(|row| row["userId"] == sub);
        of_user.map(|row| row["remoteAddress"].as_str().expect("an address").to_owned()).collect()
    }

    fn drain(&self, node: usize, drain: bool) {
        let node = &self.nodes[node];
        let headers =
            format!("{}Content-Type: application/json\r\n", bearer(&node.token("ops", Role::Operator)));
        let answer = node.http("POST", "/api/admin/drain", &headers, &json!({"drain": drain}).to_string());
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.process.kill().and_then(|()| self.process.wait()).expect("it ends");
    }
}

fn free_ports() -> [u16; 2] {
    let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("a port"));
    listeners.map(|listener| listener.local_addr().expect("an address").port())
}

/// A client connects, publishes, is told, is pinged and stays; what it is told of the outside is not believed.
fn a_websocket_comes_through(site: &Site) {
    let mut socket = site.welcomed("ann");
    assert_eq!(socket.ask(&json!({"type": "subscribe", "channels": ["run:1"]}))["type"], "subscribed");
    assert_eq!(site.addresses("ann").len(), 1);
    assert!(site.addresses("ann")[0].starts_with("127.0.0.2:"), "{:?}", site.addresses("ann"));
    // Idle for longer than a heartbeat: nothing but pings and pongs.
    for _ in 0..2 {
        let ping = socket.next().expect("the connection is open");
        assert_eq!(ping.opcode, 9, "{ping:?}");
        socket.frame(0x8a, &ping.payload);
    }
    site.publish("run:1");
    assert_eq!(socket.json()["type"], "event");
}

/// An event arrives while the stream is open and nothing else is said that could push it out of a buffer.
fn an_event_stream_is_not_held_back(site: &Site) {
    let path = "/api/channels/run:2/sse";
    let mut stream = Stream::open_on(site.connect(), path, &bearer(&site.token("bob")));
    assert_eq!(stream.block().event, "subscribed");
    assert!(site.addresses("bob").iter().all(|address| address.starts_with("127.0.0.2:")));
    site.publish("run:2");
    assert_eq!(stream.block().json()["data"]["n"], 1);
}

fn a_poll_waits_and_is_answered(site: &Site) {
    let mut socket = site.connect();
    let headers = bearer(&site.token("eve"));
    socket.send(
        format!("GET /api/channels/run:3/poll?wait=30 HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n")
            .as_bytes(),
    );
    until("the poll waits", || site.addresses("eve").len() == 1);
    site.publish("run:3");
    assert_eq!(socket.try_answer().expect("an answer").json()["events"][0]["data"]["n"], 1);
}

fn what_is_for_operators_stays_inside(site: &Site) {
    for path in ["/metrics", "/api/metrics", "/api/ws/metrics", "/actuator/prometheus", "/api/stats"] {
        assert_eq!(site.get(path, "").status, 404, "{path}");
    }
    let samples = site.get("/api/metrics/samples", "");
    assert_eq!(samples.status, 405, "the node answers: {}", samples.text());
}

/// New connections go to the node that takes them.
fn a_drained_node_gets_no_new_connections(site: &Site) {
    site.drain(0, true);
    let mut held = Vec::new();
    until("clients are sent elsewhere", || {
        // Held together: a proxy that counts connections gives some of them to the other node, while it thinks well of it.
        held = (0..4).map(|_| site.knock("lea")).collect();
        held.iter().all(|(status, _)| *status == 101)
    });
    let on = |node: &Server| Site::listed(node).iter().filter(|row| row["userId"] == "lea").count();
    until("all of them are there", || on(&site.nodes[1]) >= 4);
    assert_eq!(on(&site.nodes[0]), 0);
    site.drain(0, false);
    until("the node is used again", || {
        let _socket = site.welcomed("mia");
        Site::listed(&site.nodes[0]).iter().any(|row| row["userId"] == "mia")
    });
}

fn all_of_it(site: Option<Site>) {
    let Some(site) = site else { return };
    a_websocket_comes_through(&site);
    an_event_stream_is_not_held_back(&site);
    a_poll_waits_and_is_answered(&site);
    what_is_for_operators_stays_inside(&site);
    a_drained_node_gets_no_new_connections(&site);
}

#[test]
fn the_server_behind_nginx() {
    let replace = |places: &Places| {
        let folder = places.folder.display();
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|name| format!("{name}_temp_path {folder}/{name};"));
        vec![
            ("http {", format!("http {{\n{}", temporary.concat())),
            ("/run/nginx.pid", format!("{folder}/nginx.pid")),
            ("/var/log/nginx", folder.to_string()),
            ("/etc/ssl/pulsewire", folder.to_string()),
            ("10.0.0.11:8000", places.nodes[0].clone()),
            ("10.0.0.12:8000", places.nodes[1].clone()),
            ("fail_timeout=10s", "fail_timeout=1s".to_owned()),
            ("listen 443", format!("listen 127.0.0.1:{}", places.public)),
            ("listen 80", format!("listen 127.0.0.1:{}", places.plain)),
        ]
    };
    let arguments = |config: &Path| {
        // One process, which ends with this one.
        let here = "daemon off; master_process off;";
        ["-c", &config.display().to_string(), "-e", "stderr", "-g", here].map(str::to_owned).to_vec()
    };
    all_of_it(Site::start("nginx.conf", "nginx", "nginx-light", replace, arguments));
}

#[test]
fn the_server_behind_haproxy() {
    let replace = |places: &Places| {
        vec![
            ("/etc/ssl/pulsewire/rt.example.com.pem", places.folder.join("both.pem").display().to_string()),
            ("10.0.0.11:8000", places.nodes[0].clone()),
            ("10.0.0.12:8000", places.nodes[1].clone()),
            ("maxconn 100000", "maxconn 100".to_owned()),
            ("inter 2s", "inter 100ms".to_owned()),
            ("bind :443", format!("bind 127.0.0.1:{}", places.public)),
            ("bind :80", format!("bind 127.0.0.1:{}", places.plain)),
        ]
    };
    let arguments = |config: &Path| vec!["-db".to_owned(), "-f".to_owned(), config.display().to_string()];
    all_of_it(Site::start("haproxy.cfg", "haproxy", "haproxy", replace, arguments));
}

#[test]
fn the_server_behind_caddy() {
    let replace = |places: &Places| {
        vec![
            ("admin off", format!("admin off\n\thttp_port {}\n\tskip_install_trust", places.plain)),
            ("\nrt.example.com {", format!("\nhttps://localhost:{} {{\n\tbind 127.0.0.1", places.public)),
            ("/etc/ssl/pulsewire", places.folder.display().to_string()),
            ("10.0.0.11:8000", places.nodes[0].clone()),
            ("10.0.0.12:8000", places.nodes[1].clone()),
            ("health_interval 2s", "health_interval 100ms".to_owned()),
        ]
    };
    let arguments = |config: &Path| {
        let config = config.display().to_string();
        ["run", "--adapter", "caddyfile", "--config", &config].map(str::to_owned).to_vec()
    };
    all_of_it(Site::start("Caddyfile", "caddy", "caddy", replace, arguments));
}
