//! The alerts of documents 000, 001 and 004 about clients' connections and what they are sent.

use super::query::{
    IN_JOB, JOB, PERCENT, VALUE, increase, increase_over, number, of_one, rate, rate_over, share,
};
use super::{Alert, File, Group, Pair, Rule, Severity, alert, latency, sessions};
use crate::Pack;

pub(super) fn file(pack: &Pack) -> File {
    let parts = [
        events(pack),
        latency::rules(pack),
        sessions::rules(pack),
        heartbeats(pack),
        authentications(pack),
        messages(pack),
    ];
    File {
        name: "alerts",
        about: "Alerts about clients' connections: documents 000, 001 and 004, corrected, and what they leave out. \
                A critical alert mutes the warnings of the same `condition` (see deploy/alertmanager).",
        groups: vec![Group {
            name: "websocket_alerts",
            interval: "30s",
            rules: parts.into_iter().flatten().collect(),
        }],
    }
}

fn events(pack: &Pack) -> Vec<Rule> {
    let errors = rate("websocket_event_errors_total");
    let received = rate("websocket_events_received_total");
    let high = Alert {
        expr: format!("{errors} > 0.1\nunless\n  {errors}\n  < 0.001 * {received}"),
        hold: "2m",
        summary: format!("Events of clients fail in {IN_JOB}"),
        description: format!("{VALUE} events a second fail (limit 0.1)."),
        why: "Document 000's limit, unless it is less than 0.1 % of the events: of 10,000 a second 0.1 are nothing.",
        when: "more than 0.1 events of clients fail a second, and more than 0.1 % of them".to_owned(),
        from: "document 000; the 0.1 % is ours",
        ..alert(pack, "WebSocketHighErrorRate", Severity::Warning, "event_errors")
    };
    let errors = rate_over("websocket_event_errors_total", "10m");
    let received = rate_over("websocket_events_received_total", "10m");
    let failed = increase_over("websocket_event_errors_total", "10m");
    let failing = Alert {
        expr: format!("{}\n> 0.05\nand {failed} >= 3", share(&errors, &received)),
        hold: "2m",
        summary: format!("Events of clients fail in {IN_JOB}"),
        description: format!("{PERCENT} of the events of 10 minutes failed (limit 5 %)."),
        why: "A quiet server on which everything fails never reaches document 000's 0.1 a second.",
        when: "more than 5 % of the events of clients fail, and at least 3, in 10 minutes".to_owned(),
        from: "ours",
        ..alert(pack, "WebSocketEventsFailing", Severity::Warning, "event_errors")
    };
    vec![high.into(), failing.into()]
}

fn heartbeats(pack: &Pack) -> Vec<Rule> {
    let Some(levels) = pack.limits.heartbeats else { return Vec::new() };
    let pair = Pair {
        pack,
        names: ["HighHeartbeatTimeouts", "CriticalHeartbeatTimeouts"],
        holds: ["5m", "2m"],
        condition: "heartbeat",
        why: "Document 001 compares timeouts a second with 0.01 and calls it 1 %; here it is the share of pings.",
        from: "`thresholds.heartbeats` (document 001); the 3 are ours",
    };
    let part = rate("websocket_heartbeat_timeouts_total");
    let share = share(&part, &rate("websocket_heartbeats_sent_total"));
    let some = increase("websocket_heartbeat_timeouts_total");
    let rules = pair.alerts([levels.warning, levels.critical], |alert, limit| Alert {
        expr: format!("{share}\n> {}\nand {some} >= 3", of_one(limit)),
        summary: format!("Clients of {IN_JOB} do not answer pings"),
        description: format!(
            "{PERCENT} of the pings of 5 minutes were not answered (limit {} %).",
            number(limit)
        ),
        when: format!(
            "more than {} % of the pings are not answered, and at least 3, in 5 minutes",
            number(limit)
        ),
        ..alert
    });
    rules.into()
}

