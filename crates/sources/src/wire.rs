//! Protobuf's wire format, field by field, borrowing everything and keeping nothing.
//!
//! A library such as prost builds a tree of a request first, in which an empty message of two bytes takes a hundred
//! or more: 16 MiB of a hostile request would take gigabytes. We need a dozen messages, once, in order; read in
//! this way a request costs what its samples cost, and those are bounded.

use crate::intake::Malformed;

/// The value of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Field<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32(u32),
}

/// Calls for each field of a message.
pub(crate) fn each<'a>(
    message: &'a [u8],
    mut call: impl FnMut(u64, Field<'a>) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    let mut fields = Fields(message);
    while let Some((number, field)) = fields.next()? {
        call(number, field)?;
    }
    Ok(())
}

/// The fields of a message, in the order they were written.
#[derive(Debug, Clone, Copy)]
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// The next field and its number.
    fn next(&mut self) -> Result<Option<(u64, Field<'a>)>, Malformed> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let field = match key & 7 {
            0 => Field::Varint(self.varint()?),
            1 => Field::Fixed64(u64::from_le_bytes(self.array()?)),
            2 => {
                let len = self.varint()?;
                Field::Bytes(self.slice(len)?)
            }
            5 => Field::Fixed32(u32::from_le_bytes(self.array()?)),
            _ => return Err(Malformed::new("a field of no known wire type")),
        };
        match key >> 3 {
            0 => Err(Malformed::new("a field with the number 0")),
            number => Ok(Some((number, field))),
        }
    }

    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0_u64;
        for (at, byte) in self.0.iter().take(10).enumerate() {
            // The tenth byte has one bit left; more is cut off, as everybody does.
            value |= u64::from(byte & 0x7f) << (7 * at);
            if byte & 0x80 == 0 {
                self.0 = &self.0[at + 1..];
                return Ok(value);
            }
        }
        Err(Malformed::new("a number that does not end"))
    }

    fn slice(&mut self, len: u64) -> Result<&'a [u8], Malformed> {
        let len = usize::try_from(len).ok().filter(|len| *len <= self.0.len());
        let (taken, rest) =
            self.0.split_at(len.ok_or_else(|| Malformed::new("a field that is longer than its message"))?);
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let taken = self.slice(N as u64)?;
        Ok(taken.try_into().expect("it is as long as asked for"))
    }
}

impl<'a> Field<'a> {
    pub(crate) fn bytes(self) -> Result<&'a [u8], Malformed> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            _ => Err(Malformed::new("a number where a message or a text is expected")),
        }
    }

    pub(crate) fn text(self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Malformed::new("a text that is not UTF-8"))
    }

    pub(crate) fn varint(self) -> Result<u64, Malformed> {
        match self {
            Self::Varint(value) => Ok(value),
            _ => Err(Malformed::new("a field of another wire type than a number of variable length")),
        }
    }

    /// A `sint32`.
    pub(crate) fn zigzag(self) -> Result<i32, Malformed> {
        let value = self.varint()?;
        let value = (value >> 1) as i64 ^ -((value & 1) as i64);
        i32::try_from(value).map_err(|_| Malformed::new("a number of more than 32 bits"))
    }

    pub(crate) fn fixed64(self) -> Result<u64, Malformed> {
        match self {
            Self::Fixed64(value) => Ok(value),
            _ => Err(Malformed::new("a field of another wire type than a number of 64 bits")),
        }
    }

    pub(crate) fn double(self) -> Result<f64, Malformed> {
        self.fixed64().map(f64::from_bits)
    }

    /// Numbers of 64 bits that are repeated, packed or one by one.
    pub(crate) fn each_fixed64(self, mut each: impl FnMut(u64)) -> Result<(), Malformed> {
        let Self::Bytes(packed) = self else {
            each(self.fixed64()?);
            return Ok(());
        };
        let (numbers, rest) = packed.as_chunks();
        for number in numbers {
            each(u64::from_le_bytes(*number));
        }
        if rest.is_empty() { Ok(()) } else { Err(Malformed::new("a list that ends in a number")) }
    }

    /// Numbers of variable length that are repeated, packed or one by one.
    pub(crate) fn each_varint(self, mut each: impl FnMut(u64)) -> Result<(), Malformed> {
        let Self::Bytes(packed) = self else {
            each(self.varint()?);
            return Ok(());
        };
        let mut numbers = Fields(packed);
        while !numbers.0.is_empty() {
            each(numbers.varint()?);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_wire_type_is_read() {
        let bytes = [
            0x08, 0x96, 0x01, // 1: varint 150
            0x11, 1, 0, 0, 0, 0, 0, 0, 0, // 2: fixed64 1
            0x1a, 2, b'h', b'i', // 3: "hi"
            0x25, 2, 0, 0, 0, // 4: fixed32 2
        ];
        let mut fields = Fields(&bytes);
        let mut read = Vec::new();
        while let Some(field) = fields.next().unwrap() {
            read.push(field);
        }
        let wanted = [
            (1, Field::Varint(150)),
            (2, Field::Fixed64(1)),
            (3, Field::Bytes(b"hi")),
            (4, Field::Fixed32(2)),
        ];
        assert_eq!(read, wanted);
        for (encoded, value) in [(0, 0), (1, -1), (2, 1), (u64::from(u32::MAX), i32::MIN)] {
            assert_eq!(Field::Varint(encoded).zigzag(), Ok(value));
        }
        assert!(Field::Varint(1 << 33).zigzag().is_err());
    }

    #[test]
    fn lists_are_read_packed_and_one_by_one() {
        let mut numbers = Vec::new();
        Field::Bytes(&[1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0])
            .each_fixed64(|n| numbers.push(n))
            .unwrap();
        Field::Fixed64(3).each_fixed64(|n| numbers.push(n)).unwrap();
        Field::Bytes(&[4, 0x85, 0x01]).each_varint(|n| numbers.push(n)).unwrap();
        Field::Varint(6).each_varint(|n| numbers.push(n)).unwrap();
        assert_eq!(numbers, [1, 2, 3, 4, 133, 6]);
        assert!(Field::Bytes(&[1]).each_fixed64(|_| {}).is_err());
        assert!(Field::Bytes(&[0x80]).each_varint(|_| {}).is_err());
    }

    #[test]
    fn what_is_cut_off_or_unknown_is_an_error() {
        for bytes in [
            &[0x08][..],                                                            // no value
            &[0x80],                                                                // half a key
            &[0x0a, 5, b'h'],                                                       // a text that is cut off
            &[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],       // a length of 2^64-1
            &[0x11, 1, 2],                                                          // half a fixed64
            &[0x0b],                                                                // a group
            &[0x00, 0x00],                                                          // the number 0
            &[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1], // eleven bytes
        ] {
            assert!(Fields(bytes).next().is_err(), "{bytes:?}");
        }
    }
}
