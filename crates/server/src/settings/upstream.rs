//! Upstreams: what the server holds streams open to, and how their messages become events.
//!
//! An upstream is declared by an `[[upstream]]` table of the settings file or by the admin API, with the same keys and
//! the same errors. A second table of its name, with `track = "canary"`, gives what the candidate has otherwise. What
//! could reach into the machine or its network (files, private addresses) can be said in the file only: whoever can
//! write it has the machine already, whoever has an operator's token has not.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use pulsewire_sources::upstream::{
    Codec, Heartbeat, Mapping, Overflow, Retry, Template, Track, Upstream, Values,
};
use reqwest::Url;
use serde_json::{Map, Value};

use super::{
    Settings,
    kind::{
        Choice, Count, File, Flag, Number, Optional, Raw, Size, Span, Text, Texts,
        templates::{Channel, Conditions, Headers, Place, TemplateText, Templates, Urls},
    },
    load::Loader,
    namespace::{ChannelKind, namespace_of},
    problem::{Origin, Problem, nearest},
    secret::REDACTED,
    table::{Key, Section, section},
};

/// What a table is called.
pub(super) const NOUN: &str = "upstream";

/// The longest message where nothing is said, unless `upstreams.message_bytes_max` is less.
const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// Keys that the admin API does not take.
const FILE_ONLY: [&str; 4] = ["track", "secret_file", "ca_file", "allow_private"];

section! {
    /// One upstream.
    UpstreamTable => UpstreamTable "upstream." |table| *table;

    /// Its name, in the admin API, metrics and status events: 1 to 64 of `a-z`, `0-9`, `-` and `_`.
    name: Text = "";
    /// `stable`, or `canary`: a table that gives what the candidate has otherwise than the stable one of the same name. It cannot give `channel`, `keys` and `always`: both feed the same channels.
    track: Choice<Track> = "stable";
    /// Where it is: one `ws` or `wss` URL, or two that feed the same channels (then `sequence` is needed to leave duplicates out). `{key}` in the path or the query gives each key a stream of its own; `{secret}` is the content of `secret_file`.
    urls: Urls = "";
    /// The channel it feeds, or with `{key}` a channel for each key.
    channel: Optional<Channel> = "";
    /// Keys that are wanted always, though nobody listens; at most 1,000.
    keys: Texts = "";
    /// Whether its stream is open though nobody listens; where the channel has `{key}`, it needs `keys`.
    always: Flag = "false";
    /// How long a stream stays open after its last subscriber has gone.
    idle: Span = "30s", range("0s", "1d");
    /// Headers of the handshake, as `Name: value`; `{secret}` is the content of `secret_file`. At most 32, and none that the handshake itself has.
    headers: Headers = "";
    /// The file whose content, without white space around it, is `{secret}`. It is read for each attempt to connect.
    secret_file: Optional<File> = "";
    /// The subprotocol that is asked for, and that the other side must agree to.
    subprotocol: Optional<Text> = "";
    /// The PEM file of the authorities that may vouch for its certificate; the machine's own if there is none.
    ca_file: Optional<File> = "";
    /// Whether it may be on loopback, in a private network or link-local. It may also if `upstreams.allow_private` is true.
    allow_private: Flag = "false";
    /// How long an attempt may take: the name, the connection, TLS and the handshake together.
    connect_timeout: Span = "10s", range("100ms", "2m");
    /// What is sent when it is connected, before keys are asked for; `{secret}`, `{n}` (a number that no other message of the connection has) and `{time_ms}` are filled in. At most 32.
    greeting: Templates = "";
    /// What asks for keys: sent once for all of them if it has `{keys}` (a JSON array), once for each if it has `{key}`.
    subscribe: Optional<TemplateText> = "";
    /// What says that keys are wanted no more.
    unsubscribe: Optional<TemplateText> = "";
    /// After so long without a byte from there a sign of life is asked for; without one in as long again the connection is dead. 0 asks for none.
    ping_interval: Span = "15s", range("0s", "1h");
    /// The message that asks for a sign of life; a WebSocket ping if there is none.
    ping_message: Optional<TemplateText> = "";
    /// After so long without a message the stream is stale and the connection is made anew; 0 waits for ever.
    silence: Span = "0s", range("0s", "1d");
    /// The most that the first wait before another attempt takes; waits are random, from nothing up to their most.
    retry_min: Span = "500ms", range("10ms", "1h");
    /// No wait is longer.
    retry_max: Span = "30s", range("10ms", "1d");
    /// What the most of a wait grows by from one failure to the next.
    retry_factor: Number = "2", range("1", "10");
    /// After so many failures in a row the stream has failed, until an operator restarts it; 0 never gives up.
    attempts_max: Count = "0", range("0", "1000000");
    /// A connection that lasted so long was well: the wait after it is a first one again.
    stable_after: Span = "30s", range("0s", "1d");
    /// After so many failures in a row, of all its streams together, nobody tries for `circuit_open`; 0 turns that off.
    circuit_failures: Count = "10", range("0", "1000000");
    /// How long nobody tries then; after it one stream tries, and the others follow if that went well.
    circuit_open: Span = "30s", range("100ms", "1d");
    /// How messages are written: `json`, `msgpack`, or `text` (which becomes a JSON text).
    codec: Choice<Codec> = "json";
    /// The array whose elements are the messages, where one message holds several; at most 1,000.
    each: Optional<Place> = "";
    /// What has to stand where, for a message to be an event: `"/pointer=text"`. Others are passed over. At most 32.
    only: Conditions = "";
    /// The key that a message is for, as `{/pointer}`. Needed where several keys share a stream.
    route: Optional<TemplateText> = "";
    /// Where the payload stands; the whole message if it is not set.
    data: Optional<Place> = "";
    /// The type of the event, which may name places of the message as `{/pointer}`; `message` if it is not set.
    event_type as "type": Optional<TemplateText> = "";
    /// The key of the event, which may name places as `{/pointer}`: the event replaces the one with the same key.
    event_key as "key": Optional<TemplateText> = "";
    /// The message id of the event, which may name places as `{/pointer}`.
    event_id as "id": Optional<TemplateText> = "";
    /// Where it stands when the event happened: RFC 3339, or a number of seconds, milliseconds, microseconds or nanoseconds.
    time: Optional<Place> = "";
    /// Where a number stands that grows by one with each message of a key: gaps are told, duplicates left out.
    sequence: Optional<Place> = "";
    /// Where the first number stands, if a message is for several numbers and `sequence` is the last of them.
    sequence_first: Optional<Place> = "";
    /// The longest message; a longer one ends the connection. 1 MiB if it is not set, and at most `upstreams.message_bytes_max`.
    message_bytes_max: Optional<Size> = "", range("64B", "64MiB");
    /// Messages of a stream that are taken in a second; 0 means any number.
    messages_per_second: Count = "10000", range("0", "1000000");
    /// What happens to those beyond: `drop` (subscribers are told how many), or `wait` (they are not read until there is room, so the other side waits).
    overflow: Choice<Overflow> = "drop";
}

