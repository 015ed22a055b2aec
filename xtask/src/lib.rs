//! What stands behind `cargo xtask`: every check CI runs, callable one by one.
//!
//! A library so that the layer test (`tests/layers.rs`) and the commands read the workspace the same way.
#![expect(clippy::print_stdout, reason = "printing verdicts is what these commands are for")]

pub mod budgets;
pub mod check;
pub mod dashboard;
pub mod dependencies;
pub mod fuzz;
pub mod generated;
pub mod links;
pub mod mutants;
pub mod npm;
pub mod operations;
pub mod proofs;
pub mod sdk;
pub mod setup;
pub mod steps;
pub mod telemetry_cost;
pub mod test;
pub mod workspace;
