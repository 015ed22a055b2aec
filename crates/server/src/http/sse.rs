//! Event streams (Server-Sent Events): the cursor loop that goes on.
//!
//! A stream is a task and a body with room for one chunk between them. The task builds the next chunk only when
//! the last one has been taken, so a reader that is slow costs its cursor and two chunks, and one that takes
//! nothing is given up by its socket ([`crate::patient`]). Each event's `id` is its position: a browser that
//! comes back sends it and goes on exactly there. The `event` of a block is the `type` of the message in its
//! `data`; metric data, which has none, comes as `metric`.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Extension, Path, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use hyper::body::Frame as BodyFrame;
use pulsewire_bus::{Body as Published, Channel, ChannelKind, Publication, ReadLimit};
use pulsewire_edge::clock;
use pulsewire_hub::watch::timeline::{Happening, Note};
use pulsewire_hub::{Action, Drain};
use pulsewire_protocol::{
    Answer, CloseCode, Encoding, ErrorCode, Frame, Interval, MetricSet, Position, Sequence, Shape,
    encode_grouped, encode_points,
};
use pulsewire_telemetry::{
    Closed, DisconnectReason, DropCause, Initiator, MessageType, RejectReason, RejectStage, Sent, SlowAction,
    Transport,
};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::access::{self, Caller};
use super::problem::Problem;
use super::read::{self, Reader, asked};
use crate::app::App;
use crate::patient::Stalled;
use crate::reading::readers::{Guest, Peer, Woken};
use crate::reading::{self, Cursor, Seat, Start};

/// The header with which a browser says what it has had.
const LAST_EVENT_ID: &str = "last-event-id";
/// Events of one chunk.
const CHUNK_EVENTS: usize = 64;
/// How long a reader that was sent away waits before it comes back, at most.
const RETRY_MS_MAX: u64 = 5_000;
/// And at least.
const RETRY_MS_MIN: u64 = 500;

/// `GET /api/channels/{channel}/sse`: what the channel says, from a position or from now on.
pub async fn stream(
    State(app): State<Arc<App>>,
    caller: Caller,
    Extension(agents): Extension<Arc<crate::agents::Agents>>,
    Extension(stalled): Extension<Stalled>,
    Path(channel): Path<String>,
) -> Result<Response, Problem> {
    let name = read::channel_name(&channel)?;
    access::pace(&app).await.inspect_err(|_| {
        app.telemetry.shared().rejected(RejectStage::Handshake, RejectReason::HandshakeRate);
    })?;
    let principal = read::admit(&app, &caller, &name, &[Action::Subscribe]).await?;
    let mut asked = asked::Asked::parse(caller.query(), "after")?;
    if let Some(last) = last_event_id(&caller.headers, caller.query())? {
        asked.after = Some(last);
    }
    let peer = Peer::of(&caller, &agents);
    let reader = Reader { peer, principal, asked, name };
    if reader.asked.after.is_some() {
        read::may_look_back(&app, &reader)?;
    }
    let at_least = reader.asked.after.as_ref().map_or(Sequence::ZERO, Start::sequence);
    let channel = reading::open(&app, &reader.name, at_least).await?;
    if reader.asked.interval.is_some() && channel.kind != ChannelKind::Metrics {
        let detail =
            format!("`{}` is not a metric channel: `aggregation_interval` is for those", channel.name);
        return Err(Problem::new(ErrorCode::Unsupported, detail));
    }
    let guest = Guest {
        transport: Transport::Sse,
        principal: &reader.principal,
        peer: &reader.peer,
        readers_max: read::readers_max(&app),
    };
    let seat = app.readers.sit(&channel, &guest, &app.hub.admission, &app.telemetry)?;
    app.end_if_shut_out(reader.peer.remote.ip(), Some(&reader.principal));
    read::note_fallback(&app, &reader);
    let (out, chunks) = mpsc::channel(1);
    let live = app.live.load_full();
    let streaming = Streaming {
        heartbeat: live.settings.reading.heartbeat,
        chunk_bytes: live.settings.limits.outbox_bytes_max / 2,
        expires_at_ms: reader.principal.expires_at_ms,
        app,
        seat,
        out,
        channel,
        stalled,
        began_ns: clock::now().mono_ns,
        stirred: false,
    };
    tokio::spawn(streaming.run(reader));
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        // Proxies that gather answers would hold events back.
        (header::HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    Ok((headers, Body::new(Chunks(chunks))).into_response())
}

/// What the client has had, as it says itself. The header is newer than the URL, which a browser repeats as it was.
fn last_event_id(headers: &HeaderMap, query: Option<&str>) -> Result<Option<Start>, Problem> {
    let unreadable = |_| Problem::new(ErrorCode::InvalidPosition, "Last-Event-ID is not text");
    let header = headers.get(LAST_EVENT_ID).map(HeaderValue::to_str).transpose().map_err(unreadable)?;
    let text = match header.filter(|text| !text.is_empty()) {
        Some(text) => Some(text.to_owned()),
        None => asked::parameter(query, "lastEventId")?,
    };
    text.map(|text| asked::start(&text)).transpose()
}

/// When a token ends, if it does, by the clock as it stands now: it may be set meanwhile, so each wait asks anew.
fn ends(expires_at_ms: Option<i64>) -> Option<Instant> {
    let left_ms = u64::try_from(expires_at_ms?.saturating_sub(clock::now().wall_ms)).unwrap_or(0);
    Instant::now().checked_add(Duration::from_millis(left_ms))
}

/// The body of a stream: what its task hands over.
struct Chunks(mpsc::Receiver<Bytes>);

impl hyper::body::Body for Chunks {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<BodyFrame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|chunk| chunk.map(|chunk| Ok(BodyFrame::data(chunk))))
    }
}

