//! Streams that the server holds open to others: WebSockets whose messages become events of its own channels
//! (document 002's "WSManager").
//!
//! An [`Upstream`] says how another server is spoken to and what its messages mean. A *stream* is one use of it that is
//! shared by every subscriber of its channels: all keys of an upstream, or one key where the URL names it. A stream has
//! a *link* for each URL: one, or two that feed the same channels.
//!
//! Everything here decides and nothing performs: time and chance are parameters, and what is to be done comes out as
//! [`Effect`]s and [`Order`]s. Whoever performs them (the server's `upstreams`) opens sockets and publishes.

pub mod breaker;
pub mod canary;
mod link;
mod manager;
mod mapping;
mod sequence;
mod spec;
mod template;

pub use breaker::{Admit, Breaker, Budget};
pub use link::{Around, Effect, Failure, Input, Link, LinkState};
pub use manager::{Interest, Manager, ManagerOptions, Order, Stream, StreamId, StreamState, Totals};
pub use mapping::{Codec, Mapped, Mapping, STATUS_TYPE, Unmapped};
pub use sequence::{Gap, Offer, Sequencer};
pub use spec::{Heartbeat, Overflow, Retry, SpecError, Upstream};
pub use template::{ChannelTemplate, Pointer, Template, TemplateError, Values};

/// Which settings a stream runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Track {
    /// Those that everybody has.
    Stable,
    /// The candidate's.
    Canary,
}

impl Track {
    /// Its name in labels and answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stable => "stable",
            Self::Canary => "canary",
        }
    }
}
