//! The lines by which other programs rule the proxy.

use std::io::{BufRead as _, BufReader, Write as _};
use std::thread;

use pulsewire_loadtest::proxy::control;
use serde_json::{Value, json};

use super::faults::Net;

#[test]
fn each_line_is_answered_and_its_fault_holds() {
    let (lines, mut line) = std::io::pipe().unwrap();
    let (answers, answer) = std::io::pipe().unwrap();
    let net = Net::new();
    let address = net.proxy.address.to_string();
    let serving = thread::spawn(move || control::serve(&net.proxy, BufReader::new(lines), answer));
    let mut answers = BufReader::new(answers).lines();
    let mut hear = || serde_json::from_str::<Value>(&answers.next().unwrap().unwrap()).unwrap();
    assert_eq!(hear(), json!({ "address": address }));
    let mut tell = |text: &str| {
        writeln!(line, "{text}").unwrap();
        hear()
    };
    for fault in [
        r#"{"fault":"refuse_upgrade"}"#,
        r#"{"fault":"refuse"}"#,
        r#"{"fault":"die_after_open","after_ms":200}"#,
        r#"{"fault":"mute"}"#,
        r#"{"fault":"black_hole"}"#,
        r#"{"fault":"slow","ms":50}"#,
        r#"{"fault":"lose_acks","count":1}"#,
        r#"{"fault":"lose_acks"}"#,
        r#"{"fault":"cut_mid_frame"}"#,
        r#"{"fault":"cut"}"#,
        r#"{"fault":"reset"}"#,
        r#"{"fault":"target","to":"127.0.0.1:9"}"#,
        r#"{"fault":"pass"}"#,
        r#"{"fault":"refuse"}"#,
    ] {
        assert_eq!(tell(fault), json!({ "ok": true }), "{fault}");
    }
    for wrong in
        [r#"{"fault":"slow"}"#, r#"{"fault":"slow","ms":5,"way":1}"#, r#"{"fault":"pas"}"#, "pass", "{}"]
    {
        assert!(tell(wrong)["error"].is_string(), "{wrong}");
    }
    let turned_away = std::net::TcpStream::connect(address).unwrap();
    while tell(r#"{"stats":true}"#)["refused"] == 0 {
        thread::yield_now();
    }
    let none = json!({ "ok": true, "connections": 0, "open": 0, "upgrades": 0, "refused": 1, "http_requests": 0, "frames_lost": 0 });
    assert_eq!(tell(r#"{"stats":true}"#), none);
    drop(turned_away);
    drop(line);
    serving.join().unwrap().unwrap();
}
