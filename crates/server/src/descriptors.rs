//! Who may use how many of the process's file descriptors.
//!
//! The limit of open files is shared out when settings are put in force: first what the server needs for
//! itself, then HTTP, then WebSocket connections, whose number `limits.connections_max` wishes for and this
//! bounds. So clients are refused with an answer while descriptors are left, and metrics, health and admin
//! can be reached by whoever wants to know why.

use pulsewire_edge::sys;

use pulsewire_sources::upstream::Upstream;

use crate::settings::Settings;
use crate::settings::upstream::Declared;

/// What the process needs whatever it does: standard streams (3), the runtime and its signals (7), listening
/// sockets (2), sources of chance (2), files the collector or a reload reads (6), a connection that is being
/// refused (1), and some for what a library opens without asking.
const OWN: u64 = 32;
/// What a shard needs: its poll, the poll's registration and what wakes it.
const PER_SHARD: u64 = 4;
/// Connections of the internal address, so that operators do not depend on what clients leave.
pub const INTERNAL: usize = 16;
/// HTTP connections of the public address at a time, where the limit allows so many.
const HTTP_MAX: u64 = 8_192;
/// The fewest HTTP connections with which the server can be used at all.
const HTTP_MIN: u64 = 8;

/// The shares of the limit of open files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// The limit of open files, if the system has one.
    pub limit: Option<u64>,
    /// What is kept for the server itself: threads, files, hook calls, upstreams, the internal address.
    pub own: u64,
    /// HTTP connections at a time on the public address: requests, scrapes and handshakes.
    pub http_max: usize,
    /// WebSocket connections at a time: `limits.connections_max`, or fewer.
    pub connections_max: usize,
    /// From how many of them a warning is given.
    pub connections_soft: usize,
    /// What `limits.connections_max` asks for.
    pub connections_wished: usize,
}

/// The limit of open files leaves no room for clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the limit of open files is {limit}, and the server needs {needed} before it can take a client; \
     raise it with ulimit -n or LimitNOFILE"
)]
pub struct TooFew {
    limit: u64,
    needed: u64,
}

impl Share {
    /// Raises the soft limit as far as it goes and shares it out.
    ///
    /// # Errors
    ///
    /// [`TooFew`] if no client would find a place.
    pub fn of_process(settings: &Settings, shards: usize) -> Result<Self, TooFew> {
        Self::of(sys::raise_open_files_limit().map(|limit| limit.now), settings, shards)
    }

    fn of(limit: Option<u64>, settings: &Settings, shards: usize) -> Result<Self, TooFew> {
        let wished = settings.limits.connections_max;
        let hook = settings.hook.url.as_ref().map_or(0, |_| settings.hook.in_flight_max);
        let internal = settings.server.internal_listen.map_or(0, |_| INTERNAL);
        let own = OWN + PER_SHARD * shards as u64 + (hook + internal) as u64;
        // An eighth at most: clients come first, and a stream that finds no descriptor is tried again.
        let own = own + upstream_links(settings).min(limit.map_or(u64::MAX, |limit| limit / 8));
        let Some(limit) = limit else {
            let (connections_max, soft) = (wished, settings.limits.connections_soft);
            return Ok(Self {
                limit: None,
                own,
                http_max: HTTP_MAX as usize,
                connections_max,
                connections_soft: soft,
                connections_wished: wished,
            });
        };
        let needed = own + HTTP_MIN + 1;
        if limit < needed {
            return Err(TooFew { limit, needed });
        }
        let left = limit - own;
        // HTTP keeps a sixteenth whatever the wish is, and takes what connections do not need.
        let http_least = (left / 16).clamp(HTTP_MIN, HTTP_MAX);
        let connections = (left - http_least).min(wished as u64);
        let http = (left - connections).min(HTTP_MAX);
        let connections_max = usize::try_from(connections).unwrap_or(usize::MAX);
        let soft = settings.limits.connections_soft;
        let connections_soft =
            if connections_max < wished { soft.min(connections_max * 8 / 10) } else { soft };
        Ok(Self {
            limit: Some(limit),
            own,
            http_max: usize::try_from(http).unwrap_or(usize::MAX),
            connections_max,
            connections_soft,
            connections_wished: wished,
        })
    }

