//! Prometheus and Alertmanager for tests: the real programs on free ports, with the files that are shipped.
//!
//! The files of `deploy/` are copied to a folder of the test, where addresses become those of the test and durations
//! may be divided. Both programs end with the thread that started them.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::child::Folder;
use crate::harness::Socket;

/// Leaves out what needs Prometheus or Alertmanager, where they cannot be installed.
const WITHOUT: &str = "PULSEWIRE_WITHOUT_PROMETHEUS";
/// How long a condition may take before a test fails; many times what it takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);
/// Between two looks at a program of its own, which tells nobody by itself.
const PAUSE: Duration = Duration::from_millis(50);

/// Whether tests of these programs are to be left out, which is said.
pub(crate) fn left_out() -> bool {
    let out = std::env::var_os(WITHOUT).is_some_and(|value| value != "0");
    if out {
        eprintln!("LEFT OUT: {WITHOUT} is set");
    }
    out
}

/// A file or folder of `deploy/`.
pub(crate) fn shipped(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy").join(path)
}

/// An address that nobody listens on. Its port is below those that the system hands out by itself: whoever asks for any
/// port, or connects, does not come by it before it is used.
pub(crate) fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 10_240 + u16::try_from(std::process::id() % 2_000).expect("a small number") * 10;
    let ports = std::iter::repeat_with(|| first + NEXT.fetch_add(1, Ordering::Relaxed)).take(1_000);
    let mut free = ports.filter_map(|port| TcpListener::bind(("127.0.0.1", port)).ok());
    free.next().and_then(|free| free.local_addr().ok()).expect("a port")
}

/// Copies a shipped folder; `change` sees the path below it and the text of each file.
pub(crate) fn stage(from: &str, to: &Path, change: &dyn Fn(&Path, String) -> String) {
    copy(&shipped(from), to, Path::new(""), change);
}

fn copy(from: &Path, to: &Path, below: &Path, change: &dyn Fn(&Path, String) -> String) {
    fs::create_dir_all(to.join(below)).expect("a folder");
    for entry in fs::read_dir(from.join(below)).expect("a shipped folder") {
        let entry = entry.expect("an entry");
        let path = below.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy(from, to, &path, change);
        } else {
            let text = fs::read_to_string(from.join(&path)).expect("a text");
            fs::write(to.join(&path), change(&path, text)).expect("it is written");
        }
    }
}

/// The text with each of these replaced.
///
/// # Panics
///
/// If one does not occur: the file is not what the test believes it is.
pub(crate) fn replaced(text: &str, pairs: &[(&str, &str)]) -> String {
    pairs.iter().fold(text.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "`{from}` is not in:\n{text}");
        text.replace(from, to)
    })
}

/// The shortest duration but none: what is faster keeps two cores busy with watching.
const SHORTEST: u64 = 1;

/// The text with every duration divided, and none but those of nothing below a second.
pub(crate) fn hastened(text: &str, by: u64) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut before = ' ';
    while let Some(first) = rest.chars().next() {
        let begins = !before.is_ascii_alphanumeric() && !"_.".contains(before);
        let length = match duration(rest).filter(|_| begins) {
            Some((length, seconds)) => {
                out.push_str(&format!("{}s", (seconds / by).max(SHORTEST.min(seconds))));
                length
            }
            None => {
                out.push(first);
                first.len_utf8()
            }
        };
        before = rest[..length].chars().next_back().unwrap_or(' ');
        rest = &rest[length..];
    }
    out
}

/// A duration at the beginning of a text: its length and its seconds.
fn duration(text: &str) -> Option<(usize, u64)> {
    let digits = text.find(|it: char| !it.is_ascii_digit())?;
    let number: u64 = text[..digits].parse().ok()?;
    let unit = text[digits..].chars().next()?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return None,
    };
    let ends = text[digits + 1..].chars().next().is_none_or(|next| !next.is_ascii_alphanumeric());
    ends.then_some((digits + 1, number * seconds))
}

/// The shipped configuration of Prometheus, in a folder of its own, for a server of a test.
pub(crate) struct Setup {
    pub(crate) folder: Folder,
    address: SocketAddr,
}

