//! The terminal: colours, size, and a screen of one's own that is given back as it was.

use std::ffi::OsStr;
use std::io::{self, Write};

/// How a piece of a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum Look {
    Plain,
    Bold,
    Dim,
    Up,
    Down,
}

impl Look {
    fn code(self) -> &'static str {
        match self {
            Look::Plain => "",
            Look::Bold => "\x1b[1m",
            Look::Dim => "\x1b[2m",
            Look::Up => "\x1b[36m",
            Look::Down => "\x1b[35m",
        }
    }
}

/// A line in the making: pieces of text, each with its look.
#[derive(Debug, Default)]
pub(in crate::cli) struct Line(Vec<(Look, String)>);

impl Line {
    pub(in crate::cli) fn push(&mut self, look: Look, text: impl Into<String>) {
        self.0.push((look, text.into()));
    }

    /// The text, at most so many characters of it, without spaces at its end.
    pub(in crate::cli) fn text(&self, colour: bool, width_max: usize) -> String {
        let mut left = width_max;
        let mut pieces: Vec<(Look, String)> = Vec::with_capacity(self.0.len());
        for (look, text) in &self.0 {
            let cut: String = text.chars().take(left).collect();
            left -= cut.chars().count();
            pieces.push((*look, cut));
        }
        while let Some((_, last)) = pieces.last_mut() {
            last.truncate(last.trim_end().len());
            if !last.is_empty() {
                break;
            }
            pieces.pop();
        }
        let paint = |(look, text): &(Look, String)| match look.code() {
            code if colour && !code.is_empty() && !text.trim().is_empty() => format!("{code}{text}\x1b[0m"),
            _ => text.clone(),
        };
        pieces.iter().map(paint).collect()
    }
}

/// Whether to use colours: on a terminal that has them, unless `NO_COLOR` is set to something.
pub(in crate::cli) fn colour(is_terminal: bool, no_color: Option<&OsStr>, term: Option<&OsStr>) -> bool {
    is_terminal && no_color.is_none_or(OsStr::is_empty) && term.is_none_or(|term| term != "dumb")
}

/// Columns and rows of the terminal; 80 and 24 if it does not say.
pub(in crate::cli) fn size() -> (usize, usize) {
    let size = terminal_size::terminal_size();
    size.map_or((80, 24), |(width, height)| (usize::from(width.0).max(1), usize::from(height.0).max(2)))
}

/// Control characters would let a publisher move the reader's cursor.
pub(in crate::cli) fn printable(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { ' ' } else { character }).collect()
}

/// The terminal's other screen, without a cursor and without line wrapping; dropped, it gives back what was there.
#[derive(Debug)]
pub(in crate::cli) struct Screen<W: Write>(W);

impl<W: Write> Screen<W> {
    pub(in crate::cli) fn open(mut out: W) -> io::Result<Screen<W>> {
        out.write_all(b"\x1b[?1049h\x1b[?25l\x1b[?7l")?;
        Ok(Screen(out))
    }

    /// Puts these lines in place of what is shown, in one write.
    pub(in crate::cli) fn draw(&mut self, lines: &[String]) -> io::Result<()> {
        let shown = lines.join("\x1b[K\r\n");
        self.0.write_all(format!("\x1b[H{shown}\x1b[K\x1b[J").as_bytes())?;
        self.0.flush()
    }
}

impl<W: Write> Drop for Screen<W> {
    fn drop(&mut self) {
        let _ = self.0.write_all(b"\x1b[?7h\x1b[?25h\x1b[?1049l");
        let _ = self.0.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_for_terminals_that_want_them() {
        let (none, some) = (None, |text| Some(OsStr::new(text)));
        assert!(colour(true, none, some("xterm-256color")));
        assert!(colour(true, some(""), none), "set to nothing is not set");
        assert!(!colour(true, some("1"), none));
        assert!(!colour(true, none, some("dumb")));
        assert!(!colour(false, none, some("xterm")));
    }

    #[test]
    fn a_line_is_cut_by_what_is_seen_of_it() {
        let mut line = Line::default();
        line.push(Look::Dim, "12:00  ");
        line.push(Look::Bold, "▲▲▲▲");
        line.push(Look::Plain, "   ");
        assert_eq!(line.text(false, 80), "12:00  ▲▲▲▲");
        assert_eq!(line.text(false, 9), "12:00  ▲▲");
        assert_eq!(line.text(false, 6), "12:00");
        assert_eq!(line.text(true, 9), "\x1b[2m12:00  \x1b[0m\x1b[1m▲▲\x1b[0m");
    }

    #[test]
    fn the_screen_is_given_back_as_it_was() {
        let mut out = Vec::new();
        let mut screen = Screen::open(&mut out).unwrap();
        screen.draw(&["a".to_owned(), "b".to_owned()]).unwrap();
        drop(screen);
        let text = String::from_utf8(out).unwrap();
        assert_eq!(
            text,
            "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[Ha\x1b[K\r\nb\x1b[K\x1b[J\x1b[?7h\x1b[?25h\x1b[?1049l"
        );
    }
}
