//! A client that believes nothing: it decodes the server's bytes by itself and checks what they say.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use pulsewire_protocol::transcode::msgpack_to_json;
use serde_json::Value;

use super::truth::{Keys, Kind, Truth, host_has, key_of, kind, rank, removes};

/// Something asked for, by request id.
#[derive(Debug, Clone)]
pub enum Asked {
    Subscribe(Vec<Wanted>),
    Unsubscribe,
    Publish(Vec<(String, u64)>),
    /// `named` are the channels the wish subscribes to.
    Connect(Vec<Wanted>),
    Ping,
    /// Any answer will do.
    Anything,
}

/// One wanted channel.
#[derive(Debug, Clone)]
pub struct Wanted {
    pub channel: String,
    pub since: Option<(String, u64)>,
    /// The head of the channel when this was asked.
    pub head: u64,
    pub replays: bool,
    /// It replays critical events only.
    pub critical: bool,
    /// It wants the keyed state.
    pub state: bool,
    /// Which samples are wanted: `a`, `b`, or `*` for all.
    pub host: char,
    pub interval: bool,
    /// What is wanted of the channel's presence: nothing, `"watch"` or `true`.
    pub presence: Option<&'static str>,
    /// Ephemeral publications that had certainly been dealt with when this was asked.
    pub low: u64,
}

/// What the client knows of a channel it listens to.
#[derive(Debug, Clone)]
pub struct Sub {
    pub kind: Kind,
    /// The next sequence of a `log` channel.
    pub next: u64,
    replaying: bool,
    /// Place of the last ephemeral publication or set, 0 if there was none.
    pub last: u64,
    received: u64,
    dropped: u64,
    /// The first ephemeral publication it can have had lies between these.
    low: u64,
    high: u64,
    host: char,
    /// Up to here, at most, only critical events come …
    critical_until: u64,
    /// … and up to here for certain.
    critical_surely: u64,
    state: Option<Keyed>,
    interval: bool,
    /// Sets that were merged: the next one stands so far behind `last`.
    owed: Option<u64>,
    /// What the server said of merged sets before a first one came.
    vague: bool,
    /// It came back with a session, and how it was wanted is not known.
    guessed: bool,
}

/// What the client knows of a channel's keyed state.
#[derive(Debug, Clone, Default)]
struct Keyed {
    /// The last key of the last part; `None` before the first.
    after: Option<String>,
    /// The last key of each part, and up to where its events are in it.
    parts: Vec<(String, u64)>,
    /// It was broken off before, or asked for and not heard of: it may come, and need not.
    maybe: bool,
    /// Every part has come.
    whole: bool,
    /// Events that it had to be told of are gone.
    holes: bool,
    keys: Keys,
}

impl Keyed {
    /// Up to where the events of a key are known.
    fn known(&self, key: &str) -> u64 {
        let part = self.parts.iter().find(|(last, _)| key <= last.as_str()).or(self.parts.last());
        let event = self.keys.get(key).map_or(0, |(sequence, _)| *sequence);
        part.map_or(0, |(_, sequence)| *sequence).max(event)
    }
}

impl Sub {
    /// Whether it may be sent nothing of this range.
    fn skips(&self, channel: &str, range: std::ops::Range<u64>, truth: &Truth) -> bool {
        let wanted = |at: &u64| *at > self.critical_until || truth.is_critical(channel, *at);
        range.filter(wanted).all(|at| skips(self.host, channel, at..at + 1, truth))
    }
}

/// The host of a subscription that may have a filter or none.
const UNKNOWN: char = '?';

/// Whether a subscription for a host may be sent nothing of this range.
fn skips(host: char, channel: &str, range: std::ops::Range<u64>, truth: &Truth) -> bool {
    match host {
        '*' => range.is_empty(),
        UNKNOWN => true,
        host => truth.none_of(channel, host, range),
    }
}

/// What the client knows of who is in a channel.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct View {
    pub version: u64,
    /// Sessions and cursor of each user.
    pub members: BTreeMap<String, (u64, Value)>,
}

/// How the client reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    All,
    Bytes(usize),
    Nothing,
}

/// A wrong thing done to the frames on their way, to see whether the checks find it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mangle {
    LoseEvent,
    RepeatEvent,
    SwapEvents,
    EatDropped,
    EatConflated,
    EatGap,
    EatAck,
    EatState,
    CorruptLength,
}

