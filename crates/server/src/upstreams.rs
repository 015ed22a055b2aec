//! Streams to others, performed: what `pulsewire_sources::upstream` decides about is opened, read and published here.
//!
//! One task looks ten times a second who listens to which channel, and opens and closes streams; while nothing is
//! declared it does nothing. Each link of a stream is a task. What they share is in `stream`.

pub mod declared;
mod dial;
mod info;
mod link;
mod stream;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use pulsewire_bus::{Bus, Channel};
use pulsewire_edge::clock;
use pulsewire_sources::upstream::canary::{
    Comparison, Counts, Judge, Recent, Rules, Tracks, Verdict, part_ms,
};
use pulsewire_sources::upstream::{
    Breaker, Budget, Interest, LinkState, Manager, ManagerOptions, Order, StreamId, StreamState, Totals,
    Track, Upstream,
};
use pulsewire_telemetry::{CanaryVerdict, Severity, Telemetry, UpstreamState, UpstreamTrack};
use serde_json::json;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;

use crate::app::App;
use crate::events::{self, Kind};
use crate::http::health::iso;
use crate::settings::Settings;

use declared::Store;
pub use info::{CanaryInfo, ErrorInfo, LinkInfo, StreamInfo, UpstreamInfo};
use stream::{Note, Shared, Stream, mono_ms, on, shown_url, status};

/// How often is looked who listens.
const LOOK: Duration = Duration::from_millis(100);
/// After so long without a look the manager does not work, milliseconds.
const STALLED_MS: i64 = 5_000;
/// How long streams may take to end when the server stops.
const END: Duration = Duration::from_secs(2);
/// So many seconds' worth of retries may be made at once.
const RETRY_BURST_SECONDS: u32 = 10;
/// How long a stream whose link panicked is left alone.
const AFTER_PANIC: Duration = Duration::from_secs(1);
/// What operators should hear of and have not yet; more is in the log only.
const NOTES_MAX: usize = 256;

/// One that is declared: as everybody is served, and as the candidate is, if that differs.
pub type Declared = (Arc<Upstream>, Option<Arc<Upstream>>);

/// How upstreams are bounded, and who gets the candidate's settings.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Streams at a time.
    pub streams_max: usize,
    /// Further tries in a second, of all; 0 means any.
    pub retries_per_second: u32,
    /// The longest message of anybody, bytes.
    pub message_bytes_max: usize,
    /// Whether everybody may be on an address that is not public.
    pub allow_private: bool,
    /// The share of streams on the candidate's settings; `None` if there is no candidate.
    pub candidate: Option<f64>,
    /// By what the candidate is judged.
    pub rules: Rules,
    /// Whether it is taken back when it fails.
    pub rollback: bool,
    /// What the settings declare.
    pub declared: Vec<Declared>,
}

impl Config {
    /// What the settings say.
    #[must_use]
    pub fn of(settings: &Settings) -> Self {
        let (bounds, canary) = (&settings.upstream_limits, &settings.canary);
        Self {
            streams_max: bounds.streams_max,
            retries_per_second: u32::try_from(bounds.retries_per_second).unwrap_or(u32::MAX),
            message_bytes_max: bounds.message_bytes_max,
            allow_private: bounds.allow_private,
            candidate: settings.features.upstream_manager.then_some(canary.share),
            rules: Rules {
                ratio: canary.ratio,
                window_ms: u64::try_from(canary.window.as_millis()).unwrap_or(u64::MAX),
                streams_min: canary.streams_min as u64,
            },
            rollback: canary.rollback,
            declared: settings
                .upstreams
                .iter()
                .map(|declared| (declared.stable.clone(), declared.candidate.clone()))
                .collect(),
        }
    }
}

/// The upstreams of a node.
pub struct Upstreams {
    shared: Arc<Shared>,
    table: Mutex<Table>,
    changed: Notify,
    /// When the manager last looked, milliseconds.
    looked_ms: AtomicI64,
    notes: Mutex<Option<mpsc::Receiver<Note>>>,
    /// What the admin API declared, on disk.
    store: Mutex<Store>,
}

struct Table {
    config: Config,
    manager: Manager,
    running: HashMap<StreamId, Running>,
    circuits: HashMap<(Box<str>, Track), Arc<Mutex<Breaker>>>,
    /// What was declared by the admin API.
    by_api: Vec<Arc<Upstream>>,
    /// Channels that an upstream feeds, and how many channels there had ever been when that was found out.
    channels: Vec<Weak<Channel>>,
    channels_made: Option<u32>,
    canary: Canary,
    sampled_ms: i64,
}

