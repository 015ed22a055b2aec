//! Row by row through §5.1 of the fault catalogue: frames and messages that are wrong, over real sockets.
//!
//! Every row has its own connection to one server. A wrong frame is answered by a close frame with its
//! code before the end of the stream, a wrong message by an error, and both are counted once.

use std::collections::HashSet;

use pulsewire::auth::Role;
use serde_json::{Value, json};

use crate::harness::{Server, Socket, frame, handshake, until};
use crate::msgpack;

/// Bytes after which a server that reads on would have answered.
const AFTERWARDS: &str = "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// An unmasked frame header of any kind: first byte, length byte and what follows.
fn bare(first: u8, second: u8, rest: &[u8]) -> Vec<u8> {
    [&[first, second], rest].concat()
}

/// Frames one after the other.
fn frames(list: &[(u8, &[u8])]) -> Vec<u8> {
    list.iter().flat_map(|(first, payload)| frame(*first, payload)).collect()
}

/// A message of exactly so many bytes that is answered by a pong.
fn ping_of(bytes: usize) -> String {
    let short = r#"{"type":"ping","timestamp":1,"pad":""}"#;
    format!(r#"{{"type":"ping","timestamp":1,"pad":"{}"}}"#, "x".repeat(bytes - short.len()))
}

/// Rows P5 to P12: what is sent, the close code, and the kind of error it is counted as.
#[test]
fn a_frame_that_breaks_a_rule_is_closed_with_its_code_and_counted_once() {
    let mut rows: Vec<(String, Vec<u8>, u16, &str)> = Vec::new();
    let mut row = |name: &str, bytes: Vec<u8>, code: u16, kind: &'static str| {
        rows.push((name.to_owned(), bytes, code, kind));
    };
    row("P5 unmasked text", bare(0x81, 2, b"hi"), 1002, "protocol");
    row("P5 unmasked close", bare(0x88, 2, &[3, 232]), 1002, "protocol");
    for (name, first) in [("RSV1", 0xc1), ("RSV2", 0xa1), ("RSV3", 0x91), ("RSV1 ping", 0xc9)] {
        row(&format!("P6 {name}"), frame(first, b"{}"), 1002, "protocol");
    }
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        row(&format!("P6 opcode {opcode}"), frame(0x80 | opcode, b""), 1002, "protocol");
    }
    row("P7 ping of 126 bytes", frame(0x89, &[b'x'; 126]), 1002, "protocol");
    row("P7 fragmented ping", frame(0x09, b"x"), 1002, "protocol");
    row("P7 fragmented close", frame(0x08, &[3, 232]), 1002, "protocol");
    row("P8 continuation of nothing", frame(0x80, b"x"), 1002, "protocol");
    row("P8 text inside a text", frames(&[(0x01, b"{"), (0x81, b"}")]), 1002, "protocol");
    row("P8 binary inside a text", frames(&[(0x01, b"{"), (0x82, b"}")]), 1002, "protocol");
    for (name, text) in [
        ("overlong", &b"\xc0\xaf"[..]),
        ("overlong of three", b"\xe0\x80\xaf"),
        ("surrogate", b"\xed\xa0\x80"),
        ("beyond U+10FFFF", b"\xf4\x90\x80\x80"),
        ("lonely continuation", b"\x80"),
        ("cut short", b"abc\xe2\x82"),
    ] {
        row(&format!("P9 {name}"), frame(0x81, text), 1007, "protocol");
    }
    row("P9 split and wrong", frames(&[(0x01, b"\xe2\x82"), (0x80, b"\x28")]), 1007, "protocol");
    row("P10 close of one byte", frame(0x88, &[3]), 1002, "protocol");
    for code in [0_u16, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535] {
        row(&format!("P10 close {code}"), frame(0x88, &code.to_be_bytes()), 1002, "protocol");
    }
    row("P10 reason not UTF-8", frame(0x88, b"\x03\xe8\xff\xfe"), 1007, "protocol");
    let declared = |length: u64| bare(0x81, 0x80 | 127, &[&length.to_be_bytes()[..], &[1, 2, 3, 4]].concat());
    row("P11 2^62 bytes", declared(1 << 62), 1009, "too_large");
    row("P11 2^63 bytes", declared(1 << 63), 1002, "protocol");
    row("P11 64-bit length of 200", declared(200), 1002, "protocol");
    row("P11 16-bit length of 5", bare(0x81, 0x80 | 126, &[0, 5]), 1002, "protocol");
    row("P12 one byte more", frame(0x81, ping_of(64 * 1024 + 1).as_bytes()), 1009, "too_large");
    row("P12 one binary byte more", frame(0x82, &[0xc0; 64 * 1024 + 1]), 1009, "too_large");
    row("P16 RSV1 without an extension", frame(0xc1, &[0xaa; 300]), 1002, "protocol");

    let server = Server::start("");
    for (name, bytes, code, kind) in rows {
        let errors = format!("websocket_message_errors_total{{error_type=\"{kind}\"}}");
        let closes = format!("websocket_closes_total{{code=\"{code}\",initiator=\"server\"}}");
        let before = (server.metric(&errors), server.metric(&closes));
        println!("{name}");
        let mut socket = server.welcomed("ann");
        socket.send(&bytes);
        assert_eq!(socket.closed_with(), code, "{name}");
        assert_eq!(server.metric(&errors), before.0 + 1.0, "{name}: {errors}");
        assert_eq!(server.metric(&closes), before.1 + 1.0, "{name}: {closes}");
    }
    server.wait_metric("websocket_active_connections", 0.0);
    // P11: nothing was set aside for what was only declared.
    assert!(server.metric("websocket_memory_usage_bytes") < 1_048_576.0);
}

