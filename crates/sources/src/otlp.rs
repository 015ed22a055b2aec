//! OTLP metrics: `ExportMetricsServiceRequest`, in Protobuf and in JSON, to samples.
//!
//! Both encodings are walked without building a tree of them: each data point becomes its samples as it is met, so
//! what a request costs is bounded by `count_max`. A data point that cannot be taken is refused alone; only a
//! request that cannot be decoded is refused whole.

mod answer;
mod distribution;
mod json;
mod protobuf;
mod translate;

use crate::intake::{Intake, Malformed};

pub use answer::{GrpcCode, accepted, refused};

/// How a request is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OtlpEncoding {
    /// `application/x-protobuf`.
    Protobuf,
    /// `application/json`.
    Json,
}

/// What becomes of requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtlpOptions {
    /// Attributes of the resource that become tags of all its samples; the others are left out.
    pub resource_attributes: Vec<String>,
    /// Samples of one request at most; data points beyond are refused.
    pub count_max: usize,
}

/// Reads a request.
///
/// # Errors
///
/// If it cannot be decoded.
pub fn read(body: &[u8], encoding: OtlpEncoding, options: &OtlpOptions) -> Result<Intake, Malformed> {
    let mut translator = translate::Translator::new(options);
    match encoding {
        OtlpEncoding::Protobuf => protobuf::read(body, &mut translator)?,
        OtlpEncoding::Json => json::read(body, &mut translator)?,
    }
    Ok(translator.finish())
}
