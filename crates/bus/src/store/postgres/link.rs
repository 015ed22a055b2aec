//! One connection, and how one is made.
//!
//! The protocol runs on one thread of its own; whoever asks waits for it, but never longer than a deadline: a host
//! that vanished without a word must not stop the node for as long as TCP hopes.

use std::collections::HashMap;
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::time::timeout;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, Error, NoTls, Row, Statement};

use super::failure::{commit_failed, failed, missing, silent};
use super::options::Address;
use super::{schema, tls};
use crate::store::{Failure, Outcome, StoreError};

/// How long an answer may take, seconds: longer than the database itself lets a statement run.
const ANSWER_S: u64 = 8;
/// How long connecting may take, seconds.
const CONNECT_S: u64 = 8;
/// How long it may take until tables are made or brought up to date, by this node or another, seconds.
const ENTER_S: u64 = 90;

/// What connections are made of.
pub(super) struct Links {
    config: Config,
    schema: String,
    synchronous: bool,
    tls: Option<tls::Connector>,
    /// `None` only while it is dropped.
    runtime: Option<Runtime>,
}

impl Links {
    pub(super) fn new(url: &str, synchronous: bool) -> Result<Self, StoreError> {
        let Address { config, schema, tls, roots } = Address::parse(url)?;
        let tls = tls.then(|| tls::Connector::new(roots.as_deref())).transpose()?;
        let runtime =
            Builder::new_multi_thread().worker_threads(1).thread_name("store-postgres").enable_all().build();
        let runtime = runtime.map_err(|error| StoreError::new(Failure::Other, error.to_string()))?;
        Ok(Self { config, schema, synchronous, tls, runtime: Some(runtime) })
    }

    fn runtime(&self) -> &Runtime {
        self.runtime.as_ref().expect("it is taken only when this is dropped")
    }

    /// Connects, and makes the tables if there are none.
    pub(super) fn connect(&self) -> Result<Link, StoreError> {
        let connecting = async {
            let client = match &self.tls {
                None => {
                    let (client, connection) = self.config.connect(NoTls).await?;
                    tokio::spawn(connection);
                    client
                }
                Some(tls) => {
                    let (client, connection) = self.config.connect(tls.clone()).await?;
                    tokio::spawn(connection);
                    client
                }
            };
            Ok::<_, Error>(client)
        };
        let handle = self.runtime().handle().clone();
        let client = handle.block_on(async {
            let client = timeout(Duration::from_secs(CONNECT_S), connecting).await;
            let client = client.map_err(|_| silent(CONNECT_S))?.map_err(failed)?;
            let entering = schema::enter(&client, &self.schema, self.synchronous);
            timeout(Duration::from_secs(ENTER_S), entering).await.map_err(|_| silent(ENTER_S))??;
            Ok::<_, StoreError>(client)
        })?;
        Ok(Link { client, statements: HashMap::new(), runtime: handle })
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Whoever drops the store may be a task itself, which must not wait.
            runtime.shutdown_background();
        }
    }
}

/// A connection and what was prepared on it.
pub(in crate::store) struct Link {
    client: Client,
    statements: HashMap<&'static str, Statement>,
    runtime: Handle,
}

impl Link {
    pub(super) fn is_open(&self) -> bool {
        !self.client.is_closed()
    }

    /// Asks something that keeps nothing, or nothing that matters.
    pub(in crate::store) fn rows(
        &mut self,
        sql: &'static str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, StoreError> {
        self.prepare(sql)?;
        let statement = &self.statements[sql];
        within(&self.runtime, self.client.query(statement, parameters))
            .map_err(|error| error.map_or_else(|| silent(ANSWER_S), failed))
    }

    /// Keeps a batch. The answer is complete only when the transaction is committed.
    pub(in crate::store) fn keep(
        &mut self,
        sql: &'static str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Row, StoreError> {
        self.prepare(sql)?;
        let statement = &self.statements[sql];
        let rows = within(&self.runtime, self.client.query(statement, parameters)).map_err(|error| {
            let unknown = || StoreError { outcome: Outcome::Unknown, ..silent(ANSWER_S) };
            error.map_or_else(unknown, commit_failed)
        })?;
        rows.into_iter().next().ok_or_else(|| missing("the answer"))
    }

    fn prepare(&mut self, sql: &'static str) -> Result<(), StoreError> {
        if !self.statements.contains_key(sql) {
            let prepared = within(&self.runtime, self.client.prepare(sql))
                .map_err(|error| error.map_or_else(|| silent(ANSWER_S), failed))?;
            self.statements.insert(sql, prepared);
        }
        Ok(())
    }
}

/// Waits for an answer; the error is `None` if none came in time.
fn within<T>(runtime: &Handle, answer: impl Future<Output = Result<T, Error>>) -> Result<T, Option<Error>> {
    let answered = runtime.block_on(async { timeout(Duration::from_secs(ANSWER_S), answer).await });
    answered.map_err(|_| None)?.map_err(Some)
}
