//! What is normal, and what the server says when it is not.
//!
//! A [`Rule`] measures one thing over a window of time and compares it with three limits. The [`Judge`] evaluates all
//! rules once a second, from the moments the [sampler](crate::figures::sampler) takes; overview, alerts, health and
//! metrics show what it found, so that they cannot disagree. Nothing is decided by one bad second: a value has to be
//! beyond a limit for as long as `thresholds.hold` before it is an alert, and within it as long before it is none.
//! Where too little happened for a share or a percentile to mean anything, nothing is judged.

mod hold;
mod judge;
mod recent;
mod rules;
mod shown;

pub use judge::{Found, Judge, Level, State, Told};
pub use rules::{RULES, Reading, Rule, rule};
pub use shown::{alert, compact, rounded, tile};

#[cfg(test)]
mod tests;
