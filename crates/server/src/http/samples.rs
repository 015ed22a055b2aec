//! Samples over HTTP: document 004's JSON here; OTLP and Prometheus remote write beside it.
//!
//! All three are let in, unpacked and published in the same way. A body is unpacked and published without waiting in
//! between, so there are never more unpacked bodies than threads. One wrong sample is refused alone.

pub mod otlp;
pub mod remote_write;
mod unpack;

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use pulsewire_bus::SamplesReceipt;
use pulsewire_edge::clock;
use pulsewire_hub::{Action, Principal};
use pulsewire_protocol::{ChannelName, ErrorCode, Sample, SampleBatch, SampleFault, read_samples};
use pulsewire_sources::Intake;
use pulsewire_telemetry::{SampleRefusal, SampleSource, limited};
use serde_json::{Value, json};

use super::access::{self, Caller};
use super::body::Whole;
use super::problem::Problem;
use super::read::asked;
use crate::app::App;

/// Refusals that an answer shows.
const SHOWN_MAX: usize = 1_000;

/// `POST /api/metrics/samples`: a sample, a list of samples, or `{"channel", "samples": […]}`.
///
/// The answer says how many were accepted and which were refused. If all were, it is the problem of the first.
///
/// # Errors
///
/// The [`Problem`] that the answer is.
pub async fn publish(
    State(app): State<Arc<App>>,
    caller: Caller,
    Whole(body): Whole,
) -> Result<Json<Value>, Problem> {
    let principal = sender(&app, &caller).await?;
    let ingest = app.live.load().settings.ingest.clone();
    let channel = wanted_channel(&caller)?;
    let body = unpack::plain(&caller.headers, &body, ingest.decompressed_bytes_max);
    let body = body.inspect_err(|_| count(&app, SampleFault::Malformed, 1))?;
    let batch = read_samples(&body, channel.as_ref(), ingest.batch_max).map_err(|error| {
        count(&app, error.fault, 1);
        Problem::new(error.code, error.detail)
    })?;
    let (accepted, refused) = publish_batch(&app, &principal, SampleSource::Http, batch);
    answer(accepted, &refused).map(Json)
}

/// A sample that was refused: its place in the request, the code and what is wrong.
pub type Refused = (usize, ErrorCode, String);

/// Publishes what was read of a request, each sample by itself. Returns how many were accepted, and which were not.
pub fn publish_batch(
    app: &App,
    principal: &Principal,
    source: SampleSource,
    batch: SampleBatch,
) -> (usize, Vec<Refused>) {
    let (mut accepted, mut refused) = (0, Vec::with_capacity(batch.refused.len()));
    for error in batch.refused {
        count(app, error.fault, 1);
        refused.push((error.index.unwrap_or_default(), error.code, error.detail));
    }
    for group in batch.channels {
        match take(app, principal, source, &group.channel, group.samples) {
            Ok(receipt) => {
                accepted += receipt.accepted;
                let of = |it: pulsewire_bus::RefusedSample| (group.indexes[it.index], it.code, it.detail);
                refused.extend(receipt.refused.into_iter().map(of));
            }
            Err(problem) => {
                // The samples of a grouped document share its index.
                let mut indexes = group.indexes;
                indexes.dedup();
                refused
                    .extend(indexes.into_iter().map(|index| (index, problem.code, problem.detail.clone())));
            }
        }
    }
    refused.sort_by_key(|(index, ..)| *index);
    (accepted, refused)
}

fn answer(accepted: usize, refused: &[Refused]) -> Result<Value, Problem> {
    if let Some((index, code, detail)) = refused.first() {
        if accepted == 0 {
            return Err(Problem { index: Some(*index), ..Problem::new(*code, detail) });
        }
        limited!(warn, refused = refused.len(), first = %detail, "samples were refused");
    }
    let shown = refused
        .iter()
        .take(SHOWN_MAX)
        .map(|(index, code, detail)| json!({ "index": index, "code": code.name(), "detail": detail }));
    let mut answer = json!({ "accepted": accepted, "refused": shown.collect::<Vec<_>>() });
    if refused.len() > SHOWN_MAX {
        answer["refused_more"] = (refused.len() - SHOWN_MAX).into();
    }
    Ok(answer)
}

