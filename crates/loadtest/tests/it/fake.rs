//! A server in a few threads, with one fault on request.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use pulsewire_client::handshake::accept_key;
use serde_json::Value;

/// What goes wrong with the event of that sequence, or with everybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    Lose(u64),
    Repeat(u64),
    /// It arrives after the next one.
    Swap(u64),
    /// It is gone, and the server says so.
    Announce(u64),
    Refuse,
    Closed,
}

pub(crate) struct Fake {
    pub(crate) url: String,
}

#[derive(Default)]
struct Log {
    sequences: std::collections::HashMap<String, u64>,
    readers: Vec<(String, TcpStream)>,
    held: String,
}

impl Fake {
    pub(crate) fn start(fault: Fault) -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let log = Arc::new(Mutex::new(Log::default()));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let log = Arc::clone(&log);
                thread::spawn(move || serve(stream.unwrap(), fault, &log));
            }
        });
        Fake { url }
    }
}

fn serve(mut stream: TcpStream, fault: Fault, log: &Mutex<Log>) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    if fault == Fault::Closed {
        return stream.write_all(b"HTTP/1.1 503 Full\r\nContent-Length: 0\r\n\r\n").ok();
    }
    let head = String::from_utf8(head).ok()?;
    let key = head.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: "))?;
    let accept = accept_key(key);
    let answer = format!(
        "HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    stream.write_all(answer.as_bytes()).ok()?;
    loop {
        let message: Value = serde_json::from_str(&read(&mut stream)?).ok()?;
        let mut log = log.lock().unwrap();
        match message["type"].as_str()? {
            "connect" => {
                send(&mut stream, r#"{"type":"connected","id":0,"session":"S"}"#);
                if let Some(channel) = message["data"]["subscribe"]["channels"][0].as_str() {
                    let head = log.sequences.get(channel).copied().unwrap_or(0);
                    send(
                        &mut stream,
                        &format!(
                            r#"{{"type":"subscribed","channels":["{channel}"],"positions":{{"{channel}":{{"epoch":"e","sequence":{head}}}}}}}"#
                        ),
                    );
                    log.readers.push((channel.to_owned(), stream.try_clone().ok()?));
                }
            }
            "publish" if fault == Fault::Refuse => {
                send(
                    &mut stream,
                    r#"{"type":"error","message":"Rate limit exceeded","code":"rate_limited","id":1}"#,
                );
            }
            "publish" => {
                match message["events"].as_array() {
                    Some(events) => events.iter().for_each(|event| log.publish(event, fault)),
                    None => log.publish(&message, fault),
                }
                send(&mut stream, r#"{"type":"ack","id":1}"#);
            }
            _ => {}
        }
    }
}

impl Log {
    fn publish(&mut self, event: &Value, fault: Fault) {
        let channel = event["channel"].as_str().unwrap().to_owned();
        let sequence = self.sequences.entry(channel.clone()).or_default();
        *sequence += 1;
        let sequence = *sequence;
        let text = format!(
            r#"{{"type":"event","channel":"{channel}","sequence":{sequence},"event":"tick","data":{},"timestamp":1}}"#,
            event["data"]
        );
        let mut texts = vec![text.clone()];
        match fault {
            Fault::Lose(at) if at == sequence => texts.clear(),
            Fault::Repeat(at) if at == sequence => texts.push(text),
            Fault::Swap(at) if at == sequence => {
                texts.clear();
                self.held = text;
            }
            Fault::Swap(at) if at + 1 == sequence => texts.push(std::mem::take(&mut self.held)),
            Fault::Announce(at) if at == sequence => {
                texts = vec![format!(
                    r#"{{"type":"gap","channel":"{channel}","from":{at},"to":{at},"reason":"trimmed"}}"#
                )];
            }
            _ => {}
        }
        for (_, reader) in self.readers.iter_mut().filter(|(wanted, _)| *wanted == channel) {
            texts.iter().for_each(|text| send(reader, text));
        }
    }
}

fn send(stream: &mut TcpStream, text: &str) {
    let mut frame = vec![0x81];
    if text.len() < 126 {
        frame.push(text.len() as u8);
    } else {
        frame.push(126);
        frame.extend_from_slice(&(text.len() as u16).to_be_bytes());
    }
    frame.extend_from_slice(text.as_bytes());
    let _ = stream.write_all(&frame);
}

fn read(stream: &mut TcpStream) -> Option<String> {
    let mut head = [0; 2];
    stream.read_exact(&mut head).ok()?;
    let len = match head[1] & 0x7f {
        126 => {
            let mut len = [0; 2];
            stream.read_exact(&mut len).ok()?;
            usize::from(u16::from_be_bytes(len))
        }
        len => usize::from(len),
    };
    let mut mask = [0; 4];
    stream.read_exact(&mut mask).ok()?;
    let mut payload = vec![0; len];
    stream.read_exact(&mut payload).ok()?;
    payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
    String::from_utf8(payload).ok()
}
