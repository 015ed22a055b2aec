//! A socket whose peer must keep reading.
//!
//! HTTP answers are written as fast as the peer takes them, and nothing above the socket notices one that
//! takes nothing: its answer, its connection and its place among the readers would be held for ever. Here a
//! write that could not move a byte for `limits.slow_after` fails and the connection ends with a reset, so
//! that the kernel keeps nothing for it either (rows L4 and L7).

use std::future::Future as _;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pulsewire_telemetry::{SlowAction, Telemetry};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use crate::stream::Stream;

/// Whether a connection was given up because its peer read nothing. Shared with what answers on it.
#[derive(Debug, Clone, Default)]
pub struct Stalled(Arc<AtomicBool>);

impl Stalled {
    /// Whether it was given up.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A socket that gives up a peer that reads nothing.
pub struct Patient {
    stream: Stream,
    patience: Duration,
    /// Runs while a write waits.
    waiting: Option<Pin<Box<Sleep>>>,
    stalled: Stalled,
    telemetry: Arc<Telemetry>,
}

impl Patient {
    /// A socket whose writes may wait for so long; `stalled` becomes set when the peer is given up.
    #[must_use]
    pub fn new(stream: Stream, patience: Duration, stalled: Stalled, telemetry: Arc<Telemetry>) -> Self {
        Self { stream, patience, waiting: None, stalled, telemetry }
    }

    /// The connection.
    #[must_use]
    pub fn into_inner(self) -> Stream {
        self.stream
    }

    /// What a write has come to: nothing moved for too long is an error.
    fn progress<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.waiting = None;
            return written;
        }
        let patience = self.patience;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(sleep(patience)));
        ready!(waiting.as_mut().poll(cx));
        self.waiting = None;
        if !self.stalled.0.swap(true, Ordering::Relaxed) {
            self.telemetry.shared().slow(SlowAction::Close);
        }
        // Without lingering the kernel drops what the peer did not take, and says so with a reset.
        let _ = socket2::SockRef::from(self.stream.tcp()).set_linger(Some(Duration::ZERO));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Patient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Patient {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.progress(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.progress(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.progress(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.progress(cx, shut)
    }
}
