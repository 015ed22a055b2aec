//! Settings: sources, provenance, refusals (rows G1, G2, G5 of the fault catalogue).

use std::{collections::BTreeSet, time::Duration};

use pulsewire::settings::{Origin, Settings, diff, docs_markdown, keys, table::environment_name};

use crate::support::{SECRET, World};

/// Exactly one problem, whose text holds every part.
#[track_caller]
fn refused(world: &World, parts: &[&str]) {
    let problems = world.problems();
    assert_eq!(problems.len(), 1, "{problems:#?}");
    for part in parts {
        assert!(problems[0].contains(part), "`{part}` is not in: {}", problems[0]);
    }
}

#[test]
fn every_default_is_within_its_range_and_every_variable_has_one_key() {
    let settings = World::new().settings();
    assert_eq!(settings.limits, Settings::default().limits);
    let mut names = BTreeSet::new();
    for key in keys() {
        assert!(names.insert(key.environment()), "{}", key.path);
        assert!(!key.help.trim().is_empty(), "{}", key.path);
        if key.secret {
            assert!(names.insert(format!("{}_FILE", key.environment())), "{}", key.path);
        }
        if !key.default.is_empty() {
            let set = World::new().env(&key.environment(), key.default);
            assert_eq!(set.problems(), [""; 0], "the default of {}", key.path);
        }
        for bound in key.range.map(|(low, high)| [low, high]).into_iter().flatten() {
            // Bounds that contradict another default are refused for that reason only.
            for problem in World::new().env(&key.environment(), bound).problems() {
                assert!(!problem.contains("expected"), "{}: {problem}", key.path);
            }
        }
    }
    assert_eq!(environment_name("heartbeat.interval"), "PULSEWIRE_HEARTBEAT_INTERVAL");
}

#[test]
fn a_stronger_source_wins_and_every_value_knows_where_it_is_from() {
    let file = "[heartbeat]\ninterval = \"20s\"\ntimeout = \"2s\"\n\n[log]\nlevel = \"debug\"\n";
    let world = World::new().toml(file).env("PULSEWIRE_HEARTBEAT_TIMEOUT", "3s").set("log.level=warn");
    let settings = world.settings();
    assert_eq!(settings.heartbeat.interval, Duration::from_secs(20));
    assert_eq!(settings.heartbeat.timeout, Duration::from_secs(3));
    assert_eq!(settings.log.level, "warn");
    let from = |path: &str| settings.origin(path).to_string();
    assert_eq!(from("heartbeat.interval"), "pulsewire.toml:2");
    assert_eq!(from("heartbeat.timeout"), "env PULSEWIRE_HEARTBEAT_TIMEOUT");
    assert_eq!(from("log.level"), "--set log.level");
    assert_eq!(from("server.listen"), "default");
    assert_eq!(from("auth.secret"), "env JWT_SECRET_KEY");
}

#[test]
fn the_variables_of_the_documents_are_understood() {
    let world = World::empty()
        .env("WS_HOST", "0.0.0.0")
        .env("WS_PORT", "3000")
        .env("WS_HEARTBEAT_INTERVAL", "15")
        .env("JWT_SECRET_KEY", SECRET)
        .env("JWT_ALGORITHM", "HS512")
        .env("RATE_LIMIT_MAX_MESSAGES_PER_MINUTE", "500")
        .env("REDIS_URL", "")
        .env("USE_NEW_WS_MANAGER", "false");
    let settings = world.settings();
    assert_eq!(settings.server.listen, "0.0.0.0:3000".parse().unwrap());
    assert_eq!(settings.heartbeat.interval, Duration::from_secs(15));
    assert_eq!(settings.auth.algorithm.as_str(), "HS512");
    assert_eq!(settings.limits.messages_per_minute, 500);
    assert_eq!(settings.origin("server.listen"), Origin::Environment("WS_HOST, WS_PORT".into()));
    let port = World::new().env("WS_PORT", "9000").settings().server.listen;
    assert_eq!(port, "127.0.0.1:9000".parse().unwrap());
    let host = World::new().env("WS_HOST", "::").settings().server.listen;
    assert_eq!(host, "[::]:8000".parse().unwrap());
}

