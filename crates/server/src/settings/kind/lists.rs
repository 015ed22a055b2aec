//! Kinds that hold several values: texts, channel patterns, tags.
//!
//! In the file they are arrays and tables; in the environment a comma-separated list will do.

use pulsewire_protocol::ChannelPattern;
use serde_json::{Value, json};

use super::{Kind, Range, Raw, expected};

/// The elements of a list of texts, from an array or a comma-separated text.
pub(super) fn elements(raw: &Raw) -> Option<Vec<String>> {
    match raw {
        Raw::Text(text) => {
            let parts = text.split(',').map(|part| part.trim().to_owned());
            Some(parts.filter(|part| !part.is_empty()).collect())
        }
        Raw::Toml(toml::Value::Array(values)) => {
            values.iter().map(|value| value.as_str().map(str::to_owned)).collect()
        }
        Raw::Toml(_) => None,
    }
}

/// A list of texts.
pub struct Texts;

impl Kind for Texts {
    type Value = Vec<String>;
    const NAME: &'static str = "list of texts";
    const EXAMPLE: &'static str = "[\"one\", \"two\"]";
    fn read(raw: &Raw, _range: Range<'_>) -> Result<Vec<String>, String> {
        elements(raw).ok_or_else(|| expected::<Self>(raw))
    }
    fn show(value: &Vec<String>) -> Value {
        json!(value)
    }
}

/// A channel pattern, such as `run:*`.
pub struct Pattern;

impl Kind for Pattern {
    type Value = ChannelPattern;
    const NAME: &'static str = "channel pattern";
    const EXAMPLE: &'static str = "\"run:*\"";
    fn read(raw: &Raw, _range: Range<'_>) -> Result<ChannelPattern, String> {
        let text = raw.text().ok_or_else(|| expected::<Self>(raw))?;
        ChannelPattern::parse(text.trim()).map_err(|error| format!("{}: {error}", expected::<Self>(raw)))
    }
    fn show(value: &ChannelPattern) -> Value {
        json!(value.as_str())
    }
}

/// Names with a value each, such as the tags of the host's metrics.
pub struct Tags;

impl Kind for Tags {
    type Value = Vec<(String, String)>;
    const NAME: &'static str = "table of texts";
    const EXAMPLE: &'static str = "{ region = \"eu\" }";
    fn read(raw: &Raw, _range: Range<'_>) -> Result<Self::Value, String> {
        let pairs: Option<Self::Value> = match raw {
            Raw::Toml(toml::Value::Table(table)) => {
                table.iter().map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect()
            }
            Raw::Toml(_) => None,
            Raw::Text(_) => elements(raw).and_then(|parts| {
                let split = |part: String| part.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned()));
                parts.into_iter().map(split).collect()
            }),
        };
        let mut pairs = pairs.ok_or_else(|| expected::<Self>(raw))?;
        pairs.sort();
        if pairs.len() > 16
            || pairs.iter().any(|(name, value)| name.is_empty() || name.len() > 64 || value.len() > 64)
        {
            return Err("expected at most 16 tags with names and values of at most 64 bytes".to_owned());
        }
        Ok(pairs)
    }
    fn show(value: &Self::Value) -> Value {
        value.iter().map(|(name, value)| (name.clone(), json!(value))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_arrays_in_the_file_and_commas_in_the_environment() {
        let file = Raw::Toml("v = ['a', 'b']".parse::<toml::Table>().unwrap()["v"].clone());
        assert_eq!(Texts::read(&file, None), Texts::read(&Raw::Text("a, b".into()), None));
        assert!(Texts::read(&Raw::Toml(toml::Value::String("a".into())), None).is_err());
        let tags = Tags::read(&Raw::Text("region=eu,host=a".into()), None).unwrap();
        assert_eq!(tags, [("host".into(), "a".into()), ("region".into(), "eu".into())]);
    }

    #[test]
    fn a_pattern_that_no_channel_can_have_is_refused() {
        assert!(Pattern::read(&Raw::Text("two words".into()), None).is_err());
    }
}
