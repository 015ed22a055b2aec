//! Publishing: from an event to a publication with its place in the channel.
//!
//! One request's events are checked first, all of them, and then accepted in order; a request with a bad item
//! changes nothing. Events of `log` channels go to their store and are told to anyone, their publisher
//! included, only when they are kept; a request that has none is done at once.

use std::sync::Arc;

use pulsewire_protocol::{ChannelName, Epoch, ErrorCode, Event, Sequence};
use sha2::{Digest as _, Sha256};

use crate::lane::{Attempt, Committing, failure_label};
use crate::store::{
    Accepted, Append, Batch, Decision, Declined, DedupKey, Durability, Outcome, Place, StoreError,
};
use crate::{Body, Bus, Channel, ChannelKind, Hint, Lane, Mutant, Namespace, Now, Publication, Turn};

/// What vouches for a publisher's name. The same name from two of them is two publishers: whoever
/// makes tokens must not be able to take an API key's message ids, nor the other way round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NamedBy {
    /// Nothing: the anonymous, who share one scope.
    #[default]
    Nobody,
    /// A token; the name is its subject.
    Token,
    /// An API key of the settings; the name is its id.
    ApiKey,
    /// A source that the settings name, such as Redis; the name is its.
    Source,
    /// The server itself, which alone writes to channels that are [read-only](Namespace::read_only).
    Server,
}

/// Channels whose growth is counted, and channels that wait to be trimmed, at most.
const GROWN_MAX: usize = 65_536;
/// Batches after which a channel is trimmed even if more are waiting.
const BATCHES_MAX: usize = 16;

/// Who publishes. Message ids are unique within `named_by` and `principal` together.
#[derive(Debug, Clone, Copy)]
pub struct Publisher<'a> {
    /// What vouches for the name.
    pub named_by: NamedBy,
    /// The publisher's name: the authenticated subject.
    pub principal: &'a str,
    /// Shown to subscribers as the event's `user`; `None` for the server and for applications.
    pub user: Option<&'a str>,
    /// From when a round trip is counted ([`Publication::begun_ns`]); 0 if that is unknown.
    pub begun_ns: u64,
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

/// Why a request was not accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Which event of the request; `None` if it concerns the request.
    pub index: Option<usize>,
    /// The code for the publisher.
    pub code: ErrorCode,
    /// What was wrong, for a person.
    pub detail: String,
    /// When to try again, milliseconds, if that is known.
    pub retry_after_ms: Option<u32>,
}

impl Refusal {
    fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        Self { index: None, code, detail: detail.into(), retry_after_ms: None }
    }
}

/// How an answer comes back: at once, or from the thread that commits. It must not publish.
pub type Reply<T> = Box<dyn FnOnce(T) + Send>;

/// A request on its way to a store.
pub(crate) struct Submission {
    items: Vec<Item>,
    pub(crate) appends: Arc<[Append]>,
    pub(crate) bytes: usize,
    pub(crate) durability: Durability,
    moments: Moments,
    reply: Reply<Result<Vec<Receipt>, Refusal>>,
}

/// When a request came, on the monotonic clock; 0 for what was read back.
#[derive(Clone, Copy, Default)]
pub(crate) struct Moments {
    accepted_ns: u64,
    begun_ns: u64,
}

impl Moments {
    /// Of what no client of ours waits for.
    pub(crate) fn accepted(now: Now) -> Self {
        Self { accepted_ns: now.mono_ns, begun_ns: 0 }
    }
}

/// An event of a request, in its order.
enum Item {
    /// The next of the appends.
    Kept,
    /// An event of a channel that keeps nothing.
    Passing(Passing),
}

/// An event of a channel that keeps nothing.
struct Passing {
    channel: Arc<Channel>,
    accepted: Arc<Accepted>,
    /// Whether other nodes are told. What a node's server says by itself, every node's server says to its own.
    everywhere: bool,
}

