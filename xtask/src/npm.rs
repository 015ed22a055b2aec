//! Folders with a `package.json`: their packages, their scripts, and how those count as tests.
//!
//! Node, npm and Chromium are the system's; nothing downloads a browser. Packages come from `package-lock.json` by
//! `npm ci`, and only when the lock has changed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use semver::{Version, VersionReq};
use serde::Deserialize;

use crate::setup;
use crate::steps::{quietly, seconds};
use crate::test::Results;
use crate::workspace::Workspace;

/// A copy of the lock that the packages were installed from.
const INSTALLED: &str = "node_modules/.pulsewire-installed.json";

/// One script of `package.json`.
pub struct Script {
    /// Its name there.
    pub name: &'static str,
    /// What it counts as.
    pub counts: Counts,
    /// Programs of which it needs any one, the best first.
    pub tools: &'static [&'static str],
}

/// What a script counts as in the results.
pub enum Counts {
    /// One check that holds or does not.
    Check,
    /// Its tests, which Vitest writes into a file.
    Tests,
}

/// A folder with a `package.json`.
pub struct Npm<'a> {
    workspace: &'a Workspace,
    /// What it is called in what is printed.
    name: &'static str,
    folder: PathBuf,
    package: Package,
}

impl<'a> Npm<'a> {
    /// A folder whose `package.json` has these scripts.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or lacks a script.
    pub fn new(
        workspace: &'a Workspace,
        name: &'static str,
        folder: &str,
        scripts: &[Script],
    ) -> Result<Self> {
        let package: Package = serde_json::from_str(&workspace.read(&format!("{folder}/package.json"))?)
            .with_context(|| format!("cannot understand {folder}/package.json"))?;
        package.has(folder, &scripts.iter().map(|script| script.name).collect::<Vec<_>>())?;
        Ok(Self { workspace, name, folder: workspace.path(folder), package })
    }

