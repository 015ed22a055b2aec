//! Settings about access: the algorithm of tokens, default grants and API keys.

use pulsewire_hub::principal::Grant;
use pulsewire_protocol::ChannelPattern;
use serde_json::{Value, json};

use super::kind::{Kind, Raw, words};
use crate::auth::{
    api_key::{ApiKey, KeyId},
    words::{actions_from_words, words_of_actions},
};

words! {
    /// The algorithm that signs tokens.
    AlgorithmName "signature algorithm" {
        /// HMAC with SHA-256.
        Hs256 = "HS256",
        /// HMAC with SHA-384.
        Hs384 = "HS384",
        /// HMAC with SHA-512.
        Hs512 = "HS512",
        /// RSA PKCS#1 v1.5 with SHA-256.
        Rs256 = "RS256",
        /// ECDSA on P-256 with SHA-256.
        Es256 = "ES256",
        /// Ed25519.
        EdDsa = "EdDSA",
    }
}

impl super::Auth {
    /// Whether keys are configured that tokens choose by their `kid`.
    #[must_use]
    pub const fn has_key_sets(&self) -> bool {
        self.jwks_file.is_some() || self.jwks_url.is_some()
    }
}

impl AlgorithmName {
    /// Whether one shared secret signs and verifies.
    #[must_use]
    pub const fn is_hmac(self) -> bool {
        matches!(self, Self::Hs256 | Self::Hs384 | Self::Hs512)
    }
}

/// What tokens without `caps` may do: patterns with their actions.
pub struct DefaultGrants;

impl Kind for DefaultGrants {
    type Value = Vec<Grant>;
    const NAME: &'static str = "table of channel patterns and actions";
    const EXAMPLE: &'static str = "{ \"run:*\" = [\"subscribe\", \"history\"] }";
    fn read(raw: &Raw, _range: Option<(&str, &str)>) -> Result<Vec<Grant>, String> {
        let shape = || format!("expected a {} such as {}, found {}", Self::NAME, Self::EXAMPLE, raw.shown());
        let pairs: Option<Vec<(String, Vec<String>)>> = match raw {
            Raw::Text(text) => text
                .split(',')
                .filter(|part| !part.trim().is_empty())
                .map(|part| {
                    let (pattern, actions) = part.trim().split_once('=')?;
                    Some((pattern.to_owned(), actions.split('|').map(str::to_owned).collect()))
                })
                .collect(),
            Raw::Toml(toml::Value::Table(table)) => table
                .iter()
                .map(|(pattern, actions)| {
                    let actions = actions.as_array()?.iter().map(|it| it.as_str().map(str::to_owned));
                    Some((pattern.clone(), actions.collect::<Option<_>>()?))
                })
                .collect(),
            Raw::Toml(_) => None,
        };
        let read = |(pattern, actions): (String, Vec<String>)| {
            let pattern = ChannelPattern::parse(&pattern).map_err(|error| format!("{}: {error}", shape()))?;
            let actions = actions_from_words(actions.iter().map(String::as_str));
            Ok(Grant { pattern, actions: actions.map_err(|error| format!("{}: {error}", shape()))? })
        };
        pairs.ok_or_else(shape)?.into_iter().map(read).collect()
    }
    fn show(value: &Vec<Grant>) -> Value {
        value
            .iter()
            .map(|grant| (grant.pattern.as_str().to_owned(), json!(words_of_actions(grant.actions))))
            .collect()
    }
}

/// The API keys of applications.
pub struct ApiKeys;

