//! What a shard is told, and what it asks of the server.
//!
//! A shard never waits. Work that might take time (verifying a token, publishing, a hook, reading a
//! page) leaves as a [`BackendRequest`] and comes back as an [`Order`] with the connection's key; if
//! the connection has gone meanwhile, the answer falls to the ground.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use pulsewire_bus::{
    Channel, ChannelId, Opened, Page, Publication, ReadLimit, Receipt, Refusal, Resolution, SeriesQuery,
    StatePart,
};
use pulsewire_protocol::{
    Attend, ChannelName, ClientReport, CloseCode, Encoding, ErrorCode, Event, Filter, Frame, Gap, Heartbeat,
    Interval, Position, Replay, RequestId, SampleBatch, Sequence, SessionId, Shape,
};
use pulsewire_telemetry::{Current, Transport};
use serde_json::value::RawValue;

use crate::watch::tap::TapSink;
use crate::watch::timeline::{Entry, Note};
use crate::watch::{Detail, Query, Ranked, Readership, Row, RowKey};
use crate::{ConnKey, Fetched, HubSettings, Moved, Notice, Principal};

/// A one-time answer to whoever asked.
pub type Reply<T> = Box<dyn FnOnce(T) + Send>;

/// Something for a shard. `S` is what the network moves between shards: a socket.
pub enum Command<S> {
    /// A publication of a channel that the shard listens to.
    Publish(Arc<Publication>),
    /// A connection that has just been upgraded.
    Arrive(S, Box<Arrival>),
    /// A connection that belongs to a session of this shard.
    Adopt(S, Box<Resume>),
    /// Anything that concerns what is there already.
    Order(Order),
}

/// Something that concerns what a shard already has.
pub enum Order {
    /// A token was verified.
    Authenticated(ConnKey, Box<Authenticated>),
    /// Other nodes were asked for a session.
    Fetched(ConnKey, Box<Fetched>),
    /// Give a session to another node, where its client is: here it ends.
    GiveUp {
        /// The session.
        session: SessionId,
        /// Whose it must be.
        user: Box<str>,
        /// What it was subscribed to; `None` if it is not here.
        reply: Reply<Option<Box<Moved>>>,
    },
    /// A client's publish was decided.
    Published {
        /// Who asked.
        conn: ConnKey,
        /// The request's id.
        id: Option<RequestId>,
        /// Whether it was one event rather than a batch.
        single: bool,
        /// What became of it.
        outcome: Result<Vec<Receipt>, Refusal>,
    },
    /// A client's event was dealt with.
    EventAnswered(ConnKey, Box<EventAnswer>),
    /// A page for a subscription that is catching up.
    Page {
        /// Whose subscription.
        conn: ConnKey,
        /// The read this answers.
        read: u32,
        /// What was read, or why nothing was.
        page: Result<Arc<Page>, ErrorCode>,
    },
    /// A part of a channel's keyed state for a subscription that begins.
    State {
        /// Whose subscription.
        conn: ConnKey,
        /// The read this answers.
        read: u32,
        /// What was read, or why nothing was.
        state: Result<Arc<StatePart>, ErrorCode>,
    },
    /// Channels were brought to hand that somebody wants to subscribe to.
    Opened {
        /// Who asked.
        conn: ConnKey,
        /// What for.
        wish: Box<Wish>,
        /// The request's id.
        id: Option<RequestId>,
        /// The channels.
        outcome: Opened,
    },
    /// A page of a channel's past was read for a client, or cannot be.
    History {
        /// Who asked.
        conn: ConnKey,
        /// The request's id.
        id: Option<RequestId>,
        /// The page, or why there is none.
        outcome: Result<Box<HistoryPage>, (ErrorCode, String)>,
    },
    /// A client's samples were dealt with.
    Sampled {
        /// Who asked.
        conn: ConnKey,
        /// The request's id.
        id: Option<RequestId>,
        /// How many were accepted.
        accepted: usize,
        /// Those that were not: place in the request, code, and what is wrong.
        refused: Vec<(usize, ErrorCode, String)>,
    },
    /// What series did was read for a client, or cannot be.
    Series {
        /// Who asked.
        conn: ConnKey,
        /// The request's id.
        id: Option<RequestId>,
        /// The read this answers; none for a `get_history`.
        read: Option<u32>,
        /// What was read, or why nothing was.
        outcome: Result<SeriesAnswer, (ErrorCode, String)>,
    },
    /// A channel's history was found to be another one: its successor takes its listeners.
    Replaced(Arc<Channel>),
    /// Ends connections, and their sessions if the code is terminal.
    Close {
        /// Whose.
        target: Target,
        /// With which code.
        code: CloseCode,
        /// How many there were.
        reply: Reply<usize>,
    },
    /// Counts everything there is.
    Survey(Reply<Current>),
    /// Lists connections and detached sessions.
    List(Reply<Vec<ConnectionInfo>>),
    /// Holds a slice of the slots against a query.
    Rank {
        /// The first slot.
        from: u32,
        /// What is wanted.
        query: Arc<Query>,
        /// What was found.
        reply: Reply<Ranked>,
    },
    /// Shows those of these that are still there.
    Rows {
        /// Which.
        keys: Vec<RowKey>,
        /// Their rows, in the order of the keys.
        reply: Reply<Vec<Row>>,
    },
    /// Shows everything about one connection, if it is still there.
    Detail(RowKey, Reply<Option<Box<Detail>>>),
    /// Shows who listens to a channel: a slice of them.
    Readership {
        /// The channel.
        channel: ChannelId,
        /// The first of them.
        from: usize,
        /// What was found.
        reply: Reply<Readership>,
    },
    /// Tells what happened to a session, oldest first, as far as it is remembered.
    Timeline(SessionId, Reply<Vec<Entry>>),
    /// Something happened to a user's session that is not seen here.
    Noted {
        /// Whose session it is; of somebody else's nothing is written down.
        user: Box<str>,
        /// The session.
        session: SessionId,
        /// What happened.
        note: Note,
    },
    /// Tells what a session is sent and says from now on, until it is closed by its number, nobody takes what it
    /// tells, or the session has ended.
    Tap {
        /// Its number, by which it is closed.
        number: u64,
        /// Whose.
        session: SessionId,
        /// Who is told.
        sink: TapSink,
        /// Whether it is open: not if the session is not here, or as many are open as may be.
        reply: Reply<bool>,
    },
    /// Closes a tap.
    Untap(u64),
    /// Asks every client to come back later and closes all connections.
    Drain(Drain),
    /// Take clients in again.
    Undrain,
    /// Who came to a channel, went, or points where.
    Presence(Arc<Notice>),
    /// Replaces the settings.
    Settings(Arc<HubSettings>),
}

