//! Where things are shown: JSON lines for programs, lines that scroll, or a table in place.

use std::collections::BTreeSet;
use std::io::{self, Stdout};

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use pulsewire_client::{Interval, Metric, SeriesPage};

use super::lines::Lines;
use super::live::Live;
use super::table::{Columns, Table, clock};
use super::{Tail, Terminal};
use crate::cli::screen;

/// What a `tail` shows and how.
#[derive(Debug)]
pub(super) struct View {
    form: Form,
    lines_begun: bool,
    /// Channels known to carry metrics.
    metrics: BTreeSet<String>,
    /// Metric channels whose past has not come to its end.
    awaited: BTreeSet<String>,
}

#[derive(Debug)]
enum Form {
    /// Metric messages as they came, one a line.
    Json,
    /// No metric message, but their number.
    Counted,
    /// A table that scrolls.
    Table(Box<Table>),
    /// A table in place.
    Live(Box<Live<Stdout>>),
}

impl View {
    /// The view that the command line asks for.
    ///
    /// # Errors
    ///
    /// If the terminal cannot be written.
    pub(super) fn open(command: &Tail, is_terminal: bool) -> io::Result<View> {
        let (no_color, term) = (std::env::var_os("NO_COLOR"), std::env::var_os("TERM"));
        let columns = Columns {
            channel: command.channels.len() > 1,
            windowed: command.interval.is_some(),
            figures: command.interval.is_some() || command.history.is_some(),
            fixed: command.tags.clone(),
            colour: screen::colour(is_terminal, no_color.as_deref(), term.as_deref()),
        };
        let zone = TimeZone::system();
        let form = match () {
            () if command.stats => Form::Counted,
            () if command.live => {
                let title = title(&command.channels, command.interval);
                Form::Live(Box::new(Live::open(io::stdout(), columns, zone, title)?))
            }
            () if command.as_json() || !is_terminal => Form::Json,
            () => Form::Table(Box::new(Table::new(columns, zone, Timestamp::now()))),
        };
        let past = command.history.map(|_| command.channels.iter().cloned());
        Ok(View {
            // The heading of event lines is for people.
            lines_begun: command.as_json() || !is_terminal,
            form,
            metrics: BTreeSet::new(),
            awaited: past.into_iter().flatten().collect(),
        })
    }

    /// Gives the screen back; what is said from now on goes where talk goes.
    pub(super) fn close(&mut self) {
        if let Form::Live(_) = self.form {
            self.form = Form::Counted;
        }
    }

    /// Draws what changed, where something is drawn.
    pub(super) fn draw(&mut self) {
        if let Form::Live(live) = &mut self.form {
            // A terminal that went away ends the process by itself.
            let _ = live.draw(screen::size());
        }
    }

    /// Shows a line of talk.
    pub(super) fn say(&mut self, terminal: &mut Terminal<'_>, text: impl std::fmt::Display) {
        match &mut self.form {
            Form::Live(live) => live.say(text),
            _ => terminal.say(text),
        }
    }

    /// Shows a line about an event, with a heading before the first.
    pub(super) fn event(
        &mut self,
        terminal: &mut Terminal<'_>,
        lines: &mut Lines,
        line: impl FnOnce(&mut Lines) -> String,
    ) {
        let line = line(lines);
        if let Form::Live(live) = &mut self.form {
            return live.say(line);
        }
        if !std::mem::replace(&mut self.lines_begun, true) {
            terminal.data(lines.header());
        }
        terminal.data(line);
    }

    /// Shows what a metric channel says now.
    pub(super) fn metric(&mut self, metric: &Metric, text: &str, terminal: &mut Terminal<'_>) {
        self.metrics.insert(metric.channel.clone());
        // A channel that keeps nothing begins without a past.
        self.past_ended(&metric.channel, terminal);
        match &mut self.form {
            Form::Json => terminal.data(text),
            Form::Counted => {}
            Form::Table(table) => {
                for line in table.lines(metric, screen::size().1) {
                    terminal.data(line);
                }
            }
            Form::Live(live) => live.take(metric),
        }
    }

    /// Shows a part of what a metric channel did, and after the last part where the present begins.
    pub(super) fn past(&mut self, page: &SeriesPage, terminal: &mut Terminal<'_>) {
        self.metrics.insert(page.channel.clone());
        match &mut self.form {
            Form::Json => terminal.data(&page.frame),
            Form::Counted => {}
            Form::Table(table) => {
                let height = screen::size().1;
                for line in page.metrics.iter().flat_map(|metric| table.lines(metric, height)) {
                    terminal.data(line);
                }
            }
            Form::Live(live) => page.metrics.iter().for_each(|metric| live.take(metric)),
        }
        if page.next_ms.is_none() {
            self.past_ended(&page.channel, terminal);
        }
    }

