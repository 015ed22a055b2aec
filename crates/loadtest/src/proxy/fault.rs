//! What the network can do wrong, and what it has seen.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// Stands for "for ever" and "never" in switches that are numbers.
const NONE: u64 = u64::MAX;

/// A way to misbehave. As JSON it is an object whose `fault` is the name: `{"fault":"die_after_open","after_ms":200}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "fault", rename_all = "snake_case", deny_unknown_fields)]
pub enum Fault {
    /// Requests for a WebSocket are answered 403 and closed, other requests pass. WebSockets that are open stay.
    RefuseUpgrade,
    /// Connections that are open are cut, and new ones closed at once.
    Refuse,
    /// WebSockets that open from now on are reset so many milliseconds after the 101.
    DieAfterOpen {
        /// Milliseconds between the 101 and the reset.
        after_ms: u64,
    },
    /// WebSockets that open from now on are closed, in order, when nothing has passed for so long in either direction: what
    /// proxies do whose idle time-out is shorter than the heartbeat.
    CutIdle {
        /// Milliseconds of silence.
        after_ms: u64,
    },
    /// WebSockets open, and then nothing from the server passes, neither frames nor the end; those that are open fall
    /// silent too. Other requests pass.
    Mute,
    /// Nothing passes on any connection, old or new, in either direction, and nobody is told.
    BlackHole,
    /// Bytes take this long in each direction.
    Slow {
        /// Milliseconds in each direction; 0 ends it.
        ms: u64,
    },
    /// `ack` messages to clients, as WebSocket text, are swallowed.
    LoseAcks {
        /// How many; all of them if absent, 0 ends it.
        #[serde(default)]
        count: Option<u64>,
    },
    /// Half of the next WebSocket frame with data to any client is passed on, then its connection is reset. Once.
    CutMidFrame,
    /// All connections end now, in order. Once.
    Cut,
    /// All connections are reset now. Once.
    Reset,
    /// Connections from now on go to another server. No fault, but what a restarted server needs.
    Target {
        /// Its address and port.
        to: SocketAddr,
    },
    /// Back to normal: ends every fault above. The target stays.
    Pass,
}

/// What a proxy has seen and done since it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Stats {
    /// Connections that were forwarded.
    pub connections: u64,
    /// Those of them that are open now.
    pub open: u64,
    /// WebSockets that opened: 101 came from the server.
    pub upgrades: u64,
    /// Connections and requests for a WebSocket that were refused here.
    pub refused: u64,
    /// Requests that asked for no WebSocket.
    pub http_requests: u64,
    /// WebSocket frames that were swallowed, in either direction, whatever the fault.
    pub frames_lost: u64,
}

/// The faults that stay on, as the threads of connections read them.
#[derive(Debug)]
pub(super) struct Switches {
    refuse: AtomicBool,
    refuse_upgrade: AtomicBool,
    mute: AtomicBool,
    cut_mid_frame: AtomicBool,
    die_after_ms: AtomicU64,
    idle_after_ms: AtomicU64,
    acks_to_lose: AtomicU64,
}

impl Default for Switches {
    fn default() -> Self {
        Self {
            refuse: AtomicBool::default(),
            refuse_upgrade: AtomicBool::default(),
            mute: AtomicBool::default(),
            cut_mid_frame: AtomicBool::default(),
            die_after_ms: AtomicU64::new(NONE),
            idle_after_ms: AtomicU64::new(NONE),
            acks_to_lose: AtomicU64::default(),
        }
    }
}

impl Switches {
    /// Turns a fault on, or all off. Those that are no switch change nothing.
    pub(super) fn turn(&self, fault: Fault) {
        match fault {
            Fault::RefuseUpgrade => self.refuse_upgrade.store(true, Relaxed),
            Fault::Refuse => self.refuse.store(true, Relaxed),
            Fault::DieAfterOpen { after_ms } => self.die_after_ms.store(after_ms.min(NONE - 1), Relaxed),
            Fault::CutIdle { after_ms } => self.idle_after_ms.store(after_ms.min(NONE - 1), Relaxed),
            Fault::Mute => self.mute.store(true, Relaxed),
            Fault::LoseAcks { count } => self.acks_to_lose.store(count.unwrap_or(NONE), Relaxed),
            Fault::CutMidFrame => self.cut_mid_frame.store(true, Relaxed),
            Fault::Pass => {
                for switch in [&self.refuse, &self.refuse_upgrade, &self.mute, &self.cut_mid_frame] {
                    switch.store(false, Relaxed);
                }
                self.die_after_ms.store(NONE, Relaxed);
                self.idle_after_ms.store(NONE, Relaxed);
                self.acks_to_lose.store(0, Relaxed);
            }
            Fault::BlackHole | Fault::Slow { .. } | Fault::Cut | Fault::Reset | Fault::Target { .. } => {}
        }
    }

    pub(super) fn refuses(&self) -> bool {
        self.refuse.load(Relaxed)
    }

    pub(super) fn refuses_upgrades(&self) -> bool {
        self.refuse_upgrade.load(Relaxed)
    }

    pub(super) fn mutes(&self) -> bool {
        self.mute.load(Relaxed)
    }

    /// How long a WebSocket lives that opens now, if not for ever.
    pub(super) fn dies_after_ms(&self) -> Option<u64> {
        Some(self.die_after_ms.load(Relaxed)).filter(|after_ms| *after_ms != NONE)
    }

    /// How long a WebSocket may be silent that opens now, if not for ever.
    pub(super) fn idle_after_ms(&self) -> Option<u64> {
        Some(self.idle_after_ms.load(Relaxed)).filter(|after_ms| *after_ms != NONE)
    }

    /// Whether an `ack` that is here now is to be lost; it is counted.
    pub(super) fn take_ack(&self) -> bool {
        let fewer = |left: u64| match left {
            0 => None,
            NONE => Some(NONE),
            left => Some(left - 1),
        };
        self.acks_to_lose.fetch_update(Relaxed, Relaxed, fewer).is_ok()
    }

    /// Whether acks are lost at all, so that frames have to be read.
    pub(super) fn loses_acks(&self) -> bool {
        self.acks_to_lose.load(Relaxed) > 0
    }

    /// Whether the frame that is here now is the one to be cut.
    pub(super) fn take_cut_mid_frame(&self) -> bool {
        self.cut_mid_frame.swap(false, Relaxed)
    }
}

/// The counters of [`Stats`].
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) connections: AtomicU64,
    pub(super) upgrades: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) http_requests: AtomicU64,
    pub(super) frames_lost: AtomicU64,
}

impl Tally {
    pub(super) fn read(&self, open: usize) -> Stats {
        Stats {
            connections: self.connections.load(Relaxed),
            open: open as u64,
            upgrades: self.upgrades.load(Relaxed),
            refused: self.refused.load(Relaxed),
            http_requests: self.http_requests.load(Relaxed),
            frames_lost: self.frames_lost.load(Relaxed),
        }
    }
}
