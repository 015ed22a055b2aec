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
use crate::{budgets, dashboard, fuzz, operations, sdk, setup};

pub use results::Results;

/// Schedules per simulation test where `PULSEWIRE_SIM_SEEDS` does not say otherwise.
const SIM_SEEDS: &str = "600";

/// Tests at a time for each core where `RUST_TEST_THREADS` does not say otherwise: those of the server wait for timers,
/// databases and other processes most of the time.
const TESTS_PER_CORE: usize = 2;

type Stage = (&'static str, fn(&Workspace, &mut Results) -> Result<()>);

const STAGES: [Stage; 6] = [
    ("cargo", cargo),
    ("sdk", sdk::run),
    ("dashboard", dashboard::test),
    ("operations", operations::run),
    ("fuzz", fuzz::run),
    ("budgets", budgets::measure),
];
/// The stages that run beside those after them; what they need is built by the one before them.
const BESIDE: std::ops::Range<usize> = 1..4;

/// Installs the packages that a stage needs.
type Fetch = fn(&Workspace) -> Result<()>;

/// What stages need of the network.
const PACKAGES: [(&str, Fetch); 3] =
    [("sdk", sdk::packages), ("dashboard", dashboard::packages), ("operations", operations::packages)];

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
    let (mut results, beside, after) = std::thread::scope(|scope| {
        let fetching = scope.spawn(|| fetch(workspace, names));
        if names.is_empty() {
            scope.spawn(|| fuzz::begin(workspace));
        }
        let first = stages(workspace, names, &STAGES[..BESIDE.start]);
        let _ = fetching.join();
        let beside = scope.spawn(|| stages(workspace, names, &STAGES[BESIDE]));
        let after = stages(workspace, names, &STAGES[BESIDE.end..]);
        (first, beside.join(), after)
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

/// Gets packages over the network while the first stage computes. What fails is tried again by its stage, which says so.
fn fetch(workspace: &Workspace, names: &[String]) {
    for (stage, packages) in PACKAGES {
        if names.is_empty() || names.iter().any(|name| name == stage) {
            let _ = packages(workspace);
        }
    }
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
    if std::env::var_os("RUST_TEST_THREADS").is_none() {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        command.env("RUST_TEST_THREADS", (cores * TESTS_PER_CORE).to_string());
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
