//! A real server for tests, and a client that knows nothing but bytes.
//!
//! The server runs in this process on a free port; every test has its own. The client writes what it
//! is told, right or wrong, and reads frames with its own few lines, so nothing of the server's code
//! checks itself. Waits are bounded by time-outs that only a failing test reaches.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use pulsewire::auth::{Actions, NewToken, Role, Signer};
use pulsewire::serve::{self, Running};
use pulsewire::settings::{Flags, Settings, Sources};
use pulsewire_edge::clock;
use pulsewire_protocol::{ChannelName, ChannelPattern, MetricKind, Sample, Tags};
use pulsewire_telemetry::SampleSource;
use rustls::ClientConnection;
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::child::Folder;

/// How long anything may take before a test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// The signing key of every test server.
pub(crate) const SECRET: &str = "a test key of more than thirty-two bytes";

/// A running server.
pub(crate) struct Server {
    running: Option<Running>,
    runtime: Option<Runtime>,
    settings: Settings,
    _folder: Folder,
    pub(crate) address: SocketAddr,
}

impl Server {
    /// Starts a server with these settings on top of the tests' own.
    pub(crate) fn start(toml: &str) -> Self {
        let folder = Folder::new();
        let settings = settings(toml, &folder);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        let running = runtime.block_on(serve::start(settings.clone())).expect("the server starts");
        let address = running.address;
        Self { running: Some(running), runtime: Some(runtime), settings, _folder: folder, address }
    }

    pub(crate) fn app(&self) -> &pulsewire::app::App {
        &self.running.as_ref().expect("it runs").app
    }

    /// The server's parts, for looking at them after it has stopped.
    pub(crate) fn shared(&self) -> std::sync::Arc<pulsewire::app::App> {
        self.running.as_ref().expect("it runs").app.clone()
    }

    /// Waits for something the server does in its own time.
    pub(crate) fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime.as_ref().expect("it runs").block_on(future)
    }

    /// Stops the server as SIGTERM would. The sender of the result is the thread that waits.
    pub(crate) fn stop(&mut self, deadline: Duration) {
        let running = self.running.take().expect("it runs");
        self.block_on(running.stop(deadline));
        // A process would have ended now. What still runs here, such as a connection that nobody closes, would hold
        // the store of a server that is started again.
        self.runtime.take().expect("it runs").shutdown_timeout(PATIENCE);
    }

    /// A token of a user, for all channels.
    pub(crate) fn token(&self, sub: &str, role: Role) -> String {
        self.token_for(sub, role, Duration::from_secs(3_600), &["*"], Actions::ALL)
    }

    pub(crate) fn token_for(
        &self,
        sub: &str,
        role: Role,
        ttl: Duration,
        channels: &[&str],
        actions: Actions,
    ) -> String {
        self.token_at(sub, role, ttl, channels, actions, clock::now().wall_ms)
    }

    /// A token that was made at some moment in Unix milliseconds.
    pub(crate) fn token_at(
        &self,
        sub: &str,
        role: Role,
        ttl: Duration,
        channels: &[&str],
        actions: Actions,
        at_ms: i64,
    ) -> String {
        let signer =
            Signer::new(&self.settings, &|path: &Path| std::fs::read_to_string(path)).expect("a key");
        let channels =
            channels.iter().map(|pattern| ChannelPattern::parse(pattern).expect("a pattern")).collect();
        let token = NewToken { sub: sub.to_owned(), role, ttl, channels, actions };
        signer.sign(&token, at_ms).expect("it signs")
    }

    /// A token that ended an hour ago.
    pub(crate) fn expired_token(&self, sub: &str) -> String {
        let hour = Duration::from_secs(3_600);
        self.token_at(sub, Role::User, hour, &["*"], Actions::ALL, clock::now().wall_ms - 7_200_000)
    }

    /// A connection on which nothing was said yet.
    pub(crate) fn connect(&self) -> Socket {
        Socket::connect(self.address)
    }

    /// A WebSocket of a user that has been welcomed.
    pub(crate) fn welcomed(&self, sub: &str) -> Socket {
        self.welcomed_as(sub, Role::User)
    }

    pub(crate) fn welcomed_as(&self, sub: &str, role: Role) -> Socket {
        let mut socket = self.open("/ws", &format!("Authorization: Bearer {}\r\n", self.token(sub, role)));
        assert_eq!(socket.json()["type"], "welcome");
        socket
    }

    /// A WebSocket after a good handshake with these further headers.
    pub(crate) fn open(&self, path: &str, headers: &str) -> Socket {
        let mut socket = self.connect();
        socket.send(handshake(path, headers).as_bytes());
        let answer = socket.head();
        assert_eq!(answer.status, 101, "{answer:?}");
        socket
    }

    /// One HTTP request.
    pub(crate) fn http(&self, method: &str, path: &str, headers: &str, body: &str) -> Answer {
        http(self.address, method, path, headers, body)
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.http("GET", path, "", "")
    }

    /// Publishes as an application; returns the answer.
    pub(crate) fn publish(&self, event: &Value) -> Value {
        let headers = format!(
            "Authorization: Bearer {}\r\nContent-Type: application/json\r\n",
            self.token("app", Role::Publisher)
        );
        let answer = self.http("POST", "/api/publish", &headers, &event.to_string());
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    }

    /// The value of a series in `/metrics`, such as `websocket_messages_total{direction="sent",type="ack"}`.
    pub(crate) fn metric(&self, series: &str) -> f64 {
        series_of(&self.page(), series).unwrap_or_else(|| panic!("{series} is not exported"))
    }

    /// The sum of all series of a family.
    pub(crate) fn metric_sum(&self, family: &str) -> f64 {
        let rest = |line: &str| {
            let rest = line.strip_prefix(family)?;
            rest.starts_with(['{', ' ']).then(|| rest.rsplit(' ').next()?.parse::<f64>().ok())?
        };
        self.page().lines().filter_map(rest).sum()
    }

    /// The page of `/metrics`, fresh.
    pub(crate) fn page(&self) -> String {
        self.block_on(async {
            let current = self.app().survey().await.expect("the shards answer");
            pulsewire_telemetry::render(&self.app().telemetry, &current, pulsewire_telemetry::Format::Text004)
        })
    }

    /// Waits until a series has a value.
    #[track_caller]
    pub(crate) fn wait_metric(&self, series: &str, expected: f64) {
        let mut value = f64::NAN;
        until(series, || {
            value = self.metric(series);
            value == expected
        });
    }

    /// Waits until a family's series sum up to a value.
    #[track_caller]
    pub(crate) fn wait_sum(&self, family: &str, expected: f64) {
        until(family, || self.metric_sum(family) == expected);
    }

    /// Publishes values on a metric channel, as a collector does.
    pub(crate) fn publish_values(&self, channel: &str, timestamp_ms: i64, values: &[(&'static str, f64)]) {
        let tags = Tags::new([("env", "production"), ("host", "server1")]);
        let tags = tags.expect("tags");
        let sample = |(name, value): &(&'static str, f64)| Sample {
            name: (*name).into(),
            kind: MetricKind::Gauge,
            value: (*value).into(),
            tags: tags.clone(),
            timestamp_ms: Some(timestamp_ms),
        };
        let channel = ChannelName::parse(channel).expect("a name");
        let samples = values.iter().map(sample).collect();
        let bus = &self.app().bus;
        let receipt = bus.publish_samples(clock::now(), SampleSource::Http, &channel, samples);
        assert_eq!(receipt.expect("a metric channel").refused, []);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            self.block_on(running.stop(Duration::ZERO));
        }
    }
}

