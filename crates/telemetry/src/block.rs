//! One writer's numbers.
//!
//! A block is written by its owner and read by whoever scrapes. Every number only grows, so a
//! reader that meets a block in the middle of a write sees an older truth, never a wrong one.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::layout::{FIXED, ROW};

/// The counters of one event type; starts a cache line, so that rows of two shards never share one.
#[repr(align(64))]
pub(crate) struct Row(pub(crate) [AtomicU64; ROW]);

/// All counters of one writer.
#[repr(align(128))]
pub(crate) struct Block {
    pub(crate) fixed: [AtomicU64; FIXED],
    pub(crate) rows: Box<[Row]>,
}

impl Block {
    /// A block at zero with `rows` event types.
    pub(crate) fn new(rows: usize) -> Self {
        let row = |_| Row([const { AtomicU64::new(0) }; ROW]);
        Self { fixed: [const { AtomicU64::new(0) }; FIXED], rows: (0..rows).map(row).collect() }
    }
}

/// The sum of all blocks at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) fixed: Vec<u64>,
    pub(crate) rows: Vec<[u64; ROW]>,
}

impl Totals {
    /// Zero, for `rows` event types.
    pub(crate) fn new(rows: usize) -> Self {
        Self { fixed: vec![0; FIXED], rows: vec![[0; ROW]; rows] }
    }

    /// Adds a block.
    pub(crate) fn add(&mut self, block: &Block) {
        for (sum, cell) in self.fixed.iter_mut().zip(&block.fixed) {
            *sum = sum.wrapping_add(cell.load(Relaxed));
        }
        for (sums, row) in self.rows.iter_mut().zip(&block.rows) {
            for (sum, cell) in sums.iter_mut().zip(&row.0) {
                *sum = sum.wrapping_add(cell.load(Relaxed));
            }
        }
    }
}
