//! The loop around a shard: one thread, one epoll, one table of sockets.
//!
//! A round takes the inbox, writes to a batch of those who have something waiting, and looks again;
//! sockets are polled when nothing is left to be written, or after so many writes, so a fan-out to ten
//! thousand never delays a pong by more than a batch. The shard decides; this only performs.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use mio::{Events, Poll};
use pulsewire_hub::{Arrival, Command, ConnKey, Inbox, Now, Order, Publication, Resume, Shard, Violated};

use crate::clock;
use crate::codec::{Inbound, Limits};
use crate::sockets::{Carrier, Sockets, Taken, key};
use crate::sys;

/// Connections written to between two looks into the inbox: about a quarter of a millisecond.
const BATCH: usize = 64;
/// Connections written to between two polls of the sockets, when there is always more to write.
const WRITES_MAX: usize = 512;
/// Connections that wait from which on a walk is long: two milliseconds of writes.
const YIELD_FROM: usize = 512;
/// Sockets looked at between two looks into the inbox: when thousands end or begin at once, a few milliseconds of that.
const EVENTS: usize = 128;
/// The shard's one read buffer.
const READ_BYTES: usize = 64 * 1024;
/// Full read buffers taken from one connection before others get their turn.
const READS_MAX: usize = 4;

pub(crate) struct ShardLoop {
    pub(crate) shard: Shard<Sockets>,
    pub(crate) poll: Poll,
    pub(crate) inbox: Arc<[Inbox<Carrier>]>,
    pub(crate) index: usize,
    pub(crate) limits: Limits,
    pub(crate) stop: Arc<AtomicBool>,
}

/// What is known of the end of a peer's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// It has not come; its coming will be reported.
    Open,
    /// It may stand right behind the bytes that are there, and is reported only once: read up to it.
    Reported,
}

/// The token of the waker; no connection has it, because stamps begin at 1.
pub(crate) const WAKER: mio::Token = mio::Token(0);

