//! Reading over HTTP: pages, polls and event streams, over both stores (docs/protocol.md, R80 to R94).
//!
//! The clients here write requests and read bytes; the event stream's reader is a few lines of its own, so the
//! server does not check itself.

use std::fmt::Write as _;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use pulsewire::auth::{Action, Actions, Role};
use serde_json::{Value, json};

use crate::child::Folder;
use crate::harness::{Answer, PATIENCE, Server, Socket, bearer, http, until};

/// The settings of both stores: memory, and a file in the folder.
fn stores(folder: &Folder) -> [String; 2] {
    let file = folder.path().join("events.db");
    ["[store]\nurl = \"memory\"\n".to_owned(), format!("[store]\nurl = \"sqlite:{}\"\n", file.display())]
}

/// Runs a test over both stores, with these further settings.
fn over_stores(more: &str, test: impl Fn(&Server)) {
    let folder = Folder::new();
    for store in stores(&folder) {
        test(&Server::start(&format!("{store}{more}")));
    }
}

fn get(server: &Server, path: &str) -> Answer {
    server.http("GET", path, &bearer(&server.token("ann", Role::User)), "")
}

fn read(server: &Server, path: &str) -> Value {
    let answer = get(server, path);
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    assert_eq!(answer.headers["cache-control"], "no-store");
    answer.json()
}

/// Publishes numbered notes, in batches.
fn publish(server: &Server, channel: &str, numbers: std::ops::Range<u64>) {
    let note = |number| json!({"channel": channel, "type": "note", "data": {"n": number}});
    let all: Vec<Value> = numbers.map(note).collect();
    for batch in all.chunks(500) {
        server.publish(&json!(batch));
    }
}

fn sequences(answer: &Value) -> Vec<u64> {
    answer["events"].as_array().unwrap().iter().map(|event| event["sequence"].as_u64().unwrap()).collect()
}

/// A request that is answered later.
pub(crate) fn later(server: &Server, path: &str) -> JoinHandle<Answer> {
    let (address, path, headers) =
        (server.address, path.to_owned(), bearer(&server.token("ann", Role::User)));
    thread::spawn(move || http(address, "GET", &path, &headers, ""))
}

/// One block of an event stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Block {
    id: Option<String>,
    pub(crate) event: String,
    data: String,
    retry: Option<u64>,
}

impl Block {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// An event stream as a browser reads it.
pub(crate) struct Stream {
    socket: Socket,
    raw: Vec<u8>,
    text: Vec<u8>,
    id: Option<String>,
}

impl Stream {
    pub(crate) fn open(server: &Server, path: &str, headers: &str) -> Self {
        Self::open_on(server.connect(), path, headers)
    }

    pub(crate) fn open_on(mut socket: Socket, path: &str, headers: &str) -> Self {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n");
        socket.send(request.as_bytes());
        let answer = socket.head();
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.headers["content-type"], "text/event-stream");
        assert_eq!(answer.headers["transfer-encoding"], "chunked");
        Self { socket, raw: Vec::new(), text: Vec::new(), id: None }
    }

    /// A stream of a user, after its first block.
    pub(crate) fn of(server: &Server, path: &str, headers: &str) -> Self {
        let headers = format!("{}{headers}", bearer(&server.token("ann", Role::User)));
        let mut stream = Self::open(server, path, &headers);
        assert_eq!(stream.block().event, "subscribed");
        stream
    }

    /// The newest `Last-Event-ID`.
    pub(crate) fn id(&self) -> String {
        self.id.clone().expect("a block had an id")
    }

    /// Takes whole chunks out of what came (RFC 9112 §7.1). Returns whether more may come.
    fn unchunk(&mut self) -> bool {
        loop {
            let Some(end) = self.raw.windows(2).position(|pair| pair == b"\r\n") else { return true };
            let len = usize::from_str_radix(std::str::from_utf8(&self.raw[..end]).unwrap(), 16).unwrap();
            if self.raw.len() < end + 2 + len + 2 {
                return true;
            }
            self.text.extend_from_slice(&self.raw[end + 2..end + 2 + len]);
            self.raw.drain(..end + 2 + len + 2);
            if len == 0 {
                return false;
            }
        }
    }

    /// The next block with something in it; `None` at the end of the stream.
    fn next(&mut self) -> Option<Block> {
        let mut open = true;
        loop {
            while let Some(end) = self.text.windows(2).position(|pair| pair == b"\n\n") {
                let text = String::from_utf8(self.text.drain(..end + 2).collect()).unwrap();
                let block = self.parse(&text);
                if !block.event.is_empty() {
                    return Some(block);
                }
            }
            if !open {
                return None;
            }
            match self.socket.take() {
                Some(bytes) => self.raw.extend_from_slice(&bytes),
                None => return None,
            }
            open = self.unchunk();
        }
    }

    pub(crate) fn block(&mut self) -> Block {
        self.next().expect("the stream goes on")
    }

    fn parse(&mut self, text: &str) -> Block {
        let mut block = Block::default();
        let mut lines = Vec::new();
        for line in text.lines() {
            match line.split_once(": ") {
                Some(("id", id)) => self.id = Some(id.to_owned()),
                Some(("event", event)) => event.clone_into(&mut block.event),
                Some(("data", data)) => lines.push(data),
                Some(("retry", retry)) => block.retry = retry.parse().ok(),
                _ => {}
            }
        }
        block.id.clone_from(&self.id);
        block.data = lines.join("\n");
        block
    }

