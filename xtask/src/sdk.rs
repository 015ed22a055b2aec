//! The TypeScript SDK: its types, its builds, its sizes and its tests, against the server as it was built here.
//!
//! Every step is a script of `sdk/typescript/package.json`, so `npm run test:unit` is the same as what runs here.

use anyhow::{Context, Result};

use crate::generated;
use crate::npm::{Counts, Npm, Script};
use crate::setup::CHROMIUM;
use crate::test::Results;
use crate::workspace::Workspace;

/// The folder of the packages.
const FOLDER: &str = "sdk/typescript";

const SCRIPTS: [Script; 7] = [
    Script { name: "typecheck", counts: Counts::Check, tools: &[] },
    Script { name: "build", counts: Counts::Check, tools: &[] },
    Script { name: "size", counts: Counts::Check, tools: &[] },
    Script { name: "test:unit", counts: Counts::Tests, tools: &[] },
    Script { name: "test:conformance", counts: Counts::Tests, tools: &[] },
    Script { name: "test:browser", counts: Counts::Tests, tools: &CHROMIUM },
    Script { name: "examples", counts: Counts::Check, tools: &CHROMIUM },
];

/// Installs the packages that the stage needs.
///
/// # Errors
///
/// What npm says.
pub fn packages(workspace: &Workspace) -> Result<()> {
    Npm::new(workspace, "sdk", FOLDER, &SCRIPTS)?.install()
}

/// Runs every script; without Node nothing can, which is said.
///
/// # Errors
///
/// When the server does not build, the packages cannot be installed, or `package.json` lacks a script.
pub fn run(workspace: &Workspace, results: &mut Results) -> Result<()> {
    let npm = Npm::new(workspace, "sdk", FOLDER, &SCRIPTS)?;
    if let Err(error) = npm.node() {
        results.skip(format!("sdk: {error:#}"));
        return Ok(());
    }
    let programs = generated::programs(workspace)?;
    npm.install()?;
    npm.run(&SCRIPTS, programs.parent().context("the programs have no folder")?, results)
}
