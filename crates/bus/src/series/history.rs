//! What a metric channel's series did earlier.
//!
//! The finest tier that reaches back far enough answers, unless that would be more points than are wanted: then a
//! coarser one does. What this process has not kept yet is read from memory first, then what is kept: so nothing
//! that is kept meanwhile is missed, and what is found twice counts once.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use pulsewire_protocol::{
    Answer, ChannelName, Encoding, ErrorCode, Filter, Frame, Interval, MetricSet, Point, Reading, RequestId,
    SeriesPage, Shape, encode_grouped, encode_points,
};

use super::levels::{Dated, Level};
use super::named::{Known, Named};
use super::table::in_order;
use super::window::Window;
use crate::lane::failure_label;
use crate::store::{Chunk, ChunkQuery, Chunks, Tier};
use crate::{Bus, Channel, Now};

/// How long the windows of an answer are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Resolution {
    S1,
    S5,
    S10,
    M1,
    M5,
    H1,
}

impl Resolution {
    /// Every resolution, finest first.
    pub const ALL: [Self; 6] = [Self::S1, Self::S5, Self::S10, Self::M1, Self::M5, Self::H1];

    /// `1s`, `5s`, `10s`, `1m`, `5m` or `1h`.
    #[must_use]
    pub fn name(self) -> &'static str {
        ["1s", "5s", "10s", "1m", "5m", "1h"][self as usize]
    }

    /// The resolution with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|resolution| resolution.name() == name)
    }

    /// Milliseconds.
    fn span_ms(self) -> i64 {
        Level::ALL[self as usize].span_ms()
    }

    /// The coarsest tier that is kept and of whose windows its own are made.
    fn tier(self, kept_ms: &[i64; Tier::ALL.len()]) -> Option<Tier> {
        let fits = |tier: &Tier| kept_ms[*tier as usize] > 0 && self.span_ms() % tier.window_ms() == 0;
        Tier::ALL.into_iter().rev().find(fits)
    }
}

impl From<Interval> for Resolution {
    fn from(interval: Interval) -> Self {
        match interval {
            Interval::S1 => Self::S1,
            Interval::S5 => Self::S5,
            Interval::M1 => Self::M1,
            Interval::M5 => Self::M5,
            Interval::H1 => Self::H1,
        }
    }
}

/// What is wanted of a metric channel's past.
#[derive(Debug, Clone)]
pub struct SeriesQuery {
    /// From this moment on, Unix milliseconds.
    pub from_ms: i64,
    /// Before this moment.
    pub to_ms: i64,
    /// Windows of this length; without it, the finest that reach back to the beginning and of which one series has no
    /// more than `fits`.
    pub resolution: Option<Resolution>,
    /// So many windows of a series fit in what the answer is for.
    pub fits: usize,
    /// Of series that pass.
    pub filter: Filter,
    /// At most so many points, but everything of one moment.
    pub points_max: usize,
    /// Whether windows that are still open are wanted, as they are now.
    pub open: bool,
}

/// What series did.
#[derive(Debug, Clone)]
pub struct SeriesHistory {
    /// Windows by their start, earliest first.
    pub points: Vec<Point>,
    /// How long the windows are.
    pub resolution: Resolution,
    /// Where the answer was cut because it would have been too long: ask again from this moment on.
    pub next_ms: Option<i64>,
    /// Chunks that are kept and cannot be read.
    pub corrupt: usize,
    /// The number of the last set that the channel had said: what it holds is in here.
    pub number: u64,
}

impl SeriesHistory {
    /// The `history` message that says it.
    #[must_use]
    pub fn encode(
        &self,
        channel: &ChannelName,
        query: &SeriesQuery,
        shape: Shape,
        id: Option<&RequestId>,
        encoding: Encoding,
    ) -> Frame {
        let (number, interval) = (self.number, Interval::from_name(self.resolution.name()));
        let set = MetricSet { channel: channel.clone(), number, interval, points: self.points.clone() };
        let frames = match shape {
            Shape::Grouped => encode_grouped(&set, Encoding::Json),
            Shape::Points => encode_points(&set, Encoding::Json),
        };
        let events: Vec<&[u8]> = frames.iter().map(Frame::payload).collect();
        let page = SeriesPage {
            channel,
            resolution: self.resolution.name(),
            start_ms: query.from_ms,
            end_ms: query.to_ms,
            events: &events,
            next_ms: self.next_ms,
        };
        Answer::Series(page).encode(id, encoding)
    }
}