/// Why a stream ends.
#[derive(Debug, Clone, Copy)]
enum Ending {
    /// Nobody takes the body any more.
    Gone,
    /// An operator sent the reader away.
    Kicked(CloseCode),
    /// The server is going away.
    Drained(Drain),
    /// The token ran out.
    Expired,
    /// The store cannot be read now.
    Unreadable,
}

/// What a stream was woken by.
enum Next {
    /// There may be something to tell.
    Moved,
    /// There was nothing for a while.
    Quiet,
}

/// A stream's task.
struct Streaming {
    app: Arc<App>,
    seat: Seat,
    out: mpsc::Sender<Bytes>,
    channel: Arc<Channel>,
    heartbeat: Duration,
    chunk_bytes: usize,
    /// When the reader's token ends, Unix milliseconds.
    expires_at_ms: Option<i64>,
    stalled: Stalled,
    began_ns: u64,
    /// Whether something happened while a chunk was being handed over.
    stirred: bool,
}

impl Streaming {
    async fn run(mut self, reader: Reader) {
        self.app.telemetry.shared().connection_opened();
        let note = |what| Note::of(what).channel(self.channel.id);
        let (opened, closed) = (note(Happening::StreamOpened), note(Happening::StreamClosed));
        read::note(&self.app, &reader, opened);
        let ended = match self.channel.kind {
            ChannelKind::Log => self.log(&reader).await,
            ChannelKind::Ephemeral => self.ephemeral(&reader).await,
            ChannelKind::Metrics => self.metrics(&reader).await,
        };
        let Err(ending) = ended;
        read::note(&self.app, &reader, closed);
        let code = self.farewell(ending).await;
        let (reason, initiator) = match ending {
            Ending::Gone if self.stalled.is_set() => (DisconnectReason::SlowConsumer, Initiator::Server),
            Ending::Gone => (DisconnectReason::ClientClose, Initiator::Client),
            Ending::Kicked(CloseCode::Revoked) => (DisconnectReason::Revoked, Initiator::Server),
            Ending::Kicked(_) => (DisconnectReason::ServerClose, Initiator::Server),
            Ending::Drained(_) => (DisconnectReason::Drain, Initiator::Server),
            Ending::Expired => (DisconnectReason::AuthExpired, Initiator::Server),
            Ending::Unreadable => (DisconnectReason::Overloaded, Initiator::Server),
        };
        let lasted_ns = clock::now().since_ns(self.began_ns);
        let closed = Closed { code, reason, initiator, lasted_ns };
        self.app.telemetry.shared().connection_closed(&closed);
    }

