//! Upstreams in the settings: what they become, what is refused and where that is said.

use std::path::Path;

use pulsewire::settings::{Declared, Settings, diff, upstream};
use pulsewire_sources::upstream::{Codec, Overflow, Upstream};
use serde_json::{Map, Value, json};

use crate::support::World;

/// An upstream with everything it needs, and these further lines.
fn table(name: &str, lines: &str) -> String {
    format!(
        "[[upstream]]\nname = \"{name}\"\nurls = [\"wss://feed.example/ws\"]\nchannel = \"upstream:{name}\"\n{lines}\n"
    )
}

fn canary(name: &str, lines: &str) -> String {
    format!("[[upstream]]\nname = \"{name}\"\ntrack = \"canary\"\n{lines}\n")
}

/// Exactly one problem, whose text holds every part.
#[track_caller]
fn refused(file: &str, parts: &[&str]) {
    let problems = World::new().toml(file).problems();
    assert_eq!(problems.len(), 1, "{problems:#?}\n{file}");
    for part in parts {
        assert!(problems[0].contains(part), "`{part}` is not in: {}", problems[0]);
    }
}

fn only(file: &str) -> Declared {
    let settings = World::new().toml(file).settings();
    let [declared] = &settings.upstreams[..] else { panic!("{:?}", settings.upstreams) };
    declared.clone()
}

const WHOLE: &str = r#"
[[upstream]]
name = "ticker"
urls = ["wss://a.example/ws/{key}?v=2", "wss://b.example/ws/{key}?v=2"]
channel = "upstream:ticker:{key}"
keys = ["BTC", "ETH"]
always = true
idle = "1m"
headers = ["Authorization: Bearer {secret}", "X-Client: pulsewire"]
secret_file = "feed.key"
subprotocol = "v2.feed"
ca_file = "feed.pem"
allow_private = true
connect_timeout = "3s"
greeting = ['{"op":"hello","key":"{secret}"}', '{"op":"geheim"}']
subscribe = '{"op":"sub","args":{keys},"id":{n}}'
unsubscribe = '{"op":"unsub","args":["{key}"]}'
ping_interval = "5s"
ping_message = '{"op":"ping","at":{time_ms}}'
silence = "20s"
retry_min = "1s"
retry_max = "1m"
retry_factor = 1.5
attempts_max = 9
stable_after = "2m"
circuit_failures = 4
circuit_open = "40s"
codec = "msgpack"
each = "/data"
only = ["/event=trade", "/ok=true"]
route = "{/symbol}"
data = "/payload"
type = "trade.{/side}"
key = "{/symbol}"
id = "{/id}"
time = "/at"
sequence = "/last"
sequence_first = "/first"
message_bytes_max = "64KiB"
messages_per_second = 50
overflow = "wait"
"#;

