//! Prometheus's rules, by promtool: what is shipped is well formed, fires when it should, and its tests would notice.

use std::path::PathBuf;
use std::process::{Child, Stdio};

use anyhow::{Context, Result, ensure};

use super::{Check, Pack};
use crate::mutants::{self, Choice};
use crate::steps::quietly;

pub(super) const CHECKS: [Check; 3] = [
    Check { name: "rules", tools: &["promtool"], run: well_formed },
    Check { name: "tests of rules", tools: &["promtool"], run: tested },
    Check { name: "mutants of rules", tools: &["promtool"], run: mutated },
];

/// Mutants that are run every time; `cargo xtask mutants rules` runs them all.
const SAMPLE: usize = 36;

fn files(pack: &Pack<'_>, folder: &str, ending: &str) -> Result<Vec<PathBuf>> {
    let folder = pack.workspace.path(format!("deploy/prometheus/{folder}"));
    let entries = std::fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.retain(|path| path.to_string_lossy().ends_with(ending));
    paths.sort();
    ensure!(!paths.is_empty(), "nothing in {}", folder.display());
    Ok(paths)
}

fn well_formed(pack: &Pack<'_>) -> Result<String> {
    let paths = files(pack, "rules", ".yml")?;
    quietly(
        pack.workspace
            .command("promtool")
            .args(["check", "rules", "--lint=all", "--lint-fatal"])
            .args(&paths),
    )?;
    Ok(format!("{} files", paths.len()))
}

/// All files at once: each is a program of its own, and there is more than one core.
fn tested(pack: &Pack<'_>) -> Result<String> {
    let paths = files(pack, "tests", ".test.yml")?;
    let start = |path: &PathBuf| -> Result<Child> {
        let mut promtool = pack.workspace.command("promtool");
        promtool.args(["test", "rules"]).arg(path).stdout(Stdio::piped()).stderr(Stdio::piped());
        promtool.spawn().context("cannot start promtool")
    };
    let started = paths.iter().map(start).collect::<Result<Vec<_>>>()?;
    let ended = started.into_iter().map(Child::wait_with_output).collect::<std::io::Result<Vec<_>>>()?;
    for output in &ended {
        let said = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
        ensure!(output.status.success(), "{}{}", said[0], said[1]);
    }
    Ok(format!("{} files", paths.len()))
}

fn mutated(pack: &Pack<'_>) -> Result<String> {
    let found = mutants::rules(pack.workspace, Choice::Sample(SAMPLE))?;
    ensure!(found.survivors.is_empty(), "no test notices:\n{}", found.survivors.join("\n"));
    Ok(format!("{} mutants noticed", found.run))
}
