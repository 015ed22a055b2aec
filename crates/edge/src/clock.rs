//! The process's clocks, read where deciding code must not.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pulsewire_hub::Now;

/// This moment on both clocks.
#[must_use]
pub fn now() -> Now {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Now {
        mono_ns: crate::sys::monotonic_ns().unwrap_or(0),
        wall_ms: i64::try_from(wall.as_millis()).unwrap_or(i64::MAX),
    }
}
