//! A place in the shard for one connection, one session, or both.
//!
//! The head is what fan-out touches: small, in one slab, one cache line and a bit. Everything that
//! only this client's own messages touch is in the boxed session. An idle connection owns no queue,
//! no timer and no buffer.

use std::net::SocketAddr;
use std::sync::Arc;

use pulsewire_bus::Now;
use pulsewire_protocol::{Encoding, SessionId};
use smallvec::SmallVec;

use super::feed::Subscription;
use super::outbox::Outbox;
use crate::{Carried, ConnKey, Principal, Reported};

/// No node, no item: the end of a list.
pub(crate) const NONE: u32 = u32::MAX;

/// What the connection of a slot is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// There is none: the session waits to be resumed.
    Gone,
    /// It has not said who it is.
    Pending,
    /// Its token is being verified.
    Verifying,
    /// It has a session.
    Open,
    /// A close frame is on its way; nothing it says counts any more.
    Closing,
}

/// Small facts about a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Flags(u16);

impl Flags {
    pub(crate) const MSGPACK: Self = Self(1);
    pub(crate) const STRICT_ENCODING: Self = Self(1 << 1);
    pub(crate) const MESSAGE_PINGS: Self = Self(1 << 2);
    pub(crate) const AWAITING_PONG: Self = Self(1 << 3);
    /// Its outbox is watched for progress.
    pub(crate) const WATCHED: Self = Self(1 << 4);
    /// Some subscription waits for the outbox to drain.
    pub(crate) const HELD_BACK: Self = Self(1 << 5);
    /// Its user is counted in the admission table.
    pub(crate) const ENTERED: Self = Self(1 << 6);
    /// Its token's end is in the shard's heap.
    pub(crate) const EXPIRY_WATCHED: Self = Self(1 << 7);
    /// The end of its token was announced.
    pub(crate) const EXPIRY_TOLD: Self = Self(1 << 8);

    /// It waits for channels to be brought to hand; what it says meanwhile is stashed.
    pub(crate) const OPENING: Self = Self(1 << 9);

    /// It takes part in the presence of some channel, or did so on this connection.
    pub(crate) const ATTENDS: Self = Self(1 << 10);

    /// That it takes nothing was written down.
    pub(crate) const SLOW_NOTED: Self = Self(1 << 11);

    /// A read of its found no room at the backend and will be tried again.
    pub(crate) const RETRIES: Self = Self(1 << 15);

    pub(crate) fn has(self, flag: Self) -> bool {
        self.0 & flag.0 != 0
    }

    pub(crate) fn set(&mut self, flag: Self) {
        self.0 |= flag.0;
    }

    pub(crate) fn clear(&mut self, flag: Self) {
        self.0 &= !flag.0;
    }

    pub(crate) fn put(&mut self, flag: Self, on: bool) {
        if on { self.set(flag) } else { self.clear(flag) }
    }
}

/// The head.
pub(crate) struct Slot {
    pub(crate) stamp: u32,
    /// Nodes waiting to be flushed: the first and the last.
    pub(crate) first: u32,
    pub(crate) last: u32,
    pub(crate) flags: Flags,
    pub(crate) phase: Phase,
    /// What the kernel would not take yet.
    pub(crate) outbox: Option<Box<Outbox>>,
    pub(crate) session: Option<Box<Session>>,
    /// Of a connection without a session.
    pub(crate) guest: Option<Box<Guest>>,
    pub(crate) messages_sent: u64,
    pub(crate) bytes_sent: u64,
    /// Theoretical arrival time of the rate limiter (GCRA), monotonic nanoseconds.
    pub(crate) rate_ns: u64,
    /// When the last ping left, monotonic nanoseconds: also its nonce.
    pub(crate) pinged_ns: u64,
}

const _: () =
    assert!(size_of::<Slot>() <= 80, "the head of a connection: part of the 600 bytes of design §9");

