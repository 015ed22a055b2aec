//! What a client believes of its `log` channels: positions, gaps, critical events and the keyed state.

use serde_json::Value;

use super::super::truth::{Keys, Kind, Truth, key_of};
use super::{Client, Sub, UNKNOWN, Wanted, payload_of, skips};

/// What the client knows of a channel's keyed state.
#[derive(Debug, Clone, Default)]
pub(super) struct Keyed {
    /// The last key of the last part; `None` before the first.
    pub(super) after: Option<String>,
    /// The last key of each part, and up to where its events are in it.
    pub(super) parts: Vec<(String, u64)>,
    /// It was broken off before, or asked for and not heard of: it may come, and need not.
    pub(super) maybe: bool,
    /// Every part has come.
    pub(super) whole: bool,
    /// Events that it had to be told of are gone.
    pub(super) holes: bool,
    pub(super) keys: Keys,
}

impl Keyed {
    /// Up to where the events of a key are known.
    pub(super) fn known(&self, key: &str) -> u64 {
        let part = self.parts.iter().find(|(last, _)| key <= last.as_str()).or(self.parts.last());
        let event = self.keys.get(key).map_or(0, |(sequence, _)| *sequence);
        part.map_or(0, |(_, sequence)| *sequence).max(event)
    }
}

impl Sub {
    /// Whether it may be sent nothing of this range.
    pub(super) fn skips(&self, channel: &str, range: std::ops::Range<u64>, truth: &Truth) -> bool {
        let wanted = |at: &u64| *at > self.critical_until || truth.is_critical(channel, *at);
        range.filter(wanted).all(|at| skips(self.host, channel, at..at + 1, truth))
    }
}

impl Client {
    pub(super) fn begin_log(&mut self, channel: &str, wish: Option<&Wanted>, value: &Value, truth: &Truth) {
        let position = &value["positions"][channel];
        let (Some(epoch), Some(sequence)) = (position["epoch"].as_str(), position["sequence"].as_u64())
        else {
            self.fault(format!("subscribed to {channel} without a position"));
            return;
        };
        let before = self.epochs.insert(channel.to_owned(), epoch.to_owned());
        let same_history = before.is_none_or(|before| before == epoch);
        if sequence > truth.head(channel) {
            self.fault(format!("{channel}: position {sequence} is ahead of {}", truth.head(channel)));
        }
        let mut replaying = wish.is_some_and(|wish| wish.replays || wish.state);
        let present = self.subs.get(channel);
        let (mut critical_surely, mut critical_until) = (0, 0);
        let mut state = wish.filter(|wish| wish.state).map(|_| Keyed::default());
        match wish {
            Some(Wanted { since: Some((asked_epoch, asked)), head, .. }) => {
                if asked_epoch == epoch && *asked <= *head && sequence != *asked {
                    self.fault(format!("{channel}: asked since {asked}, begins after {sequence}"));
                }
            }
            Some(Wanted { replays: false, state: false, host, .. }) if same_history => {
                let same = |sub: &&Sub| sub.host == *host || sub.host == UNKNOWN;
                if let Some(sub) = present.filter(same) {
                    replaying = sub.replaying;
                    (critical_surely, critical_until) = (sub.critical_surely, sub.critical_until);
                    state.clone_from(&sub.state);
                    let next = sub.next;
                    if sub.host == UNKNOWN {
                        // It may begin anew, with another filter.
                        critical_surely = 0;
                        if let Some(keyed) = &mut state {
                            (keyed.maybe, keyed.holes) = (true, true);
                        }
                    } else if next > sequence + 1 || !sub.skips(channel, next..sequence + 1, truth) {
                        // Events before it may have been taken back, as before `replay_end`.
                        let line =
                            format!("{channel}: asked again while {next} was next, goes on after {sequence}");
                        self.doubts.push((channel.to_owned(), line));
                    }
                }
            }
            Some(wish) => {
                if wish.critical {
                    // What is lost on its way to a shard may have left it behind.
                    critical_surely = if truth.lossy { 0 } else { wish.head };
                    critical_until = truth.head(channel);
                    if sequence > 0 {
                        self.fault(format!("{channel}: critical events from {sequence} on"));
                    }
                }
            }
            None => {
                (critical_surely, critical_until) = match self.critical.get(channel) {
                    Some((_, u64::MAX)) => (0, truth.head(channel)),
                    // It may be another's, who replays it so.
                    _ if self.unsure || self.shared => (0, truth.head(channel)),
                    _ if !same_history => (0, 0),
                    until => until.copied().unwrap_or((0, 0)),
                };
                let skipped = |known: u64| {
                    (known..=sequence).all(|at| at <= critical_until && !truth.is_critical(channel, at))
                };
                let known = self.known.get(channel).copied();
                if let Some(known) = known.filter(|_| !self.unsure && !self.shared && same_history) {
                    // What waited behind a close frame may have come twice: at least once is the contract.
                    if sequence + 1 < known && !self.was_closed {
                        self.fault(format!("{channel}: resumed after {sequence} although {known} was next"));
                    }
                    if !skipped(known) && !self.lost_bytes && !self.filtered.contains(channel) {
                        self.fault(format!(
                            "{channel}: resumed after {sequence}, {known} and what follows are missing"
                        ));
                    }
                }
                if self.stateless.contains(channel) {
                    state = Some(Keyed { maybe: true, ..Keyed::default() });
                }
                replaying = true;
            }
        }
        // How a session that comes back had its channels is known only if it was always the same.
        let host = match wish {
            Some(wish) => wish.host,
            None if self.filtered.contains(channel) || self.shared => UNKNOWN,
            None => '*',
        };
        let sub = Sub {
            kind: Kind::Log,
            next: sequence + 1,
            replaying,
            last: 0,
            received: 0,
            dropped: 0,
            low: 0,
            high: 0,
            host,
            critical_until,
            critical_surely,
            state,
            interval: false,
            owed: None,
            vague: false,
            guessed: false,
        };
        if wish.is_some() {
            self.stateless.remove(channel);
        }
        if wish.is_some() || critical_until > 0 {
            self.critical.insert(channel.to_owned(), (critical_surely, critical_until));
        }
        self.subs.insert(channel.to_owned(), sub);
    }

