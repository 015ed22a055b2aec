//! What every part of the running server shares.
//!
//! Mutable things have one owner each: connections the shards, channels the bus, counters the
//! telemetry. Here are only handles to them, and what a reload replaces as a whole.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use pulsewire_bus::Bus;
use pulsewire_edge::{Carrier, Edge, clock, handshake::OriginPolicy};
use pulsewire_hub::{ConnectionInfo, Hub, HubSettings, Order, Principal, Reply, Target, Tickets};
use pulsewire_protocol::CloseCode;
use pulsewire_telemetry::{AuthFailure, Current, Telemetry};
use tokio::sync::oneshot;

use crate::auth::{Attempts, Authenticator, Revocations};
use crate::errors::Sample;
use crate::hook::Hook;
use crate::reading::Readers;
use crate::settings::{RateDirection, Settings};

/// What a reload replaces.
pub struct Live {
    /// The settings in force.
    pub settings: Settings,
    /// Turns credentials into principals.
    pub authenticator: Authenticator,
    /// What tickets are sealed with where no secret is set; the same until the process ends.
    pub start_key: crate::auth::ticket::StartKey,
    /// Which web pages may connect.
    pub origins: OriginPolicy,
    /// Who answers client events, if anybody.
    pub hook: Option<Hook>,
    /// How the process's descriptors are shared out.
    pub share: crate::descriptors::Share,
}

/// The running server.
pub struct App {
    /// What a reload replaces.
    pub live: ArcSwap<Live>,
    /// The metrics.
    pub telemetry: Arc<Telemetry>,
    /// Orders and keeps events.
    pub bus: Arc<Bus>,
    /// Tells the shards things.
    pub hub: Hub<Carrier>,
    /// Who reads over HTTP.
    pub readers: Arc<Readers>,
    /// Gives connections to shards.
    pub edge: Edge,
    /// The certificate of the public address.
    pub tls: crate::tls::Certificates,
    /// Failed attempts by address.
    pub attempts: Arc<Attempts>,
    /// Addresses that are shut out.
    pub blocks: crate::blocks::Blocks,
    /// How all nodes, and later starts, come to know of both.
    pub shut_out: crate::shut_out::ShutOut,
    /// What was revoked.
    pub revocations: Arc<Revocations>,
    /// Whether the server is going away.
    pub draining: AtomicBool,
    /// New connections of each address.
    pub handshakes: Attempts,
    /// New connections of all addresses together.
    pub pace: crate::pace::Pace,
    /// What the collectors of this server do.
    pub collecting: Arc<crate::collect::Meter>,
    /// Whether what is published in Redis is read; `None` if it is not to be.
    pub redis: Option<AtomicBool>,
    /// How it stands with the streams of Redis; `None` if none are to be read.
    pub redis_streams: Option<crate::redis::Standing>,
    /// The address it listens on.
    pub address: std::net::SocketAddr,
    /// When the server started, Unix milliseconds.
    pub started_at_ms: i64,
    /// The last rendered metrics pages.
    pub scrapes: crate::http::metrics::Scrapes,
    /// Whether the server stops, which no operator can end.
    pub stopping: AtomicBool,
    /// The rules, and what was found of each.
    pub judge: parking_lot::Mutex<crate::thresholds::Judge>,
    /// What was notable.
    pub events: crate::events::Events,
    /// What went wrong, by kind.
    pub errors: parking_lot::Mutex<crate::errors::Errors>,
    /// Who did what.
    pub audit: crate::audit::Audit,
    /// What the figures did.
    pub figures: parking_lot::Mutex<crate::figures::History>,
    /// How memory and connections went.
    pub memory: crate::memory::History,
    /// The places of those who read the history of metric channels.
    pub series: crate::reading::series::Places,
    /// The places of HTTP connections on the public address.
    pub seats: Arc<crate::seats::Seats>,
    /// How many queries are watched.
    pub watches: std::sync::atomic::AtomicUsize,
    /// The node's name, another one after each start.
    pub node: Arc<str>,
    /// What people call it.
    pub node_name: Box<str>,
    /// The other nodes; `None` if this one is alone, or they only meet in the store.
    pub cluster: Option<Arc<crate::cluster::Cluster>>,
    /// Numbers about tasks that were derived from the events this node accepted, by name.
    pub tasks: parking_lot::Mutex<std::collections::BTreeMap<Box<str>, f64>>,
    /// Counts of the connections that operators look at, for their rates.
    pub rates: crate::watch::Rates<pulsewire_hub::watch::RowKey>,
    /// How many connections the last page of each query counted.
    pub counted: crate::watch::connections::Counted,
    /// Streams that it holds open to others.
    pub upstreams: Arc<crate::upstreams::Upstreams>,
    /// Counts of the channels that operators look at, for their rates.
    pub channel_rates: crate::watch::Rates<pulsewire_bus::ChannelId>,
}

