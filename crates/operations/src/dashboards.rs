//! Dashboards in Grafana's classic form.
//!
//! One module a dashboard: it says which panels there are and what they mean. How a panel is written is `panel`'s, where
//! it stands and what is around it is `board`'s, and the form that Grafana reads is `model`'s. Expressions are written
//! short and spelt out by `query`, so that every one of them follows the variables at the top of the page.

mod board;
mod collaboration;
mod connections;
mod delivery;
#[cfg(test)]
mod lint;
mod model;
mod node;
mod panel;
mod query;
mod streaming;
mod upstreams;

use crate::Pack;

/// One dashboard, ready to be written.
#[derive(Debug, Clone)]
pub struct Dashboard {
    /// What it is called on the command line.
    pub name: &'static str,
    /// Its file; two have names that the requirement documents give (002, 003).
    pub file: &'static str,
    model: model::Dashboard,
}

/// What makes a dashboard.
struct Source {
    name: &'static str,
    file: &'static str,
    make: fn(&Pack) -> board::Board,
}

const SOURCES: [Source; 6] = [
    Source { name: "connections", file: "websocket-connections.json", make: connections::board },
    Source { name: "delivery", file: "events-and-delivery.json", make: delivery::board },
    Source { name: "collaboration", file: "grafana-websocket-dashboard.json", make: collaboration::board },
    Source { name: "upstreams", file: "grafana-dashboard.json", make: upstreams::board },
    Source { name: "streaming", file: "metrics-streaming.json", make: streaming::board },
    Source { name: "node", file: "node-and-runtime.json", make: node::board },
];

/// Every dashboard, in the order in which they are best read.
#[must_use]
pub fn all(pack: &Pack) -> Vec<Dashboard> {
    let make = |source: &Source| {
        let model = (source.make)(pack).into_model(pack);
        Dashboard { name: source.name, file: source.file, model }
    };
    SOURCES.iter().map(make).collect()
}

/// The names of all dashboards.
#[must_use]
pub fn names() -> Vec<&'static str> {
    SOURCES.iter().map(|source| source.name).collect()
}

impl Dashboard {
    /// Its title.
    #[must_use]
    pub fn title(&self) -> &str {
        self.model.title
    }

    /// The file's text: what Grafana imports and provisions.
    ///
    /// # Panics
    ///
    /// Never: nothing in it can fail to be written.
    #[must_use]
    pub fn to_json(&self) -> String {
        let text = serde_json::to_string_pretty(&self.model)
            .expect("a dashboard has no map with other keys than text");
        text + "\n"
    }
}
