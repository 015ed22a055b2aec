//! Several nodes whose presence is shared over a way that loses, repeats, reorders and delays, in virtual time.
//!
//! Users join, leave, break, come back elsewhere and place cursors; nodes end without a word and start again under
//! another name, or say goodbye; nodes are cut off and know it, or do not. Every node has a watcher that believes
//! nothing: whoever joined was not there, whoever left was. When all is whole again, every node must show the same,
//! and what the model says.
//!
//! `PULSEWIRE_SIM_SEEDS=N` runs N seeds instead of the default, `PULSEWIRE_SIM_SEED=x` runs one.

#[path = "../../../tests/it/sim/rng.rs"]
#[allow(missing_docs, unreachable_pub, dead_code, reason = "made for the simulation of the hub")]
mod rng;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;
use pulsewire_bus::{Now, PresenceRules};
use pulsewire_protocol::{ChannelName, Member, SessionId};
use pulsewire_telemetry::{ShardMetrics, Telemetry};
use serde_json::value::RawValue;

use super::ReplicaOptions;
use crate::presence::{Notice, Parting, Presence, Shards};
use rng::Rng;

const RULES: PresenceRules = PresenceRules {
    grace_ms: 5_000,
    ttl_ms: 15_000,
    members_max: 1_000,
    cursor_bytes_max: 1_024,
    interval_ms: 100,
};
const CHANNELS: [&str; 2] = ["run:1", "run:2"];
const STEP_MS: u64 = 50;

/// A shard that keeps what it is told.
#[derive(Clone, Default)]
struct Ears(Arc<Mutex<Vec<Arc<Notice>>>>);

impl Shards for Ears {
    fn has_room(&self, _: usize) -> bool {
        true
    }

    fn tell(&self, _: usize, notice: Arc<Notice>) {
        self.0.lock().push(notice);
    }
}

struct Node {
    name: String,
    presence: Presence,
    ears: Ears,
    /// What a watcher of each channel knows; none before it was told who is there.
    known: BTreeMap<String, BTreeMap<Arc<str>, Member>>,
    /// Who joined and left, and when.
    news: Vec<(u64, String)>,
    cut: Cut,
}

/// Whether a node reaches the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    No,
    /// It does not, and knows.
    Known,
    /// It does not, and does not know.
    Hidden,
}

struct Body {
    at_ms: u64,
    from: String,
    to: String,
    body: Box<RawValue>,
}

/// What the way between nodes does, in percent of the bodies; and by how much it delays them at most.
#[derive(Debug, Clone, Copy)]
struct Way {
    loses: usize,
    repeats: usize,
    delay_ms: usize,
}

const CALM: Way = Way { loses: 0, repeats: 0, delay_ms: 20 };
const HOSTILE: Way = Way { loses: 15, repeats: 15, delay_ms: 600 };

struct Session {
    id: SessionId,
    user: String,
    channel: usize,
    node: String,
    away_since_ms: Option<u64>,
}

struct World {
    rng: Rng,
    ms: u64,
    nodes: Vec<Node>,
    way: Way,
    bodies: Vec<Body>,
    sessions: Vec<Session>,
    /// Users who were on a node, by its name: others may not have heard that they left.
    visits: BTreeSet<(String, usize, String)>,
    /// Those of nodes that ended without a word or said goodbye, who may still be shown.
    ghosts: BTreeSet<(usize, String)>,
    options: ReplicaOptions,
    /// Whether nobody hears what others ask for.
    asks_are_lost: bool,
    metrics: ShardMetrics,
    started: u64,
    faults: Vec<String>,
}

impl World {
    fn new(seed: u64, nodes: usize, options: ReplicaOptions) -> Self {
        let telemetry = Telemetry::new(pulsewire_telemetry::Options {
            event_types_max: 12,
            ..pulsewire_telemetry::Options::default()
        });
        let mut world = Self {
            rng: Rng::new(seed),
            ms: 1_000,
            nodes: Vec::new(),
            way: CALM,
            bodies: Vec::new(),
            sessions: Vec::new(),
            visits: BTreeSet::new(),
            ghosts: BTreeSet::new(),
            options,
            asks_are_lost: false,
            metrics: telemetry.shard(),
            started: 0,
            faults: Vec::new(),
        };
        (0..nodes).for_each(|_| {
            let node = world.start();
            world.nodes.push(node);
        });
        world
    }

