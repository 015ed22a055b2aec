//! `pulsewire config`: settings before anything starts.

use clap::{Subcommand, ValueEnum};

use super::{Exit, ServerArguments, Terminal, load, sources};
use crate::settings::{Sources, docs_markdown};

/// Commands about settings.
#[derive(Debug, Subcommand)]
pub enum Config {
    /// Find every mistake; exit code 0 when `serve` would start with these settings, else 2.
    Check(ServerArguments),
    /// Show every value in effect and where it comes from; secrets are redacted.
    Print {
        /// Where settings come from.
        #[command(flatten)]
        arguments: ServerArguments,
        /// The form.
        #[arg(short, long, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
    /// Explain every setting, in Markdown.
    Doc,
}

/// The form of `config print`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Columns for people.
    Table,
    /// A settings file with the origins as comments.
    Toml,
    /// One object: key to value and origin.
    Json,
}

pub(super) fn run(command: &Config, terminal: &mut Terminal<'_>) -> Result<Exit, Exit> {
    match command {
        Config::Check(arguments) => check(&sources(arguments.flags(), terminal)?, terminal),
        Config::Print { arguments, output } => {
            print(&sources(arguments.flags(), terminal)?, *output, terminal)
        }
        Config::Doc => {
            terminal.data(docs_markdown().trim_end());
            Ok(Exit::Ok)
        }
    }
}

/// Says whether the server would start.
///
/// # Errors
///
/// [`Exit::Usage`] after every problem has been written.
pub fn check(sources: &Sources, terminal: &mut Terminal<'_>) -> Result<Exit, Exit> {
    let settings = load(sources, terminal)?;
    for notice in settings.notices() {
        terminal.say(format_args!("notice: {notice}"));
    }
    terminal.data("the settings are good");
    Ok(Exit::Ok)
}

/// Writes the values in effect.
///
/// # Errors
///
/// [`Exit::Usage`] after every problem has been written.
pub fn print(sources: &Sources, output: Output, terminal: &mut Terminal<'_>) -> Result<Exit, Exit> {
    let settings = load(sources, terminal)?;
    match output {
        Output::Table => terminal.data(settings.to_table().trim_end()),
        Output::Toml => terminal.data(settings.to_toml().trim_end()),
        Output::Json => terminal.data(format_args!("{:#}", settings.to_json())),
    }
    Ok(Exit::Ok)
}
