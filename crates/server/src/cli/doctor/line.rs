//! One connection to a server, for looking at every step: the address, TLS, the upgrade, each frame.
//!
//! It waits in the thread that asks, and never longer than it was told to. Nothing is sent but what the examination says,
//! and the pongs that the protocol owes.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pulsewire_client::handshake::Handshake;
use pulsewire_client::http1::{self, Head};
use pulsewire_client::wire::{self, Assembler, Opcode};
use pulsewire_client::{Endpoint, Random, Trust};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConnection, StreamOwned};

/// How long connecting, a handshake or an answer may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// How long the last words may take.
const LEAVE_WAIT: Duration = Duration::from_secs(1);
/// The longest message taken.
const MESSAGE_BYTES_MAX: usize = 1 << 20;

trait Duplex: Read + Write + Send {}
impl<T: Read + Write + Send> Duplex for T {}

/// An open connection.
pub(super) struct Line {
    stream: Box<dyn Duplex>,
    /// The same socket, for its time-outs.
    socket: TcpStream,
    input: Vec<u8>,
    assembler: Assembler,
    random: Random,
    /// How long TCP took.
    pub(super) connected_in: Duration,
    /// When the server's certificate ends, if there is one, in Unix seconds.
    pub(super) expiry_seconds: Option<u64>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoLine {
    /// Nobody answers.
    #[error("{0}")]
    Unreachable(String),
    /// The server is not the one it should be, or speaks no TLS.
    #[error("{0}")]
    Tls(String),
}

/// What came.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    Text(String),
    Binary(Vec<u8>),
    Ping,
    Pong,
    /// The server's close frame.
    Closed(u16, String),
    /// The connection ended without one.
    Ended(String),
    /// Nothing, in the time there was.
    Silence,
}

impl Line {
    /// Connects, with TLS if the URL asks for it.
    pub(super) fn open(endpoint: &Endpoint, trust: &Trust) -> Result<Line, NoLine> {
        let begun = Instant::now();
        let socket = connect(endpoint).map_err(|error| NoLine::Unreachable(error.to_string()))?;
        let connected_in = begun.elapsed();
        let (copy, random) = (socket.try_clone(), Random::default());
        let copy = copy.map_err(|error| NoLine::Unreachable(error.to_string()))?;
        let (stream, expiry_seconds): (Box<dyn Duplex>, _) = if endpoint.is_secure() {
            let (stream, leaf) = secure(endpoint, trust, socket)?;
            (Box::new(stream), leaf.and_then(|leaf| crate::tls::expiry_seconds(&leaf).ok()))
        } else {
            (Box::new(socket), None)
        };
        Ok(Line {
            stream,
            socket: copy,
            input: Vec::new(),
            assembler: Assembler::default(),
            random,
            connected_in,
            expiry_seconds,
        })
    }

    /// Asks for an upgrade.
    pub(super) fn upgrade(&mut self, endpoint: &Endpoint, token: Option<&str>) -> io::Result<(Head, bool)> {
        let handshake = Handshake::new(*b"pulsewire doctor");
        self.write(&handshake.request(endpoint, token))?;
        let head = self.head()?;
        self.input.drain(..head.len_bytes);
        let opened = handshake.check(&head).is_ok();
        Ok((head, opened))
    }