/// Row 002-23.
#[test]
fn the_documents_variable_gives_a_share_of_upstream_streams_to_the_candidate() {
    let name = "USE_NEW_WS_MANAGER";
    for (value, on) in
        [("true", true), ("1", true), ("on", true), ("false", false), ("0", false), ("", false)]
    {
        assert_eq!(World::new().env(name, value).settings().features.upstream_manager, on, "{value}");
    }
    let settings = World::new().env(name, "true").settings();
    assert_eq!(settings.origin("features.upstream_manager"), Origin::Environment(name.into()));
    assert_eq!((settings.canary.share, settings.canary.ratio), (0.1, 1.5));
    assert_eq!((settings.canary.window, settings.canary.streams_min), (Duration::from_secs(180), 3));
    assert!(!settings.canary.rollback);
    refused(&World::new().env(name, "maybe"), &[name, "expected a boolean", "found `maybe`"]);
    let both = World::new().env(name, "true").env("PULSEWIRE_FEATURES_UPSTREAM_MANAGER", "false");
    refused(&both, &[name, "different values"]);
    for share in ["1.1", "-0.1", "nan", "10%"] {
        refused(&World::new().set(&format!("canary.share={share}")), &["`canary.share`: expected a"]);
    }
}

#[test]
fn the_documents_variable_names_the_redis_server_and_its_password_is_not_shown() {
    let settings = World::new().env("REDIS_URL", "rediss://app:geheim@redis.internal:6380/1").settings();
    assert_eq!(settings.redis.url.as_ref().unwrap().expose(), "rediss://app:geheim@redis.internal:6380/1");
    assert!(!format!("{} {settings:?}", settings.to_json()).contains("geheim"));
    assert!(World::new().settings().redis.url.is_none());
    let wrong = World::new().env("REDIS_URL", "http://app:geheim@redis.internal");
    refused(
        &wrong,
        &["redis.url", "REDIS_URL", "not the address of a Redis server", "redis://localhost:6379"],
    );
    assert!(!wrong.problems().join("\n").contains("geheim"));
    refused(&World::new().env("REDIS_URL", "redis://localhost").set("redis.patterns="), &["redis.patterns"]);
}

#[test]
fn streams_and_events_of_redis_are_checked_before_anything_is_read() {
    let with = |set: &str| World::new().env("REDIS_URL", "redis://localhost").set(set);
    let settings = with("redis.streams=orders=run:orders,notes").settings();
    assert_eq!(settings.redis.streams, ["orders=run:orders", "notes"]);
    refused(&World::new().set("redis.streams=orders"), &["redis.streams", "no Redis", "REDIS_URL"]);
    refused(&World::new().set("redis.events=a:*"), &["redis.events", "no Redis", "REDIS_URL"]);
    refused(&with("redis.streams=orders=no channel"), &["redis.streams", "is no channel", "KEY=CHANNEL"]);
    refused(&with("redis.streams=orders,orders=run:1"), &["redis.streams", "`orders` comes twice"]);
    let many: Vec<String> = (0..17).map(|n| format!("s{n}")).collect();
    refused(
        &with(&format!("redis.streams={}", many.join(","))),
        &["redis.streams", "17 streams, more than 16"],
    );
    refused(&with("redis.events=*.metrics"), &["redis.events", "stands in `redis.patterns`, too"]);
    refused(&with("redis.group="), &["redis.group", "a name is missing"]);
}

#[test]
fn the_documents_variable_names_the_database() {
    let settings = World::new().env("DATABASE_URL", "postgres://localhost/x").settings();
    assert_eq!(settings.store.url.unwrap().expose(), "postgres://localhost/x");
}

#[test]
fn two_variables_of_one_key_may_agree_but_not_differ() {
    let both = |one: (&str, &str), two: (&str, &str)| World::new().env(one.0, one.1).env(two.0, two.1);
    assert_eq!(both(("WS_PORT", "9000"), ("PULSEWIRE_SERVER_LISTEN", "0.0.0.0:9000")).problems(), [""; 0]);
    assert_eq!(
        both(("WS_HEARTBEAT_INTERVAL", "60"), ("PULSEWIRE_HEARTBEAT_INTERVAL", "1m")).problems(),
        [""; 0]
    );
    refused(
        &both(("WS_PORT", "9000"), ("PULSEWIRE_SERVER_LISTEN", "0.0.0.0:8000")),
        &["WS_PORT", "different"],
    );
    refused(
        &both(("WS_HEARTBEAT_INTERVAL", "30"), ("PULSEWIRE_HEARTBEAT_INTERVAL", "31s")),
        &[
            "WS_HEARTBEAT_INTERVAL and PULSEWIRE_HEARTBEAT_INTERVAL set `heartbeat.interval` to different values",
        ],
    );
    let secrets = World::new().env("PULSEWIRE_AUTH_SECRET", &SECRET.replace('9', "8"));
    refused(&secrets, &["JWT_SECRET_KEY and PULSEWIRE_AUTH_SECRET"]);
    assert!(!secrets.problems()[0].contains(&SECRET[..8]), "a secret is never shown");
}

