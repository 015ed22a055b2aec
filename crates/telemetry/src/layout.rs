//! Where each number lives in a [`Block`](crate::block::Block).
//!
//! A block is a fixed array of counters followed by one row for each event type, so that merging
//! blocks is an element-wise sum and recording is one addition at a constant place. A histogram
//! takes a place for each bound, one for `+Inf` and one for its sum; its count is the sum of its
//! buckets, so the two can never disagree.

use crate::labels::{
    AuthFailure, BrokerDrop, BrokerItem, CLOSE_CODE_NAMES, ChunkOutcome, ConnectionError, Direction,
    DisconnectReason, DropCause, GapReason, HandshakeOutcome, HookOutcome, InitialStage, Initiator, KeyFetch,
    Layer, Loop, MemoryPart, MessageError, MessageType, PresenceDrop, PresenceEvent, PublishOutcome,
    PublishSource, RateScope, ReadSource, ReconnectOutcome, RedisRefusal, RejectReason, RejectStage,
    ReloadOutcome, RepairSource, SampleRefusal, SampleSource, SlowAction, Status, StoreFailure, TlsResult,
    UpstreamError, UpstreamMessage, UpstreamTrack, Visibility,
};

/// Upper bounds of buckets, and where to begin the search for a value's bucket.
///
/// A table by the value's bit length leaves at most two bounds to compare with: a bucket costs
/// about ten instructions without an unpredictable branch, a third of counting fifteen bounds.
pub(crate) struct Bounds<const N: usize> {
    pub(crate) upper: [u64; N],
    /// For each bit length, the first bound that a value of that length may not exceed.
    first: [u8; 65],
}

impl<const N: usize> Bounds<N> {
    const fn new(upper: [u64; N]) -> Self {
        let mut first = [0; 65];
        let mut bits = 0;
        while bits <= 64 {
            let least = if bits == 0 { 0 } else { 1 << (bits - 1) };
            let mut at = 0;
            while at < N && upper[at] < least {
                at += 1;
            }
            assert!(at + 2 >= N || upper[at + 2].ilog2() >= bits, "at most two bounds share a bit length");
            first[bits as usize] = at as u8;
            bits += 1;
        }
        Self { upper, first }
    }

    /// The first bucket whose upper bound is not below the value; `N` is `+Inf`.
    #[inline]
    pub(crate) fn bucket(&self, value: u64) -> usize {
        let mut at = usize::from(self.first[(u64::BITS - value.leading_zeros()) as usize]);
        at += usize::from(at < N && value > self.upper[at]);
        at += usize::from(at < N && value > self.upper[at]);
        at
    }
}

/// Bounds of delivery latencies in nanoseconds: 0.1 ms to 5 s, a superset of documents 000 and 001 (C3).
pub(crate) const LATENCY_NS: Bounds<15> = Bounds::new([
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
]);
/// Bounds of round trips in nanoseconds: document 000's, 2.5 s and 5 s (C4).
pub(crate) const HEARTBEAT_NS: Bounds<11> = Bounds::new([
    1_000_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
]);
/// Bounds of the initial state's latency in nanoseconds: document 000's and three below them.
pub(crate) const INITIAL_STATE_NS: Bounds<12> = Bounds::new([
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
]);
/// Bounds of connection durations in milliseconds: both documents' and up to a day (C2).
pub(crate) const DURATION_MS: Bounds<14> = Bounds::new([
    1_000, 5_000, 10_000, 15_000, 30_000, 60_000, 300_000, 600_000, 1_800_000, 3_600_000, 7_200_000,
    21_600_000, 43_200_000, 86_400_000,
]);
/// Bounds of TCP's smoothed round trip in nanoseconds.
pub(crate) const TCP_RTT_NS: Bounds<12> = Bounds::new([
    100_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
]);
/// Bounds of queue lengths in bytes: powers of four from 256 B to 16 MiB.
pub(crate) const QUEUE_BYTES: Bounds<10> =
    Bounds::new([0, 256, 1_024, 4_096, 16_384, 65_536, 262_144, 1_048_576, 4_194_304, 16_777_216]);
