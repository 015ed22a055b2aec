//! Everybody whom Alertmanager tells: it hears, answers as they do, and remembers.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};

use serde_json::Value;

use crate::monitoring::PATIENCE;

/// What was told to whom.
#[derive(Clone)]
pub(crate) struct Told {
    pub(crate) path: String,
    pub(crate) authorization: String,
    pub(crate) body: Value,
}

/// Everybody whom Alertmanager tells: chat, pager and webhooks, by the path.
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    told: Arc<(Mutex<Vec<Told>>, Condvar)>,
}

impl Receiver {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let told: Arc<(Mutex<Vec<Told>>, Condvar)> = Arc::default();
        let shared = told.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let shared = shared.clone();
                std::thread::spawn(move || while hear(&stream, &shared).is_some() {});
            }
        });
        Self { address, told }
    }

    /// Waits until somebody was told something; returns it.
    #[track_caller]
    pub(crate) fn wait_for(&self, what: &str, is_it: impl Fn(&Told) -> bool) -> Told {
        let (told, more) = &*self.told;
        let missing = |told: &mut Vec<Told>| !told.iter().any(&is_it);
        let (told, timeout) = more.wait_timeout_while(told.lock().unwrap(), PATIENCE, missing).unwrap();
        let paths = || told.iter().map(|it| format!("{} {}", it.path, it.body)).collect::<Vec<_>>();
        assert!(!timeout.timed_out(), "waited in vain: {what}; told was {:#?}", paths());
        told.iter().find(|it| is_it(it)).unwrap().clone()
    }

    pub(crate) fn all(&self) -> Vec<Told> {
        self.told.0.lock().unwrap().clone()
    }
}

/// One request, answered as a receiver does; `None` when the peer closes.
fn hear(stream: &std::io::Result<TcpStream>, shared: &(Mutex<Vec<Told>>, Condvar)) -> Option<()> {
    let mut stream = stream.as_ref().ok()?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let path = line.split(' ').nth(1)?.to_owned();
    let (mut length, mut authorization) = (0, String::new());
    while line.trim() != "" {
        line.clear();
        reader.read_line(&mut line).ok()?;
        let (name, value) = line.split_once(':').unwrap_or_default();
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().ok()?;
        } else if name.eq_ignore_ascii_case("authorization") {
            authorization = value.trim().to_owned();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let body = serde_json::from_slice(&body).expect("receivers are told in JSON");
    shared.0.lock().unwrap().push(Told { path, authorization, body });
    shared.1.notify_all();
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").ok()
}