impl Bus {
    /// Accepts the events of one request, in order; either all are accepted or none.
    ///
    /// An event whose message id was seen before is answered with its first sequence and not published
    /// again. The refusal names the first event that cannot be accepted, and why; nothing was published then,
    /// except with `outcome_unknown`: send the same again with the same ids.
    pub fn publish(
        &self,
        now: Now,
        publisher: Publisher<'_>,
        events: Vec<Event>,
        reply: Reply<Result<Vec<Receipt>, Refusal>>,
    ) {
        let begun_ns = publisher.begun_ns;
        match self.prepare(now, publisher, events) {
            Err(refusal) => reply(Err(refusal)),
            Ok(prepared) if prepared.appends.is_empty() => {
                let passing = prepared.items.iter().filter_map(|item| match item {
                    Item::Passing(passing) => Some(passing),
                    Item::Kept => None,
                });
                let receipts = self.pass_all(now, passing);
                reply(Ok(receipts));
            }
            Ok(Prepared { items, appends, lane, durability }) => {
                let bytes = appends.iter().map(|append| append.accepted.bytes()).sum();
                let submission = Submission {
                    items,
                    appends: appends.into(),
                    bytes,
                    durability,
                    moments: Moments { accepted_ns: now.mono_ns, begun_ns },
                    reply,
                };
                self.submit(lane, submission, now);
            }
        }
    }

    fn submit(&self, durability: Durability, submission: Submission, now: Now) {
        let lane = self.lane(durability);
        if let Some((trouble, after_ms)) = lane.closed(now) {
            (submission.reply)(Err(unavailable(&trouble.error, Some(after_ms))));
            return;
        }
        if let Err(submission) = lane.push(submission) {
            let detail = "too many events wait to be kept; publish more slowly";
            let refusal =
                Refusal { retry_after_ms: Some(1_000), ..Refusal::new(ErrorCode::Overloaded, detail) };
            (submission.reply)(Err(refusal));
            return;
        }
        if lane.store.is_instant() {
            while self.commit(lane, now) == Turn::Done {}
        }
    }

    /// Keeps what waits in a lane, tells publishers and listeners, and tidies up when nothing waits.
    ///
    /// To be called by one thread for each lane, whenever its bell rings. May block in the store.
    pub fn commit(&self, lane: &Lane, now: Now) -> Turn {
        let mut committing = lane.committing.lock();
        if self.is(Mutant::RetryUnderNewKeys) {
            committing.rename(|| self.own_key());
        }
        let attempt = lane.attempt(&mut committing, now, &self.telemetry);
        match attempt {
            Attempt::Nothing => match lane.probe(now, &self.telemetry) {
                Some(until_ns) => Turn::Pause(until_ns),
                None => self.trim_one(lane, &mut committing, now),
            },
            Attempt::Later(until_ns) => Turn::Pause(until_ns),
            Attempt::Refused(submissions, error) => {
                if error.outcome == Outcome::Unknown {
                    // What may stand in the store is found by looking.
                    self.suspect();
                }
                let until_ns = lane.trouble().map_or(0, |trouble| trouble.not_before_ns);
                let after_ms = u32::try_from(until_ns.saturating_sub(now.mono_ns) / 1_000_000 + 1).ok();
                for submission in submissions {
                    (submission.reply)(Err(unavailable(&error, after_ms)));
                }
                Turn::Done
            }
            Attempt::Kept(batch, submissions, decisions) => {
                self.kept(&mut committing, &batch, submissions, decisions, now);
                // Trimming waits until nothing else does, but not for ever.
                committing.untrimmed += 1;
                if committing.untrimmed >= BATCHES_MAX {
                    let _ = self.trim_one(lane, &mut committing, now);
                }
                Turn::Done
            }
        }
    }

    fn kept(
        &self,
        committing: &mut Committing,
        batch: &Batch,
        submissions: Vec<Submission>,
        decisions: Vec<Decision>,
        now: Now,
    ) {
        let events: usize = batch.requests.iter().map(|request| request.len()).sum();
        let shared = self.telemetry.shared();
        shared.store_batch(events as u64);
        for (submission, decision) in submissions.into_iter().zip(decisions) {
            shared.store_kept(now.since_ns(submission.moments.accepted_ns));
            match decision {
                Ok(places) => {
                    for (append, place) in submission.appends.iter().zip(&places) {
                        if !place.duplicate {
                            self.grew(committing, append.channel());
                        }
                    }
                    let receipts = self.tell(&submission, &places, now);
                    (submission.reply)(Ok(receipts));
                }
                Err(declined) => {
                    let (at, code) = match declined {
                        Declined::Conflict(at) => (at, ErrorCode::IdempotencyConflict),
                        Declined::Full(at) => (at, ErrorCode::LimitExceeded),
                    };
                    let mut kept =
                        submission.items.iter().enumerate().filter(|(_, item)| matches!(item, Item::Kept));
                    let index = kept.nth(at).map(|(index, _)| index);
                    // The code's own text says it all; the index says which event.
                    (submission.reply)(Err(Refusal { index, ..Refusal::new(code, "") }));
                }
            }
        }
    }

