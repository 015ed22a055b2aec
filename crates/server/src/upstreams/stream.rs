//! One stream: what its links share. Messages of all its links are read, put in order and published here, under one
//! lock, so that two links cannot overtake each other.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use pulsewire_bus::{Bus, ChannelKind, NamedBy, Publisher, Receipt, Refusal};
use pulsewire_edge::clock;
use pulsewire_protocol::{ChannelName, Event, EventType};
use pulsewire_sources::upstream::{
    Admit, Breaker, Budget, Failure, LinkState, Offer, Overflow, STATUS_TYPE, Sequencer, StreamId, Track,
    Upstream,
};
use pulsewire_telemetry::{PublishOutcome, PublishSource, Telemetry, UpstreamMessage, UpstreamTrack};
use serde_json::{Map, Value, json};
use tokio::sync::{mpsc, watch};

use super::info::{ErrorInfo, LinkInfo, StreamInfo};
use super::link::word;
use crate::http::health::iso;

/// How often what was dropped is told, and what waits is looked at, milliseconds.
const LOOK_MS: i64 = 250;
/// What waits of a stream for another link's messages, bytes; beyond, nothing is waited for.
const WAITING_BYTES_MAX: usize = 4 << 20;
/// A moment that does not come.
const NEVER: i64 = i64::MAX;
/// Keys of a stream that operators are shown.
const KEYS_SHOWN: usize = 100;

/// What all streams of a node share.
pub(super) struct Shared {
    pub(super) bus: Arc<Bus>,
    pub(super) telemetry: Arc<Telemetry>,
    /// How often the node tries again.
    pub(super) budget: Mutex<Budget>,
    /// The longest message that is taken of anybody.
    pub(super) message_bytes_max: AtomicUsize,
    /// Whether everybody may be on an address that is not public.
    pub(super) allow_private: AtomicBool,
    /// What operators should hear of; what does not fit is in the log.
    pub(super) notes: mpsc::Sender<Note>,
}

/// Something that operators should hear of.
#[derive(Debug)]
pub(super) struct Note {
    pub(super) upstream: Box<str>,
    pub(super) text: String,
    pub(super) critical: bool,
}

/// What is wanted of the links of a stream.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Wish {
    pub(super) closed: bool,
    pub(super) restarts: u64,
    pub(super) keys: u64,
}

/// What a stream did.
#[derive(Debug, Default)]
pub(super) struct Counted {
    pub(super) attempts: AtomicU64,
    pub(super) retries: AtomicU64,
    pub(super) errors: AtomicU64,
    pub(super) messages: AtomicU64,
    pub(super) bytes: AtomicU64,
    published: AtomicU64,
    duplicates: AtomicU64,
    unmapped: AtomicU64,
    dropped: AtomicU64,
    missing: AtomicU64,
    failovers: AtomicU64,
    /// Messages a second, as bits of a float; written once a second.
    pub(super) per_second: AtomicU64,
}

/// Something that subscribers are told.
#[derive(Debug, Clone)]
pub(super) enum Said {
    Connecting,
    Live,
    /// The other link has taken over.
    Failover,
    Stale,
    /// Why, and when it is tried again.
    Down(Failure, u64),
    /// Why; it is not tried again.
    Failed(Failure),
}

impl Said {
    fn word(&self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Live => "live",
            Self::Failover => "failover",
            Self::Stale => "stale",
            Self::Down(..) => "down",
            Self::Failed(_) => "failed",
        }
    }
}

/// One stream.
pub(super) struct Stream {
    pub(super) id: StreamId,
    pub(super) upstream: Arc<Upstream>,
    pub(super) track: Track,
    /// The key it has to itself; empty if it has all.
    pub(super) key: Box<str>,
    pub(super) shared: Arc<Shared>,
    /// The circuit of its upstream and track.
    pub(super) circuit: Arc<Mutex<Breaker>>,
    pub(super) wish: watch::Sender<Wish>,
    /// The keys that are wanted.
    pub(super) keys: Mutex<BTreeSet<Box<str>>>,
    pub(super) counted: Counted,
    /// `{secret}`, as it was read for the last attempt.
    pub(super) secret: Mutex<Arc<str>>,
    principal: Box<str>,
    flow: Mutex<Flow>,
    state: Mutex<State>,
    /// Messages dropped that subscribers were not told of yet.
    untold: AtomicU64,
    /// When [`Stream::look`] has something to do; [`NEVER`] if it has not.
    look_ms: AtomicI64,
    last_message_ms: AtomicI64,
    opened_wall_ms: i64,
}