/// Who sends samples, if they may and the server still takes any.
async fn sender(app: &App, caller: &Caller) -> Result<Arc<Principal>, Problem> {
    if app.blocks.is_blocked(caller.remote.ip(), clock::now().wall_ms) {
        return Err(Problem::new(ErrorCode::Forbidden, "an operator has shut your address out for a time"));
    }
    let principal = access::publisher(app, caller).await?;
    if app.is_draining() { Err(ErrorCode::Draining.into()) } else { Ok(principal) }
}

/// The channel of `?channel=`.
fn wanted_channel(caller: &Caller) -> Result<Option<ChannelName>, Problem> {
    let name = asked::parameter(caller.query(), "channel")?;
    let name = name.map(|name| ChannelName::parse(&name)).transpose();
    name.map_err(|error| Problem::new(ErrorCode::InvalidChannel, error.to_string()))
}

/// The channel of `?channel=`, or the one of the settings.
fn channel_or(caller: &Caller, default: &str) -> Result<ChannelName, Problem> {
    match wanted_channel(caller)? {
        Some(channel) => Ok(channel),
        None => ChannelName::parse(default)
            .map_err(|error| Problem::new(ErrorCode::InvalidChannel, error.to_string())),
    }
}

fn authorise(app: &App, principal: &Principal, channel: &ChannelName) -> Result<(), Problem> {
    let read_only = app.bus.namespace(channel).is_some_and(|namespace| namespace.read_only);
    if read_only || !principal.may(Action::Publish, channel) {
        let detail = format!("this credential does not allow to publish to `{channel}`");
        return Err(Problem::new(ErrorCode::Forbidden, detail));
    }
    Ok(())
}

/// Publishes the samples of one channel. What is refused is counted.
fn take(
    app: &App,
    principal: &Principal,
    source: SampleSource,
    channel: &ChannelName,
    samples: Vec<Sample>,
) -> Result<SamplesReceipt, Problem> {
    authorise(app, principal, channel).inspect_err(|_| {
        app.telemetry.shared().samples_refused(SampleRefusal::Channel, samples.len() as u64);
    })?;
    app.bus.publish_samples(clock::now(), source, channel, samples).map_err(|code| match code {
        ErrorCode::Unsupported => Problem::new(code, format!("`{channel}` is no metric channel")),
        code => code.into(),
    })
}

/// What became of the points of a request.
struct Taken {
    accepted: u64,
    refused: u64,
    /// What is wrong with the first that was refused.
    first: String,
}

/// Publishes what another system sent. Points without a value are counted, and nobody's mistake.
fn take_intake(
    app: &App,
    principal: &Principal,
    source: SampleSource,
    channel: &ChannelName,
    intake: Intake,
) -> Result<Taken, Problem> {
    let Intake { samples, points, refused, without_value, points_total, .. } = intake;
    for (fault, n) in refused.by_fault() {
        count(app, fault, n);
    }
    count(app, SampleFault::Value, without_value);
    let mut first = refused.first.clone();
    let mut refused = refused.total();
    if !samples.is_empty() {
        let receipt = take(app, principal, source, channel, samples)?;
        let mut late: Vec<u64> = receipt.refused.iter().map(|sample| points[sample.index]).collect();
        late.dedup();
        refused += late.len() as u64;
        first = first.or_else(|| receipt.refused.into_iter().next().map(|sample| sample.detail));
    }
    let first = first.unwrap_or_default();
    if refused > 0 {
        limited!(warn, %channel, source = source.as_str(), refused, first = %first, "samples were refused");
    }
    Ok(Taken { accepted: points_total - without_value - refused, refused, first })
}

fn count(app: &App, fault: SampleFault, n: u64) {
    app.telemetry.shared().samples_refused(refusal_of(fault), n);
}

/// What telemetry calls a fault.
#[must_use]
pub fn refusal_of(fault: SampleFault) -> SampleRefusal {
    match fault {
        SampleFault::Malformed => SampleRefusal::Malformed,
        SampleFault::Channel => SampleRefusal::Channel,
        SampleFault::Name => SampleRefusal::Name,
        SampleFault::Tags => SampleRefusal::Tags,
        SampleFault::Value => SampleRefusal::Value,
        SampleFault::BatchMax => SampleRefusal::BatchMax,
    }
}
