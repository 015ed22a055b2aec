//! Mutants of the rules for Prometheus: each rule with one thing wrong, which promtool's tests must notice.
//!
//! A test of a rule proves something only if it fails once the rule is wrong. So rules are broken in every way that a
//! hand would (deleted, always true, a comparison turned, a number halved or doubled, another label, …), one at a time,
//! and the tests that name the rule are run. A mutant that they let live is run against all tests of its file before it
//! is believed. Files are read as text, for `pulsewire rules generate` writes them in one shape.

mod changes;
mod files;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest as _, Sha256};

use crate::steps::seconds;
use crate::workspace::Workspace;
use changes::Mutant;
use files::{RuleFile, TestFile};

/// Where rules and their tests are.
const FOLDER: &str = "deploy/prometheus";

/// `cargo xtask mutants rules [--sample N | --only TEXT]`.
///
/// # Errors
///
/// When the words are not understood, or promtool cannot be run.
pub fn run(workspace: &Workspace, words: &[String]) -> Result<ExitCode> {
    let choice = match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["rules"] => Choice::All,
        ["rules", "--sample", count] => Choice::Sample(count.parse().context("--sample takes a number")?),
        ["rules", "--only", text] => Choice::Naming(text),
        _ => bail!("usage: cargo xtask mutants rules [--sample N | --only TEXT]"),
    };
    let started = Instant::now();
    let found = rules(workspace, choice)?;
    for survivor in &found.survivors {
        println!("SURVIVED {survivor}");
    }
    let killed = found.run - found.survivors.len();
    println!("{killed} of {} mutants were noticed, in {}", found.run, seconds(started.elapsed()));
    Ok(if found.survivors.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What a run found.
pub struct Found {
    /// How many mutants were run.
    pub run: usize,
    /// Those that no test noticed, sorted.
    pub survivors: Vec<String>,
}

/// Which mutants are run.
#[derive(Clone, Copy)]
pub enum Choice<'a> {
    /// Every one.
    All,
    /// So many, drawn by the rules themselves: the same for the same files, others when a rule changes.
    Sample(usize),
    /// Those whose description, as it is printed, has this in it.
    Naming(&'a str),
}

/// Runs mutants.
///
/// # Errors
///
/// When files cannot be read, promtool cannot be run, or the tests fail without a mutant.
pub fn rules(workspace: &Workspace, choice: Choice<'_>) -> Result<Found> {
    let (files, tests) = (files::rules(workspace)?, files::tests(workspace)?);
    let mutants = chosen(&files, choice);
    ensure!(!mutants.is_empty(), "there are no such mutants of {FOLDER}");
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(4);
    let folder = workspace.metadata()?.target_directory.join("mutants");
    let (next, survivors) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| -> Result<()> {
        let work = |worker: usize| -> Result<()> {
            let place = Place::new(workspace, folder.join(worker.to_string()))?;
            while let Some(mutant) = mutants.get(next.fetch_add(1, Ordering::Relaxed)) {
                if place.survives(mutant, &tests)? {
                    let text = mutant.to_string();
                    survivors.lock().map_err(|_| anyhow::anyhow!("a worker panicked"))?.push(text);
                }
            }
            Ok(())
        };
        let started: Vec<_> = (0..workers).map(|worker| scope.spawn(move || work(worker))).collect();
        started.into_iter().try_for_each(|thread| thread.join().expect("workers do not panic"))
    })?;
    let mut survivors = survivors.into_inner().unwrap_or_default();
    survivors.sort();
    Ok(Found { run: mutants.len(), survivors })
}

fn chosen(files: &[RuleFile], choice: Choice<'_>) -> Vec<Mutant> {
    let mut mutants: Vec<_> = files.iter().flat_map(changes::of).collect();
    match choice {
        Choice::All => {}
        Choice::Naming(text) => mutants.retain(|mutant| mutant.to_string().contains(text)),
        Choice::Sample(count) => {
            let texts = files.iter().fold(Sha256::new(), |hash, file| hash.chain_update(&file.text));
            let seed = texts.finalize();
            mutants.sort_by_cached_key(|mutant| {
                Sha256::new().chain_update(seed).chain_update(mutant.to_string()).finalize()
            });
            mutants.truncate(count);
        }
    }
    mutants
}

/// A folder of one worker.
struct Place<'a> {
    workspace: &'a Workspace,
    folder: PathBuf,
}

impl<'a> Place<'a> {
    fn new(workspace: &'a Workspace, folder: PathBuf) -> Result<Self> {
        for name in ["rules", "tests"] {
            fs::create_dir_all(folder.join(name)).context("cannot make a folder for mutants")?;
        }
        Ok(Self { workspace, folder })
    }

    /// Whether no test notices: those that name the rule are asked first, as they mostly do.
    fn survives(&self, mutant: &Mutant, tests: &[TestFile]) -> Result<bool> {
        let rules = format!("{}.yml", mutant.file);
        fs::write(self.folder.join("rules").join(&rules), &mutant.text).context("cannot write a mutant")?;
        let own: Vec<_> = tests.iter().filter(|test| test.rules == rules).collect();
        for test in &own {
            if let Some(text) = test.about(&mutant.rule)
                && !self.passes(&test.name, &text)?
            {
                return Ok(false);
            }
        }
        for test in own {
            if !self.passes(&test.name, &test.text)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn passes(&self, name: &str, text: &str) -> Result<bool> {
        let file = self.folder.join("tests").join(name);
        fs::write(&file, text).context("cannot write a test")?;
        let mut promtool = self.workspace.command("promtool");
        let output = promtool.args(["test", "rules"]).arg(&file).output().context("cannot start promtool")?;
        Ok(output.status.success())
    }
}
