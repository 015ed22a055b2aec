//! Publishing: from an event to a publication with its place in the channel.
//!
//! One request's events are checked first, all of them, and then accepted in order; a request with a
//! bad item changes nothing. A channel's lock is held from taking the sequence until the publication
//! lies in the inbox of every shard that listens, so all listeners meet the same order. Nothing here
//! waits: with the memory store an event is accepted or refused at once.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::RwLock;
use pulsewire_protocol::{ChannelName, Epoch, ErrorCode, Event, MetricSet, Position, Sequence};
use pulsewire_telemetry::{EventTypeId, Telemetry};

use crate::channel::{Channel, ChannelId};
use crate::log::{Known, Log};
use crate::{Body, ChannelKind, LogLimits, Namespace, Namespaces, Now, Page, Publication, ReadLimit};

/// Whoever is to hear of publications, one part for each shard.
pub trait Audience: Send + Sync {
    /// Whether the shard can take more publications now.
    fn has_room(&self, shard: usize) -> bool;
    /// Publications of one channel, in order, for a shard that has listeners of it. Must not wait.
    fn deliver(&self, shard: usize, publications: &[Arc<Publication>]);
}

/// What a bus is made of.
#[derive(Debug, Clone)]
pub struct Options {
    /// The namespaces, in the order in which they are tried.
    pub namespaces: Namespaces,
    /// How many shards the audience has.
    pub shards: usize,
    /// At most so many channels at a time; default 1,000,000.
    pub channels_max: usize,
    /// The epoch of every channel: random, new at every start, since memory keeps nothing.
    pub epoch: Epoch,
}

/// Who publishes.
#[derive(Debug, Clone, Copy)]
pub struct Publisher<'a> {
    /// The scope in which message ids are unique: the authenticated subject.
    pub principal: &'a str,
    /// Shown to subscribers as the event's `user`; `None` for the server and for applications.
    pub user: Option<&'a str>,
}

/// What became of an accepted event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The channel.
    pub channel: ChannelName,
    /// Its sequence; `None` on channels that number nothing.
    pub sequence: Option<Sequence>,
    /// The epoch of the sequence.
    pub epoch: Option<Epoch>,
    /// Whether it had been accepted before, under the same message id.
    pub duplicate: bool,
    /// How many subscriptions it met.
    pub matched: u32,
}

/// Why an event was not accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Which event of the request; `None` if it concerns the request.
    pub index: Option<usize>,
    /// The code for the publisher.
    pub code: ErrorCode,
    /// What was wrong, for a person.
    pub detail: String,
}

/// The bus of one process.
pub struct Bus {
    options: Options,
    telemetry: Arc<Telemetry>,
    audience: Box<dyn Audience>,
    channels: RwLock<HashMap<ChannelName, Arc<Channel>>>,
    channels_made: AtomicU32,
}

impl Bus {
    /// A bus with no channels.
    #[must_use]
    pub fn new(options: Options, telemetry: Arc<Telemetry>, audience: Box<dyn Audience>) -> Self {
        Self { options, telemetry, audience, channels: RwLock::default(), channels_made: AtomicU32::new(0) }
    }

    /// The namespaces.
    #[must_use]
    pub fn namespaces(&self) -> &Namespaces {
        &self.options.namespaces
    }

    /// How many shards the audience has.
    #[must_use]
    pub fn shards(&self) -> usize {
        self.options.shards
    }

    /// How many channels exist now.
    #[must_use]
    pub fn channels(&self) -> usize {
        self.channels.read().len()
    }

    /// The namespace of a channel name.
    #[must_use]
    pub fn namespace(&self, name: &ChannelName) -> Option<&Namespace> {
        self.options.namespaces.find(name).map(|(_, namespace)| namespace)
    }

