//! Whole-crate tests: one binary, a module per behaviour.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod autobahn;
mod codec;
mod codec_differential;
mod codec_properties;
mod frames;
mod handshake;
mod origin;
mod sys;
