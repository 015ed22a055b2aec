//! Rules as the API shows them.

use pulsewire_telemetry::Severity;
use serde_json::{Map, Value, json};

use super::judge::{Found, State};
use super::rules::Rule;
use crate::http::health::iso;
use crate::settings::Thresholds;

/// A tile of the overview.
#[must_use]
pub fn tile(rule: &Rule, found: &Found) -> Value {
    json!({
        "id": rule.alert.as_str(),
        "title": rule.title,
        "figure": rule.figure,
        "value": value(found),
        "unit": rule.unit,
        "state": found.level.as_str(),
        "direction": direction(rule),
        "target": found.levels.map(|levels| rounded(levels.target)),
        "warning": found.levels.map(|levels| rounded(levels.warning)),
        "critical": found.levels.map(|levels| rounded(levels.critical)),
        "since": moment(found.level_since_ms),
        "windowSeconds": rule.window.as_secs(),
        "note": found.note,
    })
}

/// The little that health says of a rule.
#[must_use]
pub fn compact(rule: &Rule, found: &Found) -> Value {
    json!({
        "id": rule.alert.as_str(),
        "state": found.level.as_str(),
        "value": value(found),
        "unit": rule.unit,
        "warning": found.levels.map(|levels| rounded(levels.warning)),
        "critical": found.levels.map(|levels| rounded(levels.critical)),
    })
}

/// A row of the alerts.
#[must_use]
pub fn alert(rule: &Rule, found: &Found, thresholds: &Thresholds, now_ms: i64) -> Map<String, Value> {
    let hold = if rule.at_once { 0 } else { thresholds.hold.as_secs() };
    let for_ms = found.state.severity().map_or(0, |_| now_ms.saturating_sub(found.state_since_ms).max(0));
    let (state, severity) = match found.state {
        State::Inactive => ("inactive", None),
        State::Pending(severity) => ("pending", Some(severity)),
        State::Firing(severity) => ("firing", Some(severity)),
    };
    let episode = |episode: &super::judge::Episode| {
        json!({
            "from": iso(episode.from_ms),
            "to": episode.to_ms.map(iso),
            "state": episode.severity.as_str(),
        })
    };
    let Value::Object(mut row) = tile(rule, found) else { return Map::new() };
    let row_state = json!({
        "state": state,
        "severity": severity.map_or("none", Severity::as_str),
        "level": found.level.as_str(),
        "limit": found.limit().map(rounded),
        "holdSeconds": hold,
        "pendingSeconds": found.pending_ms / 1_000,
        "since": moment(found.state_since_ms),
        "forSeconds": for_ms / 1_000,
        "history": found.episodes.iter().map(episode).collect::<Vec<_>>(),
        "expression": expression(rule, found),
        "silencedUntil": found.silenced_until_ms.filter(|until_ms| *until_ms > now_ms).map(iso),
        "help": rule.help,
        "link": rule.link,
    });
    if let Value::Object(more) = row_state {
        row.extend(more);
    }
    row
}

/// The rule in PromQL, with the limit that counts; `null` if it is off.
fn expression(rule: &Rule, found: &Found) -> Value {
    let beyond = if rule.less_is_worse { "<" } else { ">" };
    found.limit().map_or(Value::Null, |limit| format!("{} {beyond} {}", rule.promql, rounded(limit)).into())
}

const fn direction(rule: &Rule) -> &'static str {
    if rule.less_is_worse { "below" } else { "above" }
}

fn value(found: &Found) -> Option<Value> {
    found.value.map(rounded)
}

/// A moment in Unix milliseconds; `null` before there was any.
fn moment(unix_ms: i64) -> Option<String> {
    (unix_ms > 0).then(|| iso(unix_ms))
}

/// A number with at most three digits behind the point, whole ones without any.
#[must_use]
pub fn rounded(value: f64) -> Value {
    let value = (value * 1e3).round() / 1e3;
    if value.fract() == 0.0 && value.abs() < 1e15 { json!(value as i64) } else { json!(value) }
}
