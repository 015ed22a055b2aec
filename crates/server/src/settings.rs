//! The settings: one typed tree, read from defaults, a file, the environment and flags.
//!
//! Every key is declared once, in [`sections`](self) and [`namespace`]; parsing, defaults, errors,
//! provenance and the documentation come from that declaration. Loading is a pure function of its
//! sources and reports every problem together, so that a wrong file is mended in one go.

pub mod access;
mod change;
mod checks;
mod environment;
mod file;
pub mod kind;
mod load;
pub mod namespace;
pub mod problem;
pub mod secret;
mod sections;
mod show;
pub mod sources;
pub mod table;
pub mod upstream;

use std::collections::BTreeMap;

pub use access::AlgorithmName;
pub use change::{Change, diff};
pub use checks::{SECRET_LEN_BYTES_MIN, weakness};
pub use kind::threshold::{Levels, Threshold};
pub use kind::{duration_from_text, duration_to_text};
pub use namespace::{ChannelKind, Durability, Namespace, Publishers, namespace_of};
pub use problem::{Origin, Problem};
pub use secret::Secret;
pub use sections::{
    Auth, BrokerKind, Canary, Cluster, Collector, Dashboard, Derive, Features, Heartbeat, Hook, Ingest,
    Limits, Log, LogFormat, Metrics, Origins, Profile, RateDirection, Reading, Redis, Series, Server,
    Session, Store, Thresholds, Tls, UpstreamLimits, Watch,
};
pub use show::docs_markdown;
pub use sources::{Flags, Sources};
pub use upstream::Declared;

use pulsewire_sources::derive::Meaning;
use table::{Key, Section};

/// Everything that can be set, with the values in effect.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Where the server listens, keeps its files and how it stops.
    pub server: Server,
    /// TLS at the public address.
    pub tls: Tls,
    /// Where the events of log channels are kept.
    pub store: Store,
    /// What is logged and how.
    pub log: Log,
    /// Who may connect and what they may do.
    pub auth: Auth,
    /// Which web pages may connect.
    pub origins: Origins,
    /// How dead connections are found.
    pub heartbeat: Heartbeat,
    /// What outlives a connection.
    pub session: Session,
    /// What one client, one address and the whole node may use.
    pub limits: Limits,
    /// Reading over HTTP.
    pub reading: Reading,
    /// The HTTP hook for client events.
    pub hook: Hook,
    /// The host's own numbers.
    pub collector: Collector,
    /// Metric channels.
    pub series: Series,
    /// Samples that come by HTTP.
    pub ingest: Ingest,
    /// Numbers derived from the events that pass.
    pub derive: Derive,
    /// Several nodes that share a store.
    pub cluster: Cluster,
    /// Samples and events that others publish in Redis.
    pub redis: Redis,
    /// Bounds of all upstreams together.
    pub upstream_limits: UpstreamLimits,
    /// Parts that can be turned on.
    pub features: Features,
    /// By what the candidate settings of upstreams are judged.
    pub canary: Canary,
    /// What operators watch.
    pub watch: Watch,
    /// The dashboard.
    pub dashboard: Dashboard,
    /// What `/metrics` shows.
    pub metrics: Metrics,
    /// From where on something is wrong.
    pub thresholds: Thresholds,
    /// The namespaces in the order they are tried: those of the file, then the shipped ones.
    pub namespaces: Vec<Namespace>,
    /// The upstreams of the file, in its order.
    pub upstreams: Vec<Declared>,
    /// Whether the server runs with `--dev`.
    pub dev: bool,
    provenance: BTreeMap<String, Origin>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            server: Server::default(),
            tls: Tls::default(),
            store: Store::default(),
            log: Log::default(),
            auth: Auth::default(),
            origins: Origins::default(),
            heartbeat: Heartbeat::default(),
            session: Session::default(),
            limits: Limits::default(),
            reading: Reading::default(),
            hook: Hook::default(),
            collector: Collector::default(),
            series: Series::default(),
            ingest: Ingest::default(),
            derive: Derive::default(),
            cluster: Cluster::default(),
            redis: Redis::default(),
            upstream_limits: UpstreamLimits::default(),
            features: Features::default(),
            canary: Canary::default(),
            watch: Watch::default(),
            dashboard: Dashboard::default(),
            metrics: Metrics::default(),
            thresholds: Thresholds::default(),
            namespaces: Namespace::defaults(false),
            upstreams: Vec::new(),
            dev: false,
            provenance: BTreeMap::new(),
        }
    }
}

