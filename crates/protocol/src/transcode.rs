//! JSON to MessagePack and back, without a tree in between.
//!
//! A tree would cost 30 to 40 times the message in memory for a hostile sender, so both directions stream
//! from bytes to bytes. JSON is the protocol's own form: MessagePack that JSON cannot say (binary, extension
//! types, keys that are not texts, NaN) is refused on the way in. Both nest at most
//! [`DEPTH_MAX`] deep.

mod pack;
mod unpack;

use crate::DEPTH_MAX;

/// Why bytes could not be transcoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TranscodeError {
    /// The input ends early, goes on after its value, or breaks the syntax.
    #[error("syntax error at byte {at}")]
    Syntax {
        /// Offset in the input.
        at: usize,
    },
    /// Arrays and maps nest too deeply.
    #[error("nested deeper than {DEPTH_MAX} levels")]
    TooDeep,
    /// A text is not UTF-8.
    #[error("text is not UTF-8")]
    Utf8,
    /// MessagePack that JSON has no words for.
    #[error("{what} has no JSON form")]
    NoJsonForm {
        /// What was found.
        what: &'static str,
    },
    /// The JSON would be larger than [`output_bytes_max`].
    #[error("message would be larger than {max_bytes} bytes as JSON")]
    TooLarge {
        /// The bound.
        max_bytes: usize,
    },
}

/// The most JSON that MessagePack of this length may become: 4 times, but at least 64 KiB.
///
/// Ordinary messages grow by less than 2; what grows more is an array of one-byte values or a text of control
/// characters, and is fine while it is small.
#[must_use]
pub fn output_bytes_max(input_bytes: usize) -> usize {
    input_bytes.saturating_mul(4).max(64 * 1024)
}

/// Encodes a JSON document as MessagePack.
///
/// Whole numbers become integers where they fit 64 bits, all others 64-bit floats. A surrogate escape without
/// its partner becomes U+FFFD, as a browser's decoder would do.
///
/// # Errors
///
/// [`TranscodeError::Syntax`], [`TranscodeError::TooDeep`] or [`TranscodeError::Utf8`].
pub fn json_to_msgpack(json: &[u8]) -> Result<Vec<u8>, TranscodeError> {
    let mut out = Vec::with_capacity(json.len());
    pack_json(json, DEPTH_MAX, &mut out)?;
    Ok(out)
}

/// Appends to `out`. Our own messages put an envelope around payloads, so they may nest a little deeper.
pub(crate) fn pack_json(json: &[u8], depth_max: usize, out: &mut Vec<u8>) -> Result<(), TranscodeError> {
    let text = std::str::from_utf8(json).map_err(|_| TranscodeError::Utf8)?;
    pack::pack(text, depth_max, out)
}

/// Decodes one MessagePack value as JSON into `out`, which is cleared first and may be kept for reuse.
///
/// # Errors
///
/// [`TranscodeError`]; lengths are checked against what is left of the input before anything is reserved.
pub fn msgpack_to_json(msgpack: &[u8], out: &mut Vec<u8>) -> Result<(), TranscodeError> {
    out.clear();
    unpack::unpack(msgpack, out)
}
