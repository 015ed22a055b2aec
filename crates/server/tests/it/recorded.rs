//! Publishers and readers that write down what they sent and were told, for the history checker to judge.
//!
//! They survive the server: a publisher tries again under the same message id, a reader goes on at the position it
//! reached. What they are is told by bytes alone, as in `harness`.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use pulsewire_edge::clock;
use pulsewire_loadtest::check::finding::Report;
use pulsewire_loadtest::check::{Bounds, files::check_files};
use serde_json::{Value, json};

use crate::child::Folder;
use crate::harness::{Answer, Socket, handshake};

/// The channel of all of it.
pub(crate) const CHANNEL: &str = "run:1";
/// The message id of the last event: whoever reads it has everything.
const LAST: &str = "last";
/// How long a reader waits for an event; only a failing test reaches it.
const SILENCE: Duration = Duration::from_secs(120);

/// Where a server is, and the token it takes.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) address: SocketAddr,
    pub(crate) token: String,
    /// What of a balancer in front of several servers: how long its clients wait before they try another.
    pub(crate) balanced: Option<Duration>,
}

impl Place {
    /// A connection; none if nobody accepts.
    fn connect(&self) -> Option<Socket> {
        let socket = Socket::try_connect(self.address)?;
        Some(match self.balanced {
            Some(patience) => socket.gives_up_after(patience),
            None => socket,
        })
    }
}

/// The count of servers when there will be no other.
const OVER: u64 = u64::MAX;

/// Where the server is now, for those who survive it.
#[derive(Debug, Default)]
pub(crate) struct Whereabouts {
    /// How many there have been, and the one that runs.
    now: Mutex<(u64, Option<Place>)>,
    changed: Condvar,
}

impl Whereabouts {
    /// A server runs, or none does.
    pub(crate) fn set(&self, place: Option<Place>) {
        let mut now = self.now.lock().unwrap();
        *now = (now.0 + 1, place);
        self.changed.notify_all();
    }

    /// Waits for a server; `None` if there will be no other.
    fn get(&self) -> Option<(u64, Place)> {
        let none = |now: &mut (u64, Option<Place>)| now.0 != OVER && now.1.is_none();
        let now = self.changed.wait_while(self.now.lock().unwrap(), none).unwrap();
        now.1.clone().map(|place| (now.0, place))
    }

    /// Waits a moment, as somebody does who was told to come back later.
    fn rest(&self) {
        let now = self.now.lock().unwrap();
        let count = now.0;
        let _ =
            self.changed.wait_timeout_while(now, Duration::from_millis(50), |now| now.0 == count).unwrap();
    }

    fn is_over(&self) -> bool {
        self.is_still(OVER)
    }

    fn is_still(&self, count: u64) -> bool {
        self.now.lock().unwrap().0 == count
    }
}

/// Ends everybody when the test ends, however it does.
pub(crate) struct Ending<'a>(&'a Whereabouts);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        *self.0.now.lock().unwrap() = (OVER, None);
        self.0.changed.notify_all();
    }
}

/// One history: its files, and what its publishers have reached.
pub(crate) struct History {
    folder: Folder,
    files: Mutex<Vec<PathBuf>>,
    pub(crate) whereabouts: Whereabouts,
    epoch: Mutex<Option<String>>,
    acknowledged: AtomicU64,
    /// A publisher was told that the store fails.
    pub(crate) refused: AtomicBool,
    done: AtomicBool,
}

impl History {
    pub(crate) fn new() -> Self {
        Self {
            folder: Folder::new(),
            files: Mutex::default(),
            whereabouts: Whereabouts::default(),
            epoch: Mutex::default(),
            acknowledged: AtomicU64::new(0),
            refused: AtomicBool::new(false),
            done: AtomicBool::new(false),
        }
    }

    fn recorder(&self, member: &'static str, name: &str) -> Recorder {
        let path = self.folder.path().join(format!("{name}.jsonl"));
        let file = BufWriter::new(File::create(&path).unwrap());
        self.files.lock().unwrap().push(path);
        Recorder { member, name: name.to_owned(), file }
    }

