//! Where a handshake carries its credential.
//!
//! `Authorization: Bearer`, the subprotocol `bearer.<token>` (for browsers, which cannot set
//! headers), `?token=`, and a cookie if one is configured; a request without any may still send
//! its token in the first message. Two different tokens are refused rather than ranked: whoever
//! sends two is confused or up to something.

use http::{HeaderMap, header};

use super::refusal::Refusal;
use crate::settings::Auth;

/// What a subprotocol that carries a token begins with.
pub const BEARER_SUBPROTOCOL: &str = "bearer.";
/// The query parameter that carries a token.
pub const QUERY_PARAMETER: &str = "token";
/// Subprotocols that are looked at; more are refused by the handshake.
const SUBPROTOCOLS_MAX: usize = 16;

/// A token or an API key, and how it came.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    /// The token or the API key.
    pub text: String,
    /// What carried it.
    pub carrier: Carrier,
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credential").field("carrier", &self.carrier).finish_non_exhaustive()
    }
}

/// How a credential came, strongest first: the first that has one names the carrier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    /// `Authorization: Bearer …`.
    Authorization,
    /// `Sec-WebSocket-Protocol: bearer.…`.
    Subprotocol,
    /// `?token=…`.
    Query,
    /// The configured cookie; the only one a browser sends by itself.
    Cookie,
}

impl Carrier {
    /// The carrier's name in refusals and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Authorization => "the Authorization header",
            Self::Subprotocol => "the subprotocol",
            Self::Query => "the URL",
            Self::Cookie => "the cookie",
        }
    }
}

/// The credential of a request; `None` when it has none.
///
/// # Errors
///
/// When a carrier cannot be read, is switched off, or two hold different tokens.
pub fn extract(headers: &HeaderMap, query: Option<&str>, auth: &Auth) -> Result<Option<Credential>, Refusal> {
    let mut found: Option<Credential> = None;
    let mut add = |text: String, carrier: Carrier| match &found {
        _ if text.is_empty() => Ok(()),
        Some(first) if first.text != text => {
            Err(Refusal::Conflict { one: first.carrier.as_str(), two: carrier.as_str() })
        }
        Some(_) => Ok(()),
        None => {
            found = Some(Credential { text, carrier });
            Ok(())
        }
    };
    for value in headers.get_all(header::AUTHORIZATION) {
        add(bearer(value.to_str().map_err(|_| Refusal::Scheme)?)?.to_owned(), Carrier::Authorization)?;
    }
    for token in subprotocols(headers) {
        add(token.to_owned(), Carrier::Subprotocol)?;
    }
    for token in query.into_iter().flat_map(query_tokens) {
        if !auth.token_in_query {
            return Err(Refusal::QueryOff);
        }
        add(token, Carrier::Query)?;
    }
    for token in cookies(headers, &auth.cookie) {
        add(token.to_owned(), Carrier::Cookie)?;
    }
    Ok(found)
}

/// The token of `Bearer <token>`; the scheme's case does not matter (RFC 9110 §11.1).
fn bearer(value: &str) -> Result<&str, Refusal> {
    let (scheme, token) = value.trim().split_once(' ').ok_or(Refusal::Scheme)?;
    let token = token.trim();
    if scheme.eq_ignore_ascii_case("bearer") && !token.contains([' ', ',']) {
        Ok(token)
    } else {
        Err(Refusal::Scheme)
    }
}

fn subprotocols(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values =
        headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
    let named = values.flat_map(|value| value.split(',')).take(SUBPROTOCOLS_MAX);
    named.filter_map(|name| name.trim().strip_prefix(BEARER_SUBPROTOCOL))
}

fn query_tokens(query: &str) -> impl Iterator<Item = String> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.filter(|(name, _)| is_token_parameter(name)).map(|(_, value)| decode_percent(value))
}

/// Whether a parameter's name is `token`, however it is escaped.
fn is_token_parameter(name: &str) -> bool {
    decode_percent(name) == QUERY_PARAMETER
}

/// Decodes `%XX` and `+`; what is not UTF-8 becomes U+FFFD and so no token.
pub(crate) fn decode_percent(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let pair = tail.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let escaped = pair.filter(|pair| byte == b'%' && pair.bytes().all(|digit| digit.is_ascii_hexdigit()));
        if let Some(escaped) = escaped.and_then(|pair| u8::from_str_radix(pair, 16).ok()) {
            bytes.push(escaped);
            rest = &tail[2..];
        } else {
            bytes.push(if byte == b'+' { b' ' } else { byte });
            rest = tail;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn cookies<'h>(headers: &'h HeaderMap, name: &'h str) -> impl Iterator<Item = &'h str> {
    let values = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let pairs = values.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs
        .filter(move |(found, _)| !name.is_empty() && *found == name)
        .map(|(_, value)| value.trim_matches('"'))
}

/// A query with every token replaced, for logs.
#[must_use]
pub fn redacted_query(query: &str) -> String {
    let redact = |pair: &str| match pair.split_once('=') {
        Some((name, _)) if is_token_parameter(name) => format!("{QUERY_PARAMETER}=[redacted]"),
        _ => pair.to_owned(),
    };
    query.split('&').map(redact).collect::<Vec<_>>().join("&")
}
