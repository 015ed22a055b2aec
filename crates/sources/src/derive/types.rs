//! What the types of events mean.

use std::collections::HashMap;

/// What an event of some type is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Meaning {
    /// A task was made or given to somebody, and waits.
    TaskPending,
    /// A task began or goes on.
    TaskRunning,
    /// A workflow's execution, a task, ended well.
    TaskCompleted,
    /// It ended badly.
    TaskFailed,
    /// An agent was called; the payload says how it ended.
    AgentCall,
    /// A call of an agent ended well.
    AgentCallCompleted,
    /// It ended badly.
    AgentCallFailed,
    /// An agent met an error.
    AgentError,
}

/// Which types of events mean something, and what.
#[derive(Debug, Clone)]
pub struct Types(HashMap<Box<str>, Meaning>);

impl Types {
    /// Of a type that is given more than one meaning, the first counts.
    pub fn new<'t>(types: impl IntoIterator<Item = (Meaning, &'t str)>) -> Self {
        let mut known = HashMap::new();
        for (meaning, event_type) in types {
            known.entry(event_type.into()).or_insert(meaning);
        }
        Self(known)
    }

    /// What an event of this type is about; `None` for most. Costs one look-up.
    #[must_use]
    pub fn meaning(&self, event_type: &str) -> Option<Meaning> {
        self.0.get(event_type).copied()
    }
}
