//! Files that are written by code and kept in the repository for readers.
//!
//! Each comes from one small program that prints it, so xtask need not link the crates it watches over. The programs
//! are built as the tests are (same profile, whole workspace), so a test run afterwards compiles nothing twice.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::OnceLock;

use anyhow::{Context, Result, bail, ensure};

use crate::steps::quietly;
use crate::workspace::Workspace;

/// A generated file and the program that prints it.
struct Generated {
    path: &'static str,
    /// Below the folder of built programs.
    program: &'static str,
    arguments: &'static [&'static str],
}

const FILES: [Generated; 22] = [
    Generated { path: "docs/codes.md", program: "examples/codes_markdown", arguments: &[] },
    Generated { path: "docs/metrics.md", program: "examples/metrics_markdown", arguments: &[] },
    printed("docs/settings.md", &["config", "doc"]),
    Generated {
        path: "sdk/typescript/client/src/defaults.ts",
        program: "examples/sdk_typescript",
        arguments: &["defaults"],
    },
    Generated {
        path: "sdk/typescript/client/src/generated.ts",
        program: "examples/sdk_typescript",
        arguments: &["codes"],
    },
    Generated {
        path: "dashboard/src/generated/figures.ts",
        program: "examples/figures_typescript",
        arguments: &[],
    },
    Generated { path: "deploy/checks/src/catalogue.json", program: "examples/metrics_json", arguments: &[] },
    printed(
        "deploy/prometheus/rules/recording.yml",
        &["rules", "generate", "recording", "--config=/dev/null"],
    ),
    printed("deploy/prometheus/rules/alerts.yml", &["rules", "generate", "alerts", "--config=/dev/null"]),
    printed(
        "deploy/prometheus/rules/collaboration.yml",
        &["rules", "generate", "collaboration", "--config=/dev/null"],
    ),
    printed(
        "deploy/prometheus/rules/upstreams.yml",
        &["rules", "generate", "upstreams", "--config=/dev/null"],
    ),
    printed("deploy/prometheus/rules/slo.yml", &["rules", "generate", "slo", "--config=/dev/null"]),
    printed("deploy/prometheus/rules/meta.yml", &["rules", "generate", "meta", "--config=/dev/null"]),
    printed(
        "deploy/prometheus/tests/seed-literal.yml",
        &["rules", "generate", "--profile=seed-literal", "--config=/dev/null"],
    ),
    printed(
        "deploy/kubernetes/monitoring/prometheusrule.yaml",
        &["rules", "generate", "--form=kubernetes", "--config=/dev/null"],
    ),
    printed("docs/operate/alerts.md", &["rules", "doc", "--config=/dev/null"]),
    printed(
        "deploy/grafana/dashboards/websocket-connections.json",
        &["dashboards", "generate", "connections", "--config=/dev/null"],
    ),
    printed(
        "deploy/grafana/dashboards/events-and-delivery.json",
        &["dashboards", "generate", "delivery", "--config=/dev/null"],
    ),
    printed(
        "deploy/grafana/dashboards/grafana-websocket-dashboard.json",
        &["dashboards", "generate", "collaboration", "--config=/dev/null"],
    ),
    printed(
        "deploy/grafana/dashboards/grafana-dashboard.json",
        &["dashboards", "generate", "upstreams", "--config=/dev/null"],
    ),
    printed(
        "deploy/grafana/dashboards/metrics-streaming.json",
        &["dashboards", "generate", "streaming", "--config=/dev/null"],
    ),
    printed(
        "deploy/grafana/dashboards/node-and-runtime.json",
        &["dashboards", "generate", "node", "--config=/dev/null"],
    ),
];

/// What the server's own program prints of its default settings, whatever settings are around.
const fn printed(path: &'static str, arguments: &'static [&'static str]) -> Generated {
    Generated { path, program: "pulsewire", arguments }
}

/// Compares every generated file with what the code prints today.
///
/// # Errors
///
/// One line per file that is missing or old.
pub fn check(workspace: &Workspace) -> Result<String> {
    let programs = programs(workspace)?;
    let mut old = Vec::new();
    for file in &FILES {
        let current = std::fs::read_to_string(workspace.path(file.path)).unwrap_or_default();
        if let Some(line) = first_difference(&current, &file.print(workspace, &programs)?) {
            old.push(format!("{}: not what the code says, from line {line}", file.path));
        }
    }
    if !old.is_empty() {
        bail!("{}", old.join("\n"));
    }
    Ok(FILES.map(|file| file.path).join(", "))
}

/// Writes every generated file anew.
///
/// # Errors
///
/// When a program does not build or run, or a file cannot be written.
pub fn write(workspace: &Workspace) -> Result<ExitCode> {
    let programs = programs(workspace)?;
    for file in &FILES {
        let text = file.print(workspace, &programs)?;
        std::fs::write(workspace.path(file.path), text)
            .with_context(|| format!("cannot write {}", file.path))?;
        println!("wrote {}", file.path);
    }
    Ok(ExitCode::SUCCESS)
}

/// The folder with every program and example of the workspace, which are built when it is first asked for.
///
/// # Errors
///
/// What the compiler says.
pub fn programs(workspace: &Workspace) -> Result<PathBuf> {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    if let Some(programs) = BUILT.get() {
        return Ok(programs.clone());
    }
    let programs = build(workspace)?;
    Ok(BUILT.get_or_init(|| programs).clone())
}

/// Builds every program and example of the workspace as the tests are, and returns the folder they are in.
///
/// # Errors
///
/// What the compiler says.
pub fn build(workspace: &Workspace) -> Result<PathBuf> {
    quietly(&mut workspace.cargo([
        "build",
        "--quiet",
        "--profile=test",
        "--workspace",
        "--bins",
        "--examples",
    ]))?;
    Ok(workspace.metadata()?.target_directory.join("debug"))
}

impl Generated {
    fn print(&self, workspace: &Workspace, programs: &Path) -> Result<String> {
        let program = programs.join(self.program);
        let output = workspace
            .command(&program)
            .args(self.arguments)
            .output()
            .with_context(|| format!("cannot start {}, which prints {}", self.program, self.path))?;
        ensure!(
            output.status.success(),
            "{} failed: {}",
            self.program,
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).with_context(|| format!("{} did not print text", self.program))
    }
}

fn first_difference(current: &str, printed: &str) -> Option<usize> {
    if current == printed {
        return None;
    }
    let same = current.lines().zip(printed.lines()).take_while(|(a, b)| a == b).count();
    Some(same + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_file_is_pointed_into() {
        assert_eq!(first_difference("a\nb\n", "a\nb\n"), None);
        assert_eq!(first_difference("a\nb\n", "a\nc\n"), Some(2));
        assert_eq!(first_difference("", "a\n"), Some(1));
        assert_eq!(first_difference("a\n", "a\nb\n"), Some(2));
    }
}
