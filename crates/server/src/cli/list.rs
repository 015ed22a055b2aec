//! Lists of the admin API as tables for people.
//!
//! `columns` says which fields of which list are shown and how; here a row becomes cells, and cells become lines that
//! fit. `top` draws the same cells.

pub(super) mod columns;

use clap::ValueEnum;
use jiff::Timestamp;
use serde_json::Value;

use super::Terminal;
use super::number::{Unit, number_text};
use super::screen::printable;

/// The form of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// For programs: the whole answer.
    Json,
    /// For programs: a line for each row.
    Jsonl,
}

/// How a field is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// As it is, at most so many characters.
    Text(usize),
    /// A plain number.
    Count,
    /// Milliseconds.
    Ms,
    /// Bytes.
    Bytes,
    /// So many a second.
    Rate,
    /// A share of one, in percent.
    Share,
    /// A percentage.
    #[cfg(feature = "tui")]
    Percent,
    /// How long ago a moment was.
    Ago,
    /// The time of day of a moment.
    Clock,
}

/// One column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) title: &'static str,
    /// A field of the row, or with a point one of its part.
    pub(super) field: &'static str,
    pub(super) shape: Shape,
}

impl Column {
    const fn new(title: &'static str, field: &'static str, shape: Shape) -> Column {
        Column { title, field, shape }
    }

    /// Numbers stand at the right of their column.
    pub(super) fn is_number(&self) -> bool {
        !matches!(self.shape, Shape::Text(_) | Shape::Clock)
    }

    /// The field of a row as it is shown; `-` for what was not measured.
    pub(super) fn cell(&self, row: &Value, now: Timestamp) -> String {
        let value = match self.field.split_once('.') {
            None => &row[self.field],
            Some((part, field)) => &row[part][field],
        };
        let number = |unit| value.as_f64().map_or_else(nothing, |number| number_text(number, unit));
        match self.shape {
            Shape::Text(most) => text(value, most),
            Shape::Count => number(Unit::Plain),
            Shape::Ms => number(Unit::Milliseconds),
            Shape::Bytes => number(Unit::Bytes),
            Shape::Rate => number(Unit::Plain),
            Shape::Share => value.as_f64().map_or_else(nothing, |share| format!("{:.0}%", share * 100.0)),
            #[cfg(feature = "tui")]
            Shape::Percent => number(Unit::Percent),
            Shape::Ago => moment(value).map_or_else(nothing, |at| ago(now, at)),
            Shape::Clock => moment(value).map_or_else(nothing, clock),
        }
    }
}

fn nothing() -> String {
    "-".to_owned()
}

fn text(value: &Value, most: usize) -> String {
    let text = match value {
        Value::Null => return nothing(),
        Value::String(text) => printable(text),
        other => other.to_string(),
    };
    if text.chars().count() <= most {
        return text;
    }
    let cut: String = text.chars().take(most - 1).collect();
    format!("{cut}…")
}

fn moment(value: &Value) -> Option<Timestamp> {
    value.as_str()?.parse().ok()
}

fn clock(at: Timestamp) -> String {
    at.to_zoned(jiff::tz::TimeZone::system()).strftime("%H:%M:%S").to_string()
}

/// How long ago, in the two largest units: `1d 4h`, `3m 20s`, `12s`.
fn ago(now: Timestamp, at: Timestamp) -> String {
    lasting((now.as_millisecond() - at.as_millisecond()).max(0) as u64 / 1_000)
}

/// A time in its two largest units.
pub(super) fn lasting(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (1.., ..) => format!("{days}d {hours}h"),
        (0, 1.., _) => format!("{hours}h {minutes}m"),
        (0, 0, 1..) => format!("{minutes}m {}s", seconds % 60),
        _ => format!("{seconds}s"),
    }
}

/// The moment a document tells of, by which ages are counted: clocks may differ.
pub(super) fn at(document: &Value) -> Timestamp {
    moment(&document["at"]).unwrap_or_else(Timestamp::now)
}

/// The rows of a list.
pub(super) fn rows(document: &Value) -> &[Value] {
    document["rows"].as_array().map_or(&[], Vec::as_slice)
}

