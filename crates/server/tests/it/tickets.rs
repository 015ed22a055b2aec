//! Tickets: coming back without a token, at the same node and at another, and what a ticket is no good for.

use pulsewire::Role;
use serde_json::{Value, json};

use crate::child::Process;
use crate::cluster::Cluster;
use crate::database::Database;
use crate::harness::{Answer, Server, Socket, bearer, handshake, until};
use crate::redis::Redis;

/// Says `connect` on a connection that a credential opened: what it is told of its session.
fn connected(socket: &mut Socket) -> Value {
    assert_eq!(socket.json()["type"], "welcome");
    let told = socket.ask(&json!({"type": "connect", "subscribe": ["run:1"]}));
    assert_eq!(told["type"], "connected", "{told}");
    assert_eq!(socket.json()["type"], "subscribed");
    told
}

fn ticket(told: &Value) -> String {
    told["ticket"].as_str().unwrap_or_else(|| panic!("{told}")).to_owned()
}

/// Comes for a session with a credential: what it is told, or how it is refused.
fn come_back(mut socket: Socket, session: &Value, credential: &str) -> Result<(Socket, Value), Answer> {
    let path = format!("/ws?session={}", session.as_str().unwrap());
    socket.send(handshake(&path, &bearer(credential)).as_bytes());
    let head = socket.head();
    if head.status != 101 {
        return Err(head);
    }
    let told = socket.json();
    assert_eq!(told["type"], "connected", "{told}");
    Ok((socket, told))
}

