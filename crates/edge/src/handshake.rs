//! The server's side of the opening handshake (RFC 6455 §4.2), without I/O.
//!
//! Owns the decision whether a request becomes a WebSocket: a method, a version and headers go in, an
//! [`Upgrade`] or a [`Refusal`] comes out. Who may connect (tokens, limits, drain) is decided elsewhere,
//! but for the `Origin`, which is part of the handshake's own safety (§10.2).
//!
//! What always holds: no 101 without GET, HTTP/1.1, one host, no body, both upgrade headers, version 13
//! and a key of 16 bytes; no extension is ever negotiated; a bearer token travels in the subprotocol list
//! and is never echoed; the work is linear in the header bytes, which the HTTP server bounds.

mod origin;

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{
    ALLOW, CONNECTION, CONTENT_LENGTH, HOST, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};
use pulsewire_protocol::Encoding;
use pulsewire_telemetry::RejectReason;
use sha1::{Digest as _, Sha1};

pub use origin::{MissingOrigin, OriginError, OriginPolicy};

/// Subprotocols one request may offer; more is refused with 400.
pub const SUBPROTOCOLS_MAX: usize = 16;

/// What RFC 6455 §1.3 appends to the key.
const ACCEPT_GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A token carried as the subprotocol `bearer.<token>`, for browsers, which cannot set headers. `Debug`
/// does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct BearerToken(Box<str>);

impl BearerToken {
    /// The token, unverified.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for BearerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BearerToken(redacted)")
    }
}

/// A request that may become a WebSocket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upgrade {
    /// `Sec-WebSocket-Accept`: 28 characters.
    pub accept: String,
    /// The encoding named by the first subprotocol of the client's list that we speak, which is echoed.
    /// Without one nothing is echoed, and the messages are JSON unless the URL says otherwise.
    pub encoding: Option<Encoding>,
    /// The token among the subprotocols. A browser that offers only this fails the connection itself,
    /// because nothing is echoed; it must offer an encoding too.
    pub bearer: Option<BearerToken>,
}

impl Upgrade {
    /// The headers of the 101 answer.
    #[must_use]
    pub fn response_headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(4);
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        let accept = HeaderValue::try_from(self.accept.as_str()).expect("base64 is a valid header value");
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
        if let Some(encoding) = self.encoding {
            headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(encoding.subprotocol()));
        }
        headers
    }
}

/// Why a request does not become a WebSocket. Whatever follows it on the connection is not to be answered,
/// so the connection is closed (the peer may believe it was upgraded).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    /// Not GET; 405.
    #[error("a WebSocket is opened with GET")]
    Method,
    /// Not HTTP/1.1; 400.
    #[error("a WebSocket is opened over HTTP/1.1")]
    HttpVersion,
    /// No `Host` header or several; 400.
    #[error("exactly one Host header is needed")]
    Host,
    /// A body was announced; 400.
    #[error("the opening request has no body")]
    Body,
    /// No `Upgrade: websocket`; 426.
    #[error("this path speaks WebSocket: send `Upgrade: websocket`")]
    NotUpgrade,
    /// No `Connection: Upgrade`; 400.
    #[error("`Connection: Upgrade` is missing")]
    Connection,
    /// Another version than 13, or none; 426.
    #[error("only WebSocket version 13 is spoken")]
    Version,
    /// No `Sec-WebSocket-Key`, several, or not 16 bytes in base64; 400.
    #[error("Sec-WebSocket-Key is not 16 bytes in base64")]
    Key,
    /// A malformed subprotocol list, one of more than [`SUBPROTOCOLS_MAX`], or several tokens; 400.
    #[error("Sec-WebSocket-Protocol is malformed or offers more than {SUBPROTOCOLS_MAX}")]
    Subprotocols,
    /// The policy does not allow the `Origin`; 403.
    #[error("this origin may not connect")]
    Origin,
}

impl Refusal {
    /// The status to answer with.
    #[must_use]
    pub fn status(self) -> StatusCode {
        match self {
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::NotUpgrade | Self::Version => StatusCode::UPGRADE_REQUIRED,
            Self::Origin => StatusCode::FORBIDDEN,
            Self::HttpVersion
            | Self::Host
            | Self::Body
            | Self::Connection
            | Self::Key
            | Self::Subprotocols => StatusCode::BAD_REQUEST,
        }
    }

