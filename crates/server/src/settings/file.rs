//! The settings file: TOML, with the line of every value.

use std::{
    io,
    ops::Range,
    path::{Path, PathBuf},
};

use toml::de::{DeTable, DeValue};

use super::{
    keys,
    kind::Raw,
    load::Loader,
    namespace::{Namespace, SYSTEM},
    problem::{Origin, Problem, nearest},
    sources::DEFAULT_FILE,
    table::Section,
    upstream,
};

/// A file's text, to tell lines from offsets.
struct Lines<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Lines<'_> {
    fn origin(&self, span: &Range<usize>) -> Origin {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
        Origin::File { path: self.path.to_path_buf(), line }
    }

    fn syntax(&self, error: &toml::de::Error) -> Problem {
        let origin = self.origin(&error.span().unwrap_or(0..0));
        Problem::at(origin, format!("not TOML: {}", error.message().replace('\n', ", ")))
    }
}

/// Reads the settings file into the loader, if there is one; its problems are in the order of lines.
pub(super) fn read(loader: &mut Loader<'_>) {
    read_tables(loader);
    loader.problems.sort_by_key(|problem| match &problem.origin {
        Some(Origin::File { line, .. }) => *line,
        _ => 0,
    });
}

fn read_tables(loader: &mut Loader<'_>) {
    let named = loader.sources.flags.config.clone();
    let path = named.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_FILE));
    let text = match (loader.sources.read)(&path) {
        Ok(text) => text,
        Err(error) if named.is_none() && error.kind() == io::ErrorKind::NotFound => return,
        Err(error) => {
            let what = format!("cannot read the settings file: {error}");
            let origin = Origin::Flag(path.display().to_string());
            let help = "name an existing file with `-c FILE`, or leave `-c` out";
            loader.problems.push(Problem::at(origin, what).help(help));
            return;
        }
    };
    let lines = Lines { path: &path, text: &text };
    let Some((spans, mut values)) = parse(&lines, &mut loader.problems) else { return };
    for (name, spanned) in spans.get_ref() {
        let (name, origin) = (name.get_ref().as_ref(), lines.origin(&name.span()));
        let value = values.remove(name);
        match (name, spanned.get_ref(), value) {
            ("namespace", DeValue::Array(spans), Some(toml::Value::Array(tables))) => {
                let tables = spans.iter().map(|it| (it.span(), it.get_ref().as_table())).zip(tables);
                namespaces(loader, &lines, tables.collect());
            }
            (upstream::NOUN, DeValue::Array(spans), Some(toml::Value::Array(tables))) => {
                let tables = spans.iter().map(|it| (it.span(), it.get_ref().as_table())).zip(tables);
                upstreams(loader, &lines, tables.collect());
            }
            (section, DeValue::Table(spans), Some(toml::Value::Table(mut values))) if is_section(section) => {
                for (name, _) in spans {
                    let origin = lines.origin(&name.span());
                    if let Some(value) = values.remove(name.get_ref().as_ref()) {
                        loader.assign(&format!("{section}.{}", name.get_ref()), &Raw::Toml(value), &origin);
                    }
                }
            }
            (name, _, _) => loader.problems.push(unknown_section(name, origin)),
        }
    }
}

/// The file twice: with spans, and as plain values.
fn parse<'i>(
    lines: &Lines<'i>,
    problems: &mut Vec<Problem>,
) -> Option<(toml::Spanned<DeTable<'i>>, toml::Table)> {
    let (spans, errors) = DeTable::parse_recoverable(lines.text);
    if !errors.is_empty() {
        problems.extend(errors.iter().map(|error| lines.syntax(error)));
        return None;
    }
    match toml::from_str(lines.text) {
        Ok(values) => Some((spans, values)),
        Err(error) => {
            problems.push(lines.syntax(&error));
            None
        }
    }
}

fn is_section(name: &str) -> bool {
    keys().any(|key| key.path.split('.').next() == Some(name))
}

fn unknown_section(name: &str, origin: Origin) -> Problem {
    if ["namespace", upstream::NOUN].contains(&name) {
        let what = format!("`{name}`: expected tables, each opened by `[[{name}]]`");
        return Problem::at(origin, what).about(name);
    }
    if name == "upstreams" {
        let what = "`upstreams`: expected a section, opened by `[upstreams]`";
        return Problem::at(origin, what)
            .about(name)
            .help("one upstream is a table opened by `[[upstream]]`");
    }
    if is_section(name) {
        let what = format!("`{name}`: expected a section, opened by `[{name}]`");
        return Problem::at(origin, what).about(name);
    }
    let problem = Problem::at(origin, format!("unknown key `{name}`")).about(name);
    let mut sections: Vec<&str> = keys().filter_map(|key| key.path.split('.').next()).collect();
    sections.dedup();
    let inside = keys().find(|key| key.path.split('.').nth(1) == Some(name));
    match (inside, nearest(name, sections.iter().copied().chain(["namespace", upstream::NOUN]))) {
        (Some(key), _) => problem.help(format!("did you mean `{}`?", key.path)),
        (None, Some(near)) => problem.help(format!("did you mean the section `[{near}]`?")),
        (None, None) => {
            problem.help(format!("the sections are {}, namespace and upstream", sections.join(", ")))
        }
    }
}

type SpannedTable<'s, 'i> = ((Range<usize>, Option<&'s DeTable<'i>>), toml::Value);

