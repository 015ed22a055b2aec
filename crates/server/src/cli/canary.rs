//! `pulsewire canary`: whether the candidate settings of upstreams do worse than stable's, over one server or many.
//!
//! Servers compare the tracks of their own streams. What many servers saw is the sum of what each saw, so `judge` adds
//! it up and compares it by the rules of the server; a candidate that has few streams on each server is judged with
//! all of them. A look at which a server does not answer says nothing: neither that the candidate is well nor that it
//! is worse.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use jiff::Timestamp;
use pulsewire_sources::upstream::canary::{Comparison, Figure, Judge, Rules, Tracks, Verdict};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::signal::ctrl_c;
use tokio::time::{MissedTickBehavior, interval};

use super::admin::Admin;
use super::connection::{Connection, ConnectionArguments, block_on};
use super::conns::confirmed;
use super::list::columns::TRACKS;
use super::list::{self, Output};
use super::number::{Unit, number_text};
use super::{Exit, Terminal, upstreams};

/// Where every server says how its candidate does.
const PATH: &str = "/api/admin/canary";
/// Nothing can be said of the candidate: the same code as of a command line that is wrong, so that whoever acts on the
/// answer needs to know three codes only.
const CANNOT_JUDGE: Exit = Exit::Usage;

/// The candidate settings of upstreams beside those that everybody has.
#[derive(Debug, Subcommand)]
pub enum Canary {
    /// Look at one server or many until it is clear how the candidate does: exit code 0 if it is no worse, 1 if it is to
    /// be taken back, 2 if that cannot be said.
    Judge(Arguments),
    /// Take the candidate back: its streams go on with the settings that all others have.
    Rollback(Rollback),
}

/// Which servers, and how long.
#[derive(Debug, Args)]
pub struct Arguments {
    /// A server; can be repeated, or name several with commas between them. Without it the one started here with --dev,
    /// or ws://127.0.0.1:8000.
    #[arg(long = "url", value_name = "URL", env = "PULSEWIRE_URL", value_delimiter = ',')]
    pub urls: Vec<String>,
    /// How often the servers are asked.
    #[arg(long, value_name = "SPAN", default_value = "10s", value_parser = super::span)]
    pub interval: Duration,
    /// For how long; a candidate that is worse is final after the servers' canary.window, three minutes.
    #[arg(long = "for", value_name = "SPAN", default_value = "3m", value_parser = super::span, conflicts_with = "once")]
    pub lasting: Option<Duration>,
    /// Look once. What is worse by then cannot be judged, unless a server has seen it for long enough.
    #[arg(long)]
    pub once: bool,
    /// A line or a document for each look.
    #[arg(short, long, default_value = "text")]
    pub output: Form,
    /// Trust the certificates in this PEM file, and no others, to vouch for wss:// and https:// servers.
    #[arg(long, value_name = "FILE", env = "PULSEWIRE_CA_FILE")]
    pub ca_file: Option<PathBuf>,
    /// Bearer token or API key, the same for every server; the role viewer is enough.
    #[arg(long, value_name = "TOKEN", env = "PULSEWIRE_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
}

/// The form of a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// For people: a line.
    Text,
    /// For programs: a document on a line.
    Json,
}

/// How to take it back.
#[derive(Debug, Args)]
pub struct Rollback {
    /// Do not ask.
    #[arg(short, long)]
    pub yes: bool,
    /// How to print what was done.
    #[arg(short, long, default_value = "table")]
    pub output: Output,
    /// Where; the token needs the role operator or admin.
    #[command(flatten)]
    pub connection: ConnectionArguments,
}

/// Judges the candidate or takes it back.
///
/// # Errors
///
/// The exit code, after the reason has been written.
pub fn run(command: &Canary, terminal: &mut Terminal<'_>) -> Result<Exit, Exit> {
    match command {
        // Whatever stands in the way of judging: whoever asks learns nothing of the candidate.
        Canary::Judge(command) => Ok(judge(command, terminal).unwrap_or(CANNOT_JUDGE)),
        Canary::Rollback(command) => {
            let question = "take the candidate settings of upstreams back?";
            confirmed(question, command.yes, terminal)?;
            let done = upstreams::act(&command.connection, "/api/admin/canary/rollback", terminal)?;
            let told = "the candidate is taken back; `pulsewire upstreams canary` shows it";
            upstreams::print(&done, told, command.output, terminal);
            Ok(Exit::Ok)
        }
    }
}

