//! What brings events and samples into Pulsewire.
//!
//! A source reads something outside, or the events that pass, and hands over values ready to be
//! published; it knows nothing of subscribers. The [`host`] collector reads this machine, [`otlp`] and
//! [`remote_write`] what OpenTelemetry and Prometheus send, [`redis`] what others publish there, and [`mod@derive`]
//! counts events.

pub mod derive;
pub mod host;
mod intake;
pub mod otlp;
pub mod redis;
pub mod remote_write;
pub mod upstream;
mod wire;

pub use intake::{Intake, Malformed, Refused};
