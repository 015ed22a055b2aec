//! Presence and cursors over real connections (R54 to R59 of docs/protocol.md).
//!
//! A [`Watcher`] does what the protocol page asks of a client: it takes a snapshot, applies every change to it,
//! and fails if a version is missing. Spans are either so short that waiting for what they bring is nothing, or
//! so long that what they bring cannot come.

use std::collections::BTreeMap;
use std::time::Duration;

use pulsewire::auth::{Action, Actions, Role};
use serde_json::{Value, json};

use crate::harness::{Server, Socket, handshake, until};

/// A server whose `run:*` has presence with these settings.
fn server(presence: &str) -> Server {
    server_with(presence, "")
}

fn server_with(presence: &str, more: &str) -> Server {
    let run = "[[namespace]]\nname = \"run\"\npattern = \"run:*\"\nkind = \"log\"\npresence = true\n";
    Server::start(&format!("{more}{run}{presence}"))
}

/// A connection that has subscribed to `run:1` with this presence and has not read on.
fn subscribed(server: &Server, user: &str, presence: &Value) -> Socket {
    let mut socket = server.welcomed(user);
    subscribe(&mut socket, presence);
    socket
}

fn subscribe(socket: &mut Socket, presence: &Value) {
    let channels = json!([{"channel": "run:1", "presence": presence}]);
    assert_eq!(socket.ask(&json!({"type": "subscribe", "channels": channels}))["type"], "subscribed");
}

fn member(server: &Server, user: &str) -> Socket {
    subscribed(server, user, &json!(true))
}

fn place(socket: &mut Socket, cursor: &Value) {
    socket.say(&json!({"type": "presence", "channel": "run:1", "cursor": cursor}));
}

/// A client that only watches, and keeps what it was told.
struct Watcher {
    socket: Socket,
    version: Option<(String, u64)>,
    members: BTreeMap<String, Value>,
    joined: usize,
    left: usize,
    cursors: usize,
    snapshots: usize,
}

impl Watcher {
    fn new(server: &Server) -> Self {
        let mut watcher = Self::on(subscribed(server, "watcher", &json!("watch")));
        watcher.hear();
        assert_eq!(watcher.snapshots, 1, "the first telling says who is there");
        watcher
    }

    fn on(socket: Socket) -> Self {
        let members = BTreeMap::new();
        Self { socket, version: None, members, joined: 0, left: 0, cursors: 0, snapshots: 0 }
    }

    /// Takes one telling.
    fn hear(&mut self) {
        let told = self.socket.json();
        self.take(&told);
    }

    fn take(&mut self, told: &Value) {
        assert_eq!((&told["type"], &told["channel"]), (&json!("presence"), &json!("run:1")), "{told}");
        let node = told["node"].as_str().unwrap().to_owned();
        let version = told["version"].as_u64().unwrap();
        let user = |member: &Value| member["user"].as_str().unwrap().to_owned();
        if let Some(members) = told["members"].as_array() {
            self.snapshots += 1;
            self.members = members.iter().map(|member| (user(member), member.clone())).collect();
        } else {
            let known = self.version.take().expect("a snapshot comes first");
            assert_eq!((&node, version), (&known.0, known.1 + 1), "a version is missing: {told}");
            for gone in told["left"].as_array().into_iter().flatten() {
                self.left += 1;
                assert!(self.members.remove(gone.as_str().unwrap()).is_some(), "{told}");
            }
            for member in told["joined"].as_array().into_iter().flatten() {
                self.joined += 1;
                assert!(self.members.insert(user(member), member.clone()).is_none(), "{told}");
            }
            for (user, sessions) in told["sessions"].as_object().into_iter().flatten() {
                self.members.get_mut(user).unwrap()["sessions"] = sessions.clone();
            }
            for (user, cursor) in told["cursors"].as_object().into_iter().flatten() {
                self.cursors += 1;
                let member = self.members.get_mut(user).unwrap().as_object_mut().unwrap();
                match cursor {
                    Value::Null => member.remove("cursor"),
                    cursor => member.insert("cursor".to_owned(), cursor.clone()),
                };
            }
        }
        self.version = Some((node, version));
    }

