//! Reads and plays the golden transcripts of the protocol crate (see their README).
//!
//! Server lines are compared byte for byte, but for placeholders. Between two lines of the client the
//! answers to requests may come before or after the messages of channels; each of the two kinds keeps
//! its order.

use std::collections::HashMap;

use serde_json::Value;

use crate::harness::{Frame, Socket};

/// A line of a transcript.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Line {
    /// A new connection to this path.
    Open(String),
    /// The server closes with this code.
    Close(u16),
    /// The client vanishes.
    Drop,
    /// The client sends this.
    Client(String),
    /// The server answers, in any order that keeps that of the answers and that of the messages.
    Server(Vec<String>),
    /// Something happens elsewhere.
    Elsewhere(String),
}

/// The lines of a transcript, server lines that follow each other together.
pub(crate) fn parse(text: &str) -> Vec<Line> {
    let mut lines = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (kind, rest) = line.split_once(' ').unwrap();
        match (kind, rest.split_once(' ')) {
            ("@", Some(("open", path))) => lines.push(Line::Open(path.to_owned())),
            ("@", Some(("close", code))) => lines.push(Line::Close(code.parse().unwrap())),
            ("@", None) if rest == "drop" => lines.push(Line::Drop),
            (">", _) => lines.push(Line::Client(rest.to_owned())),
            ("<", _) => match lines.last_mut() {
                Some(Line::Server(together)) => together.push(rest.to_owned()),
                _ => lines.push(Line::Server(vec![rest.to_owned()])),
            },
            (".", _) => lines.push(Line::Elsewhere(rest.to_owned())),
            _ => panic!("not a line of a transcript: {line}"),
        }
    }
    lines
}

/// What the placeholders with a number stand for, as JSON.
#[derive(Debug, Default)]
pub(crate) struct Bindings(HashMap<String, String>);

impl Bindings {
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.0.insert(name.to_owned(), value.to_owned());
    }

    /// A client line with its placeholders replaced.
    pub(crate) fn fill(&self, line: &str) -> String {
        let mut filled = line.to_owned();
        for (name, value) in &self.0 {
            filled = filled.replace(&format!("\"<{name}>\""), value);
            filled = filled.replace(&format!("<{name}>"), value.trim_matches('"'));
        }
        filled
    }

    /// Whether a server line is what came; binds the placeholders that it meets first.
    pub(crate) fn matches(&mut self, expected: &str, found: &str) -> bool {
        let mut bound = Vec::new();
        let (mut expected, mut found) = (expected, found);
        while let Some(at) = expected.find("\"<") {
            let Some(rest) = found.strip_prefix(&expected[..at]) else { return false };
            let (name, after) = expected[at + 2..].split_once(">\"").unwrap();
            let Some(len) = value_len(rest) else { return false };
            let (value, behind) = rest.split_at(len);
            if !is_a(name.trim_end_matches(|it: char| it.is_ascii_digit()), value) {
                return false;
            }
            if name.ends_with(|it: char| it.is_ascii_digit()) {
                match self.0.get(name) {
                    Some(known) if known != value => return false,
                    _ => bound.push((name.to_owned(), value.to_owned())),
                }
            }
            (expected, found) = (after, behind);
        }
        let same = expected == found;
        if same {
            self.0.extend(bound);
        }
        same
    }
}

/// How long the JSON text or number at the beginning is.
fn value_len(json: &str) -> Option<usize> {
    let mut values = serde_json::Deserializer::from_str(json).into_iter::<Value>();
    values.next()?.ok()?;
    Some(values.byte_offset())
}

fn is_a(placeholder: &str, value: &str) -> bool {
    let parsed: Value = serde_json::from_str(value).unwrap();
    let text = parsed.as_str().unwrap_or_default();
    match placeholder {
        "time" | "number" => parsed.is_f64(),
        "ms" => parsed.as_u64().is_some_and(|ms| ms > 1_500_000_000_000),
        "whole" => parsed.is_u64(),
        "iso" => text.len() >= 20 && text.ends_with('Z') && text.as_bytes()[10] == b'T',
        "session" => text.len() == 26 && text.bytes().all(|byte| byte.is_ascii_alphanumeric()),
        "epoch" => {
            !text.is_empty() && text.len() <= 32 && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
        }
        "ticket" => text.starts_with("pwt1."),
        "help" | "message" => !text.is_empty(),
        _ => panic!("unknown placeholder <{placeholder}>"),
    }
}

/// Whether a message answers a request that does not order it among a channel's messages.
fn is_answer(message: &str) -> bool {
    message.starts_with("{\"type\":\"ack\"") || message.starts_with("{\"type\":\"error\"")
}

/// Reads as many messages as are expected and compares them; heartbeats in between are passed over.
pub(crate) fn expect(socket: &mut Socket, bindings: &mut Bindings, expected: &[String]) {
    let mut missing: Vec<&String> = expected.iter().collect();
    while !missing.is_empty() {
        let Frame { opcode, payload } = socket.message();
        let found = String::from_utf8(payload).unwrap();
        assert_eq!(opcode, 1, "{found}");
        let first_of_kind = missing.iter().position(|line| is_answer(line) == is_answer(&found));
        let matches = first_of_kind.filter(|at| bindings.matches(missing[*at], &found));
        match matches {
            Some(at) => {
                missing.remove(at);
            }
            None if found.starts_with("{\"type\":\"ping\"") => {
                socket.say(&serde_json::json!({"type": "pong", "timestamp": 0.0}));
            }
            None => panic!("expected one of {missing:#?}\nfound {found}\nwith {bindings:?}"),
        }
    }
}