/// An upstream of the settings.
#[derive(Clone, PartialEq)]
pub struct Declared {
    /// Its stable settings.
    pub stable: Arc<Upstream>,
    /// The candidate's, if it has settings of its own.
    pub candidate: Option<Arc<Upstream>>,
}

/// Its name only: headers, URLs and greetings may hold what must not be shown.
impl fmt::Debug for Declared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Declared").field("name", &self.name()).finish_non_exhaustive()
    }
}

impl Declared {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.stable.name
    }

    /// Both settings of it, with the tracks they are of.
    pub fn tracks(&self) -> impl Iterator<Item = (Track, &Arc<Upstream>)> {
        let candidate = self.candidate.iter().map(|candidate| (Track::Canary, candidate));
        std::iter::once((Track::Stable, &self.stable)).chain(candidate)
    }

    /// Whether its secret goes over a connection that others can read.
    pub(super) fn tells_secret(&self) -> bool {
        self.tracks().any(|(_, upstream)| {
            upstream.secret_file.is_some() && upstream.urls.iter().any(|url| url.as_str().starts_with("ws:"))
        })
    }

    /// Its tables for people, each with the path of its origin: what could be a secret is redacted, and of the candidate
    /// only what it has otherwise is there.
    pub(super) fn shown(&self) -> Vec<(String, Map<String, Value>)> {
        let stable = UpstreamTable::of(&self.stable);
        let table = |track: Track, upstream: &Upstream| {
            let table = UpstreamTable { track, ..UpstreamTable::of(upstream) };
            let redacted = table.clone().redacted();
            let named = |key: &Key<UpstreamTable>| ["upstream.name", "upstream.track"].contains(&key.path);
            let keys = UpstreamTable::KEYS.iter();
            let keys =
                keys.filter(|key| track == Track::Stable || named(key) || !(key.same)(&table, &stable));
            let values = keys.map(|key| (name_of(key).to_owned(), (key.show)(&redacted)));
            (path_of(self.name(), track), values.filter(|(_, value)| !value.is_null()).collect())
        };
        self.tracks().map(|(track, upstream)| table(track, upstream)).collect()
    }
}

