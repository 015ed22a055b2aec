//! Texts with places to fill: `{key}`, and `{/pointer}` for a part of a message (RFC 6901).

use std::borrow::Cow;
use std::fmt::{self, Write as _};

use pulsewire_protocol::ChannelName;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

/// The longest template.
const BYTES_MAX: usize = 8 * 1024;

/// A place in a JSON document (RFC 6901): `/a/0/b`, or empty for the whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pointer(Box<str>);

impl Pointer {
    /// Reads a pointer.
    ///
    /// # Errors
    ///
    /// [`TemplateError`] if it is neither empty nor begins with `/`.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        if text.is_empty() || text.starts_with('/') {
            Ok(Self(text.into()))
        } else {
            Err(TemplateError(format!("`{text}` is no JSON pointer: expected nothing, or `/name/0/name`")))
        }
    }

    /// What stands there, as the bytes that it is written in. Of members with the same name it is the last.
    #[must_use]
    pub fn find<'d>(&self, document: &'d RawValue) -> Option<&'d RawValue> {
        let mut at = document;
        for token in self.0.split('/').skip(1) {
            let token = match token.contains('~') {
                true => Cow::Owned(token.replace("~1", "/").replace("~0", "~")),
                false => Cow::Borrowed(token),
            };
            let mut parser = serde_json::Deserializer::from_str(at.get());
            at = match at.get().as_bytes().first()? {
                b'{' => parser.deserialize_map(Member(&token)),
                b'[' => parser.deserialize_seq(Element(index(&token)?)),
                _ => return None,
            }
            .ok()??;
        }
        Some(at)
    }

    /// The pointer as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The text, number or truth value that stands somewhere: a text unescaped, the others as they are written.
pub(super) fn scalar(value: &RawValue) -> Option<Cow<'_, str>> {
    let json = value.get();
    match json.as_bytes().first()? {
        b'"' => match serde_json::from_str::<&str>(json) {
            Ok(text) => Some(Cow::Borrowed(text)),
            // It has escapes; it is no text if they make none.
            Err(_) => serde_json::from_str::<String>(json).ok().map(Cow::Owned),
        },
        b'{' | b'[' | b'n' => None,
        _ => Some(Cow::Borrowed(json)),
    }
}

/// A place in an array (RFC 6901 §4): digits without a zero before them.
fn index(token: &str) -> Option<usize> {
    let digits = token.bytes().all(|byte| byte.is_ascii_digit());
    (digits && (token == "0" || !token.starts_with('0'))).then(|| token.parse().ok())?
}

/// Finds a member; the others are passed over unread, so a number that no type holds does no harm beside it.
struct Member<'t>(&'t str);

impl<'de> Visitor<'de> for Member<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(this) = map.next_key_seed(Is(self.0))? {
            if this {
                found = Some(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

/// Whether a member has this name.
struct Is<'t>(&'t str);

impl<'de> DeserializeSeed<'de> for Is<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, name: D) -> Result<bool, D::Error> {
        name.deserialize_str(self)
    }
}

impl Visitor<'_> for Is<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<bool, E> {
        Ok(name == self.0)
    }
}

/// Finds an element.
struct Element(usize);

impl<'de> Visitor<'de> for Element {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
        for _ in 0..self.0 {
            if elements.next_element::<IgnoredAny>()?.is_none() {
                return Ok(None);
            }
        }
        let found = elements.next_element()?;
        while elements.next_element::<IgnoredAny>()?.is_some() {}
        Ok(found)
    }
}

/// A text that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TemplateError(pub String);

/// A text with places to fill. `{{` and `}}` stand for braces; a brace that opens no known place, as JSON has them,
/// stands for itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    text: Box<str>,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(Box<str>),
    Key,
    Keys,
    Count,
    Time,
    Secret,
    Message(Pointer),
}