/// What a server says of its streams.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Said {
    verdict: Verdict,
    ratio: f64,
    window_ms: u64,
    streams_min: u64,
    tracks: Tracks,
}

impl Said {
    fn rules(&self) -> Rules {
        Rules { ratio: self.ratio, window_ms: self.window_ms, streams_min: self.streams_min }
    }
}

fn judge(command: &Arguments, terminal: &mut Terminal<'_>) -> Result<Exit, Exit> {
    let connections = command.resolve(terminal)?;
    let lasting = command.lasting.filter(|_| !command.once).unwrap_or_default();
    block_on(terminal, async |terminal| {
        let mut servers: Vec<(String, Admin)> = connections
            .iter()
            .map(|connection| (connection.endpoint.authority().to_owned(), Admin::new(connection)))
            .collect();
        let mut tick = interval(command.interval);
        // A look that was late is as old as it is: what is worse has to be so for the time itself.
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut looks = Looks::default();
        let mut began = None;
        loop {
            let at = tokio::select! {
                at = tick.tick() => at,
                _ = ctrl_c() => return Ok(CANNOT_JUDGE),
            };
            let passed = at - *began.get_or_insert(at);
            let mut said = Vec::with_capacity(servers.len());
            for (name, admin) in &mut servers {
                said.push((name.as_str(), ask(admin, terminal).await?));
            }
            let look = looks.take(&said, i64::try_from(passed.as_millis()).unwrap_or(i64::MAX));
            match command.output {
                Form::Text => terminal.data(look.line(Timestamp::now())),
                Form::Json => terminal.data(look.document(Timestamp::now())),
            }
            match look.ended(passed >= lasting) {
                None => {}
                Some(exit) => return Ok(exit),
            }
        }
    })?
}

impl Arguments {
    fn resolve(&self, terminal: &mut Terminal<'_>) -> Result<Vec<Connection>, Exit> {
        let one = |url: Option<&String>, terminal: &mut Terminal<'_>| {
            let (url, ca_file, token) = (url.cloned(), self.ca_file.clone(), self.token.clone());
            ConnectionArguments { url, ca_file, token }.resolve(terminal)
        };
        if self.urls.is_empty() {
            return Ok(vec![one(None, terminal)?]);
        }
        self.urls.iter().map(|url| one(Some(url), terminal)).collect()
    }
}

/// What a server says; `None` if it does not answer now, which it may at the next look.
async fn ask(admin: &mut Admin, terminal: &mut Terminal<'_>) -> Result<Option<Said>, Exit> {
    match admin.get(PATH, terminal).await {
        Ok(document) => serde_json::from_value(document).map(Some).map_err(|error| {
            terminal.say(format_args!("error: {PATH} is not what this version reads: {error}"));
            Exit::Failed
        }),
        Err(Exit::Unreachable) => Ok(None),
        Err(exit) => Err(exit),
    }
}

/// What was seen over time.
#[derive(Debug, Default)]
struct Looks {
    judge: Judge,
}

/// One look at all servers.
#[derive(Debug)]
struct Look {
    /// `None`: a server did not answer.
    verdict: Option<Verdict>,
    /// Why it is so, where the comparison does not say it.
    why: Option<String>,
    servers: usize,
    rules: Rules,
    tracks: Tracks,
    comparison: Comparison,
    worse_for_ms: Option<i64>,
}

