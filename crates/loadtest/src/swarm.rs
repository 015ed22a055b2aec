//! Many WebSocket clients on one thread.
//!
//! One epoll instance, one table, one read buffer: no task, timer or queue per connection, so one core holds well over
//! ten thousand subscribers and most of the measured time is the server's. The caller turns the loop and is told what
//! arrived; nothing runs behind its back. Server pings are answered here.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use pulsewire_client::handshake::Handshake;
use pulsewire_client::wire::{self, Opcode};
use pulsewire_client::{Endpoint, Trust, http1};
use rustls::ClientConnection;
use socket2::{Domain, Protocol, Socket, Type};

/// Any single message of the server must fit.
const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// So many connections share one local address: a small part of the usual range of local ports, because the kernel
/// searches for a free one, and the search is what takes the time once most of them are used or in TIME_WAIT.
const CONNECTIONS_PER_SOURCE: u32 = 2_000;
/// A load tool needs no secret masks; a constant one keeps its own cost out of the measurement.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// The next local address, so that ports still in TIME_WAIT from earlier swarms are never in the way.
static SOURCES: AtomicU32 = AtomicU32::new(0);
/// So many addresses lie between those of two tools started one after the other.
const SOURCES_PER_PROCESS: u32 = 101;

/// A local address that no swarm of this process has used, and most likely none of the process before it.
fn next_source() -> u32 {
    let apart = std::process::id().wrapping_mul(SOURCES_PER_PROCESS);
    apart.wrapping_add(SOURCES.fetch_add(1, Ordering::Relaxed))
}

/// A connection's place in its swarm; never used again.
pub type Peer = usize;

