//! Document 002: upstream streams, and the canary that is compared with the stable servers.
//!
//! Servers of both tracks are scraped with a label `track`, `canary` or `stable`, and share cluster, namespace and job.
//! A server compares settings as well: a share of its own streams runs on the candidate's, its series of these have a
//! label `settings`, and what it thinks of them is `ws_manager_canary_verdict`.

use super::query::{IN_JOB, INSTANCE, JOB, PERCENT, SERVER, VALUE, increase, rate};
use super::{Alert, File, Group, Rule, Severity, alert, record};
use crate::Pack;

const ATTEMPTS: &str = "ws_manager_connect_attempts_total";
const ERRORS: &str = "ws_manager_stream_errors_total";
const RETRIES: &str = "ws_manager_retry_count_total";

pub(super) fn file(pack: &Pack) -> File {
    let alerts = [down(pack), leak(pack), retries(pack), cleanup(pack), failed(pack), circuit(pack)];
    let canary =
        [canary_errors(pack), canary_retries(pack), rollback(pack), verdict_of_canary(pack), verdict(pack)];
    let rules = |alerts: Vec<Alert>| {
        alerts.into_iter().map(|alert| Alert { component: "ws-manager", ..alert }.into()).collect()
    };
    File {
        name: "upstreams",
        about: "Upstream streams: document 002's alerts, derived series and canary. Targets of a canary carry \
                track=\"canary\", the others track=\"stable\".",
        groups: vec![
            Group { name: "ws-manager-recording", interval: "30s", rules: recorded() },
            Group { name: "ws-manager-alerts", interval: "30s", rules: rules(alerts.into()) },
            Group { name: "ws-manager-canary", interval: "15s", rules: rules(canary.into()) },
        ],
    }
}

fn recorded() -> Vec<Rule> {
    let by_track = |series: &str| format!("sum by ({JOB}, track) (rate({series}[5m]))");
    vec![
        record(
            "job:ws_manager_active_connections:sum",
            "",
            format!("sum by ({JOB}) (ws_manager_active_connections)"),
        ),
        record("job:ws_manager_retry_count:rate5m", "", rate(RETRIES)),
        record("job:ws_manager_stream_creations:rate5m", "", rate("ws_manager_stream_creations_total")),
        record("job:ws_manager_stream_cleanups:rate5m", "", rate("ws_manager_stream_cleanups_total")),
        record(
            "track:ws_manager_retries_per_stream:rate5m",
            "Of one stream, so that tracks of different sizes compare.",
            format!(
                "{}\n/ clamp_min(sum by ({JOB}, track) (avg_over_time(ws_manager_active_connections{{track!=\"\"}}[5m])), 1)",
                by_track(&format!("{RETRIES}{{track!=\"\"}}"))
            ),
        ),
        record(
            "track:ws_manager_errors_per_attempt:rate5m",
            "",
            format!(
                "{}\n/ ({} > 0)",
                by_track(&format!("{ERRORS}{{track!=\"\"}}")),
                by_track(&format!("{ATTEMPTS}{{track!=\"\"}}"))
            ),
        ),
    ]
}

fn down(pack: &Pack) -> Alert {
    let up = format!("up{{job=~\"{}\"}}", pack.jobs);
    Alert {
        expr: format!("{up} == 0\nor\nabsent_over_time({up}[2m])"),
        hold: "1m",
        labels: vec![("page", "true")],
        summary: "Metrics cannot be read".to_owned(),
        description: "{{ with $labels.instance }}{{ . }} has not answered for a minute.{{ else }}No server is known to \
                      Prometheus.{{ end }}"
            .to_owned(),
        why: "A target that is gone from discovery has no `up` at all.",
        when: "a server's metrics cannot be read for a minute, or Prometheus knows of no server".to_owned(),
        from: "document 002",
        ..alert(pack, "WSManagerServiceDown", Severity::Critical, "down")
    }
}

