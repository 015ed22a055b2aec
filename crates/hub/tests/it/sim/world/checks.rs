//! What must be true of the server, at any moment and when everybody has left.

use std::collections::HashMap;
use std::sync::Arc;

use pulsewire_hub::{ConnectionInfo, Order, Shard};
use pulsewire_protocol::{ChannelName, Sequence};
use pulsewire_telemetry::{Current, numbers};

use super::super::client::View;
use super::super::truth::{EPHEMERAL, LOGS, METRICS};
use super::World;

impl World {
    /// What every table must say at any moment.
    pub fn audit(&mut self) {
        for shard in &self.shards {
            shard.audit();
        }
        let active: usize = self.shards.iter().map(Shard::active).sum();
        let closed = self.hub.ledger.page(0, 0).1 as u64;
        let moving = self.wires.borrow().moving;
        if self.opened - closed != (active + moving) as u64 {
            self.faults.push(format!(
                "{} opened, {closed} closed, {active} active, {moving} between shards",
                self.opened
            ));
        }
    }

    /// What the exposition says.
    pub fn numbers(&mut self) -> std::collections::BTreeMap<String, f64> {
        let current = self.survey();
        numbers(&self.telemetry, &current)
    }

    pub fn survey(&mut self) -> Current {
        let total = Arc::new(parking_lot::Mutex::new(Current::default()));
        for shard in &mut self.shards {
            let total = total.clone();
            shard.order(Order::Survey(Box::new(move |current| total.lock().merge(&current))), self.now);
        }
        let total = total.lock();
        total.clone()
    }

    pub fn list(&mut self) -> Vec<ConnectionInfo> {
        let total = Arc::new(parking_lot::Mutex::new(Vec::new()));
        for shard in &mut self.shards {
            let total = total.clone();
            shard.order(Order::List(Box::new(move |list| total.lock().extend(list))), self.now);
        }
        let mut total = total.lock();
        std::mem::take(&mut *total)
    }

    /// Once all is quiet, every watcher knows who is there; and nobody is there without a connection.
    pub fn check_presence(&mut self) {
        for client in &self.clients {
            for (channel, view) in &client.presence {
                let name = ChannelName::parse(channel).expect("a name");
                let snapshot = self.hub.presence.snapshot(&name);
                let shown = |member: &pulsewire_protocol::Member| {
                    let cursor = member.cursor.as_ref().map_or("null", |cursor| cursor.get());
                    let cursor = serde_json::from_str(cursor).expect("JSON");
                    (member.user.to_string(), (u64::from(member.sessions), cursor))
                };
                let members = snapshot.members.iter().map(shown).collect();
                let expected = View { version: snapshot.version, members };
                if *view != expected {
                    self.faults.push(format!(
                        "client {} knows {view:?} of {channel}, and it is {expected:?}",
                        client.number
                    ));
                }
            }
        }
        for channel in LOGS {
            let count = |world: &Self| {
                let snapshot = world.hub.presence.snapshot(&ChannelName::parse(channel).expect("a name"));
                let sessions: u32 = snapshot.members.iter().map(|member| member.sessions).sum();
                (sessions as usize, world.shards.iter().map(Shard::active).sum::<usize>())
            };
            if count(self).0 > count(self).1 {
                // Whoever has just gone may stay as long as the grace.
                self.run(10_000, 250);
            }
            let (sessions, active) = count(self);
            if sessions > active {
                self.faults.push(format!("{sessions} are in {channel}, of {active} who are connected"));
            }
        }
    }

    /// No outbox holds more than it may.
    pub fn check_outboxes(&mut self) {
        let max = self.plan.settings.limits.outbox_bytes_max as u64;
        for info in self.list() {
            // Answers may take as much again, and the last of them may stand over.
            if info.queued_bytes > 2 * max + 4_096 {
                self.faults.push(format!("{} bytes wait for {:?}", info.queued_bytes, info.remote));
            }
        }
    }

    /// Every connection stands in the ledger once, with the code that its client saw, and the counters agree.
    pub fn check_ledger(&mut self) {
        let (entries, _) = self.hub.ledger.page(0, usize::MAX);
        let mut codes: HashMap<u16, f64> = HashMap::new();
        let mut seen: HashMap<usize, u16> = HashMap::new();
        for entry in &entries {
            let number = usize::from(entry.remote.port()) - 1;
            *codes.entry(entry.code).or_default() += 1.0;
            if seen.insert(number, entry.code).is_some() {
                self.faults.push(format!("connection {number} stands in the ledger twice"));
            }
        }
        for (number, (_, told)) in self.owners.iter().enumerate() {
            match (seen.get(&number), told) {
                (None, _) => self.faults.push(format!("connection {number} is not in the ledger")),
                (Some(code), Some(told)) if code != told => {
                    let line = format!("connection {number} closed with {code}, its client saw {told}");
                    self.faults.push(line);
                }
                _ => {}
            }
        }
        let numbers = self.numbers();
        let mut counted: HashMap<u16, f64> = HashMap::new();
        for (series, value) in &numbers {
            if let Some(rest) = series.strip_prefix("websocket_closes_total{code=\"")
                && let Some(code) = rest.split('"').next().and_then(|code| code.parse().ok())
                && *value > 0.0
            {
                *counted.entry(code).or_default() += value;
            }
        }
        codes.retain(|code, _| counted.contains_key(code) || is_known(*code));
        if codes != counted {
            self.faults.push(format!("the ledger has {codes:?}, the counters have {counted:?}"));
        }
        let opened = numbers["websocket_connections_total{status=\"opened\"}"];
        let closed = numbers["websocket_connections_total{status=\"closed\"}"];
        if (opened, closed) != (self.opened as f64, entries.len() as f64) {
            self.faults.push(format!("counted {opened} opened, {closed} closed"));
        }
    }

    /// Everybody has left and every deadline has passed: nothing may remain.
    pub fn check_empty(&mut self) {
        for (index, shard) in self.shards.iter().enumerate() {
            shard.audit();
            if !shard.is_empty() {
                self.faults.push(format!("shard {index} is not empty"));
            }
        }
        if !self.hub.presence.is_empty() {
            self.faults.push("somebody is still present".to_owned());
        }
        let (connections, tables) = (self.hub.admission.connections(), self.hub.admission.tables());
        if connections != 0 || tables != (0, 0) {
            self.faults.push(format!("admission still counts {connections}, {tables:?}"));
        }
        for channel in LOGS.iter().chain(&EPHEMERAL).chain(&METRICS) {
            let name = ChannelName::parse(channel).expect("a channel");
            if let Ok(Some(channel)) = self.bus.at_hand(&name, Sequence::ZERO)
                && channel.listeners() != 0
            {
                self.faults.push(format!("{name} still has {} listeners", channel.listeners()));
            }
        }
        let wires = self.wires.borrow();
        if !wires.by_key.is_empty() {
            self.faults.push(format!("{} sockets were not closed", wires.by_key.len()));
        }
    }

    /// Everything that was found wrong.
    pub fn collect(&mut self) -> Vec<String> {
        let mut faults = std::mem::take(&mut self.faults);
        faults.append(&mut self.wires.borrow_mut().faults);
        for client in &mut self.clients {
            faults.append(&mut client.faults);
        }
        faults
    }
}

/// Codes with a series of their own; the others are counted together.
fn is_known(code: u16) -> bool {
    pulsewire_protocol::CloseCode::from_u16(code).is_some() || matches!(code, 1005 | 1006)
}
