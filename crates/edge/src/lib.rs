//! Pulsewire's sockets: the WebSocket handshake and codec, and the shard loop that drives them.
//!
//! [`codec`], [`handshake`] and [`tls`] decide and do no I/O; [`Edge`] starts one thread for each shard, which
//! owns its sockets and lets a [`pulsewire_hub::Shard`] decide. `sys` holds the project's only unsafe code.

pub mod clock;
pub mod codec;
mod edge;
pub mod handshake;
mod shard_loop;
mod sockets;
pub mod sys;
pub mod tls;

pub use edge::{Edge, EdgeOptions, Prepared, fallen};
pub use sockets::{Carrier, SocketOptions};
