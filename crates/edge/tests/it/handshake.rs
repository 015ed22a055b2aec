//! The opening handshake: rows P1 to P3, P16 and P27 of the fault catalogue at header level.

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};
use pulsewire_edge::handshake::{BearerToken, OriginPolicy, Refusal, Upgrade, validate};
use pulsewire_protocol::Encoding;
use pulsewire_telemetry::RejectReason;

const VALID: &str = "Host: localhost:8000 | Upgrade: websocket | Connection: Upgrade | Sec-WebSocket-Version: 13 \
                     | Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";

/// A valid request's headers, of which `changes` (`Name: value | Name: value`) replace those they name;
/// `Name` alone removes one, `+Name: value` adds another line.
fn headers(changes: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in VALID.split(" | ").chain(changes.split(" | ").filter(|line| !line.is_empty())) {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let added = name.starts_with('+');
        let name: HeaderName = name.trim_start_matches('+').trim().parse().unwrap();
        let value = HeaderValue::from_bytes(value.trim().as_bytes()).unwrap();
        if added {
            headers.append(name, value);
        } else if line.contains(':') {
            headers.insert(name, value);
        } else {
            headers.remove(name);
        }
    }
    headers
}

fn get(changes: &str) -> Result<Upgrade, Refusal> {
    validate(&Method::GET, Version::HTTP_11, &headers(changes), &OriginPolicy::any())
}

#[track_caller]
fn check(changes: &str, expected: Result<(), Refusal>) {
    assert_eq!(get(changes).map(|_| ()), expected, "{changes}");
}