    /// One request with its whole answer.
    pub(super) fn request(
        &mut self,
        endpoint: &Endpoint,
        target: &str,
        token: Option<&str>,
    ) -> io::Result<(Head, Vec<u8>)> {
        let head = self.begin(endpoint, target, token)?;
        let until = Instant::now() + PATIENCE;
        let mut ended = false;
        loop {
            if let Some((body, len)) = head.body(&self.input, ended).map_err(io::Error::other)? {
                self.input.drain(..len);
                return Ok((head, body));
            }
            if ended {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            ended = self.read(until)? == 0;
        }
    }

    /// One request and the head of its answer; the body is in [`Line::input`] as it comes.
    pub(super) fn begin(
        &mut self,
        endpoint: &Endpoint,
        target: &str,
        token: Option<&str>,
    ) -> io::Result<Head> {
        let mut headers = vec!["Accept: */*".to_owned()];
        headers.extend(token.map(|token| format!("Authorization: Bearer {token}")));
        self.write(&http1::write_request("GET", target, &endpoint.authority(), &headers, b""))?;
        let head = self.head()?;
        self.input.drain(..head.len_bytes);
        Ok(head)
    }

    /// What has come of a body, unframed.
    pub(super) fn input(&self) -> &[u8] {
        &self.input
    }

    /// Waits for more of a body, at most until then; 0 at its end.
    pub(super) fn read(&mut self, until: Instant) -> io::Result<usize> {
        let mut block = [0; 16 * 1024];
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.socket.set_read_timeout(Some(left))?;
            match self.stream.read(&mut block) {
                Ok(len) => {
                    self.input.extend_from_slice(&block[..len]);
                    return Ok(len);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends a text message.
    pub(super) fn say(&mut self, text: &str) -> io::Result<()> {
        self.send(Opcode::Text, text.as_bytes())
    }

    /// Sends a ping.
    pub(super) fn ping(&mut self) -> io::Result<()> {
        self.send(Opcode::Ping, b"pulsewire doctor")
    }

    /// Closes in order, so that no session waits for this client to come back.
    pub(super) fn leave(mut self) {
        let until = Instant::now() + LEAVE_WAIT;
        // A connection that is gone already needs no goodbye.
        if self.send(Opcode::Close, &wire::close_payload(1000, "")).is_ok() {
            while !matches!(self.hear(until), Heard::Closed(..) | Heard::Ended(_) | Heard::Silence) {}
        }
    }

    /// The next thing that comes, at most until then. Pings are answered, and told.
    pub(super) fn hear(&mut self, until: Instant) -> Heard {
        loop {
            match self.next() {
                Ok(Some(heard)) => return heard,
                Ok(None) => {}
                Err(why) => return Heard::Ended(why),
            }
            match self.read(until) {
                Ok(0) => return Heard::Ended("closed without a close frame".to_owned()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::TimedOut => return Heard::Silence,
                Err(error) => return Heard::Ended(error.to_string()),
            }
        }
    }

    fn next(&mut self) -> Result<Option<Heard>, String> {
        loop {
            let decoded = wire::decode(&self.input, MESSAGE_BYTES_MAX).map_err(|error| error.to_string())?;
            let Some((frame, len)) = decoded else { return Ok(None) };
            let heard = match frame.opcode {
                Opcode::Pong => Some(Heard::Pong),
                Opcode::Ping => {
                    let payload = frame.payload.to_vec();
                    self.send(Opcode::Pong, &payload).map_err(|error| error.to_string())?;
                    Some(Heard::Ping)
                }
                Opcode::Close => {
                    let (code, reason) = wire::parse_close(frame.payload);
                    Some(Heard::Closed(code, reason))
                }
                _ => {
                    let whole = self.assembler.push(frame, MESSAGE_BYTES_MAX);
                    whole.map_err(|error| error.to_string())?.map(|(opcode, payload)| match opcode {
                        Opcode::Text => Heard::Text(String::from_utf8_lossy(payload).into_owned()),
                        _ => Heard::Binary(payload.to_vec()),
                    })
                }
            };
            self.input.drain(..len);
            if heard.is_some() {
                return Ok(heard);
            }
        }
    }

    fn send(&mut self, opcode: Opcode, payload: &[u8]) -> io::Result<()> {
        let mut frame = Vec::new();
        wire::encode(opcode, payload, self.random.mask(), &mut frame);
        self.write(&frame)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.socket.set_write_timeout(Some(PATIENCE))?;
        self.stream.write_all(bytes)?;
        self.stream.flush()
    }

    fn head(&mut self) -> io::Result<Head> {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(head) = http1::parse_head(&self.input).map_err(io::Error::other)? {
                return Ok(head);
            }
            if self.read(until)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

/// The first address that takes a connection.
fn connect(endpoint: &Endpoint) -> io::Result<TcpStream> {
    let addresses: Vec<SocketAddr> = (endpoint.host(), endpoint.port()).to_socket_addrs()?.collect();
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(socket) => {
                socket.set_nodelay(true)?;
                socket.set_read_timeout(Some(PATIENCE))?;
                return Ok(socket);
            }
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

type Secured = (StreamOwned<ClientConnection, TcpStream>, Option<CertificateDer<'static>>);

fn secure(endpoint: &Endpoint, trust: &Trust, mut socket: TcpStream) -> Result<Secured, NoLine> {
    let config = trust.config().map_err(|error| NoLine::Tls(error.to_string()))?;
    let name = ServerName::try_from(endpoint.host().to_owned())
        .map_err(|_| NoLine::Tls(format!("{:?} is no name a certificate can have", endpoint.host())))?;
    let tls = ClientConnection::new(Arc::clone(&config), name);
    let mut tls = tls.map_err(|error| NoLine::Tls(error.to_string()))?;
    while tls.is_handshaking() {
        tls.complete_io(&mut socket).map_err(|error| NoLine::Tls(error.to_string()))?;
    }
    let leaf = tls.peer_certificates().and_then(|chain| chain.first()).map(|leaf| leaf.clone().into_owned());
    Ok((StreamOwned::new(tls, socket), leaf))
}
