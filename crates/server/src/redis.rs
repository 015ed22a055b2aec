//! The threads that read samples and events from Redis and publish them.

mod streams;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context as _;
use pulsewire_bus::{ChannelKind, NamedBy, Publisher};
use pulsewire_edge::clock;
use pulsewire_protocol::{ErrorCode, Event};
use pulsewire_sources::redis::{
    Happening, LeaseOptions, MESSAGE_BYTES_MAX, RedisOptions, RedisReader, read_message,
};
use pulsewire_telemetry::{PublishOutcome, PublishSource, RedisRefusal, SampleSource, Telemetry, limited};

use crate::app::App;
use crate::{random, settings};

pub use streams::Standing;

/// Who publishes what comes by Redis. The message ids of all its channels and streams are unique together, on all nodes.
const PUBLISHER: Publisher<'static> =
    Publisher { named_by: NamedBy::Source, principal: "redis", user: None, begun_ns: 0 };
/// How long the end of the threads is waited for.
const LAST: Duration = Duration::from_secs(2);

/// The threads.
pub struct Threads {
    stopping: Arc<AtomicBool>,
    /// What is published is read by the first, streams by the second.
    threads: Vec<JoinHandle<()>>,
}

impl Threads {
    /// Starts to read. A server that cannot be reached is waited for.
    ///
    /// # Errors
    ///
    /// If the address is none, or a thread cannot be started.
    pub fn start(app: &Arc<App>, settings: &settings::Redis) -> anyhow::Result<Self> {
        let url = settings.url.as_ref().context("redis.url is not set")?.expose().to_owned();
        let consumer = consumer(app, settings);
        // Of nodes that share their events, one takes each message.
        let lease = app.bus.has_shared_store().then(|| LeaseOptions {
            key: format!("pulsewire:reader:{}", settings.group),
            name: consumer.clone(),
        });
        let patterns = settings.patterns.iter().chain(&settings.events).cloned().collect();
        let reader = RedisReader::new(&RedisOptions { url: url.clone(), patterns, lease });
        let reader = reader.context("redis.url")?;
        let stopping = Arc::new(AtomicBool::new(false));
        let (of_app, stop, chance) = (app.clone(), stopping.clone(), random::source()?);
        let events = settings.events.clone();
        let work = move || {
            let mut state = State::Unknown;
            reader.run(&stop, chance, |happening| state.happens(&of_app, &events, happening));
        };
        let mut threads = vec![spawn("redis-reader", work)?];
        if !settings.streams.is_empty() {
            let work = streams::work(app, settings, url, consumer, stopping.clone())?;
            threads.push(spawn("redis-streams", work)?);
        }
        Ok(Self { stopping, threads })
    }

    /// The name of a thread that has ended though nobody stopped it.
    #[must_use]
    pub fn fallen(&self) -> Option<String> {
        pulsewire_edge::fallen(&self.threads)
    }

    /// Ends the threads, within half a second where Redis answers.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Waits until the threads that were told to stop have ended, two seconds at most: what they leave behind is
    /// taken up by another node, or at the next start.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the waiting and nothing else.
    pub async fn ended(&self) {
        let until = tokio::time::Instant::now() + LAST;
        while !self.threads.iter().all(JoinHandle::is_finished) && tokio::time::Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> anyhow::Result<JoinHandle<()>> {
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(work);
    thread.context("starting a thread that reads from Redis")
}

/// The name by which Redis knows this node: the same after a restart.
fn consumer(app: &App, settings: &settings::Redis) -> String {
    settings.consumer.clone().unwrap_or_else(|| {
        let host = pulsewire_sources::host::host_name().unwrap_or_else(|| app.node.to_string());
        format!("{host}:{}", app.address.port())
    })
}

/// What was last said of the connection, so that only changes are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Unknown,
    Connected,
    Lost,
}

impl State {
    fn happens(&mut self, app: &App, events: &[String], happening: Happening<'_>) {
        match happening {
            Happening::Message { pattern, channel, payload } => {
                if events.iter().any(|events| events == pattern) {
                    take_events(app, channel, payload);
                } else {
                    take_samples(app, channel, payload);
                }
            }
            Happening::Idle => {}
            Happening::Takes(true) => tracing::info!("this node takes what is published in Redis"),
            Happening::Takes(false) => tracing::info!("another node takes what is published in Redis"),
            Happening::Connected => {
                if *self == Self::Lost {
                    limited!(warn, "Redis is read again; what was published meanwhile is lost");
                } else {
                    tracing::info!("what is published in Redis is read");
                }
                app.telemetry.shared().redis_connected();
                self.becomes(app, Self::Connected);
            }
            Happening::Lost { error, pause } => {
                if *self != Self::Lost {
                    let pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
                    limited!(error, error, pause_ms, "Redis cannot be read; it is tried again until it can");
                }
                self.becomes(app, Self::Lost);
            }
        }
    }