    /// A part of the keyed state: all there is between its keys, as it was at its sequence.
    pub(super) fn on_state(&mut self, channel: &str, value: &Value, truth: &Truth) {
        let sequence = value["sequence"].as_u64().unwrap_or(u64::MAX);
        let more = value["more"] == true;
        let shared = self.shared || self.unsure;
        let Some(sub) = self.subs.get_mut(channel) else {
            self.fault(format!("the state of {channel}, to which it does not listen"));
            return;
        };
        let Some(keyed) = &mut sub.state else {
            if !shared {
                self.fault(format!("the state of {channel}, which it did not ask for"));
            }
            return;
        };
        let all = truth.state_at(channel, sequence);
        let mut came = Keys::new();
        for event in value["values"].as_array().into_iter().flatten() {
            let key = event["key"].as_str().unwrap_or_default().to_owned();
            came.insert(key, (event["sequence"].as_u64().unwrap_or(0), payload_of(event)));
        }
        let last = came.keys().next_back().cloned();
        let asked = |key: &String| Some(key) > keyed.after.as_ref() && (!more || Some(key) <= last.as_ref());
        let expected: Keys = all.into_iter().filter(|(key, _)| asked(key)).collect();
        let right = came == expected && !keyed.whole && (last.is_some() || !more);
        keyed.parts.push((last.clone().unwrap_or_default(), sequence));
        keyed.after = last.or(keyed.after.take());
        (keyed.whole, keyed.maybe) = (!more, false);
        keyed.keys.extend(came.clone());
        if !right {
            self.fault(format!("{channel}: the state {came:?} at {sequence}, and it was {expected:?}"));
        }
    }

    pub(super) fn on_event(&mut self, channel: &str, value: &Value, truth: &Truth) {
        self.events += 1;
        let payload = payload_of(value);
        let Some(sub) = self.subs.get_mut(channel) else {
            self.fault(format!("an event of {channel}, to which it does not listen"));
            return;
        };
        if sub.kind == Kind::Log {
            let sequence = value["sequence"].as_u64().unwrap_or(0);
            let expected = sub.next;
            let skips = sub.skips(channel, expected..sequence, truth);
            sub.next = sequence + 1;
            let early = sub.state.as_ref().is_some_and(|keyed| !keyed.whole && !keyed.maybe);
            if let (Some(keyed), Some(key)) = (&mut sub.state, key_of(payload))
                && sequence > keyed.known(&key)
            {
                // What removes a key stays, so that nothing older brings it back.
                keyed.keys.insert(key, (sequence, payload));
            }
            let previous = value["previous"].as_u64().unwrap_or(sequence.saturating_sub(1));
            if early {
                self.fault(format!("{channel}: {sequence} came before the state"));
            }
            if sequence < expected || previous >= expected || !skips {
                self.fault(format!("{channel}: {expected} was next, {sequence} behind {previous} came"));
            }
            let published = sequence.checked_sub(1).and_then(|at| truth.log.get(channel)?.get(at as usize));
            if published != Some(&payload) {
                self.fault(format!("{channel} {sequence} is not what was published"));
            }
            return;
        }
        let place = truth.places.get(&payload).copied().unwrap_or(0);
        if sub.received == 0 && sub.low > place {
            let low = sub.low;
            self.fault(format!("{channel}: {place} was over before {low}, when it subscribed"));
        } else if place <= sub.last {
            let last = sub.last;
            self.fault(format!("{channel}: {place} came after {last}"));
        }
        if let Some(sub) = self.subs.get_mut(channel) {
            sub.last = sub.last.max(place);
            sub.received += 1;
        }
    }

