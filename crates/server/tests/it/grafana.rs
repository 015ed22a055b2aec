//! `pulsewire dashboards`: what is made for Grafana, and what is read from one.
//!
//! No Grafana can be installed here: a few lines answer as its HTTP API does (`/api/search`,
//! `/api/dashboards/uid/:uid`), and note what they were asked.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::child::{Ended, Folder, pulsewire, run};
use crate::monitoring::{free_address, shipped};

const TOKEN: &str = "glsa_of-a-service-account";

/// Something that answers as Grafana does.
struct Grafana {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Grafana {
    /// The answer to a path with its query is a status and a body.
    fn start(answer: impl Fn(&str) -> (u16, String) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let noted = asked.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
                let target = lines
                    .next()
                    .and_then(|line| Some(line.split(' ').nth(1)?.to_owned()))
                    .unwrap_or_default();
                let wanted = format!("authorization: bearer {TOKEN}").to_ascii_lowercase();
                let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
                let known = head.iter().any(|line| line.to_ascii_lowercase() == wanted);
                let (status, body) = if known { answer(&target) } else { (401, "{}".to_owned()) };
                noted.lock().unwrap().push(target);
                let length = body.len();
                // Whoever has gone away is not waited for.
                let _ = write!(
                    stream,
                    "HTTP/1.1 {status} It is so\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
                );
            }
        });
        Self { address, asked }
    }

    fn export(&self, folder: &Folder, more: &[&str]) -> Ended {
        export(&format!("http://{}/grafana", self.address), folder, more)
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

/// Runs `dashboards export` with the token in a file.
fn export(url: &str, folder: &Folder, more: &[&str]) -> Ended {
    let token = folder.write("token", &format!("{TOKEN}\n"));
    let mut command = pulsewire();
    command.args(["dashboards", "export", "--url", url, "--token-file"]).arg(token);
    command.arg("--out").arg(folder.path().join("backup")).args(more);
    run(&mut command)
}

fn board(uid: &str) -> String {
    json!({ "dashboard": { "id": 7, "uid": uid, "title": "A board", "panels": [] }, "meta": { "isFolder": false } }).to_string()
}

fn read(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn every_dashboard_of_a_grafana_is_written_to_a_file_that_can_be_imported() {
    let grafana = Grafana::start(|target| match target.strip_prefix("/grafana/api/dashboards/uid/") {
        Some(uid) => (200, board(uid)),
        None if target.contains("page=1") => {
            let row =
                |number| json!({ "uid": format!("of-{number}"), "title": "A board", "type": "dash-db" });
            (200, Value::Array((0..1_000).map(row).collect()).to_string())
        }
        None => (200, json!([{ "uid": "last_one", "title": "Last" }]).to_string()),
    });
    let folder = Folder::new();
    let ended = grafana.export(&folder, &["--tag", "of ours"]);
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert!(ended.err.contains("1001 dashboards written to "), "{}", ended.err);
    assert_eq!(ended.out.lines().count(), 1_001);
    assert!(ended.out.lines().last().unwrap().ends_with("last_one.json\tLast"), "{}", ended.out);
    let expected = json!({ "id": null, "uid": "of-999", "title": "A board", "panels": [] });
    assert_eq!(read(&folder.path().join("backup/of-999.json")), expected);
    assert_eq!(std::fs::read_dir(folder.path().join("backup")).unwrap().count(), 1_001, "and nothing else");
    assert_eq!(
        grafana.asked()[..2],
        [
            "/grafana/api/search?type=dash-db&limit=1000&page=1&tag=of+ours",
            "/grafana/api/search?type=dash-db&limit=1000&page=2&tag=of+ours"
        ]
    );
}

/// What goes wrong, what is said, and how it ends.
#[test]
fn an_export_that_fails_says_why_and_what_to_do() {
    let check = |answer: fn(&str) -> (u16, String), code: i32, said: &str| {
        let folder = Folder::new();
        let ended = Grafana::start(answer).export(&folder, &[]);
        assert_eq!(ended.code, Some(code), "{}", ended.err);
        assert!(ended.err.contains(said), "`{said}` is not in {}", ended.err);
        let written = std::fs::read_dir(folder.path().join("backup")).map_or(0, Iterator::count);
        assert_eq!(written, 0, "{said}");
    };
    check(|_| (403, "{}".into()), 4, "make a service account with the role Viewer");
    check(
        |_| (404, "not here".into()),
        1,
        "api/search answers 404 Not Found; is --url the address of a Grafana",
    );
    check(|_| (200, "<html>".into()), 1, "api/search is not what Grafana answers");
    check(|_| (200, " ".repeat((16 << 20) + 1)), 1, "the answer is longer than 16777216 bytes");
    check(
        |_| (200, json!([{ "uid": "../../etc/passwd", "title": "x" }]).to_string()),
        1,
        "cannot be the name of a file",
    );
    check(
        |target| {
            if target.contains("search") {
                (200, json!([{ "uid": "a", "title": "x" }]).to_string())
            } else {
                (500, String::new())
            }
        },
        1,
        "api/dashboards/uid/a answers 500",
    );
    let row = r#"{"uid":"a","title":"x"}"#;
    let endless = format!("[{}]", vec![row; 1_000].join(","));
    let grafana = Grafana::start(move |_| (200, endless.clone()));
    let ended = grafana.export(&Folder::new(), &[]);
    assert_eq!((ended.code, grafana.asked().len()), (Some(1), 6), "{}", ended.err);
    assert!(ended.err.contains("more than 5000 dashboards; choose some with --tag"), "{}", ended.err);
}

#[test]
fn an_export_that_cannot_begin_says_why() {
    let folder = Folder::new();
    let nobody = export(&format!("http://{}", free_address()), &folder, &[]);
    assert_eq!(nobody.code, Some(3), "{}", nobody.err);
    assert!(nobody.err.contains("Grafana does not answer: "), "{}", nobody.err);
    let ftp = export("ftp://grafana.example", &folder, &[]);
    assert_eq!(ftp.code, Some(2));
    assert!(ftp.err.contains("--url: the url has the scheme \"ftp\", not http or https"), "{}", ftp.err);
    let missing = export("http://127.0.0.1:9", &folder, &["--ca-file", "/nowhere.pem"]);
    assert_eq!(missing.code, Some(2));
    assert!(missing.err.contains("cannot read /nowhere.pem"), "{}", missing.err);
    let empty = folder.write("empty", " \n");
    let ended = run(pulsewire()
        .args(["dashboards", "export", "--url", "http://127.0.0.1:9", "--out", "x", "--token-file"])
        .arg(empty));
    assert_eq!(ended.code, Some(2));
    assert!(ended.err.contains("the token file does not hold one token"), "{}", ended.err);
}

fn generate(arguments: &[&str]) -> Ended {
    run(pulsewire().args(["dashboards", "generate", "--config", "/dev/null"]).args(arguments))
}

#[test]
fn dashboards_follow_the_settings_and_need_neither_key_nor_server() {
    let ours = generate(&["connections"]);
    assert_eq!((ours.code, ours.err.as_str()), (Some(0), ""));
    let text = std::fs::read_to_string(shipped("grafana/dashboards/websocket-connections.json")).unwrap();
    assert!(ours.out == text, "the file is not what is generated: cargo xtask generate");
    let other = generate(&[
        "collaboration",
        "--set",
        "metrics.alias_prefix=acme",
        "--set",
        "thresholds.latency=1ms 2ms 3ms",
    ]);
    assert!(
        other.out.contains("acme_message_latency_bucket") && !other.out.contains("orchestrator_websocket_")
    );
    let board: Value = serde_json::from_str(&other.out).unwrap();
    let panels = board["panels"].as_array().unwrap();
    let latency = panels.iter().find(|panel| panel["title"] == "Latency Percentiles").unwrap();
    let steps = latency["fieldConfig"]["defaults"]["thresholds"]["steps"].as_array().unwrap().iter();
    assert_eq!(
        steps.map(|step| step["value"].clone()).collect::<Vec<_>>(),
        [Value::Null, json!(0.001), json!(0.002), json!(0.003)]
    );
    let linked = generate(&["node", "--runbooks", "https://wiki.example/r"]);
    assert!(linked.out.contains("\"https://wiki.example/r/PulsewireTargetDown.md\""), "{}", linked.err);
    let without = generate(&["connections", "--set", "metrics.compat=false"]);
    assert_eq!(without.code, Some(0));
    assert!(without.err.starts_with("notice: metrics.compat is false"), "{}", without.err);
}

#[test]
fn all_dashboards_go_to_a_folder_and_what_is_unclear_is_asked_for() {
    let folder = Folder::new();
    let out = folder.path().join("new/one");
    let ended = generate(&["--out", out.to_str().unwrap()]);
    assert_eq!((ended.code, ended.err.lines().count()), (Some(0), 6), "{}", ended.err);
    for entry in std::fs::read_dir(shipped("grafana/dashboards")).unwrap() {
        let name = entry.unwrap().file_name();
        assert_eq!(read(&out.join(&name)), read(&shipped("grafana/dashboards").join(&name)), "{name:?}");
    }
    let which = generate(&[]);
    assert_eq!((which.code, which.out.as_str()), (Some(2), ""));
    assert!(which.err.contains("name one of connections, delivery, collaboration"), "{}", which.err);
    let unknown = generate(&["conections"]);
    assert_eq!(unknown.code, Some(2));
    assert!(
        unknown.err.contains("no dashboard is called `conections`; there are connections, "),
        "{}",
        unknown.err
    );
    let wrong = generate(&["node", "--set", "thresholds.latency=1"]);
    assert_eq!(wrong.code, Some(2), "{}", wrong.err);
    let blocked = folder.write("a-file", "");
    let ended = generate(&["node", "--out", blocked.to_str().unwrap()]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.err.contains("error: cannot write "), "{}", ended.err);
}
