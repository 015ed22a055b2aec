//! Who is connecting, and what they may do.

pub mod api_key;
pub mod keys;
pub mod words;
