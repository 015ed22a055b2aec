//! The views of `top`: what each asks for, and how it may be sorted.

use super::super::admin::{escaped, target};
use super::super::list::Column;
use super::super::list::columns::{ACTIVE, ALERTS, CHANNELS, ERRORS, NODES, STREAMS};

/// A table of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum View {
    /// Who is connected, worst first.
    #[default]
    Connections,
    /// Which channels there are.
    Channels,
    /// The streams to other servers.
    Upstreams,
    /// What went wrong, by kind.
    Errors,
    /// What the server thinks of itself.
    Alerts,
    /// The nodes.
    Nodes,
}

impl View {
    /// In the order of their keys, from 1.
    pub(super) const ALL: [View; 6] =
        [View::Connections, View::Channels, View::Upstreams, View::Errors, View::Alerts, View::Nodes];

    pub(super) fn name(self) -> &'static str {
        match self {
            View::Connections => "connections",
            View::Channels => "channels",
            View::Upstreams => "upstreams",
            View::Errors => "errors",
            View::Alerts => "alerts",
            View::Nodes => "nodes",
        }
    }

    pub(super) fn columns(self) -> &'static [Column] {
        match self {
            View::Connections => ACTIVE,
            View::Channels => CHANNELS,
            View::Errors => ERRORS,
            View::Alerts => ALERTS,
            View::Nodes => NODES,
            View::Upstreams => STREAMS,
        }
    }

    /// The orders that `s` goes through; the server knows no others for the rest.
    pub(super) fn sorts(self) -> &'static [&'static str] {
        match self {
            View::Connections => {
                &["score", "-queue", "-latency", "-rtt", "-delivery", "-reconnects", "-sent", "-age", "user"]
            }
            View::Channels => &["-subscribers", "-rate", "-bytes", "-head", "name"],
            View::Upstreams => &[
                "-trouble",
                "-listeners",
                "-rate",
                "-retries",
                "-errors",
                "-dropped",
                "-missing",
                "-idle",
                "upstream",
            ],
            View::Errors | View::Alerts | View::Nodes => &[],
        }
    }

    /// Where one row can be looked at by itself.
    pub(super) fn detail(self, id: &str) -> Option<String> {
        match self {
            View::Connections | View::Channels => {
                Some(format!("/api/admin/{}/{}", self.name(), escaped(id, '%')))
            }
            _ => None,
        }
    }
}

/// The most rows that are asked for, which is the most a list has.
const ROWS_MAX: u32 = 200;

/// What is asked for: a view, its order, and what is left out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Wanted {
    pub(super) view: View,
    /// As the server takes it; the view's own order if none.
    pub(super) sort: Option<String>,
    pub(super) filter: String,
}

impl Wanted {
    pub(super) fn new(sort: Option<String>, filter: Option<String>) -> Wanted {
        Wanted { view: View::Connections, sort, filter: filter.unwrap_or_default() }
    }

    /// The order in force.
    pub(super) fn order(&self) -> &str {
        self.sort.as_deref().or(self.view.sorts().first().copied()).unwrap_or("")
    }

    /// The next order of the view.
    pub(super) fn next_sort(&mut self) {
        let sorts = self.view.sorts();
        let at = sorts
            .iter()
            .position(|sort| sort.trim_start_matches('-') == self.order().trim_start_matches('-'));
        let next = at.map_or(0, |at| (at + 1) % sorts.len().max(1));
        self.sort = sorts.get(next).map(|sort| (*sort).to_owned());
    }

    /// The other way round.
    pub(super) fn reverse(&mut self) {
        let order = self.order().to_owned();
        if !order.is_empty() {
            self.sort = Some(order.strip_prefix('-').map_or_else(|| format!("-{order}"), str::to_owned));
        }
    }

    fn parameters(&self) -> Vec<(&'static str, Option<String>)> {
        if self.view.sorts().is_empty() {
            return Vec::new();
        }
        let filter = Some(self.filter.clone()).filter(|filter| !filter.is_empty());
        vec![("filter", filter), ("sort", self.sort.clone()), ("limit", Some(ROWS_MAX.to_string()))]
    }

    /// Where it is asked for.
    pub(super) fn path(&self) -> String {
        target(&format!("/api/admin/{}", self.view.name()), &self.parameters())
    }

    /// The channel that tells of it.
    pub(super) fn channel(&self) -> String {
        let query: Vec<String> = self
            .parameters()
            .into_iter()
            .filter_map(|(name, value)| Some(format!("{name}={}", escaped(&value?, '~'))))
            .collect();
        let name = self.view.name();
        if query.is_empty() { format!("$sys.{name}") } else { format!("$sys.{name}:{}", query.join("+")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_the_same_over_http_and_as_a_channel() {
        let mut wanted = Wanted::new(Some("-queue".to_owned()), Some("rtt>200 user:a".to_owned()));
        assert_eq!(wanted.path(), "/api/admin/connections?filter=rtt%3E200%20user:a&sort=-queue&limit=200");
        assert_eq!(wanted.channel(), "$sys.connections:filter=rtt~3E200~20user:a+sort=-queue+limit=200");
        wanted.view = View::Alerts;
        assert_eq!(wanted.path(), "/api/admin/alerts");
        assert_eq!(wanted.channel(), "$sys.alerts");
        wanted.view = View::Upstreams;
        (wanted.sort, wanted.filter) = (Some("-errors".to_owned()), String::new());
        assert_eq!(wanted.path(), "/api/admin/upstreams?sort=-errors&limit=200");
        assert_eq!(wanted.channel(), "$sys.upstreams:sort=-errors+limit=200");
    }

    #[test]
    fn orders_go_round_and_turn_round() {
        let mut wanted = Wanted::default();
        assert_eq!(wanted.order(), "score");
        wanted.next_sort();
        assert_eq!(wanted.order(), "-queue");
        wanted.reverse();
        assert_eq!(wanted.order(), "queue");
        wanted.next_sort();
        assert_eq!(wanted.order(), "-latency");
        for _ in 0..View::Connections.sorts().len() {
            wanted.next_sort();
        }
        assert_eq!(wanted.order(), "-latency");
    }
}
