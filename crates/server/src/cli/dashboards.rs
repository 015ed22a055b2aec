//! `pulsewire dashboards`: dashboards for Grafana, made for these settings, and a backup of those that a Grafana has.

mod export;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use pulsewire_operations::dashboards::{self, Dashboard};

use super::{Exit, SettingsArguments, Terminal, keep, read, sources};
use crate::pack::pack;
use crate::settings::Sources;

pub use export::{Export, export};

/// Commands about dashboards.
#[derive(Debug, Subcommand)]
pub enum Dashboards {
    /// Print a dashboard for Grafana, or write all of them to a folder.
    ///
    /// Names follow `metrics.alias_prefix`, colours the limits of `thresholds.*`. No key is needed, and no server.
    Generate(Box<Generate>),
    /// Write every dashboard that a Grafana has to a folder, a file each, for a backup.
    ///
    /// The files are what Grafana imports. Run it from cron and keep the folder under version control: `git diff` then
    /// says who changed what.
    Export(Export),
}

/// The arguments of `dashboards generate`.
#[derive(Debug, Clone, Args)]
pub struct Generate {
    /// Which: connections, delivery, collaboration, upstreams, streaming or node. Without it all, which takes --out.
    pub name: Option<String>,
    /// Write to this folder, under the names of deploy/grafana/dashboards, instead of printing.
    #[arg(short, long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Link each panel to the pages of docs/runbook about its alerts, where you keep them: the alert's name and `.md` follow.
    #[arg(long, value_name = "URL")]
    pub runbooks: Option<String>,
    /// Where settings come from.
    #[command(flatten)]
    pub settings: SettingsArguments,
}

pub(super) fn run(command: &Dashboards, terminal: &mut Terminal<'_>) -> Result<Exit, Exit> {
    match command {
        Dashboards::Generate(arguments) => {
            generate(arguments, &sources(arguments.settings.flags(), terminal)?, terminal)
        }
        Dashboards::Export(arguments) => export(arguments, terminal),
    }
}

/// Prints or writes dashboards.
///
/// # Errors
///
/// [`Exit::Usage`] for settings that cannot be read, a name that no dashboard has, and all dashboards without a folder;
/// [`Exit::Failed`] for a folder that cannot be written. The reason has been written.
pub fn generate(arguments: &Generate, sources: &Sources, terminal: &mut Terminal<'_>) -> Result<Exit, Exit> {
    let settings = read(sources, terminal)?;
    if !settings.metrics.compat {
        terminal.say("notice: metrics.compat is false, so panels about websocket_* find nothing to show");
    }
    let mut made_for = pack(&settings);
    made_for.runbooks = arguments.runbooks.clone().unwrap_or(made_for.runbooks);
    let mut wanted = dashboards::all(&made_for);
    if let Some(name) = &arguments.name {
        wanted.retain(|dashboard| dashboard.name == name);
    }
    let names = dashboards::names().join(", ");
    match (wanted.as_slice(), &arguments.out) {
        ([], _) => {
            let name = arguments.name.as_deref().unwrap_or_default();
            terminal.say(format_args!("error: no dashboard is called `{name}`; there are {names}"));
            Err(Exit::Usage)
        }
        (wanted, Some(folder)) => write(wanted, folder, terminal),
        ([one], None) => {
            terminal.data(one.to_json().trim_end());
            Ok(Exit::Ok)
        }
        _ => {
            terminal.say(format_args!("error: name one of {names}, or a folder for all of them with --out"));
            Err(Exit::Usage)
        }
    }
}

fn write(dashboards: &[Dashboard], folder: &Path, terminal: &mut Terminal<'_>) -> Result<Exit, Exit> {
    for dashboard in dashboards {
        let path = folder.join(dashboard.file);
        keep(&path, &dashboard.to_json(), terminal)?;
        terminal.say(format_args!("wrote {}: {}", path.display(), dashboard.title()));
    }
    Ok(Exit::Ok)
}