    fn becomes(&mut self, app: &App, state: Self) {
        *self = state;
        if let Some(connected) = &app.redis {
            connected.store(state == Self::Connected, Ordering::Relaxed);
        }
    }
}

fn take_samples(app: &App, channel: &str, payload: &[u8]) {
    let shared = app.telemetry.shared();
    let is_metric = |channel: &_| {
        app.bus.namespace(channel).is_some_and(|namespace| namespace.kind == ChannelKind::Metrics)
    };
    let message = match read_message(channel, payload, is_metric) {
        Ok(message) => message,
        Err((reason, detail)) => {
            shared.samples_refused(reason, 1);
            limited!(warn, channel, detail, "a message from Redis was refused");
            return;
        }
    };
    for (reason, detail) in message.refused {
        shared.samples_refused(reason, 1);
        limited!(warn, channel, detail, "a sample from Redis was refused");
    }
    if message.samples.is_empty() {
        return;
    }
    match app.bus.publish_samples(clock::now(), SampleSource::Redis, &message.channel, message.samples) {
        Ok(receipt) => {
            for refused in receipt.refused {
                limited!(warn, channel, detail = refused.detail, "a sample from Redis was refused");
            }
        }
        Err(code) => limited!(warn, channel, %code, "samples from Redis were refused"),
    }
}

/// Publishes the events of a message. Redis keeps no messages, so what cannot be kept now is lost, and said.
fn take_events(app: &App, channel: &str, payload: &[u8]) {
    let telemetry = app.telemetry.clone();
    let refused = {
        let (telemetry, channel) = (telemetry.clone(), channel.to_owned());
        move |code: ErrorCode, detail: &str| {
            let reason = if code.retryable() { RedisRefusal::Lost } else { reason(code) };
            refuse(&telemetry, code, reason);
            limited!(warn, channel, %code, detail, "events that were published in Redis were refused");
        }
    };
    if payload.len() > MESSAGE_BYTES_MAX {
        let detail = format!("a message of {} bytes, more than {MESSAGE_BYTES_MAX}", payload.len());
        return refused(ErrorCode::TooLarge, &detail);
    }
    let count_max = app.live.load().settings.limits.publish_batch_max;
    let events = match Event::parse_batch(payload, count_max) {
        Ok(events) => events,
        Err(error) => return refused(error.code, &error.detail),
    };
    app.bus.publish(
        clock::now(),
        PUBLISHER,
        events,
        Box::new(move |answer| match answer {
            Ok(receipts) => receipts.iter().for_each(|receipt| accept(&telemetry, receipt.duplicate)),
            Err(refusal) => refused(refusal.code, &refusal.detail),
        }),
    );
}

fn accept(telemetry: &Telemetry, duplicate: bool) {
    let outcome = if duplicate { PublishOutcome::Duplicate } else { PublishOutcome::Accepted };
    telemetry.shared().publish(PublishSource::Redis, outcome);
}

fn refuse(telemetry: &Telemetry, code: ErrorCode, reason: RedisRefusal) {
    let outcome = if code.http_status() < 500 { PublishOutcome::Rejected } else { PublishOutcome::Failed };
    telemetry.shared().publish(PublishSource::Redis, outcome);
    telemetry.shared().redis_refused(reason);
}

/// The label of a refusal.
fn reason(code: ErrorCode) -> RedisRefusal {
    match code {
        ErrorCode::BadRequest => RedisRefusal::Malformed,
        ErrorCode::TooLarge => RedisRefusal::TooLarge,
        ErrorCode::UnknownChannel
        | ErrorCode::InvalidChannel
        | ErrorCode::Unsupported
        | ErrorCode::Forbidden => RedisRefusal::Channel,
        ErrorCode::IdempotencyConflict => RedisRefusal::Conflict,
        ErrorCode::LimitExceeded => RedisRefusal::Limit,
        _ => RedisRefusal::Other,
    }
}
