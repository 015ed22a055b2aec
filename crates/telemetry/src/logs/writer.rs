//! The last step before standard error: one event is one bounded line.

use std::fmt::Write as _;
use std::io::{self, Write};

use super::LogFormat;
use super::redact::is_unsafe;

/// A longer line is cut (text) or replaced by a note of its length (JSON).
pub const LINE_BYTES_MAX: usize = 8 * 1024;

/// Writes each formatted event as one line without control characters.
///
/// The formatter hands over an event in one call, so a line feed inside it came from a value.
#[derive(Debug)]
pub struct LineWriter<W> {
    inner: W,
    format: LogFormat,
}

impl<W: Write> LineWriter<W> {
    /// A writer of lines in a form.
    pub fn new(inner: W, format: LogFormat) -> Self {
        Self { inner, format }
    }
}

impl<W: Write> Write for LineWriter<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        let text = text.strip_suffix('\n').unwrap_or(&text);
        let line = match self.format {
            LogFormat::Text => text_line(text),
            LogFormat::Json => json_line(text),
        };
        self.inner.write_all(line.as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

fn text_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len() + 1);
    for (at, c) in text.char_indices() {
        if line.len() >= LINE_BYTES_MAX {
            let _ = write!(line, "… ({} bytes cut)", text.len() - at);
            break;
        }
        if is_unsafe(c) {
            line.extend(c.escape_unicode());
        } else {
            line.push(c);
        }
    }
    line.push('\n');
    line
}

/// JSON escapes C0 itself; what is left stands inside strings, where `\u` escapes are valid.
fn json_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len() + 1);
    for c in text.chars() {
        if is_unsafe(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(line, "\\u{unit:04x}");
            }
        } else {
            line.push(c);
        }
    }
    if line.len() > LINE_BYTES_MAX {
        let bytes = text.len();
        line = format!(
            r#"{{"level":"WARN","fields":{{"message":"a log line was too long to show","bytes":{bytes}}}}}"#
        );
    }
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat, log: impl FnOnce()) -> String {
        let sink = Shared::default();
        let writer = sink.clone();
        let make = move || LineWriter::new(writer.clone(), format);
        let builder = tracing_subscriber::fmt().with_ansi(false).without_time().with_writer(make);
        match format {
            LogFormat::Text => tracing::subscriber::with_default(builder.finish(), log),
            LogFormat::Json => tracing::subscriber::with_default(builder.json().finish(), log),
        }
        let bytes = sink.0.lock().clone();
        String::from_utf8(bytes).unwrap()
    }

    const NASTY: &str = "a\nERROR forged\r\x1b[2J\u{9b}31m\u{202e}";

    #[test]
    fn a_forged_line_stays_inside_its_line() {
        for format in [LogFormat::Text, LogFormat::Json] {
            let text = logged(format, || tracing::info!(peer = %NASTY, raw = NASTY, "said {NASTY}"));
            assert_eq!(text.matches('\n').count(), 1, "{text:?}");
            assert!(text.ends_with('\n') && !text.trim_end_matches('\n').contains(is_unsafe), "{text:?}");
        }
    }

    #[test]
    fn a_json_line_keeps_its_values() {
        let text = logged(LogFormat::Json, || tracing::info!(raw = "x\u{9b}\u{202e}\"", "said"));
        assert!(text.contains(r#""raw":"x\u009b\u202e\"""#), "{text}");
    }

    #[test]
    fn a_long_line_is_cut_and_says_so() {
        let long = "x".repeat(100_000);
        let text = logged(LogFormat::Text, || tracing::info!("{long}"));
        assert!(text.len() < LINE_BYTES_MAX + 64 && text.contains("bytes cut)"));
        let json = logged(LogFormat::Json, || tracing::info!("{long}"));
        assert!(json.len() < 200 && json.contains("too long"));
    }

    #[test]
    fn a_noisy_place_logs_once_and_holds_back_the_rest() {
        let text = logged(LogFormat::Text, || {
            for peer in 0..50 {
                crate::limited!(warn, peer, "frame refused");
            }
        });
        assert!(text.contains("frame refused peer=0"), "{text}");
        assert!(text.lines().count() < 50, "{text}");
    }
}