struct Running {
    stream: Arc<Stream>,
    recent: Recent,
    messages: u64,
}

#[derive(Default)]
struct Canary {
    judge: Judge,
    verdict: Option<Verdict>,
    tracks: Tracks,
    comparison: Option<Comparison>,
    worse_since_wall_ms: Option<i64>,
    marked_ms: i64,
    rolled_back: Option<(i64, String)>,
}

impl std::fmt::Debug for Upstreams {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upstreams").field("totals", &self.totals()).finish_non_exhaustive()
    }
}

impl Upstreams {
    /// The upstreams of the settings and of the admin API. Nothing is opened before [`Upstreams::start`].
    ///
    /// # Errors
    ///
    /// If what the admin API declared cannot be read, or is not allowed by these settings.
    pub fn new(
        settings: &Settings,
        bus: Arc<Bus>,
        telemetry: Arc<Telemetry>,
    ) -> Result<Self, declared::Error> {
        let config = Config::of(settings);
        let (store, by_api) = Store::open(settings)?;
        let by_api = by_api.into_iter().map(Arc::new).collect();
        let (notes, heard) = mpsc::channel(NOTES_MAX);
        let shared = Shared {
            bus,
            telemetry,
            budget: Mutex::new(Budget::new(config.retries_per_second, RETRY_BURST_SECONDS)),
            message_bytes_max: AtomicUsize::new(config.message_bytes_max),
            allow_private: AtomicBool::new(config.allow_private),
            notes,
        };
        let mut table = Table {
            manager: Manager::new(ManagerOptions {
                streams_max: config.streams_max,
                canary_share: config.candidate.unwrap_or(0.0),
            }),
            config,
            running: HashMap::new(),
            circuits: HashMap::new(),
            by_api,
            channels: Vec::new(),
            channels_made: None,
            canary: Canary::default(),
            sampled_ms: 0,
        };
        table.declare(&mut Vec::new());
        Ok(Self {
            shared: Arc::new(shared),
            table: Mutex::new(table),
            changed: Notify::new(),
            looked_ms: AtomicI64::new(mono_ms()),
            notes: Mutex::new(Some(heard)),
            store: Mutex::new(store),
        })
    }

    /// Begins to look who listens.
    pub fn start(self: &Arc<Self>, app: &Arc<App>, stopped: watch::Receiver<bool>) {
        let Some(notes) = self.notes.lock().take() else { return };
        tokio::spawn(self.clone().manage(app.clone(), stopped, notes));
    }

    async fn manage(
        self: Arc<Self>,
        app: Arc<App>,
        mut stopped: watch::Receiver<bool>,
        mut notes: mpsc::Receiver<Note>,
    ) {
        let mut ticks = tokio::time::interval(LOOK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let works = self.table.lock().works();
            if !works {
                // Nothing to look at: it is well as long as it can be woken.
                self.looked_ms.store(i64::MAX, Ordering::Relaxed);
            }
            tokio::select! {
                _ = stopped.changed() => break,
                () = self.changed.notified() => {}
                _ = ticks.tick(), if works => {}
                Some(note) = notes.recv() => {
                    let severity = if note.critical { Severity::Critical } else { Severity::Warning };
                    let link = Some(format!("/upstreams?filter=upstream:{}", note.upstream));
                    events::note(&app, Kind::Upstream, Some(severity), note.text, link);
                }
            }
            self.looked_ms.store(mono_ms(), Ordering::Relaxed);
            if let Some(why) = self.turn() {
                self.roll_back(&why);
                events::note(
                    &app,
                    Kind::Upstream,
                    Some(Severity::Critical),
                    why,
                    Some("/upstreams".to_owned()),
                );
            }
        }
        let mut orders = Vec::new();
        self.table.lock().manager.close_all(&mut orders);
        self.perform(orders);
        let all_gone = async {
            while self.table.lock().manager.streams().len() > 0 {
                self.changed.notified().await;
            }
        };
        // The runtime ends what is left.
        let _ = tokio::time::timeout(END, all_gone).await;
    }

