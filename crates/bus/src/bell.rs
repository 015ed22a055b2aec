//! How whoever has work wakes the thread that does it.

use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// Rung by many, waited for by a few. A ring that nobody waits for is kept for the next who does.
#[derive(Debug, Default)]
pub struct Bell {
    rung: Mutex<bool>,
    heard: Condvar,
}

impl Bell {
    /// Wakes one who waits, or the next who would.
    pub fn ring(&self) {
        *self.rung.lock() = true;
        self.heard.notify_one();
    }

    /// Waits until it is rung, at most for so long.
    pub fn wait(&self, at_most: Duration) {
        let mut rung = self.rung.lock();
        if !*rung {
            self.heard.wait_for(&mut rung, at_most);
        }
        *rung = false;
    }
}
