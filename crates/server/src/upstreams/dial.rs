//! Reaching an upstream: its name, its address, TLS and the handshake.
//!
//! A name is looked up for each attempt, and what is connected to is the very address that was checked. No redirect is
//! followed. No error repeats a query, a header or the secret.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use pulsewire_client::handshake::Refused;
use pulsewire_client::link::{Link, Upgrade, UpgradeError};
use pulsewire_client::{ConnectError, Stream, Trust};
use pulsewire_sources::upstream::{Failure, Template, Upstream, Values};
use pulsewire_telemetry::UpstreamError as Kind;
use reqwest::Url;
use tokio::net::{TcpStream, lookup_host};

use crate::outbound::address::is_public;

/// The largest secret.
const SECRET_BYTES_MAX: usize = 16 * 1024;

/// Where one link goes.
#[derive(Debug, Clone)]
pub(super) struct Place {
    secure: bool,
    /// Without brackets.
    host: String,
    port: u16,
    authority: String,
    target: String,
}

impl Place {
    /// Reads a URL, filled.
    ///
    /// # Errors
    ///
    /// If it is none of a WebSocket.
    pub(super) fn of(url: &Template, values: &Values<'_>) -> Result<Self, String> {
        let url = Url::parse(&url.url(values)).map_err(|error| format!("the URL cannot be read: {error}"))?;
        let secure = match url.scheme() {
            "ws" => false,
            "wss" => true,
            other => return Err(format!("the URL has the scheme {other:?}, not ws or wss")),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err("the URL has a user name; credentials go into `headers`".to_owned());
        }
        let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
            return Err("the URL names no host".to_owned());
        };
        let authority = match url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        let target = match url.query() {
            Some(query) => format!("{}?{query}", url.path()),
            None => url.path().to_owned(),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Self { secure, host, port, authority, target })
    }
}

/// Connects one link.
///
/// # Errors
///
/// What failed, as it is counted.
pub(super) async fn dial(
    upstream: &Upstream,
    index: usize,
    (key, secret): (&str, &str),
    (message_bytes_max, allow_private): (usize, bool),
    nonce: [u8; 16],
) -> Result<Link, Failure> {
    let values = Values { key, secret, ..Values::default() };
    let url = upstream.urls.get(index).ok_or_else(|| Failure::new(Kind::Resolve, "no such URL"))?;
    let place = Place::of(url, &values).map_err(|what| Failure::new(Kind::Resolve, what))?;
    let headers: Vec<String> =
        upstream.headers.iter().map(|(name, value)| format!("{name}: {}", value.plain(&values))).collect();
    if headers.iter().any(|line| line.bytes().any(|byte| byte.is_ascii_control())) {
        return Err(Failure::new(Kind::Handshake, "a header, once filled, has control characters"));
    }
    let tcp = connect(&place, allow_private || upstream.allow_private).await?;
    let stream = match place.secure {
        true => {
            let trust = upstream.ca_file.clone().map_or(Trust::Platform, Trust::File);
            Stream::secure(tcp, &place.host, &trust).await
        }
        false => Stream::plain(tcp),
    };
    let stream = stream.map_err(|error| match error {
        ConnectError::Io(error) => Failure::new(Kind::Connect, error.to_string()),
        ConnectError::Tls(why) => Failure::new(Kind::Tls, why),
    })?;
    let agent = concat!("User-Agent: pulsewire/", env!("CARGO_PKG_VERSION")).to_owned();
    let headers: Vec<String> = headers.into_iter().chain([agent]).collect();
    let upgrade = Upgrade {
        target: &place.target,
        authority: &place.authority,
        headers: &headers,
        protocol: upstream.subprotocol.as_deref(),
        message_bytes_max: upstream.message_bytes_max.min(message_bytes_max),
    };
    Link::upgrade(stream, &upgrade, nonce).await.map_err(refused)
}

fn refused(error: UpgradeError) -> Failure {
    match error {
        UpgradeError::Io(error) => Failure::new(Kind::Connect, error.to_string()),
        UpgradeError::Ended => {
            Failure::new(Kind::Handshake, "the connection ended before the handshake was answered")
        }
        UpgradeError::Http(error) => Failure::new(Kind::Handshake, error.to_string()),
        UpgradeError::Refused(Refused::Status { status, retry_after_ms }) => {
            let detail = match status {
                300..=399 => format!("answered {status}: redirects are not followed"),
                401 | 403 => format!("answered {status}: are the headers and the secret right?"),
                _ => format!("answered {status}"),
            };
            Failure { retry_after_ms, ..Failure::new(Kind::Handshake, detail) }
        }
        UpgradeError::Refused(refused) => Failure::new(Kind::Handshake, refused.to_string()),
    }
}

/// Reads the secret, as it is now.
///
/// # Errors
///
/// If it cannot be read, or is too large to be one.
pub(super) async fn secret(path: &Path) -> Result<String, Failure> {
    let from = path.to_path_buf();
    let read = tokio::task::spawn_blocking(move || std::fs::read_to_string(from)).await;
    let text =
        read.map_err(|error| error.to_string()).and_then(|text| text.map_err(|error| error.to_string()));
    match text {
        Ok(text) if text.len() <= SECRET_BYTES_MAX => Ok(text.trim().to_owned()),
        Ok(_) => Err(Failure::new(Kind::Handshake, "the secret's file is larger than 16 KiB")),
        Err(error) => {
            let detail = format!("the secret's file {} cannot be read: {error}", path.display());
            Err(Failure::new(Kind::Handshake, detail))
        }
    }
}

/// Connects to one of the addresses of a host, in their order; only to public ones unless others are allowed.
async fn connect(place: &Place, allow_private: bool) -> Result<TcpStream, Failure> {
    let found: Vec<SocketAddr> = match place.host.parse::<IpAddr>() {
        Ok(address) => vec![SocketAddr::new(address, place.port)],
        Err(_) => lookup_host((place.host.as_str(), place.port))
            .await
            .map_err(|error| Failure::new(Kind::Resolve, format!("{}: {error}", place.host)))?
            .collect(),
    };
    let count = found.len();
    let mut failed = None;
    for address in found.into_iter().filter(|address| allow_private || is_public(address.ip())) {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => failed = Some(Failure::new(Kind::Connect, format!("{}: {error}", place.authority))),
        }
    }
    Err(failed.unwrap_or_else(|| match count {
        0 => Failure::new(Kind::Resolve, format!("{} has no address", place.host)),
        _ => {
            let detail = format!(
                "{} is on no public address; `allow_private = true` in its settings would allow that",
                place.host
            );
            Failure::new(Kind::Resolve, detail)
        }
    }))
}
