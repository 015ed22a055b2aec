//! The connection: one thread's loop that subscribes, reads and comes back.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use redis::io::tcp::{TcpSettings, socket2::TcpKeepalive};
use redis::{Client, IntoConnectionInfo as _, ProtocolVersion};

use super::Backoff;

/// How long connecting and the handshake may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How often a reader without messages looks whether it is to stop.
const LOOK: Duration = Duration::from_millis(500);
/// A server that is silent for so long is asked whether it is there …
const SILENT: Duration = Duration::from_secs(15);
/// … and so often again, three times in all.
const ASK_AGAIN: Duration = Duration::from_secs(5);

/// Where to read.
#[derive(Debug, Clone)]
pub struct RedisOptions {
    /// `redis://`, `rediss://` (TLS) or `unix://`, with a user and a password if there are any.
    pub url: String,
    /// Patterns of Redis channels (`PSUBSCRIBE`). A message that two of them match comes twice.
    pub patterns: Vec<String>,
}

/// Why a URL cannot be used. It does not repeat the URL, which may hold a password.
#[derive(Debug, thiserror::Error)]
#[error("not the address of a Redis server")]
pub struct RedisError;

/// Connects and asks whether a server is there; how long its answer took.
///
/// # Errors
///
/// Why there is no answer, for a person. It does not repeat the URL, which may hold a password.
pub fn ping(url: &str) -> Result<Duration, String> {
    let client = Client::open(url).map_err(|_| RedisError.to_string())?;
    let mut connection = client.get_connection_with_timeout(CONNECT).map_err(|error| error.to_string())?;
    connection.set_read_timeout(Some(CONNECT)).map_err(|error| error.to_string())?;
    let begun = Instant::now();
    redis::cmd("PING").exec(&mut connection).map_err(|error| error.to_string())?;
    Ok(begun.elapsed())
}

/// What a reader meets.
#[derive(Debug)]
pub enum Happening<'h> {
    /// It is connected and subscribed.
    Connected,
    /// A message came.
    Message {
        /// On which Redis channel; `?` if its name is no text.
        channel: &'h str,
        /// What it says.
        payload: &'h [u8],
    },
    /// Nothing came for half a second.
    Idle,
    /// It is not connected, or not any more.
    Lost {
        /// Why, for a person.
        error: String,
        /// After which time it tries again.
        pause: Duration,
    },
}

/// Reads messages until it is told to stop.
///
/// It reads one message after the other and holds none, so who publishes faster than is read here fills Redis's buffer
/// for this connection, and Redis ends it at its `client-output-buffer-limit pubsub`.
pub struct RedisReader {
    client: Client,
    patterns: Vec<String>,
}

impl std::fmt::Debug for RedisReader {
    /// Without the address, which may hold a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisReader").field("patterns", &self.patterns).finish_non_exhaustive()
    }
}

impl RedisReader {
    /// Checks the address; connects to nothing yet.
    ///
    /// # Errors
    ///
    /// If it is not one of a Redis server.
    pub fn new(options: &RedisOptions) -> Result<Self, RedisError> {
        let info = options.url.as_str().into_connection_info().map_err(|_| RedisError)?;
        let keepalive = TcpKeepalive::new().with_time(SILENT).with_interval(ASK_AGAIN).with_retries(3);
        let redis = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP2);
        let info = info.set_redis_settings(redis);
        let info = info.set_tcp_settings(TcpSettings::default().set_keepalive(keepalive));
        let client = Client::open(info).map_err(|_| RedisError)?;
        Ok(Self { client, patterns: options.patterns.clone() })
    }

    /// Reads until `stopping` is set, which it finds out within half a second. Blocks; `chance` gives any numbers.
    pub fn run(
        &self,
        stopping: &AtomicBool,
        mut chance: impl FnMut() -> u64,
        mut happens: impl FnMut(Happening<'_>),
    ) {
        let mut backoff = Backoff::default();
        loop {
            let mut since = None;
            let ended = self.connected(stopping, &mut since, &mut happens);
            if stopping.load(Ordering::Relaxed) {
                return;
            }
            let Err(error) = ended else { return };
            let held = since.map_or(Duration::ZERO, |since: Instant| since.elapsed());
            let pause = backoff.pause(held, chance());
            happens(Happening::Lost { error: error.to_string(), pause });
            let until = Instant::now() + pause;
            while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
            {
                if stopping.load(Ordering::Relaxed) {
                    return;
                }
                std::thread::sleep(left.min(LOOK));
            }
        }
    }

    /// One connection, until it is lost or there is nothing more to do.
    fn connected(
        &self,
        stopping: &AtomicBool,
        since: &mut Option<Instant>,
        happens: &mut impl FnMut(Happening<'_>),
    ) -> redis::RedisResult<()> {
        let mut connection = self.client.get_connection_with_timeout(CONNECT)?;
        connection.set_write_timeout(Some(CONNECT))?;
        connection.set_read_timeout(Some(CONNECT))?;
        let mut messages = connection.as_pubsub();
        messages.psubscribe(&self.patterns)?;
        messages.set_read_timeout(Some(LOOK))?;
        *since = Some(Instant::now());
        happens(Happening::Connected);
        while !stopping.load(Ordering::Relaxed) {
            let message = match messages.get_message() {
                Ok(message) => message,
                Err(error) if error.is_timeout() => {
                    happens(Happening::Idle);
                    continue;
                }
                Err(error) => return Err(error),
            };
            happens(Happening::Message {
                channel: message.get_channel_name(),
                payload: message.get_payload_bytes(),
            });
        }
        Ok(())
    }
}
