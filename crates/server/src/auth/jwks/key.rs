//! Keys out of a JWK set (RFC 7517), each with the one algorithm it may be used for.
//!
//! The type of a key decides its algorithm, and an `alg` beside it may only agree. A shared secret is
//! taken from a file of the operator's own and never from the network: whoever could read it there
//! could sign. A key that cannot be used is left out with the reason; the others count.

use std::collections::HashMap;
use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, crypto};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use crate::auth::keys;
use crate::settings::AlgorithmName;

/// The longest id of a key.
pub const KEY_ID_LEN_BYTES_MAX: usize = 128;
/// The most keys in a set.
pub const SET_KEYS_MAX: usize = 100;
/// The shortest shared secret, as for `auth.secret`.
const SECRET_LEN_BYTES_MIN: usize = crate::settings::SECRET_LEN_BYTES_MIN;
/// RSA keys that the verifying library takes.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2_048..=8_192;
/// A coordinate on P-256 and an Ed25519 key (RFC 7518 §6.2.1.2, RFC 8037 §2).
const COORDINATE_LEN_BYTES: usize = 32;

/// A key and the one algorithm it verifies.
pub struct VerifyingKey {
    name: AlgorithmName,
    algorithm: Algorithm,
    key: DecodingKey,
}

impl std::fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VerifyingKey").field("algorithm", &self.name).finish_non_exhaustive()
    }
}

impl VerifyingKey {
    /// A key that was read as one for the algorithm.
    #[must_use]
    pub fn new(name: AlgorithmName, key: DecodingKey) -> Self {
        Self { name, algorithm: keys::algorithm(name), key }
    }

    /// The algorithm.
    #[must_use]
    pub const fn algorithm(&self) -> AlgorithmName {
        self.name
    }

    /// Whether the signature over `signed` is this key's.
    #[must_use]
    pub fn verifies(&self, signed: &str, signature: &str) -> bool {
        crypto::verify(signature, signed.as_bytes(), &self.key, self.algorithm).unwrap_or(false)
    }
}

/// Keys by their id.
pub type KeySet = HashMap<Box<str>, Arc<VerifyingKey>>;

/// Who vouches for a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Voucher {
    /// The operator, who wrote the file.
    Operator,
    /// Whoever answers at the configured address.
    Network,
}

/// A key that is not used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// Its place in the set, from 1.
    pub place: usize,
    /// Why.
    pub why: &'static str,
}

/// Why a text is not a set of keys.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SetError {
    /// Not an object with a list `keys`.
    #[error("not a JWK set, {{\"keys\": […]}}: {0}")]
    Shape(String),
    /// More keys than anybody needs.
    #[error("{0} keys, more than {SET_KEYS_MAX}")]
    TooMany(usize),
}

/// Whether a text can be the id of a key: 1 to 128 printable ASCII characters.
#[must_use]
pub fn is_key_id(text: &str) -> bool {
    (1..=KEY_ID_LEN_BYTES_MAX).contains(&text.len()) && text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}

/// Reads a set: the keys to verify with, and those left out. Keys for other things than signatures are no
/// mistake and in neither.
///
/// # Errors
///
/// [`SetError`] when the text is not a set at all.
pub fn read_set(text: &[u8], voucher: Voucher) -> Result<(KeySet, Vec<Skipped>), SetError> {
    #[derive(Deserialize)]
    struct Set<'a> {
        #[serde(borrow)]
        keys: Vec<&'a RawValue>,
    }
    let set: Set<'_> = serde_json::from_slice(text).map_err(|error| SetError::Shape(error.to_string()))?;
    if set.keys.len() > SET_KEYS_MAX {
        return Err(SetError::TooMany(set.keys.len()));
    }
    let (mut keys, mut skipped) = (KeySet::new(), Vec::new());
    for (at, raw) in set.keys.into_iter().enumerate() {
        let mut skip = |why| skipped.push(Skipped { place: at + 1, why });
        match serde_json::from_str::<Jwk>(raw.get()) {
            Err(_) => skip("a member is missing, doubled or of a wrong type"),
            Ok(jwk) if jwk.is_for_something_else() => {}
            Ok(jwk) => match jwk.verifying(voucher) {
                Err(why) => skip(why),
                Ok((kid, _)) if keys.contains_key(kid.as_str()) => skip("an earlier key has its `kid`"),
                Ok((kid, key)) => {
                    keys.insert(kid.into(), Arc::new(key));
                }
            },
        }
    }
    Ok((keys, skipped))
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    r#use: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    k: Option<String>,
    d: Option<IgnoredAny>,
}

impl Jwk {
    /// RFC 7517 §4.2 and §4.3.
    fn is_for_something_else(&self) -> bool {
        let other_use = self.r#use.as_deref().is_some_and(|it| it != "sig");
        other_use || self.key_ops.as_ref().is_some_and(|ops| !ops.iter().any(|it| it == "verify"))
    }

