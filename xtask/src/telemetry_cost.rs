//! `cargo xtask budgets --telemetry`: what measuring every delivery costs, by building the server twice.
//!
//! Once as it is shipped and once with the telemetry crate's feature `off`, under which every verb does nothing. The
//! same load on both, counted in user instructions per delivery (callgrind), and timed in server CPU per delivery
//! (kernel included, rounds taken in turns). The result stands behind the report in `docs/benchmarks.md`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::workspace::Workspace;

/// Design §9: of the server's CPU time.
const BUDGET_PERCENT: f64 = 3.0;
/// How often each build's CPU time is measured, in turns; medians are compared.
const ROUNDS: usize = 5;
const PAGE: &str = "docs/benchmarks.md";
const HEADING: &str = "\n## telemetry\n";

const OFF: [&str; 2] = ["--features", "pulsewire-telemetry/off"];

/// Builds, counts, prints and rewrites the section of the page.
///
/// # Errors
///
/// When something needed for counting cannot be built or run.
pub fn run(workspace: &Workspace) -> Result<ExitCode> {
    let off = build(workspace, &OFF, "pulsewire-telemetry-off")?;
    let on = build(workspace, &[], "pulsewire-telemetry-on")?;
    let mut rows = String::new();
    let mut worst = f64::NEG_INFINITY;
    for kind in ["single", "burst"] {
        let name = format!("instructions_{kind}");
        let [on, off] = [&on, &off].map(|program| figure(workspace, program, "counts", &name));
        let (on, off) = (on?, off?);
        rows +=
            &format!("| `{name}` | {off:.1} | {on:.1} | {:+.1} | {:+.1} % | |\n", on - off, percent(on, off));
    }
    for kind in ["single", "burst"] {
        let name = format!("fanout_1k_{kind}_cpu_us");
        let mut times = [Vec::new(), Vec::new()];
        for _ in 0..ROUNDS {
            for (times, program) in times.iter_mut().zip([&on, &off]) {
                times.push(figure(workspace, program, "fanout", &name)?);
            }
        }
        let [on, off] = times.map(median);
        let more = percent(on, off);
        worst = worst.max(more);
        let verdict = if more <= BUDGET_PERCENT { "within" } else { "missed" };
        rows += &format!(
            "| `{name}` | {off:.3} µs | {on:.3} µs | {:+.3} µs | {more:+.1} % | ≤ {BUDGET_PERCENT} %: {verdict} |\n",
            on - off
        );
    }
    let section = format!(
        "{HEADING}\nThe same load on the server as shipped and on one whose telemetry does nothing. Instructions are those of the\n\
         server in user mode; its CPU time holds the kernel's work as well. CPU times are medians of {ROUNDS} rounds in turns.\n\n\
         ```sh\ncargo xtask budgets --telemetry\n```\n\n\
         | per delivery | off | on | more | | budget |\n|---|--:|--:|--:|--:|---|\n{rows}"
    );
    println!("{section}");
    let path = workspace.path(PAGE);
    let page = std::fs::read_to_string(&path)?;
    std::fs::write(&path, with_section(&page, &section))?;
    Ok(if worst <= BUDGET_PERCENT { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The page with its section about telemetry replaced, or appended.
fn with_section(page: &str, section: &str) -> String {
    let Some(begin) = page.find(HEADING) else { return format!("{page}{section}") };
    let rest = &page[begin + HEADING.len()..];
    let end = rest.find("\n## ").map_or("", |end| &rest[end..]);
    format!("{}{section}{end}", &page[..begin])
}

fn build(workspace: &Workspace, features: &[&str], name: &str) -> Result<PathBuf> {
    let arguments = ["build", "--release", "--quiet", "--package", "pulsewire"];
    let built = workspace.cargo(arguments.iter().chain(features).copied()).status()?;
    ensure!(built.success(), "pulsewire does not build with {features:?}");
    let folder = workspace.metadata()?.target_directory.join("release");
    let copy = folder.join(name);
    std::fs::copy(folder.join("pulsewire"), &copy)
        .with_context(|| format!("cannot copy to {}", copy.display()))?;
    Ok(copy)
}

/// One figure of one run.
fn figure(workspace: &Workspace, program: &Path, scenario: &str, name: &str) -> Result<f64> {
    let mut command = workspace.command(program);
    command.args(["bench", scenario, "--rounds", "1", "--no-progress", "-o", "json"]);
    if scenario == "fanout" {
        command.args(["--conns", "1000"]);
    }
    let output = command.output().context("cannot start pulsewire bench")?;
    let report: Value = serde_json::from_slice(&output.stdout)
        .with_context(|| format!("no report: {}", String::from_utf8_lossy(&output.stderr)))?;
    find(&report, name).with_context(|| format!("{name} is not in the report"))
}

fn find(report: &Value, name: &str) -> Option<f64> {
    let outcomes = report["outcomes"].as_array()?;
    let figures = outcomes.iter().filter_map(|outcome| outcome["figures"].as_array()).flatten();
    figures.clone().find(|figure| figure["name"] == name)?["value"].as_f64()
}

fn percent(on: f64, off: f64) -> f64 {
    (on / off - 1.0) * 100.0
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_section_is_replaced_where_it_stands() {
        let section = "\n## telemetry\nnew\n";
        assert_eq!(with_section("# P\n", section), "# P\n\n## telemetry\nnew\n");
        let page = "# P\n\n## telemetry\nold\n\n## more\ntext\n";
        assert_eq!(with_section(page, section), "# P\n\n## telemetry\nnew\n\n## more\ntext\n");
    }

    #[test]
    fn figures_are_found_by_name() {
        let report = serde_json::json!({"outcomes": [{"figures": [{"name": "a", "value": 2.5}]}]});
        assert_eq!((find(&report, "a"), find(&report, "b")), (Some(2.5), None));
    }
}