impl App {
    /// Whether the server is going away.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// How many other nodes are there.
    #[must_use]
    pub fn other_nodes(&self) -> usize {
        self.cluster.as_ref().map_or(0, |cluster| cluster.nodes.lock().present().len())
    }

    /// What there is now, over all shards, with the node's limits.
    ///
    /// # Errors
    ///
    /// [`Stalled`] if a shard does not answer within a second: the node cannot do its work.
    pub async fn survey(&self) -> Result<Current, Stalled> {
        let mut current = Current::default();
        for shard in ask(|reply| self.hub.survey(reply)).await? {
            current.merge(&shard);
        }
        self.readers.survey(&mut current);
        let share = self.live.load().share;
        current.connections_hard_limit = share.connections_max as u64;
        current.connections_soft_limit = share.connections_soft as u64;
        current.channels = self.bus.channels() as u64;
        let (channels, members) = self.hub.presence.count_here();
        current.metric_series = self.bus.series().0 as u64;
        (current.presence_channels, current.presence_members) = (channels as u64, members as u64);
        current.kernel_socket_bytes = current.kernel_unsent_bytes + current.kernel_unacked_bytes;
        current.heap_allocated_bytes = crate::memory::Heap::now().map_or(0, |heap| heap.allocated);
        current.tls_certificate_expiry_seconds = self.tls.in_force().map(|pair| pair.expiry_seconds);
        current.redis_connected = self.redis.as_ref().map(|redis| redis.load(Ordering::Relaxed));
        if let Some(standing) = &self.redis_streams {
            standing.survey(&mut current);
        }
        current.broker =
            self.cluster.as_ref().map(|cluster| cluster.survey(&self.bus, &self.hub.presence.replica()));
        current.watches = self.watches.load(Ordering::Relaxed) as u64;
        current.handshakes_waiting = self.pace.waiting(clock::now().mono_ms());
        current.draining |= self.is_draining();
        current.alerts = self.judge.lock().firing();
        current.upstreams = self.upstreams.survey();
        let runtime = tokio::runtime::Handle::current().metrics();
        current.tokio_tasks = runtime.num_alive_tasks() as u64;
        current.tokio_queue = runtime.global_queue_depth() as u64;
        for store in self.bus.stores() {
            current.store_queue_events += store.queued as u64;
            current.store_degraded |= store.degraded.is_some();
        }
        Ok(current)
    }

