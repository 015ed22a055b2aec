//! Every fuzz target of `fuzz/`, for a few seconds each on its kept corpus.
//!
//! The targets are libFuzzer programs in the layout of `cargo fuzz`, but that tool is not needed: the flags below are
//! what it passes, and on the stable compiler they give coverage guidance without a sanitizer. New inputs go to a
//! temporary folder, so a run never changes the corpus; a crashing input is kept in `fuzz/artifacts`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::steps::quietly;
use crate::test::Results;
use crate::workspace::Workspace;

/// Seconds per target where `PULSEWIRE_FUZZ_SECONDS` does not say otherwise: the corpus is replayed within the first.
const SECONDS: &str = "3";

const PLATFORM: &str = "x86_64-unknown-linux-gnu";

const FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Cllvm-args=-simplifycfg-branch-fold-threshold=0 \
    -Cdebug-assertions -Coverflow-checks -Ccodegen-units=1";

/// Builds the targets and runs each; a target counts as one test.
///
/// # Errors
///
/// When the targets do not build.
pub fn run(workspace: &Workspace, results: &mut Results) -> Result<()> {
    let targets = targets(workspace)?;
    let folder = workspace.metadata()?.target_directory.join("fuzz");
    quietly(&mut build(workspace, &folder)).context("the fuzz targets do not build")?;
    let seconds = std::env::var("PULSEWIRE_FUZZ_SECONDS").unwrap_or_else(|_| SECONDS.into());
    for target in targets {
        let program = folder.join(PLATFORM).join("release").join(&target);
        let outcome = fuzz(workspace, &target, &program, &seconds);
        results.add(outcome.is_ok());
        match outcome {
            Ok(summary) => println!("fuzz {target} ... ok, {summary}"),
            Err(error) => println!("fuzz {target} ... FAILED\n{error:#}"),
        }
    }
    Ok(())
}

/// Begins to build the targets with what time the processors have left: their folder is no other's, so nothing waits for
/// it but the stage itself, which says what does not build.
///
/// # Errors
///
/// When they do not build, or there is no `nice`: the stage builds what is left.
pub fn begin(workspace: &Workspace) -> Result<()> {
    let folder = workspace.metadata()?.target_directory.join("fuzz");
    let cargo = build(workspace, &folder);
    let mut nice = workspace.command("nice");
    nice.args(["-n", "19"]).arg(cargo.get_program()).args(cargo.get_args());
    for (name, value) in cargo.get_envs() {
        match value {
            Some(value) => nice.env(name, value),
            None => nice.env_remove(name),
        };
    }
    quietly(&mut nice)
}

/// The names of the programs in `fuzz/fuzz_targets`.
fn targets(workspace: &Workspace) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(workspace.path("fuzz/fuzz_targets")).context("no fuzz/fuzz_targets")? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            names.extend(path.file_stem().and_then(|stem| stem.to_str()).map(String::from));
        }
    }
    names.sort();
    Ok(names)
}

fn build(workspace: &Workspace, folder: &Path) -> Command {
    let mut cargo = workspace.cargo(["build", "--release", "--locked", "--quiet", "--target", PLATFORM]);
    cargo
        .args(["--manifest-path", "fuzz/Cargo.toml"])
        .env("CARGO_TARGET_DIR", folder)
        .env("RUSTFLAGS", FLAGS);
    cargo
}

fn fuzz(workspace: &Workspace, target: &str, program: &Path, seconds: &str) -> Result<String> {
    let corpus = workspace.path("fuzz/corpus").join(target);
    if !corpus.is_dir() {
        bail!("no kept corpus in fuzz/corpus/{target}");
    }
    let artifacts = format!("fuzz/artifacts/{target}/");
    std::fs::create_dir_all(workspace.path(&artifacts))
        .context("cannot make a folder for crashing inputs")?;
    let found = fresh_folder(target)?;
    let output = workspace
        .command(program)
        .arg(format!("-max_total_time={seconds}"))
        .args(["-timeout=5", "-rss_limit_mb=1024", "-print_final_stats=0"])
        .arg(format!("-artifact_prefix={artifacts}"))
        .args([&found, &corpus])
        .output()
        .context("cannot start it")?;
    std::fs::remove_dir_all(&found).context("cannot remove the temporary corpus")?;
    let log = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!("{}\nreproduce: {} INPUT, with an input of {artifacts}", tail(&log, 30), program.display());
    }
    Ok(log.lines().rfind(|line| line.starts_with("Done ")).unwrap_or("no summary").to_owned())
}

fn fresh_folder(target: &str) -> Result<PathBuf> {
    let folder = std::env::temp_dir().join(format!("pulsewire-fuzz-{}-{target}", std::process::id()));
    std::fs::create_dir_all(&folder).context("cannot make a temporary corpus")?;
    Ok(folder)
}

fn tail(text: &str, lines: usize) -> String {
    let all: Vec<_> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_log_is_kept() {
        assert_eq!(tail("a\nb\nc", 2), "b\nc");
        assert_eq!(tail("a", 2), "a");
    }
}
