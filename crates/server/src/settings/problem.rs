//! What is wrong with the settings, and where a value comes from.

use std::{fmt, path::PathBuf};

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The declared default.
    Default,
    /// `--dev`, which relaxes some defaults.
    Dev,
    /// A line of the settings file.
    File {
        /// The file as it was named.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// A variable of the environment.
    Environment(String),
    /// A flag of the command line.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Dev => f.write_str("--dev"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Environment(name) => write!(f, "env {name}"),
            Self::Flag(flag) => f.write_str(flag),
        }
    }
}

/// One thing that keeps the server from starting: where it is, what it is and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where the value stands; `None` when nothing was set.
    pub origin: Option<Origin>,
    /// The key it is about, if it is about one.
    pub key: Option<String>,
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub help: Option<String>,
}

impl Problem {
    /// A problem with a value that stands somewhere.
    #[must_use]
    pub fn at(origin: Origin, what: impl Into<String>) -> Self {
        Self { origin: Some(origin), key: None, what: what.into(), help: None }
    }

    /// The same, about a key.
    #[must_use]
    pub fn about(mut self, key: &str) -> Self {
        self.key = Some(key.to_owned());
        self
    }

    /// The same, with the next step.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            None | Some(Origin::Default) => {}
            Some(origin) => write!(f, "{origin}: ")?,
        }
        f.write_str(&self.what)?;
        match &self.help {
            Some(help) => write!(f, "\n    {help}"),
            None => Ok(()),
        }
    }
}

/// The known name nearest to a mistyped one; `None` when none is near.
pub(super) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let scored = known.map(|candidate| (strsim::jaro_winkler(name, candidate), candidate));
    let best = scored.max_by(|one, two| one.0.total_cmp(&two.0))?;
    (best.0 >= 0.75).then_some(best.1)
}
