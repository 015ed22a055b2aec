//! Panels: one function a kind.

mod kind;

use std::borrow::Cow;

use serde_json::{Value, json};

use super::model::{
    Chart, Color, DATASOURCE, Defaults, FieldConfig, Format, GridPos, Link, Override, Property, Setting,
    Step, Target, Thresholds,
};
use super::query::spelt_out;
use crate::{Levels, Pack};
use kind::Kind;

/// Whole-page width of Grafana's grid.
pub(super) const PAGE_WIDTH: u32 = 24;

pub(super) const GREEN: &str = "green";
pub(super) const YELLOW: &str = "yellow";
pub(super) const ORANGE: &str = "orange";
pub(super) const RED: &str = "red";
pub(super) const BLUE: &str = "blue";

/// Percentiles: what they are called, and the share of observations below.
pub(super) const P50: (&str, f64) = ("p50", 0.5);
pub(super) const P95: (&str, f64) = ("p95", 0.95);
pub(super) const P99: (&str, f64) = ("p99", 0.99);

/// Colours from values on, lowest first.
pub(super) type Bands = Vec<(f64, &'static str)>;

/// Anything but nothing.
pub(super) const ANY: [(f64, &str); 1] = [(f64::MIN_POSITIVE, RED)];

/// Bands of a limit of the settings: from its target, its warning and its critical value on, each times `scale`. None
/// where its rule is off, or counts things as shares of the most there may be.
pub(super) fn levels(limit: Option<Levels>, scale: f64) -> Bands {
    let bands = |levels: Levels| {
        let bands = [(levels.target, YELLOW), (levels.warning, ORANGE), (levels.critical, RED)];
        // A target of nothing at all: nothing is green.
        bands
            .into_iter()
            .filter(|(value, _)| *value > 0.0)
            .map(|(value, color)| (value * scale, color))
            .collect()
    };
    limit.filter(|levels| !levels.of_maximum).map(bands).unwrap_or_default()
}

/// Bands of a limit in percent, for a share from 0 to 1.
pub(super) fn shares(limit: Option<Levels>) -> Bands {
    levels(limit, 0.01)
}

/// Document 001's bands of latency unless the settings say otherwise: to 50 ms, to 100, to 500, and beyond.
pub(super) fn latency_milliseconds(pack: &Pack) -> Bands {
    levels(pack.limits.latency, 1.0)
}

/// The same in seconds.
pub(super) fn latency_seconds(pack: &Pack) -> Bands {
    levels(pack.limits.latency, 1e-3)
}

/// A panel that has no place yet.
#[derive(Debug, Clone)]
pub(super) struct Panel {
    kind: Kind,
    title: &'static str,
    unit: &'static str,
    description: &'static str,
    queries: Vec<Query>,
    bands: Bands,
    /// Whether the axis may begin below 0.
    negative: bool,
    /// The colour below the first band.
    base: &'static str,
    max: Option<f64>,
    stacked: bool,
    of_series: bool,
    logarithmic: bool,
    mappings: Vec<Value>,
    /// Names of lines that are limits rather than measurements.
    limits: Vec<&'static str>,
    look: Option<&'static str>,
    alerts: &'static [&'static str],
    width: u32,
    height: u32,
}

#[derive(Debug, Clone)]
struct Query {
    expression: Cow<'static, str>,
    legend: &'static str,
}

/// Lines over time.
pub(super) fn lines(title: &'static str, unit: &'static str, description: &'static str) -> Panel {
    Panel::new(Kind::Lines, title, unit, description).size(8, 8)
}

/// One number now, large, with its course behind it.
pub(super) fn number(title: &'static str, unit: &'static str, description: &'static str) -> Panel {
    Panel::new(Kind::Number, title, unit, description).size(4, 4)
}

/// A share of a whole, from 0 to 1.
pub(super) fn dial(title: &'static str, description: &'static str) -> Panel {
    let panel = Panel::new(Kind::Dial, title, "percentunit", description).size(4, 4);
    Panel { max: Some(1.0), ..panel }
}

/// How things are spread now: a bar for each bucket of a gauge histogram, or for each series.
pub(super) fn bars(title: &'static str, unit: &'static str, description: &'static str) -> Panel {
    Panel::new(Kind::Bars, title, unit, description).size(8, 8)
}

