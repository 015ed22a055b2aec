//! What Pulsewire counts, how it is shown, and what it logs.
//!
//! [`catalog`] declares every metric family once; the exposition, `docs/metrics.md` and the tests
//! come from it. Code that does things says what happened through the verbs of [`ShardMetrics`]
//! (one writer, plain stores) and [`SharedMetrics`] (many writers, atomic additions); what *is*
//! (connections, queues, memory) is never counted up and down but read from the table that owns
//! it into a [`Current`] when somebody scrapes. [`logs`] sets up the log lines.

mod block;
pub mod catalog;
mod current;
mod custom;
mod docs;
mod event_types;
mod labels;
mod layout;
pub mod logs;
mod process;
mod protobuf;
mod quantile;
mod record;
mod registry;
mod render;
mod snapshot;
mod view;

pub use current::{Broker, Current, Spread, Upstreams};
pub use custom::{CustomError, CustomMetrics};
pub use docs::docs_markdown;
pub use event_types::{EventTypeId, EventTypes};
pub use labels::{
    Alert, AuthFailure, AuthOutcome, BrokerDrop, BrokerItem, BusMessage, CanaryVerdict, ChunkOutcome, Codec,
    ConnectionError, Direction, DisconnectReason, DropCause, GapReason, HandshakeOutcome, HookOutcome,
    InitialStage, Initiator, KeyFetch, Layer, Loop, MemoryClass, MemoryPart, MessageError, MessageType,
    NodeState, PresenceDrop, PresenceEvent, PresenceOf, PresenceShared, Proof, PublishOutcome, PublishSource,
    RateScope, ReadSource, ReconnectOutcome, RedisRefusal, RejectReason, RejectStage, ReloadOutcome,
    RepairSource, SampleRefusal, SampleSource, SelfCheck, SeriesSet, Severity, SlowAction, Stage, Status,
    StoreFailure, TlsResult, TopicState, Transport, UpstreamError, UpstreamMessage, UpstreamState,
    UpstreamTrack, Visibility,
};
pub use process::Process;
pub use protobuf::render_protobuf;
pub use quantile::{Buckets, quantiles};
pub use record::{Closed, ManyWriters, OneWriter, Recorder, Sent, ShardMetrics, SharedMetrics, Writer};
pub use registry::{Options, Telemetry};
pub use render::{Exposition, Format, content_type, negotiate, numbers, render};
pub use snapshot::{Counter, Distribution, Snapshot};

#[doc(hidden)]
pub use tracing;