    /// The sequences of the next events.
    pub(crate) fn sequences(&mut self, count: usize) -> Vec<u64> {
        let mut found = Vec::new();
        while found.len() < count {
            let block = self.block();
            assert_eq!(block.event, "event", "{block:?}");
            found.push(block.json()["sequence"].as_u64().unwrap());
        }
        found
    }
}

fn header_id(id: &str) -> String {
    format!("Last-Event-ID: {id}\r\n")
}

/// The value of the gauge of readers.
fn readers(server: &Server, transport: &str) -> f64 {
    server.metric(&format!("pulsewire_connections{{transport=\"{transport}\",codec=\"json\"}}"))
}

pub(crate) fn wait_readers(server: &Server, transport: &str, count: f64) {
    until(transport, || readers(server, transport) == count);
}

#[test]
fn a_thousand_events_are_read_by_pages_without_a_gap() {
    over_stores("", |server| {
        publish(server, "run:1", 0..1_000);
        let (mut after, mut all) = (0, Vec::new());
        loop {
            let page = read(server, &format!("/api/channels/run:1/events?after={after}&limit=100"));
            assert!(page.get("gap").is_none() && page.get("reset").is_none(), "{page}");
            assert_eq!((&page["channel"], &page["head"]), (&json!("run:1"), &json!(1_000)));
            all.extend(sequences(&page));
            assert_eq!(page["nextSequence"].as_u64(), all.last().copied());
            after = page["nextSequence"].as_u64().unwrap();
            if page["hasMore"] == json!(false) {
                break;
            }
        }
        assert_eq!(all, (1..=1_000).collect::<Vec<_>>());
        // The same objects as on WebSocket.
        let mut socket = server.welcomed("ann");
        socket.say(&json!({"type": "subscribe", "channels": [{"channel": "run:1", "last": 1}]}));
        assert_eq!(socket.json()["type"], "subscribed");
        let last = read(server, "/api/channels/run:1/events?after=999");
        assert_eq!(last["events"], json!([socket.json()]));
        assert_eq!(sequences(&read(server, "/api/channels/run:1/events?limit=1000000000")).len(), 1_000);
    });
}

#[test]
fn what_is_gone_is_a_gap_and_what_is_of_another_history_a_reset() {
    let namespace = "[[namespace]]\nname = \"short\"\npattern = \"short\"\nkind = \"log\"\nhistory_max = 10\ncritical_types = [\"FLAG\"]\n";
    over_stores(namespace, |server| {
        let flag = json!({"channel": "short", "type": "FLAG", "data": 1});
        server.publish(&flag);
        publish(server, "short", 0..400);
        until("trimming", || {
            let page = read(server, "/api/channels/short/events?after=2&limit=1000");
            page["floor"] == json!(391) && page["gap"] == json!({"from": 3, "to": 391, "reason": "trimmed"})
        });
        let page = read(server, "/api/channels/short/events?after=2&limit=1000");
        assert_eq!(page["head"], json!(401));
        assert_eq!(sequences(&page), (392..=401).collect::<Vec<_>>());
        let critical = read(server, "/api/channels/short/events?only=critical");
        assert_eq!((sequences(&critical), critical.get("gap")), (vec![1], None));
        assert_eq!((&critical["nextSequence"], &critical["hasMore"]), (&json!(401), &json!(false)));

        let epoch = page["epoch"].as_str().unwrap();
        let same = read(server, &format!("/api/channels/short/events?after={epoch}:400"));
        assert_eq!((sequences(&same), same.get("reset")), (vec![401], None));
        for after in ["other:400".to_owned(), format!("{epoch}:402"), "402".to_owned()] {
            let page = read(server, &format!("/api/channels/short/events?after={after}"));
            assert_eq!(page["reset"], json!({"epoch": epoch, "sequence": 401}), "{after}");
            assert_eq!((sequences(&page), &page["nextSequence"]), (vec![], &json!(401)), "{after}");
            let mut stream = Stream::of(server, "/api/channels/short/sse", &header_id(&after));
            let reset = stream.block();
            assert_eq!((reset.event.as_str(), reset.id), ("reset", Some(format!("{epoch}:401"))), "{after}");
        }
        let mut stream = Stream::of(server, "/api/channels/short/sse?after=2", "");
        let gap = stream.block();
        assert_eq!((gap.event.as_str(), gap.id), ("gap", Some(format!("{epoch}:391"))));
        assert_eq!(stream.sequences(10), (392..=401).collect::<Vec<_>>());
        assert!(server.metric("pulsewire_gaps_total{reason=\"trimmed\"}") > 0.0);
    });
}