/// Bounds of the number of subscribers an event was sent to.
pub(crate) const FANOUT: Bounds<12> =
    Bounds::new([0, 1, 2, 5, 10, 50, 100, 500, 1_000, 5_000, 10_000, 50_000]);
/// Bounds of the number of messages that wait in a client: 50 is document 003's threshold for an alert.
pub(crate) const CLIENT_QUEUE: Bounds<10> = Bounds::new([0, 1, 5, 10, 20, 50, 100, 200, 500, 1_000]);
/// Bounds of the number of events in one commit.
pub(crate) const BATCH: Bounds<10> = Bounds::new([1, 2, 4, 8, 16, 32, 64, 128, 256, 512]);
/// Bounds of subscriptions per connection: document 001's and 100.
pub(crate) const SUBSCRIPTIONS: Bounds<8> = Bounds::new([0, 1, 2, 5, 10, 20, 50, 100]);

/// The places a histogram takes.
pub(crate) const fn histogram<const N: usize>(_: &Bounds<N>) -> usize {
    N + 2
}

/// Gives each name the next free place, and the last name the total.
macro_rules! places {
    ($total:ident @ $at:expr;) => { pub(crate) const $total: usize = $at; };
    ($total:ident @ $at:expr; $name:ident: $count:expr, $($rest:tt)*) => {
        pub(crate) const $name: usize = $at;
        places! { $total @ $name + ($count); $($rest)* }
    };
}

places! { FIXED @ 0;
    CONNECTIONS: Status::COUNT,
    DURATION: histogram(&DURATION_MS),
    DISCONNECTS: DisconnectReason::COUNT * Initiator::COUNT,
    CLOSES: CLOSE_CODE_NAMES.len() * Initiator::COUNT,
    CONNECTION_ERRORS: ConnectionError::COUNT,
    REJECTED: RejectStage::COUNT * RejectReason::COUNT,
    HANDSHAKE: HandshakeOutcome::COUNT * histogram(&LATENCY_NS),
    RECONNECTIONS: ReconnectOutcome::COUNT,
    FALLBACK_HTTP: 1,
    AUTH_SUCCEEDED: 1,
    AUTH_FAILURES: AuthFailure::COUNT,
    MESSAGES: Direction::COUNT * MessageType::COUNT,
    EXTRA_FRAMES: Direction::COUNT,
    BYTES: Direction::COUNT * Layer::COUNT,
    WRITE_CALLS: 1,
    MESSAGE_ERRORS: MessageError::COUNT,
    MESSAGE_FAILURES: 1,
    STAGE_FANOUT: histogram(&LATENCY_NS),
    STAGE_QUEUE: histogram(&LATENCY_NS),
    FANOUT_SIZE: histogram(&FANOUT),
    RECEIPT_TCP: histogram(&LATENCY_NS),
    RECEIPT_APP: histogram(&LATENCY_NS),
    ROUND_TRIP: histogram(&LATENCY_NS),
    INITIAL_STATE: histogram(&INITIAL_STATE_NS),
    HEARTBEATS_SENT: 1,
    HEARTBEAT_TIMEOUTS: 1,
    HEARTBEAT_RTT: histogram(&HEARTBEAT_NS),
    TCP_RTT: histogram(&TCP_RTT_NS),
    TCP_RETRANSMITS: 1,
    TCP_UNSENT: histogram(&QUEUE_BYTES),
    TCP_UNACKED: histogram(&QUEUE_BYTES),
    DROPPED: DropCause::COUNT,
    CONFLATED: 1,
    SLOW: SlowAction::COUNT,
    MEMORY_LIMITED: MemoryPart::COUNT,
    RATE_LIMITED: RateScope::COUNT,
    GAPS: GapReason::COUNT,
    PRESENCE: PresenceEvent::COUNT,
    PRESENCE_DROPPED: PresenceDrop::COUNT,
    PUBLISH: PublishSource::COUNT * PublishOutcome::COUNT,
    HOOK: HookOutcome::COUNT * histogram(&LATENCY_NS),
    RELOADS: ReloadOutcome::COUNT,
    TLS_HANDSHAKES: TlsResult::COUNT,
    TLS_RELOADS: ReloadOutcome::COUNT,
    COLLECTOR: histogram(&LATENCY_NS),
    WATCH: histogram(&LATENCY_NS),
    WATCH_REFUSED: 1,
    INITIAL_STAGE: InitialStage::COUNT * histogram(&LATENCY_NS),
    STORE_COMMIT: histogram(&LATENCY_NS),
    STORE_BATCH: histogram(&BATCH),
    STORE_ERRORS: StoreFailure::COUNT,
    STORE_READS: ReadSource::COUNT,
    STORE_CORRUPT: 1,
    REPAIRS: RepairSource::COUNT,
    REPEATED: 1,
    POSITION_AHEAD: 1,
    CHANNEL_RESETS: 1,
    KEY_FETCHES: KeyFetch::COUNT,
    SAMPLES: SampleSource::COUNT,
    SAMPLES_REFUSED: SampleRefusal::COUNT,
    SAMPLES_LATE: 1,
    SAMPLES_OUT_OF_ORDER: 1,
    WINDOWS_CLOSED: 1,
    CHUNKS: ChunkOutcome::COUNT,
    STALE: 1,
    DERIVED_FORGOTTEN: 1,
    REDIS_CONNECTS: 1,
    REDIS_ACKNOWLEDGED: 1,
    REDIS_CLAIMED: 1,
    REDIS_RETRIED: 1,
    REDIS_REFUSED: RedisRefusal::COUNT,
    BROKER_RECONNECTS: 1,
    BROKER_MESSAGES: Direction::COUNT * BrokerItem::COUNT,
    BROKER_BYTES: Direction::COUNT,
    BROKER_DROPPED: BrokerDrop::COUNT,
    BROKER_SHORTENED: 1,
    BROKER_LAG: histogram(&LATENCY_NS),
    CLIENT_REPORTS: Visibility::COUNT,
    CLIENT_QUEUED: histogram(&CLIENT_QUEUE),
    CLIENT_HANDLER: histogram(&LATENCY_NS),
    CLIENT_GAPS_HEALED: 1,
    LOOP_LAG: Loop::COUNT * histogram(&LATENCY_NS),
    UPSTREAM_ATTEMPTS: UpstreamTrack::COUNT,
    UPSTREAM_RETRIES: UpstreamTrack::COUNT,
    UPSTREAM_ERRORS: UpstreamTrack::COUNT * UpstreamError::COUNT,
    UPSTREAM_MESSAGES: UpstreamMessage::COUNT,
    UPSTREAM_BYTES: 1,
    UPSTREAM_MISSING: 1,
    UPSTREAM_FAILOVERS: 1,
    UPSTREAM_CIRCUITS: 1,
    UPSTREAM_REFUSED: 1,
}

