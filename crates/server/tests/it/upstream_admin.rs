//! The admin endpoints of upstreams: who may, what is refused, what is written down.

use pulsewire::auth::Role;
use serde_json::{Value, json};

use crate::harness::{Answer, Server, bearer};

const UPSTREAMS: &str = "/api/admin/upstreams";
const CLEANUP: &str = "/api/admin/upstreams/cleanup";
const CANARY: &str = "/api/admin/canary";
const ROLLBACK: &str = "/api/admin/canary/rollback";

/// An upstream of the settings that nobody listens to: its stream is never opened.
const DECLARED: &str =
    "[[upstream]]\nname = \"fixed\"\nurls = [\"wss://feed.invalid/ws\"]\nchannel = \"upstream:fixed\"\n";

fn as_role(server: &Server, role: Role, method: &str, path: &str, body: &str) -> Answer {
    let json = if body.is_empty() { "" } else { "Content-Type: application/json\r\n" };
    server.http(method, path, &format!("{}{json}", bearer(&server.token("ops", role))), body)
}

fn ask(server: &Server, method: &str, path: &str, body: &str) -> Answer {
    as_role(server, Role::Operator, method, path, body)
}

#[track_caller]
fn refused(answer: &Answer, status: u16, code: &str, parts: &[&str]) {
    assert_eq!((answer.status, &answer.json()["code"]), (status, &json!(code)), "{}", answer.text());
    let detail = answer.json()["detail"].as_str().unwrap_or_default().to_owned();
    parts.iter().for_each(|part| assert!(detail.contains(part), "`{part}` is not in: {detail}"));
}

fn one(name: &str) -> String {
    format!("{UPSTREAMS}/{name}")
}

/// Whoever only looks on changes nothing, and that is written down.
#[test]
fn upstreams_are_changed_by_operators_alone() {
    let server = Server::start("[auth]\nattempts_per_minute = 0");
    let body = r#"{"urls":["wss://feed.invalid/ws"],"channel":"upstream:x"}"#;
    let restart = one("x/restart");
    let endpoints = [
        ("PUT", one("x"), body),
        ("DELETE", one("x"), ""),
        ("POST", restart, ""),
        ("POST", CLEANUP.to_owned(), ""),
        ("POST", ROLLBACK.to_owned(), ""),
    ];
    for (method, path, body) in &endpoints {
        assert_eq!(server.http(method, path, "", body).status, 401, "{method} {path}");
        for role in [Role::User, Role::Publisher, Role::Viewer] {
            refused(&as_role(&server, role, method, path, body), 401, "wrong_credential", &[]);
        }
    }
    for role in [Role::User, Role::Publisher] {
        refused(&as_role(&server, role, "GET", CANARY, ""), 401, "wrong_credential", &[]);
    }
    assert_eq!(as_role(&server, Role::Viewer, "GET", CANARY, "").status, 200);
    let audit = as_role(&server, Role::Viewer, "GET", "/api/admin/audit", "").json();
    let refusals = audit["rows"].as_array().unwrap().iter().filter(|row| row["outcome"] == "refused");
    assert_eq!(refusals.count(), 3 * endpoints.len(), "{audit}");
}

/// The body is JSON, as pages elsewhere cannot send it, and what is wrong with it is said by its key.
#[test]
fn a_declaration_that_cannot_be_names_its_keys() {
    let server = Server::start("");
    let put = |body: &Value| ask(&server, "PUT", &one("x"), &body.to_string());
    let urls = json!(["wss://feed.invalid/ws"]);
    refused(&put(&json!({})), 400, "bad_request", &["`urls`: every upstream needs one", "`channel`: every"]);
    refused(&put(&json!([])), 400, "bad_request", &[]);
    let wrong = json!({"urls": urls, "channel": "upstream:x", "retry_mni": "1s", "idle": 5});
    refused(
        &put(&wrong),
        400,
        "bad_request",
        &["`idle`: expected a duration", "unknown key `retry_mni`; did you mean `retry_min`?"],
    );
    let file = json!({"urls": urls, "channel": "upstream:x", "secret_file": "/etc/shadow"});
    refused(&put(&file), 400, "bad_request", &["`secret_file`: only the settings file can say it"]);
    let private = json!({"urls": ["ws://127.0.0.1:1/"], "channel": "upstream:x"});
    refused(&put(&private), 400, "bad_request", &["`urls`: `127.0.0.1` is not a public address"]);
    let system = json!({"urls": urls, "channel": "$sys.x"});
    refused(&put(&system), 400, "bad_request", &["`channel`", "the server's own"]);
    let body = json!({"urls": urls, "channel": "upstream:x"}).to_string();
    refused(&ask(&server, "PUT", &one("X.y"), &body), 400, "bad_request", &["`name`: expected 1 to 64"]);
    let plain = format!("{}Content-Type: text/plain\r\n", bearer(&server.token("ops", Role::Operator)));
    refused(&server.http("PUT", &one("x"), &plain, &body), 415, "unsupported_media_type", &[]);
    assert_eq!(ask(&server, "PUT", CLEANUP, &body).status, 405, "a name that is a path of the API");
    let rows = ask(&server, "GET", "/api/admin/audit", "").json()["rows"].clone();
    assert_eq!(rows, json!([]), "nothing was done");
}

#[test]
fn what_the_settings_declare_is_theirs() {
    let server = Server::start(DECLARED);
    let body = r#"{"urls":["wss://feed.invalid/ws"],"channel":"upstream:x"}"#;
    for (method, body) in [("PUT", body), ("DELETE", "")] {
        let answer = ask(&server, method, &one("fixed"), body);
        refused(&answer, 409, "conflict", &["`fixed` is declared in the settings"]);
    }
}

#[test]
fn what_is_not_there_is_not_found() {
    let server = Server::start("");
    refused(&ask(&server, "DELETE", &one("nobody"), ""), 404, "not_found", &["declared by the API"]);
    refused(&ask(&server, "POST", &one("nobody/restart"), ""), 404, "not_found", &["no upstream"]);
    refused(&ask(&server, "POST", ROLLBACK, ""), 409, "conflict", &["features.upstream_manager"]);
}

/// Row 002-32.
#[test]
fn a_cleanup_says_how_many_it_closed_and_is_written_down() {
    let server = Server::start("");
    for (query, target) in [("", "idle for 0 ms"), ("?idle_ms=60000", "idle for 60000 ms")] {
        let answer = ask(&server, "POST", &format!("{CLEANUP}{query}"), "");
        assert_eq!((answer.status, answer.json()), (200, json!({"closed": 0})), "{query}");
        let last = ask(&server, "GET", "/api/admin/audit?limit=1", "").json()["rows"][0].clone();
        let shown = (&last["action"], &last["target"], &last["outcome"], &last["detail"]);
        assert_eq!(
            shown,
            (&json!("cleanup_upstreams"), &json!(target), &json!("done"), &json!("0 streams closed"))
        );
    }
    for wrong in ["?idle_ms=-1", "?idle_ms=soon", "?idle_ms=604800001", "?idle=1"] {
        refused(&ask(&server, "POST", &format!("{CLEANUP}{wrong}"), ""), 400, "bad_request", &["idle_ms"]);
    }
}
