//! A network that misbehaves on purpose, between a client and a server on this machine.
//!
//! It forwards bytes and, when told to, delays them, swallows them, or ends connections in the two ways TCP
//! has. Faults apply to all its connections at once; a test that wants two kinds of network starts two. Four
//! threads a connection: it is made for dozens, not thousands.

use std::collections::HashMap;
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use socket2::SockRef;

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

#[derive(Debug, Default)]
struct State {
    ways: [Way; 2],
    links: Mutex<HashMap<u64, [TcpStream; 2]>>,
    made: AtomicU64,
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
        let state = Arc::new(State::default());
        let shared = state.clone();
        thread::spawn(move || {
            for client in listener.incoming() {
                if shared.stopped.load(Relaxed) {
                    return;
                }
                // A client whose server is not there sees its connection end.
                if let (Ok(client), Ok(server)) = (client, TcpStream::connect(target)) {
                    let _ = shared.join(client, server);
                }
            }
        });
        Ok(Self { address, state })
    }

    /// From now on bytes take this long; those under way keep the delay they met.
    pub fn delay(&self, direction: Direction, delay: Duration) {
        let delay_us = u64::try_from(delay.as_micros()).unwrap_or(u64::MAX);
        self.state.ways[direction as usize].delay_us.store(delay_us, Relaxed);
    }

    /// Whether bytes of a direction vanish. Nobody is told; connections stay open.
    pub fn black_hole(&self, direction: Direction, swallows: bool) {
        self.state.ways[direction as usize].swallows.store(swallows, Relaxed);
    }

    /// Ends every connection as a peer does that has said all it wanted.
    pub fn cut(&self) {
        for link in self.state.links().values() {
            for side in link {
                // It may have ended already.
                let _ = side.shutdown(Shutdown::Both);
            }
        }
    }

    /// Ends every connection as a peer does that has crashed: both sides get a reset.
    pub fn reset(&self) {
        for link in std::mem::take(&mut *self.state.links()).values() {
            // With no lingering, closing the last handle sends a reset; ending our reading lets go of it. Both sides
            // know it before either ends, or the end of one would be passed on to the other as an ordinary one.
            for side in link {
                let _ = SockRef::from(side).set_linger(Some(Duration::ZERO));
            }
            for side in link {
                let _ = side.shutdown(Shutdown::Read);
            }
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
    fn links(&self) -> MutexGuard<'_, HashMap<u64, [TcpStream; 2]>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn join(self: &Arc<Self>, client: TcpStream, server: TcpStream) -> io::Result<()> {
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let number = self.made.fetch_add(1, Relaxed);
        self.links().insert(number, [client.try_clone()?, server.try_clone()?]);
        let there = self.clone().pump(Direction::ToServer, client.try_clone()?, server.try_clone()?);
        let back = self.clone().pump(Direction::ToClient, server, client);
        let state = self.clone();
        thread::spawn(move || {
            let _ = (there.join(), back.join());
            state.links().remove(&number);
        });
        Ok(())
    }

    /// Moves the bytes of one direction: one thread reads and stamps them, another writes them when due.
    fn pump(
        self: Arc<Self>,
        direction: Direction,
        mut from: TcpStream,
        mut to: TcpStream,
    ) -> thread::JoinHandle<()> {
        let (sender, due) = mpsc::sync_channel::<(Instant, Vec<u8>)>(1_024);
        thread::spawn(move || {
            let mut block = [0; 16 * 1024];
            let way = &self.ways[direction as usize];
            while let Ok(len @ 1..) = from.read(&mut block) {
                let at = Instant::now() + Duration::from_micros(way.delay_us.load(Relaxed));
                if !way.swallows.load(Relaxed) && sender.send((at, block[..len].to_vec())).is_err() {
                    return;
                }
            }
        });
        thread::spawn(move || {
            for (at, bytes) in due {
                thread::sleep(at.saturating_duration_since(Instant::now()));
                if to.write_all(&bytes).is_err() {
                    break;
                }
            }
            // The end is passed on behind the last byte; where the connection was reset this is too late.
            let resets = SockRef::from(&to).linger().is_ok_and(|linger| linger == Some(Duration::ZERO));
            if !resets {
                let _ = to.shutdown(Shutdown::Write);
            }
        })
    }
}
