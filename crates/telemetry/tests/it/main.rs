//! Telemetry from outside: verbs in, exposition out.

#![expect(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

mod catalogue;
mod custom;
mod exposition;
mod merge;
mod parser;
mod protobuf;
mod size;
mod verbs;