/// The order of messages, and how many there may be.
struct Flow {
    order: HashMap<Box<str>, Sequencer<Event>>,
    /// Of each link, the keys of which a message has come since it was opened.
    fresh: Vec<HashSet<Box<str>>>,
    /// What may be taken.
    budget: Budget,
    /// Bytes of messages after which something waited for another link, since nothing did.
    waiting_bytes: usize,
}

/// Where a stream is.
struct State {
    links: Vec<Shown>,
    /// The link that was live first, of those that are.
    lead: Option<usize>,
    said: Said,
    since_wall_ms: i64,
    last_error: Option<(Failure, i64)>,
}

#[derive(Debug, Clone, Copy)]
struct Shown {
    state: LinkState,
    attempts: u64,
    failures: u32,
}

impl Stream {
    pub(super) fn new(
        id: StreamId,
        upstream: Arc<Upstream>,
        (track, key): (Track, Box<str>),
        shared: Arc<Shared>,
        circuit: Arc<Mutex<Breaker>>,
    ) -> Self {
        let links = upstream.urls.len();
        let now = clock::now();
        Self {
            id,
            principal: format!("upstream:{}", upstream.name).into(),
            flow: Mutex::new(Flow {
                order: HashMap::new(),
                fresh: vec![HashSet::new(); links],
                budget: Budget::new(upstream.messages_per_second, 1),
                waiting_bytes: 0,
            }),
            state: Mutex::new(State {
                links: vec![Shown { state: LinkState::New, attempts: 0, failures: 0 }; links],
                lead: None,
                said: Said::Connecting,
                since_wall_ms: now.wall_ms,
                last_error: None,
            }),
            upstream,
            track,
            key,
            shared,
            circuit,
            wish: watch::Sender::new(Wish::default()),
            keys: Mutex::default(),
            counted: Counted::default(),
            secret: Mutex::new("".into()),
            untold: AtomicU64::new(0),
            look_ms: AtomicI64::new(NEVER),
            last_message_ms: AtomicI64::new(i64::MIN),
            opened_wall_ms: now.wall_ms,
        }
    }

    // --- what the manager says ---

    pub(super) fn want(&self, key: Box<str>) {
        self.keys.lock().insert(key);
        self.wish.send_modify(|wish| wish.keys += 1);
    }

    pub(super) fn unwant(&self, key: &str) {
        self.keys.lock().remove(key);
        let mut flow = self.flow.lock();
        flow.order.remove(key);
        for fresh in &mut flow.fresh {
            fresh.remove(key);
        }
        drop(flow);
        self.wish.send_modify(|wish| wish.keys += 1);
    }

    pub(super) fn restart(&self) {
        self.wish.send_modify(|wish| wish.restarts += 1);
    }

    pub(super) fn close(&self) {
        self.wish.send_modify(|wish| wish.closed = true);
    }

    fn is_closing(&self) -> bool {
        self.wish.borrow().closed
    }

    // --- what its links say ---

    pub(super) fn attempt(&self, again: bool) {
        self.counted.attempts.fetch_add(1, Ordering::Relaxed);
        self.counted.retries.fetch_add(u64::from(again), Ordering::Relaxed);
        self.shared.telemetry.shared().upstream_attempt(on(self.track), again);
    }

    pub(super) fn failed(&self, index: usize, failure: Failure, retry_ms: Option<u64>) {
        self.counted.errors.fetch_add(1, Ordering::Relaxed);
        self.shared.telemetry.shared().upstream_failed(on(self.track), failure.kind);
        self.state.lock().last_error = Some((failure.clone(), clock::now().wall_ms));
        if self.others(index) {
            // The other link goes on.
            return;
        }
        match retry_ms {
            Some(retry_ms) => self.tell(&Said::Down(failure, retry_ms)),
            None => {
                let text = format!(
                    "upstream {} failed too often and is not tried again: {}",
                    self.upstream.name, failure.detail
                );
                self.note(text, true);
                self.tell(&Said::Failed(failure));
            }
        }
    }

