//! The exposition in text: format 0.0.4 and OpenMetrics 1.0; and which form a scraper asks for.
//!
//! Both, and the protobuf form beside them, come from the same walk over the catalogue. They differ where OpenMetrics is stricter:
//! the family of a counter is named without `_total`, series say when they began, a gauge must
//! not be called `_total` (C11), a spread of a present quantity has a kind of its own (C13).

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::catalog::{ALIAS_PREFIX, FAMILIES, Family, Kind, Point, Value};
use crate::current::Current;
use crate::custom::CustomFamily;
use crate::registry::Telemetry;
use crate::view::View;

/// A form of the exposition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposition {
    /// Text.
    Text(Format),
    /// Delimited protobuf messages.
    Protobuf,
}

impl Exposition {
    /// Its `Content-Type`. Prometheus 3 refuses a scrape without a right one.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Text(format) => content_type(format),
            Self::Protobuf => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
            }
        }
    }
}

/// A form of the exposition in text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text format 0.0.4.
    Text004,
    /// OpenMetrics text format 1.0.0.
    OpenMetrics,
}

/// The `Content-Type` of a form. Prometheus 3 refuses a scrape without a right one.
#[must_use]
pub const fn content_type(format: Format) -> &'static str {
    match format {
        Format::Text004 => "text/plain; version=0.0.4; charset=utf-8",
        Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
    }
}

/// The form an `Accept` header asks for: text unless OpenMetrics 1.0 or delimited protobuf is preferred to it.
/// Of forms that are equally welcome the one that says more is taken.
#[must_use]
pub fn negotiate(accept: Option<&str>) -> Exposition {
    let (mut protobuf, mut open, mut text) = (0.0, 0.0, 0.0);
    for range in accept.unwrap_or_default().split(',') {
        let mut parts = range.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default();
        let (mut q, mut version) = (1.0, None);
        let mut families = [false; 2];
        for (name, value) in parts.filter_map(|part| part.split_once('=')) {
            match name.trim().to_ascii_lowercase().as_str() {
                "q" => q = value.trim().parse::<f32>().unwrap_or(0.0).clamp(0.0, 1.0),
                "proto" => {
                    families[0] = value.trim().trim_matches('"') == "io.prometheus.client.MetricFamily";
                }
                "encoding" => families[1] = value.trim().trim_matches('"').eq_ignore_ascii_case("delimited"),
                "version" => version = Some(value.trim().trim_matches('"')),
                _ => {}
            }
        }
        if media.eq_ignore_ascii_case("application/openmetrics-text") && version.is_none_or(|v| v == "1.0.0")
        {
            open = f32::max(open, q);
        } else if media.eq_ignore_ascii_case("text/plain") {
            text = f32::max(text, q);
        } else if media.eq_ignore_ascii_case("application/vnd.google.protobuf") && families == [true; 2] {
            protobuf = f32::max(protobuf, q);
        }
    }
    if protobuf > 0.0 && protobuf >= f32::max(open, text) {
        Exposition::Protobuf
    } else if open > 0.0 && open >= text {
        Exposition::Text(Format::OpenMetrics)
    } else {
        Exposition::Text(Format::Text004)
    }
}

/// What is said about a family that an application pushes.
pub(crate) const CUSTOM_HELP: &str = "Pushed by an application.";

/// The whole exposition.
#[must_use]
pub fn render(telemetry: &Telemetry, current: &Current, format: Format) -> String {
    let view = View::new(telemetry, current);
    let mut page = Page { out: String::with_capacity(256 * 1024), format };
    for family in shown(telemetry, format == Format::Text004) {
        let name = exposed_name(family, &telemetry.options.alias_prefix);
        page.family(family, &name, &family.points(&view));
    }
    for (name, family) in telemetry.custom().families() {
        page.custom(&name, &family);
    }
    if format == Format::OpenMetrics {
        page.out.push_str("# EOF\n");
    }
    page.out
}

