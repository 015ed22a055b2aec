//! The server's half of RFC 6455 for inbound bytes, without I/O.
//!
//! Owns the rules for frames a client may send, and the bytes of whatever is unfinished. A shard reads
//! into one buffer shared by all its connections and hands the filled part to [`Decoder::decode`]: frames
//! are unmasked in place and whole messages are lent to the sink without a copy. Only what is still
//! incomplete when the buffer ends is kept, in a box that is freed as soon as the message is complete,
//! so an idle connection holds eight bytes here.
//!
//! What always holds: memory grows with the bytes that arrived, never with a length that was declared,
//! and stays below `message_bytes_max` plus one control frame; a violation is reported with the header or
//! the payload byte that proves it, after every message before it; nothing a peer sends can panic.
//!
//! The decoder refuses; it answers nothing. Pongs, the echoed close and the close frame of a violation
//! are the caller's to send, with `pulsewire_protocol`'s control frames.
//!
//! ```
//! use std::ops::ControlFlow;
//! use pulsewire_edge::codec::{ControlBudget, Decoder, Inbound, Limits};
//!
//! let mut read = [0x81, 0x82, 1, 2, 3, 4, b'h' ^ 1, b'i' ^ 2]; // a masked text frame
//! let (mut decoder, mut budget) = (Decoder::default(), ControlBudget::default());
//! decoder.decode(&mut read, &Limits::default(), 0, &mut budget, &mut |inbound| {
//!     assert_eq!(inbound, Inbound::Text("hi"));
//!     ControlFlow::Continue(())
//! })?;
//! # Ok::<(), pulsewire_edge::codec::Violation>(())
//! ```

mod budget;
mod close;
mod header;
mod mask;
mod partial;
mod violation;

use std::ops::ControlFlow;

pub use budget::ControlBudget;
pub use violation::{Violation, ViolationKind};

use header::{Header, Opcode};
use partial::{MessageKind, Partial};

/// What one client may send; shared by all connections of a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Payload bytes of one message over all its fragments. Default 64 KiB; beyond it close 1009.
    pub message_bytes_max: usize,
    /// Frames of one message. Default 1,024; beyond it close 1009.
    pub fragments_max: u32,
    /// Pings and pongs a second, with one second's worth allowed at once. Default 20, at least 1;
    /// beyond it close 4005.
    pub control_frames_per_second: u32,
    /// Payload bytes that each hundred frames of a fragmented message must bring on average. Default
    /// 1,024; below it close 4005. A fragment costs us a header and a growth check whatever it carries.
    pub hundred_fragments_bytes_min: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_bytes_max: 64 * 1024,
            fragments_max: 1024,
            control_frames_per_second: 20,
            hundred_fragments_bytes_min: 1024,
        }
    }
}

