//! How the node is, for balancers, supervisors and people.
//!
//! Everybody may ask: the answers hold counts and reasons, no names. `healthy` and `degraded` are 200,
//! `unhealthy` is 503. Full is not unhealthy: a node at its limit does its work, and a balancer that
//! took it out would only move the load.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use pulsewire_bus::StoreStatus;
use pulsewire_edge::clock;
use pulsewire_telemetry::Alert;
use serde_json::{Value, json};

use super::access::Caller;
use super::metrics::{self, Surveyed};
use super::problem::Problem;
use crate::app::App;
use crate::stats::{ClusterStats, Stats};
use crate::thresholds::compact;

/// A broker that was lost a moment ago may be a connection that was made anew, milliseconds.
const BROKER_GRACE_MS: i64 = 3_000;

/// How the node is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// A shard does not answer.
    stalled: bool,
    /// Clients are sent elsewhere: the node is going away, or an operator wants it.
    draining: bool,
    /// The node is going away.
    stopping: bool,
    /// There are as many connections as the node allows.
    full: bool,
    /// There are more connections than the soft limit.
    above_soft_limit: bool,
    /// A store fails: events of log channels are refused, everything else goes on.
    store_degraded: bool,
    /// The broker is not reached: other nodes are not heard at once, everything else goes on.
    broker_lost: bool,
    /// The manager of upstreams does not work: nothing comes from other servers, everything else goes on.
    upstreams_down: bool,
    /// What is critical by the thresholds, by its title.
    critical: Vec<&'static str>,
}

impl Verdict {
    /// What a survey and the thresholds say.
    #[must_use]
    pub fn of(app: &App, surveyed: &Surveyed) -> Self {
        // What has a reason of its own is said once.
        let own = [Alert::Store, Alert::Shards];
        let judge = app.judge.lock();
        let critical = judge.critical(clock::now().wall_ms).filter(|rule| !own.contains(&rule.alert));
        let critical = critical.map(|rule| rule.title).collect();
        Self {
            critical,
            stopping: app.stopping.load(Ordering::Relaxed),
            broker_lost: app.cluster.as_ref().is_some_and(|cluster| {
                let broker = cluster.status();
                !broker.connected && clock::now().wall_ms.saturating_sub(broker.since_ms) >= BROKER_GRACE_MS
            }),
            upstreams_down: !app.upstreams.is_well(),
            ..Self::new(surveyed)
        }
    }

    fn new(surveyed: &Surveyed) -> Self {
        let current = &surveyed.current;
        let active = current.active_connections();
        Self {
            stalled: surveyed.stalled,
            draining: current.draining,
            full: current.connections_hard_limit > 0 && active >= current.connections_hard_limit,
            above_soft_limit: current.connections_soft_limit > 0 && active > current.connections_soft_limit,
            store_degraded: current.store_degraded,
            ..Self::default()
        }
    }

    /// `healthy`, `degraded` or `unhealthy`.
    #[must_use]
    pub fn status(&self) -> &'static str {
        if !self.is_ready() {
            "unhealthy"
        } else if self.full
            || self.above_soft_limit
            || self.store_degraded
            || self.broker_lost
            || self.upstreams_down
            || !self.critical.is_empty()
        {
            "degraded"
        } else {
            "healthy"
        }
    }

    /// Whether clients should be sent here.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        !self.stalled && !self.draining
    }

    /// 200, or 503 when clients should be sent elsewhere.
    #[must_use]
    pub fn http_status(&self) -> StatusCode {
        status_if(self.is_ready())
    }

    /// Whether the manager of upstreams works. A node whose manager does not is still ready: it serves its clients.
    #[must_use]
    pub fn has_upstreams(&self) -> bool {
        !self.upstreams_down
    }

    /// Why the node is not healthy.
    #[must_use]
    pub fn reasons(&self) -> Vec<String> {
        let all = [
            (self.stalled, "a shard did not answer within a second"),
            (self.stopping, "the server is stopping"),
            (self.draining && !self.stopping, "an operator sends clients elsewhere"),
            (self.full, "all connections the node allows are there; new ones are refused"),
            (self.above_soft_limit, "more connections than limits.connections_soft"),
            (self.store_degraded, "the store fails: events of log channels are refused; the log says why"),
            (self.broker_lost, BROKER_LOST),
            (
                self.upstreams_down,
                "the upstream manager does not work: nothing comes from other servers; the log says why",
            ),
        ];
        let all = all.into_iter().filter(|(holds, _)| *holds).map(|(_, reason)| reason.to_owned());
        let critical = self.critical.iter();
        all.chain(critical.map(|title| format!("{title}: critical by thresholds.*; see thresholds")))
            .collect()
    }
}

