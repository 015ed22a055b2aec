//! A look at what one connection is sent and says, from the shard that has it to whoever watches.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pulsewire_hub::Order;
use pulsewire_hub::watch::tap::{TapEvent, TapSink};
use pulsewire_protocol::{ErrorCode, SessionId};
use tokio::sync::mpsc;

use crate::app::App;
use crate::http::problem::Problem;

/// Messages that may wait for whoever watches; what does not fit is counted as skipped.
const WAITING_MAX: usize = 256;

/// Numbers of taps, so that each can be closed.
static TAPS: AtomicU64 = AtomicU64::new(0);

/// An open tap; dropping it closes it.
pub struct Tapping {
    app: Arc<App>,
    shard: usize,
    number: u64,
    events: mpsc::Receiver<TapEvent>,
}

impl Tapping {
    /// What is told next; `None` when the session has ended.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<TapEvent> {
        self.events.recv().await.filter(|event| *event != TapEvent::Ended)
    }
}

impl Drop for Tapping {
    fn drop(&mut self) {
        self.app.hub.order(self.shard, Order::Untap(self.number));
    }
}

impl App {
    /// Opens a tap on a session. What is told belongs to its users: ask who may see it before.
    ///
    /// # Errors
    ///
    /// `not_found` if the session is not here, or too many taps are open on its shard; `overloaded` if the shard does
    /// not answer.
    pub async fn tap(self: &Arc<Self>, session: SessionId) -> Result<Tapping, Problem> {
        let unknown = || Problem::new(ErrorCode::NotFound, "no such session, or too many are tapped already");
        let shard = usize::from(session.shard());
        if shard >= self.hub.shards() {
            return Err(unknown());
        }
        let number = TAPS.fetch_add(1, Ordering::Relaxed);
        let (sender, events) = mpsc::channel(WAITING_MAX);
        // Made first: if the shard opens the tap too late for us, it is closed all the same.
        let tapping = Tapping { app: self.clone(), shard, number, events };
        let sink = sink(sender);
        let open = self.ask(shard, |reply| Order::Tap { number, session, sink, reply }).await?;
        if open { Ok(tapping) } else { Err(unknown()) }
    }
}

/// Hands on what there is room for, and counts the rest.
fn sink(sender: mpsc::Sender<TapEvent>) -> TapSink {
    let mut skipped = 0;
    Box::new(move |event| {
        if skipped > 0 && sender.try_send(TapEvent::Skipped(skipped)).is_ok() {
            skipped = 0;
        }
        match sender.try_send(event) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Full(event)) => {
                skipped += match event {
                    TapEvent::Skipped(more) => more,
                    TapEvent::Message(_) => 1,
                    TapEvent::Ended => 0,
                };
                true
            }
            Err(mpsc::error::TrySendError::Closed(_)) => false,
        }
    })
}
