//! Every figure, declared once.
//!
//! `GET /api/admin/figures`, the history, the dashboard and the terminal come from this list. A figure that has no
//! true source is not here.

use pulsewire_telemetry::{
    Counter, Current, Direction, Distribution, Layer, MemoryClass, MessageError, PublishOutcome, SlowAction,
    Status,
};
use serde::Serialize;

use super::Step;

/// What a figure counts in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Connections.
    Connections,
    /// Milliseconds.
    Ms,
    /// Seconds.
    S,
    /// Bytes.
    Bytes,
    /// Bytes a second.
    BytesPerSecond,
    /// Percent: 0 to 100.
    Percent,
    /// Times a second.
    PerSecond,
    /// Things.
    Count,
}

impl Unit {
    /// A value with its unit, for people.
    #[must_use]
    pub fn shown(self, value: f64) -> String {
        let value = (value * 100.0).round() / 100.0;
        match self {
            Self::Connections | Self::Count => value.to_string(),
            Self::Ms => format!("{value} ms"),
            Self::S => format!("{value} s"),
            Self::Bytes => format!("{value} bytes"),
            Self::BytesPerSecond => format!("{value} bytes/s"),
            Self::Percent => format!("{value} %"),
            Self::PerSecond => format!("{value}/s"),
        }
    }
}

/// A number that is followed.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Figure {
    /// Its name in the API; never changes.
    pub id: &'static str,
    /// Its name for people.
    pub title: &'static str,
    /// What it counts in.
    pub unit: Unit,
    /// What it is, in one sentence.
    pub help: &'static str,
    /// What it was in a step; `None` if there was nothing to measure.
    #[serde(skip)]
    pub of: fn(&Step<'_>) -> Option<f64>,
}

const fn figure(
    id: &'static str,
    title: &'static str,
    unit: Unit,
    help: &'static str,
    of: fn(&Step<'_>) -> Option<f64>,
) -> Figure {
    Figure { id, title, unit, help, of }
}

/// The memory attributed to connections, in bytes.
#[must_use]
pub(crate) fn connection_bytes(current: &Current) -> u64 {
    let classes = MemoryClass::ALL.iter().filter(|class| class.belongs_to_connections());
    classes.map(|class| current.memory_bytes[*class as usize]).sum()
}

/// A part of a whole in percent; `None` of nothing.
#[must_use]
pub(crate) fn percent(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64 * 100.0)
}

fn cpu_process(step: &Step<'_>) -> Option<f64> {
    step.cpu_process()
}

fn cpu_shards(step: &Step<'_>) -> Option<f64> {
    step.cpu_shards()
}

const OPENED: Counter = Counter::connections(Status::Opened);