    /// Hears until it knows of this: each user with the number of its sessions.
    fn until(&mut self, expected: &[(&str, u64)]) {
        while self.known() != expected {
            self.hear();
        }
    }

    fn known(&self) -> Vec<(&str, u64)> {
        let sessions = |member: &Value| member["sessions"].as_u64().unwrap();
        self.members.iter().map(|(user, member)| (user.as_str(), sessions(member))).collect()
    }

    /// Hears everything that has been told up to now.
    fn hear_all(&mut self) {
        for told in self.socket.flush(b"all") {
            self.take(&told);
        }
    }

    /// Whether what it knows is what the server says over HTTP, version included.
    fn agrees(&mut self, server: &Server) -> bool {
        self.hear_all();
        let page = page(server);
        let members: Vec<Value> = self.members.values().cloned().collect();
        let version = self.version.as_ref().map(|(node, version)| (json!(node), json!(version)));
        page["members"] == json!(members) && version == Some((page["node"].clone(), page["version"].clone()))
    }
}

/// What `GET /api/channels/run:1/presence` says.
fn page(server: &Server) -> Value {
    let headers = format!("Authorization: Bearer {}\r\n", server.token("reader", Role::User));
    let answer = server.http("GET", "/api/channels/run:1/presence", &headers, "");
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

fn members_of(page: &Value) -> Vec<(String, u64)> {
    let of =
        |member: &Value| (member["user"].as_str().unwrap().to_owned(), member["sessions"].as_u64().unwrap());
    page["members"].as_array().unwrap().iter().map(of).collect()
}

#[test]
fn a_member_sees_itself_and_a_watcher_sees_members_only() {
    let server = server("");
    let mut ada = member(&server, "ada");
    let told = ada.json();
    assert_eq!((&told["members"][0]["user"], &told["members"][0]["sessions"]), (&json!("ada"), &json!(1)));
    let mut watcher = Watcher::new(&server);
    watcher.until(&[("ada", 1)]);
    let _bob = member(&server, "bob");
    watcher.until(&[("ada", 1), ("bob", 1)]);
    assert_eq!((watcher.joined, watcher.left), (1, 0));
    assert_eq!(ada.json()["joined"][0]["user"], "bob");
    until("the page says what the watcher knows", || watcher.agrees(&server));
    assert_eq!(server.metric("pulsewire_presence_members"), 2.0);
    assert_eq!(server.metric("pulsewire_presence_channels"), 1.0);
    assert_eq!(server.metric("pulsewire_presence_events_total{event=\"joined\"}"), 2.0);
}

#[test]
fn the_sessions_of_a_user_are_one_member() {
    let server = server("presence_interval = \"10ms\"");
    let mut watcher = Watcher::new(&server);
    let mut first = member(&server, "ada");
    watcher.until(&[("ada", 1)]);
    let mut second = member(&server, "ada");
    watcher.until(&[("ada", 2)]);
    place(&mut second, &json!(7));
    while watcher.members["ada"]["cursor"] != 7 {
        watcher.hear();
    }
    // The cursor goes with the session that put it there; the member stays.
    second.frame(0x88, &1000_u16.to_be_bytes());
    watcher.until(&[("ada", 1)]);
    assert_eq!(watcher.members["ada"].get("cursor"), None);
    first.frame(0x88, &1000_u16.to_be_bytes());
    watcher.until(&[]);
    assert_eq!((watcher.joined, watcher.left), (1, 1));
}

#[test]
fn cursors_that_change_faster_than_they_are_told_are_merged() {
    let server = server("presence_interval = \"1m\"");
    let mut watcher = Watcher::new(&server);
    let mut ada = member(&server, "ada");
    for column in 0..50 {
        place(&mut ada, &json!({ "column": column }));
    }
    until("the last cursor stands", || page(&server)["members"][0]["cursor"] == json!({"column": 49}));
    assert_eq!(
        watcher.socket.flush(b"now"),
        Vec::<Value>::new(),
        "nothing is told before the interval is over"
    );
    assert_eq!(server.metric("pulsewire_presence_dropped_total{cause=\"conflated\"}"), 49.0);
}

#[test]
fn every_cursor_is_told_or_counted_as_merged() {
    let server = server_with("presence_interval = \"10ms\"", "[limits]\nmessages_per_minute = 1000000\n");
    let mut watcher = Watcher::new(&server);
    let mut ada = member(&server, "ada");
    watcher.until(&[("ada", 1)]);
    for line in 1..=300 {
        place(&mut ada, &json!(line));
    }
    while watcher.members["ada"]["cursor"] != 300 {
        watcher.hear();
    }
    let merged = server.metric("pulsewire_presence_dropped_total{cause=\"conflated\"}");
    assert_eq!(watcher.cursors as f64 + merged, 300.0);
    place(&mut ada, &Value::Null);
    while watcher.members["ada"].get("cursor").is_some() {
        watcher.hear();
    }
    until("the page says what the watcher knows", || watcher.agrees(&server));
}

/// The grace is far longer than the test: whoever is told to be gone has not waited for it.
#[test]
fn a_clean_leave_is_told_at_once() {
    let server = server("presence_grace = \"10m\"\npresence_interval = \"10ms\"");
    let mut watcher = Watcher::new(&server);
    let leave = |watcher: &mut Watcher, how: &dyn Fn(&mut Socket)| {
        let mut ada = member(&server, "ada");
        watcher.until(&[("ada", 1)]);
        how(&mut ada);
        watcher.until(&[]);
        ada
    };
    leave(&mut watcher, &|ada| ada.say(&json!({"type": "unsubscribe", "channels": ["run:1"]})));
    leave(&mut watcher, &|ada| ada.say(&json!({"type": "subscribe", "channels": ["run:1"]})));
    leave(&mut watcher, &|ada| subscribe_to_watch(ada));
    leave(&mut watcher, &|ada| ada.frame(0x88, &1000_u16.to_be_bytes()));
    leave(&mut watcher, &|_| {
        let token = server.token("root", Role::Admin);
        let headers = format!("Authorization: Bearer {token}\r\nContent-Type: application/json\r\n");
        let answer = server.http("POST", "/api/admin/websocket/disconnect", &headers, r#"{"user":"ada"}"#);
        assert_eq!(answer.status, 200, "{}", answer.text());
    });
    assert_eq!((watcher.joined, watcher.left), (5, 5));
}

fn subscribe_to_watch(socket: &mut Socket) {
    socket.say(&json!({"type": "subscribe", "channels": [{"channel": "run:1", "presence": "watch"}]}));
}

#[test]
fn a_connection_that_breaks_keeps_its_member_for_the_grace() {
    let server = server("presence_grace = \"10m\"\npresence_interval = \"10ms\"");
    let mut watcher = Watcher::new(&server);
    let (mut ada, session) = member_with_session(&server, "ada");
    watcher.until(&[("ada", 1)]);
    place(&mut ada, &json!(1));
    while watcher.members["ada"].get("cursor").is_none() {
        watcher.hear();
    }
    ada.reset();
    server.wait_metric("websocket_active_connections", 1.0);
    // Back with its session, which is a member again without a word.
    let mut ada = resumed(&server, "ada", &session);
    assert_eq!(ada.json()["type"], "replay_end", "there was nothing to read again");
    let told = ada.json();
    assert_eq!(told["members"], json!(watcher.members.values().collect::<Vec<_>>()), "and sees what it saw");
    until("the page says what the watcher knows", || watcher.agrees(&server));
    assert_eq!((watcher.joined, watcher.left, watcher.cursors), (1, 0, 1));
}

/// A member and its session.
fn member_with_session(server: &Server, user: &str) -> (Socket, String) {
    let headers = format!("Authorization: Bearer {}\r\n", server.token(user, Role::User));
    let mut socket = server.open("/ws", &headers);
    let session = socket.json()["client_id"].as_str().unwrap().to_owned();
    subscribe(&mut socket, &json!(true));
    (socket, session)
}

/// The member comes back with its session.
fn resumed(server: &Server, user: &str, session: &str) -> Socket {
    let headers = format!("Authorization: Bearer {}\r\n", server.token(user, Role::User));
    let mut socket = server.open(&format!("/ws?session={session}"), &headers);
    assert_eq!(socket.json()["resumed"], true);
    assert_eq!(socket.json()["type"], "subscribed");
    socket
}

#[test]
fn a_member_who_does_not_come_back_has_left_when_the_grace_is_over() {
    let server = server("presence_grace = \"100ms\"\npresence_interval = \"10ms\"");
    let mut watcher = Watcher::new(&server);
    let (ada, session) = member_with_session(&server, "ada");
    watcher.until(&[("ada", 1)]);
    ada.reset();
    watcher.until(&[]);
    // Its session can still be resumed, and takes part again.
    let _ada = resumed(&server, "ada", &session);
    watcher.until(&[("ada", 1)]);
    assert_eq!((watcher.joined, watcher.left), (2, 1));
}

/// Whoever comes back within the grace is no news, with the old session or with a new one.
#[test]
fn two_hundred_members_who_reconnect_are_no_news() {
    const USERS: usize = 200;
    let server = server("presence_grace = \"10m\"\npresence_interval = \"10ms\"");
    let mut watcher = Watcher::new(&server);
    let users: Vec<String> = (0..USERS).map(|number| format!("user-{number:03}")).collect();
    let sockets: Vec<(Socket, String)> =
        users.iter().map(|user| member_with_session(&server, user)).collect();
    let everybody: Vec<(&str, u64)> = users.iter().map(|user| (user.as_str(), 1)).collect();
    watcher.until(&everybody);
    until("all is told", || watcher.agrees(&server));
    let version = watcher.version.clone();
    let (joined, left) = (watcher.joined, watcher.left);
    assert_eq!((joined, left), (USERS, 0));
    let sessions: Vec<String> = sockets
        .into_iter()
        .map(|(socket, session)| {
            socket.reset();
            session
        })
        .collect();
    server.wait_metric("websocket_active_connections", 1.0);
    let back = |(number, user): (usize, &String)| match number % 2 {
        0 => member(&server, user),
        _ => resumed(&server, user, &sessions[number]),
    };
    let sockets: Vec<Socket> = users.iter().enumerate().map(back).collect();
    until("everybody is back", || server.metric("websocket_active_connections") == (USERS + 1) as f64);
    until("the watcher knows", || watcher.agrees(&server));
    assert_eq!(watcher.known(), everybody);
    assert_eq!((watcher.joined, watcher.left, watcher.version), (joined, left, version), "nothing was told");
    drop(sockets);
}

#[test]
fn a_token_without_the_capability_neither_sees_nor_is_seen() {
    let server = server("");
    let actions = Actions::NONE.with(Action::Subscribe).with(Action::History);
    let token = server.token_for("eve", Role::User, Duration::from_secs(60), &["*"], actions);
    let headers = format!("Authorization: Bearer {token}\r\n");
    let mut eve = server.open("/ws", &headers);
    assert_eq!(eve.json()["type"], "welcome");
    for presence in [json!(true), json!("watch")] {
        let channels = json!([{"channel": "run:1", "presence": presence}]);
        let refused = eve.ask(&json!({"type": "subscribe", "id": 1, "channels": channels}));
        assert_eq!((&refused["code"], &refused["id"]), (&json!("forbidden"), &json!(1)), "{refused}");
    }
    assert_eq!(eve.ask(&json!({"type": "subscribe", "channels": ["run:1"]}))["type"], "subscribed");
    let refused = eve.ask(&json!({"type": "presence", "channel": "run:1", "cursor": 1}));
    assert_eq!(refused["code"], "not_subscribed");
    assert_eq!(server.http("GET", "/api/channels/run:1/presence", &headers, "").status, 403);
    assert_eq!(server.get("/api/channels/run:1/presence").status, 401);
    assert_eq!(members_of(&page(&server)), []);
}

#[test]
fn a_user_is_who_its_token_says_and_nobody_else() {
    let server = server("");
    let mut eve = server.welcomed("eve");
    let channels = json!([{"channel": "run:1", "presence": true, "user": "ada"}]);
    assert_eq!(eve.ask(&json!({"type": "subscribe", "channels": channels}))["code"], "bad_request");
    subscribe(&mut eve, &json!(true));
    eve.say(&json!({"type": "presence", "channel": "run:1", "user": "ada", "cursor": 1}));
    until("the cursor stands", || page(&server)["members"][0]["cursor"] == 1);
    assert_eq!(members_of(&page(&server)), [("eve".to_owned(), 1)]);
}

#[test]
fn what_is_too_much_is_refused_and_counted() {
    let server = server("presence_members_max = 2\npresence_cursor_max = \"16B\"");
    let mut ada = member(&server, "ada");
    assert_eq!(ada.json()["type"], "presence");
    let long = json!({"type": "presence", "id": 1, "channel": "run:1", "cursor": "x".repeat(17)});
    assert_eq!(ada.ask(&long)["code"], "too_large");
    let _bob = member(&server, "bob");
    let mut cyd = server.welcomed("cyd");
    let channels = json!(["run:2", {"channel": "run:1", "presence": true}]);
    let refused = cyd.ask(&json!({"type": "subscribe", "id": 2, "channels": channels}));
    assert_eq!(refused["code"], "limit_exceeded", "{refused}");
    let none = cyd.ask(&json!({"type": "unsubscribe", "channels": ["run:2"]}));
    assert_eq!(none["code"], "not_subscribed", "all of it was refused");
    let mut watcher = Watcher::new(&server);
    let place = json!({"type": "presence", "id": 3, "channel": "run:1", "cursor": 1});
    assert_eq!(watcher.socket.ask(&place)["code"], "forbidden", "a watcher has no cursor");
    let dropped =
        |cause: &str| server.metric(&format!("pulsewire_presence_dropped_total{{cause=\"{cause}\"}}"));
    assert_eq!((dropped("members_max"), dropped("cursor_bytes_max")), (1.0, 1.0));
}

#[test]
fn a_snapshot_comes_to_whoever_asks_with_the_id_of_the_question() {
    let server = server("presence_interval = \"10ms\"");
    let _ada = member(&server, "ada");
    let mut watcher = Watcher::new(&server);
    watcher.until(&[("ada", 1)]);
    let told = watcher.socket.ask(&json!({"type": "presence", "id": "q", "channel": "run:1"}));
    assert_eq!((&told["id"], &told["members"][0]["user"]), (&json!("q"), &json!("ada")));
    watcher.take(&told);
    let _bob = member(&server, "bob");
    watcher.until(&[("ada", 1), ("bob", 1)]);
}

/// Its kernel takes little and it does not read: what it is told is bounded, and in the end it knows who is there.
#[test]
fn a_watcher_who_does_not_read_is_told_who_is_there_instead_of_everything_it_missed() {
    let limits = "[limits]\noutbox_bytes_max = \"16KiB\"\nkernel_unsent_bytes = \"4KiB\"\nmessages_per_minute = 1000000\ncontrol_frames_per_second = 10000\n";
    let server = server_with("presence_interval = \"10ms\"", limits);
    let mut socket = Socket::connect_small(server.address);
    let token = server.token("slow", Role::User);
    socket.send(handshake("/ws", &format!("Authorization: Bearer {token}\r\n")).as_bytes());
    assert_eq!(socket.head().status, 101);
    assert_eq!(socket.json()["type"], "welcome");
    subscribe(&mut socket, &json!("watch"));
    let mut slow = Watcher::on(socket);
    slow.hear();
    let mut fast = Watcher::new(&server);
    let mut members: Vec<Socket> =
        (0..20).map(|number| member(&server, &format!("user-{number:02}"))).collect();
    let lagging = "pulsewire_presence_dropped_total{cause=\"lagging\"}";
    let mut round = 0;
    until("the slow watcher lags", || {
        round += 1;
        for member in &mut members {
            place(member, &json!({"round": round, "pad": "x".repeat(900)}));
            // Members read: only the watcher is slow.
            member.flush(b"read");
        }
        fast.hear_all();
        server.metric(lagging) >= 10.0
    });
    let queued = server.metric("websocket_outbound_queue_bytes");
    assert!(queued <= 2.0 * 16_384.0, "{queued} bytes wait");
    members.iter_mut().for_each(|member| place(member, &json!("last")));
    let last = |watcher: &Watcher| watcher.members.values().filter(|it| it["cursor"] == "last").count();
    while last(&slow) < 20 {
        slow.hear();
    }
    while last(&fast) < 20 {
        fast.hear();
    }
    assert_eq!(slow.members, fast.members);
    assert!(slow.snapshots >= 2 && fast.snapshots == 1, "{} and {}", slow.snapshots, fast.snapshots);
}

/// The connection stands, and nothing comes from it, not even the pongs that are asked for.
#[test]
fn a_member_who_shows_no_sign_of_life_has_left_until_it_does() {
    let server = server("presence_ttl = \"1s\"\npresence_interval = \"10ms\"");
    let mut watcher = Watcher::new(&server);
    let mut ada = member(&server, "ada");
    watcher.until(&[("ada", 1)]);
    watcher.until(&[]);
    place(&mut ada, &json!(5));
    while watcher.members.get("ada").is_none_or(|ada| ada["cursor"] != 5) {
        watcher.hear();
    }
    assert_eq!(server.metric("websocket_active_connections"), 2.0, "the connection was never closed");
}

#[test]
fn a_channel_without_presence_says_so() {
    let server = server("");
    let mut ada = server.welcomed("ada");
    let channels = json!([{"channel": "project:1", "presence": true}]);
    assert_eq!(ada.ask(&json!({"type": "subscribe", "channels": channels}))["code"], "unsupported");
    let headers = format!("Authorization: Bearer {}\r\n", server.token("ada", Role::User));
    let status = |path: &str| server.http("GET", path, &headers, "").status;
    assert_eq!(status("/api/channels/project:1/presence"), 400);
    assert_eq!(status("/api/channels/nowhere/presence"), 404);
}

/// Document 003's poll shows what a subscriber's snapshot says.
#[test]
fn a_client_that_polls_sees_who_is_there_and_where_they_point() {
    let server = server("");
    let mut ada = member(&server, "ada");
    let _bob = member(&server, "bob");
    place(&mut ada, &json!({"x": 1}));
    let headers = format!("Authorization: Bearer {}\r\n", server.token("carl", Role::User));
    let mut shown = Value::Null;
    until("the cursor is shown", || {
        let answer = server.http("GET", "/api/runs/1/collaboration/poll?afterSequence=0", &headers, "");
        shown = answer.json();
        shown["cursorPositions"]["ada"].is_object()
    });
    assert_eq!(shown["activeUsers"], json!(["ada", "bob"]));
    assert_eq!(shown["cursorPositions"], json!({"ada": {"x": 1}}));
}
