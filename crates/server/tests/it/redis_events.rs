//! Events from a real Redis: entries of streams, each in the log once whatever is killed, and what is published.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use pulsewire::auth::Role;
use serde_json::{Value, json};

use crate::child::{Folder, Process, pulsewire};
use crate::database::Database;
use crate::harness::{Server, bearer, until};
use crate::redis::Redis;

const LOG: &str = "[[namespace]]\nname = \"run\"\npattern = \"run:*\"\nhistory_max = 100000\n";
const GROUP: &str = "pulsewire";

/// Settings with one stream, `orders`, whose entries are for `run:1` if they do not say.
fn settings(redis: &Redis, consumer: &str, further: &str) -> String {
    format!(
        "[redis]\nurl = \"{}\"\nstreams = [\"orders=run:1\"]\nevents = [\"back-end:*\"]\nconsumer = \"{consumer}\"\n\
         {further}\n{LOG}",
        redis.url()
    )
}

/// The events of `run:1`, whatever asks for them: their payloads, in their order.
fn log(ask: impl Fn(&str) -> Value) -> Vec<Value> {
    let mut log = Vec::new();
    loop {
        let page = ask(&format!("/api/channels/run:1/events?after={}&limit=1000", log.len()));
        let events = page["events"].as_array().unwrap_or_else(|| panic!("{page}")).clone();
        if events.is_empty() {
            return log;
        }
        log.extend(events.iter().map(|event| event["data"].clone()));
    }
}

fn log_of(server: &Server) -> Vec<Value> {
    let headers = bearer(&server.token("ada", Role::User));
    log(|path| server.http("GET", path, &headers, "").json())
}

fn add(redis: &Redis, number: u64) {
    redis.ask(&["XADD", "orders", "*", "type", "note", "data", &number.to_string()]);
}

/// How many entries the group has not acknowledged.
fn pending(redis: &Redis) -> Value {
    redis.ask(&["XPENDING", "orders", GROUP])[0].clone()
}

fn numbers(of: impl IntoIterator<Item = u64>) -> Vec<Value> {
    of.into_iter().map(Value::from).collect()
}

#[test]
fn entries_become_events_and_those_that_cannot_are_kept_aside_with_the_reason() {
    let Some(redis) = Redis::start() else { return };
    redis.ask(&["XADD", "orders", "*", "type", "note", "data", "\"before the first start\""]);
    let server = Server::start(&settings(&redis, "one", ""));
    let whole = json!({"channel": "run:1", "type": "note", "data": {"a": 1}, "id": "mine"}).to_string();
    redis.ask(&["XADD", "orders", "*", "event", &whole]);
    redis.ask(&["XADD", "orders", "*", "event", &whole]);
    let id = redis.ask(&["XADD", "orders", "*", "channel", "nowhere", "type", "note", "data", "5"]);
    redis.ask(&["XADD", "orders", "*", "type", "no type"]);
    let sample = r#"{"name":"cpu","value":1.5}"#;
    redis.ask(&["XADD", "orders", "*", "channel", "a.metrics", "samples", sample]);
    redis.ask(&["XADD", "orders", "*", "type", "note", "data", "7"]);
    server.wait_metric("pulsewire_redis_acknowledged_total", 7.0);
    assert_eq!(log_of(&server), [json!("before the first start"), json!({"a": 1}), json!(7)]);
    assert_eq!(pending(&redis), 0);
    let count = |series: &str| server.metric(series);
    assert_eq!(count("pulsewire_redis_refused_total{reason=\"channel\"}"), 1.0);
    assert_eq!(count("pulsewire_redis_refused_total{reason=\"malformed\"}"), 1.0);
    assert_eq!(count("pulsewire_samples_total{source=\"redis\"}"), 1.0);
    let aside = redis.ask(&["XRANGE", "orders:refused", "-", "+"]);
    let fields = [
        json!("refused_id"),
        id,
        json!("refused_code"),
        json!("unknown_channel"),
        json!("refused_reason"),
        aside[0][1][5].clone(),
        json!("channel"),
        json!("nowhere"),
        json!("type"),
        json!("note"),
        json!("data"),
        json!("5"),
    ];
    assert_eq!(aside[0][1], json!(fields));
    assert!(aside[0][1][5].as_str().unwrap().contains("nowhere"), "{aside}");
    assert_eq!((aside.as_array().unwrap().len(), &aside[1][1][3]), (2, &json!("bad_request")));
    // A stream that somebody deletes, group and all, is made anew.
    redis.ask(&["DEL", "orders"]);
    until("the group is there again", || redis.ask(&["XINFO", "GROUPS", "orders"])[0].is_array());
    add(&redis, 8);
    server.wait_metric("pulsewire_redis_acknowledged_total", 8.0);
    assert_eq!(log_of(&server).last(), Some(&json!(8)));
    server.wait_metric("pulsewire_redis_stream_pending_entries", 0.0);
}

