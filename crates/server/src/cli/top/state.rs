//! What `top` shows, and what a key does. No I/O: an effect says what is to be asked for.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use serde_json::Value;

use super::super::list;
use super::trend::Trend;
use super::view::{View, Wanted};

/// What has to be done after a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Effect {
    /// Nothing but drawing.
    None,
    /// It is left.
    Quit,
    /// Something else is wanted from now on.
    Want(Wanted),
    /// One row by itself, from this path.
    Show(String),
    /// The connections of this session are to be closed.
    Kill(String),
}

/// What takes keys instead of the table.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) enum Over {
    /// Nothing.
    #[default]
    Table,
    /// The keys.
    Help,
    /// A filter that is being written.
    Filter(String),
    /// One row by itself, and how far it is scrolled.
    Detail(Value, u16),
    /// Whether this session's connections are meant to be closed, and whose they are.
    Confirm(String, String),
}

/// Everything that is shown.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) wanted: Wanted,
    pub(super) over: Over,
    pub(super) overview: Value,
    /// The list of the view; null until it came.
    pub(super) document: Value,
    pub(super) selected: usize,
    /// The first row that is seen.
    pub(super) first: usize,
    pub(super) paused: bool,
    /// What went wrong, or was done.
    pub(super) note: String,
    pub(super) latency: Trend,
    pub(super) throughput: Trend,
    /// The most connections that were seen or are remembered.
    pub(super) peak: f64,
}

impl State {
    pub(super) fn new(wanted: Wanted) -> State {
        State { wanted, ..State::default() }
    }

    /// What the figures did before.
    pub(super) fn remember(&mut self, history: &Value) {
        self.latency = Trend::remembered(history, "latency.p95");
        self.throughput = Trend::remembered(history, "messages.out");
        self.peak = Trend::remembered(history, "connections.active").max();
    }

    /// A second has passed on the server.
    pub(super) fn overview(&mut self, overview: Value) {
        let figure = |name: &str| overview["figures"][name].as_f64();
        self.latency.push(figure("latency.p95"));
        self.throughput.push(figure("messages.out"));
        self.peak = self.peak.max(figure("connections.active").unwrap_or(0.0));
        if !self.paused {
            self.overview = overview;
        }
    }

    /// A list came. The selected row stays selected, wherever it stands now.
    pub(super) fn list(&mut self, document: Value) {
        if self.paused {
            return;
        }
        let selected = self.selected_row().map(|row| row["id"].clone());
        self.document = document;
        let at = selected.and_then(|id| list::rows(&self.document).iter().position(|row| row["id"] == id));
        self.select(at.unwrap_or(self.selected));
    }

    pub(super) fn selected_row(&self) -> Option<&Value> {
        list::rows(&self.document).get(self.selected)
    }

    fn select(&mut self, at: usize) {
        self.selected = at.min(list::rows(&self.document).len().saturating_sub(1));
    }

    /// Moves what is seen so that the selected row is in it.
    pub(super) fn scroll(&mut self, height: usize) {
        if self.selected < self.first {
            self.first = self.selected;
        } else if height > 0 && self.selected >= self.first + height {
            self.first = self.selected + 1 - height;
        }
    }

    /// What a key does, on a table of so many rows.
    pub(super) fn key(&mut self, key: KeyEvent, height: usize) -> Effect {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        if control && key.code == KeyCode::Char('c') {
            return Effect::Quit;
        }
        match std::mem::take(&mut self.over) {
            Over::Table => self.table_key(key.code, control, height),
            Over::Filter(text) => self.filter_key(key.code, text),
            Over::Confirm(session, _) => match key.code {
                KeyCode::Char('y' | 'Y') => Effect::Kill(session),
                _ => Effect::None,
            },
            Over::Detail(row, at) => {
                match key.code {
                    KeyCode::Esc | KeyCode::Enter | KeyCode::Char('q') => {}
                    KeyCode::Char('j') | KeyCode::Down => self.over = Over::Detail(row, at.saturating_add(1)),
                    KeyCode::Char('k') | KeyCode::Up => self.over = Over::Detail(row, at.saturating_sub(1)),
                    _ => self.over = Over::Detail(row, at),
                }
                Effect::None
            }
            // Any key takes the help away.
            Over::Help => Effect::None,
        }
    }