/// The sections in the order of the documentation: what each is about, and its keys.
fn sections() -> [(&'static str, &'static [Key<Settings>]); 24] {
    fn of<S: Section<Settings>>() -> (&'static str, &'static [Key<Settings>]) {
        (S::ABOUT, S::KEYS)
    }
    [
        of::<Server>(),
        of::<Tls>(),
        of::<Store>(),
        of::<Log>(),
        of::<Auth>(),
        of::<Origins>(),
        of::<Heartbeat>(),
        of::<Session>(),
        of::<Limits>(),
        of::<Reading>(),
        of::<Hook>(),
        of::<Collector>(),
        of::<Series>(),
        of::<Ingest>(),
        of::<Derive>(),
        of::<Cluster>(),
        of::<Redis>(),
        of::<UpstreamLimits>(),
        of::<Features>(),
        of::<Canary>(),
        of::<Watch>(),
        of::<Dashboard>(),
        of::<Metrics>(),
        of::<Thresholds>(),
    ]
}

/// Every key of the tree, in the order of the documentation. Namespaces and upstreams have their own.
pub fn keys() -> impl Iterator<Item = &'static Key<Settings>> {
    sections().into_iter().flat_map(|(_, keys)| keys)
}

impl Limits {
    /// The most that the buffers of one connection may hold together, in bytes: either a message beside what waits
    /// for the token, or a message beside an outbox and the answers that may wait with it.
    #[must_use]
    pub const fn connection_memory_needed(&self) -> usize {
        let (message, outbox) = (self.message_bytes_max, 2 * self.outbox_bytes_max);
        message + if outbox > message { outbox } else { message }
    }
}

impl Derive {
    /// What event types mean: the key, the meaning and the types.
    #[must_use]
    pub fn types(&self) -> [(&'static str, Meaning, &[String]); 8] {
        [
            ("derive.pending", Meaning::TaskPending, &self.pending),
            ("derive.running", Meaning::TaskRunning, &self.running),
            ("derive.completed", Meaning::TaskCompleted, &self.completed),
            ("derive.failed", Meaning::TaskFailed, &self.failed),
            ("derive.calls", Meaning::AgentCall, &self.calls),
            ("derive.calls_completed", Meaning::AgentCallCompleted, &self.calls_completed),
            ("derive.calls_failed", Meaning::AgentCallFailed, &self.calls_failed),
            ("derive.errors", Meaning::AgentError, &self.errors),
        ]
    }
}

impl Settings {
    /// Where the value at `path` comes from; a namespace's path is `namespace.` and its name, an upstream's `upstream.` and
    /// its name, with `.canary` for the candidate's settings of it.
    #[must_use]
    pub fn origin(&self, path: &str) -> Origin {
        self.provenance.get(path).cloned().unwrap_or(Origin::Default)
    }

    /// What an operator should hear at every start, one sentence each.
    #[must_use]
    pub fn notices(&self) -> Vec<String> {
        let mut notices = Vec::new();
        let mut notice = |applies: bool, text: String| {
            if applies {
                notices.push(text);
            }
        };
        let listen = self.server.listen;
        notice(self.dev, "dev mode: do not expose this server".to_owned());
        notice(
            !listen.ip().is_loopback() && !self.tls.is_set(),
            format!(
                "listening on {listen} without TLS: tokens can be read on the way; set tls.certificate_file and tls.key_file, or put a TLS proxy in front"
            ),
        );
        let internal = self.server.internal_listen.filter(|address| !address.ip().is_loopback());
        notice(
            internal.is_some(),
            "the internal address can be reached from elsewhere: guard it with a firewall".to_owned(),
        );
        notice(
            self.origins.allowed.iter().any(|it| it == "*"),
            "every web page may connect (origins.allowed has `*`)".to_owned(),
        );
        notice(!self.auth.required, "connections need no token (auth.required is false)".to_owned());
        let weak = self.auth.secret.as_ref().and_then(|secret| weakness(secret.expose()));
        let open = self.auth.jwks_url.as_ref().is_some_and(|url| url.starts_with("http:"));
        notice(
            open,
            "the keys of tokens are fetched over http (auth.jwks_url): whoever is on the way could add one"
                .to_owned(),
        );
        for upstream in self.upstreams.iter().filter(|it| it.tells_secret()) {
            let text = format!(
                "upstream `{}` is sent its secret over ws: it can be read on the way; use wss",
                upstream.name()
            );
            notice(true, text);
        }
        notice(weak.is_some(), "the signing key is weak: anybody could make tokens".to_owned());
        notices
    }
}
