//! The verbs by which the rest of Pulsewire says what happened.
//!
//! A verb names an event of the domain in the past tense and decides here which numbers move, so
//! two families about one event cannot disagree. Nothing allocates, formats or locks: a verb is a
//! few additions at constant places. A shard owns its block and adds by plain load and store; code
//! on many threads shares one block and adds atomically. Both have the same verbs.

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::block::Block;
use crate::event_types::EventTypeId;
use crate::labels::{
    AuthFailure, BrokerDrop, BrokerItem, ChunkOutcome, ConnectionError, Direction, DisconnectReason,
    DropCause, GapReason, HandshakeOutcome, HookOutcome, InitialStage, Initiator, KeyFetch, Layer, Loop,
    MemoryPart, MessageError, MessageType, PresenceDrop, PresenceEvent, Proof, PublishOutcome, PublishSource,
    RateScope, ReadSource, ReconnectOutcome, RedisRefusal, RejectReason, RejectStage, ReloadOutcome,
    RepairSource, SampleRefusal, SampleSource, SlowAction, Status, StoreFailure, TlsResult, UpstreamError,
    UpstreamMessage, UpstreamTrack, Visibility, close_code_index,
};
use crate::layout::{self as at, Bounds};

/// How additions are made; sealed, because a wrong one loses counts.
pub trait Writer: sealed::Add {}

mod sealed {
    /// Adds to one cell.
    pub trait Add {
        fn add(cell: &std::sync::atomic::AtomicU64, n: u64);
    }
}

/// One thread writes: a plain load and store. Not `Sync`, so the compiler holds callers to it.
#[derive(Debug)]
pub struct OneWriter(Cell<()>);

/// Any thread writes: an atomic addition.
#[derive(Debug)]
pub struct ManyWriters(());

impl sealed::Add for OneWriter {
    #[inline(always)]
    fn add(cell: &AtomicU64, n: u64) {
        if cfg!(not(feature = "off")) {
            cell.store(cell.load(Relaxed).wrapping_add(n), Relaxed);
        }
    }
}

impl sealed::Add for ManyWriters {
    #[inline(always)]
    fn add(cell: &AtomicU64, n: u64) {
        if cfg!(not(feature = "off")) {
            cell.fetch_add(n, Relaxed);
        }
    }
}

impl Writer for OneWriter {}
impl Writer for ManyWriters {}

/// The verbs, over one block of counters.
pub struct Recorder<W: Writer> {
    block: Arc<Block>,
    writer: PhantomData<W>,
}

/// A shard's own counters: one thread writes, whoever scrapes reads. It can move to its thread but not be shared:
///
/// ```compile_fail
/// fn share<T: Sync>() {}
/// share::<pulsewire_telemetry::ShardMetrics>();
/// ```
pub type ShardMetrics = Recorder<OneWriter>;

/// The counters of code that runs on many threads.
pub type SharedMetrics = Recorder<ManyWriters>;

/// How a connection ended.
#[derive(Clone, Copy, Debug)]
pub struct Closed {
    /// The close code sent or received; 1005 if the Close frame had none, 1006 if there was no frame.
    pub code: u16,
    /// Why.
    pub reason: DisconnectReason,
    /// Who began it.
    pub initiator: Initiator,
    /// From the handshake to the end, nanoseconds.
    pub lasted_ns: u64,
}

/// What a sent message was: an application's event, or a message of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// A publication, counted under its event type.
    Event(EventTypeId),
    /// Anything else, counted under its protocol type.
    Message(MessageType),
}

impl From<EventTypeId> for Sent {
    fn from(id: EventTypeId) -> Self {
        Self::Event(id)
    }
}

impl From<MessageType> for Sent {
    fn from(kind: MessageType) -> Self {
        Self::Message(kind)
    }
}

impl<W: Writer> Recorder<W> {
    pub(crate) fn new(block: Arc<Block>) -> Self {
        Self { block, writer: PhantomData }
    }

    // --- connections ---

    /// A connection was established.
    pub fn connection_opened(&self) {
        self.add(at::CONNECTIONS + Status::Opened as usize, 1);
    }