/// Every plain number by its series (`name{label="value"}`), histograms as `_count` and `_sum`: for JSON.
#[must_use]
pub fn numbers(telemetry: &Telemetry, current: &Current) -> BTreeMap<String, f64> {
    let view = View::new(telemetry, current);
    let mut numbers = BTreeMap::new();
    for family in shown(telemetry, true) {
        let name = exposed_name(family, &telemetry.options.alias_prefix);
        for point in family.points(&view) {
            let labels = label_text(family, &point, "");
            match &point.value {
                Value::Number(n) => {
                    numbers.insert(format!("{name}{labels}"), *n);
                }
                Value::Histogram(slots) => {
                    let (counts, sum) = split(slots, family);
                    numbers.insert(format!("{name}_count{labels}"), counts.iter().sum::<u64>() as f64);
                    numbers.insert(format!("{name}_sum{labels}"), sum);
                }
            }
        }
    }
    for (name, family) in telemetry.custom().families() {
        for (labels, series) in &family.series {
            numbers.insert(format!("{name}{}", pair_text(labels)), series.value);
        }
    }
    numbers
}

/// The families a form shows; only the text format takes a gauge for what it is whatever its name ends in.
pub(crate) fn shown(telemetry: &Telemetry, any_name: bool) -> impl Iterator<Item = &'static Family> {
    let compat = telemetry.options.compat;
    let legal =
        move |family: &&Family| any_name || family.kind != Kind::Gauge || !family.name.ends_with("_total");
    FAMILIES.iter().filter(move |family| compat || !family.is_compat()).filter(legal)
}

/// The alias family's prefix is a setting.
pub(crate) fn exposed_name(family: &Family, alias_prefix: &str) -> String {
    family
        .name
        .strip_prefix(ALIAS_PREFIX)
        .map_or_else(|| family.name.into(), |rest| format!("{alias_prefix}{rest}"))
}

struct Page {
    out: String,
    format: Format,
}

