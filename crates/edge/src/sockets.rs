//! The sockets of one shard.
//!
//! A socket and what it needs to be read (decoder, control budget) lie at the index that the shard
//! gave its connection. Registered once with epoll for both directions, edge-triggered, it costs no
//! further system call than the reads and writes themselves. The state of a TLS connection lies in a table
//! of its own, so that a plain one pays nothing for it.

use std::io::{self, ErrorKind, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use pulsewire_hub::{Command, ConnKey, Inbox, Net, Resume, TcpSample, Write};
#[cfg(target_os = "linux")]
use rustix::net::SendFlags;

use crate::clock;
use crate::codec::{ControlBudget, Decoder};
use crate::sys;
use crate::tls::{self, Tls};

/// What a socket is set to when it arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketOptions {
    /// `TCP_NOTSENT_LOWAT`: unsent bytes the kernel takes before it says that it is full, so that lag
    /// shows in our outbox and not in the kernel's. Default 64 KiB.
    pub unsent_bytes_max: u32,
    /// `TCP_USER_TIMEOUT`: how long sent bytes may stay unacknowledged before the kernel gives the
    /// connection up. Default 30 s.
    pub user_timeout: Duration,
}

impl Default for SocketOptions {
    fn default() -> Self {
        Self { unsent_bytes_max: 64 * 1024, user_timeout: Duration::from_secs(30) }
    }
}

/// A connection between two shards, or between the handshake and its shard.
pub struct Carrier {
    pub(crate) stream: TcpStream,
    pub(crate) decoder: Decoder,
    pub(crate) budget: ControlBudget,
    /// Bytes that were read behind the handshake, decrypted.
    pub(crate) early: Bytes,
    pub(crate) tls: Option<Box<Tls>>,
}

impl Carrier {
    /// A connection fresh from its handshake, set up for a shard; with its TLS state if it has one.
    ///
    /// # Errors
    ///
    /// If the socket's options cannot be set: it is not usable then.
    pub fn new(
        stream: std::net::TcpStream,
        tls: Option<Box<Tls>>,
        early: Bytes,
        options: SocketOptions,
    ) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        sys::set_nodelay(&stream)?;
        sys::set_notsent_low_water(&stream, options.unsent_bytes_max)?;
        sys::set_user_timeout(&stream, options.user_timeout)?;
        let stream = TcpStream::from_std(stream);
        Ok(Self { stream, decoder: Decoder::default(), budget: ControlBudget::default(), early, tls })
    }
}

/// Where ciphertext is read into, and records are sealed in.
const SCRATCH_BYTES: usize = 64 * 1024;
const _: () = assert!(SCRATCH_BYTES >= 2 * tls::SEALED_BYTES_MAX);

/// What a read has brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    /// So many bytes, perhaps none; `full` if there may be more that no event will report.
    Bytes { len: usize, full: bool },
    /// Nothing follows.
    End,
}

pub(crate) struct Socket {
    pub(crate) stream: TcpStream,
    pub(crate) stamp: u32,
    /// Nothing that comes is read as messages any more.
    pub(crate) deaf: bool,
    /// Its TLS state is in the table of them.
    pub(crate) secure: bool,
    pub(crate) decoder: Decoder,
    pub(crate) budget: ControlBudget,
}

const _: () = assert!(size_of::<Option<Socket>>() <= 40, "a socket: part of the 600 bytes of design §9");