/// Adds entries from 1 on, whoever is killed meanwhile: an entry whose addition nobody confirmed is added again under
/// its id, which Redis takes once.
fn produce(redis: impl Fn() -> Option<Value>, added: &AtomicU64) {
    // It was there already.
    let twice =
        |answer: &Value| answer["error"].as_str().is_some_and(|error| error.contains("equal or smaller"));
    if let Some(answer) = redis()
        && (answer.is_string() || twice(&answer))
    {
        added.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn every_entry_is_in_the_log_once_and_in_order_though_redis_and_the_gateway_are_killed() {
    const STEP: u64 = 400;
    let Some(redis) = Redis::kept() else { return };
    let folder = Folder::new();
    let file = folder.write("settings.toml", &settings(&redis, "one", "in_flight_max = 50"));
    let start = || {
        let data = folder.path().to_str().unwrap();
        let process =
            Process::serve(pulsewire(), &["--dev", "--data", data, "--config", file.to_str().unwrap()]);
        let dev: Value =
            serde_json::from_str(&std::fs::read_to_string(folder.path().join("dev.json")).unwrap()).unwrap();
        let headers = bearer(dev["token"].as_str().unwrap());
        (process, headers)
    };
    let (added, end) = (AtomicU64::new(0), AtomicBool::new(false));
    let redis = parking_lot::RwLock::new(redis);
    let length = |process: &Process, headers: &str| {
        log(|path| process.http("GET", path, headers, "").json()).len() as u64
    };
    let (mut process, mut headers) = start();
    std::thread::scope(|scope| {
        let producer = scope.spawn(|| {
            while !end.load(Ordering::SeqCst) {
                let number = added.load(Ordering::SeqCst) + 1;
                let (id, data) = (format!("{number}-0"), number.to_string());
                let add = || redis.read().try_ask(&["XADD", "orders", &id, "type", "note", "data", &data]);
                produce(add, &added);
            }
        });
        for round in 0..4 {
            let enough = length(&process, &headers) + STEP;
            until("more came", || length(&process, &headers) >= enough);
            if round % 2 == 0 {
                process.signal("KILL");
                process.wait();
                (process, headers) = start();
            } else {
                let mut redis = redis.write();
                redis.kill();
                redis.start_again();
            }
        }
        end.store(true, Ordering::SeqCst);
        producer.join().unwrap();
    });
    let last = added.load(Ordering::SeqCst);
    until("all are there", || length(&process, &headers) >= last);
    until("all are acknowledged", || pending(&redis.read()) == 0);
    assert_eq!(log(|path| process.http("GET", path, &headers, "").json()), numbers(1..=last));
    assert!(last > 4 * STEP);
    assert_eq!(redis.read().ask(&["EXISTS", "orders:refused"]), 0);
}

#[test]
fn nodes_that_share_a_store_share_the_entries_of_a_stream_and_one_takes_what_is_published() {
    const COUNT: u64 = 2_000;
    let (Some(redis), Some(database)) = (Redis::start(), Database::shared()) else { return };
    let store = format!("in_flight_max = 20\n[store]\nurl = \"{}\"", database.fresh_url());
    let mut nodes = ["one", "two"].map(|consumer| Server::start(&settings(&redis, consumer, &store)));
    for node in &nodes {
        node.wait_metric("pulsewire_redis_streams_connected", 1.0);
    }
    (0..COUNT).for_each(|number| add(&redis, number));
    let acknowledged = |nodes: &[Server]| {
        nodes.iter().map(|node| node.metric("pulsewire_redis_acknowledged_total")).collect::<Vec<_>>()
    };
    until("all are acknowledged", || acknowledged(&nodes).iter().sum::<f64>() == COUNT as f64);
    assert!(acknowledged(&nodes).iter().all(|count| *count > 0.0), "{:?}", acknowledged(&nodes));
    let mut kept = log_of(&nodes[0]);
    kept.sort_by_key(Value::as_u64);
    assert_eq!(kept, numbers(0..COUNT));

    // Of both, one takes each message, with or without an id.
    for node in &nodes {
        node.wait_metric("pulsewire_redis_connected", 1.0);
    }
    let note = |number: u64| json!({"channel": "run:1", "type": "note", "data": number});
    let taken = |nodes: &[Server]| {
        nodes
            .iter()
            .map(|node| node.metric("pulsewire_publish_total{source=\"redis\",outcome=\"accepted\"}"))
            .sum::<f64>()
    };
    let before = taken(&nodes);
    assert_eq!(
        redis.publish("back-end:a", &json!([note(COUNT), note(COUNT)]).to_string()),
        2,
        "both hear it"
    );
    until("it is taken", || taken(&nodes) == before + 2.0);
    redis.publish("back-end:a", &note(COUNT + 1).to_string());
    until("it is taken", || taken(&nodes) >= before + 3.0);
    // The one that takes them goes. The other hears messages in their order, so had it taken the first ones, too, they
    // would be there before those that it takes now.
    let holder = redis.ask(&["GET", "pulsewire:reader:pulsewire"]);
    let at = usize::from(holder == "two");
    nodes[at].stop(std::time::Duration::ZERO);
    let other = if at == 0 { "two" } else { "one" };
    until("the other takes over", || redis.ask(&["GET", "pulsewire:reader:pulsewire"]) == other);
    let mut data = COUNT + 2;
    // It asks each second whether it is its turn, so it misses the first.
    until("the other has it", || {
        assert_eq!(redis.publish("back-end:a", &note(data).to_string()), 1);
        data += 1;
        log_of(&nodes[1 - at]).len() as u64 > COUNT + 3
    });
    let kept = log_of(&nodes[1 - at]);
    let times = |number: u64| kept.iter().filter(|data| **data == number).count();
    assert_eq!((times(COUNT), times(COUNT + 1)), (2, 1), "two events of one message, and one");
}

#[test]
fn entries_of_a_consumer_that_died_are_claimed_and_what_the_store_refuses_is_tried_again() {
    let (Some(redis), Some(database)) = (Redis::start(), Database::start(&["fsync=off"])) else { return };
    redis.ask(&["XGROUP", "CREATE", "orders", GROUP, "0", "MKSTREAM"]);
    (0..10).for_each(|number| add(&redis, number));
    redis.ask(&["XREADGROUP", "GROUP", GROUP, "dead", "COUNT", "5", "STREAMS", "orders", ">"]);
    let store = format!("claim_after = \"1s\"\n[store]\nurl = \"{}\"", database.fresh_url());
    let server = Server::start(&settings(&redis, "one", &store));
    server.wait_metric("pulsewire_redis_acknowledged_total", 10.0);
    assert_eq!(server.metric("pulsewire_redis_claimed_total"), 5.0);
    let mut kept = log_of(&server);
    kept.sort_by_key(Value::as_u64);
    assert_eq!(kept, numbers(0..10));

    database.stop("fast");
    add(&redis, 10);
    add(&redis, 11);
    until("it is tried again", || server.metric("pulsewire_redis_retries_total") > 0.0);
    assert_ne!(pending(&redis), 0, "nothing is acknowledged that is not kept");
    database.start_again();
    server.wait_metric("pulsewire_redis_acknowledged_total", 12.0);
    assert_eq!(log_of(&server)[10..], numbers(10..12), "in their order");
    assert_eq!(pending(&redis), 0);
    assert_eq!(server.metric("pulsewire_redis_claimed_total"), 5.0, "nobody claims what is worked on");
}

#[test]
fn what_is_published_is_events_as_http_takes_them_and_what_is_none_is_counted() {
    let Some(redis) = Redis::start() else { return };
    let cursors = "[[namespace]]\nname = \"cursors\"\npattern = \"cursor:*\"\nkind = \"ephemeral\"";
    let server = Server::start(&settings(&redis, "one", cursors));
    server.wait_metric("pulsewire_redis_connected", 1.0);
    let mut socket = server.welcomed("ada");
    socket.say(&json!({"type": "subscribe", "channels": ["cursor:1"]}));
    assert_eq!(socket.json()["type"], "subscribed");
    let event = |channel: &str, id: &str| json!({"channel": channel, "type": "note", "data": id, "id": id});
    assert_eq!(
        redis.publish("back-end:a", &json!([event("run:1", "a"), event("run:1", "b")]).to_string()),
        1
    );
    redis.publish("back-end:b", &event("run:1", "a").to_string());
    redis.publish("back-end:b", &event("cursor:1", "c").to_string());
    assert_eq!(socket.json()["data"], "c");
    let outcome = |outcome: &str, count: f64| {
        server.wait_metric(
            &format!("pulsewire_publish_total{{source=\"redis\",outcome=\"{outcome}\"}}"),
            count,
        );
    };
    outcome("accepted", 3.0);
    outcome("duplicate", 1.0);
    assert_eq!(log_of(&server), [json!("a"), json!("b")]);
    for wrong in
        ["{", "[]", "5", &event("nowhere", "a").to_string(), &event("$sys.overview", "a").to_string()]
    {
        redis.publish("back-end:b", wrong);
    }
    server.wait_metric("pulsewire_redis_refused_total{reason=\"malformed\"}", 3.0);
    server.wait_metric("pulsewire_redis_refused_total{reason=\"channel\"}", 2.0);
    outcome("rejected", 5.0);
}
