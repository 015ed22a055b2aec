//! A MessagePack message from a client: no panic, and no more memory than the bound says.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pulsewire_protocol::request_from_msgpack;
use pulsewire_protocol::transcode::output_bytes_max;

fuzz_target!(|msgpack: &[u8]| {
    let mut scratch = Vec::new();
    let _ = request_from_msgpack(msgpack, &mut scratch);
    assert!(scratch.capacity() <= output_bytes_max(msgpack.len()) + 64);
});
