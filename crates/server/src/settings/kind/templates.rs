//! Kinds of upstreams: texts with places to fill, places in messages, headers.
//!
//! Errors do not repeat headers: they may hold what nobody should read in a log.

use http::HeaderName;
use pulsewire_sources::upstream::{ChannelTemplate, Codec, Overflow, Pointer, Template, Track};
use serde_json::{Value, json};

use super::{Kind, Range, Raw, Words, expected};

/// The most elements of one list.
const ELEMENTS_MAX: usize = 32;

/// Headers that the handshake itself writes, or that would change what the request is.
const HEADERS_OWN: [&str; 9] = [
    "host",
    "upgrade",
    "connection",
    "content-length",
    "transfer-encoding",
    "te",
    "trailer",
    "expect",
    "keep-alive",
];

/// A text with places to fill.
pub struct TemplateText;

impl Kind for TemplateText {
    type Value = Template;
    const NAME: &'static str = "template";
    const EXAMPLE: &'static str = "'{\"subscribe\":\"{key}\"}'";
    fn read(raw: &Raw, _range: Range<'_>) -> Result<Template, String> {
        Template::parse(raw.text().ok_or_else(|| expected::<Self>(raw))?).map_err(|error| error.to_string())
    }
    fn show(value: &Template) -> Value {
        json!(value.as_str())
    }
}

/// The texts of an array; in defaults, where there are no arrays, nothing stands for none.
fn texts<K: Kind>(raw: &Raw) -> Result<Vec<&str>, String> {
    let texts = match raw {
        Raw::Text(text) if text.is_empty() => Some(Vec::new()),
        Raw::Toml(toml::Value::Array(values)) => values.iter().map(toml::Value::as_str).collect(),
        _ => None,
    };
    let texts = texts
        .ok_or_else(|| format!("expected a {} such as {}, found something else", K::NAME, K::EXAMPLE))?;
    if texts.len() > ELEMENTS_MAX {
        return Err(format!("{} are more than {ELEMENTS_MAX}", texts.len()));
    }
    Ok(texts)
}

/// A list of texts with places to fill; at most 32.
pub struct Templates;

impl Kind for Templates {
    type Value = Vec<Template>;
    const NAME: &'static str = "list of templates";
    const EXAMPLE: &'static str = "['{\"op\":\"hello\"}']";
    fn read(raw: &Raw, _range: Range<'_>) -> Result<Self::Value, String> {
        let parsed = texts::<Self>(raw)?.into_iter().map(Template::parse).collect::<Result<_, _>>();
        parsed.map_err(|error| error.to_string())
    }
    fn show(value: &Self::Value) -> Value {
        value.iter().map(Template::as_str).collect()
    }
}

/// URLs with places to fill.
pub struct Urls;

impl Kind for Urls {
    type Value = Vec<Template>;
    const NAME: &'static str = "list of URLs";
    const EXAMPLE: &'static str = "[\"wss://feed.example/ws\"]";
    fn read(raw: &Raw, range: Range<'_>) -> Result<Self::Value, String> {
        texts::<Self>(raw)?;
        Templates::read(raw, range)
    }
    fn show(value: &Self::Value) -> Value {
        Templates::show(value)
    }
}

/// The name of a channel, or of one for each key.
pub struct Channel;

impl Kind for Channel {
    type Value = ChannelTemplate;
    const NAME: &'static str = "channel";
    const EXAMPLE: &'static str = "\"upstream:ticker:{key}\"";
    fn read(raw: &Raw, _range: Range<'_>) -> Result<ChannelTemplate, String> {
        let text = raw.text().ok_or_else(|| expected::<Self>(raw))?;
        ChannelTemplate::parse(text.trim()).map_err(|error| error.to_string())
    }
    fn show(value: &ChannelTemplate) -> Value {
        json!(value.as_str())
    }
}

/// A place in a message.
pub struct Place;

impl Kind for Place {
    type Value = Pointer;
    const NAME: &'static str = "JSON pointer";
    const EXAMPLE: &'static str = "\"/data/price\"";
    fn read(raw: &Raw, _range: Range<'_>) -> Result<Pointer, String> {
        Pointer::parse(raw.text().ok_or_else(|| expected::<Self>(raw))?).map_err(|error| error.to_string())
    }
    fn show(value: &Pointer) -> Value {
        json!(value.as_str())
    }
}

/// What has to stand where in a message.
pub struct Conditions;

impl Kind for Conditions {
    type Value = Vec<(Pointer, Box<str>)>;
    const NAME: &'static str = "list of places and texts";
    const EXAMPLE: &'static str = "[\"/event=trade\"]";
    fn read(raw: &Raw, _range: Range<'_>) -> Result<Self::Value, String> {
        let one = |text: &str| {
            let wrong = || {
                format!(
                    "`{text}` is no JSON pointer with the text that has to stand there, as in \"/event=trade\""
                )
            };
            let (place, wanted) = text.split_once('=').ok_or_else(wrong)?;
            Ok((Pointer::parse(place).map_err(|_| wrong())?, wanted.into()))
        };
        texts::<Self>(raw)?.into_iter().map(one).collect()
    }
    fn show(value: &Self::Value) -> Value {
        value.iter().map(|(place, wanted)| format!("{}={wanted}", place.as_str())).collect()
    }
}

/// Headers of a request, each `Name: value`.
pub struct Headers;

impl Kind for Headers {
    type Value = Vec<(Box<str>, Template)>;
    const NAME: &'static str = "list of headers";
    const EXAMPLE: &'static str = "[\"Authorization: Bearer {secret}\"]";
    fn read(raw: &Raw, _range: Range<'_>) -> Result<Self::Value, String> {
        texts::<Self>(raw)?.into_iter().enumerate().map(|(at, text)| header(at + 1, text)).collect()
    }
    fn show(value: &Self::Value) -> Value {
        value.iter().map(|(name, value)| format!("{name}: {}", value.as_str())).collect()
    }
}

/// Reads the `at`-th header (RFC 9110 §5): whatever is in it, the request stays one request.
fn header(at: usize, text: &str) -> Result<(Box<str>, Template), String> {
    let wrong = |what: &str| format!("header {at}: {what}, as in {}", Headers::EXAMPLE);
    let (name, value) = text.split_once(':').ok_or_else(|| wrong("expected a name and a value"))?;
    let parsed =
        HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong("expected the name of a header"))?;
    if HEADERS_OWN.contains(&parsed.as_str()) || parsed.as_str().starts_with("sec-websocket-") {
        let help = if parsed.as_str() == "sec-websocket-protocol" { "; set `subprotocol`" } else { "" };
        return Err(format!("header {at}: `{name}` is the handshake's own{help}"));
    }
    let value = value.trim_matches([' ', '\t']);
    if value.is_empty() || !value.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        return Err(wrong("expected a value of printable ASCII characters on one line"));
    }
    Ok((name.into(), Template::parse(value).map_err(|error| error.to_string())?))
}

