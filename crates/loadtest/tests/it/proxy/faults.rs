//! Faults that tell WebSockets and other requests apart.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use pulsewire_loadtest::proxy::{Fault, Proxy, Stats};

use super::{PATIENCE, ends, pass};

const UPGRADE: &str = "GET /ws HTTP/1.1\r\nHost: here\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
const OPENED: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
const POST: &str = "POST /api/publish HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}";
const ANSWER: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";

/// A server whose ends of the connections the test holds, behind a proxy.
pub(super) struct Net {
    listener: TcpListener,
    pub(super) proxy: Proxy,
}

/// The two ends of a connection.
struct Pair {
    client: TcpStream,
    server: TcpStream,
}

impl Net {
    pub(super) fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Proxy::start(listener.local_addr().unwrap()).unwrap();
        Self { listener, proxy }
    }

    fn connect(&self) -> Pair {
        let client = TcpStream::connect(self.proxy.address).unwrap();
        let (server, _) = self.listener.accept().unwrap();
        for side in [&client, &server] {
            side.set_read_timeout(Some(PATIENCE)).unwrap();
        }
        Pair { client, server }
    }

    fn open(&self) -> Pair {
        let mut pair = self.connect();
        pair.ask(UPGRADE);
        pair.answer(OPENED);
        pair
    }

    /// Waits for numbers that threads of the proxy are about to write.
    pub(super) fn wait(&self, what: impl Fn(&Stats) -> bool) -> Stats {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let stats = self.proxy.stats();
            if what(&stats) {
                return stats;
            }
            assert!(Instant::now() < deadline, "{stats:?}");
            std::thread::yield_now();
        }
    }
}

impl Pair {
    fn ask(&mut self, text: &str) {
        pass(&mut self.client, &mut self.server, text);
    }

    fn answer(&mut self, text: &str) {
        pass(&mut self.server, &mut self.client, text);
    }

    /// Sends a frame to the client and sees it arrive.
    fn tell(&mut self, text: &str) {
        self.say(text);
        self.hears(text);
    }

    fn say(&mut self, text: &str) {
        self.server.write_all(&frame(text)).unwrap();
    }

    fn hears(&mut self, text: &str) {
        let mut heard = vec![0; text.len() + 2];
        self.client.read_exact(&mut heard).unwrap();
        assert_eq!(heard, frame(text));
    }

    /// That the client hears neither bytes nor an end, for as long as it is worth waiting for nothing.
    fn hears_nothing(&mut self) {
        self.client.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        assert_eq!(ends(&mut self.client), Err(ErrorKind::WouldBlock));
        self.client.set_read_timeout(Some(PATIENCE)).unwrap();
    }
}

/// A text frame of a server.
fn frame(text: &str) -> Vec<u8> {
    [&[0x81, u8::try_from(text.len()).unwrap()], text.as_bytes()].concat()
}

/// What a connection that is not served comes to.
fn is_turned_away(address: SocketAddr) {
    let mut client = TcpStream::connect(address).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(ends(&mut client), Ok(0));
}

#[test]
fn refused_upgrades_leave_other_requests_and_open_websockets_alone() {
    let net = Net::new();
    let mut open = net.open();
    net.proxy.apply(Fault::RefuseUpgrade);
    let mut refused = net.connect();
    refused.client.write_all(UPGRADE.as_bytes()).unwrap();
    let mut answer = String::new();
    refused.client.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{answer}");
    assert_eq!(ends(&mut refused.server), Ok(0), "the server was never asked");
    let mut http = net.connect();
    for _ in 0..2 {
        http.ask(POST);
        http.answer(ANSWER);
    }
    open.tell("still here");
    let stats = net.wait(|stats| stats.open == 2);
    assert_eq!((stats.connections, stats.upgrades, stats.refused, stats.http_requests), (3, 1, 1, 2));
    net.proxy.apply(Fault::Pass);
    net.open().tell("again");
}

#[test]
fn a_refusing_network_cuts_what_is_open_and_takes_nothing_new() {
    let net = Net::new();
    let mut open = net.open();
    net.proxy.apply(Fault::Refuse);
    assert_eq!((ends(&mut open.client), ends(&mut open.server)), (Ok(0), Ok(0)));
    is_turned_away(net.proxy.address);
    net.wait(|stats| (stats.refused, stats.connections, stats.open) == (1, 1, 0));
    net.proxy.apply(Fault::Pass);
    net.open().tell("again");
}

#[test]
fn a_websocket_that_dies_after_it_opened_is_reset_and_a_request_is_not() {
    let net = Net::new();
    let mut before = net.open();
    net.proxy.apply(Fault::DieAfterOpen { after_ms: 20 });
    let mut http = net.connect();
    let mut dies = net.connect();
    dies.ask(UPGRADE);
    let began = Instant::now();
    dies.answer(OPENED);
    assert_eq!(ends(&mut dies.client), Err(ErrorKind::ConnectionReset));
    assert!(began.elapsed() >= Duration::from_millis(20));
    assert_eq!(ends(&mut dies.server), Err(ErrorKind::ConnectionReset));
    http.ask(POST);
    http.answer(ANSWER);
    before.tell("still here");
    net.wait(|stats| stats.open == 2);
}

