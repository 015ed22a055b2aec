//! Whole-crate tests of the server, a module for each behaviour.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod access;
mod admin;
mod attached;
mod auth;
mod backup;
mod bench;
mod channels;
mod child;
mod cli;
mod conformance;
mod conversation;
#[cfg(feature = "ui")]
mod dashboard;
#[path = "../../../bus/tests/it/database.rs"]
mod database;
mod derived;
mod disk;
mod document_003;
mod document_004;
mod durable;
mod embed;
mod exhaustion;
mod figures;
mod grafana;
mod harness;
mod health;
mod image;
mod ingest;
mod jwks;
mod kill;
mod lifecycle;
mod live_metrics;
mod memory;
mod metrics;
mod monitoring;
mod msgpack;
mod nodes;
mod origins;
mod pages;
mod panels;
mod pipeline;
mod postgres;
mod presence;
mod proof;
mod protocol;
mod proxies;
mod reading;
mod receiver;
mod recorded;
mod redis;
mod reload;
mod rules;
mod service;
mod settings;
mod slow;
mod support;
mod sys_channels;
mod terminal;
mod tls;
mod transcript;
mod watching;
