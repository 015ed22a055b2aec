//! How many connections there are, in all, for each address and for each user.
//!
//! One table for the process, touched when connections come and go and never on the data path.
//! Counting happens before anything is spent on a connection.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

/// Which bound a connection would have crossed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// All connections of the node.
    Node,
    /// Connections from one address.
    Address,
    /// Connections of one user.
    User,
}

/// The counts and their bounds. A bound of 0 means none.
#[derive(Debug, Default)]
pub struct Admission {
    node_max: AtomicUsize,
    address_max: AtomicUsize,
    user_max: AtomicUsize,
    node: AtomicUsize,
    addresses: Mutex<HashMap<IpAddr, usize>>,
    users: Mutex<HashMap<Box<str>, usize>>,
}

impl Admission {
    /// An empty table.
    #[must_use]
    pub fn new(node_max: usize, address_max: usize, user_max: usize) -> Self {
        let admission = Self::default();
        admission.set_bounds(node_max, address_max, user_max);
        admission
    }

    /// Replaces the bounds; connections that exist stay.
    pub fn set_bounds(&self, node_max: usize, address_max: usize, user_max: usize) {
        self.node_max.store(node_max, Ordering::Relaxed);
        self.address_max.store(address_max, Ordering::Relaxed);
        self.user_max.store(user_max, Ordering::Relaxed);
    }

    /// Counts a connection that is about to be upgraded.
    ///
    /// # Errors
    ///
    /// The bound it would cross; nothing is counted then.
    pub fn connect(&self, address: IpAddr) -> Result<(), Refused> {
        let within = |count: usize, max: usize| max == 0 || count < max;
        let node_max = self.node_max.load(Ordering::Relaxed);
        self.node
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| {
                within(count, node_max).then_some(count + 1)
            })
            .map_err(|_| Refused::Node)?;
        let mut addresses = self.addresses.lock();
        let count = addresses.entry(address).or_default();
        if within(*count, self.address_max.load(Ordering::Relaxed)) {
            *count += 1;
            return Ok(());
        }
        self.node.fetch_sub(1, Ordering::Relaxed);
        Err(Refused::Address)
    }

    /// Forgets a connection that `connect` counted.
    pub fn disconnect(&self, address: IpAddr) {
        self.node.fetch_sub(1, Ordering::Relaxed);
        let mut addresses = self.addresses.lock();
        if let Some(count) = addresses.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                addresses.remove(&address);
            }
        }
    }

    /// Counts a connection of a user. The anonymous (an empty name) are not counted.
    ///
    /// # Errors
    ///
    /// [`Refused::User`]; nothing is counted then.
    pub fn enter(&self, user: &str) -> Result<(), Refused> {
        if user.is_empty() {
            return Ok(());
        }
        let max = self.user_max.load(Ordering::Relaxed);
        let mut users = self.users.lock();
        match users.get_mut(user) {
            Some(count) if max > 0 && *count >= max => Err(Refused::User),
            Some(count) => {
                *count += 1;
                Ok(())
            }
            None => {
                users.insert(user.into(), 1);
                Ok(())
            }
        }
    }

    /// Forgets a connection that `enter` counted.
    pub fn leave(&self, user: &str) {
        let mut users = self.users.lock();
        if let Some(count) = users.get_mut(user) {
            *count -= 1;
            if *count == 0 {
                users.remove(user);
            }
        }
    }

    /// How many connections are counted.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.node.load(Ordering::Relaxed)
    }

    /// How many different addresses and users are counted.
    #[must_use]
    pub fn tables(&self) -> (usize, usize) {
        (self.addresses.lock().len(), self.users.lock().len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_and_went_leaves_nothing_behind() {
        let admission = Admission::new(3, 2, 1);
        let [a, b] = [IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2])];
        assert_eq!(admission.connect(a), Ok(()));
        assert_eq!(admission.connect(a), Ok(()));
        assert_eq!(admission.connect(a), Err(Refused::Address));
        assert_eq!(admission.connect(b), Ok(()));
        assert_eq!(admission.connect(b), Err(Refused::Node));
        assert_eq!(admission.enter("ada"), Ok(()));
        assert_eq!(admission.enter("ada"), Err(Refused::User));
        admission.leave("ada");
        for address in [a, a, b] {
            admission.disconnect(address);
        }
        assert_eq!((admission.connections(), admission.tables()), (0, (0, 0)));
    }
}