    /// An established connection ended. Call it exactly once for each [`Self::connection_opened`].
    pub fn connection_closed(&self, closed: &Closed) {
        let initiator = closed.initiator as usize;
        self.add(at::CONNECTIONS + Status::Closed as usize, 1);
        self.add(at::DISCONNECTS + closed.reason as usize * Initiator::COUNT + initiator, 1);
        self.add(at::CLOSES + close_code_index(closed.code) * Initiator::COUNT + initiator, 1);
        self.observe(at::DURATION, &at::DURATION_MS, closed.lasted_ns / 1_000_000, 1);
    }

    /// An attempt failed before it became a connection. Refusals are [`Self::rejected`], not this.
    pub fn connection_failed(&self, kind: ConnectionError) {
        self.add(at::CONNECTIONS + Status::Failed as usize, 1);
        self.connection_errored(kind);
    }

    /// A live connection met an error; its end is reported separately.
    pub fn connection_errored(&self, kind: ConnectionError) {
        self.add(at::CONNECTION_ERRORS + kind as usize, 1);
    }

    /// We refused an attempt before it became a connection; counts as a failed connection too.
    pub fn rejected(&self, stage: RejectStage, reason: RejectReason) {
        self.add(at::CONNECTIONS + Status::Failed as usize, 1);
        self.add(at::REJECTED + stage as usize * RejectReason::COUNT + reason as usize, 1);
    }

    /// A WebSocket handshake ended, `ns` after the connection was accepted.
    pub fn handshake(&self, outcome: HandshakeOutcome, ns: u64) {
        let place = at::HANDSHAKE + outcome as usize * at::histogram(&at::LATENCY_NS);
        self.observe_ns(place, &at::LATENCY_NS, ns, 1);
    }

    /// A client came back to its session.
    pub fn reconnected(&self, outcome: ReconnectOutcome) {
        self.add(at::RECONNECTIONS + outcome as usize, 1);
    }

    /// A session fell back to HTTP: its first poll or event stream.
    pub fn fell_back_to_http(&self) {
        self.add(at::FALLBACK_HTTP, 1);
    }

    // --- authentication and limits ---

    /// A client proved who it is.
    pub fn auth_succeeded(&self) {
        self.add(at::AUTH_SUCCEEDED, 1);
    }

    /// A client did not.
    pub fn auth_failed(&self, reason: AuthFailure) {
        self.add(at::AUTH_FAILURES + reason as usize, 1);
    }

    /// A rate limit refused something.
    pub fn rate_limited(&self, scope: RateScope) {
        self.add(at::RATE_LIMITED + scope as usize, 1);
    }

    // --- messages ---

    /// A protocol message arrived. A client's event is [`Self::event_received`] instead.
    pub fn message_received(&self, kind: MessageType) {
        self.add(at::MESSAGES + Direction::Received as usize * MessageType::COUNT + kind as usize, 1);
    }

    /// A client's event arrived; it counts as a received message of its own type too.
    pub fn event_received(&self, id: EventTypeId) {
        self.add_row(id, at::RECEIVED, 1);
    }

    /// Handling a client's event failed.
    pub fn event_failed(&self, id: EventTypeId) {
        self.add_row(id, at::ERRORS, 1);
    }

    /// `n` messages of `bytes` payload bytes in all were handed to the kernel.
    pub fn message_sent(&self, what: impl Into<Sent>, n: u64, bytes: u64) {
        match what.into() {
            Sent::Event(id) => self.add_row(id, at::SENT, n),
            Sent::Message(kind) => {
                self.add(at::MESSAGES + Direction::Sent as usize * MessageType::COUNT + kind as usize, n);
            }
        }
        self.bytes(Direction::Sent, Layer::Payload, bytes);
    }

    /// A received message could not be used, or a sent one could not be written.
    pub fn message_error(&self, error: MessageError) {
        self.add(at::MESSAGE_ERRORS + error as usize, 1);
    }

    /// `n` messages did not reach a live subscriber (document 003).
    pub fn message_failed(&self, n: u64) {
        self.add(at::MESSAGE_FAILURES, n);
    }

    /// Bytes moved. [`Self::message_sent`] has counted its payload already.
    pub fn bytes(&self, direction: Direction, layer: Layer, n: u64) {
        self.add(at::BYTES + direction as usize * Layer::COUNT + layer as usize, n);
    }

    /// WebSocket frames that were not the only frame of a message: control frames and fragments.
    pub fn extra_frames(&self, direction: Direction, n: u64) {
        self.add(at::EXTRA_FRAMES + direction as usize, n);
    }