    /// Counts an event towards the next trimming of its channel: after an eighth of what it may keep.
    fn grew(&self, committing: &mut Committing, channel: &ChannelName) {
        let Some(namespace) = self.namespace(channel) else { return };
        let step = (namespace.history_max / 8).max(1);
        if committing.grown.len() >= GROWN_MAX {
            committing.grown.clear();
        }
        let count = committing.grown.entry(channel.clone()).or_default();
        *count += 1;
        if *count >= step {
            committing.grown.remove(channel);
            if committing.trims.len() < GROWN_MAX {
                committing.trims.push_back(channel.clone());
            }
        }
    }

    /// Trims one channel, if there is one to trim.
    fn trim_one(&self, lane: &Lane, committing: &mut Committing, now: Now) -> Turn {
        committing.untrimmed = 0;
        let Some(name) = committing.trims.pop_front() else { return Turn::Idle };
        let Some(namespace) = self.namespace(&name) else { return Turn::Done };
        match lane.store.trim(&name, &namespace.retention(), now.wall_ms) {
            Ok(extent) => {
                if let Some(channel) = self.listed(&name).filter(|channel| channel.epoch == extent.epoch) {
                    channel.note_floor(extent.floor);
                }
                Turn::Done
            }
            Err(error) => {
                self.telemetry.shared().store_failed(failure_label(error.failure));
                committing.trims.push_back(name);
                Turn::Pause(lane.failed(&error, now))
            }
        }
    }

    /// Tells listeners what was kept, in the order of the request. Returns what the publisher is told.
    fn tell(&self, submission: &Submission, places: &[Place], now: Now) -> Vec<Receipt> {
        let mut receipts = Vec::with_capacity(submission.items.len());
        let mut kept = submission.appends.iter().zip(places);
        let mut run = Run::default();
        for item in &submission.items {
            match item {
                Item::Passing(passing) => {
                    self.pass_run(&mut run, now);
                    receipts.extend(self.pass_all(now, [passing]));
                }
                Item::Kept => {
                    let Some((append, place)) = kept.next() else { break };
                    if run.name.as_ref() != Some(append.channel()) {
                        self.pass_run(&mut run, now);
                        run = Run::of(append.channel(), self.listed(append.channel()));
                    }
                    receipts.push(Receipt {
                        channel: append.channel().clone(),
                        sequence: Some(place.position.sequence),
                        epoch: Some(place.position.epoch.clone()),
                        duplicate: place.duplicate,
                        matched: run.channel.as_ref().map_or(0, |channel| channel.listeners()),
                    });
                    // What has the server's own name was not there before: a commit of it had an unknown outcome.
                    if !place.duplicate || append.accepted.event.id.is_none() {
                        self.tap(&append.accepted, now);
                    }
                    if place.duplicate {
                        continue;
                    }
                    let event_type = self.event_type(&append.accepted.event);
                    self.telemetry.shared().event_emitted(event_type, 1);
                    run.epoch = Some(place.position.epoch.clone());
                    run.events.push((place.position.sequence, append.accepted.clone(), submission.moments));
                }
            }
        }
        self.pass_run(&mut run, now);
        receipts
    }

    /// Tells listeners, here and on other nodes, what one channel has kept.
    fn pass_run(&self, run: &mut Run, now: Now) {
        let Run { name: Some(name), channel, epoch: Some(epoch), events } = std::mem::take(run) else {
            return;
        };
        // What only this node keeps concerns nobody else.
        let shared = self.lane_for(&name).store.is_shared();
        if let Some(broker) = self.options.broker.as_ref().filter(|_| shared) {
            let accepted =
                events.iter().map(|(sequence, accepted, _)| (*sequence, accepted.clone())).collect();
            broker.announce(&Hint::new(name.clone(), epoch.clone(), accepted));
        }
        let Some(channel) = channel else { return };
        let publications: Vec<_> = events
            .into_iter()
            .map(|(sequence, accepted, moments)| self.publication(&channel, sequence, accepted, moments))
            .collect();
        self.hear(&channel, &epoch, &publications, now);
    }

    pub(crate) fn publication(
        &self,
        channel: &Arc<Channel>,
        sequence: Sequence,
        accepted: Arc<Accepted>,
        moments: Moments,
    ) -> Arc<Publication> {
        let event_type = self.event_type(&accepted.event);
        let Moments { accepted_ns, begun_ns } = moments;
        let body = Body::Event(accepted);
        Arc::new(Publication::new(channel.clone(), sequence, accepted_ns, event_type, body).begun(begun_ns))
    }

