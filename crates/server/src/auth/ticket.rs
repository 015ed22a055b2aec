//! Tickets: what a client shows when it comes back soon, instead of its token.
//!
//! After an outage thousands come back at once. Each would ask the application for a token, and the server would verify a
//! signature made with a public key, or fetch a key set first. A ticket says what the token said, is sealed with a key
//! that the nodes share, and is opened with one short hash; nobody keeps anything for it. It opens sessions and reads
//! channels only, never outlives its token, is refused with it when that is revoked, and is not exchanged for another: so
//! no signature is believed for longer than `session.ticket_ttl` after it was verified.
//!
//! `pwt1.`, the contents as base64url of JSON, `.`, the seal as base64url: the first 16 bytes of HMAC-SHA256 over all
//! before the last dot. Nothing of the contents is believed, or even decoded, before the seal was compared. The key
//! depends on everything that decides which tokens are taken: when that changes, old tickets are refused and clients go
//! back to their tokens.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use pulsewire_hub::Ticket;
use pulsewire_hub::principal::{Grant, NamedBy, Principal, Shown};
use serde::{Deserialize, Serialize};

use super::{
    keys::Read,
    refusal::Refusal,
    token::Caps,
    words::{role_from_word, word_of_role, words_of_actions},
};
use crate::settings::{Secret, Settings};

/// What every ticket begins with. A token cannot: `p` does not begin the base64url of an object.
pub const PREFIX: &str = "pwt1.";
/// The longest ticket, bytes; whoever's would be longer gets none.
pub const TICKET_LEN_BYTES_MAX: usize = 4 * 1024;
/// What a node seals with when no secret is set that all share: random numbers, others after each start.
pub type StartKey = [u8; 32];

/// The bytes of a seal, half of a hash: 2¹²⁸ to guess, and each wrong guess counts as a failed attempt.
const SEAL_LEN_BYTES: usize = 16;

/// Seals tickets and opens them.
pub struct Tickets {
    /// Before anything was hashed.
    key: Hmac<sha2::Sha256>,
    /// How long a ticket lasts at most, milliseconds; 0 makes none and takes none.
    lasts_ms: u64,
    /// Of a token that names none, as the verifier hands them out.
    default_grants: [Arc<[Grant]>; 2],
}

impl std::fmt::Debug for Tickets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tickets").field("lasts_ms", &self.lasts_ms).finish_non_exhaustive()
    }
}

/// What a ticket says. Times are Unix milliseconds.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Contents<'a> {
    /// When the ticket ends.
    until: i64,
    #[serde(borrow)]
    sub: Cow<'a, str>,
    #[serde(borrow)]
    role: Cow<'a, str>,
    /// When the token ends, was made, and its id.
    exp: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    iat: Option<i64>,
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    jti: Option<Cow<'a, str>>,
    /// As a token writes them; none if the token had none, and so the default ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    caps: Option<Caps>,
}

impl Tickets {
    /// The tickets of a node with these settings. `start_key` is used where no secret is set.
    #[must_use]
    pub fn new(
        settings: &Settings,
        read: Read<'_>,
        start_key: &StartKey,
        default_grants: [Arc<[Grant]>; 2],
    ) -> Self {
        let lasts_ms = u64::try_from(settings.session.ticket_ttl.as_millis()).unwrap_or(u64::MAX);
        Self { key: key(settings, read, start_key), lasts_ms, default_grants }
    }

    /// Whether a credential is a ticket, or meant to be one.
    #[must_use]
    pub fn recognises(credential: &str) -> bool {
        credential.starts_with(PREFIX)
    }