    /// Whether Node and npm are there, and new enough.
    ///
    /// # Errors
    ///
    /// What is missing.
    pub fn node(&self) -> Result<()> {
        let wanted = &self.package.engines.node;
        let version = |program: &str| -> Result<String> {
            let output = self
                .workspace
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
    ///
    /// # Errors
    ///
    /// What npm says.
    pub fn install(&self) -> Result<()> {
        let lock =
            fs::read(self.folder.join("package-lock.json")).context("cannot read package-lock.json")?;
        let installed = self.folder.join(INSTALLED);
        if fs::read(&installed).is_ok_and(|before| before == lock) {
            return Ok(());
        }
        let started = Instant::now();
        let mut npm = self.workspace.command("npm");
        // This begins by removing `node_modules`, so a copy that is there belongs to a whole installation.
        quietly(npm.current_dir(&self.folder).args(["ci", "--no-audit", "--no-fund"]))
            .context("npm ci failed")?;
        fs::write(&installed, lock).context("cannot note what was installed")?;
        println!("{} npm ci ... ok, {}", self.name, seconds(started.elapsed()));
        Ok(())
    }

    /// `npm run` of a script.
    #[must_use]
    pub fn script(&self, name: &str) -> Command {
        let mut npm = self.workspace.command("npm");
        npm.current_dir(&self.folder).args(["run", "--silent", name]);
        // A log is no terminal, whatever the caller's is.
        npm.env_remove("FORCE_COLOR").env("NO_COLOR", "1");
        npm
    }

    /// Runs scripts one after the other, each to its end, and adds what they found. Reports and the server's programs
    /// are below `target`.
    ///
    /// # Errors
    ///
    /// When there is no place for reports.
    pub fn run(&self, scripts: &[Script], target: &Path, results: &mut Results) -> Result<()> {
        let reports = target.join(self.name);
        fs::create_dir_all(&reports).context("cannot make a folder for reports")?;
        // A link of its own: the stage that counts instructions puts another program in its place for a moment.
        let server = reports.join("pulsewire");
        let _ = fs::remove_file(&server);
        fs::hard_link(target.join("debug/pulsewire"), &server).context("cannot keep the server for tests")?;
        for script in scripts {
            if let Some(tool) = missing(script.tools) {
                results.skip(format!("{} {}: {tool} is not installed", self.name, script.name));
                continue;
            }
            let started = Instant::now();
            let mut npm = self.script(script.name);
            npm.env("CARGO_TARGET_DIR", target).env("PULSEWIRE_BIN", &server);
            let outcome = match script.counts {
                Counts::Check => {
                    let outcome = quietly(&mut npm).map(|()| String::new());
                    results.add(outcome.is_ok());
                    outcome
                }
                Counts::Tests => {
                    let report = reports.join(format!("{}.json", script.name.replace(':', "-")));
                    tests(self.name, npm, &report, results)
                }
            };
            let took = seconds(started.elapsed());
            match outcome {
                Ok(said) => println!("{} {} ... ok{said}, {took}", self.name, script.name),
                Err(error) => println!("{} {} ... FAILED, {took}\n{error:#}", self.name, script.name),
            }
        }
        Ok(())
    }
}

/// The program to install where none of those that would do is there.
fn missing(tools: &[&'static str]) -> Option<&'static str> {
    if tools.iter().any(|tool| setup::installed(tool)) { None } else { tools.first().copied() }
}

/// Runs a script of Vitest and adds its tests. One that fails without a failed test counts as one.
fn tests(name: &str, mut npm: Command, report: &Path, results: &mut Results) -> Result<String> {
    // What an earlier run left must not be taken for this one's.
    let _ = fs::remove_file(report);
    npm.args(["--", "--reporter=default", "--reporter=json"]);
    npm.arg(format!("--outputFile.json={}", report.display()));
    let outcome = quietly(&mut npm);
    let counted = fs::read_to_string(report)
        .context("Vitest wrote no report")
        .and_then(|text| serde_json::from_str::<Report>(&text).context("cannot understand Vitest's report"));
    let tests = match counted {
        Ok(report) => report.add_to(name, results),
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
    fn has(&self, folder: &str, scripts: &[&str]) -> Result<()> {
        let missing: Vec<_> =
            scripts.iter().filter(|script| !self.scripts.contains_key(**script)).copied().collect();
        ensure!(missing.is_empty(), "{folder}/package.json has no script {}", missing.join(", "));
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
    fn add_to(&self, name: &str, results: &mut Results) -> Results {
        let mut added = Results::default();
        for file in &self.test_results {
            if file.status == "failed" && file.assertion_results.iter().all(|test| test.status != "failed") {
                added.add(false);
            }
            for test in &file.assertion_results {
                match test.status.as_str() {
                    "passed" => added.add(true),
                    "failed" => added.add(false),
                    other => added.skip(format!("{name}: `{}` is {other}", test.full_name)),
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
        assert_eq!(report.add_to("sdk", &mut results).to_string(), "2 passed, 2 failed, 1 skipped");
        assert_eq!(results.to_string(), "12 passed, 2 failed, 1 skipped");
        assert_eq!(results.skipped, ["sdk: `a three` is skipped"]);
    }

    #[test]
    fn one_of_the_programs_that_would_do_is_enough() {
        assert_eq!(missing(&[]), None);
        assert_eq!(missing(&["no-such-program-anywhere", "sh"]), None);
        assert_eq!(missing(&["no-such-program-anywhere", "nor-this-one"]), Some("no-such-program-anywhere"));
    }

    #[test]
    fn a_script_that_is_not_there_is_named() {
        let package: Package =
            serde_json::from_str(r#"{"engines": {"node": ">=20.19"}, "scripts": {"build": "x"}}"#).unwrap();
        assert!(package.has("sdk/typescript", &["build"]).is_ok());
        let error = package.has("sdk/typescript", &["build", "size", "examples"]).unwrap_err().to_string();
        assert_eq!(error, "sdk/typescript/package.json has no script size, examples");
    }

    /// Runs a program in the place of npm, with the report it writes as its last argument.
    fn ran(script: &str) -> (Result<String>, Results) {
        let report =
            std::env::temp_dir().join(format!("pulsewire-npm-{}-{}.json", std::process::id(), script.len()));
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("for last; do :; done; report=${{last#*=}}; {script}"), "npm"]);
        let mut results = Results::default();
        let outcome = tests("sdk", shell, &report, &mut results);
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
