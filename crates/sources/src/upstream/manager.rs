//! Which streams there are: opened when somebody listens, shared while somebody does, closed when nobody has for a while.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use pulsewire_protocol::ChannelName;

use super::Track;
use super::spec::Upstream;

/// The most keys of one stream.
const KEYS_MAX: usize = 10_000;
/// Milliseconds of a day.
const DAY_MS: i64 = 86_400_000;

/// How streams are bounded, and who gets the candidate's settings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ManagerOptions {
    /// Streams at a time. Default 1,000.
    pub streams_max: usize,
    /// The share of streams on the candidate's settings, from 0 to 1.
    pub canary_share: f64,
}

impl Default for ManagerOptions {
    fn default() -> Self {
        Self { streams_max: 1_000, canary_share: 0.0 }
    }
}

/// A stream's number: no other has it while the process lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u64);

/// Who listens to a channel.
#[derive(Debug, Clone)]
pub struct Interest {
    /// The channel.
    pub channel: ChannelName,
    /// How many listen.
    pub listeners: u32,
    /// How often somebody has begun to.
    pub joined: u64,
}

/// What is to be done.
#[derive(Debug, Clone)]
pub enum Order {
    /// Open a stream for these keys.
    Open {
        /// Its number.
        id: StreamId,
        /// How.
        upstream: Arc<Upstream>,
        /// Which settings these are.
        track: Track,
        /// The key, where it has one to itself; empty otherwise.
        key: Box<str>,
    },
    /// Somebody wants a key of a stream.
    Want(StreamId, Box<str>),
    /// Nobody wants a key of a stream any more.
    Unwant(StreamId, Box<str>),
    /// Somebody new listens to a channel of a stream: tell how it is.
    Tell(StreamId, ChannelName),
    /// Close a stream, and say when nothing is left of it.
    Close(StreamId),
    /// There is no room for a stream that somebody wants: tell them.
    Refused(ChannelName),
}

/// Where a stream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamState {
    /// It is there.
    Open,
    /// It is being closed; something of it is left.
    Closing,
}

/// One stream.
#[derive(Debug, Clone)]
pub struct Stream {
    /// How it is spoken to.
    pub upstream: Arc<Upstream>,
    /// Which settings these are.
    pub track: Track,
    /// The key it has to itself; empty if it has all.
    pub key: Box<str>,
    /// The keys that are wanted, and since when nobody listens to each.
    pub keys: BTreeMap<Box<str>, Wanted>,
    /// Since when it is open.
    pub opened_ms: i64,
    /// Whether it is being closed.
    pub state: StreamState,
}

/// A key of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// How many listen.
    pub listeners: u32,
    /// Since when nobody does.
    pub idle_since_ms: Option<i64>,
    /// Whether it stays although nobody listens.
    always: bool,
    joined: u64,
    /// When it was last looked at.
    seen: u64,
}

impl Wanted {
    /// Notes who listens. Returns whether somebody has come who is to be told how it is.
    fn note(&mut self, interest: &Interest, look: u64) -> bool {
        self.seen = look;
        self.listeners = interest.listeners;
        if interest.listeners > 0 {
            self.idle_since_ms = None;
        }
        std::mem::replace(&mut self.joined, interest.joined) != interest.joined
    }
}

impl Stream {
    /// How many listen to all its channels.
    #[must_use]
    pub fn listeners(&self) -> u64 {
        self.keys.values().map(|wanted| u64::from(wanted.listeners)).sum()
    }

    /// Since when nobody listens to any of its channels.
    #[must_use]
    pub fn idle_since_ms(&self) -> Option<i64> {
        let idle = self.keys.values().map(|wanted| wanted.idle_since_ms);
        // One that somebody listens to makes all of it not idle.
        idle.collect::<Option<Vec<_>>>()?.into_iter().max()
    }
}

/// How many there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Open now.
    pub active: u64,
    /// The most at a time since the start.
    pub high_water: u64,
    /// The most at a time since midnight UTC.
    pub high_water_today: u64,
    /// As many as there may be.
    pub limit: u64,
    /// Being closed, and something is left of them.
    pub uncleaned: u64,
    /// Opened since the start.
    pub created: u64,
    /// Closed since the start, with nothing left.
    pub cleaned: u64,
}

