//! Which channels this node hears.
//!
//! A node asks for a channel's topic before somebody begins to listen to it, and whoever wants to listen waits
//! until the broker has confirmed that (§4.4: hear first, then read where it stands), but never for long: without
//! the broker everything goes on by looking into the store. It lets go of a topic when nobody has listened for two
//! looks in a row. The table is bounded by the table of channels.

use std::collections::{HashMap, HashSet};

use pulsewire_protocol::ChannelName;

use crate::bus::Opening;
use crate::{Bus, ChannelKind, Mutant, Now};

/// How long an opening waits for its topics, nanoseconds.
const PATIENCE_NS: u64 = 1_000_000_000;
/// Between two looks for topics that nobody needs, nanoseconds.
const LOOK_NS: u64 = 10_000_000_000;

/// The topics of this node.
#[derive(Default)]
pub(crate) struct Topics {
    known: HashMap<ChannelName, Known>,
    waiting: Vec<Waiting>,
    /// Whether the broker is reached now.
    connected: bool,
    looked_ns: u64,
}

/// What is known of a topic.
#[derive(Clone, Copy)]
struct Known {
    heard: bool,
    /// Whether it was wanted since the last look.
    touched: bool,
}

/// Channels that are opened when their topics are heard.
struct Waiting {
    missing: Vec<ChannelName>,
    opening: Opening,
    until_ns: u64,
}

impl Bus {
    /// Whether what is said of a channel elsewhere comes here, as far as that depends on topics.
    pub(crate) fn hears(&self, name: &ChannelName) -> bool {
        if !self.has_topics() || name.is_system() {
            return true;
        }
        let mut topics = self.topics.lock();
        let connected = topics.connected;
        match topics.known.get_mut(name) {
            Some(known) => {
                known.touched = true;
                known.heard || !connected
            }
            None => !connected,
        }
    }

    fn has_topics(&self) -> bool {
        self.options.broker.as_ref().is_some_and(|broker| broker.has_topics())
    }

    /// Keeps an opening until its topics are heard; gives it back if there is nothing to wait for.
    pub(crate) fn hear_first(&self, opening: Opening, now: Now) -> Option<Opening> {
        let Some(broker) = self.options.broker.as_ref().filter(|broker| broker.has_topics()) else {
            return Some(opening);
        };
        let mut fresh = Vec::new();
        let mut topics = self.topics.lock();
        let connected = topics.connected;
        let mut missing = Vec::new();
        for name in opening.names().filter(|name| !name.is_system() && self.namespace(name).is_some()) {
            if topics.known.len() >= self.options.channels_max && !topics.known.contains_key(name) {
                // Nobody waits for what is not asked for. If somebody listens to it, the next look asks.
                continue;
            }
            let known = topics.known.entry(name.clone()).or_insert_with(|| {
                fresh.push(name.clone());
                Known { heard: false, touched: true }
            });
            known.touched = true;
            if !known.heard && !missing.contains(name) {
                missing.push(name.clone());
            }
        }
        let back = if missing.is_empty() || !connected || self.is(Mutant::OpenBeforeHeard) {
            Some(opening)
        } else {
            topics.waiting.push(Waiting { missing, opening, until_ns: now.mono_ns + PATIENCE_NS });
            None
        };
        drop(topics);
        // Also while it is not reached: it is told what to listen to when it is.
        if connected && !fresh.is_empty() {
            broker.listen(fresh);
        }
        if back.is_none() {
            self.tick_bell.ring();
        }
        back
    }

