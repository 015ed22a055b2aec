//! Objectives, and how fast their error budgets burn.
//!
//! An alert of each of four pairs of windows: the long one says that it matters, the short one that it still goes on.

use super::query::{IN_JOB, PERCENT, number, rate_over};
use super::{Alert, File, Group, Rule, Severity, alert, record};
use crate::Pack;

/// Something that is to go well, nearly always.
struct Objective {
    /// The part of the recorded series' names.
    name: &'static str,
    alert: &'static str,
    condition: &'static str,
    /// What may go wrong, as a share.
    budget: f64,
    /// What went wrong, for a text: "of the events …".
    wrong: &'static str,
    from: &'static str,
    why: &'static str,
    /// Whether a fast burn is critical.
    pages: bool,
    /// The share of what went wrong, over a range.
    errors: fn(&str) -> String,
}

/// How fast a budget burns: the long and the short window, how many times too fast, and how long it must be so.
const BURNS: [(&str, &str, f64, &str); 4] =
    [("1h", "5m", 14.4, "2m"), ("6h", "30m", 6.0, "15m"), ("1d", "2h", 3.0, "1h"), ("3d", "6h", 1.0, "3h")];
const RANGES: [&str; 7] = ["5m", "30m", "1h", "2h", "6h", "1d", "3d"];

static OBJECTIVES: [Objective; 3] = [
    Objective {
        name: "slo_delivery_errors",
        alert: "WebSocketDeliveryBudgetBurn",
        condition: "slo_delivery",
        budget: 0.001,
        wrong: "of the deliveries took over 500 ms",
        from: "500 ms: documents 000, 001, 003; 99.9 % and the windows are ours",
        why: "99.9 % of the deliveries reach the kernel within 500 ms.",
        pages: true,
        errors: |range| slower("500", range),
    },
    Objective {
        name: "slo_fast_delivery_errors",
        alert: "WebSocketFastDeliveryBudgetBurn",
        condition: "slo_fast_delivery",
        budget: 0.01,
        wrong: "of the deliveries took over 10 ms",
        from: "10 ms: document 004; 99 % and the windows are ours",
        why: "99 % of the deliveries reach the kernel within document 004's 10 ms: a target, so nobody is woken for it.",
        pages: false,
        errors: |range| slower("10", range),
    },
    Objective {
        name: "slo_availability_errors",
        alert: "WebSocketAvailabilityBudgetBurn",
        condition: "slo_availability",
        budget: 0.001,
        wrong: "of the connection attempts and publications were refused for the server's own reasons",
        from: "ours",
        why: "99.9 % of what is asked is not refused for the server's own reasons: full, overloaded, or a store that fails.",
        pages: true,
        errors: unavailable,
    },
];

pub(super) fn file(pack: &Pack) -> File {
    let recorded = OBJECTIVES.iter().flat_map(recorded).collect();
    let alerts = OBJECTIVES.iter().flat_map(|objective| alerts(pack, objective)).collect();
    File {
        name: "slo",
        about: "Objectives and how fast their error budgets of 30 days burn. `le=~\"500(\\\\.0)?\"`: Prometheus 3 keeps \
                500 as 500.0.",
        groups: vec![
            Group { name: "websocket-slo-recording", interval: "30s", rules: recorded },
            Group { name: "websocket-slo-alerts", interval: "30s", rules: alerts },
        ],
    }
}

fn slower(bound: &str, range: &str) -> String {
    let family = "websocket_event_latency_milliseconds";
    let within = rate_over(&format!("{family}_bucket{{le=~\"{bound}(\\\\.0)?\"}}"), range);
    let all = rate_over(&format!("{family}_count"), range);
    format!("1 - {within}\n  / ({all} > 0)")
}

fn unavailable(range: &str) -> String {
    let refused = rate_over("websocket_rejected_total{reason=~\"connection_limit|overloaded\"}", range);
    let failed = rate_over("pulsewire_publish_total{outcome=~\"failed|unknown\"}", range);
    let attempts = rate_over("websocket_connections_total{status=~\"opened|failed\"}", range);
    let published = rate_over("pulsewire_publish_total", range);
    format!("({refused}\n + {failed})\n/ ({attempts}\n   + {published} > 0)")
}

fn ratio(objective: &Objective, range: &str) -> String {
    format!("job:{}:ratio_rate{range}", objective.name)
}

fn recorded(objective: &'static Objective) -> impl Iterator<Item = Rule> {
    RANGES.into_iter().map(|range| {
        let why = if range == RANGES[0] { objective.why } else { "" };
        record(ratio(objective, range), why, (objective.errors)(range))
    })
}

fn alerts(pack: &Pack, objective: &'static Objective) -> impl Iterator<Item = Rule> {
    BURNS.into_iter().enumerate().map(move |(at, (long, short, times, hold))| {
        let severity = match (objective.pages, at) {
            (true, 0 | 1) => Severity::Critical,
            _ => Severity::Warning,
        };
        let limit = number(times * objective.budget);
        let times = number(times);
        let alert = Alert {
            expr: format!("{} > {limit}\nand {} > {limit}", ratio(objective, long), ratio(objective, short)),
            hold,
            labels: vec![("long", long), ("short", short)],
            summary: format!("{IN_JOB} burns its error budget {times} times too fast"),
            description: format!("{PERCENT} of {long}: that much {}.", objective.wrong),
            when: format!(
                "over {} % {}, over {long} and {short}",
                number(times_percent(&limit)),
                objective.wrong
            ),
            from: objective.from,
            ..alert(pack, objective.alert, severity, objective.condition)
        };
        alert.into()
    })
}

fn times_percent(share: &str) -> f64 {
    share.parse::<f64>().map_or(0.0, |share| share * 100.0)
}
