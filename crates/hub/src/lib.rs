//! The hub decides who is told: sessions, subscriptions, limits, outboxes and fan-out.
//!
//! Its heart is [`Shard`], the deciding core of one thread: commands, decoded messages, readiness and
//! time come in; calls on [`Net`] and requests to the [`Backend`] go out. It opens no socket, reads no
//! clock and holds no lock, so the same code runs under epoll and in a seeded simulation of a hostile
//! network (`tests/it`).

mod admission;
mod agent;
mod command;
mod handle;
mod inbox;
mod ledger;
mod moved;
mod net;
mod presence;
pub mod principal;
mod settings;
mod shard;
pub mod watch;

pub use admission::{Admission, Refused};
pub use agent::client_version;
pub use command::{
    After, Arrival, Authenticated, Backend, BackendRequest, Carried, Command, ConnectWish, ConnectionInfo,
    Drain, EventAnswer, HistoryPage, HistoryWish, Order, Reply, Reported, Resume, SeriesAnswer, Target, Wish,
    WishedChannel, Work,
};
pub use handle::Hub;
pub use inbox::Inbox;
pub use ledger::{Closed, FAILED_MAX, Failed, FailedStage, Ledger};
pub use moved::{Fetched, Moved};
pub use net::{ConnKey, Net, TcpSample, Write};
pub use presence::replica::{Malformed, ReplicaOptions, ReplicaStatus, RulesOf, Said, Unheard};
pub use presence::{Notice, Presence, PresenceSnapshot};
pub use principal::{Action, Actions, Grant, NamedBy, Principal, Role, Shown};
pub use pulsewire_bus::{Now, Publication};
pub use settings::{HubSettings, Limits, RateDirection, Ticket, Tickets};
pub use shard::{Shard, ShardOptions, Violated};
