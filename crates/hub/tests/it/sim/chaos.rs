//! A hostile day: everything that may happen happens, in an order that the seed decides.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use pulsewire_bus::Mutant;
use pulsewire_hub::{Drain, Order};
use pulsewire_hub::{HubSettings, Limits, RateDirection, Target, Violated};
use pulsewire_protocol::{CloseCode, SessionId};

use super::client::{Asked, Client, Mangle, Reading, Wanted};
use super::net::Say;
use super::rng::Rng;
use super::truth::{EPHEMERAL, Kind, LOGS, METRICS, kind};
use super::world::{Connecting, Place, Plan, Sabotage, Way, World, event_fields, packed};

/// What a simulation is to do beside its seed.
#[derive(Debug, Clone, Copy, Default)]
pub struct Twist {
    pub lossy: bool,
    pub mangle: Option<Mangle>,
    pub sabotage: Option<Sabotage>,
    /// Whether the store's history is replaced now and then, in a run with several nodes.
    pub failovers: bool,
    /// A rule that is switched off.
    pub mutant: Option<Mutant>,
}

/// How much happened, so that a test can tell that something did.
#[derive(Debug, Default, Clone)]
pub struct Tally {
    pub connections: u64,
    pub events: u64,
    pub resumed: u64,
    pub numbers: BTreeMap<String, f64>,
}

/// Runs one seed. `Err` is what was found wrong.
pub fn run(seed: u64, twist: Twist) -> Result<Tally, Vec<String>> {
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let mut world = world(seed, twist);
        day(&mut world);
        evening(&mut world);
        night(&mut world);
        let faults = world.collect();
        let tally = Tally {
            connections: world.opened,
            events: world.clients.iter().map(|client| client.events).sum(),
            resumed: world.clients.iter().map(|client| client.resumed).sum(),
            numbers: world.numbers(),
        };
        if faults.is_empty() { Ok(tally) } else { Err(faults) }
    }));
    outcome.unwrap_or_else(|panic| Err(vec![panicked(panic.as_ref())]))
}

/// What a panic said.
pub fn panicked(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    format!("panicked: {}", text.unwrap_or_default())
}

fn world(seed: u64, twist: Twist) -> World {
    world_at(seed, twist, None)
}

/// A world alone, or as one of several nodes.
pub fn world_at(seed: u64, twist: Twist, node: Option<Place>) -> World {
    let mut rng = Rng::new(seed ^ 0xA5A5);
    let limits = Limits {
        subscriptions_per_session: rng.between(3, 10),
        messages_per_minute: if rng.chance(30) { rng.between(20, 200) as u32 } else { 0 },
        errors_per_minute: *rng.pick(&[3, 20, 1_000]),
        outbox_bytes_max: rng.between(300, 4_000),
        slow_after_ms: rng.between(3_000, 30_000) as u64,
        // Without a draw of its own: the schedules of old seeds stay as they were.
        connection_age_max_ms: if seed % 4 == 3 { 5_000 + seed % 40_000 } else { 0 },
        rate_direction: if seed % 3 == 2 { RateDirection::Both } else { RateDirection::In },
        auth_timeout_ms: rng.between(500, 5_000) as u64,
        stash_bytes_max: rng.between(200, 4_000),
        detached_max: rng.between(1, 20),
        page_events: rng.between(1, 20),
    };
    let settings = HubSettings {
        limits,
        heartbeat_interval_ms: rng.between(2_000, 20_000) as u64,
        heartbeat_timeout_ms: rng.between(1_000, 10_000) as u64,
        resume_window_ms: if rng.chance(10) { 0 } else { rng.between(2_000, 60_000) as u64 },
        sessions_move: node.is_some(),
        ..HubSettings::default()
    };
    let smallest = rng.between(40, 3_000);
    let plan = Plan {
        shards: rng.between(1, 3),
        settings,
        history_max: rng.between(3, 80),
        critical_max: rng.between(2, 40),
        distant: rng.chance(50),
        name: "n1",
        node,
        ring: rng.between(1, 40),
        way: if twist.lossy { Way::Lossy } else { Way::Whole },
        room: (smallest, smallest + rng.below(4_000)),
        moody: rng.chance(60),
        inbox_max: if rng.chance(20) { rng.between(5, 50) } else { 100_000 },
        backend_max: if rng.chance(30) { rng.between(1, 5) } else { 10_000 },
        bounds: if rng.chance(20) { (rng.between(2, 8), 4, 2) } else { (0, 0, 0) },
    };
    let count = rng.between(2, 7);
    let mut world = World::new(seed, plan);
    world.sabotage = twist.sabotage;
    if let Some(mutant) = twist.mutant {
        world.bus.mutate(mutant);
    }
    // A publication that others follow would be repaired: the last one is lost, in the evening.
    world.sabotaged = twist.sabotage == Some(Sabotage::LosePublication);
    for number in 0..count {
        let user = format!("u{}", rng.below(4));
        let mut client = Client::new(number, &user);
        client.mangle = twist.mangle;
        client.heard = std::env::var_os("PULSEWIRE_SIM_SEED").map(|_| Vec::new());
        world.clients.push(client);
    }
    world
}

