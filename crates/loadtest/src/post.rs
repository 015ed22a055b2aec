//! Requests over HTTP on one connection that is kept.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use pulsewire_client::{Endpoint, http1};

use crate::swarm::Secure;

/// Longer than any answer takes that still comes.
const PATIENCE: Duration = Duration::from_secs(20);

trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

/// One connection that posts and waits for each answer.
pub struct Poster {
    stream: Box<dyn Stream>,
    authority: String,
    headers: Vec<String>,
    buffer: Vec<u8>,
}

impl Poster {
    pub(crate) fn new(
        address: SocketAddr,
        endpoint: &Endpoint,
        secure: Option<&Secure>,
        token: Option<&str>,
    ) -> anyhow::Result<Poster> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        let stream: Box<dyn Stream> = match secure {
            None => Box::new(stream),
            Some(secure) => Box::new(rustls::StreamOwned::new(secure.begin()?, stream)),
        };
        let mut headers = vec!["Content-Type: application/json".to_owned()];
        headers.extend(token.map(|token| format!("Authorization: Bearer {token}")));
        Ok(Poster { stream, authority: endpoint.authority(), headers, buffer: Vec::new() })
    }

    /// Posts a body and gives the status and the body of the answer.
    ///
    /// # Errors
    ///
    /// When the connection ends or the answer is not HTTP.
    pub fn post(&mut self, path: &str, body: &[u8]) -> anyhow::Result<(u16, Vec<u8>)> {
        let request = http1::write_request("POST", path, &self.authority, &self.headers, body);
        self.stream.write_all(&request)?;
        self.stream.flush()?;
        let mut block = [0; 4 * 1024];
        loop {
            if let Some(head) = http1::parse_head(&self.buffer)?
                && let Some((body, len)) = head.body(&self.buffer[head.len_bytes..], false)?
            {
                self.buffer.drain(..head.len_bytes + len);
                return Ok((head.status, body));
            }
            let len = match self.stream.read(&mut block) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read.with_context(|| format!("no answer to POST {path}"))?,
            };
            ensure!(len > 0, "the connection ended before an answer to POST {path}");
            self.buffer.extend_from_slice(&block[..len]);
        }
    }
}
