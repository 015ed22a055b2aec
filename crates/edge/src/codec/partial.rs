//! What one connection has sent and not finished.
//!
//! Exists only while something is unfinished. Payload is kept unmasked and, for text, checked up to the
//! last complete code point, so invalid UTF-8 is refused with the bytes that prove it.

use super::Limits;
use super::header::{CONTROL_BYTES_MAX, Header, HeaderBytes, Opcode};
use super::violation::{self, Violation};

/// The two kinds of data message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MessageKind {
    Text,
    Binary,
}

impl MessageKind {
    /// The kind a message's first frame declares.
    pub(super) fn of(opcode: Opcode) -> Self {
        if opcode == Opcode::Text { Self::Text } else { Self::Binary }
    }
}

/// An unfinished header, frame or message; usually only one of them.
#[derive(Debug, Default)]
pub(super) struct Partial {
    /// The start of a header.
    pub(super) header: HeaderBytes,
    /// The frame being received and how much of its payload has arrived.
    pub(super) frame: Option<(Header, usize)>,
    /// The message being received; `None` when only a header or a control frame is.
    pub(super) kind: Option<MessageKind>,
    /// Its payload so far, over all fragments.
    pub(super) message: Vec<u8>,
    /// Its completely received frames.
    pub(super) fragments: u32,
    /// How much of `message` is known to be whole code points.
    utf8_bytes: usize,
    /// The payload so far of an unfinished control frame.
    pub(super) control: Vec<u8>,
}

impl Partial {
    pub(super) fn buffered_bytes(&self) -> usize {
        self.message.capacity() + self.control.capacity()
    }

    /// Adds unmasked payload of the data frame `header`, of which `received` bytes were added before.
    pub(super) fn append(
        &mut self,
        header: &Header,
        received: usize,
        payload: &[u8],
        limits: &Limits,
    ) -> Result<(), Violation> {
        let kind = *self.kind.get_or_insert(MessageKind::of(header.opcode));
        let message_bytes_max = if header.fin {
            self.message.len() + (header.payload_bytes as usize - received)
        } else {
            limits.message_bytes_max
        };
        grow(&mut self.message, payload.len(), message_bytes_max);
        self.message.extend_from_slice(payload);
        match kind {
            MessageKind::Binary => Ok(()),
            MessageKind::Text => self.check_utf8(),
        }
    }

    /// Adds unmasked payload of an unfinished control frame.
    pub(super) fn append_control(&mut self, payload: &[u8]) {
        grow(&mut self.control, payload.len(), CONTROL_BYTES_MAX);
        self.control.extend_from_slice(payload);
    }

    /// Refuses text that no further byte can make valid. A code point may be split between two reads or
    /// fragments; one split by the end of the message is found when the message is delivered.
    fn check_utf8(&mut self) -> Result<(), Violation> {
        match simdutf8::compat::from_utf8(&self.message[self.utf8_bytes..]) {
            Ok(text) => self.utf8_bytes += text.len(),
            Err(error) if error.error_len().is_none() => self.utf8_bytes += error.valid_up_to(),
            Err(_) => return Err(violation::INVALID_UTF8),
        }
        Ok(())
    }
}

/// Makes room for `more` bytes: twice what was held before, so that copying stays linear, but never
/// beyond `bytes_max`, the size the buffer can reach.
fn grow(buffer: &mut Vec<u8>, more: usize, bytes_max: usize) {
    let needed = buffer.len() + more;
    if needed > buffer.capacity() {
        let capacity = (buffer.capacity() * 2).min(bytes_max).max(needed);
        buffer.reserve_exact(capacity - buffer.len());
    }
}
