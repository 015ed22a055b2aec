//! Who somebody is and what they may do.
//!
//! There is one question, [`Principal::may`], in front of every path that reads or writes a channel.
//! Tokens are turned into principals by the server; nothing here trusts a claim on its own.

use std::sync::Arc;

pub use pulsewire_bus::NamedBy;
use pulsewire_protocol::{ChannelName, ChannelPattern};

/// What somebody may want to do with a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Say something in it.
    Publish,
    /// Hear what is said from now on.
    Subscribe,
    /// Read what was said before.
    History,
    /// See and be seen.
    Presence,
}

/// A set of actions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Actions(u8);

impl Actions {
    /// No action.
    pub const NONE: Self = Self(0);
    /// Every action.
    pub const ALL: Self = Self(0b1111);

    /// This set and one action more.
    #[must_use]
    pub const fn with(self, action: Action) -> Self {
        Self(self.0 | 1 << action as u8)
    }

    /// Whether the action is in the set.
    #[must_use]
    pub const fn contains(self, action: Action) -> bool {
        self.0 & (1 << action as u8) != 0
    }
}

/// Actions granted on the channels that a pattern matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Which channels.
    pub pattern: ChannelPattern,
    /// Which actions.
    pub actions: Actions,
}

/// What kind of party a principal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Role {
    /// A person's client.
    #[default]
    User,
    /// An application's back end.
    Publisher,
    /// Looks on: reads `$sys.*` and the admin endpoints, and changes nothing.
    Viewer,
    /// A viewer who acts, too: ends connections, takes tokens back, sees payloads in a tap.
    Operator,
    /// An operator who also publishes where the grants say.
    Admin,
}

impl Role {
    /// Whether it reads `$sys.*` and the admin endpoints.
    #[must_use]
    pub const fn views(self) -> bool {
        matches!(self, Self::Viewer | Self::Operator | Self::Admin)
    }

    /// Whether it changes something through the admin endpoints, and sees payloads in a tap.
    #[must_use]
    pub const fn operates(self) -> bool {
        matches!(self, Self::Operator | Self::Admin)
    }

    /// Whether grants let it publish at all. A user's do, if they say so.
    #[must_use]
    pub const fn may_publish(self) -> bool {
        !matches!(self, Self::Viewer | Self::Operator)
    }

    /// Whether it stands for an application: it may publish wherever it may subscribe, unless its grants say otherwise.
    #[must_use]
    pub const fn is_application(self) -> bool {
        matches!(self, Self::Publisher | Self::Admin)
    }
}

/// What somebody showed to be let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Shown {
    /// A token, an API key or nothing, as is said elsewhere.
    #[default]
    Credential,
    /// A ticket, which is not exchanged for another: so none is good for longer than its time after a token was verified.
    Ticket,
}

/// An authenticated party, or an anonymous one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// The subject: a user id, at most 256 bytes; empty for the anonymous.
    pub sub: Box<str>,
    /// What vouches for the subject.
    pub named_by: NamedBy,
    /// What kind of party it is.
    pub role: Role,
    /// What it may do where; shared by principals with the same grants.
    pub grants: Arc<[Grant]>,
    /// When its token ends, Unix milliseconds.
    pub expires_at_ms: Option<i64>,
    /// When its token was made, Unix milliseconds.
    pub issued_at_ms: Option<i64>,
    /// Its token's id, for revocation.
    pub token_id: Option<Box<str>>,
    /// What it showed.
    pub shown: Shown,
}

/// Every session has one.
const _: () = assert!(size_of::<Principal>() <= 88);

impl Principal {
    /// Someone without a token, who may do only what the grants say.
    #[must_use]
    pub fn anonymous(grants: Arc<[Grant]>) -> Self {
        Self {
            sub: "".into(),
            named_by: NamedBy::Nobody,
            role: Role::User,
            grants,
            expires_at_ms: None,
            issued_at_ms: None,
            token_id: None,
            shown: Shown::Credential,
        }
    }

    /// Whether this is someone without a token.
    #[must_use]
    pub fn is_anonymous(&self) -> bool {
        self.sub.is_empty()
    }

    /// Whether the principal may do this with the channel.
    ///
    /// `$sys.*` channels are for those who look on or operate to read, and for nobody to publish to; no grant says
    /// otherwise. A tap that shows payloads is for operators. What else begins with `$` is between the nodes: nobody
    /// reads it.
    #[must_use]
    pub fn may(&self, action: Action, channel: &ChannelName) -> bool {
        if channel.is_system() {
            if !channel.as_str().starts_with("$sys.") {
                return false;
            }
            let reads = if shows_payloads(channel) { self.role.operates() } else { self.role.views() };
            return reads && action != Action::Publish;
        }
        if action == Action::Publish && !self.role.may_publish() {
            return false;
        }
        self.grants.iter().any(|grant| grant.actions.contains(action) && grant.pattern.matches(channel))
    }
}

/// Whether a system channel shows what applications say: `$sys.tap:SESSION/payload`.
#[must_use]
pub fn shows_payloads(channel: &ChannelName) -> bool {
    channel.as_str().strip_prefix("$sys.tap:").is_some_and(|tapped| tapped.contains('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn principal(role: Role, pattern: &str, actions: Actions) -> Principal {
        let pattern = ChannelPattern::parse(pattern).expect("a pattern");
        Principal { role, ..Principal::anonymous([Grant { pattern, actions }].into()) }
    }

    fn check(who: &Principal, action: Action, channel: &str, expected: bool) {
        let name = ChannelName::parse(channel).expect("a name");
        assert_eq!(who.may(action, &name), expected, "{action:?} {channel}");
    }

    #[test]
    fn a_grant_covers_its_actions_on_its_channels_only() {
        let who = principal(Role::User, "run:*", Actions::NONE.with(Action::Subscribe));
        check(&who, Action::Subscribe, "run:1", true);
        check(&who, Action::Publish, "run:1", false);
        check(&who, Action::History, "run:1", false);
        check(&who, Action::Subscribe, "project:1", false);
    }

    /// User, publisher, viewer, operator, admin.
    fn check_roles(action: Action, channel: &str, expected: [bool; 5]) {
        let roles = [Role::User, Role::Publisher, Role::Viewer, Role::Operator, Role::Admin];
        for (role, expected) in roles.into_iter().zip(expected) {
            check(&principal(role, "*", Actions::ALL), action, channel, expected);
        }
    }

    #[test]
    fn system_channels_are_read_by_those_who_look_on_and_written_by_nobody() {
        check_roles(Action::Subscribe, "$sys.connections", [false, false, true, true, true]);
        check_roles(Action::Publish, "$sys.connections", [false; 5]);
        check_roles(Action::Subscribe, "$cluster.control", [false; 5]);
        check_roles(Action::Publish, "$cluster.control", [false; 5]);
    }

    #[test]
    fn payloads_of_a_tap_are_for_operators() {
        check_roles(Action::Subscribe, "$sys.tap:01J", [false, false, true, true, true]);
        check_roles(Action::Subscribe, "$sys.tap:01J/payload", [false, false, false, true, true]);
    }

    #[test]
    fn who_looks_on_or_operates_publishes_nowhere() {
        check_roles(Action::Publish, "run:1", [true, true, false, false, true]);
        check_roles(Action::Subscribe, "run:1", [true; 5]);
    }
}
