//! From trouble to the person who is told: the server under load, Prometheus with the shipped rules, Alertmanager with
//! the shipped routes and texts, and a receiver.
//!
//! Everything is what is shipped, but addresses are those of the test and durations a sixtieth, but at least a second.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};

use crate::child::{Folder, Process, pulsewire};
use crate::harness::{SECRET, Server, Socket, bearer, handshake};
use crate::monitoring::{self, Alertmanager, Prometheus, hastened, replaced, stage, wait};
use crate::receiver::{Receiver, Told};

/// What the server asks scrapers for.
const METRICS_TOKEN: &str = "the-token-of-scrapers";
/// What who takes canaries back asks for.
const ROLLBACK_TOKEN: &str = "the-token-of-rollbacks";
/// By how much everything is faster.
const BY: u64 = 60;

/// Attempts are not limited, so that all of them count as failures. The server's own rules are left out: they are not
/// a sixtieth.
const SETTINGS: &str = "[auth]\nattempts_per_minute = 0\n[thresholds]\nhold = \"10m\"\n\
                        [store]\nurl = \"memory\"\n[collector]\nenabled = false\n";

/// The whole way, running.
struct Pipeline {
    server: Process,
    folder: Folder,
    prometheus: Prometheus,
    alertmanager: Alertmanager,
    receiver: Receiver,
    _folders: [Folder; 2],
}

impl Pipeline {
    fn start() -> Option<Self> {
        if monitoring::left_out() {
            return None;
        }
        let folder = Folder::new();
        let server = serve(&folder);
        let (receiver, alertmanager, alerts) = told();
        let numbers = monitoring::Setup::new(server.address, METRICS_TOKEN, alertmanager.address, BY);
        let prometheus = numbers.start();
        Some(Self { server, folder, prometheus, alertmanager, receiver, _folders: [alerts, numbers.folder] })
    }

    /// What fires in Prometheus, apart from what tells that this machine is slow and not what the test does.
    fn fires(&self) -> Vec<String> {
        let expression =
            "ALERTS{alertstate=\"firing\",alertname!=\"Watchdog\",condition!~\"loop_lag|scrape|down\"}";
        let name = |series: &(Value, f64)| series.0["alertname"].as_str().unwrap().to_owned();
        self.prometheus.query(expression).iter().map(name).collect()
    }
}

/// Alertmanager with everything that is shipped, and who hears all of it.
fn told() -> (Receiver, Alertmanager, Folder) {
    let (receiver, folder) = (Receiver::start(), Folder::new());
    stage("alertmanager", folder.path(), &|path, text| match path.to_str() {
        Some("alertmanager.yml") => hastened(&told_here(&text, folder.path(), receiver.address), BY),
        _ => text,
    });
    std::fs::create_dir_all(folder.path().join("secrets")).unwrap();
    folder.write("secrets/slack_url", &format!("http://{}/chat", receiver.address));
    folder.write("secrets/pagerduty_key", "a key");
    folder.write("secrets/rollback_token", ROLLBACK_TOKEN);
    (receiver, Alertmanager::start(monitoring::free_address(), folder.path()), folder)
}

/// The shipped receivers, here.
fn told_here(text: &str, folder: &Path, receiver: SocketAddr) -> String {
    let (folder, here) = (folder.display().to_string(), format!("http://{receiver}"));
    let global = format!("global:\n  pagerduty_url: {here}/pager");
    replaced(text, &[("/etc/alertmanager", &folder), ("http://localhost:9094", &here), ("global:", &global)])
}

fn serve(folder: &Folder) -> Process {
    let config = folder.write("pulsewire.toml", SETTINGS);
    let mut command: Command = pulsewire();
    command.env("JWT_SECRET_KEY", SECRET).env("PULSEWIRE_METRICS_TOKEN", METRICS_TOKEN);
    let [config, data] = [config.as_path(), folder.path()].map(|path: &Path| path.to_str().unwrap());
    Process::serve(command, &["--config", config, "--data", data])
}

