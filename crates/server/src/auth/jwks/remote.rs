//! The key set at a configured address: fetched in the background, kept, looked up without waiting.
//!
//! Whoever verifies with a known key reads the current set and never waits for the network. A failed
//! fetch leaves the known keys as they are. What is remembered belongs to one [`Source`], so that the
//! keys of one issuer or address never stand in for another's (threat S3).

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use pulsewire_telemetry::KeyFetch;
use reqwest::{Client, StatusCode, Url, header};
use tokio::sync::watch;
use tokio::time;

use super::{Failing, KeySet, Schedule, Unknown, VerifyingKey, Voucher, read_set};
use crate::outbound::{self, BodyError, UrlError};

/// The longest sleep between looks at the age of the set: the wall clock may jump.
const LOOK_MS: i64 = 60_000;

/// Whose keys these are. Together with a key's id this is what a key is remembered under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The configured issuer of tokens.
    pub issuer: Option<String>,
    /// The address of the set.
    pub url: String,
}

/// How a set is fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteOptions {
    /// Whose keys.
    pub source: Source,
    /// The age at which the set is fetched again.
    pub refresh: Duration,
    /// From the start of a fetch to the last byte of its answer.
    pub timeout: Duration,
    /// Bytes of an answer at most.
    pub bytes_max: usize,
    /// Whether the address may be loopback, private or link-local.
    pub allow_private: bool,
}

/// Why the options cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// The URL cannot be called.
    #[error("auth.jwks_url cannot be used")]
    Url(#[from] UrlError),
    /// The HTTP client cannot be made.
    #[error("the client for auth.jwks_url cannot be made")]
    Client(#[source] reqwest::Error),
}

/// Is told how each fetch ended.
pub type Report = Box<dyn Fn(KeyFetch) + Send + Sync>;

/// The keys of one source.
pub struct Remote {
    options: RemoteOptions,
    url: Url,
    client: Client,
    report: Report,
    keys: ArcSwap<KeySet>,
    schedule: Mutex<Schedule>,
    /// Says that a fetch has ended.
    ended: watch::Sender<()>,
}

impl fmt::Debug for Remote {
    /// Without the URL, which may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").field("keys", &self.keys.load().len()).finish_non_exhaustive()
    }
}

impl Remote {
    /// Checks the options; fetches nothing yet. What `before` knows of the same source is taken over.
    ///
    /// # Errors
    ///
    /// [`RemoteError`] says which option cannot be used.
    pub fn new(
        options: RemoteOptions,
        report: Report,
        before: Option<&Self>,
    ) -> Result<Arc<Self>, RemoteError> {
        let url = outbound::url(&options.source.url, options.allow_private)?;
        let client = outbound::client(&url, options.allow_private, 1).build().map_err(RemoteError::Client)?;
        let refresh_ms = i64::try_from(options.refresh.as_millis()).unwrap_or(i64::MAX / 4);
        let before = before.filter(|before| before.options.source == options.source);
        let schedule =
            before.map_or_else(|| Schedule::new(refresh_ms), |it| it.schedule.lock().continued(refresh_ms));
        Ok(Arc::new(Self {
            url,
            client,
            report,
            keys: ArcSwap::new(before.map(|before| before.keys.load_full()).unwrap_or_default()),
            schedule: Mutex::new(schedule),
            ended: watch::Sender::new(()),
            options,
        }))
    }

    /// How it fetches.
    #[must_use]
    pub fn options(&self) -> &RemoteOptions {
        &self.options
    }

    /// The key with this id. Never waits.
    #[must_use]
    pub fn key(&self, kid: &str) -> Option<Arc<VerifyingKey>> {
        self.keys.load().get(kid).cloned()
    }