    /// Tells the reader whether and when to come back. Returns the code that is counted.
    async fn farewell(&self, ending: Ending) -> u16 {
        let between = |min: u64, max: u64| min + self.app.readers.random(max.saturating_sub(min) + 1);
        let (code, retry_ms) = match ending {
            Ending::Gone if self.stalled.is_set() => return CloseCode::SlowConsumer.code(),
            // The code for an end without a code, as on a WebSocket that just ended.
            Ending::Gone => return 1006,
            Ending::Drained(drain) => {
                let turn = Duration::from_millis(self.app.readers.random(drain.within_ms + 1));
                tokio::select! {
                    () = tokio::time::sleep(turn) => {}
                    () = self.out.closed() => return 1006,
                }
                (CloseCode::ServiceRestart, between(drain.retry_min_ms, drain.retry_max_ms))
            }
            Ending::Kicked(code) => (code, between(RETRY_MS_MIN, RETRY_MS_MAX)),
            Ending::Expired => (CloseCode::TokenExpired, between(RETRY_MS_MIN, RETRY_MS_MAX)),
            Ending::Unreadable => (CloseCode::TryAgainLater, between(RETRY_MS_MIN, RETRY_MS_MAX)),
        };
        let mut chunk = Vec::new();
        if code.reconnect() == pulsewire_protocol::Reconnect::Yes {
            let retry_ms = u32::try_from(retry_ms).unwrap_or(u32::MAX);
            chunk.extend_from_slice(format!("retry: {retry_ms}\n").as_bytes());
            message(&mut chunk, &Answer::Reconnect { retry_ms, code });
        } else {
            let data = format!(r#"{{"type":"close","code":{},"reason":"{}"}}"#, code.code(), code.name());
            block(&mut chunk, "close", None, data.as_bytes());
        }
        // A reader that takes nothing is given up by its socket.
        let _ = self.out.send(chunk.into()).await;
        code.code()
    }

    /// Whatever happens from now on ends the next wait. To be called before reading.
    fn look(&mut self) {
        self.stirred = false;
        self.seat.look();
    }

    /// Hands a chunk over, once the last one has been taken.
    async fn send(&mut self, chunk: Vec<u8>) -> Result<(), Ending> {
        loop {
            tokio::select! {
                biased;
                place = self.out.reserve() => {
                    place.map_err(|_| Ending::Gone)?.send(chunk.into());
                    return Ok(());
                }
                woken = self.seat.woken() => match woken {
                    // It will look when it has sent this.
                    Woken::Moved => self.stirred = true,
                    Woken::Kicked(code) => return Err(Ending::Kicked(code)),
                    Woken::Drained(drain) => return Err(Ending::Drained(drain)),
                },
                () = at(ends(self.expires_at_ms)) => return Err(Ending::Expired),
            }
        }
    }

    /// Waits until there may be something to tell, counted from the last [`Streaming::look`].
    async fn wait(&mut self) -> Result<Next, Ending> {
        if self.stirred {
            return Ok(Next::Moved);
        }
        tokio::select! {
            biased;
            () = self.out.closed() => Err(Ending::Gone),
            () = at(ends(self.expires_at_ms)) => Err(Ending::Expired),
            woken = self.seat.woken() => match woken {
                Woken::Moved => Ok(Next::Moved),
                Woken::Kicked(code) => Err(Ending::Kicked(code)),
                Woken::Drained(drain) => Err(Ending::Drained(drain)),
            },
            () = tokio::time::sleep(self.heartbeat) => Ok(Next::Quiet),
        }
    }

    /// The first block: when to come back, and where the stream begins.
    fn opening(&self, position: Option<&Position>) -> Vec<u8> {
        let retry_ms = read::pause(&self.app).as_millis();
        let mut chunk = format!("retry: {retry_ms}\n").into_bytes();
        let name = &self.channel.name;
        let positions: Vec<_> =
            position.map(|position| (name.clone(), position.clone())).into_iter().collect();
        let answer = Answer::Subscribed { channels: std::slice::from_ref(name), positions: &positions };
        let frame = answer.encode(None, Encoding::Json);
        block(&mut chunk, answer.name(), position, frame.payload());
        chunk
    }

    /// A `log` channel: pages behind the cursor, as soon as there is something behind it.
    async fn log(&mut self, reader: &Reader) -> Result<Infallible, Ending> {
        let start = reader.asked.after.clone().unwrap_or(Start::Now);
        let (mut cursor, reset) = Cursor::begin(self.channel.clone(), &start, reader.asked.filter.clone());
        let mut chunk = self.opening(Some(&cursor.position()));
        if reset {
            self.reset(&mut chunk, &cursor);
        }
        self.send(chunk).await?;
        let mut failures = 0_u32;
        loop {
            self.look();
            if cursor.follow() {
                self.channel = cursor.channel.clone();
                self.seat.follow(&cursor.channel);
                let mut chunk = Vec::new();
                self.reset(&mut chunk, &cursor);
                self.send(chunk).await?;
                continue;
            }
            let limit = ReadLimit { publications: CHUNK_EVENTS, bytes: self.chunk_bytes };
            match cursor.step(&self.app, limit).await {
                Ok(step) => {
                    failures = 0;
                    if !step.is_empty() {
                        let chunk = self.told(&cursor, &step);
                        self.send(chunk).await?;
                    }
                    if step.has_more() {
                        continue;
                    }
                }
                // It stays where it is, and looks again when something moves or after a heartbeat.
                Err(_) if failures < 3 => failures += 1,
                Err(_) => return Err(Ending::Unreadable),
            }
            if let Next::Quiet = self.wait().await? {
                let mut chunk = b": \n".to_vec();
                if cursor.after != cursor.told {
                    // Its filter has skipped events: the position moves, so that it stays within what is kept.
                    cursor.told = cursor.after;
                    chunk.extend_from_slice(format!("id: {}\n", cursor.position()).as_bytes());
                }
                chunk.push(b'\n');
                self.send(chunk).await?;
            }
        }
    }

    fn reset(&self, chunk: &mut Vec<u8>, cursor: &Cursor) {
        let Cursor { channel, after, .. } = cursor;
        let answer = Answer::Reset { channel: &channel.name, epoch: &channel.epoch, sequence: *after };
        let frame = answer.encode(None, Encoding::Json);
        self.count(MessageType::Reset.into(), &frame);
        block(chunk, answer.name(), Some(&cursor.position()), frame.payload());
    }

    /// A step as blocks.
    fn told(&self, cursor: &Cursor, step: &reading::Step) -> Vec<u8> {
        let channel = &cursor.channel;
        let at = |sequence: Sequence| Position { epoch: channel.epoch.clone(), sequence };
        let mut chunk = Vec::new();
        if let Some(gap) = step.gap {
            let answer =
                Answer::Gap { channel: &channel.name, from: gap.from, to: gap.to, reason: gap.reason };
            let frame = answer.encode(None, Encoding::Json);
            self.count(MessageType::Gap.into(), &frame);
            block(&mut chunk, answer.name(), Some(&at(gap.to)), frame.payload());
        }
        for told in &step.events {
            let frame = told.frame();
            self.count(told.publication.event_type.into(), &frame);
            block(&mut chunk, "event", Some(&at(told.publication.sequence)), frame.payload());
        }
        chunk
    }

    /// An ephemeral channel: what comes, and how much did not fit.
    async fn ephemeral(&mut self, reader: &Reader) -> Result<Infallible, Ending> {
        let mut seen = self.seat.tail_count();
        let opening = self.opening(None);
        self.send(opening).await?;
        loop {
            self.look();
            let mut chunk = Vec::new();
            while chunk.len() < self.chunk_bytes
                && let Some((publication, missed)) = self.seat.tail_next(seen)
            {
                seen += missed + 1;
                if missed > 0 {
                    let shared = self.app.telemetry.shared();
                    shared.slow(SlowAction::Drop);
                    shared.dropped(DropCause::QueueFull, missed);
                    shared.message_failed(missed);
                    message(&mut chunk, &Answer::Dropped { channel: &self.channel.name, count: missed });
                }
                if reader.asked.filter.passes(&publication) {
                    let frame = publication.frame(reading::JSON);
                    self.count(publication.event_type.into(), frame);
                    block(&mut chunk, "event", None, frame.payload());
                }
            }
            self.send_or_wait(chunk).await?;
        }
    }

    /// A metric channel: the newest values, and how many were merged into them.
    async fn metrics(&mut self, reader: &Reader) -> Result<Infallible, Ending> {
        let _wanting = reader.asked.interval.map(|interval| Wanting::new(&self.channel, interval));
        let mut seen = self.seat.tail_count();
        let mut shown = 0;
        let mut chunk = self.opening(None);
        self.newest_values(&mut chunk, reader, &mut shown);
        self.send(chunk).await?;
        loop {
            self.look();
            let mut chunk = Vec::new();
            let (mut next, mut merged) = (None, 0);
            while let Some((publication, missed)) = self.seat.tail_next(seen) {
                seen += missed + 1;
                merged += missed;
                let Published::Metrics(set) = &publication.body else { continue };
                if set.interval == reader.asked.interval && set.number > shown {
                    merged += u64::from(next.replace(publication).is_some());
                }
            }
            if merged > 0 {
                self.app.telemetry.shared().conflated(merged);
                message(&mut chunk, &Answer::Dropped { channel: &self.channel.name, count: merged });
                self.newest_values(&mut chunk, reader, &mut shown);
            } else if let Some(next) = next {
                self.values(&mut chunk, reader, &next, &mut shown);
            }
            self.send_or_wait(chunk).await?;
        }
    }

    /// Sends what there is; when there is nothing, waits, and says so after a while.
    async fn send_or_wait(&mut self, chunk: Vec<u8>) -> Result<(), Ending> {
        if !chunk.is_empty() {
            return self.send(chunk).await;
        }
        match self.wait().await? {
            Next::Moved => Ok(()),
            Next::Quiet => self.send(b": \n\n".to_vec()).await,
        }
    }

    /// The newest value of every series.
    fn newest_values(&self, chunk: &mut Vec<u8>, reader: &Reader, shown: &mut u64) {
        if let Some(newest) = self.app.bus.newest(&self.channel, reader.asked.interval) {
            self.values(chunk, reader, &newest, shown);
        }
    }

    /// Values that are newer than those shown before: what a stream began with may have been on its way to it.
    fn values(&self, chunk: &mut Vec<u8>, reader: &Reader, publication: &Publication, shown: &mut u64) {
        let Published::Metrics(set) = &publication.body else { return };
        if set.number <= *shown {
            return;
        }
        *shown = set.number;
        let passing = &reader.asked.filter.passing;
        let plain = passing.is_empty() && reader.asked.interval.is_none();
        let shape = reader.asked.shape.unwrap_or(if plain { Shape::Grouped } else { Shape::Points });
        let mut points = set.points.clone();
        points.retain(|point| passing.passes(&point.series.name, &point.series.tags));
        if points.is_empty() {
            return;
        }
        let set = MetricSet { channel: set.channel.clone(), points, ..*set };
        let frames = match shape {
            Shape::Grouped => encode_grouped(&set, Encoding::Json),
            Shape::Points => encode_points(&set, Encoding::Json),
        };
        for frame in &frames {
            self.count(MessageType::Metric.into(), frame);
            block(chunk, "metric", None, frame.payload());
        }
    }

    fn count(&self, sent: Sent, frame: &Frame) {
        self.seat.sent.message(frame.payload().len());
        self.app.telemetry.shared().message_sent(sent, 1, frame.payload().len() as u64);
    }
}

/// Has a metric channel rolled up at an interval for as long as it lives.
struct Wanting(Arc<Channel>, Interval);

impl Wanting {
    fn new(channel: &Arc<Channel>, interval: Interval) -> Self {
        channel.want(interval);
        Self(channel.clone(), interval)
    }
}

impl Drop for Wanting {
    fn drop(&mut self) {
        self.0.unwant(self.1);
    }
}

async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// Appends a message of the protocol.
fn message(out: &mut Vec<u8>, answer: &Answer<'_>) {
    block(out, answer.name(), None, answer.encode(None, Encoding::Json).payload());
}

/// Appends one block of a stream. A publisher's JSON may hold line ends between its parts, which would end the
/// block: each line is sent as its own, and the client joins them again.
fn block(out: &mut Vec<u8>, event: &str, id: Option<&Position>, data: &[u8]) {
    if let Some(id) = id {
        out.extend_from_slice(format!("id: {id}\n").as_bytes());
    }
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(event.as_bytes());
    out.push(b'\n');
    for line in data.split(|byte| matches!(byte, b'\n' | b'\r')) {
        out.extend_from_slice(b"data: ");
        out.extend_from_slice(line);
        out.push(b'\n');
    }
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_with_line_ends_stays_one_block() {
        let mut out = Vec::new();
        let id = Position::parse("e1:7").expect("a position");
        block(&mut out, "event", Some(&id), b"{\"a\":\r\n\n1}");
        let expected = "id: e1:7\nevent: event\ndata: {\"a\":\ndata: \ndata: \ndata: 1}\n\n";
        assert_eq!(String::from_utf8_lossy(&out), expected);
    }
}
