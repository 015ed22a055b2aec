//! Which web pages may connect (RFC 6455 §10.2): the defence against cross-site WebSocket hijacking.
//!
//! A browser sends the page's origin in one canonical form (RFC 6454 §6.2): lower case, without the
//! scheme's default port, without path or user. The configured origins are brought into that form once,
//! and the header is then compared byte for byte, so no parser stands between a hostile header and the
//! decision: another case, a trailing dot, a spelled-out default port, `null`, a look-alike subdomain or a
//! user part is simply another string.

use std::net::Ipv6Addr;

use http::HeaderMap;
use http::header::ORIGIN;

/// Whether requests without an `Origin` header, which no browser sends, may connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MissingOrigin {
    /// Servers, command lines and native applications may connect.
    Allow,
    /// Only browsers may connect.
    Refuse,
}

/// The origins that may open a WebSocket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OriginPolicy {
    allowed: Allowed,
    missing: MissingOrigin,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Allowed {
    Any,
    Exactly(Box<[Box<str>]>),
}

/// Why a configured origin is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OriginError {
    /// There is no `scheme://` of letters, digits, `+`, `-` and `.`.
    #[error("origin `{0}` does not begin with a scheme such as https://")]
    Scheme(String),
    /// The host is empty, holds a wildcard or a character no host name has, or is not in its ASCII form.
    #[error("origin `{0}` has no valid host name; wildcards are not supported")]
    Host(String),
    /// The port is not a number from 1 to 65535.
    #[error("origin `{0}` has no valid port")]
    Port(String),
    /// There is a path, a query or a user.
    #[error("origin `{0}` has more than scheme, host and port")]
    Excess(String),
}

impl OriginPolicy {
    /// Every page may connect. Safe only while no cookie authenticates.
    #[must_use]
    pub fn any() -> Self {
        Self { allowed: Allowed::Any, missing: MissingOrigin::Allow }
    }

    /// Only pages of these origins may connect, each `scheme://host` or `scheme://host:port`. A single
    /// trailing slash, upper case and a default port are forgiven here, not in requests.
    ///
    /// # Errors
    ///
    /// The first text that is not an origin.
    pub fn exactly<'a>(
        origins: impl IntoIterator<Item = &'a str>,
        missing: MissingOrigin,
    ) -> Result<Self, OriginError> {
        let allowed = origins.into_iter().map(canonical).collect::<Result<_, _>>()?;
        Ok(Self { allowed: Allowed::Exactly(allowed), missing })
    }

    /// Whether a request with these headers may connect. Several `Origin` headers never may, under a list.
    #[must_use]
    pub fn permits(&self, headers: &HeaderMap) -> bool {
        let Allowed::Exactly(allowed) = &self.allowed else { return true };
        let mut origins = headers.get_all(ORIGIN).iter();
        match (origins.next(), origins.next()) {
            (None, _) => self.missing == MissingOrigin::Allow,
            (Some(origin), None) => allowed.iter().any(|known| known.as_bytes() == origin.as_bytes()),
            (Some(_), Some(_)) => false,
        }
    }
}

/// The form in which a browser sends the origin `text`.
fn canonical(text: &str) -> Result<Box<str>, OriginError> {
    let given = || text.to_owned();
    let lower = text.to_ascii_lowercase();
    let (scheme, rest) = lower.split_once("://").ok_or_else(|| OriginError::Scheme(given()))?;
    let scheme_is_valid = scheme.starts_with(|c: char| c.is_ascii_lowercase())
        && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
    if !scheme_is_valid {
        return Err(OriginError::Scheme(given()));
    }
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    if authority.contains(['/', '?', '#', '@', '\\']) {
        return Err(OriginError::Excess(given()));
    }
    let (host, port) = split_port(authority);
    let host = canonical_host(host).ok_or_else(|| OriginError::Host(given()))?;
    let port = port.map(|port| parse_port(port).ok_or_else(|| OriginError::Port(given()))).transpose()?;
    Ok(match port.filter(|&port| Some(port) != default_port(scheme)) {
        Some(port) => format!("{scheme}://{host}:{port}"),
        None => format!("{scheme}://{host}"),
    }
    .into())
}

/// Host and port; a colon inside `[…]` belongs to the host.
fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (authority, None),
    }
}

fn canonical_host(host: &str) -> Option<String> {
    if let Some(address) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return address.parse::<Ipv6Addr>().ok().map(|address| format!("[{address}]"));
    }
    let valid = host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
    (valid && host.starts_with(|c: char| c != '.') && !host.is_empty()).then(|| host.to_owned())
}

fn parse_port(port: &str) -> Option<u16> {
    let digits = port.bytes().all(|b| b.is_ascii_digit());
    if digits { port.parse().ok().filter(|&port| port != 0) } else { None }
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" | "ws" => Some(80),
        "https" | "wss" => Some(443),
        _ => None,
    }
}
