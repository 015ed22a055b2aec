//! Figures: how the server does, as numbers over time.
//!
//! A figure is a number an operator follows: connections, messages a second, a percentile. All are declared in
//! [`FIGURES`], computed from two [`Moment`]s, and kept by the [`History`] at three lengths of step. Each step
//! is computed from the moments at its own two ends, so the 95th percentile of a minute is that of the minute and no
//! mean of sixty others. Deciding code has no clock: the [`sampler`] has it.

mod history;
pub mod sampler;
mod step;
mod table;
mod typescript;

use std::sync::Arc;

use pulsewire_hub::Now;
use pulsewire_telemetry::{Current, Process, Snapshot};

pub use history::{History, TIERS, Tier, Window};
pub use step::Step;
pub use table::{FIGURES, Figure, Unit};
pub(crate) use table::{connection_bytes, percent};
pub use typescript::typescript;

/// Everything that figures are computed from, at one moment.
#[derive(Debug, Clone)]
pub struct Moment {
    /// When.
    pub at: Now,
    /// What has happened since the start.
    pub totals: Snapshot,
    /// The process's own numbers.
    pub process: Process,
    /// What there is; `None` if a shard did not answer.
    pub current: Option<Arc<Current>>,
}

/// The place of a figure in [`FIGURES`].
#[must_use]
pub fn index_of(id: &str) -> Option<usize> {
    FIGURES.iter().position(|figure| figure.id == id)
}

/// A value as it is shown: whole numbers without `.0`, others with what an `f32` knows of them.
#[must_use]
pub fn shown(value: Option<f32>) -> serde_json::Value {
    match value {
        None => serde_json::Value::Null,
        Some(value) if value.fract() == 0.0 && value.abs() < 1e15 => serde_json::json!(value as i64),
        // By way of its shortest text: an f32 as an f64 has digits that were never measured.
        Some(value) => {
            value.to_string().parse::<f64>().map_or(serde_json::Value::Null, |value| serde_json::json!(value))
        }
    }
}
