//! Upstreams that the admin API declared, kept over a restart.
//!
//! One JSON file in the data folder holds them all; it is written whole, beside the old one, and takes its place when it
//! is on disk, so that a crash leaves the old or the new one. They are kept as they were asked for, with the keys of
//! `[[upstream]]`, and read again under the settings of the day: what those forbid by then is an error at the start, as
//! it would be in the settings file, because a server without a feed that somebody asked for is not what was asked for.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use pulsewire_sources::upstream::Upstream;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::settings::{Settings, upstream};

/// Declarations at most.
pub const DECLARED_MAX: usize = 1_000;
/// The size of the file at most, in bytes: 8 KiB for each declaration.
pub const FILE_BYTES_MAX: usize = 8 << 20;
/// The file.
const FILE: &str = "upstreams.json";
/// What a new one is called until it is whole.
const PART: &str = "upstreams.json.part";

/// Why declarations cannot be read or kept.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read as what it should be.
    #[error("`{}` cannot be used: {why}; mend it, or move it away to start without what was declared by the admin API", path.display())]
    Broken {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// There are as many as there may be.
    #[error("{DECLARED_MAX} upstreams are declared by the admin API; take one back first")]
    Full,
    /// The file would be too large.
    #[error(
        "the declarations would take more than {FILE_BYTES_MAX} bytes; take one back first, or make this one shorter"
    )]
    TooLarge,
    /// The disk does not take or give it.
    #[error("`{}` cannot be read or written: {source}", path.display())]
    Disk {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// What the API declared, by name.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    kept: Kept,
}

/// The file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    upstreams: BTreeMap<String, Map<String, Value>>,
}

impl Store {
    /// Reads what was declared before the server stopped; a file that is not there holds nothing. What the settings
    /// declare by now is theirs and left out of what is returned; it stays in the file and counts again when the
    /// settings let go of it.
    ///
    /// Waits for the disk.
    ///
    /// # Errors
    ///
    /// [`Error::Broken`] and [`Error::Disk`]; the server should not start then.
    pub fn open(settings: &Settings) -> Result<(Self, Vec<Upstream>), Error> {
        let folder = settings.server.data_dir.clone();
        let kept = read(&folder.join(FILE))?;
        let store = Self { folder, kept };
        let upstreams = store.upstreams(settings)?;
        Ok((store, upstreams))
    }

    /// What was declared, read under these settings, without what they declare themselves.
    ///
    /// # Errors
    ///
    /// [`Error::Broken`] if these settings do not allow one of them.
    pub fn upstreams(&self, settings: &Settings) -> Result<Vec<Upstream>, Error> {
        let theirs = |name: &str| settings.upstreams.iter().any(|declared| declared.name() == name);
        let own = self.kept.upstreams.iter().filter(|(name, _)| !theirs(name));
        let read = own.map(|(name, given)| {
            upstream::of_json(name, given, settings).map_err(|problems| {
                let problems = problems.iter().map(|problem| problem.to_string().replace("\n    ", "; "));
                self.broken(format!("upstream `{name}`: {}", problems.collect::<Vec<_>>().join(". ")))
            })
        });
        read.collect()
    }

    /// Keeps a declaration, in place of one of the same name. Returns whether there was none.
    ///
    /// Waits for the disk; when it returns, the declaration is on it.
    ///
    /// # Errors
    ///
    /// [`Error::Full`], [`Error::TooLarge`] and [`Error::Disk`]; then everything is as before.
    pub fn put(&mut self, upstream: &Upstream, settings: &Settings) -> Result<bool, Error> {
        let mut next = self.kept.clone();
        let before = next.upstreams.insert(upstream.name.to_string(), upstream::to_json(upstream, settings));
        if next.upstreams.len() > DECLARED_MAX {
            return Err(Error::Full);
        }
        self.replace(next)?;
        Ok(before.is_none())
    }

    /// Forgets a declaration. Returns whether there was one.
    ///
    /// Waits for the disk.
    ///
    /// # Errors
    ///
    /// [`Error::Disk`]; then it is as before.
    pub fn remove(&mut self, name: &str) -> Result<bool, Error> {
        let mut next = self.kept.clone();
        if next.upstreams.remove(name).is_none() {
            return Ok(false);
        }
        self.replace(next)?;
        Ok(true)
    }

    fn replace(&mut self, next: Kept) -> Result<(), Error> {
        let text = serde_json::to_vec_pretty(&next).map_err(|error| self.disk(error.into()))?;
        if text.len() > FILE_BYTES_MAX {
            return Err(Error::TooLarge);
        }
        self.write(&text).map_err(|error| self.disk(error))?;
        self.kept = next;
        Ok(())
    }

