//! Sources that are not this machine's: a settings file, variables and flags in memory.

use std::{collections::HashMap, io, path::Path};

use pulsewire::settings::{Flags, Problem, Secret, Settings, Sources};

/// A signing key like those of production.
pub(crate) const SECRET: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

/// Sources in memory.
#[derive(Default, Clone)]
pub(crate) struct World {
    files: HashMap<String, String>,
    environment: Vec<(String, String)>,
    flags: Flags,
}

impl World {
    /// With a proper signing key in the environment, which may be removed.
    pub(crate) fn new() -> Self {
        Self::empty().env("JWT_SECRET_KEY", SECRET)
    }

    /// With nothing.
    pub(crate) fn empty() -> Self {
        Self::default()
    }

    pub(crate) fn toml(self, text: &str) -> Self {
        self.file("pulsewire.toml", text)
    }

    pub(crate) fn file(mut self, path: &str, text: &str) -> Self {
        self.files.insert(path.to_owned(), text.to_owned());
        self
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn set(mut self, set: &str) -> Self {
        self.flags.set.push(set.to_owned());
        self
    }

    pub(crate) fn flags(mut self, change: impl FnOnce(&mut Flags)) -> Self {
        change(&mut self.flags);
        self
    }

    pub(crate) fn dev(self) -> Self {
        self.flags(|flags| flags.dev = true)
    }

    pub(crate) fn sources(&self) -> Sources {
        let files = self.files.clone();
        let missing = || io::Error::new(io::ErrorKind::NotFound, "no such file");
        Sources {
            flags: self.flags.clone(),
            environment: self.environment.clone(),
            dev_secret: self.flags.dev.then(|| Secret::random().unwrap()),
            read: Box::new(move |path: &Path| {
                files.get(&path.display().to_string()).cloned().ok_or_else(missing)
            }),
        }
    }

    pub(crate) fn load(&self) -> Result<Settings, Vec<Problem>> {
        Settings::load(&self.sources())
    }

    /// The problems as they are printed, one after the other.
    pub(crate) fn problems(&self) -> Vec<String> {
        self.load().err().unwrap_or_default().iter().map(ToString::to_string).collect()
    }

    /// The settings, where none is wrong.
    pub(crate) fn settings(&self) -> Settings {
        self.load().unwrap_or_else(|problems| panic!("{problems:?}"))
    }
}
