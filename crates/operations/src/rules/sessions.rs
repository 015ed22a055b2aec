//! Alerts about how many connections there are, how long they last and what they take.

use super::query::{
    IN_JOB, INSTANCE, JOB, PERCENT, SERVER, VALUE, increase, number, of_one, quantile, rate, share,
};
use super::{Alert, Pair, Rule, Severity, alert};
use crate::{Levels, Pack};

const CLOSED: &str = "websocket_connections_total{status=\"closed\"}";
const OPENED: &str = "websocket_connections_total{status=\"opened\"}";

pub(super) fn rules(pack: &Pack) -> Vec<Rule> {
    let mut rules = vec![dropped(pack), lost(pack)];
    rules.extend(pack.limits.connections.into_iter().flat_map(|levels| crowd(pack, levels)));
    rules.extend(pack.limits.duration.into_iter().flat_map(|levels| churn(pack, levels)));
    rules.extend(pack.limits.duration.into_iter().flat_map(|levels| short(pack, levels)));
    rules.extend(reconnects(pack));
    rules.extend(pack.limits.memory.into_iter().flat_map(|levels| memory(pack, levels)));
    rules
}

fn dropped(pack: &Pack) -> Rule {
    let ended = "websocket_disconnections_total";
    let alert = Alert {
        expr: format!(
            "{}\n> 1.5 * {}\nand\n  {}\n  > clamp_min(0.1 * sum by ({JOB}) (websocket_active_connections offset 5m), 20)",
            rate(ended),
            rate(OPENED),
            increase(ended),
        ),
        hold: "3m",
        summary: format!("Connections of {IN_JOB} drop"),
        description: format!("{VALUE} connections end a second, over 1.5 times as many as begin."),
        why: "Document 000. As written it compares series with different labels and never fires; over one minute a drop \
              is forgotten before the three minutes are over. Over all servers, so that a rolling update is none.",
        when: "1.5 times as many connections end as begin, and over 10 % of them, and over 20, in 5 minutes"
            .to_owned(),
        from: "document 000; the 10 % and the 20 are ours",
        ..alert(pack, "WebSocketConnectionDrop", Severity::Critical, "connection_drop")
    };
    alert.into()
}

fn lost(pack: &Pack) -> Rule {
    let now = format!("sum by ({JOB}) (websocket_active_connections)");
    let before = format!("sum by ({JOB}) (websocket_active_connections offset 10m)");
    let alert = Alert {
        expr: format!("({now}\n  or {before} * 0)\n< 0.5 * {before}\nand {before} >= 50"),
        hold: "2m",
        summary: format!("More than half of the connections of {IN_JOB} are gone"),
        description: format!("{VALUE} connections now, less than half of those ten minutes ago."),
        why: "A server that crashes counts no disconnections, and leaves no series at all.",
        when: "less than half of the connections of ten minutes ago are left, of at least 50".to_owned(),
        from: "ours",
        ..alert(pack, "WebSocketConnectionsLost", Severity::Critical, "connection_drop")
    };
    alert.into()
}

/// Ruling C8: shares of what the server exports as its limits, or document 001's numbers.
fn crowd(pack: &Pack, levels: Levels) -> Vec<Rule> {
    let pair = Pair {
        pack,
        names: ["HighWebSocketConnections", "CriticalWebSocketConnections"],
        holds: ["5m", "2m"],
        condition: "connection_count",
        why: "Document 001 says 500 and 1000, whatever a server can take. A server's own limits are in its metrics.",
        from: "`thresholds.connections`, `limits.connections_soft` (document 001: `thresholds.profile = \"seed-001\"`)",
    };
    let active = format!("sum by ({INSTANCE}) (websocket_active_connections)");
    let of = |limit: &str| format!("max by ({INSTANCE}) (websocket_connections_{limit})");
    let rules = pair.alerts([levels.warning, levels.critical], |alert, limit| {
        let hard = format!("{active}\n> {} * {}", of_one(limit), of("hard_limit"));
        let (expr, when) = match (levels.of_maximum, alert.severity) {
            (false, _) => (
                format!("{active} > {}", number(limit)),
                format!("a server has more than {} connections", number(limit)),
            ),
            (true, Severity::Warning) => (
                format!(
                    "{active}\n> {} * {}\nor\n{active}\n> {}",
                    of_one(limit),
                    of("limit"),
                    of("soft_limit")
                ),
                format!(
                    "a server has more than {} % of the connections it takes, or more than its soft limit",
                    number(limit)
                ),
            ),
            (true, _) => {
                (hard, format!("a server has more than {} % of the connections it takes", number(limit)))
            }
        };
        let summary = format!("{SERVER} has many connections");
        Alert { expr, when, summary, description: format!("{VALUE} connections."), ..alert }
    });
    rules.into()
}