impl Slot {
    pub(crate) fn new(stamp: u32, guest: Guest) -> Self {
        Self {
            stamp,
            first: NONE,
            last: NONE,
            flags: Flags::default(),
            phase: Phase::Pending,
            outbox: None,
            session: None,
            guest: Some(Box::new(guest)),
            messages_sent: 0,
            bytes_sent: 0,
            rate_ns: 0,
            pinged_ns: 0,
        }
    }

    pub(crate) fn key(&self, slot: u32) -> ConnKey {
        ConnKey { slot, stamp: self.stamp }
    }

    pub(crate) fn encoding(&self) -> Encoding {
        if self.flags.has(Flags::MSGPACK) { Encoding::MsgPack } else { Encoding::Json }
    }

    /// Whether it counts as an active connection.
    pub(crate) fn is_active(&self) -> bool {
        matches!(self.phase, Phase::Pending | Phase::Verifying | Phase::Open)
    }
}

/// What is known of a connection itself.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    pub(crate) remote: SocketAddr,
    pub(crate) user_agent: Arc<str>,
    pub(crate) connected_ns: u64,
    pub(crate) connected_at_ms: i64,
}

/// A connection that has no session yet.
pub(crate) struct Guest {
    pub(crate) peer: Peer,
    pub(crate) bytes_received: u64,
    /// Messages that came while the token was being verified.
    pub(crate) stash: Vec<Carried>,
    pub(crate) stash_bytes: usize,
    pub(crate) errors: ErrorWindow,
    /// Who it is, once that is known.
    pub(crate) principal: Option<Arc<Principal>>,
}

/// A client's resumable state.
pub(crate) struct Session {
    pub(crate) id: SessionId,
    pub(crate) principal: Arc<Principal>,
    /// Of the present connection, or of the last one.
    pub(crate) peer: Peer,
    pub(crate) subscriptions: SmallVec<[Subscription; 1]>,
    pub(crate) counters: Counters,
    pub(crate) errors: ErrorWindow,
    /// What the client last said of itself on this connection, if it ever did.
    pub(crate) report: Option<Box<Reported>>,
    /// Present while there is no connection.
    pub(crate) detached: Option<Box<Detached>>,
}

const _: () =
    assert!(size_of::<Session>() <= 320, "the body of a session: part of the 600 bytes of design §9");

/// What a session has seen.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counters {
    pub(crate) messages_received: u64,
    pub(crate) bytes_received: u64,
    pub(crate) messages_failed: u32,
    pub(crate) reconnections: u32,
    pub(crate) activity_ns: u64,
    pub(crate) heartbeat_rtt_ns: u64,
    pub(crate) latency_sum_ns: u64,
    pub(crate) latency_max_ns: u64,
    pub(crate) latency_count: u32,
    pub(crate) tcp_rtt_us: u32,
    pub(crate) tcp_retransmits: u32,
    pub(crate) kernel_unsent_bytes: u32,
    pub(crate) kernel_unacked_bytes: u32,
    /// The second in which a rate-limit notice was last sent.
    pub(crate) limited_notice_s: u32,
    /// Heartbeats that were not answered in time.
    pub(crate) heartbeats_missed: u32,
}

impl Counters {
    pub(crate) fn latency(&mut self, latency_ns: u64) {
        self.latency_sum_ns += latency_ns;
        self.latency_count += 1;
        self.latency_max_ns = self.latency_max_ns.max(latency_ns);
    }
}

/// Errors a client caused in the present minute.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ErrorWindow {
    minute: u32,
    count: u32,
}

impl ErrorWindow {
    /// Counts an error; says how many there were in this minute.
    pub(crate) fn count(&mut self, now: Now) -> u32 {
        let minute = u32::try_from(now.mono_ns / 60_000_000_000).unwrap_or(u32::MAX);
        if self.minute != minute {
            *self = Self { minute, count: 0 };
        }
        self.count += 1;
        self.count
    }
}

/// A session without a connection.
pub(crate) struct Detached {
    pub(crate) until_ns: u64,
    pub(crate) at_ms: i64,
    /// What it was subscribed to, and what it would have received next.
    pub(crate) parked: Vec<super::feed::Parked>,
    pub(crate) messages_sent: u64,
    pub(crate) bytes_sent: u64,
}
