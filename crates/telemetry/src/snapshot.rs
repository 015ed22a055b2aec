//! The totals at one moment, to be compared with those of another.
//!
//! Whoever shows how things go needs what happened *between* two moments: a rate is a difference of counters, a
//! percentile one of buckets. A snapshot is one pass over the blocks and formats nothing, so taking one every second
//! costs a few tens of microseconds.

use crate::labels::{
    AuthFailure, ConnectionError, Direction, DropCause, GapReason, HookOutcome, KeyFetch, Layer,
    MessageError, MessageType, PublishOutcome, PublishSource, RateScope, ReadSource, ReconnectOutcome,
    RejectReason, RejectStage, ReloadOutcome, SampleRefusal, SlowAction, Status, StoreFailure,
};
use crate::layout as at;
use crate::quantile::quantile;
use crate::registry::Telemetry;

/// Every counter and histogram of the process at one moment; event types are added up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    fixed: Box<[u64]>,
    rows: [u64; at::ROW],
}

/// A number that only grows, or several of them added up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counter {
    place: Place,
    /// Added to it, for the few that are kept in two places.
    and: Option<Place>,
}

/// Observations in buckets.
#[derive(Clone, Copy, Debug)]
pub struct Distribution {
    place: Place,
    bounds: &'static [u64],
    /// Recorded units in one unit of the figure.
    scale: f64,
}

/// Where numbers stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// So many, each so far behind the one before.
    Fixed { from: usize, count: usize, step: usize },
    /// In the row of every event type.
    Rows(usize),
}

impl Telemetry {
    /// The totals now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let totals = self.totals();
        let mut rows = [0; at::ROW];
        for row in &totals.rows {
            for (sum, n) in rows.iter_mut().zip(row) {
                *sum += n;
            }
        }
        Snapshot { fixed: totals.fixed.into(), rows }
    }
}

impl Snapshot {
    /// What a counter stood at.
    #[must_use]
    pub fn count(&self, counter: Counter) -> u64 {
        self.sum(counter.place) + counter.and.map_or(0, |place| self.sum(place))
    }

    /// What a counter grew by since `before`.
    #[must_use]
    pub fn count_since(&self, before: &Self, counter: Counter) -> u64 {
        self.count(counter).saturating_sub(before.count(counter))
    }

    /// How much was observed since `before`.
    #[must_use]
    pub fn observed_since(&self, before: &Self, of: Distribution) -> u64 {
        self.buckets_since(before, of).sum()
    }

    /// The quantile `q` (0 to 1) of what was observed since `before`, in the unit of the distribution; `None` if
    /// nothing was. Linear inside a bucket, and the highest bound for what lies above all bounds.
    #[must_use]
    pub fn quantile_since(&self, before: &Self, of: Distribution, q: f64) -> Option<f64> {
        let counts: Vec<u64> = self.buckets_since(before, of).collect();
        let total: u64 = counts.iter().sum();
        let bounds = of.bounds.iter().map(|&bound| bound as f64 / of.scale);
        (total > 0).then(|| quantile(bounds, &counts, total, q))
    }

    fn buckets_since(&self, before: &Self, of: Distribution) -> impl Iterator<Item = u64> {
        let buckets = of.bounds.len() + 1;
        let (now, then) = (self.slots(of.place, buckets), before.slots(of.place, buckets));
        now.iter().zip(then).map(|(now, then)| now.saturating_sub(*then))
    }

    fn slots(&self, place: Place, count: usize) -> &[u64] {
        match place {
            Place::Fixed { from, .. } => &self.fixed[from..from + count],
            Place::Rows(from) => &self.rows[from..from + count],
        }
    }

    fn sum(&self, place: Place) -> u64 {
        match place {
            Place::Fixed { from, count, step } => {
                (0..count).map(|index| self.fixed[from + index * step]).sum()
            }
            Place::Rows(place) => self.rows[place],
        }
    }
}