    /// Looks who listens, and how the candidate does. Returns why the candidate is to be taken back, if it is.
    fn turn(self: &Arc<Self>) -> Option<String> {
        let (now_ms, wall_ms) = (mono_ms(), clock::now().wall_ms);
        let mut orders = Vec::new();
        let mut table = self.table.lock();
        table.follow(&self.shared.bus);
        let interests: Vec<Interest> = table
            .channels
            .iter()
            .filter_map(Weak::upgrade)
            .map(|channel| Interest {
                channel: channel.name.clone(),
                listeners: channel.listeners(),
                joined: channel.joined(),
            })
            .collect();
        table.manager.look(&interests, now_ms, wall_ms, &mut orders);
        table.sample(now_ms);
        let failed = table.judge(now_ms, wall_ms);
        drop(table);
        self.perform(orders);
        failed
    }

    fn perform(self: &Arc<Self>, orders: Vec<Order>) {
        for order in orders {
            match order {
                Order::Open { id, upstream, track, key } => self.open(id, upstream, track, key),
                Order::Want(id, key) => self.with(id, |stream| stream.want(key)),
                Order::Unwant(id, key) => self.with(id, |stream| stream.unwant(&key)),
                Order::Tell(id, channel) => self.with(id, |stream| stream.tell_one(&channel)),
                Order::Close(id) => self.with(id, Stream::close),
                Order::Refused(channel) => {
                    self.shared.telemetry.shared().upstream_refused();
                    pulsewire_telemetry::limited!(
                        warn,
                        component = "WSManager",
                        %channel,
                        "a stream was refused: there are as many as `upstreams.streams_max` allows"
                    );
                    status(&self.shared, "upstream", "", channel, ("refused", json!({"reason": "limit"})));
                }
            }
        }
    }

    fn with(&self, id: StreamId, act: impl FnOnce(&Stream)) {
        let stream = self.table.lock().running.get(&id).map(|running| running.stream.clone());
        if let Some(stream) = stream {
            act(&stream);
        }
    }

    fn open(self: &Arc<Self>, id: StreamId, upstream: Arc<Upstream>, track: Track, key: Box<str>) {
        let mut table = self.table.lock();
        let circuit = table.circuits.entry((upstream.name.clone(), track)).or_default().clone();
        let stream = Arc::new(Stream::new(id, upstream, (track, key), self.shared.clone(), circuit));
        table.running.insert(id, Running { stream: stream.clone(), recent: Recent::default(), messages: 0 });
        drop(table);
        let upstreams = self.clone();
        tokio::spawn(async move {
            let mut links = JoinSet::new();
            for index in 0..stream.upstream.urls.len() {
                links.spawn(link::run(stream.clone(), index));
            }
            while let Some(ended) = links.join_next().await {
                if ended.is_err() {
                    tracing::error!(
                        component = "WSManager",
                        upstream = &*stream.upstream.name,
                        "a link of an upstream panicked; its stream is opened anew"
                    );
                    stream.close();
                    // Were it to panic again at once, it would do nothing else.
                    tokio::time::sleep(AFTER_PANIC).await;
                }
            }
            drop(stream);
            upstreams.ended(id);
        });
    }

    /// Nothing is left of a stream.
    fn ended(&self, id: StreamId) {
        let mut table = self.table.lock();
        table.running.remove(&id);
        table.manager.ended(id);
        drop(table);
        self.changed.notify_one();
    }

    /// What the admin API declared, read under new settings.
    ///
    /// # Errors
    ///
    /// If they do not allow one of them.
    pub fn kept(&self, settings: &Settings) -> Result<Vec<Arc<Upstream>>, declared::Error> {
        Ok(self.store.lock().upstreams(settings)?.into_iter().map(Arc::new).collect())
    }

    /// Replaces how upstreams are bounded, and what is declared by the settings and by the admin API.
    pub fn configure(self: &Arc<Self>, config: Config, by_api: Vec<Arc<Upstream>>) {
        let mut orders = Vec::new();
        let mut table = self.table.lock();
        if config.retries_per_second != table.config.retries_per_second {
            *self.shared.budget.lock() = Budget::new(config.retries_per_second, RETRY_BURST_SECONDS);
        }
        self.shared.message_bytes_max.store(config.message_bytes_max, Ordering::Relaxed);
        self.shared.allow_private.store(config.allow_private, Ordering::Relaxed);
        if config.candidate != table.config.candidate || config.declared != table.config.declared {
            // Another candidate has another chance.
            table.canary = Canary::default();
        }
        table.config = config;
        table.by_api = by_api;
        table.declare(&mut orders);
        table.apply_share(&mut orders);
        drop(table);
        self.perform(orders);
        self.changed.notify_one();
    }