    /// The metric label's value.
    #[must_use]
    pub fn reject_reason(self) -> RejectReason {
        match self {
            Self::Version => RejectReason::BadVersion,
            Self::Origin => RejectReason::Origin,
            _ => RejectReason::BadRequest,
        }
    }

    /// The headers the answer needs besides its body's.
    #[must_use]
    pub fn response_headers(self) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(3);
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        match self {
            Self::Method => {
                headers.insert(ALLOW, HeaderValue::from_static("GET"));
            }
            // RFC 9110 §15.5.22: a 426 names what to upgrade to; RFC 6455 §4.4: and in which version.
            Self::NotUpgrade | Self::Version => {
                headers.insert(CONNECTION, HeaderValue::from_static("close, upgrade"));
                headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
                headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
            }
            _ => {}
        }
        headers
    }
}

/// Decides whether a request becomes a WebSocket.
///
/// # Errors
///
/// The first rule the request breaks, in the order of [`Refusal`]'s variants.
pub fn validate(
    method: &Method,
    version: Version,
    headers: &HeaderMap,
    origins: &OriginPolicy,
) -> Result<Upgrade, Refusal> {
    let demand = |met: bool, refusal| if met { Ok(()) } else { Err(refusal) };
    demand(method == Method::GET, Refusal::Method)?;
    demand(version == Version::HTTP_11, Refusal::HttpVersion)?;
    demand(single(headers, &HOST).is_some(), Refusal::Host)?;
    demand(!announces_body(headers), Refusal::Body)?;
    demand(lists(headers, &UPGRADE, "websocket"), Refusal::NotUpgrade)?;
    demand(lists(headers, &CONNECTION, "upgrade"), Refusal::Connection)?;
    demand(single(headers, &SEC_WEBSOCKET_VERSION) == Some(b"13"), Refusal::Version)?;
    let accept = single(headers, &SEC_WEBSOCKET_KEY).and_then(accept_key).ok_or(Refusal::Key)?;
    let (encoding, bearer) = choose_subprotocol(headers)?;
    demand(origins.permits(headers), Refusal::Origin)?;
    Ok(Upgrade { accept, encoding, bearer })
}

/// The value of a header that must appear once, without surrounding spaces.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a [u8]> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    values.next().is_none().then(|| value.as_bytes().trim_ascii())
}

/// The members of a comma-separated header, over all its lines, without the empty ones (RFC 9110 §5.6.1).
fn members<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
    headers
        .get_all(name)
        .iter()
        .flat_map(|value| value.as_bytes().split(|&byte| byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|member| !member.is_empty())
}

fn lists(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    members(headers, name).any(|member| member.eq_ignore_ascii_case(token.as_bytes()))
}

/// Whether a body follows: its bytes would be taken for frames.
fn announces_body(headers: &HeaderMap) -> bool {
    headers.contains_key(TRANSFER_ENCODING)
        || headers.get_all(CONTENT_LENGTH).iter().any(|length| length.as_bytes().trim_ascii() != b"0")
}

/// `Sec-WebSocket-Accept` for a key of 16 bytes in base64 (RFC 6455 §4.2.2).
fn accept_key(key: &[u8]) -> Option<String> {
    // Room for what 24 characters can hold; a longer key does not fit and is refused.
    let mut nonce = [0; 18];
    if STANDARD.decode_slice(key, &mut nonce) != Ok(16) {
        return None;
    }
    Some(STANDARD.encode(Sha1::new().chain_update(key).chain_update(ACCEPT_GUID).finalize()))
}

/// The encoding to speak and the token, from the client's offer.
fn choose_subprotocol(headers: &HeaderMap) -> Result<(Option<Encoding>, Option<BearerToken>), Refusal> {
    let (mut encoding, mut bearer) = (None, None);
    for (index, offer) in members(headers, &SEC_WEBSOCKET_PROTOCOL).enumerate() {
        if index == SUBPROTOCOLS_MAX || !offer.iter().all(|&byte| is_token_byte(byte)) {
            return Err(Refusal::Subprotocols);
        }
        let offer = std::str::from_utf8(offer).map_err(|_| Refusal::Subprotocols)?;
        if let Some(token) = offer.strip_prefix("bearer.")
            && (token.is_empty() || bearer.replace(BearerToken(token.into())).is_some())
        {
            return Err(Refusal::Subprotocols);
        }
        encoding =
            encoding.or_else(|| Encoding::ALL.iter().copied().find(|known| known.subprotocol() == offer));
    }
    Ok((encoding, bearer))
}

/// `tchar` of RFC 9110 §5.6.2.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
