//! A small Pulsewire client for Rust: subscribe, resume, publish.
//!
//! [`Client::start`] opens one connection and keeps it: it reconnects with jitter, resumes the session, asks for what
//! was missed from the position it reached, and hands every event on once and in order, or says which are missing.
//! The command line's `tail` and `publish` and the load tool stand on it.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use pulsewire_client::{Client, Delivery, Endpoint, Options, Start};
//!
//! let mut options = Options::new(Endpoint::parse("ws://127.0.0.1:8000")?);
//! options.channels.push(("run:42".to_owned(), Start::Last(10)));
//! let (client, mut deliveries) = Client::start(options);
//! while let Some(delivery) = deliveries.next().await {
//!     if let Delivery::Event(event) = delivery {
//!         println!("{} {}", event.event_type, event.data);
//!     }
//! }
//! client.close().await;
//! # Ok(())
//! # }
//! ```

mod backoff;
mod client;
pub mod handshake;
mod history;
mod http;
pub mod http1;
mod link;
mod message;
mod metric;
mod presence;
mod questions;
mod random;
mod session;
mod state;
mod stream;
mod tracker;
mod trust;
mod url;
pub mod wire;

pub use backoff::Backoff;
pub use client::{Client, Deliveries, Delivery, Options, PUBLISHES_WAITING_MAX, PublishError, Timeouts};
pub use history::{EventPage, HistoryError, Past, QUESTIONS_WAITING_MAX, Question, SeriesPage};
pub use http::{Answer, Http, RequestError};
pub use message::{Ack, Event, Narrow, NewEvent, ServerError};
pub use metric::{Content, Metric};
pub use presence::{Member, PresenceUpdate};
pub use pulsewire_protocol::{
    Attend, Epoch, Figures, Interval, MetricKind, Number, Position, Reading, Sequence, Shape,
};
pub use random::Random;
pub use state::{Reason, State};
pub use tracker::Start;
pub use trust::{Trust, TrustError};
pub use url::{Endpoint, UrlError};
