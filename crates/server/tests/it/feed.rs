//! A WebSocket server for tests of upstreams: it feeds, and it misbehaves in every way that we know of.
//!
//! It is a real server on 127.0.0.1 with threads of its own, plain or with TLS. It writes its own bytes, so that it can
//! break the protocol, and shares no code with the client that is tested. What a connection does is said before it
//! comes, by its number (from 1) or for all others; everything it heard is kept, and can be waited for:
//!
//! ```ignore
//! let feed = Feed::start();
//! feed.script(1, Behaviour::garbage(7));         // the first connection; the next ones are well
//! // … the server under test connects to feed.url("/ws") …
//! feed.wait_heard("the subscription", |message| message["method"] == "SUBSCRIBE");
//! feed.send(r#"{"s":"BTC","p":"1.00"}"#);         // to everybody who is connected
//! feed.cut(2);
//! feed.wait_accepted(3);
//! ```

use std::collections::HashMap;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection};
use serde_json::Value;
use sha1::{Digest as _, Sha1};

use crate::harness::{self, PATIENCE};
use crate::tls::Issued;

/// What a connection does.
#[derive(Debug, Clone, Default)]
pub(crate) enum Behaviour {
    /// Speaks as a good feed does: it greets with nothing, answers pings, and says what the test says.
    #[default]
    Feed,
    /// Answers the handshake with this status and these header lines instead of 101, and closes.
    Status(u16, &'static str),
    /// Takes the connection and never answers the handshake.
    Unanswered,
    /// Answers the handshake with a head that never ends.
    EndlessHead,
    /// Answers with 101 and the accept key of another handshake (RFC 6455 §4.1).
    WrongAccept,
    /// Agrees to this subprotocol, or to none, whatever was asked for; otherwise the first that is asked for.
    Subprotocol(Option<&'static str>),
    /// Ends the connection without a word right after 101.
    CloseAtOnce,
    /// Is open and answers pings, and nothing that the test says is said here.
    Mute,
    /// Is open, and reads nothing and says nothing. It does not notice that the peer is gone either.
    HalfOpen,
    /// Is open, reads everything and answers nothing, pings neither: half open, but it notices that the peer is gone.
    Deaf,
    /// Writes byte by byte, with so long in between; the handshake too.
    Slow(Duration),
    /// Ends the connection without a word after so many messages.
    CutAfterMessages(usize),
    /// Ends the connection without a word after so long.
    CutAfter(Duration),
    /// Says this after 101, and then does as a good feed.
    Says(Vec<Say>),
}

/// A part of what is said.
#[derive(Debug, Clone)]
pub(crate) enum Say {
    /// A text message.
    Text(String),
    /// These bytes, which may be anything.
    Raw(Vec<u8>),
    /// These bytes, again and again, until the peer has enough.
    Endless(Vec<u8>),
    /// A close frame, and then the end.
    Close(u16, &'static str),
    /// The end.
    Cut,
}

impl Behaviour {
    /// Sends these text messages.
    pub(crate) fn says(texts: &[&str]) -> Self {
        Self::Says(texts.iter().map(|text| Say::Text((*text).to_owned())).collect())
    }

    /// Sends messages of these numbers, with holes and twice where they have them: `{"s":KEY,"n":NUMBER}`.
    pub(crate) fn numbered(key: &str, numbers: &[u64]) -> Self {
        let text = |number| Say::Text(format!(r#"{{"s":"{key}","n":{number}}}"#));
        Self::Says(numbers.iter().map(text).collect())
    }

    /// Sends bytes that mean nothing, others for each seed and always the same.
    pub(crate) fn garbage(seed: u64) -> Self {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        };
        let bytes: Vec<u8> = std::iter::repeat_with(&mut next).take(8_192).flatten().collect();
        Self::Says(vec![Say::Raw(bytes)])
    }

    /// Announces a frame of 2^40 bytes and begins to send it.
    pub(crate) fn giant_frame() -> Self {
        let mut head = vec![0x81, 127];
        head.extend_from_slice(&(1_u64 << 40).to_be_bytes());
        Self::Says(vec![Say::Raw(head), Say::Endless(vec![b' '; 65_536])])
    }

    /// Sends a message in fragments, without an end.
    pub(crate) fn endless_message() -> Self {
        Self::Says(vec![Say::Raw(frame(0x01, b"[")), Say::Endless(frame(0x00, &[b' '; 65_000]))])
    }

    /// Sends a text message that is no UTF-8.
    pub(crate) fn invalid_utf8() -> Self {
        Self::Says(vec![Say::Raw(frame(0x81, b"\"\xff\xfe\""))])
    }

    /// Sends a masked frame, which a server must not (RFC 6455 §5.1).
    pub(crate) fn masked() -> Self {
        Self::Says(vec![Say::Raw(harness::frame(0x81, b"{}"))])
    }

    /// Sends so many pings at once.
    pub(crate) fn ping_flood(count: usize) -> Self {
        Self::Says(vec![Say::Raw(frame(0x89, b"flood").repeat(count))])
    }

    /// Closes with this code and reason.
    pub(crate) fn closes(code: u16, reason: &'static str) -> Self {
        Self::Says(vec![Say::Close(code, reason)])
    }
}

/// One connection, as it was seen.
#[derive(Debug, Clone, Default)]
pub(crate) struct Connection {
    /// The path and query of its handshake; empty before that has come.
    pub(crate) path: String,
    /// The headers of its handshake, by their names in lower case.
    pub(crate) headers: HashMap<String, String>,
    /// Whether it was answered with 101.
    pub(crate) welcomed: bool,
    /// Whether it has not ended.
    pub(crate) open: bool,
    /// The messages that came, text or binary.
    pub(crate) heard: Vec<Vec<u8>>,
    /// The pings that came.
    pub(crate) pings: usize,
    /// The pongs that came.
    pub(crate) pongs: usize,
    /// The code with which the peer closed; 1005 if it gave none (RFC 6455 §7.1.5).
    pub(crate) closed_with: Option<u16>,
    said: usize,
    mute: bool,
    cut_after: Option<usize>,
}

impl Connection {
    /// The messages that are JSON.
    pub(crate) fn json(&self) -> Vec<Value> {
        self.heard.iter().filter_map(|message| serde_json::from_slice(message).ok()).collect()
    }
}

/// What is answered to a message on a connection.
type Answer = Box<dyn Fn(usize, &[u8]) -> Vec<String> + Send + Sync>;

/// A server of feeds.
pub(crate) struct Feed {
    shared: Arc<Shared>,
    /// Holds the port while nobody listens on it, so that nobody else gets it.
    _port: socket2::Socket,
    listening: Option<(Arc<TcpListener>, JoinHandle<()>)>,
    pub(crate) address: SocketAddr,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    tls: Option<Arc<ServerConfig>>,
    answer: Option<Answer>,
}

#[derive(Default)]
struct State {
    connections: Vec<Connection>,
    wires: HashMap<usize, Arc<Wire>>,
    scripts: HashMap<usize, Behaviour>,
    otherwise: Behaviour,
}

impl Feed {
    /// A feed without TLS.
    pub(crate) fn start() -> Self {
        Self::with(Shared::default())
    }

    /// A feed with TLS, for whoever trusts who issued this.
    pub(crate) fn start_tls(issued: &Issued) -> Self {
        let certificate = CertificateDer::from_pem_slice(issued.certificate.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config =
            ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = config.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
        Self::with(Shared { tls: Some(Arc::new(config)), ..Shared::default() })
    }

    /// A feed without TLS that answers messages by itself.
    pub(crate) fn answering(answer: impl Fn(usize, &[u8]) -> Vec<String> + Send + Sync + 'static) -> Self {
        Self::with(Shared { answer: Some(Box::new(answer)), ..Shared::default() })
    }

    fn with(shared: Shared) -> Self {
        let port = reusable();
        port.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        let address = port.local_addr().unwrap().as_socket().unwrap();
        let mut feed = Self { shared: Arc::new(shared), _port: port, listening: None, address };
        feed.listen();
        feed
    }

    /// Its URL with a path, such as `/ws/{key}`.
    pub(crate) fn url(&self, path: &str) -> String {
        let scheme = if self.shared.tls.is_some() { "wss" } else { "ws" };
        format!("{scheme}://{}{path}", self.address)
    }

    /// What the connection of this number does, counted from 1 over all that were ever accepted.
    pub(crate) fn script(&self, number: usize, behaviour: Behaviour) {
        self.lock().scripts.insert(number, behaviour);
    }

    /// What all other connections do from now on.
    pub(crate) fn otherwise(&self, behaviour: Behaviour) {
        self.lock().otherwise = behaviour;
    }

    /// Listens no more: who connects is refused. Connections go on.
    pub(crate) fn refuse(&mut self) {
        if let Some((listener, thread)) = self.listening.take() {
            // `accept` ends with an error. What is in the queue is reset.
            socket2::SockRef::from(&*listener).shutdown(Shutdown::Both).unwrap();
            thread.join().unwrap();
        }
    }

    /// Listens again at the same address.
    pub(crate) fn listen(&mut self) {
        assert!(self.listening.is_none(), "it listens");
        let socket = reusable();
        socket.bind(&self.address.into()).unwrap();
        socket.listen(1_024).unwrap();
        let listener = Arc::new(TcpListener::from(socket));
        let (accepting, shared) = (listener.clone(), self.shared.clone());
        let thread = std::thread::spawn(move || {
            while let Ok((stream, _)) = accepting.accept() {
                shared.accept(stream);
            }
        });
        self.listening = Some((listener, thread));
    }

    /// Says a text to everybody who is connected; returns to how many.
    pub(crate) fn send(&self, text: &str) -> usize {
        self.say_to_all(&frame(0x81, text.as_bytes()))
    }

    /// Says a binary message to everybody who is connected; returns to how many.
    pub(crate) fn send_binary(&self, bytes: &[u8]) -> usize {
        self.say_to_all(&frame(0x82, bytes))
    }

    /// Says a text on one connection.
    #[track_caller]
    pub(crate) fn send_to(&self, number: usize, text: &str) {
        assert!(self.shared.say(number, &frame(0x81, text.as_bytes())), "connection {number} is not open");
    }

    /// Writes bytes on one connection, which may be anything.
    #[track_caller]
    pub(crate) fn send_raw(&self, number: usize, bytes: &[u8]) {
        assert!(self.shared.say(number, bytes), "connection {number} is not open");
    }

    /// Closes a connection with a code and a reason.
    pub(crate) fn close(&self, number: usize, code: u16, reason: &str) {
        self.shared.say(number, &close_frame(code, reason));
        self.cut(number);
    }

    /// Ends a connection without a word.
    pub(crate) fn cut(&self, number: usize) {
        let wire = self.lock().wires.get(&number).cloned();
        wire.inspect(|wire| wire.end());
    }

    /// Ends all connections without a word.
    pub(crate) fn cut_all(&self) {
        let wires: Vec<_> = self.lock().wires.values().cloned().collect();
        wires.iter().for_each(|wire| wire.end());
    }

    /// All connections that were ever accepted, the first at 0.
    pub(crate) fn connections(&self) -> Vec<Connection> {
        self.lock().connections.clone()
    }

    /// The connection of this number, as it was seen until now.
    pub(crate) fn connection(&self, number: usize) -> Connection {
        self.lock().connections[number - 1].clone()
    }

    /// How many were ever accepted.
    pub(crate) fn accepted(&self) -> usize {
        self.lock().connections.len()
    }

    /// How many are open and were welcomed.
    pub(crate) fn open(&self) -> usize {
        open(&self.lock().connections)
    }

    /// Waits until something is found among the connections; `what` says what was not.
    #[track_caller]
    pub(crate) fn wait<T>(&self, what: &str, mut find: impl FnMut(&[Connection]) -> Option<T>) -> T {
        let mut found = None;
        let missing = |state: &mut State| {
            found = find(&state.connections);
            found.is_none()
        };
        let (state, _) = self.shared.changed.wait_timeout_while(self.lock(), PATIENCE, missing).unwrap();
        let seen = &state.connections;
        found.unwrap_or_else(|| {
            panic!("waited in vain: {what}; {} were accepted, the last: {:?}", seen.len(), seen.last())
        })
    }

    /// Waits until so many were ever accepted.
    #[track_caller]
    pub(crate) fn wait_accepted(&self, count: usize) {
        self.wait(&format!("{count} are accepted"), |all| (all.len() >= count).then_some(()));
    }

    /// Waits until so many are open and were welcomed.
    #[track_caller]
    pub(crate) fn wait_open(&self, count: usize) {
        self.wait(&format!("{count} are open"), |all| (open(all) == count).then_some(()));
    }

    /// Waits until a connection has ended; returns what was seen of it.
    #[track_caller]
    pub(crate) fn wait_ended(&self, number: usize) -> Connection {
        self.wait(&format!("connection {number} ends"), |all| {
            all.get(number - 1).filter(|one| !one.open).cloned()
        })
    }

    /// Waits until a JSON message came on any connection; returns the connection's number and the message.
    #[track_caller]
    pub(crate) fn wait_heard(&self, what: &str, is_it: impl Fn(&Value) -> bool) -> (usize, Value) {
        self.wait(what, |all| {
            let mut numbered = all.iter().enumerate();
            numbered.find_map(|(at, one)| Some((at + 1, one.json().into_iter().find(&is_it)?)))
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap()
    }

    fn say_to_all(&self, bytes: &[u8]) -> usize {
        let count = self.lock().connections.len();
        let mute = |number: &usize| self.lock().connections[number - 1].mute;
        (1..=count).filter(|number| !mute(number) && self.shared.say(*number, bytes)).count()
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.refuse();
        self.cut_all();
    }
}

fn open(all: &[Connection]) -> usize {
    all.iter().filter(|one| one.open && one.welcomed).count()
}

/// A socket whose address another may have too, as long as one of them listens.
fn reusable() -> socket2::Socket {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket
}

/// An unmasked frame; `first` is the whole first byte.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        len @ 0..=125 => bytes.push(len as u8),
        len @ 126..=0xffff => {
            bytes.push(126);
            bytes.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            bytes.push(127);
            bytes.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    bytes.extend_from_slice(payload);
    bytes
}

fn close_frame(code: u16, reason: &str) -> Vec<u8> {
    frame(0x88, &[&code.to_be_bytes()[..], reason.as_bytes()].concat())
}

impl Shared {
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.state.lock().unwrap());
        self.changed.notify_all();
        result
    }

    fn accept(self: &Arc<Self>, stream: TcpStream) {
        let Ok(wire) = Wire::new(stream, self.tls.clone()) else { return };
        let wire = Arc::new(wire);
        let (number, behaviour) = self.change(|state| {
            state.connections.push(Connection { open: true, ..Connection::default() });
            let number = state.connections.len();
            state.wires.insert(number, wire.clone());
            (number, state.scripts.get(&number).unwrap_or(&state.otherwise).clone())
        });
        let shared = self.clone();
        std::thread::spawn(move || {
            let this = Serving { shared: &shared, number, wire: &wire, behaviour: &behaviour };
            // Who is gone is gone.
            let _ = this.serve();
            wire.end();
            shared.change(|state| {
                state.wires.remove(&number);
                state.connections[number - 1].open = false;
            });
        });
    }

    /// Writes on a connection that was welcomed; `false` if it is not open.
    fn say(&self, number: usize, bytes: &[u8]) -> bool {
        let state = self.state.lock().unwrap();
        let welcomed = state.connections.get(number - 1).is_some_and(|one| one.welcomed && one.open);
        let Some(wire) = state.wires.get(&number).filter(|_| welcomed).cloned() else { return false };
        drop(state);
        if wire.write(bytes).is_err() {
            return false;
        }
        let last = self.change(|state| {
            let one = &mut state.connections[number - 1];
            one.said += 1;
            one.cut_after.is_some_and(|most| one.said >= most)
        });
        if last {
            wire.end();
        }
        true
    }
}

/// One connection and what it does.
struct Serving<'s> {
    shared: &'s Shared,
    number: usize,
    wire: &'s Wire,
    behaviour: &'s Behaviour,
}

/// The peer is gone, or has said what no peer says.
struct Over;

impl From<io::Error> for Over {
    fn from(_: io::Error) -> Self {
        Self
    }
}

impl Serving<'_> {
    fn serve(&self) -> Result<(), Over> {
        if let Behaviour::Slow(pause) = self.behaviour {
            *self.wire.pause.lock().unwrap() = *pause;
        }
        let mut buffer = Vec::new();
        let head = self.head(&mut buffer)?;
        match self.behaviour {
            Behaviour::Status(status, headers) => {
                let answer = format!(
                    "HTTP/1.1 {status} No\r\nContent-Length: 0\r\nConnection: close\r\n{headers}\r\n"
                );
                self.wire.write(answer.as_bytes())?;
                return Ok(());
            }
            Behaviour::Unanswered => return self.discard(),
            Behaviour::EndlessHead => {
                self.wire.write(b"HTTP/1.1 101 Switching Protocols\r\n")?;
                loop {
                    self.wire.write(&b"X-More: and more\r\n".repeat(1_000))?;
                }
            }
            _ => {}
        }
        self.wire.write(self.welcome(&head).as_bytes())?;
        self.change(|one, behaviour| {
            one.welcomed = true;
            one.mute = matches!(behaviour, Behaviour::Mute | Behaviour::HalfOpen | Behaviour::Deaf);
            if let Behaviour::CutAfterMessages(most) = behaviour {
                one.cut_after = Some(*most);
            }
        });
        match self.behaviour {
            Behaviour::CloseAtOnce | Behaviour::CutAfterMessages(0) => Ok(()),
            Behaviour::Deaf => self.discard(),
            Behaviour::HalfOpen => {
                self.wire.wait_ended(Duration::MAX);
                Ok(())
            }
            Behaviour::CutAfter(long) => std::thread::scope(|scope| {
                scope.spawn(|| {
                    self.wire.wait_ended(*long);
                    self.wire.end();
                });
                self.hear_and_end(buffer)
            }),
            Behaviour::Says(parts) => std::thread::scope(|scope| {
                // Reading goes on while it speaks, or both would wait for the other to read.
                scope.spawn(|| {
                    if self.speak(parts).is_err() {
                        self.wire.end();
                    }
                });
                self.hear_and_end(buffer)
            }),
            _ => self.hear(buffer),
        }
    }

    /// Hears, and lets whoever speaks beside know that it is over.
    fn hear_and_end(&self, buffer: Vec<u8>) -> Result<(), Over> {
        let result = self.hear(buffer);
        self.wire.end();
        result
    }

    fn change(&self, change: impl FnOnce(&mut Connection, &Behaviour)) {
        self.shared.change(|state| change(&mut state.connections[self.number - 1], self.behaviour));
    }

    /// Reads the head of a request, and keeps it.
    fn head(&self, buffer: &mut Vec<u8>) -> Result<HashMap<String, String>, Over> {
        let end = loop {
            if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break end;
            }
            self.fill(buffer)?;
        };
        let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
        buffer.drain(..end + 4);
        let mut lines = head.lines();
        let path = lines.next().and_then(|line| line.split(' ').nth(1)).unwrap_or_default().to_owned();
        let header = |line: &str| {
            line.split_once(':').map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        };
        let headers: HashMap<String, String> = lines.filter_map(header).collect();
        self.change(|one, _| (one.path, one.headers) = (path, headers.clone()));
        Ok(headers)
    }

    fn welcome(&self, headers: &HashMap<String, String>) -> String {
        let key = headers.get("sec-websocket-key").map_or("", String::as_str);
        let key = if matches!(self.behaviour, Behaviour::WrongAccept) { "another" } else { key };
        // RFC 6455 §4.2.2.
        let accept = STANDARD.encode(Sha1::digest(format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11")));
        let asked =
            headers.get("sec-websocket-protocol").and_then(|all| all.split(',').next()).map(str::trim);
        let agreed = match self.behaviour {
            Behaviour::Subprotocol(agreed) => *agreed,
            _ => asked,
        };
        let agreed = agreed.map(|name| format!("Sec-WebSocket-Protocol: {name}\r\n")).unwrap_or_default();
        format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {accept}\r\n{agreed}\r\n"
        )
    }

    fn speak(&self, parts: &[Say]) -> Result<(), Over> {
        for part in parts {
            match part {
                Say::Text(text) => self.wire.write(&frame(0x81, text.as_bytes()))?,
                Say::Raw(bytes) => self.wire.write(bytes)?,
                Say::Endless(bytes) => loop {
                    self.wire.write(bytes)?;
                },
                Say::Close(code, reason) => {
                    self.wire.write(&close_frame(*code, reason))?;
                    return Err(Over);
                }
                Say::Cut => return Err(Over),
            }
        }
        Ok(())
    }

    fn fill(&self, buffer: &mut Vec<u8>) -> Result<(), Over> {
        match self.wire.read(buffer)? {
            0 => Err(Over),
            _ => Ok(()),
        }
    }

    fn discard(&self) -> Result<(), Over> {
        let mut buffer = Vec::new();
        loop {
            self.fill(&mut buffer)?;
            buffer.clear();
        }
    }

    /// Reads frames until the peer is gone.
    fn hear(&self, mut buffer: Vec<u8>) -> Result<(), Over> {
        let mut message = Vec::new();
        loop {
            let Some((first, payload, used)) = unmasked(&buffer)? else {
                self.fill(&mut buffer)?;
                continue;
            };
            buffer.drain(..used);
            match first & 0x0f {
                0..=2 => {
                    message.extend_from_slice(&payload);
                    if first & 0x80 != 0 {
                        let whole = std::mem::take(&mut message);
                        let answers = self.shared.answer.as_ref().map(|answer| answer(self.number, &whole));
                        self.change(|one, _| one.heard.push(whole));
                        answers
                            .iter()
                            .flatten()
                            .try_for_each(|text| self.wire.write(&frame(0x81, text.as_bytes())))?;
                    }
                }
                8 => {
                    let code = payload.get(..2).map_or(1005, |code| u16::from_be_bytes([code[0], code[1]]));
                    self.change(|one, _| one.closed_with = Some(code));
                    self.wire.write(&frame(0x88, payload.get(..2).unwrap_or_default()))?;
                    return Ok(());
                }
                9 => {
                    self.change(|one, _| one.pings += 1);
                    self.wire.write(&frame(0x8a, &payload))?;
                }
                10 => self.change(|one, _| one.pongs += 1),
                _ => return Err(Over),
            }
        }
    }
}

/// The frame at the beginning of some bytes: its first byte, its payload, and how many bytes it takes. A client masks
/// every frame (RFC 6455 §5.3).
fn unmasked(bytes: &[u8]) -> Result<Option<(u8, Vec<u8>, usize)>, Over> {
    let (Some(&first), Some(&second)) = (bytes.first(), bytes.get(1)) else { return Ok(None) };
    if second & 0x80 == 0 {
        return Err(Over);
    }
    let mut long = [0; 8];
    let more = match second & 0x7f {
        126 => 2,
        127 => 8,
        len => {
            long[7] = len;
            0
        }
    };
    let Some(written) = bytes.get(2..2 + more) else { return Ok(None) };
    long[8 - more..].copy_from_slice(written);
    let len = usize::try_from(u64::from_be_bytes(long)).map_err(|_| Over)?;
    let Some(rest) = bytes[2 + more..].get(..len.saturating_add(4)) else { return Ok(None) };
    let (key, masked) = rest.split_at(4);
    let payload = masked.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key).collect();
    Ok(Some((first, payload, 2 + more + 4 + len)))
}

/// The bytes of a connection. Anybody may write; one reads.
struct Wire {
    stream: TcpStream,
    secure: bool,
    /// Who writes has it, with TLS or without.
    out: Mutex<Option<Box<ServerConnection>>>,
    pause: Mutex<Duration>,
    ended: Mutex<bool>,
    over: Condvar,
}

impl Wire {
    fn new(stream: TcpStream, tls: Option<Arc<ServerConfig>>) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let tls = tls.map(|config| {
            let mut tls = ServerConnection::new(config).unwrap();
            tls.set_buffer_limit(None);
            Box::new(tls)
        });
        let (secure, out) = (tls.is_some(), Mutex::new(tls));
        Ok(Self {
            stream,
            secure,
            out,
            pause: Mutex::default(),
            ended: Mutex::default(),
            over: Condvar::new(),
        })
    }

    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let mut out = self.out.lock().unwrap();
        let pause = *self.pause.lock().unwrap();
        let step = if pause.is_zero() { bytes.len().max(1) } else { 1 };
        for part in bytes.chunks(step) {
            match &mut *out {
                None => (&self.stream).write_all(part)?,
                Some(tls) => {
                    tls.writer().write_all(part)?;
                    while tls.wants_write() {
                        tls.write_tls(&mut &self.stream)?;
                    }
                }
            }
            if !pause.is_zero() && self.wait_ended(pause) {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
        }
        Ok(())
    }

    /// Reads what has come, or comes next; 0 bytes if the peer is gone.
    fn read(&self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        let (mut block, before) = ([0; 16_384], buffer.len());
        loop {
            let len = (&self.stream).read(&mut block)?;
            if len == 0 {
                return Ok(0);
            }
            if !self.secure {
                buffer.extend_from_slice(&block[..len]);
                return Ok(len);
            }
            let mut out = self.out.lock().unwrap();
            let Some(tls) = &mut *out else { return Ok(0) };
            let mut rest = &block[..len];
            while !rest.is_empty() {
                tls.read_tls(&mut rest)?;
                let state = tls.process_new_packets().map_err(io::Error::other)?;
                let mut plain = vec![0; state.plaintext_bytes_to_read()];
                tls.reader().read_exact(&mut plain)?;
                buffer.extend_from_slice(&plain);
                if state.peer_has_closed() {
                    return Ok(buffer.len() - before);
                }
            }
            while tls.wants_write() {
                tls.write_tls(&mut &self.stream)?;
            }
            if buffer.len() > before {
                return Ok(buffer.len() - before);
            }
        }
    }

    /// Waits until it ends, at most so long. Whether it has.
    fn wait_ended(&self, most: Duration) -> bool {
        let ended = self.ended.lock().unwrap();
        *self.over.wait_timeout_while(ended, most, |ended| !*ended).unwrap().0
    }

    /// Ends it for both sides, without a word.
    fn end(&self) {
        *self.ended.lock().unwrap() = true;
        self.over.notify_all();
        // It may have ended already.
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}