/// Row X12, and what else a reader can get wrong.
#[test]
fn a_wrong_request_is_refused_with_a_code() {
    let server = Server::start("");
    let table = [
        ("/api/channels/run:1/events?limit=0", 400, "bad_request"),
        ("/api/channels/run:1/events?limit=-1", 400, "bad_request"),
        ("/api/channels/run:1/events?limit=ten", 400, "bad_request"),
        ("/api/channels/run:1/events?limit=1&limit=2", 400, "bad_request"),
        ("/api/channels/run:1/events?after=-1", 400, "invalid_position"),
        ("/api/channels/run:1/events?after=e1:e2", 400, "invalid_position"),
        ("/api/channels/run:1/events?after=9007199254740992", 400, "invalid_position"),
        ("/api/channels/run:1/events?only=some", 400, "bad_request"),
        ("/api/channels/run:1/events?tags=a", 400, "invalid_filter"),
        ("/api/channels/run:1/poll?wait=-1", 400, "bad_request"),
        ("/api/channels/run:1/poll?wait=1e9", 400, "bad_request"),
        ("/api/channels/run:1/poll?after=garbage", 400, "invalid_position"),
        ("/api/channels/run:1/poll?fallback=a%20b", 400, "bad_request"),
        ("/api/channels/run:1/sse?lastEventId=garbage", 400, "invalid_position"),
        ("/api/channels/run:1/sse?after=1.5", 400, "invalid_position"),
        ("/api/channels/a%20b/events", 400, "invalid_channel"),
        ("/api/channels/nowhere/events", 404, "unknown_channel"),
        ("/api/channels/nowhere/sse", 404, "unknown_channel"),
        ("/api/channels/system.metrics/events", 404, "history_unavailable"),
        ("/api/channels/upstream:a/poll", 404, "history_unavailable"),
        ("/api/channels/project:1/state", 400, "unsupported"),
        ("/api/channels/run:1/state?limit=0", 400, "bad_request"),
        ("/api/runs/1/collaboration/poll?afterSequence=-1", 400, "invalid_position"),
        ("/api/runs/1/collaboration/poll?limit=0", 400, "bad_request"),
        ("/api/runs/1/collaboration/replay?fromSequence=x", 400, "invalid_position"),
        ("/api/runs/1/collaboration/replay?limit=-1", 400, "bad_request"),
        ("/api/runs/%20/collaboration/replay", 400, "invalid_channel"),
    ];
    for (path, status, code) in table {
        let answer = get(&server, path);
        assert_eq!((answer.status, &answer.json()["code"]), (status, &json!(code)), "{path}");
        assert_eq!(answer.headers["content-type"], "application/problem+json", "{path}");
    }
    // A position ahead is a reset and no error.
    let mut ahead = Stream::of(&server, "/api/channels/run:1/sse?after=7", "");
    assert_eq!(ahead.block().event, "reset");
}

#[test]
fn a_poll_that_waits_is_woken_by_a_publish() {
    over_stores("", |server| {
        let start = read(server, "/api/channels/run:1/poll");
        assert_eq!((sequences(&start), &start["nextSequence"]), (vec![], &json!(0)));
        assert_eq!(start["retryAfterMs"], json!(2_000));
        let position = format!("{}:0", start["epoch"].as_str().unwrap());
        let waiting = later(server, &format!("/api/channels/run:1/poll?after={position}&wait=30"));
        wait_readers(server, "polling", 1.0);
        let receipt = server.publish(&json!({"channel": "run:1", "type": "note", "data": 1}));
        assert_eq!(receipt["matched"], json!(1));
        let answer = waiting.join().unwrap().json();
        assert_eq!((sequences(&answer), &answer["nextSequence"]), (vec![1], &json!(1)));
        wait_readers(server, "polling", 0.0);

        // Tagged events wake it, others do not; nothing is an answer, too.
        let waiting = later(server, "/api/channels/run:1/poll?wait=30&tags=env:prod");
        wait_readers(server, "polling", 1.0);
        server.publish(&json!({"channel": "run:1", "type": "note", "data": 2}));
        server.publish(&json!({"channel": "run:1", "type": "note", "data": 3, "tags": {"env": "prod"}}));
        let answer = waiting.join().unwrap().json();
        assert_eq!((sequences(&answer), &answer["events"][0]["previous"]), (vec![3], &json!(1)));
        let nothing = read(server, "/api/channels/run:1/poll?wait=0.02");
        assert_eq!((sequences(&nothing), &nothing["nextSequence"]), (vec![], &json!(3)));
        // A client that goes away while it waits leaves nothing behind.
        let mut gone = server.connect();
        let headers = bearer(&server.token("ann", Role::User));
        gone.send(
            format!("GET /api/channels/run:1/poll?wait=30 HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n")
                .as_bytes(),
        );
        wait_readers(server, "polling", 1.0);
        drop(gone);
        wait_readers(server, "polling", 0.0);
    });
}

/// Row R5 over an event stream: a reader that received nothing still knows where it began.
#[test]
fn a_stream_goes_on_where_its_last_event_id_says() {
    over_stores("", |server| {
        publish(server, "run:1", 0..5);
        let mut first =
            Stream::open(server, "/api/channels/run:1/sse", &bearer(&server.token("ann", Role::User)));
        let begin = first.block();
        assert_eq!((begin.event.as_str(), begin.retry), ("subscribed", Some(2_000)));
        let id = begin.id.clone().unwrap();
        let epoch = id.split_once(':').unwrap().0.to_owned();
        assert_eq!(begin.json()["positions"], json!({"run:1": {"epoch": epoch, "sequence": 5}}));
        drop(first);
        wait_readers(server, "sse", 0.0);
        publish(server, "run:1", 5..8);
        let mut second = Stream::of(server, "/api/channels/run:1/sse?after=1", &header_id(&id));
        assert_eq!(second.sequences(3), [6, 7, 8]);
        assert_eq!(second.id, Some(format!("{epoch}:8")));
        publish(server, "run:1", 8..10);
        assert_eq!(second.sequences(2), [9, 10]);
        wait_readers(server, "sse", 1.0);
        // The parameter for those who cannot set headers.
        let mut third = Stream::of(server, &format!("/api/channels/run:1/sse?lastEventId={epoch}:9"), "");
        assert_eq!(third.sequences(1), [10]);
        // Line ends between the parts of a payload stay within its block.
        let text = "{\"channel\":\"run:1\",\"type\":\"note\",\"data\":{\"a\":\n\r\n1}}";
        let headers =
            format!("{}Content-Type: application/json\r\n", bearer(&server.token("app", Role::Publisher)));
        assert_eq!(server.http("POST", "/api/publish", &headers, text).status, 200);
        assert_eq!(second.block().json()["data"], json!({"a": 1}));
    });
}