#[test]
fn a_mute_websocket_opens_and_never_says_a_word() {
    let net = Net::new();
    net.proxy.apply(Fault::Mute);
    let mut mute = net.open();
    mute.say("unheard");
    mute.ask("\u{1}\u{1}?");
    net.wait(|stats| stats.frames_lost == 1);
    mute.hears_nothing();
    let mut http = net.connect();
    http.ask(POST);
    http.answer(ANSWER);
    // The end is not heard either, until the network is well again: then all that comes is whole.
    let mut other = net.open();
    other.say("unheard");
    drop(other.server);
    net.wait(|stats| stats.frames_lost == 2);
    other.client.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    assert_eq!(ends(&mut other.client), Err(ErrorKind::WouldBlock));
    net.proxy.apply(Fault::Pass);
    assert_eq!(ends(&mut other.client), Ok(0));
    mute.tell("heard");
}

#[test]
fn a_connection_that_both_have_left_is_gone_though_the_network_is_mute() {
    let net = Net::new();
    let Pair { client, server } = net.open();
    net.proxy.apply(Fault::Mute);
    drop(server);
    drop(client);
    net.wait(|stats| stats.open == 0);
}

#[test]
fn in_a_black_hole_not_even_an_end_comes_through() {
    let net = Net::new();
    let mut open = net.open();
    net.proxy.apply(Fault::BlackHole);
    let mut new = net.connect();
    new.client.write_all(POST.as_bytes()).unwrap();
    open.client.write_all(&frame("lost")).unwrap();
    open.say("lost");
    net.wait(|stats| (stats.frames_lost, stats.http_requests) == (2, 1));
    drop(new.server);
    drop(open.server);
    for client in [&mut open.client, &mut new.client] {
        client.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        assert_eq!(ends(client), Err(ErrorKind::WouldBlock));
    }
    net.proxy.apply(Fault::Pass);
    for client in [&mut open.client, &mut new.client] {
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        assert_eq!(ends(client), Ok(0));
    }
}

#[test]
fn a_slow_network_is_slow_both_ways() {
    let net = Net::new();
    net.proxy.apply(Fault::Slow { ms: 20 });
    let began = Instant::now();
    let mut open = net.open();
    assert!(began.elapsed() >= Duration::from_millis(40));
    net.proxy.apply(Fault::Pass);
    open.tell("whenever");
}

#[test]
fn as_many_acks_are_lost_as_were_asked_for_and_nothing_else() {
    let net = Net::new();
    let mut open = net.open();
    net.proxy.apply(Fault::LoseAcks { count: Some(1) });
    open.tell(r#"{"type":"event","event":"ack"}"#);
    open.say(r#"{"type":"ack","id":1}"#);
    open.tell(r#"{"type":"ack","id":2}"#);
    net.proxy.apply(Fault::LoseAcks { count: None });
    for _ in 0..3 {
        open.say(r#"{"type":"ack","id":3}"#);
    }
    open.tell(r#"{"type":"error","id":4}"#);
    assert_eq!(net.proxy.stats().frames_lost, 4);
    net.proxy.apply(Fault::Pass);
    open.tell(r#"{"type":"ack","id":5}"#);
}

#[test]
fn one_frame_is_cut_in_the_middle_and_its_connection_reset() {
    let net = Net::new();
    let (mut open, mut other) = (net.open(), net.open());
    net.proxy.apply(Fault::CutMidFrame);
    let ping = [0x89, 0];
    open.server.write_all(&ping).unwrap();
    open.say("12345678");
    let mut heard = [0; 2 + 5];
    open.client.read_exact(&mut heard).unwrap();
    assert_eq!(heard.as_slice(), [&ping, &frame("12345678")[..5]].concat());
    assert_eq!(ends(&mut open.client), Err(ErrorKind::ConnectionReset));
    assert_eq!(ends(&mut open.server), Err(ErrorKind::ConnectionReset));
    other.tell("whole");
}

#[test]
fn cutting_all_and_resetting_all_end_what_the_network_hides() {
    let net = Net::new();
    let mut open = net.open();
    net.proxy.apply(Fault::BlackHole);
    net.proxy.apply(Fault::Cut);
    assert_eq!((ends(&mut open.client), ends(&mut open.server)), (Ok(0), Ok(0)));
    net.wait(|stats| stats.open == 0);
    let Pair { mut client, server } = net.connect();
    drop(server);
    net.wait(|stats| stats.open == 1);
    net.proxy.apply(Fault::Reset);
    assert_eq!(ends(&mut client), Err(ErrorKind::ConnectionReset));
    net.wait(|stats| stats.open == 0);
}

#[test]
fn connections_go_to_the_server_that_is_there_now() {
    let mut net = Net::new();
    net.open().tell("the first");
    net.listener = TcpListener::bind("127.0.0.1:0").unwrap();
    is_turned_away(net.proxy.address);
    net.proxy.apply(Fault::Target { to: net.listener.local_addr().unwrap() });
    net.open().tell("the second");
}

#[test]
fn a_websocket_that_was_never_answered_ends_as_any_connection() {
    let net = Net::new();
    let mut pair = net.connect();
    pair.ask(UPGRADE);
    pair.client.write_all(b"impatient").unwrap();
    drop(pair.server);
    assert_eq!(ends(&mut pair.client), Ok(0));
    drop(pair.client);
    net.wait(|stats| stats.open == 0);
}