/// One complete unit a client sent, borrowed until the sink returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inbound<'a> {
    /// A text message; its UTF-8 has been checked.
    Text(&'a str),
    /// A binary message.
    Binary(&'a [u8]),
    /// A ping of at most 125 bytes; answer with a pong of the same payload (RFC 6455 §5.5.2).
    Ping(&'a [u8]),
    /// A pong of at most 125 bytes, asked for or not.
    Pong(&'a [u8]),
    /// The peer closes. The code is absent when the frame had no body; otherwise it is one a peer may
    /// send (RFC 6455 §7.4). Whatever follows it is ignored.
    Close {
        /// The status code as sent.
        code: Option<u16>,
        /// The peer's words, at most 123 bytes; untrusted, so never logged as they are.
        reason: &'a str,
    },
}

/// Turns one connection's inbound bytes into messages.
///
/// After `decode` returned a violation, after the sink broke off and after a close frame the connection
/// is over: the state has been freed and `decode` must not be called again.
#[derive(Debug, Default)]
pub struct Decoder {
    partial: Option<Box<Partial>>,
}

const _: () = assert!(size_of::<Decoder>() == size_of::<usize>());

/// Everything `decode` was given besides bytes and sink.
struct Gate<'a> {
    limits: &'a Limits,
    now_ms: u64,
    budget: &'a mut ControlBudget,
}

impl Decoder {
    /// Decodes the bytes just read, calling `sink` for each complete unit in order.
    ///
    /// `input` is unmasked in place, so its contents are unspecified afterwards. `now_ms` is a monotonic
    /// clock, the same for every call with one `budget`. When the sink returns `Break` the rest of the
    /// input is dropped.
    ///
    /// # Errors
    ///
    /// The first breach of RFC 6455 or of `limits`, with the code to close with. The units before it
    /// have been delivered.
    pub fn decode(
        &mut self,
        input: &mut [u8],
        limits: &Limits,
        now_ms: u64,
        budget: &mut ControlBudget,
        sink: &mut impl FnMut(Inbound<'_>) -> ControlFlow<()>,
    ) -> Result<(), Violation> {
        let outcome = self.run(input, &mut Gate { limits, now_ms, budget }, sink);
        if !matches!(outcome, Ok(ControlFlow::Continue(()))) {
            self.partial = None;
        }
        outcome.map(|_| ())
    }

    /// Heap bytes held for an unfinished frame or message; 0 between messages.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.partial.as_ref().map_or(0, |partial| size_of::<Partial>() + partial.buffered_bytes())
    }

    fn run(
        &mut self,
        mut input: &mut [u8],
        gate: &mut Gate<'_>,
        sink: &mut impl FnMut(Inbound<'_>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, Violation> {
        while !input.is_empty() {
            let Some((header, received)) = self.next_frame(&mut input, gate)? else { break };
            // Admission bounded the payload by `message_bytes_max` or 125, so it fits.
            let missing = header.payload_bytes as usize - received;
            let (payload, rest) = input.split_at_mut(missing.min(input.len()));
            input = rest;
            mask::unmask(payload, header.mask, received);
            let flow = if payload.len() < missing {
                self.keep(header, received, payload, gate.limits)?;
                ControlFlow::Continue(())
            } else if header.opcode.is_control() {
                self.finish_control(header.opcode, payload, sink)?
            } else {
                self.finish_data(&header, received, payload, gate.limits, sink)?
            };
            if flow.is_break() {
                return Ok(flow);
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// The frame whose payload comes next in `input` and how much of that payload earlier reads brought;
    /// nothing while its header is incomplete.
    fn next_frame(
        &mut self,
        input: &mut &mut [u8],
        gate: &mut Gate<'_>,
    ) -> Result<Option<(Header, usize)>, Violation> {
        if let Some(frame) = self.partial.as_mut().and_then(|partial| partial.frame.take()) {
            return Ok(Some(frame));
        }
        let kept =
            self.partial.as_mut().map(|partial| std::mem::take(&mut partial.header)).unwrap_or_default();
        let parsed = if kept.bytes().is_empty() {
            Header::parse(input)?
        } else {
            Header::parse(kept.followed_by(input).bytes())?
        };
        let Some(header) = parsed else {
            self.partial_mut().header = kept.followed_by(input);
            return Ok(None);
        };
        let (_, rest) = std::mem::take(input).split_at_mut(header.header_bytes - kept.bytes().len());
        *input = rest;
        self.admit(&header, gate)?;
        Ok(Some((header, 0)))
    }

    /// Refuses a frame by its header alone, before any of its payload is looked at or kept.
    fn admit(&self, header: &Header, gate: &mut Gate<'_>) -> Result<(), Violation> {
        let limits = gate.limits;
        if header.opcode.is_control() {
            let counted = header.opcode != Opcode::Close;
            if counted && !gate.budget.charge(gate.now_ms, limits.control_frames_per_second) {
                return Err(violation::CONTROL_FLOOD);
            }
            return Ok(());
        }
        let unfinished = self.partial.as_ref().filter(|partial| partial.kind.is_some());
        match (header.opcode, unfinished) {
            (Opcode::Continuation, None) => return Err(violation::CONTINUATION_WITHOUT_START),
            (Opcode::Text | Opcode::Binary, Some(_)) => return Err(violation::MESSAGE_INSIDE_MESSAGE),
            _ => {}
        }
        let (before, fragments) =
            unfinished.map_or((0, 1), |partial| (partial.message.len() as u64, partial.fragments + 1));
        let message_bytes = before.saturating_add(header.payload_bytes);
        if message_bytes > limits.message_bytes_max as u64 {
            return Err(violation::MESSAGE_TOO_LARGE);
        }
        if fragments > limits.fragments_max {
            return Err(violation::TOO_MANY_FRAGMENTS);
        }
        let expected = u64::from(fragments / 100).saturating_mul(limits.hundred_fragments_bytes_min as u64);
        if fragments.is_multiple_of(100) && message_bytes < expected {
            return Err(violation::TINY_FRAGMENTS);
        }
        Ok(())
    }

    /// Keeps what arrived of a frame that is not complete.
    fn keep(
        &mut self,
        header: Header,
        received: usize,
        payload: &[u8],
        limits: &Limits,
    ) -> Result<(), Violation> {
        let partial = self.partial_mut();
        if header.opcode.is_control() {
            partial.append_control(payload);
        } else {
            partial.append(&header, received, payload, limits)?;
        }
        partial.frame = Some((header, received + payload.len()));
        Ok(())
    }

    /// Delivers a control frame, whose last bytes are `payload`, between the fragments of a message.
    fn finish_control(
        &mut self,
        opcode: Opcode,
        payload: &[u8],
        sink: &mut impl FnMut(Inbound<'_>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, Violation> {
        let mut kept = self.partial.as_mut().map(|p| std::mem::take(&mut p.control)).unwrap_or_default();
        self.partial = self.partial.take().filter(|partial| partial.kind.is_some());
        let payload = if kept.is_empty() {
            payload
        } else {
            kept.extend_from_slice(payload);
            &kept
        };
        match opcode {
            Opcode::Ping => Ok(sink(Inbound::Ping(payload))),
            Opcode::Pong => Ok(sink(Inbound::Pong(payload))),
            _ => {
                let (code, reason) = close::parse(payload)?;
                let _ = sink(Inbound::Close { code, reason });
                Ok(ControlFlow::Break(()))
            }
        }
    }

    /// Takes the last bytes of a data frame and delivers the message if the frame was its last.
    fn finish_data(
        &mut self,
        header: &Header,
        received: usize,
        payload: &[u8],
        limits: &Limits,
        sink: &mut impl FnMut(Inbound<'_>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, Violation> {
        let in_one_piece = header.fin && received == 0 && header.opcode != Opcode::Continuation;
        if in_one_piece {
            self.partial = None;
            return deliver(MessageKind::of(header.opcode), payload, sink);
        }
        let partial = self.partial_mut();
        partial.append(header, received, payload, limits)?;
        partial.fragments += 1;
        if !header.fin {
            return Ok(ControlFlow::Continue(()));
        }
        match self.partial.take().map(|partial| *partial) {
            Some(Partial { kind: Some(kind), message, .. }) => deliver(kind, &message, sink),
            _ => Ok(ControlFlow::Continue(())),
        }
    }

    fn partial_mut(&mut self) -> &mut Partial {
        self.partial.get_or_insert_default()
    }
}

fn deliver(
    kind: MessageKind,
    payload: &[u8],
    sink: &mut impl FnMut(Inbound<'_>) -> ControlFlow<()>,
) -> Result<ControlFlow<()>, Violation> {
    Ok(sink(match kind {
        MessageKind::Binary => Inbound::Binary(payload),
        // A message that came in pieces was checked as it came, but for its end; checking it again whole,
        // at memory speed, is what safe code pays for a `&str`.
        MessageKind::Text => {
            Inbound::Text(simdutf8::basic::from_utf8(payload).map_err(|_| violation::INVALID_UTF8)?)
        }
    }))
}
