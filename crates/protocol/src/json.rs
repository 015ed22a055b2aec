//! Small JSON tools: writing objects field by field, and looking at untouched values.
//!
//! Answers are written by hand so that key order is ours (document 004 fixes it) and payloads are copied, not
//! parsed. Everything written here is valid JSON as long as raw values are.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt::{self, Display};
use std::io::Write as _;

use serde::de::{self, Deserializer as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// The deepest nesting of arrays and objects in any message, in either encoding (R7).
pub const DEPTH_MAX: usize = 32;

/// Writes one object. Each field method adds a comma where needed.
pub(crate) struct Object<'o> {
    out: &'o mut Vec<u8>,
    first: bool,
}

impl<'o> Object<'o> {
    pub(crate) fn open(out: &'o mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, first: true }
    }

    /// Opens a message with its `type`, and the request's `id` right behind it when there is one.
    pub(crate) fn message(out: &'o mut Vec<u8>, name: &str, id: Option<&str>) -> Self {
        let mut object = Self::open(out);
        object.text("type", name);
        if let Some(id) = id {
            object.raw("id", id.as_bytes());
        }
        object
    }

    /// Writes the key and hands out the buffer for the value.
    pub(crate) fn key(&mut self, key: &str) -> &mut Vec<u8> {
        if !std::mem::take(&mut self.first) {
            self.out.push(b',');
        }
        push_text(self.out, key);
        self.out.push(b':');
        self.out
    }

    pub(crate) fn raw(&mut self, key: &str, value: &[u8]) {
        self.key(key).extend_from_slice(value);
    }

    /// A payload as its writer wrote it, or `null` if it is nested too deeply for anyone to read.
    pub(crate) fn payload(&mut self, key: &str, value: &RawValue) {
        let json = value.get().as_bytes();
        self.raw(key, if is_shallow(json) { json } else { b"null" });
    }

    pub(crate) fn text(&mut self, key: &str, value: &str) {
        push_text(self.key(key), value);
    }

    /// A whole number, or anything else whose `Display` is JSON.
    pub(crate) fn shown(&mut self, key: &str, value: impl Display) {
        push_shown(self.key(key), value);
    }

    pub(crate) fn float(&mut self, key: &str, value: f64) {
        push_float(self.key(key), value);
    }

    pub(crate) fn flag(&mut self, key: &str, value: bool) {
        self.shown(key, value);
    }

    pub(crate) fn texts<'t>(&mut self, key: &str, values: impl Iterator<Item = &'t str>) {
        let out = self.key(key);
        push_list(out, values, push_text);
    }

    pub(crate) fn close(self) {
        self.out.push(b'}');
    }
}

pub(crate) fn push_list<T>(
    out: &mut Vec<u8>,
    values: impl Iterator<Item = T>,
    mut push: impl FnMut(&mut Vec<u8>, T),
) {
    out.push(b'[');
    for (at, value) in values.enumerate() {
        if at > 0 {
            out.push(b',');
        }
        push(out, value);
    }
    out.push(b']');
}

pub(crate) fn push_shown(out: &mut Vec<u8>, value: impl Display) {
    write!(out, "{value}").expect("writing to a Vec does not fail");
}

/// The shortest text that reads back as `value`, always with a fraction or exponent; `null` if not finite.
pub(crate) fn push_float(out: &mut Vec<u8>, value: f64) {
    serde_json::to_writer(out, &value).expect("writing to a Vec does not fail");
}

pub(crate) fn push_text(out: &mut Vec<u8>, text: &str) {
    let plain = |byte: u8| byte >= 0x20 && byte != b'"' && byte != b'\\';
    if text.bytes().all(plain) {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    } else {
        serde_json::to_writer(out, text).expect("writing to a Vec does not fail");
    }
}