/// Row G1: every mistake names the key, the place and what to do.
#[test]
fn a_mistake_in_the_file_names_its_line_and_the_nearest_key() {
    let table: &[(&str, &[&str])] = &[
        (
            "\n[heartbeat]\nintervall = \"5s\"",
            &["pulsewire.toml:3: unknown key `heartbeat.intervall`", "`heartbeat.interval`?"],
        ),
        (
            "[hearbeat]\ninterval = \"5s\"",
            &["pulsewire.toml:1: unknown key `hearbeat`", "section `[heartbeat]`"],
        ),
        ("interval = \"5s\"", &["pulsewire.toml:1: unknown key `interval`", "`heartbeat.interval`"]),
        ("zzz = 1", &["unknown key `zzz`", "the sections are server, tls, store, log, auth"]),
        ("heartbeat = 3", &["pulsewire.toml:1: `heartbeat`: expected a section, opened by `[heartbeat]`"]),
        (
            "[heartbeat]\ninterval = 5",
            &[
                "pulsewire.toml:2: `heartbeat.interval`: expected a duration with a unit (ms, s, m, h, d) such as \"30s\", found `5`",
            ],
        ),
        ("[heartbeat]\ninterval = \"5 bananas\"", &["found `\"5 bananas\"`"]),
        ("[heartbeat]\ninterval = \"2h\"", &["expected a value from 1s to 1h, found"]),
        ("[limits]\nconnections_max = \"1000\"", &["expected a whole number such as 1000, found"]),
        ("[limits]\nconnections_max = -1", &["expected a whole number"]),
        (
            "[limits]\nmessage_bytes_max = \"64 lemons\"",
            &["in bytes or with a unit (B, KiB, MiB, GiB) such as \"64KiB\""],
        ),
        ("[auth]\nrequired = \"maybe\"", &["`auth.required`: expected a boolean such as true"]),
        ("[auth]\nalgorithm = \"none\"", &["expected one of \"HS256\", \"HS384\"", "found `\"none\"`"]),
        ("[server]\nlisten = \"localhost\"", &["expected an address with a port such as \"127.0.0.1:8000\""]),
        ("[hook]\nurl = \"ftp://x\"", &["expected an http or https URL"]),
        ("[log]\nlevel = \"inof\"", &["`inof` is not a log level"]),
        ("[log]\nformat = json", &["pulsewire.toml:2: not TOML"]),
        ("[log]\nlevel = \"info\"\nlevel = \"warn\"", &["pulsewire.toml:3: not TOML", "duplicate"]),
        ("[[namespace]]\nname = \"a\"", &["`namespace.pattern`: every namespace needs one"]),
        (
            "[[namespace]]\nname = \"a\"\npatern = \"a:*\"\npattern = \"b\"",
            &["pulsewire.toml:3: unknown key `patern` in `[[namespace]]`", "`pattern`?"],
        ),
        (
            "[[namespace]]\nname = \"a\"\npattern = \"a b\"",
            &["`namespace.pattern`: expected a channel pattern"],
        ),
        ("[namespace]\nname = \"a\"", &["each opened by `[[namespace]]`"]),
        ("[upstream]\nname = \"a\"", &["`upstream`: expected tables, each opened by `[[upstream]]`"]),
        ("[[upstreams]]\nname = \"a\"", &["opened by `[upstreams]`", "opened by `[[upstream]]`"]),
        (
            "[[namespace]]\nname = \"a\"\npattern = \"b\"\nkind = \"queue\"",
            &["expected one of \"log\", \"ephemeral\", \"metrics\", \"state\""],
        ),
        ("[hook]\nchannel = \"nowhere\"", &["no namespace holds the channel `nowhere`"]),
        ("[hook]\nevents = [\"two words\"]", &["`two words` is not an event type"]),
        (
            "[limits]\nconnections_max = 10\nconnections_soft = 11",
            &["11 is more than `limits.connections_max`, 10"],
        ),
        ("[heartbeat]\ninterval = \"5s\"", &["`heartbeat.timeout`: longer than `heartbeat.interval`"]),
        (
            "[origins]\nallowed = [\"example.com\"]",
            &["`example.com` is not an origin", "https://app.example.com"],
        ),
        ("[server]\ninternal_listen = \"127.0.0.1:8000\"", &["the same address as `server.listen`"]),
    ];
    for (file, parts) in table {
        refused(&World::new().toml(file), parts);
    }
}