/// Whose connections are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// One session.
    Session(SessionId),
    /// All sessions of a user.
    User(Box<str>),
    /// All sessions that use this token, by its id (`jti`).
    Token(Box<str>),
    /// All connections from an address.
    Address(IpAddr),
}

/// What the accept loop knows of a connection.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// Where it comes from.
    pub remote: SocketAddr,
    /// What it calls itself; shared by all that call themselves so.
    pub user_agent: Arc<str>,
    /// How its frames are encoded.
    pub encoding: Encoding,
    /// Whether the encoding was negotiated as a subprotocol: then no other is accepted.
    pub encoding_strict: bool,
    /// How it is pinged.
    pub heartbeat: Heartbeat,
    /// Who it is, if the handshake said so.
    pub principal: Option<Arc<Principal>>,
    /// The session it wants to go on with.
    pub session: Option<SessionId>,
    /// When it was accepted, monotonic nanoseconds.
    pub accepted_ns: u64,
}

/// A connection on its way to the shard of its session.
#[derive(Debug)]
pub struct Resume {
    /// What is known of the connection.
    pub arrival: Arrival,
    /// Who it is.
    pub principal: Arc<Principal>,
    /// What it asked for.
    pub wish: ConnectWish,
    /// Messages that came meanwhile.
    pub stash: Vec<Carried>,
}

/// A message kept while something else had to be decided first.
#[derive(Debug, Clone)]
pub enum Carried {
    /// A text message.
    Text(Box<str>),
    /// A binary message.
    Binary(Box<[u8]>),
}

/// What a `connect` message asked for.
#[derive(Debug, Clone, Default)]
pub struct ConnectWish {
    /// The request's id.
    pub id: Option<RequestId>,
    /// Whether there was such a message; if not, `welcome` is the answer.
    pub asked: bool,
    /// The session to go on with.
    pub session: Option<SessionId>,
    /// What to subscribe to.
    pub subscribe: Option<Wish>,
    /// How to be pinged.
    pub heartbeat: Option<Heartbeat>,
}