/// One that was declared: how everybody is served, and how the candidate is.
#[derive(Debug)]
struct Declared {
    stable: Arc<Upstream>,
    canary: Option<Arc<Upstream>>,
}

/// What a stream is found by: its upstream, its track, and its key where it has one to itself.
type Place = (Box<str>, Track, Box<str>);

/// How a channel is fed by an upstream.
#[derive(Debug)]
struct Fed {
    /// The channel's key there.
    key: Box<str>,
    /// By which stream, when it was last looked up. Its number is never another's.
    stream: Option<StreamId>,
}

/// The table of streams.
#[derive(Debug)]
pub struct Manager {
    options: ManagerOptions,
    declared: BTreeMap<Box<str>, Declared>,
    streams: BTreeMap<StreamId, Stream>,
    places: HashMap<Place, StreamId>,
    /// Which upstream and key a channel is of; found once.
    known: HashMap<ChannelName, Option<Fed>>,
    /// Channels that were refused, and who had come until then, so that each who comes is told once.
    refused: BTreeMap<ChannelName, u64>,
    next: u64,
    looks: u64,
    totals: Totals,
    day: i64,
}

impl Manager {
    /// A table without streams.
    #[must_use]
    pub fn new(options: ManagerOptions) -> Self {
        Self {
            options,
            declared: BTreeMap::new(),
            streams: BTreeMap::new(),
            places: HashMap::new(),
            known: HashMap::new(),
            refused: BTreeMap::new(),
            next: 0,
            looks: 0,
            totals: Totals::default(),
            day: 0,
        }
    }

    /// Replaces what is declared: each upstream as everybody is served, and as the candidate is, if that differs.
    /// Streams of what is gone or has changed are closed; what is wanted is opened again at the next look.
    pub fn declare(&mut self, all: Vec<(Arc<Upstream>, Option<Arc<Upstream>>)>, orders: &mut Vec<Order>) {
        self.declared = all
            .into_iter()
            .map(|(stable, canary)| (stable.name.clone(), Declared { stable, canary }))
            .collect();
        self.known.clear();
        self.refused.clear();
        self.close_misplaced(orders);
    }

    /// Changes how streams are bounded and who gets the candidate's settings. Streams that are on another track now are
    /// closed, and opened again where they belong at the next look.
    pub fn set(&mut self, options: ManagerOptions, orders: &mut Vec<Order>) {
        self.options = options;
        self.refused.clear();
        self.close_misplaced(orders);
    }

    fn close_misplaced(&mut self, orders: &mut Vec<Order>) {
        let misplaced = |manager: &Self, stream: &Stream| {
            let Some(declared) = manager.declared.get(&stream.upstream.name) else { return true };
            if !Arc::ptr_eq(manager.settings(declared, stream.track), &stream.upstream)
                && **manager.settings(declared, stream.track) != *stream.upstream
            {
                return true;
            }
            // A stream of many keys has those of its own track only.
            let keys = stream.keys.keys().map(|key| manager.track(&stream.upstream.name, key));
            keys.into_iter().any(|track| track != stream.track)
        };
        let ids: Vec<StreamId> =
            self.streams.iter().filter(|(_, stream)| misplaced(self, stream)).map(|(id, _)| *id).collect();
        for id in ids {
            self.close(id, orders);
        }
    }

