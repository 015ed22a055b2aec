//! One thing at a time, in a network in which nothing else goes wrong.

use pulsewire_hub::{Drain, HubSettings, Limits, Order, RateDirection, Target, Violated};
use pulsewire_protocol::{ClientReport, CloseCode};

use crate::sim::client::{Client, Reading};
use crate::sim::net::Say;
use crate::sim::world::{Connecting, Plan, World};

pub struct Scene(pub World);

impl Scene {
    pub fn new(limits: Limits) -> Self {
        let settings = HubSettings { limits, ..HubSettings::default() };
        Self(World::new(1, Plan::calm(settings)))
    }

    /// A scene whose kernel buffers are small.
    pub fn narrow(limits: Limits) -> Self {
        let settings = HubSettings { limits, ..HubSettings::default() };
        Self(World::new(1, Plan { room: (2_000, 2_000), ..Plan::calm(settings) }))
    }

    pub fn client(&mut self, user: &str) -> usize {
        let number = self.0.clients.len();
        let mut client = Client::new(number, user);
        client.heard = Some(Vec::new());
        self.0.clients.push(client);
        number
    }

    pub fn connect(&mut self, client: usize, with: Connecting) {
        self.0.connect(client, with).expect("admission has no bounds here");
        self.0.settle();
    }

    /// A client with a token in its handshake.
    pub fn join(&mut self, user: &str) -> usize {
        let client = self.client(user);
        self.connect(client, Connecting { token: Some(user.into()), ..Connecting::default() });
        assert_eq!(self.heard(client), "welcome");
        client
    }

    pub fn say(&mut self, client: usize, json: &str) {
        self.0.say(client, Say::Text(json.into()));
        self.0.settle();
    }

    pub fn wait(&mut self, ms: u64) {
        self.0.run(ms, 250);
    }

    pub fn publish(&mut self, channel: &str, count: usize) {
        for _ in 0..count {
            self.0.publish(channel, 100).expect("accepted");
        }
        self.0.settle();
    }

    /// What a client has heard since it was last asked.
    pub fn heard(&mut self, client: usize) -> String {
        let heard = self.0.clients[client].heard.as_mut().expect("it keeps what it hears");
        std::mem::take(heard).join(" | ")
    }

    pub fn number(&mut self, series: &str) -> f64 {
        self.0.numbers()[series]
    }

    pub fn last_code(&self) -> u16 {
        self.0.hub.ledger.page(0, 1).0[0].code
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.0.audit();
            assert_eq!(self.0.collect(), Vec::<String>::new());
        }
    }
}

fn check(dialogue: &[(&str, &str)]) {
    let mut scene = Scene::new(Limits::default());
    let client = scene.join("ada");
    for (said, heard) in dialogue {
        scene.say(client, said);
        assert_eq!(scene.heard(client), *heard, "after {said}");
    }
}