    /// Writes the file whole or not at all. Headers in it may be secret, so nobody else may read it.
    fn write(&self, text: &[u8]) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        let part = self.folder.join(PART);
        // One that a crash left behind may be anybody's.
        match fs::remove_file(&part) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part)?;
        file.write_all(text)?;
        file.sync_all()?;
        fs::rename(&part, self.folder.join(FILE))?;
        // The name, too, is on disk only when the folder is.
        File::open(&self.folder)?.sync_all()
    }

    fn broken(&self, why: String) -> Error {
        Error::Broken { path: self.folder.join(FILE), why }
    }

    fn disk(&self, source: io::Error) -> Error {
        Error::Disk { path: self.folder.join(FILE), source }
    }
}

fn read(path: &Path) -> Result<Kept, Error> {
    let broken = |why: String| Error::Broken { path: path.to_owned(), why };
    let disk = |source| Error::Disk { path: path.to_owned(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Kept::default()),
        Err(error) => return Err(disk(error)),
    };
    let mut text = Vec::new();
    file.take(FILE_BYTES_MAX as u64 + 1).read_to_end(&mut text).map_err(disk)?;
    if text.len() > FILE_BYTES_MAX {
        return Err(broken(format!("it has more than {FILE_BYTES_MAX} bytes")));
    }
    let kept: Kept = serde_json::from_slice(&text).map_err(|error| broken(error.to_string()))?;
    if kept.upstreams.len() > DECLARED_MAX {
        return Err(broken(format!(
            "it declares {} upstreams, more than {DECLARED_MAX}",
            kept.upstreams.len()
        )));
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use serde_json::json;

    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let folder =
                std::env::temp_dir().join(format!("pulsewire-declared-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&folder);
            Self(folder)
        }

        fn settings(&self) -> Settings {
            let mut settings = Settings::default();
            settings.server.data_dir.clone_from(&self.0);
            settings
        }

        fn write(&self, text: &str) {
            fs::create_dir_all(&self.0).unwrap();
            fs::write(self.0.join(FILE), text).unwrap();
        }

        fn refused(&self, text: &str) -> String {
            self.write(text);
            Store::open(&self.settings()).unwrap_err().to_string()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn upstream(name: &str, settings: &Settings) -> Upstream {
        let given = json!({
            "urls": ["wss://feed.example/ws"], "channel": format!("upstream:{name}"), "silence": "1m",
            "headers": ["X-Key: geheim"],
        });
        upstream::of_json(name, given.as_object().unwrap(), settings).unwrap()
    }

    #[test]
    fn what_was_declared_is_there_after_a_restart() {
        let folder = Folder::new("restart");
        let settings = folder.settings();
        let (mut store, found) = Store::open(&settings).unwrap();
        assert_eq!(found, []);
        let [a, b] = ["a", "b"].map(|name| upstream(name, &settings));
        assert!(store.put(&a, &settings).unwrap());
        assert!(store.put(&b, &settings).unwrap());
        let slower = Upstream { idle_ms: 60_000, ..a };
        assert!(!store.put(&slower, &settings).unwrap(), "it was there");
        assert!(store.remove("b").unwrap());
        assert!(!store.remove("b").unwrap());
        let mode = fs::metadata(folder.0.join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "headers may be secret");
        assert!(!folder.0.join(PART).exists());
        let (_, found) = Store::open(&settings).unwrap();
        assert_eq!(found, [slower]);
    }

    #[test]
    fn a_crash_while_writing_leaves_the_old_file() {
        let folder = Folder::new("crash");
        let settings = folder.settings();
        let (mut store, _) = Store::open(&settings).unwrap();
        let a = upstream("a", &settings);
        store.put(&a, &settings).unwrap();
        fs::write(folder.0.join(PART), "{\"upstr").unwrap();
        let (mut store, found) = Store::open(&settings).unwrap();
        assert_eq!(found, [a]);
        store.put(&upstream("b", &settings), &settings).unwrap();
        assert_eq!(Store::open(&settings).unwrap().1.len(), 2);
    }

    #[test]
    fn a_disk_that_takes_nothing_changes_nothing() {
        let folder = Folder::new("disk");
        let settings = folder.settings();
        let (mut store, _) = Store::open(&settings).unwrap();
        store.put(&upstream("a", &settings), &settings).unwrap();
        // A folder of the part's name cannot be removed as a file.
        fs::create_dir(folder.0.join(PART)).unwrap();
        assert!(matches!(store.put(&upstream("b", &settings), &settings), Err(Error::Disk { .. })));
        assert!(matches!(store.remove("a"), Err(Error::Disk { .. })));
        assert_eq!(store.upstreams(&settings).unwrap().len(), 1);
        assert_eq!(Store::open(&settings).unwrap().1.len(), 1);
    }

    #[test]
    fn a_broken_file_is_an_error_that_says_what_to_do() {
        let folder = Folder::new("broken");
        let good = r#""urls":["wss://feed.example/ws"],"channel":"upstream:a""#;
        folder.write(&format!(r#"{{"upstreams":{{"a":{{{good}}}}}}}"#));
        assert_eq!(Store::open(&folder.settings()).unwrap().1.len(), 1);
        for (text, part) in [
            ("".to_owned(), "EOF"),
            ("{\"upstreams\":".to_owned(), "EOF"),
            ("{}".to_owned(), "missing field `upstreams`"),
            ("{\"upstreams\":{},\"version\":2}".to_owned(), "unknown field `version`"),
            (format!(r#"{{"upstreams":{{"a":{{{good},"idel":"1s"}}}}}}"#), "unknown key `idel`"),
            (format!(r#"{{"upstreams":{{"a":{{{good},"idle":1}}}}}}"#), "`a`: `idle`: expected a duration"),
            (
                format!(r#"{{"upstreams":{{"a":{{{good},"ca_file":"x"}}}}}}"#),
                "only the settings file can say it",
            ),
            (format!(r#"{{"upstreams":{{"A":{{{good}}}}}}}"#), "`name`: expected 1 to 64"),
        ] {
            let said = folder.refused(&text);
            assert!(said.contains(part) && said.contains(FILE) && said.contains("mend it"), "{text}: {said}");
            assert!(!said.contains("\n"), "{said}");
        }
    }

    #[test]
    fn there_are_so_many_and_they_are_so_large() {
        let folder = Folder::new("bound");
        let settings = folder.settings();
        let one = r#"{"urls":["wss://feed.example/ws"],"channel":"upstream:a"}"#;
        let many = |count: usize| {
            let all: Vec<_> = (0..count).map(|at| format!("\"u{at}\":{one}")).collect();
            format!("{{\"upstreams\":{{{}}}}}", all.join(","))
        };
        assert!(folder.refused(&many(DECLARED_MAX + 1)).contains("1001 upstreams, more than 1000"));
        assert!(folder.refused(&" ".repeat(FILE_BYTES_MAX + 1)).contains("more than 8388608 bytes"));
        folder.write(&many(DECLARED_MAX));
        let (mut store, found) = Store::open(&settings).unwrap();
        assert_eq!(found.len(), DECLARED_MAX);
        assert!(matches!(store.put(&upstream("new", &settings), &settings), Err(Error::Full)));
        assert!(!store.put(&upstream("u7", &settings), &settings).unwrap(), "one of them may be changed");
        let keys = (0..1_000).map(|at| format!("{at:0>200}").into_boxed_str()).collect();
        let keyed = |name: &str| {
            let given = json!({"urls": ["wss://feed.example/ws/{key}"], "channel": "upstream:{key}"});
            let upstream = upstream::of_json(name, given.as_object().unwrap(), &settings).unwrap();
            Upstream { keys: Vec::clone(&keys), ..upstream }
        };
        let put = (0..100).map(|at| store.put(&keyed(&format!("u{at}")), &settings)).find_map(Result::err);
        assert!(matches!(put, Some(Error::TooLarge)), "{put:?}");
        let bytes = fs::metadata(folder.0.join(FILE)).unwrap().len();
        assert!(bytes <= FILE_BYTES_MAX as u64, "{bytes}");
        assert_eq!(Store::open(&settings).unwrap().1.len(), DECLARED_MAX);
    }

    #[test]
    fn what_the_settings_declare_by_now_is_theirs() {
        let folder = Folder::new("theirs");
        let mut settings = folder.settings();
        let (mut store, _) = Store::open(&settings).unwrap();
        let a = upstream("a", &settings);
        store.put(&a, &settings).unwrap();
        let declared = crate::settings::Declared { stable: std::sync::Arc::new(a.clone()), candidate: None };
        settings.upstreams.push(declared);
        let (mut store, found) = Store::open(&settings).unwrap();
        assert_eq!(found, []);
        store.put(&upstream("b", &settings), &settings).unwrap();
        settings.upstreams.clear();
        assert_eq!(store.upstreams(&settings).unwrap().len(), 2, "it was not forgotten");
    }
}
