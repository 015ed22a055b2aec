//! The series of one channel.
//!
//! Sans I/O, and under the channel's lock: samples and time go in, points and closed windows come out.
//!
//! A sample is this node's own, or another node accepted it. What is live here shows both; what is kept is of this
//! node's own alone, for the other keeps its own and readers put together what all have kept. A series of which only
//! own samples are known has one set of windows for both; from the first sample of another node on, it has two.

use std::collections::HashMap;
use std::sync::Arc;

use pulsewire_protocol::{ErrorCode, Figures, Interval, MetricSet, Number, Point, Reading, Sample, Series};
use pulsewire_telemetry::{EventTypeId, SampleRefusal};

use super::levels::{Closed, Dated, Level, Levels};
use super::named::{Known, Named};
use super::window::Window;
use super::{Refusing, SeriesLimits};
use crate::store::Tier;
use crate::{Channel, Publication};

/// The series of one channel, and what each said last.
#[derive(Debug, Default)]
pub(crate) struct Table {
    ids: HashMap<Known, u32>,
    states: Vec<Option<State>>,
    free: Vec<u32>,
    /// How many sets the channel has said.
    said: u64,
    /// The newest values and windows, as they were last asked for.
    newest: [Option<Arc<Publication>>; 1 + Interval::ALL.len()],
    /// Windows that closed since they were last sent, by interval.
    rolled: [Vec<Point>; Interval::ALL.len()],
    /// Bytes of windows that wait to be kept.
    waiting_bytes: usize,
    /// Values that came too late for a window, and have not been counted yet.
    late: u64,
    /// Windows of what is live that have closed and are not put where they go yet.
    closed: Closed,
    /// The same of this node's own samples, where they have windows of their own.
    closed_own: Closed,
}

/// One series.
#[derive(Debug)]
struct State {
    series: Arc<Series>,
    newest: Number,
    newest_ms: i64,
    /// When something last came, Unix milliseconds.
    seen_ms: i64,
    /// The windows of what is live here.
    levels: Levels,
    /// What this node accepted itself, once another node has accepted something, too; until then it is everything.
    own: Option<Box<Own>>,
    /// The last window of each interval that has closed.
    last: [Option<(i64, Figures)>; Interval::ALL.len()],
    waiting: Vec<Waiting>,
    /// When its open windows were last kept.
    kept_ms: i64,
}

/// What this node accepted of a series of which others accept samples, too.
#[derive(Debug)]
struct Own {
    /// The newest value and its time; `None` if all came from others.
    newest: Option<(i64, Number)>,
    /// The windows that are kept.
    levels: Levels,
}

/// Who accepted a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Accepted {
    /// This node.
    Here,
    /// Another node, which has just told it.
    Elsewhere,
    /// Another node, which was asked for the newest it knows: it may have told it before.
    Before,
}

/// A window that has closed and is to be kept.
#[derive(Debug, Clone)]
pub(super) struct Waiting {
    pub(super) tier: Tier,
    pub(super) start_ms: i64,
    pub(super) bytes: Box<[u8]>,
}

/// A sample that is the newest of its series: of which, when, and what.
pub(crate) type Fresh = (Arc<Series>, i64, Number);

/// What is to be kept of a series.
pub(super) struct Keeping {
    pub(super) id: u32,
    pub(super) series: Arc<Series>,
    /// Windows that closed, oldest first.
    pub(super) waiting: Vec<Waiting>,
    /// Windows that are open and are to be kept as they are now, under their level's tier.
    pub(super) open: Vec<(Tier, Dated)>,
}

/// The tiers whose open windows are kept, too: a process that is killed loses less of them.
const KEPT_OPEN: [(Level, Tier); 2] = [(Level::M1, Tier::M1), (Level::H1, Tier::H1)];