/// What it means that the broker is not reached.
const BROKER_LOST: &str = "the broker is not reached: events of log channels come from other nodes up to a second later, events and numbers that are not kept do not come; the log says why";

/// How the broker does; `None` without one. Why it is not reached may name hosts: that is in the log.
fn broker(app: &App) -> Option<Value> {
    let status = app.cluster.as_ref()?.status();
    let mut shown = json!({
        "broker": status.broker, "degraded": !status.connected, "since": iso(status.since_ms),
        "queued_bytes": status.queued_bytes,
    });
    if status.connected {
        shown["lag_ms"] = (status.lag_us as f64 / 1_000.0).into();
    } else {
        shown["impact"] = BROKER_LOST.into();
    }
    Some(shown)
}

/// `GET /health/websocket`: document 001's answer, with reasons and where every threshold stands.
pub async fn websocket(State(app): State<Arc<App>>) -> Response {
    let surveyed = app.scrapes.survey(&app).await;
    let verdict = Verdict::of(&app, &surveyed);
    let mut body = json!({
        "status": verdict.status(),
        "activeConnections": surveyed.current.active_connections(),
        "timestamp": iso(clock::now().wall_ms),
        "reasons": verdict.reasons(),
        "thresholds": app.judge.lock().all().map(|(rule, found)| compact(rule, found)).collect::<Vec<_>>(),
    });
    if let Some(broker) = broker(&app) {
        body["broker"] = broker;
    }
    let expired = app.tls.in_force().is_some_and(|pair| pair.has_expired(clock::now().wall_ms));
    let live = app.live.load();
    let notes: Vec<String> = note(live.settings.dev, expired).into_iter().chain(live.share.note()).collect();
    if !notes.is_empty() {
        body["note"] = notes.join("; ").into();
    }
    answer(verdict.http_status(), body)
}

/// What somebody who looks should know, though the node does its work.
fn note(dev: bool, certificate_expired: bool) -> Option<String> {
    let all = [
        (dev, "dev mode: every web page may connect"),
        (certificate_expired, "the TLS certificate has expired: clients will refuse it"),
    ];
    let notes: Vec<_> = all.into_iter().filter(|(holds, _)| *holds).map(|(_, note)| note).collect();
    (!notes.is_empty()).then(|| notes.join("; "))
}

/// `GET /livez`: 200 when the process and its shards answer, 503 when a restart would help.
pub async fn live(State(app): State<Arc<App>>) -> Response {
    let stalled = app.scrapes.survey(&app).await.stalled;
    let status = if stalled { "stalled" } else { "live" };
    answer(status_if(!stalled), json!({ "status": status }))
}

/// `GET /readyz`: 200 when clients should be sent here.
pub async fn ready(State(app): State<Arc<App>>) -> Response {
    let verdict = Verdict::of(&app, &app.scrapes.survey(&app).await);
    let store_required = app.live.load().settings.store.required_for_ready;
    let is_ready = verdict.is_ready() && !(verdict.store_degraded && store_required);
    let status = match (is_ready, verdict.store_degraded || verdict.broker_lost) {
        (false, _) => "not ready",
        (true, true) => "degraded",
        (true, false) => "ready",
    };
    let reasons = if status == "ready" { Vec::new() } else { verdict.reasons() };
    let stores: Vec<Value> = app.bus.stores().iter().map(store).collect();
    let mut body = json!({ "status": status, "reasons": reasons, "stores": stores });
    if let Some(broker) = broker(&app) {
        body["broker"] = broker;
    }
    answer(status_if(is_ready), body)
}

/// `GET /api/stats`: document 004's counts. Whoever may read the metrics may read these.
pub async fn stats(State(app): State<Arc<App>>, caller: Caller) -> Result<Response, Problem> {
    metrics::allowed(&app, &caller).await?;
    let stats = Stats::of(&app).await;
    let collector = &stats.collector;
    let mut body = json!({
        "connected_clients": stats.connected_clients,
        "connections_max": stats.connections_max,
        "total_subscriptions": stats.total_subscriptions,
        "channels": stats.channels,
        "sessions_detached": stats.sessions_detached,
        "started_at": iso(stats.started_at_ms),
        "uptime_seconds": stats.uptime.as_secs(),
        "version": env!("CARGO_PKG_VERSION"),
        "collector": {
            "running": collector.running,
            "collections": collector.collections,
            "samples": collector.samples,
            "last_took_seconds": collector.last_took.map(|took| took.as_secs_f64()),
        },
    });
    if let Some(of_all) = ClusterStats::of(&app, &stats) {
        body["cluster"] = of_all.summed();
        body["nodes"] = of_all.nodes.into();
    }
    Ok(answer(StatusCode::OK, body))
}

