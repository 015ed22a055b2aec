//! What brings events into Pulsewire.
//!
//! A source reads something outside and hands over values ready to be published; it knows
//! nothing of subscribers. Today there is one, the [`host`] collector.

pub mod host;
