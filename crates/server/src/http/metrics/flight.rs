//! A value that is made at most once within a time, however many ask for it.

use std::future::Future;

use tokio::sync::Mutex;

/// The last value and when it was made, on the monotonic clock.
#[derive(Debug)]
pub(super) struct Flight<T> {
    last: Mutex<Option<(u64, T)>>,
    age_max_ns: u64,
}

impl<T: Clone> Flight<T> {
    /// A value that is used for `age_max_ms` after it was made.
    pub(super) fn new(age_max_ms: u64) -> Self {
        Self { last: Mutex::new(None), age_max_ns: age_max_ms * 1_000_000 }
    }

    /// The last value if it is young enough; else a new one, which everybody who asks meanwhile gets too.
    ///
    /// `make` is given the last value. `clock` is monotonic, in nanoseconds.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the making to the next who asks.
    pub(super) async fn get<F: Future<Output = T>>(
        &self,
        clock: impl Fn() -> u64,
        make: impl FnOnce(Option<T>) -> F,
    ) -> T {
        let mut last = self.last.lock().await;
        if let Some((made_ns, value)) = last.as_ref()
            && clock().saturating_sub(*made_ns) < self.age_max_ns
        {
            return value.clone();
        }
        let value = make(last.as_ref().map(|(_, value)| value.clone())).await;
        *last = Some((clock(), value.clone()));
        value
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    /// Row X7, at the level of one value.
    #[tokio::test]
    async fn a_hundred_who_ask_at_once_get_one_value_and_the_next_comes_when_it_is_old() {
        let flight = Arc::new(Flight::new(1_000));
        let (made, now) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let ask = || {
            let (flight, made, now) = (flight.clone(), made.clone(), now.clone());
            tokio::spawn(async move {
                let make = |_| async {
                    tokio::task::yield_now().await;
                    made.fetch_add(1, Ordering::Relaxed) + 1
                };
                flight.get(|| now.load(Ordering::Relaxed), make).await
            })
        };
        for (at_ms, expected) in [(0, 1), (999, 1), (1_000, 2), (1_500, 2), (5_000, 3)] {
            now.store(at_ms * 1_000_000, Ordering::Relaxed);
            let asked: Vec<_> = (0..100).map(|_| ask()).collect();
            for answer in asked {
                assert_eq!(answer.await.unwrap(), expected);
            }
        }
    }

    #[tokio::test]
    async fn who_makes_the_next_value_sees_the_last() {
        let flight = Flight::new(0);
        assert_eq!(flight.get(|| 0, async |last| last.unwrap_or(7)).await, 7);
        assert_eq!(flight.get(|| 0, async |last| last.unwrap_or(0) + 1).await, 8);
    }
}
