//! Prometheus remote write 1.0: a snappy block with a `WriteRequest` in Protobuf, to samples.
//!
//! The size of a block stands at its beginning and is checked before anything is unpacked.

use std::collections::HashMap;

use pulsewire_protocol::{MetricKind, Number, Sample, SampleFault, Tags};

use crate::intake::{Fault, Intake, Malformed, repeated};
use crate::wire::each;

/// What requests may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RemoteWriteOptions {
    /// Samples of one request at most; those beyond are refused.
    pub count_max: usize,
    /// The largest request, unpacked, in bytes.
    pub bytes_max: usize,
}

/// Why a request was refused as a whole.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RemoteWriteError {
    /// It says that it is larger than it may be.
    #[error("{bytes} bytes unpacked, more than {bytes_max}")]
    TooLarge {
        /// How large it says it is.
        bytes: usize,
        /// How large it may be.
        bytes_max: usize,
    },
    /// It cannot be read.
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

/// Reads a request.
///
/// # Errors
///
/// If it is too large or cannot be decoded.
pub fn read(body: &[u8], options: RemoteWriteOptions) -> Result<Intake, RemoteWriteError> {
    let snappy = |error: snap::Error| Malformed::new(error.to_string());
    let bytes = snap::raw::decompress_len(body).map_err(snappy)?;
    if bytes > options.bytes_max {
        return Err(RemoteWriteError::TooLarge { bytes, bytes_max: options.bytes_max });
    }
    let request = snap::raw::Decoder::new().decompress_vec(body).map_err(snappy)?;
    Ok(read_request(&request, options.count_max)?)
}

type Outcome = Result<(), Malformed>;

/// What `MetricMetadata` calls the kinds of metrics.
mod metric_type {
    pub(super) const COUNTER: u64 = 1;
    pub(super) const HISTOGRAM: u64 = 3;
    pub(super) const SUMMARY: u64 = 5;
    pub(super) const UNKNOWN: u64 = 0;
}

/// The kinds of metric families, as the request says them.
type Types<'a> = HashMap<&'a str, u64>;

fn read_request(request: &[u8], count_max: usize) -> Result<Intake, Malformed> {
    let mut types = Types::new();
    each(request, |number, field| {
        if number == 3 {
            let (mut name, mut kind) = ("", metric_type::UNKNOWN);
            each(field.bytes()?, |number, field| {
                match number {
                    1 => kind = field.varint()?,
                    2 => name = field.text()?,
                    _ => {}
                }
                Ok(())
            })?;
            if types.len() < count_max && kind != metric_type::UNKNOWN {
                types.insert(name, kind);
            }
        }
        Ok(())
    })?;
    let mut intake = Intake::new(count_max);
    each(
        request,
        |number, field| {
            if number == 1 { read_series(field.bytes()?, &types, &mut intake) } else { Ok(()) }
        },
    )?;
    Ok(intake)
}

/// What the samples of a series have in common.
struct Series<'a> {
    name: &'a str,
    kind: MetricKind,
    tags: Tags,
}

fn read_series(message: &[u8], types: &Types<'_>, intake: &mut Intake) -> Outcome {
    let series = labels(message).map(|labels| labels.and_then(|labels| labels.series(types)))?;
    each(message, |number, field| {
        match number {
            2 => {
                let (mut value, mut timestamp_ms) = (0.0, 0);
                each(field.bytes()?, |number, field| {
                    match number {
                        1 => value = field.double()?,
                        2 => timestamp_ms = field.varint()? as i64,
                        _ => {}
                    }
                    Ok(())
                })?;
                if value.is_nan() {
                    // A staleness marker, or a quantile of nothing.
                    intake.pass_over();
                } else {
                    let sample = series.as_ref().map_err(Clone::clone);
                    let sample = sample.and_then(|series| series.sample(value, timestamp_ms));
                    let fits = if intake.has_room(1) { Ok(()) } else { Err(intake.full()) };
                    intake.take(sample.and_then(|sample| fits.map(|()| [sample])));
                }
            }
            4 => {
                field.bytes()?;
                let detail = "native histograms are not taken; send classic ones".to_owned();
                intake.take(Err::<[Sample; 0], _>((SampleFault::Value, detail)));
            }
            _ => {}
        }
        Ok(())
    })
}