#[test]
fn a_stream_resumes_across_a_restart() {
    let folder = Folder::new();
    let [_, sqlite] = stores(&folder);
    let mut server = Server::start(&sqlite);
    let mut stream = Stream::of(&server, "/api/channels/run:1/sse", "");
    publish(&server, "run:1", 0..3);
    assert_eq!(stream.sequences(3), [1, 2, 3]);
    let id = stream.id.clone().unwrap();
    server.stop(Duration::from_secs(2));
    let last = stream.block();
    assert_eq!((last.event.as_str(), &last.json()["code"]), ("reconnect", &json!(1_012)));
    assert_eq!(last.retry, last.json()["retry_ms"].as_u64(), "the browser itself waits as long");
    assert_eq!(stream.next(), None);

    let server = Server::start(&sqlite);
    publish(&server, "run:1", 3..5);
    let mut stream = Stream::of(&server, "/api/channels/run:1/sse", &header_id(&id));
    assert_eq!(stream.sequences(2), [4, 5]);
    assert_eq!(sequences(&read(&server, "/api/channels/run:1/events")), [1, 2, 3, 4, 5]);
}

/// Row R6.
#[test]
fn a_client_that_changes_its_transport_sees_every_event_once() {
    over_stores("", |server| {
        let mut all = Vec::new();
        let mut count = 0;
        let mut more = || {
            publish(server, "run:1", count..count + 7);
            count += 7;
        };
        let mut epoch = String::new();
        let poll = |after: &str| read(server, &format!("/api/channels/run:1/poll?after={after}"));
        for _ in 0..3 {
            more();
            let after = if all.is_empty() { "0".to_owned() } else { format!("{epoch}:{}", all.len()) };
            let page = poll(&after);
            page["epoch"].as_str().unwrap().clone_into(&mut epoch);
            all.extend(sequences(&page));
            more();
            let mut stream =
                Stream::of(server, "/api/channels/run:1/sse", &header_id(&format!("{epoch}:{}", all.len())));
            more();
            all.extend(stream.sequences(14));
            let position = stream.id.clone().unwrap();
            drop(stream);
            let (stood_in, sequence) = position.split_once(':').unwrap();
            let since = json!({"epoch": stood_in, "sequence": sequence.parse::<u64>().unwrap()});
            more();
            let mut socket = server.welcomed("ann");
            socket.say(&json!({"type": "subscribe", "channels": [{"channel": "run:1", "since": since}]}));
            assert_eq!(socket.json()["type"], "subscribed");
            more();
            let mut seen = 0;
            while seen < 14 {
                let message = socket.json();
                if message["type"] == "event" {
                    all.push(message["sequence"].as_u64().unwrap());
                    seen += 1;
                } else {
                    assert_eq!(message["type"], "replay_end");
                }
            }
        }
        assert_eq!(all, (1..=all.len() as u64).collect::<Vec<_>>());
        assert_eq!(all.len(), 105);
    });
}

/// Rows A15 and S33: nobody reads by HTTP what WebSocket would not show.
#[test]
fn who_may_not_read_is_answered_the_same_everywhere() {
    let server =
        Server::start("[auth]\nattempts_per_minute = 0\n[origins]\nallowed = [\"https://app.example\"]");
    let hour = Duration::from_secs(3_600);
    let only = |action| server.token_for("eve", Role::User, hour, &["run:*"], Actions::NONE.with(action));
    let both = Actions::NONE.with(Action::Subscribe).with(Action::History);
    let reader = server.token_for("eve", Role::User, hour, &["run:*"], both);
    let (hears, looks_back) = (only(Action::Subscribe), only(Action::History));
    let elsewhere = server.token_for("eve", Role::User, hour, &["project:*"], Actions::ALL);
    let expired = server.expired_token("eve");
    // For each path: whether those who may only hear, and those who may only look back, may read it.
    let paths = [
        ("/api/channels/run:1/events", 403, 200),
        ("/api/channels/run:1/state", 403, 200),
        ("/api/channels/run:1/poll", 200, 403),
        ("/api/channels/run:1/poll?after=0", 403, 403),
        ("/api/channels/run:1/sse?after=0", 403, 403),
        ("/api/runs/1/collaboration/poll?afterSequence=0", 403, 403),
        ("/api/runs/1/collaboration/replay?fromSequence=0", 403, 200),
    ];
    for (path, to_hearers, to_historians) in paths {
        let status = |headers: &str| {
            let mut socket = server.connect();
            socket.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n").as_bytes());
            socket.head().status
        };
        assert_eq!(status(""), 401, "{path}");
        assert_eq!(status(&bearer("garbage")), 401, "{path}");
        assert_eq!(status(&bearer(&expired)), 401, "{path}");
        assert_eq!(status(&bearer("pw_key_secret")), 401, "{path}: API keys do not read");
        assert_eq!(status(&bearer(&elsewhere)), 403, "{path}");
        assert_eq!(status(&bearer(&hears)), to_hearers, "{path}");
        assert_eq!(status(&bearer(&looks_back)), to_historians, "{path}");
        assert_eq!(status(&bearer(&reader)), 200, "{path}");
        let from = |origin: &str| status(&format!("{}Origin: {origin}\r\n", bearer(&reader)));
        assert_eq!((from("https://app.example"), from("https://evil.example")), (200, 403), "{path}");
        let and = if path.contains('?') { '&' } else { '?' };
        let carried = server.http("GET", &format!("{path}{and}token={elsewhere}"), "", "");
        assert_eq!((carried.status, &carried.json()["code"]), (403, &json!("forbidden")), "{path}");
    }
    // Before the question whether the channel exists comes the one who asks.
    let nowhere = server.http("GET", "/api/channels/nowhere/events", &bearer(&elsewhere), "");
    assert_eq!(nowhere.status, 403);
}

