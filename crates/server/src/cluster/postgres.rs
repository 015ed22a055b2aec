//! PostgreSQL alone as the broker: notifications carry envelopes.
//!
//! Everything that is said comes to every node, so it is for small clusters; what the database has to do for it is
//! bounded: at most 50 transactions a second and node, none in the publish. An own notification that comes back says
//! that the way is open, so nothing is asked only for that.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use pulsewire_bus::Parcel;
use pulsewire_bus::store::{NOTICE_BYTES_MAX, Notice, NoticesLink, PostgresNotices};

use super::ears::Ears;

/// Between two transactions that notify.
const PAUSE: Duration = Duration::from_millis(20);
/// What stands before an envelope: the number of the question that goes with it, and a space.
const NUMBER_BYTES: usize = 21;
/// The largest envelope.
pub(super) const ENVELOPE_BYTES_MAX: usize = NOTICE_BYTES_MAX - NUMBER_BYTES;

/// Which database.
pub(super) struct Address(PostgresNotices);

/// Both connections.
#[derive(Clone)]
pub(super) struct Link {
    notices: NoticesLink,
    ears: Arc<Ears>,
}

impl Address {
    /// Reads an address; connects to nothing.
    pub(super) fn parse(url: &str, prefix: &str, node: &str) -> anyhow::Result<Self> {
        let notices = PostgresNotices::new(url, prefix, node);
        Ok(Self(notices.map_err(|error| anyhow::anyhow!("store.url: {}", error.detail))?))
    }

    pub(super) async fn connect(&self, ears: &Arc<Ears>) -> anyhow::Result<Link> {
        let heard = ears.clone();
        let hearing = move |notice| match notice {
            Notice::Said { text, own } => {
                let Some((number, _)) = text.split_once(' ') else { return };
                let envelope_at = number.len() + 1;
                if own {
                    heard.echo(0, number.parse().unwrap_or(0));
                }
                heard.message(bytes::Bytes::from(text).slice(envelope_at..));
            }
            Notice::Ended(why) => heard.ended(why),
        };
        let notices = self.0.connect(Arc::new(hearing)).await.context("connecting")?;
        Ok(Link { notices, ears: ears.clone() })
    }
}

impl Link {
    /// Says parcels, in order.
    pub(super) async fn publish(&self, parcels: &[Parcel]) -> anyhow::Result<()> {
        if parcels.is_empty() {
            return Ok(());
        }
        let number = self.ears.ask();
        let payloads: Vec<_> =
            parcels.iter().map(|Parcel { topic, text, .. }| (topic, format!("{number} {text}"))).collect();
        self.notices.say(&payloads).await?;
        // What is said meanwhile goes with the next.
        tokio::time::sleep(PAUSE).await;
        Ok(())
    }
}
