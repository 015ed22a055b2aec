//! The opening handshake of RFC 6455 §4, client side, as bytes.
//!
//! The token travels in the `Authorization` header only: a query ends up in logs.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

use crate::http1::{self, Head};
use crate::url::Endpoint;

/// The answer expected to one upgrade request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handshake {
    key: String,
}

/// Why a server did not become a WebSocket.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It answered with a plain HTTP status.
    #[error("the server refused the connection with HTTP status {status}")]
    Status {
        /// The status.
        status: u16,
        /// `Retry-After`, when the server said so in seconds.
        retry_after_ms: Option<u64>,
    },
    /// It answered 101 without proving that it read the key (§4.2.2).
    #[error("the server's upgrade answer does not match the request")]
    Accept,
    /// It answered 101 and agreed to another subprotocol than was asked for, or to an extension (§4.1).
    #[error("the server agreed to {found:?}, which was not asked for")]
    Agreed {
        /// What it said; empty if it agreed to no subprotocol where one was asked for.
        found: String,
    },
}

impl Handshake {
    /// A handshake with this nonce.
    pub fn new(nonce: [u8; 16]) -> Handshake {
        Handshake { key: STANDARD.encode(nonce) }
    }

    /// The request, ready to send.
    pub fn request(&self, endpoint: &Endpoint, token: Option<&str>) -> Vec<u8> {
        let mut headers =
            vec![concat!("User-Agent: pulsewire-client/", env!("CARGO_PKG_VERSION")).to_owned()];
        if let Some(token) = token {
            headers.push(format!("Authorization: Bearer {token}"));
        }
        self.request_with(endpoint.socket_path(), &endpoint.authority(), &headers)
    }

    /// The request to any server, with further header lines.
    pub fn request_with(&self, target: &str, authority: &str, headers: &[String]) -> Vec<u8> {
        let mut all = vec![
            "Upgrade: websocket".to_owned(),
            "Connection: Upgrade".to_owned(),
            "Sec-WebSocket-Version: 13".to_owned(),
            format!("Sec-WebSocket-Key: {}", self.key),
        ];
        all.extend_from_slice(headers);
        http1::write_request("GET", target, authority, &all, b"")
    }

    /// Checks the answer.
    ///
    /// # Errors
    ///
    /// [`Refused`]; the connection carries no WebSocket then.
    pub fn check(&self, head: &Head) -> Result<(), Refused> {
        if head.status != 101 {
            let retry_after_ms = head.header("retry-after").and_then(|seconds| seconds.parse::<u64>().ok());
            let retry_after_ms = retry_after_ms.map(|seconds| seconds.saturating_mul(1_000));
            return Err(Refused::Status { status: head.status, retry_after_ms });
        }
        let upgraded = head.header("upgrade").is_some_and(|value| value.eq_ignore_ascii_case("websocket"));
        let proven = head.header("sec-websocket-accept") == Some(accept_key(&self.key).as_str());
        if upgraded && proven { Ok(()) } else { Err(Refused::Accept) }
    }

    /// Checks what the answer of any server agreed to: the subprotocol that was asked for, and no extension.
    ///
    /// # Errors
    ///
    /// [`Refused::Agreed`].
    pub fn check_agreed(&self, head: &Head, protocol: Option<&str>) -> Result<(), Refused> {
        let found = head.header("sec-websocket-protocol");
        let extension = head.header("sec-websocket-extensions").filter(|extensions| !extensions.is_empty());
        match extension.or(if found == protocol { None } else { Some(found.unwrap_or_default()) }) {
            None => Ok(()),
            Some(found) => Err(Refused::Agreed { found: found.chars().take(100).collect() }),
        }
    }
}

/// `Sec-WebSocket-Accept` for a key, RFC 6455 §4.2.2 step 5.4.
pub fn accept_key(key: &str) -> String {
    let mut hash = Sha1::new();
    hash.update(key.as_bytes());
    hash.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    STANDARD.encode(hash.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_standard_holds() {
        // RFC 6455 §1.3.
        assert_eq!(accept_key("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn only_a_matching_answer_opens_the_socket() {
        let handshake = Handshake::new(*b"the sample nonce");
        let answer = |text: &str| handshake.check(&http1::parse_head(text.as_bytes()).unwrap().unwrap());
        let good = "HTTP/1.1 101 x\r\nUpgrade: WebSocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
        assert_eq!(answer(good), Ok(()));
        assert_eq!(answer(&good.replace("s3p", "S3p")), Err(Refused::Accept));
        assert_eq!(
            answer("HTTP/1.1 503 x\r\nRetry-After: 2\r\n\r\n"),
            Err(Refused::Status { status: 503, retry_after_ms: Some(2_000) })
        );
    }

    #[test]
    fn the_token_travels_in_its_header() {
        let endpoint = Endpoint::parse("ws://h:1/ws").unwrap();
        let text = String::from_utf8(Handshake::new([0; 16]).request(&endpoint, Some("abc"))).unwrap();
        assert!(text.starts_with("GET /ws HTTP/1.1\r\nHost: h:1\r\n"), "{text}");
        assert!(text.contains("\r\nAuthorization: Bearer abc\r\n"), "{text}");
    }
}
