//! What an operator may want to set beside a graph: the server started, settings changed, an alert fired.
//!
//! The last thousand are kept; `$sys.events` tells each as it happens.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use pulsewire_edge::clock;
use pulsewire_telemetry::{Alert, Severity};
use serde_json::{Value, json};

use crate::app::App;
use crate::http::health::iso;
use crate::thresholds::{Told, rule};

/// Events kept; the oldest makes room.
pub const EVENTS_MAX: usize = 1_000;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The server started.
    Started,
    /// New settings are in force.
    SettingsReloaded,
    /// New settings had a mistake; the old ones stay.
    SettingsRefused,
    /// Clients are sent elsewhere.
    Draining,
    /// Clients are taken in again.
    Undrained,
    /// A rule began to fire, or fires worse or better.
    AlertFiring,
    /// A rule has ended to fire.
    AlertResolved,
    /// The store fails.
    StoreDegraded,
    /// The store works again.
    StoreRecovered,
    /// A shard does not answer.
    ShardStalled,
    /// All shards answer again.
    ShardRecovered,
    /// An operator did something.
    Action,
    /// A limit was reached, for the first time in a while.
    LimitReached,
    /// The audit log cannot be written.
    AuditFailed,
    /// An upstream failed, or the candidate's settings were taken back.
    Upstream,
}

impl Kind {
    /// The word of the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::SettingsReloaded => "settings_reloaded",
            Self::SettingsRefused => "settings_refused",
            Self::Draining => "draining",
            Self::Undrained => "undrained",
            Self::AlertFiring => "alert_firing",
            Self::AlertResolved => "alert_resolved",
            Self::StoreDegraded => "store_degraded",
            Self::StoreRecovered => "store_recovered",
            Self::ShardStalled => "shard_stalled",
            Self::ShardRecovered => "shard_recovered",
            Self::Action => "action",
            Self::LimitReached => "limit_reached",
            Self::AuditFailed => "audit_failed",
            Self::Upstream => "upstream",
        }
    }
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Counts from 1.
    pub id: u64,
    /// Unix milliseconds.
    pub at_ms: i64,
    /// What.
    pub kind: Kind,
    /// How bad it is; `None` for what is only good to know.
    pub severity: Option<Severity>,
    /// It in one line.
    pub text: String,
    /// The dashboard's page about it.
    pub link: Option<String>,
}

impl Event {
    /// The event as the API shows it.
    #[must_use]
    pub fn shown(&self) -> Value {
        json!({
            "id": self.id.to_string(),
            "at": iso(self.at_ms),
            "type": self.kind.as_str(),
            "severity": self.severity.map_or("info", Severity::as_str),
            "text": self.text,
            "link": self.link,
        })
    }
}

/// The last events.
#[derive(Debug, Default)]
pub struct Events(Mutex<Ring>);

#[derive(Debug, Default)]
struct Ring {
    events: VecDeque<Arc<Event>>,
    told: u64,
}

impl Events {
    /// Keeps an event.
    pub fn push(
        &self,
        at_ms: i64,
        kind: Kind,
        severity: Option<Severity>,
        text: String,
        link: Option<String>,
    ) -> Arc<Event> {
        let mut ring = self.0.lock();
        ring.told += 1;
        let event = Arc::new(Event { id: ring.told, at_ms, kind, severity, text, link });
        if ring.events.len() == EVENTS_MAX {
            ring.events.pop_front();
        }
        ring.events.push_back(event.clone());
        event
    }

    /// The newest, newest first, and how many are kept.
    #[must_use]
    pub fn newest(&self, limit: usize) -> (Vec<Arc<Event>>, usize) {
        let ring = self.0.lock();
        (ring.events.iter().rev().take(limit).cloned().collect(), ring.events.len())
    }
}

/// Keeps an event and tells whoever listens.
pub fn note(
    app: &App,
    kind: Kind,
    severity: Option<Severity>,
    text: impl Into<String>,
    link: Option<String>,
) {
    let event = app.events.push(clock::now().wall_ms, kind, severity, text.into(), link);
    crate::watch::tell(app, "$sys.events", kind.as_str(), &event.shown());
}

/// What became of a rule, as an event and in the log.
pub fn note_alert(app: &App, told: &Told) {
    let (alert, text) = (told.alert.as_str(), told.text());
    let kind = match (told.alert, told.severity) {
        (Alert::Store, Some(_)) => Kind::StoreDegraded,
        (Alert::Store, None) => Kind::StoreRecovered,
        (Alert::Shards, Some(_)) => Kind::ShardStalled,
        (Alert::Shards, None) => Kind::ShardRecovered,
        (_, Some(_)) => Kind::AlertFiring,
        (_, None) => Kind::AlertResolved,
    };
    match told.severity {
        Some(Severity::Critical) => tracing::error!(alert, text, "a threshold is crossed: critical"),
        Some(Severity::Warning) => tracing::warn!(alert, text, "a threshold is crossed: warning"),
        None => tracing::info!(alert, text, "an alert has ended"),
    }
    note(app, kind, told.severity, text, Some(rule(told.alert).link.to_owned()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_event_makes_room_and_ids_go_on() {
        let events = Events::default();
        for at_ms in 0..EVENTS_MAX as i64 + 5 {
            events.push(at_ms, Kind::Action, None, format!("{at_ms}"), None);
        }
        let (newest, kept) = events.newest(2);
        assert_eq!((kept, newest[0].id, newest[1].id), (EVENTS_MAX, 1_005, 1_004));
        let all = events.newest(usize::MAX).0;
        assert_eq!((all.len(), all.last().unwrap().id), (EVENTS_MAX, 6));
        let shown = all[0].shown();
        assert_eq!(
            (&shown["id"], &shown["severity"], &shown["type"]),
            (&json!("1005"), &json!("info"), &json!("action"))
        );
    }
}
