//! OTLP metrics in both encodings: no panic, and every data point is taken, refused or without a value.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pulsewire_sources::otlp::{OtlpEncoding, OtlpOptions, read};

fuzz_target!(|body: &[u8]| {
    let options = OtlpOptions { resource_attributes: vec!["service.name".into()], count_max: 10 };
    for encoding in [OtlpEncoding::Protobuf, OtlpEncoding::Json] {
        let Ok(intake) = read(body, encoding, &options) else { continue };
        assert!(intake.samples.len() <= 10);
        assert!(intake.samples.iter().all(|sample| sample.value.as_f64().is_finite()));
        let mut taken = intake.points.clone();
        taken.dedup();
        let all = taken.len() as u64 + intake.refused.total() + intake.without_value;
        assert_eq!(intake.points_total, all);
    }
});