fn day(world: &mut World) {
    let steps = world.rng.between(60, 160);
    let busy = world.rng.between(1, 12);
    for number in 0..steps {
        let pause = pause(&mut world.rng);
        world.advance(pause);
        step(world, number, busy);
    }
}

/// How long nothing happens, milliseconds.
pub fn pause(rng: &mut Rng) -> u64 {
    let pause = match rng.below(10) {
        0 => rng.between(0, 3_000),
        1..=3 => rng.between(0, 400),
        _ => rng.between(0, 40),
    };
    pause as u64
}

/// One moment of the day: everybody may do something.
pub fn step(world: &mut World, number: usize, busy: usize) {
    for client in 0..world.clients.len() {
        act(world, client);
    }
    for _ in 0..world.rng.below(busy + 1) {
        let padding = world.rng.below(200);
        let channel = *world.rng.pick(&[LOGS[0], LOGS[0], LOGS[1], LOGS[3], EPHEMERAL[0], EPHEMERAL[1]]);
        let _ = world.publish(channel, padding);
    }
    if world.rng.chance(40) {
        let channel = *world.rng.pick(&METRICS);
        world.publish_set(channel);
    }
    if world.rng.chance(1) {
        operator(world);
    }
    let count = world.rng.below(6);
    world.backend_work(count);
    let count = world.rng.below(6);
    world.backend_tell(count);
    let count = world.rng.below(4);
    world.store_work(count);
    if world.rng.chance(30) {
        world.bus.tick(world.now);
    }
    for shard in 0..world.shards.len() {
        if world.rng.chance(80) {
            world.round(shard, true);
        }
    }
    world.clients_read();
    if number.is_multiple_of(4) {
        world.audit();
        world.check_outboxes();
    }
}

fn operator(world: &mut World) {
    let user = format!("u{}", world.rng.below(4));
    let code = *world.rng.pick(&[CloseCode::Revoked, CloseCode::Overloaded]);
    world.hub.close(&Target::User(user.as_str().into()), code, || Box::new(|_| ()));
}

/// What one client does in one step.
fn act(world: &mut World, client: usize) {
    if world.clients[client].wire.is_none() {
        if world.rng.chance(25) {
            connect(world, client);
        }
        return;
    }
    if !world.clients[client].opened {
        // It may speak before it was let in.
        if world.rng.chance(5) {
            speak(world, client);
        }
        if world.rng.chance(1) {
            world.reset(client);
        }
        return;
    }
    match world.rng.below(1_000) {
        0..=5 => world.reset(client),
        6..=9 => world.abandon(client),
        10..=15 => {
            let code = *world.rng.pick(&[None, Some(1000), Some(1001), Some(3000), Some(4999)]);
            world.say(client, Say::Close(code));
        }
        16..=18 => world.say(client, Say::Fin),
        19..=22 => {
            let close = *world.rng.pick(&[
                CloseCode::ProtocolError,
                CloseCode::InvalidPayload,
                CloseCode::MessageTooBig,
                CloseCode::RateLimited,
            ]);
            world.say(client, Say::Broken(Violated { close, detail: "broken" }));
        }
        23..=60 => {
            let reading = match world.rng.below(3) {
                0 => Reading::Nothing,
                1 => Reading::Bytes(world.rng.between(1, 200)),
                _ => Reading::All,
            };
            world.clients[client].reading = reading;
        }
        61..=65 => world.clients[client].answers_pings = world.rng.chance(50),
        66..=320 => speak(world, client),
        _ => {}
    }
}

