//! JSON to MessagePack.

use super::TranscodeError::{self, TooDeep};

pub(super) fn pack(json: &str, depth_max: usize, out: &mut Vec<u8>) -> Result<(), TranscodeError> {
    let mut packer = Packer { json, at: 0, depth_max, out };
    packer.space();
    packer.value(0)?;
    packer.space();
    if packer.at == json.len() { Ok(()) } else { Err(packer.wrong()) }
}

struct Packer<'j, 'o> {
    json: &'j str,
    at: usize,
    depth_max: usize,
    out: &'o mut Vec<u8>,
}

#[derive(Clone, Copy)]
enum Container {
    Array,
    Map,
}

impl Packer<'_, '_> {
    fn value(&mut self, depth: usize) -> Result<(), TranscodeError> {
        match self.peek() {
            Some(b'{') => self.container(Container::Map, b'}', depth + 1),
            Some(b'[') => self.container(Container::Array, b']', depth + 1),
            Some(b'"') => self.text(),
            Some(b't') => self.word("true", 0xC3),
            Some(b'f') => self.word("false", 0xC2),
            Some(b'n') => self.word("null", 0xC0),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => Err(self.wrong()),
        }
    }

    /// Writes a one-byte header, then the items, then widens the header if there were more than 15. Counting
    /// first would read every nested item once per level.
    fn container(&mut self, container: Container, end: u8, depth: usize) -> Result<(), TranscodeError> {
        if depth > self.depth_max {
            return Err(TooDeep);
        }
        let header = self.out.len();
        self.out.push(0);
        self.at += 1;
        self.space();
        let mut count = 0_u32;
        if !self.eat(end) {
            loop {
                if let Container::Map = container {
                    self.text()?;
                    self.space();
                    self.expect(b':')?;
                }
                self.space();
                self.value(depth)?;
                count += 1;
                self.space();
                if self.eat(end) {
                    break;
                }
                self.expect(b',')?;
                self.space();
            }
        }
        self.patch(header, container, count);
        Ok(())
    }

    fn patch(&mut self, header: usize, container: Container, count: u32) {
        let (fix, wide) = match container {
            Container::Array => (0x90, 0xDC),
            Container::Map => (0x80, 0xDE),
        };
        match count {
            0..=15 => self.out[header] = fix | count as u8,
            16..=0xFFFF => {
                self.out[header] = wide;
                self.out.splice(header + 1..header + 1, (count as u16).to_be_bytes());
            }
            _ => {
                self.out[header] = wide + 1;
                self.out.splice(header + 1..header + 1, count.to_be_bytes());
            }
        }
    }

    fn text(&mut self) -> Result<(), TranscodeError> {
        self.expect(b'"')?;
        let start = self.at;
        let special = |byte: &u8| *byte == b'"' || *byte == b'\\' || *byte < 0x20;
        let rest = &self.json.as_bytes()[self.at..];
        self.at += rest.iter().position(special).unwrap_or(rest.len());
        match self.peek() {
            Some(b'"') => {
                let text = &self.json[start..self.at];
                self.at += 1;
                self.push_text(text.as_bytes());
                Ok(())
            }
            Some(b'\\') => self.escaped_text(start),
            _ => Err(self.wrong()),
        }
    }