/// A table with its heading; each line is cut at the width, if there is one.
pub(super) fn table(rows: &[Value], columns: &[Column], now: Timestamp, width: Option<usize>) -> Vec<String> {
    let cells: Vec<Vec<String>> =
        rows.iter().map(|row| columns.iter().map(|column| column.cell(row, now)).collect()).collect();
    let widths = widths(columns, &cells);
    let heading = columns.iter().map(|column| column.title.to_owned()).collect();
    std::iter::once(&heading)
        .chain(&cells)
        .map(|cells| {
            let line = line(cells, columns, &widths);
            line.chars().take(width.unwrap_or(usize::MAX)).collect::<String>().trim_end().to_owned()
        })
        .collect()
}

/// As wide as what stands in it.
fn widths(columns: &[Column], cells: &[Vec<String>]) -> Vec<usize> {
    let widest = |index: usize, column: &Column| {
        let all = cells.iter().map(|row| row[index].chars().count());
        all.chain([column.title.len()]).max().unwrap_or(0)
    };
    columns.iter().enumerate().map(|(index, column)| widest(index, column)).collect()
}

fn line(cells: &[String], columns: &[Column], widths: &[usize]) -> String {
    let mut line = String::new();
    for ((cell, column), width) in cells.iter().zip(columns).zip(widths) {
        let padded = if column.is_number() { format!("{cell:>width$}") } else { format!("{cell:width$}") };
        line.push_str(&padded);
        line.push_str("  ");
    }
    line
}

/// Writes a list in the form that was asked for, and how much of it that is.
pub(super) fn show(
    document: &Value,
    columns: &[Column],
    output: Output,
    width: Option<usize>,
    terminal: &mut Terminal<'_>,
) {
    match output {
        Output::Json => terminal.data(serde_json::to_string_pretty(document).unwrap_or_default()),
        Output::Jsonl => rows(document).iter().for_each(|row| terminal.data(row)),
        Output::Table => {
            for line in table(rows(document), columns, at(document), width) {
                terminal.data(line);
            }
            if let Some(rest) = rest(document, columns) {
                terminal.say(rest);
            }
        }
    }
}

/// The plain fields of a document, one on a line; what was not measured is left out.
pub(super) fn fields(document: &Value, terminal: &mut Terminal<'_>) {
    let plain = |value: &Value| !value.is_object() && !value.is_array() && !value.is_null();
    let all = document.as_object().into_iter().flatten().filter(|(_, value)| plain(value));
    for (name, value) in all {
        let text = value.as_str().map_or_else(|| value.to_string(), printable);
        terminal.data(format_args!("  {name:24} {text}"));
    }
}

/// What the rows leave out.
pub(super) fn rest(document: &Value, columns: &[Column]) -> Option<String> {
    if columns::are_groups(columns) {
        let left = document["leftOut"].as_u64().filter(|left| *left > 0)?;
        return Some(format!("{left} groups more; --filter narrows them"));
    }
    let (shown, matched) = (rows(document).len() as u64, document["matched"].as_u64()?);
    let total = document["total"].as_u64().unwrap_or(matched);
    match () {
        () if matched == 0 && total > 0 => Some(format!("none of {total} matches --filter")),
        () if matched < total => Some(format!("{shown} of {matched} that match, of {total}")),
        () if shown < matched => Some(format!("{shown} of {matched}; --limit and --filter show others")),
        () => without_streams(document),
    }
}

/// Names that are told of what has no row at most.
const NAMED_MAX: usize = 8;

