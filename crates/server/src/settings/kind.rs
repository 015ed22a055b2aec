//! The kinds of value a setting can have: how each is read, bounded and written.
//!
//! A kind refuses what it cannot read exactly: a duration without a unit, a size with a unit
//! nobody declared, a number as a text in the file. The text of a refusal says what was expected,
//! with an example, because it is read at three in the morning.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use serde_json::{Value, json};

use super::secret::{REDACTED, Secret};

pub mod lists;
pub mod networks;
pub mod templates;
pub mod threshold;
pub use lists::{Pattern, Tags, Texts};
pub use networks::{Network, Networks};

/// A value as its source gives it.
#[derive(Debug, Clone, PartialEq)]
pub enum Raw {
    /// From the environment or the command line, where everything is text.
    Text(String),
    /// From the file, where values have types.
    Toml(toml::Value),
}

impl Raw {
    /// The value as text; `None` when the file holds something else.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) | Self::Toml(toml::Value::String(text)) => Some(text),
            Self::Toml(_) => None,
        }
    }

    /// The value as a whole number; a text counts only where sources have nothing but text.
    fn integer(&self) -> Option<i64> {
        match self {
            Self::Text(text) => text.trim().parse().ok(),
            Self::Toml(toml::Value::Integer(number)) => Some(*number),
            Self::Toml(_) => None,
        }
    }

    /// What stands there, for an error text; long values are cut.
    pub fn shown(&self) -> String {
        let text = match self {
            Self::Text(text) => format!("`{text}`"),
            Self::Toml(value) => format!("`{value}`"),
        };
        if text.chars().count() > 60 {
            format!("{}…`", text.chars().take(58).collect::<String>())
        } else {
            text
        }
    }
}

/// The smallest and largest accepted value, as the key declares them.
pub type Range<'a> = Option<(&'a str, &'a str)>;

