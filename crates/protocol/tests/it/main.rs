//! What a client can rely on, shown from outside the crate.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed, helpers included")]

mod answers;
mod golden;
mod metrics;
mod properties;
mod requests;
mod samples;