#[test]
fn subscribing_twice_is_answered_twice_and_counted_once() {
    check(&[
        (r#"{"type":"subscribe","channels":["run:1"]}"#, "subscribed run:1 @0"),
        (r#"{"type":"subscribe","channels":["run:1","run:1"]}"#, "subscribed run:1 @0"),
        (r#"{"type":"unsubscribe","channels":["run:2"]}"#, "error not_subscribed"),
        (r#"{"type":"unsubscribe","channels":["run:1"]}"#, "unsubscribed run:1"),
    ]);
}

#[test]
fn a_batch_is_acknowledged_in_order_and_an_id_once() {
    let one = r#"{"type":"publish","channel":"run:1","event":"note","data":{"n":1},"message_id":"a"}"#;
    let other = one.replace("{\"n\":1}", "{\"n\":2}");
    let batch = r#"{"type":"publish","events":[{"channel":"run:1","type":"note","data":{"n":3}},{"channel":"run:1","type":"note","data":{"n":4}}]}"#;
    check(&[
        (one, "ack 1"),
        (one, "ack 1 duplicate"),
        (&other, "error idempotency_conflict"),
        (batch, "ack 2,3"),
    ]);
}

#[test]
fn a_log_reader_that_stalls_lags_once_and_then_misses_nothing() {
    let mut scene = Scene::narrow(Limits::default());
    let client = scene.join("ada");
    scene.say(client, r#"{"type":"subscribe","channels":["run:1"]}"#);
    scene.heard(client);
    scene.0.clients[client].reading = Reading::Nothing;
    scene.publish("run:1", 900);
    let queued = scene.0.list()[0].queued_bytes;
    assert!(queued > 60_000 && queued <= 64 * 1024, "{queued} bytes wait");
    scene.wait(20_000);
    scene.0.clients[client].reading = Reading::All;
    scene.wait(10_000);
    assert_eq!(scene.0.clients[client].subs["run:1"].next, 901);
    assert_eq!(scene.number("websocket_slow_consumer_total{action=\"lag\"}"), 1.0);
    assert!(!scene.heard(client).contains("gap"));
}

#[test]
fn an_ephemeral_reader_that_stalls_is_told_how_many_it_missed() {
    let mut scene = Scene::narrow(Limits::default());
    let client = scene.join("ada");
    scene.say(client, r#"{"type":"subscribe","channels":["cursor:1"]}"#);
    scene.heard(client);
    scene.0.clients[client].reading = Reading::Nothing;
    scene.publish("cursor:1", 1_000);
    scene.0.clients[client].reading = Reading::All;
    scene.wait(5_000);
    let heard = scene.heard(client);
    let events = heard.matches("event cursor:1").count();
    let dropped = format!("dropped cursor:1 {}", 1_000 - events);
    let tail = &heard[heard.len().saturating_sub(80)..];
    assert!(heard.ends_with(&dropped), "{events} events came, then {tail} instead of {dropped}");
    assert_eq!(heard.matches("dropped").count(), 1);
}

#[test]
fn a_metrics_reader_that_stalls_gets_the_newest_values_and_a_count() {
    let mut scene = Scene::narrow(Limits { outbox_bytes_max: 2_000, ..Limits::default() });
    let client = scene.join("ada");
    scene.say(client, r#"{"type":"subscribe","channels":["system.metrics"],"tags":{"host":"*"}}"#);
    scene.heard(client);
    scene.0.clients[client].reading = Reading::Nothing;
    for _ in 0..500 {
        scene.0.publish_set("system.metrics");
        scene.0.settle();
    }
    scene.0.clients[client].reading = Reading::All;
    scene.wait(1_000);
    let heard = scene.heard(client);
    let values = heard.matches("values").count();
    let end = format!("dropped system.metrics {} | values system.metrics 500", 500 - (values - 1));
    assert!(heard.ends_with(&end), "{heard}");
}

#[test]
fn a_reader_that_takes_nothing_is_closed_and_its_socket_goes() {
    let mut scene = Scene::narrow(Limits::default());
    let client = scene.join("ada");
    scene.say(client, r#"{"type":"subscribe","channels":["run:1"]}"#);
    scene.0.clients[client].reading = Reading::Nothing;
    scene.publish("run:1", 100);
    scene.wait(28_000);
    assert_eq!(scene.0.shards[0].active(), 1);
    scene.wait(5_000);
    assert_eq!((scene.0.shards[0].active(), scene.last_code()), (0, 4004));
    assert!(scene.0.wires.borrow().by_key.is_empty(), "the socket is gone");
}

#[test]
fn who_does_not_say_who_it_is_has_five_seconds() {
    let mut scene = Scene::new(Limits::default());
    let client = scene.client("ada");
    scene.connect(client, Connecting::default());
    scene.say(client, r#"{"type":"subscribe","channels":["run:1"]}"#);
    assert_eq!(scene.heard(client), "error unauthorized");
    scene.wait(6_000);
    assert_eq!(scene.heard(client), "close 4505");
    scene.connect(client, Connecting::default());
    scene.say(client, &"x".repeat(9 * 1024));
    assert_eq!(scene.heard(client), "close 1009");
}

#[test]
fn more_channels_than_allowed_are_refused_and_cost_nothing() {
    let mut scene = Scene::new(Limits::default());
    let client = scene.join("ada");
    let channels: Vec<String> = (0..1_001).map(|n| format!("\"run:{n}\"")).collect();
    scene.say(client, &format!(r#"{{"type":"subscribe","channels":[{}]}}"#, channels.join(",")));
    assert_eq!(scene.heard(client), "error limit_exceeded");
    assert_eq!(scene.0.survey().subscriptions, 0);
}

#[test]
fn accepted_and_limited_messages_add_up_to_what_was_sent() {
    let mut scene = Scene::new(Limits::default());
    let client = scene.join("ada");
    for _ in 0..100 {
        for _ in 0..50 {
            scene.0.say(client, Say::Text(r#"{"type":"ping"}"#.into()));
        }
        scene.0.run(100, 100);
    }
    let heard = scene.heard(client);
    let accepted = heard.matches("pong").count();
    let limited = scene.number("websocket_rate_limited_total{scope=\"connection\"}");
    assert_eq!(accepted as f64 + limited, 5_000.0);
    assert!((1_000..1_200).contains(&accepted), "{accepted} accepted");
    assert!(heard.matches("rate_limited").count() <= 11);
}

/// Ten messages a minute, either way.
fn metered() -> Scene {
    let limits = Limits { messages_per_minute: 10, rate_direction: RateDirection::Both, ..Limits::default() };
    Scene::new(limits)
}

/// C28, read strictly; and only then: with the default direction nothing of it is kept back.
#[test]
fn values_beyond_the_rate_to_a_client_wait_for_the_newest() {
    let mut scene = metered();
    let client = scene.join("ada");
    scene.say(client, r#"{"type":"subscribe","channels":["system.metrics"]}"#);
    assert_eq!(scene.heard(client), "subscribed system.metrics");
    for _ in 0..40 {
        scene.0.publish_set("system.metrics");
        scene.0.settle();
    }
    // A set is one, however many frames it has.
    let heard = scene.heard(client);
    assert!(heard.ends_with("values system.metrics 10"), "{heard}");
    assert_eq!(scene.number("pulsewire_conflated_total"), 30.0);
    scene.wait(5_000);
    assert_eq!(scene.heard(client), "", "one in six seconds has room");
    scene.wait(2_000);
    let heard = scene.heard(client);
    assert!(heard.starts_with("dropped system.metrics 30 | values system.metrics 40"), "{heard}");
    scene.wait(6_000);
    scene.0.publish_set("system.metrics");
    scene.0.settle();
    assert!(scene.heard(client).contains("values system.metrics 41"), "it goes on");
}

#[test]
fn events_beyond_the_rate_to_a_client_are_dropped_and_told() {
    let mut scene = metered();
    let client = scene.join("ada");
    scene.say(client, r#"{"type":"subscribe","channels":["cursor:1"]}"#);
    scene.heard(client);
    scene.publish("cursor:1", 20);
    assert_eq!(scene.heard(client).matches("event cursor:1").count(), 10);
    assert_eq!(scene.number("websocket_messages_dropped_total{reason=\"rate_limit\"}"), 10.0);
    scene.wait(7_000);
    assert_eq!(scene.heard(client), "dropped cursor:1 10");
}

#[test]
fn a_log_is_sent_whatever_the_rate_and_uses_it_up() {
    let mut scene = metered();
    let client = scene.join("ada");
    scene.say(client, r#"{"type":"subscribe","channels":["run:1","cursor:1"]}"#);
    scene.heard(client);
    scene.publish("run:1", 100);
    assert_eq!(scene.heard(client).matches("event run:1").count(), 100);
    scene.publish("cursor:1", 1);
    assert_eq!(scene.heard(client), "", "nothing is left for it");
    // No debt was made: a message has room after its own time.
    scene.wait(7_000);
    assert_eq!(scene.heard(client), "dropped cursor:1 1");
    scene.say(client, r#"{"type":"ping"}"#);
    assert_eq!(scene.heard(client), "pong", "what it may say is another matter");
}

#[test]
fn a_reload_of_the_direction_lets_go_of_who_was_held_back() {
    let mut scene = metered();
    let client = scene.join("ada");
    scene.say(client, r#"{"type":"subscribe","channels":["cursor:1"]}"#);
    scene.publish("cursor:1", 20);
    scene.heard(client);
    let settings = HubSettings { limits: Limits::default(), ..HubSettings::default() };
    scene.0.hub.configure(&settings.into());
    scene.0.settle();
    scene.wait(1_000);
    assert_eq!(scene.heard(client), "dropped cursor:1 10");
    scene.publish("cursor:1", 100);
    assert_eq!(scene.heard(client).matches("event cursor:1").count(), 100);
}

#[test]
fn more_than_twenty_errors_in_a_minute_are_too_many() {
    let mut scene = Scene::new(Limits::default());
    let client = scene.join("ada");
    for _ in 0..20 {
        scene.say(client, "{");
    }
    assert_eq!(scene.heard(client), ["error bad_request"; 20].join(" | "));
    scene.say(client, "{");
    assert_eq!(scene.heard(client), "error bad_request | close 4509");
}

#[test]
fn a_frame_of_the_other_encoding_is_refused() {
    let mut scene = Scene::new(Limits::default());
    let client = scene.client("ada");
    let with = Connecting { token: Some("ada".into()), strict: true, ..Connecting::default() };
    scene.connect(client, with);
    scene.0.say(client, Say::Binary(vec![0x80]));
    scene.0.settle();
    assert_eq!(scene.heard(client), "welcome | error unsupported_encoding | close 1003");
}

#[test]
fn a_ping_without_an_answer_closes_the_connection() {
    let mut scene = Scene::new(Limits::default());
    let client = scene.join("ada");
    scene.wait(31_000);
    assert_eq!(scene.heard(client), "PING");
    scene.0.clients[client].answers_pings = false;
    scene.wait(30_000);
    scene.0.say(client, Say::Pong(b"invented".to_vec()));
    scene.wait(10_500);
    assert_eq!(scene.heard(client), "PING | close 4003");
    assert_eq!(scene.number("websocket_heartbeat_timeouts_total"), 1.0);
}

#[test]
fn pings_are_spread_over_the_interval() {
    let mut scene = Scene::new(Limits::default());
    (0..120).for_each(|n| {
        scene.join(&format!("u{n}"));
    });
    let before = scene.number("websocket_heartbeats_sent_total");
    scene.wait(3_000);
    let sent = scene.number("websocket_heartbeats_sent_total") - before;
    assert!((8.0..=16.0).contains(&sent), "{sent} pings in a tenth of the interval");
}

#[test]
fn a_drain_tells_everybody_and_closes_evenly() {
    let mut scene = Scene::new(Limits::default());
    let clients: Vec<usize> = (0..100).map(|n| scene.join(&format!("u{n}"))).collect();
    let drain = Drain { within_ms: 10_000, retry_min_ms: 100, retry_max_ms: 5_000 };
    scene.0.hub.order(0, Order::Drain(drain));
    scene.0.settle();
    let mut closed = 0;
    for _ in 0..10 {
        scene.wait(1_000);
        let now = scene.0.hub.ledger.page(0, 0).1;
        assert!(now - closed <= 20, "{} in one second", now - closed);
        closed = now;
    }
    assert_eq!(closed, 100);
    for client in clients {
        assert_eq!(scene.heard(client).replace("PING | ", ""), "reconnect | close 1012");
    }
}

#[test]
fn an_expiring_token_is_announced_and_closes_unless_refreshed() {
    let mut scene = Scene::new(Limits::default());
    let ends = scene.0.now.wall_ms + 20_000;
    for (refresh, expected) in [
        (None, "close 4002"),
        (Some("ada"), "refreshed"),
        (Some("eve"), "error invalid_token | close 4501"),
        (Some("bad"), "error invalid_token"),
    ] {
        let client = scene.client("ada");
        let ends = ends + (scene.0.now.wall_ms - (ends - 20_000));
        let token = Some(format!("ada;expires={ends}"));
        scene.connect(client, Connecting { token, ..Connecting::default() });
        scene.wait(1_000);
        assert_eq!(scene.heard(client), "welcome | token_expiring");
        if let Some(token) = refresh {
            scene.say(client, &format!(r#"{{"type":"refresh","token":"{token}"}}"#));
            assert_eq!(scene.heard(client), expected);
        }
        scene.wait(20_000);
        let heard = scene.heard(client);
        let over = matches!(refresh, None | Some("bad"));
        assert_eq!(heard.ends_with("error token_expired | close 4002"), over, "{refresh:?}: {heard}");
    }
}

#[test]
fn a_refresh_that_allows_less_ends_subscriptions() {
    check(&[
        (r#"{"type":"subscribe","channels":["run:1","project:7"]}"#, "subscribed run:1,project:7 @0 @0"),
        (r#"{"type":"refresh","token":"ada;only=run:*"}"#, "refreshed | unsubscribed project:7"),
        (r#"{"type":"subscribe","channels":["project:7"]}"#, "error forbidden"),
    ]);
}

#[test]
fn a_revoked_user_is_closed_for_good() {
    let mut scene = Scene::new(Limits::default());
    let (ada, bob) = (scene.join("ada"), scene.join("bob"));
    scene.0.hub.close(&Target::User("ada".into()), CloseCode::Revoked, || Box::new(|_| ()));
    scene.0.settle();
    assert_eq!((scene.heard(ada), scene.heard(bob)), ("close 4506".into(), String::new()));
    scene.wait(2_000);
    assert_eq!(scene.0.survey().sessions_detached, 0);
}

#[test]
fn a_second_connection_takes_the_session_of_a_half_open_one() {
    let mut scene = Scene::new(Limits::default());
    let client = scene.join("ada");
    scene.say(client, r#"{"type":"subscribe","channels":["run:1"]}"#);
    scene.publish("run:1", 2);
    scene.0.abandon(client);
    // It comes back from an older position than the one it knows.
    scene.0.clients[client].shared = true;
    let session = scene.0.clients[client].session.clone().expect("it has one");
    scene.connect(client, Connecting { token: Some("ada".into()), ..Connecting::default() });
    scene.publish("run:1", 1);
    let connect = format!(
        r#"{{"type":"connect","session":"{session}","subscribe":[{{"channel":"run:1","since":{{"epoch":"e1","sequence":1}}}}]}}"#
    );
    scene.say(client, &connect);
    assert_eq!(
        scene.heard(client),
        "welcome | connected resumed | subscribed run:1 @1 | event run:1 2 | event run:1 3 | replay_end run:1 3"
    );
    assert_eq!(scene.last_code(), 4508);
    assert_eq!(scene.0.list()[0].reconnections, 1);
}

#[test]
fn what_retention_removed_is_an_exact_gap() {
    let settings = HubSettings::default();
    let mut scene = Scene(World::new(1, Plan { history_max: 10, critical_max: 1, ..Plan::calm(settings) }));
    let client = scene.join("ada");
    scene.publish("run:1", 14);
    let since =
        r#"{"type":"subscribe","channels":[{"channel":"run:1","since":{"epoch":"e1","sequence":2}}]}"#;
    scene.say(client, since);
    let heard = scene.heard(client);
    assert!(heard.starts_with("subscribed run:1 @2 | gap run:1 3 3 | event run:1 4 |"), "{heard}");
    assert!(heard.ends_with("event run:1 14 | replay_end run:1 14"), "{heard}");
    let other =
        r#"{"type":"subscribe","channels":[{"channel":"run:2","since":{"epoch":"old","sequence":2}}]}"#;
    scene.say(client, other);
    assert_eq!(scene.heard(client), "subscribed run:2 @0 | reset run:2 0");
}

#[test]
fn late_joiners_of_metrics_get_the_latest_values_of_their_tags() {
    let mut scene = Scene::new(Limits::default());
    let (ada, bob) = (scene.join("ada"), scene.join("bob"));
    for _ in 0..4 {
        scene.0.publish_set("system.metrics");
    }
    scene.say(ada, r#"{"type":"subscribe","channels":["system.metrics"]}"#);
    // Of each host the newest, the oldest of them first.
    let newest = "values system.metrics 4 | values system.metrics 4 | values system.metrics 3";
    assert_eq!(scene.heard(ada), format!("subscribed system.metrics | {newest}"));
    scene.say(bob, r#"{"type":"subscribe","channels":["system.metrics"],"tags":{"host":"a"}}"#);
    assert_eq!(scene.heard(bob), "subscribed system.metrics | values system.metrics 4");
    scene.0.publish_set("system.metrics");
    scene.0.settle();
    assert_eq!((scene.heard(ada), scene.heard(bob)), ("values system.metrics 5".into(), String::new()));
}

#[test]
fn every_delivery_is_counted_with_its_latency_and_receipts_with_theirs() {
    let mut scene = Scene::new(Limits::default());
    let client = scene.join("ada");
    scene.say(client, r#"{"type":"subscribe","channels":["run:1"]}"#);
    for _ in 0..10 {
        scene.publish("run:1", 1);
        scene.wait(250);
    }
    scene.say(client, r#"{"type":"receipt","channel":"run:1","sequence":10}"#);
    let numbers = scene.0.numbers();
    let sum = |prefix: &str| -> f64 {
        numbers.iter().filter(|(name, _)| name.starts_with(prefix)).map(|(_, value)| value).sum()
    };
    assert_eq!(sum("websocket_event_latency_milliseconds_count"), 10.0);
    let acked = sum("websocket_message_latency_milliseconds_count");
    assert!(acked >= 2.0, "{acked} proofs of receipt");
}

#[test]
fn every_way_to_close_is_counted_once_under_its_code() {
    let mut scene = Scene::new(Limits::default());
    for n in 0..100 {
        let client = scene.join(&format!("u{n}"));
        match n % 4 {
            0 => scene.0.say(client, Say::Close(Some(1000))),
            1 => scene.0.reset(client),
            2 => scene.0.say(client, Say::Fin),
            _ => scene.0.say(
                client,
                Say::Broken(Violated { close: CloseCode::ProtocolError, detail: "reserved bits" }),
            ),
        }
    }
    scene.wait(5_000);
    scene.0.check_ledger();
    for (series, count) in [("1000\",initiator=\"client", 25.0), ("1006\",initiator=\"network", 50.0)] {
        assert_eq!(scene.number(&format!("websocket_closes_total{{code=\"{series}\"}}")), count);
    }
}

/// R52a; row 003-71.
#[test]
fn what_a_client_says_of_itself_is_counted_and_shown_until_it_goes() {
    let mut scene = Scene::new(Limits::default());
    let (ada, bob) = (scene.join("ada"), scene.join("bob"));
    scene.say(
        ada,
        r#"{"type":"ping","report":{"queued":51,"handler_ms":12.5,"gaps_healed":2,"visible":true}}"#,
    );
    assert_eq!(scene.heard(ada), "pong");
    // Nobody asked for this pong; what it reports counts all the same.
    scene.say(bob, r#"{"type":"pong","report":{"queued":7}}"#);
    assert_eq!(scene.heard(bob), "");
    assert_eq!(scene.number("pulsewire_client_reported_queued_messages"), 58.0);
    assert_eq!(scene.number("pulsewire_client_reported_queue_depth_sum"), 58.0);
    assert_eq!(scene.number("pulsewire_client_reported_queue_depth_count"), 2.0);
    assert_eq!(scene.number("pulsewire_client_reported_handler_seconds_sum"), 0.0125);
    assert_eq!(scene.number("pulsewire_client_reported_gaps_healed_total"), 2.0);
    assert_eq!(scene.number("pulsewire_client_reports_total{visibility=\"visible\"}"), 1.0);
    assert_eq!(scene.number("pulsewire_client_reports_total{visibility=\"unknown\"}"), 1.0);
    // The last report counts, and one that says nothing takes the last one back.
    scene.say(ada, r#"{"type":"pong","report":{"queued":4,"visible":false}}"#);
    scene.say(bob, r#"{"type":"pong","report":{}}"#);
    assert_eq!(scene.number("pulsewire_client_reported_queued_messages"), 4.0);
    scene.say(ada, r#"{"type":"ping","report":{"queued":-1}}"#);
    assert_eq!(scene.heard(ada), "error bad_request");
    assert_eq!(scene.number("pulsewire_client_reported_queued_messages"), 4.0);
    // A session that waits for its client has no queue to speak of, and neither has one that came back and said nothing.
    scene.0.reset(ada);
    scene.0.settle();
    assert_eq!(scene.number("pulsewire_sessions_detached"), 1.0);
    assert_eq!(scene.number("pulsewire_client_reported_queued_messages"), 0.0);
    assert!(
        scene
            .0
            .list()
            .iter()
            .all(|info| info.report.is_none_or(|said| said.report == ClientReport::default()))
    );
}
