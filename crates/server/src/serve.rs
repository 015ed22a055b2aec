//! `pulsewire serve`: makes the parts, joins them, and takes them apart again in order.
//!
//! There are no rules here. Going away: first nobody new is let in and readiness says no; then clients
//! are told to come back later, each at another time, and closed, spread over what the deadline leaves;
//! then the shards end. A second signal ends it at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use axum::Router;
use pulsewire_bus::{
    Broker, Bus, ChannelKind, Durability, Namespace, Namespaces, Options, PresenceRules, RingLimits,
    SeriesLimits, SeriesOptions, Tap,
};
use pulsewire_edge::handshake::{MissingOrigin, OriginPolicy};
use pulsewire_edge::{Edge, EdgeOptions, Prepared, clock, codec};
use pulsewire_hub::{Admission, Drain, ShardOptions};
use pulsewire_sources::host::HostOptions;
use pulsewire_telemetry::{Severity, Telemetry, logs};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::accept::Door;
use crate::app::{App, Live, told_to_hub};
use crate::auth::jwks::{self, RemoteOptions};
use crate::auth::ticket::StartKey;
use crate::auth::{Authenticator, Revocations};
use crate::collect::{Collector, CollectorOptions};
use crate::derived::{self, Derived};
use crate::descriptors::{self, Share};
use crate::embed::Handle;
use crate::hook::{Hook, HookOptions};
use crate::notify::Manager;
use crate::seats::Seats;
use crate::settings::{self, LogFormat, Publishers, Settings};
use crate::tls::Certificates;
use crate::upstreams::Upstreams;
use crate::{accept, backend, dev, events, http, random, reading, redis, reload, store, tls};

/// A server that listens.
pub struct Running {
    /// Its parts.
    pub app: Arc<App>,
    /// The address it listens on.
    pub address: std::net::SocketAddr,
    /// For whoever works with it in the same process.
    pub handle: Handle,
    stop: watch::Sender<bool>,
    workers: store::Workers,
    /// The tasks that accept connections.
    doors: Vec<JoinHandle<()>>,
    /// It ends when it is dropped.
    _collector: Option<Collector>,
    redis: Option<redis::Threads>,
}

/// Starts a server; it runs until [`Running::stop`].
///
/// # Errors
///
/// If an address cannot be bound, a thread cannot be started, or a key cannot be used.
pub async fn start(settings: Settings) -> anyhow::Result<Running> {
    start_with(settings, None::<fn(&Handle) -> Router>).await
}

