//! Prometheus remote write, packed and unpacked: no panic, and never more than was asked for.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pulsewire_sources::remote_write::{RemoteWriteOptions, read};

fuzz_target!(|body: &[u8]| {
    let options = RemoteWriteOptions { count_max: 10, bytes_max: 1 << 16 };
    let _ = read(body, options);
    let packed = snap::raw::Encoder::new().compress_vec(body).expect("a small body packs");
    let Ok(intake) = read(&packed, options) else { return };
    assert!(intake.samples.len() <= 10);
    let all = intake.samples.len() as u64 + intake.refused.total() + intake.without_value;
    assert_eq!(intake.points_total, all);
});
