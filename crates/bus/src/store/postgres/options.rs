//! Where the database is.

use std::path::PathBuf;
use std::str::FromStr as _;
use std::time::Duration;

use pulsewire_protocol::Epoch;
use tokio_postgres::Config;
use tokio_postgres::config::SslMode;

use crate::store::{Failure, StoreError};

/// The schema that everything is in unless the address says otherwise.
const SCHEMA: &str = "pulsewire";
/// The longest name of PostgreSQL, in bytes.
const NAME_BYTES_MAX: usize = 63;

/// How a database is used.
#[derive(Clone)]
pub struct PostgresOptions {
    /// `postgres://user:password@host:port/database`, with `schema`, `sslmode`, `sslrootcert` and what else libpq's
    /// addresses may have behind a `?`.
    pub url: String,
    /// The epoch of channels that are asked for before the database has answered: random.
    pub epoch: Epoch,
    /// Connections that read, at most so many kept open; default 4.
    pub readers: usize,
    /// Whether a server that takes over has everything that was acknowledged: then it keeps the epoch.
    pub synchronous_replication: bool,
    /// Whose clock the ages of events are told by.
    pub ages: Ages,
}

/// Whose clock the ages of events and message ids are told by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ages {
    /// The database's, one for all nodes: what a node thinks the time is changes nothing of what is kept.
    #[default]
    OfDatabase,
    /// That of whoever commits and trims, for tests in which hours pass at once.
    OfCaller,
}

impl Ages {
    /// What the database is told of the time; nothing if it knows better.
    pub(super) fn told(self, at_ms: i64) -> Option<i64> {
        (self == Self::OfCaller).then_some(at_ms)
    }
}

/// An address, taken apart.
pub(super) struct Address {
    pub(super) config: Config,
    pub(super) schema: String,
    /// Whether the connection is encrypted, and the other end's certificate checked.
    pub(super) tls: bool,
    /// Whom to trust instead of the authorities this machine trusts.
    pub(super) roots: Option<PathBuf>,
}

impl Address {
    pub(super) fn parse(url: &str) -> Result<Self, StoreError> {
        let (base, query) = url.split_once('?').unwrap_or((url, ""));
        let mut address = Self { config: Config::new(), schema: SCHEMA.to_owned(), tls: false, roots: None };
        let mut rest = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=').unwrap_or((pair, "")) {
                ("schema", name) => address.schema = schema(name)?,
                ("sslmode", "disable" | "allow" | "prefer") => address.tls = false,
                ("sslmode", "require" | "verify-ca" | "verify-full") => address.tls = true,
                ("sslmode", mode) => return Err(wrong(format!("sslmode `{mode}` is none"))),
                ("sslrootcert", path) => address.roots = Some(path.into()),
                _ => rest.push(pair),
            }
        }
        let url = if rest.is_empty() { base.to_owned() } else { format!("{base}?{}", rest.join("&")) };
        address.config = Config::from_str(&url).map_err(|error| {
            // The cause names the part; the address itself holds a password.
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
            wrong(format!("{error}{}", cause.unwrap_or_default()))
        })?;
        address.config.ssl_mode(if address.tls { SslMode::Require } else { SslMode::Disable });
        address.set_defaults();
        Ok(address)
    }

    /// What the address leaves open. A peer that vanished without a word is found out in seconds, not hours.
    fn set_defaults(&mut self) {
        let config = &mut self.config;
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(Duration::from_secs(5));
        }
        if config.get_application_name().is_none() {
            config.application_name("pulsewire");
        }
        config.keepalives_idle(Duration::from_secs(10)).keepalives_interval(Duration::from_secs(3));
        config.keepalives_retries(3).tcp_user_timeout(Duration::from_secs(15));
    }
}

/// A name that needs no quotes, so that it is the same wherever it is written.
fn schema(name: &str) -> Result<String, StoreError> {
    let letters = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
    let fits = (1..=NAME_BYTES_MAX).contains(&name.len())
        && letters(name.as_bytes()[0])
        && name.bytes().all(|byte| letters(byte) || byte.is_ascii_digit())
        && !name.starts_with("pg_");
    if fits { Ok(name.to_owned()) } else { Err(wrong(format!("`{name}` is no plain schema name"))) }
}

fn wrong(detail: String) -> StoreError {
    StoreError::new(Failure::Other, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: &str) -> String {
        match Address::parse(url) {
            Ok(address) => format!("{} {} {:?}", address.schema, address.tls, address.roots),
            Err(error) => error.detail,
        }
    }

    #[test]
    fn an_address_names_schema_and_encryption() {
        assert_eq!(read("postgres://u:p@h/d"), "pulsewire false None");
        assert_eq!(read("postgresql://h?schema=a_1&sslmode=verify-full"), "a_1 true None");
        assert_eq!(
            read("postgres://h/d?sslrootcert=/a.pem&sslmode=require"),
            "pulsewire true Some(\"/a.pem\")"
        );
        assert_eq!(read("postgres://h/d?application_name=x&connect_timeout=2"), "pulsewire false None");
    }

    #[test]
    fn a_wrong_address_is_refused_without_its_password() {
        for url in [
            "postgres://u:geheim@h/d?schema=a b",
            "postgres://u:geheim@h/d?schema=",
            "postgres://u:geheim@h/d?sslmode=yes",
            "postgres://u:geheim@h:port/d",
            "postgres://u:geheim@h/d?pool=3",
        ] {
            let answer = read(url);
            assert!(!answer.contains("geheim") && !answer.starts_with("pulsewire"), "{url}: {answer}");
        }
    }
}
