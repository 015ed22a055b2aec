//! The thread that reads samples from Redis and publishes them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use anyhow::Context as _;
use pulsewire_bus::ChannelKind;
use pulsewire_edge::clock;
use pulsewire_sources::redis::{Happening, RedisOptions, RedisReader, read_message};
use pulsewire_telemetry::{SampleSource, limited};

use crate::app::App;
use crate::{random, settings};

/// The thread.
pub struct Thread {
    stopping: Arc<AtomicBool>,
    thread: [JoinHandle<()>; 1],
}

impl Thread {
    /// Starts to read. A server that cannot be reached is waited for.
    ///
    /// # Errors
    ///
    /// If the address is none, or the thread cannot be started.
    pub fn start(app: &Arc<App>, settings: &settings::Redis) -> anyhow::Result<Self> {
        let url = settings.url.as_ref().context("redis.url is not set")?.expose().to_owned();
        let reader = RedisReader::new(&RedisOptions { url, patterns: settings.patterns.clone() });
        let reader = reader.context("redis.url")?;
        let stopping = Arc::new(AtomicBool::new(false));
        let (app, stop, chance) = (app.clone(), stopping.clone(), random::source()?);
        let work = move || {
            let mut state = State::Unknown;
            reader.run(&stop, chance, |happening| state.happens(&app, happening));
        };
        let thread = std::thread::Builder::new().name("redis-reader".to_owned()).spawn(work);
        Ok(Self { stopping, thread: [thread.context("starting the thread that reads from Redis")?] })
    }

    /// The thread's name, if it has ended though nobody stopped it.
    #[must_use]
    pub fn fallen(&self) -> Option<String> {
        pulsewire_edge::fallen(&self.thread)
    }

    /// Ends the thread, within half a second; nobody needs to wait for it.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }
}

/// What was last said of the connection, so that only changes are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Unknown,
    Connected,
    Lost,
}

impl State {
    fn happens(&mut self, app: &App, happening: Happening<'_>) {
        match happening {
            Happening::Message { channel, payload } => take(app, channel, payload),
            Happening::Idle => {}
            Happening::Connected => {
                if *self == Self::Lost {
                    limited!(warn, "samples are read from Redis again; what was published meanwhile is lost");
                } else {
                    tracing::info!("samples are read from Redis");
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

fn take(app: &App, channel: &str, payload: &[u8]) {
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
