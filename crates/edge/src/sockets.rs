//! The sockets of one shard.
//!
//! A socket and what it needs to be read (decoder, control budget) lie at the index that the shard
//! gave its connection. Registered once with epoll for both directions, edge-triggered, it costs no
//! further system call than the reads and writes themselves.

use std::io::{self, ErrorKind, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use pulsewire_hub::{Command, ConnKey, Inbox, Net, Resume, TcpSample, Write};

use crate::codec::{ControlBudget, Decoder};
use crate::sys;

/// What a socket is set to when it arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketOptions {
    /// `TCP_NOTSENT_LOWAT`: unsent bytes the kernel takes before it says that it is full, so that lag
    /// shows in our outbox and not in the kernel's. Default 64 KiB.
    pub unsent_bytes_max: u32,
    /// `TCP_USER_TIMEOUT`: how long sent bytes may stay unacknowledged before the kernel gives the
    /// connection up. Default 30 s.
    pub user_timeout: std::time::Duration,
}

impl Default for SocketOptions {
    fn default() -> Self {
        Self { unsent_bytes_max: 64 * 1024, user_timeout: std::time::Duration::from_secs(30) }
    }
}

/// A connection between two shards, or between the handshake and its shard.
pub struct Carrier {
    pub(crate) stream: TcpStream,
    pub(crate) decoder: Decoder,
    pub(crate) budget: ControlBudget,
    /// Bytes that were read behind the handshake.
    pub(crate) early: Bytes,
}

impl Carrier {
    /// A connection fresh from its handshake, set up for a shard.
    ///
    /// # Errors
    ///
    /// If the socket's options cannot be set: it is not usable then.
    pub fn new(stream: std::net::TcpStream, early: Bytes, options: SocketOptions) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        sys::set_nodelay(&stream)?;
        sys::set_notsent_low_water(&stream, options.unsent_bytes_max)?;
        sys::set_user_timeout(&stream, options.user_timeout)?;
        let stream = TcpStream::from_std(stream);
        Ok(Self { stream, decoder: Decoder::default(), budget: ControlBudget::default(), early })
    }
}

pub(crate) struct Socket {
    pub(crate) stream: TcpStream,
    pub(crate) stamp: u32,
    /// Nothing that comes is read as messages any more.
    pub(crate) deaf: bool,
    pub(crate) decoder: Decoder,
    pub(crate) budget: ControlBudget,
}

const _: () = assert!(size_of::<Option<Socket>>() <= 40, "a socket: part of the 600 bytes of design §9");

/// The sockets of one shard, by slot.
pub(crate) struct Sockets {
    index: usize,
    table: Vec<Option<Socket>>,
    registry: Registry,
    inboxes: Arc<[Inbox<Carrier>]>,
    /// Connections of each shard, for choosing one.
    load: Arc<[AtomicUsize]>,
}

impl Sockets {
    pub(crate) fn new(
        index: usize,
        registry: Registry,
        inboxes: Arc<[Inbox<Carrier>]>,
        load: Arc<[AtomicUsize]>,
    ) -> Self {
        Self { index, table: Vec::new(), registry, inboxes, load }
    }

    pub(crate) fn insert(&mut self, key: ConnKey, carrier: Carrier) -> io::Result<()> {
        let Carrier { mut stream, decoder, budget, .. } = carrier;
        self.registry.register(&mut stream, token(key), Interest::READABLE | Interest::WRITABLE)?;
        self.make_place(key);
        self.table[key.slot as usize] =
            Some(Socket { stream, stamp: key.stamp, deaf: false, decoder, budget });
        Ok(())
    }

    /// Makes the table long enough, growing by an eighth: what is reserved and unused counts per connection too.
    fn make_place(&mut self, key: ConnKey) {
        let len = key.slot as usize + 1;
        if len > self.table.capacity() {
            self.table.reserve_exact(len - self.table.len() + self.table.capacity() / 8 + 64);
        }
        if self.table.len() < len {
            self.table.resize_with(len, || None);
        }
    }

