//! A simulation of shards in a hostile network, in virtual time, from one seed.
//!
//! The shard's core runs unchanged; around it stand a network that takes what it likes ([`net`]), a
//! backend that answers when it likes ([`backend`]), clients that believe nothing ([`client`]) and the
//! record of what really happened ([`truth`]). [`chaos`] lets everything happen at random; scenarios
//! drive the same [`world`] by hand.

pub mod backend;
pub mod chaos;
pub mod client;
pub mod events;
pub mod net;
pub mod node;
pub mod rng;
pub mod truth;
pub mod words;
pub mod world;
