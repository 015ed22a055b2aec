//! The settings: one typed tree, read from defaults, a file, the environment and flags.
//!
//! Every key is declared once, in [`sections`](self) and [`namespace`]; parsing, defaults, errors,
//! provenance and the documentation come from that declaration. Loading is a pure function of its
//! sources and reports every problem together, so that a wrong file is mended in one go.

pub mod access;
pub mod kind;
pub mod namespace;
pub mod secret;
mod sections;
pub mod table;

pub use access::AlgorithmName;
pub use kind::{duration_from_text, duration_to_text};
pub use namespace::{ChannelKind, Namespace, Publishers, namespace_of};
pub use secret::Secret;
pub use sections::{
    Auth, Collector, Heartbeat, Hook, Limits, Log, LogFormat, Metrics, Origins, Server, Session,
};

use table::{Key, Section};

/// Everything that can be set, with the values in effect.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Where the server listens, keeps its files and how it stops.
    pub server: Server,
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
    /// The HTTP hook for client events.
    pub hook: Hook,
    /// The host's own numbers.
    pub collector: Collector,
    /// What `/metrics` shows.
    pub metrics: Metrics,
    /// The namespaces in the order they are tried: those of the file, then the shipped ones.
    pub namespaces: Vec<Namespace>,
    /// Whether the server runs with `--dev`.
    pub dev: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            server: Server::default(),
            log: Log::default(),
            auth: Auth::default(),
            origins: Origins::default(),
            heartbeat: Heartbeat::default(),
            session: Session::default(),
            limits: Limits::default(),
            hook: Hook::default(),
            collector: Collector::default(),
            metrics: Metrics::default(),
            namespaces: Namespace::defaults(false),
            dev: false,
        }
    }
}

/// The sections in the order of the documentation: what each is about, and its keys.
fn sections() -> [(&'static str, &'static [Key<Settings>]); 10] {
    fn of<S: Section<Settings>>() -> (&'static str, &'static [Key<Settings>]) {
        (S::ABOUT, S::KEYS)
    }
    [
        of::<Server>(),
        of::<Log>(),
        of::<Auth>(),
        of::<Origins>(),
        of::<Heartbeat>(),
        of::<Session>(),
        of::<Limits>(),
        of::<Hook>(),
        of::<Collector>(),
        of::<Metrics>(),
    ]
}

/// Every key of the tree, in the order of the documentation. Namespaces have their own.
pub fn keys() -> impl Iterator<Item = &'static Key<Settings>> {
    sections().into_iter().flat_map(|(_, keys)| keys)
}
