//! Complete server frames: the bytes that go to the kernel.
//!
//! A frame is built once and shared by every subscriber, so it holds the RFC 6455 header and the payload in
//! one piece of memory. Servers do not mask (RFC 6455 §5.1) and never fragment here. Several messages may be
//! concatenated into one `Frame` so that one write carries them all.

use bytes::{Buf as _, Bytes};

use crate::code::CloseCode;
use crate::{DEPTH_MAX, transcode};

/// How a connection writes its messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Encoding {
    /// JSON in text frames: subprotocol `pulsewire.json`, and the default.
    #[default]
    Json,
    /// MessagePack in binary frames: subprotocol `pulsewire.msgpack`, or `?format=msgpack`.
    MsgPack,
}

impl Encoding {
    /// Both encodings.
    pub const ALL: &[Self] = &[Self::Json, Self::MsgPack];

    /// The value of `?format=` and of the `codec` metric label.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::MsgPack => "msgpack",
        }
    }

    /// The WebSocket subprotocol that asks for this encoding.
    #[must_use]
    pub fn subprotocol(self) -> &'static str {
        match self {
            Self::Json => "pulsewire.json",
            Self::MsgPack => "pulsewire.msgpack",
        }
    }

    /// The encoding with this [`name`](Self::name).
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|encoding| encoding.name() == name)
    }
}

/// What a frame carries (RFC 6455 §5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
#[expect(missing_docs, reason = "the names are RFC 6455's")]
pub enum Opcode {
    Text = 1,
    Binary = 2,
    Close = 8,
    Ping = 9,
    Pong = 10,
}

/// The complete, unmasked wire bytes of one message, or of several one after the other. Cloning shares them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame(Bytes);

/// The longest header of an unmasked frame.
const HEADER_MAX: usize = 10;
/// How deep our own messages put a payload: message, list of events, event.
const ENVELOPE_DEPTH_MAX: usize = 4;
/// The longest payload of a control frame (RFC 6455 §5.5).
const CONTROL_MAX: usize = 125;

impl Frame {
    /// One text message. The payload must be UTF-8, which everything this crate writes is.
    #[must_use]
    pub fn text(payload: &[u8]) -> Self {
        Self::of(Opcode::Text, payload)
    }

    /// One binary message.
    #[must_use]
    pub fn binary(payload: &[u8]) -> Self {
        Self::of(Opcode::Binary, payload)
    }

    /// A ping whose nonce the peer must return, so that late and invented pongs can be told from real ones.
    #[must_use]
    pub fn ping(nonce: [u8; 8]) -> Self {
        Self::of(Opcode::Ping, &nonce)
    }

    /// A pong. A payload longer than a control frame's 125 bytes cannot have come from a ping and is cut.
    #[must_use]
    pub fn pong(payload: &[u8]) -> Self {
        Self::of(Opcode::Pong, &payload[..payload.len().min(CONTROL_MAX)])
    }

    /// A close frame. Its reason is the code's name and nothing else, so that a client can act on it.
    #[must_use]
    pub fn close(code: CloseCode) -> Self {
        let mut payload = code.code().to_be_bytes().to_vec();
        payload.extend_from_slice(code.name().as_bytes());
        Self::of(Opcode::Close, &payload)
    }

    /// The answer to a peer's close: its own code, or an empty body if it sent none (RFC 6455 §5.5.1).
    #[must_use]
    pub fn close_echo(code: Option<u16>) -> Self {
        let payload = code.map(u16::to_be_bytes);
        Self::of(Opcode::Close, payload.as_ref().map_or(&[], |payload| &payload[..]))
    }