    /// Asks one shard something and waits for its answer, at most a second.
    ///
    /// # Errors
    ///
    /// As [`App::survey`].
    pub async fn ask<T: Send + 'static>(
        &self,
        shard: usize,
        order: impl FnOnce(Reply<T>) -> Order,
    ) -> Result<T, Stalled> {
        let mut answers = ask(|reply| self.hub.order(shard, order(reply()))).await?;
        answers.pop().ok_or(Stalled)
    }

    /// Somebody did not prove who they are, or may not: counts it and writes it down.
    pub fn auth_failed(&self, why: AuthFailure, address: Option<IpAddr>, user: Option<&str>, text: &str) {
        self.telemetry.shared().auth_failed(why);
        self.write_error("auth", why.as_str(), address, user, text);
    }

    /// Writes an error down that was counted, for whoever asks what the newest was about.
    pub fn write_error(
        &self,
        group: &'static str,
        kind: &'static str,
        address: Option<IpAddr>,
        user: Option<&str>,
        text: &str,
    ) {
        let user = user.map(str::to_owned);
        let sample =
            Sample { at_ms: clock::now().wall_ms, session: None, user, address, text: text.to_owned() };
        self.errors.lock().write(group, kind, sample);
    }

    /// Every connection and detached session.
    ///
    /// # Errors
    ///
    /// As [`App::survey`].
    pub async fn connections(&self) -> Result<Vec<ConnectionInfo>, Stalled> {
        let shards = ask(|reply| self.hub.list(reply)).await?;
        Ok(shards.into_iter().flatten().chain(self.readers.list()).collect())
    }

    /// Ends connections. Returns how many there were.
    ///
    /// # Errors
    ///
    /// As [`App::survey`].
    pub async fn close(&self, target: &Target, code: CloseCode) -> Result<usize, Stalled> {
        let readers = self.readers.close(target, code);
        let connections: usize = ask(|reply| self.hub.close(target, code, reply)).await?.into_iter().sum();
        Ok(readers + connections)
    }

    /// Ends what has just begun, if an operator took the token back or shut the address out after they were checked:
    /// who does that ends what there is, and this may not have been there yet. Call it when it is.
    pub fn end_if_shut_out(self: &Arc<Self>, address: IpAddr, principal: Option<&Principal>) {
        let revoked = principal.filter(|principal| self.revocations.is_revoked(principal));
        let blocked = self.blocks.is_blocked(address, clock::now().wall_ms);
        let target = match revoked {
            Some(Principal { token_id: Some(token_id), .. }) => Target::Token(token_id.clone()),
            Some(principal) => Target::User(principal.sub.clone()),
            None if blocked => Target::Address(address),
            None => return,
        };
        let app = self.clone();
        tokio::spawn(async move {
            if app.close(&target, CloseCode::Revoked).await.is_err() {
                tracing::error!("a shard does not answer; a connection that was shut out may live on");
            }
        });
    }
}

/// A shard does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a shard did not answer within a second")]
pub struct Stalled;

/// Asks every shard something and waits for all answers, at most a second.
async fn ask<T: Send + 'static>(ask: impl FnOnce(&mut dyn FnMut() -> Reply<T>)) -> Result<Vec<T>, Stalled> {
    let mut answers = Vec::new();
    ask(&mut || {
        let (sender, receiver) = oneshot::channel();
        answers.push(receiver);
        Box::new(move |answer| {
            // Whoever asked may have given up.
            let _ = sender.send(answer);
        })
    });
    let all = async {
        let mut collected = Vec::with_capacity(answers.len());
        for answer in answers {
            collected.push(answer.await.map_err(|_| Stalled)?);
        }
        Ok(collected)
    };
    tokio::time::timeout(std::time::Duration::from_secs(1), all).await.map_err(|_| Stalled)?
}

/// Everything the hub is told. `sessions_move` says whether there may be other nodes.
#[must_use]
pub fn told_to_hub(live: &Live, sessions_move: bool) -> HubSettings {
    let tickets = live.authenticator.tickets().clone();
    let tickets = Tickets::new(move |principal, now| tickets.seal(principal, now.wall_ms));
    HubSettings { sessions_move, tickets, ..hub_settings(&live.settings) }
}

/// The hub's settings, as far as they are the server's.
#[must_use]
pub fn hub_settings(settings: &Settings) -> HubSettings {
    let ms = |duration: std::time::Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let limits = &settings.limits;
    HubSettings {
        limits: pulsewire_hub::Limits {
            subscriptions_per_session: limits.subscriptions_per_session,
            messages_per_minute: u32::try_from(limits.messages_per_minute).unwrap_or(u32::MAX),
            rate_direction: match limits.rate_direction {
                RateDirection::In => pulsewire_hub::RateDirection::In,
                RateDirection::Both => pulsewire_hub::RateDirection::Both,
            },
            errors_per_minute: u32::try_from(limits.errors_per_minute).unwrap_or(u32::MAX),
            outbox_bytes_max: limits.outbox_bytes_max,
            slow_after_ms: ms(limits.slow_after),
            connection_age_max_ms: ms(limits.connection_age_max),
            auth_timeout_ms: ms(settings.auth.timeout),
            stash_bytes_max: limits.message_bytes_max,
            detached_max: settings.session.detached_max,
            page_events: 64,
        },
        heartbeat_interval_ms: ms(settings.heartbeat.interval),
        heartbeat_timeout_ms: ms(settings.heartbeat.timeout),
        resume_window_ms: ms(settings.session.resume_window),
        sessions_move: false,
        tickets: Tickets::default(),
        retry_max_ms: ms(settings.session.retry_max),
        client_events: settings.hook.events.iter().map(|event| event.as_str().into()).collect(),
    }
}