    pub(super) fn circuit_opened(&self) {
        self.shared.telemetry.shared().upstream_circuit_opened();
        let ms = self.upstream.retry.circuit_ms;
        self.note(
            format!("upstream {} fails: nobody tries it for {} s", self.upstream.name, ms / 1_000),
            false,
        );
    }

    fn note(&self, text: String, critical: bool) {
        // Whoever reads them is behind, then; the log has it.
        let _ = self.shared.notes.try_send(Note { upstream: self.upstream.name.clone(), text, critical });
    }

    /// A link was opened: what it sends may begin anew.
    pub(super) fn link_opened(&self, index: usize) {
        if let Some(fresh) = self.flow.lock().fresh.get_mut(index) {
            fresh.clear();
        }
    }

    /// Where a link is now, how often it was tried and how often in a row it failed; `None` when it has ended.
    pub(super) fn link_is(&self, index: usize, shown: Option<(LinkState, u64, u32)>) {
        let (state, attempts, failures) = shown.unwrap_or((LinkState::New, 0, 0));
        let mut all = self.state.lock();
        let Some(link) = all.links.get_mut(index) else { return };
        *link = Shown { state, attempts, failures };
        let live = |link: &Shown| matches!(link.state, LinkState::Live { .. });
        let lead = all.lead.filter(|lead| live(&all.links[*lead]));
        let next = lead.or_else(|| all.links.iter().position(live));
        let said = match (all.lead, next) {
            (Some(before), Some(now)) if before != now => Some(Said::Failover),
            (None, Some(_)) => Some(Said::Live),
            (_, None) if matches!(state, LinkState::Connecting { .. }) => Some(Said::Connecting),
            _ => None,
        };
        all.lead = next;
        drop(all);
        if let Some(said) = said.filter(|_| !self.is_closing()) {
            if matches!(said, Said::Failover) {
                self.counted.failovers.fetch_add(1, Ordering::Relaxed);
                self.shared.telemetry.shared().upstream_failover();
            }
            self.tell(&said);
        }
    }

    /// Whether a link other than this one is live.
    fn others(&self, index: usize) -> bool {
        let state = self.state.lock();
        state
            .links
            .iter()
            .enumerate()
            .any(|(at, link)| at != index && matches!(link.state, LinkState::Live { .. }))
    }

    // --- messages ---

    /// A message came over a link.
    pub(super) fn message(self: &Arc<Self>, index: usize, bytes: &[u8], now_ms: i64) {
        let shared = self.shared.telemetry.shared();
        self.counted.messages.fetch_add(1, Ordering::Relaxed);
        self.counted.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        shared.upstream_received(bytes.len() as u64);
        self.last_message_ms.store(now_ms, Ordering::Relaxed);
        let others = self.others(index);
        let mut waits = false;
        let mut flow = self.flow.lock();
        match (flow.budget.ask(now_ms), self.upstream.overflow) {
            (Admit::At(_), Overflow::Drop) => {
                drop(flow);
                return self.dropped(UpstreamMessage::Dropped);
            }
            // Nothing more is read until there is room again.
            _ => flow.budget.spend(),
        }
        self.upstream.mapping.read_for(&self.upstream, &self.key, bytes, &mut |mapped| {
            let Ok(mapped) = mapped else { return self.unmapped() };
            if !self.keys.lock().contains(&mapped.key) {
                return self.unmapped();
            }
            let Some(range) = mapped.sequence else { return self.publish(mapped.event) };
            let flow = &mut *flow;
            let fresh = flow
                .fresh
                .get_mut(index)
                .is_some_and(|fresh| !fresh.contains(&mapped.key) && fresh.insert(mapped.key.clone()));
            if !flow.order.contains_key(&mapped.key) {
                flow.order.insert(mapped.key.clone(), Sequencer::default());
            }
            let Some(order) = flow.order.get_mut(&mapped.key) else { return };
            let key = mapped.key;
            order.offer(range, mapped.event, (others, fresh), now_ms, &mut |offer| self.offered(&key, offer));
            if order.until_ms().is_some() {
                self.look_soon(now_ms);
                waits = true;
            }
        });
        if waits {
            flow.waiting_bytes += bytes.len();
            if flow.waiting_bytes > WAITING_BYTES_MAX {
                // What the other link may have is not worth any amount of memory.
                self.settle(&mut flow, false, now_ms);
            }
        }
    }