/// Row G1 for the environment and the command line.
#[test]
fn a_mistake_elsewhere_names_the_variable_or_the_flag() {
    refused(
        &World::new().env("PULSEWIRE_HEARTBEAT_INTERVALL", "5s"),
        &["unknown variable PULSEWIRE_HEARTBEAT_INTERVALL", "PULSEWIRE_HEARTBEAT_INTERVAL?"],
    );
    refused(
        &World::new().env("PULSEWIRE_LIMITS_CONNECTIONS_MAX", "many"),
        &["env PULSEWIRE_LIMITS_CONNECTIONS_MAX: `limits.connections_max`", "found `many`"],
    );
    refused(&World::new().env("PULSEWIRE_HEARTBEAT_INTERVAL", "30"), &["with a unit"]);
    refused(&World::new().env("WS_PORT", "eighty"), &["env WS_PORT", "a port such as 8000, found `eighty`"]);
    refused(&World::new().env("WS_HOST", "example.com"), &["env WS_HOST", "an IP address such as 0.0.0.0"]);
    refused(&World::new().set("heartbeat=5s"), &["--set heartbeat: unknown key `heartbeat`"]);
    refused(&World::new().set("heartbeat.interval"), &["expected --set KEY=VALUE"]);
    refused(&World::new().set("namespace.name=x"), &["`[[namespace]]` tables in the settings file"]);
    refused(&World::new().flags(|flags| flags.listen = Some("8000".into())), &["--listen: `server.listen`"]);
    refused(
        &World::new().flags(|flags| flags.config = Some("no.toml".into())),
        &["no.toml: cannot read the settings file"],
    );
    assert_eq!(
        World::new().env("PULSEWIRE_TOKEN", "t").env("PULSEWIRE_URL", "u").env("HOME", "/").problems(),
        [""; 0]
    );
}

#[test]
fn every_problem_is_reported_at_once() {
    let file = "[heartbeat]\nintervall = \"5s\"\n[limits]\nconnections_max = 0\n[auth]\nalgorithm = \"HS1\"";
    let problems =
        World::empty().toml(file).env("PULSEWIRE_NOPE", "1").env("USE_NEW_WS_MANAGER", "new").problems();
    let places = [
        "pulsewire.toml:2",
        "pulsewire.toml:4",
        "pulsewire.toml:6",
        "env USE_NEW_WS_MANAGER",
        "env PULSEWIRE_NOPE",
    ];
    assert_eq!(problems.len(), places.len(), "{problems:#?}");
    for (problem, place) in problems.iter().zip(places) {
        assert!(problem.starts_with(place), "{problem}");
    }
}

