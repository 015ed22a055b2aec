//! The TypeScript SDK: its types, its builds, its sizes and its tests, against the server as it was built here.
//!
//! Every step is a script of `sdk/typescript/package.json`, so `npm run test:unit` is the same as what runs here. Node,
//! npm and Chromium are the system's; nothing downloads a browser. Packages come from `package-lock.json` by `npm ci`, and
//! only when the lock has changed.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use semver::{Version, VersionReq};
use serde::Deserialize;

use crate::steps::{quietly, seconds};
use crate::test::Results;
use crate::workspace::Workspace;
use crate::{generated, setup};

/// The folder of the packages.
const FOLDER: &str = "sdk/typescript";

/// A copy of the lock that the packages were installed from.
const INSTALLED: &str = "node_modules/.pulsewire-installed.json";

/// One script of `package.json`.
struct Script {
    name: &'static str,
    counts: Counts,
    /// A program without which it cannot run.
    tool: Option<&'static str>,
}

/// What a script counts as in the results.
enum Counts {
    /// One check that holds or does not.
    Check,
    /// Its tests, which Vitest writes into a file.
    Tests,
}

const SCRIPTS: [Script; 7] = [
    Script { name: "typecheck", counts: Counts::Check, tool: None },
    Script { name: "build", counts: Counts::Check, tool: None },
    Script { name: "size", counts: Counts::Check, tool: None },
    Script { name: "test:unit", counts: Counts::Tests, tool: None },
    Script { name: "test:conformance", counts: Counts::Tests, tool: None },
    Script { name: "test:browser", counts: Counts::Tests, tool: Some("chromium") },
    Script { name: "examples", counts: Counts::Check, tool: Some("chromium") },
];

/// Runs every script; without Node nothing can, which is said.
///
/// # Errors
///
/// When the server does not build, the packages cannot be installed, or `package.json` lacks a script.
pub fn run(workspace: &Workspace, results: &mut Results) -> Result<()> {
    let folder = workspace.path(FOLDER);
    let package: Package = serde_json::from_str(&workspace.read(&format!("{FOLDER}/package.json"))?)
        .context("cannot understand sdk/typescript/package.json")?;
    package.has(&SCRIPTS.each_ref().map(|script| script.name))?;
    if let Err(error) = node(workspace, &package.engines.node) {
        results.skip(format!("sdk: {error:#}"));
        return Ok(());
    }
    let programs = generated::build(workspace)?;
    install(workspace, &folder)?;
    let target = programs.parent().context("the programs have no folder")?;
    let reports = target.join("sdk");
    fs::create_dir_all(&reports).context("cannot make a folder for reports")?;
    for script in &SCRIPTS {
        if let Some(tool) = script.tool.filter(|tool| !setup::installed(tool)) {
            results.skip(format!("sdk {}: {tool} is not installed", script.name));
            continue;
        }
        let started = Instant::now();
        let mut npm = workspace.command("npm");
        npm.current_dir(&folder).args(["run", "--silent", script.name]).env("CARGO_TARGET_DIR", target);
        // A log is no terminal, whatever the caller's is.
        npm.env_remove("FORCE_COLOR").env("NO_COLOR", "1");
        let outcome = match script.counts {
            Counts::Check => {
                let outcome = quietly(&mut npm).map(|()| String::new());
                results.add(outcome.is_ok());
                outcome
            }
            Counts::Tests => {
                tests(npm, &reports.join(format!("{}.json", script.name.replace(':', "-"))), results)
            }
        };
        let took = seconds(started.elapsed());
        match outcome {
            Ok(said) => println!("sdk {} ... ok{said}, {took}", script.name),
            Err(error) => println!("sdk {} ... FAILED, {took}\n{error:#}", script.name),
        }
    }
    Ok(())
}

/// Runs a script of Vitest and adds its tests. One that fails without a failed test counts as one.
fn tests(mut npm: Command, report: &Path, results: &mut Results) -> Result<String> {
    // What an earlier run left must not be taken for this one's.
    let _ = fs::remove_file(report);
    npm.args(["--", "--reporter=default", "--reporter=json"]);
    npm.arg(format!("--outputFile.json={}", report.display()));
    let outcome = quietly(&mut npm);
    let counted = fs::read_to_string(report)
        .context("Vitest wrote no report")
        .and_then(|text| serde_json::from_str::<Report>(&text).context("cannot understand Vitest's report"));
    let tests = match counted {
        Ok(report) => report.add_to(results),
        Err(error) => {
            results.failed += 1;
            return outcome.and(Err(error));
        }
    };
    if outcome.is_err() && tests.failed == 0 {
        results.failed += 1;
    }
    if outcome.is_ok() && tests.passed + tests.failed == 0 {
        results.failed += 1;
        bail!("there are no tests");
    }
    outcome.map(|()| format!(", {tests}"))
}

/// Whether Node and npm are there, and new enough.
fn node(workspace: &Workspace, wanted: &VersionReq) -> Result<()> {
    let version = |program: &str| -> Result<String> {
        let output = workspace
            .command(program)
            .arg("--version")
            .output()
            .with_context(|| format!("{program} is not installed"))?;
        ensure!(output.status.success(), "{program} --version failed");
        Ok(String::from_utf8_lossy(&output.stdout).trim().trim_start_matches('v').to_owned())
    };
    let node = version("node")?;
    let parsed = Version::parse(&node).with_context(|| format!("Node has the version `{node}`"))?;
    ensure!(wanted.matches(&parsed), "Node is {node}, and {wanted} is needed");
    version("npm").map(drop)
}