    fn start(&mut self) -> Node {
        self.started += 1;
        let name = format!("{:012x}", self.started.wrapping_mul(0x9E37_79B9_7F4A) & 0xFFFF_FFFF_FFFF);
        let ears = Ears::default();
        let presence = Presence::new(&name, Box::new(ears.clone()));
        presence.replicate(self.options.clone());
        for channel in CHANNELS {
            presence.watch(&ChannelName::parse(channel).expect("a name"), RULES, 0);
        }
        Node { name, presence, ears, known: BTreeMap::new(), news: Vec::new(), cut: Cut::No }
    }

    fn now(&self) -> Now {
        Now {
            mono_ns: self.ms * 1_000_000,
            wall_ms: 1_700_000_000_000 + i64::try_from(self.ms).expect("small"),
        }
    }

    fn fault(&mut self, what: impl std::fmt::Display) {
        self.faults.push(format!("{} ms: {what}", self.ms));
    }

    /// One step of time: what is on its way arrives, everybody tells and says what is due.
    fn step(&mut self) {
        self.ms += STEP_MS;
        let now = self.now();
        let (due, later) =
            std::mem::take(&mut self.bodies).into_iter().partition(|body| body.at_ms <= self.ms);
        self.bodies = later;
        let mut due: Vec<Body> = due;
        due.sort_by_key(|body| body.at_ms);
        for Body { from, to, body, .. } in due {
            let reached = self.nodes.iter().find(|node| node.name == to && node.cut == Cut::No);
            if let Some(Err(unheard)) = reached.map(|node| node.presence.hear(&from, &body, now)) {
                self.fault(format!("{to} did not take {body} of {from}: {unheard:?}"));
            }
        }
        for index in 0..self.nodes.len() {
            self.nodes[index].presence.tick(now, &self.metrics);
            self.listen(index);
            self.say(index, now);
        }
    }

