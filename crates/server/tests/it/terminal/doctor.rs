//! `pulsewire doctor` against real servers, also through a proxy that does what bad proxies do.

use pulsewire_hub::Role;
use pulsewire_loadtest::proxy::{Fault, Proxy};
use serde_json::Value;

use super::against;
use crate::child::{Ended, Folder, pulsewire, run};
use crate::harness::{SECRET, Server};

const DEMO: &str = "[[namespace]]\nname = \"scratch\"\npattern = \"scratch:*\"\nkind = \"ephemeral\"\n";

fn verdicts(ended: &Ended) -> Value {
    let json: Value = serde_json::from_str(&ended.out).unwrap_or_else(|error| panic!("{error}: {ended:?}"));
    let checks = json["checks"].as_array().unwrap().iter();
    checks.map(|check| (check["id"].as_str().unwrap().to_owned(), check["verdict"].clone())).collect()
}

fn text_of(ended: &Ended, id: &str) -> (String, String) {
    let json: Value = serde_json::from_str(&ended.out).unwrap();
    let check = json["checks"].as_array().unwrap().iter().find(|check| check["id"] == id);
    let check = check.unwrap_or_else(|| panic!("no {id}: {}", ended.out));
    let word = |key: &str| check[key].as_str().unwrap_or_default().to_owned();
    (word("text"), word("remedy"))
}

#[test]
fn a_server_that_is_well_is_found_well() {
    let server = Server::start(&format!("{DEMO}[collector]\ninterval = \"1s\"\n"));
    let ended = against(&server, Role::Admin, &["doctor", "-o", "json", "--channel", "scratch:doctor"]);
    let seen = verdicts(&ended);
    for id in [
        "reach",
        "upgrade",
        "clock",
        "token",
        "ping",
        "frames",
        "binary",
        "polling",
        "streaming",
        "metrics",
        "health",
    ] {
        assert_eq!(seen[id], "ok", "{id}: {:?}", text_of(&ended, id));
    }
    assert_eq!((ended.code, &seen["tls"], &seen["idle"]), (Some(0), &"skipped".into(), &"skipped".into()));
    assert!(seen.get("settings").is_none(), "a server elsewhere says nothing of settings here");
    server.wait_metric("pulsewire_sessions_detached", 0.0);
    let nagios = against(&server, Role::Admin, &["doctor", "-o", "nagios"]);
    assert_eq!(nagios.code, Some(0));
    assert!(nagios.out.starts_with("PULSEWIRE OK - ") && nagios.out.contains(" upgrade="), "{}", nagios.out);
    let page = against(&server, Role::Admin, &["doctor", "--format", "prometheus"]).out;
    assert!(page.contains("pulsewire_doctor_check{id=\"upgrade\"} 0\n"), "{page}");
}

#[test]
fn a_proxy_with_less_patience_than_the_heartbeat_is_found_out() {
    let server = Server::start("[heartbeat]\ninterval = \"10s\"\n");
    let proxy = Proxy::start(server.address).unwrap();
    proxy.apply(Fault::CutIdle { after_ms: 1_500 });
    let deep = |silence: &str| {
        let mut command = pulsewire();
        command.args(["doctor", "--deep", "--silence", silence, "-o", "json", "--url"]);
        command.args([&format!("ws://{}", proxy.address), "--token", &server.token("ada", Role::Admin)]);
        run(&mut command)
    };
    let ended = deep("9s");
    let (text, remedy) = text_of(&ended, "idle");
    assert_eq!((ended.code, &verdicts(&ended)["idle"]), (Some(1), &"critical".into()), "{text}");
    assert!(text.contains("the server pings every 10 s"), "{text}");
    assert!(remedy.contains("heartbeat.interval = \"1s\""), "{remedy}");
    proxy.apply(Fault::Pass);
    let ended = deep("1s");
    assert_eq!(verdicts(&ended)["idle"], "ok", "{}", ended.out);
}

