//! What lies over the table of `top`: the keys, a question, everything about one row.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::Line;
use ratatui::widgets::{Block, Clear, Paragraph};
use serde_json::Value;

use super::super::screen::printable;
use super::state::{Over, State};

const KEYS: &str = "\
q        leave                     ?        these keys
j k ↑ ↓  down, up                  g G      first, last
^f ^b    a page down, up           Enter    everything about one
s r      next order, turned round  / Esc    filter, none
p        stand still               x        close its connections
1 connections  2 channels  3 upstreams  4 errors  5 alerts  6 nodes";

/// Draws what takes the keys instead of the table, if something does.
pub(super) fn over(frame: &mut Frame<'_>, area: Rect, state: &State) {
    match &state.over {
        Over::Table | Over::Filter(_) => {}
        Over::Help => sheet(frame, area, " keys ", KEYS.lines().map(str::to_owned).collect(), 0),
        Over::Confirm(session, user) => {
            let lines = vec![
                format!("close every connection of {} ({session})?", printable(user)),
                String::new(),
                "y  yes      any other key  no".to_owned(),
            ];
            sheet(frame, area, " close ", lines, 0);
        }
        Over::Detail(row, at) => sheet(frame, area, " Esc closes, j k scroll ", detail(row), *at),
    }
}

/// What is looked at first.
const FIRST: [&str; 6] = ["id", "userId", "state", "score", "cause", "causeText"];

/// A document as lines: what is wrong, its parts and lists, then its other fields.
fn detail(document: &Value) -> Vec<String> {
    let Some(all) = document.as_object() else { return vec![plain(document)] };
    let is_plain = |value: &Value| !value.is_object() && !value.is_array() && !value.is_null();
    let field = |(name, value): (&str, &Value)| format!("{name:24} {}", plain(value));
    let first =
        FIRST.iter().filter_map(|name| Some((*name, all.get(*name).filter(|value| is_plain(value))?)));
    let mut lines: Vec<String> = first.map(field).collect();
    for (name, value) in all {
        lines.extend(part(name, value));
    }
    let others = all.iter().filter(|(name, value)| is_plain(value) && !FIRST.contains(&name.as_str()));
    lines.push(String::new());
    lines.extend(others.map(|(name, value)| field((name, value))));
    lines
}

/// A part or a list of a document, below its name.
fn part(name: &str, value: &Value) -> Vec<String> {
    let below: Vec<String> = match value {
        Value::Object(part) => part
            .iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| format!("  {name:22} {}", plain(value)))
            .collect(),
        Value::Array(rows) => rows.iter().map(|row| format!("  {}", row_text(row))).collect(),
        _ => Vec::new(),
    };
    if below.is_empty() {
        return below;
    }
    [String::new(), name.to_owned()].into_iter().chain(below).collect()
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| printable(&value.to_string()), printable)
}

/// The fields of a row that say something, without their names where they are words.
fn row_text(row: &Value) -> String {
    let Some(fields) = row.as_object() else { return plain(row) };
    let shown = fields.iter().filter(|(_, value)| !value.is_null());
    let shown = shown.map(
        |(name, value)| if value.is_string() { plain(value) } else { format!("{name} {}", plain(value)) },
    );
    shown.collect::<Vec<_>>().join("  ")
}

/// Something over the table.
fn sheet(frame: &mut Frame<'_>, area: Rect, title: &'static str, lines: Vec<String>, at: u16) {
    let wide = lines.iter().map(|line| line.chars().count()).max().unwrap_or(0) + 4;
    let width = area.width.min(u16::try_from(wide).unwrap_or(u16::MAX).max(40));
    let height = area.height.min(u16::try_from(lines.len() + 2).unwrap_or(u16::MAX));
    let place = Rect { x: (area.width - width) / 2, y: (area.height - height) / 2, width, height };
    frame.render_widget(Clear, place);
    let block = Block::bordered().title(title);
    let lines: Vec<Line<'_>> = lines.into_iter().map(Line::raw).collect();
    frame.render_widget(Paragraph::new(lines).scroll((at, 0)).block(block), place);
}
