//! `cargo xtask budgets`: the costs that can be counted exactly, held so that they cannot creep up.
//!
//! The counting is done by `pulsewire bench`, which starts servers of its own and prints a report. Only counts are
//! held here, never times: they come out the same on a busy machine.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use crate::generated;
use crate::setup;
use crate::steps::quietly;
use crate::test::Results;
use crate::workspace::Workspace;

/// How the workspace's own crates are built.
const PROFILE: &str = "xtask/budgets.toml";

/// One figure that is held.
struct Held {
    /// Its name in the report.
    figure: &'static str,
    /// A program without which it cannot be counted.
    tool: Option<&'static str>,
    /// How far a figure that lies within the design's budget by little may go in CI, where other work may run.
    exception: Option<f64>,
}

/// A scenario of `pulsewire bench` and the figures of it that are held.
struct Scenario {
    arguments: &'static [&'static str],
    figures: &'static [Held],
}

const fn held(figure: &'static str, tool: Option<&'static str>) -> Held {
    Held { figure, tool, exception: None }
}

const SCENARIOS: [Scenario; 2] = [
    Scenario {
        arguments: &["counts"],
        figures: &[
            // A shard's ticks and its probes of TCP go by the clock: on a slow machine a run holds a few more of
            // them. The design's own figures are held where nothing else runs: `pulsewire bench counts --strict`.
            Held { exception: Some(260.0), ..held("instructions_single", Some("valgrind")) },
            held("instructions_burst", Some("valgrind")),
            Held { exception: Some(1.035), ..held("system_calls_single", Some("strace")) },
            held("system_calls_burst", Some("strace")),
        ],
    },
    Scenario {
        // One second of rest: nothing is timed here.
        arguments: &["idle", "--duration", "1s"],
        figures: &[held("idle_attributed_bytes", None), held("idle_resident_bytes", None)],
    },
];

