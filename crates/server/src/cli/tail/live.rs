//! `--live`: one row for each series, drawn in place.

use std::io::{self, Write};

use jiff::Zoned;
use jiff::tz::TimeZone;
use pulsewire_client::Metric;

use super::series::{Memory, SPARK_MAX, rows};
use super::table::{Columns, Widths, clock};
use crate::cli::screen::{Line, Look, Screen};

/// The newest of every series, and the last thing there was to say.
#[derive(Debug)]
pub(super) struct Live<W: Write> {
    screen: Screen<W>,
    columns: Columns,
    zone: TimeZone,
    title: String,
    widths: Widths,
    memory: Memory,
    status: String,
    newest_ms: Option<i64>,
    changed: bool,
    size: (usize, usize),
}

impl<W: Write> Live<W> {
    /// Takes the screen, until it is dropped.
    pub(super) fn open(out: W, columns: Columns, zone: TimeZone, title: String) -> io::Result<Live<W>> {
        Ok(Live {
            screen: Screen::open(out)?,
            columns,
            zone,
            title,
            widths: Widths::default(),
            memory: Memory::default(),
            status: "connecting …".to_owned(),
            newest_ms: None,
            changed: true,
            size: (0, 0),
        })
    }

    pub(super) fn take(&mut self, metric: &Metric) {
        for row in rows(metric, &self.columns.fixed) {
            self.widths.grow(&row);
            self.memory.take(&row);
            self.newest_ms = self.newest_ms.max(Some(row.timestamp_ms));
        }
        self.changed = true;
    }

    /// Shows a line of talk below the table until the next.
    pub(super) fn say(&mut self, text: impl std::fmt::Display) {
        self.status = crate::cli::screen::printable(&text.to_string());
        self.changed = true;
    }

    /// Draws on so many columns and rows, if there is something new or they are others than before.
    pub(super) fn draw(&mut self, size: (usize, usize)) -> io::Result<()> {
        if !std::mem::take(&mut self.changed) && size == self.size {
            return Ok(());
        }
        self.size = size;
        let lines = self.lines(size.0, size.1);
        self.screen.draw(&lines)
    }

    /// A title, a heading, as many series as fit, and the talk: `height` lines at most.
    fn lines(&self, width: usize, height: usize) -> Vec<String> {
        let colour = self.columns.colour;
        let time = self.newest_ms.map(|ms| Zoned::new(clock(ms), self.zone.clone()));
        let time = time.map_or_else(String::new, |time| time.strftime("   %H:%M:%S").to_string());
        let mut title = Line::default();
        title.push(Look::Bold, self.title.clone());
        title.push(Look::Plain, time);
        let room = height.saturating_sub(3);
        let hidden = self.memory.len().saturating_sub(room);
        // The line that says so takes the place of one more.
        let shown = if hidden > 0 { room.saturating_sub(1) } else { room };
        let mut lines = vec![title.text(colour, width), self.heading().text(colour, width)];
        for told in self.memory.all().take(shown) {
            let (row, mut line) = (&told.row, Line::default());
            let looks = (Look::Plain, Look::Dim);
            self.widths.push(&mut line, &self.columns, looks, [&row.channel, &row.name, &row.tags]);
            self.columns.push_value(&mut line, row, told.change);
            line.push(Look::Dim, format!("  {:<SPARK_MAX$}", told.spark()));
            self.columns.push_figures(&mut line, row);
            lines.push(line.text(colour, width));
        }
        if hidden > 0 {
            lines.push(format!(
                "… {} more series; a taller window, --tag or --filter",
                self.memory.len() - shown
            ));
        }
        let mut status = Line::default();
        status.push(Look::Dim, self.status.clone());
        lines.push(status.text(colour, width));
        lines.truncate(height);
        lines
    }

    fn heading(&self) -> Line {
        let mut line = Line::default();
        let looks = (Look::Bold, Look::Bold);
        self.widths.push(&mut line, &self.columns, looks, ["CHANNEL", "SERIES", "TAGS"]);
        line.push(Look::Bold, format!("{:>11}  ", self.columns.value_name()));
        line.push(Look::Bold, format!("  {:<SPARK_MAX$}", format!("LAST {SPARK_MAX}")));
        self.columns.push_figure_names(&mut line);
        line
    }
}

#[cfg(test)]
mod tests {
    use super::super::series::tests::point;
    use super::*;

    /// 2025-11-08T12:00:00Z.
    const NOON_MS: i64 = 1_762_603_200_000;

    fn live(out: &mut Vec<u8>, figures: bool) -> Live<&mut Vec<u8>> {
        let columns = Columns {
            windowed: figures,
            figures,
            fixed: vec![("env".into(), "prod".into())],
            ..Columns::default()
        };
        Live::open(out, columns, TimeZone::UTC, "system.metrics every 5s".to_owned()).unwrap()
    }

    #[test]
    fn every_series_keeps_its_row_and_shows_where_it_came_from() {
        let mut out = Vec::new();
        let mut live = live(&mut out, true);
        for (window, value) in [10.0, 30.0, 20.0].into_iter().enumerate() {
            let at = NOON_MS + 5_000 * window as i64;
            live.take(&point("memory.percent", 50.0, at, "a", true));
            live.take(&point("cpu.percent", value, at, "a", true));
        }
        live.say("-- nothing to say");
        let expected = [
            "system.metrics every 5s   12:00:10",
            "SERIES          TAGS           LAST    LAST 30                               MIN        AVG        MAX        P95",
            "cpu.percent     host=a        21.0% ▼  ▁█▅                                 19.0%      20.0%      21.0%      20.5%",
            "memory.percent  host=a        51.0%    ▁▁▁                                 49.0%      50.0%      51.0%      50.5%",
            "-- nothing to say",
        ];
        assert_eq!(live.lines(120, 24), expected);
        let narrow = live.lines(40, 24);
        assert!(narrow.iter().all(|line| line.chars().count() <= 40), "{narrow:#?}");
    }

    #[test]
    fn what_does_not_fit_is_counted() {
        let mut out = Vec::new();
        let mut live = live(&mut out, false);
        for name in ["a", "b", "c", "d"] {
            live.take(&point(name, 1.0, NOON_MS, "h", false));
        }
        assert_eq!(live.lines(80, 7).len(), 7, "all four fit");
        let lines = live.lines(80, 6);
        assert_eq!((lines.len(), lines[2].chars().next()), (6, Some('a')));
        assert!(lines[4].starts_with("… 2 more series"), "{lines:#?}");
        for height in 2..6 {
            assert!(live.lines(80, height).len() <= height, "{height}");
        }
    }

    #[test]
    fn nothing_is_drawn_twice_and_the_screen_is_given_back() {
        let mut out = Vec::new();
        let mut live = live(&mut out, false);
        for size in [(80, 24), (80, 24), (100, 24), (100, 24)] {
            live.draw(size).unwrap();
        }
        drop(live);
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text.matches("connecting").count(), 2, "once for each size");
        assert!(text.ends_with("\x1b[?1049l"), "{text:?}");
    }
}