    fn table_key(&mut self, code: KeyCode, control: bool, height: usize) -> Effect {
        let page = height.max(1);
        match code {
            KeyCode::Char('f') if control => self.select(self.selected + page),
            KeyCode::Char('b') if control => self.select(self.selected.saturating_sub(page)),
            KeyCode::PageDown => self.select(self.selected + page),
            KeyCode::PageUp => self.select(self.selected.saturating_sub(page)),
            KeyCode::Char('j') | KeyCode::Down => self.select(self.selected + 1),
            KeyCode::Char('k') | KeyCode::Up => self.select(self.selected.saturating_sub(1)),
            KeyCode::Char('g') | KeyCode::Home => self.select(0),
            KeyCode::Char('G') | KeyCode::End => self.select(usize::MAX),
            KeyCode::Char('q') => return Effect::Quit,
            KeyCode::Char('?') => self.over = Over::Help,
            KeyCode::Char('p') => self.paused = !self.paused,
            KeyCode::Char('/') => self.over = Over::Filter(self.wanted.filter.clone()),
            KeyCode::Esc if !self.wanted.filter.is_empty() => {
                return self.want(|wanted| wanted.filter.clear());
            }
            KeyCode::Char('s') => return self.want(Wanted::next_sort),
            KeyCode::Char('r') => return self.want(Wanted::reverse),
            KeyCode::Enter => return self.show(),
            KeyCode::Char('x') => self.ask_to_kill(),
            KeyCode::Char(digit @ '1'..='6') => {
                let view = View::ALL[digit as usize - '1' as usize];
                return self.want(|wanted| *wanted = Wanted { view, ..Wanted::default() });
            }
            _ => {}
        }
        Effect::None
    }

    fn filter_key(&mut self, code: KeyCode, mut text: String) -> Effect {
        match code {
            KeyCode::Enter => return self.want(|wanted| wanted.filter = text),
            KeyCode::Esc => return Effect::None,
            KeyCode::Backspace => drop(text.pop()),
            KeyCode::Char(letter) => text.push(letter),
            _ => {}
        }
        self.over = Over::Filter(text);
        Effect::None
    }

    fn want(&mut self, change: impl FnOnce(&mut Wanted)) -> Effect {
        let before = self.wanted.clone();
        change(&mut self.wanted);
        if self.wanted == before {
            return Effect::None;
        }
        if self.wanted.view != before.view {
            self.document = Value::Null;
        }
        (self.selected, self.first, self.paused) = (0, 0, false);
        self.note.clear();
        Effect::Want(self.wanted.clone())
    }

    fn show(&mut self) -> Effect {
        let Some(row) = self.selected_row() else { return Effect::None };
        let id = row["id"].as_str().unwrap_or_default();
        match self.wanted.view.detail(id) {
            Some(path) => Effect::Show(path),
            None => {
                self.over = Over::Detail(row.clone(), 0);
                Effect::None
            }
        }
    }

