//! From a token to a principal, or a reason.
//!
//! The order is fixed: length, form, header, signature, and only then the claims. Nothing of a
//! token is believed before its signature has been verified with a configured key under that key's
//! one algorithm. A token may name its key; without key sets there is one key and the name chooses
//! nothing. Time comes in as a parameter.

use std::sync::Arc;

use pulsewire_hub::principal::{Action, Grant, NamedBy, Principal, Role, Shown};

use super::{
    jwks::{KeySet, Remote, VerifyingKey},
    keys::{self, Read},
    refusal::Refusal,
    token::{self, Claims, Parts},
    words::role_from_word,
};
use crate::settings::{Problem, Settings};

/// The longest `sub`.
pub const SUBJECT_LEN_BYTES_MAX: usize = 256;

/// Verifies tokens under the settings it was made from.
pub struct Verifier {
    /// The key of tokens that name none, and of all while there are no sets.
    own: Option<Arc<VerifyingKey>>,
    /// Keys by their id; `None` when no set is configured.
    file: Option<KeySet>,
    remote: Option<Arc<Remote>>,
    issuer: Option<String>,
    audience: Option<String>,
    leeway_s: f64,
    /// Of a token that names none: of those who read, and of applications. Shared by all their bearers.
    default_grants: [Arc<[Grant]>; 2],
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verifier").field("own", &self.own).field("file", &self.file).finish_non_exhaustive()
    }
}

impl Verifier {
    /// A verifier with the keys of the settings; those of `auth.jwks_url` are in `remote`.
    ///
    /// # Errors
    ///
    /// When a key cannot be used.
    pub fn new(settings: &Settings, read: Read<'_>, remote: Option<Arc<Remote>>) -> Result<Self, Problem> {
        let auth = &settings.auth;
        Ok(Self {
            own: keys::verifying(settings, read)?.map(Arc::new),
            file: keys::file_set(settings, read)?,
            remote,
            issuer: auth.issuer.clone(),
            audience: auth.audience.clone(),
            leeway_s: auth.leeway.as_secs_f64(),
            default_grants: [false, true].map(|publishes| grants(&auth.default_grants, publishes)),
        })
    }

    /// Who the bearer of a token is, at the time `now_ms` (Unix milliseconds).
    ///
    /// # Errors
    ///
    /// The first reason to refuse it.
    pub fn verify(&self, token: &str, now_ms: i64) -> Result<Principal, Refusal> {
        let parts = Parts::of(token)?;
        let named = token::header(&token::decode(parts.header, "header")?)?;
        let key = self.key(named.kid.as_deref())?;
        let expected = key.algorithm().as_str();
        if named.alg != expected {
            return Err(Refusal::Algorithm { expected });
        }
        if !key.verifies(parts.signed, parts.signature) {
            return Err(Refusal::Signature);
        }
        let claims = token::claims(&token::decode(parts.claims, "claims")?)?;
        self.check_times(&claims, now_ms)?;
        self.check_parties(&claims)?;
        self.principal(claims)
    }

    /// The key that a token with this id must be signed with.
    fn key(&self, kid: Option<&str>) -> Result<Arc<VerifyingKey>, Refusal> {
        let sets = self.file.is_some() || self.remote.is_some();
        match kid {
            Some(kid) if sets => {
                let of_file = self.file.as_ref().and_then(|keys| keys.get(kid).cloned());
                let of_remote = || self.remote.as_ref().and_then(|remote| remote.key(kid));
                of_file.or_else(of_remote).ok_or(Refusal::KeyUnknown)
            }
            // The one key is chosen by nobody; a name that could be none is refused all the same.
            Some(kid) if !is_plain_name(kid) => Err(Refusal::HeaderField { field: "kid" }),
            _ => self.own.clone().ok_or(Refusal::KeyIdMissing),
        }
    }

    /// Waits for the key that a token names, if a fetch may bring it. Does nothing for any other token.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops no fetch that was begun.
    pub async fn look_for_key(&self, token: &str, now_ms: i64) {
        let named = Parts::of(token).and_then(|parts| token::decode(parts.header, "header"));
        let kid = named.and_then(|json| token::header(&json)).ok().and_then(|named| named.kid);
        if let (Some(remote), Some(kid)) = (&self.remote, kid)
            && matches!(self.key(Some(&kid)), Err(Refusal::KeyUnknown))
        {
            remote.look_for(&kid, now_ms).await;
        }
    }

