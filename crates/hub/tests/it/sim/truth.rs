//! What really was published, against which every client is held.

use std::collections::HashMap;

pub const LOGS: [&str; 4] = ["run:1", "run:2", "project:7", "workspace"];
pub const EPHEMERAL: [&str; 2] = ["cursor:1", "cursor:2"];
pub const METRICS: [&str; 2] = ["system.metrics", "host.metrics"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Log,
    Ephemeral,
    Metrics,
}

pub fn kind(channel: &str) -> Kind {
    if channel.starts_with("cursor:") {
        Kind::Ephemeral
    } else if channel.ends_with(".metrics") {
        Kind::Metrics
    } else {
        Kind::Log
    }
}

/// The hosts of a metric channel's `n`th set: everybody's, and every second and every third one's.
pub fn host_has(host: char, n: u64) -> bool {
    match host {
        'a' => n.is_multiple_of(2),
        'b' => n.is_multiple_of(3),
        _ => true,
    }
}

/// The host that an event is tagged with.
pub fn host_of(payload: u64) -> Option<char> {
    [None, Some('a'), Some('b')][(payload % 3) as usize]
}

/// How many of a metric channel's first `n` sets have a host.
pub fn rank(host: char, n: u64) -> u64 {
    match host {
        'a' => n / 2,
        'b' => n / 3,
        _ => n,
    }
}

#[derive(Default)]
pub struct Truth {
    /// The payload of each sequence, from 1.
    pub log: HashMap<String, Vec<u64>>,
    /// The payloads of each ephemeral channel.
    pub ephemeral: HashMap<String, Vec<u64>>,
    /// How many sets each metric channel had; they are numbered from 1.
    pub metrics: HashMap<String, u64>,
    /// The place of each payload in its ephemeral channel, from 1.
    pub places: HashMap<u64, u64>,
    /// Ephemeral publications that every shard has dealt with.
    pub dealt_with: HashMap<String, u64>,
    pub history_max: u64,
}

impl Truth {
    pub fn head(&self, channel: &str) -> u64 {
        self.log.get(channel).map_or(0, |log| log.len() as u64)
    }

    pub fn floor(&self, channel: &str) -> u64 {
        self.head(channel).saturating_sub(self.history_max)
    }

    /// Whether none of the events of a `log` channel in this range is tagged with a host.
    pub fn none_of(&self, channel: &str, host: char, range: std::ops::Range<u64>) -> bool {
        let Some(log) = self.log.get(channel) else { return true };
        let at = |sequence: u64| log.get(sequence as usize - 1).and_then(|payload| host_of(*payload));
        range.into_iter().all(|sequence| at(sequence) != Some(host))
    }

    pub fn said(&self, channel: &str) -> u64 {
        self.ephemeral.get(channel).map_or(0, |list| list.len() as u64)
    }

    pub fn sets(&self, channel: &str) -> u64 {
        self.metrics.get(channel).copied().unwrap_or(0)
    }
}
