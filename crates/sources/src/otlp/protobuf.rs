//! OTLP in Protobuf. Field numbers are those of opentelemetry-proto 1.x, which never change them.
//!
//! What stands behind something it belongs to (a resource behind its metrics, a name behind its data points) is
//! looked for first, in a walk of its own.

use pulsewire_protocol::Number;

use super::distribution::{Buckets, Explicit, Exponential};
use super::translate::{Attribute, Metric, Point, Reading, SUMMARY_MAX, Total, Translator};
use crate::intake::Malformed;
use crate::wire::each;

type Outcome = Result<(), Malformed>;

/// `AGGREGATION_TEMPORALITY_CUMULATIVE`.
const CUMULATIVE: u64 = 2;

/// Calls for each message in a repeated field.
fn each_in<'a>(message: &'a [u8], wanted: u64, mut call: impl FnMut(&'a [u8]) -> Outcome) -> Outcome {
    each(message, |number, field| if number == wanted { call(field.bytes()?) } else { Ok(()) })
}

/// Reads an `ExportMetricsServiceRequest`.
pub(super) fn read(body: &[u8], translator: &mut Translator<'_>) -> Outcome {
    each_in(body, 1, |resource_metrics| {
        let mut promoted = Vec::new();
        each_in(resource_metrics, 1, |resource| {
            each_in(resource, 1, |pair| {
                translator.promote(&mut promoted, attribute(pair)?);
                Ok(())
            })
        })?;
        each_in(resource_metrics, 2, |scope_metrics| {
            each_in(scope_metrics, 2, |metric| read_metric(metric, &promoted, translator))
        })
    })
}

fn attribute(pair: &[u8]) -> Result<Attribute<'_>, Malformed> {
    let (mut key, mut value) = ("", None);
    each(pair, |number, field| {
        match number {
            1 => key = field.text()?,
            2 => each(field.bytes()?, |number, field| {
                value = match number {
                    1 => Some(field.text()?.into()),
                    2 => Some(if field.varint()? == 0 { "false" } else { "true" }.into()),
                    3 => Some((field.varint()? as i64).to_string().into()),
                    4 => Some(field.double()?.to_string().into()),
                    _ => None,
                };
                Ok(())
            })?,
            _ => {}
        }
        Ok(())
    })?;
    Ok((key.into(), value))
}

fn read_metric(message: &[u8], promoted: &[Attribute<'_>], translator: &mut Translator<'_>) -> Outcome {
    let mut name = "";
    each(message, |number, field| {
        if number == 1 {
            name = field.text()?;
        }
        Ok(())
    })?;
    each(message, |number, field| {
        if !matches!(number, 5 | 7 | 9 | 10 | 11) {
            return Ok(());
        }
        let data = field.bytes()?;
        let (mut cumulative, mut monotonic) = (false, false);
        each(data, |at, field| {
            match (number, at) {
                (7 | 9 | 10, 2) => cumulative = field.varint()? == CUMULATIVE,
                (7, 3) => monotonic = field.varint()? != 0,
                _ => {}
            }
            Ok(())
        })?;
        let grows = match number {
            5 => false,
            7 => cumulative && monotonic,
            11 => true,
            _ => cumulative,
        };
        each_in(data, 1, |point| {
            let point = match number {
                5 | 7 => number_point(point)?,
                9 => explicit_point(point)?,
                10 => exponential_point(point)?,
                _ => summary_point(point)?,
            };
            translator.point(promoted, Metric { name, grows }, &point);
            Ok(())
        })
    })
}

fn number_point(message: &[u8]) -> Result<Point<'_>, Malformed> {
    let mut point = Point::default();
    each(message, |number, field| {
        match number {
            3 => point.time_unix_nano = field.fixed64()?,
            4 => point.reading = Reading::Number(Number::Float(field.double()?)),
            6 => point.reading = Reading::Number(Number::Whole(field.fixed64()? as i64)),
            7 => point.attributes.push(attribute(field.bytes()?)?),
            8 => point.flags = field.varint()?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(point)
}

fn explicit_point(message: &[u8]) -> Result<Point<'_>, Malformed> {
    let (mut point, mut total, mut histogram) = (Point::default(), Total::default(), Explicit::default());
    each(message, |number, field| {
        match number {
            3 => point.time_unix_nano = field.fixed64()?,
            4 => total.count = field.fixed64()?,
            5 => total.sum = Some(field.double()?),
            6 => field.each_fixed64(|count| histogram.counts.push(count))?,
            7 => field.each_fixed64(|bound| histogram.bounds.push(f64::from_bits(bound)))?,
            9 => point.attributes.push(attribute(field.bytes()?)?),
            10 => point.flags = field.varint()?,
            11 => histogram.min = Some(field.double()?),
            12 => histogram.max = Some(field.double()?),
            _ => {}
        }
        Ok(())
    })?;
    point.reading = Reading::Explicit(total, histogram);
    Ok(point)
}

fn exponential_point(message: &[u8]) -> Result<Point<'_>, Malformed> {
    let (mut point, mut total, mut histogram) = (Point::default(), Total::default(), Exponential::default());
    each(message, |number, field| {
        match number {
            1 => point.attributes.push(attribute(field.bytes()?)?),
            3 => point.time_unix_nano = field.fixed64()?,
            4 => total.count = field.fixed64()?,
            5 => total.sum = Some(field.double()?),
            6 => histogram.scale = field.zigzag()?,
            7 => histogram.zero_count = field.fixed64()?,
            8 => read_buckets(field.bytes()?, &mut histogram.positive)?,
            9 => read_buckets(field.bytes()?, &mut histogram.negative)?,
            10 => point.flags = field.varint()?,
            12 => histogram.min = Some(field.double()?),
            13 => histogram.max = Some(field.double()?),
            _ => {}
        }
        Ok(())
    })?;
    point.reading = Reading::Exponential(total, histogram);
    Ok(point)
}

fn read_buckets(message: &[u8], buckets: &mut Buckets) -> Outcome {
    each(message, |number, field| {
        match number {
            1 => buckets.offset = field.zigzag()?,
            2 => field.each_varint(|count| buckets.counts.push(count))?,
            _ => {}
        }
        Ok(())
    })
}

fn summary_point(message: &[u8]) -> Result<Point<'_>, Malformed> {
    // Zero is not written.
    let mut total = Total { count: 0, sum: Some(0.0) };
    let (mut point, mut quantiles) = (Point::default(), Vec::new());
    each(message, |number, field| {
        match number {
            3 => point.time_unix_nano = field.fixed64()?,
            4 => total.count = field.fixed64()?,
            5 => total.sum = Some(field.double()?),
            6 if quantiles.len() <= SUMMARY_MAX => {
                let (mut share, mut value) = (0.0, 0.0);
                each(field.bytes()?, |number, field| {
                    match number {
                        1 => share = field.double()?,
                        2 => value = field.double()?,
                        _ => {}
                    }
                    Ok(())
                })?;
                quantiles.push((share, value));
            }
            7 => point.attributes.push(attribute(field.bytes()?)?),
            8 => point.flags = field.varint()?,
            _ => {}
        }
        Ok(())
    })?;
    point.reading = Reading::Summary(total, quantiles);
    Ok(point)
}