    /// Hands on events of channels that keep nothing, those of one channel that follow one another together.
    fn pass_all<'p>(&self, now: Now, passing: impl IntoIterator<Item = &'p Passing>) -> Vec<Receipt> {
        let mut receipts = Vec::new();
        let mut run: Vec<(&Passing, Arc<Publication>)> = Vec::new();
        for passed in passing {
            let Passing { channel, accepted, everywhere } = passed;
            self.tap(accepted, now);
            let follows =
                |(last, _): &(&Passing, _)| last.channel.id == channel.id && last.everywhere == *everywhere;
            if !run.last().is_none_or(follows) {
                self.pass_on(&run);
                run.clear();
            }
            let moments = Moments::accepted(now);
            run.push((passed, self.publication(channel, Sequence::ZERO, accepted.clone(), moments)));
            receipts.push(passing_receipt(channel));
        }
        self.pass_on(&run);
        receipts
    }

    fn pass_on(&self, run: &[(&Passing, Arc<Publication>)]) {
        let Some((first, _)) = run.first() else { return };
        let publications: Vec<_> = run.iter().map(|(_, publication)| publication.clone()).collect();
        self.deliver_ephemeral(&publications);
        if let Some(broker) = self.options.broker.as_ref().filter(|_| first.everywhere) {
            let events: Vec<_> = run.iter().map(|(passing, _)| passing.accepted.clone()).collect();
            broker.pass(&first.channel.name, &events);
        }
    }

    fn tap(&self, accepted: &Accepted, now: Now) {
        if let Some(tap) = &self.options.tap {
            tap.passed(accepted, now);
        }
    }

    pub(crate) fn deliver_ephemeral(&self, publications: &[Arc<Publication>]) {
        let Some(first) = publications.first() else { return };
        for publication in publications {
            self.telemetry.shared().event_emitted(publication.event_type, 1);
        }
        // Under the lock, so that all listeners meet the same order.
        let order = first.channel.order.lock();
        self.deliver(&first.channel, publications);
        drop(order);
    }

    fn prepare(&self, now: Now, publisher: Publisher<'_>, events: Vec<Event>) -> Result<Prepared, Refusal> {
        let mut prepared = Prepared::default();
        for (index, event) in events.into_iter().enumerate() {
            let refused = self.prepare_one(&mut prepared, now, publisher, event);
            refused.map_err(|refusal| Refusal { index: Some(index), ..refusal })?;
        }
        Ok(prepared)
    }

    fn prepare_one(
        &self,
        prepared: &mut Prepared,
        now: Now,
        publisher: Publisher<'_>,
        mut event: Event,
    ) -> Result<(), Refusal> {
        let name = event.channel.clone();
        let refuse = |code: ErrorCode| Refusal::new(code, format!("channel `{name}`: {}", code.message()));
        let namespace = self.namespace(&name).ok_or_else(|| refuse(ErrorCode::UnknownChannel))?;
        if namespace.read_only && publisher.named_by != NamedBy::Server {
            let detail = format!("channel `{name}` is written by the server only");
            return Err(Refusal::new(ErrorCode::Forbidden, detail));
        }
        if namespace.kind == ChannelKind::Metrics {
            let detail = format!("channel `{name}` takes samples, not events");
            return Err(Refusal::new(ErrorCode::Unsupported, detail));
        }
        if namespace.keyed && event.key.is_none() {
            let detail =
                format!("channel `{name}` keeps the latest value of each key: the event needs a `key`");
            return Err(Refusal::new(ErrorCode::BadRequest, detail));
        }
        let channel = match namespace.kind {
            ChannelKind::Ephemeral => Some(self.open_passing(&name).map_err(refuse)?),
            _ => self.listed(&name),
        };
        if channel.as_ref().is_some_and(|channel| self.is_crowded(channel)) {
            let detail = "the fan-out queue is full; publish more slowly";
            return Err(Refusal {
                retry_after_ms: Some(1_000),
                ..Refusal::new(ErrorCode::Overloaded, detail)
            });
        }
        complete(&mut event, namespace);
        let timestamp_ms = event.timestamp_ms.unwrap_or(now.wall_ms);
        let accepted = Accepted { event, user: publisher.user.map(Into::into), timestamp_ms };
        if let (ChannelKind::Ephemeral, Some(channel)) = (namespace.kind, channel) {
            let everywhere = publisher.named_by != NamedBy::Server;
            prepared.items.push(Item::Passing(Passing { channel, accepted: Arc::new(accepted), everywhere }));
            return Ok(());
        }
        let lane =
            if namespace.durability == Durability::Memory { Durability::Memory } else { Durability::Strict };
        if !prepared.appends.is_empty() && prepared.lane != lane {
            let detail =
                format!("channel `{name}` is kept elsewhere than the channels before it; send two requests");
            return Err(Refusal::new(ErrorCode::Unsupported, detail));
        }
        prepared.lane = lane;
        prepared.durability = prepared.durability.max(namespace.durability);
        let append = self.append(publisher, accepted, namespace);
        let differs = |other: &&Append| {
            other.dedup == append.dedup
                && other.channel() == append.channel()
                && other.payload != append.payload
        };
        if prepared.appends.iter().find(differs).is_some() {
            return Err(Refusal::new(ErrorCode::IdempotencyConflict, ""));
        }
        prepared.appends.push(append);
        prepared.items.push(Item::Kept);
        Ok(())
    }

    fn append(&self, publisher: Publisher<'_>, accepted: Accepted, namespace: &Namespace) -> Append {
        let (dedup, payload) = match &accepted.event.id {
            Some(id) => (named_key(publisher, id.as_str()), payload_digest(&accepted.event)),
            // The server's own name for it, so that it, too, can ask again after an unknown outcome.
            None => (self.own_key(), 0),
        };
        let keyed = namespace.state_max > 0 && accepted.event.key.is_some();
        Append { accepted: Arc::new(accepted), dedup, payload, keyed }
    }

    pub(crate) fn event_type(&self, event: &Event) -> pulsewire_telemetry::EventTypeId {
        self.telemetry.event_types().intern(event.event_type.as_str())
    }
}