    /// One `write` or `writev` was made.
    pub fn write_calls(&self, n: u64) {
        self.add(at::WRITE_CALLS, n);
    }

    // --- delivery ---

    /// The bus accepted `n` publications of a type.
    pub fn event_emitted(&self, id: EventTypeId, n: u64) {
        self.add_row(id, at::EMITTED, n);
    }

    /// A publish request was answered.
    pub fn publish(&self, source: PublishSource, outcome: PublishOutcome) {
        self.add(at::PUBLISH + source as usize * PublishOutcome::COUNT + outcome as usize, 1);
    }

    /// Fan-out of a publication began, `latency_ns` after its acceptance, to `matched` subscribers.
    pub fn fanout_started(&self, latency_ns: u64, matched: u64) {
        self.observe_ns(at::STAGE_FANOUT, &at::LATENCY_NS, latency_ns, 1);
        self.observe(at::FANOUT_SIZE, &at::FANOUT, matched, 1);
    }

    /// `n` subscribers' outboxes held a publication, `latency_ns` after its acceptance.
    pub fn stage_queue(&self, latency_ns: u64, n: u64) {
        self.observe_ns(at::STAGE_QUEUE, &at::LATENCY_NS, latency_ns, n);
    }

    /// The last byte of an event was handed to the kernel for `n` subscribers, `latency_ns` after its acceptance.
    pub fn delivered(&self, id: EventTypeId, latency_ns: u64, n: u64) {
        self.observe_row(id, at::EVENT_LATENCY, latency_ns, n);
    }

    /// A client was shown to have an event, `latency_ns` after its acceptance.
    pub fn receipt(&self, id: EventTypeId, latency_ns: u64, proof: Proof) {
        let place = match proof {
            Proof::Handoff => return self.delivered(id, latency_ns, 1),
            Proof::TcpAck => at::RECEIPT_TCP,
            Proof::AppAck => at::RECEIPT_APP,
        };
        self.observe_ns(place, &at::LATENCY_NS, latency_ns, 1);
        self.observe_row(id, at::MESSAGE_LATENCY, latency_ns, 1);
    }

    /// A subscriber's receipt came `ns` after its publisher began to publish (document 003's round trip).
    pub fn round_trip(&self, ns: u64) {
        self.observe_ns(at::ROUND_TRIP, &at::LATENCY_NS, ns, 1);
    }

    /// A connection could not have more memory for one of its buffers.
    pub fn memory_limited(&self, part: MemoryPart) {
        self.add(at::MEMORY_LIMITED + part as usize, 1);
    }

    /// A connecting client had its initial state handed to the kernel, `ns` after its request was accepted.
    pub fn initial_state_sent(&self, ns: u64) {
        self.observe_ns(at::INITIAL_STATE, &at::INITIAL_STATE_NS, ns, 1);
    }

    /// A part of sending an initial state took `ns`.
    pub fn initial_stage(&self, stage: InitialStage, ns: u64) {
        let place = at::INITIAL_STAGE + stage as usize * at::histogram(&at::LATENCY_NS);
        self.observe_ns(place, &at::LATENCY_NS, ns, 1);
    }

    /// `n` messages were discarded instead of delivered.
    pub fn dropped(&self, cause: DropCause, n: u64) {
        self.add(at::DROPPED + cause as usize, n);
    }

    /// `n` messages were replaced by newer ones before they were sent.
    pub fn conflated(&self, n: u64) {
        self.add(at::CONFLATED, n);
    }

    /// Something was done about a reader that cannot keep up.
    pub fn slow(&self, action: SlowAction) {
        self.add(at::SLOW + action as usize, 1);
    }

    /// A reader was told that events are missing.
    pub fn gap(&self, reason: GapReason) {
        self.add(at::GAPS + reason as usize, 1);
    }

    // --- presence ---

    /// Watchers of a channel were told of `n` members who came or went, or of `n` cursors.
    pub fn presence_told(&self, event: PresenceEvent, n: u64) {
        self.add(at::PRESENCE + event as usize, n);
    }

    /// `n` changes of presence were refused, replaced or not told.
    pub fn presence_dropped(&self, why: PresenceDrop, n: u64) {
        self.add(at::PRESENCE_DROPPED + why as usize, n);
    }

