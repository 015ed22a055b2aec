//! The Pulsewire server: settings, access and the command line around the crates that do the work.

pub mod accept;
pub mod agents;
pub mod app;
pub mod auth;
pub mod backend;
pub mod blocks;
pub mod cli;
pub mod collect;
pub mod descriptors;
pub mod dev;
pub mod hook;
pub mod http;
pub mod memory;
pub mod outbound;
pub mod patient;
pub mod presence;
pub mod random;
pub mod reading;
pub mod reload;
pub mod seats;
pub mod serve;
pub mod settings;
pub mod store;
pub mod stream;
pub mod tls;
