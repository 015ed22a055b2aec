//! Whole-crate tests of the server, a module for each behaviour.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod access;
mod admin;
mod attached;
mod auth;
mod bench;
mod child;
mod cli;
mod conformance;
mod conversation;
#[path = "../../../bus/tests/it/database.rs"]
mod database;
mod derived;
mod disk;
mod document_003;
mod document_004;
mod durable;
mod embed;
mod exhaustion;
mod harness;
mod health;
mod ingest;
mod jwks;
mod kill;
mod lifecycle;
mod live_metrics;
mod memory;
mod metrics;
mod msgpack;
mod nodes;
mod origins;
mod postgres;
mod presence;
mod proof;
mod protocol;
mod reading;
mod recorded;
mod redis;
mod reload;
mod settings;
mod slow;
mod support;
mod tls;
mod transcript;