    // --- heartbeat and kernel ---

    /// A ping was sent.
    pub fn heartbeat_sent(&self) {
        self.add(at::HEARTBEATS_SENT, 1);
    }

    /// A ping was answered after `rtt_ns`.
    pub fn heartbeat_answered(&self, rtt_ns: u64) {
        self.observe_ns(at::HEARTBEAT_RTT, &at::HEARTBEAT_NS, rtt_ns, 1);
    }

    /// A ping was not answered in time.
    pub fn heartbeat_timed_out(&self) {
        self.add(at::HEARTBEAT_TIMEOUTS, 1);
    }

    /// The kernel's view of one connection: smoothed round trip, retransmitted segments since the
    /// last sample, bytes not yet sent, bytes sent and not acknowledged.
    pub fn tcp_sample(&self, rtt_ns: u64, retransmits_delta: u64, unsent_bytes: u64, unacked_bytes: u64) {
        self.observe_ns(at::TCP_RTT, &at::TCP_RTT_NS, rtt_ns, 1);
        self.add(at::TCP_RETRANSMITS, retransmits_delta);
        self.observe(at::TCP_UNSENT, &at::QUEUE_BYTES, unsent_bytes, 1);
        self.observe(at::TCP_UNACKED, &at::QUEUE_BYTES, unacked_bytes, 1);
    }

    /// A client said how it is: whether its page can be seen, and, as far as it said so, messages in its queue, the
    /// slowest handler and holes repaired since its last report.
    pub fn client_reported(
        &self,
        visibility: Visibility,
        queued: Option<u64>,
        handler_ns: Option<u64>,
        gaps_healed: u64,
    ) {
        self.add(at::CLIENT_REPORTS + visibility as usize, 1);
        if let Some(queued) = queued {
            self.observe(at::CLIENT_QUEUED, &at::CLIENT_QUEUE, queued, 1);
        }
        if let Some(handler_ns) = handler_ns {
            self.observe_ns(at::CLIENT_HANDLER, &at::LATENCY_NS, handler_ns, 1);
        }
        self.add(at::CLIENT_GAPS_HEALED, gaps_healed);
    }

    // --- keeping ---

    /// A commit kept `n` events.
    pub fn store_batch(&self, n: u64) {
        self.observe(at::STORE_BATCH, &at::BATCH, n, 1);
    }

    /// A publish request was decided by its store, `ns` after it was accepted.
    pub fn store_kept(&self, ns: u64) {
        self.observe_ns(at::STORE_COMMIT, &at::LATENCY_NS, ns, 1);
    }

    /// A store did not do what it was asked.
    pub fn store_failed(&self, failure: StoreFailure) {
        self.add(at::STORE_ERRORS + failure as usize, 1);
    }

    /// A page of history was read.
    pub fn read_from(&self, source: ReadSource) {
        self.add(at::STORE_READS + source as usize, 1);
    }

    /// `n` stored events could not be read.
    pub fn corrupt(&self, n: u64) {
        self.add(at::STORE_CORRUPT, n);
    }

    /// Publications that this node had missed were got back.
    pub fn repaired(&self, source: RepairSource) {
        self.add(at::REPAIRS + source as usize, 1);
    }

    /// `n` publications were heard a second time, and not passed on again.
    pub fn repeated(&self, n: u64) {
        self.add(at::REPEATED, n);
    }

    /// The store stood behind what it had acknowledged.
    pub fn position_ahead(&self) {
        self.add(at::POSITION_AHEAD, 1);
    }

    /// A channel's history was found to be another one.
    pub fn channel_reset(&self) {
        self.add(at::CHANNEL_RESETS, 1);
    }

    // --- around the core ---

    /// A hook call ended after `ns`.
    pub fn hook(&self, outcome: HookOutcome, ns: u64) {
        let place = at::HOOK + outcome as usize * at::histogram(&at::LATENCY_NS);
        self.observe_ns(place, &at::LATENCY_NS, ns, 1);
    }

    /// The settings were read again.
    pub fn reloaded(&self, outcome: ReloadOutcome) {
        self.add(at::RELOADS + outcome as usize, 1);
    }

    /// The key set of tokens was fetched, or not.
    pub fn keys_fetched(&self, outcome: KeyFetch) {
        self.add(at::KEY_FETCHES + outcome as usize, 1);
    }