/// A table as it stands in the file.
pub(super) struct Written {
    pub(super) table: UpstreamTable,
    /// The keys it gives, by their paths, and where.
    pub(super) given: Vec<(&'static str, Origin)>,
    /// Where it begins.
    pub(super) origin: Origin,
    /// Whether every value of it could be read.
    pub(super) good: bool,
}

/// What is wrong with an upstream: the key, what, and what to do.
#[derive(Debug, PartialEq)]
struct Mistake {
    key: &'static str,
    what: String,
    help: &'static str,
}

impl Mistake {
    fn new(key: &'static str, what: impl Into<String>, help: &'static str) -> Self {
        Self { key, what: what.into(), help }
    }

    fn problem(self, place: Option<Origin>, prefix: &str) -> Problem {
        let what = format!("`{prefix}{}`: {}", self.key, self.what);
        let problem = Problem { origin: place, key: None, what, help: None };
        let problem = problem.about(&format!("upstream.{}", self.key));
        if self.help.is_empty() { problem } else { problem.help(self.help) }
    }
}

fn name_of(key: &Key<UpstreamTable>) -> &'static str {
    key.path.trim_start_matches("upstream.")
}

/// The path under which it is known where a table stands.
fn path_of(name: &str, track: Track) -> String {
    match track {
        Track::Stable => format!("{NOUN}.{name}"),
        Track::Canary => format!("{NOUN}.{name}.canary"),
    }
}

/// Makes upstreams of the tables of the file: the stable ones, then the candidate's settings of them.
pub(super) fn resolve(loader: &mut Loader<'_>) {
    let (stable, candidates): (Vec<_>, Vec<_>) =
        std::mem::take(&mut loader.upstreams).into_iter().partition(|it| it.table.track == Track::Stable);
    let ceiling = loader.settings.upstream_limits.message_bytes_max;
    let mut known: Vec<(UpstreamTable, bool)> = Vec::new();
    for written in stable {
        let Written { table, origin, good, .. } = &written;
        if known.iter().any(|(earlier, _)| earlier.name == table.name) && !table.name.is_empty() {
            let what = format!("two upstreams are named `{}`", table.name);
            loader.fail("upstream.name", written.place("upstream.name"), &what);
            continue;
        }
        known.push((table.clone(), *good));
        if !good {
            continue;
        }
        let missing: Vec<_> = table.missing().collect();
        match table.upstream(ceiling) {
            Some(stable) if missing.is_empty() => {
                let stable = Arc::new(stable);
                loader.settings.upstreams.push(Declared { stable, candidate: None });
                written.keep(&mut loader.settings);
            }
            _ => missing
                .iter()
                .for_each(|key| loader.fail(&format!("upstream.{key}"), origin, "every upstream needs one")),
        }
    }
    for written in candidates {
        let name = written.table.name.clone();
        let place = written.place("upstream.name");
        if name.is_empty() {
            loader.fail("upstream.name", place, "every upstream needs one");
            continue;
        }
        let Some((stable, good)) = known.iter().find(|(table, _)| table.name == name) else {
            let what =
                format!("no stable table is named `{name}`, whose settings the candidate could change");
            loader.fail("upstream.name", place, &what);
            continue;
        };
        let mut table = stable.clone();
        for key in
            UpstreamTable::KEYS.iter().filter(|key| written.given.iter().any(|(path, _)| *path == key.path))
        {
            (key.keep)(&mut table, &written.table);
        }
        let declared = loader.settings.upstreams.iter_mut().find(|it| it.name() == name);
        let (Some(declared), Some(candidate)) = (declared, table.upstream(ceiling)) else {
            // The stable table is wrong, and that was said.
            continue;
        };
        if !written.good || !good {
            continue;
        }
        if declared.candidate.is_some() {
            let what = format!("`{name}` has two candidates");
            loader.fail("upstream.name", place, &what);
            continue;
        }
        declared.candidate = Some(Arc::new(candidate));
        written.keep(&mut loader.settings);
    }
}

