//! TLS on one connection, without I/O: ciphertext in, plaintext out, and back.
//!
//! The same state serves the handshake and HTTP on tokio and then the shard, so nothing is lost when a
//! connection changes hands. It is rustls's unbuffered connection, which holds keys and no buffers: what
//! is kept here is the beginning of a record that has not come whole and ciphertext that the kernel would
//! not take, both bounded by about a record, and an idle connection keeps neither.

use std::sync::Arc;

pub use rustls::{Error, ServerConfig};

use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};

/// The most plaintext that one record carries (RFC 8446 §5.1).
pub const RECORD_BYTES_MAX: usize = 16 * 1024;
/// The most plaintext that becomes a record for a reader that lags: what it has not taken is ciphertext in
/// our memory, and progress is seen in steps of this size.
pub(crate) const LAGGING_RECORD_BYTES: usize = 4 * 1024;
/// Room for a record's ciphertext and for an update of the keys in front of it.
pub const SEALED_BYTES_MAX: usize = RECORD_BYTES_MAX + 1_024;
/// The most ciphertext that is kept unread: a record of TLS 1.2 with all it may grow by (RFC 5246 §6.2.3). A
/// client's messages of the handshake are far smaller, as no certificate is asked of it.
const UNREAD_BYTES_MAX: usize = 5 + RECORD_BYTES_MAX + 2_048;
/// Room for what is kept unread and some more, so that reading always goes on.
pub const INPUT_BYTES_MIN: usize = UNREAD_BYTES_MAX + 2_048;

/// One connection's TLS state: the server's side.
pub struct Tls {
    connection: UnbufferedServerConnection,
    /// Ciphertext that makes no whole record yet.
    unread: Vec<u8>,
    /// Ciphertext to be sent, from `sent` on.
    unsent: Vec<u8>,
    sent: usize,
    /// The peer has said that nothing follows (`close_notify`).
    ended: bool,
    /// Nothing follows from us: once all is sent the socket is shut down.
    pub(crate) closing: bool,
}

impl Tls {
    /// A connection that awaits its client's hello.
    ///
    /// # Errors
    ///
    /// If the system gives no randomness.
    pub fn new(config: Arc<ServerConfig>) -> Result<Self, Error> {
        let connection = UnbufferedServerConnection::new(config)?;
        Ok(Self { connection, unread: Vec::new(), unsent: Vec::new(), sent: 0, ended: false, closing: false })
    }

    /// Whether the handshake goes on.
    #[must_use]
    pub fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// Whether the peer has said that nothing follows.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// How much ciphertext is kept that makes no whole record yet: where in a buffer of at least
    /// [`INPUT_BYTES_MIN`] to read what comes next, so that [`Tls::open`] can put this in front of it.
    #[must_use]
    pub fn unread_bytes(&self) -> usize {
        self.unread.len()
    }

