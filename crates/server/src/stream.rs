//! What a connection is to HTTP: a TCP socket, or one with TLS on it.
//!
//! The TLS half holds no buffer while it waits: ciphertext is read onto the stack, and what the shard gets
//! when it takes the connection over is the socket, the TLS state and what was decrypted but not read.

use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes, BytesMut};
use pulsewire_edge::tls::{self, ServerConfig, Tls};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;

/// What the handshake of a client begins with (RFC 8446 §5.1: `handshake`).
const HANDSHAKE: u8 = 22;
/// The answer to a client that speaks HTTP where TLS is spoken.
const NOT_TLS: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\
    \r\nthis address speaks TLS: use https:// or wss://\n";

/// An accepted connection.
pub enum Stream {
    /// As it is.
    Plain(TcpStream),
    /// With TLS.
    Secure(Box<SecureStream>),
}

/// A connection with TLS, its handshake complete.
pub struct SecureStream {
    tcp: TcpStream,
    tls: Box<Tls>,
    /// Decrypted and not yet read.
    plain: BytesMut,
    /// The peer has shut down its side, with or without a word.
    ended: bool,
}

/// Why a TLS handshake was not completed.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// It ended before its first byte: somebody looked whether there is a server.
    #[error("the client said nothing")]
    Silent,
    /// It speaks something else.
    #[error("the client does not speak TLS")]
    NotTls,
    /// It broke off.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It cannot or will not speak TLS with us.
    #[error(transparent)]
    Tls(#[from] tls::Error),
}

impl SecureStream {
    /// Performs the handshake.
    ///
    /// # Errors
    ///
    /// If the client goes away, or does not speak TLS with us; it has been told why then.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the connection.
    pub async fn accept(tcp: TcpStream, config: Arc<ServerConfig>) -> Result<Self, HandshakeError> {
        let mut stream = Self { tcp, tls: Box::new(Tls::new(config)?), plain: BytesMut::new(), ended: false };
        let mut first = None;
        loop {
            stream.tcp.readable().await?;
            let read = stream.pull(&mut first);
            // An alert goes out too; whether it arrives changes nothing.
            let sent = stream.send().await;
            match read {
                Err(HandshakeError::Io(error)) if error.kind() == ErrorKind::WouldBlock => {}
                Err(HandshakeError::NotTls) => {
                    // Being told is all that this client gets.
                    let _ = stream.tcp.write_all(NOT_TLS).await;
                    let _ = stream.tcp.shutdown().await;
                    return Err(HandshakeError::NotTls);
                }
                Err(error) => {
                    let _ = stream.tcp.shutdown().await;
                    return Err(error);
                }
                Ok(()) if stream.ended && first.is_none() => return Err(HandshakeError::Silent),
                Ok(()) if stream.ended && stream.tls.is_handshaking() => {
                    return Err(io::Error::from(ErrorKind::UnexpectedEof).into());
                }
                Ok(()) => {}
            }
            sent?;
            if !stream.tls.is_handshaking() {
                return Ok(stream);
            }
        }
    }

    async fn send(&mut self) -> io::Result<()> {
        std::future::poll_fn(|context| self.poll_send(context)).await
    }

    /// Takes what the kernel has and decrypts it. `first` becomes the first byte that ever came.
    fn pull(&mut self, first: &mut Option<u8>) -> Result<(), HandshakeError> {
        let mut input = [0; tls::INPUT_BYTES_MIN];
        let kept = self.tls.unread_bytes();
        let came = self.tcp.try_read(&mut input[kept..])?;
        self.ended |= came == 0;
        if first.is_none() && came > 0 && *first.insert(input[0]) != HANDSHAKE {
            return Err(HandshakeError::NotTls);
        }
        let plain = &mut self.plain;
        self.tls.open(&mut input[..kept + came], |part| plain.extend_from_slice(part))?;
        self.ended |= self.tls.has_ended();
        Ok(())
    }

    /// Sends what is sealed and waits.
    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.tls.unsent().is_empty() {
            ready!(self.tcp.poll_write_ready(context))?;
            match self.tcp.try_write(self.tls.unsent()) {
                Ok(0) => return Poll::Ready(Err(ErrorKind::WriteZero.into())),
                Ok(taken) => self.tls.sent(taken),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.plain.is_empty() && !self.ended {
            ready!(self.tcp.poll_read_ready(context))?;
            match self.pull(&mut Some(HANDSHAKE)) {
                Err(HandshakeError::Io(error)) if error.kind() == ErrorKind::WouldBlock => {}
                Err(HandshakeError::Io(error)) => return Poll::Ready(Err(error)),
                Err(error) => {
                    let _ = self.poll_send(context);
                    return Poll::Ready(Err(io::Error::new(ErrorKind::InvalidData, error)));
                }
                // An answer to new keys; it goes with the next write at the latest.
                Ok(()) => {
                    let _ = self.poll_send(context)?;
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl Stream {
    /// The socket.
    #[must_use]
    pub fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Secure(stream) => &stream.tcp,
        }
    }

    /// The parts for a shard: the socket, the TLS state, and what was decrypted and not read.
    #[must_use]
    pub fn into_parts(self) -> (TcpStream, Option<Box<Tls>>, Bytes) {
        match self {
            Self::Plain(tcp) => (tcp, None, Bytes::new()),
            Self::Secure(stream) => (stream.tcp, Some(stream.tls), stream.plain.freeze()),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_read(context, into),
            Self::Secure(stream) => {
                ready!(stream.poll_fill(context))?;
                let len = stream.plain.len().min(into.remaining());
                into.put_slice(&stream.plain[..len]);
                stream.plain.advance(len);
                if stream.plain.is_empty() {
                    stream.plain = BytesMut::new();
                }
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_write(context, bytes),
            Self::Secure(stream) => {
                // A record at a time: what waits in memory is never more.
                ready!(stream.poll_send(context))?;
                let part = &bytes[..bytes.len().min(tls::RECORD_BYTES_MAX)];
                let mut sealed = [0; tls::SEALED_BYTES_MAX];
                let len = stream.tls.seal(part, &mut sealed).map_err(io::Error::other)?;
                stream.tls.keep(&sealed[..len]);
                if let Poll::Ready(Err(error)) = stream.poll_send(context) {
                    return Poll::Ready(Err(error));
                }
                Poll::Ready(Ok(part.len()))
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_flush(context),
            Self::Secure(stream) => stream.poll_send(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_shutdown(context),
            Self::Secure(stream) => {
                stream.tls.seal_end();
                ready!(stream.poll_send(context))?;
                Pin::new(&mut stream.tcp).poll_shutdown(context)
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(tcp) => tcp.is_write_vectored(),
            Self::Secure(_) => false,
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_write_vectored(context, slices),
            secure => {
                let first = slices.iter().find(|slice| !slice.is_empty());
                Pin::new(secure).poll_write(context, first.map_or(&[], |slice| &**slice))
            }
        }
    }
}