    /// A text with escapes. Its length is known only at its end, so it is unescaped beside the output.
    fn escaped_text(&mut self, start: usize) -> Result<(), TranscodeError> {
        let mut text = Vec::with_capacity(self.at - start + 16);
        text.extend_from_slice(&self.json.as_bytes()[start..self.at]);
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    self.push_text(&text);
                    return Ok(());
                }
                Some(b'\\') => {
                    self.at += 1;
                    self.escape(&mut text)?;
                }
                Some(byte) if byte >= 0x20 => {
                    self.at += 1;
                    text.push(byte);
                }
                _ => return Err(self.wrong()),
            }
        }
    }

    fn escape(&mut self, text: &mut Vec<u8>) -> Result<(), TranscodeError> {
        let byte = self.peek().ok_or_else(|| self.wrong())?;
        let plain = match byte {
            b'"' | b'\\' | b'/' => byte,
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                self.at += 1;
                let character = self.unicode()?;
                text.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                return Ok(());
            }
            _ => return Err(self.wrong()),
        };
        self.at += 1;
        text.push(plain);
        Ok(())
    }

    fn unicode(&mut self) -> Result<char, TranscodeError> {
        let first = self.hex4()?;
        let rest = &self.json.as_bytes()[self.at..];
        if (0xD800..0xDC00).contains(&first) && rest.starts_with(b"\\u") {
            let before = self.at;
            self.at += 2;
            let second = self.hex4()?;
            if (0xDC00..0xE000).contains(&second) {
                let code = 0x1_0000 + ((first - 0xD800) << 10) + (second - 0xDC00);
                return Ok(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            self.at = before;
        }
        Ok(char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    fn hex4(&mut self) -> Result<u32, TranscodeError> {
        let digits = self.json.as_bytes().get(self.at..self.at + 4).ok_or_else(|| self.wrong())?;
        let digit = |value: u32, byte: &u8| Some(value << 4 | char::from(*byte).to_digit(16)?);
        let value = digits.iter().try_fold(0, digit).ok_or_else(|| self.wrong())?;
        self.at += 4;
        Ok(value)
    }

    fn push_text(&mut self, text: &[u8]) {
        match text.len() {
            len @ 0..=31 => self.out.push(0xA0 | len as u8),
            len @ 32..=0xFF => self.out.extend_from_slice(&[0xD9, len as u8]),
            len @ 0x100..=0xFFFF => {
                self.out.push(0xDA);
                self.out.extend_from_slice(&(len as u16).to_be_bytes());
            }
            len => {
                self.out.push(0xDB);
                self.out.extend_from_slice(&(len as u32).to_be_bytes());
            }
        }
        self.out.extend_from_slice(text);
    }

    fn number(&mut self) -> Result<(), TranscodeError> {
        let start = self.at;
        let negative = self.eat(b'-');
        // RFC 8259 §6: no leading zeros, digits on both sides of the point.
        if !self.eat(b'0') && self.digits() == 0 {
            return Err(self.wrong());
        }
        let mut whole = true;
        if self.eat(b'.') {
            whole = false;
            if self.digits() == 0 {
                return Err(self.wrong());
            }
        }
        if self.eat(b'e') || self.eat(b'E') {
            whole = false;
            let _ = self.eat(b'+') || self.eat(b'-');
            if self.digits() == 0 {
                return Err(self.wrong());
            }
        }
        let token = &self.json[start..self.at];
        match (whole, negative) {
            (true, false) if let Ok(value) = token.parse() => self.push_unsigned(value),
            // Negative zero has no integer form.
            (true, true)
                if token != "-0"
                    && let Ok(value) = token.parse() =>
            {
                self.push_negative(value);
            }
            _ => {
                let value: f64 = token.parse().map_err(|_| self.wrong())?;
                self.out.push(0xCB);
                self.out.extend_from_slice(&value.to_be_bytes());
            }
        }
        Ok(())
    }

    fn push_unsigned(&mut self, value: u64) {
        match value {
            0..=0x7F => self.out.push(value as u8),
            0x80..=0xFF => self.out.extend_from_slice(&[0xCC, value as u8]),
            0x100..=0xFFFF => {
                self.out.push(0xCD);
                self.out.extend_from_slice(&(value as u16).to_be_bytes());
            }
            0x1_0000..=0xFFFF_FFFF => {
                self.out.push(0xCE);
                self.out.extend_from_slice(&(value as u32).to_be_bytes());
            }
            _ => {
                self.out.push(0xCF);
                self.out.extend_from_slice(&value.to_be_bytes());
            }
        }
    }

    fn push_negative(&mut self, value: i64) {
        if value >= -32 {
            self.out.push(value as u8);
        } else if let Ok(value) = i8::try_from(value) {
            self.out.extend_from_slice(&[0xD0, value as u8]);
        } else if let Ok(value) = i16::try_from(value) {
            self.out.push(0xD1);
            self.out.extend_from_slice(&value.to_be_bytes());
        } else if let Ok(value) = i32::try_from(value) {
            self.out.push(0xD2);
            self.out.extend_from_slice(&value.to_be_bytes());
        } else {
            self.out.push(0xD3);
            self.out.extend_from_slice(&value.to_be_bytes());
        }
    }

    fn word(&mut self, word: &str, byte: u8) -> Result<(), TranscodeError> {
        if !self.json.as_bytes()[self.at..].starts_with(word.as_bytes()) {
            return Err(self.wrong());
        }
        self.at += word.len();
        self.out.push(byte);
        Ok(())
    }

    fn digits(&mut self) -> usize {
        let rest = &self.json.as_bytes()[self.at..];
        let count = rest.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(rest.len());
        self.at += count;
        count
    }

    fn space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, byte: u8) -> Result<(), TranscodeError> {
        if self.eat(byte) { Ok(()) } else { Err(self.wrong()) }
    }

    fn peek(&self) -> Option<u8> {
        self.json.as_bytes().get(self.at).copied()
    }

    fn wrong(&self) -> TranscodeError {
        TranscodeError::Syntax { at: self.at }
    }
}
