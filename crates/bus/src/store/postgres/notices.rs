//! Notifications: how nodes reach each other through the database alone.
//!
//! Two connections, and neither is the store's: one only listens, and one only notifies, in transactions that hold
//! nothing else. A transaction that notifies takes one lock of the whole database at its commit (that is why nobody is
//! notified inside of a publish), so they are few, and nobody waits for the disk in them (`synchronous_commit = off`).
//! The database drops nothing, but what nobody hears is gone.

use std::fmt::Write as _;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_postgres::types::ToSql;
use tokio_postgres::{AsyncMessage, Client, Connection, Error, NoTls};

use super::failure::{failed, silent};
use super::options::Address;
use super::tls;
use crate::broker::Topic;
use crate::store::StoreError;

/// The largest payload of a notification, bytes: PostgreSQL takes less than 8,000.
pub const NOTICE_BYTES_MAX: usize = 7_999;
/// Notifications of one transaction.
const NOTICES_MAX: usize = 64;
/// How long connecting may take, seconds.
const CONNECT_S: u64 = 8;
/// How long an answer may take, seconds.
const ANSWER_S: u64 = 5;

/// Where notifications go: the database, and the names of those of one cluster.
pub struct PostgresNotices {
    address: Address,
    tls: Option<tls::Connector>,
    name: Box<str>,
    node: Box<str>,
}

/// What is heard.
#[derive(Debug)]
pub enum Notice {
    /// A payload.
    Said {
        /// The payload.
        text: String,
        /// Whether this node said it.
        own: bool,
    },
    /// The connection is gone.
    Ended(String),
}

/// Takes what is heard. Must not wait.
pub type Hearing = Arc<dyn Fn(Notice) + Send + Sync>;

/// Both connections. They are closed with the last clone.
#[derive(Clone)]
pub struct NoticesLink {
    speaks: Arc<Client>,
    _hears: Arc<Client>,
    name: Box<str>,
}

impl PostgresNotices {
    /// Reads an address; connects to nothing. Clusters that share a database hear only those of the same `schema` and
    /// `prefix`.
    ///
    /// # Errors
    ///
    /// If the address is none, or names a file that cannot be read.
    pub fn new(url: &str, prefix: &str, node: &str) -> Result<Self, StoreError> {
        let address = Address::parse(url)?;
        let tls = address.tls.then(|| tls::Connector::new(address.roots.as_deref())).transpose()?;
        // Names are short and plain, whatever the prefix is.
        let mut name = "pulsewire_".to_owned();
        for byte in &Sha256::digest(format!("{} {prefix}", address.schema))[..8] {
            let _ = write!(name, "{byte:02x}");
        }
        Ok(Self { address, tls, name: name.into(), node: node.into() })
    }

    /// Connects and listens to what is said to all and to this node.
    ///
    /// # Errors
    ///
    /// If the database cannot be reached or refuses.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes what was opened.
    pub async fn connect(&self, hearing: Hearing) -> Result<NoticesLink, StoreError> {
        let connecting = async {
            let speaks = self.client(None).await?;
            let row = speaks.query_one("select pg_backend_pid()", &[]).await?;
            let own: i32 = row.try_get(0)?;
            speaks.batch_execute("set synchronous_commit = off; set statement_timeout = '5s'").await?;
            let hears = self.client(Some((own, hearing))).await?;
            let to_node = to_node(&self.name, &self.node);
            hears.batch_execute(&format!("listen {}; listen {to_node}", self.name)).await?;
            Ok::<_, Error>(NoticesLink {
                speaks: Arc::new(speaks),
                _hears: Arc::new(hears),
                name: self.name.clone(),
            })
        };
        let connected = timeout(Duration::from_secs(CONNECT_S), connecting).await;
        connected.map_err(|_| silent(CONNECT_S))?.map_err(failed)
    }

    async fn client(&self, hearing: Option<(i32, Hearing)>) -> Result<Client, Error> {
        Ok(match &self.tls {
            None => {
                let (client, connection) = self.address.config.connect(NoTls).await?;
                tokio::spawn(carry(connection, hearing));
                client
            }
            Some(tls) => {
                let (client, connection) = self.address.config.connect(tls.clone()).await?;
                tokio::spawn(carry(connection, hearing));
                client
            }
        })
    }
}

/// Runs the protocol until the client is dropped or the connection is lost.
async fn carry<S, T>(mut connection: Connection<S, T>, hearing: Option<(i32, Hearing)>)
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    let ended = loop {
        match poll_fn(|context| connection.poll_message(context)).await {
            Some(Ok(AsyncMessage::Notification(notification))) => {
                if let Some((speaks, hearing)) = &hearing {
                    let own = notification.process_id() == *speaks;
                    hearing(Notice::Said { text: notification.payload().to_owned(), own });
                }
            }
            Some(Ok(_)) => {}
            Some(Err(error)) => break failed(error).to_string(),
            None => break "the connection ended".to_owned(),
        }
    };
    if let Some((_, hearing)) = hearing {
        hearing(Notice::Ended(ended));
    }
}

impl NoticesLink {
    /// Says payloads, in order; each takes at most [`NOTICE_BYTES_MAX`]. Of a channel everybody is told.
    ///
    /// # Errors
    ///
    /// If the database cannot be reached or refuses; then some may have been said.
    pub async fn say(&self, payloads: &[(&Topic, String)]) -> Result<(), StoreError> {
        for payloads in payloads.chunks(NOTICES_MAX) {
            let name = |topic: &Topic| match topic {
                Topic::Node(node) => to_node(&self.name, node),
                Topic::All | Topic::Channel(_) => self.name.to_string(),
            };
            let (names, texts): (Vec<String>, Vec<&str>) =
                payloads.iter().map(|(topic, text)| (name(topic), text.as_str())).unzip();
            let said: [&(dyn ToSql + Sync); 2] = [&names, &texts];
            let saying = self.speaks.query(
                "select pg_notify(name, said) from unnest($1::text[], $2::text[]) with ordinality as t (name, said, at) \
                 order by at",
                &said,
            );
            let said = timeout(Duration::from_secs(ANSWER_S), saying).await;
            said.map_err(|_| silent(ANSWER_S))?.map_err(failed)?;
        }
        Ok(())
    }
}

/// The name of what is said to one node.
fn to_node(name: &str, node: &str) -> String {
    // Names of nodes are hex digits; whatever else somebody made of them must not become SQL.
    let node: String = node.chars().filter(char::is_ascii_alphanumeric).take(32).collect();
    format!("{name}_{node}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(url: &str, prefix: &str) -> Box<str> {
        PostgresNotices::new(url, prefix, "a1")
            .map_or_else(|error| error.detail.into(), |notices| notices.name)
    }

    #[test]
    fn clusters_that_share_a_database_hear_only_their_own() {
        let first = name("postgres://h/d", "pulsewire:");
        assert_eq!(first.len(), "pulsewire_".len() + 16);
        assert_eq!(first, name("postgres://other/e?sslmode=disable", "pulsewire:"));
        assert_ne!(first, name("postgres://h/d?schema=b", "pulsewire:"));
        assert_ne!(first, name("postgres://h/d", "b:"));
    }

    #[test]
    fn what_somebody_calls_a_node_does_not_become_sql() {
        assert_eq!(to_node("pulsewire_1", "a1b2c3d4e5f6"), "pulsewire_1_a1b2c3d4e5f6");
        assert_eq!(to_node("pulsewire_1", "a; drop table x --"), "pulsewire_1_adroptablex");
    }
}
