//! RFC 6455 frames, seen from the client's side.
//!
//! Nothing here does I/O. Servers send unmasked frames and this client negotiates no extension, so decoding is a header
//! of two to ten bytes; what a client sends is masked. Payloads are borrowed from the read buffer.

/// What a frame carries, RFC 6455 §5.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opcode {
    /// A further piece of a fragmented message.
    Continuation,
    /// UTF-8 text.
    Text,
    /// Bytes.
    Binary,
    /// The closing handshake.
    Close,
    /// Asks for a pong.
    Ping,
    /// Answers a ping.
    Pong,
}

/// One frame of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Whether the message ends here.
    pub last: bool,
    /// What the payload is.
    pub opcode: Opcode,
    /// The payload, as sent.
    pub payload: &'a [u8],
}

/// How a server broke RFC 6455.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// A reserved bit is set though no extension was agreed (§5.2).
    #[error("the server set a reserved bit")]
    ReservedBit,
    /// An opcode that does not exist (§5.2).
    #[error("the server sent opcode {0}")]
    Opcode(u8),
    /// Servers do not mask (§5.1).
    #[error("the server masked a frame")]
    Masked,
    /// A control frame is fragmented or longer than 125 bytes (§5.5).
    #[error("the server sent a malformed control frame")]
    Control,
    /// A fragment came without a beginning, or a beginning inside a message (§5.4).
    #[error("the server sent fragments out of order")]
    Fragments,
    /// The message is longer than the limit of this client.
    #[error("the server sent a message of more than {limit_bytes} bytes")]
    TooLong {
        /// The limit.
        limit_bytes: usize,
    },
}

/// Reads the frame at the start of `bytes`: the frame and its length on the wire, or `None` while it is incomplete.
///
/// # Errors
///
/// [`WireError`] when the server breaks the protocol or a payload exceeds `limit_bytes`; the connection is then useless.
pub fn decode(bytes: &[u8], limit_bytes: usize) -> Result<Option<(Frame<'_>, usize)>, WireError> {
    let &[first, second, ref rest @ ..] = bytes else { return Ok(None) };
    if first & 0x70 != 0 {
        return Err(WireError::ReservedBit);
    }
    if second & 0x80 != 0 {
        return Err(WireError::Masked);
    }
    let opcode = match first & 0x0f {
        0 => Opcode::Continuation,
        1 => Opcode::Text,
        2 => Opcode::Binary,
        8 => Opcode::Close,
        9 => Opcode::Ping,
        10 => Opcode::Pong,
        other => return Err(WireError::Opcode(other)),
    };
    let last = first & 0x80 != 0;
    let short = second & 0x7f;
    if first & 0x08 != 0 && (!last || short > 125) {
        return Err(WireError::Control);
    }
    let (len, header) = match short {
        126 => match rest.first_chunk::<2>() {
            Some(len) => (u64::from(u16::from_be_bytes(*len)), 4),
            None => return Ok(None),
        },
        127 => match rest.first_chunk::<8>() {
            Some(len) => (u64::from_be_bytes(*len), 10),
            None => return Ok(None),
        },
        short => (u64::from(short), 2),
    };
    if len > limit_bytes as u64 {
        return Err(WireError::TooLong { limit_bytes });
    }
    let end = header + len as usize;
    Ok(bytes.get(header..end).map(|payload| (Frame { last, opcode, payload }, end)))
}

/// Appends one complete masked frame to `out`.
pub fn encode(opcode: Opcode, payload: &[u8], mask: [u8; 4], out: &mut Vec<u8>) {
    let code = match opcode {
        Opcode::Continuation => 0,
        Opcode::Text => 1,
        Opcode::Binary => 2,
        Opcode::Close => 8,
        Opcode::Ping => 9,
        Opcode::Pong => 10,
    };
    out.push(0x80 | code);
    match payload.len() {
        len @ 0..=125 => out.push(0x80 | len as u8),
        len @ 126..=0xffff => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&mask);
    out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
}

/// The payload of a close frame (§5.5.1).
pub fn close_payload(code: u16, reason: &str) -> Vec<u8> {
    let mut payload = code.to_be_bytes().to_vec();
    let end = reason.floor_char_boundary(123);
    payload.extend_from_slice(&reason.as_bytes()[..end]);
    payload
}

/// The code and reason of a close frame's payload; 1005 stands for none (§7.1.5).
pub fn parse_close(payload: &[u8]) -> (u16, String) {
    match payload.split_first_chunk::<2>() {
        Some((code, reason)) => (u16::from_be_bytes(*code), String::from_utf8_lossy(reason).into_owned()),
        None => (1005, String::new()),
    }
}

/// Joins fragments to messages. Control frames pass beside it.
#[derive(Debug, Default)]
pub struct Assembler {
    opcode: Option<Opcode>,
    bytes: Vec<u8>,
}