impl Written {
    /// Where a key stands, or else the table.
    fn place(&self, path: &str) -> &Origin {
        self.given.iter().find(|(given, _)| *given == path).map_or(&self.origin, |(_, origin)| origin)
    }

    /// Keeps where the table and its keys stand, for what is said of them later.
    fn keep(&self, settings: &mut Settings) {
        let path = path_of(&self.table.name, self.table.track);
        for (key, origin) in &self.given {
            let key = key.trim_start_matches("upstream.");
            settings.provenance.insert(format!("{path}.{key}"), origin.clone());
        }
        settings.provenance.insert(path, self.origin.clone());
    }
}

/// What is wrong with the upstreams of the settings, each at its key.
pub(super) fn problems(settings: &Settings) -> Vec<Problem> {
    let mut problems = Vec::new();
    for declared in &settings.upstreams {
        let stable = mistakes(&declared.stable, settings);
        let own = declared.candidate.iter().flat_map(|candidate| {
            mistakes(candidate, settings).into_iter().chain(strays(&declared.stable, candidate))
        });
        // What is wrong with both is wrong in one place.
        let own: Vec<_> = own.filter(|mistake| !stable.contains(mistake)).collect();
        for (track, mistakes) in [(Track::Stable, stable), (Track::Canary, own)] {
            let mistakes = mistakes.into_iter();
            problems.extend(mistakes.map(|mistake| placed(mistake, declared.name(), track, settings)));
        }
    }
    problems
}

fn placed(mistake: Mistake, name: &str, track: Track, settings: &Settings) -> Problem {
    let table = path_of(name, track);
    let key = settings.provenance.get(&format!("{table}.{}", mistake.key));
    let origin = key.or_else(|| settings.provenance.get(&table)).cloned();
    mistake.problem(origin, "upstream.")
}

/// What a candidate must not have otherwise: subscribers get the same channels, whichever settings their stream runs on.
fn strays(stable: &Upstream, candidate: &Upstream) -> Vec<Mistake> {
    let help = "leave it to the stable table";
    let mut found = Vec::new();
    for (key, differs) in [
        ("channel", stable.channel != candidate.channel),
        ("keys", stable.keys != candidate.keys),
        ("always", stable.always != candidate.always),
    ] {
        if differs {
            found.push(Mistake::new(key, "a candidate cannot change it: both feed the same channels", help));
        }
    }
    if stable.apart() != candidate.apart() {
        let what = "both must name `{key}` in their URLs, or neither: a stream is one key's, or all keys'";
        found.push(Mistake::new("urls", what, "add `{key}`, or take it out"));
    }
    found
}

/// What is wrong with an upstream under these settings.
fn mistakes(upstream: &Upstream, settings: &Settings) -> Vec<Mistake> {
    let mut found = Vec::new();
    let limits = &settings.upstream_limits;
    if let Err(error) = upstream.check() {
        found.push(Mistake::new(error.field, error.what, ""));
    }
    let private = upstream.allow_private || limits.allow_private;
    found.extend(upstream.urls.iter().filter_map(|url| url_mistake(url, private)));
    for (name, value) in &upstream.headers {
        if value.reads_message() {
            let what = format!("`{name}`: there is no message to read yet");
            found.push(Mistake::new("headers", what, "name `{secret}`, or nothing"));
        } else if value.names_key() && !upstream.apart() {
            let what = format!("`{name}` names `{{key}}`, but keys share a connection");
            found.push(Mistake::new("headers", what, "name `{key}` in the URL, too"));
        }
    }
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if upstream
        .subprotocol
        .as_ref()
        .is_some_and(|it| it.is_empty() || it.len() > 128 || !it.bytes().all(token))
    {
        let help = "name one, of letters, digits, `.`, `-` and `_`";
        found.push(Mistake::new("subprotocol", "not the name of a subprotocol", help));
    }
    if upstream.secret_file.is_none() && templates(upstream).any(names_secret) {
        let what = "`{secret}` is named, but there is no file with it";
        found.push(Mistake::new(
            "secret_file",
            what,
            "name the file in the settings file, or take `{secret}` out",
        ));
    }
    if upstream.message_bytes_max > limits.message_bytes_max {
        let (own, most) = (upstream.message_bytes_max, limits.message_bytes_max);
        let what = format!("{own} bytes are more than `upstreams.message_bytes_max`, {most}");
        found.push(Mistake::new(
            "message_bytes_max",
            what,
            "lower it, or raise `upstreams.message_bytes_max`",
        ));
    }
    found.extend(channel_mistake(upstream, settings));
    found
}

