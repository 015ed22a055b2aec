//! What must hold between settings before the server may start.
//!
//! These are the refusals of design §7: no key, a weak or sample key, cookies open to every page.
//! `--dev` relaxes those about strength, never those about meaning.

use std::collections::{BTreeMap, BTreeSet};

use pulsewire_protocol::{ChannelName, EventType};
use pulsewire_sources::redis::{RedisOptions, RedisReader, StreamSource};

use super::{
    Settings,
    namespace::{ChannelKind, namespace_of},
    problem::{Origin, Problem},
    sources::Sources,
    upstream,
};

/// The shortest signing key, as RFC 7518 §3.2 asks for HS256.
pub const SECRET_LEN_BYTES_MIN: usize = 32;

/// Parts of secrets that stand in examples; compared without case and punctuation.
const SAMPLES: [&str; 18] = [
    "yoursecret",
    "yourjwtsecret",
    "your256bitsecret",
    "yoursupersecret",
    "yourkey",
    "secretkey",
    "supersecret",
    "mysecret",
    "topsecret",
    "changeme",
    "changeit",
    "changethis",
    "replaceme",
    "replacethis",
    "examplesecret",
    "insecuresecret",
    "notasecret",
    "password",
];

/// The checks while they run: each names the keys it looks at, and is silent when one of those failed.
struct Checks<'a> {
    settings: &'a Settings,
    failed: &'a BTreeSet<String>,
    problems: Vec<Problem>,
}

impl Checks<'_> {
    fn refuse(&mut self, path: &str, what: &str, help: &str) {
        if !self.failed.contains(path) {
            let problem = Problem::at(self.settings.origin(path), format!("`{path}`: {what}"));
            self.problems.push(problem.about(path).help(help));
        }
    }
}

/// Every reason not to start that no single value shows.
pub(super) fn check(settings: &Settings, failed: &BTreeSet<String>, sources: &Sources) -> Vec<Problem> {
    let mut checks = Checks { settings, failed, problems: Vec::new() };
    signing_key(&mut checks);
    key_sets(&mut checks);
    pages(&mut checks);
    addresses(&mut checks);
    certificate(&mut checks);
    bounds(&mut checks);
    hook(&mut checks);
    ingest(&mut checks);
    derive(&mut checks);
    redis(&mut checks);
    scrapers(&mut checks);
    names(&mut checks);
    checks.problems.extend(upstream::problems(settings));
    if checks.problems.is_empty() && failed.is_empty() {
        checks.problems.extend(crate::auth::keys::problems(settings, &*sources.read));
        checks.problems.extend(crate::tls::Pair::load(settings, &*sources.read).err());
    }
    checks.problems
}

fn signing_key(checks: &mut Checks<'_>) {
    let auth = &checks.settings.auth;
    let algorithm = auth.algorithm.as_str();
    if checks.failed.contains("auth.algorithm") {
        return;
    }
    if !auth.algorithm.is_hmac() {
        if auth.public_key_file.is_none() && !auth.has_key_sets() {
            let what = format!("not set, but {algorithm} verifies tokens with a public key");
            checks.refuse("auth.public_key_file", &what, "name the PEM file of the issuer's public key");
        }
        if auth.secret.is_some() {
            let what = format!("set, but {algorithm} does not use it");
            checks.refuse("auth.secret", &what, "unset it, or set `auth.algorithm` to HS256");
        }
        return;
    }
    for (path, set) in [
        ("auth.public_key_file", auth.public_key_file.is_some()),
        ("auth.private_key_file", auth.private_key_file.is_some()),
    ] {
        if set {
            let what = format!("set, but {algorithm} does not use it");
            checks.refuse(path, &what, "unset it, or set `auth.algorithm` to RS256, ES256 or EdDSA");
        }
    }
    let weak = auth.secret.as_ref().and_then(|secret| weakness(secret.expose()));
    match (&auth.secret, weak) {
        (None, _) if auth.has_key_sets() => {}
        (None, _) => {
            let help = "make a key with `openssl rand -hex 32 > secret.key`, then set auth.secret_file = \"secret.key\" \
                        or JWT_SECRET_KEY; to try things out, `pulsewire serve --dev` makes one for itself";
            checks.refuse("auth.secret", "not set, so no token could be verified", help);
        }
        (Some(_), Some(weakness)) if !checks.settings.dev => {
            checks.refuse("auth.secret", &weakness, "make a key with `openssl rand -hex 32`");
        }
        _ => {}
    }
}