/// Row G2 and threat S32.
#[test]
fn weak_keys_are_refused_outside_dev_and_named_inside() {
    refused(&World::empty(), &["`auth.secret`: not set", "openssl rand -hex 32", "--dev"]);
    let table = [
        ("your-secret-key", "sample"),
        ("secret", "sample"),
        ("changeme", "sample"),
        ("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "repeats itself"),
        ("0123456789abcdef0123456789abcde", "31 bytes, at least 32"),
    ];
    for (secret, part) in table {
        let world = World::empty().env("JWT_SECRET_KEY", secret);
        refused(&world, &["env JWT_SECRET_KEY: `auth.secret`", part]);
        let notices = world.dev().settings().notices();
        assert!(notices.iter().any(|notice| notice.contains("signing key is weak")), "{notices:?}");
    }
}

#[test]
fn dev_makes_one_key_per_process_and_relaxes_the_limits_of_one_machine() {
    let sources = World::empty().dev().sources();
    let (one, again) = (Settings::load(&sources).unwrap(), Settings::load(&sources).unwrap());
    assert_eq!(one.auth.secret, again.auth.secret, "a reload keeps the key");
    assert_ne!(one.auth.secret, World::empty().dev().settings().auth.secret);
    assert_eq!(one.origin("auth.secret"), Origin::Dev);
    assert_eq!((one.limits.connections_per_address, one.limits.connections_per_user), (0, 0));
    assert!(one.namespaces.iter().any(|namespace| namespace.name == "demo"));
    let set = World::empty().dev().set("limits.connections_per_user=7").settings();
    assert_eq!(set.limits.connections_per_user, 7);
    assert_eq!(World::new().dev().settings().auth.secret.unwrap().expose(), SECRET);
}

#[test]
fn dev_listens_elsewhere_only_when_the_flag_insists() {
    refused(
        &World::empty().dev().env("WS_HOST", "0.0.0.0"),
        &["env WS_HOST", "--dev is not made for that", "`--listen`"],
    );
    let insisted = World::empty().dev().flags(|flags| flags.listen = Some("0.0.0.0:8000".into()));
    assert!(insisted.settings().notices().iter().any(|notice| notice.contains("without TLS")));
    assert!(World::new().env("WS_HOST", "0.0.0.0").settings().notices()[0].contains("without TLS"));
    assert_eq!(World::new().settings().notices(), [""; 0]);
}

/// Threat S1.
#[test]
fn a_scrapers_token_that_no_header_can_carry_is_refused() {
    let problems = |token: &str| World::new().set(&format!("metrics.token={token}")).problems();
    assert_eq!(problems("9f86d081884c7d65"), [""; 0]);
    for token in ["two words", "a,b", "schlüssel"] {
        let [problem] = &problems(token)[..] else { panic!("{token} is taken") };
        assert!(problem.contains("no Authorization header can carry"), "{problem}");
    }
}

#[test]
fn cookies_with_any_origin_are_refused_outside_dev() {
    let world = World::new().set("auth.cookie=session").set("origins.allowed=*");
    refused(&world, &["lets every web page act as its visitor"]);
    assert_eq!(world.dev().problems(), [""; 0]);
    assert_eq!(
        World::new().set("auth.cookie=session").set("origins.allowed=https://a.example").problems(),
        [""; 0]
    );
}

#[test]
fn a_secret_can_be_kept_in_a_file_of_its_own() {
    let files = World::empty().file("key", &format!("{SECRET}\n"));
    for world in [
        files.clone().toml("[auth]\nsecret_file = \"key\""),
        files.clone().env("PULSEWIRE_AUTH_SECRET_FILE", "key"),
        files.clone().env("JWT_SECRET_KEY_FILE", "key"),
        files.clone().set("auth.secret_file=key"),
        files.clone().toml("[auth]\nsecret = \"weak\"").env("JWT_SECRET_KEY_FILE", "key"),
    ] {
        assert_eq!(world.settings().auth.secret.unwrap().expose(), SECRET);
    }
    refused(&World::empty().set("auth.secret_file=nowhere"), &["`auth.secret_file`: cannot read `nowhere`"]);
    let both = format!("[auth]\nsecret = \"{SECRET}\"\nsecret_file = \"key\"");
    refused(&files.clone().toml(&both), &["`auth.secret` and `auth.secret_file` are both set", "keep one"]);
    refused(&files.env("JWT_SECRET_KEY", SECRET).env("PULSEWIRE_AUTH_SECRET_FILE", "key"), &["are both set"]);
}

/// Threat S31.
#[test]
fn nothing_that_is_printed_holds_a_secret() {
    let canary = "canary-7c1d9be04f6a4c2e8b3d5f7a9c1e3b5d";
    let keys = "[[auth.api_keys]]\nid = \"ci\"\nsha256 = \"HASH\"\npublish = [\"run:*\"]"
        .replace("HASH", &"0f".repeat(32));
    let world = World::empty()
        .toml(&keys)
        .env("JWT_SECRET_KEY", canary)
        .env("PULSEWIRE_HOOK_SECRET", canary)
        .env("PULSEWIRE_METRICS_TOKEN", canary);
    let settings = world.settings();
    let printed =
        [settings.to_table(), settings.to_toml(), settings.to_json().to_string(), format!("{settings:?}")];
    for text in printed {
        assert!(!text.contains("canary-7c1d"), "{text}");
        assert!(!text.contains(&"0f".repeat(8)), "{text}");
    }
}

#[test]
fn what_is_printed_as_a_file_can_be_loaded_again() {
    let file = "[heartbeat]\ninterval = \"20s\"\n[collector]\ntags = { region = \"eu\" }\n\
                [auth]\ndefault_grants = { \"run:*\" = [\"subscribe\"] }\n[[namespace]]\nname = \"chat\"\npattern = \"chat:*\"\nanonymous = true";
    let settings = World::new().toml(file).settings();
    let again = World::new().toml(&settings.to_toml()).settings();
    assert_eq!(diff(&settings, &again), []);
}

#[test]
fn namespaces_of_the_file_come_before_shipped_ones_and_replace_them_by_name() {
    let file = "[[namespace]]\nname = \"run\"\npattern = \"run:*\"\nkind = \"ephemeral\"\n[[namespace]]\nname = \"chat\"\npattern = \"chat:*\"";
    let names: Vec<_> = World::new().toml(file).settings().namespaces.into_iter().map(|it| it.name).collect();
    assert_eq!(names, ["sys", "run", "chat", "project", "workspace", "system", "metrics", "upstream"]);
    refused(&World::new().toml(&file.replace("\"chat\"", "\"run\"")), &["two namespaces are named `run`"]);
}

#[test]
fn the_servers_own_channels_are_nobody_elses() {
    let table = |name: &str, pattern: &str| {
        World::new()
            .toml(&format!("[[namespace]]\nname = \"{name}\"\npattern = \"{pattern}\"\nanonymous = true"))
    };
    refused(&table("mine", "$sys.*"), &["channels that begin with `$` are the server's own"]);
    refused(&table("sys", "sys:*"), &["`sys` is the server's own namespace"]);
    let settings = table("all", "*").settings();
    let channel = pulsewire_protocol::ChannelName::parse("$sys.overview").unwrap();
    let found = pulsewire::settings::namespace_of(&settings.namespaces, &channel).unwrap();
    assert_eq!(
        (&*found.name, found.anonymous),
        ("sys", false),
        "a pattern for everything does not take them"
    );
}

#[test]
fn api_keys_come_from_the_settings_and_from_a_file() {
    let hash = "0f".repeat(32);
    let one = |table: &str, id: &str| {
        format!("[[{table}]]\nid = \"{id}\"\nsha256 = \"{hash}\"\npublish = [\"*\"]\n")
    };
    let world = World::new().set("auth.api_keys_file=keys").toml(&one("auth.api_keys", "a"));
    let ids =
        |settings: Settings| settings.auth.api_keys.iter().map(|key| key.id.to_string()).collect::<Vec<_>>();
    assert_eq!(ids(world.clone().file("keys", &one("api_keys", "b")).settings()), ["a", "b"]);
    refused(&world.clone().file("keys", &one("api_keys", "a")), &["API key `a` is also in `auth.api_keys`"]);
    refused(&world.clone().file("keys", "[[api_key]]\nid = \"x\""), &["unknown key `api_key`"]);
    refused(&world, &["`auth.api_keys_file`: cannot read `keys`"]);
}

/// Row G5, as far as it needs no server.
#[test]
fn a_reload_knows_what_changed_and_what_needs_a_restart() {
    let before = World::new().settings();
    assert_eq!(diff(&before, &World::new().settings()), []);
    let after = World::new()
        .set("limits.messages_per_minute=5")
        .set("server.shards=3")
        .toml("[[namespace]]\nname = \"a\"\npattern = \"a\"")
        .env("PULSEWIRE_HOOK_SECRET", "new")
        .settings();
    let changes: Vec<_> = diff(&before, &after).into_iter().map(|it| (it.path, it.reloadable)).collect();
    let expected = [
        ("server.shards", false),
        ("limits.messages_per_minute", true),
        ("hook.secret", true),
        ("namespace", false),
    ];
    assert_eq!(changes, expected);
}

#[test]
fn the_soft_limit_follows_a_lowered_hard_one() {
    assert_eq!(World::new().set("limits.connections_max=1000").settings().limits.connections_soft, 800);
    assert_eq!(World::new().set("limits.connections_max=50000").settings().limits.connections_soft, 8_000);
}

#[test]
fn the_documentation_names_every_key_and_variable() {
    let text = docs_markdown();
    for key in keys() {
        assert!(text.contains(&key.environment()), "{}", key.path);
        for variable in key.documents {
            assert!(text.contains(variable.name), "{}", variable.name);
        }
    }
}
