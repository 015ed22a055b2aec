//! What an upstream is: how it is spoken to, and what its messages mean.

use std::path::PathBuf;

use super::template::{ChannelTemplate, Template};
use super::{Codec, Mapping};

/// One upstream, as the settings or an operator declare it.
#[derive(Debug, Clone, PartialEq)]
pub struct Upstream {
    /// Its name: 1 to 64 of `a-z`, `0-9`, `-` and `_`.
    pub name: Box<str>,
    /// Where it is: one URL, or two that feed the same channels. With `{key}`, each key has a stream of its own.
    pub urls: Vec<Template>,
    /// The channels it feeds: a name, or one with `{key}`.
    pub channel: ChannelTemplate,
    /// Keys that are always wanted.
    pub keys: Vec<Box<str>>,
    /// Whether its stream is open though nobody listens.
    pub always: bool,
    /// How long a stream stays open after its last subscriber has gone, milliseconds. Default 30 s.
    pub idle_ms: u64,
    /// Headers of the handshake. `{secret}` stands for what is in the file of the secret.
    pub headers: Vec<(Box<str>, Template)>,
    /// The file whose content, without white space around it, is `{secret}`. It is read for each attempt.
    pub secret_file: Option<PathBuf>,
    /// The subprotocol that is asked for and has to be agreed to (RFC 6455 §1.9).
    pub subprotocol: Option<Box<str>>,
    /// Who may vouch for its certificate, as PEM; the machine's authorities if there is none.
    pub ca_file: Option<PathBuf>,
    /// Whether it may be on loopback, in a private network or link-local.
    pub allow_private: bool,
    /// How long reaching it may take: the name, the connection, TLS and the handshake together. Default 10 s.
    pub connect_timeout_ms: u64,
    /// What is sent once it is connected, before keys are asked for.
    pub greeting: Vec<Template>,
    /// What asks for keys: once for all with `{keys}`, once for each with `{key}`.
    pub subscribe: Option<Template>,
    /// What asks no more.
    pub unsubscribe: Option<Template>,
    /// How a link that is open but dead is found.
    pub heartbeat: Heartbeat,
    /// When it is tried again.
    pub retry: Retry,
    /// What its messages mean.
    pub mapping: Mapping,
    /// The longest message, bytes; a longer one ends the link. Default 1 MiB.
    pub message_bytes_max: usize,
    /// How many messages of a stream are taken in a second; 0 means any. Default 10,000.
    pub messages_per_second: u32,
    /// What happens beyond.
    pub overflow: Overflow,
}

/// How a link that is open but dead is found. What is 0 is not done.
#[derive(Debug, Clone, PartialEq)]
pub struct Heartbeat {
    /// After so long without a byte from there a sign is asked for, milliseconds; without one in as long again the link
    /// is dead. Default 15 s.
    pub interval_ms: u64,
    /// What is sent to ask: a message; a ping (RFC 6455 §5.5.2) if there is none.
    pub message: Option<Template>,
    /// After so long without a message the stream is stale and the link is opened again, milliseconds. Default 0.
    pub silence_ms: u64,
}

impl Default for Heartbeat {
    fn default() -> Self {
        Self { interval_ms: 15_000, message: None, silence_ms: 0 }
    }
}

/// When a link that failed is tried again: after a random time up to `min · factorⁿ`, at most `max` (full jitter).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Retry {
    /// The first wait's most, milliseconds. Default 500.
    pub min_ms: u64,
    /// No wait is longer, milliseconds. Default 30 s.
    pub max_ms: u64,
    /// What waits grow by. Default 2.
    pub factor: f64,
    /// After so many failures in a row the stream has failed, until somebody restarts it; 0, the default: never.
    pub attempts_max: u32,
    /// A link that lived so long was well: the next wait is a first one again, milliseconds. Default 30 s.
    pub stable_ms: u64,
    /// After so many failures in a row, of all its streams, nobody tries an upstream for a while; 0: never. Default 10.
    pub circuit_failures: u32,
    /// How long that is, milliseconds; then one link tries. Default 30 s.
    pub circuit_ms: u64,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            min_ms: 500,
            max_ms: 30_000,
            factor: 2.0,
            attempts_max: 0,
            stable_ms: 30_000,
            circuit_failures: 10,
            circuit_ms: 30_000,
        }
    }
}

/// What happens to messages beyond what is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Overflow {
    /// They are dropped, and subscribers are told how many.
    #[default]
    Drop,
    /// They are not read until there is room: the upstream waits, and notices.
    Wait,
}

/// What of an upstream cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{field}`: {what}")]
pub struct SpecError {
    /// The field, as it is named in the settings.
    pub field: &'static str,
    /// What is wrong, and what would be right.
    pub what: String,
}

/// The longest name of an upstream.
const NAME_BYTES_MAX: usize = 64;
/// The most keys that one upstream always wants.
const KEYS_MAX: usize = 1_000;

impl Upstream {
    /// An upstream with the default of every field.
    #[must_use]
    pub fn new(name: &str, urls: Vec<Template>, channel: ChannelTemplate) -> Self {
        Self {
            name: name.into(),
            urls,
            channel,
            keys: Vec::new(),
            always: false,
            idle_ms: 30_000,
            headers: Vec::new(),
            secret_file: None,
            subprotocol: None,
            ca_file: None,
            allow_private: false,
            connect_timeout_ms: 10_000,
            greeting: Vec::new(),
            subscribe: None,
            unsubscribe: None,
            heartbeat: Heartbeat::default(),
            retry: Retry::default(),
            mapping: Mapping { codec: Codec::Json, ..Mapping::default() },
            message_bytes_max: 1 << 20,
            messages_per_second: 10_000,
            overflow: Overflow::default(),
        }
    }