impl Looks {
    /// What comes of the servers' words at a moment, milliseconds since the first look.
    fn take(&mut self, said: &[(&str, Option<Said>)], now_ms: i64) -> Look {
        let answers = || said.iter().filter_map(|(name, said)| Some((*name, said.as_ref()?)));
        let mut tracks = Tracks::default();
        answers().for_each(|(_, said)| tracks.merge(&said.tracks));
        // They are servers of one deployment: the first speaks for all of them.
        let rules = answers().next().map_or_else(Rules::default, |(_, said)| said.rules());
        let comparison = Comparison::of(&tracks, &rules);
        let decided = answers().find(|(_, said)| matches!(said.verdict, Verdict::Fail | Verdict::RolledBack));
        let silent: Vec<&str> =
            said.iter().filter(|(_, said)| said.is_none()).map(|(name, _)| *name).collect();
        let differs = answers().find(|(_, said)| said.rules() != rules);
        let (verdict, why) = if let Some((name, said)) = decided {
            (Some(said.verdict), Some(format!("{name} says so")))
        } else if !silent.is_empty() {
            (None, Some(format!("no answer from {}", silent.join(", "))))
        } else if let Some((name, _)) = differs {
            (None, Some(format!("{name} has another canary.ratio, window or streams_min than the first")))
        } else if answers().all(|(_, said)| said.verdict == Verdict::Off) {
            (Some(Verdict::Off), Some("no server has a candidate: features.upstream_manager".to_owned()))
        } else {
            (Some(self.judge.look(&comparison, &rules, now_ms)), None)
        };
        let worse_for_ms = self.judge.worse_since_ms().map(|since_ms| now_ms - since_ms);
        Look { verdict, why, servers: said.len(), rules, tracks, comparison, worse_for_ms }
    }
}

impl Look {
    /// The exit code if this look settles it; `last` says that there is no other.
    fn ended(&self, last: bool) -> Option<Exit> {
        match self.verdict {
            Some(Verdict::Fail | Verdict::RolledBack) => Some(Exit::Failed),
            _ if !last => None,
            Some(Verdict::Pass) => Some(Exit::Ok),
            _ => Some(CANNOT_JUDGE),
        }
    }

    fn word(&self) -> &'static str {
        self.verdict.map_or("unreachable", Verdict::as_str)
    }

    fn line(&self, at: Timestamp) -> String {
        let clock = at.to_zoned(jiff::tz::TimeZone::system()).strftime("%H:%M:%S");
        let Comparison { error_rate, retry_rate, .. } = &self.comparison;
        let (canary, stable) = (self.tracks.canary.streams, self.tracks.stable.streams);
        let mut line = format!(
            "{clock}  {:12}  {} canary and {} stable streams of {}  retries {}  errors {}",
            self.word(),
            canary,
            stable,
            if self.servers == 1 { "1 server".to_owned() } else { format!("{} servers", self.servers) },
            told(retry_rate, per_minute),
            told(error_rate, percent),
        );
        if let Some(worse_for_ms) = self.worse_for_ms {
            let window = list::lasting(self.rules.window_ms / 1_000);
            let lasting = list::lasting(worse_for_ms.max(0).cast_unsigned() / 1_000);
            line.push_str(&format!("  worse for {lasting} of {window}"));
        }
        if let Some(why) = &self.why {
            line.push_str(&format!("  ({why})"));
        }
        line
    }

    fn document(&self, at: Timestamp) -> Value {
        json!({
            "at": at.to_string(),
            "verdict": self.word(),
            "why": self.why,
            "servers": self.servers,
            "ratio": self.rules.ratio,
            "windowMs": self.rules.window_ms,
            "streamsMin": self.rules.streams_min,
            "worseForMs": self.worse_for_ms,
            "tracks": self.tracks,
            "comparison": self.comparison,
        })
    }
}

/// A figure of both tracks: `2.75x (0.660/min beside 0.240/min)`.
fn told(figure: &Figure, text: fn(f64) -> String) -> String {
    format!("{:.2}x ({} beside {})", figure.ratio, text(figure.canary), text(figure.stable))
}

fn per_minute(per_second: f64) -> String {
    format!("{}/min", number_text(per_second * 60.0, Unit::Plain))
}

fn percent(share: f64) -> String {
    number_text(share * 100.0, Unit::Percent)
}

/// `pulsewire upstreams canary`: both tracks of one server.
pub(super) fn show(
    connection: &ConnectionArguments,
    output: Output,
    terminal: &mut Terminal<'_>,
) -> Result<Exit, Exit> {
    let connection = connection.resolve(terminal)?;
    let shown = block_on(terminal, async |terminal| Admin::new(&connection).get(PATH, terminal).await)??;
    match output {
        Output::Json => terminal.data(serde_json::to_string_pretty(&shown).unwrap_or_default()),
        Output::Jsonl => terminal.data(&shown),
        Output::Table => page(&shown, terminal),
    }
    Ok(Exit::Ok)
}

