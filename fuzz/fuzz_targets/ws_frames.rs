//! Frames from a client: no panic, and however the bytes are cut up, the same messages come out.
#![no_main]

use std::ops::ControlFlow;

use libfuzzer_sys::fuzz_target;
use pulsewire_edge::codec::{ControlBudget, Decoder, Inbound, Limits};

fuzz_target!(|input: &[u8]| {
    let Some((cut, bytes)) = input.split_first() else { return };
    let whole = decode(bytes, bytes.len());
    let pieces = decode(bytes, usize::from(*cut));
    assert_eq!(whole, pieces);
});

/// What was decoded, and whether the connection ended in a violation.
fn decode(bytes: &[u8], piece_bytes: usize) -> (Vec<String>, bool) {
    let limits = Limits { message_bytes_max: 512, fragments_max: 16, ..Limits::default() };
    let (mut decoder, mut budget) = (Decoder::default(), ControlBudget::default());
    let (mut units, mut closed) = (Vec::new(), false);
    for piece in bytes.to_vec().chunks_mut(piece_bytes.max(1)) {
        let outcome = decoder.decode(piece, &limits, 0, &mut budget, &mut |inbound| {
            closed = matches!(inbound, Inbound::Close { .. });
            units.push(format!("{inbound:?}"));
            if closed { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        if outcome.is_err() {
            return (units, true);
        }
        if closed {
            break;
        }
        // One message, one control frame and their bookkeeping.
        assert!(decoder.held_bytes() <= 2 * (512 + 125) + 512, "{} bytes held", decoder.held_bytes());
    }
    (units, false)
}
