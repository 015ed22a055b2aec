//! The text of `docs/metrics.md`, from the catalogue.

use std::fmt::Write as _;

use crate::catalog::{FAMILIES, Family, Kind, PROJECT_OTHER, Values};
use crate::custom::CustomMetrics;
use crate::event_types::EventTypes;

const HEAD: &str = "\
# Metrics

Written by `cargo xtask generate` from `telemetry::catalog`; edit that instead.

`GET /metrics` (also `/api/metrics`, `/actuator/prometheus` and `/api/ws/metrics?format=prometheus`) answers in the
Prometheus text format 0.0.4, or in OpenMetrics 1.0 or Prometheus's delimited protobuf if `Accept` prefers it. Every closed set of label values is at
zero from the start, so the first event of a kind is seen by `rate()`; OpenMetrics adds `_created` lines, which do the
same for event types that appear later. No user, session, run or channel name is ever a label.

- **Latency has four clocks**: accepted to handed to the kernel (`websocket_event_latency_milliseconds`), accepted to
  received by the client (`websocket_message_latency_milliseconds`, sampled), from a client's publishing
  to a subscriber's receipt (`orchestrator_websocket_message_latency`), and the heartbeat's round trip.
- **A present quantity** (gauge, gauge histogram) is read from the table that owns it at the scrape. A gauge histogram
  counts each connection once: use `histogram_quantile` on its buckets directly, without `rate()`. In the text format
  its type is `histogram`, in OpenMetrics `gaugehistogram`.
- **Asked for by** names the requirement documents (000 to 004) that name the family; `own` marks what none of them
  names. `metrics.compat = false` hides the former except `process_*`.
- The prefix `orchestrator_websocket` is a setting (`metrics.alias_prefix`).
";

/// The text of `docs/metrics.md`.
#[must_use]
pub fn docs_markdown() -> String {
    let mut out = String::from(HEAD);
    let _ = write!(
        out,
        "\n## Bounds\n\nEvent types: the twelve of document 000 from the start, others as they are first seen, {} in all \
         (`metrics.event_types_max`), names of at most {} bytes; the rest share `other` and each is counted once in \
         `websocket_metrics_series_dropped_total`.\nPushed metrics (`POST /api/metrics/custom`): {} names, {} labels, \
         {} series a name, {} KiB of names and labels in all; what does not fit is refused and counted.\n",
        crate::Options::default().event_types_max,
        EventTypes::NAME_BYTES_MAX,
        CustomMetrics::NAMES_MAX,
        CustomMetrics::LABELS_MAX,
        CustomMetrics::SERIES_MAX,
        CustomMetrics::BYTES_MAX / 1024,
    );
    out.push_str("\n## Overview\n\n| family | kind | asked for by |\n|---|---|---|\n");
    for family in FAMILIES {
        let anchor = family.name;
        let _ = writeln!(out, "| [`{anchor}`](#{anchor}) | {} | {} |", kind(family.kind), family.source);
    }
    out.push_str("\n## Families\n");
    for family in FAMILIES {
        describe(&mut out, family);
    }
    out
}

fn describe(out: &mut String, family: &Family) {
    let unit = family.unit().map(|unit| format!(", {unit}")).unwrap_or_default();
    let _ = writeln!(out, "\n### {}\n", family.name);
    let _ = writeln!(out, "{}\n", family.help);
    let _ = writeln!(out, "- kind: {}{unit}; asked for by: {}", kind(family.kind), family.source);
    for label in family.labels {
        let values = match label.values {
            Values::Closed(values) => format!("`{}`", values.join("` `")),
            Values::EventTypes => "event types (see Bounds)".into(),
            Values::MessageTypes => {
                let names = crate::MessageType::NAMES.join("` `");
                format!("`{names}`, and event types (see Bounds)")
            }
            Values::Projects => format!("the 50 largest (`metrics.projects_max`), then `{PROJECT_OTHER}`"),
            Values::Constant => "one constant".into(),
        };
        let _ = writeln!(out, "- label `{}`: {values}", label.name);
    }
    let bounds: Vec<String> = family.bounds().iter().map(f64::to_string).collect();
    if !bounds.is_empty() {
        let _ = writeln!(out, "- buckets: {}", bounds.join(", "));
    }
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram => "histogram",
        Kind::GaugeHistogram => "gauge histogram",
        Kind::Info => "info",
    }
}