/// A kind of value.
pub trait Kind {
    /// What the program works with.
    type Value: Clone + PartialEq + std::fmt::Debug;
    /// The kind's name in the documentation and in errors.
    const NAME: &'static str;
    /// An accepted value, as written in the file.
    const EXAMPLE: &'static str;
    /// Reads a value; the error says what was expected and what was found.
    fn read(raw: &Raw, range: Range<'_>) -> Result<Self::Value, String>;
    /// The value for `config print`.
    fn show(value: &Self::Value) -> Value;
}

/// The value that a key's declaration names as its default.
pub fn default_of<K: Kind>(text: &str) -> K::Value {
    K::read(&Raw::Text(text.to_owned()), None).expect("a declared default is a value of its kind")
}

fn expected<K: Kind>(raw: &Raw) -> String {
    format!("expected {} such as {}, found {}", article(K::NAME), K::EXAMPLE, raw.shown())
}

fn article(noun: &str) -> String {
    let article = if noun.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    format!("{article} {noun}")
}

fn within<T: PartialOrd>(
    raw: &Raw,
    value: T,
    range: Range<'_>,
    bound: impl Fn(&str) -> T,
) -> Result<T, String> {
    match range {
        Some((low, high)) if value < bound(low) || value > bound(high) => {
            Err(format!("expected a value from {low} to {high}, found {}", raw.shown()))
        }
        _ => Ok(value),
    }
}

/// Yes or no.
pub struct Flag;

impl Kind for Flag {
    type Value = bool;
    const NAME: &'static str = "boolean";
    const EXAMPLE: &'static str = "true";
    fn read(raw: &Raw, _range: Range<'_>) -> Result<bool, String> {
        match raw {
            Raw::Toml(toml::Value::Boolean(value)) => Ok(*value),
            Raw::Text(text) => match text.trim() {
                "true" | "1" | "yes" | "on" => Ok(true),
                "false" | "0" | "no" | "off" => Ok(false),
                _ => Err(expected::<Self>(raw)),
            },
            Raw::Toml(_) => Err(expected::<Self>(raw)),
        }
    }
    fn show(value: &bool) -> Value {
        json!(value)
    }
}

/// A whole number of things.
pub struct Count;

impl Kind for Count {
    type Value = usize;
    const NAME: &'static str = "whole number";
    const EXAMPLE: &'static str = "1000";
    fn read(raw: &Raw, range: Range<'_>) -> Result<usize, String> {
        let number = raw.integer().and_then(|number| usize::try_from(number).ok());
        let number = number.ok_or_else(|| expected::<Self>(raw))?;
        within(raw, number, range, |bound| bound.parse().expect("a declared bound is a number"))
    }
    fn show(value: &usize) -> Value {
        json!(value)
    }
}

/// A number, whole or not.
pub struct Number;

impl Kind for Number {
    type Value = f64;
    const NAME: &'static str = "number";
    const EXAMPLE: &'static str = "1.5";
    fn read(raw: &Raw, range: Range<'_>) -> Result<f64, String> {
        number::<Self>(raw, range)
    }
    fn show(value: &f64) -> Value {
        json!(value)
    }
}

/// A part of a whole, from 0 to 1.
pub struct Fraction;

impl Kind for Fraction {
    type Value = f64;
    const NAME: &'static str = "fraction";
    const EXAMPLE: &'static str = "0.1";
    fn read(raw: &Raw, range: Range<'_>) -> Result<f64, String> {
        number::<Self>(raw, range.or(Some(("0", "1"))))
    }
    fn show(value: &f64) -> Value {
        json!(value)
    }
}

fn number<K: Kind>(raw: &Raw, range: Range<'_>) -> Result<f64, String> {
    let number = match raw {
        Raw::Text(text) => text.trim().parse().ok(),
        Raw::Toml(toml::Value::Float(number)) => Some(*number),
        // What is beyond this is beyond every range, too.
        Raw::Toml(toml::Value::Integer(number)) => i32::try_from(*number).ok().map(f64::from),
        Raw::Toml(_) => None,
    };
    let number = number.filter(|number: &f64| number.is_finite()).ok_or_else(|| expected::<K>(raw))?;
    within(raw, number, range, |bound| bound.parse().expect("a declared bound is a number"))
}

/// A length of time, always with its unit.
pub struct Span;

const SPAN_UNITS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

impl Kind for Span {
    type Value = Duration;
    const NAME: &'static str = "duration";
    const EXAMPLE: &'static str = "\"30s\"";
    fn read(raw: &Raw, range: Range<'_>) -> Result<Duration, String> {
        let value = raw.text().and_then(duration_from_text).ok_or_else(|| {
            let units = "with a unit (ms, s, m, h, d)";
            format!("expected a duration {units} such as {}, found {}", Self::EXAMPLE, raw.shown())
        })?;
        within(raw, value, range, |bound| duration_from_text(bound).expect("a declared bound is a duration"))
    }
    fn show(value: &Duration) -> Value {
        json!(duration_to_text(*value))
    }
}

/// Reads `30s`, `500ms`, `2m`, `1h`, `7d`, or several of them together, such as `1h30m`.
#[must_use]
pub fn duration_from_text(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    let mut total_ms = 0_u64;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|character: char| !character.is_ascii_digit())?;
        let number: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.find(|character: char| !character.is_ascii_alphabetic()).unwrap_or(rest.len());
        let unit = SPAN_UNITS.iter().find(|(unit, _)| *unit == &rest[..letters])?;
        total_ms = total_ms.checked_add(number.checked_mul(unit.1)?)?;
        rest = &rest[letters..];
    }
    Some(Duration::from_millis(total_ms))
}

/// Writes a duration in the largest unit that says it exactly: `120s` is `2m`.
#[must_use]
pub fn duration_to_text(duration: Duration) -> String {
    let ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if ms == 0 {
        return "0s".to_owned();
    }
    let (unit, size) = SPAN_UNITS.iter().find(|(_, size)| ms.is_multiple_of(*size)).unwrap_or(&("ms", 1));
    format!("{}{unit}", ms / size)
}

/// A number of bytes, with a binary or decimal unit or, because every such key says `bytes`, bare.
pub struct Size;

const SIZE_UNITS: [(&str, usize); 8] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("KB", 1_000),
    ("B", 1),
];

impl Kind for Size {
    type Value = usize;
    const NAME: &'static str = "size";
    const EXAMPLE: &'static str = "\"64KiB\"";
    fn read(raw: &Raw, range: Range<'_>) -> Result<usize, String> {
        let bare = raw.integer().and_then(|number| usize::try_from(number).ok());
        let value = bare.or_else(|| raw.text().and_then(size_from_text)).ok_or_else(|| {
            let units = "in bytes or with a unit (B, KiB, MiB, GiB)";
            format!("expected a size {units} such as {}, found {}", Self::EXAMPLE, raw.shown())
        })?;
        within(raw, value, range, |bound| size_from_text(bound).expect("a declared bound is a size"))
    }
    fn show(value: &usize) -> Value {
        json!(size_to_text(*value))
    }
}

fn size_from_text(text: &str) -> Option<usize> {
    let text = text.trim();
    let (unit, size) = SIZE_UNITS.iter().find(|(unit, _)| text.ends_with(unit))?;
    text[..text.len() - unit.len()].trim().parse::<usize>().ok()?.checked_mul(*size)
}

