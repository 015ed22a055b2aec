//! Who is connecting, and what they may do.
//!
//! A credential comes from a [`carrier`], is verified by the [`Authenticator`] and becomes a
//! [`Principal`] or a [`Refusal`]. A token may be exchanged for a [`ticket`], which is good for less and for a short time. What a principal may do is decided by the principal alone.

pub mod api_key;
pub mod attempts;
pub mod carrier;
pub mod jwks;
pub mod keys;
pub mod refusal;
pub mod revocation;
pub mod signer;
pub mod ticket;
mod token;
pub mod verifier;
pub mod words;

pub use pulsewire_hub::principal::{Action, Actions, Grant, Principal, Role};

pub use api_key::{ApiKey, ApiKeySet, KeyId};
pub use attempts::{Attempts, TooMany};
pub use carrier::{Carrier, Credential, extract, redacted_query};
pub use refusal::Refusal;
pub use revocation::Revocations;
pub use signer::{NewToken, Signer};
pub use ticket::Tickets;
pub use token::{CAPS_MAX, TOKEN_LEN_BYTES_MAX};
pub use verifier::{SUBJECT_LEN_BYTES_MAX, Verifier};

use ticket::StartKey;

use crate::settings::{Problem, Settings};

/// Turns credentials into principals: tokens, API keys, and what was revoked.
///
/// One is made from one version of the settings; on reload a new one takes its place, sharing the
/// revocations and, while their source is the same, the keys that were fetched.
#[derive(Debug)]
pub struct Authenticator {
    verifier: Verifier,
    keys: ApiKeySet,
    revocations: std::sync::Arc<Revocations>,
    tickets: std::sync::Arc<Tickets>,
}

impl Authenticator {
    /// An authenticator for the settings. `start_key` seals tickets where no secret is set that all nodes share.
    ///
    /// # Errors
    ///
    /// When a configured key cannot be used.
    pub fn new(
        settings: &Settings,
        read: keys::Read<'_>,
        revocations: std::sync::Arc<Revocations>,
        remote: Option<std::sync::Arc<jwks::Remote>>,
        start_key: &StartKey,
    ) -> Result<Self, Problem> {
        let keys = ApiKeySet::new(settings.auth.api_keys.clone());
        let verifier = Verifier::new(settings, read, remote)?;
        let tickets = Tickets::new(settings, read, start_key, verifier.default_grants());
        Ok(Self { verifier, keys, revocations, tickets: tickets.into() })
    }

    /// What makes tickets.
    #[must_use]
    pub const fn tickets(&self) -> &std::sync::Arc<Tickets> {
        &self.tickets
    }

    /// The keys of `auth.jwks_url`.
    #[must_use]
    pub fn remote(&self) -> Option<&std::sync::Arc<jwks::Remote>> {
        self.verifier.remote()
    }

    /// Whether a refusal may become an answer after [`look_for_key`](Self::look_for_key).
    #[must_use]
    pub fn may_learn_key(&self, refusal: &Refusal) -> bool {
        *refusal == Refusal::KeyUnknown && self.remote().is_some()
    }

    /// Waits for the key that a token names, if a fetch of the key set may bring it: at most for one fetch.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops no fetch that was begun.
    pub async fn look_for_key(&self, token: &str, now_ms: i64) {
        self.verifier.look_for_key(token, now_ms).await;
    }

    /// Who the bearer of a token is. For operators, who show neither API keys nor tickets.
    ///
    /// # Errors
    ///
    /// The first reason to refuse it.
    pub fn token(&self, token: &str, now_ms: i64) -> Result<Principal, Refusal> {
        if ApiKeySet::recognises(token) {
            return Err(Refusal::NotAToken);
        }
        if Tickets::recognises(token) {
            return Err(Refusal::NoTickets);
        }
        self.unless_revoked(self.verifier.verify(token, now_ms)?)
    }

    /// Who the bearer of a token or a ticket is. For sockets and readers.
    ///
    /// # Errors
    ///
    /// The first reason to refuse it.
    pub fn token_or_ticket(&self, credential: &str, now_ms: i64) -> Result<Principal, Refusal> {
        if Tickets::recognises(credential) {
            self.unless_revoked(self.tickets.open(credential, now_ms)?)
        } else {
            self.token(credential, now_ms)
        }
    }

    fn unless_revoked(&self, principal: Principal) -> Result<Principal, Refusal> {
        if self.revocations.is_revoked(&principal) { Err(Refusal::Revoked) } else { Ok(principal) }
    }

    /// Who the bearer of a token or an API key is. For publishing over HTTP.
    ///
    /// # Errors
    ///
    /// The first reason to refuse it.
    pub fn token_or_key(&self, credential: &str, now_ms: i64) -> Result<Principal, Refusal> {
        if ApiKeySet::recognises(credential) {
            self.keys.verify(credential).ok_or(Refusal::ApiKey)
        } else {
            self.token(credential, now_ms)
        }
    }
}
