//! Document 003's best practices, as alerts.

use super::query::{
    IN_JOB, JOB, PERCENT, VALUE, increase, increase_over, number, of_one, quantile_above, rate, rate_over,
};
use super::{Alert, File, Group, Rule, Severity, alert};
use crate::Pack;

pub(super) fn file(pack: &Pack) -> File {
    let rules = [Some(reconnections(pack)), latency(pack), fallback(pack), failures(pack), queue(pack)];
    let rules = rules.into_iter().flatten().map(|alert| {
        let alert = Alert { component: "collaboration", ..alert };
        Rule::from(alert)
    });
    File {
        name: "collaboration",
        about: "Alerts about collaboration runs: document 003.",
        groups: vec![Group { name: "collaboration-alerts", interval: "30s", rules: rules.collect() }],
    }
}

fn reconnections(pack: &Pack) -> Alert {
    let prefix = &pack.alias_prefix;
    let back = format!("{} * 60", rate(&format!("{prefix}_reconnections_total")));
    Alert {
        expr: format!(
            "{back} > 10\nunless\n  {back}\n  < 0.02 * sum by ({JOB}) ({prefix}_active_connections)"
        ),
        hold: "5m",
        summary: format!("Clients of {IN_JOB} reconnect often"),
        description: format!("{VALUE} reconnections a minute (limit 10)."),
        why: "Document 003's limit, unless it is less than 2 % of the connections a minute.",
        when: "more than 10 clients reconnect a minute, and more than 2 % of those that are connected"
            .to_owned(),
        from: "document 003; the 2 % are ours",
        ..alert(pack, "CollaborationHighReconnectionRate", Severity::Warning, "churn")
    }
}

fn latency(pack: &Pack) -> Option<Alert> {
    let limit = pack.limits.latency?.critical;
    let family = format!("{}_message_latency", pack.alias_prefix);
    let milliseconds = number(limit);
    Some(Alert {
        expr: quantile_above(0.95, &family, "", &number(limit / 1000.0), 10),
        hold: "5m",
        summary: format!("Messages between clients of {IN_JOB} are slow"),
        description: format!("p95 from client to client is {VALUE} s (limit {milliseconds} ms)."),
        when: format!(
            "p95 from a client's publishing to another's receipt is over {milliseconds} ms, of at least 10 in 5 minutes"
        ),
        from: "critical of `thresholds.latency` (document 003); the 10 are ours",
        ..alert(pack, "CollaborationHighLatency", Severity::Warning, "latency")
    })
}

fn fallback(pack: &Pack) -> Option<Alert> {
    let limit = pack.limits.fallback?.warning;
    let fallen = format!("{}_fallback_http_total", pack.alias_prefix);
    let part = rate_over(&fallen, "15m");
    let began = rate_over(&format!("{}_connections_total", pack.alias_prefix), "15m");
    let some = increase_over(&fallen, "15m");
    Some(Alert {
        expr: format!("{part}\n/ ({part} + {began} > 0)\n> {}\nand {some} >= 3", of_one(limit)),
        hold: "5m",
        summary: format!("Clients of {IN_JOB} fall back to HTTP"),
        description: format!(
            "{PERCENT} of the sessions of 15 minutes fell back (limit {} %).",
            number(limit)
        ),
        why: "Of sessions, not of requests: a client that polls asks every two seconds.",
        when: format!(
            "more than {} % of the sessions fall back to HTTP, and at least 3, in 15 minutes",
            number(limit)
        ),
        from: "`thresholds.fallback` (document 003); the 3 are ours",
        ..alert(pack, "CollaborationHttpFallback", Severity::Warning, "fallback")
    })
}

fn failures(pack: &Pack) -> Option<Alert> {
    let limit = pack.limits.failures?.warning;
    let failed = format!("{}_message_failures_total", pack.alias_prefix);
    let part = rate(&failed);
    let sent = rate(&format!("{}_messages_out_total", pack.alias_prefix));
    Some(Alert {
        expr: format!("{part}\n/ ({part} + {sent} > 0)\n> {}\nand {} >= 3", of_one(limit), increase(&failed)),
        hold: "5m",
        summary: format!("Messages of {IN_JOB} do not reach their subscribers"),
        description: format!("{PERCENT} of the messages of 5 minutes failed (limit {} %).", number(limit)),
        why: "The whole has the failures in it, as in the server's own rule.",
        when: format!(
            "more than {} % of the messages do not reach a live subscriber, and at least 3, in 5 minutes",
            number(limit)
        ),
        from: "`thresholds.failures` (document 003); the 3 are ours",
        ..alert(pack, "CollaborationMessageFailures", Severity::Warning, "delivery")
    })
}

fn queue(pack: &Pack) -> Option<Alert> {
    let limit = number(pack.limits.queue?.warning);
    Some(Alert {
        expr: quantile_above(0.95, "pulsewire_client_reported_queue_depth", "", &limit, 10),
        hold: "2m",
        summary: format!("Messages wait in clients of {IN_JOB}"),
        description: format!("p95 of the messages that wait in a client is {VALUE} (limit {limit})."),
        why: "Clients say in their reports how much waits in them.",
        when: format!(
            "p95 of the messages that wait in clients is over {limit}, of at least 10 reports in 5 minutes"
        ),
        from: "`thresholds.queue` (document 003); the 10 are ours",
        ..alert(pack, "CollaborationClientQueueLong", Severity::Warning, "client_queue")
    })
}
