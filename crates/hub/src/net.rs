//! What the deciding core asks of a network.

/// A connection in a shard: its slot, and a stamp that tells it from earlier tenants of the slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ConnKey {
    /// The slot.
    pub slot: u32,
    /// Counts the connections of the shard.
    pub stamp: u32,
}

/// What became of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Write {
    /// The kernel took so many bytes, perhaps not all; if not all, `writable` will be reported.
    Wrote(usize),
    /// It takes nothing now; `writable` will be reported.
    Blocked,
    /// The connection is gone.
    Failed,
}

/// What the kernel knows of a connection (`TCP_INFO`, `SIOCOUTQ`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TcpSample {
    /// Smoothed round trip in microseconds.
    pub rtt_us: u32,
    /// Segments sent again since the connection began.
    pub retransmits: u32,
    /// Bytes in the kernel that were not sent yet.
    pub unsent_bytes: u32,
    /// Bytes sent and not acknowledged.
    pub unacked_bytes: u32,
    /// Bytes acknowledged since the connection began.
    pub acked_bytes: u64,
    /// Mean deviation of the round trip in microseconds.
    pub rtt_variance_us: u32,
    /// Segments that are out and are held for lost.
    pub lost: u32,
    /// Payload bytes of a full segment.
    pub segment_bytes: u32,
    /// Segments with payload sent since the connection began, repeats included.
    pub segments_sent: Option<u32>,
    /// What the peer says it can take, in bytes.
    pub peer_window_bytes: Option<u32>,
    /// What the path delivers, in bytes a second.
    pub delivery_bytes_per_second: Option<u64>,
    /// For how long something was to be sent since the connection began, in microseconds; and of that …
    pub busy_us: Option<u64>,
    /// … for how long the peer had no room,
    pub receive_window_limited_us: Option<u64>,
    /// … and for how long our own buffer had none.
    pub send_buffer_limited_us: Option<u64>,
}

/// The sockets of one shard. Calls with a key that is gone do nothing.
pub trait Net {
    /// Writes as much of `bytes` as the kernel takes now.
    fn write(&mut self, conn: ConnKey, bytes: &[u8]) -> Write;
    /// Says that no more will be written (FIN); reading goes on.
    fn shutdown(&mut self, conn: ConnKey);
    /// Drops the connection; nothing is reported of it afterwards.
    fn close(&mut self, conn: ConnKey);
    /// Gives the connection another key in this shard.
    fn rebind(&mut self, from: ConnKey, to: ConnKey);
    /// Moves the connection to another shard, together with the command that tells that shard why.
    fn hand_over(&mut self, conn: ConnKey, shard: usize, resume: crate::Resume);
    /// What the kernel knows of the connection.
    fn sample(&mut self, conn: ConnKey) -> Option<TcpSample>;
    /// Bytes held for incomplete messages of this shard's connections.
    fn held_bytes(&self) -> usize;
    /// Monotonic nanoseconds at this moment, for how long a piece of work took: nothing may be decided by it.
    fn stopwatch_ns(&self) -> u64;
}
