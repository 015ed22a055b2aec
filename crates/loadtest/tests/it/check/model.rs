//! A gateway, publishers and readers as they should be, in a few lines: what they write down is a clean history.

use serde_json::{Value, json};

const LOG: &str = "run:1";
const FLEETING: &str = "cursor:1";

/// What happens next, by chance.
pub(crate) struct Chance(std::vec::IntoIter<u32>);

impl Chance {
    pub(crate) fn new(numbers: Vec<u32>) -> Chance {
        Chance(numbers.into_iter())
    }

    /// A number below `bound`; 0 when chance has run out.
    fn below(&mut self, bound: u64) -> u64 {
        u64::from(self.0.next().unwrap_or(0)) % bound.max(1)
    }

    fn is_out(&self) -> bool {
        self.0.len() == 0
    }
}

#[derive(Clone)]
struct Event {
    id: String,
    data: u64,
    tag: &'static str,
}

struct Reader {
    name: String,
    connected: bool,
    /// The channels it subscribed at least once, and how far the client is.
    epoch: u64,
    cursor: u64,
    /// The server sends from here on; the client may have more.
    server: u64,
    filter: Option<&'static str>,
    /// Writes down what its client makes of it, without repetitions; others write what is on the wire.
    handler: bool,
    fleeting: usize,
    /// The index of the record of its last event, if nothing else has been told since.
    last: Option<usize>,
}

/// The world and what is written down of it.
pub(crate) struct Model {
    chance: Chance,
    /// Everything that was written down.
    pub(crate) records: Vec<Value>,
    /// Records of events that another event followed at once, with no filter that could explain a jump.
    pub(crate) followed: Vec<usize>,
    now_ms: u64,
    epoch: u64,
    floor: u64,
    log: Vec<Event>,
    fleeting: Vec<Event>,
    /// Events whose outcome their publisher does not know, and where they are.
    unknown: Vec<(u64, Event, Option<u64>)>,
    readers: Vec<Reader>,
    names: u64,
}

impl Model {
    pub(crate) fn run(chance: Chance) -> Model {
        let reader = |n: usize| Reader {
            name: format!("r{n}"),
            connected: false,
            epoch: 0,
            cursor: 0,
            server: 0,
            filter: (n == 3).then_some("a"),
            handler: n == 1,
            fleeting: 0,
            last: None,
        };
        let mut model = Model {
            chance,
            records: Vec::new(),
            followed: Vec::new(),
            now_ms: 0,
            epoch: 1,
            floor: 0,
            log: Vec::new(),
            fleeting: Vec::new(),
            unknown: Vec::new(),
            readers: (0..5).map(reader).collect(),
            names: 0,
        };
        while !model.chance.is_out() {
            model.step();
        }
        for reader in 0..model.readers.len() {
            if model.readers[reader].connected {
                while model.deliver(reader) {}
                model.told(reader, json!({"type": "end"}));
            }
        }
        model
    }

    fn step(&mut self) {
        self.now_ms += 1;
        let reader = self.chance.below(5) as usize;
        match self.chance.below(40) {
            0 => self.trim(),
            1 => self.begin_anew(),
            2..=4 => self.disconnect(reader),
            5..=8 => self.connect(reader),
            9..=10 => self.retry(),
            11..=20 => self.publish(),
            21..=23 => self.publish_fleeting(),
            24..=26 => self.deliver_fleeting(reader),
            _ => drop(self.deliver(reader)),
        }
    }

    fn told(&mut self, reader: usize, mut record: Value) {
        record["reader"] = self.readers[reader].name.clone().into();
        record["at_ms"] = self.now_ms.into();
        self.readers[reader].last = None;
        self.records.push(record);
    }

    fn sent(&mut self, publisher: u64, mut record: Value) {
        record["publisher"] = format!("p{publisher}").into();
        record["at_ms"] = self.now_ms.into();
        self.records.push(record);
    }

    fn head(&self) -> u64 {
        self.log.len() as u64
    }

    fn event(&mut self) -> Event {
        self.names += 1;
        let tag = ["a", "b"][self.chance.below(2) as usize];
        Event { id: format!("m{}", self.names), data: self.chance.below(3), tag }
    }

    fn ask(&mut self, publisher: u64, channel: &str, event: &Event) {
        let (id, data) = (&event.id, event.data);
        let tags = json!({"t": event.tag});
        self.sent(
            publisher,
            json!({"type": "publish", "channel": channel, "id": id, "data": data, "tags": tags}),
        );
    }

    fn answer(&mut self, publisher: u64, event: &Event, answer: &str, sequence: Option<u64>) {
        let epoch = format!("e{}", self.epoch);
        let record = json!({"type": "answer", "answer": answer, "channel": LOG, "id": event.id, "epoch": epoch, "sequence": sequence});
        self.sent(publisher, record);
    }

    fn publish(&mut self) {
        let publisher = self.chance.below(3);
        let event = self.event();
        self.ask(publisher, LOG, &event);
        let outcome = self.chance.below(8);
        let place = (outcome != 0 && outcome != 1).then(|| {
            self.log.push(event.clone());
            self.head()
        });
        match outcome {
            0 => self.answer(publisher, &event, "rejected", None),
            1 | 2 => {
                if self.chance.below(2) == 0 {
                    self.answer(publisher, &event, "unknown", None);
                }
                self.unknown.push((publisher, event, place));
            }
            _ => self.answer(publisher, &event, "ok", place),
        }
    }