/// What fills the places.
#[derive(Debug, Clone, Copy, Default)]
pub struct Values<'a> {
    /// `{key}`.
    pub key: &'a str,
    /// `{keys}`: as a JSON array.
    pub keys: &'a [&'a str],
    /// `{n}`: a number that no other message of the link had.
    pub n: u64,
    /// `{time_ms}`: Unix milliseconds.
    pub time_ms: i64,
    /// `{secret}`.
    pub secret: &'a str,
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    ///
    /// If it is longer than 8 KiB, or a pointer in it is none.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        if text.len() > BYTES_MAX {
            return Err(TemplateError(format!("{} bytes are more than 8 KiB", text.len())));
        }
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            plain.push_str(&rest[..at]);
            rest = &rest[at..];
            let doubled = rest.starts_with("{{") || rest.starts_with("}}");
            let place = rest.strip_prefix('{').and_then(|rest| rest.split_once('}')).map(|(name, _)| name);
            match place.and_then(part).transpose()? {
                Some(part) => {
                    let taken = place.map_or(0, str::len) + 2;
                    if !plain.is_empty() {
                        parts.push(Part::Text(std::mem::take(&mut plain).into()));
                    }
                    parts.push(part);
                    rest = &rest[taken..];
                }
                None => {
                    plain.push_str(&rest[..1]);
                    // A doubled brace is one, but only around what would be a place: JSON has `}}` of its own.
                    let quoted = doubled && rest.starts_with("{{") && escaped(&rest[2..]);
                    rest = &rest[if quoted { 2 } else { 1 }..];
                    if quoted && let Some(end) = rest.find("}}") {
                        plain.push_str(&rest[..=end]);
                        rest = &rest[end + 2..];
                    }
                }
            }
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            parts.push(Part::Text(plain.into()));
        }
        Ok(Self { text: text.into(), parts })
    }

    /// The template as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it is about one key: it has `{key}`.
    #[must_use]
    pub fn names_key(&self) -> bool {
        self.parts.contains(&Part::Key)
    }

    /// Whether it needs a message.
    #[must_use]
    pub fn reads_message(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Message(_)))
    }

    /// Whether a message can fill it: it has no place that only what is sent has.
    #[must_use]
    pub fn is_readable(&self) -> bool {
        !self.parts.iter().any(|part| matches!(part, Part::Keys | Part::Count | Part::Time | Part::Secret))
    }

    /// Fills it for a message that is sent: what is filled in is written as the inside of a JSON string.
    #[must_use]
    pub fn message(&self, values: &Values<'_>) -> String {
        self.fill(values, |text| {
            let quoted = Value::from(text).to_string();
            Cow::Owned(quoted[1..quoted.len() - 1].to_owned())
        })
    }

    /// Fills it for a URL: what is filled in is percent-encoded (RFC 3986 §2.1).
    #[must_use]
    pub fn url(&self, values: &Values<'_>) -> String {
        self.fill(values, |text| Cow::Owned(percent(text)))
    }

    /// Fills it as it is, for a header.
    #[must_use]
    pub fn plain(&self, values: &Values<'_>) -> String {
        self.fill(values, Cow::Borrowed)
    }

    fn fill<'v>(&self, values: &Values<'v>, escape: impl Fn(&'v str) -> Cow<'v, str>) -> String {
        let mut out = String::with_capacity(self.text.len() + 16);
        for part in &self.parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Key => out.push_str(&escape(values.key)),
                Part::Keys => out.push_str(&Value::from(values.keys).to_string()),
                Part::Count => drop(write!(out, "{}", values.n)),
                Part::Time => drop(write!(out, "{}", values.time_ms)),
                Part::Secret => out.push_str(&escape(values.secret)),
                // `Upstream::check` keeps it out of what is sent.
                Part::Message(_) => {}
            }
        }
        out
    }

    /// Fills it from a message; `None` if the message has no text, number or truth value at one of the places.
    #[must_use]
    pub fn read<'m>(&'m self, key: &'m str, message: &'m RawValue) -> Option<Cow<'m, str>> {
        let one = |part: &'m Part| match part {
            Part::Text(text) => Some(Cow::Borrowed(&**text)),
            Part::Key => Some(Cow::Borrowed(key)),
            Part::Message(pointer) => scalar(pointer.find(message)?),
            Part::Keys | Part::Count | Part::Time | Part::Secret => None,
        };
        if let [part] = &self.parts[..] {
            return one(part);
        }
        let mut out = String::new();
        for part in &self.parts {
            out.push_str(&one(part)?);
        }
        Some(Cow::Owned(out))
    }
}

/// The place that a name in braces stands for.
fn part(name: &str) -> Option<Result<Part, TemplateError>> {
    Some(Ok(match name {
        "key" => Part::Key,
        "keys" => Part::Keys,
        "n" => Part::Count,
        "time_ms" => Part::Time,
        "secret" => Part::Secret,
        pointer if pointer.starts_with('/') => return Some(Pointer::parse(pointer).map(Part::Message)),
        _ => return None,
    }))
}

/// Whether what follows two braces is a place that is meant as text.
fn escaped(rest: &str) -> bool {
    rest.split_once("}}").is_some_and(|(name, _)| part(name).is_some())
}

fn percent(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// The name of a channel, or of one for each key: `upstream:ticker:{key}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelTemplate {
    text: Box<str>,
    /// Where `{key}` stands.
    key_at: Option<usize>,
}

const KEY: &str = "{key}";