    /// The channel of this name, made if it does not exist yet.
    ///
    /// # Errors
    ///
    /// `unknown_channel` if no namespace matches, `limit_exceeded` if there are too many channels and none
    /// is idle.
    pub fn open(&self, name: &ChannelName) -> Result<Arc<Channel>, ErrorCode> {
        if let Some(channel) = self.channels.read().get(name) {
            return Ok(channel.clone());
        }
        let (id, namespace) = self.options.namespaces.find(name).ok_or(ErrorCode::UnknownChannel)?;
        let mut channels = self.channels.write();
        if let Some(channel) = channels.get(name) {
            return Ok(channel.clone());
        }
        if channels.len() >= self.options.channels_max {
            channels.retain(|_, channel| Arc::strong_count(channel) > 1 || !channel.is_idle());
            if channels.len() >= self.options.channels_max {
                return Err(ErrorCode::LimitExceeded);
            }
        }
        let limits = match namespace.kind {
            ChannelKind::Log => LogLimits {
                history_max: namespace.history_max,
                critical_max: namespace.critical_max,
                ids_max: namespace.history_max.max(1_000) * 4,
            },
            ChannelKind::Ephemeral | ChannelKind::Metrics => {
                LogLimits { history_max: 0, critical_max: 0, ids_max: 0 }
            }
        };
        let channel = Arc::new(Channel::new(
            ChannelId(self.channels_made.fetch_add(1, Ordering::Relaxed)),
            name.clone(),
            id,
            namespace.kind,
            self.options.epoch.clone(),
            self.options.shards,
            Log::new(limits),
        ));
        channels.insert(name.clone(), channel.clone());
        Ok(channel)
    }

    /// Accepts the events of one request, in order; either all are accepted or none.
    ///
    /// An event whose message id was seen before is answered with its first sequence and not published
    /// again.
    ///
    /// # Errors
    ///
    /// The first event that cannot be accepted, and why. Nothing was published then.
    pub fn publish(
        &self,
        now: Now,
        publisher: Publisher<'_>,
        events: Vec<Event>,
    ) -> Result<Vec<Receipt>, Refusal> {
        let channels = self.check(publisher, &events)?;
        let mut receipts = Vec::with_capacity(events.len());
        let mut events = events.into_iter().zip(channels).peekable();
        while let Some((event, channel)) = events.next() {
            let mut log = channel.log.lock();
            let mut fresh = Vec::new();
            receipts.push(self.accept(&channel, &mut log, now, publisher, event, &mut fresh));
            while let Some((event, _)) = events.next_if(|(_, next)| next.id == channel.id) {
                receipts.push(self.accept(&channel, &mut log, now, publisher, event, &mut fresh));
            }
            self.deliver(&channel, &fresh);
        }
        Ok(receipts)
    }

    /// Publishes a set of values on its metric channel.
    ///
    /// # Errors
    ///
    /// As [`Bus::publish`]; `overloaded` values are not kept either: the next ones are newer.
    pub fn publish_metrics(&self, now: Now, set: MetricSet) -> Result<u32, ErrorCode> {
        let channel = self.open(&set.channel)?;
        if channel.kind != ChannelKind::Metrics {
            return Err(ErrorCode::Unsupported);
        }
        if (0..self.options.shards)
            .any(|shard| channel.has_listeners(shard) && !self.audience.has_room(shard))
        {
            return Err(ErrorCode::Overloaded);
        }
        let publication = Arc::new(Publication::new(
            channel.clone(),
            Sequence(0),
            now.mono_ns,
            self.telemetry.event_types().intern("metric"),
            Body::Metrics(set),
        ));
        let mut log = channel.log.lock();
        log.set_latest(publication.clone());
        self.deliver(&channel, &[publication]);
        drop(log);
        Ok(channel.listeners())
    }

    /// What follows a sequence in a `log` channel.
    #[must_use]
    pub fn read(&self, channel: &Channel, after: Sequence, limit: ReadLimit) -> Page {
        channel.log.lock().read(after, limit)
    }

    /// The critical events that a channel keeps, oldest first.
    #[must_use]
    pub fn critical(&self, channel: &Channel) -> Vec<Arc<Publication>> {
        channel.log.lock().critical().cloned().collect()
    }

    /// The newest values of a metric channel.
    #[must_use]
    pub fn latest(&self, channel: &Channel) -> Option<Arc<Publication>> {
        channel.log.lock().latest()
    }

    /// Where a channel stands.
    #[must_use]
    pub fn position(&self, channel: &Channel) -> Position {
        channel.position()
    }