    // --- what operators see and do ---

    /// Whether the manager does its work.
    #[must_use]
    pub fn is_well(&self) -> bool {
        let looked_ms = self.looked_ms.load(Ordering::Relaxed);
        mono_ms().saturating_sub(looked_ms) < STALLED_MS
    }

    /// Every stream, oldest first.
    #[must_use]
    pub fn streams(&self) -> Vec<StreamInfo> {
        let now_ms = mono_ms();
        let table = self.table.lock();
        let one = |(id, stream): (StreamId, &pulsewire_sources::upstream::Stream)| {
            let idle_ms = stream.idle_since_ms().map(|since_ms| now_ms.saturating_sub(since_ms));
            let idle_ms = idle_ms.and_then(|ms| u64::try_from(ms).ok());
            Some(table.running.get(&id)?.stream.info(stream.listeners(), idle_ms, now_ms))
        };
        table.manager.streams().filter_map(one).collect()
    }

    /// Every upstream that is declared, by name.
    #[must_use]
    pub fn declared(&self) -> Vec<UpstreamInfo> {
        let now_ms = mono_ms();
        let table = self.table.lock();
        let mut streams: HashMap<&str, usize> = HashMap::new();
        for (_, stream) in table.manager.streams() {
            *streams.entry(&stream.upstream.name).or_default() += 1;
        }
        let one = |(upstream, candidate): (&Arc<Upstream>, Option<&Arc<Upstream>>)| {
            let circuit =
                table.circuits.get(&(upstream.name.clone(), Track::Stable)).map(|circuit| circuit.lock());
            let open_until_ms = circuit.as_ref().and_then(|circuit| circuit.open_until_ms(now_ms));
            let by_api = table.by_api.iter().any(|declared| declared.name == upstream.name);
            UpstreamInfo {
                name: upstream.name.clone(),
                urls: upstream.urls.iter().map(|url| shown_url(url.as_str())).collect(),
                channel: upstream.channel.as_str().to_owned(),
                apart: upstream.apart(),
                always: upstream.always,
                declared_by: if by_api { "api" } else { "settings" },
                candidate: candidate.is_some(),
                streams: streams.get(&*upstream.name).copied().unwrap_or(0),
                circuit_opened: circuit.as_ref().map_or(0, |circuit| circuit.opened()),
                circuit_open_ms: open_until_ms.and_then(|until_ms| u64::try_from(until_ms - now_ms).ok()),
            }
        };
        table.manager.declared().map(one).collect()
    }