fn page(shown: &Value, terminal: &mut Terminal<'_>) {
    for (name, text) in facts(shown, Timestamp::now()) {
        terminal.data(format_args!("{name:12}{text}"));
    }
    if !shown["comparison"].is_object() {
        return;
    }
    let rows: Vec<Value> = ["stable", "canary"].map(|track| row(shown, track)).into();
    terminal.data("");
    for line in list::table(&rows, TRACKS, Timestamp::now(), None) {
        terminal.data(line);
    }
}

/// What the server says of the candidate, in words.
fn facts(shown: &Value, now: Timestamp) -> Vec<(&'static str, String)> {
    let verdict = shown["verdict"].as_str().unwrap_or("-");
    let mut facts = vec![("verdict", format!("{verdict}: {}", meaning(verdict)))];
    let moment = |name: &str| -> Option<Timestamp> { shown[name].as_str()?.parse().ok() };
    let ago = |at: Timestamp| list::lasting((now.as_second() - at.as_second()).max(0).cast_unsigned());
    facts.extend(moment("worseSince").map(|at| ("worse for", ago(at))));
    facts.extend(moment("rolledBackAt").map(|at| {
        let why = shown["rolledBackWhy"].as_str().map(super::screen::printable).unwrap_or_default();
        ("taken back", format!("{} ago: {why}", ago(at)))
    }));
    if verdict != "off" {
        let [ratio, share] = ["ratio", "share"].map(|name| shown[name].as_f64().unwrap_or_default());
        let by_itself = if shown["rollback"] == true { "takes it back" } else { "only says so" };
        let window = list::lasting(shown["windowMs"].as_u64().unwrap_or_default() / 1_000);
        facts.push(("share", format!("{} of streams", percent(share))));
        facts.push((
            "rule",
            format!(
                "worse above {ratio:.2}x of stable's rate, shown by {} streams or more; after {window} the server {by_itself}",
                shown["streamsMin"]
            ),
        ));
        for (name, field) in [("retries", "retryRate"), ("errors", "errorRate")] {
            let figure = &shown["comparison"][field];
            let worse = if figure["worse"] == true { ", worse" } else { "" };
            facts.extend(
                figure["ratio"].as_f64().map(|ratio| (name, format!("{ratio:.2}x of stable's{worse}"))),
            );
        }
    }
    facts
}

/// What a verdict is, and what to do.
fn meaning(verdict: &str) -> &'static str {
    match verdict {
        "off" => "there is no candidate; features.upstream_manager makes one",
        "insufficient" => "too few streams on both tracks to say anything",
        "pass" => "the candidate is no worse than stable",
        "suspect" => "the candidate is worse, but has not been for long",
        "fail" => "the candidate is worse: `pulsewire canary rollback` takes it back",
        "rolled_back" => "the candidate was taken back",
        _ => "this version does not know it",
    }
}

/// A track as a row: what its streams did and how often.
fn row(shown: &Value, track: &str) -> Value {
    let mut row = shown["tracks"][track].clone();
    row["track"] = track.into();
    row["retriesPerMinute"] = shown["comparison"]["retryRate"][track].as_f64().map(|rate| rate * 60.0).into();
    row["errorShare"] = shown["comparison"]["errorRate"][track].clone();
    row
}

#[cfg(test)]
mod tests {
    use pulsewire_sources::upstream::Track;
    use pulsewire_sources::upstream::canary::Counts;

    use super::*;

    /// A server with so many streams on each track, each of which was tried so often again.
    fn said(verdict: Verdict, stable: (usize, u32), canary: (usize, u32)) -> Option<Said> {
        let mut tracks = Tracks::default();
        for (track, (streams, retries)) in [(Track::Stable, stable), (Track::Canary, canary)] {
            let counts =
                |n: usize| Counts { attempts: retries + 1, retries: retries + n as u32 % 2, errors: retries };
            (0..streams).for_each(|n| tracks.add(track, counts(n)));
        }
        Some(Said { verdict, ratio: 1.5, window_ms: 180_000, streams_min: 3, tracks })
    }

    fn verdict(looks: &mut Looks, said: &[Option<Said>], now_ms: i64) -> (&'static str, Option<Exit>) {
        let said: Vec<_> = said.iter().map(|said| ("a", said.clone())).collect();
        let look = looks.take(&said, now_ms);
        (look.word(), look.ended(false))
    }

