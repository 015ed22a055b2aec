//! What is shown of one connection.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use pulsewire_protocol::{ChannelName, Filter, Interval, SessionId};

use super::health::Diagnosis;
use crate::{ConnKey, ConnectionInfo, Role, TcpSample};

/// Which connection, session or reader. As text it is what the lists call `id`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RowKey {
    /// A session, connected or waiting.
    Session(SessionId),
    /// A connection without a session, and its shard.
    Guest(u8, u32, u32),
    /// A reader over HTTP.
    Reader(u64),
}

impl RowKey {
    /// The shard that has it; `None` for readers.
    #[must_use]
    pub fn shard(self) -> Option<usize> {
        match self {
            Self::Session(session) => Some(usize::from(session.shard())),
            Self::Guest(shard, ..) => Some(usize::from(shard)),
            Self::Reader(_) => None,
        }
    }

    /// Of a connection that has no session.
    #[must_use]
    pub fn guest(shard: usize, conn: ConnKey) -> Self {
        Self::Guest(u8::try_from(shard).unwrap_or(u8::MAX), conn.slot, conn.stamp)
    }
}

impl fmt::Display for RowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Session(session) => session.fmt(f),
            Self::Guest(shard, slot, stamp) => write!(f, "c{shard}-{slot}-{stamp}"),
            Self::Reader(seat) => write!(f, "r{seat}"),
        }
    }
}

/// The text is no row's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an id is that of a session, or one that a list of connections has shown")]
pub struct RowKeyError;

impl FromStr for RowKey {
    type Err = RowKeyError;

    fn from_str(text: &str) -> Result<Self, RowKeyError> {
        if let Ok(session) = SessionId::parse(text) {
            return Ok(Self::Session(session));
        }
        let guest = |rest: &str| {
            let mut parts = rest.split('-');
            let key = Self::Guest(
                parts.next()?.parse().ok()?,
                parts.next()?.parse().ok()?,
                parts.next()?.parse().ok()?,
            );
            parts.next().is_none().then_some(key)
        };
        let reader = |rest: &str| rest.parse().ok().map(Self::Reader);
        let key = match text.split_at_checked(1) {
            Some(("c", rest)) => guest(rest),
            Some(("r", rest)) => reader(rest),
            _ => None,
        };
        // Only what is shown is an id: no `+1`, no leading zeros.
        key.filter(|key| key.to_string() == text).ok_or(RowKeyError)
    }
}

/// What a connection does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum State {
    /// It has not said who it is.
    Authenticating,
    /// It is there.
    Connected,
    /// A subscription reads the past because its outbox was full.
    Lagging,
    /// Bytes wait, and none are taken.
    Slow,
    /// There is no connection; the session waits for its client.
    Detached,
}

impl State {
    /// The names of all, in the order of the declaration.
    pub const NAMES: &'static [&'static str] =
        &["authenticating", "connected", "lagging", "slow", "detached"];

    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        Self::NAMES[self as usize]
    }
}

/// One connection, session or reader of a list.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Which it is.
    pub key: RowKey,
    /// What is known of it.
    pub info: ConnectionInfo,
    /// What it does.
    pub state: State,
    /// How well it is.
    pub diagnosis: Diagnosis,
    /// Why, in words with numbers.
    pub cause_text: String,
    /// How long the oldest byte has waited in the outbox, in nanoseconds; `None` if none waits.
    pub queued_for_ns: Option<u64>,
    /// What the kernel says of the connection now.
    pub tcp: Option<TcpSample>,
    /// Heartbeats that were not answered in time.
    pub heartbeats_missed: u32,
}

/// Everything about one connection.
#[derive(Debug, Clone)]
pub struct Detail {
    /// What lists show of it.
    pub row: Row,
    /// When its token ends, Unix milliseconds.
    pub expires_at_ms: Option<i64>,
    /// What kind of party it is.
    pub role: Role,
    /// Whether its session can be resumed after a loss of the connection.
    pub resumable: bool,
    /// What it listens to.
    pub subscriptions: Vec<Subscribed>,
}

/// A subscription as it stands.
#[derive(Debug, Clone)]
pub struct Subscribed {
    /// The channel.
    pub channel: Arc<pulsewire_bus::Channel>,
    /// Up to where it has been sent everything; `None` where there are no positions.
    pub position: Option<u64>,
    /// How it gets its events.
    pub feeding: Feeding,
    /// What passes.
    pub filter: Filter,
    /// How often values are wanted.
    pub interval: Option<Interval>,
}

impl Subscribed {
    /// The channel's name.
    #[must_use]
    pub fn name(&self) -> &ChannelName {
        &self.channel.name
    }
}

/// How a subscription gets its events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Feeding {
    /// As they come.
    Live,
    /// It is being sent what was before.
    Reading,
    /// It has read ahead of what the shard has heard.
    Ahead,
    /// Its outbox was full; it will read from where it was.
    Lagging,
    /// It missed values and will be sent the newest.
    Stale,
    /// Its session has no connection.
    Parked,
}

impl Feeding {
    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        ["live", "reading", "ahead", "lagging", "stale", "parked"][self as usize]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_id_is_read_as_it_was_shown(shard: u8, slot in 0_u32..1 << 24, stamp: u32, number: u64) {
            let session = RowKey::Session(SessionId::new(number, shard, slot, number));
            for key in [session, RowKey::Guest(shard, slot, stamp), RowKey::Reader(number)] {
                prop_assert_eq!(key.to_string().parse::<RowKey>(), Ok(key));
            }
        }

        #[test]
        fn nothing_else_is_an_id(text in "[cr]?[0-9+-]{0,12}|\\PC{0,8}") {
            if let Ok(key) = text.parse::<RowKey>() {
                prop_assert_eq!(key.to_string(), text);
            }
        }
    }
}