/// Starts a server that has further routes, made with its handle. What it has no route for itself goes to them.
///
/// # Errors
///
/// As [`start`].
pub async fn start_with(
    settings: Settings,
    routes: Option<impl FnOnce(&Handle) -> Router>,
) -> anyhow::Result<Running> {
    let listener = bind(settings.server.listen)?;
    let address = listener.local_addr()?;
    let internal = settings.server.internal_listen.map(bind).transpose()?;
    let shards = if settings.server.shards == 0 { cores() } else { settings.server.shards };
    let share = Share::of_process(&settings, shards)?;
    share.log();
    let telemetry = Telemetry::new(pulsewire_telemetry::Options {
        event_types_max: settings.metrics.event_types_max,
        compat: settings.metrics.compat,
        alias_prefix: settings.metrics.alias_prefix.clone(),
        projects_max: settings.metrics.projects_max,
        ..pulsewire_telemetry::Options::default()
    });
    // The shards' own label; they start beside the first requests, whose event types could fill the table.
    telemetry.event_types().intern("metric");
    let limits = &settings.limits;
    let admission = Arc::new(Admission::new(
        share.connections_max,
        limits.connections_per_address,
        limits.connections_per_user,
    ));
    let mut random = random::source().context("the system gives no randomness")?;
    let options = EdgeOptions {
        shards,
        inbox_max: limits.inbox_max,
        ledger_max: 10_000,
        limits: codec::Limits {
            message_bytes_max: limits.message_bytes_max,
            fragments_max: u32::try_from(limits.fragments_max).unwrap_or(u32::MAX),
            control_frames_per_second: u32::try_from(limits.control_frames_per_second).unwrap_or(u32::MAX),
            ..codec::Limits::default()
        },
        node: format!("{:012x}", random() >> 16),
    };
    let node: Arc<str> = options.node.as_str().into();
    let cluster = crate::cluster::of(&settings, &node, &telemetry)?;
    let prepared = Prepared::new(options, admission.clone()).context("preparing the shards")?;
    let hub = prepared.hub.clone();
    let mut epoch = || store::new_epoch(&mut random);
    let derived = settings.derive.enabled.then(|| Arc::new(Derived::new(&settings.derive, clock::now())));
    let bus_options = Options {
        namespaces: namespaces(&settings),
        shards,
        channels_max: limits.channels_max,
        epoch: epoch()?,
        store: store::open(&settings, epoch()?)?,
        broker: cluster.clone().map(|cluster| cluster as Arc<dyn Broker>),
        queue_max: settings.store.queue_max,
        ring: RingLimits::default(),
        series: series(&settings)?,
        tap: derived.clone().map(|derived| derived as Arc<dyn Tap>),
        incarnation: random(),
    };
    let bounds = reading::readers::Bounds {
        reads: settings.reading.reads_max,
        tail_bytes: settings.reading.tail_bytes_max,
        fallbacks: settings.reading.fallbacks_max,
    };
    let readers = Arc::new(reading::Readers::new(bounds, random::source()?));
    let audience = reading::Audience { hub: hub.clone(), readers: readers.clone() };
    let bus = Arc::new(Bus::new(bus_options, telemetry.clone(), Box::new(audience)));
    let workers = store::Workers::start(&bus, settings.store.readers, settings.series.keep_interval)?;
    let (requests, waiting) = backend::queues(shards);
    let requests: Arc<dyn pulsewire_hub::Backend> = Arc::new(requests);
    let sessions_move = cluster.is_some();
    let revocations = Arc::new(Revocations::default());
    let live = live(settings.clone(), address, shards, &revocations, &telemetry, None)?;
    let hub_settings = Arc::new(told_to_hub(&live, sessions_move));
    let tag = crate::cluster::tag(&node);
    let sources = (0..shards).map(|_| random::source()).collect::<Result<Vec<_>, _>>()?;
    let sources = parking_lot::Mutex::new(sources);
    let timeline_max = settings.watch.timeline_events.div_ceil(shards);
    let edge = Edge::start(prepared, |index| ShardOptions {
        index,
        settings: hub_settings.clone(),
        bus: bus.clone(),
        backend: requests.clone(),
        telemetry: telemetry.clone(),
        admission: admission.clone(),
        ledger: hub.ledger.clone(),
        presence: hub.presence.clone(),
        random: sources.lock().pop().expect("one source for each shard"),
        node: tag,
        timeline_max,
    })
    .context("starting the shards")?;
    let (reads_max, channels_max) = (settings.series.reads_max, settings.limits.channels_max);
    let audit = crate::audit::Audit::new(&settings.server.data_dir);
    let redis = settings.redis.url.is_some().then(|| settings.redis.clone());
    let tls = Certificates::default();
    tls.put(&settings).map_err(|problem| anyhow::anyhow!("{problem}"))?;
    let upstreams = Arc::new(Upstreams::new(&settings, bus.clone(), telemetry.clone())?);
    let node_name = crate::cluster::node_name(&settings);
    let app = Arc::new(App {
        live: ArcSwap::from_pointee(live),
        telemetry,
        bus,
        hub,
        readers,
        edge,
        tls,
        attempts: Arc::default(),
        handshakes: crate::auth::Attempts::default(),
        pace: crate::pace::Pace::default(),
        blocks: crate::blocks::Blocks::default(),
        shut_out: crate::shut_out::ShutOut::default(),
        revocations,
        draining: AtomicBool::new(false),
        collecting: Arc::default(),
        redis: redis.as_ref().map(|_| AtomicBool::new(false)),
        redis_streams: redis
            .as_ref()
            .filter(|redis| !redis.streams.is_empty())
            .map(|_| redis::Standing::default()),
        address,
        started_at_ms: clock::now().wall_ms,
        scrapes: http::metrics::Scrapes::default(),
        stopping: AtomicBool::new(false),
        judge: parking_lot::Mutex::default(),
        events: crate::events::Events::default(),
        errors: parking_lot::Mutex::default(),
        audit,
        figures: parking_lot::Mutex::default(),
        memory: crate::memory::History::default(),
        seats: Seats::new(share.http_max),
        series: reading::series::Places::new(reads_max),
        watches: std::sync::atomic::AtomicUsize::new(0),
        node,
        node_name,
        cluster,
        tasks: parking_lot::Mutex::default(),
        rates: crate::watch::Rates::new(crate::watch::ROWS_KEPT_MAX),
        counted: crate::watch::connections::Counted::default(),
        channel_rates: crate::watch::Rates::new(channels_max),
        upstreams,
    });
    waiting.serve(&app);
    let (stop, stopped) = watch::channel(false);
    let handle = Handle { app: app.clone(), stopped: stopped.clone() };
    tokio::spawn(app.readers.clone().serve(stopped.clone()));
    let collector = collector(&handle);
    if let Some(derived) = derived {
        derived::start(&app, derived, stopped.clone());
    }
    let redis = redis.map(|redis| redis::Threads::start(&app, &redis)).transpose()?;
    if let Some(cluster) = &app.cluster {
        cluster.start(&app, stopped.clone())?;
    }
    // Before anybody is let in, as far as the store can be read.
    crate::shut_out::start(&app, stopped.clone()).await;
    app.upstreams.start(&app, stopped.clone());
    tls::watch(&app, stopped.clone());
    crate::memory::start(&app, stopped.clone());
    crate::watch::start(&app, stopped.clone());
    crate::figures::sampler::start(&app, stopped.clone());
    let text = format!("the server started, version {}", env!("CARGO_PKG_VERSION"));
    events::note(&app, events::Kind::Started, None, text, None);
    let mut doors = Vec::new();
    if let Some(internal) = internal {
        tracing::info!(address = %internal.local_addr()?, "listening for operators");
        let (router, seats) = (http::internal_router(&app), Seats::new(descriptors::INTERNAL));
        let door = accept::serve(app.clone(), internal, Door::Internal, router, seats, stopped.clone());
        doors.push(tokio::spawn(door));
    }
    let router = match routes {
        None => http::router(&app),
        Some(routes) => http::router_with(&app, routes(&handle)),
    };
    let door = accept::serve(app.clone(), listener, Door::Public, router, app.seats.clone(), stopped);
    doors.push(tokio::spawn(door));
    Ok(Running { app, address, handle, stop, workers, redis, doors, _collector: collector })
}