    /// What an operator should know, if the limit allows fewer connections than wished.
    #[must_use]
    pub fn note(&self) -> Option<String> {
        let limit = self.limit.filter(|_| self.connections_max < self.connections_wished)?;
        Some(format!(
            "limits.connections_max is {} instead of {}: the limit of open files is {limit}, of which {} are kept \
             for the server and {} for HTTP",
            self.connections_max, self.connections_wished, self.own, self.http_max
        ))
    }

    /// Says at the start how descriptors are shared out.
    pub fn log(&self) {
        let (open_files, own) = (self.limit.unwrap_or(u64::MAX), self.own);
        let (http_max, connections_max) = (self.http_max, self.connections_max);
        if let Some(note) = self.note() {
            tracing::warn!(
                open_files,
                own,
                http_max,
                connections_max,
                "{note}; raise it with ulimit -n or LimitNOFILE"
            );
        } else {
            tracing::info!(open_files, own, http_max, connections_max, "file descriptors are shared out");
        }
    }
}

/// How many connections the upstreams of the settings may have at a time.
fn upstream_links(settings: &Settings) -> u64 {
    let streams_max = settings.upstream_limits.streams_max as u64;
    let of =
        |upstream: &Upstream| if upstream.apart() { streams_max } else { 1 } * upstream.urls.len() as u64;
    settings
        .upstreams
        .iter()
        .flat_map(Declared::tracks)
        .map(|(_, upstream)| of(upstream))
        .sum::<u64>()
        .min(2 * streams_max)
}

#[cfg(test)]
mod tests {
    use pulsewire_sources::upstream::{ChannelTemplate, Template};

    use super::*;

    fn check(limit: u64, wished: usize, expected: Option<(usize, usize)>) {
        let mut settings = Settings::default();
        settings.limits.connections_max = wished;
        let share = Share::of(Some(limit), &settings, 2);
        assert_eq!(share.ok().map(|share| (share.connections_max, share.http_max)), expected, "{limit}");
        if let Ok(share) = share {
            assert!(share.own + share.http_max as u64 + share.connections_max as u64 <= limit);
            assert_eq!(share.note().is_some(), share.connections_max < wished);
            assert!(share.connections_soft <= share.connections_max.max(settings.limits.connections_soft));
        }
    }

    #[test]
    fn clients_get_what_the_server_and_http_do_not_need() {
        check(48, 10_000, None);
        check(49, 10_000, Some((1, 8)));
        check(64, 10_000, Some((16, 8)));
        check(1_024, 10_000, Some((923, 61)));
        check(12_000, 10_000, Some((10_000, 1_960)));
        check(1_048_576, 10_000, Some((10_000, 8_192)));
    }

    #[test]
    fn upstreams_of_the_settings_have_their_share() {
        let with = |urls: &[&str]| {
            let urls = urls.iter().map(|url| Template::parse(url).unwrap()).collect();
            let channel = ChannelTemplate::parse("upstream:t:{key}").unwrap();
            let stable = std::sync::Arc::new(Upstream::new("t", urls, channel));
            let mut settings = Settings::default();
            settings.upstreams.push(Declared { stable, candidate: None });
            Share::of(Some(12_000), &settings, 2).unwrap().own
        };
        let without = Share::of(Some(12_000), &Settings::default(), 2).unwrap().own;
        assert_eq!(with(&["ws://h/"]) - without, 1);
        assert_eq!(with(&["ws://h/{key}"]) - without, 1_000);
        assert_eq!(with(&["ws://h/{key}", "ws://i/{key}"]) - without, 1_500, "an eighth");
    }

    #[test]
    fn without_a_limit_the_wish_counts() {
        let share = Share::of(None, &Settings::default(), 2).unwrap();
        assert_eq!((share.connections_max, share.connections_soft), (10_000, 8_000));
        assert_eq!(share.note(), None);
    }

    #[test]
    fn the_soft_bound_follows_a_lowered_one() {
        let share = Share::of(Some(1_024), &Settings::default(), 2).unwrap();
        assert_eq!((share.connections_max, share.connections_soft), (923, 738));
        assert!(share.note().unwrap().contains("923 instead of 10000"));
    }
}
