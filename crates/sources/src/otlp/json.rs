//! OTLP in JSON: Protobuf's mapping with OTLP's changes: 64-bit numbers as texts or numbers, enums as numbers,
//! members nobody knows ignored.
//!
//! Lists are walked item by item and what stands inside is left untouched until it is met.

use std::borrow::Cow;
use std::fmt;

use pulsewire_protocol::Number;
use serde::Deserialize;
use serde::de::{self, Deserializer as _, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::distribution::{Buckets, Explicit, Exponential};
use super::translate::{Attribute, Attributes, Metric, Point, Reading, SUMMARY_MAX, Total, Translator};
use crate::intake::Malformed;

type Raw<'a> = Option<&'a RawValue>;
type Outcome = Result<(), Malformed>;

/// `AGGREGATION_TEMPORALITY_CUMULATIVE`.
const CUMULATIVE: u64 = 2;

macro_rules! message {
    ($name:ident { $($field:ident)* }) => {
        /// The members that matter, untouched.
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct $name<'a> { $(#[serde(borrow, default)] $field: Raw<'a>,)* }
    };
}

message! { Request { resource_metrics } }
message! { ResourceMetrics { resource scope_metrics } }
message! { Resource { attributes } }
message! { ScopeMetrics { metrics } }
message! { MetricMessage { name gauge sum histogram exponential_histogram summary } }
message! { Data { data_points aggregation_temporality is_monotonic } }
message! { KeyValue { key value } }
message! { AnyValue { string_value bool_value int_value double_value } }
message! { DataPoint {
    attributes time_unix_nano flags as_double as_int count sum bucket_counts explicit_bounds min max scale zero_count
    positive negative quantile_values
} }
message! { BucketsMessage { offset bucket_counts } }
message! { Quantile { quantile value } }

/// Reads an `ExportMetricsServiceRequest`.
pub(super) fn read(body: &[u8], translator: &mut Translator<'_>) -> Outcome {
    let body = std::str::from_utf8(body).map_err(|_| Malformed::new("the body is not UTF-8"))?;
    // serde would also read a message from a list.
    if !body.trim_ascii_start().starts_with('{') {
        return Err(Malformed::new("the body is not a JSON object"));
    }
    let request: Request<'_> =
        serde_json::from_str(body).map_err(|error| Malformed::new(error.to_string()))?;
    each(request.resource_metrics, |item| {
        let ResourceMetrics { resource, scope_metrics } = message(item)?;
        let mut promoted = Vec::new();
        if let Some(resource) = resource {
            let Resource { attributes } = message(resource)?;
            each(attributes, |pair| {
                translator.promote(&mut promoted, attribute(pair)?);
                Ok(())
            })?;
        }
        each(scope_metrics, |scope| {
            let ScopeMetrics { metrics } = message(scope)?;
            each(metrics, |metric| read_metric(metric, &promoted, translator))
        })
    })
}