impl Counter {
    /// Subscriptions and events that clients sent, and everything else they said.
    pub const MESSAGES_RECEIVED: Self =
        Self::messages(Direction::Received as usize, Place::Rows(at::RECEIVED));
    /// Messages handed to the kernel, once for each recipient.
    pub const MESSAGES_SENT: Self = Self::messages(Direction::Sent as usize, Place::Rows(at::SENT));
    /// Publications accepted.
    pub const EVENTS_EMITTED: Self = Self { place: Place::Rows(at::EMITTED), and: None };
    /// Events handed to the kernel, once for each recipient.
    pub const EVENTS_DELIVERED: Self = Self { place: Place::Rows(at::SENT), and: None };
    /// Events of clients whose handling failed.
    pub const EVENTS_FAILED: Self = Self { place: Place::Rows(at::ERRORS), and: None };
    /// Clients that came back to a session.
    pub const RECONNECTIONS: Self = Self::all(at::RECONNECTIONS, ReconnectOutcome::COUNT);
    /// Sessions that fell back to HTTP.
    pub const FALLBACKS: Self = Self::all(at::FALLBACK_HTTP, 1);
    /// Clients that proved who they are.
    pub const AUTH_SUCCEEDED: Self = Self::all(at::AUTH_SUCCEEDED, 1);
    /// Clients that did not.
    pub const AUTH_FAILED: Self = Self::all(at::AUTH_FAILURES, AuthFailure::COUNT);
    /// Pings sent.
    pub const HEARTBEATS_SENT: Self = Self::all(at::HEARTBEATS_SENT, 1);
    /// Pings that were not answered in time.
    pub const HEARTBEAT_TIMEOUTS: Self = Self::all(at::HEARTBEAT_TIMEOUTS, 1);
    /// Messages discarded instead of delivered or handled.
    pub const DROPPED: Self = Self::all(at::DROPPED, DropCause::COUNT);
    /// Messages replaced by newer ones before they were sent.
    pub const CONFLATED: Self = Self::all(at::CONFLATED, 1);
    /// Times a reader was told that events are missing.
    pub const GAPS: Self = Self::all(at::GAPS, GapReason::COUNT);
    /// Messages that did not reach a live subscriber (document 003).
    pub const MESSAGE_FAILURES: Self = Self::all(at::MESSAGE_FAILURES, 1);
    /// Refusals by a rate limit.
    pub const RATE_LIMITED: Self = Self::all(at::RATE_LIMITED, RateScope::COUNT);
    /// Errors of connection attempts and live connections.
    pub const CONNECTION_ERRORS: Self = Self::all(at::CONNECTION_ERRORS, ConnectionError::COUNT);
    /// Pages of history read.
    pub const HISTORY_READS: Self = Self::all(at::STORE_READS, ReadSource::COUNT);
    /// Stored events that could not be read.
    pub const STORE_CORRUPT: Self = Self::all(at::STORE_CORRUPT, 1);

    /// Connection attempts by what became of them.
    #[must_use]
    pub const fn connections(status: Status) -> Self {
        Self::all(at::CONNECTIONS + status as usize, 1)
    }

    /// Bytes on the sockets.
    #[must_use]
    pub const fn bytes(direction: Direction, layer: Layer) -> Self {
        Self::all(at::BYTES + direction as usize * Layer::COUNT + layer as usize, 1)
    }

    /// Publish requests by how they were answered, whatever their source.
    #[must_use]
    pub const fn publish(outcome: PublishOutcome) -> Self {
        Self::every(at::PUBLISH + outcome as usize, PublishSource::COUNT, PublishOutcome::COUNT)
    }

    /// Failed authentications by why.
    #[must_use]
    pub const fn auth_failed(reason: AuthFailure) -> Self {
        Self::all(at::AUTH_FAILURES + reason as usize, 1)
    }

    /// Errors of connection attempts and live connections of a kind.
    #[must_use]
    pub const fn connection_errors(kind: ConnectionError) -> Self {
        Self::all(at::CONNECTION_ERRORS + kind as usize, 1)
    }

    /// Connection attempts refused for a reason, at whatever stage.
    #[must_use]
    pub const fn rejected(reason: RejectReason) -> Self {
        Self::every(at::REJECTED + reason as usize, RejectStage::COUNT, RejectReason::COUNT)
    }

    /// Messages that could not be read, used or written.
    #[must_use]
    pub const fn message_errors(kind: MessageError) -> Self {
        Self::all(at::MESSAGE_ERRORS + kind as usize, 1)
    }

    /// Messages discarded for a cause.
    #[must_use]
    pub const fn dropped(cause: DropCause) -> Self {
        Self::all(at::DROPPED + cause as usize, 1)
    }

    /// What was done about readers that could not keep up.
    #[must_use]
    pub const fn slow(action: SlowAction) -> Self {
        Self::all(at::SLOW + action as usize, 1)
    }

