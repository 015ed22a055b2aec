//! Every byte a client or a peer of Pulsewire sees.
//!
//! This crate owns names, positions, messages, codes and the two encodings, and nothing that waits: no I/O,
//! no async, no clock. A value of one of its types has been checked, so the crates after it never check
//! again. `docs/protocol.md` numbers the rules that the comments here cite (R1, R2, …).

mod answer;
mod channel;
pub mod client;
mod code;
mod event;
mod frame;
pub mod generated;
mod json;
mod metric;
mod position;
mod request;
mod session_id;
pub mod transcode;

pub use answer::{
    Ack, Answer, Connected, ErrorAnswer, Gap, GapReason, History, Member, Presence, PresenceChange,
    Publication, Published, Refused, SeriesPage, State, encode_event,
};
pub use channel::{ChannelName, ChannelNameError, ChannelPattern, ChannelPatternError};
pub use code::{CloseCode, ErrorCode, Reconnect};
pub use event::{Event, EventError, EventType, MessageId, Tags};
pub use frame::{Encoding, Frame, Opcode};
pub use json::{DEPTH_MAX, is_shallow};
pub use metric::{
    ChannelSamples, Figures, Filter, FilterError, Interval, MetricKind, MetricSet, Number, Point, Reading,
    Sample, SampleBatch, SampleError, SampleFault, Series, Shape, encode_grouped, encode_points,
    read_samples,
};
pub use position::{Epoch, Position, PositionError, Sequence};
pub use request::{
    Attend, ClientReport, Connect, GetHistory, Heartbeat, Kind, Replay, Request, RequestError, RequestId,
    Subscribe, Wanted, parse, parse_text, request_from_msgpack,
};
pub use session_id::{SessionId, SessionIdError};

/// The most events one `publish` message may carry; more is refused with `limit_exceeded`. Over HTTP the
/// server's setting decides.
pub const BATCH_EVENTS_MAX: usize = 500;

/// The most samples one `samples` message may carry; more is refused with `limit_exceeded`. Over HTTP the server's
/// setting decides.
pub const BATCH_SAMPLES_MAX: usize = 500;

/// The most channels that one message may name; more is refused with `limit_exceeded`. Bounds what a message of
/// tiny names costs to read.
pub const CHANNELS_MAX: usize = 4096;
