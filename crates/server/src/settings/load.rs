//! Loading: every source in order, every problem at once.
//!
//! A later source replaces an earlier one, key by key: defaults, the file, the environment, flags.
//! A value that cannot be read leaves the earlier one in place and is reported; the checks that
//! look at several keys skip those that failed, so one mistake is reported once.

use std::{collections::BTreeSet, path::Path};

use super::{
    Settings, checks, environment, file, keys,
    kind::Raw,
    namespace::Namespace,
    problem::{Origin, Problem, nearest},
    sources::Sources,
    table::Key,
    upstream,
};

/// Defaults that `--dev` relaxes, so that one machine can play many clients.
const DEV_DEFAULTS: [(&str, &str); 3] = [
    ("limits.connections_per_address", "0"),
    ("limits.connections_per_user", "0"),
    ("limits.handshakes_per_second", "0"),
];

impl Settings {
    /// Reads the settings from their sources.
    ///
    /// # Errors
    ///
    /// Every problem found, in the order of the sources; the server must not start with any.
    pub fn load(sources: &Sources) -> Result<Self, Vec<Problem>> {
        let mut loader = Loader::all(sources);
        let found = checks::check(&loader.settings, &loader.failed, sources);
        loader.problems.extend(found);
        loader.end()
    }

    /// Reads the settings without asking whether a server could start with them: for what is printed, and needs no key.
    ///
    /// # Errors
    ///
    /// Every value that cannot be read, in the order of the sources.
    pub fn read(sources: &Sources) -> Result<Self, Vec<Problem>> {
        Loader::all(sources).end()
    }
}

/// Settings while they are being read.
pub(super) struct Loader<'a> {
    pub(super) sources: &'a Sources,
    pub(super) settings: Settings,
    pub(super) problems: Vec<Problem>,
    /// The `[[upstream]]` tables of the file: what they become depends on keys that later sources may set.
    pub(super) upstreams: Vec<upstream::Written>,
    failed: BTreeSet<String>,
}

impl<'a> Loader<'a> {
    fn new(sources: &'a Sources) -> Self {
        let dev = sources.flags.dev;
        let settings = Settings { dev, namespaces: Namespace::defaults(dev), ..Settings::default() };
        Self { sources, settings, problems: Vec::new(), upstreams: Vec::new(), failed: BTreeSet::new() }
    }

    /// Sets the key at `path`, or reports why not.
    pub(super) fn assign(&mut self, path: &str, raw: &Raw, origin: &Origin) {
        let by_name = keys().find(|key| key.path == path);
        let Some(key) = by_name.or_else(|| key_of_secret_file(path)) else {
            return self.problems.push(unknown_key(path, origin));
        };
        if key.secret
            && self.settings.provenance.get(key.path).is_some_and(|known| same_source(known, origin))
        {
            let what = format!("`{0}` and `{0}_file` are both set", key.path);
            let problem = Problem::at(origin.clone(), what).about(key.path);
            return self.problems.push(problem.help("keep one of them"));
        }
        match by_name {
            Some(key) => self.set(key, raw, origin),
            None => self.set_from_file(key, path, raw, origin),
        }
    }

    fn set(&mut self, key: &Key<Settings>, raw: &Raw, origin: &Origin) {
        match (key.set)(&mut self.settings, raw, key.range) {
            Ok(()) => {
                self.failed.remove(key.path);
                self.settings.provenance.insert(key.path.to_owned(), origin.clone());
            }
            Err(what) => self.fail(key.path, origin, &what),
        }
    }

    fn set_from_file(&mut self, key: &Key<Settings>, path: &str, raw: &Raw, origin: &Origin) {
        let Some(file) = raw.text().filter(|file| !file.is_empty()) else {
            return self.fail(path, origin, "expected the path of a file with the secret in it");
        };
        match (self.sources.read)(Path::new(file)) {
            Ok(text) => self.set(key, &Raw::Text(text.trim_end_matches(['\r', '\n']).to_owned()), origin),
            Err(error) => {
                self.failed.insert(key.path.to_owned());
                self.fail(path, origin, &format!("cannot read `{file}`: {error}"));
            }
        }
    }

    /// Every source, one after the other.
    fn all(sources: &'a Sources) -> Self {
        let mut loader = Self::new(sources);
        for (path, value) in DEV_DEFAULTS.iter().filter(|_| sources.flags.dev) {
            loader.assign(path, &Raw::Text((*value).to_owned()), &Origin::Dev);
        }
        file::read(&mut loader);
        environment::read(&mut loader);
        loader.flags();
        loader.derive();
        loader
    }