    /// A ticket for the bearer of a token, at the time `now_ms` (Unix milliseconds).
    ///
    /// `None` for everybody without a token, also for who showed a ticket, for a token that has ended, and where the ticket would be longer than
    /// [`TICKET_LEN_BYTES_MAX`].
    #[must_use]
    pub fn seal(&self, principal: &Principal, now_ms: i64) -> Option<Ticket> {
        let shows_token = principal.named_by == NamedBy::Token && principal.shown == Shown::Credential;
        if self.lasts_ms == 0 || !shows_token || principal.is_anonymous() {
            return None;
        }
        let exp = principal.expires_at_ms?;
        let until = now_ms.saturating_add_unsigned(self.lasts_ms).min(exp);
        let lasts_ms = u64::try_from(until.saturating_sub(now_ms)).ok().filter(|ms| *ms > 0)?;
        let is_default = self.default_grants.iter().any(|grants| Arc::ptr_eq(grants, &principal.grants));
        let contents = Contents {
            until,
            sub: (&*principal.sub).into(),
            role: word_of_role(principal.role).into(),
            exp,
            iat: principal.issued_at_ms,
            jti: principal.token_id.as_deref().map(Into::into),
            caps: (!is_default).then(|| Caps(principal.grants.to_vec())),
        };
        let json = serde_json::to_vec(&contents).ok()?;
        let mut text = String::with_capacity(PREFIX.len() + (json.len() + SEAL_LEN_BYTES) * 4 / 3 + 4);
        text.push_str(PREFIX);
        URL_SAFE_NO_PAD.encode_string(&json, &mut text);
        let seal = self.key.clone().chain_update(&text).finalize().into_bytes();
        text.push('.');
        URL_SAFE_NO_PAD.encode_string(&seal[..SEAL_LEN_BYTES], &mut text);
        (text.len() <= TICKET_LEN_BYTES_MAX).then(|| Ticket { text: text.into(), lasts_ms })
    }

    /// Who the bearer of a ticket is, at the time `now_ms` (Unix milliseconds). Revocations are the caller's to ask.
    ///
    /// # Errors
    ///
    /// [`Refusal::TicketExpired`] for a ticket of ours that has ended, [`Refusal::Ticket`] for everything else.
    pub fn open(&self, ticket: &str, now_ms: i64) -> Result<Principal, Refusal> {
        if self.lasts_ms == 0 || ticket.len() > TICKET_LEN_BYTES_MAX {
            return Err(Refusal::Ticket);
        }
        let json = self.contents(ticket).ok_or(Refusal::Ticket)?;
        let contents: Contents<'_> = serde_json::from_slice(&json).map_err(|_| Refusal::Ticket)?;
        if now_ms >= contents.until {
            return Err(Refusal::TicketExpired { ago_s: (now_ms - contents.until) / 1000 });
        }
        let role = role_from_word(&contents.role).ok_or(Refusal::Ticket)?;
        let defaults = &self.default_grants[usize::from(role.is_application())];
        Ok(Principal {
            sub: contents.sub.into(),
            named_by: NamedBy::Token,
            role,
            grants: contents.caps.map_or_else(|| defaults.clone(), |caps| caps.0.into()),
            expires_at_ms: Some(contents.exp),
            issued_at_ms: contents.iat,
            token_id: contents.jti.map(Into::into),
            shown: Shown::Ticket,
        })
    }

    /// What was sealed, if the seal is ours. Compared in a time that says nothing about the right one.
    fn contents(&self, ticket: &str) -> Option<Vec<u8>> {
        let (sealed, seal) = ticket.rsplit_once('.')?;
        let contents = sealed.strip_prefix(PREFIX)?;
        let seal = URL_SAFE_NO_PAD.decode(seal).ok().filter(|seal| seal.len() == SEAL_LEN_BYTES)?;
        self.key.clone().chain_update(sealed).verify_truncated_left(&seal).ok()?;
        URL_SAFE_NO_PAD.decode(contents).ok()
    }
}

/// Grants, as a token lists them.
impl Serialize for Caps {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Entry<'a> {
            channels: [&'a str; 1],
            actions: Vec<&'static str>,
        }
        serializer.collect_seq(self.0.iter().map(|grant| Entry {
            channels: [grant.pattern.as_str()],
            actions: words_of_actions(grant.actions),
        }))
    }
}