    /// To be kept as long as publishers and readers are wanted.
    pub(crate) fn ending(&self) -> Ending<'_> {
        Ending(&self.whereabouts)
    }

    /// How many attempts were acknowledged.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::SeqCst)
    }

    /// Waits until so many more attempts are acknowledged.
    #[track_caller]
    pub(crate) fn goes_on(&self, more: u64) {
        let (enough, begun) = (self.acknowledged() + more, Instant::now());
        while self.acknowledged() < enough {
            assert!(begun.elapsed() < SILENCE, "nothing is acknowledged any more");
            self.whereabouts.rest();
        }
    }

    /// Publishers end with the event they have under way.
    pub(crate) fn end(&self) {
        self.done.store(true, Ordering::SeqCst);
    }

    /// Publishes one event after another until [`History::end`]. One that is `patient` tries each until it is
    /// acknowledged; another goes on, whatever became of it.
    pub(crate) fn publish(&self, name: &str, patient: bool) {
        let mut recorder = self.recorder("publisher", name);
        let mut wire = None;
        for n in 0.. {
            if self.done.load(Ordering::SeqCst) || self.whereabouts.is_over() {
                return;
            }
            self.publish_one(&mut recorder, &mut wire, &format!("{name}.{n}"), patient);
        }
    }

    /// Publishes the event that ends all readers.
    pub(crate) fn publish_last(&self) {
        self.publish_one(&mut self.recorder("publisher", LAST), &mut None, LAST, true);
    }

    fn publish_one(&self, recorder: &mut Recorder, wire: &mut Option<Wire>, id: &str, patient: bool) {
        let event = json!({"channel": CHANNEL, "type": "note", "data": {"of": id}, "id": id});
        loop {
            recorder.write(json!({"type": "publish", "channel": CHANNEL, "id": id, "data": event["data"]}));
            let (answer, position) = self.attempt(wire, &event);
            let mut record = json!({"type": "answer", "channel": CHANNEL, "id": id, "answer": answer});
            if let Some(position) = position {
                record["epoch"] = position["epoch"].clone();
                record["sequence"] = position["sequence"].clone();
                self.epoch
                    .lock()
                    .unwrap()
                    .get_or_insert_with(|| position["epoch"].as_str().unwrap().to_owned());
                self.acknowledged.fetch_add(1, Ordering::SeqCst);
            }
            recorder.write(record);
            if !patient || self.whereabouts.is_over() || matches!(answer, "ok" | "duplicate") {
                return;
            }
        }
    }

    /// Sends one event once: what became of it, and where it stands.
    fn attempt(&self, wire: &mut Option<Wire>, event: &Value) -> (&'static str, Option<Value>) {
        let found = wire.take().or_else(|| {
            let (count, place) = self.whereabouts.get()?;
            place.connect().map(|socket| Wire { socket, count, place })
        });
        let Some(mut found) = found else { return ("unknown", None) };
        let Some(answer) = found.post("/api/publish", &event.to_string()) else { return ("unknown", None) };
        if answer.status != 200 && !self.whereabouts.is_still(found.count) {
            // Somebody else's server has got the address of the one that was killed.
            return ("unknown", None);
        }
        if found.place.balanced.is_some() && !answer.text().starts_with('{') {
            // The balancer's own words: it may have been kept, and the answer lost.
            self.whereabouts.rest();
            return ("unknown", None);
        }
        let said = answer.json();
        let balanced = found.place.balanced.is_some();
        *wire = Some(found);
        match answer.status {
            200 if said["duplicate"] == true => ("duplicate", Some(said)),
            200 => ("ok", Some(said)),
            503 => {
                assert!(answer.headers.contains_key("retry-after"), "{answer:?}");
                self.refused.store(true, Ordering::SeqCst);
                if balanced {
                    self.whereabouts.rest();
                }
                match said["code"].as_str() {
                    Some("outcome_unknown") => ("unknown", None),
                    Some("store_unavailable" | "overloaded" | "draining") => ("rejected", None),
                    _ => panic!("{said}"),
                }
            }
            _ => panic!("{answer:?}"),
        }
    }

    /// Reads the channel as it comes, over every end of the server, until the last event.
    pub(crate) fn follow(&self, name: &str) {
        let mut recorder = self.recorder("reader", name);
        let mut position: Option<Value> = None;
        while let Some((_, place)) = self.whereabouts.get() {
            if follow_once(&place, &mut recorder, &mut position).is_some() {
                recorder.write(json!({"type": "end"}));
                return;
            }
            recorder.write(json!({"type": "disconnected"}));
            if place.balanced.is_some() {
                self.whereabouts.rest();
            }
        }
    }

    /// Writes down what a store holds, as somebody would who read it from the beginning: sequence, id and data of each
    /// event.
    pub(crate) fn holds(&self, rows: impl IntoIterator<Item = (u64, String, Value)>) {
        let mut recorder = self.recorder("reader", "store");
        let epoch = self.epoch.lock().unwrap().clone();
        recorder.write(json!({"type": "subscribed", "channel": CHANNEL, "epoch": epoch, "sequence": 0}));
        for (sequence, id, data) in rows {
            let event =
                json!({"type": "event", "channel": CHANNEL, "sequence": sequence, "id": id, "data": data});
            recorder.write(event);
        }
        recorder.write(json!({"type": "end"}));
    }

    /// The judgement: nothing found, in one epoch, without a gap.
    #[track_caller]
    pub(crate) fn is_clean(&self) -> Report {
        let report = self.judge();
        let totals = report.totals;
        assert_eq!((totals.epochs, totals.gapped, totals.resets), (1, 0, 0), "{totals:?}");
        report
    }

    /// The judgement: nothing found, whatever happened to the store.
    #[track_caller]
    pub(crate) fn judge(&self) -> Report {
        let files = self.files.lock().unwrap();
        let report = check_files(&files, Bounds { stale_ms: 60_000 }).unwrap();
        let names: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
        assert!(report.is_clean(), "{}", report.text(&names));
        report
    }
}

