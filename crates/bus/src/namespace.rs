//! Settings shared by channels.
//!
//! A channel belongs to the first namespace whose pattern matches its name; a name that none
//! matches is an unknown channel. The set is finite and comes from the settings, so a namespace
//! may be a metric label where a channel never is.

use pulsewire_protocol::{ChannelName, ChannelPattern};

use crate::{Durability, Retention};

/// What a channel keeps and promises (`design.md` §4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelKind {
    /// Total order, sequence from 1 per epoch, the last events kept.
    Log,
    /// Order per publisher, nothing kept.
    Ephemeral,
    /// The latest value of each series.
    Metrics,
}

impl ChannelKind {
    /// Its name in settings and answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Ephemeral => "ephemeral",
            Self::Metrics => "metrics",
        }
    }
}

/// How the presence of a channel is kept and told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PresenceRules {
    /// How long a member stays whose connection broke, milliseconds. Default 5 s.
    pub grace_ms: u64,
    /// How long a member stays whose connection shows no sign of life, milliseconds. Default 15 s.
    pub ttl_ms: u64,
    /// Members of a channel; one more is refused. Default 1,000.
    pub members_max: usize,
    /// The longest cursor in bytes of JSON; a longer one is refused. Default 1 KiB.
    pub cursor_bytes_max: usize,
    /// The shortest time between two tellings of a channel, milliseconds. Default 100.
    pub interval_ms: u64,
}

impl Default for PresenceRules {
    fn default() -> Self {
        Self {
            grace_ms: 5_000,
            ttl_ms: 15_000,
            members_max: 1_000,
            cursor_bytes_max: 1_024,
            interval_ms: 100,
        }
    }
}

/// The settings of one namespace.
#[derive(Debug, Clone)]
pub struct Namespace {
    /// Its name: a metric label, so one of a finite set.
    pub name: Box<str>,
    /// Which channels belong to it.
    pub pattern: ChannelPattern,
    /// What its channels keep and promise.
    pub kind: ChannelKind,
    /// How many events a `log` channel keeps for replay. Default 1,000.
    pub history_max: usize,
    /// Event types that are critical without the publisher saying so.
    pub critical_types: Box<[Box<str>]>,
    /// How many critical events a `log` channel keeps beyond `history_max`. Default 10,000.
    pub critical_max: usize,
    /// Critical events older than this are not kept, milliseconds; 0, the default, keeps them.
    pub critical_ttl_ms: i64,
    /// How well an acknowledged event of a `log` channel is kept. Default `strict`.
    pub durability: Durability,
    /// How many keys the state of a `log` channel keeps; 0, the default, keeps no state.
    pub state_max: usize,
    /// Whether its `log` channels are values by key rather than a history: every event needs a key, and whoever begins
    /// or has fallen behind what is kept is sent the values.
    pub keyed: bool,
    /// How presence is kept; none if its channels have none.
    pub presence: Option<PresenceRules>,
    /// How often a `metrics` channel is expected to say something, milliseconds: after three of these in silence its
    /// subscribers are told. Default 5,000.
    pub interval_ms: i64,
    /// Whether sessions without a token may subscribe.
    pub anonymous: bool,
    /// Whether clients and applications may not publish, because the server itself does.
    pub read_only: bool,
}

impl Namespace {
    /// A namespace with the defaults of every field.
    #[must_use]
    pub fn new(name: &str, pattern: ChannelPattern, kind: ChannelKind) -> Self {
        Self {
            name: name.into(),
            pattern,
            kind,
            history_max: 1_000,
            critical_types: Box::default(),
            critical_max: 10_000,
            critical_ttl_ms: 0,
            durability: Durability::Strict,
            state_max: 0,
            keyed: false,
            presence: None,
            interval_ms: 5_000,
            anonymous: false,
            read_only: false,
        }
    }

    /// What its channels may keep.
    #[must_use]
    pub fn retention(&self) -> Retention {
        Retention {
            history_max: self.history_max,
            critical_max: self.critical_max,
            critical_ttl_ms: self.critical_ttl_ms,
            state_max: self.state_max,
            ids_ms: IDS_MS,
            ids_max: (self.history_max * 4).max(IDS_MIN),
        }
    }
}

/// How long message ids of events that are gone are remembered: twice as long as an SDK tries again.
const IDS_MS: i64 = 10 * 60 * 1_000;
/// How many message ids a channel may remember at least.
const IDS_MIN: usize = 10_000;

/// The position of a namespace in [`Namespaces`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NamespaceId(pub u16);

/// All namespaces, in the order in which they are tried.
#[derive(Debug, Clone, Default)]
pub struct Namespaces(Vec<Namespace>);

impl Namespaces {
    /// Namespaces in the order in which they are tried.
    #[must_use]
    pub fn new(list: Vec<Namespace>) -> Self {
        Self(list)
    }

    /// The namespace of a channel: the first whose pattern matches.
    #[must_use]
    pub fn find(&self, channel: &ChannelName) -> Option<(NamespaceId, &Namespace)> {
        let (index, namespace) =
            self.0.iter().enumerate().find(|(_, namespace)| namespace.pattern.matches(channel))?;
        Some((NamespaceId(u16::try_from(index).ok()?), namespace))
    }

    /// The namespace with this id.
    ///
    /// # Panics
    ///
    /// If the id comes from another set.
    #[must_use]
    pub fn get(&self, id: NamespaceId) -> &Namespace {
        &self.0[usize::from(id.0)]
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Namespace> {
        self.0.iter()
    }
}
