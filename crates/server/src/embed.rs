//! The server inside another program: [`Server`] and what it is built with.
//!
//! A program of its own, such as one of axum, starts Pulsewire beside what it does itself: its pages and
//! Pulsewire's sockets share one port, and it publishes without a request. The server is the one that
//! `pulsewire serve` runs; only where the settings come from differs, and that signals are the program's
//! own affair. `docs/embed.md` shows it whole.

mod builder;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use pulsewire_bus::{NamedBy, Publisher, Receipt, Refusal, SamplesReceipt};
use pulsewire_edge::clock;
use pulsewire_protocol::{ChannelName, ErrorCode, Event, Sample};
use pulsewire_telemetry::{PublishSource, SampleSource};
use serde::Serialize;
use tokio::sync::watch;

use crate::app::App;
use crate::auth::{NewToken, Signer};
use crate::http::publish::{count_refused, submit};
use crate::serve::Running;
use crate::stats::Stats;

pub use builder::{ServerBuilder, StartError};

/// A server in this process. It runs until [`Server::stop`].
///
/// Everything but stopping is done with its [`Handle`], which it gives out and which it is one of.
#[must_use = "a server that is dropped takes no new connections and does not send off those it has"]
pub struct Server {
    running: Running,
}

impl Server {
    /// A server to be built: settings first, then [`ServerBuilder::start`].
    pub fn builder() -> ServerBuilder {
        ServerBuilder::default()
    }

    /// A handle, to be kept wherever something is published.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.running.handle.clone()
    }

    /// Waits for one of the server's threads to end though nobody stopped it, and returns its name. That is a
    /// fault of ours: stop the server and start the program anew.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub async fn fallen(&self) -> String {
        self.running.fallen().await
    }

    /// Goes away as `pulsewire serve` does on SIGTERM: lets nobody in, tells clients to come back elsewhere, and
    /// returns when all have gone, or cuts those that are left when the deadline has come. What was accepted is kept.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves a server that takes nobody in and may have kept its threads.
    pub async fn stop(self, deadline: Duration) {
        self.running.stop(deadline).await;
    }
}

impl std::ops::Deref for Server {
    type Target = Handle;

    fn deref(&self) -> &Handle {
        &self.running.handle
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("address", &self.address()).finish_non_exhaustive()
    }
}

/// What a program does with its server. Clones are cheap and all of the same server.
#[derive(Clone)]
pub struct Handle {
    pub(crate) app: Arc<App>,
    pub(crate) stopped: watch::Receiver<bool>,
}

