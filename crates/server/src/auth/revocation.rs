//! Tokens that were taken back before their end.
//!
//! A user's tokens are revoked by a moment: everything issued before it is refused, so that a new
//! login works at once. One token is revoked by its id. Entries leave when every token they could
//! refuse has expired. The set is bounded, and when it is full a revocation is refused aloud:
//! dropping an old one would quietly let somebody back in.

use std::collections::HashMap;

use parking_lot::RwLock;
use pulsewire_hub::principal::Principal;

/// The most entries of each kind.
pub const REVOCATIONS_MAX: usize = 100_000;

/// The set of revocations has no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{} revocations are kept already; change the signing key to end every token", REVOCATIONS_MAX)]
pub struct Full;

/// What is refused, and how long; Unix milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Tokens issued before this time are refused; everything for a token's id.
    pub before_ms: i64,
    /// When the entry can refuse nothing any more.
    pub until_ms: i64,
}

/// Whose tokens, or which token.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Revoked {
    /// Those of a user.
    Subject(Box<str>),
    /// The one with this id.
    Token(Box<str>),
}

/// What was revoked.
#[derive(Debug, Default)]
pub struct Revocations {
    subjects: RwLock<HashMap<Box<str>, Entry>>,
    tokens: RwLock<HashMap<Box<str>, Entry>>,
}

impl Revocations {
    /// Refuses every token of `sub` that was issued before `before_ms`.
    ///
    /// `until_ms` is when the longest-lived of those tokens has expired.
    ///
    /// # Errors
    ///
    /// [`Full`] when there is no room; nothing is revoked then.
    pub fn revoke_subject(&self, sub: &str, before_ms: i64, until_ms: i64, now_ms: i64) -> Result<(), Full> {
        insert(&self.subjects, sub, Entry { before_ms, until_ms }, now_ms)
    }

    /// Refuses the token with the id `token_id`, which expires at `until_ms`.
    ///
    /// # Errors
    ///
    /// [`Full`] when there is no room; nothing is revoked then.
    pub fn revoke_token(&self, token_id: &str, until_ms: i64, now_ms: i64) -> Result<(), Full> {
        insert(&self.tokens, token_id, Entry { before_ms: i64::MAX, until_ms }, now_ms)
    }

    /// What is refused of somebody now.
    #[must_use]
    pub fn entry(&self, revoked: &Revoked) -> Option<Entry> {
        let (set, name) = self.place(revoked);
        set.read().get(name).copied()
    }

    /// Everything that is kept.
    #[must_use]
    pub fn all(&self) -> Vec<(Revoked, Entry)> {
        let subjects = self.subjects.read();
        let mut all: Vec<_> =
            subjects.iter().map(|(name, entry)| (Revoked::Subject(name.clone()), *entry)).collect();
        drop(subjects);
        all.extend(self.tokens.read().iter().map(|(name, entry)| (Revoked::Token(name.clone()), *entry)));
        all
    }

    /// Forgets an entry that can refuse nothing any more. Says whether there is none now.
    pub fn forget(&self, revoked: &Revoked, now_ms: i64) -> bool {
        let (set, name) = self.place(revoked);
        let mut set = set.write();
        if set.get(name).is_some_and(|entry| entry.until_ms > now_ms) {
            return false;
        }
        set.remove(name);
        true
    }

    fn place<'s, 'n>(&'s self, revoked: &'n Revoked) -> (&'s RwLock<HashMap<Box<str>, Entry>>, &'n str) {
        match revoked {
            Revoked::Subject(name) => (&self.subjects, name),
            Revoked::Token(name) => (&self.tokens, name),
        }
    }

    /// Whether a principal's token was revoked. One that does not say when it was issued counts as old.
    #[must_use]
    pub fn is_revoked(&self, principal: &Principal) -> bool {
        let issued_at_ms = principal.issued_at_ms.unwrap_or(i64::MIN);
        let subjects = self.subjects.read();
        if subjects.get(&principal.sub).is_some_and(|entry| issued_at_ms < entry.before_ms) {
            return true;
        }
        drop(subjects);
        principal.token_id.as_ref().is_some_and(|id| self.tokens.read().contains_key(id))
    }
}

