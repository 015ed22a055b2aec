//! From data points to samples: every rule about names, kinds, tags and histograms.

use std::borrow::Cow;

use pulsewire_protocol::{MetricKind, Number, Sample, SampleFault, Tags};

use super::OtlpOptions;
use super::distribution::{Explicit, Exponential};
use crate::intake::{Fault, Intake, repeated};

/// The percentiles that are estimated from buckets.
const QUANTILES: [(f64, &str); 3] = [(0.5, ".p50"), (0.95, ".p95"), (0.99, ".p99")];
/// Bytes that are left for what stands behind a histogram's name, such as `.count`.
const SUFFIX_BYTES_MAX: usize = 6;
/// The most quantiles of one summary.
pub(super) const SUMMARY_MAX: usize = 32;
/// A data point's flag: there is no value.
const NO_RECORDED_VALUE: u64 = 1;

/// An attribute; `None` for a value that is no text, number or boolean.
pub(super) type Attribute<'a> = (Cow<'a, str>, Option<Cow<'a, str>>);

/// A metric, without its data points.
#[derive(Debug, Clone, Copy)]
pub(super) struct Metric<'a> {
    pub(super) name: &'a str,
    /// Whether its values are totals since some beginning that never fall.
    pub(super) grows: bool,
}

/// A data point.
#[derive(Debug, Default)]
pub(super) struct Point<'a> {
    pub(super) attributes: Attributes<'a>,
    pub(super) time_unix_nano: u64,
    pub(super) flags: u64,
    pub(super) reading: Reading,
}

/// What a data point says.
#[derive(Debug, Default)]
pub(super) enum Reading {
    #[default]
    Missing,
    Number(Number),
    Explicit(Total, Explicit),
    Exponential(Total, Exponential),
    Summary(Total, Vec<(f64, f64)>),
}

/// What all distributions say.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Total {
    pub(super) count: u64,
    pub(super) sum: Option<f64>,
}

/// The attributes of a data point: as many as can become tags, and whether there were more.
#[derive(Debug, Default)]
pub(super) struct Attributes<'a> {
    list: Vec<Attribute<'a>>,
    too_many: bool,
}

impl<'a> Attributes<'a> {
    pub(super) fn push(&mut self, attribute: Attribute<'a>) {
        if self.list.len() < Tags::COUNT_MAX {
            self.list.push(attribute);
        } else {
            self.too_many = true;
        }
    }
}

/// Translates the data points of one request.
pub(super) struct Translator<'o> {
    options: &'o OtlpOptions,
    intake: Intake,
}

impl<'o> Translator<'o> {
    pub(super) fn new(options: &'o OtlpOptions) -> Self {
        Self { options, intake: Intake::new(options.count_max) }
    }

    pub(super) fn finish(self) -> Intake {
        self.intake
    }

    /// Adds an attribute of a resource to those that become tags, if it is one of them.
    pub(super) fn promote<'a>(&self, promoted: &mut Vec<Attribute<'a>>, attribute: Attribute<'a>) {
        let wanted = self.options.resource_attributes.iter().any(|wanted| **wanted == *attribute.0);
        if wanted && promoted.iter().all(|(key, _)| *key != attribute.0) {
            promoted.push(attribute);
        }
    }

    /// Takes a data point.
    pub(super) fn point(&mut self, resource: &[Attribute<'_>], metric: Metric<'_>, point: &Point<'_>) {
        if point.flags & NO_RECORDED_VALUE != 0 {
            self.intake.pass_over();
            return;
        }
        let samples = samples(resource, metric, point).and_then(|samples| {
            if self.intake.has_room(samples.len()) { Ok(samples) } else { Err(self.intake.full()) }
        });
        self.intake.take(samples);
    }
}

