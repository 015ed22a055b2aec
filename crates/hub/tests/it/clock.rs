//! The clock that people set, and tokens that end all at once.

use std::collections::BTreeMap;

use pulsewire_hub::Limits;

use crate::scenarios::Scene;
use crate::sim::world::Connecting;

const DAY_MS: i64 = 86_400_000;
/// What a client asks again and again, and what it hears while it may.
const ASKED: &str = r#"{"type":"subscribe","channels":["run:9"]}"#;
const ANSWERED: &str = "subscribed run:9 @0";
const HOUR_MS: i64 = 3_600_000;

/// What may only grow: counters, and the sums and counts of histograms.
fn growing(scene: &mut Scene) -> BTreeMap<String, f64> {
    let grows = |name: &str| {
        let family = name.split('{').next().unwrap_or(name);
        // Of those who are there now: it follows them down.
        !family.starts_with("websocket_subscriptions")
            && ["_total", "_sum", "_count", "_bucket"].iter().any(|end| family.ends_with(end))
    };
    scene.0.numbers().into_iter().filter(|(name, _)| grows(name)).collect()
}

#[track_caller]
fn assert_grown(before: &BTreeMap<String, f64>, after: &BTreeMap<String, f64>) {
    for (name, value) in before {
        assert!(after[name] >= *value, "{name} fell from {value} to {}", after[name]);
    }
}

impl Scene {
    fn join_until(&mut self, user: &str, ends_ms: i64) -> usize {
        let client = self.client(user);
        let token = Some(format!("{user};expires={ends_ms}"));
        self.connect(client, Connecting { token, ..Connecting::default() });
        client
    }

    /// What a client has heard, without pings.
    fn told(&mut self, client: usize) -> String {
        let heard = self.heard(client);
        heard.split(" | ").filter(|line| *line != "PING").collect::<Vec<_>>().join(" | ")
    }
}