#[test]
fn without_a_token_only_open_namespaces_are_read() {
    let server = Server::start(
        "[auth]\nrequired = false\n[[namespace]]\nname = \"open\"\npattern = \"open:*\"\nkind = \"log\"\nanonymous = true\n",
    );
    publish(&server, "open:1", 0..2);
    assert_eq!(server.get("/api/channels/open:1/poll?after=0").json()["head"], json!(2));
    assert_eq!(server.get("/api/channels/open:1/events").status, 200);
    assert_eq!(server.get("/api/channels/run:1/events").status, 403);
    assert_eq!(server.get("/api/channels/run:1/poll").status, 403);
}

/// Row L7: a reader that reads nothing costs its cursor and is closed; the others are not held up.
#[test]
fn a_stream_that_is_not_read_is_bounded_and_closed() {
    let server = Server::start(
        "[limits]\noutbox_bytes_max = \"16KiB\"\nkernel_unsent_bytes = \"4KiB\"\nslow_after = \"2s\"\n",
    );
    let mut fast = Stream::of(&server, "/api/channels/project:1/sse", "");
    let headers = bearer(&server.token("slow", Role::User));
    let mut slow =
        Stream::open_on(Socket::connect_small(server.address), "/api/channels/project:1/sse", &headers);
    assert_eq!(slow.block().event, "subscribed");
    let pad = "x".repeat(4_000);
    let batch: Vec<Value> =
        (0..100).map(|_| json!({"channel": "project:1", "type": "note", "data": pad})).collect();
    // 4 MB: more than any buffer on the way would hold.
    for _ in 0..10 {
        server.publish(&json!(batch));
        fast.sequences(100);
    }
    server.wait_metric("websocket_slow_consumer_total{action=\"close\"}", 1.0);
    wait_readers(&server, "sse", 1.0);
    server.wait_metric("websocket_closes_total{code=\"4004\",initiator=\"server\"}", 1.0);
    // What it had taken before is intact, and it can go on from there.
    let mut last = 0;
    while let Some(block) = slow.next() {
        assert_eq!(block.json()["sequence"].as_u64().unwrap(), last + 1);
        last += 1;
    }
    assert!(last < 1_000, "all of it fitted somewhere");
    let mut back = Stream::of(&server, "/api/channels/project:1/sse", &header_id(&slow.id.unwrap()));
    assert_eq!(back.sequences(10), (last + 1..=last + 10).collect::<Vec<_>>());
}

#[test]
fn an_ephemeral_channel_is_streamed_live_and_says_what_it_dropped() {
    let server = Server::start(
        "[limits]\noutbox_bytes_max = \"4KiB\"\nkernel_unsent_bytes = \"4KiB\"\n[reading]\ntail_bytes_max = \"64KiB\"\n",
    );
    let headers = bearer(&server.token("slow", Role::User));
    let mut slow =
        Stream::open_on(Socket::connect_small(server.address), "/api/channels/upstream:a/sse", &headers);
    assert_eq!(slow.block().event, "subscribed");
    let pad = "x".repeat(4_000);
    for batch in 0..10 {
        let event = |n| json!({"channel": "upstream:a", "type": "cursor", "data": {"n": batch * 100 + n, "pad": pad}});
        server.publish(&json!((0..100).map(event).collect::<Vec<_>>()));
    }
    let (mut next, mut dropped) = (0, 0);
    while next < 1_000 {
        let block = slow.block();
        if block.event == "dropped" {
            let count = block.json()["count"].as_u64().unwrap();
            (next, dropped) = (next + count, dropped + count);
            continue;
        }
        assert_eq!(block.event, "event");
        assert_eq!((block.json()["data"]["n"].as_u64(), block.json().get("sequence")), (Some(next), None));
        next += 1;
    }
    assert!(dropped > 0, "all of it fitted somewhere");
    assert_eq!(server.metric("pulsewire_dropped_total{cause=\"queue_full\"}"), dropped as f64);
}

#[test]
fn a_metric_channel_is_streamed_in_its_shapes() {
    let server = Server::start("");
    server.publish_values("system.metrics", 1_700_000_000_000, &[("cpu.percent", 1.0)]);
    let mut grouped = Stream::of(&server, "/api/channels/system.metrics/sse", "");
    let block = grouped.block();
    assert_eq!((block.event.as_str(), &block.json()["cpu"]["percent"]), ("metric", &json!(1.0)));
    let mut points = Stream::of(&server, "/api/channels/system.metrics/sse?tags=env:production", "");
    assert_eq!(points.block().json()["name"], "cpu.percent");
    let mut none = Stream::of(&server, "/api/channels/system.metrics/sse?tags=env:other", "");
    server.publish_values("system.metrics", 1_700_000_001_000, &[("cpu.percent", 2.0), ("cpu.count", 8.0)]);
    assert_eq!(grouped.block().json()["cpu"], json!({"percent": 2.0, "count": 8.0}));
    assert_eq!(points.block().json()["value"], json!(2.0));
    assert_eq!(points.block().json()["name"], "cpu.count");
    none.socket.half_close();
}