impl Setup {
    /// It scrapes this server with this token and tells this Alertmanager, which need not be there. Durations are
    /// divided.
    pub(crate) fn new(server: SocketAddr, token: &str, alertmanager: SocketAddr, by: u64) -> Self {
        let (folder, address) = (Folder::new(), free_address());
        let (server, own, other) = (server.to_string(), address.to_string(), alertmanager.to_string());
        let targets = "'pulsewire-1:8001', 'pulsewire-2:8001', 'pulsewire-3:8001'";
        let server = format!("'{server}'");
        let pairs = [(targets, &*server), ("localhost:9090", &own), ("alertmanager:9093", &other)];
        stage("prometheus", folder.path(), &|path, text| {
            let main = path == Path::new("prometheus.yml");
            hastened(&if main { replaced(&text, &pairs) } else { text }, by)
        });
        fs::create_dir_all(folder.path().join("secrets")).expect("a folder");
        folder.write("secrets/metrics_token", token);
        Self { folder, address }
    }

    /// Starts Prometheus with it.
    pub(crate) fn start(&self) -> Prometheus {
        Prometheus::start(self.address, self.folder.path())
    }
}

/// A Prometheus that reads `prometheus.yml` of a folder.
pub(crate) struct Prometheus {
    pub(crate) address: SocketAddr,
    _process: Process,
}

impl Prometheus {
    /// Starts one at an address, which its own configuration may name.
    pub(crate) fn start(address: SocketAddr, folder: &Path) -> Self {
        let arguments = [
            format!("--config.file={}", folder.join("prometheus.yml").display()),
            format!("--storage.tsdb.path={}", folder.join("data").display()),
            format!("--web.listen-address={address}"),
            "--web.enable-lifecycle".to_owned(),
            // Alerts that go on firing are told anew as often as they would be after a minute.
            "--rules.alert.resend-delay=1s".to_owned(),
            "--log.level=warn".to_owned(),
        ];
        let mut process = Process::start(&["prometheus"], "prometheus", &arguments, folder);
        process.wait_ready(address);
        Self { address, _process: process }
    }

    /// The series of an instant query, each with its value.
    pub(crate) fn query(&self, expression: &str) -> Vec<(Value, f64)> {
        let answer = self.get(&format!("/api/v1/query?query={}", encoded(expression)));
        assert_eq!(answer["status"], "success", "{expression}: {answer}");
        let result = answer["data"]["result"].as_array().expect("a vector").iter();
        let value = |series: &Value| series["value"][1].as_str().and_then(|text| text.parse().ok());
        result.map(|series| (series["metric"].clone(), value(series).expect("a number"))).collect()
    }

    /// Waits until an instant query finds something; returns that.
    #[track_caller]
    pub(crate) fn wait_for(&self, expression: &str) -> Vec<(Value, f64)> {
        let mut found = Vec::new();
        wait(expression, || {
            found = self.query(expression);
            !found.is_empty()
        });
        found
    }

    /// Every rule that is loaded.
    pub(crate) fn rules(&self) -> Vec<Value> {
        let answer = self.get("/api/v1/rules");
        let groups = answer["data"]["groups"].as_array().expect("groups").iter();
        groups.flat_map(|group| group["rules"].as_array().expect("rules").clone()).collect()
    }

    /// A page of its API.
    pub(crate) fn get(&self, path: &str) -> Value {
        get(self.address, path)
    }
}

/// An Alertmanager that reads `alertmanager.yml` of a folder.
pub(crate) struct Alertmanager {
    pub(crate) address: SocketAddr,
    _process: Process,
}

impl Alertmanager {
    /// Starts one at an address.
    pub(crate) fn start(address: SocketAddr, folder: &Path) -> Self {
        let arguments = [
            format!("--config.file={}", folder.join("alertmanager.yml").display()),
            format!("--storage.path={}", folder.join("data").display()),
            format!("--web.listen-address={address}"),
            "--cluster.listen-address=".to_owned(),
            "--log.level=warn".to_owned(),
        ];
        let programs = ["prometheus-alertmanager", "alertmanager"];
        let mut process = Process::start(&programs, "prometheus-alertmanager", &arguments, folder);
        process.wait_ready(address);
        Self { address, _process: process }
    }

