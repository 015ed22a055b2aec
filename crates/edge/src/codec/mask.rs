//! Undoing the client's masking (RFC 6455 §5.3) in place, eight bytes at a time.

/// Unmasks `payload`, the part of a frame's payload that starts `offset` bytes into it.
pub(super) fn unmask(payload: &mut [u8], key: [u8; 4], offset: usize) {
    let mut turned = key;
    turned.rotate_left(offset % 4);
    let [a, b, c, d] = turned;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, tail) = payload.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, mask) in tail.iter_mut().zip(turned.iter().cycle()) {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unmasking_in_any_two_parts_equals_unmasking_byte_by_byte() {
        let key = [0x37, 0xfa, 0x21, 0x3d];
        let masked: Vec<u8> = (0..67u8).collect();
        let expected: Vec<u8> = masked.iter().enumerate().map(|(i, b)| b ^ key[i % 4]).collect();
        for split in 0..=masked.len() {
            let mut bytes = masked.clone();
            let (head, tail) = bytes.split_at_mut(split);
            unmask(head, key, 0);
            unmask(tail, key, split);
            assert_eq!(bytes, expected, "split at {split}");
        }
    }
}