fn authentications(pack: &Pack) -> Vec<Rule> {
    let Some(levels) = pack.limits.auth else { return Vec::new() };
    let pair = Pair {
        pack,
        names: ["HighAuthenticationFailures", "CriticalAuthenticationFailures"],
        holds: ["5m", "5m"],
        condition: "auth",
        why: "Document 001 compares failures a second and reason with 0.05 and calls it 5 %; here it is the share of all \
              authentications. Those of HTTP requests count, too, so connections opened would be the wrong whole.",
        from: "`thresholds.auth` (document 001); the 5 are ours",
    };
    let part = rate("websocket_auth_failures_total");
    let share = share(&part, &rate("pulsewire_auth_total"));
    let some = increase("websocket_auth_failures_total");
    let rules = pair.alerts([levels.warning, levels.critical], |alert, limit| Alert {
        expr: format!("{share}\n> {}\nand {some} >= 5", of_one(limit)),
        summary: format!("Authentications fail in {IN_JOB}"),
        description: format!(
            "{PERCENT} of the authentications of 5 minutes failed (limit {} %).",
            number(limit)
        ),
        when: format!(
            "more than {} % of all authentications fail, and at least 5, in 5 minutes",
            number(limit)
        ),
        ..alert
    });
    rules.into()
}

fn messages(pack: &Pack) -> Vec<Rule> {
    let errors = rate("websocket_message_errors_total");
    let some = increase("websocket_message_errors_total");
    let errors = Alert {
        expr: format!("{}\n> 0.01\nand {some} >= 5", share(&errors, &rate("websocket_messages_total"))),
        hold: "5m",
        summary: format!("Messages cannot be read, used or written in {IN_JOB}"),
        description: format!("{PERCENT} of the messages of 5 minutes (limit 1 %)."),
        why: "Document 001 asks to watch parsing errors and names no limit.",
        when: "more than 1 % of the messages cannot be read, used or written, and at least 5, in 5 minutes"
            .to_owned(),
        from: "ours",
        ..alert(pack, "HighMessageErrors", Severity::Warning, "message_errors")
    };
    [Some(errors.into()), dropped(pack), slow(pack)].into_iter().flatten().collect()
}

/// Document 004's server drops what is over a client's limit, without a word.
fn dropped(pack: &Pack) -> Option<Rule> {
    let limit = pack.limits.drops?.warning;
    let by_reason =
        |function| format!("sum by ({JOB}, reason) ({function}(websocket_messages_dropped_total[5m]))");
    let alert = Alert {
        expr: format!(
            "{}\n> on (cluster, namespace, job) group_left ()\n  {} * {}\nand {} >= 10",
            by_reason("rate"),
            of_one(limit),
            rate("websocket_messages_total"),
            by_reason("increase"),
        ),
        hold: "5m",
        summary: format!("Messages are dropped in {IN_JOB} ({{{{ $labels.reason }}}})"),
        description: format!("{VALUE} messages a second, more than {} % of all.", number(limit)),
        why: "Document 004 drops what is over a limit; so does a queue that is full. Never without a word.",
        when: format!(
            "more messages than {} % of all are dropped for one reason, and at least 10, in 5 minutes",
            number(limit)
        ),
        from: "`thresholds.drops`; the 10 are ours",
        ..alert(pack, "WebSocketMessagesDropped", Severity::Warning, "dropped")
    };
    Some(alert.into())
}

fn slow(pack: &Pack) -> Option<Rule> {
    let limit = number(pack.limits.slow?.warning);
    let closed = increase("websocket_slow_consumer_total{action=\"close\"}");
    let alert = Alert {
        expr: format!("{closed} > {limit}"),
        hold: "1m",
        summary: format!("Slow readers are closed in {IN_JOB}"),
        description: format!(
            "{VALUE} clients took nothing and were closed within 5 minutes (limit {limit})."
        ),
        when: format!("more than {limit} readers are closed in 5 minutes because they took nothing"),
        from: "`thresholds.slow`",
        ..alert(pack, "WebSocketSlowReadersClosed", Severity::Warning, "slow_readers")
    };
    Some(alert.into())
}
