//! The bytes of one direction, cut into what the proxy treats as one: heads of requests, answers to upgrades, frames.
//!
//! Only enough of HTTP/1.1 is understood to find the next request behind a body of known length. Behind a request whose
//! body has chunks, or anything that is not HTTP, a connection is bytes in both directions for good. Whatever is cut is
//! put together again by passing the pieces on in order.

use pulsewire_client::http1::{self, HEAD_BYTES_MAX};

use super::Direction;

/// Longer frames than this are not waited for; a server's messages are far shorter.
const FRAME_BYTES_MAX: u64 = 16 * 1024 * 1024;

const METHODS: [&[u8]; 9] =
    [b"GET ", b"POST ", b"PUT ", b"HEAD ", b"OPTIONS ", b"DELETE ", b"PATCH ", b"CONNECT ", b"TRACE "];

/// What a connection is at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Phase {
    /// Requests and answers, or no HTTP at all.
    #[default]
    Plain,
    /// A request for a WebSocket waits for its answer.
    Asked,
    /// A WebSocket.
    Open,
}

/// Bytes that are treated as one.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// The head of a request for a WebSocket.
    Upgrade(Vec<u8>),
    /// The head of another request.
    Request(Vec<u8>),
    /// The head of the answer to a request for a WebSocket.
    Answer {
        /// Whether it is 101.
        opened: bool,
        bytes: Vec<u8>,
    },
    /// A WebSocket frame.
    Frame(Frame),
    /// Anything else.
    Bytes(Vec<u8>),
}

/// A whole RFC 6455 frame, as it came.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) bytes: Vec<u8>,
    header_bytes: usize,
}

impl Frame {
    /// Whether it carries a part of a message, RFC 6455 §5.6.
    pub(super) fn is_data(&self) -> bool {
        self.bytes[0] & 0x08 == 0
    }

    /// Whether it is an `ack` message of a server, as text.
    pub(super) fn is_ack(&self) -> bool {
        #[derive(serde::Deserialize)]
        struct Message {
            r#type: String,
        }
        let whole_text = self.bytes[0] == 0x81;
        whole_text
            && serde_json::from_slice::<Message>(&self.bytes[self.header_bytes..])
                .is_ok_and(|message| message.r#type == "ack")
    }
}

/// Cuts the bytes of one direction.
#[derive(Debug)]
pub(super) struct Cutter {
    direction: Direction,
    held: Vec<u8>,
    /// What is left of a request's body.
    body_bytes: u64,
    /// Nothing more is understood.
    opaque: bool,
}

impl Cutter {
    pub(super) fn new(direction: Direction) -> Self {
        Self { direction, held: Vec::new(), body_bytes: 0, opaque: false }
    }

    /// Adds bytes that came.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
    }

    /// Bytes that are no whole piece.
    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// The next piece, if it is complete. A client's bytes in [`Phase::Asked`] are to be kept until it has ended.
    pub(super) fn next(&mut self, phase: Phase) -> Option<Piece> {
        if self.held.is_empty() {
            None
        } else if self.opaque {
            Some(Piece::Bytes(self.take(u64::MAX)))
        } else {
            match (self.direction, phase) {
                (_, Phase::Open) => self.frame(),
                (Direction::ToServer, _) => self.request(),
                (Direction::ToClient, Phase::Asked) => self.answer(),
                (Direction::ToClient, Phase::Plain) => Some(Piece::Bytes(self.take(u64::MAX))),
            }
        }
    }

    /// What is left when the connection ends.
    pub(super) fn rest(&mut self) -> Vec<u8> {
        self.take(u64::MAX)
    }

    fn take(&mut self, len: u64) -> Vec<u8> {
        let len = self.held.len().min(usize::try_from(len).unwrap_or(usize::MAX));
        let rest = self.held.split_off(len);
        std::mem::replace(&mut self.held, rest)
    }

    fn give_up(&mut self) -> Option<Piece> {
        self.opaque = true;
        Some(Piece::Bytes(self.take(u64::MAX)))
    }

    fn request(&mut self) -> Option<Piece> {
        if self.body_bytes > 0 {
            let body = self.take(self.body_bytes);
            self.body_bytes -= body.len() as u64;
            return Some(Piece::Bytes(body));
        }
        let begins = |method: &&[u8]| method.iter().zip(&self.held).all(|(a, b)| a == b);
        if !METHODS.iter().any(begins) {
            return self.give_up();
        }
        let Some(end) = self.held.windows(4).position(|window| window == b"\r\n\r\n") else {
            return if self.held.len() > HEAD_BYTES_MAX { self.give_up() } else { None };
        };
        let head = self.take(end as u64 + 4);
        let text = String::from_utf8_lossy(&head);
        let header = |name: &str| {
            text.split("\r\n").skip(1).find_map(|line| {
                let (key, value) = line.split_once(':')?;
                key.eq_ignore_ascii_case(name).then(|| value.trim())
            })
        };
        if header("upgrade").is_some_and(|value| value.eq_ignore_ascii_case("websocket")) {
            return Some(Piece::Upgrade(head));
        }
        self.opaque = header("transfer-encoding").is_some();
        self.body_bytes = header("content-length").and_then(|len| len.parse().ok()).unwrap_or(0);
        Some(Piece::Request(head))
    }