    /// The grants of tokens that name none: of those who read, and of applications.
    #[must_use]
    pub fn default_grants(&self) -> [Arc<[Grant]>; 2] {
        self.default_grants.clone()
    }

    /// The keys of `auth.jwks_url`.
    #[must_use]
    pub fn remote(&self) -> Option<&Arc<Remote>> {
        self.remote.as_ref()
    }

    #[expect(clippy::cast_possible_truncation, reason = "differences of times that were bounded when read")]
    #[expect(
        clippy::cast_precision_loss,
        reason = "milliseconds since 1970 are exact in an f64 until the year 287396"
    )]
    fn check_times(&self, claims: &Claims, now_ms: i64) -> Result<(), Refusal> {
        let now = now_ms as f64 / 1000.0;
        let expires = claims.exp.ok_or(Refusal::ClaimMissing { claim: "exp" })?;
        if now >= expires + self.leeway_s {
            return Err(Refusal::Expired { ago_s: (now - expires) as i64 });
        }
        match claims.nbf {
            Some(begins) if begins > now + self.leeway_s => {
                return Err(Refusal::NotYet { in_s: (begins - now).ceil() as i64 });
            }
            _ => {}
        }
        match claims.iat {
            Some(issued) if issued > now + self.leeway_s => {
                Err(Refusal::Claim { claim: "iat", why: "it lies in the future; are the clocks right?" })
            }
            _ => Ok(()),
        }
    }

    fn check_parties(&self, claims: &Claims) -> Result<(), Refusal> {
        match (&self.issuer, &claims.iss) {
            (Some(_), None) => return Err(Refusal::ClaimMissing { claim: "iss" }),
            (Some(expected), Some(found)) if expected != found => {
                return Err(Refusal::Claim { claim: "iss", why: "it is not the configured auth.issuer" });
            }
            _ => {}
        }
        match (&self.audience, &claims.aud) {
            (Some(_), None) => Err(Refusal::ClaimMissing { claim: "aud" }),
            (Some(expected), Some(found)) if !found.names(expected) => {
                Err(Refusal::Claim { claim: "aud", why: "it does not name the configured auth.audience" })
            }
            (None, Some(_)) => Err(Refusal::Claim {
                claim: "aud",
                why: "the token is meant for somebody; set auth.audience to accept it",
            }),
            _ => Ok(()),
        }
    }

    fn principal(&self, claims: Claims) -> Result<Principal, Refusal> {
        let sub = claims.sub.ok_or(Refusal::ClaimMissing { claim: "sub" })?;
        if sub.is_empty() || sub.len() > SUBJECT_LEN_BYTES_MAX || sub.chars().any(char::is_control) {
            let why = "1 to 256 bytes without control characters are";
            return Err(Refusal::Claim { claim: "sub", why });
        }
        let token_id = claims.jti.filter(|id| !id.is_empty());
        if token_id.as_ref().is_some_and(|id| id.len() > SUBJECT_LEN_BYTES_MAX) {
            return Err(Refusal::Claim { claim: "jti", why: "at most 256 bytes are" });
        }
        // A word of the application's own grants nothing.
        let role = claims.role.as_deref().and_then(role_from_word).unwrap_or_default();
        Ok(Principal {
            sub: sub.into(),
            named_by: NamedBy::Token,
            role,
            grants: claims.caps.map_or_else(|| self.grants_of(role), |caps| caps.0.into()),
            expires_at_ms: claims.exp.map(milliseconds),
            issued_at_ms: claims.iat.map(milliseconds),
            token_id: token_id.map(Into::into),
            shown: Shown::Credential,
        })
    }

    /// The grants of a token that names none.
    fn grants_of(&self, role: Role) -> Arc<[Grant]> {
        self.default_grants[usize::from(role.is_application())].clone()
    }
}

fn is_plain_name(kid: &str) -> bool {
    kid.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._:=+@~-".contains(&byte))
}

/// The default grants; whoever publishes may do so where they may subscribe.
fn grants(defaults: &[Grant], publishes: bool) -> Arc<[Grant]> {
    let grant = |grant: &Grant| {
        let publishes = publishes && grant.actions.contains(Action::Subscribe);
        let actions = if publishes { grant.actions.with(Action::Publish) } else { grant.actions };
        Grant { pattern: grant.pattern.clone(), actions }
    };
    defaults.iter().map(grant).collect()
}

#[expect(clippy::cast_possible_truncation, reason = "the times of claims were bounded when read")]
fn milliseconds(seconds: f64) -> i64 {
    (seconds * 1000.0) as i64
}
