//! What new settings change in a running server.
//!
//! Every key is one of two: a running server takes the new value, or it keeps the old one until it is
//! restarted. What keeps its old value keeps it everywhere, so that no part of the server works under
//! the new value while another still has the old one.

use std::collections::BTreeSet;

use super::{Settings, checks, keys, problem::Problem, sources::Sources};

/// The path under which the namespaces are named together.
const NAMESPACES: &str = "namespace";
/// The path under which the upstreams are named together.
const UPSTREAMS: &str = "upstream";

/// A key whose value a reload would change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// The key, such as `limits.messages_per_minute`; `namespace` for the namespaces together, `upstream` for the upstreams.
    pub path: &'static str,
    /// Whether the running server takes the new value; otherwise it needs a restart.
    pub reloadable: bool,
}

/// The keys that differ between two settings, in the order of the documentation.
#[must_use]
pub fn diff(old: &Settings, new: &Settings) -> Vec<Change> {
    let changed = keys().filter(|key| !(key.same)(old, new));
    let mut changes: Vec<_> =
        changed.map(|key| Change { path: key.path, reloadable: key.reloadable }).collect();
    if old.namespaces != new.namespaces {
        changes.push(Change { path: NAMESPACES, reloadable: false });
    }
    if old.upstreams != new.upstreams {
        changes.push(Change { path: UPSTREAMS, reloadable: true });
    }
    changes
}

impl Settings {
    /// These settings, with the values of `running` where only a restart could change them.
    ///
    /// # Errors
    ///
    /// When the new values do not go together with the old ones that stay, such as a channel in a new
    /// namespace: then nothing may be changed.
    pub fn for_running(mut self, running: &Self, sources: &Sources) -> Result<Self, Vec<Problem>> {
        let kept: Vec<_> = diff(running, &self).into_iter().filter(|change| !change.reloadable).collect();
        for key in keys().filter(|key| kept.iter().any(|change| change.path == key.path)) {
            (key.keep)(&mut self, running);
            self.keep_origin(key.path, running);
        }
        if kept.iter().any(|change| change.path == NAMESPACES) {
            self.namespaces.clone_from(&running.namespaces);
            self.provenance.retain(|path, _| !path.starts_with("namespace."));
            let origins = running.provenance.iter().filter(|(path, _)| path.starts_with("namespace."));
            self.provenance.extend(origins.map(|(path, origin)| (path.clone(), origin.clone())));
        }
        let problems = checks::check(&self, &BTreeSet::new(), sources);
        if problems.is_empty() { Ok(self) } else { Err(problems) }
    }

    fn keep_origin(&mut self, path: &str, running: &Self) {
        match running.provenance.get(path) {
            Some(origin) => self.provenance.insert(path.to_owned(), origin.clone()),
            None => self.provenance.remove(path),
        };
    }
}