    /// The broker says that this node hears of these channels from now on.
    pub fn heard(&self, names: &[ChannelName], now: Now) {
        let mut topics = self.topics.lock();
        for name in names {
            if let Some(known) = topics.known.get_mut(name) {
                known.heard = true;
            }
        }
        let Topics { known, waiting, .. } = &mut *topics;
        for waiting in &mut *waiting {
            waiting.missing.retain(|name| known.get(name).is_none_or(|known| !known.heard));
        }
        let ready = waiting.extract_if(.., |waiting| waiting.missing.is_empty());
        let ready: Vec<Opening> = ready.map(|waiting| waiting.opening).collect();
        drop(topics);
        for opening in ready {
            self.open_heard(opening, now);
        }
        if self.is(Mutant::LeaveHeardAlone) {
            return;
        }
        // What was committed before it was heard of is found by asking.
        let listened = |name: &&ChannelName| {
            self.listed(name)
                .is_some_and(|channel| channel.kind == ChannelKind::Log && channel.listeners() > 0)
        };
        let names: Vec<ChannelName> = names.iter().filter(listened).cloned().collect();
        if !names.is_empty() {
            self.check_heads_of(&names);
        }
    }

    /// The broker is reached. Returns the channels of which this node is to hear: [`Bus::heard`] is to be called when
    /// it does. Heads are asked for at the next tick.
    pub fn broker_reached(&self) -> Vec<ChannelName> {
        let mut topics = self.topics.lock();
        topics.connected = true;
        topics.known.values_mut().for_each(|known| known.heard = false);
        let names = topics.known.keys().cloned().collect();
        drop(topics);
        self.suspect();
        self.tick_bell.ring();
        names
    }

    /// The broker is not reached: whoever waits for a topic goes on, and heads are asked for more often.
    pub fn broker_lost(&self, now: Now) {
        let mut topics = self.topics.lock();
        topics.connected = false;
        topics.known.values_mut().for_each(|known| known.heard = false);
        let waiting = std::mem::take(&mut topics.waiting);
        drop(topics);
        for waiting in waiting {
            self.open_heard(waiting.opening, now);
        }
        self.suspect();
        self.tick_bell.ring();
    }

    /// Whether hints of other nodes are expected and do not come.
    pub(crate) fn is_deaf(&self) -> bool {
        self.options.broker.as_ref().is_some_and(|broker| broker.can_be_lost())
            && !self.topics.lock().connected
    }

    /// How many topics this node wants to hear, and how many it hears.
    #[must_use]
    pub fn topics(&self) -> (usize, usize) {
        let topics = self.topics.lock();
        (topics.known.len(), topics.known.values().filter(|known| known.heard).count())
    }

    /// Opens what has waited for too long, and looks for topics that nobody needs, or that somebody needs and nobody asked for.
    pub(crate) fn tend_topics(&self, now: Now) {
        let Some(broker) = self.options.broker.as_ref().filter(|broker| broker.has_topics()) else { return };
        let mut topics = self.topics.lock();
        let late = topics.waiting.extract_if(.., |waiting| waiting.until_ns <= now.mono_ns);
        let late: Vec<Opening> = late.map(|waiting| waiting.opening).collect();
        let due = now.since_ns(topics.looked_ns) >= LOOK_NS;
        if due {
            topics.looked_ns = now.mono_ns;
        }
        drop(topics);
        for opening in late {
            self.open_heard(opening, now);
        }
        if !due {
            return;
        }
        let listened: HashSet<ChannelName> = self
            .channels
            .read()
            .values()
            .filter(|channel| !channel.name.is_system() && channel.listeners() > 0)
            .map(|channel| channel.name.clone())
            .collect();
        let mut topics = self.topics.lock();
        let gone: Vec<ChannelName> = topics
            .known
            .extract_if(|name, known| !listened.contains(name) && !std::mem::take(&mut known.touched))
            .map(|(name, _)| name)
            .collect();
        let mut fresh = Vec::new();
        for name in listened {
            let known = topics.known.entry(name.clone()).or_insert(Known { heard: false, touched: false });
            if !known.heard {
                // Never asked for, or the wish found no place: asking twice does no harm.
                fresh.push(name);
            }
        }
        let connected = topics.connected;
        drop(topics);
        if connected {
            if !gone.is_empty() {
                broker.unlisten(gone);
            }
            if !fresh.is_empty() {
                broker.listen(fresh);
            }
        }
    }