    /// Times a reader was told that events are missing, for a reason.
    #[must_use]
    pub const fn gaps(reason: GapReason) -> Self {
        Self::all(at::GAPS + reason as usize, 1)
    }

    /// Refusals by a rate limit.
    #[must_use]
    pub const fn rate_limited(scope: RateScope) -> Self {
        Self::all(at::RATE_LIMITED + scope as usize, 1)
    }

    /// Calls of the hook by how they ended.
    #[must_use]
    pub const fn hook(outcome: HookOutcome) -> Self {
        let slots = at::histogram(&at::LATENCY_NS);
        // The last place is the sum of what was observed.
        Self::all(at::HOOK + outcome as usize * slots, slots - 1)
    }

    /// Times a store did not do what it was asked.
    #[must_use]
    pub const fn store_errors(kind: StoreFailure) -> Self {
        Self::all(at::STORE_ERRORS + kind as usize, 1)
    }

    /// Samples of metric channels that were refused.
    #[must_use]
    pub const fn samples_refused(reason: SampleRefusal) -> Self {
        Self::all(at::SAMPLES_REFUSED + reason as usize, 1)
    }

    /// Fetches of the key set.
    #[must_use]
    pub const fn key_fetches(outcome: KeyFetch) -> Self {
        Self::all(at::KEY_FETCHES + outcome as usize, 1)
    }

    /// Reloads of the settings.
    #[must_use]
    pub const fn reloads(outcome: ReloadOutcome) -> Self {
        Self::all(at::RELOADS + outcome as usize, 1)
    }

    const fn all(from: usize, count: usize) -> Self {
        Self::every(from, count, 1)
    }

    const fn every(from: usize, count: usize, step: usize) -> Self {
        Self { place: Place::Fixed { from, count, step }, and: None }
    }

    const fn messages(direction: usize, rows: Place) -> Self {
        let from = at::MESSAGES + direction * MessageType::COUNT;
        Self { place: Place::Fixed { from, count: MessageType::COUNT, step: 1 }, and: Some(rows) }
    }
}

impl Distribution {
    /// From the acceptance of a publication to the kernel, for each recipient, milliseconds.
    pub const LATENCY: Self = Self::ms(Place::Rows(at::EVENT_LATENCY), &at::LATENCY_NS.upper);
    /// From the acceptance of a publication to its receipt, sampled, milliseconds.
    pub const RECEIPT: Self = Self::ms(Place::Rows(at::MESSAGE_LATENCY), &at::LATENCY_NS.upper);
    /// From a client's publishing to a subscriber's receipt, milliseconds.
    pub const ROUND_TRIP: Self = Self::fixed_ms(at::ROUND_TRIP, &at::LATENCY_NS.upper);
    /// From the acceptance of a publication to the beginning of its fan-out, milliseconds.
    pub const STAGE_FANOUT: Self = Self::fixed_ms(at::STAGE_FANOUT, &at::LATENCY_NS.upper);
    /// From the acceptance of a publication to the outboxes, milliseconds.
    pub const STAGE_QUEUE: Self = Self::fixed_ms(at::STAGE_QUEUE, &at::LATENCY_NS.upper);
    /// From a ping to its pong, milliseconds.
    pub const HEARTBEAT: Self = Self::fixed_ms(at::HEARTBEAT_RTT, &at::HEARTBEAT_NS.upper);
    /// From the acceptance of a publish request to its store's answer, milliseconds.
    pub const STORE_COMMIT: Self = Self::fixed_ms(at::STORE_COMMIT, &at::LATENCY_NS.upper);
    /// How long the slowest shard takes to answer, asked once a second, milliseconds.
    pub const SHARDS_LAG: Self = Self::fixed_ms(at::LOOP_LAG, &at::LATENCY_NS.upper);
    /// How late the runtime wakes, measured once a second, milliseconds.
    pub const RUNTIME_LAG: Self =
        Self::fixed_ms(at::LOOP_LAG + at::histogram(&at::LATENCY_NS), &at::LATENCY_NS.upper);
    /// How long ended connections had lasted, seconds.
    pub const DURATION: Self = Self {
        place: Place::Fixed { from: at::DURATION, count: 0, step: 1 },
        bounds: &at::DURATION_MS.upper,
        scale: 1e3,
    };
    /// Messages that waited in a client's queue when it reported.
    pub const CLIENT_QUEUE: Self = Self {
        place: Place::Fixed { from: at::CLIENT_QUEUED, count: 0, step: 1 },
        bounds: &at::CLIENT_QUEUE.upper,
        scale: 1.0,
    };

