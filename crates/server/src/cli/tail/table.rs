//! Metric channels as lines for people: one for each series and window, in columns.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use pulsewire_client::{Figures, Metric, Number, Reading};

use super::series::{Change, Memory, Row, rows};
use crate::cli::number::{Unit, short};
use crate::cli::screen::{Line, Look};

/// Names and tags wider than this push the columns behind them to the right.
const TEXT_WIDTH_MAX: usize = 40;
/// The widest number: `-1023 KiB/s`.
const NUMBER_WIDTH: usize = 11;

/// What is asked of a metric channel, as far as it decides what the columns are.
#[derive(Debug, Clone, Default)]
pub(super) struct Columns {
    /// Several channels are told apart.
    pub(super) channel: bool,
    /// What comes live are windows.
    pub(super) windowed: bool,
    /// Figures come, live or of the past.
    pub(super) figures: bool,
    /// Tags that every series has, because the command line asked for them.
    pub(super) fixed: Vec<(String, String)>,
    /// With escape sequences for colours.
    pub(super) colour: bool,
}

impl Columns {
    /// The name of the column of values: of a window it holds the last one.
    pub(super) fn value_name(&self) -> &'static str {
        if self.windowed { "LAST" } else { "VALUE" }
    }

    pub(super) fn push_figure_names(&self, line: &mut Line) {
        if self.figures {
            for name in ["MIN", "AVG", "MAX", "P95"] {
                line.push(Look::Bold, format!("{name:>NUMBER_WIDTH$}"));
            }
        }
    }

    /// The newest value with its mark.
    pub(super) fn push_value(&self, line: &mut Line, row: &Row, change: Change) {
        let value = short(row.value(), Unit::of(&row.name));
        line.push(Look::Bold, format!("{value:>NUMBER_WIDTH$}"));
        let look = if change == Change::Up { Look::Up } else { Look::Down };
        line.push(look, format!(" {}", change.mark()));
    }

    pub(super) fn push_figures(&self, line: &mut Line, row: &Row) {
        let Reading::Figures(figures) = row.reading else { return };
        if self.figures {
            let Figures { min, max, p95, .. } = figures;
            for figure in [min, figures.avg(), max, p95] {
                let figure = short(Number::Float(figure), Unit::of(&row.name));
                line.push(Look::Plain, format!("{figure:>NUMBER_WIDTH$}"));
            }
        }
    }
}

/// The widths of the columns of text. They grow with what they hold and never shrink, so they rarely jump.
#[derive(Debug)]
pub(super) struct Widths {
    channel: usize,
    name: usize,
    tags: usize,
}

impl Default for Widths {
    fn default() -> Widths {
        Widths { channel: 7, name: 12, tags: 0 }
    }
}

impl Widths {
    pub(super) fn grow(&mut self, row: &Row) {
        let wider = |width: usize, text: &str| width.max(text.chars().count().min(TEXT_WIDTH_MAX));
        self.channel = wider(self.channel, &row.channel);
        self.name = wider(self.name, &row.name);
        self.tags = wider(self.tags, &row.tags);
    }

    /// The columns of text; tags only where there are any.
    pub(super) fn push(&self, line: &mut Line, columns: &Columns, looks: (Look, Look), texts: [&str; 3]) {
        let [channel, name, tags] = texts;
        if columns.channel {
            line.push(looks.1, format!("{channel:width$}  ", width = self.channel));
        }
        line.push(looks.0, format!("{name:width$}  ", width = self.name));
        if self.tags > 0 {
            line.push(looks.1, format!("{tags:width$}  ", width = self.tags.max(4)));
        }
    }
}

/// Lines that scroll.
#[derive(Debug)]
pub(super) struct Table {
    columns: Columns,
    zone: TimeZone,
    widths: Widths,
    memory: Memory,
    /// The day that the times belong to.
    day: Date,
    /// Lines since the last heading; none before the first.
    since_heading: Option<usize>,
}

impl Table {
    /// A table whose times are today's until a line says otherwise.
    pub(super) fn new(columns: Columns, zone: TimeZone, now: Timestamp) -> Table {
        let day = Zoned::new(now, zone.clone()).date();
        let (widths, memory) = (Widths::default(), Memory::default());
        Table { columns, zone, widths, memory, day, since_heading: None }
    }

    /// The lines for a message, on a terminal with so many rows; the heading comes again with each screenful.
    pub(super) fn lines(&mut self, metric: &Metric, height: usize) -> Vec<String> {
        let rows = rows(metric, &self.columns.fixed);
        let had_tags = self.widths.tags > 0;
        rows.iter().for_each(|row| self.widths.grow(row));
        if had_tags != (self.widths.tags > 0) {
            self.since_heading = None;
        }
        let mut lines = Vec::with_capacity(rows.len() + 1);
        for row in &rows {
            let time = Zoned::new(clock(row.timestamp_ms), self.zone.clone());
            if time.date() != self.day {
                self.day = time.date();
                self.add(rule(&self.day.to_string()), &mut lines);
            }
            if self.since_heading.is_none_or(|lines| lines + 1 >= height) {
                lines.push(self.heading());
                self.since_heading = Some(1);
            }
            let change = self.memory.take(row);
            let line = self.line(row, change, &time.strftime("%H:%M:%S").to_string());
            self.add(line, &mut lines);
        }
        lines
    }

    /// A rule between what was and what is.
    pub(super) fn live_rule(&mut self) -> String {
        self.since_heading = self.since_heading.map(|lines| lines + 1);
        rule("live")
    }

    fn add(&mut self, line: String, lines: &mut Vec<String>) {
        self.since_heading = self.since_heading.map(|lines| lines + 1);
        lines.push(line);
    }