    /// A page of its API.
    pub(crate) fn get(&self, path: &str) -> Value {
        get(self.address, path)
    }

    /// Tells it of alerts, as Prometheus does.
    pub(crate) fn tell(&self, alerts: &Value) {
        let body = alerts.to_string();
        let answer = asked(self.address, "POST", "/api/v2/alerts", &body).expect("it answers");
        assert_eq!(answer.0, 200, "{}", String::from_utf8_lossy(&answer.1));
    }

    /// What it makes of the alerts with a name: `active` or `suppressed`.
    pub(crate) fn states(&self, name: &str) -> Vec<Value> {
        let alerts = self.get("/api/v2/alerts");
        let named = |alert: &&Value| alert["labels"]["alertname"] == name;
        let all = alerts.as_array().expect("alerts").iter();
        all.filter(named).map(|alert| alert["status"]["state"].clone()).collect()
    }
}

struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts the first of these programs that is installed.
    ///
    /// # Panics
    ///
    /// If none is.
    fn start(programs: &[&str], package: &str, arguments: &[String], folder: &Path) -> Self {
        let program = programs.iter().find(|program| installed(program)).unwrap_or_else(|| {
            panic!(
                "{package} is not installed. Install it with: sudo apt-get update && sudo apt-get install -y \
                 {package}; or leave these tests out with {WITHOUT}=1"
            )
        });
        let log = folder.join("log");
        let file = fs::File::create(&log).expect("a log");
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", program]).args(arguments);
        command.env("GOMAXPROCS", "2").stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
        Self { child: command.spawn().expect("setpriv starts"), log }
    }

    fn wait_ready(&mut self, address: SocketAddr) {
        wait("it is ready", || {
            let ended = self.child.try_wait().expect("a child");
            let log = || fs::read_to_string(&self.log).unwrap_or_default();
            assert!(ended.is_none(), "it ended ({ended:?}): {}", log());
            asked(address, "GET", "/-/ready", "").is_some_and(|(status, _)| status == 200)
        });
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("{}", fs::read_to_string(&self.log).unwrap_or_default());
        }
    }
}

/// Waits until a condition holds that a program of its own brings about; `what` says which one did not.
#[track_caller]
pub(crate) fn wait(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "waited in vain: {what}");
        std::thread::sleep(PAUSE);
    }
}

fn installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

fn get(address: SocketAddr, path: &str) -> Value {
    let (status, body) = asked(address, "GET", path, "").expect("it answers");
    serde_json::from_slice(&body).unwrap_or_else(|error| panic!("{path}: {status} {error}"))
}

/// One request in HTTP/1.0, whose answer is never in chunks.
fn asked(address: SocketAddr, method: &str, path: &str, body: &str) -> Option<(u16, Vec<u8>)> {
    let mut socket = Socket::try_connect(address)?;
    let length = body.len();
    let head = "Content-Type: application/json\r\nContent-Length";
    let request = format!("{method} {path} HTTP/1.0\r\nHost: {address}\r\n{head}: {length}\r\n\r\n{body}");
    socket.send(request.as_bytes());
    let head = socket.try_head()?;
    Some((head.status, socket.rest()))
}

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

#[test]
fn durations_are_divided_and_nothing_else_is() {
    let check = |text: &str, expected: &str| assert_eq!(hastened(text, 60), expected);
    check("for: 5m", "for: 5s");
    check("rate(x[10m]) > 500 and y:rate5m", "rate(x[10s]) > 500 and y:rate5m");
    check("scrape_interval: 15s # 30d", "scrape_interval: 1s # 43200s");
    check("group_wait: 0s, 1s", "group_wait: 0s, 1s");
    check("in [1h:2m] 2 minutes, 5mb 10.5s", "in [60s:2s] 2 minutes, 5mb 10.5s");
}