/// How observations were spread, over time: buckets from below to above, darker where there are more.
pub(super) fn heat(title: &'static str, unit: &'static str, description: &'static str) -> Panel {
    Panel::new(Kind::Heat, title, unit, description).size(8, 8)
}

/// One strip a series, coloured by its state.
pub(super) fn states(title: &'static str, unit: &'static str, description: &'static str) -> Panel {
    Panel::new(Kind::States, title, unit, description).size(PAGE_WIDTH, 5)
}

/// One row a series: its labels and its value now.
pub(super) fn rows(title: &'static str, unit: &'static str, description: &'static str) -> Panel {
    Panel::new(Kind::Rows, title, unit, description).size(12, 8)
}

impl Panel {
    fn new(kind: Kind, title: &'static str, unit: &'static str, description: &'static str) -> Panel {
        Panel {
            kind,
            title,
            unit,
            description,
            queries: Vec::new(),
            bands: Vec::new(),
            negative: false,
            base: GREEN,
            max: None,
            stacked: false,
            of_series: false,
            logarithmic: false,
            mappings: Vec::new(),
            limits: Vec::new(),
            look: None,
            alerts: &[],
            width: 0,
            height: 0,
        }
    }

    /// Asks for something more. In the legend, `{{label}}` is a label's value.
    pub(super) fn query(mut self, legend: &'static str, expression: impl Into<Cow<'static, str>>) -> Panel {
        self.queries.push(Query { expression: expression.into(), legend });
        self
    }

    /// Percentiles of what a histogram has observed, over all of its series.
    pub(super) fn percentiles(self, family: &str, percentiles: &[(&'static str, f64)]) -> Panel {
        percentiles.iter().fold(self, |panel, (legend, share)| {
            panel.query(
                legend,
                format!("histogram_quantile({share}, sum by (le) (rate({family}_bucket{{@}}[@])))"),
            )
        })
    }

    /// A line that is a limit: red and dashed.
    pub(super) fn limit(mut self, legend: &'static str, expression: impl Into<Cow<'static, str>>) -> Panel {
        self.limits.push(legend);
        self.query(legend, expression)
    }

    /// Colours by value; green below the first.
    pub(super) fn bands(self, bands: impl Into<Bands>) -> Panel {
        Panel { bands: bands.into(), ..self }
    }

    /// Another colour than green below the first band: where less is worse.
    pub(super) fn base(self, base: &'static str) -> Panel {
        Panel { base, ..self }
    }

    /// Areas on top of each other: parts of a whole.
    pub(super) fn stacked(self) -> Panel {
        Panel { stacked: true, ..self }
    }

    /// Bars that are series, rather than the buckets of one histogram.
    pub(super) fn of_series(self) -> Panel {
        Panel { of_series: true, ..self }
    }

    /// Values that may be below 0.
    pub(super) fn negative(self) -> Panel {
        Panel { negative: true, ..self }
    }

    /// A scale on which each step is ten times the one before.
    pub(super) fn logarithmic(self) -> Panel {
        Panel { logarithmic: true, ..self }
    }

    /// A word and a colour in place of a value.
    pub(super) fn word(mut self, value: &'static str, word: &'static str, color: &'static str) -> Panel {
        let options = json!({ value: { "text": word, "color": color, "index": self.mappings.len() } });
        self.mappings.push(json!({ "type": "value", "options": options }));
        self
    }

    /// Where the server's own dashboard shows who is to blame.
    pub(super) fn look(self, path: &'static str) -> Panel {
        Panel { look: Some(path), ..self }
    }

    /// The alerts whose quantity this panel shows.
    pub(super) fn alerts(self, alerts: &'static [&'static str]) -> Panel {
        Panel { alerts, ..self }
    }

    /// As high as the charts beside it.
    pub(super) fn tall(self) -> Panel {
        Panel { height: 8, ..self }
    }

    /// Width in 24ths of the page, and height.
    pub(super) fn size(self, width: u32, height: u32) -> Panel {
        Panel { width, height, ..self }
    }

    pub(super) fn width(&self) -> u32 {
        self.width
    }

    pub(super) fn height(&self) -> u32 {
        self.height
    }

    /// See [`Panel::alerts`].
    pub(super) fn its_alerts(&self) -> &'static [&'static str] {
        self.alerts
    }

