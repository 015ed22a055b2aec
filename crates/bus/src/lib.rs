//! The bus decides what is true: it orders a channel's events, keeps them, and answers replay
//! and duplicates.
//!
//! It knows nothing of sessions or sockets. Whoever wants to hear of publications is an
//! [`Audience`]; the bus tells it which of its shards has listeners, and nothing more.
//! Time comes in as a parameter ([`Now`]), so that a simulation can run an hour in a millisecond.

mod bus;
mod channel;
mod log;
mod namespace;
mod publication;
mod time;

pub use bus::{Audience, Bus, Options, Publisher, Receipt, Refusal};
pub use channel::{Channel, ChannelId};
pub use log::{LogLimits, Page, ReadLimit};
pub use namespace::{ChannelKind, Namespace, NamespaceId, Namespaces};
pub use publication::{Body, Publication, Variant};
pub use time::Now;