/// The collector of the settings, started. A host that cannot be read is said once and not collected.
fn collector(handle: &Handle) -> Option<Collector> {
    let live = handle.app.live.load();
    let settings = &live.settings.collector;
    let host = HostOptions { tags: settings.tags.clone(), ..HostOptions::default() };
    let mut collector = Collector::new(handle, CollectorOptions { interval: settings.interval, host });
    if settings.enabled
        && let Err(error) = collector.start()
    {
        tracing::error!(%error, "the host's metrics cannot be collected");
    }
    settings.enabled.then_some(collector)
}

impl Running {
    /// Waits for a thread to end though nobody stopped it, by a panic or an error. Returns its name.
    pub async fn fallen(&self) -> String {
        loop {
            tokio::time::sleep(WATCHED).await;
            let fallen = self.app.edge.fallen().or_else(|| self.workers.fallen());
            if let Some(name) = fallen.or_else(|| self.redis.as_ref()?.fallen()) {
                return name;
            }
        }
    }

    /// Goes away: lets nobody in, sends everybody off, and returns when all have gone or the deadline has come.
    pub async fn stop(self, deadline: Duration) {
        self.stop_unless(deadline, std::future::pending()).await;
    }

    /// The same, until `hurry` comes: then connections are cut, and what was accepted is kept within a second and a half.
    pub async fn stop_unless(self, mut deadline: Duration, hurry: impl Future<Output = ()>) {
        let began = tokio::time::Instant::now();
        self.app.stopping.store(true, Ordering::Relaxed);
        self.app.draining.store(true, Ordering::Relaxed);
        let connections = self.app.hub.admission.connections();
        tracing::info!(connections, deadline_seconds = deadline.as_secs(), "going away");
        let text = format!("the server is stopping: {connections} connections are sent elsewhere");
        events::note(&self.app, events::Kind::Draining, Some(Severity::Warning), text, None);
        let per_second = self.app.live.load().settings.limits.handshakes_per_second;
        let plan = drain_plan(deadline, connections, per_second, self.app.other_nodes());
        self.app.hub.drain(plan);
        self.app.readers.drain(Some(plan));
        let all_gone = async {
            while self.app.hub.admission.connections() > 0 && began.elapsed() + CUT_BEFORE < deadline {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::select! {
            () = all_gone => {}
            () = hurry => {
                tracing::warn!("a second signal: going at once");
                deadline = began.elapsed() + HURRY;
            }
        }
        let left = self.app.hub.admission.connections();
        if left > 0 {
            tracing::warn!(left, "the deadline has come; connections are cut");
        }
        // Close frames that are on their way are read within a moment or not at all.
        let linger = Duration::from_millis(200).min(deadline.saturating_sub(began.elapsed()));
        tokio::time::sleep(linger).await;
        if let Some(cluster) = &self.app.cluster {
            cluster.leave().await;
        }
        // Whoever watches has stopped already if this fails.
        let _ = self.stop.send(true);
        if let Some(redis) = &self.redis {
            redis.stop();
        }
        for door in self.doors {
            // Whoever starts a server next can have the address.
            if door.await.is_err() {
                tracing::error!("a task that accepts connections panicked");
            }
        }
        if let Err(error) = self.app.edge.stop() {
            tracing::error!(%error, "a shard ended with an error");
        }
        if let Some(redis) = &self.redis {
            // What was read from streams is published while that is possible, and acknowledged.
            redis.ended().await;
        }
        // Nobody publishes any more; what was accepted is kept before the end. A store that does not answer must not
        // hold the process beyond its deadline: what was acknowledged is in it, and what was not is sent again.
        let (kept, done) = tokio::sync::oneshot::channel();
        let workers = self.workers;
        std::thread::spawn(move || {
            workers.stop();
            // Nobody waits any more if the deadline has come.
            let _ = kept.send(());
        });
        let left = deadline.saturating_sub(began.elapsed()).max(STORE_AT_LEAST);
        if tokio::time::timeout(left, done).await.is_err() {
            tracing::error!("the store did not take what waited for it before the deadline");
        }
        tracing::info!(took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX), "gone");
    }
}

/// When what is left is cut, before the deadline.
const CUT_BEFORE: Duration = Duration::from_millis(500);
/// How long a second signal leaves: close frames are not waited for, what was accepted is kept.
const HURRY: Duration = Duration::from_millis(1_500);
/// How long the store may take in any case.
const STORE_AT_LEAST: Duration = Duration::from_millis(500);

/// Closes are spread so that the last one has a second for its close frame and the store has its time, before the
/// deadline; few connections need less. Whoever is closed comes back over what is left of the time that a node with the
/// same budget needs to let all in, and not before this one is gone. Where other nodes are there to take them, they come
/// back within a second of their close, or over what those nodes need beyond the time of the closes (row U4).
pub(crate) fn drain_plan(
    deadline: Duration,
    connections: usize,
    handshakes_per_second: usize,
    others: usize,
) -> Drain {
    let deadline_ms = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX);
    let reserved_ms = (deadline_ms / 10).max(1_500).min(deadline_ms / 2);
    // A hundred connections a second are no storm for whoever takes them over.
    let within_ms = (connections as u64 * 10).min(deadline_ms - reserved_ms);
    if others > 0 {
        let needed_ms = crate::pace::window_ms(connections, handshakes_per_second.saturating_mul(others));
        let beyond_ms = needed_ms.saturating_sub(within_ms);
        return Drain { within_ms, retry_min_ms: 50, retry_max_ms: beyond_ms.max(1_000) };
    }
    let needed_ms = crate::pace::window_ms(connections, handshakes_per_second);
    Drain { within_ms, retry_min_ms: 500, retry_max_ms: (within_ms + 2_000).max(needed_ms).max(5_000) }
}