impl Table {
    /// Takes a sample. `None` if it is older than the newest of its series.
    pub(crate) fn take(
        &mut self,
        sample: Sample,
        accepted: Accepted,
        now_ms: i64,
        limits: &SeriesLimits,
    ) -> Result<Option<Fresh>, Refusing> {
        let at_ms = sample.timestamp_ms.unwrap_or(now_ms);
        if !sample.value.as_f64().is_finite() {
            let detail = format!("`{}` is not a finite number", sample.name);
            return Err((SampleRefusal::Value, ErrorCode::BadRequest, detail));
        }
        if at_ms > now_ms.saturating_add(limits.future_ms) {
            let detail = format!("`{}` is dated {} ms ahead", sample.name, at_ms.saturating_sub(now_ms));
            return Err((SampleRefusal::Future, ErrorCode::BadRequest, detail));
        }
        if at_ms < 0 {
            let detail = format!("`{}` is dated before 1970", sample.name);
            return Err((SampleRefusal::Malformed, ErrorCode::BadRequest, detail));
        }
        let (kind, value) = (sample.kind, sample.value);
        let id = match self.ids.get(&(&*sample.name, &sample.tags) as &dyn Named) {
            Some(id) => *id,
            None => self.add(sample, limits)?,
        };
        let state = self.states[id as usize].as_mut().expect("a series that is listed");
        if state.series.kind != kind {
            let known = state.series.kind.name();
            let detail = format!("`{}` is a {known}, not a {}", state.series.name, kind.name());
            return Err((SampleRefusal::Kind, ErrorCode::BadRequest, detail));
        }
        state.seen_ms = now_ms;
        if state.newest_ms > now_ms.saturating_add(limits.future_ms) {
            // What came before is dated as nothing may be now: the clock was set back. Nobody waits until that time comes.
            state.close(&mut self.closed, &mut self.closed_own);
            state.newest_ms = i64::MIN;
            state.own.iter_mut().for_each(|own| own.newest = None);
        }
        if accepted != Accepted::Here {
            state.set_apart();
        }
        let is_fresh = match accepted {
            Accepted::Here => {
                let mut in_time = state.levels.add(value, at_ms, now_ms, &mut self.closed);
                if let Some(own) = &mut state.own {
                    // It counts as late if it is in none of the windows that are kept.
                    in_time = own.levels.add(value, at_ms, now_ms, &mut self.closed_own);
                    if own.newest.is_none_or(|(newest_ms, _)| at_ms >= newest_ms) {
                        own.newest = Some((at_ms, value));
                    }
                }
                self.late += u64::from(!in_time);
                at_ms >= state.newest_ms
            }
            Accepted::Elsewhere => {
                state.levels.add(value, at_ms, now_ms, &mut self.closed);
                at_ms >= state.newest_ms
            }
            Accepted::Before => at_ms > state.newest_ms,
        };
        let fresh = is_fresh.then(|| {
            (state.newest, state.newest_ms) = (value, at_ms);
            self.newest[0] = None;
            (state.series.clone(), at_ms, value)
        });
        self.file_closed(id, limits);
        Ok(fresh)
    }

    fn add(&mut self, sample: Sample, limits: &SeriesLimits) -> Result<u32, Refusing> {
        if !Sample::is_name(&sample.name) {
            let detail = "a name is 1 to 128 bytes of A-Z a-z 0-9 _ : . - /".to_owned();
            return Err((SampleRefusal::Name, ErrorCode::BadRequest, detail));
        }
        if self.ids.len() >= limits.per_channel_max {
            let detail = format!("the channel has {} series already", limits.per_channel_max);
            return Err((SampleRefusal::SeriesMax, ErrorCode::LimitExceeded, detail));
        }
        let id = self.free.pop().unwrap_or(self.states.len() as u32);
        let Sample { name, kind, value, tags, .. } = sample;
        let series = Arc::new(Series { id, name, kind, tags });
        let state = State {
            series: series.clone(),
            newest: value,
            newest_ms: i64::MIN,
            seen_ms: 0,
            levels: Levels::default(),
            own: None,
            last: [None; Interval::ALL.len()],
            waiting: Vec::new(),
            kept_ms: 0,
        };
        match self.states.get_mut(id as usize) {
            Some(place) => *place = Some(state),
            None => self.states.push(Some(state)),
        }
        self.ids.insert(Known(series), id);
        Ok(id)
    }

