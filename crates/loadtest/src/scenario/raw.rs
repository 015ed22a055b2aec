//! A connection that writes what it is told, right or wrong.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use pulsewire_client::wire;
use socket2::SockRef;

use crate::target::Target;

/// Longer than anything takes that does not fail.
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) struct Raw {
    stream: TcpStream,
    request: std::sync::Arc<[u8]>,
    buffer: Vec<u8>,
}

impl Raw {
    pub(super) fn connect(target: &Target) -> anyhow::Result<Raw> {
        let entry = target.entry();
        let stream = TcpStream::connect(entry.address())?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Raw { stream, request: entry.request(), buffer: Vec::new() })
    }

    /// Sends the first half of a request and no more.
    pub(super) fn half_a_handshake(&mut self) -> anyhow::Result<()> {
        Ok(self.stream.write_all(&self.request[..self.request.len() / 2])?)
    }

    /// Becomes a WebSocket.
    pub(super) fn upgrade(&mut self) -> anyhow::Result<()> {
        self.stream.write_all(&self.request)?;
        let end = loop {
            if let Some(end) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            ensure!(self.fill()? > 0, "closed before an answer");
        };
        ensure!(
            self.buffer.starts_with(b"HTTP/1.1 101"),
            "not upgraded: {}",
            String::from_utf8_lossy(&self.buffer)
        );
        self.buffer.drain(..end);
        Ok(())
    }

    fn fill(&mut self) -> anyhow::Result<usize> {
        let mut block = [0; 16 * 1024];
        let len = self.stream.read(&mut block)?;
        self.buffer.extend_from_slice(&block[..len]);
        Ok(len)
    }

    pub(super) fn send(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        Ok(self.stream.write_all(bytes)?)
    }

    /// Writes a masked frame; `first` is its whole first byte.
    pub(super) fn frame(&mut self, first: u8, payload: &[u8]) -> anyhow::Result<()> {
        let mut bytes = Vec::with_capacity(payload.len() + 14);
        wire::encode(wire::Opcode::Text, payload, [0; 4], &mut bytes);
        bytes[0] = first;
        self.send(&bytes)
    }

    /// The next text message.
    pub(super) fn text(&mut self) -> anyhow::Result<String> {
        loop {
            match wire::decode(&self.buffer, 1 << 20) {
                Ok(Some((frame, len))) => {
                    let found = match frame.opcode {
                        wire::Opcode::Text => Some(String::from_utf8_lossy(frame.payload).into_owned()),
                        wire::Opcode::Close => bail!("closed with {}", wire::parse_close(frame.payload).0),
                        _ => None,
                    };
                    self.buffer.drain(..len);
                    if let Some(text) = found {
                        return Ok(text);
                    }
                }
                Ok(None) => ensure!(self.fill()? > 0, "closed without a word"),
                Err(error) => bail!("not a frame: {error:?}"),
            }
        }
    }

    /// The code with which the server closes.
    pub(super) fn close_code(&mut self) -> anyhow::Result<u16> {
        let error = loop {
            if let Err(error) = self.text() {
                break error.to_string();
            }
        };
        error.strip_prefix("closed with ").and_then(|code| code.parse().ok()).context(error)
    }

    /// Vanishes without a word: the peer gets a reset.
    pub(super) fn reset(self) {
        // Without it the end is a FIN, which is as good an end.
        let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }

    pub(super) fn half_close(&mut self) -> anyhow::Result<()> {
        Ok(self.stream.shutdown(Shutdown::Write)?)
    }

    /// Reads until the server ends.
    pub(super) fn rest(&mut self) -> anyhow::Result<()> {
        while self.fill()? > 0 {}
        Ok(())
    }
}