fn settings(toml: &str, folder: &Folder) -> Settings {
    let file = toml.to_owned();
    let mut set = vec!["server.shards=2".to_owned()];
    // What a test says in its file counts; a flag would hide it.
    let unless = |section: &str, flag: String| (!toml.contains(section)).then_some(flag);
    set.extend(unless("algorithm =", format!("auth.secret={SECRET}")));
    set.extend(unless("data_dir", format!("server.data_dir={}", folder.path().display())));
    set.extend(unless("[store]", "store.url=memory".to_owned()));
    set.extend(unless("[collector]", "collector.enabled=false".to_owned()));
    set.extend(unless("[derive]", "derive.enabled=false".to_owned()));
    let sources = Sources {
        flags: Flags {
            config: Some("test.toml".into()),
            listen: Some("127.0.0.1:0".to_owned()),
            set,
            ..Flags::default()
        },
        environment: Vec::new(),
        dev_secret: None,
        read: Box::new(move |path| {
            if path == Path::new("test.toml") { Ok(file.clone()) } else { std::fs::read_to_string(path) }
        }),
    };
    Settings::load(&sources).unwrap_or_else(|problems| panic!("{problems:?}"))
}

/// One HTTP request on a connection of its own.
pub(crate) fn http(address: SocketAddr, method: &str, path: &str, headers: &str, body: &str) -> Answer {
    let mut socket = Socket::connect(address);
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n"
    );
    socket.send(head.as_bytes());
    socket.send(body.as_bytes());
    let mut answer = socket.head();
    answer.body = socket.rest();
    answer
}

/// The value of a series on a page of metrics.
pub(crate) fn series_of(page: &str, series: &str) -> Option<f64> {
    page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

/// Waits until a condition holds; `what` says which one did not.
#[track_caller]
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "waited in vain: {what}");
        std::thread::yield_now();
    }
}

/// The header that carries a token or an API key.
pub(crate) fn bearer(credential: &str) -> String {
    format!("Authorization: Bearer {credential}\r\n")
}

