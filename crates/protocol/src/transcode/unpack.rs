//! MessagePack to JSON.

use super::{TranscodeError, output_bytes_max};
use crate::{DEPTH_MAX, json};

pub(super) fn unpack(msgpack: &[u8], out: &mut Vec<u8>) -> Result<(), TranscodeError> {
    let max_bytes = output_bytes_max(msgpack.len());
    // From twice the input one doubling reaches the bound, and never passes it.
    out.reserve(msgpack.len().saturating_mul(2));
    let mut unpacker = Unpacker { input: msgpack, at: 0, out, max_bytes };
    unpacker.value(0)?;
    if unpacker.at == msgpack.len() { Ok(()) } else { Err(unpacker.wrong()) }
}

struct Unpacker<'m, 'o> {
    input: &'m [u8],
    at: usize,
    out: &'o mut Vec<u8>,
    max_bytes: usize,
}

impl<'m> Unpacker<'m, '_> {
    fn value(&mut self, depth: usize) -> Result<(), TranscodeError> {
        let byte = self.byte()?;
        match byte {
            0x00..=0x7F => self.shown(byte),
            0x80..=0x8F => self.map(u32::from(byte & 0x0F), depth + 1),
            0x90..=0x9F => self.array(u32::from(byte & 0x0F), depth + 1),
            0xA0..=0xBF | 0xD9..=0xDB => {
                let text = self.text(byte)?;
                self.push_text(text)
            }
            0xC0 => self.push(b"null"),
            0xC2 => self.push(b"false"),
            0xC3 => self.push(b"true"),
            0xC4..=0xC6 => Err(TranscodeError::NoJsonForm { what: "binary" }),
            0xC7..=0xC9 | 0xD4..=0xD8 => Err(TranscodeError::NoJsonForm { what: "an extension type" }),
            0xCA => {
                let value = f32::from_be_bytes(self.take()?);
                self.float(value, value.is_finite())
            }
            0xCB => {
                let value = f64::from_be_bytes(self.take()?);
                self.float(value, value.is_finite())
            }
            0xCC => {
                let value = u8::from_be_bytes(self.take()?);
                self.shown(value)
            }
            0xCD => {
                let value = u16::from_be_bytes(self.take()?);
                self.shown(value)
            }
            0xCE => {
                let value = u32::from_be_bytes(self.take()?);
                self.shown(value)
            }
            0xCF => {
                let value = u64::from_be_bytes(self.take()?);
                self.shown(value)
            }
            0xD0 => {
                let value = i8::from_be_bytes(self.take()?);
                self.shown(value)
            }
            0xD1 => {
                let value = i16::from_be_bytes(self.take()?);
                self.shown(value)
            }
            0xD2 => {
                let value = i32::from_be_bytes(self.take()?);
                self.shown(value)
            }
            0xD3 => {
                let value = i64::from_be_bytes(self.take()?);
                self.shown(value)
            }
            0xDC => {
                let count = self.length16()?;
                self.array(count, depth + 1)
            }
            0xDD => {
                let count = self.length32()?;
                self.array(count, depth + 1)
            }
            0xDE => {
                let count = self.length16()?;
                self.map(count, depth + 1)
            }
            0xDF => {
                let count = self.length32()?;
                self.map(count, depth + 1)
            }
            0xE0..=0xFF => self.shown(byte as i8),
            0xC1 => Err(self.wrong()),
        }
    }

    fn array(&mut self, count: u32, depth: usize) -> Result<(), TranscodeError> {
        self.enter(count as usize, depth)?;
        self.push(b"[")?;
        for at in 0..count {
            if at > 0 {
                self.push(b",")?;
            }
            self.value(depth)?;
        }
        self.push(b"]")
    }

    fn map(&mut self, count: u32, depth: usize) -> Result<(), TranscodeError> {
        self.enter(count as usize * 2, depth)?;
        self.push(b"{")?;
        for at in 0..count {
            if at > 0 {
                self.push(b",")?;
            }
            match self.byte()? {
                byte @ (0xA0..=0xBF | 0xD9..=0xDB) => {
                    let key = self.text(byte)?;
                    self.push_text(key)?;
                }
                _ => return Err(TranscodeError::NoJsonForm { what: "a key that is not a text" }),
            }
            self.push(b":")?;
            self.value(depth)?;
        }
        self.push(b"}")
    }

    /// Every item takes a byte at least, so a length beyond the rest of the input is a lie.
    fn enter(&self, items: usize, depth: usize) -> Result<(), TranscodeError> {
        if depth > DEPTH_MAX {
            return Err(TranscodeError::TooDeep);
        }
        if items > self.input.len() - self.at { Err(self.wrong()) } else { Ok(()) }
    }

    fn text(&mut self, byte: u8) -> Result<&'m str, TranscodeError> {
        let len = match byte {
            0xD9 => u32::from(self.byte()?),
            0xDA => self.length16()?,
            0xDB => self.length32()?,
            _ => u32::from(byte & 0x1F),
        };
        let text = self.slice(len as usize)?;
        std::str::from_utf8(text).map_err(|_| TranscodeError::Utf8)
    }

    fn float(&mut self, value: impl serde::Serialize, finite: bool) -> Result<(), TranscodeError> {
        if !finite {
            return Err(TranscodeError::NoJsonForm { what: "a float that is not finite" });
        }
        serde_json::to_writer(&mut *self.out, &value).expect("writing to a Vec does not fail");
        self.bounded(0)
    }

    fn shown(&mut self, value: impl std::fmt::Display) -> Result<(), TranscodeError> {
        json::push_shown(self.out, value);
        self.bounded(0)
    }

    /// Checked before the copy, with every escape at its longest, so that a refusal reserves nothing.
    fn push_text(&mut self, text: &str) -> Result<(), TranscodeError> {
        let escaped = text.bytes().filter(|byte| *byte < 0x20 || *byte == b'"' || *byte == b'\\').count();
        self.bounded(text.len() + 5 * escaped + 2)?;
        json::push_text(self.out, text);
        Ok(())
    }

    fn push(&mut self, bytes: &[u8]) -> Result<(), TranscodeError> {
        self.bounded(bytes.len())?;
        self.out.extend_from_slice(bytes);
        Ok(())
    }

    fn bounded(&self, more: usize) -> Result<(), TranscodeError> {
        let max_bytes = self.max_bytes;
        if self.out.len() + more > max_bytes { Err(TranscodeError::TooLarge { max_bytes }) } else { Ok(()) }
    }

    fn byte(&mut self) -> Result<u8, TranscodeError> {
        self.take::<1>().map(|[byte]| byte)
    }

    fn length16(&mut self) -> Result<u32, TranscodeError> {
        self.take().map(|bytes| u32::from(u16::from_be_bytes(bytes)))
    }

    fn length32(&mut self) -> Result<u32, TranscodeError> {
        self.take().map(u32::from_be_bytes)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], TranscodeError> {
        let bytes = self.slice(N)?;
        Ok(bytes.try_into().expect("slice has the length that was asked for"))
    }

    fn slice(&mut self, len: usize) -> Result<&'m [u8], TranscodeError> {
        let end =
            self.at.checked_add(len).filter(|end| *end <= self.input.len()).ok_or_else(|| self.wrong())?;
        let slice = &self.input[self.at..end];
        self.at = end;
        Ok(slice)
    }

    fn wrong(&self) -> TranscodeError {
        TranscodeError::Syntax { at: self.at }
    }
}
