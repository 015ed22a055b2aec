//! How presence is shared between nodes, and how that goes.

use std::sync::Arc;

use pulsewire_bus::PresenceRules;
use pulsewire_protocol::ChannelName;

/// Which rules a channel's presence has; none if it keeps none.
pub type RulesOf = Arc<dyn Fn(&ChannelName) -> Option<PresenceRules> + Send + Sync>;

/// How presence is shared between nodes.
#[derive(Clone)]
pub struct ReplicaOptions {
    /// The shortest time between two tellings of what changed, milliseconds. Default 500.
    pub delta_interval_ms: u64,
    /// How often a node says where it stands, milliseconds. Default 1,500.
    pub digest_interval_ms: u64,
    /// After how much silence a node is suspect, milliseconds. Default 4,500: three digests.
    pub suspect_after_ms: u64,
    /// After how much silence a node's rows go, milliseconds. Default 14,000, so that 15 s after a node's end
    /// everybody was told.
    pub silent_after_ms: u64,
    /// How much longer than its grace a member stays, milliseconds, until a node on which it is back must have been
    /// heard. Default 1,000: two deltas.
    pub linger_ms: u64,
    /// How long an answer is waited for before it is asked again, milliseconds. Default 1,000.
    pub patience_ms: u64,
    /// The length of a body of rows beyond which no row is added, bytes. Default 16 KiB, some
    /// 250 rows: a body is taken under one lock. A row has at most a channel's name, a user and a cursor.
    pub body_bytes_max: usize,
    /// Bodies of rows that are said at once. Default 64: a megabyte. More is said by the next calls.
    pub bodies_max: usize,
    /// Rows of other nodes that are kept here, about 250 bytes each without their cursors. Default 200,000; beyond
    /// that they are not taken, are counted, and are asked for again every 30 s.
    pub entries_max: usize,
    /// Rows of this node that ended and are remembered, so that who missed it need not be told everything. Default
    /// 16,384.
    pub ended_max: usize,
    /// Other nodes that are known at once. Default 256; beyond that a node is refused.
    pub nodes_max: usize,
    /// The rules of channels of which this node hears from others first. Default: the defaults of
    /// [`PresenceRules`] for every channel.
    pub rules: RulesOf,
}

impl Default for ReplicaOptions {
    fn default() -> Self {
        Self {
            delta_interval_ms: 500,
            digest_interval_ms: 1_500,
            suspect_after_ms: 4_500,
            silent_after_ms: 14_000,
            linger_ms: 1_000,
            patience_ms: 1_000,
            body_bytes_max: 16 << 10,
            bodies_max: 64,
            entries_max: 200_000,
            ended_max: 16_384,
            nodes_max: 256,
            rules: Arc::new(|_| Some(PresenceRules::default())),
        }
    }
}

/// How the sharing of presence goes. Counts are since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReplicaStatus {
    /// Other nodes that are there.
    pub nodes: usize,
    /// Those of them that have been silent for three digests.
    pub suspect: usize,
    /// Rows of other nodes: a user in a channel, once for each node.
    pub entries: usize,
    /// Rows of this node.
    pub entries_own: usize,
    /// How often something that was missed was asked for.
    pub asked: u64,
    /// How often something that others missed was said.
    pub served: u64,
    /// Bodies of rows that came twice, or before what they follow, and were not taken.
    pub missed: u64,
    /// Rows that were not taken: beyond [`ReplicaOptions::entries_max`], in a room with twice the members it may
    /// have, or of a channel without presence here.
    pub refused: u64,
    /// Nodes whose rows went because they were silent.
    pub lost: u64,
}
