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

#[derive(Debug)]
pub(crate) struct Link {
    stream: Stream,
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
pub(crate) enum Read {
    Text(String),
    /// A message in MessagePack: metric data that was asked for with `compression`.
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong,
    Close {
        code: u16,
        reason: String,
    },
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
        let head = loop {
            if let Some(head) =
                http1::parse_head(&input).map_err(|error| (Reason::Protocol(error.to_string()), None))?
            {
                break head;
            }
            if stream.read_into(&mut input).await.map_err(unreachable)? == 0 {
                return Err((Reason::Closed { code: 1006, reason: String::new() }, None));
            }
        };
        handshake.check(&head).map_err(|refused| match refused {
            Refused::Status { status, retry_after_ms } => {
                (Reason::Refused(status), retry_after_ms.map(Duration::from_millis))
            }
            Refused::Accept => (Reason::Protocol(refused.to_string()), None),
        })?;
        Ok(Link {
            stream,
            input,
            read_to: head.len_bytes,
            assembler: Assembler::default(),
            output: Vec::new(),
            written_to: 0,
        })
    }

    /// Writes what waits and waits for more bytes; `false` at the end of the stream.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no byte.
    pub(crate) async fn turn(&mut self) -> io::Result<bool> {
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
    pub(crate) fn next(&mut self) -> Result<Option<Read>, WireError> {
        while let Some((frame, len)) = wire::decode(&self.input[self.read_to..], MESSAGE_BYTES_MAX)? {
            let read = match frame.opcode {
                Opcode::Ping => Some(Read::Ping(frame.payload.to_vec())),
                Opcode::Pong => Some(Read::Pong),
                Opcode::Close => {
                    let (code, reason) = wire::parse_close(frame.payload);
                    Some(Read::Close { code, reason })
                }
                _ => self.assembler.push(frame, MESSAGE_BYTES_MAX)?.map(|(opcode, payload)| match opcode {
                    Opcode::Text => Read::Text(String::from_utf8_lossy(payload).into_owned()),
                    _ => Read::Binary(payload.to_vec()),
                }),
            };
            self.read_to += len;
            if read.is_some() {
                return Ok(read);
            }
        }
        Ok(None)
    }

    /// Queues a text message.
    pub(crate) fn text(&mut self, text: &str, random: &mut Random) {
        self.send(Opcode::Text, text.as_bytes(), random);
    }

    /// Queues a frame.
    pub(crate) fn send(&mut self, opcode: Opcode, payload: &[u8], random: &mut Random) {
        wire::encode(opcode, payload, random.mask(), &mut self.output);
    }

    /// Writes what waits and a close frame, whoever goes on meanwhile. It takes a second at most.
    pub(crate) fn leave(mut self, payload: &[u8], random: &mut Random) {
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
                match self.next() {
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
