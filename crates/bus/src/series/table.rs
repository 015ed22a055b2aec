//! The series of one channel.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use pulsewire_protocol::{ErrorCode, MetricSet, Number, Point, Reading, Sample, Series, Tags};
use pulsewire_telemetry::{EventTypeId, SampleRefusal};

use super::{Refusing, SeriesLimits};
use crate::{Channel, Publication};

/// The series of one channel, and what each said last.
#[derive(Debug, Default)]
pub(crate) struct Table {
    ids: HashMap<Known, u32>,
    states: Vec<Option<State>>,
    free: Vec<u32>,
    /// How many sets the channel has said.
    said: u64,
    /// The newest values, as they were last asked for.
    newest: Option<Arc<Publication>>,
}

/// One series.
#[derive(Debug)]
struct State {
    series: Arc<Series>,
    newest: Number,
    newest_ms: i64,
}

/// What became of a sample that was accepted.
pub(crate) struct Taken {
    /// The sample, unless it is older than the newest of its series.
    pub(crate) fresh: Option<(Arc<Series>, i64, Number)>,
}

impl Table {
    pub(crate) fn take(
        &mut self,
        sample: Sample,
        now_ms: i64,
        limits: &SeriesLimits,
    ) -> Result<Taken, Refusing> {
        let timestamp_ms = sample.timestamp_ms.unwrap_or(now_ms);
        if !sample.value.as_f64().is_finite() {
            let detail = format!("`{}` is not a finite number", sample.name);
            return Err((SampleRefusal::Value, ErrorCode::BadRequest, detail));
        }
        if timestamp_ms > now_ms + limits.future_ms {
            let detail = format!("`{}` is dated {} ms ahead", sample.name, timestamp_ms - now_ms);
            return Err((SampleRefusal::Future, ErrorCode::BadRequest, detail));
        }
        let (kind, value) = (sample.kind, sample.value);
        let id = match self.ids.get(&(&*sample.name, &sample.tags) as &dyn Named) {
            Some(id) => *id,
            None => self.add(sample, timestamp_ms, limits)?,
        };
        let state = self.states[id as usize].as_mut().expect("a series that is listed");
        if state.series.kind != kind {
            let known = state.series.kind.name();
            let detail = format!("`{}` is a {known}, not a {}", state.series.name, kind.name());
            return Err((SampleRefusal::Kind, ErrorCode::BadRequest, detail));
        }
        if timestamp_ms < state.newest_ms {
            return Ok(Taken { fresh: None });
        }
        state.newest = value;
        state.newest_ms = timestamp_ms;
        self.newest = None;
        Ok(Taken { fresh: Some((state.series.clone(), timestamp_ms, value)) })
    }

    fn add(&mut self, sample: Sample, timestamp_ms: i64, limits: &SeriesLimits) -> Result<u32, Refusing> {
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
        let state = Some(State { series: series.clone(), newest: value, newest_ms: timestamp_ms });
        match self.states.get_mut(id as usize) {
            Some(place) => *place = state,
            None => self.states.push(state),
        }
        self.ids.insert(Known(series), id);
        Ok(id)
    }

    /// The number of the next set that the channel says.
    pub(crate) fn next_number(&mut self) -> u64 {
        self.said += 1;
        self.said
    }

    /// The newest value of every series. Whoever asks before anything changes is given the same.
    pub(crate) fn newest(
        &mut self,
        channel: &Arc<Channel>,
        event_type: EventTypeId,
    ) -> Option<Arc<Publication>> {
        if self.newest.is_none() && !self.ids.is_empty() {
            let point = |state: &State| Point {
                series: state.series.clone(),
                timestamp_ms: state.newest_ms,
                reading: Reading::Value(state.newest),
            };
            let mut points: Vec<Point> = self.states.iter().flatten().map(point).collect();
            points.sort_by(|a, b| (a.timestamp_ms, &a.series.tags).cmp(&(b.timestamp_ms, &b.series.tags)));
            let set = MetricSet { channel: channel.name.clone(), number: self.said, interval: None, points };
            self.newest = Some(Arc::new(Publication::values(channel.clone(), set, 0, event_type)));
        }
        self.newest.clone()
    }

    pub(crate) fn len(&self) -> usize {
        self.ids.len()
    }
}

/// What tells series apart: a sample can be looked up without being copied.
trait Named {
    fn name(&self) -> (&str, &Tags);
}

impl Named for (&str, &Tags) {
    fn name(&self) -> (&str, &Tags) {
        *self
    }
}

impl Hash for dyn Named + '_ {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name().hash(state);
    }
}

impl PartialEq for dyn Named + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for dyn Named + '_ {}

/// A series as a key.
#[derive(Debug)]
struct Known(Arc<Series>);

impl Named for Known {
    fn name(&self) -> (&str, &Tags) {
        (&self.0.name, &self.0.tags)
    }
}

impl Hash for Known {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name().hash(state);
    }
}

impl PartialEq for Known {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for Known {}

impl<'a> Borrow<dyn Named + 'a> for Known {
    fn borrow(&self) -> &(dyn Named + 'a) {
        self
    }
}