    /// Passes on what waited long enough, or everything if no other link may have what is missing.
    fn settle(self: &Arc<Self>, flow: &mut Flow, others: bool, now_ms: i64) {
        let mut waits = false;
        for (key, order) in &mut flow.order {
            order.look(others, now_ms, &mut |offer| self.offered(key, offer));
            waits |= order.until_ms().is_some();
        }
        if waits {
            self.look_soon(now_ms);
        } else {
            flow.waiting_bytes = 0;
        }
    }

    fn look_soon(&self, now_ms: i64) {
        // Whoever set it before is the sooner.
        let _ = self.look_ms.compare_exchange(NEVER, now_ms + LOOK_MS, Ordering::Relaxed, Ordering::Relaxed);
    }

    fn offered(self: &Arc<Self>, key: &str, offer: Offer<Event>) {
        match offer {
            Offer::Pass(event) => self.publish(event),
            Offer::Duplicate => {
                self.counted.duplicates.fetch_add(1, Ordering::Relaxed);
                self.shared.telemetry.shared().upstream_messages(UpstreamMessage::Duplicate, 1);
            }
            Offer::Missing(gap) => {
                let missing = gap.to - gap.from + 1;
                self.counted.missing.fetch_add(missing, Ordering::Relaxed);
                self.shared.telemetry.shared().upstream_missing(missing);
                self.say_to(key, "gap", json!({"from": gap.from, "to": gap.to, "missing": missing}));
            }
            Offer::Anew => self.say_to(key, "anew", json!({})),
        }
    }

    fn unmapped(&self) {
        self.counted.unmapped.fetch_add(1, Ordering::Relaxed);
        self.shared.telemetry.shared().upstream_messages(UpstreamMessage::Unmapped, 1);
    }

    fn dropped(&self, how: UpstreamMessage) {
        self.counted.dropped.fetch_add(1, Ordering::Relaxed);
        self.shared.telemetry.shared().upstream_messages(how, 1);
        self.untold.fetch_add(1, Ordering::Relaxed);
        self.look_soon(mono_ms());
    }

    fn publish(self: &Arc<Self>, event: Event) {
        let stream = self.clone();
        self.give(event, Box::new(move |outcome| stream.published(outcome)));
    }

    fn give(&self, event: Event, reply: pulsewire_bus::Reply<Result<Vec<Receipt>, Refusal>>) {
        let principal = &*self.principal;
        let publisher = Publisher { named_by: NamedBy::Server, principal, user: None, begun_ns: 0 };
        self.shared.bus.publish(clock::now(), publisher, vec![event], reply);
    }

    fn published(&self, outcome: Result<Vec<Receipt>, Refusal>) {
        let shared = self.shared.telemetry.shared();
        match outcome {
            Ok(receipts) => {
                let duplicate = receipts.iter().any(|receipt| receipt.duplicate);
                let outcome = if duplicate { PublishOutcome::Duplicate } else { PublishOutcome::Accepted };
                shared.publish(PublishSource::Source, outcome);
                let counted = if duplicate { &self.counted.duplicates } else { &self.counted.published };
                counted.fetch_add(1, Ordering::Relaxed);
                let how = if duplicate { UpstreamMessage::Duplicate } else { UpstreamMessage::Published };
                shared.upstream_messages(how, 1);
            }
            Err(refusal) => {
                let rejected = refusal.code.http_status() < 500;
                let outcome = if rejected { PublishOutcome::Rejected } else { PublishOutcome::Failed };
                shared.publish(PublishSource::Source, outcome);
                pulsewire_telemetry::limited!(
                    warn,
                    component = "WSManager",
                    upstream = &*self.upstream.name,
                    code = %refusal.code,
                    detail = refusal.detail,
                    "a message of an upstream was not published"
                );
                self.dropped(UpstreamMessage::Refused);
            }
        }
    }

