//! `pulsewire completions`: what a shell needs to complete commands, options and their values.

use clap::{Args, CommandFactory as _};
use clap_complete::{Shell, generate};

use super::{Cli, Exit, Terminal};

/// Print completions for a shell.
#[derive(Debug, Args)]
pub struct Completions {
    /// Which shell.
    pub shell: Shell,
}

/// Prints them.
pub fn run(command: &Completions, terminal: &mut Terminal<'_>) -> Exit {
    generate(command.shell, &mut Cli::command(), "pulsewire", &mut terminal.out);
    Exit::Ok
}