fn samples(resource: &[Attribute<'_>], metric: Metric<'_>, point: &Point<'_>) -> Result<Vec<Sample>, Fault> {
    let Metric { name, grows } = metric;
    let room = match point.reading {
        Reading::Missing | Reading::Number(_) => 0,
        _ => SUFFIX_BYTES_MAX,
    };
    let bytes_max = Sample::NAME_BYTES_MAX - room;
    if !Sample::is_name(name) || name.len() > bytes_max {
        let detail =
            format!("the name `{}` is not 1 to {bytes_max} bytes of A-Z a-z 0-9 _ : . - /", repeated(name));
        return Err((SampleFault::Name, detail));
    }
    let tags = tags(name, resource, &point.attributes)?;
    let timestamp_ms = match point.time_unix_nano / 1_000_000 {
        0 => None,
        ms => i64::try_from(ms).ok(),
    };
    let total_kind = if grows { MetricKind::Counter } else { MetricKind::Gauge };
    let mut samples = Vec::new();
    let mut push = |suffix: &str, kind, value| {
        let (name, tags) = (format!("{name}{suffix}").into(), tags.clone());
        samples.push(Sample { name, kind, value, tags, timestamp_ms });
    };
    let wrong = |fault, what: &str| (fault, format!("`{name}`: {what}"));
    let finite = |value: f64| {
        if value.is_finite() { Ok(value) } else { Err(wrong(SampleFault::Value, "not a finite number")) }
    };
    let total = |total: Total, push: &mut dyn FnMut(&str, MetricKind, Number)| {
        push(".count", total_kind, total.count.into());
        if let Some(sum) = total.sum {
            push(".sum", total_kind, finite(sum)?.into());
        }
        Ok::<_, Fault>(())
    };
    match &point.reading {
        Reading::Missing => return Err(wrong(SampleFault::Value, "the data point has no value")),
        Reading::Number(value) => {
            finite(value.as_f64())?;
            push("", total_kind, *value);
        }
        Reading::Explicit(all, histogram) => {
            if !histogram.is_sound() {
                return Err(wrong(SampleFault::Malformed, "the bounds and counts of the buckets do not fit"));
            }
            total(*all, &mut push)?;
            for (share, suffix) in QUANTILES {
                if let Some(value) = histogram.quantile(share) {
                    push(suffix, MetricKind::Histogram, value.into());
                }
            }
        }
        Reading::Exponential(all, histogram) => {
            total(*all, &mut push)?;
            for (share, suffix) in QUANTILES {
                if let Some(value) = histogram.quantile(share) {
                    push(suffix, MetricKind::Histogram, value.into());
                }
            }
        }
        Reading::Summary(all, quantiles) => {
            if quantiles.len() > SUMMARY_MAX {
                return Err(wrong(SampleFault::Malformed, "the summary has too many quantiles"));
            }
            total(*all, &mut push)?;
            for (share, value) in quantiles {
                if let Some(suffix) = suffix_of(*share).filter(|_| value.is_finite()) {
                    push(&suffix, MetricKind::Histogram, (*value).into());
                }
            }
        }
    }
    Ok(samples)
}

/// `.p95` of 0.95, `.p999` of 0.999, `.min` of 0 and `.max` of 1; `None` if it is no share, or one too fine.
fn suffix_of(share: f64) -> Option<Cow<'static, str>> {
    if share == 0.0 {
        return Some(".min".into());
    }
    if share == 1.0 {
        return Some(".max".into());
    }
    let digits = format!("{share}");
    let digits = digits.strip_prefix("0.").filter(|digits| digits.len() + 2 <= SUFFIX_BYTES_MAX)?;
    let padding = if digits.len() == 1 { "0" } else { "" };
    Some(format!(".p{digits}{padding}").into())
}

fn tags(name: &str, resource: &[Attribute<'_>], attributes: &Attributes<'_>) -> Result<Tags, Fault> {
    let wrong = |what: String| (SampleFault::Tags, format!("`{name}`: {what}"));
    let own = |key: &str| attributes.list.iter().any(|(known, _)| known == key);
    // What a data point says counts more than what its resource says.
    let inherited = resource.iter().filter(|(key, _)| !own(key));
    let all = attributes.list.iter().chain(inherited);
    if attributes.too_many || all.clone().count() > Tags::COUNT_MAX {
        return Err(wrong(format!("more than {} attributes", Tags::COUNT_MAX)));
    }
    let pair = |(key, value): &'_ Attribute<'_>| match value {
        None => Err(wrong(format!("the attribute `{}` is no text, number or boolean", repeated(key)))),
        Some(value) if value.len() > Tags::LEN_BYTES_MAX || key.len() > Tags::LEN_BYTES_MAX => {
            let bytes = Tags::LEN_BYTES_MAX;
            Err(wrong(format!("the attribute `{}` or its value is longer than {bytes} bytes", repeated(key))))
        }
        Some(_) => Ok(()),
    };
    all.clone().try_for_each(pair)?;
    let pairs = all.map(|(key, value)| (&**key, value.as_deref().unwrap_or_default()));
    Tags::new(pairs).ok_or_else(|| wrong("an attribute has no key, or stands twice".into()))
}
