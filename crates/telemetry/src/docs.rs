//! The text of `docs/metrics.md`, from the catalogue.

use std::fmt::Write as _;

use crate::catalog::{FAMILIES, Family, Kind, PROJECT_OTHER, Values};

/// The text of `docs/metrics.md`.
#[must_use]
pub fn docs_markdown() -> String {
    let mut out = String::new();
    for family in FAMILIES {
        describe(&mut out, family);
    }
    out
}

fn describe(out: &mut String, family: &Family) {
    let kind = match family.kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram => "histogram",
        Kind::GaugeHistogram => "gauge histogram",
        Kind::Info => "info",
    };
    let _ = writeln!(out, "### `{}`\n\n{} ({kind}; {})\n", family.name, family.help, family.source);
    for label in family.labels {
        let values = match label.values {
            Values::Closed(values) => format!("`{}`", values.join("` `")),
            Values::EventTypes => "event types".into(),
            Values::MessageTypes => "message types".into(),
            Values::Projects => format!("projects, then `{PROJECT_OTHER}`"),
            Values::Constant => "constant".into(),
        };
        let _ = writeln!(out, "- `{}`: {values}", label.name);
    }
}
