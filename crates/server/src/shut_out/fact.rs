//! What an operator decided about somebody, and what a node makes of hearing it.
//!
//! Sans I/O. A revocation only ever grows: what is heard later or twice takes nothing back, and whoever knows more
//! than what was kept last says so again. A blocked address has one moment, and the last word counts.

use std::net::IpAddr;

use pulsewire_hub::Target;
use serde::{Deserialize, Serialize};

use crate::auth::Revocations;
use crate::auth::revocation::{Full, Revoked};
use crate::blocks::{self, Blocks};

/// The longest name that stands in a key as it is, bytes; of a longer one a digest does.
const NAME_BYTES_MAX: usize = 100;

/// Somebody is shut out. Moments are Unix milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Fact {
    /// Tokens of a user that were issued before a moment.
    User {
        /// The user.
        name: Box<str>,
        /// The moment.
        before_ms: i64,
        /// When the last of them has expired.
        until_ms: i64,
    },
    /// One token.
    Token {
        /// Its `jti`.
        name: Box<str>,
        /// When it has expired.
        until_ms: i64,
    },
    /// An address.
    Address {
        /// The address.
        address: IpAddr,
        /// When it is let in again.
        until_ms: i64,
    },
}

/// What hearing a fact changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Learned {
    /// Whether somebody may not come in any more who could before.
    pub news: bool,
    /// What is known of the same, if that is more than the fact says: it is to be kept in its place.
    pub more: Option<Fact>,
}

/// There is no room for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoRoom {
    /// For revocations.
    #[error(transparent)]
    Revocations(#[from] Full),
    /// For addresses.
    #[error(transparent)]
    Addresses(#[from] blocks::Full),
}

/// Where facts are looked up by whoever lets somebody in.
#[derive(Clone, Copy)]
pub struct Sets<'a> {
    /// Users and tokens.
    pub revocations: &'a Revocations,
    /// Addresses.
    pub blocks: &'a Blocks,
}

impl Fact {
    /// The key under which it is kept: the newest fact of a key counts.
    #[must_use]
    pub fn key(&self) -> String {
        match self {
            Self::User { name, .. } => named('u', name),
            Self::Token { name, .. } => named('t', name),
            Self::Address { address, .. } => format!("a:{address}"),
        }
    }

    /// Whose connections end.
    #[must_use]
    pub fn target(&self) -> Target {
        match self {
            Self::User { name, .. } => Target::User(name.clone()),
            Self::Token { name, .. } => Target::Token(name.clone()),
            Self::Address { address, .. } => Target::Address(*address),
        }
    }

    /// When it means nothing any more.
    #[must_use]
    pub fn until_ms(&self) -> i64 {
        match self {
            Self::User { until_ms, .. } | Self::Token { until_ms, .. } | Self::Address { until_ms, .. } => {
                *until_ms
            }
        }
    }
}

fn named(kind: char, name: &str) -> String {
    use sha2::Digest as _;
    if name.len() <= NAME_BYTES_MAX {
        return format!("{kind}:{name}");
    }
    let digest = sha2::Sha256::digest(name.as_bytes());
    let digest: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("{kind}#{digest}")
}

