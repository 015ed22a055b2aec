//! A list, shown once or again and again.

use std::io::{self, IsTerminal as _};
use std::time::Duration;

use clap::Args;
use tokio::signal::ctrl_c;
use tokio::time::{MissedTickBehavior, interval};

use super::admin::Admin;
use super::connection::{ConnectionArguments, block_on};
use super::list::{self, Column, Output};
use super::screen::{self, Screen};
use super::{Exit, Terminal};

/// How a list is shown.
#[derive(Debug, Args)]
pub struct View {
    /// How to print it.
    #[arg(short, long, default_value = "table")]
    pub output: Output,
    /// Ask again and again, until interrupted: drawn in place on a terminal.
    #[arg(short, long)]
    pub watch: bool,
    /// How often --watch asks.
    #[arg(long, value_name = "SPAN", default_value = "1s", value_parser = super::span)]
    pub interval: Duration,
}

/// Asks for a list and shows it.
///
/// # Errors
///
/// The exit code, after the reason has been written.
pub(super) fn list(
    view: &View,
    connection: &ConnectionArguments,
    path: &str,
    columns: &[Column],
    terminal: &mut Terminal<'_>,
) -> Result<Exit, Exit> {
    let connection = connection.resolve(terminal)?;
    block_on(terminal, async |terminal| {
        let mut admin = Admin::new(&connection);
        if !view.watch {
            let document = admin.get(path, terminal).await?;
            list::show(&document, columns, view.output, width(), terminal);
            return Ok(Exit::Ok);
        }
        let drawn = view.output == Output::Table && io::stdout().is_terminal();
        let mut screen = drawn.then(|| Screen::open(io::stdout())).transpose().map_err(|_| Exit::Failed)?;
        let mut tick = interval(view.interval);
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                _ = ctrl_c() => return Ok(Exit::Ok),
            }
            let document = match admin.get(path, terminal).await {
                Ok(document) => document,
                Err(exit) => return Err(exit),
            };
            match &mut screen {
                None => list::show(&document, columns, view.output, None, terminal),
                Some(screen) => {
                    let (width, height) = screen::size();
                    let mut lines =
                        list::table(list::rows(&document), columns, list::at(&document), Some(width));
                    lines.truncate(height.saturating_sub(1));
                    lines.extend(list::rest(&document, columns));
                    let _ = screen.draw(&lines);
                }
            }
        }
    })?
}

/// The terminal's width; none where output goes elsewhere, and nothing is cut.
fn width() -> Option<usize> {
    io::stdout().is_terminal().then(|| screen::size().0)
}