pub struct Client {
    pub number: usize,
    pub user: String,
    pub msgpack: bool,
    /// Its connection, as a number of the world's wires.
    pub wire: Option<usize>,
    pub opened: bool,
    pub session: Option<String>,
    /// The epoch of each `log` channel, as it was last told.
    pub epochs: BTreeMap<String, String>,
    /// What is wrong unless a `reset` of the channel follows.
    doubts: Vec<(String, String)>,
    pub subs: BTreeMap<String, Sub>,
    /// Who is in the channels whose presence it watches.
    pub presence: BTreeMap<String, View>,
    /// What it knew of its `log` channels when it lost its connection.
    pub known: BTreeMap<String, u64>,
    /// Channels that it once listened to with a filter.
    pub filtered: BTreeSet<String>,
    /// Channels of which it may not have had the whole state.
    stateless: BTreeSet<String>,
    /// Up to where it has, for certain and at most, asked for critical events only.
    pub critical: BTreeMap<String, (u64, u64)>,
    /// Whether something it had asked for may have been done without its hearing of it.
    pub unsure: bool,
    /// Whether bytes that the kernel had taken were lost with the last connection.
    pub lost_bytes: bool,
    /// Whether the last connection ended with a close frame.
    pub was_closed: bool,
    pub asked: HashMap<u64, Asked>,
    /// Asked on a key that has changed since: answered or not.
    maybe: HashMap<u64, Asked>,
    /// Another client goes on with its session, or it with another's.
    pub shared: bool,
    pub next_id: u64,
    pub reading: Reading,
    pub answers_pings: bool,
    pub pongs: Vec<Vec<u8>>,
    pub message_pongs: Vec<f64>,
    /// The code of the close frame that came; 1005 if it had none.
    pub closed: Option<u16>,
    pub limited: u64,
    pub errors: u64,
    /// Everything heard on this connection, in short; kept when asked to.
    pub heard: Option<Vec<String>>,
    pub resumed: u64,
    pub events: u64,
    buffer: Vec<u8>,
    held: Option<Value>,
    mangled: bool,
    corrupt: bool,
    pub mangle: Option<Mangle>,
    pub faults: Vec<String>,
}

impl Client {
    pub fn new(number: usize, user: &str) -> Self {
        Self {
            number,
            user: user.into(),
            msgpack: false,
            wire: None,
            opened: false,
            session: None,
            epochs: BTreeMap::new(),
            doubts: Vec::new(),
            subs: BTreeMap::new(),
            presence: BTreeMap::new(),
            known: BTreeMap::new(),
            filtered: BTreeSet::new(),
            critical: BTreeMap::new(),
            stateless: BTreeSet::new(),
            unsure: false,
            lost_bytes: false,
            was_closed: false,
            asked: HashMap::new(),
            maybe: HashMap::new(),
            shared: false,
            next_id: 1,
            reading: Reading::All,
            answers_pings: true,
            pongs: Vec::new(),
            message_pongs: Vec::new(),
            closed: None,
            limited: 0,
            errors: 0,
            heard: None,
            resumed: 0,
            events: 0,
            buffer: Vec::new(),
            held: None,
            mangled: false,
            corrupt: false,
            mangle: None,
            faults: Vec::new(),
        }
    }

    fn fault(&mut self, text: impl AsRef<str>) {
        let mut line = format!("client {} (connection {:?}): {}", self.number, self.wire, text.as_ref());
        if let Some(heard) = &self.heard {
            let last = &heard[heard.len().saturating_sub(25)..];
            line.push_str(&format!("\n      after: {}", last.join(" | ")));
        }
        self.faults.push(line);
    }

    /// A new connection stands.
    pub fn connected(&mut self, wire: usize) {
        self.wire = Some(wire);
        self.opened = false;
        self.closed = None;
        self.buffer.clear();
        self.held = None;
        self.asked.clear();
        self.maybe.clear();
        self.pongs.clear();
        self.message_pongs.clear();
        self.reading = Reading::All;
        self.answers_pings = true;
        if let Some(heard) = &mut self.heard {
            heard.clear();
        }
    }

    /// The connection is over.
    pub fn disconnected(&mut self, unread: bool) {
        self.doubts.clear();
        self.wire = None;
        self.was_closed = self.closed.is_some();
        self.lost_bytes = unread || !self.buffer.is_empty();
        let changes = |asked: &Asked| !matches!(asked, Asked::Publish(_) | Asked::Ping);
        self.unsure = self.asked.values().chain(self.maybe.values()).any(changes);
        for asked in self.asked.values().chain(self.maybe.values()) {
            let (Asked::Subscribe(wishes) | Asked::Connect(wishes)) = asked else { continue };
            for wish in wishes {
                let until = self.critical.get(&wish.channel).map_or(0, |(_, until)| *until);
                let until = if wish.critical { u64::MAX } else { until };
                self.critical.insert(wish.channel.clone(), (0, until));
            }
            let stateful = wishes.iter().filter(|wish| wish.state);
            self.stateless.extend(stateful.map(|wish| wish.channel.clone()));
        }
        for (channel, sub) in &self.subs {
            if sub.state.as_ref().is_some_and(|keyed| !keyed.whole) {
                self.stateless.insert(channel.clone());
            }
        }
        self.known.clear();
        for (channel, sub) in &self.subs {
            if sub.kind == Kind::Log {
                self.known.insert(channel.clone(), sub.next);
            }
        }
        self.subs.clear();
        self.presence.clear();
        self.asked.clear();
    }

    /// Bytes came.
    pub fn read(&mut self, bytes: impl IntoIterator<Item = u8>, truth: &Truth) {
        self.buffer.extend(bytes);
        let mut at = 0;
        while let Some((opcode, header, len)) = self.frame(at) {
            let payload = self.buffer[at + header..at + header + len].to_vec();
            at += header + len;
            if self.closed.is_some() {
                self.fault("a frame after the close frame");
            }
            self.on_frame(opcode, &payload, truth);
        }
        self.buffer.drain(..at.min(self.buffer.len()));
        if std::mem::take(&mut self.corrupt) {
            self.buffer.insert(0, b'x');
        }
    }