/// Document 001's closes a second, scaled by the connections there are.
fn churn(pack: &Pack, levels: Levels) -> Vec<Rule> {
    let pair = Pair {
        pack,
        names: ["HighConnectionChurn", "CriticalConnectionChurn"],
        holds: ["10m", "5m"],
        condition: "churn",
        why: "Document 001's one close a second is healthy where there are thousands of connections. By Little's law the \
              mean session is connections / closes a second; a product, so that none at all needs no division.",
        from: "document 001's 1/s and `thresholds.duration`",
    };
    let closed = rate(CLOSED);
    let rules = pair.alerts([levels.warning, levels.critical], |alert, limit| {
        let limit = number(limit);
        Alert {
            expr: format!(
                "{closed} * {limit}\n> sum by ({JOB}) (avg_over_time(websocket_active_connections[5m]))\nand {closed} > 1"
            ),
            summary: format!("Clients of {IN_JOB} come and go"),
            description: format!(
                "{VALUE} connections end in {limit} s, more than there are: the mean session is shorter than that."
            ),
            when: format!("more than 1 connection ends a second, and the mean session is shorter than {limit} s"),
            ..alert
        }
    });
    rules.into()
}

fn short(pack: &Pack, levels: Levels) -> Vec<Rule> {
    let pair = Pair {
        pack,
        names: ["ShortWebSocketSessions", "CriticalShortWebSocketSessions"],
        holds: ["5m", "5m"],
        condition: "churn",
        why: "Document 001's table. The median sees only connections that ended: behind one probe a second, ten thousand \
              healthy ones would stay unseen, so those that ended must be a tenth of those that are there.",
        from: "`thresholds.duration` (document 001); the 20 and the tenth are ours",
    };
    let ended = increase(CLOSED);
    let median = quantile(0.5, "websocket_connection_duration_seconds", "");
    let rules = pair.alerts([levels.warning, levels.critical], |alert, limit| {
        let limit = number(limit);
        Alert {
            expr: format!(
                "{median} < {limit}\nand {ended} >= 20\nand {ended}\n  > 0.1 * sum by ({JOB}) (websocket_active_connections)"
            ),
            summary: format!("Sessions of {IN_JOB} are short"),
            description: format!("Half of the connections that end lasted less than {VALUE} s (limit {limit} s)."),
            when: format!(
                "the median connection that ends lasted less than {limit} s, of at least 20 in 5 minutes and a tenth of all"
            ),
            ..alert
        }
    });
    rules.into()
}

/// Ruling C17.
fn reconnects(pack: &Pack) -> Option<Rule> {
    let limit = pack.limits.reconnects?.warning;
    let back = rate("websocket_reconnections_total");
    let alert = Alert {
        expr: format!(
            "{}\n> {}\nand {} < 60\nand {} >= 10",
            share(&back, &rate(OPENED)),
            of_one(limit),
            quantile(0.5, "websocket_connection_duration_seconds", ""),
            increase("websocket_reconnections_total"),
        ),
        hold: "5m",
        summary: format!("Clients of {IN_JOB} reconnect in a loop"),
        description: format!(
            "{PERCENT} of the connections opened are of clients that come back (limit {} %).",
            number(limit)
        ),
        why: "Document 001 compares connections opened with closed, which says how a server grows: in a loop the two are \
              the same.",
        when: format!(
            "more than {} % of the connections opened are reconnections, at least 10 in 5 minutes, and the median lasts \
             less than a minute",
            number(limit)
        ),
        from: "`thresholds.reconnects`; the 10 are ours",
        ..alert(pack, "WebSocketReconnectLoop", Severity::Warning, "churn")
    };
    Some(alert.into())
}

fn memory(pack: &Pack, levels: Levels) -> Vec<Rule> {
    let pair = Pair {
        pack,
        names: ["HighMemoryPerConnection", "CriticalMemoryPerConnection"],
        holds: ["10m", "5m"],
        condition: "memory",
        why: "Document 001's table. On an idle server its query divides by nothing.",
        from: "`thresholds.memory` (document 001); the 20 are the server's own",
    };
    let bytes = format!("sum by ({INSTANCE}) (websocket_memory_usage_bytes)");
    let active = format!("sum by ({INSTANCE}) (websocket_active_connections)");
    let rules = pair.alerts([levels.warning, levels.critical], |alert, limit| {
        let limit = number(limit);
        Alert {
            expr: format!("{bytes}\n/ ({active} >= 20)\n> {limit}"),
            summary: format!("{SERVER} needs much memory for a connection"),
            description: format!("{{{{ $value | humanize1024 }}}}B a connection (limit {limit} B)."),
            when: format!("a server with at least 20 connections has more than {limit} bytes for each"),
            ..alert
        }
    });
    rules.into()
}
