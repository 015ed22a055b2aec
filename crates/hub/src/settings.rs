//! What the hub is told by its operator.

use std::fmt;
use std::sync::Arc;

use pulsewire_protocol::client::BACKOFF_MAX_MS;

use crate::{Now, Principal};

/// Bounds of one session or connection. Each has a counter and a documented answer
/// (`docs/settings.md`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Subscriptions of a session; one more is answered `limit_exceeded`. Default 1,000.
    pub subscriptions_per_session: usize,
    /// Messages a client may send per minute; what exceeds is dropped and answered
    /// `rate_limited`. 0 switches the limit off. Default 1,000.
    pub messages_per_minute: u32,
    /// Whether messages to a client are held to `messages_per_minute`, too. Default: only those from it.
    pub rate_direction: RateDirection,
    /// Errors a client may cause per minute before it is closed with 4509. Default 20.
    pub errors_per_minute: u32,
    /// Bytes that may wait for one reader. Default 64 KiB. When full: `log` subscriptions lag and
    /// catch up by reading, `ephemeral` drops the oldest, `metrics` keeps the newest.
    pub outbox_bytes_max: usize,
    /// A reader that takes nothing for so long while something waits is closed with 4004,
    /// in milliseconds. Default 30 s.
    pub slow_after_ms: u64,
    /// A connection that is older is closed with 1012, to come back at once and resume, in milliseconds; each at
    /// another moment of the last quarter, to within a heartbeat. Default 0: as old as it likes.
    pub connection_age_max_ms: u64,
    /// How long a connection may stay without authenticating before it is closed with 4505,
    /// in milliseconds. Default 5 s.
    pub auth_timeout_ms: u64,
    /// Message bytes kept while a token is being verified. Default 64 KiB.
    pub stash_bytes_max: usize,
    /// Detached sessions per shard; one more ends the oldest. Default 10,000.
    pub detached_max: usize,
    /// Events read per page when a subscription catches up. Default 64.
    pub page_events: usize,
}

/// Which messages the rate of a client is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RateDirection {
    /// Those it sends.
    #[default]
    In,
    /// Those it sends and, as many again, events and values that it is sent: what exceeds is dropped and counted on
    /// `ephemeral` channels, and made up for by the newest values on `metrics` channels. Events of a `log` are sent
    /// all the same, and use the rate up.
    Both,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            subscriptions_per_session: 1_000,
            messages_per_minute: 1_000,
            rate_direction: RateDirection::In,
            errors_per_minute: 20,
            outbox_bytes_max: 64 * 1024,
            slow_after_ms: 30_000,
            connection_age_max_ms: 0,
            auth_timeout_ms: 5_000,
            stash_bytes_max: 64 * 1024,
            detached_max: 10_000,
            page_events: 64,
        }
    }
}

/// What a client may show instead of its token when it comes back soon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket {
    /// What it shows; nothing in it is for the client to read.
    pub text: Box<str>,
    /// How long it lasts, in milliseconds from when it was made.
    pub lasts_ms: u64,
}

type MakeTicket = dyn Fn(&Principal, Now) -> Option<Ticket> + Send + Sync;

/// What makes tickets. They are made when they are sent and kept nowhere.
#[derive(Clone, Default)]
pub struct Tickets(Option<Arc<MakeTicket>>);

impl Tickets {
    /// Tickets made by `make`, which decides from what it is given alone who gets one.
    pub fn new(make: impl Fn(&Principal, Now) -> Option<Ticket> + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(make)))
    }

    /// A ticket for somebody, if they get one.
    #[must_use]
    pub fn make(&self, principal: &Principal, now: Now) -> Option<Ticket> {
        self.0.as_ref().and_then(|make| make(principal, now))
    }
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "tickets" } else { "no tickets" })
    }
}

/// The same maker, not one that does the same.
impl PartialEq for Tickets {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (one, other) => one.is_none() && other.is_none(),
        }
    }
}

impl Eq for Tickets {}

/// Everything the hub is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubSettings {
    /// Bounds of one session or connection.
    pub limits: Limits,
    /// Every connection is pinged once in so many milliseconds. Default 30 s.
    pub heartbeat_interval_ms: u64,
    /// A ping not answered for so long closes the connection with 4003, in milliseconds. Default 10 s.
    pub heartbeat_timeout_ms: u64,
    /// How long a session outlives its connection, in milliseconds. Default 2 min.
    pub resume_window_ms: u64,
    /// Whether a session that is not here may be on another node, which can be asked for it.
    pub sessions_move: bool,
    /// The longest that a client should wait between attempts to come back, in milliseconds. Default 10 s, which goes
    /// without saying.
    pub retry_max_ms: u64,
    /// What makes the tickets that clients are given in `connected`. Default: nothing.
    pub tickets: Tickets,
    /// The event types a client may send as messages of their own (document 000's five by default).
    pub client_events: Box<[Box<str>]>,
}

impl Default for HubSettings {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            heartbeat_interval_ms: 30_000,
            heartbeat_timeout_ms: 10_000,
            resume_window_ms: 120_000,
            sessions_move: false,
            retry_max_ms: BACKOFF_MAX_MS,
            tickets: Tickets::default(),
            client_events: ["task_assign", "draft_approve", "draft_reject", "message_send", "state_sync"]
                .map(Into::into)
                .into(),
        }
    }
}