    /// A TLS handshake of the main address ended. One that did not complete is also a failed connection, which is
    /// reported separately.
    pub fn tls_handshake(&self, result: TlsResult) {
        self.add(at::TLS_HANDSHAKES + result as usize, 1);
    }

    /// Changed certificate files were read.
    pub fn tls_reloaded(&self, outcome: ReloadOutcome) {
        self.add(at::TLS_RELOADS + outcome as usize, 1);
    }

    /// One round of the host collector took `ns`.
    pub fn collector(&self, ns: u64) {
        self.observe_ns(at::COLLECTOR, &at::LATENCY_NS, ns, 1);
    }

    /// What a watch shows was produced, which took `ns`.
    pub fn watched(&self, ns: u64) {
        self.observe_ns(at::WATCH, &at::LATENCY_NS, ns, 1);
    }

    /// A watch was refused because there were too many.
    pub fn watch_refused(&self) {
        self.add(at::WATCH_REFUSED, 1);
    }

    /// `n` samples were accepted.
    pub fn samples_accepted(&self, source: SampleSource, n: u64) {
        self.add(at::SAMPLES + source as usize, n);
    }

    /// `n` samples were refused.
    pub fn samples_refused(&self, reason: SampleRefusal, n: u64) {
        self.add(at::SAMPLES_REFUSED + reason as usize, n);
    }

    /// `n` samples came when their window had closed.
    pub fn samples_late(&self, n: u64) {
        self.add(at::SAMPLES_LATE, n);
    }

    /// `n` samples were older than the newest of their series, and not sent live.
    pub fn samples_out_of_order(&self, n: u64) {
        self.add(at::SAMPLES_OUT_OF_ORDER, n);
    }

    /// `n` windows of a second closed, one for each series.
    pub fn windows_closed(&self, n: u64) {
        self.add(at::WINDOWS_CLOSED, n);
    }

    /// `n` chunks of roll-ups were kept, or not.
    pub fn chunks(&self, outcome: ChunkOutcome, n: u64) {
        self.add(at::CHUNKS + outcome as usize, n);
    }

    /// `n` subscriptions were told that a metric channel says nothing any more.
    pub fn stale(&self, n: u64) {
        self.add(at::STALE, n);
    }

    /// `n` tasks were forgotten that had not ended.
    pub fn derived_forgotten(&self, n: u64) {
        self.add(at::DERIVED_FORGOTTEN, n);
    }

    /// An entry of a Redis stream was acknowledged.
    pub fn redis_acknowledged(&self) {
        self.add(at::REDIS_ACKNOWLEDGED, 1);
    }

    /// `n` entries of Redis streams that another consumer had were claimed.
    pub fn redis_claimed(&self, n: u64) {
        self.add(at::REDIS_CLAIMED, n);
    }

    /// What entries of Redis streams said could not be published now, and is tried again.
    pub fn redis_retried(&self) {
        self.add(at::REDIS_RETRIED, 1);
    }

    /// An event that came by Redis was refused for good.
    pub fn redis_refused(&self, reason: RedisRefusal) {
        self.add(at::REDIS_REFUSED + reason as usize, 1);
    }

    /// Samples are read from Redis, for the first time or again.
    pub fn redis_connected(&self) {
        self.add(at::REDIS_CONNECTS, 1);
    }

    /// The broker is reached again.
    pub fn broker_reconnected(&self) {
        self.add(at::BROKER_RECONNECTS, 1);
    }

    /// `n` items of a kind went to other nodes, or came from them.
    pub fn broker_items(&self, direction: Direction, item: BrokerItem, n: u64) {
        self.add(at::BROKER_MESSAGES + direction as usize * BrokerItem::COUNT + item as usize, n);
    }

    /// So many bytes went to the broker, or came from it.
    pub fn broker_bytes(&self, direction: Direction, bytes: u64) {
        self.add(at::BROKER_BYTES + direction as usize, bytes);
    }

    /// `n` things that were to go between nodes did not.
    pub fn broker_dropped(&self, why: BrokerDrop, n: u64) {
        self.add(at::BROKER_DROPPED + why as usize, n);
    }

    /// Committed events went to other nodes without their content: whoever listens reads them.
    pub fn broker_shortened(&self) {
        self.add(at::BROKER_SHORTENED, 1);
    }