impl ShardLoop {
    /// Runs until told to stop.
    pub(crate) fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS);
        let mut buffer = vec![0; READ_BYTES];
        let mut commands = Vec::new();
        let mut together: Vec<Arc<Publication>> = Vec::new();
        let mut unread: VecDeque<ConnKey> = VecDeque::new();
        let mut writes = 0;
        let mut under_way = false;
        while !self.stop.load(Ordering::Relaxed) {
            let mut now = clock::now();
            self.inbox[self.index].take(&mut commands);
            for command in commands.drain(..) {
                match command {
                    Command::Publish(publication) => {
                        // What was published together goes out together.
                        if together.last().is_some_and(|last| last.channel.id != publication.channel.id) {
                            self.publish(&mut together, now);
                        }
                        together.push(publication);
                    }
                    command => {
                        self.publish(&mut together, now);
                        self.command(command, &mut buffer, &mut unread, now);
                    }
                }
            }
            self.publish(&mut together, now);
            if commands.capacity() > 65_536 {
                commands = Vec::new();
            }
            if !under_way && self.shard.waiting() >= YIELD_FROM {
                // A long walk begins. Let whoever is about to publish do so: it will go out in the same writes.
                under_way = true;
                std::thread::yield_now();
                continue;
            }
            let more = self.shard.flush(BATCH, now);
            under_way = more;
            now = clock::now();
            self.shard.account(now);
            writes += BATCH;
            if more && writes < WRITES_MAX {
                continue;
            }
            writes = 0;
            let busy = more || !unread.is_empty() || !self.inbox[self.index].sleep();
            let timeout = if busy { 0 } else { self.shard.sleep_ms(now) };
            match self.poll.poll(&mut events, Some(Duration::from_millis(timeout))) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            self.inbox[self.index].awake();
            now = clock::now();
            for _ in 0..unread.len() {
                if let Some(conn) = unread.pop_front() {
                    // What was reported with the first bytes is not reported again.
                    self.read(conn, End::Reported, &mut buffer, &mut unread, now);
                }
            }
            for event in &events {
                if event.token() == WAKER {
                    continue;
                }
                let conn = key(event.token());
                if event.is_writable() {
                    if self.shard.net.writable(conn) {
                        self.shard.writable(conn, now);
                    } else {
                        self.shard.gone(conn, now);
                    }
                }
                if event.is_readable() || event.is_read_closed() || event.is_error() {
                    let end =
                        if event.is_read_closed() || event.is_error() { End::Reported } else { End::Open };
                    self.read(conn, end, &mut buffer, &mut unread, now);
                }
            }
            self.shard.tick(now);
        }
        Ok(())
    }

    fn publish(&mut self, together: &mut Vec<Arc<Publication>>, now: Now) {
        self.shard.publish_all(together, now);
        together.clear();
    }

    fn command(
        &mut self,
        command: Command<Carrier>,
        buffer: &mut [u8],
        unread: &mut VecDeque<ConnKey>,
        now: Now,
    ) {
        match command {
            Command::Publish(publication) => self.shard.publish(&publication, now),
            Command::Arrive(carrier, arrival) => {
                let early = carrier.early.clone();
                let settled =
                    self.settle(carrier, &arrival, now, |shard, conn| shard.arrive(conn, &arrival, now));
                if let Some(conn) = settled {
                    self.early(conn, &early, buffer, now);
                    if self.shard.net.has_ended(conn) {
                        unread.push_back(conn);
                    }
                }
            }
            Command::Adopt(carrier, resume) => {
                let Resume { arrival, .. } = &*resume;
                let arrival = arrival.clone();
                self.settle(carrier, &arrival, now, |shard, conn| shard.adopt(conn, *resume, now));
            }
            Command::Order(Order::Survey(reply)) => {
                let cpu = sys::thread_cpu_time().unwrap_or_default();
                let reply = Box::new(move |mut current: pulsewire_telemetry::Current| {
                    current.shard_cpu_seconds = cpu.as_secs_f64();
                    reply(current);
                });
                self.shard.order(Order::Survey(reply), now);
            }
            Command::Order(order) => self.shard.order(order, now),
        }
    }

    /// Gives a connection its place. `None` if its socket could not be registered.
    fn settle(
        &mut self,
        carrier: Carrier,
        arrival: &Arrival,
        now: Now,
        then: impl FnOnce(&mut Shard<Sockets>, ConnKey),
    ) -> Option<ConnKey> {
        let conn = self.shard.reserve(arrival, now);
        let registered = self.shard.net.insert(conn, carrier);
        then(&mut self.shard, conn);
        if let Err(error) = registered {
            tracing::error!(%error, "a socket could not be registered; the connection is dropped");
            self.shard.gone(conn, now);
            return None;
        }
        Some(conn)
    }

    /// Frames that a client sent right behind its handshake.
    fn early(&mut self, conn: ConnKey, early: &Bytes, buffer: &mut [u8], now: Now) {
        for part in early.chunks(buffer.len()) {
            buffer[..part.len()].copy_from_slice(part);
            if !self.decode(conn, buffer, part.len(), now) {
                return;
            }
        }
    }

    /// Reads and decodes what has come on a connection.
    fn read(&mut self, conn: ConnKey, end: End, buffer: &mut [u8], unread: &mut VecDeque<ConnKey>, now: Now) {
        for _ in 0..READS_MAX {
            match self.shard.net.read(conn, buffer) {
                Ok(Taken::End) => {
                    self.shard.gone(conn, now);
                    return;
                }
                Ok(Taken::Bytes { len, full }) => {
                    if len > 0 && !self.decode(conn, buffer, len, now) {
                        return;
                    }
                    if !full && end == End::Open {
                        // Edge-triggered: a short read has emptied the socket; what comes next is reported.
                        return;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => {
                    self.shard.gone(conn, now);
                    return;
                }
            }
        }
        unread.push_back(conn);
    }

    /// Hands the messages in a read buffer to the shard. Returns whether to go on reading.
    fn decode(&mut self, conn: ConnKey, buffer: &mut [u8], len: usize, now: Now) -> bool {
        let Some(socket) = self.shard.net.get(conn) else { return false };
        if socket.deaf {
            return true;
        }
        let mut decoder = std::mem::take(&mut socket.decoder);
        let mut budget = std::mem::take(&mut socket.budget);
        self.shard.received(conn, len);
        let shard = &mut self.shard;
        let mut over = false;
        let result = decoder.decode(
            &mut buffer[..len],
            &self.limits,
            now.mono_ns / 1_000_000,
            &mut budget,
            &mut |inbound| {
                match inbound {
                    Inbound::Text(text) => shard.text(conn, text, now),
                    Inbound::Binary(bytes) => shard.binary(conn, bytes, now),
                    Inbound::Ping(payload) => shard.ping(conn, payload, now),
                    Inbound::Pong(payload) => shard.pong(conn, payload, now),
                    Inbound::Close { code, .. } => {
                        over = true;
                        shard.peer_closed(conn, code, now);
                    }
                }
                ControlFlow::Continue(())
            },
        );
        if let Err(violation) = result {
            over = true;
            tracing::debug!(code = %violation.close, detail = violation.detail, "a client broke a rule");
            self.shard.violated(conn, Violated { close: violation.close, detail: violation.detail }, now);
        }
        let Some(socket) = self.shard.net.get(conn) else { return false };
        socket.decoder = decoder;
        socket.budget = budget;
        socket.deaf |= over;
        true
    }
}
