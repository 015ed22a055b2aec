//! New settings for a running server, on SIGHUP.
//!
//! A file with a mistake changes nothing: the old settings stay, every problem is logged and the
//! failure is counted. What cannot change while running keeps its old value in every part of the server,
//! and is said.

use std::sync::Arc;

use pulsewire_telemetry::{ReloadOutcome, Severity, logs};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;

use crate::app::{App, told_to_hub};
use crate::events::{self, Kind};
use crate::notify::Manager;
use crate::serve::live;
use crate::settings::{Change, Problem, Settings, Sources, diff};
use crate::upstreams::Config;

/// Watches for SIGHUP from now on, and tells whoever started the server what came of it.
pub fn watch(app: Arc<App>, sources: Sources, logs: logs::Handle, manager: Manager) -> JoinHandle<()> {
    // Not in the task: until there is a handler, the signal ends the process.
    let hangups = signal(SignalKind::hangup());
    tokio::spawn(async move {
        let mut hangups = match hangups {
            Ok(hangups) => hangups,
            Err(error) => {
                tracing::error!(%error, "settings cannot be reloaded: no signal handler");
                return;
            }
        };
        while hangups.recv().await.is_some() {
            manager.reloading();
            let done = reload(&app, &sources, &logs);
            manager.ready(if done {
                "new settings"
            } else {
                "old settings: the log says what is wrong with the new"
            });
        }
    })
}

/// Reads the settings again and puts them in force, or leaves everything as it is.
pub fn reload(app: &App, sources: &Sources, logs: &logs::Handle) -> bool {
    let done = apply(app, sources);
    match &done {
        Ok(changes) => {
            for change in changes {
                if change.reloadable {
                    tracing::info!(key = change.path, "a setting has changed");
                } else {
                    tracing::warn!(
                        key = change.path,
                        "a changed setting needs a restart; the old value stays"
                    );
                }
            }
            if let Err(error) = logs.set_level(&app.live.load().settings.log.level) {
                tracing::error!(%error, "the log level was not changed");
            }
            tracing::info!("the settings were reloaded");
        }
        Err(Failure::Settings(problems)) => {
            for problem in problems {
                tracing::error!(%problem, "the settings were not reloaded");
            }
        }
        Err(Failure::Use(error)) => tracing::error!(%error, "the settings were not reloaded"),
    }
    note(app, &done);
    let outcome = if done.is_ok() { ReloadOutcome::Ok } else { ReloadOutcome::Failed };
    app.telemetry.shared().reloaded(outcome);
    done.is_ok()
}

/// Says it to operators.
fn note(app: &App, done: &Result<Vec<Change>, Failure>) {
    match done {
        Ok(changes) => {
            let changed = changes.iter().filter(|change| change.reloadable).map(|change| change.path);
            let changed = changed.collect::<Vec<_>>().join(", ");
            let waiting = changes.iter().filter(|change| !change.reloadable).count();
            let text = format!("settings were reloaded: {changed}; {waiting} need a restart");
            events::note(app, Kind::SettingsReloaded, None, text, None);
        }
        Err(_) => {
            let text = "settings were not reloaded: the log says why";
            events::note(app, Kind::SettingsRefused, Some(Severity::Warning), text, None);
        }
    }
}

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The settings have mistakes.
    #[error("the settings have mistakes: {0:?}")]
    Settings(Vec<Problem>),
    /// A key, an origin or an address in them cannot be used.
    #[error("the settings cannot be used")]
    Use(#[source] anyhow::Error),
}

/// Puts the settings of the sources in force as far as a running server can; tells what differs.
///
/// # Errors
///
/// [`Failure`]; then everything is as before.
pub fn apply(app: &App, sources: &Sources) -> Result<Vec<Change>, Failure> {
    let old = app.live.load_full();
    let settings = Settings::load(sources).map_err(Failure::Settings)?;
    let changes = diff(&old.settings, &settings);
    let settings = settings.for_running(&old.settings, sources).map_err(Failure::Settings)?;
    let sessions_move = app.cluster.is_some();
    let live = live(settings, app.address, app.bus.shards(), &app.revocations, &app.telemetry, Some(&old))
        .map_err(Failure::Use)?;
    let hub = Arc::new(told_to_hub(&live, sessions_move));
    let kept = app.upstreams.kept(&live.settings).map_err(|error| Failure::Use(error.into()))?;
    app.tls.put(&live.settings).map_err(|problem| Failure::Settings(vec![problem]))?;
    app.upstreams.configure(Config::of(&live.settings), kept);
    let limits = &live.settings.limits;
    app.seats.resize(live.share.http_max);
    if let Some(note) = live.share.note() {
        tracing::warn!("{note}");
    }
    app.hub.admission.set_bounds(
        live.share.connections_max,
        limits.connections_per_address,
        limits.connections_per_user,
    );
    app.hub.configure(&hub);
    app.live.store(Arc::new(live));
    Ok(changes)
}