    /// What to say about what a slow reader missed.
    pub(super) fn dropped(&self, channel: &str, count: u64) -> String {
        if self.metrics.contains(channel) {
            let updates =
                if count == 1 { "1 update was".to_owned() } else { format!("{count} updates were") };
            return format!(
                "-- {channel}: {updates} left out, this reader was too slow; the newest values follow"
            );
        }
        format!("-- {channel}: {count} events dropped, this reader was too slow")
    }

    fn past_ended(&mut self, channel: &str, terminal: &mut Terminal<'_>) {
        if self.awaited.remove(channel)
            && self.awaited.is_empty()
            && let Form::Table(table) = &mut self.form
        {
            terminal.data(table.live_rule());
        }
    }
}

/// What to say about a metric channel that says nothing.
pub(super) fn stale(channel: &str, since_ms: i64) -> String {
    let since = Zoned::new(clock(since_ms), TimeZone::system());
    format!(
        "-- {channel}: silent since {}, which is longer than three of its intervals",
        since.strftime("%H:%M:%S")
    )
}

fn title(channels: &[String], interval: Option<Interval>) -> String {
    let every = interval.map(|interval| format!("  every {}", interval.name())).unwrap_or_default();
    format!("{}{every}", channels.join(" "))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::super::series::tests::point;
    use super::*;
    use crate::cli::{Cli, Command};

    fn view(arguments: &[&str], is_terminal: bool) -> View {
        let line = ["pulsewire", "tail", "system.metrics"].iter().chain(arguments);
        let Command::Tail(tail) = Cli::parse_from(line).command else { panic!("not a tail") };
        View::open(&tail, is_terminal).unwrap()
    }

    /// What goes to standard output.
    fn shown(view: &mut View, show: impl FnOnce(&mut View, &mut Terminal<'_>)) -> String {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        show(view, &mut Terminal::new(&mut out, &mut err));
        String::from_utf8(out).unwrap()
    }

    fn page(next_ms: Option<i64>) -> SeriesPage {
        SeriesPage {
            channel: "system.metrics".to_owned(),
            resolution: "5s".to_owned(),
            metrics: vec![point("x", 1.0, 0, "a", true)],
            next_ms,
            frame: "{page}".to_owned(),
        }
    }

    #[test]
    fn a_pipe_sees_one_json_line_a_message_and_nothing_else() {
        let metric = point("x", 1.0, 0, "a", false);
        for (arguments, is_terminal) in
            [(&["--history", "15m"][..], false), (&["--raw"], true), (&["-o", "json"], true)]
        {
            let mut view = view(arguments, is_terminal);
            let out = shown(&mut view, |view, terminal| {
                view.past(&page(None), terminal);
                view.metric(&metric, "{point}", terminal);
            });
            assert_eq!(out, "{page}\n{point}\n", "{arguments:?}");
        }
    }

    #[test]
    fn the_present_begins_once_after_the_last_page_or_without_any() {
        let rules = |out: &str| out.matches("── live ──").count();
        let mut paged = view(&["--history", "15m"], true);
        assert_eq!(rules(&shown(&mut paged, |view, terminal| view.past(&page(Some(7)), terminal))), 0);
        let last = shown(&mut paged, |view, terminal| view.past(&page(None), terminal));
        assert!(last.ends_with("── live ──\n"), "{last}");
        let metric = point("x", 1.0, 0, "a", false);
        let after = |view: &mut View| shown(view, |view, terminal| view.metric(&metric, "", terminal));
        assert_eq!(rules(&after(&mut paged)), 0, "said once");
        let mut kept_nowhere = view(&["--history", "15m"], true);
        assert!(after(&mut kept_nowhere).starts_with("── live ──\n"));
        assert_eq!(rules(&after(&mut view(&[], true))), 0, "no past was asked for");
    }

    #[test]
    fn what_a_slow_reader_missed_is_said_in_the_words_of_the_channel() {
        let mut view = view(&[], true);
        shown(&mut view, |view, terminal| view.metric(&point("x", 1.0, 0, "a", false), "", terminal));
        assert!(view.dropped("system.metrics", 3).contains("3 updates were left out"));
        assert!(view.dropped("system.metrics", 1).contains("1 update was left out"));
        assert_eq!(view.dropped("news", 2), "-- news: 2 events dropped, this reader was too slow");
    }
}
