//! The Pulsewire server: settings, access and the command line around the crates that do the work.
//!
//! A program that embeds it needs the names exported here: [`Server`], [`Collector`] and what they take and
//! give. The modules are how the server is made, and may change with any version.

pub mod accept;
pub mod agents;
pub mod app;
pub mod audit;
pub mod auth;
pub mod backend;
pub mod blocks;
pub mod cli;
pub mod cluster;
mod collect;
pub mod derived;
pub mod descriptors;
pub mod dev;
pub mod embed;
pub mod errors;
pub mod events;
pub mod figures;
pub mod hook;
pub mod http;
pub mod memory;
pub mod notify;
pub mod outbound;
pub mod pace;
pub mod pack;
pub mod patient;
pub mod presence;
pub mod random;
pub mod reading;
pub mod redis;
pub mod reload;
pub mod seats;
pub mod serve;
pub mod settings;
pub mod shut_out;
pub mod stats;
pub mod store;
pub mod stream;
pub mod thresholds;
pub mod tls;
pub mod upstreams;
pub mod watch;

pub use auth::{Action, Actions, NewToken, Role};
pub use collect::{Collector, CollectorOptions, CollectorStats};
pub use embed::{Handle, Server, ServerBuilder, StartError};
pub use pulsewire_bus::{Receipt, Refusal, RefusedSample, SamplesReceipt};
pub use pulsewire_protocol::{
    ChannelName, ChannelPattern, ErrorCode, Event, EventType, MessageId, MetricKind, Sample, Tags,
};
pub use pulsewire_sources::host::{HostError, HostOptions};
pub use stats::Stats;