#[test]
fn a_proxy_that_refuses_upgrades_is_told_from_a_server_that_is_away() {
    let server = Server::start("");
    let proxy = Proxy::start(server.address).unwrap();
    proxy.apply(Fault::RefuseUpgrade);
    let doctor = |url: String| {
        let token = server.token("ada", Role::Admin);
        run(pulsewire().args(["doctor", "-o", "json", "--url", &url, "--token", &token]))
    };
    let ended = doctor(format!("ws://{}", proxy.address));
    assert_eq!(
        (ended.code, text_of(&ended, "upgrade").0.as_str()),
        (Some(1), "the answer was 403 instead of 101")
    );
    assert_eq!(verdicts(&ended)["polling"], "ok", "the rest is looked at all the same");
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let ended = doctor(format!("ws://{nobody}"));
    assert_eq!((ended.code, &verdicts(&ended)["reach"]), (Some(3), &"critical".into()));
}

#[test]
fn a_refused_token_is_the_one_thing_that_is_wrong() {
    let server = Server::start("");
    let url = format!("ws://{}", server.address);
    let doctor = |more: &[&str]| {
        let expired = server.expired_token("ada");
        run(pulsewire().args(["doctor", "--url", &url, "--token", &expired]).args(more))
    };
    let ended = doctor(&["-o", "json"]);
    let (text, remedy) = text_of(&ended, "token");
    assert_eq!(ended.code, Some(4), "{text}");
    assert!(remedy.contains("pulsewire token verify"), "{remedy}");
    assert_eq!(verdicts(&ended)["upgrade"], "ok");
    let nagios = doctor(&["-o", "nagios"]);
    assert_eq!(nagios.code, Some(3), "what the plugin may not see is unknown: {}", nagios.out);
}

/// The settings and the machine a server here would have.
#[test]
fn settings_and_machine_are_looked_at_without_a_server() {
    let folder = Folder::new();
    let good = folder.write("good.toml", &format!("[auth]\nsecret = \"{SECRET}\"\n"));
    let local = |config: &std::path::Path, more: &[&str]| {
        let mut command = pulsewire();
        command.current_dir(folder.path()).args(["doctor", "--local", "-o", "json", "-c"]).arg(config);
        run(command.args(more))
    };
    let ended = local(&good, &[]);
    let seen = verdicts(&ended);
    for id in ["settings", "secret", "store"] {
        assert_eq!(seen[id], "ok", "{id}: {}", ended.out);
    }
    for id in ["files", "backlog", "ports", "disk"] {
        assert!(seen.get(id).is_some_and(|verdict| verdict != "skipped"), "{id}: {}", ended.out);
    }
    assert!(text_of(&ended, "store").0.contains("is made with the first start"));
    assert!(!folder.path().join("data").exists(), "looking makes nothing");
    let ended = local(&folder.write("bad.toml", "[auth]\nsecret = \"changeme\"\n"), &[]);
    assert_eq!((ended.code, &verdicts(&ended)["settings"]), (Some(1), &"critical".into()), "{}", ended.out);
    let ended = local(&good, &["--set", "redis.url=redis://127.0.0.1:1"]);
    assert_eq!(verdicts(&ended)["redis"], "critical", "{}", ended.out);
    let kept = folder.path().join("kept.db");
    let elsewhere = format!("store.url=sqlite:{}", kept.display());
    std::fs::write(&kept, "no database at all, but long enough to be looked at").unwrap();
    let ended = local(&good, &["--set", &elsewhere]);
    assert_eq!(verdicts(&ended)["store"], "critical", "{}", ended.out);
}

/// A file that a server is writing is read beside it.
#[test]
fn a_store_in_use_is_looked_at_without_disturbing_it() {
    let folder = Folder::new();
    let file = folder.path().join("events.db");
    let server = Server::start(&format!("[store]\nurl = \"sqlite:{}\"\n", file.display()));
    server.publish(&serde_json::json!({"channel": "run:1", "type": "note", "data": 1}));
    let ended = run(pulsewire().current_dir(folder.path()).args([
        "doctor",
        "--local",
        "-o",
        "json",
        "--set",
        &format!("auth.secret={SECRET}"),
        "--set",
        &format!("store.url=sqlite:{}", file.display()),
    ]));
    let (text, _) = text_of(&ended, "store");
    assert!(text.contains("schema 1 of 1"), "{text}");
    server.publish(&serde_json::json!({"channel": "run:1", "type": "note", "data": 2}));
}
