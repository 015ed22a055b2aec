//! Named steps with a duration and a verdict each.
//!
//! All chosen steps run even after one has failed, so one run shows everything there is to repair. The first
//! failure's repair command is the last thing printed, where nobody misses it.

use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::workspace::Workspace;

/// One thing to check.
pub struct Step {
    /// The word that selects it on the command line.
    pub name: &'static str,
    /// The command that repairs it, or the place to look.
    pub repair: &'static str,
    /// Does the work; the text says what was looked at.
    pub run: fn(&Workspace) -> Result<String>,
}

/// Runs the steps with these names, or all of them, and says how each went.
///
/// # Errors
///
/// When a name is no step's.
pub fn run(workspace: &Workspace, steps: &[Step], names: &[String]) -> Result<ExitCode> {
    if let Some(unknown) = names.iter().find(|name| steps.iter().all(|step| step.name != name.as_str())) {
        let known: Vec<_> = steps.iter().map(|step| step.name).collect();
        bail!("no step `{unknown}`; there are {}", known.join(", "));
    }
    let started = Instant::now();
    let chosen: Vec<_> =
        steps.iter().filter(|step| names.is_empty() || names.iter().any(|name| name == step.name)).collect();
    let failed: Vec<_> = chosen.iter().filter(|step| !passes(workspace, step)).collect();
    let took = seconds(started.elapsed());
    let Some(first) = failed.first() else {
        println!("\n{} checks passed in {took}", chosen.len());
        return Ok(ExitCode::SUCCESS);
    };
    let names: Vec<_> = failed.iter().map(|step| step.name).collect();
    println!("\n{} of {} checks failed in {took}: {}", failed.len(), chosen.len(), names.join(", "));
    println!("repair `{}` with: {}", first.name, first.repair);
    Ok(ExitCode::FAILURE)
}

fn passes(workspace: &Workspace, step: &Step) -> bool {
    let started = Instant::now();
    // A long step would otherwise look like a hang; the verdict follows on a line of its own.
    println!("· {}", step.name);
    match (step.run)(workspace) {
        Ok(looked_at) => {
            println!("✓ {:<13}{:>8}  {looked_at}", step.name, seconds(started.elapsed()));
            true
        }
        Err(error) => {
            println!("✗ {:<13}{:>8}", step.name, seconds(started.elapsed()));
            for line in format!("{error:#}").trim_end().lines() {
                println!("  {line}");
            }
            println!("  → {}", step.repair);
            false
        }
    }
}

/// Runs a command to its end; what it printed is shown only when it fails.
///
/// # Errors
///
/// Everything the command printed, when it does not end with success.
pub fn quietly(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
    if !output.status.success() {
        let (printed, complained) = (&output.stdout, &output.stderr);
        bail!(
            "{}{}({})",
            String::from_utf8_lossy(printed),
            String::from_utf8_lossy(complained),
            output.status
        );
    }
    Ok(())
}

/// A duration as people read it: `0.4 s`, `12.0 s`, `3 min 05 s`.
pub fn seconds(duration: Duration) -> String {
    let whole = duration.as_secs();
    if whole < 60 {
        return format!("{:.1} s", duration.as_secs_f64());
    }
    format!("{} min {:02} s", whole / 60, whole % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(name: &'static str, run: fn(&Workspace) -> Result<String>) -> Step {
        Step { name, repair: "mend it", run }
    }

    fn outcome(names: &[&str]) -> String {
        let steps = [step("good", |_| Ok("one thing".into())), step("bad", |_| bail!("broken"))];
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        match run(&Workspace::at("."), &steps, &names) {
            Ok(code) if code == ExitCode::SUCCESS => "passed".into(),
            Ok(_) => "failed".into(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn one_failing_step_fails_the_run() {
        assert_eq!(outcome(&[]), "failed");
        assert_eq!(outcome(&["good"]), "passed");
    }

    #[test]
    fn an_unknown_step_is_named_with_the_known_ones() {
        assert_eq!(outcome(&["god"]), "no step `god`; there are good, bad");
    }

    #[test]
    fn durations_read_naturally() {
        assert_eq!(seconds(Duration::from_millis(449)), "0.4 s");
        assert_eq!(seconds(Duration::from_secs(185)), "3 min 05 s");
    }
}
