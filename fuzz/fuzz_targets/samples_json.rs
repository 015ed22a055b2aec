//! Samples in JSON: no panic, what is read is good, and there is never more of it than was asked for.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pulsewire_protocol::{Sample, read_samples};

fuzz_target!(|body: &[u8]| {
    let Ok(batch) = read_samples(body, None, 10) else { return };
    let samples: usize = batch.channels.iter().map(|group| group.samples.len()).sum();
    assert!(samples + batch.refused.len() <= 10);
    for group in &batch.channels {
        assert_eq!(group.samples.len(), group.indexes.len());
        for sample in &group.samples {
            assert!(Sample::is_name(&sample.name) && sample.value.as_f64().is_finite());
        }
    }
});