/// The sockets of one shard, by slot.
pub(crate) struct Sockets {
    index: usize,
    table: Vec<Option<Socket>>,
    /// The TLS state of those that have one; as long as the last of them needs.
    secure: Vec<Option<Box<Tls>>>,
    /// Where ciphertext is read into and records are sealed in; there once a TLS connection was.
    scratch: Vec<u8>,
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
        Self { index, table: Vec::new(), secure: Vec::new(), scratch: Vec::new(), registry, inboxes, load }
    }

    pub(crate) fn insert(&mut self, key: ConnKey, carrier: Carrier) -> io::Result<()> {
        let Carrier { mut stream, decoder, budget, tls, .. } = carrier;
        self.registry.register(&mut stream, token(key), Interest::READABLE | Interest::WRITABLE)?;
        self.make_place(key);
        let secure = tls.is_some();
        self.table[key.slot as usize] =
            Some(Socket { stream, stamp: key.stamp, deaf: false, secure, decoder, budget });
        self.put_secure(key, tls);
        Ok(())
    }

    fn put_secure(&mut self, key: ConnKey, tls: Option<Box<Tls>>) {
        if tls.is_none() {
            return;
        }
        if self.secure.len() <= key.slot as usize {
            self.secure.resize_with(key.slot as usize + 1, || None);
        }
        self.secure[key.slot as usize] = tls;
    }

    fn take_secure(&mut self, key: ConnKey) -> Option<Box<Tls>> {
        self.secure.get_mut(key.slot as usize)?.take()
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
    pub(crate) fn read(&mut self, key: ConnKey, buffer: &mut [u8]) -> io::Result<Taken> {
        let Some(socket) = self.get(key) else { return Err(ErrorKind::NotConnected.into()) };
        if socket.secure {
            return self.read_secure(key, buffer);
        }
        match read(&mut socket.stream, buffer)? {
            0 => Ok(Taken::End),
            len => Ok(Taken::Bytes { len, full: len == buffer.len() }),
        }
    }

    /// Reads and decrypts what has come.
    fn read_secure(&mut self, key: ConnKey, buffer: &mut [u8]) -> io::Result<Taken> {
        let (socket, tls, scratch) = self.secure(key)?;
        if tls.has_ended() {
            return Ok(Taken::End);
        }
        // Plaintext is never longer than its ciphertext, so what is read here fits there.
        let room = scratch.len().min(buffer.len());
        let room = &mut scratch[..room];
        let kept = tls.unread_bytes();
        let came = read(&mut socket.stream, &mut room[kept..])?;
        let (full, over) = (came == room.len() - kept, came == 0);
        let mut len = 0;
        let opened = tls.open(&mut room[..kept + came], |plain| {
            buffer[len..len + plain.len()].copy_from_slice(plain);
            len += plain.len();
        });
        // An alert, or an answer to new keys. If the connection is broken, the next read says so.
        let _ = flush(&mut socket.stream, tls);
        if let Err(error) = opened {
            tracing::debug!(%error, "a TLS connection broke its protocol");
            return Err(ErrorKind::InvalidData.into());
        }
        let over = over || tls.has_ended();
        // An end behind bytes is found again by the next read.
        if over && len == 0 { Ok(Taken::End) } else { Ok(Taken::Bytes { len, full: full || over }) }
    }

    /// Whether a connection came with an end that no event will report.
    pub(crate) fn has_ended(&mut self, key: ConnKey) -> bool {
        self.is_secure(key) && self.secure(key).is_ok_and(|(_, tls, _)| tls.has_ended())
    }

    /// The socket takes more: sends what is sealed already. Returns whether the connection is alive.
    pub(crate) fn writable(&mut self, key: ConnKey) -> bool {
        if !self.is_secure(key) {
            return true;
        }
        let Ok((socket, tls, _)) = self.secure(key) else { return true };
        match flush(&mut socket.stream, tls) {
            Ok(()) => true,
            Err(error) => error.kind() == ErrorKind::WouldBlock,
        }
    }

    fn is_secure(&mut self, key: ConnKey) -> bool {
        self.get(key).is_some_and(|socket| socket.secure)
    }

    /// A TLS connection's socket, its state, and the scratch to work in.
    fn secure(&mut self, key: ConnKey) -> io::Result<(&mut Socket, &mut Tls, &mut [u8])> {
        let slot = key.slot as usize;
        if self.scratch.is_empty() {
            self.scratch = vec![0; SCRATCH_BYTES];
        }
        let socket = self.table.get_mut(slot).and_then(Option::as_mut);
        let tls = self.secure.get_mut(slot).and_then(Option::as_deref_mut);
        match (socket, tls) {
            (Some(socket), Some(tls)) => Ok((socket, tls, &mut self.scratch)),
            _ => Err(ErrorKind::NotConnected.into()),
        }
    }

    /// Seals and sends as much as the kernel takes; what it does not take of the last record is kept.
    fn write_secure(&mut self, key: ConnKey, bytes: &[u8]) -> Write {
        let Ok((socket, tls, scratch)) = self.secure(key) else { return Write::Failed };
        let lagged = !tls.unsent().is_empty();
        match flush(&mut socket.stream, tls) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Write::Blocked,
            Err(_) => return Write::Failed,
        }
        let record = if lagged { tls::LAGGING_RECORD_BYTES } else { tls::RECORD_BYTES_MAX };
        let mut taken = 0;
        for part in bytes.chunks(record) {
            let Ok(len) = tls.seal(part, scratch) else { return Write::Failed };
            taken += part.len();
            // New keys go in front of what is sealed with them; that is the only thing that can wait here.
            let sent = if tls.unsent().is_empty() {
                match send(&mut socket.stream, &scratch[..len]) {
                    Ok(sent) => sent,
                    Err(error) if is_passing(&error) => 0,
                    Err(_) => return Write::Failed,
                }
            } else {
                0
            };
            if sent < len {
                tls.keep(&scratch[sent..len]);
                match flush(&mut socket.stream, tls) {
                    Ok(()) => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(_) => return Write::Failed,
                }
            }
        }
        Write::Wrote(taken)
    }

    fn left(&self) {
        self.load[self.index].fetch_sub(1, Ordering::Relaxed);
    }
}