/// Installs the packages of the lock, unless they are.
fn install(workspace: &Workspace, folder: &Path) -> Result<()> {
    let lock = fs::read(folder.join("package-lock.json")).context("cannot read package-lock.json")?;
    let installed = folder.join(INSTALLED);
    if fs::read(&installed).is_ok_and(|before| before == lock) {
        return Ok(());
    }
    let started = Instant::now();
    let mut npm = workspace.command("npm");
    // This begins by removing `node_modules`, so a copy that is there belongs to a whole installation.
    quietly(npm.current_dir(folder).args(["ci", "--no-audit", "--no-fund"])).context("npm ci failed")?;
    fs::write(&installed, lock).context("cannot note what was installed")?;
    println!("sdk npm ci ... ok, {}", seconds(started.elapsed()));
    Ok(())
}

/// The part of `package.json` we look at.
#[derive(Debug, Deserialize)]
struct Package {
    engines: Engines,
    scripts: std::collections::BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
struct Engines {
    node: VersionReq,
}

impl Package {
    fn has(&self, scripts: &[&str]) -> Result<()> {
        let missing: Vec<_> =
            scripts.iter().filter(|script| !self.scripts.contains_key(**script)).copied().collect();
        ensure!(missing.is_empty(), "{FOLDER}/package.json has no script {}", missing.join(", "));
        Ok(())
    }
}

/// The part of Vitest's report we look at.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    test_results: Vec<File>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    /// `failed` also when the file could not be read at all, without a test in it.
    status: String,
    assertion_results: Vec<Test>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Test {
    full_name: String,
    status: String,
}

impl Report {
    /// Adds every test, and every file that failed without one, and says what was added.
    fn add_to(&self, results: &mut Results) -> Results {
        let mut added = Results::default();
        for file in &self.test_results {
            if file.status == "failed" && file.assertion_results.iter().all(|test| test.status != "failed") {
                added.add(false);
            }
            for test in &file.assertion_results {
                match test.status.as_str() {
                    "passed" => added.add(true),
                    "failed" => added.add(false),
                    other => added.skip(format!("sdk: `{}` is {other}", test.full_name)),
                }
            }
        }
        results.passed += added.passed;
        results.failed += added.failed;
        results.skipped.extend(added.skipped.iter().cloned());
        added
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_counted_one_by_one_and_broken_files_too() {
        let report: Report = serde_json::from_str(
            r#"{"numTotalTests": 3, "testResults": [
                {"name": "a", "status": "failed", "assertionResults": [
                    {"fullName": "a one", "status": "passed", "title": "one"},
                    {"fullName": "a two", "status": "failed"},
                    {"fullName": "a three", "status": "skipped"}]},
                {"name": "b", "status": "passed", "assertionResults": [{"fullName": "b", "status": "passed"}]},
                {"name": "c", "status": "failed", "message": "no such module", "assertionResults": []}]}"#,
        )
        .unwrap();
        let mut results = Results { passed: 10, ..Results::default() };
        assert_eq!(report.add_to(&mut results).to_string(), "2 passed, 2 failed, 1 skipped");
        assert_eq!(results.to_string(), "12 passed, 2 failed, 1 skipped");
        assert_eq!(results.skipped, ["sdk: `a three` is skipped"]);
    }

    #[test]
    fn a_script_that_is_not_there_is_named() {
        let package: Package =
            serde_json::from_str(r#"{"engines": {"node": ">=20.19"}, "scripts": {"build": "x"}}"#).unwrap();
        assert!(package.has(&["build"]).is_ok());
        let error = package.has(&["build", "size", "examples"]).unwrap_err().to_string();
        assert_eq!(error, "sdk/typescript/package.json has no script size, examples");
    }

    /// Runs a program in the place of npm, with the report it writes as its last argument.
    fn ran(script: &str) -> (Result<String>, Results) {
        let report =
            std::env::temp_dir().join(format!("pulsewire-sdk-{}-{}.json", std::process::id(), script.len()));
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("for last; do :; done; report=${{last#*=}}; {script}"), "npm"]);
        let mut results = Results::default();
        let outcome = tests(shell, &report, &mut results);
        let _ = fs::remove_file(&report);
        (outcome, results)
    }

    #[test]
    fn a_run_without_a_report_or_without_tests_fails() {
        let passed = r#"{"status":"passed","assertionResults":[{"fullName":"a","status":"passed"}]}"#;
        for (script, expected, passes) in [
            (format!(r#"echo '{{"testResults":[{passed}]}}' > "$report""#), "1 passed, 0 failed", true),
            (
                format!(r#"echo '{{"testResults":[{passed}]}}' > "$report"; exit 1"#),
                "1 passed, 1 failed",
                false,
            ),
            (r#"echo '{"testResults":[]}' > "$report""#.to_owned(), "0 passed, 1 failed", false),
            ("true".to_owned(), "0 passed, 1 failed", false),
            (r#"echo nonsense > "$report""#.to_owned(), "0 passed, 1 failed", false),
        ] {
            let (outcome, results) = ran(&script);
            assert_eq!(
                (results.to_string().as_str(), outcome.is_ok()),
                (expected, passes),
                "{script}: {outcome:?}"
            );
        }
    }
}
