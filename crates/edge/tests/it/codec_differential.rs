//! The decoder against an independent implementation, tungstenite, on the same bytes.

use std::io::{self, Read, Write};

use proptest::collection::vec;
use proptest::prelude::*;
use tungstenite::protocol::{Role, WebSocket, WebSocketConfig};
use tungstenite::{Error, Message};

use crate::frames::{BINARY, Client, FIN, LIMITS, PING, PONG, TEXT, close, fragments, frame};

/// Reads prepared bytes, then reports that nothing more has arrived; swallows writes.
struct Wire<'a>(&'a [u8]);

impl Read for Wire<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.0.is_empty() { Err(io::ErrorKind::WouldBlock.into()) } else { self.0.read(buffer) }
    }
}

impl Write for Wire<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Debug, PartialEq, Eq, Clone, Copy)]
enum Verdict {
    Waiting,
    Refused,
    Closed,
}

#[derive(Debug, PartialEq, Eq)]
struct Transcript {
    units: Vec<String>,
    verdict: Verdict,
}

fn theirs(bytes: &[u8]) -> Transcript {
    let config = WebSocketConfig::default()
        .max_message_size(Some(LIMITS.message_bytes_max))
        .max_frame_size(Some(LIMITS.message_bytes_max));
    let mut socket = WebSocket::from_raw_socket(Wire(bytes), Role::Server, Some(config));
    let mut units = Vec::new();
    loop {
        match socket.read() {
            Ok(Message::Text(text)) => units.push(format!("{:02x?}", text.as_bytes())),
            Ok(Message::Binary(bytes) | Message::Ping(bytes) | Message::Pong(bytes)) => {
                units.push(format!("{:02x?}", &bytes[..]));
            }
            Ok(Message::Close(frame)) => {
                // A code that must not be sent is not reported as an error but answered with 1002.
                let refused = frame.is_some_and(|frame| frame.reason.as_str() == "Protocol violation");
                return Transcript {
                    units,
                    verdict: if refused { Verdict::Refused } else { Verdict::Closed },
                };
            }
            Ok(Message::Frame(_)) => unreachable!("reading yields no raw frames"),
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                return Transcript { units, verdict: Verdict::Waiting };
            }
            Err(_) => return Transcript { units, verdict: Verdict::Refused },
        }
    }
}

fn ours(bytes: &[u8]) -> (Transcript, Option<&'static str>) {
    use pulsewire_edge::codec::{ControlBudget, Decoder, Inbound};
    let (mut units, mut closed) = (Vec::new(), false);
    let mut sink = |inbound: Inbound<'_>| {
        match inbound {
            Inbound::Text(text) => units.push(format!("{:02x?}", text.as_bytes())),
            Inbound::Binary(bytes) | Inbound::Ping(bytes) | Inbound::Pong(bytes) => {
                units.push(format!("{bytes:02x?}"));
            }
            Inbound::Close { .. } => closed = true,
        }
        std::ops::ControlFlow::Continue(())
    };
    let mut budget = ControlBudget::default();
    let decoded = Decoder::default().decode(&mut bytes.to_vec(), &LIMITS, 0, &mut budget, &mut sink);
    let verdict = match decoded {
        Err(_) => Verdict::Refused,
        Ok(()) if closed => Verdict::Closed,
        Ok(()) => Verdict::Waiting,
    };
    (Transcript { units, verdict }, decoded.err().map(|violation| violation.detail))
}

/// Where we are stricter, knowingly: tungstenite accepts lengths that are not minimal, checks the text of
/// a frame only when it is complete, and checks a header only when it is.
fn stricter_on_purpose(detail: Option<&str>, theirs: Verdict) -> bool {
    match detail {
        Some("payload length is not in its shortest form" | "control frame is longer than 125 bytes") => true,
        Some(_) => theirs == Verdict::Waiting,
        None => false,
    }
}

fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let payload = prop_oneof![
        4 => vec(any::<u8>(), 0..130),
        4 => "\\PC{0,40}".prop_map(String::into_bytes),
        1 => vec(any::<u8>(), 65_500..65_600),
    ];
    let first = prop_oneof![
        Just(FIN | TEXT),
        Just(FIN | BINARY),
        Just(FIN | PING),
        Just(FIN | PONG),
        Just(TEXT),
        Just(BINARY),
        any::<u8>()
    ];
    let data = (first, payload).prop_map(|(first, payload)| frame(first, &payload));
    let closing = (any::<u16>(), 0u16..6000, any::<bool>(), vec(any::<u8>(), 0..20))
        .prop_map(|(wide, near, pick, reason)| close(if pick { wide } else { near }, &reason));
    prop_oneof![5 => data, 1 => closing]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn valid_streams_read_the_same(
        messages in vec((any::<bool>(), "\\PC{0,60}", 0usize..60, any::<bool>()), 1..12),
    ) {
        let bytes: Vec<u8> = messages
            .iter()
            .flat_map(|(is_text, payload, cut, whole)| {
                let opcode = if *is_text { TEXT } else { BINARY };
                let (head, tail) = payload.as_bytes().split_at((*cut).min(payload.len()));
                if *whole { frame(FIN | opcode, payload.as_bytes()) } else { fragments(opcode, &[head, tail]) }
            })
            .collect();
        prop_assert_eq!(ours(&bytes).0, theirs(&bytes));
    }

    #[test]
    fn a_mutated_frame_gets_the_same_verdict(
        frame in any_frame(),
        flips in vec((0usize..16, any::<u8>()), 0..3),
        anywhere in prop::option::of((any::<prop::sample::Index>(), any::<u8>())),
    ) {
        let mut bytes = frame;
        for (at, flip) in flips {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= flip;
            }
        }
        if let Some((at, flip)) = anywhere {
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
        }
        let ((ours, detail), theirs) = (ours(&bytes), theirs(&bytes));
        if ours != theirs && !stricter_on_purpose(detail, theirs.verdict) {
            let head = &bytes[..bytes.len().min(40)];
            prop_assert!(false, "{:02x?}: ours {:?} ({:?}), theirs {:?}", head, ours.verdict, detail, theirs.verdict);
        }
    }
}

#[test]
fn every_first_and_second_byte_gets_the_same_verdict() {
    for first in 0..=255u8 {
        for second in 0..=255u8 {
            let mut bytes = vec![first, second];
            // Enough to complete every short frame; printable, so that text is valid whatever the key.
            bytes.extend([0, 0, 0, 0]);
            bytes.extend([b'0'; 125]);
            let ((ours, detail), theirs) = (ours(&bytes), theirs(&bytes));
            // What follows a short frame is '0's: an unmasked continuation, which both refuse.
            let same = ours.verdict == theirs.verdict || stricter_on_purpose(detail, theirs.verdict);
            assert!(same, "{first:#04x} {second:#04x}: {ours:?} ({detail:?}), theirs {theirs:?}");
        }
    }
}

#[test]
fn a_client_of_the_other_implementation_is_understood() {
    let mut sent = Vec::new();
    {
        struct Sent<'a>(&'a mut Vec<u8>);
        impl Read for Sent<'_> {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::ErrorKind::WouldBlock.into())
            }
        }
        impl Write for Sent<'_> {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.write(bytes)
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut client = WebSocket::from_raw_socket(Sent(&mut sent), Role::Client, None);
        client.send(Message::text("hello")).unwrap();
        client.send(Message::binary(vec![9; 300])).unwrap();
        client.send(Message::Ping(vec![b'p'].into())).unwrap();
        client.close(None).unwrap();
    }
    let mut ours = Client::default();
    ours.send(&sent, &LIMITS, 0).unwrap();
    assert_eq!(ours.delivered, ["text hello", "binary of 300", "ping p", "close"]);
}