impl Kind for ApiKeys {
    type Value = Vec<ApiKey>;
    const NAME: &'static str = "list of API keys";
    const EXAMPLE: &'static str = "[{ id = \"ci\", sha256 = \"<64 hex digits>\", publish = [\"run:*\"] }]";
    fn read(raw: &Raw, _range: Option<(&str, &str)>) -> Result<Vec<ApiKey>, String> {
        let parsed;
        let values = match raw {
            Raw::Text(text) if text.trim().is_empty() => return Ok(Vec::new()),
            Raw::Text(text) => {
                let table = format!("keys = {text}").parse::<toml::Table>().ok();
                parsed = table.and_then(|mut table| table.remove("keys"));
                parsed.as_ref()
            }
            Raw::Toml(value) => Some(value),
        };
        let tables = values.and_then(toml::Value::as_array);
        let tables = tables.ok_or_else(|| format!("expected a {} such as {}", Self::NAME, Self::EXAMPLE))?;
        let keys: Vec<ApiKey> =
            tables.iter().enumerate().map(|(at, it)| one(at + 1, it)).collect::<Result<_, _>>()?;
        for (at, key) in keys.iter().enumerate() {
            if keys[..at].iter().any(|earlier| earlier.id == key.id) {
                return Err(format!("two API keys have the id `{}`; give each its own", key.id));
            }
        }
        Ok(keys)
    }
    fn show(value: &Vec<ApiKey>) -> Value {
        let one = |key: &ApiKey| {
            let publish: Vec<_> = key.publish.iter().map(|pattern| pattern.as_str().to_owned()).collect();
            json!({"id": key.id.as_str(), "sha256": super::secret::REDACTED, "publish": publish})
        };
        value.iter().map(one).collect()
    }
}

/// The keys of a file with `[[api_keys]]` tables.
pub(super) fn api_keys_of_file(text: &str) -> Result<Vec<ApiKey>, String> {
    let mut table = text.parse::<toml::Table>().map_err(|error| format!("not TOML: {}", error.message()))?;
    let keys = table.remove("api_keys");
    if let Some(unknown) = table.keys().next() {
        return Err(format!("unknown key `{unknown}`; the file holds `[[api_keys]]` tables only"));
    }
    keys.map_or(Ok(Vec::new()), |keys| ApiKeys::read(&Raw::Toml(keys), None))
}

/// Reads the `at`-th API key.
fn one(at: usize, value: &toml::Value) -> Result<ApiKey, String> {
    let wrong = |what: &str| format!("API key {at}: {what}, as in {}", ApiKeys::EXAMPLE);
    let table = value.as_table().ok_or_else(|| wrong("expected a table"))?;
    if let Some(unknown) = table.keys().find(|name| !["id", "sha256", "publish"].contains(&name.as_str())) {
        return Err(wrong(&format!("unknown key `{unknown}`, expected id, sha256 and publish")));
    }
    let text = |name: &str| table.get(name).and_then(toml::Value::as_str);
    let id = text("id").and_then(KeyId::parse);
    let id = id.ok_or_else(|| wrong("expected an `id` of 1 to 32 characters a-z, 0-9 and -"))?;
    let sha256 = text("sha256").and_then(hash_from_hex);
    let sha256 = sha256.ok_or_else(|| wrong("expected `sha256` with 64 hexadecimal digits"))?;
    let publish = table.get("publish").and_then(toml::Value::as_array);
    let publish = publish.ok_or_else(|| wrong("expected `publish` with a list of channel patterns"))?;
    let publish = publish.iter().map(|it| it.as_str().and_then(|text| ChannelPattern::parse(text).ok()));
    let publish: Option<Vec<_>> = publish.collect();
    Ok(ApiKey {
        id,
        sha256,
        publish: publish.ok_or_else(|| wrong("`publish` holds something else than a pattern"))?,
    })
}

fn hash_from_hex(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    let mut hash = [0; 32];
    for (at, byte) in hash.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[at * 2..at * 2 + 2], 16).ok()?;
    }
    Some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn api_keys_are_read_from_the_environment_and_never_shown() {
        let hash = "0f".repeat(32);
        let text = format!("[{{ id = 'ci', sha256 = '{hash}', publish = ['run:*'] }}]");
        let keys = ApiKeys::read(&Raw::Text(text), None).unwrap();
        assert_eq!(keys[0].sha256, [0x0f; 32]);
        assert!(!ApiKeys::show(&keys).to_string().contains(&hash));
    }

    #[test]
    fn a_wrong_api_key_is_named_by_its_place() {
        let cases = [
            ("[{ id = 'A b', sha256 = '', publish = [] }]", "API key 1: expected an `id`"),
            ("[{ id = 'a', sha256 = '12', publish = [] }]", "expected `sha256` with 64"),
            ("[{ id = 'a', sha25 = '12', publish = [] }]", "unknown key `sha25`"),
            ("oops", "expected a list of API keys"),
        ];
        for (text, part) in cases {
            let refusal = ApiKeys::read(&Raw::Text(text.into()), None).unwrap_err();
            assert!(refusal.contains(part), "{text}: {refusal}");
        }
    }
}