impl Words for Track {
    const NAME: &'static str = "track";
    const EXAMPLE: &'static str = "\"stable\"";
    const ALL: &'static [(&'static str, Self)] = &[("stable", Self::Stable), ("canary", Self::Canary)];
}

impl Words for Codec {
    const NAME: &'static str = "codec";
    const EXAMPLE: &'static str = "\"json\"";
    const ALL: &'static [(&'static str, Self)] =
        &[("json", Self::Json), ("msgpack", Self::MessagePack), ("text", Self::Text)];
}

impl Words for Overflow {
    const NAME: &'static str = "answer";
    const EXAMPLE: &'static str = "\"drop\"";
    const ALL: &'static [(&'static str, Self)] = &[("drop", Self::Drop), ("wait", Self::Wait)];
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<K: Kind>(file: &str) -> Result<K::Value, String> {
        K::read(&Raw::Toml(format!("v = {file}").parse::<toml::Table>().unwrap()["v"].clone()), None)
    }

    #[test]
    fn what_is_read_is_shown_as_it_was_written() {
        let check = |shown: Value, expected: Value| assert_eq!(shown, expected);
        check(Urls::show(&read::<Urls>("['wss://a/{key}']").unwrap()), json!(["wss://a/{key}"]));
        check(Channel::show(&read::<Channel>("'upstream:{key}'").unwrap()), json!("upstream:{key}"));
        check(Place::show(&read::<Place>("'/a/0'").unwrap()), json!("/a/0"));
        check(Conditions::show(&read::<Conditions>("['/a=b=c', '/d=']").unwrap()), json!(["/a=b=c", "/d="]));
        let headers = read::<Headers>("['Authorization:  Bearer {secret}', 'X-A: b: c']").unwrap();
        check(Headers::show(&headers), json!(["Authorization: Bearer {secret}", "X-A: b: c"]));
        check(
            Templates::show(&read::<Templates>(r#"['{"a":{n}}', "b,c"]"#).unwrap()),
            json!([r#"{"a":{n}}"#, "b,c"]),
        );
    }

    /// Nothing that is written in a header can become another header, or another request.
    #[test]
    fn headers_that_are_none_or_the_handshakes_own_are_refused_and_not_repeated() {
        for wrong in [
            r#"["X-A: geheim\r\nX-B: c"]"#,
            r#"["X-A: geheim\nX-B: c"]"#,
            r#"["X-A\r\nX-B: geheim"]"#,
            r#"["X A: geheim"]"#,
            r#"["geheim"]"#,
            r#"[": geheim"]"#,
            r#"["X-A: "]"#,
            r#"["X-A: geheim\u0000"]"#,
            r#"["X-A: geheimü"]"#,
            r#"["Host: geheim"]"#,
            r#"["upgrade: geheim"]"#,
            r#"["Connection: geheim"]"#,
            r#"["Content-Length: 1"]"#,
            r#"["Transfer-Encoding: chunked"]"#,
            r#"["Sec-WebSocket-Key: geheim"]"#,
            r#"["SEC-WEBSOCKET-Protocol: geheim"]"#,
            "'geheim'",
        ] {
            let refusal = read::<Headers>(wrong).unwrap_err();
            assert!(!refusal.contains("geheim"), "{wrong}: {refusal}");
        }
    }

    #[test]
    fn lists_have_an_end_and_places_are_pointers() {
        let many = format!("[{}]", "'a',".repeat(33));
        assert!(read::<Templates>(&many).unwrap_err().contains("more than 32"));
        for wrong in ["['event=trade']", "['/event']"] {
            assert!(read::<Conditions>(wrong).unwrap_err().contains("/event=trade"), "{wrong}");
        }
        assert!(read::<Place>("'price'").is_err());
        assert!(read::<Channel>("'$sys.a'").is_err());
        assert!(read::<TemplateText>("3").unwrap_err().contains("expected a template"));
    }
}