    /// Joins frames so that one write carries them.
    #[must_use]
    pub fn concat<'f>(frames: impl IntoIterator<Item = &'f Self>) -> Self {
        let mut bytes = Vec::new();
        for frame in frames {
            bytes.extend_from_slice(&frame.0);
        }
        Self(bytes.into())
    }

    /// Lets `write` append JSON, then encodes it. The payload is written once, in its final place.
    pub(crate) fn build(encoding: Encoding, write: impl FnOnce(&mut Vec<u8>)) -> Self {
        let mut bytes = Vec::with_capacity(256);
        bytes.resize(HEADER_MAX, 0);
        write(&mut bytes);
        match encoding {
            Encoding::Json => Self::seal(Opcode::Text, bytes),
            Encoding::MsgPack => Self::packed(&bytes[HEADER_MAX..]),
        }
    }

    /// The wire bytes.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.0
    }

    /// The wire bytes, given away.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        self.0
    }

    /// How many bytes go over the wire.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a frame always has a header")]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// What the first message is; text for an empty concatenation.
    #[must_use]
    pub fn opcode(&self) -> Opcode {
        match self.0.first().map_or(1, |byte| byte & 0x0F) {
            2 => Opcode::Binary,
            8 => Opcode::Close,
            9 => Opcode::Ping,
            10 => Opcode::Pong,
            _ => Opcode::Text,
        }
    }

    /// The payload of the first message.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        let (header, len) = self.extent();
        &self.0[header..header + len]
    }

    /// The payload of the first message, sharing the frame's memory.
    #[must_use]
    pub fn payload_bytes(&self) -> Bytes {
        let (header, len) = self.extent();
        self.0.slice(header..header + len)
    }

    /// The messages of a concatenation, each as its own frame.
    pub fn messages(&self) -> impl Iterator<Item = Frame> + use<> {
        let mut rest = self.0.clone();
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let (header, len) = Frame(rest.clone()).extent();
            Some(Frame(rest.split_to(header + len)))
        })
    }

    /// The JSON as MessagePack. What this crate writes always converts; JSON that a caller handed in for a
    /// payload might not, and then the reader gets nil rather than the server a panic.
    fn packed(json: &[u8]) -> Self {
        let mut packed = Vec::with_capacity(HEADER_MAX + json.len());
        packed.resize(HEADER_MAX, 0);
        if transcode::pack_json(json, DEPTH_MAX + ENVELOPE_DEPTH_MAX, &mut packed).is_err() {
            packed.truncate(HEADER_MAX);
            packed.push(0xC0);
        }
        Self::seal(Opcode::Binary, packed)
    }

    fn of(opcode: Opcode, payload: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(HEADER_MAX + payload.len());
        bytes.resize(HEADER_MAX, 0);
        bytes.extend_from_slice(payload);
        Self::seal(opcode, bytes)
    }

    /// Puts the header right before the payload, which starts at `HEADER_MAX`, and forgets the slack.
    fn seal(opcode: Opcode, mut bytes: Vec<u8>) -> Self {
        let len = bytes.len() - HEADER_MAX;
        let first = 0x80 | opcode as u8; // FIN: never fragmented.
        let start = match len {
            0..=125 => {
                bytes[8..HEADER_MAX].copy_from_slice(&[first, len as u8]);
                8
            }
            126..=0xFFFF => {
                bytes[6..8].copy_from_slice(&[first, 126]);
                bytes[8..HEADER_MAX].copy_from_slice(&(len as u16).to_be_bytes());
                6
            }
            _ => {
                bytes[..2].copy_from_slice(&[first, 127]);
                bytes[2..HEADER_MAX].copy_from_slice(&(len as u64).to_be_bytes());
                0
            }
        };
        // Frames wait in rings and outboxes: memory that was only reserved must not wait with them.
        bytes.shrink_to_fit();
        let mut bytes = Bytes::from(bytes);
        bytes.advance(start);
        Self(bytes)
    }

    /// Header and payload length of the first message.
    fn extent(&self) -> (usize, usize) {
        let bytes = &self.0[..];
        match bytes.get(1) {
            None => (0, 0),
            Some(126) => (4, usize::from(u16::from_be_bytes([bytes[2], bytes[3]]))),
            Some(127) => {
                let len: [u8; 8] = bytes[2..10].try_into().expect("eight bytes of length");
                (10, u64::from_be_bytes(len) as usize)
            }
            Some(len) => (2, usize::from(*len)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_the_shortest_that_fits() {
        for (len, header) in [(0, 2), (125, 2), (126, 4), (65_535, 4), (65_536, 10)] {
            let payload = vec![b'x'; len];
            let frame = Frame::text(&payload);
            assert_eq!(frame.len(), header + len);
            assert_eq!(frame.payload(), payload);
            assert_eq!(frame.bytes()[0], 0x81);
        }
        assert_eq!(&Frame::binary(b"ab").bytes()[..], [0x82, 2, b'a', b'b']);
    }

    #[test]
    fn control_frames_stay_within_125_bytes() {
        assert_eq!(&Frame::ping(*b"12345678").bytes()[..2], [0x89, 8]);
        assert_eq!(Frame::pong(&[7; 200]).payload().len(), 125);
        for code in CloseCode::ALL {
            let close = Frame::close(*code);
            assert!(close.payload().len() <= CONTROL_MAX, "{code}");
            assert_eq!(close.payload()[..2], code.code().to_be_bytes());
            assert_eq!(&close.payload()[2..], code.name().as_bytes());
        }
        assert_eq!(&Frame::close_echo(None).bytes()[..], [0x88, 0]);
        assert_eq!(&Frame::close_echo(Some(3000)).bytes()[..], [0x88, 2, 0x0B, 0xB8]);
    }

    #[test]
    fn a_concatenation_comes_apart_again() {
        let parts = [Frame::text(b"one"), Frame::binary(&[0; 300]), Frame::text(&[b'x'; 70_000])];
        let joined = Frame::concat(&parts);
        assert_eq!(joined.messages().collect::<Vec<_>>(), parts);
        assert_eq!(Frame::concat([]).messages().count(), 0);
    }
}