/// Writes a size in the largest binary unit that says it exactly.
fn size_to_text(bytes: usize) -> String {
    let exact = SIZE_UNITS[..3].iter().find(|(_, size)| bytes > 0 && bytes.is_multiple_of(*size));
    let (unit, size) = exact.unwrap_or(&("B", 1));
    format!("{}{unit}", bytes / size)
}

/// An address and port to listen on.
pub struct Address;

impl Kind for Address {
    type Value = SocketAddr;
    const NAME: &'static str = "address with a port";
    const EXAMPLE: &'static str = "\"127.0.0.1:8000\"";
    fn read(raw: &Raw, _range: Range<'_>) -> Result<SocketAddr, String> {
        let text = raw.text().map(|text| text.trim().replacen("localhost:", "127.0.0.1:", 1));
        text.and_then(|text| text.parse().ok()).ok_or_else(|| expected::<Self>(raw))
    }
    fn show(value: &SocketAddr) -> Value {
        json!(value)
    }
}

/// A file or a folder; relative paths start at the working directory.
pub struct File;

impl Kind for File {
    type Value = PathBuf;
    const NAME: &'static str = "path";
    const EXAMPLE: &'static str = "\"./data\"";
    fn read(raw: &Raw, _range: Range<'_>) -> Result<PathBuf, String> {
        match raw.text() {
            Some(text) if !text.is_empty() => Ok(PathBuf::from(text)),
            _ => Err(expected::<Self>(raw)),
        }
    }
    fn show(value: &PathBuf) -> Value {
        json!(value.display().to_string())
    }
}

/// Any text.
pub struct Text;

impl Kind for Text {
    type Value = String;
    const NAME: &'static str = "text";
    const EXAMPLE: &'static str = "\"pulsewire\"";
    fn read(raw: &Raw, _range: Range<'_>) -> Result<String, String> {
        raw.text().map(str::to_owned).ok_or_else(|| expected::<Self>(raw))
    }
    fn show(value: &String) -> Value {
        json!(value)
    }
}

/// An `http` or `https` address.
pub struct Url;

impl Kind for Url {
    type Value = String;
    const NAME: &'static str = "URL";
    const EXAMPLE: &'static str = "\"https://app.example.com/pulsewire-hook\"";
    fn read(raw: &Raw, _range: Range<'_>) -> Result<String, String> {
        let text = raw.text().map(str::trim).unwrap_or_default();
        let uri = text.parse::<http::Uri>().ok().filter(|uri| {
            matches!(uri.scheme_str(), Some("http" | "https"))
                && uri.host().is_some_and(|host| !host.is_empty())
        });
        uri.map(|_| text.to_owned()).ok_or_else(|| {
            format!("expected an http or https URL such as {}, found {}", Self::EXAMPLE, raw.shown())
        })
    }
    fn show(value: &String) -> Value {
        json!(value)
    }
}

/// A secret; never shown, not even in the error about it.
pub struct SecretText;

impl Kind for SecretText {
    type Value = Secret;
    const NAME: &'static str = "secret text";
    const EXAMPLE: &'static str = "\"…\"";
    fn read(raw: &Raw, _range: Range<'_>) -> Result<Secret, String> {
        match raw.text() {
            Some("") => Err("expected a secret text, found an empty one".to_owned()),
            Some(text) => Ok(Secret::new(text)),
            None => Err("expected a secret text in quotes, found another type".to_owned()),
        }
    }
    fn show(_value: &Secret) -> Value {
        json!(REDACTED)
    }
}

/// A value that may be absent; an empty text means absent.
pub struct Optional<K>(std::marker::PhantomData<K>);

impl<K: Kind> Kind for Optional<K> {
    type Value = Option<K::Value>;
    const NAME: &'static str = K::NAME;
    const EXAMPLE: &'static str = K::EXAMPLE;
    fn read(raw: &Raw, range: Range<'_>) -> Result<Self::Value, String> {
        if raw.text() == Some("") { Ok(None) } else { K::read(raw, range).map(Some) }
    }
    fn show(value: &Self::Value) -> Value {
        value.as_ref().map_or(Value::Null, K::show)
    }
}

/// One of a closed set of words.
pub trait Words: Clone + PartialEq + std::fmt::Debug + 'static {
    /// The kind's name.
    const NAME: &'static str;
    /// The words, as a list for people: `"text", "json"`.
    const EXAMPLE: &'static str;
    /// Every word and its value; a word listed later for the same value is an alias.
    const ALL: &'static [(&'static str, Self)];
}

/// A word out of the set of `W`.
pub struct Choice<W>(std::marker::PhantomData<W>);

