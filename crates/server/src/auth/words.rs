//! The words for roles and actions in tokens, settings and on the command line.

use pulsewire_hub::principal::{Action, Actions, Role};

const ROLES: [(Role, &str); 5] = [
    (Role::Admin, "admin"),
    (Role::Operator, "operator"),
    (Role::Viewer, "viewer"),
    (Role::Publisher, "publisher"),
    (Role::User, "user"),
];

const ACTIONS: [(Action, &str); 4] = [
    (Action::Publish, "publish"),
    (Action::Subscribe, "subscribe"),
    (Action::History, "history"),
    (Action::Presence, "presence"),
];

/// Every action that only reads.
pub const READ: Actions = Actions::NONE.with(Action::Subscribe).with(Action::History).with(Action::Presence);

/// A word that names no action.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not an action; actions are publish, subscribe, history and presence", .0.escape_debug())]
pub struct UnknownAction(pub String);

/// The role a word names.
#[must_use]
pub fn role_from_word(word: &str) -> Option<Role> {
    ROLES.iter().find(|(_, name)| *name == word).map(|(role, _)| *role)
}

/// The words for all roles, for a person: `admin, operator, viewer, publisher or user`.
#[must_use]
pub fn words_of_roles() -> String {
    let words = ROLES.map(|(_, word)| word);
    let (last, others) = words.split_last().expect("there are roles");
    format!("{} or {last}", others.join(", "))
}

/// The word for a role.
#[must_use]
pub fn word_of_role(role: Role) -> &'static str {
    ROLES.iter().find(|(known, _)| *known == role).map_or("user", |(_, word)| word)
}

/// The set of the named actions; `*` names all.
///
/// # Errors
///
/// [`UnknownAction`] with the first word that names none.
pub fn actions_from_words<'a>(words: impl IntoIterator<Item = &'a str>) -> Result<Actions, UnknownAction> {
    words.into_iter().try_fold(Actions::NONE, |set, word| match word.trim() {
        "*" => Ok(Actions::ALL),
        word => {
            let action = ACTIONS.iter().find(|(_, name)| *name == word);
            action.map(|(action, _)| set.with(*action)).ok_or_else(|| UnknownAction(word.to_owned()))
        }
    })
}

/// The words for a set of actions.
#[must_use]
pub fn words_of_actions(actions: Actions) -> Vec<&'static str> {
    ACTIONS.iter().filter(|(action, _)| actions.contains(*action)).map(|(_, word)| *word).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_sets_of_actions_say_the_same() {
        assert_eq!(words_of_actions(READ), ["subscribe", "history", "presence"]);
        assert_eq!(actions_from_words(["subscribe", "history", "presence"]), Ok(READ));
        assert_eq!(actions_from_words(["*"]), Ok(Actions::ALL));
        assert_eq!(actions_from_words(["subscribe", "write"]), Err(UnknownAction("write".into())));
    }

    #[test]
    fn every_role_has_its_word() {
        for (role, word) in ROLES {
            assert_eq!((role_from_word(word), word_of_role(role)), (Some(role), word));
        }
        assert_eq!(role_from_word("root"), None);
    }
}