/// Windows by when they began.
type Windows = BTreeMap<i64, Window>;

impl Bus {
    /// Reads a metric channel's past. May block in the store.
    ///
    /// # Errors
    ///
    /// `history_unavailable` if none is kept at that interval, `store_unavailable` if it cannot be read.
    pub fn series_history(
        &self,
        now: Now,
        channel: &Arc<Channel>,
        query: &SeriesQuery,
    ) -> Result<SeriesHistory, ErrorCode> {
        let kept_ms = self.series_limits().kept_ms;
        let none = ErrorCode::HistoryUnavailable;
        if let Some(resolution) = query.resolution {
            let tier = resolution.tier(&kept_ms).ok_or(none)?;
            return self.read_windows(channel, query, resolution, tier);
        }
        let mut coarsest = None;
        for resolution in Resolution::ALL {
            let Some(tier) = resolution.tier(&kept_ms) else { continue };
            coarsest = Some((resolution, tier));
            // Finer windows that do not reach back to the beginning would leave it out.
            let reaches = now.wall_ms - kept_ms[tier as usize] <= query.from_ms;
            if reaches && (query.to_ms - query.from_ms) / resolution.span_ms() <= query.fits as i64 {
                break;
            }
        }
        let (resolution, tier) = coarsest.ok_or(none)?;
        self.read_windows(channel, query, resolution, tier)
    }

    fn read_windows(
        &self,
        channel: &Arc<Channel>,
        query: &SeriesQuery,
        resolution: Resolution,
        tier: Tier,
    ) -> Result<SeriesHistory, ErrorCode> {
        let span_ms = resolution.span_ms();
        let from_ms = query.from_ms - query.from_ms.rem_euclid(span_ms);
        let query = SeriesQuery { from_ms, ..query.clone() };
        let (mut found, open_ms, number) = self.at_hand_windows(channel, &query, resolution, tier);
        let kept = self.kept_windows(channel, &query, (span_ms / tier.window_ms()) as usize, tier)?;
        // Behind the last chunk that was read there may be others of the same time.
        let unread_ms = kept.more.then(|| kept.chunks.last().map_or(query.to_ms, |chunk| chunk.start_ms));
        let mut corrupt = kept.corrupt;
        for chunk in &kept.chunks {
            corrupt += usize::from(!self.add_chunk(chunk, &mut found));
        }
        let mut points = Vec::new();
        for (Known(series), (own, others)) in found {
            let mut windows = Windows::new();
            let key = (&*series.name, &series.tags);
            let open_ms = open_ms.get(&key as &dyn Named).copied().unwrap_or(i64::MAX);
            for (start_ms, window) in own.into_iter().chain(others) {
                add(&mut windows, start_ms - start_ms.rem_euclid(span_ms), window);
            }
            let inside = windows.range(query.from_ms..query.to_ms.min(open_ms).max(query.from_ms));
            points.extend(inside.map(|(start_ms, window)| Point {
                series: series.clone(),
                timestamp_ms: *start_ms,
                reading: Reading::Figures(window.figures()),
            }));
        }
        in_order(&mut points);
        let full_ms = points.get(query.points_max).map(|point| point.timestamp_ms);
        let mut next_ms = full_ms.into_iter().chain(unread_ms).min();
        if let Some(cut_ms) = &mut next_ms {
            *cut_ms -= cut_ms.rem_euclid(span_ms);
            let whole = points.partition_point(|point| point.timestamp_ms < *cut_ms);
            if whole == 0 && !points.is_empty() {
                // One moment is more than is wanted: it is read whole, then on.
                let first_ms = points[0].timestamp_ms;
                let to_ms = first_ms + span_ms;
                let moment = SeriesQuery { from_ms: first_ms, to_ms, points_max: usize::MAX, ..query };
                let history = self.read_windows(channel, &moment, resolution, tier)?;
                return Ok(SeriesHistory { next_ms: Some(to_ms), ..history });
            }
            points.truncate(whole);
        }
        Ok(SeriesHistory { points, resolution, next_ms, corrupt, number })
    }