/// How often is looked whether all threads are there.
const WATCHED: Duration = Duration::from_millis(500);

/// Runs a server until a signal comes, or one of its threads ends by itself. The exit code is for the process.
///
/// # Errors
///
/// As [`start`].
pub fn run(sources: settings::Sources, settings: Settings) -> anyhow::Result<()> {
    let format = match settings.log.format {
        LogFormat::Text => logs::LogFormat::Text,
        LogFormat::Json => logs::LogFormat::Json,
        LogFormat::Auto if std::io::IsTerminal::is_terminal(&std::io::stderr()) => logs::LogFormat::Text,
        LogFormat::Auto => logs::LogFormat::Json,
    };
    let logs = logs::init(format, &settings.log.level)?;
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if settings.server.workers > 0 {
        builder.worker_threads(settings.server.workers);
    }
    let runtime = builder.enable_all().build().context("starting the runtime")?;
    let (dev, deadline) = (settings.dev, settings.server.shutdown_deadline);
    runtime.block_on(async {
        for notice in settings.notices() {
            tracing::warn!("{notice}");
        }
        let shown = settings.clone();
        // Before anybody can see that it runs: until there are handlers, a signal ends the process where it stands.
        let mut signals = Signals::new()?;
        let running = start(settings).await?;
        let file = if dev { Some(dev::announce(&shown, running.address)?) } else { None };
        tracing::info!(address = %running.address, version = env!("CARGO_PKG_VERSION"), "listening");
        if !dev && shown.dashboard.enabled {
            let url = format!("{}://{}/", if shown.tls.is_set() { "https" } else { "http" }, running.address);
            tracing::info!(url, "the dashboard needs a token: pulsewire token create --sub YOU --role operator");
        }
        let manager = Manager::of_process();
        let reloads = reload::watch(running.app.clone(), sources, logs, manager.clone());
        manager.ready(&format!("listening on {}", running.address));
        let alive = manager.watch(&running.app);
        let fallen = tokio::select! {
            () = signals.next() => None,
            name = running.fallen() => Some(name),
        };
        if let Some(name) = &fallen {
            tracing::error!(thread = name, "a thread has ended by itself: everybody is sent away, to be started anew");
        }
        reloads.abort();
        manager.stopping(deadline);
        running.stop_unless(deadline, signals.next()).await;
        if let Some(alive) = alive {
            alive.abort();
        }
        if let Some(file) = file {
            // Somebody may have removed it already.
            let _ = std::fs::remove_file(file);
        }
        match fallen {
            None => Ok(()),
            Some(name) => Err(anyhow::anyhow!(
                "the thread {name} ended by itself; start the server again, and report what the log says before"
            )),
        }
    })
}