    /// Closes the windows of all series that have ended. Returns how many windows of a second did.
    pub(crate) fn roll(&mut self, now_ms: i64, limits: &SeriesLimits) -> u64 {
        let mut seconds = 0;
        for id in 0..self.states.len() {
            let Some(state) = &mut self.states[id] else { continue };
            state.levels.roll(now_ms, limits.lateness_ms, &mut self.closed);
            if let Some(own) = &mut state.own {
                own.levels.roll(now_ms, limits.lateness_ms, &mut self.closed_own);
            }
            seconds += self.closed.iter().filter(|(level, ..)| *level == Level::S1).count() as u64;
            self.file_closed(id as u32, limits);
        }
        seconds
    }

    /// Closes every window: nothing will come any more.
    pub(super) fn close(&mut self, limits: &SeriesLimits) {
        for id in 0..self.states.len() {
            let Some(state) = &mut self.states[id] else { continue };
            state.close(&mut self.closed, &mut self.closed_own);
            self.file_closed(id as u32, limits);
        }
    }

    /// Puts windows of a series that have closed where they go: to subscribers, and to what is to be kept.
    fn file_closed(&mut self, id: u32, limits: &SeriesLimits) {
        if self.closed.is_empty() && self.closed_own.is_empty() {
            return;
        }
        let state = self.states[id as usize].as_mut().expect("a series that is listed");
        let skipped = state.levels.take_skipped();
        self.late += state.own.as_mut().map_or(skipped, |own| own.levels.take_skipped());
        for (level, start_ms, window) in self.closed.drain(..) {
            if let Some(interval) = level.interval() {
                let figures = window.figures();
                let (series, reading) = (state.series.clone(), Reading::Figures(figures));
                self.rolled[interval as usize].push(Point { series, timestamp_ms: start_ms, reading });
                if state.last[interval as usize].is_none_or(|(last_ms, _)| last_ms <= start_ms) {
                    state.last[interval as usize] = Some((start_ms, figures));
                }
                self.newest[1 + interval as usize] = None;
            }
            if state.own.is_none() {
                self.waiting_bytes += state.wait(level, start_ms, &window, limits);
            }
        }
        for (level, start_ms, window) in self.closed_own.drain(..) {
            self.waiting_bytes += state.wait(level, start_ms, &window, limits);
        }
    }

    /// How many values came too late for a window since this was last asked.
    pub(crate) fn take_late(&mut self) -> u64 {
        std::mem::take(&mut self.late)
    }

    /// The number of the next set that the channel says.
    pub(crate) fn next_number(&mut self) -> u64 {
        self.said += 1;
        self.said
    }

    /// The number of the last set that the channel said.
    pub(super) fn number(&self) -> u64 {
        self.said
    }

    /// Windows of an interval that closed since this was last asked, as one set for each start.
    pub(crate) fn take_rolled(&mut self, interval: Interval) -> Vec<Vec<Point>> {
        let mut points = std::mem::take(&mut self.rolled[interval as usize]);
        if points.is_empty() {
            return Vec::new();
        }
        in_order(&mut points);
        points.chunk_by(|a, b| a.timestamp_ms == b.timestamp_ms).map(<[Point]>::to_vec).collect()
    }

    /// The newest value of every series, or the last window that closed. Whoever asks before anything changes is given
    /// the same.
    pub(crate) fn newest(
        &mut self,
        channel: &Arc<Channel>,
        interval: Option<Interval>,
        event_type: EventTypeId,
    ) -> Option<Arc<Publication>> {
        let place = interval.map_or(0, |interval| 1 + interval as usize);
        if self.newest[place].is_none() {
            let point = |state: &State| {
                let (timestamp_ms, reading) = match interval {
                    None => (state.newest_ms, Reading::Value(state.newest)),
                    Some(interval) => {
                        let (start_ms, figures) = state.last[interval as usize]?;
                        (start_ms, Reading::Figures(figures))
                    }
                };
                Some(Point { series: state.series.clone(), timestamp_ms, reading })
            };
            let mut points: Vec<Point> = self.states.iter().flatten().filter_map(point).collect();
            if points.is_empty() {
                return None;
            }
            in_order(&mut points);
            let set = MetricSet { channel: channel.name.clone(), number: self.said, interval, points };
            self.newest[place] = Some(Arc::new(Publication::values(channel.clone(), set, 0, event_type)));
        }
        self.newest[place].clone()
    }