/// The labels of a series: its name, and as many others as can become tags.
#[derive(Default)]
struct Labels<'a> {
    name: Option<&'a str>,
    others: Vec<(&'a str, &'a str)>,
}

fn labels(message: &[u8]) -> Result<Result<Labels<'_>, Fault>, Malformed> {
    let (mut labels, mut too_many) = (Labels::default(), false);
    each(message, |number, field| {
        if number != 1 {
            return Ok(());
        }
        let (mut name, mut value) = ("", "");
        each(field.bytes()?, |number, field| {
            match number {
                1 => name = field.text()?,
                2 => value = field.text()?,
                _ => {}
            }
            Ok(())
        })?;
        if name == "__name__" {
            labels.name = Some(value);
        } else if labels.others.len() < Tags::COUNT_MAX {
            labels.others.push((name, value));
        } else {
            too_many = true;
        }
        Ok(())
    })?;
    if too_many {
        let name = repeated(labels.name.unwrap_or_default());
        return Ok(Err((SampleFault::Tags, format!("`{name}`: more than {} labels", Tags::COUNT_MAX))));
    }
    Ok(Ok(labels))
}

impl<'a> Labels<'a> {
    fn series(self, types: &Types<'_>) -> Result<Series<'a>, Fault> {
        let name = self.name.ok_or_else(|| (SampleFault::Name, "a series without `__name__`".to_owned()))?;
        if !Sample::is_name(name) {
            let bytes = Sample::NAME_BYTES_MAX;
            let detail =
                format!("the name `{}` is not 1 to {bytes} bytes of A-Z a-z 0-9 _ : . - /", repeated(name));
            return Err((SampleFault::Name, detail));
        }
        let bytes = Tags::LEN_BYTES_MAX;
        if let Some((key, _)) = self.others.iter().find(|(key, value)| key.len().max(value.len()) > bytes) {
            let detail =
                format!("`{name}`: the label `{}` or its value is longer than {bytes} bytes", repeated(key));
            return Err((SampleFault::Tags, detail));
        }
        let tags = Tags::new(self.others)
            .ok_or_else(|| (SampleFault::Tags, format!("`{name}`: a label has no name, or stands twice")))?;
        Ok(Series { name, kind: kind(name, types), tags })
    }
}

impl Series<'_> {
    fn sample(&self, value: f64, timestamp_ms: i64) -> Result<Sample, Fault> {
        if !value.is_finite() {
            return Err((SampleFault::Value, format!("`{}`: not a finite number", self.name)));
        }
        if timestamp_ms < 0 {
            return Err((SampleFault::Malformed, format!("`{}`: a time before 1970", self.name)));
        }
        let (kind, tags, timestamp_ms) = (self.kind, self.tags.clone(), Some(timestamp_ms));
        Ok(Sample {
            name: self.name.to_owned().into(),
            kind,
            value: Number::Float(value),
            tags,
            timestamp_ms,
        })
    }
}

/// What the metadata of the request says of the family, else what the name's end says.
fn kind(name: &str, types: &Types<'_>) -> MetricKind {
    let part = |suffixes: &[&str]| suffixes.iter().find_map(|suffix| name.strip_suffix(suffix));
    let of = |family: &str| types.get(family).copied();
    let known = match (of(name), part(&["_count", "_sum", "_bucket"]), part(&["_total"])) {
        (Some(kind), ..) => Some(kind == metric_type::COUNTER),
        (None, Some(family), _) if of(family).is_some() => {
            Some(matches!(of(family), Some(metric_type::HISTOGRAM | metric_type::SUMMARY)))
        }
        (None, _, Some(family)) => of(family).map(|kind| kind == metric_type::COUNTER),
        _ => None,
    };
    let counts = known.unwrap_or_else(|| part(&["_total", "_count", "_sum", "_bucket"]).is_some());
    if counts { MetricKind::Counter } else { MetricKind::Gauge }
}
