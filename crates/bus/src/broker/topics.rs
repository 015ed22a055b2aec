//! Which channels this node hears.
//!
//! A node asks for a channel's topic before somebody begins to listen to it, and whoever wants to listen waits
//! until the broker has confirmed that (§4.4: hear first, then read where it stands), but never for long: without
//! the broker everything goes on by looking into the store. It lets go of a topic when nobody has listened for two
//! looks in a row. The table is bounded by the table of channels.

use std::collections::HashMap;

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
        for waiting in &mut topics.waiting {
            waiting.missing.retain(|name| !names.contains(name));
        }
        let ready = topics.waiting.extract_if(.., |waiting| waiting.missing.is_empty());
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
        let listened: HashMap<ChannelName, bool> = self
            .channels
            .read()
            .values()
            .filter(|channel| !channel.name.is_system() && channel.listeners() > 0)
            .map(|channel| (channel.name.clone(), false))
            .collect();
        let mut topics = self.topics.lock();
        let gone: Vec<ChannelName> = topics
            .known
            .extract_if(|name, known| !listened.contains_key(name) && !std::mem::take(&mut known.touched))
            .map(|(name, _)| name)
            .collect();
        let mut fresh = Vec::new();
        for name in listened.into_keys() {
            topics.known.entry(name.clone()).or_insert_with(|| {
                fresh.push(name);
                Known { heard: false, touched: false }
            });
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