/// A good handshake, with further headers.
pub(crate) fn handshake(path: &str, headers: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
    )
}

/// An HTTP answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }
}

/// A frame as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) opcode: u8,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// The code of a close frame.
    pub(crate) fn close_code(&self) -> u16 {
        assert_eq!(self.opcode, 8, "a close frame is expected: {self:?}");
        self.payload.get(..2).map_or(1005, |code| u16::from_be_bytes([code[0], code[1]]))
    }

    /// R70: the reason is the code's name. An echo of the client's own code has none.
    #[track_caller]
    fn check_reason(&self, code: u16) {
        let reason = self.payload.get(2..).unwrap_or_default();
        let name = pulsewire_protocol::CloseCode::from_u16(code).map_or("", |code| code.name());
        assert!(
            reason.is_empty() || reason == name.as_bytes(),
            "{code}: {}",
            String::from_utf8_lossy(reason)
        );
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.payload)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.payload)))
    }
}

/// A raw connection.
pub(crate) struct Socket {
    stream: TcpStream,
    tls: Option<Box<ClientConnection>>,
    buffer: Vec<u8>,
    /// Whether silence is the end of the connection, and no failure of the test.
    gives_up: bool,
}

impl Socket {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::from_stream(TcpStream::connect(address).expect("the server accepts"))
    }

    /// A connection whose kernel takes few bytes that were not read.
    pub(crate) fn connect_small(address: SocketAddr) -> Self {
        let socket =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
        socket.set_recv_buffer_size(4_096).expect("a small buffer");
        socket.connect(&address.into()).expect("the server accepts");
        Self::from_stream(socket.into())
    }

    /// A connection from another address of this machine.
    pub(crate) fn connect_from(local: Ipv4Addr, address: SocketAddr) -> Self {
        let socket =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
        socket.bind(&SocketAddr::from((local, 0)).into()).expect("an address of loopback");
        socket.connect(&address.into()).expect("the server accepts");
        Self::from_stream(socket.into())
    }

    /// A connection to a server that may be gone.
    pub(crate) fn try_connect(address: SocketAddr) -> Option<Self> {
        TcpStream::connect(address).ok().map(Self::from_stream)
    }

    fn from_stream(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        stream.set_nodelay(true).expect("no delay");
        Self { stream, tls: None, buffer: Vec::new(), gives_up: false }
    }

    /// From now on silence for so long is the end of the connection.
    pub(crate) fn gives_up_after(mut self, silence: Duration) -> Self {
        self.stream.set_read_timeout(Some(silence)).expect("a time-out");
        self.stream.set_write_timeout(Some(silence)).expect("a time-out");
        self.gives_up = true;
        self
    }

    /// Performs a TLS handshake on a fresh connection.
    pub(crate) fn secure(mut self, mut tls: ClientConnection) -> std::io::Result<Self> {
        tls.set_buffer_limit(None);
        while tls.is_handshaking() {
            tls.complete_io(&mut self.stream)?;
        }
        self.tls = Some(Box::new(tls));
        Ok(self)
    }

    /// The TLS state of a secure connection.
    pub(crate) fn tls(&mut self) -> &mut ClientConnection {
        self.tls.as_mut().expect("a secure connection")
    }

    /// Vanishes without a word: the peer gets a reset.
    pub(crate) fn reset(self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).expect("no lingering");
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Writes bytes as they are. A peer that has closed already is no failure of the writer.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        let _ = match &mut self.tls {
            None => self.stream.write_all(bytes),
            Some(tls) => rustls::Stream::new(&mut **tls, &mut self.stream).write_all(bytes),
        };
    }

    /// Writes a masked frame; `first` is the whole first byte.
    pub(crate) fn frame(&mut self, first: u8, payload: &[u8]) {
        self.send(&frame(first, payload));
    }

    /// Sends a text message.
    pub(crate) fn text(&mut self, text: &str) {
        self.frame(0x81, text.as_bytes());
    }

    /// Sends a JSON message.
    pub(crate) fn say(&mut self, message: &Value) {
        self.text(&message.to_string());
    }

    /// Sends a JSON message and returns the next message.
    pub(crate) fn ask(&mut self, message: &Value) -> Value {
        self.say(message);
        self.json()
    }

    pub(crate) fn half_close(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    fn fill(&mut self) -> usize {
        let mut block = [0; 16 * 1024];
        loop {
            let read = match &mut self.tls {
                None => self.stream.read(&mut block),
                Some(tls) => rustls::Stream::new(&mut **tls, &mut self.stream).read(&mut block),
            };
            match read {
                Ok(len) => {
                    self.buffer.extend_from_slice(&block[..len]);
                    return len;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    if self.gives_up {
                        return 0;
                    }
                    panic!("nothing came within {PATIENCE:?}")
                }
                // A reset says the same to a plain connection; with TLS the end has to be said.
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => panic!("{error}"),
                Err(_) => return 0,
            }
        }
    }

    /// What has come, or comes next; `None` if the peer has closed.
    pub(crate) fn take(&mut self) -> Option<Vec<u8>> {
        if self.buffer.is_empty() && self.fill() == 0 {
            return None;
        }
        Some(std::mem::take(&mut self.buffer))
    }

    /// Reads the head of an HTTP answer.
    pub(crate) fn head(&mut self) -> Answer {
        let head = self.try_head();
        head.unwrap_or_else(|| panic!("closed before an answer: {}", String::from_utf8_lossy(&self.buffer)))
    }

    /// Reads the head of an HTTP answer; `None` if the peer closes before its end.
    pub(crate) fn try_head(&mut self) -> Option<Answer> {
        let end = loop {
            if let Some(end) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break end;
            }
            if self.fill() == 0 {
                return None;
            }
        };
        let head = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
        self.buffer.drain(..end + 4);
        let mut lines = head.lines();
        let status =
            lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).expect("a status line");
        let headers = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        Some(Answer { status, headers, body: Vec::new() })
    }

    /// Reads an HTTP answer that says how long it is; `None` if the peer closes before its end.
    pub(crate) fn try_answer(&mut self) -> Option<Answer> {
        let mut answer = self.try_head()?;
        let len: usize = answer.headers["content-length"].parse().expect("a length");
        while self.buffer.len() < len {
            if self.fill() == 0 {
                return None;
            }
        }
        answer.body = self.buffer.drain(..len).collect();
        Some(answer)
    }

    /// Everything until the peer closes.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        while self.fill() > 0 {}
        std::mem::take(&mut self.buffer)
    }

    /// The next frame; `None` if the peer has closed.
    pub(crate) fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some((frame, used)) = parse(&self.buffer) {
                self.buffer.drain(..used);
                return Some(frame);
            }
            if self.fill() == 0 {
                return None;
            }
        }
    }

    /// The next message as JSON, passing over ping frames.
    pub(crate) fn json(&mut self) -> Value {
        loop {
            let frame = self.next().expect("the connection is open");
            match frame.opcode {
                1 => return frame.json(),
                9 => {}
                _ => panic!(
                    "a text message is expected: {frame:?} {}",
                    String::from_utf8_lossy(&frame.payload)
                ),
            }
        }
    }

    /// The next text or binary message, passing over pings and pongs.
    pub(crate) fn message(&mut self) -> Frame {
        loop {
            let frame = self.next().expect("the connection is open");
            if !matches!(frame.opcode, 9 | 10) {
                return frame;
            }
        }
    }

    /// Sends an RFC 6455 ping and reads until its pong; returns the messages before it.
    pub(crate) fn flush(&mut self, payload: &[u8]) -> Vec<Value> {
        self.frame(0x89, payload);
        let mut messages = Vec::new();
        loop {
            let frame = self.next().expect("the connection is open");
            match frame.opcode {
                10 if frame.payload == payload => return messages,
                1 => messages.push(frame.json()),
                9 => {}
                _ => panic!("a text message is expected: {frame:?}"),
            }
        }
    }

    /// The code with which the server closes, passing over everything before it; then the end of the stream.
    pub(crate) fn closed_with(&mut self) -> u16 {
        loop {
            let frame = self.next().expect("a close frame comes before the end");
            if frame.opcode == 8 {
                let code = frame.close_code();
                frame.check_reason(code);
                assert_eq!(self.next(), None, "nothing follows a close frame");
                return code;
            }
        }
    }
}

/// A masked frame; `first` is the whole first byte.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    const KEY: [u8; 4] = [0xa1, 0x5c, 0x03, 0xf7];
    let mut bytes = vec![first];
    match payload.len() {
        len @ 0..=125 => bytes.push(0x80 | len as u8),
        len @ 126..=0xffff => {
            bytes.push(0x80 | 126);
            bytes.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            bytes.push(0x80 | 127);
            bytes.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    bytes.extend_from_slice(&KEY);
    bytes.extend(payload.iter().zip(KEY.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// The frame at the beginning of some bytes, and how many it takes. Server frames are whole and unmasked.
fn parse(bytes: &[u8]) -> Option<(Frame, usize)> {
    let (&first, &second) = (bytes.first()?, bytes.get(1)?);
    assert_eq!(first & 0xf0, 0x80, "the server sends whole frames without extensions");
    let (len, at) = match second {
        126 => (usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)), 4),
        127 => (usize::try_from(u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)).ok()?, 10),
        len => {
            assert!(len < 126, "the server masks nothing");
            (usize::from(len), 2)
        }
    };
    let payload = bytes.get(at..at + len)?.to_vec();
    Some((Frame { opcode: first & 0x0f, payload }, at + len))
}
