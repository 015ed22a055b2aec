//! Each behaviour of the tests' feed, as a client sees it that is not ours.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::json;
use tungstenite::client::IntoClientRequest as _;
use tungstenite::error::{CapacityError, ProtocolError};
use tungstenite::protocol::WebSocketConfig;
use tungstenite::{Error, HandshakeError, Message, WebSocket};

use crate::feed::{Behaviour, Feed, Say, frame};
use crate::harness::{PATIENCE, Socket, handshake};
use crate::public_feed::{Dialect, PublicFeed};
use crate::tls::{ALL, Authority};

type Client = WebSocket<TcpStream>;

fn stream(feed: &Feed) -> TcpStream {
    let stream = TcpStream::connect(feed.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn try_connect(feed: &Feed) -> Result<Client, Error> {
    let config = WebSocketConfig::default().max_message_size(Some(1 << 20)).max_frame_size(Some(1 << 20));
    match tungstenite::client::client_with_config(feed.url("/ws"), stream(feed), Some(config)) {
        Ok((client, _)) => Ok(client),
        Err(HandshakeError::Failure(error)) => Err(error),
        Err(HandshakeError::Interrupted(_)) => panic!("the feed did not answer in time"),
    }
}

fn connect(feed: &Feed) -> Client {
    try_connect(feed).unwrap_or_else(|error| panic!("{error}"))
}

/// The next message that is no ping or pong.
fn next(client: &mut Client) -> Result<Message, Error> {
    loop {
        match client.read()? {
            Message::Ping(_) | Message::Pong(_) => {}
            message => return Ok(message),
        }
    }
}

fn text(client: &mut Client) -> String {
    next(client).unwrap_or_else(|error| panic!("{error}")).into_text().unwrap().to_string()
}

/// What a client that reads on is told.
fn fails(behaviour: Behaviour) -> Error {
    let feed = Feed::start();
    feed.otherwise(behaviour);
    let mut client = connect(&feed);
    loop {
        if let Err(error) = client.read() {
            return error;
        }
    }
}

#[test]
fn it_feeds_and_keeps_what_it_heard() {
    let feed = Feed::start();
    let mut request = feed.url("/ws/BTC?x=1").into_client_request().unwrap();
    request.headers_mut().insert("Authorization", "Bearer s3cret".parse().unwrap());
    request.headers_mut().insert("Sec-WebSocket-Protocol", "v2.feed, v1.feed".parse().unwrap());
    let (mut client, answer) = tungstenite::client(request, stream(&feed)).unwrap();
    assert_eq!(answer.headers()["sec-websocket-protocol"], "v2.feed");
    let seen = feed.connection(1);
    assert_eq!((&*seen.path, &*seen.headers["authorization"]), ("/ws/BTC?x=1", "Bearer s3cret"));
    client.send(Message::text(json!({ "subscribe": "BTC" }).to_string())).unwrap();
    let (number, message) = feed.wait_heard("a subscription", |message| message["subscribe"].is_string());
    assert_eq!((number, message), (1, json!({ "subscribe": "BTC" })));
    assert_eq!(feed.send("hello"), 1);
    assert_eq!(feed.send_binary(&[1, 2]), 1);
    assert_eq!(text(&mut client), "hello");
    assert_eq!(next(&mut client).unwrap(), Message::binary(vec![1, 2]));
    client.send(Message::Ping("?".into())).unwrap();
    assert_eq!(client.read().unwrap(), Message::Pong("?".into()));
    assert_eq!((feed.open(), feed.connection(1).pings), (1, 1));
    client.close(None).unwrap();
    assert_eq!(feed.wait_ended(1).closed_with, Some(1005));
    assert_eq!((feed.open(), feed.accepted(), feed.send("nobody hears it")), (0, 1, 0));
}

#[test]
fn each_connection_has_its_own_script() {
    let feed = Feed::start();
    feed.script(2, Behaviour::says(&["for the second"]));
    feed.otherwise(Behaviour::Mute);
    let mut clients: Vec<Client> = (0..3).map(|_| connect(&feed)).collect();
    feed.wait_open(3);
    assert_eq!(text(&mut clients[1]), "for the second");
    assert_eq!(feed.send("to those that are not mute"), 1);
    feed.send_to(3, "to a mute one after all");
    assert_eq!(text(&mut clients[2]), "to a mute one after all");
    clients[0].send(Message::Ping("?".into())).unwrap();
    assert_eq!(clients[0].read().unwrap(), Message::Pong("?".into()), "nothing came before the pong");
    feed.close(3, 1012, "restart");
    let Message::Close(Some(close)) = next(&mut clients[2]).unwrap() else { panic!() };
    assert_eq!((u16::from(close.code), close.reason.as_str()), (1012, "restart"));
    feed.cut_all();
    feed.wait_open(0);
}

#[test]
fn it_refuses_and_listens_again_at_the_same_address() {
    let mut feed = Feed::start();
    let mut before = connect(&feed);
    feed.wait_open(1);
    for round in 0..3 {
        feed.refuse();
        assert!(TcpStream::connect(feed.address).is_err(), "round {round}");
        feed.listen();
        drop(connect(&feed));
        feed.wait_ended(round + 2);
    }
    feed.send("still there");
    assert_eq!(text(&mut before), "still there");
}

#[test]
fn handshakes_fail_in_every_way() {
    let feed = Feed::start();
    for (status, headers) in
        [(401, ""), (429, "Retry-After: 7\r\n"), (301, "Location: ws://127.0.0.1:1/\r\n")]
    {
        feed.otherwise(Behaviour::Status(status, headers));
        let Err(Error::Http(answer)) = try_connect(&feed) else { panic!("{status} was asked for") };
        assert_eq!(answer.status(), status);
        let header = headers.split_once(": ").map(|(name, value)| answer.headers()[name] == value.trim());
        assert!(header.unwrap_or(true));
    }
    feed.otherwise(Behaviour::WrongAccept);
    let error = try_connect(&feed).unwrap_err();
    assert!(matches!(error, Error::Protocol(ProtocolError::SecWebSocketAcceptKeyMismatch)), "{error}");
    feed.otherwise(Behaviour::EndlessHead);
    assert!(try_connect(&feed).is_err());
    feed.otherwise(Behaviour::Subprotocol(Some("unasked")));
    assert!(try_connect(&feed).is_err());
    feed.otherwise(Behaviour::Unanswered);
    let mut unanswered = stream(&feed);
    unanswered.write_all(b"GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n").unwrap();
    feed.wait_accepted(7);
    feed.wait("the handshake came", |all| (all[6].path == "/").then_some(()));
    unanswered.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    assert!(unanswered.read(&mut [0]).is_err(), "nothing is answered");
    drop(unanswered);
    assert!(!feed.wait_ended(7).welcomed);
}

#[test]
fn connections_end_without_a_word_or_with_one() {
    let feed = Feed::start();
    feed.script(1, Behaviour::CloseAtOnce);
    feed.script(2, Behaviour::CutAfterMessages(2));
    feed.script(3, Behaviour::CutAfter(Duration::from_millis(1)));
    feed.script(4, Behaviour::Says(vec![Say::Text("last words".into()), Say::Cut]));
    feed.script(5, Behaviour::closes(4_000, "for a reason"));
    assert!(next(&mut connect(&feed)).is_err());
    assert!(!feed.wait_ended(1).open);
    let mut second = connect(&feed);
    feed.wait_open(1);
    assert_eq!((feed.send("1"), feed.send("2"), feed.send("3")), (1, 1, 0));
    assert_eq!((text(&mut second), text(&mut second)), ("1".into(), "2".into()));
    assert!(next(&mut second).is_err());
    assert!(next(&mut connect(&feed)).is_err());
    let mut fourth = connect(&feed);
    assert_eq!(text(&mut fourth), "last words");
    assert!(next(&mut fourth).is_err());
    let Message::Close(Some(close)) = next(&mut connect(&feed)).unwrap() else { panic!() };
    assert_eq!((u16::from(close.code), close.reason.as_str()), (4_000, "for a reason"));
    feed.wait_open(0);
}

#[test]
fn open_connections_can_be_dead() {
    let feed = Feed::start();
    for (number, behaviour) in [(1, Behaviour::HalfOpen), (2, Behaviour::Deaf)] {
        feed.script(number, behaviour);
        let mut client = connect(&feed);
        client.send(Message::Ping("?".into())).unwrap();
        client.get_ref().set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        assert!(client.read().is_err(), "no pong");
        feed.wait_open(1);
        drop(client);
        if number == 1 {
            assert_eq!(feed.open(), 1, "it does not look");
            feed.cut(1);
        }
        assert_eq!(feed.wait_ended(number).pings, 0);
    }
}

#[test]
fn bytes_can_come_one_by_one() {
    let feed = Feed::start();
    feed.otherwise(Behaviour::Slow(Duration::from_micros(1)));
    // Other clients take so many small reads of a handshake for an attack.
    let mut socket = Socket::connect(feed.address);
    socket.send(handshake("/ws", "").as_bytes());
    assert_eq!(socket.head().status, 101);
    feed.wait_open(1);
    feed.send("slowly");
    assert_eq!(socket.next().unwrap().payload, b"slowly");
}

#[test]
fn what_no_feed_may_say_is_said() {
    for seed in 0..20 {
        fails(Behaviour::garbage(seed));
    }
    let too_long = |error: &Error| matches!(error, Error::Capacity(CapacityError::MessageTooLong { .. }));
    let error = fails(Behaviour::giant_frame());
    assert!(too_long(&error), "{error}");
    let error = fails(Behaviour::endless_message());
    assert!(too_long(&error), "{error}");
    let error = fails(Behaviour::invalid_utf8());
    assert!(matches!(error, Error::Utf8(_)), "{error}");
    let error = fails(Behaviour::masked());
    assert!(matches!(error, Error::Protocol(ProtocolError::MaskedFrameFromServer)), "{error}");
}

#[test]
fn pings_come_in_floods_and_numbers_with_holes() {
    let feed = Feed::start();
    feed.script(1, Behaviour::ping_flood(1_000));
    feed.script(2, Behaviour::numbered("BTC", &[1, 2, 2, 5]));
    let mut first = connect(&feed);
    for _ in 0..1_000 {
        assert_eq!(first.read().unwrap(), Message::Ping("flood".into()));
    }
    first.flush().unwrap();
    feed.wait("pongs", |all| (all[0].pongs > 0).then_some(()));
    let mut second = connect(&feed);
    let numbers: Vec<String> = (0..4).map(|_| text(&mut second)).collect();
    assert_eq!(numbers, [1, 2, 2, 5].map(|number| format!(r#"{{"s":"BTC","n":{number}}}"#)));
    feed.send_raw(2, &frame(0x01, b"in two "));
    feed.send_raw(2, &frame(0x80, b"parts"));
    assert_eq!(text(&mut second), "in two parts");
}

#[test]
fn it_speaks_tls() {
    let authority = Authority::new();
    let feed = Feed::start_tls(&authority.issue_until("127.0.0.1", 2100));
    assert!(feed.url("/").starts_with("wss://127.0.0.1:"));
    let secure = |name: &str| {
        let tls = rustls::StreamOwned::new(authority.client(name, ALL, &[]), stream(&feed));
        tungstenite::client(feed.url("/ws"), tls).map_err(|error| error.to_string())
    };
    let (mut client, _) = secure("127.0.0.1").unwrap();
    client.send(Message::text("7")).unwrap();
    feed.wait_heard("a number", |message| *message == json!(7));
    // Longer than one record, and from another thread than the one that reads.
    let long = "x".repeat(100_000);
    feed.send(&long);
    assert_eq!(client.read().unwrap(), Message::text(long));
    assert!(secure("localhost").is_err(), "the certificate is for another name");
    assert!(!feed.wait_ended(2).welcomed);
    drop(client);
    feed.wait_open(0);
}

#[test]
fn it_speaks_as_public_feeds_do() {
    for (dialect, request, key, trade) in [
        (Dialect::Binance, "asks for two streams", "bnbbtc@trade", r#""t":7,"p":"9.50""#),
        (Dialect::Coinbase, "asks for a product's matches", "BTC-USD", r#""trade_id":7,"#),
        (Dialect::Kraken, "asks for a pair's trades", "MATIC/USD", r#""price":9.50,"#),
    ] {
        let public = PublicFeed::start(dialect);
        let (mut client, _) = tungstenite::client(public.url(), stream(&public.feed)).unwrap();
        assert_eq!(public.trade(key, 6, "9.00"), 0, "nobody has asked");
        client.send(Message::text(dialect.message(request))).unwrap();
        let answer = text(&mut client);
        match dialect {
            Dialect::Coinbase => assert!(answer.contains(r#""type":"subscriptions""#), "{answer}"),
            _ => assert_eq!(
                serde_json::from_str::<serde_json::Value>(&answer).unwrap(),
                serde_json::from_str::<serde_json::Value>(&dialect.message("it was done")).unwrap()
            ),
        }
        if dialect == Dialect::Kraken {
            assert_eq!(text(&mut client), dialect.message("the last trades"));
        }
        assert!(public.asked(1).contains(&key.to_owned()));
        assert_eq!(public.trade(key, 7, "9.50"), 1);
        let said = text(&mut client);
        assert!(said.contains(trade), "{said}");
        let no_more = if dialect == Dialect::Binance { "asks no more for one" } else { "asks no more" };
        client.send(Message::text(dialect.message(no_more))).unwrap();
        let left: &[&str] = if dialect == Dialect::Binance { &["bnbbtc@trade"] } else { &[] };
        public.wait_asked(1, left);
    }
}