fn key_sets(checks: &mut Checks<'_>) {
    let auth = &checks.settings.auth;
    let Some(url) = &auth.jwks_url else { return };
    if let Err(error) = crate::outbound::url(url, auth.jwks_allow_private) {
        let help = "name a public address, or set `auth.jwks_allow_private` to true";
        checks.refuse("auth.jwks_url", &error.to_string(), help);
    }
}

/// Why a signing key could be guessed; `None` for one that looks random.
#[must_use]
pub fn weakness(secret: &str) -> Option<String> {
    let plain: String = secret.chars().filter(char::is_ascii_alphanumeric).collect();
    let plain = plain.to_ascii_lowercase();
    if plain == "secret" || SAMPLES.iter().any(|sample| plain.contains(sample)) {
        return Some("this is a sample that anybody can look up".to_owned());
    }
    if secret.len() < SECRET_LEN_BYTES_MIN {
        return Some(format!("{} bytes, at least {SECRET_LEN_BYTES_MIN} are needed", secret.len()));
    }
    let distinct = secret.bytes().collect::<BTreeSet<_>>().len();
    let repeats = (1..=secret.len() / 2)
        .any(|period| secret.bytes().zip(secret.bytes().skip(period)).all(|(one, two)| one == two));
    if distinct < 8 || repeats {
        return Some("it repeats itself and can be guessed".to_owned());
    }
    None
}

fn pages(checks: &mut Checks<'_>) {
    let settings = checks.settings;
    for origin in &settings.origins.allowed {
        if origin != "*" && !is_origin(origin) {
            let what = format!("`{origin}` is not an origin");
            let help = "write scheme, host and port as the browser sends them, such as \"https://app.example.com\", \
                        without a path";
            checks.refuse("origins.allowed", &what, help);
        }
    }
    let cookie = &settings.auth.cookie;
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if !cookie.bytes().all(token) {
        checks.refuse("auth.cookie", "not the name of a cookie", "use letters, digits, - and _");
    }
    let any = settings.origins.allowed.iter().any(|origin| origin == "*");
    if !cookie.is_empty() && any && !settings.dev {
        let what = "`*` together with `auth.cookie` lets every web page act as its visitor";
        checks.refuse("origins.allowed", what, "list the origins of your pages, or unset `auth.cookie`");
    }
}

/// A token that no `Authorization: Bearer` can carry would turn every scraper away.
fn scrapers(checks: &mut Checks<'_>) {
    let Some(token) = &checks.settings.metrics.token else { return };
    if !token.expose().bytes().all(|byte| byte.is_ascii_graphic() && byte != b',') {
        let what = "it has characters that no Authorization header can carry";
        checks.refuse("metrics.token", what, "make one with `openssl rand -hex 32`");
    }
}

/// Whether a text is a serialised origin (RFC 6454 §6.2): scheme, host and perhaps a port.
fn is_origin(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once("://") else { return false };
    let named = scheme
        .bytes()
        .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"+-.".contains(&byte));
    !scheme.is_empty()
        && named
        && rest.parse::<http::uri::Authority>().is_ok_and(|it| !it.host().is_empty() && !rest.contains('@'))
}

fn addresses(checks: &mut Checks<'_>) {
    let settings = checks.settings;
    let explicit = matches!(settings.origin("server.listen"), Origin::Flag(_));
    if settings.dev && !settings.server.listen.ip().is_loopback() && !explicit {
        let what = format!(
            "{} can be reached from elsewhere, and --dev is not made for that",
            settings.server.listen
        );
        let help = "use a loopback address such as 127.0.0.1:8000, or insist with the flag `--listen`";
        checks.refuse("server.listen", &what, help);
    }
    let listen = settings.server.listen;
    if settings.server.internal_listen == Some(listen) && listen.port() != 0 {
        let help = "give it a port of its own, such as 127.0.0.1:8001";
        checks.refuse("server.internal_listen", "the same address as `server.listen`", help);
    }
}

fn certificate(checks: &mut Checks<'_>) {
    let tls = &checks.settings.tls;
    let help = "set tls.certificate_file and tls.key_file, or neither";
    match (&tls.certificate_file, &tls.key_file) {
        (Some(_), None) => checks.refuse("tls.certificate_file", "set without `tls.key_file`", help),
        (None, Some(_)) => checks.refuse("tls.key_file", "set without `tls.certificate_file`", help),
        _ => {}
    }
}

