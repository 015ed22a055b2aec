//! Every rule, declared once.

use std::time::Duration;

use pulsewire_telemetry::{Alert, Counter, Current, Distribution, SlowAction, Status};

use crate::figures::{Step, Unit, connection_bytes, percent};
use crate::settings::kind::threshold as kind;
use crate::settings::kind::threshold::Measure;
use crate::settings::{Levels, Profile, Threshold, Thresholds};

/// What a rule found.
#[derive(Debug, Clone, PartialEq)]
pub enum Reading {
    /// It cannot be known now: what was known stays.
    Unknown,
    /// There is nothing to judge, and why; the value is shown if there is one.
    Quiet(Option<f64>, String),
    /// The value, to be compared with the limits.
    Of(f64),
}

/// Something that is compared with limits.
pub struct Rule {
    /// Which it is.
    pub alert: Alert,
    /// Its name for people.
    pub title: &'static str,
    /// The figure that is the same, if there is one.
    pub figure: Option<&'static str>,
    /// What it counts in.
    pub unit: Unit,
    /// Whether less is worse.
    pub less_is_worse: bool,
    /// How far back it looks; zero for what there is now.
    pub window: Duration,
    /// Whether it is told at once, whatever `thresholds.hold` says: it is no matter of more or less.
    pub at_once: bool,
    /// Its limits; `None` if it is off.
    pub limits: fn(&Thresholds) -> Option<Levels>,
    /// Measures it over its window.
    pub read: fn(&Step<'_>) -> Reading,
    /// The same in PromQL, in the same unit.
    pub promql: &'static str,
    /// The dashboard's page that shows who causes it.
    pub link: &'static str,
    /// What it means and what to do first.
    pub help: &'static str,
}

const NOW: Duration = Duration::ZERO;
const MINUTE: Duration = Duration::from_secs(60);
const MINUTES_5: Duration = Duration::from_secs(300);

/// Fewer things than this are no percentile and no share.
const FEW: u64 = 20;
/// Fewer messages than this are no share of a tenth of a percent.
const FEW_MESSAGES: u64 = 1_000;

const OPENED: Counter = Counter::connections(Status::Opened);

/// The rule of an alert.
#[must_use]
pub fn rule(alert: Alert) -> &'static Rule {
    &RULES[alert as usize]
}

