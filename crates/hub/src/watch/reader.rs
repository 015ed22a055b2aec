//! Who listens to a channel.

use pulsewire_protocol::SessionId;

use super::Feeding;

/// A session that listens to a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reader {
    /// Its session.
    pub session: SessionId,
    /// Its user; empty for the anonymous.
    pub user: Box<str>,
    /// Up to where it has been sent everything; `None` where nothing is numbered.
    pub position: Option<u64>,
    /// How many events it has not been sent; `None` where nothing is numbered.
    pub behind: Option<u64>,
    /// How it gets its events.
    pub feeding: Feeding,
}

/// What a shard found in a slice of a channel's listeners.
#[derive(Debug, Clone, Default)]
pub struct Readership {
    /// The listener with which the next slice begins; `None` if this was the last.
    pub next: Option<usize>,
    /// Those furthest behind, the furthest first; at most [`super::READERS_MAX`].
    pub readers: Vec<Reader>,
}
