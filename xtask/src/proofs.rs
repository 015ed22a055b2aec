//! `cargo xtask proofs`: rows of the fault catalogue that take too long for every change.
//!
//! Most of the work is done by `pulsewire bench`, in release mode, against servers it starts on 127.0.0.1; each row's
//! bound is a budget there, and a missed one fails. Rows that need a store of their own and something that kills are the
//! server's own tests in their long form. The short forms of all are in the ordinary tests.

use std::process::ExitCode;

use anyhow::{Context, Result, ensure};

use crate::workspace::Workspace;

/// The page that a full run of all proofs writes.
const PAGE: &str = "docs/proofs.md";
/// Enough to see each of them work; the numbers of clients stay.
const SHORT: [&str; 2] = ["--duration", "3s"];

/// A test of the server that says in its long form what came out.
struct LongTest {
    name: &'static str,
    test: &'static str,
    /// The variable that says how often something is repeated, how often that is, and in the short form.
    rounds: (&'static str, &'static str, &'static str),
}

const TESTS: [LongTest; 5] = [
    LongTest {
        name: "kill_sqlite",
        test: "kill::what_was_acknowledged_outlives_the_process_in_sqlite",
        rounds: ("PULSEWIRE_KILL_ROUNDS", "100", "5"),
    },
    LongTest {
        name: "kill_postgres",
        test: "kill::what_was_acknowledged_outlives_the_process_in_postgres",
        rounds: ("PULSEWIRE_KILL_ROUNDS", "100", "5"),
    },
    LongTest {
        name: "outage",
        test: "postgres::what_was_acknowledged_outlives_stops_of_the_database_and_the_server_is_ready_when_it_is_back",
        rounds: ("PULSEWIRE_OUTAGE_ROUNDS", "12", "2"),
    },
    LongTest {
        name: "cluster",
        test: "cluster_faults::nothing_is_lost_or_repeated_whatever_happens_to_nodes_redis_and_database",
        rounds: ("PULSEWIRE_CLUSTER_ROUNDS", "10", "1"),
    },
    LongTest {
        name: "upstreams",
        test: "upstreams::streams_come_and_go_and_nothing_of_them_stays",
        rounds: ("PULSEWIRE_UPSTREAMS", "10000", "200"),
    },
];

/// Runs the named proofs, or all.
///
/// # Errors
///
/// When the program cannot be built or started.
pub fn run(workspace: &Workspace, words: &[String]) -> Result<ExitCode> {
    let (flags, names): (Vec<&String>, Vec<&String>) = words.iter().partition(|word| word.starts_with("--"));
    if let Some(unknown) = flags.iter().find(|flag| flag.as_str() != "--short") {
        anyhow::bail!("no flag `{unknown}`; there is --short");
    }
    let short = !flags.is_empty();
    let (tests, benches): (Vec<&String>, Vec<&String>) =
        names.iter().partition(|name| TESTS.iter().any(|test| test.name == name.as_str()));
    let mut good = true;
    if names.is_empty() || !benches.is_empty() {
        good &= bench(workspace, &benches, short)?;
    }
    for test in TESTS.iter().filter(|test| names.is_empty() || tests.iter().any(|name| *name == test.name)) {
        // Behind what the benches have written, or where nobody keeps it.
        let page = if names.is_empty() && !short { workspace.path(PAGE) } else { "/dev/null".into() };
        let (variable, long, few) = test.rounds;
        let arguments =
            ["test", "--quiet", "--package", "pulsewire", "--test", "it", "--", "--exact", "--nocapture"];
        let mut command = workspace.cargo(arguments.into_iter().chain([test.test]));
        command.env("PULSEWIRE_PROOFS_PAGE", page).env(variable, if short { few } else { long });
        good &= command.status().context("cannot start cargo test")?.success();
    }
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn bench(workspace: &Workspace, names: &[&String], short: bool) -> Result<bool> {
    let built = workspace.cargo(["build", "--release", "--quiet", "--package", "pulsewire"]).status()?;
    ensure!(built.success(), "pulsewire does not build in release mode");
    let program = workspace.metadata()?.target_directory.join("release/pulsewire");
    let mut command = workspace.command(&program);
    command.args(["bench", "--strict"]);
    if short {
        command.args(SHORT);
    }
    if names.is_empty() {
        command.arg("proofs");
        if !short {
            command.args(["--write", PAGE]);
        }
    } else {
        command.args(names);
    }
    Ok(command.status().context("cannot start pulsewire bench")?.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A test that is renamed would be left out without a word: `--exact` finds nothing and is content.
    #[test]
    fn every_long_test_exists_and_counts_its_rounds() {
        let workspace = Workspace::find().expect("the workspace");
        for LongTest { test, rounds, .. } in TESTS {
            let (module, function) = test.split_once("::").expect("a module and a function");
            let text = workspace.read(&format!("crates/server/tests/it/{module}.rs")).expect("the module");
            assert!(text.contains(&format!("#[test]\nfn {function}()")), "{test}");
            assert!(text.contains(rounds.0), "{test} does not ask {}", rounds.0);
        }
    }
}
