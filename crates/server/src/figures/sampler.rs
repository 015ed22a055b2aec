//! Looks at the server once a second, soon after each second of the wall clock has begun.
//!
//! It asks the shards as a scrape does and reads the process's numbers where that may take its time. What it measures
//! on the way is counted: how late it was woken, and how long the slowest shard took.

use std::sync::Arc;
use std::time::Duration;

use pulsewire_edge::clock;
use pulsewire_hub::Now;
use pulsewire_telemetry::{Loop, Process, Severity};
use tokio::sync::watch;

use super::Moment;
use crate::app::App;
use crate::events::{self, Kind};

/// The time between two looks.
pub const INTERVAL: Duration = Duration::from_secs(1);
/// How long after the beginning of a second it is looked: a clock that is read a little late is not read early.
const BEHIND_MS: i64 = 2;

/// Looks once a second until `stop` changes.
pub fn start(app: &Arc<App>, mut stop: watch::Receiver<bool>) {
    let app = app.clone();
    tokio::spawn(async move {
        loop {
            let wait = until_next(clock::now().wall_ms);
            let due_ns = clock::now().mono_ns + u64::try_from(wait.as_nanos()).unwrap_or(0);
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                _ = stop.changed() => return,
            }
            let now = clock::now();
            app.telemetry.shared().loop_lag(Loop::Runtime, now.since_ns(due_ns));
            let moment = Arc::new(look(&app, now).await);
            take(&app, &moment);
        }
    });
}

/// Tells everybody who follows how the server does.
fn take(app: &App, moment: &Arc<Moment>) {
    app.figures.lock().tick(moment);
    let told = app.judge.lock().tick(moment, &app.live.load().settings.thresholds);
    let reached = app.errors.lock().tick(&moment.totals, moment.at.wall_ms);
    for told in &told {
        events::note_alert(app, told);
    }
    for limit in reached {
        let text = format!("a limit was reached: {}/{}", limit.group, limit.kind);
        events::note(app, Kind::LimitReached, Some(Severity::Warning), text, Some("/errors".to_owned()));
    }
}

/// The time until shortly behind the beginning of the next second.
fn until_next(wall_ms: i64) -> Duration {
    let step = i64::try_from(INTERVAL.as_millis()).unwrap_or(1_000);
    let passed = (wall_ms - BEHIND_MS).rem_euclid(step);
    Duration::from_millis((step - passed).unsigned_abs())
}

/// What is now. A shard that does not answer is waited for a second.
async fn look(app: &App, at: Now) -> Moment {
    let process = tokio::task::spawn_blocking(Process::read);
    let current = app.survey().await.ok().map(|mut current| {
        app.telemetry.shared().loop_lag(Loop::Shards, clock::now().since_ns(at.mono_ns));
        // Nobody asks for the projects of a moment that has passed.
        current.subscriptions_by_project = Vec::new();
        Arc::new(current)
    });
    let process = process.await.unwrap_or_default();
    Moment { at, totals: app.telemetry.snapshot(), process, current }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_look_is_shortly_behind_the_beginning_of_a_second() {
        for (now_ms, wait_ms) in
            [(1_000, 2), (1_001, 1), (1_002, 1_000), (1_003, 999), (1_999, 3), (2_000, 2)]
        {
            assert_eq!(until_next(now_ms), Duration::from_millis(wait_ms), "{now_ms}");
        }
    }
}