    /// Until when nothing is read, so that no more comes than is taken; `None` if it may be read.
    pub(super) fn paused_until_ms(&self, now_ms: i64) -> Option<i64> {
        if self.upstream.overflow != Overflow::Wait {
            return None;
        }
        match self.flow.lock().budget.ask(now_ms) {
            Admit::Now => None,
            Admit::At(at_ms) => Some(at_ms),
        }
    }

    /// When [`Stream::look`] has something to do.
    pub(super) fn next_ms(&self) -> Option<i64> {
        Some(self.look_ms.load(Ordering::Relaxed)).filter(|at_ms| *at_ms != NEVER)
    }

    /// Passes on what has waited long enough for another link, and tells of what was dropped.
    pub(super) fn look(self: &Arc<Self>, now_ms: i64) {
        let due = self
            .look_ms
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |at_ms| (now_ms >= at_ms).then_some(NEVER));
        if due.is_err() {
            return;
        }
        let live = self
            .state
            .lock()
            .links
            .iter()
            .filter(|link| matches!(link.state, LinkState::Live { .. }))
            .count();
        let mut flow = self.flow.lock();
        self.settle(&mut flow, live > 1, now_ms);
        drop(flow);
        let dropped = self.untold.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            self.say("dropped", &json!({"dropped": dropped}));
        }
    }

    // --- what subscribers are told ---

    /// Tells subscribers of all its channels where it is; the same thing twice only if it says more.
    pub(super) fn tell(&self, said: &Said) {
        if self.is_closing() {
            return;
        }
        let mut state = self.state.lock();
        let same = std::mem::discriminant(&state.said) == std::mem::discriminant(said);
        // Who has just come was told that it connects; and that a link without messages is given up is no news of its own.
        let known = same && matches!(said, Said::Connecting);
        if known || (matches!(state.said, Said::Stale) && matches!(said, Said::Down(..))) {
            return;
        }
        if !same {
            state.since_wall_ms = clock::now().wall_ms;
        }
        state.said = said.clone();
        drop(state);
        self.say(said.word(), &about(said));
    }

    /// Tells the subscribers of one of its channels where it is, because somebody has come to it.
    pub(super) fn tell_one(&self, channel: &ChannelName) {
        // Whoever comes to a channel that keeps events or values has them from there.
        let kept =
            self.shared.bus.namespace(channel).is_some_and(|namespace| namespace.kind == ChannelKind::Log);
        if kept {
            return;
        }
        let said = self.state.lock().said.clone();
        let said = if matches!(said, Said::Failover) { Said::Live } else { said };
        self.status(channel.clone(), said.word(), about(&said));
    }

    fn say(&self, word: &str, about: &Value) {
        let keys: Vec<Box<str>> = self.keys.lock().iter().cloned().collect();
        for key in keys {
            self.say_to(&key, word, about.clone());
        }
    }

    fn say_to(&self, key: &str, word: &str, about: Value) {
        if let Some(channel) = self.upstream.channel.name(key) {
            self.status(channel, word, about);
        }
    }

    fn status(&self, channel: ChannelName, word: &str, about: Value) {
        status(&self.shared, &self.principal, &self.upstream.name, channel, (word, about));
    }

    // --- what operators see ---

    /// Where its links are: the best of them.
    pub(super) fn link_state(&self) -> LinkState {
        let state = self.state.lock();
        let rank = |state: &LinkState| match state {
            LinkState::Live { .. } => 0,
            LinkState::Connecting { .. } | LinkState::New => 1,
            LinkState::Waiting { circuit: false, .. } => 2,
            LinkState::Waiting { circuit: true, .. } => 3,
            LinkState::Failed => 4,
        };
        state.links.iter().map(|link| link.state).min_by_key(rank).unwrap_or(LinkState::New)
    }

    pub(super) fn info(&self, listeners: u64, idle_ms: Option<u64>, now_ms: i64) -> StreamInfo {
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let of = self.link_state();
        let state = self.state.lock();
        let keys = self.keys.lock();
        let counted = &self.counted;
        let retry_in = |state: LinkState| match state {
            LinkState::Waiting { until_ms, .. } => {
                u64::try_from(until_ms.saturating_sub(now_ms)).ok().or(Some(0))
            }
            _ => None,
        };
        let last_ms = self.last_message_ms.load(Ordering::Relaxed);
        let stale = matches!(state.said, Said::Stale) && !matches!(of, LinkState::Live { .. });
        StreamInfo {
            id: self.id.0.to_string(),
            upstream: self.upstream.name.clone(),
            key: self.key.clone(),
            keys: keys.iter().filter(|key| !key.is_empty()).take(KEYS_SHOWN).cloned().collect(),
            keys_total: keys.iter().filter(|key| !key.is_empty()).count(),
            track: self.track.as_str(),
            state: if self.is_closing() {
                "closing"
            } else if stale {
                "stale"
            } else {
                word(of)
            },
            since: iso(state.since_wall_ms),
            opened_at: iso(self.opened_wall_ms),
            listeners,
            idle_ms,
            attempts: count(&counted.attempts),
            retries: count(&counted.retries),
            errors: count(&counted.errors),
            retry_in_ms: retry_in(of),
            messages: count(&counted.messages),
            bytes: count(&counted.bytes),
            messages_per_second: f64::from_bits(count(&counted.per_second)),
            published: count(&counted.published),
            duplicates: count(&counted.duplicates),
            unmapped: count(&counted.unmapped),
            dropped: count(&counted.dropped),
            missing: count(&counted.missing),
            failovers: count(&counted.failovers),
            last_message_ago_ms: (last_ms != i64::MIN)
                .then(|| u64::try_from(now_ms.saturating_sub(last_ms)).unwrap_or(0)),
            last_error: state.last_error.as_ref().map(|(failure, at_ms)| ErrorInfo {
                kind: failure.kind.as_str(),
                text: failure.detail.clone(),
                at: iso(*at_ms),
            }),
            links: self
                .upstream
                .urls
                .iter()
                .zip(&state.links)
                .map(|(url, link)| LinkInfo {
                    url: shown_url(url.as_str()),
                    state: word(link.state),
                    attempts: link.attempts,
                    failures: link.failures,
                    retry_in_ms: retry_in(link.state),
                })
                .collect(),
        }
    }
}