fn bounds(checks: &mut Checks<'_>) {
    let settings = checks.settings;
    let limits = &settings.limits;
    if limits.connections_soft > limits.connections_max {
        let what = format!(
            "{} is more than `limits.connections_max`, {}",
            limits.connections_soft, limits.connections_max
        );
        checks.refuse("limits.connections_soft", &what, "lower it, or leave it out: it follows at 80 %");
    }
    let needed = limits.connection_memory_needed();
    // Where nobody has set it, it follows.
    let set = settings.origin("limits.connection_memory") != Origin::Default;
    if set && needed > limits.connection_memory {
        let what = format!(
            "{} bytes, but a message of {} and an outbox of {} with as much again for answers may need {needed}",
            limits.connection_memory, limits.message_bytes_max, limits.outbox_bytes_max
        );
        let help = "raise it, or lower `limits.message_bytes_max` and `limits.outbox_bytes_max`, or leave those two out";
        checks.refuse("limits.connection_memory", &what, help);
    }
    if settings.heartbeat.timeout > settings.heartbeat.interval {
        checks.refuse(
            "heartbeat.timeout",
            "longer than `heartbeat.interval`",
            "an answer must be due before the next ping",
        );
    }
}

fn hook(checks: &mut Checks<'_>) {
    let settings = checks.settings;
    for event in &settings.hook.events {
        if EventType::parse(event).is_none() {
            let what = format!("`{event}` is not an event type");
            checks.refuse("hook.events", &what, "use 1 to 64 letters, digits, _ : . - and /");
        }
    }
    match ChannelName::parse(&settings.hook.channel) {
        Err(error) => checks.refuse("hook.channel", &error.to_string(), "use a name such as `workspace`"),
        Ok(channel) if namespace_of(&settings.namespaces, &channel).is_none() => {
            let what = format!("no namespace holds the channel `{channel}`");
            checks.refuse(
                "hook.channel",
                &what,
                "use `workspace`, or add a `[[namespace]]` with a pattern for it",
            );
        }
        Ok(_) => {}
    }
}

fn ingest(checks: &mut Checks<'_>) {
    let settings = checks.settings;
    let ingest = &settings.ingest;
    for (path, channel) in [
        ("ingest.otlp_channel", &ingest.otlp_channel),
        ("ingest.remote_write_channel", &ingest.remote_write_channel),
    ] {
        let help = "use a channel of a namespace with `kind = \"metrics\"`, such as `app.metrics`";
        match ChannelName::parse(channel) {
            Err(error) => checks.refuse(path, &error.to_string(), help),
            // Where nobody has set it, namespaces of another kind are no mistake.
            Ok(_) if settings.origin(path) == Origin::Default => {}
            Ok(name) => {
                let namespace = namespace_of(&settings.namespaces, &name);
                if namespace.is_none_or(|namespace| namespace.kind != ChannelKind::Metrics) {
                    checks.refuse(path, &format!("`{channel}` is no metric channel"), help);
                }
            }
        }
    }
    let attributes = &ingest.resource_attributes;
    if attributes.len() > 16 || attributes.iter().any(|name| name.is_empty() || name.len() > 64) {
        let help = "name at most 16 attributes of 1 to 64 bytes";
        checks.refuse("ingest.resource_attributes", "too many, or one that cannot be a tag", help);
    }
}

fn derive(checks: &mut Checks<'_>) {
    let mut seen: BTreeMap<&str, &str> = BTreeMap::new();
    for (path, _, types) in checks.settings.derive.types() {
        for event_type in types {
            if EventType::parse(event_type).is_none() {
                let what = format!("`{event_type}` is not an event type");
                checks.refuse(path, &what, "use 1 to 64 letters, digits, _ : . - and /");
            } else if let Some(other) = seen.insert(event_type, path).filter(|other| *other != path) {
                let what = format!("`{event_type}` stands in `{other}`, too");
                checks.refuse(path, &what, "an event type can mean one thing only");
            }
        }
    }
}

