//! The Pulsewire server: settings, access and the command line around the crates that do the work.

pub mod auth;
pub mod cli;
pub mod hook;
pub mod settings;