#[test]
fn document_003_polls_and_replays_a_run() {
    over_stores("", |server| {
        let mut socket = server.welcomed("user_123");
        let publish = |n: u64, event: &str| json!({"type": "publish", "id": n, "channel": "run:r1", "event": event, "data": {"n": n}, "timestamp": 1_700_000_000_000_u64 + n});
        for (n, event) in [(1, "GRAFT"), (2, "note"), (3, "FLAG")] {
            assert_eq!(socket.ask(&publish(n, event))["type"], "ack");
        }
        server.publish(&json!({"channel": "run:r1", "type": "note", "data": 4}));
        let replay = read(server, "/api/runs/r1/collaboration/replay?fromSequence=1&limit=2");
        let keys = |value: &Value| {
            let mut keys: Vec<String> = value.as_object().unwrap().keys().cloned().collect();
            keys.sort();
            keys.join(" ")
        };
        assert_eq!(keys(&replay), "epoch events hasMore nextSequence runId totalEvents");
        assert_eq!(
            replay["events"][0],
            json!({"eventType": "GRAFT", "userId": "user_123", "timestamp": 1_700_000_000_001_u64,
                   "sequenceNumber": 1, "data": {"n": 1}, "isCritical": true})
        );
        assert_eq!((&replay["runId"], &replay["totalEvents"]), (&json!("r1"), &json!(4)));
        assert_eq!((&replay["hasMore"], &replay["nextSequence"]), (&json!(true), &json!(3)));
        let rest = read(server, "/api/runs/r1/collaboration/replay?fromSequence=3");
        assert_eq!((rest["events"].as_array().unwrap().len(), &rest["totalEvents"]), (2, &json!(2)));
        assert_eq!((&rest["hasMore"], &rest["nextSequence"]), (&json!(false), &json!(5)));
        assert_eq!(rest["events"][1]["userId"], Value::Null);

        let poll = read(server, "/api/runs/r1/collaboration/poll?afterSequence=3");
        assert_eq!(
            keys(&poll),
            "activeUsers cursorPositions epoch events hasMore nextSequence retryAfterMs runId"
        );
        assert_eq!((&poll["activeUsers"], &poll["cursorPositions"]), (&json!([]), &json!({})));
        assert_eq!((&poll["nextSequence"], &poll["retryAfterMs"]), (&json!(4), &json!(2_000)));
        let event = &poll["events"][0];
        assert_eq!(
            (&event["type"], &event["sequence"]),
            (&json!("event"), &json!(4)),
            "the WebSocket's format"
        );
        assert_eq!((&event["eventType"], &event["sequenceNumber"]), (&json!("note"), &json!(4)));
        assert_eq!((&event["userId"], &event["isCritical"]), (&Value::Null, &json!(false)));
        let first = read(server, "/api/runs/r1/collaboration/poll?limit=1");
        assert_eq!((&first["hasMore"], &first["retryAfterMs"]), (&json!(true), &json!(0)));
        let ahead = read(server, "/api/runs/r1/collaboration/poll?afterSequence=9");
        assert_eq!((&ahead["reset"]["sequence"], &ahead["nextSequence"]), (&json!(4), &json!(4)));
    });
}

/// Ruling C21: critical events outlive the others, and what is cut is said.
#[test]
fn a_replay_has_every_critical_event_and_says_what_is_cut() {
    let run = "[[namespace]]\nname = \"run\"\npattern = \"run:*\"\nkind = \"log\"\nhistory_max = 10\ncritical_types = [\"FLAG\"]\n";
    over_stores(run, |server| {
        for n in 0..3_u64 {
            server.publish(&json!({"channel": "run:c", "type": "FLAG", "data": n}));
            publish(server, "run:c", n * 100..n * 100 + 100);
        }
        until("trimming", || read(server, "/api/channels/run:c/events?limit=1")["gap"]["to"] == json!(293));
        let replay = read(server, "/api/runs/c/collaboration/replay?fromSequence=1&limit=1000");
        let numbers: Vec<u64> = replay["events"]
            .as_array()
            .unwrap()
            .iter()
            .map(|event| event["sequenceNumber"].as_u64().unwrap())
            .collect();
        let mut expected = vec![1, 102, 203];
        expected.extend(294..=303);
        assert_eq!(numbers, expected);
        assert_eq!((&replay["truncated"], &replay["totalEvents"]), (&json!(true), &json!(13)));
        assert_eq!(replay["gap"], json!({"from": 1, "to": 293, "reason": "trimmed"}));
        // Page by page it is the same, each once.
        let (mut from, mut paged) = (1, Vec::new());
        loop {
            let page = read(server, &format!("/api/runs/c/collaboration/replay?fromSequence={from}&limit=2"));
            for event in page["events"].as_array().unwrap() {
                paged.push(event["sequenceNumber"].as_u64().unwrap());
            }
            from = page["nextSequence"].as_u64().unwrap();
            if page["hasMore"] == json!(false) {
                break;
            }
        }
        assert_eq!(paged, expected);
        let poll = read(server, "/api/runs/c/collaboration/poll?afterSequence=0&limit=1000");
        assert_eq!((sequences(&poll), &poll["truncated"]), (expected, &json!(true)));
    });
}

