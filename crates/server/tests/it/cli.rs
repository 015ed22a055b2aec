//! The commands, most of which need no server.

use clap::Parser as _;
use pulsewire::{
    cli::{Cli, Command, Exit, Terminal, config, token},
    settings::Flags,
};
use pulsewire_hub::Role;

use crate::child::{Folder, pulsewire, run};
use crate::harness::Server;
use crate::support::{SECRET, World};

const NOW_MS: i64 = 1_700_000_000_000;

/// What a command wrote and how it ended.
struct Ended {
    exit: Exit,
    out: String,
    err: String,
}

fn capture(command: impl FnOnce(&mut Terminal<'_>) -> Result<Exit, Exit>) -> Ended {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let ended = command(&mut Terminal::new(&mut out, &mut err));
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ended { exit: ended.unwrap_or_else(|exit| exit), out: text(out), err: text(err) }
}

fn create(world: &World, arguments: &[&str]) -> Ended {
    let line = ["pulsewire", "token", "create"].iter().chain(arguments);
    let Command::Token(token::Token::Create(create)) = Cli::parse_from(line).command else {
        panic!("not a creation")
    };
    capture(|terminal| token::create(&create, &world.sources(), NOW_MS, terminal))
}

fn verify(world: &World, text: &str, now_ms: i64) -> Ended {
    capture(|terminal| token::verify(text.trim(), &world.sources(), now_ms, terminal))
}

#[test]
fn a_created_token_is_verified_and_explains_why_it_ends() {
    let world = World::new();
    let made = create(
        &world,
        &["--sub", "ann", "--role", "publisher", "--ttl", "1h", "--channel", "run:*", "--publish"],
    );
    assert_eq!((made.exit, made.out.lines().count()), (Exit::Ok, 1), "{}", made.err);
    let right = verify(&world, &made.out, NOW_MS);
    assert_eq!(right.exit, Exit::Ok);
    assert!(right.err.contains("valid: sub=ann role=publisher"), "{}", right.err);
    assert!(right.err.contains("may publish, subscribe, history, presence on run:*"), "{}", right.err);
    let late = verify(&world, &made.out, NOW_MS + 3_700_000);
    assert_eq!(late.exit, Exit::Unauthorised);
    assert!(late.err.contains("refused: the token expired 100 s ago"), "{}", late.err);
    let other = World::empty().env("JWT_SECRET_KEY", &SECRET.replace('9', "1"));
    let foreign = verify(&other, &made.out, NOW_MS);
    assert_eq!(foreign.exit, Exit::Unauthorised);
    assert!(foreign.err.contains("signed with another key"), "{}", foreign.err);
}

#[test]
fn a_token_the_server_would_refuse_is_not_made() {
    let made = create(&World::new(), &["--sub", "a\tb"]);
    assert_eq!((made.exit, made.out.as_str()), (Exit::Usage, ""));
    assert!(made.err.contains("the server would refuse this token: the claim `sub`"), "{}", made.err);
}

#[test]
fn without_a_key_the_command_says_which_one_to_set() {
    let made = create(&World::empty(), &["--sub", "ann"]);
    assert_eq!(made.exit, Exit::Usage);
    assert!(made.err.contains("`auth.secret`: not set"), "{}", made.err);
}

#[test]
fn inspect_says_that_nothing_was_verified_and_writes_no_control_characters() {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    let claims = "{\"sub\":\"\u{9b}31m\\u001b[2J\",\"exp\":1700000000}";
    let text =
        format!("{}.{}.x", URL_SAFE_NO_PAD.encode("{\"alg\":\"none\"}"), URL_SAFE_NO_PAD.encode(claims));
    let ended = capture(|terminal| token::inspect(&text, terminal));
    assert_eq!(ended.exit, Exit::Ok);
    assert!(ended.err.starts_with("not verified"), "{}", ended.err);
    assert!(ended.err.contains("exp: 2023-11-14T22:13:20Z"), "{}", ended.err);
    assert!(!ended.out.chars().any(|it| it.is_control() && it != '\n'), "{:?}", ended.out);
    assert_eq!(capture(|terminal| token::inspect("nonsense", terminal)).exit, Exit::Failed);
}

#[test]
fn config_check_ends_with_two_and_counts_the_problems() {
    let good = capture(|terminal| config::check(&World::new().sources(), terminal));
    assert_eq!((good.exit, good.out.as_str()), (Exit::Ok, "the settings are good\n"));
    let wrong = World::empty().toml("[log]\nlevl = \"info\"");
    let bad = capture(|terminal| config::check(&wrong.sources(), terminal));
    assert_eq!(bad.exit, Exit::Usage);
    assert!(bad.err.contains("error: pulsewire.toml:2: unknown key `log.levl`"), "{}", bad.err);
    assert!(bad.err.ends_with("2 problems in the settings; nothing was started\n"), "{}", bad.err);
}

#[test]
fn config_print_shows_values_with_their_origin_in_three_forms() {
    let sources = World::new().set("log.level=warn").sources();
    let print = |form| capture(|terminal| config::print(&sources, form, terminal)).out;
    let table = print(config::Output::Table);
    let row = table.lines().find(|line| line.starts_with("log.level ")).unwrap();
    assert!(row.contains("\"warn\"") && row.ends_with("--set log.level"), "{row}");
    assert!(print(config::Output::Toml).contains("level = \"warn\" # --set log.level"));
    let json: serde_json::Value = serde_json::from_str(&print(config::Output::Json)).unwrap();
    assert_eq!(json["log.level"]["value"], "warn");
    assert_eq!(json["auth.secret"]["value"], "[redacted]");
}

#[test]
fn the_flags_of_the_command_line_become_sources() {
    let line = [
        "pulsewire",
        "config",
        "check",
        "-c",
        "x.toml",
        "--listen",
        "127.0.0.1:1",
        "--set",
        "a.b=c",
        "--dev",
    ];
    let Command::Config(config::Config::Check(arguments)) = Cli::parse_from(line).command else {
        panic!("not a check")
    };
    let expected = Flags {
        ui_dir: None,
        config: Some("x.toml".into()),
        listen: Some("127.0.0.1:1".into()),
        data: None,
        set: vec!["a.b=c".into()],
        dev: true,
    };
    assert_eq!(arguments.flags(), expected);
}

/// The page's own example, and what it says about it.
#[test]
fn check_history_judges_files_as_its_page_says() {
    let page = include_str!("../../../../docs/operate/check-history.md");
    let block = |language: &str| {
        let (_, rest) = page.split_once(&format!("```{language}\n")).unwrap();
        rest.split_once("```").unwrap().0.to_owned()
    };
    let folder = Folder::new();
    let log = block("json");
    let (sent, told): (Vec<&str>, Vec<&str>) = log.lines().partition(|line| line.contains("\"publisher\""));
    let files =
        [folder.write("publisher.jsonl", &sent.join("\n")), folder.write("reader.jsonl", &told.join("\n"))];
    let check = |files: &[std::path::PathBuf], more: &[&str]| {
        run(pulsewire().arg("check-history").args(files).args(more))
    };
    let ended = check(&files, &[]);
    let shown = block("text");
    let shown = shown.split_once('\n').unwrap().1;
    let folder_name = format!("{}/", folder.path().display());
    assert_eq!((ended.code, ended.out.replace(&folder_name, "").as_str()), (Some(5), shown), "{}", ended.err);
    let json: serde_json::Value = serde_json::from_str(&check(&files, &["-o", "json"]).out).unwrap();
    assert_eq!(json["counts"], serde_json::json!({"lost": 1, "duplicate": 1}));
    assert_eq!(
        (&json["findings"][0]["kind"], &json["totals"]["published"]),
        (&"duplicate".into(), &4.into())
    );
    let clean = check(&files[..1], &[]);
    assert_eq!(
        (clean.code, clean.out.lines().last()),
        (Some(0), Some("✓ nothing lost, nothing twice, nothing out of order"))
    );
    let broken = folder.write("broken.jsonl", "{\"reader\": 1}\n");
    let refused = check(&[broken], &[]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.err.contains("broken.jsonl: line 1: not a record"), "{}", refused.err);
    assert_eq!(check(&[], &[]).code, Some(2), "which files?");
}

/// What `tail --record` writes is a log that can be judged, whole and not.
#[test]
fn a_tail_writes_down_what_it_is_told() {
    let server = Server::start("");
    for n in 1..=4 {
        server.publish(
            &serde_json::json!({"channel": "run:1", "type": "note", "data": n, "id": format!("m{n}")}),
        );
    }
    let folder = Folder::new();
    let log = folder.path().join("ada.jsonl");
    let mut tail = pulsewire();
    tail.args(["tail", "run:1", "--last", "4", "--limit", "4", "--type", "note", "--record"]).arg(&log);
    tail.args(["--url", &format!("ws://{}", server.address), "--token", &server.token("ada", Role::User)]);
    let ended = run(&mut tail);
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    let text = std::fs::read_to_string(&log).unwrap();
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told: Vec<String> =
        lines.iter().map(|line| format!("{} {}", line["type"].as_str().unwrap(), line["sequence"])).collect();
    assert_eq!(told, ["subscribed 0", "event 1", "event 2", "event 3", "event 4"]);
    assert!(lines.iter().all(|line| line["reader"] == "ada" && line["at_ms"].is_u64()), "{text}");
    assert_eq!(run(pulsewire().arg("check-history").arg(&log)).code, Some(0));
    let less: Vec<&str> = text.lines().filter(|line| !line.contains("\"m3\"")).collect();
    let ended = run(pulsewire().arg("check-history").arg(folder.write("less.jsonl", &less.join("\n"))));
    assert_eq!(ended.code, Some(5));
    assert!(ended.out.contains("✗ skipped without gap: run:1: from 2 to 4 without a gap"), "{}", ended.out);
}

/// What a program that reads a pipe of `tail` sees of a metric channel, and what a person is told who asks wrongly.
#[test]
fn a_tail_of_a_metric_channel_is_json_in_a_pipe_and_explains_what_cannot_be() {
    let server = Server::start("");
    server.publish_values(
        "system.metrics",
        pulsewire_edge::clock::now().wall_ms,
        &[("cpu.percent", 75.5), ("load.one", 1.5)],
    );
    let tail = |arguments: &[&str]| {
        let mut tail = pulsewire();
        tail.arg("tail").args(arguments).args(["--url", &format!("ws://{}", server.address)]);
        run(tail.args(["--token", &server.token("ada", Role::User)]))
    };
    let line = |arguments: &[&str]| -> serde_json::Value {
        let ended = tail(&[&["system.metrics", "--limit", "1", "--compression"], arguments].concat());
        assert_eq!((ended.code, ended.out.lines().count()), (Some(0), 1), "{} {}", ended.out, ended.err);
        serde_json::from_str(&ended.out).unwrap()
    };
    let cpu = ["--filter", r#"{"$name":"cpu.percent"}"#];
    let newest = line(&[&cpu[..], &["--tag", "host=server1", "--shape", "points"]].concat());
    assert_eq!((&newest["name"], &newest["value"]), (&"cpu.percent".into(), &75.5.into()), "{newest}");
    let grouped = line(&["--shape", "grouped"]);
    assert_eq!((&grouped["cpu"]["percent"], &grouped["load"]["one"]), (&75.5.into(), &1.5.into()));
    let past = line(&[&cpu[..], &["--history", "1m"]].concat());
    assert_eq!(
        (&past["type"], past["events"].as_array().map(Vec::len)),
        (&"history".into(), Some(1)),
        "{past}"
    );
    assert_eq!(
        (&past["events"][0]["name"], &past["events"][0]["p95"]),
        (&"cpu.percent".into(), &75.5.into())
    );

    for (arguments, code, words) in [
        (&["system.metrics", "--interval", "7s"][..], 2, "windows are 1s, 5s, 1m, 5m or 1h long"),
        (&["system.metrics", "--filter", "{host"], 2, "this is not JSON"),
        (&["system.metrics", "--history", "1m", "--last", "3"], 2, "cannot be used with"),
        (&["system.metrics", "--live"], 2, "--live draws on a terminal"),
        (&["run:1", "--interval", "5s"], 1, "`run:1` is not a metric channel"),
        (&["run:1", "--history", "1m"], 1, "--interval and --history are for metric channels"),
    ] {
        let ended = tail(arguments);
        assert_eq!((ended.code, ended.out.as_str()), (Some(code), ""), "{}", ended.err);
        assert!(ended.err.contains(words), "{arguments:?}: {}", ended.err);
    }
}
