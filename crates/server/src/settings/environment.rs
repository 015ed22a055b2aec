//! The environment: `PULSEWIRE_*` and the variables that the requirement documents name.

use std::net::SocketAddr;

use super::{
    Settings, keys,
    kind::Raw,
    load::{Loader, paths},
    problem::{Origin, Problem, nearest},
    table::{Key, environment_name},
};

/// Variables that belong to the client commands and to the choice of a file.
const NOT_SETTINGS: [&str; 5] =
    ["PULSEWIRE_CONFIG", "PULSEWIRE_URL", "PULSEWIRE_TOKEN", "PULSEWIRE_CA_FILE", "PULSEWIRE_CONTEXT"];

/// Reads the environment into the loader.
pub(super) fn read(loader: &mut Loader<'_>) {
    let mut variables: Vec<(String, String)> = loader.sources.environment.clone();
    variables.sort();
    let value_of =
        |name: &str| variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    listen(loader, value_of("WS_HOST"), value_of("WS_PORT"), value_of("PULSEWIRE_SERVER_LISTEN"));
    for key in keys().filter(|key| key.path != "server.listen") {
        for variable in key.documents {
            documents(loader, key, variable.name, variable.unit, &value_of);
        }
    }
    own(loader, &variables);
}

/// Applies one variable of the documents, unless its twin is set too.
fn documents<'v>(
    loader: &mut Loader<'_>,
    key: &'static Key<Settings>,
    name: &str,
    unit: &str,
    value_of: &impl Fn(&str) -> Option<&'v str>,
) {
    let with_unit = |value: &str| {
        let bare = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
        Raw::Text(format!("{}{}", value.trim(), if bare { unit } else { "" }))
    };
    let given = value_of(name).filter(|value| !value.trim().is_empty()).map(with_unit);
    if let Some(raw) = &given {
        let twin = value_of(&key.environment()).map(|value| Raw::Text(value.to_owned()));
        match twin {
            Some(twin) if differ(key, raw, &twin) => loader.problems.push(disagreement(key, name)),
            Some(_) => {}
            None => loader.assign(key.path, raw, &Origin::Environment(name.to_owned())),
        }
    }
    let file = value_of(&format!("{name}_FILE")).filter(|file| key.secret && !file.is_empty());
    if let Some(file) = file {
        let origin = Origin::Environment(format!("{name}_FILE"));
        loader.assign(&format!("{}_file", key.path), &Raw::Text(file.to_owned()), &origin);
    }
}

fn differ(key: &Key<Settings>, one: &Raw, two: &Raw) -> bool {
    let (mut left, mut right) = (Settings::default(), Settings::default());
    let set = |settings: &mut Settings, raw| (key.set)(settings, raw, key.range).is_ok();
    set(&mut left, one) && set(&mut right, two) && !(key.same)(&left, &right)
}

fn disagreement(key: &Key<Settings>, name: &str) -> Problem {
    let what = format!("{name} and {} set `{}` to different values", key.environment(), key.path);
    Problem::at(Origin::Environment(name.to_owned()), what).about(key.path).help("unset one of them")
}

/// `WS_HOST` and `WS_PORT` are two halves of one key.
fn listen(loader: &mut Loader<'_>, host: Option<&str>, port: Option<&str>, twin: Option<&str>) {
    let (host, port) = (host.filter(|it| !it.trim().is_empty()), port.filter(|it| !it.trim().is_empty()));
    let names = match (host, port) {
        (Some(_), Some(_)) => "WS_HOST, WS_PORT",
        (Some(_), None) => "WS_HOST",
        (None, Some(_)) => "WS_PORT",
        (None, None) => return,
    };
    let twin: Option<SocketAddr> = twin.and_then(|text| text.trim().parse().ok());
    let mut address = twin.unwrap_or(loader.settings.server.listen);
    if let Some(host) = host {
        match host.trim().replace("localhost", "127.0.0.1").trim_matches(['[', ']']).parse() {
            Ok(ip) => address.set_ip(ip),
            Err(_) => return half(loader, "WS_HOST", "an IP address such as 0.0.0.0", host),
        }
    }
    if let Some(port) = port {
        match port.trim().parse() {
            Ok(port) => address.set_port(port),
            Err(_) => return half(loader, "WS_PORT", "a port such as 8000", port),
        }
    }
    match twin {
        Some(twin) if twin != address => {
            let key = keys().find(|key| key.path == "server.listen");
            loader.problems.extend(key.map(|key| disagreement(key, names)));
        }
        Some(_) => {}
        None => {
            let origin = Origin::Environment(names.to_owned());
            loader.assign("server.listen", &Raw::Text(address.to_string()), &origin);
        }
    }
}

fn half(loader: &mut Loader<'_>, name: &str, expected: &str, found: &str) {
    let what = format!("expected {expected}, found `{found}`");
    loader.fail("server.listen", &Origin::Environment(name.to_owned()), &what);
}

/// Applies every `PULSEWIRE_*` variable; one that no key has is a problem.
fn own(loader: &mut Loader<'_>, variables: &[(String, String)]) {
    let known: Vec<(String, String)> =
        paths().into_iter().map(|path| (environment_name(&path), path)).collect();
    for (name, value) in variables {
        if !name.starts_with("PULSEWIRE_") || NOT_SETTINGS.contains(&name.as_str()) {
            continue;
        }
        let origin = Origin::Environment(name.clone());
        if let Some((_, path)) = known.iter().find(|(variable, _)| variable == name) {
            loader.assign(path, &Raw::Text(value.clone()), &origin);
            continue;
        }
        let problem = Problem::at(origin, format!("unknown variable {name}"));
        let near = nearest(name, known.iter().map(|(variable, _)| variable.as_str()));
        let help = near.map_or("`pulsewire config doc` lists every variable".to_owned(), |near| {
            format!("did you mean {near}?")
        });
        loader.problems.push(problem.help(help));
    }
}
