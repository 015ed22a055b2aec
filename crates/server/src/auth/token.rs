//! The parts of a token, read strictly.
//!
//! What decides anything is a named field of a closed struct, so a repeated name is an error and
//! a wrong type is a refusal, never a guess (threats S4 and S5). The header is looked at before
//! the signature to refuse, and for the name of a key; nothing in it chooses an algorithm.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use pulsewire_hub::principal::Grant;
use pulsewire_protocol::ChannelPattern;
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use super::{jwks::is_key_id, refusal::Refusal, words::actions_from_words};

/// The longest token that is looked at; checked before anything is decoded.
pub const TOKEN_LEN_BYTES_MAX: usize = 8 * 1024;

/// The most entries of `caps`.
pub const CAPS_MAX: usize = 256;

/// As much as an operator needs to find a wrong claim.
const DETAIL_CHARS_MAX: usize = 200;

/// A token cut at its two dots.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parts<'a> {
    /// What is signed: header, dot and claims.
    pub(super) signed: &'a str,
    pub(super) header: &'a str,
    pub(super) claims: &'a str,
    pub(super) signature: &'a str,
}

impl<'a> Parts<'a> {
    pub(super) fn of(token: &'a str) -> Result<Self, Refusal> {
        if token.len() > TOKEN_LEN_BYTES_MAX {
            return Err(Refusal::TooLong { len_bytes: token.len() });
        }
        let dots = token.bytes().filter(|byte| *byte == b'.').count();
        let parts = token.split_once('.').zip(token.rsplit_once('.'));
        match parts {
            Some(((header, _), (signed, signature))) if dots == 2 && !signature.is_empty() => {
                Ok(Self { signed, header, claims: &signed[header.len() + 1..], signature })
            }
            _ => Err(Refusal::Parts { parts: dots + 1 }),
        }
    }
}

/// Decodes one part of a token: base64url without padding.
pub(super) fn decode(part: &str, name: &'static str) -> Result<Vec<u8>, Refusal> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| Refusal::Unreadable { part: name })
}

/// The header, with every field that could lead somewhere.
#[derive(Deserialize)]
struct Header<'a> {
    #[serde(borrow)]
    alg: std::borrow::Cow<'a, str>,
    #[serde(default, borrow)]
    kid: Option<std::borrow::Cow<'a, str>>,
    crit: Option<IgnoredAny>,
    b64: Option<IgnoredAny>,
    jwk: Option<IgnoredAny>,
    jku: Option<IgnoredAny>,
    x5u: Option<IgnoredAny>,
    x5c: Option<IgnoredAny>,
    enc: Option<IgnoredAny>,
    zip: Option<IgnoredAny>,
}

/// What a header says that may be looked at: an algorithm to compare with, and the id of a key.
pub(super) struct Named {
    pub(super) alg: String,
    /// 1 to 128 printable ASCII characters; good for looking up and for nothing else.
    pub(super) kid: Option<String>,
}

/// Reads a header, or refuses one that asks for more than a signature under a configured key.
pub(super) fn header(json: &[u8]) -> Result<Named, Refusal> {
    let header: Header<'_> =
        serde_json::from_slice(json).map_err(|_| Refusal::Unreadable { part: "header" })?;
    let forbidden = [
        ("crit", header.crit),
        ("b64", header.b64),
        ("jwk", header.jwk),
        ("jku", header.jku),
        ("x5u", header.x5u),
        ("x5c", header.x5c),
        ("enc", header.enc),
        ("zip", header.zip),
    ];
    if let Some((field, _)) = forbidden.iter().find(|(_, value)| value.is_some()) {
        return Err(Refusal::HeaderField { field });
    }
    let kid = header.kid.map(std::borrow::Cow::into_owned);
    if kid.as_ref().is_some_and(|kid| !is_key_id(kid)) {
        return Err(Refusal::HeaderField { field: "kid" });
    }
    Ok(Named { alg: header.alg.into_owned(), kid })
}

/// The claims the server understands; others are the application's own.
#[derive(Debug, Deserialize)]
pub(super) struct Claims {
    pub(super) sub: Option<String>,
    #[serde(default, deserialize_with = "seconds")]
    pub(super) exp: Option<f64>,
    #[serde(default, deserialize_with = "seconds")]
    pub(super) nbf: Option<f64>,
    #[serde(default, deserialize_with = "seconds")]
    pub(super) iat: Option<f64>,
    pub(super) iss: Option<String>,
    pub(super) aud: Option<Audience>,
    pub(super) jti: Option<String>,
    pub(super) role: Option<String>,
    pub(super) caps: Option<Caps>,
}

/// Reads claims whose signature has been verified.
pub(super) fn claims(json: &[u8]) -> Result<Claims, Refusal> {
    serde_json::from_slice(json).map_err(|error| Refusal::Claims {
        detail: error.to_string().chars().take(DETAIL_CHARS_MAX).collect(),
    })
}

/// A time in seconds since 1970, not beyond what a whole number of milliseconds can say.
fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    let number: Option<f64> = Option::deserialize(deserializer)?;
    match number {
        Some(number) if !(0.0..=9_007_199_254_740.0).contains(&number) => {
            Err(serde::de::Error::custom("a time must be a number of seconds since 1970"))
        }
        number => Ok(number),
    }
}

/// `aud`: one name or several (RFC 7519 §4.1.3).
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Audience {
    One(String),
    Several(Vec<String>),
}

impl Audience {
    pub(super) fn names(&self, audience: &str) -> bool {
        match self {
            Self::One(name) => name == audience,
            Self::Several(names) => names.iter().any(|name| name == audience),
        }
    }
}

/// `caps`: what the bearer may do, as `{"run:*": ["subscribe"]}` or as a list of
/// `{"channels": ["run:*"], "actions": ["subscribe"]}`.
#[derive(Debug, Default)]
pub(super) struct Caps(pub(super) Vec<Grant>);

impl Caps {
    fn add<E: serde::de::Error>(&mut self, pattern: &str, actions: &[String]) -> Result<(), E> {
        if self.0.len() == CAPS_MAX {
            return Err(E::custom(format_args!("caps has more than {CAPS_MAX} entries")));
        }
        let pattern = ChannelPattern::parse(pattern)
            .map_err(|error| E::custom(format_args!("caps: `{}`: {error}", pattern.escape_debug())))?;
        let actions = actions_from_words(actions.iter().map(String::as_str)).map_err(E::custom)?;
        if self.0.iter().any(|grant| grant.pattern == pattern && grant.actions == actions) {
            return Ok(());
        }
        self.0.push(Grant { pattern, actions });
        Ok(())
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    channels: Vec<String>,
    actions: Vec<String>,
}

impl<'de> Deserialize<'de> for Caps {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Caps;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("caps such as {\"run:*\": [\"subscribe\"]}")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Caps, A::Error> {
                let mut caps = Caps::default();
                let mut seen: Vec<String> = Vec::new();
                while let Some((pattern, actions)) = map.next_entry::<String, Vec<String>>()? {
                    if seen.contains(&pattern) {
                        return Err(serde::de::Error::custom("caps names a pattern twice"));
                    }
                    caps.add(&pattern, &actions)?;
                    seen.push(pattern);
                }
                Ok(caps)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Caps, A::Error> {
                let mut caps = Caps::default();
                while let Some(entry) = list.next_element::<Entry>()? {
                    for channel in &entry.channels {
                        caps.add(channel, &entry.actions)?;
                    }
                }
                Ok(caps)
            }
        }
        deserializer.deserialize_any(Either)
    }
}