fn read(stream: &mut TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match stream.read(buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

/// Sends what is sealed and waits, and then, if nothing follows, the end.
///
/// # Errors
///
/// `WouldBlock` if the kernel takes no more now.
fn flush(stream: &mut TcpStream, tls: &mut Tls) -> io::Result<()> {
    while !tls.unsent().is_empty() {
        match send(stream, tls.unsent()) {
            Ok(0) => return Err(ErrorKind::WouldBlock.into()),
            Ok(taken) => tls.sent(taken),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    if tls.closing {
        // If the peer is gone already there is nobody to tell.
        let _ = stream.shutdown(std::net::Shutdown::Write);
    }
    Ok(())
}

/// Writes without waiting and without `SIGPIPE`, by the system call itself: the C library's `send` is a place where
/// a thread may be cancelled, and preparing for that costs a fifth of what it takes to send a small message.
#[cfg(target_os = "linux")]
#[inline]
fn send(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<usize> {
    Ok(rustix::net::send(stream, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)?)
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
        if socket.secure {
            return self.write_secure(conn, bytes);
        }
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
            if socket.secure {
                if let Ok((socket, tls, _)) = self.secure(conn) {
                    tls.seal_end();
                    // What is left goes when the socket takes more; a broken one is found by reading.
                    let _ = flush(&mut socket.stream, tls);
                }
                return;
            }
            // If the peer is gone already there is nobody to tell.
            let _ = socket.stream.shutdown(std::net::Shutdown::Write);
        }
    }

    fn close(&mut self, conn: ConnKey) {
        if let Some(socket) = self.remove(conn) {
            if socket.secure {
                self.take_secure(conn);
            }
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
        if socket.secure {
            let tls = self.take_secure(from);
            self.put_secure(to, tls);
        }
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
        let tls = self.take_secure(conn);
        let Socket { stream, decoder, budget, .. } = socket;
        let carrier = Carrier { stream, decoder, budget, early: Bytes::new(), tls };
        self.inboxes[shard].push(Command::Adopt(carrier, Box::new(resume)));
    }

    fn sample(&mut self, conn: ConnKey) -> Option<TcpSample> {
        let socket = self.get(conn)?;
        let info = sys::tcp_info(&socket.stream)?;
        let queued = u32::try_from(sys::send_queue_bytes(&socket.stream)?).unwrap_or(u32::MAX);
        let unsent_bytes = info.notsent_bytes.unwrap_or(0).min(queued);
        // Sealed and not taken by the kernel: behind what it has.
        let sealed = self.secure.get(conn.slot as usize).and_then(Option::as_ref);
        let sealed_bytes = sealed.map_or(0, |tls| u32::try_from(tls.unsent().len()).unwrap_or(u32::MAX));
        let us =
            |time: Option<Duration>| time.map(|time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
        Some(TcpSample {
            rtt_us: u32::try_from(info.rtt.as_micros()).unwrap_or(u32::MAX),
            retransmits: info.retransmitted_segments,
            unsent_bytes: unsent_bytes.saturating_add(sealed_bytes),
            unacked_bytes: queued - unsent_bytes,
            acked_bytes: info.acked_bytes?,
            rtt_variance_us: u32::try_from(info.rtt_variance.as_micros()).unwrap_or(u32::MAX),
            lost: info.lost_segments,
            segment_bytes: info.segment_bytes,
            segments_sent: info.sent_segments,
            peer_window_bytes: info.peer_window_bytes,
            delivery_bytes_per_second: info.delivery_bytes_per_second,
            busy_us: us(info.busy),
            receive_window_limited_us: us(info.receive_window_limited),
            send_buffer_limited_us: us(info.send_buffer_limited),
        })
    }

    fn stopwatch_ns(&self) -> u64 {
        clock::now().mono_ns
    }

    fn held_bytes(&self) -> usize {
        let held: usize = self.table.iter().flatten().map(|socket| socket.decoder.held_bytes()).sum();
        let secure: usize = self.secure.iter().flatten().map(|tls| tls.held_bytes()).sum();
        let tables = self.table.capacity() * size_of::<Option<Socket>>()
            + self.secure.capacity() * size_of::<Option<Box<Tls>>>();
        held + secure + tables + self.scratch.capacity()
    }
}