    /// What is to be kept now, of at most so many series from a number on, and the number to go on from. Windows stay
    /// here, for readers, until [`Table::kept`] says that they are kept.
    pub(super) fn keeping(
        &mut self,
        from: u32,
        series_max: usize,
        open_before_ms: i64,
    ) -> (Vec<Keeping>, Option<u32>) {
        let mut keeping = Vec::new();
        for (id, state) in self.states.iter_mut().enumerate().skip(from as usize) {
            if keeping.len() == series_max {
                return (keeping, Some(id as u32));
            }
            let Some(state) = state else { continue };
            let mut open = Vec::new();
            if state.kept_ms <= open_before_ms && state.seen_ms > state.kept_ms {
                for (level, tier) in KEPT_OPEN {
                    open.extend(state.kept_levels().open(level).into_iter().map(|dated| (tier, dated)));
                }
            }
            if !state.waiting.is_empty() || !open.is_empty() {
                let (series, waiting) = (state.series.clone(), state.waiting.clone());
                keeping.push(Keeping { id: id as u32, series, waiting, open });
            }
        }
        (keeping, None)
    }

    /// So many windows of a series were kept, or given up.
    pub(super) fn kept(&mut self, kept: &Keeping, now_ms: i64) {
        let state = self.states.get_mut(kept.id as usize).and_then(Option::as_mut);
        let Some(state) = state.filter(|state| Arc::ptr_eq(&state.series, &kept.series)) else { return };
        let gone = state.waiting.drain(..kept.waiting.len().min(state.waiting.len()));
        self.waiting_bytes -= gone.map(|waiting| waiting.bytes.len()).sum::<usize>();
        if state.waiting.is_empty() {
            state.waiting.shrink_to(2);
        }
        if !kept.open.is_empty() {
            state.kept_ms = now_ms;
        }
    }

    /// Gives up windows that wait to be kept until they take no more than so many bytes. Returns how many.
    pub(super) fn give_up(&mut self, bytes_max: usize) -> u64 {
        let mut given_up = 0;
        for state in self.states.iter_mut().flatten() {
            if self.waiting_bytes <= bytes_max {
                break;
            }
            given_up += state.waiting.len() as u64;
            self.waiting_bytes -= state.waiting.iter().map(|waiting| waiting.bytes.len()).sum::<usize>();
            state.waiting = Vec::new();
        }
        given_up
    }

    /// Forgets series that have said nothing for long, and of which everything is kept.
    pub(crate) fn forget_idle(&mut self, now_ms: i64, limits: &SeriesLimits) {
        for id in 0..self.states.len() {
            let idle = |state: &State| {
                state.seen_ms.saturating_add(limits.idle_ms) <= now_ms
                    && state.levels.is_empty()
                    && state.kept_levels().is_empty()
                    && state.waiting.is_empty()
            };
            let Some(state) = self.states[id].take_if(|state| idle(state)) else { continue };
            self.ids.remove(&(&*state.series.name, &state.series.tags) as &dyn Named);
            self.free.push(id as u32);
            self.newest = Default::default();
        }
    }

