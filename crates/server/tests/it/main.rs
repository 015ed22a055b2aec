//! Whole-crate tests of the server, a module for each behaviour.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod auth;
mod cli;
mod settings;
mod support;