    /// Opcode, header length and payload length of the frame at an offset, if it is whole.
    fn frame(&mut self, at: usize) -> Option<(u8, usize, usize)> {
        let bytes = self.buffer.get(at..)?;
        let (&first, &second) = (bytes.first()?, bytes.get(1)?);
        if first & 0xF0 != 0x80 || second & 0x80 != 0 || !matches!(first & 15, 1 | 2 | 8 | 9 | 10) {
            self.fault(format!("not a frame: {first:#x} {second:#x}"));
            self.buffer.clear();
            return None;
        }
        let (header, len) = match second {
            126 => (4, usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?]))),
            127 => (10, u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?) as usize),
            len => (2, usize::from(len)),
        };
        (bytes.len() >= header + len).then_some((first & 15, header, len))
    }

    fn on_frame(&mut self, opcode: u8, payload: &[u8], truth: &Truth) {
        match opcode {
            8 => {
                let code = payload.get(..2).map_or(1005, |code| u16::from_be_bytes([code[0], code[1]]));
                self.note(format!("close {code}"));
                self.closed = Some(code);
            }
            9 => {
                self.note("PING".into());
                if self.answers_pings {
                    self.pongs.push(payload.to_vec());
                }
            }
            10 => self.note("PONG".into()),
            1 => match serde_json::from_slice(payload) {
                Ok(value) => self.mangled(value, truth),
                Err(error) => self.fault(format!("text that is not JSON: {error}")),
            },
            _ => {
                let mut json = Vec::new();
                match msgpack_to_json(payload, &mut json).map(|()| serde_json::from_slice(&json)) {
                    Ok(Ok(value)) => self.mangled(value, truth),
                    _ => self.fault("binary that is not MessagePack"),
                }
            }
        }
    }

    /// Does to the message what the mutant does, once.
    fn mangled(&mut self, value: Value, truth: &Truth) {
        let Some(mangle) = self.mangle.filter(|_| !self.mangled) else {
            self.on_message(&value, truth);
            return;
        };
        let kind = value["type"].as_str().unwrap_or_default().to_owned();
        let is_log_event = kind == "event" && value["sequence"].is_u64();
        let hit = match mangle {
            Mangle::LoseEvent | Mangle::RepeatEvent | Mangle::SwapEvents => is_log_event,
            Mangle::EatDropped => kind == "dropped",
            Mangle::EatConflated => kind == "conflated",
            Mangle::EatGap => kind == "gap",
            Mangle::EatAck => kind == "ack",
            Mangle::EatState => kind == "state",
            Mangle::CorruptLength => is_log_event,
        };
        if let Some(first) = self.held.take() {
            self.mangled = true;
            self.on_message(&value, truth);
            self.on_message(&first, truth);
            return;
        }
        if !hit {
            self.on_message(&value, truth);
            return;
        }
        match mangle {
            Mangle::SwapEvents => {
                self.held = Some(value);
                return;
            }
            Mangle::RepeatEvent => {
                self.on_message(&value, truth);
                self.on_message(&value, truth);
            }
            Mangle::CorruptLength => {
                self.on_message(&value, truth);
                self.corrupt = true;
            }
            _ => {}
        }
        self.mangled = true;
    }

    fn note(&mut self, line: String) {
        if let Some(heard) = &mut self.heard {
            heard.push(line);
        }
    }

    fn on_message(&mut self, value: &Value, truth: &Truth) {
        if self.heard.is_some() {
            self.note(short(value));
        }
        let channel = value["channel"].as_str().unwrap_or_default();
        match value["type"].as_str().unwrap_or_default() {
            "welcome" => {
                self.opened = true;
                self.session = value["client_id"].as_str().map(Into::into);
            }
            "connected" => self.on_connected(value),
            "subscribed" => self.on_subscribed(value, truth),
            "unsubscribed" => {
                self.answered(value);
                for channel in texts(&value["channels"]) {
                    self.subs.remove(&channel);
                    self.presence.remove(&channel);
                    self.known.remove(&channel);
                }
            }
            "event" => self.on_event(channel, value, truth),
            "gap" => self.on_gap(channel, value, truth),
            "state" => self.on_state(channel, value, truth),
            "pos" => self.on_pos(channel, value, truth),
            "reset" => self.on_reset(channel, value),
            "replay_end" => self.on_replay_end(channel, value, truth),
            "dropped" => self.on_dropped(channel, value, truth),
            "conflated" => self.on_conflated(channel, value),
            "ack" => self.on_ack(value, truth),
            "error" => self.on_error(value),
            "pong" | "refreshed" | "history" => {
                self.answered(value);
            }
            "ping" => {
                if self.answers_pings {
                    self.message_pongs.push(value["timestamp"].as_f64().unwrap_or(0.0));
                }
            }
            "reconnect" | "token_expiring" => {}
            "presence" => self.on_presence(channel, value),
            _ if value["channel"].is_string() || value["metric"].is_string() => self.on_values(value, truth),
            _ => {
                // A grouped metric document has no `type` of the protocol.
                self.on_values(value, truth);
            }
        }
    }

    fn answered(&mut self, value: &Value) -> Option<Asked> {
        let id = value["id"].as_u64()?;
        let asked = self.asked.remove(&id).or_else(|| self.maybe.remove(&id));
        if asked.is_none() {
            self.fault(format!("an answer to nothing that was asked: {value}"));
        }
        asked
    }

    fn on_connected(&mut self, value: &Value) {
        let asked = self.answered(value);
        self.opened = true;
        let session = value["session"].as_str().map(str::to_owned);
        let other = session != self.session;
        let resumed = value["resumed"] == true;
        if resumed || other {
            // Its key has changed: answers to what was under way fall to the ground.
            let id = value["id"].as_u64().unwrap_or(0);
            let (after, before) = self.asked.drain().partition(|(asked, _)| *asked > id);
            self.asked = after;
            self.maybe.extend::<HashMap<u64, Asked>>(before);
        }
        if resumed {
            self.resumed += 1;
            if !other && !self.subs.is_empty() {
                self.fault("resumed the session it has");
            }
        }
        if !resumed && other {
            self.critical.clear();
            self.stateless.clear();
            self.subs.clear();
            self.presence.clear();
            self.known.clear();
        } else if resumed {
            self.subs.clear();
            self.presence.clear();
        }
        self.session = session;
        if let Some(Asked::Connect(wishes)) = asked
            && !wishes.is_empty()
            && let Some(id) = value["id"].as_u64()
        {
            self.asked.insert(id, Asked::Subscribe(wishes));
        }
    }

    fn on_subscribed(&mut self, value: &Value, truth: &Truth) {
        let wishes = match value["id"].as_u64() {
            None => None,
            Some(_) => match self.answered(value) {
                Some(Asked::Subscribe(wishes)) => Some(wishes),
                Some(other) => {
                    self.fault(format!("`subscribed` to {other:?}"));
                    return;
                }
                None => return,
            },
        };
        for channel in texts(&value["channels"]) {
            let wish = wishes.iter().flatten().find(|wish| wish.channel == channel).cloned();
            if wish.as_ref().is_some_and(|wish| wish.presence.is_none()) {
                self.presence.remove(&channel);
            }
            if wishes.is_some() && wish.is_none() {
                self.fault(format!("subscribed to {channel}, which was not asked for"));
            }
            match kind(&channel) {
                Kind::Log => self.begin_log(&channel, wish.as_ref(), value, truth),
                kind => {
                    let fresh = Sub {
                        kind,
                        next: 0,
                        replaying: false,
                        last: 0,
                        received: 0,
                        dropped: 0,
                        low: wish.as_ref().map_or(0, |wish| wish.low),
                        high: truth.said(&channel),
                        host: wish.as_ref().map_or('*', |wish| wish.host),
                        critical_until: 0,
                        critical_surely: 0,
                        state: None,
                        interval: wish.as_ref().is_none_or(|wish| wish.interval),
                        owed: None,
                        vague: true,
                        guessed: wish.is_none(),
                    };
                    let same = |known: &Sub| {
                        kind == Kind::Ephemeral
                            || (!known.guessed
                                && known.host == fresh.host
                                && known.interval == fresh.interval)
                    };
                    match self.subs.get_mut(&channel) {
                        Some(known) if same(known) => {}
                        _ => {
                            self.subs.insert(channel, fresh);
                        }
                    }
                }
            }
        }
    }

    fn begin_log(&mut self, channel: &str, wish: Option<&Wanted>, value: &Value, truth: &Truth) {
        let position = &value["positions"][channel];
        let (Some(epoch), Some(sequence)) = (position["epoch"].as_str(), position["sequence"].as_u64())
        else {
            self.fault(format!("subscribed to {channel} without a position"));
            return;
        };
        let before = self.epochs.insert(channel.to_owned(), epoch.to_owned());
        let same_history = before.is_none_or(|before| before == epoch);
        if sequence > truth.head(channel) {
            self.fault(format!("{channel}: position {sequence} is ahead of {}", truth.head(channel)));
        }
        let mut replaying = wish.is_some_and(|wish| wish.replays || wish.state);
        let present = self.subs.get(channel);
        let (mut critical_surely, mut critical_until) = (0, 0);
        let mut state = wish.filter(|wish| wish.state).map(|_| Keyed::default());
        match wish {
            Some(Wanted { since: Some((asked_epoch, asked)), head, .. }) => {
                if asked_epoch == epoch && *asked <= *head && sequence != *asked {
                    self.fault(format!("{channel}: asked since {asked}, begins after {sequence}"));
                }
            }
            Some(Wanted { replays: false, state: false, host, .. }) if same_history => {
                let same = |sub: &&Sub| sub.host == *host || sub.host == UNKNOWN;
                if let Some(sub) = present.filter(same) {
                    replaying = sub.replaying;
                    (critical_surely, critical_until) = (sub.critical_surely, sub.critical_until);
                    state.clone_from(&sub.state);
                    let next = sub.next;
                    if sub.host == UNKNOWN {
                        // It may begin anew, with another filter.
                        critical_surely = 0;
                        if let Some(keyed) = &mut state {
                            (keyed.maybe, keyed.holes) = (true, true);
                        }
                    } else if next > sequence + 1 || !sub.skips(channel, next..sequence + 1, truth) {
                        // Events before it may have been taken back, as before `replay_end`.
                        let line =
                            format!("{channel}: asked again while {next} was next, goes on after {sequence}");
                        self.doubts.push((channel.to_owned(), line));
                    }
                }
            }
            Some(wish) => {
                if wish.critical {
                    // What is lost on its way to a shard may have left it behind.
                    critical_surely = if truth.lossy { 0 } else { wish.head };
                    critical_until = truth.head(channel);
                    if sequence > 0 {
                        self.fault(format!("{channel}: critical events from {sequence} on"));
                    }
                }
            }
            None => {
                (critical_surely, critical_until) = match self.critical.get(channel) {
                    Some((_, u64::MAX)) => (0, truth.head(channel)),
                    // It may be another's, who replays it so.
                    _ if self.unsure || self.shared => (0, truth.head(channel)),
                    _ if !same_history => (0, 0),
                    until => until.copied().unwrap_or((0, 0)),
                };
                let skipped = |known: u64| {
                    (known..=sequence).all(|at| at <= critical_until && !truth.is_critical(channel, at))
                };
                let known = self.known.get(channel).copied();
                if let Some(known) = known.filter(|_| !self.unsure && !self.shared && same_history) {
                    // What waited behind a close frame may have come twice: at least once is the contract.
                    if sequence + 1 < known && !self.was_closed {
                        self.fault(format!("{channel}: resumed after {sequence} although {known} was next"));
                    }
                    if !skipped(known) && !self.lost_bytes && !self.filtered.contains(channel) {
                        self.fault(format!(
                            "{channel}: resumed after {sequence}, {known} and what follows are missing"
                        ));
                    }
                }
                if self.stateless.contains(channel) {
                    state = Some(Keyed { maybe: true, ..Keyed::default() });
                }
                replaying = true;
            }
        }
        // How a session that comes back had its channels is known only if it was always the same.
        let host = match wish {
            Some(wish) => wish.host,
            None if self.filtered.contains(channel) || self.shared => UNKNOWN,
            None => '*',
        };
        let sub = Sub {
            kind: Kind::Log,
            next: sequence + 1,
            replaying,
            last: 0,
            received: 0,
            dropped: 0,
            low: 0,
            high: 0,
            host,
            critical_until,
            critical_surely,
            state,
            interval: false,
            owed: None,
            vague: false,
            guessed: false,
        };
        if wish.is_some() {
            self.stateless.remove(channel);
        }
        if wish.is_some() || critical_until > 0 {
            self.critical.insert(channel.to_owned(), (critical_surely, critical_until));
        }
        self.subs.insert(channel.to_owned(), sub);
    }

    /// A part of the keyed state: all there is between its keys, as it was at its sequence.
    fn on_state(&mut self, channel: &str, value: &Value, truth: &Truth) {
        let sequence = value["sequence"].as_u64().unwrap_or(u64::MAX);
        let more = value["more"] == true;
        let shared = self.shared || self.unsure;
        let Some(sub) = self.subs.get_mut(channel) else {
            self.fault(format!("the state of {channel}, to which it does not listen"));
            return;
        };
        let Some(keyed) = &mut sub.state else {
            if !shared {
                self.fault(format!("the state of {channel}, which it did not ask for"));
            }
            return;
        };
        let all = truth.state_at(channel, sequence);
        let mut came = Keys::new();
        for event in value["values"].as_array().into_iter().flatten() {
            let key = event["key"].as_str().unwrap_or_default().to_owned();
            came.insert(key, (event["sequence"].as_u64().unwrap_or(0), payload_of(event)));
        }
        let last = came.keys().next_back().cloned();
        let asked = |key: &String| Some(key) > keyed.after.as_ref() && (!more || Some(key) <= last.as_ref());
        let expected: Keys = all.into_iter().filter(|(key, _)| asked(key)).collect();
        let right = came == expected && !keyed.whole && (last.is_some() || !more);
        keyed.parts.push((last.clone().unwrap_or_default(), sequence));
        keyed.after = last.or(keyed.after.take());
        (keyed.whole, keyed.maybe) = (!more, false);
        keyed.keys.extend(came.clone());
        if !right {
            self.fault(format!("{channel}: the state {came:?} at {sequence}, and it was {expected:?}"));
        }
    }

    fn on_event(&mut self, channel: &str, value: &Value, truth: &Truth) {
        self.events += 1;
        let payload = payload_of(value);
        let Some(sub) = self.subs.get_mut(channel) else {
            self.fault(format!("an event of {channel}, to which it does not listen"));
            return;
        };
        if sub.kind == Kind::Log {
            let sequence = value["sequence"].as_u64().unwrap_or(0);
            let expected = sub.next;
            let skips = sub.skips(channel, expected..sequence, truth);
            sub.next = sequence + 1;
            let early = sub.state.as_ref().is_some_and(|keyed| !keyed.whole && !keyed.maybe);
            if let (Some(keyed), Some(key)) = (&mut sub.state, key_of(payload))
                && sequence > keyed.known(&key)
            {
                // What removes a key stays, so that nothing older brings it back.
                keyed.keys.insert(key, (sequence, payload));
            }
            let previous = value["previous"].as_u64().unwrap_or(sequence.saturating_sub(1));
            if early {
                self.fault(format!("{channel}: {sequence} came before the state"));
            }
            if sequence < expected || previous >= expected || !skips {
                self.fault(format!("{channel}: {expected} was next, {sequence} behind {previous} came"));
            }
            let published = sequence.checked_sub(1).and_then(|at| truth.log.get(channel)?.get(at as usize));
            if published != Some(&payload) {
                self.fault(format!("{channel} {sequence} is not what was published"));
            }
            return;
        }
        let place = truth.places.get(&payload).copied().unwrap_or(0);
        if sub.received == 0 && sub.low > place {
            let low = sub.low;
            self.fault(format!("{channel}: {place} was over before {low}, when it subscribed"));
        } else if place <= sub.last {
            let last = sub.last;
            self.fault(format!("{channel}: {place} came after {last}"));
        }
        if let Some(sub) = self.subs.get_mut(channel) {
            sub.last = sub.last.max(place);
            sub.received += 1;
        }
    }

    fn on_gap(&mut self, channel: &str, value: &Value, truth: &Truth) {
        let (from, to) = (value["from"].as_u64().unwrap_or(0), value["to"].as_u64().unwrap_or(0));
        let Some(sub) = self.subs.get_mut(channel) else {
            self.fault(format!("a gap of {channel}, to which it does not listen"));
            return;
        };
        let expected = sub.next;
        // Until the live events only critical ones are missed.
        let critical = to <= sub.critical_surely;
        sub.next = to + 1;
        if let Some(keyed) = &mut sub.state {
            keyed.holes = true;
        }
        if critical && to > truth.critical_floor(channel) {
            let floor = truth.critical_floor(channel);
            self.fault(format!("{channel}: a gap up to {to} although critical events begin behind {floor}"));
        }
        if from != expected || to < from {
            self.fault(format!("{channel}: {expected} was next, a gap from {from} to {to} came"));
        }
        if to > truth.floor(channel) {
            self.fault(format!("{channel}: a gap up to {to} although {} is the floor", truth.floor(channel)));
        }
    }

    fn on_reset(&mut self, channel: &str, value: &Value) {
        let sequence = value["sequence"].as_u64().unwrap_or(0);
        let epoch = value["epoch"].as_str().unwrap_or_default().to_owned();
        let before = self.epochs.insert(channel.to_owned(), epoch.clone());
        match self.subs.get_mut(channel) {
            Some(sub) if before.as_ref() != Some(&epoch) => {
                // Another history: it begins anew, and so does a state that has not come whole.
                self.doubts.retain(|(doubted, _)| doubted != channel);
                (sub.next, sub.replaying) = (sequence + 1, false);
                (sub.critical_surely, sub.critical_until) = (0, 0);
                if let Some(keyed) = &mut sub.state {
                    let holes = keyed.whole;
                    *keyed = Keyed { holes, whole: holes, maybe: keyed.maybe, ..Keyed::default() };
                    sub.replaying = !holes;
                }
                self.critical.insert(channel.to_owned(), (0, 0));
            }
            Some(sub) if sub.next == sequence + 1 => {}
            sub => {
                let line = format!("{channel}: reset to {sequence}, known: {sub:?}");
                self.fault(line);
            }
        }
    }

    fn on_pos(&mut self, channel: &str, value: &Value, truth: &Truth) {
        let sequence = value["sequence"].as_u64().unwrap_or(0);
        match self.subs.get_mut(channel) {
            Some(sub)
                if (sub.host != '*' || sub.critical_until > 0)
                    && sub.skips(channel, sub.next..sequence + 1, truth) =>
            {
                sub.next = sub.next.max(sequence + 1);
            }
            sub => {
                let line = format!("{channel}: pos at {sequence}, known: {sub:?}");
                self.fault(line);
            }
        }
    }

    fn on_replay_end(&mut self, channel: &str, value: &Value, truth: &Truth) {
        let sequence = value["sequence"].as_u64().unwrap_or(0);
        match self.subs.get_mut(channel) {
            Some(sub)
                if sub.next <= sequence + 1
                    // Whether a subscription that came back unseen was replaying is not known.
                    && (sub.replaying || self.shared || self.filtered.contains(channel))
                    && sub.skips(channel, sub.next..sequence + 1, truth) =>
            {
                sub.replaying = false;
                sub.next = sequence + 1;
            }
            sub => {
                // Events before it may have been taken back, when the history was found to be another.
                let line = format!("{channel}: replay_end at {sequence}, known: {sub:?}");
                self.doubts.push((channel.to_owned(), line));
            }
        }
    }

    fn on_presence(&mut self, channel: &str, value: &Value) {
        if !value["id"].is_null() {
            self.answered(value);
        }
        if !self.subs.contains_key(channel) {
            self.fault(format!("presence of {channel}, to which it does not listen"));
            return;
        }
        let version = value["version"].as_u64().unwrap_or(0);
        let user = |member: &Value| member["user"].as_str().unwrap_or_default().to_owned();
        let shown = |member: &Value| (member["sessions"].as_u64().unwrap_or(0), member["cursor"].clone());
        if let Some(members) = value["members"].as_array() {
            let members = members.iter().map(|member| (user(member), shown(member))).collect();
            self.presence.insert(channel.to_owned(), View { version, members });
            return;
        }
        let Some(mut view) = self.presence.remove(channel) else {
            self.fault(format!("{channel}: a change of presence before who is there: {value}"));
            return;
        };
        let mut right = view.version + 1 == version;
        view.version = version;
        for gone in texts(&value["left"]) {
            right &= view.members.remove(&gone).is_some();
        }
        for member in value["joined"].as_array().into_iter().flatten() {
            right &= view.members.insert(user(member), shown(member)).is_none();
        }
        for (user, sessions) in value["sessions"].as_object().into_iter().flatten() {
            let member = view.members.get_mut(user);
            right &= member.map(|member| member.0 = sessions.as_u64().unwrap_or(0)).is_some();
        }
        for (user, cursor) in value["cursors"].as_object().into_iter().flatten() {
            right &= view.members.get_mut(user).map(|member| member.1 = cursor.clone()).is_some();
        }
        if !right {
            self.fault(format!("{channel}: {value} does not follow what was told before"));
        }
        self.presence.insert(channel.to_owned(), view);
    }

    fn on_dropped(&mut self, channel: &str, value: &Value, truth: &Truth) {
        let count = value["count"].as_u64().unwrap_or(0);
        match self.subs.get_mut(channel) {
            Some(sub) if sub.kind == Kind::Ephemeral && count > 0 => {
                sub.dropped += count;
                if sub.dropped + sub.received > truth.said(channel) {
                    self.fault(format!("{channel}: more dropped than published"));
                }
            }
            _ => self.fault(format!("{channel}: dropped {count}")),
        }
    }

    fn on_conflated(&mut self, channel: &str, value: &Value) {
        let count = value["count"].as_u64().unwrap_or(0);
        match self.subs.get_mut(channel) {
            Some(sub) if sub.kind == Kind::Metrics && count > 0 => {
                sub.owed = Some(sub.owed.unwrap_or(0) + count);
            }
            _ => self.fault(format!("{channel}: conflated {count}")),
        }
    }

    fn on_values(&mut self, value: &Value, truth: &Truth) {
        let channel = value["channel"].as_str().unwrap_or_default();
        let place = value["n"].as_u64().or_else(|| value["value"].as_u64());
        let Some(place) = place else {
            self.fault(format!("unknown message: {value}"));
            return;
        };
        self.events += 1;
        let Some(sub) = self.subs.get_mut(channel) else {
            self.fault(format!("values of {channel}, to which it does not listen"));
            return;
        };
        let Sub { host, last, owed, vague, interval, .. } = *sub;
        let went_back = place < last || (place == last && !vague);
        sub.last = place;
        sub.received += 1;
        sub.owed = None;
        // What came with `subscribed` may come again, once.
        if place > last && last > 0 {
            sub.vague = false;
        }
        if went_back {
            self.fault(format!("{channel}: values {place} came after {last}"));
        }
        if !host_has(host, place) || place > truth.sets(channel) {
            self.fault(format!("{channel}: values {place} were not asked for"));
        }
        let skipped = rank(host, place).saturating_sub(rank(host, last));
        if last > 0 && !interval && !vague {
            let expected = owed.unwrap_or(1);
            if skipped != expected {
                self.fault(format!("{channel}: {last}, then {place}, with {owed:?} merged"));
            }
        }
    }

    fn on_ack(&mut self, value: &Value, truth: &Truth) {
        let events = match self.answered(value) {
            Some(Asked::Publish(events)) => events,
            Some(Asked::Anything) | None => return,
            Some(other) => {
                self.fault(format!("`ack` to {other:?}"));
                return;
            }
        };
        let results: Vec<&Value> = match value["results"].as_array() {
            Some(list) => list.iter().collect(),
            None => vec![value],
        };
        if results.len() != events.len() {
            self.fault(format!("{} results for {} events", results.len(), events.len()));
        }
        for ((channel, payload), result) in events.iter().zip(results) {
            let right = match kind(channel) {
                Kind::Log => {
                    let sequence = result["sequence"].as_u64().unwrap_or(0);
                    let at = sequence.checked_sub(1);
                    at.and_then(|at| truth.log.get(channel)?.get(at as usize)) == Some(payload)
                }
                _ => result["sequence"].is_null() && truth.places.contains_key(payload),
            };
            if !right || result["channel"] != channel.as_str() {
                self.fault(format!("{channel} {payload} was acknowledged as {result}"));
            }
        }
    }

    fn on_error(&mut self, value: &Value) {
        self.errors += 1;
        let code = value["code"].as_str().unwrap_or_default();
        if code == "rate_limited" && value["id"].is_null() {
            self.limited += 1;
        }
        if !value["id"].is_null() {
            // `unsubscribe` of several channels may be answered in part.
            let id = value["id"].as_u64().unwrap_or(0);
            if !matches!((self.asked.get(&id), code), (Some(Asked::Unsubscribe), "not_subscribed")) {
                self.answered(value);
            }
        }
    }

    /// Whether everything that was published has come, once all is quiet.
    pub fn check_complete(&mut self, truth: &Truth) {
        let mut wrong: Vec<String> = self.doubts.drain(..).map(|(_, line)| line).collect();
        for (channel, sub) in &self.subs {
            match sub.kind {
                Kind::Log if sub.next != truth.head(channel) + 1 => {
                    wrong.push(format!(
                        "{channel}: {} is next, head is {} ({sub:?})",
                        sub.next,
                        truth.head(channel)
                    ));
                }
                Kind::Log if sub.host == '*' => {
                    let Some(keyed) = sub.state.as_ref().filter(|keyed| !keyed.holes && !keyed.maybe) else {
                        continue;
                    };
                    let known = keyed.keys.iter().filter(|(_, (_, payload))| !removes(*payload));
                    let known: Keys = known.map(|(key, value)| (key.clone(), *value)).collect();
                    let state = truth.state_at(channel, truth.head(channel));
                    if !keyed.whole || known != state {
                        wrong.push(format!("{channel}: the state is {state:?}, known is {keyed:?}"));
                    }
                }
                Kind::Ephemeral if sub.last > 0 => {
                    let accounted = sub.received + sub.dropped;
                    let first = (sub.last + 1).saturating_sub(accounted);
                    if sub.last != truth.said(channel) || first <= sub.low || first > sub.high + 1 {
                        let said = truth.said(channel);
                        wrong.push(format!("{channel}: of {said} published, counted {sub:?}"));
                    }
                }
                Kind::Metrics if !sub.interval => {
                    let sets = truth.sets(channel);
                    // The bus keeps the last set only: it may have nothing of a host that was not in it.
                    let none = sub.last == 0 && sub.host != '*';
                    if !none && rank(sub.host, sub.last) != rank(sub.host, sets) {
                        wrong.push(format!("{channel}: {sets} were published, counted {sub:?}"));
                    }
                }
                _ => {}
            }
        }
        for (id, asked) in &self.asked {
            if self.limited == 0 && !matches!(asked, Asked::Unsubscribe) {
                wrong.push(format!("request {id} was not answered: {asked:?}"));
            }
        }
        for line in wrong {
            self.fault(line);
        }
    }
}

