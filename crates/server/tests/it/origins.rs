//! Pages of other origins: what they may use over HTTP, and what their browsers are told.

use pulsewire::auth::Role;
use serde_json::json;

use crate::harness::{Answer, Server, bearer};

const ALLOWED: &str = "[origins]\nallowed = [\"https://app.example\"]\n";
const APP: &str = "Origin: https://app.example\r\n";
const EVIL: &str = "Origin: https://evil.example\r\n";
const EVENT: &str = r#"{"channel":"run:1","type":"note","data":1}"#;

/// What a page uses: its method, its path and a body that is accepted.
const PATHS: [(&str, &str, &str); 11] = [
    ("GET", "/api/channels/run:1/events", ""),
    ("GET", "/api/channels/agent.metrics/history", ""),
    ("GET", "/api/channels/run:1/poll", ""),
    ("GET", "/api/channels/run:1/sse", ""),
    ("GET", "/api/channels/run:1/state", ""),
    ("GET", "/api/channels/run:1/presence", ""),
    ("GET", "/api/runs/1/collaboration/poll", ""),
    ("GET", "/api/runs/1/collaboration/replay", ""),
    ("POST", "/api/publish", EVENT),
    ("POST", "/api/channels/run:1/events", r#"{"type":"note","data":1}"#),
    ("POST", "/api/metrics/samples", r#"{"channel":"agent.metrics","name":"load","value":1}"#),
];

/// Sends a request and reads the head of its answer; a stream has no end.
fn head(server: &Server, method: &str, path: &str, headers: &str, body: &str) -> Answer {
    let mut socket = server.connect();
    let len = body.len();
    let head =
        format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len}\r\n{headers}\r\n");
    socket.send(format!("{head}{body}").as_bytes());
    socket.head()
}

fn allowed_origin(answer: &Answer) -> Option<&str> {
    answer.headers.get("access-control-allow-origin").map(String::as_str)
}

#[test]
fn a_page_of_an_allowed_origin_may_use_every_path_and_is_told_so_before() {
    let server = Server::start(ALLOWED);
    let auth = bearer(&server.token("ann", Role::Admin));
    for (method, path, body) in PATHS {
        let ask = format!(
            "{APP}Access-Control-Request-Method: {method}\r\nAccess-Control-Request-Headers: authorization,content-type\r\n"
        );
        let asked = head(&server, "OPTIONS", path, &ask, "");
        assert_eq!((asked.status, allowed_origin(&asked)), (204, Some("https://app.example")), "{path}");
        let methods: Vec<_> = asked.headers["access-control-allow-methods"].split(", ").collect();
        assert!(methods.contains(&method), "{path}: {methods:?}");
        assert_eq!(
            asked.headers["access-control-allow-headers"], "authorization, content-type, last-event-id",
            "{path}"
        );
        let headers = format!("{auth}{APP}Content-Type: application/json\r\n");
        let answer = head(&server, method, path, &headers, body);
        assert_eq!((answer.status, allowed_origin(&answer)), (200, Some("https://app.example")), "{path}");
        assert_eq!(answer.headers["access-control-expose-headers"], "Retry-After", "{path}");
        assert_eq!(answer.headers["vary"], "Origin", "{path}");
    }
}

#[test]
fn a_page_of_an_allowed_origin_can_read_why_it_is_refused() {
    let server = Server::start(&format!("{ALLOWED}[auth]\nattempts_per_minute = 30\n"));
    for (method, path, body) in PATHS {
        for (headers, status) in [(APP.to_owned(), 401), (format!("{APP}{}", bearer("garbage")), 401)] {
            let answer = head(&server, method, path, &headers, body);
            assert_eq!(
                (answer.status, allowed_origin(&answer)),
                (status, Some("https://app.example")),
                "{path}"
            );
            assert_eq!(answer.headers["content-type"], "application/problem+json", "{path}");
        }
    }
    let headers = format!("{APP}{}", bearer("garbage"));
    let mut answer = head(&server, "POST", "/api/publish", &headers, EVENT);
    for _ in 0..30 {
        answer = head(&server, "POST", "/api/publish", &headers, EVENT);
    }
    assert_eq!((answer.status, allowed_origin(&answer)), (429, Some("https://app.example")));
    assert!(answer.headers["retry-after"].parse::<u64>().unwrap() > 0);
    assert_eq!(answer.headers["access-control-expose-headers"], "Retry-After");
}

#[test]
fn a_page_of_another_origin_is_told_nothing_and_changes_nothing() {
    let server = Server::start(ALLOWED);
    let auth = bearer(&server.token("ann", Role::Admin));
    for (method, path, body) in PATHS {
        let asked = head(&server, "OPTIONS", path, EVIL, "");
        assert_eq!(allowed_origin(&asked), None, "{path}");
        assert!(!asked.headers.contains_key("access-control-allow-methods"), "{path}");
        let answer = head(&server, method, path, &format!("{auth}{EVIL}"), body);
        assert_eq!((answer.status, allowed_origin(&answer)), (403, None), "{path}");
    }
    assert_eq!(server.metric("websocket_auth_failures_total{reason=\"origin\"}"), PATHS.len() as f64);
    let page = server.http("GET", "/api/channels/run:1/events", &auth, "");
    assert_eq!(page.json()["events"], json!([]), "nothing was published");
}

#[test]
fn the_servers_own_pages_and_programs_publish_without_being_listed() {
    let server = Server::start(&format!("{ALLOWED}allow_missing = false\n"));
    let auth = bearer(&server.token("ann", Role::Admin));
    let elsewhere = "Origin: https://behind.a.proxy.example\r\nSec-Fetch-Site: same-origin\r\n";
    for headers in ["", elsewhere] {
        let answer = head(&server, "POST", "/api/publish", &format!("{auth}{headers}"), EVENT);
        assert_eq!((answer.status, allowed_origin(&answer)), (200, None), "{headers:?}");
    }
}

#[test]
fn where_any_origin_is_allowed_every_page_is_told_its_own() {
    let server = Server::start("[origins]\nallowed = [\"*\"]\n");
    let auth = bearer(&server.token("ann", Role::Admin));
    for origin in ["http://127.0.0.1:5173", "https://evil.example", "null"] {
        let headers = format!("{auth}Origin: {origin}\r\n");
        let answer = head(&server, "POST", "/api/publish", &headers, EVENT);
        assert_eq!((answer.status, allowed_origin(&answer)), (200, Some(origin)));
        let asked = head(&server, "OPTIONS", "/api/publish", &headers, "");
        assert_eq!((asked.status, allowed_origin(&asked)), (204, Some(origin)));
    }
}
