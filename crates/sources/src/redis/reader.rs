//! The connection: one thread's loop that subscribes, reads and comes back.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use redis::io::tcp::{TcpSettings, socket2::TcpKeepalive};
use redis::{Client, Connection, IntoConnectionInfo as _, ProtocolVersion};

use super::Backoff;
use super::lease::{LASTS_MS, LEAVE, Lease, TAKE};

/// How long connecting and the handshake may take.
pub(super) const CONNECT: Duration = Duration::from_secs(5);
/// How often a reader without messages looks whether it is to stop.
pub(super) const LOOK: Duration = Duration::from_millis(500);
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
    /// Who else reads the same, if one of them is to take each message.
    pub lease: Option<LeaseOptions>,
}

/// How nodes agree on who takes what is published.
#[derive(Debug, Clone)]
pub struct LeaseOptions {
    /// The key in Redis; the nodes of one cluster have the same.
    pub key: String,
    /// The node's name, which no other has.
    pub name: String,
}

/// A client of the server at this address, which notices within half a minute that it has vanished.
pub(super) fn client(url: &str) -> Result<Client, RedisError> {
    let info = url.into_connection_info().map_err(|_| RedisError)?;
    let keepalive = TcpKeepalive::new().with_time(SILENT).with_interval(ASK_AGAIN).with_retries(3);
    let redis = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP2);
    let info = info.set_redis_settings(redis);
    let info = info.set_tcp_settings(TcpSettings::default().set_keepalive(keepalive));
    Client::open(info).map_err(|_| RedisError)
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
        /// The pattern it matched.
        pattern: &'h str,
        /// On which Redis channel; `?` if its name is no text.
        channel: &'h str,
        /// What it says.
        payload: &'h [u8],
    },
    /// Nothing came for half a second.
    Idle,
    /// From now on it takes what comes, or another node does; not told where there is no lease.
    Takes(bool),
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
    options: RedisOptions,
}

impl std::fmt::Debug for RedisReader {
    /// Without the address, which may hold a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisReader").field("patterns", &self.options.patterns).finish_non_exhaustive()
    }
}

impl RedisReader {
    /// Checks the address; connects to nothing yet.
    ///
    /// # Errors
    ///
    /// If it is not one of a Redis server.
    pub fn new(options: &RedisOptions) -> Result<Self, RedisError> {
        Ok(Self { client: client(&options.url)?, options: options.clone() })
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
        let mut holder = self.holder()?;
        let mut messages = connection.as_pubsub();
        messages.psubscribe(&self.options.patterns)?;
        messages.set_read_timeout(Some(LOOK))?;
        let mut takes = holder.take(true)?;
        *since = Some(Instant::now());
        happens(Happening::Connected);
        if self.options.lease.is_some() {
            happens(Happening::Takes(takes));
        }
        while !stopping.load(Ordering::Relaxed) {
            let message = messages.get_message();
            let takes_now = holder.take(false)?;
            if takes_now != takes {
                takes = takes_now;
                happens(Happening::Takes(takes));
            }
            let message = match message {
                Ok(message) => message,
                Err(error) if error.is_timeout() => {
                    happens(Happening::Idle);
                    continue;
                }
                Err(error) => return Err(error),
            };
            if takes {
                happens(Happening::Message {
                    pattern: &message.get_pattern::<String>().unwrap_or_default(),
                    channel: message.get_channel_name(),
                    payload: message.get_payload_bytes(),
                });
            }
        }
        holder.leave()
    }

    /// A second connection, for a subscriber may ask for nothing; none if nobody else takes messages.
    fn holder(&self) -> redis::RedisResult<Holder> {
        let connect = |options: LeaseOptions| -> redis::RedisResult<_> {
            let connection = self.client.get_connection_with_timeout(CONNECT)?;
            connection.set_write_timeout(Some(CONNECT))?;
            connection.set_read_timeout(Some(CONNECT))?;
            Ok((connection, options))
        };
        let asking = self.options.lease.clone().map(connect).transpose()?;
        Ok(Holder { asking, lease: Lease::default(), begun: Instant::now() })
    }
}

/// Finds out whether this node takes messages.
struct Holder {
    asking: Option<(Connection, LeaseOptions)>,
    lease: Lease,
    begun: Instant,
}

impl Holder {
    fn now_ms(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Whether it takes them now; asks Redis if it is time, or `at_once`.
    fn take(&mut self, at_once: bool) -> redis::RedisResult<bool> {
        let now_ms = self.now_ms();
        let Some((connection, LeaseOptions { key, name })) = &mut self.asking else { return Ok(true) };
        if at_once || self.lease.is_due(now_ms) {
            let mut take = redis::cmd("EVAL");
            let mine: u8 = take.arg(TAKE).arg(1).arg(&*key).arg(&*name).arg(LASTS_MS).query(connection)?;
            self.lease.answered(now_ms, mine == 1);
        }
        Ok(self.lease.is_held(self.now_ms()))
    }

    /// Lets another take them at once.
    fn leave(&mut self) -> redis::RedisResult<()> {
        let Some((connection, LeaseOptions { key, name })) = &mut self.asking else { return Ok(()) };
        redis::cmd("EVAL").arg(LEAVE).arg(1).arg(&*key).arg(&*name).exec(connection)
    }
}