/// Everything of an upstream that is filled in when something is sent.
fn templates(upstream: &Upstream) -> impl Iterator<Item = &Template> {
    let headers = upstream.headers.iter().map(|(_, value)| value);
    let messages = upstream.greeting.iter().chain(&upstream.subscribe).chain(&upstream.unsubscribe);
    upstream.urls.iter().chain(headers).chain(messages).chain(&upstream.heartbeat.message)
}

fn names_secret(template: &Template) -> bool {
    let filled = |secret| template.plain(&Values { secret, ..Values::default() });
    filled("") != filled("secret")
}

/// The channels of an upstream must be kept somewhere, and hold events.
fn channel_mistake(upstream: &Upstream, settings: &Settings) -> Option<Mistake> {
    // What makes no name at all is `Upstream::check`'s to say.
    let sample = upstream.channel.name("a")?;
    let namespace = namespace_of(&settings.namespaces, &sample);
    match namespace {
        None => {
            let what = format!("no namespace holds the channel `{sample}`");
            let help = "use `upstream:…`, or add a `[[namespace]]` with a pattern for it";
            Some(Mistake::new("channel", what, help))
        }
        Some(namespace) if namespace.kind == ChannelKind::Metrics => {
            let what = format!("`{sample}` is a metric channel (namespace `{}`)", namespace.name);
            Some(Mistake::new("channel", what, "use a channel of events, such as `upstream:…`"))
        }
        Some(_) => None,
    }
}

/// What is wrong with a URL: it has to lead to one server, whatever fills it, and to the same one for everybody who
/// reads it.
fn url_mistake(template: &Template, private: bool) -> Option<Mistake> {
    let wrong = |what: &str, help| Some(Mistake::new("urls", what, help));
    let help = "write it as wss://feed.example/path";
    if template.reads_message() {
        // `Upstream::check` says so.
        return None;
    }
    let filled = |text: &str, n: u64| {
        let values = Values { key: text, keys: &[text], n, time_ms: n.cast_signed(), secret: text };
        let filled = template.url(&values);
        let uri: http::Uri = filled.parse().ok()?;
        Some((Url::parse(&filled).ok()?, uri))
    };
    let (Some((url, uri)), Some((other, _))) = (filled("a", 1), filled("b", 2)) else {
        return wrong("not a URL", help);
    };
    if !matches!(url.scheme(), "ws" | "wss") {
        return wrong("neither a ws nor a wss URL", help);
    }
    if !url.username().is_empty()
        || url.password().is_some()
        || uri.authority().is_some_and(|it| it.as_str().contains('@'))
    {
        return wrong("a user name in a URL is sent to nobody", "send it in `headers`, with `{secret}`");
    }
    // Parsers differ on this, so it is looked for in what was written.
    if template.as_str().contains('#') {
        return wrong("a WebSocket URL has no fragment (RFC 6455 §3)", "leave out what begins with `#`");
    }
    let place = |url: &Url| (url.scheme().to_owned(), url.host_str().map(str::to_owned), url.port());
    if place(&url) != place(&other) {
        let what = "the host and the port cannot depend on a key: subscribers choose keys";
        return wrong(what, "name the host, and `{key}` behind it");
    }
    let host = url.host_str().unwrap_or_default();
    if host.is_empty() || !uri.host().is_some_and(|it| it.eq_ignore_ascii_case(host)) {
        return wrong(
            "the host can be read in more than one way",
            "write a name, or an address in its usual form",
        );
    }
    if !private && crate::outbound::is_private(&url) {
        let what = format!("`{host}` is not a public address");
        let help = "name a public address, or set `allow_private` in its table of the settings file or `upstreams.allow_private`";
        return Some(Mistake::new("urls", what, help));
    }
    None
}