impl ChannelTemplate {
    /// Reads a channel's name with at most one `{key}`.
    ///
    /// # Errors
    ///
    /// If it makes no channel names, or names of the server's own.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let template = Self { key_at: text.find(KEY), text: text.into() };
        if text.matches(KEY).count() > 1 {
            return Err(TemplateError(format!("`{text}` has `{KEY}` twice")));
        }
        if text.starts_with('$') {
            return Err(TemplateError(format!(
                "`{text}`: channels that begin with `$` are the server's own"
            )));
        }
        if template.name("a").is_none() {
            return Err(TemplateError(format!("`{text}` makes no channel names")));
        }
        Ok(template)
    }

    /// Whether it has a key.
    #[must_use]
    pub fn has_key(&self) -> bool {
        self.key_at.is_some()
    }

    /// The template as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The channel of a key; `None` if that is no name, or one of the server's own: a key comes from others. The key is
    /// not looked at if the template has none.
    #[must_use]
    pub fn name(&self, key: &str) -> Option<ChannelName> {
        let text = match self.key_at {
            None => Cow::Borrowed(&*self.text),
            Some(_) if key.is_empty() => return None,
            Some(at) => Cow::Owned([&self.text[..at], key, &self.text[at + KEY.len()..]].concat()),
        };
        ChannelName::parse(&text).ok().filter(|name| !name.is_system())
    }

    /// The key of a channel, empty if the template has none; `None` if the channel is none of its.
    #[must_use]
    pub fn key_of<'n>(&self, name: &'n str) -> Option<&'n str> {
        let Some(at) = self.key_at else { return (name == &*self.text).then_some("") };
        if name.starts_with('$') {
            return None;
        }
        let key = name.strip_prefix(&self.text[..at])?.strip_suffix(&self.text[at + KEY.len()..])?;
        (!key.is_empty()).then_some(key)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn filled(text: &str) -> String {
        let values = Values { key: "BTC \"x\"", keys: &["a", "b"], n: 7, time_ms: 1_000, secret: "s/1" };
        Template::parse(text).unwrap().message(&values)
    }

    #[test]
    fn a_message_is_filled_as_json() {
        let sent = filled(r#"{"method":"SUBSCRIBE","params":{keys},"id":{n},"k":"{key}","o":{"a":{}}}"#);
        let value: Value = serde_json::from_str(&sent).unwrap();
        assert_eq!(
            value,
            json!({"method": "SUBSCRIBE", "params": ["a", "b"], "id": 7, "k": "BTC \"x\"", "o": {"a": {}}})
        );
        assert_eq!(filled("{{key}} {unknown} {time_ms} {secret}"), "{key} {unknown} 1000 s/1");
    }

    #[test]
    fn a_url_is_filled_percent_encoded_and_a_header_as_it_is() {
        let values = Values { key: "a/b?c", secret: "k=1", ..Values::default() };
        let template = Template::parse("wss://h/ws/{key}?token={secret}").unwrap();
        assert_eq!(template.url(&values), "wss://h/ws/a%2Fb%3Fc?token=k%3D1");
        assert_eq!(Template::parse("Bearer {secret}").unwrap().plain(&values), "Bearer k=1");
    }

    #[test]
    fn parts_of_a_message_are_read_by_their_pointers() {
        let message = r#"{"e": "trade", "s": "B\u0054C", "n": {"a/b": [1, true, null, {}]}, "big": 1e400, "cents": 0.10}"#;
        let message = serde_json::from_str::<&RawValue>(message).unwrap();
        let read = |text: &str| Template::parse(text).unwrap().read("key", message).map(Cow::into_owned);
        assert_eq!(read("{/e}").as_deref(), Some("trade"));
        assert_eq!(read("x.{/s}:{/n/a~1b/0}:{/n/a~1b/1}:{key}").as_deref(), Some("x.BTC:1:true:key"));
        assert_eq!(read("{/n/a~1b/2}"), None, "null is no text");
        assert_eq!(read("{/big}/{/cents}").as_deref(), Some("1e400/0.10"), "numbers are as they are written");
        assert_eq!(
            (read("{/n/a~1b/00}"), read("{/n/a~1b/+0}"), read("{/n/a~1b/9}"), read("{/e/0}")),
            (None, None, None, None)
        );
        assert_eq!(read("{/n}"), None);
        assert_eq!(read("{/gone}"), None);
        assert_eq!(read("plain").as_deref(), Some("plain"));
    }

    #[test]
    fn a_channel_and_its_key_lead_to_each_other() {
        let template = ChannelTemplate::parse("upstream:ticker:{key}").unwrap();
        let name = template.name("BTCUSDT").unwrap();
        assert_eq!(
            (name.as_str(), template.key_of(name.as_str())),
            ("upstream:ticker:BTCUSDT", Some("BTCUSDT"))
        );
        assert_eq!(template.key_of("upstream:ticker:"), None);
        assert_eq!(template.key_of("upstream:other:BTC"), None);
        assert_eq!(template.name("a b"), None);
        assert_eq!(template.name(""), None);
        let fixed = ChannelTemplate::parse("upstream:news").unwrap();
        assert_eq!((fixed.key_of("upstream:news"), fixed.key_of("upstream:new")), (Some(""), None));
        let open = ChannelTemplate::parse("{key}").unwrap();
        assert_eq!(
            (open.name("$sys.nodes"), open.key_of("$sys.nodes")),
            (None, None),
            "the server's own are nobody's"
        );
        for wrong in ["$sys.{key}", "a b", "{key}:{key}", ""] {
            assert!(ChannelTemplate::parse(wrong).is_err(), "{wrong}");
        }
    }
}