/// What tickets are sealed with: out of the secret that nodes share, and of all that says which tokens are taken and
/// what they are good for.
fn key(settings: &Settings, read: Read<'_>, start_key: &StartKey) -> Hmac<sha2::Sha256> {
    let auth = &settings.auth;
    let secret = auth.secret.as_ref().map(Secret::expose);
    let root = settings.cluster.key.as_ref().map(Secret::expose).or(secret);
    let root = root.map_or(&start_key[..], str::as_bytes);
    // The verifier has read the files a moment ago. One that went away since seals with another key, which costs a
    // client one more question to its application.
    let file = |path: Option<&Path>| path.and_then(|path| read(path).ok());
    let (public, set) = (file(auth.public_key_file.as_deref()), file(auth.jwks_file.as_deref()));
    let grants: Vec<_> = auth
        .default_grants
        .iter()
        .map(|grant| format!("{} {}", grant.pattern.as_str(), words_of_actions(grant.actions).join(",")))
        .collect();
    let grants = grants.join("\n");
    let url = auth.jwks_url.as_ref().map(ToString::to_string);
    let parts = [
        Some(auth.algorithm.as_str()),
        secret,
        public.as_deref(),
        set.as_deref(),
        url.as_deref(),
        auth.issuer.as_deref(),
        auth.audience.as_deref(),
        Some(&*grants),
    ];
    let mut derived = hash_with(root).chain_update("pulsewire ticket");
    for part in parts {
        // What is not set is not the same as what is empty.
        derived.update(&part.map_or(u64::MAX, |part| part.len() as u64).to_le_bytes());
        derived.update(part.unwrap_or_default().as_bytes());
    }
    hash_with(&derived.finalize().into_bytes())
}

