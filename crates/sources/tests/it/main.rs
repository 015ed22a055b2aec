//! What other systems send, and what becomes of it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed, helpers included")]

mod encode;
mod otlp;
mod remote_write;

use pulsewire_protocol::{Number, SampleFault};
use pulsewire_sources::Intake;

/// An intake as lines: point, kind, name, value, time, tags.
fn lines(intake: &Intake) -> Vec<String> {
    assert_eq!(intake.samples.len(), intake.points.len());
    assert!(intake.points.is_sorted());
    let line = |(point, sample): (&u64, &pulsewire_protocol::Sample)| {
        let value = match sample.value {
            Number::Whole(value) => value.to_string(),
            Number::Float(value) => format!("{value:?}"),
        };
        let moment = sample.timestamp_ms.map(|ms| format!(" @{ms}")).unwrap_or_default();
        let tags: String = sample.tags.iter().map(|(key, value)| format!(" {key}={value}")).collect();
        format!("{point} {} {} {value}{moment}{tags}", sample.kind.name(), sample.name)
    };
    intake.points.iter().zip(&intake.samples).map(line).collect()
}

fn faults(intake: &Intake) -> Vec<(SampleFault, u64)> {
    intake.refused.by_fault().collect()
}