/// R70: the close frame says the code's name; what was wrong comes before it, as far as there is anybody
/// to be told: a peer that broke RFC 6455 itself is not spoken to any more.
#[test]
fn what_was_wrong_comes_before_a_close_frame_that_says_its_codes_name() {
    let server = Server::start("");
    let flood: Vec<u8> = (0..200).flat_map(|_| frame(0x89, b"")).collect();
    let table = [
        (frame(0x81, &[b'x'; 64 * 1024 + 1]), Some("too_large"), "\x03\u{f1}message_too_big"),
        (flood, Some("rate_limited"), "\x0f\u{a5}rate_limited"),
        (frame(0xc1, b"{}"), None, "\x03\u{ea}protocol_error"),
        (frame(0x81, b"\xff"), None, "\x03\u{ef}invalid_payload"),
    ];
    for (bytes, told, close) in table {
        let mut socket = server.welcomed("ann");
        socket.send(&bytes);
        let mut said = None;
        let last = loop {
            let frame = socket.message();
            if frame.opcode == 8 {
                break frame.payload;
            }
            said = Some(frame.json()["code"].as_str().unwrap_or_default().to_owned());
        };
        let latin: Vec<u8> = close.chars().map(|character| character as u8).collect();
        assert_eq!(String::from_utf8_lossy(&last), String::from_utf8_lossy(&latin));
        assert_eq!(said.as_deref(), told, "{close}");
    }
}

/// Row P10: what may be sent is echoed, and the server closes first (RFC 6455 §5.5.1, §7.1.1).
#[test]
fn a_good_close_frame_is_echoed_and_counted_as_the_clients() {
    let server = Server::start("");
    for code in [1000_u16, 1001, 1003, 1007, 1008, 1011, 1014, 3000, 3999, 4000, 4999] {
        let mut socket = server.welcomed("ann");
        socket.frame(0x88, &[&code.to_be_bytes()[..], "done é".as_bytes()].concat());
        assert_eq!(socket.closed_with(), code);
        let label = if code >= 3000 { "other".to_owned() } else { code.to_string() };
        let series = format!("websocket_closes_total{{code=\"{label}\",initiator=\"client\"}}");
        assert!(server.metric(&series) >= 1.0, "{series}");
    }
    let mut socket = server.welcomed("ann");
    socket.frame(0x88, b"");
    assert_eq!(socket.closed_with(), 1005, "an empty close is answered by an empty close");
    assert_eq!(server.metric("websocket_closes_total{code=\"1005\",initiator=\"client\"}"), 1.0);
    server.wait_metric("websocket_active_connections", 0.0);
}