    pub(super) fn on_gap(&mut self, channel: &str, value: &Value, truth: &Truth) {
        let (from, to) = (value["from"].as_u64().unwrap_or(0), value["to"].as_u64().unwrap_or(0));
        let Some(sub) = self.subs.get_mut(channel) else {
            self.fault(format!("a gap of {channel}, to which it does not listen"));
            return;
        };
        let expected = sub.next;
        // Until the live events only critical ones are missed.
        let critical = to <= sub.critical_surely;
        sub.next = to + 1;
        if let Some(keyed) = &mut sub.state {
            keyed.holes = true;
        }
        if critical && to > truth.critical_floor(channel) {
            let floor = truth.critical_floor(channel);
            self.fault(format!("{channel}: a gap up to {to} although critical events begin behind {floor}"));
        }
        if from != expected || to < from {
            self.fault(format!("{channel}: {expected} was next, a gap from {from} to {to} came"));
        }
        if to > truth.floor(channel) {
            self.fault(format!("{channel}: a gap up to {to} although {} is the floor", truth.floor(channel)));
        }
    }

    pub(super) fn on_reset(&mut self, channel: &str, value: &Value) {
        let sequence = value["sequence"].as_u64().unwrap_or(0);
        let epoch = value["epoch"].as_str().unwrap_or_default().to_owned();
        let before = self.epochs.insert(channel.to_owned(), epoch.clone());
        match self.subs.get_mut(channel) {
            Some(sub) if before.as_ref() != Some(&epoch) => {
                // Another history: it begins anew, and so does a state that has not come whole.
                self.doubts.retain(|(doubted, _)| doubted != channel);
                (sub.next, sub.replaying) = (sequence + 1, false);
                (sub.critical_surely, sub.critical_until) = (0, 0);
                if let Some(keyed) = &mut sub.state {
                    let holes = keyed.whole;
                    *keyed = Keyed { holes, whole: holes, maybe: keyed.maybe, ..Keyed::default() };
                    sub.replaying = !holes;
                }
                self.critical.insert(channel.to_owned(), (0, 0));
            }
            Some(sub) if sub.next == sequence + 1 => {}
            sub => {
                let line = format!("{channel}: reset to {sequence}, known: {sub:?}");
                self.fault(line);
            }
        }
    }

    pub(super) fn on_pos(&mut self, channel: &str, value: &Value, truth: &Truth) {
        let sequence = value["sequence"].as_u64().unwrap_or(0);
        match self.subs.get_mut(channel) {
            Some(sub)
                if (sub.host != '*' || sub.critical_until > 0)
                    && sub.skips(channel, sub.next..sequence + 1, truth) =>
            {
                sub.next = sub.next.max(sequence + 1);
            }
            sub => {
                let line = format!("{channel}: pos at {sequence}, known: {sub:?}");
                self.fault(line);
            }
        }
    }

    pub(super) fn on_replay_end(&mut self, channel: &str, value: &Value, truth: &Truth) {
        let sequence = value["sequence"].as_u64().unwrap_or(0);
        match self.subs.get_mut(channel) {
            Some(sub)
                if sub.next <= sequence + 1
                    // Whether a subscription that came back unseen was replaying is not known.
                    && (sub.replaying || self.shared || self.filtered.contains(channel))
                    && sub.skips(channel, sub.next..sequence + 1, truth) =>
            {
                sub.replaying = false;
                sub.next = sequence + 1;
            }
            sub => {
                // Events before it may have been taken back, when the history was found to be another.
                let line = format!("{channel}: replay_end at {sequence}, known: {sub:?}");
                self.doubts.push((channel.to_owned(), line));
            }
        }
    }
}