/// One channel that a `subscribe` asked for.
#[derive(Debug, Clone)]
pub struct WishedChannel {
    /// Its name, unchecked.
    pub name: Box<str>,
    /// From where to begin.
    pub replay: Replay,
    /// Whether its keyed state comes first.
    pub state: bool,
    /// What is wanted of its presence.
    pub attend: Attend,
}

/// What a `subscribe` asked for.
#[derive(Debug, Clone, Default)]
pub struct Wish {
    /// The channels.
    pub channels: Vec<WishedChannel>,
    /// What passes.
    pub filter: Filter,
    /// How often values are wanted.
    pub interval: Option<Interval>,
    /// Whether these channels come as MessagePack.
    pub compression: bool,
    /// One document or one frame per value.
    pub shape: Option<Shape>,
}

/// What a `get_history` asked for, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryWish {
    /// Only what follows this.
    pub since: Option<Position>,
    /// Only from this time on, Unix milliseconds.
    pub start_ms: Option<i64>,
    /// Only up to this time, Unix milliseconds.
    pub end_ms: Option<i64>,
    /// At most so many events.
    pub limit: usize,
    /// A page ends with the event that makes it larger than this.
    pub bytes_max: usize,
}

/// What a metric channel's series did, ready to be sent.
#[derive(Debug)]
pub struct SeriesAnswer {
    /// The `history` message.
    pub frame: Frame,
    /// Where it was cut: read on from this moment, Unix milliseconds.
    pub next_ms: Option<i64>,
    /// How long its windows are.
    pub resolution: Resolution,
    /// The number of the last set that the channel had said: what it holds is in here.
    pub number: u64,
}

/// A page of a channel's past.
#[derive(Debug)]
pub struct HistoryPage {
    /// The channel.
    pub channel: Arc<Channel>,
    /// Oldest first.
    pub publications: Vec<Arc<Publication>>,
    /// What is gone before them.
    pub gap: Option<Gap>,
    /// Behind which sequence to read, if the position asked for belongs to another history or lies ahead.
    pub reset: Option<Sequence>,
    /// Behind which sequence there is more.
    pub next: Option<Sequence>,
}

/// What became of a token.
pub struct Authenticated {
    /// Who it is, or why not.
    pub outcome: Result<Arc<Principal>, ErrorCode>,
    /// What it was for.
    pub after: After,
}

/// What a token was for.
#[derive(Debug, Clone)]
pub enum After {
    /// To begin.
    Connect(ConnectWish),
    /// To go on beyond the old token's end.
    Refresh(Option<RequestId>),
}

/// What became of a client event.
pub struct EventAnswer {
    /// The request's id.
    pub id: Option<RequestId>,
    /// The event's type.
    pub event_type: Box<str>,
    /// The hook's answer, or why there is none.
    pub outcome: Result<Option<Box<RawValue>>, (ErrorCode, String)>,
}

/// A shard's plan for going away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drain {
    /// Closes are spread over so many milliseconds.
    pub within_ms: u64,
    /// Clients are told to come back after between `retry_min_ms` …
    pub retry_min_ms: u64,
    /// … and so many milliseconds.
    pub retry_max_ms: u64,
}

/// Something a shard asks of the server.
pub struct BackendRequest {
    /// The shard that asks.
    pub shard: usize,
    /// The connection for which it asks.
    pub conn: ConnKey,
    /// What it asks.
    pub work: Work,
}

