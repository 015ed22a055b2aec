//! Kinds of panels: Grafana's plugins, and how each is set up.

use serde_json::{Value, json};

use crate::dashboards::model::{Format, Transformation};

/// How a panel draws.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Lines,
    Number,
    Dial,
    Bars,
    Heat,
    States,
    Rows,
}

impl Kind {
    /// Grafana's name of it.
    pub(super) fn plugin(self) -> &'static str {
        match self {
            Kind::Lines => "timeseries",
            Kind::Number => "stat",
            Kind::Dial => "gauge",
            Kind::Bars => "bargauge",
            Kind::Heat => "heatmap",
            Kind::States => "state-timeline",
            Kind::Rows => "table",
        }
    }

    /// The form of the answer, and whether only the newest value counts.
    pub(super) fn reads(self) -> (Format, bool) {
        match self {
            Kind::Lines | Kind::Number | Kind::States => (Format::TimeSeries, false),
            Kind::Dial => (Format::TimeSeries, true),
            Kind::Bars => (Format::Heatmap, true),
            Kind::Heat => (Format::Heatmap, false),
            Kind::Rows => (Format::Table, true),
        }
    }

    /// What is set of all panels of the kind.
    pub(super) fn options(self) -> Value {
        let newest = json!({ "calcs": ["lastNotNull"], "fields": "", "values": false });
        match self {
            Kind::Lines => json!({
                "legend": { "displayMode": "list", "placement": "bottom", "showLegend": true, "calcs": [] },
                "tooltip": { "mode": "multi", "sort": "desc" },
            }),
            Kind::Number => json!({
                "reduceOptions": newest,
                "orientation": "auto",
                "textMode": "auto",
                "wideLayout": true,
                "colorMode": "value",
                "graphMode": "area",
                "justifyMode": "auto",
                "showPercentChange": false,
                "percentChangeColorMode": "standard",
            }),
            Kind::Dial => json!({
                "reduceOptions": newest,
                "orientation": "auto",
                "showThresholdLabels": false,
                "showThresholdMarkers": true,
                "sizing": "auto",
                "minVizWidth": 75,
                "minVizHeight": 75,
            }),
            Kind::Bars => json!({
                "reduceOptions": newest,
                "orientation": "horizontal",
                "displayMode": "gradient",
                "valueMode": "color",
                "namePlacement": "left",
                "showUnfilled": true,
                "sizing": "auto",
                "minVizWidth": 8,
                "minVizHeight": 12,
                "maxVizHeight": 300,
                "legend": { "displayMode": "list", "placement": "bottom", "showLegend": false, "calcs": [] },
            }),
            Kind::Heat => json!({
                "calculate": false,
                "cellGap": 1,
                "color": {
                    "mode": "scheme",
                    "scheme": "Oranges",
                    "scale": "exponential",
                    "exponent": 0.5,
                    "steps": 64,
                    "reverse": false,
                    "fill": "dark-orange",
                },
                "exemplars": { "color": "rgba(255,0,255,0.7)" },
                "filterValues": { "le": 1e-9 },
                "legend": { "show": true },
                "rowsFrame": { "layout": "auto" },
                "showValue": "never",
                "tooltip": { "mode": "single", "yHistogram": true, "showColorScale": false },
                "yAxis": { "axisPlacement": "left", "reverse": false },
            }),
            Kind::States => json!({
                "mergeValues": true,
                "showValue": "never",
                "alignValue": "left",
                "rowHeight": 0.9,
                "legend": { "displayMode": "list", "placement": "bottom", "showLegend": true, "calcs": [] },
                "tooltip": { "mode": "single", "sort": "none" },
            }),
            Kind::Rows => json!({
                "showHeader": true,
                "cellHeight": "sm",
            }),
        }
    }

    /// What is done with an answer before it is drawn.
    pub(super) fn transformations(self) -> Vec<Transformation> {
        match self {
            Kind::Rows => {
                let hidden = json!({ "Time": true, "__name__": true });
                vec![Transformation {
                    id: "organize",
                    options: json!({ "excludeByName": hidden, "indexByName": {}, "renameByName": {} }),
                }]
            }
            _ => Vec::new(),
        }
    }
}