/// Whether arrays and objects nest no deeper than [`DEPTH_MAX`]. Says nothing about the rest of the syntax.
pub fn is_shallow(json: &[u8]) -> bool {
    // `[` and `{` differ in one bit, so counting both is one comparison a byte and the compiler vectorises it.
    // No more openings than levels is the usual case and needs no look at strings.
    if json.iter().filter(|byte| **byte | 0x20 == b'{').count() <= DEPTH_MAX {
        return true;
    }
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    for byte in json {
        match (in_text, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => in_text = !in_text,
            (false, b'[' | b'{') => {
                depth += 1;
                if depth > DEPTH_MAX {
                    return false;
                }
            }
            (false, b']' | b'}') => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    true
}

/// The text of a raw JSON string, borrowed when it has no escapes; `None` if it is no string.
pub(crate) fn text_of(raw: &RawValue) -> Option<Cow<'_, str>> {
    let inner = raw.get().strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') {
        return serde_json::from_str::<String>(raw.get()).ok().map(Cow::Owned);
    }
    Some(Cow::Borrowed(inner))
}

/// Why [`items`] or [`members`] gave none.
pub(crate) enum ItemsError {
    /// It is something else, or no JSON.
    Other,
    /// More than the bound. Reading stopped there, so that tiny items cannot cost many times their bytes.
    TooMany,
}

/// The items of a JSON array, untouched, at most `count_max`.
pub(crate) fn items(json: &str, count_max: usize) -> Result<Vec<&RawValue>, ItemsError> {
    struct Items<'c> {
        count_max: usize,
        too_many: &'c Cell<bool>,
    }
    impl<'de> Visitor<'de> for Items<'_> {
        type Value = Vec<&'de RawValue>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            let mut items = Vec::new();
            while let Some(item) = list.next_element()? {
                if items.len() == self.count_max {
                    self.too_many.set(true);
                    return Err(de::Error::custom("too many"));
                }
                items.push(item);
            }
            Ok(items)
        }
    }
    let too_many = Cell::new(false);
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let items = deserializer.deserialize_seq(Items { count_max, too_many: &too_many });
    match items.and_then(|items| deserializer.end().map(|()| items)) {
        Ok(items) => Ok(items),
        Err(_) if too_many.get() => Err(ItemsError::TooMany),
        Err(_) => Err(ItemsError::Other),
    }
}

/// The members of a JSON object, their values untouched, at most `count_max`, in the order written.
pub(crate) fn members(json: &str, count_max: usize) -> Result<Vec<(Cow<'_, str>, &RawValue)>, ItemsError> {
    struct Members<'c> {
        count_max: usize,
        too_many: &'c Cell<bool>,
    }
    impl<'de> Visitor<'de> for Members<'_> {
        type Value = Vec<(Cow<'de, str>, &'de RawValue)>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut members = Vec::new();
            while let Some((key, value)) = map.next_entry::<&RawValue, _>()? {
                if members.len() == self.count_max {
                    self.too_many.set(true);
                    return Err(de::Error::custom("too many"));
                }
                members.push((text_of(key).ok_or_else(|| de::Error::custom("a key is a text"))?, value));
            }
            Ok(members)
        }
    }
    let too_many = Cell::new(false);
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let members = deserializer.deserialize_map(Members { count_max, too_many: &too_many });
    match members.and_then(|members| deserializer.end().map(|()| members)) {
        Ok(members) => Ok(members),
        Err(_) if too_many.get() => Err(ItemsError::TooMany),
        Err(_) => Err(ItemsError::Other),
    }
}

/// A moment: RFC 3339 as in document 004, or milliseconds since 1970.
pub(crate) fn moment_ms(raw: &RawValue) -> Option<i64> {
    match text_of(raw) {
        Some(text) => text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_millisecond),
        None => raw.get().parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_counts_brackets_outside_of_strings() {
        let check = |json: &str, wanted| assert_eq!(is_shallow(json.as_bytes()), wanted, "{json}");
        check(&format!("{}{}", "[".repeat(32), "]".repeat(32)), true);
        check(&format!("{}{}", "[".repeat(33), "]".repeat(33)), false);
        check(&format!("[{}1]", "{},".repeat(100)), true);
        check(&format!("\"{}\"", "[".repeat(100)), true);
        check(&format!("\"\\\"{}\"", "[".repeat(100)), true);
        check(&format!("\"\\\\\"{}", "[".repeat(100)), false);
    }

    #[test]
    fn text_is_escaped_where_json_asks_for_it() {
        let mut out = Vec::new();
        push_text(&mut out, "a\"b\\c\n\u{1}\u{e9}");
        assert_eq!(String::from_utf8(out).unwrap(), "\"a\\\"b\\\\c\\n\\u0001\u{e9}\"");
    }
}
