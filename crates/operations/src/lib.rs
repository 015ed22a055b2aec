//! What others watch a gateway with: rules for Prometheus, dashboards for Grafana.
//!
//! Both are data, made from the metric catalogue and a [`Pack`] of names and limits, and printed as the files in
//! `deploy/`. Nothing here does I/O: `pulsewire rules generate` and `pulsewire dashboards generate` print them for a
//! server's settings, `cargo xtask generate` for the default ones.

pub mod contract;
pub mod dashboards;
mod limits;
pub mod rules;

pub use limits::{Levels, Limits};

/// What rules and dashboards are made for: the names and limits of a server's settings.
///
/// The server makes it of its settings (`pulsewire::pack`). The default has the default names and no limit at all:
/// what needs one is left out.
#[derive(Debug, Clone, PartialEq)]
pub struct Pack {
    /// What document 003's metric names begin with (`metrics.alias_prefix`).
    pub alias_prefix: String,
    /// From where on something is wrong (`thresholds.*`).
    pub limits: Limits,
    /// The jobs under which Prometheus scrapes gateways, as a regular expression. Only rules about scrapes need it.
    pub jobs: String,
    /// What an alert's `runbook_url` begins with; `/<name of the alert>.md` follows.
    pub runbooks: String,
}

/// Our own job, and those of the documents' scrape configurations.
const JOBS: &str = ".*pulsewire.*|agent-orchestrator-backend|cryptrade-ws-metrics|generic-corp|collaboration";
/// To be replaced by wherever the pages of `docs/runbook/` are read; `.example` belongs to nobody (RFC 2606).
const RUNBOOKS: &str = "https://pulsewire.example/docs/runbook";

impl Default for Pack {
    fn default() -> Self {
        Self {
            alias_prefix: pulsewire_telemetry::catalog::ALIAS_PREFIX.to_owned(),
            limits: Limits::default(),
            jobs: JOBS.to_owned(),
            runbooks: RUNBOOKS.to_owned(),
        }
    }
}