    fn answer(&mut self) -> Option<Piece> {
        match http1::parse_head(&self.held) {
            Ok(None) => None,
            Ok(Some(head)) => {
                let bytes = self.take(head.len_bytes as u64);
                Some(Piece::Answer { opened: head.status == 101, bytes })
            }
            Err(_) => Some(Piece::Answer { opened: false, bytes: self.take(u64::MAX) }),
        }
    }

    fn frame(&mut self) -> Option<Piece> {
        let &[_, second, ref rest @ ..] = self.held.as_slice() else { return None };
        let (len, mut header_bytes) = match second & 0x7f {
            126 => (u64::from(u16::from_be_bytes(*rest.first_chunk()?)), 4),
            127 => (u64::from_be_bytes(*rest.first_chunk()?), 10),
            len => (u64::from(len), 2),
        };
        if second & 0x80 != 0 {
            header_bytes += 4;
        }
        if len > FRAME_BYTES_MAX {
            return self.give_up();
        }
        let whole = len + header_bytes as u64;
        if (self.held.len() as u64) < whole {
            return None;
        }
        Some(Piece::Frame(Frame { bytes: self.take(whole), header_bytes }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every piece of some bytes, however they are cut on the way.
    fn pieces(direction: Direction, phase: Phase, bytes: &[u8]) -> Vec<Piece> {
        let cut = |at: usize| {
            let mut cutter = Cutter::new(direction);
            let mut pieces = Vec::new();
            for part in [&bytes[..at], &bytes[at..]] {
                cutter.feed(part);
                pieces.extend(std::iter::from_fn(|| cutter.next(phase)));
            }
            (pieces, cutter.rest())
        };
        let whole = cut(0).0;
        for at in 0..bytes.len() {
            let (pieces, rest) = cut(at);
            let passed: Vec<u8> = pieces.iter().flat_map(Piece::bytes).copied().chain(rest).collect();
            assert_eq!(passed, bytes, "cut at {at}");
            let heads =
                |pieces: &[Piece]| pieces.iter().filter(|piece| !matches!(piece, Piece::Bytes(_))).count();
            assert_eq!(heads(&pieces), heads(&whole), "cut at {at}");
        }
        whole
    }

    impl Piece {
        fn bytes(&self) -> &[u8] {
            match self {
                Piece::Upgrade(bytes) | Piece::Request(bytes) | Piece::Bytes(bytes) => bytes,
                Piece::Answer { bytes, .. } => bytes,
                Piece::Frame(frame) => &frame.bytes,
            }
        }
    }

    #[test]
    fn requests_are_found_behind_each_others_bodies() {
        let text =
            "POST /a HTTP/1.1\r\ncontent-length: 5\r\n\r\nGET /GET /b HTTP/1.1\r\nUpgrade: WebSocket\r\n\r\n";
        let pieces = pieces(Direction::ToServer, Phase::Plain, text.as_bytes());
        let [Piece::Request(first), Piece::Bytes(body), Piece::Upgrade(second)] = pieces.as_slice() else {
            panic!("{pieces:?}");
        };
        assert!(first.starts_with(b"POST /a") && body == b"GET /" && second.starts_with(b"GET /b"));
    }

    #[test]
    fn what_is_not_http_is_passed_on_at_once_and_for_good() {
        for text in ["\u{16}\u{3}\u{1}hello\r\n\r\nGET / HTTP/1.1\r\n\r\n", "GETTING there"] {
            let pieces = pieces(Direction::ToServer, Phase::Plain, text.as_bytes());
            assert_eq!(pieces, [Piece::Bytes(text.as_bytes().to_vec())]);
        }
    }

    #[test]
    fn frames_are_whole_however_long_and_masked() {
        for (header, len) in [
            (vec![0x81, 5], 5),
            (vec![0x82, 126, 1, 0], 256),
            (vec![0x89, 0x80, 1, 2, 3, 4], 0),
            (vec![0x82, 0xff, 0, 0, 0, 0, 0, 0, 1, 2, 9, 9, 9, 9], 258),
        ] {
            let one: Vec<u8> = header.iter().copied().chain(std::iter::repeat_n(b'x', len)).collect();
            let pieces = pieces(Direction::ToClient, Phase::Open, &[one.clone(), one.clone()].concat());
            let frame = || Piece::Frame(Frame { bytes: one.clone(), header_bytes: header.len() });
            assert_eq!(pieces, [frame(), frame()]);
        }
    }

    #[test]
    fn an_answer_that_is_101_opens_and_any_other_does_not() {
        let opened = |text: &str| match pieces(Direction::ToClient, Phase::Asked, text.as_bytes()).as_slice()
        {
            [Piece::Answer { opened, .. }, ..] => *opened,
            other => panic!("{other:?}"),
        };
        assert!(opened("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"));
        assert!(!opened("HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"));
    }

    #[test]
    fn only_text_that_says_ack_is_an_ack() {
        for (first, text, is_ack) in [
            (0x81, r#"{"id":1,"type":"ack"}"#, true),
            (0x81, r#"{"type":"event","data":{"type":"ack"}}"#, false),
            (0x82, r#"{"type":"ack"}"#, false),
        ] {
            let bytes = [&[first, text.len() as u8], text.as_bytes()].concat();
            let frame = Frame { bytes, header_bytes: 2 };
            assert_eq!((frame.is_ack(), frame.is_data()), (is_ack, true), "{text}");
        }
    }
}
