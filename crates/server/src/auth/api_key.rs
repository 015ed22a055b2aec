//! API keys: how an application that publishes says who it is.
//!
//! A key reads `pw_<id>_<secret>`. The server keeps only the SHA-256 of the whole key. Neither the time of
//! an answer nor the answer tells which part of a key was wrong (row A18, threat S24), for these reasons:
//!
//! - A key of any content costs one hash of its length and one comparison with every stored hash, whether
//!   its id is known or not and however much of it is right. A test counts both.
//! - The secret itself is never compared: hashes are, whole, by `subtle`, whose comparison of arrays does
//!   not depend on where they differ. `pulsewire bench secrets` measures that no difference can be seen from outside.
//! - What SHA-256 does depends on the length of a key alone, which its sender knows.

use std::fmt;

use pulsewire_hub::principal::{Action, Actions, Grant, NamedBy, Principal, Role, Shown};
use pulsewire_protocol::ChannelPattern;
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use crate::settings::secret::Secret;

/// The longest key that is looked at.
pub const KEY_LEN_BYTES_MAX: usize = 256;

/// The public part of a key: 1 to 32 characters `a-z`, `0-9` and `-`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct KeyId(Box<str>);

impl KeyId {
    /// Checks an id.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let right = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        ((1..=32).contains(&text.len()) && text.bytes().all(right)).then(|| Self(text.into()))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A key the server accepts. `Debug` shows no hash.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// The public part, named in logs and as the publisher of its events.
    pub id: KeyId,
    /// The SHA-256 of the whole key.
    pub sha256: [u8; 32],
    /// The channels it may publish to.
    pub publish: Vec<ChannelPattern>,
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiKey").field("id", &self.id).field("publish", &self.publish).finish_non_exhaustive()
    }
}

/// The accepted keys.
#[derive(Debug, Clone, Default)]
pub struct ApiKeySet(Vec<ApiKey>);

impl ApiKeySet {
    /// The set of these keys.
    #[must_use]
    pub fn new(keys: Vec<ApiKey>) -> Self {
        Self(keys)
    }

    /// Whether a credential looks like an API key, rather than a token.
    #[must_use]
    pub fn recognises(credential: &str) -> bool {
        credential.starts_with("pw_")
    }

    /// The application whose key this is; `None` when no key is exactly this one.
    ///
    /// Every stored hash is compared, so the time depends on the number of keys alone.
    #[must_use]
    pub fn verify(&self, credential: &str) -> Option<Principal> {
        self.find(credential, |text| Sha256::digest(text).into(), |one, two| one.ct_eq(two)).map(principal)
    }

    /// The key that a credential is, with every hash and every comparison of hashes made by the caller's
    /// means, so that a test can count them.
    fn find(
        &self,
        credential: &str,
        hash: impl FnOnce(&[u8]) -> Hash,
        same: impl Fn(&Hash, &Hash) -> Choice,
    ) -> Option<&ApiKey> {
        if credential.len() > KEY_LEN_BYTES_MAX {
            return None;
        }
        let hash = hash(credential.as_bytes());
        // Ids are public: they only have to agree with the key they came in.
        let id =
            credential.strip_prefix("pw_").and_then(|rest| rest.split_once('_')).map_or("", |(id, _)| id);
        let mut found = None;
        for key in &self.0 {
            if bool::from(same(&key.sha256, &hash)) && key.id.as_str() == id {
                found = Some(key);
            }
        }
        found
    }
}

type Hash = [u8; 32];

fn principal(key: &ApiKey) -> Principal {
    let actions = Actions::NONE.with(Action::Publish);
    Principal {
        sub: format!("key:{}", key.id).into(),
        named_by: NamedBy::ApiKey,
        role: Role::Publisher,
        grants: key.publish.iter().map(|pattern| Grant { pattern: pattern.clone(), actions }).collect(),
        expires_at_ms: None,
        issued_at_ms: None,
        token_id: None,
        shown: Shown::Credential,
    }
}

