//! What can be chosen at the top of a page.

use super::Tracks;
use crate::dashboards::model::{Choice, DATASOURCE, Variable, VariableQuery};

pub(super) fn variables(tracks: Tracks) -> Vec<Variable> {
    let within = r#"cluster=~"$cluster",namespace=~"$namespace""#;
    let mut list = vec![
        datasource(),
        anything(labels(
            "cluster",
            "Cluster",
            "The label `cluster`, if scrapes have one.",
            "pulsewire_build_info",
        )),
        anything(labels(
            "namespace",
            "Namespace",
            "The label `namespace`, if scrapes have one.",
            r#"pulsewire_build_info{cluster=~"$cluster"}"#,
        )),
        labels(
            "job",
            "Job",
            "Scrape jobs that found a Pulsewire.",
            &format!("pulsewire_build_info{{{within}}}"),
        ),
        labels(
            "instance",
            "Instance",
            "Servers, by the address they are scraped at.",
            &format!(r#"pulsewire_build_info{{{within},job=~"$job"}}"#),
        ),
    ];
    if tracks == Tracks::Apart {
        let metric = &format!(r#"pulsewire_build_info{{{within},job=~"$job"}}"#);
        list.push(anything(labels("track", "Track", "The label `track`: canary or stable.", metric)));
    }
    list.extend([quantile(), address()]);
    list
}

fn datasource() -> Variable {
    Variable {
        kind: "datasource",
        query: VariableQuery::Text("prometheus"),
        refresh: Some(1),
        ..plain("datasource", "Data source", "The Prometheus that scrapes the servers.")
    }
}

/// A variable whose values are those of the label with its name.
fn labels(name: &'static str, label: &'static str, description: &'static str, metric: &str) -> Variable {
    Variable {
        kind: "query",
        datasource: Some(DATASOURCE),
        query: VariableQuery::Labels {
            qry_type: 1,
            query: format!("label_values({metric}, {name})"),
            ref_id: "PrometheusVariableQueryEditor-VariableQuery",
        },
        current: Some(Choice { selected: true, text: "All", value: "$__all" }),
        include_all: true,
        multi: true,
        refresh: Some(2),
        sort: Some(1),
        ..plain(name, label, description)
    }
}

/// Lets series without the label through while nothing is chosen.
fn anything(variable: Variable) -> Variable {
    Variable { all_value: Some(".*"), ..variable }
}

fn quantile() -> Variable {
    let choice = |text: &'static str, value| Choice { selected: text == "p95", text, value };
    Variable {
        kind: "custom",
        query: VariableQuery::Text("p50 : 0.5, p90 : 0.9, p95 : 0.95, p99 : 0.99"),
        current: Some(choice("p95", "0.95")),
        options: vec![
            choice("p50", "0.5"),
            choice("p90", "0.9"),
            choice("p95", "0.95"),
            choice("p99", "0.99"),
        ],
        ..plain("quantile", "Quantile", "Of panels that compare kinds of things by one quantile.")
    }
}

fn address() -> Variable {
    let local = "http://localhost:8000";
    Variable {
        kind: "textbox",
        query: VariableQuery::Text(local),
        current: Some(Choice { selected: true, text: local, value: local }),
        ..plain(
            "server",
            "Pulsewire",
            "Where your browser reaches a server's own dashboard, for the links of panels.",
        )
    }
}

fn plain(name: &'static str, label: &'static str, description: &'static str) -> Variable {
    Variable {
        name,
        label,
        description,
        kind: "",
        datasource: None,
        query: VariableQuery::Text(""),
        current: None,
        options: Vec::new(),
        all_value: None,
        include_all: false,
        multi: false,
        refresh: None,
        sort: None,
    }
}