/// A request that was checked.
#[derive(Default)]
struct Prepared {
    items: Vec<Item>,
    appends: Vec<Append>,
    lane: Durability,
    durability: Durability,
}

/// Events of one channel that follow one another in a request.
#[derive(Default)]
struct Run {
    name: Option<ChannelName>,
    channel: Option<Arc<Channel>>,
    epoch: Option<Epoch>,
    events: Vec<(Sequence, Arc<Accepted>, Moments)>,
}

impl Run {
    fn of(name: &ChannelName, channel: Option<Arc<Channel>>) -> Self {
        Self { name: Some(name.clone()), channel, epoch: None, events: Vec::new() }
    }
}

fn complete(event: &mut Event, namespace: &Namespace) {
    let listed = namespace.critical_types.iter().any(|critical| **critical == *event.event_type.as_str());
    event.critical = Some(event.critical.unwrap_or(listed));
}

fn passing_receipt(channel: &Channel) -> Receipt {
    Receipt {
        channel: channel.name.clone(),
        sequence: None,
        epoch: None,
        duplicate: false,
        matched: channel.listeners(),
    }
}

fn unavailable(error: &StoreError, retry_after_ms: Option<u32>) -> Refusal {
    let code = match error.outcome {
        Outcome::NotKept => ErrorCode::StoreUnavailable,
        Outcome::Unknown => ErrorCode::OutcomeUnknown,
    };
    // What the store said is for operators: they find it in the log and in /readyz.
    Refusal { retry_after_ms, ..Refusal::new(code, "") }
}

/// The key of an event that its publisher named: unique for (publisher, message id) within the channel.
///
/// The kind comes first and has a fixed length, and no message id holds a NUL, so two publishers never
/// meet in one key whatever their names are. The bytes are kept: they stay the same over versions.
fn named_key(publisher: Publisher<'_>, id: &str) -> DedupKey {
    let kind = match publisher.named_by {
        NamedBy::Nobody => b'n',
        NamedBy::Token => b't',
        NamedBy::ApiKey => b'k',
        NamedBy::Source => b'r',
        NamedBy::Server => b's',
    };
    let digest = Sha256::new()
        .chain_update([kind])
        .chain_update(publisher.principal.as_bytes())
        .chain_update([0])
        .chain_update(id.as_bytes());
    let mut key = DedupKey::default();
    key.copy_from_slice(&digest.finalize()[..16]);
    key
}

/// A digest that stays the same over versions and restarts: it is kept.
fn payload_digest(event: &Event) -> u64 {
    let mut digest = Sha256::new();
    for part in [event.event_type.as_str(), event.data.get(), event.key.as_deref().unwrap_or("")] {
        digest.update((part.len() as u64).to_le_bytes());
        digest.update(part.as_bytes());
    }
    let mut first = [0; 8];
    first.copy_from_slice(&digest.finalize()[..8]);
    // SQLite and PostgreSQL keep signed integers; what is compared is the bits.
    u64::from_le_bytes(first)
}