fn connect(world: &mut World, client: usize) {
    let session = world.clients[client].session.clone().filter(|_| world.rng.chance(80));
    let session = match session {
        Some(_) if world.rng.chance(3) => Some("0123456789ABCDEFGHJKMNPQRS".to_owned()),
        other => other,
    };
    let in_handshake = world.rng.chance(50);
    let token = token(world, client);
    let with = Connecting {
        token: in_handshake.then(|| token.clone()).filter(|token| token != "bad"),
        session: session
            .as_deref()
            .filter(|_| in_handshake && world.rng.chance(70))
            .and_then(|session| SessionId::parse(session).ok()),
        msgpack: world.rng.chance(30),
        strict: world.rng.chance(50),
        message_pings: world.rng.chance(30),
        shard: None,
    };
    let known = world.clients[client].known.clone();
    let by_handshake = with.session.is_some();
    let in_handshake = with.token.is_some();
    if world.connect(client, with).is_none() {
        return;
    }
    world.clients[client].known = known;
    if !in_handshake || (!by_handshake && session.is_some()) {
        say_connect(world, client, (!in_handshake).then_some(token), session);
    }
}

fn token(world: &mut World, client: usize) -> String {
    let user = world.clients[client].user.clone();
    match world.rng.below(20) {
        0 => "bad".into(),
        1..=4 => {
            let lasts = world.rng.between(1, 60_000) as i64;
            format!("{user};expires={}", world.now.wall_ms + lasts)
        }
        5 => format!("{user};only=run:*"),
        6 => format!("u{}", world.rng.below(4)),
        _ => user,
    }
}