fn read_metric(raw: &RawValue, promoted: &[Attribute<'_>], translator: &mut Translator<'_>) -> Outcome {
    let metric: MetricMessage<'_> = message(raw)?;
    let name = metric.name.map(text).transpose()?.unwrap_or_default();
    let kinds: [(Raw<'_>, Read); 5] = [
        (metric.gauge, number_reading),
        (metric.sum, number_reading),
        (metric.histogram, explicit_reading),
        (metric.exponential_histogram, exponential_reading),
        (metric.summary, summary_reading),
    ];
    for (at, (data, read)) in kinds.into_iter().enumerate() {
        let Some(data) = data else { continue };
        let data: Data<'_> = message(data)?;
        let cumulative = data.aggregation_temporality.map(whole).transpose()? == Some(CUMULATIVE);
        let monotonic = data.is_monotonic.is_some_and(|raw| raw.get() == "true");
        let grows = match at {
            0 => false,
            1 => cumulative && monotonic,
            4 => true,
            _ => cumulative,
        };
        each(data.data_points, |raw| {
            let point: DataPoint<'_> = message(raw)?;
            let reading = read(&point)?;
            let mut attributes = Attributes::default();
            each(point.attributes, |pair| {
                attributes.push(attribute(pair)?);
                Ok(())
            })?;
            let time_unix_nano = point.time_unix_nano.map(whole).transpose()?.unwrap_or_default();
            let flags = point.flags.map(whole).transpose()?.unwrap_or_default();
            let point = Point { attributes, time_unix_nano, flags, reading };
            translator.point(promoted, Metric { name: &name, grows }, &point);
            Ok(())
        })?;
    }
    Ok(())
}

type Read = fn(&DataPoint<'_>) -> Result<Reading, Malformed>;

fn number_reading(point: &DataPoint<'_>) -> Result<Reading, Malformed> {
    Ok(match (point.as_int, point.as_double) {
        (Some(value), _) => Reading::Number(Number::Whole(signed(value)?)),
        (None, Some(value)) => Reading::Number(Number::Float(double(value)?)),
        (None, None) => Reading::Missing,
    })
}

fn total(point: &DataPoint<'_>) -> Result<Total, Malformed> {
    let count = point.count.map(whole).transpose()?.unwrap_or_default();
    Ok(Total { count, sum: point.sum.map(double).transpose()? })
}

fn explicit_reading(point: &DataPoint<'_>) -> Result<Reading, Malformed> {
    let (min, max) = (point.min.map(double).transpose()?, point.max.map(double).transpose()?);
    let mut histogram = Explicit { min, max, ..Explicit::default() };
    each(point.explicit_bounds, |bound| {
        histogram.bounds.push(double(bound)?);
        Ok(())
    })?;
    histogram.counts = counts(point.bucket_counts)?;
    Ok(Reading::Explicit(total(point)?, histogram))
}

fn exponential_reading(point: &DataPoint<'_>) -> Result<Reading, Malformed> {
    let histogram = Exponential {
        scale: point.scale.map(small).transpose()?.unwrap_or_default(),
        zero_count: point.zero_count.map(whole).transpose()?.unwrap_or_default(),
        positive: buckets(point.positive)?,
        negative: buckets(point.negative)?,
        min: point.min.map(double).transpose()?,
        max: point.max.map(double).transpose()?,
    };
    Ok(Reading::Exponential(total(point)?, histogram))
}

fn buckets(raw: Raw<'_>) -> Result<Buckets, Malformed> {
    let Some(raw) = raw else { return Ok(Buckets::default()) };
    let BucketsMessage { offset, bucket_counts } = message(raw)?;
    let offset = offset.map(small).transpose()?.unwrap_or_default();
    Ok(Buckets { offset, counts: counts(bucket_counts)? })
}

fn counts(raw: Raw<'_>) -> Result<Vec<u64>, Malformed> {
    let mut counts = Vec::new();
    each(raw, |count| {
        counts.push(whole(count)?);
        Ok(())
    })?;
    Ok(counts)
}

fn summary_reading(point: &DataPoint<'_>) -> Result<Reading, Malformed> {
    let mut quantiles = Vec::new();
    each(point.quantile_values, |raw| {
        if quantiles.len() <= SUMMARY_MAX {
            let Quantile { quantile, value } = message(raw)?;
            let of = |raw: Raw<'_>| raw.map(double).transpose().map(Option::unwrap_or_default);
            quantiles.push((of(quantile)?, of(value)?));
        }
        Ok(())
    })?;
    let Total { count, sum } = total(point)?;
    Ok(Reading::Summary(Total { count, sum: sum.or(Some(0.0)) }, quantiles))
}

fn attribute(raw: &RawValue) -> Result<Attribute<'_>, Malformed> {
    let KeyValue { key, value } = message(raw)?;
    let key = key.map(text).transpose()?.unwrap_or_default();
    let Some(value) = value else { return Ok((key, None)) };
    let value: AnyValue<'_> = message(value)?;
    let value = if let Some(value) = value.string_value {
        Some(text(value)?)
    } else if let Some(value) = value.bool_value {
        Some(value.get().into())
    } else if let Some(value) = value.int_value {
        Some(signed(value)?.to_string().into())
    } else if let Some(value) = value.double_value {
        Some(double(value)?.to_string().into())
    } else {
        None
    };
    Ok((key, value))
}

fn message<'a, T: Deserialize<'a>>(raw: &'a RawValue) -> Result<T, Malformed> {
    if !raw.get().starts_with('{') {
        return Err(Malformed::new("a value where an object is expected"));
    }
    serde_json::from_str(raw.get()).map_err(|error| Malformed::new(error.to_string()))
}

fn text(raw: &RawValue) -> Result<Cow<'_, str>, Malformed> {
    let inner = raw.get().strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    match inner {
        Some(inner) if !inner.contains('\\') => Ok(inner.into()),
        Some(_) => serde_json::from_str(raw.get())
            .map(|text: String| text.into())
            .map_err(|error| Malformed::new(error.to_string())),
        None => Err(Malformed::new("a value where a text is expected")),
    }
}

/// What a number says, whether or not it is written as a text.
fn digits(raw: &RawValue) -> &str {
    raw.get().trim_matches('"')
}

fn parsed<T: std::str::FromStr>(raw: &RawValue, what: &str) -> Result<T, Malformed> {
    digits(raw).parse().map_err(|_| Malformed::new(format!("a value where {what} is expected")))
}

fn whole(raw: &RawValue) -> Result<u64, Malformed> {
    parsed(raw, "a whole number")
}

fn signed(raw: &RawValue) -> Result<i64, Malformed> {
    parsed(raw, "a whole number")
}

fn small(raw: &RawValue) -> Result<i32, Malformed> {
    parsed(raw, "a whole number of 32 bits")
}

/// Also `"NaN"`, `"Infinity"` and `"-Infinity"`.
fn double(raw: &RawValue) -> Result<f64, Malformed> {
    parsed(raw, "a number")
}

/// Calls for each item of a list.
fn each<'a>(list: Raw<'a>, call: impl FnMut(&'a RawValue) -> Outcome) -> Outcome {
    struct Items<F>(F);
    impl<'de, F: FnMut(&'de RawValue) -> Outcome> Visitor<'de> for Items<F> {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list")
        }

        fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<(), A::Error> {
            while let Some(item) = list.next_element()? {
                (self.0)(item).map_err(de::Error::custom)?;
            }
            Ok(())
        }
    }
    let Some(list) = list else { return Ok(()) };
    let mut deserializer = serde_json::Deserializer::from_str(list.get());
    deserializer.deserialize_seq(Items(call)).map_err(|error| Malformed::new(error.to_string()))
}
