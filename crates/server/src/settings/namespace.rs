//! Namespaces: the settings that channels share.
//!
//! A channel belongs to the first namespace whose pattern matches its name; a channel that none
//! matches does not exist. The tables of the file come first, the shipped ones after them; a table
//! with the name of a shipped one replaces it.

use std::time::Duration;

use pulsewire_protocol::{ChannelName, ChannelPattern};

use super::{
    kind::{Choice, Count, Flag, Pattern, Size, Span, Text, Texts, words},
    table::section,
};

words! {
    /// What a channel promises about its events.
    ChannelKind "channel kind" {
        /// A total order with history and replay.
        Log = "log",
        /// Events for those who listen now; nothing is kept.
        Ephemeral = "ephemeral",
        /// Samples of numbers, rolled up.
        Metrics = "metrics",
        /// The latest value of each key.
        State = "state",
    }
}

words! {
    /// How well an acknowledged event is kept.
    Durability "durability" {
        /// On disk before it is acknowledged.
        Strict = "strict",
        /// Survives the end of the process, but perhaps not of the machine.
        Relaxed = "relaxed",
        /// In memory: gone when the server stops.
        Memory = "memory",
    }
}

words! {
    /// Who may publish to a namespace's channels, beside needing the grant.
    Publishers "publishers" {
        /// Everybody with the grant.
        Granted = "granted",
        /// Only the server itself.
        Server = "server",
    }
}

section! {
    /// Settings shared by the channels whose names match `pattern`. Tables are tried in their order.
    Namespace => Namespace "namespace." |namespace| *namespace;

    /// The name in errors, the documentation and metric labels.
    name: Text = "";
    /// The channels it holds: `*` stands for any run of characters.
    pattern: Pattern = "*";
    /// `log`, `ephemeral`, `metrics` or `state`.
    kind: Choice<ChannelKind> = "log";
    /// Events a log channel keeps; the oldest go first.
    history_max: Count = "1000", range("0", "1000000");
    /// Event types that are kept beyond `history_max` and replayed to late joiners.
    critical_types: Texts = "";
    /// Critical events a channel keeps; the oldest go first.
    critical_max: Count = "10000", range("0", "1000000");
    /// Critical events that are older are not kept; 0 keeps them.
    critical_ttl: Span = "0s", range("0s", "3650d");
    /// How well an acknowledged event of a log channel is kept: `strict`, `relaxed` or `memory`.
    durability: Choice<Durability> = "strict";
    /// Keys of a log channel's state: the newest event of each `key` is kept and sent to late joiners; 0 keeps no state, and in a state channel 10,000 keys.
    state_max: Count = "0", range("0", "1000000");
    /// Whether its channels have presence: who is there, and their cursors.
    presence: Flag = "false";
    /// How long a member whose connection broke stays, so that coming back is no news.
    presence_grace: Span = "5s", range("0s", "10m");
    /// How long a member whose connection shows no sign of life stays, where the heartbeat does not find out earlier.
    presence_ttl: Span = "15s", range("1s", "1h");
    /// Members of a channel; one more is answered `limit_exceeded`.
    presence_members_max: Count = "1000", range("1", "100000");
    /// The longest cursor, as JSON; a longer one is answered `too_large`.
    presence_cursor_max: Size = "1KiB", range("16B", "16KiB");
    /// The shortest time between two tellings of who is there in a channel; cursors that change faster are merged.
    presence_interval: Span = "100ms", range("10ms", "1m");
    /// How often a metric channel is expected to say something; after three of these in silence its subscribers are told `stale`.
    interval: Span = "5s", range("100ms", "1d");
    /// Whether a connection without a token may subscribe.
    anonymous: Flag = "false";
    /// Who may publish: `granted` or `server`.
    publish: Choice<Publishers> = "granted";
}

/// The name of the namespace that holds the server's own channels.
pub(super) const SYSTEM: &str = "sys";

impl Namespace {
    fn shipped(name: &str, pattern: &str, kind: ChannelKind) -> Self {
        let pattern = ChannelPattern::parse(pattern).expect("a shipped pattern is a pattern");
        Self { name: name.to_owned(), pattern, kind, ..Self::default() }
    }

    /// The server's own channels, which are tried before all others and cannot be replaced.
    #[must_use]
    pub fn system() -> Self {
        Self { publish: Publishers::Server, ..Self::shipped(SYSTEM, "$sys.*", ChannelKind::Ephemeral) }
    }

    /// The namespaces every server has. `--dev` adds `demo:*` (ephemeral) and `demo` (log).
    #[must_use]
    pub fn defaults(dev: bool) -> Vec<Self> {
        let critical = ["GRAFT", "PRUNE", "FLAG"].map(str::to_owned).to_vec();
        let mut all = vec![
            Self::system(),
            Self {
                critical_types: critical,
                state_max: 1_000,
                presence: true,
                ..Self::shipped("run", "run:*", ChannelKind::Log)
            },
            Self::shipped("project", "project:*", ChannelKind::Log),
            Self { state_max: 10_000, ..Self::shipped("workspace", "workspace", ChannelKind::Log) },
            Self {
                interval: Duration::from_secs(1),
                ..Self::shipped("system", "system.metrics", ChannelKind::Metrics)
            },
            Self::shipped("metrics", "*.metrics", ChannelKind::Metrics),
            Self::shipped("upstream", "upstream:*", ChannelKind::Ephemeral),
        ];
        if dev {
            all.push(Self::shipped("demo-live", "demo:*", ChannelKind::Ephemeral));
            all.push(Self::shipped("demo", "demo", ChannelKind::Log));
        }
        all
    }
}

/// The namespace that holds `channel`: the first whose pattern matches.
#[must_use]
pub fn namespace_of<'a>(namespaces: &'a [Namespace], channel: &ChannelName) -> Option<&'a Namespace> {
    namespaces.iter().find(|namespace| namespace.pattern.matches(channel))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_namespaces_hold_the_channels_of_the_documents() {
        let table = [
            ("run:42", Some("run")),
            ("project:7", Some("project")),
            ("workspace", Some("workspace")),
            ("system.metrics", Some("system")),
            ("agent.metrics", Some("metrics")),
            ("upstream:orders", Some("upstream")),
            ("$sys.metrics", Some("sys")),
            ("demo", Some("demo")),
            ("demo:cursors", Some("demo-live")),
            ("workspaces", None),
        ];
        let namespaces = Namespace::defaults(true);
        for (channel, name) in table {
            let channel = ChannelName::parse(channel).unwrap();
            assert_eq!(namespace_of(&namespaces, &channel).map(|it| it.name.as_str()), name, "{channel}");
        }
        assert_eq!(Namespace::defaults(false).len(), 7);
    }
}
