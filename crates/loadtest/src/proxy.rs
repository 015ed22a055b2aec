//! A network that misbehaves on purpose, between a client and a server on this machine.
//!
//! It forwards bytes and, when told to, delays them, swallows them, or ends connections in the two ways TCP
//! has. It knows as much of HTTP/1.1 and RFC 6455 as it takes to treat WebSockets and other requests differently; what
//! is neither (TLS, anything else) is bytes to it. Faults apply to all its connections at once; a test that wants two
//! kinds of network starts two. Four threads a connection: it is made for dozens, not thousands.
//!
//! [`Fault`] lists what it can do. Programs in other languages run it as `fault_proxy` and speak with it through
//! [`control`].

pub mod control;
mod fault;
mod link;
mod pieces;

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

pub use fault::{Fault, Stats};
use fault::{Switches, Tally};
use link::Link;

/// The way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From clients.
    ToServer,
    /// From the server.
    ToClient,
}

/// A proxy on a port of its own. Dropping it cuts its connections.
#[derive(Debug)]
pub struct Proxy {
    /// Where clients connect.
    pub address: SocketAddr,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    target: Mutex<SocketAddr>,
    ways: [Way; 2],
    switches: Switches,
    tally: Tally,
    links: Mutex<HashMap<u64, Arc<Link>>>,
    /// Signalled, with `links` locked before, whenever something ended that a connection may wait for.
    changed: Condvar,
    stopped: AtomicBool,
}

/// What happens to the bytes of one direction.
#[derive(Debug, Default)]
struct Way {
    delay_us: AtomicU64,
    swallows: AtomicBool,
}

impl Proxy {
    /// Forwards to a server from a free port on loopback, without any fault.
    ///
    /// # Errors
    ///
    /// As `bind`.
    pub fn start(target: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?;
        let state = Arc::new(State {
            target: Mutex::new(target),
            ways: Default::default(),
            switches: Switches::default(),
            tally: Tally::default(),
            links: Mutex::default(),
            changed: Condvar::new(),
            stopped: AtomicBool::new(false),
        });
        let shared = state.clone();
        thread::spawn(move || {
            for client in listener.incoming() {
                if shared.stopped.load(Relaxed) {
                    return;
                }
                // A client that cannot be served sees its connection end.
                let _ = client.and_then(|client| shared.clone().welcome(client));
            }
        });
        Ok(Self { address, state })
    }

    /// Misbehaves as told, from now on or once. Faults add up until [`Fault::Pass`].
    pub fn apply(&self, fault: Fault) {
        match fault {
            Fault::Slow { ms } => {
                for direction in [Direction::ToServer, Direction::ToClient] {
                    self.delay(direction, Duration::from_millis(ms));
                }
            }
            Fault::BlackHole => {
                for direction in [Direction::ToServer, Direction::ToClient] {
                    self.black_hole(direction, true);
                }
            }
            Fault::Cut => self.cut(),
            Fault::Reset => self.reset(),
            Fault::Target { to } => {
                *self.state.target.lock().unwrap_or_else(PoisonError::into_inner) = to;
            }
            Fault::Refuse => {
                self.state.switches.turn(fault);
                self.cut();
            }
            Fault::Pass => {
                self.state.switches.turn(fault);
                for direction in [Direction::ToServer, Direction::ToClient] {
                    self.delay(direction, Duration::ZERO);
                    self.black_hole(direction, false);
                }
            }
            Fault::RefuseUpgrade
            | Fault::DieAfterOpen { .. }
            | Fault::CutIdle { .. }
            | Fault::Mute
            | Fault::LoseAcks { .. }
            | Fault::CutMidFrame => self.state.switches.turn(fault),
        }
    }

    /// What it has seen and done since it started.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.state.tally.read(self.connections())
    }

    /// From now on bytes take this long; those under way keep the delay they met.
    pub fn delay(&self, direction: Direction, delay: Duration) {
        let delay_us = u64::try_from(delay.as_micros()).unwrap_or(u64::MAX);
        self.state.ways[direction as usize].delay_us.store(delay_us, Relaxed);
    }

    /// Whether bytes of a direction vanish, and of WebSockets whole frames. Nobody is told: connections stay open, and
    /// the end of one is passed on only when the hole is closed.
    pub fn black_hole(&self, direction: Direction, swallows: bool) {
        self.state.ways[direction as usize].swallows.store(swallows, Relaxed);
        self.state.wake();
    }

    /// Ends every connection as a peer does that has said all it wanted.
    pub fn cut(&self) {
        for link in self.state.links().values() {
            link.cut();
        }
    }

    /// Ends every connection as a peer does that has crashed: both sides get a reset.
    pub fn reset(&self) {
        for link in std::mem::take(&mut *self.state.links()).values() {
            link.reset();
        }
    }

    /// Connections that are open through it.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.state.links().len()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.stopped.store(true, Relaxed);
        self.cut();
        // Wakes the thread that accepts, so that it sees the end.
        let _ = TcpStream::connect(self.address);
    }
}

impl State {
    fn links(&self) -> MutexGuard<'_, HashMap<u64, Arc<Link>>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets every thread that waits look again.
    fn wake(&self) {
        let _links = self.links();
        self.changed.notify_all();
    }

    /// Waits while something holds.
    fn wait_while(&self, holds: impl Fn() -> bool) {
        let links = self.links();
        drop(self.changed.wait_while(links, |_| holds()));
    }

    fn welcome(self: Arc<Self>, client: TcpStream) -> io::Result<()> {
        if self.switches.refuses() {
            self.tally.refused.fetch_add(1, Relaxed);
            return Ok(());
        }
        let target = *self.target.lock().unwrap_or_else(PoisonError::into_inner);
        let server = TcpStream::connect(target)?;
        let number = self.tally.connections.fetch_add(1, Relaxed);
        let link = Arc::new(Link::new(client.try_clone()?, server.try_clone()?)?);
        self.links().insert(number, link.clone());
        // A cut that came between the two found nothing to cut.
        if self.switches.refuses() {
            link.cut();
        }
        link::join(self, link, number, client, server);
        Ok(())
    }
}