impl Assembler {
    /// Takes a data frame; gives the whole message when this frame ends one.
    ///
    /// # Errors
    ///
    /// [`WireError::Fragments`] or [`WireError::TooLong`].
    pub fn push<'a>(
        &'a mut self,
        frame: Frame<'a>,
        limit_bytes: usize,
    ) -> Result<Option<(Opcode, &'a [u8])>, WireError> {
        match (self.opcode, frame.opcode) {
            (None, Opcode::Continuation) => return Err(WireError::Fragments),
            (None, opcode) if frame.last => return Ok(Some((opcode, frame.payload))),
            (None, opcode) => {
                self.opcode = Some(opcode);
                self.bytes.clear();
            }
            (Some(_), Opcode::Continuation) => {}
            (Some(_), _) => return Err(WireError::Fragments),
        }
        if self.bytes.len() + frame.payload.len() > limit_bytes {
            return Err(WireError::TooLong { limit_bytes });
        }
        self.bytes.extend_from_slice(frame.payload);
        if !frame.last {
            return Ok(None);
        }
        Ok(self.opcode.take().map(|opcode| (opcode, self.bytes.as_slice())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unmasked(opcode: u8, payload: &[u8]) -> Vec<u8> {
        let mut out = vec![0x80 | opcode];
        match payload.len() {
            len @ 0..=125 => out.push(len as u8),
            len @ 126..=0xffff => {
                out.push(126);
                out.extend_from_slice(&(len as u16).to_be_bytes());
            }
            len => {
                out.push(127);
                out.extend_from_slice(&(len as u64).to_be_bytes());
            }
        }
        out.extend_from_slice(payload);
        out
    }

    #[test]
    fn a_frame_is_read_only_when_its_last_byte_is_there() {
        for len in [0, 1, 125, 126, 65_535, 65_536] {
            let payload = vec![b'x'; len];
            let bytes = unmasked(1, &payload);
            for cut in [0, 1, 2, 3, bytes.len() - 1] {
                if cut < bytes.len() {
                    assert_eq!(decode(&bytes[..cut], 1 << 20), Ok(None), "{len} bytes cut at {cut}");
                }
            }
            let frame = Frame { last: true, opcode: Opcode::Text, payload: &payload };
            assert_eq!(decode(&bytes, 1 << 20), Ok(Some((frame, bytes.len()))));
        }
    }

    #[test]
    fn a_server_that_breaks_the_protocol_is_named_for_what_it_broke() {
        for (bytes, error) in [
            (&[0xc1, 0][..], WireError::ReservedBit),
            (&[0x83, 0], WireError::Opcode(3)),
            (&[0x81, 0x80], WireError::Masked),
            (&[0x89, 126], WireError::Control),
            (&[0x09, 0], WireError::Control),
            (&[0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 0], WireError::TooLong { limit_bytes: 1024 }),
        ] {
            assert_eq!(decode(bytes, 1024), Err(error));
        }
    }

    #[test]
    fn what_is_sent_is_masked_and_unmasks_to_itself() {
        for len in [0, 5, 126, 70_000] {
            let payload: Vec<u8> = (0..len).map(|index| index as u8).collect();
            let mask = [1, 2, 3, 4];
            let mut out = Vec::new();
            encode(Opcode::Binary, &payload, mask, &mut out);
            assert_eq!(out[0], 0x82);
            assert_eq!(out[1] & 0x80, 0x80);
            let body = &out[out.len() - len..];
            let back: Vec<u8> =
                body.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
            assert_eq!(back, payload);
        }
    }

    #[test]
    fn fragments_become_one_message() {
        let mut assembler = Assembler::default();
        let piece = |last, opcode, payload| Frame { last, opcode, payload };
        assert_eq!(assembler.push(piece(false, Opcode::Text, b"he"), 10), Ok(None));
        assert_eq!(assembler.push(piece(false, Opcode::Continuation, b"ll"), 10), Ok(None));
        assert_eq!(
            assembler.push(piece(true, Opcode::Continuation, b"o"), 10),
            Ok(Some((Opcode::Text, &b"hello"[..])))
        );
        assert_eq!(assembler.push(piece(true, Opcode::Text, b"x"), 10), Ok(Some((Opcode::Text, &b"x"[..]))));
        assert_eq!(assembler.push(piece(true, Opcode::Continuation, b"x"), 10), Err(WireError::Fragments));
        assert_eq!(
            assembler.push(piece(false, Opcode::Text, b"0123456789a"), 10),
            Err(WireError::TooLong { limit_bytes: 10 })
        );
    }

    #[test]
    fn a_close_frame_gives_code_and_reason() {
        assert_eq!(parse_close(&close_payload(4001, "draining")), (4001, "draining".to_owned()));
        assert_eq!(parse_close(&[]), (1005, String::new()));
        assert_eq!(close_payload(1000, &"é".repeat(100)).len(), 2 + 122);
    }
}
