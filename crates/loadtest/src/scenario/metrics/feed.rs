//! Samples at a fixed rate by HTTP, from a thread beside the one that reads.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use serde::Deserialize;

use super::CHANNEL;
use crate::listeners::Listeners;
use crate::post::Poster;
use crate::target::Target;

/// Names of each host; a request carries all of them.
pub(super) const NAMES: usize = 10;
/// Hosts of one request.
const HOSTS_TOGETHER: usize = 10;
/// Samples of one request.
pub(super) const TOGETHER: usize = HOSTS_TOGETHER * NAMES;
/// What came of the last samples is waited for so long.
const SETTLED: Duration = Duration::from_millis(500);

/// A load of samples: every series in turn.
#[derive(Debug, Clone, Copy)]
pub(super) struct Feed {
    /// Hosts, each with [`NAMES`] series.
    pub(super) hosts: usize,
    /// Samples a second.
    pub(super) rate: usize,
    /// How long.
    pub(super) duration: Duration,
}

/// What became of them.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Fed {
    pub(super) sent: u64,
    pub(super) accepted: u64,
    pub(super) seconds: f64,
}

/// What the server answers.
#[derive(Deserialize)]
struct Answer {
    accepted: u64,
}

impl Feed {
    /// Sends the samples while the listeners read. Each sample's value is when it was meant to leave, in microseconds
    /// since `origin`.
    pub(super) fn run(self, listeners: &mut Listeners<'_>, origin: Instant) -> anyhow::Result<Fed> {
        let target: &Target = listeners.target;
        let poster = target.poster()?;
        let fed = std::thread::scope(|scope| {
            let feeding = scope.spawn(move || self.send(poster, origin));
            while !feeding.is_finished() {
                listeners.turn(Instant::now() + Duration::from_millis(20))?;
            }
            feeding.join().map_err(|_| anyhow!("the thread that sends samples panicked"))?
        })?;
        listeners.rest(SETTLED)?;
        Ok(fed)
    }

    fn send(self, mut poster: Poster, origin: Instant) -> anyhow::Result<Fed> {
        let every = Duration::from_secs_f64(TOGETHER as f64 / self.rate as f64);
        // Whole turns, so that every series has as many samples.
        let turn = self.hosts.div_ceil(HOSTS_TOGETHER) as f64;
        let requests = ((self.duration.as_secs_f64() / every.as_secs_f64() / turn).ceil() * turn) as u32;
        let (begun, mut fed, mut body) = (Instant::now(), Fed::default(), String::new());
        for request in 0..requests {
            let meant = begun + every * request;
            std::thread::sleep(meant.saturating_duration_since(Instant::now()));
            let first = request as usize * HOSTS_TOGETHER;
            self.write(&mut body, first, meant.saturating_duration_since(origin));
            let (status, answer) = poster.post("/api/metrics/samples", body.as_bytes())?;
            fed.sent += TOGETHER as u64;
            if status == 200 {
                let answer: Answer = serde_json::from_slice(&answer).context("not an answer to samples")?;
                fed.accepted += answer.accepted;
            }
        }
        fed.seconds = begun.elapsed().as_secs_f64().max((every * requests).as_secs_f64());
        Ok(fed)
    }

    fn write(self, body: &mut String, first: usize, at: Duration) {
        body.clear();
        let _ = write!(body, r#"{{"channel":"{CHANNEL}","samples":["#);
        for sample in 0..TOGETHER {
            let comma = if sample == 0 { "" } else { "," };
            let (host, name, at) = ((first + sample / NAMES) % self.hosts, sample % NAMES, at.as_micros());
            let host = host_name(host);
            let _ = write!(
                body,
                r#"{comma}{{"name":"m{name}","value":{at},"tags":{{"env":"production","host":"{host}"}}}}"#
            );
        }
        body.push_str("]}");
    }
}

/// The tag `host` of a host.
pub(super) fn host_name(host: usize) -> String {
    format!("host-{host:04}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_in_turn_carry_every_series_once() {
        let feed = Feed { hosts: 20, rate: 200, duration: Duration::from_secs(1) };
        let mut seen = std::collections::BTreeSet::new();
        let mut body = String::new();
        for request in 0..2 {
            feed.write(&mut body, request * HOSTS_TOGETHER, Duration::from_micros(7));
            let value: serde_json::Value = serde_json::from_str(&body).unwrap();
            for sample in value["samples"].as_array().unwrap() {
                assert_eq!(sample["value"], 7);
                let name = sample["name"].as_str().unwrap().to_owned();
                assert!(seen.insert((name, sample["tags"]["host"].as_str().unwrap().to_owned())));
            }
        }
        assert_eq!(seen.len(), 20 * NAMES);
        feed.write(&mut body, 20, Duration::ZERO);
        assert!(body.contains(&host_name(0)) && !body.contains(&host_name(20)), "{body}");
    }
}
