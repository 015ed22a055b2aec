//! Both transcoders: no panic, and a round trip through JSON changes nothing any more once floats are 64 bits.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pulsewire_protocol::transcode::{json_to_msgpack, msgpack_to_json};

fuzz_target!(|input: &[u8]| {
    let mut json = Vec::new();
    if msgpack_to_json(input, &mut json).is_ok() {
        let packed = json_to_msgpack(&json).expect("our JSON packs");
        if msgpack_to_json(&packed, &mut json).is_ok() {
            assert_eq!(json_to_msgpack(&json).as_ref(), Ok(&packed));
        }
    }
    let _ = json_to_msgpack(input);
});
