//! The evaluation of the rules, once a second.

use std::collections::VecDeque;
use std::sync::Arc;

use pulsewire_telemetry::{Alert, Severity};

use super::hold::Hold;
use super::recent::Recent;
use super::rules::{RULES, Reading, Rule, rule};
use crate::figures::{Moment, Step};
use crate::settings::{Levels, Thresholds};

/// Times of firing that are remembered of each rule; the oldest makes room.
const EPISODES_MAX: usize = 32;
/// If nothing was looked at for so long, what was beyond a limit before begins anew.
const PAUSE_NS: u64 = 5_000_000_000;

/// All rules, and what was found.
#[derive(Debug)]
pub struct Judge {
    found: [Found; Alert::COUNT],
    recent: Recent,
    last: Option<Arc<Moment>>,
}

/// Where a value stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// There is nothing to judge.
    #[default]
    None,
    /// Within the target.
    Target,
    /// Between the target and the limit of a warning.
    Ok,
    /// Beyond the limit of a warning.
    Warning,
    /// Beyond the critical limit.
    Critical,
}

/// What becomes of a rule.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum State {
    /// Within its limits.
    #[default]
    Inactive,
    /// Beyond one, not yet for long enough.
    Pending(Severity),
    /// Beyond one for long enough.
    Firing(Severity),
}

/// What was found of a rule.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// The value, if there is one.
    pub value: Option<f64>,
    /// Why it was not judged.
    pub note: Option<String>,
    /// The limits in the unit of the rule; `None` if it is off, or of a maximum that is not known.
    pub levels: Option<Levels>,
    /// Where the value stands now.
    pub level: Level,
    /// Since when, Unix milliseconds.
    pub level_since_ms: i64,
    /// What becomes of it.
    pub state: State,
    /// Since when, Unix milliseconds.
    pub state_since_ms: i64,
    /// How long it has been beyond its limit without firing, in milliseconds.
    pub pending_ms: u64,
    /// When it fired, and how badly: oldest first. The end of the last is open while it fires.
    pub episodes: VecDeque<Episode>,
    /// Until when nobody is told, Unix milliseconds.
    pub silenced_until_ms: Option<i64>,
    warning: Hold,
    critical: Hold,
}

/// A time of firing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Episode {
    /// When it began, Unix milliseconds.
    pub from_ms: i64,
    /// When it ended.
    pub to_ms: Option<i64>,
    /// How bad it was.
    pub severity: Severity,
}

/// Something to be told: a rule began to fire, became worse or better, or ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    /// Which.
    pub alert: Alert,
    /// How bad it is now; `None` if it has ended.
    pub severity: Option<Severity>,
    /// The value now.
    pub value: Option<f64>,
    /// The limit that it is, or was, beyond.
    pub limit: Option<f64>,
}

impl Default for Judge {
    fn default() -> Self {
        Self { found: std::array::from_fn(|_| Found::default()), recent: Recent::default(), last: None }
    }
}

impl Judge {
    /// Takes in what is now. Returns what is to be told of it.
    pub fn tick(&mut self, now: &Arc<Moment>, thresholds: &Thresholds) -> Vec<Told> {
        let hold_ns = u64::try_from(thresholds.hold.as_nanos()).unwrap_or(u64::MAX);
        let paused = self.last.as_ref().is_some_and(|last| now.at.since_ns(last.at.mono_ns) > PAUSE_NS);
        let mut told = Vec::new();
        for (rule, found) in RULES.iter().zip(&mut self.found) {
            if paused {
                found.warning.resume();
                found.critical.resume();
            }
            let before =
                if rule.window.is_zero() { self.last.as_ref() } else { self.recent.back(now, rule.window) };
            let step = Step::new(before.unwrap_or(now), now, true);
            let levels = levels(rule, thresholds, now);
            let hold_ns = if rule.at_once { 0 } else { hold_ns };
            told.extend(found.take(rule, (rule.read)(&step), levels, now, hold_ns));
        }
        self.recent.push(now);
        self.last = Some(now.clone());
        told
    }

    /// What was found of every rule.
    pub fn all(&self) -> impl Iterator<Item = (&'static Rule, &Found)> {
        RULES.iter().zip(&self.found)
    }

    /// What was found of a rule.
    #[must_use]
    pub fn of(&self, alert: Alert) -> &Found {
        &self.found[alert as usize]
    }

    /// The last moment, and the one `seconds` before it or a little further back; what is not recorded is not known.
    #[must_use]
    pub fn since(&self, seconds: u64) -> Option<(&Arc<Moment>, &Arc<Moment>)> {
        let last = self.last.as_ref()?;
        Some((self.recent.back(last, std::time::Duration::from_secs(seconds))?, last))
    }

    /// How bad each rule is that fires, for the metrics.
    #[must_use]
    pub fn firing(&self) -> [Option<Severity>; Alert::COUNT] {
        std::array::from_fn(|index| self.found[index].state.firing())
    }

    /// The rules that fire critically and that nobody has silenced: with one of them the node is degraded.
    pub fn critical(&self, now_ms: i64) -> impl Iterator<Item = &'static Rule> {
        let critical = self.found.iter().zip(&RULES);
        let critical = critical.filter(move |(found, _)| {
            found.state == State::Firing(Severity::Critical) && !found.is_silenced(now_ms)
        });
        critical.map(|(_, rule)| rule)
    }

    /// Tells nobody of a rule until then; `None` ends it.
    pub fn silence(&mut self, alert: Alert, until_ms: Option<i64>) {
        self.found[alert as usize].silenced_until_ms = until_ms;
    }
}

