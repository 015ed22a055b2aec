//! Entries of Redis streams as events: what the thread that reads them tells the bus, and the metrics.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::Context as _;
use pulsewire_bus::Refusal;
use pulsewire_edge::clock;
use pulsewire_protocol::{ChannelName, Event, Sample};
use pulsewire_sources::redis::{
    ConsumerOptions, Fate, PublishRefusal, StreamHappening, StreamSource, StreamsOptions, StreamsReader,
    Target,
};
use pulsewire_telemetry::{Current, SampleSource, limited};

use super::{PUBLISHER, accept, reason, refuse};
use crate::app::App;
use crate::{random, settings};

/// A number that is not known.
const UNKNOWN: u64 = u64::MAX;

/// How it stands with the streams.
#[derive(Debug)]
pub struct Standing {
    connected: AtomicBool,
    lag: AtomicU64,
    pending: AtomicU64,
}

impl Default for Standing {
    fn default() -> Self {
        Self {
            connected: AtomicBool::new(false),
            lag: AtomicU64::new(UNKNOWN),
            pending: AtomicU64::new(UNKNOWN),
        }
    }
}

impl Standing {
    /// Says how it stands. How many entries wait is not known while Redis does not answer.
    pub fn survey(&self, current: &mut Current) {
        let connected = self.connected.load(Ordering::Relaxed);
        let known = |number: &AtomicU64| {
            Some(number.load(Ordering::Relaxed)).filter(|number| connected && *number != UNKNOWN)
        };
        current.redis_streams_connected = Some(connected);
        current.redis_stream_lag = known(&self.lag);
        current.redis_stream_pending = known(&self.pending);
    }
}

/// What the thread does.
///
/// # Errors
///
/// If the address is none, or a stream of the settings is none, which they are checked for.
pub(super) fn work(
    app: &Arc<App>,
    settings: &settings::Redis,
    url: String,
    consumer: String,
    stopping: Arc<AtomicBool>,
) -> anyhow::Result<impl FnOnce() + Send + 'static> {
    let streams: Result<Vec<_>, _> = settings.streams.iter().map(|text| StreamSource::parse(text)).collect();
    let streams = streams.map_err(anyhow::Error::msg).context("redis.streams")?;
    let options = StreamsOptions {
        url,
        group: settings.group.clone(),
        consumer,
        refused_max: settings.refused_max,
        consumer_options: ConsumerOptions {
            streams,
            claim_after: settings.claim_after,
            in_flight_max: settings.in_flight_max,
        },
    };
    let reader = StreamsReader::new(options).context("redis.url")?;
    let (mut target, chance) = (Publishing { app: app.clone(), lost: false }, random::source()?);
    Ok(move || reader.run(&stopping, chance, &mut target))
}

/// Publishes entries.
struct Publishing {
    app: Arc<App>,
    /// Whether it was last said that the connection is lost.
    lost: bool,
}

impl Target for Publishing {
    fn publish(&mut self, events: Vec<Event>, answer: mpsc::Sender<Result<(), PublishRefusal>>) {
        let telemetry = self.app.telemetry.clone();
        let reply = move |outcome: Result<Vec<pulsewire_bus::Receipt>, Refusal>| {
            let outcome = outcome.map_err(|refusal| PublishRefusal {
                index: refusal.index,
                code: refusal.code,
                detail: refusal.detail,
                retry_after: refusal.retry_after_ms.map(|ms| Duration::from_millis(u64::from(ms))),
            });
            let outcome = outcome.map(|receipts| {
                receipts.iter().for_each(|receipt| accept(&telemetry, receipt.duplicate));
            });
            // Nobody waits for it once the thread has ended.
            let _ = answer.send(outcome);
        };
        self.app.bus.publish(clock::now(), PUBLISHER, events, Box::new(reply));
    }

    fn publish_samples(&mut self, channel: &ChannelName, samples: Vec<Sample>) -> Result<(), PublishRefusal> {
        let published = self.app.bus.publish_samples(clock::now(), SampleSource::Redis, channel, samples);
        match published {
            Ok(receipt) => {
                for refused in receipt.refused {
                    limited!(warn, %channel, detail = refused.detail, "a sample of a Redis stream was refused");
                }
                Ok(())
            }
            Err(code) => {
                let detail = format!("channel `{channel}`: {}", code.message());
                Err(PublishRefusal { index: None, code, detail, retry_after: None })
            }
        }
    }

    fn happens(&mut self, happening: StreamHappening<'_>) {
        let shared = self.app.telemetry.shared();
        let Some(standing) = &self.app.redis_streams else { return };
        match happening {
            StreamHappening::Connected => {
                if !standing.connected.swap(true, Ordering::Relaxed) {
                    tracing::info!("streams are read from Redis");
                }
                self.lost = false;
            }
            StreamHappening::Lost { error, pause } => {
                standing.connected.store(false, Ordering::Relaxed);
                if !std::mem::replace(&mut self.lost, true) {
                    let pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
                    limited!(
                        error,
                        error,
                        pause_ms,
                        "streams cannot be read from Redis; it is tried again until they can"
                    );
                }
            }
            StreamHappening::Claimed(count) => shared.redis_claimed(count as u64),
            StreamHappening::Retried => {
                shared.redis_retried();
                limited!(
                    warn,
                    "entries of Redis streams cannot be published now; they are tried again until they can"
                );
            }
            StreamHappening::Acknowledged { key, id, fate } => {
                shared.redis_acknowledged();
                match fate {
                    Fate::Kept => {}
                    Fate::Gone => {
                        limited!(
                            warn,
                            key,
                            id,
                            "an entry of a Redis stream was deleted before it was published"
                        );
                    }
                    Fate::Refused(refusal) => {
                        let (code, detail) = (refusal.code, &refusal.detail);
                        refuse(&self.app.telemetry, code, reason(code));
                        limited!(warn, key, id, %code, detail, "an entry of a Redis stream was refused");
                    }
                }
            }
            StreamHappening::Waiting { lag, pending } => {
                standing.lag.store(lag.unwrap_or(UNKNOWN), Ordering::Relaxed);
                standing.pending.store(pending, Ordering::Relaxed);
            }
        }
    }
}
