//! A dashboard: rows of panels, each at its place, and what stands around them.

mod variables;

use std::collections::BTreeSet;

use super::model::{
    Annotation, DATASOURCE, Dashboard, GridPos, Link, List, Panel as Placed, Row as Header, SCHEMA_VERSION,
    TimeRange,
};
use super::panel::{ORANGE, PAGE_WIDTH, Panel, RED, states};
use crate::Pack;
use variables::variables;

/// What all dashboards of this pack are found by.
const TAG: &str = "pulsewire";
/// How often a page asks again (001-115a).
const REFRESH: &str = "30s";

/// A dashboard before its panels have places.
#[derive(Debug, Clone)]
pub(super) struct Board {
    pub(super) uid: &'static str,
    pub(super) title: &'static str,
    pub(super) description: &'static str,
    /// Whether `track` can be chosen: canary, stable.
    pub(super) tracks: Tracks,
    pub(super) rows: Vec<Row>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tracks {
    Together,
    Apart,
}

/// Panels under a heading.
#[derive(Debug, Clone)]
pub(super) struct Row {
    title: &'static str,
    /// A closed row asks for nothing until somebody opens it.
    closed: bool,
    panels: Vec<Panel>,
}

/// A row that is open when the page is.
pub(super) fn open(title: &'static str, panels: Vec<Panel>) -> Row {
    Row { title, closed: false, panels }
}

/// A row that is opened when it is needed.
pub(super) fn closed(title: &'static str, panels: Vec<Panel>) -> Row {
    Row { title, closed: true, panels }
}

impl Board {
    /// The form that Grafana reads.
    pub(super) fn into_model(self, pack: &Pack) -> Dashboard {
        let mut rows = self.rows;
        if let Some(states) = alert_states(&rows) {
            rows.insert(0, open("Alerts", vec![states]));
        }
        Dashboard {
            description: format!(
                "{} Written by code: `cargo xtask generate`, or for a server's own settings `pulsewire dashboards generate`.",
                self.description
            ),
            uid: self.uid,
            title: self.title,
            tags: vec![TAG],
            schema_version: SCHEMA_VERSION,
            editable: true,
            graph_tooltip: 1,
            refresh: REFRESH,
            time: TimeRange { from: "now-3h", to: "now" },
            timezone: "browser",
            templating: List { list: variables(self.tracks) },
            annotations: List { list: vec![firing()] },
            links: vec![others(), server()],
            panels: placed(rows, pack),
        }
    }
}

/// Which of the alerts that these panels explain there were, when, and for how long.
fn alert_states(rows: &[Row]) -> Option<Panel> {
    let names: BTreeSet<&str> =
        rows.iter().flat_map(|row| &row.panels).flat_map(Panel::its_alerts).copied().collect();
    if names.is_empty() {
        return None;
    }
    let names = names.into_iter().collect::<Vec<_>>().join("|");
    let state = |state: &str| {
        format!(
            "max by (alertname, severity, job, instance) (ALERTS{{alertstate=\"{state}\",{ANY_JOB},alertname=~\"{names}\"}})"
        )
    };
    let description = "The alerts that the panels below explain: pending, and firing. Each links to its page of the runbook. No \
                       strips: nothing is wrong, or no rules are loaded; `ALERTS` in Prometheus must at least name Watchdog.";
    let panel = states("Alert States", "short", description)
        .query(
            "{{alertname}} {{severity}} {{job}} {{instance}}",
            format!("{} * 2 or {}", state("firing"), state("pending")),
        )
        .word("1", "pending", ORANGE)
        .word("2", "firing", RED);
    Some(panel)
}

/// Panels from left to right, in lines as high as their highest.
fn placed(rows: Vec<Row>, pack: &Pack) -> Vec<Placed> {
    let mut place = Place { id: 0, x: 0, y: 0, line_height: 0 };
    let mut panels = Vec::new();
    for row in rows {
        let header = place.header();
        let id = place.id;
        let charts: Vec<Placed> = row.panels.into_iter().map(|panel| place.chart(panel, pack)).collect();
        place.line_ends();
        let (within, after) = if row.closed { (charts, Vec::new()) } else { (Vec::new(), charts) };
        panels.push(Placed::Row(Header {
            id,
            kind: "row",
            title: row.title,
            collapsed: row.closed,
            grid_pos: header,
            panels: within,
        }));
        panels.extend(after);
    }
    panels
}

/// Where the next panel goes, and the id of the last.
struct Place {
    id: u32,
    x: u32,
    y: u32,
    line_height: u32,
}

impl Place {
    fn header(&mut self) -> GridPos {
        self.id += 1;
        let at = GridPos { x: 0, y: self.y, w: PAGE_WIDTH, h: 1 };
        self.y += 1;
        at
    }

    fn chart(&mut self, panel: Panel, pack: &Pack) -> Placed {
        let (w, h) = (panel.width(), panel.height());
        if self.x + w > PAGE_WIDTH {
            self.line_ends();
        }
        self.id += 1;
        let at = GridPos { x: self.x, y: self.y, w, h };
        self.x += w;
        self.line_height = self.line_height.max(h);
        Placed::Chart(Box::new(panel.at(self.id, at, pack)))
    }

    fn line_ends(&mut self) {
        self.x = 0;
        self.y += self.line_height;
        self.line_height = 0;
    }
}

/// What the variables choose of alerts. An alert about a job that is gone has no label `job`.
const ANY_JOB: &str = r#"cluster=~"$cluster",namespace=~"$namespace",job=~"$job|""#;

fn firing() -> Annotation {
    Annotation {
        name: "Firing alerts",
        datasource: DATASOURCE,
        enable: true,
        icon_color: RED,
        expr: format!("ALERTS{{alertstate=\"firing\",{ANY_JOB},alertname!=\"Watchdog\"}}"),
        step: "30s",
        title_format: "{{alertname}}",
        text_format: "{{severity}} {{job}} {{instance}}",
        tag_keys: "severity,component",
    }
}

fn others() -> Link {
    Link {
        title: "Pulsewire".to_owned(),
        kind: "dashboards",
        icon: "external link",
        tooltip: "The other dashboards, for the same servers and time",
        tags: vec![TAG],
        url: None,
        as_dropdown: true,
        include_vars: true,
        keep_time: true,
        target_blank: false,
    }
}

fn server() -> Link {
    Link {
        title: "Pulsewire's own dashboard".to_owned(),
        kind: "link",
        icon: "bolt",
        tooltip: "Single connections, channels and events, which no metric names",
        tags: Vec::new(),
        url: Some("${server}/".to_owned()),
        as_dropdown: false,
        include_vars: false,
        keep_time: false,
        target_blank: true,
    }
}
