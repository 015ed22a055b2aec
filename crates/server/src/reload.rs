//! New settings for a running server, on SIGHUP.
//!
//! A file with a mistake changes nothing: the old settings stay, every problem is logged and the
//! failure is counted. What cannot change while running is said.

use std::sync::Arc;

use pulsewire_telemetry::{ReloadOutcome, logs};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;

use crate::app::{App, hub_settings};
use crate::serve::live;
use crate::settings::{Settings, Sources, diff};

/// Watches for SIGHUP.
pub fn watch(app: Arc<App>, sources: Sources, logs: logs::Handle) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut hangups = match signal(SignalKind::hangup()) {
            Ok(hangups) => hangups,
            Err(error) => {
                tracing::error!(%error, "settings cannot be reloaded: no signal handler");
                return;
            }
        };
        while hangups.recv().await.is_some() {
            reload(&app, &sources, &logs);
        }
    })
}

/// Reads the settings again and puts them in force, or leaves everything as it is.
pub fn reload(app: &App, sources: &Sources, logs: &logs::Handle) -> bool {
    let old = app.live.load_full();
    let settings = match Settings::load(sources) {
        Ok(settings) => settings,
        Err(problems) => {
            for problem in &problems {
                tracing::error!(%problem, "the settings were not reloaded");
            }
            app.telemetry.shared().reloaded(ReloadOutcome::Failed);
            return false;
        }
    };
    for change in diff(&old.settings, &settings) {
        if change.reloadable {
            tracing::info!(key = change.path, "a setting has changed");
        } else {
            tracing::warn!(key = change.path, "a setting has changed that only a restart puts in force");
        }
    }
    let hub = Arc::new(hub_settings(&settings));
    match live(settings, app.address, &app.revocations, &app.telemetry, Some(&old)) {
        Ok(live) => {
            let limits = &live.settings.limits;
            app.hub.admission.set_bounds(
                limits.connections_max,
                limits.connections_per_address,
                limits.connections_per_user,
            );
            if let Err(error) = logs.set_level(&live.settings.log.level) {
                tracing::error!(%error, "the log level was not changed");
            }
            app.hub.configure(&hub);
            app.live.store(Arc::new(live));
            app.telemetry.shared().reloaded(ReloadOutcome::Ok);
            tracing::info!("the settings were reloaded");
            true
        }
        Err(error) => {
            tracing::error!(%error, "the settings were not reloaded");
            app.telemetry.shared().reloaded(ReloadOutcome::Failed);
            false
        }
    }
}
