//! Which nodes an operator asks: all, or the one that is named.
//!
//! Without a cluster there is one node, and nothing that follows from there being others is in an answer.

use std::sync::Arc;

use pulsewire_edge::clock;
use pulsewire_protocol::ErrorCode;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::questions::PATIENCE;
use crate::app::App;
use crate::http::problem::Problem;

/// Which nodes are asked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Which {
    /// All.
    #[default]
    All,
    /// The one that was asked.
    Own,
    /// This other one.
    One(Box<str>),
}

/// What other nodes said.
#[derive(Debug)]
pub struct Elsewhere<T> {
    /// By node.
    pub answers: Vec<(Box<str>, T)>,
    /// Who has not answered in time; `None` without a cluster.
    pub missing: Option<Vec<Box<str>>>,
}

impl Which {
    /// Whether the node that was asked is among them.
    #[must_use]
    pub fn includes_own(&self) -> bool {
        !matches!(self, Self::One(_))
    }
}

/// A node by what it is called, out of pairs of id and name; the first is the one that is asked.
fn find(nodes: &[(Box<str>, Box<str>)], text: &str) -> Result<Which, Problem> {
    let which = |at: usize| if at == 0 { Which::Own } else { Which::One(nodes[at].0.clone()) };
    if text == "self" {
        return Ok(Which::Own);
    }
    if let Some(at) = nodes.iter().position(|(id, _)| **id == *text) {
        return Ok(which(at));
    }
    let named: Vec<usize> = (0..nodes.len()).filter(|at| *nodes[*at].1 == *text).collect();
    let list = |places: &mut dyn Iterator<Item = usize>| {
        let shown = places.map(|at| match (&*nodes[at].0, &*nodes[at].1) {
            (id, "") => id.to_owned(),
            (id, name) => format!("{id} ({name})"),
        });
        shown.collect::<Vec<_>>().join(", ")
    };
    match *named.as_slice() {
        [at] => Ok(which(at)),
        [] => {
            let there_are = list(&mut (0..nodes.len()));
            let detail = format!("there is no node `{text}`; there are {there_are}");
            Err(Problem::new(ErrorCode::NotFound, detail))
        }
        _ => {
            let called_so = list(&mut named.into_iter());
            let detail = format!("several nodes are called `{text}`; name one by its id: {called_so}");
            Err(Problem::new(ErrorCode::Conflict, detail))
        }
    }
}

impl App {
    /// The nodes that are meant by an id, a name or `self`; all if nothing is said.
    ///
    /// # Errors
    ///
    /// `not_found` with the nodes there are, `conflict` if several have the name.
    pub fn which_nodes(&self, text: Option<&str>) -> Result<Which, Problem> {
        let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(Which::All) };
        let mut nodes: Vec<(Box<str>, Box<str>)> = vec![(self.node.as_ref().into(), self.node_name.clone())];
        if let Some(cluster) = &self.cluster {
            let others = cluster.nodes.lock().others(clock::now());
            let name = |row: &crate::watch::Row| row["name"].as_str().unwrap_or_default().into();
            nodes.extend(others.into_iter().map(|(id, shown)| {
                let name = if shown.row.contains_key("name") { name(&shown.row) } else { "".into() };
                (id, name)
            }));
        }
        find(&nodes, text)
    }

    /// Asks those of them that are not this one. An answer that this version cannot read counts as none.
    pub async fn ask_nodes<T: DeserializeOwned>(
        self: &Arc<Self>,
        which: &Which,
        what: &str,
        body: &impl Serialize,
    ) -> Elsewhere<T> {
        let Some(cluster) = &self.cluster else { return Elsewhere { answers: Vec::new(), missing: None } };
        let one;
        let nodes = match which {
            Which::Own => return Elsewhere { answers: Vec::new(), missing: Some(Vec::new()) },
            Which::All => None,
            Which::One(node) => {
                one = [node.clone()];
                Some(&one[..])
            }
        };
        let asked = cluster.ask(what, body, nodes, PATIENCE).await;
        let mut missing = asked.missing;
        let mut answers = Vec::with_capacity(asked.answers.len());
        for (node, answer) in asked.answers {
            match serde_json::from_str(answer.get()) {
                Ok(answer) => answers.push((node, answer)),
                Err(error) => {
                    tracing::debug!(%error, node = &*node, what, "an answer of another node cannot be read");
                    missing.push(node);
                }
            }
        }
        Elsewhere { answers, missing: Some(missing) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<Which, &str>) {
        let nodes = [("aa", "one"), ("bb", "two"), ("cc", "same"), ("dd", "same"), ("ee", "")];
        let nodes = nodes.map(|(id, name)| (id.into(), name.into()));
        let found = find(&nodes, text).map_err(|problem| problem.detail);
        assert_eq!(found, expected.map_err(str::to_owned), "{text}");
    }

    #[test]
    fn a_node_is_named_by_its_id_or_by_a_name_that_only_it_has() {
        check("self", Ok(Which::Own));
        check("aa", Ok(Which::Own));
        check("one", Ok(Which::Own));
        check("bb", Ok(Which::One("bb".into())));
        check("two", Ok(Which::One("bb".into())));
        check("dd", Ok(Which::One("dd".into())));
        let both = "several nodes are called `same`; name one by its id: cc (same), dd (same)";
        check("same", Err(both));
        let all = "there is no node `x`; there are aa (one), bb (two), cc (same), dd (same), ee";
        check("x", Err(all));
    }
}
