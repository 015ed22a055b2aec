//! What other nodes say of presence, a body a line: no panic, whatever comes in whatever order, and no more is kept than
//! may be.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use pulsewire_hub::{Admission, Hub, Inbox, Ledger, Now, ReplicaOptions};
use pulsewire_protocol::ChannelName;
use serde_json::value::RawValue;

fuzz_target!(|lines: &[u8]| {
    let inboxes: Arc<[Inbox<()>]> = Arc::new([]);
    let hub = Hub::new(inboxes, Arc::new(Admission::new(0, 0, 0)), Arc::new(Ledger::new(1)), "here");
    let options = ReplicaOptions { entries_max: 8, nodes_max: 2, bodies_max: 4, ..ReplicaOptions::default() };
    hub.presence.replicate(options);
    let mut now = Now { mono_ns: 1, wall_ms: 1 };
    // They know of each other, so that what is said counts from the first line on.
    for from in ["one", "two"] {
        let digest = RawValue::from_string(r#"["digest",[1,1]]"#.into()).expect("JSON");
        hub.presence.hear(from, &digest, now).expect("there is room for two");
    }
    for line in lines.split(|byte| *byte == b'\n') {
        // The first byte says who speaks, and for how long nobody did before.
        let [first, body @ ..] = line else { continue };
        let from = ["one", "two", "three", "here"][usize::from(first & 3)];
        now = now.plus_ms(u64::from(first >> 2) * 100);
        let said = hub.presence.outgoing(now, first & 4 == 0);
        assert!(said.iter().filter(|said| said.body.get().starts_with(r#"["rows""#)).count() <= 4);
        if body == b"bye" {
            hub.presence.gone(from, now);
        } else if let Ok(body) = String::from_utf8(body.to_vec())
            && let Ok(body) = RawValue::from_string(body)
        {
            let before = hub.presence.replica();
            let heard = hub.presence.hear(from, &body, now);
            assert!(heard.is_ok() || hub.presence.replica() == before, "what is refused changes nothing");
        }
        let (channels, members) = hub.presence.count();
        let status = hub.presence.replica();
        assert!(channels <= members && members <= status.entries && status.entries <= 8 && status.nodes <= 2);
    }
    let channel = ChannelName::parse("run:1").expect("a name");
    assert_eq!(hub.presence.snapshot(&channel).members.len(), hub.presence.present(&channel));
});