/// Follows one connection to its end; `Some` if the last event came.
fn follow_once(place: &Place, recorder: &mut Recorder, position: &mut Option<Value>) -> Option<()> {
    let mut socket = place.connect()?;
    if place.balanced.is_none() {
        socket.stream().set_read_timeout(Some(SILENCE)).unwrap();
    }
    let headers = format!("Authorization: Bearer {}\r\n", place.token);
    socket.send(handshake("/ws", &headers).as_bytes());
    if socket.try_head()?.status != 101 {
        return None;
    }
    let resumed = position.is_some();
    let wish = match position {
        Some(position) => json!({"channel": CHANNEL, "since": position}),
        None => json!({"channel": CHANNEL, "last": 1000}),
    };
    socket.say(&json!({"type": "subscribe", "channels": [wish]}));
    loop {
        let frame = socket.next()?;
        if frame.opcode == 9 {
            socket.frame(0x8a, &frame.payload);
        }
        if frame.opcode != 1 {
            continue;
        }
        let mut message = frame.json();
        match message["type"].as_str() {
            Some("subscribed") => {
                *position = Some(message["positions"][CHANNEL].clone());
                message["resumed"] = resumed.into();
            }
            Some("event") => position.as_mut().unwrap()["sequence"] = message["sequence"].clone(),
            _ => {}
        }
        let last = message["id"] == LAST;
        recorder.write(message);
        if last {
            return Some(());
        }
    }
}

/// Writes records of one name.
struct Recorder {
    member: &'static str,
    name: String,
    file: BufWriter<File>,
}

impl Recorder {
    fn write(&mut self, mut record: Value) {
        record[self.member] = self.name.clone().into();
        record["at_ms"] = clock::now().wall_ms.into();
        writeln!(self.file, "{record}").unwrap();
    }
}

/// A connection of a publisher, kept from event to event.
struct Wire {
    socket: Socket,
    count: u64,
    place: Place,
}

impl Wire {
    fn post(&mut self, path: &str, body: &str) -> Option<Answer> {
        let Place { address, token, .. } = &self.place;
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: {}\r\nAuthorization: Bearer {token}\r\n\r\n",
            body.len()
        );
        self.socket.send((head + body).as_bytes());
        self.socket.try_answer()
    }
}
