//! The HTTP client for calls that the server makes of its own accord: the hook and key sets.
//!
//! An address comes from the settings only, never from a request or a token, so loopback and private
//! networks are allowed unless the settings say otherwise; then the rule is applied to the very
//! addresses that are connected to. No redirect is followed, nothing is tried twice, no
//! proxy of the environment is used, and no error repeats the URL, which may hold a password.

pub(crate) mod address;

use bytes::BytesMut;
use reqwest::{Client, ClientBuilder, Response, Url, redirect};

/// Why a URL cannot be called.
#[derive(Debug, thiserror::Error)]
pub enum UrlError {
    /// Not an absolute URL.
    #[error("the url cannot be read")]
    Unreadable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Neither `http` nor `https`.
    #[error("the url has the scheme {scheme:?}, not http or https")]
    Scheme {
        /// The scheme found.
        scheme: String,
    },
    /// An address that is not public, where only public ones are allowed.
    #[error("the url names the address {host}, which is not public")]
    Private {
        /// The host found.
        host: String,
    },
}

/// Reads a URL of the settings.
///
/// # Errors
///
/// [`UrlError`]. A name is checked when it is resolved.
pub fn url(text: &str, allow_private: bool) -> Result<Url, UrlError> {
    let url = Url::parse(text).map_err(|error| UrlError::Unreadable(error.into()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(UrlError::Scheme { scheme: url.scheme().to_owned() });
    }
    if !allow_private && address::is_private_literal(&url) {
        return Err(UrlError::Private { host: url.host_str().unwrap_or_default().to_owned() });
    }
    Ok(url)
}

/// Whether a URL names an address that is not public, or this machine.
#[must_use]
pub fn is_private(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_end_matches('.');
    address::is_private_literal(url) || host == "localhost" || host.ends_with(".localhost")
}

/// A client for one URL, which keeps at most so many idle connections.
pub fn client(url: &Url, allow_private: bool, idle_max: usize) -> ClientBuilder {
    let mut client = Client::builder()
        .user_agent(concat!("pulsewire/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .retry(reqwest::retry::never())
        .no_proxy()
        .http1_only()
        .pool_max_idle_per_host(idle_max);
    if url.scheme() == "http" {
        // The system's root certificates are neither needed nor, in a small container, there.
        client = client.tls_certs_only([]);
    }
    if !allow_private {
        client = client.dns_resolver(address::PublicResolver);
    }
    client
}

/// Why a body was not read to its end.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// Longer than allowed; nothing beyond was kept.
    #[error("the answer is longer than {bytes_max} bytes")]
    TooLarge {
        /// The limit.
        bytes_max: usize,
    },
    /// The connection broke.
    #[error("the answer broke off")]
    Broken(#[source] reqwest::Error),
}

/// Reads a whole body.
///
/// # Errors
///
/// [`BodyError`].
pub async fn body(mut response: Response, bytes_max: usize) -> Result<BytesMut, BodyError> {
    if response.content_length().is_some_and(|length| length > bytes_max as u64) {
        return Err(BodyError::TooLarge { bytes_max });
    }
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| BodyError::Broken(error.without_url()))? {
        if body.len() + chunk.len() > bytes_max {
            return Err(BodyError::TooLarge { bytes_max });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}
