//! Programs that come from PyPI, installed below `target`, and only when their list has changed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::CHECKS;
use crate::steps::quietly;
use crate::workspace::Workspace;

/// Where the programs are.
pub(super) struct Python(PathBuf);

impl Python {
    /// A program of a package.
    pub(super) fn command(&self, workspace: &Workspace, program: &str) -> Command {
        workspace.command(self.0.join("bin").join(program))
    }
}

/// Installs what the list says, unless it is.
///
/// # Errors
///
/// What pip says.
pub(super) fn install(workspace: &Workspace, target: &Path) -> Result<Python> {
    let folder = target.join("operations-python");
    let list = format!("{CHECKS}/requirements.txt");
    let wanted = workspace.read(&list)?;
    let installed = folder.join("installed.txt");
    if fs::read_to_string(&installed).is_ok_and(|before| before == wanted) {
        return Ok(Python(folder));
    }
    // A list that has changed begins anew: what it no longer names must not be found.
    let _ = fs::remove_dir_all(&folder);
    quietly(workspace.command("python3").args(["-m", "venv"]).arg(&folder))
        .context("python3 -m venv failed")?;
    let mut pip = workspace.command(folder.join("bin/pip"));
    pip.args(["install", "--quiet", "--disable-pip-version-check", "--no-deps", "--requirement"]);
    quietly(pip.arg(workspace.path(&list))).context("pip install failed")?;
    fs::write(&installed, wanted).context("cannot note what was installed")?;
    Ok(Python(folder))
}
