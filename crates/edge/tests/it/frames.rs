//! A client's bytes, and what the decoder makes of them, as text a table can hold.

use std::ops::ControlFlow;

use pulsewire_edge::codec::{ControlBudget, Decoder, Inbound, Limits, Violation};

pub(crate) const CONT: u8 = 0x0;
pub(crate) const TEXT: u8 = 0x1;
pub(crate) const BINARY: u8 = 0x2;
pub(crate) const CLOSE: u8 = 0x8;
pub(crate) const PING: u8 = 0x9;
pub(crate) const PONG: u8 = 0xa;
pub(crate) const FIN: u8 = 0x80;

const KEY: [u8; 4] = [0xa1, 0x5c, 0x03, 0xf7];

/// A masked frame with the shortest length; `first` is the whole first byte.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let length = match payload.len() {
        len @ 0..=125 => vec![0x80 | len as u8],
        len @ 126..=0xffff => [&[0x80 | 126][..], &(len as u16).to_be_bytes()].concat(),
        len => [&[0x80 | 127][..], &(len as u64).to_be_bytes()].concat(),
    };
    frame_with_length(first, &length, payload)
}

/// A masked frame whose second byte and extended length are given.
pub(crate) fn frame_with_length(first: u8, length: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    bytes.extend_from_slice(length);
    bytes.extend_from_slice(&KEY);
    bytes.extend(payload.iter().zip(KEY.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

pub(crate) fn text(payload: &str) -> Vec<u8> {
    frame(FIN | TEXT, payload.as_bytes())
}

pub(crate) fn binary(payload: &[u8]) -> Vec<u8> {
    frame(FIN | BINARY, payload)
}

pub(crate) fn close(code: u16, reason: &[u8]) -> Vec<u8> {
    frame(FIN | CLOSE, &[&code.to_be_bytes()[..], reason].concat())
}

/// A message cut into `parts`, each its own frame.
pub(crate) fn fragments(opcode: u8, parts: &[&[u8]]) -> Vec<u8> {
    let last = parts.len() - 1;
    let one = |(index, part): (usize, &&[u8])| {
        let opcode = if index == 0 { opcode } else { CONT };
        frame(if index == last { FIN | opcode } else { opcode }, part)
    };
    parts.iter().enumerate().flat_map(one).collect()
}

/// Enough control frames for any table; the budget has tests of its own.
pub(crate) const LIMITS: Limits = Limits {
    message_bytes_max: 64 * 1024,
    fragments_max: 1024,
    control_frames_per_second: 1_000_000,
    hundred_fragments_bytes_min: 1024,
};

/// One connection under test: a decoder, its budget and everything it delivered.
#[derive(Default)]
pub(crate) struct Client {
    pub(crate) decoder: Decoder,
    pub(crate) budget: ControlBudget,
    pub(crate) delivered: Vec<String>,
    pub(crate) closed: bool,
}

impl Client {
    pub(crate) fn send(&mut self, bytes: &[u8], limits: &Limits, now_ms: u64) -> Result<(), Violation> {
        let Self { decoder, budget, delivered, closed } = self;
        decoder.decode(&mut bytes.to_vec(), limits, now_ms, budget, &mut |inbound| {
            *closed |= matches!(inbound, Inbound::Close { .. });
            delivered.push(describe(inbound));
            ControlFlow::Continue(())
        })
    }
}

fn describe(inbound: Inbound<'_>) -> String {
    match inbound {
        Inbound::Text(text) if text.len() > 64 => format!("text of {}", text.len()),
        Inbound::Text(text) => format!("text {text}"),
        Inbound::Binary(bytes) if bytes.len() > 64 => format!("binary of {}", bytes.len()),
        Inbound::Binary(bytes) => format!("binary {bytes:02x?}"),
        Inbound::Ping(bytes) => format!("ping {}", String::from_utf8_lossy(bytes)),
        Inbound::Pong(bytes) => format!("pong {}", String::from_utf8_lossy(bytes)),
        Inbound::Close { code: None, .. } => "close".to_owned(),
        Inbound::Close { code: Some(code), reason } => format!("close {code} {reason}"),
    }
}

/// What a client that sends `bytes` in reads of `chunk` bytes gets delivered, and the close code of its
/// violation if there is one, joined by ` | `.
pub(crate) fn outcome(bytes: &[u8], chunk: usize) -> String {
    let mut client = Client::default();
    for read in bytes.chunks(chunk) {
        if client.closed {
            break;
        }
        if let Err(violation) = client.send(read, &LIMITS, 0) {
            client.delivered.push(format!("refused {}", violation.close.code()));
            assert_eq!(client.decoder.held_bytes(), 0, "a refused connection holds nothing");
            break;
        }
    }
    client.delivered.join(" | ")
}

/// Proves that `bytes` lead to `expected` however they are read.
#[track_caller]
pub(crate) fn check(bytes: &[u8], expected: &str) {
    let usual = [1, 2, 3, 7, 997, 1460, 64 * 1024, usize::MAX];
    for chunk in usual.into_iter().filter(|&chunk| chunk > 3 || bytes.len() < 4096) {
        let got = outcome(bytes, chunk);
        assert_eq!(got.trim_end(), expected, "in reads of {chunk}: {:02x?}", &bytes[..bytes.len().min(80)]);
    }
}