    /// Windows that are in memory: those that wait to be kept, and those that are open. With them, unless open ones are
    /// wanted, from when on the windows of each series are open: what is known of them is a part.
    fn at_hand_windows(
        &self,
        channel: &Channel,
        query: &SeriesQuery,
        resolution: Resolution,
        tier: Tier,
    ) -> (Found, HashMap<Known, i64>, u64) {
        let (mut found, mut open_ms) = (Found::new(), HashMap::new());
        let order = channel.order.lock();
        let Some(table) = &order.series else { return (found, open_ms, 0) };
        if !query.open {
            open_ms.extend(table.open_from(Level::ALL[resolution as usize]));
        }
        let level = Level::ALL.into_iter().find(|level| level.tier() == Some(tier));
        for (series, windows) in level.into_iter().flat_map(|level| table.windows(level, query.open)) {
            let inside = |(start_ms, _): &Dated| *start_ms >= query.from_ms && *start_ms < query.to_ms;
            let windows: Vec<Dated> = windows.into_iter().filter(inside).collect();
            if !windows.is_empty() && query.filter.passes(&series.name, &series.tags) {
                let own = &mut found.entry(Known(series.clone())).or_default().0;
                windows.into_iter().for_each(|(start_ms, window)| add(own, start_ms, window));
            }
        }
        (found, open_ms, table.number())
    }

    fn kept_windows(
        &self,
        channel: &Channel,
        query: &SeriesQuery,
        windows: usize,
        tier: Tier,
    ) -> Result<Chunks, ErrorCode> {
        /// What a window takes at most in most cases, in bytes.
        const WINDOW_BYTES: usize = 512;
        let Some(store) = &self.options.series.store else { return Ok(Chunks::default()) };
        let wanted = ChunkQuery {
            channel: &channel.name,
            tier,
            from_ms: query.from_ms,
            to_ms: query.to_ms,
            filter: &query.filter,
            bytes_max: query.points_max.saturating_mul(WINDOW_BYTES).saturating_mul(windows),
        };
        store.read(&wanted).map_err(|error| {
            tracing::warn!(%error, "the history of a metric channel cannot be read");
            self.telemetry.shared().store_failed(failure_label(error.failure));
            ErrorCode::StoreUnavailable
        })
    }

    /// Adds the windows of a kept chunk. `false` if it cannot be read.
    fn add_chunk(&self, chunk: &Chunk, found: &mut Found) -> bool {
        let mut bytes = &*chunk.windows;
        let key = (&*chunk.series.name, &chunk.series.tags);
        if !found.contains_key(&key as &dyn Named) {
            found.insert(Known(chunk.series.clone()), Default::default());
        }
        let (own, others) = found.get_mut(&key as &dyn Named).expect("it was put there");
        while !bytes.is_empty() {
            let Some((start_ms, window)) = Window::read(&mut bytes) else { return false };
            if chunk.writer == self.options.incarnation {
                // What is in memory, too, is newer.
                own.entry(start_ms).or_insert(window);
            } else {
                add(others, start_ms, window);
            }
        }
        true
    }
}

/// The windows of each series: this process's, and those of others.
type Found = HashMap<Known, (Windows, Windows)>;

fn add(windows: &mut Windows, start_ms: i64, window: Window) {
    match windows.entry(start_ms) {
        std::collections::btree_map::Entry::Occupied(mut known) => known.get_mut().merge(&window),
        std::collections::btree_map::Entry::Vacant(place) => {
            place.insert(window);
        }
    }
}