impl<W: Words> Kind for Choice<W> {
    type Value = W;
    const NAME: &'static str = W::NAME;
    const EXAMPLE: &'static str = W::EXAMPLE;
    fn read(raw: &Raw, _range: Range<'_>) -> Result<W, String> {
        let found = raw.text().and_then(|text| W::ALL.iter().find(|(word, _)| *word == text.trim()));
        found.map(|(_, value)| value.clone()).ok_or_else(|| {
            let words: Vec<_> = W::ALL.iter().map(|(word, _)| format!("\"{word}\"")).collect();
            format!("expected one of {}, found {}", words.join(", "), raw.shown())
        })
    }
    fn show(value: &W) -> Value {
        W::ALL.iter().find(|(_, known)| known == value).map_or(Value::Null, |(word, _)| json!(word))
    }
}

/// Writes an enum whose values are words in the settings.
macro_rules! words {
    ($(#[doc = $about:literal])+ $name:ident $noun:literal { $( $(#[doc = $help:literal])+ $value:ident = $word:literal ),+ $(,)? }) => {
        $(#[doc = $about])+
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $( $(#[doc = $help])+ $value ),+ }

        impl $name {
            /// The word that stands for it in the settings.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $( Self::$value => $word ),+ }
            }
        }

        impl $crate::settings::kind::Words for $name {
            const NAME: &'static str = $noun;
            const EXAMPLE: &'static str = $crate::settings::kind::first_word!($($word),+);
            const ALL: &'static [(&'static str, Self)] = &[$( ($word, Self::$value) ),+];
        }
    };
}
macro_rules! first_word {
    ($first:literal $(, $rest:literal)*) => {
        concat!("\"", $first, "\"")
    };
}
pub(super) use {first_word, words};

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Raw {
        Raw::Text(text.to_owned())
    }

    #[test]
    fn durations_need_a_unit_and_are_written_in_the_largest_exact_one() {
        for (written, shown) in
            [("30s", "30s"), ("500ms", "500ms"), ("120s", "2m"), ("1h30m", "90m"), ("0s", "0s")]
        {
            let value = Span::read(&text(written), None).unwrap();
            assert_eq!(Span::show(&value), json!(shown), "{written}");
        }
        for wrong in ["30", "", "s", "30 s", "-5s", "30sec", "99999999999999999999s", "30s5"] {
            let refusal = Span::read(&text(wrong), None).unwrap_err();
            assert!(refusal.contains("with a unit (ms, s, m, h, d) such as \"30s\""), "{wrong}: {refusal}");
        }
        assert!(Span::read(&Raw::Toml(toml::Value::Integer(30)), None).is_err());
    }

    #[test]
    fn sizes_take_bytes_and_binary_units() {
        for (written, bytes) in [("65536", 65_536), ("64KiB", 65_536), ("1MiB", 1 << 20), ("2kB", 2_000)] {
            assert_eq!(Size::read(&text(written), None), Ok(bytes), "{written}");
        }
        for wrong in ["64K", "KiB", "-1", "64kib", "99999999999GiB"] {
            assert!(Size::read(&text(wrong), None).is_err(), "{wrong}");
        }
        assert_eq!(Size::show(&65_536), json!("64KiB"));
        assert_eq!(Size::show(&1_000), json!("1000B"));
    }

    #[test]
    fn a_value_out_of_range_is_refused_with_the_range() {
        let refusal = Count::read(&text("0"), Some(("1", "10"))).unwrap_err();
        assert_eq!(refusal, "expected a value from 1 to 10, found `0`");
    }

    #[test]
    fn numbers_may_have_a_fraction_and_are_finite() {
        let file = |text: &str| Raw::Toml(format!("v = {text}").parse::<toml::Table>().unwrap()["v"].clone());
        for (raw, number) in [(text("1.5"), 1.5), (file("0.25"), 0.25), (file("3"), 3.0)] {
            assert_eq!(Number::read(&raw, Some(("0", "10"))), Ok(number), "{raw:?}");
        }
        for raw in [text("nan"), text("inf"), text(""), file("'1'"), file("9223372036854775807"), file("nan")]
        {
            assert!(Number::read(&raw, None).is_err(), "{raw:?}");
        }
        assert!(Fraction::read(&file("1.01"), None).unwrap_err().contains("from 0 to 1"));
    }

    #[test]
    fn the_error_about_a_secret_does_not_repeat_it() {
        let refusal = SecretText::read(&Raw::Toml(toml::Value::Integer(12_345)), None).unwrap_err();
        assert!(!refusal.contains("12345"), "{refusal}");
    }
}
