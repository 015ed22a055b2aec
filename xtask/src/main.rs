//! `cargo xtask`: the commands that check and test the repository, for people and for CI alike.
//!
//! This file only maps words to the modules of the library.

use std::process::ExitCode;

use xtask::{
    budgets, check, dashboard, generated, mutants, proofs, telemetry_cost, test, workspace::Workspace,
};

const HELP: &str = "\
Usage: cargo xtask COMMAND

  check [STEP…]   format, links, dependencies, layers, clippy, docs, generated
  generate        rewrite the files that are generated from code
  dashboard       check and build the dashboard, and put it where the server embeds it
  test [STAGE…]   everything: setup, then cargo, sdk (TypeScript), dashboard,
                  operations (deploy/), fuzz, budgets
  budgets         instructions, system calls and memory, counted exactly; with --telemetry what measuring
                  costs, which rewrites its section of docs/benchmarks.md
  proofs [NAME…]  rows of the fault catalogue that take minutes: vanish, hostile, scrapers, rest, kill_sqlite,
                  kill_postgres, outage; with --short two minutes for all, without it all of them rewrite
                  docs/proofs.md
  mutants rules   every rule for Prometheus with one thing wrong, which promtool's tests must notice (minutes);
                  with --sample N so many, with --only TEXT those whose description has it

CARGO_TARGET_DIR, PULSEWIRE_SIM_SEEDS (schedules per simulation test), PULSEWIRE_FUZZ_SECONDS (per fuzz
target) and PULSEWIRE_ADVISORY_DB (a checkout of the RustSec database) are honoured when set.
Exit codes: 0 ok, 1 something failed, 2 not understood.";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let Some((command, names)) = words.split_first() else {
        eprintln!("{HELP}");
        return ExitCode::from(2);
    };
    let outcome = Workspace::find().and_then(|workspace| match command.as_str() {
        "check" => check::run(&workspace, names),
        "generate" => generated::write(&workspace),
        "dashboard" => dashboard::build(&workspace),
        "test" => test::run(&workspace, names),
        "budgets" if names == ["--telemetry"] => telemetry_cost::run(&workspace),
        "budgets" => budgets::run(&workspace),
        "proofs" => proofs::run(&workspace, names),
        "mutants" => mutants::run(&workspace, names),
        "help" | "--help" | "-h" => {
            eprintln!("{HELP}");
            Ok(ExitCode::SUCCESS)
        }
        unknown => {
            eprintln!("unknown command `{unknown}`\n\n{HELP}");
            Ok(ExitCode::from(2))
        }
    });
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