    /// Decrypts what came, which begins at [`Tls::unread_bytes`] of `input`, calling `plain` for each record's
    /// payload; answers of the handshake wait in [`Tls::unsent`].
    ///
    /// # Errors
    ///
    /// If the peer does not speak TLS or not with us; the alert that tells it why is in [`Tls::unsent`], and
    /// the connection is over.
    pub fn open(&mut self, input: &mut [u8], mut plain: impl FnMut(&[u8])) -> Result<(), Error> {
        let kept = std::mem::take(&mut self.unread);
        input[..kept.len()].copy_from_slice(&kept);
        let mut at = 0;
        loop {
            let UnbufferedStatus { discard, state } = self.connection.process_tls_records(&mut input[at..]);
            let mut waits = false;
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        plain(record?.payload);
                    }
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    encode(&mut self.unsent, |room| data.encode(room))?;
                }
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::PeerClosed) => self.ended = true,
                Ok(_) => waits = true,
                Err(error) => {
                    self.alert(&mut input[at + discard..]);
                    return Err(error);
                }
            }
            at += discard;
            if waits {
                break;
            }
        }
        let rest = if self.ended { &[][..] } else { &input[at..] };
        if rest.len() > UNREAD_BYTES_MAX {
            return Err(Error::General("a message of the handshake is too long".into()));
        }
        self.unread = rest.to_vec();
        Ok(())
    }

    /// Takes the alert that goes with an error.
    fn alert(&mut self, input: &mut [u8]) {
        // What was said before the error goes before the alert. Without it the peer learns no reason; the
        // connection ends either way.
        while let Ok(ConnectionState::EncodeTlsData(mut data)) =
            self.connection.process_tls_records(input).state
        {
            if encode(&mut self.unsent, |room| data.encode(room)).is_err() {
                return;
            }
        }
    }

    /// Encrypts at most [`RECORD_BYTES_MAX`] bytes into `sealed`, which holds [`SEALED_BYTES_MAX`]; returns the
    /// length. What is in [`Tls::unsent`] must be sent before it.
    ///
    /// # Errors
    ///
    /// If the handshake is not complete or the connection is over.
    pub fn seal(&mut self, plain: &[u8], sealed: &mut [u8]) -> Result<usize, Error> {
        self.with_traffic(|traffic| traffic.encrypt(plain, sealed))
    }

    /// Says that nothing follows (`close_notify`), behind what is still to be sent.
    pub fn seal_end(&mut self) {
        if std::mem::replace(&mut self.closing, true) {
            return;
        }
        let mut sealed = [0; 64];
        // A connection without keys ends without a word.
        if let Ok(len) = self.with_traffic(|traffic| traffic.queue_close_notify(&mut sealed)) {
            self.unsent.extend_from_slice(&sealed[..len]);
        }
    }

    fn with_traffic(
        &mut self,
        act: impl FnOnce(
            &mut rustls::unbuffered::WriteTraffic<'_, rustls::server::ServerConnectionData>,
        ) -> Result<usize, EncryptError>,
    ) -> Result<usize, Error> {
        loop {
            // What is kept was looked at before and is not whole, so this only finds what is to be written.
            match self.connection.process_tls_records(&mut self.unread).state? {
                ConnectionState::WriteTraffic(mut traffic) => {
                    return act(&mut traffic).map_err(|error| Error::General(error.to_string()));
                }
                ConnectionState::EncodeTlsData(mut data) => {
                    encode(&mut self.unsent, |room| data.encode(room))?;
                }
                ConnectionState::TransmitTlsData(data) => data.done(),
                _ => return Err(Error::HandshakeNotComplete),
            }
        }
    }

    /// Ciphertext to be sent before anything else.
    #[must_use]
    pub fn unsent(&self) -> &[u8] {
        &self.unsent[self.sent..]
    }

    /// The kernel took so many bytes of [`Tls::unsent`].
    pub fn sent(&mut self, bytes: usize) {
        self.sent += bytes;
        if self.sent >= self.unsent.len() {
            (self.unsent, self.sent) = (Vec::new(), 0);
        }
    }

    /// Keeps ciphertext that the kernel would not take.
    pub fn keep(&mut self, sealed: &[u8]) {
        self.unsent.extend_from_slice(sealed);
    }

    /// Bytes held, with this.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        size_of::<Self>() + self.unread.capacity() + self.unsent.capacity()
    }
}

/// Appends what `write` writes, giving it as much room as it asks for.
fn encode(
    out: &mut Vec<u8>,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, EncodeError>,
) -> Result<(), Error> {
    let begin = out.len();
    loop {
        match write(&mut out[begin..]) {
            Ok(len) => {
                out.truncate(begin + len);
                return Ok(());
            }
            Err(EncodeError::InsufficientSize(more)) => out.resize(begin + more.required_size, 0),
            Err(error) => return Err(Error::General(error.to_string())),
        }
    }
}