fn hash_with(key: &[u8]) -> Hmac<sha2::Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes keys of every length")
}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;

    use proptest::prelude::*;
    use pulsewire_hub::principal::{Action, Actions, Role};
    use pulsewire_protocol::ChannelPattern;

    use super::*;

    const NOW_MS: i64 = 1_700_000_000_000;

    fn tickets_of(change: impl FnOnce(&mut Settings)) -> Tickets {
        let mut settings = Settings::default();
        settings.auth.secret = Some(Secret::new("a test key of more than thirty-two bytes"));
        settings.session.ticket_ttl = std::time::Duration::from_secs(300);
        change(&mut settings);
        let read = |_: &Path| Err(std::io::ErrorKind::NotFound.into());
        let open = Grant { pattern: ChannelPattern::parse("open:*").unwrap(), actions: Actions::ALL };
        Tickets::new(&settings, &read, &[7; 32], [Arc::new([]), Arc::new([open])])
    }

    fn tickets() -> &'static Tickets {
        static TICKETS: OnceLock<Tickets> = OnceLock::new();
        TICKETS.get_or_init(|| tickets_of(|_| {}))
    }

    fn ann() -> Principal {
        let pattern = ChannelPattern::parse("run:*").unwrap();
        let actions = Actions::NONE.with(Action::Subscribe).with(Action::History);
        Principal {
            sub: "ann".into(),
            named_by: NamedBy::Token,
            role: Role::Viewer,
            grants: [Grant { pattern, actions }].into(),
            expires_at_ms: Some(NOW_MS + 3_600_000),
            issued_at_ms: Some(NOW_MS - 5_000),
            token_id: Some("t1".into()),
            shown: Shown::Credential,
        }
    }

    fn sealed(principal: &Principal) -> Ticket {
        tickets().seal(principal, NOW_MS).expect("a ticket")
    }

    #[test]
    fn a_ticket_says_what_the_token_said_and_is_not_exchanged_for_another() {
        let ticket = sealed(&ann());
        assert_eq!(ticket.lasts_ms, 300_000);
        let came_back = tickets().open(&ticket.text, NOW_MS + 299_999).unwrap();
        assert_eq!(came_back, Principal { shown: Shown::Ticket, ..ann() });
        assert_eq!(tickets().seal(&came_back, NOW_MS), None);
    }

    #[test]
    fn default_grants_are_those_of_who_opens_it() {
        let [_, of_applications] = tickets().default_grants.clone();
        let app = Principal { role: Role::Publisher, grants: of_applications.clone(), ..ann() };
        let ticket = sealed(&app);
        assert!(ticket.text.len() < sealed(&ann()).text.len(), "they are not written down");
        let came_back = tickets().open(&ticket.text, NOW_MS).unwrap();
        assert!(Arc::ptr_eq(&came_back.grants, &of_applications), "and are shared by all");
        // No grants at all are something else than none said.
        let nothing = Principal { grants: Arc::new([]), ..app };
        assert_eq!(tickets().open(&sealed(&nothing).text, NOW_MS).unwrap().grants.len(), 0);
    }

    #[test]
    fn a_ticket_ends_with_its_time_and_with_its_token() {
        let ticket = sealed(&ann()).text;
        let refusal = tickets().open(&ticket, NOW_MS + 302_000).unwrap_err();
        assert_eq!(refusal, Refusal::TicketExpired { ago_s: 2 });
        assert!(!refusal.is_an_attempt());
        let soon = Principal { expires_at_ms: Some(NOW_MS + 1_000), ..ann() };
        let ticket = sealed(&soon);
        assert_eq!(ticket.lasts_ms, 1_000);
        assert!(tickets().open(&ticket.text, NOW_MS + 999).is_ok());
        assert!(tickets().open(&ticket.text, NOW_MS + 1_000).is_err());
        let over = Principal { expires_at_ms: Some(NOW_MS), ..ann() };
        assert_eq!(tickets().seal(&over, NOW_MS), None);
    }

    #[test]
    fn who_shows_no_token_gets_none_and_none_is_longer_than_allowed() {
        let anonymous = Principal::anonymous(Arc::default());
        let key = Principal { named_by: NamedBy::ApiKey, ..ann() };
        let grants: Vec<_> = (0..200).map(|_| ann().grants[0].clone()).collect();
        let long = Principal { grants: grants.into(), ..ann() };
        for nobody in [anonymous, key, long, Principal { expires_at_ms: None, ..ann() }] {
            assert_eq!(tickets().seal(&nobody, NOW_MS), None, "{nobody:?}");
        }
    }

    #[test]
    fn what_decides_over_tokens_decides_over_the_key() {
        let ticket = sealed(&ann()).text;
        assert!(tickets_of(|_| {}).open(&ticket, NOW_MS).is_ok(), "another node with the same settings");
        let secret = |text: &str| Some(Secret::new(text));
        let changes: [fn(&mut Settings); 6] = [
            |settings| settings.auth.issuer = Some("somebody".to_owned()),
            |settings| settings.auth.issuer = Some(String::new()),
            |settings| settings.auth.audience = Some("somebody".to_owned()),
            |settings| settings.auth.algorithm = crate::settings::AlgorithmName::Hs512,
            |settings| settings.auth.default_grants.clear(),
            |settings| settings.session.ticket_ttl = std::time::Duration::ZERO,
        ];
        for (number, change) in changes.into_iter().enumerate() {
            assert_eq!(tickets_of(change).open(&ticket, NOW_MS), Err(Refusal::Ticket), "{number}");
        }
        // Also where the nodes have a key of their own.
        let with_key = |changed: &str| {
            tickets_of(|settings| {
                settings.cluster.key = secret("a key of the nodes, at least 32 bytes");
                settings.auth.secret = secret(changed);
            })
        };
        let ticket = with_key("one").seal(&ann(), NOW_MS).unwrap().text;
        assert!(with_key("one").open(&ticket, NOW_MS).is_ok());
        assert_eq!(with_key("another").open(&ticket, NOW_MS), Err(Refusal::Ticket));
    }

    proptest! {
        #[test]
        fn a_ticket_with_a_byte_changed_added_or_taken_is_refused(
            place in any::<prop::sample::Index>(),
            byte in any::<u8>(),
        ) {
            let good = sealed(&ann()).text.into_string().into_bytes();
            let at = place.index(good.len());
            let (mut changed, mut longer, mut shorter) = (good.clone(), good.clone(), good.clone());
            changed[at] = byte;
            longer.insert(at, byte);
            shorter.remove(at);
            for bytes in [changed, longer, shorter] {
                let text = String::from_utf8_lossy(&bytes);
                if text.as_bytes() != good {
                    prop_assert_eq!(tickets().open(&text, NOW_MS), Err(Refusal::Ticket));
                }
            }
        }

        #[test]
        fn no_text_panics(text in any::<String>(), seal in "[A-Za-z0-9_-]{22}") {
            prop_assert_eq!(tickets().open(&text, NOW_MS), Err(Refusal::Ticket));
            let sealed = format!("{PREFIX}{text}.{seal}");
            prop_assert_eq!(tickets().open(&sealed, NOW_MS), Err(Refusal::Ticket));
        }

        #[test]
        fn whatever_was_sealed_is_opened(sub in "[^\\p{Cc}]{1,64}", id in proptest::option::of("[^\\p{Cc}]{1,64}")) {
            let who = Principal { sub: sub.into(), token_id: id.map(Into::into), ..ann() };
            let expected = Principal { shown: Shown::Ticket, ..who.clone() };
            prop_assert_eq!(tickets().open(&sealed(&who).text, NOW_MS), Ok(expected));
        }
    }
}