    fn check(&self, publisher: Publisher<'_>, events: &[Event]) -> Result<Vec<Arc<Channel>>, Refusal> {
        let mut channels: Vec<Arc<Channel>> = Vec::with_capacity(events.len());
        let mut ids: HashMap<(ChannelId, &str), u64> = HashMap::new();
        for (index, event) in events.iter().enumerate() {
            let refuse = |code: ErrorCode, detail: String| Refusal { index: Some(index), code, detail };
            let channel = match channels.last() {
                Some(last) if last.name == event.channel => last.clone(),
                _ => self.open(&event.channel).map_err(|code| {
                    refuse(code, format!("channel `{}`: {}", event.channel, code.message()))
                })?,
            };
            let namespace = self.options.namespaces.get(channel.namespace);
            if namespace.read_only {
                let detail = format!("channel `{}` is written by the server only", event.channel);
                return Err(refuse(ErrorCode::Forbidden, detail));
            }
            if channel.kind == ChannelKind::Metrics {
                let detail = format!("channel `{}` takes samples, not events", event.channel);
                return Err(refuse(ErrorCode::Unsupported, detail));
            }
            if (0..self.options.shards)
                .any(|shard| channel.has_listeners(shard) && !self.audience.has_room(shard))
            {
                let detail = "the fan-out queue is full; publish more slowly".to_owned();
                return Err(refuse(ErrorCode::Overloaded, detail));
            }
            if let (ChannelKind::Log, Some(id)) = (channel.kind, &event.id) {
                let hash = payload_hash(event);
                let seen_here =
                    ids.insert((channel.id, id.as_str()), hash).is_some_and(|other| other != hash);
                let seen_before =
                    channel.log.lock().known(&scoped(publisher, id.as_str()), hash) == Known::Other;
                if seen_here || seen_before {
                    // The code's own text says it all; the index says which event.
                    return Err(refuse(ErrorCode::IdempotencyConflict, String::new()));
                }
            }
            channels.push(channel);
        }
        Ok(channels)
    }

    fn accept(
        &self,
        channel: &Arc<Channel>,
        log: &mut Log,
        now: Now,
        publisher: Publisher<'_>,
        event: Event,
        fresh: &mut Vec<Arc<Publication>>,
    ) -> Receipt {
        let receipt = |sequence: Option<Sequence>, duplicate| Receipt {
            channel: channel.name.clone(),
            sequence,
            epoch: sequence.map(|_| channel.epoch.clone()),
            duplicate,
            matched: channel.listeners(),
        };
        let event_type = self.event_type(&event);
        if channel.kind != ChannelKind::Log {
            let body = self.body(channel, now, publisher, event);
            let publication = Publication::new(channel.clone(), Sequence(0), now.mono_ns, event_type, body);
            fresh.push(Arc::new(publication));
            return receipt(None, false);
        }
        let identity = event.id.as_ref().map(|id| (scoped(publisher, id.as_str()), payload_hash(&event)));
        if let Some((id, hash)) = &identity
            && let Known::Same(sequence) = log.known(id, *hash)
        {
            return receipt(Some(sequence), true);
        }
        let sequence = log.next_sequence();
        let body = self.body(channel, now, publisher, event);
        let publication =
            Arc::new(Publication::new(channel.clone(), sequence, now.mono_ns, event_type, body));
        log.append(&publication);
        if let Some((id, hash)) = identity {
            log.remember(&id, hash, sequence);
        }
        fresh.push(publication);
        receipt(Some(sequence), false)
    }

    fn body(&self, channel: &Channel, now: Now, publisher: Publisher<'_>, mut event: Event) -> Body {
        let namespace = self.options.namespaces.get(channel.namespace);
        let listed = namespace.critical_types.iter().any(|critical| **critical == *event.event_type.as_str());
        event.critical = Some(event.critical.unwrap_or(listed));
        let timestamp_ms = event.timestamp_ms.unwrap_or(now.wall_ms);
        Body::Event { event, user: publisher.user.map(Into::into), timestamp_ms }
    }

    fn event_type(&self, event: &Event) -> EventTypeId {
        self.telemetry.event_types().intern(event.event_type.as_str())
    }

    /// Hands publications of one channel to the shards that listen. The channel's lock is held.
    fn deliver(&self, channel: &Channel, publications: &[Arc<Publication>]) {
        if publications.is_empty() {
            return;
        }
        for publication in publications {
            self.telemetry.shared().event_emitted(publication.event_type, 1);
        }
        for shard in (0..self.options.shards).filter(|shard| channel.has_listeners(*shard)) {
            self.audience.deliver(shard, publications);
        }
    }
}

fn scoped(publisher: Publisher<'_>, id: &str) -> String {
    format!("{}\0{id}", publisher.principal)
}

fn payload_hash(event: &Event) -> u64 {
    let mut hasher = DefaultHasher::new();
    event.event_type.as_str().hash(&mut hasher);
    event.data.get().hash(&mut hasher);
    event.key.hash(&mut hasher);
    hasher.finish()
}