    pub(crate) fn get(&mut self, key: ConnKey) -> Option<&mut Socket> {
        self.table.get_mut(key.slot as usize)?.as_mut().filter(|socket| socket.stamp == key.stamp)
    }

    fn remove(&mut self, key: ConnKey) -> Option<Socket> {
        self.get(key)?;
        self.table[key.slot as usize].take()
    }

    /// Reads what has come, as much as fits.
    pub(crate) fn read(&mut self, key: ConnKey, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(socket) = self.get(key) else { return Err(ErrorKind::NotConnected.into()) };
        loop {
            match socket.stream.read(buffer) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    fn left(&self) {
        self.load[self.index].fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(target_os = "linux")]
#[inline]
fn send(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<usize> {
    sys::send(stream, bytes)
}

#[cfg(not(target_os = "linux"))]
fn send(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<usize> {
    io::Write::write(stream, bytes)
}

/// The epoll token of a connection: its slot and stamp.
pub(crate) fn token(key: ConnKey) -> Token {
    Token((key.slot as usize) << 32 | key.stamp as usize)
}

/// The connection of an epoll token.
pub(crate) fn key(token: Token) -> ConnKey {
    ConnKey { slot: (token.0 >> 32) as u32, stamp: token.0 as u32 }
}

impl Net for Sockets {
    #[inline]
    fn write(&mut self, conn: ConnKey, bytes: &[u8]) -> Write {
        let Some(socket) = self.get(conn) else { return Write::Failed };
        loop {
            match send(&mut socket.stream, bytes) {
                Ok(0) => return Write::Blocked,
                Ok(taken) => return Write::Wrote(taken),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Write::Blocked,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Write::Failed,
            }
        }
    }

    fn shutdown(&mut self, conn: ConnKey) {
        if let Some(socket) = self.get(conn) {
            socket.deaf = true;
            // If the peer is gone already there is nobody to tell.
            let _ = socket.stream.shutdown(std::net::Shutdown::Write);
        }
    }

    fn close(&mut self, conn: ConnKey) {
        if self.remove(conn).is_some() {
            self.left();
        }
    }

    fn rebind(&mut self, from: ConnKey, to: ConnKey) {
        let Some(mut socket) = self.remove(from) else { return };
        socket.stamp = to.stamp;
        // Registering anew reports what is there already, so nothing that came meanwhile is missed.
        let registered =
            self.registry.reregister(&mut socket.stream, token(to), Interest::READABLE | Interest::WRITABLE);
        self.make_place(to);
        self.table[to.slot as usize] = Some(socket);
        if let Err(error) = registered {
            tracing::error!(%error, "a socket could not be registered under its new key");
        }
    }

    fn hand_over(&mut self, conn: ConnKey, shard: usize, resume: Resume) {
        let Some(mut socket) = self.remove(conn) else { return };
        if let Err(error) = self.registry.deregister(&mut socket.stream) {
            tracing::error!(%error, "a socket could not be taken out of its shard");
        }
        self.left();
        self.load[shard].fetch_add(1, Ordering::Relaxed);
        let Socket { stream, decoder, budget, .. } = socket;
        let carrier = Carrier { stream, decoder, budget, early: Bytes::new() };
        self.inboxes[shard].push(Command::Adopt(carrier, Box::new(resume)));
    }

    fn sample(&mut self, conn: ConnKey) -> Option<TcpSample> {
        let socket = self.get(conn)?;
        let info = sys::tcp_info(&socket.stream)?;
        let queued = u32::try_from(sys::send_queue_bytes(&socket.stream)?).unwrap_or(u32::MAX);
        let unsent_bytes = info.notsent_bytes.unwrap_or(0).min(queued);
        Some(TcpSample {
            rtt_us: u32::try_from(info.rtt.as_micros()).unwrap_or(u32::MAX),
            retransmits: info.retransmitted_segments,
            unsent_bytes,
            unacked_bytes: queued - unsent_bytes,
            acked_bytes: info.acked_bytes?,
        })
    }

    fn held_bytes(&self) -> usize {
        let held: usize = self.table.iter().flatten().map(|socket| socket.decoder.held_bytes()).sum();
        held + self.table.capacity() * size_of::<Option<Socket>>()
    }
}
