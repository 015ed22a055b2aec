//! The header of one client frame (RFC 6455 §5.2).

use super::violation::{self, Violation};

/// The longest payload of a control frame (RFC 6455 §5.5).
pub(super) const CONTROL_BYTES_MAX: usize = 125;

/// The longest header: two bytes, a 64-bit length and the mask.
const HEADER_BYTES_MAX: usize = 14;

/// The six opcodes RFC 6455 defines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opcode {
    Continuation,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

impl Opcode {
    fn from_bits(bits: u8) -> Option<Self> {
        Some(match bits {
            0x0 => Self::Continuation,
            0x1 => Self::Text,
            0x2 => Self::Binary,
            0x8 => Self::Close,
            0x9 => Self::Ping,
            0xa => Self::Pong,
            _ => return None,
        })
    }

    pub(super) fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

/// A complete, valid header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// As declared: below 2^63, and at most 125 for control frames.
    pub(super) payload_bytes: u64,
    pub(super) header_bytes: usize,
    pub(super) mask: [u8; 4],
    pub(super) opcode: Opcode,
    pub(super) fin: bool,
}

impl Header {
    /// Reads the header at the start of `bytes`; `None` while it is incomplete. Whatever the bytes
    /// present already prove wrong is refused without waiting for the rest.
    pub(super) fn parse(bytes: &[u8]) -> Result<Option<Self>, Violation> {
        let Some((&first, after_first)) = bytes.split_first() else { return Ok(None) };
        if first & 0x70 != 0 {
            return Err(violation::RESERVED_BITS);
        }
        let opcode = Opcode::from_bits(first & 0x0f).ok_or(violation::RESERVED_OPCODE)?;
        let fin = first & 0x80 != 0;
        if opcode.is_control() && !fin {
            return Err(violation::CONTROL_FRAGMENTED);
        }
        let Some((&second, after_second)) = after_first.split_first() else { return Ok(None) };
        if second & 0x80 == 0 {
            return Err(violation::UNMASKED);
        }
        let short = second & 0x7f;
        if opcode.is_control() && usize::from(short) > CONTROL_BYTES_MAX {
            return Err(violation::CONTROL_TOO_LONG);
        }
        let Some((payload_bytes, after_length)) = parse_length(short, after_second)? else { return Ok(None) };
        let Some((mask, payload)) = after_length.split_first_chunk::<4>() else { return Ok(None) };
        let header_bytes = bytes.len() - payload.len();
        Ok(Some(Self { payload_bytes, header_bytes, mask: *mask, opcode, fin }))
    }
}

/// The payload length and the bytes after it; `None` while it is incomplete.
fn parse_length(short: u8, bytes: &[u8]) -> Result<Option<(u64, &[u8])>, Violation> {
    let (length, shortest, rest) = match short {
        126 => {
            let Some((length, rest)) = bytes.split_first_chunk::<2>() else { return Ok(None) };
            (u64::from(u16::from_be_bytes(*length)), 126, rest)
        }
        127 => {
            let Some((length, rest)) = bytes.split_first_chunk::<8>() else { return Ok(None) };
            (u64::from_be_bytes(*length), 1 << 16, rest)
        }
        _ => (u64::from(short), 0, bytes),
    };
    if length >> 63 != 0 {
        return Err(violation::LENGTH_TOP_BIT);
    }
    if length < shortest {
        return Err(violation::LENGTH_NOT_MINIMAL);
    }
    Ok(Some((length, rest)))
}

/// The first bytes of a header whose rest has not arrived.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct HeaderBytes {
    bytes: [u8; HEADER_BYTES_MAX],
    len: u8,
}

impl HeaderBytes {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// These bytes and as many of `input` as a header can have.
    pub(super) fn followed_by(mut self, input: &[u8]) -> Self {
        let kept = usize::from(self.len);
        let taken = input.len().min(HEADER_BYTES_MAX - kept);
        self.bytes[kept..kept + taken].copy_from_slice(&input[..taken]);
        self.len = (kept + taken) as u8;
        self
    }
}