    /// The panel at its place.
    pub(super) fn at(self, id: u32, grid_pos: GridPos, pack: &Pack) -> Chart {
        Chart {
            id,
            kind: self.kind.plugin(),
            title: self.title,
            description: self.text(),
            grid_pos,
            datasource: DATASOURCE,
            targets: self.targets(pack),
            links: self.look.map(on_the_server).into_iter().chain(self.runbooks(pack)).collect(),
            field_config: self.field_config(),
            options: self.kind.options(),
            transformations: self.kind.transformations(),
        }
    }

    fn text(&self) -> String {
        match self.alerts {
            [] => self.description.to_owned(),
            alerts => format!("{}\n\nAlerts: {}.", self.description, alerts.join(", ")),
        }
    }

    /// The pages about its alerts, once somebody has said where they are read.
    fn runbooks(&self, pack: &Pack) -> Vec<Link> {
        let known = pack.runbooks != Pack::default().runbooks;
        let page =
            |alert: &&str| elsewhere(format!("Runbook: {alert}"), format!("{}/{alert}.md", pack.runbooks));
        self.alerts.iter().filter(|_| known).map(page).collect()
    }

    fn targets(&self, pack: &Pack) -> Vec<Target> {
        let (buckets, instant) = self.kind.reads();
        let format = if self.of_series { Format::TimeSeries } else { buckets };
        let target = |(at, query): (usize, &Query)| Target {
            ref_id: char::from(b'A' + at as u8).to_string(),
            datasource: DATASOURCE,
            editor_mode: "code",
            expr: spelt_out(&query.expression, pack),
            legend_format: query.legend,
            format,
            range: !instant,
            instant,
        };
        self.queries.iter().enumerate().map(target).collect()
    }

    fn field_config(&self) -> FieldConfig {
        let first = Step { color: self.base, value: None };
        let steps = self.bands.iter().map(|&(value, color)| Step { color, value: Some(value) });
        let mode = match self.kind {
            Kind::Lines | Kind::Heat => "palette-classic",
            _ => "thresholds",
        };
        let defaults = Defaults {
            unit: self.unit,
            min: (!self.negative && !matches!(self.kind, Kind::Rows | Kind::States)).then_some(0.0),
            max: self.max,
            color: Color { mode },
            thresholds: Thresholds { mode: "absolute", steps: [first].into_iter().chain(steps).collect() },
            mappings: self.mappings.clone(),
            custom: self.custom(),
        };
        FieldConfig { defaults, overrides: self.limits.iter().copied().map(limit_line).collect() }
    }

    fn custom(&self) -> Option<Value> {
        match self.kind {
            Kind::Lines => {
                let fill = if self.stacked { 40 } else { 8 };
                let bands = if self.bands.is_empty() { "off" } else { "dashed" };
                let scale = if self.logarithmic {
                    json!({ "type": "log", "log": 10 })
                } else {
                    json!({ "type": "linear" })
                };
                Some(json!({
                    "drawStyle": "line",
                    "lineWidth": 1,
                    "fillOpacity": fill,
                    "showPoints": "never",
                    "spanNulls": false,
                    "stacking": { "mode": if self.stacked { "normal" } else { "none" }, "group": "A" },
                    "scaleDistribution": scale,
                    "thresholdsStyle": { "mode": bands },
                }))
            }
            Kind::States => Some(json!({ "fillOpacity": 80, "lineWidth": 0 })),
            _ => None,
        }
    }
}

fn limit_line(name: &'static str) -> Override {
    let fixed = json!({ "mode": "fixed", "fixedColor": RED });
    let dashes = json!({ "fill": "dash", "dash": [10, 10] });
    Override {
        matcher: Setting { id: "byName", options: json!(name) },
        properties: vec![
            Property { id: "color", value: fixed },
            Property { id: "custom.lineStyle", value: dashes },
            Property { id: "custom.fillOpacity", value: json!(0) },
        ],
    }
}

fn on_the_server(path: &'static str) -> Link {
    elsewhere("Who it is, in Pulsewire's own dashboard".to_owned(), format!("${{server}}{path}"))
}

fn elsewhere(title: String, url: String) -> Link {
    Link {
        title,
        kind: "link",
        icon: "external link",
        tooltip: "",
        tags: Vec::new(),
        url: Some(url),
        as_dropdown: false,
        include_vars: false,
        keep_time: false,
        target_blank: true,
    }
}