    /// Whether an opening waits for a topic.
    pub(crate) fn waits_for_topics(&self) -> bool {
        self.has_topics() && !self.topics.lock().waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;
    use pulsewire_protocol::{ChannelPattern, Epoch, Sequence};
    use pulsewire_telemetry::Telemetry;

    use crate::{
        Audience, Broker, Bus, Channel, ChannelKind, Hint, Namespace, Namespaces, Now, Options, Publication,
        RingLimits,
    };

    use super::*;

    /// What was asked of the broker, in order: `+` to hear, `-` to hear no more.
    #[derive(Default)]
    struct Asked(Mutex<Vec<String>>);

    impl Broker for Asked {
        fn announce(&self, _: &Hint) {}
        fn has_topics(&self) -> bool {
            true
        }
        fn listen(&self, channels: Vec<ChannelName>) {
            self.0.lock().extend(channels.iter().map(|name| format!("+{name}")));
        }
        fn unlisten(&self, channels: Vec<ChannelName>) {
            self.0.lock().extend(channels.iter().map(|name| format!("-{name}")));
        }
    }

    struct Nobody;

    impl Audience for Nobody {
        fn has_room(&self, _: usize) -> bool {
            true
        }
        fn deliver(&self, _: usize, _: &[Arc<Publication>]) {}
        fn replaced(&self, _: usize, _: &Arc<Channel>) {}
    }

    struct World {
        bus: Bus,
        asked: Arc<Asked>,
        now: Now,
        opened: Arc<Mutex<Vec<Arc<Channel>>>>,
    }

    impl World {
        fn new() -> Self {
            let pattern = ChannelPattern::parse("cursor:*").expect("a pattern");
            let asked = Arc::new(Asked::default());
            let options = Options {
                namespaces: Namespaces::new(vec![Namespace::new("cursor", pattern, ChannelKind::Ephemeral)]),
                shards: 1,
                channels_max: 100,
                epoch: Epoch::parse("e").expect("an epoch"),
                incarnation: 1,
                store: None,
                broker: Some(asked.clone()),
                queue_max: 10,
                ring: RingLimits::default(),
                series: Default::default(),
                tap: None,
            };
            let bus = Bus::new(options, Telemetry::new(Default::default()), Box::new(Nobody));
            let now = Now { mono_ns: 100_000_000_000, wall_ms: 0 };
            Self { bus, asked, now, opened: Arc::default() }
        }

        fn open(&self, channel: &str) {
            let names = vec![(name(channel), Sequence::ZERO)];
            let opened = self.opened.clone();
            let reply = move |channels: crate::Opened| opened.lock().extend(channels.expect("they open"));
            self.bus.open(self.now, names, Box::new(reply));
        }

        /// What was opened and what was asked of the broker since the last time.
        fn check(&self, opened: &[&str], asked: &[&str]) {
            let now: Vec<Arc<Channel>> = std::mem::take(&mut *self.opened.lock());
            let now: Vec<&str> = now.iter().map(|channel| channel.name.as_str()).collect();
            let mut told = std::mem::take(&mut *self.asked.0.lock());
            told.sort();
            assert_eq!((now, told), (opened.to_vec(), asked.iter().map(|&it| it.to_owned()).collect()));
        }

        fn after(&mut self, ms: u64) {
            self.now = self.now.plus_ms(ms);
            self.bus.tick(self.now);
        }
    }

    fn name(channel: &str) -> ChannelName {
        ChannelName::parse(channel).expect("a name")
    }

    #[test]
    fn a_channel_opens_when_its_topic_is_heard() {
        let world = World::new();
        assert_eq!(world.bus.broker_reached(), []);
        world.open("cursor:1");
        world.open("cursor:1");
        world.check(&[], &["+cursor:1"]);
        assert_eq!(world.bus.topics(), (1, 0));
        world.bus.heard(&[name("cursor:2")], world.now);
        world.check(&[], &[]);
        world.bus.heard(&[name("cursor:1")], world.now);
        world.check(&["cursor:1", "cursor:1"], &[]);
        assert_eq!(world.bus.topics(), (1, 1));
        world.open("cursor:1");
        world.check(&["cursor:1"], &[]);
    }

    #[test]
    fn nobody_waits_longer_than_a_second_or_for_a_broker_that_is_away() {
        let mut world = World::new();
        world.open("cursor:1");
        world.check(&["cursor:1"], &[]);
        assert_eq!(world.bus.broker_reached(), [name("cursor:1")], "it is to be heard from now on");
        world.open("cursor:2");
        world.after(999);
        world.check(&[], &["+cursor:2"]);
        world.after(1);
        world.check(&["cursor:2"], &[]);
        world.open("cursor:3");
        world.check(&[], &["+cursor:3"]);
        world.bus.broker_lost(world.now);
        world.check(&["cursor:3"], &[]);
        assert!(world.bus.is_deaf());
        let mut again = world.bus.broker_reached();
        again.sort();
        assert_eq!(again, [name("cursor:1"), name("cursor:2"), name("cursor:3")]);
        assert_eq!(world.bus.topics(), (3, 0), "nothing is heard before it is said again");
    }

    #[test]
    fn a_topic_is_let_go_when_nobody_has_listened_for_two_looks() {
        let mut world = World::new();
        world.bus.broker_reached();
        world.open("cursor:1");
        world.open("cursor:2");
        world.bus.heard(&[name("cursor:1"), name("cursor:2")], world.now);
        let listened = world.opened.lock()[0].clone();
        listened.listen(0);
        world.check(&["cursor:1", "cursor:2"], &["+cursor:1", "+cursor:2"]);
        world.after(10_000);
        world.check(&[], &[]);
        world.after(10_000);
        world.check(&[], &["-cursor:2"]);
        listened.unlisten(0);
        world.open("cursor:1");
        world.after(10_000);
        world.check(&["cursor:1"], &[]);
        world.after(10_000);
        world.check(&[], &["-cursor:1"]);
        assert_eq!(world.bus.topics(), (0, 0));
    }

    #[test]
    fn what_somebody_listens_to_and_nobody_asked_for_is_found() {
        let mut world = World::new();
        world.bus.broker_reached();
        world.open("cursor:1");
        world.bus.heard(&[name("cursor:1")], world.now);
        let listened = world.opened.lock()[0].clone();
        world.after(10_000);
        world.after(10_000);
        world.check(&["cursor:1"], &["+cursor:1", "-cursor:1"]);
        listened.listen(0);
        world.after(10_000);
        world.check(&[], &["+cursor:1"]);
    }

    #[test]
    fn what_is_listened_to_and_not_confirmed_is_asked_for_again() {
        let mut world = World::new();
        world.bus.broker_reached();
        world.open("cursor:1");
        world.after(1_000);
        let listened = world.opened.lock()[0].clone();
        listened.listen(0);
        world.check(&["cursor:1"], &["+cursor:1"]);
        // The wish found no place, perhaps.
        world.after(10_000);
        world.check(&[], &["+cursor:1"]);
        world.bus.heard(&[name("cursor:1")], world.now);
        world.after(10_000);
        world.check(&[], &[]);
    }

    #[test]
    fn no_more_topics_are_asked_for_than_there_may_be_channels() {
        let world = World::new();
        world.bus.broker_reached();
        for n in 0..101 {
            world.open(&format!("cursor:{n}"));
        }
        assert_eq!(world.bus.topics(), (100, 0));
        assert_eq!(world.asked.0.lock().len(), 100);
        let opened = std::mem::take(&mut *world.opened.lock());
        assert_eq!(opened.len(), 1, "who is beyond them does not wait");
    }
}
