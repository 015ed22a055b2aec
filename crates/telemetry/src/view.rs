//! Everything a scrape shows, gathered at one moment.

use std::thread::available_parallelism;
use std::time::Instant;

use crate::block::Totals;
use crate::current::Current;
use crate::event_types::Registered;
use crate::labels::{Direction, MessageType, SeriesSet};
use crate::layout as at;
use crate::process::Process;
use crate::registry::{Options, Telemetry};

/// The numbers behind one exposition.
pub(crate) struct View<'a> {
    pub(crate) totals: Totals,
    pub(crate) types: Vec<Registered>,
    pub(crate) current: &'a Current,
    pub(crate) process: Process,
    pub(crate) options: &'a Options,
    pub(crate) cpu_percent: f64,
    pub(crate) created_ms: u64,
    pub(crate) series_dropped: [u64; SeriesSet::COUNT],
}

impl<'a> View<'a> {
    pub(crate) fn new(telemetry: &'a Telemetry, current: &'a Current) -> Self {
        let cores = available_parallelism().map_or(1, usize::from);
        let cpu_percent = telemetry.cpu.lock().percent(Instant::now(), current.shard_cpu_seconds, cores);
        Self {
            // Types first: a row that is written after this is shown by the next scrape.
            types: telemetry.event_types().registered(),
            totals: telemetry.totals(),
            current,
            process: Process::read(),
            options: &telemetry.options,
            cpu_percent,
            created_ms: telemetry.created_ms,
            series_dropped: [telemetry.event_types().refused(), telemetry.custom().refused()],
        }
    }

    /// The sum of `count` counters from `place` on.
    pub(crate) fn sum(&self, place: usize, count: usize) -> f64 {
        self.totals.fixed[place..place + count].iter().sum::<u64>() as f64
    }

    /// One number of every registered event type, summed.
    pub(crate) fn sum_rows(&self, place: usize) -> u64 {
        self.totals.rows.iter().map(|row| row[place]).sum()
    }

    /// A per-type histogram over all types.
    pub(crate) fn merged_rows(&self, place: usize, len: usize) -> Vec<u64> {
        (place..place + len).map(|place| self.sum_rows(place)).collect()
    }

    /// All messages that went in a direction: the protocol's and the applications'.
    pub(crate) fn messages(&self, direction: Direction) -> f64 {
        let row = if direction == Direction::Sent { at::SENT } else { at::RECEIVED };
        self.sum(at::MESSAGES + direction as usize * MessageType::COUNT, MessageType::COUNT)
            + self.sum_rows(row) as f64
    }
}
