//! Load scenarios against a Pulsewire server, and the reports they end in.
//!
//! [`swarm`] holds thousands of clients on one thread, [`target`] starts what they talk to, [`fleet`] keeps the book,
//! [`listeners`] that of metric channels, [`scenario`] says what happens, and [`report`] sets each figure beside its budget. [`floor`] is the yardstick: the
//! same sends without a server around them. [`proxy`] is a network that misbehaves on purpose. [`mod@check`] judges the
//! logs of publishers and readers, from here or from anywhere.

pub mod check;
pub mod fleet;
pub mod floor;
pub mod history;
pub mod listeners;
pub mod post;
pub mod process;
pub mod proxy;
pub mod report;
pub mod scan;
pub mod scenario;
pub mod scrape;
pub mod swarm;
pub mod target;