    /// Whether each key has a stream of its own, because a URL or a header names it.
    #[must_use]
    pub fn apart(&self) -> bool {
        self.urls.iter().any(Template::names_key)
    }

    /// What does not fit together, if anything.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong.
    pub fn check(&self) -> Result<(), SpecError> {
        let wrong = |field, what: &str| Err(SpecError { field, what: what.to_owned() });
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
        if !(1..=NAME_BYTES_MAX).contains(&self.name.len()) || !self.name.bytes().all(plain) {
            return wrong("name", "expected 1 to 64 of a-z, 0-9, `-` and `_`");
        }
        if !(1..=2).contains(&self.urls.len()) {
            return wrong("urls", "expected one URL, or two that feed the same channels");
        }
        if self.urls.iter().any(Template::reads_message) {
            return wrong("urls", "a URL can name `{key}` and `{secret}`; there is no message to read yet");
        }
        let keyed = self.channel.has_key();
        if self.apart() && !keyed {
            return wrong("channel", "the URL names `{key}`, so the channel has to name it too");
        }
        if !keyed && !self.keys.is_empty() {
            return wrong("keys", "the channel names no `{key}`: there are no keys to want");
        }
        if self.keys.len() > KEYS_MAX {
            return wrong("keys", "at most 1,000 keys can be wanted always");
        }
        if let Some(key) = self.keys.iter().find(|key| self.channel.name(key).is_none()) {
            return wrong("keys", &format!("`{key}` makes no channel name"));
        }
        if self.always && keyed && self.keys.is_empty() {
            return wrong("keys", "`always` needs the keys that are wanted: the channel names `{key}`");
        }
        if keyed && !self.apart() && self.mapping.route.is_none() {
            return wrong("route", "several keys share a connection: say where a message names its own");
        }
        if self.urls.len() > 1 && self.mapping.sequence.is_none() {
            return wrong("sequence", "two URLs need a sequence, or everything would come twice");
        }
        let messages = self.greeting.iter().chain(&self.subscribe).chain(&self.unsubscribe);
        if messages.chain(&self.heartbeat.message).any(Template::reads_message) {
            return wrong("subscribe", "what is sent cannot name parts of a message that came");
        }
        let mapping = &self.mapping;
        let read = [
            ("route", &mapping.route),
            ("type", &mapping.event_type),
            ("key", &mapping.event_key),
            ("id", &mapping.id),
        ];
        if let Some((field, _)) = read
            .into_iter()
            .find(|(_, template)| template.as_ref().is_some_and(|template| !template.is_readable()))
        {
            return wrong(
                field,
                "what is read from a message can name `{key}` and places of it as `{/pointer}`",
            );
        }
        if mapping.sequence_first.is_some() && mapping.sequence.is_none() {
            return wrong(
                "sequence_first",
                "it is the first of the numbers whose last is `sequence`: name that, too",
            );
        }
        if self.retry.factor < 1.0 || self.retry.min_ms > self.retry.max_ms {
            return wrong("retry_max", "waits cannot shrink: expected `retry_min` up to `retry_max`");
        }
        if self.overflow == Overflow::Wait && self.messages_per_second == 0 {
            return wrong("overflow", "`wait` needs `messages_per_second`");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::Pointer;

    fn template(text: &str) -> Template {
        Template::parse(text).unwrap()
    }

    #[test]
    fn what_does_not_fit_together_is_named() {
        let keyed = || {
            let channel = ChannelTemplate::parse("upstream:t:{key}").unwrap();
            let mut upstream = Upstream::new("t", vec![template("wss://h/ws")], channel);
            upstream.mapping.route = Some(template("{/s}"));
            upstream
        };
        assert_eq!(keyed().check(), Ok(()));
        type Change = fn(&mut Upstream);
        let cases: [(&str, Change); 16] = [
            ("name", |it| it.name = "No".into()),
            ("urls", |it| it.urls.clear()),
            ("urls", |it| it.urls = vec![template("wss://h/{/s}")]),
            ("channel", |it| {
                it.urls = vec![template("wss://h/{key}")];
                it.channel = ChannelTemplate::parse("upstream:t").unwrap();
            }),
            ("keys", |it| it.keys = vec!["a b".into()]),
            ("keys", |it| it.keys = vec!["a".into(); 1_001]),
            ("keys", |it| it.always = true),
            ("route", |it| it.mapping.route = None),
            ("route", |it| it.mapping.route = Some(template("{/s}{n}"))),
            ("type", |it| it.mapping.event_type = Some(template("{secret}"))),
            ("sequence", |it| it.urls.push(template("wss://other/ws"))),
            ("sequence_first", |it| it.mapping.sequence_first = Some(Pointer::parse("/U").unwrap())),
            ("subscribe", |it| it.subscribe = Some(template("{/s}"))),
            ("retry_max", |it| it.retry.max_ms = 1),
            ("retry_max", |it| it.retry.factor = 0.5),
            ("overflow", |it| (it.overflow, it.messages_per_second) = (Overflow::Wait, 0)),
        ];
        for (field, change) in cases {
            let mut upstream = keyed();
            change(&mut upstream);
            assert_eq!(upstream.check().map_err(|error| error.field), Err(field), "{upstream:?}");
        }
    }
}
