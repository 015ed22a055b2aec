//! One connection through the proxy, and the four threads that move its bytes.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use socket2::SockRef;

use super::pieces::{Cutter, Frame, Phase, Piece};
use super::{Direction, State};

/// What a client gets whose request for a WebSocket is refused.
const REFUSAL: &[u8] = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// A connection: the two sockets and what is known of it.
#[derive(Debug)]
pub(super) struct Link {
    sides: [TcpStream; 2],
    phase: Mutex<Phase>,
    /// When something last passed in either direction.
    passed: Mutex<Instant>,
    /// Which directions have said their last byte.
    ended: [AtomicBool; 2],
}

/// What the thread that writes is given.
enum Due {
    /// Bytes, at their time.
    Bytes(Instant, Vec<u8>),
    /// The connection is reset behind the bytes.
    Reset,
}

/// Whether a connection goes on.
#[derive(PartialEq, Eq)]
enum Goes {
    On,
    NoFurther,
}

impl Link {
    pub(super) fn new(client: TcpStream, server: TcpStream) -> io::Result<Self> {
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let passed = Mutex::new(Instant::now());
        Ok(Self { sides: [client, server], phase: Mutex::default(), passed, ended: Default::default() })
    }

    /// Ends it in order.
    pub(super) fn cut(&self) {
        for side in &self.sides {
            // It may have ended already.
            let _ = side.shutdown(Shutdown::Both);
        }
    }

    /// Ends it with a reset to both sides, as soon as its other handles are gone.
    pub(super) fn reset(&self) {
        // With no lingering, closing the last handle sends a reset; ending our reading lets go of it. Both sides know it
        // before either ends, or the end of one would be passed on to the other as an ordinary one.
        for side in &self.sides {
            let _ = SockRef::from(side).set_linger(Some(Duration::ZERO));
        }
        for side in &self.sides {
            let _ = side.shutdown(Shutdown::Read);
        }
    }