    /// A message of this node came back from the broker `ns` after it was sent.
    pub fn broker_lag(&self, ns: u64) {
        self.observe_ns(at::BROKER_LAG, &at::LATENCY_NS, ns, 1);
    }

    /// The slowest shard answered, or the runtime woke, `ns` after it was asked to.
    pub fn loop_lag(&self, which: Loop, ns: u64) {
        let place = at::LOOP_LAG + which as usize * at::histogram(&at::LATENCY_NS);
        self.observe_ns(place, &at::LATENCY_NS, ns, 1);
    }

    /// An upstream stream of a track is connected to; `again` if it was before, or this was tried before.
    pub fn upstream_attempt(&self, track: UpstreamTrack, again: bool) {
        self.add(at::UPSTREAM_ATTEMPTS + track as usize, 1);
        self.add(at::UPSTREAM_RETRIES + track as usize, u64::from(again));
    }

    /// An upstream stream of a track, or an attempt at one, failed.
    pub fn upstream_failed(&self, track: UpstreamTrack, error: UpstreamError) {
        self.add(at::UPSTREAM_ERRORS + track as usize * UpstreamError::COUNT + error as usize, 1);
    }

    /// `n` messages of upstreams came to the same end.
    pub fn upstream_messages(&self, result: UpstreamMessage, n: u64) {
        self.add(at::UPSTREAM_MESSAGES + result as usize, n);
    }

    /// Payloads of so many bytes came from an upstream.
    pub fn upstream_received(&self, bytes: u64) {
        self.add(at::UPSTREAM_BYTES, bytes);
    }

    /// `n` messages never came: their numbers were passed over, on every link.
    pub fn upstream_missing(&self, n: u64) {
        self.add(at::UPSTREAM_MISSING, n);
    }

    /// A link of an upstream stream took over from another.
    pub fn upstream_failover(&self) {
        self.add(at::UPSTREAM_FAILOVERS, 1);
    }

    /// The circuit of an upstream opened.
    pub fn upstream_circuit_opened(&self) {
        self.add(at::UPSTREAM_CIRCUITS, 1);
    }

    /// An upstream stream was wanted and not created, because there are as many as there may be.
    pub fn upstream_refused(&self) {
        self.add(at::UPSTREAM_REFUSED, 1);
    }

    // --- how ---

    #[inline(always)]
    fn add(&self, place: usize, n: u64) {
        W::add(&self.block.fixed[place], n);
    }

    #[inline(always)]
    fn add_row(&self, id: EventTypeId, place: usize, n: u64) {
        // An id of another registry is counted as `other` rather than lost or fatal.
        let row = self.block.rows.get(usize::from(id.0)).unwrap_or(&self.block.rows[0]);
        W::add(&row.0[place], n);
    }

    /// Adds `n` observations; the sum is in the unit of the bounds.
    #[inline]
    fn observe<const N: usize>(&self, place: usize, bounds: &Bounds<N>, value: u64, n: u64) {
        self.add(place + bounds.bucket(value), n);
        self.add(place + N + 1, value.saturating_mul(n));
    }

    /// Adds `n` observations of nanoseconds; the sum is in microseconds, see [`micros`].
    #[inline]
    fn observe_ns<const N: usize>(&self, place: usize, bounds: &Bounds<N>, ns: u64, n: u64) {
        self.add(place + bounds.bucket(ns), n);
        self.add(place + N + 1, micros(ns, n));
    }

    #[inline]
    fn observe_row(&self, id: EventTypeId, place: usize, ns: u64, n: u64) {
        let row = self.block.rows.get(usize::from(id.0)).unwrap_or(&self.block.rows[0]);
        W::add(&row.0[place + at::LATENCY_NS.bucket(ns)], n);
        W::add(&row.0[place + at::LATENCY_NS.upper.len() + 1], micros(ns, n));
    }
}

/// `n` times `ns` in whole microseconds, rounded.
///
/// In nanoseconds, a million deliveries a second of 100 ms each would overflow 64 bits in two days.
#[inline]
fn micros(ns: u64, n: u64) -> u64 {
    ns.saturating_mul(n).saturating_add(500) / 1_000
}

const _: () = {
    const fn sent<T: Send>() {}
    const fn shared<T: Send + Sync>() {}
    sent::<ShardMetrics>();
    shared::<SharedMetrics>();
};