    fn say(&mut self, index: usize, now: Now) {
        let node = &self.nodes[index];
        let (from, cut) = (node.name.clone(), node.cut);
        let said = node.presence.outgoing(now, cut != Cut::Known);
        let rows = said.iter().filter(|said| said.body.get().starts_with(r#"["rows""#)).count();
        if rows > self.options.bodies_max {
            self.fault(format!("{rows} bodies of rows at once"));
        }
        for said in said {
            if said.body.get().len() > self.options.body_bytes_max + 2_048 {
                self.fault(format!("a body of {} bytes", said.body.get().len()));
            }
            let others = self.nodes.iter().filter(|node| node.name != from);
            let to = others.filter(|node| said.to.as_deref().is_none_or(|to| to == node.name));
            let to: Vec<String> = to.map(|node| node.name.clone()).collect();
            for to in to {
                let unheard = self.asks_are_lost && said.body.get().starts_with(r#"["ask""#);
                let lost = cut != Cut::No || unheard || self.rng.chance(self.way.loses);
                let copies = if lost { 0 } else { 1 + usize::from(self.rng.chance(self.way.repeats)) };
                for _ in 0..copies {
                    let at_ms = self.ms + self.rng.below(self.way.delay_ms + 1) as u64;
                    let body = said.body.clone();
                    self.bodies.push(Body { at_ms, from: from.clone(), to: to.clone(), body });
                }
            }
        }
    }

    /// The watcher of a node hears what its shard was told.
    fn listen(&mut self, index: usize) {
        let notices = std::mem::take(&mut *self.nodes[index].ears.0.lock());
        let mut faults = Vec::new();
        let Node { name, known, news, .. } = &mut self.nodes[index];
        for notice in notices {
            let channel = notice.channel.as_str();
            let Some(known) = known.get_mut(channel) else {
                let everybody = notice.everybody.iter().flatten();
                let everybody = everybody.map(|member| (member.user.clone(), member.clone())).collect();
                known.insert(channel.to_owned(), everybody);
                continue;
            };
            let Some(changes) = &notice.changes else { continue };
            for user in &changes.left {
                news.push((self.ms, format!("-{user} {channel}")));
                if known.remove(user).is_none() {
                    faults.push(format!("{name}: {user} left {channel} and was not there"));
                }
            }
            for member in &changes.joined {
                news.push((self.ms, format!("+{} {channel}", member.user)));
                if known.insert(member.user.clone(), member.clone()).is_some() {
                    faults.push(format!("{name}: {} joined {channel} and was there", member.user));
                }
            }
            for (user, sessions) in &changes.sessions {
                match known.get_mut(user) {
                    Some(member) => member.sessions = *sessions,
                    None => faults.push(format!("{name}: a count of {user}, who is not in {channel}")),
                }
            }
            for (user, cursor) in &changes.cursors {
                match known.get_mut(user) {
                    Some(member) => member.cursor.clone_from(cursor),
                    None => faults.push(format!("{name}: a cursor of {user}, who is not in {channel}")),
                }
            }
        }
        faults.into_iter().for_each(|fault| self.fault(fault));
    }

    fn run(&mut self, ms: u64) {
        (0..ms.div_ceil(STEP_MS)).for_each(|_| self.step());
    }

    // --- users ---

    fn join(&mut self, node: usize, channel: usize, user: &str) -> usize {
        self.started += 1;
        let id = SessionId::new(self.started, 0, 0, self.started);
        let (now, name) = (self.now(), ChannelName::parse(CHANNELS[channel]).expect("a name"));
        let node = &self.nodes[node];
        node.presence.join(&name, RULES, (user, id), now).expect("there is room");
        let node = node.name.clone();
        self.visits.insert((node.clone(), channel, user.into()));
        self.sessions.push(Session { id, user: user.into(), channel, node, away_since_ms: None });
        self.sessions.len() - 1
    }

    fn end(&mut self, session: usize, how: Parting) {
        let now = self.now();
        let Session { id, user, channel, node, .. } = &self.sessions[session];
        let name = ChannelName::parse(CHANNELS[*channel]).expect("a name");
        let node = self.nodes.iter().find(|other| other.name == *node).expect("its node is there");
        node.presence.part(&name, (user, *id), how, now);
        match how {
            Parting::Left => drop(self.sessions.swap_remove(session)),
            Parting::Broke => self.sessions[session].away_since_ms = Some(self.ms),
        }
    }

    fn place(&mut self, session: usize, cursor: Option<&str>) {
        let now = self.now();
        let Session { id, user, channel, node, .. } = &self.sessions[session];
        let name = ChannelName::parse(CHANNELS[*channel]).expect("a name");
        let node = self.nodes.iter().find(|other| other.name == *node).expect("its node is there");
        let cursor = cursor.map(|json| RawValue::from_string(json.to_owned()).expect("JSON").into());
        node.presence.place(&name, (user, *id), cursor, now);
    }

    /// A node ends, with a word to the others or without, and starts again.
    fn restart(&mut self, index: usize, goodbye: bool) {
        let node = self.start();
        let old = std::mem::replace(&mut self.nodes[index], node);
        let now = self.now();
        if goodbye {
            self.nodes.iter().filter(|node| node.cut == Cut::No).for_each(|node| {
                node.presence.gone(&old.name, now);
            });
        }
        self.sessions.retain(|session| session.node != old.name);
        let visits = self.visits.iter().filter(|(node, ..)| *node == old.name);
        self.ghosts.extend(visits.map(|(_, channel, user)| (*channel, user.clone())));
    }

    // --- checks ---

    /// Who is there for sure, and with how many sessions; and who may be shown as well.
    fn model(&self, channel: usize) -> (BTreeMap<String, u32>, BTreeSet<String>) {
        let (mut there, mut may) = (BTreeMap::new(), BTreeSet::new());
        for session in self.sessions.iter().filter(|session| session.channel == channel) {
            let grace_ms = RULES.grace_ms + self.options.linger_ms + self.options.delta_interval_ms + 1_000;
            match session.away_since_ms {
                None => *there.entry(session.user.clone()).or_default() += 1,
                Some(since_ms) if self.ms < since_ms + grace_ms => drop(may.insert(session.user.clone())),
                Some(_) => {}
            }
        }
        let ghosts = self.ghosts.iter().filter(|(of, _)| *of == channel);
        may.extend(ghosts.map(|(_, user)| user.clone()));
        (there, may)
    }

    fn shown(&self, node: usize, channel: usize) -> Vec<Member> {
        let name = ChannelName::parse(CHANNELS[channel]).expect("a name");
        self.nodes[node].presence.snapshot(&name).members
    }

    /// Everybody who is there is shown, and nobody who cannot be.
    fn check_users(&mut self, when: &str) {
        for channel in 0..CHANNELS.len() {
            let (there, may) = self.model(channel);
            for node in 0..self.nodes.len() {
                let shown: BTreeSet<String> =
                    self.shown(node, channel).into_iter().map(|member| member.user.to_string()).collect();
                let missing: Vec<_> = there.keys().filter(|user| !shown.contains(*user)).collect();
                let extra: Vec<_> =
                    shown.iter().filter(|user| !there.contains_key(*user) && !may.contains(*user)).collect();
                if !missing.is_empty() || !extra.is_empty() {
                    let fault = format!("{when}: node {node} misses {missing:?} and shows {extra:?}");
                    self.fault(fault);
                }
            }
        }
    }

    /// Every node shows the same, its watcher knows it, and the model says it.
    fn check_all(&mut self) {
        for (channel, name) in CHANNELS.iter().enumerate() {
            let first = self.shown(0, channel);
            let counts: BTreeMap<String, u32> =
                first.iter().map(|member| (member.user.to_string(), member.sessions)).collect();
            let (there, _) = self.model(channel);
            if counts != there {
                self.fault(format!("in the end {counts:?} are shown, and {there:?} are there"));
            }
            for node in 0..self.nodes.len() {
                let shown = self.shown(node, channel);
                if shown.len() != first.len() {
                    self.fault(format!("node 0 shows {}, and node {node} {}", first.len(), shown.len()));
                    continue;
                }
                if shown != first {
                    self.fault(format!("in the end node 0 shows {first:?}, and node {node} {shown:?}"));
                }
                let known = self.nodes[node].known.get(*name).cloned().unwrap_or_default();
                let told = |member: &Member| {
                    let cursor = member.cursor.as_ref().map(|cursor| cursor.get().to_owned());
                    (member.user.clone(), member.sessions, cursor)
                };
                if !known.values().map(told).eq(shown.iter().map(told)) {
                    self.fault(format!("node {node} shows {shown:?}, and its watcher knows {known:?}"));
                }
            }
        }
        for node in 0..self.nodes.len() {
            let presence = &self.nodes[node].presence;
            let (status, name) = (presence.replica(), &self.nodes[node].name);
            let own = self.sessions.iter().filter(|it| it.node == *name && it.away_since_ms.is_none());
            let own: BTreeSet<_> = own.map(|session| (session.channel, &session.user)).collect();
            if status.entries_own != own.len() || status.nodes != self.nodes.len() - 1 || status.suspect > 0 {
                self.fault(format!("node {node} with {} rows says {status:?}", own.len()));
            }
        }
    }

    fn chaos(&mut self) {
        let user = format!("u{}", self.rng.below(8));
        let (node, channel) = (self.rng.below(self.nodes.len()), self.rng.below(CHANNELS.len()));
        let session = (!self.sessions.is_empty()).then(|| self.rng.below(self.sessions.len()));
        match (self.rng.below(200), session) {
            (0..20, _) => {
                self.join(node, channel, &user);
            }
            (20..30, Some(session)) => self.end(session, Parting::Left),
            (30..45, Some(session)) => self.end(session, Parting::Broke),
            // One whose connection broke is back, wherever.
            (45..60, Some(session)) if self.sessions[session].away_since_ms.is_some() => {
                let Session { user, channel, .. } = &self.sessions[session];
                let (user, channel) = (user.clone(), *channel);
                self.join(node, channel, &user);
            }
            (60..80, Some(session)) => {
                let cursor = self.rng.chance(80).then(|| self.rng.below(1_000).to_string());
                self.place(session, cursor.as_deref());
            }
            (80..82, _) => {
                let goodbye = self.rng.chance(50);
                self.restart(node, goodbye);
            }
            (82..84, _) => self.nodes[node].cut = *self.rng.pick(&[Cut::Known, Cut::Hidden]),
            (84..90, _) => self.nodes[node].cut = Cut::No,
            (90, _) => self.nodes.iter_mut().for_each(|node| node.cut = Cut::Known),
            (91, _) => self.way = *self.rng.pick(&[CALM, HOSTILE]),
            _ => {}
        }
        // Whoever is away for too long is no session any more, here as there.
        let (ms, stays_ms) = (self.ms, RULES.grace_ms + self.options.linger_ms);
        let names: BTreeSet<String> = self.nodes.iter().map(|node| node.name.clone()).collect();
        self.sessions.retain(|session| {
            let over = session.away_since_ms.is_some_and(|since_ms| ms > since_ms + stays_ms + 5_000);
            !over && names.contains(&session.node)
        });
    }
}

/// How much happened, so that runs in which nothing does are noticed.
#[derive(Debug, Default, Clone, Copy)]
struct Tally {
    news: u64,
    asked: u64,
    served: u64,
    missed: u64,
    lost: u64,
}

/// A rule that is switched off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    All,
    /// Nobody says where it stands, which is a sign of life as well.
    NoDigest,
    /// What was missed cannot be asked for.
    NoRepair,
    NoRemoval,
}

fn options(rule: Rule) -> ReplicaOptions {
    let mut options = ReplicaOptions { body_bytes_max: 400, ended_max: 12, ..ReplicaOptions::default() };
    match rule {
        Rule::All | Rule::NoRepair => {}
        Rule::NoDigest => options.digest_interval_ms = u64::MAX,
        Rule::NoRemoval => options.silent_after_ms = u64::MAX,
    }
    options
}

/// Half a minute of everything, then five quiet seconds, then as long as a silent node's rows may stay.
fn run(seed: u64, rule: Rule) -> Result<Tally, Vec<String>> {
    let nodes = 3 + (seed % 2) as usize;
    let mut world = World::new(seed, nodes, options(rule));
    world.asks_are_lost = rule == Rule::NoRepair;
    world.run(2_000);
    world.way = HOSTILE;
    for _ in 0..600 {
        world.chaos();
        world.step();
    }
    world.way = CALM;
    world.nodes.iter_mut().for_each(|node| node.cut = Cut::No);
    world.run(5_000);
    world.check_users("five seconds after all was whole");
    world.run(12_000);
    world.ghosts.clear();
    world.sessions.retain(|session| session.away_since_ms.is_none());
    world.check_all();
    let mut tally = Tally::default();
    for node in &world.nodes {
        let status = node.presence.replica();
        tally.news += node.news.len() as u64;
        tally.asked += status.asked;
        tally.served += status.served;
        tally.missed += status.missed;
        tally.lost += status.lost;
    }
    if world.faults.is_empty() { Ok(tally) } else { Err(world.faults) }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn seeds(default: u64) -> std::ops::Range<u64> {
    match number("PULSEWIRE_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("PULSEWIRE_SIM_SEEDS").unwrap_or(default),
    }
}

/// Row M9.
#[test]
fn all_nodes_show_the_same_when_the_way_between_them_is_whole_again() {
    let seeds = seeds(150);
    let (mut all, count) = (Tally::default(), seeds.end - seeds.start);
    for seed in seeds {
        match run(seed, Rule::All) {
            Ok(tally) => {
                all.news += tally.news;
                all.asked += tally.asked;
                all.served += tally.served;
                all.missed += tally.missed;
                all.lost += tally.lost;
            }
            Err(faults) => panic!("PULSEWIRE_SIM_SEED={seed}:\n{}", faults[..faults.len().min(6)].join("\n")),
        }
    }
    let least = [all.news, all.asked, all.served, all.missed, all.lost].into_iter().min();
    assert!(count < 10 || least >= Some(count), "too little happened in {count} seeds: {all:?}");
}

#[test]
fn nodes_that_do_not_say_where_they_stand_are_noticed() {
    assert!((0..20).any(|seed| run(seed, Rule::NoDigest).is_err()));
}

#[test]
fn what_was_missed_and_is_not_repaired_is_noticed() {
    assert!((0..20).any(|seed| run(seed, Rule::NoRepair).is_err()));
}

#[test]
fn rows_of_dead_nodes_that_stay_are_noticed() {
    assert!((0..20).any(|seed| run(seed, Rule::NoRemoval).is_err()));
}

/// Joins and leaves that watchers hear while users break and come back on other nodes just before their grace ends.
fn moves(seed: u64, linger_ms: u64) -> usize {
    let options = ReplicaOptions { linger_ms, ..ReplicaOptions::default() };
    let mut world = World::new(seed, 3, options);
    world.way = Way { loses: 0, repeats: 20, delay_ms: 350 };
    world.run(2_000);
    let mut sessions: Vec<(usize, usize)> = Vec::new();
    for user in 0..12 {
        let node = world.rng.below(3);
        sessions.push((user, world.join(node, 0, &format!("u{user}"))));
    }
    world.run(3_000);
    let told: usize = world.nodes.iter().map(|node| node.news.len()).sum();
    assert_eq!(told, 3 * 12, "everybody was told of once on each node");
    for _ in 0..4 {
        let mut back: Vec<(u64, usize)> = Vec::new();
        for (_, session) in &sessions {
            world.end(*session, Parting::Broke);
        }
        let broke_ms = world.ms;
        for (user, _) in &sessions {
            back.push((broke_ms + world.rng.between(200, 4_950) as u64, *user));
        }
        sessions.clear();
        while world.ms < broke_ms + 5_000 {
            let due: Vec<usize> =
                back.iter().filter(|(at_ms, _)| *at_ms <= world.ms).map(|it| it.1).collect();
            back.retain(|(at_ms, _)| *at_ms > world.ms);
            for user in due {
                let node = world.rng.below(3);
                sessions.push((user, world.join(node, 0, &format!("u{user}"))));
            }
            world.step();
        }
        assert!(back.is_empty(), "all are back");
        world.run(3_000);
    }
    world.check_users("all are back");
    assert_eq!(world.faults, Vec::<String>::new());
    world.nodes.iter().map(|node| node.news.len()).sum::<usize>() - told
}

/// Row R9, between nodes.
#[test]
fn whoever_is_back_on_another_node_within_the_grace_is_no_news() {
    for seed in seeds(40) {
        assert_eq!(moves(seed, ReplicaOptions::default().linger_ms), 0, "PULSEWIRE_SIM_SEED={seed}");
    }
}

#[test]
fn without_the_time_to_hear_of_it_coming_back_elsewhere_is_news() {
    assert!((0..40).any(|seed| moves(seed, 0) > 0));
}

/// Row M8.
#[test]
fn users_of_a_node_that_ends_without_a_word_have_left_once_each_within_fifteen_seconds() {
    let mut world = World::new(7, 3, ReplicaOptions::default());
    world.run(2_000);
    for user in 0..500 {
        world.join(0, 0, &format!("u{user}"));
    }
    world.run(1_500);
    // Some of them are on another node as well, or come back there.
    for user in 0..20 {
        world.join(1, 0, &format!("u{user}"));
    }
    world.run(1_500);
    world.nodes.iter_mut().for_each(|node| node.news.clear());
    let dead_ms = world.ms;
    world.restart(0, false);
    world.run(2_000);
    for user in 20..50 {
        world.join(2, 0, &format!("u{user}"));
    }
    world.run(10_000);
    for node in 1..3 {
        assert_eq!(world.nodes[node].presence.replica().suspect, 1);
        assert_eq!(world.nodes[node].news, [], "node {node}: suspect is not gone");
        assert!(world.shown(node, 0).iter().all(|member| member.sessions == 1), "who came back counts once");
    }
    world.run(8_000);
    world.ghosts.clear();
    world.check_all();
    assert_eq!(world.faults, Vec::<String>::new());
    for node in 1..3 {
        let left: BTreeSet<&str> = world.nodes[node].news.iter().map(|(_, news)| news.as_str()).collect();
        assert_eq!(world.nodes[node].news.len(), 450, "once each");
        assert_eq!(left.len(), 450);
        assert!(left.iter().all(|news| news.starts_with('-')));
        let last_ms = world.nodes[node].news.iter().map(|(ms, _)| *ms).max().expect("some left");
        assert!(last_ms <= dead_ms + 15_000, "the last left after {} ms", last_ms - dead_ms);
    }
}

#[test]
fn a_node_that_says_goodbye_leaves_its_users_their_grace_and_no_more() {
    let mut world = World::new(3, 3, ReplicaOptions::default());
    world.run(2_000);
    for user in 0..40 {
        world.join(0, 0, &format!("u{user}"));
    }
    world.run(2_000);
    world.nodes.iter_mut().for_each(|node| node.news.clear());
    let gone_ms = world.ms;
    world.restart(0, true);
    world.run(3_000);
    for user in 0..20 {
        world.join(1, 0, &format!("u{user}"));
    }
    world.run(7_000);
    for node in 1..3 {
        let news = &world.nodes[node].news;
        assert_eq!(news.len(), 20, "those who came back are no news");
        let (first, last) = (news.iter().map(|it| it.0).min(), news.iter().map(|it| it.0).max());
        assert!(first >= Some(gone_ms + 5_000) && last <= Some(gone_ms + 7_000), "{first:?} to {last:?}");
    }
    world.ghosts.clear();
    world.check_all();
    assert_eq!(world.faults, Vec::<String>::new());
}

/// Leaves that are told while nobody reaches anybody for a minute.
fn outage(cut: Cut) -> usize {
    let mut world = World::new(5, 3, ReplicaOptions::default());
    world.run(2_000);
    for user in 0..30 {
        world.join(user % 3, 0, &format!("u{user}"));
    }
    world.run(2_000);
    world.nodes.iter_mut().for_each(|node| node.news.clear());
    world.nodes.iter_mut().for_each(|node| node.cut = cut);
    world.run(60_000);
    world.nodes.iter_mut().for_each(|node| node.cut = Cut::No);
    world.run(3_000);
    world.check_all();
    assert_eq!(world.faults, Vec::<String>::new());
    world.nodes.iter().flat_map(|node| &node.news).filter(|(_, news)| news.starts_with('-')).count()
}

#[test]
fn a_broker_that_is_down_for_a_minute_empties_no_room() {
    assert_eq!(outage(Cut::Known), 0);
    assert_eq!(outage(Cut::Hidden), 60, "counting that time as silence would");
}

#[test]
fn a_node_that_did_not_run_for_a_minute_takes_nobody_for_silent() {
    let mut world = World::new(5, 2, ReplicaOptions::default());
    world.run(2_000);
    world.join(0, 0, "ada");
    world.run(2_000);
    // Both stand still, as after the machine slept.
    world.ms += 60_000;
    world.run(3_000);
    assert!(world.nodes.iter().all(|node| node.news.len() == 1));
    assert!(world.nodes.iter().all(|node| node.presence.replica().lost == 0));
}

#[test]
fn a_node_alone_says_where_it_stands_and_nothing_else() {
    let mut world = World::new(5, 1, ReplicaOptions::default());
    world.join(0, 0, "ada");
    let mut said = Vec::new();
    for _ in 0..100 {
        world.ms += 100;
        said.extend(world.nodes[0].presence.outgoing(world.now(), true));
    }
    assert_eq!(said.len(), 7);
    assert!(
        said.iter().all(|said| said.to.is_none() && said.body.get() == r#"["digest",[1,1]]"#),
        "{said:?}"
    );
    assert!(world.nodes[0].presence.outgoing(world.now().plus_ms(5_000), false).is_empty());
}

#[test]
fn rows_beyond_what_a_node_keeps_are_counted_and_come_when_there_is_room() {
    let options = ReplicaOptions { entries_max: 5, ..ReplicaOptions::default() };
    let mut world = World::new(5, 2, options);
    world.run(2_000);
    let sessions: Vec<usize> = (0..8).map(|user| world.join(0, 0, &format!("u{user}"))).collect();
    world.run(3_000);
    let status = world.nodes[1].presence.replica();
    assert_eq!((status.entries, world.shown(1, 0).len()), (5, 5));
    assert!(status.refused >= 3);
    sessions.into_iter().take(4).rev().for_each(|session| world.end(session, Parting::Left));
    world.run(40_000);
    world.check_all();
    assert_eq!(world.faults, Vec::<String>::new());
}

#[test]
fn a_transfer_goes_in_pieces_and_says_once_what_was_missed() {
    let options = ReplicaOptions { body_bytes_max: 1_000, bodies_max: 4, ..ReplicaOptions::default() };
    let mut world = World::new(5, 2, options);
    for user in 0..2_000 {
        world.join(0, user % 2, &format!("u{user}"));
    }
    world.run(20_000);
    world.check_all();
    assert_eq!(world.faults, Vec::<String>::new());
    assert_eq!(world.nodes[1].news.iter().filter(|(_, news)| news.starts_with('-')).count(), 0);
    assert!(world.nodes[1].presence.replica().asked > 10);
}

#[test]
fn what_is_wrong_is_refused_and_changes_nothing() {
    let mut world = World::new(5, 2, ReplicaOptions { nodes_max: 1, ..ReplicaOptions::default() });
    world.run(2_000);
    world.join(0, 0, "ada");
    world.run(2_000);
    let (now, node) = (world.now(), &world.nodes[1]);
    let before = (node.presence.replica(), world.shown(1, 0));
    let body = |text: &str| RawValue::from_string(text.to_owned()).expect("JSON");
    let hear =
        |from: &str, text: &str| node.presence.hear(from, &body(text), now).map_err(|it| it.to_string());
    let other = world.nodes[0].name.as_str();
    let forged = r#"["rows",[1,2,2,0,false,true,[["run:1","ada",0,0,0,0,null],["run:1","",1,0,1,0,null]]]]"#;
    assert_eq!(hear(other, forged), Err("it cannot be read".to_owned()));
    assert_eq!(hear(&node.name, r#"["digest",[1,1]]"#), Err("it was said by this node itself".to_owned()));
    assert_eq!(hear("", r#"["digest",[1,1]]"#), Err("the node's name is 0 bytes, not 1 to 64".to_owned()));
    assert_eq!(hear("third", r#"["digest",[1,1]]"#), Err("1 nodes are known, and no more can be".to_owned()));
    let rows = r#"["rows",[0,9,9,1,true,true,[["run:1","eve",1,0,1,0,null]]]]"#;
    assert_eq!(hear("third", rows), Ok(()), "nobody knows it, so nothing it says counts");
    assert_eq!((node.presence.replica(), world.shown(1, 0)), before);
    let alone = Presence::new("alone", Box::new(Ears::default()));
    let unheard = alone.hear(other, &body(r#"["digest",[1,1]]"#), now).map_err(|it| it.to_string());
    assert_eq!(unheard, Err("presence is not shared between nodes here".to_owned()));
    assert_eq!((alone.outgoing(now, true).len(), alone.replica()), (0, Default::default()));
}

/// What a namespace allows is for all nodes together; only who comes at the same moment elsewhere is one too many.
#[test]
fn a_full_room_is_full_on_every_node_for_everybody_but_its_members() {
    let mut world = World::new(5, 2, ReplicaOptions::default());
    world.run(2_000);
    for user in 0..RULES.members_max {
        world.join(0, 0, &format!("u{user}"));
    }
    world.run(2_000);
    let channel = ChannelName::parse(CHANNELS[0]).expect("a name");
    let join = |user: &str, number: u64| {
        let who = (user, SessionId::new(number, 0, 0, number));
        world.nodes[1].presence.join(&channel, RULES, who, world.now()).is_ok()
    };
    assert!(join("u7", 1), "it is a member already");
    assert!(!join("late", 2), "the room is full");
    assert_eq!(world.nodes[1].presence.count(), (1, RULES.members_max));
    assert_eq!(world.nodes[1].presence.count_here(), (1, 1));
    assert_eq!(world.nodes[1].presence.present(&channel), RULES.members_max);
}

#[test]
fn the_cursor_placed_last_is_shown_whatever_the_clocks_of_nodes_say() {
    let mut world = World::new(5, 2, ReplicaOptions::default());
    world.run(2_000);
    let (here, there) = (world.join(0, 0, "ada"), world.join(1, 0, "ada"));
    let shown = |world: &World| {
        let cursor = |node| world.shown(node, 0)[0].cursor.as_ref().map(|cursor| cursor.get().to_owned());
        assert_eq!(cursor(0), cursor(1), "nodes agree");
        cursor(0)
    };
    // The clock of the first node is an hour ahead.
    let (ms, ahead_ms) = (world.ms, 3_600_000);
    world.ms += ahead_ms;
    world.place(here, Some("1"));
    world.ms = ms;
    world.run(1_000);
    assert_eq!(shown(&world).as_deref(), Some("1"));
    world.place(there, Some("2"));
    world.run(1_000);
    assert_eq!(shown(&world).as_deref(), Some("2"));
    world.place(here, None);
    world.run(1_000);
    assert_eq!(shown(&world), None, "taking it away uncovers no older one");
    world.place(there, Some("3"));
    world.run(1_000);
    world.end(there, Parting::Left);
    world.run(1_000);
    assert_eq!(shown(&world), None, "a cursor goes with its session");
}
