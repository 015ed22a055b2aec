//! Requests to the server's HTTP surface over one kept connection.

use std::time::Duration;

use tokio::time::timeout;

use crate::http1::{self, HttpError};
use crate::stream::{ConnectError, Stream};
use crate::trust::Trust;
use crate::url::Endpoint;

/// How long one request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// An answer of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body, as sent.
    pub body: Vec<u8>,
}

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// Nobody listens, or the connection broke. A `POST` may have been carried out.
    #[error("cannot reach {authority}: {source}")]
    Unreachable {
        /// Who was asked.
        authority: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The server could not prove to be the one its URL names, or speaks no TLS. Nothing was sent.
    #[error("no secure connection to {authority}: {why}")]
    Tls {
        /// Who was asked.
        authority: String,
        /// What is wrong.
        why: String,
    },
    /// The answer did not come within ten seconds. A `POST` may have been carried out.
    #[error("no answer from {authority} within 10 s")]
    Timeout {
        /// Who was asked.
        authority: String,
    },
    /// The answer is not HTTP.
    #[error("{0}")]
    Http(#[from] HttpError),
}

/// A client of one server's HTTP surface.
#[derive(Debug)]
pub struct Http {
    endpoint: Endpoint,
    trust: Trust,
    token: Option<String>,
    stream: Option<Stream>,
}

impl Http {
    /// A client that connects with its first request.
    pub fn new(endpoint: Endpoint, trust: Trust, token: Option<String>) -> Http {
        Http { endpoint, trust, token, stream: None }
    }

    /// Sends one request and waits for the answer. A kept connection that the server closed meanwhile is replaced once,
    /// if nothing of an answer had come.
    ///
    /// # Errors
    ///
    /// [`RequestError`]; any HTTP status is an answer.
    pub async fn request(&mut self, method: &str, target: &str, body: &[u8]) -> Result<Answer, RequestError> {
        let authority = self.endpoint.authority();
        match timeout(REQUEST_TIMEOUT, self.exchange(method, target, body)).await {
            Ok(answer) => answer,
            Err(_) => {
                self.stream = None;
                Err(RequestError::Timeout { authority })
            }
        }
    }

    async fn exchange(&mut self, method: &str, target: &str, body: &[u8]) -> Result<Answer, RequestError> {
        let mut headers = vec!["Accept: application/json".to_owned()];
        if !body.is_empty() {
            headers.push("Content-Type: application/json".to_owned());
        }
        if let Some(token) = &self.token {
            headers.push(format!("Authorization: Bearer {token}"));
        }
        let authority = self.endpoint.authority();
        let request = http1::write_request(method, target, &authority, &headers, body);
        loop {
            let kept = self.stream.take();
            let reused = kept.is_some();
            let unreachable = |source| RequestError::Unreachable { authority: authority.clone(), source };
            let mut stream = match kept {
                Some(stream) => stream,
                None => Stream::connect(&self.endpoint, &self.trust).await.map_err(|error| match error {
                    ConnectError::Io(error) => unreachable(error),
                    ConnectError::Tls(why) => RequestError::Tls { authority: authority.clone(), why },
                })?,
            };
            let mut input = Vec::with_capacity(1024);
            match talk(&mut stream, &request, &mut input).await {
                Ok((answer, keep)) => {
                    self.stream = keep.then_some(stream);
                    return Ok(answer);
                }
                Err(RequestError::Unreachable { .. }) if reused && input.is_empty() => {}
                Err(RequestError::Unreachable { source, .. }) => return Err(unreachable(source)),
                Err(error) => return Err(error),
            }
        }
    }
}

async fn talk(
    stream: &mut Stream,
    request: &[u8],
    input: &mut Vec<u8>,
) -> Result<(Answer, bool), RequestError> {
    let io = |source| RequestError::Unreachable { authority: String::new(), source };
    stream.write(request).await.map_err(io)?;
    let mut ended = false;
    loop {
        if let Some(head) = http1::parse_head(input)?
            && let Some((body, _)) = head.body(&input[head.len_bytes..], ended)?
        {
            return Ok((Answer { status: head.status, body }, head.keeps_alive() && !ended));
        }
        if ended {
            return Err(io(std::io::ErrorKind::UnexpectedEof.into()));
        }
        ended = stream.read_into(input).await.map_err(io)? == 0;
    }
}