/// Counts, prints and says whether every budget is kept.
///
/// # Errors
///
/// When something needed for counting cannot be built or run.
pub fn run(workspace: &Workspace) -> Result<ExitCode> {
    setup::ensure();
    let mut results = Results::default();
    measure(workspace, &mut results)?;
    println!("{results}");
    Ok(if results.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Counts every held figure; each is one test.
///
/// # Errors
///
/// When something needed for counting cannot be built or run.
pub fn measure(workspace: &Workspace, results: &mut Results) -> Result<()> {
    let program = build(workspace)?;
    for Scenario { arguments, figures } in SCENARIOS {
        let output = workspace
            .command(&program)
            .arg("bench")
            .args(arguments)
            .args(["--no-progress", "-o", "json"])
            .output()
            .context("cannot start pulsewire bench")?;
        // A missed budget has an exit code of its own and a report all the same.
        let report: Report = serde_json::from_slice(&output.stdout).with_context(|| {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            format!("pulsewire bench {} gave no report: {said}", arguments.join(" "))
        })?;
        for held in figures {
            if let Some(tool) = held.tool.filter(|tool| !setup::installed(tool)) {
                results.skip(format!("budget {}: {tool} is not installed", held.figure));
                continue;
            }
            let verdict = held.judge(&report);
            results.add(verdict.is_ok());
            match verdict {
                Ok(line) => println!("budget {line} ... ok"),
                Err(error) => println!("budget {error} ... FAILED"),
            }
        }
    }
    Ok(())
}

/// Builds the server optimised as it is shipped, and says where it is.
///
/// Instructions are counted in what is shipped, not in a test build. The folder is that of the tests all the same, so
/// that their dependencies are not built once more.
fn build(workspace: &Workspace) -> Result<PathBuf> {
    let target = workspace.metadata()?.target_directory;
    let kept = target.join("budgets");
    let mut cargo = workspace.cargo(["build", "--quiet", "--profile=test", "--package=pulsewire", "--bins"]);
    quietly(cargo.args(["--config", PROFILE])).context("pulsewire does not build as it is shipped")?;
    fs::create_dir_all(&kept)?;
    let program = kept.join("pulsewire");
    fs::copy(target.join("debug/pulsewire"), &program).context("cannot keep the program that was built")?;
    // What the tests run is put back in its place; nothing is compiled.
    generated::build(workspace)?;
    Ok(program)
}

/// The part of a bench report we look at.
#[derive(Debug, Deserialize)]
struct Report {
    outcomes: Vec<Outcome>,
}

#[derive(Debug, Deserialize)]
struct Outcome {
    figures: Vec<Figure>,
}

#[derive(Debug, Deserialize)]
struct Figure {
    name: String,
    value: f64,
    budget: Option<Budget>,
}

#[derive(Debug, Deserialize)]
struct Budget {
    limit: f64,
}

impl Held {
    fn judge(&self, report: &Report) -> Result<String> {
        let mut figures = report.outcomes.iter().flat_map(|outcome| &outcome.figures);
        let figure = figures.find(|figure| figure.name == self.figure);
        let Some(Figure { name, value, budget }) = figure else {
            bail!("{}: not in the report", self.figure)
        };
        let budget =
            budget.as_ref().with_context(|| format!("{name}: the report has no budget for it"))?.limit;
        let ceiling = self.exception.unwrap_or(budget);
        let exception = if ceiling > budget { format!(" (the design asks {budget})") } else { String::new() };
        let line = format!("{name}: {value:.3}, at most {ceiling}{exception}");
        ensure!(*value <= ceiling, "{line}");
        Ok(line)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::workspace::Package;

    const REPORT: &str = r#"{"version": "0", "outcomes": [{"scenario": "counts", "figures": [
        {"name": "a", "value": 240.5, "unit": "", "budget": {"bound": "<=", "limit": 250}},
        {"name": "b", "value": 1.5, "unit": ""}]}]}"#;

    fn judged(held: &Held) -> String {
        let report = serde_json::from_str(REPORT).unwrap();
        held.judge(&report).unwrap_or_else(|error| format!("{error}!"))
    }

    /// The settings of every package in the profile of the tests.
    fn packages(text: &str) -> BTreeMap<String, toml::Table> {
        let file: toml::Table = text.parse().unwrap();
        let packages = file["profile"]["dev"]["package"].as_table().unwrap().clone();
        packages.into_iter().map(|(name, settings)| (name, settings.as_table().unwrap().clone())).collect()
    }

    #[test]
    fn every_crate_of_ours_is_tested_with_its_assertions_and_counted_as_it_is_shipped() {
        let workspace = Workspace::find().unwrap();
        let tested = packages(&workspace.read("Cargo.toml").unwrap());
        let counted = packages(&workspace.read(PROFILE).unwrap());
        let shipped = "opt-level = 3\ncodegen-units = 16\ndebug-assertions = false\noverflow-checks = false";
        let shipped: toml::Table = shipped.parse().unwrap();
        for Package { name, .. } in
            workspace.metadata().unwrap().packages.iter().filter(|it| it.source.is_none())
        {
            assert_eq!(tested[name]["debug-assertions"].as_bool(), Some(true), "{name}");
            assert_eq!(tested[name]["overflow-checks"].as_bool(), Some(true), "{name}");
            assert!(counted.get(name) == Some(&shipped) || name == "xtask", "{name}");
        }
    }

    #[test]
    fn a_figure_within_its_budget_holds() {
        assert_eq!(judged(&held("a", None)), "a: 240.500, at most 250");
    }

    #[test]
    fn a_figure_above_its_ceiling_fails() {
        let tight = Held { exception: Some(240.0), ..held("a", None) };
        assert_eq!(judged(&tight), "a: 240.500, at most 240!");
    }

    #[test]
    fn an_exception_is_shown_beside_the_design() {
        let loose = Held { exception: Some(300.0), ..held("a", None) };
        assert_eq!(judged(&loose), "a: 240.500, at most 300 (the design asks 250)");
    }

    #[test]
    fn a_figure_or_budget_that_is_missing_fails() {
        assert_eq!(judged(&held("c", None)), "c: not in the report!");
        assert_eq!(judged(&held("b", None)), "b: the report has no budget for it!");
    }
}