impl State {
    /// How bad it is if it fires.
    #[must_use]
    pub const fn firing(self) -> Option<Severity> {
        match self {
            Self::Firing(severity) => Some(severity),
            Self::Inactive | Self::Pending(_) => None,
        }
    }

    /// How bad it is, or would be.
    #[must_use]
    pub const fn severity(self) -> Option<Severity> {
        match self {
            Self::Inactive => None,
            Self::Pending(severity) | Self::Firing(severity) => Some(severity),
        }
    }
}

impl Found {
    /// Whether nobody is told now.
    #[must_use]
    pub fn is_silenced(&self, now_ms: i64) -> bool {
        self.silenced_until_ms.is_some_and(|until_ms| now_ms < until_ms)
    }

    /// The limit that counts: the one it is beyond, else that of a warning.
    #[must_use]
    pub fn limit(&self) -> Option<f64> {
        self.levels.map(|levels| match self.state.severity() {
            Some(Severity::Critical) => levels.critical,
            _ => levels.warning,
        })
    }

    fn take(
        &mut self,
        rule: &Rule,
        reading: Reading,
        levels: Option<Levels>,
        now: &Moment,
        hold_ns: u64,
    ) -> Option<Told> {
        let (now_ns, now_ms) = (now.at.mono_ns, now.at.wall_ms);
        let level = match (reading, levels) {
            (Reading::Unknown, _) => return None,
            (Reading::Of(value), Some(levels)) => {
                (self.value, self.note) = (Some(value), None);
                level(value, levels, rule.less_is_worse)
            }
            (Reading::Quiet(value, note), Some(_)) => {
                (self.value, self.note) = (value, Some(note));
                Level::None
            }
            (reading, None) => {
                let value = if let Reading::Of(value) = reading { Some(value) } else { None };
                (self.value, self.note) = (value, Some("this rule is off".to_owned()));
                Level::None
            }
        };
        self.levels = levels;
        if level != self.level || self.level_since_ms == 0 {
            (self.level, self.level_since_ms) = (level, now_ms);
        }
        self.warning.tick(level >= Level::Warning, now_ns, hold_ns);
        self.critical.tick(level >= Level::Critical, now_ns, hold_ns);
        let pending_ns = self.critical.pending_ns(now_ns).max(self.warning.pending_ns(now_ns));
        self.pending_ms = pending_ns.unwrap_or(0) / 1_000_000;
        self.turn(rule, self.state_of(level), now_ms)
    }

    fn state_of(&self, level: Level) -> State {
        match (self.critical.counts(), self.warning.counts(), level) {
            (true, ..) => State::Firing(Severity::Critical),
            (_, true, _) => State::Firing(Severity::Warning),
            (_, _, Level::Critical) => State::Pending(Severity::Critical),
            (_, _, Level::Warning) => State::Pending(Severity::Warning),
            _ => State::Inactive,
        }
    }

    fn turn(&mut self, rule: &Rule, state: State, now_ms: i64) -> Option<Told> {
        let (before, limit) = (self.state.firing(), self.limit());
        if state != self.state || self.state_since_ms == 0 {
            (self.state, self.state_since_ms) = (state, now_ms);
        }
        if before == state.firing() {
            return None;
        }
        if let Some(last) = self.episodes.back_mut().filter(|last| last.to_ms.is_none()) {
            last.to_ms = Some(now_ms);
        }
        if let Some(severity) = state.firing() {
            if self.episodes.len() == EPISODES_MAX {
                self.episodes.pop_front();
            }
            self.episodes.push_back(Episode { from_ms: now_ms, to_ms: None, severity });
        }
        let limit = if state.firing().is_some() { self.limit() } else { limit };
        let told = Told { alert: rule.alert, severity: state.firing(), value: self.value, limit };
        (!self.is_silenced(now_ms)).then_some(told)
    }
}

/// The limits of a rule now, percentages of a maximum as numbers.
fn levels(rule: &Rule, thresholds: &Thresholds, now: &Moment) -> Option<Levels> {
    let levels = (rule.limits)(thresholds)?;
    if !levels.of_maximum {
        return Some(levels);
    }
    let maximum =
        now.current.as_ref().map(|current| current.connections_hard_limit).filter(|most| *most > 0)?;
    let of = |percent: f64| (percent * maximum as f64 / 100.0).round();
    let [target, warning, critical] = [levels.target, levels.warning, levels.critical].map(of);
    Some(Levels { target, warning, critical, of_maximum: false })
}

fn level(value: f64, levels: Levels, less_is_worse: bool) -> Level {
    let beyond = |limit: f64| if less_is_worse { value < limit } else { value > limit };
    match () {
        () if beyond(levels.critical) => Level::Critical,
        () if beyond(levels.warning) => Level::Warning,
        () if beyond(levels.target) => Level::Ok,
        () => Level::Target,
    }
}

impl Level {
    /// The word of the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Target => "target",
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

impl Told {
    /// What is told, in one line.
    #[must_use]
    pub fn text(&self) -> String {
        let rule = rule(self.alert);
        let shown =
            |value: Option<f64>| value.map_or_else(|| "nothing".to_owned(), |value| rule.unit.shown(value));
        let limit = shown(self.limit);
        match self.severity {
            Some(severity) => format!("{}: {severity} at {}, limit {limit}", rule.title, shown(self.value)),
            None => format!("{}: back to normal at {}, limit {limit}", rule.title, shown(self.value)),
        }
    }
}
