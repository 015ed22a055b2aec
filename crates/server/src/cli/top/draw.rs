//! How `top` looks: header, tiles, trends, and the table of the view.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Sparkline};
use serde_json::Value;

use super::super::list::{self, lasting};
use super::super::number::{Unit, number_text};
use super::super::screen::printable;
use super::super::stat::figure_text;
use super::sheet;
use super::state::{Over, State};
use super::trend::Trend;
use super::view::View;

/// Lines above the table: header, figures, tiles, trends with their titles, and the views.
const ABOVE: u16 = 7;
/// A terminal with fewer lines shows no trends.
const TRENDS_FROM: u16 = 16;

/// Rows of the table on a terminal of that many lines.
pub(super) fn table_height(lines: u16) -> usize {
    let above = if lines < TRENDS_FROM { ABOVE - 3 } else { ABOVE };
    usize::from(lines.saturating_sub(above + 2))
}

pub(super) fn draw(frame: &mut Frame<'_>, state: &State) {
    let area = frame.area();
    let trends = if area.height < TRENDS_FROM { 0 } else { 3 };
    let [header, figures, tiles, bars, views, table, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Length(trends),
        Constraint::Length(1),
        Constraint::Min(1),
        Constraint::Length(1),
    ])
    .areas(area);
    frame.render_widget(Paragraph::new(node(state)), header);
    frame.render_widget(Paragraph::new(summary(state)), figures);
    frame.render_widget(Paragraph::new(judged(&state.overview)), tiles);
    if trends > 0 {
        let halves: [Rect; 2] =
            Layout::horizontal([Constraint::Percentage(50), Constraint::Percentage(50)]).areas(bars);
        trend(frame, halves[0], "latency p95", &state.latency, Unit::Milliseconds);
        trend(frame, halves[1], "messages out/s", &state.throughput, Unit::Plain);
    }
    frame.render_widget(Paragraph::new(tabs(state)), views);
    frame.render_widget(Paragraph::new(rows(state, table.width, table.height)), table);
    frame.render_widget(Paragraph::new(bottom(state)), foot);
    sheet::over(frame, area, state);
}

fn bold(text: impl Into<String>) -> Span<'static> {
    Span::styled(text.into(), Style::new().add_modifier(Modifier::BOLD))
}

fn dim(text: impl Into<String>) -> Span<'static> {
    Span::styled(text.into(), Style::new().add_modifier(Modifier::DIM))
}

/// The colour of a word that judges; the word says the same without it.
fn judgement(word: &str) -> Style {
    match word {
        "critical" | "unhealthy" | "firing" => Style::new().fg(Color::Red).add_modifier(Modifier::BOLD),
        "warning" | "degraded" | "pending" => Style::new().fg(Color::Yellow).add_modifier(Modifier::BOLD),
        "target" | "healthy" => Style::new().fg(Color::Green),
        _ => Style::new(),
    }
}

fn node(state: &State) -> Line<'static> {
    let overview = &state.overview;
    if overview.is_null() {
        return Line::from(vec![bold("pulsewire top"), dim("  waiting for the server")]);
    }
    let word = |value: &Value| printable(value.as_str().unwrap_or("-"));
    let node = &overview["node"];
    let status = word(&overview["status"]);
    let mut spans = vec![
        bold("pulsewire top"),
        Span::raw(format!(
            "  node {} {}  up {}  ",
            word(&node["id"]),
            word(&node["version"]),
            lasting(node["uptimeSeconds"].as_u64().unwrap_or(0))
        )),
        Span::styled(status.clone(), judgement(&status)),
    ];
    let firing = overview["firing"].as_array().map_or(0, Vec::len);
    if firing > 0 {
        spans.push(Span::styled(format!("  {firing} firing"), judgement("firing")));
    }
    let reasons: Vec<String> = overview["reasons"].as_array().into_iter().flatten().map(word).collect();
    if !reasons.is_empty() {
        spans.push(Span::raw(format!(": {}", reasons.join("; "))));
    }
    Line::from(spans)
}