/// The kinds of work a shard gives away.
pub enum Work {
    /// Verify a token.
    Authenticate {
        /// The token.
        token: Box<str>,
        /// Where it came from, for limiting attempts.
        remote: IpAddr,
        /// What it is for.
        after: After,
    },
    /// Look for a session on other nodes.
    Fetch {
        /// The session.
        session: SessionId,
        /// Who wants it; to be given back.
        principal: Arc<Principal>,
        /// To be given back.
        wish: ConnectWish,
    },
    /// Publish events; the principal has been authorised.
    Publish {
        /// The request's id.
        id: Option<RequestId>,
        /// Who publishes.
        principal: Arc<Principal>,
        /// Whether it was one event rather than a batch.
        single: bool,
        /// From when a round trip is counted, monotonic nanoseconds: when the message was read, less the
        /// publisher's last heartbeat round trip; 0 while no heartbeat was answered.
        begun_ns: u64,
        /// The events.
        events: Vec<Event>,
    },
    /// Deal with a client event of an allowed type.
    ClientEvent {
        /// The request's id.
        id: Option<RequestId>,
        /// Who sent it.
        principal: Arc<Principal>,
        /// In which session.
        session: SessionId,
        /// Its type.
        event_type: Box<str>,
        /// The channel it names, if any.
        channel: Option<ChannelName>,
        /// Its payload.
        data: Box<RawValue>,
    },
    /// Bring channels to hand, then come back to the wish.
    Open {
        /// The channels, and the sequence up to which the client has seen each.
        names: Vec<(ChannelName, Sequence)>,
        /// To be given back.
        wish: Box<Wish>,
        /// To be given back.
        id: Option<RequestId>,
    },
    /// Read a part of a channel's keyed state.
    State {
        /// Of this channel.
        channel: Arc<Channel>,
        /// What follows this key.
        after: Option<Box<str>>,
        /// Within this limit.
        limit: ReadLimit,
        /// To be given back.
        read: u32,
    },
    /// Read a page of a channel's past for a client; the principal has been authorised.
    History {
        /// The request's id.
        id: Option<RequestId>,
        /// The channel; it is one that keeps events.
        channel: ChannelName,
        /// Which part.
        wish: HistoryWish,
    },
    /// Publish samples, each of which is accepted or refused by itself.
    Samples {
        /// The request's id.
        id: Option<RequestId>,
        /// Who sends them.
        principal: Arc<Principal>,
        /// What was read of the request.
        batch: Box<SampleBatch>,
    },
    /// Read what a metric channel's series did; the principal has been authorised.
    Series {
        /// The request's id.
        id: Option<RequestId>,
        /// The channel; it is a metric channel.
        channel: ChannelName,
        /// Which part, but for `to_ms`, which is now if it is later.
        query: SeriesQuery,
        /// One document or one frame per value.
        shape: Shape,
        /// How to encode it.
        encoding: Encoding,
        /// To be given back.
        read: Option<u32>,
    },
    /// Read a page.
    Read {
        /// Of this channel.
        channel: Arc<Channel>,
        /// What is wanted of it.
        query: pulsewire_bus::Query,
        /// To be given back.
        read: u32,
    },
}

/// Performs what a shard cannot.
pub trait Backend: Send + Sync {
    /// Takes a request; its answer comes as a command.
    ///
    /// # Errors
    ///
    /// Gives the request back if too many are waiting.
    fn request(&self, request: Box<BackendRequest>) -> Result<(), Box<BackendRequest>>;
}

/// What a client said of itself, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reported {
    /// What it said.
    pub report: ClientReport,
    /// When it came, Unix milliseconds.
    pub at_ms: i64,
}

/// One connection or detached session, as the admin endpoints show it.
#[derive(Debug, Clone, PartialEq)]
pub struct ConnectionInfo {
    /// How it is attached.
    pub transport: Transport,
    /// Its session; `None` while it has not authenticated, and for readers over HTTP.
    pub session: Option<SessionId>,
    /// Its user; empty for the anonymous.
    pub user: Box<str>,
    /// Its channels.
    pub channels: Vec<ChannelName>,
    /// Where it comes from.
    pub remote: SocketAddr,
    /// What it calls itself.
    pub user_agent: Arc<str>,
    /// JSON or MessagePack.
    pub encoding: Encoding,
    /// When it connected, Unix milliseconds.
    pub connected_at_ms: i64,
    /// When it went away, Unix milliseconds; `None` while connected.
    pub disconnected_at_ms: Option<i64>,
    /// When something last came from it, Unix milliseconds.
    pub last_activity_ms: i64,
    /// How often its session has reconnected.
    pub reconnections: u32,
    /// Messages to it.
    pub messages_sent: u64,
    /// Messages from it.
    pub messages_received: u64,
    /// Messages meant for it that it did not get.
    pub messages_failed: u64,
    /// Bytes to it.
    pub bytes_sent: u64,
    /// Bytes from it.
    pub bytes_received: u64,
    /// Bytes waiting for it.
    pub queued_bytes: u64,
    /// The last heartbeat's round trip in nanoseconds; 0 if none was answered yet.
    pub heartbeat_rtt_ns: u64,
    /// Sum of measured message latencies in nanoseconds.
    pub latency_sum_ns: u64,
    /// How many there were.
    pub latency_count: u32,
    /// The longest.
    pub latency_max_ns: u64,
    /// TCP's own smoothed round trip in microseconds.
    pub tcp_rtt_us: u32,
    /// TCP segments sent again.
    pub tcp_retransmits: u32,
    /// What it last said of itself on this connection.
    pub report: Option<Reported>,
}
