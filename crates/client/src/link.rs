//! One open WebSocket: bytes in, messages out.
//!
//! The read buffer is kept between reads and drained by whole frames, so a dropped read loses nothing.

use std::time::Duration;

use crate::handshake::{Handshake, Refused};
use crate::http1;
use crate::random::Random;
use crate::state::Reason;
use crate::stream::{ConnectError, Stream};
use crate::trust::Trust;
use crate::url::Endpoint;
use crate::wire::{self, Assembler, Opcode, WireError};

/// The longest message taken from a server: 16 MiB.
const MESSAGE_BYTES_MAX: usize = 16 << 20;

#[derive(Debug)]
pub(crate) struct Link {
    stream: Stream,
    input: Vec<u8>,
    read_to: usize,
    assembler: Assembler,
}

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
        endpoint: &Endpoint,
        trust: &Trust,
        token: Option<&str>,
        random: &mut Random,
    ) -> Result<Link, (Reason, RetryAdvice)> {
        let unreachable = |error: std::io::Error| {
            (Reason::Unreachable(format!("cannot reach {}: {error}", endpoint.authority())), None)
        };
        let mut stream = Stream::connect(endpoint, trust).await.map_err(|error| match error {
            ConnectError::Io(error) => unreachable(error),
            ConnectError::Tls(why) => (Reason::Tls(why), None),
        })?;
        let handshake = Handshake::new(random.nonce());
        stream.write(&handshake.request(endpoint, token)).await.map_err(unreachable)?;
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
        Ok(Link { stream, input, read_to: head.len_bytes, assembler: Assembler::default() })
    }

    /// Waits for more bytes; `false` at the end of the stream.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no byte.
    pub(crate) async fn fill(&mut self) -> std::io::Result<bool> {
        if self.read_to > 0 {
            self.input.drain(..self.read_to);
            self.read_to = 0;
        }
        if self.input.capacity() - self.input.len() < 4096 {
            self.input.reserve(16 * 1024);
        }
        Ok(self.stream.read_into(&mut self.input).await? > 0)
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

    pub(crate) async fn text(&mut self, text: &str, random: &mut Random) -> std::io::Result<()> {
        self.send(Opcode::Text, text.as_bytes(), random).await
    }

    pub(crate) async fn send(
        &mut self,
        opcode: Opcode,
        payload: &[u8],
        random: &mut Random,
    ) -> std::io::Result<()> {
        let mut frame = Vec::with_capacity(payload.len() + 14);
        wire::encode(opcode, payload, random.mask(), &mut frame);
        self.stream.write(&frame).await
    }
}