#[test]
fn every_key_of_a_table_becomes_what_it_says() {
    let declared = only(WHOLE);
    let found = &*declared.stable;
    assert_eq!(declared.candidate, None);
    assert_eq!((&*found.name, found.channel.as_str()), ("ticker", "upstream:ticker:{key}"));
    assert_eq!(found.urls[1].as_str(), "wss://b.example/ws/{key}?v=2");
    assert_eq!(found.keys, ["BTC", "ETH"].map(Box::from));
    assert_eq!((found.always, found.idle_ms, found.allow_private), (true, 60_000, true));
    assert_eq!((&*found.headers[0].0, found.headers[0].1.as_str()), ("Authorization", "Bearer {secret}"));
    assert_eq!(found.secret_file.as_deref(), Some(Path::new("feed.key")));
    assert_eq!(found.ca_file.as_deref(), Some(Path::new("feed.pem")));
    assert_eq!((found.subprotocol.as_deref(), found.connect_timeout_ms), (Some("v2.feed"), 3_000));
    assert_eq!(found.greeting.len(), 2);
    let text = |template: &Option<pulsewire_sources::upstream::Template>| {
        template.as_ref().unwrap().as_str().to_owned()
    };
    assert_eq!(text(&found.subscribe), r#"{"op":"sub","args":{keys},"id":{n}}"#);
    assert_eq!(text(&found.unsubscribe), r#"{"op":"unsub","args":["{key}"]}"#);
    assert_eq!((found.heartbeat.interval_ms, found.heartbeat.silence_ms), (5_000, 20_000));
    assert_eq!(text(&found.heartbeat.message), r#"{"op":"ping","at":{time_ms}}"#);
    let retry = &found.retry;
    assert_eq!((retry.min_ms, retry.max_ms, retry.factor), (1_000, 60_000, 1.5));
    assert_eq!((retry.attempts_max, retry.stable_ms), (9, 120_000));
    assert_eq!((retry.circuit_failures, retry.circuit_ms), (4, 40_000));
    let mapping = &found.mapping;
    let place = |pointer: &Option<pulsewire_sources::upstream::Pointer>| {
        pointer.as_ref().unwrap().as_str().to_owned()
    };
    assert_eq!(mapping.codec, Codec::MessagePack);
    assert_eq!(
        (place(&mapping.each), place(&mapping.data), place(&mapping.time)),
        ("/data".into(), "/payload".into(), "/at".into())
    );
    assert_eq!((place(&mapping.sequence), place(&mapping.sequence_first)), ("/last".into(), "/first".into()));
    assert_eq!((mapping.only[1].0.as_str(), &*mapping.only[1].1), ("/ok", "true"));
    assert_eq!(
        (text(&mapping.route), text(&mapping.event_type)),
        ("{/symbol}".into(), "trade.{/side}".into())
    );
    assert_eq!((text(&mapping.event_key), text(&mapping.id)), ("{/symbol}".into(), "{/id}".into()));
    assert_eq!((found.message_bytes_max, found.messages_per_second), (65_536, 50));
    assert_eq!(found.overflow, Overflow::Wait);
}

/// What nobody says is what `Upstream::new` says.
#[test]
fn a_short_table_has_the_defaults() {
    let declared = only(&table("news", ""));
    let same = Upstream::new("news", declared.stable.urls.clone(), declared.stable.channel.clone());
    assert_eq!(*declared.stable, same);
    let less = World::new().toml(&table("news", "")).set("upstreams.message_bytes_max=9KiB").settings();
    assert_eq!(less.upstreams[0].stable.message_bytes_max, 9 << 10, "the ceiling bounds the default, too");
}

#[test]
fn a_candidate_has_what_it_does_not_give_from_the_stable_table() {
    let file =
        canary("a", "retry_min = \"2s\"\nurls = [\"wss://new.example/ws\"]") + &table("a", "idle = \"7s\"");
    let declared = only(&file);
    let candidate = declared.candidate.unwrap();
    assert_eq!(
        (candidate.retry.min_ms, candidate.idle_ms, candidate.channel.as_str()),
        (2_000, 7_000, "upstream:a")
    );
    assert_eq!(candidate.urls[0].as_str(), "wss://new.example/ws");
    assert_eq!((declared.stable.retry.min_ms, declared.stable.idle_ms), (500, 7_000));
    // A value that is the default is given all the same.
    let default = only(&(table("a", "idle = \"7s\"") + &canary("a", "idle = \"30s\"")));
    assert_eq!(default.candidate.unwrap().idle_ms, 30_000);
}

#[test]
fn a_mistake_names_its_line_and_the_nearest_key() {
    let with = |lines: &str| table("a", lines);
    let url = |url: &str| format!("[[upstream]]\nname = \"a\"\nurls = [\"{url}\"]\nchannel = \"upstream:a\"");
    let channel = |channel: &str| {
        format!("[[upstream]]\nname = \"a\"\nurls = [\"wss://f.example\"]\nchannel = \"{channel}\"")
    };
    let table: &[(String, &[&str])] = &[
        (
            with("retry_mni = \"1s\""),
            &["pulsewire.toml:5: unknown key `retry_mni` in `[[upstream]]`", "`retry_min`?"],
        ),
        (with("zzz = 1"), &["unknown key `zzz`", "`pulsewire config doc` lists every key"]),
        (with("idle = 30"), &["pulsewire.toml:5: `upstream.idle`: expected a duration"]),
        (with("retry_factor = 0.5"), &["`upstream.retry_factor`: expected a value from 1 to 10"]),
        (with("codec = \"xml\""), &["expected one of \"json\", \"msgpack\", \"text\""]),
        (with("time = \"at\""), &["`upstream.time`: `at` is no JSON pointer"]),
        (
            with("headers = [\"Host: x\"]"),
            &["pulsewire.toml:5: `upstream.headers`: header 1: `Host` is the handshake's own"],
        ),
        (with("headers = [\"Sec-WebSocket-Protocol: x\"]"), &["set `subprotocol`"]),
        (with("headers = [\"X-A: a\\r\\nX-B: b\"]"), &["printable ASCII characters on one line"]),
        (
            with("headers = [\"X-A: {/symbol}\"]"),
            &["pulsewire.toml:5: `upstream.headers`: `X-A`: there is no message"],
        ),
        (with("headers = [\"X-A: {key}\"]"), &["`X-A` names `{key}`, but keys share a connection"]),
        (
            with("headers = [\"X-A: {secret}\"]"),
            &["pulsewire.toml:1: `upstream.secret_file`: `{secret}` is named"],
        ),
        (with("subprotocol = \"a b\""), &["pulsewire.toml:5: `upstream.subprotocol`: not the name"]),
        (with("subprotocol = \"a\\r\\nX-B: b\""), &["not the name of a subprotocol"]),
        (with("keys = [\"x\"]"), &["pulsewire.toml:5: `upstream.keys`: the channel names no `{key}`"]),
        (with("retry_min = \"2m\""), &["pulsewire.toml:1: `upstream.retry_max`: waits cannot shrink"]),
        (
            with("message_bytes_max = \"2MiB\""),
            &[
                "pulsewire.toml:5: `upstream.message_bytes_max`",
                "more than `upstreams.message_bytes_max`, 1048576",
            ],
        ),
        (
            "[[upstream]]\nname = \"a\"\nchannel = \"upstream:a\"".into(),
            &["pulsewire.toml:1: `upstream.urls`: every upstream needs one"],
        ),
        (
            "[[upstream]]\nname = \"a\"\nurls = [\"wss://f.example\"]".into(),
            &["`upstream.channel`: every upstream needs one"],
        ),
        (
            "[[upstream]]\nchannel = \"upstream:a\"\nurls = [\"wss://f.example\"]".into(),
            &["`upstream.name`: every upstream needs one"],
        ),
        ("[[upstream]]\ntrack = \"canary\"".into(), &["`upstream.name`: every upstream needs one"]),
        (
            with("").replace("\"a\"", "\"A b\""),
            &["pulsewire.toml:2: `upstream.name`: expected 1 to 64 of a-z"],
        ),
        (with("") + &with(""), &["pulsewire.toml:7: `upstream.name`: two upstreams are named `a`"]),
        (
            url("wss://a.example\", \"wss://b.example"),
            &["pulsewire.toml:1: `upstream.sequence`: two URLs need a sequence"],
        ),
        (
            url("wss://a.example\", \"wss://b.example\", \"wss://c.example"),
            &["`upstream.urls`: expected one URL, or two"],
        ),
        (
            url("https://a.example"),
            &["pulsewire.toml:3: `upstream.urls`: neither a ws nor a wss URL", "wss://feed.example/path"],
        ),
        (url("feed.example/ws"), &["not a URL"]),
        (url("wss://ann@a.example"), &["a user name in a URL is sent to nobody", "`headers`"]),
        (url("wss://ann:x@a.example"), &["a user name in a URL is sent to nobody"]),
        (url("wss://a.example/ws#top"), &["no fragment"]),
        (url("wss://a.example/{/symbol}"), &["there is no message to read yet"]),
        (
            url("wss://127.0.0.1:9000/ws"),
            &[
                "pulsewire.toml:3: `upstream.urls`: `127.0.0.1` is not a public address",
                "`upstreams.allow_private`",
            ],
        ),
        (url("wss://[::1]/ws"), &["is not a public address"]),
        (url("wss://169.254.169.254/latest"), &["is not a public address"]),
        (url("wss://10.1.2.3/"), &["is not a public address"]),
        (url("ws://localhost:9000"), &["`localhost` is not a public address"]),
        (url("ws://feed.localhost./"), &["is not a public address"]),
        (url("ws://2130706433/"), &["the host can be read in more than one way"]),
        (url("ws://0x7f.1/"), &["the host can be read in more than one way"]),
        (url("wss://good.example\\\\@10.0.0.1/"), &["not a URL"]),
        (
            channel("nowhere"),
            &["pulsewire.toml:4: `upstream.channel`: no namespace holds the channel `nowhere`"],
        ),
        (channel("feed.metrics"), &["`feed.metrics` is a metric channel (namespace `metrics`)"]),
        (channel("$sys.feed"), &["channels that begin with `$` are the server's own"]),
        (channel("two words"), &["makes no channel names"]),
        (channel("upstream:{key}"), &["pulsewire.toml:1: `upstream.route`: several keys share a connection"]),
        (canary("a", "idle = \"1s\""), &["pulsewire.toml:2: `upstream.name`: no stable table is named `a`"]),
        (
            with("") + &canary("a", "idle = \"1s\"") + &canary("a", ""),
            &["pulsewire.toml:11: `upstream.name`: `a` has two candidates"],
        ),
        (
            with("") + &canary("a", "channel = \"upstream:b\""),
            &["pulsewire.toml:9: `upstream.channel`: a candidate cannot change it"],
        ),
        (with("") + &canary("a", "always = true"), &["`upstream.always`: a candidate cannot change it"]),
        (
            with("") + &canary("a", "urls = [\"ws://10.0.0.1\"]"),
            &["pulsewire.toml:9: `upstream.urls`: `10.0.0.1`"],
        ),
        // Said once, though the candidate has it from there.
        (
            with("subprotocol = \"a b\"") + &canary("a", "idle = \"1s\""),
            &["pulsewire.toml:5: `upstream.subprotocol`"],
        ),
        (with("idle = 1") + &canary("a", "idle = \"1s\""), &["pulsewire.toml:5: `upstream.idle`"]),
    ];
    for (file, parts) in table {
        refused(file, parts);
    }
    let set = World::new().set("upstream.name=a").problems();
    assert!(set[0].contains("`[[upstream]]` tables in the settings file"), "{set:?}");
}

/// Subscribers choose keys: none may lead to another server.
#[test]
fn a_key_does_not_choose_the_server() {
    for url in [
        "wss://{key}/ws",
        "wss://{key}.example/ws",
        "wss://feed.example:{key}/",
        "{key}://a.example/",
        "wss://{secret}/",
        "wss://a{n}.example/{key}",
    ] {
        let file = format!(
            "[[upstream]]\nname = \"a\"\nurls = [\"{url}\"]\nchannel = \"upstream:{{key}}\"\nroute = \"{{/k}}\"\nsecret_file = \"k\""
        );
        let problems = World::new().toml(&file).problems();
        let said = |part: &str| problems.iter().any(|problem| problem.contains(part));
        assert!(
            said("subscribers choose keys") || said("not a URL") || said("neither a ws nor a wss URL"),
            "{url}: {problems:?}"
        );
    }
    let fine = "[[upstream]]\nname = \"a\"\nurls = [\"wss://a.example:8443/{key}/x?s={key}@t&k={secret}\"]\nchannel = \"upstream:{key}\"\nsecret_file = \"k\"";
    assert!(only(fine).stable.apart());
}

#[test]
fn private_addresses_are_allowed_for_one_or_for_all() {
    let file = table("a", "allow_private = true").replace("feed.example", "127.0.0.1:9000");
    assert!(only(&file).stable.allow_private);
    let all = World::new().toml(&file.replace("= true", "= false")).set("upstreams.allow_private=true");
    assert!(
        !all.settings().upstreams[0].stable.allow_private,
        "the settings of all are asked when it is used"
    );
}

#[test]
fn a_secret_that_can_be_read_on_the_way_is_noticed() {
    let secret = table("a", "secret_file = \"k\"\nheaders = [\"X-Key: {secret}\"]");
    let notices = |file: &str| World::new().toml(file).settings().notices().join("\n");
    assert!(!notices(&secret).contains("upstream"));
    assert!(notices(&secret.replace("wss:", "ws:")).contains("upstream `a` is sent its secret over ws"));
}

#[test]
fn a_reload_takes_upstreams_over_and_checks_them_against_the_namespaces_that_stay() {
    let before = World::new().settings();
    let world = World::new().toml(&table("a", ""));
    let after = world.settings();
    let changes: Vec<_> = diff(&before, &after).into_iter().map(|it| (it.path, it.reloadable)).collect();
    assert_eq!(changes, [("upstream", true)]);
    assert_eq!(diff(&after, &world.settings()), []);
    let candidate = World::new().toml(&(table("a", "") + &canary("a", "idle = \"1s\""))).settings();
    assert_eq!(diff(&after, &candidate).len(), 1);
    assert_eq!(after.clone().for_running(&before, &world.sources()).unwrap().upstreams, after.upstreams);
    // A namespace that the running server does not have yet cannot hold its channel.
    let file = table("a", "").replace("upstream:a", "feed:a")
        + "[[namespace]]\nname = \"feed\"\npattern = \"feed:*\"";
    let world = World::new().toml(&file);
    let problems = world.settings().for_running(&before, &world.sources()).unwrap_err();
    assert!(
        problems[0].to_string().starts_with("pulsewire.toml:4: `upstream.channel`: no namespace holds"),
        "{problems:?}"
    );
}

#[test]
fn what_is_printed_can_be_loaded_again_and_shows_no_secret() {
    let canary = canary("ticker", "retry_min = \"2s\"");
    let open = WHOLE
        .replace(", '{\"op\":\"geheim\"}'", "")
        .replace(", \"X-Client: pulsewire\"", "")
        .replace("?v=2", "");
    let settings = World::new().toml(&format!("{open}{canary}")).settings();
    let again = World::new().toml(&settings.to_toml()).settings();
    assert_eq!(diff(&settings, &again), []);
    let shown = &settings.to_json()["upstream.ticker.canary"];
    assert_eq!(shown["value"], json!({"name": "ticker", "track": "canary", "retry_min": "2s"}));
    assert_eq!(shown["from"], format!("pulsewire.toml:{}", open.lines().count() + 1));
    assert!(settings.to_table().contains("upstream.ticker.canary"));

    let secrets = table("a", "headers = [\"X-Key: geheim\"]\ngreeting = ['{\"auth\":\"geheim\"}']")
        .replace("/ws", "/ws?token=geheim&geheim&s={time_ms}");
    let settings = World::new().toml(&secrets).settings();
    for text in
        [settings.to_table(), settings.to_toml(), settings.to_json().to_string(), format!("{settings:?}")]
    {
        assert!(!text.contains("geheim"), "{text}");
    }
    let shown = &settings.to_json()["upstream.a"]["value"];
    assert_eq!(shown["urls"], json!(["wss://feed.example/ws?token=[redacted]&[redacted]&s={time_ms}"]));
    assert_eq!(shown["headers"], json!(["X-Key: [redacted]"]));
    // The file that is printed does not send `[redacted]` to anybody.
    assert!(settings.to_toml().contains("# urls = [\"wss://feed.example/ws?token=[redacted]"));
}

/// Both ways, with every key that the API takes.
#[test]
fn the_admin_api_reads_what_the_file_does() {
    let without = ["secret_file", "ca_file", "allow_private"];
    let file: String = WHOLE
        .replace("{secret}", "s")
        .lines()
        .filter(|line| !without.iter().any(|key| line.starts_with(key)))
        .map(|line| format!("{line}\n"))
        .collect();
    let settings = World::new().toml(&file).settings();
    let stable = &*settings.upstreams[0].stable;
    let given = upstream::to_json(stable, &settings);
    let keys = file.lines().filter(|line| line.contains(" = ") && !line.starts_with("name")).count();
    assert_eq!(given.len(), keys, "{given:?}");
    assert_eq!(upstream::of_json("ticker", &given, &settings).as_ref(), Ok(stable));
    let short = World::new().toml(&table("news", "")).settings();
    let given = upstream::to_json(&short.upstreams[0].stable, &short);
    assert_eq!(Value::from(given), json!({"urls": ["wss://feed.example/ws"], "channel": "upstream:news"}));
}

#[test]
fn the_admin_api_says_everything_that_is_wrong_and_reaches_no_file_and_no_private_network() {
    let settings = World::new().settings();
    let check = |given: Value, expected: &[&str]| {
        let mut whole = json!({"urls": ["wss://feed.example/ws"], "channel": "upstream:a"});
        whole.as_object_mut().unwrap().extend(given.as_object().unwrap().clone());
        let problems = said("a", whole.as_object().unwrap(), &settings);
        assert_eq!(problems.len(), expected.len(), "{problems:?}");
        for (problem, part) in problems.iter().zip(expected) {
            assert!(problem.contains(part), "`{part}` is not in: {problem}");
        }
    };
    check(json!({}), &[]);
    check(json!({"name": "a", "idle": null, "secret_file": null}), &[]);
    check(json!({"secret_file": "/etc/shadow"}), &["`secret_file`: only the settings file can say it"]);
    check(json!({"ca_file": "x"}), &["`ca_file`: only the settings file can say it"]);
    check(json!({"allow_private": true}), &["`allow_private`: only the settings file can say it"]);
    check(json!({"track": "canary"}), &["`track`: only the settings file can say it"]);
    check(json!({"urls": ["ws://10.0.0.1/"]}), &["`urls`: `10.0.0.1` is not a public address"]);
    check(json!({"message_bytes_max": "2MiB"}), &["`message_bytes_max`: 2097152 bytes are more than"]);
    check(json!({"headers": ["X: {secret}"]}), &["`secret_file`: `{secret}` is named"]);
    check(json!({"name": "b"}), &["`name`: another name than that of the path"]);
    check(
        json!({"idle": 5, "urlz": [], "codec": "xml"}),
        &[
            "`codec`: expected one of",
            "`idle`: expected a duration",
            "unknown key `urlz`\n    did you mean `urls`?",
        ],
    );
    check(json!({"attempts_max": 18_446_744_073_709_551_615_u64}), &["`attempts_max`: "]);
    check(json!({"only": {"a": "b"}}), &["`only`: expected a list of places"]);
    assert_eq!(said("a", &Map::new(), &settings).len(), 2, "the URL and the channel");
    let whole = json!({"urls": ["wss://feed.example/ws"], "channel": "upstream:a"});
    assert!(said("A/b", whole.as_object().unwrap(), &settings)[0].contains("`name`: expected 1 to 64"));
    // What the node allows everybody, the API may use.
    let private = json!({"urls": ["ws://10.0.0.1/"], "channel": "upstream:a"});
    let open = World::new().set("upstreams.allow_private=true").settings();
    assert_eq!(said("a", private.as_object().unwrap(), &open), [""; 0]);
}

fn said(name: &str, given: &Map<String, Value>, settings: &Settings) -> Vec<String> {
    let problems = upstream::of_json(name, given, settings).err().unwrap_or_default();
    problems.iter().map(ToString::to_string).collect()
}