/// What happened to a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Note<'a> {
    /// It is upgraded; the greeting is on its way.
    Open,
    /// A whole text message.
    Text(&'a [u8]),
    /// A whole binary message: MessagePack, where a subscription asked for it.
    Binary(&'a [u8]),
    /// Its handshake is refused, and it is told when to come back; the end follows.
    RetryAfter(Duration),
    /// It ended; 1006 without a close frame, 0 when it never opened.
    Closed(u16),
}

/// What all connections of a swarm have in common.
#[derive(Debug, Clone)]
pub struct Entry {
    address: SocketAddr,
    request: Arc<[u8]>,
    handshake: Handshake,
    secure: Option<Secure>,
}

impl Entry {
    /// Connections to `address` at the endpoint's path with this bearer token.
    pub fn new(endpoint: &Endpoint, address: SocketAddr, token: Option<&str>) -> Entry {
        let handshake = Handshake::new(*b"pulsewire loader");
        let request = handshake.request(endpoint, token).into();
        Entry { address, request, handshake, secure: None }
    }

    /// Where connections go.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The request that asks for the upgrade.
    pub(crate) fn request(&self) -> Arc<[u8]> {
        self.request.clone()
    }

    /// The same, over TLS if there is something to begin it with.
    #[must_use]
    pub fn over(mut self, secure: Option<Secure>) -> Entry {
        self.secure = secure;
        self
    }
}

/// How connections over TLS begin: whom to trust, and the name that the server must prove.
#[derive(Debug, Clone)]
pub struct Secure {
    config: Arc<rustls::ClientConfig>,
    name: rustls::pki_types::ServerName<'static>,
}

impl Secure {
    /// For an endpoint; `None` if it is spoken to in clear text.
    ///
    /// # Errors
    ///
    /// When nobody would be trusted, or its host is no name a certificate can have.
    pub fn new(endpoint: &Endpoint, trust: &Trust) -> anyhow::Result<Option<Secure>> {
        if !endpoint.is_secure() {
            return Ok(None);
        }
        let name = endpoint.host().to_owned().try_into()?;
        Ok(Some(Secure { config: trust.config()?, name }))
    }

    /// A connection that has not sent anything yet.
    pub(crate) fn begin(&self) -> io::Result<ClientConnection> {
        let mut tls =
            ClientConnection::new(self.config.clone(), self.name.clone()).map_err(io::Error::other)?;
        tls.set_buffer_limit(None);
        Ok(tls)
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Phase {
    Connecting,
    Upgrading,
    Open,
}

#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    tls: Option<Box<ClientConnection>>,
    phase: Phase,
    stalled: bool,
    /// The beginning of a message whose end has not arrived.
    part: Vec<u8>,
    /// What the kernel would not take yet; before the upgrade, the greeting.
    out: Vec<u8>,
}

/// A set of connections and the loop that moves them.
pub struct Swarm {
    poll: Poll,
    events: Option<Events>,
    buffer: Box<[u8]>,
    connections: Vec<Option<Connection>>,
    source: u32,
    entry: Entry,
    /// Bytes read so far.
    pub bytes_in: u64,
}

impl Swarm {
    /// An empty swarm.
    ///
    /// # Errors
    ///
    /// When the kernel gives no epoll instance.
    pub fn new(entry: Entry) -> io::Result<Swarm> {
        Ok(Swarm {
            poll: Poll::new()?,
            events: Some(Events::with_capacity(4096)),
            buffer: vec![0; 512 * 1024].into_boxed_slice(),
            connections: Vec::new(),
            source: next_source(),
            entry,
            bytes_in: 0,
        })
    }

    /// Starts a connection that sends `greeting` (text messages) as soon as it is open. `receive_buffer_bytes` narrows
    /// the kernel's receive buffer, for readers that shall stall early.
    ///
    /// # Errors
    ///
    /// When the kernel gives no socket; a refused connection is told by [`Note::Closed`].
    pub fn connect(&mut self, greeting: &[&str], receive_buffer_bytes: Option<usize>) -> io::Result<Peer> {
        let peer = self.connections.len();
        if peer > 0 && (peer as u32).is_multiple_of(CONNECTIONS_PER_SOURCE) {
            self.source = next_source();
        }
        let socket = Socket::new(Domain::for_address(self.entry.address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        if let Some(bytes) = receive_buffer_bytes {
            socket.set_recv_buffer_size(bytes)?;
        }
        if self.entry.address.ip() == IpAddr::V4(Ipv4Addr::LOCALHOST) {
            let [.., high, low] = (self.source % 0xfffe + 1).to_be_bytes();
            socket.bind(&SocketAddr::from(([127, 1, high, low], 0)).into())?;
        }
        match socket.connect(&self.entry.address.into()) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(EINPROGRESS) => {}
            Err(error) => return Err(error),
        }
        let mut stream = TcpStream::from_std(socket.into());
        self.poll.registry().register(&mut stream, Token(peer), Interest::READABLE | Interest::WRITABLE)?;
        let mut out = Vec::new();
        for text in greeting {
            wire::encode(Opcode::Text, text.as_bytes(), MASK, &mut out);
        }
        out.shrink_to_fit();
        let tls = self.entry.secure.as_ref().map(Secure::begin).transpose()?.map(Box::new);
        let connection =
            Connection { stream, tls, phase: Phase::Connecting, stalled: false, part: Vec::new(), out };
        self.connections.push(Some(connection));
        Ok(peer)
    }

    /// Sends a text message; what does not fit waits in memory. Nothing happens on a closed connection.
    pub fn send(&mut self, peer: Peer, text: &str) {
        self.send_frame(peer, Opcode::Text, text.as_bytes());
    }

    fn send_frame(&mut self, peer: Peer, opcode: Opcode, payload: &[u8]) {
        let Some(Some(connection)) = self.connections.get_mut(peer) else { return };
        wire::encode(opcode, payload, MASK, &mut connection.out);
        if connection.phase == Phase::Open {
            connection.flush();
        }
    }

    /// Stops reading from a connection, or reads on.
    pub fn stall(&mut self, peer: Peer, stalled: bool, told: &mut impl FnMut(Peer, Note<'_>)) {
        if let Some(Some(connection)) = self.connections.get_mut(peer) {
            connection.stalled = stalled;
            if !stalled {
                self.read(peer, told);
            }
        }
    }

    /// Ends a connection at once.
    pub fn drop_peer(&mut self, peer: Peer) {
        if let Some(connection) = self.connections.get_mut(peer) {
            *connection = None;
        }
    }

    /// Whether a connection has not ended, as far as anybody noticed.
    pub fn is_open(&self, peer: Peer) -> bool {
        self.connections.get(peer).is_some_and(Option::is_some)
    }

    /// Whether a connection has become a WebSocket and has not ended.
    pub fn is_upgraded(&self, peer: Peer) -> bool {
        let connection = self.connections.get(peer).and_then(Option::as_ref);
        connection.is_some_and(|connection| connection.phase == Phase::Open)
    }

    /// Connections that have not ended.
    pub fn living(&self) -> usize {
        self.connections.iter().flatten().count()
    }

    /// Waits until something arrives, at most until `until`, and tells what did.
    ///
    /// # Errors
    ///
    /// When epoll fails.
    pub fn turn(&mut self, until: Instant, told: &mut impl FnMut(Peer, Note<'_>)) -> io::Result<()> {
        let Some(mut events) = self.events.take() else { return Ok(()) };
        // Epoll counts in milliseconds and rounds up: the last one is spent looking, not sleeping.
        let wait = until.saturating_duration_since(Instant::now());
        let wait =
            if wait < Duration::from_millis(1) { Duration::ZERO } else { wait - Duration::from_millis(1) };
        let polled = match self.poll.poll(&mut events, Some(wait)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            polled => polled,
        };
        for event in &events {
            let peer = event.token().0;
            if event.is_writable() {
                self.writable(peer, told);
            }
            if event.is_readable() || event.is_read_closed() {
                self.read(peer, told);
            }
        }
        self.events = Some(events);
        polled
    }

    fn writable(&mut self, peer: Peer, told: &mut impl FnMut(Peer, Note<'_>)) {
        let Some(Some(connection)) = self.connections.get_mut(peer) else { return };
        match connection.phase {
            Phase::Connecting => {
                let failed = connection.stream.take_error().ok().flatten().is_some();
                // A request fits into the empty buffer of a new socket.
                if failed || connection.ask(&self.entry.request).is_err() {
                    self.end(peer, 0, told);
                } else {
                    connection.phase = Phase::Upgrading;
                }
            }
            Phase::Upgrading => connection.send_sealed(),
            Phase::Open => connection.flush(),
        }
    }

    fn read(&mut self, peer: Peer, told: &mut impl FnMut(Peer, Note<'_>)) {
        loop {
            let Some(Some(connection)) = self.connections.get_mut(peer) else { return };
            if connection.stalled || connection.phase == Phase::Connecting {
                return;
            }
            let kept = connection.part.len();
            self.buffer[..kept].copy_from_slice(&connection.part);
            let room = self.buffer.len() - kept;
            // What was decrypted says nothing about what the socket still holds.
            let secure = connection.tls.is_some();
            match connection.read(&mut self.buffer[kept..]) {
                Ok(0) => return self.end(peer, 1006, told),
                Ok(len) => {
                    self.bytes_in += len as u64;
                    let filled = kept + len;
                    if !self.take(peer, filled, told) {
                        return;
                    }
                    // A short read has emptied the socket; edge-triggered epoll tells of the next byte.
                    if len < room && !secure {
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return self.end(peer, 1006, told),
            }
        }
    }

    /// Works through the filled part of the buffer; `false` when the connection ended.
    fn take(&mut self, peer: Peer, filled: usize, told: &mut impl FnMut(Peer, Note<'_>)) -> bool {
        let mut at = 0;
        let Some(Some(connection)) = self.connections.get_mut(peer) else { return false };
        if connection.phase == Phase::Upgrading {
            match http1::parse_head(&self.buffer[..filled]) {
                Ok(None) => {
                    connection.keep(&self.buffer[..filled]);
                    return true;
                }
                Ok(Some(head)) if self.entry.handshake.check(&head).is_ok() => at = head.len_bytes,
                Ok(Some(head)) => {
                    if let Some(seconds) = head.header("retry-after").and_then(|text| text.parse().ok()) {
                        told(peer, Note::RetryAfter(Duration::from_secs(seconds)));
                    }
                    self.end(peer, head.status, told);
                    return false;
                }
                Err(_) => {
                    self.end(peer, 0, told);
                    return false;
                }
            }
            connection.phase = Phase::Open;
            connection.flush();
            told(peer, Note::Open);
        }
        loop {
            let frame = match wire::decode(&self.buffer[at..filled], MESSAGE_BYTES_MAX) {
                Ok(Some((frame, len))) => {
                    at += len;
                    frame
                }
                Ok(None) => break,
                Err(_) => {
                    self.end(peer, 1002, told);
                    return false;
                }
            };
            match frame.opcode {
                Opcode::Text if frame.last => told(peer, Note::Text(frame.payload)),
                Opcode::Binary if frame.last => told(peer, Note::Binary(frame.payload)),
                Opcode::Ping => {
                    let payload = frame.payload.to_vec();
                    self.send_frame(peer, Opcode::Pong, &payload);
                }
                Opcode::Close => {
                    let (code, _) = wire::parse_close(frame.payload);
                    self.send_frame(peer, Opcode::Close, &wire::close_payload(code, ""));
                    self.end(peer, code, told);
                    return false;
                }
                _ => {}
            }
        }
        if let Some(Some(connection)) = self.connections.get_mut(peer) {
            connection.keep(&self.buffer[at..filled]);
        }
        true
    }

    fn end(&mut self, peer: Peer, code: u16, told: &mut impl FnMut(Peer, Note<'_>)) {
        self.connections[peer] = None;
        told(peer, Note::Closed(code));
    }
}

/// `connect` on a socket that does not block, on Linux.
const EINPROGRESS: i32 = 115;

impl Connection {
    fn keep(&mut self, rest: &[u8]) {
        self.part.clear();
        if rest.is_empty() {
            self.part.shrink_to(4096);
        } else {
            self.part.extend_from_slice(rest);
        }
    }

    /// Sends the request for the upgrade.
    fn ask(&mut self, request: &[u8]) -> io::Result<()> {
        match &mut self.tls {
            None => self.stream.write_all(request),
            Some(tls) => {
                tls.writer().write_all(request)?;
                self.send_sealed();
                Ok(())
            }
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else { return self.stream.read(buffer) };
        loop {
            match tls.reader().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return read,
            }
            if tls.read_tls(&mut self.stream)? == 0 {
                return Ok(0);
            }
            tls.process_new_packets().map_err(io::Error::other)?;
            while tls.wants_write() && tls.write_tls(&mut self.stream).is_ok() {}
        }
    }

    /// Sends what TLS has sealed. Full or broken: as in `flush`.
    fn send_sealed(&mut self) {
        if let Some(tls) = &mut self.tls {
            while tls.wants_write() && tls.write_tls(&mut self.stream).is_ok() {}
        }
    }

    fn flush(&mut self) {
        if let Some(tls) = &mut self.tls {
            // Nothing is bounded here: what a scenario sends is.
            let _ = tls.writer().write_all(&self.out);
            self.out = Vec::new();
            self.send_sealed();
            return;
        }
        while !self.out.is_empty() {
            match self.stream.write(&self.out) {
                Ok(len) => {
                    self.out.drain(..len);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Full: epoll tells when to go on. Broken: reading tells it.
                Err(_) => return,
            }
        }
        self.out = Vec::new();
    }
}