fn insert(set: &RwLock<HashMap<Box<str>, Entry>>, name: &str, entry: Entry, now_ms: i64) -> Result<(), Full> {
    let mut set = set.write();
    if let Some(known) = set.get_mut(name) {
        known.before_ms = known.before_ms.max(entry.before_ms);
        known.until_ms = known.until_ms.max(entry.until_ms);
        return Ok(());
    }
    if set.len() >= REVOCATIONS_MAX {
        set.retain(|_, known| known.until_ms > now_ms);
    }
    if set.len() >= REVOCATIONS_MAX {
        return Err(Full);
    }
    set.insert(name.into(), entry);
    Ok(())
}

#[cfg(test)]
mod tests {
    use pulsewire_hub::principal::{NamedBy, Role, Shown};

    use super::*;

    fn token(sub: &str, issued_at_ms: Option<i64>, id: Option<&str>) -> Principal {
        let grants = Default::default();
        let (sub, token_id) = (sub.into(), id.map(Into::into));
        let (named_by, role, shown) = (NamedBy::Token, Role::User, Shown::Credential);
        Principal { sub, named_by, role, grants, expires_at_ms: Some(10_000), issued_at_ms, token_id, shown }
    }

    /// Row A11, at the level of tokens.
    #[test]
    fn a_revoked_user_keeps_only_tokens_made_afterwards() {
        let set = Revocations::default();
        set.revoke_subject("ann", 5_000, 10_000, 5_000).unwrap();
        assert!(set.is_revoked(&token("ann", Some(4_999), None)));
        assert!(set.is_revoked(&token("ann", None, None)));
        assert!(!set.is_revoked(&token("ann", Some(5_000), None)));
        assert!(!set.is_revoked(&token("bob", Some(1), None)));
    }

    #[test]
    fn one_token_can_be_revoked_by_its_id() {
        let set = Revocations::default();
        set.revoke_token("t1", 10_000, 0).unwrap();
        assert!(set.is_revoked(&token("ann", Some(1), Some("t1"))));
        assert!(!set.is_revoked(&token("ann", Some(1), Some("t2"))));
    }

    #[test]
    fn only_what_can_refuse_nothing_any_more_is_forgotten() {
        let set = Revocations::default();
        set.revoke_subject("ann", 5_000, 10_000, 0).unwrap();
        let ann = Revoked::Subject("ann".into());
        assert!(!set.forget(&ann, 9_999) && set.entry(&ann).is_some());
        assert_eq!(set.all(), [(ann.clone(), Entry { before_ms: 5_000, until_ms: 10_000 })]);
        assert!(set.forget(&ann, 10_000) && set.entry(&ann).is_none());
        assert!(set.forget(&Revoked::Token("t".into()), 0), "what is not there is not there");
    }

    #[test]
    fn a_later_revocation_never_shortens_an_earlier_one() {
        let set = Revocations::default();
        set.revoke_subject("ann", 5_000, 10_000, 0).unwrap();
        set.revoke_subject("ann", 3_000, 4_000, 0).unwrap();
        assert!(set.is_revoked(&token("ann", Some(4_000), None)));
    }

    #[test]
    fn a_full_set_refuses_new_entries_and_keeps_the_old() {
        let set = Revocations::default();
        for number in 0..REVOCATIONS_MAX {
            set.revoke_token(&number.to_string(), 10_000, 0).unwrap();
        }
        assert_eq!(set.revoke_token("one more", 10_000, 9_999), Err(Full));
        assert!(set.is_revoked(&token("ann", None, Some("0"))));
        assert_eq!(set.revoke_token("one more", 20_000, 10_000), Ok(()));
    }
}