/// Every figure, in the order of the answers.
#[rustfmt::skip]
pub const FIGURES: &[Figure] = &[
    // --- connections ---
    figure("connections.active", "Active connections", Unit::Connections, "Live client connections over every transport.", |s| s.gauge(Current::active_connections)),
    figure("connections.opened", "Connections opened", Unit::PerSecond, "Connections established.", |s| s.rate(OPENED)),
    figure("connections.closed", "Connections closed", Unit::PerSecond, "Connections that ended.", |s| s.rate(Counter::connections(Status::Closed))),
    figure("connections.failed", "Connections failed", Unit::PerSecond, "Attempts that failed or were refused.", |s| s.rate(Counter::connections(Status::Failed))),
    figure("connections.detached", "Detached sessions", Unit::Count, "Sessions without a connection that may come back.", |s| s.gauge(|c| c.sessions_detached)),
    figure("sessions.fallback_share", "HTTP fallback", Unit::Percent, "New sessions that fell back to HTTP, of all that began.", |s| s.share(Counter::FALLBACKS, OPENED)),
    figure("reconnections.rate", "Reconnections", Unit::PerSecond, "Clients that came back to a session.", |s| s.rate(Counter::RECONNECTIONS)),
    figure("subscriptions", "Subscriptions", Unit::Count, "Present subscriptions.", |s| s.gauge(|c| c.subscriptions)),
    figure("channels.count", "Channels", Unit::Count, "Channels with an audience or a log.", |s| s.gauge(|c| c.channels)),
    figure("presence.members", "Presence members", Unit::Count, "Users present in channels; a user in two counts twice.", |s| s.gauge(|c| c.presence_members)),
    figure("metrics.series", "Metric series", Unit::Count, "Series of metric channels at hand.", |s| s.gauge(|c| c.metric_series)),
    // --- traffic ---
    figure("messages.in", "Messages in", Unit::PerSecond, "Messages received from clients.", |s| s.rate(Counter::MESSAGES_RECEIVED)),
    figure("messages.out", "Messages out", Unit::PerSecond, "Messages handed to the kernel, once for each recipient.", |s| s.rate(Counter::MESSAGES_SENT)),
    figure("events.emitted", "Events emitted", Unit::PerSecond, "Publications accepted, once each however many receive them.", |s| s.rate(Counter::EVENTS_EMITTED)),
    figure("events.delivered", "Events delivered", Unit::PerSecond, "Events handed to the kernel, once for each recipient.", |s| s.rate(Counter::EVENTS_DELIVERED)),
    figure("publish.accepted", "Publishes accepted", Unit::PerSecond, "Publish requests that were accepted.", |s| s.rate(Counter::publish(PublishOutcome::Accepted))),
    figure("publish.rejected", "Publishes rejected", Unit::PerSecond, "Publish requests that were refused.", |s| s.rate(Counter::publish(PublishOutcome::Rejected))),
    figure("bytes.in", "Bytes in", Unit::BytesPerSecond, "Bytes read from client sockets.", |s| s.rate(Counter::bytes(Direction::Received, Layer::Wire))),
    figure("bytes.out", "Bytes out", Unit::BytesPerSecond, "Bytes written to client sockets.", |s| s.rate(Counter::bytes(Direction::Sent, Layer::Wire))),
    // --- how long it takes ---
    figure("latency.p50", "Delivery latency, median", Unit::Ms, "From the acceptance of a publication to the kernel, for each recipient.", |s| s.quantile(Distribution::LATENCY, 0.5)),
    figure("latency.p95", "Delivery latency, 95 %", Unit::Ms, "From the acceptance of a publication to the kernel, for each recipient.", |s| s.quantile(Distribution::LATENCY, 0.95)),
    figure("latency.p99", "Delivery latency, 99 %", Unit::Ms, "From the acceptance of a publication to the kernel, for each recipient.", |s| s.quantile(Distribution::LATENCY, 0.99)),
    figure("receipt.p50", "Receipt latency, median", Unit::Ms, "From the acceptance of a publication to its receipt by a client; sampled.", |s| s.quantile(Distribution::RECEIPT, 0.5)),
    figure("receipt.p95", "Receipt latency, 95 %", Unit::Ms, "From the acceptance of a publication to its receipt by a client; sampled.", |s| s.quantile(Distribution::RECEIPT, 0.95)),
    figure("receipt.p99", "Receipt latency, 99 %", Unit::Ms, "From the acceptance of a publication to its receipt by a client; sampled.", |s| s.quantile(Distribution::RECEIPT, 0.99)),
    figure("roundtrip.p95", "Client to client, 95 %", Unit::Ms, "From a client's publishing to a subscriber's receipt.", |s| s.quantile(Distribution::ROUND_TRIP, 0.95)),
    figure("stage.fanout.p95", "Until fan-out, 95 %", Unit::Ms, "From the acceptance of a publication to the beginning of its fan-out.", |s| s.quantile(Distribution::STAGE_FANOUT, 0.95)),
    figure("stage.queue.p95", "Until the outbox, 95 %", Unit::Ms, "From the acceptance of a publication to the outboxes.", |s| s.quantile(Distribution::STAGE_QUEUE, 0.95)),
    figure("stage.kernel.p95", "Until the kernel, 95 %", Unit::Ms, "From the acceptance of a publication to the kernel: the same as latency.p95, as the last of the stages.", |s| s.quantile(Distribution::LATENCY, 0.95)),
    figure("heartbeat.p50", "Heartbeat round trip, median", Unit::Ms, "From a ping to its pong.", |s| s.quantile(Distribution::HEARTBEAT, 0.5)),
    figure("heartbeat.p95", "Heartbeat round trip, 95 %", Unit::Ms, "From a ping to its pong.", |s| s.quantile(Distribution::HEARTBEAT, 0.95)),
    figure("heartbeat.failures", "Heartbeat failures", Unit::Percent, "Pings that were not answered in time, of those sent.", |s| s.share_of(Counter::HEARTBEAT_TIMEOUTS, Counter::HEARTBEATS_SENT)),
    figure("auth.failures", "Failed authentications", Unit::Percent, "Authentications that failed, of all.", |s| s.share(Counter::AUTH_FAILED, Counter::AUTH_SUCCEEDED)),
    figure("duration.p50", "Connection duration, median", Unit::S, "How long the connections that ended had lasted.", |s| s.quantile(Distribution::DURATION, 0.5)),
    figure("duration.p95", "Connection duration, 95 %", Unit::S, "How long the connections that ended had lasted.", |s| s.quantile(Distribution::DURATION, 0.95)),
    // --- memory ---
    figure("memory.per_connection", "Memory per connection", Unit::Bytes, "Memory attributed to connections, divided by them; kernel memory is not in it.", |s| {
        let current = s.current()?;
        let connections = current.active_connections();
        (connections > 0).then(|| connection_bytes(current) as f64 / connections as f64)
    }),
    figure("memory.rss", "Resident memory", Unit::Bytes, "Resident memory of the process.", |s| Some(s.process().resident_bytes as f64).filter(|bytes| *bytes > 0.0)),
    figure("memory.heap", "Heap", Unit::Bytes, "Bytes the allocator has given out.", |s| s.gauge(|c| c.heap_allocated_bytes).filter(|bytes| *bytes > 0.0)),
    figure("outbox.bytes", "Bytes in outboxes", Unit::Bytes, "Bytes that wait for clients in this process.", |s| s.gauge(|c| c.outbound_queue_bytes.sum())),
    figure("kernel.unsent", "Bytes in the kernel", Unit::Bytes, "Bytes the kernel has accepted and not sent, at each connection's last sample.", |s| s.gauge(|c| c.kernel_unsent_bytes)),
    // --- what did not go well ---
    figure("dropped.rate", "Messages dropped", Unit::PerSecond, "Messages discarded instead of delivered or handled.", |s| s.rate(Counter::DROPPED)),
    figure("conflated.rate", "Messages conflated", Unit::PerSecond, "Messages replaced by newer ones before they were sent.", |s| s.rate(Counter::CONFLATED)),
    figure("gaps.rate", "Gaps told", Unit::PerSecond, "Times a reader was told that events are missing.", |s| s.rate(Counter::GAPS)),
    figure("slow.lag", "Readers lagging", Unit::PerSecond, "Times a reader fell back to reading the past, because its outbox was full.", |s| s.rate(Counter::slow(SlowAction::Lag))),
    figure("slow.close", "Slow readers closed", Unit::PerSecond, "Readers closed because they took nothing.", |s| s.rate(Counter::slow(SlowAction::Close))),
    figure("failures.rate", "Message failures", Unit::PerSecond, "Messages that did not reach a live subscriber.", |s| s.rate(Counter::MESSAGE_FAILURES)),
    figure("rate_limited.rate", "Rate limited", Unit::PerSecond, "Refusals by a rate limit.", |s| s.rate(Counter::RATE_LIMITED)),
    figure("errors.parse", "Parse errors", Unit::PerSecond, "Messages of clients that could not be read.", |s| s.rate(Counter::message_errors(MessageError::ParseError))),
    figure("errors.validation", "Validation errors", Unit::PerSecond, "Messages of clients that could be read and not used.", |s| s.rate(Counter::message_errors(MessageError::ValidationError))),
    figure("errors.send", "Send errors", Unit::PerSecond, "Messages that could not be written.", |s| s.rate(Counter::message_errors(MessageError::SendError))),
    figure("errors.connection", "Connection errors", Unit::PerSecond, "Errors of connection attempts and live connections.", |s| s.rate(Counter::CONNECTION_ERRORS)),
    figure("client.queued", "Messages queued in clients", Unit::Count, "Messages that wait in live clients, as each said in its last report.", |s| s.gauge(|c| c.client_queued_messages)),
    // --- the process ---
    figure("cpu.process", "CPU", Unit::Percent, "CPU time of the process, as a share of all cores.", cpu_process),
    figure("cpu.shards", "CPU of the shards", Unit::Percent, "CPU time of the connection threads, as a share of all cores.", cpu_shards),
    figure("store.queue", "Store queue", Unit::Count, "Events that wait to be kept.", |s| s.gauge(|c| c.store_queue_events)),
    figure("store.commit.p95", "Store commit, 95 %", Unit::Ms, "From the acceptance of a publish request to its store's answer.", |s| s.quantile(Distribution::STORE_COMMIT, 0.95)),
    figure("history.reads", "History reads", Unit::PerSecond, "Pages of history and parts of keyed state that were read.", |s| s.rate(Counter::HISTORY_READS)),
    figure("tokio.tasks", "Tasks", Unit::Count, "Tasks alive on the runtime of HTTP and handshakes.", |s| s.gauge(|c| c.tokio_tasks)),
    figure("loop.lag.p95", "Shard lag, 95 %", Unit::Ms, "How long the slowest shard takes to count what it has; asked once a second.", |s| s.quantile(Distribution::SHARDS_LAG, 0.95)),
    figure("runtime.lag.p95", "Runtime lag, 95 %", Unit::Ms, "How late the runtime of HTTP and handshakes wakes; measured once a second.", |s| s.quantile(Distribution::RUNTIME_LAG, 0.95)),
    figure("files.open", "Open files", Unit::Count, "Open file descriptors.", |s| Some(s.process().fds_open as f64)),
    figure("files.share", "Open files of the limit", Unit::Percent, "Open file descriptors, of those allowed.", |s| percent(s.process().fds_open, s.process().fds_max)),
];

const _: () = assert!(FIGURES.len() <= super::history::FIGURES_MAX);

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_id_is_there_once_and_is_a_word_of_the_api() {
        let ids: HashSet<_> = FIGURES.iter().map(|figure| figure.id).collect();
        assert_eq!(ids.len(), FIGURES.len());
        let plain =
            |byte: u8| byte.is_ascii_lowercase() || byte == b'.' || byte == b'_' || byte.is_ascii_digit();
        assert!(ids.iter().all(|id| id.bytes().all(plain)));
    }

    #[test]
    fn every_figure_says_what_it_is() {
        for figure in FIGURES {
            assert!(figure.help.ends_with('.') && !figure.title.ends_with('.'), "{}", figure.id);
        }
    }
}