fn redis(checks: &mut Checks<'_>) {
    let redis = &checks.settings.redis;
    let Some(url) = &redis.url else {
        let help = "name the Redis server, too: redis.url, or the variable REDIS_URL";
        for (path, of) in [("redis.events", &redis.events), ("redis.streams", &redis.streams)] {
            if !of.is_empty() {
                checks.refuse(path, "there is no Redis to read from", help);
            }
        }
        return;
    };
    let options = RedisOptions { url: url.expose().to_owned(), patterns: Vec::new(), lease: None };
    if let Err(error) = RedisReader::new(&options) {
        let help = "write it as redis://localhost:6379, or rediss:// for TLS";
        checks.refuse("redis.url", &error.to_string(), help);
    }
    if redis.patterns.is_empty() || redis.patterns.iter().any(String::is_empty) {
        let help = "name patterns such as \"*.metrics\", or leave it out";
        checks.refuse("redis.patterns", "a pattern is missing", help);
    }
    if let Some(both) = redis.events.iter().find(|events| redis.patterns.contains(events)) {
        let what = format!("`{both}` stands in `redis.patterns`, too");
        checks.refuse("redis.events", &what, "a message is an event or a sample");
    }
    redis_streams(checks);
}

/// Streams that are read at a time: each is asked for at least one entry.
const STREAMS_MAX: usize = 16;

fn redis_streams(checks: &mut Checks<'_>) {
    let redis = &checks.settings.redis;
    let streams = &redis.streams;
    if streams.len() > STREAMS_MAX {
        let what = format!("{} streams, more than {STREAMS_MAX}", streams.len());
        checks.refuse("redis.streams", &what, "put what belongs together into one stream");
    }
    let mut keys = BTreeSet::new();
    for text in streams {
        match StreamSource::parse(text) {
            Err(error) => {
                checks.refuse("redis.streams", &error, "write KEY, or KEY=CHANNEL: \"orders=run:orders\"");
            }
            Ok(stream) if !keys.insert(stream.key.clone()) => {
                let what = format!("the stream `{}` comes twice", stream.key);
                checks.refuse("redis.streams", &what, "name each stream once");
            }
            Ok(_) => {}
        }
    }
    let empty = |text: &str| text.trim().is_empty();
    if empty(&redis.group) {
        checks.refuse("redis.group", "a name is missing", "leave it out, or name the group");
    }
    if redis.consumer.as_deref().is_some_and(empty) {
        checks.refuse("redis.consumer", "a name is missing", "leave it out, or name the node");
    }
}

fn names(checks: &mut Checks<'_>) {
    let settings = checks.settings;
    let prefix = &settings.metrics.alias_prefix;
    if !pulsewire_telemetry::catalog::alias_prefix_allowed(prefix) {
        let what = format!("`{prefix}` cannot begin the names of metrics, or begins those of another family");
        checks.refuse(
            "metrics.alias_prefix",
            &what,
            "use letters, digits and _, such as \"orchestrator_websocket\"",
        );
    }
    if !settings.log.level.split(',').all(is_log_directive) {
        let what = format!("`{}` is not a log level", settings.log.level);
        let help = "use error, warn, info, debug or trace, or add targets: \"info,pulsewire_edge=debug\"";
        checks.refuse("log.level", &what, help);
    }
}

fn is_log_directive(text: &str) -> bool {
    let level = text.trim().rsplit('=').next().unwrap_or_default().to_ascii_lowercase();
    ["off", "error", "warn", "info", "debug", "trace"].contains(&level.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Row G2 and threat S32.
    #[test]
    fn weak_and_sample_secrets_are_recognised() {
        let table = [
            ("your-secret-key", "sample"),
            ("secret", "sample"),
            ("changeme", "sample"),
            ("Your-256-Bit-Secret", "sample"),
            ("please-CHANGE-ME-in-production-1234567890", "sample"),
            ("k3J9", "4 bytes"),
            ("0123456789abcdefghijklmnopqrstu", "31 bytes"),
            ("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "repeats"),
            ("0123456789012345678901234567890123456789", "repeats"),
            ("abcdefghijklmnopqrstabcdefghijklmnopqrst", "repeats"),
        ];
        for (secret, part) in table {
            let found = weakness(secret).unwrap_or_default();
            assert!(found.contains(part), "{secret}: {found:?}");
        }
        for fine in ["9f86d081884c7d659a2feaa0c55ad015", "Zx81-qQ7!pL0-vB3?kM9-wE5:tR2-yU6"] {
            assert_eq!(weakness(fine), None, "{fine}");
        }
    }

    #[test]
    fn origins_are_scheme_host_and_port() {
        for right in ["https://app.example.com", "http://localhost:5173", "https://[::1]:8443"] {
            assert!(is_origin(right), "{right}");
        }
        for wrong in ["app.example.com", "https://", "https://a/b", "https://u@a", "HTTPS://a", ""] {
            assert!(!is_origin(wrong), "{wrong}");
        }
    }
}