/// Reads an upstream of the admin API: the keys of an `[[upstream]]` table as a JSON object, where `null` is as good as
/// nothing. What only the file may say is refused.
///
/// # Errors
///
/// Everything that is wrong, each naming its key.
pub fn of_json(
    name: &str,
    given: &Map<String, Value>,
    settings: &Settings,
) -> Result<Upstream, Vec<Problem>> {
    let mut table = UpstreamTable { name: name.to_owned(), ..UpstreamTable::default() };
    let mut problems = Vec::new();
    for (key, value) in given.iter().filter(|(_, value)| !value.is_null()) {
        problems.extend(give(&mut table, key, value).err());
    }
    if table.name != name {
        problems.push(
            Mistake::new("name", "another name than that of the path", "leave it out").problem(None, ""),
        );
    }
    problems.extend(
        table
            .missing()
            .filter(|key| !given.contains_key(*key))
            .map(|key| Mistake::new(key, "every upstream needs one", "").problem(None, "")),
    );
    let upstream = table.upstream(settings.upstream_limits.message_bytes_max);
    match upstream {
        Some(upstream) if problems.is_empty() => {
            problems.extend(mistakes(&upstream, settings).into_iter().map(|it| it.problem(None, "")));
            if problems.is_empty() { Ok(upstream) } else { Err(problems) }
        }
        _ => Err(problems),
    }
}

/// Sets one key from JSON.
fn give(table: &mut UpstreamTable, name: &str, value: &Value) -> Result<(), Problem> {
    let problem =
        |what: String| Problem { origin: None, key: Some(format!("upstream.{name}")), what, help: None };
    let Some(key) = UpstreamTable::KEYS.iter().find(|key| name_of(key) == name) else {
        let problem = problem(format!("unknown key `{name}`"));
        return Err(match nearest(name, UpstreamTable::KEYS.iter().map(name_of)) {
            Some(near) => problem.help(format!("did you mean `{near}`?")),
            None => problem.help("docs/settings.md lists the keys of `[[upstream]]`"),
        });
    };
    if FILE_ONLY.contains(&name) {
        let help = "declare the upstream in the settings file, which is for those who have the machine";
        return Err(problem(format!("`{name}`: only the settings file can say it")).help(help));
    }
    let read = toml::Value::try_from(value).map_err(|_| "it cannot be read".to_owned());
    let set = read.and_then(|value| (key.set)(table, &Raw::Toml(value), key.range));
    set.map_err(|what| problem(format!("`{name}`: {what}")))
}

/// Writes an upstream as [`of_json`] reads it: only what is not as it would be anyway, nothing redacted.
#[must_use]
pub fn to_json(upstream: &Upstream, settings: &Settings) -> Map<String, Value> {
    let mut table = UpstreamTable::of(upstream);
    if upstream.message_bytes_max == settings.upstream_limits.message_bytes_max.min(MESSAGE_BYTES_MAX) {
        table.message_bytes_max = None;
    }
    let default = UpstreamTable { name: table.name.clone(), ..UpstreamTable::default() };
    let keys = UpstreamTable::KEYS.iter().filter(|key| !(key.same)(&table, &default));
    keys.map(|key| (name_of(key).to_owned(), (key.show)(&table))).collect()
}