    fn verifying(&self, voucher: Voucher) -> Result<(String, VerifyingKey), &'static str> {
        let kid = self.kid.clone().filter(|kid| is_key_id(kid));
        let kid = kid.ok_or("no `kid` of 1 to 128 printable ASCII characters")?;
        if self.d.is_some() {
            return Err("a private key: it belongs to the issuer alone");
        }
        let name = self.algorithm(voucher)?;
        if self
            .alg
            .as_deref()
            .is_some_and(|alg| alg != name.as_str() && !(alg == "Ed25519" && name == AlgorithmName::EdDsa))
        {
            return Err("its `alg` is not the one that its type is used with: RS256, ES256 or EdDSA");
        }
        Ok((kid, VerifyingKey::new(name, self.key(name)?)))
    }

    fn algorithm(&self, voucher: Voucher) -> Result<AlgorithmName, &'static str> {
        match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", None) => Ok(AlgorithmName::Rs256),
            ("EC", Some("P-256")) => Ok(AlgorithmName::Es256),
            ("OKP", Some("Ed25519")) => Ok(AlgorithmName::EdDsa),
            ("oct", None) if voucher == Voucher::Network => {
                Err("a shared secret, which whoever can read the set could sign with")
            }
            ("oct", None) => match self.alg.as_deref() {
                Some("HS256") => Ok(AlgorithmName::Hs256),
                Some("HS384") => Ok(AlgorithmName::Hs384),
                Some("HS512") => Ok(AlgorithmName::Hs512),
                _ => Err("a shared secret whose `alg` is not HS256, HS384 or HS512"),
            },
            _ => Err("its type is not RSA, EC on P-256 or OKP with Ed25519"),
        }
    }

    fn key(&self, name: AlgorithmName) -> Result<DecodingKey, &'static str> {
        let bytes = |part: &Option<String>| part.as_ref().and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
        let wrong = "its key material is missing or not base64url of the right length";
        let coordinate = |part: &Option<String>| bytes(part).filter(|it| it.len() == COORDINATE_LEN_BYTES);
        match name {
            AlgorithmName::Rs256 => {
                let (modulus, exponent) = bytes(&self.n).zip(bytes(&self.e)).ok_or(wrong)?;
                if !RSA_BITS.contains(&bits(&modulus)) {
                    return Err("an RSA key of less than 2048 or more than 8192 bits");
                }
                Ok(DecodingKey::from_rsa_raw_components(&modulus, &exponent))
            }
            AlgorithmName::Es256 => {
                coordinate(&self.x).zip(coordinate(&self.y)).ok_or(wrong)?;
                let (x, y) = (self.x.as_deref().unwrap_or_default(), self.y.as_deref().unwrap_or_default());
                DecodingKey::from_ec_components(x, y).map_err(|_| wrong)
            }
            AlgorithmName::EdDsa => {
                coordinate(&self.x).ok_or(wrong)?;
                DecodingKey::from_ed_components(self.x.as_deref().unwrap_or_default()).map_err(|_| wrong)
            }
            AlgorithmName::Hs256 | AlgorithmName::Hs384 | AlgorithmName::Hs512 => {
                let secret = bytes(&self.k).ok_or(wrong)?;
                if secret.len() < SECRET_LEN_BYTES_MIN {
                    return Err("a shared secret of less than 32 bytes");
                }
                Ok(DecodingKey::from_secret(&secret))
            }
        }
    }
}