    const fn ms(place: Place, bounds: &'static [u64]) -> Self {
        Self { place, bounds, scale: 1e6 }
    }

    const fn fixed_ms(from: usize, bounds: &'static [u64]) -> Self {
        Self::ms(Place::Fixed { from, count: 0, step: 1 }, bounds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Current, MessageType, Options, numbers};

    #[test]
    fn what_happened_between_two_snapshots_is_their_difference() {
        let telemetry = Telemetry::new(Options::default());
        let (one, two) = (telemetry.event_types().intern("a"), telemetry.event_types().intern("b"));
        let shard = telemetry.shard();
        shard.connection_opened();
        shard.delivered(one, 80_000_000, 5);
        let before = telemetry.snapshot();
        shard.connection_opened();
        telemetry.shared().connection_opened();
        shard.message_sent(one, 3, 100);
        shard.message_sent(MessageType::Pong, 2, 10);
        shard.publish(PublishSource::Http, PublishOutcome::Accepted);
        shard.publish(PublishSource::WebSocket, PublishOutcome::Accepted);
        shard.publish(PublishSource::WebSocket, PublishOutcome::Rejected);
        shard.delivered(one, 300_000, 2);
        shard.delivered(two, 400_000, 2);
        shard.hook(HookOutcome::Failed, 5_000_000_000);
        let now = telemetry.snapshot();
        let grew = |counter| now.count_since(&before, counter);
        assert_eq!(
            (now.count(Counter::connections(Status::Opened)), grew(Counter::connections(Status::Opened))),
            (3, 2)
        );
        assert_eq!((grew(Counter::MESSAGES_SENT), grew(Counter::EVENTS_DELIVERED)), (5, 3));
        assert_eq!(grew(Counter::publish(PublishOutcome::Accepted)), 2);
        assert_eq!(grew(Counter::publish(PublishOutcome::Rejected)), 1);
        assert_eq!((grew(Counter::hook(HookOutcome::Failed)), grew(Counter::hook(HookOutcome::Ok))), (1, 0));
        assert_eq!(now.observed_since(&before, Distribution::LATENCY), 4);
        // All four between 0.25 and 0.5 ms; the five slow ones were before.
        assert_eq!(now.quantile_since(&before, Distribution::LATENCY, 0.5), Some(0.375));
        assert_eq!(now.quantile_since(&before, Distribution::RECEIPT, 0.5), None);
    }

    #[test]
    fn counters_are_those_of_the_exposition() {
        let telemetry = Telemetry::new(Options::default());
        let shard = telemetry.shard();
        // Each place has a number of its own, so that no two can be taken for another.
        for (index, reason) in RejectReason::ALL.iter().enumerate() {
            for stage in RejectStage::ALL {
                (0..=index * 2 + *stage as usize).for_each(|_| shard.rejected(*stage, *reason));
            }
        }
        for (index, kind) in StoreFailure::ALL.iter().enumerate() {
            (0..=index).for_each(|_| shard.store_failed(*kind));
        }
        for (index, cause) in DropCause::ALL.iter().enumerate() {
            shard.dropped(*cause, index as u64 + 1);
        }
        shard.bytes(Direction::Sent, Layer::Wire, 77);
        let (now, shown) = (telemetry.snapshot(), numbers(&telemetry, &Current::default()));
        let check = |series: &str, counter| assert_eq!(shown[series], now.count(counter) as f64, "{series}");
        for reason in RejectReason::ALL {
            let series = format!("pulsewire_accept_rejected_total{{cause=\"{reason}\"}}");
            check(&series, Counter::rejected(*reason));
        }
        for kind in StoreFailure::ALL {
            check(&format!("websocket_store_errors_total{{kind=\"{kind}\"}}"), Counter::store_errors(*kind));
        }
        for cause in DropCause::ALL {
            check(&format!("pulsewire_dropped_total{{cause=\"{cause}\"}}"), Counter::dropped(*cause));
        }
        let wire = "pulsewire_bytes_total{direction=\"sent\",layer=\"wire\"}";
        check(wire, Counter::bytes(Direction::Sent, Layer::Wire));
    }
}
