//! Compose, Dockerfile and systemd.

use std::fs;

use anyhow::{Context, Result, ensure};

use super::{Check, Pack};
use crate::steps::quietly;

pub(super) const CHECKS: [Check; 4] = [
    Check { name: "compose.yml", tools: &[], run: compose },
    Check { name: "Dockerfile", tools: &[], run: dockerfile },
    Check { name: "pulsewire.service", tools: &["systemd-analyze"], run: service },
    Check { name: "pulsewire.sysusers", tools: &["systemd-sysusers"], run: account },
];

/// Of 100: how much of the system a service may still do, by the reckoning of `systemd-analyze security`.
const EXPOSURE_MAX: u32 = 30;

/// The schema of Compose, which knows every key.
fn compose(pack: &Pack<'_>) -> Result<String> {
    let mut checker = pack.python.command(pack.workspace, "check-jsonschema");
    checker.args(["--builtin-schema", "vendor.compose-spec"]);
    quietly(checker.arg(pack.workspace.path("deploy/compose/compose.yml")))?;
    Ok("by the schema of Compose".into())
}

fn dockerfile(pack: &Pack<'_>) -> Result<String> {
    let mut hadolint = pack.python.command(pack.workspace, "hadolint");
    hadolint.args(["--no-color", "--failure-threshold", "style"]);
    quietly(hadolint.arg(pack.workspace.path("deploy/docker/Dockerfile")))?;
    Ok("by hadolint".into())
}

/// The unit with the program that was built in the place of the one that will be installed.
fn service(pack: &Pack<'_>) -> Result<String> {
    let unit = pack.workspace.read("deploy/systemd/pulsewire.service")?;
    let installed = "ExecStart=/usr/bin/pulsewire ";
    ensure!(unit.contains(installed), "the unit starts another program than {installed}");
    let program = pack.programs.join("pulsewire");
    let copy = pack.programs.join("operations-files/pulsewire.service");
    fs::create_dir_all(copy.parent().context("no folder")?).context("cannot make a folder")?;
    fs::write(&copy, unit.replace(installed, &format!("ExecStart={} ", program.display())))
        .context("cannot write the unit")?;
    let mut verify = pack.workspace.command("systemd-analyze");
    let output = verify.args(["verify", "--man=no"]).arg(&copy).output()?;
    let said = [output.stdout, output.stderr].concat();
    // It ends with success where it does not know a key, and says so.
    ensure!(output.status.success() && said.is_empty(), "{}", String::from_utf8_lossy(&said));
    let mut security = pack.workspace.command("systemd-analyze");
    security.args(["security", "--offline=true", "--no-pager", &format!("--threshold={EXPOSURE_MAX}")]);
    quietly(security.arg(&copy))?;
    Ok(format!("verified, exposure at most {}.{}", EXPOSURE_MAX / 10, EXPOSURE_MAX % 10))
}

/// What makes the account of the service makes it.
fn account(pack: &Pack<'_>) -> Result<String> {
    let root = pack.programs.join("operations-files/root");
    let _ = fs::remove_dir_all(&root);
    fs::create_dir_all(root.join("etc")).context("cannot make a folder")?;
    let mut sysusers = pack.workspace.command("systemd-sysusers");
    sysusers.arg(format!("--root={}", root.display()));
    quietly(sysusers.arg(pack.workspace.path("deploy/systemd/pulsewire.sysusers")))?;
    let users = fs::read_to_string(root.join("etc/passwd")).context("no account was made")?;
    ensure!(users.starts_with("pulsewire:"), "no account was made: {users}");
    Ok("an account".into())
}