    /// How many streams there are.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.table.lock().manager.totals()
    }

    /// The quantities of the metrics.
    #[must_use]
    pub fn survey(&self) -> pulsewire_telemetry::Upstreams {
        let table = self.table.lock();
        let totals = table.manager.totals();
        let mut by_state = [0; UpstreamState::COUNT];
        let mut by_track = [0; UpstreamTrack::COUNT];
        for (id, stream) in table.manager.streams().filter(|(_, stream)| stream.state == StreamState::Open) {
            let state = table.running.get(&id).map_or(LinkState::New, |running| running.stream.link_state());
            by_state[match state {
                LinkState::New | LinkState::Connecting { .. } => UpstreamState::Connecting,
                LinkState::Live { .. } => UpstreamState::Live,
                LinkState::Waiting { circuit: false, .. } => UpstreamState::Waiting,
                LinkState::Waiting { circuit: true, .. } => UpstreamState::Circuit,
                LinkState::Failed => UpstreamState::Failed,
            } as usize] += 1;
            by_track[on(stream.track) as usize] += 1;
        }
        pulsewire_telemetry::Upstreams {
            active: totals.active,
            high_water: totals.high_water,
            high_water_today: totals.high_water_today,
            limit: totals.limit,
            uncleaned: totals.uncleaned,
            created: totals.created,
            cleaned: totals.cleaned,
            by_state,
            by_track,
            verdict: match table.verdict() {
                Verdict::Off => CanaryVerdict::Off,
                Verdict::Insufficient => CanaryVerdict::Insufficient,
                Verdict::Pass => CanaryVerdict::Pass,
                Verdict::Suspect => CanaryVerdict::Suspect,
                Verdict::Fail => CanaryVerdict::Fail,
                Verdict::RolledBack => CanaryVerdict::RolledBack,
            },
        }
    }

    /// How the candidate does.
    #[must_use]
    pub fn canary(&self) -> CanaryInfo {
        let table = self.table.lock();
        let (config, canary) = (&table.config, &table.canary);
        CanaryInfo {
            verdict: table.verdict().as_str(),
            enabled: config.candidate.is_some(),
            share: config.candidate.unwrap_or(0.0),
            ratio: config.rules.ratio,
            window_ms: config.rules.window_ms,
            streams_min: config.rules.streams_min,
            rollback: config.rollback,
            worse_since: canary.worse_since_wall_ms.map(iso),
            rolled_back_at: canary.rolled_back.as_ref().map(|(at_ms, _)| iso(*at_ms)),
            rolled_back_why: canary.rolled_back.as_ref().map(|(_, why)| why.clone()),
            tracks: canary.tracks,
            comparison: canary.comparison,
        }
    }

    /// Closes every stream that nobody has listened to for so long, milliseconds. Returns how many.
    pub fn cleanup(self: &Arc<Self>, idle_ms: u64) -> usize {
        let mut orders = Vec::new();
        let closed = self.table.lock().manager.cleanup(idle_ms, mono_ms(), &mut orders);
        self.perform(orders);
        closed
    }

    /// Has an upstream's streams, or one stream by its number, try again at once, whatever they have been through.
    /// Returns how many; `None` if there is no upstream and no stream of this name.
    #[must_use]
    pub fn restart(&self, name: &str) -> Option<usize> {
        let table = self.table.lock();
        let declared = table.manager.declared().any(|(upstream, _)| *upstream.name == *name);
        let id = name.parse().ok().map(StreamId);
        let of = |running: &&Running| *running.stream.upstream.name == *name || Some(running.stream.id) == id;
        let streams: Vec<_> =
            table.running.values().filter(of).map(|running| running.stream.clone()).collect();
        drop(table);
        streams.iter().for_each(|stream| stream.restart());
        (declared || !streams.is_empty()).then_some(streams.len())
    }

    /// Takes the candidate back: its streams go on with stable's settings, until the settings change. Returns how many;
    /// `None` if there is none.
    pub fn roll_back(self: &Arc<Self>, why: &str) -> Option<usize> {
        let mut orders = Vec::new();
        let mut table = self.table.lock();
        if table.config.candidate.is_none() || table.canary.rolled_back.is_some() {
            return None;
        }
        table.canary.rolled_back = Some((clock::now().wall_ms, why.to_owned()));
        table.apply_share(&mut orders);
        drop(table);
        tracing::error!(component = "WSManager", why, "the candidate's settings are taken back");
        let closed = orders.iter().filter(|order| matches!(order, Order::Close(_))).count();
        self.perform(orders);
        self.changed.notify_one();
        Some(closed)
    }

    /// Declares one by the admin API, in place of one that was declared so; it is on disk when this returns, which waits
    /// for that. Returns whether there was none.
    ///
    /// # Errors
    ///
    /// If it cannot be kept.
    pub fn put(
        self: &Arc<Self>,
        upstream: Arc<Upstream>,
        settings: &Settings,
    ) -> Result<bool, declared::Error> {
        let mut orders = Vec::new();
        let mut store = self.store.lock();
        let new = store.put(&upstream, settings)?;
        let mut table = self.table.lock();
        drop(store);
        table.by_api.retain(|declared| declared.name != upstream.name);
        table.by_api.push(upstream);
        table.declare(&mut orders);
        drop(table);
        self.perform(orders);
        self.changed.notify_one();
        Ok(new)
    }

    /// Takes back what was declared by the admin API, and waits for the disk. `false` if nothing was.
    ///
    /// # Errors
    ///
    /// If the disk does not take it; then it is as before.
    pub fn remove(self: &Arc<Self>, name: &str) -> Result<bool, declared::Error> {
        let mut orders = Vec::new();
        let mut store = self.store.lock();
        let removed = store.remove(name)?;
        let mut table = self.table.lock();
        drop(store);
        table.by_api.retain(|declared| *declared.name != *name);
        table.declare(&mut orders);
        drop(table);
        self.perform(orders);
        self.changed.notify_one();
        Ok(removed)
    }
}

impl Table {
    /// Whether there is anything to look at.
    fn works(&self) -> bool {
        self.manager.declared().next().is_some() || self.manager.streams().len() > 0
    }