impl Handle {
    /// The address it listens on, with the port that the system chose if port 0 was asked for.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.app.address
    }

    /// The counts of `GET /api/stats`: at most a tenth of a second old.
    pub async fn stats(&self) -> Stats {
        Stats::of(&self.app).await
    }

    /// Publishes an event without tags, key or message id; [`Handle::publish_all`] takes any.
    ///
    /// # Errors
    ///
    /// `invalid_channel` or `bad_request` for what is none, and as [`Handle::publish_all`].
    pub async fn publish(
        &self,
        channel: &str,
        event_type: &str,
        data: &(impl Serialize + Sync + ?Sized),
    ) -> Result<Receipt, Refusal> {
        let published = match event(channel, event_type, data) {
            Ok(event) => self.try_publish(event).await,
            Err(refusal) => Err(refusal),
        };
        let mut receipts = self.counted(published)?;
        receipts.pop().ok_or_else(|| refusal(ErrorCode::OutcomeUnknown, "no receipt came back"))
    }

    /// Publishes events, in order, as `POST /api/publish` does with the rights of an operator; either all are
    /// accepted or none. An event with a message id that this program has used is answered with its first
    /// sequence and not published again.
    ///
    /// # Errors
    ///
    /// The code that `POST /api/publish` would answer, `limit_exceeded` for more than `limits.publish_batch_max`
    /// events, `too_large` for more than `limits.http_body_bytes_max`, `draining` once the server is stopping. After `outcome_unknown`, send the same with the same ids.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not take back what was published.
    pub async fn publish_all(&self, events: Vec<Event>) -> Result<Vec<Receipt>, Refusal> {
        self.counted(self.try_publish(events).await)
    }

    fn counted<T>(&self, published: Result<T, Refusal>) -> Result<T, Refusal> {
        published.inspect_err(|refusal| count_refused(&self.app, PublishSource::Source, refusal.code))
    }

    async fn try_publish(&self, events: Vec<Event>) -> Result<Vec<Receipt>, Refusal> {
        let (max, bytes_max) = {
            let live = self.app.live.load();
            (live.settings.limits.publish_batch_max, live.settings.limits.http_body_bytes_max)
        };
        if self.app.is_draining() {
            return Err(refusal(ErrorCode::Draining, "the server is stopping"));
        }
        if events.is_empty() {
            return Err(refusal(ErrorCode::BadRequest, "an empty batch"));
        }
        if events.len() > max {
            let what = format!("{} events, more than {max} (limits.publish_batch_max)", events.len());
            return Err(refusal(ErrorCode::LimitExceeded, what));
        }
        let bytes: usize = events.iter().map(|event| event.data.get().len()).sum();
        if bytes > bytes_max {
            let what = format!("{bytes} bytes, more than {bytes_max} (limits.http_body_bytes_max)");
            return Err(refusal(ErrorCode::TooLarge, what));
        }
        let publisher =
            Publisher { named_by: NamedBy::Nobody, principal: PRINCIPAL, user: None, begun_ns: 0 };
        submit(&self.app, publisher, PublishSource::Source, events).await
    }

    /// Hands over samples of a metric channel. Each is accepted or refused by itself.
    ///
    /// # Errors
    ///
    /// `invalid_channel`, `unknown_channel`, `unsupported` if it is no metric channel, `overloaded` if listeners'
    /// queues are full, `draining` once the server is stopping; nothing was accepted then.
    pub fn publish_samples(&self, channel: &str, samples: Vec<Sample>) -> Result<SamplesReceipt, ErrorCode> {
        if self.app.is_draining() {
            return Err(ErrorCode::Draining);
        }
        let channel = ChannelName::parse(channel).map_err(|_| ErrorCode::InvalidChannel)?;
        self.app.bus.publish_samples(clock::now(), SampleSource::Program, &channel, samples)
    }

    /// A token for a user whom the program has recognised in its own way, signed with the server's key.
    ///
    /// # Errors
    ///
    /// If the server has no key to sign with: it verifies with a public key and `auth.private_key_file` is not set.
    pub fn token(&self, token: &NewToken) -> anyhow::Result<String> {
        let live = self.app.live.load();
        let read = |path: &std::path::Path| std::fs::read_to_string(path);
        let signer = Signer::new(&live.settings, &read).map_err(|problem| anyhow::anyhow!("{problem}"))?;
        Ok(signer.sign(token, clock::now().wall_ms)?)
    }
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle").field("address", &self.address()).finish_non_exhaustive()
    }
}

/// The scope of the program's message ids: no user's, for theirs are vouched for, and not that of the anonymous.
const PRINCIPAL: &str = "program";

/// An event as `POST /api/channels/{channel}/events` would take it, by the same rules.
fn event(channel: &str, event_type: &str, data: &(impl Serialize + ?Sized)) -> Result<Vec<Event>, Refusal> {
    let channel =
        ChannelName::parse(channel).map_err(|error| refusal(ErrorCode::InvalidChannel, error.to_string()))?;
    let body = serde_json::value::to_raw_value(data)
        .and_then(|data| serde_json::to_vec(&serde_json::json!({ "type": event_type, "data": data })))
        .map_err(|error| refusal(ErrorCode::BadRequest, error.to_string()))?;
    Event::parse_batch_in(&channel, &body, 1).map_err(|error| refusal(error.code, error.detail))
}

fn refusal(code: ErrorCode, detail: impl Into<String>) -> Refusal {
    Refusal { index: None, code, detail: detail.into(), retry_after_ms: None }
}
