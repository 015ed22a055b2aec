//! What the series of a metric channel did earlier, for `get_history`, subscribers and HTTP.
//!
//! Such reads may go through many windows: a few are under way at a time, some wait, and more are refused.

use pulsewire_bus::{SeriesHistory, SeriesQuery};
use pulsewire_edge::clock;
use pulsewire_hub::SeriesAnswer;
use pulsewire_protocol::{ChannelName, Encoding, ErrorCode, RequestId, Sequence, Shape};
use tokio::sync::Semaphore;

use crate::app::App;

/// Reads that may wait for each that is under way.
const WAITING_MAX: usize = 256;

/// The places of those who read.
pub struct Places {
    reading: Semaphore,
    waiting: Semaphore,
}

impl Places {
    /// So many read at a time.
    #[must_use]
    pub fn new(reads_max: usize) -> Self {
        Self { reading: Semaphore::new(reads_max), waiting: Semaphore::new(reads_max * WAITING_MAX) }
    }
}

/// Reads a metric channel's past.
///
/// # Errors
///
/// As [`pulsewire_bus::Bus::series_history`]; `overloaded` if too many wait already.
pub async fn read(
    app: &std::sync::Arc<App>,
    name: &ChannelName,
    query: &SeriesQuery,
) -> Result<SeriesHistory, ErrorCode> {
    let _waiting = app.series.waiting.try_acquire().map_err(|_| ErrorCode::Overloaded)?;
    let _place = app.series.reading.acquire().await.map_err(|_| ErrorCode::Internal)?;
    let channel = app.bus.at_hand(name, Sequence::ZERO)?.ok_or(ErrorCode::UnknownChannel)?;
    let (bus, query) = (app.bus.clone(), query.clone());
    let read = move || bus.series_history(clock::now(), &channel, &query);
    tokio::task::spawn_blocking(read).await.map_err(|_| ErrorCode::Internal)?
}

/// Reads a metric channel's past up to now at most, as a message.
///
/// # Errors
///
/// As [`read`].
pub async fn answer(
    app: &std::sync::Arc<App>,
    name: &ChannelName,
    query: SeriesQuery,
    shape: Shape,
    id: Option<&RequestId>,
    encoding: Encoding,
) -> Result<SeriesAnswer, ErrorCode> {
    // What is dated ahead is read, too, by whoever wants everything.
    let now_ms = clock::now().wall_ms;
    let query = SeriesQuery { to_ms: query.to_ms.min(now_ms + AHEAD_MS), ..query };
    let history = read(app, name, &query).await?;
    let frame = history.encode(name, &query, shape, id, encoding);
    let SeriesHistory { next_ms, resolution, number, .. } = history;
    Ok(SeriesAnswer { frame, next_ms, resolution, number })
}

/// How far ahead samples may be dated, milliseconds.
const AHEAD_MS: i64 = 60_000;
