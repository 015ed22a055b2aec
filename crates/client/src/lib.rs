//! A small Pulsewire client for Rust: subscribe, resume, publish.
//!
//! [`Client::start`] opens one connection and keeps it: it reconnects with jitter, resumes the session, asks for what
//! was missed from the position it reached, and hands every event on once and in order, or says which are missing.
//! Publishes wait in a bounded queue until the server has answered, and each is told how it ended. The command line's
//! `tail` and `publish` stand on it. What it does when is in `docs/clients.md`, the same for every client of Pulsewire;
//! what decides it is [`machine`], which performs nothing itself.
//!
//! ```no_run
//! # async fn example(raw: Box<serde_json::value::RawValue>) -> Result<(), Box<dyn std::error::Error>> {
//! use pulsewire_client::{Client, Delivery, Endpoint, NewEvent, Options, Start, TokenError, TokenProvider};
//!
//! let mut options = Options::new(Endpoint::parse("ws://127.0.0.1:8000")?);
//! // A fixed token would be `"eyJ…".to_owned().into()`; a callback is asked again before a token runs out.
//! options.token = TokenProvider::callback(|_reason| async {
//!     match std::env::var("PULSEWIRE_TOKEN") {
//!         Ok(token) => Ok(Some(token)),
//!         Err(_) => Err(TokenError::Unauthorized("PULSEWIRE_TOKEN is not set".to_owned())),
//!     }
//! });
//! options.channels.push(("run:42".to_owned(), Start::Last(10)));
//! let (client, mut deliveries) = Client::start(options);
//!
//! let publisher = client.clone();
//! tokio::spawn(async move {
//!     let event = NewEvent {
//!         channel: "run:42".to_owned(),
//!         event_type: "note".to_owned(),
//!         data: raw,
//!         id: None,
//!         key: None,
//!         tags: Default::default(),
//!         critical: None,
//!     };
//!     // Sent, or sent again, until the server has answered. `queue_full`, `expired` and the like are told by `code()`.
//!     match publisher.publish(event).await {
//!         Ok(ack) => println!("stored at {:?}", ack.sequence),
//!         Err(error) => eprintln!("{}: {error}", error.code()),
//!     }
//! });
//!
//! while let Some(delivery) = deliveries.next().await {
//!     match delivery {
//!         Delivery::Event(event) => println!("{} {}", event.event_type, event.data),
//!         Delivery::Gap { from, to, .. } => println!("{from} to {to} are gone"),
//!         Delivery::State { to, .. } => println!("{to}, {:?}", client.health().borrow().latency_p95),
//!         _ => {}
//!     }
//! }
//! # Ok(())
//! # }
//! ```

mod backoff;
mod client;
mod fallback;
pub mod handshake;
mod health;
mod history;
mod http;
pub mod http1;
pub mod link;
pub mod machine;
mod message;
mod metric;
mod outbox;
mod presence;
mod questions;
mod random;
mod reason;
mod session;
mod state;
mod stream;
mod token;
mod tracker;
mod trust;
mod url;
pub mod wire;

pub use backoff::Backoff;
pub use client::{Client, Deliveries, Delivery, Options, Timeouts};
pub use fallback::{Fallback, FallbackHost, Running};
pub use health::Health;
pub use history::{EventPage, HistoryError, Past, QUESTIONS_WAITING_MAX, Question, SeriesPage};
pub use http::{Answer, Http, RequestError};
pub use message::{Ack, Event, Narrow, NewEvent, ServerError};
pub use metric::{Content, Metric};
pub use outbox::{Overflow, PublishError, QueueOptions};
pub use presence::{Member, PresenceUpdate};
pub use pulsewire_protocol::{
    Attend, Epoch, Figures, Interval, MetricKind, Number, Position, Reading, Sequence, Shape,
};
pub use random::Random;
pub use reason::Reason;
pub use state::{Ending, State, Status, TokenReason};
pub use stream::{ConnectError, Stream};
pub use token::{TokenError, TokenProvider};
pub use tracker::Start;
pub use trust::{Trust, TrustError};
pub use url::{Endpoint, UrlError};
