//! Keeping windows that have closed, and letting go of what is too old.

use pulsewire_telemetry::ChunkOutcome;

use super::levels::Dated;
use super::table::{Keeping, Waiting};
use crate::store::{Chunk, StoreError, Tier};
use crate::{Bus, Channel, Now};

/// Series whose windows are kept in one step: that bounds how long the channel's lock and the store are held.
const SERIES_MAX: usize = 500;
/// How often windows that are still open are kept, milliseconds.
const OPEN_KEPT_MS: i64 = 60_000;
/// Chunks that are let go of in one step …
const TRIMMED_MAX: usize = 5_000;
/// … and steps for each tier at a time.
const TRIMS_MAX: usize = 20;

impl Bus {
    /// Keeps the windows of metric channels that wait for it, and once a minute those that are open. At the `end`, when
    /// nothing will come any more, all windows are closed and kept. May block in the store.
    ///
    /// # Errors
    ///
    /// The store's. What was not kept waits for the next time, within its bound.
    pub fn keep_series(&self, now: Now, end: bool) -> Result<(), StoreError> {
        if self.options.series.store.is_none() {
            return Ok(());
        }
        let mut outcome = Ok(());
        for channel in self.metric_channels() {
            if let Err(error) = self.keep_channel(&channel, now, end) {
                outcome = Err(error);
            }
        }
        outcome
    }

    fn keep_channel(&self, channel: &Channel, now: Now, end: bool) -> Result<(), StoreError> {
        let shared = self.telemetry.shared();
        let Some(store) = &self.options.series.store else { return Ok(()) };
        if end && let Some(table) = &mut channel.order.lock().series {
            table.close(&self.series_limits());
        }
        let mut from = Some(0);
        while let Some(first) = from {
            let mut order = channel.order.lock();
            let Some(table) = &mut order.series else { return Ok(()) };
            let (keeping, next) = table.keeping(first, SERIES_MAX, now.wall_ms - OPEN_KEPT_MS);
            drop(order);
            from = next;
            let chunks: Vec<Chunk> =
                keeping.iter().flat_map(|keeping| self.chunks(channel, keeping)).collect();
            if chunks.is_empty() {
                continue;
            }
            let kept = store.keep(&chunks);
            let mut order = channel.order.lock();
            let Some(table) = &mut order.series else { return Ok(()) };
            match kept {
                Ok(left_out) => {
                    keeping.iter().for_each(|keeping| table.kept(keeping, now.wall_ms));
                    shared.chunks(ChunkOutcome::Kept, (chunks.len() - left_out) as u64);
                    shared.chunks(ChunkOutcome::LeftOut, left_out as u64);
                }
                Err(error) => {
                    shared.chunks(ChunkOutcome::Failed, chunks.len() as u64);
                    let given_up = table.give_up(self.series_limits().waiting_bytes_max);
                    shared.chunks(ChunkOutcome::GivenUp, given_up);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// The windows of a series as chunks: seconds that follow one another together, longer ones by themselves.
    fn chunks(&self, channel: &Channel, keeping: &Keeping) -> Vec<Chunk> {
        let chunk = |tier: Tier, start_ms: i64, end_ms: i64, windows: Vec<u8>| Chunk {
            channel: channel.name.clone(),
            series: keeping.series.clone(),
            tier,
            writer: self.options.incarnation,
            start_ms,
            end_ms,
            windows: windows.into(),
        };
        let mut chunks = Vec::new();
        for tier in Tier::ALL {
            let of_tier = keeping.waiting.iter().filter(|waiting| waiting.tier == tier);
            let mut waiting: Vec<&Waiting> = of_tier.collect();
            waiting.sort_by_key(|waiting| waiting.start_ms);
            // Of a minute at most, so that whoever looks for a moment finds it by where chunks begin.
            let together = |a: &&Waiting, b: &&Waiting| {
                tier == Tier::S1 && a.start_ms.div_euclid(60_000) == b.start_ms.div_euclid(60_000)
            };
            for run in waiting.chunk_by(together) {
                let bytes = run.iter().flat_map(|waiting| waiting.bytes.iter().copied()).collect();
                let (first, last) = (run[0], run[run.len() - 1]);
                chunks.push(chunk(tier, first.start_ms, last.start_ms + tier.window_ms(), bytes));
            }
        }
        for (tier, (start_ms, window)) in &keeping.open as &[(Tier, Dated)] {
            let mut bytes = Vec::with_capacity(64);
            window.write(*start_ms, &mut bytes);
            chunks.push(chunk(*tier, *start_ms, *start_ms + tier.window_ms(), bytes));
        }
        chunks
    }

    /// Lets go of kept windows that are older than their tier keeps them. May block in the store.
    ///
    /// # Errors
    ///
    /// The store's; the rest goes the next time.
    pub fn trim_series(&self, now: Now) -> Result<(), StoreError> {
        let Some(store) = &self.options.series.store else { return Ok(()) };
        let kept_ms = self.series_limits().kept_ms;
        for tier in Tier::ALL {
            for _ in 0..TRIMS_MAX {
                let before_ms = now.wall_ms - kept_ms[tier as usize];
                if store.trim(tier, before_ms, TRIMMED_MAX)? < TRIMMED_MAX {
                    break;
                }
            }
        }
        Ok(())
    }
}
