//! The network between clients and shards: kernel buffers of bounded size, partial writes, resets.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use pulsewire_hub::{Command, ConnKey, Inbox, Net, Resume, TcpSample, Violated, Write};

use super::rng::Rng;

/// What a client puts on the wire, as the frame decoder would report it.
#[derive(Debug, Clone)]
pub enum Say {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>),
    Broken(Violated),
    /// The client's half is closed.
    Fin,
}

/// One connection, seen from between its ends.
pub struct Wire {
    /// Where the server has it.
    pub at: Option<(usize, ConnKey)>,
    /// Bytes that the server's kernel took and the client has not read.
    pub down: VecDeque<u8>,
    /// How many bytes the kernel takes.
    pub room: usize,
    /// What the client said and the server has not read.
    pub up: VecDeque<Say>,
    /// The client reset the connection.
    pub reset: bool,
    /// The server was told that the connection is gone.
    pub told: bool,
    pub server_fin: bool,
    pub server_closed: bool,
    /// The kernel refused bytes and owes a `writable`.
    pub starved: bool,
    pub read_bytes: u64,
}

pub struct Wires {
    pub list: Vec<Wire>,
    pub by_key: HashMap<(usize, ConnKey), usize>,
    pub rng: Rng,
    /// Whether the kernel takes less than it could, now and then.
    pub moody: bool,
    /// Connections between two shards.
    pub moving: usize,
    /// A mutant: the server's closes are forgotten.
    pub forget_closes: bool,
    pub faults: Vec<String>,
}

/// One shard's end of it.
pub struct SimNet {
    pub shard: usize,
    pub wires: Rc<RefCell<Wires>>,
    pub inboxes: Arc<[Inbox<usize>]>,
}

impl Net for SimNet {
    fn write(&mut self, conn: ConnKey, bytes: &[u8]) -> Write {
        let mut wires = self.wires.borrow_mut();
        let wires = &mut *wires;
        let Some(&index) = wires.by_key.get(&(self.shard, conn)) else {
            wires.faults.push(format!("shard {} wrote to {conn:?}, which it does not have", self.shard));
            return Write::Failed;
        };
        let wire = &mut wires.list[index];
        if wire.server_fin {
            wires.faults.push(format!("connection {index}: bytes after the end of the stream"));
            return Write::Failed;
        }
        if wire.reset {
            return Write::Failed;
        }
        if bytes.is_empty() {
            wires.faults.push(format!("connection {index}: an empty write"));
        }
        let mut taken = bytes.len().min(wire.room.saturating_sub(wire.down.len()));
        if wires.moody && taken > 0 && wires.rng.chance(10) {
            taken = wires.rng.below(taken + 1);
        }
        wire.down.extend(&bytes[..taken]);
        wire.starved |= taken < bytes.len();
        if taken == 0 { Write::Blocked } else { Write::Wrote(taken) }
    }

    fn shutdown(&mut self, conn: ConnKey) {
        let mut wires = self.wires.borrow_mut();
        if let Some(&index) = wires.by_key.get(&(self.shard, conn)) {
            wires.list[index].server_fin = true;
        }
    }

    fn close(&mut self, conn: ConnKey) {
        let mut wires = self.wires.borrow_mut();
        if wires.forget_closes {
            return;
        }
        if let Some(index) = wires.by_key.remove(&(self.shard, conn)) {
            let wire = &mut wires.list[index];
            wire.at = None;
            wire.server_closed = true;
        }
    }

    fn rebind(&mut self, from: ConnKey, to: ConnKey) {
        let mut wires = self.wires.borrow_mut();
        if let Some(index) = wires.by_key.remove(&(self.shard, from)) {
            wires.list[index].at = Some((self.shard, to));
            if wires.by_key.insert((self.shard, to), index).is_some() {
                wires.faults.push(format!("{to:?} was given to two connections"));
            }
        }
    }

    fn hand_over(&mut self, conn: ConnKey, shard: usize, resume: Resume) {
        let mut wires = self.wires.borrow_mut();
        let Some(index) = wires.by_key.remove(&(self.shard, conn)) else {
            wires.faults.push(format!("{conn:?} was handed over and is not there"));
            return;
        };
        wires.list[index].at = None;
        wires.moving += 1;
        self.inboxes[shard].push(Command::Adopt(index, Box::new(resume)));
    }

    fn sample(&mut self, conn: ConnKey) -> Option<TcpSample> {
        let wires = self.wires.borrow();
        let wire = &wires.list[*wires.by_key.get(&(self.shard, conn))?];
        Some(TcpSample {
            rtt_us: 1_000,
            retransmits: 0,
            unsent_bytes: 0,
            unacked_bytes: wire.down.len() as u32,
            acked_bytes: wire.read_bytes,
            ..TcpSample::default()
        })
    }

    fn stopwatch_ns(&self) -> u64 {
        0
    }

    fn held_bytes(&self) -> usize {
        0
    }
}
