//! `pulsewire backup`: a copy of the store, also while a server writes it.

use std::path::PathBuf;

use clap::Args;

use super::{Exit, ServerArguments, Terminal, read, sources};
use crate::{random, store};

/// Where to.
#[derive(Debug, Args)]
pub struct Backup {
    /// The folder for the copies; it is made if it is missing, and copies in it are never replaced.
    pub folder: PathBuf,
    /// Whose store.
    #[command(flatten)]
    pub server: ServerArguments,
}

pub(super) fn run(command: &Backup, terminal: &mut Terminal<'_>) -> Result<Exit, Exit> {
    let settings = read(&sources(command.server.flags(), terminal)?, terminal)?;
    let epoch =
        random::source().map_err(anyhow::Error::from).and_then(|mut random| store::new_epoch(&mut random));
    let epoch = epoch.map_err(|error| fail(terminal, &error))?;
    let copies = store::back_up(&settings, &command.folder, &epoch);
    for copy in copies.map_err(|error| fail(terminal, &error))? {
        terminal.data(format_args!("{} {}", copy.bytes, copy.path.display()));
    }
    Ok(Exit::Ok)
}

fn fail(terminal: &mut Terminal<'_>, error: &anyhow::Error) -> Exit {
    terminal.say(format_args!("error: {error:#}"));
    Exit::Failed
}