    fn heading(&self) -> String {
        let mut line = Line::default();
        line.push(Look::Bold, format!("{:8}  ", "TIME"));
        self.widths.push(&mut line, &self.columns, (Look::Bold, Look::Bold), ["CHANNEL", "SERIES", "TAGS"]);
        line.push(Look::Bold, format!("{:>NUMBER_WIDTH$}  ", self.columns.value_name()));
        self.columns.push_figure_names(&mut line);
        line.text(self.columns.colour, usize::MAX)
    }

    fn line(&self, row: &Row, change: Change, time: &str) -> String {
        let mut line = Line::default();
        line.push(Look::Dim, format!("{time:8}  "));
        self.widths.push(
            &mut line,
            &self.columns,
            (Look::Plain, Look::Dim),
            [&row.channel, &row.name, &row.tags],
        );
        self.columns.push_value(&mut line, row, change);
        self.columns.push_figures(&mut line, row);
        line.text(self.columns.colour, usize::MAX)
    }
}

fn rule(text: &str) -> String {
    format!("── {text} ──")
}

/// Times that no calendar holds count as its end.
pub(super) fn clock(timestamp_ms: i64) -> Timestamp {
    Timestamp::from_millisecond(timestamp_ms).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::series::tests::point;
    use super::*;

    /// 2025-11-08T12:00:00Z.
    const NOON_MS: i64 = 1_762_603_200_000;

    fn table(columns: Columns) -> Table {
        Table::new(columns, TimeZone::UTC, clock(NOON_MS))
    }

    #[test]
    fn each_series_has_a_line_with_its_time_tags_value_and_where_it_went() {
        let mut table = table(Columns { fixed: vec![("env".into(), "prod".into())], ..Columns::default() });
        let mut lines = Vec::new();
        for (second, name, value, host) in [
            (0, "cpu.percent", 45.23, "web-1"),
            (0, "memory.used", 8_388_608_000.0, "web-1"),
            (1, "cpu.percent", 75.5, "web-1"),
            (2, "cpu.percent", 7.0, "web-1"),
        ] {
            lines.extend(table.lines(&point(name, value, NOON_MS + second * 1_000, host, false), 24));
        }
        let expected = [
            "TIME      SERIES        TAGS              VALUE",
            "12:00:00  cpu.percent   host=web-1        45.2%",
            "12:00:00  memory.used   host=web-1     7.81 GiB",
            "12:00:01  cpu.percent   host=web-1        75.5% ▲",
            "12:00:02  cpu.percent   host=web-1        7.00% ▼",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn a_window_shows_its_figures_and_several_channels_their_names() {
        let columns = Columns { channel: true, windowed: true, figures: true, ..Columns::default() };
        let mut table = table(columns);
        let window = point("cpu.percent", 50.0, NOON_MS, "a", true);
        let expected = [
            "TIME      CHANNEL         SERIES        TAGS                    LAST          MIN        AVG        MAX        P95",
            "12:00:00  system.metrics  cpu.percent   env=prod host=a        51.0%        49.0%      50.0%      51.0%      50.5%",
        ];
        assert_eq!(table.lines(&window, 24), expected);
    }

    #[test]
    fn without_tags_there_is_no_column_for_them() {
        let fixed = vec![("env".into(), "prod".into()), ("host".into(), "a".into())];
        let lines =
            table(Columns { fixed, ..Columns::default() }).lines(&point("x", 1.0, NOON_MS, "a", false), 24);
        assert_eq!(lines, ["TIME      SERIES              VALUE", "12:00:00  x                    1.00"]);
    }

    #[test]
    fn the_heading_comes_again_with_each_screenful() {
        let mut table = table(Columns::default());
        let mut lines = Vec::new();
        for second in 0..5 {
            lines.extend(table.lines(&point("x", 1.0, NOON_MS + second, "a", false), 4));
        }
        let headings: Vec<usize> =
            lines.iter().enumerate().filter(|(_, line)| line.starts_with("TIME")).map(|(at, _)| at).collect();
        assert_eq!((headings, lines.len()), (vec![0, 3, 6], 8), "the cursor's row is one of the four");
    }

    #[test]
    fn another_day_is_said_and_so_is_where_live_begins() {
        let mut table = table(Columns::default());
        let mut lines = table.lines(&point("x", 1.0, NOON_MS - 86_400_000, "a", false), 24);
        lines.push(table.live_rule());
        lines.extend(table.lines(&point("x", 1.0, NOON_MS, "a", false), 24));
        let starts: Vec<&str> = lines.iter().map(|line| line.split("  ").next().unwrap()).collect();
        assert_eq!(
            starts,
            ["── 2025-11-07 ──", "TIME", "12:00:00", "── live ──", "── 2025-11-08 ──", "12:00:00"]
        );
    }

    #[test]
    fn colours_change_nothing_but_the_looks() {
        let lines = |colour| {
            let mut table = table(Columns { colour, ..Columns::default() });
            let mut lines = table.lines(&point("x", 1.0, NOON_MS, "a", false), 24);
            lines.extend(table.lines(&point("x", 2.0, NOON_MS, "a", false), 24));
            lines.join("\n")
        };
        let (plain, coloured) = (lines(false), lines(true));
        assert!(coloured.contains("\x1b[36m ▲\x1b[0m"), "{coloured:?}");
        let mut bare = coloured;
        for code in ["\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[36m"] {
            bare = bare.replace(code, "");
        }
        assert_eq!(bare, plain);
    }

    #[test]
    fn a_name_cannot_move_the_cursor() {
        let lines = table(Columns::default()).lines(&point("x\u{1b}[2J", 1.0, NOON_MS, "\u{7}", false), 24);
        assert!(!lines.concat().chars().any(char::is_control), "{lines:?}");
    }
}