impl Sets<'_> {
    /// Takes a fact in.
    ///
    /// # Errors
    ///
    /// [`NoRoom`]; nothing is changed then.
    pub fn learn(self, fact: &Fact, now_ms: i64) -> Result<Learned, NoRoom> {
        let before = self.known(fact);
        match fact {
            Fact::User { name, before_ms, until_ms } => {
                self.revocations.revoke_subject(name, *before_ms, *until_ms, now_ms)?;
            }
            Fact::Token { name, until_ms } => self.revocations.revoke_token(name, *until_ms, now_ms)?,
            Fact::Address { address, until_ms } => self.blocks.block(*address, *until_ms, now_ms)?,
        }
        let more = self.known(fact).filter(|known| known != fact);
        let news = match (&before, fact) {
            (Some(Fact::User { before_ms: known_ms, .. }), Fact::User { before_ms, .. }) => {
                before_ms > known_ms
            }
            (Some(Fact::Token { .. }), _) => false,
            (Some(Fact::Address { until_ms: known_ms, .. }), Fact::Address { until_ms, .. }) => {
                until_ms != known_ms
            }
            _ => true,
        };
        Ok(Learned { news, more })
    }

    /// What is known of whom a fact is about.
    fn known(self, fact: &Fact) -> Option<Fact> {
        match fact {
            Fact::User { name, .. } => {
                let entry = self.revocations.entry(&Revoked::Subject(name.clone()))?;
                Some(Fact::User { name: name.clone(), before_ms: entry.before_ms, until_ms: entry.until_ms })
            }
            Fact::Token { name, .. } => {
                let entry = self.revocations.entry(&Revoked::Token(name.clone()))?;
                Some(Fact::Token { name: name.clone(), until_ms: entry.until_ms })
            }
            Fact::Address { address, .. } => {
                Some(Fact::Address { address: *address, until_ms: self.blocks.until(*address)? })
            }
        }
    }

    /// Everybody who is shut out, those included whose time is over and who are not forgotten yet.
    #[must_use]
    pub fn all(self) -> Vec<Fact> {
        let revoked = self.revocations.all().into_iter().map(|(revoked, entry)| match revoked {
            Revoked::Subject(name) => {
                Fact::User { name, before_ms: entry.before_ms, until_ms: entry.until_ms }
            }
            Revoked::Token(name) => Fact::Token { name, until_ms: entry.until_ms },
        });
        let blocked = self.blocks.all().into_iter();
        revoked.chain(blocked.map(|(address, until_ms)| Fact::Address { address, until_ms })).collect()
    }

    /// Forgets what was kept under a key, if its time is over; gives it back if it is not.
    pub fn forget(self, key: &str, now_ms: i64) -> Option<Fact> {
        let (kind, name) = key.split_once(':')?;
        let revoked = match kind {
            "u" => Revoked::Subject(name.into()),
            "t" => Revoked::Token(name.into()),
            _ => {
                let address: IpAddr = name.parse().ok()?;
                let until_ms = self.blocks.until(address)?;
                if until_ms > now_ms {
                    return Some(Fact::Address { address, until_ms });
                }
                self.blocks.unblock(address);
                return None;
            }
        };
        if self.revocations.forget(&revoked, now_ms) {
            return None;
        }
        let entry = self.revocations.entry(&revoked)?;
        Some(match revoked {
            Revoked::Subject(name) => {
                Fact::User { name, before_ms: entry.before_ms, until_ms: entry.until_ms }
            }
            Revoked::Token(name) => Fact::Token { name, until_ms: entry.until_ms },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(before_ms: i64, until_ms: i64) -> Fact {
        Fact::User { name: "ann".into(), before_ms, until_ms }
    }

    fn address(until_ms: i64) -> Fact {
        Fact::Address { address: "::1".parse().unwrap(), until_ms }
    }

    #[test]
    fn nodes_that_hear_revocations_in_any_order_know_the_same_in_the_end() {
        let (early, late) = (user(1_000, 9_000), user(2_000, 5_000));
        let both = user(2_000, 9_000);
        for (first, then, news) in [(&early, &late, true), (&late, &early, false)] {
            let (revocations, blocks) = (Revocations::default(), Blocks::default());
            let sets = Sets { revocations: &revocations, blocks: &blocks };
            assert_eq!(sets.learn(first, 0), Ok(Learned { news: true, more: None }));
            let learned = Learned { news, more: Some(both.clone()) };
            assert_eq!(sets.learn(then, 0), Ok(learned), "what was known before and what is heard");
            assert_eq!(sets.learn(&both, 0), Ok(Learned { news: false, more: None }));
            assert_eq!(sets.all(), std::slice::from_ref(&both));
        }
    }

    #[test]
    fn the_last_word_about_an_address_counts() {
        let (revocations, blocks) = (Revocations::default(), Blocks::default());
        let sets = Sets { revocations: &revocations, blocks: &blocks };
        assert_eq!(sets.learn(&address(9_000), 0), Ok(Learned { news: true, more: None }));
        assert_eq!(sets.learn(&address(5_000), 0), Ok(Learned { news: true, more: None }));
        assert_eq!(sets.learn(&address(5_000), 0), Ok(Learned { news: false, more: None }));
        assert_eq!(sets.all(), [address(5_000)]);
    }

    #[test]
    fn only_what_is_over_is_forgotten() {
        let (revocations, blocks) = (Revocations::default(), Blocks::default());
        let sets = Sets { revocations: &revocations, blocks: &blocks };
        for fact in [user(1_000, 9_000), address(9_000), Fact::Token { name: "t".into(), until_ms: 9_000 }] {
            sets.learn(&fact, 0).unwrap();
            assert_eq!(sets.forget(&fact.key(), 8_999), Some(fact.clone()));
            assert_eq!(sets.forget(&fact.key(), 9_000), None);
        }
        assert_eq!(sets.all(), []);
        assert_eq!(sets.forget("x", 0), None);
    }

    #[test]
    fn every_name_has_a_key_that_fits() {
        let key = |name: &str| Fact::Token { name: name.into(), until_ms: 0 }.key();
        let long = "x".repeat(NAME_BYTES_MAX + 1);
        assert_eq!(key("a:b"), "t:a:b");
        assert!(key(&long).len() < pulsewire_protocol::Event::KEY_BYTES_MAX && key(&long).starts_with("t#"));
        assert_ne!(key(&long), key(&"x".repeat(NAME_BYTES_MAX + 2)));
        const { assert!(NAME_BYTES_MAX + 2 <= pulsewire_protocol::Event::KEY_BYTES_MAX) }
    }
}
