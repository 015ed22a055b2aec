//! Settings for people: `config print` and `config doc`.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{
    Declared, Settings, keys,
    namespace::Namespace,
    secret::REDACTED,
    sections,
    table::{Key, Section},
    upstream::UpstreamTable,
};

impl Settings {
    /// Every key with its value and where that comes from; secrets are redacted.
    fn rows(&self) -> Vec<(String, Value, String)> {
        let mut rows: Vec<_> = keys()
            .map(|key| (key.path.to_owned(), (key.show)(self), self.origin(key.path).to_string()))
            .collect();
        for namespace in &self.namespaces {
            let path = format!("namespace.{}", namespace.name);
            let origin = self.origin(&path).to_string();
            rows.push((path, namespace_value(namespace), origin));
        }
        for (path, value) in self.upstreams.iter().flat_map(Declared::shown) {
            let origin = self.origin(&path).to_string();
            rows.push((path, Value::Object(value), origin));
        }
        rows
    }

    /// The effective settings as a table: key, value, origin.
    #[must_use]
    pub fn to_table(&self) -> String {
        let rows: Vec<_> =
            self.rows().into_iter().map(|(path, value, origin)| (path, toml_text(&value), origin)).collect();
        let width = |column: fn(&(String, String, String)) -> &str| {
            rows.iter().map(|row| column(row).chars().count()).max().unwrap_or(0).min(48)
        };
        let (first, second) = (width(|row| &row.0), width(|row| &row.1));
        let mut text = format!("{:first$}  {:second$}  FROM\n", "KEY", "VALUE");
        for (path, value, origin) in &rows {
            let _ = writeln!(text, "{path:first$}  {value:second$}  {origin}");
        }
        text
    }

    /// The effective settings as JSON: `{"heartbeat.interval": {"value": "30s", "from": "default"}, …}`.
    #[must_use]
    pub fn to_json(&self) -> Value {
        self.rows()
            .into_iter()
            .map(|(path, value, from)| (path, json!({"value": value, "from": from})))
            .collect()
    }

    /// The effective settings as a file that could be loaded, but for the redacted secrets.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        for (_, section) in sections() {
            let name = section.first().and_then(|key| key.path.split('.').next()).unwrap_or_default();
            let _ = writeln!(text, "[{name}]");
            for key in section {
                let value = (key.show)(self);
                let hidden = value.is_null() || key.secret;
                let _ = writeln!(
                    text,
                    "{}{} = {} # {}",
                    if hidden { "# " } else { "" },
                    key.path.split('.').nth(1).unwrap_or_default(),
                    if value.is_null() { "not set".to_owned() } else { toml_text(&value) },
                    self.origin(key.path),
                );
            }
            text.push('\n');
        }
        for namespace in &self.namespaces {
            let _ =
                writeln!(text, "[[namespace]] # {}", self.origin(&format!("namespace.{}", namespace.name)));
            for (name, value) in namespace_value(namespace).as_object().into_iter().flatten() {
                let _ = writeln!(text, "{name} = {}", toml_text(value));
            }
            text.push('\n');
        }
        for (path, value) in self.upstreams.iter().flat_map(Declared::shown) {
            let _ = writeln!(text, "[[upstream]] # {}", self.origin(&path));
            for (name, value) in &value {
                let shown = toml_text(value);
                let _ =
                    writeln!(text, "{}{name} = {shown}", if shown.contains(REDACTED) { "# " } else { "" });
            }
            text.push('\n');
        }
        text
    }
}

fn namespace_value(namespace: &Namespace) -> Value {
    let keys = <Namespace as Section<Namespace>>::KEYS.iter();
    keys.map(|key| (key.path.trim_start_matches("namespace.").to_owned(), (key.show)(namespace))).collect()
}

/// A value as it would stand in the file.
fn toml_text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::Array(values) => format!("[{}]", values.iter().map(toml_text).collect::<Vec<_>>().join(", ")),
        Value::Object(map) => {
            let pair =
                |(name, value): (&String, &Value)| format!("{} = {}", toml_name(name), toml_text(value));
            let pairs = map.iter().map(pair).collect::<Vec<_>>().join(", ");
            if pairs.is_empty() { "{}".to_owned() } else { format!("{{ {pairs} }}") }
        }
        other => other.to_string(),
    }
}

fn toml_name(name: &str) -> String {
    let bare = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    if !name.is_empty() && name.bytes().all(bare) { name.to_owned() } else { format!("\"{name}\"") }
}

/// Every setting as Markdown: the text of `docs/settings.md` and of `config doc`.
#[must_use]
pub fn docs_markdown() -> String {
    let mut text = include_str!("settings.md").to_owned();
    for (about, section) in sections() {
        let name = section.first().and_then(|key| key.path.split('.').next()).unwrap_or_default();
        let _ = write!(text, "\n## `[{name}]`\n\n{}\n", about.trim());
        section.iter().for_each(|key| document(&mut text, key));
    }
    let _ = write!(text, "\n## `[[namespace]]`\n\n{}\n", include_str!("namespaces.md"));
    <Namespace as Section<Namespace>>::KEYS.iter().for_each(|key| document(&mut text, key));
    text.push_str("\nShipped, in this order:\n\n| name | pattern | kind | publish | critical types |\n|---|---|---|---|---|\n");
    for namespace in Namespace::defaults(false) {
        let _ = writeln!(
            text,
            "| `{}` | `{}` | {} | {} | {} |",
            namespace.name,
            namespace.pattern,
            namespace.kind.as_str(),
            namespace.publish.as_str(),
            namespace.critical_types.join(" "),
        );
    }
    let _ = write!(text, "\n## `[[upstream]]`\n\n{}\n", include_str!("upstreams.md"));
    UpstreamTable::KEYS.iter().for_each(|key| document(&mut text, key));
    text
}

fn document<T>(text: &mut String, key: &Key<T>) {
    let in_table = ["namespace.", "upstream."].iter().find(|noun| key.path.starts_with(**noun));
    let name = in_table.map_or(key.path, |noun| key.path.trim_start_matches(noun));
    let _ = write!(text, "\n### `{name}`\n\n{}\n\n", key.help.trim());
    let _ = write!(text, "- {}, for example `{}`", key.kind, key.example);
    if let Some((low, high)) = key.range {
        let _ = write!(text, ", from {low} to {high}");
    }
    let default = if key.default.is_empty() { "not set".to_owned() } else { format!("`{}`", key.default) };
    let _ = writeln!(text, "; default {default}");
    if in_table.is_some() {
        return;
    }
    let mut variables = vec![format!("`{}`", key.environment())];
    for variable in key.documents {
        let unit = if variable.unit == "s" { " (seconds)" } else { "" };
        variables.push(format!("`{}`{unit}", variable.name));
    }
    if key.secret {
        let files: Vec<_> = std::iter::once(key.environment())
            .chain(key.documents.iter().map(|variable| variable.name.to_owned()))
            .map(|name| format!("`{name}_FILE`"))
            .collect();
        let _ = writeln!(text, "- or `{name}_file`: the path of a file that holds it");
        variables.extend(files);
    }
    let _ = writeln!(text, "- environment: {}", variables.join(", "));
    let _ = writeln!(
        text,
        "- {}",
        if key.reloadable {
            "taken over on reload (SIGHUP)"
        } else {
            "needs a restart; a reload keeps the old value and says so"
        }
    );
}