impl Page {
    fn family(&mut self, family: &Family, name: &str, points: &[Point<'_>]) {
        let base = self.head(name, family.kind, family.unit(), family.help);
        let bounds: Vec<String> = family.bounds().into_iter().map(|bound| self.bound(bound)).collect();
        let cumulative = matches!(family.kind, Kind::Counter | Kind::Histogram);
        for point in points {
            match &point.value {
                Value::Number(n) => self.line(name, &label_text(family, point, ""), *n),
                Value::Histogram(slots) => self.histogram(family, name, point, slots, &bounds),
            }
            if cumulative {
                self.created(&base, &label_text(family, point, ""), point.created_ms);
            }
        }
    }

    fn histogram(
        &mut self,
        family: &Family,
        name: &str,
        point: &Point<'_>,
        slots: &[u64],
        bounds: &[String],
    ) {
        let (counts, sum) = split(slots, family);
        // Everything before the bound is the same for every bucket.
        let mut start = format!("{name}_bucket{}", label_text(family, point, "\0"));
        start.truncate(start.len() - "\0\"}".len());
        let mut seen = 0;
        for (at, n) in counts.iter().enumerate() {
            seen += n;
            let le = bounds.get(at).map_or("+Inf", String::as_str);
            let _ = writeln!(self.out, "{start}{le}\"}} {seen}");
        }
        let present = family.kind == Kind::GaugeHistogram && self.format == Format::OpenMetrics;
        let (count_name, sum_name) = if present { ("_gcount", "_gsum") } else { ("_count", "_sum") };
        let labels = label_text(family, point, "");
        self.line(&format!("{name}{sum_name}"), &labels, sum);
        self.line(&format!("{name}{count_name}"), &labels, seen as f64);
    }

    fn custom(&mut self, name: &str, family: &CustomFamily) {
        let kind = if family.counter { Kind::Counter } else { Kind::Gauge };
        let base = self.head(name, kind, None, CUSTOM_HELP);
        for (labels, series) in &family.series {
            let labels = pair_text(labels);
            self.line(name, &labels, series.value);
            if family.counter {
                self.created(&base, &labels, series.created_ms);
            }
        }
    }

    /// Writes the family's description and returns its base name: without `_total` or `_info`.
    fn head(&mut self, name: &str, kind: Kind, unit: Option<&str>, help: &str) -> String {
        let suffix = match kind {
            Kind::Counter => "_total",
            Kind::Info => "_info",
            _ => "",
        };
        let base = name.strip_suffix(suffix).unwrap_or(name);
        let open = self.format == Format::OpenMetrics;
        let described = if open { base } else { name };
        let kind = match (kind, open) {
            (Kind::Counter, _) => "counter",
            (Kind::Gauge, _) | (Kind::Info, false) => "gauge",
            (Kind::Info, true) => "info",
            (Kind::GaugeHistogram, true) => "gaugehistogram",
            (Kind::Histogram, _) | (Kind::GaugeHistogram, false) => "histogram",
        };
        let _ = writeln!(self.out, "# HELP {described} {}", help_text(help, open));
        let _ = writeln!(self.out, "# TYPE {described} {kind}");
        if let (true, Some(unit)) = (open, unit) {
            let _ = writeln!(self.out, "# UNIT {described} {unit}");
        }
        base.into()
    }

    fn line(&mut self, name: &str, labels: &str, value: f64) {
        let _ = writeln!(self.out, "{name}{labels} {value}");
    }

    fn created(&mut self, base: &str, labels: &str, created_ms: u64) {
        if self.format == Format::OpenMetrics {
            let _ =
                writeln!(self.out, "{base}_created{labels} {}.{:03}", created_ms / 1000, created_ms % 1000);
        }
    }

    /// OpenMetrics asks for `le="1.0"`; the text format's libraries write `le="1"`.
    fn bound(&self, bound: f64) -> String {
        let whole = self.format == Format::OpenMetrics && bound.fract() == 0.0;
        if whole { format!("{bound}.0") } else { format!("{bound}") }
    }
}

/// Bucket counts and the sum in the unit of the family.
pub(crate) fn split<'s>(slots: &'s [u64], family: &Family) -> (&'s [u64], f64) {
    let (counts, sum) = slots.split_at(slots.len().saturating_sub(1));
    (counts, sum.first().map_or(0.0, |sum| *sum as f64 / family.buckets.sum_scale))
}

/// `{name="value",…}`, with `le` if it is not empty; nothing without labels.
fn label_text(family: &Family, point: &Point<'_>, le: &str) -> String {
    let own = family.labels.iter().zip(&point.labels).map(|(label, value)| (label.name, value.as_ref()));
    braces(own.chain((!le.is_empty()).then_some(("le", le))))
}

fn pair_text(labels: &[(String, String)]) -> String {
    braces(labels.iter().map(|(name, value)| (name.as_str(), value.as_str())))
}

fn braces<'l>(labels: impl Iterator<Item = (&'l str, &'l str)>) -> String {
    let mut text = String::new();
    for (name, value) in labels {
        text.push(if text.is_empty() { '{' } else { ',' });
        let _ = write!(text, "{name}=\"");
        for c in value.chars() {
            match c {
                '\\' => text.push_str("\\\\"),
                '"' => text.push_str("\\\""),
                '\n' => text.push_str("\\n"),
                c => text.push(c),
            }
        }
        text.push('"');
    }
    if !text.is_empty() {
        text.push('}');
    }
    text
}

/// Backslash and newline are escaped; OpenMetrics wants the quote escaped too.
fn help_text(help: &str, open: bool) -> String {
    let text = help.replace('\\', "\\\\").replace('\n', "\\n");
    if open { text.replace('"', "\\\"") } else { text }
}
