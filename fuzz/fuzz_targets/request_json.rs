//! A JSON message from a client: no panic, and what is accepted is accepted as MessagePack too.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pulsewire_protocol::transcode::{json_to_msgpack, msgpack_to_json};
use pulsewire_protocol::{parse, request_from_msgpack};

fuzz_target!(|json: &[u8]| {
    let Ok(request) = parse(json) else { return };
    let packed = json_to_msgpack(json).expect("accepted JSON packs");
    let mut scratch = Vec::new();
    // A number without finite value in a payload, or one that grows too much, has no way back.
    if msgpack_to_json(&packed, &mut scratch).is_ok() {
        let again =
            request_from_msgpack(&packed, &mut scratch).expect("accepted JSON is accepted as MessagePack");
        assert_eq!(std::mem::discriminant(&request.kind), std::mem::discriminant(&again.kind));
    }
});
