//! `cargo xtask proofs`: rows of the fault catalogue that take too long for every change.
//!
//! The work is done by `pulsewire bench`, in release mode, against servers it starts on 127.0.0.1; each row's bound is
//! a budget there, and a missed one fails. Their short forms are in the ordinary tests.

use std::process::ExitCode;

use anyhow::{Context, Result, ensure};

use crate::workspace::Workspace;

/// The page that a full run of all proofs writes.
const PAGE: &str = "docs/proofs.md";
/// Enough to see each of them work; the numbers of clients stay.
const SHORT: [&str; 2] = ["--duration", "3s"];

/// Runs the named proofs, or all.
///
/// # Errors
///
/// When the program cannot be built or started.
pub fn run(workspace: &Workspace, words: &[String]) -> Result<ExitCode> {
    let (flags, names): (Vec<&String>, Vec<&String>) = words.iter().partition(|word| word.starts_with("--"));
    if let Some(unknown) = flags.iter().find(|flag| flag.as_str() != "--short") {
        anyhow::bail!("no flag `{unknown}`; there is --short");
    }
    let built = workspace.cargo(["build", "--release", "--quiet", "--package", "pulsewire"]).status()?;
    ensure!(built.success(), "pulsewire does not build in release mode");
    let program = workspace.metadata()?.target_directory.join("release/pulsewire");
    let mut command = workspace.command(&program);
    command.args(["bench", "--strict"]);
    if !flags.is_empty() {
        command.args(SHORT);
    }
    if names.is_empty() {
        command.arg("proofs");
        if flags.is_empty() {
            command.args(["--write", PAGE]);
        }
    } else {
        command.args(names);
    }
    let status = command.status().context("cannot start pulsewire bench")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