fn summary(state: &State) -> Line<'static> {
    let text = |figure: &str, unit| figure_text(&state.overview, figure, unit);
    let parts = [
        (
            "conns ",
            format!(
                "{} (peak {})",
                text("connections.active", Unit::Plain),
                number_text(state.peak, Unit::Plain)
            ),
        ),
        ("in ", format!("{}/s", text("messages.in", Unit::Plain))),
        ("out ", format!("{}/s", text("messages.out", Unit::Plain))),
        ("p50 ", text("latency.p50", Unit::Plain)),
        ("p95 ", text("latency.p95", Unit::Plain)),
        ("p99 ", format!("{} ms", text("latency.p99", Unit::Plain))),
        ("cpu ", text("cpu.process", Unit::Percent)),
        ("", text("memory.rss", Unit::Bytes)),
        ("", format!("{}/conn", text("memory.per_connection", Unit::Bytes))),
    ];
    Line::from(
        parts
            .into_iter()
            .flat_map(|(name, value)| [dim(name), Span::raw(format!("{value} "))])
            .collect::<Vec<_>>(),
    )
}

/// The tiles as words.
fn judged(overview: &Value) -> Line<'static> {
    let mut spans = Vec::new();
    for tile in overview["tiles"].as_array().into_iter().flatten() {
        let state = tile["state"].as_str().unwrap_or("none").to_owned();
        let shown = if state == "none" { "-".to_owned() } else { state.clone() };
        spans.push(dim(format!("{} ", printable(tile["id"].as_str().unwrap_or("-")))));
        spans.push(Span::styled(format!("{shown}  "), judgement(&state)));
    }
    Line::from(spans)
}

fn trend(frame: &mut Frame<'_>, area: Rect, title: &str, trend: &Trend, unit: Unit) {
    let [heading, bars] = Layout::vertical([Constraint::Length(1), Constraint::Length(2)]).areas(area);
    let most = number_text(trend.max(), unit);
    frame.render_widget(Paragraph::new(Line::from(vec![dim(format!("{title}, at most {most}"))])), heading);
    let width = usize::from(bars.width.saturating_sub(2));
    frame.render_widget(Sparkline::default().data(trend.bars(width)).max(1_000), bars);
}

fn tabs(state: &State) -> Line<'static> {
    let mut spans = Vec::new();
    for (index, view) in View::ALL.into_iter().enumerate() {
        let name = format!("{} {}", index + 1, view.name());
        spans.push(if view == state.wanted.view {
            bold(format!("[{name}]"))
        } else {
            dim(format!(" {name} "))
        });
    }
    let mut said = String::new();
    if !state.wanted.order().is_empty() {
        said.push_str(&format!("  by {}", state.wanted.order()));
    }
    if !state.wanted.filter.is_empty() {
        said.push_str(&format!("  where {}", state.wanted.filter));
    }
    if state.paused {
        said.push_str("  PAUSED");
    }
    spans.push(Span::raw(said));
    Line::from(spans)
}

fn rows(state: &State, width: u16, height: u16) -> Vec<Line<'static>> {
    let view = state.wanted.view;
    if state.document.is_null() {
        return vec![dim("waiting for the server").into()];
    }
    let all = list::rows(&state.document);
    if all.is_empty() {
        return vec![Line::raw(empty(state))];
    }
    // Widths go by all rows, so that columns do not move while one scrolls.
    let lines = list::table(all, view.columns(), list::at(&state.document), Some(usize::from(width)));
    let mut lines = lines.into_iter();
    let heading = lines.next().map(|heading| Line::from(vec![bold(heading)]));
    let shown = usize::from(height.saturating_sub(1));
    let seen = lines.enumerate().skip(state.first).take(shown).map(|(index, line)| {
        if index == state.selected {
            let padded = format!("{line:width$}", width = usize::from(width));
            return Line::styled(padded, Style::new().add_modifier(Modifier::REVERSED));
        }
        Line::raw(line)
    });
    heading.into_iter().chain(seen).collect()
}

