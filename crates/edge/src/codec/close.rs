//! The body of a close frame (RFC 6455 §5.5.1, §7.4).

use pulsewire_protocol::CloseCode;

use super::violation::{self, Violation};

/// The code and reason of an unmasked close payload.
pub(super) fn parse(payload: &[u8]) -> Result<(Option<u16>, &str), Violation> {
    let Some((code, reason)) = payload.split_first_chunk::<2>() else {
        return if payload.is_empty() { Ok((None, "")) } else { Err(violation::CLOSE_ONE_BYTE) };
    };
    let code = u16::from_be_bytes(*code);
    if !CloseCode::is_sendable(code) {
        return Err(violation::CLOSE_CODE);
    }
    let reason = simdutf8::basic::from_utf8(reason).map_err(|_| violation::CLOSE_REASON)?;
    Ok((Some(code), reason))
}