#[test]
fn the_example_of_the_rfc_is_accepted() {
    let upgrade = get("").unwrap();
    assert_eq!(upgrade.accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    let answer = upgrade.response_headers();
    assert_eq!(answer["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    assert_eq!(
        (&answer["upgrade"], &answer["connection"]),
        (&"websocket".parse().unwrap(), &"Upgrade".parse().unwrap())
    );
    assert!(!answer.contains_key("sec-websocket-protocol"));
}

#[test]
fn p1_another_version_is_answered_with_ours() {
    for changes in [
        "Sec-WebSocket-Version: 12",
        "Sec-WebSocket-Version: 8",
        "Sec-WebSocket-Version",
        "Sec-WebSocket-Version:",
        "Sec-WebSocket-Version: 013",
        "Sec-WebSocket-Version: 13, 8",
        "+Sec-WebSocket-Version: 8",
    ] {
        check(changes, Err(Refusal::Version));
    }
    let refusal = Refusal::Version;
    assert_eq!(
        (refusal.status(), refusal.reject_reason()),
        (StatusCode::UPGRADE_REQUIRED, RejectReason::BadVersion)
    );
    let answer = refusal.response_headers();
    assert_eq!(answer["sec-websocket-version"], "13");
    assert!(answer["connection"].to_str().unwrap().contains("close"));
}

#[test]
fn p2_key_and_upgrade_headers_are_needed() {
    for changes in [
        "Sec-WebSocket-Key",
        "Sec-WebSocket-Key:",
        "Sec-WebSocket-Key: c2hvcnQ=",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZTE=",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZTEy",
        "Sec-WebSocket-Key: !!!!!!!!!!!!!!!!!!!!!!==",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZTEyMzQ1Njc4OTA=",
        "+Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ] {
        check(changes, Err(Refusal::Key));
    }
    for changes in ["Upgrade", "Upgrade: h2c", "Upgrade: websockets", "Upgrade: web socket"] {
        check(changes, Err(Refusal::NotUpgrade));
    }
    for changes in ["Connection", "Connection: keep-alive", "Connection: close", "Connection: upgrades"] {
        check(changes, Err(Refusal::Connection));
    }
    for changes in [
        "Connection: keep-alive, UPGRADE",
        "Connection: keep-alive | +Connection: upgrade",
        "Connection: ,,upgrade ,",
        "Upgrade: WebSocket",
        "Upgrade: h2c, WEBSOCKET",
    ] {
        check(changes, Ok(()));
    }
    assert_eq!(Refusal::Key.status(), StatusCode::BAD_REQUEST);
    assert_eq!(Refusal::Connection.status(), StatusCode::BAD_REQUEST);
    assert_eq!(Refusal::NotUpgrade.status(), StatusCode::UPGRADE_REQUIRED);
    assert_eq!(Refusal::NotUpgrade.response_headers()["upgrade"], "websocket");
}

#[test]
fn p3_method_http_version_and_body_are_checked() {
    let any = OriginPolicy::any();
    for method in [Method::POST, Method::HEAD, Method::OPTIONS, Method::CONNECT] {
        let verdict = validate(&method, Version::HTTP_11, &headers(""), &any);
        assert_eq!(verdict, Err(Refusal::Method), "{method}");
    }
    assert_eq!(Refusal::Method.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(Refusal::Method.response_headers()["allow"], "GET");
    for version in [Version::HTTP_09, Version::HTTP_10, Version::HTTP_2] {
        assert_eq!(validate(&Method::GET, version, &headers(""), &any), Err(Refusal::HttpVersion));
    }
    assert_eq!(Refusal::HttpVersion.status(), StatusCode::BAD_REQUEST);
    for changes in
        ["Content-Length: 5", "Content-Length: 0 | +Content-Length: 7", "Transfer-Encoding: chunked"]
    {
        check(changes, Err(Refusal::Body));
    }
    check("Content-Length: 0", Ok(()));
    assert_eq!(Refusal::Body.status(), StatusCode::BAD_REQUEST);
    check("Host", Err(Refusal::Host));
    check("+Host: other", Err(Refusal::Host));
}

#[test]
fn p16_extensions_are_ignored() {
    for offer in [
        "permessage-deflate",
        "permessage-deflate; server_max_window_bits=99; client_no_context_takeover",
        "permessage-deflate; permessage-deflate; =;;,",
    ] {
        let upgrade = get(&format!("Sec-WebSocket-Extensions: {offer}")).unwrap();
        assert!(!upgrade.response_headers().contains_key("sec-websocket-extensions"), "{offer}");
    }
}

#[test]
fn the_first_known_subprotocol_is_chosen_and_the_token_is_never_echoed() {
    use Encoding::{Json, MsgPack};
    for (offer, encoding, bearer) in [
        ("pulsewire.json", Some(Json), None),
        ("pulsewire.msgpack", Some(MsgPack), None),
        ("pulsewire.msgpack, pulsewire.json", Some(MsgPack), None),
        ("graphql-ws, pulsewire.json", Some(Json), None),
        ("graphql-ws", None, None),
        ("PULSEWIRE.JSON", None, None),
        ("pulsewire.json, bearer.a.b-c_d.e", Some(Json), Some("a.b-c_d.e")),
        ("bearer.x,pulsewire.msgpack", Some(MsgPack), Some("x")),
        ("bearer.x", None, Some("x")),
        (", ,pulsewire.json,,", Some(Json), None),
        ("", None, None),
    ] {
        let upgrade = get(&format!("Sec-WebSocket-Protocol: {offer}")).unwrap();
        assert_eq!(upgrade.encoding, encoding, "{offer}");
        assert_eq!(upgrade.bearer.as_ref().map(BearerToken::as_str), bearer, "{offer}");
        let answer = upgrade.response_headers();
        let echoed = answer.get("sec-websocket-protocol").map(|value| value.to_str().unwrap());
        assert_eq!(echoed, encoding.map(Encoding::subprotocol), "{offer}");
    }
    let two_lines =
        get("Sec-WebSocket-Protocol: graphql-ws | +Sec-WebSocket-Protocol: pulsewire.json").unwrap();
    assert_eq!(two_lines.encoding, Some(Json));
}

#[test]
fn a_token_does_not_show_in_debug_output() {
    let upgrade = get("Sec-WebSocket-Protocol: bearer.canary").unwrap();
    assert!(!format!("{upgrade:?}").contains("canary"));
}

#[test]
fn p27_hostile_subprotocol_lists_are_refused() {
    let many = |n: usize| (0..n).map(|i| format!("p{i}")).collect::<Vec<_>>().join(",");
    check(&format!("Sec-WebSocket-Protocol: {}", many(16)), Ok(()));
    check(&format!("Sec-WebSocket-Protocol: {}", many(17)), Err(Refusal::Subprotocols));
    check(&format!("Sec-WebSocket-Protocol: {}", many(4096)), Err(Refusal::Subprotocols));
    check(&format!("Sec-WebSocket-Protocol: a{}b", " ".repeat(65536)), Err(Refusal::Subprotocols));
    check(&format!("Sec-WebSocket-Protocol: {}", ",".repeat(65536)), Ok(()));
    for offer in ["a b", "a/b", "\"a\"", "caf\u{e9}", "bearer.", "bearer.a, bearer.b"] {
        check(&format!("Sec-WebSocket-Protocol: {offer}"), Err(Refusal::Subprotocols));
    }
}

#[test]
fn header_values_that_are_not_text_do_not_panic() {
    for name in [
        "upgrade",
        "connection",
        "sec-websocket-key",
        "sec-websocket-version",
        "sec-websocket-protocol",
        "host",
    ] {
        let mut headers = headers("");
        headers.insert(HeaderName::from_static(name), HeaderValue::from_bytes(b"\xff\xfe,\x80").unwrap());
        let verdict = validate(&Method::GET, Version::HTTP_11, &headers, &OriginPolicy::any());
        assert_eq!(verdict.is_ok(), name == "host", "{name}");
    }
}