/// Makes a new key: the text to hand out once, and the hash to put into the settings.
///
/// # Errors
///
/// When the system has no randomness to give.
pub fn generate(id: &KeyId) -> std::io::Result<(Secret, String)> {
    let key = format!("pw_{id}_{}", Secret::random()?.expose());
    let hash = Sha256::digest(key.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    Ok((Secret::new(key), hash))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use pulsewire_protocol::ChannelName;

    use super::*;

    fn key(id: &str, text: &str, publish: &str) -> ApiKey {
        ApiKey {
            id: KeyId::parse(id).unwrap(),
            sha256: Sha256::digest(text.as_bytes()).into(),
            publish: vec![ChannelPattern::parse(publish).unwrap()],
        }
    }

    /// Rows A18 and A19, as far as they need no server.
    #[test]
    fn only_the_exact_key_is_accepted_and_only_for_its_channels() {
        let set = ApiKeySet::new(vec![key("ci", "pw_ci_0123456789", "a:*"), key("app", "pw_app_x", "*")]);
        let accepted = set.verify("pw_ci_0123456789").unwrap();
        assert_eq!(&*accepted.sub, "key:ci");
        let may = |action, name: &str| accepted.may(action, &ChannelName::parse(name).unwrap());
        assert!(may(Action::Publish, "a:x"));
        assert!(!may(Action::Publish, "b:x"));
        assert!(!may(Action::Subscribe, "a:x"));
        assert!(!may(Action::Publish, "$sys.metrics"));

        let whole = "pw_ci_0123456789";
        for len in 0..whole.len() {
            assert_eq!(set.verify(&whole[..len]), None, "a prefix of {len} bytes");
        }
        for wrong in ["pw_ci_01234567890", "pw_xx_0123456789", "ci_0123456789", &"pw_".repeat(1000)] {
            assert_eq!(set.verify(wrong), None, "{wrong}");
        }
    }

    /// Row A18: the same work for every wrong key of a length, known id or not, right prefix or none.
    #[test]
    fn the_work_does_not_depend_on_how_much_of_a_key_is_right() {
        let whole = "pw_ci_0123456789abcdef";
        let set = ApiKeySet::new(vec![
            key("ci", whole, "*"),
            key("app", "pw_app_another_key_0123", "*"),
            key("old", "pw_old_another_key_4567", "*"),
        ]);
        let work = |credential: &str| {
            let (hashed, compared) = (Cell::new(Vec::new()), Cell::new(0));
            let hash = |text: &[u8]| {
                hashed.set([hashed.take(), vec![text.len()]].concat());
                Sha256::digest(text).into()
            };
            let same = |one: &Hash, two: &Hash| {
                compared.set(compared.get() + 1);
                one.ct_eq(two)
            };
            let found = set.find(credential, hash, same).is_some();
            (hashed.take(), compared.get(), found)
        };
        assert_eq!(work(whole), (vec![22], 3, true), "one hash of the whole, and every stored one compared");
        for right in 0..whole.len() {
            let wrong = format!("{}{}", &whole[..right], "~".repeat(whole.len() - right));
            assert_eq!(work(&wrong), (vec![22], 3, false), "{right} right bytes");
        }
        for unknown in
            ["pw_xy_0123456789abcdef", "pw__x_0123456789abcdef", "pw_0123456789abcdefghi", &"x".repeat(22)]
        {
            assert_eq!(work(unknown), (vec![22], 3, false), "{unknown}");
        }
        assert_eq!(work(&"p".repeat(KEY_LEN_BYTES_MAX + 1)), (vec![], 0, false), "no key is that long");
    }

    #[test]
    fn a_key_is_accepted_only_under_its_own_id() {
        let set = ApiKeySet::new(vec![key("other", "pw_ci_0123456789", "*")]);
        assert_eq!(set.verify("pw_ci_0123456789"), None);
    }

    #[test]
    fn a_generated_key_is_the_one_its_hash_accepts() {
        let id = KeyId::parse("ci").unwrap();
        let (secret, hash) = generate(&id).unwrap();
        assert!(secret.expose().starts_with("pw_ci_"));
        let digest: String =
            Sha256::digest(secret.expose()).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(digest, hash);
    }

    #[test]
    fn ids_have_no_characters_that_would_confuse_a_log_or_the_key() {
        for wrong in ["", "A", "a_b", "a b", "a\n", &"a".repeat(33)] {
            assert_eq!(KeyId::parse(wrong), None, "{wrong:?}");
        }
    }
}