fn leak(pack: &Pack) -> Alert {
    let active = format!("sum by ({INSTANCE}) (ws_manager_active_connections)");
    Alert {
        expr: format!(
            "{active}\n> (0.8 * max by ({INSTANCE}) (ws_manager_connections_limit > 0)\n   or {active} * 0 + 100)"
        ),
        hold: "5m",
        summary: format!("{SERVER} holds many upstream streams"),
        description: format!("{VALUE} upstream streams are there, connected or trying."),
        why: "Document 002's 100, or most of what the server allows, if it says how many.",
        when: "a server has more than 80 % of the upstream streams it allows, or more than 100 if it names no limit".to_owned(),
        from: "document 002; the 80 % are ours",
        ..alert(pack, "WSManagerConnectionLeak", Severity::Critical, "stream_leak")
    }
}

fn retries(pack: &Pack) -> Alert {
    Alert {
        expr: format!("sum by ({INSTANCE}) (rate({RETRIES}[5m])) > 0.5"),
        hold: "2m",
        summary: format!("{SERVER} retries upstream streams"),
        description: format!("{VALUE} retries a second (limit 0.5)."),
        when: "a server connects upstream streams once more over 0.5 times a second".to_owned(),
        from: "document 002",
        ..alert(pack, "WSManagerHighRetryRate", Severity::Warning, "retries")
    }
}

/// Ruling C18.
fn cleanup(pack: &Pack) -> Alert {
    Alert {
        expr: format!("max by ({INSTANCE}) (ws_manager_streams_uncleaned) >= 20"),
        hold: "15m",
        summary: format!("{SERVER} does not clean up"),
        description: format!("Of {VALUE} upstream streams that have ended something is left (limit 20)."),
        why: "Streams created less those cleaned up, as one reads document 002, would count every healthy stream.",
        when: "a server has something left of 20 upstream streams that have ended".to_owned(),
        from: "document 002",
        ..alert(pack, "WSManagerCleanupLag", Severity::Warning, "cleanup_lag")
    }
}

fn failed(pack: &Pack) -> Alert {
    Alert {
        expr: format!("sum by ({INSTANCE}) (ws_manager_streams{{state=\"failed\"}}) > 0"),
        hold: "5m",
        summary: format!("{SERVER} has given upstream streams up"),
        description: format!("{VALUE} have failed as often as they may and wait to be restarted."),
        when: "a server has given an upstream stream up (`attempts_max`), and nobody has restarted it"
            .to_owned(),
        from: "ours",
        ..alert(pack, "WSManagerStreamsFailed", Severity::Warning, "streams_failed")
    }
}

fn circuit(pack: &Pack) -> Alert {
    Alert {
        expr: format!("sum by ({INSTANCE}) (max_over_time(ws_manager_streams{{state=\"circuit\"}}[5m])) > 0"),
        hold: "10m",
        summary: format!("{SERVER} does not get through to an upstream"),
        description: format!("{VALUE} streams wait because attempts at their upstream keep failing."),
        why: "The most of five minutes: every half minute one stream tries, and is not among them meanwhile. Retries alone \
              do not tell, for they become rare.",
        when: "the circuit of an upstream has been open again and again for 10 minutes".to_owned(),
        from: "ours",
        ..alert(pack, "WSManagerCircuitOpen", Severity::Warning, "circuit")
    }
}

fn track(series: &str, track: &str) -> String {
    format!("{series}{{track=\"{track}\"}}")
}

/// Errors an attempt of a track.
fn failing(of: &str) -> String {
    format!("{}\n/ ({} > 0)", rate(&track(ERRORS, of)), rate(&track(ATTEMPTS, of)))
}

/// Retries a second and stream of a track.
fn per_stream(of: &str) -> String {
    let streams = track("ws_manager_active_connections", of);
    format!("{}\n/ clamp_min(sum by ({JOB}) (avg_over_time({streams}[5m])), 1)", rate(&track(RETRIES, of)))
}

