//! Where settings come from: a file, the environment and flags.
//!
//! The sources are gathered once and kept, so that a reload reads the same places again.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use super::secret::Secret;

/// The file that is read when none is named, if it exists.
pub const DEFAULT_FILE: &str = "pulsewire.toml";

/// Settings given on the command line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flags {
    /// `-c FILE`: this file must exist.
    pub config: Option<PathBuf>,
    /// `--listen ADDR`.
    pub listen: Option<String>,
    /// `--data DIR`.
    pub data: Option<String>,
    /// `--ui-dir DIR`.
    pub ui_dir: Option<String>,
    /// `--set key=value`, in order; the last one of a key wins.
    pub set: Vec<String>,
    /// `--dev`.
    pub dev: bool,
}

type Reader = Box<dyn Fn(&Path) -> io::Result<String> + Send + Sync>;

/// Everything that [`Settings::load`](super::Settings::load) reads.
pub struct Sources {
    /// The command line.
    pub flags: Flags,
    /// The environment; other programs' variables are ignored.
    pub environment: Vec<(String, String)>,
    /// The signing key that `--dev` uses when none is set: one per process.
    pub dev_secret: Option<Secret>,
    /// Reads the settings file and the files that secrets are in.
    pub read: Reader,
}

impl Sources {
    /// The flags together with this process's environment and file system.
    ///
    /// # Errors
    ///
    /// With `--dev`, when the system has no randomness for a key.
    pub fn of_process(flags: Flags) -> io::Result<Self> {
        let dev_secret = flags.dev.then(Secret::random).transpose()?;
        Ok(Self { dev_secret, ..Self::without_own_key(flags) })
    }

    /// The same, with no key for `--dev`: for commands beside the server, which cannot know its key.
    #[must_use]
    pub fn without_own_key(flags: Flags) -> Self {
        let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
        Self {
            flags,
            environment: std::env::vars_os().map(|(name, value)| (text(name), text(value))).collect(),
            dev_secret: None,
            read: Box::new(|path| std::fs::read_to_string(path)),
        }
    }
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources").field("flags", &self.flags).finish_non_exhaustive()
    }
}
