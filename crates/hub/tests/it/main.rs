//! The hub held to its promises: a seeded simulation of a hostile network, and scenarios in plain words.

#![allow(clippy::unwrap_used, missing_docs, unreachable_pub, dead_code, reason = "tests")]

mod clock;
mod cluster;
mod hostile;
mod inbox;
mod mutants;
mod presence;
mod replay;
mod scenarios;
mod sim;
mod watching;