/// What tells a server to go: SIGTERM, and Ctrl-C.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Listens from now on.
    fn new() -> anyhow::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

fn bind(address: std::net::SocketAddr) -> anyhow::Result<TcpListener> {
    accept::listen(address).with_context(|| {
        format!("cannot listen on {address}; if another program does, stop it or choose another --listen")
    })
}

/// What a reload replaces, made from settings.
///
/// # Errors
///
/// If a key, an origin or the hook cannot be used, or there are no descriptors for clients.
pub fn live(
    settings: Settings,
    address: std::net::SocketAddr,
    shards: usize,
    revocations: &Arc<Revocations>,
    telemetry: &Arc<Telemetry>,
    before: Option<&Live>,
) -> anyhow::Result<Live> {
    let share = Share::of_process(&settings, shards)?;
    let read = |path: &std::path::Path| std::fs::read_to_string(path);
    let remote = remote_keys(&settings, telemetry, before)?;
    let start_key = before.map_or_else(start_key, |live| Ok(live.start_key))?;
    let authenticator = Authenticator::new(&settings, &read, revocations.clone(), remote, &start_key)
        .map_err(|problem| anyhow::anyhow!("{problem}"))?;
    let missing = if settings.origins.allow_missing { MissingOrigin::Allow } else { MissingOrigin::Refuse };
    let scheme = if settings.tls.is_set() { "https" } else { "http" };
    let own = [format!("{scheme}://{address}"), format!("{scheme}://localhost:{}", address.port())];
    let origins = if settings.dev || settings.origins.allowed.iter().any(|origin| origin == "*") {
        OriginPolicy::any()
    } else {
        let allowed = settings.origins.allowed.iter().chain(&own).map(String::as_str);
        OriginPolicy::exactly(allowed, missing)?
    };
    let hook = settings.hook.url.as_ref().map(|url| {
        Hook::new(&HookOptions {
            url: url.to_string(),
            secret: settings.hook.secret.clone(),
            timeout: settings.hook.timeout,
            in_flight_max: settings.hook.in_flight_max,
            allow_private: settings.hook.allow_private,
        })
    });
    Ok(Live { authenticator, start_key, origins, hook: hook.transpose()?, share, settings })
}

