//! One open WebSocket: bytes in, messages out.
//!
//! The read buffer is kept between reads and drained by whole frames, so a dropped read loses nothing. What is to be
//! written waits in a buffer of its own and goes out beside the reading, so a server that reads nothing does not keep
//! the client from noticing that it is gone.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::timeout;

use crate::handshake::{Handshake, Refused};
use crate::http1;
use crate::random::Random;
use crate::reason::Reason;
use crate::stream::{ConnectError, Stream};
use crate::trust::Trust;
use crate::url::Endpoint;
use crate::wire::{self, Assembler, Opcode, WireError};

/// The longest message taken from a server: 16 MiB.
const MESSAGE_BYTES_MAX: usize = 16 << 20;
/// While more than this waits to be written nothing is read: what is read may have to be answered.
const OUTPUT_BYTES_MAX: usize = 2 << 20;
/// How long the last words of a connection may take.
const LEAVE_WAIT: Duration = Duration::from_secs(1);

/// One open WebSocket.
#[derive(Debug)]
pub struct Link {
    stream: Stream,
    message_bytes_max: usize,
    input: Vec<u8>,
    read_to: usize,
    assembler: Assembler,
    output: Vec<u8>,
    written_to: usize,
}

/// What opening a connection will give.
pub(crate) type Opening = Pin<Box<dyn Future<Output = Result<Link, (Reason, RetryAdvice)>> + Send>>;

/// What a frame meant.
#[derive(Debug, PartialEq, Eq)]
pub enum Read {
    /// A text message.
    Text(String),
    /// A binary message; from Pulsewire, metric data that was asked for with `compression`.
    Binary(Vec<u8>),
    /// The server asks whether we are there: answer with a pong of the same payload.
    Ping(Vec<u8>),
    /// The server is there.
    Pong,
    /// The server closes.
    Close {
        /// Why (RFC 6455 §7.4); 1005 if it did not say.
        code: u16,
        /// Why, in words.
        reason: String,
    },
}

/// How a WebSocket of any server is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Upgrade<'a> {
    /// The path and query.
    pub target: &'a str,
    /// The value of `Host`.
    pub authority: &'a str,
    /// Further header lines, without their line ends.
    pub headers: &'a [String],
    /// The subprotocol that is asked for and has to be agreed to.
    pub protocol: Option<&'a str>,
    /// The longest message that is taken, bytes.
    pub message_bytes_max: usize,
}

/// Why a connection did not become a WebSocket.
#[derive(Debug)]
pub enum UpgradeError {
    /// It broke.
    Io(io::Error),
    /// It ended before the answer did.
    Ended,
    /// The answer is none of HTTP/1.1.
    Http(http1::HttpError),
    /// The server said no.
    Refused(Refused),
}

/// How long a refused client should stay away, when the server said so.
pub(crate) type RetryAdvice = Option<Duration>;

impl Link {
    /// Connects and upgrades.
    pub(crate) async fn open(
        endpoint: Endpoint,
        trust: Trust,
        token: Option<String>,
        nonce: [u8; 16],
    ) -> Result<Link, (Reason, RetryAdvice)> {
        let unreachable = |error: std::io::Error| {
            (Reason::Unreachable(format!("cannot reach {}: {error}", endpoint.authority())), None)
        };
        let mut stream = Stream::connect(&endpoint, &trust).await.map_err(|error| match error {
            ConnectError::Io(error) => unreachable(error),
            ConnectError::Tls(why) => (Reason::Tls(why), None),
        })?;
        let handshake = Handshake::new(nonce);
        stream.write(&handshake.request(&endpoint, token.as_deref())).await.map_err(unreachable)?;
        let mut input = Vec::with_capacity(4096);
        let head = answer(&mut stream, &mut input).await.map_err(|error| match error {
            UpgradeError::Io(error) => unreachable(error),
            UpgradeError::Ended => (Reason::Closed { code: 1006, reason: String::new() }, None),
            UpgradeError::Http(error) => (Reason::Protocol(error.to_string()), None),
            UpgradeError::Refused(refused) => (Reason::Protocol(refused.to_string()), None),
        })?;
        handshake.check(&head).map_err(|refused| match refused {
            Refused::Status { status, retry_after_ms } => {
                (Reason::Refused(status), retry_after_ms.map(Duration::from_millis))
            }
            Refused::Accept | Refused::Agreed { .. } => (Reason::Protocol(refused.to_string()), None),
        })?;
        Ok(Link::begun(stream, input, head.len_bytes, MESSAGE_BYTES_MAX))
    }

