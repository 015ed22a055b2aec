//! Messages in a few words.

use serde_json::Value;

/// The texts of a list.
pub fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(|text| text.as_str().map(Into::into)).collect()
}

/// A message in a few words, for scenarios.
pub fn short(value: &Value) -> String {
    let field = |name: &str| match &value[name] {
        Value::Null => String::new(),
        Value::String(text) => format!(" {text}"),
        other => format!(" {other}"),
    };
    let kind = value["type"].as_str().unwrap_or("values");
    match kind {
        "event" => format!("event{}{}", field("channel"), field("sequence")),
        "error" => format!("error{}", field("code")),
        "gap" => format!("gap{}{}{}", field("channel"), field("from"), field("to")),
        "subscribed" | "unsubscribed" => {
            let mut line = format!("{kind} {}", texts(&value["channels"]).join(","));
            if let Some(positions) = value["positions"].as_object() {
                for position in positions.values() {
                    line.push_str(&format!(" @{}", position["sequence"]));
                }
            }
            line
        }
        "state" => {
            let keys: Vec<&str> = value["values"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|value| value["key"].as_str())
                .collect();
            let more = if value["more"] == true { " more" } else { "" };
            format!("state{}{} {}{more}", field("channel"), field("sequence"), keys.join(","))
        }
        "stale" => format!("stale{}", field("channel")),
        "pos" | "replay_end" | "reset" => format!("{kind}{}{}", field("channel"), field("sequence")),
        "dropped" => format!("{kind}{}{}", field("channel"), field("count")),
        "connected" => format!("connected{}", if value["resumed"] == true { " resumed" } else { "" }),
        "ack" => match value["results"].as_array() {
            Some(results) => {
                let parts: Vec<String> = results.iter().map(|one| one["sequence"].to_string()).collect();
                format!("ack {}", parts.join(","))
            }
            None => {
                let again = if value["duplicate"] == true { " duplicate" } else { "" };
                format!("ack{}{again}", field("sequence"))
            }
        },
        "welcome" | "ping" | "pong" | "refreshed" | "token_expiring" | "reconnect" | "history" => kind.into(),
        "presence" => {
            let users = |key: &str, sign: &str| -> String {
                let name = |user: &Value| user["user"].as_str().or(user.as_str()).unwrap_or("?").to_owned();
                let list = value[key].as_array().into_iter().flatten();
                list.map(|user| format!(" {sign}{}", name(user))).collect()
            };
            let all = |key: &str, sign: &str| -> String {
                let map = value[key].as_object().into_iter().flatten();
                map.map(|(user, value)| format!(" {user}{sign}{value}")).collect()
            };
            let (members, joined, left) = (users("members", ""), users("joined", "+"), users("left", "-"));
            let (sessions, cursors) = (all("sessions", "="), all("cursors", "@"));
            let is = if value["members"].is_array() { ":" } else { "" };
            format!("presence{}{is}{members}{joined}{left}{sessions}{cursors}", field("channel"))
        }
        _ => format!("values{}{}{}", field("channel"), field("n"), field("value")),
    }
}
