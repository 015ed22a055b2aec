//! A client that believes nothing: it decodes the server's bytes by itself and checks what they say.

mod log;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use pulsewire_protocol::transcode::msgpack_to_json;
use serde_json::Value;

use self::log::Keyed;
use super::truth::{Keys, Kind, Truth, host_has, kind, rank, removes};
use super::words::{short, texts};

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
            Mangle::EatDropped | Mangle::EatConflated => {
                let of = value["channel"].as_str().map(self::kind);
                let wanted = if mangle == Mangle::EatDropped { Kind::Ephemeral } else { Kind::Metrics };
                kind == "dropped" && of == Some(wanted)
            }
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
            "stale" if self.subs.get(channel).is_some_and(|sub| sub.kind == Kind::Metrics) => {}
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
            Some(sub) if sub.kind == Kind::Metrics && count > 0 => {
                sub.owed = Some(sub.owed.unwrap_or(0) + count);
            }
            _ => self.fault(format!("{channel}: dropped {count}")),
        }
    }

    fn on_values(&mut self, value: &Value, truth: &Truth) {
        let channel = value["channel"].as_str().unwrap_or_default();
        // A window says what came last in it, besides much else.
        let place = [&value["n"]["last"], &value["last"], &value["n"], &value["value"]];
        let place = place.into_iter().find_map(Value::as_u64);
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
        let of = value["tags"]["host"].as_str().and_then(|of| of.chars().next()).unwrap_or('?');
        if of != host {
            // One document for each set of tags: those of all hosts are counted by the one that is in every set.
            if host != '*' || !host_has(of, place) || place > truth.sets(channel) {
                self.fault(format!("{channel}: values {place} of {of} were not asked for"));
            }
            return;
        }
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
                    let last = if truth.metered { truth.said(channel) } else { sub.last };
                    let first = (last + 1).saturating_sub(accounted);
                    if last != truth.said(channel) || first <= sub.low || first > sub.high + 1 {
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
