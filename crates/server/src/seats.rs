//! Places for HTTP connections, as many as there are descriptors for them.
//!
//! A connection that waits for a request to begin holds its place only until somebody else needs it: when
//! all are taken, the one that has waited longest gives way. So idle clients, however many, cannot keep a
//! scraper out. When every place is busy with a request, a new connection waits a moment and is then refused.
//!
//! A handshake becomes a WebSocket connection, which has a descriptor of its own share. So while there are fewer
//! of those than there may be, their descriptors are places too: ten thousand clients that come at once meet
//! the bound of connections and no other.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

/// How long a connection may take to begin a request when places are short. A head takes one round trip; a
/// connection that was made to ask for something has it on its way.
const SHORT: Duration = Duration::from_millis(250);
/// How long a new connection waits for a place.
const PATIENCE: Duration = Duration::from_millis(500);

/// The places of one listening socket.
#[derive(Debug)]
pub struct Seats {
    max: AtomicUsize,
    taken: Mutex<Vec<Arc<Place>>>,
    freed: Notify,
    began: Instant,
}

/// What is known of a connection that has a place.
#[derive(Debug)]
struct Place {
    /// Since when it waits for a request, in nanoseconds since the seats were made; 0 while it is busy.
    waits_ns: AtomicU64,
    cut: Notify,
}

/// A place, given back when it is dropped.
#[derive(Debug)]
pub struct Seat {
    seats: Arc<Seats>,
    place: Arc<Place>,
}

impl Seats {
    /// So many places, none taken.
    #[must_use]
    pub fn new(max: usize) -> Arc<Self> {
        let max = AtomicUsize::new(max);
        Arc::new(Self { max, taken: Mutex::default(), freed: Notify::new(), began: Instant::now() })
    }

    /// Changes how many places there are; who sits stays.
    pub fn resize(&self, max: usize) {
        self.max.store(max, Relaxed);
    }

    /// How many places are taken.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.taken.lock().len()
    }

    /// A place, at once or within half a second; `None` if every one stays busy with a request. `spare` says how
    /// many descriptors of other shares nobody needs now.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future takes no place.
    pub async fn take(self: &Arc<Self>, spare: impl Fn() -> usize) -> Option<Seat> {
        let give_up = Instant::now() + PATIENCE;
        loop {
            // Made before looking, so that a place given back in between is not missed.
            let freed = self.freed.notified();
            if let Some(seat) = self.try_take(spare()) {
                return Some(seat);
            }
            let now = Instant::now();
            if now >= give_up {
                return None;
            }
            let wait = self.make_way().unwrap_or(PATIENCE).min(give_up - now);
            // Whether a place was given back or somebody has waited long enough, the next round shows.
            let _ = tokio::time::timeout(wait, freed).await;
        }
    }

    fn try_take(self: &Arc<Self>, spare: usize) -> Option<Seat> {
        let mut taken = self.taken.lock();
        if taken.len() >= self.max.load(Relaxed) + spare {
            return None;
        }
        let place = Arc::new(Place { waits_ns: AtomicU64::new(self.now_ns()), cut: Notify::new() });
        taken.push(place.clone());
        Some(Seat { seats: self.clone(), place })
    }

    /// Asks the connection that has waited longest to go, if that is long enough; else says how much longer
    /// it may stay. `None` if all are busy.
    fn make_way(&self) -> Option<Duration> {
        let taken = self.taken.lock();
        let waiting = taken.iter().filter(|place| place.waits_ns.load(Relaxed) > 0);
        let longest = waiting.min_by_key(|place| place.waits_ns.load(Relaxed))?;
        let since_ns = longest.waits_ns.load(Relaxed);
        let waited = Duration::from_nanos(self.now_ns().saturating_sub(since_ns));
        if waited >= SHORT {
            longest.cut.notify_one();
            return None;
        }
        Some(SHORT - waited)
    }

    fn now_ns(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX).max(1)
    }
}

impl Seat {
    /// A request has begun.
    pub fn busy(&self) {
        self.place.waits_ns.store(0, Relaxed);
    }

    /// A request was answered.
    pub fn waits(&self) {
        self.place.waits_ns.store(self.seats.now_ns(), Relaxed);
    }

    /// Returns when somebody else needs the place more, unless a request has begun meanwhile.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub async fn cut(&self) {
        loop {
            self.place.cut.notified().await;
            if self.place.waits_ns.load(Relaxed) > 0 {
                return;
            }
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.taken.lock();
        if let Some(at) = taken.iter().position(|place| Arc::ptr_eq(place, &self.place)) {
            taken.swap_remove(at);
        }
        drop(taken);
        self.seats.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_waits_longest_gives_way_and_who_is_busy_does_not() {
        let seats = Seats::new(2);
        let first = seats.take(|| 0).await.unwrap();
        let second = seats.take(|| 0).await.unwrap();
        second.busy();
        let leaving = tokio::spawn(async move {
            first.cut().await;
            drop(first);
        });
        let third = seats.take(|| 0).await.expect("the first makes way");
        leaving.await.unwrap();
        third.busy();
        assert!(seats.take(|| 0).await.is_none(), "both are busy");
        second.waits();
        drop(second);
        assert!(seats.take(|| 0).await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_given_back_is_taken_at_once() {
        let seats = Seats::new(1);
        let only = seats.take(|| 0).await.unwrap();
        only.busy();
        let (seat, ()) = tokio::join!(seats.take(|| 0), async { drop(only) });
        assert!(seat.is_some());
        seats.resize(0);
        drop(seat);
        assert!(seats.take(|| 0).await.is_none());
        assert_eq!(seats.taken(), 0);
        assert!(seats.take(|| 1).await.is_some(), "a descriptor that nobody needs is a place");
    }
}