    fn ask_to_kill(&mut self) {
        let Some(row) = self.selected_row().filter(|_| self.wanted.view == View::Connections) else { return };
        let word = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
        self.over = Over::Confirm(word("id"), word("userId"));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn key(code: KeyCode) -> KeyEvent {
        KeyEvent::new(code, KeyModifiers::NONE)
    }

    fn press(state: &mut State, keys: &str) -> Effect {
        let mut effect = Effect::None;
        for letter in keys.chars() {
            let code = match letter {
                '\n' => KeyCode::Enter,
                '\u{1b}' => KeyCode::Esc,
                letter => KeyCode::Char(letter),
            };
            effect = state.key(key(code), 10);
        }
        effect
    }

    fn filled(ids: &[&str]) -> State {
        let mut state = State::default();
        state.list(rows(ids));
        state
    }

    fn rows(ids: &[&str]) -> Value {
        let rows: Vec<Value> = ids.iter().map(|id| json!({"id": id, "userId": format!("u-{id}")})).collect();
        json!({"total": ids.len(), "matched": ids.len(), "rows": rows})
    }

    #[test]
    fn the_selected_row_stays_selected_wherever_it_moves() {
        let mut state = filled(&["a", "b", "c"]);
        press(&mut state, "j");
        state.list(rows(&["c", "a", "b"]));
        assert_eq!(state.selected_row().unwrap()["id"], "b");
        state.list(rows(&["c"]));
        assert_eq!(state.selected_row().unwrap()["id"], "c", "it is gone");
        press(&mut state, "G");
        assert_eq!(state.selected, 0);
        state.list(rows(&[]));
        assert_eq!((state.selected, state.selected_row()), (0, None));
    }

    #[test]
    fn keys_move_by_rows_pages_and_ends() {
        let ids: Vec<String> = (0..40).map(|id| id.to_string()).collect();
        let mut state = filled(&ids.iter().map(String::as_str).collect::<Vec<_>>());
        let control = |letter| KeyEvent::new(KeyCode::Char(letter), KeyModifiers::CONTROL);
        state.key(control('f'), 10);
        assert_eq!(state.selected, 10);
        state.scroll(10);
        assert_eq!(state.first, 1);
        press(&mut state, "G");
        state.scroll(10);
        assert_eq!((state.selected, state.first), (39, 30));
        state.key(control('b'), 10);
        press(&mut state, "k");
        assert_eq!(state.selected, 28);
        press(&mut state, "g");
        state.scroll(10);
        assert_eq!((state.selected, state.first), (0, 0));
    }

    #[test]
    fn a_filter_is_written_taken_and_cleared() {
        let mut state = filled(&["a"]);
        let Effect::Want(wanted) = press(&mut state, "/rtt>9\n") else { panic!("{state:?}") };
        assert_eq!(wanted.filter, "rtt>9");
        press(&mut state, "/x\u{1b}");
        assert_eq!(state.wanted.filter, "rtt>9", "nothing was taken");
        assert_eq!(press(&mut state, "\u{1b}"), Effect::Want(Wanted::default()));
        assert_eq!(press(&mut state, "\u{1b}"), Effect::None);
    }

    #[test]
    fn nobody_is_sent_away_without_a_yes() {
        let mut state = filled(&["a", "b"]);
        assert_eq!(press(&mut state, "jx"), Effect::None);
        assert_eq!(state.over, Over::Confirm("b".to_owned(), "u-b".to_owned()));
        assert_eq!(press(&mut state, "n"), Effect::None);
        assert_eq!(press(&mut state, "y"), Effect::None, "the question is gone");
        assert_eq!(press(&mut state, "xy"), Effect::Kill("b".to_owned()));
        press(&mut state, "2");
        state.list(rows(&["run:1"]));
        assert_eq!(press(&mut state, "xy"), Effect::None, "a channel is no connection");
    }

    #[test]
    fn views_change_with_their_number_and_forget_the_rows() {
        let mut state = filled(&["a"]);
        let Effect::Want(wanted) = press(&mut state, "2") else { panic!("{state:?}") };
        assert_eq!((wanted.view, state.document.is_null()), (View::Channels, true));
        assert_eq!(press(&mut state, "2"), Effect::None);
        state.list(rows(&["run:1"]));
        assert_eq!(press(&mut state, "\n"), Effect::Show("/api/admin/channels/run:1".to_owned()));
        press(&mut state, "4");
        state.list(rows(&["message/parse_error"]));
        press(&mut state, "\n");
        assert!(matches!(state.over, Over::Detail(..)), "what has no page is shown as it is");
        press(&mut state, "\u{1b}");
        assert_eq!(press(&mut state, "q"), Effect::Quit);
    }

    #[test]
    fn what_is_paused_stands_still() {
        let mut state = filled(&["a"]);
        press(&mut state, "p");
        state.list(rows(&["b"]));
        state.overview(json!({"figures": {"connections.active": 9}}));
        assert_eq!(
            (state.selected_row().unwrap()["id"].clone(), state.overview.is_null()),
            (json!("a"), true)
        );
        assert_eq!(state.peak, 9.0, "what happens meanwhile is not forgotten");
        press(&mut state, "p");
        state.list(rows(&["b"]));
        assert_eq!(state.selected_row().unwrap()["id"], "b");
    }
}
