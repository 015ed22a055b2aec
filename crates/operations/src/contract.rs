//! The metric catalogue as data, for checks in other languages: which names, labels and values there are.

use pulsewire_telemetry::catalog::{self, Family, Kind, Values};
use serde_json::{Value, json};

/// Every family as JSON, a line each: kind, labels with their closed sets, bounds of buckets.
///
/// A label without a closed set has `null`; a family that is no histogram has no bounds.
#[must_use]
pub fn catalogue() -> String {
    let lines: Vec<_> = catalog::families().iter().map(line).collect();
    let note = json!("Written by `cargo xtask generate` from telemetry::catalog; edit that instead.");
    format!("{{\n  \"//\": {note},\n{}\n}}\n", lines.join(",\n"))
}

fn line(family: &Family) -> String {
    let labels: serde_json::Map<_, _> =
        family.labels.iter().map(|label| (label.name.to_owned(), values(label.values))).collect();
    let entry = json!({ "kind": kind(family.kind), "labels": labels, "bounds": family.bounds() });
    format!("  {}: {entry}", json!(family.name))
}

fn values(values: Values) -> Value {
    match values {
        Values::Closed(values) => json!(values),
        Values::EventTypes | Values::MessageTypes | Values::Projects | Values::Constant => Value::Null,
    }
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Counter => "counter",
        Kind::Gauge | Kind::Info => "gauge",
        Kind::Histogram => "histogram",
        Kind::GaugeHistogram => "gauge histogram",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_family_is_there_with_what_can_be_asked_of_it() {
        let read: Value = serde_json::from_str(&catalogue()).expect("it is JSON");
        assert_eq!(read.as_object().map(serde_json::Map::len), Some(catalog::families().len() + 1));
        let status = &read["websocket_connections_total"]["labels"]["status"];
        assert_eq!(status, &json!(["opened", "closed", "failed"]));
        assert_eq!(read["websocket_events_emitted_total"]["labels"]["event_type"], Value::Null);
        assert_eq!(read["pulsewire_store_batch_events"]["bounds"][1], 2.0);
    }
}