    fn phase(&self) -> Phase {
        *self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_phase(&self, phase: Phase) {
        *self.phase.lock().unwrap_or_else(PoisonError::into_inner) = phase;
    }

    /// How long nothing has passed.
    fn silence(&self) -> Duration {
        self.passed.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    /// Ends it when nothing has passed for so long; returns when it has ended.
    fn cut_when_idle(&self, after: Duration) {
        while !self.has_ended(Direction::ToServer) && !self.has_ended(Direction::ToClient) {
            match after.checked_sub(self.silence()).filter(|left| !left.is_zero()) {
                Some(left) => thread::sleep(left),
                None => return self.cut(),
            }
        }
    }

    fn has_ended(&self, direction: Direction) -> bool {
        self.ended[direction as usize].load(Relaxed)
    }
}

/// Starts the threads of a connection, and takes it from the table when they have ended.
pub(super) fn join(state: Arc<State>, link: Arc<Link>, number: u64, client: TcpStream, server: TcpStream) {
    let start = |direction, from: io::Result<TcpStream>, to: io::Result<TcpStream>| -> io::Result<_> {
        let (sender, due) = sync_channel(1_024);
        let pump = Pump { state: state.clone(), link: link.clone(), direction, sender, number };
        let (from, to) = (from?, to?);
        thread::spawn(move || pump.read(from));
        let state = state.clone();
        Ok(thread::spawn(move || write(&state, number, to, due)))
    };
    let there = start(Direction::ToServer, client.try_clone(), server.try_clone());
    let back = start(Direction::ToClient, Ok(server), Ok(client));
    drop(link);
    thread::spawn(move || {
        for thread in [there, back].into_iter().flatten() {
            let _ = thread.join();
        }
        state.links().remove(&number);
    });
}

impl State {
    /// Resets one connection, if it is still there.
    fn reset_one(&self, number: u64) {
        let link = self.links().remove(&number);
        if let Some(link) = link {
            link.reset();
        }
    }
}

/// Writes the bytes of one direction when they are due.
fn write(state: &State, number: u64, mut to: TcpStream, due: Receiver<Due>) {
    for due in due {
        match due {
            Due::Bytes(at, bytes) => {
                thread::sleep(at.saturating_duration_since(Instant::now()));
                if to.write_all(&bytes).is_err() {
                    break;
                }
            }
            Due::Reset => state.reset_one(number),
        }
    }
    // The end is passed on behind the last byte; where the connection was reset this is too late.
    let resets = SockRef::from(&to).linger().is_ok_and(|linger| linger == Some(Duration::ZERO));
    if !resets {
        let _ = to.shutdown(Shutdown::Write);
    }
}

/// The reading half of one direction: stamps what comes, and decides what becomes of it.
struct Pump {
    state: Arc<State>,
    link: Arc<Link>,
    direction: Direction,
    sender: SyncSender<Due>,
    number: u64,
}

impl Pump {
    fn read(self, mut from: TcpStream) {
        let mut cutter = Cutter::new(self.direction);
        let mut block = [0; 16 * 1024];
        while let Ok(len @ 1..) = from.read(&mut block) {
            cutter.feed(&block[..len]);
            while !cutter.is_empty() {
                if self.direction == Direction::ToServer {
                    // What follows a request for a WebSocket is frames or further requests, as its answer says.
                    let waits =
                        || self.link.phase() == Phase::Asked && !self.link.has_ended(Direction::ToClient);
                    self.state.wait_while(waits);
                }
                let Some(piece) = cutter.next(self.link.phase()) else { break };
                if self.treat(piece) == Goes::NoFurther {
                    return;
                }
            }
        }
        self.pass(cutter.rest());
        self.link.ended[self.direction as usize].store(true, Relaxed);
        self.state.wake();
        self.state.wait_while(|| self.hides_the_end());
    }

    /// Whether a peer must not hear yet that the other has ended. When both have there is nothing to hide.
    fn hides_the_end(&self) -> bool {
        let hides = self.swallows() || self.is_muted() && self.link.phase() == Phase::Open;
        hides && !(self.link.has_ended(Direction::ToServer) && self.link.has_ended(Direction::ToClient))
    }

    fn treat(&self, piece: Piece) -> Goes {
        let (switches, tally) = (&self.state.switches, &self.state.tally);
        match piece {
            Piece::Bytes(bytes) => self.pass(bytes),
            Piece::Request(bytes) => {
                tally.http_requests.fetch_add(1, Relaxed);
                self.pass(bytes)
            }
            Piece::Upgrade(_) if switches.refuses_upgrades() => {
                tally.refused.fetch_add(1, Relaxed);
                // It is gone already if it cannot be told.
                let _ = (&self.link.sides[0]).write_all(REFUSAL);
                self.link.cut();
                Goes::NoFurther
            }
            Piece::Upgrade(bytes) => {
                self.link.set_phase(Phase::Asked);
                self.pass(bytes)
            }
            Piece::Answer { opened, bytes } => {
                self.link.set_phase(if opened { Phase::Open } else { Phase::Plain });
                self.state.wake();
                if opened {
                    // Before the client hears of it: whatever is switched on then is for later ones.
                    self.opened();
                }
                self.pass(bytes)
            }
            Piece::Frame(frame) => self.treat_frame(frame),
        }
    }

    fn opened(&self) {
        self.state.tally.upgrades.fetch_add(1, Relaxed);
        if let Some(after_ms) = self.state.switches.dies_after_ms() {
            let (state, number) = (Arc::downgrade(&self.state), self.number);
            thread::spawn(move || {
                thread::sleep(Duration::from_millis(after_ms));
                if let Some(state) = state.upgrade() {
                    state.reset_one(number);
                }
            });
        }
        if let Some(after_ms) = self.state.switches.idle_after_ms() {
            let link = self.link.clone();
            thread::spawn(move || link.cut_when_idle(Duration::from_millis(after_ms)));
        }
    }

    fn treat_frame(&self, mut frame: Frame) -> Goes {
        let switches = &self.state.switches;
        let to_client = self.direction == Direction::ToClient;
        let lost = self.swallows()
            || self.is_muted()
            || to_client && switches.loses_acks() && frame.is_ack() && switches.take_ack();
        if lost {
            self.state.tally.frames_lost.fetch_add(1, Relaxed);
            return Goes::On;
        }
        if to_client && frame.is_data() && switches.take_cut_mid_frame() {
            frame.bytes.truncate(frame.bytes.len() / 2);
            self.pass(frame.bytes);
            let _ = self.sender.send(Due::Reset);
            return Goes::NoFurther;
        }
        self.pass(frame.bytes)
    }

    /// Passes bytes on, unless they are swallowed.
    fn pass(&self, bytes: Vec<u8>) -> Goes {
        let delay_us = self.state.ways[self.direction as usize].delay_us.load(Relaxed);
        let now = Instant::now();
        *self.link.passed.lock().unwrap_or_else(PoisonError::into_inner) = now;
        let at = now + Duration::from_micros(delay_us);
        if self.swallows() || self.sender.send(Due::Bytes(at, bytes)).is_ok() {
            Goes::On
        } else {
            Goes::NoFurther
        }
    }

    fn swallows(&self) -> bool {
        self.state.ways[self.direction as usize].swallows.load(Relaxed)
    }

    fn is_muted(&self) -> bool {
        self.direction == Direction::ToClient && self.state.switches.mutes()
    }
}
