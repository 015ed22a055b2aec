//! A connection to a server, with TLS if its URL asks for it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::trust::Trust;
use crate::url::Endpoint;

/// Bytes both ways.
trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// An open connection.
pub struct Stream(Box<dyn Duplex>);

/// Why there is none.
#[derive(Debug)]
pub enum ConnectError {
    /// Nobody listens, or the connection broke.
    Io(io::Error),
    /// The server is not the one it should be, or speaks no TLS.
    Tls(String),
}

impl From<io::Error> for ConnectError {
    fn from(error: io::Error) -> ConnectError {
        ConnectError::Io(error)
    }
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Stream")
    }
}

impl Stream {
    /// Connects and, for `wss://` and `https://`, checks that the server is who its URL says.
    pub(crate) async fn connect(endpoint: &Endpoint, trust: &Trust) -> Result<Stream, ConnectError> {
        let tcp = TcpStream::connect((endpoint.host(), endpoint.port())).await?;
        if endpoint.is_secure() {
            Stream::secure(tcp, endpoint.host(), trust).await
        } else {
            Stream::plain(tcp)
        }
    }

    /// A connection that is there, as it is.
    ///
    /// # Errors
    ///
    /// If it is no longer there.
    pub fn plain(tcp: TcpStream) -> Result<Stream, ConnectError> {
        tcp.set_nodelay(true)?;
        Ok(Stream(Box::new(tcp)))
    }

    /// A connection that is there, with TLS: its certificate has to be one of `host`, a name or an address.
    ///
    /// # Errors
    ///
    /// If it is no longer there, or the peer is not who it should be.
    pub async fn secure(tcp: TcpStream, host: &str, trust: &Trust) -> Result<Stream, ConnectError> {
        tcp.set_nodelay(true)?;
        let config = trust.config().map_err(|error| ConnectError::Tls(error.to_string()))?;
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| ConnectError::Tls(format!("{host:?} is no name a certificate can have")))?;
        match TlsConnector::from(config).connect(name, tcp).await {
            Ok(stream) => Ok(Stream(Box::new(stream))),
            Err(error) => match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
                Some(refusal) => Err(ConnectError::Tls(refusal.to_string())),
                None => Err(ConnectError::Io(error)),
            },
        }
    }

    /// Appends what comes next; 0 at the end.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no byte.
    pub(crate) async fn read_into(&mut self, input: &mut Vec<u8>) -> io::Result<usize> {
        self.0.read_buf(input).await
    }

    /// Appends what has come; 0 at the end.
    pub(crate) fn poll_read_into(
        &mut self,
        context: &mut Context<'_>,
        input: &mut Vec<u8>,
    ) -> Poll<io::Result<usize>> {
        let mut chunk = [const { std::mem::MaybeUninit::uninit() }; 16 * 1024];
        let mut chunk = ReadBuf::uninit(&mut chunk);
        Pin::new(&mut self.0).poll_read(context, &mut chunk).map_ok(|()| {
            input.extend_from_slice(chunk.filled());
            chunk.filled().len()
        })
    }

    /// Writes some; how much.
    pub(crate) fn poll_write(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    /// Writes what was taken down to the kernel.
    pub(crate) fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    /// Writes everything, down to the kernel.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes).await?;
        self.0.flush().await
    }
}