    fn end(self) -> Result<Settings, Vec<Problem>> {
        if self.problems.is_empty() { Ok(self.settings) } else { Err(self.problems) }
    }

    /// Reports that the value of a key cannot be used.
    pub(super) fn fail(&mut self, path: &str, origin: &Origin, what: &str) {
        self.failed.insert(path.to_owned());
        self.problems.push(Problem::at(origin.clone(), format!("`{path}`: {what}")).about(path));
    }

    fn flags(&mut self) {
        let flags = &self.sources.flags;
        let text = |value: &str| Raw::Text(value.to_owned());
        if let Some(listen) = &flags.listen {
            self.assign("server.listen", &text(listen), &Origin::Flag("--listen".to_owned()));
        }
        if let Some(data) = &flags.data {
            self.assign("server.data_dir", &text(data), &Origin::Flag("--data".to_owned()));
        }
        if let Some(folder) = &flags.ui_dir {
            self.assign("dashboard.folder", &text(folder), &Origin::Flag("--ui-dir".to_owned()));
        }
        for set in &flags.set {
            match set.split_once('=') {
                Some((path, value)) => {
                    let path = path.trim();
                    self.assign(path, &text(value), &Origin::Flag(format!("--set {path}")));
                }
                None => {
                    let what = format!(
                        "expected --set KEY=VALUE such as --set heartbeat.interval=30s, found `{set}`"
                    );
                    self.problems.push(Problem::at(Origin::Flag("--set".to_owned()), what));
                }
            }
        }
    }

    /// Fills what follows from other settings.
    fn derive(&mut self) {
        let settings = &mut self.settings;
        if !settings.provenance.contains_key("limits.connections_soft") {
            let soft = (settings.limits.connections_max / 5 * 4).max(1);
            settings.limits.connections_soft = settings.limits.connections_soft.min(soft);
        }
        derive_memory(settings);
        let own_key =
            self.sources.dev_secret.as_ref().filter(|_| settings.dev && settings.auth.algorithm.is_hmac());
        if let (None, Some(secret)) = (&settings.auth.secret, own_key) {
            settings.auth.secret = Some(secret.clone());
            settings.provenance.insert("auth.secret".to_owned(), Origin::Dev);
        }
        file::read_api_keys(self);
        upstream::resolve(self);
    }
}

/// One bound for a connection's memory, or the sum of its parts.
fn derive_memory(settings: &mut Settings) {
    let set = |path: &str| settings.provenance.contains_key(path);
    let whole = set("limits.connection_memory");
    let (message, outbox) = (set("limits.message_bytes_max"), set("limits.outbox_bytes_max"));
    let limits = &mut settings.limits;
    if !whole {
        limits.connection_memory = limits.connection_memory_needed();
        return;
    }
    let quarter = limits.connection_memory / 4;
    if !message {
        limits.message_bytes_max = quarter.min(16 << 20);
    }
    if !outbox {
        limits.outbox_bytes_max = quarter.min(64 << 20);
    }
}

/// Whether two values come from one source in which neither is the later one.
fn same_source(one: &Origin, two: &Origin) -> bool {
    match (one, two) {
        (Origin::File { path: one, .. }, Origin::File { path: two, .. }) => one == two,
        (Origin::Environment(_), Origin::Environment(_)) => true,
        _ => false,
    }
}

/// The secret that `path` names the file of: `auth.secret` for `auth.secret_file`.
pub(super) fn key_of_secret_file(path: &str) -> Option<&'static Key<Settings>> {
    let path = path.strip_suffix("_file")?;
    keys().find(|key| key.secret && key.path == path)
}

/// Every path that may be set, the files of secrets included.
pub(super) fn paths() -> Vec<String> {
    let twin = |key: &Key<Settings>| key.secret.then(|| format!("{}_file", key.path));
    keys().flat_map(|key| [Some(key.path.to_owned()), twin(key)]).flatten().collect()
}

fn unknown_key(path: &str, origin: &Origin) -> Problem {
    let problem = Problem::at(origin.clone(), format!("unknown key `{path}`")).about(path);
    if path == "namespace" || path.starts_with("namespace.") {
        return problem.help("namespaces are `[[namespace]]` tables in the settings file");
    }
    if path == "upstream" || path.starts_with("upstream.") {
        return problem.help("upstreams are `[[upstream]]` tables in the settings file");
    }
    match nearest(path, paths().iter().map(String::as_str)) {
        Some(near) => problem.help(format!("did you mean `{near}`?")),
        None => problem.help("`pulsewire config doc` lists every key"),
    }
}
