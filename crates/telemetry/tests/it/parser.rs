//! A small strict parser of both text forms, written from their specifications and not from the renderer.
//!
//! Text: <https://prometheus.io/docs/instrumenting/exposition_formats/>. OpenMetrics 1.0.0: sections
//! "Text format", "Metric types".

use std::collections::{BTreeMap, BTreeSet};

use pulsewire_telemetry::Format;

#[derive(Debug, Default)]
pub(crate) struct Family {
    pub(crate) kind: String,
    pub(crate) help: String,
    pub(crate) samples: Vec<Sample>,
}

#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) name: String,
    pub(crate) labels: Vec<(String, String)>,
    pub(crate) value: f64,
}

impl Sample {
    pub(crate) fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|label| label.0 == name).map(|label| label.1.as_str())
    }

    /// The labels without `le`, as a key.
    pub(crate) fn series(&self) -> Vec<(String, String)> {
        self.labels.iter().filter(|label| label.0 != "le").cloned().collect()
    }
}

/// Parses a page and panics at the first thing that is not allowed in its form.
pub(crate) fn parse(page: &str, format: Format) -> BTreeMap<String, Family> {
    let open = format == Format::OpenMetrics;
    assert!(
        page.ends_with('\n') && !page.contains('\r') && !page.contains("\n\n"),
        "lines end in LF, none is empty"
    );
    let mut families = BTreeMap::<String, Family>::new();
    let mut order: Vec<String> = Vec::new();
    let mut seen = BTreeSet::new();
    let mut ended = false;
    for line in page.lines() {
        assert!(!ended, "nothing follows # EOF: {line}");
        if let Some(comment) = line.strip_prefix("# ") {
            if comment == "EOF" {
                assert!(open, "EOF is OpenMetrics");
                ended = true;
                continue;
            }
            let (what, rest) = comment.split_once(' ').unwrap();
            let (name, text) = rest.split_once(' ').unwrap();
            if what == "HELP" {
                assert!(!families.contains_key(name), "{name} is described twice");
                order.push(name.into());
            }
            let family = families.entry(name.into()).or_default();
            assert!(
                family.samples.is_empty() && order.last().unwrap() == name,
                "metadata precedes samples: {line}"
            );
            match what {
                "HELP" => family.help = text.into(),
                "TYPE" => family.kind = text.into(),
                "UNIT" => {
                    assert!(open && name.ends_with(&format!("_{text}")), "the name ends in its unit: {line}");
                }
                other => panic!("{other} is no metadata"),
            }
            continue;
        }
        let sample = sample(line);
        let family_name = order.last().unwrap();
        let family = families.get_mut(family_name).unwrap();
        let suffix = sample
            .name
            .strip_prefix(family_name.as_str())
            .unwrap_or_else(|| panic!("{line} is not of {family_name}"));
        let allowed: &[&str] = match (family.kind.as_str(), open) {
            ("counter", true) => &["_total", "_created"],
            ("counter" | "gauge", _) => &[""],
            ("histogram", true) => &["_bucket", "_sum", "_count", "_created"],
            ("histogram", false) => &["_bucket", "_sum", "_count"],
            ("gaugehistogram", true) => &["_bucket", "_gsum", "_gcount"],
            ("info", true) => &["_info"],
            other => panic!("{other:?} is no type"),
        };
        assert!(allowed.contains(&suffix), "{line} in a {}", family.kind);
        // A family is named like a counter only in text: counters, and document 001's misnamed gauge.
        let counter_name =
            !open && (family.kind == "counter" || family_name == "websocket_subscriptions_total");
        assert_eq!(family_name.ends_with("_total"), counter_name, "{family_name}");
        assert!(seen.insert((sample.name.clone(), sample.labels.clone())), "{line} is there twice");
        assert!(sample.value.is_finite());
        if family.kind == "counter" || family.kind.ends_with("histogram") {
            assert!(sample.value >= 0.0, "{line}");
        }
        family.samples.push(sample);
    }
    assert_eq!(ended, open);
    for (name, family) in &families {
        if family.kind.ends_with("histogram") {
            check_histogram(name, family, open);
        }
    }
    families
}

fn sample(line: &str) -> Sample {
    let mut rest = line;
    let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':')).unwrap();
    let name = &rest[..end];
    assert!(!name.starts_with(|c: char| c.is_ascii_digit()) && !name.is_empty(), "{line}");
    rest = &rest[end..];
    let mut labels = Vec::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            let (label, after) = rest.split_once("=\"").unwrap();
            assert!(
                !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'),
                "{line}"
            );
            let mut value = String::new();
            let mut chars = after.char_indices();
            let close = loop {
                match chars.next().unwrap() {
                    (at, '"') => break at,
                    (_, '\\') => value.push(match chars.next().unwrap().1 {
                        'n' => '\n',
                        c @ ('\\' | '"') => c,
                        c => panic!("\\{c} is no escape"),
                    }),
                    (_, c) => value.push(c),
                }
            };
            assert!(!labels.iter().any(|(name, _)| name == label), "{line}");
            labels.push((label.to_owned(), value));
            rest = &after[close + 1..];
            match rest.split_at(1) {
                (",", more) => rest = more,
                ("}", more) => {
                    rest = more;
                    break;
                }
                other => panic!("{other:?} in {line}"),
            }
        }
    }
    let value = rest.strip_prefix(' ').unwrap().parse().unwrap();
    Sample { name: name.into(), labels, value }
}

fn check_histogram(name: &str, family: &Family, open: bool) {
    let mut series = BTreeMap::<_, Vec<&Sample>>::new();
    for sample in &family.samples {
        series.entry(sample.series()).or_default().push(sample);
    }
    for (labels, samples) in series {
        let buckets: Vec<_> = samples.iter().filter(|s| s.name.ends_with("_bucket")).collect();
        let bounds: Vec<f64> = buckets
            .iter()
            .map(|s| {
                let le = s.label("le").unwrap();
                assert!(
                    !open || le.contains('.') || le == "+Inf",
                    "OpenMetrics wants {name} le={le} with a point"
                );
                le.parse().unwrap()
            })
            .collect();
        assert!(
            bounds.is_sorted_by(|a, b| a < b) && bounds.last() == Some(&f64::INFINITY),
            "{name} {labels:?}"
        );
        assert!(buckets.is_sorted_by(|a, b| a.value <= b.value), "{name} is cumulative");
        let count = samples.iter().find(|s| s.name.ends_with("count")).unwrap();
        assert_eq!(count.value, buckets.last().unwrap().value, "{name}: the count is the +Inf bucket");
        assert_eq!(samples.iter().filter(|s| s.name.ends_with("sum")).count(), 1);
    }
}