/// Reads the `[[namespace]]` tables: they are tried before the shipped ones, but for the server's own channels.
fn namespaces(loader: &mut Loader<'_>, lines: &Lines<'_>, tables: Vec<SpannedTable<'_, '_>>) {
    let mut own: Vec<Namespace> = Vec::new();
    for ((span, spans), value) in tables {
        let origin = lines.origin(&span);
        let (Some(spans), toml::Value::Table(values)) = (spans, value) else {
            loader.fail("namespace", &origin, "expected tables, each opened by `[[namespace]]`");
            continue;
        };
        let mut namespace = Namespace::default();
        table(loader, lines, spans, values, &mut namespace);
        for required in ["name", "pattern"] {
            if !spans.iter().any(|(name, _)| name.get_ref() == required) {
                loader.fail(&format!("namespace.{required}"), &origin, "every namespace needs one");
            }
        }
        if namespace == Namespace::system() {
            // A file that was printed has it.
            continue;
        }
        if namespace.name == SYSTEM {
            loader.fail(
                "namespace.name",
                &origin,
                "`sys` is the server's own namespace; choose another name",
            );
        }
        if namespace.pattern.as_str().starts_with('$') {
            loader.fail("namespace.pattern", &origin, "channels that begin with `$` are the server's own");
        }
        if own.iter().any(|earlier| earlier.name == namespace.name) {
            loader.fail("namespace.name", &origin, &format!("two namespaces are named `{}`", namespace.name));
        }
        loader.settings.provenance.insert(format!("namespace.{}", namespace.name), origin);
        own.push(namespace);
    }
    let shipped = std::mem::take(&mut loader.settings.namespaces);
    let replaced = |namespace: &Namespace| own.iter().any(|it| it.name == namespace.name);
    let kept: Vec<_> = shipped.into_iter().filter(|namespace| !replaced(namespace)).collect();
    let (system, kept): (Vec<_>, Vec<_>) = kept.into_iter().partition(|namespace| namespace.name == SYSTEM);
    loader.settings.namespaces = system.into_iter().chain(own).chain(kept).collect();
}

/// Reads the `[[upstream]]` tables; what becomes of them is decided when every source has been read.
fn upstreams(loader: &mut Loader<'_>, lines: &Lines<'_>, tables: Vec<SpannedTable<'_, '_>>) {
    for ((span, spans), value) in tables {
        let origin = lines.origin(&span);
        let (Some(spans), toml::Value::Table(values)) = (spans, value) else {
            loader.fail(upstream::NOUN, &origin, "expected tables, each opened by `[[upstream]]`");
            continue;
        };
        let before = loader.problems.len();
        let mut written = upstream::UpstreamTable::default();
        let given = table(loader, lines, spans, values, &mut written);
        let good = loader.problems.len() == before;
        loader.upstreams.push(upstream::Written { table: written, given, origin, good });
    }
}

/// Reads one of several tables of a kind. Returns the keys that it gives, and where.
fn table<T: Section<T> + 'static>(
    loader: &mut Loader<'_>,
    lines: &Lines<'_>,
    spans: &DeTable<'_>,
    mut values: toml::Table,
    into: &mut T,
) -> Vec<(&'static str, Origin)> {
    let mut given = Vec::new();
    let noun = T::KEYS[0].path.split('.').next().unwrap_or_default();
    for (name, _) in spans {
        let (name, origin) = (name.get_ref().as_ref(), lines.origin(&name.span()));
        let path = format!("{noun}.{name}");
        let Some(key) = T::KEYS.iter().find(|key| key.path == path) else {
            let what = format!("unknown key `{name}` in `[[{noun}]]`");
            let problem = Problem::at(origin, what).about(&path);
            let names = T::KEYS.iter().filter_map(|key| key.path.split('.').nth(1));
            loader.problems.push(match nearest(name, names) {
                Some(near) => problem.help(format!("did you mean `{near}`?")),
                None => problem.help("`pulsewire config doc` lists every key"),
            });
            continue;
        };
        let Some(value) = values.remove(name) else { continue };
        match (key.set)(into, &Raw::Toml(value), key.range) {
            Ok(()) => given.push((key.path, origin)),
            Err(what) => loader.fail(&path, &origin, &what),
        }
    }
    given
}

/// Adds the keys of `auth.api_keys_file`.
pub(super) fn read_api_keys(loader: &mut Loader<'_>) {
    let Some(path) = loader.settings.auth.api_keys_file.clone() else { return };
    let origin = loader.settings.origin("auth.api_keys_file");
    let text = match (loader.sources.read)(&path) {
        Ok(text) => text,
        Err(error) => {
            let what = format!("cannot read `{}`: {error}", path.display());
            return loader.fail("auth.api_keys_file", &origin, &what);
        }
    };
    match super::access::api_keys_of_file(&text) {
        Ok(keys) => {
            let known = &mut loader.settings.auth.api_keys;
            let twice =
                keys.iter().find(|key| known.iter().any(|it| it.id == key.id)).map(|key| key.id.clone());
            known.extend(keys);
            if let Some(id) = twice {
                let what = format!("API key `{id}` is also in `auth.api_keys`; keep one of them");
                loader.fail("auth.api_keys_file", &origin, &what);
            }
        }
        Err(what) => loader.fail("auth.api_keys_file", &origin, &format!("{}: {what}", path.display())),
    }
}