#[test]
fn keyed_state_is_read_by_pages() {
    over_stores("", |server| {
        for (key, value) in [("b", 1), ("a", 2), ("c", 3), ("b", 4)] {
            server
                .publish(&json!({"channel": "workspace", "type": "task_update", "key": key, "data": value}));
        }
        let first = read(server, "/api/channels/workspace/state?limit=2");
        let shown = |page: &Value| {
            let mut shown = String::new();
            for value in page["values"].as_array().unwrap() {
                write!(shown, "{}={}@{} ", value["key"].as_str().unwrap(), value["data"], value["sequence"])
                    .unwrap();
            }
            shown
        };
        assert_eq!(shown(&first), "a=2@2 b=4@4 ");
        assert_eq!(
            (&first["hasMore"], &first["nextKey"], &first["head"]),
            (&json!(true), &json!("b"), &json!(4))
        );
        let second = read(server, "/api/channels/workspace/state?limit=2&after=b");
        assert_eq!((shown(&second), &second["hasMore"]), ("c=3@3 ".to_owned(), &json!(false)));
        assert!(second.get("nextKey").is_none());
    });
}

/// 003-14: counted once for each session that says so, and for nobody else.
#[test]
fn a_session_that_fell_back_is_counted_once() {
    let server = Server::start("");
    let count = || server.metric("orchestrator_websocket_fallback_http_total");
    read(&server, "/api/channels/run:1/poll");
    assert_eq!(count(), 0.0);
    for _ in 0..3 {
        read(&server, "/api/channels/run:1/poll?fallback=01HF6ZQ8G00000000000000000");
        read(&server, "/api/runs/1/collaboration/poll?fallback=01HF6ZQ8G00000000000000000");
    }
    assert_eq!(count(), 1.0);
    drop(Stream::of(&server, "/api/channels/run:1/sse?fallback=another", ""));
    assert_eq!(count(), 2.0);
}

#[test]
fn readers_are_bounded_like_connections() {
    let server = Server::start("[reading]\nreaders_max = 2\n[limits]\nconnections_per_user = 3\n");
    let first = Stream::of(&server, "/api/channels/run:1/sse", "");
    let second = Stream::of(&server, "/api/channels/run:2/sse", "");
    let refused = get(&server, "/api/channels/run:1/sse");
    assert_eq!((refused.status, &refused.json()["code"]), (503, &json!("overloaded")));
    assert!(refused.headers.contains_key("retry-after"));
    assert_eq!(get(&server, "/api/channels/run:1/poll?wait=1").status, 503);
    assert_eq!(get(&server, "/api/channels/run:1/poll").status, 200, "nobody is refused a glance");
    let rejected = "websocket_rejected_total{stage=\"handshake\",reason=\"overloaded\"}";
    assert_eq!(server.metric(rejected), 2.0);
    drop((first, second));
    wait_readers(&server, "sse", 0.0);
    let _stream = Stream::of(&server, "/api/channels/run:1/sse", "");
    let _sockets = [server.welcomed("ann"), server.welcomed("ann")];
    assert_eq!(get(&server, "/api/channels/run:1/sse").status, 503, "the user has three connections");
    assert_eq!(server.app().hub.admission.connections(), 3);
}

#[test]
fn an_operator_ends_streams_and_waiting_polls() {
    let server = Server::start("");
    let mut stream = Stream::of(&server, "/api/channels/run:1/sse", "");
    let waiting = later(&server, "/api/channels/run:1/poll?wait=30");
    wait_readers(&server, "polling", 1.0);
    let target = pulsewire_hub::Target::User("ann".into());
    let closed =
        server.block_on(server.app().close(&target, pulsewire_protocol::CloseCode::Revoked)).unwrap();
    assert_eq!(closed, 2);
    let last = stream.block();
    assert_eq!((last.event.as_str(), &last.json()["code"]), ("close", &json!(4_506)));
    assert_eq!(stream.next(), None);
    assert_eq!(waiting.join().unwrap().status, 401);
    wait_readers(&server, "sse", 0.0);
    server.wait_metric("websocket_closes_total{code=\"4506\",initiator=\"server\"}", 1.0);
    assert_eq!(server.app().hub.admission.connections(), 0);
}

#[test]
fn a_stream_ends_with_its_token() {
    let server = Server::start("");
    let short = server.token_for("ann", Role::User, Duration::from_secs(1), &["*"], Actions::ALL);
    let mut stream = Stream::open(&server, "/api/channels/run:1/sse", &bearer(&short));
    assert_eq!(stream.block().event, "subscribed");
    let last = stream.block();
    assert_eq!((last.event.as_str(), &last.json()["reason"]), ("reconnect", &json!("token_expired")));
    assert_eq!(stream.next(), None);
    assert!(PATIENCE > Duration::from_secs(1));
}

#[test]
fn a_quiet_stream_is_kept_open_and_its_position_moves_past_what_it_skips() {
    let server = Server::start("[reading]\nheartbeat = \"100ms\"\n");
    let mut stream = Stream::of(&server, "/api/channels/run:1/sse?tags=env:prod", "");
    publish(&server, "run:1", 0..3);
    // Nothing but comments and an id comes; the reader's position is past the events.
    until("the position", || {
        let bytes = stream.socket.take().expect("it stays open");
        stream.raw.extend_from_slice(&bytes);
        stream.unchunk();
        String::from_utf8_lossy(&stream.text).contains(":3\n")
    });
    server.publish(&json!({"channel": "run:1", "type": "note", "data": 4, "tags": {"env": "prod"}}));
    let block = stream.block();
    // It follows the position that the stream has told.
    assert_eq!((&block.json()["sequence"], block.json().get("previous")), (&json!(4), None));
}

