//! Alerts about how long deliveries take.
//!
//! Documents 000, 001 and 003 each name the 95th percentile of a clock of their own and 500 ms; the alerts keep their
//! names and share a condition, so that the critical one mutes the others.

use super::query::{IN_JOB, VALUE, number, quantile_above};
use super::{Alert, Pair, Rule, Severity, alert};
use crate::Pack;

pub(super) fn rules(pack: &Pack) -> Vec<Rule> {
    let mut rules: Vec<_> = events(pack).into_iter().collect();
    rules.extend(messages(pack));
    rules.extend([initial_state(pack), metrics(pack)]);
    rules
}

fn events(pack: &Pack) -> Option<Rule> {
    let limit = number(pack.limits.latency?.critical);
    let alert = Alert {
        expr: quantile_above(0.95, "websocket_event_latency_milliseconds", "", &limit, 10),
        hold: "5m",
        summary: format!("Events leave {IN_JOB} late"),
        description: format!("p95 from acceptance to the kernel is {VALUE} ms (limit {limit} ms)."),
        why: "Document 000. Its limit is document 001's critical one.",
        when: format!(
            "p95 from acceptance to the kernel is over {limit} ms, of at least 10 deliveries in 5 minutes"
        ),
        from: "critical of `thresholds.latency` (document 000); the 10 are ours",
        ..alert(pack, "WebSocketHighLatency", Severity::Warning, "latency")
    };
    Some(alert.into())
}

fn messages(pack: &Pack) -> Vec<Rule> {
    let Some(levels) = pack.limits.latency else { return Vec::new() };
    let pair = Pair {
        pack,
        names: ["HighWebSocketLatency", "CriticalWebSocketLatency"],
        holds: ["5m", "2m"],
        condition: "latency",
        why: "Document 001, over all event types and servers: without the sum by `le` one slow event of a rare type pages.",
        from: "`thresholds.latency` (document 001); the 10 are ours",
    };
    let rules = pair.alerts([levels.warning, levels.critical], |alert, limit| {
        let limit = number(limit);
        Alert {
            expr: quantile_above(0.95, "websocket_message_latency_milliseconds", "", &limit, 10),
            summary: format!("Messages reach clients of {IN_JOB} late"),
            description: format!("p95 from acceptance to receipt is {VALUE} ms (limit {limit} ms)."),
            when: format!(
                "p95 from acceptance to receipt is over {limit} ms, of at least 10 receipts in 5 minutes"
            ),
            ..alert
        }
    });
    rules.into()
}

fn initial_state(pack: &Pack) -> Rule {
    let family = "websocket_initial_state_latency_milliseconds";
    let alert = Alert {
        expr: quantile_above(0.9, family, "", "1000", 5),
        hold: "5m",
        summary: format!("Clients of {IN_JOB} wait for their initial state"),
        description: format!("p90 of reading and sending it is {VALUE} ms (limit 1000 ms)."),
        when: "p90 of reading and sending the initial state is over 1000 ms, of at least 5 in 5 minutes"
            .to_owned(),
        from: "document 000; the 5 are ours",
        ..alert(pack, "WebSocketSlowInitialState", Severity::Warning, "initial_state")
    };
    alert.into()
}

fn metrics(pack: &Pack) -> Rule {
    let labels = "{event_type=\"metric\"}";
    let alert = Alert {
        expr: quantile_above(0.95, "websocket_event_latency_milliseconds", labels, "10", 100),
        hold: "10m",
        component: "streaming",
        summary: format!("Values of metric channels leave {IN_JOB} late"),
        description: format!("p95 from acceptance to the kernel is {VALUE} ms (target 10 ms)."),
        why: "Document 004's target for deliveries. It is a bound of the histogram, so the comparison is exact.",
        when: "p95 of values of metric channels is over 10 ms, of at least 100 deliveries in 5 minutes"
            .to_owned(),
        from: "document 004; the 100 are ours",
        ..alert(pack, "MetricsStreamDeliverySlow", Severity::Info, "stream_latency")
    };
    alert.into()
}
