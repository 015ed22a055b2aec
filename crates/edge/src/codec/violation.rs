//! What a client may do wrong, each with the code that closes the connection.

use pulsewire_protocol::CloseCode;

/// A breach that ends the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct Violation {
    /// The code to close with; 1002, 1007, 1009 or 4005.
    pub close: CloseCode,
    /// Which family of rules was broken, for metrics.
    pub kind: ViolationKind,
    /// One sentence for the client or the log; constant.
    pub detail: &'static str,
}

/// The family of a violation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ViolationKind {
    /// The framing rules of RFC 6455; close 1002.
    Protocol,
    /// Text or a close reason that is not UTF-8; close 1007.
    Utf8,
    /// A message beyond its size or fragment limit; close 1009.
    TooLarge,
    /// Frames that cost more than they carry; close 4005.
    Abuse,
}

const fn protocol(detail: &'static str) -> Violation {
    Violation { close: CloseCode::ProtocolError, kind: ViolationKind::Protocol, detail }
}

const fn utf8(detail: &'static str) -> Violation {
    Violation { close: CloseCode::InvalidPayload, kind: ViolationKind::Utf8, detail }
}

const fn too_large(detail: &'static str) -> Violation {
    Violation { close: CloseCode::MessageTooBig, kind: ViolationKind::TooLarge, detail }
}

const fn abuse(detail: &'static str) -> Violation {
    Violation { close: CloseCode::RateLimited, kind: ViolationKind::Abuse, detail }
}

// RFC 6455 §5.2, §5.1, §5.4, §5.5.
pub(super) const RESERVED_BITS: Violation = protocol("reserved bit set but no extension was negotiated");
pub(super) const RESERVED_OPCODE: Violation = protocol("reserved opcode");
pub(super) const UNMASKED: Violation = protocol("client frame is not masked");
pub(super) const LENGTH_NOT_MINIMAL: Violation = protocol("payload length is not in its shortest form");
pub(super) const LENGTH_TOP_BIT: Violation = protocol("payload length has its highest bit set");
pub(super) const CONTROL_TOO_LONG: Violation = protocol("control frame is longer than 125 bytes");
pub(super) const CONTROL_FRAGMENTED: Violation = protocol("control frame is fragmented");
pub(super) const CONTINUATION_WITHOUT_START: Violation = protocol("continuation of no message");
pub(super) const MESSAGE_INSIDE_MESSAGE: Violation = protocol("new message before the last one was finished");
// RFC 6455 §5.5.1, §7.4.
pub(super) const CLOSE_ONE_BYTE: Violation = protocol("close body of one byte");
pub(super) const CLOSE_CODE: Violation = protocol("close code that must not be sent");
pub(super) const CLOSE_REASON: Violation = utf8("close reason is not UTF-8");
// RFC 6455 §8.1.
pub(super) const INVALID_UTF8: Violation = utf8("text message is not UTF-8");
pub(super) const MESSAGE_TOO_LARGE: Violation = too_large("message is larger than the limit");
pub(super) const TOO_MANY_FRAGMENTS: Violation = too_large("message has more fragments than the limit");
pub(super) const CONTROL_FLOOD: Violation = abuse("too many pings or pongs");
pub(super) const TINY_FRAGMENTS: Violation = abuse("too many tiny fragments");
