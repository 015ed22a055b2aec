//! Pulsewire's sockets: the WebSocket handshake and codec, and the shard loop that drives them.

pub mod codec;
pub mod handshake;
pub mod sys;