    /// Waits for a key that is not known yet, if a fetch may bring it; at most as long as one fetch takes.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops no fetch that was begun.
    pub async fn look_for(self: &Arc<Self>, kid: &str, now_ms: i64) {
        // Before the decision, so that no end of a fetch is missed after it.
        let mut ended = self.ended.subscribe();
        match self.schedule.lock().unknown(kid, now_ms) {
            Unknown::Absent => return,
            Unknown::Wait => {}
            // A task of its own: the fetch is everybody's, and whoever asked may go away.
            Unknown::Fetch => drop(tokio::spawn(Arc::clone(self).fetch())),
        }
        // The sender is ours, so an error cannot be.
        let _ = ended.changed().await;
        if self.key(kid).is_none() {
            self.schedule.lock().absent(kid, now_ms);
        }
    }

    /// Fetches the set if its age asks for it, and waits for the end.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops no fetch that was begun.
    pub async fn refresh(self: &Arc<Self>, now_ms: i64) {
        if self.schedule.lock().refresh(now_ms) {
            // A fetch that was cut off with the runtime has nobody to tell.
            let _ = tokio::spawn(Arc::clone(self).fetch()).await;
        }
    }

    async fn fetch(self: Arc<Self>) {
        let fetched = match time::timeout(self.options.timeout, self.download()).await {
            Ok(fetched) => fetched,
            Err(_) => Err((KeyFetch::TimedOut, format!("no answer within {:?}", self.options.timeout))),
        };
        let (outcome, why) = match fetched {
            Ok(()) => (KeyFetch::Ok, String::new()),
            Err(failure) => failure,
        };
        (self.report)(outcome);
        match self.schedule.lock().ended(outcome) {
            Failing::Began(_) => {
                tracing::warn!(%outcome, why, "the key set was not fetched; the known keys stay in force");
            }
            Failing::Ended => tracing::info!("the key set is fetched again"),
            Failing::AsBefore => {}
        }
        self.ended.send_replace(());
    }

    async fn download(&self) -> Result<(), (KeyFetch, String)> {
        let request = self
            .client
            .get(self.url.clone())
            .header(header::ACCEPT, "application/jwk-set+json, application/json");
        let response =
            request.send().await.map_err(|error| (KeyFetch::Unreachable, whole(&error.without_url())))?;
        let status = response.status();
        if status != StatusCode::OK {
            return Err((KeyFetch::Refused, format!("the answer is {status}")));
        }
        let body = outbound::body(response, self.options.bytes_max).await.map_err(|error| match error {
            BodyError::TooLarge { .. } => (KeyFetch::TooLarge, whole(&error)),
            BodyError::Broken(_) => (KeyFetch::Unreachable, whole(&error)),
        })?;
        let (keys, skipped) =
            read_set(&body, Voucher::Network).map_err(|error| (KeyFetch::Unreadable, error.to_string()))?;
        self.replace(keys, skipped.len());
        for key in skipped {
            tracing::debug!(place = key.place, why = key.why, "a key of the key set is not used");
        }
        Ok(())
    }

    fn replace(&self, keys: KeySet, skipped: usize) {
        let known = self.keys.load();
        let changed = keys.len() != known.len() || keys.keys().any(|kid| !known.contains_key(kid));
        if changed {
            tracing::info!(keys = keys.len(), skipped, "the keys that verify tokens have changed");
        }
        self.keys.store(Arc::new(keys));
    }
}

/// An error with what it comes from.
fn whole(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

/// Fetches the set now and whenever its age asks for it, until nobody holds it any more.
pub fn keep_fresh(remote: &Arc<Remote>, now_ms: fn() -> i64) {
    let remote: Weak<Remote> = Arc::downgrade(remote);
    tokio::spawn(async move {
        loop {
            let sleep_ms = {
                let Some(remote) = remote.upgrade() else { return };
                remote.refresh(now_ms()).await;
                let due_ms = remote.schedule.lock().due_in_ms(now_ms());
                due_ms.clamp(1_000, LOOK_MS)
            };
            time::sleep(Duration::from_millis(sleep_ms.unsigned_abs())).await;
        }
    });
}
