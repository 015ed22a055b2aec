//! The tables and functions, and how older schemas become the present form.
//!
//! Nodes that start together take turns by an advisory lock; `meta` holds the number of steps that were taken. A step
//! is never changed once it was released.

use tokio_postgres::{Client, Error};

use super::failure::failed;
use crate::store::{Failure, StoreError};

const STEPS: [&str; 2] = [include_str!("schema.sql"), include_str!("series.sql")];

/// What everything is found in from now on. A name needs no quotes, see [`super::options`].
pub(super) async fn enter(client: &Client, schema: &str, synchronous: bool) -> Result<(), StoreError> {
    let session = format!(
        "SET search_path = {schema}; SET lock_timeout = '2s'; SET statement_timeout = '5s';
         SET client_min_messages = warning; SET default_transaction_isolation = 'read committed';
         SET idle_in_transaction_session_timeout = '10s'"
    );
    client.batch_execute(&session).await.map_err(failed)?;
    let found = client.query_one(
        "SELECT current_setting('server_encoding'), current_setting('fsync'), to_regclass('meta') IS NOT NULL,
                pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on'",
        &[],
    );
    let found = found.await.map_err(failed)?;
    let (encoding, fsync): (String, String) = (found.get(0), found.get(1));
    let (made, read_only): (bool, bool) = (found.get(2), found.get(3));
    if encoding != "UTF8" {
        let detail = format!("the database is encoded in {encoding}; make it with ENCODING 'UTF8'");
        return Err(StoreError::new(Failure::Other, detail));
    }
    if fsync != "on" {
        tracing::warn!(
            "the database runs with fsync off: what it acknowledges does not survive a power failure"
        );
    }
    let taken = if made { taken(client).await.map_err(failed)? } else { 0 };
    if taken < STEPS.len() {
        if read_only {
            let detail = "the database is read-only and has not the tables that are wanted";
            return Err(StoreError::new(Failure::ReadOnly, detail));
        }
        migrate(client, schema).await.map_err(failed)?;
    }
    if taken > STEPS.len() {
        let detail =
            format!("the schema was made by a newer version (step {taken}, this one knows {})", STEPS.len());
        return Err(StoreError::new(Failure::Other, detail));
    }
    if !read_only {
        client.execute("SELECT enter($1)", &[&synchronous]).await.map_err(failed)?;
    }
    Ok(())
}

async fn taken(client: &Client) -> Result<usize, Error> {
    let row = client.query_opt("SELECT value::bigint FROM meta WHERE key = 'steps'", &[]).await?;
    Ok(row.map_or(0, |row| usize::try_from(row.get::<_, i64>(0)).unwrap_or(usize::MAX)))
}

async fn migrate(client: &Client, schema: &str) -> Result<(), Error> {
    // Others may be at it, or hold tables for long: both are waited for.
    client
        .batch_execute("BEGIN; SET LOCAL lock_timeout = '60s'; SET LOCAL statement_timeout = '10min'")
        .await?;
    let migrated = migrate_within(client, schema).await;
    client.batch_execute(if migrated.is_ok() { "COMMIT" } else { "ROLLBACK" }).await?;
    migrated
}

async fn migrate_within(client: &Client, schema: &str) -> Result<(), Error> {
    client
        .execute("SELECT pg_advisory_xact_lock(hashtextextended('pulsewire.' || $1, 0))", &[&schema])
        .await?;
    let there: bool = client.query_one("SELECT to_regnamespace($1) IS NOT NULL", &[&schema]).await?.get(0);
    if !there {
        client.batch_execute(&format!("CREATE SCHEMA {schema}")).await?;
    }
    let made: bool = client.query_one("SELECT to_regclass('meta') IS NOT NULL", &[]).await?.get(0);
    let taken = if made { taken(client).await? } else { 0 };
    for step in STEPS.iter().skip(taken) {
        client.batch_execute(step).await?;
    }
    let steps = STEPS.len().to_string();
    let sql = "INSERT INTO meta (key, value) VALUES ('steps', $1) ON CONFLICT (key) DO UPDATE SET value = $1";
    client.execute(sql, &[&steps]).await.map(drop)
}