/// The status and code with which a request with this credential is answered.
fn asked(server: &Server, method: &str, path: &str, credential: &str) -> (u16, Value) {
    let headers = format!("{}Content-Type: application/json\r\n", bearer(credential));
    let answer = server.http(method, path, &headers, r#"{"channel":"run:1","type":"note","data":1}"#);
    let code = if answer.status == 200 { Value::Null } else { answer.json()["code"].clone() };
    (answer.status, code)
}

/// A handshake with this credential.
fn knock(server: &Server, credential: &str) -> Socket {
    let mut socket = server.connect();
    socket.send(handshake("/ws", &bearer(credential)).as_bytes());
    socket
}

/// With which status and code a handshake with this credential is refused.
fn refused(server: &Server, credential: &str) -> (u16, Value) {
    let answer = knock(server, credential).try_answer().expect("an answer");
    (answer.status, answer.json()["code"].clone())
}

#[test]
fn a_session_is_resumed_with_a_ticket_which_is_not_exchanged_for_another() {
    let server = Server::start("[session]\nticket_ttl = \"5m\"\n");
    let mut socket = server.open("/ws", &bearer(&server.token("ann", Role::User)));
    let first = connected(&mut socket);
    assert_eq!(first["ticket_ms"], 300_000);
    let ticket = ticket(&first);
    drop(socket);
    for _ in 0..2 {
        let (socket, told) = come_back(server.connect(), &first["session"], &ticket).unwrap();
        assert_eq!((&told["resumed"], &told["user"]), (&json!(true), &json!("ann")), "{told}");
        assert_eq!((&told["session"], &told["expires_at"]), (&first["session"], &first["expires_at"]));
        assert_eq!((&told["ticket"], &told["ticket_ms"]), (&Value::Null, &Value::Null), "{told}");
        drop(socket);
    }
    // In the first message as well.
    let mut socket = server.open("/ws", "");
    let told = socket.ask(&json!({"type": "connect", "token": ticket.as_str(), "session": first["session"]}));
    assert_eq!((&told["type"], &told["resumed"]), (&json!("connected"), &json!(true)), "{told}");
    // A connection that lives goes on with a token only.
    socket.say(&json!({"type": "refresh", "id": 7, "token": ticket.as_str()}));
    loop {
        let told = socket.json();
        if told["id"] == 7 {
            assert_eq!(told["code"], "wrong_credential", "{told}");
            break;
        }
    }
}

#[test]
fn a_ticket_reads_channels_and_does_nothing_else() {
    let server = Server::start("");
    let mut socket = server.open("/ws", &bearer(&server.token("root", Role::Admin)));
    let ticket = ticket(&connected(&mut socket));
    assert_eq!(asked(&server, "GET", "/api/channels/run:1/events", &ticket).0, 200);
    assert_eq!(asked(&server, "GET", "/api/channels/run:1/poll?wait=0", &ticket).0, 200);
    let mut stream = server.connect();
    let request = format!("GET /api/channels/run:1/sse HTTP/1.1\r\nHost: x\r\n{}\r\n", bearer(&ticket));
    stream.send(request.as_bytes());
    assert_eq!(stream.head().status, 200);
    for (method, path) in
        [("POST", "/api/publish"), ("GET", "/api/admin/connections"), ("POST", "/api/admin/revocations")]
    {
        let refused = (401, json!("wrong_credential"));
        assert_eq!(asked(&server, method, path, &ticket), refused, "{path}");
    }
}

#[test]
fn a_revoked_user_has_no_ticket() {
    let server = Server::start("");
    let mut socket = server.open("/ws", &bearer(&server.token("eve", Role::User)));
    let ticket = ticket(&connected(&mut socket));
    assert_eq!(knock(&server, &ticket).head().status, 101);
    let headers = format!("{}Content-Type: application/json\r\n", bearer(&server.token("ops", Role::Admin)));
    let answer = server.http("POST", "/api/admin/revocations", &headers, r#"{"user":"eve"}"#);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(refused(&server, &ticket), (401, json!("invalid_token")));
}

#[test]
fn tickets_that_ended_cost_nothing_and_those_that_were_changed_count_as_attempts() {
    let server = Server::start("[session]\nticket_ttl = \"1ms\"\n[auth]\nattempts_per_minute = 3\n");
    let token = server.token("ann", Role::User);
    let mut socket = server.open("/ws", &bearer(&token));
    let ticket = ticket(&connected(&mut socket));
    until("the ticket has ended", || knock(&server, &ticket).head().status == 401);
    for _ in 0..10 {
        assert_eq!(refused(&server, &ticket), (401, json!("token_expired")));
    }
    let (contents, _) = ticket.rsplit_once('.').unwrap();
    let changed = format!("{contents}.{}", "A".repeat(22));
    for _ in 0..3 {
        assert_eq!(refused(&server, &changed), (401, json!("invalid_token")));
    }
    assert_eq!(refused(&server, &changed), (429, json!("rate_limited")));
}

#[test]
fn tickets_can_be_turned_off() {
    let server = Server::start("[session]\nticket_ttl = \"0s\"\n");
    let told = connected(&mut server.open("/ws", &bearer(&server.token("ann", Role::User))));
    assert_eq!((&told["ticket"], &told["ticket_ms"]), (&Value::Null, &Value::Null), "{told}");
}

/// What a node says to a socket that was just opened with this credential.
fn at(node: &Process, credential: &str) -> (Socket, Value) {
    let mut socket = node.connect();
    socket.send(handshake("/ws", &bearer(credential)).as_bytes());
    assert_eq!(socket.head().status, 101);
    let told = connected(&mut socket);
    (socket, told)
}

#[test]
fn a_session_is_resumed_with_a_ticket_on_another_node() {
    let Some(database) = Database::shared() else { return };
    let Some(redis) = Redis::start() else { return };
    let cluster = Cluster::start(&database.fresh_url(), &redis.url(), 2, "");
    cluster.assemble();
    let (socket, first) = at(&cluster.nodes[0], &cluster.token_of("ann"));
    drop(socket);
    let back = come_back(cluster.nodes[1].connect(), &first["session"], &ticket(&first));
    let (_socket, told) = back.unwrap_or_else(|refused| panic!("{}", refused.text()));
    assert_eq!((&told["resumed"], &told["user"]), (&json!(true), &json!("ann")), "{told}");
}
