//! Verifying keys by their id (`kid`): a JWK set from a file, and one from an address.
//!
//! An id is a key of a map and nothing else: no path, query or address is ever made of it, and the
//! address comes from the settings (threats S3 and S4). Each key has one algorithm, which its type
//! decides. What may be fetched when is decided in [`Schedule`] without I/O; [`Remote`] does it.

mod key;
mod remote;
mod schedule;

pub use key::{
    KEY_ID_LEN_BYTES_MAX, KeySet, SET_KEYS_MAX, SetError, Skipped, VerifyingKey, Voucher, is_key_id, read_set,
};
pub use remote::{Remote, RemoteError, RemoteOptions, Report, Source, keep_fresh};
pub use schedule::{FETCH_SPACING_MS, Failing, Schedule, Unknown};
