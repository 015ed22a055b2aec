//! Telemetry from outside: verbs in, exposition out.

mod catalogue;
mod custom;
mod exposition;
mod merge;
mod parser;
mod size;
mod verbs;