    /// Asks any server for a WebSocket, over a connection that is there.
    ///
    /// # Errors
    ///
    /// [`UpgradeError`].
    pub async fn upgrade(
        mut stream: Stream,
        upgrade: &Upgrade<'_>,
        nonce: [u8; 16],
    ) -> Result<Link, UpgradeError> {
        let handshake = Handshake::new(nonce);
        let mut headers = upgrade.headers.to_vec();
        headers.extend(upgrade.protocol.map(|protocol| format!("Sec-WebSocket-Protocol: {protocol}")));
        let request = handshake.request_with(upgrade.target, upgrade.authority, &headers);
        stream.write(&request).await.map_err(UpgradeError::Io)?;
        let mut input = Vec::with_capacity(4096);
        let head = answer(&mut stream, &mut input).await?;
        handshake.check(&head).map_err(UpgradeError::Refused)?;
        handshake.check_agreed(&head, upgrade.protocol).map_err(UpgradeError::Refused)?;
        Ok(Link::begun(stream, input, head.len_bytes, upgrade.message_bytes_max))
    }

    fn begun(stream: Stream, input: Vec<u8>, read_to: usize, message_bytes_max: usize) -> Link {
        Link {
            stream,
            message_bytes_max,
            input,
            read_to,
            assembler: Assembler::default(),
            output: Vec::new(),
            written_to: 0,
        }
    }

    /// Writes what waits and waits for more bytes; `false` at the end of the stream.
    ///
    /// # Errors
    ///
    /// If the connection breaks.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no byte.
    pub async fn turn(&mut self) -> io::Result<bool> {
        if self.read_to > 0 {
            self.input.drain(..self.read_to);
            self.read_to = 0;
        }
        std::future::poll_fn(|context| {
            let blocked = self.poll_write(context)?.is_pending();
            if blocked && self.output.len() - self.written_to > OUTPUT_BYTES_MAX {
                return Poll::Pending;
            }
            self.stream.poll_read_into(context, &mut self.input).map_ok(|read| read > 0)
        })
        .await
    }

    fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written_to < self.output.len() {
            let written = ready!(self.stream.poll_write(context, &self.output[self.written_to..]))?;
            self.written_to += written;
        }
        self.output.clear();
        self.written_to = 0;
        self.stream.poll_flush(context)
    }

    /// The next whole message or control frame among the bytes read so far.
    ///
    /// # Errors
    ///
    /// If the server breaks the protocol, or sends a longer message than is taken.
    pub fn next_message(&mut self) -> Result<Option<Read>, WireError> {
        while let Some((frame, len)) = wire::decode(&self.input[self.read_to..], self.message_bytes_max)? {
            let read = match frame.opcode {
                Opcode::Ping => Some(Read::Ping(frame.payload.to_vec())),
                Opcode::Pong => Some(Read::Pong),
                Opcode::Close => {
                    let (code, reason) = wire::parse_close(frame.payload);
                    Some(Read::Close { code, reason })
                }
                _ => self.assembler.push(frame, self.message_bytes_max)?.map(
                    |(opcode, payload)| match opcode {
                        Opcode::Text => Read::Text(String::from_utf8_lossy(payload).into_owned()),
                        _ => Read::Binary(payload.to_vec()),
                    },
                ),
            };
            self.read_to += len;
            if read.is_some() {
                return Ok(read);
            }
        }
        Ok(None)
    }

    /// Queues a text message.
    pub fn text(&mut self, text: &str, random: &mut Random) {
        self.send(Opcode::Text, text.as_bytes(), random);
    }

    /// Queues a frame.
    pub fn send(&mut self, opcode: Opcode, payload: &[u8], random: &mut Random) {
        wire::encode(opcode, payload, random.mask(), &mut self.output);
    }

    /// Writes what waits and a close frame, whoever goes on meanwhile. It takes a second at most.
    pub fn leave(mut self, payload: &[u8], random: &mut Random) {
        self.send(Opcode::Close, payload, random);
        tokio::spawn(async move {
            let written = std::future::poll_fn(|context| self.poll_write(context));
            let _ = timeout(LEAVE_WAIT, written).await;
        });
    }

    /// Writes what waits and a close frame with 1000, and waits for the server's. It takes a second at most.
    pub(crate) async fn say_goodbye(mut self, random: &mut Random) {
        self.send(Opcode::Close, &wire::close_payload(1000, ""), random);
        let answered = async {
            loop {
                match self.next_message() {
                    Ok(Some(Read::Close { .. })) | Err(_) => return,
                    Ok(Some(_)) => {}
                    Ok(None) => match self.turn().await {
                        Ok(true) => {}
                        Ok(false) | Err(_) => return,
                    },
                }
            }
        };
        let _ = timeout(LEAVE_WAIT, answered).await;
    }
}

/// Reads the head of the answer to an upgrade; what follows it stays in `input`.
async fn answer(stream: &mut Stream, input: &mut Vec<u8>) -> Result<http1::Head, UpgradeError> {
    loop {
        if let Some(head) = http1::parse_head(input).map_err(UpgradeError::Http)? {
            return Ok(head);
        }
        if stream.read_into(input).await.map_err(UpgradeError::Io)? == 0 {
            return Err(UpgradeError::Ended);
        }
    }
}
