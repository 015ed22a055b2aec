//! `cargo xtask test`: sets up what the tests need, runs all of them and adds up the results.
//!
//! The SDK's tests wait for browsers most of the time, so they run beside the stages that compute; each line says whose it is.
//!
//! The last line is always `N passed, N failed` with `, N skipped` behind it where something could not run. What is
//! skipped is said with its reason, and under `CI=true` it is a failure: a test that quietly does not run proves
//! nothing.

mod results;

use std::io::{BufRead as _, BufReader};
use std::process::{ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::steps::seconds;
use crate::workspace::Workspace;
use crate::{budgets, fuzz, sdk, setup};

pub use results::Results;

/// Schedules per simulation test where `PULSEWIRE_SIM_SEEDS` does not say otherwise.
const SIM_SEEDS: &str = "1000";

type Stage = (&'static str, fn(&Workspace, &mut Results) -> Result<()>);

const STAGES: [Stage; 4] =
    [("cargo", cargo), ("sdk", sdk::run), ("fuzz", fuzz::run), ("budgets", budgets::measure)];
/// The stage that runs beside those after it; what it needs is built by the one before it.
const BESIDE: usize = 1;

/// Runs the named stages, or all.
///
/// # Errors
///
/// When a name is no stage's, or a stage cannot be started at all.
pub fn run(workspace: &Workspace, names: &[String]) -> Result<ExitCode> {
    if let Some(unknown) = names.iter().find(|name| STAGES.iter().all(|(stage, _)| stage != name)) {
        bail!("no stage `{unknown}`; there are {}", STAGES.map(|(stage, _)| stage).join(", "));
    }
    for package in setup::ensure() {
        println!("setup: without {} these are SKIPPED: {}", package.name, package.needed_for);
    }
    let mut results = stages(workspace, names, &STAGES[..BESIDE]);
    let (beside, after) = std::thread::scope(|scope| {
        let beside = scope.spawn(|| stages(workspace, names, &STAGES[BESIDE..=BESIDE]));
        let after = stages(workspace, names, &STAGES[BESIDE + 1..]);
        (beside.join(), after)
    });
    results.merge(after);
    results.merge(beside.map_err(|_| anyhow::anyhow!("a stage ended without a result, see above"))?);
    let in_ci = std::env::var("CI").is_ok_and(|value| value == "true");
    for reason in &results.skipped {
        println!("SKIPPED{}: {reason}", if in_ci { " (an error in CI)" } else { "" });
    }
    println!("{results}");
    let good = results.failed == 0 && (results.skipped.is_empty() || !in_ci);
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs those of the stages that are asked for, one after the other.
fn stages(workspace: &Workspace, names: &[String], stages: &[Stage]) -> Results {
    let mut results = Results::default();
    for (stage, run) in stages {
        if !names.is_empty() && names.iter().all(|name| name != stage) {
            continue;
        }
        let started = Instant::now();
        println!("== {stage}");
        if let Err(error) = run(workspace, &mut results) {
            println!("{stage}: {error:#}");
            results.failed += 1;
        }
        println!("== {stage}: {}", seconds(started.elapsed()));
    }
    results
}

/// All tests of the workspace, documentation examples included.
fn cargo(workspace: &Workspace, results: &mut Results) -> Result<()> {
    let mut command = workspace.cargo(["test", "--workspace", "--no-fail-fast"]);
    if std::env::var_os("PULSEWIRE_SIM_SEEDS").is_none() {
        command.env("PULSEWIRE_SIM_SEEDS", SIM_SEEDS);
    }
    let mut child = command.stdout(Stdio::piped()).spawn().context("cannot start cargo test")?;
    let output = child.stdout.take().context("cargo test has no output")?;
    let failed_before = results.failed;
    for line in BufReader::new(output).lines() {
        let line = line?;
        println!("{line}");
        results.read_line(&line);
    }
    if !child.wait()?.success() && results.failed == failed_before {
        bail!("cargo test failed before any test did, see above");
    }
    Ok(())
}
