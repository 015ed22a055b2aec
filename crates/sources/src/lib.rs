//! What brings events into Pulsewire.
//!
//! A source reads something outside and hands over values ready to be published; it knows
//! nothing of subscribers. The [`host`] collector reads this machine; [`otlp`] and
//! [`remote_write`] read what OpenTelemetry and Prometheus send.

pub mod host;
mod intake;
pub mod otlp;
pub mod remote_write;
mod wire;

pub use intake::{Intake, Malformed, Refused};