    #[test]
    fn a_candidate_is_judged_by_what_all_servers_saw_together() {
        // Two streams say nothing on either server, and four together do.
        let one = || said(Verdict::Insufficient, (20, 1), (2, 30));
        let mut looks = Looks::default();
        assert_eq!(verdict(&mut looks, &[one()], 0), ("insufficient", None));
        assert_eq!(verdict(&mut looks, &[one(), one()], 0), ("suspect", None));
    }

    #[test]
    fn being_worse_in_every_look_of_the_window_is_final_and_looks_that_say_nothing_change_nothing() {
        let worse = || said(Verdict::Suspect, (40, 1), (8, 30));
        let mut looks = Looks::default();
        assert_eq!(verdict(&mut looks, &[worse()], 0), ("suspect", None));
        assert_eq!(verdict(&mut looks, &[None], 90_000), ("unreachable", None));
        assert_eq!(verdict(&mut looks, &[worse()], 179_999), ("suspect", None));
        assert_eq!(verdict(&mut looks, &[worse()], 180_000), ("fail", Some(Exit::Failed)));
        let mut looks = Looks::default();
        assert_eq!(verdict(&mut looks, &[worse()], 0), ("suspect", None));
        assert_eq!(verdict(&mut looks, &[said(Verdict::Pass, (40, 1), (8, 1))], 90_000), ("pass", None));
        assert_eq!(verdict(&mut looks, &[worse()], 180_000), ("suspect", None), "it was well in between");
    }

    #[test]
    fn what_one_server_has_decided_is_final_whatever_the_others_say() {
        for decided in [Verdict::Fail, Verdict::RolledBack] {
            let servers = [said(Verdict::Pass, (40, 1), (8, 1)), said(decided, (0, 0), (0, 0)), None];
            let found = verdict(&mut Looks::default(), &servers, 0);
            assert_eq!(found, (decided.as_str(), Some(Exit::Failed)));
        }
    }

    #[test]
    fn the_last_look_decides_what_was_not_decided_before() {
        let end = |said: &[Option<Said>]| {
            let said: Vec<_> = said.iter().map(|said| ("a:1", said.clone())).collect();
            Looks::default().take(&said, 0).ended(true)
        };
        let well = || said(Verdict::Pass, (40, 1), (8, 1));
        assert_eq!(end(&[well()]), Some(Exit::Ok));
        assert_eq!(end(&[said(Verdict::Suspect, (40, 1), (8, 30))]), Some(CANNOT_JUDGE), "not for long");
        assert_eq!(end(&[said(Verdict::Insufficient, (40, 1), (1, 1))]), Some(CANNOT_JUDGE));
        assert_eq!(end(&[said(Verdict::Off, (40, 1), (0, 0))]), Some(CANNOT_JUDGE));
        assert_eq!(end(&[well(), None]), Some(CANNOT_JUDGE));
        let other = well().map(|said| Said { ratio: 3.0, ..said });
        assert_eq!(end(&[well(), other]), Some(CANNOT_JUDGE), "by which rule?");
    }

    #[test]
    fn a_look_is_one_line_and_says_what_it_saw() {
        let servers =
            [("a:1", said(Verdict::Suspect, (40, 1), (8, 30))), ("b:2", said(Verdict::Off, (10, 1), (0, 0)))];
        let mut looks = Looks::default();
        looks.take(&servers, 0);
        let look = looks.take(&servers, 70_000);
        let line = look.line(Timestamp::UNIX_EPOCH);
        for words in [
            "suspect ",
            "8 canary and 50 stable streams of 2 servers",
            "/min beside 0.500/min)",
            "worse for 1m 10s of 3m 0s",
        ] {
            assert!(line.contains(words), "{words}: {line}");
        }
        let document = look.document(Timestamp::UNIX_EPOCH);
        assert_eq!((&document["verdict"], &document["worseForMs"]), (&json!("suspect"), &json!(70_000)));
        assert_eq!(document["tracks"]["canary"]["streams"], 8);
        let unheard = looks.take(&[("b:2", None)], 80_000);
        assert!(unheard.line(Timestamp::UNIX_EPOCH).contains("unreachable"), "{unheard:?}");
        assert!(unheard.line(Timestamp::UNIX_EPOCH).ends_with("(no answer from b:2)"), "{unheard:?}");
    }

    #[test]
    fn every_verdict_has_a_meaning() {
        for verdict in Verdict::ALL {
            assert_ne!(meaning(verdict.as_str()), meaning("another"), "{verdict:?}");
        }
    }
}