impl UpstreamTable {
    /// The keys that it needs and does not have.
    fn missing(&self) -> impl Iterator<Item = &'static str> {
        [("name", self.name.is_empty()), ("urls", self.urls.is_empty()), ("channel", self.channel.is_none())]
            .into_iter()
            .filter_map(|(key, missing)| missing.then_some(key))
    }

    /// What it declares; `None` if it names no channel. A message has `ceiling` bytes at most where nothing else is said.
    fn upstream(&self, ceiling: usize) -> Option<Upstream> {
        let from = self.clone();
        let short = |text: String| text.into_boxed_str();
        Some(Upstream {
            name: short(from.name),
            urls: from.urls,
            channel: from.channel?,
            keys: from.keys.into_iter().map(short).collect(),
            always: from.always,
            idle_ms: ms(from.idle),
            headers: from.headers,
            secret_file: from.secret_file,
            subprotocol: from.subprotocol.map(short),
            ca_file: from.ca_file,
            allow_private: from.allow_private,
            connect_timeout_ms: ms(from.connect_timeout),
            greeting: from.greeting,
            subscribe: from.subscribe,
            unsubscribe: from.unsubscribe,
            heartbeat: Heartbeat {
                interval_ms: ms(from.ping_interval),
                message: from.ping_message,
                silence_ms: ms(from.silence),
            },
            retry: Retry {
                min_ms: ms(from.retry_min),
                max_ms: ms(from.retry_max),
                factor: from.retry_factor,
                attempts_max: narrow(from.attempts_max),
                stable_ms: ms(from.stable_after),
                circuit_failures: narrow(from.circuit_failures),
                circuit_ms: ms(from.circuit_open),
            },
            mapping: Mapping {
                codec: from.codec,
                each: from.each,
                only: from.only,
                route: from.route,
                data: from.data,
                event_type: from.event_type,
                event_key: from.event_key,
                id: from.event_id,
                time: from.time,
                sequence: from.sequence,
                sequence_first: from.sequence_first,
            },
            message_bytes_max: from.message_bytes_max.unwrap_or(ceiling.min(MESSAGE_BYTES_MAX)),
            messages_per_second: narrow(from.messages_per_second),
            overflow: from.overflow,
        })
    }

    /// The table that would declare an upstream.
    fn of(upstream: &Upstream) -> Self {
        let from = upstream.clone();
        let (retry, heartbeat, mapping) = (from.retry, from.heartbeat, from.mapping);
        Self {
            name: from.name.into(),
            track: Track::Stable,
            urls: from.urls,
            channel: Some(from.channel),
            keys: from.keys.into_iter().map(String::from).collect(),
            always: from.always,
            idle: Duration::from_millis(from.idle_ms),
            headers: from.headers,
            secret_file: from.secret_file,
            subprotocol: from.subprotocol.map(String::from),
            ca_file: from.ca_file,
            allow_private: from.allow_private,
            connect_timeout: Duration::from_millis(from.connect_timeout_ms),
            greeting: from.greeting,
            subscribe: from.subscribe,
            unsubscribe: from.unsubscribe,
            ping_interval: Duration::from_millis(heartbeat.interval_ms),
            ping_message: heartbeat.message,
            silence: Duration::from_millis(heartbeat.silence_ms),
            retry_min: Duration::from_millis(retry.min_ms),
            retry_max: Duration::from_millis(retry.max_ms),
            retry_factor: retry.factor,
            attempts_max: retry.attempts_max as usize,
            stable_after: Duration::from_millis(retry.stable_ms),
            circuit_failures: retry.circuit_failures as usize,
            circuit_open: Duration::from_millis(retry.circuit_ms),
            codec: mapping.codec,
            each: mapping.each,
            only: mapping.only,
            route: mapping.route,
            data: mapping.data,
            event_type: mapping.event_type,
            event_key: mapping.event_key,
            event_id: mapping.id,
            time: mapping.time,
            sequence: mapping.sequence,
            sequence_first: mapping.sequence_first,
            message_bytes_max: Some(from.message_bytes_max),
            messages_per_second: from.messages_per_second as usize,
            overflow: from.overflow,
        }
    }

    /// The same without what could be a secret: values of headers, parameters of URLs and greetings that are not filled
    /// in from somewhere. Nobody can tell those that are secret from those that are not.
    fn redacted(mut self) -> Self {
        self.urls.iter_mut().for_each(|url| *url = hidden_query(url));
        for (_, value) in &mut self.headers {
            hide(value);
        }
        self.greeting.iter_mut().for_each(hide);
        self
    }
}

/// Hides a text that has no place to fill.
fn hide(template: &mut Template) {
    if !has_place(template.as_str()) {
        *template = literal(REDACTED);
    }
}

fn hidden_query(url: &Template) -> Template {
    let Some((base, query)) = url.as_str().split_once('?') else { return url.clone() };
    let parameters = query.split('&').map(|parameter| match parameter.split_once('=') {
        Some((name, value)) if !value.is_empty() && !has_place(value) => format!("{name}={REDACTED}"),
        None if !has_place(parameter) => REDACTED.to_owned(),
        _ => parameter.to_owned(),
    });
    literal(&format!("{base}?{}", parameters.collect::<Vec<_>>().join("&")))
}

/// Whether a text has a place to fill. Two fillings of it differ then.
fn has_place(text: &str) -> bool {
    let Ok(template) = Template::parse(text) else { return false };
    let filled = |text: &str, n: u64| {
        template.plain(&Values { key: text, keys: &[text], n, time_ms: n.cast_signed(), secret: text })
    };
    filled("a", 1) != filled("b", 2)
}

fn literal(text: &str) -> Template {
    Template::parse(text).unwrap_or_else(|_| Template::parse(REDACTED).expect("it has no places"))
}

fn ms(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// A count whose range is within 32 bits.
fn narrow(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