    /// Of an unknown outcome, under the same id.
    fn retry(&mut self) {
        if self.unknown.is_empty() {
            return;
        }
        let index = self.chance.below(self.unknown.len() as u64) as usize;
        let (publisher, event, place) = self.unknown.swap_remove(index);
        self.ask(publisher, LOG, &event);
        match place {
            Some(sequence) => self.answer(publisher, &event, "duplicate", Some(sequence)),
            None => {
                self.log.push(event.clone());
                let head = self.head();
                self.answer(publisher, &event, "ok", Some(head));
            }
        }
    }

    fn trim(&mut self) {
        self.floor += self.chance.below(self.head() - self.floor + 1);
        self.now_ms += 2_000;
    }

    fn begin_anew(&mut self) {
        (self.epoch, self.floor) = (self.epoch + 1, 0);
        self.log.clear();
        self.unknown.clear();
        for reader in 0..self.readers.len() {
            if self.readers[reader].connected {
                self.reset(reader);
            }
        }
    }

    fn reset(&mut self, reader: usize) {
        let (epoch, head) = (self.epoch, self.head());
        let told = json!({"type": "reset", "channel": LOG, "epoch": format!("e{epoch}"), "sequence": head});
        self.told(reader, told);
        let reader = &mut self.readers[reader];
        (reader.epoch, reader.cursor, reader.server) = (epoch, head, head);
    }

    fn disconnect(&mut self, reader: usize) {
        if self.readers[reader].connected {
            self.told(reader, json!({"type": "disconnected"}));
            self.readers[reader].connected = false;
        }
    }

    fn connect(&mut self, reader: usize) {
        if self.readers[reader].connected {
            return;
        }
        let known = self.readers[reader].epoch == self.epoch;
        let (cursor, head) = (self.readers[reader].cursor, self.head());
        let resumed = known && self.chance.below(4) != 0;
        // The server may know less of what the client has than the client itself.
        let at =
            if resumed { cursor - self.chance.below(cursor.min(3) + 1) } else { self.chance.below(head + 1) };
        let is_old = self.readers[reader].epoch != 0 && !known;
        let at = if is_old { head } else { at };
        let position = json!({"epoch": format!("e{}", self.epoch), "sequence": at});
        let mut told =
            json!({"type": "subscribed", "channels": [LOG, FLEETING], "positions": {LOG: position}});
        if let Some(tag) = self.readers[reader].filter {
            told["tags"] = json!({"t": tag});
        }
        if resumed {
            told["resumed"] = true.into();
        }
        self.told(reader, told);
        if is_old {
            self.reset(reader);
        }
        let fleeting = self.fleeting.len();
        let epoch = self.epoch;
        let reader = &mut self.readers[reader];
        (reader.connected, reader.server, reader.epoch, reader.fleeting) = (true, at, epoch, fleeting);
        // Who begins elsewhere counts from there.
        reader.cursor = if resumed { cursor } else { at };
    }

    /// Tells a reader the next thing; false if there is none.
    fn deliver(&mut self, index: usize) -> bool {
        let reader = &self.readers[index];
        if !reader.connected || reader.server >= self.head() {
            return false;
        }
        let (from, filter, handler, before) = (reader.server + 1, reader.filter, reader.handler, reader.last);
        if self.floor >= from {
            let (to, cursor) = (self.floor, reader.cursor);
            self.readers[index].server = to;
            // A client that has all of it, or some, knows better.
            if handler && cursor >= to {
                return true;
            }
            let from = if handler { from.max(cursor + 1) } else { from };
            self.readers[index].cursor = cursor.max(to);
            self.told(
                index,
                json!({"type": "gap", "channel": LOG, "from": from, "to": to, "reason": "trimmed"}),
            );
            return true;
        }
        let passes = |event: &Event| filter.is_none_or(|tag| tag == event.tag);
        let next = self.log[from as usize - 1..].iter().position(passes);
        let Some(skipped) = next else {
            let head = self.head();
            (self.readers[index].server, self.readers[index].cursor) = (head, head);
            self.told(index, json!({"type": "pos", "channel": LOG, "sequence": head}));
            return true;
        };
        let sequence = from + skipped as u64;
        let event = self.log[sequence as usize - 1].clone();
        let again = sequence <= self.readers[index].cursor;
        let reader = &mut self.readers[index];
        (reader.server, reader.cursor) = (sequence, reader.cursor.max(sequence));
        if again && handler {
            return true;
        }
        let tags = json!({"t": event.tag});
        let mut told = json!({"type": "event", "channel": LOG, "sequence": sequence, "id": event.id, "data": event.data, "tags": tags});
        if skipped > 0 {
            told["previous"] = (from - 1).into();
        }
        self.told(index, told);
        if !again && filter.is_none() {
            self.followed.extend(before);
            self.readers[index].last = Some(self.records.len() - 1);
        }
        true
    }

    fn publish_fleeting(&mut self) {
        let publisher = self.chance.below(3);
        let event = self.event();
        self.ask(publisher, FLEETING, &event);
        let id = event.id.clone();
        self.sent(publisher, json!({"type": "answer", "answer": "ok", "channel": FLEETING, "id": id}));
        self.fleeting.push(event);
    }

    /// The next of those that keep nothing, or the one behind it.
    fn deliver_fleeting(&mut self, index: usize) {
        let at = self.readers[index].fleeting + self.chance.below(2) as usize;
        if !self.readers[index].connected || at >= self.fleeting.len() {
            return;
        }
        self.readers[index].fleeting = at + 1;
        let Event { id, data, tag } = self.fleeting[at].clone();
        if self.readers[index].filter.is_some_and(|filter| filter != tag) {
            return;
        }
        let tags = json!({"t": tag});
        self.told(index, json!({"type": "event", "channel": FLEETING, "id": id, "data": data, "tags": tags}));
    }
}
