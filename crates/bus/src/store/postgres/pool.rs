//! The connections of one store: one that writes, and some that read.
//!
//! Nothing is connected before it is needed, and a connection that failed is dropped with everything on it.

use parking_lot::Mutex;

use super::link::{Link, Links};
use crate::store::{Failure, Outcome, StoreError};

/// Connections to one database.
pub(in crate::store) struct Pool {
    links: Links,
    /// So many that read are kept open.
    readers: usize,
    writer: Mutex<Option<Link>>,
    idle: Mutex<Vec<Link>>,
}

impl Pool {
    /// A pool without connections.
    pub(in crate::store) fn new(url: &str, synchronous: bool, readers: usize) -> Result<Self, StoreError> {
        let links = Links::new(url, synchronous)?;
        Ok(Self { links, readers, writer: Mutex::default(), idle: Mutex::default() })
    }

    /// Runs something on the writing connection, which is dropped if that fails in a way it may not survive.
    pub(in crate::store) fn writing<T>(
        &self,
        write: impl FnOnce(&mut Link) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut writer = self.writer.lock();
        let mut link = match writer.take().filter(Link::is_open) {
            Some(link) => link,
            None => self.links.connect()?,
        };
        let result = write(&mut link);
        if result.as_ref().err().is_none_or(survived) {
            *writer = Some(link);
        }
        result
    }

    /// Lends a connection that reads.
    pub(in crate::store) fn reading<T>(
        &self,
        read: impl FnOnce(&mut Link) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let idle = self.idle.lock().pop().filter(Link::is_open);
        let mut link = match idle {
            Some(link) => link,
            None => self.links.connect()?,
        };
        let result = read(&mut link);
        let mut idle = self.idle.lock();
        if result.as_ref().err().is_none_or(survived) && idle.len() < self.readers {
            idle.push(link);
        }
        result
    }
}

/// Whether the connection may be used again: the database answered, and said that it did nothing.
fn survived(error: &StoreError) -> bool {
    error.outcome == Outcome::NotKept && error.failure == Failure::Busy
}