// One row for each event type.
places! { ROW @ 0;
    EMITTED: 1,
    RECEIVED: 1,
    ERRORS: 1,
    SENT: 1,
    EVENT_LATENCY: histogram(&LATENCY_NS),
    MESSAGE_LATENCY: histogram(&LATENCY_NS),
}

// 1,000 fixed places are 8 KB a shard; a row of 320 bytes times 201 types is 64 KB.
const _: () = assert!(FIXED <= 1_000 && ROW <= 40);

#[cfg(test)]
mod tests {
    use super::*;

    fn check<const N: usize>(bounds: &Bounds<N>) {
        assert!(bounds.upper.is_sorted_by(|a, b| a < b));
        let edges = bounds.upper.iter().flat_map(|&bound| [bound.saturating_sub(1), bound, bound + 1]);
        for value in edges.chain([0, u64::MAX]).chain((0..64).flat_map(|bits| [1 << bits, (1 << bits) - 1])) {
            assert_eq!(
                bounds.bucket(value),
                bounds.upper.iter().filter(|&&bound| value > bound).count(),
                "{value}"
            );
        }
    }

    #[test]
    fn a_value_falls_in_the_first_bucket_whose_bound_is_not_below_it() {
        check(&LATENCY_NS);
        check(&HEARTBEAT_NS);
        check(&INITIAL_STATE_NS);
        check(&DURATION_MS);
        check(&TCP_RTT_NS);
        check(&QUEUE_BYTES);
        check(&FANOUT);
        check(&BATCH);
        check(&CLIENT_QUEUE);
        check(&SUBSCRIPTIONS);
    }
}