    fn settings<'d>(&self, declared: &'d Declared, track: Track) -> &'d Arc<Upstream> {
        match (track, &declared.canary) {
            (Track::Canary, Some(canary)) => canary,
            _ => &declared.stable,
        }
    }

    /// Which settings a key of an upstream gets: always the same while the share is.
    fn track(&self, name: &str, key: &str) -> Track {
        if place_of(name, key) < self.options.canary_share { Track::Canary } else { Track::Stable }
    }

    /// Looks at who listens: what is wanted is opened, what nobody has wanted for long enough is closed. `interests` are
    /// all channels that might be fed; one that is not among them has no listeners.
    pub fn look(&mut self, interests: &[Interest], now_ms: i64, wall_ms: i64, orders: &mut Vec<Order>) {
        self.looks += 1;
        self.turn_day(wall_ms);
        let always: Vec<(Box<str>, Box<str>)> = self
            .declared
            .values()
            .filter(|declared| declared.stable.always || !declared.stable.keys.is_empty())
            .flat_map(|declared| {
                let upstream = &declared.stable;
                let keys = if upstream.channel.has_key() { upstream.keys.clone() } else { vec!["".into()] };
                let wanted = upstream.always || self.is_open(upstream);
                keys.into_iter().filter(move |_| wanted).map(|key| (upstream.name.clone(), key))
            })
            .collect();
        for (name, key) in always {
            self.want(&name, &key, None, now_ms, orders);
        }
        for interest in interests {
            if self.goes_on(interest, orders) {
                continue;
            }
            let found = self.declared.values().find_map(|declared| {
                let key = declared.stable.channel.key_of(interest.channel.as_str())?;
                Some((declared.stable.name.clone(), Box::<str>::from(key)))
            });
            let fed = found.map(|(name, key)| {
                let stream = self.want(&name, &key, Some(interest), now_ms, orders);
                Fed { key, stream }
            });
            self.known.insert(interest.channel.clone(), fed);
        }
        // Names that nobody asked for lately are found again when somebody does.
        if self.known.len() > 2 * interests.len() + 1_000 {
            self.known.clear();
            self.refused.clear();
        }
        self.close_idle(now_ms, None, orders);
    }

    /// Looks at a channel that is known: `false` if there is more to do than to note who listens. Most are, at each look,
    /// so nothing is allocated here.
    fn goes_on(&mut self, interest: &Interest, orders: &mut Vec<Order>) -> bool {
        let Some(fed) = self.known.get(&interest.channel) else { return false };
        let Some(Fed { key, stream }) = fed else { return true };
        let stream = stream.and_then(|id| Some((id, self.streams.get_mut(&id)?)));
        let Some((id, stream)) = stream.filter(|(_, stream)| stream.state == StreamState::Open) else {
            // Nobody listens: there is nothing to open.
            return interest.listeners == 0;
        };
        let Some(wanted) = stream.keys.get_mut(key) else { return interest.listeners == 0 };
        if wanted.note(interest, self.looks) {
            orders.push(Order::Tell(id, interest.channel.clone()));
        }
        true
    }

    /// Whether any stream of an upstream is open.
    fn is_open(&self, upstream: &Upstream) -> bool {
        self.places.keys().any(|(name, ..)| *name == upstream.name)
    }

    /// Has a stream for a key, which somebody listens to or which is always wanted. Returns which one, if there is one.
    fn want(
        &mut self,
        name: &str,
        key: &str,
        interest: Option<&Interest>,
        now_ms: i64,
        orders: &mut Vec<Order>,
    ) -> Option<StreamId> {
        let declared = self.declared.get(name)?;
        let track = self.track(name, key);
        let upstream = self.settings(declared, track).clone();
        let own_key = if upstream.apart() { key } else { "" };
        let place: Place = (name.into(), track, own_key.into());
        let nobody = interest.is_some_and(|interest| interest.listeners == 0);
        let id = match self.places.get(&place) {
            Some(id) => *id,
            None if nobody => return None,
            // What is being closed may still have its descriptor.
            None if self.streams.len() >= self.options.streams_max => {
                self.refuse(interest, orders);
                return None;
            }
            None => self.open(place, upstream, own_key, now_ms, orders),
        };
        let stream = self.streams.get_mut(&id)?;
        let full = stream.keys.len() >= KEYS_MAX;
        match (stream.keys.get_mut(key), interest) {
            (Some(wanted), None) => wanted.always = true,
            (Some(wanted), Some(interest)) => {
                if wanted.note(interest, self.looks) {
                    orders.push(Order::Tell(id, interest.channel.clone()));
                }
            }
            (None, Some(_)) if nobody => {}
            (None, Some(_)) if full => self.refuse(interest, orders),
            (None, _) => {
                let (listeners, joined) = interest.map_or((0, 0), |it| (it.listeners, it.joined));
                let always = interest.is_none();
                let wanted = Wanted { listeners, idle_since_ms: None, always, joined, seen: self.looks };
                stream.keys.insert(key.into(), wanted);
                orders.push(Order::Want(id, key.into()));
                if let Some(interest) = interest {
                    self.refused.remove(&interest.channel);
                    orders.push(Order::Tell(id, interest.channel.clone()));
                }
            }
        }
        Some(id)
    }

    fn refuse(&mut self, interest: Option<&Interest>, orders: &mut Vec<Order>) {
        let Some(interest) = interest else { return };
        if self.refused.insert(interest.channel.clone(), interest.joined) != Some(interest.joined) {
            orders.push(Order::Refused(interest.channel.clone()));
        }
    }

    fn open(
        &mut self,
        place: Place,
        upstream: Arc<Upstream>,
        own_key: &str,
        now_ms: i64,
        orders: &mut Vec<Order>,
    ) -> StreamId {
        self.next += 1;
        let id = StreamId(self.next);
        let (track, key) = (place.1, Box::<str>::from(own_key));
        orders.push(Order::Open { id, upstream: upstream.clone(), track, key: key.clone() });
        let state = StreamState::Open;
        self.streams
            .insert(id, Stream { upstream, track, key, keys: BTreeMap::new(), opened_ms: now_ms, state });
        self.places.insert(place, id);
        self.totals.created += 1;
        self.totals.active += 1;
        self.totals.high_water = self.totals.high_water.max(self.totals.active);
        self.totals.high_water_today = self.totals.high_water_today.max(self.totals.active);
        id
    }

    /// Lets go of keys and streams that nobody has wanted for as long as their upstream says, or as `idle_ms` says.
    fn close_idle(&mut self, now_ms: i64, idle_ms: Option<u64>, orders: &mut Vec<Order>) -> usize {
        let mut done = Vec::new();
        for (id, stream) in &mut self.streams {
            if stream.state == StreamState::Closing {
                continue;
            }
            let after_ms = idle_ms.unwrap_or(stream.upstream.idle_ms);
            let looks = self.looks;
            let mut unwanted = Vec::new();
            let mut holds = false;
            for (key, wanted) in &mut stream.keys {
                if wanted.seen != looks {
                    // Its channel is gone, and its listeners with it.
                    wanted.listeners = 0;
                }
                if wanted.listeners > 0 {
                    holds = true;
                    continue;
                }
                let since_ms = *wanted.idle_since_ms.get_or_insert(now_ms);
                let over = now_ms >= since_ms.saturating_add_unsigned(after_ms);
                // A key that is always wanted is so while its stream is open; of an upstream that is always open, for ever.
                holds |= !over || (wanted.always && stream.upstream.always);
                if over && !wanted.always {
                    unwanted.push(key.clone());
                }
            }
            if !holds {
                done.push(*id);
                continue;
            }
            for key in unwanted {
                stream.keys.remove(&key);
                orders.push(Order::Unwant(*id, key));
            }
        }
        for id in &done {
            self.close(*id, orders);
        }
        done.len()
    }

    /// Closes every stream that nobody has wanted for so long, milliseconds, and that need not be open always. Returns
    /// how many.
    pub fn cleanup(&mut self, idle_ms: u64, now_ms: i64, orders: &mut Vec<Order>) -> usize {
        self.close_idle(now_ms, Some(idle_ms), orders)
    }

    fn close(&mut self, id: StreamId, orders: &mut Vec<Order>) {
        let Some(stream) = self.streams.get_mut(&id).filter(|stream| stream.state == StreamState::Open)
        else {
            return;
        };
        stream.state = StreamState::Closing;
        self.places.remove(&(stream.upstream.name.clone(), stream.track, stream.key.clone()));
        self.totals.active -= 1;
        orders.push(Order::Close(id));
    }

    /// Nothing is left of a stream. One that ended though nobody closed it is opened again at the next look, if
    /// somebody wants it.
    pub fn ended(&mut self, id: StreamId) {
        let mut ignored = Vec::new();
        self.close(id, &mut ignored);
        if self.streams.remove(&id).is_some() {
            self.totals.cleaned += 1;
        }
    }

    /// Closes everything: the server stops.
    pub fn close_all(&mut self, orders: &mut Vec<Order>) {
        self.declared.clear();
        self.close_misplaced(orders);
    }

    /// The streams, oldest first.
    pub fn streams(&self) -> impl ExactSizeIterator<Item = (StreamId, &Stream)> {
        self.streams.iter().map(|(id, stream)| (*id, stream))
    }

    /// What is declared, by name: as everybody is served, and as the candidate is.
    pub fn declared(&self) -> impl Iterator<Item = (&Arc<Upstream>, Option<&Arc<Upstream>>)> {
        self.declared.values().map(|declared| (&declared.stable, declared.canary.as_ref()))
    }

    /// How many there are.
    #[must_use]
    pub fn totals(&self) -> Totals {
        Totals {
            limit: self.options.streams_max as u64,
            uncleaned: self.streams.len() as u64 - self.totals.active,
            ..self.totals
        }
    }

    fn turn_day(&mut self, wall_ms: i64) {
        let day = wall_ms.div_euclid(DAY_MS);
        if day != self.day {
            self.day = day;
            self.totals.high_water_today = self.totals.active;
        }
    }
}

