//! Where a server is.
//!
//! `ws://host:port/path` and `http://host:port` name the same server: the socket lives at the path (`/ws` when none is
//! given), the HTTP surface beside it at the root. `wss://` and `https://` are the same with TLS.

use std::fmt;

/// The address of a Pulsewire server, from a `ws://`, `wss://`, `http://` or `https://` URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    secure: bool,
    host: String,
    port: u16,
    socket_path: String,
}

/// Why a URL cannot be used. The text ends with what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// The URL has no scheme this client knows.
    #[error("{url:?} is not a ws://, wss://, http:// or https:// address; try ws://127.0.0.1:8000")]
    Scheme {
        /// The text as given.
        url: String,
    },
    /// The host or port cannot be read.
    #[error(
        "{url:?} has no usable host and port; write ws://HOST:PORT, with brackets around an IPv6 address"
    )]
    Authority {
        /// The text as given.
        url: String,
    },
}

impl Endpoint {
    /// Reads a URL. The port defaults to 80, with TLS to 443, the socket's path to `/ws`.
    ///
    /// # Errors
    ///
    /// [`UrlError`] names what is wrong; user names in the URL and fragments are refused or ignored as in RFC 6455 §3.
    pub fn parse(url: &str) -> Result<Endpoint, UrlError> {
        let lower = url.get(..8).unwrap_or(url).to_ascii_lowercase();
        let (secure, rest) = match () {
            () if lower.starts_with("ws://") => (false, &url[5..]),
            () if lower.starts_with("wss://") => (true, &url[6..]),
            () if lower.starts_with("http://") => (false, &url[7..]),
            () if lower.starts_with("https://") => (true, &url[8..]),
            () => return Err(UrlError::Scheme { url: url.to_owned() }),
        };
        let rest = rest.split('#').next().unwrap_or_default();
        let split = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(split);
        let (host, port) = host_and_port(authority, if secure { 443 } else { 80 })
            .ok_or_else(|| UrlError::Authority { url: url.to_owned() })?;
        let clean = !path.bytes().any(|byte| byte.is_ascii_control() || byte == b' ');
        if !clean {
            return Err(UrlError::Authority { url: url.to_owned() });
        }
        let socket_path = match path {
            "" | "/" => "/ws".to_owned(),
            query if query.starts_with('?') => format!("/ws{query}"),
            path => path.to_owned(),
        };
        Ok(Endpoint { secure, host, port, socket_path })
    }

    /// Whether the server is spoken to over TLS.
    pub fn is_secure(&self) -> bool {
        self.secure
    }

    /// The host without brackets, as a resolver wants it.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The TCP port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The path and query of the WebSocket.
    pub fn socket_path(&self) -> &str {
        &self.socket_path
    }

    /// The value of the `Host` header.
    pub fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A query may carry a token and is never shown.
        let path = self.socket_path.split('?').next().unwrap_or_default();
        let scheme = if self.secure { "wss" } else { "ws" };
        write!(f, "{scheme}://{}{path}", self.authority())
    }
}

fn host_and_port(authority: &str, port_default: u16) -> Option<(String, u16)> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(bracketed) => {
            let (host, after) = bracketed.split_once(']')?;
            (host, after.strip_prefix(':'))
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:%".contains(&byte);
    if host.is_empty() || !host.bytes().all(plain) {
        return None;
    }
    let port = port.map_or(Some(port_default), |port| port.parse().ok())?;
    Some((host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(url: &str, outcome: &str) {
        let seen = match Endpoint::parse(url) {
            Ok(endpoint) => format!("{} {}", endpoint.authority(), endpoint.socket_path()),
            Err(UrlError::Scheme { .. }) => "scheme".to_owned(),
            Err(UrlError::Authority { .. }) => "authority".to_owned(),
        };
        assert_eq!(seen, outcome, "{url}");
    }

    #[test]
    fn socket_and_http_urls_name_the_same_server() {
        check("ws://127.0.0.1:8000", "127.0.0.1:8000 /ws");
        check("http://127.0.0.1:8000/", "127.0.0.1:8000 /ws");
        check("WS://host/ws/metrics?a=b#c", "host:80 /ws/metrics?a=b");
        check("http://host?token=x", "host:80 /ws?token=x");
        check("ws://[::1]:9", "[::1]:9 /ws");
        check("wss://host", "host:443 /ws");
        check("HTTPS://host/ws/metrics", "host:443 /ws/metrics");
        check("https://host:8443", "host:8443 /ws");
    }

    #[test]
    fn an_unusable_url_says_which_part_is_wrong() {
        check("wss:/host", "scheme");
        check("host:8000", "scheme");
        check("", "scheme");
        check("ws://", "authority");
        check("ws://user@host", "authority");
        check("ws://host:99999", "authority");
        check("ws://host/a b", "authority");
        check("ws://[::1", "authority");
    }

    #[test]
    fn a_shown_endpoint_hides_its_query() {
        let endpoint = Endpoint::parse("ws://host:1/ws?token=secret").map(|endpoint| endpoint.to_string());
        assert_eq!(endpoint, Ok("ws://host:1/ws".to_owned()));
        let endpoint = Endpoint::parse("https://host/ws?token=secret").map(|endpoint| endpoint.to_string());
        assert_eq!(endpoint, Ok("wss://host:443/ws".to_owned()));
    }
}
