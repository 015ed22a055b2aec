//! The terminal of `top`: keys in, frames out, and what the server says in between.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyEvent, KeyEventKind};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use super::super::connection::{Connection, block_on};
use super::super::{Exit, Terminal};
use super::draw::{draw, table_height};
use super::feed::{Feed, News};
use super::state::{Effect, Over, State};
use super::view::Wanted;

/// How long the thread that reads keys waits before it looks whether it is over.
const KEY_WAIT: Duration = Duration::from_millis(100);
/// What the trends begin with.
const HISTORY: &str = "/api/admin/history?figures=connections.active,latency.p95,messages.out&range=5m";

/// Shows until it is left.
///
/// # Errors
///
/// The exit code, after the reason has been written.
pub(super) fn run(
    connection: &Connection,
    wanted: Wanted,
    every: Duration,
    terminal: &mut Terminal<'_>,
) -> Result<Exit, Exit> {
    block_on(terminal, async |terminal| {
        let mut feed = Feed::new(connection, &wanted);
        // What cannot be had at all is said on the usual screen.
        if let Err(why) = feed.get("/api/admin/overview").await {
            terminal.say(format_args!("error: {why}"));
            terminal.say("it takes a server that runs and a token with the role viewer, operator or admin");
            return Err(Exit::Failed);
        }
        let mut state = State::new(wanted);
        if let Ok(history) = feed.get(HISTORY).await {
            state.remember(&history);
        }
        let screen = ratatui::try_init().map_err(|error| {
            terminal.say(format_args!("error: the terminal cannot be drawn on: {error}"));
            Exit::Failed
        })?;
        let left = Showing { feed, state, screen }.until_left(every).await;
        ratatui::restore();
        left.map(|()| Exit::Ok).map_err(|error| {
            terminal.say(format_args!("error: the terminal cannot be drawn on: {error}"));
            Exit::Failed
        })
    })?
}

struct Showing {
    feed: Feed,
    state: State,
    screen: DefaultTerminal,
}

impl Showing {
    async fn until_left(mut self, every: Duration) -> std::io::Result<()> {
        let (mut keys, reading) = keys();
        let mut tick = interval(every);
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            self.draw()?;
            tokio::select! {
                news = self.feed.next() => {
                    if let Some(news) = news {
                        self.take(news);
                    }
                }
                _ = tick.tick() => {
                    for news in self.feed.ask().await {
                        self.take(news);
                    }
                }
                key = keys.recv() => {
                    let Some(Event::Key(key)) = key else { continue };
                    if !self.key(key).await? {
                        reading.store(false, Ordering::Relaxed);
                        return Ok(());
                    }
                }
            }
        }
    }

    fn draw(&mut self) -> std::io::Result<()> {
        let height = table_height(self.screen.size()?.height);
        self.state.scroll(height);
        self.screen.draw(|frame| draw(frame, &self.state))?;
        Ok(())
    }

    fn take(&mut self, news: News) {
        match news {
            News::Overview(overview) => self.state.overview(overview),
            News::List(list) => {
                self.state.note.clear();
                self.state.list(list);
            }
            News::Trouble(why) => self.state.note = why,
        }
    }

    /// Whether it goes on.
    async fn key(&mut self, key: KeyEvent) -> std::io::Result<bool> {
        if key.kind == KeyEventKind::Release {
            return Ok(true);
        }
        let height = table_height(self.screen.size()?.height);
        match self.state.key(key, height) {
            Effect::None => {}
            Effect::Quit => return Ok(false),
            Effect::Want(wanted) => {
                self.feed.want(&wanted);
                for news in self.feed.ask().await {
                    self.take(news);
                }
            }
            Effect::Show(path) => match self.feed.get(&path).await {
                Ok(shown) => self.state.over = Over::Detail(shown, 0),
                Err(why) => self.state.note = why,
            },
            Effect::Kill(session) => {
                let done =
                    self.feed.post("/api/admin/websocket/disconnect", &json!({ "session": session })).await;
                self.state.note = match done {
                    Ok(done) => format!("{} closed", done["closed"]),
                    Err(why) => why,
                };
            }
        }
        Ok(true)
    }
}

/// A thread that reads keys for as long as it is told to.
fn keys() -> (mpsc::Receiver<Event>, Arc<AtomicBool>) {
    let (sender, receiver) = mpsc::channel(64);
    let reading = Arc::new(AtomicBool::new(true));
    let goes_on = reading.clone();
    std::thread::spawn(move || {
        while goes_on.load(Ordering::Relaxed) {
            match event::poll(KEY_WAIT)
                .and_then(|there| if there { event::read().map(Some) } else { Ok(None) })
            {
                Ok(Some(event)) => {
                    if sender.blocking_send(event).is_err() {
                        return;
                    }
                }
                Ok(None) => {}
                // The terminal is gone.
                Err(_) => return,
            }
        }
    });
    (receiver, reading)
}
