//! What operators see of upstreams: rows of the admin API, of `$sys.upstreams` and of the command line.

use pulsewire_sources::upstream::canary::{Comparison, Tracks};
use serde::Serialize;

/// One stream.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StreamInfo {
    /// Its number, as text.
    pub id: String,
    /// Its upstream's name.
    pub upstream: Box<str>,
    /// The key it has to itself; empty if it has all.
    pub key: Box<str>,
    /// The keys that are wanted, the first 100.
    pub keys: Vec<Box<str>>,
    /// How many are wanted.
    pub keys_total: usize,
    /// `stable` or `canary`.
    pub track: &'static str,
    /// `connecting`, `live`, `stale`, `waiting`, `circuit` (its circuit is open), `failed` or `closing`.
    pub state: &'static str,
    /// Since when it is in this state, RFC 3339.
    pub since: String,
    /// When it was opened, RFC 3339.
    pub opened_at: String,
    /// How many listen to its channels.
    pub listeners: u64,
    /// How long nobody has; `null` while somebody does.
    pub idle_ms: Option<u64>,
    /// Attempts to connect, of all links.
    pub attempts: u64,
    /// Those of them that were not a link's first.
    pub retries: u64,
    /// Attempts and connections that failed.
    pub errors: u64,
    /// When it is tried again, in milliseconds from now; `null` unless it waits.
    pub retry_in_ms: Option<u64>,
    /// Messages that came.
    pub messages: u64,
    /// Bytes of their payloads.
    pub bytes: u64,
    /// Messages a second, in the last seconds.
    pub messages_per_second: f64,
    /// Messages that were published.
    pub published: u64,
    /// Messages that had come from another link already.
    pub duplicates: u64,
    /// Messages that are no events: answers, heartbeats, keys that nobody wants, garbage.
    pub unmapped: u64,
    /// Messages that were dropped: beyond `messages_per_second`, or because subscribers' queues were full.
    pub dropped: u64,
    /// Numbers that never came.
    pub missing: u64,
    /// How often the other link took over.
    pub failovers: u64,
    /// How long ago the last message came, milliseconds; `null` if none has.
    pub last_message_ago_ms: Option<u64>,
    /// What it failed at last: the kind, a text and when (RFC 3339); `null` if it never failed.
    pub last_error: Option<ErrorInfo>,
    /// Its connections.
    pub links: Vec<LinkInfo>,
}

/// A failure.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ErrorInfo {
    /// As the label `kind` of `ws_manager_stream_errors_total`.
    pub kind: &'static str,
    /// What happened.
    pub text: String,
    /// When, RFC 3339.
    pub at: String,
}

/// One connection of a stream.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LinkInfo {
    /// Where to, without query and secret.
    pub url: String,
    /// `connecting`, `live`, `waiting`, `circuit` or `failed`.
    pub state: &'static str,
    /// Attempts.
    pub attempts: u64,
    /// Failures in a row.
    pub failures: u32,
    /// When it is tried again, in milliseconds from now.
    pub retry_in_ms: Option<u64>,
}

/// One declaration.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UpstreamInfo {
    /// Its name.
    pub name: Box<str>,
    /// Its URLs, without query and secret.
    pub urls: Vec<String>,
    /// The channels it feeds.
    pub channel: String,
    /// Whether each key has a stream of its own.
    pub apart: bool,
    /// Whether its stream is open though nobody listens.
    pub always: bool,
    /// `settings` or `api`.
    pub declared_by: &'static str,
    /// Whether the candidate has settings of its own for it.
    pub candidate: bool,
    /// Its streams.
    pub streams: usize,
    /// How often its circuit opened.
    pub circuit_opened: u64,
    /// How long its circuit stays open, milliseconds; `null` while it is closed.
    pub circuit_open_ms: Option<u64>,
}

/// How the candidate does.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CanaryInfo {
    /// `off`, `insufficient`, `pass`, `suspect`, `fail` or `rolled_back`.
    pub verdict: &'static str,
    /// Whether there is a candidate (`features.upstream_manager`).
    pub enabled: bool,
    /// The share of streams that it gets.
    pub share: f64,
    /// Worse is more than so many times stable's rate.
    pub ratio: f64,
    /// Milliseconds that are compared, and that it has to be worse for.
    pub window_ms: u64,
    /// So many of its streams have to show it.
    pub streams_min: u64,
    /// Whether the server takes it back by itself.
    pub rollback: bool,
    /// Since when it is worse, RFC 3339.
    pub worse_since: Option<String>,
    /// When it was taken back, RFC 3339, and why.
    pub rolled_back_at: Option<String>,
    /// Why it was taken back.
    pub rolled_back_why: Option<String>,
    /// What the streams of both tracks did; sums that can be added over servers.
    pub tracks: Tracks,
    /// What comes of them.
    pub comparison: Option<Comparison>,
}