/// Handshakes with this token, one after the other, until it is dropped.
struct Handshakes {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Handshakes {
    fn start(server: SocketAddr, token: &'static str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let mut socket = Socket::connect(server);
                socket.send(handshake("/ws", &bearer(token)).as_bytes());
                assert_eq!(socket.head().status, 401);
                // Some twenty a second: a load, and not a test of how fast it can be.
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Handshakes {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(
            std::thread::panicking() || ended.is_some_and(|ended| ended.is_ok()),
            "a handshake failed otherwise"
        );
    }
}

/// Rows 000-46, 001-86 to 001-89, 002-16 and 002-40 for real.
#[test]
fn trouble_is_told_to_the_right_people_and_so_is_its_end() {
    let Some(pipeline) = Pipeline::start() else { return };
    let Pipeline { prometheus, receiver, .. } = &pipeline;
    receiver.wait_for("the dead man's switch is told that all is well", |told| {
        told.path == "/deadman" && told.body["alerts"][0]["labels"]["alertname"] == "Watchdog"
    });
    // A whole window of every rule's, and its `for` beside it.
    prometheus.wait_for("count_over_time(up{job=\"pulsewire\"}[1m]) > 5 and on (job) up == 1");
    let ill: Vec<Value> = prometheus.rules().into_iter().filter(|rule| rule["health"] == "err").collect();
    assert!(prometheus.rules().len() > 60 && ill.is_empty(), "{ill:#?}");
    assert_eq!(pipeline.fires(), [""; 0], "nothing is wrong");

    attacked(&pipeline);
    misled(&pipeline);
}

/// Somebody tries tokens: the pager is told once of the worse alert, with what to do, and again when it is over.
fn attacked(pipeline: &Pipeline) {
    let Pipeline { server, prometheus, receiver, .. } = pipeline;
    let (high, critical) = ("HighAuthenticationFailures", "CriticalAuthenticationFailures");
    let attempts = Handshakes::start(server.address, "no.such.token");
    let paged = receiver.wait_for("the pager is told", |told| {
        told.path == "/pager"
            && told.body["payload"]["summary"].as_str().unwrap_or_default().contains(critical)
    });
    assert_eq!(paged.body["event_action"], "trigger", "{}", paged.body);
    assert_eq!(paged.body["payload"]["summary"], format!("[CRITICAL] {critical} in pulsewire"));
    let runbook = paged.body["links"][0]["href"].as_str().unwrap();
    assert!(runbook.ends_with(&format!("/{critical}.md")), "{runbook}");
    let text = paged.body["payload"]["custom_details"]["text"].as_str().unwrap();
    assert!(text.contains("% of the authentications") && text.contains(runbook), "{text}");
    prometheus.wait_for(&format!("ALERTS{{alertname=\"{high}\",alertstate=\"firing\"}}"));
    wait("the warning is muted", || pipeline.alertmanager.states(high) == ["suppressed"]);
    assert_eq!(pipeline.alertmanager.states(critical), ["active"]);

    drop(attempts);
    receiver.wait_for("the pager is told of the end", |told| {
        told.path == "/pager"
            && told.body["event_action"] == "resolve"
            && told.body["dedup_key"] == paged.body["dedup_key"]
    });
    wait("it is over", || pipeline.fires().is_empty());
    let told_of_warning = |told: &Told| told.body.to_string().contains(high);
    assert!(
        !receiver.all().iter().any(told_of_warning),
        "a critical alert mutes the warning of its condition"
    );
}

/// A settings file with a mistake: the chat is told, and not the pager.
fn misled(pipeline: &Pipeline) {
    let Pipeline { server, folder, receiver, .. } = pipeline;
    folder.write("pulsewire.toml", "[server]\nlisten = \"nowhere\"\n");
    server.signal("HUP");
    let told = receiver.wait_for("the chat is told", |told| told.path == "/chat");
    let attachment = &told.body["attachments"][0];
    assert_eq!(attachment["title"], "[WARNING] PulsewireReloadFailed in pulsewire");
    let runbook = attachment["title_link"].as_str().unwrap();
    assert!(runbook.ends_with("/PulsewireReloadFailed.md"), "{runbook}");
    let text = attachment["text"].as_str().unwrap();
    assert!(text.contains("the log names the mistake") && text.contains(runbook), "{text}");
    assert_eq!(told.body["channel"], "#alerts");
}

#[test]
fn a_target_that_is_down_mutes_its_instance_and_never_a_rollback_or_the_dead_mans_switch() {
    if monitoring::left_out() {
        return;
    }
    let (receiver, alertmanager, _folder) = told();
    let alert = |name: &str, severity: &str, condition: &str, instance: &str, action: &str| {
        json!({ "labels": { "alertname": name, "severity": severity, "condition": condition, "instance": instance,
            "action": action, "job": "pulsewire" }, "annotations": { "runbook_url": "https://runbook" } })
    };
    alertmanager.tell(&json!([
        alert("Down", "critical", "down", "a", ""),
        alert("OfTheSame", "critical", "files", "a", ""),
        alert("OfAnother", "critical", "files", "b", ""),
        alert("OfTheJob", "warning", "files", "", ""),
        alert("Rollback", "critical", "canary", "a", "rollback"),
        alert("Watchdog", "none", "", "a", ""),
    ]));
    let states = |name: &str| alertmanager.states(name);
    assert_eq!(states("OfTheSame"), ["suppressed"]);
    for active in ["Down", "OfAnother", "OfTheJob", "Rollback", "Watchdog"] {
        assert_eq!(states(active), ["active"], "{active}");
    }
    let told = receiver.wait_for("who takes canaries back is told", |told| told.path == "/rollback");
    assert_eq!(told.body["alerts"][0]["labels"]["alertname"], "Rollback");
    assert_eq!(told.authorization, format!("Bearer {ROLLBACK_TOKEN}"));
    receiver.wait_for("so are people", |told| {
        told.path == "/pager" && told.body["payload"]["summary"] == "[CRITICAL] Rollback in pulsewire"
    });
    assert!(!receiver.all().iter().any(|told| told.body.to_string().contains("OfTheSame")));
}

/// Rows 000-01, 001-46 to 001-50, 002-05 and 003-06: every job of the documents reads the same numbers.
#[test]
fn the_jobs_of_the_documents_scrape_the_server() {
    if monitoring::left_out() {
        return;
    }
    let server = Server::start("");
    let folder = Folder::new();
    let mut config = "scrape_configs:\n".to_owned();
    let jobs = std::fs::read_dir(monitoring::shipped("prometheus/jobs")).unwrap();
    for job in jobs {
        let text = std::fs::read_to_string(job.unwrap().path()).unwrap();
        let (_, job) = text.split_once("scrape_configs:\n").unwrap();
        let target = job.lines().find_map(|line| line.trim().strip_prefix("- targets: ")).unwrap();
        config += &replaced(&hastened(job, BY), &[(target, &format!("['{}']", server.address))]);
    }
    folder.write("prometheus.yml", &config);
    let prometheus = Prometheus::start(monitoring::free_address(), folder.path());
    prometheus.wait_for("count(up == 1) == 4");
    let families =
        prometheus.query("count by (job) (count by (job, __name__) ({__name__=~\"websocket_.*\"}))");
    let jobs: BTreeSet<&str> = families.iter().map(|(job, _)| job["job"].as_str().unwrap()).collect();
    let expected = ["agent-orchestrator-backend", "collaboration", "cryptrade-ws-metrics", "generic-corp"];
    assert_eq!(jobs, BTreeSet::from(expected));
    assert!(families.iter().all(|(_, count)| *count == families[0].1 && *count > 20.0), "{families:?}");
}
