//! The operations pack: every file of `deploy/`, read by the tool that it is written for.
//!
//! What can be started here is started by the server's own tests (`crates/server/tests/it`); this stage holds the files
//! themselves. Tools come from Debian (`setup`), PyPI (`deploy/checks/requirements.txt`) and npm
//! (`deploy/checks/package-lock.json`).

mod kubernetes;
mod machines;
mod monitoring;
mod rules;
mod tools;

use std::time::Instant;

use anyhow::{Context, Result};

use crate::generated;
use crate::npm::{Counts, Npm, Script};
use crate::steps::seconds;
use crate::test::Results;
use crate::workspace::Workspace;

/// The folder of what reads the files.
const CHECKS: &str = "deploy/checks";

/// What TypeScript reads: expressions against the catalogue, dashboards, manifests with types of their own, k6.
const SCRIPTS: [Script; 2] = [
    Script { name: "typecheck", counts: Counts::Check, tools: &[] },
    Script { name: "test", counts: Counts::Tests, tools: &[] },
];

/// One thing that holds or does not.
struct Check {
    /// What is printed.
    name: &'static str,
    /// Programs of the system without which it cannot run.
    tools: &'static [&'static str],
    /// Does the work; the text says what was looked at.
    run: fn(&Pack<'_>) -> Result<String>,
}

/// What checks work with.
struct Pack<'a> {
    workspace: &'a Workspace,
    /// Programs of the Python packages in `deploy/checks/requirements.txt`.
    python: tools::Python,
    /// The folder with the workspace's programs.
    programs: std::path::PathBuf,
}

/// Installs the packages that the stage needs.
///
/// # Errors
///
/// What npm or pip say.
pub fn packages(workspace: &Workspace) -> Result<()> {
    Npm::new(workspace, "operations", CHECKS, &SCRIPTS)?.install()?;
    tools::install(workspace, &workspace.metadata()?.target_directory).map(drop)
}

/// Runs every check.
///
/// # Errors
///
/// When the workspace does not build, or tools cannot be installed.
pub fn run(workspace: &Workspace, results: &mut Results) -> Result<()> {
    let npm = Npm::new(workspace, "operations", CHECKS, &SCRIPTS)?;
    if let Err(error) = npm.node() {
        results.skip(format!("operations: {error:#}"));
        return Ok(());
    }
    let programs = generated::programs(workspace)?;
    npm.install()?;
    let target = programs.parent().context("the programs have no folder")?.to_path_buf();
    let pack = Pack { workspace, python: tools::install(workspace, &target)?, programs };
    let all = [
        rules::CHECKS.as_slice(),
        monitoring::CHECKS.as_slice(),
        machines::CHECKS.as_slice(),
        kubernetes::CHECKS.as_slice(),
    ];
    for check in all.into_iter().flatten() {
        run_one(&pack, check, results);
    }
    npm.run(&SCRIPTS, &target, results)
}

fn run_one(pack: &Pack<'_>, check: &Check, results: &mut Results) {
    if let Some(missing) = check.tools.iter().find(|tool| !crate::setup::installed(tool)) {
        return results.skip(format!("operations {}: {missing} is not installed", check.name));
    }
    let started = Instant::now();
    let outcome = (check.run)(pack);
    results.add(outcome.is_ok());
    let took = seconds(started.elapsed());
    match outcome {
        Ok(said) => println!("operations {} ... ok, {said}, {took}", check.name),
        Err(error) => println!("operations {} ... FAILED, {took}\n{error:#}", check.name),
    }
}
