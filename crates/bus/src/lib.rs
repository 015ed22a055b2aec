//! The bus decides what is true: it orders a channel's events, keeps them, and answers replay
//! and duplicates.
//!
//! It knows nothing of sessions or sockets. Whoever wants to hear of publications is an
//! [`Audience`]; the bus tells it which of its shards has listeners, and nothing more.
//! It has no threads: whoever runs it calls [`Bus::commit`], [`Bus::perform`] and [`Bus::tick`], and
//! time comes in as a parameter ([`Now`]), so that a simulation can run an hour in a millisecond.

mod bell;
mod broker;
mod bus;
mod channel;
mod holes;
mod lane;
mod mutant;
mod namespace;
mod page;
mod publication;
mod publish;
mod reads;
mod repair;
mod sequencer;
mod series;
mod state;
pub mod store;
mod system;
mod tap;
mod time;

pub use bell::Bell;
pub use broker::{
    Broker, ENVELOPE_BYTES_MAX, Envelope, Hint, Item, Key, OpenError, Outgoing, OutgoingOptions, Overflow,
    PARCEL_BYTES, Parcel, Taken, Topic,
};
pub use bus::{Audience, Bus, Opened, Options, StoreStatus};
pub use channel::{Channel, ChannelId, Passed};
pub use lane::{Lane, Turn};
pub use mutant::Mutant;
pub use namespace::{ChannelKind, Namespace, NamespaceId, Namespaces, PresenceRules};
pub use page::Page;
pub use publication::{Body, Publication, Variant};
pub use publish::{NamedBy, Publisher, Receipt, Refusal, Reply};
pub use reads::{PageReply, StateReply};
pub use sequencer::RingLimits;
pub use series::{
    RefusedSample, Resolution, SamplesReceipt, SeriesHistory, SeriesLimits, SeriesOptions, SeriesQuery,
};
pub use state::StatePart;
pub use store::{
    Accepted, Append, Batch, Chunk, ChunkQuery, Chunks, Decision, Declined, DedupKey, Durability, Extent,
    Failure, Keyed, MemorySeriesStore, MemoryStore, Only, Outcome, Place, Query, ReadLimit, Retention,
    SeriesStore, StateSlice, Store, StoreError, StoredPage, Tier,
};
pub use tap::Tap;
pub use time::Now;