/// Where a key of an upstream lies between 0 and 1: the same in every process and version (FNV-1a, mixed once more).
fn place_of(name: &str, key: &str) -> f64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in name.bytes().chain([0]).chain(key.bytes()) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^= hash >> 33;
    (hash >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::{ChannelTemplate, Template};

    fn upstream(name: &str, url: &str, channel: &str) -> Arc<Upstream> {
        let url = Template::parse(url).unwrap();
        Arc::new(Upstream::new(name, vec![url], ChannelTemplate::parse(channel).unwrap()))
    }

    fn interest(channel: &str, listeners: u32, joined: u64) -> Interest {
        Interest { channel: ChannelName::parse(channel).unwrap(), listeners, joined }
    }

    fn shown(orders: &mut Vec<Order>) -> String {
        let one = |order: Order| match order {
            Order::Open { id, upstream, track, key } => {
                format!("open {} {} {} {key}", id.0, upstream.name, track.as_str()).trim_end().to_owned()
            }
            Order::Want(id, key) => format!("want {} {key}", id.0),
            Order::Unwant(id, key) => format!("unwant {} {key}", id.0),
            Order::Tell(id, channel) => format!("tell {} {channel}", id.0),
            Order::Close(id) => format!("close {}", id.0),
            Order::Refused(channel) => format!("refused {channel}"),
        };
        orders.drain(..).map(one).collect::<Vec<_>>().join(", ")
    }

    fn manager(all: Vec<Arc<Upstream>>, options: ManagerOptions) -> (Manager, Vec<Order>) {
        let (mut manager, mut orders) = (Manager::new(options), Vec::new());
        manager.declare(all.into_iter().map(|upstream| (upstream, None)).collect(), &mut orders);
        (manager, orders)
    }

    #[test]
    fn a_stream_is_opened_for_the_first_shared_by_all_and_closed_a_while_after_the_last() {
        let (mut manager, mut orders) =
            manager(vec![upstream("t", "ws://h/", "u:{key}")], ManagerOptions::default());
        let mut look = |interests: &[Interest], at: i64| {
            manager.look(interests, at, at, &mut orders);
            shown(&mut orders)
        };
        assert_eq!(
            look(&[interest("u:a", 1, 1), interest("x", 5, 5)], 0),
            "open 1 t stable, want 1 a, tell 1 u:a"
        );
        assert_eq!(
            look(&[interest("u:a", 3, 3), interest("u:b", 1, 1)], 1),
            "tell 1 u:a, want 1 b, tell 1 u:b"
        );
        assert_eq!(look(&[interest("u:a", 3, 3)], 2), "");
        assert_eq!(look(&[interest("u:a", 3, 3)], 30_002), "unwant 1 b");
        assert_eq!(look(&[interest("u:a", 0, 3)], 30_003), "");
        assert_eq!(look(&[interest("u:a", 1, 4)], 60_000), "tell 1 u:a", "somebody came back in time");
        assert_eq!(look(&[], 60_001), "");
        assert_eq!(look(&[], 90_001), "close 1");
        assert_eq!(
            manager.totals(),
            Totals {
                active: 0,
                uncleaned: 1,
                high_water: 1,
                high_water_today: 1,
                limit: 1_000,
                created: 1,
                cleaned: 0
            }
        );
        manager.ended(StreamId(1));
        assert_eq!((manager.totals().uncleaned, manager.totals().cleaned), (0, 1));
    }

    #[test]
    fn each_key_has_a_stream_of_its_own_where_the_url_names_it_within_the_limit() {
        let options = ManagerOptions { streams_max: 2, ..ManagerOptions::default() };
        let (mut manager, mut orders) = manager(vec![upstream("t", "ws://h/{key}", "u:{key}")], options);
        let all: Vec<_> = ["u:a", "u:b", "u:c"].map(|name| interest(name, 1, 1)).into();
        manager.look(&all, 0, 0, &mut orders);
        assert_eq!(
            shown(&mut orders),
            "open 1 t stable a, want 1 a, tell 1 u:a, open 2 t stable b, want 2 b, tell 2 u:b, refused u:c"
        );
        manager.look(&all, 1, 1, &mut orders);
        assert_eq!(shown(&mut orders), "", "they are told once");
        let again = [&all[..2], &[interest("u:c", 2, 2)]].concat();
        manager.look(&again, 1, 1, &mut orders);
        assert_eq!(shown(&mut orders), "refused u:c", "who comes later, too");
        manager.ended(StreamId(1));
        manager.look(&all[1..], 2, 2, &mut orders);
        assert_eq!(shown(&mut orders), "open 3 t stable c, want 3 c, tell 3 u:c");
    }

    #[test]
    fn a_stream_that_ended_by_itself_is_opened_again_if_it_is_wanted() {
        let (mut manager, mut orders) =
            manager(vec![upstream("t", "ws://h/", "u")], ManagerOptions::default());
        manager.look(&[interest("u", 1, 1)], 0, 0, &mut orders);
        manager.ended(StreamId(1));
        orders.clear();
        manager.look(&[interest("u", 1, 1)], 1, 1, &mut orders);
        assert_eq!(shown(&mut orders), "open 2 t stable, want 2 , tell 2 u");
        assert_eq!((manager.totals().created, manager.totals().cleaned, manager.totals().active), (2, 1, 1));
    }

    #[test]
    fn what_is_always_wanted_is_there_without_listeners_and_stays() {
        let mut always = (*upstream("t", "ws://h/", "u:{key}")).clone();
        (always.always, always.keys) = (true, vec!["a".into()]);
        let (mut manager, mut orders) = manager(vec![Arc::new(always)], ManagerOptions::default());
        manager.look(&[], 0, 0, &mut orders);
        assert_eq!(shown(&mut orders), "open 1 t stable, want 1 a");
        manager.look(&[interest("u:b", 1, 1)], 1, 1, &mut orders);
        assert_eq!(shown(&mut orders), "want 1 b, tell 1 u:b");
        manager.look(&[], 40_000, 0, &mut orders);
        manager.look(&[], 80_000, 0, &mut orders);
        assert_eq!(shown(&mut orders), "unwant 1 b");
    }

    #[test]
    fn keys_that_are_always_wanted_keep_no_stream_open() {
        let mut some = (*upstream("t", "ws://h/", "u:{key}")).clone();
        some.keys = vec!["a".into()];
        let (mut manager, mut orders) = manager(vec![Arc::new(some)], ManagerOptions::default());
        manager.look(&[], 0, 0, &mut orders);
        assert_eq!(shown(&mut orders), "");
        manager.look(&[interest("u:b", 1, 1)], 1, 1, &mut orders);
        manager.look(&[interest("u:b", 1, 1)], 2, 2, &mut orders);
        assert_eq!(shown(&mut orders), "open 1 t stable, want 1 b, tell 1 u:b, want 1 a");
        manager.look(&[], 3, 3, &mut orders);
        manager.look(&[], 30_002, 0, &mut orders);
        assert_eq!(shown(&mut orders), "");
        manager.look(&[], 30_003, 0, &mut orders);
        assert_eq!(shown(&mut orders), "close 1");
        manager.look(&[], 30_004, 0, &mut orders);
        assert_eq!(shown(&mut orders), "");
    }

    #[test]
    fn cleanup_closes_what_is_idle_and_nothing_else() {
        let (mut manager, mut orders) =
            manager(vec![upstream("t", "ws://h/{key}", "u:{key}")], ManagerOptions::default());
        manager.look(&[interest("u:a", 1, 1), interest("u:b", 1, 1)], 0, 0, &mut orders);
        manager.look(&[interest("u:a", 1, 1)], 100, 100, &mut orders);
        orders.clear();
        assert_eq!(manager.cleanup(200, 250, &mut orders), 0, "idle for 150 ms");
        assert_eq!(manager.cleanup(150, 250, &mut orders), 1);
        assert_eq!(shown(&mut orders), "close 2");
    }

    #[test]
    fn a_changed_or_removed_declaration_closes_its_streams() {
        let (mut manager, mut orders) = manager(
            vec![upstream("t", "ws://h/", "u"), upstream("v", "ws://h/", "v")],
            ManagerOptions::default(),
        );
        let wanted = [interest("u", 1, 1), interest("v", 1, 1)];
        manager.look(&wanted, 0, 0, &mut orders);
        orders.clear();
        manager.declare(vec![(upstream("t", "ws://h/", "u"), None)], &mut orders);
        assert_eq!(shown(&mut orders), "close 2", "the other is as it was");
        manager.declare(vec![(upstream("t", "ws://other/", "u"), None)], &mut orders);
        assert_eq!(shown(&mut orders), "close 1");
        manager.look(&wanted, 1, 1, &mut orders);
        assert_eq!(shown(&mut orders), "open 3 t stable, want 3 , tell 3 u");
        manager.close_all(&mut orders);
        assert_eq!(shown(&mut orders), "close 3");
    }

    #[test]
    fn a_stable_share_of_streams_gets_the_candidate_and_comes_back_when_it_is_taken_back() {
        let options = ManagerOptions { streams_max: 10_000, canary_share: 0.1 };
        let stable = upstream("t", "ws://h/{key}", "u:{key}");
        let candidate = upstream("t", "ws://new/{key}", "u:{key}");
        let (mut manager, mut orders) = (Manager::new(options), Vec::new());
        manager.declare(vec![(stable, Some(candidate))], &mut orders);
        let wanted: Vec<_> = (0..5_000).map(|n| interest(&format!("u:{n}"), 1, 1)).collect();
        manager.look(&wanted, 0, 0, &mut orders);
        let canaries = |manager: &Manager| {
            let of = |stream: &&Stream| stream.track == Track::Canary && stream.state == StreamState::Open;
            manager.streams().map(|(_, stream)| stream).filter(of).count()
        };
        let count = canaries(&manager);
        assert!((400..=600).contains(&count), "a tenth of 5,000: {count}");
        let urls = |stream: &Stream| stream.upstream.urls[0].as_str().contains("new");
        assert!(manager.streams().all(|(_, stream)| urls(stream) == (stream.track == Track::Canary)));
        orders.clear();
        manager.set(ManagerOptions { canary_share: 0.0, ..options }, &mut orders);
        let closed: Vec<StreamId> = orders
            .drain(..)
            .filter_map(|order| if let Order::Close(id) = order { Some(id) } else { None })
            .collect();
        assert_eq!(closed.len(), count);
        closed.into_iter().for_each(|id| manager.ended(id));
        manager.look(&wanted, 1, 1, &mut orders);
        assert_eq!((canaries(&manager), manager.totals().active), (0, 5_000));
        assert_eq!(manager.totals().created - manager.totals().cleaned, 5_000);
    }

    #[test]
    fn the_high_water_mark_of_the_day_begins_anew_at_midnight() {
        let (mut manager, mut orders) =
            manager(vec![upstream("t", "ws://h/{key}", "u:{key}")], ManagerOptions::default());
        manager.look(&[interest("u:a", 1, 1), interest("u:b", 1, 1)], 0, DAY_MS - 1, &mut orders);
        manager.ended(StreamId(1));
        manager.look(&[interest("u:b", 1, 1)], 1, DAY_MS, &mut orders);
        assert_eq!((manager.totals().high_water, manager.totals().high_water_today), (2, 1));
    }
}