/// Every rule, in the order of [`Alert`]; the first six are document 001's table.
pub static RULES: [Rule; Alert::COUNT] = [
    Rule {
        alert: Alert::Connections,
        title: "Active connections",
        figure: Some("connections.active"),
        unit: Unit::Connections,
        less_is_worse: false,
        window: NOW,
        at_once: false,
        limits: |t| limits::<kind::NumberOrShare>(&t.connections, t.profile, "50% 80% 95%", "500 500 1000"),
        read: |s| s.gauge(Current::active_connections).map_or(Reading::Unknown, Reading::Of),
        promql: "websocket_active_connections",
        link: "/connections?group=user",
        help: "More clients than usual: look who they are, and whether clients reconnect in a loop. At limits.connections_max new ones are refused.",
    },
    Rule {
        alert: Alert::Latency,
        title: "Message latency",
        figure: Some("latency.p95"),
        unit: Unit::Ms,
        less_is_worse: false,
        window: MINUTE,
        at_once: false,
        limits: |t| limits::<kind::Latency>(&t.latency, t.profile, "50ms 100ms 500ms", "50ms 100ms 500ms"),
        read: |s| {
            let value = s.quantile(Distribution::LATENCY, 0.95);
            judged(value, s.observed(Distribution::LATENCY), FEW, "deliveries in a minute")
        },
        promql: "histogram_quantile(0.95, sum by (le) (rate(websocket_event_latency_milliseconds_bucket[1m])))",
        link: "/connections?sort=-latency",
        help: "Events reach clients late. The stages say where the time goes: before fan-out, in outboxes, or at the kernel because clients read slowly.",
    },
    Rule {
        alert: Alert::Duration,
        title: "Connection duration",
        figure: Some("duration.p50"),
        unit: Unit::S,
        less_is_worse: true,
        window: MINUTES_5,
        at_once: false,
        limits: |t| limits::<kind::Duration>(&t.duration, t.profile, "5m 1m 30s", "5m 1m 30s"),
        read: |s| {
            let value = s.quantile(Distribution::DURATION, 0.5);
            judged(value, s.observed(Distribution::DURATION), FEW, "connections ended in 5 minutes")
        },
        promql: "histogram_quantile(0.5, sum by (le) (rate(websocket_connection_duration_seconds_bucket[5m])))",
        link: "/connections?tab=closed&sort=lasted",
        help: "Connections end soon after they began: look at the codes and reasons of those that closed.",
    },
    Rule {
        alert: Alert::Memory,
        title: "Memory per connection",
        figure: Some("memory.per_connection"),
        unit: Unit::Bytes,
        less_is_worse: false,
        window: NOW,
        at_once: false,
        limits: |t| limits::<kind::Memory>(&t.memory, t.profile, "2KB 5KB 10KB", "2KB 5KB 10KB"),
        read: |s| {
            let Some(current) = s.current() else { return Reading::Unknown };
            let connections = current.active_connections();
            let value = (connections > 0).then(|| connection_bytes(current) as f64 / connections as f64);
            judged(value, Some(connections), FEW, "connections")
        },
        promql: "websocket_memory_usage_bytes / websocket_active_connections",
        link: "/connections?sort=-queue",
        help: "Bytes wait for clients that read slowly, or clients have many subscriptions.",
    },
    Rule {
        alert: Alert::Heartbeats,
        title: "Heartbeat failures",
        figure: Some("heartbeat.failures"),
        unit: Unit::Percent,
        less_is_worse: false,
        window: MINUTES_5,
        at_once: false,
        limits: |t| limits::<kind::Share>(&t.heartbeats, t.profile, "0% 1% 5%", "0% 1% 5%"),
        read: |s| {
            let value = s.share_of(Counter::HEARTBEAT_TIMEOUTS, Counter::HEARTBEATS_SENT);
            judged(value, s.count(Counter::HEARTBEATS_SENT), FEW, "pings in 5 minutes")
        },
        promql: "100 * rate(websocket_heartbeat_timeouts_total[5m]) / rate(websocket_heartbeats_sent_total[5m])",
        link: "/connections?tab=closed&filter=reason:heartbeat_timeout",
        help: "Clients vanish without a word: a network between, or a proxy that ends idle connections.",
    },
    Rule {
        alert: Alert::Auth,
        title: "Failed authentications",
        figure: Some("auth.failures"),
        unit: Unit::Percent,
        less_is_worse: false,
        window: MINUTES_5,
        at_once: false,
        limits: |t| limits::<kind::Share>(&t.auth, t.profile, "1% 5% 10%", "1% 5% 10%"),
        read: |s| {
            share(s, Counter::AUTH_FAILED, Counter::AUTH_SUCCEEDED, FEW, "authentications in 5 minutes")
        },
        promql: "100 * sum(rate(websocket_auth_failures_total[5m])) / sum(rate(pulsewire_auth_total[5m]))",
        link: "/errors?group=auth",
        help: "The reasons say which: tokens that expired, keys that were changed, or somebody who tries.",
    },
    Rule {
        alert: Alert::Fallback,
        title: "Fallback to HTTP",
        figure: Some("sessions.fallback_share"),
        unit: Unit::Percent,
        less_is_worse: false,
        window: MINUTES_5,
        at_once: false,
        limits: |t| limits::<kind::Share>(&t.fallback, t.profile, "0% 1% 5%", "0% 1% 5%"),
        read: |s| share(s, Counter::FALLBACKS, OPENED, FEW, "sessions began in 5 minutes"),
        promql: "100 * sum(rate(orchestrator_websocket_fallback_http_total[5m])) / (sum(rate(orchestrator_websocket_fallback_http_total[5m])) + sum(rate(websocket_connections_total{status=\"opened\"}[5m])))",
        link: "/connections?filter=-transport:websocket",
        help: "Clients cannot open WebSockets: a proxy that does not pass the upgrade on, or a certificate.",
    },
    Rule {
        alert: Alert::Reconnects,
        title: "Reconnections",
        figure: None,
        unit: Unit::Percent,
        less_is_worse: false,
        window: MINUTES_5,
        at_once: false,
        limits: |t| limits::<kind::Share>(&t.reconnects, t.profile, "10% 50% 80%", "10% 50% 80%"),
        read: reconnections,
        promql: "(100 * sum(rate(websocket_reconnections_total[5m])) / sum(rate(websocket_connections_total{status=\"opened\"}[5m])) and on() (histogram_quantile(0.5, sum by (le) (rate(websocket_connection_duration_seconds_bucket[5m]))) < 60))",
        link: "/connections?sort=-reconnects",
        help: "Clients come back again and again and do not stay: look at what closes them, and whether one address or version stands out.",
    },
    Rule {
        alert: Alert::Failures,
        title: "Message failures",
        figure: None,
        unit: Unit::Percent,
        less_is_worse: false,
        window: MINUTES_5,
        at_once: false,
        limits: |t| limits::<kind::Share>(&t.failures, t.profile, "0% 0.1% 1%", "0% 0.1% 1%"),
        read: |s| {
            let what = "messages in 5 minutes";
            share(s, Counter::MESSAGE_FAILURES, Counter::MESSAGES_SENT, FEW_MESSAGES, what)
        },
        promql: "100 * rate(orchestrator_websocket_message_failures_total[5m]) / (rate(orchestrator_websocket_message_failures_total[5m]) + rate(orchestrator_websocket_messages_out_total[5m]))",
        link: "/connections?sort=-failures",
        help: "Messages do not reach live subscribers: connections that break, or readers that are too slow.",
    },
    Rule {
        alert: Alert::Drops,
        title: "Dropped messages",
        figure: None,
        unit: Unit::Percent,
        less_is_worse: false,
        window: MINUTES_5,
        at_once: false,
        limits: |t| limits::<kind::Share>(&t.drops, t.profile, "0.1% 1% 5%", "0.1% 1% 5%"),
        read: |s| {
            let what = "messages in 5 minutes";
            share(s, Counter::DROPPED, Counter::MESSAGES_SENT, FEW_MESSAGES, what)
        },
        promql: "100 * sum(rate(pulsewire_dropped_total[5m])) / (sum(rate(pulsewire_dropped_total[5m])) + sum(rate(websocket_messages_total{direction=\"sent\"}[5m])))",
        link: "/errors?group=dropped",
        help: "The causes say which: readers too slow for ephemeral channels, or clients that send more than they may.",
    },
    Rule {
        alert: Alert::Slow,
        title: "Slow readers closed",
        figure: None,
        unit: Unit::Count,
        less_is_worse: false,
        window: MINUTES_5,
        at_once: false,
        limits: |t| limits::<kind::Number>(&t.slow, t.profile, "0 5 50", "0 5 50"),
        read: |s| {
            s.count(Counter::slow(SlowAction::Close)).map_or(Reading::Unknown, |n| Reading::Of(n as f64))
        },
        promql: "sum(increase(websocket_slow_consumer_total{action=\"close\"}[5m]))",
        link: "/connections?tab=closed&filter=code:4004",
        help: "Readers took nothing for limits.slow_after and were closed: pages that hang, or networks that went away.",
    },
    Rule {
        alert: Alert::Queue,
        title: "Messages queued in clients",
        figure: None,
        unit: Unit::Count,
        less_is_worse: false,
        window: MINUTE,
        at_once: false,
        limits: |t| limits::<kind::Number>(&t.queue, t.profile, "10 50 200", "10 50 200"),
        read: |s| {
            let value = s.quantile(Distribution::CLIENT_QUEUE, 0.95);
            judged(value, s.observed(Distribution::CLIENT_QUEUE), FEW, "reports of clients in a minute")
        },
        promql: "histogram_quantile(0.95, sum by (le) (rate(pulsewire_client_reported_queue_depth_bucket[1m])))",
        link: "/connections?filter=cause:client_busy",
        help: "Clients cannot keep up with what they have received, or cannot send what they have to say.",
    },
    Rule {
        alert: Alert::Store,
        title: "Store",
        figure: None,
        unit: Unit::Count,
        less_is_worse: false,
        window: NOW,
        at_once: true,
        limits: |_| Some(NONE_IS_RIGHT),
        read: |s| s.gauge(|current| u64::from(current.store_degraded)).map_or(Reading::Unknown, Reading::Of),
        promql: "websocket_store_degraded",
        link: "/cluster",
        help: "The store fails: events of log channels are refused. The log and /readyz say why; see the disk or the database.",
    },
    Rule {
        alert: Alert::Files,
        title: "Open files",
        figure: Some("files.share"),
        unit: Unit::Percent,
        less_is_worse: false,
        window: NOW,
        at_once: false,
        limits: |t| limits::<kind::Share>(&t.files, t.profile, "60% 80% 95%", "60% 80% 95%"),
        read: |s| {
            let share = percent(s.process().fds_open, s.process().fds_max);
            share.map_or_else(|| Reading::Quiet(None, "the system names no limit".to_owned()), Reading::Of)
        },
        promql: "100 * process_open_fds / process_max_fds",
        link: "/cluster",
        help: "The limit of open files is near: raise it with ulimit -n or LimitNOFILE and start the server again.",
    },
    Rule {
        alert: Alert::Lag,
        title: "Lag of shards and runtime",
        figure: Some("loop.lag.p95"),
        unit: Unit::Ms,
        less_is_worse: false,
        window: MINUTE,
        at_once: false,
        limits: |t| limits::<kind::Latency>(&t.lag, t.profile, "20ms 100ms 500ms", "20ms 100ms 500ms"),
        read: |s| {
            let of = |which| s.quantile(which, 0.95);
            let value = of(Distribution::SHARDS_LAG)
                .into_iter()
                .chain(of(Distribution::RUNTIME_LAG))
                .reduce(f64::max);
            judged(value, s.observed(Distribution::RUNTIME_LAG), FEW, "measurements")
        },
        promql: "1000 * max(histogram_quantile(0.95, sum by (le, loop) (rate(pulsewire_loop_lag_seconds_bucket[1m]))))",
        link: "/channels?sort=-rate",
        help: "The server's own threads are late: the machine is too busy, or a channel is too much for one core.",
    },
    Rule {
        alert: Alert::Shards,
        title: "Shards that do not answer",
        figure: None,
        unit: Unit::Count,
        less_is_worse: false,
        window: NOW,
        at_once: true,
        limits: |_| Some(NONE_IS_RIGHT),
        read: |s| Reading::Of(f64::from(u8::from(s.current().is_none()))),
        promql: "pulsewire_alert_firing{alert=\"shards\",severity=\"critical\"}",
        link: "/cluster",
        help: "A connection thread does not answer within a second: its clients get nothing. A restart helps; report what the log says before.",
    },
];