/// The wall clock jumps, the monotonic clock does not: rows C1 and C2.
fn jump(jump_ms: i64) {
    let limits = Limits { messages_per_minute: 60, ..Limits::default() };
    let mut scene = Scene::new(limits);
    let begin_ms = scene.0.now.wall_ms;
    let (forever, long) = (scene.join("ada"), scene.join_until("bob", begin_ms + 2 * DAY_MS));
    let short = scene.join_until("cyd", begin_ms + 2 * HOUR_MS);
    let limited = scene.join("dan");
    for client in [forever, long, short] {
        scene.say(client, r#"{"type":"subscribe","channels":["run:1"]}"#);
    }
    // One whose messages are used up, and one that will come back to its session.
    for _ in 0..100 {
        scene.say(limited, ASKED);
    }
    let away = scene.join("eve");
    let session = scene.0.clients[away].session.clone();
    scene.0.reset(away);
    scene.publish("run:1", 3);
    scene.wait(45_000);
    for client in [forever, long, short, limited] {
        scene.heard(client);
    }
    scene.say(limited, ASKED);
    let mut may = 0;
    while scene.heard(limited) == ANSWERED {
        scene.say(limited, ASKED);
        may += 1;
    }
    assert!(may > 1, "the bucket refills");
    let before = growing(&mut scene);

    scene.0.now.wall_ms += jump_ms;
    scene.0.settle();
    scene.say(limited, ASKED);
    assert_ne!(scene.heard(limited), ANSWERED, "the bucket is as empty as it was");
    scene.publish("run:1", 2);
    let after = growing(&mut scene);
    assert_grown(&before, &after);
    for client in [forever, long] {
        assert_eq!(scene.told(client), "event run:1 4 | event run:1 5", "the next places, and nothing else");
    }
    // The session of the one that is away waits as long as it would have.
    assert_eq!(scene.0.survey().sessions_detached, 1);
    let back = scene.client("eve");
    scene.0.clients[back].shared = true;
    let session = session.and_then(|id| pulsewire_protocol::SessionId::parse(&id).ok());
    scene.connect(back, Connecting { token: Some("eve".into()), session, ..Connecting::default() });
    assert_eq!(scene.heard(back), "connected resumed");
    assert_eq!(scene.0.survey().sessions_detached, 0, "it is the old session");

    // Two heartbeats later everybody was asked twice, and a token that ended is noticed.
    scene.wait(75_000);
    assert_eq!(scene.number("websocket_heartbeat_timeouts_total"), 0.0);
    assert_eq!([scene.told(forever), scene.told(long), scene.told(limited)], ["", "", ""]);
    let expired = jump_ms > 2 * HOUR_MS;
    let told = scene.told(short);
    assert_eq!(told.ends_with("error token_expired | close 4002"), expired, "{told}");
    assert_eq!(scene.0.clients[short].wire.is_some(), !expired);
    assert_grown(&after, &growing(&mut scene));
    let ends_ms = scene.0.now.wall_ms + HOUR_MS;
    let late = scene.join_until("fay", ends_ms);
    assert_eq!(scene.told(late), "welcome");
    assert!(scene.0.list().iter().all(|info| info.last_activity_ms <= scene.0.now.wall_ms));
}

/// Row C1.
#[test]
fn a_clock_that_is_set_forward_a_day_ends_tokens_and_nothing_else() {
    jump(DAY_MS);
}

/// Row C2.
#[test]
fn a_clock_that_is_set_back_an_hour_ends_nothing_and_makes_no_time_negative() {
    jump(-HOUR_MS);
}

/// Row C2, and a publisher whose clock was wrong once: the values of windows go on.
#[test]
fn values_of_windows_do_not_wait_for_a_time_that_was_already() {
    let mut scene = Scene::new(Limits::default());
    let client = scene.join("ada");
    scene.say(
        client,
        r#"{"type":"subscribe","data":{"channels":["system.metrics"],"aggregation_interval":"5s","shape":"grouped","tags":{"host":"*"}}}"#,
    );
    assert_eq!(scene.heard(client), "subscribed system.metrics");
    let minute = |scene: &mut Scene| {
        for _ in 0..60 {
            scene.0.publish_set("system.metrics");
            scene.wait(1_000);
        }
        scene.told(client).matches("values system.metrics").count()
    };
    assert!((11..=12).contains(&minute(&mut scene)));
    scene.0.now.wall_ms -= HOUR_MS;
    assert!((11..=13).contains(&minute(&mut scene)), "after the clock was set back");
    scene.0.now.wall_ms += DAY_MS;
    scene.0.publish_set("system.metrics");
    scene.0.now.wall_ms -= DAY_MS;
    assert!((11..=14).contains(&minute(&mut scene)), "after one that was a day ahead");
}

/// Row R3.
#[test]
fn tokens_that_end_together_are_refreshed_over_half_a_minute() {
    const CLIENTS: usize = 5_000;
    let mut scene = Scene::new(Limits::default());
    let ends_ms = scene.0.now.wall_ms + 120_000;
    let clients: Vec<usize> = (0..CLIENTS).map(|n| scene.join_until(&format!("u{n}"), ends_ms)).collect();
    for client in &clients {
        assert_eq!(scene.heard(*client), "welcome");
    }
    let mut asked = Vec::new();
    while scene.0.now.wall_ms < ends_ms + 10_000 {
        scene.wait(1_000);
        let told: Vec<usize> =
            clients.iter().copied().filter(|client| scene.told(*client).contains("token_expiring")).collect();
        let renewed_ms = scene.0.now.wall_ms + HOUR_MS;
        for client in &told {
            let refresh = format!(r#"{{"type":"refresh","token":"u{client};expires={renewed_ms}"}}"#);
            scene.0.say(*client, crate::sim::net::Say::Text(refresh));
        }
        asked.push(told.len());
    }
    assert_eq!(asked.iter().sum::<usize>(), CLIENTS, "each is told once");
    let seconds = asked.iter().filter(|count| **count > 0).count();
    assert!(seconds >= 20, "told within {seconds} seconds");
    let most = asked.iter().max().copied().unwrap_or(0);
    assert!(most <= 2 * CLIENTS / seconds, "{most} in one second");
    assert_eq!(scene.0.hub.ledger.page(0, 0).1, 0, "nobody was closed");
}

/// Row R11.
#[test]
fn old_connections_are_sent_around_evenly_and_their_clients_miss_nothing() {
    const CLIENTS: usize = 1_000;
    const AGE_MAX_MS: u64 = 600_000;
    let mut scene = Scene::new(Limits { connection_age_max_ms: AGE_MAX_MS, ..Limits::default() });
    let clients: Vec<usize> = (0..CLIENTS).map(|n| scene.join(&format!("u{n}"))).collect();
    for client in &clients {
        scene.say(*client, r#"{"type":"subscribe","channels":["run:1"]}"#);
        assert_eq!(scene.heard(*client), "subscribed run:1 @0");
    }
    // One goes by itself before its time, and is not counted among those who were sent.
    scene.0.say(clients[0], crate::sim::net::Say::Close(Some(1000)));
    let mut published = 0;
    let mut next = vec![1; CLIENTS];
    let mut closed = Vec::new();
    for _ in 0..63 {
        scene.publish("run:1", 1);
        published += 1;
        scene.wait(10_000);
        let mut sent_around = 0;
        for client in &clients[1..] {
            let told = scene.told(*client);
            let events = told.split(" | ").filter_map(|line| line.strip_prefix("event run:1 "));
            for sequence in events {
                assert_eq!(sequence, next[*client].to_string(), "client {client}");
                next[*client] += 1;
            }
            if scene.0.clients[*client].wire.is_some() {
                continue;
            }
            assert!(told.ends_with("reconnect | close 1012"), "{told}");
            sent_around += 1;
            let session = scene.0.clients[*client].session.clone();
            let session = session.and_then(|id| pulsewire_protocol::SessionId::parse(&id).ok());
            // It comes back after something else was said.
            scene.publish("run:1", usize::from(sent_around == 1));
            published += usize::from(sent_around == 1);
            let token = Some(format!("u{client}"));
            scene.connect(*client, Connecting { token, session, ..Connecting::default() });
        }
        closed.push(sent_around);
    }
    assert_eq!(closed.iter().sum::<usize>(), CLIENTS - 1, "each once: {closed:?}");
    let (first, last) = (44, 62);
    let early = closed[..first].iter().sum::<usize>();
    assert_eq!(early, 0, "nobody before three quarters: {closed:?}");
    let mean = CLIENTS / (last - first);
    let most = closed.iter().max().copied().unwrap_or(0);
    assert!(most <= 2 * mean, "{most} in ten seconds, {mean} on average: {closed:?}");
    scene.wait(1_000);
    for client in &clients[1..] {
        let told = scene.told(*client);
        next[*client] += told.matches("event run:1 ").count();
        assert_eq!(next[*client], published + 1, "client {client}: {told}");
    }
}