    /// Hands over everything that is declared; what the settings declare comes before the API's of the same name.
    fn declare(&mut self, orders: &mut Vec<Order>) {
        let mut all = self.config.declared.clone();
        for upstream in &self.by_api {
            if !all.iter().any(|(declared, _)| declared.name == upstream.name) {
                all.push((upstream.clone(), None));
            }
        }
        self.circuits.retain(|(name, _), _| all.iter().any(|(declared, _)| declared.name == *name));
        self.manager.declare(all, orders);
        self.channels_made = None;
    }

    fn apply_share(&mut self, orders: &mut Vec<Order>) {
        let share =
            if self.canary.rolled_back.is_some() { 0.0 } else { self.config.candidate.unwrap_or(0.0) };
        let options = ManagerOptions { streams_max: self.config.streams_max, canary_share: share };
        self.manager.set(options, orders);
    }

    /// Finds the channels that an upstream feeds, if there are channels that were not there before.
    fn follow(&mut self, bus: &Bus) {
        let made = bus.channels_made();
        if self.channels_made == Some(made) {
            return;
        }
        self.channels_made = Some(made);
        let fed = |channel: &Arc<Channel>| {
            self.manager
                .declared()
                .any(|(upstream, _)| upstream.channel.key_of(channel.name.as_str()).is_some())
        };
        let found: Vec<_> =
            bus.all_channels().iter().filter(|channel| fed(channel)).map(Arc::downgrade).collect();
        self.channels = found;
    }

    /// Once a second: how many messages come.
    fn sample(&mut self, now_ms: i64) {
        let passed_ms = now_ms.saturating_sub(self.sampled_ms);
        if passed_ms < 1_000 {
            return;
        }
        self.sampled_ms = now_ms;
        for running in self.running.values_mut() {
            let messages = running.stream.counted.messages.load(Ordering::Relaxed);
            let rate = (messages - running.messages) as f64 * 1e3 / passed_ms as f64;
            running.messages = messages;
            // A second that was too long or too short would show nonsense; the mean of two is calmer.
            let before = f64::from_bits(running.stream.counted.per_second.load(Ordering::Relaxed));
            let calm = (before + rate) / 2.0;
            let shown = if calm < 0.05 { 0.0 } else { calm };
            running.stream.counted.per_second.store(shown.to_bits(), Ordering::Relaxed);
        }
    }

    /// A part of the compared time has passed: looks at both tracks. Returns why the candidate is to be taken back.
    fn judge(&mut self, now_ms: i64, wall_ms: i64) -> Option<String> {
        let rules = self.config.rules;
        if now_ms < self.canary.marked_ms.saturating_add_unsigned(part_ms(&rules)) {
            return None;
        }
        self.canary.marked_ms = now_ms;
        let mut tracks = Tracks::default();
        let count = |count: &std::sync::atomic::AtomicU64| count.load(Ordering::Relaxed) as u32;
        for running in self.running.values_mut() {
            let counted = &running.stream.counted;
            let counts = Counts {
                attempts: count(&counted.attempts),
                retries: count(&counted.retries),
                errors: count(&counted.errors),
            };
            tracks.add(running.stream.track, running.recent.mark(counts));
        }
        // What streams do is shown also while there is nothing to compare.
        self.canary.tracks = tracks;
        self.config.candidate?;
        let comparison = Comparison::of(&tracks, &rules);
        let canary = &mut self.canary;
        canary.comparison = Some(comparison);
        if canary.rolled_back.is_some() {
            return None;
        }
        let verdict = canary.judge.look(&comparison, &rules, now_ms);
        canary.verdict = Some(verdict);
        canary.worse_since_wall_ms = canary
            .judge
            .worse_since_ms()
            .map(|since_ms| wall_ms.saturating_sub(now_ms.saturating_sub(since_ms)));
        (verdict == Verdict::Fail && self.config.rollback).then(|| {
            let (errors, retries) = (comparison.error_rate, comparison.retry_rate);
            format!(
                "the candidate's upstream settings are taken back: {:.1} times stable's error rate, {:.1} times its \
                 retry rate, for {} s",
                errors.ratio,
                retries.ratio,
                rules.window_ms / 1_000
            )
        })
    }

    fn verdict(&self) -> Verdict {
        match (&self.canary.rolled_back, self.config.candidate) {
            (Some(_), _) => Verdict::RolledBack,
            (None, None) => Verdict::Off,
            (None, Some(_)) => self.canary.verdict.unwrap_or(Verdict::Insufficient),
        }
    }
}