    /// Every series with its windows of a tier that are not known to be kept: those that closed, and those that are
    /// open if they are wanted.
    pub(super) fn windows(
        &self,
        level: Level,
        open: bool,
    ) -> impl Iterator<Item = (&Arc<Series>, Vec<Dated>)> {
        self.states.iter().flatten().map(move |state| {
            let closed = state.waiting.iter().filter(move |waiting| Some(waiting.tier) == level.tier());
            let mut windows: Vec<Dated> =
                closed.filter_map(|waiting| Window::read(&mut &*waiting.bytes)).collect();
            // What is live may have closed before what is kept; whoever reads leaves out what is open there.
            if open || state.own.is_some() {
                windows.extend(state.kept_levels().open(level));
            }
            (&state.series, windows)
        })
    }

    /// Every series that has a window of a level open, and since when.
    pub(super) fn open_from(&self, level: Level) -> impl Iterator<Item = (Known, i64)> {
        self.states.iter().flatten().filter_map(move |state| {
            let start_ms = state.levels.open(level).first()?.0;
            Some((Known(state.series.clone()), start_ms))
        })
    }

    /// The newest value of each series that this node accepted itself, with its time.
    pub(super) fn newest_own(&self) -> Vec<Sample> {
        let sample = |state: &State| {
            let (at_ms, value) = match &state.own {
                Some(own) => own.newest?,
                None => (state.newest_ms, state.newest),
            };
            let Series { name, kind, tags, .. } = &*state.series;
            let (name, tags) = (name.clone(), tags.clone());
            Some(Sample { name, kind: *kind, value, tags, timestamp_ms: Some(at_ms) })
        };
        self.states.iter().flatten().filter_map(sample).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.ids.len()
    }

    /// The bytes its series take, roughly.
    pub(crate) fn bytes(&self) -> usize {
        let tags = |series: &Series| {
            series.tags.iter().map(|(key, value)| key.len() + value.len() + 32).sum::<usize>()
        };
        let state = |state: &State| {
            size_of::<Series>()
                + state.series.name.len()
                + tags(&state.series)
                + state.levels.heap_bytes()
                + state.own.as_ref().map_or(0, |own| size_of::<Own>() + own.levels.heap_bytes())
                + state.waiting.capacity() * size_of::<Waiting>()
        };
        self.states.capacity() * size_of::<Option<State>>()
            + self.ids.capacity() * (size_of::<(Known, u32)>() + 1)
            + self.waiting_bytes
            + self.states.iter().flatten().map(state).sum::<usize>()
    }
}

impl State {
    /// The windows that are kept when they close.
    fn kept_levels(&self) -> &Levels {
        self.own.as_ref().map_or(&self.levels, |own| &own.levels)
    }

    /// Gives what this node accepted itself windows of its own: those it has had so far.
    fn set_apart(&mut self) {
        if self.own.is_none() {
            let newest = (self.newest_ms > i64::MIN).then_some((self.newest_ms, self.newest));
            self.own = Some(Box::new(Own { newest, levels: self.levels.clone() }));
        }
    }

    /// Closes every window, and lets time begin anew.
    fn close(&mut self, closed: &mut Closed, closed_own: &mut Closed) {
        self.levels.restart(closed);
        if let Some(own) = &mut self.own {
            own.levels.restart(closed_own);
        }
    }

    /// Lets a window that has closed wait to be kept, if its tier is. Returns the bytes it takes.
    fn wait(&mut self, level: Level, start_ms: i64, window: &Window, limits: &SeriesLimits) -> usize {
        let Some(tier) = level.tier().filter(|tier| limits.kept_ms[*tier as usize] > 0) else { return 0 };
        let mut bytes = Vec::with_capacity(64);
        window.write(start_ms, &mut bytes);
        let len_bytes = bytes.len();
        self.waiting.push(Waiting { tier, start_ms, bytes: bytes.into() });
        len_bytes
    }
}

/// The order in which points are sent: by time, then one set of tags after the other, each as it came to be known.
pub(super) fn in_order(points: &mut [Point]) {
    points.sort_by(|a, b| {
        let key = |point: &Point| (point.timestamp_ms, point.series.id);
        a.timestamp_ms
            .cmp(&b.timestamp_ms)
            .then_with(|| a.series.tags.cmp(&b.series.tags))
            .then(key(a).cmp(&key(b)))
    });
}
