//! What Grafana reads: its classic (v1) JSON, as far as these dashboards use it.
//!
//! Names and values are Grafana's (`deploy/checks` holds the written files to `@grafana/schema`). A field that a kind of
//! panel does not have is left out rather than set to nothing.

use serde::Serialize;

/// The newest version whose fields all Grafana releases from 10 on know; later ones migrate it when they load it.
pub(super) const SCHEMA_VERSION: u32 = 39;

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Dashboard {
    /// The first line of the file after the brace: what this is, and what wrote it.
    pub(super) description: String,
    pub(super) uid: &'static str,
    pub(super) title: &'static str,
    pub(super) tags: Vec<&'static str>,
    pub(super) schema_version: u32,
    pub(super) editable: bool,
    /// One crosshair over all panels.
    pub(super) graph_tooltip: u8,
    pub(super) refresh: &'static str,
    pub(super) time: TimeRange,
    pub(super) timezone: &'static str,
    pub(super) templating: List<Variable>,
    pub(super) annotations: List<Annotation>,
    pub(super) links: Vec<Link>,
    pub(super) panels: Vec<Panel>,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct TimeRange {
    pub(super) from: &'static str,
    pub(super) to: &'static str,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct List<T> {
    pub(super) list: Vec<T>,
}

#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Datasource {
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    pub(super) uid: &'static str,
}

/// Whatever Prometheus is chosen at the top of the page.
pub(super) const DATASOURCE: Datasource = Datasource { kind: "prometheus", uid: "${datasource}" };

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Variable {
    pub(super) name: &'static str,
    pub(super) label: &'static str,
    pub(super) description: &'static str,
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) datasource: Option<Datasource>,
    pub(super) query: VariableQuery,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) current: Option<Choice>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) options: Vec<Choice>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) all_value: Option<&'static str>,
    pub(super) include_all: bool,
    pub(super) multi: bool,
    /// 2: whenever the range of time changes, so that instances which are gone can still be chosen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) refresh: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sort: Option<u8>,
}

#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub(super) enum VariableQuery {
    Text(&'static str),
    #[serde(rename_all = "camelCase")]
    Labels {
        qry_type: u8,
        query: String,
        ref_id: &'static str,
    },
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct Choice {
    pub(super) selected: bool,
    pub(super) text: &'static str,
    pub(super) value: &'static str,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Annotation {
    pub(super) name: &'static str,
    pub(super) datasource: Datasource,
    pub(super) enable: bool,
    pub(super) icon_color: &'static str,
    pub(super) expr: String,
    pub(super) step: &'static str,
    pub(super) title_format: &'static str,
    pub(super) text_format: &'static str,
    pub(super) tag_keys: &'static str,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Link {
    pub(super) title: String,
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    pub(super) icon: &'static str,
    pub(super) tooltip: &'static str,
    pub(super) tags: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) url: Option<String>,
    pub(super) as_dropdown: bool,
    pub(super) include_vars: bool,
    pub(super) keep_time: bool,
    pub(super) target_blank: bool,
}

/// Place on a page that is 24 wide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct GridPos {
    pub(super) x: u32,
    pub(super) y: u32,
    pub(super) w: u32,
    pub(super) h: u32,
}

/// A panel, or a row with the panels that it hides while it is closed.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub(super) enum Panel {
    Row(Row),
    Chart(Box<Chart>),
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Row {
    pub(super) id: u32,
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    pub(super) title: &'static str,
    pub(super) collapsed: bool,
    pub(super) grid_pos: GridPos,
    pub(super) panels: Vec<Panel>,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Chart {
    pub(super) id: u32,
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    pub(super) title: &'static str,
    pub(super) description: String,
    pub(super) grid_pos: GridPos,
    pub(super) datasource: Datasource,
    pub(super) targets: Vec<Target>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) links: Vec<Link>,
    pub(super) field_config: FieldConfig,
    pub(super) options: serde_json::Value,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) transformations: Vec<Transformation>,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Target {
    pub(super) ref_id: String,
    pub(super) datasource: Datasource,
    pub(super) editor_mode: &'static str,
    pub(super) expr: String,
    pub(super) legend_format: &'static str,
    pub(super) format: Format,
    pub(super) range: bool,
    pub(super) instant: bool,
}

/// How Grafana reads an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Format {
    TimeSeries,
    /// Buckets: each becomes what it has beyond the one before.
    Heatmap,
    Table,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct FieldConfig {
    pub(super) defaults: Defaults,
    pub(super) overrides: Vec<Override>,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct Defaults {
    pub(super) unit: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) min: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) max: Option<f64>,
    pub(super) color: Color,
    pub(super) thresholds: Thresholds,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) mappings: Vec<serde_json::Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) custom: Option<serde_json::Value>,
}

#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Color {
    pub(super) mode: &'static str,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct Thresholds {
    pub(super) mode: &'static str,
    pub(super) steps: Vec<Step>,
}

/// From this value on, this colour; the first has no value and begins at the bottom.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Step {
    pub(super) color: &'static str,
    pub(super) value: Option<f64>,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct Override {
    pub(super) matcher: Setting,
    pub(super) properties: Vec<Property>,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct Setting {
    pub(super) id: &'static str,
    pub(super) options: serde_json::Value,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct Property {
    pub(super) id: &'static str,
    pub(super) value: serde_json::Value,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct Transformation {
    pub(super) id: &'static str,
    pub(super) options: serde_json::Value,
}
