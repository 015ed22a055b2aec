//! An admin API that says what it was told to, for what a real server says only now and then.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::Value;

/// Answers each path with a document.
pub(super) struct Fixture {
    pub(super) address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Fixture {
    /// `answers` are the beginnings of paths with what is answered.
    pub(super) fn start(answers: Vec<(&'static str, u16, Value)>) -> Fixture {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (answers, book) = (Arc::new(answers), asked.clone());
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (answers, book) = (answers.clone(), book.clone());
                std::thread::spawn(move || serve(client, &answers, &book));
            }
        });
        Fixture { address, asked }
    }

    /// What was asked: method, path and body.
    pub(super) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn serve(mut client: TcpStream, answers: &[(&str, u16, Value)], asked: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(client.try_clone().unwrap());
    loop {
        let (mut first, mut length) = (String::new(), 0);
        if reader.read_line(&mut first).unwrap_or(0) == 0 {
            return;
        }
        loop {
            let mut header = String::new();
            if reader.read_line(&mut header).unwrap_or(0) == 0 {
                return;
            }
            if header == "\r\n" {
                break;
            }
            if let Some(text) = header.to_ascii_lowercase().strip_prefix("content-length:") {
                length = text.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let mut words = first.split(' ');
        let (method, path) = (words.next().unwrap(), words.next().unwrap());
        asked
            .lock()
            .unwrap()
            .push(format!("{method} {path} {}", String::from_utf8_lossy(&body)).trim().to_owned());
        let answer = answers.iter().find(|(begin, ..)| path.starts_with(begin));
        let (status, document) =
            answer.map_or((404, &Value::Null), |(_, status, document)| (*status, document));
        let text = document.to_string();
        let head = format!("HTTP/1.1 {status} x\r\nContent-Length: {}\r\n\r\n", text.len());
        // Who asked may have gone.
        let _ = client.write_all(format!("{head}{text}").as_bytes());
    }
}