/// Going away: streams are told when to come back, polls that wait are answered, nobody new is let in.
#[test]
fn a_server_that_goes_away_ends_its_readers() {
    let mut server = Server::start("");
    let mut stream = Stream::of(&server, "/api/channels/run:1/sse", "");
    let waiting = later(&server, "/api/channels/run:1/poll?wait=30");
    wait_readers(&server, "polling", 1.0);
    server.stop(PATIENCE);
    assert_eq!(stream.block().event, "reconnect");
    assert_eq!(stream.next(), None);
    assert_eq!(waiting.join().unwrap().status, 200);
}

/// R27: a page of the past over WebSocket, by position and by time, in both encodings.
#[test]
fn a_client_asks_for_the_past_over_websocket() {
    over_stores("", |server| {
        let note = |n: i64| json!({"channel": "run:1", "type": "note", "data": n, "timestamp": 1_700_000_000_000_i64 + n * 1_000});
        server.publish(&json!((1..=250).map(note).collect::<Vec<_>>()));
        let mut socket = server.welcomed("ann");
        let ask = |socket: &mut Socket, more: Value| {
            let mut message = json!({"type": "get_history", "id": 7, "channel": "run:1"});
            message.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            socket.ask(&message)
        };
        let first = ask(&mut socket, json!({}));
        assert_eq!(
            (&first["type"], &first["id"], &first["channel"]),
            (&json!("history"), &json!(7), &json!("run:1"))
        );
        assert_eq!(sequences(&first), (1..=100).collect::<Vec<_>>());
        assert_eq!((&first["has_more"], &first["next_sequence"]), (&json!(true), &json!(100)));
        let page = read(server, "/api/channels/run:1/events?limit=1");
        assert_eq!(first["events"][0], page["events"][0], "the same objects as over HTTP");
        let epoch = first["epoch"].clone();
        let since =
            |sequence: u64| json!({"since": {"epoch": epoch, "sequence": sequence}, "limit": 100_000});
        let rest = ask(&mut socket, since(100));
        assert_eq!(sequences(&rest), (101..=250).collect::<Vec<_>>());
        assert_eq!((&rest["has_more"], rest.get("next_sequence")), (&json!(false), None));
        // Document 004's times, inclusive at both ends.
        let times =
            json!({"data": {"start_time": 1_700_000_010_000_i64, "end_time": "2023-11-14T22:13:32Z"}});
        let mut message = times;
        message["data"]["channel"] = json!("run:1");
        message["type"] = json!("get_history");
        assert_eq!(sequences(&socket.ask(&message)), [10, 11, 12]);
        let paged = ask(&mut socket, json!({"start_time": 1_700_000_200_000_i64, "limit": 2}));
        assert_eq!((sequences(&paged), &paged["next_sequence"]), (vec![200, 201], &json!(201)));
        // Another history, or ahead.
        let reset = ask(&mut socket, since(251));
        assert_eq!((sequences(&reset), &reset["reset"]["sequence"]), (vec![], &json!(250)));
        let other = ask(&mut socket, json!({"since": {"epoch": "other", "sequence": 1}}));
        assert_eq!(other["reset"], json!({"epoch": epoch, "sequence": 250}));
        for (more, code) in [
            (json!({"limit": 0}), "bad_request"),
            (json!({"channel": "upstream:a"}), "history_unavailable"),
            (json!({"channel": "nowhere"}), "unknown_channel"),
            (json!({"aggregation_interval": "5s"}), "unsupported"),
        ] {
            assert_eq!(ask(&mut socket, more)["code"], code);
        }
        // A page is smaller than the outbox, whatever the events' size.
        let big = |_| json!({"channel": "run:2", "type": "note", "data": "x".repeat(10_000)});
        server.publish(&json!((0..20).map(big).collect::<Vec<_>>()));
        let page = ask(&mut socket, json!({"channel": "run:2"}));
        assert_eq!((sequences(&page), &page["next_sequence"]), (vec![1, 2, 3, 4], &json!(4)));
    });
}

/// R12: the path of document 003 is the same endpoint; a late joiner asks for what is critical.
#[test]
fn the_collaboration_endpoint_speaks_the_same_protocol() {
    over_stores("", |server| {
        for event in ["GRAFT", "note", "FLAG"] {
            server.publish(&json!({"channel": "run:r1", "type": event, "data": 1}));
        }
        let mut socket = server.open("/ws/collaboration/r1", &bearer(&server.token("ann", Role::User)));
        assert_eq!(socket.json()["type"], "welcome");
        socket.say(&json!({"type": "subscribe", "channels": [{"channel": "run:r1", "replay": "critical"}]}));
        assert_eq!(socket.json()["type"], "subscribed");
        let mut found = Vec::new();
        loop {
            let message = socket.json();
            if message["type"] == "replay_end" {
                break;
            }
            found.push(message["sequence"].as_u64().unwrap());
        }
        assert_eq!(found, [1, 3]);
        server.publish(&json!({"channel": "run:r1", "type": "note", "data": 2}));
        assert_eq!(socket.json()["sequence"], json!(4));
    });
}