/// What identifies an event: it stands in its data, or in its id if it removes its key.
fn payload_of(event: &Value) -> u64 {
    let id = || event["id"].as_str()?.trim_start_matches('m').parse().ok();
    event["data"]["n"].as_u64().or_else(id).unwrap_or(u64::MAX)
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(|text| text.as_str().map(Into::into)).collect()
}

/// A message in a few words, for scenarios.
pub fn short(value: &Value) -> String {
    let field = |name: &str| match &value[name] {
        Value::Null => String::new(),
        Value::String(text) => format!(" {text}"),
        other => format!(" {other}"),
    };
    let kind = value["type"].as_str().unwrap_or("values");
    match kind {
        "event" => format!("event{}{}", field("channel"), field("sequence")),
        "error" => format!("error{}", field("code")),
        "gap" => format!("gap{}{}{}", field("channel"), field("from"), field("to")),
        "subscribed" | "unsubscribed" => {
            let mut line = format!("{kind} {}", texts(&value["channels"]).join(","));
            if let Some(positions) = value["positions"].as_object() {
                for position in positions.values() {
                    line.push_str(&format!(" @{}", position["sequence"]));
                }
            }
            line
        }
        "state" => {
            let keys: Vec<&str> = value["values"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|value| value["key"].as_str())
                .collect();
            let more = if value["more"] == true { " more" } else { "" };
            format!("state{}{} {}{more}", field("channel"), field("sequence"), keys.join(","))
        }
        "pos" | "replay_end" | "reset" => format!("{kind}{}{}", field("channel"), field("sequence")),
        "dropped" | "conflated" => format!("{kind}{}{}", field("channel"), field("count")),
        "connected" => format!("connected{}", if value["resumed"] == true { " resumed" } else { "" }),
        "ack" => match value["results"].as_array() {
            Some(results) => {
                let parts: Vec<String> = results.iter().map(|one| one["sequence"].to_string()).collect();
                format!("ack {}", parts.join(","))
            }
            None => {
                let again = if value["duplicate"] == true { " duplicate" } else { "" };
                format!("ack{}{again}", field("sequence"))
            }
        },
        "welcome" | "ping" | "pong" | "refreshed" | "token_expiring" | "reconnect" | "history" => kind.into(),
        "presence" => {
            let users = |key: &str, sign: &str| -> String {
                let name = |user: &Value| user["user"].as_str().or(user.as_str()).unwrap_or("?").to_owned();
                let list = value[key].as_array().into_iter().flatten();
                list.map(|user| format!(" {sign}{}", name(user))).collect()
            };
            let all = |key: &str, sign: &str| -> String {
                let map = value[key].as_object().into_iter().flatten();
                map.map(|(user, value)| format!(" {user}{sign}{value}")).collect()
            };
            let (members, joined, left) = (users("members", ""), users("joined", "+"), users("left", "-"));
            let (sessions, cursors) = (all("sessions", "="), all("cursors", "@"));
            let is = if value["members"].is_array() { ":" } else { "" };
            format!("presence{}{is}{members}{joined}{left}{sessions}{cursors}", field("channel"))
        }
        _ => format!("values{}{}{}", field("channel"), field("n"), field("value")),
    }
}