/// How a store does. What it said itself may name files and hosts: that is in the log.
fn store(status: &StoreStatus) -> Value {
    let mut shown = json!({ "store": status.store, "queued_events": status.queued, "degraded": false });
    if let Some((since_ms, failure, _)) = &status.degraded {
        shown["degraded"] = true.into();
        shown["since"] = iso(*since_ms).into();
        shown["failure"] = failure.name().into();
    }
    shown
}

/// A moment in Unix milliseconds as RFC 3339 in UTC, with milliseconds.
#[must_use]
pub fn iso(unix_ms: i64) -> String {
    let moment = jiff::Timestamp::from_millisecond(unix_ms).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    format!("{moment:.3}")
}

fn answer(status: StatusCode, body: Value) -> Response {
    let mut response = (status, Json(body)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

const fn status_if(well: bool) -> StatusCode {
    if well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

#[cfg(test)]
mod tests {
    use pulsewire_telemetry::{Codec, Current, Transport};

    use super::*;

    fn surveyed(connections: u64, draining: bool, stalled: bool) -> Surveyed {
        let mut current =
            Current { connections_soft_limit: 2, connections_hard_limit: 4, draining, ..Current::default() };
        for _ in 0..connections {
            current.connection(Transport::WebSocket, Codec::Json, 0, 0, 0);
        }
        Surveyed { current: Arc::new(current), stalled }
    }

    fn check(surveyed: &Surveyed, status: &str, http: StatusCode, reasons: usize) {
        let verdict = Verdict::new(surveyed);
        assert_eq!((verdict.status(), verdict.http_status()), (status, http));
        assert_eq!(verdict.reasons().len(), reasons, "{:?}", verdict.reasons());
    }

    #[test]
    fn a_node_is_degraded_above_its_soft_limit_and_unhealthy_only_when_it_cannot_serve() {
        check(&surveyed(2, false, false), "healthy", StatusCode::OK, 0);
        check(&surveyed(3, false, false), "degraded", StatusCode::OK, 1);
        check(&surveyed(4, false, false), "degraded", StatusCode::OK, 2);
        check(&surveyed(0, true, false), "unhealthy", StatusCode::SERVICE_UNAVAILABLE, 1);
        check(&surveyed(0, false, true), "unhealthy", StatusCode::SERVICE_UNAVAILABLE, 1);
        check(&surveyed(4, true, true), "unhealthy", StatusCode::SERVICE_UNAVAILABLE, 4);
    }

    #[test]
    fn a_critical_threshold_degrades_and_keeps_the_node_ready() {
        let verdict =
            Verdict { critical: vec!["Message latency"], ..Verdict::new(&surveyed(1, false, false)) };
        assert_eq!((verdict.status(), verdict.http_status()), ("degraded", StatusCode::OK));
        assert!(verdict.reasons()[0].starts_with("Message latency: critical"), "{:?}", verdict.reasons());
    }

    #[test]
    fn a_node_whose_upstream_manager_does_not_work_serves_its_clients() {
        let verdict = Verdict { upstreams_down: true, ..Verdict::new(&surveyed(1, false, false)) };
        assert_eq!((verdict.status(), verdict.http_status()), ("degraded", StatusCode::OK));
        assert!(!verdict.has_upstreams() && verdict.reasons()[0].starts_with("the upstream manager"));
    }

    #[test]
    fn a_node_that_does_not_reach_its_broker_serves_its_clients() {
        let verdict = Verdict { broker_lost: true, ..Verdict::new(&surveyed(1, false, false)) };
        assert_eq!((verdict.status(), verdict.http_status()), ("degraded", StatusCode::OK));
        assert_eq!(verdict.reasons(), [BROKER_LOST]);
    }

    #[test]
    fn notes_are_told_together() {
        assert_eq!(note(false, false), None);
        let both = note(true, true).unwrap();
        assert!(
            both.contains("dev mode")
                && both.ends_with("; the TLS certificate has expired: clients will refuse it")
        );
    }

    #[test]
    fn moments_are_shown_in_utc_with_milliseconds() {
        assert_eq!(iso(1_705_314_600_000), "2024-01-15T10:30:00.000Z");
        assert_eq!(iso(1_705_314_600_042), "2024-01-15T10:30:00.042Z");
    }
}