/// What this process seals tickets with if its settings have no secret.
fn start_key() -> anyhow::Result<StartKey> {
    let mut random = random::source().context("the system gives no randomness")?;
    let mut key = StartKey::default();
    key.chunks_exact_mut(8).for_each(|chunk| chunk.copy_from_slice(&random().to_le_bytes()));
    Ok(key)
}

/// The keys of `auth.jwks_url`: those of before, where nothing about them has changed.
fn remote_keys(
    settings: &Settings,
    telemetry: &Arc<Telemetry>,
    before: Option<&Live>,
) -> anyhow::Result<Option<Arc<jwks::Remote>>> {
    let auth = &settings.auth;
    let Some(url) = auth.jwks_url.clone() else { return Ok(None) };
    let options = RemoteOptions {
        source: jwks::Source { issuer: auth.issuer.clone(), url },
        refresh: auth.jwks_refresh,
        timeout: auth.jwks_timeout,
        bytes_max: auth.jwks_bytes_max,
        allow_private: auth.jwks_allow_private,
    };
    let before = before.and_then(|live| live.authenticator.remote());
    if let Some(before) = before.filter(|before| *before.options() == options) {
        return Ok(Some(before.clone()));
    }
    let telemetry = telemetry.clone();
    let report = Box::new(move |outcome| telemetry.shared().keys_fetched(outcome));
    let remote = jwks::Remote::new(options, report, before.map(|before| &**before))?;
    jwks::keep_fresh(&remote, || clock::now().wall_ms);
    Ok(Some(remote))
}

/// Keys of a `state` channel, unless its namespace says otherwise.
const STATE_MAX: usize = 10_000;