/// The length of a big-endian number in bits.
fn bits(number: &[u8]) -> usize {
    let Some(first) = number.iter().position(|byte| *byte != 0) else { return 0 };
    (number.len() - first) * 8 - number[first].leading_zeros() as usize
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn rsa(change: impl FnOnce(&mut Value)) -> Value {
        let modulus = URL_SAFE_NO_PAD.encode([0xc5; 256]);
        let mut key = json!({"kty": "RSA", "kid": "r", "n": modulus, "e": "AQAB"});
        change(&mut key);
        key
    }

    fn coordinate() -> String {
        URL_SAFE_NO_PAD.encode([7; 32])
    }

    fn read(keys: &[Value], voucher: Voucher) -> (Vec<(String, AlgorithmName)>, Vec<&'static str>) {
        let text = json!({ "keys": keys }).to_string();
        let (keys, skipped) = read_set(text.as_bytes(), voucher).unwrap();
        let mut keys: Vec<_> = keys.iter().map(|(kid, key)| (kid.to_string(), key.algorithm())).collect();
        keys.sort_by(|one, two| one.0.cmp(&two.0));
        (keys, skipped.into_iter().map(|it| it.why).collect())
    }

    #[test]
    fn the_type_of_a_key_decides_its_algorithm() {
        let x = coordinate();
        let set = [
            rsa(|_| {}),
            json!({"kty": "EC", "crv": "P-256", "kid": "e", "x": x, "y": x, "alg": "ES256", "use": "sig"}),
            json!({"kty": "OKP", "crv": "Ed25519", "kid": "o", "x": x, "key_ops": ["verify"]}),
            json!({"kty": "OKP", "crv": "Ed25519", "kid": "p", "x": x, "alg": "Ed25519"}),
        ];
        let (keys, skipped) = read(&set, Voucher::Network);
        let expected = [
            ("e", AlgorithmName::Es256),
            ("o", AlgorithmName::EdDsa),
            ("p", AlgorithmName::EdDsa),
            ("r", AlgorithmName::Rs256),
        ];
        assert_eq!(keys, expected.map(|(kid, name)| (kid.to_owned(), name)));
        assert!(skipped.is_empty(), "{skipped:?}");
    }

    /// Row A4 and threat S2: what a set from the network must not bring in, each with its reason.
    #[test]
    fn a_key_that_cannot_be_trusted_or_used_is_left_out_and_the_others_count() {
        let x = coordinate();
        let secret = URL_SAFE_NO_PAD.encode([9; 32]);
        for (key, why) in [
            (json!({"kty": "oct", "kid": "s", "alg": "HS256", "k": secret}), "shared secret"),
            (json!({"kty": "oct", "kid": "s", "k": secret}), "shared secret"),
            (rsa(|key| key["alg"] = json!("HS256")), "`alg`"),
            (rsa(|key| key["alg"] = json!("RS512")), "`alg`"),
            (rsa(|key| key["alg"] = json!("none")), "`alg`"),
            (rsa(|key| key["d"] = json!("AQAB")), "private key"),
            (rsa(|key| key["n"] = json!(URL_SAFE_NO_PAD.encode([0xc5; 128]))), "RSA key of less"),
            (rsa(|key| key["n"] = json!(URL_SAFE_NO_PAD.encode([0xc5; 1025]))), "RSA key of less"),
            (rsa(|key| key["n"] = json!("***")), "key material"),
            (rsa(|key| key["crv"] = json!("P-256")), "its type"),
            (rsa(|key| key["kid"] = json!("")), "no `kid`"),
            (rsa(|key| key["kid"] = json!("k".repeat(129))), "no `kid`"),
            (rsa(|key| key["kid"] = json!("a\nb")), "no `kid`"),
            (rsa(|key| key["kid"] = json!(7)), "wrong type"),
            (rsa(|key| key["kty"] = json!("rsa")), "its type"),
            (json!({"kty": "EC", "crv": "P-384", "kid": "e", "x": x, "y": x}), "its type"),
            (json!({"kty": "EC", "crv": "P-256", "kid": "e", "x": x, "y": "AAAA"}), "key material"),
            (json!({"kty": "OKP", "crv": "X25519", "kid": "o", "x": x}), "its type"),
            (json!({"kid": "none"}), "missing"),
            (json!("key"), "wrong type"),
        ] {
            let good = rsa(|key| key["kid"] = json!("good"));
            let (keys, skipped) = read(&[key.clone(), good], Voucher::Network);
            assert_eq!(keys, [("good".to_owned(), AlgorithmName::Rs256)], "{key}");
            assert!(skipped.len() == 1 && skipped[0].contains(why), "{key}: {skipped:?}");
        }
        let (keys, skipped) = read(&[rsa(|_| {}), rsa(|_| {})], Voucher::Network);
        assert_eq!((keys.len(), skipped.as_slice()), (1, &["an earlier key has its `kid`"][..]));
        let (keys, skipped) = read(&[rsa(|key| key["use"] = json!("enc"))], Voucher::Network);
        assert_eq!((keys.len(), skipped.len()), (0, 0), "a key for encryption is no mistake");
    }

    #[test]
    fn an_operators_file_may_hold_shared_secrets_with_their_algorithm() {
        let key = |alg: &str, len: usize| json!({"kty": "oct", "kid": "s", "alg": alg, "k": URL_SAFE_NO_PAD.encode(vec![9; len])});
        assert_eq!(read(&[key("HS512", 32)], Voucher::Operator).0, [("s".to_owned(), AlgorithmName::Hs512)]);
        assert!(read(&[key("HS256", 31)], Voucher::Operator).1[0].contains("less than 32"));
        assert!(read(&[key("RS256", 32)], Voucher::Operator).1[0].contains("`alg`"));
    }

    #[test]
    fn what_is_not_a_set_is_refused_as_a_whole() {
        for text in ["", "[]", "{}", r#"{"keys":{}}"#, r#"{"keys":[],"keys":[]}"#, "<html>"] {
            assert!(matches!(read_set(text.as_bytes(), Voucher::Network), Err(SetError::Shape(_))), "{text}");
        }
        let many = json!({ "keys": vec![rsa(|_| {}); SET_KEYS_MAX + 1] }).to_string();
        assert_eq!(
            read_set(many.as_bytes(), Voucher::Network).unwrap_err(),
            SetError::TooMany(SET_KEYS_MAX + 1)
        );
    }
}