/// Tells the subscribers of a channel something of an upstream. In a channel that keeps values it is one of them.
pub(super) fn status(
    shared: &Shared,
    principal: &str,
    upstream: &str,
    channel: ChannelName,
    (word, about): (&str, Value),
) {
    let keeps_values = shared.bus.namespace(&channel).is_some_and(|namespace| namespace.state_max > 0);
    let mut data = Map::new();
    data.insert("upstream".to_owned(), upstream.into());
    data.insert("state".to_owned(), word.into());
    if let Value::Object(about) = about {
        data.extend(about);
    }
    let Ok(data) = serde_json::value::to_raw_value(&data) else { return };
    let Some(event_type) = EventType::parse(STATUS_TYPE) else { return };
    let mut event = Event::new(channel, event_type, data);
    event.key = keeps_values.then(|| format!("{STATUS_TYPE}:{upstream}").into());
    let publisher = Publisher { named_by: NamedBy::Server, principal, user: None, begun_ns: 0 };
    // Whoever is not told now is told of the next change; what was refused is counted by the bus.
    shared.bus.publish(clock::now(), publisher, vec![event], Box::new(drop));
}

fn about(said: &Said) -> Value {
    match said {
        Said::Connecting | Said::Live | Said::Failover | Said::Stale => json!({}),
        // Which kind and no more: what failed exactly may name machines, and is for operators.
        Said::Down(failure, retry_ms) => json!({"kind": failure.kind.as_str(), "retry_ms": retry_ms}),
        Said::Failed(failure) => json!({"kind": failure.kind.as_str()}),
    }
}

/// A URL as it may be shown: what follows `?` may hold a secret.
pub(super) fn shown_url(url: &str) -> String {
    url.split(['?', '#']).next().unwrap_or_default().to_owned()
}

pub(super) const fn on(track: Track) -> UpstreamTrack {
    match track {
        Track::Stable => UpstreamTrack::Stable,
        Track::Canary => UpstreamTrack::Canary,
    }
}

/// Milliseconds of a clock that only goes on.
pub(super) fn mono_ms() -> i64 {
    i64::try_from(clock::now().mono_ns / 1_000_000).unwrap_or(i64::MAX)
}