fn namespaces(settings: &Settings) -> Namespaces {
    let ms = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    let namespace = |from: &settings::Namespace| Namespace {
        name: from.name.as_str().into(),
        pattern: from.pattern.clone(),
        kind: match from.kind {
            settings::ChannelKind::Log | settings::ChannelKind::State => ChannelKind::Log,
            settings::ChannelKind::Ephemeral => ChannelKind::Ephemeral,
            settings::ChannelKind::Metrics => ChannelKind::Metrics,
        },
        history_max: from.history_max,
        critical_types: from.critical_types.iter().map(|name| name.as_str().into()).collect(),
        critical_max: from.critical_max,
        critical_ttl_ms: i64::try_from(from.critical_ttl.as_millis()).unwrap_or(i64::MAX),
        durability: match from.durability {
            settings::Durability::Strict => Durability::Strict,
            settings::Durability::Relaxed => Durability::Relaxed,
            settings::Durability::Memory => Durability::Memory,
        },
        state_max: match (from.kind, from.state_max) {
            (settings::ChannelKind::State, 0) => STATE_MAX,
            (_, keys) => keys,
        },
        keyed: from.kind == settings::ChannelKind::State,
        presence: from.presence.then(|| PresenceRules {
            grace_ms: ms(from.presence_grace),
            ttl_ms: ms(from.presence_ttl),
            members_max: from.presence_members_max,
            cursor_bytes_max: from.presence_cursor_max,
            interval_ms: ms(from.presence_interval),
        }),
        interval_ms: i64::try_from(from.interval.as_millis()).unwrap_or(i64::MAX),
        anonymous: from.anonymous,
        read_only: from.publish == Publishers::Server,
    };
    let own = crate::shut_out::namespace();
    Namespaces::new(std::iter::once(own).chain(settings.namespaces.iter().map(namespace)).collect())
}

/// How metric channels are bounded, and where their past is kept.
fn series(settings: &Settings) -> anyhow::Result<SeriesOptions> {
    let from = &settings.series;
    let ms = |span: Duration| i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
    let limits = SeriesLimits {
        per_channel_max: from.per_channel_max,
        lateness_ms: ms(from.lateness),
        future_ms: ms(from.future_max),
        idle_ms: ms(from.idle_after),
        kept_ms: [from.history_1s, from.history_10s, from.history_1m, from.history_1h].map(ms),
        waiting_bytes_max: from.waiting_bytes_max,
    };
    let kept = limits.kept_ms.iter().any(|ms| *ms > 0);
    let store = kept.then(|| store::open_series(settings)).transpose()?;
    Ok(SeriesOptions { limits, store })
}

pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(255)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(deadline_s: u64, connections: usize, per_second: usize) -> (u64, u64) {
        let plan = drain_plan(Duration::from_secs(deadline_s), connections, per_second, 0);
        (plan.within_ms, plan.retry_max_ms)
    }

    /// Row U1: the last close leaves time for its frame and for the store.
    #[test]
    fn closes_shrink_into_the_deadline_and_clients_come_back_at_the_pace_of_the_budget() {
        assert_eq!(plan(30, 40, 1_000), (400, 5_000), "few need little");
        assert_eq!(plan(30, 10_000, 1_000), (27_000, 29_000));
        assert_eq!(plan(30, 10_000, 200), (27_000, 50_000), "as long as the budget needs");
        assert_eq!(plan(5, 10_000, 1_000), (3_500, 10_000));
        assert_eq!(plan(2, 10_000, 0), (1_000, 5_000));
        assert_eq!(plan(0, 10_000, 0), (0, 5_000));
    }

    #[test]
    fn where_other_nodes_take_them_clients_come_back_at_once() {
        let plan = |connections, others| {
            let plan = drain_plan(Duration::from_secs(30), connections, 100, others);
            (plan.within_ms, plan.retry_min_ms, plan.retry_max_ms)
        };
        assert_eq!(plan(1_000, 2), (10_000, 50, 1_000));
        assert_eq!(plan(10_000, 2), (27_000, 50, 23_000), "two nodes need 50 s for them");
    }
}
