//! `pulsewire rules`: rules for Prometheus, made for these settings.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use pulsewire_operations::Pack;
use pulsewire_operations::rules::{self, File, Form};

use super::{Exit, SettingsArguments, Terminal, keep, read, sources};
use crate::pack::pack;
use crate::settings::Sources;

/// Commands about rules.
#[derive(Debug, Subcommand)]
pub enum Rules {
    /// Print recording and alert rules, or write them to a folder.
    ///
    /// Where an alert is the same thing as a rule of the server's own (`thresholds.*`), its limits are those of the
    /// settings, and what is off is left out. No key is needed, and no server.
    Generate(Box<Generate>),
    /// Print the page about every alert, in Markdown.
    Doc {
        /// Where settings come from.
        #[command(flatten)]
        settings: SettingsArguments,
    },
}

/// The arguments of `rules generate`.
#[derive(Debug, Clone, Args)]
pub struct Generate {
    /// Only this file, such as `alerts.yml`; without it all of them.
    pub name: Option<String>,
    /// Write a file each into this folder instead of printing all as one.
    #[arg(short, long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Who reads them.
    #[arg(short, long, value_enum, default_value_t = Wanted::Prometheus)]
    pub form: Wanted,
    /// Which rules.
    #[arg(short, long, value_enum, default_value_t = Profile::Settings)]
    pub profile: Profile,
    /// What an alert's `runbook_url` begins with, before `/<alert>.md`: where you keep the pages of docs/runbook.
    #[arg(long, value_name = "URL", default_value_t = Pack::default().runbooks)]
    pub runbooks: String,
    /// The jobs that Prometheus scrapes gateways as, for rules about scrapes.
    #[arg(long, value_name = "REGEX", default_value_t = Pack::default().jobs)]
    pub jobs: String,
    /// Where settings come from.
    #[command(flatten)]
    pub settings: SettingsArguments,
}

/// Who reads the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Wanted {
    /// Prometheus, as `rule_files`.
    Prometheus,
    /// The Prometheus Operator, as `PrometheusRule` resources.
    Kubernetes,
}

/// Which rules are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Profile {
    /// Ours, with the limits of the settings; `--set thresholds.profile=seed-001` for document 001's.
    Settings,
    /// The documents' own to the letter, as far as they load: for comparison, not for use.
    SeedLiteral,
}

pub(super) fn run(command: &Rules, terminal: &mut Terminal<'_>) -> Result<Exit, Exit> {
    match command {
        Rules::Generate(arguments) => {
            generate(arguments, &sources(arguments.settings.flags(), terminal)?, terminal)
        }
        Rules::Doc { settings } => {
            let settings = read(&sources(settings.flags(), terminal)?, terminal)?;
            terminal.data(rules::page(&rules::files(&pack(&settings))).trim_end());
            Ok(Exit::Ok)
        }
    }
}

/// Prints or writes the rules.
///
/// # Errors
///
/// [`Exit::Usage`] for settings that cannot be read and a name that no file has, [`Exit::Failed`] for a folder that
/// cannot be written; the reason has been written.
pub fn generate(arguments: &Generate, sources: &Sources, terminal: &mut Terminal<'_>) -> Result<Exit, Exit> {
    let mut files = match arguments.profile {
        Profile::Settings => rules::files(&made_for(arguments, sources, terminal)?),
        Profile::SeedLiteral => vec![rules::literal()],
    };
    if let Some(name) = &arguments.name {
        files = vec![named(files, name, terminal)?];
    }
    let form = match arguments.form {
        Wanted::Prometheus => Form::Prometheus,
        Wanted::Kubernetes => Form::Kubernetes,
    };
    match &arguments.out {
        Some(folder) => write(&files, form, folder, terminal),
        None => {
            terminal.data(printed(files, form).trim_end());
            Ok(Exit::Ok)
        }
    }
}

fn made_for(arguments: &Generate, sources: &Sources, terminal: &mut Terminal<'_>) -> Result<Pack, Exit> {
    let settings = read(sources, terminal)?;
    if !settings.metrics.compat {
        terminal.say("notice: metrics.compat is false, so rules about websocket_* find nothing to judge");
    }
    let (jobs, runbooks) = (arguments.jobs.clone(), arguments.runbooks.clone());
    Ok(Pack { jobs, runbooks, ..pack(&settings) })
}

/// The file of that name, with or without its ending.
fn named(files: Vec<File>, name: &str, terminal: &mut Terminal<'_>) -> Result<File, Exit> {
    let known: Vec<_> = files.iter().map(|file| format!("{}.yml", file.name)).collect();
    let wanted = name.strip_suffix(".yml").unwrap_or(name);
    files.into_iter().find(|file| file.name == wanted).ok_or_else(|| {
        terminal.say(format_args!("error: no rules are called `{name}`; there are {}", known.join(", ")));
        Exit::Usage
    })
}

/// All files as one: Prometheus reads one document, the operator a stream of them.
fn printed(mut files: Vec<File>, form: Form) -> String {
    if form == Form::Kubernetes || files.len() == 1 {
        return files.iter().map(|file| file.text(form)).collect::<Vec<_>>().join("---\n");
    }
    let groups = files.drain(..).flat_map(|file| file.groups).collect();
    File { name: "pulsewire", about: "Every rule.", groups }.text(form)
}

fn write(files: &[File], form: Form, folder: &Path, terminal: &mut Terminal<'_>) -> Result<Exit, Exit> {
    for file in files {
        let path = folder.join(format!("{}.yml", file.name));
        keep(&path, &file.text(form), terminal)?;
        terminal.say(format_args!("wrote {}", path.display()));
    }
    Ok(Exit::Ok)
}