fn empty(state: &State) -> String {
    match state.wanted.view {
        _ if !state.wanted.filter.is_empty() => {
            format!("none of {} matches; Esc shows all", state.document["total"])
        }
        View::Connections => "nobody is connected; `pulsewire tail demo` would be the first".to_owned(),
        View::Upstreams => match state.document["declaredTotal"].as_u64().unwrap_or(0) {
            0 => "no upstream is declared: `[[upstream]]` in the settings declares one".to_owned(),
            declared => format!("no stream is open; declared: {declared}"),
        },
        View::Errors => "nothing went wrong".to_owned(),
        view => format!("no {}", view.name()),
    }
}

fn bottom(state: &State) -> Line<'static> {
    if let Over::Filter(text) = &state.over {
        return Line::from(vec![
            bold("filter: "),
            Span::raw(text.clone()),
            Span::raw("▏"),
            dim("  user:ann* queue>64k -state:detached"),
        ]);
    }
    if !state.note.is_empty() {
        return Line::styled(printable(&state.note), judgement("warning"));
    }
    let rest = list::rest(&state.document, state.wanted.view.columns())
        .map_or_else(String::new, |rest| format!("{rest}   "));
    dim(format!("{rest}? keys  / filter  s sort  Enter details  q leave")).into()
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use serde_json::json;

    use super::super::view::Wanted;
    use super::*;

    fn shown(state: &State, width: u16, height: u16) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, state)).unwrap();
        let text = terminal.backend().to_string();
        text.lines().map(|line| line.trim_matches('"').trim_end().to_owned()).collect()
    }

    fn state() -> State {
        let mut state = State::new(Wanted::default());
        state.remember(&json!({"figures": {"latency.p95": [1.0, 2.0, 4.0], "messages.out": [10.0, 5.0, 0.0], "connections.active": [5_012]}}));
        state.overview(json!({
            "status": "degraded", "reasons": ["latency is critical"], "firing": [{}],
            "node": {"id": "a1b2c3", "version": "0.1.0", "uptimeSeconds": 512},
            "tiles": [{"id": "connections", "state": "target"}, {"id": "latency", "state": "critical"}, {"id": "auth", "state": "none"}],
            "figures": {"connections.active": 4_812, "messages.in": 120.5, "messages.out": 12_000, "latency.p50": 1.0, "latency.p95": 3.2,
                "latency.p99": 14.0, "cpu.process": 71.0, "memory.rss": 123_000_000, "memory.per_connection": 1_900}
        }));
        state.list(json!({"at": "2026-11-22T02:00:00Z", "total": 4_812, "matched": 4_812, "rows": [
            {"id": "01JA", "userId": "alice", "state": "slow", "score": 35, "cause": "client_not_reading", "queuedBytes": 812_000, "connectedAt": "2026-11-22T01:59:00Z"},
            {"id": "01JB", "userId": "b\u{1b}[2Job", "state": "connected", "score": 100, "cause": "healthy", "queuedBytes": 0, "connectedAt": "2026-11-22T01:00:00Z"},
        ]}));
        state
    }

    #[test]
    fn the_first_screen_says_how_it_goes_and_who_is_worst() {
        let lines = shown(&state(), 110, 24);
        assert_eq!(
            lines[0],
            "pulsewire top  node a1b2c3 0.1.0  up 8m 32s  degraded  1 firing: latency is critical"
        );
        assert_eq!(
            lines[1],
            "conns 4.81k (peak 5.01k) in 120/s out 12.0k/s p50 1 p95 3.20 p99 14 ms cpu 71.0% 117 MiB 1.86 KiB/conn"
        );
        assert_eq!(lines[2], "connections target  latency critical  auth -");
        assert!(
            lines[3].contains("latency p95, at most 4.00 ms")
                && lines[3].contains("messages out/s, at most 12.0k"),
            "{lines:#?}"
        );
        assert!(lines[4].contains('█') || lines[5].contains('█'), "{lines:#?}");
        assert!(
            lines[6].starts_with(
                "[1 connections] 2 channels  3 upstreams  4 errors  5 alerts  6 nodes   by score"
            ),
            "{lines:#?}"
        );
        assert!(lines[7].starts_with("SCORE  USER"), "{lines:#?}");
        assert!(
            lines[8].contains("alice")
                && lines[8].contains("client_not_reading")
                && lines[8].contains("793 KiB")
        );
        assert!(lines[9].contains("b [2Job"), "a name moves no cursor: {lines:#?}");
        assert!(lines[23].contains("2 of 4812") && lines[23].contains("q leave"), "{lines:#?}");
    }

    #[test]
    fn a_small_terminal_shows_the_table_first() {
        let lines = shown(&state(), 40, 10);
        assert!(lines.iter().any(|line| line.contains("alice")), "{lines:#?}");
        assert_eq!(table_height(10), 4);
        assert_eq!(table_height(24), 15);
        shown(&state(), 1, 1);
    }

    #[test]
    fn what_lies_over_the_table_can_be_read() {
        let mut state = state();
        state.over = Over::Confirm("01JA".to_owned(), "alice".to_owned());
        let lines = shown(&state, 110, 24).join("\n");
        assert!(
            lines.contains("close every connection of alice (01JA)?") && lines.contains("y  yes"),
            "{lines}"
        );
        state.over = Over::Help;
        assert!(shown(&state, 110, 24).join("\n").contains("a page down, up"));
        state.over = Over::Detail(
            json!({"id": "01JA", "network": {"rttMs": 1.5}, "timeline": [{"text": "opened", "id": 7}], "none": null}),
            0,
        );
        let lines = shown(&state, 110, 24).join("\n");
        for words in ["id                       01JA", "rttMs                  1.5", "opened"] {
            assert!(lines.contains(words), "{words}: {lines}");
        }
        assert!(!lines.contains("none"), "{lines}");
        state.over = Over::Filter("rtt>2".to_owned());
        assert!(shown(&state, 110, 24)[23].starts_with("filter: rtt>2"));
    }

    #[test]
    fn an_empty_view_says_why() {
        let mut state = State::default();
        assert!(shown(&state, 110, 24).join("\n").contains("waiting for the server"));
        state.list(json!({"total": 0, "matched": 0, "rows": []}));
        assert!(shown(&state, 110, 24).join("\n").contains("nobody is connected"));
        state.wanted.view = View::Upstreams;
        assert!(shown(&state, 110, 24).join("\n").contains("no upstream is declared"));
        state.list(json!({"total": 0, "matched": 0, "declaredTotal": 2, "rows": []}));
        assert!(shown(&state, 110, 24).join("\n").contains("no stream is open; declared: 2"));
    }

    #[test]
    fn streams_to_other_servers_are_a_view() {
        let mut state = State::new(Wanted { view: View::Upstreams, ..Wanted::default() });
        state.list(json!({"at": "2026-11-22T02:00:00Z", "total": 1, "matched": 1, "rows": [
            {"id": "7", "upstream": "quotes", "key": "", "state": "circuit", "track": "canary", "listeners": 12, "errors": 31,
                "messagesPerSecond": 0.5, "idleMs": null, "lastError": {"text": "it refused"}},
        ]}));
        let lines = shown(&state, 160, 24);
        assert!(lines[6].contains("[3 upstreams]") && lines[6].contains("by -trouble"), "{lines:#?}");
        for cell in ["quotes", "circuit", "canary", "12", "31", "0.500", "it refused"] {
            assert!(lines[8].contains(cell), "{cell}: {lines:#?}");
        }
    }
}