fn say_connect(world: &mut World, client: usize, token: Option<String>, session: Option<String>) {
    let mut fields = String::new();
    if let Some(token) = token {
        fields.push_str(&format!(r#","token":"{token}""#));
    }
    if let Some(session) = session {
        fields.push_str(&format!(r#","session":"{session}""#));
    }
    let mut wanted = Vec::new();
    if world.rng.chance(50) {
        // Positions for some of what it knew.
        let known = world.clients[client].known.clone();
        for (channel, next) in known {
            if world.rng.chance(70) {
                wanted.push(Wanted {
                    head: world.truth.head(&channel),
                    channel,
                    since: Some((world.truth.epoch.clone(), next - 1)),
                    replays: true,
                    critical: false,
                    state: false,
                    host: '*',
                    interval: false,
                    presence: None,
                    low: 0,
                });
            }
        }
        if !wanted.is_empty() {
            fields.push_str(&format!(r#","subscribe":{{"channels":[{}]}}"#, channels_json(&wanted, None)));
        }
    }
    ask(world, client, Asked::Connect(wanted), "connect", &fields);
}

/// Sends a request with an id.
fn ask(world: &mut World, client: usize, asked: Asked, kind: &str, fields: &str) {
    let entry = &mut world.clients[client];
    let id = entry.next_id;
    entry.next_id += 1;
    if let Asked::Subscribe(wanted) = &asked {
        // It may be done without the client's hearing of it.
        let filtered = wanted.iter().filter(|wanted| wanted.host != '*');
        entry.filtered.extend(filtered.map(|wanted| wanted.channel.clone()));
    }
    entry.asked.insert(id, asked);
    let json = format!(r#"{{"type":"{kind}","id":{id}{fields}}}"#);
    if let Some(heard) = &mut entry.heard {
        heard.push(format!("> {}", json.chars().take(160).collect::<String>()));
    }
    let msgpack = entry.msgpack;
    world.say(client, if msgpack { Say::Binary(packed(&json)) } else { Say::Text(json) });
}

/// Asks for channels as they are wanted, with so many events where a number is wanted.
pub fn ask_for(world: &mut World, client: usize, wanted: Vec<Wanted>, last: usize) {
    let mut fields = format!(r#","channels":[{}]"#, channels_json(&wanted, Some(last)));
    if let Some(host) = wanted.first().map(|wanted| wanted.host).filter(|host| *host != '*') {
        fields.push_str(&format!(r#","tags":{{"host":"{host}"}}"#));
    }
    ask(world, client, Asked::Subscribe(wanted), "subscribe", &fields);
}

fn channels_json(wanted: &[Wanted], last: Option<usize>) -> String {
    let one = |wanted: &Wanted| {
        let mut options = String::new();
        match &wanted.since {
            Some((epoch, sequence)) => {
                options.push_str(&format!(r#","since":{{"epoch":"{epoch}","sequence":{sequence}}}"#));
            }
            None if wanted.critical => options.push_str(r#","replay":"critical""#),
            None if wanted.replays => options.push_str(&format!(r#","last":{}"#, last.unwrap_or(1))),
            None => {}
        }
        if wanted.state {
            options.push_str(r#","state":true"#);
        }
        if let Some(presence) = wanted.presence {
            options.push_str(&format!(r#","presence":{presence}"#));
        }
        let channel = &wanted.channel;
        if options.is_empty() {
            format!(r#""{channel}""#)
        } else {
            format!(r#"{{"channel":"{channel}"{options}}}"#)
        }
    };
    wanted.iter().map(one).collect::<Vec<_>>().join(",")
}

fn speak(world: &mut World, client: usize) {
    match world.rng.below(100) {
        0..=39 => subscribe(world, client),
        40..=51 => {
            let channel = random_channel(world);
            let fields = format!(r#","channels":["{channel}"]"#);
            ask(world, client, Asked::Unsubscribe, "unsubscribe", &fields);
        }
        52..=56 => {
            let channel = *world.rng.pick(&[LOGS[0], LOGS[1]]);
            let cursor = match world.rng.below(4) {
                0 => String::new(),
                1 => r#","cursor":null"#.into(),
                _ => format!(r#","cursor":{}"#, world.rng.below(100)),
            };
            ask(world, client, Asked::Anything, "presence", &format!(r#","channel":"{channel}"{cursor}"#));
        }
        57..=74 => publish(world, client),
        75..=78 => ask(world, client, Asked::Ping, "ping", r#","timestamp":1.5"#),
        79..=80 => world.say(client, Say::Ping(b"hello".to_vec())),
        81 => world.say(client, Say::Pong(b"12345678".to_vec())),
        82..=84 => {
            let event = *world.rng.pick(&["task_assign", "draft_approve", "nonsense"]);
            ask(world, client, Asked::Anything, event, "");
        }
        85..=86 => {
            let fields = r#","channel":"run:1""#;
            ask(world, client, Asked::Anything, "get_history", fields);
        }
        87..=88 => {
            let token = token(world, client);
            let fields = format!(r#","token":"{token}""#);
            ask(world, client, Asked::Anything, "refresh", &fields);
        }
        89..=90 => {
            // A `receipt` is answered only if it is wrong.
            let sequence = world.rng.below(20);
            let json = format!(r#"{{"type":"receipt","channel":"run:1","sequence":{sequence}}}"#);
            let msgpack = world.clients[client].msgpack;
            world.say(client, if msgpack { Say::Binary(packed(&json)) } else { Say::Text(json) });
        }
        91..=92 => {
            // A second `connect`: to another session, or to its own.
            let sessions: Vec<String> =
                world.clients.iter().filter_map(|client| client.session.clone()).collect();
            let session = if sessions.is_empty() || world.rng.chance(30) {
                None
            } else {
                Some(world.rng.pick(&sessions).clone())
            };
            if session.is_some() && session != world.clients[client].session {
                for other in &mut world.clients {
                    other.shared |= other.number == client || other.session == session;
                }
            }
            let token = world.rng.chance(30).then(|| token(world, client));
            say_connect(world, client, token, session);
        }
        93..=94 => {
            let garbage =
                *world.rng.pick(&["", "{", "[]", "{\"type\":7}", "{\"type\":\"subscribe\"}", "null"]);
            let strict_text = world.rng.chance(5);
            let msgpack = world.clients[client].msgpack && !strict_text;
            world.say(client, if msgpack { Say::Binary(vec![0xC1]) } else { Say::Text(garbage.into()) });
        }
        _ => {
            let fields = *world.rng.pick(&[
                r#","channels":["nope"]"#,
                r#","channels":["run:1","a b"]"#,
                r#","channels":["run:1"],"aggregation_interval":"5s""#,
                r#","channels":[{"channel":"run:1","since":{"epoch":"e1","sequence":-1}}]"#,
                r#","channels":[{"channel":"cursor:1","last":3}]"#,
                r#","channels":[{"channel":"cursor:1","replay":"critical"}]"#,
            ]);
            ask(world, client, Asked::Anything, "subscribe", fields);
        }
    }
}

fn random_channel(world: &mut World) -> String {
    let list: Vec<&str> = LOGS.iter().chain(&EPHEMERAL).chain(&METRICS).copied().collect();
    (*world.rng.pick(&list)).to_owned()
}

fn subscribe(world: &mut World, client: usize) {
    let mut wanted = Vec::new();
    let count = world.rng.between(1, 3);
    let last = world.rng.between(0, 100);
    let mut hosts = '*';
    let mut interval = false;
    let metrics = world.rng.chance(25);
    let logs = !metrics && world.rng.chance(25);
    if (metrics || logs) && world.rng.chance(50) {
        hosts = *world.rng.pick(&['a', 'b']);
    }
    if metrics && world.rng.chance(20) {
        interval = true;
    }
    for _ in 0..count {
        let channel = match (metrics, logs) {
            (true, _) => (*world.rng.pick(&METRICS)).to_owned(),
            (_, true) => (*world.rng.pick(&LOGS)).to_owned(),
            _ => random_channel(world),
        };
        if wanted.iter().any(|known: &Wanted| known.channel == channel) && world.rng.chance(90) {
            continue;
        }
        let mut wish = Wanted {
            low: world.truth.dealt_with.get(&channel).copied().unwrap_or(0),
            since: None,
            head: world.truth.head(&channel),
            replays: false,
            critical: false,
            state: false,
            host: hosts,
            interval,
            presence: None,
            channel,
        };
        if wish.channel.starts_with("run:") && world.rng.chance(60) {
            wish.presence = Some(*world.rng.pick(&["true", "true", r#""watch""#]));
        }
        if kind(&wish.channel) == Kind::Log {
            wish.state = wish.channel.starts_with("run:") && world.rng.chance(30);
            match world.rng.below(5) {
                0 => wish.replays = true,
                2 => (wish.replays, wish.critical) = (true, true),
                1 => {
                    let head = world.truth.head(&wish.channel);
                    let sequence = world.rng.below(head as usize + 3) as u64;
                    let epoch = if world.rng.chance(10) { "old" } else { &world.truth.epoch };
                    wish.since = Some((epoch.into(), sequence));
                    wish.replays = true;
                }
                _ => {}
            }
        }
        wanted.push(wish);
    }
    let mut fields = format!(r#","channels":[{}]"#, channels_json(&wanted, Some(last)));
    if hosts != '*' {
        fields.push_str(&format!(r#","tags":{{"host":"{hosts}"}}"#));
    }
    if interval {
        fields.push_str(r#","aggregation_interval":"5s""#);
    }
    if interval || metrics {
        fields.push_str(r#","shape":"grouped""#);
    }
    if world.rng.chance(10) && !world.clients[client].msgpack {
        fields.push_str(r#","compression":true"#);
    }
    ask(world, client, Asked::Subscribe(wanted), "subscribe", &fields);
}

fn publish(world: &mut World, client: usize) {
    let single = world.rng.chance(60);
    let count = if single { 1 } else { world.rng.between(2, 5) };
    let mut events = Vec::new();
    let mut parts = Vec::new();
    for _ in 0..count {
        let channel = *world.rng.pick(&[LOGS[0], LOGS[1], LOGS[2], EPHEMERAL[0], EPHEMERAL[1]]);
        let payload = world.payload();
        let padding = world.rng.below(150);
        let id = world.rng.chance(30).then(|| format!("m{payload}"));
        parts.push(event_fields(channel, payload, padding, id.as_deref()));
        events.push((channel.to_owned(), payload));
    }
    let fields = if single {
        format!(",{}", parts[0])
    } else {
        let items = parts
            .iter()
            .map(|part| {
                format!(
                    "{{{}}}",
                    part.replace("\"event\":", "\"type\":").replace("\"message_id\":", "\"id\":")
                )
            })
            .collect::<Vec<_>>()
            .join(",");
        format!(r#","events":[{items}]"#)
    };
    if single && kind(&events[0].0) == Kind::Log && world.rng.chance(10) && parts[0].contains("message_id") {
        // Sent twice, as after a lost answer.
        ask(world, client, Asked::Publish(events.clone()), "publish", &fields);
    }
    ask(world, client, Asked::Publish(events), "publish", &fields);
}

/// Everybody listens again, nothing breaks any more: everything must arrive.
fn evening(world: &mut World) {
    calm(world);
    world.run(3_000, 250);
    last_words(world);
    // A small backend serves one page at a time.
    world.run(60_000, 250);
    check_evening(world);
}

pub fn calm(world: &mut World) {
    world.plan.way = Way::Whole;
    for client in &mut world.clients {
        client.reading = Reading::All;
        client.answers_pings = true;
    }
}

/// Something is published everywhere once more.
pub fn last_words(world: &mut World) {
    world.sabotaged &= world.sabotage != Some(Sabotage::LosePublication);
    for channel in LOGS.iter().chain(&EPHEMERAL) {
        // Room in the inboxes is certain only after a round.
        world.settle();
        let _ = world.publish(channel, 0);
    }
    for channel in METRICS {
        world.publish_set(channel);
    }
}

pub fn check_evening(world: &mut World) {
    world.audit();
    world.check_outboxes();
    for index in 0..world.clients.len() {
        if world.clients[index].wire.is_some() && world.clients[index].opened {
            world.clients[index].check_complete(&world.truth);
        }
    }
    world.check_presence();
}

/// Everybody leaves; nothing may remain.
pub fn night(world: &mut World) {
    if world.rng.chance(30) {
        let drain = Drain { within_ms: 2_000, retry_min_ms: 100, retry_max_ms: 5_000 };
        for shard in 0..world.shards.len() {
            world.hub.order(shard, Order::Drain(drain));
        }
        world.run(3_000, 250);
    }
    for client in 0..world.clients.len() {
        match world.rng.below(3) {
            0 => world.say(client, Say::Close(Some(1000))),
            1 => world.reset(client),
            _ => world.say(client, Say::Fin),
        }
    }
    world.run(5_000, 250);
    let slowest = world.plan.settings.heartbeat_interval_ms + world.plan.settings.heartbeat_timeout_ms;
    world.run(slowest + world.plan.settings.limits.slow_after_ms + 10_000, 1_000);
    world.run(world.plan.settings.resume_window_ms + 2_000, 10_000);
    match world.sabotage {
        Some(Sabotage::ForgetClose) => world.hub.ledger.forget_before(world.now.wall_ms - 30_000),
        Some(Sabotage::LeakListener) => {
            let name = pulsewire_protocol::ChannelName::parse(LOGS[0]).expect("a channel");
            world
                .bus
                .at_hand(&name, pulsewire_protocol::Sequence::ZERO)
                .expect("a namespace")
                .expect("it was used")
                .listen(0);
            0
        }
        Some(Sabotage::LeakAdmission) => {
            let _ = world.hub.admission.connect([10, 0, 0, 1].into());
            0
        }
        _ => 0,
    };
    world.check_ledger();
    world.check_empty();
}