/// Rows P7, P9 and P12: what is unusual and allowed.
#[test]
fn unusual_frames_that_are_allowed_are_understood() {
    let server = Server::start("");
    let mut socket = server.welcomed("ann");
    let pong = |id: u64| json!({"type": "pong", "timestamp": 1.0, "id": id});

    socket.send(&frames(&[
        (0x01, br#"{"type":"ping","#),
        (0x89, b"hi"),
        (0x80, br#""timestamp":1,"id":1}"#),
    ]));
    let frame = socket.next().unwrap();
    assert_eq!((frame.opcode, &frame.payload[..]), (10, &b"hi"[..]), "P7: a ping between fragments");
    assert_eq!(socket.json(), pong(1));

    let message = r#"{"type":"ping","timestamp":1,"pad":"é","id":2}"#;
    let middle = message.find('é').unwrap() + 1;
    let (head, tail) = message.as_bytes().split_at(middle);
    socket.send(&frames(&[(0x01, head), (0x80, tail)]));
    assert_eq!(socket.json(), pong(2), "P9: a character may be split over fragments");

    socket.text(&ping_of(64 * 1024));
    assert_eq!(socket.json(), json!({"type": "pong", "timestamp": 1.0}), "P12: exactly the limit");

    socket.send(&frames(&[(0x01, b""), (0x00, b""), (0x80, br#"{"type":"ping","timestamp":1,"id":3}"#)]));
    assert_eq!(socket.json(), pong(3), "empty fragments");
    for byte in frames(&[(0x81, br#"{"type":"ping","timestamp":1,"id":4}"#)]) {
        socket.send(&[byte]);
    }
    assert_eq!(socket.json(), pong(4), "byte by byte");
}

/// Row P12: the fragment that crosses the limit ends it, not the one after.
#[test]
fn a_message_that_grows_beyond_the_limit_ends_at_the_fragment_that_crosses() {
    let server = Server::start("");
    let mut socket = server.welcomed("ann");
    let part = [b' '; 1_024];
    socket.frame(0x01, &part);
    for _ in 0..63 {
        socket.frame(0x00, &part);
    }
    assert_eq!(socket.flush(b"64 KiB are well"), Vec::<Value>::new());
    socket.frame(0x00, b" ");
    assert_eq!(socket.closed_with(), 1009);
}

/// Row P1: nothing that follows a refused upgrade is answered.
#[test]
fn another_version_is_told_ours_and_the_rest_is_not_read() {
    let server = Server::start("");
    let rejected = "websocket_rejected_total{stage=\"handshake\",reason=\"bad_version\"}";
    let mut socket = server.connect();
    let request = handshake("/ws", "").replace("Version: 13", "Version: 12");
    socket.send(format!("{request}{AFTERWARDS}").as_bytes());
    let answer = socket.head();
    assert_eq!((answer.status, answer.headers["sec-websocket-version"].as_str()), (426, "13"));
    let rest = String::from_utf8_lossy(&socket.rest()).into_owned();
    assert!(!rest.contains("HTTP/1.1"), "a second answer: {rest}");
    assert_eq!(server.metric(rejected), 1.0);
}

/// Rows P2, P3 and P16: requests that are no handshake, and those that are in spite of their looks.
#[test]
fn only_a_complete_handshake_is_upgraded() {
    let good = handshake("/ws", "");
    let without = |header: &str| {
        let kept: Vec<&str> = good.split("\r\n").filter(|line| !line.starts_with(header)).collect();
        kept.join("\r\n")
    };
    let key = "dGhlIHNhbXBsZSBub25jZQ==";
    let with = |headers: &str| handshake("/ws", headers);
    let rows = [
        ("P2 no key", without("Sec-WebSocket-Key"), 400),
        ("P2 short key", good.replace(key, "dGhlIHNhbXBsZQ=="), 400),
        ("P2 long key", good.replace(key, "dGhlIHNhbXBsZSBub25jZTEyMzQ="), 400),
        ("P2 key not in base64", good.replace(key, "!!!!!!!!!!!!!!!!!!!!!!=="), 400),
        ("P2 two keys", with(&format!("Sec-WebSocket-Key: {key}\r\n")), 400),
        ("P2 no Upgrade", without("Upgrade"), 426),
        ("P2 other Upgrade", good.replace("Upgrade: websocket", "Upgrade: h2c"), 426),
        ("P2 no Connection", without("Connection"), 400),
        (
            "P2 Connection with others",
            good.replace("Connection: Upgrade", "Connection: keep-alive, UPGRADE"),
            101,
        ),
        ("P2 no version", without("Sec-WebSocket-Version"), 426),
        ("P2 no host", without("Host"), 400),
        ("P3 POST", good.replacen("GET", "POST", 1), 405),
        ("P3 HEAD", good.replacen("GET", "HEAD", 1), 405),
        ("P3 HTTP/1.0", good.replace("HTTP/1.1", "HTTP/1.0"), 400),
        ("P3 GET with a body", with("Content-Length: 5\r\n") + "hello", 400),
        ("P3 GET with a chunked body", with("Transfer-Encoding: chunked\r\n") + "0\r\n\r\n", 400),
        ("P16 compression offered", with("Sec-WebSocket-Extensions: permessage-deflate\r\n"), 101),
        (
            "P16 compression with bad windows",
            with("Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=99; x=\"\r\n"),
            101,
        ),
        ("P16 extensions that are none", with("Sec-WebSocket-Extensions: ;;,=,\r\n"), 101),
        ("an alias", handshake("/ws/metrics", ""), 101),
        ("another alias", handshake("/ws/collaboration/run-7", ""), 101),
        ("no such path", handshake("/wss", ""), 404),
    ];
    let server = Server::start("");
    let accepted = rows.iter().filter(|row| row.2 == 101).count();
    let refused = rows.iter().filter(|row| row.2 != 101 && row.2 != 404).count();
    for (name, request, status) in rows {
        let mut socket = server.connect();
        socket.send(request.as_bytes());
        let answer = socket.head();
        assert_eq!(answer.status, status, "{name}: {answer:?}");
        assert!(!answer.headers.contains_key("sec-websocket-extensions"), "{name}: nothing is negotiated");
        if status == 101 {
            assert_eq!(answer.headers["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", "{name}");
        } else if status != 404 {
            socket.send(AFTERWARDS.as_bytes());
            let rest = String::from_utf8_lossy(&socket.rest()).into_owned();
            assert!(!rest.contains("HTTP/1.1 200"), "{name} stays open: {rest}");
        }
    }
    server.wait_metric("pulsewire_handshake_seconds_count{outcome=\"accepted\"}", accepted as f64);
    assert_eq!(server.metric("pulsewire_handshake_seconds_count{outcome=\"rejected\"}"), refused as f64);
}

/// Row P27: heads that are too much.
#[test]
fn a_head_beyond_the_limits_is_refused_and_closed() {
    let many: String = (0..10_000).map(|number| format!("X-{number}: 1\r\n")).collect();
    let protocols: Vec<String> = (0..4_096).map(|number| number.to_string()).collect();
    let few: Vec<String> = (0..17).map(|number| number.to_string()).collect();
    let rows = [
        ("10,000 headers", handshake("/ws", &many), &[431][..]),
        ("65 headers", handshake("/ws", &many[..many.find("X-65").unwrap()]), &[431]),
        ("a header of 1 MiB", handshake("/ws", &format!("X-Big: {}\r\n", "x".repeat(1 << 20))), &[431]),
        ("a URL of 64 KiB", handshake(&format!("/ws?{}", "x".repeat(1 << 16)), ""), &[414, 431]),
        (
            "4,096 subprotocols",
            handshake("/ws", &format!("Sec-WebSocket-Protocol: {}\r\n", protocols.join(","))),
            &[400, 431],
        ),
        (
            "17 subprotocols",
            handshake("/ws", &format!("Sec-WebSocket-Protocol: {}\r\n", few.join(","))),
            &[400],
        ),
        ("64 KiB of spaces", handshake("/ws", &format!("X-Wide: {}x\r\n", " ".repeat(1 << 16))), &[431]),
        ("a header without a name", handshake("/ws", ": x\r\n"), &[400]),
        ("a space before the colon", handshake("/ws", "Host : x\r\n"), &[400]),
        ("no HTTP at all", "\u{1}\u{2}\u{3}\r\n\r\n".to_owned(), &[400]),
    ];
    let server = Server::start("");
    for (index, (name, request, statuses)) in rows.into_iter().enumerate() {
        let mut socket = server.connect();
        socket.send(request.as_bytes());
        let answer = socket.head();
        assert!(statuses.contains(&answer.status), "{name}: {answer:?}");
        socket.rest();
        server.wait_sum("websocket_rejected_total", index as f64 + 1.0);
    }
    assert_eq!(server.get("/livez").status, 200, "others are served");
}

/// Row P14: more control frames than anybody needs.
#[test]
fn a_flood_of_pings_or_pongs_is_closed_for_its_rate() {
    let server = Server::start("");
    for first in [0x89, 0x8a] {
        let mut socket = server.welcomed("ann");
        for _ in 0..500 {
            socket.frame(first, b"x");
        }
        assert_eq!(socket.closed_with(), 4005);
    }
    assert_eq!(server.metric("websocket_rate_limited_total{scope=\"connection\"}"), 2.0);
    assert_eq!(server.metric("pulsewire_heartbeat_rtt_seconds_count"), 0.0, "nobody asked for those pongs");
}

/// Row P14: a pong that was not asked for is no sign of life.
#[test]
fn pongs_that_were_not_asked_for_do_not_count_as_heartbeats() {
    let server = Server::start("[heartbeat]\ninterval = \"1s\"\ntimeout = \"250ms\"");
    let mut socket = server.welcomed("ann");
    loop {
        let frame = socket.next().expect("a close frame comes first");
        match frame.opcode {
            9 => socket.frame(0x8a, b"12345678"),
            8 => {
                assert_eq!(frame.close_code(), 4003);
                break;
            }
            _ => panic!("{frame:?}"),
        }
    }
    assert_eq!(server.metric("websocket_heartbeat_timeouts_total"), 1.0);
    assert_eq!(server.metric("pulsewire_heartbeat_rtt_seconds_count"), 0.0);
}

/// Row P15: the subprotocol promised one encoding.
#[test]
fn the_other_encoding_than_the_subprotocols_is_refused_and_closed() {
    let server = Server::start("");
    let headers = |name: &str| {
        let token = server.token("ann", Role::User);
        format!("Authorization: Bearer {token}\r\nSec-WebSocket-Protocol: pulsewire.{name}\r\n")
    };
    let mut json = server.open("/ws", &headers("json"));
    assert_eq!(json.json()["type"], "welcome");
    json.frame(0x82, &msgpack::encode(&json!({"type": "ping"})));
    assert_eq!(json.json()["code"], "unsupported_encoding");
    assert_eq!(json.closed_with(), 1003);

    let mut packed = server.open("/ws", &headers("msgpack"));
    assert_eq!(msgpack::decode(&packed.next().unwrap().payload)["type"], "welcome");
    packed.text(r#"{"type":"ping"}"#);
    let error = packed.next().unwrap();
    assert_eq!((error.opcode, &msgpack::decode(&error.payload)["code"]), (2, &json!("unsupported_encoding")));
    assert_eq!(packed.closed_with(), 1003);
}

/// Rows P17, P18 and P20: messages that are wrong, the code of the answer and its id.
#[test]
fn a_wrong_message_gets_its_code_with_its_id_and_the_connection_lives() {
    let deep = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    let since = |sequence: &str| {
        format!(
            r#"{{"type":"subscribe","id":9,"channels":[{{"channel":"run:1","since":{{"epoch":"e","sequence":{sequence}}}}}]}}"#
        )
    };
    let nine = json!(9);
    let none = Value::Null;
    let mut rows: Vec<(String, &str, &Value)> = Vec::new();
    for (text, code, id) in [
        ("", "bad_request", &none),
        ("{", "bad_request", &none),
        ("nonsense", "bad_request", &none),
        ("[]", "bad_request", &none),
        ("null", "bad_request", &none),
        ("{}", "bad_request", &none),
        (r#"{"type":null,"id":9}"#, "bad_request", &nine),
        (r#"{"type":7,"id":9}"#, "bad_request", &nine),
        (r#"{"type":"no_such_event","id":9}"#, "unknown_event", &nine),
        (r#"{"type":"subscribe","id":9}"#, "bad_request", &nine),
        (r#"{"type":"subscribe","id":9,"channels":"run:1"}"#, "bad_request", &nine),
        (r#"{"type":"subscribe","id":9,"channels":[7]}"#, "bad_request", &nine),
        (r#"{"type":"subscribe","id":9,"channels":["run 1"]}"#, "invalid_channel", &nine),
        (r#"{"type":"subscribe","id":9,"channels":["none"]}"#, "unknown_channel", &nine),
        (r#"{"type":"subscribe","id":9,"channels":[{"channel":"run:1","lost":1}]}"#, "bad_request", &nine),
        (r#"{"type":"ping","type":"ping","id":9}"#, "bad_request", &none),
        (r#"{"type":"publish","id":9}"#, "bad_request", &nine),
        (r#"{"type":"publish","id":9,"channel":"run:1"}"#, "bad_request", &nine),
        (r#"{"type":"publish","id":9,"channel":"run:1","event":""}"#, "bad_request", &nine),
        (r#"{"type":"publish","id":9,"events":[]}"#, "bad_request", &nine),
        (r#"{"type":"receipt","id":9,"channel":"run:1","sequence":1}"#, "not_subscribed", &nine),
        (r#"{"type":"unsubscribe","id":9,"channels":["run:1"]}"#, "not_subscribed", &nine),
    ] {
        rows.push((text.to_owned(), code, id));
    }
    rows.push((format!(r#"{{"type":"ping","x":{}}}"#, deep(33)), "bad_request", &none));
    rows.push((deep(30_000), "bad_request", &none));
    rows.push(("[".repeat(64 * 1024), "bad_request", &none));
    let sequences =
        ["-1", "1.5", "\"42\"", "9007199254740992", "18446744073709551615", "18446744073709551616", "null"];
    rows.extend(sequences.map(|sequence| (since(sequence), "invalid_position", &nine)));
    let epoch = "e".repeat(60_000);
    rows.push((since("1").replace(r#""e""#, &format!("{epoch:?}")), "invalid_position", &nine));
    rows.push((since("1").replace(r#""e""#, "null"), "invalid_position", &nine));

    let server = Server::start("[limits]\nerrors_per_minute = 1000");
    let mut socket = server.welcomed("ann");
    for (text, code, id) in rows {
        socket.text(&text);
        let answer = socket.json();
        let shown = &text[..text.len().min(120)];
        assert_eq!(
            (&answer["type"], &answer["code"], &answer["id"]),
            (&json!("error"), &json!(code), id),
            "{shown}"
        );
        assert!(!answer["help"].as_str().unwrap().is_empty(), "{shown}");
    }
    assert_eq!(server.metric("websocket_active_subscriptions"), 0.0, "P20: nothing was subscribed");
    assert_eq!(socket.ask(&json!({"type": "ping", "timestamp": 1}))["type"], "pong");

    // P20: an epoch of 1 MiB does not even fit into a message.
    socket.text(&since("1").replace(r#""e""#, &format!("{:?}", "e".repeat(1 << 20))));
    assert_eq!(socket.closed_with(), 1009);
}

/// Row P18: the same in MessagePack, where a byte can say more.
#[test]
fn a_messagepack_bomb_is_a_bad_request_and_costs_little() {
    let server = Server::start("[limits]\nerrors_per_minute = 1000");
    let token = server.token("ann", Role::User);
    let mut socket = server.open("/ws?format=msgpack", &format!("Authorization: Bearer {token}\r\n"));
    assert_eq!(msgpack::decode(&socket.next().unwrap().payload)["type"], "welcome");
    let map = |value: &[u8]| [&b"\x82\xa4type\xa4ping\xa1x"[..], value].concat();
    let rows = [
        ("deep arrays", map(&[0x91; 60_000])),
        ("33 arrays", map(&[&[0x91; 33][..], &[0xc0]].concat())),
        ("an array of 2^32-1", map(&[0xdd, 0xff, 0xff, 0xff, 0xff])),
        ("a map of 2^32-1", map(&[0xdf, 0xff, 0xff, 0xff, 0xff])),
        ("a text of 2^32-1", map(&[0xdb, 0xff, 0xff, 0xff, 0xff])),
        ("a binary", map(&[0xc4, 1, 0])),
        ("an extension", map(&[0xd4, 1, 0])),
        ("not a number", map(&[0xcb, 0x7f, 0xf8, 0, 0, 0, 0, 0, 0])),
        ("a number as key", b"\x82\xa4type\xa4ping\x01\x01".to_vec()),
        ("nothing", Vec::new()),
        ("a byte that is nothing", vec![0xc1]),
        ("two values", [map(&[0xc0]), vec![0xc0]].concat()),
        ("a text that is not UTF-8", map(&[0xa1, 0xff])),
    ];
    for (name, bytes) in rows {
        socket.frame(0x82, &bytes);
        let answer = msgpack::decode(&socket.message().payload);
        assert_eq!(answer["code"], "bad_request", "{name}: {answer}");
    }
    // 64 KiB of nils are a message like any other: the server never looks into what it does not need.
    socket.frame(0x82, &map(&[&[0xdc, 0xf0, 0x00][..], &[0xc0; 0xf000]].concat()));
    let answer = msgpack::decode(&socket.message().payload);
    assert!(answer["type"] == "pong" || answer["code"] == "too_large", "{answer}");
}

/// Row P17: too many errors within a minute.
#[test]
fn a_client_that_is_wrong_too_often_is_closed() {
    let server = Server::start("");
    let mut socket = server.welcomed("ann");
    for _ in 0..60 {
        socket.text("nonsense");
    }
    let mut errors = 0;
    let code = loop {
        let frame = socket.next().expect("a close frame comes first");
        match frame.opcode {
            1 => {
                assert_eq!(frame.json()["code"], "bad_request");
                errors += 1;
            }
            _ => break frame.close_code(),
        }
    };
    assert_eq!(code, 4509);
    // The minute may have changed in between.
    assert!((21..=41).contains(&errors), "{errors} errors were answered");
}

/// Row P23.
#[test]
fn subscribing_twice_is_no_error_and_counts_once() {
    let server = Server::start("");
    let mut socket = server.welcomed("ann");
    for _ in 0..2 {
        let answer = socket.ask(&json!({"type": "subscribe", "id": 1, "channels": ["run:1", "run:1"]}));
        assert_eq!(answer["type"], "subscribed");
    }
    assert_eq!(server.metric("websocket_active_subscriptions"), 1.0);
    server.publish(&json!({"channel": "run:1", "type": "note", "data": 1}));
    assert_eq!(socket.json()["sequence"], 1);
    assert!(socket.flush(b"once").is_empty(), "the event came once");
    let left = socket.ask(&json!({"type": "unsubscribe", "id": 2, "channels": ["run:2"]}));
    assert_eq!(left["code"], "not_subscribed");
    let left = socket.ask(&json!({"type": "unsubscribe", "id": 3, "channels": ["run:1"]}));
    assert_eq!(left, json!({"type": "unsubscribed", "id": 3, "channels": ["run:1"]}));
    assert_eq!(server.metric("websocket_active_subscriptions"), 0.0);
}

/// Row P25: ids are the client's business.
#[test]
fn every_request_is_answered_once_with_its_id_as_it_was_written() {
    let server = Server::start("[limits]\nerrors_per_minute = 1000");
    let mut socket = server.welcomed("ann");
    for number in 0..200 {
        socket.text(&format!(r#"{{"type":"ping","id":"same","timestamp":{number}}}"#));
    }
    let answers = socket.flush(b"all");
    let seen: HashSet<u64> =
        answers.iter().map(|answer| answer["timestamp"].as_f64().unwrap() as u64).collect();
    assert_eq!((answers.len(), seen.len()), (200, 200));
    assert!(answers.iter().all(|answer| answer["id"] == "same"));

    for id in [r#""a""#, r#""""#, r#""\u00e9\n""#, "0", "-7", "1.50", "1e3", "9007199254740993", "-0.0"] {
        socket.text(&format!(r#"{{"type":"ping","id":{id},"timestamp":1}}"#));
        let frame = socket.message();
        let text = String::from_utf8(frame.payload).unwrap();
        assert!(text.contains(&format!(r#""id":{id}"#)), "{id} is not echoed in {text}");
    }
    let long = format!("{:?}", "x".repeat(127));
    for id in ["null", "true", "[]", "{}", "[1]", long.as_str()] {
        socket.text(&format!(r#"{{"type":"ping","id":{id}}}"#));
        let answer = socket.json();
        assert_eq!((&answer["code"], answer.get("id")), (&json!("bad_request"), None), "{id}");
    }
}

/// A way to go without a word.
type Vanish = fn(Socket);

/// Row P24, but for descriptors, which `lifecycle` counts in a process of its own.
#[test]
fn a_client_that_vanishes_is_counted_once_however_it_vanishes() {
    let server = Server::start("");
    let lost = "websocket_closes_total{code=\"1006\",initiator=\"network\"}";
    let ways: [(&str, Vanish); 4] = [
        ("half-closes after sending", |mut socket| {
            socket.text(r#"{"type":"ping","timestamp":1}"#);
            socket.half_close();
            socket.rest();
        }),
        ("is reset in the middle of a frame", |mut socket| {
            socket.send(&frame(0x81, br#"{"type":"ping"}"#)[..9]);
            socket.reset();
        }),
        ("is reset in the middle of a message", |mut socket| {
            socket.frame(0x01, b"{");
            socket.reset();
        }),
        ("closes without a word", drop),
    ];
    let mut expected = 0.0;
    for (name, vanish) in ways {
        for _ in 0..25 {
            vanish(server.welcomed("ann"));
            expected += 1.0;
        }
        server.wait_metric(lost, expected);
        server.wait_metric("websocket_active_connections", 0.0);
        assert_eq!(server.metric_sum("websocket_closes_total"), expected, "{name}");
    }
    for _ in 0..25 {
        let mut socket = server.connect();
        socket.send(&handshake("/ws", "").as_bytes()[..60]);
    }
    for _ in 0..25 {
        let mut socket = server.connect();
        socket.send(handshake("/ws", "").as_bytes());
        socket.reset();
    }
    // Connections are accepted in order, so all of those were when this one is served.
    assert_eq!(server.get("/livez").status, 200);
    until("no place is lost", || server.app().hub.admission.connections() == 0);
    server.wait_metric("websocket_active_connections", 0.0);
}
