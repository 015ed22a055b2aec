//! Making tokens: `token create`, and the token that `--dev` prints.

use std::time::Duration;

use jsonwebtoken::{EncodingKey, Header};
use pulsewire_hub::principal::{Actions, Role};
use pulsewire_protocol::ChannelPattern;
use serde_json::{Map, Value, json};

use super::{
    keys::{self, Read},
    words::{word_of_role, words_of_actions},
};
use crate::settings::{Problem, Settings};

/// What a new token shall say.
#[derive(Debug, Clone)]
pub struct NewToken {
    /// Whose it is.
    pub sub: String,
    /// What they are.
    pub role: Role,
    /// How long it lasts.
    pub ttl: Duration,
    /// The channels it is limited to; none leaves them to `auth.default_grants`.
    pub channels: Vec<ChannelPattern>,
    /// What it allows on those channels.
    pub actions: Actions,
}

/// Signs tokens with the configured key.
pub struct Signer {
    header: Header,
    key: EncodingKey,
    issuer: Option<String>,
    audience: Option<String>,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer").field("algorithm", &self.header.alg).finish_non_exhaustive()
    }
}

impl Signer {
    /// A signer with the key of the settings.
    ///
    /// # Errors
    ///
    /// When the key cannot be used.
    pub fn new(settings: &Settings, read: Read<'_>) -> Result<Self, Problem> {
        Ok(Self {
            header: Header::new(keys::algorithm(settings.auth.algorithm)),
            key: keys::signing(settings, read)?,
            issuer: settings.auth.issuer.clone(),
            audience: settings.auth.audience.clone(),
        })
    }

    /// A signed token, issued at `now_ms` (Unix milliseconds).
    ///
    /// # Errors
    ///
    /// When the key refuses to sign.
    pub fn sign(&self, token: &NewToken, now_ms: i64) -> Result<String, jsonwebtoken::errors::Error> {
        let issued_s = now_ms.div_euclid(1000);
        let ttl_s = i64::try_from(token.ttl.as_secs()).unwrap_or(i64::MAX / 4);
        let mut claims = Map::new();
        claims.insert("sub".to_owned(), json!(token.sub));
        claims.insert("role".to_owned(), json!(word_of_role(token.role)));
        claims.insert("iat".to_owned(), json!(issued_s));
        claims.insert("exp".to_owned(), json!(issued_s.saturating_add(ttl_s)));
        claims.insert("jti".to_owned(), json!(ulid::Ulid::generate().to_string()));
        claims.extend(self.issuer.iter().map(|issuer| ("iss".to_owned(), json!(issuer))));
        claims.extend(self.audience.iter().map(|audience| ("aud".to_owned(), json!(audience))));
        if !token.channels.is_empty() {
            let actions = json!(words_of_actions(token.actions));
            let caps = token.channels.iter().map(|pattern| (pattern.as_str().to_owned(), actions.clone()));
            claims.insert("caps".to_owned(), caps.collect::<Value>());
        }
        jsonwebtoken::encode(&self.header, &claims, &self.key)
    }
}
