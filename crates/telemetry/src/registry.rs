//! The process's telemetry: every block of counters, and what is needed to show them.

use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

use crate::block::{Block, Totals};
use crate::catalog::{ALIAS_PREFIX, alias_prefix_allowed};
use crate::custom::CustomMetrics;
use crate::event_types::EventTypes;
use crate::process::CpuMeter;
use crate::record::{Recorder, ShardMetrics, SharedMetrics};

/// How telemetry is set up.
#[derive(Clone, Debug)]
pub struct Options {
    /// Event type names with series of their own, beside `other`. Default 200, at least 12.
    pub event_types_max: usize,
    /// Whether the families that the requirement documents name are shown. Default true.
    pub compat: bool,
    /// What the alias family's names begin with. Default `orchestrator_websocket`, which also replaces a
    /// prefix that [`alias_prefix_allowed`](crate::catalog::alias_prefix_allowed) refuses.
    pub alias_prefix: String,
    /// Projects with a series of their own in `websocket_subscriptions_by_project`. Default 50, at most 500.
    pub projects_max: usize,
    /// The version in `pulsewire_build_info`. Default this package's.
    pub version: String,
    /// The revision in `pulsewire_build_info`. Default `unknown`.
    pub revision: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            event_types_max: 200,
            compat: true,
            alias_prefix: ALIAS_PREFIX.into(),
            projects_max: 50,
            version: env!("CARGO_PKG_VERSION").into(),
            revision: option_env!("PULSEWIRE_REVISION").unwrap_or("unknown").into(),
        }
    }
}

/// The process's telemetry.
pub struct Telemetry {
    pub(crate) options: Options,
    pub(crate) created_ms: u64,
    pub(crate) cpu: Mutex<CpuMeter>,
    event_types: EventTypes,
    custom: CustomMetrics,
    shared: SharedMetrics,
    blocks: Mutex<Vec<Arc<Block>>>,
}

impl Telemetry {
    /// Telemetry with every closed series at zero.
    #[must_use]
    pub fn new(mut options: Options) -> Arc<Self> {
        if !alias_prefix_allowed(&options.alias_prefix) {
            options.alias_prefix = ALIAS_PREFIX.into();
        }
        let event_types = EventTypes::new(options.event_types_max);
        let block = Arc::new(Block::new(event_types.rows()));
        Arc::new(Self {
            created_ms: unix_ms_now(),
            cpu: Mutex::new(CpuMeter::new(Instant::now())),
            event_types,
            custom: CustomMetrics::new(&options.alias_prefix),
            shared: Recorder::new(Arc::clone(&block)),
            blocks: Mutex::new(vec![block]),
            options,
        })
    }

    /// A new block for one writer. It stays counted after its writer is gone.
    #[must_use]
    pub fn shard(&self) -> ShardMetrics {
        let block = Arc::new(Block::new(self.event_types.rows()));
        self.blocks.lock().push(Arc::clone(&block));
        Recorder::new(block)
    }

    /// The counters of code that runs on many threads.
    #[must_use]
    pub fn shared(&self) -> &SharedMetrics {
        &self.shared
    }

    /// The event type names that have series of their own.
    #[must_use]
    pub fn event_types(&self) -> &EventTypes {
        &self.event_types
    }

    /// Metrics that applications push.
    #[must_use]
    pub fn custom(&self) -> &CustomMetrics {
        &self.custom
    }

    /// The sum of every block.
    pub(crate) fn totals(&self) -> Totals {
        let blocks = self.blocks.lock().clone();
        let mut totals = Totals::new(self.event_types.rows());
        for block in &blocks {
            totals.add(block);
        }
        totals
    }
}

/// Wall time in Unix milliseconds; only for `_created` lines.
pub(crate) fn unix_ms_now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(0))
}
