//! `pulsewire check-history`: was everything that was acknowledged delivered once and in order?
//!
//! Reads the logs of publishers and readers, from wherever they are; no server is asked. The format of the lines and what
//! each finding means are in `docs/operate/check-history.md`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use pulsewire_loadtest::check::Bounds;
use pulsewire_loadtest::check::files::check_files;

use super::{Exit, Output, Terminal};
use crate::settings::duration_from_text;

/// Judge logs of publishers and readers.
#[derive(Debug, Args)]
pub struct CheckHistory {
    /// Logs, one JSON object a line; together they are one history.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// An event that comes later than this after its acknowledgement is stale.
    #[arg(long, value_name = "SPAN", default_value = "10s", value_parser = span)]
    pub stale_after: Duration,
    /// How to print the judgement.
    #[arg(short, long, default_value = "table")]
    pub output: Output,
}

fn span(text: &str) -> Result<Duration, String> {
    duration_from_text(text).ok_or_else(|| "expected a time such as 500ms or 10s".to_owned())
}

/// Reads and judges.
///
/// # Errors
///
/// The exit code, after the reason has been written.
pub fn run(command: &CheckHistory, terminal: &mut Terminal<'_>) -> Result<Exit, Exit> {
    let stale_ms = i64::try_from(command.stale_after.as_millis()).unwrap_or(i64::MAX);
    let report = check_files(&command.files, Bounds { stale_ms }).map_err(|error| {
        terminal.say(format_args!("error: {error:#}"));
        Exit::Failed
    })?;
    let files: Vec<String> = command.files.iter().map(|file| file.display().to_string()).collect();
    match command.output {
        Output::Table => terminal.data(report.text(&files)),
        Output::Json => terminal.data(serde_json::to_string_pretty(&report).unwrap_or_default()),
    }
    Ok(if report.is_clean() { Exit::Ok } else { Exit::ThresholdMissed })
}