fn canary_errors(pack: &Pack) -> Alert {
    Alert {
        expr: format!(
            "{}\n> 0.01 + (\n{}\nor {} * 0)\nand {} >= 10",
            failing("canary"),
            failing("stable"),
            rate(&track(ATTEMPTS, "canary")),
            increase(&track(ERRORS, "canary")),
        ),
        hold: "2m",
        labels: vec![("track", "canary")],
        summary: format!("The canary of {IN_JOB} fails more often"),
        description: format!("{PERCENT} of its attempts at upstream streams fail."),
        why: "Document 002's comparison, ruling C19. Where stable attempts nothing, against none failing.",
        when: "the canary fails one of 100 attempts more often than stable does, and at least 10 times in 5 minutes".to_owned(),
        from: "document 002 names the comparison; 1 % and 10 are ours",
        ..alert(pack, "WSManagerCanaryErrorRateHigher", Severity::Warning, "canary")
    }
}

fn canary_retries(pack: &Pack) -> Alert {
    Alert {
        expr: format!(
            "{}\n> 1.5 * clamp_min(\n{}, 0.01)\nand {} >= 5",
            per_stream("canary"),
            per_stream("stable"),
            increase(&track(RETRIES, "canary")),
        ),
        hold: "2m",
        labels: vec![("track", "canary")],
        summary: format!("The canary of {IN_JOB} retries more often"),
        description: format!("{VALUE} retries a second and stream, over 1.5 times those of stable."),
        why: "Of one stream: a canary has a tenth of them. Against at least 0.01 a second, so that one retry against a \
              clean stable is nothing.",
        when: "the canary retries 1.5 times as often as stable, for each stream, and at least 5 times in 5 minutes".to_owned(),
        from: "document 002; 0.01 and 5 are ours",
        ..alert(pack, "WSManagerCanaryRetryDegraded", Severity::Warning, "canary")
    }
}

fn rollback(pack: &Pack) -> Alert {
    Alert {
        expr: format!(
            "({}\n > 0.05\n and {} >= 5)\nor\nsum by ({JOB}) (up{{track=\"canary\"}}) == 0",
            failing("canary"),
            increase(&track(ERRORS, "canary")),
        ),
        hold: "3m",
        labels: vec![("track", "canary"), ("action", "rollback")],
        summary: format!("Roll the canary of {IN_JOB} back"),
        description: format!("The share of its attempts that fail, or 0 if it is down: {VALUE}."),
        why: "What whoever rolls back acts on.",
        when: "over 5 % of the canary's attempts fail, at least 5 in 5 minutes, or it is down, for 3 minutes"
            .to_owned(),
        from: "document 002's 3 minutes; 5 % and 5 are ours",
        ..alert(pack, "WSManagerCanaryRollback", Severity::Critical, "canary")
    }
}

/// A server says that the candidate's settings are worse, or that it has taken them back.
const WORSE: &str = "verdict=~\"fail|rolled_back\"";

fn verdict_of_canary(pack: &Pack) -> Alert {
    Alert {
        expr: format!("max by ({JOB}) (ws_manager_canary_verdict{{track=\"canary\",{WORSE}}}) == 1"),
        labels: vec![("track", "canary"), ("action", "rollback")],
        summary: format!("Roll the canary of {IN_JOB} back: it says so itself"),
        description: "A server of the canary has found the settings that it tries worse than the others."
            .to_owned(),
        why: "What whoever rolls back acts on. It holds no longer, for the server has waited its three minutes.",
        when: "a server of the canary finds the candidate's settings worse, or has taken them back"
            .to_owned(),
        from: "document 002; the server's own comparison",
        ..alert(pack, "WSManagerCanaryVerdict", Severity::Critical, "canary")
    }
}

fn verdict(pack: &Pack) -> Alert {
    Alert {
        expr: format!("max by ({INSTANCE}, verdict) (ws_manager_canary_verdict{{track!=\"canary\",{WORSE}}}) == 1"),
        summary: format!("{SERVER} finds the candidate's settings worse"),
        description: "Its verdict is {{ $labels.verdict }}; rolled_back: it has taken them back, and nothing is left to be done \
                      at once."
            .to_owned(),
        why: "No canary is scaled away for it: the server serves everybody, and only a share of its streams is worse.",
        when: "any other server finds the candidate's settings worse, or has taken them back".to_owned(),
        from: "document 002; the server's own comparison",
        ..alert(pack, "WSManagerCanaryVerdict", Severity::Warning, "canary")
    }
}