/// One is critical.
const NONE_IS_RIGHT: Levels = Levels { target: 0.0, warning: 0.0, critical: 0.0, of_maximum: false };

/// What is set, or what the profile says.
fn limits<M: Measure>(
    set: &Option<Threshold>,
    profile: Profile,
    default: &str,
    seed_001: &str,
) -> Option<Levels> {
    let declared = match profile {
        Profile::Default => default,
        Profile::Seed001 => seed_001,
    };
    set.as_ref().map_or_else(|| Threshold::declared::<M>(declared).levels, |set| set.levels)
}

/// A value, if it is of enough things to be judged.
fn judged(value: Option<f64>, of: Option<u64>, least: u64, what: &str) -> Reading {
    match (value, of.unwrap_or(0)) {
        (Some(value), of) if of >= least => Reading::Of(value),
        (value, of) => Reading::Quiet(value, format!("{of} {what}; judged from {least} on")),
    }
}

/// The share of `part` in `part` and `rest`.
fn share(step: &Step<'_>, part: Counter, rest: Counter, least: u64, what: &str) -> Reading {
    let of = step.count(part).zip(step.count(rest)).map(|(part, rest)| part + rest);
    judged(step.share(part, rest), of, least, what)
}

/// Ruling C17: clients that come back are trouble only if they do not stay. Connections opened over those closed, as
/// document 001 has it, would say how the node grows.
fn reconnections(step: &Step<'_>) -> Reading {
    let value = step.share_of(Counter::RECONNECTIONS, OPENED);
    let found = judged(value, step.count(OPENED), FEW, "connections opened in 5 minutes");
    match step.quantile(Distribution::DURATION, 0.5) {
        Some(seconds) if seconds < 60.0 => found,
        _ if matches!(found, Reading::Quiet(..)) => found,
        _ => Reading::Quiet(value, "judged only while the median connection ends within a minute".to_owned()),
    }
}