/// The upstreams that have no stream, and so no row.
fn without_streams(document: &Value) -> Option<String> {
    let declared = document["declared"].as_array()?.iter().filter(|upstream| upstream["streams"] == 0);
    let mut names: Vec<String> =
        declared.filter_map(|upstream| upstream["name"].as_str()).map(printable).collect();
    let more = names.len().saturating_sub(NAMED_MAX);
    names.truncate(NAMED_MAX);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    (!names.is_empty()).then(|| format!("declared, without a stream: {}{more}", names.join(", ")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const COLUMNS: [Column; 4] = [
        Column::new("USER", "userId", Shape::Text(6)),
        Column::new("QUEUE", "queuedBytes", Shape::Bytes),
        Column::new("RTT", "rttMs", Shape::Ms),
        Column::new("AGE", "connectedAt", Shape::Ago),
    ];

    fn document() -> Value {
        json!({"at": "2026-11-22T02:00:00Z", "total": 9, "matched": 2, "rows": [
            {"userId": "alexandra", "queuedBytes": 812_000, "rttMs": 1.2, "connectedAt": "2026-11-22T01:58:55Z"},
            {"userId": "b\u{1b}[2J", "queuedBytes": 0, "rttMs": null, "connectedAt": "2026-11-20T22:00:00Z"},
        ]})
    }

    #[test]
    fn a_table_shows_what_was_measured_and_a_dash_for_the_rest() {
        let document = document();
        let lines = table(rows(&document), &COLUMNS, at(&document), None);
        assert_eq!(
            lines,
            [
                "USER      QUEUE      RTT    AGE",
                "alexa…  793 KiB  1.20 ms  1m 5s",
                "b [2J       0 B        -  1d 4h",
            ],
            "{lines:#?}"
        );
        assert_eq!(table(rows(&document), &COLUMNS, at(&document), Some(9))[1], "alexa…  7");
    }

    #[test]
    fn codes_are_names_and_stay_as_they_are() {
        let closed = json!({"userId": "ada", "code": 4004, "reason": "slow_consumer", "messagesSent": 4004});
        let lines = table(&[closed], columns::CLOSED, at(&document()), None);
        assert!(lines[1].contains("  4004  slow_consumer"), "{lines:#?}");
        assert!(lines[1].contains("  4.00k  "), "{lines:#?}");
        let failed = json!({"status": 1013, "stage": "limits"});
        let lines = table(&[failed], columns::FAILED, at(&document()), None);
        assert!(lines[1].contains("  1013  "), "{lines:#?}");
    }

    #[test]
    fn what_is_left_out_is_said() {
        assert_eq!(rest(&document(), &COLUMNS).unwrap(), "2 of 2 that match, of 9");
        let groups = json!({"total": 9, "matched": 9, "leftOut": 3, "rows": [1]});
        assert_eq!(rest(&groups, columns::GROUPS).unwrap(), "3 groups more; --filter narrows them");
        assert_eq!(rest(&document(), columns::GROUPS), None);
        let rest = |total, matched| rest(&json!({"total": total, "matched": matched, "rows": [1]}), &COLUMNS);
        assert_eq!(rest(1, 1), None);
        assert_eq!(rest(9, 0).unwrap(), "none of 9 matches --filter");
        assert!(rest(9, 9).unwrap().starts_with("1 of 9; --limit"));
    }

    #[test]
    fn what_is_declared_and_has_no_row_is_named() {
        let upstreams = |names: std::ops::Range<u32>| -> Vec<Value> {
            names.map(|n| json!({"name": format!("u{n}"), "streams": u32::from(n == 0)})).collect()
        };
        let listed = |names| {
            rest(
                &json!({"total": 1, "matched": 1, "rows": [1], "declared": upstreams(names)}),
                columns::STREAMS,
            )
        };
        assert_eq!(listed(0..1), None);
        assert_eq!(listed(0..3).unwrap(), "declared, without a stream: u1, u2");
        assert!(listed(0..20).unwrap().ends_with("u8 and 11 more"), "{:?}", listed(0..20));
    }

    #[test]
    fn a_field_of_a_part_is_a_cell() {
        let stream = json!({"upstream": "quotes", "lastError": {"text": "refused"}});
        let lines = table(&[stream, json!({})], columns::STREAMS, at(&document()), None);
        assert!(lines[1].ends_with("refused") && lines[2].ends_with('-'), "{lines:#?}");
    }

    #[test]
    fn times_are_told_in_two_units() {
        let told = [5, 65, 3_725, 100_000].map(lasting);
        assert_eq!(told, ["5s", "1m 5s", "1h 2m", "1d 3h"]);
    }
}
